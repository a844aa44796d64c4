"""Chapter Beginning: states of others are refused, lost ones are made anew from the target."""

from __future__ import annotations

import pytest

import sensor_table
import sqlite_to_databricks_uploader as up
from boxes import Box, same_rows

# Every column but the time, which arrives as a timestamp.
READINGS = ", ".join(name for name in sensor_table.COLUMNS if name != "timestamp")


def test_a_state_of_another_source_target_or_cursor_is_refused(box: Box) -> None:
    box.sample()
    assert box.run() == 0
    box.execute("CREATE TABLE other (time TEXT)")
    assert box.run("--table", "other") == 1
    assert box.run("--table", "sensor_readings", DATABRICKS_TABLE="elsewhere") == 1
    assert box.run("--table", "sensor_readings", "--cursor", "timestamp") == 1
    assert box.run("--table", "sensor_readings", "--source-id", "another") == 1
    assert box.run("--table", "sensor_readings") == 0


def test_a_table_that_is_made_anew_with_other_capitals_in_its_name_is_the_same(box: Box) -> None:
    box.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
    box.execute("INSERT INTO readings (time, v) VALUES ('2026-01-01', ?)", rows=[(1,), (2,)])
    assert box.run() == 0
    box.execute("DROP TABLE readings", "CREATE TABLE Readings (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
    box.execute("INSERT INTO Readings (time, v) VALUES ('2026-01-02', ?)", rows=[(3,), (4,), (5,)])
    assert box.run() == 0
    assert box.run("--table", "READINGS") == 0
    assert sorted(box.arrived("v")) == [(1,), (2,), (3,), (4,), (5,)]


def test_a_quarantine_is_that_of_a_table_whose_name_got_other_capitals(box: Box) -> None:
    box.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
    box.execute("INSERT INTO readings (time, v) VALUES ('2026-01-01', ?)", rows=[(v,) for v in range(20)])
    assert box.run() == 0
    box.execute("INSERT INTO readings (time, v) VALUES ('2026-01-01', 'bad')")
    assert box.run() == up.QUARANTINED
    box.execute("ALTER TABLE readings RENAME TO others", "ALTER TABLE others RENAME TO Readings")
    for file in (box.folder / "state" / "quarantine").iterdir():
        file.write_text(file.read_text().replace('"bad"', "20"))
    assert box.run("--replay-quarantine") == 0
    assert sorted(box.arrived("v")) == [(v,) for v in range(21)]


def test_tables_whose_names_differ_in_letters_beyond_ascii_are_two(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """As SQLite has it, and so their states are two."""
    for name, count in (("Ä", 2), ("ä", 4)):
        box.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, time TEXT)')
        box.execute(f"INSERT INTO \"{name}\" (time) VALUES ('2026-01-01')", rows=[()] * count)
    assert box.run("--table", "Ä") == 0
    assert box.run("--table", "ä") == 1
    assert "belongs to table Ä, not ä" in caplog.text
    assert "its new name in tables, with the databricks_table of before" in caplog.text
    assert box.run("--table", "Ä,ä") == 2
    assert "Several go into tables." in caplog.text
    assert len(box.arrived("id")) == 2


def test_a_state_of_groups_is_none_of_rows_though_one_path_has_both(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """table_path has no prefix that tells."""
    del box.environ["LAKEHOUSE_PATH"], box.environ["DATABRICKS_TABLE"]
    box.environ["TABLE_PATH"] = str(box.folder / "lake" / "readings")
    rules = {"ENABLE_AGGREGATE": "1", "AGGREGATE_CONFIG": '{"group_by": ["hour"], "aggregations": {"rows": "count"}}'}
    box.sample()
    assert box.run(**rules) == 0
    assert box.run() == 1
    assert "belongs to scenario aggregate, not raw" in caplog.text


def test_a_state_of_rows_is_none_of_groups_though_one_path_has_both(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """Where they share a column, groups would fit into the table of rows."""
    del box.environ["LAKEHOUSE_PATH"], box.environ["DATABRICKS_TABLE"]
    box.environ["TABLE_PATH"] = str(box.folder / "lake" / "readings")
    rules = {"ENABLE_AGGREGATE": "1", "AGGREGATE_CONFIG": '{"group_by": ["a"], "aggregations": {"rows": "count"}}'}
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, a TEXT)")
    box.execute("INSERT INTO t VALUES (1, '2026-01-01', 'x')")
    assert box.run() == 0
    assert box.run(**rules) == 1
    assert "belongs to scenario of single rows, not aggregate" in caplog.text


def test_a_start_from_a_time_that_did_not_get_through_stays_one_of_that_time(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By rowid, too: read in another zone, rows of that time and later would be passed over."""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)")
    box.execute("INSERT INTO t VALUES (1, '2026-01-01 10:00:00', 1), (2, '2026-01-01 12:00:00', 2)")
    with monkeypatch.context() as patch:
        patch.setattr(up.DeltaTarget, "send", lambda *_: (_ for _ in ()).throw(up.Postponed("busy")))
        assert box.run("--since", "2026-01-01 11:00:00") == 1
    assert box.run("--source-timezone", "Asia/Tokyo") == 1
    assert box.run() == 0
    assert box.arrived("v") == [(2,)]


def test_a_lost_state_is_made_anew_from_the_target_where_source_id_is_configured(box: Box) -> None:
    box.sample()
    assert box.run("--source-id", "box 7", "--batch-rows", "700") == 0
    before = box.state()
    box.state_file.unlink()
    box.execute("INSERT INTO sensor_readings (timestamp, sensor_id) VALUES ('2027-01-01', 'x')")
    assert box.run("--source-id", "box 7") == 0
    assert same_rows(box.arrived(READINGS), box.source(READINGS))
    assert box.state()["sequence"] == before["sequence"] + 1
