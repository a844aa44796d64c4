"""The Databricks connector: rows of an SQLite table by INSERT statements, in one of two ways.

    python inserts_to_warehouse.py DATABASE TABLE ROWS WAY

WAY is executemany, one row at a time through bound parameters, as the earlier uploader did and as the connector's page
shows; or values, 1,000 rows at a time as literals in one VALUES list. Address and token come from DATABRICKS_HOST,
DATABRICKS_HTTP_PATH, DATABRICKS_TOKEN and DATABRICKS_CA_FILE. It prints a JSON object: how many rows were sent, and the
seconds from the first statement to the last answer; `ROWS` bounds it, since these ways are slow.

What it does not do: keep a position, find out what became of a statement whose answer was lost, set a row aside.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

VALUES_ROWS = 1000
TIME = 1  # the place of the column `timestamp`


def main(database: str, table: str, most_rows: int, way: str) -> None:
    """Send the first rows and tell how long it took."""
    rows = read(database, most_rows)
    send: Callable[[Any, str, Sequence[Sequence[Any]]], None] = {"executemany": executemany, "values": values}[way]
    with connect() as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        send(cursor, table, rows)
        seconds = time.perf_counter() - began
    print(json.dumps({"rows": len(rows), "seconds": seconds}))


def read(database: str, most_rows: int) -> list[list[Any]]:
    """The first rows, their times as datetimes."""
    found = sqlite3.connect(f"file:{database}?mode=ro", uri=True).execute(
        "SELECT * FROM sensor_readings ORDER BY id LIMIT ?", (most_rows,)
    )
    return [[*row[:TIME], dt.datetime.fromisoformat(row[TIME]), *row[TIME + 1 :]] for row in found]


def connect() -> Any:
    """A connection of the Databricks connector."""
    from databricks import sql

    host, _, port = os.environ["DATABRICKS_HOST"].partition(":")
    return sql.connect(
        server_hostname=host,
        http_path=os.environ["DATABRICKS_HTTP_PATH"],
        access_token=os.environ["DATABRICKS_TOKEN"],
        _port=int(port or 443),
        _tls_trusted_ca_file=os.environ["DATABRICKS_CA_FILE"],
        enable_telemetry=False,
    )


def executemany(cursor: Any, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """One statement, and so one commit, for each row: the connector's executemany is a loop."""
    places = ", ".join("?" * len(rows[0]))
    cursor.executemany(f"INSERT INTO {table} VALUES ({places})", rows)


def values(cursor: Any, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """One statement for a thousand rows."""
    for first in range(0, len(rows), VALUES_ROWS):
        tuples = (f"({', '.join(map(literal, row))})" for row in rows[first : first + VALUES_ROWS])
        cursor.execute(f"INSERT INTO {table} VALUES {', '.join(tuples)}")


def literal(value: Any) -> str:
    """A value as SQL text; a real number as a double, not as a decimal."""
    if value is None:
        return "NULL"
    if isinstance(value, dt.datetime):
        return f"TIMESTAMP'{value.isoformat(sep=' ')}'"
    if isinstance(value, float):
        return f"{value!r}D"
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
