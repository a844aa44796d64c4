"""Chapter Cursor, by time: each row once, whatever class, form and zone its time is in and whatever its columns become."""

from __future__ import annotations

import base64
import collections
import datetime as dt
import json
import math
import re
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from boxes import Box, crossed, examples, executed

BASE = 1_780_000_000  # 2026-05-28, in seconds
LOOKBACK = 300


class Source:
    """A database and the position of a timestamp cursor on its table `t`; `cycle` gives the rows that are new."""

    def __init__(self, *tables: str, zone: str = "UTC", lookback: float = LOOKBACK, form: str = "auto") -> None:
        self.folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder)
        self.file = self.folder / "source.db"
        self.zone, self.lookback = ZoneInfo(zone), lookback
        self.form = up.TimeForm(form, self.zone)
        self.now = float(time.time())
        self.time = "ts"
        self.position: up.Position | None = None
        self.read: list[int] = []
        self.execute(*tables)

    def execute(self, *statements: str, rows: Sequence[tuple[Any, ...]] | None = None) -> None:
        executed(self.file, *statements, rows=rows)

    def cycle(self, size: int = 1000, most_batches: float = math.inf, column: str = "v") -> list[Any]:
        """One cycle; like the state file, the position goes through JSON. It ends, or the test fails."""
        found: list[Any] = []
        with up.Database(self.file, self.folder) as database:
            table = up.describe(database, "t", self.time)
            cursor = up.TimestampCursor(
                CountingReader(database, table, self.read), self.lookback, self.form, lambda: self.now
            )
            state = up.State(table="t", position=self.position or cursor.start(None))
            position = cursor.located(state).position
            batches = 0
            while batches < most_batches and (batch := cursor.next_batch(position, lambda: size)):
                position, batches = json.loads(json.dumps(batch.position)), batches + 1
                rows = [value for page in batch.pages() for value in page.columns[column].values()]
                assert 0 < len(rows) <= size
                found += rows
                self.position = position
                assert batches < 5000
        return found


class CountingReader(up.Reader):
    """A reader that notes how many rows it read."""

    def __init__(self, database: up.Database, table: up.Table, read: list[int]) -> None:
        super().__init__(database, table)
        self.read = read

    def page(self, where: str, order: str, limit: int, key: str) -> up.RawPage:
        page = super().page(where, order, limit, key)
        self.read.append(len(page.keys))
        return page


def text(seconds: float, form: str, offset: float = 0) -> str:
    """A time as text, in the zone that is so many hours ahead."""
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone(dt.timezone(dt.timedelta(hours=offset)))
    return moment.strftime(form)


FORMS: dict[str, Callable[[float], Any]] = {
    "seconds": int,
    "real": lambda s: s + 0.25,
    "milliseconds": lambda s: int(s * 1000) + 7,
    "microseconds": lambda s: int(s * 10**6) + 9,
    "nanoseconds": lambda s: int(s * 10**9) + 11,
    "plain": lambda s: text(s, "%Y-%m-%d %H:%M:%S"),
    "fraction": lambda s: text(s, "%Y-%m-%d %H:%M:%S.125"),
    "zulu": lambda s: text(s, "%Y-%m-%dT%H:%M:%SZ"),
    "east": lambda s: text(s, "%Y-%m-%dT%H:%M:%S+14:00", 14),
    "west": lambda s: text(s, "%Y-%m-%dT%H:%M:%S-12:00", -12),
    "basic": lambda s: text(s, "%Y%m%dT%H%M%SZ"),
    "week": lambda s: text(s, "%G-W%V-%uT%H:%M:%SZ"),
    "spaces": lambda s: " " + text(s, "%Y-%m-%d %H:%M:%S"),
    "day": lambda s: text(s, "%Y-%m-%d"),
    "digits": lambda s: str(int(s)),
    "digits of milliseconds": lambda s: str(int(s * 1000)),
    "garbage": lambda s: f"x{s}",
    "of another country": lambda s: text(s, "%m/%d/%Y %H:%M"),
    "scraps": lambda s: ["2/3/26", "1-1", "2,026", "20-x", "9 h", "-", "", "1:5", "19.x", "2026", "199"][int(s) % 11],
    "number without end": lambda _: math.inf,
    "blob": lambda s: str(s).encode(),
    "null": lambda _: None,
}

TABLES = {
    "none": ("CREATE TABLE t (ts, v INTEGER PRIMARY KEY)",),
    "text": ("CREATE TABLE t (ts TEXT, v INTEGER PRIMARY KEY)", "CREATE INDEX i ON t (ts)"),
    "datetime": ("CREATE TABLE t (ts DATETIME, v INTEGER PRIMARY KEY)", "CREATE INDEX i ON t (ts)"),
    "integer": ("CREATE TABLE t (ts INTEGER, v INTEGER)", "CREATE INDEX i ON t (ts)"),
    "any": ("CREATE TABLE t (ts, v INTEGER)", "CREATE INDEX i ON t (ts DESC)"),
    "nocase": ("CREATE TABLE t (ts TEXT COLLATE NOCASE, v INTEGER)", "CREATE INDEX i ON t (ts)"),
    "without rowid": ("CREATE TABLE t (ts, v INTEGER, PRIMARY KEY (v)) WITHOUT ROWID", "CREATE INDEX i ON t (ts)"),
    "view": ("CREATE TABLE base (ts TEXT, v INTEGER)", "CREATE INDEX i ON base (ts)", "CREATE VIEW t AS SELECT * FROM base"),
    "utf-16": ("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE t (ts TEXT, v INTEGER)", "CREATE INDEX i ON t (ts)"),
}  # fmt: skip

times = st.tuples(st.integers(0, 40 * LOOKBACK) | st.integers(-40 * 86400, 0), st.sampled_from([*FORMS]))
futures = st.tuples(st.just(10**9), st.sampled_from(["seconds", "zulu", "milliseconds", "plain", "digits"]))


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([*TABLES]),
    st.lists(st.lists(times | futures, max_size=25), min_size=1, max_size=4),
    st.sampled_from([1, 2, 7, 1000]),
    st.sampled_from(["UTC", "UTC", "America/New_York", "Asia/Tokyo"]),
    st.lists(st.sampled_from([1, 3, 10**6]), min_size=4, max_size=4),
)
def test_rows_within_the_promise_arrive_once_and_none_twice_in_any_mix_of_times(
    table: str, steps: list[list[tuple[int, str]]], size: int, zone: str, batches: list[int]
) -> None:
    source = Source(*TABLES[table], zone=zone)
    base, number, found, owed = "base" if table == "view" else "t", 0, list[int](), set[int]()
    reached = -math.inf
    for step, most in zip(steps, batches, strict=False):
        rows = [(FORMS[form](BASE + seconds), number + index) for index, (seconds, form) in enumerate(step)]
        number += len(rows)
        source.execute(f"INSERT INTO {base} (ts, v) VALUES (?, ?)", rows=rows)
        connection = sqlite3.connect(source.file)
        stored = connection.execute(f"SELECT ts, v FROM {base} WHERE v >= ?", [number - len(rows)]).fetchall()
        connection.close()
        moments = up.convert_each([ts for ts, _ in stored], "timestamp", source.form)[0].cast(up.arrow_type("bigint"))
        for (raw, v), moment in zip(stored, moments.to_pylist(), strict=True):
            is_garbage = moment is None and raw is not None and not str(raw).replace(".", "").isdecimal()
            if is_garbage or (moment is not None and moment >= reached - LOOKBACK * 10**6):
                owed.add(v)
        known = [moment for moment in moments.to_pylist() if moment is not None and moment <= source.now * 10**6]
        found += source.cycle(size, most)  # an interrupted cycle, perhaps
        reached = max([reached, *known])
    found += source.cycle(size)
    assert not [v for v, count in Counter(found).items() if count > 1]
    assert not owed - set(found)
    assert source.cycle(size) == []


@settings(max_examples=examples(150))
@given(st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(max_size=20))
def test_any_value_is_found_again_by_its_literal(value: Any) -> None:
    assume(not isinstance(value, str) or up.decoded(value.encode(errors="surrogatepass"), "utf-8") == value)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (c)")
    connection.execute("INSERT INTO t VALUES (?)", [value])
    assert connection.execute(f"SELECT count(*) FROM t WHERE c = {up.raw_literal(value, 'utf-8')}").fetchone() == (1,)


@settings(max_examples=examples(150))
@given(
    st.integers(-20, 20),
    st.integers(-2 * 10**10, 10**10 - 21) | st.integers(BASE - 86400, BASE + 86400),  # To 2286, as it says.
    st.sampled_from([*FORMS]),
    st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(0, 999_999),
)
def test_the_spans_of_a_time_hold_each_value_of_that_time_or_a_later_one(
    later: int, seconds: int, form: str, zone: str, micros: int
) -> None:
    assume(-62_000_000_000 < seconds < 250_000_000_000)
    value = FORMS[form](seconds + later)
    in_zone = up.TimeForm(zone=ZoneInfo(zone))
    moment = up.convert_each([value], "timestamp", in_zone)[0].cast(up.arrow_type("bigint")).to_pylist()[0]
    oldest = seconds * 10**6 + micros
    assume(moment is not None and moment >= oldest)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (c)")
    connection.execute("INSERT INTO t VALUES (?)", [value])
    source = Source("CREATE TABLE t (ts, v)")
    with up.Database(source.file, source.folder) as database:
        cursor = up.TimestampCursor(up.Reader(database, up.describe(database, "t", None)), 0, in_zone, time.time)
        for is_scan in (False, True):
            spans = up.raw_spans("q.c", oldest, in_zone, is_scan)
            wheres = up.any_of(cursor.order.where(span).replace('q."ts"', "q.c") for span in spans)
            assert connection.execute(f"SELECT count(*) FROM t q WHERE {wheres}").fetchone() == (1,)


@settings(max_examples=examples(50))
@given(
    st.lists(
        st.text("0123456789-:/,. xZTW+!", max_size=12) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
        min_size=1,
        max_size=6,
    ),
    st.integers(-(10**16), 4 * 10**15) | st.just(BASE * 10**6),
    st.sampled_from(["DATETIME", "TEXT", "INTEGER", "BLOB"]),
    st.sampled_from(
        [up.AUTO, up.TimeForm(zone=ZoneInfo("America/New_York")), up.TimeForm("unix_ms"), up.TimeForm("ole")]
    ),
)
def test_no_value_is_in_two_of_the_places_that_are_searched(
    values: list[Any], oldest: int, declared: str, form: up.TimeForm
) -> None:
    source = Source(f"CREATE TABLE t (ts {declared}, v)")
    source.execute("INSERT INTO t VALUES (?, ?)", rows=[(value, number) for number, value in enumerate(values)])
    with up.Database(source.file, source.folder) as database:
        order = up.TimeColumn(up.Reader(database, up.describe(database, "t", None)), form)
        spans = up.raw_spans(order.sql, oldest, form)
        counts = [database.rows(f"SELECT count(*) FROM t q WHERE {order.where(span)}") for span in spans]
        pages = list(order.pages(spans, "q.v"))
    found = Counter(v for page in pages for v in page.columns["v"].values())
    assert set(found.values()) <= {1}, (found, [span for span, [(count,)] in zip(spans, counts, strict=True) if count])


def test_a_cycle_reads_new_rows_and_those_within_lookback_alone_where_the_time_has_an_index() -> None:
    for form in ("seconds", "milliseconds", "plain", "zulu", "fraction", "digits"):
        source = Source("CREATE TABLE t (v INTEGER PRIMARY KEY, ts TEXT)", "CREATE INDEX i ON t (ts)")
        if form in ("seconds", "milliseconds"):
            source = Source("CREATE TABLE t (v INTEGER PRIMARY KEY, ts INTEGER)", "CREATE INDEX i ON t (ts)")
        rows = [(v, FORMS[form](BASE + v)) for v in range(20_000)]
        source.execute("INSERT INTO t VALUES (?, ?)", rows=rows)
        if form != "digits" or up.convert_each(["1780000000"], "timestamp", up.AUTO)[1] == {}:
            assert len(source.cycle(50_000)) == 20_000
            source.read.clear()
            assert source.cycle(50_000) == []
            assert sum(source.read) <= LOOKBACK + 10 + 2 * up.NEWEST_VALUES


def test_a_table_without_an_index_is_searched_by_few_conditions() -> None:
    """Of each row all of them are looked at."""
    assert len(up.raw_spans("q.ts", BASE * 10**6, up.AUTO, is_scan=True)) < 25
    assert len(up.raw_spans("q.ts", BASE * 10**6, up.AUTO)) > 200


@pytest.mark.parametrize(("index", "most"), [("", 12), ("CREATE INDEX i ON t (ts)", 24)])
def test_a_large_table_without_an_index_is_read_in_few_scans(
    monkeypatch: pytest.MonkeyPatch, index: str, most: int
) -> None:
    """Each page of it costs one, so a page has more rows there, though no more bytes."""
    monkeypatch.setattr(up, "SMALL_FILE_BYTES", 0)
    source = Source("CREATE TABLE t (ts TEXT, v INTEGER PRIMARY KEY)", *filter(None, [index]))
    rows = [(v, text(BASE + v, "%Y-%m-%d %H:%M:%S")) for v in range(60_000)]
    source.execute("INSERT INTO t (v, ts) VALUES (?, ?)", rows=rows)
    assert source.cycle(60_000) == [*range(60_000)]
    pages = [count for count in source.read if count > 500]
    assert len(pages) < most
    assert (max(pages) > 20_000) is (not index)


@pytest.mark.parametrize("table", ["text", "datetime", "any", "without rowid", "view", "utf-16"])
def test_each_place_where_new_rows_may_be_is_searched_by_the_index(table: str) -> None:
    source = Source(*TABLES[table])
    with up.Database(source.file, source.folder) as database:
        cursor = up.TimestampCursor(up.Reader(database, up.describe(database, "t", None)), 300, up.AUTO, time.time)
        for span in up.raw_spans("q.ts", BASE * 10**6, up.AUTO):
            asked = f"SELECT * FROM t q WHERE {cursor.order.where(span)} ORDER BY {cursor.order.sql} LIMIT 9"
            plan = " ".join(str(step[-1]) for step in database.rows(f"EXPLAIN QUERY PLAN {asked}"))
            assert "SEARCH" in plan
            assert "SCAN" not in plan
            assert "B-TREE" not in plan


@pytest.mark.parametrize("odd", ["-", "1-1", "1,5", "10/11", "19.x", "2/3/26", "20-x", "2,026", "203", "9 h", "x"])
@pytest.mark.parametrize("declared", ["DATETIME", "TEXT", "INTEGER"])
def test_a_value_that_is_no_date_is_found_wherever_it_sorts_and_once(declared: str, odd: str) -> None:
    """A column of numeric affinity would take a limit such as 1 or 20 for a number, below all texts."""
    source = Source(f"CREATE TABLE t (ts {declared}, v INTEGER PRIMARY KEY)", "CREATE INDEX i ON t (ts)")
    source.execute("INSERT INTO t VALUES (?, ?)", rows=[(text(BASE + v, "%Y-%m-%d %H:%M:%S"), v) for v in range(5)])
    assert source.cycle() == list(range(5))
    source.execute("INSERT INTO t VALUES (?, 9)", rows=[(odd,)])
    assert source.cycle() == ([] if odd == "203" else [9])
    assert source.cycle() == []


@pytest.mark.parametrize("seconds", [-(10**8), 0, 5 * 10**8, 10**9, 1_000_000_400, 1_100_000_000, BASE])
def test_a_table_without_an_index_on_its_time_is_read_whatever_year_it_has_come_to(seconds: int) -> None:
    source = Source("CREATE TABLE t (ts, v INTEGER PRIMARY KEY)")
    for time_of_all in (seconds, seconds + 1000):
        source.execute(
            "INSERT INTO t (ts) VALUES (?)", rows=[(time_of_all,), (text(time_of_all, "%Y-%m-%d %H:%M:%S"),)]
        )
        assert len(source.cycle()) == 2
        assert source.cycle() == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_cycle_reads_each_row_once_at_any_size_of_batches(size: int) -> None:
    source = Source("CREATE TABLE t (v INTEGER PRIMARY KEY, ts TEXT)", "CREATE INDEX i ON t (ts)")
    source.execute("INSERT INTO t VALUES (?, ?)", rows=[(v, text(BASE + v, "%Y-%m-%d %H:%M:%S")) for v in range(500)])
    assert source.cycle(size) == list(range(500))
    assert sum(source.read) <= 500 + 2 * up.NEWEST_VALUES


KEYED = "CREATE TABLE t (v INTEGER PRIMARY KEY, ts TEXT, a INTEGER, b TEXT)"
CHANGES = {
    "nothing": [],
    "added": ["ALTER TABLE {} ADD COLUMN x{} REAL DEFAULT 1.5"],
    "added without default": ["ALTER TABLE {} ADD COLUMN x{}"],
    "dropped": ["ALTER TABLE {} DROP COLUMN a"],
    "renamed": ["ALTER TABLE {} RENAME COLUMN b TO c{}"],
    "moved": ["CREATE TABLE n (b TEXT, ts TEXT, v INTEGER PRIMARY KEY, a INTEGER)",
              "INSERT INTO n (b, ts, v, a) SELECT b, ts, v, a FROM {}", "DROP TABLE {}", "ALTER TABLE n RENAME TO {}"],
    "of another type": ["CREATE TABLE n (v INTEGER PRIMARY KEY, ts TEXT, a TEXT, b TEXT)",
                        "INSERT INTO n (v, ts, a, b) SELECT v, ts, a, b FROM {}", "DROP TABLE {}",
                        "ALTER TABLE n RENAME TO {}"],
}  # fmt: skip


@settings(max_examples=examples(60))
@given(
    st.sampled_from(["keyed", "plain", "without rowid", "view"]),
    st.lists(st.tuples(st.sampled_from([*CHANGES]), st.lists(st.integers(0, 3), max_size=5)), min_size=1, max_size=4),
    st.booleans(),
)
def test_any_change_of_columns_between_two_cycles_sends_nothing_again_or_asks(
    kind: str, steps: list[tuple[str, list[int]]], new_first: bool
) -> None:
    keyless = KEYED.replace(" PRIMARY KEY", "")
    tables = {
        "keyed": (KEYED,), "plain": (keyless,), "without rowid": (KEYED.replace(" t ", " t ") + " WITHOUT ROWID",),
        "view": (keyless.replace(" t ", " base "), "CREATE VIEW t AS SELECT * FROM base"),
    }[kind]  # fmt: skip
    source, base, found = Source(*tables), "base" if kind == "view" else "t", list[int]()
    number = 0

    def insert(seconds: list[int]) -> None:
        nonlocal number
        rows = [(number + i, text(BASE + s, "%Y-%m-%d %H:%M:%S")) for i, s in enumerate(seconds)]
        number += len(rows)
        source.execute(f"INSERT INTO {base} (v, ts) VALUES (?, ?)", rows=rows)

    insert([0, 1, 1, 2, 3])
    found += source.cycle(2)
    for change, seconds in steps:
        if new_first:
            insert(seconds)
        try:
            source.execute(*[statement.format(base, number) for statement in CHANGES[change]])
        except sqlite3.OperationalError:
            assume(False)
        if not new_first:
            insert(seconds)
        try:
            found += source.cycle(2)
        except up.SourceError as error:
            assert kind in ("plain", "view") and "can't be told" in str(error)
            return
    assert sorted(found) == list(range(number))


def test_new_rows_of_the_times_of_deleted_ones_are_asked_about_where_a_column_was_dropped_too() -> None:
    source = Source(KEYED.replace(" PRIMARY KEY", ""))
    source.execute("INSERT INTO t (v, ts) VALUES (?, '2026-05-28')", rows=[(v,) for v in range(20)])
    assert len(source.cycle()) == 20
    source.execute("DELETE FROM t WHERE v > 9", "ALTER TABLE t DROP COLUMN a")
    source.execute("INSERT INTO t (v, ts) VALUES (?, '2026-05-28')", rows=[(v,) for v in range(20, 26)])
    with pytest.raises(up.SourceError, match="can't be told"):
        source.cycle()


def test_new_rows_of_the_times_of_deleted_ones_are_told_by_their_keys_where_a_column_was_dropped_too() -> None:
    source = Source(KEYED)
    source.execute("INSERT INTO t (v, ts) VALUES (?, '2026-05-28')", rows=[(v,) for v in range(20)])
    assert len(source.cycle()) == 20
    source.execute("DELETE FROM t", "ALTER TABLE t DROP COLUMN a")
    source.execute("INSERT INTO t (v, ts) VALUES (?, '2026-05-28')", rows=[(v,) for v in range(20, 26)])
    assert source.cycle() == [*range(20, 26)]
    assert source.cycle() == []


@pytest.mark.parametrize(("before", "after"), [("INTEGER", "TEXT"), ("TEXT", "INTEGER")])
def test_rows_whose_key_is_of_another_class_since_are_asked_about(before: str, after: str) -> None:
    tables = [f"CREATE TABLE {name} (k {kind} PRIMARY KEY, ts TEXT, v INTEGER) WITHOUT ROWID"
              for name, kind in (("t", before), ("n", after))]  # fmt: skip
    source = Source(tables[0])
    source.execute("INSERT INTO t VALUES (?, '2026-05-28 10:00:00', ?)", rows=[(v, v) for v in range(20)])
    assert len(source.cycle()) == 20
    source.execute(tables[1], "INSERT INTO n SELECT * FROM t", "DROP TABLE t", "ALTER TABLE n RENAME TO t")
    with pytest.raises(up.SourceError, match="can't be told"):
        source.cycle()


def test_an_edited_row_is_a_new_row_also_where_a_column_was_added() -> None:
    source = Source(KEYED, f"INSERT INTO t VALUES (1, '{text(BASE, '%Y-%m-%d')}', 1, 'b'), (2, '2026-05-28', 1, 'b')")
    assert source.cycle() == [1, 2]
    source.execute("UPDATE t SET a = 5 WHERE v = 1", "ALTER TABLE t ADD COLUMN x")
    assert source.cycle() == [1]
    assert source.cycle() == []


def test_rows_without_a_key_that_fill_a_new_column_stand_behind_those_that_have_its_default() -> None:
    source = Source("CREATE TABLE base (ts TEXT, v INTEGER)", "CREATE VIEW t AS SELECT * FROM base")
    source.execute("INSERT INTO base VALUES ('2026-05-28', 1)")
    assert source.cycle() == [1]
    source.execute("ALTER TABLE base ADD COLUMN x", "INSERT INTO base VALUES ('2026-05-28', 1, 7)")
    assert source.cycle(column="x") == [7]


@pytest.mark.parametrize(
    "default",
    ["celsius", "[not set]", "`n/a`", '"v"', "v", "[it's]", '"say ""so"""', "'v'", "-1.5", "+2", "x'00ff'", "true",
     "NULL", "grün"],
)  # fmt: skip
def test_a_default_is_what_sqlite_takes_it_for(default: str) -> None:
    """There a word is a text, also one that is a column's name."""
    source = Source("CREATE TABLE t (v INTEGER PRIMARY KEY, ts TEXT, made TEXT) WITHOUT ROWID")
    source.execute("INSERT INTO t VALUES (1, '2026-05-28', 'x'), (2, '2026-05-28', 'x')")
    assert source.cycle() == [1, 2]
    source.execute(f"ALTER TABLE t ADD COLUMN x DEFAULT {default}", "INSERT INTO t (v, ts) VALUES (3, '2026-05-28')")
    assert source.cycle() == [3]


def test_rows_from_the_future_are_bounded_and_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "MOST_FUTURE", 10)
    source = Source("CREATE TABLE t (v INTEGER PRIMARY KEY, ts TEXT)")
    source.execute("INSERT INTO t VALUES (?, ?)", rows=[(v, text(10**10 + v, "%Y-%m-%d %H:%M:%S")) for v in range(15)])
    with pytest.raises(up.SourceError, match="5 rows of t are from the future"):
        source.cycle(3)
    source.now = 10**10 + 20
    assert sorted(source.cycle(3)) == list(range(10, 15))
    assert source.cycle(3) == []


def set_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Have all that looks at the clock see this time."""
    monkeypatch.setattr(time, "time", lambda: now)
    defaults = [(lambda: now) if value is REAL_TIME else value for value in up.Job.__init__.__defaults__ or ()]
    monkeypatch.setattr(up.Job.__init__, "__defaults__", tuple(defaults))


def test_a_clock_that_was_ahead_for_a_while_is_told_with_the_remedy(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come in when it is right again are older than all that were sent: nothing tells them from late ones."""
    now = int(time.time())
    box.execute("CREATE TABLE t (id TEXT PRIMARY KEY, time INTEGER) WITHOUT ROWID")
    box.execute(insert := "INSERT INTO t VALUES (?, ?)", rows=[("a", now + 7200)])
    with monkeypatch.context() as ahead:
        set_clock(ahead, now + 7200)
        assert box.run() == 0
    assert "has yet to reach" not in caplog.text
    box.execute(insert, rows=[("b", now)])
    assert box.run() == 0
    assert "has yet to reach" in caplog.text and "--since TIMESTAMP" in caplog.text
    capsys.readouterr()
    assert box.run("--status", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["delivered_to"] is None
    assert box.run("--since", str(now - 100)) == 0
    box.execute(insert, rows=[("c", now + 1)])
    caplog.clear()
    assert box.run() == 0
    assert sorted(box.arrived("id")) == [("a",), ("a",), ("b",), ("c",)]  # --since says so.
    assert "has yet to reach" not in caplog.text


def test_of_columns_that_differ_by_case_alone_rows_are_known_by_each(box: Box) -> None:
    """By time, once a column was added. SQLite takes é and É for two."""
    names = 'time, "é", "É"'
    box.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, "é" TEXT, "É" TEXT)')
    box.execute(f"CREATE VIEW v AS SELECT {names} FROM t")
    box.execute("INSERT INTO t VALUES (1, '2026-03-01', 'a', 'b')")
    rules = {"SQLITE_TABLE_NAME": "v", "ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"drop": ["é"]}'}
    assert box.run(**rules) == 0
    box.execute("ALTER TABLE t ADD COLUMN more", "DROP VIEW v", f"CREATE VIEW v AS SELECT {names}, more FROM t")
    assert box.run(**rules) == 0
    assert box.arrived('"É"', "secure_") == [("b",)]


def test_of_columns_that_differ_by_case_alone_the_time_is_the_one_that_is_set(box: Box) -> None:
    box.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, "zeité" TEXT, "ZEITÉ" TEXT)')
    box.execute("INSERT INTO t VALUES (1, '2026-03-01', '2026-03-02')")
    rules = {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"drop": ["zeité"]}'}
    assert box.run("--timestamp-col", "ZEITÉ", **rules) == 0
    assert box.state()["last_upload"].startswith("2026-03-02")


def test_times_that_rules_hide_are_in_no_line_of_the_log(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """Neither one of the future, nor those of a table that was made anew, nor where a lost state stood."""
    box.environ |= {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"drop": ["time"]}', "UPLOAD_SOURCE_ID": "box"}
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT) WITHOUT ROWID")
    box.execute("INSERT INTO t VALUES (1, '2026-03-01T00:00:01Z'), (2, '2999-03-01T00:00:01Z')")
    assert box.run() == 0
    box.execute("DELETE FROM t", "INSERT INTO t VALUES (3, '2026-02-01T00:00:01Z')")
    assert box.run() == 0
    box.state_file.unlink()
    assert box.run("--recover") == 0
    for part in ("times before 2000", "all that are here are older", "ended at a time that is private"):
        assert part in caplog.text
    assert not re.search("2026-0[23]-01|2999", caplog.text)


def test_texts_without_a_declaration_are_texts_in_a_view_too(box: Box) -> None:
    """SQLite calls such a column BLOB there."""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, a, b BLOB)", "CREATE VIEW v AS SELECT * FROM t")
    box.execute("INSERT INTO t VALUES (1, '2026-03-01', 'a', x'00')")
    assert box.run("--sqlite-table-name", "v") == 0
    assert box.arrived("a, b") == [("a", b"\0")]


DAYS = ("--timestamp-format", "%d.%m.%Y %H:%M:%S")


@pytest.mark.parametrize(("form", "flags"), [("%Y-%m-%d %H:%M:%S", ()), (DAYS[1], DAYS), ("%s", ())])
def test_a_table_made_anew_with_older_rows_alone_is_told_with_the_remedy(
    box: Box, caplog: pytest.LogCaptureFixture, form: str, flags: tuple[str, ...]
) -> None:
    """Rows that are late are passed over; where all are, most likely the table is another one."""
    made, insert = "CREATE TABLE t (id TEXT PRIMARY KEY, time TEXT) WITHOUT ROWID", "INSERT INTO t VALUES (?, ?)"
    last = BASE + 5 * 86400  # 2026-06-02, by its text before the rows of May
    times = [BASE + 10 * v for v in range(200)] + [last]
    box.execute(made, insert, rows=[(f"a{v}", text(moment, form)) for v, moment in enumerate(times)])
    assert box.run(*flags) == 0
    box.execute(insert, rows=[("a", text(last, form))])
    assert [box.run(*flags), box.run(*flags)] == [0, 0]
    assert "older by more" not in caplog.text
    box.execute("DELETE FROM t")
    assert box.run(*flags) == 0
    assert "older by more" not in caplog.text
    box.execute(insert, rows=[("b", text(last - 302, form)), ("c", text(last - 301, form)), ("d", "none"), ("e", None)])
    assert [box.run(*flags), box.run(*flags)] == [3, 0]  # d is in quarantine.
    told = [line for line in caplog.messages if "older by more" in line]
    assert len(told) == 2
    sent, here = (dt.datetime.fromtimestamp(moment, dt.UTC).isoformat() for moment in (last, last - 301))
    assert f"rows up to {sent} were sent" in told[1]
    assert f"newest is of {here}" in told[1] and "--since TIMESTAMP" in told[1]
    assert box.run("--since", "2026-06-02T00:00:00Z", *flags) == 3
    assert {("b",), ("c",)} < {*box.arrived("id")}


def test_a_box_whose_clock_was_never_set_goes_by_the_times_of_its_rows(
    box: Box, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, 60.0)
    rows = [(text(BASE + 10 * v, "%Y-%m-%d %H:%M:%S"), v) for v in range(2000)]
    box.execute(
        "CREATE TABLE t (time TEXT, v INTEGER PRIMARY KEY) WITHOUT ROWID", "INSERT INTO t VALUES (?, ?)", rows=rows
    )
    assert box.run("--batch-rows", "150") == 0
    assert len(box.arrived()) == 2000
    assert "clock is not set" in caplog.text
    assert len(box.state()["position"]["seen"]) < 2000
    assert box.run() == 0
    assert len(box.arrived()) == 2000


REAL_TIME = time.time


def test_a_state_of_version_1_0_0_goes_on_without_doubles() -> None:
    """The state was written by 1.0.0 after these rows."""
    file = Path(__file__).parent / "states" / "1.0.0-by-time.json"
    state = up.StateFile(file.parent)
    state.file = file
    loaded = state.load()
    source = Source("CREATE TABLE base (time TEXT, v INTEGER, note)", "CREATE VIEW t AS SELECT * FROM base")
    rows = [("2026-01-01T00:00:00Z", 1, "a"), ("2026-01-01T00:10:00Z", 2, "a"), ("2026-01-01T00:10:00Z", 2, "a"),
            ("2026-01-01T00:10:30Z", 3, None), ("2026-01-01T00:12:00Z", 4, 1.5), ("2199-01-01T00:00:00Z", 5, b"x"),
            ("no time", 6, "")]  # fmt: skip
    source.execute("INSERT INTO base VALUES (?, ?, ?)", rows=rows)
    assert loaded
    source.position, source.time = loaded.position, "time"
    assert source.cycle() == []
    source.execute("INSERT INTO base VALUES (?, ?, ?)", rows=[("2026-01-01T00:10:00Z", 2, "a"), ("2026-01-01", 8, "b")])
    assert source.cycle() == [2]
    assert source.cycle() == []


def test_columns_that_change_amid_a_pass_send_nothing_again_and_lose_nothing() -> None:
    source = Source(KEYED)
    source.execute(
        "INSERT INTO t (v, ts) VALUES (?, ?)", rows=[(v, text(BASE + v // 3, "%Y-%m-%d %H:%M:%S")) for v in range(30)]
    )
    found = source.cycle(4, most_batches=3)
    assert source.position and source.position["pass"] and len(found) == 12
    source.execute("ALTER TABLE t ADD COLUMN more REAL DEFAULT 1.5", "ALTER TABLE t DROP COLUMN a")
    source.execute(
        "INSERT INTO t (v, ts) VALUES (?, ?)",
        rows=[(v, text(BASE + v // 9, "%Y-%m-%d %H:%M:%S")) for v in range(30, 40)],
    )
    found += source.cycle(4)
    assert sorted(found) == [*range(40)]
    assert source.cycle() == []


def test_a_state_of_version_1_0_0_by_time_ends_with_a_question_where_columns_are_others_at_the_upgrade() -> None:
    """It has one digest of all values; without a known row of the same times all of these would go again."""
    file = Path(__file__).parent / "states" / "1.0.0-by-time.json"
    states = up.StateFile(file.parent)
    states.file = file
    loaded = states.load()
    assert loaded
    source = Source("CREATE TABLE base (time TEXT, v INTEGER, note, more)", "CREATE VIEW t AS SELECT * FROM base")
    source.execute("INSERT INTO base VALUES ('2026-01-01T00:12:00Z', 4, 1.5, 'new')")
    source.position, source.time = loaded.position, "time"
    with pytest.raises(up.SourceError, match="other columns now"):
        source.cycle()
    source.execute("UPDATE base SET time = '2026-01-01T00:13:00Z'")  # as rows that are rewritten in place
    assert source.cycle() == [4]


def test_an_intent_holds_what_it_adds_to_the_rows_in_sight() -> None:
    before = {"key": [], "seen": up.packed(Counter({f"{i:02x}" * 16: 1 + i % 2 for i in range(200)}))}
    after = {"key": [], "seen": up.packed(Counter({f"{i:02x}" * 16: 1 + i % 2 for i in range(3, 203)}))}
    saved = json.loads(json.dumps(up.abridged(before, after)))
    assert len(json.dumps(saved)) < len(json.dumps(after)) / 20
    assert up.unabridged(before, saved) == after


def test_rows_are_compared_with_delivered_ones_only_until_all_of_those_have_come() -> None:
    asked: list[str] = []

    def told_by(row: str) -> str:
        asked.append(row)
        return row

    left = collections.Counter({"delivered": 2, "never read": -1})
    rows = ["new", "delivered", "delivered", "delivered", "later"]
    assert up.beyond(left, rows, told_by) == [0, 3, 4]
    assert asked == rows[:3]


def test_a_record_of_a_row_in_sight_is_short() -> None:
    source = Source(KEYED)
    source.execute("INSERT INTO t VALUES (?, '2026-05-28', 1, 'b')", rows=[(v,) for v in range(1000)])
    source.cycle()
    assert source.position and len(base64.b64decode(source.position["seen"])) == 20 * 1000


def test_rows_that_come_in_behind_its_place_while_a_pass_goes_on_are_found_by_the_next_one() -> None:
    source = Source(*TABLES["text"])
    insert, form = "INSERT INTO t (v, ts) VALUES (?, ?)", "%Y-%m-%d %H:%M:%S"
    source.execute(insert, rows=[(v, text(BASE + v, form)) for v in range(10)])
    assert source.cycle(5, 2) == list(range(10))
    source.position = None
    assert source.cycle(5, 1) == list(range(5))
    source.execute(insert, rows=[(10, text(BASE, form)), *((v, text(BASE + 600 * v, form)) for v in range(11, 20))])
    assert sorted(source.cycle(5)) == list(range(5, 20))


def test_numbers_beside_texts_in_a_column_of_text_affinity_are_no_limits_for_texts() -> None:
    """A view that unites a column of texts with one of numbers has one affinity for both."""
    source = Source(
        "CREATE TABLE a (ts TEXT, v)", "CREATE TABLE b (ts INTEGER, v)", "CREATE INDEX i ON a (ts)",
        "CREATE INDEX j ON b (ts)", "CREATE VIEW t AS SELECT ts, v FROM a UNION ALL SELECT ts, v FROM b",
    )  # fmt: skip
    source.execute("INSERT INTO a VALUES (?, ?)", rows=[("x", 1), ("", 2), ("1", 3), (text(BASE, "%Y-%m-%d %H:%M"), 4)])
    source.execute("INSERT INTO b VALUES (?, ?)", rows=[(BASE, 5), (BASE * 1000, 6), (9.5e18, 7), (-9.5e18, 8)])
    assert sorted(source.cycle(2)) == [*range(1, 9)]
    assert source.cycle(2) == []


@crossed(
    kinds=[("TEXT", "INTEGER"), ("REAL", "TEXT"), ("TEXT", ""), ("", "REAL"), ("", "NUMERIC")],
    union=["UNION ALL", "UNION"],
    size=[1, 3, 1000],
)
def test_a_view_of_parts_that_write_times_by_classes_of_their_own_delivers_each_row_once(
    kinds: tuple[str, str], union: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "PAGE_ROWS", 4)
    tables = [f"CREATE TABLE {name} (ts {kind}, v)" for name, kind in zip("ab", kinds, strict=True)]
    source = Source(*tables, f"CREATE VIEW t AS SELECT * FROM a {union} SELECT * FROM b")
    for begin in (0, 30):
        rows = [((str, int)[v // 2 % 2](BASE + v), v) for v in range(begin, begin + 30)]
        for place, name in enumerate("ab"):
            source.execute(f"INSERT INTO {name} VALUES (?, ?)", rows=rows[place::2])
        assert sorted(source.cycle(size, 5) + source.cycle(size)) == [*range(begin, begin + 30)]
    assert source.cycle(size) == []


def test_a_text_that_sorts_among_the_digits_of_numbers_is_found_once() -> None:
    source = Source(*TABLES["text"])
    insert = "INSERT INTO t (ts, v) VALUES (?, ?)"
    source.execute(insert, rows=[(text(BASE, "%Y-%m-%d %H:%M:%S"), 1)])
    assert source.cycle() == [1]
    source.execute(insert, rows=[(text(BASE, " %Y-%m-%d %H:%M:%S"), 2), ("", 3), ("-", 4)])
    assert sorted(source.cycle()) == [2, 3, 4]
    assert source.cycle() == []


def test_where_no_key_tells_which_rows_were_delivered_the_run_asks() -> None:
    source = Source("CREATE TABLE base (ts TEXT, a, v INTEGER)", "CREATE VIEW t AS SELECT * FROM base")
    source.execute("INSERT INTO base VALUES ('2026-05-28', 1, 1)")
    assert source.cycle() == [1]
    before = source.position
    source.execute("ALTER TABLE base DROP COLUMN a", "INSERT INTO base VALUES ('2026-05-28', 2)")
    with pytest.raises(up.SourceError, match="can't be told") as refused:
        source.cycle()
    assert "--since" in refused.value.hint
    assert source.position == before


def test_a_collation_that_is_not_known_here_does_not_matter_to_the_time_column() -> None:
    source = Source()
    connection = sqlite3.connect(source.file)
    connection.create_collation("LOCALIZED", lambda a, b: (a > b) - (a < b))
    connection.execute("CREATE TABLE t (ts TEXT COLLATE LOCALIZED, v INTEGER)")
    connection.execute("INSERT INTO t VALUES (?, 1)", [text(BASE, "%Y-%m-%d %H:%M:%S")])
    connection.commit()
    connection.close()
    with up.Database(source.file, source.folder) as database:
        cursor = up.TimestampCursor(up.Reader(database, up.describe(database, "t", None)), 300, up.AUTO, time.time)
        [span] = cursor.order.spans(BASE * 10**6)
        asked = f"SELECT v FROM t q WHERE {cursor.order.where(span)} ORDER BY {cursor.order.sql}"
        assert database.rows(asked) == [(1,)]


def as_number(micros: int, name: str) -> int | float:
    """A time as a number of a format: a whole one, or the nearest double where it has a fraction."""
    unit, origin = up.NUMBER_FORMATS[name]
    exact = (micros - origin) / unit
    return int(exact) if exact.denominator == 1 else float(exact)


def in_form(micros: int, name: str, is_text: bool) -> Any:
    """A time as a format writes it."""
    if name in up.NUMBER_FORMATS:
        number = as_number(micros, name)
        return str(number) if is_text else number
    return (up.EPOCH + dt.timedelta(microseconds=micros)).strftime(name)


FORMATS = (*up.NUMBER_FORMATS, "%d.%m.%Y %H:%M:%S.%f", "%m/%d/%y %I:%M:%S %p", "%Y%m%d%H%M%S")


@settings(max_examples=examples(200))
@given(
    st.sampled_from([*up.NUMBER_FORMATS]),
    st.sampled_from(["", "TEXT", "INTEGER", "REAL", "TEXT COLLATE NOCASE"]),
    st.integers(-(10**16) + 1, 5 * 10**15),
    st.integers(-3, 10**7) | st.sampled_from([-1, 0, 1]),
    st.booleans(),
    st.sampled_from([None, None, None, "x", "", " 5", "5x", "1.2.3", "-", math.inf, -math.inf, b"", b"5"]),
)
def test_the_spans_of_a_format_hold_each_value_of_a_later_time_and_what_is_no_time(
    name: str, affinity: str, oldest: int, later: int, is_text: bool, junk: Any
) -> None:
    form = up.TimeForm(name, up.UTC)
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE t (c {affinity})")
    value = in_form(oldest + later, name, is_text) if junk is None else junk
    assume(not isinstance(value, int) or -(2**63) <= value < 2**63)
    [stored] = connection.execute("INSERT INTO t VALUES (?) RETURNING c", [value]).fetchone()
    time = up.convert_each([stored], "timestamp", form)[0].cast(up.arrow_type("bigint")).to_pylist()[0]
    assume(time is None or time >= oldest)
    source = Source("CREATE TABLE t (ts, v)")
    with up.Database(source.file, source.folder) as database:
        cursor = up.TimestampCursor(up.Reader(database, up.describe(database, "t", None)), 0, form, lambda: 0.0)
        wheres = [
            cursor.order.where(span).replace(cursor.order.sql, "q.c") for span in up.raw_spans("q.c", oldest, form)
        ]
    where = " OR ".join(f"({part})" for part in wheres)
    assert connection.execute(f"SELECT count(*) FROM t q WHERE {where}").fetchone() == (1,)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(FORMATS),
    st.sampled_from(["none", "text", "integer", "any", "without rowid", "view", "utf-16"]),
    st.lists(st.lists(st.integers(-LOOKBACK + 5, 3 * 86_400), max_size=12), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([1, 3, 1000]),
)
def test_a_timestamp_cursor_delivers_rows_of_any_format_once(
    name: str, table: str, steps: list[list[int]], is_text: bool, size: int
) -> None:
    source, number, reached, found = Source(*TABLES[table], form=name), 0, 0, list[int]()
    base = "base" if table == "view" else "t"
    for step in steps:
        moments = [(BASE + reached + seconds) * 10**6 for seconds in step]
        rows = [(in_form(moment, name, is_text), number + index) for index, moment in enumerate(moments)]
        number += len(rows)
        source.execute(f"INSERT INTO {base} (ts, v) VALUES (?, ?)", rows=rows)
        found += source.cycle(size)
        reached = max([reached, *(reached + seconds for seconds in step)])
    found += source.cycle(size)
    assert sorted(found) == list(range(number))
    assert source.cycle(size) == []


@pytest.mark.parametrize("name", up.NUMBER_FORMATS)
def test_a_cycle_over_an_indexed_column_of_numbers_reads_new_rows_and_lookback_alone(name: str) -> None:
    source = Source("CREATE TABLE t (v INTEGER PRIMARY KEY, ts REAL)", "CREATE INDEX i ON t (ts)", form=name)
    source.execute("INSERT INTO t VALUES (?, ?)", rows=[(v, as_number((BASE + v) * 10**6, name)) for v in range(5000)])
    assert len(source.cycle(50_000)) == 5000
    source.read.clear()
    assert source.cycle(50_000) == []
    assert sum(source.read) <= LOOKBACK + 10 + 2 * up.NEWEST_VALUES


@pytest.mark.parametrize("odd", ["yesterday", "1970-01-01 00:00:07"])
@pytest.mark.parametrize("kind", ["", " WITHOUT ROWID"])
def test_a_time_column_stays_the_time_though_a_value_in_it_is_odd(box: Box, kind: str, odd: str) -> None:
    """A new process would find no time column by looking at the values, as it was found in the beginning."""
    box.execute(
        f"CREATE TABLE t (k INTEGER PRIMARY KEY, updated_at TEXT, v INTEGER){kind}",
        "INSERT INTO t VALUES (?, ?, ?)", rows=[(v, f"2026-01-01 00:00:0{v}", v) for v in range(5)],
    )  # fmt: skip
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(5, odd, 5), (6, "2026-01-01 00:00:06", 6)])
    assert box.run() in (0, 3)
    assert box.run() == 0
    arrived = {v for (v,) in box.arrived("v")} | {line["row"]["v"] for line in box.quarantined()}
    # By time, what is long past is not new.
    assert arrived == set(range(7)) - ({5} if kind and odd.startswith("1970") else set())
    assert box.state()["last_upload"] == "2026-01-01T00:00:06+00:00"


TIMES_BY_TEXT = "CREATE TABLE t (k INTEGER PRIMARY KEY, ts TEXT) WITHOUT ROWID"


def minutes(first: int, count: int, zone: str = "") -> list[tuple[int, str]]:
    return [(k, f"2026-01-01 {k // 60:02}:{k % 60:02}:00{zone}") for k in range(first, first + count)]


@pytest.mark.parametrize("longer", [("--lookback", "3600"), ("--source-timezone", "Europe/Berlin")])
def test_a_longer_lookback_than_before_sends_nothing_again(box: Box, longer: tuple[str, str]) -> None:
    """In a zone with summer time it is two hours longer."""
    box.execute(TIMES_BY_TEXT, "INSERT INTO t VALUES (?, ?)", rows=minutes(0, 300, "Z"))
    assert box.run() == 0
    for key in (900, 901):
        box.execute("INSERT INTO t VALUES (?, '2026-01-01 04:58:30Z')", rows=[(key,)])
        assert box.run(*longer) == 0
    box.execute("INSERT INTO t VALUES (902, '2026-01-01 08:00:00Z')")
    assert box.run(*longer) == 0
    assert sorted(box.arrived("k")) == [(k,) for k in [*range(300), 900, 901, 902]]


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (("--source-timezone", "Asia/Tokyo"), 1),
        (("--timestamp-format", "%Y-%d-%m %H:%M:%S"), 0),
        (("--timestamp-format", "%Y-%m-%d %M:%H:%S"), 1),
    ],
)
def test_a_position_by_times_is_none_by_times_that_are_read_otherwise(
    box: Box, flags: tuple[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What moves would be lost or doubled; what does not goes on."""
    box.execute(TIMES_BY_TEXT, "INSERT INTO t VALUES (?, ?)", rows=minutes(0, 20))
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES (?, ?)", rows=minutes(20, 1))
    assert box.run(*flags) == status
    assert ("belongs to times read as auto UTC, not" in caplog.text) == bool(status)
    assert len(box.arrived("k")) == (20 if status else 21)


def test_a_column_that_goes_while_a_table_is_described_is_waited_for(box: Box) -> None:
    """Records of rows are made of all columns."""
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    with up.Database(box.database, box.folder) as database:
        reader = up.Reader(database, up.describe(database, "t", None))
        box.execute("ALTER TABLE t RENAME COLUMN v TO w")
        with pytest.raises(up.TransientError, match="was altered while it was looked at"):
            up.TimestampCursor(reader, 300, up.AUTO, time.time)
