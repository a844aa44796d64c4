"""Fixtures of all chapters."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import sqlite_to_databricks_uploader as up
from adversary import Stage
from boxes import LONG, Box
from warehouse import PRINCIPAL, Warehouse, trust_the_given

# The suite tries the same examples each time, so that a red run is a change's doing; the long run tries others.
# How long an example takes says nothing on a busy machine.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None)
settings.load_profile("long" if LONG else "suite")

# Hundreds of processes import the same packages; where this is set each of them would compile all of them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell's job in the background ignores SIGINT, and so would all processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

trust_the_given()


def parse_once() -> None:
    """Parse equal command lines once: to make the parser takes as long as a tenth of a run, and there are thousands."""
    parse = up.parse_arguments
    known = functools.cache(lambda *words: parse(words))
    setattr(up, "parse_arguments", lambda argv: {**known(*argv)})  # noqa: B010 - typed as a function


parse_once()

# Files of tests are kept in memory where it has room for all of them: what is written to a disk for good, as the state
# and each transaction of SQLite's are, is waited for there, thousands of times.
MEMORY = Path("/dev/shm")
MAY_RUN = MEMORY.is_dir() and not os.statvfs(MEMORY).f_flag & getattr(os, "ST_NOEXEC", 0)
if "TMPDIR" not in os.environ and MAY_RUN and shutil.disk_usage(MEMORY).free > 6 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# These race real processes, deadlines and sockets; on a busy machine one in a thousand comes too late.
RACES = (
    "test_faults_sending.py", "test_warehouse.py", "test_demo.py", "test_ladder.py", "test_zerobus.py",
    "test_zerobus_stand_in.py", "test_local_warehouse.py", "test_readme.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and give a lost race another try; what is broken stays red."""
    items.sort(key=lambda item: item.path.parent.name != "torture")
    for item in items:
        if item.path.name in RACES:
            item.add_marker(pytest.mark.flaky(reruns=2))
        if LONG:
            item.add_marker(pytest.mark.timeout(0))


def pytest_collection_finish() -> None:
    """Let the collector of garbage look no more at what stays, thousands of tests and all modules, and less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave nothing in memory unless there is something to look at."""
    place: Path = getattr(session.config, "_tmp_path_factory").getbasetemp()  # noqa: B009 - is not declared
    if exitstatus == 0 and not hasattr(session.config, "workerinput") and place.is_relative_to(MEMORY):
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Where runs are processes of their own, which may be killed."""
    with Stage(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A local warehouse with the schema `s` and the volume `s.v`."""
    with Warehouse(tmp_path_factory.mktemp("warehouse"), "--client", PRINCIPAL) as started:
        started.sql("CREATE SCHEMA s")
        started.sql("CREATE VOLUME s.v")
        yield started


@pytest.fixture
def warehouse(running: Warehouse) -> Iterator[Warehouse]:
    """The same, which nothing goes wrong with unless it is told to. The tables of a test end with it."""
    before = len(running.made)
    yield running
    running.heal()
    running.drop(running.made[before:])


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """An edge box with an empty data directory."""
    return Box(tmp_path)
