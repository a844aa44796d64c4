"""The fault matrix, rows 34 to 53: whatever happens between the rows and the table, nothing is missing and nothing doubled."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, Schema, write_deltalake

import sqlite_to_databricks_uploader as up
from adversary import DELTA_STEPS, WAREHOUSE_STEPS, Stage
from boxes import Box, crossed, rows_of
from test_faults_source import COUNTED, INSERT, PLAIN, VIEW, rows
from warehouse import Warehouse

# What the driver's answer to a statement may look like although the statement was carried out.
LOST: dict[str, dict[str, Any]] = {
    "closed": {"action": "drop"},
    "reset": {"action": "reset"},
    "503": {"action": "status", "status": 503},
    "503 with Retry-After": {"action": "status", "status": 503, "retry_after": 1},
    "504": {"action": "status", "status": 504},
    "an internal error": {"action": "error"},
    "a cancellation": {"action": "error", "message": "[OPERATION_CANCELED] SQLSTATE: HY008", "sqlstate": "HY008"},
}

# What it looks like where the statement was not carried out; with the statuses of the run.
NOT_RUN: dict[str, dict[str, Any]] = {
    "closed": {"action": "drop"},
    "reset": {"action": "reset"},
    "503": {"action": "status", "status": 503},
    "429": {"action": "status", "status": 429, "retry_after": 1},
    "401": {"action": "status", "status": 401},
    "403": {"action": "status", "status": 403},
    "404": {"action": "status", "status": 404},
    "an internal error": {"action": "error"},
    "a refusal": {"action": "error", "message": "[INSUFFICIENT_PERMISSIONS] no. SQLSTATE: 42501", "sqlstate": "42501"},
    "a conflict": {"action": "error", "message": "[DELTA_CONCURRENT] x. SQLSTATE: 2D521", "sqlstate": "2D521"},
}

INSERTS = ("insert", "insert with id")
ROUTES = (*INSERTS, "copy", "copy with id")
# Each route, with and without batch ids, and each side of a step.
CROSSED = [("insert", "after"), ("insert with id", "before"), ("copy", "before"), ("copy with id", "after")]

# The plain INSERT is tried with each fault, the other routes with the two that differ most.
EACH_LOST = [("insert", answer) for answer in LOST] + [(r, a) for r in ROUTES[1:] for a in ("closed", "503")]
EACH_NOT_RUN = [("insert", answer) for answer in NOT_RUN] + [(r, a) for r in ROUTES[1:] for a in ("reset", "429")]


NUMBERS = itertools.count()


class Delivery:
    """A box, the way to its table, and what came of it."""

    def __init__(self, box: Box, stage: Stage, warehouse: Warehouse, route: str, columns: str) -> None:
        self.box = box
        self.stage = stage
        self.warehouse = warehouse
        self.route = route
        self.table = f"s.raw_r{next(NUMBERS)}"
        more = ", databricks_batch_id STRING" if "id" in route else ""
        if route != "delta":
            box.behind(warehouse, self.table, f"{columns}{more}")
            # COPY INTO without batch ids waits for twice as long after each lost answer; no other route does.
            box.environ["DATABRICKS_STATEMENT_TIMEOUT"] = "2" if route == "copy" else "6"
        if "copy" in route:
            box.environ["DATABRICKS_VOLUME"] = "/Volumes/main/s/v"

    @property
    def verb(self) -> str:
        """How the statement begins that commits."""
        return "^COPY INTO" if "copy" in self.route else "^INSERT INTO"

    def run(self, *flags: str, **options: Any) -> int:
        """The exit status of a run. Clocks of one machine don't differ, and files are for more than three rows."""
        constants = {"WarehouseTable.SLACK_SECONDS": 0, "InsertRoute.STAMP_SECONDS": 0, "CopyRoute.LEAST_ROWS": 3}
        run = self.stage.run if {*options} - {"later"} else self.stage.here
        return run(self.box.environ, *flags, constants=constants, **options)

    def values(self) -> list[int]:
        """The values that arrived."""
        path = str(self.warehouse.table_path(self.table)) if self.route != "delta" else str(
            self.box.folder / "lake" / "raw_readings"
        )  # fmt: skip
        return sorted(v for (v,) in rows_of(DeltaTable(path), "v")) if DeltaTable.is_deltatable(path) else []

    def carried_out(self) -> int:
        """How many committing statements the warehouse carried out."""
        into = f"INTO `{self.table.replace('.', '`.`')}`"
        return len([entry for entry in self.warehouse.statements(into) if entry["rows"]])

    def staged(self) -> list[Path]:
        """The files that are in the volume."""
        return [file for file in (self.warehouse.directory / "volumes").rglob("*") if file.is_file()]


@pytest.fixture
def delivery(box: Box, stage: Stage, warehouse: Warehouse) -> Callable[..., Delivery]:
    """Makes a delivery by a route; a table of id, time and v unless told otherwise."""

    def made(route: str, columns: str = "id BIGINT, time TIMESTAMP, v BIGINT") -> Delivery:
        return Delivery(box, stage, warehouse, route, columns)

    return made


Deliveries = Callable[..., Delivery]


# --- Lost answers: matrix rows 36 to 38 ---


@pytest.mark.parametrize(("route", "answer"), EACH_LOST)
def test_a_statement_whose_answer_is_lost_is_carried_out_once(delivery: Deliveries, route: str, answer: str) -> None:
    """The driver replays nothing, and the next run finds out what happened. (matrix rows 36 and 38)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run("--batch-rows", "5") == 0
    way.box.execute(INSERT, rows=rows(11, 20))
    way.warehouse.fail(way.verb, when="after", **LOST[answer])
    assert way.run("--batch-rows", "5") == 1
    assert way.carried_out() == 3
    assert way.values() == list(range(1, 16))
    assert way.run("--batch-rows", "5", later=60) == 0
    assert way.carried_out() == 4
    assert way.values() == list(range(1, 21))


@pytest.mark.parametrize(("route", "answer"), EACH_NOT_RUN)
def test_a_statement_that_was_not_carried_out_is_sent_again(delivery: Deliveries, route: str, answer: str) -> None:
    """By the next run, whatever the failure looked like. (matrix rows 34, 38, 39 and 41)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(way.verb, **NOT_RUN[answer], times=-1)
    assert way.run() == 1
    assert way.values() == []
    way.warehouse.heal()
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 11))


@pytest.mark.parametrize("route", ROUTES)
def test_an_answer_that_does_not_come_in_time_is_a_doubt_and_no_reason_to_send_again(
    delivery: Deliveries, route: str
) -> None:
    """The driver stops reading; the statement had been carried out. (matrix row 36)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(way.verb, "delay", when="after", seconds=2)
    assert way.run(patience=1) == 1
    assert way.run(later=60) == 0
    assert way.carried_out() == 1
    assert way.values() == list(range(1, 11))


@pytest.mark.parametrize("route", ROUTES)
def test_a_statement_that_runs_on_after_its_connection_is_waited_for(delivery: Deliveries, route: str) -> None:
    """The first look finds nothing; the statement commits later. (matrix row 37)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.box.environ["DATABRICKS_STATEMENT_TIMEOUT"] = "3"
    way.warehouse.fail(way.verb, "zombie", seconds=2)
    began = time.monotonic()
    assert way.run() == 1
    assert way.values() == []
    assert way.run() == 0
    time.sleep(max(0.0, began + 4 - time.monotonic()))
    assert way.carried_out() == 1
    assert way.values() == list(range(1, 11))


@pytest.mark.parametrize("route", ROUTES)
def test_a_statement_that_outlives_its_time_is_ended_by_the_server(delivery: Deliveries, route: str) -> None:
    """The session's STATEMENT_TIMEOUT bounds what a lost statement can do. (matrix row 37)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.box.environ["DATABRICKS_STATEMENT_TIMEOUT"] = "2"
    way.warehouse.fail(way.verb, "zombie", seconds=4)
    assert way.run() == 1
    assert way.run() == 0
    assert way.values() == list(range(1, 11))
    assert way.carried_out() == 1


@pytest.mark.parametrize("route", ROUTES)
def test_a_statement_that_stood_in_a_queue_for_too_long_does_not_run(delivery: Deliveries, route: str) -> None:
    """STATEMENT_TIMEOUT does not count the time in a queue; the statement itself refuses. (matrix row 37)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.box.environ["DATABRICKS_STATEMENT_TIMEOUT"] = "2"
    way.warehouse.fail(way.verb, "delay", seconds=6)
    began = time.monotonic()
    assert way.run(patience=1) == 1
    assert way.run() == 0
    assert way.values() == list(range(1, 11))
    time.sleep(max(0.0, began + 8 - time.monotonic()))
    refused = [e for e in way.warehouse.statements("begun too late", "error") if way.table[2:] in e["statement"]]
    # COPY INTO may have taken up the file by then, and passes over it.
    assert refused or route == "copy"
    assert way.values() == list(range(1, 11))


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_sent_in_a_session_whose_statements_have_no_end(delivery: Deliveries, route: str) -> None:
    """A server that refuses STATEMENT_TIMEOUT gets no statement that commits. (matrix row 37)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail("^SET STATEMENT_TIMEOUT", "error", message="[X] no. SQLSTATE: 42501", sqlstate="42501")
    assert way.run() == 1
    assert way.carried_out() == 0
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 11))


def test_a_session_that_refused_its_bound_is_not_used_again(delivery: Deliveries) -> None:
    """The next statement opens another one, which has it. (matrix row 37)"""
    way = delivery("insert")
    session = up.Session(up.load_config({}, way.box.environ), way.box.environ)
    way.warehouse.fail("^SET STATEMENT_TIMEOUT", "error", message="[X] no. SQLSTATE: 42501", sqlstate="42501")
    with pytest.raises(up.UploaderError):
        session.rows("SELECT 1")
    before = len(way.warehouse.log()["statements"])
    assert session.rows("SELECT 2") == [(2,)]
    session.close()
    after = [entry["statement"] for entry in way.warehouse.log()["statements"][before:]]
    assert after[1:] == ["SET STATEMENT_TIMEOUT = 6", "SELECT 2"]


@pytest.mark.parametrize("route", ["insert", "copy"])
def test_each_session_bounds_its_statements_before_it_commits(delivery: Deliveries, route: str) -> None:
    """By the setting `databricks_statement_timeout`. (matrix row 37)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    before = len(way.warehouse.log()["statements"])
    assert way.run() == 0
    statements = [entry["statement"] for entry in way.warehouse.log()["statements"][before:]]
    setting = f"SET STATEMENT_TIMEOUT = {way.box.environ['DATABRICKS_STATEMENT_TIMEOUT']}"
    [bound] = [index for index, text in enumerate(statements) if text == setting]
    [commit] = [index for index, text in enumerate(statements) if re.match(way.verb, text)]
    assert bound < commit


# --- Kills: matrix rows 34 and 35 ---


def at_each_step(way: Delivery, deed: str, when: str) -> None:
    """A deed before or after each call of each step, each run one call later than the last, until one has no such call.

    The next run goes on, with new rows once there are none left. A batch whose run was killed twice is a smaller one.
    """
    way.box.execute(COUNTED)
    last, steps = 0, DELTA_STEPS if way.route == "delta" else WAREHOUSE_STEPS
    deeds = [len(way.stage.done())]
    for call in itertools.count(1):
        if is_settled := len(way.values()) == last:
            way.box.execute(INSERT, rows=rows(last + 1, last + 10))
            last += 10
        plan = [{"at": steps, "call": call, "when": when, "do": deed}]
        status = way.run("--batch-rows", "5", plan=plan, later=60 * call)
        deeds.append(len(way.stage.done()))
        assert status == (-signal.SIGKILL if deed == "kill" and deeds[-1] > deeds[-2] else 0), way.stage.said()
        arrived = way.values()
        assert arrived == list(range(1, len(arrived) + 1)), way.stage.done()[-1]
        if is_settled and deeds[-1] == deeds[-2]:
            break
    assert len(arrived) == last
    sent = {"delta": "DeltaTarget.send", "insert": "InsertRoute.send", "copy": "CopyRoute.send"}[way.route.split()[0]]
    done = {*way.stage.done()[deeds[0] :]}
    assert {f"{deed} {when} {step}" for step in ("StateFile.save", "Quarantine.put", sent)} <= done


@pytest.mark.parametrize(("route", "when"), [("delta", "before"), ("delta", "after"), *CROSSED])
def test_a_kill_at_any_step_neither_loses_nor_doubles(delivery: Deliveries, route: str, when: str) -> None:
    """kill -9. (matrix rows 34 and 35)"""
    at_each_step(delivery(route), "kill", when)


# --- Doubt that can't be resolved ---


# Batches by the values of their rows; each has one that equals an earlier row.
RIDDLES = [(1, 2), (1, 1), (1,)]


def riddle(way: Delivery, when: str, values: tuple[int, ...] = (1, 2)) -> None:
    """A batch of which rows equal an earlier one; its answer is lost."""
    way.box.execute(PLAIN, INSERT, rows=[("2026-01-01", 1)])
    assert way.run() == 0
    way.box.execute(INSERT, rows=[("2026-01-01", value) for value in values])
    way.warehouse.fail(way.verb, "drop", when=when)
    assert way.run() == 1


def forget_the_past(way: Delivery) -> None:
    """Be a table whose history was cleaned, or one that has none."""
    said = "[DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION] no such version. SQLSTATE: 42816"
    way.warehouse.fail("TIMESTAMP AS OF", "error", message=said, sqlstate="42816", times=-1)


@crossed(when=["before", "after"], values=RIDDLES)
def test_the_tables_past_tells_rows_from_earlier_ones(delivery: Deliveries, when: str, values: tuple[int, ...]) -> None:
    """They are sent again if none came since the statement was sent, and only then. (matrix row 36)"""
    way = delivery("insert", "time TIMESTAMP, v BIGINT")
    riddle(way, when, values)
    assert way.run(later=60) == 0
    assert way.values() == [1, *values]
    assert way.carried_out() == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_tables_with_equal_rows_may_fill_one(delivery: Deliveries, when: str) -> None:
    """The rows of the one are no sign that those of the other came. (matrix rows 36 and 69)"""
    way = delivery("insert", "time TIMESTAMP, v BIGINT")
    for table in ("t_1", "t_2"):
        insert = f"INSERT INTO {table} VALUES (?, ?)"
        way.box.execute(f"CREATE TABLE {table} (time TEXT, v INTEGER)", insert, rows=rows(1, 3))
    both = way.box.folder / "both.yaml"
    both.write_text(f"tables:\n - sqlite_table_name: t_*\n   databricks_table: {way.table[6:]}\n")
    way.warehouse.fail(way.verb, "drop", when=when, skip=1)
    assert way.run("--config", str(both)) == 1
    assert way.run("--config", str(both), later=60) == 0
    assert way.values() == [1, 1, 2, 2, 3, 3]


@crossed(when=["before", "after"], values=RIDDLES)
def test_a_doubt_stops_the_run_until_a_person_decides(delivery: Deliveries, when: str, values: tuple[int, ...]) -> None:
    """Rows equal to earlier ones, and no past: which are which? (matrix row 36, on_doubt: stop)"""
    way = delivery("insert", "time TIMESTAMP, v BIGINT")
    riddle(way, when, values)
    forget_the_past(way)
    state = way.box.state_file.read_bytes()
    for _ in range(2):
        assert way.run(later=60) == 1
        assert "can't be told whether commit 2 took place" in way.stage.said()
        assert way.box.state_file.read_bytes() == state
    assert way.values() == ([1] if when == "before" else [1, *values])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_doubt_may_be_told_to_send_again(delivery: Deliveries, when: str) -> None:
    """Then nothing is missing, and rows may be doubled. (matrix row 36, on_doubt: resend)"""
    way = delivery("insert", "time TIMESTAMP, v BIGINT")
    riddle(way, when)
    forget_the_past(way)
    assert way.run("--on-doubt", "resend", later=60) == 0
    assert way.values() == ([1, 1, 2] if when == "before" else [1, 1, 1, 2, 2])
    assert way.run() == 0


@pytest.mark.parametrize("route", ["insert", "copy"])
def test_rows_that_other_settings_would_make_otherwise_settle_no_doubt(delivery: Deliveries, route: str) -> None:
    """They would not be found, though they are there. The settings of before settle it."""
    way = delivery(route)
    way.box.execute(PLAIN, INSERT, rows=[(f"2026-01-01 00:00:{n:02}", n) for n in range(1, 6)])
    way.warehouse.fail(way.verb, "drop", when="after")
    assert way.run() == 1
    assert way.run("--source-timezone", "Europe/Berlin", later=60) == 1
    assert "can't be told whether commit 1 took place" in way.stage.said()
    assert "the settings by which the rows of commit 1 were made have changed since" in way.stage.said()
    assert way.run(later=60) == 0
    assert way.values() == [*range(1, 6)]


def test_the_rules_of_another_scenario_and_another_writing_of_the_same_leave_no_doubt(delivery: Deliveries) -> None:
    way = delivery("insert")
    table = way.table.replace("raw_", "filtered_")
    way.warehouse.sql(f"CREATE TABLE {table} (id BIGINT, time TIMESTAMP, v BIGINT)")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 5))
    file = way.box.folder / "c.yaml"
    file.write_text("filter_config: {time: {'>': 2025-12-31T23:00:00-01:00}, v: {between: [2, 1.0e+2]}}")
    way.warehouse.fail(way.verb, "drop", when="after")
    way.box.environ["ENABLE_FILTER"] = "1"
    assert way.run("--config", str(file)) == 1
    rules = {"v": {"between": [2.0, 100]}, "time": {">": "2026-01-01T00:00:00Z"}}
    way.box.environ |= {"FILTER_CONFIG": json.dumps(rules), "SANITIZE_CONFIG": '{"drop": ["id"]}'}
    assert way.run(later=60) == 0, way.stage.said()
    assert "have changed since" not in way.stage.said()
    assert way.warehouse.sql(f"SELECT count(*), count(DISTINCT id) FROM {table}") == [(4, 4)]


def test_the_key_of_hashes_and_the_time_column_are_settings_that_rows_are_made_by() -> None:
    def digest(column: str, scenario: str, key: str) -> str:
        plan = up.Plan(up.Table("t", {}, column, None, None, False, "UTF-8"), {}, {}, {}, frozenset(), up.AUTO)
        config = up.Config(sanitize_config={"hash": ["v"]}, sanitize_secret=key)
        return up.made_by(up.Job(config, scenario, None, None), plan)  # type: ignore[arg-type]

    told = {digest(*each) for each in itertools.product("ab", ["sanitize"], ["k" * 40, "l" * 40])}
    assert len(told) == 4
    assert digest("a", "raw", "k" * 40) == digest("a", "raw", "l" * 40)


def test_a_batch_id_whose_column_has_gone_leaves_a_doubt(delivery: Deliveries) -> None:
    """As where the table is made anew without it: a person decides."""
    way = delivery("insert with id")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 3))
    way.warehouse.fail(way.verb, "drop", when="after")
    assert way.run() == 1
    way.warehouse.sql(f"DROP TABLE {way.table}")
    way.warehouse.sql(f"CREATE TABLE {way.table} (id BIGINT, time TIMESTAMP, v BIGINT)")
    assert way.run(later=60) == 1
    assert "can't be told whether commit 1 took place" in way.stage.said()
    assert way.run("--on-doubt", "resend", later=60) == 0
    assert way.values() == [1, 2, 3]


@pytest.mark.parametrize("route", ["copy", "copy with id"])
def test_a_file_is_taken_up_once_though_another_volume_is_set_since(delivery: Deliveries, route: str) -> None:
    way = delivery(route)
    way.warehouse.sql("CREATE VOLUME IF NOT EXISTS s.other")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(way.verb, "drop", when="after")
    assert way.run() == 1
    way.box.environ["DATABRICKS_VOLUME"] = "/Volumes/main/s/other"
    assert way.run(later=60) == 0
    assert way.values() == [*range(1, 11)]
    assert way.staged() == []


REFUSED = {"action": "error", "message": "[CHECK_VIOLATED] no. SQLSTATE: 23001", "sqlstate": "23001"}
NO_SELECT = {"action": "error", "message": "[INSUFFICIENT_PERMISSIONS] no. SQLSTATE: 42501", "sqlstate": "42501"}
NO_VOLUME = {"action": "error", "message": "[VOLUME_NOT_FOUND] no. SQLSTATE: 42704", "sqlstate": "42704"}


def test_a_file_in_doubt_whose_rows_are_refused_was_not_taken_up(delivery: Deliveries) -> None:
    """Smaller batches go around the row then."""
    way = delivery("copy")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(way.verb, "drop", when="before")
    assert way.run() == 1
    way.warehouse.fail(way.verb, times=2, **REFUSED)
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 11))


@crossed(when=["before", "after"], again=[{"action": "error"}, NO_VOLUME])
def test_a_file_that_can_not_tell_whether_it_was_taken_up_leaves_it_to_its_rows(
    delivery: Deliveries, when: str, again: dict[str, Any]
) -> None:
    """As where each COPY of it ends badly, or its volume is gone. Equal rows of before tell nothing."""
    way = delivery("copy", "v BIGINT")
    way.box.execute("CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (?)", rows=[(v,) for v in (1, 2, 3, 4)])
    assert way.run() == 0
    way.box.execute("INSERT INTO t VALUES (?)", rows=[(v,) for v in (1, 2, 3, 4)])
    way.warehouse.fail(way.verb, "error", when=when)
    assert way.run() == 1
    way.warehouse.fail("INTO.*/Volumes/|/Volumes/.* INTO", **again, times=1 if again is not NO_VOLUME else -1)
    del way.box.environ["DATABRICKS_VOLUME"]
    assert way.run(later=60) == 0, way.stage.said()
    way.warehouse.heal()
    assert way.values() == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("on_doubt", ["stop", "resend"])
def test_a_file_whose_rows_can_not_tell_either_is_offered_again(delivery: Deliveries, on_doubt: str) -> None:
    """They equal earlier ones, and the table's past can't be read: another try may tell, or `on_doubt` decides."""
    way = delivery("copy", "v BIGINT")
    way.box.execute("CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (?)", rows=[(v,) for v in (1, 2, 3, 4)])
    assert way.run() == 0
    way.box.execute("INSERT INTO t VALUES (?)", rows=[(v,) for v in (1, 2, 3, 4)])
    way.warehouse.fail(way.verb, "error", when="after")
    assert way.run() == 1
    way.warehouse.fail("TIMESTAMP AS OF", times=-1, **NO_SELECT)
    way.warehouse.fail(way.verb, "error", when="before")
    assert way.run("--on-doubt", on_doubt, later=60) == (on_doubt == "stop"), way.stage.said()
    assert ("on_doubt: resend" in way.stage.said()) is (on_doubt == "stop")
    assert way.run(later=60) == 0
    way.warehouse.heal()
    assert Counter(way.values()) == dict.fromkeys((1, 2, 3, 4), 2 + (on_doubt == "resend"))


def test_a_file_that_never_ends_well_becomes_smaller(delivery: Deliveries) -> None:
    way = delivery("copy")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 5))
    way.warehouse.fail(way.verb, "error", times=-1)
    assert [way.run(), way.run(), way.run()] == [1, 1, 0]
    assert way.values() == list(range(1, 6))


@pytest.mark.parametrize("route", INSERTS)
def test_on_doubt_decides_where_a_question_is_refused_but_not_where_a_session_is(
    delivery: Deliveries, route: str
) -> None:
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(way.verb, "drop", when="before")
    assert way.run() == 1
    way.warehouse.fail("^SELECT count", times=-1, **NO_SELECT)
    assert way.run(later=60) == 1
    assert "on_doubt" in way.stage.said()
    way.warehouse.fail("OpenSession", "status", status=403)
    assert way.run("--on-doubt", "resend", later=60) == 1
    assert way.box.state()["intent"]
    assert way.run("--on-doubt", "resend", later=60) == 0
    way.warehouse.heal()
    assert way.values() == list(range(1, 11))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_batch_id_resolves_what_equal_rows_cannot(delivery: Deliveries, when: str) -> None:
    """With the column databricks_batch_id there is no such doubt. (matrix row 36)"""
    way = delivery("insert with id", "time TIMESTAMP, v BIGINT")
    riddle(way, when)
    assert way.run(later=60) == 0
    assert way.values() == [1, 1, 2]


@pytest.mark.parametrize("route", ROUTES)
def test_rows_that_the_producer_deleted_in_the_meantime_do_not_confuse_a_doubt(
    delivery: Deliveries, route: str
) -> None:
    """The batch can't be made again as it was; what is left of it tells enough. (matrix rows 8 and 35)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(way.verb, "drop", when="after")
    assert way.run() == 1
    way.box.execute("DELETE FROM t WHERE v < 8", INSERT, rows=rows(11, 12))
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 13))


def test_a_doubt_that_was_decided_is_decided_for_good(delivery: Deliveries) -> None:
    """The rows of the batch are gone with their file; a person says so, once. (matrix rows 22 and 36)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run() == 0
    way.box.execute(INSERT, rows=rows(11, 20))
    way.warehouse.fail(way.verb, "drop")
    assert way.run() == 1
    way.box.database.unlink()
    way.box.execute(COUNTED)
    assert way.run(later=60) == 1
    assert way.run("--on-doubt", "resend", later=60) == 0
    assert way.run(later=60) == 0
    way.box.execute(INSERT, rows=rows(101, 105))
    assert way.run() == 0
    assert way.values() == [*range(1, 11), *range(101, 106)]


@crossed(route=ROUTES, when=["before", "after"], more=[0, 30])
def test_a_vacuum_between_a_lost_answer_and_its_doubt_is_followed(
    delivery: Deliveries, route: str, when: str, more: int
) -> None:
    """The rows of the batch have other rowids by then, and other rows have theirs. (matrix rows 9 and 36)"""
    way = delivery(route, "time TIMESTAMP, v BIGINT")
    way.box.execute(PLAIN, INSERT, rows=rows(1, 40))
    assert way.run() == 0
    way.box.execute(INSERT, rows=rows(41, 50))
    way.warehouse.fail(way.verb, "drop", when=when)
    assert way.run() == 1
    way.box.execute("DELETE FROM t WHERE v <= 20", INSERT, rows=rows(51, 50 + more))
    way.box.execute("VACUUM")
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 51 + more))


@pytest.mark.parametrize(("route", "when"), CROSSED)
def test_a_timestamp_cursor_resolves_a_doubt_though_new_rows_came_in(
    delivery: Deliveries, route: str, when: str
) -> None:
    """The rows of the batch are told from those that came since. (matrix rows 2 and 36)"""
    way = delivery(route, "time TIMESTAMP, v BIGINT")
    way.box.execute(*VIEW, "INSERT INTO base VALUES (?, ?)", rows=rows(1, 10))
    assert way.run("--table", "t") == 0
    way.box.execute("INSERT INTO base VALUES (?, ?)", rows=rows(11, 20))
    way.warehouse.fail(way.verb, "drop", when=when)
    assert way.run("--table", "t") == 1
    way.box.execute("INSERT INTO base VALUES (?, ?)", rows=[("2026-01-01T00:00:03+00:00", 21), *rows(22, 30)])
    assert way.run("--table", "t", later=60) == 0
    assert way.values() == list(range(1, 31))


# --- The warehouse's moods: matrix rows 38 to 42 ---


@pytest.mark.parametrize("how", ["refuse", "operations"])
def test_a_warehouse_that_is_starting_is_waited_for(delivery: Deliveries, how: str) -> None:
    """Sessions or first statements fail with 503 for a while; that is no failure of the run. (matrix row 40)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.starting(1.5, how)
    assert way.run() == 0
    assert "waiting for it" in way.stage.said()
    assert way.values() == list(range(1, 11))


@pytest.mark.parametrize("call", ["OpenSession", "^SELECT unix_micros", "^DESCRIBE"])
@pytest.mark.parametrize("action", [{"status": 503, "retry_after": 1}, {"status": 429}])
def test_an_overloaded_warehouse_loses_nothing(delivery: Deliveries, call: str, action: dict[str, Any]) -> None:
    """Whether the run waits or the next one goes on. (matrix row 38)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(call, "status", **action)
    assert way.run() in (0, 1)
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 11))
    assert way.carried_out() == 1


@pytest.mark.parametrize(
    ("status", "said"), [(400, "gateways"), (401, "credentials"), (403, "credentials"), (404, "no such warehouse")]
)
def test_a_definite_no_is_said_at_once_with_what_to_do(delivery: Deliveries, status: int, said: str) -> None:
    """A wrong token or id is not tried for a quarter of an hour. (matrix rows 39 and 41)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail("OpenSession", "status", status=status, times=-1)
    before = way.warehouse.log()["calls"].get("OpenSession", 0)
    assert way.run() == 1
    assert said in way.stage.said() and "\n  Check" in way.stage.said()
    assert way.warehouse.log()["calls"]["OpenSession"] <= before + 3
    way.warehouse.heal()
    assert way.run() == 0


def test_a_wrong_token_stops_a_run_and_a_right_one_goes_on(delivery: Deliveries) -> None:
    """The token expired while commits were under way. (matrix row 39)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 20))
    way.warehouse.fail(way.verb, "status", status=401, skip=1)
    assert way.run("--batch-rows", "5") == 1
    assert way.values() == [1, 2, 3, 4, 5]
    right = way.box.environ["DATABRICKS_TOKEN"]
    way.box.environ["DATABRICKS_TOKEN"] = "dapi-wrong"
    assert way.run() == 1
    way.box.environ["DATABRICKS_TOKEN"] = right
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 21))


@pytest.mark.parametrize("route", ROUTES)
def test_a_session_that_died_of_idleness_loses_nothing(
    delivery: Deliveries, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warehouse forgets sessions; each cycle has one of its own. (matrix row 42)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    real = up.WarehouseTarget.send

    def forgotten(self: up.WarehouseTarget, *arguments: Any) -> None:
        way.warehouse.close_sessions()
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(up.WarehouseTarget, "send", forgotten)
        patch.setattr(up.CopyRoute, "LEAST_ROWS", 3)
        assert way.box.run() in (0, 1)
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 11))
    assert way.carried_out() == 1


@pytest.mark.parametrize("route", ["delta", *ROUTES])
def test_an_idle_source_makes_no_commit_and_wakes_no_warehouse(delivery: Deliveries, route: str) -> None:
    """A warehouse that is woken every few seconds costs money; small commits make small files. (matrix row 49)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run() == 0
    before = way.warehouse.log()["sessions_opened"]
    for _ in range(5):
        assert way.run() == 0
    assert way.warehouse.log()["sessions_opened"] == before
    if route == "delta":
        assert way.box.table().version() == 0
    else:
        assert way.carried_out() == 1


# --- Rows, names and tables: matrix rows 43 to 46 ---


@pytest.mark.parametrize("route", INSERTS)
def test_rows_that_do_not_fit_are_set_aside_and_the_others_arrive(delivery: Deliveries, route: str) -> None:
    """They are found before they are sent. (matrix row 43)"""
    way = delivery(route, "id BIGINT, time TIMESTAMP, r DOUBLE, i INT, s VARCHAR(3), v BIGINT, x STRING NOT NULL")
    way.box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, r REAL, i INTEGER, s TEXT, v INTEGER, x TEXT)",
        "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows=[(1, "2026-01-01", 1.5, 1, "abc", 1, "fine \0 NUL, '\\${x}` \u2028 ü")],
    )
    assert way.run() == 0
    way.box.execute(
        "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows=[
            (2, "2026-01-01", "warm", 1, "abc", 2, "text in a number"),
            (3, "2026-01-01", 1.5, 2**31, "abc", 3, "too large"),
            (4, "2026-01-01", 1.5, 1, "abc", 2.0**64, "65 bits"),
            (5, "2026-01-01", float("inf"), 1, None, 5, "infinite"),
            (6, "2026-01-01", 1.5, 1, b"\xff\xfe", 6, "a blob"),
            (7, "garbage", 1.5, 1, "abc", 7, "no time"),
            (8, "2026-01-01", 1.5, 1, "abc", 8, None),
        ],
    )
    assert way.run() == up.QUARANTINED
    assert way.values() == [1, 5]
    assert sorted(line["key"] for line in way.box.quarantined()) == [2, 3, 4, 6, 7, 8]
    assert way.run() == 0


@pytest.mark.parametrize("route", ["insert", "copy", "insert with id", "copy with id"])
def test_a_row_set_aside_ahead_of_its_commit_is_set_aside_once(delivery: Deliveries, route: str) -> None:
    """The next batch is prepared while one is sent; after a kill its rows may come in another batch. (matrix row 43)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=[*rows(1, 7), ("2026-01-02", "bad"), *rows(9, 10)])
    step = "CopyRoute.send" if "copy" in route else "InsertRoute.send"
    wait = {"at": [step], "call": 1, "when": "before", "do": "sleep", "seconds": 1}
    assert way.run("--batch-rows", "5", plan=[wait, {**wait, "do": "kill"}]) == -signal.SIGKILL
    assert [line["row"]["v"] for line in way.box.quarantined()] == ["bad"]
    assert way.run(later=60) == up.QUARANTINED
    assert way.values() == [*range(1, 8), 9, 10]
    assert [line["row"]["v"] for line in way.box.quarantined()] == ["bad"]


def test_a_row_that_a_constraint_of_the_table_refuses_does_not_block_the_others(box: Box) -> None:
    """The target refuses the batch; the row is found and set aside. (matrix row 43)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 3))
    assert box.run() == 0
    box.table().alter.add_constraint({"small": "v < 100"})
    box.execute(INSERT, rows=[("2026-01-01", 4), ("2026-01-01", 1000), ("2026-01-01", 5)])
    assert box.run() == up.QUARANTINED
    assert sorted(v for (v,) in box.arrived("v")) == [1, 2, 3, 4, 5]


NAMES = ["a b", "back`tick", 'dou"ble', "semi;colon", "dot.ted", "ünïcödé", "select", "curly{}", "new\nline", "q'uote"]


@pytest.mark.parametrize("route", ROUTES)
def test_names_that_need_quotes_arrive_in_their_columns(delivery: Deliveries, route: str, warehouse: Warehouse) -> None:
    """Of columns, tables and schemas, on both sides. (matrix row 44)"""
    way = delivery(route)
    table = f"odd;`-{next(NUMBERS)}"
    spark = [name.replace("`", "``") for name in NAMES]
    columns = ", ".join(f"`{name}` BIGINT" for name in spark) + (
        ", databricks_batch_id STRING" if "id" in route else ""
    )
    warehouse.sql("CREATE SCHEMA IF NOT EXISTS `odd-schema`")
    warehouse.sql(
        f"CREATE TABLE `odd-schema`.`raw_{table.replace('`', '``')}` (time TIMESTAMP, {columns})"
        " TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"
    )
    lite = [name.replace('"', '""') for name in NAMES]
    way.box.execute(
        'CREATE TABLE "my ""t" (time TEXT, ' + ", ".join(f'"{name}" INTEGER' for name in lite) + ")",
        f'INSERT INTO "my ""t" VALUES (?{", ?" * len(NAMES)})',
        rows=[("2026-01-01", *range(i, i + len(NAMES))) for i in range(5)],
    )
    way.box.environ |= {"DATABRICKS_DATABASE": "odd-schema", "DATABRICKS_TABLE": table}
    assert way.run() == 0, way.stage.said()
    chosen = ", ".join(f"`{name}`" for name in spark)
    found = warehouse.sql(f"SELECT {chosen} FROM `odd-schema`.`raw_{table.replace('`', '``')}`")
    assert sorted(found) == [tuple(range(i, i + len(NAMES))) for i in range(5)]


@pytest.mark.parametrize("route", ROUTES)
def test_a_target_with_a_required_column_that_the_source_lacks_is_refused_before_sending(
    delivery: Deliveries, route: str
) -> None:
    """And one that lacks columns of the source gets the others. (matrix row 45)"""
    way = delivery(route, "id BIGINT, time TIMESTAMP, v BIGINT, extra STRING NOT NULL")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run() == 1
    assert "extra" in way.stage.said()
    assert not way.box.state_file.exists() or way.box.state()["intent"] is None
    assert way.warehouse.statements(f"INTO `s`.`{way.table[2:]}`", "") == []
    way.warehouse.sql(f"DROP TABLE {way.table}")
    way.warehouse.sql(f"CREATE TABLE {way.table} (V BIGINT, time TIMESTAMP, other STRING)")
    assert way.run() == 0
    assert "id" in way.stage.said()
    assert sorted(way.warehouse.sql(f"SELECT v, other FROM {way.table}")) == [(v, None) for v in range(1, 11)]


def test_a_delta_table_that_was_dropped_and_made_anew_stops_the_run(box: Box) -> None:
    """What was delivered is gone; going on as if it were there would hide that. (matrix row 46)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run() == 0
    fields = box.table().schema().fields
    shutil.rmtree(box.folder / "lake" / "raw_readings")
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields))
    box.execute(INSERT, rows=rows(11, 20))
    assert box.run() == 1
    assert box.arrived("v") == []


def test_a_delta_table_that_is_dropped_between_two_commits_stops_the_run(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = up.DeltaTarget.send

    def send(self: up.DeltaTarget, intent: up.Intent, payload: up.Payload) -> None:
        if intent["sequence"] == 2:
            shutil.rmtree(box.folder / "lake" / "raw_readings")
        real(self, intent, payload)

    monkeypatch.setattr(up.DeltaTarget, "send", send)
    box.execute(COUNTED, INSERT, rows=rows(1, 20))
    assert [box.run("--batch-rows", "10"), box.run()] == [1, 1]
    assert box.arrived("v") == []


# --- Signals, other writers, object stores, memory: matrix rows 47 to 53 ---


@pytest.mark.parametrize(("route", "when"), [("delta", "before"), ("insert", "before"), ("copy with id", "after")])
def test_a_stop_at_any_step_neither_loses_nor_doubles(delivery: Deliveries, route: str, when: str) -> None:
    """SIGTERM: the commit under way is finished, no further one begun, and the status is 0. (matrix row 47)"""
    at_each_step(delivery(route), "terminate", when)


@pytest.mark.parametrize("doubtful", [False, True])
def test_a_stop_while_the_warehouse_is_waited_for_is_a_clean_one(delivery: Deliveries, doubtful: bool) -> None:
    """While it starts, and while a commit whose answer was lost may still take place. (matrix row 47)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    if doubtful:
        way.warehouse.fail(way.verb, "reset", when="before")
        assert way.run() == 1
    else:
        way.warehouse.starting(600)
    asked = {"at": ["Supervisor.wait"], "call": 1, "when": "before", "do": "terminate"}
    status = way.run(plan=[asked])
    way.warehouse.starting(0)
    said = way.stage.said()
    assert (status, "stopped, 10 rows wait" in said, "ERROR" in said) == (0, True, False), said
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 11))


def test_a_second_signal_ends_a_run_that_hangs(delivery: Deliveries) -> None:
    """And what it was doing is found out later. (matrix row 47)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    way.warehouse.fail(way.verb, "delay", when="after", seconds=20)
    impatient = {"at": ["WarehouseTarget.send"], "call": 1, "when": "before", "do": "terminate twice"}
    status = way.run(plan=[impatient])
    assert status == 128 + signal.SIGTERM
    assert way.run(later=60) == 0
    assert way.values() == list(range(1, 11))
    assert way.carried_out() == 1


def test_an_object_store_whose_answer_is_lost_after_the_commit_doubles_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeated put finds the log entry there already: our own commit looks like a conflict. (matrix row 50)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    real, calls = up.DeltaTarget._append, []

    def answer_lost(self: up.DeltaTarget, *arguments: Any) -> None:
        real(self, *arguments)
        calls.append(1)
        if len(calls) % 2:
            raise up.Conflict("Concurrent transaction failed")

    monkeypatch.setattr(up.DeltaTarget, "_append", answer_lost)
    assert box.run("--batch-rows", "3") == 0
    assert sorted(v for (v,) in box.arrived("v")) == list(range(1, 11))
    assert box.table().version() == 3


def test_each_commit_sees_the_table_as_it_is_then(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Table objects and the credentials in them are not kept from one commit to the next. (matrix row 51)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    versions: list[int] = []
    real, reader = up.DeltaTarget.send, up.DeltaTarget._append

    def send(self: up.DeltaTarget, *arguments: Any) -> None:
        real(self, *arguments)
        # Another writer commits in between.
        write_deltalake(box.table(), rows_of_another_writer(), mode="append")

    def append(self: up.DeltaTarget, table: DeltaTable | None, *arguments: Any) -> None:
        versions.append(table.version() if table else -1)
        reader(self, table, *arguments)

    monkeypatch.setattr(up.DeltaTarget, "send", send)
    monkeypatch.setattr(up.DeltaTarget, "_append", append)
    assert box.run("--batch-rows", "3") == 0
    assert versions == [-1, 1, 3, 5]
    assert sorted(v for (v,) in box.arrived("v")) == [-1] * 4 + list(range(1, 11))


def test_a_batch_in_doubt_is_one_file_whatever_its_size_is_now(delivery: Deliveries) -> None:
    """Its rows may have become larger, or it was begun by a version without a limit: no part of it was sent."""
    way = delivery("copy")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 50))
    assert way.run() == 0
    way.box.execute(INSERT, rows=[("2026-01-02T00:00:00Z", v) for v in range(51, 30_001)])
    way.warehouse.fail(way.verb, "drop", when="before")
    assert way.run() == 1
    small = {"WarehouseTable.SLACK_SECONDS": 0, "CopyRoute.LEAST_ROWS": 3, "COMMIT_BYTES": 1_000_000}
    assert 0 in [way.stage.run(way.box.environ, constants=small, later=60) for _ in range(3)]
    assert way.values() == list(range(1, 30_001))


def rows_of_another_writer() -> Any:
    """One row, v = -1, without a time."""
    columns = {"id": up.array_of([-1], "bigint"), "time": up.array_of([0], "bigint").cast(up.arrow_type("timestamp"))}
    return up.arrow_table({**columns, "v": up.array_of([-1], "bigint")})


@pytest.mark.slow
def test_memory_does_not_follow_the_number_of_commits(box: Box, stage: Stage, tmp_path: Path) -> None:
    """No watchdog is needed where nothing grows. (matrix row 52)"""
    peaks = []
    for commits in (20, 80):
        (tmp_path / str(commits)).mkdir()
        box = Box(tmp_path / str(commits))
        box.execute(COUNTED, INSERT, rows=rows(1, commits))
        assert stage.run(box.environ, "--batch-rows", "1") == 0
        peaks.append(stage.peak)
        assert box.table().version() == commits - 1
    assert peaks[1] - peaks[0] < 40 * 1024, peaks


# --- What COPY INTO leaves, and whom it takes for whom: matrix rows 32, 33 and 35 ---


@pytest.mark.parametrize(("route", "when"), [("copy", "before"), ("copy with id", "after")])
def test_no_staged_file_stays_after_kills(delivery: Deliveries, route: str, when: str) -> None:
    """Neither in the volume nor on the box, once the next batch is through. (matrix rows 35 and 53)"""
    way = delivery(route)
    way.box.execute(COUNTED)
    before = set(way.staged())
    # The first one comes before there is a state, so the others carry on under the same name.
    steps = {"CopyRoute._stage": 1, "CopyRoute.prepare": 2, "CopyRoute.send": 2, "StateFile.save": 2}
    for number, (step, call) in enumerate(steps.items()):
        way.box.execute(INSERT, rows=rows(number * 10, number * 10 + 9))
        killed = {"at": [step], "call": call, "when": when, "do": "kill"}
        assert way.run("--batch-rows", "5", plan=[killed]) == -signal.SIGKILL
    way.box.execute(INSERT, rows=rows(100, 110))
    assert way.run(later=60) == 0
    assert set(way.staged()) == before, way.stage.said()
    assert not list((way.box.folder / "state").rglob("*.parquet"))


@pytest.mark.parametrize("route", ["copy", "copy with id"])
def test_a_cloned_box_loses_no_rows_to_the_names_of_files(delivery: Deliveries, route: str, tmp_path: Path) -> None:
    """COPY INTO takes up a name once; another box's file of the same name would be passed over. (matrix row 32)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run() == 0
    (tmp_path / "twin").mkdir()
    twin = Box(tmp_path / "twin")
    shutil.copy(way.box.database, twin.database)
    shutil.copytree(way.box.folder / "state", tmp_path / "twin" / "state")
    twin.environ = {**way.box.environ, "SQLITE_PATH": str(twin.database), "STATE_DIR": str(tmp_path / "twin" / "state")}
    way.box.execute(INSERT, rows=rows(11, 15))
    twin.execute(INSERT, rows=rows(101, 105))
    assert way.run() == 0
    first, way.box = way.box, twin
    assert (way.run(), way.values()) == (0, [*range(1, 16), *range(101, 106)])
    assert first.state()["sequence"] == 2


@pytest.mark.parametrize("route", ROUTES)
def test_an_older_state_put_back_before_a_warehouse_loses_nothing(delivery: Deliveries, route: str) -> None:
    """It doubles the rows since, as docs/delivery.md says; Delta by path would stop. (matrix row 32)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run() == 0
    copy = way.box.state_file.read_bytes()
    way.box.execute(INSERT, rows=rows(11, 20))
    assert way.run() == 0
    way.box.state_file.write_bytes(copy)
    way.box.execute(INSERT, rows=rows(21, 30))
    assert way.run() == 0
    assert way.values() == sorted([*range(1, 31), *range(11, 21)])


@pytest.mark.parametrize("route", ["insert with id", "copy with id"])
def test_a_lost_state_is_made_anew_from_batch_ids(delivery: Deliveries, route: str) -> None:
    """Where source_id is configured; boxes beside it are not confused with it. (matrix row 33)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 40))
    assert way.run("--source-id", "box 7", "--batch-rows", "7") == 0
    shutil.rmtree(way.box.folder / "state")
    assert way.run("--source-id", "box 77", "--since", "2026-01-01T00:00:19.5Z") == 0
    assert way.values() == sorted([*range(1, 41), 40])
    shutil.rmtree(way.box.folder / "state")
    way.box.execute(INSERT, rows=rows(41, 50))
    assert way.run("--source-id", "box 7") == 0
    assert way.values() == sorted([*range(1, 51), 40])


@pytest.mark.parametrize("route", ["insert with id", "copy with id"])
def test_a_lost_state_with_a_recreated_source_loses_no_rows(delivery: Deliveries, route: str) -> None:
    """State and database are both gone, as with a new disk; rowids begin anew. (matrix rows 22 and 33)"""
    way = delivery(route)
    way.box.execute(COUNTED, INSERT, rows=rows(1, 40))
    assert way.run("--source-id", "box 7") == 0
    shutil.rmtree(way.box.folder / "state")
    way.box.database.unlink()
    way.box.execute(COUNTED, INSERT, rows=rows(101, 160))
    status = way.run("--source-id", "box 7")
    assert status != 0 or way.values() == [*range(1, 41), *range(101, 161)]


def test_a_lost_state_where_the_target_has_no_batch_ids_is_not_hidden(delivery: Deliveries) -> None:
    """The table can't tell whether the source was here; the log says that. (matrix row 33)"""
    way = delivery("insert")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run("--source-id", "box 7") == 0
    shutil.rmtree(way.box.folder / "state")
    assert way.run("--source-id", "box 7") == 0
    assert "has no databricks_batch_id" in way.stage.said()
    assert Counter(way.values()) == {value: 2 for value in range(1, 11)}


def test_batch_ids_name_source_epoch_sequence_and_position(delivery: Deliveries) -> None:
    """They are what a doubt is resolved by. (matrix row 35)"""
    way = delivery("insert with id")
    way.box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert way.run("--source-id", "box", "--batch-rows", "6") == 0
    found = way.warehouse.sql(f"SELECT databricks_batch_id, count(*) FROM {way.table} GROUP BY 1")
    assert sorted(found) == [("box/0/000000000001/6", 6), ("box/0/000000000002/10", 4)]
    assert json.loads(way.box.state_file.read_text())["sequence"] == 2
