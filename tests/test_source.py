"""Chapter Source: opening harmlessly, detection."""

import sqlite3

import pytest
import sqlite_to_databricks_uploader as up


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a b?#%.db"


def write(file, *statements):
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    return connection


def test_a_name_with_quotes_is_found_and_described(file):
    write(file, 'CREATE TABLE "a ""b\'`ü" (Time TEXT, x DATE)').close()
    with up.Database(file) as database:
        table = up.detect_table(database, None)
        assert table == "a \"b'`ü"
        assert up.detect_time_column(up.columns_of(database, table), None) == "Time"


def test_several_tables_are_listed_with_the_setting(file):
    write(file, "CREATE TABLE a (x)", "CREATE TABLE b (x)").close()
    with up.Database(file) as database, pytest.raises(up.ConfigError, match="a, b") as error:
        up.detect_table(database, None)
    assert "sqlite_table_name" in error.value.hint


def test_a_live_wal_database_is_read_with_its_newest_rows(file):
    producer = write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    with up.Database(file) as database:
        assert database.rows("SELECT q.x FROM t q") == [(1,)]
    producer.close()


def test_a_cleanly_closed_wal_database_is_read_without_side_files(file):
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)").close()
    with up.Database(file) as database:
        assert database.rows("SELECT q.x FROM t q") == [(1,)]
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_missing_file_is_not_created(file):
    with pytest.raises(up.SourceError, match="does not exist"):
        up.source_uri(file)
    assert not file.exists()


def test_a_file_that_is_no_database_is_refused(file):
    file.write_text("hello " * 100)
    with pytest.raises(up.SourceError, match="not a SQLite database"):
        up.source_uri(file)


def test_parts_of_names_never_count_as_a_time_column():
    columns = {"manufacture_date": "TEXT", "timestamp": "TEXT", "installation_date": "TEXT"}
    assert up.detect_time_column(columns, None) == "timestamp"
    with pytest.raises(up.ConfigError, match="manufacture_date"):
        up.detect_time_column({"manufacture_date": "TEXT"}, None)
    assert up.detect_time_column({"x": "INT", "d": "DATETIME"}, None) == "d"


def test_rows_read_while_a_closed_wal_database_comes_to_life_are_discarded(file):
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    with up.Database(file) as database:
        producer = write(file, "INSERT INTO t VALUES (1)")
        with pytest.raises(up.TransientError, match="began to write"):
            database.rows("SELECT q.x FROM t q")
        producer.close()
