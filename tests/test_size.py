"""Very many rows, then a thousand late ones with ties, then nothing: the same multiset in source and target."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, QueryBuilder

import sensor_table
import sqlite_to_databricks_uploader as up
from boxes import Box, examples
from warehouse import Warehouse

# Some pages each, and some commits to the warehouse; a million passed there too, in three minutes.
SIZES = {"delta": examples(50_000), "warehouse": 20_000}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("warehouse")) as running:
        columns = ", ".join(f"{name} {up.declared_type(declared)}" for name, declared in sensor_table.COLUMNS.items())
        running.sql("CREATE SCHEMA sensors")
        running.sql(f"CREATE TABLE sensors.raw_readings ({columns.replace('timestamp string', 'timestamp TIMESTAMP')})")
        yield running


def fingerprint(rows: Iterable[tuple[Any, ...]]) -> tuple[int, int]:
    """How many rows, and the sum of their hashes: the same for the same multiset, in any order."""
    count = total = 0
    for row in rows:
        count, total = count + 1, (total + hash(row)) % 2**64
    return count, total


def in_source(file: Path) -> tuple[int, int]:
    with sqlite3.connect(file) as database:
        found = fingerprint(database.execute("SELECT * FROM sensor_readings"))
    database.close()
    return found


def in_target(table: DeltaTable) -> tuple[int, int]:
    names = ", ".join(sensor_table.COLUMNS)
    found = QueryBuilder().register("t", table).execute(f"SELECT {names} FROM t")

    def rows() -> Iterator[tuple[Any, ...]]:
        for batch in found:
            for key, moment, *others in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield (key, moment.isoformat(timespec="milliseconds"), *others)

    return fingerprint(rows())


def late_rows(box: Box) -> None:
    box.execute(
        """INSERT INTO sensor_readings (timestamp, sensor_id)
           SELECT '2020-01-01T00:00:00.000+00:00', 'late' FROM sensor_readings LIMIT 1000"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("route", SIZES)
def test_very_many_rows_arrive_exactly_then_late_ones_then_nothing(box: Box, warehouse: Warehouse, route: str) -> None:
    sensor_table.create(box.database, SIZES[route], index=False)
    place = box.folder / "lake" / "raw_readings"
    if route == "warehouse":
        box.behind(warehouse, "sensors.raw_readings")
        place = warehouse.table_path("sensors.raw_readings")
    for _ in range(2):
        assert box.run() == 0
        assert in_target(DeltaTable(str(place))) == in_source(box.database)
        late_rows(box)
    assert box.run() == 0
    version = DeltaTable(str(place)).version()
    assert box.run() == 0
    assert DeltaTable(str(place)).version() == version
