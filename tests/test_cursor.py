"""Chapter Cursor: which rows are new, whatever happens to the file and its times."""

from __future__ import annotations

import itertools
import json
import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from boxes import Box, crossed, examples

PLAIN = "CREATE TABLE t (time TEXT, v INTEGER)"
KEYED = "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)"
COUNTED = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, v INTEGER)"
INSERT = "INSERT INTO t (time, v) VALUES (?, ?)"


def rows(first: int, last: int, year: int = 2026) -> list[tuple[str, int]]:
    """Rows v = first to last, two to a second."""
    return [(f"{year}-01-01T00:{v // 120:02}:{v // 2 % 60:02}+00:00", v) for v in range(first, last + 1)]


def values(box: Box) -> list[int]:
    return sorted(v for (v,) in box.arrived("v"))


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
@pytest.mark.parametrize("size", ["1", "2", "7", "100000"])
def test_ties_at_every_batch_boundary_and_late_rows_arrive_once(box: Box, table: str, size: str) -> None:
    box.execute(table, INSERT, rows=rows(1, 15))
    assert box.run("--batch-rows", size) == 0
    box.execute(INSERT, rows=[*rows(16, 20), *rows(21, 25, year=1999), (None, 26)])
    assert box.run("--batch-rows", size) == 0
    assert box.run("--batch-rows", size) == 0
    assert values(box) == list(range(1, 27))


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
@pytest.mark.parametrize("more", [5, 40, 80])
def test_a_recreated_file_is_noticed_and_all_its_rows_are_sent(box: Box, table: str, more: int) -> None:
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.database.unlink()
    box.execute(table, INSERT, rows=rows(101, 100 + more, year=2027))
    assert box.run() == 0
    assert box.run() == 0
    assert values(box) == [*range(1, 41), *range(101, 101 + more)]
    assert box.state()["epoch"] == 1


@pytest.mark.parametrize("is_seen_empty", [True, False])
def test_a_table_that_its_producer_empties_again_and_again_is_no_matter_for_a_warning(
    box: Box, caplog: pytest.LogCaptureFixture, is_seen_empty: bool
) -> None:
    box.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, time TEXT)")
    for day in (1, 2, 3):
        box.execute(f"INSERT INTO outbox (time) VALUES ('2026-01-0{day}'), ('2026-01-0{day}')")
        assert box.run() == 0
        box.execute("DELETE FROM outbox")
        assert not is_seen_empty or [box.run(), box.run()] == [0, 0]
    assert len(box.arrived()) == 6
    assert caplog.text.count("was emptied") == (3 if is_seen_empty else 2)
    assert "WARNING" not in caplog.text


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
def test_an_emptied_table_starts_anew(box: Box, table: str) -> None:
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.execute("DELETE FROM t")
    assert box.run() == 0
    box.execute(INSERT, rows=rows(41, 50))
    assert box.run() == 0
    assert values(box) == list(range(1, 51))


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
def test_rowids_used_again_after_the_newest_rows_were_deleted_are_new_rows(box: Box, table: str) -> None:
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE v > 37", INSERT, rows=rows(41, 44))
    assert box.run() == 0
    assert values(box) == list(range(1, 45))


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
@pytest.mark.parametrize("kept", [0, 1, 39])
def test_retention_that_deletes_delivered_rows_is_no_sign_of_a_new_file(box: Box, table: str, kept: int) -> None:
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.execute(INSERT, rows=rows(41, 45))
    box.execute(f"DELETE FROM t WHERE v <= {40 - kept}")
    assert box.run() == 0
    assert values(box) == list(range(1, 46))


def test_a_vacuum_that_renumbers_rows_is_followed(box: Box) -> None:
    box.execute(PLAIN, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE v % 3 = 0", INSERT, rows=rows(41, 50))
    box.execute("VACUUM")
    assert box.run() == 0
    box.execute(INSERT, rows=rows(51, 55))
    assert box.run() == 0
    assert values(box) == list(range(1, 56))


def test_a_vacuum_among_equal_rows_is_followed_by_the_rows_before_them(box: Box) -> None:
    same = [("2026-01-01", 7)]
    box.execute(PLAIN, INSERT, rows=[*rows(1, 20), *same * 2])
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE v < 5", INSERT, rows=same * 3)
    box.execute("VACUUM")
    assert box.run() == 0
    assert values(box) == sorted([*range(1, 21), *[7] * 5])


def test_a_row_that_was_edited_in_place_is_no_sign_of_a_new_file(box: Box) -> None:
    box.execute(KEYED, INSERT, rows=rows(1, 40))
    assert box.run() == 0
    box.execute("UPDATE t SET v = -v WHERE v > 30", INSERT, rows=rows(41, 42))
    assert box.run() == 0
    assert values(box) == list(range(1, 43))


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
@pytest.mark.parametrize("deleted", [0, 1])
def test_a_new_column_is_no_sign_of_a_new_file_though_all_rows_have_one_time(
    box: Box, table: str, deleted: int
) -> None:
    box.execute(table, INSERT, rows=[("2026-01-01", v) for v in range(1, 41)])
    assert box.run() == 0
    box.execute(f"DELETE FROM t WHERE v > {40 - deleted}", "ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5")
    assert box.run() == 0
    box.execute(INSERT, rows=[("2026-01-02", 41), ("2026-01-02", 42)])
    assert box.run() == 0
    assert values(box) == list(range(1, 43))


def test_a_file_restored_from_an_older_copy_sends_only_what_was_not_delivered(box: Box) -> None:
    box.execute(KEYED, INSERT, rows=rows(1, 30))
    copy = box.database.read_bytes()
    box.execute(INSERT, rows=rows(31, 40))
    assert box.run() == 0
    box.database.write_bytes(copy)
    assert box.run() == 0
    box.execute(INSERT, rows=rows(101, 140))
    assert box.run() == 0
    assert values(box) == [*range(1, 41), *range(101, 141)]


def test_an_older_copy_with_new_rows_of_unknown_place_stops_and_asks(box: Box) -> None:
    box.execute(KEYED, INSERT, rows=rows(1, 300))
    copy = box.database.read_bytes()
    box.execute(INSERT, rows=rows(301, 900))
    assert box.run() == 0
    box.database.write_bytes(copy)
    box.execute(INSERT, rows=rows(1001, 1700))
    before = box.state_file.read_bytes()
    assert box.run() == 1
    assert box.state_file.read_bytes() == before
    assert len(values(box)) == 900


VIEW = ("CREATE TABLE base (time TEXT, v INTEGER)", "CREATE VIEW t AS SELECT time, v FROM base")
FORMS = ["%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%f-05:00", "s", "ms"]
WITHOUT_ROWID = ("CREATE TABLE t (v INTEGER, time TEXT, PRIMARY KEY (time, v)) WITHOUT ROWID",)


@crossed(tables=[VIEW, WITHOUT_ROWID, (KEYED,)], size=["1", "3", "100000"], form=FORMS)
def test_a_timestamp_cursor_loses_no_tie_and_no_row_that_is_late_within_lookback(
    box: Box, tables: tuple[str, ...], size: str, form: str
) -> None:
    numbers = {"s": "unixepoch(?)", "ms": "unixepoch(?) * 1000"}
    time = numbers.get(form, f"strftime('{form}', ?)")
    name = "base" if len(tables) > 1 else "t"
    insert = f"INSERT INTO {name} (time, v) VALUES ({time}, ?)"
    plain = [(f"2026-01-01 12:{v // 4:02}:00", v) for v in range(1, 21)]
    box.execute(*[t.replace("time TEXT", "time") for t in tables], insert, rows=plain)
    flags = ["--batch-rows", size, "--cursor", "timestamp", "--table", "t"]
    assert box.run(*flags) == 0
    box.execute(insert, rows=[("2026-01-01 12:05:00", 21), ("2026-01-01 12:00:30", 22), ("2026-01-01 12:06:00", 23)])
    assert box.run(*flags) == 0
    assert box.run(*flags) == 0
    assert values(box) == list(range(1, 24))


def test_equal_rows_of_a_view_are_each_delivered(box: Box) -> None:
    box.execute(*VIEW, "INSERT INTO base VALUES (?, ?)", rows=[("2026-01-01", 1)] * 3)
    assert box.run("--table", "t", "--batch-rows", "2") == 0
    box.execute("INSERT INTO base VALUES (?, ?)", rows=[("2026-01-01", 1)] * 2)
    assert box.run("--table", "t") == 0
    assert values(box) == [1] * 5


def test_a_row_from_the_future_does_not_make_later_rows_late(box: Box) -> None:
    box.execute(*VIEW, "INSERT INTO base VALUES (?, ?)", rows=[("2026-01-01", 1), ("2199-01-01", 2)])
    assert box.run("--table", "t") == 0
    box.execute("INSERT INTO base VALUES (?, ?)", rows=[("2026-01-02", 3)])
    assert box.run("--table", "t") == 0
    assert box.run("--table", "t") == 0
    assert values(box) == [1, 2, 3]


def test_a_text_in_an_epoch_column_does_not_freeze_a_timestamp_cursor(box: Box) -> None:
    table = "CREATE TABLE t (v INTEGER, time INTEGER, PRIMARY KEY (v)) WITHOUT ROWID"
    box.execute(table, "INSERT INTO t VALUES (?, ?)", rows=[(1, 1767225600)])
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES (2, 'x')")
    assert box.run() == 3
    box.execute("INSERT INTO t VALUES (?, ?)", rows=[(v, 1767225600 + v) for v in range(3, 13)])
    assert box.run() == 0
    assert values(box) == [1, *range(3, 13)]
    assert [line["row"]["time"] for line in box.quarantined()] == ["x"]


def test_a_timestamp_cursor_does_not_begin_at_the_oldest_row_again(box: Box) -> None:
    times = [(f"2026-01-{day:02}T{hour:02}:00:00Z", day) for day in range(1, 29) for hour in range(24)]
    box.execute(*VIEW, "INSERT INTO base VALUES (?, ?)", rows=times)
    with up.Database(box.database, box.folder) as database:
        cursor = up.TimestampCursor(up.Reader(database, up.describe(database, "t", None)), 300, up.AUTO, time.time)
        position, sizes = cursor.start(None), []
        while batch := cursor.next_batch(position, lambda: 96):
            position = batch.position
            sizes += [len(page.keys) for page in batch.pages()]
    assert sizes == [96] * 7


def test_a_time_to_start_from_is_of_no_later_row_where_none_was_there(box: Box) -> None:
    box.environ["UPLOAD_CURSOR"] = "timestamp"
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01 09:00:00', 1)")
    assert box.run("--since", "2026-01-01 12:09:00") == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01 12:08:30', 2)")
    assert [box.run(), box.run()] == [0, 0]
    assert box.arrived("v") == [(2,)]


@pytest.mark.parametrize("cursor", ["rowid", "timestamp"])
def test_a_time_to_start_from_is_of_no_row_that_comes_later(box: Box, cursor: str) -> None:
    """One that is late within `lookback`; those of before that time, which were there, stay out."""
    box.environ["UPLOAD_CURSOR"] = cursor
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)")
    box.execute("INSERT INTO t VALUES ('2026-01-01 12:00:00', 1), ('2026-01-01 12:08:00', 2)")
    assert box.run("--since", "2026-01-01 12:09:00") == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01 12:10:00', 3)")
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01 12:08:30', 4)")
    assert [box.run(), box.run()] == [0, 0]
    assert sorted(box.arrived("v")) == [(3,), (4,)]


def test_a_batch_is_found_again_though_values_of_another_class_came_in_since(box: Box) -> None:
    box.execute(*[statement.replace("time TEXT", "time") for statement in VIEW])
    insert = "INSERT INTO base VALUES (?, ?)"
    box.execute(insert, rows=[("2026-01-01T00:00:01Z", 1)])
    with up.Database(box.database, box.folder) as database:
        reader = up.Reader(database, up.describe(database, "t", None))
        first, second = (up.TimestampCursor(reader, 300, up.AUTO, time.time) for _ in range(2))
        before = first.next_batch(first.start(None), lambda: 100)
        box.execute(insert, rows=[("2026-01-01T00:00:02Z", 2)])
        assert before and first.next_batch(before.position, lambda: 100) is None
        after = second.next_batch(before.position, lambda: 100)
        assert after
        box.execute(insert, rows=[(1767225603, 3)])
        pages = second.again(before.position, after.position)
        assert [page.columns["v"].values() for page in pages] == [[2]]


def test_a_time_to_start_from_does_not_hold_for_rows_that_come_later(box: Box) -> None:
    box.execute(KEYED)
    assert box.run("--since", "2026-06-01") == 0
    box.execute(INSERT, rows=rows(1, 3, year=1999))
    assert box.run() == 0
    assert values(box) == [1, 2, 3]


@pytest.mark.parametrize("table", [PLAIN, KEYED, COUNTED])
def test_a_time_to_start_from_does_not_hold_in_a_recreated_file(box: Box, table: str) -> None:
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run("--since", "2026-01-01") == 0
    box.database.unlink()
    box.execute(table, INSERT, rows=rows(101, 120, year=1999))
    assert box.run() == 0
    assert values(box) == [*range(1, 41), *range(101, 121)]


@pytest.mark.parametrize("table", [PLAIN, KEYED])
def test_a_time_to_start_from_does_not_hold_for_rows_under_rowids_used_again(box: Box, table: str) -> None:
    box.execute(table, INSERT, rows=rows(1, 40))
    assert box.run("--since", "2026-01-01") == 0
    box.execute("DELETE FROM t WHERE v > 37", INSERT, rows=rows(41, 44, year=1999))
    assert box.run() == 0
    assert values(box) == list(range(1, 45))


def test_a_time_to_start_from_does_not_hold_in_a_recreated_file_of_windows(box: Box) -> None:
    rules = '{"group_by": ["hour"], "aggregations": {"readings": "count"}}'
    flags = ["--enable-aggregate", "true", "--aggregate-config", rules]
    box.execute(KEYED, INSERT, rows=rows(1, 40))
    assert box.run("--since", "2026-01-01", *flags) == 0
    box.database.unlink()
    box.execute(KEYED, INSERT, rows=[("1999-01-01T00:00:00Z", 1), ("1999-01-01T02:00:00Z", 2)])
    assert box.run(*flags) == 0
    assert [n for (n,) in box.arrived("reading_count", "aggregated_")] == [1]


def test_a_state_with_only_last_upload_sends_the_rows_past_it_and_later_ones_however_late(box: Box) -> None:
    box.execute(KEYED, INSERT, rows=rows(1, 40))
    box.state_file.parent.mkdir()
    box.state_file.write_text('{"last_upload": "2026-01-01T00:00:10Z"}')
    assert box.run("--batch-rows", "7") == 0
    assert values(box) == list(range(22, 41))
    box.execute(INSERT, rows=rows(101, 103, year=1999))
    assert box.run() == 0
    assert values(box) == [*range(22, 41), 101, 102, 103]


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=25), st.integers(1, 7))
def test_any_mix_of_ties_late_rows_and_batches_arrives_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]], size: int
) -> None:
    box = Box(tmp_path_factory.mktemp("box"))
    box.execute(COUNTED)
    for number, (second, upload) in enumerate(steps):
        box.execute(INSERT, rows=[(f"2026-01-01T00:00:0{second}Z", number)])
        if upload:
            assert box.run("--batch-rows", str(size)) == 0
    assert box.run("--batch-rows", str(size)) == 0
    assert values(box) == list(range(len(steps)))


def test_anchors_stay_few_and_reach_back_to_the_beginning() -> None:
    anchors: list[up.Anchor] = []
    for batch in range(200):
        first, last = batch * 50 + 1, batch * 50 + 50
        new = [up.Anchor(i, str(i), "'t'") for i in [*range(last, last - 32, -1), first]]
        anchors = up.thinned(new, anchors)
    assert len(anchors) < 60
    assert anchors[-1].rowid == 1
    assert [a.rowid for a in anchors[:32]] == list(range(10000, 9968, -1))


def test_a_page_is_sized_by_the_width_of_its_rows() -> None:
    assert up.fitting_rows(100) == up.PAGE_ROWS
    assert up.fitting_rows(2_000_000) == 2
    assert up.fitting_rows(random.uniform(1e9, 1e12)) == 1


LARGE = {
    "all": [5_000] * 300,
    "each larger than a page": [300_000] * 5,
    "the newest": [1] * 2_000 + [5_000] * 200,
    "some amid others": [1] * 900 + [5_000] * 200 + [1] * 900,
    "a few": ([1] * 99 + [5_000]) * 20,
}


@pytest.mark.parametrize("large", LARGE)
@pytest.mark.parametrize("kind", ["rowid", "by time", "by time without an index", "view"])
def test_no_page_is_much_larger_than_wanted_wherever_large_rows_are(
    box: Box, large: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the file tells the average alone."""
    monkeypatch.setattr(up, "PAGE_BYTES", 50_000)
    monkeypatch.setattr(up, "SAMPLE_BYTES", 100_000)
    monkeypatch.setattr(up, "SMALL_FILE_BYTES", 0)
    monkeypatch.setattr(up, "FIRST_ROWS", 20)
    monkeypatch.setattr(up, "WALK_BYTES", 200_000)
    read, page = list[int](), up.Reader.page

    def noted(reader: up.Reader, *asked: Any) -> up.RawPage:
        found = page(reader, *asked)
        read.append(found.nbytes)
        return found

    monkeypatch.setattr(up.Reader, "page", noted)
    box.execute("CREATE TABLE base (time TEXT, v INTEGER, body)")
    if "without" not in kind:
        box.execute("CREATE INDEX by_time ON base (time)")
    lengths = enumerate(LARGE[large])
    content = [(f"2026-01-01T{v // 3600:02}:{v // 60 % 60:02}:{v % 60:02}Z", v, b"x" * length) for v, length in lengths]
    box.execute("INSERT INTO base VALUES (?, ?, ?)", rows=content)
    gaps = {0, 3, len(content) // 2}
    box.execute(f"DELETE FROM base WHERE v IN ({', '.join(map(str, gaps))})")
    if kind == "view":
        box.execute("CREATE VIEW v AS SELECT * FROM base")
    flags = ["--cursor", "timestamp"] if "by time" in kind else ["--table", "v"] if kind == "view" else []
    assert box.run(*flags) == 0
    assert sorted(v for (v,) in box.arrived("v")) == [v for v in range(len(LARGE[large])) if v not in gaps]
    assert max(read) < max(700_000, 7 * max(LARGE[large]))


# How far each rowid is from the one before: dense, thinned out, far apart, and so by turns.
STEPS = st.sampled_from([1, 1, 2, 7, 1000, 2**22, 2**40])
RUNS = st.lists(st.tuples(STEPS, st.integers(1, 120), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS, st.integers(1, 30), st.booleans())
def test_each_row_of_a_range_is_read_once_and_in_order_however_far_apart_rowids_are(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int, bool]], size: int, is_large: bool
) -> None:
    """Nor is much more read than that, nor in many more pages."""
    rowids, lengths = list[int](), list[int]()
    for step, count, is_wide in runs:
        rowids += [(rowids[-1] if rowids else -50) + step * each for each in range(1, count + 1)]
        lengths += [30_000 if is_wide and is_large else 10] * count
    box, read, page = Box(tmp_path_factory.mktemp("box")), list[int](), up.Reader.page
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body)")
    box.execute("INSERT INTO t VALUES (?, zeroblob(?))", rows=[*zip(rowids, lengths, strict=True)])

    def noted(reader: up.Reader, *asked: Any) -> up.RawPage:
        read.append(len((found := page(reader, *asked)).keys))
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(up.Reader, "page", noted)
        patched.setattr(up, "PAGE_BYTES", 100_000)
        patched.setattr(up, "PAGE_ROWS", size)
        patched.setattr(up, "SMALL_FILE_BYTES", 0)
        with up.opened_database(config := up.Config(sqlite=box.database)) as database:
            reader = up.reader_of(config, database)
            groups = [*up.Pace(reader, size).groups(rowids[0], rowids[-1])]
    pages = list(itertools.chain.from_iterable(groups))
    assert [key for page in pages for key in page.keys] == rowids
    assert max(page.nbytes for page in pages) < 700_000
    if not is_large:
        assert sum(read) <= 1.5 * len(rowids) + 8 * size * len(runs)
        assert len(read) <= 3 * len(rowids) / size + 12 * len(runs)


def test_a_page_that_memory_has_no_room_for_is_read_in_smaller_ones(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    page = up.Reader.page

    def short(reader: up.Reader, where: str, order: str, limit: int, key: str) -> up.RawPage:
        if limit > 10 and "BETWEEN" in where:
            raise up.source_error(
                "INTERNAL: ArrowBufferAppend(binary, value, size) failed: (12) Cannot allocate memory"
            )
        return page(reader, where, order, limit, key)

    box.execute(COUNTED, INSERT, rows=rows(1, 100))
    monkeypatch.setattr(up.Reader, "page", short)
    assert box.run() == 0
    assert values(box) == [*range(1, 101)]


UTF_16 = ["UTF-16le", "UTF-16be"]


@pytest.mark.parametrize("encoding", UTF_16)
@pytest.mark.parametrize("table", ["CREATE TABLE t (time TEXT, v TEXT)", "CREATE TABLE t (v TEXT, time)"])
def test_a_vacuum_of_a_database_in_utf_16_is_followed(box: Box, encoding: str, table: str) -> None:
    """Bytes of a text, and of what quote() gives, are in the database's encoding."""
    rows = [(f"2026-01-01T00:00:{v:02}", f"é😀'{v}") for v in range(20)]
    box.execute(f"PRAGMA encoding = '{encoding}'", table, "INSERT INTO t (time, v) VALUES (?, ?)", rows=rows)
    assert box.run() == 0
    box.execute("DELETE FROM t WHERE time < '2026-01-01T00:00:05'")
    box.execute("VACUUM")
    box.execute("INSERT INTO t (time, v) VALUES ('2026-01-01T00:01:00', 'new')")
    assert box.run() == 0
    assert sorted(v for (v,) in box.arrived("v")) == sorted([*(v for _, v in rows), "new"])


@pytest.mark.parametrize("encoding", UTF_16)
@pytest.mark.parametrize("cursor", ["rowid", "timestamp"])
def test_a_database_in_utf_16_is_delivered_and_followed_where_it_is_recreated(
    box: Box, encoding: str, cursor: str
) -> None:
    """Texts with NULs and of several planes included; half characters go to quarantine."""
    for year in (2026, 2027):
        box.database.unlink(missing_ok=True)
        rows = [(f"{year}-01-01T00:00:{v:02}", f"é😀\0{year}{v}") for v in range(20)]
        box.execute(
            f"PRAGMA encoding = '{encoding}'", "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v TEXT)",
            "INSERT INTO t (time, v) VALUES (?, ?)", rows=rows,
        )  # fmt: skip
        assert box.run("--cursor", cursor) == 0
        box.execute(f"INSERT INTO t (time, v) VALUES ('{year}-01-02', CAST(x'00d8d8004100' AS TEXT))")
        assert box.run("--cursor", cursor) == up.QUARANTINED
        assert box.run("--cursor", cursor) == 0
    assert len(box.arrived()) == 40
    assert {"invalid_text"} == {next(iter(line["row"]["v"])) for line in box.quarantined()}


def keys_of(kind: str, count: int) -> list[int]:
    """Keys that a producer sets itself, in the order in which their rows come."""
    chance = random.Random(7)
    return {
        "random of 63 bits": [chance.randrange(2**63) for _ in range(count)],
        "random, negative too": [chance.randrange(-(2**62), 2**62) for _ in range(count)],
        "random of 32 bits": [chance.randrange(2**32) for _ in range(count)],
        "a range for each of three sensors": [10**9 * (1 + v % 3) + v for v in range(count)],
        "falling": [-(5000 * v) for v in range(count)],
        "falling one by one": [-v for v in range(count)],
        # In order, so that the rowid is the better position.
        "given by SQLite": [*range(1, count + 1)],
        "time and counter": [(1_790_000_000_000 + 500 * v) << 22 for v in range(count)],
        "thinned out": [v if v > count // 2 else 5000 * (v - count) for v in range(count)],
    }[kind]


@pytest.mark.parametrize("is_empty_first", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "random of 63 bits",
        "random, negative too",
        "random of 32 bits",
        "a range for each of three sensors",
        "falling",
        "falling one by one",
    ],
)
def test_rows_under_keys_in_no_order_are_found_by_time_and_arrive_once(
    box: Box, kind: str, is_empty_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute(KEYED)
    if is_empty_first:  # A state that was made then leaves it open.
        assert box.run() == 0
    given = [(key, time, v) for key, (time, v) in zip(keys_of(kind, 400), rows(0, 399), strict=True)]
    for first in (0, 100, 110, 111, 300):
        last = {0: 100, 100: 110, 110: 111, 111: 300, 300: 400}[first]
        box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=given[first:last])
        assert box.run("--batch-rows", "70") == 0
        assert values(box) == list(range(last))
    assert "rowid" not in box.state()["position"]
    assert "are found by time" in caplog.text


@pytest.mark.parametrize("kind", ["given by SQLite", "time and counter", "thinned out"])
def test_keys_in_order_stay_the_position_however_far_apart(box: Box, kind: str) -> None:
    given = [(key, time, v) for key, (time, v) in zip(keys_of(kind, 400), rows(0, 399), strict=True)]
    box.execute(KEYED, "INSERT INTO t VALUES (?, ?, ?)", rows=given[:300])
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=given[300:])
    assert box.run() == 0
    assert values(box) == list(range(400))
    assert "rowid" in box.state()["position"]


@pytest.mark.parametrize("step", [60, 300, 86_400])
def test_a_key_that_is_the_time_is_read_by_time_and_a_late_row_is_found(
    box: Box, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A weather station's archive: the producer sets such keys, evenly spaced, and a record may come late."""
    times = [1_790_000_000 + step * number for number in range(300)]
    box.execute("CREATE TABLE archive (dateTime INTEGER NOT NULL UNIQUE PRIMARY KEY, outTemp REAL)")
    insert = "INSERT INTO archive VALUES (?, 1.5)"
    box.execute(insert, rows=[(time,) for time in times])
    assert box.run() == 0
    assert "the keys of archive are its times" in caplog.text
    for late in (times[-1] - 31, times[-2] + 17 if step < 300 else times[-1] - 250):
        box.execute(insert, rows=[(late,)])
        times.append(late)
        assert box.run() == 0
    assert len(set(box.arrived())) == len(box.arrived()) == len(times) == 302
    assert box.run("--cursor", "rowid", STATE_DIR=str(box.folder / "other")) == 0


def test_a_position_by_rowid_stops_where_keys_turn_out_to_be_in_no_order(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows below it are passed over: they are not called delivered, nor safe to delete."""
    box.execute(KEYED, INSERT, rows=rows(0, 0))
    assert box.run() == 0
    keys = keys_of("random of 63 bits", 90)
    given = [(key, time, v) for key, (time, v) in zip(keys, rows(1, 90), strict=True)]
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=given[:30])
    assert box.run() == 0
    assert values(box) == list(range(31))
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=given[30:])
    assert box.run() == 1
    assert "new rows below delivered ones are passed over" in caplog.text
    assert box.run("--status", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["delivered_to"] is None
    assert box.run("--check") == 1
    assert "FAIL database: the keys of t do not rise with its times" in capsys.readouterr().out
    assert values(box) == list(range(31))
    assert box.run("--cursor", "rowid") == 0
    assert box.run("--cursor", "timestamp", STATE_DIR=str(box.folder / "new")) == 0


@pytest.mark.parametrize("kind", ["random, below 3000", "a range for each sensor", "a second range above the first"])
def test_rows_that_come_where_there_were_none_stop_a_position_by_rowid(
    box: Box, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {
        "random, below 3000": random.Random(7).sample(range(3000), 300),
        "a range for each sensor": [10_000 * (1 + v % 3) + v for v in range(300)],
        "a second range above the first": [10_000 * (1 + (v > 150 and v % 2)) + v for v in range(300)],
    }[kind]
    given = [(key, time, v) for key, (time, v) in zip(keys, rows(0, 299), strict=True)]
    box.execute(COUNTED, "INSERT INTO t VALUES (?, ?, ?)", rows=given[:100])
    assert box.run("--batch-rows", "30") == 0
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=given[100:150])
    box.run()
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=given[150:200])
    box.run()
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=given[200:])
    assert box.run() == 1
    assert "new rows below delivered ones are passed over" in caplog.text


def test_delivered_rows_that_are_put_back_in_their_place_are_no_sign_of_keys_in_no_order(box: Box) -> None:
    box.execute(KEYED, INSERT, rows=rows(1, 3000))
    assert box.run() == 0
    box.execute("CREATE TABLE kept AS SELECT * FROM t WHERE id < 2000", "DELETE FROM t WHERE id < 2000")
    box.execute(INSERT, rows=rows(3001, 3010))
    assert box.run("--table", "t") == 0
    box.execute("INSERT INTO t SELECT * FROM kept", INSERT, rows=rows(3011, 3020))
    assert box.run("--table", "t") == 0
    assert values(box) == list(range(1, 3021))


TWO_TIMES = "CREATE TABLE t (id INTEGER PRIMARY KEY, begun_ts REAL, ended_ts REAL, v INTEGER)"


@pytest.mark.parametrize("kind", ["random of 63 bits", "a range for each of three sensors"])
def test_keys_in_no_order_need_a_time_that_is_named_where_several_columns_may_be_it(
    box: Box, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = [(key, 1.79e9 + v, 1.79e9 + v + 5, v) for v, key in enumerate(keys_of(kind, 90))]
    box.execute(TWO_TIMES, "INSERT INTO t VALUES (?, ?, ?, ?)", rows=given[:50])
    assert box.run() == 2
    assert "Set timestamp_col to one of begun_ts, ended_ts" in caplog.text
    assert box.run("--timestamp-col", "begun_ts") == 0
    box.execute("INSERT INTO t VALUES (?, ?, ?, ?)", rows=given[50:])
    assert box.run("--timestamp-col", "begun_ts") == 0
    assert values(box) == list(range(90))


def test_keys_far_apart_are_warned_of_where_nothing_tells_their_order(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)")
    given = [(key, v) for v, key in enumerate(keys_of("random of 63 bits", 90))]
    box.execute("INSERT INTO t VALUES (?, ?)", rows=given)
    assert box.run("--cursor", "rowid", STATE_DIR=str(box.folder / "other"), DATABRICKS_TABLE="other") == 0
    assert "would be passed over" not in caplog.text
    assert box.run() == 0
    assert "would be passed over" in caplog.text
    box.execute("DELETE FROM t", "INSERT INTO t (v) VALUES (?)", rows=[(v,) for v in range(90)])
    caplog.clear()
    assert box.run(STATE_DIR=str(box.folder / "third"), DATABRICKS_TABLE="third") == 0
    assert "would be passed over" not in caplog.text


def test_late_rows_behind_what_was_deleted_are_no_sign_of_keys_in_no_order(box: Box) -> None:
    """AUTOINCREMENT goes on after the highest rowid that it ever gave."""
    box.execute(COUNTED, INSERT, rows=rows(1, 3000))
    box.execute("DELETE FROM t WHERE v > 1000")
    assert box.run() == 0
    box.execute(INSERT, rows=rows(3001, 3100, year=1999))
    assert box.run() == 0
    box.execute(INSERT, rows=rows(3101, 3200))
    assert box.run() == 0
    assert values(box) == [*range(1, 1001), *range(3001, 3201)]


@pytest.mark.parametrize("is_first", [True, False])
def test_rows_before_a_damaged_page_arrive_though_the_order_of_keys_can_not_be_looked_at(
    box: Box, is_first: bool
) -> None:
    given = [(f"2026-01-{1 + v // 1440:02}T{v // 60 % 24:02}:{v % 60:02}:00Z", v) for v in range(24_000)]
    box.execute("PRAGMA page_size = 4096", KEYED, INSERT, rows=given[:20_000])
    if not is_first:
        assert box.run("--batch-rows", "1000") == 0
        box.execute(INSERT, rows=given[20_000:])
    content = bytearray(box.database.read_bytes())
    middle = len(content) // 4096 * (1 if is_first else 11) // (2 if is_first else 12) * 4096
    content[middle : middle + 10 * 4096] = b"\xff" * (10 * 4096)
    box.database.write_bytes(content)
    assert box.run("--batch-rows", "1000") == 1
    assert len(values(box)) >= (5_000 if is_first else 20_000)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("kind", ["last year's rows", "a clock at 1970 after each start", "the newest first"])
def test_times_that_go_back_beside_what_was_deleted_are_no_sign_of_keys_in_no_order(
    box: Box, kind: str, is_first: bool
) -> None:
    """Without AUTOINCREMENT, too: SQLite gives the next higher rowid in the middle of a table as well."""
    given, deleted = {
        "last year's rows": ([*rows(1, 3000), *rows(3001, 7000, 2025)], "v BETWEEN 3001 AND 5500"),
        "a clock at 1970 after each start": (
            [row for first in range(1, 6000, 2000)
             for row in (*rows(first, first + 99, 1970), *rows(first + 100, first + 1999))], "v BETWEEN 2050 AND 3999",
        ),
        "the newest first": ([*reversed(rows(1, 5000))], "0"),
    }[kind]  # fmt: skip
    box.execute(KEYED, INSERT, rows=given)
    assert is_first or box.run() == 0
    box.execute(f"DELETE FROM t WHERE {deleted}")
    for first in (7001, 7011, 7021):
        assert box.run() == 0
        box.execute(INSERT, rows=rows(first, first + 9, 2020))
    assert box.run() == 0
    assert {v for (v,) in box.source("v", "t")} <= set(values(box))
    assert "rowid" in box.state()["position"]


@pytest.mark.parametrize("late", [1, 2])
def test_sensors_that_are_behind_the_others_are_no_sign_of_keys_in_no_order(box: Box, late: int) -> None:
    """Each other row, or each third one, is an hour late."""
    given = [(f"2026-01-01T{10 - (v % (late + 1) == 0):02}:{v // 60:02}:{v % 60:02}+00:00", v) for v in range(400)]
    box.execute(KEYED, INSERT, rows=given)
    assert box.run() == 0
    assert "rowid" in box.state()["position"]


def test_a_position_by_time_stays_one_though_keys_come_in_order(box: Box) -> None:
    box.execute(KEYED, "INSERT INTO t VALUES (?, ?, ?)", rows=[(2**40, "2026-01-01", 0), (5, "2026-01-02", 1)])
    assert box.run() == 0
    box.execute("DELETE FROM t", INSERT, rows=[("2026-01-03", v) for v in range(2, 50)])
    assert box.run() == 0
    assert box.run() == 0
    assert values(box) == list(range(50))
