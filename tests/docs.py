"""Keeps the documents in step: `uv run python tests/docs.py` writes their generated parts, the tests compare them.

A fenced block after `<!-- run: ARGUMENTS -->` is what the uploader prints for these arguments on the sample, in
the order in which the blocks stand. Times, identifiers and paths that differ from run to run are written as …
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "databricks-uploader"))

import sqlite_to_databricks_uploader as up  # noqa: E402
from boxes import PROGRAM, SAMPLE, SCRIPT  # noqa: E402

GENERATED = ("README.md", "docs/configuration.md", "docs/operation.md", "docs/troubleshooting.md")
EXAMPLE = SCRIPT.with_name("databricks-uploader-config.yaml.example")
BLOCK = re.compile(r"(<!-- run: (?P<arguments>.*?) -->\n(?:.*?\n)??```\w*\n)(?P<shown>.*?)(```)", re.DOTALL)
TABLE = re.compile(r"(<!-- settings -->\n)(.*?)(<!-- end of settings -->)", re.DOTALL)
ERRORS = re.compile(r"(<!-- errors -->\n)(.*?)(<!-- end of errors -->)", re.DOTALL)
VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (?=INFO|WARNING|ERROR)"), ""),
    (re.compile(r"\b[0-9a-f]{32}\b"), "…"),
    (re.compile(r"(ended) \d+ (seconds)"), r"\1 … \2"),
    (re.compile(r"(lag_seconds +)\d+"), r"\1…"),
    (re.compile(r"(last_cycle +)\S+"), r"\1…"),
    (re.compile(r"\d+\.\d s;"), "… s;"),
    (re.compile(r"(last cycle +)\d+ s ago"), r"\1… s ago"),
)


def document(text: str, folder: Path) -> str:
    """A document with its generated parts made anew."""
    text = TABLE.sub(lambda found: found[1] + settings_table() + found[3], text)
    text = ERRORS.sub(lambda found: found[1] + errors_index() + found[3], text)
    return BLOCK.sub(lambda found: found[1] + output(found["arguments"], folder) + found[4], text)


def settings_table() -> str:
    """The table of settings of docs/configuration.md."""
    lines = ["| YAML key | variable | default | meaning |", "|---|---|---|---|"]
    for name, setting in up.SETTINGS.items():
        named = f"{in_code([name, *setting.aliases])} | {in_code(up.variables_of(setting))}"
        lines.append(f"| {named} | {shown_default(setting)} | {setting.help} |")
    return "\n".join(lines) + "\n"


def errors_index() -> str:
    """The names of all kinds of error, by the status that they end with."""
    by_status: dict[int, list[str]] = {}
    for name, kind in sorted(up.error_kinds().items()):
        by_status.setdefault(kind.status, []).append(name)
    return "".join(f"- status {status}: {in_code(names)}\n" for status, names in sorted(by_status.items()))


def in_code(words: Iterable[str]) -> str:
    """Words in backquotes."""
    return " ".join(f"`{word}`" for word in words)


def shown_default(setting: up.Setting) -> str:
    """A default as YAML writes it: 300, not 300.0; false, not False."""
    if setting.shown or setting.default is None:
        return setting.shown or "-"
    if isinstance(setting.default, float):
        return f"`{setting.default:g}`"
    return f"`{json.dumps(setting.default)}`".replace('"', "")


def example_config() -> str:
    """databricks-uploader-config.yaml.example: each setting, those of a first run filled in."""
    lines = ["# Every setting of the uploader. Flags and variables override this file.", ""]
    for name, setting in up.SETTINGS.items():
        lines.append(f"# {setting.help}")
        if setting.secret:
            lines += [f"# Prefer {setting.variables[0]} or {setting.variables[0]}_FILE to a line here.", f"# {name}:"]
        elif setting.example:
            lines.append(f"{name}: {json.dumps(setting.example)}")
        else:
            is_word = setting.shown.startswith(tuple(string.ascii_letters))  # An example would be taken at its word.
            lines.append(f"# {name}: {'# ' * is_word}{shown_default(setting).strip('`-')}".rstrip())
        lines.append("")
    return "\n".join(lines)


def output(arguments: str, folder: Path) -> str:
    """What a run on a copy of the sample prints, stderr first, with a lakehouse in `folder`."""
    sample = folder / "data" / SAMPLE.name
    if not sample.exists():
        sample.parent.mkdir()
        shutil.copy(SAMPLE, sample)
    environ = {
        "SQLITE_PATH": str(sample),
        "LAKEHOUSE_PATH": str(folder / "lake"),
        "DATABRICKS_TABLE": "sensor_readings",
        "STATE_DIR": str(folder / "state"),
    }
    program = shlex.join(PROGRAM)
    command = f"{program} {arguments.replace('$0', program)}"
    done = subprocess.run(
        ["bash", "-c", command], env={**environ, "PATH": os.environ["PATH"]}, capture_output=True, text=True, cwd=folder
    )
    printed = (done.stderr + done.stdout).replace(str(folder), "")
    for pattern, stand_in in VOLATILE:
        printed = pattern.sub(stand_in, printed)
    return printed.lstrip("\n")


def stale() -> dict[Path, str]:
    """The files whose generated parts are out of step, with what they should be."""
    found = {}
    for name in GENERATED:
        file = ROOT / name
        # Always as long a path: columns of tables are as wide as what stands in them.
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            fresh = document(file.read_text(), Path(folder))
        if fresh != file.read_text():
            found[file] = fresh
    if EXAMPLE.read_text() != example_config():
        found[EXAMPLE] = example_config()
    return found


if __name__ == "__main__":
    for file, fresh in stale().items():
        file.write_text(fresh)
        print(f"wrote {file.relative_to(ROOT)}")
