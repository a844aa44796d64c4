"""What the parts alone take: the floor for any route by way of Arrow that does one after the other.

    python limits.py read DATABASE
    python limits.py write DATABASE FOLDER

It prints a JSON object with rows and seconds, imports and, for `write`, reading aside.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

BATCH_ROWS = 50_000


def main(what: str, database: str, *folder: str) -> None:
    """Measure one of the limits."""
    rows, seconds = read(database) if what == "read" else write(database, *folder)
    print(json.dumps({"rows": rows, "seconds": seconds}))


def read(database: str) -> tuple[int, float]:
    """All columns through ADBC into Arrow, batch by batch, each dropped at once."""
    began = time.perf_counter()
    rows = sum(batch.num_rows for batch in batches(database))
    return rows, time.perf_counter() - began


def write(database: str, folder: str) -> tuple[int, float]:
    """A table in memory, its times as timestamps, into a new Delta table, with the uploader's writer settings."""
    from arro3.core import ChunkedArray, DataType, Table
    from deltalake import WriterProperties, write_deltalake

    table = Table.from_batches(list(batches(database)))
    place = table.column_names.index("timestamp")
    times: ChunkedArray = table.column("timestamp").cast(DataType.timestamp("us", tz="UTC"))
    table = table.set_column(place, "timestamp", times)
    properties = WriterProperties(compression="ZSTD", max_row_group_size=100_000)
    began = time.perf_counter()
    write_deltalake(folder, table, writer_properties=properties)
    return table.num_rows, time.perf_counter() - began


def batches(database: str) -> Iterator[Any]:
    """The table's batches of Arrow, as the driver makes them."""
    import adbc_driver_manager
    import adbc_driver_sqlite
    from arro3.core import RecordBatchReader

    with (
        adbc_driver_sqlite.connect(f"file:{database}?mode=ro") as opened,
        adbc_driver_manager.AdbcConnection(opened) as connection,
        adbc_driver_manager.AdbcStatement(connection) as statement,
    ):
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)})
        statement.set_sql_query("SELECT * FROM sensor_readings")
        yield from RecordBatchReader.from_arrow(statement.execute_query()[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
