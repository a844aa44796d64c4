"""One siege: a producer that writes, an uploader that runs and runs, an adversary, and the oracle that counts."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

import sqlite_to_databricks_uploader as up
from adversary import CRASHED, DELTA_STEPS, FINE_STEPS, WAREHOUSE_STEPS, ZEROBUS_STEPS, Stage
from boxes import Box, rows_of
from gateway import Gateway
from torture.producer import NAMES, Row
from warehouse import Warehouse

PRODUCER = Path(__file__).parent / "producer.py"

# How long, in seconds, the server may work on a statement; a lost one can come to life so late.
TIMEOUT = 2

# What may go wrong with a committing statement, at the warehouse.
CALL_FAULTS: list[dict[str, Any]] = [{"action": "drop"}, {"action": "status", "status": 503, "retry_after": 1}]
ANSWERS: list[dict[str, Any]] = [
    {"action": action, "when": when, **more}
    for when in ("before", "after")
    for action, more in (
        ("drop", {}),
        ("reset", {}),
        ("status", {"status": 503}),
        ("status", {"status": 429}),
        ("status", {"status": 504}),
        ("error", {}),
    )
    if (action, more.get("status"), when) != ("status", 429, "after")  # a 429 says that nothing was carried out
]
# The same for rows that go by Zerobus, of which a part may have been taken. Refused records are no affair of a siege.
BY_ZEROBUS = [answer | more for answer in ANSWERS if answer["action"] != "error" for more in ({}, {"rows": 3})
              if not more or answer["when"] == "after"]  # fmt: skip
ZOMBIES: list[dict[str, Any]] = [{"action": "zombie", "seconds": seconds} for seconds in (0.5, 1.5, 3.0)]
DELAYS: list[dict[str, Any]] = [{"action": "delay", "seconds": 1.2, "when": when} for when in ("before", "after")]
CALLS = ("OpenSession", "^SELECT", "^SET", "^DESCRIBE", "^PUT", "^REMOVE", "FetchResults", "CloseSession")

# What a producer does to its table beside writing.
CHANGES = ("edit", "alter", "rebuild")

# Bytes of the largest request that a gateway lets pass, and what it does with larger ones.
LIMITS = (None, 1_000_000, 250_000, 64_000)
REFUSALS: tuple[int | str, ...] = (413, 400, 404, 429, 503, 200, "close", "reset")

NUMBERS = itertools.count(1)

DAMAGES = ("truncate", "flip", "empty", "zeros")


@dataclass(frozen=True)
class Scenario:
    """What is sent of a row: the settings, and the same in Python; None where it is nothing."""

    prefix: str
    settings: dict[str, Any]
    of: Callable[[Row], Row | None]


# One for each table.
SCENARIOS = (
    Scenario("raw_", {}, lambda row: row),
    Scenario(
        "filtered_", {"enable_filter": True, "filter_config": {"note": {">=": "row 3"}}},
        lambda row: row if row[3] >= "row 3" else None,
    ),
    Scenario(
        "secure_", {"enable_sanitize": True, "sanitize_config": {"note": "^row "}},
        lambda row: (*row[:3], row[3].removeprefix("row ")),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """A table on its way: the name of its target without the prefix, what is sent of it, and where its state lies."""

    table: str
    target: str
    scenario: Scenario
    state_file: Path


@dataclass
class Figures:
    """What a siege, or several, came to."""

    sieges: int = 0
    streams: int = 0
    runs: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    produced: int = 0
    arrived: int = 0
    unread: int = 0
    set_aside: int = 0
    missing: int = 0
    doubled: int = 0
    checks: int = 0

    def add(self, other: Figures) -> None:
        """Count another one in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        steps, kills = len(self.killed), sum(self.killed.values())
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        orders = ", ".join(f"{name} {count}" for name, count in sorted(self.orders.items()))
        return (
            f"{self.sieges} sieges of {self.streams} streams, {self.runs} runs of the uploader, {self.checks} comparisons with the ledger\n"
            f"killed {kills} times at {steps} steps: {', '.join(sorted(self.killed))}\n"
            f"faults injected, {sum(self.faults.values())}: {faults}\n"
            f"producer: {orders}\n"
            f"rows produced {self.produced}, arrived {self.arrived},"
            f" taken away by the producer before they were read {self.unread}, set aside in quarantine {self.set_aside}\n"
            f"rows missing {self.missing}, rows doubled {self.doubled}"
        )


class Ledger:
    """What the producer says that it wrote and took away."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.read = 0
        self.written: dict[int, Row] = {}
        self.removed: set[Any] = set()
        self.poisoned: set[Any] = set()

    def follow(self) -> None:
        """Read the lines that were added."""
        with self.file.open("rb") as opened:
            opened.seek(self.read)
            lines = opened.readlines()
            self.read = opened.tell()
        for line in map(json.loads, lines):
            if "written" in line:
                self.written[line["written"][2]] = tuple(line["written"])
            elif "poisoned" in line:
                self.poisoned.add(line["poisoned"])
            else:
                self.removed.add(line["removed"])


class Writer:
    """The producer's process, started anew where it was killed."""

    def __init__(self, box: Box, kinds: Sequence[str], journal: str, seed: int) -> None:
        self.box = box
        self.kinds = kinds
        self.journal = journal
        self.seed = seed
        self.ledger = Ledger(box.folder / "ledger.jsonl")
        self.ledger.file.touch()
        self.process = self.start(0)

    def start(self, first: int) -> subprocess.Popen[str]:
        """A process that goes on after a uid."""
        places = [str(self.box.database), str(self.ledger.file), ",".join(self.kinds), self.journal]
        command = [sys.executable, str(PRODUCER), *places, str(first), str(self.seed + first)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def order(self, what: str, *arguments: Any) -> None:
        """Give an order and wait for the answer."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"do": what, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            self.end()
            self.ledger.follow()
            self.process = self.start(max(self.ledger.written, default=0) + 1000)

    def end(self) -> None:
        """Let it finish."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.process.wait(timeout=200)


class Siege:
    """A box under attack, for a while: one stream for each kind of table, all in one process."""

    def __init__(
        self, folder: Path, route: str, kinds: Sequence[str], journal: str, seed: int, warehouse: Warehouse | None
    ) -> None:
        self.random = random.Random(seed)
        self.route = route
        self.warehouse = warehouse
        self.figures = Figures(sieges=1, streams=len(kinds))
        self.box = Box(folder)
        (folder / "state").mkdir()
        self.box.environ |= {"UPLOAD_LOOKBACK": "200"}
        if seed % 2:
            link = folder / "link" / "sensor.db"
            link.parent.mkdir()
            link.symlink_to(self.box.database)
            self.box.environ["SQLITE_PATH"] = str(link)
        # Large rows are copied and sorted there; a full disk is made by a filler.
        self.stage = Stage(folder, f"mount -t tmpfs -o size=64m tmpfs {folder / 'state'}")
        self.streams = self.begun(len(kinds))
        self.gateway: Gateway | None = None
        self.open = contextlib.ExitStack()
        if warehouse:
            self.point_at(warehouse)
        self.writer = Writer(self.box, kinds, journal, seed)
        self.awake, self.resent = 0.0, set[Row]()

    def begun(self, count: int) -> list[Stream]:
        """The streams; a single one is told without `tables`."""
        name, state = f"siege{next(NUMBERS)}", self.stage.seen(self.box.folder / "state")
        if count == 1:
            self.box.environ["DATABRICKS_TABLE"] = name
            return [Stream(NAMES[0], name, SCENARIOS[0], state / up.STATE_NAME)]
        streams = [
            Stream(table, f"{name}_{table}", scenario, state / f"{scenario.prefix}{table}" / up.STATE_NAME)
            for table, scenario in zip(NAMES[:count], SCENARIOS, strict=False)
        ]
        del self.box.environ["DATABRICKS_TABLE"]
        self.box.environ["UPLOAD_TABLES"] = json.dumps(
            [
                {"sqlite_table_name": stream.table, "databricks_table": stream.target, **stream.scenario.settings}
                for stream in streams
            ]
        )
        return streams

    def point_at(self, warehouse: Warehouse) -> None:
        """Make the tables behind the warehouse, which may stand behind a gateway."""
        marked = ", databricks_batch_id STRING" if "id" in self.route or self.route == "zerobus" else ""
        for stream in self.streams:
            name = f"s.{stream.scenario.prefix}{stream.target}"
            warehouse.sql(f"CREATE TABLE {name} (time TIMESTAMP, uid BIGINT, note STRING{marked})")
        del self.box.environ["LAKEHOUSE_PATH"]
        self.box.environ |= {**warehouse.environment(), "DATABRICKS_DATABASE": "s"}
        self.box.environ["DATABRICKS_STATEMENT_TIMEOUT"] = str(TIMEOUT)
        if self.route == "zerobus":
            del self.box.environ["DATABRICKS_TOKEN"]
            settled = {"DATABRICKS_DATABASE": "main.s", "UPLOAD_ON_DOUBT": "resend"}
            self.box.environ |= warehouse.zerobus_environment() | settled
        if "copy" in self.route:
            self.box.environ["DATABRICKS_VOLUME"] = "/Volumes/main/s/v"
        if self.random.random() < 0.5:
            self.gateway = self.open.enter_context(Gateway(warehouse))
            self.box.environ |= self.gateway.environment(zerobus=self.route == "zerobus")

    def last(self, seconds: float) -> Figures:
        """Attack for so long, then count for the last time."""
        end = time.monotonic() + seconds
        bursts = ["burst"] * (8 if self.gateway else 1)  # what is small passes any gateway
        while time.monotonic() < end:
            for _ in range(self.random.randrange(3, 9)):
                if time.monotonic() > end:
                    break
                self.attack()
                self.let_the_producer(
                    self.random.choice(["vacuum", "reopen", "crash", "delete", "recreate", *bursts, *CHANGES, ""])
                )
            self.compare()
            self.writer.order(self.random.choice(["recreate", "vacuum", "go", "go"]))
        self.compare()
        if self.gateway:
            self.figures.faults["refused by the gateway"] = self.gateway.refused
        self.figures.produced = len(self.writer.ledger.written)
        return self.figures

    def end(self) -> None:
        """End the processes."""
        self.writer.end()
        self.stage.close()
        self.open.close()

    # --- The adversary ---

    def attack(self) -> None:
        """One run of the uploader with something that goes wrong, or nothing."""
        kinds = ["kill", "kill", "kill", "stop", "fill", "damage", "nothing"]
        kinds += ["answer", "answer", "answer and kill", "zombie", "call", "delay"] if self.warehouse else []
        kind = self.random.choice(kinds)
        self.figures.faults[kind] += 1
        if kind == "damage":
            return self.damage()
        plan = [self.step("kill")] if "kill" in kind else [self.step("terminate")] if kind == "stop" else []
        if kind == "fill":
            plan = [{**self.step("fill"), "place": str(self.box.folder / "state")}]
        self.upset_the_warehouse(kind)
        self.run(plan, patience=1 if kind == "delay" else 0)
        if kind in ("zombie", "delay"):  # From now on: the run may have waited before.
            self.awake = time.monotonic() + 3 * TIMEOUT
        self.stage.seen(self.box.folder / "state" / "filler").unlink(missing_ok=True)
        if self.warehouse:
            self.warehouse.heal()

    def step(self, deed: str) -> dict[str, Any]:
        """A deed at some step of the run."""
        steps = {"delta": DELTA_STEPS, "zerobus": ZEROBUS_STEPS}.get(self.route, WAREHOUSE_STEPS)
        fine = self.random.random() < 0.3
        call = self.random.randrange(1, (30 if fine else 14) * len(self.streams))
        chosen = FINE_STEPS if fine else steps
        return {"at": chosen, "call": call, "when": self.random.choice(["before", "after"]), "do": deed}

    def upset_the_warehouse(self, kind: str) -> None:
        """Tell the warehouse to fail at the next commit, or at another call."""
        commit = "^COPY INTO" if "copy" in self.route else "^INSERT INTO"
        answers, calls = ANSWERS, list(CALLS)
        if self.route == "zerobus":
            commit, answers, calls = "ZerobusInsert", BY_ZEROBUS, [*CALLS, "ZerobusToken", "GetTable"]
        if self.warehouse is None:
            return
        if "answer" in kind:
            self.warehouse.fail(commit, **self.random.choice(answers), skip=self.random.randrange(3))
        elif kind == "zombie":
            self.warehouse.fail(commit, **self.random.choice(ZOMBIES), skip=self.random.randrange(2))
        elif kind == "delay":
            self.warehouse.fail(commit, **self.random.choice(DELAYS))
        elif kind == "call":
            self.warehouse.fail(
                self.random.choice(calls), **self.random.choice(CALL_FAULTS), skip=self.random.randrange(2)
            )

    def damage(self) -> None:
        """Damage a state: the uploader must stop, change nothing, and go on with the state as it was."""
        stream = self.random.choice(self.streams)
        if not stream.state_file.exists():
            return
        whole = stream.state_file.read_bytes()
        stream.state_file.write_bytes(damaged(whole, self.random))
        broken, before = stream.state_file.read_bytes(), self.arrived_by(stream)
        self.figures.runs += 1
        assert self.stage.run(self.box.environ, constants=self.constants()) == 1, self.stage.said()
        assert stream.state_file.read_bytes() == broken
        # A statement of an earlier run may still be carried out by a warehouse.
        assert self.arrived_by(stream) == before or self.warehouse
        stream.state_file.write_bytes(whole)

    def let_the_producer(self, do: str) -> None:
        """Order something of the producer, beside its writing."""
        if not do or self.random.random() < 0.5:
            return
        self.figures.orders[do] += 1
        self.writer.order(do, *([self.delivered_up_to()] if do == "delete" else []))

    def delivered_up_to(self) -> int:
        """Retention may take rows up to this uid: all of them arrived; the newest fifty of each table stay."""
        self.writer.ledger.follow()
        wanted, arrived = self.wanted(), set(self.arrived())
        first_absent = min((uid for uid, row in wanted.items() if row not in arrived), default=10**12)
        newest = max((row[2] for row in arrived), default=0)
        return min(first_absent - 1, newest - 50 * len(self.streams))

    # --- The uploader ---

    def constants(self) -> dict[str, Any]:
        """Clocks of one machine don't differ, and files are for more than ten rows."""
        return {"WarehouseTable.SLACK_SECONDS": 0, "CopyRoute.LEAST_ROWS": 10}

    def run(self, plan: list[dict[str, Any]], patience: float = 0) -> int:
        """One run, some time after the one before, unless a lost statement may still be alive."""
        self.figures.runs += 1
        if self.gateway:
            self.gateway.limit, self.gateway.refuse = self.random.choice(LIMITS), self.random.choice(REFUSALS)
        later = 60 if self.warehouse and time.monotonic() > self.awake else 0
        flags = ["--batch-rows", str(self.random.choice([20, 50, 1000]))] if self.random.random() < 0.7 else []
        killed = len(self.stage.done())
        status = self.stage.run(
            self.box.environ, *flags, plan=plan, later=later, patience=patience, constants=self.constants()
        )
        for deed in self.stage.done()[killed:]:
            if deed.startswith("kill "):
                self.figures.killed[deed.removeprefix("kill ")] += 1
        assert status in (0, 1, up.QUARANTINED, -signal.SIGKILL), f"{status}: {self.stage.said()}"
        assert status != CRASHED
        if "can't be told whether commit" in self.stage.said():
            self.figures.faults["doubt left to a person"] += 1
            later, before = 60 if time.monotonic() > self.awake else 0, {*self.arrived()}
            self.stage.run(self.box.environ, "--on-doubt", "resend", later=later, constants=self.constants())
            self.resent |= {row for row, count in Counter(self.arrived()).items() if count > 1 and row in before}
        return status

    def arrived(self) -> list[Row]:
        """The rows of all targets."""
        if self.route == "zerobus" and self.warehouse:
            self.warehouse.flush()
        return [row for stream in self.streams for row in self.arrived_by(stream)]

    def arrived_by(self, stream: Stream) -> list[Row]:
        """The rows of a stream's target, as the producer writes them."""
        table = f"{stream.scenario.prefix}{stream.target}"
        path = self.warehouse.table_path(f"s.{table}") if self.warehouse else self.box.folder / "lake" / table
        if not DeltaTable.is_deltatable(str(path)):
            return []
        rows = rows_of(DeltaTable(str(path)), "time, uid, note")
        return [(stream.table, iso(moment), uid, note) for moment, uid, note in rows]

    def wanted(self) -> dict[int, Row]:
        """The rows that the targets should hold, as the ledger has it so far."""
        of = {stream.table: stream.scenario.of for stream in self.streams}
        sent = {uid: of[row[0]](row) for uid, row in self.writer.ledger.written.items()}
        return {uid: row for uid, row in sent.items() if row}

    # --- The oracle ---

    def compare(self) -> None:
        """Let the producer pause, the uploader deliver undisturbed, and then compare with the ledger."""
        self.writer.order("pause")
        for _ in range(20):
            if self.run([]) in (0, up.QUARANTINED):
                break
        else:
            raise AssertionError(f"the uploader does not recover: {self.stage.said()}")
        self.figures.checks += 1
        self.writer.ledger.follow()
        wanted, removed = self.wanted(), self.writer.ledger.removed
        arrived = Counter(self.arrived())
        absent = [row for row in wanted.values() if row not in arrived]
        self.figures.arrived = sum(arrived.values())
        self.figures.unread = sum(1 for row in absent if row[2] in removed)
        self.figures.missing = len(absent) - self.figures.unread
        # A person who has rows sent again without a look at the table takes that risk.
        self.figures.doubled = sum(count - 1 for row, count in arrived.items() if row not in self.resent)
        invented = [row for row in arrived if row != wanted.get(row[2])]
        self.compare_quarantine()
        assert not (self.figures.missing or self.figures.doubled or invented), (
            f"{self.figures}\nabsent: {[r for r in absent if r[2] not in removed][:10]}\n"
            f"doubled: {[row for row, count in arrived.items() if count > 1][:10]}\ninvented: {invented[:10]}\n"
            f"{self.route}, {self.writer.kinds}, {self.writer.journal}; the last runs:\n"
            + "\n".join(self.stage.console.read_text().splitlines()[-60:])
        )

    def compare_quarantine(self) -> None:
        """Each row that can't be delivered is set aside once, unless the producer took it away."""
        files = [file for stream in self.streams for file in (stream.state_file.parent / "quarantine").glob("*.jsonl")]
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        kept = Counter(line["row"]["uid"] for line in lines)
        ledger = self.writer.ledger
        self.figures.set_aside = sum(kept.values())
        assert max(kept.values(), default=0) <= 1, kept
        assert set(kept) <= ledger.poisoned, set(kept) - ledger.poisoned
        assert ledger.poisoned - set(kept) <= ledger.removed, ledger.poisoned - set(kept) - ledger.removed


def iso(moment: dt.datetime) -> str:
    """A time as the producer writes it."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A state as a failing disk would give it back."""
    how = chance.choice(DAMAGES)
    if how == "flip":
        # A flipped bit in a digit; flipped spaces of JSON change nothing.
        place = chance.choice([index for index, byte in enumerate(content) if chr(byte).isdigit()])
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    return {"truncate": content[: chance.randrange(len(content))], "empty": b"", "zeros": bytes(len(content))}[how]
