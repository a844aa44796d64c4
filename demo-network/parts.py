"""What the demos are made of: the local warehouse, nodes of a sensor and an uploader each, the comparison at the end.

`live_demo.py` and `network_demo.py` import this module; both run it in an environment with databricks-sql-connector.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

DEMO = Path(__file__).resolve().parent
UPLOADER = DEMO.parent / "databricks-uploader" / "sqlite_to_databricks_uploader.py"
SCHEMA = "main.default"

Row = tuple[Any, ...]


class DemoError(Exception):
    """The demo can't go on. The message says why, for its user to read."""


# === Scenarios ========================================================================================


@dataclass(frozen=True)
class Table:
    """A table of a sensor's database, where its rows go, and how to ask both sides what came of them.

    `source` and `target` are its names in SQLite and in the warehouse. `kept` is an SQL condition, the rows that count.
    `expected` (in SQLite) and `arrived` (in the warehouse, for the sensor {sensor}) are the same rows if all went well.
    `progress` has, for each sensor, its name, how many rows have arrived, the mark up to which they have, and the
    numbers of commits and of rows in the warehouse. `waiting` (in SQLite) is the time at which the first row after the
    mark was written; before anything has arrived, the mark is `start`.
    """

    source: str
    target: str
    kept: str
    expected: str
    arrived: str
    progress: str
    waiting: str
    start: int | str = 0


@dataclass(frozen=True)
class Scenario:
    """What an uploader does with its tables, of which the first has the readings. `does` says it in words.

    `grouped`: the rows arrive in groups.
    """

    name: str
    does: str
    settings: Mapping[str, str]
    tables: tuple[Table, ...]
    grouped: bool = False


# The sample's columns; the comparison is of all of them.
COLUMNS = (
    "id, timestamp, sensor_id, temperature, humidity, pressure, vibration, voltage, status_code, anomaly_flag, "
    "anomaly_type, firmware_version, model, manufacturer, location, latitude, longitude, original_timezone, "
    "serial_number, manufacture_date, deployment_type, installation_date, height_meters, orientation_degrees, "
    "instance_id, sensor_type"
)
SECURE_COLUMNS = COLUMNS.replace("latitude, longitude", "{latitude}, {longitude}").replace("serial_number, ", "")


def by_row(
    target: str,
    expected: str,
    arrived: str,
    *,
    source: str = "sensor_readings",
    key: str = "id",
    when: str = "timestamp",
    kept: str = "true",
) -> Table:
    """A table that is sent row by row: the mark is the last one's key. Columns: the source's and the target's.

    A late row bears an older time (`when`, in SQL) than its neighbours, so the time at which a row was written is the
    latest time up to it.
    """
    return Table(
        source,
        target,
        kept,
        expected=f"SELECT {expected} FROM {source} WHERE {kept}",
        arrived=f"SELECT {arrived} FROM {SCHEMA}.{target} WHERE sensor_id = '{{sensor}}'",
        progress=f"SELECT sensor_id, count(*), max({key}), count(DISTINCT databricks_batch_id), count(*)"
        f" FROM {SCHEMA}.{target} GROUP BY sensor_id",
        waiting=f"SELECT max({when}) FROM {source}"
        f" WHERE {key} <= (SELECT min({key}) FROM {source} WHERE {key} > ? AND {kept})",
    )


READINGS = by_row("raw_sensor_readings", COLUMNS, COLUMNS)
# The times of a station's other tables, as those of its readings are written.
HAPPENED = "strftime('%Y-%m-%dT%H:%M:%S', happened_at / 1000, 'unixepoch') || printf('.%03d+00:00', happened_at % 1000)"
RECORDED = "replace(recorded_at, ' ', 'T') || '.000+00:00'"
EVENT_COLUMNS = "event_id, {time}, sensor_id, severity, kind, details"
STATUS_COLUMNS = "{time}, sensor_id, online, battery_percent, readings_written"
EVENTS = by_row(
    "raw_events",
    EVENT_COLUMNS.format(time=HAPPENED),
    EVENT_COLUMNS.format(time="happened_at"),
    source="events",
    key="event_id",
    when=HAPPENED,
)
STATUS = by_row(
    "raw_status",
    STATUS_COLUMNS.format(time=RECORDED),
    STATUS_COLUMNS.format(time="recorded_at"),
    source="status",
    # Its own key, the rowid, does not travel; this count only grows.
    key="readings_written",
    when=RECORDED,
)
FILTERED_READINGS = by_row(
    "filtered_sensor_readings", COLUMNS, COLUMNS, kept="temperature > -50 AND temperature < 150 AND anomaly_flag = 0"
)
SECURE_READINGS = by_row(
    "secure_sensor_readings",
    SECURE_COLUMNS.format(latitude="round(latitude, 1)", longitude="round(longitude, 1)"),
    SECURE_COLUMNS.format(latitude="latitude", longitude="longitude"),
)
GROUPS = Table(
    "sensor_readings",
    "aggregated_sensor_readings",
    "true",
    expected="SELECT sensor_id, strftime('%Y-%m-%dT%H:%M:00.000+00:00', timestamp), round(avg(temperature), 9),"
    " max(humidity), count(*) FROM sensor_readings GROUP BY 1, 2",
    arrived="SELECT sensor_id, minute, round(avg_temperature, 9), max_humidity, reading_count"
    f" FROM {SCHEMA}.aggregated_sensor_readings WHERE sensor_id = '{{sensor}}'",
    progress="SELECT sensor_id, sum(reading_count), max(minute) + INTERVAL 1 MINUTE,"
    f" count(DISTINCT databricks_batch_id), count(*) FROM {SCHEMA}.aggregated_sensor_readings GROUP BY sensor_id",
    waiting="SELECT min(timestamp) FROM sensor_readings WHERE timestamp >= ?",
    start="",
)

RAW = Scenario("raw", "sends each reading as it is", {}, (READINGS,))
FILTERED = Scenario(
    "filtered",
    "filters: no anomalies, and temperatures from -50 to 150 only",
    {"ENABLE_FILTER": "true", "FILTER_CONFIG": '{"temperature": {">": -50, "<": 150}, "anomaly_flag": 0}'},
    (FILTERED_READINGS,),
)
SECURE = Scenario(
    "secure",
    "sanitizes: rounds the place, drops the serial number",
    {
        "ENABLE_SANITIZE": "true",
        "SANITIZE_CONFIG": '{"round": {"latitude": 1, "longitude": 1}, "drop": ["serial_number"]}',
    },
    (SECURE_READINGS,),
)
AGGREGATED = Scenario(
    "aggregated",
    "aggregates: one row for each minute, sent when the minute is over",
    {
        "ENABLE_AGGREGATE": "true",
        # Longer than the sensor's late readings are late, so that each of them is counted.
        "AGGREGATE_CONFIG": '{"group_by": ["sensor_id", "minute"], "allowed_lateness": 30,'
        ' "aggregations": {"temperature": "avg", "humidity": "max", "readings": "count"}}',
    },
    (GROUPS,),
    grouped=True,
)
WHOLE = Scenario(
    "whole", "sends its whole database: readings, events and status", {"UPLOAD_TABLES": "*"}, (READINGS, EVENTS, STATUS)
)

# === Processes ========================================================================================


class Process:
    """A part of the demo, in a process group of its own: Ctrl-C ends the demo, which then ends its parts in order."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.log = log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it. What it logs goes to its log file; its output can be read with `first_line`."""
        with self.log.open("ab") as log, uninterrupted():
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def first_line(self) -> str:
        """The first line of its output, as soon as there is one."""
        assert self._process is not None and self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        raise self._failure(self._process.wait())

    def finish(self) -> None:
        """Wait for its end, which has to be a success."""
        if self._process is not None and (status := self._process.wait()):
            raise self._failure(status)
        self._process = None

    def stop(self) -> None:
        """Ask it to end, and wait until it has. Only the process itself is told: `uv run` passes signals on."""
        if self._process is not None and self.is_running:
            self._process.terminate()
        self.finish()

    def kill(self) -> None:
        """End it at once with everything that it started, as a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise if it ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise self._failure(status)

    def _failure(self, status: int) -> DemoError:
        lines = self.log.read_text(errors="replace").splitlines()[-8:]
        return DemoError("\n  ".join([f"{self.name} ended with status {status}; the end of {self.log}:", *lines]))


def script(path: Path, *arguments: str) -> list[str]:
    """The command that runs a script with what it declares, as its users do."""
    return [os.environ.get("UV") or shutil.which("uv") or "uv", "run", "--quiet", "--script", str(path), *arguments]


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without anything that would set up an uploader: a demo must never reach a real workspace."""
    own = re.compile(
        "(DATABRICKS|UPLOAD|SQLITE|AWS|AZURE|ENABLE|SANITIZE|FILTER|AGGREGATE)_.*|TABLE_PATH|LAKEHOUSE_PATH|STORAGE_OPTIONS"
        "|TIMESTAMP_COL|STATE_DIR|ONCE|VIRTUAL_ENV"
    )
    kept = {name: value for name, value in environ.items() if not own.fullmatch(name)}
    return kept | {"NO_PROXY": "localhost,127.0.0.1", "no_proxy": "localhost,127.0.0.1"}


# === The warehouse ====================================================================================


class Warehouse:
    """The local SQL warehouse, from `start` to `close`, and a connection to it that tries everything once."""

    def __init__(self, directory: Path, log: Path) -> None:
        command = script(DEMO / "local_warehouse.py", "--directory", str(directory))
        self.directory = directory
        self.process = Process("the local warehouse", command, inherited(os.environ), log)
        self._ready: dict[str, Any] = {}
        self._connection: Any = None

    def start(self) -> None:
        """Start it, connect, and make the tables."""
        self.process.start()
        self._ready = json.loads(self.process.first_line())
        self._connection = self._connect()
        for statement in statements(DEMO / "tables.sql"):
            self.rows(statement)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self._ready['host']}:{self._ready['port']}"

    def settings(self) -> dict[str, str]:
        """The variables that point an uploader here. The timeout is short, and so is the wait for a lost answer.

        It knows no other authority: to read the system's at each session would take half of a cycle's work.
        """
        return {
            "SSL_CERT_FILE": self._ready["ca_file"],
            "DATABRICKS_HOST": self.address,
            "DATABRICKS_HTTP_PATH": self._ready["http_path"],
            "DATABRICKS_TOKEN_FILE": self._ready["token_file"],
            "DATABRICKS_CA_FILE": self._ready["ca_file"],
            "DATABRICKS_DATABASE": SCHEMA,
            "DATABRICKS_TABLE": "sensor_readings",
            "DATABRICKS_STATEMENT_TIMEOUT": "30",
        }

    def rows(self, statement: str) -> list[Row]:
        """The rows of a statement; times are without a zone, and in UTC."""
        from databricks.sql.exc import Error

        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
                return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        except Error as error:
            raise DemoError(f"the local warehouse failed: {error}\n  log: {self.process.log}") from error

    def close(self) -> None:
        """Disconnect and end it. A commit that is under way is made whole or not at all."""
        from databricks.sql.exc import Error

        if self._connection:
            with contextlib.suppress(Error):
                self._connection.close()
        self.process.kill()

    def _connect(self) -> Any:
        from databricks import sql

        # The connector warns that pyarrow is missing, which is not needed here.
        logging.getLogger("databricks.sql").setLevel(logging.ERROR)
        once = {"_enable_v3_retries": False, "_retry_stop_after_attempts_count": 1, "_socket_timeout": 60}
        return sql.connect(
            server_hostname=self._ready["host"],
            http_path=self._ready["http_path"],
            access_token=Path(self._ready["token_file"]).read_text(),
            session_configuration={"timezone": "UTC"},
            enable_telemetry=False,
            _port=self._ready["port"],
            _tls_trusted_ca_file=self._ready["ca_file"],
            **once,
        )


def statements(file: Path) -> list[str]:
    """The statements of an SQL file with comments on lines of their own and no semicolons inside texts."""
    text = re.sub(r"(?m)^--.*$", "", file.read_text())
    return [statement.strip() for statement in text.split(";") if statement.strip()]


# === Nodes ============================================================================================


class Source:
    """A sensor's database, read beside it and never written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, statement: str, *values: int | str) -> list[Row]:
        """The rows of a query. Once the sensor has ended there is no WAL, and none may be made."""
        how = "mode=ro" if self.path.with_name(self.path.name + "-wal").exists() else "immutable=1"
        with contextlib.closing(sqlite3.connect(f"{self.path.as_uri()}?{how}", uri=True, timeout=30)) as database:
            return database.execute(statement, values).fetchall()


@dataclass(frozen=True)
class Station:
    """Where a node stands: its name, its sensor and the seconds between two readings."""

    name: str
    sensor: str
    location: str
    interval: float


class Node:
    """A sensor with its database, and the uploader beside it. `directory` holds the database and the state.

    `target` has the variables that name the target; the uploader runs a cycle every `interval` seconds.
    """

    def __init__(
        self,
        station: Station,
        scenario: Scenario,
        directory: Path,
        logs: Path,
        target: Mapping[str, str],
        interval: float,
    ) -> None:
        self.station = station
        self.scenario = scenario
        self.source = Source(directory / "data" / "sensor_data.db")
        self._state = directory / "state"
        self._logs = logs
        self._target = target
        self.sensor = self._sensor()
        self.uploader = self._uploader("--interval", str(interval))
        self.last_run = self._uploader("--once", "--flush")

    def start(self) -> None:
        """Start the sensor, and the uploader as soon as there is something to read."""
        self.sensor.start()
        self._wait_for_readings()
        self.uploader.start()

    def written(self) -> tuple[int, int]:
        """How many rows there are in all tables, and how many of them the filter leaves out."""
        query = "SELECT count(*), count(*) - count(CASE WHEN {} THEN 1 END) FROM {}"
        counts = [self.source.rows(query.format(table.kept, table.source))[0] for table in self.scenario.tables]
        return sum(rows for rows, _ in counts), sum(left_out for _, left_out in counts)

    def quarantined(self) -> int:
        """How many rows the uploader has set aside: the lines of the files in its quarantine."""
        return sum(file.read_bytes().count(b"\n") for file in self._state.glob("**/quarantine/*.jsonl"))

    def waiting_since(self, table: Table, mark: int | str | None) -> float | None:
        """When the first row after a table's mark was written, in seconds since 1970; None: there is none."""
        text = self.source.rows(table.waiting, table.start if mark is None else mark)[0][0]
        return None if text is None else dt.datetime.fromisoformat(text).timestamp()

    def check(self) -> None:
        """Raise if one of the two ended by itself."""
        self.sensor.check()
        self.uploader.check()

    def finish(self) -> None:
        """Stop the sensor, then the uploader; a last run takes what is left, open minutes included."""
        self.sensor.stop()
        self.uploader.stop()
        self.last_run.start()
        self.last_run.finish()

    def kill(self) -> None:
        """End everything at once."""
        with uninterrupted():
            for process in (self.sensor, self.uploader, self.last_run):
                process.kill()

    def _wait_for_readings(self, limit: float = 60.0) -> None:
        for _ in range(round(limit / 0.1)):
            with contextlib.suppress(sqlite3.Error):
                if self.source.rows("SELECT 1 FROM sensor_readings LIMIT 1"):
                    return
            self.sensor.check()
            time.sleep(0.1)
        raise DemoError(f"{self.station.sensor} has written nothing in {limit:g} s; see {self.sensor.log}")

    def _sensor(self) -> Process:
        words = ["--database", str(self.source.path), "--interval", str(self.station.interval), "--commit-every", "0.5"]
        words += ["--sensor-id", self.station.sensor, "--location", self.station.location]
        if len(self.scenario.tables) > 1:
            words.append("--three-tables")
        log = self._logs / f"{self.station.name}-sensor.log"
        command = [sys.executable, str(DEMO / "sensor.py"), *words]
        return Process(f"{self.station.name}'s sensor", command, inherited(os.environ), log)

    def _uploader(self, *words: str) -> Process:
        own = {
            "SQLITE_PATH": str(self.source.path),
            "STATE_DIR": str(self._state),
            "UPLOAD_SOURCE_ID": self.station.name,
        }
        environment = {**inherited(os.environ), **self._target, **self.scenario.settings, **own}
        log = self._logs / f"{self.station.name}-uploader.log"
        return Process(f"{self.station.name}'s uploader", script(UPLOADER, *words), environment, log)


# === Watching =========================================================================================


@dataclass(frozen=True)
class Sample:
    """How far a node is, so many seconds after the start: rows written, and those of them that have arrived, the age
    of the oldest one that has not (seconds, 0 where there is none), and commits; rows that the filter left out or that
    are in quarantine; and the rows of the warehouse in which the others arrived."""

    seconds: float
    written: int
    arrived: int
    lag: float
    commits: int
    filtered: int = 0
    quarantined: int = 0
    rows: int = 0

    @property
    def wanted(self) -> int:
        """The rows that are to arrive."""
        return self.written - self.filtered - self.quarantined

    @property
    def waiting(self) -> int:
        """The rows that are still to arrive."""
        return max(0, self.wanted - self.arrived)


# The progress of a table of which nothing has arrived.
NOTHING: Row = (0, None, 0, 0)


class Watch:
    """Looks at both sides of every node, again and again; `history` has the samples of each node by its name.

    `seen` is called after each look.
    """

    def __init__(
        self, warehouse: Warehouse, nodes: Sequence[Node], seen: Callable[[Watch], None] | None = None
    ) -> None:
        self.history: dict[str, list[Sample]] = {node.station.name: [] for node in nodes}
        self.started = time.time()
        self._warehouse = warehouse
        self._nodes = nodes
        self._seen = seen
        self._cost = 0.0

    def pause(self) -> float:
        """How long to wait until the next look, so that looking takes a fifth of the time at most, in seconds."""
        return max(0.5, 4 * self._cost)

    def seconds(self) -> float:
        """How long it has run."""
        return time.time() - self.started

    def look(self) -> None:
        """Add a sample to each node's history. The target is asked first, so nothing arrives before it is written."""
        now = time.time()
        progress = self._progress()
        for node in self._nodes:
            tables = [progress.get((table, node.station.sensor), NOTHING) for table in node.scenario.tables]
            waiting = zip(node.scenario.tables, tables, strict=True)
            since = [node.waiting_since(table, canonical(mark)) for table, (_, mark, _, _) in waiting]
            lag = max([0.0, *(now - moment for moment in since if moment is not None)])
            quarantined = node.quarantined()
            written, filtered = node.written()
            arrived, commits, rows = (sum(found[at] for found in tables) for at in (0, 2, 3))
            sample = Sample(now - self.started, written, arrived, lag, commits, filtered, quarantined, rows)
            self.history[node.station.name].append(sample)
        if self._seen:
            self._seen(self)
        self._cost = time.time() - now

    def _progress(self) -> dict[tuple[Table, str], Row]:
        """By table and sensor: rows that have arrived, the mark, commits and rows of the warehouse."""
        return {
            (table, sensor): tuple(values)
            for table in dict.fromkeys(table for node in self._nodes for table in node.scenario.tables)
            for sensor, *values in self._warehouse.rows(table.progress)
        }


# === Comparing ========================================================================================


@dataclass(frozen=True)
class Comparison:
    """Source and target, row by row and column by column: rows on either side, and those without a partner."""

    expected: int
    arrived: int
    missing: int
    surplus: int

    @property
    def exact(self) -> bool:
        """Whether each row arrived, as it is, and once."""
        return self.expected > 0 and not self.missing and not self.surplus

    def text(self) -> str:
        """The result in words."""
        if self.exact:
            return f"exact: each of {self.expected:,} rows arrived once"
        return f"NOT EXACT: {self.expected:,} rows in the source, {self.missing:,} missing, {self.surplus:,} too many"


def compared(expected: Iterable[Row], arrived: Iterable[Row]) -> Comparison:
    """Compare the rows of both sides, as often as each occurs, in any order."""
    source = Counter(tuple(map(canonical, row)) for row in expected)
    target = Counter(tuple(map(canonical, row)) for row in arrived)
    return Comparison(source.total(), target.total(), (source - target).total(), (target - source).total())


def canonical(value: Any) -> Any:
    """A value as both sides have it: times from the warehouse become texts like the source's, to the microsecond."""
    if not isinstance(value, dt.datetime):
        return value
    return value.replace(tzinfo=dt.UTC).isoformat(timespec="auto" if value.microsecond % 1000 else "milliseconds")


def outcome(warehouse: Warehouse, node: Node) -> Comparison:
    """Compare a node's database with what the warehouse has of it: all its tables, each row with its table's name."""
    expected, arrived = [], []
    for table in node.scenario.tables:
        expected += [(table.target, *row) for row in node.source.rows(table.expected)]
        arrived += [(table.target, *row) for row in warehouse.rows(table.arrived.format(sensor=node.station.sensor))]
    return compared(expected, arrived)


# === Running a demo ===================================================================================


class Workplace:
    """Where a demo keeps its files: the given directory, or a temporary one that is cleaned up at the end.

    `left` is the file that stays in a temporary one; None: nothing.
    """

    # What uv fetches for the demo, the warehouse and the uploader together, where it has none of it yet.
    DOWNLOADS = (
        "At the first start uv downloads packages (230 MB) into its cache (750 MB); `uv cache clean` empties it."
    )

    def __init__(self, directory: Path | None, left: str | None = None) -> None:
        self._given = directory
        self._left = left
        self._path: Path | None = None

    def make(self) -> Path:
        """Make the directory, and say what is going to be downloaded and to stay."""
        with uninterrupted():
            self._path = workplace(self._given)
        stays = "All files stay there." if self._given else "At the end they are removed."
        if self._left and not self._given:
            stays = f"At the end all are removed but {self._left}; --directory keeps them."
        print(f"{self.DOWNLOADS}\nFiles are written to {self._path} only. {stays}", flush=True)
        return self._path

    def clean(self, left: str | None = None) -> None:
        """Remove everything but `left`, if the directory is a temporary one."""
        if self._path is None or self._given:
            return
        for entry in self._path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != left:
                entry.unlink()
        with contextlib.suppress(OSError):
            self._path.rmdir()

    def run(self, demo: Callable[[Path], bool]) -> int:
        """Run a demo here, which returns whether all is exact, and clean up; returns the exit status.

        What went wrong can be looked at: then everything stays.
        """
        interruptible()
        try:
            exact = demo(self.make())
            if exact:
                self.clean(self._left)
        except DemoError as error:
            print(error, file=sys.stderr)
            exact = False
        except (KeyboardInterrupt, BrokenPipeError):
            self.clean()
            return 130
        if not exact and self._path:
            print(f"Everything is kept in {self._path}", file=sys.stderr)
        return 0 if exact else 1


def workplace(directory: Path | None) -> Path:
    """An empty directory: the given one, or a new temporary one. Nothing of an earlier run may be mixed in."""
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="uploader-demo-"))
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DemoError(f"{directory} is not an empty directory: name a new one")
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def started_warehouse(directory: Path, stack: contextlib.ExitStack) -> Warehouse:
    """The warehouse with its tables, to be ended with the stack; the uploader's environment is there then, too."""
    logs = directory / "logs"
    logs.mkdir()
    warehouse = Warehouse(directory / "warehouse", logs / "warehouse.log")
    stack.callback(warehouse.process.kill)
    stack.callback(warehouse.close)
    warehouse.start()
    prepare_uploader(logs)
    return warehouse


def prepare_uploader(logs: Path) -> None:
    """Run the uploader once without work, so that uv has its environment before the clock runs."""
    process = Process("the uploader", script(UPLOADER, "--version"), inherited(os.environ), logs / "uploader.log")
    process.start()
    process.finish()


# === Signals ==========================================================================================

# The last one is what a terminal sends when it is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interruptible() -> None:
    """Let the signals that end a program raise KeyboardInterrupt, so that all parts are ended on the way out."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, once: `uv run` passes on what its process group was sent, and people press twice.

    What comes later must not interrupt the cleaning up. (SIG_IGN would make Python tell of signals under way.)
    """
    for other in SIGNALS:
        signal.signal(other, lambda number, frame: None)
    raise KeyboardInterrupt


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off signals: between the start of a process and its entry in the books it would be forgotten.

    Masking them would be inherited by the process.
    """
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in handlers.items() if callable(handler)]
    for number in ours:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, handlers[number])
        for late in came:
            signal.raise_signal(late)


def stop_event() -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets: the demo then comes to its end. A later one interrupts it.

    `uv run` passes on what its whole process group was sent, so the same signal may come twice within a moment.
    """
    stop, first = threading.Event(), [float("inf")]

    def request_stop(number: int, frame: FrameType | None) -> None:
        if time.monotonic() > first[0] + 1.0:
            interrupt(number, frame)
        first[0] = min(first[0], time.monotonic())
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
    return stop
