"""The fault matrix, rows 27 to 33: disks that are full, states that are damaged, foreign, shared, copied or lost."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

import sqlite_to_databricks_uploader as up
from adversary import CRASHED, Stage, continuous, eventually
from boxes import Box, rows_of
from test_faults_source import COUNTED, INSERT, add, privileged, producer, rows, values

SAVED = up.State(
    last_upload="2026-01-01T00:00:00+00:00",
    source_id="box",
    table="t",
    target="x",
    position={"rowid": 7},
    anchors=[up.Anchor(7, "0123456789abcdef", "'2026-01-01'")],
    sequence=3,
    committed=3,
)


@pytest.fixture
def small(box: Box, tmp_path: Path) -> Iterator[Stage]:
    """A stage on which the state directory is a disk of 16 KiB."""
    (tmp_path / "state").mkdir()
    with Stage(tmp_path, f"mount -t tmpfs -o size=16k tmpfs {tmp_path / 'state'}") as running:
        yield running


def full_at(box: Box, step: str, call: int) -> dict[str, Any]:
    """The disk of the state fills up before the `call`-th call of a step."""
    return {"at": [step], "call": call, "when": "before", "do": "fill", "place": str(box.folder / "state")}


def emptied(stage: Stage, box: Box) -> None:
    """Somebody makes room on the disk."""
    stage.seen(box.folder / "state" / "filler").unlink()


# --- Full disks: matrix row 27 ---


@privileged
def test_nothing_is_sent_where_the_intent_cannot_be_saved(box: Box, small: Stage) -> None:
    """And the rows go once there is room again. (matrix row 27)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert small.run(box.environ, plan=[full_at(box, "StateFile.save", 1)]) == 1
    assert "can't be written: No space left on device" in small.said()
    assert values(box) == []
    emptied(small, box)
    assert small.run(box.environ) == 0
    assert values(box) == list(range(1, 11))


@privileged
def test_a_confirmation_that_cannot_be_saved_stops_the_run_and_the_target_knows(box: Box, small: Stage) -> None:
    """What was sent is in doubt, and the doubt is resolved. (matrix row 27)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert small.run(box.environ, "--batch-rows", "4", plan=[full_at(box, "StateFile.save", 3)]) == 1
    assert values(box) == [1, 2, 3, 4]
    assert small.run(box.environ) == 1
    assert values(box) == [1, 2, 3, 4]
    emptied(small, box)
    assert small.run(box.environ) == 0
    assert values(box) == list(range(1, 11))


@privileged
def test_a_disk_that_is_full_by_itself_loses_nothing(box: Box, small: Stage) -> None:
    """Sixteen KiB hold two states of some rows and no more. (matrix row 27)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 40))
    for last in range(41, 60):
        box.execute(INSERT, rows=rows(last, last))
        assert small.run(box.environ, "--batch-rows", "7") in (0, 1), small.said()
    kept = small.seen(box.folder / "state" / "last_upload.json")
    assert not kept.exists() or json.loads(kept.read_text())["checksum"]
    assert not [value for value, count in Counter(values(box)).items() if count > 1]


@privileged
def test_bad_rows_that_cannot_be_kept_are_not_passed_over(box: Box, small: Stage) -> None:
    """Without room for the quarantine nothing of their batch is sent. (matrix rows 27 and 43)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 1))
    assert small.run(box.environ) == 0
    box.execute(INSERT, rows=[("2026-01-01", "bad"), ("2026-01-01", 3)])
    assert small.run(box.environ, plan=[full_at(box, "Quarantine.put", 1)]) == 1, small.said()
    assert values(box) == [1]
    emptied(small, box)
    assert small.run(box.environ) == up.QUARANTINED
    assert values(box) == [1, 3]


@privileged
def test_a_private_copy_that_does_not_fit_is_an_error_that_passes(box: Box, small: Stage) -> None:
    """A database left by a crash is larger than the disk of the state. (matrix rows 16 and 27)"""
    connection = producer(box, COUNTED)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    add(connection, 1, 2000)
    crashed = box.folder / "crashed"
    crashed.mkdir()
    for end in ("", "-wal"):
        shutil.copy(f"{box.database}{end}", crashed / f"sensor.db{end}")
    connection.close()
    assert small.run({**box.environ, "SQLITE_PATH": str(crashed / "sensor.db")}) == 1, small.said()
    assert "has to be copied" in small.said()


# --- Damage: matrix rows 28 to 30 ---


@pytest.fixture
def states(tmp_path: Path) -> Iterator[up.StateFile]:
    with up.StateFile(tmp_path / "state") as opened:
        yield opened


def test_every_changed_byte_is_noticed_or_changes_nothing(states: up.StateFile) -> None:
    """A flipped bit anywhere: an error, or the same state where it hit the space between words. (matrix row 28)"""
    states.save(SAVED)
    content = states.file.read_bytes()
    noticed = 0
    for place in range(len(content)):
        for bits in (0x01, 0x20, 0x80, 0xFF):
            states.file.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
            try:
                assert states.load() == SAVED
            except up.StateError:
                noticed += 1
    assert noticed > 3 * len(content)


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b"{}", b"null", b"[]", b'{"last_upload": null}', b"\xff\xfe"])
def test_a_damaged_state_stops_the_run_and_is_left_for_a_person(box: Box, damage: bytes) -> None:
    """It is never taken for a first run. (matrix row 28)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run() == 0
    whole = box.state_file.read_bytes()
    box.execute(INSERT, rows=rows(11, 12))
    box.state_file.write_bytes(damage)
    assert box.run() == 1
    assert box.state_file.read_bytes() == damage
    assert values(box) == list(range(1, 11))
    box.state_file.write_bytes(whole)
    assert box.run() == 0
    assert values(box) == list(range(1, 13))


def test_an_older_copy_of_the_state_is_noticed_by_the_target(box: Box) -> None:
    """A backup that was put back would send rows twice. (matrix rows 28 and 32)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run() == 0
    copy = box.state_file.read_bytes()
    box.execute(INSERT, rows=rows(11, 20))
    assert box.run() == 0
    box.execute(INSERT, rows=rows(21, 30))
    box.state_file.write_bytes(copy)
    box.run()
    box.run()
    box.execute(INSERT, rows=rows(31, 40))
    box.run()
    arrived = Counter(values(box))
    assert max(arrived.values()) == 1
    assert box.run() == 1 or sorted(arrived) == list(range(1, 41))


@pytest.mark.parametrize("format", [0, 2, 99])
def test_a_state_of_another_format_is_refused(states: up.StateFile, format: int) -> None:
    """A newer uploader wrote it, or a stranger. (matrix row 30)"""
    states.save(SAVED)
    document = {**json.loads(states.file.read_text()), "format": format}
    states.file.write_text(json.dumps({**document, "checksum": up.checksum(document)}))
    with pytest.raises(up.StateError, match=f"format {format}"):
        states.load()


def test_a_state_moves_with_its_box_but_not_to_another_target(box: Box, tmp_path: Path) -> None:
    """Swapped state files are refused before anything is sent. (matrix row 29)"""
    (tmp_path / "other").mkdir()
    other = Box(tmp_path / "other")
    for each in (box, other):
        each.execute(COUNTED, INSERT, rows=rows(1, 10))
        assert each.run() == 0
    left, right = box.state_file.read_bytes(), other.state_file.read_bytes()
    box.state_file.write_bytes(right)
    other.state_file.write_bytes(left)
    assert (box.run(), other.run()) == (1, 1)
    assert len(values(box)) == len(values(other)) == 10


# --- Who uses it: matrix rows 31 to 33 ---


def test_a_second_uploader_on_one_state_directory_ends_at_once(box: Box, stage: Stage) -> None:
    """The lock is held for the whole life of the first. (matrix row 31)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    with continuous(box.environ) as process:
        assert eventually(lambda: len(values(box)) == 10, process)
        box.execute(INSERT, rows=rows(11, 20))
        assert stage.run(box.environ) == 75
        assert eventually(lambda: len(values(box)) == 20, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    assert stage.run(box.environ) == 0
    assert values(box) == list(range(1, 21))


def test_a_killed_uploader_leaves_no_lock(box: Box, stage: Stage) -> None:
    """The lock goes with the process. (matrix row 31)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    killed = {"at": ["StateFile.load"], "call": 1, "when": "after", "do": "kill"}
    assert stage.run(box.environ, plan=[killed]) == -signal.SIGKILL
    assert stage.run(box.environ) == 0


def twin_of(box: Box, folder: Path) -> Box:
    """A box that was cloned with its state, and goes on with the same target."""
    folder.mkdir()
    twin = Box(folder)
    shutil.copy(box.database, twin.database)
    shutil.copytree(box.folder / "state", folder / "state")
    twin.environ["LAKEHOUSE_PATH"] = box.environ["LAKEHOUSE_PATH"]
    return twin


def test_a_cloned_box_stops_instead_of_losing_its_rows(box: Box, tmp_path: Path) -> None:
    """Two boxes with one identity: each takes the other's commits for its own. (matrix row 32)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run() == 0
    twin = twin_of(box, tmp_path / "twin")
    box.execute(INSERT, rows=rows(11, 15))
    twin.execute(INSERT, rows=rows(101, 105))
    assert box.run() == 0
    status = twin.run()
    assert (status == 1) == (len(values(box)) == 15)


def test_a_cloned_box_that_was_killed_amid_a_commit_stops_too(box: Box, stage: Stage, tmp_path: Path) -> None:
    """The target knows a commit of that number, but it is the other box's. (matrix row 32)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run() == 0
    twin = twin_of(box, tmp_path / "twin")
    box.execute(INSERT, rows=rows(11, 15))
    twin.execute(INSERT, rows=rows(101, 105))
    killed = {"at": ["DeltaTarget.send"], "call": 1, "when": "before", "do": "kill"}
    assert stage.run(twin.environ, plan=[killed]) == -signal.SIGKILL
    assert box.run() == 0
    status = twin.run()
    assert (status == 1) == (len(values(box)) == 15)


def test_a_lost_state_beside_other_boxes_is_recovered_by_source_id(box: Box, tmp_path: Path) -> None:
    """Other boxes fill the same table, join it for the first time, and are not confused with it. (matrix row 33)"""
    others = []
    for number in (1, 2):
        (tmp_path / f"other{number}").mkdir()
        others.append(Box(tmp_path / f"other{number}"))
        others[-1].environ["LAKEHOUSE_PATH"] = box.environ["LAKEHOUSE_PATH"]
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    others[0].execute(COUNTED, INSERT, rows=rows(101, 110))
    others[1].execute(COUNTED, INSERT, rows=rows(201, 210))
    assert box.run("--source-id", "lost", "--batch-rows", "3") == 0
    assert others[0].run("--source-id", "kept") == 0
    shutil.rmtree(box.folder / "state")
    box.execute(INSERT, rows=rows(11, 12))
    assert others[1].run("--source-id", "new") == 0
    assert box.run("--source-id", "lost") == 0
    assert values(box) == [*range(1, 13), *range(101, 111), *range(201, 211)]


def test_a_lost_state_with_a_recreated_source_sends_the_new_rows(box: Box) -> None:
    """State and database are both gone, as with a new disk; the target's anchors tell. (matrix rows 22 and 33)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 40))
    assert box.run("--source-id", "lost") == 0
    shutil.rmtree(box.folder / "state")
    box.database.unlink()
    box.execute(COUNTED, INSERT, rows=rows(101, 160))
    assert box.run("--source-id", "lost") == 0
    assert values(box) == [*range(1, 41), *range(101, 161)]


def test_a_target_that_nothing_reached_is_left_only_where_no_row_was_read_for_it(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A path that was wrong may be corrected; but rows that were left out, or may have arrived, belong to one target."""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    wrong = {"LAKEHOUSE_PATH": str(box.folder / "wrong")}
    with monkeypatch.context() as patch:
        patch.setattr(up.DeltaTarget, "columns", lambda _: (_ for _ in ()).throw(up.Unreachable("no such host")))
        assert box.run(**wrong) == 1
    strict = {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"v": {">": 1000}}'}
    assert box.run(**strict) == 0
    assert [box.run(), box.run("--since", "2020-01-01")] == [1, 1]
    assert "belongs to target" in caplog.text
    assert box.run(STATE_DIR=str(box.folder / "another")) == 0
    assert values(box) == [*range(1, 11)]


@pytest.mark.parametrize("several", [{}, {"UPLOAD_TABLES": "t"}], ids=["single", "tables"])
def test_a_target_that_was_moved_goes_on_as_the_message_says(
    box: Box, caplog: pytest.LogCaptureFixture, several: dict[str, str]
) -> None:
    """Another state_dir alone would send all rows again, into the table that has them."""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run(**several) == 0
    moved = {**several, "LAKEHOUSE_PATH": str(box.folder / "moved")}
    shutil.move(box.folder / "lake", box.folder / "moved")
    box.execute(INSERT, rows=rows(11, 12))
    assert box.run(**moved) == 1
    [name] = re.findall(r"with an empty state_dir and source_id: (\w+)\. ", caplog.text)
    assert box.run("--source-id", name, STATE_DIR=str(box.folder / "another"), **moved) == 0
    [table] = (box.folder / "moved").iterdir()
    assert sorted(rows_of(DeltaTable(str(table)), "v")) == [(each,) for each in range(1, 13)]


def test_a_first_commit_that_may_have_taken_place_is_settled_before_another_target_is_taken(
    box: Box, stage: Stage
) -> None:
    killed = {"at": ["DeltaTarget.send"], "call": 1, "when": "after", "do": "kill"}
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert stage.run(box.environ, plan=[killed]) == -signal.SIGKILL
    assert box.run(DATABRICKS_TABLE="wrong") == 1
    box.execute(INSERT, rows=rows(11, 12))
    assert box.run() == 0
    assert values(box) == [*range(1, 13)]


def test_another_database_of_the_same_source_id_is_not_taken_for_the_one_that_was_here(
    box: Box, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a second box with a copy of the settings: its rows have the same times, as readings a minute have."""
    (tmp_path / "twin").mkdir()
    twin = Box(tmp_path / "twin")
    twin.environ["LAKEHOUSE_PATH"] = box.environ["LAKEHOUSE_PATH"]
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    twin.execute(COUNTED, INSERT, rows=[(time, v + 100) for time, v in rows(1, 10)])
    assert [box.run("--source-id", "box"), twin.run("--source-id", "box")] == [0, 1]
    assert "but not the rows that are here" in caplog.text
    assert twin.run("--source-id", "twin") == 0
    assert values(box) == [*range(1, 11), *range(101, 111)]


def test_a_lost_state_of_a_stream_that_was_the_only_table_is_recovered(box: Box) -> None:
    box.environ["UPLOAD_SOURCE_ID"] = "box"
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run() == 0
    box.execute(INSERT, rows=rows(11, 12))
    tables = json.dumps([{"sqlite_table_name": "t", "databricks_table": "readings"}])
    assert box.run("--tables", tables) == 0
    shutil.rmtree(box.folder / "state")
    box.execute("CREATE TABLE other (time TEXT, v INTEGER)", "INSERT INTO other VALUES ('2026-01-01', 101)")
    box.execute(INSERT, rows=rows(13, 14))
    both = json.dumps([{"sqlite_table_name": name, "databricks_table": "readings"} for name in ("t", "other")])
    assert box.run("--tables", both) == 0
    assert values(box) == [*range(1, 15), 101]


def test_a_recovered_state_keeps_the_quarantine(box: Box) -> None:
    """The newest commit had rows in quarantine alone, which the target knows nothing of."""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)", INSERT, rows=rows(1, 10))
    assert box.run("--source-id", "box") == 0
    box.execute(INSERT, rows=[("2026-01-01", "bad")])
    assert box.run("--source-id", "box") == up.QUARANTINED
    box.state_file.unlink()
    box.execute("DELETE FROM t", INSERT, rows=[("2026-01-02", "worse")])
    box.execute(INSERT, rows=rows(12, 13))
    assert box.run("--source-id", "box") == up.QUARANTINED
    assert [line["row"]["v"] for line in box.quarantined()] == ["bad", "worse"]


@pytest.mark.parametrize("lost", ["state", "newest states"])
def test_a_history_that_was_cleaned_is_no_sign_that_rows_arrived(box: Box, lost: str) -> None:
    """Databricks and --compact clean it; then a number that the table knows may be that of other rows."""
    box.execute(COUNTED)
    states = list[bytes]()
    for number in range(1, 6):
        box.execute(INSERT, rows=rows(number, number))
        assert box.run("--source-id", "box") == 0
        states.append(box.state_file.read_bytes())
    box.table().alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    cleaned = box.table()
    cleaned.create_checkpoint()
    cleaned.cleanup_metadata()
    box.execute(INSERT, rows=rows(6, 6))
    if lost == "state":
        box.state_file.unlink()
    else:
        box.state_file.write_bytes(states[-2])
        box.execute("DELETE FROM t WHERE v = 5")
    assert box.run("--source-id", "box") == 1
    assert box.run("--source-id", "box", "--since", rows(6, 6)[0][0], STATE_DIR=str(box.folder / "another")) == 0
    assert values(box) == [*range(1, 7)]


def test_a_lost_state_without_a_source_id_is_a_first_run_that_says_so(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a name nothing tells the box from a new one: docs/delivery.md says what that means. (matrix row 33)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    assert box.run() == 0
    shutil.rmtree(box.folder / "state")
    assert box.run() == 0
    assert "first run of source" in caplog.text
    assert Counter(values(box)) == {value: 2 for value in range(1, 11)}


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("write_durably", "before"),
        ("write_durably", "after"),
        ("sync_directory", "before"),
        ("sync_directory", "after"),
    ],
)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_amid_the_saving_of_the_state_keeps_the_old_or_the_new_one(
    box: Box, stage: Stage, step: str, when: str, call: int
) -> None:
    """A file that is written half is never the state. (matrix rows 27 and 28)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    killed = {"at": [step], "call": call, "when": when, "do": "kill"}
    assert stage.run(box.environ, "--batch-rows", "5", plan=[killed]) == -signal.SIGKILL
    status = stage.run(box.environ)
    assert status == 0 != CRASHED
    assert values(box) == list(range(1, 11))


def test_a_state_is_on_the_disk_before_it_is_believed(states: up.StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content, then name, then directory: a power cut at any moment leaves the old state or the new one. (matrix row 27)"""
    happened: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        happened.append(f"{kind} synced" if os.fstat(descriptor).st_size else f"empty {kind} synced")
        sync(descriptor)

    def replaced(source: Path, goal: Path) -> None:
        happened.append("replaced")
        replace(source, goal)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    states.save(SAVED)
    assert happened == ["file synced", "replaced", "directory synced"]


@pytest.mark.parametrize("step", ["DeltaTarget._append", "DeltaTarget.send", "StateFile.save"])
def test_bad_rows_are_kept_before_their_commit(box: Box, stage: Stage, step: str) -> None:
    """A kill after the commit must not lose them: they are behind the position by then. (matrix rows 35 and 43)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 1))
    assert box.run() == 0
    box.execute(INSERT, rows=[("2026-01-01", "bad"), ("2026-01-01", 3)])
    killed = {"at": [step], "call": 2 if step == "StateFile.save" else 1, "when": "after", "do": "kill"}
    assert stage.run(box.environ, plan=[killed]) == -signal.SIGKILL
    assert stage.run(box.environ) in (0, up.QUARANTINED)
    assert values(box) == [1, 3]
    assert [line["row"]["v"] for line in box.quarantined()] == ["bad"]


def test_the_quarantine_of_a_lost_state_stays(box: Box) -> None:
    """Numbers of commits begin anew with a new state, names of files must not."""
    box.execute(COUNTED, INSERT, rows=[("2026-01-01", 1)])
    assert box.run() == 0
    box.execute(INSERT, rows=[("2026-01-01", "bad")])
    assert box.run() == up.QUARANTINED
    box.state_file.unlink()
    box.execute("DELETE FROM t WHERE v = 'bad'")
    assert box.run() == 0
    box.execute(INSERT, rows=[("2026-01-02", 3)])
    assert box.run() == 0
    assert [line["row"]["v"] for line in box.quarantined()] == ["bad"]


def test_the_time_in_the_state_counts_rows_whose_confirmation_was_lost(box: Box, stage: Stage) -> None:
    """`last_upload` is the greatest time handled so far, also after a doubt was resolved. (matrix row 35)"""
    box.execute(COUNTED, INSERT, rows=rows(1, 10))
    killed = {"at": ["DeltaTarget.send"], "call": 1, "when": "after", "do": "kill"}
    assert stage.run(box.environ, plan=[killed]) == -signal.SIGKILL
    assert stage.run(box.environ) == 0
    assert box.state()["last_upload"] == max(time for (time,) in rows_of(box.table(), "time")).isoformat()


def test_a_state_written_by_this_version_has_the_keys_that_people_and_scripts_read(states: up.StateFile) -> None:
    """A golden file: a change of the format needs a new number. (matrix row 30)"""
    states.save(SAVED)
    document = json.loads(states.file.read_text())
    assert sorted(document) == sorted(["format", "checksum", *(field.name for field in dataclasses.fields(up.State))])
    golden = {"format": 1, "last_upload": "2026-01-01T00:00:00+00:00", "source_id": "box", "table": "t", "target": "x"}
    assert {key: document[key] for key in golden} == golden
    assert document["anchors"] == ["7 0123456789abcdef '2026-01-01'"]
