"""Chapter Source: opening harmlessly, detection, reading what SQLite holds exactly."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import sqlite_to_databricks_uploader as up


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "a b?#%.db"


def write(file: Path, *statements: str) -> sqlite3.Connection:
    """A producer: it keeps its connection, and so its WAL, until it is closed."""
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    return connection


def opened(file: Path) -> up.Database:
    return up.Database(file, file.parent.parent, busy_seconds=0.1)


def test_a_name_with_quotes_is_found_and_described(file: Path) -> None:
    write(file, 'CREATE TABLE "a ""b\'`ü" (Time TEXT, "x "" y" DATE)').close()
    with opened(file) as database:
        name = up.detect_table(database, None)
        table = up.describe(database, name, None)
    assert name == "a \"b'`ü"
    assert (table.time, list(table.columns), table.rowid) == ("Time", ["Time", 'x " y'], "rowid")


def test_several_tables_are_listed_with_the_setting(file: Path) -> None:
    write(file, "CREATE TABLE a (x)", "CREATE TABLE b (x)").close()
    with opened(file) as database, pytest.raises(up.ConfigError, match="a, b") as error:
        up.detect_table(database, None)
    assert "sqlite_table_name" in error.value.hint


def test_a_single_table_wins_over_views_and_a_view_is_taken_where_no_table_is(file: Path) -> None:
    producer = write(file, "CREATE TABLE a (x)", "CREATE VIEW v AS SELECT 1 AS x")
    with opened(file) as database:
        assert up.detect_table(database, None) == "a"
    producer.execute("DROP TABLE a")
    producer.close()
    with opened(file) as database:
        assert up.detect_table(database, None) == "v"


@pytest.mark.parametrize(
    ("declared", "rowid", "key", "autoincrement"),
    [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT)", "rowid", "id", True),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT)", "rowid", "id", False),
        ("CREATE TABLE t (id INT PRIMARY KEY, time TEXT)", "rowid", None, False),
        ("CREATE TABLE t (rowid TEXT, time TEXT)", "_rowid_", None, False),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT) WITHOUT ROWID", None, None, False),
        ("CREATE VIEW t AS SELECT 1 AS id, '2026-01-01' AS time", None, None, False),
    ],
)
def test_keys_and_rowids_are_told_apart(
    file: Path, declared: str, rowid: str | None, key: str | None, autoincrement: bool
) -> None:
    write(file, declared).close()
    with opened(file) as database:
        table = up.describe(database, "t", None)
    assert (table.rowid, table.key, table.autoincrement) == (rowid, key, autoincrement)


def test_a_live_wal_database_is_read_with_its_newest_rows(file: Path) -> None:
    producer = write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    with opened(file) as database:
        assert database.rows("SELECT q.x FROM t q") == [(1,)]
    producer.close()


def test_a_cleanly_closed_wal_database_is_read_without_side_files(file: Path) -> None:
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)").close()
    with opened(file) as database:
        assert database.rows("SELECT q.x FROM t q") == [(1,)]
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_wal_without_its_shared_memory_is_read_from_a_private_copy(file: Path, tmp_path: Path) -> None:
    producer = write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in (file.name, f"{file.name}-wal"):
        (crashed / name).write_bytes((file.parent / name).read_bytes())
    producer.close()
    with up.Database(crashed / file.name, tmp_path) as database:
        assert database.rows("SELECT q.x FROM t q") == [(1,)]
    assert sorted(p.name for p in crashed.iterdir()) == [file.name, f"{file.name}-wal"]
    assert not list(tmp_path.glob("copy-*"))


def test_rows_read_while_a_closed_wal_database_comes_to_life_are_discarded(file: Path) -> None:
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    with opened(file) as database:
        producer = write(file, "INSERT INTO t VALUES (1)")
        with pytest.raises(up.TransientError, match="began to write"):
            database.rows("SELECT q.x FROM t q")
        producer.close()


def test_a_mount_point_is_known_by_its_name_also_with_spaces(file: Path, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 98:0 / {str(file).replace(' ', chr(92) + '040')} ro - ext4 /dev/sda ro\n")
    assert up.mount_points(mounts) == {str(file): "ext4"}
    assert up.mount_points(tmp_path / "none") == {}


def test_a_missing_file_is_not_created(file: Path) -> None:
    with pytest.raises(up.SourceError, match="does not exist"), opened(file):
        pass
    assert not file.exists()


def test_a_file_that_is_no_database_is_refused(file: Path) -> None:
    file.write_text("hello " * 100)
    with pytest.raises(up.SourceError, match="not a SQLite database"), opened(file):
        pass


def test_a_misspelt_column_is_an_error_and_not_a_string(file: Path) -> None:
    write(file, "CREATE TABLE t (x)").close()
    with opened(file) as database, pytest.raises(up.SourceError, match="no such column"):
        database.rows('SELECT q."nope" FROM t q')


def test_parts_of_names_never_count_as_a_time_column() -> None:
    columns = {"manufacture_date": "TEXT", "timestamp": "TEXT", "installation_date": "TEXT"}
    assert up.detect_time_column(columns, None) == "timestamp"
    with pytest.raises(up.ConfigError, match="manufacture_date"):
        up.detect_time_column({"manufacture_date": "TEXT"}, None)
    assert up.detect_time_column({"x": "INT", "d": "DATETIME"}, None) == "d"


def page_of(file: Path, limit: int = 100) -> up.RawPage:
    with opened(file) as database:
        reader = up.Reader(database, up.describe(database, "t", None))
        return reader.page("", "q.rowid", limit, "q.rowid")


def test_columns_that_keep_their_affinity_are_read_without_a_detour(file: Path) -> None:
    write(
        file,
        "CREATE TABLE t (time TEXT, i INTEGER, r REAL, s VARCHAR(9))",
        "INSERT INTO t VALUES (NULL, NULL, NULL, NULL), ('2026-01-01', 1, 2, 'ü'), ('x', 9007199254740993, 1e300, '')",
    ).close()
    page = page_of(file)
    assert {name: column.storage for name, column in page.columns.items()} == {
        "time": "text", "i": "integer", "r": "real", "s": "text",
    }  # fmt: skip
    assert page.columns["i"].values() == [None, 1, 9007199254740993]
    assert page.columns["r"].values() == [None, 2.0, 1e300]
    assert page.columns["s"].values() == [None, "ü", ""]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_values_of_other_classes_are_read_as_they_are(file: Path, encoding: str) -> None:
    producer = write(
        file, f"PRAGMA encoding = '{encoding}'", "CREATE TABLE t (time TEXT, i INTEGER, r REAL, s TEXT, n)"
    )
    rows = [
        ("2026-01-01", 1, 1.5, "a", 1),
        ("2026-01-01", 1.7, "x", b"a", 2.5),
        ("2026-01-01", "12a", b"\xff", "a\0b", "t"),
        (None, None, None, None, None),
        ("2026-01-01", 2**62, float("inf"), "'", b"\x00"),
    ]
    producer.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
    producer.commit()
    producer.close()
    page = page_of(file)
    read = list(zip(*(column.values() for column in page.columns.values()), strict=True))
    assert list(map(repr, read)) == list(map(repr, rows))


def test_text_that_is_no_utf_8_is_told_from_blobs(file: Path) -> None:
    write(file, "CREATE TABLE t (time TEXT)", "INSERT INTO t VALUES ('a'), (CAST(x'ff41' AS TEXT)), (x'ff41')").close()
    values = page_of(file).columns["time"].values()
    assert values == ["a", b"\xff\x41", b"\xff\x41"]
    assert [type(value) for value in values] == [str, up.InvalidText, bytes]


def test_a_table_of_two_thousand_columns_is_read(file: Path) -> None:
    names = [f"c{i}" for i in range(1990)]
    write(
        file,
        f"CREATE TABLE t (time TEXT, {', '.join(f'{name} INTEGER' for name in names)})",
        f"INSERT INTO t VALUES ('2026-01-01', {', '.join(map(str, range(1990)))})",
    ).close()
    page = page_of(file)
    assert [page.columns[name].values() for name in names] == [[i] for i in range(1990)]
