"""Chapter Streams: several tables in one process, each with a state of its own."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import itertools
import json
import os
import random
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

import sqlite_to_databricks_uploader as up
from boxes import Box, crossed, interrupted_at, rows_of
from warehouse import Warehouse

TABLE = "CREATE TABLE {} (id INTEGER PRIMARY KEY, timestamp TEXT, value REAL)"
INSERT = "INSERT INTO {} (timestamp, value) VALUES (?, ?)"


@pytest.fixture
def many(box: Box) -> Box:
    """A box that sends the whole database."""
    del box.environ["DATABRICKS_TABLE"]
    box.environ["UPLOAD_TABLES"] = "*"
    return box


def fill(box: Box, *tables: str, count: int = 3) -> None:
    """More rows for each table, which is made if need be."""
    for table in tables:
        create = TABLE.format(up.quoted(table)).replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
        rows = [(f"2026-01-01T00:00:{i:02}Z", i / 2) for i in range(count)]
        box.execute(create, INSERT.format(up.quoted(table)), rows=rows)


def arrived(box: Box, table: str, columns: str = "id") -> list[tuple[Any, ...]]:
    """The rows of a Delta table; none where it is not there."""
    try:
        return rows_of(DeltaTable(str(box.folder / "lake" / table)), columns)
    except TableNotFoundError:
        return []


def states(box: Box) -> list[str]:
    """The directories that hold a state, from the state directory on."""
    root = box.folder / "state"
    return sorted(str(file.parent.relative_to(root)) for file in root.rglob("last_upload.json"))


# --- Which streams there are ---


def test_all_tables_of_a_database_arrive_each_in_one_of_its_own(many: Box) -> None:
    fill(many, "a", "b", "raw_c")
    assert many.run() == 0
    assert [len(arrived(many, name)) for name in ("raw_a", "raw_b", "raw_c")] == [3, 3, 3]
    assert states(many) == ["raw_a", "raw_b", "raw_raw_c"]
    fill(many, "b", count=2)
    assert many.run() == 0
    assert [len(arrived(many, name)) for name in ("raw_a", "raw_b", "raw_c")] == [3, 5, 3]


def test_tables_that_land_in_one_since_prefixes_do_not_count_are_named(
    many: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "filtered_r, r, raw_r go into one table, raw_r"
    fill(many, "r", "raw_r", "filtered_r", "other")
    assert many.run("--check") == 0
    assert said in capsys.readouterr().out
    assert many.run() == 0
    assert f"{said}. Where that is not meant" in caplog.text
    assert "raw_filtered_r for filtered_r" in caplog.text
    caplog.clear()
    own = [{"sqlite_table_name": name, "databricks_table": f"raw_{name}"} for name in ("raw_r", "filtered_r")]
    many.environ |= {"UPLOAD_TABLES": json.dumps(["*", *own]), "STATE_DIR": str(many.folder / "second")}
    assert many.run() == 0
    assert "one table" not in caplog.text
    assert [len(arrived(many, f"raw_{name}")) for name in ("r", "raw_r", "filtered_r", "other")] == [12, 3, 3, 6]


def test_tables_that_a_setting_leads_into_one_are_no_warning(many: Box, caplog: pytest.LogCaptureFixture) -> None:
    entries = [{"sqlite_table_name": "raw_r", "databricks_table": "r"}, "r"]
    many.environ["UPLOAD_TABLES"] = json.dumps(entries)
    fill(many, "r", "raw_r")
    assert many.run() == 0
    assert "one table" not in caplog.text and len(arrived(many, "raw_r")) == 6


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("name", ["readings_2026_10", "a_readings"])
def test_a_table_that_is_renamed_is_no_new_one(
    many: Box, name: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """As loggers rotate: the current table gets another name, and is made anew. Its stream's turn may come first."""
    one_target = [{"sqlite_table_name": "*readings*", "databricks_table": "all"}]
    many.environ["UPLOAD_TABLES"] = json.dumps(one_target)
    values = iter(range(1000))

    def write(rows: int) -> None:
        day = [f"2026-01-{1 + n // 24:02}T{n % 24:02}:00:00Z" for n in range(1000)]
        many.execute(INSERT.format("readings"), rows=[(day[n], n) for n in itertools.islice(values, rows)])

    fill(many, "readings", count=0)
    write(20)
    assert many.run() == 0
    for turn in range(3):
        write(1)
        many.execute(f"ALTER TABLE readings RENAME TO {name}_{turn}")
        fill(many, "readings", count=0)
        write(count)
        capsys.readouterr()
        assert many.run("--dry-run", "--table", f"{name}_{turn}") == 0
        assert "1 row of 1 read" in capsys.readouterr().out
        assert [many.run(), many.run()] == [0, 0]
    write(1)
    assert many.run() == 0
    assert sorted(value for (value,) in arrived(many, "raw_all", "value")) == [*range(next(values))]


@dataclasses.dataclass
class Logger:
    """Writes to tables `log*`, which all go to one target. The values tell all rows apart."""

    box: Box
    count: int = 0
    key: str = "id INTEGER PRIMARY KEY, "

    def __post_init__(self) -> None:
        del self.box.environ["DATABRICKS_TABLE"]
        self.box.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "log*", "databricks_table": "logs"}])

    def write(self, table: str, count: int) -> None:
        """More rows, a minute each."""
        times = (dt.datetime(2026, 1, 1) + dt.timedelta(minutes=self.count + n) for n in range(count))
        rows = [(time.isoformat(), self.count + n) for n, time in enumerate(times)]
        made = f"CREATE TABLE IF NOT EXISTS {table} ({self.key}timestamp TEXT, value REAL, note TEXT, more TEXT)"
        self.box.execute(made, INSERT.format(table), rows=rows)
        self.count += count

    def rename(self, *names: str) -> None:
        """Give a table one name after another."""
        for name, other in itertools.pairwise(names):
            self.box.execute(f"ALTER TABLE {name} RENAME TO {other}")

    def swap(self, one: str, other: str) -> None:
        """Let two tables change their names."""
        self.rename(one, "log_swap")
        self.rename(other, one)
        self.rename("log_swap", other)

    def aggregate(self) -> None:
        """Count the rows of each hour from now on."""
        rules = {"group_by": ["hour"], "aggregations": {"rows": "count"}}
        self.box.environ |= {"ENABLE_AGGREGATE": "1", "AGGREGATE_CONFIG": json.dumps(rules)}

    def has_arrived(self) -> bool:
        """Whether each row arrived once."""
        return sorted(value for (value,) in arrived(self.box, "raw_logs", "value")) == [*range(self.count)]

    def has_counted(self) -> bool:
        """Whether each row is counted once, in its hour."""
        found, hours = collections.Counter[dt.datetime](), collections.Counter[dt.datetime]()
        for hour, count in arrived(self.box, "aggregated_logs", "hour, row_count"):
            found[hour] += count
        hours.update(dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=n // 60) for n in range(self.count))
        return found == hours


@pytest.fixture
def logger(box: Box) -> Logger:
    return Logger(box)


def test_tables_that_move_up_at_each_rotation_are_no_new_ones(logger: Logger) -> None:
    for turn in range(4):
        for older in range(turn, 0, -1):
            logger.rename("log" if older == 1 else f"log_{older - 1}", f"log_{older}")
        logger.write("log", 20)
        assert logger.box.run() == 0
        logger.write("log", 5)
        assert logger.has_arrived() is False
    assert logger.box.run() == 0
    assert logger.has_arrived()


def test_tables_that_change_names_are_no_new_ones(logger: Logger, caplog: pytest.LogCaptureFixture) -> None:
    logger.write("log_a", 10)
    logger.write("log_b", 15)
    assert logger.box.run() == 0
    for _ in range(2):
        logger.rename("log_a", "other", "log_c")
        logger.rename("log_b", "log_a")
        logger.rename("log_c", "log_b")
        caplog.clear()
        assert [logger.box.run(), logger.box.run()] == [0, 0]
        assert caplog.text.count("WARNING") == 2
        assert logger.has_arrived()
    logger.write("log_a", 2)
    logger.write("log_b", 2)
    assert logger.box.run() == 0
    assert logger.has_arrived()


def test_a_table_that_gets_its_name_back_goes_on_where_it_stood_under_the_other(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.write("log", 10)
    logger.write("log_z", 10)
    assert logger.box.run() == 0
    for names in (("log", "log_b"), ("log_b", "log"), ("log", "log_b")):
        logger.rename(*names)
        logger.write(names[1], 2)
        assert logger.box.run() == 0
        logger.rename(names[1], "hidden")
        assert logger.box.run() == 0
        logger.rename("hidden", names[1])
        caplog.clear()
        assert [logger.box.run(), logger.box.run()] == [0, 0]
        assert "going on there" not in caplog.text
    assert logger.has_arrived()


KEYS = ["id INTEGER PRIMARY KEY, ", "id INTEGER PRIMARY KEY AUTOINCREMENT, ", ""]


@pytest.mark.parametrize("key", KEYS)
def test_a_table_that_gets_its_name_back_has_no_row_again_that_was_sent_under_the_other(
    logger: Logger, key: str
) -> None:
    logger.key = key
    for names in (("log", "log_b"), ("log_b", "log"), ("log", "log_b")):
        logger.write(names[0], 10)
        assert logger.box.run() == 0
        logger.rename(*names)
    assert logger.box.run() == 0
    assert logger.has_arrived()


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_table_without_a_key_is_known_that_was_vacuumed_and_renamed(
    logger: Logger, caplog: pytest.LogCaptureFixture, is_seen: bool
) -> None:
    """And that its rows were renumbered is said once, though no new row comes."""
    logger.key = ""
    logger.write("log", 30)
    assert logger.box.run() == 0
    logger.box.execute("DELETE FROM log WHERE value < 5")
    logger.box.execute("VACUUM")
    assert [logger.box.run(), logger.box.run()] == [0, 0] or not is_seen
    logger.rename("log", "log_1")
    logger.write("log", 3)
    assert [logger.box.run(), logger.box.run()] == [0, 0]
    assert logger.has_arrived()
    assert caplog.text.count("renumbered") == 1


def test_a_renamed_table_whose_renumbered_rows_were_sent_under_either_name_stands_where_it_is_furthest(
    logger: Logger,
) -> None:
    """Rowids of before a VACUUM are higher than those of what was sent since."""
    logger.key = ""
    logger.write("log_1", 17)
    logger.box.execute("DELETE FROM log_1 WHERE value < 7")
    logger.write("log_2", 3)
    assert logger.box.run() == 0
    logger.box.execute("VACUUM")
    for _ in range(2):
        logger.swap("log_1", "log_2")
        assert logger.box.run() == 0
        logger.write("log_2", 1)
        assert logger.box.run() == 0
    found = sorted(value for (value,) in arrived(logger.box, "raw_logs", "value"))
    assert found == [*range(7, logger.count)]


@pytest.mark.parametrize("key", KEYS)
def test_a_place_whose_newest_rows_gave_way_to_others_is_not_the_furthest(logger: Logger, key: str) -> None:
    logger.key = key
    logger.write("log", 20)
    assert logger.box.run() == 0
    logger.box.execute("DELETE FROM log WHERE value > 17")
    for names in (("log", "log_1"), ("log_1", "log_2")):
        logger.rename(*names)
        logger.write("log", 3)
        logger.write("log_1", 1)
        assert logger.box.run() == 0
        logger.box.execute("DROP TABLE log")
    assert logger.box.run() == 0
    assert logger.has_arrived()


@pytest.mark.parametrize("key", [KEYS[0], KEYS[2]])
@pytest.mark.parametrize("change", ["ALTER TABLE log DROP COLUMN more", "ALTER TABLE log RENAME COLUMN more TO less"])
def test_a_table_is_known_that_was_altered_and_renamed(logger: Logger, key: str, change: str) -> None:
    logger.key = key
    logger.write("log", 200)
    assert logger.box.run() == 0
    logger.box.execute(change)
    logger.rename("log", "log_1")
    logger.write("log", 3)
    assert [logger.box.run(), logger.box.run()] == [0, 0]
    assert logger.has_arrived()


def test_open_windows_of_a_table_that_is_rotated_go_on_and_none_is_said_to_be_lost(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows are read in each cycle, and their anchors made anew."""
    logger.aggregate()
    logger.write("log", 61)
    for _ in range(12):
        logger.write("log", 1)
        assert logger.box.run() == 0
    logger.rename("log", "log_1")
    logger.write("log", 60)
    assert [logger.box.run(), logger.box.run("--flush")] == [0, 0]
    assert logger.has_counted()
    assert "gone with the old file" not in caplog.text


def test_tables_that_change_names_and_change_them_back_keep_their_open_windows(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.aggregate()
    for table in ("log_a", "log_b"):
        logger.write(table, 90)
    for _ in range(3):
        assert logger.box.run() == 0
        logger.swap("log_a", "log_b")
    assert logger.box.run("--flush") == 0
    assert logger.has_counted()
    assert "gone with the old file" not in caplog.text


class Killed(BaseException):
    """What stands for the end of a process."""


@dataclasses.dataclass
class History:
    """What happens to tables `log*` in a random order: each row arrives once, whatever they are called."""

    logger: Logger
    chance: random.Random
    tables: set[str] = dataclasses.field(default_factory=set)
    deeds: list[str] = dataclasses.field(default_factory=list)

    STEPS = ((up.StateFile, "save"), (up.DeltaTarget, "send"), (up.DeltaTarget, "settle"), (up.Delivery, "_confirm"))
    WEIGHTS: ClassVar = {
        "write": 6, "rename": 2, "swap": 2, "rotate": 3, "drop": 1, "make": 2, "shorten": 1, "take": 1, "edit": 1, "vacuum": 1,
        "run": 8, "kill": 3,
    }  # fmt: skip

    def step(self) -> None:
        """Let something happen."""
        deed = self.chance.choices([*self.WEIGHTS], [*self.WEIGHTS.values()])[0]
        name, other = self.chance.choice(sorted(self.tables)), f"log_{self.chance.choice('123ab')}"
        self.deeds.append(f"{deed} {name} {other}")
        getattr(self, deed)(name, other)

    def write(self, name: str, _: str) -> None:
        self.logger.write(name, self.chance.choice([1, 1, 2, 5, 20]))

    def rename(self, name: str, other: str) -> None:
        if other not in self.tables:
            self.logger.rename(name, other)
            self.tables = self.tables - {name} | {other}

    def swap(self, name: str, other: str) -> None:
        if other in self.tables - {name}:
            self.logger.swap(name, other)

    def rotate(self, *_: str) -> None:
        if "log" not in self.tables:
            return
        if "log_3" in self.tables:
            self.drop("log_3")
        for before, after in (("log_2", "log_3"), ("log_1", "log_2"), ("log", "log_1")):
            if before in self.tables:
                self.rename(before, after)
        self.make("", "log")

    def drop(self, name: str, *_: str) -> None:
        """Its rows are sent before; those of no table can't be."""
        assert self.logger.box.run() == 0
        self.logger.box.execute(f"DROP TABLE {name}")
        self.tables.remove(name)
        if not self.tables:
            self.make("", "log")

    def make(self, _: str, other: str) -> None:
        if other not in self.tables:
            self.tables.add(other)
            self.logger.write(other, self.chance.choice([3, 5, 12, 40]))

    def shorten(self, name: str, _: str) -> None:
        """Delete old rows that were delivered; some are left to know the table by."""
        assert self.logger.box.run() == 0
        end = f"(SELECT max(value) - {self.chance.randint(4, 30)} FROM {name})"
        self.logger.box.execute(f"DELETE FROM {name} WHERE value < {end}")

    def take(self, name: str, _: str) -> None:
        """Delete newest rows that were delivered: the next ones may get their rowids."""
        assert self.logger.box.run() == 0
        some = f"(SELECT max(value) - 2 FROM {name}) AND (SELECT count(*) > 6 FROM {name})"
        self.logger.box.execute(f"DELETE FROM {name} WHERE value > {some}")

    def edit(self, name: str, _: str) -> None:
        assert self.logger.box.run() == 0
        some = f"value % {self.chance.choice([1, 2, 7])} = 0"
        self.logger.box.execute(f"UPDATE {name} SET note = 'n{self.logger.count}' WHERE {some}")

    def vacuum(self, *_: str) -> None:
        self.logger.box.execute("VACUUM")

    def run(self, *_: str) -> None:
        assert self.logger.box.run() == 0
        assert self.logger.has_arrived()

    def kill(self, *_: str) -> None:
        """Run, and be killed at some step, before it or after."""
        (kind, step), call, is_after = (
            self.chance.choice(self.STEPS),
            self.chance.randint(1, 6),
            self.chance.choice("01"),
        )
        real, calls = getattr(kind, step), itertools.count(1)

        def killing(*given: Any, **named: Any) -> Any:
            number = next(calls)
            result = real(*given, **named) if is_after == "1" or number != call else None
            if number == call:
                raise Killed
            return result

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(kind, step, killing)
            assert self.logger.box.run() == 0


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("seed", range(4))
def test_each_row_arrives_once_whatever_happens_to_the_names_of_the_tables(logger: Logger, key: str, seed: int) -> None:
    logger.key = key
    history = History(logger, random.Random(f"{key} {seed}"))
    history.make("", "log")
    for _ in range(25):
        history.step()
    history.run()


def test_a_cycle_reads_each_state_beside_once(logger: Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of the schema each stream asks for the places of all others."""
    for number in range(10):
        logger.box.execute(TABLE.format(f'"log_{number}"'))
        logger.write(f"log_{number}", 2)
    assert logger.box.run() == 0
    read = list[str]()
    real = up.StateFile.sound

    def sound(states: up.StateFile) -> up.State | None:
        read.append(states.directory.name)
        return real(states)

    logger.box.execute("CREATE TABLE other (id)")
    monkeypatch.setattr(up.StateFile, "sound", sound)
    assert logger.box.run() == 0
    assert 10 <= len(read) <= 3 * 10


def test_places_of_before_keep_no_digest_of_what_is_hidden_since(logger: Logger) -> None:
    logger.box.environ |= {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"drop": ["note"]}'}
    for count in (20, 10):
        logger.write("log", count)
        assert logger.box.run() == 0
        logger.box.execute("DROP TABLE log")
    logger.write("log", 30)
    logger.box.environ["SANITIZE_CONFIG"] = '{"drop": ["note", "more"]}'
    assert logger.box.run() == 0
    state = json.loads((logger.box.folder / "state" / "secure_log" / "last_upload.json").read_text())
    places = [state, *state["formers"]]
    assert [place["columns"] for place in places] == [["id", "timestamp", "value"]] * 3
    digests = {len(line.split(" ")[1]) for place in places for line in place["anchors"]}
    assert digests == {16}  # four bytes for each column


@pytest.mark.parametrize("is_first_single", [True, False])
def test_a_table_that_is_renamed_when_it_becomes_one_of_several_or_the_only_one_is_no_new_one(
    logger: Logger, is_first_single: bool
) -> None:
    tables = logger.box.environ.pop("UPLOAD_TABLES")
    forms = [{"DATABRICKS_TABLE": "logs"}, {"UPLOAD_TABLES": tables}]
    logger.write("log", 40)
    for environ, names in zip(forms if is_first_single else forms[::-1], [("log", "log_1"), ()], strict=True):
        assert [logger.box.run(**environ), logger.box.run(**environ)] == [0, 0]
        logger.rename(*names)
        logger.write("log_1", 5)
    assert logger.box.run(**environ) == 0
    assert logger.has_arrived()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_table_that_was_renamed_is_known_after_runs_that_did_not_come_to_it(logger: Logger, turns: int) -> None:
    """As after kills between two streams, or failures."""
    logger.write("log", 20)
    assert logger.box.run() == 0
    for turn in range(turns):
        logger.write("log", 3)
        logger.rename("log", f"log_{turn}")
        logger.write("log", 25)
        assert logger.box.run("--table", "log") == 0
    logger.box.execute("DELETE FROM log_0 WHERE id < 15")
    assert logger.box.run() == 0
    assert logger.has_arrived()


@pytest.mark.parametrize(("column", "is_there"), [("value", True), ("other", False)])
def test_a_table_takes_no_place_of_one_that_is_but_like_it(logger: Logger, column: str, is_there: bool) -> None:
    """The same times and keys: what went for the one is left in the other."""
    rows = [(f"2026-01-01T00:00:{n:02}Z",) for n in range(30)]

    def make(table: str, column: str, count: int) -> None:
        made = f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, timestamp TEXT, {column} REAL)'
        logger.box.execute(made, f"INSERT INTO {table} (timestamp) VALUES (?)", rows=rows[:count])

    make("log_a", "value", 30)
    if is_there:
        make("log_b", column, 20)
    assert logger.box.run() == 0
    logger.box.execute("DROP TABLE log_a")
    if not is_there:
        make("log_b", column, 20)
    logger.box.execute("INSERT INTO log_b (timestamp) VALUES (?)", rows=rows[20:])
    assert logger.box.run() == 0
    assert len(arrived(logger.box, "raw_logs")) == 2 * 30


def test_what_a_version_kept_of_one_table_before_is_kept(box: Box) -> None:
    fill(box, "sensor_readings", count=0)
    place = {"position": {"rowid": 1}, "anchors": ["1 AAAA NULL"], "columns": ["id"], "gaps": []}
    fields = up.state_fields({"position": {}, "former": place, "source_id": "box/raw_a"})
    assert up.State(**fields).formers == [{"lineage": "former of box/raw_a", **place}]


def test_a_renamed_table_with_many_rows_in_quarantine_goes_on(many: Box) -> None:
    """It is no first run, which would ask."""
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "*readings*", "databricks_table": "all"}])
    fill(many, "readings", count=20)
    assert many.run() == 0
    bad = [(f"2026-01-02T00:00:{n:02}Z", "bad") for n in range(10)]
    many.execute(INSERT.format("readings"), rows=bad)
    assert many.run() == up.QUARANTINED
    many.execute("INSERT INTO readings (timestamp, value) VALUES ('2026-01-31', -1)")
    many.execute("ALTER TABLE readings RENAME TO readings_1")
    fill(many, "readings", count=0)
    assert [many.run(), many.run()] == [0, 0]
    assert len(arrived(many, "raw_all")) == 21


def test_a_commit_in_doubt_of_a_table_that_is_read_by_time_is_no_place_of_another(
    logger: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_time = {"sqlite_table_name": "log_t", "databricks_table": "logs", "cursor": "timestamp"}
    entries = [{"sqlite_table_name": "log*", "databricks_table": "logs"}, by_time]
    logger.box.environ["UPLOAD_TABLES"] = json.dumps(entries)
    logger.write("log", 20)
    logger.write("log_t", 5)
    assert logger.box.run() == 0
    logger.write("log_t", 5)
    with monkeypatch.context() as patch:
        patch.setattr(up.Delivery, "_confirm", lambda *_: (_ for _ in ()).throw(up.FileError("no disk")))
        assert logger.box.run() == 1
    logger.rename("log", "log_1")
    assert logger.box.run() == 0
    assert logger.has_arrived()


TYPED = json.dumps([{"sqlite_table_name": "log*", "databricks_table": "logs", "column_types": {"value": "double"}}])


def put_aside(logger: Logger, **settings: Any) -> None:
    """Let a row of the table `log` go to quarantine, and 22 others arrive."""
    entry = {"sqlite_table_name": "log*", "databricks_table": "logs", "column_types": {"value": "double"}, **settings}
    logger.box.environ["UPLOAD_TABLES"] = json.dumps([entry])
    logger.write("log", 20)
    assert logger.box.run() == 0
    logger.write("log", 3)
    logger.box.execute("UPDATE log SET value = 'bad' WHERE id = 22")
    assert logger.box.run() == up.QUARANTINED


def test_a_quarantine_comes_along_that_was_in_doubt_when_its_table_was_renamed(
    logger: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream of the new name settles it; those of a commit that was never sent are read again."""

    def killed(_: Any, intent: up.Intent, rows: Any) -> None:
        if callable(rows):
            list(rows())
        raise Killed

    for step in ("send", "_confirm"):
        logger.write("log", 20)
        logger.box.environ["UPLOAD_TABLES"] = TYPED
        assert logger.box.run() == 0
        logger.write("log", 3)
        logger.box.execute(f"UPDATE log SET value = 'bad' WHERE value = {logger.count - 2}")
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(up.DeltaTarget if step == "send" else up.Delivery, step, killed)
            logger.box.run()
        logger.rename("log", f"log{step}")
        assert logger.box.run() in (0, up.QUARANTINED)
        assert logger.box.run() == 0
    files = [*(logger.box.folder / "state").glob("*/quarantine/*")]
    assert {file.parent.parent.name for file in files} == {"raw_logsend", "raw_log_confirm"}
    for file in files:
        number = 21 if "send" in str(file) else 44
        file.write_text(file.read_text().replace('"bad"', str(number)))
    assert logger.box.run("--replay-quarantine") == 0
    assert logger.has_arrived()


@pytest.mark.parametrize("killed", ["", "save", "put_lines", "replace"])
def test_a_quarantine_comes_along_with_its_table(
    logger: Logger, monkeypatch: pytest.MonkeyPatch, killed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill at any step loses no row of it, and doubles none."""
    put_aside(logger)
    logger.rename("log", "log_1")
    assert logger.box.run() == 0
    assert "raw_log: its table has gone, or is in tables no more; 1 row in quarantine" in caplog.text
    if killed:
        with monkeypatch.context() as patch:
            place: Any = {"save": up.StateFile, "put_lines": up.Quarantine, "replace": os}[killed]
            real = getattr(place, killed)

            def last(*given: Any) -> None:
                real(*given)
                if killed != "replace" or "jsonl" in str(given[1]):
                    raise KeyboardInterrupt

            patch.setattr(place, killed, last)
            with pytest.raises(KeyboardInterrupt):
                logger.box.run()
    assert logger.box.run() in (0, up.QUARANTINED)
    [file] = (logger.box.folder / "state").glob("*/quarantine/*")
    assert file.parent.parent.name == "raw_log_1"
    file.write_text(file.read_text().replace('"bad"', "21"))
    assert logger.box.run("--replay-quarantine") == 0
    assert logger.has_arrived()


@pytest.mark.parametrize("name", ["log", "\u65e5" * 60], ids=["short", "long"])
def test_a_table_that_went_is_known_by_its_directory_also_where_that_does_not_tell_its_name(
    many: Box, name: str
) -> None:
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "*", "databricks_table": "all"}])
    fill(many, "other", count=0)

    def make(first: int) -> None:
        values = [(f"2026-01-01T00:00:{n:02}Z" if n != 15 else "bad", first + n) for n in range(20)]
        many.execute(TABLE.format(name), INSERT.format(name), rows=values)

    make(0)
    assert many.run() == up.QUARANTINED
    many.execute(f"DROP TABLE {name}")
    assert many.run() == 0
    make(100)
    assert many.run() == up.QUARANTINED
    assert len(arrived(many, "raw_all")) == 38
    many.execute(f"ALTER TABLE {name} RENAME TO renamed")
    assert many.run() == 0 == many.run()
    aside = (many.folder / "state").glob("*/quarantine/*.jsonl")
    assert [file.parent.parent.name for file in aside] == ["raw_renamed"] * 2


@pytest.mark.parametrize("tables", ["*", ""])
@pytest.mark.parametrize("is_away", [False, True])
def test_the_state_of_another_uploader_within_the_directory_is_left_alone(
    many: Box, tables: str, is_away: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As where one is at the default, ./state, and one where --init puts it, ./state/<database>."""
    rows = [(f"2026-01-01T00:00:{n:02}Z" if n != 15 else "bad", n) for n in range(20)]
    many.execute(TABLE.format("theirs"), INSERT.format("theirs"), rows=rows)
    inner = many.folder / "state" / "inner"
    own = {"UPLOAD_TABLES": "", "STATE_DIR": str(inner), "DATABRICKS_TABLE": "theirs"}
    assert many.run(**own) == up.QUARANTINED
    before = (inner / up.STATE_NAME).read_bytes()
    many.database.rename(many.database.with_name("theirs.db"))
    fill(many, "a")
    many.environ |= {"UPLOAD_TABLES": tables, "DATABRICKS_TABLE": "a"}
    if is_away:
        many.database.unlink()
    caplog.clear()
    for flags in ((), ("--status",)):
        assert many.run(*flags) == is_away
    assert (inner / up.STATE_NAME).read_bytes() == before
    assert "inner" not in caplog.text


def test_a_table_with_an_empty_name_is_another_table_too(many: Box) -> None:
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "*", "databricks_table": "all"}])
    fill(many, "", "copied", "log", count=20)
    assert many.run() == 0
    assert len(arrived(many, "raw_all")) == 60


def test_what_a_quarantine_holds_of_a_table_that_went_is_said(logger: Logger, caplog: pytest.LogCaptureFixture) -> None:
    put_aside(logger)
    logger.write("log_a", 3)
    assert logger.box.run() == 0
    logger.box.execute("DROP TABLE log")
    for action in ("--once", "--replay-quarantine", "--status"):
        caplog.clear()
        assert logger.box.run(action) == 0
        assert "raw_log: its table has gone, or is in tables no more; 1 row in quarantine" in caplog.text


def test_a_row_that_a_quarantine_does_not_hold_is_needed_under_the_tables_other_name(
    logger: Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """What sanitize hides is in the source alone."""
    put_aside(logger, enable_sanitize=True, sanitize_config={"round": {"value": 1}})
    logger.rename("log", "log_1")
    logger.write("log", 30)
    assert logger.box.run() == 0
    capsys.readouterr()
    assert logger.box.run("--status", "--format", "json") == 0
    told = {fact["stream"]: fact for fact in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (told["secure_log"]["delivered_to"], told["secure_log_1"]["delivered_to"]) == (21, 21)


def test_a_commit_in_doubt_is_settled_for_the_table_that_was_renamed(
    many: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "*readings*", "databricks_table": "all"}])
    fill(many, "readings", count=20)
    assert many.run() == 0
    many.execute("INSERT INTO readings (timestamp, value) VALUES ('2026-01-31', -1), ('2026-01-31', -2)")
    with monkeypatch.context() as patch:
        patch.setattr(up.Delivery, "_confirm", lambda *_: (_ for _ in ()).throw(up.FileError("no disk")))
        assert many.run() == 1
    many.execute("ALTER TABLE readings RENAME TO a_readings")
    fill(many, "readings", count=0)
    before = {file: file.read_bytes() for file in (many.folder / "state").rglob("last_upload.json")}
    assert [many.run("--dry-run"), many.run("--check"), many.run("--status")] == [0, 0, 0]
    assert before == {file: file.read_bytes() for file in (many.folder / "state").rglob("last_upload.json")}
    assert [many.run(), many.run()] == [0, 0]
    assert len(arrived(many, "raw_all")) == 22


def test_a_table_of_its_own_that_begins_like_one_before_is_new(many: Box) -> None:
    """As of sessions whose clock begins anew, and whose first values are the same."""
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "session_*", "databricks_table": "all"}])
    for number in (1, 2):
        many.execute(f"CREATE TABLE session_{number} (id INTEGER PRIMARY KEY, timestamp, value REAL)")
        rows = [(f"2026-01-01T00:00:{n:02}Z", 0.0) for n in range(39 + number)]
        many.execute(INSERT.format(f"session_{number}"), rows=rows)
        assert many.run() == 0
        many.execute(f"DROP TABLE session_{number}")
    assert len(arrived(many, "raw_all")) == 40 + 41


def test_a_state_of_nobody_goes_to_no_stream_because_it_is_the_only_one_of_a_run(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """One that has a time alone may be of any table."""
    fill(many, "a", "b", count=2)
    many.state_file.parent.mkdir()
    many.state_file.write_text('{"last_upload": "2026-01-01T00:00:00Z"}')
    assert many.run("--table", "b") == 1
    assert "may belong to raw_a or raw_b" in caplog.text
    assert arrived(many, "raw_b") == []


def test_a_time_by_hand_waits_while_there_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "last_upload.json").write_text('{"last_upload": "2026-01-01"}')
    up.adopt(tmp_path, {}, False)
    assert (tmp_path / "last_upload.json").exists()


def test_a_stream_that_becomes_the_only_table_keeps_its_name(many: Box) -> None:
    many.environ["UPLOAD_SOURCE_ID"] = "box"
    fill(many, "a", count=3)
    assert many.run() == 0
    del many.environ["UPLOAD_TABLES"]
    many.environ["DATABRICKS_TABLE"] = "a"
    fill(many, "a", count=2)
    assert many.run() == 1
    (many.folder / "state" / "raw_a" / "last_upload.json").rename(many.folder / "state" / "last_upload.json")
    assert many.run() == 0
    assert sorted(arrived(many, "raw_a")) == [(1,), (2,), (3,), (4,), (5,)]


def test_a_copy_of_a_table_has_rows_of_its_own(many: Box) -> None:
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "*", "databricks_table": "all"}])
    fill(many, "readings", count=20)
    assert many.run() == 0
    many.execute(TABLE.format('"copied"'), "INSERT INTO copied SELECT * FROM readings")
    assert many.run() == 0
    assert len(arrived(many, "raw_all")) == 40


def test_a_table_for_each_month_feeds_one_target_also_those_that_come_later(many: Box) -> None:
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "Readings_*", "databricks_table": "readings"}])
    fill(many, "readings_2026_09", "readings_2026_10", "others")
    assert many.run() == 0
    assert len(arrived(many, "raw_readings")) == 6
    fill(many, "readings_2026_11")
    assert many.run() == 0
    assert many.run() == 0
    assert len(arrived(many, "raw_readings")) == 9
    assert arrived(many, "raw_others") == []


def test_views_virtual_tables_and_what_is_behind_them_fit_no_pattern_but_a_view_can_be_named(many: Box) -> None:
    fill(many, "a")
    many.execute(
        "CREATE VIEW seen AS SELECT timestamp, value FROM a",
        "CREATE VIRTUAL TABLE words USING fts5 (word)",
        "INSERT INTO words VALUES ('x')",
        "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT)",
    )
    assert many.run() == 0
    assert states(many) == ["raw_a"]
    assert many.run("--tables", "*,seen") == 0
    assert states(many) == ["raw_a", "raw_seen"]
    assert len(arrived(many, "raw_seen", "value")) == 3


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("*", ["a1", "B2", "c[x]"]), ("A?", ["a1"]), ("[ab]*", ["a1", "B2"]), ("[!ab]*", ["c[x]"]), ("C[X]", ["c[x]"]),
        ("b2", ["B2"]), ("nowhere", ["nowhere"]), ("no*", []), ("v", ["v"]), ("f", ["f"]), ("s", ["s"]),
    ],
)  # fmt: skip
def test_patterns_take_any_case_and_a_name_is_no_pattern_where_a_table_has_it(wanted: str, found: list[str]) -> None:
    kinds = {"a1": "table", "B2": "table without rowid", "c[x]": "table", "v": "view", "f": "virtual", "s": "shadow"}
    assert up.tables_like(wanted, kinds)[1] == found


def test_an_entry_has_settings_of_its_own_and_the_rest_from_the_top_level(many: Box) -> None:
    fill(many, "a", "b")
    rules = {"sqlite_table_name": "a", "enable_filter": True, "filter_config": {"value": {">": 0}}}
    entries = ["*", {"sqlite_table_name": "b", "databricks_table": "other"}, rules]
    file = many.folder / "uploader.yaml"
    file.write_text(json.dumps({"tables": entries, "max_bad_rows": 7}))
    del many.environ["UPLOAD_TABLES"]
    assert many.run("--config", str(file)) == 0
    assert states(many) == ["filtered_a", "raw_a", "raw_b"]
    assert len(arrived(many, "filtered_a")) == 2
    assert len(arrived(many, "raw_other")) == 3
    assert arrived(many, "raw_b") == []


def test_two_entries_for_one_stream_are_refused(many: Box, caplog: pytest.LogCaptureFixture) -> None:
    fill(many, "a")
    assert many.run("--tables", "a,A") == 2
    assert "two entries of tables lead to the stream raw_a" in caplog.text
    assert arrived(many, "raw_a") == []


def test_a_table_that_two_patterns_fit_keeps_no_other_waiting(many: Box, caplog: pytest.LogCaptureFixture) -> None:
    """It may come while a service runs."""
    fill(many, "aa", "ab", "bb")
    many.environ["UPLOAD_TABLES"] = "a*,*b"
    assert many.run() == 2
    assert "raw_ab: two patterns of tables fit raw_ab" in caplog.text
    assert [len(arrived(many, f"raw_{name}")) for name in ("aa", "ab", "bb")] == [3, 0, 3]
    assert many.run("--tables", "a*,*b,ab") == 0
    assert len(arrived(many, "raw_ab")) == 3


def test_names_cannot_leave_the_directories(many: Box) -> None:
    names = ["../../up", "/../../../away", "a/b", "ü ~%"]
    fill(many, *names)
    many.run()
    assert "raw_%C3%BC%20%7E%25" in states(many)
    assert not (many.folder / "away").exists()
    inside = {many.folder / name for name in ("data", "lake", "state")}
    assert set(many.folder.iterdir()) <= inside


def test_tables_that_all_go_while_a_service_runs_are_no_error(many: Box, caplog: pytest.LogCaptureFixture) -> None:
    fill(many, "a", "b")
    config = up.load_config({"tables": "*"}, many.environ)
    fleet = up.Fleet(dataclasses.replace(config, state_dir=many.folder / "state"), {}, threading.Event())
    watch = up.Watch(fleet, {})
    assert watch.cycle().sent == 6
    many.execute("DROP TABLE a", "DROP TABLE b")
    assert [watch.cycle().sent, watch.cycle().sent] == [0, 0]
    assert caplog.text.count("its table has gone") == 2
    fill(many, "c", count=2)
    assert watch.cycle().sent == 2


def test_a_table_that_went_is_said_once_and_one_that_was_never_there_is_an_error(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    fill(many, "a", "b")
    assert many.run("--tables", "a,b") == 0
    many.execute("DROP TABLE b")
    assert many.run("--tables", "a,b") == 0
    assert "raw_b: its table has gone" in caplog.text
    caplog.clear()
    assert many.run("--tables", "a,nowhere") == 2
    assert "raw_nowhere: the database has no table 'nowhere'" in caplog.text
    assert many.run("--tables", "x*") == 1
    many.execute("DROP TABLE a")
    assert many.run("--tables", "[ab]") == 0, "as between two days of a logger"
    assert "raw_a: its table has gone" in caplog.text
    assert many.run("--tables", "x*") == 1
    fill(many, "a")
    assert many.run("--tables", "[ab]") == 0


def test_one_of_the_tables_can_be_chosen(many: Box) -> None:
    fill(many, "a", "b")
    assert many.run("--table", "A") == 0
    assert (len(arrived(many, "raw_a")), len(arrived(many, "raw_b"))) == (3, 0)
    assert many.run("--table", "c") == 2


def test_a_word_chooses_the_table_of_that_name_before_a_stream_and_before_another_case(many: Box) -> None:
    fill(many, "x", "raw_x", "\u00fcber", "\u00dcber")
    for word, chosen in [
        ("raw_x", "raw_raw_x"),
        ("raw_raw_x", "raw_raw_x"),
        ("X", "raw_x"),
        ("\u00fcber", "raw_\u00fcber"),
    ]:
        config = up.load_config({"sqlite_table_name": word}, many.environ)
        assert list(up.configured(config)) == [chosen]


def test_without_tables_the_state_lies_where_it_always_did(box: Box) -> None:
    fill(box, "a")
    assert box.run() == 0
    assert states(box) == ["."]
    assert "/" not in box.state()["source_id"]


# --- Failures stay with their stream ---


def test_a_stream_that_fails_is_reported_with_its_name_and_the_others_go_on(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    fill(many, "a", "b", "c")
    assert many.run() == 0
    many.execute("INSERT INTO c VALUES (9, '2026-01-01', 'warm')")
    assert many.run() == up.QUARANTINED
    many.execute("CREATE TABLE k (id TEXT PRIMARY KEY, v REAL) WITHOUT ROWID", "INSERT INTO k VALUES ('x', 1)")
    fill(many, "a", "b", "c")
    assert many.run() == 2
    assert "raw_k: k has no single time column" in caplog.text
    assert "1 of 4 tables failed" in caplog.text
    assert [len(arrived(many, f"raw_{name}")) for name in "abc"] == [6, 6, 6]


@pytest.mark.parametrize("kind", [up.Unreachable, up.NotReady])
def test_what_ends_a_cycle_for_all_streams_hides_no_worse_error_of_one_before(
    many: Box, kind: type[up.UploaderError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it told as that one's failure, or as one of a stream that was not asked for."""
    fill(many, "a", "b", "c")
    many.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "a", "timestamp_col": "no"}, "b", "c"])

    def failing(*_: Any) -> None:
        raise kind("not there")

    monkeypatch.setattr(up.DeltaTarget, "ready", failing)
    assert many.run() == 2
    assert many.run("--table", "b") == 1
    streams = json.loads((many.folder / "state" / up.CYCLE_FILE).read_text())["streams"]
    errors = [streams[f"raw_{name}"]["errors"] for name in "abc"]
    assert errors == [{"ConfigError": 1}, {kind.__name__: 2}, {kind.__name__: 1}]


def damage(box: Box, table: str) -> None:
    """Overwrite the first page of a table's rows."""
    with sqlite3.connect(box.database) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    connection.close()
    with box.database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_many_tables_one_damaged_one_empty_one_behind_a_view_and_one_that_appears(
    many: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"t{number:03}" for number in range(50)]
    with sqlite3.connect(many.database) as connection:
        for name in names:
            connection.execute(TABLE.format(name))
            rows = [] if name == "t007" else [("2026-01-01T00:00:00Z", 1.0)] * 2
            connection.executemany(INSERT.format(name), rows)
        connection.execute("CREATE VIEW seen AS SELECT * FROM t009")
    connection.close()
    damage(many, "t042")
    cycles, stop, real = [], [], up.Watch.cycle

    def cycle(watch: up.Watch) -> up.Tally:
        cycles.append(1)
        try:
            return real(watch)
        finally:
            if len(cycles) == 1:
                fill(many, "appeared")
            else:
                watch.fleet.stopping.set()
                stop.append(1)

    monkeypatch.setattr(up.Watch, "cycle", cycle)
    many.environ["ONCE"] = "0"
    assert many.run("--interval", "0.01") == 0
    assert len(cycles) == 2
    good = [name for name in names if name not in ("t007", "t042")]
    assert [len(arrived(many, f"raw_{name}")) for name in good] == [2] * len(good)
    assert arrived(many, "raw_t042") == arrived(many, "raw_seen") == arrived(many, "raw_t007") == []
    assert len(arrived(many, "raw_appeared")) == 3
    assert "raw_t042: the database is damaged" in caplog.text
    many.environ["ONCE"] = "1"
    monkeypatch.undo()
    assert many.run() == 1


def test_a_run_ends_where_each_of_its_streams_needs_a_person(many: Box) -> None:
    many.execute(
        "CREATE TABLE k (id TEXT PRIMARY KEY) WITHOUT ROWID", "CREATE TABLE l (id TEXT PRIMARY KEY) WITHOUT ROWID"
    )
    assert many.run("--interval", "0.01", ONCE="0") == 2


# --- A state of the single form ---


def single(box: Box, *flags: str) -> int:
    """A run for the table `a` alone, as before there were others."""
    return up.main(["--table", "a", *flags], {**box.environ, "UPLOAD_TABLES": "", "DATABRICKS_TABLE": "a"})


@pytest.mark.parametrize("source_id", [[], ["--source-id", "box"]])
def test_a_state_of_the_single_form_moves_to_its_stream_and_nothing_is_sent_twice(
    many: Box, source_id: list[str]
) -> None:
    fill(many, "a", "b")
    assert single(many, *source_id) == 0
    many.execute("INSERT INTO a VALUES (9, '2026-01-01', 'warm')")
    assert single(many, *source_id) == up.QUARANTINED
    before = many.state()
    assert many.run("--dry-run", *source_id) == 0
    assert states(many) == ["."]
    fill(many, "a")
    assert many.run(*source_id) == 0
    assert states(many) == ["raw_a", "raw_b"]
    assert many.run(*source_id) == 0
    assert arrived(many, "raw_a") == [(1,), (10,), (11,), (12,), (2,), (3,)]
    assert len(arrived(many, "raw_b")) == 3
    after = json.loads((many.folder / "state" / "raw_a" / "last_upload.json").read_text())
    assert after["source_id"] == before["source_id"]
    assert len(list((many.folder / "state" / "raw_a" / "quarantine").glob("*.jsonl"))) == 1


@pytest.mark.parametrize("call", range(1, 5))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_move_that_is_killed_is_finished_by_the_next_run(
    many: Box, monkeypatch: pytest.MonkeyPatch, call: int, when: str
) -> None:
    fill(many, "a", "b")
    assert single(many) == 0
    many.execute("INSERT INTO a VALUES (9, '2026-01-01', 'warm')")
    assert single(many) == up.QUARANTINED
    moves: list[int] = []
    real = os.replace

    def move(source: Any, target: Any) -> None:
        moves.append(1)
        if len(moves) == call and when == "before":
            raise KeyboardInterrupt
        real(source, target)
        if len(moves) == call:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", move)
    with pytest.raises(KeyboardInterrupt):
        many.run()
    monkeypatch.undo()
    assert many.run() == 0
    assert states(many) == ["raw_a", "raw_b"]
    assert len(arrived(many, "raw_a")) == 3
    assert len(list((many.folder / "state").rglob("*.jsonl"))) == 1


def test_a_state_of_the_single_form_moves_to_its_stream_also_when_its_table_comes_later(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a producer makes its database anew while a service starts."""
    fill(box, "a", "other")
    box.environ |= {"DATABRICKS_TABLE": "a", "SQLITE_TABLE_NAME": "a"}
    assert box.run() == 0
    for name in ("DATABRICKS_TABLE", "SQLITE_TABLE_NAME"):
        del box.environ[name]
    box.environ["UPLOAD_TABLES"] = "a*,other*"
    box.execute("ALTER TABLE a RENAME TO hidden")
    fleet = up.Fleet(up.load_config({}, box.environ), box.environ, threading.Event())
    upload: Any = up.run_cycle
    for turn in range(4):
        if turn == 2:
            box.execute("ALTER TABLE hidden RENAME TO a")
            fill(box, "a", count=2)
        assert fleet.each(lambda job, database: upload(job, database, up.Tally()) or 0) == 0
    assert caplog.text.count("which is no stream") == 1
    assert len(arrived(box, "raw_a")) == 5
    assert states(box) == ["raw_a", "raw_other"]


def test_a_state_that_no_stream_owns_stays_and_one_of_a_time_alone_is_asked_about(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    fill(many, "a", "b")
    assert single(many) == 0
    assert many.run("--tables", "b") == 0
    assert "which is no stream" in caplog.text
    assert states(many) == [".", "raw_b"]
    many.state_file.write_text('{"last_upload": "2026-01-01"}')
    assert many.run() == 1
    assert "raw_a or raw_b" in caplog.text


def test_a_table_that_was_a_stream_is_not_sent_again_by_the_single_form(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    fill(many, "a", "b")
    assert many.run() == 0
    assert single(many) == 1
    assert "was uploaded as one of several tables" in caplog.text
    assert len(arrived(many, "raw_a")) == 3


# --- What is shared ---


def source_ids(box: Box) -> dict[str, str]:
    """What each stream's source is called, by the stream."""
    files = {name: box.folder / "state" / name / "last_upload.json" for name in states(box)}
    return {name: json.loads(file.read_text())["source_id"] for name, file in files.items()}


def test_streams_that_begin_in_one_process_have_names_that_begin_alike(many: Box) -> None:
    fill(many, "a", "b")
    assert many.run() == 0
    names = source_ids(many)
    assert {name.split("/")[1] for name in names.values()} == {"raw_a", "raw_b"}
    assert len({name.split("/")[0] for name in names.values()}) == 1


@pytest.mark.parametrize("by_hand", [None, '{"last_upload": "2026-01-01T00:00:01Z"}'])
def test_a_stream_whose_state_was_lost_gets_another_name(many: Box, by_hand: str | None) -> None:
    """The target takes each number of a name once."""
    fill(many, "a", "b")
    fleet = up.Fleet(up.load_config({}, many.environ), many.environ, threading.Event())
    upload: Any = up.run_cycle

    def cycle() -> int:
        return fleet.each(lambda job, database: upload(job, database, up.Tally()) or 0)

    assert cycle() == 0
    for number in range(2):
        names = source_ids(many)
        file = many.folder / "state" / "raw_a" / "last_upload.json"
        file.unlink()
        if by_hand:
            file.write_text(by_hand)
        assert [(cycle if number else many.run)() for _ in range(2)] == [0, 0]
        assert source_ids(many)["raw_a"] != names["raw_a"]
        assert source_ids(many)["raw_b"] == names["raw_b"]
    assert len(arrived(many, "raw_a")) == (5 if by_hand else 9)


@pytest.mark.parametrize(
    ("by_hand", "expected"), [(None, [3, 7, 12]), ('{"last_upload": "2026-01-01T00:00:01Z"}', [3, 4, 5])]
)
def test_an_only_table_whose_state_was_lost_while_a_service_runs_gets_another_name(
    box: Box, by_hand: str | None, expected: list[int]
) -> None:
    """As a stream does. Under its old name each run would stop at a commit of that number, with other rows."""
    fill(box, "a")
    fleet = up.Fleet(up.load_config({}, box.environ), box.environ, threading.Event())
    upload: Any = up.run_cycle
    for count in expected:
        assert fleet.each(lambda job, database: upload(job, database, up.Tally()) or 0) == 0
        assert len(box.arrived()) == count
        fill(box, "a", count=1)
        box.state_file.unlink()
        if by_hand:
            box.state_file.write_text(by_hand)


def test_a_cycle_opens_the_file_once_and_with_nothing_new_asks_little_of_each_table(
    many: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of thirty tables, less than a third of what one alone takes; and no target is opened."""
    queries, opened, asked = list[Any](), list[Any](), list[Any]()
    per_cycle: list[int] = []
    cycle = up.Watch.cycle

    def counted(watch: up.Watch) -> up.Tally:
        before = len(queries)
        opened.clear()
        asked.clear()
        try:
            return cycle(watch)
        finally:
            per_cycle.append(len(queries) - before)
            if len(per_cycle) == 3:
                watch.fleet.stopping.set()

    def noted(notes: list[Any], method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (notes.append(1), method(*arguments))[1]  # type: ignore[func-returns-value]

    monkeypatch.setattr(up, "answer_of", noted(queries, up.answer_of))
    monkeypatch.setattr(up.Database, "__enter__", noted(opened, up.Database.__enter__))
    monkeypatch.setattr(up.DeltaTarget, "table", noted(asked, up.DeltaTarget.table))
    monkeypatch.setattr(up.Watch, "cycle", counted)
    monkeypatch.setattr(up.Watch, "MOST_QUIET", 0)
    cost = {}
    for count in (1, 30):
        fill(many, *(f"t{number:03}" for number in range(count)), count=1)
        per_cycle.clear()
        assert many.run("--interval", "0.01", ONCE="0") == 0
        assert (len(opened), asked) == (1, [])
        cost[count] = per_cycle[-1]
    assert 3 * cost[30] < 30 * cost[1], cost


COLUMNS = "id BIGINT, timestamp TIMESTAMP, value DOUBLE"
REBUILD = (
    "ALTER TABLE readings RENAME TO others", TABLE.format("Readings"), "INSERT INTO Readings SELECT * FROM others",
    "DROP TABLE others",
)  # fmt: skip
RENAME = ("ALTER TABLE readings RENAME TO others", "ALTER TABLE others RENAME TO Readings")


@pytest.mark.parametrize("change", [RENAME, REBUILD], ids=["renamed", "rebuilt"])
def test_a_table_whose_name_gets_other_capitals_goes_on_in_the_table_of_a_catalog(
    box: Box, warehouse: Warehouse, change: Sequence[str]
) -> None:
    """Its default target is spelled in another way, but it is one; what is in quarantine comes along."""
    box.behind(warehouse, "s.raw_readings", COLUMNS)
    box.environ["UPLOAD_TABLES"] = "read*"
    del box.environ["DATABRICKS_TABLE"]
    fill(box, "readings")
    assert box.run() == 0
    box.execute("INSERT INTO readings (timestamp, value) VALUES ('2026-01-01', 'odd')")
    assert box.run() == up.QUARANTINED
    box.execute(*change)
    fill(box, "readings", count=2)
    assert [box.run(), box.run()] == [0, 0]
    assert sorted(warehouse.sql("SELECT id FROM s.raw_readings")) == [(1,), (2,), (3,), (5,), (6,)]
    assert list((box.folder / "state").glob("raw_Readings/quarantine/*"))


def test_a_state_of_the_single_form_is_that_of_a_stream_whose_target_has_other_capitals(
    box: Box, warehouse: Warehouse
) -> None:
    box.behind(warehouse, "s.raw_Readings", COLUMNS)
    fill(box, "readings")
    assert box.run() == 0
    del box.environ["DATABRICKS_TABLE"]
    assert box.run("--tables", "read*") == 0
    assert len(warehouse.sql("SELECT id FROM s.raw_readings")) == 3


def test_all_streams_of_a_cycle_share_one_session_with_the_warehouse(
    many: Box, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Warehouse(tmp_path_factory.mktemp("warehouse")) as warehouse:
        fill(many, "a", "b", "c")
        del many.environ["LAKEHOUSE_PATH"]
        many.environ |= {**warehouse.environment(), "DATABRICKS_DATABASE": "s"}
        warehouse.sql("CREATE SCHEMA s")
        for name in "abc":
            columns = "id BIGINT, timestamp TIMESTAMP, value DOUBLE, databricks_batch_id STRING"
            warehouse.sql(f"CREATE TABLE s.raw_{name} ({columns})")
        before = warehouse.log()["sessions_opened"]
        assert many.run() == 0
        assert warehouse.log()["sessions_opened"] == before + 1
        assert many.run() == 0
        assert warehouse.log()["sessions_opened"] == before + 1
        fill(many, "b")
        assert many.run("--source-id", "other") == 1
        counted = [warehouse.sql(f"SELECT count(*) FROM s.raw_{name}")[0][0] for name in "abc"]
        assert counted == [3, 3, 3]
        assert many.run() == 0
        assert warehouse.sql("SELECT count(*) FROM s.raw_b")[0][0] == 6


def test_one_lock_is_for_all_streams(many: Box) -> None:
    fill(many, "a", "b")
    with up.StateFile(many.folder / "state"):
        assert many.run() == 75
        assert single(many) == 75
    assert many.run() == 0


# --- Actions ---


def test_looking_covers_all_streams(many: Box, capsys: pytest.CaptureFixture[str]) -> None:
    fill(many, "a", "b")
    assert many.run("--dry-run") == 0
    out = capsys.readouterr().out
    assert re.search("raw_a by Delta: 3 rows of 3 read", out)
    assert re.search("raw_b by Delta: 3 rows of 3 read", out)
    assert many.run("--healthcheck") == 1
    assert many.run() == 0
    fill(many, "b")
    assert many.run("--healthcheck") == 0
    capsys.readouterr()
    assert many.run("--status", "--format", "json") == 0
    facts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(f["stream"], f["rows_waiting"], f["commits"]) for f in facts] == [("raw_a", 0, 1), ("raw_b", 3, 1)]
    assert many.run("--status") == 0
    assert re.search(r"raw_b +2026-01-01T00:00:02\+00:00 +1 +3 ", capsys.readouterr().out)
    assert many.run("--check") == 0
    out = capsys.readouterr().out
    assert "raw_a database: table a, 3 columns" in out
    assert "raw_b columns: value (REAL) -> value double" in out
    assert many.run("--print-ddl") == 0
    assert re.findall("EXISTS `(.*?)`", capsys.readouterr().out) == ["raw_a", "raw_b"]
    assert many.run("--run-query", "INFO") == 0
    assert "Rows in raw_b\nrows\n----\n3\n" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["", "missing.db"])
@pytest.mark.parametrize(("tables", "seen"), [("*", ["raw_a", "raw_b"]), ("B*", ["raw_b"]), ("a,c", ["raw_a"])])
def test_the_lake_tells_its_tables_where_there_is_no_database(
    many: Box, source: str, tables: str, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(many, "a", "b")
    assert many.run() == 0
    many.environ |= {"UPLOAD_TABLES": tables, "SQLITE_PATH": source}
    capsys.readouterr()
    assert many.run("--compact", "--format", "csv") == 0
    assert re.findall(r"raw_\w", capsys.readouterr().out) == seen
    assert many.run("--run-query", f"SELECT count(*) FROM {seen[0]}", "--format", "csv") == 0
    assert capsys.readouterr().out == "count(*)\n3\n"
    assert many.run("--run-query", "INFO", "--format", "csv") == 0
    assert list(dict.fromkeys(re.findall(r"raw_\w", capsys.readouterr().out))) == seen


def test_a_lake_without_a_table_yet_is_no_error_of_the_settings(many: Box, capsys: pytest.CaptureFixture[str]) -> None:
    fill(many, "a")
    for action in (["--compact"], ["--run-query", "INFO"], ["--run-query", "SELECT 1"]):
        assert many.run(*action) == 0
    assert "raw_a" not in capsys.readouterr().out
    assert many.run("--run-query", "SELECT * FROM raw_a") == 1


def test_tables_of_a_store_are_those_that_the_states_name_or_nothing_tells_them(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    fill(many, "a", "b")
    assert many.run() == 0
    file = many.folder / "state" / "raw_b" / "last_upload.json"
    states = up.StateFile(file.parent)
    states.save(dataclasses.replace(states.load() or up.State(), target="s3://bucket/lake/raw_b"))
    many.environ |= {"SQLITE_PATH": "", "LAKEHOUSE_PATH": "s3://bucket/lake"}
    assert list(up.delta_targets(up.load_config({}, many.environ))) == ["raw_b"]
    file.unlink()
    for action in (["--compact"], ["--run-query", "SELECT 1"]):
        assert many.run(*action) == 2
        assert "nothing tells which tables there are" in caplog.text
        caplog.clear()


def test_a_source_id_that_is_set_later_is_told_as_what_all_streams_go_on_by(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has it with its own name behind."""
    fill(many, "a", "b")
    assert many.run() == 0
    assert many.run("--source-id", "box-7") == 1
    [told] = set(re.findall(r"source_id: (\S+) goes on there", caplog.text))
    assert many.run("--source-id", told) == 0
    assert len(arrived(many, "raw_a")) == len(arrived(many, "raw_b")) == 3


def test_one_ddl_is_printed_for_tables_that_feed_one_target(many: Box, capsys: pytest.CaptureFixture[str]) -> None:
    fill(many, "r1", "r2")
    many.execute("ALTER TABLE r2 ADD COLUMN note TEXT")
    entry = json.dumps([{"sqlite_table_name": "r*", "databricks_table": "r"}])
    assert many.run("--print-ddl", UPLOAD_TABLES=entry) == 0
    out = capsys.readouterr().out
    assert re.findall("EXISTS `(.*?)`", out) == ["raw_r"]
    assert "`note` STRING" in out


def test_one_ddl_is_printed_for_one_target_whose_name_is_written_in_two_ways(
    many: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    many.execute("CREATE TABLE r1 (time TEXT, v INTEGER)", "CREATE TABLE r2 (time TEXT, w TEXT)")
    entries = [
        {"sqlite_table_name": "r1", "databricks_table": "R"},
        {"sqlite_table_name": "r2", "databricks_table": "r"},
    ]
    assert many.run("--print-ddl", UPLOAD_TABLES=json.dumps(entries)) == 0
    out = capsys.readouterr().out
    assert re.findall("EXISTS `(.*?)`", out) == ["raw_R"]
    assert re.findall("^  `(.*?)`", out, re.MULTILINE)[:-2] == ["time", "v", "w"]


def test_a_ddl_for_several_tables_has_no_column_twice(many: Box, capsys: pytest.CaptureFixture[str]) -> None:
    """To the target V and v are one, as when rows are sent."""
    many.execute("CREATE TABLE r1 (time TEXT, v INTEGER)", "CREATE TABLE r2 (Time TEXT, V INTEGER, w TEXT)")
    entry = json.dumps([{"sqlite_table_name": "r*", "databricks_table": "r"}])
    assert many.run("--print-ddl", UPLOAD_TABLES=entry) == 0
    assert re.findall("^  `(.*?)`", capsys.readouterr().out, re.MULTILINE)[:-2] == ["time", "v", "w"]


def test_a_ddl_for_several_tables_has_types_that_hold_the_values_of_each(
    many: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    many.execute("CREATE TABLE r1 (time TEXT, n INTEGER, x TEXT, b BLOB, v INTEGER)")
    many.execute("CREATE TABLE r2 (time TEXT, n REAL, x INTEGER, b TEXT, v INTEGER)")
    entry = json.dumps([{"sqlite_table_name": "r*", "databricks_table": "r"}])
    assert many.run("--print-ddl", UPLOAD_TABLES=entry) == 0
    found = dict(re.findall("^  `(.*?)` (\\w+)", capsys.readouterr().out, re.MULTILINE))
    assert {name: found[name] for name in "nxbv"} == {"n": "DOUBLE", "x": "STRING", "b": "BINARY", "v": "BIGINT"}


def test_repairs_cover_all_streams_or_one(many: Box, caplog: pytest.LogCaptureFixture) -> None:
    fill(many, "a", "b")
    assert many.run("--source-id", "box") == 0
    many.environ["UPLOAD_SOURCE_ID"] = "box"
    assert many.run("--since", "2026-01-01T00:00:02Z", "--table", "a") == 0
    assert (len(arrived(many, "raw_a")), len(arrived(many, "raw_b"))) == (4, 3)
    assert many.run("--since", "2026-01-01T00:00:02Z") == 0
    assert (len(arrived(many, "raw_a")), len(arrived(many, "raw_b"))) == (5, 4)
    for name in ("raw_a", "raw_b"):
        (many.folder / "state" / name / "last_upload.json").write_text("damaged")
    assert many.run() == 1
    assert many.run("--recover", "--table", "b") == 0
    assert many.run("--recover") == 0
    assert "raw_b/last_upload.json is there and sound" in caplog.text
    assert "raw_a/last_upload.json is there and sound" not in caplog.text
    assert many.run() == 0
    assert (len(arrived(many, "raw_a")), len(arrived(many, "raw_b"))) == (5, 4)


def test_what_helps_one_of_several_tables_by_since_leaves_the_others_where_they_are(
    many: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of what is newest, as of inverters, whose row is rewritten with a later time."""
    fill(many, "a")
    many.execute('CREATE TABLE "it is" (device, timestamp)', "INSERT INTO \"it is\" VALUES ('x', '2026-01-01')")
    assert many.run() == 0
    many.execute("UPDATE \"it is\" SET timestamp = '2026-01-02'")
    assert (many.run(), many.run("--check")) == (1, 1)
    helps = "Edited: --table 'raw_it is' --since with a time past theirs. New: --table 'raw_it is' --since"
    assert helps in caplog.text
    assert helps in capsys.readouterr().out
    fill(many, "a")
    assert many.run("--table", "raw_it is", "--since", "2026-03-01") == 0
    assert many.run() == 0
    assert [len(arrived(many, name, "timestamp")) for name in ("raw_a", "raw_it is")] == [6, 1]


def test_quarantined_rows_of_all_streams_are_sent_again(many: Box) -> None:
    fill(many, "a", "b")
    assert many.run() == 0
    many.execute("INSERT INTO a VALUES (9, '2026-01-01', 'warm')", "INSERT INTO b VALUES (9, '2026-01-01', 'warm')")
    assert many.run() == up.QUARANTINED
    for file in (many.folder / "state").rglob("*.jsonl"):
        file.write_text(file.read_text().replace('"warm"', "21.5"))
    assert many.run("--replay-quarantine") == 0
    assert (len(arrived(many, "raw_a")), len(arrived(many, "raw_b"))) == (4, 4)


# --- Tables without a time ---


def test_a_table_without_a_time_column_arrives_by_rowid_and_one_line_says_so(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    box.execute("CREATE TABLE r (id INTEGER PRIMARY KEY, v REAL)", "INSERT INTO r (v) VALUES (?)", rows=[(1.0,)] * 10)
    assert box.run() == 0
    assert len([r for r in caplog.records if "r has no time column" in r.getMessage()]) == 1
    assert (len(box.arrived("id")), box.state()["last_upload"]) == (10, None)
    box.execute("INSERT INTO r (v) VALUES (?)", rows=[(2.0,)])
    caplog.clear()
    assert box.run("--timestamp-col", "none") == 0
    assert "no time column" not in caplog.text
    assert len(box.arrived("id")) == 11
    for flags in (["--check"], ["--status"], ["--print-ddl"], ["--dry-run"]):
        assert box.run(*flags) == 0
    assert "CLUSTER" not in capsys.readouterr().out
    for flags in (["--since", "2026-01-01"], ["--cursor", "timestamp"], ["--enable-aggregate"]):
        assert box.run(*flags, "--state-dir", str(box.folder / flags[0])) == 2


@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "TEXT"])
def test_a_table_without_a_time_column_is_followed_through_vacuum_and_a_new_file(box: Box, key: str) -> None:
    create = f"CREATE TABLE r (id {key}, v REAL)"
    insert = "INSERT INTO r VALUES (?, ?)"
    box.execute(create, insert, rows=[(n, n / 2) for n in range(1, 41)])
    assert box.run() == 0
    box.execute("DELETE FROM r WHERE v BETWEEN 1 AND 5")
    box.execute("VACUUM")
    box.execute(insert, rows=[(n, n / 2) for n in range(41, 46)])
    assert box.run() == 0
    assert len(box.arrived("v")) == 45
    box.database.unlink()
    box.execute(create, insert, rows=[(n, -n) for n in range(1, 4)])
    assert box.run() == 0
    assert len(box.arrived("v")) == 48


def test_each_line_about_a_stream_begins_with_its_name(many: Box, caplog: pytest.LogCaptureFixture) -> None:
    many.execute("CREATE TABLE odd (id INTEGER PRIMARY KEY, v INTEGER)", "INSERT INTO odd (v) VALUES ('x')")
    fill(many, "zebra")
    caplog.set_level("INFO")
    assert many.run("--tables", "*") == 0
    said = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("raw_odd: v is declared INTEGER") for line in said)
    about = [line for line in said if not line.startswith(("raw_odd: ", "raw_zebra: ", "state_dir"))]
    assert about == [], about
    assert many.run("--table", "nowhere") == 2
    assert not caplog.records[-1].getMessage().startswith("raw_")


@pytest.mark.parametrize("given", [{"UPLOAD_TABLES": "*"}, {}])
def test_a_streams_error_tells_programs_as_much_as_that_of_a_single_table(
    box: Box, given: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    if given:
        del box.environ["DATABRICKS_TABLE"]
    fill(box, "a")
    assert box.run(ENABLE_FILTER="true", FILTER_CONFIG='{"nope": 1}', **given) == 2
    [fields] = [vars(record)["fields"] for record in caplog.records if "nope" in record.getMessage()]
    assert (fields["kind"], fields["status"], fields["source"]) == ("ConfigError", 2, str(box.database))
    assert fields["hint"].startswith("Known: id") and fields["message"] == "filter_config: unknown column 'nope'"
    assert fields["table"] == ("filtered_a" if given else "a")


def test_no_table_lies_within_another_ones_folder_where_a_compaction_would_delete_it(
    many: Box, caplog: pytest.LogCaptureFixture
) -> None:
    fill(many, "a", "a/b")
    assert many.run("--tables", "*") == 2
    assert "raw_a/b would lie in another folder" in caplog.text
    assert len(arrived(many, "raw_a")) > 0
    assert many.run("--tables", json.dumps(["a", {"sqlite_table_name": "a/b", "databricks_table": "a_b"}])) == 0
    assert len(arrived(many, "raw_a_b")) > 0
    assert sorted(place.name for place in (many.folder / "lake").iterdir()) == ["raw_a", "raw_a_b"]


@pytest.mark.parametrize("name", ["a[1]", "a]b", "a|b", "a^b", "a\\b", "a%20b", "a\nb", "a\tb", "a\x7f"])
def test_a_table_whose_name_no_delta_table_can_have_is_told_and_the_others_go_on(
    box: Box, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, v)', f'INSERT INTO "{name}" VALUES (1, 1)')
    box.execute("CREATE TABLE zebra (id INTEGER PRIMARY KEY, v)", "INSERT INTO zebra VALUES (1, 1)")
    del box.environ["DATABRICKS_TABLE"]
    assert box.run("--tables", "*") == 2
    assert "no Delta table can be at a path with" in caplog.text
    assert rows_of(DeltaTable(str(box.folder / "lake" / "raw_zebra")), "v") == [(1,)]
    assert box.run("--table", "zebra", DATABRICKS_TABLE="z", LAKEHOUSE_PATH=str(box.folder / name)) == 2


@pytest.mark.parametrize(("name", "status"), [("温度湿度" * 10, 0), ("a" * 300, 1)])
def test_a_table_with_a_long_name_keeps_no_other_waiting(box: Box, name: str, status: int) -> None:
    """Percent-encoded it would be longer than the name of a directory may be; as a Delta table's it may be, too."""
    box.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, v)', f'INSERT INTO "{name}" VALUES (1, 1)')
    box.execute("CREATE TABLE zebra (id INTEGER PRIMARY KEY, v)", "INSERT INTO zebra VALUES (1, 1)")
    del box.environ["DATABRICKS_TABLE"]
    assert box.run("--tables", "*") == status
    assert box.run("--tables", "*") == status
    assert rows_of(DeltaTable(str(box.folder / "lake" / "raw_zebra")), "v") == [(1,)]
    assert status or rows_of(DeltaTable(str(box.folder / "lake" / f"raw_{name}")), "v") == [(1,)]


def check_that_zebra_arrives(box: Box, file: str, content: str) -> None:
    """Of two tables the second one, though a file in the first one's state is no good."""
    for name in ("aardvark", "zebra"):
        box.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v)", f"INSERT INTO {name} VALUES (1, 1)")
    del box.environ["DATABRICKS_TABLE"]
    (box.folder / "state" / "raw_aardvark").mkdir(parents=True)
    (box.folder / "state" / "raw_aardvark" / file).write_text(content)
    assert box.run("--tables", "*") == 1
    assert rows_of(DeltaTable(str(box.folder / "lake" / "raw_zebra")), "v") == [(1,)]


def test_what_the_disk_refuses_one_stream_keeps_no_other_waiting(box: Box) -> None:
    check_that_zebra_arrives(box, "quarantine", "no directory")


def test_a_damaged_state_of_one_stream_keeps_no_new_one_waiting(box: Box) -> None:
    """A new one takes its name from those that there are."""
    check_that_zebra_arrives(box, "last_upload.json", "damaged")


@pytest.mark.parametrize("target", ["", "all"])
def test_a_damaged_state_keeps_only_those_waiting_whose_rows_may_have_gone_under_its_name(
    box: Box, target: str
) -> None:
    """Mappers put names in quotes, and so does a renaming: after any change of the schema all names are in question."""
    del box.environ["DATABRICKS_TABLE"]
    wanted = {"sqlite_table_name": "*"} | ({"databricks_table": target} if target else {})
    box.environ["UPLOAD_TABLES"] = json.dumps([wanted])
    for name in ("aardvark", "zebra"):
        box.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, time TEXT)')
        box.execute(f"INSERT INTO {name} (time) VALUES ('2026-01-01')")
    assert box.run() == 0
    (box.folder / "state" / "raw_aardvark" / "last_upload.json").write_text("damaged")
    box.execute("CREATE TABLE more (id INTEGER PRIMARY KEY)", "INSERT INTO zebra (time) VALUES ('2026-01-02')")
    assert box.run() == 1
    there = DeltaTable(str(box.folder / "lake" / f"raw_{target or 'zebra'}"))
    assert len(rows_of(there)) == 2  # In one for both tables it is the first row of each.


@pytest.mark.parametrize("name", ["ä b", "a#b", "a?b", "a%b", "a'b", "a&b", "a:b", "a;b", "a{b}", "a`b", "a~b"])
def test_tables_with_other_signs_in_their_names_arrive(box: Box, name: str) -> None:
    box.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, v)', f'INSERT INTO "{name}" VALUES (1, 1)')
    del box.environ["DATABRICKS_TABLE"]
    assert box.run("--tables", "*") == 0
    assert box.run("--tables", "*") == 0
    assert rows_of(DeltaTable(str(box.folder / "lake" / f"raw_{name}")), "v") == [(1,)]


def test_another_stream_whose_rows_are_equal_is_no_former_name(box: Box) -> None:
    """As of two devices' outboxes, made by programs that put names in quotes; nothing was renamed."""
    rows = [(f"2026-01-01T00:0{i}:00Z", "on") for i in range(5)]
    for table in ("d_1", "d_2"):
        box.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, timestamp TEXT, state TEXT)')
        box.execute(f"INSERT INTO \"{table}\" (timestamp, state) VALUES ('2025-01-01', 'off')")
    box.environ["UPLOAD_TABLES"] = json.dumps([{"sqlite_table_name": "d_*", "databricks_table": "all"}])
    for name in ("SQLITE_TABLE_NAME", "DATABRICKS_TABLE"):
        box.environ.pop(name, None)
    assert box.run() == 0
    for table in ("d_1", "d_2"):
        for each in ("d_1", "d_2"):
            box.execute(f'DELETE FROM "{each}"')
        assert box.run() == 0
        box.execute(f'INSERT INTO "{table}" (timestamp, state) VALUES (?, ?)', rows=rows)
        assert box.run() == 0
    assert len(arrived(box, "raw_all")) == 12


def test_an_outbox_may_have_rows_that_it_had_before(box: Box) -> None:
    """Some fillings ago: times come twice where clocks go back, or begin at one moment."""
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, timestamp TEXT, state TEXT)")
    for hour in (1, 2, 3, 1, 2):
        rows = [(f"2026-01-01T0{hour}:0{i}:00Z", "on") for i in range(5)]
        box.execute("INSERT INTO t (timestamp, state) VALUES (?, ?)", rows=rows)
        assert box.run() == 0
        box.execute("DELETE FROM t")
        assert box.run() == 0
    assert len(box.arrived()) == 25


@crossed(
    key=["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER"],
    flags=[("--table", "t"), ("--tables", "t,u"), ("--tables", "t*")],
    gone=["DROP TABLE t", "ALTER TABLE t RENAME TO old", "the file", "its content"],
    count=[20, 25, 10],
    times=[1, 4, 20],
    is_in_doubt=[False, True],
)
def test_a_table_that_a_cycle_saw_gone_and_that_is_made_anew_sends_all_its_rows(
    box: Box, key: str, flags: tuple[str, str], gone: str, count: int, times: int, is_in_doubt: bool
) -> None:
    """With the rowids and times of before, and other values."""
    made, insert = f"CREATE TABLE t (id {key}, time TEXT, v INTEGER)", "INSERT INTO t (time, v) VALUES (?, ?)"
    moments = [f"2026-01-01T00:00:{n * times // 20:02}Z" for n in range(25)]
    box.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)", made)
    box.execute(insert, rows=[(moments[n], n) for n in range(20)])
    assert box.run(*flags, DATABRICKS_TABLE="t") == 0
    if is_in_doubt:
        box.execute(insert, rows=[(moments[n], n) for n in range(20, 25)])
        with pytest.MonkeyPatch.context() as patch:
            interrupted_at(up.DeltaTarget, "send", "before", 1, patch.setattr)
            with pytest.raises(KeyboardInterrupt):
                box.run(*flags, DATABRICKS_TABLE="t")
    if gone == "the file":
        box.database.unlink()
    elif gone == "its content":
        os.truncate(box.database, 0)
    else:
        box.execute(gone)
    is_file = gone in ("the file", "its content")
    assert box.run(*flags, DATABRICKS_TABLE="t") == (1 if is_file else 2 * (flags[1] == "t"))
    box.execute("CREATE TABLE IF NOT EXISTS u (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)", made)
    box.execute(insert, rows=[(moments[n], 100 + n) for n in range(count)])
    for _ in range(2):
        assert box.run(*flags, DATABRICKS_TABLE="t") == 0
    values = sorted(v for (v,) in rows_of(DeltaTable(str(box.folder / "lake" / "raw_t")), "v"))
    assert values == [*range(20), *range(100, 100 + count)]


@crossed(
    key=["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER"],
    flags=[("--table", "t"), ("--tables", "t,u"), ("--tables", "t*")],
    times=[0, 1, 20],
    change=["", ", w TEXT", "UPDATE"],
)
def test_a_rebuild_of_which_a_cycle_saw_the_old_table_gone_sends_nothing_again(
    box: Box, key: str, flags: tuple[str, str], times: int, change: str
) -> None:
    time = "time TEXT" if times else "place TEXT"
    columns = f"(id {key}, {time}, v INTEGER)"
    box.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)", f"CREATE TABLE t {columns}")
    box.execute(
        "INSERT INTO t VALUES (?, ?, ?)", rows=[(n, f"2026-01-01T00:00:{n * times // 20:02}Z", n) for n in range(20)]
    )
    assert box.run(*flags, DATABRICKS_TABLE="t") == 0
    more = change if change != "UPDATE" else ""
    box.execute(f"CREATE TABLE made (id {key}, {time}, v INTEGER{more})", "DROP TABLE IF EXISTS none")
    named = f"id, {time.split()[0]}, v"
    box.execute(f"INSERT INTO made ({named}) SELECT {named} FROM t", "DROP TABLE t")
    if change == "UPDATE":
        box.execute("UPDATE made SET v = v + 1000 WHERE v % 3 = 0")
    assert box.run(*flags, DATABRICKS_TABLE="t") in (0, 1, 2)
    box.execute("ALTER TABLE made RENAME TO t")
    box.execute(f"INSERT INTO t ({named}) VALUES (21, '2026-01-01T00:00:21Z', 21)")
    for _ in range(2):
        assert box.run(*flags, DATABRICKS_TABLE="t") == 0
    assert sorted(v for (v,) in rows_of(DeltaTable(str(box.folder / "lake" / "raw_t")), "v")) == [*range(20), 21]


@crossed(
    key=["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER"],
    flags=[("--table", "t"), ("--tables", "t,u"), ("--tables", "t*")],
    times=[1, 4, 20],
)
def test_a_file_that_is_back_edited_sends_nothing_again(box: Box, key: str, flags: tuple[str, str], times: int) -> None:
    """A cycle saw that it was away."""
    box.execute(
        "CREATE TABLE u (id INTEGER PRIMARY KEY, time TEXT, v INTEGER)",
        f"CREATE TABLE t (id {key}, time TEXT, v INTEGER)",
    )
    insert = "INSERT INTO t (time, v) VALUES (?, ?)"
    box.execute(insert, rows=[(f"2026-01-01T00:00:{n * times // 20:02}Z", n) for n in range(20)])
    assert box.run(*flags, DATABRICKS_TABLE="t") == 0
    away = box.database.rename(box.database.with_name("away.db"))
    assert box.run(*flags, DATABRICKS_TABLE="t") == 1
    away.rename(box.database)
    box.execute("UPDATE t SET v = v + 1000")
    box.execute(insert, rows=[("2026-01-01T00:00:21Z", 21)])
    box.run(*flags, DATABRICKS_TABLE="t")  # Where all times are one it may ask.
    values = sorted(v for (v,) in rows_of(DeltaTable(str(box.folder / "lake" / "raw_t")), "v"))
    assert values == [*range(20), 21] or (times == 1 and values == [*range(20)])
