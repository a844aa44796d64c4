"""sling: an SQLite table into a CSV file, the nearest thing to a lakehouse that it writes without a network.

    python sling_to_csv.py DATABASE FOLDER

The command is that of sling's page "Database to File". Its binary is the one in the package `sling_linux_amd64`; the
package `sling` would fetch it. It replaces this process, so that its own memory and processor are what is counted.

What it does not do here: a table format, a commit, a position to go on from. Telemetry is off.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def main(database: str, folder: Path) -> None:
    """Write all rows to `folder`/rows.csv."""
    package = importlib.util.find_spec("sling_linux_amd64")
    if package is None or package.origin is None:
        raise SystemExit("the package sling_linux_amd64 is not installed")
    binary = Path(package.origin).with_name("bin") / "sling-linux-amd64"
    binary.chmod(0o755)
    target = f"file://{folder / 'rows.csv'}"
    command = [str(binary), "run", "--src-conn", f"sqlite://{database}", "--src-stream", "main.sensor_readings"]
    environ = os.environ | {"SLING_DISABLE_TELEMETRY": "true", "SLING_HOME_DIR": str(folder / "home")}
    os.execve(binary, [*command, "--tgt-object", target], environ)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
