"""The copies of the script's dependency list and version, and the lock that the image installs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import sqlite_to_databricks_uploader as up
from boxes import OFFLINE, ROOT, SCRIPT

BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")  # the reference expression of PEP 723
LOCK = SCRIPT.with_name("requirements.lock")


def inline() -> dict[str, Any]:
    """The script's inline metadata."""
    found = BLOCK.search(SCRIPT.read_text())
    assert found
    return tomllib.loads("".join(line[2:] for line in found["content"].splitlines(keepends=True)))


def project() -> dict[str, Any]:
    whole: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return whole


def test_the_project_lists_the_same_dependencies_python_and_version_as_the_script() -> None:
    assert inline()["dependencies"] == project()["dependencies"]
    assert inline()["requires-python"] == project()["requires-python"]
    assert project()["version"] == up.__version__


def test_the_script_is_fixed_in_time_and_its_dependencies_are_bounded() -> None:
    assert inline()["tool"]["uv"]["exclude-newer"]
    assert all(re.search(r">=.*,<", dependency) for dependency in inline()["dependencies"])


def test_the_lock_has_every_dependency_with_hashes_and_names_no_address() -> None:
    content = LOCK.read_text()
    for dependency in inline()["dependencies"]:
        name = re.split("[<>=]", dependency)[0]
        assert re.search(rf"(?m)^{name}==\S+ \\\n +--hash=sha256:", content), name
    assert "://" not in content


@pytest.mark.network
def test_the_lock_is_what_the_inline_block_resolves_to(tmp_path: Path) -> None:
    copy = Path(shutil.copy(SCRIPT, tmp_path))
    locked = subprocess.run(["uv", "lock", "--quiet", "--script", str(copy)], capture_output=True, text=True)
    if re.search(OFFLINE, locked.stderr):
        pytest.skip("no package index can be reached, so nothing was resolved")
    assert locked.returncode == 0, locked.stderr
    export = [
        "uv",
        "export",
        "--quiet",
        "--script",
        str(copy),
        "--locked",
        "--format",
        "requirements-txt",
        "--no-header",
    ]
    exported = subprocess.run(export, check=True, capture_output=True, text=True).stdout
    assert exported == LOCK.read_text()


def test_no_file_of_the_repository_names_a_registry_or_carries_a_lock_with_addresses() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in tracked if name.endswith(("uv.lock", ".py.lock", "package-lock.json"))]
    host = "pypi" + ".org"
    assert not [name for name in tracked if host in (ROOT / name).read_text(errors="replace")]
