"""Model-based: any order of what producers do, runs, and kills; in the end the target holds what the model says."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import sqlite_to_databricks_uploader as up
from boxes import Box, interrupted_at
from torture.producer import time_of

TABLES = {
    "counted": "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, uid INTEGER, note TEXT)",
    "keyed": "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, uid INTEGER, note TEXT)",
    "plain": "CREATE TABLE t (time TEXT, uid INTEGER, note TEXT)",
}

# Steps of a cycle on Delta that a kill may come before or after.
STEPS = [(up.StateFile, "save"), (up.DeltaTarget, "send"), (up.DeltaTarget, "settle"), (up.RowidCursor, "located")]


class Uploads(RuleBasedStateMachine):
    """The model: which rows there were, which were taken away, and which of those before a run could read them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.box = Box(self.folder)
        self.patch = pytest.MonkeyPatch()
        self.uid = 0
        self.present: list[int] = []
        self.written: set[int] = set()
        self.may_be_missing: set[int] = set()
        self.taken = 0
        self.columns = 0
        self.changes: set[str] = set()

    def is_told(self, change: str) -> bool:
        """Whether a run can tell what was done since the last one that nothing disturbed.

        A rebuild sets AUTOINCREMENT's counter back to the highest rowid that is left. Where the newest rows had gone and
        all others were edited besides, the table is like one that was made anew, and the run asks. So it does where no
        delivered row is left and the schema changed, and where a few rows without a key were edited and numbered anew.
        """
        counts = "AUTOINCREMENT" in self.made[1]
        is_like_new = self.changes | {change} >= ({"newest", "rebuild", "edit"} if counts else {"vacuum", "edit"})
        is_like_new = is_like_new and (counts or not self.key)
        # Without a key rows that came in for edited ones of an altered table may be these.
        is_like_new |= not self.key and self.changes | {change} >= {"newest", "edit", "schema"}
        return not is_like_new and (change not in ("schema", "rebuild") or bool(self.known()))

    def known(self) -> list[int]:
        """The delivered rows that are left, or all rows where nothing was delivered."""
        arrived = self.arrived()
        return [uid for uid in self.present if uid in arrived] if arrived else self.present or [0]

    def is_timed(self, without: Sequence[int] = ()) -> bool:
        """Whether the delivered rows that are left have several times, or are at most one.

        Of one time alone, of which some give way to others, what is as it was may be equal by chance: the run asks.
        """
        left = self.arrived().keys() - set(without)
        times = [time for time, uid in self.box.source("time, uid", "t") if uid in left]
        return len(times) < 2 or len(set(times)) > 1

    @initialize(
        table=st.sampled_from(sorted(TABLES)), count=st.integers(0, 5), linked=st.booleans(),
        encoding=st.sampled_from(["UTF-8", "UTF-16le"]),
    )  # fmt: skip
    def create(self, table: str, count: int, linked: bool, encoding: str) -> None:
        """The producer makes its table; the uploader knows it by its name, or by a link."""
        self.made = (f"PRAGMA encoding = '{encoding}'", TABLES[table])
        self.key = "" if table == "plain" else "id"
        self.box.execute(*self.made)
        if linked:
            link = self.folder / "link.db"
            link.symlink_to(self.box.database)
            self.box.environ["SQLITE_PATH"] = str(link)
        self.insert(count, False, False)

    @rule(count=st.integers(1, 12), ties=st.booleans(), late=st.booleans())
    def insert(self, count: int, ties: bool, late: bool) -> None:
        """New rows: all at one time, or each at its own; or older than all others.

        Where no delivered row is left, an older one in its place may be that row, edited: the run asks.
        """
        late = late and ("AUTOINCREMENT" in self.made[1] or bool(self.known()))
        uids = list(range(self.uid + 1, self.uid + count + 1))
        self.uid += count
        first = self.uid * 1000 if ties else None
        times = [time_of((first or uid * 1000) - (86_400_000 if late else 0) + 200_000_000) for uid in uids]
        self.box.execute("INSERT INTO t (time, uid) VALUES (?, ?)", rows=list(zip(times, uids, strict=True)))
        self.present += uids
        self.written |= set(uids)

    @rule(share=st.integers(1, 3))
    def delete_the_oldest(self, share: int) -> None:
        """Retention, of delivered rows only. The last of them stays where the schema changed: without it the run asks."""
        arrived, kept = self.arrived(), self.known()[-1:] if self.changes & {"schema", "rebuild"} else []
        old = [uid for uid in self.present[: len(self.present) * share // 4] if uid in arrived and uid not in kept]
        if "newest" not in self.changes or self.is_timed(old):
            self.remove(old)

    @precondition(lambda self: self.taken < 10 and self.is_told("newest") and self.is_timed())
    @rule(count=st.integers(1, 4))
    def delete_the_newest(self, count: int) -> None:
        """Rowids are used again, except in a table that counts."""
        kept = set(self.known()[:1]) if self.changes & {"schema", "rebuild"} else set()
        self.remove([uid for uid in self.present[-count:] if uid not in kept])
        self.taken += count
        self.changes.add("newest")

    def remove(self, uids: list[int]) -> None:
        """Take rows away; those that were not delivered need not arrive any more."""
        self.may_be_missing |= set(uids) - set(self.arrived())
        self.present = [uid for uid in self.present if uid not in uids]
        self.box.execute(f"DELETE FROM t WHERE uid IN ({', '.join(map(str, uids)) or 'NULL'})")

    @precondition(lambda self: self.is_told("schema") and self.is_told("vacuum"))
    @rule()
    def vacuum(self) -> None:
        """Rowids of a table without a key are numbered anew. SQLite counts it as a change of the schema."""
        self.changes |= {"schema", "vacuum"}
        self.box.execute("VACUUM")

    @rule()
    def recreate(self) -> None:
        """The producer starts and deletes its file."""
        self.may_be_missing |= set(self.present) - set(self.arrived())
        self.present, self.columns, self.changes = [], 0, set()
        self.box.database.unlink()
        self.box.execute(*self.made)

    @precondition(lambda self: self.columns < 3 and self.is_told("schema"))
    @rule()
    def add_a_column(self) -> None:
        """The producer's table gets wider."""
        self.columns += 1
        self.changes.add("schema")
        self.box.execute(f"ALTER TABLE t ADD COLUMN more{self.columns} REAL DEFAULT 1.5")

    @precondition(lambda self: self.is_told("schema"))
    @rule()
    def drop_a_column(self) -> None:
        """The producer's table gets narrower."""
        self.changes.add("schema")
        if dropped := [name for name in self.names() if name == "note" or name.startswith("more")]:
            self.box.execute(f"ALTER TABLE t DROP COLUMN {dropped[0]}")

    @precondition(lambda self: self.is_told("edit"))
    @rule(column=st.sampled_from(["note", "more1", "more2"]), value=st.integers(0, 3))
    def edit_all_rows(self, column: str, value: int) -> None:
        """A column of all rows is given another value."""
        if column in self.names() and ("newest" not in self.changes or self.is_timed()):
            self.box.execute(f"UPDATE t SET {column} = {value}")
            self.changes.add("edit")

    @precondition(lambda self: self.is_told("rebuild"))
    @rule()
    def rebuild(self) -> None:
        """The table is made anew with its columns the other way round."""
        self.changes.add("rebuild")
        names = self.names()
        kinds = {
            "id": self.made[1].partition("id ")[2].partition(",")[0],
            "time": "TEXT",
            "uid": "INTEGER",
            "note": "TEXT",
        }
        columns = ", ".join(f"{name} {kinds.get(name, 'REAL')}" for name in reversed(names))
        all_names = ", ".join(names if self.key else ["rowid", *names])
        self.box.execute(
            f"CREATE TABLE n ({columns})", f"INSERT INTO n ({all_names}) SELECT {all_names} FROM t", "DROP TABLE t",
            "ALTER TABLE n RENAME TO t",
        )  # fmt: skip

    def names(self) -> list[str]:
        """The columns of the table."""
        return [name for (name,) in self.box.source("name", "pragma_table_info('t')")]

    @rule(size=st.sampled_from(["1", "3", "1000"]), schema=st.sampled_from(["match", "evolve"]))
    def upload(self, size: str, schema: str) -> None:
        """A run that nothing disturbs."""
        assert self.box.run("--batch-rows", size, "--schema", schema) == 0
        self.taken, self.changes = 0, set()

    @rule(
        step=st.sampled_from(STEPS), when=st.sampled_from(["before", "after"]), call=st.integers(1, 5),
        size=st.sampled_from(["2", "1000"]),
    )  # fmt: skip
    def upload_killed(self, step: tuple[Any, str], when: str, call: int, size: str) -> None:
        """A run that ends at a step; its confirmation may be lost."""
        owner, name = step
        interrupted_at(owner, name, when, call, self.patch.setattr)
        try:
            assert self.box.run("--batch-rows", size) == 0
        except KeyboardInterrupt:
            pass
        finally:
            self.patch.undo()
        self.taken = 0

    def arrived(self) -> Counter[int]:
        """How often each row is in the target."""
        if not (self.folder / "lake" / "raw_readings").exists():
            return Counter()
        return Counter(uid for (uid,) in self.box.arrived("uid"))

    @invariant()
    def nothing_is_doubled(self) -> None:
        """At no time."""
        arrived = self.arrived()
        assert set(arrived.values()) <= {1}, [uid for uid, count in arrived.items() if count > 1]
        assert set(arrived) <= self.written

    def teardown(self) -> None:
        """After a last run nothing is missing."""
        try:
            if self.box.database.exists():
                assert self.box.run() == 0
                self.nothing_is_doubled()
                absent = self.written - set(self.arrived()) - self.may_be_missing
                assert not absent, absent
        finally:
            shutil.rmtree(self.folder)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_any_order_of_events_delivers_each_row_once(minutes: float) -> None:
    """A short look by default; with --minutes, many more orders."""
    chosen = settings(
        max_examples=20 if not minutes else int(60 * minutes),
        stateful_step_count=12 if not minutes else 25,
        derandomize=not minutes,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(Uploads, settings=chosen)
