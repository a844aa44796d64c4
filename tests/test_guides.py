"""The guides on Databricks, S3, queries, routes and upgrading: what can run here is run, the rest is parsed."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from arro3.core import Array, DataType, Table
from deltalake import DeltaTable, write_deltalake

import sqlite_to_databricks_uploader as up
from boxes import PROGRAM, ROOT, SAMPLE, rows_of
from warehouse import Warehouse

SETUP, S3, QUERYING, ROUTES, UPGRADING, FLEET = (
    ROOT / "docs" / f"{name}.md"
    for name in ("databricks-setup", "databricks-s3-connect", "querying", "choosing-a-route", "upgrading", "fleet")
)
GUIDES = (SETUP, S3, QUERYING, ROUTES, UPGRADING, FLEET)
PRINCIPAL = "11111111-2222-3333-4444-555555555555"
ELSEWHERE = "-- On Databricks only\n"
DEVICE = "device_id TEXT, timestamp TEXT, temperature REAL, humidity REAL, status TEXT"
SCENARIOS = {
    "raw": {},
    "filtered": {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"temperature": {">": 20}}'},
    "secure": {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"remove_nulls": ["temperature"]}'},
    "aggregated": {"ENABLE_AGGREGATE": "1"},
}
HOURLY = {
    "group_by": ["device_id", "hour"],
    "aggregations": {"temperature": "avg", "humidity": "max", "readings": "count"},
}
BY_MINUTE = {"group_by": ["sensor_id", "minute"], "aggregations": {"temperature": "avg", "readings": "count"}}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def statements(page: Path, *, here: bool = True) -> list[str]:
    """The SQL statements that the local warehouse can run, or those that it can't."""
    found = [block for block in blocks(page, "sql") if block.startswith(ELSEWHERE) != here]
    lines = [re.sub(r"^--.*\n", "", block, flags=re.MULTILINE) for block in found]
    return [statement.strip() for block in lines for statement in block.split(";") if statement.strip()]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A local warehouse that knows the guide's principal, set up as the guide says."""
    with Warehouse(tmp_path_factory.mktemp("warehouse"), "--client", f"{PRINCIPAL}:s3cret") as running:
        for statement in statements(SETUP):
            running.sql(statement)
        yield running


def run(environ: Mapping[str, str], *flags: str) -> int:
    """One upload in this process; its exit status."""
    return up.main(["--once", *flags], environ)


def scenarios(folder: Path, aggregate: Mapping[str, object], **environ: str) -> None:
    """Upload in all four scenarios, each with a state of its own, open windows included."""
    for name, enabled in SCENARIOS.items():
        rules = {"AGGREGATE_CONFIG": json.dumps(aggregate)}
        assert run({**environ, **rules, **enabled, "STATE_DIR": str(folder / name)}, "--flush") == 0, name


# === Settings, JSON and shell


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_yaml_in_the_guides_is_accepted_and_names_a_target(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        config = up.load_config({"config": file}, {})
        if config.sqlite:
            up.refuse_targets(config)
        else:
            assert config.storage_options == {"timeout": "1800s"}


def test_the_policy_is_the_one_that_the_s3_tests_run_with() -> None:
    (policy,) = blocks(S3, "json")
    granted = {action for statement in json.loads(policy)["Statement"] for action in statement["Action"]}
    module = ast.parse((ROOT / "tests" / "s3_server.py").read_text())
    lists = [node.value for node in module.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)]
    used = {part.value for found in lists for part in found.elts if isinstance(part, ast.Constant)}
    assert granted == used


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_shell_in_the_guides_parses(page: Path) -> None:
    for block in blocks(page, "sh"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


class Shell:
    """A directory in which a guide's shell blocks are run; `uv run` there means this test's Python."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        uv = folder / "bin" / "uv"
        uv.parent.mkdir()
        script = "databricks-uploader/sqlite_to_databricks_uploader.py"
        uv.write_text(f'#!/bin/sh\n[ "$1 $2" = "run {script}" ] || exit 99\nshift 2\nexec {shlex.join(PROGRAM)} "$@"\n')
        uv.chmod(0o755)
        shutil.copy(SAMPLE, folder / "sensor.db")
        self.environ = {"PATH": f"{uv.parent}:{os.environ['PATH']}", "HOME": str(folder), **environ}
        self.environ["SQLITE_PATH"] = str(folder / "sensor.db")

    def run(self, block: str) -> str:
        """Everything that a block prints; it must end with 0."""
        command = ["bash", "-eu", "-c", block]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr + done.stdout


def test_the_commands_of_the_set_up_run(warehouse: Warehouse, tmp_path: Path) -> None:
    """Sign-in as the service principal, and the bulk route's volume, included."""
    (settings,), (block,) = blocks(SETUP, "yaml"), blocks(SETUP, "sh")
    warehouse.sql("CREATE SCHEMA IF NOT EXISTS main.commands")
    environ = {name: value for name, value in warehouse.environment().items() if name != "DATABRICKS_TOKEN"}
    shell = Shell(tmp_path, **environ, DATABRICKS_DATABASE="main.commands")
    (tmp_path / "uploader.yaml").write_text(settings)
    for statement in shell.run(uploader("--print-ddl", "uploader.yaml")).split(";"):
        if statement.strip():
            warehouse.sql(statement)
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "secret").chmod(0o600)
    printed = shell.run(block.replace("/run/secrets/databricks_client_secret", str(tmp_path / "secret")))
    assert "signed in as" in printed, "as the principal: there is no token"
    assert "/Volumes/main/sensor_data/uploads can be listed" in printed
    assert re.search(r"^rows\n-+\n3000$", printed, re.MULTILINE)


def uploader(flags: str, config: str) -> str:
    """A command of the uploader, as the guides write it."""
    return f"uv run databricks-uploader/sqlite_to_databricks_uploader.py --config {config} {flags}"


def test_the_commands_of_the_s3_guide_run_on_a_local_lakehouse(tmp_path: Path) -> None:
    shell = Shell(tmp_path, LAKEHOUSE_PATH=str(tmp_path / "lake"))
    (tmp_path / "uploader.yaml").write_text(blocks(S3, "yaml")[0])
    (block,) = blocks(S3, "sh")
    assert "3000 rows sent" in shell.run(block)


def test_the_commands_of_the_query_guide_run(tmp_path: Path) -> None:
    shell = Shell(tmp_path, LAKEHOUSE_PATH=str(tmp_path / "lake"), DATABRICKS_TABLE="sensor_readings")
    (tmp_path / "uploader.yaml").write_text("state_dir: ./state\n")
    shell.run(uploader("--once", "uploader.yaml"))
    (block,) = blocks(QUERYING, "sh")
    assert shell.run(block).endswith("sensor_id,readings\nSENSOR_IL_CHI_0001,3000\n")


# === Set-up


def test_the_four_tables_take_rows_of_all_four_scenarios(warehouse: Warehouse, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(blocks(SETUP, "yaml")[0])
    database = device_database(tmp_path, 100)
    for name, enabled in SCENARIOS.items():
        environ = {**warehouse.environment(), "SQLITE_PATH": str(database), "AGGREGATE_CONFIG": json.dumps(HOURLY)}
        status = run({**environ, **enabled, "STATE_DIR": str(tmp_path / name)}, "--flush", "--config", str(config))
        assert status == 0, name
    counts = [warehouse.sql(f"SELECT count(*) FROM main.sensor_data.{name}_sensor_readings") for name in SCENARIOS]
    assert [count for [(count,)] in counts] == [100, 79, 100, 2]
    batches = "SELECT count(*) FROM main.sensor_data.{}_sensor_readings WHERE databricks_batch_id IS NULL"
    assert [warehouse.sql(batches.format(name)) for name in SCENARIOS] == [[(0,)]] * 4


def test_much_data_goes_through_the_volume(warehouse: Warehouse, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(blocks(SETUP, "yaml")[0])
    rows = up.CopyRoute.LEAST_ROWS + 1
    environ = {
        **warehouse.environment(),
        "SQLITE_PATH": str(device_database(tmp_path, rows)),
        "UPLOAD_SOURCE_ID": "bulk",
    }
    assert run({**environ, "STATE_DIR": str(tmp_path / "state")}, "--config", str(config)) == 0
    count = "SELECT count(*) FROM main.sensor_data.raw_sensor_readings WHERE databricks_batch_id LIKE 'bulk/%'"
    assert warehouse.sql(count) == [(rows,)]
    assert warehouse.statements("copy into")
    assert f"{up.CopyRoute.LEAST_ROWS:,} rows a commit" in SETUP.read_text()


def device_database(folder: Path, rows: int) -> Path:
    """A sensor's database with the guide's columns: a reading a minute."""
    file = folder / "device.db"
    with sqlite3.connect(file) as database:
        database.execute(f"CREATE TABLE readings (id INTEGER PRIMARY KEY, {DEVICE})")
        database.execute(
            """WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
               INSERT INTO readings
               SELECT i + 1, 'd1', strftime('%Y-%m-%dT%H:%M:%SZ', 1767225600 + 60 * i, 'unixepoch'), i % 1000, 50, 'ok'
               FROM n""",
            (rows,),
        )
    database.close()
    return file


def test_what_only_databricks_can_run_speaks_of_the_tables_that_were_made() -> None:
    made = {name for text in statements(SETUP) for name in re.findall(r"EXISTS (main\.\S+)", text)}
    elsewhere = [text for page in GUIDES for text in statements(page, here=False)]
    assert {text.split()[0] for text in elsewhere} == {"GRANT", "SHOW", "CREATE", "MSCK"}
    named = {name for text in elsewhere for name in re.findall(r"main\.sensor_data\.\w+", text)}
    assert named <= made
    for text in elsewhere:
        assert text.count("'") % 2 == text.count("`") % 2 == 0
        if text.startswith("GRANT"):
            assert re.fullmatch(
                r"GRANT [A-Z ]+(, [A-Z ]+)* ON (CATALOG|SCHEMA|TABLE|VOLUME) [\w.]+ TO `[\w-]+`", text
            ), text


# === Queries


@pytest.fixture(scope="module")
def sample(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The warehouse with the sample in four tables of the schema `sample`, which --print-ddl described."""
    folder = tmp_path_factory.mktemp("sample")
    source = {"SQLITE_PATH": str(SAMPLE), "DATABRICKS_DATABASE": "main.sample", "DATABRICKS_TABLE": "sensor_readings"}
    environ = {**warehouse.environment(), **source, "UPLOAD_SOURCE_ID": "box-1"}
    rules = {"AGGREGATE_CONFIG": json.dumps(BY_MINUTE)}
    command = [*PROGRAM, "--print-ddl", "all"]
    ddl = subprocess.run(command, env={**environ, **rules}, capture_output=True, text=True, check=True).stdout
    for statement in ddl.split(";"):
        if statement.strip():
            warehouse.sql(statement)
    scenarios(folder, BY_MINUTE, **environ)
    return warehouse


def test_every_query_of_the_guide_runs_on_the_sample(sample: Warehouse) -> None:
    queries = [text.replace("main.sensor_data", "main.sample") for text in statements(QUERYING)]
    assert len(queries) > 5
    answers = {query: sample.sql(query) for query in queries}
    assert all(answers.values())
    (freshness,) = (rows for query, rows in answers.items() if "lag_seconds" in query)
    assert [(node, readings) for node, readings, *_ in freshness] == [("box-1", 3000)]
    (gaps,) = (rows for query, rows in answers.items() if "gaps" in query)
    assert gaps == [(3000, 3000, 0)]
    (overview,) = (rows for query, rows in answers.items() if "'aggregated'" in query)
    assert {name: count for name, count, *_ in overview}["aggregated"] == 3000


@pytest.fixture(scope="module")
def fleet(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The schema `fleet`: two boxes have just uploaded two readings each, a third one fell silent two days ago."""
    folder = tmp_path_factory.mktemp("fleet")
    warehouse.sql("CREATE SCHEMA main.fleet")
    added = "databricks_inserted_at TIMESTAMP, databricks_batch_id STRING"
    warehouse.sql(f"CREATE TABLE main.fleet.raw_sensor_readings (id BIGINT, timestamp TIMESTAMP, {added})")
    for box in ("box-1", "box-2"):
        source = folder / f"{box}.db"
        with sqlite3.connect(source) as database:
            database.execute("CREATE TABLE sensor_readings (id INTEGER PRIMARY KEY, timestamp TEXT)")
            rows = "VALUES (1, datetime('now', '-300 seconds')), (2, datetime('now', '-60 seconds'))"
            database.execute(f"INSERT INTO sensor_readings {rows}")
        database.close()
        environ = {"SQLITE_PATH": str(source), "UPLOAD_SOURCE_ID": box, "STATE_DIR": str(folder / box)}
        target = {"DATABRICKS_DATABASE": "main.fleet", "DATABRICKS_TABLE": "sensor_readings"}
        assert run({**warehouse.environment(), **environ, **target}) == 0
    earlier = "current_timestamp() - INTERVAL 2 DAYS"
    warehouse.sql(f"INSERT INTO main.fleet.raw_sensor_readings SELECT 1, {earlier}, {earlier}, 'box-3/a/1'")
    return warehouse


def questions(of: str) -> dict[str, str]:
    """The statements of fleet.sql on the tables of a schema, each under the first words of its comment."""
    text = (FLEET.with_suffix("") / "fleet.sql").read_text().replace("main.sensor_data", of)
    parts = (part.partition("\n") for part in text.split("\n\n")[1:])
    named = {re.split(r"[:,.]", comment[3:])[0]: statement.strip().rstrip(";") for comment, _, statement in parts}
    assert len(named) == text.count(";\n") > 6
    return named


def test_the_questions_about_a_fleet_find_what_is_silent_late_or_double(fleet: Warehouse) -> None:
    """Also a row that came twice, which no uploader sends."""
    asked = questions("main.fleet")
    assert fleet.sql(asked["Doubles"]) == []
    again = "SELECT id, timestamp, databricks_inserted_at, 'box-2/a/9' FROM main.fleet.raw_sensor_readings"
    fleet.sql(f"INSERT INTO main.fleet.raw_sensor_readings {again} WHERE databricks_batch_id LIKE 'box-2/%' AND id = 2")
    assert [(box, key, copies, batches) for box, key, _, copies, batches in fleet.sql(asked["Doubles"])] == [
        ("box-2", 2, 2, 2)
    ]
    assert {row[0]: row[3] > 86400 for row in fleet.sql(asked["Freshness"])} == {
        "box-3": True,
        "box-2": False,
        "box-1": False,
    }
    assert [row[0] for row in fleet.sql(asked["Silent boxes"])] == ["box-3"]
    by_hour = fleet.sql(asked["Rows by hour and box"])
    assert {box: sum(n for _, b, n in by_hour if b == box) for _, box, _ in by_hour} == {"box-1": 2, "box-2": 3}
    assert {row[0] for row in fleet.sql(asked["Delay of the last day's rows"])} == {"box-1", "box-2"}


def test_the_questions_about_the_status_of_boxes_name_the_worst_first(fleet: Warehouse) -> None:
    fleet.sql(up.status_ddl(up.Config(databricks_database="main.fleet", status_table="uploader_status")).rstrip(";"))
    names = ", ".join(name for name in up.STATUS_COLUMNS if name != "failures")
    rows = [
        ("box-1", 0, "NULL", 5),
        ("box-1", 9, "'TargetError'", 90),
        ("box-2", 500, "NULL", 10),
        ("box-3", 1, "'off'", 300),
    ]
    for box, waiting, error, minutes in rows:
        values = f"'{box}', '1.1.0', 'raw_r', '7', NULL, {waiting}, 0, {error}, 0.5"
        fleet.sql(
            f"INSERT INTO main.fleet.uploader_status ({names})"
            f" SELECT {values}, current_timestamp() - INTERVAL {minutes} MINUTES"
        )
    newest, missing = (text for text in questions("main.fleet").values() if "uploader_status" in text)
    assert [row[0] for row in fleet.sql(newest)] == ["box-3", "box-2", "box-1"]
    assert [row[0] for row in fleet.sql(missing)] == ["box-3"]


def test_containers_get_their_own_paths_in_place_of_those_that_init_writes() -> None:
    """`--init` writes absolute paths of the machine on which it runs."""
    for name in ("docs/docker.md", "databricks-uploader/compose.yaml", "docs/fleet/bacalhau.yaml"):
        text = (ROOT / name).read_text()
        assert re.search(r"\bSQLITE_PATH(=|: )/data/", text) and re.search(r"\bSTATE_DIR(=|: )/state", text), name


def test_python_in_the_guides_compiles() -> None:
    for page in GUIDES:
        for block in blocks(page, "python"):
            compile(block, page.name, "exec")


@pytest.mark.network
@pytest.mark.slow
def test_the_spark_block_runs_on_the_sample(sample: Warehouse) -> None:
    if not shutil.which("uv"):
        pytest.skip("uv is not installed, so the Spark block was not run")
    block = blocks(QUERYING, "python")[0].replace("main.sensor_data", "sample")
    command = ["uv", "run", "--quiet", "--script", str(ROOT / "tests" / "spark_block.py")]
    table = f"sample.raw_sensor_readings={sample.table_path('sample.raw_sensor_readings')}"
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run([*command, table], input=block, env=environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "Records in sample.raw_sensor_readings: 3000" in done.stdout
    assert re.search(r"\| *SENSOR_IL_CHI_0001 *\|.*\| *3000 *\| *61\.03 *\|", done.stdout)


# === Many boxes


def test_a_producer_that_deletes_as_the_guide_shows_loses_nothing(tmp_path: Path) -> None:
    """While nothing is known it deletes nothing; afterwards all but the newest delivered row."""
    (block,) = blocks(FLEET, "python")
    guide: dict[str, Any] = {"json": json, "subprocess": subprocess}
    exec(block, guide)
    source, config = tmp_path / "sensor.db", tmp_path / "config.yaml"
    settings = {
        "sqlite": source,
        "tables": ["readings"],
        "lakehouse_path": tmp_path / "lake",
        "state_dir": tmp_path / "state",
    }
    config.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    database = sqlite3.connect(source)
    database.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY, timestamp TEXT)")
    for uploads, left in ((False, 30), (True, 1), (True, 1)):
        database.executemany("INSERT INTO readings (timestamp) VALUES (?)", [("2026-11-28T12:00:00Z",)] * 30)
        database.commit()
        assert not uploads or run({}, "--config", str(config)) == 0
        guide["forget_delivered"](database, [*PROGRAM, "--config", str(config)])
        assert database.execute("SELECT count(*) FROM readings").fetchall() == [(left,)]
    database.close()
    table = DeltaTable(str(tmp_path / "lake" / "raw_readings"))
    assert rows_of(table, "id") == sorted(((key,) for key in range(1, 91)), key=repr)


# === Upgrading


def earlier_table(path: Path, until: str) -> None:
    """A table as the earlier uploader made it: all columns as SQLite gives them, times as text."""
    connection = sqlite3.connect(SAMPLE)
    found = connection.execute(
        "SELECT id, timestamp, sensor_id, temperature FROM sensor_readings WHERE timestamp <= ?", (until,)
    )
    ids, times, sensors, temperatures = zip(*found, strict=True)
    connection.close()
    columns: dict[str, Any] = {"id": Array(ids, DataType.int64()), "timestamp": Array(times, DataType.utf8())}
    columns |= {"sensor_id": Array(sensors, DataType.utf8()), "temperature": Array(temperatures, DataType.float64())}
    write_deltalake(str(path), Table.from_pydict(columns))


def test_the_earlier_uploader_s_configuration_state_and_table_carry_over(tmp_path: Path) -> None:
    (settings,), (state,) = blocks(UPGRADING, "yaml"), blocks(UPGRADING, "json")
    table = tmp_path / "delta" / "sensor_readings"
    earlier_table(table, json.loads(state)["last_upload"])
    before = DeltaTable(str(table)).count()
    assert 0 < before < 3000
    shutil.copy(SAMPLE, tmp_path / "sensor.db")
    (tmp_path / "last_upload.json").write_text(state)
    config = tmp_path / "uploader.yaml"
    config.write_text(settings.replace("s3://YOUR_S3_BUCKET_NAME", str(tmp_path)).replace("/root", str(tmp_path)))
    assert up.main(["--config", str(config), "--once"], {}) == 0
    assert up.main(["--config", str(config), "--once"], {}) == 0
    connection = sqlite3.connect(SAMPLE)
    source = connection.execute("SELECT id, timestamp, sensor_id, temperature FROM sensor_readings").fetchall()
    connection.close()
    arrived = rows_of(DeltaTable(str(table)), "id, timestamp, sensor_id, temperature")
    assert arrived == sorted(source, key=repr)


def test_the_commands_of_the_upgrade_run(tmp_path: Path) -> None:
    shell = Shell(tmp_path, TABLE_PATH=str(tmp_path / "delta" / "sensor_readings"), STATE_DIR=str(tmp_path / "state"))
    (tmp_path / "uploader.yaml").write_text(blocks(UPGRADING, "yaml")[0])
    printed = [shell.run(block) for block in blocks(UPGRADING, "sh")]
    assert "Would go to" in printed[1]
    assert re.search(r"readings\n-+\n3000\n", printed[2])
    assert '"last_upload": "2026-11-23T12:25:55.032000+00:00"' in printed[3]
    made = json.loads((tmp_path / "state-warehouse" / "last_upload.json").read_text())
    assert up.to_microseconds(made["last_upload"], up.AUTO) == up.to_microseconds(
        "2026-11-23T12:25:55.032000Z", up.AUTO
    )


def test_a_state_of_a_newer_format_stops_the_run_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "state" / "last_upload.json"
    file.parent.mkdir()
    document = {"format": up.STATE_FORMAT + 1, "last_upload": None}
    file.write_text(json.dumps({**document, "checksum": up.checksum(document)}))
    content = file.read_bytes()
    environ = {"SQLITE_PATH": str(SAMPLE), "TABLE_PATH": str(tmp_path / "t"), "STATE_DIR": str(file.parent)}
    assert run(environ) == 1
    assert file.read_bytes() == content
    assert f"has a `format`, now {up.STATE_FORMAT}" in UPGRADING.read_text()


# === Numbers


def test_numbers_in_the_guides_are_the_program_s() -> None:
    assert f"up to {up.CopyRoute.LEAST_ROWS:,} rows" in ROUTES.read_text()
    assert f"`interval` is {up.Config().interval:g} seconds" in ROUTES.read_text()
    seconds = int(up.PATIENT["timeout"].rstrip("s"))
    assert seconds == 300 and "each within five minutes" in S3.read_text()
    assert f"enough for {10 * 5 * 2**20 * 8 / seconds / 1e6:.1f} Mbit/s" in S3.read_text()
