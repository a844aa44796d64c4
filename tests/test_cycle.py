"""Chapter Cycle: the sample into a Delta table, exactly once, killed at each step."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlite_to_databricks_uploader as up
from deltalake import DeltaTable

SAMPLE = Path(__file__).parent.parent / "demo-network" / "sensor_data.db"


class Box:
    def __init__(self, folder):
        self.database = folder / "sensor.db"
        shutil.copy(SAMPLE, self.database)
        self.target = str(folder / "lake" / "raw_readings")
        self.environ = {
            "SQLITE_PATH": str(self.database),
            "LAKEHOUSE_PATH": str(folder / "lake"),
            "DATABRICKS_TABLE": "readings",
            "STATE_DIR": str(folder / "state"),
            "ONCE": "1",
        }

    def run(self, *flags):
        return up.main(list(flags), self.environ)

    def arrived(self):
        table = DeltaTable(self.target)
        return sorted(v for b in up_batches(table) for v in b.column("id").to_pylist())

    def source_ids(self):
        with sqlite3.connect(self.database) as db:
            return [row[0] for row in db.execute("SELECT id FROM sensor_readings ORDER BY id")]

    def insert(self, count):
        with sqlite3.connect(self.database) as db:
            db.execute(f"""INSERT INTO sensor_readings (timestamp, sensor_id)
                SELECT '2020-01-01T00:00:00.000+00:00', 'late' FROM sensor_readings LIMIT {count}""")


def up_batches(table):
    from deltalake import QueryBuilder

    return QueryBuilder().register("t", table).execute("SELECT id FROM t").read_all().to_batches()


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


def test_the_sample_arrives_once_and_late_ties_follow(box):
    assert box.run() == 0
    assert box.arrived() == list(range(1, 3001))
    assert box.run() == 0
    assert box.arrived() == list(range(1, 3001))
    box.insert(1000)
    assert box.run("--batch-rows", "7") == 0
    assert len(box.arrived()) == 4000
    assert box.arrived() == box.source_ids()


@pytest.mark.parametrize("step", ["save", "send"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_at_each_step_neither_loses_nor_doubles(box, monkeypatch, step, when, call):
    owner = up.StateFile if step == "save" else up.DeltaTarget
    real = getattr(owner, step)
    calls = []

    def killed(self, *arguments):
        calls.append(1)
        if when == "after":
            real(self, *arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        if when == "before":
            real(self, *arguments)

    monkeypatch.setattr(owner, step, killed)
    with pytest.raises(KeyboardInterrupt):
        box.run("--batch-rows", "1000")
    monkeypatch.undo()
    assert box.run() == 0
    assert box.arrived() == list(range(1, 3001))


def test_a_recreated_file_stops_the_run_instead_of_skipping_rows(box):
    assert box.run() == 0
    with sqlite3.connect(box.database) as db:
        db.execute("UPDATE sensor_readings SET temperature = 1, timestamp = '2027-01-01'")
    assert box.run() == 1


def test_a_value_of_another_type_stops_the_run_and_nothing_is_sent(box):
    with sqlite3.connect(box.database) as db:
        db.execute("UPDATE sensor_readings SET status_code = 1.7 WHERE id = 9")
    assert box.run() == 1
    assert not Path(box.target).exists()


def test_the_continuous_mode_ends_cleanly_on_sigterm_while_it_waits(box):
    environ = {key: value for key, value in box.environ.items() if key != "ONCE"}
    process = subprocess.Popen([sys.executable, up.__file__], env=environ, stderr=subprocess.PIPE, text=True)
    while "rows sent" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=20) == 0
    process.stderr.close()
    assert box.arrived() == box.source_ids()


def test_a_failed_cycle_is_followed_by_the_next_one():
    stop, calls = threading.Event(), []

    def one_cycle():
        calls.append(1)
        if len(calls) == 1:
            raise up.TransientError("busy")
        stop.set()

    up.run_for_ever(one_cycle, 0, stop)
    assert len(calls) == 2
