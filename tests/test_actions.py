"""Chapter Actions: looking, checking, trying, repairing; and what is said while cycles run."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import fcntl
import functools
import io
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

import sensor_table
import sqlite_to_databricks_uploader as up
from adversary import load_the_rest
from boxes import LONG, PROGRAM, Box, interrupted_at
from test_plan import schema_of, table_in_log
from warehouse import Warehouse

TABLE = "CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, value REAL, note TEXT)"
INSERT = "INSERT INTO s (timestamp, value, note) VALUES (?, ?, ?)"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("warehouse")) as running:
        yield running


@pytest.fixture
def schema(warehouse: Warehouse, request: pytest.FixtureRequest) -> str:
    """A schema of its own for each test."""
    name = "s" + re.sub(r"\W", "_", request.node.name)[-40:].lower()
    warehouse.heal()
    warehouse.sql(f"CREATE SCHEMA {name}")
    return name


def to_warehouse(box: Box, warehouse: Warehouse, schema: str) -> None:
    """Point a box at the warehouse; a higher layer must not name another target."""
    del box.environ["LAKEHOUSE_PATH"]
    box.environ |= {**warehouse.environment(), "DATABRICKS_DATABASE": schema}


@pytest.fixture
def printed(box: Box, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a run prints that ends well."""

    def run(*flags: str) -> str:
        capsys.readouterr()
        assert box.run(*flags) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def create(box: Box, warehouse: Warehouse, schema: str, printed: Callable[..., str]) -> Callable[[], None]:
    """Points the box at a schema of its own, with the tables that --print-ddl prints."""

    def run() -> None:
        to_warehouse(box, warehouse, schema)
        for statement in filter(str.strip, printed("--print-ddl").split(";\n")):
            warehouse.sql(statement)

    return run


def some_rows(box: Box, count: int = 3) -> None:
    box.execute(TABLE, INSERT, rows=[(f"2026-01-01T00:00:{i:02}Z", i / 2, f"n{i}") for i in range(count)])


# --- Queries ---


def test_info_shows_tables_descriptions_and_row_counts_of_a_lakehouse(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    assert box.run() == 0
    assert (
        box.run("--enable-filter", "--filter-config", '{"value": {">": 0}}', "--state-dir", str(box.folder / "f")) == 0
    )
    del box.environ["SQLITE_PATH"]
    out = printed("--run-query", "INFO")
    assert re.search(r"Rows in raw_readings\nrows\n----\n3\n", out)
    assert re.search(r"Rows in filtered_readings\nrows\n----\n2\n", out)
    assert re.search(r"value\s+double", out)


@pytest.mark.parametrize("by", ["lakehouse", "table"])
def test_the_status_table_can_be_asked_where_rows_go_by_path(box: Box, printed: Callable[..., str], by: str) -> None:
    some_rows(box)
    if by == "table":
        box.environ["TABLE_PATH"] = f"{box.environ.pop('LAKEHOUSE_PATH')}/readings"
    box.environ["UPLOAD_STATUS_TABLE"] = "boxes"
    assert box.run() == 0
    assert json.loads(printed("--run-query", "SELECT waiting, stream FROM boxes", "--format", "json"))["waiting"] == 0


def test_info_and_queries_work_on_a_warehouse(
    box: Box, schema: str, create: Callable[[], None], printed: Callable[..., str]
) -> None:
    some_rows(box)
    create()
    assert box.run() == 0
    out = printed("--run-query", "info")
    assert "raw_readings" in out
    assert re.search(r"Rows in raw_readings\nrows\n----\n3\n", out)
    out = printed("--run-query", f"SELECT id, note FROM {schema}.raw_readings ORDER BY id", "--format", "json")
    assert [json.loads(line)["note"] for line in out.splitlines()] == ["n0", "n1", "n2"]
    for name in ("SQLITE_PATH", "DATABRICKS_TABLE"):
        del box.environ[name]
    assert "raw_readings" in printed("--run-query", "INFO")
    del box.environ["DATABRICKS_DATABASE"]
    assert printed("--run-query", "SELECT 1 AS one", "--format", "csv") == "one\n1\n"
    assert box.run("--run-query", "INFO") == 2


@pytest.mark.parametrize("table", ["Readings", "A.b c", 'q"d'])
def test_queries_know_a_table_by_its_name_whatever_its_letters(
    box: Box, printed: Callable[..., str], table: str
) -> None:
    box.sample()
    box.environ["DATABRICKS_TABLE"] = table
    assert box.run() == 0
    assert "3000" in printed("--run-query", "INFO")
    assert "3000" in printed("--run-query", f"SELECT count(*) FROM {up.quoted(f'raw_{table}')}")
    if table == "Readings":
        assert "3000" in printed("--run-query", "SELECT count(*) FROM raw_Readings, (SELECT 1) LIMIT 1")


def test_a_query_opens_none_but_the_tables_that_it_names(
    box: Box, printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box.execute(
        *(f"CREATE TABLE {name} (v INTEGER)" for name in "abc"), *(f"INSERT INTO {n} VALUES (1)" for n in "abc")
    )
    box.environ |= {"UPLOAD_TABLES": "*"}
    assert box.run() == 0
    opened, real = list[str](), up.DeltaTarget.table

    def table(target: up.DeltaTarget) -> Any:
        opened.append(Path(target.name).name)
        return real(target)

    monkeypatch.setattr(up.DeltaTarget, "table", table)
    assert printed("--run-query", "SELECT v FROM raw_b", "--format", "csv") == "v\n1\n"
    assert opened == ["raw_b"]


def test_init_opens_the_database_once_for_all_tables(
    box: Box, printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that takes a private copy, it would be made for each of them."""
    for name in "abc":
        box.execute(
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, time TEXT)", f"INSERT INTO {name} VALUES (1, '2026-01-01')"
        )
    opened, real = list[Path](), up.Database.__enter__

    def enter(self: up.Database) -> up.Database:
        opened.append(box.database)
        return real(self)

    monkeypatch.setattr(up.Database, "__enter__", enter)
    assert printed("--init").count("- sqlite_table_name") == 3
    assert len(opened) == 1


def test_a_result_comes_as_csv_with_its_quotes(box: Box, printed: Callable[..., str]) -> None:
    notes = ['a "quoted", text\nof two lines', "a\rb", "c\r\nd"]
    box.execute(TABLE, INSERT, rows=[("2026-01-01", None, note) for note in notes])
    assert box.run() == 0
    out = printed("--run-query", "SELECT note, value FROM raw_readings ORDER BY id", "--format", "csv")
    assert list(csv.reader(io.StringIO(out, newline=""))) == [["note", "value"], *([note, ""] for note in notes)]
    assert "\r\n" not in out.replace("c\r\nd", "")


def test_a_result_that_is_a_length_of_time_is_shown_as_text(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    for form in ("csv", "json", "table"):
        assert "1 days" in printed("--run-query", "SELECT interval '1 day' AS i", "--format", form)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("arrow_cast(9999999, 'Date32')", "+29349-01-25"),
        ("arrow_cast(-9999999, 'Date32')", "-25410-12-07"),
        ("to_timestamp_seconds(300000000000)", "+11476-08-15T05:20:00"),
        ("make_array(arrow_cast(9999999, 'Date32'))", "[+29349-01-25]"),
        ("ARRAY[interval '1 day']", "[1 days]"),
    ],
)
def test_what_python_has_no_value_for_is_shown_as_text(
    box: Box, printed: Callable[..., str], asked: str, said: str
) -> None:
    some_rows(box)
    assert json.loads(printed("--run-query", f"SELECT {asked} AS x", "--format", "json")) == {"x": said}


@pytest.mark.parametrize("asked", ["1/0", "CAST(note AS INT)", "named_struct('a', interval '1 day')"])
def test_a_query_that_fails_while_rows_are_fetched_ends_with_one_error(
    box: Box, caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    some_rows(box)
    assert box.run() == 0
    assert box.run("--run-query", f"SELECT {asked} FROM raw_readings") == 1
    assert caplog.records[-1].getMessage().startswith("the query was refused: ")


def test_a_table_whose_file_is_gone_is_told_by_a_query(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    some_rows(box)
    assert box.run() == 0
    next((box.folder / "lake" / "raw_readings").glob("*.parquet")).unlink()
    assert box.run("--run-query", "SELECT * FROM raw_readings") == 1
    assert "the query was refused: " in caplog.text and "not found" in caplog.text


@pytest.mark.parametrize("statement", ["DROP TABLE raw_readings", "CREATE TABLE x AS SELECT 1", "SET x.y = 1"])
def test_what_a_query_by_path_can_not_do_is_no_success(
    box: Box, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    some_rows(box)
    assert box.run() == 0
    assert box.run("--run-query", statement) == 1
    assert len(box.arrived()) == 3


def test_json_has_all_columns_of_a_result_also_where_two_have_one_name(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    assert box.run() == 0
    joined = "FROM raw_readings a JOIN raw_readings b ON a.id = b.id + 1 JOIN raw_readings c ON c.id = a.id + 1"
    out = printed("--run-query", f"SELECT a.id, a.note AS id_1, b.id, c.id {joined}", "--format", "json")
    assert json.loads(out) == {"id": 2, "id_1": "n1", "id_2": 1, "id_3": 3}


def test_lists_and_structs_are_shown_as_json(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box, 1)
    assert box.run() == 0
    query = "SELECT make_array(timestamp, NULL) AS l, named_struct('x', note, 'é', X'00ff') AS s FROM raw_readings"
    known = {"l": ["2026-01-01T00:00:00+00:00", None], "s": {"x": "n0", "é": "00ff"}}
    assert json.loads(printed("--run-query", query, "--format", "json")) == known
    [_, row] = csv.reader(io.StringIO(printed("--run-query", query, "--format", "csv")))
    assert [json.loads(cell) for cell in row] == [*known.values()]
    assert '{"x": "n0", "é": "00ff"}' in printed("--run-query", query)


def test_a_wrong_query_names_the_tables_there_are(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    some_rows(box)
    assert box.run() == 0
    assert box.run("--run-query", "SELECT nonsense") == 1
    assert "raw_readings" in caplog.text


def test_a_table_with_features_that_can_not_be_read_is_told_by_a_query(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    some_rows(box)
    assert box.run() == 0
    asked = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["typeWidening"]}
    asked["writerFeatures"] = asked["readerFeatures"]
    log = box.folder / "lake" / "raw_readings" / "_delta_log"
    log.joinpath(f"{1:020}.json").write_text(json.dumps({"protocol": asked}))
    assert box.run("--run-query", "SELECT * FROM raw_readings") == 1
    assert "take another table" in caplog.records[-1].fields["hint"]  # type: ignore[attr-defined]


def test_an_unknown_column_in_a_query_gets_a_hint_that_fits(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    some_rows(box)
    assert box.run() == 0
    assert box.run("--run-query", "SELECT notes FROM raw_readings") == 1
    assert "No field named notes" in caplog.text and "Valid fields" not in caplog.text
    assert caplog.records[-1].fields["hint"] == "Did you mean 'note'?"  # type: ignore[attr-defined]


def test_a_wide_table_is_turned_into_records_and_a_narrow_one_is_not(box: Box, printed: Callable[..., str]) -> None:
    box.sample()
    out = printed("--dry-run")
    assert re.search(r"^-\[ row 5 \]-+\+-+$", out, re.MULTILINE)
    assert re.search(r"^humidity +\| \d", out, re.MULTILINE)
    assert max(map(len, out.splitlines()[2:])) <= 100
    assert box.run() == 0
    assert printed("--run-query", "SELECT id, model FROM raw_readings LIMIT 1").splitlines()[1].startswith("--")
    assert len(printed("--run-query", "SELECT * FROM raw_readings LIMIT 1", "--format", "csv").splitlines()) == 2


# --- Status and health ---


def test_status_tells_what_was_delivered_and_what_waits(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    assert box.run() == 0
    box.execute(INSERT, rows=[("2026-01-01T00:01:00Z", 1.0, "late")] * 2)
    facts = json.loads(printed("--status", "--format", "json"))
    assert (facts["rows_waiting"], facts["commits"], facts["position"], facts["quarantined"]) == (2, 1, 3, 0)
    assert facts["last_upload"] == "2026-01-01T00:00:02+00:00"
    assert facts["last_error"] is None


def test_the_healthcheck_follows_the_age_of_the_last_cycle_even_a_failed_one(box: Box) -> None:
    some_rows(box)
    assert box.run("--healthcheck") == 1
    assert box.run() == 0
    assert box.run("--healthcheck") == 0
    box.database.unlink()
    assert box.run() == 1
    assert box.run("--healthcheck") == 0
    beat = box.state_file.with_name("cycle.json")
    beat.write_text(beat.read_text().replace("2026", "2020").replace("2027", "2020"))
    assert box.run("--healthcheck") == 1


def test_a_last_cycle_in_the_future_is_no_sign_of_health(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    file = box.folder / "state" / up.CYCLE_FILE
    file.parent.mkdir()
    for ahead, status in ((200, 0), (10**8, 1)):
        ended = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead)
        file.write_text(json.dumps({"ended": ended.isoformat(), "interval": 300, "error": None}))
        assert box.run("--healthcheck") == status
        assert "ahead of the clock, which was set back" in capsys.readouterr().out


# --- DDL and dry run ---


@pytest.mark.parametrize(
    "said",
    [
        '{"ended": "2026-01-01T00:00:00", "interval": "300", "wait": "x"}',
        '{"ended": "2026-01-01T00:00:00+00:00", "interval": "300", "streams": {"": {"cycles": null, "sent": "x"}}}',
        '{"ended": "2026-01-01T00:00:00Z", "interval": 1, "error": null, "streams": [1], "report": {"at": "x"}}',
        '{"ended": "2026-01-01T00:00:00Z", "interval": 1, "streams": {"": 5}, "report": {"silent_until": null}}',
        "[" * 100_000,
    ],
)
def test_what_is_said_of_the_last_cycle_may_be_damaged_in_any_way(box: Box, said: str) -> None:
    some_rows(box)
    (box.folder / "state").mkdir()
    for flags, status in (("--healthcheck", 1), ("--status", 0), ("--once", 0)):
        (box.folder / "state" / up.CYCLE_FILE).write_text(said)
        assert box.run(flags, UPLOAD_STATUS_TABLE="boxes", UPLOAD_METRICS_FILE=str(box.folder / "m.prom")) == status
    assert len(box.arrived()) == 3
    assert box.run("--healthcheck") == 0


def test_the_printed_ddl_runs_as_it_is_and_takes_the_rows(
    box: Box, warehouse: Warehouse, schema: str, create: Callable[[], None]
) -> None:
    box.sample()
    create()
    assert box.run() == 0
    [(count, ids, batches)] = warehouse.sql(
        f"SELECT count(*), count(DISTINCT id), count(databricks_batch_id) FROM {schema}.raw_readings"
    )
    assert (count, ids, batches) == (3000, 3000, 3000)


def test_all_four_tables_can_be_printed(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    rules = {"group_by": ["hour"], "aggregations": {"value": "avg", "rows": "count"}}
    flags = ["--aggregate-config", json.dumps(rules), "--sanitize-config", '{"drop": ["note"]}']
    out = printed("--print-ddl", "all", *flags)
    tables = [f"{prefix}readings" for prefix in ("raw_", "filtered_", "secure_", "aggregated_")]
    assert re.findall(r"EXISTS `(\w+)` \(", out) == tables
    assert "`avg_value` DOUBLE" in out
    assert out.count("`note`") == 2


def test_a_dry_run_shows_rows_and_counts_and_touches_nothing(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    out = printed("--dry-run", "--enable-filter", "--filter-config", '{"value": {">": 0}}')
    assert "filtered_readings by Delta: 2 rows of 3 read" in out
    assert "n1" in out
    assert not (box.folder / "lake").exists()
    assert not box.state_file.parent.exists()


def test_a_dry_run_goes_on_from_the_state(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    assert box.run() == 0
    before = box.state_file.read_bytes()
    box.execute(INSERT, rows=[("2026-01-01T00:01:00Z", 1.0, "new")])
    assert "1 row of 1 read" in printed("--dry-run")
    assert box.state_file.read_bytes() == before


def test_a_dry_run_asks_no_warehouse(box: Box, warehouse: Warehouse, schema: str, printed: Callable[..., str]) -> None:
    some_rows(box, 7)
    box.execute(INSERT, rows=[("2026-01-01T00:01:00Z", 1.0, "more")] * 9)
    box.execute(INSERT, rows=[("soon", 1.0, "bad")])
    to_warehouse(box, warehouse, schema)
    before = warehouse.log()["requests"]
    assert f"{schema}.raw_readings by INSERT: 16 rows of 17 read, 1 to quarantine" in printed("--dry-run")
    assert [json.loads(line)["id"] for line in printed("--dry-run", "--format", "json").splitlines()] == [1, 2, 3, 4, 5]
    assert warehouse.log()["requests"] == before
    assert not box.state_file.exists()


# --- Check ---


def findings(
    box: Box, capsys: pytest.CaptureFixture[str], *flags: str, **environ: str
) -> tuple[int, list[dict[str, Any]]]:
    capsys.readouterr()
    status = box.run("--check", "--log-format", "json", *flags, **environ)
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_check_finds_everything_right_on_a_lakehouse(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.sample()
    status, found = findings(box, capsys)
    assert (status, [f for f in found if f["ok"] is False]) == (0, [])
    assert {f["part"] for f in found} == {"configuration", "database", "state", "target", "columns"}


def test_check_says_what_two_parts_fail_for_once(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    some_rows(box)
    del box.environ["LAKEHOUSE_PATH"]
    status, found = findings(box, capsys)
    assert (status, [f["text"] for f in found if f["ok"] is False]) == (1, ["no target is set"])


def test_check_beside_a_running_uploader_finds_no_fault_in_that(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    some_rows(box)
    assert box.run() == 0
    with up.StateFile(box.state_file.parent):
        assert box.run("--check") == 0
        assert "is in use by an uploader that runs; uploaded up to 2026-" in capsys.readouterr().out
        assert box.run() == 75


def test_check_goes_the_whole_way_to_a_warehouse_and_removes_nothing(
    box: Box, create: Callable[[], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A warehouse target that is closed removes its directory: it must not be the one that the check is run in.
    monkeypatch.chdir(box.folder)
    some_rows(box)
    create()
    status, found = findings(box, capsys)
    assert (status, [f for f in found if f["ok"] is False]) == (0, [])
    assert box.database.exists()
    texts = " ".join(f["text"] for f in found)
    for part in (
        "starts a stopped warehouse",
        "certificate",
        "signed in as",
        "raw_readings",
        "note (TEXT) -> note string",
    ):
        assert part in texts


def test_check_names_what_is_wrong_and_the_remedy(
    box: Box, warehouse: Warehouse, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    some_rows(box)
    to_warehouse(box, warehouse, schema)
    wrong = {
        "table": ({}, "print-ddl"),
        "token": ({"DATABRICKS_TOKEN": "dapi-wrong"}, "token"),
        "path": ({"DATABRICKS_HTTP_PATH": "/sql/1.0/warehouses/nowhere"}, "http_path"),
        "host": ({"DATABRICKS_HOST": "no-such-host.invalid"}, "typo"),
        "certificate": ({"DATABRICKS_CA_FILE": str(wrong_ca(box.folder))}, "databricks_ca_file"),
        "database": ({"SQLITE_PATH": str(box.folder / "none.db")}, "directory"),
    }
    for name, (environ, remedy) in wrong.items():
        status, found = findings(box, capsys, **environ)
        failed = [f for f in found if f["ok"] is False]
        assert status == 1, name
        assert any(remedy in f["hint"] + f["text"] for f in failed), (name, failed)


def wrong_ca(folder: Path) -> Path:
    """A CA that signed nothing of the warehouse's."""
    file = folder / "wrong-ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", os.devnull, "-out", file, "-subj", "/CN=wrong", "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    return file


# --- Repairing ---


def poisoned(box: Box) -> None:
    """Upload three rows, of which two can't be delivered."""
    box.execute(TABLE, INSERT, rows=[("2026-01-01T00:00:00Z", 1.0, "a")])
    assert box.run() == 0
    box.execute(INSERT, rows=[("2026-01-01T00:00:01Z", "warm", "b")])
    box.execute("INSERT INTO s (timestamp, value, note) VALUES ('2026-01-01T00:00:02Z', 9e999, CAST(x'ff' AS TEXT))")
    assert box.run() == up.QUARANTINED


def mended(box: Box) -> None:
    """Correct one of the two rows in quarantine."""
    for file in box.state_file.parent.glob("quarantine/*.jsonl"):
        file.write_text(file.read_text().replace('"warm"', "21.5"))


def test_quarantined_rows_are_sent_once_their_cause_is_mended(box: Box) -> None:
    poisoned(box)
    table = box.table()
    assert box.run("--replay-quarantine") == up.QUARANTINED
    assert len(box.quarantined()) == 2
    mended(box)
    assert box.run("--replay-quarantine") == up.QUARANTINED
    assert box.arrived("id, value") == [(1, 1.0), (2, 21.5)]
    assert [line["key"] for line in box.quarantined()] == [3]
    assert box.run() == 0
    assert table.version() < box.table().version()


def test_a_quarantine_may_have_been_edited_anywhere(box: Box) -> None:
    """By an editor that marks UTF-8, ends lines as on Windows, and leaves empty ones."""
    some_rows(box)
    assert box.run() == 0
    box.execute(INSERT, rows=[("no time", 1.0, "a"), ("no time", 2.0, "b")])
    assert box.run() == up.QUARANTINED
    [file] = (box.folder / "state" / "quarantine").glob("*.jsonl")
    content = file.read_text().replace("no time", "2026-01-02T00:00:00Z").replace("\n", "\r\n\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + content.encode() + b"\r\n")
    assert box.run() == 0
    assert json.loads((box.folder / "state" / "cycle.json").read_text())["streams"][""]["quarantined"] == 2
    assert box.run("--replay-quarantine") == 0
    assert len(box.arrived()) == 5


@pytest.mark.parametrize(
    "wrong", ["[1]", '{"a": 1}', "9223372036854775808", '"\\ud800"', '{"real": "x"}', '{"blob": "!!"}']
)
def test_a_corrected_line_with_no_value_of_sqlite_is_named_and_blocks_nothing(
    box: Box, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned(box)
    [file] = (box.folder / "state" / "quarantine").glob("*.jsonl")
    right = file.read_text()
    file.write_text(right.replace('"warm"', wrong))
    assert box.run("--replay-quarantine") == 1
    assert "line 1: this is no quarantined row" in caplog.text
    box.execute(INSERT, rows=[("2026-01-02T00:00:00Z", 3.0, "c")])
    assert box.run() == 0
    file.write_text(right.replace('"warm"', "true"))
    assert box.run("--replay-quarantine") == up.QUARANTINED
    assert (2, 1.0) in box.arrived("id, value")


def deliver_one(box: Box) -> None:
    """Make a table of id, time and v, and deliver its first row."""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
    box.execute("INSERT INTO t VALUES (1, '2026-01-01', 1)")
    assert box.run() == 0


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_replay_of_rows_that_stay_loses_none_where_it_is_killed(
    box: Box, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the files that it empties and the state: the target knows nothing of a commit without rows."""
    deliver_one(box)
    for number in (2, 3):
        box.execute(f"INSERT INTO t VALUES ({number}, '2026-01-01', 'bad')")
        assert box.run() == up.QUARANTINED
    with monkeypatch.context() as patch:
        interrupted_at(up.Quarantine, "forget", "after", call, patch.setattr)
        with contextlib.suppress(KeyboardInterrupt):
            box.run("--replay-quarantine")
    assert box.run() in (0, up.QUARANTINED)
    assert sorted(line["row"]["id"] for line in box.quarantined()) == [2, 3]


def test_a_replay_of_nothing_that_is_killed_at_its_end_is_no_commit_that_the_target_has_lost(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver_one(box)
    box.execute("INSERT INTO t VALUES (2, '2026-01-01', 'bad')")
    assert box.run() == up.QUARANTINED
    with monkeypatch.context() as patch:
        interrupted_at(up.Quarantine, "forget", "after", 2, patch.setattr)
        with contextlib.suppress(KeyboardInterrupt):
            box.run("--replay-quarantine")
    assert box.state()["intent"]["confirmed"]
    for number in (3, 4):
        box.execute(f"INSERT INTO t VALUES ({number}, '2026-01-01', {number})")
        assert box.run() == 0
    assert sorted(box.arrived("v")) == [(1,), (3,), (4,)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_replay_in_doubt_blocks_nothing_where_a_column_is_renamed_since(
    box: Box, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the target does not have."""
    deliver_one(box)
    box.execute("ALTER TABLE t ADD COLUMN note TEXT", "INSERT INTO t VALUES (2, '2026-01-02', 'bad', 'n')")
    assert box.run() == up.QUARANTINED
    [file] = (box.folder / "state" / "quarantine").iterdir()
    file.write_text(file.read_text().replace('"bad"', "2"))
    with monkeypatch.context() as patch:
        interrupted_at(up.DeltaTarget, "send", when, 1, patch.setattr)
        with pytest.raises(KeyboardInterrupt):
            box.run("--replay-quarantine")
    box.execute("ALTER TABLE t RENAME COLUMN note TO remark", "INSERT INTO t VALUES (3, '2026-01-03', 3, 'n')")
    assert box.run() == 0
    assert sorted(box.arrived("v")) == ([(1,), (3,)] if when == "before" else [(1,), (2,), (3,)])
    assert len(box.quarantined()) == (1 if when == "before" else 0)


def test_a_file_that_a_person_takes_out_of_quarantine_says_nothing_of_a_replay(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was cut off before its commit."""
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    for number in (2, 3):
        box.execute(f"INSERT INTO t VALUES ('2026-01-01', 'bad {number}')")
        assert box.run() == up.QUARANTINED
    first, second = sorted((box.folder / "state" / "quarantine").iterdir())
    second.write_text(second.read_text().replace('"bad 3"', "3"))
    with monkeypatch.context() as patch:
        patch.setattr(up.DeltaTarget, "send", lambda *_: (_ for _ in ()).throw(up.LostAnswer("lost")))
        assert box.run("--replay-quarantine") == 1
    first.unlink()
    assert box.run() == 0
    assert [line["row"]["v"] for line in box.quarantined()] == [3]
    assert box.run("--replay-quarantine") == 0
    assert sorted(box.arrived("v")) == [(1,), (3,)]


def test_rows_in_quarantine_have_nothing_in_columns_that_are_new_since(box: Box) -> None:
    deliver_one(box)
    box.execute("INSERT INTO t VALUES (2, '2026-01-01', 'bad'), (3, '2026-01-01', 'worse')")
    assert box.run() == up.QUARANTINED
    box.execute("ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'x'", "INSERT INTO t VALUES (4, '2026-01-01', 'worst', 'c')")
    assert box.run("--schema", "evolve") == up.QUARANTINED
    for file in (box.folder / "state" / "quarantine").iterdir():
        file.write_text(re.sub('"(bad|worse|worst)"', "7", file.read_text()))
    assert box.run("--replay-quarantine", "--schema", "evolve") == 0
    assert sorted(box.arrived("id, v, c")) == [(1, 1, None), (2, 7, None), (3, 7, None), (4, 7, "c")]


def test_rows_in_quarantine_are_not_replayed_without_what_is_in_a_renamed_column(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, s TEXT)", "INSERT INTO t VALUES ('2026-01-01', 1, 'a')")
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01', 'bad', 'b')", "ALTER TABLE t RENAME COLUMN s TO r")
    assert box.run("--schema", "evolve") == up.QUARANTINED
    box.execute("ALTER TABLE t RENAME COLUMN r TO q")
    [file] = (box.folder / "state" / "quarantine").iterdir()
    file.write_text(file.read_text().replace('"bad"', "2"))
    assert box.run("--replay-quarantine", "--schema", "evolve") == up.QUARANTINED
    assert "t has no r any more" in caplog.text
    [file] = (box.folder / "state" / "quarantine").iterdir()
    file.write_text(file.read_text().replace('"r"', '"q"'))
    assert box.run("--replay-quarantine", "--schema", "evolve") == 0
    assert (2, "b") in box.arrived("v, q")


@pytest.mark.parametrize("written_by", ["this version", "1.0.0"])
def test_rows_whose_values_were_hidden_are_not_replayed_without_them(box: Box, written_by: str) -> None:
    """Nor where the rules that hid them are no more."""
    rules = {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"mask": {"s": 0}}'}
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, s TEXT)", "INSERT INTO t VALUES ('2026-01-01', 1, 'a')")
    assert box.run(**rules) == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01', 'bad', 'secret')")
    assert box.run(**rules) == up.QUARANTINED
    [file] = (box.folder / "state" / "quarantine").iterdir()
    assert "secret" not in file.read_text()
    text = file.read_text().replace('"bad"', "7")
    file.write_text(text if written_by == "this version" else text.replace(', "hidden": ["s"]', ""))
    if written_by == "this version":
        rules["SANITIZE_CONFIG"] = '{"remove_nulls": ["v"]}'
    assert box.run("--replay-quarantine", **rules) == up.QUARANTINED
    assert len(box.arrived(prefix="secure_")) == 1


@pytest.mark.parametrize("route", ["path", "warehouse"])
def test_a_row_that_can_t_be_replayed_keeps_no_other_back(
    box: Box, warehouse: Warehouse, schema: str, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor do many, which were counted when they came; a second replay says the same."""
    if route == "warehouse":
        warehouse.sql(f"CREATE TABLE {schema}.secure_kept (id BIGINT, time TIMESTAMP, v BIGINT, s STRING)")
        box.behind(warehouse, f"{schema}.raw_kept")
    hides = {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"mask": {"s": 0}}'}
    shows = hides | {"SANITIZE_CONFIG": '{"remove_nulls": ["id"]}'}
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER, s TEXT)")
    box.execute("INSERT INTO t VALUES (1, '2026-01-01', 1, 'a')")
    assert box.run(**shows) == 0
    for number, rules in enumerate([shows, hides, shows], 2):
        box.execute(f"INSERT INTO t VALUES ({number}, '2026-01-01', 'bad', 'secret')")
        assert box.run(**rules) == up.QUARANTINED
    for file in (box.folder / "state" / "quarantine").iterdir():
        file.write_text(file.read_text().replace('"bad"', "7"))
    for count in (2, 0):
        caplog.clear()
        assert box.run("--replay-quarantine", "--max-bad-rows", "0", **shows) == up.QUARANTINED
        [line] = box.quarantined()
        assert line["key"] == 3 and line["reason"].startswith("sanitize hid s, so insert")
        assert line["reason"].count("before: v is no whole number") == line["reason"].count("before") == 1
        assert line["hidden"] == ["s"] and line["table"] == "t" and not box.state()["intent"]
        assert f"{count} rows sent from quarantine, 1 left" in caplog.text
    caplog.clear()
    assert box.run(**shows) == 0
    assert "did not take place" not in caplog.text
    if route == "path":
        assert box.arrived("id", prefix="secure_") == [(1,), (2,), (4,)]
    else:
        assert sorted(warehouse.sql(f"SELECT id FROM {schema}.secure_kept")) == [(1,), (2,), (4,)]


def test_a_row_of_aggregate_that_was_corrected_in_its_line_is_said_to_be_inserted_anew(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    rules = {"ENABLE_AGGREGATE": "1", "AGGREGATE_CONFIG": '{"group_by": ["hour"], "aggregations": {"v": "sum"}}'}
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
    box.execute("INSERT INTO t VALUES (1, '2026-01-01T00:00:00Z', 1), (2, '2026-01-01T05:00:00Z', 1)")
    assert box.run(**rules) == 0
    box.execute("INSERT INTO t VALUES (3, '2026-01-01T05:01:00Z', 'bad')")
    assert box.run(**rules) == up.QUARANTINED
    [file] = (box.folder / "state" / "quarantine").iterdir()
    file.write_text(file.read_text().replace('"bad"', "7"))
    assert box.run("--replay-quarantine", **rules) == up.QUARANTINED
    assert "insert its rows, corrected, in the source" in caplog.text and "v is no whole number" in caplog.text


@pytest.mark.parametrize(("name", "when", "call"), [("save", "after", 1), ("send", "after", 1), ("save", "before", 2)])
def test_a_replay_that_is_killed_sends_nothing_twice(
    box: Box, monkeypatch: pytest.MonkeyPatch, name: str, when: str, call: int
) -> None:
    poisoned(box)
    mended(box)
    interrupted_at(up.StateFile if name == "save" else up.DeltaTarget, name, when, call, monkeypatch.setattr)
    with pytest.raises(KeyboardInterrupt):
        box.run("--replay-quarantine")
    monkeypatch.undo()
    assert box.run("--replay-quarantine") == up.QUARANTINED
    assert box.run() == 0
    assert box.arrived("id") == [(1,), (2,)]


def test_since_sends_rows_from_a_time_on_again(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    some_rows(box, 5)
    assert box.run() == 0
    assert box.run("--since", "2026-01-01T00:00:03Z") == 0
    assert "also those that were sent before" in caplog.text
    assert sorted(box.arrived("id")) == [(1,), (2,), (3,), (4,), (4,), (5,), (5,)]
    assert box.run() == 0
    assert len(box.arrived("id")) == 7
    assert {box.run("--since", text) for text in ("yesterday", "2026", "202601")} == {2}
    filtered = ("--enable-filter", "--filter-config", '{"value": {">": 1.5}}', "--state-dir", str(box.folder / "f"))
    assert box.run("--since", "2026-01-01T00:00:03Z", *filtered) == 0
    assert "1 row sent in 1 commit" in caplog.text
    assert "1 filtered out; 3 of an earlier time left out; 0 to quarantine" in caplog.text


def test_recover_makes_a_lost_state_anew_and_refuses_to_replace_a_sound_one(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    some_rows(box, 5)
    assert box.run("--source-id", "box") == 0
    assert box.run("--recover", "--source-id", "box") == 2
    box.state_file.write_text("damaged")
    assert box.run("--source-id", "box") == 1
    assert box.run("--recover") == 2
    assert box.run("--recover", "--source-id", "box") == 0
    assert "commit 1 of box ended at 5; going on after it" in caplog.text
    assert box.run("--source-id", "box") == 0
    assert len(box.arrived("id")) == 5


BY_TIME, BY_ROWID = {"UPLOAD_CURSOR": "timestamp"}, {"UPLOAD_CURSOR": "rowid"}
CHANGES = {
    "cursor": (BY_TIME, BY_ROWID),
    "the other cursor": (BY_ROWID, BY_TIME),
    "time column": (BY_TIME, {**BY_TIME, "TIMESTAMP_COL": "other"}),
    "zone": (BY_TIME, {**BY_TIME, "UPLOAD_SOURCE_TIMEZONE": "Asia/Tokyo"}),
}


@pytest.mark.parametrize("action", [[], ["--recover"]])
@pytest.mark.parametrize("change", CHANGES)
def test_a_state_that_is_lost_and_read_otherwise_since_ends_with_what_goes_on_there(
    box: Box, change: str, action: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Of the time column and its form a commit tells, too."""
    before, after = CHANGES[change]
    box.environ["UPLOAD_SOURCE_ID"] = "box"
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, other TEXT)")
    insert = "INSERT INTO t (time, other) VALUES (?, '2025-01-01 00:00:00')"
    box.execute(insert, rows=[(f"2026-01-01 00:00:{second}",) for second in range(10, 20)])
    assert box.run(**before) == 0
    box.state_file.unlink()
    box.execute(insert, rows=[(f"2026-01-01 00:00:{second}",) for second in range(20, 30)])
    assert box.run(*action, **after) == 1
    assert "knows of box belongs to " in caplog.text
    assert box.run(**before) == 0
    assert sorted(box.arrived("id")) == [(number,) for number in range(1, 21)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_in_doubt", [False, True])
def test_since_begins_anew_where_rows_are_read_otherwise(
    box: Box, change: str, is_in_doubt: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of several tables has no state_dir of its own. A commit in doubt is settled first, as it was read."""
    before, after = CHANGES[change]
    all_tables, since = ("--tables", "*"), ("--table", "readings", "--since", "2026-01-01T00:00:13")
    box.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY, time TEXT, other TEXT)")
    insert = "INSERT INTO readings (time, other) VALUES (?1, ?1)"
    box.execute(insert, rows=[(f"2026-01-01 00:00:{second}",) for second in range(10, 15)])
    if is_in_doubt:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupted_at(up.DeltaTarget, "send", "after", 1, patch.setattr)
            box.run(*all_tables, **before)
        assert box.run(*all_tables, *since, **after) == 1
        assert "settle the last commit first" in caplog.text
    assert box.run(*all_tables, **before) == 0
    assert box.run(*all_tables, **after) == 1
    assert "--since TIMESTAMP begins anew" in caplog.text
    assert box.run(*all_tables, *since, **after) == 0
    box.execute(insert, rows=[(f"2026-01-01 00:00:{second}",) for second in range(15, 20)])
    assert box.run(*all_tables, **after) == 0
    assert sorted(box.arrived("id")) == [(number,) for number in (1, 2, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10)]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"LAKEHOUSE_PATH": "/tmp/elsewhere"}, "target"),
        ({"UPLOAD_SOURCE_ID": "another"}, "source_id"),
        ({"UPLOAD_CURSOR": "timestamp"}, "cursor"),
    ],
)
@pytest.mark.parametrize("flag", ["--check", "--dry-run"])
def test_a_look_tells_what_a_run_would_refuse(
    box: Box, flag: str, change: dict[str, str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver_one(box)
    assert box.run(flag, **change) == 1
    seen = "".join(capsys.readouterr())
    assert f"{box.state_file} belongs to {what} " in seen
    assert box.run() == 0


def test_rules_that_hide_values_and_are_not_in_use_are_warned_of(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    some_rows(box)
    rules = {"SANITIZE_CONFIG": '{"drop": ["note"]}'}
    assert [box.run(**rules), box.run("--check", **rules)] == [0, 0]
    assert "sanitize_config is not in use: all values are sent as they are" in caplog.text
    assert "sanitize_config is not in use: all values are sent as they are" in capsys.readouterr().out
    caplog.clear()
    filtered = {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"value": {">": 1}}'}
    assert box.run(**rules, **filtered, STATE_DIR=str(box.folder / "f")) == 0
    assert "not in use: all" not in caplog.text


def test_the_ddl_of_a_table_by_path_is_one_that_can_be_written(box: Box, printed: Callable[..., str]) -> None:
    """delta-rs writes to no table that is clustered."""
    some_rows(box)
    assert "CLUSTER BY" not in printed("--print-ddl")
    del box.environ["LAKEHOUSE_PATH"]
    assert "CLUSTER BY" in printed("--print-ddl")


@pytest.mark.parametrize("before", [31, 32])
def test_the_ddl_clusters_by_a_time_behind_many_columns(
    box: Box, create: Callable[[], None], printed: Callable[..., str], before: int
) -> None:
    """A table has statistics of its first 32 columns, and is clustered by none without."""
    names = [f"c{number}" for number in range(before)]
    box.execute(f"CREATE TABLE t ({', '.join(f'{name} INTEGER' for name in names)}, time TIMESTAMP)")
    create()
    ddl = printed("--print-ddl")
    assert "CLUSTER BY (`time`)" in ddl
    assert re.findall(r"^  `(\w+)`", ddl, re.MULTILINE)[before] == ("time" if before == 31 else names[-1])


def test_the_ddl_says_that_its_table_has_no_name_yet(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    some_rows(box)
    assert box.run("--print-ddl") == 0
    assert "databricks_table is not set" not in caplog.text
    del box.environ["DATABRICKS_TABLE"]
    assert box.run("--print-ddl") == 0
    assert "databricks_table is not set: the statement says readings" in caplog.text


# --- While cycles run ---


def on_a_terminal(box: Box, *flags: str, **environ: str) -> str:
    """What a person sees: stderr on a pseudo-terminal."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen([*PROGRAM, *flags], env={**box.environ, "TERM": "xterm", **environ}, stderr=side)
    os.close(side)
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                seen.extend(os.read(main, 65536))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(200) in (0, 1)
    reader.join(10)
    os.close(main)
    return seen.decode(errors="replace")


def test_log_lines_beside_the_bar_hold_no_secrets(box: Box) -> None:
    """A handler of the bar's writes them."""
    box.execute("CREATE TABLE canary (timestamp TEXT)", "INSERT INTO canary VALUES (?)", rows=[("2026-01-01",)])
    seen = on_a_terminal(box, AWS_SECRET_ACCESS_KEY="canary")
    assert "all rows of *** are new" in seen and "canary" not in seen


def test_a_long_backlog_shows_a_bar_with_rate_and_time_left_on_a_terminal(box: Box) -> None:
    sensor_table.create(box.database, 30_000, index=False)
    seen = on_a_terminal(box, "--batch-rows", "750")
    assert re.search(r"\d+%\|.*rows/s\]", seen)
    assert "30000 rows sent in 40 commits" in seen


def test_what_fails_is_coloured_on_a_terminal_in_check(
    box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for is_terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        assert box.run("--check", TERM="xterm") == 1
        assert ("\033[31mFAIL\033[0m database" if is_terminal else "\nFAIL database") in capsys.readouterr().out


def test_errors_are_coloured_on_a_terminal_and_not_where_no_color_is_set(box: Box) -> None:
    assert "\033[31mERROR\033[0m" in on_a_terminal(box)
    assert "\033" not in on_a_terminal(box, NO_COLOR="1")


# --- What is said of rows ---

HOURLY = [
    "--enable-aggregate",
    "--aggregate-config",
    '{"group_by": ["hour", "note"], "aggregations": {"value": "avg"}}',
]


def fresh_rows(box: Box, count: int = 150) -> None:
    """Rows of the hour that runs, of seven kinds."""
    hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    rows = [((hour + dt.timedelta(milliseconds=i)).isoformat(), i / 2, f"n{i % 7}") for i in range(count)]
    box.execute(TABLE, INSERT, rows=rows)


def test_groups_that_wait_say_so_in_a_run_in_a_dry_run_and_in_the_status_and_are_no_commit(
    box: Box, printed: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fresh_rows(box)
    said = re.compile(r"150 rows in 7 groups wait for their hour to end \(\d\d:00Z\); --flush sends them now")
    printed("--dry-run", *HOURLY)
    assert said.search(caplog.text)
    for _ in range(2):
        caplog.clear()
        assert box.run(*HOURLY) == 0
        assert said.search(caplog.text) and "commits" not in caplog.text
    facts = json.loads(printed("--status", "--format", "json", *HOURLY))
    assert (facts["rows_waiting"], facts["commits"]) == (150, 0)
    assert said.fullmatch(facts["open_windows"])
    assert said.search(printed("--status", *HOURLY))


def test_a_flush_tells_what_it_sent(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fresh_rows(box)
    assert box.run(*HOURLY) == 0
    caplog.clear()
    assert box.run(*HOURLY, "--flush") == 0
    assert "7 rows sent in 1 commit" in caplog.text and "nothing new" not in caplog.text
    assert "wait" not in caplog.text


def test_only_rows_of_open_windows_are_said_to_wait(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    some_rows(box, 5)
    box.execute(INSERT, rows=[("2026-01-01T01:00:00Z", 1.0, "later")] * 2)
    assert box.run(*HOURLY) == 0
    assert "5 rows sent in 1 commit" in caplog.text
    assert "2 rows in 1 group wait for a row after 2026-01-01 02:00Z, which ends their hour" in caplog.text


def test_the_quarantine_is_told_by_reason_with_an_example_and_its_place(
    box: Box, printed: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    some_rows(box)
    assert box.run() == 0
    box.execute(
        INSERT, rows=[("2026-01-01T00:01:00Z", "warm", "a"), ("x", 1.0, "b"), ("2026-01-01T00:01:00Z", "cold", "c")]
    )
    said = "3 rows in quarantine: 2 \u00d7 value is no number; 1 \u00d7 timestamp is no time"
    printed("--dry-run")
    assert said in caplog.text
    caplog.clear()
    assert box.run() == up.QUARANTINED
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert said in warning.getMessage() and '"value": "warm"' in warning.getMessage()
    assert str(box.state_file.parent / "quarantine") in warning.getMessage()
    assert said in printed("--status") and said in printed("--check")
    caplog.clear()
    assert box.run("--replay-quarantine") == up.QUARANTINED
    assert said in caplog.text


def test_the_example_of_the_quarantine_hides_what_sanitize_hides(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    some_rows(box)
    rules = ["--enable-sanitize", "--sanitize-config", '{"mask": {"note": 1}}', "--state-dir", str(box.folder / "s")]
    assert box.run(*rules) == 0
    box.execute(INSERT, rows=[("2026-01-01T00:01:00Z", "warm", "canary")])
    assert box.run(*rules) == up.QUARANTINED
    assert "1 row in quarantine" in caplog.text and "canary" not in caplog.text


@pytest.mark.parametrize("rule", ['{"mask": {"NOTE": 1}}', '{"drop": ["note"]}', '{"mask": {"renamed": 1}}'])
def test_the_example_of_the_quarantine_hides_what_sanitize_hides_by_now(
    box: Box, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    """Rules may have become stricter since the row was set aside, and name columns that it did not have."""
    some_rows(box)
    rules = {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"remove_nulls": ["id"]}'}
    assert box.run(**rules) == 0
    box.execute(INSERT, rows=[("2026-01-01T00:01:00Z", "warm", "canary")])
    assert box.run(**rules) == up.QUARANTINED
    assert "canary" in caplog.text and "canary" in "".join(capsys.readouterr())
    caplog.clear()
    if "renamed" in rule:
        box.execute("ALTER TABLE s RENAME COLUMN note TO renamed")
    for flag in ("--status", "--check", "--replay-quarantine"):
        box.run(flag, **{**rules, "SANITIZE_CONFIG": rule})
    said = caplog.text + "".join(capsys.readouterr())
    assert "1 row in quarantine" in said and "canary" not in said


def test_the_status_knows_times_ahead_of_a_clock_that_was_set_back(box: Box, printed: Callable[..., str]) -> None:
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(hours=10)
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT)")
    box.execute(insert := "INSERT INTO t (time) VALUES (?)", rows=[(ahead.isoformat(),)])
    assert box.run() == 0
    box.execute(insert, rows=[(ahead.isoformat(),)])
    beat = box.state_file.with_name(up.CYCLE_FILE)
    beat.write_text(json.dumps(json.loads(beat.read_text()) | {"ended": ahead.isoformat(timespec="seconds")}))
    said = printed("--status")
    assert re.search(r"waiting +1 row; the newest before them is 10 h ahead of the clock", said)
    assert re.search(r"last cycle +10 h ahead of the clock", said)


def test_the_status_is_for_people_unless_a_program_asks(box: Box, printed: Callable[..., str]) -> None:
    some_rows(box)
    assert "NULL" not in printed("--status")
    assert re.search(r"^target +- \(nothing was sent yet\)", printed("--status"), re.MULTILINE)
    assert box.run() == 0
    out = printed("--status")
    assert re.search(r"^waiting +0 rows$", out, re.MULTILINE) and "NULL" not in out
    assert re.search(r"^next cycle +when it is started", out, re.MULTILINE)
    box.execute(INSERT, rows=[("2026-01-01T00:01:00Z", 1.0, "new")])
    assert re.search(r"^waiting +1 row; the newest before them is \d+ days old$", printed("--status"), re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "said"), [(240, "in 4 min"), (-3, "in 0 s"), (-2000, "overdue: is the service running?")]
)
def test_the_next_cycle_is_said_in_words(seconds: float, said: str) -> None:
    assert up.next_cycle(seconds, {"interval": 300}) == said


def test_a_bar_counts_to_all_rows_that_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    import tqdm

    bars = list[Any]()

    class Noted(tqdm.tqdm):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Noted)
    with up.drawn_bar(patience=-1) as advance:
        for waiting in (300, 200, 100):  # Three batches of a hundred rows, in two pages each.
            for _ in range(2):
                advance(50, waiting)
                assert bars[0].total == 300
        assert bars[0].n == 300


def test_a_short_run_and_a_failing_one_show_no_bar(box: Box) -> None:
    some_rows(box)
    assert "rows/s" not in on_a_terminal(box)
    assert "rows/s" not in on_a_terminal(box, LAKEHOUSE_PATH=str(box.database))


def test_an_interrupt_tells_what_was_sent_and_what_waits(box: Box) -> None:
    sensor_table.create(box.database, 300_000, index=False)
    command = [*PROGRAM, "--batch-rows", "5000"]
    process = subprocess.Popen(command, env=box.environ, stderr=subprocess.PIPE, text=True)
    while not box.state_file.exists() or '"committed": 0' in box.state_file.read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0
    assert "stopping as soon as" in said
    [(sent, waiting)] = re.findall(r"(\d+) rows sent in \d+ commits?, .*; stopped, (\d+) rows wait", said)
    assert int(sent) + int(waiting) == 300_000


# --- Compacting ---


@pytest.fixture
def many_files(box: Box) -> Box:
    """Twelve commits, the last of which brought a new column."""
    box.environ["UPLOAD_SCHEMA"] = "evolve"
    box.execute(TABLE)
    for number in range(12):
        if number == 11:
            box.execute("ALTER TABLE s ADD COLUMN later TEXT")
        a_row(box, number)
        assert box.run() == 0
    return box


def a_row(box: Box, number: int) -> None:
    box.execute(INSERT, rows=[(f"2026-01-01T00:00:{number:02}Z", number / 7, None if number % 3 else "ü")])


def test_compact_says_where_there_is_no_table(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """Most likely its name is wrong, which a job once a month would not notice."""
    assert box.run("--compact") == 0
    assert "no Delta table is there: raw_readings, " in caplog.text


def test_a_status_without_a_state_names_what_is_set(box: Box, printed: Callable[..., str]) -> None:
    del box.environ["SQLITE_PATH"]
    assert json.loads(printed("--status", "--format", "json"))["source"] is None


def test_compact_puts_files_together_and_changes_no_value(many_files: Box, printed: Callable[..., str]) -> None:
    before = many_files.arrived()
    [done] = [json.loads(line) for line in printed("--compact", "--format", "json").splitlines()]
    assert list(done) == list(up.COMPACTED)
    assert (done["files_before"], done["files"], done["files_deleted"]) == (12, 1, 0)
    assert (done["version_before"], done["version"]) == (11, many_files.table().version())
    assert many_files.arrived() == before
    assert printed("--compact", "--format", "csv").splitlines()[1].split(",")[1:3] == ["1", "1"]


def test_an_upload_between_the_compactions_look_and_its_commit_is_kept(
    many_files: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = up.compact_table

    def late(name: str, table: Any) -> Any:
        if table:
            a_row(many_files, 50)
            assert many_files.run() == 0
        return real(name, table)

    monkeypatch.setattr(up, "compact_table", late)
    assert many_files.run("--compact") == 0
    assert sorted(many_files.arrived("id")) == sorted((number,) for number in range(1, 14))
    assert many_files.table().get_add_actions().num_rows == 2


def test_a_compaction_between_the_uploads_look_and_its_commit_doubles_nothing(
    many_files: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, target = up.write_pages, up.DeltaTarget(many_files.table().table_uri, {})

    def late(*arguments: Any, **options: Any) -> None:
        assert target.among_others(functools.partial(up.compact_table, target.name))
        real(*arguments, **options)

    a_row(many_files, 50)
    monkeypatch.setattr(up, "write_pages", late)
    assert many_files.run() == 0
    assert sorted(many_files.arrived("id")) == sorted((number,) for number in range(1, 14))


def test_a_state_lost_after_a_compaction_is_recovered(many_files: Box) -> None:
    many_files.environ["UPLOAD_SOURCE_ID"] = many_files.state()["source_id"]
    assert many_files.run("--compact") == 0
    many_files.state_file.unlink()
    assert many_files.run() == 0
    assert len(many_files.arrived()) == 12


def test_a_compaction_that_others_disturb_is_tried_again(many_files: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = up.compact_table, []

    def disturbed(name: str, table: Any) -> Any:
        tried.extend([table.version()] if table else [])
        if table and len(tried) < 3:
            raise up.Conflict("another compaction was faster")
        return real(name, table)

    monkeypatch.setattr(up, "compact_table", disturbed)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert many_files.run("--compact") == 0
    assert len(tried) == 3


def test_files_replaced_a_week_ago_are_deleted_and_later_ones_stay(
    many_files: Box, printed: Callable[..., str]
) -> None:
    first = sorted((many_files.folder / "lake").rglob("part-*.parquet"))
    printed("--compact")
    log, week, old = first[0].parent / "_delta_log", 8 * 86400, first[:7]
    for file in old:  # as if they had been replaced eight days ago, and a checkpoint had forgotten them
        os.utime(file, (time.time() - week, time.time() - week))
    for commit in log.glob("*.json"):
        told = commit.read_text().splitlines()
        commit.write_text("\n".join(line for line in told if not any(file.name in line for file in old)))
    for checkpoint in [*log.glob("*.checkpoint.parquet"), log / "_last_checkpoint"]:
        checkpoint.unlink()
    uncommitted = Path(shutil.copy(first[11], first[11].with_name("part-uncommitted.parquet")))
    [done] = [json.loads(line) for line in printed("--compact", "--format", "json").splitlines()]
    assert done["files_deleted"] == 7
    assert [file.exists() for file in first] == [False] * 7 + [True] * 5
    assert uncommitted.exists()
    assert len(many_files.arrived()) == 12


def test_check_says_when_compacting_is_due(
    many_files: Box, printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--compact" not in printed("--check")
    monkeypatch.setattr(up, "TOO_MANY_FILES", 12)
    assert "12 small files make every cycle slower and larger\n       --compact puts them" in printed("--check")
    monkeypatch.setattr(up, "SMALL_FILE", 1)
    assert "--compact" not in printed("--check")


@pytest.mark.parametrize(
    "settings", [{"DATABRICKS_HTTP_PATH": "/sql/1.0/warehouses/a"}, {"DATABRICKS_ZEROBUS_ENDPOINT": "z.de"}]
)
def test_compact_is_refused_where_databricks_cares_for_the_table(
    box: Box, caplog: pytest.LogCaptureFixture, settings: dict[str, str]
) -> None:
    del box.environ["LAKEHOUSE_PATH"]
    assert box.run("--compact", DATABRICKS_HOST="h", DATABRICKS_TOKEN="t", DATABRICKS_DATABASE="d", **settings) == 2
    assert "--compact is for Delta tables by path" in caplog.text
    assert "Predictive optimization" in caplog.text


@pytest.mark.parametrize("feature", ["deletionVectors", "columnMapping"])
def test_a_table_whose_files_do_not_say_all_is_not_compacted(
    box: Box, caplog: pytest.LogCaptureFixture, feature: str
) -> None:
    table_in_log(box, [feature], 3)
    assert box.run("--compact") == 1
    assert f"can't be compacted with its features: {feature}" in caplog.text
    assert box.table().version() == 0


@pytest.mark.parametrize("kind", ["decimal(10,2)", "binary"])
def test_a_table_whose_parts_delta_rs_would_misname_is_not_compacted(
    box: Box, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    fields = schema_of({"v": "long", "d": kind})
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), fields, partition_by=["d"])
    assert box.run("--compact") == 1
    assert f"can't be compacted with its features: parted by the {kind.upper()} d" in caplog.text
    assert box.table().version() == 0


@pytest.mark.parametrize(
    ("kept", "hours"),
    [
        ("interval 0 hours", 168), ("interval 1 second", 168), ("INTERVAL 30 DAYS", 720), ("interval 2 weeks", 336),
        ("interval 9 weeks 3 days", 1584), ("interval 1209601 seconds", 337), ("whatever", 168),
    ],
)  # fmt: skip
def test_files_stay_for_a_week_or_for_longer_where_the_table_says_so(box: Box, kept: str, hours: int) -> None:
    """What an uploader is about to commit is among them. delta-rs refuses fewer hours than it reads there."""
    configuration = {"delta.deletedFileRetentionDuration": kept}
    fields = schema_of({"v": "long"})
    table = DeltaTable.create(str(box.folder / "lake" / "raw_readings"), fields, configuration=configuration)
    uncommitted = box.folder / "lake" / "raw_readings" / "part-uncommitted.parquet"
    uncommitted.write_bytes(b"")
    assert up.kept_hours(table) == hours
    assert box.run("--compact") == 0
    assert uncommitted.exists()


# --- No action ends in a traceback ---

ACTIONS = (
    ["--once"], ["--check"], ["--dry-run"], ["--status"], ["--healthcheck"], ["--run-query", "INFO"], ["--print-ddl"],
    ["--compact"], ["--replay-quarantine"], ["--recover", "--source-id", "box"], ["--since", "2026-01-01"], ["--flush"],
)  # fmt: skip
PARTS = (
    "data/sensor.db", "data", "state", "state/last_upload.json", "state/cycle.json", "state/.lock", "state/quarantine",
    "state/quarantine/000000000002.jsonl", "lake", "lake/raw_readings", "lake/raw_readings/_delta_log",
    "lake/raw_readings/_delta_log/00000000000000000000.json", "uploader.yaml",
)  # fmt: skip


def taken_away(part: Path) -> None:
    shutil.rmtree(part) if part.is_dir() else part.unlink()


def of_the_other_kind(part: Path) -> None:
    """A file in a directory's place, or the other way round."""
    was_directory = part.is_dir()
    taken_away(part)
    part.write_text("a file") if was_directory else part.mkdir()


def of_no_kind(part: Path) -> None:
    """A pipe that nobody writes to, which an unwary program waits for."""
    taken_away(part)
    os.mkfifo(part)


def a_link(part: Path, to: Path) -> None:
    taken_away(part)
    part.symlink_to(to)


def overwritten(content: bytes) -> Callable[[Path], None]:
    def overwrite(part: Path) -> None:
        if part.is_file():
            part.write_bytes(content)

    return overwrite


FAULTS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda part: None,
    "missing": taken_away,
    "of the other kind": of_the_other_kind,
    "a pipe": of_no_kind,
    "a link into nothing": lambda part: a_link(part, Path("/nowhere/at/all")),
    "a link to itself": lambda part: a_link(part, part),
    "empty": overwritten(b""),
    "no text": overwritten(b"\xff\xfe\x00\x80" * 300),
    "another JSON": overwritten(b"[1, 2]\n"),
    "JSON of another shape": overwritten(b'{"ended": 5, "table": 1, "last_upload": [], "version": "x"}\n'),
    "unreadable": lambda part: part.chmod(0),
    "unwritable": lambda part: part.chmod(0o500 if part.is_dir() else 0o400),
}


def give_back(part: Path) -> None:
    """Return the rights that a fault took: nobody but root could remove such a folder."""
    if part.exists() and not part.is_symlink():
        part.chmod(0o700)


@contextlib.contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Rights count for everybody but root: a process of root's goes on as a user who owns the box."""
    if os.getuid():
        yield
        return
    for item in [folder, *folder.rglob("*")]:
        os.chown(item, 65534, -1, follow_symlinks=False)
    for parent in folder.parents:
        if parent.stat().st_mode & 0o777 == 0o700:
            parent.chmod(0o711)
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture(scope="module")
def whole_box() -> Iterator[Box]:
    """A box that has run, with a table, a state and a quarantine; a copy of it is beside it.

    All is loaded, and each action was done once: another user may be kept from the directory of the packages. It is
    not in pytest's own directory, whose rights another pytest that starts sets back.
    """
    place = Path(tempfile.mkdtemp())
    (place / "whole").mkdir()
    box = Box(place / "whole")
    poisoned(box)
    (box.folder / "uploader.yaml").write_text("interval: 5\n")
    shutil.copytree(box.folder, box.folder.with_suffix(".copy"))
    driver = up.sqlite_driver
    load_the_rest(up)
    for action in ACTIONS:
        box.run(*action, "--config", str(box.folder / "uploader.yaml"))
    yield box
    setattr(up, "sqlite_driver", driver)  # noqa: B010 - a function
    shutil.rmtree(place)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_action_ends_in_a_traceback_whatever_is_wrong_with_a_part(
    whole_box: Box, part: str, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = whole_box.folder
    if (fault, part) == ("a pipe", "uploader.yaml"):
        return  # Shells hand such files out, and their writers do write.
    if "overwrite" in FAULTS[fault].__qualname__ and folder.with_suffix(".copy").joinpath(part).is_dir():
        return
    # A third of the actions in turn, so that each meets each part and each fault.
    for action in ACTIONS if LONG else ACTIONS[(PARTS.index(part) + [*FAULTS].index(fault)) % 3 :: 3]:
        shutil.rmtree(folder)
        shutil.copytree(folder.with_suffix(".copy"), folder)
        FAULTS[fault](folder / part)
        with as_nobody(folder):
            status = whole_box.run(*action, "--config", str(folder / "uploader.yaml"))
        give_back(folder / part)
        expected = {"--recover": (2,), "--replay-quarantine": (3,), "--since": (3,)}.get(action[0], (0,))
        assert status in (expected if fault == "nothing" else (0, 1, 2, 3)), (action, status, capfd.readouterr().err)
        assert "Traceback" not in capfd.readouterr().err


def test_a_quarantine_that_may_not_be_read_is_not_taken_for_empty(whole_box: Box) -> None:
    """As one that root made, where the uploader is another user's."""
    folder = whole_box.folder
    shutil.rmtree(folder)
    shutil.copytree(folder.with_suffix(".copy"), folder)
    (folder / "state" / "quarantine").chmod(0)
    with as_nobody(folder):
        statuses = [whole_box.run(action) for action in ("--replay-quarantine", "--status")]
    give_back(folder / "state" / "quarantine")
    assert statuses == [1, 1]


# --- Beginning ---


def test_init_prints_a_file_that_works(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.execute(
        "CREATE TABLE states (state_id INTEGER PRIMARY KEY, state TEXT, last_changed DATETIME, last_updated_ts FLOAT)",
        "INSERT INTO states (state, last_updated_ts) VALUES (?, ?)",
        rows=[(str(n), 1790000000.5 + n) for n in range(300)],
    )
    box.execute(
        "CREATE TABLE 'no: \"time\"' (id INTEGER PRIMARY KEY, v REAL)", "INSERT INTO 'no: \"time\"' VALUES (1, 2)"
    )
    box.execute("CREATE TABLE trips (id INTEGER PRIMARY KEY, start_time INT, end_time INT)")
    box.execute("INSERT INTO trips VALUES (1, 1790000000, 1790000060)")
    box.execute("CREATE TABLE k (id TEXT PRIMARY KEY) WITHOUT ROWID", "CREATE VIEW v AS SELECT * FROM states")
    box.execute("CREATE TABLE words (t DATE, x INTEGER)", "INSERT INTO words VALUES (?, ?)", rows=[("soon", 1)] * 5)
    box.execute("CREATE VIRTUAL TABLE f USING fts5 (word)")
    capsys.readouterr()
    environ = {"SQLITE_PATH": str(box.database), "STATE_DIR": str(box.folder / "state"), "ONCE": "1"}
    assert up.main(["--init", "--max-bad-rows", "7"], {**environ, "DATABRICKS_TOKEN": "dapi-canary"}) == 0
    printed = capsys.readouterr().out
    assert "# databricks_host: your-workspace" in printed
    assert "300 rows, newest 2026-09-21T14:18:19+00:00; time column last_updated_ts (seconds since 1970)" in printed
    assert "# 1 row; no time column: one of start_time, end_time?" in printed
    assert "# Left out: it is a view. Take the tables behind it, or it alone." in printed
    assert "# Left out: k has no single time column" in printed
    assert "dapi-canary" not in printed
    assert up.main(["--init", "--lakehouse-path", str(box.folder / "lake")], environ) == 0
    file = box.folder / "uploader.yaml"
    file.write_text(capsys.readouterr().out)
    config = up.load_config({"config": file}, {})
    assert [entry["sqlite_table_name"] for entry in config.tables] == ['no: "time"', "states", "trips"]
    assert up.main(["--config", str(file), "--check"], {}) == 0
    assert up.main(["--config", str(file), "--once"], {}) == 0
    assert sorted(place.name for place in (box.folder / "lake").iterdir()) == [
        'raw_no: "time"',
        "raw_states",
        "raw_trips",
    ]


@pytest.mark.parametrize("rule", [{"hash": ["time"]}, {"mask": {"time": 2}}, {"drop": ["TIME"]}], ids=str)
def test_check_and_init_show_no_newest_time_that_sanitize_hides(
    box: Box, capsys: pytest.CaptureFixture[str], rule: dict[str, object]
) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01T03:04:05', 1)")
    for action in ("--check", "--init"):
        capsys.readouterr()
        box.run(action)
        assert "03:04:05" in capsys.readouterr().out
        box.run(action, "--enable-sanitize", "--sanitize-config", json.dumps(rule))
        said = capsys.readouterr().out
        assert "03:04:05" not in said and ("time column time" in said)


def test_init_keeps_tables_apart_that_prefixes_would_lead_into_one(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("r", "raw_r", "other"):
        box.execute(f"CREATE TABLE {name} (time TEXT)", f"INSERT INTO {name} VALUES ('2026-01-01')")
    box.execute("CREATE VIEW raw_other AS SELECT * FROM other")
    del box.environ["DATABRICKS_TABLE"]
    capsys.readouterr()
    assert box.run("--init") == 0
    file = box.folder / "uploader.yaml"
    file.write_text(capsys.readouterr().out)
    assert up.load_config({"config": file}, {}).tables == (
        {"sqlite_table_name": "other"},
        {"sqlite_table_name": "r", "databricks_table": "raw_r"},
        {"sqlite_table_name": "raw_r", "databricks_table": "raw_raw_r"},
    )
    assert box.run("--config", str(file)) == 0
    assert sorted(place.name for place in (box.folder / "lake").iterdir()) == ["raw_other", "raw_r", "raw_raw_r"]


def test_init_comments_a_table_out_of_which_most_would_go_to_quarantine(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, timestamp TEXT)",
        "INSERT INTO t (timestamp) VALUES (?)",
        rows=[("01/02/2026",)] * 5,
    )
    assert up.main(["--init"], {"SQLITE_PATH": str(box.database)}) == 0
    printed = capsys.readouterr().out
    assert "# tables:" in printed
    assert "# Left out: 5 of the first 5 rows would go to quarantine: timestamp" in printed
    assert "# - sqlite_table_name: t" in printed


def test_init_sets_the_one_format_that_reads_the_times_of_a_table(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    for name, moment in (("german", "27.11.2026 13:45"), ("plain", "2026-11-27 13:45")):
        box.execute(f"CREATE TABLE {name} (timestamp TEXT)", f"INSERT INTO {name} VALUES (?)", rows=[(moment,)] * 5)
    environ = {"SQLITE_PATH": str(box.database), "STATE_DIR": str(box.folder / "state")}
    assert up.main(["--init", "--lakehouse-path", str(box.folder / "lake")], environ) == 0
    file = box.folder / "uploader.yaml"
    file.write_text(capsys.readouterr().out)
    assert up.load_config({"config": file}, {}).tables == (
        {"sqlite_table_name": "german", "timestamp_format": "%d.%m.%Y %H:%M"},
        {"sqlite_table_name": "plain"},
    )
    assert up.main(["--config", str(file), "--once"], {}) == 0


@pytest.mark.parametrize("name", ["", " lead", "trail ", "[x", "a\\b", "a/b", "per%20cent", "two\nlines"])
def test_init_leaves_out_a_table_whose_name_no_setting_or_no_path_can_have(
    box: Box, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    box.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, timestamp TEXT)', "CREATE TABLE fit (id, timestamp)")
    lake = str(box.folder / "lake")
    assert up.main(["--init", "--lakehouse-path", lake], {"SQLITE_PATH": str(box.database)}) == 0
    file = box.folder / "uploader.yaml"
    file.write_text(capsys.readouterr().out)
    assert "# Left out: " in file.read_text()
    assert [entry["sqlite_table_name"] for entry in up.load_config({"config": file}, {}).tables] == ["fit"]
