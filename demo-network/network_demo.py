#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["databricks-sql-connector>=4.9,<4.10"]
#
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""The demo network without containers: four nodes with a sensor and an uploader each, and a local SQL warehouse.

    uv run demo-network/network_demo.py

Each node has its own database, state and source_id. All of them fill one table; node-4 sends its whole database, which
has two more. Amid the run the uploader of node-2 is killed without warning, and started again later (--no-outage
leaves it alone). After 30 seconds, or at Ctrl-C, the sensors stop, the rest is sent, and each node's database is
compared with the warehouse row by row. The page that is left, page.html in the directory, needs a browser and nothing
else. --serve shows it from the start, and opens it where there is a browser.

With --scenarios each node does something else: node-1 filters, node-2 sanitizes, node-3 aggregates by the minute,
node-4 sends its whole database as before.

Exit status: 0 if all four nodes are exact; 1 if not, or if a part failed; 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import page
import parts
import serve

STATIONS = (
    parts.Station("node-1", "SENSOR_CH_ZRH_0001", "Zürich", interval=0.01),
    parts.Station("node-2", "SENSOR_BR_SAO_0001", "São Paulo", interval=0.015),
    parts.Station("node-3", "SENSOR_IS_RKV_0001", "Reykjavík", interval=0.03),
    parts.Station("node-4", "SENSOR_SG_SIN_0001", "Singapore", interval=0.02),
)
USUAL = (parts.RAW, parts.RAW, parts.RAW, parts.WHOLE)
SCENARIOS = (parts.FILTERED, parts.SECURE, parts.AGGREGATED, parts.WHOLE)
# The node whose uploader is killed, and when: shares of the whole time.
UNLUCKY, KILLED, STARTED_AGAIN = "node-2", 0.35, 0.65


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns its exit status."""
    given = options(arguments)
    return parts.Workplace(given.directory, "page.html").run(lambda directory: demo(given, directory).all_exact)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the sensors write (30)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between an uploader's cycles (1)")
    parser.add_argument("--directory", type=Path, help="an empty directory that keeps everything (a temporary one)")
    serving = "show the page while it runs, at this port of localhost (any)"
    parser.add_argument("--serve", type=int, nargs="?", const=0, metavar="PORT", help=serving)
    parser.add_argument("--scenarios", action="store_true", help="filter, sanitize and aggregate, a node each")
    parser.add_argument("--no-outage", action="store_true", help="let all uploaders run all the time")
    return parser.parse_args(arguments)


def demo(given: argparse.Namespace, directory: Path) -> page.Report:
    """Start everything, watch it, end it in order, compare, and write the page."""
    with contextlib.ExitStack() as stack:
        server = started_server(given.serve, stack)
        print("Starting the warehouse and the uploaders ...", flush=True)
        started = dt.datetime.now(dt.UTC)
        warehouse = parts.started_warehouse(directory, stack)
        nodes = started_nodes(given, directory, warehouse, stack)
        outage = Outage(next(n for n in nodes if n.station.name == UNLUCKY), given.seconds, not given.no_outage)
        report_now = functools.partial(report_of, started, given.interval, nodes, outage)
        eye = parts.Watch(warehouse, nodes, lambda eye: server.show(page.page(report_now(eye))) if server else None)
        run(eye, nodes, outage, given.seconds)
        finish(eye, nodes)
        report = report_now(eye, {node.station.name: parts.outcome(warehouse, node) for node in nodes})
        if server:
            server.show(page.page(report))
        show_result(report, directory / "page.html")
    return report


def started_server(port: int | None, stack: contextlib.ExitStack) -> serve.Server | None:
    """The server that shows the page, to be ended with the stack, if it is wanted; and a browser that looks at it."""
    if port is None:
        return None
    server = serve.Server(port)
    server.show(page.starting())
    try:
        server.start()
    except (OSError, OverflowError) as error:
        raise parts.DemoError(f"--serve {port}: {error}") from None
    stack.callback(server.close)
    print(f"Live page: {server.address}", flush=True)
    serve.open_browser(server.address)
    return server


def started_nodes(
    given: argparse.Namespace, directory: Path, warehouse: parts.Warehouse, stack: contextlib.ExitStack
) -> list[parts.Node]:
    """The four nodes, running, to be ended with the stack."""
    scenarios = SCENARIOS if given.scenarios else USUAL
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


def run(eye: parts.Watch, nodes: Sequence[parts.Node], outage: Outage, seconds: float) -> None:
    """Look again and again until the time is over or a signal comes."""
    stop, view = parts.stop_event(), View(sys.stdout.isatty())
    while eye.seconds() < seconds and not stop.wait(eye.pause()):
        outage.proceed(eye.seconds())
        for node in nodes:
            node.check()
        eye.look()
        view.show(eye, nodes, outage)
    outage.end(eye.seconds())


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

    def times(self, node: parts.Node) -> tuple[float, float | None] | None:
        """From when to when a node's uploader was down; None: never, or until now."""
        return None if self.down is None or node is not self.node else (self.down, self.up)


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
    counts = f"{sample.written:10,} {sample.arrived:10,} {sample.waiting:10,}  {sample.lag:6.1f} s {sample.commits:8,}"
    notes = [table.target for table in node.scenario.tables]
    if sample.filtered:
        notes.append(f"{sample.filtered:,} filtered out")
    if node.scenario.grouped:
        notes.append(f"{sample.rows:,} groups, the open ones wait")
    if sample.quarantined:
        notes.append(f"{sample.quarantined:,} in quarantine")
    if outage.is_on and outage.node is node:
        notes.append("uploader killed")
    return f"{node.station.name:7}{counts}  {', '.join(notes)}"


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
    nodes: Sequence[parts.Node],
    outage: Outage,
    eye: parts.Watch,
    comparisons: Mapping[str, parts.Comparison] | None = None,
) -> page.Report:
    """Everything that the page shows. While the network runs there are no comparisons."""
    reports = [
        page.NodeReport(
            name=node.station.name,
            sensor=node.station.sensor,
            location=node.station.location,
            tables=[table.target for table in node.scenario.tables],
            samples=tuple(eye.history[node.station.name]),
            comparison=comparisons[node.station.name] if comparisons else None,
            down=outage.times(node),
            does=node.scenario.does,
            as_it_is=node.scenario is not parts.SECURE,
            grouped=node.scenario.grouped,
        )
        for node in nodes
    ]
    return page.Report(f"{started:%d %B %Y, %H:%M} UTC", interval, reports)


def show_result(report: page.Report, file: Path) -> None:
    """Print how each node came out, and write the page."""
    file.write_text(page.page(report), encoding="utf-8")
    for node in report.nodes:
        print(f"{node.name}  {result(node)}")
    print(f"\nPage: {file.as_uri()}", flush=True)


def result(node: page.NodeReport) -> str:
    """How a node came out: where not every row arrives as one, with what became of them."""
    assert node.comparison is not None
    fates = [f"{fate.count:,} {fate.words}" for fate in node.fates() if fate.count]
    told = f" (rows written: {', '.join(fates)})" if len(fates) > 1 or node.grouped else ""
    return f"{node.comparison.text()}{told}"


if __name__ == "__main__":
    sys.exit(main())
