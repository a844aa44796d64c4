"""Makes a Delta table of one file one of many: `python many_files.py TABLE FILES`.

What years of commits leave behind, in a moment: one commit names copies of the table's file, a checkpoint follows.
Copies are hard links. Prints the table's rows as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

# A file system allows 32,000 to 65,000 links to a file.
LINKS = 20_000


def multiply(folder: Path, files: int) -> int:
    """Let the table have so many files, each with the rows of the one that it has; how many rows it has then."""
    from deltalake import DeltaTable

    log = folder / "_delta_log"
    [added] = [
        json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines() if line.startswith('{"add')
    ]
    add, origin = added["add"], folder / added["add"]["path"]
    with (log / f"{1:020}.json").open("w") as commit:
        commit.write(json.dumps({"commitInfo": {"timestamp": add["modificationTime"], "operation": "WRITE"}}) + "\n")
        for number in range(1, files):
            path = f"part-{number:08}.zstd.parquet"
            if number % LINKS == 1:
                origin = Path(shutil.copy(origin, folder / path))
            else:
                os.link(origin, folder / path)
            commit.write(json.dumps({"add": {**add, "path": path}}) + "\n")
    table = DeltaTable(str(folder))
    table.create_checkpoint()
    return sum(table.get_add_actions(flatten=True).column("num_records").to_pylist())


if __name__ == "__main__":
    print(json.dumps({"rows": multiply(Path(sys.argv[1]), int(sys.argv[2]))}))
