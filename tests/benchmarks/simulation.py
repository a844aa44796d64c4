"""A fleet of boxes on one route, as discrete events: how late rows are, where a route saturates, how it catches up.

A box cycles every `interval`, from a moment within `jitter` on, and sends one commit with all that waits. What a route then does:

- Delta by path: a commit takes some time from its look at the log to its conditional put. One that another commit
  fell into looks again, up to 100 times; five times that, with waits in between, then the cycle fails.
- INSERT: a cluster of the warehouse takes ten statements at once, the others queue.
- Zerobus: nobody waits for anybody; 10,000 requests a second are a workspace's quota.

In an outage boxes of a region fail, and wait up to twelve intervals with jitter, as the uploader does.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Callable, Generator
from typing import Any

import simpy

ROUTES = ("delta", "insert", "zerobus")

# Seconds of one commit, drawn from a log-normal distribution with this median and this sigma. Delta: three to four
# requests to a store of 30 to 50 ms. INSERT: a small statement. Zerobus: docs.databricks.com/ingestion/zerobus-quotas.
COMMIT = {"delta": 0.2, "insert": 1.2, "zerobus": 0.15}
SIGMA = 0.3

# As in the uploader: `DeltaTarget.COMMIT_RETRIES` and `among_others`, and the intervals that waits grow to.
RETRIES, ATTEMPTS, LONGEST_WAIT = 100, 5, 12

# So many tries more than commits show that a table carries no more; going on would only take time.
ENOUGH = 20_000

# docs.databricks.com/sql/admin/warehouse-behavior: "10 concurrent queries" for each cluster.
AT_ONCE = 10


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Boxes, seconds between their cycles, tables (by path) or clusters (of the warehouse) that they share.

    `jitter` is the seconds within which the boxes begin, an interval where it is None. `outage` is when a region is cut off, from second to second, and `cut_off` the part of the boxes that is in it.
    """

    route: str
    boxes: int
    interval: float
    shares: int = 1
    hours: float = 2.0
    jitter: float | None = None
    outage: tuple[float, float] = (0.0, 0.0)
    cut_off: float = 0.3
    enough: int = ENOUGH
    seed: int = 1


@dataclasses.dataclass
class Outcome:
    """What became of a fleet. Delays are seconds from a cycle's start to its commit; `ages` those of its oldest row."""

    commits: int = 0
    tries: int = 0
    failed: int = 0
    hours: float = 0.0
    delays: list[float] = dataclasses.field(default_factory=list)
    moments: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def delay(self, part: float = 0.95) -> float:
        """The delay that this part of the commits is not later than."""
        return sorted(self.delays)[int(part * (len(self.delays) - 1))] if self.delays else float("inf")

    @property
    def middle(self) -> float:
        """The median delay."""
        return statistics.median(self.delays)

    @property
    def a_minute(self) -> float:
        """Commits a minute."""
        return self.commits / self.hours / 60

    @property
    def tries_each(self) -> float:
        """Tries for each commit."""
        return self.tries / max(1, self.commits)

    def is_carried(self, interval: float) -> bool:
        """Whether the route keeps up, in few tries: no cycle fails, and 95 of 100 commits take half an interval."""
        return not self.failed and self.tries_each < 3 and self.delay() < interval / 2

    def recovered(self, after: float, usual: float) -> float:
        """Seconds from `after` to the last commit whose oldest row was older than `usual` seconds."""
        return max((moment - after for moment, age in self.moments if moment > after and age > usual), default=0.0)


class Table:
    """The log of a Delta table by path: which version it has."""

    def __init__(self) -> None:
        self.version = 0


Process = Generator[Any, Any, Any]
Commit = Callable[[], Process]


class Simulation:
    """One fleet in its own time."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.world = simpy.Environment()
        self.random = random.Random(fleet.seed)
        self.outcome = Outcome()
        self.is_saturated = self.world.event()

    def run(self) -> Outcome:
        """All boxes for so many hours."""
        fleet = self.fleet
        tables = [Table() for _ in range(fleet.shares)]
        warehouse = simpy.Resource(self.world, AT_ONCE * fleet.shares)
        for number in range(fleet.boxes):
            ways: dict[str, Commit] = {
                "delta": lambda table=tables[number % fleet.shares]: self._by_path(table),  # type: ignore[misc]
                "insert": lambda: self._by_insert(warehouse),
                "zerobus": self._by_zerobus,
            }
            self.world.process(self._box(number, ways[fleet.route]))
        self.world.run(until=self.world.timeout(fleet.hours * 3600) | self.is_saturated)
        self.outcome.hours = self.world.now / 3600
        return self.outcome

    def _seconds(self) -> float:
        return COMMIT[self.fleet.route] * self.random.lognormvariate(0, SIGMA)

    def _box(self, number: int, commit: Commit) -> Process:
        """Cycles of one box; a failed one leaves its rows to the next."""
        fleet, world = self.fleet, self.world
        yield world.timeout(self.random.uniform(0, fleet.interval if fleet.jitter is None else fleet.jitter))
        is_in_region, failures, waiting_since = number < fleet.cut_off * fleet.boxes, 0, world.now - fleet.interval
        while True:
            began, wait = world.now, fleet.interval
            if is_in_region and fleet.outage[0] <= began < fleet.outage[1]:
                failures += 1
                wait = min(2.0 ** (failures - 1), LONGEST_WAIT) * fleet.interval * self.random.uniform(0.8, 1.0)
            elif (yield from commit()):
                failures = 0
                self.outcome.commits += 1
                self.outcome.delays.append(world.now - began)
                self.outcome.moments.append((world.now, world.now - waiting_since))
                waiting_since = began
            else:
                self.outcome.failed += 1
            yield world.timeout(wait)

    def _by_path(self, table: Table) -> Process:
        """Optimistic: a commit holds where no other one fell between its look and its put."""
        for attempt in range(ATTEMPTS):
            for _ in range(RETRIES + 1):
                seen = table.version
                self.outcome.tries += 1
                yield self.world.timeout(self._seconds())
                if table.version == seen:
                    table.version += 1
                    return True
                if self.outcome.tries - self.outcome.commits > self.fleet.enough and not self.is_saturated.triggered:
                    self.is_saturated.succeed()
            yield self.world.timeout(self.random.uniform(0, 2**attempt))
        return False

    def _by_insert(self, warehouse: Any) -> Process:
        """A statement waits for its place."""
        with warehouse.request() as place:
            yield place
            self.outcome.tries += 1
            yield self.world.timeout(self._seconds())
        return True

    def _by_zerobus(self) -> Process:
        """A request, and its answer."""
        self.outcome.tries += 1
        yield self.world.timeout(self._seconds())
        return True


def simulated(fleet: Fleet) -> Outcome:
    """What becomes of a fleet; the same for the same fleet."""
    return Simulation(fleet).run()


# --- What it costs: docs/choosing-a-route.md ---

WAREHOUSE_HOUR, COMMIT_REQUESTS, GIGABYTE, ROW_BYTES = 2.80, 0.00002, 0.05, 600
MONTH = 30.4 * 86_400


def dollars(fleet: Fleet, tries: float = 1.0) -> float:
    """A month by list prices, with a row a second and box; `tries` are those of a commit."""
    if fleet.route == "delta":
        return fleet.boxes * MONTH / fleet.interval * COMMIT_REQUESTS * tries
    if fleet.route == "zerobus":
        return fleet.boxes * MONTH * ROW_BYTES / 1e9 * GIGABYTE
    return fleet.shares * MONTH / 3600 * WAREHOUSE_HOUR
