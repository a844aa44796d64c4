#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["databricks-sql-connector>=4.9,<4.10"]
#
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""A live sensor, the uploader beside it, and a local SQL warehouse that receives its readings.

    uv run demo-network/live_demo.py

A sensor writes 100 readings a second into a SQLite database in WAL mode. The uploader sends what is new every second.
The lines on the screen come from both sides: what the database holds, and what the warehouse answers. After 30 seconds,
or at Ctrl-C, the sensor stops, the rest is sent, and both sides are compared row by row and column by column.

Exit status: 0 if each row arrived, as it is and once; 1 if not, or if a part failed; 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import parts

STATION = parts.Station("live-demo", "SENSOR_IL_CHI_0001", "Chicago", interval=0.01)
HEADING = "  time   written   arrived     new   commits   oldest waiting   latest to arrive, its temperature"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns its exit status."""
    given = options(arguments)
    return parts.Workplace(given.directory).run(lambda directory: demo(given, directory).exact)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the sensor writes (30)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between the uploader's cycles (1)")
    parser.add_argument("--directory", type=Path, help="an empty directory that keeps everything (a temporary one)")
    return parser.parse_args(arguments)


def demo(given: argparse.Namespace, directory: Path) -> parts.Comparison:
    """Start everything, watch it, end it in order, and compare."""
    print("Starting the warehouse and the uploader ...", flush=True)
    with contextlib.ExitStack() as stack:
        warehouse = parts.started_warehouse(directory, stack)
        node = parts.Node(STATION, parts.RAW, directory, directory / "logs", warehouse.settings(), given.interval)
        stack.callback(node.kill)
        node.start()
        describe(warehouse, node, given.interval)
        watch(warehouse, node, given.seconds, parts.stop_event())
        print("The sensor stops, the uploader sends the rest.", flush=True)
        node.finish()
        comparison = parts.outcome(warehouse, node)
        print(comparison.text(), flush=True)
        return comparison


def describe(warehouse: parts.Warehouse, node: parts.Node, interval: float) -> None:
    """Say what runs where."""
    print(f"sensor     {STATION.sensor}: {1 / STATION.interval:.0f} readings a second to {node.source.path}")
    print(f"uploader   a cycle every {interval:g} s, log {node.uploader.log}")
    print(f"warehouse  https://{warehouse.address}, table {parts.SCHEMA}.{node.scenario.tables[0].target}")
    print(f"           Delta tables below {warehouse.directory / 'tables'}\n\n{HEADING}", flush=True)


def watch(warehouse: parts.Warehouse, node: parts.Node, seconds: float, stop: threading.Event) -> None:
    """A line a second about both sides, until the time is over or `stop` is set."""
    eye = parts.Watch(warehouse, [node])
    before = 0
    while eye.seconds() < seconds and not stop.wait(1.0):
        node.check()
        eye.look()
        sample = eye.history[STATION.name][-1]
        print(line(sample, before, latest(warehouse, node)), flush=True)
        before = sample.arrived


def line(sample: parts.Sample, before: int, newest: str) -> str:
    """What is shown of one second."""
    counts = f"{sample.seconds:4.0f} s  {sample.written:8,}  {sample.arrived:8,}  {sample.arrived - before:+6,}"
    return f"{counts}  {sample.commits:8,}  {sample.lag:13.1f} s   {newest}"


def latest(warehouse: parts.Warehouse, node: parts.Node) -> str:
    """The reading that arrived last, from the warehouse."""
    table = f"{parts.SCHEMA}.{node.scenario.tables[0].target}"
    found = warehouse.rows(f"SELECT id, timestamp, temperature FROM {table} ORDER BY id DESC LIMIT 1")
    return "".join(f"id {number} of {parts.canonical(time)[11:23]}: {degrees}" for number, time, degrees in found)


if __name__ == "__main__":
    sys.exit(main())
