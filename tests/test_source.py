"""Chapter Source: opening harmlessly, detection, reading what SQLite holds exactly."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from boxes import Box, examples, executed


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
    producer = write(file, "CREATE TABLE c (ts INT)", "INSERT INTO c VALUES (1790000000), (1790000100)")
    with opened(file) as database, pytest.raises(up.ConfigError, match="several tables: a, b, c") as error:
        up.detect_table(database, None)
    producer.close()
    assert "sqlite_table_name" in error.value.hint
    assert "tables" in error.value.hint
    assert "a: 0 rows" in str(error.value)
    assert "c: 2 rows, newest 2026-09-21T14:15:00+00:00" in str(error.value)


def test_a_name_counts_before_others_that_are_equal_but_for_a_letter_s_case(file: Path) -> None:
    write(file, "CREATE TABLE \u00c4 (x)", "CREATE TABLE \u00e4 (x)").close()
    with opened(file) as database:
        assert [up.detect_table(database, name) for name in ("\u00c4", "\u00e4")] == ["\u00c4", "\u00e4"]
        assert up.tables_like("\u00e4", database.kinds) == (False, ["\u00e4"])
        assert up.tables_like("*", database.kinds) == (True, ["\u00c4", "\u00e4"])


def test_the_tables_behind_a_full_text_index_are_nobodys(file: Path) -> None:
    write(
        file, "CREATE VIRTUAL TABLE notes USING fts5 (body)", "CREATE TABLE r (id INTEGER PRIMARY KEY, ts TEXT)"
    ).close()
    with opened(file) as database, pytest.raises(up.ConfigError, match=r"several tables: notes, r\n"):
        up.detect_table(database, None)


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
        ("CREATE TABLE t (id INTEGER PRIMARY KEY -- no AUTOINCREMENT\n, time TEXT)", "rowid", "id", False),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY /* AUTOINCREMENT */, time TEXT DEFAULT 'it''s AUTOINCREMENT')",
            "rowid",
            "id",
            False,
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY/* -- */AUTOINCREMENT, time TEXT, [autoincrement off])",
            "rowid",
            "id",
            True,
        ),
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


@pytest.mark.parametrize("size", [1, 20, 32])
def test_a_wal_that_was_cut_off_in_its_header_holds_no_rows(file: Path, size: int) -> None:
    """As a power cut leaves it; it could be copied again and again."""
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)").close()
    Path(f"{file}-wal").write_bytes(b"\x37\x7f\x06\x82".ljust(size, b"\0")[:size])
    with opened(file) as database:
        assert database.rows("SELECT * FROM t") == [(1,)]
    assert not Path(f"{file}-shm").exists()


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


def test_rows_read_while_a_closed_wal_database_comes_to_life_are_read_anew(file: Path) -> None:
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    with opened(file) as database:
        producer = write(file, "INSERT INTO t VALUES (1)")
        assert database.rows("SELECT q.x FROM t q") == [(1,)]
        producer.close()
        assert database.rows("SELECT q.x FROM t q") == [(1,)]


def test_a_file_that_is_replaced_between_two_queries_is_read_in_the_next_cycle(file: Path) -> None:
    """No page of one table is followed by one of another."""
    for name in (file, other := file.with_name("other")):
        write(name, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    with opened(file) as database:
        other.replace(file)
        with pytest.raises(up.TransientError, match="was replaced"):
            database.rows("SELECT q.x FROM t q")
        with pytest.raises(up.SourceError, match="was closed"):
            database.rows("SELECT q.x FROM t q")


@pytest.mark.parametrize("fault", [up.UnrecoveredError, up.CorruptError, up.SourceError])
def test_an_error_that_comes_of_a_producer_that_comes_just_then_is_none(
    file: Path, fault: type[up.UploaderError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a checkpoint may look like damage."""
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)").close()
    real, answers = up.answer_of, list[str]()

    def answer(connection: Any, sql: str, *more: Any) -> Any:
        if "FROM t" in sql and not answers:
            answers.append(sql)
            if fault is not up.UnrecoveredError:
                write(file, "INSERT INTO t VALUES (2)").close()
            raise fault("as things are")
        return real(connection, sql, *more)

    with opened(file) as database:
        monkeypatch.setattr(up, "answer_of", answer)
        assert database.rows("SELECT count(*) FROM t") == [(1 if fault is up.UnrecoveredError else 2,)]
    with opened(file) as database:
        monkeypatch.setattr(up, "answer_of", lambda *_: (_ for _ in ()).throw(up.CorruptError("it is")))
        with pytest.raises(up.CorruptError, match="it is"):
            database.rows("SELECT count(*) FROM t")


def test_a_database_that_sqlite_does_not_open_is_no_lack_of_memory(file: Path) -> None:
    """The driver calls it one. SQLite takes no path of more than 512 bytes."""
    deep = file.parent / ("a" * 250) / ("b" * 250) / file.name
    deep.parent.mkdir(parents=True)
    write(file, "CREATE TABLE t (x)").close()
    file.rename(deep)
    with pytest.raises(up.SourceError, match="can't be opened") as raised, opened(deep):
        pass
    assert "512 bytes" in raised.value.hint


def test_a_database_that_goes_in_the_moment_of_opening_was_taken_away(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, "CREATE TABLE t (x)").close()
    real = up.sqlite_driver

    def gone() -> str:
        file.unlink(missing_ok=True)
        return real()

    monkeypatch.setattr(up, "sqlite_driver", gone)
    with pytest.raises(up.TransientError, match="was taken away meanwhile"), opened(file):
        pass


@pytest.mark.parametrize("ways", [[up.SHARED, up.UNCHANGING], [up.UNCHANGING, up.UNCHANGING]])
def test_a_database_that_is_closed_in_the_moment_of_opening_is_opened_as_it_is_then(
    file: Path, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its side files are gone, and none can be made; what is so for good is told at once."""
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    real, tries = up.Connections._connected, list[str]()

    def connected(database: up.Connections) -> Any:
        tries.append(database._way)
        if len(tries) == 1:
            raise up.SourceError("unable to open database file")
        return real(database)

    seen = iter([ways[0], *[ways[1]] * 9])
    monkeypatch.setattr(up, "way_to_open", lambda *_: next(seen))
    monkeypatch.setattr(up.Connections, "_connected", connected)
    if ways[0] == ways[1]:
        with pytest.raises(up.SourceError, match="unable to open"), opened(file):
            pass
    else:
        with opened(file) as database:
            assert [*database.kinds] == ["t"]
    assert len(tries) == len({*ways})


def test_half_of_a_checkpoint_is_no_damage_in_the_moment_of_opening(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    real, answers = up.answer_of, list[str]()

    def answer(connection: Any, sql: str, *more: Any) -> Any:
        if not answers:
            answers.append(sql)
            write(file, "INSERT INTO t VALUES (2)").close()
            raise up.CorruptError("as things are")
        return real(connection, sql, *more)

    monkeypatch.setattr(up, "answer_of", answer)
    with opened(file) as database:
        assert database.rows("SELECT count(*) FROM t") == [(1,)]


@pytest.mark.parametrize("is_early", [False, True])
def test_a_producer_that_closes_while_the_file_is_opened_leaves_its_side_files_or_none(
    file: Path, monkeypatch: pytest.MonkeyPatch, is_early: bool
) -> None:
    """SQLite would make them anew under our user, and a producer that comes back meanwhile could not write."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA journal_mode = wal');"
        "c.executescript('CREATE TABLE t (x); INSERT INTO t VALUES (1)'); print(flush=True); input(); c.close()"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script, str(file)], **pipes) as producer:
        assert producer.stdout and producer.stdout.readline()
        owner, name = (fcntl, "lockf") if is_early else (up, "sqlite_driver")
        before, real, calls = (
            [side.stat().st_ino for side in up.side_files(file)[:2]],
            getattr(owner, name),
            list[int](),
        )

        def closed(*given: Any) -> Any:
            if not calls:
                producer.communicate("\n")
                calls.append(producer.returncode)
            return real(*given)

        monkeypatch.setattr(owner, name, closed)
        with opened(file) as database:
            assert database.rows("SELECT x FROM t") == [(1,)]
            assert [stat.st_ino for stat in up.stats_of(up.side_files(file)[:2])] == ([] if is_early else before)
    assert calls == [0]


@pytest.mark.parametrize("when", ["opening", "reading"])
def test_no_side_files_are_made_for_a_file_that_takes_the_place_of_the_one_that_is_read(
    file: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its producer could not write them where it is another user."""
    producer, real = write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)"), up.sqlite_driver

    def replaced() -> str:
        for old in (file, *up.side_files(file)[:2]):
            old.unlink(missing_ok=True)
        write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)").close()
        return real()

    if when == "opening":
        monkeypatch.setattr(up, "sqlite_driver", replaced)
        with pytest.raises(up.TransientError, match="was replaced meanwhile"), opened(file):
            pass
    else:
        with opened(file) as database:
            replaced()
            assert [database.rows("SELECT count(*) FROM t") for _ in range(up.READERS)] == [[(0,)]] * up.READERS
    assert not up.stats_of(up.side_files(file))
    producer.close()


def test_a_file_is_never_opened_before_it_has_a_header(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its producer may turn it to a WAL just then."""
    file.touch()
    monkeypatch.setattr(up.Connections, "_connected", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(up.SourceError, match="has no table yet"), opened(file):
        pass


def test_no_side_files_are_made_for_a_producer_that_turns_to_a_wal_between_two_queries(file: Path) -> None:
    write(file, "CREATE TABLE t (x)").close()
    with opened(file) as database:
        write(file, "INSERT INTO t VALUES (1)").close()
        write(file, "PRAGMA journal_mode = wal").close()
        assert database.rows("SELECT x FROM t") == [(1,)]
        assert not up.stats_of(up.side_files(file))


@pytest.mark.parametrize("fault", ["CorruptError", "MemoryShortError", "SourceError"])
def test_an_error_amid_a_replacement_is_no_fault_of_the_file(file: Path, fault: str) -> None:
    """SQLite may say that there is no memory, or that a disk fails, where a file was taken away."""
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    with opened(file) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(up, "answer_of", lambda *_: (_ for _ in ()).throw(getattr(up, fault)("it is")))
        (other := file.with_name("other")).touch()
        other.replace(file)
        with pytest.raises(up.TransientError, match="was replaced meanwhile"):
            database.rows("SELECT x FROM t")


@pytest.mark.parametrize("is_for_good", [False, True])
def test_a_file_that_its_producer_has_for_itself_is_waited_for_and_then_copied(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_for_good: bool
) -> None:
    """As it does amid its closing, and for good by `locking_mode = EXCLUSIVE`."""
    producer = write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    real, tries = fcntl.lockf, list[int]()

    def locked(*given: Any) -> None:
        tries.append(1)
        if is_for_good or len(tries) < 5:
            raise BlockingIOError
        real(*given)

    monkeypatch.setattr(fcntl, "lockf", locked)
    with up.Database(file, tmp_path, busy_seconds=0.1 if is_for_good else 60) as database:
        assert bool(database.copied_bytes) == is_for_good and database.rows("SELECT x FROM t") == [(1,)]
    assert len(tries) >= 5
    producer.close()


def test_a_file_that_was_written_in_this_tick_of_the_clock_is_not_taken_for_unchanging(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written next may have the same time. It is waited for."""
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    monkeypatch.setattr(up, "way_to_open", lambda *_: up.UNCHANGING)
    monkeypatch.setattr(up.Connections, "TRIES", 500)
    os.utime(file)
    with opened(file):
        assert time.time_ns() - file.stat().st_mtime_ns >= 10**7
    ahead = time.time() + 3600  # of a clock that was set back
    os.utime(file, (ahead, ahead))
    with opened(file) as database:
        assert [*database.kinds] == ["t"]


def test_a_thread_that_comes_after_the_end_of_a_cycle_opens_nothing(file: Path) -> None:
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    with opened(file) as database:
        pass
    database._open_again(1)
    with pytest.raises(up.SourceError, match="was closed"):
        database.rows("SELECT q.x FROM t q")


def test_a_file_that_never_keeps_still_is_left_to_the_next_cycle(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)").close()
    with opened(file) as database:
        monkeypatch.setattr(up, "fingerprint", lambda _: (file.stat().st_ino, time.monotonic_ns()))
        with pytest.raises(up.TransientError, match="opened or closed its database each time"):
            database.rows("SELECT q.x FROM t q")


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


@pytest.mark.parametrize(
    ("place", "content"), [(0, bytes(range(100))), (16, b"\0\7"), (18, b"\3\3"), (44, b"\0\0\0\x09")]
)
def test_an_encrypted_file_and_a_header_that_nobody_knows_have_a_hint(file: Path, place: int, content: bytes) -> None:
    """Of an encrypted one nothing is plain. A page's size, a format of the file and one of its schema that none is."""
    executed(file, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    whole = bytearray(file.read_bytes())
    whole[place : place + len(content)] = content
    file.write_bytes(whole)
    with pytest.raises(up.SourceError) as error, opened(file) as database:
        up.detect_table(database, None)
    assert "encrypted" in error.value.hint


def test_a_database_that_can_not_be_opened_leaves_no_file_open(file: Path) -> None:
    """A service tries it again for ever, and a process may open so many."""
    write(file, "CREATE TABLE t (x)").close()
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('BEGIN EXCLUSIVE'); print(flush=True); input()"
    command, open_files = [sys.executable, "-c", program, str(file)], list[int]()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as producer:
        assert producer.stdout and producer.stdout.readline()
        for _ in range(3):
            with pytest.raises(up.BusyError), opened(file):
                pass
            open_files.append(len(os.listdir("/dev/fd")))
        producer.kill()
    assert len(set(open_files[1:])) == 1  # Libraries open what they need at the first.


def test_a_misspelt_column_is_an_error_and_not_a_string(file: Path) -> None:
    write(file, "CREATE TABLE t (x)").close()
    with opened(file) as database, pytest.raises(up.TransientError, match="no such column"):
        database.rows('SELECT q."nope" FROM t q')


@pytest.mark.parametrize("change", ["DROP COLUMN v", "RENAME COLUMN v TO w", "RENAME TO other"])
@pytest.mark.parametrize("is_generated", [False, True])
def test_a_table_that_is_altered_while_it_is_read_is_waited_for(file: Path, change: str, is_generated: bool) -> None:
    """Where SQLite knew the schema, it tells that at the first row, as it does what can't be computed."""
    column = "v AS (id + 1)" if is_generated else "v"
    write(file, f"CREATE TABLE t (id INTEGER PRIMARY KEY, {column})", "INSERT INTO t (id) VALUES (1)").close()
    with opened(file) as database:
        reader = up.Reader(database, up.describe(database, "t", None))
        for _ in range(up.READERS):
            reader.page("", "", 10, "''")
        write(file, f"ALTER TABLE t {change}").close()
        for read in (lambda: reader.page("", "", 10, "''"), lambda: up.uncomputable_columns(database, "t", ["v"])):
            with pytest.raises(up.TransientError, match="was altered while it was read"):
                read()


def time_of(file: Path, columns: str, *rows: str, wanted: str | None = None) -> tuple[str | None, tuple[str, ...]]:
    """The time column of a table with these rows, and the columns that may be it."""
    write(file, f"CREATE TABLE t ({columns})", *(f"INSERT INTO t VALUES ({row})" for row in rows)).close()
    with opened(file) as database:
        table = up.describe(database, "t", wanted)
    return table.time, table.doubtful


@pytest.mark.parametrize(
    ("columns", "rows", "time"),
    [
        ("manufacture_date TEXT, timestamp TEXT, installation_date TEXT", ["'2020-01-01', '2026-01-01', ''"], "timestamp"),
        ("x INT, d DATETIME", ["1, '2026-01-01'"], "d"),
        ("ts INT, TimeStamp TEXT", ["1790000000, NULL"], "ts"),
        ("ts INT, d DATETIME, e DATE", ["NULL, NULL, 7"], "e"),
        ("time INT", [], "time"),
        ("d DATE", [], "d"),
        ("Date DATE, Time TIME", ["'2026-11-01', '07:15:00'", "'2026-11-01', NULL"], "Date"),
        ("time TEXT, date TEXT", ["'7:15 pm', '01.11.2026'", "'07:15:00.5 p.m.', '01.11.2026'"], "date"),
        ("time TEXT, d DATETIME", ["'07:15', '2026-11-01'"], "d"),
        ("time TEXT, d DATETIME", ["'07:15:00+02:00', '2026-11-01'", "'T07:15Z', ''"], "d"),
        ("time TEXT, date TEXT", ["'07:15 01.11.2026', '01.11.2026'"], "time"),
        ("time TEXT, date TEXT", ["'07:15', '2026-11-01'", "'2026-11-01 07:15', '2026-11-01'"], "time"),
        ("created_ts FLOAT, start_ts FLOAT", ["1790000000.5, NULL"], "created_ts"),
        ("last_changed DATETIME, last_updated DATETIME, last_updated_ts FLOAT", ["NULL, NULL, 1790000000.1"], "last_updated_ts"),
        ("createdAt DATETIME, updatedAt DATETIME", ["'2026-01-01 10:00', '2026-01-01 10:00'"], "createdAt"),
        ("CreatedAt TEXT, created_at TEXT", ["'2026-01-01 10:00', '2026-01-01 10:00'"], "created_at"),
        ("logged_at TEXT, update_count INT", ["'2026-01-01 10:00', 7"], "logged_at"),
        ("uptime INT, runtime REAL", ["1790000000, 12.5", "1790000001, 13.5"], "uptime"),
    ],
)  # fmt: skip
def test_the_time_column_is_found_by_name_by_declaration_and_by_what_it_holds(
    file: Path, columns: str, rows: list[str], time: str
) -> None:
    assert time_of(file, columns, *rows) == (time, ())


@pytest.mark.parametrize(
    ("columns", "rows", "doubtful"),
    [
        ("v REAL", ["1.5"], ()),
        ("timestamp TEXT", ["NULL"], ()),
        ("time TEXT, v REAL", ["'07:15', 1.5"], ()),
        ("uptime INT", ["3600"], ()),
        ("uptime INT", [], ()),
        ("begin_time INT", ["1790000000", "'soon'"], ()),
        ("start_time INT, end_time INT", ["1790000000, 1790000060"], ("start_time", "end_time")),
        ("a DATE, b DATE", ["'2026-01-01', '2026-01-02'"], ("a", "b")),
    ],
)
def test_where_no_column_or_several_may_be_the_time_none_is_taken(
    file: Path, columns: str, rows: list[str], doubtful: tuple[str, ...]
) -> None:
    assert time_of(file, columns, *rows) == (None, doubtful)


def test_a_table_can_be_said_to_have_no_time_column(file: Path) -> None:
    assert time_of(file, "timestamp TEXT", "'2026-01-01'", wanted="None") == (None, ())
    with opened(file) as database, pytest.raises(up.ConfigError, match="no column 'nine'"):
        up.describe(database, "t", "nine")


def test_a_damaged_table_is_looked_at_as_far_as_it_can_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, "CREATE TABLE t (x_time INT)", *["INSERT INTO t VALUES (1790000000)"] * 9).close()
    real = up.Database.table

    def damaged(database: up.Database, sql: str, batch_rows: int = 1024) -> Any:
        if "LIMIT 1000" in sql:
            raise up.CorruptError("damaged")
        return real(database, sql, batch_rows)

    monkeypatch.setattr(up.Database, "table", damaged)
    with opened(file) as database:
        assert up.first_values(database, "t", "x_time") == [1790000000] * 9


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


@pytest.mark.parametrize("place", [0, 1500, 2999])
def test_one_value_of_another_class_is_read_as_it_is_wherever_it_stands_in_a_page(file: Path, place: int) -> None:
    odd = {
        "TEXT": ("a", b"b"), "VARCHAR(9)": ("", b""), "INTEGER": (1, b"1"), "BIGINT": (1, 1.5), "REAL": (1.5, "x"),
        "DATETIME": ("2026-01-01", 5), "DECIMAL": (1.5, 2**53 + 1), "NUMERIC": (1, 2.5), "BOOLEAN": (1, "yes"),
        "": ("x", 1.5), " ": (None, b"b"), "BLOB": (b"\xff", "\xff"), "DATE": ("x", None),
    }  # fmt: skip
    columns = ", ".join(f"c{number} {declared}" for number, declared in enumerate(odd))
    producer = write(file, f"CREATE TABLE t (time TEXT, {columns})")
    rows = [tuple(values[number == place] for values in odd.values()) for number in range(3000)]
    producer.executemany(f"INSERT INTO t VALUES (NULL{', ?' * len(odd)})", rows)
    producer.commit()
    producer.close()
    page = page_of(file, 3000)
    read = zip(*(page.columns[f"c{number}"].values() for number in range(len(odd))), strict=True)
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


def test_a_page_that_is_read_in_parts_is_of_rows_that_all_of_these_have(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ", ".join(f"c{i} INTEGER" for i in range(1990))
    producer = write(file, f"CREATE TABLE t ({names})", "INSERT INTO t (c0, c1989) VALUES (1, 1), (2, 2)")
    read = up.Reader._read

    def read_and_deleted(*asked: Any) -> Any:
        found = read(*asked)
        producer.execute("DELETE FROM t WHERE c0 = 1")
        producer.commit()
        return found

    monkeypatch.setattr(up.Reader, "_read", read_and_deleted)
    with pytest.raises(up.TransientError, match="deleted while they were read"):
        page_of(file)
    producer.close()


# --- Links and names ---


def named_by(folder: Path, kind: str) -> tuple[Path, Path]:
    """A place for a database, and a path that leads there."""
    (folder / "data").mkdir()
    (folder / "other").mkdir()
    real, link = folder / "data" / "a b?#%.db", folder / "other" / "sensor.db"
    if kind == "a link to a link":
        (folder / "first").symlink_to(real)
        link.symlink_to(folder / "first")
    elif kind == "a relative link":
        link.symlink_to(Path("..") / "data" / real.name)
    elif kind == "a linked directory":
        (folder / "linked").symlink_to("data")
        link = folder / "linked" / real.name
    elif kind == "two dots behind a linked directory":
        (folder / "data" / "deep").mkdir()
        (folder / "other" / "deep").symlink_to(folder / "data" / "deep")
        link = folder / "other" / "deep" / ".." / real.name
    elif kind == "a path in bytes":
        real = folder / "data" / os.fsdecode(b"\xff ?%41.db")
        link.symlink_to(real)
    else:
        link.symlink_to(real)
    return real, link


@pytest.mark.parametrize("left", ["live", "closed", "crashed"])
@pytest.mark.parametrize(
    "kind",
    ["a link", "a link to a link", "a relative link", "a linked directory", "two dots behind a linked directory",
     "a path in bytes"],
)  # fmt: skip
def test_a_database_behind_a_link_is_read_with_the_side_files_of_the_real_one(
    tmp_path: Path, kind: str, left: str
) -> None:
    real, link = named_by(tmp_path, kind)
    producer = write(real, "PRAGMA journal_mode = wal", "CREATE TABLE t (x)", "PRAGMA wal_checkpoint")
    producer.execute("INSERT INTO t VALUES (1)")
    producer.commit()
    if left == "crashed":
        content = {end: Path(f"{real}{end}").read_bytes() for end in ("", "-wal")}
        producer.close()
        for end, data in content.items():
            Path(f"{real}{end}").write_bytes(data)
    elif left == "closed":
        producer.close()
    before = sorted(tmp_path.rglob("*"))
    with up.Database(link, tmp_path) as database:
        assert database.rows("SELECT q.x FROM t q") == [(1,)]
    assert sorted(tmp_path.rglob("*")) == before
    producer.close()


def test_a_link_that_leads_to_another_file_since_is_followed(box: Box) -> None:
    """Producers replace a link as others replace a file."""
    link, rows = box.database, list[tuple[str]]()
    for name in ("first", "second", "third"):
        box.database = link.with_name(f"{name}.db")
        producer = write(
            box.database, "PRAGMA journal_mode = wal", "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v TEXT)"
        )
        link.unlink(missing_ok=True)
        link.symlink_to(box.database.name)
        for value in (f"{name} 1", f"{name} 2"):
            producer.execute("INSERT INTO t (time, v) VALUES (?, ?)", (f"2026-01-{len(rows) + 1:02}", value))
            producer.commit()
            rows.append((value,))
            assert box.run() == 0
        producer.close()
    assert box.arrived("v") == sorted(rows, key=repr)


def test_a_link_that_leads_nowhere_is_named_with_where_it_leads(tmp_path: Path) -> None:
    link, real = tmp_path / "link.db", tmp_path / "away" / "real.db"
    link.symlink_to(real)
    with pytest.raises(up.SourceError, match=r"link\.db leads to .*real\.db: no such file"), opened(link):
        pass
    assert not real.parent.exists()
    real.parent.mkdir()
    real.symlink_to(link)
    with pytest.raises(up.SourceError, match="can't be read: Too many"), opened(link):
        pass


def test_a_closed_wal_database_with_two_names_is_refused_rather_than_read_stale(box: Box) -> None:
    """The WAL belongs to the name that the producer uses, and which one that is can't be seen."""
    other = box.database.with_name("other.db")
    producer = write(other, "PRAGMA journal_mode = wal", "CREATE TABLE t (time TEXT, v INTEGER)")
    producer.execute("PRAGMA wal_checkpoint")
    os.link(other, box.database)
    producer.execute("INSERT INTO t VALUES ('2026-01-01', 1)")
    producer.commit()
    assert box.run() == 1
    assert box.run("--check") == 1
    assert box.run("--sqlite", str(other)) == 0
    producer.close()
    assert box.arrived("v") == [(1,)]


def test_a_database_with_two_names_is_read_where_no_wal_can_be_missed(box: Box) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    os.link(box.database, box.database.with_name("backup.db"))
    assert box.run() == 0
    producer = write(box.database, "PRAGMA journal_mode = wal", "INSERT INTO t VALUES ('2026-01-02', 2)")
    assert box.run() == 0
    producer.close()
    assert box.arrived("v") == [(1,), (2,)]


# --- What only the producer's program has ---


def foreign(file: Path, *statements: str) -> None:
    """A producer with a collation and a function of its own."""
    connection = sqlite3.connect(file)
    connection.create_collation("LOCALIZED", lambda x, y: (x.lower() > y.lower()) - (x.lower() < y.lower()))
    connection.create_function("secret", 1, lambda x: x, deterministic=True)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("cursor", ["rowid", "timestamp"])
@pytest.mark.parametrize(
    "more",
    [
        "CREATE INDEX i ON t (time)",
        "CREATE INDEX i ON t (time, name, v)",
        "CREATE UNIQUE INDEX i ON t (v, name COLLATE LOCALIZED)",
        "CREATE INDEX i ON t (v) WHERE name > 'a'",
        "CREATE INDEX i ON t (v) WHERE secret(name) > 'a'",
        "CREATE INDEX i ON t (secret(v))",
        "CREATE VIEW w AS SELECT secret(v) AS x, name FROM t ORDER BY name",
        "ALTER TABLE t ADD COLUMN more TEXT COLLATE LOCALIZED AS (name || '!')",
        "CREATE TRIGGER r AFTER DELETE ON t BEGIN SELECT secret(old.v); END",
    ],
)
def test_a_collation_of_another_program_leaves_its_table_readable(box: Box, more: str, cursor: str) -> None:
    """Only comparisons need a collation, and ours compare byte by byte."""
    foreign(
        box.database,
        "CREATE TABLE t (time TEXT COLLATE LOCALIZED, name TEXT COLLATE LOCALIZED, v INTEGER,"
        " n NUMERIC COLLATE LOCALIZED)",
        more,
    )
    for start in (1, 11):
        rows = [f"('2026-01-01T00:00:{i:02}', 'Ü{i}', {i}, {i}.5)" for i in range(start, start + 5)]
        foreign(box.database, f"INSERT INTO t VALUES {', '.join(rows)}, ('2026-01-01T00:00:{start:02}', NULL, 77, 1)")
        assert box.run("--cursor", cursor) == 0
        assert box.run("--cursor", cursor) == 0
    assert box.run("--check", "--cursor", cursor) == 0
    assert len(box.arrived()) == 12


def test_an_index_on_the_time_is_used_whatever_collations_other_columns_have(file: Path) -> None:
    foreign(file, "CREATE TABLE t (time TEXT, name TEXT COLLATE LOCALIZED)", "CREATE INDEX i ON t (time)")
    with opened(file) as database:
        column = up.cell("time")
        plan = database.rows(
            f"EXPLAIN QUERY PLAN SELECT {column} FROM t q WHERE {column} >= '2026' ORDER BY {column} LIMIT 9"
        )
        assert "USING INDEX i" in plan[0][-1] or "USING COVERING INDEX i" in plan[0][-1], plan
        assert up.TimeColumn(up.Reader(database, up.describe(database, "t", None)), up.AUTO).is_indexed()


def test_a_view_or_order_that_needs_another_program_is_named_with_what_helps(file: Path) -> None:
    foreign(
        file,
        "CREATE TABLE t (time TEXT, name TEXT COLLATE LOCALIZED, PRIMARY KEY (name)) WITHOUT ROWID",
        "CREATE TABLE indexed (id INTEGER PRIMARY KEY, time TEXT, name TEXT COLLATE LOCALIZED UNIQUE) WITHOUT ROWID",
        "CREATE TABLE u (time TEXT, name TEXT COLLATE LOCALIZED)",
        "CREATE VIEW sorted AS SELECT * FROM u ORDER BY name",
        "CREATE VIEW called AS SELECT secret(name) AS name, time FROM u",
    )
    for name, what in (
        ("t", "order of name, whose collation LOCALIZED"),
        ("indexed", "LOCALIZED"),
        ("sorted", "LOCALIZED"),
        ("called", "secret"),
    ):
        with opened(file) as database, pytest.raises(up.ForeignError, match=what) as error:
            up.Reader(database, up.describe(database, name, None)).page("", up.cell("time"), 9, "''")
        assert error.value.hint


def test_a_generated_column_that_can_not_be_computed_is_named_and_left_out(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """STORED ones are read, and the other columns too."""
    foreign(
        box.database,
        "CREATE TABLE t (time TEXT, v INTEGER, lost AS (secret(v)), kept AS (secret(v)) STORED, twice AS (v * 2),"
        " sorted AS (CASE WHEN time > 'a' COLLATE LOCALIZED THEN 1 END), behind AS (lost + 1))",
        "INSERT INTO t (time, v) VALUES ('2026-01-01', 4)",
    )
    assert box.run() == 0
    names = [field.name for field in box.table().schema().fields]
    assert names == ["time", "v", "kept", "twice"]
    assert box.arrived("v, kept, twice") == [(4, "4", "8")] or box.arrived("v, kept, twice") == [(4, 4, 8)]
    for name in ("lost", "sorted", "behind"):
        assert f"the column {name} is left out" in caplog.text
    assert box.run("--check") == 0
    assert "the column lost is left out: " in capsys.readouterr().out


def test_a_time_that_can_not_be_computed_is_an_error_with_what_helps(file: Path) -> None:
    foreign(file, "CREATE TABLE t (v INTEGER, time AS (secret(v)))")
    with opened(file) as database, pytest.raises(up.ForeignError, match=r"time column time: .*secret") as error:
        up.describe(database, "t", None)
    assert "timestamp_col" in error.value.hint


@pytest.mark.parametrize("is_sent_before", [True, False])
def test_a_generated_column_that_fails_for_a_row_is_left_out_and_all_rows_arrive(
    box: Box, caplog: pytest.LogCaptureFixture, is_sent_before: bool
) -> None:
    """One that came in later, so that a row was there already. What it is made of arrives; another one stays."""
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, j TEXT)",
        "INSERT INTO t VALUES (1, '2026-01-01', '{\"a\": 1}'), (2, '2026-01-02', 'off')",
    )
    assert not is_sent_before or box.run() == 0
    for name, made_of in (("a", "json_extract(j, '$.a')"), ("n", "length(j)")):
        box.execute(f"ALTER TABLE t ADD COLUMN {name} AS ({made_of})")
    box.execute("INSERT INTO t (id, time, j) VALUES (3, '2026-01-02', '{\"a\": 3}')")
    assert box.run("--schema", "evolve") == 0
    assert "the column a is left out: a value can't be computed" in caplog.text
    box.execute("INSERT INTO t (id, time, j) VALUES (4, '2026-01-03', '{}')")
    assert box.run("--schema", "evolve") == 0
    assert sorted(box.arrived("id, j")) == [(1, '{"a": 1}'), (2, "off"), (3, '{"a": 3}'), (4, "{}")]
    counted = dict(box.arrived("id, n"))
    assert (counted[3], counted[4]) == (8, 2)


@pytest.mark.parametrize(
    "view",
    [
        "SELECT x AS ts FROM gone",
        "SELECT y AS ts FROM t",
        "SELECT a.y AS ts FROM t a",
        "SELECT ts FROM v",
        "SELECT x AS ts FROM t, t AS other",
    ],
)
def test_a_view_whose_tables_or_columns_are_gone_is_named_as_what_it_is(
    box: Box, caplog: pytest.LogCaptureFixture, view: str
) -> None:
    """It was said to be altered just then, and that the next cycle goes on; or to fail for a row."""
    box.execute("CREATE TABLE t (x)", f"CREATE VIEW v AS {view}")
    assert box.run("--table", "v") == 1
    assert "the view can't be read" in caplog.text
    assert "The next cycle" not in caplog.text


def test_a_view_that_fails_for_a_row_says_what_helps_and_that_helps(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    view = "CREATE VIEW v AS SELECT time, {} AS a FROM t"
    box.environ["SQLITE_TABLE_NAME"] = "v"
    box.execute(
        "CREATE TABLE t (time TEXT, j TEXT)", "INSERT INTO t VALUES ('2026-01-01', '{\"a\": 1}')",
        view.format("json_extract(j, '$.a')"),
    )  # fmt: skip
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES ('2026-01-02', 'off'), ('2026-01-03', '{\"a\": 3}')")
    assert box.run() == 1
    assert "iif(json_valid(x), json_extract(x, '$.a'), NULL)" in caplog.text
    box.execute("DROP VIEW v", view.format("iif(json_valid(j), json_extract(j, '$.a'), NULL)"))
    assert box.run() == 0
    assert sorted(box.arrived("a"), key=repr) == [(1,), (3,), (None,)]


def test_a_row_for_which_a_column_fails_is_not_called_a_damaged_file() -> None:
    assert not isinstance(up.source_error("IO: Failed to step query: malformed JSON"), up.CorruptError)
    assert isinstance(up.source_error("database disk image is malformed"), up.CorruptError)


# --- Encodings ---


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_names_and_values_of_every_encoding_are_found(file: Path, encoding: str) -> None:
    producer = write(file, f"PRAGMA encoding = '{encoding}'", 'CREATE TABLE "tä\'b😀" (time TEXT, "ü""😀" TEXT, n)')
    producer.execute('INSERT INTO "tä\'b😀" VALUES (?, ?, ?)', ("2026-01-01", "é😀\0z", "ÿ"))
    producer.commit()
    producer.close()
    with opened(file) as database:
        table = up.describe(database, up.detect_table(database, "tä'b😀"), None)
        page = up.Reader(database, table).page("", "q.rowid", 9, "q.rowid")
        assert database.rows(f"SELECT count(*) FROM {up.quoted(table.name)} q WHERE n = {up.text_literal('ÿ')}") == [
            (1,)
        ]
    assert table.encoding == encoding
    assert [column.values() for column in page.columns.values()] == [["2026-01-01"], ["é😀\0z"], ["ÿ"]]


@example(encoding="UTF-16le", contents=[b"\x00\xd8a\0b\0", b"\x00\xdca\0"], declared="TEXT")
@settings(max_examples=examples(60))
@given(
    encoding=st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]),
    contents=st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.text(max_size=6).map(lambda text: text.encode("utf-16-le", "surrogatepass")),
            st.text(st.sampled_from("a\ud83d\ude00\0é"), max_size=4).map(
                lambda text: text.encode("utf-16-be", "surrogatepass")
            ),
        ),
        min_size=1, max_size=8,
    ),
    declared=st.sampled_from(["TEXT", "BLOB", "NUMERIC"]),
)  # fmt: skip
def test_any_bytes_that_a_text_may_hold_are_read_as_text_or_told_apart(
    encoding: str, contents: list[bytes], declared: str
) -> None:
    """Half characters are never joined to others, and no text is cut at a NUL."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        file = Path(folder) / "data" / "a.db"
        producer = write(
            file, f"PRAGMA encoding = '{encoding}'", f"CREATE TABLE t (time TEXT, x {declared}, v INTEGER)"
        )
        for content in contents:
            producer.execute(f"INSERT INTO t VALUES ('2026-01-01', CAST(x'{content.hex()}' AS TEXT) || '', 1)")
        producer.commit()
        held = producer.execute(
            "SELECT typeof(x), CAST(x AS BLOB), x IS NOT NULL AND typeof(x) <> 'text' FROM t"
        ).fetchall()
        producer.close()
        values = page_of(file).columns["x"].values()
    for value, (kind, content, _) in zip(values, held, strict=True):
        if kind == "text":
            wanted = up.decoded(content, encoding)
            assert (value, type(value)) == (wanted, type(wanted))


def test_a_text_with_a_nul_is_found_by_its_literal(file: Path) -> None:
    write(file, "CREATE TABLE t (time TEXT)", "INSERT INTO t VALUES ('a' || char(0) || '''b')").close()
    with opened(file) as database:
        literal = up.literal_of("t" + b"a\0'b".hex(), "utf-8")
        assert database.rows(f"SELECT count(*) FROM t q WHERE {up.cell('time')} = {literal}") == [(1,)]


# --- Private copies ---

DEEDS = ("insert", "update", "delete", "rollback", "passive", "restart", "truncate", "vacuum")


class Exclusive:
    """A producer that keeps its WAL's index to itself; `seen` has what its table held after each commit."""

    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, isolation_level=None)
        for pragma in ("page_size = 512", "locking_mode = exclusive", "journal_mode = wal", "synchronous = 0",
                       "cache_size = 5", "wal_autocheckpoint = 0"):  # fmt: skip
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, x TEXT)")
        self.connection.execute("CREATE INDEX i ON t (v)")
        self.step = 0
        self.seen: list[list[tuple[int, int]]] = []
        for _ in range(3):
            self.do("insert")

    def do(self, deed: str) -> None:
        """One deed, of several pages each."""
        self.step += 1
        many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)"
        insert = f"{many} INSERT INTO t (v, x) SELECT {self.step}, hex(randomblob(40)) FROM n"
        statements = {
            "insert": [insert],
            "update": [f"UPDATE t SET v = {self.step}, x = hex(randomblob(60)) WHERE id % 3 = 0"],
            "delete": ["DELETE FROM t WHERE id % 4 = 1"],
            "rollback": ["BEGIN", insert, "UPDATE t SET v = -1, x = hex(randomblob(60))", insert, "ROLLBACK"],
            "vacuum": ["VACUUM"],
        }.get(deed, [f"PRAGMA wal_checkpoint({deed})"])
        for statement in statements:
            self.connection.execute(statement).fetchall()
        self.seen.append(self.connection.execute("SELECT id, v FROM t ORDER BY id").fetchall())


@settings(max_examples=examples(30))
@given(deeds=st.lists(st.lists(st.sampled_from(DEEDS), max_size=3), min_size=1, max_size=8), quiet=st.integers(0, 8))
def test_whatever_a_producer_does_amid_a_copy_the_copy_is_of_one_moment(deeds: list[list[str]], quiet: int) -> None:
    """It commits, rolls back, checkpoints and begins its WAL anew between any two parts of the copy."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "a.db"
        producer, left = Exclusive(file), [*([] for _ in range(quiet)), *deeds]
        checked = 0

        def slowly(source: Path, copy: Path) -> None:
            with source.open("rb") as old, copy.open("wb") as new:
                while part := old.read(max(512, source.stat().st_size // 4)):  # as the real one reads, in parts
                    new.write(part)
                    for deed in left.pop(0) if left else []:
                        producer.do(deed)

        patch.setattr(up, "copy_file", slowly)
        while left or not checked:
            wal = up.wal_bytes(file)
            with contextlib.suppress(up.TransientError), up.Database(file, Path(folder), 0.1) as database:
                assert database.rows("PRAGMA integrity_check") == [("ok",)]
                assert database.rows("SELECT q.id, q.v FROM t q ORDER BY q.id") in producer.seen
                is_copied = database.copied_bytes > 0
                assert is_copied in (wal > 0, up.wal_bytes(file) > 0)
                checked += 1
            if left and not wal:
                left.pop(0)
        producer.connection.close()
        assert not list(Path(folder).glob("copy-*"))


def test_a_copy_is_made_once_beside_a_checkpoint_and_again_where_the_wal_is_begun_anew(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer, made = Exclusive(file), list[str]()
    real = up.copy_file

    def copy_file(source: Path, copy: Path) -> None:
        real(source, copy)
        made.append(source.suffix)
        if len(made) == 1:
            producer.do("update")
            producer.do("passive")
        if len(made) in again:
            producer.do("restart")
            producer.do("insert")

    monkeypatch.setattr(up, "copy_file", copy_file)
    again: tuple[int, ...]
    for again, copies in (((), 1), ((1,), 2), ((2,), 2), ((1, 4), 3), ((), 1)):  # noqa: B007 - the closure reads it
        made.clear()
        with opened(file) as database:
            assert database.rows("PRAGMA integrity_check") == [("ok",)]
            assert database.rows("SELECT q.id, q.v FROM t q ORDER BY q.id") in producer.seen[-4:]
        assert len(made) == 2 * copies, made
    again = tuple(range(99))
    with pytest.raises(up.TransientError, match="anew each time"), opened(file):
        pass
    producer.connection.close()
    assert not list(file.parent.parent.glob("copy-*"))


@settings(max_examples=examples(20))
@given(versions=st.lists(st.lists(st.sampled_from([b"a", b"b", b""]), max_size=4), min_size=1, max_size=4))
def test_a_copy_that_is_brought_up_to_date_equals_its_file(versions: list[list[bytes]]) -> None:
    """Parts that are the same stay, others are written, and what is too long goes."""
    with tempfile.TemporaryDirectory() as folder:
        file, copy = Path(folder) / "file", Path(folder) / "copy"
        for parts in versions:
            content = b"".join(part * (1 << 20) for part in parts) + b"end" * len(parts)
            file.write_bytes(content)
            up.copy_file(file, copy)
            assert copy.read_bytes() == content


def test_a_side_file_of_ours_is_the_producers_too_where_its_group_or_everybody_may_write_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a setgid bit on the directory it has our group, which the producer need not be in."""
    file.touch()
    sides = up.side_files(file)
    for side, mode in zip(sides, [0o664, 0o666, 0o644], strict=True):
        side.touch()
        side.chmod(mode)
    assert up.ours(file) == [sides[2]]
    real = Path.stat

    def of_another_group(path: Path, **more: Any) -> os.stat_result:
        found = real(path, **more)
        return os.stat_result([*found[:5], found.st_gid + 1, *found[6:10]]) if path == file else found

    monkeypatch.setattr(Path, "stat", of_another_group)
    assert up.ours(file) == [sides[0], sides[2]]


@pytest.mark.parametrize("call", [1, 2])
def test_a_file_that_is_replaced_between_two_openings_is_read_in_the_next_cycle(
    file: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection would have the old file, and the other one the new."""
    import adbc_driver_manager

    for name in (file, other := file.with_name("other")):
        write(name, "CREATE TABLE t (x)").close()
    real, calls = adbc_driver_manager.AdbcConnection, list[int]()

    def connection(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            other.replace(file)
        return real(*given)

    monkeypatch.setattr(adbc_driver_manager, "AdbcConnection", connection)
    with pytest.raises(up.TransientError, match="replaced meanwhile"), opened(file):
        pass
    with opened(file) as database:
        assert [*database.kinds] == ["t"]


def test_a_journal_that_goes_in_the_moment_of_a_look_is_no_file_that_was_taken_away(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, "CREATE TABLE t (x)").close()
    sides, real = up.side_files(file), Path.exists
    monkeypatch.setattr(Path, "exists", lambda path, **more: path in sides or real(path, **more))
    assert not up.is_wal_mode(file)
    assert up.wal_bytes(file) == 0
    assert len(up.fingerprint(file)) == 3


def test_where_no_thread_can_begin_a_cycle_fails_with_a_remedy(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts INTEGER)", "INSERT INTO t VALUES (1, 1790000000)")
    with monkeypatch.context() as patched:
        patched.setattr("concurrent.futures.ThreadPoolExecutor.submit", refuse)
        assert box.run() == 1
    assert box.run() == 0
    assert len(box.arrived("id")) == 1
