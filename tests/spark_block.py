# /// script
# requires-python = ">=3.11"
# dependencies = ["pysail>=0.7.2,<0.8", "pyspark-client>=4.1,<4.3"]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""Run a block of PySpark, read from the input, on Sail, a Spark engine: `spark_block.py NAME=DIRECTORY ...`.

Each directory holds a Delta table, and the block finds it under that name. `spark` is there, as in a notebook.
"""

from __future__ import annotations

import sys

from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession


def main() -> None:
    server = SparkConnectServer()
    server.start()
    _, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://localhost:{port}").getOrCreate()
    for pair in sys.argv[1:]:
        name, _, directory = pair.partition("=")
        spark.sql(f"CREATE DATABASE IF NOT EXISTS {name.rpartition('.')[0]}")
        spark.sql(f"CREATE TABLE {name} USING DELTA LOCATION '{directory}'")
    exec(compile(sys.stdin.read(), "block", "exec"), {"spark": spark})
    spark.stop()
    server.stop()


if __name__ == "__main__":
    main()
