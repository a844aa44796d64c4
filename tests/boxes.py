"""An edge box for tests: a real database, a local lakehouse, a state directory, and the uploader run in this process."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError

import sqlite_to_databricks_uploader as up
from warehouse import Warehouse

# What uv and pip say where no package index can be reached.
OFFLINE = "Failed to fetch|error sending request|dns error|NewConnectionError"

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "databricks-uploader" / "sqlite_to_databricks_uploader.py"
# The script as a process of its own, compiled before, as in the image: compiling it takes half of a start.
PROGRAM = [
    sys.executable, "-P", "-c",
    f"import sys; sys.path.insert(0, {str(Path(up.__file__).parent)!r});"
    " from sqlite_to_databricks_uploader import run_process; run_process()",
]  # fmt: skip
# Whether this is a long run, which tries many more examples.
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SAMPLE = ROOT / "demo-network" / "sensor_data.db"


def executed(file: Path, *statements: str, rows: Sequence[tuple[Any, ...]] | None = None) -> None:
    """Run statements on a database and commit; the last one for each of `rows`, if given."""
    connection = sqlite3.connect(file)
    for statement in statements[: len(statements) - (rows is not None)]:
        connection.execute(statement)
    if rows is not None:
        connection.executemany(statements[-1], rows)
    connection.commit()
    connection.close()


class Box:
    """`execute` writes as the producer does, `run` is one `--once` run, `arrived` is what the Delta table holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "data" / "sensor.db"
        self.database.parent.mkdir()
        self.state_file = folder / "state" / "last_upload.json"
        self.environ = {
            "SQLITE_PATH": str(self.database),
            "LAKEHOUSE_PATH": str(folder / "lake"),
            "DATABRICKS_TABLE": "readings",
            "STATE_DIR": str(folder / "state"),
            "ONCE": "1",
        }

    def execute(self, *statements: str, rows: Sequence[tuple[Any, ...]] | None = None) -> None:
        """Run statements on the database, as `executed` does."""
        executed(self.database, *statements, rows=rows)

    def sample(self) -> None:
        """Take the sample database: 3,000 rows of the real producer."""
        shutil.copy(SAMPLE, self.database)

    def behind(self, warehouse: Warehouse, table: str, columns: str = "") -> None:
        """Send to a table of a warehouse, SCHEMA.raw_NAME, not to a lakehouse; with columns it is made."""
        if columns:
            warehouse.sql(f"CREATE TABLE {table} ({columns})")
        schema, _, name = table.partition(".raw_")
        del self.environ["LAKEHOUSE_PATH"]
        self.environ |= {**warehouse.environment(), "DATABRICKS_DATABASE": schema, "DATABRICKS_TABLE": name}

    def run(self, *flags: str, **environ: str) -> int:
        """The exit status of one run."""
        return up.main(list(flags), {**self.environ, **environ})

    def table(self, prefix: str = "raw_") -> DeltaTable:
        """The Delta table that rows went to."""
        return DeltaTable(str(self.folder / "lake" / f"{prefix}readings"))

    def arrived(self, columns: str = "*", prefix: str = "raw_") -> list[tuple[Any, ...]]:
        """The rows of the Delta table, sorted by their text; none while there is no table."""
        try:
            return rows_of(self.table(prefix), columns)
        except TableNotFoundError:
            return []

    def source(self, columns: str = "*", table: str = "sensor_readings") -> list[tuple[Any, ...]]:
        """The rows of the source, sorted by their text."""
        connection = sqlite3.connect(self.database)
        found = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
        connection.close()
        return sorted(found, key=repr)

    def state(self) -> dict[str, Any]:
        """The state file's content."""
        content: dict[str, Any] = json.loads(self.state_file.read_text())
        return content

    def quarantined(self) -> list[dict[str, Any]]:
        """The lines of the quarantine."""
        files = sorted((self.folder / "state" / "quarantine").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def rows_of(table: DeltaTable, columns: str = "*") -> list[tuple[Any, ...]]:
    """The rows of a Delta table, sorted by their text."""
    found = QueryBuilder().register("t", table).execute(f"SELECT {columns} FROM t").read_all()
    return sorted(zip(*(column.to_pylist() for column in found.columns), strict=True), key=repr)


def examples(usual: int) -> int:
    """How many examples of a property are tried: so many in the suite, twenty times as many in the long run."""
    return usual * (20 if LONG else 1)


def failures(run: Callable[[], int], most: int) -> int:
    """How many runs fail before the first that does not; of so many at most, which all fail then."""
    return len(list(itertools.takewhile(bool, (run() for _ in range(most)))))


def crossed(**values: Sequence[Any]) -> pytest.MarkDecorator:
    """Parameters that are crossed: in the suite each pair of values meets at least once, in the long run all do.

    Most faults show where two circumstances meet (Kuhn, Wallace, Gallo: Software fault interactions, 2004).
    """

    def pairs(row: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
        return set(itertools.combinations(enumerate(row), 2))

    left = list(itertools.product(*map(range, map(len, values.values()))))
    chosen, unmet = list(left), set[tuple[tuple[int, int], ...]]().union(*map(pairs, left))
    if not LONG:
        chosen = []
        while unmet:
            chosen.append(max(left, key=lambda row: len(pairs(row) & unmet)))
            unmet -= pairs(chosen[-1])
    rows = [tuple(each[place] for each, place in zip(values.values(), row, strict=True)) for row in sorted(chosen)]
    return pytest.mark.parametrize(list(values), rows)


def same_rows(left: list[tuple[Any, ...]], right: list[tuple[Any, ...]]) -> bool:
    """Whether two lists hold the same rows as often, in any order."""
    return Counter(map(repr, left)) == Counter(map(repr, right))


def interrupted_at(owner: Any, name: str, when: str, call: int, patch: Callable[[Any, str, Any], None]) -> None:
    """Let the `call`-th call of a method end the run as a kill would: before or after it did its work."""
    real, calls = getattr(owner, name), []

    def killed(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call and when == "before":
            raise KeyboardInterrupt
        result = real(self, *arguments, **named)
        if len(calls) == call:
            raise KeyboardInterrupt
        return result

    patch(owner, name, killed)
