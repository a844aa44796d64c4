"""The benchmark's results as text, JSON and a plot."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Results, Series
from benchmarks.targets import targets

# docs/speed-evidence.md has the figures between these two lines.
BEGIN, END = "<!-- figures, written by tests/benchmarks/run.py --docs -->", "<!-- end of the figures -->"


def machine() -> str:
    """What the figures were measured on, and how busy it was."""
    one, five, _ = os.getloadavg()
    python = platform.python_version()
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{when}, {os.cpu_count()} processors ({platform.machine()}), {platform.system()}, Python {python}; "
        f"load at the start {one:.1f} (1 min), {five:.1f} (5 min)"
    )


def figures(results: Results, machine: str) -> str:
    """All figures in Markdown: the targets, then every series."""
    one, five, _ = os.getloadavg()
    lines = [f"Measured on {machine}; at the end {one:.1f}, {five:.1f}.", ""]
    lines += ["| figure | target | reached | met |", "| --- | --- | --- | --- |"]
    for target in targets():
        lines.append(f"| {target.figure} | {target.wanted()} | {' | '.join(target.verdict(results))} |")
    lines += ["", "| section | tool | step | rows in the table | seconds | rows/s | CPU seconds | peak MiB | runs |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    lines += [line_of(series) for series in results.series if series.section != "size"]
    return "\n".join(lines) + "\n"


def line_of(series: Series) -> str:
    """One row of the table of series. The processor and memory of an estimate are those of the part."""
    cells = [
        series.section,
        f"{series.tool} ({series.note})" if series.note else series.tool,
        series.step,
        f"{series.table_rows:,}",
        f"{series.wall:.3g}" if series.wall < 1000 else f"{series.wall:,.0f}",
        f"{series.rows / series.wall:,.0f}" if series.rows else "",
        f"{series.cpu:.3g}",
        f"{series.peak:.0f}",
        str(len(series.walls)),
    ]
    return f"| {' | '.join(cells)} |"


def save(results: Results, content: str, folder: Path) -> None:
    """Keep the results."""
    (folder / "figures.md").write_text(content)
    (folder / "figures.json").write_text(as_json(results))


def as_json(results: Results) -> str:
    """All series, with their medians."""
    return json.dumps([dataclasses.asdict(s) | {"wall": s.wall, "peak": s.peak} for s in results.series], indent=1)


def write_docs(results: Results, content: str, docs: Path, python: str) -> None:
    """Put the figures into docs/speed-evidence.md and draw docs/speed.png, in a process of its own."""
    page = docs / "speed-evidence.md"
    text = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{content}\n{END}", page.read_text(), flags=re.DOTALL)
    page.write_text(text)
    command = [python, str(Path(__file__).with_name("plot.py")), str(docs / "speed.png")]
    subprocess.run(command, input=as_json(results), text=True, check=True)
