"""docs/delivery-evidence.csv names a test behind each claim of docs/delivery.md, and the tests name the faults of its list."""

from __future__ import annotations

import csv
import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
EVIDENCE = list(csv.DictReader((DOCS / "delivery-evidence.csv").read_text().splitlines()))
NUMBERS = [int(row["number"]) for row in EVIDENCE]


def sources() -> str:
    """The text of all test files."""
    return "\n".join(file.read_text() for file in TESTS.rglob("test_*.py"))


def test_every_fault_has_tests_that_exist() -> None:
    defined = set(re.findall(r"^def (test_\w+)", sources(), re.MULTILINE))
    for row in EVIDENCE:
        named = set(row["tests"].split())
        assert named, row
        assert named <= defined, named - defined
    assert list(range(1, len(EVIDENCE) + 1)) == NUMBERS
    assert f"lists {len(EVIDENCE)} faults" in (DOCS / "delivery-evidence.md").read_text()


def test_the_promise_refers_to_faults_of_the_list() -> None:
    cells = re.findall(r"^\| .* \| ([\d, ]+) \|$", (DOCS / "delivery.md").read_text(), re.MULTILINE)
    assert len(cells) == 14
    assert {int(number) for cell in cells for number in cell.split(",")} <= set(NUMBERS)


def test_tests_that_name_faults_name_known_ones() -> None:
    mentions = re.findall(r"\(matrix rows? ([\d, and]+)", sources())
    numbers = {int(number) for mention in mentions for number in re.findall(r"\d+", mention)}
    assert numbers <= set(NUMBERS)
