"""Chapter Actions, what is seen from outside while cycles run: metrics, health, the supervisor."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import math
import os
import random
import re
import shutil
import socket
import stat
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from prometheus_client.parser import text_string_to_metric_families

import sqlite_to_databricks_uploader as up
from boxes import Box, interrupted_at, rows_of
from warehouse import Warehouse

TABLE = "CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, value REAL)"
INSERT = "INSERT INTO s (timestamp, value) VALUES (?, ?)"
BY_TIME = "CREATE TABLE s (timestamp TEXT, value REAL, name TEXT PRIMARY KEY) WITHOUT ROWID"
BY_HOUR = ("--enable-aggregate", "--aggregate-config",
           json.dumps({"group_by": ["hour"], "aggregations": {"value": "avg"}}))  # fmt: skip
OLD = 0.0  # an hour before the test


@pytest.fixture(autouse=True)
def an_hour_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "OLD", time.time() - 3600)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("warehouse"), "--client", "box:s3cret") as running:
        running.sql("CREATE SCHEMA s")
        running.zerobus(delay=0, spread=0.0)
        yield running


@pytest.fixture
def far(box: Box, warehouse: Warehouse, request: pytest.FixtureRequest) -> Box:
    """A box with a table in the warehouse; its token is in a file."""
    name = re.sub(r"\W", "_", request.node.name)[-40:].lower()
    warehouse.sql(f"CREATE TABLE s.raw_{name} (id BIGINT, timestamp TIMESTAMP, value DOUBLE)")
    del box.environ["LAKEHOUSE_PATH"]
    box.environ |= {**warehouse.environment(), "DATABRICKS_DATABASE": "main.s", "DATABRICKS_TABLE": name}
    del box.environ["DATABRICKS_TOKEN"]
    box.environ["DATABRICKS_TOKEN_FILE"] = str(box.folder / "token")
    (box.folder / "token").write_text(warehouse.token)
    return box


def iso(seconds: float) -> str:
    return up.moment_of(round(seconds * 10**6)).isoformat()


def rows(count: int, since: float | None = None) -> list[tuple[str, float]]:
    return [(iso((OLD if since is None else since) + index), index / 2) for index in range(count)]


@pytest.fixture
def measured(box: Box) -> Box:
    """A box with a metrics file."""
    box.environ["UPLOAD_METRICS_FILE"] = str(box.folder / "uploader.prom")
    return box


def samples(text: str) -> dict[tuple[str, str], float]:
    """The values by name and table."""
    families = text_string_to_metric_families(text)
    return {(s.name.removeprefix("uploader_"), s.labels["table"]): s.value for f in families for s in f.samples}


def in_file(box: Box) -> dict[tuple[str, str], float]:
    return samples((box.folder / "uploader.prom").read_text())


def refused(monkeypatch: pytest.MonkeyPatch, error: up.UploaderError) -> contextlib.AbstractContextManager[None]:
    """Let no commit go."""

    @contextlib.contextmanager
    def refusing() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(up.DeltaTarget, "ready", lambda *_: (_ for _ in ()).throw(error))
            yield

    return refusing()


@contextlib.contextmanager
def watching(box: Box, **environ: str) -> Iterator[up.Watch]:
    """A service on a box, whose cycles the test runs."""
    config = up.load_config({}, {**box.environ, "ONCE": "0", **environ})
    with up.StateFile(box.folder / "state"):
        fleet = up.Fleet(config, {**box.environ, **environ}, threading.Event(), supervisor=up.Supervisor.of(environ))
        yield up.watch_over(fleet)


# --- Metrics ---


def test_the_file_has_the_metrics_after_a_cycle_and_counts_go_on_in_the_next_run(measured: Box) -> None:
    measured.execute(TABLE, INSERT, rows=rows(3))
    assert measured.run() == 0
    found = in_file(measured)
    expected = {"rows_sent_total": 3, "commits_total": 1, "rows_quarantined_total": 0, "cycle_seconds_count": 1}
    expected |= {"rows_waiting": 0, "oldest_waiting_seconds": 0, "quarantine_rows": 0, "open_windows": 0}
    expected |= {"consecutive_failures": 0, "info": 1}
    assert {name: found[name, "raw_s"] for name in expected} == expected
    assert found["bytes_sent_total", "raw_s"] > 0
    assert abs(found["last_success_timestamp_seconds", "raw_s"] - time.time()) < 60
    assert 3500 < found["lag_seconds", "raw_s"] < 3900
    measured.execute(INSERT, rows=[*rows(2), ("soon", 1.0)])
    assert measured.run() == 3
    found = in_file(measured)
    assert [found[name, "raw_s"] for name in ("rows_sent_total", "commits_total", "cycle_seconds_count")] == [5, 2, 2]
    assert [found[name, "raw_s"] for name in ("rows_quarantined_total", "quarantine_rows")] == [1, 1]


def test_a_commit_whose_end_was_not_seen_is_counted_once_it_is_known(
    measured: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measured.execute(TABLE, INSERT, rows=rows(3))
    with monkeypatch.context() as patch:
        interrupted_at(up.DeltaTarget, "send", "after", 1, patch.setattr)
        with pytest.raises(KeyboardInterrupt):
            measured.run()
    assert measured.run() == 0
    assert [in_file(measured)[name, "raw_s"] for name in ("rows_sent_total", "commits_total")] == [3, 1]
    assert "3 rows sent in 1 commit" in caplog.text


def test_the_info_names_version_source_route_target_and_scenario(measured: Box) -> None:
    measured.execute(TABLE, INSERT, rows=rows(1))
    assert measured.run("--source-id", "box-7") == 0
    text = (measured.folder / "uploader.prom").read_text()
    [info] = [s.labels for f in text_string_to_metric_families(text) for s in f.samples if s.name == "uploader_info"]
    place = str(measured.folder / "lake" / "raw_readings")
    named = {"source_id": "box-7", "route": "Delta", "target": place, "scenario": "raw", "version": up.__version__}
    assert info == {"table": "raw_s", **named}


def test_a_failed_cycle_tells_at_once_what_waits_and_how_often_it_failed(
    measured: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured.execute(TABLE, INSERT, rows=rows(3))
    assert measured.run() == 0
    measured.execute(INSERT, rows=rows(5, OLD + 100))
    for failures in (1, 2):
        with refused(monkeypatch, up.TransientError("busy")):
            assert measured.run() == 1
        found = in_file(measured)
        assert found["consecutive_failures", "raw_s"] == failures
        assert found["rows_waiting", "raw_s"] == 5
        assert 3400 < found["oldest_waiting_seconds", "raw_s"] < 3850
    assert re.search(r'uploader_errors_total\{kind="TransientError",table="raw_s"\} 2.0', text_of(measured))
    assert measured.run() == 0
    found = in_file(measured)
    assert (found["consecutive_failures", "raw_s"], found["rows_waiting", "raw_s"]) == (0, 0)
    assert found["oldest_waiting_seconds", "raw_s"] == 0


def text_of(box: Box) -> str:
    return (box.folder / "uploader.prom").read_text()


def test_after_a_restart_nothing_is_said_of_waiting_rows_until_they_were_looked_for(
    measured: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured.execute(TABLE, INSERT, rows=rows(3))
    assert measured.run() == 0
    measured.execute(INSERT, rows=rows(2000))
    seen = list[dict[tuple[str, str], float]]()
    with watching(measured) as watch:
        assert watch.metrics
        metrics, ready = watch.metrics, up.DeltaTarget.ready

        def scrape() -> dict[tuple[str, str], float]:
            metrics.write(measured.folder / "now.prom")
            return samples((measured.folder / "now.prom").read_text())

        def scraped(*arguments: Any) -> up.Intent:
            seen.append(scrape())
            return ready(*arguments)

        monkeypatch.setattr(up.DeltaTarget, "ready", scraped)
        first = scrape()
        assert ("rows_waiting", "raw_s") not in first
        assert (first["rows_sent_total", "raw_s"], first["consecutive_failures", "raw_s"]) == (3, 0)
        watch.cycle()
        assert scrape()["rows_waiting", "raw_s"] == 0
    assert [found["rows_waiting", "raw_s"] for found in seen] == [2000]


def test_rows_of_a_database_made_anew_are_all_waiting(measured: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    measured.execute(TABLE, INSERT, rows=rows(30))
    assert measured.run() == 0
    measured.database.unlink()
    measured.execute(TABLE, INSERT, rows=rows(20, OLD + 1000))
    with refused(monkeypatch, up.TransientError("busy")):
        assert measured.run() == 1
    assert in_file(measured)["rows_waiting", "raw_s"] == 20


def test_by_time_a_failed_cycle_counts_what_waits_where_an_index_tells(
    measured: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured.execute(BY_TIME, "CREATE INDEX i ON s (timestamp)")
    insert = "INSERT INTO s VALUES (?, ?, hex(randomblob(8)))"
    measured.execute(insert, rows=rows(400))
    with refused(monkeypatch, up.TransientError("busy")):
        assert measured.run() == 1
    found = in_file(measured)
    assert found["rows_waiting", "raw_s"] == 400
    assert 3590 < found["oldest_waiting_seconds", "raw_s"] < 3900
    assert measured.run() == 0
    measured.execute(insert, rows=[*rows(1, OLD + 350), *rows(6, OLD + 500)])  # one of them late
    with refused(monkeypatch, up.TransientError("busy")):
        assert measured.run() == 1
    assert in_file(measured)["rows_waiting", "raw_s"] == 7
    measured.execute("DROP INDEX i")
    with refused(monkeypatch, up.TransientError("busy")):
        assert measured.run() == 1
    assert ("rows_waiting", "raw_s") not in in_file(measured)
    assert measured.run() == 0
    assert in_file(measured)["rows_waiting", "raw_s"] == 0


def test_very_many_waiting_rows_are_guessed_by_the_density_of_their_rowids(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "COUNTED_ROWS", 100)
    box.execute(TABLE, "INSERT INTO s (id, timestamp) VALUES (?, ?)", rows=[(7 * i, iso(OLD)) for i in range(1, 1001)])
    config = up.load_config({}, box.environ)
    with up.opened_database(config) as database:
        reader = up.reader_of(config, database)
        cursor = up.RowidCursor(reader)
        assert [cursor.count_after(low) for low in (None, 0, 6999, 7000)] == [1000, 1000, 1, 0]
        assert abs(cursor.count_after(3500) - 500) <= 5


def test_open_windows_are_counted_and_their_rows_wait_but_are_not_behind(
    measured: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = math.floor(time.time() / 3600) * 3600
    measured.execute(TABLE, INSERT, rows=[*rows(4, hour - 7200), *rows(5, hour - 3600)])
    assert measured.run(*BY_HOUR) == 0
    found = in_file(measured)
    assert found["open_windows", "aggregated_s"] == 1
    assert (found["rows_waiting", "aggregated_s"], found["oldest_waiting_seconds", "aggregated_s"]) == (5, 0)
    assert measured.run(*BY_HOUR) == 0
    assert in_file(measured)["rows_waiting", "aggregated_s"] == 5
    measured.execute(INSERT, rows=rows(2, hour))
    with refused(monkeypatch, up.TransientError("busy")):
        assert measured.run(*BY_HOUR) == 1
    found = in_file(measured)
    assert found["rows_waiting", "aggregated_s"] == 7
    assert 0 < found["oldest_waiting_seconds", "aggregated_s"] <= 3700


def test_metrics_are_told_apart_by_table_and_those_of_tables_that_are_no_more_go(measured: Box) -> None:
    del measured.environ["DATABRICKS_TABLE"]
    measured.environ["UPLOAD_TABLES"] = "*"
    for table in ("a", "b"):
        measured.execute(TABLE.replace("TABLE s", f"TABLE {table}"), INSERT.replace("s (", f"{table} ("), rows=rows(3))
    measured.execute("CREATE TABLE k (id TEXT PRIMARY KEY) WITHOUT ROWID")
    assert measured.run() == 2
    found = in_file(measured)
    assert [found["rows_sent_total", f"raw_{table}"] for table in "abk"] == [3, 3, 0]
    assert [found["consecutive_failures", f"raw_{table}"] for table in "abk"] == [0, 0, 1]
    assert found["lag_seconds", "raw_b"] > 0 and ("lag_seconds", "raw_k") not in found
    assert 'uploader_errors_total{kind="ConfigError",table="raw_k"} 1.0' in text_of(measured)
    measured.execute("DROP TABLE k")
    measured.database.rename(measured.database.with_name("away"))
    assert measured.run() == 1
    assert [in_file(measured)["consecutive_failures", f"raw_{table}"] for table in "abk"] == [1, 1, 2]
    measured.database.with_name("away").rename(measured.database)
    assert measured.run() == 0
    assert {table for _, table in in_file(measured)} == {"raw_a", "raw_b"}
    assert in_file(measured)["rows_sent_total", "raw_a"] == 3


def test_the_metrics_of_the_last_table_that_goes_go_too(measured: Box) -> None:
    del measured.environ["DATABRICKS_TABLE"]
    measured.execute(TABLE, INSERT, rows=rows(3))
    with watching(measured, UPLOAD_TABLES="*") as watch:
        watch.cycle()
        measured.execute("DROP TABLE s")
        watch.cycle()
    assert not in_file(measured)


@pytest.mark.parametrize("first", [True, False])
def test_no_series_is_there_twice_after_a_table_became_one_of_several_or_the_only_one(
    measured: Box, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Prometheus takes one of them. A cycle that is a first one lasts."""
    forms = [{"UPLOAD_TABLES": "*", "DATABRICKS_TABLE": "s"}, {"DATABRICKS_TABLE": "s"}]
    measured.execute(TABLE, INSERT, rows=rows(3))
    assert measured.run(**forms[first]) == 0
    measured.execute(INSERT, rows=rows(3))
    with watching(measured, **forms[not first]) as watch:
        amid = list[str]()

        def look(*_: Any) -> None:
            assert watch.metrics
            watch.metrics.write(measured.folder / "amid")
            amid.append((measured.folder / "amid").read_text())

        monkeypatch.setattr(up, "run_cycle", look)
        watch.cycle()
    names = [line.rpartition(" ")[0] for line in amid[0].splitlines() if not line.startswith("#")]
    assert names and len(names) == len(set(names))


def test_what_a_cycle_delivered_before_it_failed_is_counted(measured: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    measured.execute(TABLE, INSERT, rows=rows(3))
    send, intents = up.DeltaTarget.send, []

    def send_once(target: up.DeltaTarget, intent: up.Intent, payload: up.Payload) -> None:
        intents.append(intent)
        if len(intents) == 2:
            raise up.TransientError("busy")
        send(target, intent, payload)

    monkeypatch.setattr(up.DeltaTarget, "send", send_once)
    assert measured.run("--batch-rows", "1") == 1
    found = in_file(measured)
    assert (found["rows_sent_total", "raw_s"], found["rows_waiting", "raw_s"]) == (1, 2)
    assert ("last_success_timestamp_seconds", "raw_s") not in found


def test_a_metrics_file_that_cant_be_written_is_warned_of_and_stops_no_row(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute(TABLE, INSERT, rows=rows(3))
    assert box.run("--metrics-file", str(box.folder / "nowhere" / "uploader.prom")) == 0
    assert len(box.arrived()) == 3
    assert [r.levelname for r in caplog.records if "metrics_file:" in r.message] == ["WARNING"]


@pytest.mark.parametrize("directory", [".", "/"])
def test_a_metrics_file_without_a_name_is_no_traceback(
    box: Box, caplog: pytest.LogCaptureFixture, directory: str
) -> None:
    box.execute(TABLE, INSERT, rows=rows(3))
    assert box.run("--metrics-file", directory) == 2
    assert f"metrics_file: {directory} is a directory" in caplog.text
    assert box.run("--check", "--metrics-file", directory) == 1


@pytest.mark.parametrize("action", ["--once", "--check"])
def test_a_metrics_file_that_is_something_else_is_not_replaced(box: Box, action: str) -> None:
    """Nor is one beside it that has its name with another end."""
    box.execute(TABLE, INSERT, rows=rows(3))
    beside = box.folder / "uploader.tmp"
    beside.write_text("mine")
    before = box.database.read_bytes()
    assert box.run(action, "--metrics-file", str(box.database)) != 0
    assert box.database.read_bytes() == before
    assert [box.run("--metrics-file", str(box.folder / "uploader.prom")) for _ in range(2)] == [0, 0]
    assert beside.read_text() == "mine"


def test_the_metrics_file_is_for_all_eyes_and_a_planted_link_is_not_followed(measured: Box) -> None:
    victim = measured.folder / "victim"
    victim.write_text("mine")
    (measured.folder / "uploader.prom.tmp").symlink_to(victim)
    measured.execute(TABLE, INSERT, rows=rows(1))
    before = os.umask(0o077)
    try:
        assert measured.run() == 0
    finally:
        os.umask(before)
    file = measured.folder / "uploader.prom"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert (victim.read_text(), file.is_symlink()) == ("mine", False)


# --- Health ---


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def test_metrics_and_health_are_served_and_health_says_what_the_healthcheck_says(
    box: Box, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    box.execute(TABLE, INSERT, rows=rows(3))
    with watching(box, UPLOAD_METRICS_ADDRESS=f"127.0.0.1:{free_port}") as watch:
        assert asked(free_port, "/healthz") == (503, "no cycle has ended yet\n")
        assert box.run("--healthcheck") == 1
        watch.cycle()
        status, text = asked(free_port, "/metrics")
        assert (status, samples(text)["rows_sent_total", "raw_s"]) == (200, 3)
        for edited, expected in ((lambda text: text, 200), (lambda text: re.sub(r'"20\d\d-', '"2020-', text), 503)):
            beat = box.state_file.with_name(up.CYCLE_FILE)
            beat.write_text(edited(beat.read_text()))
            capsys.readouterr()
            assert box.run("--healthcheck") == int(expected == 503)
            status, text = asked(free_port, "/healthz")
            assert status == expected
            same = re.compile(r"\d+ seconds")
            assert same.sub("", text) == same.sub("", capsys.readouterr().out)


def test_a_probe_of_the_metrics_that_hangs_up_leaves_no_trace(
    box: Box, free_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Load balancers do so all the time; standard error is the log's, a line of JSON each."""
    box.execute(TABLE, INSERT, rows=rows(3))
    others = {*threading.enumerate()}  # of servers of other tests
    with watching(box, UPLOAD_METRICS_ADDRESS=f"127.0.0.1:{free_port}"):
        for request in (b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection(("127.0.0.1", free_port)) as probe:
                probe.sendall(request)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert asked(free_port, "/healthz")[0] == 503
        for thread in {*threading.enumerate()} - others:
            if "process_request_thread" in thread.name:
                thread.join(60)
    assert "Traceback" not in capfd.readouterr().err


def test_a_long_wait_in_an_outage_is_no_sickness(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.execute(TABLE, INSERT, rows=rows(3))
    with watching(box) as watch:
        watch.cycle()
        watch.fleet.stopping.set()  # the wait itself is cut short
        watch.rest(3600)
    now = time.time()
    for later, expected in ((3500, 0), (5000, 1)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert box.run("--healthcheck") == expected


# --- The supervisor ---


@pytest.fixture
def heard() -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """An abstract socket as systemd's, and what was said there since the last look."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        address = f"@uploader-{os.getpid()}-{id(channel)}"
        channel.bind(address.replace("@", "\0"))
        channel.setblocking(False)

        def read() -> list[str]:
            lines = list[str]()
            with contextlib.suppress(BlockingIOError):
                while True:
                    lines += channel.recv(65536).decode().splitlines()
            return lines

        yield address, read


def test_the_supervisor_hears_of_the_start_each_cycle_and_signs_of_life(
    box: Box, heard: tuple[str, Callable[[], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, said = heard
    box.execute(TABLE, INSERT, rows=rows(3))
    assert box.run(NOTIFY_SOCKET=address) == 0
    lines = said()
    assert lines[:2] == ["READY=1", "STATUS=started"]
    assert "WATCHDOG=1" in lines
    assert re.fullmatch(r"STATUS=[\d:]+Z 3 rows sent in 1 commit, [\d.]+ s; 0 to quarantine", lines[-1])
    with refused(monkeypatch, up.TransientError("busy\nfor long")):
        box.execute(INSERT, rows=rows(1))
        assert box.run(NOTIFY_SOCKET=address) == 1
    assert re.fullmatch(r"STATUS=[\d:]+Z failed: busy for long", said()[-1])


def test_a_path_is_an_address_of_the_supervisor_too_and_silence_there_does_no_harm(box: Box) -> None:
    path = box.folder / "notify"
    box.execute(TABLE, INSERT, rows=rows(1))
    assert box.run(NOTIFY_SOCKET=str(path)) == 0  # nobody is there
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(path))
        up.Supervisor.of({"NOTIFY_SOCKET": str(path)}).tell(STOPPING="1")
        assert channel.recv(100) == b"STOPPING=1"


def test_signs_of_life_go_on_while_the_loop_waits_and_only_then(heard: tuple[str, Callable[[], list[str]]]) -> None:
    address, said = heard
    supervisor = up.Supervisor.of(
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    )
    assert supervisor.wait(0.2, threading.Event()) is False  # more signs than the socket has room for
    assert len(said()) >= 2
    stopped = threading.Event()
    stopped.set()
    assert supervisor.wait(100, stopped) is True
    assert said() == []
    other = up.Supervisor.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"})
    assert other.patience == math.inf


def test_a_signal_is_told_to_the_supervisor(box: Box, heard: tuple[str, Callable[[], list[str]]]) -> None:
    """While a commit ends: where nothing is under way, the process may be gone before there is anything to tell."""
    import signal
    import subprocess

    from boxes import PROGRAM

    address, said = heard
    box.execute(TABLE, INSERT, rows=rows(50))
    environ = {**box.environ, "ONCE": "0", "NOTIFY_SOCKET": address, "UPLOAD_BATCH_ROWS": "1"}
    process, lines = subprocess.Popen(PROGRAM, env=environ), list[str]()
    while "WATCHDOG=1" not in lines:
        assert process.poll() is None
        lines += said()
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:  # a socket that nobody reads from takes ten datagrams
        lines += said()
    assert process.returncode == 0
    lines += said()
    assert lines[0] == "READY=1" and "STOPPING=1" in lines
    assert len(box.arrived()) < 50


# --- What is safe to delete ---


def safe(box: Box, capsys: pytest.CaptureFixture[str], *flags: str) -> Any:
    """What --status says: by stream, or of the only one."""
    capsys.readouterr()
    box.run("--status", "--format", "json", *flags)
    facts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return (
        {each["stream"]: each["delivered_to"] for each in facts} if "stream" in facts[0] else facts[0]["delivered_to"]
    )


def test_status_names_up_to_where_rows_are_delivered(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.execute(TABLE, INSERT, rows=rows(3))
    assert safe(box, capsys) is None
    assert box.run() == 0
    box.execute(INSERT, rows=rows(2))
    assert safe(box, capsys) == 3
    assert box.run("--status") == 0
    assert re.search("safe to delete +rows up to 3 are delivered", capsys.readouterr().out)


def test_rows_of_a_database_made_anew_are_not_safe_to_delete(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.execute(TABLE, INSERT, rows=rows(30))
    assert box.run() == 0
    box.database.unlink()
    box.execute(TABLE, INSERT, rows=rows(20, OLD + 1000))
    assert safe(box, capsys) is None


def test_a_commit_that_is_not_confirmed_makes_nothing_safe(
    box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box.execute(TABLE, INSERT, rows=rows(3))
    with monkeypatch.context() as patch:
        patch.setattr(up.DeltaTarget, "send", lambda *_: (_ for _ in ()).throw(up.LostAnswer("lost")))
        assert box.run() == 1
    assert box.state()["intent"] and safe(box, capsys) is None
    assert box.run() == 0
    assert safe(box, capsys) == 3


def test_all_streams_of_a_table_must_have_delivered_also_those_not_asked_for(
    box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del box.environ["DATABRICKS_TABLE"]
    filtering = {"sqlite_table_name": "s", "enable_filter": True, "filter_config": {"value": {">": 0}}}
    box.environ["UPLOAD_TABLES"] = json.dumps(["s", "t", filtering])
    box.execute(TABLE, INSERT, rows=rows(3))
    box.execute(TABLE.replace("TABLE s", "TABLE t"), INSERT.replace("s (", "t ("), rows=rows(4))
    assert box.run("--table", "raw_s") == 0
    assert safe(box, capsys) == {"raw_s": None, "raw_t": None, "filtered_s": None}
    assert box.run() == 0
    assert safe(box, capsys) == {"raw_s": 3, "raw_t": 4, "filtered_s": 3}
    box.execute(INSERT, rows=rows(2))
    assert box.run("--table", "raw_s") == 0
    assert safe(box, capsys) == {"raw_s": 3, "raw_t": 4, "filtered_s": 3}
    assert safe(box, capsys, "--table", "raw_s") == {"raw_s": 3}


@pytest.mark.parametrize("killed", [False, True])
def test_before_the_only_table_becomes_one_of_several_its_quarantine_counts_as_after(
    box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """What sanitize hides of a row in quarantine only the source has. A kill may leave state and quarantine apart."""
    box.environ |= {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": json.dumps({"drop": ["value"]}), "DATABRICKS_TABLE": "s"}
    box.execute(TABLE, INSERT, rows=[*rows(20), ("soon", 1.0), *rows(20)])
    assert box.run() == up.QUARANTINED
    box.environ["UPLOAD_TABLES"] = "*"
    if killed:
        real = os.replace

        def replace(source: Any, to: Any) -> None:
            if str(to).endswith(f"secure_s/{up.STATE_NAME}"):
                raise KeyboardInterrupt
            real(source, to)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", replace)
            box.run()
    for _ in range(2):
        assert safe(box, capsys) == {"secure_s": 20}
        assert box.run("--check") == 0
        assert "1 commit" in (said := capsys.readouterr().out)
        assert killed or "1 row in quarantine" in said
        killed = False
        assert box.run() == 0


def test_rows_of_open_windows_and_of_the_future_are_not_safe_to_delete(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    hour = math.floor(time.time() / 3600) * 3600
    box.execute(TABLE, INSERT, rows=[*rows(4, hour - 7200), *rows(5, hour - 3600)])
    assert box.run(*BY_HOUR) == 0
    assert safe(box, capsys, *BY_HOUR) == 4
    box.execute(INSERT, rows=[*rows(1, hour + 3 * 86400), *rows(3, hour)])
    box.run(*BY_HOUR)
    assert safe(box, capsys, *BY_HOUR) == 9
    box.run(*BY_HOUR, "--flush")
    assert safe(box, capsys, *BY_HOUR) == 9  # the row of the future was read, and waits


def test_a_row_whose_only_copy_is_in_the_source_is_not_safe_to_delete(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    box.execute(TABLE, INSERT, rows=[*rows(20), ("soon", 1.0), *rows(2)])
    assert box.run() == 3
    assert safe(box, capsys) == 23  # the quarantine has all its values
    hiding = ("--enable-sanitize", "--sanitize-config", '{"drop": ["value"]}', "--state-dir", str(box.folder / "other"))
    assert box.run(*hiding) == 3
    assert safe(box, capsys, *hiding) == 20


def test_by_time_rows_before_the_lookback_are_safe_to_delete(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.execute(BY_TIME, "CREATE INDEX i ON s (timestamp)")
    insert = "INSERT INTO s VALUES (?, ?, hex(randomblob(8)))"
    assert safe(box, capsys) is None
    box.execute(insert, rows=rows(100))
    assert box.run("--lookback", "60") == 0
    end = safe(box, capsys, "--lookback", "60")
    assert end == iso(OLD + 99 - 60)
    box.execute(insert, rows=rows(1, OLD + 50))  # late, and still found
    box.execute(f"DELETE FROM s WHERE timestamp < '{end}'")
    assert box.run("--lookback", "60") == 0
    assert len(box.arrived()) == 101


KEYS = {"given once": "INTEGER PRIMARY KEY AUTOINCREMENT", "reused": "INTEGER PRIMARY KEY", "renumbered": "INTEGER"}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("seed", range(2))
def test_a_producer_that_deletes_what_is_safe_loses_nothing(
    box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
) -> None:
    """Whatever it does in between: deletes all or all but the newest, vacuums, and however runs fail."""
    chance, made = random.Random(f"{kind} {seed}"), 0
    box.execute(f"CREATE TABLE s (id {KEYS[kind]}, timestamp TEXT, value INTEGER)")
    monkeypatch.setattr(up, "COMMIT_ROWS", 5)
    for _ in range(25):
        step = chance.choice(["insert", "insert", "run", "run", "fail", "delete", "delete", "vacuum"])
        if step == "insert":
            count = chance.randint(1, 12)
            box.execute(INSERT, rows=[(iso(OLD + made + index), made + index) for index in range(count)])
            made += count
        elif step == "run":
            assert box.run() == 0
        elif step == "fail":
            with refused(monkeypatch, up.TransientError("busy")):
                box.run()
        elif step == "delete" and (end := safe(box, capsys)) is not None:
            box.execute(f"DELETE FROM s WHERE rowid {chance.choice(['<', '<='])} {end}")
        elif step == "vacuum" and box.source("1", "s"):
            box.execute("VACUUM")
    assert box.run() == 0
    assert box.arrived("value") == sorted([(value,) for value in range(made)], key=repr)


# --- Secrets that are replaced while the uploader runs ---


def test_a_token_whose_file_changed_is_read_again_for_the_next_session(
    far: Box, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    far.execute(TABLE, INSERT, rows=rows(3))
    file = far.folder / "token"
    with watching(far) as watch:
        assert watch.cycle().sent == 3
        far.execute(INSERT, rows=rows(2))
        file.write_text("dapi-old")
        with pytest.raises(up.Rejected):
            watch.cycle()
        file.unlink()  # The moment before a new one is there; the one from the start counts.
        assert watch.cycle().sent == 2
        file.write_text(warehouse.token)
        far.execute(INSERT, rows=rows(4))
        assert watch.cycle().sent == 4
    assert "dapi-old" in up.SECRETS and warehouse.token in up.SECRETS
    assert "dapi-old" not in caplog.text


def test_a_client_secret_whose_file_changed_is_read_again_for_the_next_sign_in(box: Box, warehouse: Warehouse) -> None:
    file, environ = box.folder / "secret", warehouse.zerobus_environment()
    secret = environ.pop("DATABRICKS_CLIENT_SECRET")
    environ |= {"DATABRICKS_CLIENT_SECRET_FILE": str(file)}
    file.write_text("wrong")
    config = up.load_config({}, environ)
    workspace = up.Session(config, environ)
    with pytest.raises(up.Rejected):
        workspace.token()
    file.write_text(f"{secret}\n")
    token = workspace.token()
    assert token
    file.write_text("wrong")
    assert workspace.token() == token  # no file is read while a token is good
    with pytest.raises(up.Rejected):
        up.Session(config, environ).token()
    file.write_text(secret)
    assert up.Session(config, environ).token()


# --- The fleet as a table ---

STATUS = "box, stream, position, waiting, quarantine, failures, error"


def told(place: Path | str, columns: str = STATUS) -> list[tuple[Any, ...]]:
    """What the status table has, in the order of time."""
    found = rows_of(DeltaTable(str(place)), f"time, {columns}")
    return [row[1:] for row in sorted(found)]


def test_a_box_tells_a_table_beside_the_target_of_news_once_an_interval_and_else_once_an_hour(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, now = box.folder / "lake" / "boxes", [time.time()]
    box.execute(TABLE, INSERT, rows=rows(3))
    with watching(box, UPLOAD_STATUS_TABLE="boxes", UPLOAD_SOURCE_ID="box-7") as watch:
        assert watch.status
        write = watch.status.write
        monkeypatch.setattr(watch.status, "write", lambda streams: write(streams, lambda: now[0]))
        counts = []
        for seconds, count in ((0, 2), (100, 1), (200, 0), (300, 0), (3600, 0)):
            now[0] += seconds
            box.execute(INSERT, rows=rows(count))
            watch.cycle()
            counts.append(len(told(place)))
        assert counts == [1, 1, 2, 2, 3]
    first, *_, last = told(place)
    assert first == ("box-7", "raw_s", "5", 0, 0, 0, None)
    assert last[2] == "6"
    [version, *_] = told(place, "version, newest, cycle_seconds")
    assert version[0] == up.__version__ and None not in version


@pytest.mark.parametrize(
    ("rules", "hidden"),
    [
        ({"drop": ["ID"]}, [True, False]),
        ({"hash": ["id"], "mask": {"timestamp": 4}}, [True, True]),
        ({"drop": ["timestamp"]}, [True, True]),
        ({"mask": {"v": 0}, "remove_nulls": ["id"]}, [False, False]),
    ],
)
def test_a_status_table_has_no_value_that_sanitize_hides(
    box: Box, monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any], hidden: list[bool]
) -> None:
    """Also of a cycle that failed before it looked at the table, the first one after a start."""
    environ = {
        "UPLOAD_STATUS_TABLE": "boxes",
        "UPLOAD_INTERVAL": "0",
        "ENABLE_SANITIZE": "1",
        "SANITIZE_CONFIG": json.dumps(rules),
        "SANITIZE_SECRET": "k" * 40,
    }
    box.execute(
        "CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, v)", "INSERT INTO s VALUES (7, '2026-01-01', 1)"
    )
    assert box.run(**environ) == 0
    place, asked = box.folder / "lake" / "boxes", "position, newest"
    assert [[value is None for value in row] for row in told(place, asked)] == [hidden]

    def busy(*_: object) -> None:
        raise up.TransientError("busy")

    monkeypatch.setattr(up, "detect_table", busy)
    assert box.run(**environ) == 1
    assert told(place, asked)[1:] == [(None, None)]


def test_a_failure_is_told_and_a_run_for_once_remembers_when_it_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"UPLOAD_STATUS_TABLE": "boxes", "UPLOAD_INTERVAL": "0"}
    place = box.folder / "lake" / "boxes"
    box.execute(TABLE, INSERT, rows=rows(3))
    assert box.run(**environ) == 0
    assert box.run(**environ) == 0
    assert len(told(place)) == 1
    box.execute(INSERT, rows=rows(2))
    with refused(monkeypatch, up.TransientError("busy")):
        assert box.run(**environ) == 1
    assert [row[3:] for row in told(place)] == [(0, 0, 0, None), (2, 0, 1, "busy")]


@pytest.mark.parametrize(
    "error", [up.TargetError("no grants"), up.RefusedSizeError("too large"), up.LostAnswer("lost")]
)
def test_a_status_table_that_cant_be_written_stops_no_row_and_is_asked_ever_more_seldom(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: up.UploaderError
) -> None:
    def refusing(*_: Any) -> None:
        raise error

    monkeypatch.setattr(up.DeltaTarget, "note", refusing)
    box.execute(TABLE)
    for _ in range(3):
        box.execute(INSERT, rows=rows(2))
        assert box.run(UPLOAD_STATUS_TABLE="boxes", UPLOAD_INTERVAL="0") == 0
    assert len(box.arrived()) == 6
    assert len([r for r in caplog.records if "status_table boxes" in r.message]) == 1


def test_the_table_of_the_rows_is_no_status_table_however_it_is_written(
    box: Box, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    box.behind(warehouse, "s.raw_rows_told", "id BIGINT, timestamp TIMESTAMP, value DOUBLE")
    box.execute(TABLE, INSERT, rows=rows(2))
    assert box.run("--status-table", "RAW_rows_told") == 0
    assert "Choose another name" in caplog.text


def test_the_table_of_the_rows_is_no_status_table(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute(TABLE, INSERT, rows=rows(2))
    assert box.run("--status-table", "raw_readings") == 0
    assert len(box.arrived()) == 2 and "Choose another name" in caplog.text


def test_beside_one_table_by_path_lies_its_neighbour(box: Box) -> None:
    del box.environ["LAKEHOUSE_PATH"]
    box.execute(TABLE, INSERT, rows=rows(2))
    assert box.run("--status-table", "boxes", TABLE_PATH=str(box.folder / "lake" / "one")) == 0
    assert len(told(box.folder / "lake" / "boxes")) == 1


@pytest.mark.parametrize(
    ("table_path", "place"),
    [("/t", ("", "t")), ("/lake/t/", ("/lake", "t")), ("s3://bucket/a/t", ("s3://bucket/a", "t")),
     ("s3://bucket/", ("s3://bucket", "bucket"))],
)  # fmt: skip
def test_a_status_table_lies_beside_the_table_and_never_in_another_bucket(
    table_path: str, place: tuple[str, str]
) -> None:
    assert up.lake_and_name(up.Config(table_path=table_path)) == place


def test_the_status_table_of_a_warehouse_is_made_and_filled_in_the_session_of_the_rows(
    far: Box, warehouse: Warehouse
) -> None:
    far.execute(TABLE, INSERT, rows=rows(3))
    before = warehouse.log()["sessions_opened"]
    assert far.run("--status-table", "boxes", UPLOAD_INTERVAL="0") == 0
    far.execute(INSERT, rows=rows(1))
    assert far.run("--status-table", "boxes", UPLOAD_INTERVAL="0") == 0
    assert warehouse.log()["sessions_opened"] - before == 2
    found = warehouse.sql("SELECT stream, position, waiting, newest IS NULL FROM s.boxes ORDER BY time")
    assert found == [("raw_s", "3", 0, False), ("raw_s", "4", 0, False)]


def test_zerobus_fills_a_status_table_that_is_there(box: Box, warehouse: Warehouse) -> None:
    own = "databricks_inserted_at TIMESTAMP, databricks_batch_id STRING"
    warehouse.sql(f"CREATE TABLE s.raw_z (id BIGINT, timestamp TIMESTAMP, value DOUBLE, {own})")
    del box.environ["LAKEHOUSE_PATH"]
    box.environ |= {**warehouse.zerobus_environment(), "DATABRICKS_DATABASE": "main.s", "DATABRICKS_TABLE": "z"}
    box.environ |= {"UPLOAD_ON_DOUBT": "resend", "UPLOAD_STATUS_TABLE": "zboxes", "UPLOAD_INTERVAL": "0"}
    box.execute(TABLE, INSERT, rows=rows(3))
    assert box.run() == 0  # there is none yet: a warning
    config = up.load_config({}, box.environ)
    warehouse.sql(up.status_ddl(config).rstrip(";"))
    (box.folder / "state" / up.CYCLE_FILE).unlink()
    assert box.run() == 0
    warehouse.flush()
    assert warehouse.sql("SELECT stream, position, failures FROM s.zboxes") == [("raw_s", "3", 0)]


def test_check_tells_whether_reports_have_their_place(
    box: Box, warehouse: Warehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    box.sample()
    place = box.folder / "metrics"
    reports = ("--metrics-file", str(place / "uploader.prom"), "--status-table", "told")
    assert box.run("--check", *reports) == 1
    said = capsys.readouterr().out
    assert f"FAIL reports: metrics_file: {place} is no directory that can be written" in said
    assert f"ok   reports: status_table: {box.folder / 'lake' / 'told'}: the first report makes it" in said
    (place / "uploader.prom").mkdir(parents=True)
    assert box.run("--check", *reports) == 1
    assert f"FAIL reports: metrics_file: {place / 'uploader.prom'} is there and no file" in capsys.readouterr().out
    (place / "uploader.prom").rmdir()
    assert box.run(*reports) == 0
    assert box.run("--check", *reports) == 0
    assert f"ok   reports: status_table: {box.folder / 'lake' / 'told'}: it is there" in capsys.readouterr().out
    box.behind(warehouse, "s.raw_checked", "id BIGINT, timestamp TIMESTAMP")
    assert box.run("--check", *reports, STATE_DIR=str(box.folder / "other")) == 0
    assert "s.told: the first report makes it" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "nowhere.invalid:1"])
def test_metrics_that_can_not_be_served_end_with_status_2(box: Box, address: str) -> None:
    box.sample()
    assert box.run(UPLOAD_METRICS_ADDRESS=address) == 2


def test_metrics_are_served_at_an_address_of_ipv6(box: Box) -> None:
    box.sample()
    assert box.run(UPLOAD_METRICS_ADDRESS="[::1]:0") == 0


def test_a_wait_may_be_longer_than_the_system_counts() -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert up.Supervisor().wait(1e300, stop)


# --- While it runs ---


def test_a_column_that_the_table_gets_while_the_service_runs_is_filled_without_a_restart(
    box: Box, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    box.behind(warehouse, "s.raw_wider", "id BIGINT, timestamp TIMESTAMP")
    box.execute(TABLE, INSERT, rows=rows(1))
    with watching(box) as watch:
        watch.cycle()
        assert "left out, since the target has no such column, or the uploader fills it: 'value'" in caplog.text
        # The local warehouse knows no ALTER TABLE.
        warehouse.sql("DROP TABLE s.raw_wider")
        warehouse.sql("CREATE TABLE s.raw_wider (id BIGINT, timestamp TIMESTAMP, value DOUBLE)")
        for _ in range(2):
            box.execute(INSERT, rows=rows(1))
            watch.cycle()
    table = DeltaTable(str(warehouse.table_path("s.raw_wider")))
    assert rows_of(table, "id, value IS NULL") == [(2, False), (3, False)]


def test_a_column_that_is_widened_while_the_service_runs_takes_the_next_values(box: Box, warehouse: Warehouse) -> None:
    box.behind(warehouse, "s.raw_narrow", "id INT, timestamp TIMESTAMP, value DOUBLE")
    box.execute(TABLE, INSERT, rows=rows(1))
    with watching(box) as watch:
        watch.cycle()
        warehouse.sql("DROP TABLE s.raw_narrow")
        warehouse.sql("CREATE TABLE s.raw_narrow (id BIGINT, timestamp TIMESTAMP, value DOUBLE)")
        for _ in range(3):
            box.execute("INSERT INTO s (id, timestamp, value) SELECT 3000000000 + count(*), '2026-11-01', 1 FROM s")
            watch.cycle()
    table = DeltaTable(str(warehouse.table_path("s.raw_narrow")))
    assert rows_of(table, "id") == [(3000000001,), (3000000002,), (3000000003,)]
    assert box.quarantined() == []


@pytest.mark.parametrize("odd", ["", "half a tok", "token\n# rotated today\n", "t\u00f6ken", None])
def test_a_token_file_that_is_odd_while_it_is_replaced_leaves_the_token_as_it_was(
    tmp_path: Path, odd: str | None
) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    environ = {"DATABRICKS_TOKEN_FILE": str(file)}
    config = up.load_config({}, environ)
    if odd is None:
        file.unlink()
    else:
        file.write_text(odd)
    assert up.renewed(config, environ).databricks_token == "first"
    file.write_text("second\n")
    assert up.renewed(config, environ).databricks_token == "second"


def test_a_ca_file_that_is_odd_while_it_is_replaced_ends_no_service(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for content in (None, "", "garbage"):
        if content is not None:
            file.write_text(content)
        with pytest.raises(up.ConfigError, match="no readable PEM") as error:
            up.verifying(up.Config(databricks_ca_file=file))
        assert (error.value.status, error.value.is_final) == (2, False)


def test_a_generated_column_that_fails_for_a_row_is_tried_once_and_not_in_each_cycle(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, real = list[bool](), up.uncomputable_columns

    def looked(database: up.Database, *arguments: Any) -> dict[str, str]:
        looks.append(database.is_thorough)
        return real(database, *arguments)

    box.execute(
        "CREATE TABLE s (id INTEGER PRIMARY KEY, timestamp TEXT, j TEXT)",
        "INSERT INTO s (timestamp, j) VALUES ('2026-11-01', 'off')",
        "ALTER TABLE s ADD COLUMN g AS (json_extract(j, '$.a'))",
    )
    monkeypatch.setattr(up, "uncomputable_columns", looked)
    with watching(box) as watch:
        for _ in range(3):
            box.execute("INSERT INTO s (timestamp, j) VALUES ('2026-11-01', '{}')")
            watch.cycle()
    assert looks == [False, True]
    assert len(rows_of(box.table(), "id, j")) == 4


# --- A file that nobody writes ---


def openings(box: Box, monkeypatch: pytest.MonkeyPatch, deeds: dict[int, Callable[[], None]], *flags: str) -> list[int]:
    """How often the file was opened in each of some cycles of a service; before some of them something is done."""
    opened, counts = list[int](), list[int]()
    cycle, enter, waited = up.Watch.cycle, up.Database.__enter__, up.Supervisor.wait
    deeds = {0: lambda: None, **deeds}

    def counted(watch: up.Watch) -> up.Tally:
        deeds.get(len(counts), deeds[0])()
        opened.clear()
        try:
            return cycle(watch)
        finally:
            counts.append(len(opened))
            if len(counts) == 8:
                watch.fleet.stopping.set()

    def entered(database: up.Database) -> up.Database:
        opened.append(1)
        return enter(database)

    with monkeypatch.context() as patch:
        patch.setattr(up.Database, "__enter__", entered)
        patch.setattr(up.Watch, "cycle", counted)
        patch.setattr(up.Supervisor, "wait", lambda supervisor, _, stop: waited(supervisor, 0, stop))
        assert box.run("--interval", "1", *flags, ONCE="0") == 0
    return counts


def add_long_ago(box: Box, value: float, *, name: str = "") -> None:
    """A row that came in an hour ago by the file's time."""
    where = "INSERT INTO s (timestamp, value, name) VALUES (?, ?, ?)" if name else INSERT
    box.execute(where, rows=[(moment(OLD), value, *([name] if name else []))])
    os.utime(box.database, (OLD + value, OLD + value))


def moment(seconds: float) -> str:
    return up.moment_of(int(seconds * 10**6)).isoformat()


@pytest.mark.parametrize("table", [TABLE, BY_TIME])
def test_a_file_that_nobody_writes_is_not_opened_in_each_cycle(
    box: Box, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """So a scan of a large table, or a copy of one whose producer shares no index, is made once a minute."""
    box.execute(table)
    name = "a" if table == BY_TIME else ""
    add_long_ago(box, 1, name=name)
    later = {4: lambda: add_long_ago(box, 2, name=name and "b")}
    assert openings(box, monkeypatch, later) == [1, 1, 0, 0, 1, 1, 0, 0]
    assert sorted(value for (value,) in box.arrived("value")) == [1, 2]
    beat = json.loads((box.folder / "state" / up.CYCLE_FILE).read_text())
    [figures] = beat["streams"].values()
    assert figures["cycles"] == 8
    assert figures["ended"] > time.time() - 60
    assert box.run("--healthcheck") == 0


def test_a_file_that_was_written_just_now_is_opened_in_each_cycle(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another commit may have the same time, by the file system's clock."""
    box.execute(TABLE)
    add_long_ago(box, 1)
    os.utime(box.database)
    assert openings(box, monkeypatch, {}) == [1] * 8


def test_a_file_that_nobody_writes_is_looked_at_once_a_minute(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its file system says of its time."""
    box.execute(TABLE)
    add_long_ago(box, 1)
    monkeypatch.setattr(up.Watch, "MOST_QUIET", 0)
    assert openings(box, monkeypatch, {}) == [1] * 8


def test_windows_close_also_where_nobody_writes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is days ahead is read once the clock has come to it."""
    box.execute(TABLE, INSERT, rows=[(moment(OLD + 3 * 86_400), 1.0)])
    os.utime(box.database, (OLD, OLD))
    assert openings(box, monkeypatch, {}, *BY_HOUR) == [1] * 8


def test_rows_that_wait_for_a_target_are_tried_where_nobody_writes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)  # of a wait nothing is left
    box.execute(TABLE)
    add_long_ago(box, 1)
    (box.folder / "lake").write_text("no directory")
    deeds = {5: lambda: (box.folder / "lake").unlink()}
    assert openings(box, monkeypatch, deeds) == [1] * 7 + [0]
    assert [value for (value,) in box.arrived("value")] == [1]


def test_rows_that_are_taken_out_of_quarantine_are_counted_where_nobody_writes(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.execute(TABLE)
    add_long_ago(box, 1)
    folder, figures = box.folder / "state" / "quarantine", list[int]()
    line = json.dumps({"table": "s", "key": 1, "reason": "no number", "row": {"value": "x"}})

    def put() -> None:
        folder.mkdir()
        (folder / "000000000001.jsonl").write_text(f"{line}\n{line}\n")

    def look() -> None:
        beat = json.loads((box.folder / "state" / up.CYCLE_FILE).read_text())
        figures.append(next(iter(beat["streams"].values()))["quarantined"])

    assert (
        openings(box, monkeypatch, {4: put, 5: look, 6: lambda: (folder / "000000000001.jsonl").unlink()})[2:]
        == [0] * 6
    )
    look()
    assert figures == [2, 0]


def test_a_box_of_which_nothing_arrived_yet_has_the_name_that_its_rows_will_have(box: Box) -> None:
    """All failing new boxes would be one. One that had a single table, and several since, is one box."""
    box.execute(
        TABLE, "INSERT INTO s VALUES (1, '2026-01-01', 1)", "CREATE TABLE d (id INTEGER PRIMARY KEY, at DATETIME)"
    )
    box.execute("INSERT INTO d VALUES (1, 'words')")
    settings = {"UPLOAD_STATUS_TABLE": "status", "UPLOAD_METRICS_FILE": str(box.folder / "metrics")}
    del box.environ["DATABRICKS_TABLE"]

    def told() -> set[tuple[str, str]]:
        return {
            (name, stream) for name, stream in rows_of(DeltaTable(str(box.folder / "lake" / "status")), "box, stream")
        }

    for _ in range(2):
        assert box.run("--tables", "d", **settings) == 2
    [(name, stream)] = told()
    assert re.fullmatch("[0-9a-f]{32}", name) and stream == "raw_d"
    assert f'source_id="{name}/raw_d"' in (box.folder / "metrics").read_text()
    box.execute("UPDATE d SET at = '2026-01-01'")
    assert box.run("--tables", "d,s", "--interval", "1", **settings) == 0
    state = json.loads((box.folder / "state" / "raw_d" / "last_upload.json").read_text())
    assert state["source_id"] == f"{name}/raw_d" and state["table"] == "d"
    time.sleep(1)
    box.execute("INSERT INTO d VALUES (2, '2026-01-02')")
    assert box.run("--tables", "d,s", "--interval", "1", **settings) == 0
    assert told() == {(name, "raw_d"), (name, "raw_s")}


@dataclasses.dataclass
class Service:
    """A service, cycle by cycle, by a clock of its own; `tries` are the streams that each cycle tried."""

    box: Box
    monkeypatch: pytest.MonkeyPatch
    now: float = 0.0
    tried: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        real = up.run_cycle

        def run_cycle(job: up.Job, *given: Any) -> None:
            self.tried.append(job.stream)
            real(job, *given)

        self.monkeypatch.setattr(up, "run_cycle", run_cycle)
        self.monkeypatch.setattr(up.Watch, "MOST_QUIET", 0)
        self.monkeypatch.setattr(time, "monotonic", lambda: self.now)
        # By path a try costs little; here it counts as one of a warehouse.
        self.monkeypatch.setattr(up, "WarehouseTarget", up.DeltaTarget)

    def run(self, seconds: float, interval: int, deeds: dict[int, Callable[[], None]] | None = None) -> dict[str, int]:
        """How often each stream was tried in so many seconds; a deed comes before the cycle of that number."""
        self.tried, end, cycles = [], self.now + seconds, itertools.count(1)

        def waited(_: up.Supervisor, pause: float, stop: threading.Event) -> bool:
            self.now += pause
            (deeds or {}).get(next(cycles), int)()
            if self.now >= end:
                stop.set()
            return stop.is_set()

        self.monkeypatch.setattr(up.Supervisor, "wait", waited)
        assert self.box.run("--interval", str(interval), ONCE="0") == 0
        return dict(collections.Counter(self.tried))


def test_a_stream_that_needs_a_person_is_tried_ever_more_seldom_and_the_others_go_on(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each try wakes a warehouse."""
    del box.environ["DATABRICKS_TABLE"]
    box.environ["UPLOAD_TABLES"] = "*"
    box.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, timestamp TEXT)", "INSERT INTO a VALUES (1, '2026-01-01')")
    box.execute("CREATE TABLE c (id INTEGER PRIMARY KEY, timestamp TEXT)", "INSERT INTO c VALUES (1, '2026-01-01')")
    foreign = box.folder / "lake" / "raw_c"
    write_deltalake(str(foreign), up.arrow_table({"other": up.array_of(["x"], "string")}))
    service = Service(box, monkeypatch)
    tries = service.run(1.5 * 86_400, 900)
    assert tries["raw_a"] == 144 and 36 <= tries["raw_c"] <= 48
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 2 and all(line.startswith("raw_c: ") for line in said), said
    assert "; trying again, ever more seldom" in said[0] and re.search(", for 2[4-6] h now", said[1])
    beat = json.loads((box.folder / "state" / up.CYCLE_FILE).read_text())
    assert beat["streams"]["raw_c"]["last_error"] and beat["error"].startswith("raw_c: ")
    assert 6 <= service.run(110, 1)["raw_c"] <= 8
    altered = {100: lambda: box.execute("CREATE TABLE d (id INTEGER PRIMARY KEY, timestamp TEXT)")}
    assert service.run(110, 1, altered)["raw_c"] >= 8
    caplog.set_level("INFO")
    service.run(60, 1, {20: lambda: shutil.rmtree(foreign)})
    [said_last] = [r.getMessage() for r in caplog.records if "goes on after" in r.getMessage()]
    assert said_last.startswith("raw_c: goes on after ") and DeltaTable(str(foreign)).version() == 0


def test_a_single_table_that_needs_a_person_is_tried_ever_more_seldom(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, timestamp TEXT)", "INSERT INTO a VALUES (1, '2026-01-01')")
    foreign = box.folder / "lake" / "raw_readings"
    write_deltalake(str(foreign), up.arrow_table({"other": up.array_of(["x"], "string")}))
    assert Service(box, monkeypatch).run(110, 1)[""] <= 8
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_by_path_a_table_that_needs_a_person_is_tried_in_each_cycle(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, timestamp TEXT)", "INSERT INTO a VALUES (1, '2026-01-01')")
    write_deltalake(str(box.folder / "lake" / "raw_readings"), up.arrow_table({"other": up.array_of(["x"], "string")}))
    service, warehouse = Service(box, monkeypatch), type("Other", (), {})
    monkeypatch.setattr(up, "WarehouseTarget", warehouse)
    assert service.run(20, 1)[""] == 20
