"""Makes sensor tables like the sample's, of any size: ties in time, NULLs, repeating texts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

# The first 18 of the sample's 26 columns: the width that the benchmarks speak of.
COLUMNS = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "timestamp": "TEXT NOT NULL",
    "sensor_id": "TEXT NOT NULL",
    "temperature": "REAL",
    "humidity": "REAL",
    "pressure": "REAL",
    "vibration": "REAL",
    "voltage": "REAL",
    "status_code": "INTEGER",
    "anomaly_flag": "INTEGER DEFAULT 0",
    "anomaly_type": "TEXT",
    "firmware_version": "TEXT",
    "model": "TEXT",
    "manufacturer": "TEXT",
    "location": "TEXT",
    "latitude": "REAL",
    "longitude": "REAL",
    "original_timezone": "TEXT",
}

# One statement makes rows :first to :last, three to a millisecond, about 3 % of the readings NULL.
INSERT = """
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
INSERT INTO sensor_readings
SELECT i,
    strftime('%Y-%m-%dT%H:%M:%f+00:00', 1767225600 + (i / 3) / 1000.0, 'unixepoch'),
    'SENSOR_' || (i % 97),
    CASE WHEN i % 31 THEN 20 + (i * 7919 % 10007) / 503.0 END,
    CASE WHEN i % 37 THEN 40 + (i * 104729 % 9973) / 311.0 END,
    1000 + (i * 31 % 997) / 41.0,
    (i * 17 % 7919) / 1013.0,
    12 + (i * 13 % 101) / 113.0,
    CASE WHEN i % 33 THEN i % 4 END,
    i % 211 = 0,
    CASE WHEN i % 211 = 0 THEN 'spike' END,
    '2.1.' || (i % 3),
    'WeatherStation Pro',
    'SensorCorp',
    CASE i % 5 WHEN 0 THEN 'Zürich' WHEN 1 THEN 'Chicago' WHEN 2 THEN 'São Paulo' ELSE 'Reykjavík' END,
    47 + (i % 97) / 1000.0,
    8 + (i % 89) / 1000.0,
    '+00:00'
FROM n
"""


def create(file: Path, rows: int, *, index: bool = True) -> None:
    """A new database with the table `sensor_readings` of `rows` rows."""
    with sqlite3.connect(file) as database:
        columns = ", ".join(f"{name} {declared}" for name, declared in COLUMNS.items())
        database.execute(f"CREATE TABLE sensor_readings ({columns})")
        if index:
            database.execute("CREATE INDEX idx_timestamp ON sensor_readings (timestamp)")
    database.close()
    append(file, rows)


def append(file: Path, rows: int) -> None:
    """`rows` more rows after the last one."""
    with sqlite3.connect(file) as database:
        last = database.execute("SELECT coalesce(max(id), 0) FROM sensor_readings").fetchone()[0]
        if rows:
            database.execute(INSERT, {"first": last + 1, "last": last + rows})
    database.close()
