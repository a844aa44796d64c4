"""Fixtures of all chapters."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from boxes import Box
from warehouse import trust_the_given

# The suite tries the same examples each time, so that a red run is a change's doing; the long run tries others.
# How long an example takes says nothing on a busy machine.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# Hundreds of processes import the same packages; where this is set each of them would compile all of them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

trust_the_given()

# These race real processes, deadlines and sockets; on a busy machine one in a thousand comes too late.
RACES = (
    "test_faults_sending.py", "test_warehouse.py", "test_demo.py", "test_ladder.py", "test_zerobus.py",
    "test_zerobus_stand_in.py", "test_local_warehouse.py", "test_readme.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a lost race another try; what is broken stays red."""
    for item in items:
        if item.path.name in RACES:
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """An edge box with an empty data directory."""
    return Box(tmp_path)
