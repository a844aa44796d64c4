"""Chapter Cycle: what doesn't go becomes smaller until it goes or is one row; nothing stands in the way of what follows."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from adversary import Stage
from boxes import LONG, Box, crossed, failures, rows_of
from gateway import Gateway
from warehouse import Warehouse

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, v INTEGER, w TEXT)"
INSERT = "INSERT INTO t (time, v, w) VALUES ('2026-01-01T00:00:00Z', ?, ?)"
NUMBERS = itertools.count(1)
REFUSALS = [413, 400, "close", "reset"]


class Behind:
    """A box whose warehouse stands behind a gateway."""

    def __init__(self, box: Box, warehouse: Warehouse, gateway: Gateway, marked: bool) -> None:
        self.box = box
        self.warehouse = warehouse
        self.gateway = gateway
        self.table = f"s.raw_ladder{next(NUMBERS)}"
        self.later = 0.0
        mark = ", databricks_batch_id STRING" if marked else ""
        box.behind(warehouse, self.table, f"id BIGINT, time TIMESTAMP, v BIGINT, w STRING{mark}")
        box.environ |= gateway.environment()

    def run(self, *flags: str, **environ: str) -> int:
        """One run, ten minutes after the last one: a statement whose answer was lost can't run any more."""
        self.later += 600
        return self.box.run(*flags, **environ)

    def staged(self, stage: Stage, **options: Any) -> int:
        """The same in a process of its own."""
        self.later += 600
        return stage.run(self.box.environ, later=self.later, **options)

    def values(self) -> list[int]:
        return sorted(v for (v,) in rows_of(DeltaTable(str(self.warehouse.table_path(self.table))), "v"))


@pytest.fixture
def behind(box: Box, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Behind]]:
    """Makes a box behind a gateway, whose warehouse's clock is as late as its runs are.

    Statements are sent at the true time: that is what their table's history tells, too.
    """
    real, boxes = up.Session.now, list[Behind]()
    monkeypatch.setattr(up.Session, "now", lambda session: real(session) + boxes[-1].later)
    sent_at = lambda route: dt.datetime.fromtimestamp(real(route.session), dt.UTC).isoformat()  # noqa: E731
    monkeypatch.setattr(up.Route, "now", sent_at)
    with Gateway(warehouse) as gateway:

        def made(limit: int, refuse: int | str = 413, marked: bool = True) -> Behind:
            gateway.limit, gateway.refuse = limit, refuse
            boxes.append(Behind(box, warehouse, gateway, marked))
            return boxes[-1]

        yield made


@crossed(refuse=REFUSALS, limit=[250_000, 40_000], settled=["marked", "compared"])
def test_rows_arrive_once_behind_a_gateway_that_takes_no_large_request(
    behind: Callable[..., Behind], refuse: int | str, limit: int, settled: str
) -> None:
    """Within ten cycles, while the producer goes on to write: what there is makes several requests of the limit."""
    way, count = behind(limit, refuse, settled == "marked"), max(1_000, limit // 50)
    way.box.execute(TABLE, INSERT, rows=[(n, f"{n:0120}") for n in range(count)])
    for cycle in range(10):
        way.box.execute(INSERT, rows=[(count + 10 * cycle + n, "x") for n in range(10)])
        if way.run() == 0:
            break
    else:
        pytest.fail(f"{len(way.values())} rows after ten cycles")
    assert way.values() == list(range(count + 10 * cycle + 10))
    assert way.box.quarantined() == []
    assert way.gateway.largest <= limit


@pytest.mark.parametrize("refuse", [403, 404])
def test_a_firewall_that_forbids_large_requests_is_no_matter_of_credentials(
    behind: Callable[..., Behind], refuse: int
) -> None:
    """As those of clouds do with bodies that they don't look through; the session began with the same token."""
    way = behind(250_000, refuse)
    way.box.execute(TABLE, INSERT, rows=[(n, f"{n:0120}") for n in range(3_000)])
    assert way.run() == 0
    assert way.values() == list(range(3_000))
    assert way.box.quarantined() == []


def test_the_size_that_went_through_is_remembered(behind: Callable[..., Behind]) -> None:
    way = behind(40_000)
    way.box.execute(TABLE, INSERT, rows=[(n, f"{n:0120}") for n in range(2_000)])
    assert way.run() == 0
    refused = way.gateway.refused
    way.box.execute(INSERT, rows=[(2_000 + n, f"{n:0120}") for n in range(2_000)])
    assert way.run() == 0
    assert way.values() == list(range(4_000))
    assert way.gateway.refused - refused <= 2


def test_a_limit_that_changes_is_followed(behind: Callable[..., Behind]) -> None:
    way = behind(300_000)
    for step, limit in enumerate((300_000, 20_000, 120_000, None)):
        way.gateway.limit = limit
        way.box.execute(
            TABLE if step == 0 else "SELECT 1", INSERT, rows=[(1000 * step + n, f"{n:0120}") for n in range(1000)]
        )
        assert way.run() == 0
    assert way.values() == list(range(4_000))


@pytest.mark.parametrize("limit", [None, 1_000_000])
def test_one_row_that_is_too_large_is_set_aside_and_replayed_once_there_is_a_volume(
    behind: Callable[..., Behind], limit: int | None
) -> None:
    way = behind(limit or 10**9)
    large = 17_000_000 if limit is None else 2_000_000
    way.box.execute(TABLE, INSERT, rows=[(n, "x" * large if n == 40 else "x") for n in range(100)])
    assert way.run() == up.QUARANTINED
    assert way.values() == [n for n in range(100) if n != 40]
    [line] = way.box.quarantined()
    assert line["row"]["v"] == 40
    assert limit or re.fullmatch(r"too large .*: 1 row of \d+ bytes; by databricks_volume, .* goes", line["reason"])
    way.gateway.limit = None
    way.box.execute(INSERT, rows=[(100, "x")])
    assert way.run() == 0
    assert way.run("--replay-quarantine", DATABRICKS_VOLUME="/Volumes/main/s/v") == 0
    assert way.values() == list(range(101))
    assert way.box.quarantined() == []


def test_a_large_row_whose_request_is_reset_is_set_aside_at_last(behind: Callable[..., Behind]) -> None:
    way = behind(500_000, "reset")
    way.box.execute(TABLE, INSERT, rows=[(n, "x" * 2_000_000 if n == 3 else "x") for n in range(10)])
    statuses = [way.run() for _ in range(10)]
    assert way.values() == [n for n in range(10) if n != 3]
    assert [line["row"]["v"] for line in way.box.quarantined()] == [3]
    assert statuses[-1] == 0


def test_small_requests_that_get_no_answer_are_never_given_up(behind: Callable[..., Behind]) -> None:
    """A host that resets all statements is no reason to set rows aside, not even a single one."""
    way = behind(10**9, "reset")
    way.box.execute(TABLE, INSERT, rows=[(0, "x")])
    way.warehouse.fail("INSERT INTO", "drop", when="before", times=3)
    assert [way.run() for _ in range(4)] == [1, 1, 1, 0]
    assert way.values() == [0]
    assert way.box.quarantined() == []


def test_a_small_statement_that_is_refused_is_no_matter_of_size(behind: Callable[..., Behind]) -> None:
    way = behind(10**9)
    way.box.execute(TABLE, INSERT, rows=[(n, "x") for n in range(10)])
    way.warehouse.fail("INSERT INTO", "status", status=400, when="before", times=-1)
    assert way.run() == 1
    assert way.box.quarantined() == []
    assert way.box.state()["intent"] is None


@pytest.mark.parametrize("skip", [0, 2])
def test_a_refused_question_about_the_columns_is_no_matter_of_rows(
    behind: Callable[..., Behind], monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    """Before the first batch, and before one that is under way."""
    monkeypatch.setattr(up.WarehouseTable.look, "__defaults__", (0,))
    way = behind(1 << 30)
    way.box.execute(TABLE, INSERT, rows=[(n, "x") for n in range(10)])
    way.warehouse.fail("^DESCRIBE", "status", status=400, times=-1, skip=skip)
    assert way.box.run() == 1
    way.warehouse.heal()
    assert way.box.run() == 0
    assert way.values() == list(range(10))
    assert way.box.quarantined() == []


@pytest.mark.parametrize("status", [403, 413, 400])
def test_a_row_whose_content_a_firewall_refuses_is_set_aside_and_the_others_arrive(
    behind: Callable[..., Behind], status: int
) -> None:
    """They look for words of attacks, in requests of any size."""
    way = behind(10**9)
    way.box.execute(TABLE, INSERT, rows=[(n, "<script>" if n == 29 else "x") for n in range(40)])
    way.warehouse.fail("INSERT INTO.*<script>", "status", status=status, when="before", times=-1)
    try:
        assert way.run() == 3
    finally:
        way.warehouse.heal()
    assert way.values() == [n for n in range(40) if n != 29]
    assert [line["row"]["v"] for line in way.box.quarantined()] == [29]


@pytest.mark.parametrize(
    ("end", "said", "place"),
    [("drop", {}, 29), ("status", {"status": 429}, 29), ("status", {"status": 503}, 0), ("status", {"status": 403}, 0)]
    + [("drop", {}, 0), ("status", {"status": 429}, 0), ("status", {"status": 400}, 0)] * LONG,
)
def test_a_row_whose_content_ends_its_connection_is_set_aside_at_last_and_the_others_arrive(
    behind: Callable[..., Behind], end: str, said: dict[str, int], place: int
) -> None:
    """Others that inspect what passes reset the connection, or answer as if they were busy; a row may be the first."""
    way = behind(10**9)
    way.box.execute(TABLE, INSERT, rows=[(n, "<script>" if n == place else "x") for n in range(40)])
    way.warehouse.fail("INSERT INTO.*<script>", end, when="before", times=-1, **said)
    assert failures(way.run, 22) < 22
    way.warehouse.heal()
    assert way.run() == 0
    assert way.values() == [n for n in range(40) if n != place]
    assert [line["row"]["v"] for line in way.box.quarantined()] == [place]


def test_several_rows_that_are_disliked_one_after_another_hold_up_the_others_for_long_but_not_for_good() -> None:
    """16 tries for the first, twice as many for the second, 64 for each after that."""
    intent: up.Intent = {"route": "insert", "size": 1, "bytes": 300}
    assert [n for n in range(1, 300) if up.is_given_up(n, intent)] == [16, 32, 64, 128, 192, 256]
    several: up.Intent = {**intent, "size": 2}
    replayed: up.Intent = {**intent, "replayed": []}
    assert not any(up.is_given_up(n, each) for n in range(1, 300) for each in (several, replayed))


def test_a_small_row_that_is_begun_too_late_again_and_again_is_not_at_fault(behind: Callable[..., Behind]) -> None:
    """The warehouse itself says so, which has read the statement."""
    way = behind(10**9)
    way.box.execute(TABLE, INSERT, rows=[(0, "x")])
    late = "[USER_RAISED_EXCEPTION] begun too late SQLSTATE: P0001"
    way.warehouse.fail("INSERT INTO", "error", message=late, sqlstate="P0001", times=-1)
    assert {way.run() for _ in range(18)} == {1}
    way.warehouse.heal()
    assert way.box.quarantined() == []
    assert way.run() == 0


@pytest.mark.parametrize("status", [403, 404, 431])
def test_what_is_refused_whatever_it_holds_is_no_matter_of_size(behind: Callable[..., Behind], status: int) -> None:
    """As where a token is revoked amid a run: a commit without rows is refused, too.

    But a firewall may refuse all for a while after what was too large: the next one is smaller.
    """
    way = behind(10**9)
    way.box.execute(TABLE, INSERT, rows=[(n, "x" * 40_000) for n in range(3)])
    assert way.run() == 0
    way.box.execute(INSERT, rows=[(3 + n, "x" * 40_000) for n in range(3)])
    way.warehouse.fail("INSERT INTO", "status", status=status, when="before", times=-1)
    assert way.run() == 1
    way.warehouse.heal()
    assert way.box.quarantined() == []
    assert way.box.state()["allowance"]["bytes"] < 3 * 40_000
    assert way.run() == 0
    assert way.values() == list(range(6))


@pytest.mark.parametrize("marked", [True, False])
def test_an_outage_sets_no_large_row_aside(behind: Callable[..., Behind], marked: bool) -> None:
    """Neither one of statements alone, nor one in which no question has an answer."""
    way = behind(10**9, marked=marked)
    way.box.execute(TABLE, INSERT, rows=[(n, "x" * 40_000) for n in range(2)])
    way.warehouse.fail("INSERT INTO", "drop", when="before", times=-1)
    assert {way.run() for _ in range(10)} == {1}
    way.warehouse.fail("SELECT count", "status", status=502, times=-1)
    assert {way.run() for _ in range(4)} == {1}
    way.warehouse.heal()
    assert way.run() == 0
    assert way.values() == [0, 1]
    assert way.box.quarantined() == []


def test_batches_grow_again_also_where_a_filter_leaves_all_rows_out() -> None:
    intent: up.Intent = {"sequence": 2, "epoch": 0, "position": {"rowid": 9}, "anchors": [], "bytes": 9}
    state = up.State(lost=3, lost_rows=4)
    assert up.confirmed(state, intent, up.Tally()).lost_rows == 8
    assert up.confirmed(state, intent, up.Tally(), is_set_aside=True).lost_rows == 4


def test_a_line_that_lets_no_row_pass_for_long_has_few_of_them_set_aside(behind: Callable[..., Behind]) -> None:
    """As one that loses all packets of more than 1,400 bytes; ever fewer, and all of them can be replayed."""
    way = behind(10**9)
    way.box.execute(TABLE, INSERT, rows=[(n, "x") for n in range(20)])
    way.warehouse.fail("INSERT INTO", "drop", when="before", times=-1)
    assert {way.run() for _ in range(40)} == {1}
    way.warehouse.heal()
    assert len(way.box.quarantined()) == 2
    assert [way.run(), way.run("--replay-quarantine"), way.run()] == [0, 0, 0]
    assert way.values() == list(range(20))


@pytest.mark.parametrize("refuse", [429, 503, 200, 401])
def test_what_ends_the_same_way_twice_becomes_smaller_whatever_the_end(
    behind: Callable[..., Behind], refuse: int
) -> None:
    """Too many requests, a service that is not there, a page, no such token: each may be said of a size."""
    way = behind(40_000, refuse)
    way.box.execute(TABLE, INSERT, rows=[(n, f"{n:0120}") for n in range(800)])
    assert failures(way.run, 8) in range(1, 8)
    assert way.values() == list(range(800))
    assert way.box.quarantined() == []


@pytest.mark.parametrize("refuse", [413, 403, 429, 200, 302])
def test_a_question_may_be_too_large_for_what_came_between_since_the_rows_were_sent(
    behind: Callable[..., Behind], refuse: int
) -> None:
    """Rows without batch ids are part of it; their statement went while nothing stood in its way."""
    way = behind(10**9, refuse, marked=False)
    way.box.execute(TABLE, INSERT, rows=[(n, f"{n:0120}") for n in range(800)])
    way.warehouse.fail("INSERT INTO", "drop", when="after")
    assert way.run() == 1
    way.gateway.limit = 25_000
    assert failures(way.run, 6) < 6
    assert way.values() == list(range(800))


def test_a_stream_whose_rows_do_not_go_keeps_no_other_waiting_and_goes_on(
    box: Box, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small batch before each large one proves nothing of the large one."""
    monkeypatch.setattr(up.WarehouseTable, "SLACK_SECONDS", 0)
    schema = f"many{next(NUMBERS)}"
    warehouse.sql(f"CREATE SCHEMA {schema}")
    for table, rows in (("a", 1_000), ("b", 5)):
        warehouse.sql(f"CREATE TABLE {schema}.raw_{table} (id BIGINT, time TIMESTAMP, v BIGINT, w STRING)")
        made, insert = TABLE.replace(" t ", f" {table} "), INSERT.replace(" t ", f" {table} ")
        box.execute(made, insert, rows=[(n, "y" * 120) for n in range(rows)])
    box.behind(warehouse, f"{schema}.raw_")
    del box.environ["DATABRICKS_TABLE"]
    with Gateway(warehouse, limit=30_000, refuse=429) as gateway:
        box.environ |= gateway.environment() | {"UPLOAD_TABLES": "*", "DATABRICKS_STATEMENT_TIMEOUT": "2"}

        def arrived() -> list[int]:
            paths = [warehouse.table_path(f"{schema}.raw_{table}") for table in "ab"]
            return [len(rows_of(DeltaTable(str(path)), "v")) for path in paths]

        assert box.run() == 1
        assert arrived() == [0, 5]
        assert failures(box.run, 4) < 4
        assert arrived() == [1_000, 5]


def test_an_overload_sets_no_row_aside_before_it_lasted(behind: Callable[..., Behind]) -> None:
    way = behind(30_000, 429)
    way.box.execute(TABLE, INSERT, rows=[(n, "x" * 40_000) for n in range(2)])
    assert [way.box.run() for _ in range(4)] == [1, 1, 1, 1]
    assert way.box.quarantined() == []
    way.gateway.limit = None
    assert way.box.run() == 0
    assert way.values() == [0, 1]


@pytest.mark.parametrize(("refuse", "text"), [(413, ""), (403, ""), (500, ""), (200, None), ("reset", None)])
def test_rows_whose_file_does_not_get_into_its_volume_arrive_as_text(
    behind: Callable[..., Behind], monkeypatch: pytest.MonkeyPatch, refuse: int | str, text: str | None
) -> None:
    """Whoever stands before the volume and whatever they say, also that all is well."""
    monkeypatch.setattr(up.CopyRoute, "LEAST_ROWS", 500)
    way = behind(20_000, refuse)
    way.gateway.text, way.gateway.methods = text, {"PUT"}
    way.box.environ |= {"DATABRICKS_VOLUME": "/Volumes/main/s/v", "DATABRICKS_STATEMENT_TIMEOUT": "6"}
    chosen = random.Random(1)
    way.box.execute(TABLE, INSERT, rows=[(n, chosen.randbytes(40).hex()) for n in range(1_500)])
    assert way.box.run() == 0
    assert way.values() == list(range(1_500))
    assert way.gateway.refused > 0


@pytest.mark.parametrize(
    "said",
    [
        "[FAILED_READ_FILE.FILE_NOT_EXIST] File does not exist. SQLSTATE: KD001",
        "[UNSUPPORTED_FEATURE] COPY INTO takes Delta tables only. SQLSTATE: 0A000",
    ],
)
def test_rows_whose_file_is_not_taken_up_arrive_as_text(
    behind: Callable[..., Behind], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """Such as where others empty the volume, or the table is an Iceberg one."""
    monkeypatch.setattr(up.CopyRoute, "LEAST_ROWS", 500)
    way = behind(1 << 30)
    way.box.environ |= {"DATABRICKS_VOLUME": "/Volumes/main/s/v"}
    way.box.execute(TABLE, INSERT, rows=[(n, "x") for n in range(1_500)])
    way.warehouse.fail("^COPY INTO", "error", times=-1, message=said, sqlstate=said[-5:])
    assert way.box.run() == 0
    assert way.values() == list(range(1_500))


@pytest.mark.parametrize(
    ("said", "tried"),
    [
        ("operation timed out", [100, 100, 50, 25]),
        ("HTTP error: error sending request", [100, 100, 50, 25]),
        ("status code: 403 Forbidden: <html>no</html>", [100, 100, 50, 25]),
        ("PUT http://s/t/part-0-a.zstd.parquet in 4ms - status code: 413 Payload Too Large: <html>", [100, 50, 25]),
        (f"PUT http://s/t/part-0-a.parquet in 4ms - status code: 413 Too Large: <html>{'x' * 3_000}", [100, 50, 25]),
        ("PUT http://s/t/part-0-a.zstd.parquet in 4ms - status code: 403 Forbidden", [100, 100, 50, 25]),
        ('PUT http://s/t/part-0-a.zstd.parquet in 4ms - status code: 401 Unauthorized: {"a": 1}', [100, 100, 50, 25]),
        # A checkpoint follows a commit.
        (
            "PUT http://s/t/_delta_log/9.checkpoint.parquet in 4ms - status code: 413 Payload Too Large",
            [100, 100, 50, 25],
        ),
    ],
)
def test_a_commit_that_is_too_large_for_what_stands_before_a_store_becomes_smaller(
    box: Box, monkeypatch: pytest.MonkeyPatch, said: str, tried: list[int]
) -> None:
    """As on a slow line."""
    sizes = tried_before_a_store(monkeypatch, said)[0]
    box.execute(TABLE, INSERT, rows=[(n, "x" * 4_000) for n in range(150)])
    assert failures(box.run, 8) < 8
    assert sizes[: len(tried)] == tried
    assert sorted(v for (v,) in box.arrived("v")) == list(range(150))
    assert box.quarantined() == []


def test_the_size_that_went_through_before_a_store_is_remembered_and_grows_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, limit = tried_before_a_store(monkeypatch, "operation timed out")
    box.execute(TABLE, INSERT, rows=[(n, "x" * 4_000) for n in range(150)])
    assert failures(box.run, 8) < 8
    sizes.clear()
    box.execute(INSERT, rows=[(150 + n, "x" * 4_000) for n in range(100)])
    assert failures(box.run, 3) < 3
    assert max(sizes) < 50
    limit[:] = [1_000]
    box.execute(INSERT, rows=[(250 + n, "x" * 4_000) for n in range(900)])
    assert box.run() == 0
    assert max(sizes) == 100
    assert sorted(v for (v,) in box.arrived("v")) == list(range(1_150))
    assert box.quarantined() == []


def tried_before_a_store(monkeypatch: pytest.MonkeyPatch, said: str) -> tuple[list[int], list[int]]:
    """Let commits of more than 30 rows, or of another limit that is set, fail so; the sizes that are tried, and the limit."""
    real, sizes, limit = up.DeltaTarget._append, list[int](), [30]

    def append(self: up.DeltaTarget, table: Any, intent: up.Intent, pages: Iterator[Any]) -> None:
        taken = list(pages)
        sizes.append(sum(page.num_rows for page in taken))
        if sizes[-1] > limit[0]:
            with up.delta_errors(self.name, writes=True):
                raise OSError(said)
        real(self, table, intent, iter(taken))

    monkeypatch.setattr(up.DeltaTarget, "_append", append)
    monkeypatch.setattr(up, "COMMIT_ROWS", 100)
    monkeypatch.setattr(up.Allowance, "TRUSTED", 10)
    return sizes, limit


@pytest.mark.parametrize("small", [0, 20_000])
def test_rows_that_become_large_within_a_batch_are_not_written_with_all_the_others(
    box: Box, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    """What is written together is in memory several times: photos among readings."""
    real, sizes = up.DeltaTarget._append, list[int]()

    def append(self: up.DeltaTarget, table: Any, intent: up.Intent, pages: Iterator[Any]) -> None:
        real(self, table, intent, pages)
        [commit] = DeltaTable(self.name).history(1)
        sizes.append(int(commit["operationMetrics"]["num_added_rows"]))

    monkeypatch.setattr(up.DeltaTarget, "_append", append)
    monkeypatch.setattr(up, "TOGETHER_BYTES", 13 << 20)
    monkeypatch.setattr(up, "SMALL_FILE_BYTES", 0)
    many = [(n, "x") for n in range(small)]
    box.execute(TABLE, INSERT, rows=[*many, *((small + n, "x" * (1 << 20)) for n in range(20)), (small + 20, "x")])
    assert box.run() == 0
    assert sorted(v for (v,) in box.arrived("v")) == list(range(small + 21))
    assert sizes[0] >= small
    assert len(sizes) > 1
    assert max(size - small * (size > small) for size in sizes) < 20
    assert box.quarantined() == []


def test_a_store_before_which_nothing_goes_sets_no_small_row_aside(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever refuses a request of a few rows for its size, it is not that."""

    def append(self: up.DeltaTarget, table: Any, intent: up.Intent, pages: Iterator[Any]) -> None:
        assert list(pages)
        with up.delta_errors(self.name, writes=True):
            raise OSError("PUT http://s/t/part-0-a.parquet in 4ms - status code: 413 Payload Too Large: <html>")

    monkeypatch.setattr(up.DeltaTarget, "_append", append)
    box.execute(TABLE, INSERT, rows=[(n, "x") for n in range(20)])
    assert [box.run() for _ in range(3)] == [1, 1, 1]
    assert box.quarantined() == []
    assert "such a small request is not refused for its size" in caplog.text.lower()


def test_writers_that_are_faster_are_no_reason_for_smaller_commits(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them would meet even more others."""
    real, sizes = up.DeltaTarget._append, list[int]()

    def append(self: up.DeltaTarget, table: Any, intent: up.Intent, pages: Iterator[Any]) -> None:
        taken = list(pages)
        sizes.append(sum(page.num_rows for page in taken))
        if len(sizes) <= 15:
            raise up.Conflict("Concurrent transaction failed")
        real(self, table, intent, iter(taken))

    monkeypatch.setattr(up.DeltaTarget, "_append", append)
    monkeypatch.setattr(up.Supervisor, "wait", lambda *_, **__: False)
    box.execute(TABLE, INSERT, rows=[(n, "x" * 4_000) for n in range(100)])
    assert [box.run() for _ in range(4)] == [1, 1, 1, 0]
    assert set(sizes) == {100}


STEPS = ("StateFile.save", "InsertRoute.ready", "InsertRoute.send", "WarehouseTarget.settle", "Quarantine.put")


@crossed(step=STEPS, refuse=[413, "reset"], when=["before", "after"])
def test_kills_on_the_way_down_neither_lose_nor_double(
    behind: Callable[..., Behind], stage: Stage, when: str, step: str, refuse: int | str
) -> None:
    way = behind(40_000, refuse)
    way.box.execute(TABLE, INSERT, rows=[(n, f"{n:0200}" if n != 200 else "x" * 100_000) for n in range(400)])
    for call in (1, 2, 4):
        way.staged(stage, plan=[{"at": [step], "call": call, "when": when, "do": "kill"}])
    assert failures(way.run, 10) < 10
    assert way.values() == [n for n in range(400) if n != 200]
    assert [line["row"]["v"] for line in way.box.quarantined()] == [200]


@pytest.mark.parametrize("scenario", ["filter", "sanitize"])
def test_a_refused_row_is_found_under_rules_too(behind: Callable[..., Behind], scenario: str) -> None:
    way = behind(200_000)
    prefix = {"filter": "filtered_", "sanitize": "secure_"}[scenario]
    name = way.table.removeprefix("s.raw_")
    way.warehouse.sql(f"CREATE TABLE s.{prefix}{name} (id BIGINT, time TIMESTAMP, v BIGINT, w STRING)")
    way.box.execute(TABLE, INSERT, rows=[(n, "x" * 900_000 if n == 7 else "x") for n in range(20)])
    rules = '{"v": {">=": 0}}' if scenario == "filter" else '{"round": {}, "remove_nulls": ["v"]}'
    rules = rules if scenario == "filter" else '{"remove_nulls": ["v"]}'
    flags = [f"--enable-{scenario}", "true", f"--{scenario}-config", rules]
    assert way.run(*flags, DATABRICKS_TABLE=name) == up.QUARANTINED
    found = DeltaTable(str(way.warehouse.table_path(f"s.{prefix}{name}")))
    assert sorted(v for (v,) in rows_of(found, "v")) == [n for n in range(20) if n != 7]


def test_groups_that_don_t_go_together_go_window_by_window(behind: Callable[..., Behind]) -> None:
    way = behind(60_000)
    name = way.table.removeprefix("s.raw_")
    way.warehouse.sql(
        f"CREATE TABLE s.aggregated_{name} (hour TIMESTAMP, w STRING, count_v BIGINT, databricks_batch_id STRING)"
    )
    rows = [(f"2026-01-0{1 + n // 24}T{n % 24:02}:00:00Z", k, f"{k:0100}") for n in range(48) for k in range(20)]
    way.box.execute(TABLE, "INSERT INTO t (time, v, w) VALUES (?, ?, ?)", rows=rows)
    rules = '{"group_by": ["hour", "w"], "aggregations": {"v": "count"}}'
    flags = ["--enable-aggregate", "true", "--aggregate-config", rules]
    assert way.run(*flags, DATABRICKS_TABLE=name) == 0
    found = DeltaTable(str(way.warehouse.table_path(f"s.aggregated_{name}")))
    assert len(rows_of(found, "hour, w")) == len(set(rows_of(found, "hour, w"))) == 47 * 20


@crossed(refuse=[413, "reset"], group_by=[["hour", "w"], ["w"]], flags=[["--flush"], []], marked=[True, False])
def test_groups_of_one_window_that_are_too_many_for_a_request_go_in_parts(
    behind: Callable[..., Behind], refuse: int | str, group_by: list[str], flags: list[str], marked: bool
) -> None:
    """One group that is too large alone is set aside alone. Rows come in between the runs."""
    way = behind(20_000, refuse, marked)
    name = way.table.removeprefix("s.raw_")
    mark = ", databricks_batch_id STRING" if marked else ""
    way.warehouse.sql(f"CREATE TABLE s.aggregated_{name} (hour TIMESTAMP, w STRING, count_v BIGINT{mark})")
    insert, large = "INSERT INTO t (time, v, w) VALUES (?, ?, ?)", "x" * 50_000
    rows = [("2026-01-01T00:00:00Z", k, f"{k:0200}" if k != 77 else large) for k in range(200)]
    way.box.execute(TABLE, insert, rows=[*rows, ("2026-01-01T01:00:00Z", 1, "next")])
    rules = json.dumps({"group_by": group_by, "aggregations": {"v": "count"}})
    flags = ["--enable-aggregate", "true", "--aggregate-config", rules, *flags]
    for cycle in range(15):
        if way.run(*flags, DATABRICKS_TABLE=name) in (0, up.QUARANTINED):
            break
        way.box.execute(insert, rows=[(f"2026-01-01T02:00:{cycle:02}Z", 1, f"later {cycle}")])
    else:
        pytest.fail("not all went after 15 cycles")
    aside = [line["row"]["w"] for line in way.box.quarantined()]
    assert aside == [large]
    found = [w for (w,) in rows_of(DeltaTable(str(way.warehouse.table_path(f"s.aggregated_{name}"))), "w")]
    assert sorted(w for w in found if w[0] == "0") == [f"{k:0200}" for k in range(200) if k != 77]
    assert len(found) == len({*found})


def test_rows_that_can_be_delivered_are_replayed_around_one_that_can_t(behind: Callable[..., Behind]) -> None:
    way = behind(300_000)
    way.box.execute(TABLE, INSERT, rows=[(n, "x" * 500_000 if n in (3, 5, 6) else "x") for n in range(10)])
    assert way.run() == up.QUARANTINED
    way.gateway.limit = 10**9
    way.box.execute("SELECT 1")
    large = way.box.folder / "state" / "quarantine"
    lines = sorted(large.glob("*.jsonl"))
    assert len(way.box.quarantined()) == 3
    lines[1].write_text(lines[1].read_text().replace("x" * 500_000, "y" * 17_000_000))
    assert way.run("--replay-quarantine") == up.QUARANTINED
    assert way.values() == [n for n in range(10) if n != 5]
    assert [line["row"]["v"] for line in way.box.quarantined()] == [5]


# --- What is learned ---


@given(limit=st.integers(20_000, 9_000_000), sizes=st.lists(st.integers(1, 20_000_000), min_size=1, max_size=60))
def test_what_is_allowed_comes_near_a_limit_and_stays_below_it(limit: int, sizes: list[int]) -> None:
    """Requests are as large as they may be, or smaller; refusals become rare."""
    allowance, refusals = up.Allowance(), 0
    for size in [*sizes, *[10**9] * 60]:
        request = min(size, allowance.bytes)
        if request > limit:
            allowance, refusals = allowance.without(request), refusals + 1
        else:
            allowance = allowance.after(request, is_fast=True)
        assert up.Allowance.LEAST <= allowance.bytes <= up.Allowance.MOST
    assert refusals <= 12
    assert allowance.bytes <= limit * 5 // 4
    assert allowance.bytes >= min(limit, up.Allowance.MOST) // 3


def test_a_limit_that_was_raised_is_found_again() -> None:
    allowance = up.Allowance().without(100_000)
    for _ in range(2 * up.Allowance.TRUSTED):
        allowance = allowance.after(allowance.bytes, is_fast=True)
    assert allowance.bytes == up.Allowance.MOST


def test_slow_answers_are_no_reason_to_send_more() -> None:
    assert up.Allowance().after(1 << 20, is_fast=False).bytes == 1 << 20


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        ("Request entity too large", True), ("The statement text is too long", True),
        ("Received message larger than max (5242880 vs. 4194304)", True), ("body exceeds the maximum allowed size", True),
        ("Frame size (20971520) larger than max length", True), ("the request exceeded the time limit", False),
        ("internal error in 'the message is too large'", False), ("internal error in 'message too lar", False),
        ("too many requests", False), ("row too wide", False),
    ],
)  # fmt: skip
def test_words_that_say_a_request_is_too_large_are_known(said: str, is_so: bool) -> None:
    assert up.says_too_large(said) is is_so


def test_waits_grow_while_a_host_can_t_be_reached_and_little_is_said(caplog: pytest.LogCaptureFixture) -> None:
    random.seed(7)
    now = [0.0]
    waits, stop = list[float](), threading.Event()

    def one_cycle() -> up.Tally:
        if len(waits) < 80:
            raise up.Unreachable("no way")
        stop.set()
        return up.Tally(sent=12_400)

    def rest(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    with caplog.at_level("INFO", "uploader"):
        up.run_for_ever(one_cycle, 300, stop, rest, now=lambda: now[0])
    waits.pop()
    assert 240 <= waits[0] <= 300 and 480 <= waits[1] <= 600
    assert all(0.8 * 3600 <= wait <= 3600 for wait in waits[5:])
    said = [record.message for record in caplog.records]
    assert len([line for line in said if "no way" in line]) == 1 + int(sum(waits) // 86_400)
    assert said[-1].startswith("reachable again after 3 days") and "12400 rows" in said[-1]


def test_a_host_that_can_t_be_reached_is_waited_for_ever_longer() -> None:
    waits = list[float]()

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            if len(waits) == 5:
                self.set()
            return self.is_set()

    def one_cycle() -> up.Tally:
        raise up.Unreachable("no way")

    stop = Stop()
    up.run_for_ever(one_cycle, 10, stop, stop.wait)
    assert waits[0] <= 10 < waits[1] <= 20 < waits[2] <= 40 and waits[4] <= 120


def test_a_host_that_can_t_be_reached_for_months_ends_no_run() -> None:
    waits, stop = list[float](), threading.Event()

    def one_cycle() -> up.Tally:
        if len(waits) == 1100:
            stop.set()
        raise up.Unreachable("no way")

    up.run_for_ever(one_cycle, 300, stop, waits.append)
    assert max(waits) <= 3600


def test_a_refused_handshake_is_a_definite_no(tmp_path: Path) -> None:
    import ssl

    error = ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)")
    assert isinstance(up.network_error(error, writes=True), up.DidNotRun)
    lost = ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:2406)")
    assert isinstance(up.network_error(lost, writes=True), up.LostAnswer)


@pytest.mark.parametrize("code", [400, 413, 414, 431])
def test_statuses_that_say_nothing_ran_leave_no_doubt(code: int) -> None:
    assert isinstance(up.http_error(code, f"HTTP {code}", writes=True), up.DidNotRun)
