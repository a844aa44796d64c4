"""Many boxes, one table: 24 uploader processes at once; all finish, nothing is missing, nothing doubled. (matrix row 48)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from adversary import Stage
from boxes import Box, rows_of
from warehouse import Warehouse

WRITERS = 12
ROWS = 12
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, writer INTEGER, v INTEGER)"
INSERT = "INSERT INTO t (time, writer, v) VALUES (?, ?, ?)"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("warehouse"), "--client", "box:secret", "--zerobus-delay", "0") as started:
        started.sql("CREATE SCHEMA s")
        yield started


def fleet(folder: Path, shared: dict[str, str]) -> list[Box]:
    """So many boxes with rows of their own and one target."""
    boxes = []
    for writer in range(WRITERS):
        (folder / f"box{writer}").mkdir()
        box = Box(folder / f"box{writer}")
        del box.environ["LAKEHOUSE_PATH"]
        box.environ |= {**shared, "UPLOAD_BATCH_ROWS": "4"}
        box.execute(TABLE, INSERT, rows=[(f"2026-01-01T00:00:{v:02}Z", writer, v) for v in range(ROWS)])
        boxes.append(box)
    return boxes


def upload(stage: Stage, boxes: list[Box]) -> list[int]:
    """All boxes upload at the same time; their exit statuses."""
    return stage.run_together({box.folder / "log.txt": {**box.environ, "OPENBLAS_NUM_THREADS": "1"} for box in boxes})


def all_uploaded(stage: Stage, boxes: list[Box]) -> None:
    """Run all boxes until all are done; a cycle that others were faster than five times is tried again, as a service does."""
    left = boxes
    for _ in range(5):
        statuses = upload(stage, left)
        assert set(statuses) <= {0, 1}, [box.folder.joinpath("log.txt").read_text() for box in left]
        left = [box for box, status in zip(left, statuses, strict=True) if status]
        if not left:
            return
    raise AssertionError([box.folder.joinpath("log.txt").read_text()[-500:] for box in left])


def expected() -> Counter[tuple[Any, ...]]:
    """Each row of each writer once."""
    return Counter((writer, v) for writer in range(WRITERS) for v in range(ROWS))


@pytest.mark.slow
def test_many_uploaders_fill_one_delta_table(stage: Stage, tmp_path: Path) -> None:
    """The table does not exist before; one of them makes it."""
    boxes = fleet(tmp_path, {"LAKEHOUSE_PATH": str(tmp_path / "lake")})
    all_uploaded(stage, boxes)
    table = DeltaTable(str(tmp_path / "lake" / "raw_readings"))
    assert Counter(rows_of(table, "writer, v")) == expected()
    assert table.version() == WRITERS * ROWS // 4 - 1


@pytest.mark.slow
@pytest.mark.parametrize("marked", ["", ", databricks_batch_id STRING"])
def test_many_uploaders_fill_one_table_of_a_warehouse(
    stage: Stage, tmp_path: Path, warehouse: Warehouse, marked: str
) -> None:
    """With and without batch ids."""
    name = f"many{len(marked)}"
    warehouse.sql(f"CREATE TABLE s.raw_{name} (time TIMESTAMP, writer BIGINT, v BIGINT{marked})")
    boxes = fleet(tmp_path, warehouse.environment() | {"DATABRICKS_DATABASE": "s", "DATABRICKS_TABLE": name})
    all_uploaded(stage, boxes)
    assert Counter(rows_of(DeltaTable(str(warehouse.table_path(f"s.raw_{name}"))), "writer, v")) == expected()
    inserted = [entry["rows"] for entry in warehouse.statements(f"INSERT INTO `s`.`raw_{name}`")]
    assert inserted == [4] * (WRITERS * ROWS // 4)


@pytest.mark.slow
def test_many_uploaders_fill_one_table_by_zerobus(stage: Stage, tmp_path: Path, warehouse: Warehouse) -> None:
    """Nobody waits for anybody: each box sends its three requests."""
    warehouse.sql("CREATE TABLE s.raw_all (time TIMESTAMP, writer BIGINT, v BIGINT, databricks_batch_id STRING)")
    shared = {"DATABRICKS_DATABASE": "main.s", "DATABRICKS_TABLE": "all", "UPLOAD_ON_DOUBT": "stop"}
    assert upload(stage, fleet(tmp_path, warehouse.zerobus_environment() | shared)) == [0] * WRITERS
    warehouse.flush()
    assert Counter(rows_of(DeltaTable(str(warehouse.table_path("s.raw_all"))), "writer, v")) == expected()
    assert [entry["rows"] for entry in warehouse.inserts("raw_all")] == [4] * (WRITERS * ROWS // 4)
