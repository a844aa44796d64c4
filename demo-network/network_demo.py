#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["databricks-sql-connector>=4.9,<4.10"]
#
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""The demo network without containers: three nodes with a sensor and an uploader each, and a local SQL warehouse.

    uv run --script demo-network/network_demo.py

Each node has its own database, state and source_id; all of them fill one table. Amid the run the uploader of node-2
is killed without warning, and started again later (--no-outage leaves it alone). After 30 seconds, or at Ctrl-C, the
sensors stop, the rest is sent, and each node's database is compared with the warehouse row by row. The page that is
left, page.html in the directory, needs a browser and nothing else.

With --scenarios each node does something else: node-1 filters, node-2 sanitizes, node-3 aggregates by the minute.

Exit status: 0 if all three nodes are exact; 1 if not, or if a part failed; 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import page
import parts

STATIONS = (
    parts.Station("node-1", "SENSOR_CH_ZRH_0001", "Zürich", interval=0.01),
    parts.Station("node-2", "SENSOR_BR_SAO_0001", "São Paulo", interval=0.015),
    parts.Station("node-3", "SENSOR_IS_RKV_0001", "Reykjavík", interval=0.03),
)
SCENARIOS = (parts.FILTERED, parts.SECURE, parts.AGGREGATED)
# The node whose uploader is killed, and when: shares of the whole time.
UNLUCKY, KILLED, STARTED_AGAIN = "node-2", 0.35, 0.65

Outages = dict[str, tuple[float, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns its exit status."""
    given = options(arguments)
    parts.interruptible()
    try:
        report = demo(given, parts.workplace(given.directory))
    except parts.DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if report.exact == len(report.nodes) else 1


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the sensors write (30)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between an uploader's cycles (1)")
    parser.add_argument("--directory", type=Path, help="an empty directory for everything (a temporary one)")
    parser.add_argument("--scenarios", action="store_true", help="filter, sanitize and aggregate, a node each")
    parser.add_argument("--no-outage", action="store_true", help="let all uploaders run all the time")
    return parser.parse_args(arguments)


def demo(given: argparse.Namespace, directory: Path) -> page.Report:
    """Start everything, watch it, end it in order, compare, and write the page."""
    print("Starting the warehouse and the uploaders; the first time, uv fetches their packages.", flush=True)
    started = dt.datetime.now(dt.UTC)
    with contextlib.ExitStack() as stack:
        warehouse = parts.started_warehouse(directory, stack)
        nodes = started_nodes(given, directory, warehouse, stack)
        eye = parts.Watch(warehouse, nodes)
        outages = run(eye, nodes, given)
        finish(eye, nodes)
        comparisons = {node.station.name: parts.outcome(warehouse, node) for node in nodes}
    report = report_of(started, given.interval, eye, nodes, comparisons, outages)
    show_result(report, directory / "page.html")
    return report


def started_nodes(
    given: argparse.Namespace, directory: Path, warehouse: parts.Warehouse, stack: contextlib.ExitStack
) -> list[parts.Node]:
    """The three nodes, running, to be ended with the stack."""
    scenarios = SCENARIOS if given.scenarios else [parts.RAW] * len(STATIONS)
    nodes = []
    for station, scenario in zip(STATIONS, scenarios, strict=True):
        own = directory / station.name
        node = parts.Node(station, scenario, own, directory / "logs", warehouse.settings(), given.interval)
        stack.callback(node.kill)
        nodes.append(node)
    for node in nodes:
        node.start()
    print(f"Everything is below {directory}; the warehouse listens at https://{warehouse.address}\n", flush=True)
    return nodes


# === Running ==========================================================================================


def run(eye: parts.Watch, nodes: Sequence[parts.Node], given: argparse.Namespace) -> Outages:
    """Look again and again until the time is over or a signal comes; returns when uploaders were down."""
    stop, view = parts.stop_event(), View(sys.stdout.isatty())
    outage = Outage(next(node for node in nodes if node.station.name == UNLUCKY), given.seconds, not given.no_outage)
    while eye.seconds() < given.seconds and not stop.wait(eye.pause()):
        outage.proceed(eye.seconds())
        for node in nodes:
            node.check()
        eye.look()
        view.show(eye, nodes, outage)
    outage.end(eye.seconds())
    return outage.times()


class Outage:
    """Kills a node's uploader and starts it again, when the time has come. `down` is since when, `up` from when on."""

    def __init__(self, node: parts.Node, seconds: float, wanted: bool) -> None:
        self.node = node
        self.from_second = KILLED * seconds if wanted else float("inf")
        self.to_second = STARTED_AGAIN * seconds
        self.down: float | None = None
        self.up: float | None = None

    def proceed(self, now: float) -> None:
        """Do what is due."""
        if self.down is None and now >= self.from_second:
            self.node.uploader.kill()
            self.down = now
        elif self.is_on and now >= self.to_second:
            self.end(now)

    def end(self, now: float) -> None:
        """Start the uploader again, if it is down."""
        if self.is_on:
            self.node.uploader.start()
            self.up = now

    @property
    def is_on(self) -> bool:
        """Whether the uploader is down."""
        return self.down is not None and self.up is None

    def times(self) -> Outages:
        """When it was down, by the node's name."""
        return {} if self.down is None or self.up is None else {self.node.station.name: (self.down, self.up)}


class View:
    """The table on the screen, once a second: drawn over the earlier one in a terminal, else one below the other."""

    def __init__(self, in_place: bool) -> None:
        self._in_place = in_place
        self._height = 0
        self._due = 0.0

    def show(self, eye: parts.Watch, nodes: Sequence[parts.Node], outage: Outage) -> None:
        """Draw the latest sample of each node, if it is time."""
        if eye.seconds() < self._due:
            return
        self._due = eye.seconds() + 0.9
        lines = [f"{eye.seconds():4.0f} s      written    arrived    waiting       lag  commits"]
        self._draw(lines + [node_line(node, eye, outage) for node in nodes])

    def _draw(self, lines: Sequence[str]) -> None:
        if self._in_place and self._height:
            # Up to where the earlier table begins; each line is cleared to its end.
            print(f"\x1b[{self._height}A", end="")
        print("\n".join(f"{line}\x1b[K" if self._in_place else line for line in lines), flush=True)
        self._height = len(lines)


def node_line(node: parts.Node, eye: parts.Watch, outage: Outage) -> str:
    """A node's line of the table."""
    sample = eye.history[node.station.name][-1]
    waiting = max(0, sample.written - sample.arrived)
    counts = f"{sample.written:10,} {sample.arrived:10,} {waiting:10,}  {sample.lag:6.1f} s {sample.commits:8,}"
    note = "  uploader killed" if outage.is_on and outage.node is node else ""
    return f"{node.station.name:7}{counts}  {node.scenario.table}{note}"


# === Ending ===========================================================================================


def finish(eye: parts.Watch, nodes: Sequence[parts.Node]) -> None:
    """End the nodes in order: sensors, uploaders, and a last run of each for what is left."""
    print("\nThe sensors stop, the uploaders send the rest.", flush=True)
    for node in nodes:
        node.sensor.stop()
    eye.look()
    for node in nodes:
        node.uploader.stop()
        node.last_run.start()
        eye.look()
    while any(node.last_run.is_running for node in nodes):
        time.sleep(eye.pause())
        eye.look()
    for node in nodes:
        node.last_run.finish()
    eye.look()


def report_of(
    started: dt.datetime,
    interval: float,
    eye: parts.Watch,
    nodes: Sequence[parts.Node],
    comparisons: Mapping[str, parts.Comparison],
    outages: Outages,
) -> page.Report:
    """Everything that the page shows."""
    reports = [
        page.NodeReport(
            name=node.station.name,
            sensor=node.station.sensor,
            location=node.station.location,
            table=node.scenario.table,
            samples=eye.history[node.station.name],
            comparison=comparisons[node.station.name],
            down=outages.get(node.station.name),
        )
        for node in nodes
    ]
    return page.Report(f"{started:%d %B %Y, %H:%M} UTC", interval, reports)


def show_result(report: page.Report, file: Path) -> None:
    """Print how each node came out, and write the page."""
    file.write_text(page.page(report))
    for node in report.nodes:
        print(f"{node.name}  {node.comparison.text()}")
    print(f"\nPage: {file.as_uri()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
