"""The documents are in step with the program: generated parts, links, chapters, one heading for each kind of error."""

from __future__ import annotations

import re

import pytest

import docs
import sqlite_to_databricks_uploader as up
from boxes import ROOT, SCRIPT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]


def test_what_is_generated_is_in_step() -> None:
    found = [str(file) for file in docs.stale()]
    assert found == [], "run `uv run python tests/docs.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: object) -> None:
    from pathlib import Path

    assert isinstance(page, Path)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_each_kind_of_error_has_its_heading_in_troubleshooting() -> None:
    headings = re.findall(r"^### (\w+)", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert set(up.error_kinds()) <= set(headings)


def test_the_scripts_docstring_lists_its_chapters_in_order() -> None:
    banners = re.findall(r"^# === (.+?) =+$", SCRIPT.read_text(), re.MULTILINE)
    listed = re.findall(r"^    ([A-Z][\w: ]+?)  +\S", up.__doc__ or "", re.MULTILINE)
    assert listed == banners


def test_messages_stand_in_troubleshooting_as_they_are_printed() -> None:
    """What stands in backquotes in the first cells, as far as it is the same each time, is in the script."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text().split("## The kinds of error")[0]
    script = re.sub(r"\{[^{}]*\}|%[ds.0-9f]+|\"\s*f?\"", "…", SCRIPT.read_text())
    missing = []
    for cell in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE):
        for message in re.findall(r"`([^`]*)`", cell):
            parts = re.findall(r"[a-z' ,;:%-]{6,}", message)
            missing += [message] if parts and not any(part.strip() in script for part in parts) else []
    assert missing == []
