"""Chapter State: durable, validated, locked."""

from __future__ import annotations

import json
import os
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sqlite_to_databricks_uploader as up

SAVED = up.State(last_upload="2026-01-01T00:00:00+00:00", source_id="box", position={"rowid": 7}, sequence=3)


@pytest.fixture
def states(tmp_path: Path) -> Iterator[up.StateFile]:
    with up.StateFile(tmp_path / "state") as opened:
        yield opened


def test_what_was_saved_is_loaded(states: up.StateFile) -> None:
    assert states.load() is None
    states.save(SAVED)
    assert states.load() == SAVED


def test_every_truncation_is_noticed(states: up.StateFile) -> None:
    states.save(SAVED)
    content = states.file.read_bytes()
    for length in range(len(content)):
        states.file.write_bytes(content[:length])
        with pytest.raises(up.StateError):
            states.load()


def test_every_changed_digit_is_noticed(states: up.StateFile) -> None:
    states.save(SAVED)
    content = states.file.read_text()
    for place, letter in enumerate(content):
        if letter.isdigit():
            states.file.write_text(content[:place] + str((int(letter) + 1) % 10) + content[place + 1 :])
            with pytest.raises(up.StateError):
                states.load()


@pytest.mark.parametrize("written", ["2026-01-01T00:00:00Z", "2026-01-01 01:00:00+01:00", "2026-01-01"])
def test_a_file_with_only_last_upload_is_accepted(states: up.StateFile, written: str) -> None:
    states.file.write_text(json.dumps({"last_upload": written}))
    assert states.load() == up.State(last_upload="2026-01-01T00:00:00+00:00")


def test_a_second_process_is_refused_with_status_75(states: up.StateFile) -> None:
    with pytest.raises(up.LockedError) as error, up.StateFile(states.directory):
        pass
    assert error.value.status == 75


def test_the_file_is_readable_by_its_owner_only(states: up.StateFile) -> None:
    states.save(SAVED)
    assert stat.S_IMODE(states.file.stat().st_mode) == 0o600


def test_a_planted_link_is_not_followed(states: up.StateFile, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    Path(f"{states.file}.tmp").symlink_to(victim)
    states.save(SAVED)
    assert victim.read_text() == "kept"


def test_a_failed_save_leaves_the_old_state(states: up.StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    states.save(SAVED)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(up.StateError, match="No space left"):
        states.save(up.State())
    assert states.load() == SAVED


def test_a_large_quarantine_is_counted_once_and_not_held_in_memory(
    states: up.StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have 100 MB, and is looked at in each cycle."""
    line = {"key": 1, "reason": "no number", "row": {"v": "x" * 1000}, "table": "t"}
    states.quarantine.put_lines(1, [line] * 20_000)
    tracemalloc.start()
    assert states.quarantine.count() == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    real, opened = Path.open, list[str]()

    def counted(path: Path, *given: Any, **named: Any) -> Any:
        opened.append(path.name)
        return real(path, *given, **named)

    monkeypatch.setattr(Path, "open", counted)
    states.quarantine.put_lines(2, [line] * 3)
    assert [states.quarantine.count() for _ in range(3)] == [20_003] * 3
    first = states.quarantine.files()[0]
    first.write_text(json.dumps(line) + "\n\n" + json.dumps(line))  # as an editor leaves it
    assert [states.quarantine.count() for _ in range(3)] == [5] * 3
    assert [name for name in opened if name == first.name] == [first.name] * 2  # once to write it
    assert opened.count("000000000002.jsonl") == 1
    first.unlink()
    assert states.quarantine.count() == 3
