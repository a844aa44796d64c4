"""Chapter SQL warehouse: the real connector against the local warehouse; its errors, its lost answers, its types."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import json
import logging
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from databricks.sql.backend.types import CommandState
from databricks.sql.exc import OperationalError, RequestError, ServerOperationError
from deltalake import DeltaTable, QueryBuilder
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError, ResponseError

import sqlite_to_databricks_uploader as up
from boxes import Box
from warehouse import Warehouse


@pytest.fixture
def bench(warehouse: Warehouse, tmp_path: Path) -> Iterator[Bench]:
    """A table of its own in the warehouse, and targets for it."""
    made = Bench(warehouse, tmp_path)
    yield made
    warehouse.heal()
    for target in made.targets:
        target.close()
        target.session.close()


ROWS = {"id": "bigint", "name": "string", "ts": "timestamp"}


class Bench:
    """`table` is new for each test; `target()` is the uploader's view of it, with settings as one likes."""

    number = 0

    def __init__(self, warehouse: Warehouse, folder: Path) -> None:
        Bench.number += 1
        self.warehouse = warehouse
        self.folder = folder
        self.table = f"raw_{Bench.number}"
        self.targets: list[up.WarehouseTarget] = []
        self.waited: list[float] = []
        self.skipped = 0.0
        self.sequence = 0

    def create(self, columns: str = "id BIGINT, name STRING, ts TIMESTAMP", properties: str = "") -> None:
        """Make the table."""
        self.warehouse.sql(f"CREATE TABLE s.{self.table} ({columns}){properties}")

    def config(self, **settings: Any) -> up.Config:
        """The settings of a target; the token is the warehouse's."""
        usual: dict[str, Any] = {
            "databricks_host": self.warehouse.address,
            "databricks_http_path": self.warehouse.http_path,
            "databricks_token": self.warehouse.token,
            "databricks_ca_file": self.warehouse.ca_file,
            "databricks_database": "s",
            "databricks_statement_timeout": 10,
        }
        return up.Config(**{**usual, **settings})

    def target(self, environ: Mapping[str, str] | None = None, /, **settings: Any) -> up.WarehouseTarget:
        """A target, whose waits are noted instead of slept: its clock jumps by them."""
        session = up.Session(self.config(**settings), environ or {}, self.jump, lambda: time.monotonic() + self.skipped)
        self.targets.append(up.WarehouseTarget(session, self.table, self.folder))
        return self.targets[-1]

    def jump(self, seconds: float) -> None:
        """Wait without waiting."""
        self.waited.append(seconds)
        self.skipped += seconds

    def intent(self) -> up.Intent:
        """What the cycle says of its next commit."""
        self.sequence += 1
        batch_id = f"box-{self.table}/0/{self.sequence:012d}/{self.sequence}"
        return {"sequence": self.sequence, "application": f"sqlite-uploader/{self.table}", "batch_id": batch_id}

    def send(self, target: up.WarehouseTarget, rows: Any) -> tuple[up.Intent, up.Payload]:
        """Send rows as the cycle does."""
        payload = target.prepare(lambda: iter([rows]))
        intent = target.ready(self.intent(), payload)
        target.send(intent, payload)
        return intent, payload

    def lose(self, target: up.WarehouseTarget, rows: Any) -> tuple[up.Intent, up.Payload]:
        """Send rows whose answer is lost."""
        payload = target.prepare(lambda: iter([rows]))
        intent = target.ready(self.intent(), payload)
        with pytest.raises(up.LostAnswer):
            target.send(intent, payload)
        return intent, payload

    def arrived(self, columns: str = "id") -> list[Any]:
        """What the Delta table holds, sorted."""
        table = DeltaTable(str(self.warehouse.table_path(f"s.{self.table}")))
        found = QueryBuilder().register("t", table).execute(f"SELECT {columns} FROM t").read_all()
        rows = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
        return sorted((row[0] if len(row) == 1 else row for row in rows), key=repr)

    def executed(self, outcome: str = "ok") -> int:
        """How many INSERTs and COPY INTOs ended so."""
        return sum(
            len(self.warehouse.statements(f"{verb} INTO `s`.`{self.table}`", outcome)) for verb in ("INSERT", "COPY")
        )


def rows_of(*ids: int, name: str | None = "a", start: int = 1_767_225_600_000_000) -> Any:
    """Rows with these ids, a microsecond apart."""
    return typed_rows(ROWS, {"id": list(ids), "name": [name] * len(ids), "ts": [start + i for i in ids]})


def typed_rows(kinds: dict[str, str], values: dict[str, list[Any]]) -> Any:
    """An Arrow table of columns of these types."""
    return up.arrow_table({name: array(values[name], kind) for name, kind in kinds.items()})


def array(values: list[Any], kind: str) -> Any:
    """An Arrow array; times are given in microseconds, dates in days, decimals as text."""
    return up.array_of(values, "int" if kind == "date" else kind).cast(up.arrow_type(kind))


# --- Types ---

HOSTILE = [
    'it\'s \\ "quoted" `so`',
    "😀 Zürich 서울 \u2028 \ufeff",
    "a\x00b\n\r\t\x1f\x7f",
    "{{x}} :name ? %s ${env:HOME} ${spark.app.name} $x",
    "'; DROP TABLE s.t; -- /* */",
    "\\u0027 \\n \\' '' \\\\",
    "",
    None,
]

EDGES: dict[str, list[Any]] = {
    "bigint": [2**63 - 1, -(2**63), 2**53 + 1, None],
    "int": [2**31 - 1, -(2**31), 0, None],
    "smallint": [2**15 - 1, -(2**15), None],
    "tinyint": [127, -128, None],
    "double": [1.7976931348623157e308, 5e-324, -0.0, 0.1, 1 / 3, None],
    "float": [3.4028234663852886e38, 0.10000000149011612, -0.0, None],
    "boolean": [True, False, None],
    "string": HOSTILE,
    "binary": [b"", bytes(range(256)), b"'", None],
    "date": [-719162, 2932896, -1, 0, None],
    "timestamp": [-62135596800000000, 253402300799999999, -1, 1, None],
    "timestamp_ntz": [-1, 1, 1767225600123456, None],
    "decimal(38,10)": ["-9999999999999999999999999999.9999999999", "0.0000000001", "1.5", None],
    "decimal(5,2)": ["-999.99", "999.99", "0", None],
}


@pytest.mark.parametrize("kind", EDGES)
def test_every_type_arrives_as_it_was(bench: Bench, kind: str) -> None:
    """Least, greatest and awkward values, read back from the Delta table itself."""
    bench.create(f"n INT, v {kind.upper()}")
    values = EDGES[kind]
    sent = typed_rows({"n": "int", "v": kind}, {"n": list(range(len(values))), "v": values})
    bench.send(bench.target(), sent)
    expected = array(values, kind).to_pylist()
    assert [repr(v) for _, v in bench.arrived("n, v")] == [repr(v) for v in expected]


@pytest.mark.parametrize("kind", ["double", "float"])
def test_numbers_that_are_none_arrive_as_such(bench: Bench, kind: str) -> None:
    """NaN stays apart from NULL, and finite numbers beside it keep their digits."""
    bench.create(f"n INT, v {kind.upper()}")
    values = [math.nan, math.inf, -math.inf, None, 0.5]
    bench.send(bench.target(), typed_rows({"n": "int", "v": kind}, {"n": list(range(5)), "v": values}))
    assert [repr(v) for _, v in bench.arrived("n, v")] == ["nan", "inf", "-inf", "None", "0.5"]


def test_numbers_keep_their_last_digit(bench: Bench) -> None:
    """Many of them, since an inexact reader is wrong for some only."""
    bench.create("d DOUBLE, f FLOAT")
    numbers = [math.sin(i) * 10 ** (i % 40 - 20) for i in range(1, 2000)]
    rows = typed_rows({"d": "double", "f": "float"}, {"d": numbers, "f": numbers})
    bench.send(bench.target(), rows)
    expected = zip(rows.column("d").to_pylist(), rows.column("f").to_pylist(), strict=True)
    assert bench.arrived("d, f") == sorted(expected, key=repr)


NAMES = ["with space", "back`quote", "üñï", "select", "a.b", "quo'te", 'dou"ble', "semi;colon", "${env:HOME}", "c0"]


def test_columns_have_any_name(bench: Bench) -> None:
    """Names never enter the text that from_json reads."""
    kept = [name for name in NAMES if name != "${env:HOME}"]
    columns = ", ".join(f"{up.quoted_sql(name)} BIGINT" for name in kept)
    bench.create(columns, " TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")
    target = bench.target()
    assert list(target.columns()) == kept
    bench.send(target, typed_rows(dict.fromkeys(kept, "bigint"), {name: [i] for i, name in enumerate(kept)}))
    names, pages = target.session.query(f"SELECT * FROM s.{bench.table}")
    assert (names, list(pages)) == (kept, [[tuple(range(len(kept)))]])


@pytest.mark.parametrize("text", [text for text in HOSTILE if text is not None])
def test_a_literal_means_its_text(bench: Bench, text: str) -> None:
    """The server's own parser reads what was written."""
    assert bench.target().session.rows(f"SELECT {up.literal(text)}") == [(text,)]


def test_a_literal_has_nothing_that_spark_replaces() -> None:
    """`${name}` is replaced before a statement is parsed, so it must not stand in its text."""
    rows = typed_rows({"v": "string"}, {"v": ["${env:HOME}"]})
    sent = up.Insert(rows, {"v": "string"})
    assert "${" not in sent.source + up.literal("a${b}")


def test_table_names_have_two_or_three_parts() -> None:
    """Each part is quoted; backquotes may come from the user."""
    assert up.table_name("s", "t") == "`s`.`t`"
    assert up.table_name("main.s", "a`b") == "`main`.`s`.`a``b`"
    assert up.table_name("`my.catalog`.s", "t") == "`my.catalog`.`s`.`t`"
    for wrong in ("a.b.c", "", ".s", "a b`c"):
        with pytest.raises(up.ConfigError):
            up.table_name(wrong, "t")


def test_the_uploaders_own_columns_are_filled(bench: Bench) -> None:
    """In any case of their names; columns that the rows lack stay NULL."""
    bench.create("id BIGINT, more STRING, Databricks_Inserted_At TIMESTAMP, DATABRICKS_BATCH_ID STRING")
    intent, _ = bench.send(bench.target(), typed_rows({"id": "bigint"}, {"id": [1]}))
    [(number, more, at, batch)] = bench.arrived('id, more, "Databricks_Inserted_At", "DATABRICKS_BATCH_ID"')
    assert (number, more, batch) == (1, None, intent["batch_id"])
    assert abs(at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)


def test_columns_tell_types_and_what_is_required(bench: Bench) -> None:
    """Types in lower case; what follows the columns is none."""
    bench.create("id BIGINT NOT NULL, d DECIMAL(10, 2), v VARCHAR(5)", " PARTITIONED BY (v)")
    columns = bench.target().columns()
    assert columns["id"] == "bigint not null"
    assert (columns["d"].replace(" ", ""), list(columns)) == ("decimal(10,2)", ["id", "d", "v"])
    assert not up.is_column(("# Partition Information", "", "")) and not up.is_column(("", "", ""))
    assert not up.is_column(("# col_name", "data_type", "comment")) and up.is_column(("# odd", "bigint", None))


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        ("", "`site` since it is not nullable"),
        ("/Volumes/main/s/v", "site, which has a NOT NULL constraint, is missing"),
    ],
)
def test_a_column_that_the_source_lacks_sets_no_row_aside_where_the_server_does_not_tell_that_it_is_needed(
    box: Box,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    volume: str,
    said: str,
) -> None:
    """Before Databricks Runtime 16.2 DESCRIBE knows no AS JSON, nor does it of some tables later."""
    box.behind(warehouse, "s.raw_needy", "id BIGINT, time TIMESTAMP, site STRING NOT NULL")
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT)", "INSERT INTO t VALUES (1, '2026-01-01')")
    refused = "[UNSUPPORTED_FEATURE.DESC_JSON_TABLE_TYPE] DESCRIBE AS JSON is not supported. SQLSTATE: 0A000"
    warehouse.fail("AS JSON", "error", message=refused, sqlstate="0A000", times=-1)
    monkeypatch.setattr(up.CopyRoute, "LEAST_ROWS", 0)
    status = box.run(DATABRICKS_VOLUME=volume)
    warehouse.heal()
    assert said in caplog.text
    assert (status, box.quarantined()) == (1, [])


@pytest.mark.parametrize("name", ["Sensor Readings", "s.readings", "a/b"])
def test_a_name_that_no_table_in_databricks_can_have_is_told_before_anything_is_asked(
    box: Box, warehouse: Warehouse, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    box.behind(warehouse, "s.raw_named", "id BIGINT, time TIMESTAMP")
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT)", "INSERT INTO t VALUES (1, '2026-01-01')")
    for action in ((), ("--print-ddl",)):
        caplog.clear()
        assert box.run(*action, DATABRICKS_TABLE=name) == 2
        assert f"no table in Databricks can be called 'raw_{name}'" in caplog.text
    assert warehouse.statements(name, "") == []


def test_a_table_without_columns_takes_no_rows(
    box: Box, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Databricks makes such tables, for COPY INTO to fill in their columns; its DESCRIBE has no rows then."""
    box.behind(warehouse, "s.raw_hollow", "id BIGINT")
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(up.WarehouseTable, "_described", lambda self: {})
        assert box.run() == 1
    assert "the target has none of the columns id" in caplog.text and "It has no columns" in caplog.text
    assert box.run() == 0
    assert warehouse.sql("SELECT id FROM s.raw_hollow") == [(1,)]


@pytest.mark.parametrize("kind", ["INT", "DECIMAL(5, 0)", "STRING", "DOUBLE, databricks_batch_id STRING"])
def test_a_table_that_is_made_anew_amid_a_cycle_ends_it_and_the_next_cycle_knows_its_columns(
    bench: Bench, kind: str
) -> None:
    """An INSERT that was made for a DOUBLE would store 2.7 as 2."""
    bench.create("v DOUBLE")
    target, rows = bench.target(), typed_rows({"v": "double"}, {"v": [2.7]})
    bench.send(target, rows)
    bench.warehouse.sql(f"DROP TABLE s.{bench.table}")
    bench.create(f"v {kind}")
    bench.jump(up.WarehouseTable.TRUSTED_SECONDS)
    with pytest.raises(up.Postponed, match="columns"):
        bench.send(target, rows)
    assert bench.arrived("v") == []
    target.close()
    found = ", ".join(f"{name} {kind}" for name, kind in target.columns().items())
    assert found.replace(" ", "") == f"v {kind}".lower().replace(" ", "")


def test_refused_values_are_nobodys_fault_where_the_columns_changed(bench: Bench) -> None:
    """Rows that were made for the columns of before must not follow in halves, encoded for those of now."""
    bench.create("id BIGINT")
    target, rows = bench.target(), typed_rows({"id": "bigint"}, {"id": [1, 2]})
    bench.send(target, rows)
    bench.warehouse.sql(f"DROP TABLE s.{bench.table}")
    bench.create("id STRING")
    bench.warehouse.fail("INSERT INTO", "error", message="[CAST_OVERFLOW] x SQLSTATE: 22003", sqlstate="22003")
    with pytest.raises(up.Postponed, match="columns"):
        bench.send(target, rows)


def test_collated_text_is_filled_and_compared_letter_by_letter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a column of UTF8_LCASE, `Ab` equals `aB`. A batch id is searched for, so it must not be collated."""
    described = up.WarehouseTable._described
    collated = {"string": "string collate utf8_lcase", "string not null": "string collate utf8_lcase not null"}
    monkeypatch.setattr(
        up.WarehouseTable, "_described", lambda self: {n: collated.get(k, k) for n, k in described(self).items()}
    )
    bench.create("id BIGINT, name STRING NOT NULL, ts TIMESTAMP")
    target = bench.target()
    assert target.columns()["name"] == "string not null"
    _, payload = bench.send(target, rows_of(1, name="Ab"))
    assert re.findall(r"CAST\(\S+ AS BINARY\)", up.comparison("t", payload)) == [
        "CAST(r.c1 AS BINARY)", "CAST(`name` AS BINARY)",
    ]  # fmt: skip
    assert target.insert.compared(payload) == (1, 0, 0)
    assert target.insert.compared(target.prepare(lambda: iter([rows_of(1, name="aB")]))) == (0, 1, 0)
    bench.warehouse.sql(f"DROP TABLE s.{bench.table}")
    bench.create("name STRING, databricks_batch_id STRING")
    target.close()
    with pytest.raises(up.TargetError, match="COLLATE"):
        up.refuse_own_columns(target.columns(), 0)


def test_columns_are_filled_whatever_word_the_server_has_for_their_types(
    box: Box, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalog that others filled may say `long`; what no row can be made for stays as it was told."""
    told = {"id": "long", "ts": "timestamp_ltz", "n": "decimal not null", "small": "short", "v": "real"}
    described = up.WarehouseTable._described
    monkeypatch.setattr(up.WarehouseTable, "_described", lambda self: {n: told[n] for n in described(self)})
    box.behind(warehouse, "s.raw_told")
    warehouse.sql("CREATE TABLE s.raw_told (id BIGINT, ts TIMESTAMP, n DECIMAL(10,0), small SMALLINT, v FLOAT)")
    box.execute("CREATE TABLE r (id INTEGER PRIMARY KEY, ts TEXT, n INTEGER, small INTEGER, v REAL)")
    box.execute("INSERT INTO r VALUES (1, '2026-01-01T00:00:00Z', 2, 3, 4.5)")
    assert box.run("--once") == 0
    assert warehouse.sql("SELECT id, n, small, v FROM s.raw_told") == [(1, 2, 3, 4.5)]
    assert [up.type_told(kind) for kind in ("variant", "array<int>", "varchar")] == ["variant", "array<int>", "varchar"]


def test_rules_that_suit_only_the_tables_types_wake_no_warehouse_in_idle_cycles(box: Box, warehouse: Warehouse) -> None:
    box.behind(warehouse, "s.raw_late_rules")
    warehouse.sql("CREATE TABLE s.filtered_late_rules (id BIGINT, ts TIMESTAMP, v DOUBLE)")
    box.environ |= {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"v": {">": 1}}'}
    box.execute("CREATE TABLE r (id INTEGER PRIMARY KEY, ts TEXT, v TEXT)")
    config = up.load_config({}, box.environ)
    watch = up.Watch(up.Fleet(dataclasses.replace(config, state_dir=box.folder / "state"), {}, threading.Event()), {})
    assert watch.cycle().sent == 0
    before = warehouse.log()["sessions_opened"]
    assert [watch.cycle().sent, watch.cycle().sent, warehouse.log()["sessions_opened"]] == [0, 0, before]
    box.execute("INSERT INTO r VALUES (1, '2026-01-01', '1'), (2, '2026-01-01', '2.5')")
    assert [watch.cycle().sent, watch.cycle().sent, warehouse.log()["sessions_opened"]] == [1, 0, before + 1]


# --- Sizes and round trips ---


def test_a_filter_that_keeps_few_rows_sends_few_statements(
    box: Box, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it keeps all from one row on: these are divided before they fill the memory."""
    box.behind(warehouse, "s.raw_few")
    warehouse.sql("CREATE TABLE s.filtered_few (id BIGINT, ts TIMESTAMP, k STRING, v BIGINT)")
    box.environ |= {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"v": 7}'}
    box.execute("CREATE TABLE r (id INTEGER PRIMARY KEY, ts TEXT, k TEXT, v INTEGER)")
    insert, made, real = "INSERT INTO r VALUES (?, '2026-01-01', ?, ?)", list[int](), up.InsertRoute.text_of
    box.execute(insert, rows=[(n, "k" * 200, n % 100) for n in range(30_000)])

    def text_of(route: up.InsertRoute, pages: Iterable[Any]) -> Any:
        made.append(0)

        def counted() -> Iterator[Any]:
            for page in pages:
                made[-1] += page.num_rows
                yield page

        return real(route, counted())

    monkeypatch.setattr(up.InsertRoute, "text_of", text_of)
    assert box.run() == 0
    assert len(made) <= 3 and sum(made) == 300
    box.execute(insert, rows=[(30_000 + n, "k" * 200, n % 100 if n < 4_500 else 7) for n in range(30_000)])
    made.clear()
    assert box.run() == 0
    assert max(made) < 20_000 and len(made) < 30
    [(count, different)] = warehouse.sql("SELECT count(*), count(DISTINCT id) FROM s.filtered_few")
    assert count == different == 300 + 45 + 25_500


def test_a_thousand_rows_cost_one_insert_in_one_session(bench: Bench) -> None:
    """And the columns are asked for once in each cycle."""
    bench.create()
    target = bench.target()
    before = bench.warehouse.log()["sessions_opened"]
    bench.send(target, rows_of(*range(1000)))
    bench.send(target, rows_of(*range(1000, 1003)))
    assert bench.warehouse.log()["sessions_opened"] == before + 1
    target.close()
    bench.send(target, rows_of(2000))
    assert (bench.executed(), len(bench.arrived())) == (3, 1004)
    assert len(bench.warehouse.statements(f"DESCRIBE TABLE `s`.`{bench.table}`")) == 2


def test_making_a_target_and_closing_it_asks_nothing(bench: Bench) -> None:
    """An idle cycle must not wake a warehouse."""
    before = bench.warehouse.log()["requests"]
    bench.target().close()
    assert bench.warehouse.log()["requests"] == before


def test_rows_that_exceed_a_statement_are_cut(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size counts in bytes of UTF-8 after all escaping; what is said to fit does."""
    bench.create("v STRING")
    target = bench.target()
    monkeypatch.setattr(target.insert, "MOST_BYTES", 100_000)
    target.allowance = up.Allowance(80_000)
    rows = typed_rows({"v": "string"}, {"v": ["\\'😀" * 10] * 3000})
    with pytest.raises(up.TooLargeError) as raised:
        target.prepare(lambda: iter([rows]))
    cut = rows.slice(0, raised.value.fitting)
    payload = target.prepare(lambda: iter([cut]))
    assert 40_000 < len(payload.source.encode()) <= 100_000
    bench.send(target, cut)
    assert bench.arrived("v") == cut.column("v").to_pylist()


def test_a_row_larger_than_a_statement_is_said_to_be(bench: Bench) -> None:
    """Sixteen MiB in one cell."""
    bench.create("v STRING")
    with pytest.raises(up.TargetError, match="too large"):
        bench.target().prepare(lambda: iter([typed_rows({"v": "string"}, {"v": ["x" * (16 << 20)]})]))


def test_pages_become_one_statement(bench: Bench) -> None:
    """NaN in one page only changes how the whole column travels."""
    bench.create("v DOUBLE")
    target = bench.target()
    pages = [typed_rows({"v": "double"}, {"v": values}) for values in ([1.5], [math.nan], [])]
    payload = target.prepare(lambda: iter(pages))
    target.send(target.ready(bench.intent(), payload), payload)
    assert (bench.executed(), [repr(v) for v in bench.arrived("v")]) == (1, ["1.5", "nan"])


def test_no_rows_are_sent_as_nothing(bench: Bench) -> None:
    """A batch whose rows were all filtered out."""
    bench.create()
    target = bench.target()
    for pages in (list[Any](), [rows_of()]):
        payload = target.prepare(functools.partial(iter, pages))
        intent = target.ready(bench.intent(), payload)
        target.send(intent, payload)
        assert target.settle(intent, lambda: iter([]))
    assert bench.executed() == 0


# --- Lost answers ---

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("reset", {"when": "after"}),
    ("drop", {"when": "after"}),
    ("status", {"status": 503, "when": "after"}),
    ("status", {"status": 503, "when": "after", "retry_after": 1}),
    ("status", {"status": 502, "when": "after"}),
    ("status", {"status": 500, "when": "after"}),
    ("status", {"status": 504, "when": "after"}),
]


@pytest.mark.parametrize(
    ("action", "rule", "marked"),
    [(*loss, number % 2 == 0) for number, loss in enumerate(LOSSES)],
    ids=[f"{action}-{rule.get('status', '')}" for action, rule in LOSSES],
)
def test_an_insert_whose_answer_is_lost_runs_once(
    bench: Bench, action: str, rule: dict[str, Any], marked: bool
) -> None:
    """The driver sends nothing again; the table tells that the rows are there, without any waiting."""
    bench.create("id BIGINT, name STRING, ts TIMESTAMP" + (", databricks_batch_id STRING" if marked else ""))
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", action, **rule)
    intent, payload = bench.lose(target, rows_of(1, 2, 2))
    assert (bench.executed(), bench.arrived()) == (1, [1, 2, 2])
    assert target.settle(intent, lambda: iter([payload.rows])) is True
    assert bench.waited == []


def test_an_insert_that_outlasts_the_client_is_a_lost_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read timeout: the statement ran once."""
    bench.create()
    target = bench.target(databricks_statement_timeout=1)
    monkeypatch.setattr(up, "ANSWER_SECONDS", 1)
    bench.warehouse.fail("INSERT INTO", "delay", seconds=4, when="after")
    intent, payload = bench.lose(target, rows_of(1))
    monkeypatch.undo()
    assert target.settle(intent, lambda: iter([payload.rows])) is True
    assert bench.executed() == 1


@pytest.mark.parametrize("action", ["reset", "drop", "status"])
def test_an_insert_that_never_ran_is_found_out(bench: Bench, action: str) -> None:
    """Its rows are not there, and after the time in which it could still run they are not either."""
    bench.create()
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", action, when="before", status=503)
    intent, payload = bench.lose(target, rows_of(1))
    assert target.settle(intent, lambda: iter([payload.rows])) is False
    assert 20 < sum(bench.waited) <= 2 * 10 + target.SLACK_SECONDS
    bench.send(target, rows_of(1))
    assert bench.arrived() == [1]


@pytest.mark.parametrize("marked", [True, False])
def test_an_insert_that_commits_later_is_waited_for(bench: Bench, marked: bool) -> None:
    """A zombie: at first its rows are not there."""
    bench.create("id BIGINT, name STRING, ts TIMESTAMP" + (", databricks_batch_id STRING" if marked else ""))
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "zombie", seconds=1.5)
    intent, payload = bench.lose(target, rows_of(1))
    monotonic = time.monotonic()

    def really(seconds: float) -> None:
        if bench.executed() == 0 and time.monotonic() - monotonic < 60:
            time.sleep(0.2)
        else:
            bench.jump(seconds)

    target.session.wait = really
    assert target.settle(intent, lambda: iter([payload.rows])) is True
    assert bench.executed() == 1


def test_a_statement_that_begins_too_late_does_nothing(bench: Bench) -> None:
    """STATEMENT_TIMEOUT does not count the time in a queue; the statement itself does."""
    bench.create()
    target = bench.target(databricks_statement_timeout=1)
    payload = target.prepare(lambda: iter([rows_of(1)]))
    intent = target.ready(bench.intent(), payload)
    intent["started"] = (dt.datetime.fromisoformat(intent["started"]) - dt.timedelta(seconds=2)).isoformat()
    with pytest.raises(up.DidNotRun, match="too late"):
        target.send(intent, payload)
    assert bench.arrived() == []


def test_a_statement_that_takes_too_long_is_ended_by_the_server(bench: Bench) -> None:
    """STATEMENT_TIMEOUT is in force. That it was ended proves nothing, so the table is asked."""
    bench.create()
    target = bench.target(databricks_statement_timeout=1)
    target.columns()
    bench.warehouse.fail("INSERT INTO", "slow", seconds=6)
    intent, payload = bench.lose(target, rows_of(1))
    assert target.settle(intent, lambda: iter([payload.rows])) is False
    assert bench.arrived() == []


def test_a_lost_poll_is_a_lost_answer(bench: Bench) -> None:
    """Statements that take longer are asked after; the asking may get lost, too."""
    bench.create()
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "slow", seconds=5.5)
    bench.warehouse.fail("GetOperationStatus", "reset")
    intent, payload = bench.lose(target, rows_of(1))
    while bench.executed() == 0:
        time.sleep(0.2)
    assert target.settle(intent, lambda: iter([payload.rows])) is True


@pytest.mark.parametrize(
    ("call", "status"), [("GetOperationStatus", 429), ("GetOperationStatus", 404), ("GetResultSetMetadata", 401)]
)
def test_a_status_that_refuses_a_question_about_a_statement_does_not_refuse_that(
    bench: Bench, call: str, status: int
) -> None:
    """It was taken before, and runs."""
    bench.create()
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "slow", seconds=5.5)
    bench.warehouse.fail(call, "status", status=status)
    intent, payload = bench.lose(target, rows_of(1))
    while bench.executed() == 0:
        time.sleep(0.2)
    assert target.settle(intent, lambda: iter([payload.rows])) is True


def test_a_line_that_breaks_once_a_statement_was_taken_leaves_its_end_open() -> None:
    """Also where nobody can be reached any more, and a token can't be renewed."""
    refused: list[Exception] = [
        NewConnectionError(HTTPConnection("h"), "refused"),
        RequestError("", {"method": "GetOperationStatus"}, None, up.Rejected("no token")),
    ]
    for error in refused:
        for is_taken, kind in ((False, up.DidNotRun), (True, up.LostAnswer)):
            with pytest.raises(kind), up.driver_errors(True, [is_taken].pop):
                raise error
    with pytest.raises(up.LostAnswer):
        up.CopyRoute._refuse_unloaded(Unread(), {1})


def test_a_cancelled_statement_is_a_lost_answer(bench: Bench) -> None:
    """The driver returns from it as if it had succeeded."""
    bench.create()
    target = bench.target()
    target.columns()
    connection = target.session._connection
    for state in (CommandState.CANCELLED, CommandState.FAILED, CommandState.CLOSED):
        target.session._connection = Ended(state)
        with pytest.raises(up.LostAnswer, match=state.name):
            target.session.run("INSERT", writes=True)
    target.session._connection = connection


class LastReport:
    """A cursor after a statement: what it tells of it."""

    def __init__(self, **told: int) -> None:
        self.description = [(name,) for name in told]
        self.row = tuple(told.values())

    def fetchmany(self, _: int) -> list[tuple[int, ...]]:
        return [self.row] if self.row else []


class Unread(LastReport):
    """What a cursor after a statement tells can't be had any more."""

    def fetchmany(self, _: int) -> list[tuple[int, ...]]:
        raise RequestError("", {"http-code": 404})


class Ended:
    """A connection whose statements end in some state, which the local warehouse can't be made to say."""

    def __init__(self, state: CommandState) -> None:
        self.session = self.active_result_set = self
        self.status = state
        self.is_open = True

    def cursor(self, **_: Any) -> Ended:
        return self

    def execute(self, *_: Any, **__: Any) -> None:
        """Done."""


def came_unseen(bench: Bench) -> tuple[up.WarehouseTarget, up.Intent]:
    """A batch of two rows that came with its id, and whose answer was lost; and where it went."""
    bench.create("id BIGINT, name STRING, ts TIMESTAMP, databricks_batch_id STRING")
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "drop", when="after")
    intent, _ = bench.lose(target, rows_of(1, 2))
    return target, intent


def test_a_batch_id_counts_rows_that_no_source_has_any_more(bench: Bench) -> None:
    """The source was emptied meanwhile; what was sent is known by its number."""
    target, intent = came_unseen(bench)
    assert target.settle(intent, lambda: iter([])) is True


def test_one_row_with_a_batchs_id_proves_that_it_came(bench: Bench) -> None:
    """A statement commits all or nothing; others of its rows were deleted since."""
    target, intent = came_unseen(bench)
    bench.warehouse.sql(f"DELETE FROM s.{bench.table} WHERE id = 1")
    assert target.settle(intent, lambda: iter([])) is True


def test_a_file_of_which_no_row_was_taken_up_is_a_doubt() -> None:
    """But where it is offered again, or nothing is told."""
    check = up.CopyRoute._refuse_unloaded
    with pytest.raises(up.LostAnswer, match="0 rows loaded, not 20"):
        check(LastReport(num_affected_rows=0, num_inserted_rows=0), {20})
    check(LastReport(num_affected_rows=0, num_inserted_rows=0), {0, 20})
    check(LastReport(num_inserted_rows=20), {20})
    check(LastReport(num_affected_rows=0), {20})
    check(LastReport(), {20})


def test_a_page_that_redirects_a_statement_leaves_no_doubt() -> None:
    """Nobody sent it on; after other ends of its kind it may have run."""
    for reason, kind in (("too many redirects", up.DidNotRun), ("too many 503 error responses", up.LostAnswer)):
        error = MaxRetryError(None, "/", ResponseError(reason))  # type: ignore[arg-type]
        assert isinstance(up.network_error(error, writes=True), kind)


@pytest.mark.parametrize(("chunk", "seconds"), [(b"x", 0.05), (b"x" * 65536, 30)])
def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, chunk: bytes, seconds: float) -> None:
    class Trickle:
        def read1(self, _: int) -> bytes:
            return chunk

    monkeypatch.setattr(up, "ANSWER_SECONDS", seconds)
    with pytest.raises(TimeoutError):
        up.whole_body(Trickle())


# What a table held, what was lost on its way there, what others did since, and whether a doubt is settled by it.
SINCE = [
    ("after", None, True),
    ("after", "INSERT INTO {} VALUES (9, 'b', NULL)", True),
    ("after", "INSERT INTO {0} SELECT * FROM {0} WHERE id = 2 LIMIT 1", None),
    ("after", "DELETE FROM {} WHERE id = 2", None),
    ("after", "UPDATE {} SET name = 'b' WHERE id = 3", None),
    ("before", None, False),
    ("before", "INSERT INTO {} VALUES (9, 'b', NULL)", False),
    ("before", "INSERT INTO {0} SELECT * FROM {0} WHERE id = 2", None),
    ("before", "DELETE FROM {} WHERE id = 2", None),
]


@pytest.mark.parametrize("earlier", [(1, 2, 3), (1, 2, 3, 3)])
@pytest.mark.parametrize(("when", "since", "told"), SINCE)
def test_rows_that_equal_earlier_ones_are_known_by_when_they_came(
    bench: Bench, earlier: tuple[int, ...], when: str, since: str | None, told: bool | None
) -> None:
    """Those that came since the statement was sent are as many as it had, or none; else they make a doubt."""
    bench.create()
    target = bench.target()
    bench.send(target, rows_of(*earlier))
    time.sleep(target.insert.STAMP_SECONDS + 0.2)
    bench.warehouse.fail("INSERT INTO", "drop", when=when)
    intent, payload = bench.lose(target, rows_of(2, 3, 3))
    if since:
        bench.warehouse.sql(since.format(f"s.{bench.table}"))
    assert target.insert.settle(intent, lambda: iter([payload.rows])) is told


@pytest.mark.parametrize("when", ["before", "after"])
def test_rows_that_were_edited_since_are_no_proof_that_their_statement_did_not_run(bench: Bench, when: str) -> None:
    """Where nothing at all was committed to the table since, it did not."""
    bench.create()
    target = bench.target()
    bench.send(target, rows_of(9))
    time.sleep(target.insert.STAMP_SECONDS + 0.2)
    bench.warehouse.fail("INSERT INTO", "drop", when=when)
    intent, _ = bench.lose(target, rows_of(1, 2))
    edited = rows_of(1, 2, name="b")
    told = target.insert.settle(intent, lambda: iter([edited]))
    assert told is (None if when == "after" else False)
    gone = target.insert.settle(intent, lambda: iter([rows_of(2)]))
    assert gone is (when == "after")
    both = target.insert.settle(intent, lambda: iter([rows_of(2, name="b")]))
    assert both is told


@pytest.mark.parametrize("when", ["before", "after"])
def test_rows_whose_columns_stand_in_another_order_since_leave_no_doubt(bench: Bench, when: str) -> None:
    """As after a rebuild of the source's table."""
    bench.create()
    target = bench.target()
    bench.send(target, rows_of(9))
    bench.warehouse.fail("INSERT INTO", "drop", when=when)
    intent, payload = bench.lose(target, rows_of(1, 2))
    turned = up.arrow_table({name: payload.rows.column(name) for name in reversed(payload.rows.column_names)})
    assert target.insert.text_of([turned]).digest == payload.digest
    assert target.insert.settle(intent, lambda: iter([turned])) is (when == "after")


@pytest.mark.parametrize("is_keyed", [True, False])
def test_a_table_without_a_past_tells_of_rows_that_a_key_tells_apart(bench: Bench, is_keyed: bool) -> None:
    bench.create()
    target = bench.target()
    bench.warehouse.fail("TIMESTAMP AS OF", "error", message="no time travel here", sqlstate="42816", times=-1)
    bench.warehouse.fail("INSERT INTO", "drop", when="after")
    intent, payload = bench.lose(target, rows_of(1, 2))
    intent = {**intent, "keyed": is_keyed}
    assert target.insert.settle(intent, lambda: iter([payload.rows])) is (True if is_keyed else None)
    assert target.insert.settle(intent, lambda: iter([rows_of(3, 4)])) is None
    bench.send(target, rows_of(1, 2))
    assert target.insert.settle(intent, lambda: iter([payload.rows])) is None
    bench.warehouse.heal()


@pytest.mark.parametrize("when", ["before", "after"])
def test_rows_that_came_from_elsewhere_just_before_make_a_doubt(bench: Bench, when: str) -> None:
    """Some stores tell the time of a commit in whole seconds: it may seem to be earlier than its statement."""
    bench.create()
    bench.send(bench.target(), rows_of(1, 2))
    time.sleep(0.2)
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "drop", when=when)
    intent, payload = bench.lose(target, rows_of(1, 2))
    if when == "after":
        assert target.settle(intent, lambda: iter([payload.rows])) is True
        return
    with pytest.raises(up.DoubtError) as raised:
        target.settle(intent, lambda: iter([payload.rows]))
    assert "databricks_batch_id" in raised.value.hint
    resending = bench.target(on_doubt="resend")
    assert resending.settle(intent, lambda: iter([payload.rows])) is False


def test_no_past_is_asked_for_by_a_clock_that_was_ahead(bench: Bench) -> None:
    """Nothing came since then, whether or not the statement ran."""
    bench.create()
    target = bench.target()
    intent, payload = bench.send(target, rows_of(1, 2))
    ahead: up.Intent = {**intent, "started": "2126-01-01T00:00:00+00:00"}
    with pytest.raises(up.DoubtError):
        target.settle(ahead, lambda: iter([payload.rows]))


def test_the_past_is_asked_for_only_where_rows_are_there(bench: Bench) -> None:
    """One question where none is; three where they came, since they are all there."""
    bench.create()
    target = bench.target()
    intent, payload = bench.send(target, rows_of(1, 2))
    assert target.settle(intent, lambda: iter([payload.rows])) is True
    bench.warehouse.fail("INSERT INTO", "drop", when="before")
    intent, payload = bench.lose(target, rows_of(3))
    assert target.settle(intent, lambda: iter([payload.rows])) is False
    past = [e for e in bench.warehouse.statements("TIMESTAMP AS OF", "") if bench.table in e["statement"]]
    assert len(past) == 2


def test_the_past_is_compared_too_where_a_question_about_all_rows_is_too_large(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.create()
    bench.send(bench.target(), rows_of(1, 2, 3, 4))
    time.sleep(0.2)
    since = dt.datetime.now(dt.UTC)
    route = limited_to(bench, monkeypatch, 2)
    assert route._past(since) is None
    bench.send(bench.target(), rows_of(1, 2, 3, 4))
    past = str(route._past(since))
    assert route.compared(route.text_of([rows_of(5, 1, 6, 2)]), past) == (0, 2, 0)
    assert route.compared(route.text_of([rows_of(1, 2, 3, 4)]), past) == (2, 0, 0)


def test_rows_like_earlier_ones_are_told_apart_by_batch_ids(bench: Bench) -> None:
    """The very same rows, sent twice on purpose, once in vain."""
    bench.create("id BIGINT, name STRING, ts TIMESTAMP, databricks_batch_id STRING")
    target = bench.target()
    bench.send(target, rows_of(1, 2))
    bench.warehouse.fail("INSERT INTO", "drop", when="before")
    intent, payload = bench.lose(target, rows_of(1, 2))
    assert target.settle(intent, lambda: iter([payload.rows])) is False


def limited_to(bench: Bench, monkeypatch: pytest.MonkeyPatch, most: int) -> up.InsertRoute:
    """The route of a target whose questions may be about so many rows."""
    target = bench.target()
    ask = target.session.rows

    def limited(sql: str) -> list[tuple[Any, ...]]:
        if sql.count('"c0":') > most:
            raise up.RefusedSizeError("these rows are too many")
        return ask(sql)

    monkeypatch.setattr(target.session, "rows", limited)
    return target.insert


@pytest.mark.parametrize(
    ("held", "sent", "told"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), (2, 0, 0)),
        ((5, 6), (1, 2, 3, 4), (0, 2, 0)),
        ((1, 2, 2, 2), (1, 2, 2, 2), (2, 1, 1)),
        ((2, 2, 2, 2), (2, 2, 2, 2), (1, 1, 1)),
        ((2, 2), (2, 2, 2, 2), (1, 1, 0)),
        ((1,), (2, 2, 2, 2), (0, 1, 0)),
    ],
)
def test_every_second_row_is_compared_where_a_question_about_all_is_too_large(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, held: tuple[int, ...], sent: tuple[int, ...], told: tuple[int, ...]
) -> None:
    """They tell of all, since a statement commits all or nothing; of rows that are equal they tell nothing."""
    bench.create()
    bench.send(bench.target(), rows_of(*held))
    route = limited_to(bench, monkeypatch, 3)
    assert route.compared(route.text_of([rows_of(*sent)])) == told


def test_comparing_takes_null_and_nan_as_equal(bench: Bench) -> None:
    """Every type takes part in the comparison, with its awkward values."""
    kinds = {f"c_{i}": kind for i, kind in enumerate(EDGES)}
    bench.create(", ".join(f"{name} {kind.upper()}" for name, kind in kinds.items()))
    most = max(map(len, EDGES.values()))
    values = {n: (EDGES[k] + [None] * most)[:most] for n, k in kinds.items()}
    values["c_4"][1] = math.nan
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "drop", when="after")
    intent, payload = bench.lose(target, typed_rows(kinds, values))
    assert target.settle(intent, lambda: iter([payload.rows])) is True


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize(
    ("kind", "sent", "other"),
    [
        ("STRING", "é" * 30_000, "e" * 30_000),
        ("VARCHAR(40000)", "x" * 30_000 + "  ", "x" * 30_000),
        ("CHAR(30000)", "x" * 29_000, "y" * 29_000),
        ("BINARY", b"\0\xff" * 20_000, b"\0\xfe" * 20_000),
    ],
)
def test_one_large_row_is_compared_by_digests(bench: Bench, kind: str, sent: Any, other: Any, past: bool) -> None:
    """A line that drops its statement would drop a question that carries it, too, again and again."""
    bench.create(f"id BIGINT, w {kind}, n STRING, b BINARY")
    kinds = {"id": "bigint", "w": kind.lower(), "n": "string", "b": "binary"}

    def row(value: Any) -> Any:
        return typed_rows(kinds, {"id": [1], "w": [value], "n": [None], "b": [None]})

    target = bench.target()
    if past:
        bench.send(target, row(sent))
        time.sleep(0.2)
    bench.warehouse.fail("INSERT INTO", "drop", when="after")
    intent, payload = bench.lose(target, row(sent))
    asked = len(bench.warehouse.statements("sha2", ""))
    assert target.settle(intent, lambda: iter([payload.rows])) is True
    assert target.insert.compared(target.insert.text_of([row(other)]))[0] == 0
    assert max(len(e["statement"]) for e in bench.warehouse.statements("sha2", "")[asked:]) < 3000


def test_a_time_of_a_clock_that_was_ahead_is_not_waited_for(bench: Bench) -> None:
    bench.create()
    target = bench.target()
    target.wait_out(bench.intent(), "2126-01-01T00:00:00+00:00")
    assert sum(bench.waited) <= 2 * 10 + target.SLACK_SECONDS


def test_a_statement_is_waited_for_as_long_as_it_was_given(bench: Bench) -> None:
    """A shorter time may be set since. 10 seconds twice, and what clocks differ by."""
    bench.create()
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "drop", when="before")
    intent, _ = bench.lose(target, rows_of(1, 2))
    later = bench.target(databricks_statement_timeout=1)
    assert later.settle(intent, lambda: iter([rows_of(1, 2)])) is False
    assert sum(bench.waited) > 19


def test_a_batch_that_tells_no_row_is_no_place_to_go_on_from(bench: Bench) -> None:
    """A replay of the quarantine may come when no row is known to be delivered."""
    bench.create("id BIGINT, databricks_batch_id STRING")
    bench.warehouse.sql(
        f"INSERT INTO s.{bench.table} VALUES (1, 'me/0/000000000001/29'), (2, 'me/1/000000000002/None')"
    )
    told = bench.target().recover(up.State(source_id="me", position={"rowid": None}))
    assert told == {"epoch": 1, "sequence": 2, "committed": 2}


@pytest.mark.parametrize(
    ("settings", "later"),
    [
        ({"UPLOAD_CURSOR": "timestamp"}, {"UPLOAD_CURSOR": "rowid"}),
        ({"ENABLE_AGGREGATE": "1"}, {"ENABLE_AGGREGATE": "1"}),
    ],
)
def test_a_place_by_time_or_of_windows_is_never_taken_for_a_rowid(
    box: Box, warehouse: Warehouse, settings: dict[str, str], later: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    rules = {"group_by": ["minute"], "aggregations": {"records": "count"}}
    box.environ |= {"UPLOAD_SOURCE_ID": "box", "AGGREGATE_CONFIG": json.dumps(rules)}
    box.behind(warehouse, "s.raw_places", "id BIGINT, ts TIMESTAMP, databricks_batch_id STRING")
    own = "minute TIMESTAMP, records BIGINT, databricks_batch_id STRING"
    warehouse.sql(f"CREATE TABLE s.aggregated_places ({own})")
    insert = "INSERT INTO t VALUES (?, '2026-01-01 00:0' || ?)"
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT)", insert, rows=[(n, n) for n in range(1, 9)])
    assert box.run(**settings) == 0
    box.state_file.unlink()
    assert box.run(**later) == 1
    warehouse.drop(["s.raw_places", "s.aggregated_places"])
    assert "knows box, but does not tell up to which row" in caplog.text


@pytest.mark.parametrize("own", ["", ", databricks_batch_id STRING"])
def test_a_cluster_leaves_a_doubt_also_where_a_warehouse_is_asked_later(
    bench: Bench, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without STATEMENT_TIMEOUT nothing says when an absent row can't come any more."""
    assert not up.is_warehouse(bench.config(databricks_http_path="/sql/protocolv1/o/1/0101-123456-abc"))
    bench.create(f"id BIGINT, name STRING, ts TIMESTAMP{own}")
    target = bench.target()
    payload = target.prepare(lambda: iter([rows_of(1)]))
    bounded, unbounded = target.ready(bench.intent(), payload), bench.intent()
    with monkeypatch.context() as patch:
        patch.setattr(up, "is_warehouse", lambda config: False)
        unbounded = target.ready(unbounded, payload)
        for intent in (bounded, unbounded):
            with pytest.raises(up.DoubtError):
                target.settle(intent, lambda: iter([payload.rows]))
    with pytest.raises(up.DoubtError):
        target.settle(unbounded, lambda: iter([payload.rows]))
    del bounded["timeout"]  # As 1.0.0 wrote it.
    assert target.settle(bounded, lambda: iter([payload.rows])) is False


def test_stopping_ends_the_waiting(bench: Bench) -> None:
    """The doubt stays for the next run."""
    bench.create()
    target = bench.target()
    payload = target.prepare(lambda: iter([rows_of(1)]))
    intent = target.ready(bench.intent(), payload)
    target.session.wait = lambda seconds: True
    with pytest.raises(up.Stopped):
        target.settle(intent, lambda: iter([payload.rows]))


def test_a_warehouse_that_counts_otherwise_is_not_believed(bench: Bench) -> None:
    """The number of rows that it says it inserted is compared with what was sent."""
    bench.create()
    target = bench.target()
    payload = target.prepare(lambda: iter([rows_of(1, 2)]))
    intent = target.ready(bench.intent(), payload)
    payload.count = 3
    with pytest.raises(up.LostAnswer, match="2 rows"):
        target.send(intent, payload)


# --- Bulk ---


def bulk(bench: Bench, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> up.WarehouseTarget:
    """A target that takes the way through the volume for two rows or more."""
    target = bench.target(databricks_volume="/Volumes/main/s/v", **settings)
    monkeypatch.setattr(target.copy, "LEAST_ROWS", 1)
    return target


def staged(bench: Bench) -> list[Any]:
    """The files in the volume; an empty one can't be listed."""
    with contextlib.suppress(ServerOperationError):
        return bench.warehouse.sql("LIST '/Volumes/main/s/v'", own=True)
    return []


def test_many_rows_go_as_a_file_and_leave_nothing_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the volume nor on the box. Few rows still go as text."""
    kinds = {f"col {i}": kind for i, kind in enumerate(EDGES)}
    columns = ", ".join(f"{up.quoted_sql(name)} {kind.upper()}" for name, kind in kinds.items())
    bench.create(f"{columns}, databricks_batch_id STRING", " TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")
    target = bulk(bench, monkeypatch)
    values = {n: (EDGES[k] + [None] * 8)[:8] for n, k in kinds.items()}
    intent, _ = bench.send(target, typed_rows(kinds, values))
    assert (intent["route"], bench.executed(), len(staged(bench))) == ("copy", 1, 1)
    target.close()
    assert staged(bench) == [] and list(bench.folder.iterdir()) == []
    expected = sorted(zip(*(array(v, kinds[n]).to_pylist() for n, v in values.items()), strict=True), key=repr)
    _, pages = target.session.query(f"SELECT * FROM s.{bench.table}")
    arrived = sorted((row[:-1] for page in pages for row in page), key=repr)
    assert [comparable(row) for row in arrived] == [comparable(row) for row in expected]
    small, _ = bench.send(target, typed_rows(kinds, {n: v[:1] for n, v in values.items()}))
    assert small["route"] == "insert"


def comparable(row: tuple[Any, ...]) -> list[str]:
    """A row's values as text; the connector gives times without a zone."""
    return [repr(v.replace(tzinfo=None) if isinstance(v, dt.datetime) else v) for v in row]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_copy_whose_answer_is_lost_happens_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, when: str, marked: bool
) -> None:
    """Batch ids tell; without them the same file is offered again, and COPY INTO knows it."""
    bench.create("id BIGINT, name STRING, ts TIMESTAMP" + (", databricks_batch_id STRING" if marked else ""))
    target = bulk(bench, monkeypatch)
    target.columns()
    bench.warehouse.fail("COPY INTO", "drop", when=when)
    intent, _ = bench.lose(target, rows_of(1, 2))
    again = target.settle(intent, lambda: iter([rows_of(1, 2)]))
    assert again is (when == "after" or not marked)
    if not again:
        bench.send(target, rows_of(1, 2))
    target.close()
    assert (bench.arrived(), staged(bench)) == ([1, 2], [])


def test_a_doubt_about_a_file_waits_since_it_was_last_offered_in_another_run_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that may last for less than such a wait would begin it anew for ever."""
    bench.create()
    target, saved = bulk(bench, monkeypatch), list[up.Intent]()
    target.columns()
    bench.warehouse.fail("COPY INTO", "drop", when="before", times=2)
    intent, _ = bench.lose(target, rows_of(1, 2))
    long_ago = (dt.datetime.fromisoformat(intent["started"]) - dt.timedelta(seconds=40)).isoformat()
    monkeypatch.setattr(target.session, "wait", lambda seconds: True)
    earlier: up.Intent = {**intent, "started": long_ago}
    for asked in (intent, earlier):
        with pytest.raises(up.Stopped):  # The second one as it waits for the end of the file that was offered again.
            target.settle(asked, lambda: iter([rows_of(1, 2)]), saved.append)
    [again] = saved
    assert again["started"] == long_ago
    with pytest.raises(up.Stopped):
        target.settle(again, lambda: iter([rows_of(1, 2)]))
    assert target.settle({**again, "again": long_ago}, lambda: iter([rows_of(1, 2)])) is True
    target.close()
    assert bench.arrived() == [1, 2]


def test_the_file_of_a_copy_that_was_refused_is_removed_with_the_cycle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cycle stages a new one while a right is missing, and a service may run for months."""
    bench.create()
    target = bulk(bench, monkeypatch)
    target.columns()
    bench.warehouse.fail(
        "COPY INTO", "error", message="[INSUFFICIENT_PERMISSIONS] no. SQLSTATE: 42501", sqlstate="42501"
    )
    with pytest.raises(up.Rejected):
        bench.send(target, rows_of(1, 2))
    assert len(staged(bench)) == 1
    target.close()
    assert staged(bench) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_a_staged_file_that_can_not_be_read_is_staged_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    bench.create()
    target = bulk(bench, monkeypatch)
    target.columns()
    bench.warehouse.fail("COPY INTO", "drop", when="before")
    intent, _ = bench.lose(target, rows_of(1, 2))
    for file in (bench.warehouse.directory / "volumes").rglob("uploader-*"):
        file.write_bytes(b"PAR1") if is_there else file.unlink()
    if is_there:  # The local warehouse has other words for it.
        said = "[CANNOT_READ_FILE_FOOTER] Could not read footer. SQLSTATE: KD001"
        bench.warehouse.fail("COPY INTO", "error", message=said, sqlstate="KD001")
    assert target.settle(intent, lambda: iter([rows_of(1, 2)])) is True
    assert bench.arrived() == [1, 2]


def test_a_file_that_is_offered_again_keeps_its_columns_though_they_stand_in_another_order_since(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a rebuild of the source's table."""
    bench.create("a BIGINT, b BIGINT")
    target, kinds = bulk(bench, monkeypatch), {"a": "bigint", "b": "bigint"}
    target.columns()
    bench.warehouse.fail("COPY INTO", "drop", when="before")
    intent, _ = bench.lose(target, typed_rows(kinds, {"a": [1, 2], "b": [3, 4]}))
    turned = typed_rows({"b": "bigint", "a": "bigint"}, {"a": [1, 2], "b": [3, 4]})
    assert target.settle(intent, lambda: iter([turned])) is True
    target.close()
    assert bench.arrived("a, b") == [(1, 3), (2, 4)]


def test_a_staged_file_outlives_its_rows_in_the_source(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The producer deleted some of them before the doubt was settled; the file has them all."""
    bench.create()
    target = bulk(bench, monkeypatch)
    target.columns()
    bench.warehouse.fail("COPY INTO", "drop", when="before")
    intent, _ = bench.lose(target, rows_of(1, 2, 3))
    assert target.settle(intent, lambda: iter([rows_of(2, 3)])) is True
    assert bench.arrived() == [1, 2, 3]


def test_closing_removes_only_what_the_target_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever directory it was given, and whatever lies there."""
    bench.create()
    target = bulk(bench, monkeypatch)
    theirs = bench.folder / "last_upload.json"
    theirs.touch()
    target.close()
    bench.send(target, rows_of(1, 2))
    assert len(list(bench.folder.iterdir())) == 2
    target.close()
    assert list(bench.folder.iterdir()) == [theirs]


def test_a_file_that_could_not_be_removed_is_removed_with_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may run for months."""
    bench.create()
    target = bulk(bench, monkeypatch)
    bench.warehouse.fail("^LIST", "status", status=400)
    with pytest.raises(up.RefusedSizeError):
        bench.send(target, rows_of(1, 2))
    bench.warehouse.fail("^REMOVE", "error")
    bench.send(target, rows_of(1, 2))
    target.close()
    assert len(staged(bench)) == 1
    bench.send(target, rows_of(3, 4))
    target.close()
    assert staged(bench) == []


@pytest.mark.parametrize("folder", ["", "/of/a/box"])
def test_a_volume_without_files_or_a_folder_that_the_first_one_makes_is_no_fault_of_a_check(
    box: Box, warehouse: Warehouse, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    box.behind(warehouse, "s.raw_folder", "id BIGINT, time TIMESTAMP")
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT)", "INSERT INTO t VALUES (1, '2026-01-01')")
    assert box.run("--check", DATABRICKS_VOLUME=f"/Volumes/main/s/v{folder}") == 0
    assert f"/Volumes/main/s/v{folder} can be listed" in capsys.readouterr().out


def test_a_volume_that_cannot_be_listed_takes_files(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked through for rubbish alone, and what servers say of an empty one is not documented."""
    bench.create()
    bench.warehouse.fail("^LIST", "error", message="Nothing is here", sqlstate="58030")
    bench.send(bulk(bench, monkeypatch), rows_of(1, 2))
    assert bench.arrived() == [1, 2] and bench.warehouse.statements("COPY INTO `s`.`" + bench.table)


def test_rows_that_are_too_large_for_text_are_not_made_into_text(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """That would take several times their memory."""
    bench.create()
    target = bench.target(databricks_volume="/Volumes/main/s/v")
    monkeypatch.setattr(target.usual, "text_of", lambda pages: pytest.fail("they were"))
    payload = target.prepare(lambda: iter([rows_of(*range(200), name="x" * 10_000)]))
    assert payload.route == "copy"


def test_large_rows_behind_small_ones_are_not_made_into_text_for_each_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hundred MB of them, as text, for each of the requests that small ones go in, took gigabytes."""
    bench.create()
    target, small, large = bench.target(), rows_of(*range(100)), rows_of(*range(100, 160), name="x" * 200_000)
    monkeypatch.setattr(up, "Insert", lambda *_: pytest.fail("they were"))

    def pages() -> Iterator[Any]:
        yield from (small, large)
        pytest.fail("more were read")

    with pytest.raises(up.TooLargeError) as refused:
        target.prepare(pages)
    assert refused.value.fitting == 100
    with pytest.raises(up.TooLargeError) as refused:
        target.prepare(lambda: iter([large]))
    assert refused.value.fitting == 5


def test_a_file_in_a_volume_that_is_no_longer_set_is_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.create("id BIGINT, name STRING, ts TIMESTAMP, databricks_batch_id STRING")
    target = bulk(bench, monkeypatch)
    target.columns()
    bench.warehouse.fail("COPY INTO", "drop", when="after")
    intent, _ = bench.lose(target, rows_of(1, 2))
    later = bench.target()
    assert later.settle(intent, lambda: iter([rows_of(1, 2)])) is True
    later.close()
    assert staged(bench) == []


def test_files_that_a_killed_run_left_are_removed_by_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this source; others' files in the volume are none of its business."""
    bench.create()
    killed = bulk(bench, monkeypatch)
    killed.ready(bench.intent(), killed.prepare(lambda: iter([rows_of(1, 2)])))
    other = bulk(bench, monkeypatch)
    foreign: up.Intent = {**bench.intent(), "application": "sqlite-uploader/other"}
    other.ready(foreign, other.prepare(lambda: iter([rows_of(1, 2)])))
    assert len(staged(bench)) == 2
    following = bulk(bench, monkeypatch)
    bench.send(following, rows_of(1, 2))
    following.close()
    [(left, *_)] = staged(bench)
    bench.warehouse.sql(f"REMOVE '{left}'")


def test_an_upload_that_fails_commits_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """PUT comes before anything is promised, so it may fail and be tried again."""
    bench.create()
    target = bulk(bench, monkeypatch)
    payload = target.prepare(lambda: iter([rows_of(1, 2)]))
    intent = bench.intent()
    bench.warehouse.fail("StagedPUT", "status", status=500, times=5)
    with pytest.raises(up.UploaderError):
        target.ready(intent, payload)
    bench.warehouse.heal()
    target.send(target.ready(intent, payload), payload)
    assert bench.arrived() == [1, 2]


@pytest.mark.parametrize("step", ["ready", "send"])
@pytest.mark.parametrize(
    ("fault", "kind"), [({"action": "status", "status": 502}, up.Unanswered), ({"action": "error"}, up.Rejected)]
)
def test_a_session_that_ends_and_does_not_come_back_sets_no_file_aside(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, fault: dict[str, Any], kind: type[Exception]
) -> None:
    """As where an outage begins amid a large file: what is refused is no matter of its rows."""
    bench.create()
    target = bulk(bench, monkeypatch)
    bench.send(target, rows_of(1, 2))
    intent, payload = bench.intent(), target.prepare(lambda: iter([rows_of(3, 4)]))
    if step == "send":
        intent = target.ready(intent, payload)
    target.session.close()
    bench.warehouse.fail("OpenSession", times=-1, **fault)
    with pytest.raises(kind):
        target.send(intent, payload) if step == "send" else target.ready(intent, payload)
    bench.warehouse.heal()
    target.send(intent if step == "send" else target.ready(intent, payload), payload)
    assert bench.arrived() == [1, 2, 3, 4]


def test_a_single_row_whose_file_is_lost_on_its_way_has_a_second_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the second loss it goes as text; one that is too large for that is so for a file, for all that can be told."""
    bench.create()
    target = bulk(bench, monkeypatch)
    bench.warehouse.fail("StagedPUT", "drop")
    intent, payload = bench.intent(), target.copy.prepare(iter([rows_of(1)]))
    target.send(target.ready(intent, payload), payload)
    assert bench.arrived() == [1]
    bench.warehouse.fail("StagedPUT", "drop", times=4)
    payload = target.copy.prepare(iter([rows_of(2)]))
    intent = target.ready(bench.intent(), payload)
    target.send(intent, payload)
    assert (intent["route"], bench.arrived()) == ("insert", [1, 2])
    monkeypatch.setattr(target.insert, "MOST_BYTES", 10)
    with pytest.raises(up.RefusedSizeError, match="ProtocolError"):
        target.ready(intent, target.copy.prepare(iter([rows_of(3)])))


@pytest.mark.parametrize("status", [403, 503])
@pytest.mark.parametrize("own", ["", ", databricks_batch_id STRING"])
def test_large_rows_go_as_text_where_no_file_can_be_put(box: Box, warehouse: Warehouse, status: int, own: str) -> None:
    """As in an outage of the volume's store; also where the answer is lost then."""
    box.behind(warehouse, "s.raw_large", f"id BIGINT, v STRING{own}")
    box.environ |= {"DATABRICKS_VOLUME": "/Volumes/main/s/v", "DATABRICKS_STATEMENT_TIMEOUT": "5"}
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    large = 1_100_000  # a statement of text begins at 1 MiB
    box.execute("INSERT INTO t VALUES (?, ?)", rows=[(id, "x" * large) for id in range(3)])
    warehouse.fail("StagedPUT", "status", status=status, times=-1)
    warehouse.fail("INSERT INTO", "drop", when="after", skip=1)
    assert [box.run(), box.run()] == [1, 0]
    assert box.quarantined() == []
    found = warehouse.sql("SELECT id, length(v) FROM s.raw_large ORDER BY id")
    assert found == [(0, large), (1, large), (2, large)]


def test_an_insert_is_settled_as_one_though_a_volume_was_set_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are compared, and not copied on top."""
    bench.create()
    target = bench.target()
    target.columns()
    bench.warehouse.fail("INSERT INTO", "drop", when="after")
    intent, _ = bench.lose(target, rows_of(1, 2))
    other = bulk(bench, monkeypatch)
    assert other.settle(intent, lambda: iter([rows_of(1, 2)])) is True


def test_the_server_can_name_no_file_to_read(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A PUT that the server answers with a path of its own is refused by the driver."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(up.TargetError, match="staging_allowed_local_path"):
        bench.target().session.run(f"PUT '{secret}' INTO '/Volumes/main/s/v/x' OVERWRITE")
    assert staged(bench) == []


# --- Errors ---


def raised(work: Callable[[], object]) -> up.UploaderError:
    """The error of `work`; it has a hint, and comes within seconds."""
    started = time.monotonic()
    with pytest.raises(up.UploaderError) as caught:
        work()
    assert caught.value.hint and time.monotonic() - started < 15
    return caught.value


def test_a_wrong_token_is_refused_with_a_remedy(bench: Bench) -> None:
    """Renewing it is a person's job."""
    error = raised(bench.target(databricks_token="dapi-wrong").columns)
    assert isinstance(error, up.Rejected) and "Invalid access token" in str(error) and "token" in error.hint


def test_an_unknown_warehouse_is_said_at_once(bench: Bench) -> None:
    """The driver alone would try for a quarter of an hour."""
    error = raised(bench.target(databricks_http_path="/sql/1.0/warehouses/other").columns)
    assert isinstance(error, up.Rejected) and "DATABRICKS_WAREHOUSE_ID" in error.hint


def test_an_unreachable_host_passes_by_itself(bench: Bench) -> None:
    """Refused connections, and names that nobody knows."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    refused = raised(bench.target(databricks_host=f"localhost:{port}").columns)
    unknown = raised(bench.target(databricks_host="no-such-host.invalid").columns)
    assert isinstance(refused, up.Postponed) and isinstance(unknown, up.Postponed)
    assert "typo" in unknown.hint


def test_a_missing_table_is_named(bench: Bench) -> None:
    """With what to do about it."""
    error = raised(bench.target().columns)
    assert isinstance(error, up.Rejected) and bench.table in str(error) and "--print-ddl" in error.hint
    schema = raised(bench.target(databricks_database="nowhere").columns)
    assert isinstance(schema, up.Rejected)


def test_a_missing_right_is_explained(bench: Bench) -> None:
    """The grants are named."""
    bench.create()
    target = bench.target()
    target.columns()
    message = "[INSUFFICIENT_PERMISSIONS] User does not have MODIFY on Table 't'. SQLSTATE: 42501"
    bench.warehouse.fail("INSERT INTO", "error", message=message, sqlstate="42501")
    error = raised(lambda: bench.send(target, rows_of(1)))
    assert isinstance(error, up.Rejected) and "MODIFY" in error.hint
    target.close()
    bench.send(target, rows_of(1))
    assert len(bench.warehouse.statements(f"DESCRIBE TABLE `s`.`{bench.table}`")) == 2


def test_a_refused_value_did_not_run(bench: Bench) -> None:
    """NOT NULL is enforced by the table; nothing of the batch is there."""
    bench.create("id BIGINT, name STRING NOT NULL, ts TIMESTAMP")
    target = bench.target()
    payload = target.prepare(lambda: iter([rows_of(1, name=None)]))
    intent = target.ready(bench.intent(), payload)
    error = raised(lambda: target.send(intent, payload))
    assert isinstance(error, up.RefusedValuesError)
    assert (bench.arrived(), bench.waited) == ([], [])


def test_a_forgotten_session_is_replaced(bench: Bench) -> None:
    """Warehouses forget idle sessions; the rows then wait for the next cycle."""
    bench.create()
    target = bench.target()
    target.columns()
    bench.warehouse.close_sessions()
    with pytest.raises(up.UploaderError):
        bench.send(target, rows_of(1))
    target.close()
    bench.send(target, rows_of(1))
    assert bench.arrived() == [1]


@pytest.mark.parametrize("how", ["refuse", "operations"])
def test_a_stopped_warehouse_is_waited_for(bench: Bench, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a line in the log for each try."""
    bench.create()
    target = bench.target()
    bench.warehouse.starting(1.0, how)
    target.session.wait = lambda seconds: time.sleep(0.3)
    with caplog.at_level(logging.WARNING, "uploader"):
        bench.send(target, rows_of(1))
    assert "waiting" in caplog.text and bench.arrived() == [1]


def test_a_warehouse_that_does_not_start_is_given_up(bench: Bench) -> None:
    """After ten minutes, none of which is slept here; and a stop ends the waiting at once."""
    bench.warehouse.fail("OpenSession", "status", status=503, times=-1)
    error = raised(bench.target().columns)
    assert isinstance(error, up.NotReady) and 300 < sum(bench.waited) <= up.START_SECONDS
    stopped = bench.target()
    stopped.session.wait = lambda seconds: True
    with pytest.raises(up.Stopped):
        stopped.columns()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("42601", up.Rejected),
        ("22018", up.RefusedValuesError),
        ("23502", up.RefusedValuesError),
        ("54000", up.RefusedSizeError),
        ("2D521", up.Postponed),
        ("40000", up.Postponed),
        ("57014", up.LostAnswer),
        ("08KD1", up.LostAnswer),
        ("58030", up.LostAnswer),
        ("XX000", up.LostAnswer),
        ("HY008", up.LostAnswer),
        ("KD000", up.LostAnswer),
        ("KD001", up.Rejected),
        ("KD004", up.Rejected),
        ("56038", up.Rejected),
        ("40003", up.LostAnswer),
    ],
)
def test_an_sqlstate_says_whether_a_statement_ran(state: str, kind: type[Exception]) -> None:
    """What does not say so for certain counts as lost, so the table is asked."""
    assert type(up.server_error(f"[SOME_CONDITION] What happened. SQLSTATE: {state}", writes=True)) is kind
    assert not isinstance(up.server_error(f"[X_Y] What. SQLSTATE: {state}", writes=False), up.LostAnswer)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[DELTA_POST_COMMIT_HOOK_FAILED] Committing to the Delta table version 7 succeeded but …. SQLSTATE: 2DKD0", up.LostAnswer),
        ("Committing to the Delta table succeeded but …. SQLSTATE: 2DKD0", up.LostAnswer),
        ("[X_Y] a row says 'DELTA_POST_COMMIT_HOOK_FAILED'. SQLSTATE: 23001", up.RefusedValuesError),
        ("[INCOMPATIBLE_DATA_FOR_TABLE.CANNOT_SAFELY_CAST] Cannot safely cast `v` \"STRING\" to \"INT\". SQLSTATE: KD000", up.Rejected),
        ("[X_Y] a row says [INCOMPATIBLE_DATA_FOR_TABLE]. SQLSTATE: KD000", up.LostAnswer),
        ("[DELTA_FAILED_TO_MERGE_FIELDS] Failed to merge fields 'v' and 'v'. SQLSTATE: 22005", up.Rejected),
        ("the store says PERMISSION_DENIED. SQLSTATE: 58030", up.LostAnswer),
        ("gRPC message exceeds maximum size 67108864: 70000000. SQLSTATE: XX000", up.LostAnswer),
        ("response headers too large. SQLSTATE: 08006", up.LostAnswer),
        ("the statement is too large. SQLSTATE: 42000", up.RefusedSizeError),
        ("request entity too large", up.RefusedSizeError),
    ],
)  # fmt: skip
def test_what_may_have_been_committed_is_in_doubt_whatever_the_words(message: str, kind: type[Exception]) -> None:
    assert type(up.server_error(message, True)) is kind


def test_a_message_without_an_sqlstate_is_known_by_its_condition() -> None:
    """Older servers; a message that says nothing leaves the question open."""
    for state in ("42808", "42809"):
        assert "not a view" in up.server_error(f"[X_Y] What. SQLSTATE: {state}", writes=True).hint
    denied = up.server_error("PERMISSION_DENIED: User does not have USE SCHEMA on Schema 's'.", writes=True)
    assert isinstance(denied, up.Rejected) and "USE SCHEMA" in denied.hint
    assert isinstance(up.server_error("Invalid SessionHandle: SessionHandle [x]", writes=True), up.LostAnswer)
    assert str(up.server_error("", writes=False))


def test_why_a_file_got_no_answer_is_told_without_its_signed_address() -> None:
    """The driver keeps the cause as the context of its error; a volume's store is a host of its own."""
    refused = NewConnectionError(HTTPConnection("store"), "Connection refused")
    with pytest.raises(up.Unanswered, match="Connection refused") as told, up.driver_errors():
        try:
            raise MaxRetryError(None, "/file?sig=s3cret", refused)  # type: ignore[arg-type]
        except MaxRetryError as error:
            raise RequestError(f"HTTP request failed: {error}", {})  # noqa: B904 - as the driver does
    assert "s3cret" not in str(told.value)


def test_a_warehouse_of_another_protocol_is_refused_and_an_sdk_that_reaches_nobody_is_no_refusal() -> None:
    """The driver imports a kernel that is not there; databricks-sdk lets the failures of its requests through."""
    with pytest.raises(up.Rejected, match="another protocol") as told, up.driver_errors():
        raise ImportError("databricks_sql_kernel")
    assert told.value.hint == "Use another SQL warehouse."

    def unreachable() -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(up.Unreachable, match="can't be reached"):
        up.in_time(unreachable)


def test_why_a_store_refuses_a_file_is_told_in_its_own_words() -> None:
    """S3 and Azure answer in XML, of which the first line says nothing."""
    said = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message>'
    )
    with pytest.raises(up.UploaderError) as told, up.driver_errors():
        raise OperationalError(f"Staging operation over HTTP was unsuccessful: 403-{said}<AWSAccessKeyId>AK")
    assert str(told.value).endswith("unsuccessful: 403-AccessDenied: Request has expired")


def test_an_error_that_shows_the_statement_is_not_taken_for_its_refusal_to_begin() -> None:
    """Every statement has the words with which it refuses to begin too late."""
    shown = f"[INTERNAL_ERROR] Lost. SQLSTATE: XX000\n== SQL ==\nINSERT INTO t SELECT 1 WHERE {up.not_later_than('2026-01-01T00:00:00+00:00', 1)}"
    assert isinstance(up.server_error(shown, writes=True), up.LostAnswer)
    began = up.server_error("[USER_RAISED_EXCEPTION] begun too late SQLSTATE: P0001", writes=True)
    assert isinstance(began, up.Postponed) and "too late" in str(began)


# --- Signing in ---


def test_a_token_goes_to_databricks_alone(bench: Bench) -> None:
    """Another host needs a CA file that vouches for it."""
    for host in ("localhost:1", "evil.example", "databricks.com.evil.example", "xdatabricks.com"):
        error = raised(bench.target(databricks_host=host, databricks_ca_file=None).columns)
        assert isinstance(error, up.ConfigError) and "databricks_ca_file" in error.hint
    for host in ("a.cloud.databricks.com", "adb-1.2.azuredatabricks.net", "1.1.gcp.databricks.com"):
        up.refuse_host(bench.config(databricks_ca_file=None), host)


def certificate(folder: Path, name: str, days: int) -> Path:
    """A PEM file with a key and a certificate for `name` that signs itself and is good for so many days from now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(title, title, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{name}.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@contextlib.contextmanager
def host_with(certificate: Path) -> Iterator[str]:
    """The address of a host that shakes hands with this certificate, and does nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("localhost", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"localhost:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "days", "trusted", "why"),
    [
        ("localhost", 1, False, "self-signed|unable to get"),
        ("localhost", -1, True, "expired"),
        ("other.example", 1, True, "mismatch|not valid for"),
    ],
)
def test_a_wrong_certificate_is_refused(
    bench: Bench, tmp_path: Path, name: str, days: int, trusted: bool, why: str
) -> None:
    """Verification can't be switched off, only directed: strangers, expired ones, and those for other names."""
    pem = certificate(tmp_path, name, days)
    with host_with(pem) as address:
        ca_file = pem if trusted else bench.warehouse.ca_file
        error = raised(bench.target(databricks_host=address, databricks_ca_file=ca_file).columns)
    assert isinstance(error, up.Rejected) and re.search(why, str(error)) and "databricks_ca_file" in error.hint


def test_a_ca_file_that_is_none_is_named(bench: Bench, tmp_path: Path) -> None:
    """Missing, or without a certificate."""
    file = tmp_path / "ca.pem"
    for content in (None, "no certificate"):
        if content:
            file.write_text(content)
        with pytest.raises(up.ConfigError, match="databricks_ca_file"):
            bench.target(databricks_ca_file=file).columns()


def test_a_service_principal_signs_in(bench: Bench) -> None:
    """By client id and secret, through the same CA file; a wrong secret is told apart from a wrong host."""
    name, secret = bench.warehouse.client
    bench.create()
    settings: dict[str, Any] = {"databricks_token": None, "databricks_client_id": name}
    bench.send(bench.target(databricks_client_secret=secret, **settings), rows_of(1))
    assert bench.arrived() == [1]
    error = raised(bench.target(databricks_client_secret="wrong", **settings).columns)
    assert isinstance(error, up.Rejected) and "DATABRICKS_CLIENT_SECRET" in error.hint
    nowhere = bench.config(databricks_client_secret=secret, databricks_host="localhost:1", **settings)
    with pytest.raises(up.TransientError):
        up.Session(nowhere, {}).token()


def test_an_expired_token_says_so(bench: Bench) -> None:
    """Tokens of service principals live an hour; the next session gets a new one."""
    name, secret = bench.warehouse.client
    bench.create()
    target = bench.target(databricks_token=None, databricks_client_id=name, databricks_client_secret=secret)
    target.columns()
    bench.warehouse.request("POST", "/admin/expire_tokens")
    error = raised(lambda: bench.send(target, rows_of(1)))
    assert "expired" in str(error)
    target.session.close()
    bench.send(target, rows_of(1))
    assert bench.arrived() == [1]


@contextlib.contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of an HTTP proxy, and the places that it was asked to connect to."""
    asked: list[str] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        place = client.recv(65536).split()[1].decode()
        asked.append(place)
        name, _, port = place.rpartition(":")
        far = socket.create_connection((name, int(port)))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for pair in ((client, far), (far, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


def test_a_proxy_is_used_on_the_whole_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tokens, statements and files; and a proxy that is down is said to be."""
    name, secret = bench.warehouse.client
    bench.create()
    with proxy() as (address, asked):
        monkeypatch.setenv("HTTPS_PROXY", address)
        settings = {"databricks_client_id": name, "databricks_client_secret": secret}
        target = bulk(bench, monkeypatch, databricks_token=None, **settings)
        bench.send(target, rows_of(1, 2))
        target.close()
        assert set(asked) == {bench.warehouse.address} and len(asked) >= 3
    assert bench.arrived() == [1, 2]
    error = raised(bench.target().columns)
    assert isinstance(error, up.Postponed) and "HTTPS_PROXY" in error.hint


def test_no_credentials_are_told_and_no_browser_opened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by default nor when asked for."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bench.warehouse.ca_file))
    for environ in ({}, {"DATABRICKS_AUTH_TYPE": "external-browser"}):
        error = raised(bench.target(environ, databricks_token=None).columns)
        assert isinstance(error, up.ConfigError) and "DATABRICKS_CLIENT_ID" in error.hint
    assert "browser" in str(error)


def test_a_profile_signs_in(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By databricks-sdk, which reads its file and, for a CA of one's own, REQUESTS_CA_BUNDLE."""
    file = tmp_path / "databrickscfg"
    file.write_text(f"[box]\nhost = https://ignored.example\ntoken = {bench.warehouse.token}\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(file))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bench.warehouse.ca_file))
    bench.create()
    target = bench.target(databricks_token=None, databricks_config_profile="box")
    assert list(target.columns()) == list(ROWS)
    error = raised(bench.target(databricks_token=None, databricks_config_profile="none").columns)
    assert isinstance(error, up.ConfigError) and "DATABRICKS_CONFIG_PROFILE" in error.hint
    file.write_text("[box]\nhost = https://ignored.example\nauth_type = external-browser\n")
    error = raised(bench.target(databricks_token=None, databricks_config_profile="box").columns)
    assert isinstance(error, up.ConfigError) and "browser" in str(error)


def test_two_ways_to_sign_in_need_a_decision(bench: Bench) -> None:
    """As Databricks' own tools have it, DATABRICKS_AUTH_TYPE decides."""
    both: dict[str, Any] = {"databricks_client_id": "robot", "databricks_client_secret": "x"}
    error = raised(bench.target(**both).columns)
    assert isinstance(error, up.ConfigError) and "DATABRICKS_AUTH_TYPE" in error.hint
    assert "access_token" in up.credentials(bench.config(**both), {"DATABRICKS_AUTH_TYPE": "pat"})
    assert "credentials_provider" in up.credentials(bench.config(**both), {"DATABRICKS_AUTH_TYPE": "oauth-m2m"})


def test_a_damaged_token_is_not_shown(bench: Bench) -> None:
    """The libraries would put it into their errors."""
    for token in ("dapi\nsecret", "dapi…secret", "dapi secret"):
        error = raised(bench.target(databricks_token=token).columns)
        assert isinstance(error, up.ConfigError) and "secret" not in f"{error}{error.hint}"


@contextlib.contextmanager
def everything_logged() -> Iterator[list[str]]:
    """The lines of all loggers at DEBUG, whatever their own levels."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name} {record.getMessage()} {record.exc_info} {vars(record)}")

    handler = Collector()
    loggers = [logging.getLogger()] + [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    logging.getLogger("databricks.sql.unsafe").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("databricks.sql.unsafe").removeHandler(handler)
        for logger, level in before:
            logger.setLevel(level)


def test_no_log_record_has_the_token(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even at DEBUG, where drivers are talkative, and not when things fail."""
    bench.create()
    bulk(bench, monkeypatch).columns()
    with everything_logged() as lines:
        target = bulk(bench, monkeypatch)
        bench.send(target, rows_of(1, 2))
        bench.warehouse.fail("INSERT INTO", "drop")
        with contextlib.suppress(up.UploaderError):
            bench.send(target, rows_of(1))
        target.close()
        for name, value in (("token", "dapi-canary-2"), ("http_path", "/sql/1.0/warehouses/x")):
            with contextlib.suppress(up.UploaderError):
                bench.target(**{f"databricks_{name}": value}).columns()
    logged = "\n".join(lines)
    assert "urllib3" in logged and "databricks.sql" in logged
    assert bench.warehouse.token not in logged and "dapi-canary-2" not in logged


def test_log_lines_hold_no_secrets_and_no_signed_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made the record."""
    monkeypatch.setattr(up, "SECRETS", ["dapi123"])
    message = 'PUT %s key=%s "GET /v/x?X-Amz-Signature=abc&b=1 HTTP/1.1"'
    record = logging.LogRecord("x", logging.DEBUG, "f", 1, message, (1, "dapi123"), None)
    for as_json in (False, True):
        line = up.LogLines(as_json, {}).format(record)
        assert (json.loads(line)["message"] if as_json else line).endswith('PUT 1 key=*** "GET /v/x?*** HTTP/1.1"')


def test_drivers_are_silent_unless_asked(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """No warning about old retries, or about packages that are missing on purpose, reaches the user."""
    bench.create()
    with contextlib.suppress(up.UploaderError):
        bench.target(databricks_token="wrong").columns()
    bench.target().columns()
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_silent_host_is_given_up_soon(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes connections and says nothing, as firewalls do."""
    monkeypatch.setattr(up, "ANSWER_SECONDS", 1)
    with socket.create_server(("localhost", 0)) as server:
        accepted: list[socket.socket] = []
        threading.Thread(target=lambda: accepted.extend(server.accept()[0] for _ in range(2)), daemon=True).start()
        config = bench.config(databricks_host=f"localhost:{server.getsockname()[1]}", databricks_statement_timeout=1)
        with pytest.raises(up.TransientError):
            up.connect(config, {})


def test_pages_of_a_query_come_one_at_a_time(bench: Bench) -> None:
    """Names first, then rows; an error in the SQL is the user's."""
    target = bench.target()
    names, pages = target.session.query("SELECT id AS n, CAST(id AS DECIMAL(9,2)) AS d FROM range(2500)")
    assert names == ["n", "d"]
    sizes = [len(page) for page in pages]
    assert sizes == [1000, 1000, 500]
    assert next(target.session.query("SELECT CAST(1.5 AS DECIMAL(5,2))")[1]) == [(Decimal("1.50"),)]
    with pytest.raises(up.Rejected):
        target.session.query("SELEC 1")


def test_the_newest_batch_of_a_source_is_known(bench: Bench) -> None:
    """For a box that lost its state; other sources' batches don't count, nor does the order of text."""
    bench.create("id BIGINT, databricks_batch_id STRING")
    batches = ["a/0/000000000009/90", "a/10/000000000001/5", "a/9/000000000002/7", "ab/99/000000000001/1"]
    values = ", ".join(f"(1, '{batch}')" for batch in batches)
    bench.warehouse.sql(f"INSERT INTO s.{bench.table} VALUES {values}")
    assert bench.target().last_batch("a") == "a/10/000000000001/5"
    assert bench.target().last_batch("none") is None
