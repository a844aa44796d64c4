"""What the uploader promises, computed from the measurements of one benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks.measure import Results

OURS, CONNECTORX, DLT, PANDAS = "uploader", "dlt, connectorx", "dlt, default", "pandas chunks"
SLING = "sling, to CSV"
INSERT, BULK, EXECUTEMANY, VALUES = "uploader, INSERT", "uploader, bulk", "executemany", "1,000-row VALUES"
READ, WRITE = "ADBC read alone", "write from memory alone"
ZEROBUS = "uploader, Zerobus"
GROUPS, COMPACT = "uploader, aggregate", "uploader, --compact"
FULL, MORE, NOTHING, CYCLE, BARELY = "full load", "new rows", "nothing new", "1,000 new rows", "start and end"
BARE, BARE_IMPORTS, HELP = "python -c pass", "python -c 'import sqlite3, yaml'", "--help"

# What can't be computed from what was measured.
NOT_MEASURED = None

Computed = Callable[[Results], float | None]


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure and what it must be: at least or at most `limit`. None as the limit: only reported."""

    figure: str
    limit: float | None
    at_least: bool
    unit: str
    reached: Computed

    def wanted(self) -> str:
        """The target as text."""
        if self.limit is None:
            return "reported"
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"

    def verdict(self, results: Results) -> tuple[str, str]:
        """What was reached, and whether that is enough."""
        value = self.reached(results)
        if value is None:
            return "not measured", "-"
        shown = f"{value:.3g}{self.unit}" if value < 100 else f"{value:.0f}{self.unit}"
        if self.limit is None:
            return shown, "-"
        return shown, "yes" if (value >= self.limit if self.at_least else value <= self.limit) else "NO"


def wall_ratio(section: str, slow: tuple[str, str], fast: tuple[str, str]) -> Computed:
    """How many times longer one takes than the other; each is a tool and a step."""

    def computed(results: Results) -> float | None:
        found = results.find(section, *fast)
        other = results.find(section, *slow, table_rows=found.table_rows) if found else None
        return other.wall / found.wall if found and other else NOT_MEASURED

    return computed


def against_limits(results: Results) -> float | None:
    """A full load, start-up aside, against reading and writing one after the other."""
    full, nothing = results.find("delta", OURS, FULL), results.find("delta", OURS, NOTHING)
    read, write = results.find("delta", READ, FULL), results.find("delta", WRITE, FULL)
    if not (full and nothing and read and write):
        return NOT_MEASURED
    return (full.wall - nothing.wall) / (read.wall + write.wall)


def peak(section: str, *tools: str, step: str = FULL) -> Computed:
    """The highest peak of memory, over all sizes."""

    def computed(results: Results) -> float | None:
        found = [s.peak for s in results.series if s.section == section and s.tool in tools and s.step == step]
        return max(found, default=NOT_MEASURED)

    return computed


def growth(results: Results) -> float | None:
    """The peak of the largest table against that of the next smaller one."""
    sizes = sorted({s.table_rows for s in results.series if (s.section, s.step) == ("memory", FULL)})
    found = [results.find("memory", OURS, FULL, size) for size in sizes[-2:]]
    return found[1].peak / found[0].peak if len(found) == 2 and found[0] and found[1] else NOT_MEASURED


def cycle_growth(results: Results) -> float | None:
    """A cycle in the largest table against that in the smallest: the worse of with and without an index."""
    ratios = []
    for section in ("scaling, index", "scaling, no index"):
        sizes = sorted({s.table_rows for s in results.series if s.section == section})
        found = [results.find(section, OURS, CYCLE, size) for size in sizes]
        if len(found) > 1 and found[0] and found[-1]:
            ratios.append(found[-1].wall / found[0].wall)
    return max(ratios, default=NOT_MEASURED)


def beside_bare(step: str, bare: str, seconds: float) -> Computed:
    """A start of the uploader as a part of what is allowed: twice a bare Python and some seconds."""

    def computed(results: Results) -> float | None:
        ours, python = results.find("start", OURS, step), results.find("start", bare, BARELY)
        return ours.wall / (2 * python.wall + seconds) if ours and python else NOT_MEASURED

    return computed


def idle(results: Results) -> float | None:
    """Percent of one processor."""
    found = results.find("idle", OURS, NOTHING)
    return 100 * found.cpu / found.wall if found else NOT_MEASURED


def installed(results: Results) -> float | None:
    """MB of the locked environment."""
    found = results.find("size", OURS, FULL)
    return found.wall if found else NOT_MEASURED


def faster(figure: str, limit: float | None, section: str, slow: str, fast: str, step: str = FULL) -> Target:
    """How many times faster one tool is than another at a step."""
    return Target(figure, limit, True, " x", wall_ratio(section, (slow, step), (fast, step)))


def at_most(figure: str, limit: float, unit: str, reached: Computed) -> Target:
    """A figure that must not be higher."""
    return Target(figure, limit, False, unit, reached)


def targets() -> list[Target]:
    """Every promise."""
    return [
        faster("full load to Delta: faster than dlt with connectorx", 3, "delta", CONNECTORX, OURS),
        faster("full load to Delta: faster than dlt with its default backend", 12, "delta", DLT, OURS),
        faster("full load to Delta: faster than pandas chunks", 3, "delta", PANDAS, OURS),
        faster("full load to Delta: faster than sling to a CSV file", 8, "delta", SLING, OURS),
        at_most("full load to Delta, start-up aside: part of ADBC read + write from memory", 0.9, " x", against_limits),
        faster("10,000 new rows: faster than dlt with connectorx", 10, "delta", CONNECTORX, OURS, MORE),
        faster("nothing new: faster than dlt with connectorx", 10, "delta", CONNECTORX, OURS, NOTHING),
        at_most("peak memory, raw rows to Delta", 180, " MiB", peak("memory", OURS)),
        at_most("the same: the largest table against the next smaller one", 1.2, " x", growth),
        at_most("peak memory, groups by sensor and minute", 300, " MiB", peak("memory", GROUPS)),
        faster("warehouse, INSERT: faster than executemany", 100, "warehouse", EXECUTEMANY, INSERT),
        faster("warehouse, INSERT: faster than 1,000-row VALUES", 3, "warehouse", VALUES, INSERT),
        faster("warehouse, bulk route: faster than INSERT", None, "warehouse", INSERT, BULK),
        faster("Zerobus on the same stand-in: faster than INSERT", None, "warehouse", INSERT, ZEROBUS),
        at_most("peak memory, warehouse", 300, " MiB", peak("warehouse memory", INSERT, BULK, ZEROBUS)),
        at_most("a cycle with 1,000 new rows: largest table against smallest", 1.2, " x", cycle_growth),
        at_most(
            "--once, nothing new: part of 2 x bare imports + 0.3 s", 1, " x", beside_bare(NOTHING, BARE_IMPORTS, 0.3)
        ),
        at_most("--help: part of 2 x bare Python + 0.1 s", 1, " x", beside_bare(HELP, BARE, 0.1)),
        at_most("idle: one processor's time, at interval 1", 1, " %", idle),
        at_most("installed size of the locked environment", 320, " MB", installed),
    ]
