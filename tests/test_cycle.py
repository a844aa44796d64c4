"""Chapter Cycle: exactly once, whatever step a run ends at; bad rows set aside; a second process refused."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import threading
from itertools import product
from typing import Any

import pytest

import sensor_table
import sqlite_to_databricks_uploader as up
from boxes import PROGRAM, Box, interrupted_at, same_rows

# Every column but the time, which arrives as a timestamp.
READINGS = ", ".join(name for name in sensor_table.COLUMNS if name != "timestamp")


def test_the_sample_arrives_once_and_late_ties_follow(box: Box) -> None:
    box.sample()
    assert box.run() == 0
    assert same_rows(box.arrived(READINGS), box.source(READINGS))
    assert box.run() == 0
    box.execute(
        """INSERT INTO sensor_readings (timestamp, sensor_id)
           SELECT '2020-01-01T00:00:00.000+00:00', 'late' FROM sensor_readings LIMIT 1000"""
    )
    assert box.run("--batch-rows", "61") == 0
    assert len(box.arrived("id")) == 4000
    assert same_rows(box.arrived(READINGS), box.source(READINGS))


def test_times_arrive_as_utc_timestamps_and_the_state_names_the_latest(box: Box) -> None:
    box.sample()
    assert box.run() == 0
    arrived = box.arrived("id, timestamp")
    source = dict(box.source("id, timestamp"))
    assert all(time.isoformat(timespec="milliseconds") == source[key] for key, time in arrived)
    assert box.state()["last_upload"] == max(time for _, time in arrived).isoformat()


def test_nothing_new_touches_neither_state_nor_target(box: Box) -> None:
    box.sample()
    assert box.run() == 0
    before = box.state_file.stat().st_mtime_ns, box.table().version()
    assert box.run() == 0
    assert (box.state_file.stat().st_mtime_ns, box.table().version()) == before


GROUPS = ("--enable-aggregate", "--aggregate-config", '{"group_by": "minute", "aggregations": {"rows": "count"}}')


@pytest.mark.parametrize(
    "flags", [["--cursor", "rowid"], ["--cursor", "timestamp"], GROUPS], ids=["rowid", "timestamp", "aggregate"]
)
def test_a_cycle_ends_also_where_a_row_comes_in_at_each_of_its_steps(
    box: Box, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    """Else a busy table is sent in ever smaller commits, and keeps all other tables waiting."""
    insert = """INSERT INTO readings (timestamp, v)
                VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 1790000000 + 30 * ?, 'unixepoch'), 1)"""
    box.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY, timestamp TEXT, v REAL)")
    box.execute(insert, rows=[(number,) for number in range(20)])
    real, came = up.DeltaTarget.prepare, list[int]()

    def busy(self: up.DeltaTarget, pages: up.Pages) -> Any:
        came.append(20 + len(came))
        box.execute(insert, rows=[(came[-1],)])
        assert len(came) < 20, "it does not end"
        return real(self, pages)

    monkeypatch.setattr(up.DeltaTarget, "prepare", busy)
    assert box.run(*flags) == 0
    monkeypatch.undo()
    assert box.run(*flags) == 0
    if "--cursor" in flags:
        assert len(box.arrived("id")) == 20 + len(came)


@pytest.mark.parametrize(("step", "when", "call"), list(product(["save", "send"], ["before", "after"], [1, 2, 3, 4])))
def test_a_kill_at_each_step_neither_loses_nor_doubles(
    box: Box, monkeypatch: pytest.MonkeyPatch, step: str, when: str, call: int
) -> None:
    box.sample()
    interrupted_at(up.StateFile if step == "save" else up.DeltaTarget, step, when, call, monkeypatch.setattr)
    if (step, call) == ("send", 4):
        assert box.run("--batch-rows", "1000") == 0
    else:
        with pytest.raises(KeyboardInterrupt):
            box.run("--batch-rows", "1000")
    monkeypatch.undo()
    assert box.run() == 0
    assert sorted(box.arrived("id")) == [(i,) for i in range(1, 3001)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_rows_that_a_killed_run_set_aside_are_told_by_the_next(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """Their file was there before it began."""
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES ('2026-01-02', 2), ('2026-01-03', 'bad')")
    with monkeypatch.context() as patch:
        interrupted_at(up.DeltaTarget, "send", when, 1, patch.setattr)
        with pytest.raises(KeyboardInterrupt):
            box.run()
    caplog.clear()
    assert box.run() == up.QUARANTINED
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("1 row in quarantine: ") and "v is no whole number" in warning


def test_rows_that_were_edited_since_their_commit_are_not_said_to_be_in_quarantine(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They arrived as they were."""
    box.execute(
        "CREATE TABLE t (time TEXT, v INTEGER)", *[f"INSERT INTO t VALUES ('2026-01-0{v}', {v})" for v in (1, 2)]
    )
    with monkeypatch.context() as patch:
        interrupted_at(up.DeltaTarget, "send", "after", 1, patch.setattr)
        with pytest.raises(KeyboardInterrupt):
            box.run()
    box.execute("UPDATE t SET v = 'bad' WHERE v = 1")
    caplog.clear()
    assert box.run() == 0
    assert box.arrived("v") == [(1,), (2,)] and box.quarantined() == []
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


POISON = [
    (1, "2026-01-01T00:00:01Z", 1.5, 7, "fine"),
    (2, "2026-01-01T00:00:02Z", "warm", 7, "text among numbers"),
    (3, "2026-01-01T00:00:03Z", 1.5, 1.7, "a fraction among integers"),
    (4, "2026-01-01T00:00:04Z", 1.5, 2.0**64, "an integer of 65 bits"),
    (5, "2026-01-01T00:00:05Z", 1.5, 7, b"a blob among text"),
    (6, "yesterday", 1.5, 7, "no time"),
    (7, "2026-01-01T00:00:07Z", float("inf"), 2**53 + 1, "an embedded \0 NUL"),
    (8, None, None, None, None),
]


def poisoned(box: Box) -> None:
    """A first run of a good row, which makes the table; then rows of which most can't be delivered."""
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, real REAL, whole INTEGER, text TEXT)",
        "INSERT INTO t VALUES (?, ?, ?, ?, ?)",
        rows=POISON[:1],
    )
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows=POISON[1:])
    box.execute("INSERT INTO t VALUES (9, '2026-01-01T00:00:09Z', 1, 1, CAST(x'ff' AS TEXT))")


def test_bad_rows_go_to_quarantine_with_a_reason_and_the_others_arrive(box: Box) -> None:
    poisoned(box)
    assert box.run() == up.QUARANTINED
    assert box.arrived("id, real, whole, text") == sorted(
        [(i, real, whole, text) for i, _, real, whole, text in POISON if i in (1, 7, 8)], key=repr
    )
    lines = box.quarantined()
    assert [line["key"] for line in lines] == [2, 3, 4, 5, 6, 9]
    assert [line["reason"].split()[0] for line in lines] == ["real", "whole", "whole", "text", "time", "text"]
    assert lines[0]["row"]["real"] == "warm"
    assert box.run() == 0
    assert len(box.arrived("id")) == 3


def test_more_bad_rows_than_allowed_stop_the_run_and_nothing_is_sent(box: Box) -> None:
    poisoned(box)
    assert box.run("--max-bad-rows", "5") == 1
    assert box.arrived("id") == [(1,)]
    assert box.quarantined() == []
    assert box.run("--max-bad-rows", "6") == up.QUARANTINED


def test_bad_rows_of_a_batch_that_was_too_large_are_counted_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(box)
    prepare, tried = up.DeltaTarget.prepare, []

    def once_too_large(target: up.DeltaTarget, pages: up.Pages) -> up.Payload:
        tried.append(list(pages()))
        if len(tried) == 1:
            raise up.TooLargeError("too large", fitting=9)
        return prepare(target, pages)

    monkeypatch.setattr(up.DeltaTarget, "prepare", once_too_large)
    assert box.run("--max-bad-rows", "6") == up.QUARANTINED
    assert len(box.quarantined()) == 6


@pytest.mark.parametrize("flags", [[], ["--dry-run"], ["--check"]], ids=lambda flags: "".join(flags))
def test_a_target_that_lost_commits_stops_the_run_and_what_looks_for_faults(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    box.sample()
    assert box.run() == 0
    (box.folder / "lake").rename(box.folder / "gone")
    box.execute("INSERT INTO sensor_readings (timestamp, sensor_id) VALUES ('2027-01-01', 'x')")
    capsys.readouterr()
    assert box.run(*flags) == 1
    said = caplog.text + capsys.readouterr().out
    assert "has lost commits" in said
    assert "a page to log in" in said


def test_all_rows_of_a_cycle_are_counted_also_those_before_a_refused_one(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    insert = "INSERT INTO t VALUES ('2026-01-01', ?)"
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", insert, rows=[(0,)])
    assert box.run() == 0
    box.table().alter.add_constraint({"small": "v < 100"})
    box.execute(insert, rows=[(v,) for v in (1, 2, 1000, 4)])
    assert box.run("--batch-rows", "2") == up.QUARANTINED
    assert "3 rows sent in 2 commits" in caplog.text and "1 to quarantine" in caplog.text


def test_a_stop_also_ends_the_search_for_a_row_that_the_target_refuses(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows after it wait for the next run, however many there are."""
    insert = "INSERT INTO t VALUES ('2026-01-01', ?)"
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", insert, rows=[(0,)])
    assert box.run() == 0
    box.table().alter.add_constraint({"small": "v < 100"})
    box.execute(insert, rows=[(1000,), *((v,) for v in range(1, 100))])
    stop, rejected = threading.Event(), up.RowSource.rejected

    def rejected_and_stop(*arguments: Any) -> list[up.BadRow]:
        stop.set()
        return rejected(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(up, "stop_event", lambda _: stop)
        patch.setattr(up.RowSource, "rejected", rejected_and_stop)
        assert box.run() == up.QUARANTINED
    assert box.arrived("v") == [(0,)]
    assert box.run() == 0
    assert len(box.arrived("v")) == 100


@pytest.mark.parametrize("rows", [3_000, 120_000])
@pytest.mark.parametrize("ties", [0, 700])
@pytest.mark.parametrize("cursor", ["rowid", "timestamp"])
def test_a_corrupt_page_stops_the_run_after_the_rows_before_it(box: Box, cursor: str, ties: int, rows: int) -> None:
    with contextlib.closing(sqlite3.connect(box.database)) as database, database:
        key = (
            "id INTEGER PRIMARY KEY)" if cursor == "rowid" else "id INTEGER, PRIMARY KEY (timestamp, id)) WITHOUT ROWID"
        )
        database.execute(f"CREATE TABLE sensor_logs (timestamp INTEGER, {key}")
        times = ((1_790_000_000 + (each // ties * ties if ties else each), each) for each in range(rows))
        database.executemany("INSERT INTO sensor_logs VALUES (?, ?)", times)
    content = bytearray(box.database.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    box.database.write_bytes(content)
    good, order = list[int](), "id" if cursor == "rowid" else "timestamp, id"
    with contextlib.closing(sqlite3.connect(box.database)) as database, pytest.raises(sqlite3.DatabaseError):
        good.extend(each for (each,) in database.execute(f"SELECT id FROM sensor_logs ORDER BY {order}"))
    for _ in range(2):
        assert box.run() == 1
        arrived = sorted(each for (each,) in box.arrived("id"))
        assert len(arrived) in (len(good), len(good) + 1)  # Python reads one row ahead.
        assert arrived == [*range(len(arrived))]


def test_the_continuous_mode_ends_cleanly_on_sigterm_while_it_waits(box: Box) -> None:
    box.sample()
    environ = {key: value for key, value in box.environ.items() if key != "ONCE"}
    process = subprocess.Popen(PROGRAM, env=environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    while "rows sent" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=120) == 0
    process.stderr.close()
    assert len(box.arrived("id")) == 3000


def test_a_failed_cycle_is_followed_by_the_next_one() -> None:
    stop, calls = threading.Event(), []

    def one_cycle() -> up.Tally:
        calls.append(1)
        if len(calls) == 1:
            raise up.TransientError("busy")
        stop.set()
        return up.Tally()

    up.run_for_ever(one_cycle, 0, stop, stop.wait)
    assert len(calls) == 2
