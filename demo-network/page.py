"""The page that the network demo ends with, and shows while it runs: one HTML file, which needs nothing but a browser.

Its charts are SVG and made here, each in a wide and a narrow form, of which the width of the window shows one; a few
lines of script show the numbers under the pointer, and fetch the page again while the network runs. Everything is
readable without the script, in light and in dark.
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
class Fate:
    """What became of so many readings. `kind` is its style."""

    kind: str
    words: str
    count: int


@dataclass(frozen=True)
class NodeReport:
    """What became of one node. `down` are the seconds between which its uploader was not running; None: until now.

    `comparison` is None while it runs. `does` says how it treats its rows; `as_it_is`: as they are; `grouped`: in
    groups by time.
    """

    name: str
    sensor: str
    location: str
    tables: Sequence[str]
    samples: Sequence[Sample]
    comparison: Comparison | None
    down: tuple[float, float | None] | None = None
    does: str = "sends each reading as it is"
    as_it_is: bool = True
    grouped: bool = False

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

    def fates(self) -> list[Fate]:
        """What became of the rows: each one has one fate."""
        last = self.samples[-1]
        as_rows, in_groups = (0, last.arrived) if self.grouped else (last.arrived, 0)
        groups = f"in {last.rows:,} group{'s' * (last.rows != 1)}" if last.rows and self.grouped else "in groups"
        waiting = "waiting in open windows" if self.grouped else "waiting for the next cycle"
        return [
            Fate("sent", "sent as they are" if self.as_it_is else "sent, sanitized", as_rows),
            Fate("grouped", groups, in_groups),
            Fate("filtered", "filtered out", last.filtered),
            Fate("waiting", waiting, last.waiting)
            if self.comparison is None
            else Fate("lost", "missing", last.waiting),
            Fate("quarantined", "in quarantine", last.quarantined),
        ]


@dataclass(frozen=True)
class Report:
    """What became of the network. `started` is a time in words; `interval` the seconds between an uploader's cycles."""

    started: str
    interval: float
    nodes: Sequence[NodeReport]

    @property
    def seconds(self) -> float:
        """How long it was watched; a second at least, so that the axis has a length."""
        return max(1.0, *(node.samples[-1].seconds for node in self.nodes))

    @property
    def exact(self) -> int:
        """How many nodes are exact."""
        return sum(node.comparison is not None and node.comparison.exact for node in self.nodes)

    @property
    def all_exact(self) -> bool:
        """Whether each node is exact."""
        return self.exact == len(self.nodes)

    @property
    def is_live(self) -> bool:
        """Whether the network is still running."""
        return any(node.comparison is None for node in self.nodes)

    def total(self, *kinds: str) -> int:
        """How many rows of all nodes have one of these fates."""
        return sum(fate.count for node in self.nodes for fate in node.fates() if fate.kind in kinds)


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


def step(highest: float, about: int) -> float:
    """The distance of about so many round numbers up to `highest`: 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(highest / about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * about >= highest)


def ticks(highest: float, about: int) -> list[float]:
    """Round numbers from 0 to `highest`, about so many."""
    distance = step(highest, about)
    return [index * distance for index in range(math.floor(highest / distance + 1e-9) + 1)]


def ceiling(highest: float, about: int) -> float:
    """The first tick at or above `highest`, and above 0."""
    highest = max(highest, 1.0)
    distance = step(highest, about)
    return distance * math.ceil(highest / distance - 1e-9)


def number(value: float) -> str:
    """A number on an axis, in a few characters: thousands and millions by their letters from 10,000 on."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= max(size, 1e4):
            return f"{value / size:,g}{letter}"
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


# === Charts ===========================================================================================


@dataclass(frozen=True)
class Layout:
    """The measures of a form of the charts, in the units of its SVG. `marks` is about how many times the axis has.

    The wide form has its names to the right; the narrow one has them above the strips, and a legend in HTML.
    """

    name: str
    width: float
    left: float
    right: float
    height: float
    strip: float
    gap: float
    marks: int

    def frame(self, top: float, height: float, longest: float, highest: float) -> Frame:
        """Where a plot lies."""
        return Frame(self.left, top, self.width - self.left - self.right, height, longest, highest)

    @property
    def is_wide(self) -> bool:
        """Whether there is room beside the plot."""
        return self.name == "wide"


WIDE = Layout("wide", 1000, 60, 150, height=320, strip=84, gap=34, marks=8)
NARROW = Layout("narrow", 340, 44, 10, height=220, strip=64, gap=40, marks=4)


def rows_chart(report: Report, layout: Layout) -> str:
    """Rows over time: to arrive (dotted) and arrived (solid), a colour for each node."""
    highest = max(max(sample.wanted, sample.arrived) for node in report.nodes for sample in node.samples)
    frame = layout.frame(26, layout.height, report.seconds, ceiling(highest, 5))
    drawn = [band(frame, node) + down_label(frame, node) for node in report.nodes]
    drawn += [horizontal_lines(frame, 5), time_axis(frame, layout)]
    drawn += [wanted_line(frame, node) + arrived_line(frame, node, layout) for node in report.nodes]
    if layout.is_wide:
        drawn += [end_labels(frame, report.nodes)]
    return chart("rows", layout, frame, "Rows to arrive and arrived over time", drawn)


def lag_chart(report: Report, layout: Layout) -> str:
    """The lag over time, a strip for each node, all on one scale."""
    highest = ceiling(max(node.longest_lag() for node in report.nodes), 2)
    frames = [
        layout.frame(26 + index * (layout.strip + layout.gap), layout.strip, report.seconds, highest)
        for index in range(len(report.nodes))
    ]
    drawn = [lag_strip(frame, node, layout) for frame, node in zip(frames, report.nodes, strict=True)]
    whole = layout.frame(26, frames[-1].bottom - 26, report.seconds, highest)
    return chart("lag", layout, whole, "Lag over time for each node", [*drawn, time_axis(whole, layout)])


def lag_strip(frame: Frame, node: NodeReport, layout: Layout) -> str:
    """One node's lag."""
    points = [(frame.x(sample.seconds), frame.y(sample.lag)) for sample in node.samples]
    area = [(points[0][0], frame.bottom), *points, (points[-1][0], frame.bottom)]
    line = f'<path class="lag"{marked(node, layout)} d="{path(points)}"/>'
    drawn = f'<path class="area" d="{path(area)}Z"/>{line}'
    return group(node, band(frame, node) + horizontal_lines(frame, 2) + drawn + lag_label(frame, node, layout))


def lag_label(frame: Frame, node: NodeReport, layout: Layout) -> str:
    """A strip's name and figures: to its right, or above it."""
    median, longest = f"median {node.median_lag():.1f} s", f"longest {node.longest_lag():.1f} s"
    if layout.is_wide:
        x, y = frame.left + frame.width + 12, frame.top + 34
        return name_label(x, y, node) + text(x, y + 18, "note", median) + text(x, y + 34, "note", longest)
    right = frame.left + frame.width
    return name_label(frame.left, frame.top - 9, node) + text(right, frame.top - 9, "note end", f"{median}, {longest}")


def name_label(x: float, y: float, node: NodeReport) -> str:
    """A node's name behind a dot of its colour."""
    return f'<circle class="dot" cx="{x + 5:.1f}" cy="{y - 5:.1f}" r="5"/>' + text(x + 16, y, "name", node.name)


def marked(node: NodeReport, layout: Layout) -> str:
    """The mark of a line that stands for its node: those of the wide form, of which there is one for each."""
    return f' data-node="{html.escape(node.name)}"' if layout.is_wide else ""


def wanted_line(frame: Frame, node: NodeReport) -> str:
    """What is to arrive: what the sensor wrote, less what is filtered out or in quarantine."""
    points = [(frame.x(sample.seconds), frame.y(sample.wanted)) for sample in node.samples]
    return group(node, f'<path class="written" d="{path(points)}"/>')


def arrived_line(frame: Frame, node: NodeReport, layout: Layout) -> str:
    """What the warehouse has."""
    points = [(frame.x(sample.seconds), frame.y(sample.arrived)) for sample in node.samples]
    x, y = points[-1]
    line = f'<path class="arrived"{marked(node, layout)} d="{path(points)}"/>'
    return group(node, f'{line}<circle class="last" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')


def end_labels(frame: Frame, nodes: Sequence[NodeReport]) -> str:
    """Each node's name and count at the end of its line, moved apart where they would touch."""
    by_height = sorted(nodes, key=lambda node: -node.samples[-1].arrived)
    heights = apart([frame.y(node.samples[-1].arrived) for node in by_height], 36, frame.bottom - 16)
    x, drawn = frame.left + frame.width + 12, []
    for node, y in zip(by_height, heights, strict=True):
        count = f"{node.samples[-1].arrived:,} rows"
        drawn.append(group(node, name_label(x, y, node) + text(x, y + 16, "note", count)))
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
    since, until = node.down
    x, end = frame.x(since), frame.x(frame.longest if until is None else until)
    place = f'x="{x:.1f}" y="{frame.top}" width="{end - x:.1f}" height="{frame.height}"'
    return group(node, f'<rect class="down" {place}/>')


def down_label(frame: Frame, node: NodeReport) -> str:
    """What the shade means, above it; inside of the plot's width, of which it takes 280 units at most."""
    if node.down is None:
        return ""
    since, until = node.down
    middle = frame.x((since + (frame.longest if until is None else until)) / 2)
    inside = min(max(middle, frame.left + 140), frame.left + frame.width - 140)
    words = f"uploader of {node.name} killed{'' if until is None else ', later started again'}"
    return text(inside, frame.top - 9, "note middle", words)


def horizontal_lines(frame: Frame, about: int) -> str:
    """Grid lines with their values."""
    drawn, right = [], frame.left + frame.width
    for value in ticks(frame.highest, about):
        y = frame.y(value)
        drawn.append(f'<line class="grid" x1="{frame.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(text(frame.left - 10, y + 4, "tick end", number(value)))
    return "".join(drawn)


def time_axis(frame: Frame, layout: Layout) -> str:
    """The seconds below a chart."""
    times = ticks(frame.longest, layout.marks)
    return "".join(text(frame.x(at), frame.bottom + 22, "tick middle", f"{number(at)} s") for at in times)


def chart(name: str, layout: Layout, frame: Frame, title: str, drawn: Iterable[str]) -> str:
    """A chart as SVG; the data attributes of the wide form tell the script where the plot lies."""
    box = f'viewBox="0 0 {layout.width:g} {frame.bottom + 34:g}" role="img" aria-label="{title}"'
    if not layout.is_wide:
        return f'<svg class="narrow" {box}>{"".join(drawn)}</svg>'
    place = f'data-left="{frame.left}" data-width="{frame.width}" data-longest="{frame.longest:.3f}"'
    ruler = f'<line class="ruler" y1="{frame.top}" y2="{frame.bottom}"/>'
    return f'<svg id="{name}" class="chart" {box} {place}>{"".join(drawn)}{ruler}</svg>'


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
    "Node", "Sensor", "Tables", "Rows expected", "Rows arrived", "Missing", "Too many", "Commits", "Result",
)  # fmt: skip


def page(report: Report) -> str:
    """The whole file; while the network runs it fetches itself again."""
    if report.is_live:
        verdict, style = "running", "live"
    else:
        verdict = f"{report.exact} of {len(report.nodes)} nodes exact"
        style = "good" if report.all_exact else "bad"
    body = BODY.substitute(
        verdict=verdict,
        verdict_class=style,
        when=html.escape(report.started),
        seconds=f"{report.seconds:.0f}",
        interval=f"{report.interval:g}",
        tiles="".join(tile(*words) for words in figures(report)),
        fates="".join(fates_of(node) for node in report.nodes),
        rows_chart=rows_chart(report, NARROW) + legend(report.nodes) + rows_chart(report, WIDE),
        lag_note=LAG_OF_GROUPS if any(node.grouped for node in report.nodes) else "",
        lag_chart=lag_chart(report, NARROW) + lag_chart(report, WIDE),
        result=result_section(report),
        data=json.dumps(data(report)).replace("<", "\\u003c"),
    )
    return whole(verdict, body, report.is_live)


def starting() -> str:
    """The page before there is anything to see."""
    words = "The warehouse and the uploaders start. The first time, their packages are downloaded: that takes a minute."
    return whole("starting", f"<header><div><h1>Four nodes, one warehouse</h1><p>{words}</p></div></header>", True)


def whole(title: str, body: str, is_live: bool) -> str:
    """A file with this content. Where there is no script, the browser itself loads a live one again."""
    again = '<noscript><meta http-equiv="refresh" content="2"></noscript>' if is_live else ""
    live = " data-live" if is_live else ""
    return TEMPLATE.substitute(title=title, body=body, live=live, again=again)


def figures(report: Report) -> list[tuple[str, str]]:
    """The numbers at the top, with what they are."""
    comparisons = [node.comparison for node in report.nodes if node.comparison]
    wrong = sum(comparison.missing + comparison.surplus for comparison in comparisons)
    commits = sum(node.samples[-1].commits for node in report.nodes)
    usual = sorted(node.median_lag() for node in report.nodes)[len(report.nodes) // 2]
    last = ("waiting", f"{report.total('waiting'):,}") if report.is_live else ("rows lost or doubled", f"{wrong:,}")
    return [
        (f"{sum(node.samples[-1].written for node in report.nodes):,}", "rows written"),
        (f"{report.total('sent', 'grouped'):,}", "arrived, each or in groups"),
        (f"{report.total('filtered'):,}", "filtered out"),
        (last[1], last[0]),
        (f"{commits:,}", "commits"),
        (f"{usual:.1f} s", "usual lag"),
    ]


def tile(value: str, meaning: str) -> str:
    """One number."""
    return f'<div class="tile"><b>{value}</b><span>{meaning}</span></div>'


def fates_of(node: NodeReport) -> str:
    """What became of a node's rows, as a bar and in words. The bar's parts are in the order of the words."""
    fates = node.fates()
    bar = "".join(f'<i class="{fate.kind}" style="flex-grow:{fate.count}"></i>' for fate in fates if fate.count)
    lines = "".join(
        f'<li class="{"none" if not fate.count else fate.kind + "-line"}"><i class="{fate.kind}"></i>'
        f"<span>{fate.words}</span><b>{fate.count:,}</b></li>"
        for fate in fates
    )
    written = f"<span>rows written</span><b>{node.samples[-1].written:,}</b>"
    return (
        f'<div class="fates {node.color}"><h3><i class="dot"></i>{html.escape(node.name)}</h3>'
        f"<p>{html.escape(node.does)}</p>"
        f'<div class="bar" aria-hidden="true">{bar}</div><ul>{lines}<li class="sum"><i></i>{written}</li></ul></div>'
    )


def legend(nodes: Sequence[NodeReport]) -> str:
    """The nodes' colours and counts, below a narrow chart."""
    entries = (
        f'<li class="{node.color}"><i class="dot"></i>{html.escape(node.name)}: {node.samples[-1].arrived:,}</li>'
        for node in nodes
    )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def result_section(report: Report) -> str:
    """The comparison at the end, or that it is still to come."""
    if report.is_live:
        return "<p>Comes at the end, when the sensors have stopped and the rest is sent.</p>"
    heads = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    return COMPARISON.substitute(heads=heads, rows="".join(table_row(node) for node in report.nodes))


def table_row(node: NodeReport) -> str:
    """A node's line of the table. In a narrow window each cell is a line, with its column's name."""
    found = node.comparison
    assert found is not None
    counts = [found.expected, found.arrived, found.missing, found.surplus, node.samples[-1].commits]
    cells = [
        ("", f'<i class="dot {node.color}"></i>{html.escape(node.name)}'),
        ("", f"{html.escape(node.sensor)}<br><small>{html.escape(node.location)}</small>"),
        ("", "<br>".join(f"<code>{html.escape(table)}</code>" for table in node.tables)),
        *(("count", f"{count:,}") for count in counts),
        ("good", "✓ exact") if found.exact else ("bad", "✗ not exact"),
    ]
    drawn = (
        f'<td class="{style}" data-name="{name}"><span>{cell}</span></td>'
        for name, (style, cell) in zip(COLUMNS, cells, strict=True)
    )
    return f"<tr>{''.join(drawn)}</tr>"


def data(report: Report) -> list[dict[str, object]]:
    """The samples, for the script."""
    return [
        {
            "name": node.name,
            "color": node.color,
            "samples": [[round(s.seconds, 2), s.wanted, s.arrived, round(s.lag, 2)] for s in node.samples],
        }
        for node in report.nodes
    ]


LAG_OF_GROUPS = " A node that aggregates waits until a minute and its late readings are over: that is no fault."

COMPARISON = Template("""<p>After the last run: the rows that each node's rules make of its database, against
those of its sensor in the warehouse, in all columns.</p>
<table><thead><tr>$heads</tr></thead><tbody>$rows</tbody></table>""")

BODY = Template("""<header>
<div><h1>Four nodes, one warehouse</h1>
<p>$when · watched for $seconds s · each uploader runs a cycle every $interval s</p></div>
<div class="verdict $verdict_class" role="status">$verdict</div>
</header>
<div class="tiles">$tiles</div>
<section><h2>What became of each row</h2>
<p>Each row that a sensor wrote has one fate.</p>
<div class="nodes">$fates</div></section>
<section><h2>Rows over time</h2>
<p>Solid: arrived in the warehouse, each or in groups. Dotted: written by the sensor, without those filtered out.</p>
$rows_chart<div class="tip"></div></section>
<section><h2>Lag of each node</h2>
<p>Age of the oldest row that has not arrived yet, in seconds.$lag_note</p>
$lag_chart<div class="tip"></div></section>
<section><h2>Source and target, compared row by row</h2>
$result</section>
<script type="application/json" id="data">$data</script>""")

TEMPLATE = Template("""<!DOCTYPE html>
<html lang="en"$live>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
$again
<title>Network demo: $title</title>
<style>
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1a2230; --soft: #5b6675; --line: #e3e7ec;
  --n1: #0072b2; --n2: #d55e00; --n3: #009e73; --n4: #b0508f; --rest: #7a8594; --good: #11734f;
  --good-back: #e2f4ec; --bad: #b3261e; --bad-back: #fce8e6; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1b212a; --ink: #e8ecf2; --soft: #9aa7b6;
  --line: #2f3844; --n1: #5ab6ee; --n2: #f59342; --n3: #3ccb9b; --n4: #e58fc4; --rest: #8792a2; --good: #6fdcb2;
  --good-back: #173a2e; --bad: #ff9a92; --bad-back: #48211e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, "Liberation Sans", sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 1080px; margin: 0 auto; padding: 36px 20px 56px; }
header { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 8px 24px; }
h1 { margin: 0; font-size: 28px; line-height: 1.25; letter-spacing: -.01em; }
h2 { margin: 0; font-size: 18px; }
h3 { margin: 0; font-size: 16px; }
p { margin: 2px 0 0; color: var(--soft); }
.verdict { padding: 6px 16px; border-radius: 99px; font-weight: 600; background: var(--card);
  border: 1px solid var(--line); }
.verdict.good { background: var(--good-back); } .verdict.bad { background: var(--bad-back); }
.good { color: var(--good); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 24px 0 12px; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 14px 18px; }
.tile b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--soft); font-size: 14px; line-height: 1.3; }
section { position: relative; padding: 20px 24px; margin-top: 12px; }
.nodes { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 20px 28px; margin-top: 14px; }
.fates { display: flex; flex-direction: column; }
.fates p { flex-grow: 1; font-size: 14px; line-height: 1.4; }
.bar { display: flex; gap: 2px; height: 18px; margin: 10px 0 6px; }
.bar i { min-width: 4px; border-radius: 3px; }
ul { margin: 0; padding: 0; list-style: none; font-size: 14px; }
.fates li { display: flex; align-items: baseline; padding: 3px 0; }
.fates li i { flex: none; width: 12px; height: 12px; margin-right: 8px; border-radius: 3px; align-self: center; }
.fates li b { margin-left: auto; padding-left: 12px; font-variant-numeric: tabular-nums; }
.none { color: var(--soft); } .none b { font-weight: 400; } .none i { opacity: .5; }
.sum { margin-top: 3px; border-top: 1px solid var(--line); }
.lost-line, .quarantined-line { color: var(--bad); }
.sent { background: var(--c); }
.grouped { background: repeating-linear-gradient(90deg, var(--c) 0 5px, transparent 5px 7px); }
.filtered { background: var(--rest); }
.waiting { border: 2px dotted var(--c); }
.quarantined { background: repeating-linear-gradient(45deg, var(--bad) 0 3px, transparent 3px 5px); }
.lost { background: var(--bad); }
.chart, .narrow { display: block; width: 100%; height: auto; margin-top: 12px; overflow: visible; }
.narrow, .legend { display: none; }
.legend { flex-wrap: wrap; gap: 2px 18px; }
.n1 { --c: var(--n1); } .n2 { --c: var(--n2); } .n3 { --c: var(--n3); } .n4 { --c: var(--n4); }
.grid { stroke: var(--line); }
.arrived, .lag, .written { fill: none; stroke: var(--c); stroke-width: 2.5; stroke-linejoin: round;
  stroke-linecap: round; }
.written { stroke-width: 1.8; stroke-dasharray: 0.1 5; opacity: .8; }
.lag { stroke-width: 2; }
.area, .down { fill: var(--c); opacity: .14; } .down { opacity: .09; }
.last { fill: var(--c); stroke: var(--card); stroke-width: 2; }
.ruler { stroke: var(--soft); stroke-dasharray: 3 3; visibility: hidden; }
text { fill: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.name { fill: var(--ink); font-size: 15px; font-weight: 600; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.tip { position: absolute; left: 0; top: 0; visibility: hidden; pointer-events: none; padding: 8px 12px;
  border-radius: 8px; font-size: 13px; background: var(--ink); color: var(--card); white-space: nowrap; }
circle.dot { fill: var(--c); }
i.dot { display: inline-block; width: 10px; height: 10px; margin-right: 8px; border-radius: 50%; background: var(--c); }
table { width: 100%; margin-top: 12px; border-collapse: collapse; font-size: 14px; overflow-wrap: normal; }
th, td { padding: 9px 12px 9px 0; border-top: 1px solid var(--line); text-align: left; vertical-align: middle; }
th { border-top: 0; color: var(--soft); font-weight: 500; }
th:nth-child(n+4):nth-child(-n+8), .count { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child { white-space: nowrap; }
th:last-child, td:last-child { padding: 9px 0 9px 16px; white-space: nowrap; font-weight: 600; }
small, code { color: var(--soft); font-size: 12.5px; }
@media (max-width: 1040px) {
  .chart { display: none; } .narrow { display: block; } .legend { display: flex; }
  .narrow, table { max-width: 640px; }
  .narrow .name, .narrow text { font-size: 12px; }
  thead { display: none; }
  table, tbody, tr, td { display: block; overflow-wrap: anywhere; }
  tr { padding: 8px 0; border-top: 1px solid var(--line); }
  td, td:first-child, td:last-child { display: flex; justify-content: space-between; padding: 3px 0; border: 0;
    text-align: right; white-space: normal; }
  td::before { content: attr(data-name); flex: none; padding-right: 16px; color: var(--soft); font-weight: 400; }
}
@media (max-width: 640px) {
  main { padding: 20px 12px 32px; }
  h1 { font-size: 24px; }
  section { padding: 16px 14px; }
  .tile { padding: 10px 14px; } .tile b { font-size: 22px; }
}
</style>
</head>
<body>
<main>$body</main>
<script>
const count = value => value.toLocaleString("en-US");
const words = {
  rows: sample => count(sample[2]) + " of " + count(sample[1]) + " rows",
  lag: sample => sample[3].toFixed(1) + " s",
};
const nearest = (samples, seconds) =>
  samples.reduce((a, b) => (Math.abs(b[0] - seconds) < Math.abs(a[0] - seconds) ? b : a));
const showNumbers = () => {
  for (const svg of document.querySelectorAll(".chart")) {
    const nodes = JSON.parse(document.getElementById("data").textContent);
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
};
const isLive = page => page.documentElement.dataset.live !== undefined;
let failures = 0;
const lookAgain = async () => {
  let next = document;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    next = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(next.querySelector("main"));
    document.title = next.title;
    failures = 0;
    showNumbers();
  } catch {
    failures += 1;
  }
  if (failures > 4) {
    document.querySelector("header").append("The demo has ended. This is the last that was seen.");
  } else if (isLive(next)) {
    setTimeout(lookAgain, 1000);
  }
};
showNumbers();
if (isLive(document)) setTimeout(lookAgain, 1000);
</script>
</body>
</html>
""")
