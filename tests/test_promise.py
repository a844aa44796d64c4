"""docs/delivery-evidence.md names a test behind each claim of docs/delivery.md, and the tests name the faults of its list."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PROMISE, PAGE = ((TESTS.parent / "docs" / f"{name}.md").read_text() for name in ("delivery", "delivery-evidence"))


def sources() -> str:
    """The text of all test files."""
    return "\n".join(file.read_text() for file in TESTS.rglob("test_*.py"))


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    defined = set(re.findall(r"^def (test_\w+)", sources(), re.MULTILINE))
    assert len(named) > 70
    assert named <= defined, named - defined


def test_every_fault_has_its_row_and_every_row_its_test() -> None:
    listed = re.findall(r"^\| (\d+) \|.*\| (`test_\w+`(?:, `test_\w+`)*) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in listed] == list(range(1, 79))


def test_the_promise_refers_to_rows_that_are_there() -> None:
    cells = re.findall(r"^\| .* \| ([\d, ]+) \|$", PROMISE, re.MULTILINE)
    assert len(cells) == 16
    assert {int(number) for cell in cells for number in cell.split(",")} <= set(range(1, 79))


def test_tests_that_name_faults_name_known_ones() -> None:
    mentions = re.findall(r"\(matrix rows? ([\d, and]+)", sources())
    numbers = {int(number) for mention in mentions for number in re.findall(r"\d+", mention)}
    assert numbers <= set(range(1, 79))
