#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "connectorx>=0.4.6,<0.5",              # the peers; the uploader itself runs in an environment of its own
#     "databricks-sql-connector>=4.9,<4.10",
#     "deltalake>=1.6.6,<2",
#     "dlt[deltalake,sql-database]>=1.31,<2",
#     "pandas>=2.2,<4",
#     "pyarrow>=18,<27",
#     "sling_linux_amd64>=1.4.11,<2",        # the binary alone; of Linux on x86
#     "matplotlib>=3.9,<4",                  # the plot
# ]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""Measure the uploader beside the tools that one would take otherwise, in one run.

    uv run tests/benchmarks/run.py                    # 100,000 and 1,000,000 rows; about ten minutes
    uv run tests/benchmarks/run.py --large            # also 10,000,000, for the uploader alone
    uv run tests/benchmarks/run.py --rows 100000 --only delta start --runs 1

Every figure is of a whole process, from its start to its end: seconds on the clock, seconds of processor, peak memory,
as wait4(2) tells them. Tools take turns, medians count. After each run the rows in the target are counted, and a wrong
number ends the benchmark. Sections: see `SECTIONS`. Results go to a folder; with --docs also to docs/speed-evidence.md.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Start the benchmark, with the tests' helpers where it finds them."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks import bench

    bench.main(__doc__ or "")


if __name__ == "__main__":
    main()
