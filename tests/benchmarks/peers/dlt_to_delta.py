"""dlt: an SQLite table into a Delta table on the local disk, incrementally.

    python dlt_to_delta.py DATABASE FOLDER BACKEND

BACKEND is sqlalchemy, the default, or connectorx, typically the fastest as the documentation says. The steps are from
dlt's pages "SQL database: advanced usage" and "Delta table format". The cursor is the integer primary key, read in
order, which spares dlt the comparison of texts as times and the deduplication of ties.

What it does besides: it keeps its state in the destination too, and loads by way of its own files, so that a broken
load can be tried again. What it does not do: notice a recreated database, set single rows aside, keep memory flat
(connectorx reads all that is new at once; dlt's page says so). Telemetry is off.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(database: str, folder: Path, backend: str) -> None:
    """Append the rows that are new since the last call."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["DLT_DATA_DIR"] = str(folder / "dlt")

    import dlt  # type: ignore[import-not-found,unused-ignore]
    from dlt.sources.sql_database import sql_table  # type: ignore[import-not-found,unused-ignore]

    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.filesystem(str(folder / "lake")),
        dataset_name="bench",
    )
    table = sql_table(
        f"sqlite:///{database}",
        "sensor_readings",
        incremental=dlt.sources.incremental("id", row_order="asc", on_cursor_value_missing="raise"),
        backend=backend,
    )
    pipeline.run(table, table_format="delta", write_disposition="append")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
