"""The benchmark's results as text, JSON and a plot."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
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
    return f"{verdicts(results, machine)}\n{as_markdown(table_of(results))}"


def verdicts(results: Results, machine: str) -> str:
    """The targets in Markdown, and what was reached."""
    one, five, _ = os.getloadavg()
    lines = [f"Measured on {machine}; at the end {one:.1f}, {five:.1f}.", ""]
    lines += ["| figure | target | reached | met |", "|---|---|---|---|"]
    for target in targets():
        lines.append(f"| {target.figure} | {target.wanted()} | {' | '.join(target.verdict(results))} |")
    return "\n".join(lines) + "\n"


def table_of(results: Results) -> list[list[str]]:
    """Every series, the names of the columns first."""
    names = ["section", "tool", "step", "rows in the table", "seconds", "rows/s", "CPU seconds", "peak MiB", "runs"]
    return [names, *(cells_of(series) for series in results.series if series.section != "size")]


def as_markdown(table: list[list[str]]) -> str:
    """A table whose first three columns are words."""
    rule = ["---"] * 3 + ["---:"] * (len(table[0]) - 3)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (table[0], rule, *table[1:]))


def as_csv(table: list[list[str]]) -> str:
    """The same for programs; GitHub shows it as a table, too."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [*cells[:3], *(cell.replace(",", "") for cell in cells[3:])] for cells in table
    )
    return text.getvalue()


def cells_of(series: Series) -> list[str]:
    """One row of the table of series. The processor and memory of an estimate are those of the part."""
    return [
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


def save(results: Results, content: str, folder: Path) -> None:
    """Keep the results."""
    (folder / "figures.md").write_text(content)
    (folder / "figures.json").write_text(as_json(results))


def kept(results: Results, folder: Path, again: Sequence[str]) -> list[str]:
    """Take over what an earlier run left in the folder, but for the sections that are measured again; their names."""
    file = folder / "figures.json"
    names = [field.name for field in dataclasses.fields(Series)]
    found = json.loads(file.read_text()) if file.exists() else []
    # A section's series may have names of their own: "scaling, index".
    old = [series for series in found if not series["section"].startswith(tuple(again))]
    results.series += [Series(**{name: series[name] for name in names}) for series in old]
    return list(dict.fromkeys(series["section"] for series in old))


def as_json(results: Results) -> str:
    """All series, with their medians."""
    return json.dumps([dataclasses.asdict(s) | {"wall": s.wall, "peak": s.peak} for s in results.series], indent=1)


def write_docs(results: Results, content: str, docs: Path, python: str) -> None:
    """Put the figures into docs/speed-evidence.md and .csv, and draw docs/speed.png, in a process of its own."""
    page = docs / "speed-evidence.md"
    text = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{content}\n{END}", page.read_text(), flags=re.DOTALL)
    page.write_text(text)
    page.with_suffix(".csv").write_text(as_csv(table_of(results)))
    command = [python, str(Path(__file__).with_name("plot.py")), str(docs / "speed.png")]
    subprocess.run(command, input=as_json(results), text=True, check=True)
