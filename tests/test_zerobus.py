"""Zerobus: rows by HTTPS against the stand-in over real sockets; exactly once where a warehouse settles, else by the view."""

from __future__ import annotations

import itertools
import json
import math
import re
import signal
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from deltalake import DeltaTable

import sqlite_to_databricks_uploader as up
from adversary import ZEROBUS_STEPS, Stage
from boxes import Box, failures, rows_of
from gateway import Gateway
from test_faults_source import COUNTED, INSERT, VIEW, rows
from warehouse import Warehouse

USUAL = {"delay": 0, "spread": 0.0, "parts": 1, "limit": 10_000_000, "refuse": 413, "deny": [], "tables": {}}
USUAL |= {"anew": True, "token_lifetime": 3600}
OWN = "databricks_inserted_at TIMESTAMP, databricks_batch_id STRING"
NUMBERS = itertools.count()

# What an answer may look like although rows may have been taken.
LOST: dict[str, dict[str, Any]] = {
    "closed": {"action": "drop"},
    "reset": {"action": "reset"},
    "500": {"action": "status", "status": 500},
    "502": {"action": "status", "status": 502},
    "503": {"action": "status", "status": 503, "retry_after": 1},
    "504": {"action": "status", "status": 504},
}


@pytest.fixture
def warehouse(running: Warehouse) -> Iterator[Warehouse]:
    running.zerobus(**USUAL)
    yield running
    running.heal()
    running.flush()


class Way:
    """A box, Zerobus, the table, and what came of it. `settled` adds the warehouse that settles doubts."""

    def __init__(self, box: Box, stage: Stage, warehouse: Warehouse, columns: str, prefix: str, own: str) -> None:
        self.box = box
        self.stage = stage
        self.warehouse = warehouse
        self.table = f"s.{prefix}r{next(NUMBERS)}"
        warehouse.sql(f"CREATE TABLE {self.table} ({', '.join(filter(None, [columns, own]))})")
        del box.environ["LAKEHOUSE_PATH"]
        box.environ |= warehouse.zerobus_environment() | {
            "DATABRICKS_DATABASE": "main.s",
            "DATABRICKS_TABLE": self.table.removeprefix(f"s.{prefix}"),
            "DATABRICKS_STATEMENT_TIMEOUT": "3",
            "UPLOAD_ON_DOUBT": "resend",
        }

    def settled(self, on_doubt: str) -> Way:
        """With a warehouse beside it."""
        self.box.environ |= {"DATABRICKS_HTTP_PATH": self.warehouse.http_path, "UPLOAD_ON_DOUBT": on_doubt}
        return self

    def run(self, *flags: str, **options: Any) -> int:
        """The exit status of a run; clocks of one machine don't differ by more than a second."""
        run = self.stage.run if {*options} - {"later"} else self.stage.here
        return run(self.box.environ, *flags, constants={"WarehouseTable.SLACK_SECONDS": 1}, **options)

    def lose(self, answer: str = "closed", **rule: Any) -> None:
        """Have the next answer lost; without `when` or `rows` the rows were taken."""
        self.warehouse.fail("ZerobusInsert", **{"when": "after", **LOST[answer], **rule})

    def inserts(self) -> list[dict[str, Any]]:
        """The requests with rows for the table."""
        return self.warehouse.inserts(self.table)

    def arrived(self, columns: str = "v") -> list[Any]:
        """What is in the table, late rows too."""
        self.warehouse.flush()
        found = rows_of(DeltaTable(str(self.warehouse.table_path(self.table))), columns)
        return sorted((row[0] if len(row) == 1 else row for row in found), key=lambda value: (str(type(value)), value))

    def log_counts(self) -> tuple[int, int]:
        """How many requests and sessions there were so far, but for this one."""
        log = self.warehouse.log()
        return log["requests"], log["sessions"]


Ways = Callable[..., Way]


@pytest.fixture
def way(box: Box, stage: Stage, warehouse: Warehouse) -> Ways:
    """Makes a way to a table of id, time and v unless told otherwise."""

    def made(columns: str = "id BIGINT, time TIMESTAMP, v BIGINT", prefix: str = "raw_", own: str = OWN) -> Way:
        return Way(box, stage, warehouse, columns, prefix, own)

    return made


# --- The usual ---


def test_the_sample_is_one_request_and_nothing_new_is_none(way: Ways, box: Box) -> None:
    box.sample()
    there = way()
    there.warehouse.sql(f"DROP TABLE {there.table}")
    there.warehouse.sql(ddl(box).split(";")[1])
    assert there.run() == 0, there.stage.said()
    assert "by Zerobus" in there.stage.said()
    assert [entry["rows"] for entry in there.inserts()] == [3000]
    assert len(there.arrived("id")) == 3000
    before = there.warehouse.log()
    assert there.run() == 0
    assert there.warehouse.log()["requests"] == before["requests"]


def test_rows_carry_their_batch_and_their_place_in_it(way: Ways, box: Box) -> None:
    there = way("time TIMESTAMP, v BIGINT")
    box.execute(COUNTED, INSERT, rows=[*rows(1, 3), *rows(3, 3)])
    assert there.run("--source-id", "box 7") == 0, there.stage.said()
    marks = [mark for _, mark in there.arrived("v, databricks_batch_id")]
    assert len(set(marks)) == 4
    assert all(re.fullmatch(r"box 7/0/000000000001/4#[0-9a-f]{16}(\.1)?", mark) for mark in marks)
    assert there.arrived("databricks_inserted_at IS NULL") == [False] * 4


# --- Lost answers ---

FILTER = {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"v": {">": 0}}'}
SANITIZE = {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"replace_values": {"v": {"999": 0}}}'}
COUNTS = {"group_by": ["v"], "aggregations": {"id": "max", "readings": "count"}}
AGGREGATE = {"ENABLE_AGGREGATE": "1", "AGGREGATE_CONFIG": json.dumps(COUNTS)}
BASE = "INSERT INTO base VALUES (?, ?)"
ALL = "id BIGINT, time TIMESTAMP, v BIGINT"
# The table's columns, its prefix, the source and its settings, for each way to find new rows and to treat them.
KINDS: dict[str, tuple[str, str, tuple[str, ...], dict[str, str]]] = {
    "rowid": (ALL, "raw_", (COUNTED, INSERT), {}),
    "timestamp": ("time TIMESTAMP, v BIGINT", "raw_", (*VIEW, BASE), {}),
    "filter": (ALL, "filtered_", (COUNTED, INSERT), FILTER),
    "sanitize": (ALL, "secure_", (COUNTED, INSERT), SANITIZE),
    "aggregate": ("v BIGINT, max_id BIGINT, reading_count BIGINT", "aggregated_", (COUNTED, INSERT), AGGREGATE),
}


@pytest.mark.parametrize("answer", LOST)
def test_rows_whose_answer_is_lost_are_found_in_the_table(way: Ways, box: Box, answer: str) -> None:
    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    there.lose(answer)
    assert there.run("--batch-rows", "5") == 1
    assert there.run("--batch-rows", "5") == 0, there.stage.said()
    assert (there.arrived(), len(there.inserts())) == ([*range(1, 11)], 2)


@pytest.mark.parametrize("taken", [0, 4])
@pytest.mark.parametrize("cursor", KINDS)
def test_rows_that_are_not_there_are_sent_again_and_no_others(way: Ways, box: Box, cursor: str, taken: int) -> None:
    """Where on_doubt says so; new rows that came meanwhile go afterwards."""
    columns, prefix, statements, environ = KINDS[cursor]
    there = way(columns, prefix).settled("resend")
    box.environ |= environ
    box.execute(*statements, rows=rows(1, 10))
    there.lose(rows=taken)
    assert there.run() == 1
    box.execute(statements[-1], rows=rows(11, 12))
    assert there.run(later=60) == 0, there.stage.said()
    assert there.arrived() == [*range(1, 13)]
    assert [entry["rows"] for entry in there.inserts()] == [taken, 10 - taken, 2]
    assert there.run(later=60) == 0


@pytest.mark.parametrize("taken", [0, 4, None])
def test_rows_that_do_not_fit_any_more_when_they_are_sent_again_go_to_quarantine(
    way: Ways, box: Box, taken: int | None
) -> None:
    """They were edited since. One that did not fit before is there once; where all rows came none is."""
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=[*rows(1, 9), ("2026-01-01T00:00:10", "bad")])
    there.lose() if taken is None else there.lose(rows=taken)
    assert there.run() == 1
    box.execute("UPDATE t SET v = 'edited' WHERE id IN (8, 9)")
    assert there.run(later=60) == up.QUARANTINED, there.stage.said()
    assert [line["row"]["id"] for line in box.quarantined()] == ([10] if taken is None else [10, 8, 9])
    assert there.arrived() == [*range(1, 10 if taken is None else 8)]
    assert there.run(later=60) == 0


@pytest.mark.parametrize("taken", [0, 4])
def test_absent_rows_prove_nothing_and_stop_the_run_until_a_person_decides(way: Ways, box: Box, taken: int) -> None:
    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    there.lose(rows=taken, late=3600)
    assert there.run() == 1
    state = box.state_file.read_bytes()
    for _ in range(2):
        assert there.run(later=60) == 1
        assert f"{taken or 'none'} of the 10 rows of commit 1 can be found" in there.stage.said()
        assert box.state_file.read_bytes() == state
    assert there.arrived() == [*range(1, 11)]  # they came after all
    assert there.run(later=60) == 0
    assert (there.arrived(), len(there.inserts())) == ([*range(1, 11)], 1)


def test_rows_that_come_late_are_waited_for(way: Ways, box: Box, warehouse: Warehouse) -> None:
    there = way().settled("resend")
    warehouse.zerobus(delay=4, parts=3, spread=1)
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    there.lose()
    assert there.run() == 1
    assert there.run() == 0, there.stage.said()
    assert (there.arrived(), len(there.inserts())) == ([*range(1, 11)], 1)


@pytest.mark.parametrize("end", ["lost", "killed"])
def test_rows_that_were_sent_again_are_waited_for_in_the_next_run_too(
    way: Ways, box: Box, warehouse: Warehouse, end: str
) -> None:
    """The answer to what was sent again is lost as well, long after the commit itself can be under way."""
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    there.lose(rows=0)
    assert there.run() == 1
    before = box.state()["intent"]["started"]
    warehouse.zerobus(delay=2)
    killed = {"at": ["ZerobusRoute.send"], "call": 1, "when": "after", "do": "kill"}
    if end == "lost":
        there.lose()
    assert there.run(later=60, plan=[killed] if end == "killed" else []) == (1 if end == "lost" else -signal.SIGKILL)
    assert box.state()["intent"]["started"] != before
    assert there.run() == 0, there.stage.said()
    assert (there.arrived(), [entry["rows"] for entry in there.inserts()]) == ([*range(1, 11)], [0, 10])


def test_rows_that_other_settings_would_make_otherwise_are_not_taken_for_sent(way: Ways, box: Box) -> None:
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=[(f"2026-01-01 00:00:{n:02}", n) for n in range(1, 6)])
    there.lose(rows=0)
    assert there.run() == 1
    assert there.run("--source-timezone", "Asia/Tokyo", later=60) == 0, there.stage.said()
    assert there.arrived() == [1, 2, 3, 4, 5]


def test_rows_that_the_producer_deleted_in_the_meantime_confuse_nobody(way: Ways, box: Box) -> None:
    """Rows are known by their values, not by their number in the batch."""
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    there.lose(rows=5)
    assert there.run() == 1
    box.execute("DELETE FROM t WHERE v IN (2, 3, 8)")
    box.execute("VACUUM")
    assert there.run(later=60) == 0, there.stage.said()
    assert there.arrived() == [1, 2, 3, 4, 5, 6, 7, 9, 10]


@pytest.mark.parametrize("taken", [0, 4, None])
def test_without_a_warehouse_rows_are_sent_again_and_the_view_drops_doubles(
    way: Ways, box: Box, warehouse: Warehouse, taken: int | None
) -> None:
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    there.warehouse.fail("ZerobusInsert", "drop", when="after", **({} if taken is None else {"rows": taken}))
    assert there.run() == 1
    box.execute(INSERT, rows=rows(11, 15))
    assert there.run() == 0, there.stage.said()
    came = [*range(1, 1 + (10 if taken is None else taken))]
    assert there.arrived() == sorted([*came, *range(1, 16)])
    view = f"{there.table}_once"
    with warehouse.connect() as connection, connection.cursor() as cursor:
        for statement in ddl(box).split(";")[1:-1]:
            cursor.execute(statement)
        cursor.execute(f"SELECT v FROM {view} ORDER BY v")
        assert [v for (v,) in cursor.fetchall()] == [*range(1, 16)]


def test_without_a_warehouse_a_doubt_stops_where_that_was_chosen(way: Ways, box: Box) -> None:
    there = way()
    box.environ["UPLOAD_ON_DOUBT"] = "stop"
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    there.lose()
    assert there.run() == 1
    assert there.run() == 1
    assert "without a warehouse it can't be told whether commit 1 took place" in there.stage.said()
    assert len(there.inserts()) == 1


def test_with_neither_a_warehouse_nor_on_doubt_nothing_begins(way: Ways, box: Box) -> None:
    there = way()
    del box.environ["UPLOAD_ON_DOUBT"]
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    before = there.warehouse.log()["requests"]
    assert there.run() == 2
    assert "databricks_http_path" in there.stage.said() and "on_doubt: resend" in there.stage.said()
    assert there.warehouse.log()["requests"] == before


def ddl(box: Box) -> str:
    """What --print-ddl prints."""
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert box.run("--print-ddl") == 0
    return printed.getvalue()


# --- Kills ---


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_step_neither_loses_nor_doubles(way: Ways, box: Box, when: str) -> None:
    """kill -9 before or after each call of each step, one after the other."""
    there = way().settled("resend")
    box.execute(COUNTED)
    last = 0
    for call in itertools.count(1):
        box.execute(INSERT, rows=rows(last + 1, last + 10))
        last += 10
        killed = {"at": ZEROBUS_STEPS, "call": call, "when": when, "do": "kill"}
        status = there.run("--batch-rows", "5", plan=[killed])
        assert status in (0, -signal.SIGKILL), there.stage.said()
        there.warehouse.flush()
        assert there.run(later=60) == 0, there.stage.said()
        assert there.arrived() == [*range(1, last + 1)], there.stage.done()[-1]
        if status == 0:
            break
    assert call > 8


# --- What is refused ---


def test_a_record_that_is_refused_is_set_aside_and_the_others_arrive(way: Ways, box: Box, warehouse: Warehouse) -> None:
    there = way("time TIMESTAMP, v BIGINT, note STRING")
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, note TEXT)", "INSERT INTO t VALUES (?, ?, ?)",
                rows=[(time, v, "poison" if v in (7, 30) else "x") for time, v in rows(1, 40)])  # fmt: skip
    warehouse.fail('"poison"', "error", message="The record can't be taken", times=-1)
    assert there.run() == up.QUARANTINED, there.stage.said()
    assert there.arrived() == [v for v in range(1, 41) if v not in (7, 30)]
    assert sorted(line["row"]["v"] for line in box.quarantined()) == [7, 30]


def test_infinities_are_set_aside_before_anything_is_sent(way: Ways, box: Box) -> None:
    there = way("time TIMESTAMP, v BIGINT, x DOUBLE, y FLOAT")
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, x REAL, y REAL)", "INSERT INTO t VALUES (?, ?, ?, ?)",
                rows=[(time, v, math.inf if v == 2 else 0.1, -math.inf if v == 5 else 1e22) for time, v in rows(1, 20)])  # fmt: skip
    assert there.run() == up.QUARANTINED, there.stage.said()
    assert there.arrived() == [v for v in range(1, 21) if v not in (2, 5)]
    assert [entry["rows"] for entry in there.inserts()] == [18]
    assert all("JSON can't carry" in line["reason"] for line in box.quarantined())


def test_what_a_rule_makes_infinite_is_set_aside(way: Ways, box: Box) -> None:
    there = way("v BIGINT, sum_x DOUBLE", "aggregated_")
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, x REAL)", "INSERT INTO t VALUES (?, ?, ?)",
                rows=[(time, v, 1e308 if v == 2 else 0.1) for time, v in [*rows(1, 20), *rows(1, 20)]])  # fmt: skip
    rules = {"group_by": ["v"], "aggregations": {"x": "sum"}}
    box.environ |= {"ENABLE_AGGREGATE": "true", "AGGREGATE_CONFIG": json.dumps(rules)}
    assert there.run() == up.QUARANTINED, there.stage.said()
    assert there.arrived() == [v for v in range(1, 21) if v != 2]
    [line] = box.quarantined()
    assert "sum_x is inf, which JSON can't carry" in line["reason"]


def test_a_first_run_does_not_begin_with_infinities(way: Ways, box: Box) -> None:
    """Where more than a tenth of the first rows are such, nothing is sent, nor set aside."""
    there = way("time TIMESTAMP, v BIGINT, x DOUBLE")
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, x REAL)", "INSERT INTO t VALUES (?, ?, ?)",
                rows=[(time, v, math.inf if v < 3 else 0.1) for time, v in rows(1, 6)])  # fmt: skip
    assert there.run() == 2
    assert "x is inf, which JSON can't carry" in there.stage.said()
    assert (there.arrived(), box.quarantined()) == ([], [])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an external table": ({"table_type": "EXTERNAL"}, "managed Delta tables only"),
    "another format": ({"data_source_format": "ICEBERG"}, "managed Delta tables only"),
    "catalog-managed commits": ({"properties": {"delta.feature.catalogManaged": "supported"}}, "catalog-managed"),
    "a generated column": (
        {"columns": [{"name": "v", "type_text": "bigint", "type_json": '{"delta.generationExpression": "1"}'}]},
        "generated or identity columns, which Zerobus does not support: v",
    ),
}


def test_a_query_needs_a_warehouse_beside_zerobus(way: Ways) -> None:
    there = way()
    assert there.run("--run-query", "INFO") == 2
    assert "--run-query needs a warehouse" in there.stage.said()


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_zerobus_can_not_write_to_is_told_before_anything_is_sent(
    way: Ways, box: Box, warehouse: Warehouse, kind: str
) -> None:
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    differing, said = REFUSED[kind]
    warehouse.zerobus(tables={f"main.{there.table}": differing})
    for action in ((), ("--check",)):
        assert there.run(*action) == 1
        assert said in there.stage.said()
    assert there.inserts() == []


@pytest.mark.parametrize(
    ("columns", "own", "said"),
    [
        (ALL, "", "no column databricks_batch_id"),
        (ALL, "databricks_batch_id BIGINT", "no column databricks_batch_id of type STRING"),
        (ALL + ", `größe` DOUBLE", OWN, "größe"),
    ],
)
def test_columns_that_do_not_suit_are_told_before_anything_is_sent(
    way: Ways, box: Box, columns: str, own: str, said: str
) -> None:
    there = way(columns, own=own)
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    for action in ((), ("--check",)):
        assert there.run(*action) == 1
        assert said in there.stage.said()
    assert there.inserts() == []


def test_a_table_that_zerobus_does_not_take_rows_for_sets_none_aside(way: Ways, box: Box, warehouse: Warehouse) -> None:
    """What Databricks has said of a table in default storage, of which Unity Catalog tells nothing."""
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    said = (
        "Unsupported table kind. Tables created in default storage are not supported. Error Code: 4024, Error State: 0."
    )
    warehouse.fail("ZerobusInsert", "error", message=said, times=-1)
    assert there.run() == 1 and "as one in default storage" in there.stage.said()
    warehouse.heal()
    assert (box.quarantined(), there.run(), there.arrived()) == ([], 0, [1, 2, 3])


@pytest.mark.parametrize("right", ["MODIFY main.{}", "SELECT main.{}", "USE SCHEMA main.s", "USE CATALOG main"])
def test_missing_rights_are_told_and_nothing_is_in_doubt(way: Ways, box: Box, warehouse: Warehouse, right: str) -> None:
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    warehouse.zerobus(deny=[right.format(there.table)])
    for action in ((), ("--check",)):
        assert there.run(*action) == 1
        assert "USE CATALOG, USE SCHEMA" in there.stage.said()
    warehouse.zerobus(deny=[])
    assert there.run() == 0, there.stage.said()
    assert there.arrived() == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABRICKS_DATABASE", "s", "catalog.schema"),
        ("DATABRICKS_TABLE", "größe", "größe"),
        ("DATABRICKS_ZEROBUS_ENDPOINT", "zerobus.eu-west-1.cloud.databricks.com", "workspace's id"),
        ("DATABRICKS_CLIENT_SECRET", "", "databricks_client_secret not set"),
        ("DATABRICKS_HOST", "adb-99.7.azuredatabricks.net", "another workspace"),
        ("TABLE_PATH", "/tmp/t", "two targets"),
    ],
)
def test_settings_that_can_not_be_right_end_with_status_2(
    way: Ways, box: Box, name: str, value: str, said: str
) -> None:
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    box.environ[name] = value
    assert there.run() == 2
    assert said in there.stage.said()


def test_refused_requests_leave_no_doubt(way: Ways, box: Box, warehouse: Warehouse) -> None:
    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    for status in (401, 403, 404, 408, 429, 501):
        warehouse.fail("ZerobusInsert", "status", status=status, times=2)
        assert there.run() == 1, status
        assert box.state()["intent"] is None, status
        warehouse.heal()
    assert there.run() == 0
    assert there.arrived() == [1, 2, 3]


def test_a_token_that_is_not_taken_any_more_is_renewed_at_once(way: Ways, box: Box, warehouse: Warehouse) -> None:
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    warehouse.fail("ZerobusInsert", "status", status=401)
    assert there.run() == 0, there.stage.said()
    assert there.arrived() == [1, 2, 3]


def test_tokens_are_renewed_before_their_end_and_stand_in_no_log(
    warehouse: Warehouse, way: Ways, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    there = way()
    warehouse.zerobus(token_lifetime=300)
    clock = [0.0]
    workspace = up.Session(up.load_config({}, box.environ), {}, clock=lambda: clock[0])
    table = f"main.{there.table}"
    caplog.set_level("DEBUG")
    first = workspace.token(table), workspace.token()
    clock[0] = 100
    assert (workspace.token(table), workspace.token()) == first
    clock[0] = 200
    assert workspace.token(table) != first[0] and workspace.token() != first[1]
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    assert box.run("-vv") == 0
    assert there.arrived() == [1, 2, 3]
    assert not re.search(r"eyJ|Bearer|s3cret", caplog.text)


def test_the_custom_url_of_an_account_is_told_the_workspace(
    way: Ways, box: Box, warehouse: Warehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows go to the workspace that the endpoint names; the statements of a warehouse need ?o=, as a hint says."""
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    with Gateway(warehouse) as gateway:
        gateway.is_shared = True
        box.environ |= gateway.environment(zerobus=True)
        assert box.run() == 0
        assert box.run("--check") == 1 and "custom URL, the path ends in ?o=WORKSPACE_ID" in capsys.readouterr().out
        box.environ["DATABRICKS_HTTP_PATH"] += "?o=127"
        assert box.run("--check") == 0
    assert there.arrived() == [1, 2, 3]


# --- Sizes ---


@pytest.mark.parametrize("refuse", [413, 400, "close", "reset"])
def test_rows_arrive_once_behind_a_gateway_that_takes_no_large_request(
    way: Ways, box: Box, warehouse: Warehouse, refuse: int | str
) -> None:
    """A body whose end was not sent is no JSON: nothing is in doubt."""
    there = way("time TIMESTAMP, v BIGINT, note STRING").settled("resend")
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, note TEXT)", "INSERT INTO t VALUES (?, ?, ?)",
                rows=[(time, v, "x" * 500) for time, v in rows(1, 1500)])  # fmt: skip
    with Gateway(warehouse, limit=80_000, refuse=refuse) as gateway:
        box.environ |= gateway.environment(zerobus=True)
        assert failures(lambda: there.run(later=60), 12) < 12, there.stage.said()
        assert gateway.largest <= 80_000
    assert there.arrived() == [*range(1, 1501)]


@pytest.mark.parametrize(("refuse", "text"), [(200, None), (200, ""), (202, None)])
def test_a_page_in_place_of_an_answer_is_no_sign_that_rows_arrived(
    way: Ways, box: Box, warehouse: Warehouse, refuse: int, text: str | None
) -> None:
    """A proxy that looks into TLS says 200 to what it does not pass on."""
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=rows(1, 300))
    with Gateway(warehouse, 20_000, refuse, text) as gateway:
        box.environ |= gateway.environment(zerobus=True)
        assert failures(lambda: there.run(later=60), 8) in range(1, 8), there.stage.said()
    assert there.arrived() == [*range(1, 301)]


@pytest.mark.parametrize("text", ['{"error": "blocked"}', '{"message": "no"}', '{"error_code": "DLP"}'])
def test_an_error_that_comes_as_a_success_is_no_sign_that_rows_arrived(
    way: Ways, box: Box, warehouse: Warehouse, text: str
) -> None:
    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 300))
    with Gateway(warehouse, 10_000, 200, text) as gateway:
        box.environ |= gateway.environment(zerobus=True)
        assert there.run() == 1
        assert "from a proxy between" in there.stage.said()


@pytest.mark.parametrize("status", [403, 404, 431])
def test_what_is_refused_whatever_it_holds_is_no_matter_of_size(
    way: Ways, box: Box, warehouse: Warehouse, status: int
) -> None:
    """As where rights are taken away amid a run."""
    there = way("time TIMESTAMP, v BIGINT, note STRING")
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, note TEXT)", "INSERT INTO t VALUES (?, ?, ?)",
                rows=[(time, v, "x" * 40_000) for time, v in rows(1, 3)])  # fmt: skip
    warehouse.fail("ZerobusInsert", "status", status=status, times=-1)
    assert there.run() == 1, there.stage.said()
    warehouse.heal()
    assert box.quarantined() == []
    assert there.run() == 0, there.stage.said()
    assert there.arrived() == [1, 2, 3]


def test_on_doubt_decides_where_the_warehouse_that_is_asked_is_gone(way: Ways, box: Box, warehouse: Warehouse) -> None:
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    there.lose(when="before")
    assert there.run() == 1
    warehouse.fail("OpenSession", "status", status=404, times=-1)
    assert there.run("--on-doubt", "stop") == 1
    assert "on_doubt" in there.stage.said()
    assert there.run() == 0, there.stage.said()
    assert there.arrived() == [1, 2, 3]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"access_token": "a\nb"}, "without a token"), ({"access_token": "ä"}, "without a token"),
        ({"access_token": "ab", "expires_in": "soon"}, ""),
    ],
)  # fmt: skip
def test_a_token_is_one_that_a_header_holds(
    way: Ways, box: Box, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], said: str
) -> None:
    way()
    monkeypatch.setattr(up, "asked", lambda *_, **__: up.Answer(200, told, ""))
    config = up.load_config({}, box.environ)
    if not said:
        assert up.principal_token(config) == ("ab", 3600)
        return
    with pytest.raises(up.Rejected, match=said) as caught:
        up.principal_token(config)
    assert told["access_token"] not in str(caught.value)


@pytest.mark.parametrize("columns", [None, [{"name": "id"}], [{"name": "id", "type_text": None}], [None]])
def test_a_catalog_that_does_not_tell_the_columns_is_an_error_of_ours(
    way: Ways, box: Box, monkeypatch: pytest.MonkeyPatch, columns: Any
) -> None:
    there = way()
    told = {"table_type": "MANAGED", "data_source_format": "DELTA", "columns": columns}
    monkeypatch.setattr(up.Session, "ask", lambda *_, **__: up.Answer(200, told, ""))
    session = up.Session(up.load_config({}, box.environ), {})
    with pytest.raises(up.Rejected, match="does not tell the columns"):
        up.WarehouseTable(session, there.table).columns()


@pytest.mark.parametrize("status", [201, 202])
def test_a_success_of_another_kind_is_a_doubt_that_the_table_settles(
    way: Ways, box: Box, warehouse: Warehouse, status: int
) -> None:
    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    there.lose("503", status=status)
    assert there.run() == 1
    assert there.run(later=60) == 0, there.stage.said()
    assert there.arrived() == [1, 2, 3]


@pytest.mark.parametrize("refuse", [403, 404, 405, 429, 302, 511])
def test_statuses_with_other_meanings_may_be_said_of_a_size(
    way: Ways, box: Box, warehouse: Warehouse, refuse: int
) -> None:
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 300))
    with Gateway(warehouse, limit=20_000, refuse=refuse) as gateway:
        box.environ |= gateway.environment(zerobus=True)
        assert 0 in (there.run() for _ in range(8)), there.stage.said()
    assert there.arrived() == [*range(1, 301)]


def test_a_doubt_about_many_rows_needs_no_large_answer(way: Ways, box: Box, warehouse: Warehouse) -> None:
    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 3_000))
    there.lose()
    with Gateway(warehouse) as gateway:
        gateway.answers = 50_000
        box.environ |= gateway.environment()
        assert [there.run(), there.run(later=60)] == [1, 0], there.stage.said()
    assert there.arrived() == [*range(1, 3_001)]


def test_a_body_that_is_cut_off_is_no_doubt_but_too_large(warehouse: Warehouse) -> None:
    """A gateway that hangs up amid a large body; once the whole body is out, an end without an answer is a doubt."""
    with socket.create_server(("localhost", 0)) as listening:
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inside.load_cert_chain(warehouse.directory / "server.pem")

        def hang_up() -> None:
            for size in (1000, 60):
                connection, _ = listening.accept()
                with inside.wrap_socket(connection, server_side=True) as encrypted:
                    left = size
                    while left > 0 and (read := encrypted.recv(left)):
                        left -= len(read)
                    if size < 1000:  # all of a small request
                        encrypted.recv(10_000)

        threading.Thread(target=hang_up, daemon=True).start()
        config = up.Config(databricks_ca_file=warehouse.ca_file)
        url = f"https://localhost:{listening.getsockname()[1]}/"
        with pytest.raises(up.RefusedSizeError):
            up.asked(config, url, {}, b"[" + b"0," * 20_000_000 + b"0]", writes=True)
        with pytest.raises(up.LostAnswer):
            up.asked(config, url, {}, b"[1]", writes=True)
    with pytest.raises(up.Unreachable):
        up.asked(config, url, {}, b"[1]", writes=True)


# --- Actions ---


def test_a_dry_run_and_a_check_say_the_route(way: Ways, box: Box) -> None:
    there = way()
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    assert there.run("--dry-run") == 0
    assert "by Zerobus: 3 rows" in there.stage.said()
    assert there.run("--check") == 0, there.stage.said()
    assert "by Zerobus" in there.stage.said() and "managed Delta table" in there.stage.said()
    assert there.inserts() == []
    there.settled("stop")
    assert there.run("--check") == 0, there.stage.said()
    assert "settles doubts" in there.stage.said()


def test_names_that_zerobus_refuses_are_printed_as_it_takes_them_and_found_again(way: Ways, box: Box) -> None:
    there = way()
    box.execute(
        "CREATE TABLE t (time TEXT, v INTEGER, `Temp. in °C` REAL)", "INSERT INTO t VALUES ('2026-01-01', 1, 20.5)"
    )
    [statement] = [part for part in ddl(box).split(";") if "CREATE TABLE" in part]
    assert "`Temp__in__C` DOUBLE" in statement
    there.warehouse.sql(f"DROP TABLE {there.table}")
    there.warehouse.sql(statement)
    assert there.run() == 0, there.stage.said()
    assert there.arrived("Temp__in__C") == [20.5]


@pytest.mark.parametrize("taken", [5, 0])
def test_what_is_sent_again_becomes_smaller_where_its_size_is_refused(
    way: Ways, box: Box, warehouse: Warehouse, taken: int
) -> None:
    there = way("time TIMESTAMP, v BIGINT, note STRING").settled("resend")
    long = [(time, v, "x" * 500) for time, v in rows(1, 500)]
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, note TEXT)", "INSERT INTO t VALUES (?, ?, ?)", rows=long)
    with Gateway(warehouse, limit=None, refuse=413) as gateway:
        box.environ |= gateway.environment(zerobus=True)
        there.lose(rows=taken)
        assert there.run() == 1
        gateway.limit = 80_000
        ended = [there.run(later=60) for _ in range(2)]
    assert ended[-1] == 0
    assert there.arrived() == [*range(1, 501)]


def test_a_lost_state_is_made_anew_from_the_marks(way: Ways, box: Box) -> None:
    import shutil

    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 20))
    assert there.run("--source-id", "box #7", "--batch-rows", "7") == 0
    there.warehouse.flush()
    shutil.rmtree(box.folder / "state")
    box.execute(INSERT, rows=rows(21, 25))
    assert there.run("--source-id", "box #7") == 0, there.stage.said()
    assert there.arrived() == [*range(1, 26)]


def test_a_box_goes_on_by_another_route(way: Ways, box: Box) -> None:
    """Its doubt is settled by the marks, whichever route is in force."""
    there = way().settled("stop")
    box.execute(COUNTED, INSERT, rows=rows(1, 5))
    there.lose()
    assert there.run() == 1
    endpoint = box.environ.pop("DATABRICKS_ZEROBUS_ENDPOINT")
    box.execute(INSERT, rows=rows(6, 8))
    assert there.run(later=60) == 0, there.stage.said()
    box.environ["DATABRICKS_ZEROBUS_ENDPOINT"] = endpoint
    box.execute(INSERT, rows=rows(9, 10))
    assert there.run() == 0, there.stage.said()
    assert there.arrived() == [*range(1, 11)]


@pytest.mark.parametrize("came", [0, 2])
def test_what_never_came_by_zerobus_goes_by_another_route_where_nothing_of_it_is_there(
    way: Ways, box: Box, came: int
) -> None:
    """A part can be told from the rest by its marks alone."""
    there = way().settled("resend")
    box.execute(COUNTED, INSERT, rows=rows(1, 5))
    there.lose(rows=came) if came else there.lose(when="before")
    assert there.run() == 1
    endpoint = box.environ.pop("DATABRICKS_ZEROBUS_ENDPOINT")
    assert there.run(later=60) == bool(came), there.stage.said()
    if came:
        assert "on_doubt: resend, with zerobus_endpoint, sends those that are missing" in there.stage.said()
        box.environ["DATABRICKS_ZEROBUS_ENDPOINT"] = endpoint
        assert there.run(later=60) == 0
    assert there.arrived() == [*range(1, 6)]


# --- Values ---

TYPES = (
    "a TINYINT, b INT, c BIGINT, d FLOAT, e DOUBLE, f STRING, g BOOLEAN, h BINARY, i DATE, j TIMESTAMP,"
    " k TIMESTAMP_NTZ, l DECIMAL(38, 10)"
)
# As SQLite holds them, and as they arrive.
VALUES: dict[str, list[tuple[Any, Any]]] = {
    "a": [(-128, -128), (127, 127)],
    "b": [(2**31 - 1, 2**31 - 1)],
    "c": [(2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (2**53 + 1, 2**53 + 1)],
    "d": [(0.5, 0.5), (3.4028234663852886e38, 3.4028234663852886e38)],
    "e": [(0.1, 0.1), (-0.0, -0.0), (5e-324, 5e-324), (1.7976931348623157e308, 1.7976931348623157e308)],
    "f": [("", ""), ("ä\u2028\x00\"\\'${x}𝄞", "ä\u2028\x00\"\\'${x}𝄞"), ("null", "null"), ("inf", "inf")],
    "g": [(0, False), ("true", True)],
    "h": [(bytes(range(256)), bytes(range(256))), (b"", b"")],
    "i": [("0001-01-01", date(1, 1, 1)), ("9999-12-31", date(9999, 12, 31)), ("1969-12-31", date(1969, 12, 31))],
    "j": [("1969-12-31T23:59:59.999999Z", datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
          ("2026-03-29T03:00:00+02:00", datetime(2026, 3, 29, 1, tzinfo=UTC))],
    "k": [("2026-01-01T00:00:00.000001", datetime(2026, 1, 1, microsecond=1))],
    "l": [("1234567890123456789012345678.0123456789", Decimal("1234567890123456789012345678.0123456789")),
          (-1, Decimal(-1)), ("1e-10", Decimal("1e-10"))],
}  # fmt: skip


def test_values_of_every_type_arrive_as_they_are(way: Ways, box: Box) -> None:
    there = way("time TIMESTAMP, " + TYPES)
    names = ", ".join(VALUES)
    box.execute(f"CREATE TABLE t (time DATETIME, {names})")
    expected = []
    for position, (name, pairs) in enumerate(VALUES.items()):
        for sent, came in pairs:
            with sqlite3.connect(box.database) as connection:
                connection.execute(f"INSERT INTO t (time, {name}) VALUES ('2026-01-01', ?)", (sent,))
            expected.append(tuple(came if index == position else None for index in range(len(VALUES))))
    assert there.run("--timestamp-col", "time") == 0, there.stage.said()
    there.warehouse.flush()
    found = rows_of(DeltaTable(str(there.warehouse.table_path(there.table))), names)
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_a_body_is_a_json_array_whose_marks_do_not_depend_on_order() -> None:
    first = up.marks_of([["1", "2", "2"], ['"a"', "null", "null"]])
    assert len(set(first)) == 3
    assert set(up.marks_of([["2", "1", "2"], ["null", '"a"', "null"]])) == set(first)
    records = up.Records({"x": '{"a":1,', "y.1": "{"}, ["a"])
    found = json.loads(records.document('s/"1', "databricks_batch_id", ',"t":5'))
    assert found == [{"a": 1, "databricks_batch_id": 's/"1#x', "t": 5}, {"databricks_batch_id": 's/"1#y.1', "t": 5}]
    assert [part.count for part in up.Records(dict.fromkeys("0123456789", "{"), []).parts(500)] == [2, 2, 2, 2, 2]


def test_several_tables_go_by_zerobus_with_one_ordinary_token(way: Ways, box: Box, warehouse: Warehouse) -> None:
    """Each table's rows need a token of their own; what Unity Catalog is asked with is the same for all."""
    there = way()
    del box.environ["DATABRICKS_TABLE"]
    names = [f"m{next(NUMBERS)}" for _ in range(3)]
    for name in names:
        warehouse.sql(f"CREATE TABLE s.raw_{name} (time TIMESTAMP, v BIGINT, {OWN})")
        box.execute(f"CREATE TABLE {name} (time TEXT, v INTEGER)", f"INSERT INTO {name} VALUES (?, ?)", rows=rows(1, 3))
    before = warehouse.log()["requests"]
    assert there.run("--tables", "*") == 0, there.stage.said()
    assert warehouse.log()["requests"] - before == 1 + 3 * 3  # and a token, the columns and the rows of each
    warehouse.flush()
    for name in names:
        found = rows_of(DeltaTable(str(warehouse.table_path(f"s.raw_{name}"))), "v")
        assert found == [(1,), (2,), (3,)]
    assert there.run("--tables", "*", "--check") == 0, there.stage.said()
