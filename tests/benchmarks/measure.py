"""Whole processes by the operating system's own accounting."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished process: seconds on the clock, seconds of processor, peak memory in MiB, what it printed."""

    wall: float
    cpu: float
    peak: float
    printed: str

    def told(self) -> dict[str, Any]:
        """The JSON object in the last line that it printed."""
        told: dict[str, Any] = json.loads(self.printed.splitlines()[-1])
        return told


def run(command: Sequence[str], environ: Mapping[str, str], during: Callable[[int], object] | None = None) -> Run:
    """Run a command to its end; one that fails ends the benchmark. `during` gets its process id once it runs.

    The peak is the largest single process's (getrusage(2)). On Linux it is never less than this process's own
    memory, which the child is born with: so this one imports nothing heavy.
    """
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environ), stdout=output, stderr=subprocess.STDOUT)
        if during:
            during(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{printed[-3000:]}")
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * bytes_per_unit / 2**20, printed)


@dataclasses.dataclass
class Series:
    """The runs of one tool at one step. `seconds` are its own count of the work alone, or an estimate for all rows."""

    section: str
    tool: str
    step: str
    table_rows: int
    rows: int
    walls: list[float] = dataclasses.field(default_factory=list)
    cpus: list[float] = dataclasses.field(default_factory=list)
    peaks: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    note: str = ""

    def add(self, run: Run, seconds: float | None = None) -> None:
        """Count one run in."""
        self.walls.append(run.wall)
        self.cpus.append(run.cpu)
        self.peaks.append(run.peak)
        if seconds is not None:
            self.seconds.append(seconds)

    @property
    def wall(self) -> float:
        """The median; of the estimates where the tool did a part of the work only."""
        return statistics.median(self.seconds or self.walls)

    @property
    def cpu(self) -> float:
        """The median seconds of processor."""
        return statistics.median(self.cpus)

    @property
    def peak(self) -> float:
        """The median of the peaks in MiB."""
        return statistics.median(self.peaks)


class Results:
    """All series, in the order in which they were begun."""

    def __init__(self) -> None:
        self.series: list[Series] = []

    def of(self, section: str, tool: str, step: str, table_rows: int, rows: int, note: str = "") -> Series:
        """The series of a tool at a step, begun where it is new."""
        found = self.find(section, tool, step, table_rows)
        if found is None:
            found = Series(section, tool, step, table_rows, rows, note=note)
            self.series.append(found)
        return found

    def find(self, section: str, tool: str, step: str, table_rows: int | None = None) -> Series | None:
        """The series of a tool at a step; without `table_rows` that of the largest table."""
        same = [s for s in self.series if (s.section, s.tool, s.step) == (section, tool, step)]
        same = [s for s in same if table_rows in (None, s.table_rows)]
        return max(same, key=lambda s: s.table_rows, default=None)
