"""Chapter Cursor: whether a table is still the one whose rows were delivered, whatever was done to it or its file."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from boxes import Box, crossed, examples

KEYS = {"counted": "id INTEGER PRIMARY KEY AUTOINCREMENT, ", "keyed": "id INTEGER PRIMARY KEY, ", "plain": ""}
TIMES = {"distinct": 1, "repeated": 10, "equal": 1000}
INSERT = "INSERT INTO t (time, a, z) VALUES (?, ?, 'z')"


def table(key: str) -> str:
    return f"CREATE TABLE t ({KEYS[key]}time TEXT, a INTEGER, z TEXT)"


def rows(first: int, last: int, per_second: int, year: int = 2026) -> list[tuple[str, int]]:
    """Rows a = first to last, so many to a second."""
    seconds = [v // per_second for v in range(first, last + 1)]
    times = [f"{year}-01-01T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}Z" for s in seconds]
    return list(zip(times, range(first, last + 1), strict=True))


def rebuilt(key: str) -> list[str]:
    """A table made anew with its columns in another order, as SQLite's documentation does what ALTER TABLE can't."""
    rowid = "id" if KEYS[key] else "rowid"
    return [
        f"CREATE TABLE n ({KEYS[key]}z TEXT, a INTEGER, time TEXT)",
        f"INSERT INTO n ({rowid}, time, a, z) SELECT {rowid}, time, a, z FROM t", "DROP TABLE t",
        "ALTER TABLE n RENAME TO t",
    ]  # fmt: skip


CHANGES: dict[str, Callable[[str], list[str]]] = {
    "drop column": lambda key: ["ALTER TABLE t DROP COLUMN z"],
    "drop the telling column": lambda key: ["ALTER TABLE t DROP COLUMN a"],
    "add column": lambda key: ["ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5"],
    "rename column": lambda key: ["ALTER TABLE t RENAME COLUMN z TO y"],
    "rebuild": rebuilt,
    "update": lambda key: ["UPDATE t SET z = 'y'"],
    "update of the newest row and add column": lambda key: [
        "UPDATE t SET z = 'y' WHERE a = 50",
        "ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5",
    ],
    "update of the newest rows and vacuum": lambda key: ["UPDATE t SET z = 'y', a = 51 WHERE a > 47", "VACUUM"],
    "update of what tells rows apart": lambda key: ["UPDATE t SET a = a + 1000"],
    "vacuum": lambda key: ["DELETE FROM t WHERE a % 3 = 0", "VACUUM"],
    "vacuum without the newest row": lambda key: ["DELETE FROM t WHERE a % 3 = 0 OR a = 50", "VACUUM"],
    "vacuum and drop column": lambda key: ["DELETE FROM t WHERE a < 9", "ALTER TABLE t DROP COLUMN z", "VACUUM"],
    "update and add column": lambda key: ["UPDATE t SET z = a", "ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5"],
    "update and rebuild": lambda key: ["UPDATE t SET z = 'y'", *rebuilt(key)],
}

# What nothing can tell from rows that gave way to others of the same times: the run stops and asks.
ASKS = {("update of what tells rows apart", "equal", "keyed"), ("update of what tells rows apart", "equal", "plain")}


def outcome(box: Box, *flags: str) -> str:
    """What a run did, and then a second one with a new row: each row once, or not one more and an error."""
    before = box.state_file.read_bytes()
    status = box.run(*flags)
    if status == 0:
        connection = sqlite3.connect(box.database)
        [(time,)] = connection.execute("SELECT '2026-06-01T00:00:00Z'")
        connection.execute("INSERT INTO t (time) VALUES (?)", (time,))
        connection.commit()
        connection.close()
        assert box.run() == 0
        return f"sent {len(box.arrived('time')) - 1}"
    assert box.state_file.read_bytes() == before
    return "asks" if len(box.arrived("time")) == 50 else "wrong"


@crossed(change=[*CHANGES], times=[*TIMES], key=[*KEYS])
def test_a_table_that_is_altered_or_edited_sends_no_row_again(box: Box, change: str, times: str, key: str) -> None:
    box.execute(table(key), INSERT, rows=rows(1, 50, TIMES[times]))
    assert box.run() == 0
    for statement in CHANGES[change](key):
        box.execute(statement)
    assert outcome(box) == ("asks" if (change, times, key) in ASKS else "sent 50")


@pytest.mark.parametrize("key", KEYS)
def test_rows_of_equal_times_altered_or_edited_in_what_tells_them_are_told_by_their_counter(box: Box, key: str) -> None:
    test_a_table_that_is_altered_or_edited_sends_no_row_again(box, "update of what tells rows apart", "equal", key)


@crossed(change=["nothing", *CHANGES], before=["time", "none"], key=[*KEYS])
def test_a_table_is_known_where_another_column_tells_the_time_since(
    box: Box, change: str, before: str, key: str
) -> None:
    box.execute(table(key), INSERT, rows=rows(1, 50, 1))
    assert box.run("--timestamp-col", before) == 0
    for statement in CHANGES[change](key) if change in CHANGES else []:
        box.execute(statement)
    for number, now in enumerate([{"time": "none", "none": "time"}[before]] * 2, start=51):
        box.execute("INSERT INTO t (time) VALUES ('2026-06-01T00:00:00Z')")
        assert box.run("--timestamp-col", now) == 0
        assert len(box.arrived("time")) == number


def test_rows_go_on_where_times_are_found_in_later_ones_only(box: Box) -> None:
    box.execute("CREATE TABLE e (id INTEGER PRIMARY KEY, happened_at INTEGER)", "INSERT INTO e VALUES (1, NULL)")
    assert box.run() == 0
    for number in range(2, 5):
        box.execute("INSERT INTO e (happened_at) VALUES (1767225600000)")
        assert box.run() == 0
        assert len(box.arrived("happened_at")) == number
    assert box.state()["time_column"] == "happened_at"


@pytest.mark.parametrize("flags", [("--cursor", "timestamp"), ("--enable-aggregate", "1", "--flush")])
def test_a_position_by_the_times_of_one_column_is_none_by_those_of_another(
    box: Box, flags: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Rows whose other time is later than the position would be sent again, earlier ones be lost."""
    if "--flush" in flags:
        flags += ("--aggregate-config", '{"group_by": ["hour"], "aggregations": {"n": "count"}}')
    box.execute("CREATE TABLE e (id INTEGER PRIMARY KEY, made TEXT, seen TEXT)")
    box.execute("INSERT INTO e VALUES (1, '2026-01-01', '2026-01-02')")
    assert box.run(*flags, "--timestamp-col", "made") == 0
    before = box.state_file.read_bytes()
    assert box.run(*flags, "--timestamp-col", "seen") == 1
    assert "belongs to time column made, not seen" in caplog.text
    assert box.state_file.read_bytes() == before
    box.execute("ALTER TABLE e DROP COLUMN seen", "ALTER TABLE e RENAME COLUMN made TO seen")
    assert box.run(*flags, "--timestamp-col", "seen") == 0


@crossed(how=["file", "table", "truncated", "overwritten"], count=[1, 20, 50, 80], times=[*TIMES], key=[*KEYS])
def test_a_table_that_is_made_anew_or_emptied_sends_its_new_rows(
    box: Box, how: str, count: int, times: str, key: str
) -> None:
    box.execute(table(key), INSERT, rows=rows(1, 50, TIMES[times]))
    assert box.run() == 0
    new = rows(101, 100 + count, TIMES[times], year=2027)
    if how == "file":
        box.database.unlink()
        box.execute(table(key), INSERT, rows=new)
    elif how == "overwritten":
        box.database.write_bytes(b"")
        box.execute(table(key), INSERT, rows=new)
    elif how == "table":
        box.execute("DROP TABLE t", table(key), INSERT, rows=new)
    else:
        box.execute("DELETE FROM t", INSERT, rows=new)
    assert box.run() == 0
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 51), *range(101, 101 + count)]


SPELLINGS = [
    "replace(time, ' ', 'T') || 'Z'",
    "time || '.000000'",
    "unixepoch(time)",
    "replace(time, ' ', 'T') || '+00:00'",
]


@crossed(step=[0, 1], key=[*KEYS], spelled=SPELLINGS)
def test_times_in_another_spelling_are_the_same_times(box: Box, key: str, spelled: str, step: int) -> None:
    """As a migration of the producer's writes them."""
    box.execute(f"CREATE TABLE t ({KEYS[key]}time, v REAL)")
    insert = "INSERT INTO t (time, v) VALUES (?, ?)"
    box.execute(insert, rows=[(f"2026-01-01 00:00:{step * i:02}", i) for i in range(20)])
    assert box.run() == 0
    box.execute(f"UPDATE t SET time = {spelled}")
    assert box.run() == 0
    box.execute(insert, rows=[("2026-01-02T00:00:00Z", 20)])
    assert box.run() == 0
    assert box.run() == 0
    assert sorted(box.arrived("v")) == [(float(i),) for i in range(21)]


MADE_ANEW = [("DELETE FROM t",), ("DROP TABLE t", "CREATE"), ("ALTER TABLE t RENAME TO old", "CREATE")]


@pytest.mark.parametrize("how", MADE_ANEW, ids=["emptied", "dropped", "renamed"])
@pytest.mark.parametrize("key", ["", "id INTEGER PRIMARY KEY, "])
def test_fewer_rows_with_later_times_are_new_though_their_values_come_again(
    box: Box, key: str, how: tuple[str, ...]
) -> None:
    """As a producer that counts from 0 writes them at each start."""
    create, insert = f"CREATE TABLE t ({key}time TEXT, v INTEGER)", "INSERT INTO t (time, v) VALUES (?, ?)"
    box.execute(create)
    box.execute(insert, rows=[(f"2026-01-01T00:00:{i:02}Z", i) for i in range(50)])
    assert box.run("--table", "t") == 0
    box.execute(*(create if statement == "CREATE" else statement for statement in how))
    box.execute(insert, rows=[(f"2026-01-02T00:00:{i:02}Z", i) for i in range(30)])
    assert box.run("--table", "t") == 0
    assert len(box.arrived()) == 80


@pytest.mark.parametrize("key", KEYS)
def test_a_file_that_is_made_anew_sends_all_its_rows_though_they_are_more_and_earlier(box: Box, key: str) -> None:
    """Only the file itself tells: no rowid is missing, no time is later. The old file stays, and with it its inode."""
    box.execute(table(key), INSERT, rows=rows(1, 50, 1))
    assert box.run() == 0
    box.database.rename(box.database.with_name("old.db"))
    box.execute(table(key), INSERT, rows=rows(101, 180, 1, year=1999))
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 51), *range(101, 181)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("gone", [2, 9])
@pytest.mark.parametrize("more", [0, 3])
def test_rows_at_the_rowids_of_deleted_ones_are_new_where_the_newest_has_the_old_time(
    box: Box, key: str, gone: int, more: int
) -> None:
    """Of the rows in place of deleted ones the first has another time: those behind it are none of the old ones."""
    box.execute(table(key), INSERT, rows=[("2026-01-01T00:00:00Z", a) for a in range(1, 50)] + [("2026-01-02", 50)])
    assert box.run() == 0
    new = [("2026-01-02", a) for a in range(51, 51 + gone + more)]
    box.execute(f"DELETE FROM t WHERE a > {50 - gone}", INSERT, rows=new)
    assert box.run() == 0
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == list(range(1, 51 + gone + more))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("gone", [10, 50])
def test_fewer_rows_of_an_equal_time_in_place_of_deleted_ones_are_sent_or_asked_about(
    box: Box, key: str, gone: int
) -> None:
    """Nothing tells them from delivered rows that were edited, but that AUTOINCREMENT gives no rowid twice."""
    box.execute(table(key), INSERT, rows=[("2026-01-01", a) for a in range(1, 51)])
    assert box.run() == 0
    before = box.state_file.read_bytes()
    new = [("2026-01-01", a) for a in range(101, 107)]
    box.execute(f"DELETE FROM t WHERE a > {50 - gone}", INSERT, rows=new)
    assert box.run() == (0 if key == "counted" else 1)
    if key == "counted":
        assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 51), *range(101, 107)]
    else:
        assert box.state_file.read_bytes() == before


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("order", ["a DESC", "a % 5, a"], ids=["falling", "by sensor"])
@pytest.mark.parametrize("count", [20, 50])
def test_a_table_without_a_key_that_is_rebuilt_in_another_order_is_asked_about(
    box: Box, key: str, order: str, count: int
) -> None:
    box.execute(table(key), INSERT, rows=rows(1, count, 1))
    assert box.run() == 0
    box.execute("CREATE TABLE n (time TEXT, a INTEGER, z TEXT)",
                f"INSERT INTO n SELECT time, a, z FROM t ORDER BY {order}",
                "DROP TABLE t", "ALTER TABLE n RENAME TO t")  # fmt: skip
    assert box.run() == 1
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, count + 1)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("change", ["add column", "drop column", "update", "vacuum"])
def test_a_table_whose_first_rows_were_deleted_before_a_change_is_known_when_it_is_made_anew(
    box: Box, change: str, key: str
) -> None:
    """The new file has fewer rows than were deleted, and some of their times are late."""
    box.execute(table(key), INSERT, rows=rows(1, 200, 1))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE a < 120")
    box.execute(CHANGES[change](key)[-1])
    assert box.run() == 0
    box.execute("INSERT INTO t (time, a) VALUES (?, ?)", rows=rows(201, 205, 1))
    assert box.run() == 0
    box.database.unlink()
    box.execute(
        table(key), INSERT, rows=[("2026-01-01T00:00:07Z", 301), ("2026-01-01T00:05:00Z", 302), ("2020-01-01", 303)]
    )
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 206), 301, 302, 303]


@crossed(how=["replaced", "overwritten", "backed up and back"], times=[*TIMES], key=[*KEYS])
def test_a_file_that_is_restored_sends_no_row_again(box: Box, how: str, times: str, key: str) -> None:
    everything = rows(1, 50, TIMES[times])
    box.execute(table(key), INSERT, rows=everything[:30])
    copy = box.folder / "copy.db"
    shutil.copy(box.database, copy)
    box.execute(INSERT, rows=everything[30:])
    assert box.run() == 0
    if how == "replaced":
        box.database.unlink()
        shutil.copy(copy, box.database)
    elif how == "overwritten":
        box.database.write_bytes(copy.read_bytes())
    else:
        live, old = sqlite3.connect(box.database), sqlite3.connect(copy)
        old.backup(live)
        live.close()
        old.close()
    assert box.run() == 0
    box.execute(INSERT, rows=rows(101, 105, TIMES[times], year=2027))
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 51), *range(101, 106)]


@crossed(key=[*KEYS], times=["distinct", "repeated"], how=["replaced", "overwritten"], grown=[0, 3])
def test_a_file_that_comes_back_after_another_sends_no_row_again(
    box: Box, how: str, times: str, key: str, grown: int
) -> None:
    """A disk is lost and the backup found later, or a logger goes back and forth between two files."""

    def put_back(copy: Path) -> None:
        if how == "overwritten":
            box.database.write_bytes(copy.read_bytes())
        else:
            box.database.unlink()
            shutil.copy(copy, box.database)

    first, second, per_second = box.folder / "first.db", box.folder / "second.db", TIMES[times]
    box.execute(table(key), INSERT, rows=rows(1, 30, per_second))
    assert box.run() == 0
    shutil.copy(box.database, first)
    box.database.unlink()
    box.execute(table(key), INSERT, rows=rows(101, 110, per_second, year=2027))
    assert box.run() == 0
    shutil.copy(box.database, second)
    for number, copy in enumerate([first, second, first]):
        put_back(copy)
        assert box.run() == 0
        box.execute(INSERT, rows=rows(1001 + 10 * number, 1000 + grown + 10 * number, per_second, year=2028))
        assert box.run() == 0
        shutil.copy(box.database, copy)
    new = [1001 + 10 * number + n for number in range(3) for n in range(grown)]
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 31), *range(101, 111), *new]


def test_a_cycle_without_new_rows_keeps_in_mind_that_rows_were_renumbered_beside_a_change_of_columns(box: Box) -> None:
    """Else an UPDATE of all rows after it would meet a state that knows none of this, and the run would ask."""
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, note TEXT)")
    box.execute("INSERT INTO t (time, v) VALUES (?, ?)", rows=[(f"2026-01-01T00:00:{v:02}Z", v) for v in range(2, 12)])
    assert box.run() == 0
    box.execute("ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5", "DELETE FROM t WHERE v < 11")
    box.execute("VACUUM")
    assert box.run() == 0
    box.execute("UPDATE t SET note = 'edited'")
    assert box.run() == 0
    box.execute("INSERT INTO t (time, v) VALUES ('2026-01-01T00:00:12Z', 12)")
    assert box.run() == 0
    assert [v for (v,) in box.arrived("v")] == sorted(range(2, 13), key=str)


@pytest.mark.parametrize(("key", "count"), [("keyed", 8), ("plain", 4), ("counted", 3)])
def test_a_ring_of_files_goes_on_in_each_where_it_stood(box: Box, count: int, key: str) -> None:
    """As a logger that moves from one to the next, or cards that are changed."""
    files = [box.folder / f"{number}.db" for number in range(count)]
    numbers = itertools.count(1)
    for lap in range(3):
        for number, file in enumerate(files):
            box.database.unlink(missing_ok=True)
            if lap:
                shutil.copy(file, box.database)
            else:
                box.execute(table(key))
            for _ in range(2):
                first = next(numbers) * 20
                box.execute(INSERT, rows=rows(first, first + 4 + number, 1, year=2027))
                assert box.run() == 0
            shutil.copy(box.database, file)
    sent = sorted(a for (a,) in box.arrived("a"))
    assert sent == [n * 20 + i for n in range(1, 6 * count + 1) for i in range(5 + (n - 1) // 2 % count)]


def test_a_file_that_comes_back_is_known_though_nothing_of_the_other_one_arrived(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first commit was cut off."""
    box.execute(table("keyed"), INSERT, rows=rows(1, 30, 1))
    assert box.run() == 0
    original = box.database.rename(box.folder / "original.db")
    box.execute(table("keyed"), INSERT, rows=rows(101, 105, 1, year=2027))
    with monkeypatch.context() as patch:
        patch.setattr(up.DeltaTarget, "send", lambda *_: (_ for _ in ()).throw(up.LostAnswer("lost")))
        assert box.run() == 1
    original.replace(box.database)
    box.execute(INSERT, rows=rows(31, 32, 1))
    assert [box.run(), box.run()] == [0, 0]
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 33)]


@pytest.mark.parametrize("time", ["", ", time DEFAULT '2026-01-01'"])
@pytest.mark.parametrize("is_seen_empty", [True, False])
def test_rows_that_only_look_like_those_of_a_table_before_are_new(box: Box, time: str, is_seen_empty: bool) -> None:
    """As of an outbox that is emptied, or a log that begins anew at each start: without a time that tells them apart."""
    produced = ["on", "off", "on", "off", "on"]
    for state in produced:
        box.database.unlink(missing_ok=True)
        box.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, state{time})")
        assert not is_seen_empty or box.run() == 0
        box.execute("INSERT INTO t (state) VALUES (?)", rows=[(state,)])
        if box.run():  # Rows of one time may be asked about.
            assert time and not is_seen_empty
            return
    assert sorted(state for (state,) in box.arrived("state")) == sorted(produced)


@pytest.mark.parametrize("change", ["VACUUM", "rebuild"])
@pytest.mark.parametrize(("edited", "gone"), [(12, 2), (12, 24), (18, 11), (3, 4)])
def test_a_row_without_a_key_that_is_edited_while_others_are_renumbered_sends_nothing_again(
    box: Box, edited: int, gone: int, change: str
) -> None:
    """In a small table, all of whose rows are anchors."""
    box.execute(table("plain"), INSERT, rows=rows(1, 25, 1))
    assert box.run() == 0
    box.execute(INSERT, rows=rows(26, 32, 1))
    box.execute(f"UPDATE t SET z = 'edited' WHERE a = {edited}", f"DELETE FROM t WHERE a = {gone}")
    box.execute(*(rebuilt("plain") if change == "rebuild" else ["VACUUM"]))
    assert [box.run(), box.run()] == [0, 0]
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 33)]


LOADS: dict[str, list[Sequence[int]]] = {
    "newest first": [range(49, -1, -1), range(59, -1, -1)],
    "the newest 50, newest first": [range(49, -1, -1), range(59, 9, -1)],
    "by sensor": [[*range(20), *range(100, 120)], [*range(25), *range(100, 125)]],
    "by time, with late rows": [[*range(20), *range(25, 50)], range(50)],
}


@pytest.mark.parametrize("load", LOADS)
def test_a_table_without_a_key_that_is_made_anew_in_an_order_of_its_own_is_asked_about(
    box: Box, caplog: pytest.LogCaptureFixture, load: str
) -> None:
    """As programs do that replace a table by a sorted export: new rows stand before delivered ones, whose rowids rose."""
    first, then = ([rows(n, n, 1)[0] for n in numbers] for numbers in LOADS[load])
    box.execute(table("plain"), INSERT, rows=first)
    assert box.run() == 0
    box.execute("DROP TABLE t")
    box.execute(table("plain"), INSERT, rows=then)
    assert box.run() == 1
    assert "in another order" in caplog.text
    assert len(box.arrived()) == len(first)


@pytest.mark.parametrize("key", ["counted", "keyed"])
@pytest.mark.parametrize("is_seen_between", [False, True])
@pytest.mark.parametrize(("is_overwritten", "last"), [(False, 60), (True, 60), (False, 51)])
def test_an_older_copy_that_grew_past_the_position_sends_its_new_rows(
    box: Box, is_overwritten: bool, last: int, is_seen_between: bool, key: str
) -> None:
    """In the same file a single newest row that is another may be edited; in another one it is not there."""
    box.execute(table(key), INSERT, rows=rows(1, 50, 1))
    copy = box.folder / "copy.db"
    shutil.copy(box.database, copy)
    box.execute(INSERT, rows=rows(51, last, 1))
    assert box.run() == 0
    if is_overwritten:
        box.database.write_bytes(copy.read_bytes())
    else:
        copy.replace(box.database)
    assert not is_seen_between or box.run() == 0
    box.execute(INSERT, rows=rows(101, 115, 1))
    assert box.run() == 0
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, last + 1), *range(101, 116)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("is_seen_between", [False, True])
@pytest.mark.parametrize(
    ("delivered", "more"), [(60, 3), (80, 70), (400, 3), (401, 3)], ids=["short", "more", "much older", "oldest"]
)
def test_an_older_copy_that_is_put_back_after_another_file_sends_no_row_again(
    box: Box, caplog: pytest.LogCaptureFixture, delivered: int, more: int, is_seen_between: bool, key: str
) -> None:
    """As after a lost disk: the producer makes a file, and then the backup comes, and goes on."""
    box.execute(table(key), INSERT, rows=rows(1, 50, 1))
    copy = box.folder / "copy.db"
    shutil.copy(box.database, copy)
    for first in range(51, delivered + 1, 10):
        box.execute(INSERT, rows=rows(first, min(first + 9, delivered), 1))
        assert box.run() == 0
    box.database.unlink()
    box.execute(table(key), INSERT, rows=rows(501, 505, 1))
    assert box.run() == 0
    copy.replace(box.database)
    assert not is_seen_between or box.run() == 0
    box.execute(INSERT, rows=rows(601, 600 + more, 1))
    is_asked = delivered >= 400 and not is_seen_between  # The first row alone is known of so old a copy.
    assert [box.run(), box.run()] == [int(is_asked)] * 2
    assert is_asked == ("was restored from an older copy" in caplog.text)
    new = [] if is_asked else [*range(601, 601 + more)]
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, delivered + 1), *range(501, 506), *new]


@pytest.mark.parametrize("change", ["time = '2026-01-02T' || substr(time, 12)", "time = '2026-01-02', a = 0, z = id"])
def test_newest_rows_that_are_edited_under_autoincrement_are_not_sent_again(box: Box, change: str) -> None:
    """Their times alone, as a clock is set; or all of the newest one, which may be edited ever anew."""
    box.execute(table("counted"), INSERT, rows=rows(1, 50, 1))
    assert box.run() == 0
    box.execute(f"UPDATE t SET {change} WHERE id > {45 if 'substr' in change else 49}")
    assert box.run() == 0
    box.execute(INSERT, rows=rows(51, 55, 1, year=2027))
    assert box.run() == 0
    assert len(box.arrived()) == 55


def test_rows_that_are_all_rewritten_with_a_newer_time_are_asked_about(box: Box) -> None:
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, sensor TEXT, time TEXT, a REAL)",
        "INSERT INTO t (sensor, time, a) VALUES (?, '2026-01-01', 1)", rows=[(f"s{i}",) for i in range(9)],
    )  # fmt: skip
    assert box.run() == 0
    box.execute("UPDATE t SET time = '2026-01-02', a = a + id")
    assert box.run() == 1
    assert len(box.arrived()) == 9


@pytest.mark.parametrize("key", KEYS)
def test_a_rebuild_after_the_newest_rows_were_deleted_and_all_were_edited_sends_no_row_again(
    box: Box, key: str
) -> None:
    """The rebuild sets AUTOINCREMENT's counter back to the highest rowid that is left."""
    box.execute(table(key), INSERT, rows=rows(1, 50, 1))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE a > 40")
    for statement in CHANGES["update and rebuild"](key):
        box.execute(statement)
    assert outcome(box) in ("sent 50", "asks")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("year", [2025, 2027])
def test_rows_that_take_the_places_of_deleted_ones_after_a_rebuild_are_sent(box: Box, year: int, key: str) -> None:
    """Late ones too: the rebuild sets the counter back, and it counts past the position again."""
    box.execute(table(key), INSERT, rows=rows(1, 50, 1))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE a > 47", *rebuilt(key))
    box.execute(INSERT, rows=rows(51, 60, 1, year))
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 61)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("different", [1, 2, 50])
def test_rows_that_are_all_given_a_newer_time_are_asked_about(box: Box, different: int, key: str) -> None:
    """Or they gave way to rows like them: sent again they might be there twice, passed over they might be lost."""
    box.execute(table(key), INSERT, rows=[(f"2026-01-01T00:{a:02}:00Z", a % different) for a in range(50)])
    assert box.run() == 0
    box.execute("UPDATE t SET time = '2026-01-03T00:00:00Z'")
    assert outcome(box) == "asks"


def test_what_was_asked_about_is_answered_by_since(box: Box) -> None:
    box.execute(table("keyed"), INSERT, rows=rows(1, 50, 1000))
    assert box.run() == 0
    box.execute("UPDATE t SET a = a + 1000")
    assert box.run() == 1
    assert box.run("--since", "2026-03-01") == 0
    box.execute(INSERT, rows=rows(51, 55, 1000))
    assert box.run() == 0
    assert len(box.arrived()) == 55


def test_the_highest_possible_rowid_stops_the_run_after_its_rows(box: Box) -> None:
    box.execute(table("keyed"), INSERT, rows=rows(1, 3, 1))
    box.execute(f"INSERT INTO t (id, time, a) VALUES ({2**63 - 1}, '2026-01-02', 4)")
    assert box.run() == 1
    assert len(box.arrived()) == 4
    box.execute(INSERT, rows=rows(5, 6, 1))
    assert box.run() == 1
    assert len(box.arrived()) == 4


def test_a_utf_16_database_without_a_key_is_followed_through_a_vacuum(box: Box) -> None:
    box.execute("PRAGMA encoding = 'UTF-16le'", table("plain"), INSERT, rows=rows(1, 50, 10))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE a < 20")
    box.execute("ALTER TABLE t DROP COLUMN z")
    box.execute("VACUUM")
    assert outcome(box) == "sent 50"


ANY_VALUE = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary(),
    st.integers(0, 20), st.sampled_from(["", "\0", "a\0b", "a\0c", "1", "1,2", "t31", "'", b"1", b"", 1, 1.0, 12, 23, 0.1, 2**53 + 1]),
)  # fmt: skip


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(ANY_VALUE, ANY_VALUE, ANY_VALUE), min_size=1, max_size=12),
    st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]),
)
def test_different_rows_have_different_contents(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[object, ...]], encoding: str
) -> None:
    """-0.0 is SQLite's 0.0, and lone surrogates are no text."""

    def storable(value: object) -> bool:
        return not isinstance(value, str) or value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)

    values = [row for row in values if all(map(storable, row))]
    folder = tmp_path_factory.mktemp("contents")
    connection = sqlite3.connect(folder / "t.db")
    connection.execute(f"PRAGMA encoding = '{encoding}'")
    connection.execute("CREATE TABLE t (a, b, c)")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?)", values)
    connection.commit()
    kept = connection.execute("SELECT a, b, c FROM t ORDER BY rowid").fetchall()
    connection.close()
    with up.Database(folder / "t.db", folder) as database:
        contents = [c for (c,) in database.rows(f"SELECT {up.row_content(['a', 'b', 'c'])} FROM t q ORDER BY rowid")]
    told = [tuple((type(v), 0.0 if v == 0 and isinstance(v, float) else v) for v in row) for row in kept]
    assert len(set(contents)) == len(set(told))
    assert [contents.index(c) for c in contents] == [told.index(row) for row in told]
    assert all(content.isascii() and len(content.split(",")) == 3 for content in contents)


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=ANY_VALUE, encoding=st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]))
def test_a_value_is_found_by_its_literal(
    tmp_path_factory: pytest.TempPathFactory, value: object, encoding: str
) -> None:
    folder = tmp_path_factory.mktemp("literals")
    connection = sqlite3.connect(folder / "t.db")
    connection.execute(f"PRAGMA encoding = '{encoding}'")
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES (?)", (value,))
    connection.commit()
    connection.close()
    with up.Database(folder / "t.db", folder) as database:
        [(content,)] = database.rows(f"SELECT {up.row_content(['a'])} FROM t q")
        literal = up.literal_of(content, encoding)
        assert database.rows(
            f"SELECT count(*) FROM t q WHERE q.a IS {literal} AND typeof(q.a) = typeof({literal})"
        ) == [(1,)]


@pytest.mark.parametrize("ids", ["far apart", "negative", "a gap", "huge"])
def test_a_batch_is_rows_and_not_a_span_of_rowids(box: Box, ids: str) -> None:
    places: dict[str, Callable[[int], int]] = {
        "far apart": lambda n: n << 22, "negative": lambda n: (n - 600) << 40, "a gap": lambda n: n + (n > 300) * 10**15,
        "huge": lambda n: 2**63 - 2 - ((600 - n) << 50),
    }  # fmt: skip
    place = places[ids]
    insert = "INSERT INTO t (id, time, a, z) VALUES (?, '2026-01-01', ?, 'z')"
    box.execute(table("keyed"), insert, rows=[(place(n), n) for n in range(1, 601)])
    assert box.run() == 0
    assert box.state()["sequence"] == 1
    assert sorted(a for (a,) in box.arrived("a")) == list(range(1, 601))


def test_batches_of_sparse_rowids_have_as_many_rows_as_they_may(box: Box) -> None:
    insert = "INSERT INTO t (id, time, a, z) VALUES (?, '2026-01-01', ?, 'z')"
    box.execute(table("keyed"), insert, rows=[(n << 22, n) for n in range(1, 601)])
    assert box.run("--batch-rows", "200") == 0
    assert box.state()["sequence"] == 3
    assert len(box.arrived("a")) == 600


def test_memory_stays_flat_where_dense_rows_follow_sparse_ones(box: Box) -> None:
    """What is read at once is rows, however wide the gaps before them were."""
    box.execute(table("keyed"))
    box.execute("INSERT INTO t (id, time, a) VALUES (?, '2026-01-01', 0)", rows=[(n << 40,) for n in range(40)])
    dense = f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT {40 << 40} + i, '2026-01-01', i FROM n"
    box.execute(f"INSERT INTO t (id, time, a) {dense}")
    with up.Database(box.database, box.folder) as database:
        reader = up.Reader(database, up.describe(database, "t", None))
        first, last = reader.bounds()
        sizes = [len(page.keys) for page in up.RowidCursor(reader).pages(first or 0, last)]
    assert sum(sizes) == 50_040
    assert max(sizes) <= up.PAGE_ROWS


OLD_STATES = Path(__file__).parent / "states"


@pytest.mark.parametrize("key", KEYS)
def test_a_state_of_version_1_0_0_goes_on_in_the_same_file(box: Box, key: str) -> None:
    """The state was written by 1.0.0 for rows 1 to 50 of such a table."""
    box.execute(table(key), INSERT, rows=rows(1, 50, 1))
    assert box.run() == 0
    state = json.loads((OLD_STATES / f"rowid-{key}.json").read_text()) | {
        "target": str(box.folder / "lake" / "raw_readings")
    }
    box.state_file.write_text(json.dumps(state | {"checksum": up.checksum(state)}))
    shutil.rmtree(box.folder / "lake")
    state["committed"] = 0
    box.state_file.write_text(json.dumps(state | {"checksum": up.checksum(state)}))
    box.execute("ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5", INSERT, rows=rows(51, 52, 1))
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [51, 52]
    assert box.state()["columns"][-1] == "more"
    assert box.state()["epoch"] == 0


def levels(random_: random.Random, count: int, several: int) -> list[tuple[int, int]]:
    """Rows without a time, of so many values, beside one that is always the same."""
    return [(random_.randrange(several), 7) for _ in range(count)]


@pytest.mark.parametrize("seed", range(24))
def test_rows_without_a_time_that_are_equal_by_chance_are_no_sign_of_the_table_before(box: Box, seed: int) -> None:
    """A table that is made anew, also with other names for its columns: all of its rows are sent, or the run asks."""
    random_ = random.Random(seed)
    several, count, new = random_.choice([2, 3, 6, 100]), random_.randrange(12, 60), random_.randrange(12, 80)
    names = random_.choice([("level", "kind"), ("LEVEL", "kind"), ("degree", "kind"), ("degree", "sort")])
    made = (
        f"CREATE TABLE t (id INTEGER PRIMARY KEY {random_.choice(['', 'AUTOINCREMENT'])}, {{}} INTEGER, {{}} INTEGER)"
    )
    box.execute(
        made.format("level", "kind"), "INSERT INTO t (level, kind) VALUES (?, ?)", rows=levels(random_, count, several)
    )
    assert box.run() == 0
    if is_file := seed % 2:
        box.database.unlink()
    again = [] if is_file else ["DROP TABLE t"]
    insert = f"INSERT INTO t ({', '.join(names)}) VALUES (?, ?)"
    box.execute(*again, made.format(*names), insert, rows=levels(random_, new, several))
    status = box.run("--schema", "evolve")
    assert len(box.arrived("id")) == (count + new if status == 0 else count)
    assert status == 0 or not is_file or names == ("degree", "kind")


@crossed(
    several=[1, 2, 6, 100], change=["ALTER TABLE t ADD COLUMN more", "VACUUM", "DELETE FROM t WHERE rowid < 8"],
    new=[1, 2, 5], seed=[1, 2, 3],
)  # fmt: skip
def test_new_rows_like_the_newest_ones_of_a_table_without_key_and_time_are_no_delivered_ones(
    box: Box, several: int, change: str, new: int, seed: int
) -> None:
    """Of 60 rows the newest 32 are known: where rows have few values, others fit in part, and the run may ask."""
    random_ = random.Random(seed)
    rows = levels(random_, 60, several)
    insert = "INSERT INTO t (level, kind) VALUES (?, ?)"
    box.execute("CREATE TABLE t (level INTEGER, kind INTEGER)", insert, rows=rows)
    assert box.run() == 0
    box.execute(change)
    box.execute("VACUUM")
    box.execute(insert, rows=rows[-new:])
    status = box.run()
    assert len(box.arrived("level")) == (60 + new if status == 0 else 60)
    assert status == 0 or several < 100


@pytest.mark.parametrize("several", [3, 10, 100])
@pytest.mark.parametrize("seed", range(4))
def test_a_table_without_key_and_time_that_is_made_anew_loses_no_row_by_chance(
    box: Box, several: int, seed: int
) -> None:
    """A row that equals one of before is no sign that rowids were given anew."""
    random_ = random.Random(seed)
    create, insert = "CREATE TABLE t (level INTEGER, kind INTEGER)", "INSERT INTO t (level, kind) VALUES (?, ?)"
    box.execute(create, insert, rows=levels(random_, 50, several))
    assert box.run() == 0
    box.database.unlink()
    box.execute(create, insert, rows=levels(random_, 21, several))
    status = box.run()
    assert len(box.arrived("level")) == (71 if status == 0 else 50)


@pytest.mark.parametrize("count", [40, 200])
@pytest.mark.parametrize("seed", range(3))
def test_old_rows_of_a_table_of_flags_may_be_deleted_and_it_vacuumed(box: Box, count: int, seed: int) -> None:
    """Without key and time; a row that equals the newest one is the first one then, and no run of rows."""
    random_ = random.Random(seed)
    box.execute(
        "CREATE TABLE t (level INTEGER, kind INTEGER)", "INSERT INTO t VALUES (?, ?)", rows=levels(random_, count, 2)
    )
    assert box.run() == 0
    for _ in range(3):
        box.execute("DELETE FROM t WHERE rowid <= (SELECT count(*) / 5 FROM t)")
        box.execute("VACUUM")
        box.execute("INSERT INTO t VALUES (?, ?)", rows=levels(random_, 3, 2))
        count += 3
        assert box.run() == 0
        assert len(box.arrived("level")) == count


@pytest.mark.parametrize("seed", range(4))
def test_one_time_that_all_rows_have_tells_no_table_from_another(box: Box, seed: int) -> None:
    random_ = random.Random(seed)
    for count, known in ((40, 0), (30, 40)):
        box.database.unlink(missing_ok=True)
        insert = "INSERT INTO t (level, kind, time) VALUES (?, ?, '2026-01-01T00:00:00Z')"
        create = "CREATE TABLE t (id INTEGER PRIMARY KEY, level INTEGER, kind INTEGER, time TEXT)"
        box.execute(create, insert, rows=levels(random_, count, 2))
        status = box.run()
        assert len(box.arrived("id")) == known + (count if status == 0 else 0)


def test_rows_of_three_sensors_in_turn_without_key_and_time_are_asked_about_after_a_vacuum(box: Box) -> None:
    """Each third row stands behind others like those behind the newest one."""
    box.execute("CREATE TABLE t (level INTEGER)", "INSERT INTO t VALUES (?)", rows=[(v % 3,) for v in range(60)])
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE rowid < 7")
    box.execute("VACUUM")
    box.execute("INSERT INTO t VALUES (?)", rows=[(v % 3,) for v in range(3)])
    assert box.run() == 1
    assert len(box.arrived("level")) == 60


@pytest.mark.parametrize("key", ["keyed", "plain"])
def test_equal_rows_that_come_into_a_table_which_was_empty_are_new(box: Box, key: str) -> None:
    """Commands in a queue, which are deleted once they are carried out."""
    box.execute(f"CREATE TABLE t ({KEYS[key]}command TEXT)")
    for count in range(1, 4):
        box.execute("INSERT INTO t (command) VALUES ('on')")
        assert box.run() == 0
        assert len(box.arrived("command")) == count
        box.execute("DELETE FROM t")
        assert box.run() == 0


def test_a_small_table_that_was_edited_and_copied_is_asked_about(box: Box) -> None:
    """One row as it was and one that was edited: it may be another table, but is it?"""
    insert = "INSERT INTO t (level, kind) VALUES (?, ?)"
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, level INTEGER, kind INTEGER)", insert, rows=[(1, 5), (2, 6)])
    assert box.run() == 0
    shutil.copy(box.database, box.folder / "copy.db")
    os.replace(box.folder / "copy.db", box.database)
    box.execute("UPDATE t SET level = 3, kind = 7 WHERE id = 2")
    assert box.run() == 1
    assert len(box.arrived("id")) == 2


@pytest.mark.parametrize("several", [2, 6, 100])
@pytest.mark.parametrize("seed", range(4))
def test_a_copy_of_a_table_whose_rows_have_few_values_is_the_same_table(box: Box, several: int, seed: int) -> None:
    """That all of its rows are what they were can't be by chance."""
    random_ = random.Random(seed)
    insert = "INSERT INTO t (level, kind) VALUES (?, ?)"
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, level INTEGER, kind INTEGER)",
        insert,
        rows=levels(random_, 40, several),
    )
    assert box.run() == 0
    shutil.copy(box.database, box.folder / "copy.db")
    os.replace(box.folder / "copy.db", box.database)
    box.execute("UPDATE t SET level = 1000 WHERE id = 9")
    box.execute(insert, rows=levels(random_, 5, several))
    assert box.run() == 0
    assert len(box.arrived("id")) == 45


@pytest.mark.parametrize(
    "rename", ["level TO LEVEL", "level TO degree", "time TO seen", "time TO seen; level TO degree"]
)
@pytest.mark.parametrize("key", KEYS)
def test_rows_that_are_new_under_new_names_of_columns_are_sent_once(box: Box, key: str, rename: str) -> None:
    box.execute(f"CREATE TABLE t ({KEYS[key]}time TEXT, level INTEGER)")
    insert = "INSERT INTO t VALUES ({}?, ?)".format("NULL, " if KEYS[key] else "")
    box.execute(insert, rows=[(f"2026-01-01T00:00:{v:02}Z", v) for v in range(20)])
    assert box.run() == 0
    renames = [f"ALTER TABLE t RENAME COLUMN {each}" for each in rename.split("; ")]
    box.execute(*renames, "DELETE FROM t WHERE rowid > 15")
    box.execute(insert, rows=[(f"2026-01-02T00:00:{v:02}Z", v) for v in range(20, 30)])
    assert box.run("--schema", "evolve") == 0
    assert len(box.arrived("level")) == 30


def test_a_wide_table_that_is_made_anew_with_one_column_more_is_another(box: Box) -> None:
    """The last of more than 64 columns have one digest, which is another then; the time among them tells all the same."""
    wide = ", ".join(f"c{i} INTEGER DEFAULT 0" for i in range(70))
    for day, count, more in (("01", 20, ""), ("02", 30, ", more INTEGER")):
        box.database.unlink(missing_ok=True)
        box.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY, {wide}, time TEXT{more})", "INSERT INTO t (time) VALUES (?)",
            rows=[(f"2026-01-{day}T00:00:{v:02}Z",) for v in range(count)],
        )  # fmt: skip
        assert box.run() == 0
    assert len(box.arrived("id")) == 50


STATES = "CREATE TABLE t (id INTEGER PRIMARY KEY, entity TEXT, state TEXT, updated_ts REAL, reported_ts REAL)"
TIMELESS = "INSERT INTO t (entity, state, updated_ts, reported_ts) VALUES (?, ?, ?, ?)"


def timeless(first: int, last: int) -> list[tuple[str, str, float, float]]:
    """Rows of a table where two columns may be the time, so that none is."""
    return [(f"sensor.{v % 3}", str(v % 5), 1_790_000_000.5 + v, 1_790_000_000.5 + v) for v in range(first, last)]


@pytest.mark.parametrize("edited", ["id = (SELECT max(id) FROM t)", "id > 37", "1"])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_rows_without_a_time_column_that_are_edited_in_place_are_not_sent_again(
    box: Box, count: int, edited: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As a home's recorder does with the newest state of each sensor."""
    box.execute(STATES, TIMELESS, rows=timeless(0, count))
    assert box.run() == 0
    for cycle in range(3):
        box.execute(f"UPDATE t SET reported_ts = reported_ts + 7, state = 'x{cycle}' WHERE {edited}")
        assert box.run() == 0
    assert "taken away" not in caplog.text
    box.execute(TIMELESS, rows=timeless(count, count + 5))
    assert box.run() == 0
    assert sorted(at for (at,) in box.arrived("updated_ts")) == [1_790_000_000.5 + v for v in range(count + 5)]


@pytest.mark.parametrize("count", [1, 3])
def test_rows_without_a_time_column_in_place_of_deleted_newest_ones_are_new(box: Box, count: int) -> None:
    box.execute(STATES, TIMELESS, rows=timeless(0, 40))
    assert box.run() == 0
    box.execute(f"DELETE FROM t WHERE id > {40 - count}", TIMELESS, rows=timeless(40, 40 + count))
    assert box.run() == 0
    assert sorted(at for (at,) in box.arrived("updated_ts")) == [1_790_000_000.5 + v for v in range(40 + count)]


@pytest.mark.parametrize(
    ("change", "arrives"),
    [
        ("UPDATE t SET a = 2 WHERE uid = 'e'", "abcde"),
        ("DELETE FROM t WHERE uid = 'e'; INSERT INTO t (uid, a) VALUES ('f', 1)", "abcdef"),
    ],
)
def test_the_newest_row_with_a_null_time_is_known_when_it_is_edited_and_told_from_one_in_its_place(
    box: Box, change: str, arrives: str
) -> None:
    box.execute("CREATE TABLE t (ts TEXT, uid TEXT, a INTEGER)")
    rows = [(None if uid == "e" else f"2026-01-01 00:00:0{at}", uid) for at, uid in enumerate("abcde")]
    box.execute("INSERT INTO t (ts, uid, a) VALUES (?, ?, 1)", rows=rows)
    assert box.run() == 0
    box.execute(*change.split(";"))
    assert [box.run(), box.run()] == [0, 0]
    assert [uid for (uid,) in box.arrived("uid")] == [*arrives]


AGGREGATED = ("--enable-aggregate", "1", "--aggregate-config",
              '{"group_by": ["uid", "hour"], "aggregations": {"n": "count"}}')  # fmt: skip


AMID = {
    "newest again": ["DELETE FROM t WHERE uid > 203", "INSERT INTO t VALUES ('2026-01-01 03:00:00', 300)"],
    "all again": [
        "DELETE FROM t",
        "WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x < 39)"
        " INSERT INTO t SELECT printf('2026-01-01 04:00:%02d', x), 400 + x FROM n",
    ],
    "vacuum": ["VACUUM"],
}


@crossed(deed=[*AMID], method=["bounds", "nth", "anchors", "page"], call=[1, 2, 3], flags=[(), AGGREGATED])
def test_rows_that_give_way_to_others_or_move_amid_a_cycle_arrive_once(
    box: Box, deed: str, method: str, call: int, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two queries the producer deletes rows, whose rowids are given anew, or VACUUM gives other ones."""

    def add(hour: int, count: int) -> None:
        times = [(f"2026-01-01 {hour:02}:00:{at:02}", 100 * hour + at) for at in range(count)]
        box.execute("INSERT INTO t VALUES (?, ?)", rows=times)

    def disturbed(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named)
        calls.append(1)
        if len(calls) == call:
            box.execute(*AMID[deed])
        return found

    box.execute("CREATE TABLE t (ts TEXT, uid INTEGER)")
    add(1, 8)
    assert box.run(*flags) == 0
    box.execute("DELETE FROM t WHERE uid IN (102, 103)")
    add(2, 30)
    owner, calls = up.RowidCursor if method == "anchors" else up.Reader, list[int]()
    real = getattr(owner, method)
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, disturbed)
        box.run(*flags, "--batch-rows", "10")
    add(5, 40)
    assert box.run(*flags) == 0
    add(9, 1)
    assert box.run(*flags, *(["--flush"] if flags else [])) == 0
    arrived = [uid for (uid,) in box.arrived("uid", "aggregated_" if flags else "raw_")]
    assert len(arrived) == len(set(arrived))
    assert {uid for (uid,) in box.source("uid", "t")} <= {*arrived}


@pytest.mark.parametrize("put_back", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_rows_that_come_after_a_cycle_saw_the_table_empty_are_new_unless_they_are_put_back(
    box: Box, put_back: bool, key: str
) -> None:
    """Late ones, too, whose times tell nothing; the schema changes besides."""
    box.execute(table(key), INSERT, rows=rows(1, 20, 1))
    assert box.run() == 0
    box.execute("CREATE TABLE kept AS SELECT rowid AS r, * FROM t", "DELETE FROM t")
    assert box.run("--table", "t") == 0
    if put_back:
        box.execute("INSERT INTO t (rowid, time, a, z) SELECT r, time, a, z FROM kept")
    box.execute(INSERT, rows=[("2025-06-01T00:00:00Z", a) for a in range(100, 125)])
    assert box.run("--table", "t") == 0
    assert len(box.arrived("a")) == len(set(box.arrived("a"))) == 45


@crossed(key=["keyed", "plain"], times=["none", "equal", "distinct"], left=[10, 60, 99], new=[1, 5, 60])
def test_rows_that_come_after_a_cycle_saw_the_newest_ones_gone_are_new(
    box: Box, key: str, times: str, left: int, new: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Though no anchor is where they are: they take the rowids of rows that were delivered."""
    flags = ("--timestamp-col", "none") if times == "none" else ()
    per_second = TIMES.get(times, 1)
    box.execute(table(key), INSERT, rows=rows(1, 100, per_second))
    assert box.run(*flags) == 0
    box.execute(f"DELETE FROM t WHERE a > {left}")
    assert [box.run(*flags) for _ in range(3)] == [0, 0, 0]
    assert caplog.text.count("were taken away") == 1
    box.execute(INSERT, rows=rows(201, 200 + new, per_second))
    assert [box.run(*flags) for _ in range(2)] == [0, 0]
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 101), *range(201, 201 + new)]


@crossed(key=[*KEYS], times=["none", "equal", "distinct"], anew=["DROP TABLE t", "DELETE FROM t", "file"], new=[5, 50])
def test_a_table_that_is_made_anew_after_a_cycle_saw_its_newest_rows_gone_is_new(
    box: Box, key: str, times: str, anew: str, new: int
) -> None:
    flags = ("--timestamp-col", "none") if times == "none" else ()
    per_second = TIMES.get(times, 1)
    box.execute(table(key), INSERT, rows=rows(1, 100, per_second))
    assert box.run(*flags) == 0
    box.execute("DELETE FROM t WHERE a > 60")
    assert [box.run(*flags) for _ in range(2)] == [0, 0]
    if anew == "file":
        box.database.unlink()
    else:
        box.execute(anew)
    box.execute(*([] if anew == "DELETE FROM t" else [table(key)]), INSERT, rows=rows(201, 200 + new, per_second, 2027))
    assert box.run(*flags) == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 101), *range(201, 201 + new)]


@pytest.mark.parametrize("key", KEYS)
def test_newest_rows_that_a_cycle_saw_gone_are_known_where_they_are_put_back(box: Box, key: str) -> None:
    box.execute(table(key), INSERT, rows=rows(1, 100, 1))
    assert box.run() == 0
    box.execute("CREATE TABLE kept AS SELECT rowid AS r, * FROM t WHERE a > 60", "DELETE FROM t WHERE a > 60")
    assert box.run("--table", "t") == 0
    box.execute("INSERT INTO t (rowid, time, a, z) SELECT r, time, a, z FROM kept", INSERT, rows=rows(101, 103, 1))
    assert [box.run("--table", "t") for _ in range(2)] == [0, 0]
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 104)]


@crossed(key=[*KEYS], left=[75, 20], besides=["VACUUM", "ALTER TABLE t ADD COLUMN x", "CREATE TABLE other (a)"])
def test_rows_before_a_seen_end_are_known_whatever_comes_besides(box: Box, key: str, left: int, besides: str) -> None:
    box.execute(table(key), INSERT, rows=rows(1, 150, 1))
    assert box.run() == 0
    box.execute(f"DELETE FROM t WHERE a > {left}")
    box.execute(besides)
    assert [box.run("--table", "t") for _ in range(3)] == [0, 0, 0]
    assert len(box.arrived("a")) == 150
    box.execute(f"DELETE FROM t WHERE a > {left - 3}", INSERT, rows=rows(201, 205, 1))
    # Anchors of other columns than before can't be kept beside those: then it is asked which rows are new.
    assert box.run("--table", "t") == 0 or "ALTER" in besides
    new = range(201, 206) if "ALTER" not in besides else {a for (a,) in box.arrived("a")} - {*range(1, 151)}
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 151), *sorted(new)]


@pytest.mark.parametrize("how", ["replaced", "backed up"])
def test_a_copy_that_is_put_back_after_a_seen_end_sends_no_row_again(box: Box, how: str) -> None:
    """None of the rows that are there again is an anchor."""
    box.execute(table("keyed"), INSERT, rows=rows(1, 60, 1))
    copy = box.folder / "copy"
    shutil.copy(box.database, copy)
    box.execute(INSERT, rows=rows(61, 100, 1))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE a > 50")
    assert box.run() == 0
    if how == "replaced":
        copy.replace(box.database)
    else:
        live, old = sqlite3.connect(box.database), sqlite3.connect(copy)
        old.backup(live)
        live.close()
        old.close()
    assert [box.run(), box.run()] == [0, 0]
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 101)]


def test_a_time_to_start_from_counts_more_than_a_seen_end(box: Box) -> None:
    box.execute(table("keyed"), INSERT, rows=rows(1, 100, 1))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE a > 50")
    assert box.run() == 0
    assert box.run("--since", "2026-01-01T00:00:31Z") == 0
    assert sorted(a for (a,) in box.arrived("a")) == sorted([*range(1, 101), *range(31, 51)])


@crossed(key=["keyed", "plain"], count=[1, 3, 6, 20, 60])
def test_a_box_that_begins_at_the_same_moment_at_each_start_is_not_asked(box: Box, key: str, count: int) -> None:
    """Its file is made anew each time; before it has grown, only the first row is where an anchor is."""
    for start, added in enumerate([100, count]):
        box.database.unlink(missing_ok=True)
        made = [(time, 1000 * start + a * a % 97) for time, a in rows(1, added, 1)]
        box.execute(table(key), INSERT, rows=made)
        assert box.run() == 0
    assert len(box.arrived("a")) == 100 + count


@pytest.mark.parametrize("made", ["id INTEGER", "id INT PRIMARY KEY"])
def test_rows_that_all_get_later_times_are_asked_about_though_another_value_is_edited_besides(
    box: Box, made: str
) -> None:
    """As where the clock was set right. A key of the producer's own, which counts as rowids do, tells nothing."""
    box.execute(f"CREATE TABLE t ({made}, time TEXT, v TEXT)")
    box.execute(
        "INSERT INTO t VALUES (?, ?, ?)", rows=[(a, time, "on" if a % 3 else "off") for time, a in rows(1, 60, 1)]
    )
    assert box.run() == 0
    box.execute("UPDATE t SET time = replace(time, '2026-01', '2026-02')", "UPDATE t SET v = '?' WHERE id = 50")
    assert box.run() == 1
    assert len(box.arrived("id")) == 60


@crossed(key=["keyed", "plain"], gone=[1, 3, 20, 31], new=[1, 4, 15])
def test_rows_that_are_edited_are_known_where_new_ones_took_the_places_of_the_newest(
    box: Box, key: str, gone: int, new: int
) -> None:
    box.execute(table(key), INSERT, rows=rows(1, 300, 1))
    assert box.run() == 0
    box.execute(f"DELETE FROM t WHERE a > {300 - gone}", "UPDATE t SET z = 'edited'")
    box.execute(INSERT, rows=rows(301, 300 + new, 1))
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 301 + new)]


@pytest.mark.parametrize("gone", [0, 1, 5])
def test_a_copy_whose_rows_were_edited_is_asked_about_also_where_the_newest_ones_are_gone(box: Box, gone: int) -> None:
    """A box that begins at the same moment at each start has the same times, but other values."""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, a INTEGER, u TEXT)")
    into = "INSERT INTO t (time, a, u) VALUES (?, ?, hex(randomblob(4)))"
    box.execute(into, rows=rows(1, 60, 1))
    assert box.run() == 0
    copy = box.folder / "copy"
    shutil.copy(box.database, copy)
    box.execute(f"DELETE FROM t WHERE a > {60 - gone}", "UPDATE t SET a = -a")
    shutil.copy(box.database, copy)
    copy.replace(box.database)
    assert box.run() == 1
    assert len(box.arrived("a")) == 60
    box.database.unlink()
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, a INTEGER, u TEXT)", into, rows=rows(1, 50, 1))
    assert box.run() == 0
    assert len(box.arrived("a")) == 110


@crossed(count=[10, 60, 150], how=["replace", "append to none", "file"])
def test_a_data_frame_that_takes_the_place_of_another_is_new_though_its_index_is_the_same(
    box: Box, count: int, how: str
) -> None:
    """As pandas' to_sql with if_exists="replace" makes it: an index from 0 on is a column of its own."""

    def frame(first: int, count: int) -> list[tuple[int, str, float]]:
        times = [time for time, _ in rows(first, first + count - 1, 1)]
        return [(index, time, (first + index) / 7) for index, time in enumerate(times)]

    made, into = 'CREATE TABLE t ("index" INTEGER, time TIMESTAMP, v REAL)', "INSERT INTO t VALUES (?, ?, ?)"
    box.execute(made, into, rows=frame(0, 60))
    assert box.run() == 0
    if how == "file":
        box.database.unlink()
    else:
        box.execute("DROP TABLE t" if how == "replace" else "DELETE FROM t")
    box.execute(*([] if how == "append to none" else [made]), into, rows=frame(1000, count))
    assert box.run() == 0
    assert len(box.arrived("v")) == len(set(box.arrived("v"))) == 60 + count


def test_rows_that_are_rewritten_in_their_places_with_later_times_are_told(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the time is that of the last change, of which no rows are new."""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, a INTEGER)")
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(a, time, a) for time, a in rows(0, 49, 1)])
    assert [box.run(), box.run()] == [0, 0]
    assert "later times now" not in caplog.text
    box.execute("UPDATE t SET time = '2026-06-01T00:00:00Z' WHERE id IN (0, 7, 30)")
    assert box.run() == 0
    assert "t that were delivered have later times now" in caplog.text
    assert "cursor: timestamp" in caplog.text


@crossed(key=[*KEYS], counts=[(60, 60, 60), (60, 40, 60), (30, 60, 20)], year=[1970, 2000])
def test_files_of_a_clock_that_begins_anew_are_new_though_some_of_their_rows_are_equal(
    box: Box, key: str, counts: tuple[int, ...], year: int
) -> None:
    """A box without a clock makes a file at each start, with the same times, and few values."""
    chance = random.Random(f"{counts}{year}")
    for count in counts:
        box.database.unlink(missing_ok=True)
        box.execute(f"CREATE TABLE t ({KEYS[key]}time TEXT, a INTEGER, z TEXT)")
        values = [(time, chance.randint(0, 5), chance.choice("xy")) for time, _ in rows(1, count, 1, year=year)]
        box.execute("INSERT INTO t (time, a, z) VALUES (?, ?, ?)", rows=values)
        assert box.run() == 0
    assert len(box.arrived("a")) == sum(counts)


def slots(first: int, last: int, count: int = 50) -> list[tuple[int, str, int]]:
    """Rows of a ring of so many slots."""
    return [(a % count, time, a) for time, a in rows(first, last, 1)]


RING = ("CREATE TABLE t (slot INTEGER PRIMARY KEY, time TEXT, a INTEGER)", "REPLACE INTO t VALUES (?, ?, ?)")


@crossed(written=[51, 60, 75, 98, 99], step=[1, 13, 49])
def test_a_ring_of_slots_that_went_round_before_the_first_run_is_read_by_time(
    box: Box, written: int, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its new rows have no new rowids, and its last slot is not the newest."""
    box.execute(*RING, rows=slots(0, written - 1))
    assert box.run() == 0
    assert "New rows are found by time" in caplog.text
    for _ in range(5):
        box.execute(RING[1], rows=slots(written, written + step - 1))
        written += step
        assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(written - 5 * step - 50, written)]


@pytest.mark.parametrize("step", [1, 13, 49])
def test_a_ring_of_slots_that_goes_round_later_stops_and_tells_what_finds_its_rows(
    box: Box, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no table that was emptied, and none of its rows is passed over in silence."""
    box.execute(*RING, rows=slots(0, 49))
    assert box.run() == 0
    box.execute(RING[1], rows=slots(50, 49 + step))
    assert [box.run(), box.run()] == [1, 1]
    assert "new rows below delivered ones are passed over" in caplog.text
    assert "cursor: timestamp finds such rows" in caplog.text
    assert "was emptied" not in caplog.text
    assert box.run("--cursor", "rowid") == 0
    assert len(box.arrived("a")) == 50


@pytest.mark.parametrize("back", ["1970-01-01", "2025-12-31"])
@pytest.mark.parametrize("first", [1, 20, 39])
def test_a_clock_that_was_set_back_before_the_first_run_makes_no_ring(box: Box, first: int, back: str) -> None:
    """Rows of a box without a clock go on by rowid, whatever their times."""
    box.execute(table("keyed"), INSERT, rows=rows(1, first, 1))
    box.execute(INSERT, rows=[(f"{back}T{time[11:]}", a) for time, a in rows(first + 1, 40, 1)])
    assert box.run() == 0
    box.execute(INSERT, rows=[(f"{back}T{time[11:]}", a) for time, a in rows(41, 50, 1)])
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 51)]


@pytest.mark.parametrize("how", ["file", "emptied", "seen emptied"])
def test_a_table_that_is_made_anew_is_not_taken_for_one_that_is_rewritten(
    box: Box, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for start in range(3):
        if how == "file":
            box.database.unlink(missing_ok=True)
        box.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, time TEXT, a INTEGER)", "DELETE FROM t")
        if how == "seen emptied":
            assert box.run() == 0
        box.execute("INSERT INTO t (time, a) VALUES (?, ?)", rows=rows(100 * start + 1, 100 * start + 20, 1))
        assert [box.run(), box.run()] == [0, 0]
    assert "later times now" not in caplog.text
    assert len(box.arrived("a")) == 60


@pytest.mark.parametrize("how", ["UPDATE t SET v = v + 1", "DELETE FROM t", "DROP TABLE t", "UPDATE t SET v = 0"])
@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER PRIMARY KEY", "INTEGER"])
def test_rows_without_a_time_that_all_have_other_values_are_said_since_they_may_have_come_anew(
    box: Box, how: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As a table of the newest values has, which is written anew each time."""
    made, values = f"CREATE TABLE IF NOT EXISTS t (id {key}, device TEXT, v REAL)", "INSERT INTO t VALUES (?, ?, ?)"
    box.execute(made, values, rows=[(i, f"d{i}", i / 3) for i in range(20)])
    assert box.run() == 0
    box.execute(how)
    if not how.startswith("UPDATE"):
        box.execute(made, values, rows=[(i, f"d{i}", i / 7 + 1) for i in range(20)])
    assert box.run() == 0
    is_said = how != "UPDATE t SET v = 0" and ("AUTO" not in key or "DROP" in how)  # The first row has 0 already.
    assert ("all known rows of t have other values than were delivered" in caplog.text) == is_said
    assert len(box.arrived()) == 20


def test_what_a_cycle_without_new_rows_learned_of_the_file_is_kept(box: Box) -> None:
    """All rows are edited, which their times tell; then a copy takes the file's place, which would be asked about."""
    box.execute(table("keyed"), INSERT, rows=rows(1, 50, 1))
    assert box.run() == 0
    box.execute("UPDATE t SET z = 'y', a = a + 1000")
    assert box.run() == 0
    shutil.copy(box.database, box.folder / "copy")
    (box.folder / "copy").replace(box.database)
    assert outcome(box) == "sent 50"


def test_new_rows_behind_many_deleted_ones_where_no_anchor_is_are_not_passed_over(box: Box) -> None:
    box.execute(table("keyed"), INSERT, rows=rows(1, 73, 1))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE a > 25", "INSERT INTO t (time, a) VALUES ('2026-06-01T00:00:00Z', 99)")
    assert box.run() == 1 or (99,) in box.arrived("a")


AGGREGATE = (
    "--enable-aggregate", "true", "--aggregate-config", '{"group_by": ["hour"], "aggregations": {"a": "max"}}',
)  # fmt: skip


@pytest.mark.parametrize("size", [20, 10])
def test_a_table_that_begins_anew_after_a_refusal_is_noticed(
    box: Box, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a batch that did not go and the smaller one after it; another may have been prepared meanwhile."""
    box.execute(table("keyed"), INSERT, rows=rows(1, 30, 1))
    assert box.run() == 0
    box.execute(INSERT, rows=rows(31, 50, 1))
    send = up.DeltaTarget.send

    def refused(target: up.DeltaTarget, intent: up.Intent, payload: Any) -> None:
        assert sum(page.num_rows for page in payload()) == size
        monkeypatch.setattr(up.DeltaTarget, "send", send)
        box.execute("DELETE FROM t")
        box.execute(INSERT, rows=rows(1001, 1080, 1, year=2027))
        raise up.RefusedValuesError("no")

    monkeypatch.setattr(up.DeltaTarget, "send", refused)
    assert box.run("--batch-rows", str(size)) == 1
    assert box.run() == 0
    assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 31), *range(1001, 1081)]


@pytest.mark.parametrize("flags", [(), ("--batch-rows", "7"), AGGREGATE], ids=["", "batches", "groups"])
def test_a_newest_row_that_is_kept_up_to_date_does_not_hold_up_those_before_it(
    box: Box, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the end of a trip or a session is. Its time is newer after each page that is read."""
    box.execute(table("keyed"), INSERT, rows=rows(1, 50, 1))
    box.execute(INSERT, rows=[("2026-01-01T09:00:00Z", 51)])
    page, count = up.Reader.page, iter(range(1, 10**6))

    def touched(reader: up.Reader, *asked: Any) -> up.RawPage:
        read = page(reader, *asked)
        for a in (50, 51) if flags == AGGREGATE else (51,):
            time = f"2026-01-01T10:00:00.{next(count):06}Z"
            box.execute("UPDATE t SET time = ? WHERE a = ?", rows=[(time, a)])
        return read

    with monkeypatch.context() as patch:
        patch.setattr(up.Reader, "page", touched)
        assert [box.run(*flags), box.run(*flags)] == [0 if flags == AGGREGATE else 1] * 2
    if flags != AGGREGATE:
        assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 51)]
        assert box.quarantined() == []
    assert box.run(*flags, *(["--flush"] if flags == AGGREGATE else [])) == 0
    if flags == AGGREGATE:
        assert box.arrived("max_a", "aggregated_") == [(49,), (51,)]
    else:
        assert sorted(a for (a,) in box.arrived("a")) == [*range(1, 52)]


@pytest.mark.parametrize("key", KEYS)
def test_a_table_made_anew_with_few_values_in_its_columns_is_new(box: Box, key: str) -> None:
    """In eight columns of two values some agree by chance in each row."""
    chance, names = random.Random(key), [f"c{number}" for number in range(8)]
    for start in (0, 200):
        times = (dt.datetime(2026, 1, 1) + dt.timedelta(seconds=start + n) for n in range(200))
        made = [(time.isoformat(), *(chance.randrange(2) for _ in names)) for time in times]
        box.execute("DROP TABLE IF EXISTS t", f"CREATE TABLE t ({KEYS[key]}time TEXT, {', '.join(names)})")
        box.execute(f"INSERT INTO t (time, {', '.join(names)}) VALUES (?{', ?' * 8})", rows=made)
        assert box.run() == 0
    assert len(box.arrived()) == 400


@pytest.mark.parametrize("name", ["log_backup", '"log-backup"'])
def test_times_that_are_corrected_beside_a_copy_of_the_old_rows_are_asked_about(box: Box, name: str) -> None:
    """The rows of before are whole in the copy; but here are their values, with other times."""
    box.environ["SQLITE_TABLE_NAME"] = "log"
    box.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, timestamp TEXT, temp REAL, v INTEGER)")
    rows = [(f"2026-01-01T00:{minute:02}:00Z", 20 + minute * 0.37, minute) for minute in range(40)]
    box.execute("INSERT INTO log (timestamp, temp, v) VALUES (?, ?, ?)", rows=rows)
    assert box.run() == 0
    hour = "UPDATE log SET timestamp = strftime('%Y-%m-%dT%H:%M:%SZ', timestamp, '+1 hour')"
    box.execute(f"CREATE TABLE {name} AS SELECT * FROM log", hour)
    assert box.run() == 1
    assert len(box.arrived("v")) == 40


def test_a_table_made_anew_by_a_clock_that_begins_anew_is_not_the_one_before_it(box: Box) -> None:
    """The sensors, their order and the times are the same; what was measured is not."""
    count = itertools.count()
    for size, day in ((60, 1), (20, 20), (60, 1)):
        box.database.unlink(missing_ok=True)
        box.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, timestamp TEXT, sensor TEXT, v INTEGER)")
        rows = [(f"2026-01-{day:02}T00:{minute:02}:00Z", f"s{minute}", next(count)) for minute in range(size)]
        box.execute("INSERT INTO log (timestamp, sensor, v) VALUES (?, ?, ?)", rows=rows)
        assert box.run() == 0
    assert sorted(v for (v,) in box.arrived("v")) == [*range(140)]
