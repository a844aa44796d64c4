#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""A sensor that writes readings into a SQLite database, for the demos and for trying the uploader on live data.

    uv run demo-network/sensor.py --database sensor_data.db --interval 0.01

It behaves as the producers do that the uploader is made for: the database is in WAL mode, is deleted and made anew at
every start (unless --keep says otherwise), and is committed to and checkpointed at short intervals. Its readings are as
untidy as real ones: about one in fifty shares its time with the one before, one in a hundred is written with a
delay of up to twenty seconds, and one in a hundred is an anomaly, some of them with values missing.

With --three-tables it is a whole station: each commit also has a row about the device itself (`status`), and one for
each anomaly (`events`). No two of its tables have the same kind of key or write their times in the same way.

SIGTERM and SIGINT end it cleanly, with status 0. It needs Python alone, so that any image with Python runs it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = """
CREATE TABLE IF NOT EXISTS sensor_readings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp TEXT NOT NULL,
    sensor_id TEXT NOT NULL,
    temperature REAL,
    humidity REAL,
    pressure REAL,
    vibration REAL,
    voltage REAL,
    status_code INTEGER,
    anomaly_flag INTEGER DEFAULT 0,
    anomaly_type TEXT,
    firmware_version TEXT,
    model TEXT,
    manufacturer TEXT,
    location TEXT,
    latitude REAL,
    longitude REAL,
    original_timezone TEXT,
    serial_number TEXT,
    manufacture_date TEXT,
    deployment_type TEXT,
    installation_date TEXT,
    height_meters REAL,
    orientation_degrees REAL,
    instance_id TEXT,
    sensor_type TEXT
)
"""
# What a station has beside its readings: a log whose times are Unix milliseconds, and a table without a key of its own
# whose times are text without a zone, as CURRENT_TIMESTAMP writes them.
STATION_TABLES = (
    """
CREATE TABLE IF NOT EXISTS events (
    event_id INTEGER PRIMARY KEY,
    happened_at INTEGER NOT NULL,
    sensor_id TEXT NOT NULL,
    severity TEXT NOT NULL,
    kind TEXT NOT NULL,
    details JSON
)
""",
    """
CREATE TABLE IF NOT EXISTS status (
    recorded_at DATETIME NOT NULL,
    sensor_id VARCHAR(40) NOT NULL,
    online BOOLEAN NOT NULL,
    battery_percent REAL,
    readings_written INTEGER
)
""",
)
INDEXES = (
    "CREATE INDEX IF NOT EXISTS idx_timestamp ON sensor_readings(timestamp)",
    "CREATE INDEX IF NOT EXISTS idx_sensor_id ON sensor_readings(sensor_id)",
)
# Latitude, longitude and zone of the locations that are known by name; others have none.
LOCATIONS: dict[str, tuple[float, float, str]] = {
    "Chicago": (41.87811, -87.62980, "-06:00"),
    "Reykjavík": (64.14661, -21.94237, "+00:00"),
    "São Paulo": (-23.55052, -46.63331, "-03:00"),
    "Singapore": (1.35208, 103.81984, "+08:00"),
    "Zürich": (47.37689, 8.54169, "+01:00"),
}
COMMITS_PER_CHECKPOINT = 10
# How many readings are committed at once where none waits for its time (--interval 0).
BURST = 1000

Row = dict[str, Any]

# === Readings =========================================================================================


class Sensor:
    """Makes readings. The same identity makes the same values, whatever the time."""

    TIES, LATE, ANOMALIES = 0.02, 0.01, 0.01  # shares of all readings
    LONGEST_DELAY = 20.0  # seconds

    def __init__(self, sensor_id: str, location: str) -> None:
        self.sensor_id = sensor_id
        self.location = location
        self._chance = random.Random(sensor_id)
        self._serial_number = f"SENSOR-{self._chance.randrange(16**6):06X}"

    def readings(self, moments: Sequence[float]) -> list[Row]:
        """One reading for each moment, in seconds since 1970; some are given another time, as the module says."""
        return [self._identity() | self._measured() | {"timestamp": iso(moment)} for moment in self._untidy(moments)]

    def _untidy(self, moments: Sequence[float]) -> Iterator[float]:
        for before, moment in itertools.pairwise([moments[0], *moments]) if moments else ():
            fate = self._chance.random()
            if fate < self.TIES:
                yield before
            elif fate < self.TIES + self.LATE:
                yield moment - self._chance.uniform(1.0, self.LONGEST_DELAY)
            else:
                yield moment

    def _identity(self) -> Row:
        latitude, longitude, zone = LOCATIONS.get(self.location, (None, None, "+00:00"))
        return {
            "sensor_id": self.sensor_id,
            "firmware_version": "2.1.0",
            "model": "WeatherStation Pro",
            "manufacturer": "SensorCorp",
            "location": self.location,
            "latitude": latitude,
            "longitude": longitude,
            "original_timezone": zone,
            "serial_number": self._serial_number,
            "deployment_type": "stationary_unit",
            "installation_date": "2025-08-26",
            "height_meters": 2.5,
        }

    def _measured(self) -> Row:
        usual = {
            "temperature": self._chance.gauss(60.5, 2.3),
            "humidity": self._chance.gauss(2.9, 0.5),
            "pressure": self._chance.gauss(12.0, 0.5),
            "vibration": min(max(self._chance.gauss(1.5, 0.5), 0.0), 3.0),
            "voltage": self._chance.gauss(12.0, 0.12),
        }
        plain = {"status_code": 0, "anomaly_flag": 0, "anomaly_type": None}
        return usual | plain | (self._anomaly(usual) if self._chance.random() < self.ANOMALIES else {})

    def _anomaly(self, usual: Row) -> Row:
        """What an anomaly changes in the usual values."""
        anomalies: dict[str, Row] = {
            "spike": {"temperature": usual["temperature"] * 3},
            "noise": {"vibration": usual["vibration"] * 10, "voltage": usual["voltage"] * 0.5},
            "missing_data": {"temperature": None, "humidity": None},
        }
        kind = self._chance.choice(list(anomalies))
        return anomalies[kind] | {"status_code": 1, "anomaly_flag": 1, "anomaly_type": kind}


def events_of(readings: Sequence[Row]) -> list[Row]:
    """What a station's log says of these readings: a line for each anomaly."""
    return [
        {
            "happened_at": round(dt.datetime.fromisoformat(reading["timestamp"]).timestamp() * 1000),
            "sensor_id": reading["sensor_id"],
            "severity": "error" if reading["anomaly_type"] == "missing_data" else "warning",
            "kind": reading["anomaly_type"],
            "details": json.dumps({"temperature": reading["temperature"], "voltage": reading["voltage"]}),
        }
        for reading in readings
        if reading["anomaly_flag"]
    ]


def status_of(readings: Sequence[Row], written: int) -> Row:
    """How a station is after these readings, `written` of them in all: its battery lasts for a million."""
    return {
        "recorded_at": readings[-1]["timestamp"][:19].replace("T", " "),
        "sensor_id": readings[-1]["sensor_id"],
        "online": 1,
        "battery_percent": round(max(0.0, 100.0 - written / 10_000), 2),
        "readings_written": written,
    }


def iso(moment: float) -> str:
    """Seconds since 1970 as the database has them: UTC, with milliseconds."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(timespec="milliseconds")


# === Database =========================================================================================


class Database:
    """The database file, from `open` to `close`. Closing it cleanly takes the -wal and -shm files away.

    `three_tables`: with a station's other tables beside the readings.
    """

    def __init__(self, path: Path, three_tables: bool = False) -> None:
        self.path = path
        self.three_tables = three_tables
        self._commits = 0
        self._connection: sqlite3.Connection

    def delete(self) -> None:
        """Remove the file, and those that belong to it."""
        for ending in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def open(self) -> None:
        """Open or make the file and its tables."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self.path, timeout=30.0)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        for statement in (TABLE, *INDEXES, *(STATION_TABLES if self.three_tables else ())):
            self._connection.execute(statement)
        self._connection.commit()

    def add(self, readings: Sequence[Row], written: int) -> None:
        """Commit readings, `written` with them in all; every so often, carry the WAL over into the database."""
        self._insert("sensor_readings", readings)
        if self.three_tables:
            self._insert("events", events_of(readings))
            self._insert("status", [status_of(readings, written)])
        self._connection.commit()
        self._commits += 1
        if self._commits % COMMITS_PER_CHECKPOINT == 0:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows, all of the same columns."""
        if not rows:
            return
        names = list(rows[0])
        places = ", ".join(f":{name}" for name in names)
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


# === Running ==========================================================================================


@dataclass(frozen=True)
class Pace:
    """How fast to write: a reading every `interval` seconds (0: as fast as possible), `rows` at most (None: no end)."""

    interval: float
    rows: int | None

    def due(self, elapsed: float, written: int) -> int:
        """How many readings more there have to be, `elapsed` seconds after the start."""
        wanted = int(elapsed / self.interval) + 1 if self.interval else written + BURST
        return (wanted if self.rows is None else min(wanted, self.rows)) - written

    def moments(self, count: int, now: float) -> list[float]:
        """When these readings were taken: the last one now, each one interval after the one before."""
        return [now - self.interval * back for back in reversed(range(count))]

    def finished(self, written: int) -> bool:
        """Whether all readings are written."""
        return written == self.rows


def write(sensor: Sensor, database: Database, pace: Pace, commit_every: float, stop: threading.Event) -> int:
    """Write readings until `stop` is set or all are written; returns how many."""
    start, written = time.monotonic(), 0
    while not stop.is_set() and not pace.finished(written):
        if count := pace.due(time.monotonic() - start, written):
            written += count
            database.add(sensor.readings(pace.moments(count, time.time())), written)
        if pace.interval and not pace.finished(written):
            stop.wait(max(commit_every, pace.interval))
    return written


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", type=Path, default=Path("sensor_data.db"), help="the file (./sensor_data.db)")
    parser.add_argument("--interval", type=not_negative, default=1.0, help="seconds between readings (1; 0: none)")
    parser.add_argument("--commit-every", type=not_negative, default=1.0, help="seconds between commits (1)")
    parser.add_argument("--rows", type=int, help="end after this many readings (never)")
    parser.add_argument("--sensor-id", default="SENSOR_IL_CHI_0001", help="the sensor's name (SENSOR_IL_CHI_0001)")
    parser.add_argument("--location", default="Chicago", help=f"where it stands (Chicago; also {', '.join(LOCATIONS)})")
    parser.add_argument("--keep", action="store_true", help="go on in an existing database instead of deleting it")
    parser.add_argument("--three-tables", action="store_true", help="also write the tables events and status")
    return parser.parse_args(arguments)


def not_negative(text: str) -> float:
    """A number of seconds."""
    if not 0 <= (seconds := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return seconds


def run(given: argparse.Namespace, stop: threading.Event) -> int:
    """Write what the command line asks for; returns how many readings."""
    database = Database(given.database, given.three_tables)
    if not given.keep:
        database.delete()
    database.open()
    try:
        pace = Pace(given.interval, given.rows)
        return write(Sensor(given.sensor_id, given.location), database, pace, given.commit_every, stop)
    finally:
        database.close()


def stop_event() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sensor; returns its exit status."""
    given = options(arguments)
    print(f"{given.sensor_id} in {given.location} writes to {given.database}", file=sys.stderr, flush=True)
    try:
        written = run(given, stop_event())
    except (OSError, sqlite3.Error) as error:
        print(f"{given.database}: {error}", file=sys.stderr)
        return 1
    print(f"{written} readings written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
