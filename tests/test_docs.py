"""The documents are in step with the program: generated parts, links, chapters, the names of the kinds of error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import docs
import sqlite_to_databricks_uploader as up
from boxes import ROOT, SCRIPT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[!.]*/README.md")]


def test_what_is_generated_is_in_step() -> None:
    found = [str(file) for file in docs.stale()]
    assert found == [], "run `uv run python tests/docs.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_each_kind_of_error_is_named_in_troubleshooting() -> None:
    index = (ROOT / "docs" / "troubleshooting.md").read_text().split("## The kinds of error")[1]
    assert set(up.error_kinds()) <= set(re.findall(r"`(\w+)`", index))


def test_the_settings_without_a_flag_are_those_that_the_page_names() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    named = re.search(r"Secrets, ([^.]*) have no flag", page)
    assert named
    without = {name for name, setting in up.SETTINGS.items() if not setting.secret and not up.flags_of(name)}
    assert set(re.findall(r"`(\w+)`", named[1])) == without
    dashed = {name: [f"--{name.replace('_', '-')}"] for name in up.SETTINGS if up.flags_of(name)}
    dashed["sqlite_table_name"].append("--table")
    assert {name: up.flags_of(name) for name in dashed} == dashed


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"(?s)```.*?```", "", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_into_a_page_lead_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", page.read_text()):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


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


def test_images_are_named_by_this_version() -> None:
    """A job that asks for another one than the guide builds finds no image."""
    files = [
        file
        for folder in ("docs", "demo-network")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".md", ".yaml")
    ]
    named = {
        tag
        for file in files
        for tag in re.findall(r"(?:databricks-uploader:|build\.sh --tag )(v[\d.]+\d)", file.read_text())
    }
    assert named == {f"v{up.__version__}"}
