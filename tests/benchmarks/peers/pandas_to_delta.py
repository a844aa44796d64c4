"""pandas: chunks of an SQLite table, each appended to a Delta table by deltalake's write_deltalake.

    python pandas_to_delta.py DATABASE FOLDER

This is the script that one writes first: `read_sql_query` with a chunk size, `write_deltalake(mode="append")`, and the
highest id in a file. What it does not do: times stay text, a chunk's column of integers with a NULL becomes one of
floats, a crash between the append and the file sends rows twice, and a read transaction stays open all the while.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

CHUNK_ROWS = 50_000


def main(database: str, folder: Path) -> None:
    """Append the rows that are new since the last call."""
    position = folder / "position.txt"
    last = int(position.read_text()) if position.exists() else 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    [highest] = connection.execute("SELECT coalesce(max(id), 0) FROM sensor_readings").fetchone()
    if highest > last:
        copy(connection, str(folder / "table"), last)
        position.write_text(str(highest))


def copy(connection: sqlite3.Connection, table: str, last: int) -> None:
    """All rows after the id `last`. The imports wait until there are some, as a careful user would have it."""
    import pandas as pd
    from deltalake import write_deltalake

    query = "SELECT * FROM sensor_readings WHERE id > ? ORDER BY id"
    for chunk in pd.read_sql_query(query, connection, params=(last,), chunksize=CHUNK_ROWS):
        write_deltalake(table, chunk, mode="append")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
