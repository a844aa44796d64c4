"""The README's steps, as a person types them into a terminal of 100 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxes import ROOT

README = (ROOT / "README.md").read_text()


def commands(heading: str) -> list[str]:
    """The indented commands under a heading, each in one piece."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)


def typed(command: str) -> str:
    """What a command prints on a terminal of 100 columns, and its status at the end."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    # uv would fetch packages: the interpreter that has them stands in for it.
    command = command.replace("uv run databricks-uploader/", f"{shlex.quote(sys.executable)} databricks-uploader/")
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm", "HOME": "/nowhere"}
    process = subprocess.Popen(["bash", "-c", command], cwd=ROOT, env=environ, stdin=side, stdout=side, stderr=side)
    os.close(side)
    seen = bytearray()
    try:
        while part := os.read(main, 65536):
            seen.extend(part)
    except OSError:
        pass  # the other end was closed
    os.close(main)
    return f"{seen.decode()}\nstatus {process.wait(60)}"


@pytest.fixture
def short() -> Iterator[str]:
    """A folder with a path as short as the README's."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as folder:
        yield folder


def test_the_first_minute_does_what_the_readme_says(short: str) -> None:
    upload, look, _network = (command.replace("/tmp/", f"{short}/") for command in commands("The first minute"))
    said = typed(upload)
    assert "3000 rows sent in 1 commit" in said and said.endswith("status 0")
    assert "rows/s]" not in said and "Traceback" not in said
    assert "--run-query INFO shows what arrived" in said
    shown = [line.rstrip() for line in typed(look).splitlines()]
    for line in re.findall(r"```\n(.*?)```", README.split("## The first minute")[1], re.DOTALL)[0].splitlines():
        assert line in shown
    assert max(map(len, shown)) <= 100
    assert "nothing new" in typed(upload)


def test_the_demo_that_the_readme_names_is_there() -> None:
    [_, _, network] = commands("The first minute")
    assert Path(ROOT, network.split()[-1]).is_file()


def test_a_wide_result_fits_the_terminal(short: str) -> None:
    upload = commands("The first minute")[0].replace("/tmp/", f"{short}/")
    shown = typed(upload.replace("--once", "--dry-run"))
    assert "-[ row 1 ]" in shown
    assert max(len(line) for line in shown.split("-[ row 1 ]")[1].splitlines()) <= 100
