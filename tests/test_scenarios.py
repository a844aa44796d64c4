"""Filtered, sanitized and aggregated rows, from the database to the table of their scenario."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import itertools
import json
import logging
import shutil
import sqlite3
from typing import Any

import pytest
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from boxes import Box, examples, interrupted_at

SENSOR = "CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, device_id TEXT, temperature REAL, humidity REAL, status TEXT)"
INSERT = "INSERT INTO s (timestamp, device_id, temperature, humidity, status) VALUES (?, ?, ?, ?, ?)"


def reading(
    minute: int, device: str = "a", temperature: float | None = 20.0, status: str | None = "active"
) -> tuple[Any, ...]:
    return (f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00Z", device, temperature, 50.0, status)


def test_the_filter_of_the_seed_keeps_what_it_says(box: Box) -> None:
    readings = [reading(1), reading(2, temperature=-50), reading(3, temperature=150), reading(4, temperature=None),
                reading(5, status="idle"), reading(6, status=None), reading(7, temperature=149.9)]  # fmt: skip
    box.execute(SENSOR, INSERT, rows=readings)
    rules = {"temperature": {">": -50, "<": 150}, "status": "active"}
    assert box.run("--enable-filter", "--filter-config", json.dumps(rules), "--batch-rows", "2") == 0
    assert box.arrived("id", "filtered_") == [(1,), (7,)]
    assert box.run("--enable-filter", "--filter-config", json.dumps(rules)) == 0
    assert box.state()["position"]["rowid"] == 7


def test_the_sanitizer_of_the_seed_cleans_what_it_says(box: Box) -> None:
    box.execute(SENSOR, INSERT, rows=[reading(1, status="error"), reading(2, status=""), reading(3, temperature=None)])
    rules = {
        "remove_nulls": ["temperature", "humidity"],
        "replace_values": {"status": {"error": "unknown", "": "unknown"}},
    }
    assert box.run(ENABLE_SANITIZE="true", SANITIZE_CONFIG=json.dumps(rules)) == 0
    assert box.arrived("id, status", "secure_") == [(1, "unknown"), (2, "unknown")]


def test_a_sanitized_value_is_nowhere(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute(SENSOR, INSERT, rows=[reading(1, device="canary-7")])
    rules = {"hash": ["device_id"], "drop": ["humidity"]}
    environ = {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": json.dumps(rules), "SANITIZE_SECRET": "pepper-canary"}
    assert box.run(**environ) == 0
    box.execute(INSERT, rows=[(None, "canary-8", "poison", 1.0, "x")])
    assert box.run(**environ) == up.QUARANTINED
    assert [len(device) for (device,) in box.arrived("device_id", "secure_")] == [64]
    for file in box.folder.rglob("*"):
        if file.is_file() and file != box.database:
            assert b"canary" not in file.read_bytes(), file
    assert "canary" not in caplog.text
    assert "SANITIZE_SECRET has fewer than 32 characters" in caplog.text
    caplog.clear()
    assert box.run(**environ | {"SANITIZE_SECRET": "0123456789abcdef" * 2}) == 0
    assert "SANITIZE_SECRET" not in caplog.text
    assert box.run(ENABLE_SANITIZE="1", SANITIZE_CONFIG=json.dumps(rules)) == 2


@pytest.mark.parametrize(
    ("scenario", "rules", "place"),
    [
        ("filter", {"temprature": {">": 1}}, "temperature"),
        ("filter", {"temperature": {"=>": 1}}, "filter_config.temperature"),
        ("sanitize", {"status": "("}, "sanitize_config.status"),
        ("aggregate", {"group_by": ["hour"], "aggregations": {"temperature": "average"}}, "avg"),
        ("aggregate", {}, "aggregate_config"),
    ],
)
def test_bad_rules_end_with_status_2_before_anything_is_read(
    box: Box, caplog: pytest.LogCaptureFixture, scenario: str, rules: dict[str, Any], place: str
) -> None:
    box.execute(SENSOR)
    assert box.run(f"--enable-{scenario}", f"--{scenario}-config", json.dumps(rules)) == 2
    assert place in caplog.text


AGGREGATE = {
    "group_by": ["device_id", "hour"],
    "aggregations": {"temperature": "avg", "humidity": "max", "readings": "count"},
}
FLAGS = ("--enable-aggregate", "--aggregate-config", json.dumps(AGGREGATE))


def hours(box: Box) -> list[tuple[Any, ...]]:
    return box.arrived("device_id, hour, avg_temperature, max_humidity, reading_count", "aggregated_")


def test_the_aggregate_of_the_seed_sends_each_window_once_when_it_is_complete(box: Box) -> None:
    hour = [dt.datetime(2026, 1, 1, h, tzinfo=dt.UTC) for h in range(4)]
    box.execute(SENSOR, INSERT, rows=[reading(1, temperature=10), reading(2, temperature=20), reading(30, "b")])
    assert box.run(*FLAGS) == 0
    assert not (box.folder / "lake").exists()
    box.execute(INSERT, rows=[reading(59, temperature=30), reading(61, temperature=5)])
    assert box.run(*FLAGS) == 0
    assert hours(box) == [("a", hour[0], 20.0, 50.0, 3), ("b", hour[0], 20.0, 50.0, 1)]
    assert box.run(*FLAGS) == 0
    box.execute(INSERT, rows=[reading(62, temperature=15)])
    assert box.run(*FLAGS, "--flush") == 0
    assert hours(box)[1:] == [("a", hour[1], 10.0, 50.0, 2), ("b", hour[0], 20.0, 50.0, 1)]
    assert box.run(*FLAGS, "--flush") == 0
    assert len(hours(box)) == 3


def test_late_rows_wait_for_in_the_allowed_lateness_and_are_counted_after_it(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    flags = ("--enable-aggregate", "--aggregate-config", json.dumps({**AGGREGATE, "allowed_lateness": 600}))
    box.execute(SENSOR, INSERT, rows=[reading(1), reading(65)])
    assert box.run(*flags) == 0
    assert not (box.folder / "lake").exists()
    box.execute(INSERT, rows=[reading(2), reading(70)])
    assert box.run(*flags) == 0
    assert [row[4] for row in hours(box)] == [2]
    box.execute(INSERT, rows=[reading(3)])
    assert box.run(*flags) == 0
    assert [row[4] for row in hours(box)] == [2]
    assert "1 row came too late" in caplog.text


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("step", "call"), [("save", 1), ("save", 2), ("send", 1)])
def test_a_kill_at_each_step_sends_each_window_once(
    box: Box, monkeypatch: pytest.MonkeyPatch, when: str, step: str, call: int
) -> None:
    box.execute(SENSOR, INSERT, rows=[reading(m, device) for m in range(0, 300, 7) for device in "ab"])
    interrupted_at(up.StateFile if step == "save" else up.DeltaTarget, step, when, call, monkeypatch.setattr)
    with pytest.raises(KeyboardInterrupt):
        box.run(*FLAGS)
    monkeypatch.undo()
    assert box.run(*FLAGS) == 0
    assert [row[4] for row in hours(box)] == [9, 9, 8, 9] * 2


def test_an_aggregate_fills_columns_that_are_not_null(box: Box) -> None:
    """The device of a row may be missing, so the row is set aside; a result is never checked as if it were read."""
    names = {
        "device_id": "string",
        "hour": "timestamp",
        "avg_temperature": "double",
        "max_humidity": "double",
        "reading_count": "long",
    }
    fields = [Field(name, PrimitiveType(kind), nullable=kind == "double") for name, kind in names.items()]
    DeltaTable.create(str(box.folder / "lake" / "aggregated_readings"), Schema(fields))
    box.execute(SENSOR, INSERT, rows=[reading(minute) for minute in range(60)])
    box.execute(INSERT, rows=[("2026-01-01T00:02:00Z", None, 1.0, 1.0, "x"), reading(61)])
    assert box.run(*FLAGS) == up.QUARANTINED
    assert [row[4] for row in hours(box)] == [60]
    assert [line["key"] for line in box.quarantined()] == [61]


def test_rows_without_a_time_belong_to_no_window_and_go_to_quarantine_once(box: Box) -> None:
    box.execute(SENSOR, INSERT, rows=[reading(1), reading(61), (None, "a", 1.0, 1.0, "x")])
    assert box.run(*FLAGS) == 2
    box.execute("DELETE FROM s WHERE id = 3")
    assert box.run(*FLAGS) == 0
    box.execute(INSERT, rows=[(None, "a", 1.0, 1.0, "x")])
    assert box.run(*FLAGS) == up.QUARANTINED
    box.execute(INSERT, rows=[reading(62)])
    assert box.run(*FLAGS) == 0
    assert [(line["key"], line["row"]["timestamp"]) for line in box.quarantined()] == [(3, None)]


def test_without_a_time_key_the_rows_of_each_cycle_are_one_group_set(box: Box) -> None:
    flags = (
        "--enable-aggregate",
        "--aggregate-config",
        json.dumps({"group_by": ["device_id"], "aggregations": {"rows": "count"}}),
    )
    box.execute(SENSOR, INSERT, rows=[reading(1), reading(2), reading(3, "b")])
    assert box.run(*flags) == 0
    box.execute(INSERT, rows=[reading(4)])
    assert box.run(*flags) == 0
    assert box.arrived("device_id, row_count", "aggregated_") == [("a", 1), ("a", 2), ("b", 1)]


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 240), st.sampled_from("ab"), st.one_of(st.none(), st.integers(-9, 9))), max_size=40
    ),
    st.lists(st.integers(1, 10), max_size=5),
    st.integers(1, 9),
)
def test_windows_equal_one_group_by_over_the_whole_input(
    tmp_path_factory: pytest.TempPathFactory, readings: list[tuple[int, str, int | None]], cuts: list[int], size: int
) -> None:
    """Rows in the order of time, in any batches and cycles: the same groups as SQL makes of them at once."""
    box = Box(tmp_path_factory.mktemp("box"))
    box.execute(SENSOR)
    waiting = sorted(readings, key=lambda r: r[0])
    for cut in [*cuts, len(waiting)]:
        box.execute(INSERT, rows=[reading(m, d, t) for m, d, t in waiting[:cut]])
        waiting = waiting[cut:]
        assert box.run(*FLAGS, "--batch-rows", str(size)) == 0
    assert box.run(*FLAGS, "--flush") == 0
    with sqlite3.connect(box.database) as database:
        expected = database.execute(
            """SELECT device_id, strftime('%Y-%m-%d %H:00:00+00:00', timestamp) AS hour, avg(temperature), max(humidity), count(*)
               FROM s GROUP BY 1, 2"""
        ).fetchall()
    database.close()
    found = [(d, str(h), t, u, n) for d, h, t, u, n in hours(box)] if expected else []
    assert sorted(found, key=repr) == sorted(expected, key=repr)


COUNTED = ("--enable-aggregate", "--aggregate-config", '{"group_by": ["hour"], "aggregations": {"rows": "count"}}')
START = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def cycle_at(box: Box, now: dt.datetime, *flags: str) -> up.Tally:
    """One cycle of a box whose clock shows `now`."""
    config, total = up.load_config(up.parse_arguments([*COUNTED, *flags]), box.environ), up.Tally()
    with up.StateFile(box.folder / "state") as states:
        target = up.target_of(config, up.Session(config, {}))
        job = up.Job(config, "aggregate", target, states, now=now.timestamp)
        with up.opened_database(config, states.directory) as database:
            up.run_cycle(job, database, total)
    return total


def counted(box: Box) -> dict[str, int]:
    """How many rows of each hour arrived; an hour that was sent twice would be an error of its own."""
    found = [(f"{hour:%Y-%m-%d %H}", count) for hour, count in box.arrived("hour, row_count", "aggregated_")]
    assert len(dict(found)) == len(found)
    return dict(found)


def insert_at(box: Box, *times: dt.datetime) -> None:
    box.execute("INSERT INTO s (timestamp) VALUES (?)", rows=[(time.isoformat(),) for time in times])


def hours_after(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


STEP = st.tuples(st.integers(0, 40), st.integers(0, 3), st.lists(st.integers(1, 300), max_size=3))


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=7))
def test_rows_of_the_future_wait_for_their_time_and_hold_no_others_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, list[int]]]
) -> None:
    """Whatever comes from the future, and when: in the end each hour was sent once, with all its rows."""
    box = Box(tmp_path_factory.mktemp("box"))
    box.execute(SENSOR)
    now = 0.0
    for passed, present, future in steps:
        now += passed
        insert_at(box, *(hours_after(now + hours) for hours in future), *[hours_after(now)] * present)
        cycle_at(box, hours_after(now))
    insert_at(box, hours_after(now + 400))
    cycle_at(box, hours_after(now + 400))
    cycle_at(box, hours_after(now + 401), "--flush")
    sql = "substr(timestamp, 1, 10) || ' ' || substr(timestamp, 12, 2), count(*)"
    assert counted(box) == dict(box.source(sql, "s GROUP BY 1"))


GROUPS = ("minute", "hour", "day", "hour_of_day", "device_id")
# Which groups are sent, and rows, each so many minutes after the latest one or before it.
NEAR, MOST_AHEAD = st.integers(-150, 700), st.integers(1500, 6000)
CHANGE = st.tuples(st.sampled_from(GROUPS), st.lists(NEAR, max_size=8), st.lists(MOST_AHEAD, max_size=1), st.booleans())


@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CHANGE, min_size=2, max_size=6))
def test_rules_that_change_lose_no_row_and_count_none_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[int], list[int], bool]]
) -> None:
    """By shorter windows or longer ones, or by none: rows of windows that were not sent are part of the new ones.

    So are rows that were more than a day ahead.
    """
    box, now, late = Box(tmp_path_factory.mktemp("box")), 0, 0
    box.execute(SENSOR)
    insert_at(box, hours_after(0))
    for key, minutes, future, is_flush in [*steps, ("hour", [20_000], [], True)]:
        times = [now + minute for minute in minutes]
        insert_at(box, *(hours_after(time / 60) for time in [*times, *(now + minute for minute in future)]))
        now = max(now, *times, 0)
        rules = json.dumps({"group_by": [key], "aggregations": {"rows": "count"}})
        flags = ("--schema", "evolve", "--aggregate-config", rules, *(["--flush"] if is_flush else []))
        said: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record, said=said: said.append(record.getMessage())  # type: ignore[method-assign, misc]
        up.log.addHandler(handler)
        cycle_at(box, hours_after(now / 60), *flags)
        up.log.removeHandler(handler)
        late += sum(int(line.split()[0]) for line in said if "came too late" in line)
    sent = sum(count for (count,) in box.arrived("row_count", "aggregated_"))
    assert sent + late == box.source("count(*)", "s")[0][0]


def test_a_time_within_a_window_sends_that_window_again_as_a_whole(box: Box) -> None:
    """Of a part of its rows the group would be another one."""
    box.execute(SENSOR)
    insert_at(box, *(hours_after(third / 3) for third in range(7)))
    flags = (*COUNTED, "--flush")
    assert box.run(*flags) == 0
    assert box.run(*COUNTED, "--since", hours_after(1.2).isoformat()) == 0
    sent = [(hour.hour, count) for hour, count in box.arrived("hour, row_count", "aggregated_")]
    assert sorted(sent) == [(0, 3), (1, 3), (1, 3), (2, 1)]


def test_a_row_that_was_ahead_is_part_of_a_longer_window_that_closes(box: Box) -> None:
    """It waited for the end of its hour; the day that it is of now closes with it."""
    box.execute(SENSOR)
    insert_at(box, hours_after(0), hours_after(30), hours_after(1))
    cycle_at(box, hours_after(1))
    insert_at(box, hours_after(26), hours_after(47), hours_after(49))
    rules = '{"group_by": ["day"], "aggregations": {"rows": "count"}}'
    cycle_at(box, hours_after(49), "--schema", "evolve", "--aggregate-config", rules)
    assert sum(count for (count,) in box.arrived("row_count", "aggregated_")) == 5


def test_a_row_of_the_future_takes_no_window_and_holds_no_position(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute(SENSOR)
    insert_at(box, hours_after(5e5), hours_after(0))
    cycle_at(box, hours_after(0))
    assert "1 row more than a day ahead" in caplog.text
    insert_at(box, hours_after(0.5), hours_after(1), hours_after(2), hours_after(3))
    cycle_at(box, hours_after(3))
    assert counted(box) == {"2026-06-01 00": 2, "2026-06-01 01": 1, "2026-06-01 02": 1}
    position = box.state()["position"]
    assert position["rowid"] == 5
    assert position["ahead"]["ranges"] == [[1, 1]]
    cycle_at(box, hours_after(4), "--flush")
    assert sum(counted(box).values()) == 5
    insert_at(box, hours_after(5))
    cycle_at(box, hours_after(6), "--flush")
    assert sum(counted(box).values()) == 6
    cycle_at(box, hours_after(5e5 + 2))
    insert_at(box, hours_after(5e5 + 3))
    cycle_at(box, hours_after(5e5 + 3))
    assert sum(counted(box).values()) == 7


def test_a_row_that_was_ahead_closes_windows_once_the_clock_has_passed_it(box: Box) -> None:
    """Though no other row comes in."""
    box.execute(SENSOR)
    insert_at(box, hours_after(0), hours_after(0.5), hours_after(2), hours_after(3))
    for clock, closed in ((1, 0), (1.9, 0), (2.1, 1), (2.5, 1), (5, 2), (40, 2)):
        cycle_at(box, hours_after(clock))
        assert len(counted(box)) == closed
    assert box.state()["position"]["soon"] > 2**62


def test_rows_of_the_future_behind_those_of_open_windows_count_as_waiting(box: Box) -> None:
    box.execute(SENSOR)
    insert_at(box, hours_after(300), hours_after(0), *[hours_after(300)] * 20)
    cycle_at(box, hours_after(0.5))
    assert (up.held_rows(box.state()["position"]), box.state()["position"]["open_rows"]) == (22, 1)
    insert_at(box, hours_after(2))
    cycle_at(box, hours_after(2))
    assert (up.held_rows(box.state()["position"]), box.state()["position"]["open_rows"]) == (22, 1)


def test_rows_that_are_deleted_from_open_windows_are_told(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute(SENSOR)
    insert_at(box, *(hours_after(minute / 60) for minute in range(30)))
    cycle_at(box, hours_after(0.5))
    box.execute("DELETE FROM s WHERE id BETWEEN 3 AND 14")
    insert_at(box, hours_after(0.6))
    cycle_at(box, hours_after(0.6))
    assert "12 rows of open windows were deleted, or given other times" in caplog.text
    caplog.clear()
    insert_at(box, hours_after(1.5), hours_after(2.5))
    cycle_at(box, hours_after(2.5))
    assert "were deleted" not in caplog.text
    assert sum(counted(box).values()) == 20


def test_a_value_that_rules_make_too_large_goes_to_quarantine_alone(box: Box) -> None:
    box.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, price DECIMAL(5,2))")
    rows = [(f"2026-01-01T00:00:{i:02}Z", 999.99 if i == 7 else i) for i in range(20)]
    box.execute("INSERT INTO s (timestamp, price) VALUES (?, ?)", rows=rows)
    assert box.run("--enable-sanitize", "--sanitize-config", '{"round": {"price": 0}}') == up.QUARANTINED
    assert len(box.arrived("id", "secure_")) == 19
    assert [line["key"] for line in box.quarantined()] == [8]


def test_keys_of_several_classes_may_stand_in_one_rule(box: Box) -> None:
    """In YAML they are null, numbers and days beside texts."""
    box.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, status TEXT, day DATE)")
    rows = [
        ("2026-01-01", "error", "9999-12-31"),
        ("2026-01-01", None, "2026-01-02"),
        ("2026-01-01", "ok", "2026-01-03"),
    ]
    box.execute("INSERT INTO s (timestamp, status, day) VALUES (?, ?, ?)", rows=rows)
    file = box.folder / "uploader.yaml"
    rule = "{status: {null: unknown, error: failed}, day: {9999-12-31: null}}"
    file.write_text(f"enable_sanitize: true\nsanitize_config: {{replace_values: {rule}}}\n")
    assert box.run("--config", str(file)) == 0
    assert sorted(box.arrived("id, status, day", "secure_")) == [
        (1, "failed", None),
        (2, "unknown", dt.date(2026, 1, 2)),
        (3, "ok", dt.date(2026, 1, 3)),
    ]


DECLARED = [
    ("BOOLEAN", 1),
    ("DECIMAL(12,3)", 0.2),
    ("DATETIME", "2026-01-31 12:00:00"),
    ("BLOB", b"\0\xff"),
    ("INTEGER", 7),
]


@pytest.mark.parametrize(("declared", "value"), DECLARED, ids=[declared for declared, _ in DECLARED])
@pytest.mark.parametrize("word", ["hash", "mask"])
def test_one_value_is_disguised_alike_before_and_after_its_table_is_made(
    box: Box, word: str, declared: str, value: object
) -> None:
    """The target's column is a STRING, whatever the source's is."""
    box.execute(f"CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, v {declared})")
    rules = {"hash": ["v"], "replace_values": {"v": {"5": 7}}} if declared == "INTEGER" else {"hash": ["v"]}
    given = json.dumps({**rules, "hash": ["v"]} if word == "hash" else {"mask": {"v": 2}})
    for _ in range(2):
        box.execute("INSERT INTO s (timestamp, v) VALUES ('2026-01-01', ?)", rows=[(value,)])
        assert (
            box.run(
                "--enable-sanitize", "--sanitize-config", given, SANITIZE_SECRET="a key of thirty-two characters!!!"
            )
            == 0
        )
    first, second = box.arrived("v", "secure_")
    assert first == second


@pytest.mark.parametrize("flags", [[], ["--cursor", "timestamp"]], ids=["rowid", "time"])
@pytest.mark.parametrize("is_known", [False, True], ids=["new", "known"])
def test_no_digest_of_a_hidden_value_is_in_the_target_or_the_state(
    box: Box, flags: list[str], is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short value is found again by its digest: all are tried. Rows are known by the others, also those of a state
    that had digests of all columns."""
    box.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, v REAL, pin TEXT)")
    rules = ["--enable-sanitize", "--sanitize-config", '{"drop": ["pin"]}', *flags]
    for number, pins in enumerate((range(20), range(100, 120))):
        rows = [(f"2026-01-01T00:{i // 60:02}:{i % 60:02}", i / 2, str(i)) for i in pins]
        box.execute("INSERT INTO s (timestamp, v, pin) VALUES (?, ?, ?)", rows=rows)
        with monkeypatch.context() as patch:
            if is_known and not number:
                patch.setattr(up, "private_columns", lambda *_: frozenset())
            assert box.run(*rules) == 0
    state = box.state()
    told = [name for name, *_ in state["position"].get("columns", [])] or state["columns"]
    assert told == ["id", "timestamp", "v"]
    box.execute("UPDATE s SET pin = 'x'", "ALTER TABLE s ADD COLUMN more TEXT")
    box.execute("INSERT INTO s (timestamp, v, pin) VALUES ('2026-01-01T00:02:30', 1, 'y')")
    assert box.run(*rules) == 0
    assert sorted(box.arrived("id", "secure_")) == [(i,) for i in range(1, 42)]


def test_a_decimal_that_is_put_in_has_the_hash_of_one_that_was_there(box: Box) -> None:
    box.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, price DECIMAL(5,2))")
    box.execute("INSERT INTO s (timestamp, price) VALUES ('2026-01-01', 21.5), ('2026-01-01', 0)")
    rules = '{"replace_values": {"price": {"0": 21.5}}, "mask": {"price": 2}}'
    assert box.run("--enable-sanitize", "--sanitize-config", rules) == 0
    assert box.arrived("price", "secure_") == [("***50",), ("***50",)]


def test_a_clock_that_was_never_set_closes_windows_by_the_times_of_the_rows(box: Box) -> None:
    box.execute(SENSOR)
    for hour in range(6):
        insert_at(box, hours_after(hour))
        cycle_at(box, dt.datetime(1970, 1, 1, hour, tzinfo=dt.UTC))
        assert box.state()["position"]["rowid"] == hour
    assert sum(counted(box).values()) == 5


def test_rows_of_the_future_are_told_when_their_database_is_made_anew(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute(SENSOR)
    insert_at(box, hours_after(5e5), hours_after(5e5), hours_after(0), hours_after(2))
    cycle_at(box, hours_after(2))
    box.database.unlink()
    box.execute(SENSOR)
    insert_at(box, hours_after(3))
    cycle_at(box, hours_after(3))
    assert "3 rows of windows that were open gone" in caplog.text
    assert "ahead" not in box.state()["position"]


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60, unique=True), st.integers(1, 9))
def test_merged_ranges_hold_all_that_they_are_made_of(rowids: list[int], most: int) -> None:
    ranges = [[rowid, rowid] for rowid in sorted(rowids)]
    merged = up.merged_ranges(ranges, most)
    assert len(merged) == min(most, len(rowids))
    assert all(any(low <= rowid <= high for low, high in merged) for rowid in rowids)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(merged))


def test_groups_that_the_target_refuses_hold_no_other_windows_back_and_can_be_replayed(box: Box) -> None:
    """An hour without a value has no average, where the target wants one."""
    fields = [Field("hour", PrimitiveType("timestamp")), Field("device_id", PrimitiveType("string"))]
    fields.append(Field("avg_temperature", PrimitiveType("double"), nullable=False))
    DeltaTable.create(str(box.folder / "lake" / "aggregated_readings"), Schema(fields))
    box.execute(SENSOR)
    box.execute(INSERT, rows=[reading(10 * i, "ab"[i % 2], None if i in (6, 8, 10) else 20.0) for i in range(30)])
    rules = '{"group_by": ["hour", "device_id"], "aggregations": {"temperature": "avg"}}'
    flags = ("--enable-aggregate", "--aggregate-config", rules)
    assert box.run(*flags) == up.QUARANTINED
    assert len(box.arrived("*", "aggregated_")) == 7
    assert [line["row"]["device_id"] for line in box.quarantined()] == ["a"]
    box.execute("INSERT INTO s (device_id) VALUES ('c')")
    assert box.run(*flags) == up.QUARANTINED
    assert box.run("--replay-quarantine", *flags) == up.QUARANTINED
    assert len(box.arrived("*", "aggregated_")) == 7
    assert sorted(line["row"]["device_id"] for line in box.quarantined()) == ["a", "c"]
    for file in box.state_file.parent.glob("quarantine/*.jsonl"):
        file.write_text(file.read_text().replace('"avg_temperature": null', '"avg_temperature": 1.5'))
    narrower = rules.replace(', "device_id"', "")
    assert box.run("--replay-quarantine", "--enable-aggregate", "--aggregate-config", narrower) == up.QUARANTINED
    assert len(box.quarantined()) == 2, "those of other rules would lose their device"
    assert box.run("--replay-quarantine", *flags) == up.QUARANTINED
    assert (dt.datetime(2026, 1, 1, 1, tzinfo=up.UTC), "a", 1.5) in box.arrived("*", "aggregated_")
    assert box.run("--flush", *flags) == 0
    assert len(box.arrived("*", "aggregated_")) == 10


@pytest.mark.parametrize("window", ["hour", None])
@pytest.mark.parametrize("devices", [1, 3, 4, 5, 9])
def test_of_any_number_of_groups_the_one_that_is_refused_is_set_aside_alone(
    box: Box, devices: int, window: str | None
) -> None:
    fields = [Field("device_id", PrimitiveType("string"))]
    fields += [Field("hour", PrimitiveType("timestamp"))] if window else []
    fields.append(Field("avg_temperature", PrimitiveType("double"), nullable=False))
    DeltaTable.create(str(box.folder / "lake" / "aggregated_readings"), Schema(fields))
    box.execute(SENSOR)
    rows = [reading(0, str(device), 20.0 if device else None) for device in range(devices)]
    rows += [("no time", "x", 20.0, 50.0, "active")] * (window is not None)
    box.execute(INSERT, rows=[*rows, *([reading(60), reading(120)] if window else [])] + [reading(61)] * 9)
    keys = ["device_id", *([window] if window else [])]
    rules = json.dumps({"group_by": keys, "aggregations": {"temperature": "avg"}})
    assert box.run("--enable-aggregate", "--aggregate-config", rules) == up.QUARANTINED
    assert len(box.arrived("*", "aggregated_")) == devices
    assert len(box.quarantined()) == 1 + (window is not None)


def by_key(box: Box) -> list[tuple[Any, ...]]:
    """The groups that arrived: their keys, and how many rows each has."""
    return box.arrived("hour, device_id, reading_count", "aggregated_")


def killed_amid_parts(box: Box, *flags: str) -> None:
    """A run that ends as by a kill once the first part of a window, or of a set without windows, has gone."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted_at(up.DeltaTarget, "send", "before", 2, patch.setattr)
        box.run(*flags)


@pytest.mark.parametrize("step", [("save", "after"), ("send", "before"), ("send", "after")])
def test_a_kill_amid_the_parts_of_a_window_sends_each_group_once(
    box: Box, monkeypatch: pytest.MonkeyPatch, step: tuple[str, str]
) -> None:
    """Whatever came in since, and though rows of what was sent are deleted."""
    owner = up.StateFile if step[0] == "save" else up.DeltaTarget
    box.execute(SENSOR, INSERT, rows=[reading(m, str(d)) for m in range(0, 120, 20) for d in range(7)] + [reading(150)])
    for call in (2, 1, 3):
        interrupted_at(owner, step[0], step[1], call, monkeypatch.setattr)
        with pytest.raises(KeyboardInterrupt):
            box.run(*FLAGS, "--batch-rows", "2")
        monkeypatch.undo()
        box.execute(INSERT, rows=[reading(5, "late"), reading(151 + call, "b")])
    done = {key for _, key, _ in by_key(box)}
    box.execute(
        "DELETE FROM s WHERE timestamp < '2026-01-01T01' AND device_id = ?", rows=[(key,) for key in sorted(done)]
    )
    assert box.run(*FLAGS, "--batch-rows", "2") == 0
    found = by_key(box)
    assert len(found) == len({row[:2] for row in found})
    assert {row[1:] for row in found} >= {(str(d), 3) for d in range(7)}
    assert len([row for row in found if row[1] in "0123456"]) == 14


def test_rows_that_come_in_amid_the_parts_of_a_window_are_late(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute(SENSOR, INSERT, rows=[*(reading(0, str(device)) for device in range(8)), reading(61)])
    killed_amid_parts(box, *FLAGS, "--batch-rows", "3")
    box.execute(INSERT, rows=[reading(0, str(device)) for device in range(20)])
    assert box.run(*FLAGS, "--batch-rows", "3") == 0
    assert [row[1:] for row in by_key(box)] == [(str(device), 1) for device in range(8)]
    assert "20 rows came too late" in caplog.text


@settings(max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_groups_come_once_in_commits_of_any_size_whatever_happens_amid_a_window(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Rows in the order of their times, kills at any step, sizes that change, VACUUM: each hour and device once, whole."""
    box = Box(tmp_path_factory.mktemp("parts"))
    key = data.draw(st.sampled_from(["id INTEGER PRIMARY KEY", "id INTEGER"]))
    box.execute(SENSOR.replace("id INTEGER PRIMARY KEY", key))
    given_rows, minute = list[tuple[Any, ...]](), 0
    for _ in range(data.draw(st.integers(2, 6))):
        before = len(given_rows)
        for _ in range(data.draw(st.integers(0, 25))):
            minute += data.draw(st.integers(0, 9))
            given_rows.append(reading(minute, data.draw(st.sampled_from("abcdefgh"))))
        box.execute(INSERT, rows=given_rows[before:])
        if data.draw(st.booleans()):
            box.execute("VACUUM")
        size = data.draw(st.integers(1, 9))
        with pytest.MonkeyPatch.context() as patch:
            if data.draw(st.booleans()):
                owner, name = data.draw(st.sampled_from([(up.StateFile, "save"), (up.DeltaTarget, "send")]))
                when, call = data.draw(st.sampled_from(["before", "after"])), data.draw(st.integers(1, 6))
                interrupted_at(owner, name, when, call, patch.setattr)
            with contextlib.suppress(KeyboardInterrupt):
                assert box.run(*FLAGS, "--batch-rows", str(size)) == 0
    assert box.run(*FLAGS, "--flush", "--batch-rows", "3") == 0
    wanted = collections.Counter((row[0][:13], row[1]) for row in given_rows)
    found = {(hour.isoformat()[:13], device): count for hour, device, count in by_key(box)}
    assert found == wanted
    assert len(by_key(box)) == len(wanted)


@pytest.mark.parametrize("happens", ["DELETE FROM s", "a new file", "a flush"])
def test_what_happens_amid_the_parts_of_a_window_neither_loses_nor_doubles_groups(box: Box, happens: str) -> None:
    box.execute(SENSOR, INSERT, rows=[*(reading(0, str(device)) for device in range(8)), reading(61, "x")])
    killed_amid_parts(box, *FLAGS, "--batch-rows", "3")
    sent = [row[1] for row in by_key(box)]
    assert len(sent) == 3
    if happens == "a flush":
        box.execute(INSERT, rows=[reading(62, "x"), reading(63, "z")])
        assert box.run(*FLAGS, "--flush", "--batch-rows", "3") == 0
        assert [row[1:] for row in by_key(box)] == [*((str(device), 1) for device in range(8)), ("x", 2), ("z", 1)]
        return
    if happens == "a new file":
        box.database.unlink()
        assert box.run(*FLAGS, "--batch-rows", "3") == 1
        box.execute(SENSOR)
    else:
        box.execute(happens)
        assert box.run(*FLAGS, "--batch-rows", "3") == 0
    box.execute(INSERT, rows=[*(reading(5, str(device)) for device in range(8)), reading(121, "y"), reading(181, "y")])
    assert box.run(*FLAGS, "--batch-rows", "3") == 0
    assert len(by_key(box)) == len({row[:2] for row in by_key(box)}) == 4


@pytest.mark.parametrize("group_by", [["hour", "device_id"], ["device_id"]])
def test_rules_that_change_amid_the_groups_of_a_set_make_all_of_them_anew(
    box: Box, group_by: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """They are other groups than those that went."""
    box.execute(SENSOR, INSERT, rows=[*(reading(0, str(device)) for device in range(8)), reading(61, "7")])
    flags = ("--enable-aggregate", "--batch-rows", "3", "--aggregate-config")
    killed_amid_parts(box, *flags, json.dumps({**AGGREGATE, "group_by": group_by}))
    assert box.run(*flags, json.dumps({**AGGREGATE, "group_by": [*group_by, "status"]})) == 0
    assert "by other rules before" in caplog.text
    sent = collections.Counter(key for (key,) in box.arrived("device_id", "aggregated_"))
    assert sorted(sent.values()) == [1] * 5 + [2] * 3


@pytest.mark.parametrize("group_by", [["hour", "device_id"], ["device_id"]])
def test_a_set_whose_rows_are_all_deleted_amid_its_groups_holds_no_later_one_back(
    box: Box, group_by: list[str]
) -> None:
    flags = ("--enable-aggregate", "--aggregate-config", json.dumps({**AGGREGATE, "group_by": group_by}))
    box.execute(SENSOR, INSERT, rows=[*(reading(0, str(device)) for device in range(8)), reading(61)])
    killed_amid_parts(box, *flags, "--batch-rows", "3")
    late = [reading(5, str(device)) for device in range(8)] if "hour" in group_by else []
    box.execute(INSERT, rows=[*late, reading(62, "new"), reading(63, "new"), reading(121, "x")])
    box.execute("DELETE FROM s WHERE id < 10")
    assert box.run(*flags, "--batch-rows", "3") == 0
    assert ("new", 2) in box.arrived("device_id, reading_count", "aggregated_")
    assert len(box.arrived("*", "aggregated_")) == 3 + (1 if "hour" in group_by else 2)


@pytest.mark.parametrize("key", ["id INTEGER PRIMARY KEY", "id INTEGER"])
def test_without_windows_a_deleted_newest_row_holds_no_group_back(box: Box, key: str) -> None:
    box.execute(SENSOR.replace("id INTEGER PRIMARY KEY", key))
    box.execute(INSERT, rows=[reading(minute, str(minute % 8)) for minute in range(17)])
    flags = ("--enable-aggregate", "--aggregate-config", json.dumps({**AGGREGATE, "group_by": ["device_id"]}))
    killed_amid_parts(box, *flags, "--batch-rows", "3")
    box.execute("DELETE FROM s WHERE timestamp = '2026-01-01T00:16:00Z'")
    assert box.run(*flags, "--batch-rows", "3") == 0
    assert [row[0] for row in box.arrived("device_id", "aggregated_")] == [*"01234567"]


def test_a_group_of_zeros_with_both_signs_is_one_though_its_first_row_is_deleted(box: Box) -> None:
    flags = ("--enable-aggregate", "--aggregate-config", json.dumps({**AGGREGATE, "group_by": ["hour", "temperature"]}))
    for keys in ([0.0, -0.0], [-0.0, 0.0]):
        box.execute("DROP TABLE IF EXISTS s", SENSOR)
        box.state_file.unlink(missing_ok=True)
        shutil.rmtree(box.folder / "lake", ignore_errors=True)
        given_rows = [reading(n, "a", key) for n, key in enumerate([*keys, 1.0, 2.0, 3.0, 4.0])]
        box.execute(INSERT, rows=[*given_rows, reading(61)])
        killed_amid_parts(box, *flags, "--batch-rows", "2")
        box.execute("DELETE FROM s WHERE timestamp = '2026-01-01T00:00:00Z'")
        assert box.run(*flags, "--batch-rows", "2") == 0
        assert sorted(abs(key) for (key,) in box.arrived("temperature", "aggregated_")) == [0, 1, 2, 3, 4]


def test_without_windows_vacuum_renumbers_no_row_into_a_new_group(box: Box) -> None:
    box.execute(SENSOR.replace("id INTEGER PRIMARY KEY", "id INTEGER"))
    box.execute(INSERT, rows=[reading(minute, "ab"[minute % 2]) for minute in range(60)])
    flags = ("--enable-aggregate", "--aggregate-config", json.dumps({**AGGREGATE, "group_by": ["device_id"]}))
    assert box.run(*flags) == 0
    box.execute("DELETE FROM s WHERE timestamp < '2026-01-01T00:30'")
    box.execute("VACUUM")
    box.execute(INSERT, rows=[reading(61), reading(62)])
    assert box.run(*flags, "--batch-rows", "1") == 0
    assert box.arrived("device_id, reading_count", "aggregated_") == [("a", 2), ("a", 30), ("b", 30)]


def test_rows_renumbered_amid_a_set_without_windows_are_a_question_and_since_answers_it(
    box: Box, capfd: pytest.CaptureFixture[str]
) -> None:
    box.execute(SENSOR.replace("id INTEGER PRIMARY KEY", "id INTEGER"))
    box.execute(INSERT, rows=[reading(minute, str(minute % 9)) for minute in range(60)])
    flags = ("--enable-aggregate", "--aggregate-config", json.dumps({**AGGREGATE, "group_by": ["device_id"]}))
    killed_amid_parts(box, *flags, "--batch-rows", "4")
    box.execute("DELETE FROM s WHERE timestamp < '2026-01-01T00:30'")
    box.execute("VACUUM")
    assert box.run(*flags) == 1
    told = capfd.readouterr().err
    assert "which are left can't be told" in told and "--since TIMESTAMP" in told
    assert len(box.arrived("*", "aggregated_")) == 4
    box.execute(INSERT, rows=[reading(61, "new")])
    assert box.run(*flags, "--since", "2026-01-01T00:59:00Z") == 0
    assert box.run(*flags) == 0
    assert ("new", 1) in box.arrived("device_id, reading_count", "aggregated_")


@pytest.mark.parametrize(
    "made", ["CREATE VIEW v AS SELECT * FROM s", "CREATE TABLE v (timestamp TEXT PRIMARY KEY, x) WITHOUT ROWID"]
)
def test_groups_and_a_cursor_by_rowid_need_a_table_with_rowids(
    box: Box, capfd: pytest.CaptureFixture[str], made: str
) -> None:
    box.execute(SENSOR, made)
    box.environ["SQLITE_TABLE_NAME"] = "v"
    rules = json.dumps({"group_by": ["hour"], "aggregations": {"rows": "count"}})
    assert box.run("--enable-aggregate", "--aggregate-config", rules) == 2
    assert "aggregate needs a table with rowids" in capfd.readouterr().err
    assert box.run("--cursor", "rowid") == 2
    assert "v has no rowid\n  Set cursor to auto or timestamp." in capfd.readouterr().err
    assert not box.state_file.exists()


def test_groups_wait_where_the_newest_rows_are_written_again_and_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.execute(SENSOR, INSERT, rows=[reading(minute) for minute in (1, 2, 3, 4, 5, 6, 61)])
    real = up.RowidCursor.pages

    def pages(cursor: up.RowidCursor, first: int, last: int, reader: up.Reader | None = None) -> Any:
        yield from real(cursor, first, last, reader)
        box.execute("UPDATE s SET timestamp = replace(timestamp, ':00Z', ':30Z') WHERE id = ?", rows=[(last,)])

    monkeypatch.setattr(up.RowidCursor, "pages", pages)
    assert box.run(*FLAGS) == 1
    assert by_key(box) == []
    monkeypatch.undo()
    assert box.run(*FLAGS) == 0
    assert [row[1:] for row in by_key(box)] == [("a", 6)]


def test_a_flush_is_as_large_as_other_commits_and_sets_a_refused_group_aside_alone(box: Box) -> None:
    fields = [Field("device_id", PrimitiveType("string")), Field("hour", PrimitiveType("timestamp"))]
    fields.append(Field("avg_temperature", PrimitiveType("double"), nullable=False))
    DeltaTable.create(str(box.folder / "lake" / "aggregated_readings"), Schema(fields))
    box.execute(SENSOR, INSERT, rows=[reading(60 * h, str(d), None if (h, d) == (4, 3) else 1.0)
                                      for h in range(9) for d in range(5)])  # fmt: skip
    rules = json.dumps({"group_by": ["device_id", "hour"], "aggregations": {"temperature": "avg"}})
    assert box.run("--flush", "--enable-aggregate", "--aggregate-config", rules, "--batch-rows", "12") == up.QUARANTINED
    assert len(box.arrived("*", "aggregated_")) == 44
    assert [line["row"]["device_id"] for line in box.quarantined()] == ["3"]
    sizes = [action["numOutputRows"] for action in box.table("aggregated_").history() if "numOutputRows" in action]
    assert max(map(int, sizes), default=0) <= 12
