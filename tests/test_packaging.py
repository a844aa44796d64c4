"""The copies of the script's dependency list."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "databricks-uploader" / "sqlite_to_databricks_uploader.py"
BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


def test_the_project_lists_the_same_dependencies_as_the_script() -> None:
    content = BLOCK.search(SCRIPT.read_text())["content"]
    inline = tomllib.loads("".join(line[2:] for line in content.splitlines(keepends=True)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert inline["dependencies"] == project["dependencies"]
    assert inline["requires-python"] == project["requires-python"]


def test_the_example_file_is_generated_from_the_declaration() -> None:
    import sqlite_to_databricks_uploader as up

    example = SCRIPT.with_name("databricks-uploader-config.yaml.example")
    assert example.read_text() == up.example_config()
