"""The torture test: whatever is done to the uploader, the target holds what the producer's ledger says.

The short form runs with the suite. The long one: `uv run pytest tests/torture --minutes 20 -s`.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_faults_source import as_root
from torture.producer import NAMES
from torture.siege import Figures, Siege
from warehouse import Warehouse

ROUTES = ("delta", "insert", "insert with id", "copy", "copy with id", "zerobus")
TABLES = ("counted", "keyed", "plain", "without rowid", "mixed times")

# Seconds of each siege in the short form.
SHORT = 4.0


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("warehouse"), "--client", "box:secret", "--zerobus-delay", "0") as started:
        started.sql("CREATE SCHEMA s")
        started.sql("CREATE VOLUME s.v")
        yield started


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(bool(as_root()), reason=as_root() or "-")
def test_whatever_is_done_to_it_nothing_is_missing_and_nothing_doubled(
    tmp_path: Path, warehouse: Warehouse, minutes: float, seed: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sieges of all routes and all kinds of tables in turn, every other of three tables; the figures are printed."""
    # The short form makes the same choices each time, so that a red run of it is a change's doing, not chance's.
    chance, total = random.Random(seed if minutes or seed is not None else 1), Figures()
    end = time.monotonic() + minutes * 60
    for number, (route, kinds) in enumerate(turns(chance)):
        if number >= len(ROUTES) and time.monotonic() > end:
            break
        folder = tmp_path / str(number)
        folder.mkdir()
        siege = Siege(
            folder, route, kinds, chance.choice(["wal", "delete"]), chance.randrange(10**6),
            None if route == "delta" else warehouse,
        )  # fmt: skip
        try:
            total.add(siege.last(SHORT if not minutes else 30))
        finally:
            siege.end()
    with capsys.disabled():
        print(f"\n{total}")
    assert (total.missing, total.doubled) == (0, 0)


def turns(chance: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Every route with every kind of table, in an order that the seed decides; every other time two more beside it."""
    while True:
        tables = [chance.sample(TABLES, len(TABLES)) for _ in ROUTES]
        for turn, index in itertools.product(range(len(TABLES)), range(len(ROUTES))):
            count = 1 if (turn + index) % 2 else len(NAMES)
            yield ROUTES[index], [tables[index][(turn + beside) % len(TABLES)] for beside in range(count)]
