"""The demos: a sensor like the real producer, the live demo, the network without containers, and the page it ends with.

The page is looked at in Chromium where that is installed: the engine itself says what it has drawn, and a screenshot is
searched for the colours of the four nodes.
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
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from boxes import ROOT, SAMPLE, SCRIPT, Box, examples, rows_of, same_rows
from warehouse import Warehouse

DEMO = ROOT / "demo-network"


# The demos are scripts beside each other, no package.
sys.path.append(str(DEMO))
parts, page, serve, live_demo, network_demo = map(
    importlib.import_module, ("parts", "page", "serve", "live_demo", "network_demo")
)

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
    assert running.wait(timeout=120) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["s.db"]
    assert readings(tmp_path / "s.db") >= seen[-1]


def readings(database: Path) -> int:
    """How many readings there are; none while the table is being made."""
    try:
        return int(asked(database, "SELECT count(*) FROM sensor_readings")[0][0])
    except sqlite3.OperationalError:
        return 0


def test_a_station_writes_three_tables_of_three_kinds(tmp_path: Path) -> None:
    wrote(tmp_path / "s.db", 5000, "--three-tables")
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY 1"
    assert asked(tmp_path / "s.db", tables) == [("events",), ("sensor_readings",), ("status",)]
    anomalies = "SELECT sensor_id, {} FROM sensor_readings WHERE anomaly_flag = 1 ORDER BY id"
    events = "SELECT sensor_id, {} FROM events ORDER BY event_id"
    times = "kind, strftime('%Y-%m-%dT%H:%M:%S', happened_at / 1000, 'unixepoch'), json_valid(details)"
    expected = asked(tmp_path / "s.db", anomalies.format("anomaly_type, substr(timestamp, 1, 19), 1"))
    assert len(expected) > 20 and asked(tmp_path / "s.db", events.format(times)) == expected
    states = asked(tmp_path / "s.db", "SELECT recorded_at, readings_written FROM status ORDER BY rowid")
    assert [written for _, written in states] == [1000, 2000, 3000, 4000, 5000], "one with each commit"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", time) for time, _ in states)


def test_the_readings_of_a_station_are_those_of_a_sensor(tmp_path: Path) -> None:
    wrote(tmp_path / "a.db", 1500)
    wrote(tmp_path / "b.db", 1500, "--three-tables")
    query = "SELECT id, temperature, voltage, anomaly_type FROM sensor_readings"
    assert asked(tmp_path / "a.db", query) == asked(tmp_path / "b.db", query)


def test_a_station_without_a_reading_yet_has_its_tables(tmp_path: Path) -> None:
    wrote(tmp_path / "s.db", 0, "--three-tables")
    assert asked(tmp_path / "s.db", "SELECT count(*) FROM events, status") == [(0,)]


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


# === What a demo leaves behind ========================================================================


@pytest.mark.parametrize(
    ("exact", "left"), [(True, ["page.html"]), (False, ["node-1", "page.html"])], ids=["exact", "not exact"]
)
def test_only_the_page_stays_in_a_temporary_place_unless_there_is_something_to_look_at(
    exact: bool, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(parts, "interruptible", lambda: None)
    assert parts.Workplace(None, "page.html").run(lambda place: filled(place) and exact) == (0 if exact else 1)
    (place,) = tmp_path.iterdir()
    assert sorted(entry.name for entry in place.iterdir()) == left


def filled(place: Path) -> bool:
    """Put into a demo's place what it has there."""
    (place / "node-1" / "data").mkdir(parents=True)
    (place / "node-1" / "data" / "s.db").touch()
    (place / "page.html").touch()
    return True


@pytest.mark.parametrize("given", [False, True], ids=["temporary", "given"])
def test_an_interrupted_demo_leaves_nothing_in_a_temporary_place_and_all_in_a_given_one(
    given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(place: Path) -> bool:
        filled(place)
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(parts, "interruptible", lambda: None)
    assert parts.Workplace(tmp_path / "mine" if given else None, "page.html").run(interrupted) == 130
    assert [entry.name for entry in tmp_path.iterdir()] == (["mine"] if given else [])
    assert not given or (tmp_path / "mine" / "node-1" / "data" / "s.db").exists()
    said = capsys.readouterr().out
    assert (
        "downloads packages" in said and ("stay there" if given else "At the end all are removed but page.html") in said
    )


def test_signals_wait_while_a_process_is_entered_in_the_books() -> None:
    program = """
import os, parts, signal
parts.interruptible()
try:
    with parts.uninterrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        print("entered")
    print("not reached")
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)
    print("cleaned up")
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=DEMO, capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n") == ["entered", "cleaned up", ""]


def traces(place: Path) -> list[str]:
    """The processes that have to do with a directory, by their command lines or their variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            is_dead = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if str(place).encode() in words and not is_dead:
            found.append(f"{process.name}: {words[:200]!r}")
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="NOT LOOKED AT: no /proc here")
@pytest.mark.parametrize(
    ("script", "line", "signals"),
    [
        ("network_demo.py", "Files are written", [signal.SIGINT]),
        ("network_demo.py", "Everything is below", [signal.SIGHUP]),
        ("live_demo.py", "Starting the warehouse", [signal.SIGINT, signal.SIGINT, signal.SIGTERM]),
    ],
    ids=["at the start", "terminal closed", "pressed three times"],
)
def test_a_demo_that_is_interrupted_leaves_no_process_and_no_file(
    script: str, line: str, signals: list[signal.Signals], tmp_path: Path
) -> None:
    command = [sys.executable, str(DEMO / script), "--seconds", "300"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    assert running.stdout
    output = []
    for shown in running.stdout:
        output.append(shown)
        if line in shown:
            break
    time.sleep(1.0)  # amid the start of a part
    for number in signals:
        running.send_signal(number)
    output += running.stdout.readlines()
    assert running.wait(timeout=120) == 130, "".join(output)
    assert "Traceback" not in "".join(output)
    # uv keeps lock files of its own there.
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith("uv-")] == []
    assert traces(tmp_path) == []


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


@pytest.mark.slow
def test_the_network_demo_ends_exact_though_an_uploader_was_killed_and_its_page_shows_all(tmp_path: Path) -> None:
    """In one run, which is one of the longest things to wait for. A cycle of each node every two seconds is enough."""
    directory = tmp_path / "demo"
    with demo("network_demo.py", directory, "--seconds", "14", "--interval", "2") as process:
        output = process.communicate(timeout=280)[0]
    assert process.returncode == 0, output
    all_nodes_are_exact(directory, output)
    the_killed_one_caught_up(directory, output)
    if CHROMIUM:
        the_page_plots_four_nodes(directory / "page.html", output, tmp_path)


def all_nodes_are_exact(directory: Path, output: str) -> None:
    """Assert that each reading of four nodes arrived once, as did the rows of the other tables."""
    sensors = {station.name: station.sensor for station in network_demo.STATIONS}
    for node, name in sensors.items():
        assert re.search(rf"{node}  exact: each of \d", output)
        assert is_exact(directory / node / "data" / "sensor_data.db", directory, name)
    sources = Counter(batch.split("/")[0] for (batch,) in rows_of(arrived_table(directory), "databricks_batch_id"))
    assert sources.keys() == sensors.keys() == {f"node-{number}" for number in (1, 2, 3, 4)}
    for table, columns in {"events": "event_id, kind, details", "status": "battery_percent, readings_written"}.items():
        source = asked(directory / "node-4" / "data" / "sensor_data.db", f"SELECT {columns} FROM {table}")
        assert source and same_rows(rows_of(arrived_table(directory, f"raw_{table}"), columns), source)


def the_killed_one_caught_up(directory: Path, output: str) -> None:
    """Assert that an uploader was killed and started again, and no other one."""
    assert "uploader killed" in output
    starts = (directory / "logs" / "node-2-uploader.log").read_text().count("no processing is enabled")
    others = (directory / "logs" / "node-1-uploader.log").read_text().count("no processing is enabled")
    assert (starts, others) == (3, 2), "each starts once more for the last run"


def the_page_plots_four_nodes(file: Path, output: str, folder: Path) -> None:
    """Assert that rows and lag are drawn, in four colours, and the numbers are those of the output."""
    picture = folder / "picture.png"
    found = found_by(with_probe(file.read_text()), folder, f"--screenshot={picture}")
    drawn_and_legible(found, points=10)
    wanted = [(line["stroke"], found["charts"][line["chart"]]) for line in found["lines"]]
    assert min(pixels(picture, wanted, folder)) > 400
    assert any("uploader of node-2 killed" in text[1] for text in found["texts"])
    for count in re.findall(r"exact: each of (\S+) rows", output):
        assert found["cells"].count(count) == 2, "rows in the source, rows in the target"


@pytest.mark.slow
def test_the_scenarios_of_the_network_are_exact_too(tmp_path: Path) -> None:
    with demo("network_demo.py", tmp_path / "demo", "--seconds", "4", "--scenarios", "--no-outage") as process:
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

# Shows pages with probes in frames, and collects what they found.
PROBES = """
<pre id="found"></pre>
<script>
const pages = {pages}, found = {{}};
for (const [name, page] of Object.entries(pages)) {{
  const frame = document.createElement("iframe");
  frame.style = "width: 1180px; height: 1700px; border: 0";
  frame.onload = () => {{
    found[name] = JSON.parse(frame.contentDocument.getElementById("found").textContent);
    document.getElementById("found").textContent = JSON.stringify(found);
  }};
  frame.srcdoc = page;
  document.body.append(frame);
}}
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


def found_by(content: str, folder: Path, *options: str) -> Any:
    """What the script of a page has left in its element `found`."""
    (folder / "probe.html").write_text(content)
    dump = chromium("--dump-dom", *options, (folder / "probe.html").as_uri())
    match = re.search(r'(?s)<pre id="found"[^>]*>(.*?)</pre>', dump)
    assert match and match[1], "the page's script did not run to its end"
    return json.loads(html.unescape(match[1]))


def pixels(picture: Path, wanted: list[tuple[str, list[float]]], folder: Path) -> list[int]:
    """How many pixels of a colour, as CSS writes it, a screenshot has in a rectangle, for each of `wanted`."""
    content = base64.b64encode(picture.read_bytes()).decode()
    regions = [([int(part) for part in re.findall(r"\d+", color)], [round(x) for x in box]) for color, box in wanted]
    counts: list[int] = found_by(COUNTER.format(picture=content, wanted=json.dumps(regions)), folder)
    return counts


def with_probe(content: str) -> str:
    """A page that asks what the engine has drawn of it."""
    return content.replace("</body>", f"{PROBE}</body>")


def probed(pages: dict[str, str], folder: Path) -> dict[str, dict[str, Any]]:
    """What the engine has drawn of pages: of all in one start of Chromium, which takes as long as all of them."""
    probes = {name: with_probe(content) for name, content in pages.items()}
    found: dict[str, dict[str, Any]] = found_by(PROBES.format(pages=json.dumps(probes).replace("<", "\\u003c")), folder)
    assert found.keys() == pages.keys()
    return found


def drawn_and_legible(found: dict[str, Any], points: int) -> None:
    """Assert that a page's charts are."""
    assert Counter((line["chart"], line["node"]) for line in found["lines"]) == {
        (chart, f"node-{number}"): 1 for chart in ("rows", "lag") for number in (1, 2, 3, 4)
    }
    for line in found["lines"]:
        assert line["points"] >= points
        assert line["length"] > 300
        assert within(line["place"], found["charts"][line["chart"]])
    assert len({line["stroke"] for line in found["lines"]}) == 4
    assert overlapping(found["texts"]) == []
    assert [tip.count("node-") for tip in found["tips"]] == [4, 4]
    assert found["width"] <= 1180


def within(inner: list[float], outer: list[float]) -> bool:
    """Whether a rectangle lies in another one."""
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def overlapping(texts: list[list[Any]]) -> list[tuple[str, str]]:
    """Pairs of texts of a chart that are drawn over each other by more than a pixel."""
    pairs = [(a, b) for i, a in enumerate(texts) for b in texts[i + 1 :] if a[0] == b[0]]
    return [(a[1], b[1]) for a, b in pairs if is_over(a[2:], b[2:])]


def is_over(a: list[float], b: list[float]) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1


def samples(written: int, lag: float, count: int = 41) -> list[Any]:
    """Samples of a node: `written` rows more in each, the last three of them not yet arrived."""
    return [parts.Sample(s / 2, s * written, max(0, s - 3) * written, s % 7 * lag, s) for s in range(count)]


def invented(written: int = 25, lag: float = 0.3, count: int = 41, **changes: Any) -> Any:
    """A report of four nodes, of which the second writes twice as much as the first, the third three times, and so on."""

    def node(number: int) -> Any:
        seen = samples(written * number, lag, count)
        usual = {
            "name": f"node-{number}",
            "sensor": "<script>alert('s')</script>",
            "location": "Zürich & </script>",
            "tables": ["raw_sensor_readings", "raw_events"],
            "samples": seen,
            "comparison": parts.Comparison(seen[-1].written, seen[-1].written, 0, 0),
            "down": (2.0, 9.0) if number == 2 else None,
        }
        return page.NodeReport(**{**usual, **changes})

    return page.Report("1 January 2026, 00:00 UTC", 1.0, [node(number) for number in (1, 2, 3, 4)])


def test_the_page_needs_nothing_from_elsewhere() -> None:
    content = page.page(invented())
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(", content)


def test_names_are_text_on_the_page_whatever_they_are() -> None:
    content = page.page(invented())
    assert "&lt;script&gt;alert" in content and "alert('s')" not in content
    assert content.count("<script") == content.count("</script>") == 2


def test_a_node_that_is_not_exact_is_seen_at_once() -> None:
    content = page.page(invented(comparison=parts.Comparison(100, 99, 2, 1)))
    assert "0 of 4 nodes exact" in content and "verdict bad" in content and content.count("✗ not exact") == 4


@needs_chromium
def test_a_page_is_drawn_and_legible_whatever_the_numbers(tmp_path: Path) -> None:
    numbers: dict[str, dict[str, Any]] = {
        "usual": {}, "long, and without lag": {"lag": 0.0, "count": 601},
        "large numbers": {"written": 123456, "lag": 61.7}, "nothing at all": {"written": 0},
    }  # fmt: skip
    pages = {name: page.page(invented(**changes)) for name, changes in numbers.items()}
    for found in probed(pages, tmp_path).values():
        drawn_and_legible(found, points=41)


# === What became of each reading ======================================================================


def fates(node: Any) -> dict[str, int]:
    return {fate.words: fate.count for fate in node.fates()}


def node_of(sample: Any, **changes: Any) -> Any:
    """A running node that came so far."""
    usual = {"name": "node-1", "sensor": "s", "location": "l", "tables": ["t"], "samples": [sample], "comparison": None}
    return page.NodeReport(**{**usual, **changes})


def test_a_reading_that_is_filtered_out_grouped_or_open_is_not_lost() -> None:
    filtering = node_of(parts.Sample(9, 100, 80, 1.0, 3, filtered=15, quarantined=2))
    assert fates(filtering) == {
        "sent as they are": 80, "in groups": 0, "filtered out": 15, "waiting for the next cycle": 3, "in quarantine": 2,
    }  # fmt: skip
    aggregating = node_of(parts.Sample(90, 100, 60, 30.0, 1, rows=1), grouped=True)
    assert fates(aggregating) == {
        "sent as they are": 0, "in 1 group": 60, "filtered out": 0, "waiting in open windows": 40, "in quarantine": 0,
    }  # fmt: skip


def test_only_what_did_not_arrive_in_the_end_is_missing() -> None:
    ended = node_of(parts.Sample(9, 100, 80, 1.0, 3, filtered=15), comparison=parts.Comparison(85, 80, 5, 0))
    assert fates(ended)["missing"] == 5 and "waiting for the next cycle" not in fates(ended)
    assert "NOT EXACT" in network_demo.result(
        ended
    ) and "(rows written: 80 sent as they are, 15 filtered out, 5 missing)" in (network_demo.result(ended))


@settings(max_examples=examples(200))
@given(st.data(), st.booleans(), st.booleans())
def test_each_reading_has_one_fate(data: st.DataObject, grouped: bool, ended: bool) -> None:
    written = data.draw(st.integers(0, 10**9))
    filtered = data.draw(st.integers(0, written))
    quarantined = data.draw(st.integers(0, written - filtered))
    arrived = data.draw(st.integers(0, written - filtered - quarantined))
    sample = parts.Sample(9, written, arrived, 1.0, 3, filtered, quarantined, rows=min(arrived, 7))
    comparison = parts.Comparison(1, 1, 0, 0) if ended else None
    node = node_of(sample, grouped=grouped, comparison=comparison)
    assert sum(fate.count for fate in node.fates()) == written
    content = page.page(page.Report("today", 1.0, [node]))
    for fate in node.fates():
        assert f"<span>{fate.words}</span><b>{fate.count:,}</b>" in content


@pytest.mark.parametrize("scenario", [*network_demo.SCENARIOS, parts.RAW], ids=lambda scenario: scenario.name)
def test_a_node_counts_what_its_rules_leave_out_and_what_is_in_quarantine(box: Box, scenario: Any) -> None:
    wrote(box.database, 2000, *(["--three-tables"] if scenario is parts.WHOLE else []))
    box.database.rename(box.database.with_name("sensor_data.db"))
    spoilt = "INSERT INTO sensor_readings (timestamp, sensor_id, temperature, anomaly_flag) VALUES (?, 's', ?, 0)"
    box.database = box.database.with_name("sensor_data.db")
    first = str(box.source("min(timestamp)")[0][0])
    box.execute(spoilt, rows=[(first, "warm"), (first, 60.0)])
    assert box.run(SQLITE_PATH=str(box.database), **scenario.settings) == 3, "one row is in quarantine"
    station = parts.Station("node-1", "SENSOR_IL_CHI_0001", "Chicago", 1.0)
    node = parts.Node(station, scenario, box.folder, box.folder, {}, 1.0)
    written, filtered = node.written()
    assert written == sum(len(box.source("1", table.source)) for table in scenario.tables) >= 2002
    assert node.quarantined() == 1
    anomalies = box.source("count(*) FILTER (WHERE anomaly_flag = 1)")[0][0]
    assert filtered == (anomalies + 1 if scenario is parts.FILTERED else 0)


def test_a_node_that_sends_its_whole_database_is_exact_only_if_all_its_tables_are(box: Box, tmp_path: Path) -> None:
    station = parts.Station("node-4", "SENSOR_SG_SIN_0001", "Singapore", 1.0)
    wrote(tmp_path / "data" / "sensor_data.db", 2000, "--three-tables", "--sensor-id", station.sensor)
    box.database = tmp_path / "data" / "sensor_data.db"
    counts = [len(box.source("1", table.source)) for table in parts.WHOLE.tables]
    node = parts.Node(station, parts.WHOLE, tmp_path, tmp_path, {}, 1.0)
    with Warehouse(tmp_path / "warehouse") as warehouse:
        for statement in parts.statements(DEMO / "tables.sql"):
            warehouse.sql(statement)
        target = SimpleNamespace(rows=warehouse.sql)
        eye = parts.Watch(target, [node])
        eye.look()
        del box.environ["LAKEHOUSE_PATH"]
        settings = {"SQLITE_PATH": str(box.database), "DATABRICKS_DATABASE": parts.SCHEMA, **parts.WHOLE.settings}
        assert box.run(**settings, **warehouse.environment()) == 0
        eye.look()
        before, after = eye.history["node-4"]
        assert (before.waiting, before.arrived, after.waiting, after.arrived) == (sum(counts), 0, 0, sum(counts))
        assert before.lag > 0 == after.lag and after.commits >= 3
        assert parts.outcome(target, node) == parts.Comparison(sum(counts), sum(counts), 0, 0)
        warehouse.sql(f"DELETE FROM {parts.SCHEMA}.raw_events WHERE event_id = 1")
        assert parts.outcome(target, node) == parts.Comparison(sum(counts), sum(counts) - 1, 1, 0)


# === In any window, by any eye ========================================================================

# Puts pages into frames of several widths, and asks for what would make a reader scroll sideways, squint or guess.
FRAMES = """
<pre id="found"></pre>
<script>
const pages = {pages}, found = {{}};
const look = (frame, place) => {{
  const content = frame.contentDocument, inside = frame.contentWindow;
  const visible = [...content.querySelectorAll("body *")].filter(e => e.getClientRects().length && !e.closest("script"));
  const words = visible.filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  const size = e => parseFloat(inside.getComputedStyle(e).fontSize) * (e.getScreenCTM ? e.getScreenCTM().a : 1);
  const name = e => e.tagName + "." + (e.getAttribute("class") || "") + ": " + e.textContent.slice(0, 40);
  found[place] = {{
    inner: inside.innerWidth,
    scroll: content.documentElement.scrollWidth,
    outside: visible.filter(e => e.getBoundingClientRect().right > inside.innerWidth + 1
      || e.getBoundingClientRect().left < -1).map(name),
    scrolling: visible.filter(e => e instanceof inside.HTMLElement && e.scrollWidth > e.clientWidth + 1
      && inside.getComputedStyle(e).display !== "inline").map(name),
    smallest: Math.min(...words.map(size)),
    texts: [...content.querySelectorAll("svg text")].map(t => {{
      const b = t.getBoundingClientRect();
      return [t.closest("section").innerText.slice(0, 20), t.textContent, b.left, b.top, b.right, b.bottom];
    }}),
    charts: [...content.querySelectorAll("svg")].filter(svg => svg.getClientRects().length).length,
    words: content.body.innerText,
  }};
  document.getElementById("found").textContent = JSON.stringify(found);
}};
for (const [name, page] of Object.entries(pages)) for (const width of {widths}) {{
  const frame = document.createElement("iframe");
  frame.style = `width: ${{width}}px; height: 4000px; border: 0`;
  frame.onload = () => look(frame, `${{name}} ${{width}}`);
  frame.srcdoc = page;
  document.body.append(frame);
}}
</script>
"""


def in_frames(pages: dict[str, str], widths: list[int], folder: Path) -> dict[tuple[str, int], Any]:
    """What is seen of pages in windows of several widths: of all in one start of Chromium, which takes two seconds."""
    quoted = json.dumps(pages).replace("<", "\\u003c")
    found = found_by(FRAMES.format(pages=quoted, widths=json.dumps(widths)), folder)
    assert len(found) == len(pages) * len(widths)
    return {(name, width): found[f"{name} {width}"] for name in pages for width in widths}


def report_of(scenarios: bool, live: bool, written: int = 1234, lag: float = 0.3) -> Any:
    """A report of four nodes as the demo makes it, of long names and many rows."""
    kinds = network_demo.SCENARIOS if scenarios else network_demo.USUAL
    nodes = []
    for number, scenario in enumerate(kinds, 1):
        seen = [
            parts.Sample(
                s, s * written * number, max(0, s - 3) * written, s % 7 * lag, s, s * written // 50, s // 9, s // 5
            )
            for s in range(41)
        ]
        node = node_of(
            seen[-1],
            name=f"node-{number}",
            sensor="SENSOR_CH_ZRH_0001",
            location="São Paulo",
            tables=[table.target for table in scenario.tables],
            samples=seen,
            comparison=None if live else parts.Comparison(10**7, 10**7, number % 2, 0),
            down=(14.0, None if live else 26.0) if number == 2 else None,
            does=scenario.does,
            grouped=scenario.grouped,
        )
        nodes.append(node)
    return page.Report("30 September 2026, 00:00 UTC", 1.0, nodes)


PAGES: dict[str, Callable[[], str]] = {
    "starting": lambda: page.starting(),
    "running": lambda: page.page(report_of(scenarios=True, live=True)),
    "ended": lambda: page.page(report_of(scenarios=True, live=False)),
    "plain": lambda: page.page(report_of(scenarios=False, live=False)),
    "large numbers": lambda: page.page(report_of(scenarios=True, live=False, written=1234567, lag=59.9)),
}


@pytest.fixture(scope="module")
def in_windows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    """What is seen of each page in windows from narrow to wide."""
    pages = {name: made() for name, made in PAGES.items()}
    return in_frames(pages, [320, 390, 640, 760, 1040, 1041, 1280], tmp_path_factory.mktemp("frames"))


@needs_chromium
def test_all_is_readable_in_narrow_and_wide_windows_without_scrolling_sideways(
    in_windows: dict[tuple[str, int], Any],
) -> None:
    for (name, width), found in in_windows.items():
        assert found["inner"] == width
        assert found["scroll"] <= found["inner"], (name, width)
        assert found["outside"] == [] and found["scrolling"] == [], (name, width)
        assert found["smallest"] >= (9 if width == 320 else 11), (name, width)
        assert overlapping(found["texts"]) == [], (name, width)
        assert found["charts"] == (0 if name == "starting" else 2), (name, width)


@needs_chromium
def test_a_narrow_window_shows_the_same_words_and_numbers_as_a_wide_one(in_windows: dict[tuple[str, int], Any]) -> None:
    for node in report_of(scenarios=True, live=False).nodes:
        words = [node.name, node.sensor, *node.tables, node.does, *(fate.words for fate in node.fates())]
        words += [f"{fate.count:,}" for fate in node.fates()]
        for width in (390, 1280):
            assert [word for word in words if word not in in_windows["ended", width]["words"]] == []


def shades(rules: str) -> dict[str, str]:
    """The colours that a list of CSS variables names."""
    return {
        name: f"#{value * 2 if len(value) == 3 else value}" for name, value in re.findall(r"--([\w-]+): #(\w+)", rules)
    }


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (w3.org/TR/WCAG22, contrast ratio)."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_texts_and_lines_stand_out_from_what_is_behind_them(mode: str) -> None:
    light, dark = re.findall(r"(?s):root \{(.*?)\}", page.page(invented()))
    colors = shades(light) | (shades(dark) if mode == "dark" else {})
    for words in ("ink", "soft", "good", "bad"):
        assert contrast(colors[words], colors["card"]) >= 4.5 and contrast(colors[words], colors["page"]) >= 4.5, words
    assert min(contrast(colors["ink"], colors[f"{kind}-back"]) for kind in ("good", "bad")) >= 4.5
    assert min(contrast(colors[kind], colors[f"{kind}-back"]) for kind in ("good", "bad")) >= 4.5
    assert min(contrast(colors[line], colors["card"]) for line in ("n1", "n2", "n3", "n4", "rest")) >= 3.0


# === The page while the network runs ==================================================================


@contextmanager
def served() -> Iterator[Any]:
    server = serve.Server(0)
    server.show(page.starting())
    server.start()
    try:
        yield server
    finally:
        server.close()


def got(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        content: str = answer.read().decode()
        return content


def test_the_server_hands_out_the_latest_page_and_nothing_else() -> None:
    with served() as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert "The warehouse and the uploaders start" in got(server.address)
        server.show(page.page(report_of(scenarios=False, live=True)))
        assert "running" in got(server.address)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            got(f"{server.address}etc/passwd")


def test_a_browser_that_looks_gets_the_last_page_before_the_server_ends() -> None:
    server = serve.Server(0)
    server.start()
    server.show("running")
    assert got(server.address) == "running"
    server.show("ended")
    late = threading.Timer(0.5, lambda: answers.append(got(server.address)))
    answers: list[str] = []
    late.start()
    server.close()
    late.join()
    assert answers == ["ended"]


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(parts, "interruptible", lambda: None)
    with served() as server, pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        assert network_demo.main(["--serve", server.address.split(":")[2].strip("/")]) == 1
    assert any(line.startswith("--serve ") and "in use" in line for line in said)


@needs_chromium
def test_an_open_page_follows_the_run_to_its_end_by_itself(tmp_path: Path) -> None:
    with served() as server:

        def go_on() -> None:
            while server._handed_out != server._content:
                time.sleep(0.02)
            server.show(page.page(report_of(scenarios=True, live=True)))
            while server._handed_out != server._content:
                time.sleep(0.02)
            server.show(page.page(report_of(scenarios=True, live=False)))

        threading.Thread(target=go_on, daemon=True).start()
        seen = chromium("--dump-dom", "--virtual-time-budget=20000", server.address)
    assert "2 of 4 nodes exact" in seen and "What became of each row" in seen
    assert "waiting in open windows" not in seen, "nothing of an earlier page stays"


@needs_chromium
def test_a_page_whose_demo_has_ended_says_so(tmp_path: Path) -> None:
    live = page.page(report_of(scenarios=True, live=True))
    (tmp_path / "gone.html").write_text(live)  # a file can't be fetched, as a server that is gone
    seen = chromium("--dump-dom", "--virtual-time-budget=20000", (tmp_path / "gone.html").as_uri())
    assert seen.count("The demo has ended. This is the last that was seen.</header>") == 1


@pytest.mark.parametrize("live", [False, True])
def test_only_a_live_page_loads_itself_again(live: bool) -> None:
    content = page.page(report_of(scenarios=True, live=live))
    assert ("data-live>" in content) is live
    assert ('<noscript><meta http-equiv="refresh"' in content) is live


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", False),
        ({"DISPLAY": "localhost:10", "SSH_CONNECTION": "1 2 3 4"}, "linux", False),
        ({}, "darwin", True),
        ({"CI": "1"}, "darwin", False),
    ],
)
def test_a_browser_is_opened_only_where_somebody_sits_before_one(
    environ: dict[str, str], platform: str, expected: bool
) -> None:
    assert serve.has_browser(environ, platform) is expected


@pytest.mark.parametrize("highest", [1.0, 4.5, 9.99, 45.0, 1e9])
@pytest.mark.parametrize("about", [2, 4, 5, 8])
def test_an_axis_ends_at_or_above_its_highest_value(highest: float, about: int) -> None:
    assert page.ceiling(highest, about) >= highest
    assert page.ticks(page.ceiling(highest, about), about)[-1] == pytest.approx(page.ceiling(highest, about))


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


@pytest.mark.slow
def test_the_parts_work_by_hand_as_the_readme_says(tmp_path: Path) -> None:
    done = run_by_hand(blocks("By hand"), tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ rows sent in \d+ commits?, ", done.stdout)
    assert re.search(r"delivered +\d+ commits?, rows up to 20", done.stdout)


@pytest.mark.parametrize(
    ("heading", "script"), [("Live", live_demo), ("The network", network_demo)], ids=["live", "net"]
)
def test_the_demos_take_the_options_that_the_readme_names(heading: str, script: Any) -> None:
    (command,) = blocks(heading).splitlines()
    words = command.split()
    assert words[:2] == ["uv", "run"] and (ROOT / words[2]).is_file()
    script.options(words[3:])
    text = (DEMO / "README.md").read_text()
    chapter = text[text.index(f"## {heading}\n") :].split("\n## ")[0]
    known = vars(script.options([]))
    for option in re.findall(r"`--([a-z-]+)", chapter):
        assert option.replace("-", "_") in known
