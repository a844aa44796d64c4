"""The producer of the torture test: a process that writes its tables as it likes and keeps a ledger of its own.

    python producer.py DATABASE LEDGER KINDS JOURNAL FIRST SEED

KINDS are some of TABLES, separated by commas: the kinds of the tables t, u and so on. JOURNAL is wal or delete. It
writes all the time; a line on standard input is an order, which it acknowledges with a line. The ledger has one JSON
line for each row: `written` or `poisoned`, after the commit, and `removed`, before the row goes.
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
    "counted": "CREATE TABLE {} (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, uid INTEGER, note TEXT, extra REAL)",
    "keyed": "CREATE TABLE {} (id INTEGER PRIMARY KEY, time TEXT, uid INTEGER, note TEXT, extra REAL)",
    "plain": "CREATE TABLE {} (time TEXT, uid INTEGER, note TEXT, extra REAL)",
    "without rowid": "CREATE TABLE {} (uid INTEGER PRIMARY KEY, time TEXT, note TEXT, extra REAL) WITHOUT ROWID",
    "mixed times": "CREATE TABLE {} (uid INTEGER PRIMARY KEY, time, note TEXT, extra REAL) WITHOUT ROWID",
}

# Tables that are read by time: there an edited row of an unchanged time is a new one.
BY_TIME = ("without rowid", "mixed times")

# The names of a database's tables, the first of them where there is one only.
NAMES = "tuv"

# A row as the ledger has it: its table, its time, its number and a text.
Row = tuple[str, str, int, str]

# A time in the far future, in milliseconds since the beginning of 2025.
FUTURE = 75 * 365 * 86_400_000

# So many milliseconds a row may be late, half of what the uploader looks back by default.
LATE = 150_000


def time_of(milliseconds: int) -> str:
    """A time as the real producer writes it, so long after the beginning of 2025."""
    moment = dt.datetime(2025, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds")


class Producer:
    """Writes rows. `uid` numbers those of all tables for good, whatever becomes of the tables."""

    def __init__(self, database: Path, ledger: Path, kinds: list[str], journal: str, first: int, seed: int) -> None:
        self.database = database
        self.ledger = ledger.open("a")
        self.kinds = dict(zip(NAMES, kinds, strict=False))
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
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        connection.execute("BEGIN IMMEDIATE")  # One table of several that is not there would be a wrong name.
        for name in self.kinds.keys() - known:
            connection.execute(TABLES[self.kinds[name]].format(name))
        connection.execute("COMMIT")
        return connection

    def any_table(self) -> str:
        """The name of one of the tables."""
        return self.random.choice([*self.kinds])

    def note(self, fate: str, rows: list[Any]) -> None:
        """Add lines to the ledger."""
        self.ledger.writelines(json.dumps({fate: row}) + "\n" for row in rows)
        self.ledger.flush()

    def rows(self, table: str, count: int, width: int = 1) -> list[Row]:
        """New rows: two in three share a time with the one before, one in ten is late; texts of up to a width."""
        made, now = [], LATE + self.uid * 50
        for _ in range(count):
            self.uid += 1
            now = LATE + self.uid * 50 if self.random.random() < 0.33 else now
            late = self.random.randrange(LATE) if self.random.random() < 0.1 else 0
            late = -FUTURE if self.kinds[table] == "mixed times" and self.random.random() < 0.01 else late
            note = f"row {self.uid * 7919 % 10007} 'ü\\" + "x" * (self.uid * 7919 % width)
            made.append((table, time_of(now - late), self.uid, note))
        return made

    def raw(self, table: str, time: str) -> str | int | float:
        """A time as it stands in the table: in one form, or in any."""
        moment = dt.datetime.fromisoformat(time)
        milliseconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
        zoned = moment.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30))).isoformat()
        forms: list[str | int | float] = [time, zoned, milliseconds, milliseconds * 1000, milliseconds / 1000]
        return self.random.choice(forms) if self.kinds[table] == "mixed times" else time

    def insert(self, rows: list[Row]) -> None:
        """Rows of one table, in the transaction that is under way."""
        table = rows[0][0]
        values = [(self.raw(table, time), uid, note) for _, time, uid, note in rows]
        self.connection.executemany(f"INSERT INTO {table} (time, uid, note) VALUES (?, ?, ?)", values)

    def write(self, rows: list[Row]) -> None:
        """Commit rows."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.insert(rows)
        self.connection.execute("COMMIT")
        self.note("written", rows)

    def burst(self) -> None:
        """Commit some hundred kilobytes."""
        self.write(self.rows(self.any_table(), 300, 2000))

    def poison(self) -> None:
        """Commit a row that can't be delivered: no number where one belongs, or no time. A first run would ask."""
        table = self.any_table()
        enough = f"SELECT count(*) > 20 * (1 + total(note = 'poison')) FROM {table}"
        if not self.connection.execute(enough).fetchone()[0]:
            return
        self.uid += 1
        row: tuple[str, Any] = (time_of(LATE + self.uid * 50), f"bad {self.uid}")
        if self.kinds[table] in BY_TIME:
            row = (f"yesterday {self.uid}", self.uid)
        self.connection.execute(f"INSERT INTO {table} (time, uid, note) VALUES (?, ?, 'poison')", row)
        self.note("poisoned", [row[1]])

    def delete(self, up_to: int) -> None:
        """Retention: delete rows that were delivered, up to a uid; some newer ones stay."""
        for table in self.kinds:
            gone = [uid for (uid,) in self.connection.execute(f"SELECT uid FROM {table} WHERE uid <= ?", (up_to,))]
            self.note("removed", gone)
            self.connection.execute(f"DELETE FROM {table} WHERE uid <= ?", (up_to,))

    def vacuum(self) -> None:
        """Rows of a table without a key of its own get new rowids."""
        self.connection.execute("VACUUM")

    def edit(self) -> None:
        """Change a column of all rows."""
        table = self.any_table()
        if self.kinds[table] not in BY_TIME and "extra" in self.columns(table):
            self.connection.execute(f"UPDATE {table} SET extra = coalesce(extra, 0) + 0.5")

    def alter(self) -> None:
        """Drop the extra column, or add it again."""
        table = self.any_table()
        change = "DROP COLUMN extra" if "extra" in self.columns(table) else "ADD COLUMN extra REAL DEFAULT 1.5"
        self.connection.execute(f"ALTER TABLE {table} {change}")

    def rebuild(self) -> None:
        """Make a table anew with its columns the other way round, and its rows as they are."""
        table = self.any_table()
        made, old = TABLES[self.kinds[table]].partition("(")[2].rpartition(")"), self.columns(table)
        parts = [part for part in made[0].split(", ") if part.split()[0] in old]
        names = ", ".join(old if self.kinds[table] != "plain" else ["rowid", *old])
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute(f"CREATE TABLE n ({', '.join(reversed(parts))}){made[2]}")
        self.connection.execute(f"INSERT INTO n ({names}) SELECT {names} FROM {table}")
        self.connection.execute(f"DROP TABLE {table}")
        self.connection.execute(f"ALTER TABLE n RENAME TO {table}")
        self.connection.execute("COMMIT")

    def columns(self, table: str) -> list[str]:
        """A table's columns."""
        return [str(name) for (name,) in self.connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]

    def recreate(self) -> None:
        """What the real producer does at its start: delete the file and begin anew."""
        for table in self.kinds:
            self.note("removed", [uid for (uid,) in self.connection.execute(f"SELECT uid FROM {table}")])
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
        self.insert(self.rows(self.any_table(), 500))
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
                self.write(self.rows(self.any_table(), self.random.choice([1, 1, 2, 5, 10])))
                if self.random.random() < 0.02:
                    self.poison()


if __name__ == "__main__":
    database, ledger, kinds, mode, first, second = sys.argv[1:7]
    Producer(Path(database), Path(ledger), kinds.split(","), mode, int(first), int(second)).run()
