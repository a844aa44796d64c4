"""Chapter Command line: quick help, one clear message for each fault, no secret in any output."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sensor_table
import sqlite_to_databricks_uploader as up
from boxes import PROGRAM, SCRIPT, Box, same_rows
from warehouse import Warehouse

READINGS = ", ".join(name for name in sensor_table.COLUMNS if name != "timestamp")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("warehouse")) as running:
        running.sql("CREATE SCHEMA sensors")
        yield running


def run(box: Box, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The script as a process of its own."""
    return subprocess.run(
        [*PROGRAM, *flags], env={**box.environ, **environ}, capture_output=True, text=True, timeout=200
    )


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(flag: str) -> None:
    code = f"""
import runpy, sys
try:
    runpy.run_path({str(SCRIPT)!r})["main"]([{flag!r}])
except SystemExit as ended:
    assert not ended.code
heavy = {{"pandas", "numpy", "deltalake", "arro3", "databricks", "yaml", "adbc_driver_manager", "tqdm"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "uploader" in done.stdout


def test_the_help_tells_the_exit_statuses_and_each_setting_with_its_variable() -> None:
    text = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True).stdout
    assert "3  done, but some rows went to quarantine" in " ".join(text.split("\n"))
    for name, setting in up.SETTINGS.items():
        if up.flags_of(name):
            assert up.flags_of(name)[0] in text
            assert setting.variables[0] in text


def test_without_its_packages_the_script_says_to_use_uv_run(box: Box) -> None:
    box.sample()
    done = subprocess.run([sys.executable, "-S", "-I", SCRIPT], env=box.environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert "uv run" in done.stderr
    assert "Traceback" not in done.stderr


FAULTS: dict[str, tuple[Callable[[Box], object], dict[str, str], int, str]] = {
    "missing database": (lambda box: box.database.unlink(), {}, 1, "does not exist"),
    "no database": (lambda box: box.database.write_text("nothing of the kind " * 100), {}, 1, "is not a SQLite database"),
    "empty database": (lambda box: box.database.write_bytes(b""), {}, 1, "no table yet"),
    "unwritable state": (lambda box: box.state_file.parent.write_text("a file, no directory"), {}, 1, "can't be written"),
    "wrong table": (Box.sample, {"SQLITE_TABLE_NAME": "sensor_reading"}, 2, "'sensor_readings'"),
    "wrong column": (Box.sample, {"TIMESTAMP_COL": "timestmp"}, 2, "'timestamp'"),
    "no target": (Box.sample, {"LAKEHOUSE_PATH": ""}, 2, "lakehouse_path"),
    "no table name": (Box.sample, {"DATABRICKS_TABLE": ""}, 2, "DATABRICKS_TABLE"),
    "two scenarios": (Box.sample, {"ENABLE_FILTER": "1", "ENABLE_SANITIZE": "1"}, 2, "both true"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_ends_with_one_clear_message_and_its_status(box: Box, fault: str) -> None:
    break_it, environ, status, said = FAULTS[fault]
    box.sample()
    break_it(box)
    done = run(box, **environ)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (status, True, False), done.stderr
    assert not (box.folder / "lake").exists()


def test_a_locked_database_is_reported_after_a_short_wait(box: Box) -> None:
    box.sample()
    with sqlite3.connect(box.database, isolation_level=None) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        done = run(box)
    holder.close()
    assert done.returncode == 1
    assert "locked by another process" in done.stderr
    assert run(box).returncode == 0


CANARY = "dapi-canary-4711"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"DATABRICKS_HOST": "no-such-host.invalid", "DATABRICKS_CA_FILE": ""}, "no Databricks host"),
        ({"DATABRICKS_HOST": "no-such-host.cloud.databricks.com", "DATABRICKS_CA_FILE": ""}, "can't be resolved"),
        ({"DATABRICKS_HOST": "127.0.0.1:9"}, "can't be reached"),
        ({}, "token"),
    ],
    ids=["foreign host", "unknown host", "unreachable host", "wrong token"],
)
def test_a_warehouse_that_cannot_be_used_is_reported_without_the_token(
    box: Box, warehouse: Warehouse, environ: dict[str, str], said: str
) -> None:
    box.sample()
    settings = {"LAKEHOUSE_PATH": "", "DATABRICKS_DATABASE": "sensors", "DATABRICKS_TOKEN": CANARY}
    done = run(box, "-vv", **{**warehouse.environment(), **settings, **environ})
    assert done.returncode in (1, 2)
    assert said in done.stderr
    for form in (CANARY, base64.b64encode(CANARY.encode()).decode()):
        assert form not in done.stderr + done.stdout
    assert "Traceback (most recent call last)" not in done.stderr


def to_warehouse(box: Box, warehouse: Warehouse, table: str) -> None:
    """Point a box at a table of the warehouse with the sample's columns and a batch id."""
    columns = ", ".join(
        f"{name} {up.declared_type(d)}" for name, d in sensor_table.COLUMNS.items() if name != "timestamp"
    )
    columns += ", timestamp TIMESTAMP, databricks_batch_id STRING"
    box.behind(warehouse, f"sensors.raw_{table}", columns)


def test_the_sample_reaches_the_warehouse_in_few_statements_and_nothing_new_sends_no_request(
    box: Box, warehouse: Warehouse
) -> None:
    box.sample()
    to_warehouse(box, warehouse, "sample")
    assert box.run() == 0
    assert same_rows(warehouse.sql(f"SELECT {READINGS} FROM sensors.raw_sample"), box.source(READINGS))
    assert len(warehouse.statements("insert into")) <= 3
    before = warehouse.log()
    assert box.run() == 0
    after = warehouse.log()
    assert (after["requests"], after["sessions_opened"]) == (before["requests"], before["sessions_opened"])
    box.execute(
        """INSERT INTO sensor_readings (timestamp, sensor_id)
           SELECT '2020-01-01T00:00:00.000+00:00', 'late' FROM sensor_readings LIMIT 1000"""
    )
    assert box.run("--batch-rows", "300") == 0
    assert same_rows(warehouse.sql(f"SELECT {READINGS} FROM sensors.raw_sample"), box.source(READINGS))


def test_the_token_is_in_no_log_line_of_any_library_at_debug(box: Box, warehouse: Warehouse) -> None:
    box.sample()
    to_warehouse(box, warehouse, "quiet")
    done = run(box, "-vv")
    assert done.returncode == 0, done.stderr
    assert "DEBUG" in done.stderr
    files = [file.read_text(errors="replace") for file in box.state_file.parent.rglob("*") if file.is_file()]
    everything = "".join([done.stderr, done.stdout, *files])
    for form in (warehouse.token, base64.b64encode(warehouse.token.encode()).decode()):
        assert form not in everything


def test_a_name_with_the_end_of_a_line_or_a_terminals_signs_ends_no_line_of_the_log(
    box: Box, capfd: pytest.CaptureFixture[str]
) -> None:
    name = '"odd\nERROR all\x1b[2J"'
    box.execute(f"CREATE TABLE {name} (v INTEGER, time TEXT)", f"INSERT INTO {name} VALUES (1, '2026-01-01')")
    assert up.main(["--once"], box.environ | {"DATABRICKS_TABLE": "odd"}) == 0
    lines = capfd.readouterr().err.splitlines()
    assert r"odd\nERROR all\x1b[2J" in "".join(lines)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z (INFO|WARNING) ", line) for line in lines)


def test_json_logs_are_one_object_a_line(box: Box) -> None:
    box.sample()
    lines = [json.loads(line) for line in run(box, "--log-format", "json").stderr.splitlines()]
    assert lines[-1]["rows"] == 3000
    assert all({"time", "level", "message"} <= line.keys() for line in lines)


def test_quiet_says_nothing_where_all_went_well(box: Box) -> None:
    box.sample()
    done = run(box, "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_quick_starts_of_the_seeds_are_accepted_as_they_stand(box: Box, tmp_path: Path) -> None:
    box.sample()
    earlier = tmp_path / "uploader-config.yaml"
    earlier.write_text(
        f'sqlite: "{box.database}"\ntable_path: "{tmp_path}/delta/sensor_readings"\n'
        f'state_dir: "{tmp_path}/earlier"\ninterval: 300\n'
    )
    path = os.environ["PATH"]
    assert up.main(["--config", str(earlier), "--once"], {"PATH": path}) == 0
    assert (tmp_path / "delta" / "sensor_readings" / "_delta_log").exists()
    today = tmp_path / "databricks-uploader-config.yaml"
    today.write_text(f"""
sqlite: "{box.database}"
sqlite_table_name: "sensor_readings"  # Optional - auto-detected if not specified
timestamp_col: "timestamp"        # Optional - auto-detected if not specified
databricks_host: "your-workspace.cloud.databricks.com"
databricks_http_path: "/sql/1.0/warehouses/your_warehouse_id"
databricks_token: "dapi..."  # Better to use DATABRICKS_TOKEN env var
databricks_database: "your_database"
databricks_table: "sensor_readings"
enable_sanitize: false
enable_filter: false
enable_aggregate: false
state_dir: "{tmp_path}/state"
interval: 300
""")
    config = up.load_config(up.parse_arguments(["--config", str(today)]), {})
    up.refuse_targets(config)
    assert up.routed_table(config.databricks_table or "", up.scenario_of(config)) == "raw_sensor_readings"


def test_rules_that_are_not_enabled_are_named(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """Who writes rules of a sanitizer may believe that values are hidden."""
    box.sample()
    assert box.run("--sanitize-config", '{"drop": ["temperature"]}') == 0
    assert "no processing is enabled; sanitize_config not in use" in caplog.text
    filtered = box.run("--enable-filter", "--filter-config", '{"temperature": {">": 0}}', STATE_DIR=f"{box.folder}/f")
    assert filtered == 0
    assert "/filtered_readings by Delta: enable_filter is true" in caplog.text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("flags", [["--since", "2026-01-01"], ["--flush"]])
def test_what_is_done_once_runs_one_cycle(box: Box, flags: list[str]) -> None:
    """A service that kept such a flag would send rows again at each start."""
    box.sample()
    del box.environ["ONCE"]
    assert box.run(*flags) == 0


CLOSED = ["2>&-", ">&-", "<&-", "<&- 2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize("closed", CLOSED)
def test_rows_arrive_whichever_standard_streams_are_closed(box: Box, closed: str) -> None:
    """And no file is opened under the number of one, where the log would be written into it."""
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    before = box.database.read_bytes()
    started = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, str(up.__file__), "-v"]
    ended = subprocess.run(started, env=box.environ, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert box.arrived("v") == [(1,)]
    assert box.state()["sequence"] == 1
    assert box.database.read_bytes() == before


def test_missing_streams_are_given_their_own_numbers() -> None:
    code = f"import runpy, os; runpy.run_path({str(up.__file__)!r})['open_streams'](); print(os.open(os.devnull, 0))"
    ended = subprocess.run(
        ["sh", "-c", '"$@" <&- 2>&-', "sh", sys.executable, "-c", code], capture_output=True, text=True
    )
    assert int(ended.stdout) > 2


@pytest.mark.parametrize(
    "environ", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}], ids=str
)
def test_output_in_a_plain_locale_is_never_a_traceback(box: Box, environ: dict[str, str]) -> None:
    box.execute(
        'CREATE TABLE "t\u2082" (time TEXT, "CO\u2082" TEXT)', "INSERT INTO \"t\u2082\" VALUES ('2026-01-01', '\u20ac')"
    )
    query = ["--run-query", "SELECT * FROM raw_readings"]
    lines = [["-v"], ["--dry-run"], ["--print-ddl"], ["--check"], ["--status"]]
    lines += [[*query, "--format", form] for form in ("csv", "json", "table")]
    lines += [["--table", "no\u2082", "--log-format", form] for form in ("text", "json")]
    program = f"""
import sys
import time
sys.path.insert(0, {str(Path(up.__file__).parent)!r})
import sqlite_to_databricks_uploader as up
up.open_streams()
for line in {lines!a}:
    print("ended with", up.main(line), flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], env={**box.environ, **environ}, capture_output=True)
    output, errors = (part.decode("utf-8", "replace") for part in (ended.stdout, ended.stderr))
    assert "Traceback" not in errors and "Error:" not in errors
    *shown, rest = re.split(r"ended with (\d)\n", output)
    assert [int(status) for status in shown[1::2]] == [0] * 8 + [2] * 2 and not rest
    assert all("2082" in text or "\u2082" in text for text in shown[2:8:2])


WAREHOUSE = {
    "LAKEHOUSE_PATH": "", "DATABRICKS_HOST": "no-such-host.cloud.databricks.com", "DATABRICKS_WAREHOUSE_ID": "abc",
    "DATABRICKS_DATABASE": "sensors", "PATH": "/nowhere", "HOME": "/nowhere",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "there is no token"),
        ({"DATABRICKS_CLIENT_ID": "x"}, "DATABRICKS_CLIENT_ID is set, but not DATABRICKS_CLIENT_SECRET"),
        ({"DATABRICKS_CLIENT_SECRET": "x"}, "DATABRICKS_CLIENT_SECRET is set, but not DATABRICKS_CLIENT_ID"),
    ],
)
def test_without_a_way_to_sign_in_the_ways_are_named_before_the_network_is_asked(
    box: Box, environ: dict[str, str], said: str
) -> None:
    box.sample()
    for flags in ([], ["--check"], ["--run-query", "INFO"]):
        done = run(box, *flags, **{**WAREHOUSE, **environ})
        told = done.stdout + done.stderr
        assert said in told and "DATABRICKS_TOKEN_FILE" in told and "DATABRICKS_CONFIG_PROFILE" in told
        assert "databricks-sdk" not in told and "can't be resolved" not in told


@pytest.mark.parametrize("variable", ["DATABRICKS_AUTH_TYPE", "ARM_CLIENT_ID", "ACTIONS_ID_TOKEN_REQUEST_URL"])
def test_other_ways_to_sign_in_are_left_to_the_sdk(variable: str) -> None:
    up.credentials(up.Config(databricks_client_id="x"), {variable: "x", "PATH": "", "HOME": "/nowhere"})


def test_a_store_without_credentials_is_one_line_and_what_to_set(box: Box) -> None:
    box.sample()
    done = run(box, LAKEHOUSE_PATH="s3://bucket/lake", AWS_REGION="eu-west-1", HOME="/nowhere")
    [fault] = [number for number, line in enumerate(done.stderr.splitlines()) if "ERROR" in line]
    said = done.stderr.splitlines()[fault:]
    assert "AWS_ACCESS_KEY_ID" in said[1]
    assert max(map(len, done.stderr.splitlines())) < 500
    assert all("WARN " not in line and "{" not in line for line in done.stderr.splitlines())


@pytest.mark.parametrize("where", ["/proc/typo", "FILE/lake"])
def test_a_path_that_cannot_be_made_is_no_passing_error_and_pins_no_state(box: Box, where: str) -> None:
    box.sample()
    done = run(box, "--lakehouse-path", where.replace("FILE", str(box.database)))
    assert done.returncode == 1
    assert "tries again" not in done.stderr and "check table_path or lakehouse_path" in done.stderr
    assert run(box).returncode == 0
    assert len(box.arrived("id")) == 3000
    moved = run(box, "--lakehouse-path", str(box.folder / "elsewhere"))
    assert "belongs to target" in moved.stderr and moved.returncode == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sqlit", "x"], "Did you mean --sqlite?"),
        (["--databricks_table=x"], "Did you mean --databricks-table?"),
        (["--databricks-token", CANARY], "set DATABRICKS_TOKEN"),
        (["--dryrun"], "Did you mean --dry-run?"),
    ],
)
def test_an_unknown_flag_names_the_nearest_one_and_repeats_no_value(box: Box, flags: list[str], said: str) -> None:
    done = run(box, *flags)
    assert done.returncode == 2
    assert said in done.stderr and CANARY not in done.stderr


def test_the_first_run_is_said_once_also_where_cycles_fail(box: Box) -> None:
    box.sample()
    wrong = str(box.database / "lake")
    done = [run(box, LAKEHOUSE_PATH=wrong) for _ in range(3)] + [run(box)]
    assert [each.stderr.count("first run of source") for each in done] == [1, 0, 0, 0]
    said = done[0].stderr.split("first run of source ")[1].split(":")[0]
    assert box.state()["source_id"] == said


def test_json_errors_are_one_line_with_kind_hint_source_and_table(box: Box) -> None:
    box.sample()
    said = json.loads(run(box, "--log-format", "json", "--timestamp-col", "timestmp").stderr.splitlines()[-1])
    assert (said["level"], said["kind"], said["status"]) == ("error", "ConfigError", 2)
    assert "timestamp" in said["hint"] and "\n" not in said["message"]
    assert (said["source"], said["table"]) == (str(box.database), "sensor_readings")


@pytest.mark.parametrize("kind", up.error_kinds())
def test_the_text_of_each_error_can_be_asked_for(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert up.main(["--help-error", kind.lower()], {}) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{kind} (status ") and len(text.split("\n\n")) > 2


def test_hints_name_no_documents_that_an_image_lacks() -> None:
    assert not [kind for kind in up.error_kinds() if "docs/" in (up.error_kinds()[kind].__doc__ or "")]
    assert not any("docs/" in hint for _, _, hint in up.STORE_ERRORS)
    assert up.main(["--help-error", "nonsense"], {}) == 2


def test_an_interrupt_while_looking_is_no_traceback(box: Box) -> None:
    """The process waits for its settings when it comes."""
    pipe = box.folder / "settings.yaml"
    os.mkfifo(pipe)
    started = [sys.executable, str(SCRIPT), "--config", str(pipe), "--status"]
    with subprocess.Popen(started, env=box.environ, stderr=subprocess.PIPE, text=True) as process:
        with pipe.open("w"):
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        assert process.stderr and process.stderr.read() == ""


# --- Signals, and streams that nobody reads ---


def program(*lines: str) -> list[str]:
    """A process that does what lines of Python say, the script at hand as `up`."""
    imports = f"import os, signal, sys, time; sys.path.insert(0, {str(SCRIPT.parent)!r})"
    return [sys.executable, "-c", "\n".join([imports, "import sqlite_to_databricks_uploader as up", *lines])]


# A call into C that lasts, in which none of Python's own handlers runs.
IN_C = "__import__('hashlib').pbkdf2_hmac('sha1', b'', b'', 10**9)"


def test_a_second_signal_ends_a_run_that_is_in_c_and_the_first_is_said(box: Box) -> None:
    box.execute("CREATE TABLE t (time TEXT)", "INSERT INTO t VALUES ('2026-01-01')")
    started = program(f"up.DeltaTarget.send = lambda *_: (print('sending', flush=True), {IN_C})", "up.run_process()")
    pipe = subprocess.PIPE
    with subprocess.Popen(started, env=box.environ, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout and process.stdout.readline() == "sending\n"
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.2)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stderr and "stopping as soon as what is under way has ended" in process.stderr.read()


def test_a_signal_that_comes_again_and_again_for_a_moment_is_one(box: Box) -> None:
    """Also on the way out, where Python would let it end the process."""
    box.execute("CREATE TABLE t (time TEXT)")
    with subprocess.Popen(PROGRAM, env=box.environ | {"ONCE": "0"}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "nothing new" not in process.stderr.readline():
            assert process.poll() is None
        end = time.monotonic() + 0.9
        while process.poll() is None and time.monotonic() < end:
            process.terminate()
            time.sleep(0.001)
        assert process.wait(60) == 0
        assert process.stderr.read().count("stopping as soon as what is under way has ended") == 1


def test_a_signal_while_the_lock_of_the_stop_is_held_does_not_hang() -> None:
    signals = "[os.kill(os.getpid(), each) for each in (signal.SIGTERM, signal.SIGINT)]; time.sleep(0.1)"
    lines = ["up.heed_signals(); stop = up.stop_event(up.Supervisor())", f"with stop._cond: {signals}"]
    stopped = subprocess.run(program(*lines, "sys.exit(not stop.wait(20))"), timeout=60)
    assert stopped.returncode == 0


@pytest.mark.parametrize(("copying", "grace"), [("time.sleep(60)", 60), (IN_C, 0.3)], ids=["python", "c"])
def test_a_signal_while_looking_leaves_no_copy_of_the_database(box: Box, copying: str, grace: float) -> None:
    """Whether the main thread comes to hear of it or not."""
    box.execute("CREATE TABLE t (time TEXT)")
    scratch = box.folder / "scratch"
    scratch.mkdir()
    lines = ["up.way_to_open = lambda *_: up.COPIED", "up.wal_generation = lambda _: ()", f"up.GRACE_SECONDS = {grace}"]
    lines += [f"up.copy_file = lambda _, copy: (copy.touch(), print('copying', flush=True), {copying})"]
    started = program(*lines, "sys.argv[1:] = ['--print-ddl']", "up.run_process()")
    environ = {**box.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(started, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "copying\n" and list(scratch.rglob("copy.db"))
        time.sleep(0.2)  # It goes into C now.
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
        assert process.stderr and process.stderr.read() == ""
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("flag", "status"), [("--once", 0), ("--status", 1), ("--print-ddl", 1), ("--check", 1), ("--help", 0)]
)
def test_streams_that_nobody_reads_change_no_status(box: Box, flag: str, status: int) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    reader, writer = os.pipe()
    os.close(reader)
    environ = {name: value for name, value in {**os.environ, **box.environ}.items() if name != "PYTHONUNBUFFERED"}
    errors = subprocess.PIPE if status else writer
    ended = subprocess.run([*PROGRAM, flag], env=environ, stdout=writer, stderr=errors, timeout=200, text=True)
    os.close(writer)
    assert ended.returncode == status
    assert not re.search("Exception|Error|ERROR|Traceback", ended.stderr or "")
    assert flag != "--once" or box.arrived("v") == [(1,)]


def test_results_that_find_no_room_end_with_an_error(box: Box) -> None:
    box.execute("CREATE TABLE t (time TEXT)")
    environ = {name: value for name, value in {**os.environ, **box.environ}.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*PROGRAM, "--init"], env=environ, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert re.fullmatch(r"\S+ ERROR No space left on device\n.*\n.*\n", ended.stderr)


def test_a_working_directory_that_was_removed_is_named(box: Box, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    leave = 'cd "$0" && rmdir "$0" && exec "$@"'
    command = ["sh", "-c", leave, str(gone), *PROGRAM, "--sqlite", "relative.db"]
    ended = subprocess.run(command, env=box.environ, capture_output=True, text=True, timeout=200)
    assert (ended.returncode, "the working directory: No such file" in ended.stderr) == (1, True), ended.stderr


def test_a_stop_amid_an_action_that_waits_is_no_error(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.execute("CREATE TABLE t (time TEXT)")

    def waiting(*_: object) -> int:
        raise up.Stopped("stopped while the warehouse was starting")

    monkeypatch.setattr(up, "replay_quarantine", waiting)
    assert box.run("--replay-quarantine") == 0
