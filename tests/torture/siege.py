"""One siege: a producer that writes, an uploader that runs and runs, an adversary, and the oracle that counts."""

from __future__ import annotations

import datetime as dt
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

import sqlite_to_databricks_uploader as up
from adversary import CRASHED, DELTA_STEPS, FINE_STEPS, WAREHOUSE_STEPS, ZEROBUS_STEPS, Stage
from boxes import Box, rows_of
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

DAMAGES = ("truncate", "flip", "empty", "zeros")


@dataclass
class Figures:
    """What a siege, or several, came to."""

    sieges: int = 0
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
            f"{self.sieges} sieges, {self.runs} runs of the uploader, {self.checks} comparisons with the ledger\n"
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
        self.written: dict[int, tuple[str, int, str]] = {}
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
                self.written[line["written"][1]] = tuple(line["written"])
            elif "poisoned" in line:
                self.poisoned.add(line["poisoned"])
            else:
                self.removed.add(line["removed"])


class Writer:
    """The producer's process, started anew where it was killed."""

    def __init__(self, box: Box, table: str, journal: str, seed: int) -> None:
        self.box = box
        self.table = table
        self.journal = journal
        self.seed = seed
        self.ledger = Ledger(box.folder / "ledger.jsonl")
        self.ledger.file.touch()
        self.process = self.start(0)

    def start(self, first: int) -> subprocess.Popen[str]:
        """A process that goes on after a uid."""
        places = [str(self.box.database), str(self.ledger.file), self.table, self.journal]
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
        self.process.wait(timeout=60)


class Siege:
    """A box under attack, for a while."""

    def __init__(
        self, folder: Path, route: str, table: str, journal: str, seed: int, warehouse: Warehouse | None
    ) -> None:
        self.random = random.Random(seed)
        self.route = route
        self.warehouse = warehouse
        self.figures = Figures(sieges=1)
        self.box = Box(folder)
        (folder / "state").mkdir()
        self.box.environ |= {"UPLOAD_LOOKBACK": "200"}
        if seed % 2:
            link = folder / "link" / "sensor.db"
            link.parent.mkdir()
            link.symlink_to(self.box.database)
            self.box.environ["SQLITE_PATH"] = str(link)
        self.name = f"siege{abs(hash((seed, route, table)))}"
        if warehouse:
            self.point_at(warehouse)
        self.stage = Stage(folder, f"mount -t tmpfs -o size=8m tmpfs {folder / 'state'}")
        self.state_file = self.stage.seen(self.box.state_file)
        self.writer = Writer(self.box, table, journal, seed)
        self.awake = 0.0

    def point_at(self, warehouse: Warehouse) -> None:
        """Make the table behind the warehouse."""
        marked = ", databricks_batch_id STRING" if "id" in self.route or self.route == "zerobus" else ""
        self.box.behind(warehouse, f"s.raw_{self.name}", f"time TIMESTAMP, uid BIGINT, note STRING{marked}")
        self.box.environ["DATABRICKS_STATEMENT_TIMEOUT"] = str(TIMEOUT)
        if self.route == "zerobus":
            del self.box.environ["DATABRICKS_TOKEN"]
            settled = {"DATABRICKS_DATABASE": "main.s", "UPLOAD_ON_DOUBT": "resend"}
            self.box.environ |= warehouse.zerobus_environment() | settled
        if "copy" in self.route:
            self.box.environ["DATABRICKS_VOLUME"] = "/Volumes/main/s/v"

    def last(self, seconds: float) -> Figures:
        """Attack for so long, then count for the last time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(self.random.randrange(3, 9)):
                self.attack()
                self.let_the_producer(
                    self.random.choice(["vacuum", "reopen", "crash", "delete", "recreate", *CHANGES, "", ""])
                )
            self.compare()
            self.writer.order(self.random.choice(["recreate", "vacuum", "go", "go"]))
        self.compare()
        self.figures.produced = len(self.writer.ledger.written)
        return self.figures

    def end(self) -> None:
        """End the processes."""
        self.writer.end()
        self.stage.close()

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
        self.stage.seen(self.box.folder / "state" / "filler").unlink(missing_ok=True)
        if self.warehouse:
            self.warehouse.heal()

    def step(self, deed: str) -> dict[str, Any]:
        """A deed at some step of the run."""
        steps = {"delta": DELTA_STEPS, "zerobus": ZEROBUS_STEPS}.get(self.route, WAREHOUSE_STEPS)
        fine = self.random.random() < 0.3
        call = self.random.randrange(1, 30 if fine else 14)
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
            self.awake = time.monotonic() + 3 * TIMEOUT
        elif kind == "delay":
            self.warehouse.fail(commit, **self.random.choice(DELAYS))
            self.awake = time.monotonic() + 3 * TIMEOUT
        elif kind == "call":
            self.warehouse.fail(
                self.random.choice(calls), **self.random.choice(CALL_FAULTS), skip=self.random.randrange(2)
            )

    def damage(self) -> None:
        """Damage the state: the uploader must stop, change nothing, and go on with the state as it was."""
        if not self.state_file.exists():
            return
        whole = self.state_file.read_bytes()
        self.state_file.write_bytes(damaged(whole, self.random))
        broken, before = self.state_file.read_bytes(), self.arrived()
        self.figures.runs += 1
        assert self.stage.run(self.box.environ, constants=self.constants()) == 1, self.stage.said()
        assert self.state_file.read_bytes() == broken
        # A statement of an earlier run may still be carried out by a warehouse.
        assert self.arrived() == before or self.warehouse
        self.state_file.write_bytes(whole)

    def let_the_producer(self, do: str) -> None:
        """Order something of the producer, beside its writing."""
        if not do or self.random.random() < 0.5:
            return
        self.figures.orders[do] += 1
        self.writer.order(do, *([self.delivered_up_to()] if do == "delete" else []))

    def delivered_up_to(self) -> int:
        """Retention may take rows up to this uid: all of them arrived; the newest fifty stay."""
        self.writer.ledger.follow()
        arrived = {uid for _, uid, _ in self.arrived()}
        first_absent = min((uid for uid in self.writer.ledger.written if uid not in arrived), default=10**12)
        return min(first_absent - 1, max(arrived, default=0) - 50)

    # --- The uploader ---

    def constants(self) -> dict[str, Any]:
        """Clocks of one machine don't differ, and files are for more than ten rows."""
        return {"WarehouseTable.SLACK_SECONDS": 0, "CopyRoute.LEAST_ROWS": 10}

    def run(self, plan: list[dict[str, Any]], patience: float = 0) -> int:
        """One run, some time after the one before, unless a lost statement may still be alive."""
        self.figures.runs += 1
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
            later = 60 if time.monotonic() > self.awake else 0
            self.stage.run(self.box.environ, "--on-doubt", "resend", later=later, constants=self.constants())
        return status

    def arrived(self) -> list[tuple[str, int, str]]:
        """The rows of the target, as the producer writes them."""
        path = (
            self.warehouse.table_path(f"s.raw_{self.name}") if self.warehouse else self.box.folder / "lake/raw_readings"
        )
        if not DeltaTable.is_deltatable(str(path)):
            return []
        if self.route == "zerobus" and self.warehouse:
            self.warehouse.flush()
        return [(iso(moment), uid, note) for moment, uid, note in rows_of(DeltaTable(str(path)), "time, uid, note")]

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
        written, removed = self.writer.ledger.written, self.writer.ledger.removed
        arrived = Counter(self.arrived())
        absent = [row for uid, row in written.items() if row not in arrived]
        self.figures.arrived = sum(arrived.values())
        self.figures.unread = sum(1 for row in absent if row[1] in removed)
        self.figures.missing = len(absent) - self.figures.unread
        self.figures.doubled = sum(arrived.values()) - len(arrived)
        invented = [row for row in arrived if row[1] not in written]
        self.compare_quarantine()
        assert not (self.figures.missing or self.figures.doubled or invented), (
            f"{self.figures}\nabsent: {[r for r in absent if r[1] not in removed][:10]}\n"
            f"doubled: {[row for row, count in arrived.items() if count > 1][:10]}\ninvented: {invented[:10]}\n"
            f"{self.route}, {self.writer.table}, {self.writer.journal}; the last runs:\n"
            + "\n".join(self.stage.console.read_text().splitlines()[-60:])
        )

    def compare_quarantine(self) -> None:
        """Each row that can't be delivered is set aside once, unless the producer took it away."""
        files = sorted((self.state_file.parent / "quarantine").glob("*.jsonl"))
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
