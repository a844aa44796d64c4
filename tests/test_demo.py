"""The demos: a sensor like the real producer, the live demo, the network without containers, and the page it ends with.

The page is looked at in Chromium where that is installed: the engine itself says what it has drawn, and a screenshot is
searched for the colours of the three nodes.
"""

from __future__ import annotations

import base64
import html
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from boxes import ROOT, SAMPLE, SCRIPT, Box, rows_of, same_rows

DEMO = ROOT / "demo-network"


# The demos are scripts beside each other, no package.
sys.path.append(str(DEMO))
parts, page, live_demo, network_demo = map(importlib.import_module, ("parts", "page", "live_demo", "network_demo"))

# === The sensor =======================================================================================


def sensor(database: Path, *options: str) -> list[str]:
    return [sys.executable, str(DEMO / "sensor.py"), "--database", str(database), *options]


def wrote(database: Path, rows: int, *options: str) -> None:
    """Let the sensor write so many readings, without waiting."""
    subprocess.run(sensor(database, "--interval", "0", "--rows", str(rows), *options), check=True)


def asked(database: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query. A WAL is there while the sensor runs, and later where a reader was the last to close."""
    how = "mode=ro" if database.with_name(f"{database.name}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"{database.as_uri()}?{how}", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_the_sensor_makes_the_tables_of_the_sample(tmp_path: Path) -> None:
    wrote(tmp_path / "s.db", 10)
    for query in (
        "SELECT * FROM pragma_table_xinfo('sensor_readings')",
        "SELECT type, name, tbl_name, replace(replace(sql, ' IF NOT EXISTS', ''), char(10), '') LIKE '%AUTOINCREMENT%'"
        " FROM sqlite_master ORDER BY name",
        "SELECT name FROM pragma_index_info('idx_timestamp')",
        "SELECT name FROM pragma_index_info('idx_sensor_id')",
    ):
        assert asked(tmp_path / "s.db", query) == asked(SAMPLE, query)
    assert asked(tmp_path / "s.db", "SELECT seq FROM sqlite_sequence") == [(10,)]


def test_its_database_is_in_wal_mode_and_closed_cleanly(tmp_path: Path) -> None:
    wrote(tmp_path / "s.db", 10)
    assert [file.name for file in tmp_path.iterdir()] == ["s.db"]
    assert (tmp_path / "s.db").read_bytes()[18:20] == b"\x02\x02"


def test_its_readings_are_as_untidy_as_real_ones(tmp_path: Path) -> None:
    wrote(tmp_path / "s.db", 5000)
    times = [time for (time,) in asked(tmp_path / "s.db", "SELECT timestamp FROM sensor_readings ORDER BY id")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", time) for time in times)
    assert len(set(times)) < len(times)
    assert any(later < earlier for earlier, later in itertools.pairwise(times))
    kinds = dict(asked(tmp_path / "s.db", "SELECT anomaly_type, count(*) FROM sensor_readings GROUP BY 1"))
    assert kinds.keys() == {None, "spike", "noise", "missing_data"}
    lacking = asked(tmp_path / "s.db", "SELECT DISTINCT anomaly_type FROM sensor_readings WHERE temperature IS NULL")
    assert lacking == [("missing_data",)]


def test_a_start_makes_the_database_anew_and_keep_goes_on(tmp_path: Path) -> None:
    wrote(tmp_path / "s.db", 100)
    wrote(tmp_path / "s.db", 5)
    assert asked(tmp_path / "s.db", "SELECT min(id), max(id) FROM sensor_readings") == [(1, 5)]
    wrote(tmp_path / "s.db", 5, "--keep", "--sensor-id", "other", "--location", "Nowhere")
    assert asked(tmp_path / "s.db", "SELECT sensor_id, location, latitude FROM sensor_readings WHERE id = 10") == [
        ("other", "Nowhere", None)
    ]


def test_a_running_sensor_is_read_live_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    running = subprocess.Popen(sensor(tmp_path / "s.db", "--interval", "0.01", "--commit-every", "0.1"))
    seen = [0]
    while len(seen) < 4:
        time.sleep(0.05)
        if (tmp_path / "s.db-wal").exists() and (now := readings(tmp_path / "s.db")) > seen[-1]:
            seen.append(now)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=20) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["s.db"]
    assert readings(tmp_path / "s.db") >= seen[-1]


def readings(database: Path) -> int:
    """How many readings there are; none while the table is being made."""
    try:
        return int(asked(database, "SELECT count(*) FROM sensor_readings")[0][0])
    except sqlite3.OperationalError:
        return 0


def test_a_database_that_cannot_be_made_is_one_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = subprocess.run(sensor(tmp_path / "file" / "s.db"), capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) == 2


def test_what_it_writes_arrives_exactly_also_after_it_began_anew(box: Box) -> None:
    columns = ", ".join(column for column in parts.COLUMNS.split(", ") if column != "timestamp")
    wrote(box.database, 2500)
    assert box.run("--batch-rows", "700") == 0
    first = box.source(columns)
    assert same_rows(box.arrived(columns), first)
    wrote(box.database, 1500, "--sensor-id", "after the restart")
    assert box.run() == 0
    assert same_rows(box.arrived(columns), first + box.source(columns))


# === The comparison at the end ========================================================================

ROWS = [(1, "2026-01-01T00:00:00.000+00:00", 0.1), (2, "2026-01-01T00:00:00.001+00:00", None)]


@pytest.mark.parametrize(
    ("arrived", "missing", "surplus"),
    [
        (ROWS, 0, 0),
        (ROWS[::-1], 0, 0),
        (ROWS[:1], 1, 0),
        ([*ROWS, ROWS[0]], 0, 1),
        ([ROWS[0], (2, ROWS[1][1], 0.0)], 1, 1),
        ([(1, "2026-01-01T00:00:00.000+00:00", 0.10000000000000002), ROWS[1]], 1, 1),
    ],
    ids=["equal", "another order", "missing", "doubled", "a value for NULL", "the last digit"],
)
def test_the_comparison_finds_what_is_missing_or_too_many(arrived: list[Any], missing: int, surplus: int) -> None:
    found = parts.compared(ROWS, arrived)
    assert (found.missing, found.surplus, found.exact) == (missing, surplus, not missing and not surplus)


def test_a_time_that_differs_by_a_microsecond_is_another_one() -> None:
    import datetime as dt

    moment = dt.datetime(2026, 1, 1, 0, 0, 0, 1000)
    assert parts.compared([ROWS[1]], [(2, moment, None)]).exact
    assert not parts.compared([ROWS[1]], [(2, moment + dt.timedelta(microseconds=1), None)]).exact


def test_nothing_compared_with_nothing_is_no_success() -> None:
    assert not parts.compared([], []).exact


def test_a_demo_never_inherits_the_way_to_a_real_workspace() -> None:
    own = {"DATABRICKS_TOKEN": "t", "DATABRICKS_VOLUME": "/Volumes/x", "STATE_DIR": "s", "ONCE": "1"}
    assert parts.inherited({**own, "PATH": "/bin"}).keys() == {"PATH", "NO_PROXY", "no_proxy"}


def test_a_demo_refuses_a_directory_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(parts.DemoError, match="not an empty directory"):
        parts.workplace(tmp_path)


# === The live demo ====================================================================================


@contextmanager
def demo(name: str, directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A demo, started as its users do; a workspace of the user's own is in the environment, and has no effect."""
    environ = {**os.environ, "DATABRICKS_HOST": "real.example", "DATABRICKS_TOKEN": "real", "ENABLE_FILTER": "true"}
    environ.pop("VIRTUAL_ENV", None)
    command = ["uv", "run", "--quiet", "--script", str(DEMO / name), "--directory", str(directory), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    try:
        yield process
    finally:
        # It ends its parts, also where a test failed.
        process.terminate()
        process.communicate()


def arrived_table(directory: Path, name: str = "raw_sensor_readings") -> DeltaTable:
    return DeltaTable(str(directory / "warehouse" / "tables" / "main" / "default" / name))


def is_exact(database: Path, directory: Path, name: str) -> bool:
    """Whether the Delta table of a demo has each reading of a database once: found out without the demo's own means."""
    columns = ", ".join(column for column in parts.COLUMNS.split(", ") if column != "timestamp")
    target = [row for row in rows_of(arrived_table(directory), columns) if row[1] == name]
    times = dict(asked(database, "SELECT id, timestamp FROM sensor_readings"))
    arrived = rows_of(arrived_table(directory), "id, timestamp, sensor_id")
    same_times = all(when.isoformat(timespec="milliseconds") == times[i] for i, when, s in arrived if s == name)
    return same_times and same_rows(target, asked(database, f"SELECT {columns} FROM sensor_readings"))


def shown_until(process: subprocess.Popen[str], commits: int) -> list[str]:
    """The lines of a live demo up to the one that shows so many commits."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if (found := re.match(r" +\d+ s( +\S+){3} +(\d+)", line)) and int(found[2]) >= commits:
            break
    return lines


@pytest.mark.slow
def test_the_live_demo_shows_what_arrives_and_ends_exact(tmp_path: Path) -> None:
    with demo("live_demo.py", tmp_path / "demo", "--seconds", "120") as process:
        lines = shown_until(process, commits=4)
        process.send_signal(signal.SIGTERM)
        output = "".join(lines) + process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    assert re.search(r"exact: each of \d[\d,]* rows arrived once", output)
    arrived = [int(line.split()[3].replace(",", "")) for line in lines if re.match(r" +\d+ s ", line)]
    assert arrived == sorted(arrived) and len(set(arrived)) >= 2
    database = tmp_path / "demo" / "data" / "sensor_data.db"
    assert is_exact(database, tmp_path / "demo", "SENSOR_IL_CHI_0001")


@pytest.mark.slow
def test_the_live_demo_says_when_a_row_is_missing(tmp_path: Path) -> None:
    with demo("live_demo.py", tmp_path / "demo", "--seconds", "120") as process:
        shown_until(process, commits=1)
        # A reading that has arrived is taken away behind the demo's back.
        arrived_table(tmp_path / "demo").delete("id = 1")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=240)[0]
    assert process.returncode == 1, output
    assert "NOT EXACT" in output and "1 missing, 0 too many" in output


# === The network demo =================================================================================


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """One run of the network: its directory, status and output."""
    directory = tmp_path_factory.mktemp("network") / "demo"
    with demo("network_demo.py", directory, "--seconds", "20") as process:
        output = process.communicate(timeout=280)[0]
    return directory, process.returncode, output


@pytest.mark.slow
def test_the_network_demo_is_exact_on_three_nodes(network: tuple[Path, int, str]) -> None:
    directory, status, output = network
    assert status == 0, output
    sensors = {"node-1": "SENSOR_CH_ZRH_0001", "node-2": "SENSOR_BR_SAO_0001", "node-3": "SENSOR_IS_RKV_0001"}
    for node, name in sensors.items():
        assert re.search(rf"{node}  exact: each of \d", output)
        assert is_exact(directory / node / "data" / "sensor_data.db", directory, name)
    sources = Counter(batch.split("/")[0] for (batch,) in rows_of(arrived_table(directory), "databricks_batch_id"))
    assert sources.keys() == sensors.keys()


@pytest.mark.slow
def test_an_uploader_of_the_network_is_killed_and_catches_up(network: tuple[Path, int, str]) -> None:
    directory, _, output = network
    assert "uploader killed" in output
    starts = (directory / "logs" / "node-2-uploader.log").read_text().count("no processing is enabled")
    others = (directory / "logs" / "node-1-uploader.log").read_text().count("no processing is enabled")
    assert (starts, others) == (3, 2), "each starts once more for the last run"


@pytest.mark.slow
def test_the_scenarios_of_the_network_are_exact_too(tmp_path: Path) -> None:
    with demo("network_demo.py", tmp_path / "demo", "--seconds", "6", "--scenarios", "--no-outage") as process:
        output = process.communicate(timeout=280)[0]
    assert process.returncode == 0, output
    for table in ("filtered", "secure", "aggregated"):
        assert len(rows_of(arrived_table(tmp_path / "demo", f"{table}_sensor_readings"), "sensor_id")) > 0
    assert rows_of(arrived_table(tmp_path / "demo", "secure_sensor_readings"), "DISTINCT serial_number") == [(None,)]
    flags = rows_of(arrived_table(tmp_path / "demo", "filtered_sensor_readings"), "DISTINCT anomaly_flag")
    assert flags == [(0,)]


# === The page, looked at ==============================================================================

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT LOOKED AT: no Chromium here (Debian: apt-get install chromium fonts-liberation)"
)

# Asks the engine what it has drawn: for each line its place, length and colour, and every text's place.
PROBE = """
<script>
const place = element => { const b = element.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
const line = element => ({
  node: element.dataset.node, chart: element.ownerSVGElement.id, length: element.getTotalLength(),
  place: place(element), stroke: getComputedStyle(element).stroke, points: element.getAttribute("d").split("L").length,
});
for (const svg of document.querySelectorAll(".chart")) {
  const b = svg.getBoundingClientRect();
  const middle = { clientX: b.left + b.width * .4, clientY: b.top + b.height / 2 };
  svg.dispatchEvent(new PointerEvent("pointermove", middle));
}
const found = {
  lines: [...document.querySelectorAll("path[data-node]")].map(line),
  charts: Object.fromEntries([...document.querySelectorAll(".chart")].map(svg => [svg.id, place(svg)])),
  texts: [...document.querySelectorAll("svg text")].map(t => [t.ownerSVGElement.id, t.textContent, ...place(t)]),
  tips: [...document.querySelectorAll(".tip")].map(tip => tip.innerText),
  cells: [...document.querySelectorAll("td")].map(cell => cell.innerText),
  width: document.documentElement.scrollWidth,
};
document.querySelectorAll(".chart").forEach(svg => svg.dispatchEvent(new PointerEvent("pointerleave")));
document.body.insertAdjacentHTML("beforeend", "<pre id=found hidden></pre>");
document.getElementById("found").textContent = JSON.stringify(found);
</script>
"""

# Counts the pixels of some colours (red, green, blue) in parts of a picture.
COUNTER = """
<img id="picture" src="data:image/png;base64,{picture}"><pre id="found"></pre>
<script>
window.onload = () => {{
  const picture = document.getElementById("picture");
  const canvas = Object.assign(document.createElement("canvas"), {{ width: picture.width, height: picture.height }});
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const counts = {wanted}.map(([[red, green, blue], [left, top, right, bottom]]) => {{
    const data = context.getImageData(left, top, right - left, bottom - top).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
      count += data[i] === red && data[i + 1] === green && data[i + 2] === blue;
    return count;
  }});
  document.getElementById("found").textContent = JSON.stringify(counts);
}};
</script>
"""


def chromium(*options: str) -> str:
    """What Chromium prints. As root, which test machines often are, it starts without its sandbox only."""
    usual = ["--headless", "--disable-gpu", "--hide-scrollbars", "--window-size=1180,1700"]
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    command = [str(CHROMIUM), *usual, "--virtual-time-budget=5000", *sandbox, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def found_by(content: str, folder: Path) -> Any:
    """What the script of a page has left in its element `found`."""
    (folder / "probe.html").write_text(content)
    dump = chromium("--dump-dom", (folder / "probe.html").as_uri())
    match = re.search(r'(?s)<pre id="found"[^>]*>(.*?)</pre>', dump)
    assert match and match[1], "the page's script did not run to its end"
    return json.loads(html.unescape(match[1]))


def pixels(file: Path, wanted: list[tuple[str, list[float]]], folder: Path) -> list[int]:
    """How many pixels of a colour, as CSS writes it, a screenshot has in a rectangle, for each of `wanted`."""
    chromium(f"--screenshot={folder / 'picture.png'}", file.as_uri())
    picture = base64.b64encode((folder / "picture.png").read_bytes()).decode()
    regions = [([int(part) for part in re.findall(r"\d+", color)], [round(x) for x in box]) for color, box in wanted]
    counts: list[int] = found_by(COUNTER.format(picture=picture, wanted=json.dumps(regions)), folder)
    return counts


def looked_at(file: Path, folder: Path, points: int) -> dict[str, Any]:
    """Assert that a page's charts are drawn and legible; returns what was found on it."""
    found: dict[str, Any] = found_by(file.read_text().replace("</body>", f"{PROBE}</body>"), folder)
    assert Counter((line["chart"], line["node"]) for line in found["lines"]) == {
        (chart, f"node-{number}"): 1 for chart in ("rows", "lag") for number in (1, 2, 3)
    }
    for line in found["lines"]:
        assert line["points"] >= points
        assert line["length"] > 300
        assert within(line["place"], found["charts"][line["chart"]])
    assert len({line["stroke"] for line in found["lines"]}) == 3
    assert overlapping(found["texts"]) == []
    assert [tip.count("node-") for tip in found["tips"]] == [3, 3]
    assert found["width"] <= 1180
    return found


def within(inner: list[float], outer: list[float]) -> bool:
    """Whether a rectangle lies in another one."""
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def overlapping(texts: list[list[Any]]) -> list[tuple[str, str]]:
    """Pairs of texts of a chart that are drawn over each other by more than a pixel."""
    pairs = [(a, b) for i, a in enumerate(texts) for b in texts[i + 1 :] if a[0] == b[0]]
    return [(a[1], b[1]) for a, b in pairs if is_over(a[2:], b[2:])]


def is_over(a: list[float], b: list[float]) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1


@pytest.mark.slow
@needs_chromium
def test_the_page_of_the_network_plots_rows_and_lag_of_three_nodes(
    network: tuple[Path, int, str], tmp_path: Path
) -> None:
    directory, _, output = network
    found = looked_at(directory / "page.html", tmp_path, points=10)
    wanted = [(line["stroke"], found["charts"][line["chart"]]) for line in found["lines"]]
    assert min(pixels(directory / "page.html", wanted, tmp_path)) > 400
    assert any("uploader of node-2 killed" in text[1] for text in found["texts"])
    for count in re.findall(r"exact: each of (\S+) rows", output):
        assert found["cells"].count(count) == 2, "rows in the source, rows in the target"


def samples(written: int, lag: float, count: int = 41) -> list[Any]:
    """Samples of a node: `written` readings more in each, the last three of them not yet arrived."""
    return [parts.Sample(s / 2, s * written, max(0, s - 3) * written, s % 7 * lag, s) for s in range(count)]


def invented(written: int = 25, lag: float = 0.3, count: int = 41, **changes: Any) -> Any:
    """A report of three nodes, of which the second writes twice as much as the first, and the third three times."""

    def node(number: int) -> Any:
        seen = samples(written * number, lag, count)
        usual = {
            "name": f"node-{number}",
            "sensor": "<script>alert('s')</script>",
            "location": "Zürich & </script>",
            "table": "raw_sensor_readings",
            "samples": seen,
            "comparison": parts.Comparison(seen[-1].written, seen[-1].written, 0, 0),
            "down": (2.0, 9.0) if number == 2 else None,
        }
        return page.NodeReport(**{**usual, **changes})

    return page.Report("1 January 2026, 00:00 UTC", 1.0, [node(number) for number in (1, 2, 3)])


def test_the_page_needs_nothing_from_elsewhere() -> None:
    content = page.page(invented())
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(", content)


def test_names_are_text_on_the_page_whatever_they_are() -> None:
    content = page.page(invented())
    assert "&lt;script&gt;alert" in content and "alert('s')" not in content
    assert content.count("<script") == content.count("</script>") == 2


def test_a_node_that_is_not_exact_is_seen_at_once() -> None:
    content = page.page(invented(comparison=parts.Comparison(100, 99, 2, 1)))
    assert "0 of 3 nodes exact" in content and "verdict bad" in content and content.count("✗ not exact") == 3


@needs_chromium
@pytest.mark.parametrize(
    "changes",
    [{}, {"lag": 0.0, "count": 601}, {"written": 123456, "lag": 61.7}, {"written": 0}],
    ids=["usual", "long, and without lag", "large numbers", "nothing at all"],
)
def test_a_page_is_drawn_and_legible_whatever_the_numbers(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page.page(invented(**changes)))
    looked_at(tmp_path / "page.html", tmp_path, points=41)


@pytest.mark.parametrize(
    ("highest", "about", "expected"),
    [
        (10.0, 5, [0, 2, 4, 6, 8, 10]),
        (34.0, 8, [0, 5, 10, 15, 20, 25, 30]),
        (0.7, 2, [0, 0.5]),
        (2400.0, 5, [0, 500, 1000, 1500, 2000]),
    ],
)
def test_axes_have_round_numbers(highest: float, about: int, expected: list[float]) -> None:
    assert page.ticks(highest, about) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (0, "0"), (2000, "2,000"), (25000, "25 k"), (14e6, "14 M"), (2.5e6, "2.5 M")]
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert page.number(value) == text


# === Tables ===========================================================================================


def test_the_tables_of_the_demo_have_the_columns_of_the_sample() -> None:
    raw = next(text for text in parts.statements(DEMO / "tables.sql") if "raw_sensor_readings (" in text)
    declared = re.findall(r"(?m)^ +(\w+) (\w+)", raw)
    kinds = {"INTEGER": "BIGINT", "REAL": "DOUBLE", "TEXT": "STRING"}
    sample = asked(SAMPLE, "SELECT name, type FROM pragma_table_info('sensor_readings')")
    expected = [(name, "TIMESTAMP" if name == "timestamp" else kinds[kind]) for name, kind in sample]
    assert declared[:-2] == expected
    assert declared[-2:] == [("databricks_inserted_at", "TIMESTAMP"), ("databricks_batch_id", "STRING")]


@pytest.mark.parametrize("script", ["live_demo.py", "network_demo.py"])
def test_the_demos_want_the_same_connector_as_the_uploader(script: str) -> None:
    wanted = re.compile(r'"(databricks-sql-connector[^"]+)"')
    (connector,) = wanted.findall((DEMO / script).read_text())
    assert wanted.findall(SCRIPT.read_text()) == [connector]


# === The walk-through =================================================================================


def blocks(heading: str) -> str:
    """The commands below a heading of the demos' README."""
    text = (DEMO / "README.md").read_text()
    chapter = text[text.index(f"## {heading}\n") :].split("\n## ")[0]
    return "\n".join(re.findall(r"(?s)```sh\n(.*?)```", chapter))


def run_by_hand(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands of the README at the top of the repository, with `folder` and a free port for those in the text."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    commands = commands.replace("/tmp/demo", str(folder)).replace("8443", port)
    # What runs in the background holds on to the output, so that goes to a file.
    with (folder / "output.txt").open("w") as output:
        done = subprocess.run(
            ["bash", "-ec", commands], cwd=ROOT, stdout=output, stderr=output, timeout=240, check=False
        )
    return subprocess.CompletedProcess(commands, done.returncode, (folder / "output.txt").read_text())


def test_the_first_minute_is_as_the_readme_says(tmp_path: Path) -> None:
    done, again = (run_by_hand(blocks("The first minute"), tmp_path) for _ in range(2))
    assert done.returncode == 0, done.stdout
    assert "3000 rows sent" in done.stdout and re.search(r"3000 .*2026-11-23", done.stdout)
    assert again.returncode == 0 and "nothing new" in again.stdout


@pytest.mark.slow
def test_the_parts_work_by_hand_as_the_readme_says(tmp_path: Path) -> None:
    done = run_by_hand(blocks("By hand"), tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ rows sent in 1 commit", done.stdout)
    assert re.search(r"position +\d+", done.stdout)


@pytest.mark.parametrize(
    ("heading", "script"), [("Live", live_demo), ("The network", network_demo)], ids=["live", "net"]
)
def test_the_demos_take_the_options_that_the_readme_names(heading: str, script: Any) -> None:
    (command,) = blocks(heading).splitlines()
    assert command.split()[:3] == ["uv", "run", "--script"] and (ROOT / command.split()[3]).is_file()
    text = (DEMO / "README.md").read_text()
    chapter = text[text.index(f"## {heading}\n") :].split("\n## ")[0]
    known = vars(script.options([]))
    for option in re.findall(r"`--([a-z-]+)", chapter):
        assert option.replace("-", "_") in known
