from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sensor_table
from benchmarks import report
from benchmarks.measure import Results, Run, run
from benchmarks.targets import (
    BARE,
    BARE_IMPORTS,
    BARELY,
    BULK,
    COMPACT,
    CONNECTORX,
    CYCLE,
    DLT,
    EXECUTEMANY,
    FULL,
    GROUPS,
    HELP,
    INSERT,
    MORE,
    NOTHING,
    OURS,
    PANDAS,
    READ,
    SLING,
    VALUES,
    WRITE,
    ZEROBUS,
)
from warehouse import Warehouse

# The uploader's ways to the local warehouse's tables.
ROUTES = (INSERT, BULK, ZEROBUS)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
UPLOADER = ROOT / "databricks-uploader" / "sqlite_to_databricks_uploader.py"
LOCK = UPLOADER.with_name("requirements.lock")

# How many rows the slow ways into a warehouse send; their time for all rows is estimated from these.
EXECUTEMANY_ROWS, VALUES_ROWS = 40, 10_000

AGGREGATE = {"group_by": ["sensor_id", "minute"], "aggregations": {"temperature": ["avg", "max"], "readings": "count"}}

# The columns of a warehouse table for the sensor table.
WAREHOUSE_TYPES = {"INTEGER": "BIGINT", "REAL": "DOUBLE", "TEXT": "STRING"}


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the sections share. `own` and `peers` are Pythons, with the uploader's packages and with the others'."""

    folder: Path
    own: str
    peers: str | None
    sizes: Sequence[int]
    large: int | None
    more: int
    runs: int
    results: Results = dataclasses.field(default_factory=Results)

    @property
    def largest(self) -> int:
        """The rows of the largest table that all tools take."""
        return max(self.sizes)

    def database(self, rows: int) -> Path:
        """A sensor table of that many rows, made once; not to be changed."""
        file = self.folder / f"{rows}.db"
        if not file.exists():
            say(f"making a table of {rows:,} rows")
            sensor_table.create(file, rows)
        return file

    def environ(self, **more: str) -> dict[str, str]:
        """What a process gets to see."""
        return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ} | more

    def uploader(self, *flags: str, **environ: str) -> Run:
        """One run of the uploader."""
        return run([self.own, str(UPLOADER), *flags], self.environ(**environ))

    def rows_in(self, folder: Path) -> int:
        """The rows of the Delta table in a folder."""
        command = [self.own, str(HERE / "count.py"), str(folder)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=self.environ()).stdout)


def say(message: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def check(found: int, wanted: int, what: str) -> None:
    """A tool that sends fewer rows, or more, is not measured but refused."""
    if found != wanted:
        raise SystemExit(f"{what}: {found} rows arrived, not {wanted}")


@contextlib.contextmanager
def room(bench: Bench) -> Iterator[Path]:
    """An empty folder for one round, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        yield Path(folder)


# --- Delta by path, beside the peers and the limits ---

Work = Callable[[Path, Path], Run]


def to_delta(bench: Bench) -> dict[str, Work]:
    """The tools that append a database's new rows to a Delta table in a folder of theirs."""

    def uploader(database: Path, folder: Path) -> Run:
        return bench.uploader("--once", **delta_settings(database, folder))

    def peer(script: str, *arguments: str) -> Work:
        command = [str(bench.peers), str(HERE / "peers" / script)]
        return lambda database, folder: run([*command, str(database), str(folder), *arguments], bench.environ())

    tools: dict[str, Work] = {OURS: uploader}
    if bench.peers:
        tools[CONNECTORX] = peer("dlt_to_delta.py", "connectorx")
        tools[DLT] = peer("dlt_to_delta.py", "sqlalchemy")
        tools[PANDAS] = peer("pandas_to_delta.py")
    return tools


def delta_settings(database: Path, folder: Path) -> dict[str, str]:
    """The uploader's settings for a lakehouse in a folder."""
    return {
        "SQLITE_PATH": str(database),
        "LAKEHOUSE_PATH": str(folder / "lake"),
        "DATABRICKS_TABLE": "readings",
        "STATE_DIR": str(folder / "state"),
    }


def delta(bench: Bench) -> None:
    """Full load, new rows and nothing new, for each tool; reading alone and writing alone."""
    for rows in bench.sizes:
        for number in range(bench.runs):
            say(f"delta, {rows:,} rows, round {number + 1}")
            with room(bench) as folder:
                delta_round(bench, rows, folder, to_delta(bench))
                limits(bench, rows, folder)


def delta_round(bench: Bench, rows: int, folder: Path, tools: Mapping[str, Work]) -> None:
    """Each step once for each tool, all from the same file, which grows in between."""
    database = Path(shutil.copy(bench.database(rows), folder / "sensor.db"))
    for step, new, total in steps_of(bench, rows):
        if step == MORE:
            sensor_table.append(database, bench.more)
        for number, (tool, work) in enumerate(tools.items()):
            place = folder / str(number)
            place.mkdir(exist_ok=True)
            bench.results.of("delta", tool, step, rows, new).add(work(database, place))
            check(bench.rows_in(place), total, f"{tool}, {step}")
        if step == FULL and bench.peers:
            to_csv(bench, database, folder, rows)


def to_csv(bench: Bench, database: Path, folder: Path, rows: int) -> None:
    """What sling does without a network: all rows into a file."""
    command = [str(bench.peers), str(HERE / "peers" / "sling_to_csv.py"), str(database), str(folder)]
    bench.results.of("delta", SLING, FULL, rows, rows).add(run(command, bench.environ()))
    with open(folder / "rows.csv", "rb") as file:
        check(sum(1 for _ in file) - 1, rows, SLING)


def steps_of(bench: Bench, rows: int) -> list[tuple[str, int, int]]:
    """The steps of a round: name, new rows, and how many rows have arrived after it."""
    return [(FULL, rows, rows), (MORE, bench.more, rows + bench.more), (NOTHING, 0, rows + bench.more)]


def limits(bench: Bench, rows: int, folder: Path) -> None:
    """The parts alone, by their own clock."""
    script, database = str(HERE / "limits.py"), str(bench.database(rows))
    for tool, arguments in ((READ, ["read", database]), (WRITE, ["write", database, str(folder / "limit")])):
        done = run([bench.own, script, *arguments], bench.environ())
        check(done.told()["rows"], rows, tool)
        bench.results.of("delta", tool, FULL, rows, rows, "imports aside").add(done, done.told()["seconds"])


# --- The local warehouse ---


def warehouse(bench: Bench) -> None:
    """INSERT and the bulk route beside executemany and VALUES, on the smallest size; memory on the largest."""
    rows = min(bench.sizes)
    with room(bench) as folder, Warehouse(folder / "warehouse", "--client", "bench:secret") as server:
        for number in range(bench.runs):
            say(f"warehouse, {rows:,} rows, round {number + 1}")
            warehouse_round(bench, rows, folder, f"round{number}", server)
        if bench.largest > rows:
            warehouse_memory(bench, folder, server)


def warehouse_round(bench: Bench, rows: int, folder: Path, schema: str, server: Warehouse) -> None:
    """Each step once for each route, in tables of their own; the peers do a part of the full load."""
    make_schema(bench, server, schema)
    database = Path(shutil.copy(bench.database(rows), folder / f"{schema}.db"))
    for step, new, total in steps_of(bench, rows):
        if step == MORE:
            sensor_table.append(database, bench.more)
        for tool in ROUTES:
            done = send_to_warehouse(bench, server, database, folder, schema, tool)
            bench.results.of("warehouse", tool, step, rows, new).add(done)
            server.flush()
            check(bench.rows_in(server.table_path(f"{schema}.raw_{short(tool)}")), total, f"{tool}, {step}")
        if step == FULL and bench.peers:
            slow_inserts(bench, server, database, schema, rows)


def make_schema(bench: Bench, server: Warehouse, schema: str) -> None:
    """A schema with a volume and a table for each tool, the uploader's with the columns that --print-ddl recommends."""
    columns = [f"{name} {column_type(name, declared)}" for name, declared in sensor_table.COLUMNS.items()]
    own = [*columns, "databricks_inserted_at TIMESTAMP", "databricks_batch_id STRING"]
    statements = [f"CREATE SCHEMA {schema}", f"CREATE VOLUME {schema}.files"]
    statements += [f"CREATE TABLE {schema}.raw_{short(tool)} ({', '.join(own)})" for tool in ROUTES]
    statements += [f"CREATE TABLE {schema}.{short(tool)} ({', '.join(columns)})" for tool in (EXECUTEMANY, VALUES)]
    script = "import os, sys\nfrom databricks import sql\nimport json\n" + CONNECT_AND_RUN
    environ = bench.environ(**server.environment())
    subprocess.run([bench.own, "-c", script, json.dumps(statements)], check=True, env=environ)


CONNECT_AND_RUN = """
host, port = os.environ["DATABRICKS_HOST"].split(":")
with sql.connect(
    server_hostname=host, _port=int(port), http_path=os.environ["DATABRICKS_HTTP_PATH"], enable_telemetry=False,
    access_token=os.environ["DATABRICKS_TOKEN"], _tls_trusted_ca_file=os.environ["DATABRICKS_CA_FILE"],
) as connection, connection.cursor() as cursor:
    for statement in json.loads(sys.argv[1]):
        cursor.execute(statement)
"""


def column_type(name: str, declared: str) -> str:
    """A warehouse's type for a column of the sensor table."""
    return "TIMESTAMP" if name == "timestamp" else WAREHOUSE_TYPES[declared.split()[0]]


def short(tool: str) -> str:
    """A tool's table."""
    return f"by_{tool.split()[-1].lower()}"


def send_to_warehouse(bench: Bench, server: Warehouse, database: Path, folder: Path, schema: str, tool: str) -> Run:
    """One run of the uploader, by INSERT, with a volume or by Zerobus, whose answer doesn't wait for the table."""
    settings = {
        "SQLITE_PATH": str(database),
        "DATABRICKS_DATABASE": schema,
        "DATABRICKS_TABLE": short(tool),
        "STATE_DIR": str(folder / f"{schema}-{short(tool)}"),
    }
    if tool == BULK:
        settings["DATABRICKS_VOLUME"] = f"/Volumes/main/{schema}/files"
    if tool == ZEROBUS:
        settings |= {"DATABRICKS_DATABASE": f"main.{schema}", "UPLOAD_ON_DOUBT": "resend"}
        return bench.uploader("--once", **settings, **server.zerobus_environment())
    return bench.uploader("--once", **settings, **server.environment())


def slow_inserts(bench: Bench, server: Warehouse, database: Path, schema: str, rows: int) -> None:
    """The peers send some rows; the time for all of them is what the rest would take at the same pace."""
    script, environ = str(HERE / "peers" / "inserts_to_warehouse.py"), bench.environ(**server.environment())
    for tool, most, way in ((EXECUTEMANY, EXECUTEMANY_ROWS, "executemany"), (VALUES, VALUES_ROWS, "values")):
        count, table = min(most, rows), f"{schema}.{short(tool)}"
        done = run([str(bench.peers), script, str(database), table, str(count), way], environ)
        told = done.told()
        check(bench.rows_in(server.table_path(table)), count, tool)
        estimate = done.wall + told["seconds"] * (rows - count) / count
        note = f"estimated from {count:,} rows"
        bench.results.of("warehouse", tool, FULL, rows, rows, note).add(done, estimate)


def warehouse_memory(bench: Bench, folder: Path, server: Warehouse) -> None:
    """A full load of the largest table by each route, once."""
    make_schema(bench, server, "large")
    for tool in ROUTES:
        say(f"warehouse, {bench.largest:,} rows, {tool}")
        done = send_to_warehouse(bench, server, bench.database(bench.largest), folder, "large", tool)
        bench.results.of("warehouse memory", tool, FULL, bench.largest, bench.largest).add(done)
        server.flush()
        check(bench.rows_in(server.table_path(f"large.raw_{short(tool)}")), bench.largest, tool)


# --- Memory and scaling ---


def memory(bench: Bench) -> None:
    """Peak memory of a full load: raw rows from each size, and groups by sensor and minute from the largest."""
    for rows in sorted({bench.largest, bench.large or bench.largest}):
        say(f"memory, {rows:,} rows")
        with room(bench) as folder:
            done = bench.uploader("--once", **delta_settings(bench.database(rows), folder))
            bench.results.of("memory", OURS, FULL, rows, rows).add(done)
            check(bench.rows_in(folder), rows, "memory")
    with room(bench) as folder:
        say(f"memory of groups, {rows:,} rows")
        settings = {"ENABLE_AGGREGATE": "true", "AGGREGATE_CONFIG": json.dumps(AGGREGATE)}
        done = bench.uploader("--once", **delta_settings(bench.database(rows), folder), **settings)
        bench.results.of("memory", GROUPS, FULL, rows, rows).add(done)


def scaling(bench: Bench) -> None:
    """Cycles with 1,000 new rows: in small and large tables, then in the same ones without their index."""
    with room(bench) as folder:
        sizes = sorted({min(bench.sizes), bench.large or bench.largest})
        databases = {rows: scaled(bench, folder, rows) for rows in sizes}
        for section in ("scaling, index", "scaling, no index"):
            for number in range(max(3, bench.runs)):
                say(f"{section}, round {number + 1}")
                for rows, database in databases.items():
                    sensor_table.append(database, 1000)
                    done = bench.uploader("--once", **delta_settings(database, database.parent))
                    bench.results.of(section, OURS, CYCLE, rows, 1000).add(done)
            for database in databases.values():
                drop_index(database)


def drop_index(database: Path) -> None:
    """Leave the time column without an index."""
    connection = sqlite3.connect(database)
    connection.execute("DROP INDEX IF EXISTS idx_timestamp")
    connection.close()


def scaled(bench: Bench, folder: Path, rows: int) -> Path:
    """A table whose rows were all sent, in a folder of its own."""
    place = folder / str(rows)
    place.mkdir()
    database = Path(shutil.copy(bench.database(rows), place))
    bench.uploader("--once", **delta_settings(database, place))
    check(bench.rows_in(place), rows, "scaling")
    return database


# A table's files as years go by, and the rows of each; every five minutes is 105,000 commits a year.
FILES, FILE_ROWS = (1, 1_000, 10_000, 100_000), 10


def files(bench: Bench, counts: Sequence[int] = FILES) -> None:
    """Cycles with 1,000 new rows into Delta tables of ever more files, compacting, and a cycle after it."""
    for count in counts:
        say(f"{count:,} files")
        rows = count * FILE_ROWS
        with room(bench) as folder:
            database = bench.database(FILE_ROWS)
            settings = delta_settings(Path(shutil.copy(database, folder / "sensor.db")), folder)
            bench.uploader("--once", **settings)
            table = folder / "lake" / "raw_readings"
            run([bench.own, str(HERE / "many_files.py"), str(table), str(count)], bench.environ())
            for work, flag, new in (
                (OURS, "--once", 1000),
                (COMPACT, "--compact", 0),
                (f"{OURS}, then", "--once", 1000),
            ):
                for _ in range(bench.runs if new else 1):
                    sensor_table.append(folder / "sensor.db", new)
                    done, rows = bench.uploader(flag, **settings), rows + new
                    bench.results.of("files", work, f"{count:,} files", count * FILE_ROWS, new).add(done)
                    check(bench.rows_in(folder), rows, work)


# --- Start, rest and size ---


def start(bench: Bench) -> None:
    """A run with nothing to do, and --help, beside Python itself."""
    with room(bench) as folder:
        settings = delta_settings(bench.database(min(bench.sizes)), folder)
        bench.uploader("--once", **settings)
        commands: dict[tuple[str, str], Callable[[], Run]] = {
            (BARE, BARELY): lambda: run([bench.own, "-c", "pass"], bench.environ()),
            (BARE_IMPORTS, BARELY): lambda: run([bench.own, "-c", "import sqlite3, yaml"], bench.environ()),
            (OURS, HELP): lambda: bench.uploader("--help"),
            (OURS, NOTHING): lambda: bench.uploader("--once", **settings),
        }
        for _ in range(3 * bench.runs + 2):
            for (tool, step), command in commands.items():
                bench.results.of("start", tool, step, min(bench.sizes), 0).add(command())


def idle(bench: Bench, seconds: float = 20.0) -> None:
    """The continuous mode at rest: a long run less a short one leaves the seconds in which nothing happened."""
    import signal

    def lasting(seconds: float) -> Run:
        def end(process: int) -> None:
            time.sleep(seconds)
            os.kill(process, signal.SIGTERM)

        command = [bench.own, str(UPLOADER), "--interval", "1"]
        return run(command, bench.environ(**settings), end)

    with room(bench) as folder:
        settings = delta_settings(bench.database(min(bench.sizes)), folder)
        bench.uploader("--once", **settings)
        say(f"idle, {seconds:g} s")
        short_run, long_run = lasting(2.0), lasting(2.0 + seconds)
    rest = Run(long_run.wall - short_run.wall, long_run.cpu - short_run.cpu, long_run.peak, "")
    bench.results.of("idle", OURS, NOTHING, min(bench.sizes), 0).add(rest)


def size(bench: Bench) -> None:
    """The megabytes of an environment made from requirements.lock, without compiled files, its Python aside."""
    with room(bench) as folder:
        own = make_environment(folder / "own")
        content = [file for file in Path(own).parent.parent.rglob("*") if file.is_file() and not file.is_symlink()]
        megabytes = sum(file.stat().st_size for file in content if "__pycache__" not in file.parts) / 1e6
    bench.results.of("size", OURS, FULL, 0, 0).add(Run(megabytes, 0.0, 0.0, ""))


def make_environment(folder: Path) -> str:
    """A virtual environment with what the lock lists, of the Python that runs this; returns its Python."""
    python = folder / "bin" / "python"
    base = os.path.realpath(sys.executable)
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["uv", "venv", "--quiet", "--no-project", "--python", base, str(folder)], **quiet)
    install = ["uv", "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(LOCK)]
    subprocess.run(install, **quiet)
    return str(python)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "start": start,
    "idle": idle,
    "size": size,
    "delta": delta,
    "scaling": scaling,
    "memory": memory,
    "files": files,
    "warehouse": warehouse,
}


# --- Command line ---


def parse(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes, all_sections = [100_000, 1_000_000], list(SECTIONS)
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="sizes of the table, for all tools")
    parser.add_argument(
        "--large", action="store_true", help="also 10,000,000 rows, for the uploader alone (8 GB of disk)"
    )
    parser.add_argument("--more", type=int, default=10_000, help="new rows of the second step")
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure; the median counts")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=all_sections, help="these sections")
    parser.add_argument("--own-only", action="store_true", help="without the other tools")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where tables, environment and results go, and stay, so that later runs can do some sections again",
    )
    parser.add_argument(
        "--docs", action="store_true", help="write the figures into docs/speed-evidence.md, its .csv and docs/speed.png"
    )
    return parser.parse_args(arguments)


def main(description: str, arguments: Sequence[str] | None = None) -> None:
    """Run the sections and report. A section's results are kept as soon as it ends."""
    chosen = parse(description, arguments)
    with contextlib.ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="speed-")))
        bench, machine = prepared(chosen, folder.resolve()), report.machine()
        if kept := report.kept(bench.results, folder, chosen.only):
            machine += f"; {', '.join(kept)} earlier, by the same folder"
        for name in chosen.only:
            SECTIONS[name](bench)
            report.save(bench.results, report.figures(bench.results, machine), folder)
        content = report.figures(bench.results, machine)
        print(content)
        if chosen.docs:
            verdicts = report.verdicts(bench.results, machine)
            report.write_docs(bench.results, verdicts, ROOT / "docs", sys.executable)


def prepared(chosen: argparse.Namespace, folder: Path) -> Bench:
    """The bench that the command line asks for, with an environment for the uploader."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "own" / "bin" / "python"
    own = str(python) if python.exists() else make_environment(folder / "own")
    peers, large = None if chosen.own_only else sys.executable, 10_000_000 if chosen.large else None
    return Bench(folder, own, peers, sorted(chosen.rows), large, chosen.more, chosen.runs)
