"""How many boxes one table carries: measured with a few at once, simulated up to 10,000.

    uv run python tests/benchmarks/fleet.py real                      # 2, 8 and 32 uploaders at once, by each route
    uv run python tests/benchmarks/fleet.py simulate                  # the table in docs/fleet.md
    uv run --with matplotlib python tests/benchmarks/fleet.py plot    # and docs/fleet.png

Real uploaders are processes, each with a database of its own, which send three commits as fast as they can into one
table: Delta by path on the local disk, a table of the local warehouse by INSERT, one by its stand-in for Zerobus.
A row too few or too many ends the benchmark. What is simulated: see `simulation.py`.
"""

from __future__ import annotations

import bisect
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "databricks-uploader")]

from benchmarks.simulation import Fleet, dollars, simulated  # noqa: E402

NAMES = {"delta": "Delta by path", "insert": "INSERT", "zerobus": "Zerobus"}


def markdown(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table whose first column holds words."""
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


# --- Real: some uploaders at once ---

COMMITS, ROWS = 3, 4
COLUMNS = "time TIMESTAMP, box BIGINT, v BIGINT, databricks_batch_id STRING"


def real(counts: Sequence[int]) -> str:
    """All routes with so many uploaders at once."""
    from adversary import Stage
    from warehouse import Warehouse

    rows = []
    with tempfile.TemporaryDirectory() as folder, Warehouse(Path(folder) / "w", "--client", "box:secret") as warehouse:
        warehouse.sql("CREATE SCHEMA s")
        with Stage(Path(folder)) as stage:
            for route in NAMES:
                for boxes in counts:
                    place = Path(folder) / f"{route}{boxes}"
                    place.mkdir()
                    rows.append([NAMES[route], boxes, *measured(stage, warehouse, place, route, boxes)])
                    print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
        warehouse.stop()
    return markdown(["route", "boxes at once", "commits a minute", "tried again", "median seconds", "longest"], rows)


def measured(stage: Any, warehouse: Any, place: Path, route: str, boxes: int) -> tuple[str, int, str, str]:
    """Commits a minute, retries of delta-rs and of the uploader, seconds of a box's cycle: the median, the longest."""
    table = f"{route}{boxes}"
    shared = {"LAKEHOUSE_PATH": str(place / "lake")}
    if route != "delta":
        warehouse.sql(f"CREATE TABLE s.raw_{table} ({COLUMNS})")
        zerobus = {**warehouse.zerobus_environment(), "DATABRICKS_DATABASE": "main.s", "UPLOAD_ON_DOUBT": "resend"}
        shared = zerobus if route == "zerobus" else {**warehouse.environment(), "DATABRICKS_DATABASE": "s"}
    environs = {place / f"{box}.txt": box_in(place, box, table, shared) for box in range(boxes)}
    began = time.perf_counter()
    statuses = stage.run_together(environs)
    wall = time.perf_counter() - began
    said = [console.read_text() for console in environs]
    if any(statuses):
        raise SystemExit("\n".join(text for text, status in zip(said, statuses, strict=True) if status))
    retries = sum(text.count("another writer was faster") for text in said)
    retries += arrived(warehouse, place, route, table, boxes)
    seconds = [float(re.findall(r"rows sent in \d+ commits?, ([\d.]+) s", text)[0]) for text in said]
    a_minute = boxes * COMMITS / wall * 60
    return f"{a_minute:,.0f}", retries, f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"


def box_in(place: Path, box: int, table: str, shared: dict[str, str]) -> dict[str, str]:
    """The settings of one box, whose database is made."""
    import sqlite3

    file = place / f"{box}.db"
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, box INTEGER, v INTEGER)")
    rows = [(f"2026-01-01T00:00:{v:02}Z", box, v) for v in range(COMMITS * ROWS)]
    database.executemany("INSERT INTO t (time, box, v) VALUES (?, ?, ?)", rows)
    database.commit()
    database.close()
    own = {"SQLITE_PATH": str(file), "STATE_DIR": str(place / f"state{box}"), "DATABRICKS_TABLE": table, "ONCE": "1"}
    return {**shared, **own, "UPLOAD_BATCH_ROWS": str(ROWS), "OPENBLAS_NUM_THREADS": "1"}


def arrived(warehouse: Any, place: Path, route: str, table: str, boxes: int) -> int:
    """How often delta-rs tried again, by the table's own log; each row of each box has to be there once."""
    from deltalake import DeltaTable, QueryBuilder

    warehouse.flush()
    found = DeltaTable(
        str(place / "lake" / f"raw_{table}" if route == "delta" else warehouse.table_path(f"s.raw_{table}"))
    )
    pages = QueryBuilder().register("t", found).execute("SELECT box, v FROM t").read_all()
    rows = Counter(zip(*(column.to_pylist() for column in pages.columns), strict=True))
    if rows != Counter((box, v) for box in range(boxes) for v in range(COMMITS * ROWS)):
        raise SystemExit(f"{table}: {rows.total()} rows arrived, not each of {boxes * COMMITS * ROWS} once")
    if route != "delta":
        return 0
    return sum(commit.get("operationMetrics", {}).get("num_retries", 0) for commit in found.history())


# --- Simulated: up to 10,000 boxes ---

BOXES = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
INTERVALS = {60: "1 minute", 300: "5 minutes", 3600: "1 hour"}
# Routes, and how many tables by path or clusters of a warehouse the boxes share.
WAYS = (("delta", 1), ("delta", 10), ("insert", 1), ("insert", 4), ("zerobus", 1))


def way_name(route: str, shares: int) -> str:
    """A route with what its boxes share, for people."""
    unit = {"delta": "table", "insert": "cluster", "zerobus": ""}[route]
    return f"{NAMES[route]}, {shares} {unit}{'s' if shares > 1 else ''}" if unit else NAMES[route]


def fleets(route: str, shares: int, interval: float) -> list[Fleet]:
    """Ever more boxes, for six minutes or two cycles."""
    hours = max(0.1, 2 * interval / 3600)
    return [Fleet(route, boxes, interval, shares, hours=hours) for boxes in BOXES]


def carried(route: str, shares: int, interval: float) -> Fleet:
    """The largest fleet that keeps up."""
    rising = fleets(route, shares, interval)
    lost = bisect.bisect_left(rising, True, key=lambda fleet: not simulated(fleet).is_carried(interval))
    return rising[max(0, lost - 1)]


def capacity_of(route: str, shares: int) -> list[str]:
    """How many boxes a way carries, and what those cost a month, for each interval."""
    largest = [carried(route, shares, interval) for interval in INTERVALS]
    return [way_name(route, shares), *(f"{fleet.boxes:,}, ${dollars(fleet):,.0f}" for fleet in largest)]


# How many boxes an outage, or a common start, is tried with.
CUT_OFF, HERD = 100, 500


def incidents_of(route: str, shares: int) -> list[str]:
    """Minutes until all rows are in after a region was cut off for an hour, and seconds of a herd's longest cycle."""
    cells = []
    for interval in (60, 300):
        fleet = Fleet(route, CUT_OFF, interval, shares, hours=1.2 + 13 * interval / 3600, outage=(600.0, 4200.0))
        cells.append(f"{simulated(fleet).recovered(4200, 3 * interval) / 60:.0f}")
    for jitter in (0.0, 300.0):
        herd = simulated(Fleet(route, HERD, 300, shares, hours=300 / 3600, jitter=jitter, enough=10**9))
        cells.append(f"{max(herd.delays):.0f}{f', {herd.failed} failed' if herd.failed else ''}")
    return [way_name(route, shares), *cells]


def tables() -> str:
    """What each way carries, and what happens after an outage and after a common start; a process for each row."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor() as pool:
        carries, incidents = ([*pool.map(rows, *zip(*WAYS, strict=True))] for rows in (capacity_of, incidents_of))
    names = ["", "minutes to catch up, interval 60", "interval 300", "longest first cycle in seconds, jitter 0", "300"]
    carried_names = ["boxes, dollars a month", *INTERVALS.values()]
    return f"{markdown(carried_names, carries)}\n{markdown(names, incidents)}"


def line(route: str, shares: int, interval: float) -> list[tuple[int, float]]:
    """Boxes and the delay of their commits, up to the first fleet that is not carried: its delay is an interval."""
    points = []
    for fleet in fleets(route, shares, interval):
        outcome = simulated(fleet)
        is_carried = outcome.is_carried(interval)
        points.append((fleet.boxes, outcome.delay() if is_carried else interval))
        if not is_carried:
            break
    return points


def plot(file: Path) -> None:
    """The delay of each way by the number of boxes, at 1 and at 5 minutes."""
    from concurrent.futures import ProcessPoolExecutor

    wanted = [(*way, interval) for interval in (60, 300) for way in WAYS]
    with ProcessPoolExecutor(len(wanted)) as pool:
        lines = dict(zip(wanted, pool.map(line, *zip(*wanted, strict=True)), strict=True))
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    colours = dict(zip(WAYS, ("#1f6fb2", "#7fb3dd", "#c8641b", "#eda871", "#5a8f3c"), strict=True))
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for axis, interval in zip(axes, (60, 300), strict=True):
        for way in WAYS:
            boxes, delays = zip(*lines[*way, interval], strict=True)
            is_lost = delays[-1] == interval
            kept = len(boxes) - is_lost
            axis.plot(boxes[:kept], delays[:kept], "o-", markersize=4, color=colours[way], label=way_name(*way))
            if is_lost:
                axis.plot(boxes[kept - 1 :], delays[kept - 1 :], "x:", color=colours[way])
        axis.set(xscale="log", yscale="log", xlabel="boxes", title=f"A cycle every {INTERVALS[interval]}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("seconds until committed, 95 of 100")
    axes[1].legend(fontsize=9, frameon=False)
    figure.savefig(file, dpi=110)


def main(what: str, *counts: str) -> None:
    """Print tables, or draw the plot."""
    work: dict[str, Callable[[], object]] = {
        "real": lambda: print(real([int(count) for count in counts] or [2, 8, 32])),
        "simulate": lambda: print(tables()),
        "plot": lambda: plot(ROOT / "docs" / "fleet.png"),
    }
    work[what]()


if __name__ == "__main__":
    main(*sys.argv[1:])
