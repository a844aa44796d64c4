"""The benchmark itself, on few rows: it measures what it says, and counts the rows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks import bench as benches
from benchmarks import report
from benchmarks.measure import Results, Series, run
from benchmarks.targets import CYCLE, FULL, MORE, NOTHING, OURS, READ, WRITE, targets


@pytest.fixture
def bench(tmp_path: Path) -> benches.Bench:
    """The uploader alone, on 2,000 rows, in this environment."""
    return benches.Bench(tmp_path, sys.executable, None, [2000], None, 200, 1)


def found(bench: benches.Bench, section: str, tool: str, step: str) -> Series:
    series = bench.results.find(section, tool, step)
    assert series, (section, tool, step)
    return series


def test_the_uploaders_side_runs_and_its_rows_are_counted(bench: benches.Bench) -> None:
    benches.delta(bench)
    benches.scaling(bench)
    steps = {step: found(bench, "delta", OURS, step) for step in (FULL, MORE, NOTHING)}
    assert {step: (s.table_rows, s.rows) for step, s in steps.items()} == {
        FULL: (2000, 2000),
        MORE: (2000, 200),
        NOTHING: (2000, 0),
    }
    assert all(s.wall > 0 and s.cpu > 0 and s.peak > 20 for s in steps.values())
    assert found(bench, "delta", READ, FULL).seconds < steps[FULL].walls
    assert found(bench, "delta", WRITE, FULL).rows == 2000
    assert len(found(bench, "scaling, no index", OURS, CYCLE).walls) == 3


def test_a_tool_that_loses_rows_is_refused(bench: benches.Bench, tmp_path: Path) -> None:
    nothing = {"a liar": lambda database, folder: run([sys.executable, "-c", "pass"], os.environ)}
    with pytest.raises(SystemExit, match="a liar, full load: 0 rows arrived, not 2000"):
        benches.delta_round(bench, 2000, tmp_path, nothing)


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="because"):
        run([sys.executable, "-c", "raise SystemExit('because')"], os.environ)


def test_memory_and_processor_time_are_the_childs() -> None:
    script = "import json; block = bytearray(150 << 20); sum(range(10**6)); print(json.dumps({'seconds': 1.5}))"
    done = run([sys.executable, "-c", script], os.environ)
    assert 150 < done.peak < 4000  # MiB; a child is born with this process's memory, which tests before made large
    assert 0 < done.cpu < done.wall + 1
    assert done.told() == {"seconds": 1.5}


def test_estimates_and_medians_count() -> None:
    series = Series("s", "t", FULL, 10, 10, walls=[3.0, 1.0, 2.0], cpus=[1.0], peaks=[1.0])
    assert series.wall == 2.0
    series.seconds = [5.0, 6.0, 70.0]
    assert series.wall == 6.0


def test_the_report_has_a_verdict_for_each_target_that_was_measured() -> None:
    results = Results()
    for tool, wall in ((OURS, 2.0), ("pandas chunks", 5.0), ("dlt, connectorx", 7.0)):
        results.of("delta", tool, FULL, 1000, 1000).walls.append(wall)
        results.of("delta", tool, FULL, 1000, 1000).cpus.append(wall)
        results.of("delta", tool, FULL, 1000, 1000).peaks.append(100.0)
    text = report.figures(results, "some machine")
    assert "| full load to Delta: faster than dlt with connectorx | at least 3 x | 3.5 x | yes |" in text
    assert "| full load to Delta: faster than pandas chunks | at least 3 x | 2.5 x | NO |" in text
    assert text.count("not measured") == len(targets()) - 2
    assert "| delta | pandas chunks | full load | 1,000 | 5 | 200 | 5 | 100 | 1 |" in text
    assert "\ndelta,pandas chunks,full load,1000,5,200,5,100,1\n" in report.as_csv(report.table_of(results))


def test_the_page_of_figures_has_the_place_where_they_are_written() -> None:
    page = (benches.ROOT / "docs" / "speed-evidence.md").read_text()
    assert page.index(report.BEGIN) < page.index(report.END)


def test_sections_that_are_not_measured_again_stay_as_the_folder_has_them(tmp_path: Path) -> None:
    earlier = Results()
    for section in ("idle", "scaling, index", "warehouse memory"):
        earlier.of(section, OURS, FULL, 1000, 1000).add(run([sys.executable, "-c", "pass"], os.environ))
    report.save(earlier, "", tmp_path)
    results = Results()
    assert report.kept(results, tmp_path, ["scaling", "start"]) == ["idle", "warehouse memory"]
    assert results.series == [earlier.series[0], earlier.series[2]]
    assert report.kept(Results(), tmp_path / "another", ["idle"]) == []
