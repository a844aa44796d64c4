"""The producer of the torture test: a process that writes a table as it likes and keeps a ledger of its own.

    python producer.py DATABASE LEDGER TABLE JOURNAL FIRST SEED

TABLE is one of TABLES, JOURNAL wal or delete. It writes all the time; a line on standard input is an order, which it
acknowledges with a line. The ledger has one JSON line for each row: `written` or `poisoned`, after the commit, and
`removed`, before the row goes.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import select
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

TABLES = {
    "counted": "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, uid INTEGER, note TEXT, extra REAL)",
    "keyed": "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, uid INTEGER, note TEXT, extra REAL)",
    "plain": "CREATE TABLE t (time TEXT, uid INTEGER, note TEXT, extra REAL)",
    "without rowid": "CREATE TABLE t (uid INTEGER PRIMARY KEY, time TEXT, note TEXT, extra REAL) WITHOUT ROWID",
    "mixed times": "CREATE TABLE t (uid INTEGER PRIMARY KEY, time, note TEXT, extra REAL) WITHOUT ROWID",
}

# Tables that are read by time: there an edited row of an unchanged time is a new one.
BY_TIME = ("without rowid", "mixed times")

INSERT = "INSERT INTO t (time, uid, note) VALUES (?, ?, ?)"

# A time in the far future, in milliseconds since the beginning of 2025.
FUTURE = 75 * 365 * 86_400_000

# So many milliseconds a row may be late, half of what the uploader looks back by default.
LATE = 150_000


def time_of(milliseconds: int) -> str:
    """A time as the real producer writes it, so long after the beginning of 2025."""
    moment = dt.datetime(2025, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds")


class Producer:
    """Writes rows. `uid` numbers them for good, whatever becomes of the table."""

    def __init__(self, database: Path, ledger: Path, table: str, journal: str, first: int, seed: int) -> None:
        self.database = database
        self.ledger = ledger.open("a")
        self.table = table
        self.journal = journal
        self.uid = first
        self.random = random.Random(seed)
        self.is_wide = self.random.random() < 0.3
        self.connection = self.open()

    def open(self) -> sqlite3.Connection:
        """The database, made where it is missing."""
        connection = sqlite3.connect(self.database, timeout=60, isolation_level=None)
        if self.is_wide:
            connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute(f"PRAGMA journal_mode = {self.journal}")
        connection.execute("PRAGMA synchronous = OFF")
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 't'").fetchall():
            connection.execute(TABLES[self.table])
        return connection

    def note(self, fate: str, rows: list[Any]) -> None:
        """Add lines to the ledger."""
        self.ledger.writelines(json.dumps({fate: row}) + "\n" for row in rows)
        self.ledger.flush()

    def rows(self, count: int) -> list[tuple[str, int, str]]:
        """New rows: two in three share a time with the one before, one in ten is late."""
        made, now = [], LATE + self.uid * 50
        for _ in range(count):
            self.uid += 1
            now = LATE + self.uid * 50 if self.random.random() < 0.33 else now
            late = self.random.randrange(LATE) if self.random.random() < 0.1 else 0
            late = -FUTURE if self.table == "mixed times" and self.random.random() < 0.01 else late
            made.append((time_of(now - late), self.uid, f"row {self.uid * 7919 % 10007} 'ü\\"))
        return made

    def raw(self, time: str) -> str | int | float:
        """A time as it stands in the table: in one form, or in any."""
        moment = dt.datetime.fromisoformat(time)
        milliseconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
        zoned = moment.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30))).isoformat()
        forms: list[str | int | float] = [time, zoned, milliseconds, milliseconds * 1000, milliseconds / 1000]
        return self.random.choice(forms) if self.table == "mixed times" else time

    def write(self, count: int) -> None:
        """Commit new rows."""
        rows = self.rows(count)
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(INSERT, [(self.raw(time), uid, note) for time, uid, note in rows])
        self.connection.execute("COMMIT")
        self.note("written", rows)

    def poison(self) -> None:
        """Commit a row that can't be delivered: no number where one belongs, or no time."""
        self.uid += 1
        row: tuple[str, Any, str] = (time_of(LATE + self.uid * 50), f"bad {self.uid}", "poison")
        if self.table in BY_TIME:
            row = (f"yesterday {self.uid}", self.uid, "poison")
        self.connection.execute(INSERT, row)
        self.note("poisoned", [row[1]])

    def delete(self, up_to: int) -> None:
        """Retention: delete rows that were delivered, up to a uid; some newer ones stay."""
        gone = [uid for (uid,) in self.connection.execute("SELECT uid FROM t WHERE uid <= ?", (up_to,))]
        self.note("removed", gone)
        self.connection.execute("DELETE FROM t WHERE uid <= ?", (up_to,))

    def vacuum(self) -> None:
        """Rows of a table without a key of its own get new rowids."""
        self.connection.execute("VACUUM")

    def edit(self) -> None:
        """Change a column of all rows."""
        if self.table not in BY_TIME and "extra" in self.columns():
            self.connection.execute("UPDATE t SET extra = coalesce(extra, 0) + 0.5")

    def alter(self) -> None:
        """Drop the extra column, or add it again."""
        change = "DROP COLUMN extra" if "extra" in self.columns() else "ADD COLUMN extra REAL DEFAULT 1.5"
        self.connection.execute(f"ALTER TABLE t {change}")

    def rebuild(self) -> None:
        """Make the table anew with its columns the other way round, and its rows as they are."""
        made, old = TABLES[self.table].partition("(")[2].rpartition(")"), self.columns()
        parts = [part for part in made[0].split(", ") if part.split()[0] in old]
        names = ", ".join(old if self.table != "plain" else ["rowid", *old])
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute(f"CREATE TABLE n ({', '.join(reversed(parts))}){made[2]}")
        self.connection.execute(f"INSERT INTO n ({names}) SELECT {names} FROM t")
        self.connection.execute("DROP TABLE t")
        self.connection.execute("ALTER TABLE n RENAME TO t")
        self.connection.execute("COMMIT")

    def columns(self) -> list[str]:
        """The table's columns."""
        return [str(name) for (name,) in self.connection.execute("SELECT name FROM pragma_table_info('t')")]

    def recreate(self) -> None:
        """What the real producer does at its start: delete the file and begin anew."""
        self.note("removed", [uid for (uid,) in self.connection.execute("SELECT uid FROM t")])
        self.connection.close()
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.database}{end}").unlink(missing_ok=True)
        self.connection = self.open()

    def reopen(self) -> None:
        """Close cleanly, which takes the WAL away, and open again."""
        self.connection.close()
        self.connection = self.open()

    def crash(self) -> None:
        """Be killed amid a transaction that has reached the disk; its rows were never committed."""
        self.connection.execute("PRAGMA cache_size = 1")
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(INSERT, self.rows(500))
        os.kill(os.getpid(), signal.SIGKILL)

    def obey(self, order: dict[str, Any]) -> None:
        """Carry out an order; `pause` holds on until `go`."""
        arguments = order.get("arguments", [])
        if order["do"] == "pause":
            print(json.dumps({"uid": self.uid}), flush=True)
            if line := sys.stdin.readline():
                self.obey(json.loads(line))
            return
        if order["do"] != "go":
            getattr(self, order["do"])(*arguments)
        print(json.dumps({"uid": self.uid}), flush=True)

    def run(self) -> None:
        """Write and obey until standard input ends."""
        while True:
            pause = self.random.choice([0.01, 0.05, 0.1])
            if select.select([sys.stdin], [], [], pause)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                self.obey(json.loads(line))
            else:
                self.write(self.random.choice([1, 1, 2, 5, 10]))
                if self.random.random() < 0.02:
                    self.poison()


if __name__ == "__main__":
    database, ledger, kind, mode, first, second = sys.argv[1:7]
    Producer(Path(database), Path(ledger), kind, mode, int(first), int(second)).run()
