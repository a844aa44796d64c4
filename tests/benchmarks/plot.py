"""Draws docs/speed.png: `python plot.py FILE`, with the series as JSON on standard input.

Figure by figure, the uploader's bars are blue and the others' grey; each bar carries its number.
"""

from __future__ import annotations

import json
import sys
from typing import Any

OURS_COLOUR, OTHERS_COLOUR = "#1f6fb2", "#9aa3ab"

Bars = list[tuple[str, float]]


def main(file: str, series: list[dict[str, Any]]) -> None:
    """Four panels: time of a full load, of the small steps, memory, and pace into the warehouse."""
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    delta = largest(series, "delta")
    rows = f"{delta[0]['table_rows']:,} rows" if delta else ""
    tools = [s for s in delta if " alone" not in s["tool"]]
    warehouse = [(s["tool"], s["rows"] / s["wall"]) for s in largest(series, "warehouse") if s["step"] == "full load"]
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 6.4), layout="constrained")
    draw(axes[0][0], f"Full load, {rows} to Delta: seconds", of_step(delta, "full load", "wall"))
    draw(axes[0][1], "Peak memory of the same: MiB", of_step(tools, "full load", "peak"))
    draw(axes[1][0], "Seconds for 10,000 new rows, and for none", small_steps(tools))
    draw(axes[1][1], "Local warehouse: rows per second", warehouse, is_log=True)
    figure.savefig(file, dpi=110)


def largest(series: list[dict[str, Any]], section: str) -> list[dict[str, Any]]:
    """A section's series with its largest table."""
    found = [s for s in series if s["section"] == section]
    most = max((s["table_rows"] for s in found), default=0)
    return [s for s in found if s["table_rows"] == most]


def of_step(series: list[dict[str, Any]], step: str, figure: str) -> Bars:
    """One figure of each tool at a step."""
    return [(s["tool"], s[figure]) for s in series if s["step"] == step]


def small_steps(series: list[dict[str, Any]]) -> Bars:
    """Both small steps of each tool, one under the other."""
    return [(f"{tool}, {name}", wall) for step, name in (("new rows", "10,000"), ("nothing new", "none"))
            for tool, wall in of_step(series, step, "wall")]  # fmt: skip


def draw(axes: Any, title: str, bars: Bars, is_log: bool = False) -> None:
    """Horizontal bars with their numbers, the first on top."""
    names, values = [name for name, _ in bars], [value for _, value in bars]
    colours = [OURS_COLOUR if name.startswith("uploader") else OTHERS_COLOUR for name in names]
    drawn = axes.barh(range(len(bars)), values, color=colours, log=is_log)
    axes.bar_label(drawn, labels=[shown(value) for value in values], padding=3, fontsize=9)
    axes.set_yticks(range(len(bars)), names, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def shown(value: float) -> str:
    """Three digits are enough."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
