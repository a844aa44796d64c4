"""The page that the network demo ends with: one HTML file, which needs nothing but a browser.

Its charts are SVG and made here; a few lines of script show the numbers under the pointer. Everything is readable
without the script, in light and in dark.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parts import Comparison, Sample


@dataclass(frozen=True)
class NodeReport:
    """What became of one node. `down` are the seconds between which its uploader was not running."""

    name: str
    sensor: str
    location: str
    table: str
    samples: Sequence[Sample]
    comparison: Comparison
    down: tuple[float, float] | None = None

    @property
    def color(self) -> str:
        """The colour's class, from the number that the name ends with."""
        return f"n{self.name.rpartition('-')[2]}"

    def median_lag(self) -> float:
        """The middle one of the lags that were seen, in seconds."""
        return sorted(sample.lag for sample in self.samples)[len(self.samples) // 2]

    def longest_lag(self) -> float:
        """The longest lag that was seen, in seconds."""
        return max(sample.lag for sample in self.samples)


@dataclass(frozen=True)
class Report:
    """What became of the network. `started` is a time in words; `interval` the seconds between an uploader's cycles."""

    started: str
    interval: float
    nodes: Sequence[NodeReport]

    @property
    def seconds(self) -> float:
        """How long it was watched."""
        return max(node.samples[-1].seconds for node in self.nodes)

    @property
    def exact(self) -> int:
        """How many nodes are exact."""
        return sum(node.comparison.exact for node in self.nodes)


# === Scales ===========================================================================================

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """Where a chart's plot lies, in the units of its SVG, and the greatest values of its axes (the least are 0)."""

    left: float
    top: float
    width: float
    height: float
    longest: float
    highest: float

    def x(self, seconds: float) -> float:
        """Where a time lies."""
        return self.left + self.width * seconds / self.longest

    def y(self, value: float) -> float:
        """Where a value lies."""
        return self.top + self.height * (1 - value / self.highest)

    @property
    def bottom(self) -> float:
        """Where the horizontal axis lies."""
        return self.top + self.height


def ticks(highest: float, about: int) -> list[float]:
    """Round numbers from 0 to `highest`, about so many: steps of 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(highest / about))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * about >= highest)
    return [index * step for index in range(math.floor(highest / step + 1e-9) + 1)]


def ceiling(highest: float, about: int) -> float:
    """The first tick at or above `highest`, and above 0."""
    highest = max(highest, 1.0)
    step = ticks(highest, about)[1]
    return step * math.ceil(highest / step - 1e-9)


def number(value: float) -> str:
    """A number on an axis, in a few characters: thousands and millions by their letters from 10,000 on."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= max(size, 1e4):
            return f"{value / size:,g}{letter}"
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


# === Charts ===========================================================================================

WIDTH = 1000
LEFT, RIGHT = 60, 150


def rows_chart(report: Report) -> str:
    """Readings over time: written (dotted) and arrived (solid), a colour for each node."""
    highest = max(sample.written for node in report.nodes for sample in node.samples)
    frame = Frame(LEFT, 26, WIDTH - LEFT - RIGHT, 320, report.seconds, ceiling(highest, 5))
    drawn = [band(frame, node) + down_label(frame, node) for node in report.nodes]
    drawn += [horizontal_lines(frame, 5), time_axis(frame)]
    drawn += [written_line(frame, node) + arrived_line(frame, node) for node in report.nodes]
    drawn += [end_labels(frame, report.nodes)]
    return chart("rows", frame, "Readings written and arrived over time", drawn)


def lag_chart(report: Report) -> str:
    """The lag over time, a strip for each node, all on one scale."""
    highest = ceiling(max(node.longest_lag() for node in report.nodes), 2)
    strip, gap = 84, 34
    frames = [
        Frame(LEFT, 26 + index * (strip + gap), WIDTH - LEFT - RIGHT, strip, report.seconds, highest)
        for index in range(len(report.nodes))
    ]
    drawn = [lag_strip(frame, node) for frame, node in zip(frames, report.nodes, strict=True)]
    whole = Frame(LEFT, 26, frames[0].width, frames[-1].bottom - 26, report.seconds, highest)
    return chart("lag", whole, "Lag over time for each node", [*drawn, time_axis(whole)])


def lag_strip(frame: Frame, node: NodeReport) -> str:
    """One node's lag."""
    points = [(frame.x(sample.seconds), frame.y(sample.lag)) for sample in node.samples]
    area = [(points[0][0], frame.bottom), *points, (points[-1][0], frame.bottom)]
    label = text(frame.left + frame.width + 12, frame.top + 34, "name", node.name)
    figures = f"median {node.median_lag():.1f} s", f"longest {node.longest_lag():.1f} s"
    notes = [text(frame.left + frame.width + 12, frame.top + 52 + 16 * i, "note", f) for i, f in enumerate(figures)]
    drawn = f'<path class="area" d="{path(area)}Z"/><path class="lag" data-node="{node.name}" d="{path(points)}"/>'
    return group(node, band(frame, node) + horizontal_lines(frame, 2) + drawn + label + "".join(notes))


def written_line(frame: Frame, node: NodeReport) -> str:
    """What the sensor wrote."""
    points = [(frame.x(sample.seconds), frame.y(sample.written)) for sample in node.samples]
    return group(node, f'<path class="written" d="{path(points)}"/>')


def arrived_line(frame: Frame, node: NodeReport) -> str:
    """What the warehouse has."""
    points = [(frame.x(sample.seconds), frame.y(sample.arrived)) for sample in node.samples]
    x, y = points[-1]
    line = f'<path class="arrived" data-node="{node.name}" d="{path(points)}"/>'
    return group(node, f'{line}<circle class="last" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')


def end_labels(frame: Frame, nodes: Sequence[NodeReport]) -> str:
    """Each node's name and count at the end of its line, moved apart where they would touch."""
    by_height = sorted(nodes, key=lambda node: -node.samples[-1].arrived)
    heights = apart([frame.y(node.samples[-1].arrived) for node in by_height], 36, frame.bottom - 16)
    x, drawn = frame.left + frame.width + 12, []
    for node, y in zip(by_height, heights, strict=True):
        count = f"{node.samples[-1].arrived:,} readings"
        drawn.append(group(node, text(x, y, "name", node.name) + text(x, y + 16, "note", count)))
    return "".join(drawn)


def apart(places: Sequence[float], gap: float, last: float) -> list[float]:
    """Ascending places, moved so that each is `gap` from the next one, and none beyond `last`."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    return [min(place, last - gap * below) for below, place in zip(reversed(range(len(moved))), moved, strict=True)]


def band(frame: Frame, node: NodeReport) -> str:
    """The time without an uploader, as a shade."""
    if node.down is None:
        return ""
    x, end = (frame.x(seconds) for seconds in node.down)
    place = f'x="{x:.1f}" y="{frame.top}" width="{end - x:.1f}" height="{frame.height}"'
    return group(node, f'<rect class="down" {place}/>')


def down_label(frame: Frame, node: NodeReport) -> str:
    """What the shade means, above it; inside of the plot's width, of which it takes 320 units at most."""
    if node.down is None:
        return ""
    middle = frame.x(sum(node.down) / 2)
    inside = min(max(middle, frame.left + 160), frame.left + frame.width - 160)
    return text(inside, frame.top - 9, "note middle", f"uploader of {node.name} killed, later started again")


def horizontal_lines(frame: Frame, about: int) -> str:
    """Grid lines with their values."""
    drawn, right = [], frame.left + frame.width
    for value in ticks(frame.highest, about):
        y = frame.y(value)
        drawn.append(f'<line class="grid" x1="{frame.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(text(frame.left - 10, y + 4, "tick end", number(value)))
    return "".join(drawn)


def time_axis(frame: Frame) -> str:
    """The seconds below a chart."""
    marks = [text(frame.x(at), frame.bottom + 22, "tick middle", f"{number(at)} s") for at in ticks(frame.longest, 8)]
    return "".join(marks)


def chart(name: str, frame: Frame, title: str, drawn: Iterable[str]) -> str:
    """A chart as SVG; the data attributes tell the script where the plot lies."""
    height = frame.bottom + 34
    place = f'data-left="{frame.left}" data-width="{frame.width}" data-longest="{frame.longest:.3f}"'
    ruler = f'<line class="ruler" y1="{frame.top}" y2="{frame.bottom}"/>'
    head = f'<svg id="{name}" class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{title}" {place}>'
    return f"{head}{''.join(drawn)}{ruler}</svg>"


def group(node: NodeReport, inside: str) -> str:
    """Elements in a node's colour."""
    return f'<g class="{node.color}">{inside}</g>' if inside else ""


def text(x: float, y: float, style: str, words: str) -> str:
    """A text."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{html.escape(words)}</text>'


def path(points: Iterable[Point]) -> str:
    """A line through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


# === The page =========================================================================================

COLUMNS = (
    "Node", "Sensor", "Table", "Rows in source", "Rows in target", "Missing", "Too many", "Commits", "Result",
)  # fmt: skip


def page(report: Report) -> str:
    """The whole file."""
    exact = report.exact == len(report.nodes)
    verdict = f"{report.exact} of {len(report.nodes)} nodes exact"
    return TEMPLATE.substitute(
        verdict=verdict,
        verdict_class="good" if exact else "bad",
        when=html.escape(report.started),
        seconds=f"{report.seconds:.0f}",
        interval=f"{report.interval:g}",
        tiles="".join(tile(*words) for words in figures(report)),
        rows_chart=rows_chart(report),
        lag_chart=lag_chart(report),
        heads="".join(f"<th>{name}</th>" for name in COLUMNS),
        rows="".join(table_row(node) for node in report.nodes),
        data=json.dumps(data(report)).replace("<", "\\u003c"),
    )


def figures(report: Report) -> list[tuple[str, str]]:
    """The numbers at the top, with what they are."""
    comparisons = [node.comparison for node in report.nodes]
    wrong = sum(comparison.missing + comparison.surplus for comparison in comparisons)
    commits = sum(node.samples[-1].commits for node in report.nodes)
    usual = sorted(node.median_lag() for node in report.nodes)[len(report.nodes) // 2]
    return [
        (f"{sum(node.samples[-1].written for node in report.nodes):,}", "readings written"),
        (f"{sum(comparison.arrived for comparison in comparisons):,}", "rows arrived"),
        (f"{wrong:,}", "rows lost or doubled"),
        (f"{commits:,}", "commits"),
        (f"{usual:.1f} s", "usual lag"),
    ]


def tile(value: str, meaning: str) -> str:
    """One number."""
    return f'<div class="tile"><b>{value}</b><span>{meaning}</span></div>'


def table_row(node: NodeReport) -> str:
    """A node's line of the table."""
    found = node.comparison
    counts = [found.expected, found.arrived, found.missing, found.surplus, node.samples[-1].commits]
    names = f'<td><i class="dot {node.color}"></i>{html.escape(node.name)}</td>'
    names += f"<td>{html.escape(node.sensor)}<br><small>{html.escape(node.location)}</small></td>"
    names += f"<td><code>{html.escape(node.table)}</code></td>"
    result = '<td class="good">✓ exact</td>' if found.exact else '<td class="bad">✗ not exact</td>'
    return f"<tr>{names}{''.join(f'<td class=count>{count:,}</td>' for count in counts)}{result}</tr>"


def data(report: Report) -> list[dict[str, object]]:
    """The samples, for the script."""
    return [
        {
            "name": node.name,
            "color": node.color,
            "samples": [[round(s.seconds, 2), s.written, s.arrived, round(s.lag, 2)] for s in node.samples],
        }
        for node in report.nodes
    ]


TEMPLATE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Network demo: $verdict</title>
<style>
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1a2230; --soft: #5b6675; --line: #e3e7ec;
  --n1: #0072b2; --n2: #d55e00; --n3: #009e73; --good: #11734f; --good-back: #e2f4ec; --bad: #b3261e;
  --bad-back: #fce8e6; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1b212a; --ink: #e8ecf2; --soft: #9aa7b6;
  --line: #2f3844; --n1: #5ab6ee; --n2: #f59342; --n3: #3ccb9b; --good: #6fdcb2; --good-back: #173a2e; --bad: #ff9a92;
  --bad-back: #48211e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, "Liberation Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 36px 20px 56px; }
header { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 8px 24px; }
h1 { margin: 0; font-size: 28px; letter-spacing: -.01em; }
h2 { margin: 0; font-size: 18px; }
p { margin: 2px 0 0; color: var(--soft); }
.verdict { padding: 6px 16px; border-radius: 99px; font-weight: 600; }
.verdict.good { background: var(--good-back); } .verdict.bad { background: var(--bad-back); }
.good { color: var(--good); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 24px 0 12px; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 14px 18px; }
.tile b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 14px; }
section { position: relative; padding: 20px 24px; margin-top: 12px; overflow-x: auto; }
.chart { display: block; width: 100%; min-width: 640px; height: auto; margin-top: 12px; overflow: visible; }
.n1 { --c: var(--n1); } .n2 { --c: var(--n2); } .n3 { --c: var(--n3); }
.grid { stroke: var(--line); }
.arrived, .lag, .written { fill: none; stroke: var(--c); stroke-width: 2.5; stroke-linejoin: round;
  stroke-linecap: round; }
.written { stroke-width: 1.8; stroke-dasharray: 0.1 5; opacity: .8; }
.lag { stroke-width: 2; }
.area, .down { fill: var(--c); opacity: .14; } .down { opacity: .09; }
.last { fill: var(--c); stroke: var(--card); stroke-width: 2; }
.ruler { stroke: var(--soft); stroke-dasharray: 3 3; visibility: hidden; }
text { fill: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.name { fill: var(--c); font-size: 15px; font-weight: 600; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.tip { position: absolute; visibility: hidden; pointer-events: none; padding: 8px 12px; border-radius: 8px;
  font-size: 13px; background: var(--ink); color: var(--card); white-space: nowrap; }
.dot { display: inline-block; width: 10px; height: 10px; margin-right: 8px; border-radius: 50%; background: var(--c); }
table { width: 100%; margin-top: 12px; border-collapse: collapse; font-size: 14px; }
th, td { padding: 9px 12px 9px 0; border-top: 1px solid var(--line); text-align: left; vertical-align: middle; }
th { border-top: 0; color: var(--soft); font-weight: 500; }
th:nth-child(n+4):nth-child(-n+8), .count { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child { white-space: nowrap; }
th:last-child, td:last-child { padding: 9px 0 9px 16px; white-space: nowrap; font-weight: 600; }
small, code { color: var(--soft); font-size: 12.5px; }
</style>
</head>
<body>
<main>
<header>
<div><h1>Three nodes, one warehouse</h1>
<p>$when · watched for $seconds s · each uploader runs a cycle every $interval s</p></div>
<div class="verdict $verdict_class">$verdict</div>
</header>
<div class="tiles">$tiles</div>
<section><h2>Readings over time</h2>
<p>Solid: arrived in the warehouse. Dotted: written by the sensor.</p>
$rows_chart<div class="tip"></div></section>
<section><h2>Lag of each node</h2>
<p>Age of the oldest reading that has not arrived yet, in seconds.</p>
$lag_chart<div class="tip"></div></section>
<section><h2>Source and target, compared row by row</h2>
<p>After the last run: every row of a node's database against those of its sensor in the warehouse, in all columns.</p>
<table><thead><tr>$heads</tr></thead><tbody>$rows</tbody></table></section>
</main>
<script type="application/json" id="data">$data</script>
<script>
const nodes = JSON.parse(document.getElementById("data").textContent);
const count = value => value.toLocaleString("en-US");
const words = {
  rows: sample => count(sample[2]) + " of " + count(sample[1]) + " readings",
  lag: sample => sample[3].toFixed(1) + " s",
};
const nearest = (samples, seconds) =>
  samples.reduce((a, b) => (Math.abs(b[0] - seconds) < Math.abs(a[0] - seconds) ? b : a));
for (const svg of document.querySelectorAll(".chart")) {
  const ruler = svg.querySelector(".ruler"), tip = svg.nextElementSibling, place = svg.dataset;
  svg.addEventListener("pointerleave", () => { ruler.style.visibility = tip.style.visibility = "hidden"; });
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const seconds = (x - place.left) / place.width * place.longest;
    if (seconds < 0 || seconds > place.longest) return;
    for (const end of ["x1", "x2"]) ruler.setAttribute(end, x);
    tip.replaceChildren(seconds.toFixed(0) + " s");
    for (const node of nodes) {
      const line = document.createElement("div");
      line.textContent = node.name + ": " + words[svg.id](nearest(node.samples, seconds));
      tip.append(line);
    }
    const left = event.clientX - box.left + 36, section = svg.parentElement;
    tip.style.left = Math.min(left, section.clientWidth - tip.offsetWidth - 12) + "px";
    tip.style.top = event.clientY - section.getBoundingClientRect().top + 12 + "px";
    ruler.style.visibility = tip.style.visibility = "visible";
  });
}
</script>
</body>
</html>
""")
