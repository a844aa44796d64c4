"""The fault matrix, rows 1 to 26: rows, times and the producer's file. Rows that other chapters' tests cover are named in docs/delivery-evidence.csv."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sensor_table
import sqlite_to_databricks_uploader as up
from adversary import Stage, continuous, eventually
from boxes import Box, crossed, rows_of

PLAIN = "CREATE TABLE t (time TEXT, v INTEGER)"
KEYED = "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)"
COUNTED = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, v INTEGER)"
VIEW = ("CREATE TABLE base (time TEXT, v INTEGER)", "CREATE VIEW t AS SELECT time, v FROM base")
INSERT = "INSERT INTO t (time, v) VALUES (?, ?)"

# Two users that are not root, as containers of a producer and of an uploader have them.
PRODUCER, READER = 1001, 1002


def as_root() -> str:
    """Why mounts and other users can't be tried here; empty where they can."""
    if os.geteuid() != 0:
        return "needs root: mounts and other users"
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    return tried.stderr.decode() and f"this container allows no mounts: {tried.stderr.decode().strip()}"


privileged = pytest.mark.skipif(bool(as_root()), reason=as_root() or "-")


@pytest.fixture
def shared(stage: Stage) -> Iterator[Box]:
    """A box whose directories every user may enter; its data and state may be written by all."""
    folder = Path(tempfile.mkdtemp(prefix="box-"))
    box = Box(folder)
    for directory in (folder, box.database.parent, folder / "lake", folder / "state"):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)
    yield box
    shutil.rmtree(folder)


def rows(first: int, last: int, year: int = 2026) -> list[tuple[str, int]]:
    """Rows v = first to last, two to a second."""
    return [(f"{year}-01-01T00:{v // 120:02}:{v // 2 % 60:02}+00:00", v) for v in range(first, last + 1)]


def values(box: Box) -> list[int]:
    """The values that arrived."""
    return sorted(v for (v,) in box.arrived("v")) if (box.folder / "lake" / "raw_readings").exists() else []


def producer(box: Box, *statements: str, mode: str = "wal") -> sqlite3.Connection:
    """A producer that stays: its connection keeps the WAL alive."""
    connection = sqlite3.connect(box.database)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    return connection


def add(connection: sqlite3.Connection, first: int, last: int) -> None:
    """The producer commits rows."""
    connection.executemany(INSERT, rows(first, last))
    connection.commit()


def crashed(box: Box, statements: str) -> None:
    """A producer that runs statements and is killed where it stands."""
    program = (
        "import os, signal, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        f"connection.executescript({statements!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(box.database)])
    assert ended.returncode == -signal.SIGKILL


def as_user(user: int, work: Callable[[], Any]) -> bool:
    """Whether some work succeeds in a child that is another user."""
    return os.waitpid(as_user_beside(user, work), 0)[1] == 0


def as_user_beside(user: int, work: Callable[[], Any]) -> int:
    """The process number of a child that is another user and does some work."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def read_only(directory: Path) -> list[str]:
    """Commands that make a directory read-only, as `-v DIRECTORY:DIRECTORY:ro` does in a container."""
    return [f"mount --bind {directory} {directory}", f"mount -o remount,bind,ro {directory}"]


# --- Rows and times: matrix rows 1 to 13 ---


def test_rows_without_a_time_are_named_where_the_cursor_is_the_time(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """A timestamp cursor can't place them; they are not passed over in silence. (matrix row 3)"""
    box.execute(*VIEW, "INSERT INTO base VALUES (?, ?)", rows=[*rows(1, 3), (None, 4)])
    box.run("--table", "t")
    assert values(box) == [1, 2, 3]
    assert "1 row without a time" in caplog.text


def test_times_of_different_forms_in_one_column_are_each_delivered_once(box: Box) -> None:
    """A timestamp cursor compares texts and numbers, with and without zones. (matrix row 5)"""
    forms = ["2026-01-01T10:00:{}Z", "2026-01-01 10:00:{}", "2026-01-01T12:00:{}+02:00", "2026-01-01T10:00:{}.250Z"]
    texts = [(form.format(10 + i), i) for i in range(0, 40) for form in [forms[i % 4]]]
    numbers = [(1767261610 + i, 100 + i) for i in range(40)]
    box.execute(*[statement.replace("time TEXT", "time") for statement in VIEW])
    for start in range(0, 40, 5):
        box.execute("INSERT INTO base VALUES (?, ?)", rows=texts[start : start + 5])
        box.execute("INSERT INTO base VALUES (?, ?)", rows=numbers[start : start + 5])
        assert box.run("--table", "t", "--batch-rows", "3") == 0
    assert values(box) == [*range(40), *range(100, 140)]


def test_a_clock_that_steps_back_loses_nothing(box: Box) -> None:
    """With rowids the time does not matter; a timestamp cursor follows as far as lookback. (matrix row 6)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 20))
    assert box.run() == 0
    box.execute(INSERT, rows=rows(21, 40, year=1970))
    assert box.run() == 0
    assert values(box) == list(range(1, 41))


def test_changed_rows_are_not_captured_by_rowid_and_are_new_rows_by_time(box: Box, tmp_path: Path) -> None:
    """Rows are appended; what becomes of an UPDATE is said in docs/delivery.md. (matrix row 11)"""
    box.execute(KEYED, INSERT, rows=rows(1, 5))
    assert box.run() == 0
    change = "UPDATE t SET v = 50, time = '2026-01-01T01:00:00+00:00' WHERE v = 3"
    box.execute(change, "DELETE FROM t WHERE v = 1")
    assert box.run() == 0
    assert values(box) == [1, 2, 3, 4, 5]
    (tmp_path / "other").mkdir()
    other = Box(tmp_path / "other")
    other.execute(KEYED, INSERT, rows=rows(1, 5))
    assert other.run("--cursor", "timestamp") == 0
    other.execute(change, "DELETE FROM t WHERE v = 1")
    assert other.run("--cursor", "timestamp") == 0
    assert values(other) == [1, 2, 3, 4, 5, 50]


@pytest.mark.slow
def test_memory_does_not_follow_the_backlog(box: Box, stage: Stage, tmp_path: Path) -> None:
    """Pages and commits are bounded, so a backlog four times as long takes no more memory. (matrix row 12)"""
    peaks = []
    for count in (100_000, 400_000):
        (tmp_path / str(count)).mkdir()
        box = Box(tmp_path / str(count))
        sensor_table.create(box.database, count)
        assert stage.run(box.environ) == 0
        peaks.append(stage.peak)
        assert rows_of(box.table(), "count(*), count(DISTINCT id)") == [(count, count)]
    assert peaks[1] - peaks[0] < 60 * 1024, peaks


def test_wide_tables_and_large_cells_arrive_whole(box: Box) -> None:
    """Pages are sized by bytes, not by rows. (matrix row 13)"""
    names = [f"c{i}" for i in range(1200)]
    box.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, large BLOB, {', '.join(names)})")
    cells = [(f"2026-01-01T00:00:{i:02}Z", bytes([i]) * 5_000_000, i) for i in range(6)]
    box.execute("INSERT INTO t (time, large, c7) VALUES (?, ?, ?)", rows=cells)
    assert box.run() == 0
    arrived = sorted(box.arrived("id, large, c7"), key=lambda row: int(row[0]))
    assert [(row[0], bytes(row[1]), int(row[2])) for row in arrived] == [
        (i + 1, cell[1], i) for i, cell in enumerate(cells)
    ]


# --- The producer's file: matrix rows 14 to 26 ---


@privileged
def test_a_live_wal_database_is_read_through_a_read_only_mount(shared: Box, stage: Stage) -> None:
    """The producer goes on writing and checkpointing meanwhile. (matrix row 14)"""
    connection = producer(shared, COUNTED)
    for batch in range(3):
        add(connection, batch * 10 + 1, batch * 10 + 10)
        assert stage.run(shared.environ, mounts=read_only(shared.database.parent), user=READER) == 0
        assert values(shared) == list(range(1, batch * 10 + 11))
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    connection.close()


@privileged
def test_a_closed_wal_database_is_read_through_a_read_only_mount(shared: Box, stage: Stage) -> None:
    """No side file is there and none can be made. (matrix row 15)"""
    add(connection := producer(shared, COUNTED), 1, 10)
    connection.close()
    assert stage.run(shared.environ, mounts=read_only(shared.database.parent), user=READER) == 0
    assert values(shared) == list(range(1, 11))


@privileged
def test_a_wal_that_a_crash_left_without_its_index_is_read_through_a_read_only_mount(shared: Box, stage: Stage) -> None:
    """Its rows are in a private copy, which is gone afterwards. (matrix row 16)"""
    shared.execute("PRAGMA journal_mode = wal", COUNTED, INSERT, rows=rows(1, 5))
    crashed(shared, "PRAGMA wal_autocheckpoint = 0; INSERT INTO t (time, v) VALUES ('2026-01-02', 6)")
    Path(f"{shared.database}-shm").unlink()
    assert stage.run(shared.environ, mounts=read_only(shared.database.parent), user=READER) == 0
    assert values(shared) == list(range(1, 7))
    assert not list((shared.folder / "state").glob("copy-*"))


@privileged
def test_a_kill_while_a_private_copy_exists_leaves_none_for_good(shared: Box, stage: Stage) -> None:
    """Copies of a crashed run would fill the disk of an edge box. (matrix rows 16 and 53)"""
    shared.execute("PRAGMA journal_mode = wal", COUNTED, INSERT, rows=rows(1, 5))
    crashed(shared, "PRAGMA wal_autocheckpoint = 0; INSERT INTO t (time, v) VALUES ('2026-01-02', 6)")
    Path(f"{shared.database}-shm").unlink()
    killed = {"at": ["Database.table"], "call": 4, "when": "after", "do": "kill"}
    assert stage.run(shared.environ, plan=[killed]) == -signal.SIGKILL
    assert list((shared.folder / "state").glob("copy-*"))
    assert stage.run(shared.environ) == 0
    assert not list((shared.folder / "state").glob("copy-*"))
    assert values(shared) == list(range(1, 7))


@privileged
@pytest.mark.parametrize("ending", ["closed", "live", "killed"])
def test_another_user_than_the_producers_leaves_nothing_that_it_could_not_write(
    shared: Box, stage: Stage, ending: str
) -> None:
    """Side files made by a reader would stop the producer: it could not write them. (matrix row 17)"""

    def produce(value: int) -> None:
        os.umask(0o022)
        connection = producer(shared, f"INSERT INTO t (time, v) VALUES ('2026-01-01', {value})")
        if ending == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        connection.close()

    def create() -> None:
        os.umask(0o022)
        producer(shared, COUNTED).close()

    assert as_user(PRODUCER, create)
    live = producer(shared) if ending == "live" else None
    for value in (1, 2, 3):
        assert as_user(PRODUCER, functools.partial(produce, value)) == (ending != "killed")
        assert stage.run(shared.environ, user=READER) == 0
        owners = {file.name: file.stat().st_uid for file in shared.database.parent.iterdir()}
        assert READER not in owners.values(), owners
    assert values(shared) == [1, 2, 3]
    if live:
        live.close()


@privileged
def test_a_producer_that_closes_in_the_moment_of_opening_can_go_on(shared: Box) -> None:
    """Its side files stay: SQLite would make them anew when it opens the database. (matrix row 17)"""
    closing, closed = shared.folder / "close", shared.database.parent / "closed"

    def produce() -> None:
        os.umask(0o022)
        add(connection := producer(shared, COUNTED), 1, 5)
        for _ in range(4_000):
            if not closing.exists():
                time.sleep(0.005)
        connection.close()
        closed.touch()

    child = as_user_beside(PRODUCER, produce)
    wal = Path(f"{shared.database}-wal")
    while not (wal.exists() and wal.stat().st_size > 4096):
        time.sleep(0.01)
    command = ["sh", "-c", f"touch {closing}; while [ ! -e {closed} ]; do sleep 0.01; done"]
    close = {"at": ["way_to_open"], "call": 1, "when": "after", "do": "run", "command": command}
    with Stage(shared.folder) as stage:
        assert stage.run(shared.environ, plan=[close], user=READER) == 0, stage.said()
        assert os.waitpid(child, 0)[1] == 0
        assert {file.stat().st_uid for file in shared.database.parent.iterdir()} == {PRODUCER}
        assert as_user(PRODUCER, lambda: add(producer(shared), 6, 7))
        assert stage.run(shared.environ, user=READER) == 0
    assert values(shared) == list(range(1, 8))


@privileged
@pytest.mark.parametrize(("at", "call", "when"), [("DeltaTarget.send", 1, "after"), ("answer_of", 12, "before")])
def test_a_producer_that_turns_to_a_wal_amid_a_cycle_can_go_on(shared: Box, at: str, call: int, when: str) -> None:
    """The next page would make side files of our own; one that was just begun does, and they are taken away."""
    turning, turned = shared.folder / "turn", shared.database.parent / "turned"

    def produce() -> None:
        os.umask(0o022)
        add(connection := producer(shared, COUNTED, mode="delete"), 1, 5)
        connection.close()
        turned.touch()
        for _ in range(4_000):
            if not turning.exists():
                time.sleep(0.005)
        producer(shared).close()
        turned.unlink()

    child = as_user_beside(PRODUCER, produce)
    while not turned.exists():
        time.sleep(0.01)
    command = ["sh", "-c", f"touch {turning}; while [ -e {turned} ]; do sleep 0.01; done"]
    turn = {"at": [at], "call": call, "when": when, "do": "run", "command": command}
    with Stage(shared.folder) as stage:
        assert stage.run({**shared.environ, "UPLOAD_BATCH_ROWS": "1"}, plan=[turn], user=READER) == 0, stage.said()
        assert os.waitpid(child, 0)[1] == 0
        assert as_user(PRODUCER, lambda: add(producer(shared), 6, 7))
        assert stage.run(shared.environ, user=READER) == 0
    assert values(shared) == list(range(1, 8))


@privileged
@pytest.mark.parametrize("user", [0, READER])
@pytest.mark.parametrize("rights", [0o777, 0o755])
def test_a_producer_that_opens_its_database_for_each_row_keeps_no_backlog_waiting(
    shared: Box, stage: Stage, user: int, rights: int
) -> None:
    """The file is opened anew where its producer came or went, and each page is of one moment. (matrix row 17)"""
    sensor_rows = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT '2026-01-01', i FROM n"
    )

    def create() -> None:
        os.umask(0o022)
        producer(shared, COUNTED, f"INSERT INTO t (time, v) {sensor_rows}").close()

    def produce() -> None:
        os.umask(0o022)
        for v in itertools.count(60_001):
            if stop.exists():
                break
            connection = sqlite3.connect(shared.database, timeout=30)
            connection.execute(INSERT, ("2026-01-01", v))
            connection.commit()
            connection.close()
            time.sleep(0.015)

    stop = shared.folder / "stop"
    assert as_user(PRODUCER, create)
    shared.database.parent.chmod(rights)
    os.chown(shared.database.parent, PRODUCER, PRODUCER)
    child = as_user_beside(PRODUCER, produce)
    for _ in range(4):
        assert stage.run({**shared.environ, "UPLOAD_BATCH_ROWS": "5000"}, user=user) == 0, stage.said()
    stop.touch()
    assert os.waitpid(child, 0)[1] == 0
    assert {file.stat().st_uid for file in shared.database.parent.iterdir()} == {PRODUCER}
    assert stage.run(shared.environ, user=user) == 0
    arrived = values(shared)
    assert len(arrived) > 60_010
    assert arrived == list(range(1, len(arrived) + 1))
    connection = sqlite3.connect(shared.database)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (len(arrived),)
    connection.close()


@privileged
@pytest.mark.parametrize(("mode", "status"), [("wal", 1), ("delete", 0)])
def test_a_wal_database_mounted_without_its_directory_is_refused_with_the_remedy(
    shared: Box, stage: Stage, mode: str, status: int
) -> None:
    """Its newest rows are in a file that is out of sight. (matrix row 18)"""
    add(connection := producer(shared, COUNTED, mode=mode), 1, 5)
    alone = shared.folder / "alone.db"
    alone.touch()
    mounts = [f"mount --bind {shared.database} {alone}"]
    (link := shared.folder / "link.db").symlink_to(alone)
    for path in (link, alone):
        assert stage.run({**shared.environ, "SQLITE_PATH": str(path)}, mounts=mounts) == status
    connection.close()
    assert values(shared) == ([1, 2, 3, 4, 5] if mode == "delete" else [])
    if mode == "wal":
        assert "Mount the directory" in stage.said()
        assert not Path(f"{alone}-wal").exists()


def test_a_locked_database_is_waited_for_and_left_to_the_next_cycle(box: Box, stage: Stage) -> None:
    """An exclusive lock is no failure of the source; nothing is lost. (matrix row 19)"""
    add(connection := producer(box, COUNTED, mode="delete"), 1, 5)
    connection.execute("PRAGMA locking_mode = exclusive")
    add(connection, 6, 7)
    for flags in ((), ("--check",)):
        assert stage.run(box.environ, *flags) == 1
        assert "locked" in stage.said()
        assert "PRAGMA locking_mode = NORMAL" in stage.said()
    connection.close()
    add(connection := producer(box, mode="delete"), 8, 9)
    assert stage.run(box.environ) == 0
    connection.close()
    assert values(box) == list(range(1, 10))


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_a_wal_database_whose_producer_keeps_its_index_to_itself_is_read(box: Box, stage: Stage, when: str) -> None:
    """In exclusive locking mode there is no -shm file, or it is locked; rows come from a private copy. (matrix row 19)"""
    connection = sqlite3.connect(box.database)
    for setting in ["locking_mode = exclusive", "journal_mode = wal"][:: 1 if when == "from the start" else -1]:
        connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
        connection.commit()
    add(connection, 1, 7)
    assert Path(f"{box.database}-shm").exists() == (when == "later")
    for _ in range(2):
        assert stage.run(box.environ) == 0
        assert stage.said().count("is copied in each cycle") == 1
        assert "locking_mode = NORMAL" in stage.said()
    assert stage.run(box.environ, "--check") == 0
    assert "is copied in each cycle" in stage.said()
    assert not list((box.folder / "state").glob("copy-*"))
    add(connection, 8, 9)
    connection.close()
    assert stage.run(box.environ) == 0
    assert "is copied" not in stage.said()
    assert values(box) == list(range(1, 10))


BUSY = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for pragma in ("locking_mode = exclusive", "journal_mode = wal", "synchronous = 0"):
    connection.execute("PRAGMA " + pragma)
connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER, x BLOB)")
connection.execute("CREATE INDEX i ON t (v)")
connection.execute("BEGIN")
many = [(v, 20_000) for v in range(4000)]
connection.executemany("INSERT INTO t (time, v, x) VALUES ('2026-01-01', ?, randomblob(?))", many)
connection.execute("COMMIT")
print("ready", flush=True)
v, end = 4000, time.monotonic() + 120
while time.monotonic() < end:
    with connection:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t (time, v) VALUES ('2026-01-02', ?)", [(v,), (v + 1,)])
        connection.execute("UPDATE t SET x = randomblob(9000) WHERE id = ?", (v % 4000 + 1,))
    v += 2
    print(v, flush=True)
    time.sleep(0.02)
"""


def test_a_large_database_is_read_while_its_producer_writes_fifty_times_a_second(box: Box, stage: Stage) -> None:
    """It checkpoints and begins its WAL anew meanwhile; each copy is whole, and has both rows of each commit. (matrix row 19)"""
    command = [sys.executable, "-c", BUSY, str(box.database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        for _ in range(3):
            assert stage.run(box.environ) == 0, stage.said()
            with up.Database(box.database, box.folder) as copy:
                assert copy.copied_bytes > 80_000_000
                assert copy.rows("PRAGMA integrity_check") == [("ok",)]
                assert copy.rows("SELECT count(*) % 2 = 0, count(*) = max(q.v) + 1 FROM t q") == [(1, 1)]
        assert process.poll() is None
        process.kill()
        written = int(process.stdout.read().split()[-1])
    assert 4000 < len(values(box)) <= written
    assert stage.run(box.environ) == 0
    arrived = values(box)
    assert arrived == list(range(len(arrived)))
    assert len(arrived) in (written, written + 2)


@privileged
def test_a_copy_that_the_disk_has_no_room_for_is_not_begun(shared: Box, stage: Stage) -> None:
    """The state needs what is left of it. (matrix rows 19 and 27)"""
    connection = sqlite3.connect(shared.database)
    connection.execute("PRAGMA locking_mode = exclusive")
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER, x BLOB)")
    connection.execute("INSERT INTO t (time, v, x) VALUES ('2026-01-01', 1, zeroblob(4000000))")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint")
    small = [f"mount -t tmpfs -o size=2m none {shared.folder / 'state'}"]
    assert stage.run(shared.environ, mounts=small) == 1
    assert "has to be copied: 3 MiB" in stage.said()
    assert "locking_mode = NORMAL" in stage.said()
    assert stage.run(shared.environ) == 0
    connection.close()
    assert values(shared) == [1]


@privileged
def test_a_hot_journal_waits_for_the_producer_and_no_uncommitted_row_is_sent(shared: Box, stage: Stage) -> None:
    """A producer was killed amid a transaction that had reached the file. (matrix row 20)"""
    shared.execute(COUNTED, INSERT, rows=rows(1, 5))
    many = "INSERT INTO t (time, v) WITH RECURSIVE n(i) AS (SELECT 6 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)"
    crashed(shared, f"PRAGMA cache_size = 2; PRAGMA synchronous = 0; BEGIN; {many} SELECT hex(zeroblob(99)), i FROM n")
    assert Path(f"{shared.database}-journal").stat().st_size
    for mounts in (read_only(shared.database.parent), []):
        assert stage.run(shared.environ, mounts=mounts, user=READER) == 1
    assert "waits for its producer" in stage.said()
    assert values(shared) == []
    shared.execute(INSERT, rows=rows(6, 7))
    assert stage.run(shared.environ, user=READER) == 0
    assert values(shared) == list(range(1, 8))


def test_after_a_damaged_page_was_mended_the_rest_follows(box: Box) -> None:
    """The position stays before the damage; nothing is skipped over. (matrix row 21)"""
    sensor_table.create(box.database, 20_000, index=False)
    whole = box.database.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    box.database.write_bytes(whole[:middle] + b"\xff" * 4096 + whole[middle + 4096 :])
    assert box.run() == 1
    assert box.run() == 1
    box.database.write_bytes(whole)
    assert box.run() == 0
    assert sorted(i for (i,) in box.arrived("id")) == list(range(1, 20_001))


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("scenario", ["raw", "sanitize", "aggregate"])
def test_damage_among_rows_that_were_delivered_keeps_no_new_ones_back(box: Box, scenario: str, share: float) -> None:
    """As memory cards wear: what was read before need not be read again. (matrix row 21)"""
    rules = {"sanitize": {"drop": ["v"]}, "aggregate": {"group_by": ["minute"], "aggregations": {"v": ["count"]}}}
    flags = [f"--enable-{scenario}", f"--{scenario}-config", json.dumps(rules[scenario])] if scenario in rules else []
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)",
        INSERT,
        rows=[(f"2026-01-01T00:{v // 600:02}:{v // 10 % 60:02}Z", v) for v in range(20_000)],
    )
    prefix = {"raw": "raw_", "sanitize": "secure_", "aggregate": "aggregated_"}[scenario]
    assert box.run(*flags) == 0
    sent = len(box.arrived(prefix=prefix))
    content = bytearray(box.database.read_bytes())
    leaves = [place for place in range(4096, len(content), 4096) if content[place] == 13]
    damaged = leaves[int(share * len(leaves))]
    content[damaged : damaged + 4096] = b"\xff" * 4096
    box.execute(INSERT, rows=[("2026-01-02T00:00:00Z", 7), ("2026-01-03T00:00:00Z", 8), ("2026-01-04T00:00:00Z", 9)])
    after = box.database.read_bytes()
    box.database.write_bytes(after[:damaged] + bytes(content[damaged : damaged + 4096]) + after[damaged + 4096 :])
    assert box.run(*flags) == 0
    assert len(box.arrived(prefix=prefix)) == sent + 3 > 3


@pytest.mark.parametrize("size", [99, 4096, 5000, 8192, 8193, 12_000, 16_383])
@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_of_a_file_that_is_cut_off_nothing_is_sent_until_it_is_whole(box: Box, size: int, journal: str) -> None:
    """As while it is copied: SQLite takes what a last page lacks for zeros, and rows with it. (matrix row 21)"""
    box.execute(f"PRAGMA journal_mode = {journal}", COUNTED, INSERT, rows=rows(1, 300))
    whole = box.database.read_bytes()
    assert len(whole) > 16_384
    box.database.write_bytes(whole[:size])
    assert box.run() == 1
    assert box.arrived() == []
    box.database.write_bytes(whole)
    assert box.run() == 0
    assert values(box) == list(range(1, 301))


def test_rows_that_are_not_where_their_rowids_belong_end_the_run(box: Box, capfd: pytest.CaptureFixture[str]) -> None:
    """Half of a page was never written, and reads as rows of rowid 0. (matrix row 21)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 300))
    whole = box.database.read_bytes()
    where = whole.rindex(b"2026") // 4096 * 4096 + 3584
    box.database.write_bytes(whole[:where] + b"\0" * 512 + whole[where + 512 :])
    assert box.run() == 1
    assert "out of order" in capfd.readouterr().err
    assert box.run() == 1
    arrived = values(box)
    assert arrived == list(range(1, len(arrived) + 1))
    box.database.write_bytes(whole)
    assert box.run() == 0
    assert values(box) == list(range(1, 301))


def test_pages_in_each_others_place_end_the_run_before_their_rows(box: Box, capfd: pytest.CaptureFixture[str]) -> None:
    """Rows would be missed or come twice: a look for a rowid goes to one page, and those behind it to another. (row 21)"""
    box.execute(
        COUNTED,
        INSERT,
        rows=[(f"2026-01-01T{v // 3600:02}:{v // 60 % 60:02}:{v % 60:02}Z", v) for v in range(1, 20_001)],
    )
    whole = box.database.read_bytes()
    pages = [whole[place : place + 4096] for place in range(0, len(whole), 4096)]
    leaves = [number for number, page in enumerate(pages) if page[0] == 13 and number]
    low, high = leaves[3 * len(leaves) // 4], leaves[3 * len(leaves) // 4 + 3]
    pages[low], pages[high] = pages[high], pages[low]
    box.database.write_bytes(b"".join(pages))
    assert box.run() == 1
    assert "out of order from rowid" in capfd.readouterr().err
    arrived = values(box)
    assert 1000 < len(arrived) < 19_000 and arrived == list(range(1, len(arrived) + 1))
    box.database.write_bytes(whole)
    assert box.run() == 0
    assert values(box) == list(range(1, 20_001))


def test_a_recreated_file_is_noticed_where_times_are_days(box: Box) -> None:
    """Rows of the same day at the same rowids are not the rows that were delivered. (matrix row 22)"""
    box.execute(COUNTED, INSERT, rows=[("2026-01-01", v) for v in range(1, 41)])
    assert box.run() == 0
    box.database.unlink()
    box.execute(COUNTED, INSERT, rows=[("2026-01-01", v) for v in range(101, 161)])
    assert box.run() == 0
    assert values(box) == [*range(1, 41), *range(101, 161)]


@crossed(table=[PLAIN, KEYED, COUNTED], more=[1, 2, 5, 40, 60], repeated=[1, 2, 5])
def test_a_recreated_file_is_noticed_where_some_times_repeat(box: Box, table: str, more: int, repeated: int) -> None:
    """A box without a clock battery begins each start at the same time. (matrix row 22)"""
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.database.unlink()
    new = rows(101, 100 + more, year=2027)
    same = [(time, v) for (time, _), (_, v) in zip(rows(1, repeated), new, strict=False)]
    box.execute(table, INSERT, rows=[*same, *new[len(same) :]])
    assert box.run() == 0
    assert box.run() == 0
    assert values(box) == [*range(1, 41), *range(101, 101 + more)]


@pytest.mark.parametrize("more", [5, 10])
def test_a_recreated_file_is_noticed_after_a_vacuum(box: Box, more: int) -> None:
    """Anchors reach back to the first row also after rowids were numbered anew. (matrix rows 9 and 22)"""
    box.execute(PLAIN, INSERT, rows=rows(1, 100))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE v < 20", INSERT, rows=rows(101, 102))
    box.execute("VACUUM")
    assert box.run() == 0
    box.database.unlink()
    box.execute(PLAIN, INSERT, rows=rows(103, 102 + more, year=2027))
    assert box.run() == 0
    assert values(box) == list(range(1, 103 + more))


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
@pytest.mark.parametrize("deleted", [0, 20, 39])
def test_an_upgrade_of_the_producer_sends_nothing_again(box: Box, table: str, deleted: int) -> None:
    """It adds a column, deletes old rows and runs VACUUM, all between two cycles. (matrix rows 9 and 22)"""
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.execute("ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5", f"DELETE FROM t WHERE v <= {deleted}")
    box.execute("VACUUM")
    box.execute("INSERT INTO t (time, v) VALUES (?, ?)", rows=rows(41, 45))
    assert box.run() == 0
    assert values(box) == list(range(1, 46))


@pytest.mark.parametrize("how", ["unlink", "rename", "truncate"])
def test_a_service_follows_a_file_that_is_replaced_while_it_runs(box: Box, how: str) -> None:
    """An open file would go on showing the old rows for ever. (matrix row 22)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    with continuous(box.environ) as process:
        assert eventually(lambda: values(box) == list(range(1, 11)), process)
        if how == "truncate":
            box.database.write_bytes(b"")
        elif how == "unlink":
            box.database.unlink()
        aside = Box.__new__(Box)
        aside.database = box.database.with_name("new.db") if how == "rename" else box.database
        aside.execute(COUNTED, INSERT, rows=rows(101, 120))
        if how == "rename":
            aside.database.rename(box.database)
        assert eventually(lambda: values(box) == [*range(1, 11), *range(101, 121)], process)
        assert process.poll() is None


@pytest.mark.parametrize("call", range(1, 25))
def test_a_file_that_goes_away_amid_a_cycle_is_an_error_that_passes(box: Box, stage: Stage, call: int) -> None:
    """The real producer deletes its file at each start. (matrix row 22)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    gone = {"at": ["Database.table"], "call": call, "when": "before", "do": "run"}
    status = stage.run(box.environ, "--batch-rows", "4", plan=[{**gone, "command": ["rm", "-f", str(box.database)]}])
    assert status in (0, 1), stage.said()
    before = values(box)
    box.execute(COUNTED, INSERT, rows=rows(101, 120))
    assert stage.run(box.environ) == 0
    assert values(box) == [*before, *range(101, 121)]


@pytest.mark.parametrize("named", [(), ("--table", "t")])
def test_a_dropped_table_is_an_error_that_a_service_survives(box: Box, named: tuple[str, ...]) -> None:
    """The state is kept; rows of a table that comes back are delivered. (matrix row 23)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run(*named) == 0
    before = box.state()
    box.execute("DROP TABLE t")
    assert box.run(*named) != 0
    assert box.state()["position"] == before["position"]
    assert box.state()["anchors"] == before["anchors"]
    with continuous(box.environ, *named) as process:
        assert not eventually(lambda: process.poll() is not None, process, seconds=3)
        box.execute(COUNTED, INSERT, rows=rows(101, 120))
        assert eventually(lambda: values(box) == [*range(1, 11), *range(101, 121)], process)


def test_values_of_a_column_whose_type_changed_are_set_aside(box: Box) -> None:
    """They don't fit the target's column; they are not bent. (matrix row 25)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    assert box.run() == 0
    box.execute("ALTER TABLE t RENAME TO old", COUNTED.replace("v INTEGER", "v TEXT"))
    box.execute("INSERT INTO t (id, time, v) SELECT id, time, v FROM old", "DROP TABLE old")
    box.execute(INSERT, rows=[("2026-01-02", "4"), ("2026-01-02", "warm")])
    assert box.run() == up.QUARANTINED
    assert values(box) == [1, 2, 3, 4]
    assert [line["row"]["v"] for line in box.quarantined()] == ["warm"]


@pytest.mark.parametrize("call", range(18, 40))
def test_a_column_that_is_renamed_amid_a_cycle_is_never_read_as_its_own_name(box: Box, stage: Stage, call: int) -> None:
    """SQLite takes a quoted name that it does not know for a string. (matrix rows 24 and 25)"""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
    box.execute(INSERT, rows=rows(1, 10))
    rename = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('ALTER TABLE t RENAME COLUMN v TO w')"
    renamed = {"at": ["Database.table"], "call": call, "when": "before", "do": "run"}
    command = [sys.executable, "-c", rename, str(box.database)]
    assert stage.run(box.environ, "--batch-rows", "4", plan=[{**renamed, "command": command}]) in (0, 1)
    assert stage.run(box.environ) == 0
    assert box.quarantined() == []
    assert sorted(i for (i,) in box.arrived("id")) == list(range(1, 11))


@pytest.mark.parametrize("call", range(11, 18))
def test_a_key_that_is_renamed_amid_a_cycle_by_time_is_waited_for(box: Box, stage: Stage, call: int) -> None:
    box.execute("CREATE TABLE t (k TEXT PRIMARY KEY, time TEXT, v INTEGER) WITHOUT ROWID")
    box.execute("INSERT INTO t VALUES (?, '2026-01-01', ?)", rows=[(f"k{v}", v) for v in range(10)])
    rename = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('ALTER TABLE t RENAME COLUMN k TO kk')"
    renamed = {"at": ["Database.table"], "call": call, "when": "before", "do": "run"}
    command = [sys.executable, "-c", rename, str(box.database)]
    assert stage.run(box.environ, plan=[{**renamed, "command": command}]) in (0, 1), stage.said()[-900:]
    assert stage.run(box.environ) == 0
    assert sorted(box.arrived("v")) == [(v,) for v in range(10)]


@pytest.mark.parametrize("named", [(), ("--table", "t")])
def test_a_service_that_starts_before_its_producer_waits_and_makes_no_file(box: Box, named: tuple[str, ...]) -> None:
    """Neither the file nor, later, the table is there yet. (matrix row 26)"""
    assert box.run(*named) == 1
    assert not box.database.exists()
    with continuous(box.environ, *named) as process:
        assert not eventually(lambda: process.poll() is not None or box.database.exists(), process, seconds=2)
        box.database.touch()
        assert not eventually(lambda: process.poll() is not None, process, seconds=2)
        box.execute(COUNTED, INSERT, rows=rows(1, 10))
        assert eventually(lambda: values(box) == list(range(1, 11)), process)


@privileged
def test_nothing_but_the_state_directory_has_to_be_writable(shared: Box, stage: Stage) -> None:
    """The root filesystem is read-only and there is no /tmp. (matrix row 53)"""
    sensor_table.create(shared.database, 60_000, index=False)
    shared.execute("CREATE VIEW v AS SELECT * FROM sensor_readings")
    kept = [shared.folder / "state", shared.folder / "lake"]
    mounts = [*(f"mount --bind {place} {place}" for place in kept), "mount -o remount,bind,ro /"]
    environ = {**shared.environ, "UPLOAD_CURSOR": "timestamp", "SQLITE_TABLE_NAME": "v"}
    assert stage.run(environ, mounts=mounts) == 0, stage.said()
    assert rows_of(shared.table(), "count(*), count(DISTINCT id)") == [(60_000, 60_000)]
    assert {"latest", "seen", "pass"} <= json.loads(shared.state_file.read_text())["position"].keys()
