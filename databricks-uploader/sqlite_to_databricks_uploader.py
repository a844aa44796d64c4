#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "adbc-driver-manager>=1.13,<2",        # reads SQLite into Arrow at C speed, with a current SQLite inside
#     "adbc-driver-sqlite>=1.13,<2",
#     "arro3-core>=0.9,<0.10",               # Arrow in 11 MB; deltalake brings it anyway
#     "databricks-sdk>=0.100,<1",            # profiles and the other ways to sign in, imported only then
#     "databricks-sql-connector>=4.9,<4.10", # pinned to a minor: its replay of INSERTs is switched off by name
#     "deltalake>=1.6.6,<2",                 # Delta tables without a Databricks account or a JVM
#     "pandas>=3,<4",                        # the connector brings it; sanitize, filter and aggregate use it
#     "prometheus-client>=0.21,<1",          # 0.3 MB: metrics, imported only where they are wanted
#     "pyyaml>=6,<7",
#     "tqdm>=4.66,<5",                       # 0.4 MB: the bar on a terminal
# ]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""Append the new rows of a SQLite table to Delta tables or through a Databricks SQL warehouse, each exactly once.

    SQLite file -> new rows -> typed rows -> rules -> intent saved -> one commit -> confirmation saved
                   (cursor)    (plan)                 (state)         (target)      (state)

The promise: what the source holds when a cycle reads it, and was not delivered before, is delivered once. A
commit carries its own mark, a Delta transaction, a file name or a batch id; the intent is durable before it
is sent, so after a crash at any step the target itself tells whether it took place. A row that can't be
delivered goes to quarantine. docs/delivery.md says what that rests on.

The chapters, each using only what stands before it:

    Errors                   what passes by itself and what does not, with hint and exit status
    Configuration            every setting declared once; YAML, environment and command line in layers
    Rows                     values of any class become values of a column's type, exactly
    Source                   opening the SQLite file harmlessly and reading pages of a table
    Processing               sanitize, filter, aggregate
    State                    last_upload.json and the quarantine: durable, checked, locked
    Cursor                   which rows are new
    Plan                     which column goes where as which type
    Targets: Delta           tables by path
    Targets: SQL warehouse   INSERT, files and COPY INTO, or Zerobus
    Batches                  a table opened for one cycle: batches of its rows or groups
    Beginning                the state that a run begins with, and what stops a first one
    Cycle                    read, intend, commit, confirm
    Streams                  one table or several, in one process
    Actions                  looking, checking, trying, repairing
    Command line             arguments, logs, and the one place where errors end
"""

from __future__ import annotations

import argparse
import base64
import bisect
import collections
import contextlib
import copy
import csv
import dataclasses
import datetime as dt
import decimal
import difflib
import fcntl
import fnmatch
import fractions
import functools
import hashlib
import hmac
import importlib.util
import inspect
import io
import itertools
import json
import logging
import math
import operator
import os
import queue
import random
import re
import shlex
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, NamedTuple, NoReturn, Self, TextIO, TypedDict, TypeVar, cast
from urllib.parse import quote, unquote, urlencode, urlsplit
from zoneinfo import ZoneInfo, available_timezones

if TYPE_CHECKING:  # These are imported where they are used.
    from arro3.core import Array, ChunkedArray, DataType
    from arro3.core import Table as ArrowTable
    from deltalake import DeltaTable, WriterProperties
    from pandas import DataFrame, Series

    ArrowColumn = Array | ChunkedArray

__version__ = "1.1.0"

log = logging.getLogger("uploader")

T = TypeVar("T")

# Waits for some seconds; true where it was interrupted.
Wait = Callable[[float], object]

# A clock: seconds since 1970, or since the machine was started.
Clock = Callable[[], float]

UTC = ZoneInfo("UTC")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAY = 86_400 * 10**6  # in microseconds
MICROSECOND = dt.timedelta(microseconds=1)


# === Errors ===========================================================================================
#
# One tree; what SQLite says alone joins it in Source. A `TransientError` passes by itself: the rows wait and the
# next cycle tries again. What `DoesNotGo` is gone around. Any other error needs a person. Each has a hint (what to
# do next) and a run's exit status.


class UploaderError(Exception):
    """Anything that ends a cycle: a message, a hint, an exit status; where known, the source and its table."""

    status = 1
    is_final = False  # ends a run that would go on for ever
    is_said = False  # is not said again in each cycle
    hint = ""
    source: str | None = None
    table: str | None = None
    failed: Mapping[str, UploaderError] = {}  # streams with errors of their own, by name

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.hint


class FileError(UploaderError):
    """A file or directory of this machine can't be used, or what it holds is damaged.

    The message names it. Correct its rights and its kind, or free the disk; `--check` looks at each part.
    """


class ConfigError(UploaderError):
    """The settings can't be right; nothing was read or sent.

    The message names the setting, where it stands, and often the nearest right name. `--help` lists all settings.
    """

    status = 2
    is_final = True


class SourceError(UploaderError):
    """The database or its table is not what the settings or the state say.

    Check `sqlite` and `sqlite_table_name`. In a container mount the directory that holds the database, not the file: a
    WAL is a file beside it. Where an older copy was restored and new rows came in since, find out up to which row they
    were delivered, and use `--since`.
    """


class MissingTableError(SourceError):
    """The table that was set is not there: most likely a wrong name, though a producer may be making it anew.

    The message names the nearest table. A running service goes on trying.
    """

    status = 2


class StateError(UploaderError):
    """The state can't be trusted or written; nothing is sent without it.

    It is never replaced by itself. Restore a damaged one from a copy, or `--recover` where `source_id` is configured.
    Each source table, target and scenario needs a `state_dir` of its own; another cursor begins by `--since`. For a
    full quarantine mend the cause, then `--replay-quarantine`, or move its files away.
    """

    is_final = True


class TargetError(UploaderError):
    """The target refuses: wrong token, missing table, unfitting columns.

    It will do so until somebody changes something; the hint says what. `--check` looks at each part. Where a Delta
    table has lost commits it was dropped or restored: an empty `state_dir` sends all rows again.
    """


class DoubtError(UploaderError):
    """It can't be found out whether an earlier commit took place.

    `on_doubt` is `stop`. Look for the batch's rows in the table, and delete those that are there. Then run once with
    `--on-doubt resend --once`, which sends all of them. A column `databricks_batch_id` in the table prevents such
    doubts from then on.
    """

    is_final = True


class TransientError(UploaderError):
    """Will pass by itself: busy, unreachable, overloaded. The rows wait where they are.

    The next cycle tries again. If it stays: does a producer hold its database locked for long? Is the machine offline,
    or is there a firewall or a typo in `databricks_host`?
    """


class LostAnswer(TransientError):
    """A commit may have taken place, or may still do so: its answer was lost.

    Nothing is sent again before the table itself has told; that takes at most twice `databricks_statement_timeout`.
    """

    hint = "The next cycle asks the table whether its rows are there."


class Conflict(TransientError):
    """Another writer committed first; the same commit can be tried again at once.

    That happens by itself, five times in a cycle.
    """


class DidNotRun(UploaderError):
    """What was asked of the target did not happen, for certain: there is nothing to settle.

    The hint says what to do.
    """


class Rejected(DidNotRun, TargetError):
    """A definite refusal that needs a person.

    The statement did not run. A missing table is made by what `--print-ddl` prints. Missing rights are USE CATALOG, USE
    SCHEMA, and SELECT, MODIFY on the table; for volumes READ VOLUME, WRITE VOLUME. With 401 the token is wrong or has
    expired; with 404 `databricks_http_path` names no warehouse.
    """


class Postponed(DidNotRun, TransientError):
    """Nothing ran, but will: the warehouse could not be reached, or another writer was faster.

    The next cycle tries again.
    """


class NotReady(Postponed):
    """The warehouse is starting or overloaded.

    It is waited for, up to ten minutes; then the next cycle tries again.
    """


class Unanswered(Postponed):
    """The answer to a question was lost, which changed nothing.

    The next cycle asks again; where rows were part of the question, with fewer of them.
    """


class Unreachable(Postponed):
    """A host does not answer, or its name can't be resolved: it may stay so for days.

    It is tried again, ever more seldom. Is the machine offline, or is there a firewall or a typo in `databricks_host`?
    """


class DoesNotGo(DidNotRun, TargetError):
    """A batch does not go as it is; a smaller one may.

    That is tried by itself, down to a single row, which then goes to quarantine.
    """

    def __init__(self, message: str, hint: str = "", fitting: int | None = None) -> None:
        super().__init__(message, hint)
        self.fitting = fitting  # so many of its rows would, where that is known


class RefusedValuesError(DoesNotGo):
    """The target refuses values of a row: a constraint, a cast, NULL where none may be. Which row, it does not tell.

    It is searched for by ever smaller batches, and goes to quarantine; the others arrive. Of `aggregate` that is a
    group.
    """


class TooLargeError(DoesNotGo):
    """Rows don't fit into one request.

    Batches are divided by themselves. A single row that is too large goes to quarantine: with `databricks_volume` it
    would go as a file.
    """


class RefusedSizeError(DoesNotGo):
    """A request was refused, for its size as far as can be told.

    Smaller ones are tried, down to a single row, which then goes to quarantine.
    """


class StillWritten(DoesNotGo, TransientError):
    """The newest row of a batch was written anew while it was read.

    The rows before it go, in a smaller batch. A row whose time is kept up to date needs `cursor: timestamp`.
    """


class TooManyBadRows(UploaderError):
    """More rows than `max_bad_rows` can't be delivered; nothing of their commit was sent.

    The message shows one of them. Mend the cause, or raise `max_bad_rows`.
    """

    is_final = True


class StreamsError(UploaderError):
    """Some of several `tables` failed; each is reported with its name, in its own kind of error.

    The others went on. The exit status is that of the worst. A run without `--once` tries all again, those that need a
    person ever more seldom, and ends where each of them does for good.
    """

    def __init__(self, failed: Mapping[str, UploaderError], count: int, status: int) -> None:
        others = "The others went on." if len(failed) < count else ""
        super().__init__(f"{len(failed)} of {count} tables failed: {', '.join(failed)}", others)
        self.failed = failed
        self.status = status
        self.is_final = len(failed) == count and all(error.is_final for error in failed.values())
        self.is_said = all(error.is_said for error in failed.values())


class LockedError(TransientError):
    """Another process uses this state directory. 75 is sysexits' EX_TEMPFAIL.

    Give each uploader its own `state_dir`, or stop the other one.
    """

    status = 75


class Stopped(Exception):
    """A signal came while something was waited for. This is no failure: the next run goes on there."""


@contextlib.contextmanager
def file_errors() -> Iterator[None]:
    """What the operating system refuses, as an error of ours with the file's name; a closed pipe is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        place = error.filename or ("the working directory" if isinstance(error, FileNotFoundError) else "")
        named = f"{place}: " if place else ""
        raise FileError(f"{named}{error.strerror or error}", "Check its rights and its kind, and the disk.") from None


def refuse_pipe(file: Path) -> None:
    """An `OSError` for what is no regular file: a pipe would be waited for."""
    if file.exists() and not file.is_file():
        raise OSError(22, "it is no regular file", str(file))


def counted(number: int, word: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def error_kinds(kind: type[UploaderError] = UploaderError) -> dict[str, type[UploaderError]]:
    """All kinds of error by their names; the docstring of each says what it means, and what to do."""
    return {each.__name__: each for below in kind.__subclasses__() for each in (below, *error_kinds(below).values())}


# === Configuration ====================================================================================
#
# `Config` declares every setting once: its YAML key is the field's name, and flag, variable, help,
# the example file and docs/configuration.md follow from what is declared beside it.

Parser = Callable[[object], Any]


def text(value: object) -> str:
    """Any scalar as text; lists and mappings are refused, and NULs, which no name has."""
    if isinstance(value, (dict, list)) or value is None or not str(value).strip() or "\0" in str(value):
        raise ValueError("expected a text")
    return str(value).strip()


def path(value: object) -> Path:
    """A file system path, `~` expanded. URIs are refused: how SQLite opens one is ours, and no store is one."""
    name = text(value)
    if re.match(r"(?i)(file|jdbc|sqlite\d?|dbfs):|\w+://|:memory:$", name):
        raise ValueError("expected a path on this machine, such as /data/sensor.db, and no URI")
    return Path(os.path.expanduser(name))


def expecting(expected: str, convert: Callable[[str], Any]) -> Parser:
    """A parser of texts, which says what was expected where one can't be converted."""

    def parse(value: object) -> Any:
        try:
            return convert(text(value))
        except (ValueError, LookupError, OSError):
            raise ValueError(f"expected {expected}") from None

    return parse


# As YAML, shells and compose files write them.
BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
boolean = expecting("true or false", lambda word: BOOLEANS[word.lower()])

# An IANA zone that this machine knows.
time_zone = expecting("a time zone such as UTC or Europe/Berlin", lambda name: ZoneInfo(name).key)


def whole_number(minimum: int, maximum: int = sys.maxsize - 1) -> Parser:
    """A whole number of at least `minimum`."""
    allowed = range(minimum, maximum + 1)
    at_most = f", at most {maximum}" if maximum < sys.maxsize - 1 else ""
    return expecting(f"a whole number of at least {minimum}{at_most}", lambda shown: allowed[allowed.index(int(shown))])


SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def seconds_in(shown: str) -> float:
    """Seconds, out of a number of them or a text such as 30s, 5m, 1h."""
    [(count, unit)] = re.findall(r"\A([\d._]+(?:e\d+)?)\s*([a-z]*)\Z", shown.lower())
    if math.isinf(seconds := float(count) * SECONDS[unit]):
        raise ValueError
    return seconds


duration = expecting("seconds of at least 0, or a time such as 30s, 5m, 1h", seconds_in)


def matching(pattern: str, expected: str) -> Parser:
    """A text of one form, as far as the pattern's group has it."""
    return expecting(expected, lambda shown: re.findall(rf"\A(?:{pattern})\Z", shown)[0])


def one_of(*choices: str) -> Parser:
    """One of a few words, in any case."""
    return expecting(f"one of {', '.join(choices)}", lambda word: choices[choices.index(word.lower())])


def only_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping out of JSON; of a key that stands twice, one would be lost in silence."""
    keys = [key for key, _ in pairs]
    if twice := sorted(key for key in set(keys) if keys.count(key) > 1):
        raise ValueError(f"the key {twice[0]!r} stands twice")
    return dict(pairs)


def from_json(value: str) -> Any:
    """What a text in JSON says, or a `ValueError` that doesn't repeat it."""
    try:
        return json.loads(value, object_pairs_hook=only_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"malformed JSON at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("JSON is nested too deep") from None


def mapping(value: object) -> dict[str, Any]:
    """Rules: a mapping in YAML, JSON text elsewhere."""
    if isinstance(value, str):
        value = from_json(value)
    if not isinstance(value, dict):
        raise ValueError('expected a mapping, in JSON for example {"column": "value"}')
    return value


def store_options(value: object) -> dict[str, Any]:
    """Options for a store, by name; one that is empty counts as unset."""
    options = mapping(value)
    if any(isinstance(each, (dict, list)) for each in options.values()):
        raise ValueError('expected plain values, such as {"AWS_REGION": "eu-west-1"}')
    return {name: each for name, each in options.items() if each is not None}


def table_entries(value: object) -> tuple[Layer, ...]:
    """Source tables: names and patterns, in a list or separated by commas, or mappings with settings of their own."""
    if isinstance(value, str):
        is_json = re.match(r'\s*(\[\s*["{\]]|\{)', value)
        value = from_json(value) if is_json else [name for name in value.split(",") if name.strip()]
    if not isinstance(value, list) or not value:
        raise ValueError("expected names and patterns of tables, or mappings with sqlite_table_name")
    own = {key: name for key, name in YAML_KEYS.items() if name in ("sqlite_table_name", *PER_TABLE)}
    mappings = [each if isinstance(each, dict) else {"sqlite_table_name": text(each)} for each in value]
    layers = tuple(layer_of(each, own) for each in mappings)
    if not all("sqlite_table_name" in layer for layer in layers):
        raise ValueError("an entry needs sqlite_table_name")
    return layers


# Numbers for times: by name how many microseconds one is, and the time that 0 means, in microseconds since 1970.
NUMBER_FORMATS: dict[str, tuple[fractions.Fraction, int]] = {
    "unix": (fractions.Fraction(10**6), 0),
    "unix_ms": (fractions.Fraction(1000), 0),
    "unix_us": (fractions.Fraction(1), 0),
    "unix_ns": (fractions.Fraction(1, 1000), 0),
    "julian": (fractions.Fraction(DAY), -4_881_175 * DAY // 2),  # since noon of a day in 4714 BC, as SQLite counts
    "webkit": (fractions.Fraction(1), -134_774 * DAY),  # since 1601
    "apple": (fractions.Fraction(10**6), 11_323 * DAY),  # since 2001
    "ole": (fractions.Fraction(DAY), -25_569 * DAY),  # since 1899-12-30, as spreadsheets count
}


def time_format(value: object) -> str:
    """How times are written: a word, or a pattern of strptime that tells a month, or the day and any hour of 24."""
    shown, sample = text(value), dt.datetime(2026, 11, 27, 13, 45, 7, 123456, dt.UTC)
    if shown.lower() in ("auto", *NUMBER_FORMATS):
        return shown.lower()
    with contextlib.suppress(ValueError, re.error):
        told = dt.datetime.strptime(sample.strftime(shown), shown)
        if (told.date() == sample.date() and told.hour in (0, sample.hour)) or told == dt.datetime(2026, 11, 1):
            return shown
    words = ", ".join(["auto", *NUMBER_FORMATS])
    raise ValueError(f'expected {words}, or a pattern with year, month and day such as "%d.%m.%Y %H:%M:%S"')


def host(value: object) -> str:
    """A host with an optional port; scheme, path and `?o=` of a pasted address are dropped."""
    shown = text(value)
    if shown.lower().startswith("http://"):
        raise ValueError("expected https: a token is never sent unencrypted")
    shown = re.sub("^(?i:https)://", "", shown).split("/")[0].split("?")[0]
    if not re.fullmatch(r"[A-Za-z0-9.\-]+(:\d+)?", shown):
        raise ValueError("expected a host such as adb-123.4.azuredatabricks.net")
    return shown


def http_path(value: object) -> str:
    """The path of a warehouse or cluster; a bare warehouse id becomes its path."""
    shown = text(value)
    return shown if "/" in shown else f"/sql/1.0/warehouses/{shown}"


# The schemes under which delta-rs finds a store ("Known schemes" of deltalake 1.6's error), but for those of tests.
SCHEMES = (
    "s3", "s3a", "az", "azure", "azblob", "azdls", "abfs", "abfss", "adl", "gs", "gcs", "file", "hdfs", "viewfs",
    "webhdfs", "lakefs", "uc", "oss", "cos", "obs", "tos", "b2", "swift", "sftp", "webdav", "hf",
)  # fmt: skip


def table_uri(value: object) -> str:
    """A local path, or a URI of a store that delta-rs knows: of others it would make a local directory."""
    shown = text(value)
    found = re.match(r"([A-Za-z][A-Za-z0-9.-]*):(/*)", shown)
    if not found or (found[1].lower() not in SCHEMES and not found[2]):
        return os.path.expanduser(shown)
    if re.match("[^/]*//[^/]*:[^/]*@", shown):
        raise ValueError("expected no password in the address: storage_options and variables are for secrets")
    scheme = found[1].lower()
    if scheme == "dbfs":
        raise ValueError("dbfs:/ exists within Databricks only: expected the store's own URI, as s3:// or abfss://")
    if scheme not in SCHEMES:
        close = nearest(scheme, SCHEMES, 0.6) if scheme != "wasbs" else "Did you mean 'abfss'?"
        raise ValueError(f"there is no store {scheme}://, and a local directory would be written ./{shown}. {close}")
    if len(found[2]) < 2:
        slashes = "///" if scheme == "file" else "//"
        raise ValueError(f"expected {scheme}:{slashes}{shown[found.end() :]}, with two slashes and a bucket after them")
    if scheme not in ("file", "hdfs", "viewfs") and not re.match(r"[^:]+://([^/\s@]+@)?[^/\s@]+(/|$)", shown):
        raise ValueError(f"expected a bucket or host after {scheme}://, without blanks")
    return shown


class Setting(NamedTuple):
    """How one setting is declared.

    `variables` begins with the usual one. `aliases` are other YAML keys, `flags` other flags. A secret has no flag, may
    come from `<VARIABLE>_FILE`, and is masked wherever it is shown. `shown` documents a default that is not a plain
    value; `example` stands in the example file.
    """

    default: Any
    variables: tuple[str, ...]
    parse: Parser
    help: str
    aliases: Sequence[str] = ()
    flags: Sequence[str] = ()
    flag: bool = True
    secret: bool = False
    shown: str = ""
    example: str = ""


def setting(default: Any, variables: str, parse: Parser, help: str, **more: Any) -> Any:
    """A field of `Config` that is declared as a `Setting`."""
    declared = {"setting": Setting(default, tuple(variables.split()), parse, help, **more)}
    shown = "secret" not in more
    # A mapping is made anew for each.
    return dataclasses.field(default_factory=functools.partial(copy.copy, default), repr=shown, metadata=declared)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run needs to know, checked and typed. Times are in seconds."""

    # fmt: off
    sqlite: Path | None = setting(None, "SQLITE_PATH", path, "The SQLite database file to read.",
        aliases=["sqlite_path"], example="/data/sensor_data.db")
    sqlite_table_name: str | None = setting(None, "SQLITE_TABLE_NAME", text, "Source table or view.",
        aliases=["sqlite_table"], flags=["--table"], shown="detected")
    tables: tuple[dict[str, Any], ...] = setting((), "UPLOAD_TABLES", table_entries,
        "Several source tables: names, patterns, or mappings with settings of one table (docs/configuration.md).",
        shown="one table")
    timestamp_col: str | None = setting(None, "TIMESTAMP_COL", text,
        "The time column; none for a table without.", shown="detected")
    timestamp_format: str = setting("auto", "UPLOAD_TIMESTAMP_FORMAT", time_format,
        "How the time column is written: auto, unix, unix_ms, unix_us, unix_ns, julian, webkit, apple, ole, or a "
        "pattern of strptime such as %d.%m.%Y %H:%M:%S.")
    column_types: dict[str, Any] = setting({}, "UPLOAD_COLUMN_TYPES", mapping,
        "Types by column, in Databricks' words, for tables that are made and how values are read (JSON outside YAML).",
        flag=False)
    cursor: str = setting("auto", "UPLOAD_CURSOR", one_of("auto", "rowid", "timestamp"),
        "How new rows are found: auto, rowid or timestamp (docs/delivery.md).")
    lookback: float = setting(300.0, "UPLOAD_LOOKBACK", duration,
        "Seconds that a timestamp cursor looks back for late rows.")
    source_timezone: str = setting("UTC", "UPLOAD_SOURCE_TIMEZONE", time_zone, "Zone of times written without one.")
    source_id: str | None = setting(None, "UPLOAD_SOURCE_ID", text,
        "Names this source in Delta transactions and batch ids.", shown="random, kept in the state")
    databricks_host: str | None = setting(None, "DATABRICKS_HOST DATABRICKS_SERVER_HOSTNAME", host,
        "Workspace host; https://, a path and ?o= are accepted, so is a port.",
        example="your-workspace.cloud.databricks.com")
    databricks_http_path: str | None = setting(None, "DATABRICKS_HTTP_PATH DATABRICKS_WAREHOUSE_ID", http_path,
        "Path of the SQL warehouse or cluster.", shown="from `DATABRICKS_WAREHOUSE_ID`",
        example="/sql/1.0/warehouses/your_warehouse_id")
    databricks_token: str | None = setting(None, "DATABRICKS_TOKEN", text,
        "Personal access token. Better from the environment than from YAML.", secret=True)
    databricks_database: str | None = setting(None, "DATABRICKS_DATABASE", text, "Target schema, or catalog.schema.",
        example="your_database")
    databricks_table: str | None = setting(None, "DATABRICKS_TABLE", text,
        "Base table name; the scenario's prefix is added.", example="sensor_readings")
    databricks_volume: str | None = setting(None, "DATABRICKS_VOLUME",
        matching("(/Volumes(?:/[^/]+){3,})/*", "/Volumes/catalog/schema/volume"),
        "/Volumes/catalog/schema/volume: bulk route by PUT and COPY INTO.")
    databricks_ca_file: Path | None = setting(None, "DATABRICKS_CA_FILE", path,
        "CA bundle (PEM) that is trusted for the workspace host.", shown="system roots")
    zerobus_endpoint: str | None = setting(None, "DATABRICKS_ZEROBUS_ENDPOINT", host,
        "Zerobus Ingest's host: rows go into the table without a warehouse; it needs a service principal.")
    databricks_statement_timeout: int = setting(120, "DATABRICKS_STATEMENT_TIMEOUT", whole_number(1, 172_800),
        "Seconds that the server may work on one statement; after a lost answer twice as long is waited.")
    table_path: str | None = setting(None, "TABLE_PATH", table_uri,
        "One Delta table's path or URI (local, s3://, abfss://), used as given.")
    lakehouse_path: str | None = setting(None, "LAKEHOUSE_PATH", table_uri,
        "Root of Delta tables: rows go to <lakehouse_path>/<prefix><databricks_table>.")
    storage_options: dict[str, Any] = setting({}, "STORAGE_OPTIONS", store_options,
        "Options for delta-rs, such as AWS_* and AZURE_* keys (JSON in the environment).", flag=False)
    enable_sanitize: bool = setting(False, "ENABLE_SANITIZE", boolean, "Clean rows first; they go to secure_<table>.")
    enable_filter: bool = setting(False, "ENABLE_FILTER", boolean, "Keep some rows only; they go to filtered_<table>.")
    enable_aggregate: bool = setting(False, "ENABLE_AGGREGATE", boolean,
        "Send groups only; they go to aggregated_<table>.")
    sanitize_config: dict[str, Any] = setting({}, "SANITIZE_CONFIG", mapping,
        "Rules of enable_sanitize (JSON outside YAML).")
    filter_config: dict[str, Any] = setting({}, "FILTER_CONFIG", mapping, "Rules of enable_filter (JSON outside YAML).")
    sanitize_secret: str | None = setting(None, "SANITIZE_SECRET", text,
        "Key of hashed columns, the same on all nodes.", secret=True)
    aggregate_config: dict[str, Any] = setting({}, "AGGREGATE_CONFIG", mapping,
        "Rules of enable_aggregate (JSON outside YAML).")
    state_dir: Path = setting(None, "STATE_DIR", path,
        "Where last_upload.json lives: one directory per source table and scenario, or for all tables of one file.",
        shown="`/state`, or `./state` where `/state` does not exist", example="./state")
    interval: float = setting(300.0, "UPLOAD_INTERVAL", duration, "Seconds between cycles, or 30s, 5m, 1h.")
    jitter: float = setting(0.0, "UPLOAD_JITTER", duration, "The first cycle waits a random part of this many seconds.")
    once: bool = setting(False, "ONCE", boolean, "One cycle, then exit.")
    batch_rows: int | None = setting(None, "UPLOAD_BATCH_ROWS", whole_number(1), "Most rows per commit.",
        shown="chosen by the tool")
    schema: str = setting("match", "UPLOAD_SCHEMA", one_of("match", "evolve"),
        "New source columns: match warns, evolve adds them (Delta targets).")
    max_bad_rows: int = setting(1000, "UPLOAD_MAX_BAD_ROWS", whole_number(0),
        "Rows quarantined in one cycle before the run stops.")
    on_doubt: str | None = setting(None, "UPLOAD_ON_DOUBT", one_of("stop", "resend"),
        "When it can't be found out whether rows arrived: stop or resend.", shown="`stop`")
    databricks_client_id: str | None = setting(None, "DATABRICKS_CLIENT_ID", text,
        "Service principal for OAuth machine-to-machine.", flag=False)
    databricks_client_secret: str | None = setting(None, "DATABRICKS_CLIENT_SECRET", text, "Its secret.", secret=True)
    databricks_config_profile: str | None = setting(None, "DATABRICKS_CONFIG_PROFILE", text,
        "Profile of ~/.databrickscfg.")
    metrics_address: str | None = setting(None, "UPLOAD_METRICS_ADDRESS",
        matching(r"([^/]*:\d{1,5})", "host:port, for example 127.0.0.1:9108"),
        "host:port for Prometheus metrics and /healthz.", shown="off")
    metrics_file: Path | None = setting(None, "UPLOAD_METRICS_FILE", path,
        "The same metrics as a file, replaced after each cycle, for node exporter's textfile collector.", shown="off")
    status_table: str | None = setting(None, "UPLOAD_STATUS_TABLE",
        matching(r"([^\s./`]+)", "a table's name, without its schema"),
        "Table beside the target that gets a row about each stream now and then (docs/operation.md).", shown="off")
    # fmt: on

    # Whose settings these are, where they are those of one of several `tables`.
    stream: str = ""
    # What the command line asks of this run alone: to begin anew from a time, and to send open windows.
    since: str | None = None
    flush: bool = False


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in dataclasses.fields(Config) if f.metadata}
YAML_KEYS = {key: name for name, setting in SETTINGS.items() for key in (name, *setting.aliases)}

# The settings that an entry of `tables` may have for itself.
PER_TABLE = (
    "timestamp_col", "timestamp_format", "column_types", "cursor", "lookback", "source_timezone", "databricks_table",
    "enable_sanitize", "enable_filter", "enable_aggregate", "sanitize_config", "filter_config", "aggregate_config",
    "schema", "batch_rows", "max_bad_rows",
)  # fmt: skip

# The settings that name a target, and what each needs besides.
TARGETS = {
    "databricks_http_path": ("databricks_host", "databricks_database", "databricks_table"),
    "zerobus_endpoint": (
        "databricks_host", "databricks_client_id", "databricks_client_secret", "databricks_database",
        "databricks_table",
    ),
    "table_path": (),
    "lakehouse_path": ("databricks_table",),
}  # fmt: skip

# Two that name one target and may stand together: then rows go by Zerobus, and the warehouse settles doubts.
TOGETHER = {"databricks_http_path", "zerobus_endpoint"}

# A layer maps setting names to values that are already parsed.
Layer = dict[str, Any]


def flags_of(name: str) -> list[str]:
    """All flags of one setting, `--batch-rows` of `batch_rows` first; none for a secret."""
    setting = SETTINGS[name]
    return [f"--{name.replace('_', '-')}", *setting.flags] if setting.flag and not setting.secret else []


def close_to(word: str, known: Iterable[str], similarity: float = 0.5) -> str | None:
    """The known word that looks most like this one, if one looks like it at all."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=similarity)), None)


def nearest(word: str, known: Iterable[str], similarity: float = 0.5) -> str:
    """A hint with the known word that looks most like this one."""
    known = list(known)
    close = close_to(word, known, similarity)
    return f"Did you mean {close!r}?" if close else f"Known: {', '.join(known)}."


def refuse_unwritable(value: object, shown: str, file: str | Path = "") -> None:
    """A `ConfigError` for text with bytes that are no UTF-8, and for a `file` whose name the locale can't write."""
    try:
        os.fsencode(file)
        if not isinstance(value, Path):  # The names of other files than tables may be of any bytes.
            json.dumps(value, ensure_ascii=False, skipkeys=True, default=str).encode()
    except UnicodeEncodeError as error:
        hint = "Write it in UTF-8, and set a locale of UTF-8, such as LC_ALL=C.UTF-8."
        raise ConfigError(f"{shown} can't be written in {error.encoding.upper()}", hint) from None


def parse_setting(name: str, value: object, origin: str) -> Any:
    """The typed value of one setting, or a `ConfigError` that names where the bad one stands."""
    setting = SETTINGS[name]
    if setting.shown == "off" and str(value).strip().lower() == "off":  # as the guide names the default
        return None
    # Rules may have keys, names and values that rows are cleaned of.
    is_hidden = setting.secret or setting.parse in (mapping, store_options, table_entries) or "@" in str(value)
    try:
        parsed = setting.parse(value)
        is_file = isinstance(parsed, Path) or (setting.parse is table_uri and "://" not in parsed)
        refuse_unwritable(parsed, "its value" if is_hidden else f"{value!r:.200}", parsed if is_file else "")
        return parsed
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}", error.hint) from None
    except ValueError as error:
        shown = "" if is_hidden else f" (it is {value!r:.200})"
        raise ConfigError(f"{origin}: {error}{shown}", setting.help) from None


def layer_of(given: Mapping[Any, object], known: Mapping[str, str], origin: str = "") -> Layer:
    """Settings that have their names in YAML; unknown ones are errors that name the nearest `known` one."""
    layer: Layer = {}
    for key, value in given.items():
        if key not in known:
            named = {variable: name for name, setting in SETTINGS.items() for variable in variables_of(setting)}
            meant = named.get(str(key).upper(), str(key).lower())
            fault, hint = f"unknown key {key!r}", nearest(meant, dict.fromkeys(known.values()))
            if key in YAML_KEYS:
                fault, hint = f"{key!r} is no setting of a single table", "It stands beside tables, for all of them."
            raise ConfigError(f"{origin}{fault}", hint)
        if known[key] in layer:
            raise ConfigError(f"{origin}{key!r} repeats {known[key]!r} under another name", "Keep one.")
        if value is not None:
            layer[known[key]] = parse_setting(known[key], value, f"{origin}{key}")
    return layer


def as_written(node: Any) -> Any:
    """A YAML mapping of settings whose scalars are texts, as all settings take them: not 8 for 010, or True for on."""
    for key, value in node.value if node and node.id == "mapping" else []:
        for each in value.value if key.value == "tables" and value.id == "sequence" else [value]:
            if each.id == "scalar" and re.search(":(int|float|bool|timestamp)$", each.tag):
                each.tag = "tag:yaml.org,2002:str"
            elif key.value == "tables":
                as_written(each)
    return node


def load_yaml(file: Path) -> dict[Any, Any]:
    """The mapping in a YAML file, read by the safe loader."""
    import yaml

    class OnlyOnce(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            """A mapping as YAML has it: of a key that stands twice, one would be lost in silence."""
            keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            for key in (key for index, key in enumerate(keys) if isinstance(key, str) and key in keys[:index]):
                line = node.start_mark.line + 1
                raise ConfigError(f"{file}: the key {key!r} stands twice in the mapping at line {line}", "Keep one.")
            return super().construct_mapping(node, deep)

    try:
        if file.is_file() and file.stat().st_size > 1 << 20:  # A file of another kind should not be parsed for minutes.
            raise ConfigError(f"{file} is too large to be settings", "Check --config.")
        loader = OnlyOnce(file.read_text(encoding="utf-8"))
        document = loader.construct_document(node) if (node := as_written(loader.get_single_node())) else None
    except (OSError, UnicodeDecodeError) as error:
        hint = "Save it as UTF-8." if isinstance(error, UnicodeDecodeError) else "Check --config."
        raise ConfigError(f"{file} can't be read: {error}", hint) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as a date with a 13th month
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        # Others may name what stands there, which may be a secret.
        problem = f": {error.problem}" if isinstance(error, yaml.scanner.ScannerError) else ""
        hint = "Check quotes, and indentation, which takes blanks and no tabs."
        raise ConfigError(f"{file} is not valid YAML{line}{problem}", hint) from None
    if document is not None and not isinstance(document, dict):
        raise ConfigError(f"{file} holds no settings", "Expected lines such as `sqlite: /data/sensor.db`.")
    return document or {}


def layer_from_yaml(file: Path) -> Layer:
    """The settings of a YAML file, with warnings of what most likely should not be in it."""
    document = load_yaml(file)
    for key, value in document.items():
        if key in YAML_KEYS and (found := re.search(r"\$\{\w*\}?", str(value))):
            instead = f"leave the key out and set {SETTINGS[YAML_KEYS[key]].variables[0]}"
            log.warning("%s: %s holds %s, which nothing expands: write the value, or %s", file, key, found[0], instead)
    layer = layer_of(document, YAML_KEYS, f"{file}: ")
    if "databricks_token" in layer:
        log.warning("%s holds a token; DATABRICKS_TOKEN or DATABRICKS_TOKEN_FILE keeps it out of files", file)
    return layer


# Values that nothing may show: not the log, nor what is said elsewhere.
SECRETS: list[str] = []


def redacted(text: str) -> str:
    """A text without secrets, and without what signs an address or signs in by it."""
    for secret in sorted(SECRETS, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = re.sub(r"(://[^\s/:@]*):[^\s/@]*@", r"\1:***@", text)
    text = re.sub(r"(?i)(<\w*signature\w*>|signature=|authorization: *\w+ +)[^\s<&]+", r"\1***", text)
    return re.sub(r"\?[^\s\"']*(?i:signature|sig|token)=[^\s\"']*", "?***", text)


def secret_from_file(name: str, variable: str) -> str:
    """A secret out of the file that a variable names, the convention of container images."""
    file = Path(name)
    try:
        if file.stat().st_mode & 0o077:
            log.warning("%s: %s can be read by others; chmod 600 it where that can be set", variable, file)
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable}: {file} can't be read: {error.__class__.__name__}") from None


# What a token is made of: all else could not stand in a header.
TOKEN = re.compile(r"[!-~]+")


def renewed(config: Config, environ: Mapping[str, str]) -> Config:
    """The settings, with sign-in secrets as their files have them now; one that can't be one stays as it was."""
    fresh: Layer = {}
    for name in ("databricks_token", "databricks_client_secret"):  # Others are part of what is sent.
        setting = SETTINGS[name]
        if file := environ.get(f"{setting.variables[0]}_FILE", "").strip():
            with contextlib.suppress(OSError, ValueError):
                if TOKEN.fullmatch(found := setting.parse(Path(file).read_text(encoding="utf-8"))):
                    fresh[name] = found
    SECRETS.extend(secret for secret in fresh.values() if secret not in SECRETS)
    return dataclasses.replace(config, **fresh)


# Variables of Databricks' own tools, which no setting has.
FOREIGN_VARIABLES = re.compile(
    "DATABRICKS_(ACCOUNT|API|APP|APPS|AUTH|AZURE|BUNDLE|CLI|CLUSTER|CONFIG|CONNECT|DEBUG|DISCOVERY|ENV|GOOGLE|JOB|METADATA"
    "|OIDC|PASSWORD|RATE|RUNTIME|SDK|SERVERLESS|TF|TOKEN_AUDIENCE|UPSTREAM|USER|USERNAME|WORKSPACE)(_.*)?"
)
# The first words of other variables of ours, which other programs may use as well.
OUR_PREFIXES = ("SQLITE_", "ENABLE_", "SANITIZE_", "FILTER_", "AGGREGATE_", "LAKEHOUSE_", "STORAGE_", "TIMESTAMP_")


def variables_of(setting: Setting) -> tuple[str, ...]:
    """The variables that may have a setting; the last one of a secret names a file."""
    return (*setting.variables, *[f"{setting.variables[0]}_FILE"] * setting.secret)


def warn_of_unknown(environ: Mapping[str, str]) -> None:
    """Name the variables with one of our prefixes that no setting has: most likely typos."""
    known = [variable for setting in SETTINGS.values() for variable in variables_of(setting)]
    for name in sorted(environ.keys() - set(known)):
        is_ours = name.startswith(("UPLOAD_", "DATABRICKS_")) and not FOREIGN_VARIABLES.fullmatch(name)
        near = close_to(name, known, 0.8) if is_ours or name.startswith(OUR_PREFIXES) else None
        if is_ours or near:
            log.warning("no setting has the variable %s%s", name, f": did you mean {near}?" if near else "")


def layer_from_environ(environ: Mapping[str, str]) -> Layer:
    """The settings in the environment. Empty variables count as unset, as in compose files."""
    layer: Layer = {}
    for name, setting in SETTINGS.items():
        file = f"{setting.variables[0]}_FILE"
        given = [variable for variable in variables_of(setting) if environ.get(variable, "").strip()]
        if len(given) > 1 and file in given:
            raise ConfigError(f"{given[0]} and {file} are both set", "Unset one of them.")
        for variable in given[:1]:
            value = environ[variable].strip()
            if re.fullmatch(r"""(["']).*\1""", value, re.DOTALL):  # as `docker run --env-file` hands them over
                log.warning("%s: the quotes around its value are part of it", variable)
            layer[name] = parse_setting(name, secret_from_file(value, file) if variable == file else value, variable)
    return layer


def merge_layers(layers: Sequence[tuple[str, Layer]]) -> Config:
    """One `Config` out of layers, the highest last; its target comes from the highest that names one."""
    merged: Layer = {}
    for origin, layer in layers:
        if "tables" in layer:  # One table that a lower layer names gives way; a higher one chooses among them.
            merged.pop("sqlite_table_name", None)
        merged |= layer
        if "sqlite_table_name" in layer and "tables" in merged and origin != "command line":
            fault = f"{origin}: sqlite_table_name beside tables leaves out all of these but one"
            hint = "Take one of both out. For a single run --table NAME chooses one of tables."
            if origin == "YAML file":
                raise ConfigError(fault, hint)
            log.warning("%s. %s", fault, hint)
    for origin, layer in reversed(layers):
        named = [name for name in TARGETS if name in layer]
        if len(named) > 1 and not TOGETHER.issuperset(named):
            raise ConfigError(f"{origin}: two targets, {' and '.join(named)}", "Keep one of them.")
        if named:
            kept = TOGETHER.union(named) if TOGETHER.intersection(named) else named
            merged = {k: v for k, v in merged.items() if k not in TARGETS or k in kept}
            log.debug("target %s comes from the %s", named[0], origin)
            break
    return Config(**merged)


# The table that rows go to depends on the one kind of processing that is enabled.
PREFIXES = {"raw": "raw_", "filter": "filtered_", "sanitize": "secure_", "aggregate": "aggregated_"}


def scenario_of(config: Config) -> str:
    """Which kind of processing is enabled: a key of `PREFIXES`."""
    enabled = [s for s in ("sanitize", "filter", "aggregate") if getattr(config, f"enable_{s}")]
    if len(enabled) > 1:
        names = " and ".join(f"enable_{s}" for s in enabled)
        raise ConfigError(f"{names} are both true", "Enable one; each scenario is an uploader of its own.")
    return enabled[0] if enabled else "raw"


def reason_of(config: Config, scenario: str) -> str:
    """Why rows go to the scenario's table. Rules that are not enabled are named: private values would be sent."""
    idle = [s for s in ("sanitize", "filter", "aggregate") if s != scenario and getattr(config, f"{s}_config")]
    unused = f"; {' and '.join(f'{s}_config' for s in idle)} not in use" if idle else ""
    return ("no processing is enabled" if scenario == "raw" else f"enable_{scenario} is true") + unused


def unused_privacy(config: Config, scenario: str) -> tuple[str, str] | None:
    """That rows go as they are though there are rules to hide something, and what applies these."""
    if scenario != "raw" or not config.sanitize_config:
        return None
    return "sanitize_config is not in use: all values are sent as they are", "enable_sanitize: true applies it."


def routed_table(base: str, scenario: str) -> str:
    """The scenario's table. A base name that already has one of the prefixes counts without it."""
    known = next((p for p in PREFIXES.values() if base.lower().startswith(p) and base.lower() != p), "")
    return PREFIXES[scenario] + base[len(known) :]


def refuse_targets(config: Config, needless: Iterable[str] = frozenset()) -> None:
    """Exactly one target, with all that it needs but what is `needless`, or a `ConfigError` that says what to set."""
    named = [name for name in TARGETS if getattr(config, name)]
    if not named:
        hint = "Set databricks_http_path (or DATABRICKS_WAREHOUSE_ID), zerobus_endpoint, lakehouse_path or table_path."
        raise ConfigError("no target is set", hint)
    given = {*needless, "databricks_table"} if config.tables else needless  # Each table's own.
    needed = dict.fromkeys(name for target in named for name in TARGETS[target] if name not in given)
    missing = [name for name in needed if getattr(config, name) is None]
    if missing:
        ways = [" ".join([SETTINGS[name].variables[0], *map("({})".format, flags_of(name)[:1])]) for name in missing]
        hint = f"Set {', '.join(ways)}, or the same in YAML."
        hint += " --tables '*' takes all tables of a database, each by its own name." * ("databricks_table" in missing)
        raise ConfigError(f"{' and '.join(missing)} not set", hint)
    if config.zerobus_endpoint:
        refuse_zerobus_settings(config)


# What Zerobus takes in names of catalogs, schemas, tables and columns (docs.databricks.com, "Zerobus limits").
PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+")


def workspace_of(config: Config) -> str:
    """The id of the workspace, with which Zerobus' host begins."""
    return (config.zerobus_endpoint or "").partition(".")[0]


def refuse_zerobus_settings(config: Config) -> None:
    """What only Zerobus asks of the settings, or a `ConfigError`."""
    endpoint, host = config.zerobus_endpoint or "", config.databricks_host or ""
    if not workspace_of(config).isdecimal():
        hint = "It is WORKSPACE_ID.zerobus.REGION.cloud.databricks.com, or as Azure and GCP end it."
        raise ConfigError(f"zerobus_endpoint {endpoint} does not begin with the workspace's id", hint)
    if (found := re.match(r"adb-(\d+)\.", host)) and found[1] != workspace_of(config):
        raise ConfigError(f"zerobus_endpoint {endpoint} is of another workspace than {host}", "Correct one of them.")
    table = [] if config.databricks_table is None else [config.databricks_table]  # Each of `tables` has its own.
    names = [*(config.databricks_database or "").split("."), *table]
    if len(names) != 2 + len(table) or not all(map(PLAIN_NAME.fullmatch, names)):
        hint = "databricks_database is catalog.schema; names are of ASCII letters, digits and underscores."
        raise ConfigError(f"Zerobus takes no table named {'.'.join(names)}", hint)
    if not config.databricks_http_path and not config.on_doubt:
        raise ConfigError(
            "with zerobus_endpoint alone nothing can tell whether rows arrived when an answer is lost",
            "Set databricks_http_path to a warehouse, which is asked only then; or set on_doubt: resend sends such rows"
            " again, and readers drop the doubles by the view that --print-ddl shows; stop waits for a person.",
        )


def route_of(config: Config) -> str:
    """How rows get to the target, for people."""
    if config.zerobus_endpoint:
        return "Zerobus"
    if config.databricks_http_path:
        return "INSERT, many by COPY INTO" if config.databricks_volume else "INSERT"
    return "Delta"


# === Rows =============================================================================================
#
# SQLite types values, not columns; a target types columns. Here a column's raw values become values
# of one type, exactly: what a type can't hold is not bent but reported, and its row goes to quarantine.
# Types are named in Databricks' words: bigint, double, string, timestamp, decimal(10,2) and so on.

Columns = dict[str, str]

# What SQLite holds where it is not NULL.
Value = int | float | str | bytes

INTEGER_BITS = {"bigint": 64, "int": 32, "smallint": 16, "tinyint": 8}
REALS, TEXTS, TIMES = ("double", "float"), ("string", "varchar", "char"), ("timestamp", "timestamp_ntz")

# How SQLite's declared types are understood where no target column decides. Words are looked for in this order, as
# SQLite does (sqlite.org/datatype3.html, section 3.1); any other word, such as STRING, JSON or UUID, says nothing.
DECLARED = {
    "BOOL": "boolean", "DATETIME": "timestamp", "TIMESTAMP": "timestamp", "INT": "bigint",
    "CHAR": "string", "CLOB": "string", "TEXT": "string", "BLOB": "binary",
    "REAL": "double", "FLOA": "double", "DOUB": "double", "DATE": "date",
}  # fmt: skip


def by_spelling(names: Iterable[str]) -> Callable[[str], str | None]:
    """What finds a name among these: as it is written, else in any case. To SQLite é and É are two, e and E are one."""
    known = [*names]
    found = {name.lower(): name for name in known} | {name: name for name in known}
    return lambda name: found.get(name, found.get(name.lower()))


def declared_type(declared: str) -> str | None:
    """The type that a declaration asks for; None where it says nothing."""
    word = declared.upper()
    if re.match(r"\s*(DECIMAL|NUMERIC)\s*\(", word):
        with contextlib.suppress(ValueError):
            return type_named(word)
    return next((kind for part, kind in DECLARED.items() if part in word), None)


# Other words for the types, of Databricks and of delta-rs.
SYNONYMS = {
    "long": "bigint", "integer": "int", "short": "smallint", "byte": "tinyint", "real": "float", "dec": "decimal",
    "numeric": "decimal", "timestamp_ltz": "timestamp",
}  # fmt: skip


def type_named(word: object) -> str:
    """A type in Databricks' words as this script writes it; for another word a `ValueError` with the nearest."""
    sizes = r"(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?"
    found = re.fullmatch(rf"([a-z_]+)\s*{sizes}", str(word).strip().lower(), re.ASCII)
    base = SYNONYMS.get(found[1], found[1]) if found else ""
    if found is None or base not in KINDS:
        raise ValueError(nearest(found[1] if found else str(word).lower(), [*KINDS, *SYNONYMS]))
    first, second = found[2], found[3]
    if base == "decimal":
        precision, scale = int(first or 10), int(second or 0)
        if not max(1, scale) <= precision <= 38:
            raise ValueError("Digits are 38 at most, of which those after the point are a part.")
        return f"decimal({precision},{scale})"
    if (base in ("varchar", "char")) != (first is not None) or second is not None:
        raise ValueError("A length belongs to VARCHAR(n) and CHAR(n), and only there.")
    return f"{base}({first})" if first else base


def type_told(kind: str) -> str:
    """What a server calls a type, as this script writes it: `decimal` is `decimal(10,0)`; any other as it is."""
    with contextlib.suppress(ValueError):
        return type_named(kind.removesuffix(" not null")) + (" not null" if kind.endswith(" not null") else "")
    return kind


# The type that holds each of SQLite's classes of values.
CLASS_TYPES = {"integer": "bigint", "real": "double", "text": "string", "blob": "binary"}
CLASSES: dict[type, str] = {int: "integer", float: "real", str: "text", bytes: "blob"}


# And of two together; nothing holds blobs beside numbers.
MIXED_TYPES: dict[tuple[str, ...], str] = {("integer", "real"): "double", ("blob", "text"): "binary"}


def base_of(kind: str) -> str:
    """`decimal` of `decimal(10,2)`."""
    return kind.partition("(")[0]


@functools.lru_cache(100)
def sizes_of(kind: str) -> tuple[int, ...]:
    """10 and 2 of `decimal(10,2)`."""
    return tuple(int(size) for size in re.findall(r"\d+", kind))


# Numbers as text: ASCII digits alone. Python would read 1_000, digits of other scripts and ' infinity ' too.
WHOLE_TEXT = re.compile(r"[+-]?[0-9]{1,40}")
NUMBER_TEXT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def to_integer(value: Value, kind: str) -> int:
    """Whole numbers within the type's range, from any class; '12' is one, 1.7 is none."""
    if isinstance(value, str) and WHOLE_TEXT.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise ValueError("is no whole number")
    if not -(1 << INTEGER_BITS[kind] - 1) <= value < 1 << INTEGER_BITS[kind] - 1:
        raise ValueError(f"is outside the range of {kind}")
    return value


# The first number that becomes infinite as a FLOAT: half a step beyond the largest one.
FLOAT_END = 2.0**128 - 2.0**103


def to_double(value: Value, kind: str) -> float:
    """Numbers that a double holds exactly, numeric text, NaN and infinities. A FLOAT rounds, as its owner chose.

    A fraction as text becomes the nearest number; whole numbers are exact, as text too.
    """
    if isinstance(value, bytes):
        raise ValueError("is a blob")
    if isinstance(value, str) and not NUMBER_TEXT.fullmatch(value):
        raise ValueError("is no number")
    number = float(value)
    if isinstance(value, str) and WHOLE_TEXT.fullmatch(value):
        value = int(value)
    if kind == "double" and isinstance(value, int) and math.isfinite(number) and int(number) != value:
        raise ValueError("has more digits than a double holds")
    is_finite = not isinstance(value, float) or math.isfinite(value)  # Text is digits, not the name of an infinity.
    is_lost = isinstance(value, str) and number == 0 and re.match("[^eE]*[1-9]", value)
    if is_lost or (is_finite and abs(number) >= (FLOAT_END if kind == "float" else math.inf)):
        raise ValueError(f"is outside the range of {kind}")
    return number


def decimal_of(value: Value) -> decimal.Decimal:
    """A number, or digits as text, as they are written; of a double the shortest digits that mean it."""
    if isinstance(value, bytes) or (isinstance(value, str) and not NUMBER_TEXT.fullmatch(value)):
        raise ValueError("is no number")
    return decimal.Decimal(repr(value) if isinstance(value, float) else value)


DIGITS_OF_DECIMALS = decimal.Context(prec=60)


def to_decimal(value: Value, kind: str) -> str:
    """Numbers that fit precision and scale without rounding, as decimal digits."""
    precision, scale = sizes_of(kind)
    exact = decimal_of(value)
    try:
        fitted = exact.quantize(decimal.Decimal(1).scaleb(-scale), context=DIGITS_OF_DECIMALS)
    except decimal.InvalidOperation:
        raise ValueError("is no number that fits") from None
    if fitted != exact or fitted.adjusted() + scale >= precision:
        raise ValueError(f"does not fit {kind} without rounding")
    return f"{fitted:f}"


# The words that Databricks casts to BOOLEAN, in any case (docs.databricks.com, "cast function"; Spark's `StringUtils`).
BOOLEAN_WORDS = {
    **dict.fromkeys(("t", "true", "y", "yes", "1"), True),
    **dict.fromkeys(("f", "false", "n", "no", "0"), False),
}


def to_boolean(value: Value, _kind: str) -> bool:
    """0 and 1, as numbers or as text, and the words that Databricks takes; blanks around them don't count."""
    word = plain_text(value).lower()
    if word not in BOOLEAN_WORDS:
        raise ValueError("is neither 0 nor 1, true nor false")
    return BOOLEAN_WORDS[word]


def to_string(value: Value, kind: str) -> str:
    """Text as it is, numbers by their digits. A blob is no text."""
    if isinstance(value, bytes):
        raise ValueError("is a blob")
    shown = value if isinstance(value, str) else repr(value)
    if (sizes := sizes_of(kind)) and len(shown) > sizes[0]:
        raise ValueError(f"is longer than {kind}")
    return shown


def to_binary(value: Value, _kind: str) -> bytes:
    """Blobs as they are, text as UTF-8; what is no text of its database's encoding is its bytes."""
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise ValueError("is a number, not a blob")
    return value


# ISO-8601 as people and programs write it: the day, basic or not, and a time of the day after a T or a blank. Python
# takes any separator there (so 1795010112345 would be a time of the year 1795), and others in each version. Go prints
# an offset, a name for it, and maybe its monotonic clock (pkg.go.dev/time, Time.String), Java a zone in brackets behind
# it (RFC 9557): the offset tells.
BLANKS = " \t\r\n"
ISO_TEXT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-?W[0-9]{2}-?[1-7])"
    r"(?:[Tt ]((?:[01][0-9]|2[0-3])(?::?[0-5][0-9](?::?[0-5][0-9](?:[.,][0-9]+)?)?)?)"
    r"((?:[Zz]| ?[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?(?: [A-Z+-][A-Z0-9]{1,5}(?: m=[+-][0-9.]+)?)?)"
    r"(?:\[[A-Za-z0-9_+/:-]+\])?| [A-Za-z][A-Za-z0-9_+/-]*)?)?"
)


def iso_moment(text: str) -> dt.datetime | None:
    """A time or a day in ISO-8601, cut to microseconds; with a zone where the text has one. None for any other text."""
    found = ISO_TEXT.fullmatch(text.strip(BLANKS))
    if found is None:
        return None
    day, time, zone = found.groups()
    try:
        written = zone_written(zone.replace("[", " ").split()[0]) if zone else None
        return dt.datetime.combine(dt.date.fromisoformat(day), dt.time.fromisoformat(time or "00"), written)
    except (ValueError, LookupError, OSError):  # no such day, or no such zone
        return None


@functools.lru_cache(1000)
def zone_written(zone: str) -> dt.tzinfo:
    """The zone that a text names: Z, an offset, or the name of a region."""
    if zone[0] not in "+-Zz":
        return ZoneInfo(zone)
    return dt.datetime.fromisoformat(f"2000-01-01T00:00:00{zone.upper()}").tzinfo or UTC


def to_date(value: Value, form: TimeForm) -> str:
    """ISO dates, or those of a format. A time other than midnight, or a zone other than UTC, would be lost: refused."""
    moment = iso_moment(value) if isinstance(value, str) else None
    if form.name != "auto":
        moment = moment_of(to_microseconds(value, TimeForm(form.name)))
    if moment is None:
        raise ValueError("is no ISO date")
    if moment.time() != dt.time() or moment.utcoffset():
        raise ValueError("is a time, not a date")
    return moment.date().isoformat()


# The first and the last microsecond of the years 1 to 9999.
FIRST_TIME, LAST_TIME = -719_162 * DAY, 2_932_897 * DAY - 1


def moment_of(microseconds: int) -> dt.datetime:
    """A time in UTC out of microseconds since 1970, at least a day within the years that Python knows."""
    return EPOCH + MICROSECOND * max(FIRST_TIME + DAY, min(microseconds, LAST_TIME + 1 - DAY))


def microseconds_of(moment: dt.datetime, zone: ZoneInfo) -> int:
    """The inverse, for years of any zone. A time without one is in `zone`, the first of two where clocks go back."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(dt.UTC) - EPOCH) // MICROSECOND


# The size of an epoch number tells its unit: seconds, milliseconds and microseconds are of the years 1973 to 5138.
EPOCH_UNITS = ((10**11, "unix"), (10**14, "unix_ms"), (10**17, "unix_us"), (2**63, "unix_ns"))

# Such numbers as text. Eight digits are a day in ISO-8601's basic form: 20260131.
EPOCH_TEXT = re.compile(r"(?![0-9]{8}$)[+-]?[0-9]{1,40}(\.[0-9]{0,40})?")


def number_microseconds(value: float | fractions.Fraction, name: str) -> int:
    """Microseconds since 1970 of a number, exact, of nanoseconds cut; beyond the years 1 to 9999 an `OverflowError`."""
    if not -(2**80) < value < 2**80:  # nor is NaN
        raise OverflowError
    unit, origin = NUMBER_FORMATS[name]
    (above, below), (factor, parts) = value.as_integer_ratio(), unit.as_integer_ratio()
    time = (2 * above * factor + (below if parts == 1 else 0)) // (2 * below * parts) + origin
    if not FIRST_TIME <= time <= LAST_TIME:
        raise OverflowError
    return time


def unit_of(value: Any) -> str | None:
    """The format of an epoch number by its size; None beyond all units, and of NaN."""
    return next((name for limit, name in EPOCH_UNITS if abs(value) < limit), None)


class TimeForm(NamedTuple):
    """How a column writes its times: auto, one of `NUMBER_FORMATS`, or a pattern of strptime, with %.

    By auto they are in ISO-8601 or numbers since 1970, as text too. Texts in a pattern need not sort as their times do.
    Texts without a zone are in `zone`; where clocks go back, the first of two equal times is meant.
    """

    name: str = "auto"
    zone: ZoneInfo = UTC

    def line(self) -> str:
        """The form as the state file has it."""
        return f"{self.name} {self.zone.key}"

    @staticmethod
    def of(line: str) -> TimeForm:
        """The form out of a line of the state file."""
        name, zone = line.rsplit(" ", 1)
        return TimeForm(name, ZoneInfo(zone))

    def number(self, time: int) -> int | float:
        """About the number that means a time: a whole one from below, or the nearest count of days."""
        unit, origin = NUMBER_FORMATS[self.name]
        exact = (time - origin) / unit
        return float(exact) if unit == DAY else max(-(2**63) + 1, min(math.floor(exact), 2**63 - 1))


AUTO = TimeForm()


def time_form(config: Config) -> TimeForm:
    """What the time column is read by."""
    return TimeForm(config.timestamp_format, ZoneInfo(config.source_timezone))


def to_microseconds(value: Value, form: TimeForm) -> int:
    """A time in a form, in microseconds since 1970; a `ValueError` for what is not written so."""
    try:
        if form.name == "auto":
            return auto_microseconds(value, form.zone)
        text = plain_text(value)
        if "%" in form.name:
            return pattern_microseconds(text, form.name, form.zone, not isinstance(value, str))
        if isinstance(value, (int, float)):
            return number_microseconds(value, form.name)
        if NUMBER_TEXT.fullmatch(text):
            return number_microseconds(fractions.Fraction(text), form.name)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999") from None
    except ValueError:
        pass
    raise ValueError("is no time" if form.name == "auto" else f"is no time in timestamp_format {form.name}")


def plain_text(value: Value | None) -> str:
    """Text without blanks around it, a whole number as text, such as 20260131; nothing for other values."""
    if isinstance(value, str):
        return value.strip(BLANKS)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    return str(value) if isinstance(value, int) else ""


def auto_microseconds(value: Value, zone: ZoneInfo) -> int:
    """Microseconds since 1970 of ISO text, and of numbers since then, also as text of digits, save a day of eight."""
    number: Any = value
    if not isinstance(value, (int, float)):
        text = plain_text(value)
        if moment := iso_moment(text):
            return microseconds_of(moment, zone)
        number = fractions.Fraction(text) if EPOCH_TEXT.fullmatch(text) else math.nan
    if name := unit_of(number):
        return number_microseconds(number, name)
    raise ValueError


@functools.lru_cache(10_000)
def pattern_microseconds(text: str, pattern: str, zone: ZoneInfo, is_exact: bool) -> int:
    """Microseconds since 1970 of a text that a pattern of strptime reads and, where `is_exact`, would write so."""
    moment = named_moment(text, pattern, zone) if "%Z" in pattern else dt.datetime.strptime(text, pattern)
    # Of fractions and zones there are several spellings.
    if is_exact and not text.lower().startswith(moment.strftime(re.split("%[fzZ]", pattern)[0]).lower()):
        raise ValueError
    return microseconds_of(moment, zone)


def named_moment(text: str, pattern: str, zone: ZoneInfo) -> dt.datetime:
    """A time whose zone %Z names: UTC, GMT, `zone` or what its clocks say then; strptime takes this machine's."""
    first, *parts = re.split("(%.)", pattern)
    for name in ("UTC", "GMT", *clock_names(zone), zone.key):
        with contextlib.suppress(ValueError):
            moment = dt.datetime.strptime(text, first + "".join(name if part == "%Z" else part for part in parts))
            if moment.tzinfo or name in ("UTC", "GMT"):
                return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            both = [moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
            if called := [local for local in both if name in (local.tzname(), zone.key)]:
                return called[0]
    raise ValueError


@functools.cache
def clock_names(zone: ZoneInfo) -> tuple[str, ...]:
    """What a zone's clocks are called this year, in winter and in summer."""
    days = (dt.datetime(time.gmtime().tm_year, month, 1, tzinfo=zone) for month in (1, 7))
    return tuple(dict.fromkeys(str(day.tzname()) for day in days))


class Kind(NamedTuple):
    """What a type is for Arrow, for pandas, and where a value of it comes from.

    An Arrow array is cast straight from SQLite's class `casts`, since Arrow does that exactly or marks as NULL what
    it can't; from others where `WHOLE_CASTS` knows how. All else goes value by value through `convert`, into an array
    of the type `made_from`.
    """

    arrow: str
    pandas: str
    casts: str | None
    made_from: str
    convert: Callable[[Any, Any], Any]


KINDS = {
    "bigint":        Kind("int64",      "Int64",               "integer", "bigint",   to_integer),
    "int":           Kind("int32",      "Int32",               "integer", "int",      to_integer),
    "smallint":      Kind("int16",      "Int16",               "integer", "smallint", to_integer),
    "tinyint":       Kind("int8",       "Int8",                "integer", "tinyint",  to_integer),
    "double":        Kind("float64",    "Float64",             "real",    "double",   to_double),
    "float":         Kind("float32",    "Float32",             None,      "float",    to_double),
    "decimal":       Kind("decimal128", "object",              None,      "string",   to_decimal),
    "boolean":       Kind("bool",       "boolean",             None,      "boolean",  to_boolean),
    "string":        Kind("string",     "object",              "text",    "string",   to_string),
    "varchar":       Kind("string",     "object",              None,      "string",   to_string),
    "char":          Kind("string",     "object",              None,      "string",   to_string),
    "binary":        Kind("binary",     "object",              "blob",    "binary",   to_binary),
    "date":          Kind("date32",     "object",              None,      "string",   to_date),
    "timestamp":     Kind("timestamp",  "datetime64[us, UTC]", None,      "bigint",   to_microseconds),
    "timestamp_ntz": Kind("timestamp",  "datetime64[us]",      None,      "bigint",   to_microseconds),
}  # fmt: skip


def kind_of(kind: str, name: str = "") -> Kind:
    """What is known of the type of a column; a `TargetError` where rows can't be made for it."""
    if base_of(kind) not in KINDS:
        fault = f"{f'the column {name}' if name else 'a column'} of type {kind} can't be filled"
        raise TargetError(fault, "Give it a plain type there, or send a view that lacks it (sqlite_table_name).")
    return KINDS[base_of(kind)]


@functools.lru_cache(100)
def arrow_type(kind: str) -> DataType:
    """The Arrow type of a column type."""
    from arro3.core import DataType

    make: Callable[..., DataType] = getattr(DataType, kind_of(kind).arrow)
    if kind in TIMES:
        return make("us", tz="UTC" if kind == "timestamp" else None)
    return make(*sizes_of(kind)) if base_of(kind) == "decimal" else make()


def array_of(values: Sequence[object], kind: str) -> Array:
    """An Arrow array out of what `convert` of its type makes, and None for NULL."""
    from arro3.core import Array

    return Array(values, arrow_type(kind_of(kind).made_from)).cast(arrow_type(kind))


def arrow_table(columns: Mapping[str, Array | ChunkedArray]) -> ArrowTable:
    """An Arrow table of arrays by name."""
    from arro3.core import Table as ArrowTable

    return ArrowTable.from_arrays(list(columns.values()), names=list(columns))


def picked(rows: ArrowTable, indexes: Iterable[int]) -> ArrowTable:
    """Some of a table's rows."""
    chosen = array_of([*indexes], "bigint")
    return arrow_table({name: rows.column(name).combine_chunks().take(chosen) for name in rows.column_names})


# Numbers of a new column are taken for times where most are of these years: no age and no day of Julius'.
PLAUSIBLE_TIMES = range(to_microseconds("2000-01-01", AUTO), to_microseconds("2100-01-01", AUTO))


def digest_of(content: str, encoding: str = "utf-8") -> str:
    """A short digest of a row's content; 64 bits, since rows are compared with few others."""
    return hashlib.blake2b(content.encode(encoding), digest_size=8).hexdigest()


class InvalidText(bytes):
    """Text that its database's encoding does not allow; the bytes as they are."""


class RawColumn(NamedTuple):
    """A page's values of one column, as SQLite holds them.

    `storage` is integer, real, text or blob where all values are of that class (or NULL), and `data` an
    Arrow array; it is mixed otherwise, and `data` a list of int, float, str, bytes and None. Text that is
    not valid in the database's encoding is held as `InvalidText`.
    """

    storage: str
    data: Array | list[Value | None]

    def values(self) -> list[Value | None]:
        """The values as Python objects."""
        return self.data if isinstance(self.data, list) else list(self.data.to_pylist())

    def at(self, index: int) -> Value | None:
        """The value of one row."""
        return self.data[index] if isinstance(self.data, list) else self.data[index].as_py()

    def only(self, indexes: Sequence[int]) -> RawColumn:
        """Some of the values."""
        if isinstance(self.data, list):
            return RawColumn(self.storage, [self.data[index] for index in indexes])
        return RawColumn(self.storage, self.data.take(array_of(list(indexes), "bigint")))


# Times in the forms that Arrow's parser reads as `auto_microseconds` does, each digit as 0; and what it reads although
# no clock shows it: minutes and seconds over 59.
DIGITS = bytes.maketrans(b"123456789", b"000000000")
ARROW_TIME = re.compile(rb"0000-00-00(?:[T ]00:00:00(?:\.0+)?(Z|[+-]00:00)?)?")
OVER_59 = (b":6", b":7", b":8", b":9")


def goes_over_59(lines: bytes, shape: bytes | None) -> bool:
    """Whether minutes or seconds in some lines of times do; `shape` is what all of them look like, if that is one."""
    if shape is None:
        return any(part in lines for part in OVER_59)
    tens = (lines[colon.end() :: len(shape)] for colon in re.finditer(b":", shape))
    return bool(b"".join(tens).translate(None, b"012345"))


def lined_up(data: Array) -> tuple[list[str], bytes]:
    """The texts of a column without its NULLs, and these as lines."""
    texts = [*data.to_pylist()]
    texts = [text for text in texts if text is not None] if data.null_count else texts
    return texts, "\n".join([*texts, ""]).encode()


def cast_text_times(data: Array, form: TimeForm) -> Array | None:
    """ISO text as UTC timestamps by Arrow's parser, NULL where it can't tell; None where it might tell something else.

    It knows zones of another year: times without one are read as UTC and moved here. Before 1970 clocks were odd.
    """
    if form.name != "auto":
        return None
    texts, lines = lined_up(data)
    shapes = lines.translate(DIGITS)
    first = shapes[: shapes.find(b"\n") + 1]
    # Most often all have one form, which a comparison tells soonest.
    shape = first if shapes == first * len(texts) else None
    forms = [ARROW_TIME.fullmatch(each) for each in ({first[:-1]} if shape else {*shapes[:-1].split(b"\n")}) if texts]
    if lines.count(b"\n") != len(texts) or not all(forms) or goes_over_59(lines, shape):
        return None
    is_local = {found is not None and found[1] is None for found in forms if form.zone.key != "UTC"}
    if texts and not ("1970-01-02" if True in is_local else "0001-01-02") <= min(texts) <= max(texts) < "9999-12-30":
        return None
    times = data.cast(arrow_type("timestamp"))
    if is_local != {True}:
        return None if True in is_local else times
    local = times.cast(arrow_type("bigint")).to_pylist()
    utc = [None if time is None else time - offset_of(form.zone, time // 60_000_000) for time in local]
    return array_of(utc, "timestamp")


def cast_number_times(data: Array, form: TimeForm) -> Array | None:
    """Numbers of one unit as UTC timestamps; None where each has to be looked at: small ones, or of several units."""
    values = data.to_pylist()
    ends = [end(number for number in values if number is not None) for end in (min, max) if data.null_count < len(data)]
    units = {form.name if form.name != "auto" else unit_of(end) or "" for end in ends}
    if len(units) != 1 or not units <= NUMBER_FORMATS.keys() or not all(2**24 <= end < 2**63 for end in ends):
        return None
    unit, origin = NUMBER_FORMATS[units.pop()]
    factor, parts = unit.as_integer_ratio()
    if not all(FIRST_TIME < end * factor // parts + origin < LAST_TIME for end in ends):
        return None
    if data.type == arrow_type("bigint"):
        times = [None if number is None else number * factor // parts + origin for number in values]
    elif parts == 1 and factor <= 10**6:  # Over 2**24 the fraction is of so few bits that its product is exact.
        times = [
            None if number is None else int(number) * factor + int(number % 1 * factor + 0.5) + origin
            for number in values
        ]
    else:
        return None
    return array_of(times, "timestamp")


def cast_bits(data: Array, _form: TimeForm) -> Array | None:
    """Numbers of which each is 0 or 1 as truth values, else None."""
    return data.cast(arrow_type("boolean")) if {*data.to_pylist()} <= {0, 1, None} else None


def cast_days(data: Array, form: TimeForm) -> Array | None:
    """Texts like 2026-01-31 as dates, NULL where there is no such day; None where one looks otherwise."""
    texts, lines = lined_up(data)
    shapes = lines.translate(DIGITS)
    is_usual = shapes == b"0000-00-00\n" * len(texts) and min(texts, default="1") >= "0001"
    return data.cast(arrow_type("date")) if is_usual and form.name == "auto" else None


# Ways to make a type of all values of a class together, where Arrow's own cast would do something else.
WHOLE_CASTS: dict[tuple[str, str], Callable[[Array, TimeForm], Array | None]] = {
    ("text", "timestamp"): cast_text_times,
    ("integer", "timestamp"): cast_number_times,
    ("real", "timestamp"): cast_number_times,
    ("integer", "boolean"): cast_bits,
    ("text", "date"): cast_days,
}


def cast_whole(data: Array, storage: str, kind: str, form: TimeForm) -> Array | None:
    """Values of one class as an array of another type, NULL where that can't be; None where each is to be looked at."""
    if cast := WHOLE_CASTS.get((storage, kind)):
        return cast(data, form)
    return data.cast(arrow_type(kind)) if kind_of(kind).casts == storage else None


@functools.lru_cache(10_000)
def offset_of(zone: ZoneInfo, minute: int) -> int:
    """How far a zone's clocks are ahead of UTC, in microseconds, at a minute (since 1970) of its own."""
    offset = (EPOCH + dt.timedelta(minutes=minute)).replace(tzinfo=zone).utcoffset()
    return (offset or dt.timedelta()) // MICROSECOND


def convert_each(values: Sequence[Value | None], kind: str, form: TimeForm) -> tuple[Array, dict[int, str]]:
    """The careful way: value by value, with the reason for each that fails."""
    done: list[object] = [None] * len(values)
    bad: dict[int, str] = {}
    convert_one, detail = kind_of(kind).convert, form if kind in (*TIMES, "date") else kind
    for index, value in enumerate(values):
        if isinstance(value, InvalidText) and kind != "binary":
            bad[index] = "is not valid text in the database's encoding"
        elif value is not None:
            try:
                done[index] = convert_one(value, detail)
            except ValueError as error:
                bad[index] = str(error)
    return array_of(done, kind), bad


def convert(column: RawColumn, kind: str, form: TimeForm) -> tuple[Array, dict[int, str]]:
    """A column as an Arrow array of type `kind`, and by index why some values could not be converted (NULL there)."""
    if not isinstance(column.data, list):
        array = cast_whole(column.data, column.storage, kind, form)
        if array is not None and array.null_count == column.data.null_count:
            return array, {}
    return convert_each(column.values(), kind, form)


def fitting_type(column: RawColumn, asked: str | None, zone: ZoneInfo) -> str:
    """The type for a new column: the one that is asked for, or else one that holds all of its values, or STRING."""
    values = [value for value in column.values() if value is not None]
    classes = sorted({CLASSES.get(type(value), "text") for value in values})
    sampled = CLASS_TYPES[classes[0]] if len(classes) == 1 else MIXED_TYPES.get(tuple(classes), "string")
    for kind in filter(None, [asked, "timestamp" if asked == "date" else None, sampled]):
        array, bad = convert(column, kind, TimeForm(zone=zone))
        plausible = [True]
        if kind == "timestamp" and {"integer", "real"} & {*classes}:
            times = array.cast(arrow_type("bigint")).to_pylist()
            plausible = [time in PLAUSIBLE_TIMES for time in times if time is not None]
        if not bad and sum(plausible) * 2 > len(plausible):
            return kind
    return "string"


# --- Which format values are in ---

# Days and clocks as people and programs write them, in strptime's words.
DAYS = (
    *(
        sign.join(f"%{field}" for field in order)
        for order in ("Ymd", "dmY", "mdY", "ymd", "dmy", "mdy")
        for sign in ("-", "/", ".", " ", "_", "")
    ),
    *(f"%d{gap}{month}{gap}%{year}" for gap in (" ", "-", "/") for month in ("%b", "%B") for year in "Yy"),
    *(f"{month} %d{comma} %Y" for month in ("%b", "%B") for comma in ("", ",")),
    *("%Y:%m:%d", "%d. %m. %Y", "%d. %m.%y", "%d. %b %Y", "%d. %B %Y", "%d%b%Y", "%d%b%y", "%Y-%b-%d", "%Y-%j", "%Y%j"),
    *("%Y年%m月%d日", "%Y년 %m월 %d일", "%Y. %m. %d.", "%Y-%m", "%m-%Y", "%m/%Y", "%Y%m", "%b %Y", "%B %Y"),
)
CLOCKS = [sign.join(fields) for fields in (("%H", "%M", "%S"), ("%H", "%M")) for sign in (":", ".", "-", "_", "")]
CLOCKS += [clock + fraction for clock in CLOCKS if clock[-1] == "S" for fraction in (".%f", ",%f", ":%f", "%f")]
CLOCKS += [clock.replace("%H", "%I") + half for clock in CLOCKS for half in (" %p", "%p")]
CLOCKS += ["%Hh%M", "%Hh%Mm%Ss", "%H时%M分%S秒", "%H時%M分%S秒", "%H시 %M분 %S초", "%H"]
CLOCKS = [clock + behind for clock in CLOCKS for behind in ("", "%z", " %z", " GMT%z", " %Z", " Uhr")]
# date(1) has the year behind the clock.
YEARLESS, CLOCKS_AND_YEARS = ("%b %d", "%B %d", "%d %b", "%d %B", "%d. %B"), (*(f"{clock} %Y" for clock in CLOCKS),)

# What fields look like. A word behind a clock may be a zone; one in small letters, a half of the day.
FIELDS = {
    **dict.fromkeys("dmHI", r"(?:[0-9]{2}|(?<![0-9])\s?[0-9](?![0-9]))"),
    **dict.fromkeys("yMS", "[0-9]{2}"),
    "Y": "[0-9]{4}",
    "j": "[0-9]{3}",
    "f": "(?:(?<![0-9])[0-9]{1,6}|[0-9]{3}(?:[0-9]{3})?)",
    "b": "[A-Za-z]{3}",
    "B": "[A-Za-z]{3,}",
    "p": "(?i:[ap]m)",
    "z": "(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])",
    "Z": "(?P<zone>[A-Z]{3,5}|[A-Z][A-Za-z_]+(?:/[A-Za-z_]+)+)",
}

# What stands around a time, maybe with the day of the week, and between its halves. Controllers write DT#, JavaScript
# a name for the zone behind the offset, which tells.
FRAME = re.compile(
    r"((?:L?DT?#)?[^\w%+-]*)((?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(day)?)?([., ]*)(.*?)"
    r"((?<=[+-]\d{4}) \([^)%]+\)|[^\w%.]*)"
)
JOINT = r"(?P<joint>T|,? [a-zà]{1,3}\.? |[ ,;:|/_-]{0,3})"


def is_plausible(time: int, now: float) -> bool:
    """Whether a time (microseconds) is one of 2000 to a day ahead of `now` (seconds)."""
    return PLAUSIBLE_TIMES.start <= time <= now * 10**6 + DAY


def fitting_forms(values: Sequence[Value | None], zone: ZoneInfo, now: float) -> list[TimeForm]:
    """The forms that read most values, nine of ten at least, as plausible times; patterns, where there are none.

    Of several patterns the first is the one by which the times are nearest to each other, and to now.
    """
    known = [value for value in values if value is not None]
    forms = [TimeForm(name, zone) for name in ("auto", *NUMBER_FORMATS)]
    for value in known[:: max(1, len(known) // 4)]:
        forms += forms_of(plain_text(value), zone)
    found = {form: times_read(known, form) for form in dict.fromkeys(forms)}
    soon, latest = now * 10**6 + DAY, PLAUSIBLE_TIMES.stop
    # Numbers that are too small for the years since 2004 are days, or the digits of one.
    first = {"apple": NUMBER_FORMATS["apple"][1] + 10**14}
    likely = {form: (first.get(form.name, PLAUSIBLE_TIMES.start), soon) for form in found}
    # Else texts that are dates in any case; of a year's two digits none is ahead.
    told = {form: (1 - latest, soon if "%y" in form.name else latest) for form in found if "%" in form.name}
    if not any(EPOCH_TEXT.fullmatch(plain_text(value)) for value in known):
        told |= {AUTO._replace(zone=zone): (1 - latest, latest)}
    for spans in (likely, told):
        some = {form: [time for time in found[form] if low <= time <= high] for form, (low, high) in spans.items()}
        most = max(1, *map(len, some.values()), 9 * len(known) / 10)
        if best := [form for form, times in some.items() if len(times) >= most]:
            best = [form for form in best if form.name == "auto"] or best
            return sorted(best, key=lambda form: (max(some[form]) - min(some[form]), -max(some[form])))
    return []


def times_read(values: Sequence[Value], form: TimeForm) -> list[int]:
    """The times of those values that a form reads, and would write so: strptime takes a digit for two of them."""
    times = list[int]()
    is_joined = re.search("%[YymdjHIMSf]%[YymdjHIMSf]", form.name)  # fields without a sign between them
    for value in values:
        with contextlib.suppress(ValueError, OverflowError):
            if is_joined:
                pattern_microseconds(plain_text(value), form.name, form.zone, is_exact=True)
            times.append(to_microseconds(value, form))
    return times


def forms_of(text: str, zone: ZoneInfo) -> Iterator[TimeForm]:
    """The patterns that may have written a text, each with the zone, or the zones that a word of it may mean."""
    framed = FRAME.fullmatch(text) if len(text) < 100 and not {"%", "\n"} & {*text} else None
    if framed is None:
        return
    before, weekday, is_long, gap, core, after = framed.groups()
    before += ("%A" if is_long else "%a") + gap if weekday else gap
    for pattern, word in dict.fromkeys(patterns_of(core)):
        name, read = f"{before}{pattern}{after}", dict[int, TimeForm]()
        if word in ("", "UTC", "GMT", zone.key, *clock_names(zone)):
            yield TimeForm(name, zone)
            continue
        for each in zones_called(word):
            with contextlib.suppress(ValueError):
                read.setdefault(to_microseconds(text, TimeForm(name, each)), TimeForm(name, each))
        # A word that names no zone stays as it is.
        yield from read.values() or [TimeForm(name.replace("%Z", word), zone)]


def patterns_of(text: str) -> Iterator[tuple[str, str]]:
    """The patterns of a day, and maybe a clock behind or before it, that look like a text; and what may name a zone."""
    for halves, others in ((DAYS, ("", *CLOCKS)), (CLOCKS, DAYS), (YEARLESS, CLOCKS_AND_YEARS)):
        for half in halves:
            if begun := shape_of(half).match(text):
                for other in joinable(half, begun["joint"], others):
                    if (ended := shape_of(other).fullmatch(text, begun.end())) and not ended["joint"]:
                        word = {**begun.groupdict(), **ended.groupdict()}.get("zone", "")
                        yield f"{half}{begun['joint']}{other}", word


@functools.lru_cache(1000)
def joinable(half: str, joint: str, others: tuple[str, ...]) -> list[str]:
    """Those of the other halves that may follow one and what joins them."""
    return [other for other in others if may_join(half, joint, other)]


def may_join(half: str, joint: str, other: str) -> bool:
    """Whether two halves of a time may be joined so: some texts are more likely something else.

    What a colon joins may be the hours of a clock, two digits behind hours and minutes a part of the day, and a
    fraction has no end. Hours alone follow the digits of a day, and no digits a month.
    """
    is_short = "%S" not in half and ":" not in half and "%M" in half
    is_hour = other[:2] in ("%H", "%I") and "%M" not in other
    if half[:2] in ("%H", "%I") and "%M" not in half:
        return False
    if (other and (half, joint) == ("%Y%m", "")) or (is_hour and (half, joint) != ("%Y%m%d", "")):
        return False
    if (joint == ":" and "%S" not in other) or (not joint and half.endswith("%f")):
        return False
    return not (is_short and "%y" in other and joint in ("", "-", "_"))


@functools.cache
def shape_of(pattern: str) -> re.Pattern[str]:
    """What a pattern writes, and what may join it to more."""
    plain = re.escape(pattern).replace("\\ ", "\\s+")
    return re.compile(re.sub("%(.)", lambda field: FIELDS[field[1]], plain) + JOINT)


@functools.cache
def zones_called(name: str) -> list[ZoneInfo]:
    """The zones that are called so, or whose clocks are this year; first those that are called otherwise in summer."""
    keys = [key for key in sorted(available_timezones()) if "/" in key and not key.startswith("Etc/")]
    found = [zone for zone in map(ZoneInfo, keys) if name in (zone.key, *clock_names(zone))]
    areas = collections.Counter(zone.key.partition("/")[0] for zone in found)
    return sorted(found, key=lambda zone: (-len(clock_names(zone)), -areas[zone.key.partition("/")[0]]))


# === Source ===========================================================================================
#
# The producer's file, read through ADBC alone: a second copy of SQLite in this process would drop the
# first one's POSIX locks (sqlite.org/howtocorrupt.html, 2.2.1). Each query is one short transaction,
# finished before its rows are sent, so the producer's WAL can always be checkpointed.

HIGHEST_ROWID = 2**63 - 1  # behind it SQLite chooses rowids at random (sqlite.org/autoinc.html)
READERS = 2  # pages are read side by side, each through a connection of its own
PARTS = 4  # are read by these in turn, together as many rows as two pages: of two, the first to end would be idle
SAMPLE_ROWS, SAMPLE_BYTES = 1000, 32 << 20  # tell what a column holds where nothing else does, whichever is less
SMALL_FILE_BYTES = 64 << 20  # no page of a smaller file can be large
PAGE_BYTES, PAGE_ROWS = 4 << 20, 10_000  # of a page in memory, the most; small ones keep the memory flat


def quoted(name: str) -> str:
    """An SQLite identifier. Columns also need a table alias, or a wrong name becomes a string."""
    return '"' + name.replace('"', '""') + '"'


def cell(column: str) -> str:
    """A column of `q`, compared byte by byte: its own collation may be one that only its producer's program has."""
    return f"q.{quoted(column)} COLLATE BINARY"


def any_of(conditions: Iterable[str]) -> str:
    """Whether one of some conditions in SQL is true; in groups, since SQLite limits the nesting of expressions."""
    terms = [f"({condition})" for condition in conditions]
    groups = [f"({' OR '.join(terms[i : i + 50])})" for i in range(0, len(terms), 50)]
    return " OR ".join(groups) or "0"


# What is no word of SQLite's in a statement: comments, texts and names in quotes.
QUOTED_SQL = re.compile(r"--[^\n]*|/\*.*?(?:\*/|$)|'[^']*'|\"[^\"]*\"|`[^`]*`|\[[^]]*\]", re.DOTALL)


def text_literal(value: str) -> str:
    """A text without NULs in SQL."""
    return "'" + value.replace("'", "''") + "'"


def default_in_sql(written: str) -> str:
    """A column's default as an expression: SQLite takes a word, bare or quoted as names are, for a text (parse.y)."""
    is_word = re.fullmatch(r"[^\W\d][\w$]*|\[.*\]|(?:`[^`]*`)+|(?:\"[^\"]*\")+", written, re.DOTALL)
    if not is_word or re.fullmatch("(?i)null|true|false|current_(time|date|timestamp)", written):
        return written
    mark = written[-1]
    return text_literal(written[1:-1].replace(2 * mark, mark) if mark in ']`"' else written)


def real_file(file: Path) -> Path:
    """The file that a path leads to now. Side files lie beside that one, since SQLite follows links (os_unix.c)."""
    with source_files(file), contextlib.suppress(FileNotFoundError):
        return Path(os.path.realpath(file, strict=True))
    real = os.path.realpath(file)
    wanted = os.path.abspath(file)
    fault = f"{wanted} does not exist" if real == wanted else f"{wanted} leads to {real}: no such file"
    raise SourceError(fault, "Check sqlite; mount the directory that holds the file, and where a link leads.")


def side_files(file: Path) -> list[Path]:
    """The WAL, shared-memory and rollback-journal files of a database."""
    return [file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal")]


NO_DATABASE = "Check sqlite. An encrypted one (SQLCipher, SEE) has to be copied to a plain one by its producer."
CHECK = "Run `sqlite3 FILE 'PRAGMA integrity_check'`."


def is_wal_mode(file: Path) -> bool:
    """Whether a database uses a WAL, by its header (sqlite.org/fileformat2.html, 1.3).

    A `SourceError` for what is no database, a `CorruptError` for a file that is cut off: SQLite takes what is missing
    for zeros. The header counts the pages, where its two counts of changes agree. It may be ahead while side files hold
    a part, and without a journal on disk for some milliseconds: then a file is looked at anew.
    """
    for _ in range(20):
        with source_files(file):
            refuse_pipe(file)
            with file.open("rb") as opened:
                header = opened.read(100)
            is_split = any(side.st_size for side in stats_of(side_files(file)[::2]))
            size = file.stat().st_size
        if not header:  # Its producer may turn it to a WAL just then.
            raise SourceError(f"{file} is empty: the database has no table yet", "Start the producer, or check sqlite.")
        if not header.startswith(b"SQLite format 3\0"):
            raise SourceError(f"{file} is not a SQLite database", NO_DATABASE)
        page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
        missing = pages * (page if page > 1 else 1 << 16) - size
        if is_split or missing <= 0 or header[24:28] != header[92:96]:
            return header[18:19] == b"\x02"
        time.sleep(0.05)
    fault = f"{file} is cut off: {missing} bytes of the pages that its header counts are missing"
    raise CorruptError(fault, "If it is being copied, the next cycle reads it. Else run `sqlite3 FILE .recover`.")


def mount_points(listed: Path = Path("/proc/self/mountinfo")) -> dict[str, str]:
    """Linux' mount points, each with the type of its file system (proc_pid_mountinfo(5)); empty elsewhere."""
    try:
        lines = listed.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    # ID, parent, device, root, mount point, options, any more fields, "-", type; a space in a name is \040.
    found = re.findall(r"^(?:\S+ ){4}(\S+) .*? - (\S+)", lines, re.MULTILINE)
    return {re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), name): system for name, system in found}


@contextlib.contextmanager
def source_files(file: Path) -> Iterator[None]:
    """Errors of a file that its producer takes away, as one does at each start; of a full disk."""
    try:
        yield
    except FileNotFoundError:
        raise TransientError(f"{file} was taken away meanwhile", "The next cycle reads the new one.") from None
    except OSError as error:
        hint = "Check sqlite, the file's rights, and the disk's space."
        raise SourceError(f"{file} can't be read: {error.strerror}", hint) from None


def stats_of(files: Iterable[Path]) -> list[os.stat_result]:
    """What is known of those that are there; side files come and go."""
    found = []
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            found.append(file.stat())
    return found


def mark_of(stat: os.stat_result) -> tuple[int, int, int]:
    """What changes where a file is written or another one takes its place."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def fingerprint(file: Path) -> tuple[int, ...]:
    """What changes when a producer writes: the file's identity, size and time, and its WAL's size and time."""
    with source_files(file):
        seen = [file.stat(), *stats_of(side_files(file)[:1])]
    return tuple(itertools.chain.from_iterable(map(mark_of, seen)))


def untouched(file: Path) -> tuple[int, ...] | None:
    """The fingerprint of a database that nobody wrote in the last seconds; None of another, or where there is none."""
    with contextlib.suppress(UploaderError):
        seen = fingerprint(real_file(file))
        # File systems tell times by up to two seconds (vfat), and a commit may be seen later than its bytes.
        if all(time.time_ns() - changed > 3 * 10**9 for changed in seen[2::3]):
            return seen
    return None


def wal_bytes(file: Path) -> int:
    """The size of a database's WAL; 0 where it has none."""
    with source_files(file):
        return sum(wal.st_size for wal in stats_of(side_files(file)[:1]))


def ours(file: Path) -> list[Path]:
    """The side files of a database that belong to our user, and that neither its group nor everybody may write."""
    found = []
    with contextlib.suppress(OSError):
        group = file.stat().st_gid
        for side in side_files(file):
            for stat in stats_of([side]):
                is_shared = stat.st_mode & 0o002 or (stat.st_mode & 0o020 and stat.st_gid == group)
                found += [side] if stat.st_uid == os.geteuid() and not is_shared else []
    return found


# The options of SQLite's URIs (sqlite.org/uri.html): read as it is, taken for unchanging, a copy of our own.
SHARED, UNCHANGING, COPIED = "mode=ro", "mode=ro&immutable=1", "mode=rw"


def is_fresh(file: Path) -> bool:
    """Whether a file was written in the last 10 milliseconds: by Linux' ticks its time may not tell what comes next."""
    with source_files(file):
        return 0 <= time.time_ns() - file.stat().st_mtime_ns < 10**7


def way_to_open(file: Path, wal_mode: bool) -> str:
    """How `file`, a path without links, is opened without writing beside it.

    Side files that are missing SQLite would make under our user, and the producer could not write them. One that opens
    its database for each row and closes it again is waited for: while the file is open the side files stay.
    """
    wal, shm, _ = side_files(file)
    if wal_mode and str(file) in mount_points():
        fault = f"{file} is mounted alone: its WAL is out of sight and its rows would be stale"
        raise SourceError(fault, "Mount the directory that holds the database.")
    has_rows = False
    for _ in range(10):
        if not wal_mode or (wal.exists() and shm.exists()):
            return SHARED
        # Its header alone, or a part of it, is no row (fileformat2.html, 4.1). One look may be amid a closing.
        had_rows, has_rows = has_rows, wal_bytes(file) > 32
        if has_rows and had_rows:
            return COPIED
        if not has_rows and not is_fresh(file):
            break
        time.sleep(0.002)
    with source_files(file):
        if (names := file.stat().st_nlink) > 1:
            fault = f"{file} has {names} names (hard links): a WAL with rows may lie beside another one"
            raise SourceError(fault, "Set sqlite to the name that the producer uses, or remove the others.")
    return UNCHANGING


def wal_generation(file: Path) -> tuple[int, int, bytes]:
    """Which database and which WAL these are. The WAL's header changes when it is begun anew, and then alone."""
    wal = side_files(file)[0]
    with wal.open("rb") as opened:
        return file.stat().st_ino, os.fstat(opened.fileno()).st_ino, opened.read(32)


def copy_file(file: Path, copy: Path) -> None:
    """Make `copy` equal to a file by writing what differs; nothing where the file system can share blocks."""
    share = 0x40049409  # FICLONE, see ioctl_ficlone(2)
    with file.open("rb") as old, os.fdopen(os.open(copy, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as new:
        size, free = os.fstat(old.fileno()).st_size, shutil.disk_usage(copy.parent).free
        with contextlib.suppress(OSError):
            fcntl.ioctl(new.fileno(), share, old.fileno())
            new.truncate(size)
            return
        if size > free + os.fstat(new.fileno()).st_size:
            fault = f"{file} has to be copied: {size >> 20} MiB, but {copy.parent.parent} has {free >> 20} MiB left"
            hint = "Free the disk. PRAGMA locking_mode = NORMAL in the producer makes copies needless."
            raise SourceError(fault, hint)
        while part := old.read(1 << 20):
            place = new.tell()
            if new.read(len(part)) != part:
                new.seek(place)
                new.write(part)
        new.truncate()


def sqlite_driver() -> str:
    """The driver's library, beside its package; importlib.resources would take a tenth of a run with nothing new."""
    package = importlib.util.find_spec("adbc_driver_sqlite")
    library = Path(package.origin or "").with_name("libadbc_driver_sqlite.so") if package else Path()
    if not library.is_file():
        raise SourceError("the package adbc-driver-sqlite is not complete", "Install it again.")
    return str(library)


class BusyError(TransientError):
    """Another process keeps the database locked.

    The next cycle tries again. If it stays: does a producer hold a transaction for long, or use `PRAGMA locking_mode =
    EXCLUSIVE` without a WAL? PRAGMA locking_mode = NORMAL lets others in.
    """


class UnrecoveredError(TransientError):
    """The database waits for its producer: a journal is left, or it is just being opened or closed.

    The next cycle tries again. If it stays, a producer crashed; let it open its database once, which mends it.
    """


class MemoryShortError(TransientError):
    """Rows are too large for the memory that is left: they are read in smaller parts.

    If it stays: a single row has to fit into the memory of this process several times.
    """


class ForeignError(SourceError):
    """What is read needs a collation, function or module that only the program of its producer has.

    Leave it out of the view (`name COLLATE BINARY` for a collation), or set `sqlite_table_name` to a table that does
    without. Tables with rowids can be read whatever their collations; let a producer copy others to one.
    """


class UncomputableError(SourceError):
    """What a view or a generated column makes of a row fails, as where a text is no JSON.

    A generated column is left out by a run: what it is made of arrives. Let a view look first, as by
    iif(json_valid(x), json_extract(x, '$.a'), NULL).
    """


class CorruptError(SourceError):
    """A page of the file is damaged.

    The rows before it were delivered. `sqlite3 FILE 'PRAGMA integrity_check'` tells more; `sqlite3 FILE .recover` saves
    what can be saved.
    """

    good: int | None = None  # Rows up to this rowid can be read, where that is known.


# What SQLite's messages say, since the driver gives no error code: what each is, and what to do, if not as the error's
# description says. The first that fits.
SQLITE_ERRORS: tuple[tuple[str, type[UploaderError], str, str], ...] = (
    ("locked|busy", BusyError, "the database is locked by another process", ""),
    # The driver tells any file that SQLite does not open as a lack of memory.
    ("unable to open|failed to open", SourceError, "the database can't be opened",
     "Check the rights of the file, of the -wal and -shm files beside it, and of their directory; how many files"
     " a process may have open; and the path, which may have 512 bytes."),
    ("allocate memory|out of memory", MemoryShortError, "rows are too large for this machine's memory: {}", ""),
    ("readonly", UnrecoveredError, "the database waits for its producer: {}", ""),
    ("no such (collation sequence|function|module)|unknown function|unsafe use of|no query solution", ForeignError,
     "{}: only the program of its producer has it", ""),
    ("not a database|unsupported file format", SourceError, "what SQLite knows of the file's header is not there: {}",
     NO_DATABASE),
    ("image is malformed", CorruptError, "the database is damaged: {}", CHECK),
    ("disk I/O", CorruptError, "the database can't be read: {}",
     f"Is a disk full, the database's or state_dir's? Else: {CHECK}"),
    # Columns of a table have a `q` before them, and its name no `main`: these are what a view's own text names.
    (r"no such table: main\.|no such column: (?!q\.)|circularly defined|ambiguous column|expected \d+ columns for",
     SourceError, "the view can't be read: {}",
     "What it is made of was renamed or dropped, or is meant twice: let its producer make it anew."),
    # Of a table that was described just now; SQLite prepares a query again where the schema changed since.
    (r"step query: no such table|no such column: q\.", TransientError,
     "the database was altered while it was read: {}", "The next cycle goes on."),
    ("step query: (?!out of memory|database or disk is full|interrupted)", UncomputableError,
     "a value can't be computed: {}", ""),
    ("", SourceError, "{}", "Check sqlite, sqlite_table_name and timestamp_col."),
)  # fmt: skip


def source_error(message: str) -> UploaderError:
    """What SQLite says, as an error of ours; one without a hint of its own has the last part of its description."""
    said = message.split("\nquery:")[0].split("] ", 1)[-1]
    _, kind, fault, hint = next(known for known in SQLITE_ERRORS if re.search(known[0], said))
    return kind(fault.format(said), hint or " ".join((kind.__doc__ or "").split("\n\n")[-1].split()))


def out_of_order(table: str, rowid: int) -> CorruptError:
    """The error for rows that are not where their rowids belong, as on a page that was half written."""
    error = CorruptError(f"the database is damaged: rows of {table} are out of order from rowid {rowid} on", CHECK)
    error.good = rowid - 1
    return error


def is_utf8(column: ArrowColumn) -> bool:
    """Whether a text column holds valid UTF-8 alone; Arrow's cast turns the rest into NULL."""
    return bool(column.cast(arrow_type("binary")).cast(arrow_type("string")).null_count == column.null_count)


def answer_of(connection: Any, sql: str, batch_rows: int = 1024) -> ArrowTable:
    """An Arrow table of all rows; ADBC takes each column's type from the first `batch_rows`."""
    import adbc_driver_manager
    from arro3.core import Table

    try:
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_options(**{"adbc.sqlite.query.batch_rows": str(batch_rows)})
            statement.set_sql_query(sql)
            return Table.from_arrow(statement.execute_query()[0])
    except (adbc_driver_manager.Error, OSError, ValueError) as error:
        raise source_error(str(error)) from None


@contextlib.contextmanager
def side_files_kept(file: Path, wal_mode: bool, busy_seconds: float) -> Iterator[BinaryIO]:
    """The file, opened; of a WAL database the side files stay there meanwhile, as while any connection is open.

    The producer's last connection takes them away once it alone has the file (sqlite3WalClose), and SQLite would make
    them anew, under our user. A lock on the bytes of os_unix.c's SHARED_FIRST lets it not be alone. To be left after
    connections are closed: closing a file drops all locks that a process has on it.
    """
    end = time.monotonic() + busy_seconds
    with source_files(file), file.open("rb") as opened:
        while wal_mode:
            try:
                fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB, 510, 0x40000002)
                break
            except (BlockingIOError, PermissionError):
                if not side_files(file)[1].exists():  # Its producer has it for itself, or has just gone.
                    break
                if time.monotonic() > end:
                    raise source_error("database is locked") from None
                time.sleep(0.002)
            except OSError:  # as of a file system without locks
                break
        yield opened


COPIES: list[str] = []  # the private one that there is; it goes with the process, also where that ends at once


class Connections:
    """The producer's file, open for one cycle; where the producer comes or goes, it is opened anew as is right then.

    Threads take turns on `READERS` connections; the end waits for those that read.
    """

    TRIES = 20  # of one query

    def __init__(self, file: Path, scratch: Path, busy_seconds: float = 5.0) -> None:
        self.file = file
        self.scratch = scratch
        self.busy_seconds = busy_seconds
        self._stack = contextlib.ExitStack()
        # Connections that are free, or one None where they are closed; whoever opens anew has the turn.
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._turn = threading.Lock()
        self._openings = 0
        self._inode = 0
        self._way, self._opened = "", cast(BinaryIO, None)
        # The file's fingerprint where it was opened as unchanging; our side files that were there before.
        self._unchanging: tuple[int, ...] | None = None
        self._before: Sequence[Path] = ()
        self.wal_mode = False
        self.copied_bytes = 0

    def __enter__(self) -> Self:
        # SQLite sorts into files; with a read-only root there is no other place (sqlite.org/tempfiles.html, 5).
        os.environ.setdefault("SQLITE_TMPDIR", str(self.scratch))
        self.file = real_file(self.file)
        self._inode = fingerprint(self.file)[0]
        self._open()
        return self

    def _open(self) -> None:
        """Make the connections in the way that is right now, and again where the producer comes or goes just then."""
        for tries in range(1, self.TRIES + 1):
            self.wal_mode = is_wal_mode(self.file)
            try:
                return self._open_so()
            except UploaderError as error:
                is_passing = isinstance(error, UnrecoveredError) or self._is_stale()
                if tries == self.TRIES or not (is_passing or way_to_open(self.file, self.wal_mode) != self._way):
                    raise
            time.sleep(0.01)

    def _open_so(self) -> None:
        with contextlib.ExitStack() as unfinished:
            unfinished.callback(self._close)
            self._before = ours(self.file)
            try:
                kept = side_files_kept(self.file, self.wal_mode, self.busy_seconds)
                self._opened = self._stack.enter_context(kept)
                self._way = way_to_open(self.file, self.wal_mode)
                connections = self._connected()
            except BusyError:
                if not self.wal_mode:
                    raise
                self._close()  # A copy is made with no connection open: closing the file would drop its locks.
                self._way = COPIED
                connections = self._connected()
            unfinished.pop_all()
        self._openings += 1
        for connection in connections:
            self._free.put(connection)

    def _open_again(self, openings: int) -> None:
        """Open the file anew once nobody reads, unless another thread did since so many openings."""
        with self._turn, contextlib.ExitStack() as failed:
            if self._openings == openings:
                failed.callback(self._free.put, None)
                if self._end():
                    self._open()
                    failed.pop_all()

    def _connected(self) -> list[Any]:
        """The connections; each has touched the file then."""
        import adbc_driver_manager

        file = self._private_copy() if self._way == COPIED else self.file
        self._unchanging = fingerprint(self.file) if self._way == UNCHANGING else None
        if self._unchanging and is_fresh(self.file):
            raise UnrecoveredError("the database waits for its producer, which closed it just now")
        # Percent-encoded, since `?` or `%` in the path would open another file.
        uri, enter = f"file:{quote(os.fsencode(file))}?{self._way}", self._stack.enter_context
        try:
            database = enter(adbc_driver_manager.AdbcDatabase(driver=sqlite_driver(), uri=uri))
            connections = [enter(adbc_driver_manager.AdbcConnection(database)) for _ in range(READERS)]
        except adbc_driver_manager.Error as error:
            self._refuse_another()  # It may have gone just now.
            raise source_error(str(error)) from None
        pragmas = [f"busy_timeout = {int(self.busy_seconds * 1000)}", "trusted_schema = 0", "cell_size_check = 1"]
        pragmas += ["synchronous = 0"] if self._way == COPIED else []
        for connection, pragma in itertools.product(connections, pragmas):
            answer_of(connection, f"PRAGMA {pragma}")
        self._refuse_another()  # Else one may have the old file, and one the new.
        for connection in connections:  # Each opens the side files here, and would make those of another file.
            self._answer(connection, "PRAGMA schema_version")
        self._refuse_another()
        return connections

    def _answer(self, connection: Any, *query: Any) -> ArrowTable:
        """What `answer_of` answers, unless the producer turned to a WAL since: SQLite would make its side files."""
        if self._way == SHARED and (os.pread(self._opened.fileno(), 1, 18) == b"\x02") != self.wal_mode:
            raise UnrecoveredError("the database waits for its producer, which changed its journal mode just now")
        return answer_of(connection, *query)

    def _refuse_another(self) -> None:
        """A `TransientError` where another file has taken the place of the one that was opened."""
        if fingerprint(self.file)[0] != self._inode:
            raise TransientError(f"{self.file} was replaced meanwhile", "The next cycle reads the new one.")

    def _made(self) -> list[Path]:
        """Side files that SQLite made under our user since the opening, and that the producer could not write.

        So where it closed its database between our look and our opening, or turned to a WAL since.
        """
        with contextlib.suppress(OSError, UploaderError):
            if self.file.stat().st_uid not in (0, os.geteuid()) and not wal_bytes(self.file):
                return [file for file in ours(self.file) if file not in self._before]
        return []

    def table(self, sql: str, batch_rows: int = 1024) -> ArrowTable:
        """An Arrow table of all rows, as `answer_of` has it."""
        for _ in range(self.TRIES):
            with self._lent() as connection:
                openings = self._openings  # It stays while a connection is lent.
                try:
                    table = self._answer(connection, sql, batch_rows)
                except UploaderError as error:
                    self._refuse_another()
                    if not (isinstance(error, UnrecoveredError) or self._is_stale()):
                        raise
                else:
                    if not self._is_stale():
                        return table
            self._open_again(openings)
        hint = "The next cycle reads it anew. One that leaves it open lets others read."
        raise TransientError("the producer opened or closed its database each time while it was read", hint)

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Any]:
        """A connection that nobody else uses meanwhile."""
        connection = self._free.get()
        try:
            if connection is None:
                raise SourceError("the database was closed while it was read")
            yield connection
        finally:
            self._free.put(connection)

    def _is_stale(self) -> bool:
        """Whether the producer came or went since the file was opened: what was read may be of no one moment."""
        return bool(self._unchanging and self._unchanging != fingerprint(self.file)) or bool(self._made())

    def __exit__(self, *reason: object) -> None:
        with self._turn:
            self._end()
            self._free.put(None)

    def _end(self) -> bool:
        """Close the connections, once those that read have done so; false where they were closed before."""
        if self._free.get() is None:
            return False
        for _ in range(1, READERS):
            self._free.get()
        self._close()
        return True

    def _close(self) -> None:
        self._stack.close()
        for file in self._made():
            file.unlink(missing_ok=True)

    def _private_copy(self) -> Path:
        """A copy of the database and then of its WAL, which the producer may go on writing meanwhile.

        While the WAL's header stays, what was half written in the copy is in the WAL (fileformat2.html, 4.1 to 4.4;
        docs/delivery-evidence.md); of that what is half written fails its checksums and is not read.
        """
        with source_files(self.file), contextlib.ExitStack() as unfinished:
            directory = unfinished.enter_context(tempfile.TemporaryDirectory(prefix="copy-", dir=self.scratch))
            COPIES[:] = [directory]
            copy = Path(directory) / "copy.db"
            files = dict(zip([self.file, *side_files(self.file)[:1]], [copy, *side_files(copy)[:1]], strict=True))
            for _ in range(8):  # All but the first write only what changed.
                before = wal_generation(self.file)
                for file, copied in files.items():
                    copy_file(file, copied)
                if len(before[-1]) == 32 and wal_generation(self.file) == before:
                    self.copied_bytes = sum(copied.stat().st_size for copied in files.values())
                    self._stack.push(unfinished.pop_all())
                    return copy
        hint = "The next cycle tries again. PRAGMA locking_mode = NORMAL in the producer makes copies needless."
        raise TransientError("the producer began its WAL anew each time while its database was copied", hint)


class Database(Connections):
    """The producer's file, and what SQLite says of it."""

    # Whether generated columns have to be right for all rows: one was not.
    is_thorough = False
    _looked = -math.inf

    def size(self) -> int:
        """The bytes of the file and of its WAL."""
        with source_files(self.file):
            return self.file.stat().st_size + wal_bytes(self.file)

    @functools.cached_property
    def birth(self) -> str:
        """Which file this is: its inode, whose number may be given to the next one, and its birth (statx(2))."""
        import ctypes

        with source_files(self.file):
            found = self.file.stat()
        if born := getattr(found, "st_birthtime", None):
            return f"{found.st_ino} {born}"
        library, answer = ctypes.CDLL(None), ctypes.create_string_buffer(256)
        at_here, asked = -100, 0x800  # AT_FDCWD, STATX_BTIME
        if not hasattr(library, "statx") or library.statx(at_here, os.fsencode(self.file), 0, asked, answer):
            return str(found.st_ino)
        mask, seconds, nanoseconds = struct.unpack_from("=I76xqI", answer)
        return f"{found.st_ino} {seconds}.{nanoseconds:09}" if mask & asked else str(found.st_ino)

    @functools.cached_property
    def version(self) -> int:
        """SQLite's count of changes of the schema, when it was last looked at; VACUUM counts too."""
        return int(self.rows("PRAGMA schema_version")[0][0])

    def look_again(self) -> None:
        """Forget what is known of tables that have changed since, as they may in a long cycle; a second is short."""
        if time.monotonic() - self._looked < 1:
            return
        before, self._looked = self.__dict__.pop("version", None), time.monotonic()
        if self.version != before:
            for known in ("kinds", "autoincrement", "has_united"):
                self.__dict__.pop(known, None)

    @functools.cached_property
    def kinds(self) -> dict[str, str]:
        """The tables and views of the file, in order of name, each with SQLite's word for its kind."""
        sql = """SELECT name, type || iif(wr AND type = 'table', ' without rowid', '') FROM pragma_table_list
                 WHERE schema = 'main' AND name NOT LIKE 'sqlite^_%' ESCAPE '^' ORDER BY name"""
        return dict(self.rows(sql))

    @functools.cached_property
    def encoding(self) -> str:
        """How text is stored."""
        return str(self.rows("PRAGMA encoding")[0][0])

    @functools.cached_property
    def autoincrement(self) -> set[str]:
        """The tables whose rowids are given once only."""
        created = self.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'")
        return {name for name, sql in created if re.search(r"(?i)\bAUTOINCREMENT\b", QUOTED_SQL.sub(" ", sql))}

    @functools.cached_property
    def has_united(self) -> bool:
        """Whether a view puts rows of several SELECTs together, whose columns may have different affinities."""
        made = self.rows("SELECT sql FROM sqlite_schema WHERE type = 'view'")
        return any(re.search(r"(?i)\b(UNION|EXCEPT|INTERSECT)\b", sql) for (sql,) in made)

    def columns_of(self, name: str) -> list[tuple[Any, ...]]:
        """A table's columns, no hidden ones: name, declared type, place in the primary key, default, 2 if generated."""
        shown = "name, coalesce(type, ''), pk, coalesce(dflt_value, 'NULL'), hidden"
        return self.rows(f"SELECT {shown} FROM pragma_table_xinfo({text_literal(name)}) WHERE hidden <> 1")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a small query. Each column must hold one type."""
        columns = self.table(sql).columns
        if any(column.type == arrow_type("string") and not is_utf8(column) for column in columns):
            raise CorruptError("a name in the database is no valid text", "Run `PRAGMA integrity_check` on it.")
        return list(zip(*(column.to_pylist() for column in columns), strict=True))


def detect_table(database: Database, wanted: str | None) -> str:
    """The table or view to read: the one that is set, else the only table, else the only view."""
    found = {name: kind for name, kind in database.kinds.items() if kind != "shadow"}
    tables = [name for name, kind in found.items() if kind != "view"]
    candidates = tables_named(wanted, found) if wanted is not None else tables or list(found)
    if len(candidates) > 1:
        seen = "".join(f"\n    {name}: {content_of(database, name)}" for name in candidates)
        fault = f"several tables: {', '.join(candidates)}{seen}"
        raise ConfigError(fault, "Set sqlite_table_name to one of them, or tables: '*' for all.")
    if candidates:
        return str(candidates[0])
    if found:
        hint = "Several go into tables. " if "," in (wanted or "") else ""
        raise MissingTableError(f"the database has no table {wanted!r}", hint + nearest(wanted or "", found))
    which = f"table {wanted!r}" if wanted else "table"
    raise SourceError(f"the database has no {which} yet", "Start the producer, or check sqlite.")


def tables_named(wanted: str, kinds: Mapping[str, str]) -> list[str]:
    """The table of a name in any case; two names may differ by the case of a letter that is not of ASCII."""
    found = [name for name, kind in kinds.items() if name.lower() == wanted.lower() and kind != "shadow"]
    return [wanted] if wanted in found else found


def content_of(database: Database, name: str, private: frozenset[str] = frozenset()) -> str:
    """How much is in a table, and its newest time, for people; not that of a `private` column."""
    try:
        [(count,)] = database.rows(f"SELECT count(*) FROM {quoted(name)}")
        newest = newest_of(Reader(database, describe(database, name, None)._replace(private=private)), AUTO)
    except SourceError as error:
        return str(error)
    return f"{count:,} row{'s' if count != 1 else ''}" + (f", newest {newest}" if newest else "")


def newest_of(reader: Reader, form: TimeForm) -> str | None:
    """The highest value in the time column, for people; None where it is private, or values don't sort as times do."""
    if reader.table.time is None or reader.table.time in reader.table.private or "%" in form.name:
        return None
    [(newest,)] = reader.select(f"CAST(max({cell(reader.table.time)}) AS TEXT)")
    with contextlib.suppress(ValueError):
        if newest and not iso_moment(newest):
            return moment_of(to_microseconds(newest, form)).isoformat(timespec="seconds")
    return newest or None


TIME_NAMES = ("timestamp", "event_timestamp", "created_at", "measurementtime", "time", "datetime", "date", "ts")
TIME_PARTS = re.compile("time|date|_at|_ts", re.IGNORECASE)


def time_columns(database: Database, table: str, columns: Mapping[str, str], form: TimeForm) -> list[str]:
    """The columns that may be a table's time column; one alone is it."""
    by_name = {re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): name for name in columns}  # createdAt, too
    by_name |= {name.lower(): name for name in columns}
    for name in TIME_NAMES:
        if name in by_name and may_tell(database, table, by_name[name], form):
            return [by_name[name]]
    declared = [n for n, word in columns.items() if base_of(word).strip().upper() in ("DATE", "DATETIME", "TIMESTAMP")]
    declared = [name for name in declared if may_tell(database, table, name, form)]
    if len(declared) == 1:
        return declared
    named = [name for name in columns if TIME_PARTS.search(name) and holds_times(database, table, name, form)]
    return named if len(named) == 1 else list(dict.fromkeys([*declared, *named]))


# A time of day, as a column beside one with the day has it.
TIME_OF_DAY = re.compile(r"(?i)\s*T?\d?\d:\d\d(:\d\d([.,:]\d+)?)?\s*([ap]\.?m\.?)?\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)?\s*")


def may_tell(database: Database, table: str, column: str, form: TimeForm) -> bool:
    """Whether the first rows have more in a column than NULL and times of day, or there are none."""
    if not (known := first_values(database, table, column)):
        return not has_rows(database, table)
    with contextlib.suppress(ValueError):
        if form.name != "auto":
            return bool([to_microseconds(value, form) for value in known])
    return not all(isinstance(value, str) and TIME_OF_DAY.fullmatch(value) for value in known)


def has_rows(database: Database, table: str) -> bool:
    """Whether a table has rows; damaged ones count."""
    with contextlib.suppress(CorruptError):
        return bool(database.rows(f"SELECT 1 FROM {quoted(table)} LIMIT 1"))
    return True


def holds_times(database: Database, table: str, column: str, form: TimeForm) -> bool:
    """Whether the first rows have times in a column, and nothing else, that something was measured at."""
    known = first_values(database, table, column)
    with contextlib.suppress(ValueError):
        return bool(known) and all(is_plausible(to_microseconds(value, form), time.time()) for value in known)
    return False


def first_values(database: Database, table: str, column: str) -> list[Value]:
    """A column's values in the first rows but NULL; of a damaged table, in as many as can be read."""
    alone = Table(table, {column: ""}, None, None, None, False, database.encoding)
    return [value for value in Reader(database, alone).sample().columns[column].values() if value is not None]


class Table(NamedTuple):
    """What SQLite says of a table or view. `columns` maps names to declared types.

    `time` is None where no column tells it, or several may: the `doubtful` ones. `rowid` is a name to read the rowid
    by, None where there is none, `key` the INTEGER PRIMARY KEY, which VACUUM leaves alone. `uncomputable` are generated
    columns that are not among `columns`, each with the reason; of `private` ones no digest is kept or sent.
    """

    name: str
    columns: dict[str, str]
    time: str | None
    rowid: str | None
    key: str | None
    autoincrement: bool
    encoding: str
    uncomputable: Mapping[str, str] = {}
    doubtful: tuple[str, ...] = ()
    private: frozenset[str] = frozenset()

    @property
    def telling(self) -> dict[str, str]:
        """The columns that rows are known again by. Time and key tell where a cursor stands, hidden or not."""
        open_ones = {*self.columns} - self.private | {self.time, self.key}
        return {name: kind for name, kind in self.columns.items() if name in open_ones} or self.columns

    @property
    def required_time(self) -> str:
        """The time column, for what can't do without one."""
        if self.time is None:
            doubtful, columns = ", ".join(self.doubtful), ", ".join(self.columns)
            which = f"{doubtful} may be it" if doubtful else f"its columns: {columns}"
            hint = "Set timestamp_col to the one that tells the time."
            hint += "" if self.rowid else " Without any time it can't be sent: leave it out."
            raise ConfigError(f"{self.name} has no single time column; {which}", hint)
        return self.time


def describe(database: Database, name: str, time_column: str | None, form: TimeForm = AUTO) -> Table:
    """Look a table up; `time_column` is what the settings say of it."""
    infos = database.columns_of(name)
    uncomputable = uncomputable_columns(database, name, [column for column, *_, hidden in infos if hidden == 2])
    columns = {column: declared for column, declared, *_ in infos if column not in uncomputable}
    has_rowid = database.kinds[name] == "table"
    if database.kinds[name] == "table without rowid":
        refuse_disorder(database, name)
    primary = [(column, declared.upper()) for column, declared, pk, *_ in infos if pk]
    key = primary[0][0] if has_rowid and len(primary) == 1 and primary[0][1] == "INTEGER" else None
    free = [alias for alias in ("rowid", "_rowid_", "oid") if alias not in map(str.lower, columns)]
    rowid = (free[0] if free else key) if has_rowid else None
    is_counted = key is not None and name in database.autoincrement
    table = Table(name, columns, None, rowid, key, is_counted, database.encoding, uncomputable)
    return with_time(database, table, time_column, form)


def with_time(database: Database, table: Table, wanted: str | None, form: TimeForm) -> Table:
    """The table with the time column that the settings name or, where they don't, that there is, or what may be it."""
    columns, uncomputable = table.columns, table.uncomputable
    if wanted is None:
        times = time_columns(database, table.name, columns, form)
        wanted = next((name for name in uncomputable if name.lower() in TIME_NAMES and not times), None)
        if wanted is None:
            found = {"time": times[0]} if len(times) == 1 else {"doubtful": tuple(times)}
            return table._replace(**found)
    column = by_spelling([*columns, *uncomputable])(wanted)
    if reason := uncomputable.get(column or ""):
        raise ForeignError(f"the time column {column}: {reason}", "Set timestamp_col to another one, or to none.")
    if column is None and wanted.lower() != "none":
        raise ConfigError(f"{table.name} has no column {wanted!r}", nearest(wanted, columns))
    return table._replace(time=column)


def uncomputable_columns(database: Database, table: str, generated: Iterable[str]) -> dict[str, str]:
    """Of the columns that are computed when they are read, those that can't be, and why."""
    found, rows = {}, "" if database.is_thorough else "LIMIT 0"
    for column in generated:
        try:
            database.rows(f"SELECT count(value) FROM (SELECT {cell(column)} AS value FROM {quoted(table)} q {rows})")
        except (ForeignError, UncomputableError) as error:
            found[column] = str(error)
    return found


def refuse_disorder(database: Database, table: str) -> None:
    """A `ForeignError` where a table WITHOUT ROWID is kept in an order that SQLite can't tell here."""
    unknown = f"""SELECT c.name, c.coll FROM pragma_index_list({text_literal(table)}) l, pragma_index_xinfo(l.name) c
                  WHERE l.origin = 'pk' AND c.key AND upper(c.coll) NOT IN ('BINARY', 'NOCASE', 'RTRIM')"""
    for column, collation in database.rows(unknown):
        fault = f"{table} is kept in the order of {column}, whose collation {collation} only its producer's program has"
        raise ForeignError(fault, "Let the producer copy its rows to a table with rowids.")


# Types whose affinity keeps one class of values. What else may stand in such a column shows in the type that ADBC
# finds in all of its rows: that of blobs for one among text, integers for NULLs alone (statement_reader.c).
PLAIN = {"bigint": "integer", "double": "real", "string": "text"}


class RawPage(NamedTuple):
    """Some rows as SQLite holds them. `keys` are their rowids, or their contents or digests where there are none."""

    keys: Sequence[Any]
    columns: dict[str, RawColumn]
    nbytes: int

    def only(self, indexes: Sequence[int]) -> RawPage:
        """Some of the rows, in their order."""
        if len(indexes) == len(self.keys):
            return self
        columns = {name: column.only(indexes) for name, column in self.columns.items()}
        return RawPage([self.keys[index] for index in indexes], columns, self.nbytes)


# The first letter of what `typeof` says, as numbers take less time than words.
STORAGES = {ord(word[0]): word for word in ("integer", "real", "text", "blob", "null")}

# What is read of a column. Where its affinity promises one class: the values; where it promises nothing: also the class
# of each ("told"); once they were of several classes: values by class, text as its bytes ("mixed").
ASKED = {
    **{storage: ("{0}",) for storage in PLAIN.values()},
    "told": ("unicode(typeof({0}))", "{0}"),
    "mixed": (
        "unicode(typeof({0}))",
        "CASE typeof({0}) WHEN 'integer' THEN {0} END",
        "CASE typeof({0}) WHEN 'real' THEN {0} END",
        "CASE WHEN typeof({0}) IN ('text', 'blob') THEN CAST({0} AS BLOB) END",
    ),
}  # fmt: skip


def whole_numbers(array: Any) -> Sequence[int]:
    """The numbers of an Arrow array of bigint without NULLs, in place."""
    return memoryview(array.buffer()).cast("B").cast("q")


def decoded(content: bytes, encoding: str) -> str | InvalidText:
    """Text in the database's encoding, or its bytes where they are no such text."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return InvalidText(content)


def raw_column(storage: str, parts: Sequence[Array], encoding: str) -> RawColumn | None:
    """One column out of what was `ASKED`; None where that does not tell what SQLite holds."""
    if storage in PLAIN.values():
        return plain_column(storage, parts[0])
    classes = {STORAGES[letter] for letter in {*whole_numbers(parts[0])}} - {"null"}
    if storage == "mixed":
        return mixed_column(classes, parts, encoding)
    if classes == {"integer", "real"}:
        return numbers_of(*parts)
    return plain_column(next(iter(classes), "integer"), parts[1]) if len(classes) <= 1 else None


def plain_column(storage: str, values: Array) -> RawColumn | None:
    """One column of values of one class; None where others are among them, or text that is not valid UTF-8."""
    kind = arrow_type(CLASS_TYPES[storage])
    if values.null_count < len(values) and (values.type != kind or (storage == "text" and not is_utf8(values))):
        return None
    return RawColumn(storage, values.cast(kind))


def numbers_of(storages: Array, values: Array) -> RawColumn | None:
    """Whole numbers and others that were read as these; None where that may have changed one of them."""
    pairs = zip(whole_numbers(storages), values.to_pylist(), strict=True)
    numbers = [int(value) if STORAGES[letter] == "integer" else value for letter, value in pairs]
    is_exact = all(abs(number) < 2**53 for number in numbers if isinstance(number, int))
    return RawColumn("mixed", numbers) if is_exact else None


def mixed_column(classes: Set[str], parts: Sequence[Array], encoding: str) -> RawColumn:
    """One column out of the letters of its classes, and the values of each where they are of it."""
    of_class = dict(zip(("integer", "real", "blob"), parts[1:], strict=True))
    if len(classes) <= 1 and classes <= of_class.keys():
        storage = next(iter(classes), "integer")
        return RawColumn(storage, of_class[storage])
    values: list[Value | None] = []
    for letter, *by_class in zip(whole_numbers(parts[0]), *(part.to_pylist() for part in parts[1:]), strict=True):
        known: Any = next((value for value in by_class if value is not None), None)
        values.append(decoded(known, encoding) if STORAGES[letter] == "text" else known)
    if len(classes) > 1 or any(isinstance(value, InvalidText) for value in values):
        return RawColumn("mixed", values)
    return RawColumn("text", array_of(values, "string"))


def fitting_rows(bytes_per_row: float, most: int = PAGE_ROWS) -> int:
    """How many rows of that size make a page, which has so many at most."""
    return max(1, min(most, int(PAGE_BYTES / max(1.0, bytes_per_row))))


def part_rows(bytes_per_row: float) -> int:
    """How many rows of that size make one of the parts that are read side by side."""
    return max(1, fitting_rows(bytes_per_row) * READERS // PARTS)


class Reader:
    """Reads pages of a table, which is `q` in SQL, each in one statement; nothing stays open in between."""

    def __init__(self, database: Database, table: Table) -> None:
        self.database = database
        self.table = table
        self.rowid = f"q.{quoted(table.rowid or '')}"
        self._mixed: Set[str] = frozenset()  # the columns that had values of several classes in the last page

    @property
    def is_large(self) -> bool:
        """Whether pages of the file can be large at all."""
        return self.database.size() > SMALL_FILE_BYTES

    def select(self, values: str, more: str = "") -> list[tuple[Any, ...]]:
        """The rows of a small query of the table alone."""
        return self.database.rows(f"SELECT {values} FROM {quoted(self.table.name)} q {more}")

    def remarks(self) -> Iterator[tuple[str, str]]:
        """What a person should know of how the table is read, and what would mend it."""
        hint = "Let the producer make it STORED, or fill a column of its own."
        for column, why in self.table.uncomputable.items():
            yield f"the column {column} is left out: {why}", hint
        try:
            self.select("1", "LIMIT 1")
        except CorruptError as error:
            yield f"the first rows of {self.table.name} can't be read: {error}", error.hint
        if size := self.database.copied_bytes:
            said = f"{self.database.file} is copied in each cycle: its producer shares no WAL index, or crashed"
            yield said, f"{size / 1e6:.1f} MB now. Let the producer use PRAGMA locking_mode = NORMAL."

    def bounds(self, low: int | None = None) -> tuple[int | None, int]:
        """The lowest rowid over `low`, None for none, and the highest of all, in two look-ups; 0 for an empty table."""
        highest = f"SELECT max({self.rowid}) FROM {quoted(self.table.name)} q"
        (first,), (last,) = self.select(f"min({self.rowid})", f"{self.after(low)} UNION ALL {highest}")
        if first is None and low == HIGHEST_ROWID:
            fault = f"{self.table.name} uses the highest possible rowid, so SQLite gives new rows random ones below it"
            raise SourceError(fault, "Set cursor: timestamp, or make the table anew without that row.")
        if low is not None and first is not None and first <= low:
            raise out_of_order(self.table.name, low)
        return first, last or 0

    def after(self, low: int | None) -> str:
        """The condition for rows over a rowid; none where there is none."""
        return "" if low is None else f"WHERE {self.rowid} > {low}"

    def nth(self, first: int, last: int, count: int) -> int:
        """The rowid of the `count`th row from `first` on, at most `last`; of an earlier one before a damaged page."""
        if last - first < count:
            return last
        where = f"WHERE {self.rowid} BETWEEN {first} AND {last}"
        try:
            found = self.select(self.rowid, f"{where} ORDER BY {self.rowid} LIMIT 1 OFFSET {count - 1}")
        except CorruptError:
            return self.nth(first, last, count // 4) if count > 4 else first
        return found[0][0] if found else last

    def neighbours(self, first: int, last: int) -> list[tuple[int, int]]:
        """The rowids on either side of 32 places, spread evenly between two rowids in use."""
        sides = "SELECT (SELECT max({0}) FROM {1} q WHERE {0} < {2}), (SELECT min({0}) FROM {1} q WHERE {0} >= {2})"
        places = (first + (last - first) * place // 33 for place in range(1, 33))
        looks = [sides.format(self.rowid, quoted(self.table.name), place) for place in places]
        return [pair for pair in self.database.rows(" UNION ALL ".join(looks)) if None not in pair and pair[1] <= last]

    @functools.cached_property
    def bytes_per_row(self) -> float:
        """A guess by the size of the file, and how close the first rowids are; without these by the first rows.

        1,000 where nothing tells: the first rows of a view may cost as much as all, those of a table be damaged.
        """
        with contextlib.suppress(CorruptError):
            if self.database.kinds[self.table.name] == "table without rowid":
                count, size = self.extent(f"LIMIT {SAMPLE_ROWS}")
                return size / max(1, count)
            first, last = self.bounds() if self.table.rowid else (None, 0)
            if first is not None:
                share = 1000 / max(1000, self.nth(first, last, 1000) - first + 1)
                return self.database.size() / max(1, (last - first + 1) * share)
        return 1000

    def extent(self, rows: str, least: int = 0) -> tuple[int, int]:
        """How many rows of `least` bytes or more these are, and of how many together, without reading what is long."""
        names = [name for name, words in self.table.columns.items() if declared_type(words) not in ("bigint", "double")]
        sizes = [f"coalesce(octet_length(q.{quoted(name)}), 0)" for name in names]  # lang_corefunc.html
        groups = [f"({' + '.join(sizes[i : i + 50])})" for i in range(0, len(sizes), 50)]
        size = " + ".join([*groups, str(8 * (len(self.table.columns) + 3 * len(names)))])
        some = f"(SELECT {size} AS size FROM {quoted(self.table.name)} q {rows}) WHERE size >= {least}"
        [(count, total)] = self.database.rows(f"SELECT count(*), coalesce(sum(size), 0) FROM {some}")
        return count, total

    def fitting(self, rows: str, count: int) -> int:
        """How many of the first `count` of some rows make a page by their size; one at least."""
        while count > 1 and (size := self.extent(f"{rows} LIMIT {count}")[1]) > 4 * PAGE_BYTES:
            count = count * PAGE_BYTES // size or 1
        return count

    def narrowed(self, columns: Iterable[str]) -> Reader:
        """A reader of some of the columns and the time."""
        wanted = {*columns, self.table.time or ""}
        columns = {name: declared for name, declared in self.table.columns.items() if name in wanted}
        return Reader(self.database, self.table._replace(columns=columns))

    def sample(self) -> RawPage:
        """The first thousand rows, or fewer where they are large, or a page of the database is damaged."""
        order, key = (self.rowid, self.rowid) if self.table.rowid else ("", "''")
        for rows in (SAMPLE_ROWS, 100, 10):
            with contextlib.suppress(CorruptError):
                _, size = self.extent(f"{order and f'ORDER BY {order}'} LIMIT {rows}")
                return self.page("", order, max(1, rows * SAMPLE_BYTES // max(SAMPLE_BYTES, size)), key)
        return self.page("", "", 0, key)

    def first_rows(self, where: str, order: str, rows: int, key: str, least: int = 1) -> tuple[RawPage, int]:
        """A page, and of how many rows at most: fewer where memory is short, or a page behind them is damaged."""
        while True:
            try:
                return self.page(where, order, rows, key), rows
            except (CorruptError, MemoryShortError):
                if rows <= least:
                    raise
                rows = max(least, rows // 4)

    def page(self, where: str, order: str, limit: int, key: str) -> RawPage:
        """Rows with the value of each column, and of the expression `key`."""
        rows = f"FROM {quoted(self.table.name)} q {where} {order and f'ORDER BY {order}'} LIMIT {limit}"
        # Text of UTF-16 is read as bytes: SQLite would join surrogates to others.
        kept, others = (PLAIN, "told") if self.table.encoding == "UTF-8" else ({**PLAIN, "string": "mixed"}, "mixed")
        declared = self.table.columns.items()
        expected = {name: kept.get(declared_type(words) or "", others) for name, words in declared}
        expected.update(dict.fromkeys(self._mixed & expected.keys(), "mixed"))
        left, pages = list(expected), list[RawPage]()
        while left:
            # One SELECT could not have them all (sqlite.org/limits.html: 2,000 columns).
            most = 1900 // max(len(ASKED[storage]) for storage in expected.values())
            some = {name: expected[name] for name in left[:most]}
            keys, arrays = self._read(rows, limit, key, some)
            read = {name: raw_column(some[name], parts, self.table.encoding) for name, parts in arrays.items()}
            columns = {name: column for name, column in read.items() if column}
            if surprising := some.keys() - columns.keys():  # Not all of one class: read again, value by value.
                expected.update(dict.fromkeys(surprising, "mixed"))
                continue
            size = keys.nbytes + sum(part.nbytes for parts in arrays.values() for part in parts)
            known = whole_numbers(keys) if keys.type == arrow_type("bigint") else [*keys.to_pylist()]
            pages.append(RawPage(known, columns, size))
            left = left[len(some) :]
        if any(page.keys != pages[0].keys for page in pages):
            raise TransientError("rows were deleted while they were read", "The next cycle goes on.")
        columns = {name: column for page in pages for name, column in page.columns.items()}
        self._mixed = {name for name in columns if expected[name] == columns[name].storage == "mixed"}
        return RawPage(pages[0].keys, columns, sum(page.nbytes for page in pages))

    def _read(self, rows: str, limit: int, key: str, some: Mapping[str, str]) -> tuple[Array, dict[str, list[Array]]]:
        """The rows as Arrow arrays: the key, and what is `ASKED` of each column."""
        known = self.table.key if key == self.rowid and self.table.key in some else None  # It is the rowid.
        asked = [[] if known else [key]]
        for name, storage in some.items():
            asked.append([value.format(cell(name)) for value in ASKED[storage]])
        values = ", ".join(itertools.chain.from_iterable(asked))
        # In one batch, so that ADBC takes each type from all rows.
        found = self.database.table(f"SELECT {values} {rows}", limit + 1)
        nothing = array_of([], "bigint")
        arrays = (column.combine_chunks() if found.num_rows else nothing for column in found.columns)
        keys, *columns = [[next(arrays) for _ in values] for values in asked]
        by_name = dict(zip(some, columns, strict=True))
        return (by_name[known] if known else keys)[0], by_name


@contextlib.contextmanager
def opened_database(config: Config, scratch: Path | None = None) -> Iterator[Database]:
    """The source's file; `scratch` is a directory for SQLite's temporary files and for private copies."""
    if config.sqlite is None:
        raise ConfigError("sqlite is not set", "Set SQLITE_PATH, --sqlite or the YAML key sqlite.")
    try:
        with Database(config.sqlite, scratch or Path(tempfile.gettempdir())) as database:
            database.birth  # noqa: B018 - which file it is, before another one may take its place
            yield database
    except UploaderError as error:
        error.source = str(config.sqlite)
        raise


def reader_of(config: Config, database: Database) -> Reader:
    """The source table."""
    name = detect_table(database, config.sqlite_table_name)
    try:
        return Reader(database, describe(database, name, config.timestamp_col, time_form(config)))
    except UploaderError as error:
        error.table = name
        raise


# === Processing =======================================================================================
#
# Rules turn typed rows into what is sent: sanitizing changes values, filtering chooses rows, aggregating groups
# them. All of it is pure: frames in, frames out. Columns are pandas' own arrays where it has one for the
# type, so that NULL, NaN and integers beyond 2**53 stay what they are; else Python's values and None.


def to_frame(table: ArrowTable, columns: Columns) -> DataFrame:
    """The `columns` of an Arrow table, which has their types already, as a pandas frame. No value changes."""
    import pandas as pd

    found = {name: series_of(values_of(table.column(name), kind), kind) for name, kind in columns.items()}
    return pd.DataFrame(found, index=pd.RangeIndex(table.num_rows))


def values_of(column: ChunkedArray, kind: str) -> Any:
    """An Arrow column's values for `series_of`. arro3 makes a numpy array only where there is no NULL."""
    import numpy as np

    if kind in TIMES:
        return np.array(values_of(column.cast(arrow_type("bigint")), "bigint"), dtype="datetime64[us]")
    has_array = kind_of(kind).pandas != "object" or base_of(kind) in TEXTS
    return column.to_numpy() if has_array and len(column) and not column.null_count else column.to_pylist()


def series_of(values: Any, kind: str) -> Series:
    """A column of a list, with None for NULL, or of a numpy array. pandas by itself would take NaN for NULL."""
    import numpy as np
    import pandas as pd

    if kind not in REALS:
        return pd.Series(values, dtype=kind_of(kind).pandas)
    missing = [value is None for value in values] if isinstance(values, list) else np.zeros(len(values))
    numbers = np.array(values, dtype=kind_of(kind).arrow)
    return pd.Series(pd.arrays.FloatingArray(numbers, np.array(missing, dtype=bool)))


def python_values(series: Series) -> list[Any]:
    """A column's values, None for NULL."""
    return list(series.astype(object).where(series.notna(), None).tolist())


def to_table(frame: DataFrame, columns: Columns) -> ArrowTable:
    """The inverse of `to_frame`. A decimal that rules made too large for its type is refused."""
    arrays = {}
    for name, kind in columns.items():
        series = frame[name]
        if kind in TIMES:
            series = series.astype("int64").astype("Int64").mask(series.isna())
        if base_of(kind) in ("date", "decimal"):
            series = series.map(canonical_text, na_action="ignore")
        arrays[name] = array_of(python_values(series), kind)
        if arrays[name].null_count != series.isna().sum():
            raise RefusedValuesError(f"{name} holds a value that does not fit {kind}", "Declare a wider type.")
    return arrow_table(arrays)


def canonical_text(value: object) -> str:
    """One spelling for each value: 42, 1.0, 0.10, true, 2026-01-31T12:00:00 in UTC, BLOBs in hexadecimal digits."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- Reading rules: each function raises a `ConfigError` that begins with the place of the fault ---


def word_of(value: object, known: Iterable[str], place: str, what: str, *others: str) -> str:
    """One of the known names, which may be written in any case, as in SQLite. `others` would be right here too."""
    if (word := by_spelling(known)(str(value))) is not None:
        return word
    # Few and short: what = or mean stands for is not what looks like it.
    similarity = 1 if what in ("operator", "function") else 0.5
    raise ConfigError(f"{place}: unknown {what} {value!r}", nearest(str(value), [*known, *others], similarity))


def list_of(value: object, place: str, what: str) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{place}: expected a list of {what}, not {value!r}")
    return value


def names_of(value: object, place: str, what: str) -> list[Any]:
    """A list of names; a single one needs no list."""
    return [value] if isinstance(value, str) else list_of(value, place, what)


def mapping_of(value: object, place: str, example: str) -> Mapping[Any, Any]:
    """A mapping that is not empty."""
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"{place}: expected a mapping with at least one entry", f"For example {example}.")
    return value


def refuse_repeats(names: Sequence[str], place: str) -> None:
    """No name comes twice, of those that were found; what differs by case alone the target may refuse."""
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{place}: {repeated[0]!r} comes twice", "Keep one.")


def pattern_of(value: Any, kind: str, place: str) -> re.Pattern[str]:
    """A regular expression, in Python's syntax, for a text column."""
    if base_of(kind) not in TEXTS:
        raise ConfigError(f"{place}: a regular expression needs a text column; this one is {kind}")
    try:
        return re.compile(value)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{place}: bad regular expression {value!r}: {error}") from None


def rule_time(value: object) -> dt.datetime:
    """A time in UTC, from ISO-8601 or as YAML has read it; without a zone it is UTC already."""
    if (found := iso_moment(str(value))) is None:
        raise ValueError
    return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)


# How a rule's value is read for a column: the classes that it may have, what is made of it, and a hint.
NUMBER, TIME = "Write a number, without quotes.", 'Write a time such as "2026-01-31T12:00:00Z".'
RULE_CLASSES: dict[str, tuple[tuple[type, ...], Callable[[Any], Any], str]] = {
    # Whole numbers become int: floats compare inexactly beyond 2**53.
    **dict.fromkeys(INTEGER_BITS, ((int, float), lambda n: int(n) if float(n).is_integer() else n, NUMBER)),
    "double": ((int, float), float, NUMBER),
    # A column of 32 bits holds 0.1 as 0.100000001.
    "float": ((int, float), lambda n: struct.unpack("f", struct.pack("f", n))[0], NUMBER),
    "decimal": ((int, float, str), decimal_of, NUMBER),
    **dict.fromkeys(TEXTS, ((str,), str, "Write a text, in quotes; to compare numbers, set column_types to double.")),
    "boolean": ((bool,), bool, "Write true or false."),
    "timestamp": ((str, dt.date), rule_time, TIME),
    "timestamp_ntz": ((str, dt.date), lambda time: rule_time(time).replace(tzinfo=None), TIME),
    "date": ((str, dt.date), lambda day: dt.date.fromisoformat(str(day)), 'Write a day such as "2026-01-31".'),
    "binary": ((), bytes, "BLOBs can be tested by is_null only."),
}


def rule_value(value: Any, kind: str, place: str) -> Any:
    """A rule's value as the Python value that a column of `kind` holds. It is neither NULL nor NaN."""
    if value is None:
        raise ConfigError(f"{place}: a comparison with null is never true", 'Use {"is_null": true} or false.')
    classes, read, hint = RULE_CLASSES[base_of(kind)]
    with contextlib.suppress(ValueError, ArithmeticError):
        if isinstance(value, classes) and (found := read(value)) == found:
            return found
    raise ConfigError(f"{place}: {value!r} is no value of a {kind} column", hint)


def fits(value: Any, kind: str) -> bool:
    """Whether a column holds a number or a text as it is: it can be too large, too fine or too long."""
    with contextlib.suppress(ValueError):
        kind_of(kind).convert(value, kind)
        return True
    return False


class Rules(NamedTuple):
    """Rules, checked: `apply` makes a frame with `columns`, as far as it was given these, and all that are `used`.

    A row that stays keeps its place in the index, so that columns that rules neither ask nor change need no frame.
    """

    columns: Columns
    used: frozenset[str]
    apply: Callable[[DataFrame], DataFrame]


def ruled(rows: ArrowTable, kinds: Columns, rules: Rules) -> ArrowTable:
    """Rows with types `kinds` as the rules leave them. Only the columns that are used become a frame."""
    frame = rules.apply(to_frame(rows, {name: kind for name, kind in kinds.items() if name in rules.used}))
    new = to_table(frame, {name: kind for name, kind in rules.columns.items() if name in frame})
    others = rows.select([name for name in rules.columns if name not in frame])
    kept = others if len(frame) == rows.num_rows else picked(others, frame.index.tolist())
    return arrow_table({name: (new if name in frame else kept).column(name) for name in rules.columns})


# --- Sanitize ---


class Step(NamedTuple):
    """One change of one column, value by value; NULL becomes `null`. `kind` is the column's type afterwards."""

    column: str
    change: Callable[[Any], Any]
    kind: str
    null: Any = None

    def changed(self, values: Sequence[Any]) -> list[Any]:
        """The values after it. What repeats, as names do, is changed once; 0.0 equals -0.0, but is no repetition."""
        if any(isinstance(value, float | decimal.Decimal) for value in values):
            return [self.null if value is None else self.change(value) for value in values]
        new = {value: self.null if value is None else self.change(value) for value in {*values}}
        return [new[value] for value in values]


def changed(frame: DataFrame, steps: Iterable[Step]) -> DataFrame:
    """A frame after these steps."""
    frame = frame.copy(deep=False)
    for step in steps:
        frame[step.column] = series_of(step.changed(python_values(frame[step.column])), step.kind).array
    return frame


def rounded(value: Any, digits: int) -> Any:
    """A number rounded half to even. Adding zero takes the sign off -0.0, which would tell something."""
    if isinstance(value, float):
        return round(value, digits) + 0
    with decimal.localcontext(prec=100):
        return round(value, digits) + 0


def masked(value: object, shown: int) -> str:
    """`*` for all characters but the last; a value that is no longer than these is masked whole."""
    text = canonical_text(value)
    hidden = len(text) - shown if len(text) > shown else len(text)
    return "*" * hidden + text[hidden:]


def repair(word: str, name: str, rule: Any, kind: str) -> Step:
    """A column's `replace_values`, "pattern to remove" or {"replace_value": X, "with_value": Y}."""
    place = f"sanitize_config.{name}"
    if word == "replace_values":
        place = f"sanitize_config.replace_values.{name}"
        pairs = list(mapping_of(rule, place, '{"error": "unknown"}').items())
    elif isinstance(rule, str):
        return Step(name, functools.partial(pattern_of(rule, kind, place).sub, ""), kind)
    elif isinstance(rule, Mapping) and set(rule) == {"replace_value", "with_value"}:
        pairs = [(rule["replace_value"], rule["with_value"])]
    else:
        raise ConfigError(f"{place}: expected a pattern, or replace_value and with_value")
    table = {old_value(old, kind, place): new_value(new, kind, place) for old, new in pairs}
    return Step(name, lambda value: table.get(value, value), kind, table.get(None))


def old_value(value: Any, kind: str, place: str) -> Any:
    """What is to be replaced, None for NULL. Keys of JSON are text: "0" is 0 in a column of numbers."""
    if isinstance(value, str) and str not in RULE_CLASSES[base_of(kind)][0]:
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    return None if value is None else rule_value(value, kind, place)


def new_value(value: Any, kind: str, place: str) -> Any:
    """What a rule puts into a column, None for NULL."""
    found = None if value is None else rule_value(value, kind, place)
    if found is not None and not isinstance(found, dt.date) and not fits(found, kind):
        raise ConfigError(f"{place}: {value!r} does not fit a {kind} column")
    # With the column's digits: 21.5 and 21.50 have one hash.
    return decimal.Decimal(to_decimal(f"{found:f}", kind)) if isinstance(found, decimal.Decimal) else found


def disguise(word: str, name: str, digits: Any, kind: str, secret: str | None) -> Step:
    """What `hash` (HMAC-SHA256), `mask` (all but the last characters) or `round` (decimals) does to a column."""
    place = f"sanitize_config.{word}.{name}"
    if word == "hash":
        if not secret:  # Without one, the hash of a name or a number is undone by trying them all.
            raise ConfigError("sanitize_config.hash needs a secret", "Set SANITIZE_SECRET or SANITIZE_SECRET_FILE.")
        digest = functools.partial(hmac.digest, secret.encode(), digest="sha256")
        return Step(name, lambda value: digest(canonical_text(value).encode()).hex(), "string")
    if type(digits) is not int or not 0 <= digits <= 100:
        raise ConfigError(f"{place}: expected a whole number from 0 to 100, not {digits!r}")
    if word == "mask":
        return Step(name, functools.partial(masked, shown=digits), "string")
    if base_of(kind) not in (*REALS, "decimal"):
        raise ConfigError(f"{place}: a {kind} column has no decimals")
    if base_of(kind) == "decimal":
        digits = min(digits, sizes_of(kind)[1])  # Nor has it more: zeros behind these would not fit.
    return Step(name, functools.partial(rounded, digits=digits), kind)


# The directives that name columns alone, and those that say something of each; any other key is a column to repair.
LISTS, MAPPINGS = ("remove_nulls", "drop", "hash"), ("replace_values", "round", "mask")
DISGUISES = ("hash", "round", "mask")


def rules_by_column(rules: Mapping[str, Any], columns: Columns) -> list[tuple[str, str, Any]]:
    """`sanitize_config` as words, each with a column and what is said of it."""
    named = list[tuple[str, str, Any]]()
    for word, said in rules.items():
        place, entries, others = f"sanitize_config.{word}", [(word, said)], list[str]()
        if word in LISTS:
            entries = [(name, None) for name in names_of(said, place, "columns")]
        elif word in MAPPINGS:
            entries = [*mapping_of(said, place, f'"{word}": {{"column": …}}').items()]
        else:
            place, others = "sanitize_config", [*LISTS, *MAPPINGS]
        named += [(word, word_of(name, columns, place, "column", *others), rule) for name, rule in entries]
    return named


def rules_in_force(config: Config, columns: Columns) -> list[tuple[str, str, Any]]:
    """The same where rows are sanitized; else nothing."""
    return rules_by_column(config.sanitize_config, columns) if config.enable_sanitize else []


def private_columns(config: Config, columns: Columns) -> frozenset[str]:
    """The columns whose values sanitize changes or drops: nothing but what it makes of them may leave the box."""
    return frozenset(name for word, name, _ in rules_in_force(config, columns) if word != "remove_nulls")


def parse_sanitize(rules: Mapping[str, Any], columns: Columns, secret: str | None) -> Rules:
    """`sanitize_config`, checked. A directive's word is the directive, also where a column bears that name."""
    rules = mapping_of(rules, "sanitize_config", '{"remove_nulls": ["temperature"]}')
    named = sorted(rules_by_column(rules, columns), key=lambda entry: entry[0] != "replace_values")
    not_null = [name for word, name, _ in named if word == "remove_nulls"]
    dropped = [name for word, name, _ in named if word == "drop"]
    disguises = [disguise(*entry, columns[entry[1]], secret) for entry in named if entry[0] in DISGUISES]
    repairs = [repair(*entry, columns[entry[1]]) for entry in named if entry[0] not in (*DISGUISES, *LISTS)]
    refuse_repeats([*(step.column for step in disguises), *dropped], "sanitize_config: round, mask, hash, drop")
    if set(dropped) == set(columns):
        raise ConfigError("sanitize_config.drop: no column is left")
    kinds = columns | {step.column: step.kind for step in disguises}
    kept = {name: kind for name, kind in kinds.items() if name not in dropped}
    used = frozenset(name for word, name, _ in named if word != "drop")

    def apply(frame: DataFrame) -> DataFrame:
        complete = changed(frame, repairs).dropna(subset=not_null)
        return changed(complete, disguises)[[name for name in kept if name in frame]]

    return Rules(kept, used, apply)


# --- Filter ---


def members(value: Any, kind: str, place: str) -> frozenset[Any]:
    """The values of `in` and `not_in`."""
    return frozenset(rule_value(item, kind, place) for item in list_of(value, place, "values"))


def limits(value: Any, kind: str, place: str) -> list[Any]:
    """The two values of `between`."""
    found = [rule_value(item, kind, place) for item in list_of(value, place, "values")]
    if len(found) != 2 or found[0] > found[1]:
        raise ConfigError(f"{place}: expected two values, the lower first")
    return found


# How each operator's value is read, and how a series without NULL is tested for it. NaN differs from itself and
# satisfies nothing. Python compares integers with reals exactly; pandas' isin would make reals of both.
OPERATORS: dict[str, tuple[Callable[[Any, str, str], Any], Callable[[Any, Any], Any]]] = {
    ">": (rule_value, operator.gt),
    ">=": (rule_value, operator.ge),
    "<": (rule_value, operator.lt),
    "<=": (rule_value, operator.le),
    "==": (rule_value, operator.eq),
    "!=": (rule_value, lambda values, wanted: (values != wanted) & (values == values)),
    "in": (members, lambda values, wanted: values.map(wanted.__contains__)),
    "not_in": (members, lambda values, wanted: values.map(lambda v: v == v and v not in wanted)),
    "between": (limits, lambda values, wanted: values.between(*wanted)),
    "matches": (pattern_of, lambda values, wanted: values.map(wanted.search).notna()),
    "is_null": (rule_value, lambda values, wanted: values.isna() == wanted),
}


def parse_filter(rules: Mapping[str, Any], columns: Columns) -> Rules:
    """`filter_config`, checked: `{column: {operator: value}}`; a bare value means equality, null means NULL."""
    tests = []
    for key, rule in mapping_of(rules, "filter_config", '{"temperature": {">": -50}}').items():
        name = word_of(key, columns, "filter_config", "column")
        place = f"filter_config.{name}"
        if isinstance(rule, list):
            raise ConfigError(f"{place}: a list needs an operator", 'Write {"in": [...]}.')
        bare = {"is_null": True} if rule is None else {"==": rule}
        for sign, value in (mapping_of(rule, place, '{">": -50}') if isinstance(rule, Mapping) else bare).items():
            word = word_of(sign, OPERATORS, place, "operator")
            kind = "boolean" if word == "is_null" else columns[name]
            tests.append((name, word, OPERATORS[word][0](value, kind, f"{place}.{word}")))

    def apply(frame: DataFrame) -> DataFrame:
        for name, word, wanted in tests:
            values = frame[name] if word == "is_null" else frame[name].dropna()
            passed = OPERATORS[word][1](values, wanted).astype(bool)
            frame = frame[passed.reindex(frame.index, fill_value=False)]
        return frame

    return Rules(columns, frozenset(name for name, *_ in tests), apply)


# --- Aggregate ---
#
# A frame of groups has each group's window, its keys and, for each measured column, some parts: what must be
# known of its values so that groups can be merged. A row is a group of one, so pages are merged alike.

WINDOWS = {"minute": dt.timedelta(minutes=1), "hour": dt.timedelta(hours=1), "day": dt.timedelta(days=1)}
TIME_KEYS = (*WINDOWS, "hour_of_day", "day_of_week")

# A part's column is named by the column and the part. SQLite's names hold no NUL, so these are nobody else's.
PART, WINDOW, ORDER = "{}\0{}", "\0window", "\0order"

# Each part of a row, out of its values and times. Reals are floats already, with NaN for NULL; integers and decimals
# are added as Python's numbers, exactly.
ROW_PARTS: dict[str, Callable[[Series, Series], Series]] = {
    "count": lambda values, times: values.notna().astype("int64"),
    "total": lambda values, times: values.astype(float if values.dtype == float else object).mask(values.isna(), 0),
    "mean": lambda values, times: values.astype("float64").fillna(0.0),
    "squares": lambda values, times: values.isna() * 0.0,
    # Texts of 8 bytes for each number: joined, they are the shortest list of a group's values.
    "values": lambda values, times: values.astype("float64").map(lambda n: b"" if n != n else struct.pack("d", n)),
    **dict.fromkeys(("lowest", "highest"), lambda values, times: values),
    **dict.fromkeys(("first", "last"), lambda values, times: values.where(times.notna())),
    **dict.fromkeys(("first time", "last time"), lambda values, times: times.where(values.notna())),
}

# The parts that come from a single row of a group: the first or last one in the order of which part.
EDGES = {"lowest": ("first", "lowest"), "first": ("first", "first time"), "first time": ("first", "first time")}
EDGES |= {"highest": ("last", "highest"), "last": ("last", "last time"), "last time": ("last", "last time")}


def time_key(key: str, times: Series) -> Series:
    """The values of a time key. As in Databricks' dayofweek, 1 is Sunday; pandas' 0 is Monday."""
    if key in WINDOWS:
        return times.dt.floor(WINDOWS[key])
    return times.dt.hour if key == "hour_of_day" else (times.dt.day_of_week + 1) % 7 + 1


def merged_part(rows: DataFrame, group: Series, column: str, part: str) -> Series:
    """A part of each group, out of those of its rows; `group` is the number of each row's group."""
    values = rows[PART.format(column, part)]
    if part in EDGES:
        end, key = EDGES[part]
        # The sort is stable: of rows with one time, the order of the source decides. NULL is passed over.
        order = rows[PART.format(column, key)].sort_values(kind="stable").index
        return getattr(values.loc[order].groupby(group), end)()
    if part == "values":
        parts: list[list[bytes]] = [[] for _ in range(len(group) and group.max() + 1)]
        for number, some in zip(group.tolist(), values.tolist(), strict=True):
            parts[number].append(some)
        return series_of([*map(b"".join, parts)], "binary")
    if part == "mean":
        return group_means(rows, group, column).groupby(group).last()
    if part == "squares":
        distances = rows[PART.format(column, "mean")] - group_means(rows, group, column)
        values = values + rows[PART.format(column, "count")] * distances**2
    return values.groupby(group).sum(skipna=False)


def group_means(rows: DataFrame, group: Series, column: str) -> Series:
    """The mean of each row's group, to which sums of squared distances refer.

    Sums of squares would lose all digits where the mean is large (Chan, Golub, LeVeque: Updating formulae and a
    pairwise algorithm for computing sample variances, 1979). The second step takes most of the rounding away.
    """
    counts, means = rows[PART.format(column, "count")], rows[PART.format(column, "mean")]
    shares = counts / counts.groupby(group).transform("sum").clip(lower=1)
    found = (shares * means).groupby(group).transform("sum", skipna=False)
    return found + (shares * (means - found)).groupby(group).transform("sum", skipna=False)


def doubles(values: Series, known: Series) -> Series:
    """Results as floats, NULL where they are not known."""
    return series_of(values.to_numpy(dtype="float64"), "double").mask(~known)


def sums(counts: Series, totals: Series, kind: str) -> Series:
    """Sums as `kind`. One that does not fit is NULL, as from Databricks' try_sum, and the log says so."""
    if kind == "double":
        return doubles(totals, counts > 0)
    fitting = totals.map(lambda total: fits(total, kind)).astype(bool)
    if not fitting.all():
        log.warning("aggregate: %d sums do not fit %s and are NULL", (~fitting).sum(), kind)
    return totals.where(fitting & (counts > 0), None)


def averages(counts: Series, totals: Series) -> Series:
    """Sums by counts. Those of whole numbers and decimals are exact, so that an average is rounded once."""
    if totals.dtype != "object":
        return doubles(totals.astype("float64") / counts, counts > 0)
    pairs = zip(totals, counts, strict=True)
    return series_of([float(fractions.Fraction(total) / int(n)) if n else None for total, n in pairs], "double")


def medians(values: Series) -> Series:
    """The middle value of each group, or the mean of the two middle ones; NULL where there is none."""
    import numpy as np

    with np.errstate(invalid="ignore", over="ignore"):
        return series_of([float(np.median(np.frombuffer(v))) if v else None for v in values], "double")


# What a function needs of a column, what it makes of these parts, and the type of that.
Function = tuple[tuple[str, ...], "Callable[..., Series]", str]


def functions_of(kind: str) -> dict[str, Function]:
    """The functions of a column of type `kind`."""
    functions: dict[str, Function] = {
        "count": (("count",), lambda counts: counts, "bigint"),
        "min": (("lowest",), lambda values: values, kind),
        "max": (("highest",), lambda values: values, kind),
        "first": (("first", "first time"), lambda values, _: values, kind),
        "last": (("last", "last time"), lambda values, _: values, kind),
    }
    if base_of(kind) not in (*INTEGER_BITS, *REALS, "decimal"):
        return functions
    sum_kind = "double" if kind in REALS else "bigint"
    if base_of(kind) == "decimal":
        precision, scale = sizes_of(kind)
        sum_kind = f"decimal({min(38, precision + 10)},{scale})"  # ten digits wider, as in Databricks
    return functions | {
        "avg": (("count", "total"), averages, "double"),
        "sum": (("count", "total"), functools.partial(sums, kind=sum_kind), sum_kind),
        "stddev": (("count", "mean", "squares"), lambda n, _, s: doubles((s / (n - 1)) ** 0.5, n > 1), "double"),
        "median": (("values",), medians, "double"),
    }


class Measure(NamedTuple):
    """One column of the result: a function of a source column, or of the window, which every row has."""

    name: str
    column: str
    parts: tuple[str, ...]
    finish: Callable[..., Series]
    kind: str


class Partials(NamedTuple):
    """The groups so far, in frames that follow each other in the source; a group may be in several.

    Windows that start at `horizon` or later had no room in memory: their rows have to be read again.
    """

    pieces: tuple[DataFrame, ...]
    horizon: dt.datetime | None = None


def cut_of(starts: Series, most: int) -> dt.datetime | None:
    """The end of the first windows that have at most so many of these groups, or of the first one; None for all."""
    if len(starts) <= most:
        return None
    starts = starts.sort_values(ignore_index=True)
    later = starts[starts > starts.iloc[0]]
    found: dt.datetime | None = max(starts.iloc[most], later.iloc[0]).to_pydatetime() if len(later) else None
    return found


class Aggregate(NamedTuple):
    """Groups rows. What is kept of a group does not grow with its rows, save for medians: 8 bytes each."""

    source: Columns
    time_column: str
    group_by: Columns
    measures: Sequence[Measure]
    lateness: dt.timedelta
    # Merging takes about four times as much for a moment: the process stays below 300 MiB.
    most_bytes: int = 24 << 20
    # Merging takes pandas some time however few they are; fewer are merged from ten pages on, which may be large.
    least_rows: int = 25_000

    @property
    def columns(self) -> Columns:
        """The keys, then the measures, in the order of the rules."""
        return self.group_by | {measure.name: measure.kind for measure in self.measures}

    @property
    def source_columns(self) -> Columns:
        """The columns that a page needs."""
        used = {self.time_column, *self.group_by, *(measure.column for measure in self.measures)}
        return {name: kind for name, kind in self.source.items() if name in used}

    @property
    def window_length(self) -> dt.timedelta | None:
        """The shortest dated time key; keys without a date close with their day. None without a time key."""
        return min((WINDOWS.get(key, WINDOWS["day"]) for key in self.group_by if key not in self.source), default=None)

    def window_of(self, frame: DataFrame) -> Series | None:
        """The start of each row's window, NaT for a row without a time. None without a time key."""
        return frame[self.time_column].dt.floor(self.window_length) if self.window_length else None

    def empty(self) -> Partials:
        """No groups yet."""
        nothing = arrow_table({name: array_of([], kind) for name, kind in self.source_columns.items()})
        return Partials((self.rows(to_frame(nothing, self.source_columns), None),))

    def add(self, partials: Partials, frame: DataFrame) -> Partials:
        """Take in the next rows of the source; they are merged once they are many, and as many as the groups."""
        pieces, horizon = (*partials.pieces, self.rows(frame, partials.horizon)), partials.horizon
        if sum(map(len, pieces[1:])) < max(len(pieces[0]), self.least_rows if len(pieces) < 10 else 1):
            return Partials(pieces, horizon)
        groups = self._merged(pieces)
        is_large = groups.memory_usage(deep=True).sum() > self.most_bytes
        if is_large and (cut := cut_of(groups[WINDOW], len(groups) // 2)):
            horizon, groups = cut, groups[groups[WINDOW] < cut].reset_index(drop=True)
        return Partials((groups,), horizon)

    def whole(self, partials: Partials) -> Partials:
        """The same in one frame, each group once."""
        return partials._replace(pieces=(self._merged(partials.pieces),)) if len(partials.pieces) > 1 else partials

    @property
    def form(self) -> str:
        """A digest of what tells groups apart."""
        return digest_of(repr(([*self.group_by.items()], self.window_length)))

    def ordered(self, groups: DataFrame) -> DataFrame:
        """Groups with a digest of their keys: the order in which they go where they are too many for one commit."""
        if ORDER in groups and groups[ORDER].notna().all():
            return groups
        # Of a group's reals -0.0 and 0.0 are one key.
        keys = ((groups[key] + 0.0 if kind in REALS else groups[key]).tolist() for key, kind in self.group_by.items())
        found = [digest_of(repr(values)) for values in zip(*keys, strict=True)] or [""] * len(groups)
        return groups.assign(**{ORDER: series_of(found, "string").set_axis(groups.index)})

    def unsent(self, partials: Partials, part: Part) -> Partials:
        """The groups without those of a part that was sent; those that are left of its window with their order."""
        import pandas as pd

        (groups,) = partials.pieces
        start = EPOCH if part["window"] is None else moment_of(part["window"])
        some, others = self.ordered(groups[groups[WINDOW] == start]), groups[groups[WINDOW] != start]
        return partials._replace(pieces=(pd.concat([some[some[ORDER] > part["upto"]], others], ignore_index=True),))

    def part(self, partials: Partials, end: dt.datetime | None, most: int, since: int) -> Part | None:
        """The first part of the groups before `end`, which are those of one window; None where not too many."""
        (groups,) = partials.pieces
        groups = groups if end is None else groups[groups[WINDOW] < end]
        if len(groups) <= most:
            return None
        first, length, upto = groups[WINDOW].min(), self.window_length, sorted(self.ordered(groups)[ORDER])[most - 1]
        span = [(moment - EPOCH) // MICROSECOND for moment in (first, first + length)] if length else [None, None]
        return {"window": span[0], "end": span[1], "upto": upto, "by": self.form, "since": since}

    def end_of(self, after: Position) -> int | None:
        """The end of the windows that were sent before a position (microseconds), or of the one that was in part."""
        if "part" in after:
            return after["part"]["end"]
        return after["closed"] if self.window_length else None

    def closed(self, partials: Partials, newest: dt.datetime) -> dt.datetime | None:
        """The time before which windows are complete, by the newest time read; None where no group is in one."""
        if self.window_length is None:
            return None
        end = EPOCH + (newest - self.lateness - EPOCH) // self.window_length * self.window_length
        end = min(end, partials.horizon or end)
        return end if any((piece[WINDOW] < end).any() for piece in partials.pieces) else None

    def groups_from(self, partials: Partials, start: int | None) -> int:
        """How many groups there are in windows from `start` (microseconds) on."""
        (groups,) = partials.pieces
        starts = groups[WINDOW]
        return len(starts) if start is None else int((starts >= moment_of(start)).sum())

    def first_windows(self, partials: Partials, end: dt.datetime, most: int) -> dt.datetime:
        """The end of the first windows before `end` that have at most so many groups together, or of the first one."""
        (groups,) = partials.pieces
        starts = groups[WINDOW]
        return cut_of(starts[starts < end], most) or end

    def result(self, partials: Partials, end: dt.datetime | None, upto: str = "") -> DataFrame:
        """The groups of windows that start before `end`, else all, by window, then keys; of a part up to `upto`."""
        import pandas as pd

        (groups,) = self.whole(partials).pieces
        groups = groups[groups[WINDOW] < end] if end else groups
        groups = groups[self.ordered(groups)[ORDER] <= upto] if upto else groups
        groups = groups.sort_values([WINDOW, *self.group_by], na_position="first", ignore_index=True)
        results = {name: groups[name] for name in self.group_by}
        for measure in self.measures:
            parts = (groups[PART.format(measure.column, part)] for part in measure.parts)
            results[measure.name] = measure.finish(*parts)
        return pd.DataFrame(results)

    def rows(self, frame: DataFrame, horizon: dt.datetime | None) -> DataFrame:
        """The rows that have a window, before the horizon, each as a group of its own."""
        import pandas as pd

        frame = frame.assign(**{WINDOW: self.window_of(frame) if self.window_length else EPOCH})
        wanted = frame[WINDOW].notna() if horizon is None else frame[WINDOW] < horizon
        frame = frame[wanted].reset_index(drop=True)
        times = frame[self.time_column]
        rows = {key: frame[key] if key in frame else time_key(key, times) for key in (WINDOW, *self.group_by)}
        for column, part in dict.fromkeys((m.column, part) for m in self.measures for part in m.parts):
            # NaN is no measurement, so it counts as NULL.
            values = frame[column].astype("float64") if self.source.get(column) in REALS else frame[column]
            rows[PART.format(column, part)] = ROW_PARTS[part](values, times)
        return pd.DataFrame(rows)

    def _merged(self, pieces: Sequence[DataFrame]) -> DataFrame:
        """Each group once. NULL is a key of its own; so is NaN. Sums of infinities may be NaN."""
        import numpy as np
        import pandas as pd

        rows, keys = pd.concat(pieces, ignore_index=True), [WINDOW, *self.group_by]
        group = rows.groupby(keys, dropna=False, sort=False).ngroup()
        groups = {key: rows.loc[~group.duplicated(), key].reset_index(drop=True) for key in keys}
        with np.errstate(invalid="ignore", over="ignore"), decimal.localcontext(prec=100):
            for label in rows.columns.drop(keys):
                groups[label] = merged_part(rows, group, *label.rsplit("\0", 1))
        return pd.DataFrame(groups)


def measure_of(label: object, word: object, columns: Columns, time_column: str) -> Measure:
    """One function of a column; `count` of a label that is no column counts rows."""
    place = f"aggregate_config.aggregations.{label}"
    function = word_of(word, functions_of("double"), place, "function")
    if function == "count" and str(label).lower() not in map(str.lower, columns):
        # readings is reading, entries is entry; status, class and analysis stay.
        name = re.sub(r"(?<![siu])s$", "", re.sub(r"ies$", "y", str(label))) + "_count"
        log.info("%s: no such column; rows are counted, as %s", place, name)
        return Measure(name, WINDOW, *functions_of("timestamp")["count"])
    name = word_of(label, columns, "aggregate_config.aggregations", "column")
    functions = functions_of(columns[name])
    if function not in functions:
        numbers = json.dumps({name: "double"}, ensure_ascii=False)
        hint = f"column_types: {numbers} reads its numbers, and sets rows with other values aside."
        if name == time_column:  # is always a time
            hint = f"Of the time column there are {', '.join(functions)}."
        raise ConfigError(f"{place}: {function} needs a column of numbers; this one is {columns[name]}", hint)
    return Measure(f"{function}_{name}", name, *functions[function])


def group_key(item: object, columns: Columns) -> tuple[str, str]:
    """Name and type of a key. A source column that bears the name of a time key wins over it."""
    place, word = "aggregate_config.group_by", str(item).lower()
    if word in TIME_KEYS and word not in map(str.lower, columns):
        return word, "timestamp" if word in WINDOWS else "bigint"
    name = word_of(item, columns, place, "column", *TIME_KEYS)
    if word in TIME_KEYS:
        log.info("%s: %r is the source's column, not the time's", place, name)
    return name, columns[name]


def parse_aggregate(rules: Mapping[str, Any], columns: Columns, time_column: str) -> Aggregate:
    """`aggregate_config`, checked: group_by, aggregations and allowed_lateness. The time column is a timestamp."""
    place, example = "aggregate_config", '{"group_by": ["device_id", "hour"], "aggregations": {"temperature": "avg"}}'
    for key in mapping_of(rules, place, example):
        word_of(key, ("group_by", "aggregations", "allowed_lateness"), place, "key")
    keys = [group_key(item, columns) for item in names_of(rules.get("group_by"), f"{place}.group_by", "keys")]
    labels = mapping_of(rules.get("aggregations"), f"{place}.aggregations", '{"temperature": "avg"}')
    measures = [
        measure_of(label, word, columns, time_column)
        for label, words in labels.items()
        for word in names_of(words, f"{place}.aggregations.{label}", "functions")
    ]
    refuse_repeats([*(name for name, _ in keys), *(measure.name for measure in measures)], f"{place}: column")
    lateness = rules.get("allowed_lateness", 0)
    if type(lateness) not in (int, float) or not 0 <= lateness <= 1e9:
        fault = f"{place}.allowed_lateness: expected a number from 0 to 1e9, not {lateness!r}"
        raise ConfigError(fault, "It is in seconds.")
    return Aggregate(columns, time_column, dict(keys), measures, dt.timedelta(seconds=lateness))


# === State ============================================================================================
#
# One small JSON file. It is replaced as a whole, durably: temporary file, fsync, rename, fsync of the
# directory. A file that can't be trusted stops the run; it is never replaced by an empty one.

STATE_FORMAT = 1
STATE_NAME = "last_upload.json"


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A delivered row, by four bytes' digest of the values of each of the state's columns."""

    rowid: int
    digest: str  # Version 1.0.0 wrote 16 hexadecimal digits of all values together, and no columns.
    time: str  # as an SQL literal

    def parts(self, columns: Sequence[str]) -> dict[str, bytes]:
        """The digest of the value of each of the state's columns."""
        together = base64.b64decode(self.digest)
        return {name: together[4 * place : 4 * place + 4] for place, name in enumerate(columns)}

    @staticmethod
    def made(rowid: int, parts: Iterable[bytes], time: str) -> Anchor:
        """The anchor of a row, by the digests of its values."""
        return Anchor(rowid, base64.b64encode(b"".join(parts)).decode(), time)

    def line(self) -> str:
        """The anchor as the state file has it."""
        return f"{self.rowid} {self.digest} {self.time}"

    @staticmethod
    def of(line: str) -> Anchor:
        """The anchor out of a line of the state file."""
        rowid, digest, time = line.split(" ", 2)
        return Anchor(int(rowid), digest, time)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Which database file rows came from: its inode with its time of birth, and SQLite's count of schema changes."""

    file: str
    schema: int


class FutureRows(TypedDict):
    """Rows whose windows begin more than a day ahead: ranges of rowids that hold them, and when the first is due."""

    due: int
    rows: int
    ranges: list[list[int]]


class Part(TypedDict):
    """How far the groups of a window, or of a set without windows (None), were sent that are too many for a commit."""

    window: int | None
    end: int | None
    upto: str  # They go in the order of their keys' digests, up to this one so far.
    by: str  # the digest of the rules
    since: int  # Of rows that were looked at when the first of them went, without windows those behind this one count.


class Pass(TypedDict):
    """How far a timestamp cursor has come on its way over the new rows; `TimestampCursor` tells more."""

    oldest: int  # the time from which rows are new
    until: int | None  # the time that the table had reached at the beginning
    place: Any  # the value that it has come to
    sent: str  # records of its own rows


UnderWay = TypedDict("UnderWay", {"pass": Pass | None}, total=False)  # a class can't have that word for a name


class Position(UnderWay, total=False):
    """Where a cursor goes on. Times are in microseconds since 1970."""

    # By rowid: the highest one that was delivered. Rows up to the rowid `until` with times up to `since` are not new.
    rowid: int | None
    since: int | None
    until: int
    # With windows, of which `WindowSource` tells more, `rowid` is after which the rows of open ones begin.
    read_to: int | None  # the highest rowid that was looked at
    closed: int | None  # the time before which windows were sent
    more: bool  # Windows are complete that memory had no room for.
    soon: int  # the first time of a row that the clock has yet to reach
    held: int
    open_rows: int
    open_groups: int
    open_windows: int
    open_until: int
    window: int
    ahead: FutureRows
    part: Part
    # By time, of which `TimestampCursor` tells more.
    latest: int
    newest: int | None  # the greatest time so far
    known: int  # the time from which on `seen` has all rows
    seen: str  # Of version 1.0.0 it maps digests to counts and times.
    columns: list[list[str]]
    key: list[str]


class Place(TypedDict, total=False):
    """Where a cursor stands, and what it finds that again by: after an intent, or in the table that was before."""

    lineage: str  # the same under all names that the table has
    position: Position
    anchors: list[str]
    columns: list[str]
    gaps: list[list[int]]


class Intent(Place, total=False):
    """What is saved before a commit is sent, and by which its fate is found out after a crash."""

    sequence: int
    committed: int  # the last commit before it that had rows
    application: str
    batch_id: str
    made_by: str
    started: str
    epoch: int
    time_column: str | None
    time_form: str | None
    replayed: list[str]  # files of the quarantine that it empties
    span: list[int]  # which of their lines it sends,
    unfit: int  # without so many
    confirmed: bool
    keyed: bool  # No two rows of the source are sent alike.
    others_go: bool  # A commit without rows went just after it was lost.
    reads: Columns  # the types that rules were made for
    size: int  # how large its batch was, as the source counts
    # What a target needs.
    again: str  # when its file was last offered again
    digest: str  # of the rows as a statement had them
    bytes: int  # of the request
    route: str
    rows: int
    marked: bool
    timeout: int  # seconds that a statement has
    file: str  # staged in the volume
    volume: str
    fields: list[str]  # that rows are known by, in order


@dataclasses.dataclass(frozen=True)
class Allowance:
    """How many bytes one request may have. It begins small and is learned: gateways refuse what is documented to go."""

    bytes: int = 1 << 20
    refused: int | None = None  # the smallest size that was refused since
    went: int = 0  # requests after that

    # Nothing refuses less than this for its size. More than this makes no statement faster.
    LEAST: ClassVar = 16 << 10
    MOST: ClassVar = 8 << 20
    TRUSTED: ClassVar = 100  # after so many requests the limit may have been raised

    def after(self, size: int, is_fast: bool) -> Allowance:
        """After a request that went: twice as much, or half the way to what was refused, where that is a gain."""
        if self.went >= self.TRUSTED:
            return Allowance(self.bytes)
        if size < self.bytes // 2 or not is_fast:
            return dataclasses.replace(self, went=self.went + 1)
        more = 2 * self.bytes if self.refused is None else (self.bytes + self.refused) // 2
        more = more if 4 * more > 5 * self.bytes else self.bytes
        return dataclasses.replace(self, bytes=min(more, self.MOST), went=self.went + 1)

    def without(self, size: int) -> Allowance:
        """After a request that was refused for its size, or lost twice; a single row may have been larger."""
        return Allowance(max(self.LEAST, size // 2) if size <= self.bytes else self.bytes, size)


# Where an empty table ends: before all rowids that SQLite gives by itself; and one that was not there.
NOWHERE, GONE = -(2**63), -(2**63) + 1


@dataclasses.dataclass(frozen=True)
class State:
    """What was delivered. `last_upload` is ISO-8601 in UTC and for people; `position` decides."""

    last_upload: str | None = None
    source_id: str = ""
    table: str | None = None
    time_column: str | None = None  # It stays the time, read by `time_form`, whatever values look like.
    time_form: str | None = None
    reads: Columns = dataclasses.field(default_factory=dict)  # the types that columns keep
    target: str | None = None
    epoch: int = 0  # how often rowids began anew
    sequence: int = 0  # counts the batches for good
    committed: int = 0  # the last one that had rows to commit
    commits: int = 0  # how many had
    position: Position = dataclasses.field(default_factory=lambda: Position())
    anchors: list[Anchor] = dataclasses.field(default_factory=list)  # delivered rows,
    columns: list[str] = dataclasses.field(default_factory=list)  # by digests of these columns
    gaps: list[list[int]] = dataclasses.field(default_factory=list)  # pairs of rowids between which no row was
    origin: Origin | None = None  # the file that these were seen in
    ended: int | None = None  # before the position, where a cycle saw the table end since; `NOWHERE` or `GONE`
    lineage: str = ""  # the stream and epoch that sent the table's first rows, where these are others by now
    formers: list[Place] = dataclasses.field(default_factory=list)  # before the table was made anew, the newest first
    allowance: Allowance | None = None  # what was learned of the target
    lost: int = 0  # So often in a row a batch had no answer and did not arrive,
    lost_bytes: int = 0  # the last time with a request of so many bytes;
    lost_rows: int = 0  # where that is too small to be refused, the next has so many rows at most, 0 for any.
    intent: Intent | None = None  # the batch that is not confirmed yet

    @property
    def emptied(self) -> bool:
        """Whether a cycle saw the table empty since, or gone."""
        return self.ended in (NOWHERE, GONE)


def checksum(document: Mapping[str, Any]) -> str:
    """A digest of everything but the checksum itself: it finds damage and half-made edits."""
    content = {key: value for key, value in document.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=vars).encode()).hexdigest()[:16]


class StateFile:
    """`last_upload.json` in its directory, with the quarantine beside; locked while used as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / STATE_NAME
        self.quarantine = Quarantine(directory / "quarantine")

    def __enter__(self) -> StateFile:
        try:
            make_directory(self.directory)
            self._lock = os.open(self.directory / ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            hint = "Stop the other one meanwhile, or give each uploader its own state_dir."
            raise LockedError(f"another process uses {self.directory}", hint) from None
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(self, *reason: object) -> None:
        os.close(self._lock)

    def load(self) -> State | None:
        """The saved state; None where there is none; a `StateError` where it can't be trusted."""
        try:
            refuse_pipe(self.file)
            document = json.loads(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.file} can't be read: {error.strerror}", "Mend its rights.") from None
        except (ValueError, RecursionError):
            raise self._damaged("it is no JSON") from None
        if isinstance(document, dict) and document.keys() == {"last_upload"}:  # made by hand; without a zone it is UTC
            with contextlib.suppress(ValueError):
                moment = moment_of(to_microseconds(str(document["last_upload"]), AUTO))
                return State(last_upload=moment.isoformat())
            fault = f"{self.file}: last_upload {document['last_upload']!r} is no time"
            raise StateError(fault, "Write it as 2026-01-31T12:00:00Z.")
        if not isinstance(document, dict) or document.get("checksum") != checksum(document):
            raise self._damaged("its checksum does not fit")
        if document["format"] != STATE_FORMAT:
            raise StateError(f"{self.file} has format {document['format']}", "Use the uploader version that wrote it.")
        return State(**state_fields(document))

    def sound(self) -> State | None:
        """The saved state; None where there is none, or none that can be trusted: to look at things beside it."""
        with contextlib.suppress(StateError):
            return self.load()
        return None

    def save(self, state: State) -> None:
        """Replace the saved state durably, or raise `StateError` and leave the old one as it was."""
        document = {"format": STATE_FORMAT, **vars(state), "anchors": [a.line() for a in state.anchors]}
        intent = state.intent
        document["intent"] = intent and {**intent, "position": abridged(state.position, intent["position"])}
        content = json.dumps({**document, "checksum": checksum(document)}, indent=1, default=vars).encode()
        try:
            make_directory(self.directory)
            replace_durably(self.file, content)
        except OSError as error:
            raise self._unwritable(error) from None

    def _damaged(self, why: str) -> StateError:
        hint = "Use --recover where source_id is set, or restore it from a copy. Don't just delete it: rows may be sent"
        hint += " twice without it."
        return StateError(f"{self.file} can't be trusted: {why}", hint)

    def _unwritable(self, error: OSError) -> StateError:
        hint = "Set state_dir to a disk of this machine; mend its rights, or free it."
        return StateError(f"{self.directory} can't be written: {error.strerror}", hint)


def known_fields(kind: type[Any], saved: Any) -> dict[str, Any]:
    """What a dataclass can take of a JSON object, which another version may have written."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: saved[name] for name in names if name in saved} if isinstance(saved, dict) else {}


def state_fields(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a state out of JSON."""
    fields = known_fields(State, saved)
    for name, kind in (("origin", Origin), ("allowance", Allowance)):
        fields[name] = kind(**saved[name]) if saved.get(name) else None
    if intent := saved.get("intent"):
        fields["intent"] = {**intent, "position": unabridged(saved["position"], intent["position"])}
    if saved.get("emptied"):  # Of a version that kept no rowid.
        fields.setdefault("ended", NOWHERE)
    fields.setdefault("commits", saved.get("sequence", 0))  # Version 1.0.0 did not count them apart.
    if former := saved.get("former"):  # Of a version that kept one.
        fields["formers"] = [{"lineage": f"former of {saved.get('source_id')}", **former}]
    return {**fields, "anchors": [Anchor.of(line) for line in saved.get("anchors", [])]}


def packed(records: Mapping[str, int] | Iterable[str]) -> str:
    """Records of one width, in hexadecimal digits, as shorter text, in order, each as often as it counts."""
    return base64.b64encode(bytes.fromhex("".join(sorted(collections.Counter(records).elements())))).decode()


def unpacked(text: str, key: Sequence[str]) -> collections.Counter[str]:
    """The inverse of `packed` for records of 16 bytes, or of 20 where there is a key."""
    content, width = base64.b64decode(text).hex(), 40 if key else 32
    return collections.Counter(content[i : i + width] for i in range(0, len(content), width))


def abridged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """An intent's position for the file: of the rows in `seen`, the bulk of a state, what changes."""
    if before.get("key") != after.get("key") or not isinstance(before.get("seen"), str):
        return dict(after)
    old, new = unpacked(before["seen"], after["key"]), unpacked(after["seen"], after["key"])
    return {**after, "seen": {"less": packed(old - new), "more": packed(new - old)}}


def unabridged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `abridged`."""
    change, key = after.get("seen"), after.get("key", [])
    if not isinstance(change, dict) or change.keys() != {"less", "more"}:
        return dict(after)
    left = unpacked(before["seen"], key) - unpacked(change["less"], key)
    return {**after, "seen": packed(left + unpacked(change["more"], key))}


def replace_durably(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file so that after a crash at any moment either its old or its new content is there."""
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.unlink(missing_ok=True)
    write_durably(temporary, content, mode)
    os.replace(temporary, file)
    sync_directory(file.parent)


def encoded_name(stream: str) -> str:
    """A stream's name as that of a directory, which has 255 bytes at most; a longer one ends as no other does."""
    name = quote(stream, safe="").replace("~", "%7E")
    return name if len(name) <= 255 else f"{name[:220]}~{hashlib.sha256(stream.encode()).hexdigest()[:32]}"


def of_streams(directory: Path, name: str) -> list[Path]:
    """What each stream in a state directory has under a name. Another uploader's directory may lie there, too."""
    ours = tuple(PREFIXES.values())
    return sorted(file for file in directory.glob(f"*/{name}") if file.parent.name.startswith(ours))


def make_directory(directory: Path) -> None:
    """Make a directory for us alone, durably, where it is not there."""
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)


def write_durably(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Create `file`, which must not exist (no planted link is followed), by itself readable by its owner only."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        os.fchmod(descriptor, mode)
        opened.write(content)
        opened.flush()
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BadRow(NamedTuple):
    """A row that can't be delivered: its key in the source, why, and its values as SQLite holds them, but for some."""

    key: Any
    reason: str
    row: dict[str, Any]
    hidden: Sequence[str] = ()

    def line(self) -> dict[str, Any]:
        """The row as a line of the quarantine has it."""
        values = {name: plain_value(value) for name, value in self.row.items()}
        line = {"key": self.key, "reason": self.reason, "row": values}
        return {**line, "hidden": self.hidden} if self.hidden else line


Lines = Sequence[dict[str, Any]]  # rows in quarantine


class Quarantine:
    """Rows that can't be delivered, one JSON line each; a file for each commit, by whose number it is named."""

    MOST_BYTES = 100 << 20  # more wants a person, and rows wait in the source: an edge disk is small

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, sequence: int, table: Columns, rows: Sequence[BadRow]) -> None:
        """Write the bad rows of commit `sequence`, replacing those of an earlier try; with what names their table."""
        self.put_lines(sequence, [{**table, **row.line()} for row in rows], self.MOST_BYTES)

    def add(self, sequence: int, table: Columns, rows: Sequence[BadRow]) -> None:
        """Write bad rows beside those that are there of commit `sequence`."""
        there = lines_of(self.files(sequence))
        keys = [line["key"] for line in there]
        if new := [line for line in ({**table, **row.line()} for row in rows) if line["key"] not in keys]:
            self.put_lines(sequence, [*there, *new])

    def put_lines(self, sequence: int, lines: Lines, most: float = math.inf) -> None:
        """Write what stays with commit `sequence`; no file for nothing."""
        file = self.directory / f"{sequence:012d}.jsonl"
        if not lines:
            file.unlink(missing_ok=True)
            return
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        if sum(f.stat().st_size for f in self.files()) + len(content) > most:
            hint = "Mend the cause, --replay-quarantine, or move its files away."
            raise StateError(f"{self.directory} is full", hint)
        try:
            make_directory(self.directory)
            replace_durably(file, content)
        except OSError as error:
            hint = "Mend its rights, or free the disk."
            raise StateError(f"{self.directory} can't be written: {error.strerror}", hint) from None

    def forget(self, names: Iterable[str]) -> None:
        """Remove files whose rows were delivered after all, or are in a newer file."""
        for name in names:
            (self.directory / name).unlink(missing_ok=True)

    def forget_after(self, sequence: int) -> None:
        """Remove what was set aside for batches that were prepared but never sent: their rows are read again."""
        self.forget(file.name for file in self.files() if int(file.stem) > sequence)

    def newest(self) -> int:
        """The highest sequence number that has a file; 0 where there is none."""
        return max((int(file.stem) for file in self.files()), default=0)

    def files(self, sequence: int | None = None) -> list[Path]:
        """The files with quarantined rows, oldest first, or that of one commit."""
        # A glob would take a directory without rights for empty.
        found = self.directory.iterdir() if self.directory.is_dir() else ()
        files = sorted(f for f in found if f.suffix == ".jsonl" and f.stem.isdecimal() and f.is_file())
        return [file for file in files if sequence in (None, int(file.stem))]

    def count(self, sequence: int | None = None) -> int:
        """How many rows there are, or were set aside with one commit; a file is read again once it has changed."""
        return sum(rows_in(file, mark_of(stat)) for file in self.files(sequence) for stat in stats_of([file]))


@functools.lru_cache(10_000)
def rows_in(file: Path, _: tuple[int, ...]) -> int:
    """How many rows a quarantine's file has, which may be larger than memory is wanted for."""
    with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
        return sum(1 for line in opened if line.strip())
    return 0


def filled_lines(file: Path) -> list[tuple[int, bytes]]:
    """The lines of a quarantine's file with their numbers, without the empty ones that editors leave."""
    return [(number, line) for number, line in enumerate(file.read_bytes().splitlines(), 1) if line.strip()]


def lines_of(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows in the quarantine's files, which people correct by hand; a `StateError` names the line that is none."""
    lines = []
    for file, (number, content) in ((each, line) for each in files for line in filled_lines(each)):
        try:
            line = json.loads(content)
            [str(line[part]) for part in ("key", "reason")]
            [sqlite_value(value) for value in line["row"].values()]
            lines.append({**line, "table": str(line["table"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            hint = "Correct the line, or take it away and keep it elsewhere."
            raise StateError(f"{file}, line {number}: this is no quarantined row", hint) from None
    return lines


def is_by_path(target: str) -> bool:
    """Whether a target is a Delta table's path or URI, and not a table of a catalog."""
    return re.match("/|[^/]+://", target) is not None


def is_one_name(one: str | None, other: str | None) -> bool:
    """Whether SQLite or a catalog takes two names of tables for one; paths are as they are written."""
    if is_by_path(one or ""):
        return one == other
    return (one or "").encode().lower() == (other or "").encode().lower()  # ASCII alone: SQLite knows both Ä and ä.


def page_of_lines(table: Table, lines: Lines) -> RawPage:
    """Quarantined rows as a page, as if SQLite had handed them out. Columns that are new since are NULL."""
    columns = {n: RawColumn("mixed", [sqlite_value(line["row"].get(n)) for line in lines]) for n in table.columns}
    return RawPage([line["key"] for line in lines], columns, 0)


def lacking(table: Table, line: Mapping[str, Any], is_hiding: bool) -> str:
    """Why a line lacks values that its row has in the source, or ''; a `StateError` for a row of another table."""
    if not is_one_name(line["table"], table.name):
        raise StateError(f"the quarantine holds rows of {line['table']}", "Use the state_dir of that table.")
    # Where rules hide values, lines of version 1.0.0 don't say which ones.
    names, told = line["row"].keys(), line.get("hidden", table.columns if is_hiding else ())
    if lost := [name for name in table.columns if name in told and name not in names]:
        return f"sanitize hid {', '.join(lost)}, so insert the row, corrected, in the source: an UPDATE is no new row"
    # A column that is new may be one that was renamed.
    if (former := names - table.columns.keys()) and table.columns.keys() - names:
        return f"{table.name} has no {', '.join(sorted(former))} any more: give it in its line the name of now, or none"
    return ""


def staying(line: Mapping[str, Any], fault: str) -> BadRow:
    """A quarantined row that stays for a `fault` of its line, told before the reason of before."""
    row, reason = {name: sqlite_value(value) for name, value in line["row"].items()}, str(line["reason"])
    told = reason if reason.startswith(fault) else f"{fault}; before: {reason}"
    return BadRow(line["key"], told, row, line.get("hidden", ()))


def plain_value(value: Value | None) -> Any:
    """A SQLite value as JSON has it; what it has not is an object that names its kind."""
    if isinstance(value, InvalidText):
        return {"invalid_text": base64.b64encode(value).decode()}
    if isinstance(value, bytes):
        return {"blob": base64.b64encode(value).decode()}
    return {"real": repr(value)} if isinstance(value, float) and not math.isfinite(value) else value


def sqlite_value(plain: Any) -> Any:
    """The inverse of `plain_value`; a `ValueError` for what no SQLite value is written as."""
    if isinstance(plain, list) or (isinstance(plain, int) and not -(2**63) <= plain < 2**63):
        raise ValueError
    if isinstance(plain, str):
        plain.encode()  # no half of a surrogate pair
    if not isinstance(plain, dict):
        return int(plain) if isinstance(plain, bool) else plain
    [(kind, text)] = plain.items()
    if kind == "real":
        return float(text)
    return {"blob": bytes, "invalid_text": InvalidText}[kind](base64.b64decode(text, validate=True))


CYCLE_FILE = "cycle.json"  # beside the state: when the last cycle ended, and how


def last_cycle(directory: Path) -> dict[str, Any]:
    """What was said of the last cycle; empty where none has ended yet."""
    try:
        refuse_pipe(directory / CYCLE_FILE)
        said = json.loads((directory / CYCLE_FILE).read_text())
        dt.datetime.fromisoformat(said["ended"]).timestamp()
        numbers = {name: float(said.get(name) or 0) for name in ("interval", "wait")}
        streams = {name: each for name, each in (said.get("streams") or {}).items() if isinstance(each, dict)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}
    return {"error": None, **said, **numbers, "streams": streams}


# === Cursor ===========================================================================================
#
# Which rows are new. In a table where SQLite assigns the rowid, rowid order is commit order: the highest
# delivered rowid is the position, and anchors, digests of delivered rows, tell whether the file is still
# the one that it was. Without a rowid the position is a time, with the digests of the rows around it.

# Anchors of the newest delivered rows, and how many older ones are kept besides, ever further apart.
CLOSE_ANCHORS, FAR_ANCHORS = 32, 16
# How many rows are read by time before it is known how large they are; so many bytes of them are in memory at once.
FIRST_ROWS, WALK_BYTES = 500, 64 << 20
SCANNED_ROWS = 5 * PAGE_ROWS  # of a page, the most where each costs a scan of the table
MOST_PARTS = 64  # of a row that have a digest of their own in anchors; further columns share the last one
MOST_PLACES = 1000  # that are equal to a row are compared with it, by those before them
MOST_FORMERS = 8  # tables that gave way to others are kept in mind
MOST_GAPS = 32  # between rowids are remembered, the widest ones
FAR_APART = 1000  # are rowids that were not given one after the other, or between which rows were deleted
COUNTED_ROWS = 100_000  # that wait; what is beyond is guessed from their rowids, or left out. A look takes 30 ms then
NEVER = -(2**62)  # before all times, in microseconds
ZONE_SPREAD = 26 * 3600 * 10**6  # between two texts of one moment, with zones from -12:00 to +14:00, in microseconds
CLOCK_SHIFT = 2 * 3600 * 10**6  # local times without a zone are late by as much when clocks go back, in microseconds
CLOCK_BEGAN = 1_767_225_600  # a clock that shows less was never set: this program is younger. Seconds (2026-01-01)
CLOCK_UNSET = 978_307_200 * 10**6  # clocks without a battery begin in 1970, 1980 or 2000. Microseconds (2001-01-01)
MOST_FUTURE = 100_000  # rows from the future are remembered; more of them wait until their time has come
NEWEST_VALUES = 100  # of each class tell which time a table has reached


def latest_time(*times: int | None) -> int | None:
    """The latest of some times; None where none is known."""
    return max((time for time in times if time is not None), default=None)


class Batch(NamedTuple):
    """Rows that are sent in one commit: position and anchors after it, and their pages; `waiting` are there at most."""

    position: Position
    anchors: list[Anchor]
    pages: Callable[[], Iterator[Any]]
    waiting: int = 0
    gaps: Sequence[list[int]] = ()


def row_content(columns: Iterable[str]) -> str:
    """An SQL expression for all values of a row `q`, as ASCII, one after another with commas: different rows differ.

    Numbers and NULL as `quote` writes them, a double with all its digits; of text and blobs, whose quotes would end at
    a NUL, the bytes: t0061 is text, b0061 a blob. In groups: SQLite limits arguments, and the nesting of expressions.
    """
    values = []
    for value in (f"q.{quoted(column)}" for column in columns):
        coded = f"substr(typeof({value}), 1, 1) || hex({value})"
        values.append(f"CASE WHEN typeof({value}) IN ('text', 'blob') THEN {coded} ELSE quote({value}) END")
    groups = [f"concat_ws(',', {', '.join(values[i : i + 50])})" for i in range(0, len(values), 50)]
    return " || ',' || ".join(groups)


def literal_of(content: str, encoding: str) -> str:
    """A value's content as an SQL literal; text that has none is cast from its bytes."""
    if content[0] == "t" and isinstance(found := decoded(bytes.fromhex(content[1:]), encoding), str):
        return text_literal(found) if "\0" not in found else f"CAST(x'{content[1:]}' AS TEXT)"
    blob = f"x'{content[1:]}'"
    return f"CAST({blob} AS TEXT)" if content[0] == "t" else blob if content[0] == "b" else content


def parts_of(values: Sequence[str], separator: str) -> list[str]:
    """A row's values, or its columns' names, as the parts that anchors are made of."""
    others = separator.join(values[MOST_PARTS - 1 :])
    return [*values[: MOST_PARTS - 1], *([others] if len(values) >= MOST_PARTS else [])]


def digests_of(values: Sequence[str]) -> list[bytes]:
    """Four bytes for each part of a row: enough for all of it together, and for many rows of one column."""
    return [hashlib.blake2b(part.encode(), digest_size=4).digest() for part in parts_of(values, ",")]


def old_quote(value: str, encoding: str) -> str:
    """A value as version 1.0.0 had it in digests: quoted, up to a NUL."""
    if value[0] == "t":
        return text_literal(bytes.fromhex(value[1:]).decode(encoding, errors="replace").partition("\0")[0])
    return f"X'{value[1:]}'" if value[0] == "b" else value


class Look(NamedTuple):
    """What is at an anchor's rowid: its row as it was, or one of the same time, which may be that row, edited."""

    rowid: int
    time: str
    is_whole: bool
    is_on_time: bool
    alike: tuple[tuple[str, bytes], ...] = ()  # columns beside key and time with the same values, and their digests
    is_but_time: bool = False  # These are all.
    is_like: bool = False  # Of one with the same time or none: a value beside the key is that of no other anchor.


def kept_values(looks: Sequence[Look]) -> int:
    """How many rows are told apart by values that came back, in columns where most did: not by chance, as flags do."""
    # What counts rows tells as little as the key, as a data frame's index does, from 0 on.
    counts = ((look, digests_of([str(look.rowid), str(look.rowid - 1)])) for look in looks)
    rows = [[pair for pair in look.alike if pair[1] not in own] for look, own in counts]
    came = [pair for row in rows for pair in row]
    often, several = (collections.Counter(name for name, _ in pairs) for pairs in (came, {*came}))
    steady = {name for name in often if 2 * often[name] > len(looks) and several[name] >= min(3, len(looks))}
    return len({tuple(pair for pair in row if pair[0] in steady) for row in rows})


def pairs_and_twins(rows: Iterable[object]) -> tuple[int, int]:
    """How many pairs of rows there are, and how many of these are equal."""
    counts = collections.Counter(rows)
    return math.comb(counts.total(), 2), sum(math.comb(count, 2) for count in counts.values())


def chance_of(pairs: int, twins: int) -> float:
    """How often another row has the values of a delivered one, where of so many pairs so many are equal; never 0."""
    return (twins + 0.5) / (pairs + 1)


def surprise(count: int, found: int, chance: float) -> float:
    """By how many bits it is unlikely (Chernoff's bound) that so many of a count come by chance; 0 for no more."""
    share = found / max(1, count)
    parts = [(part, usual) for part, usual in ((share, chance), (1 - share, 1 - chance)) if part]
    return count * sum(part * math.log2(part / usual) for part, usual in parts) if share > chance else 0.0


class Evidence(NamedTuple):
    """What tells a table that was altered or edited from one that was made anew."""

    looks: Sequence[Look]
    position: int | None
    highest: int
    is_same_file: bool | None  # None where the state does not tell
    changes: int  # of the schema since; below zero where the file is older
    counter: int | None  # the highest rowid that AUTOINCREMENT gave, None without
    is_later: bool  # The rows at the anchors' rowids have later times than all anchors.
    left: int  # anchors that are not before the first row, nor behind the last one
    pairs: int  # of delivered rows
    twins: int  # of these pairs, with the same values but the key
    is_other: bool  # Some columns are gone, and some new.
    likeness: float  # how often two rows have the same values but key and time
    is_unset: bool  # Their times are of a clock that was not set.

    @property
    def whole(self) -> list[int]:
        """The rowids of rows that are whole, where these are delivered ones, and not others that are equal by chance.

        A time tells, or that all are; else that so many are has to be seldom by chance, as once in 1,000 tables by
        Chernoff's bound. All may be for nothing tells rows apart, which is no sign in another file or of other columns.
        """
        whole = [look.rowid for look in self.looks if look.is_whole]
        is_all = all(look.is_whole or look.is_on_time or look.is_like for look in self.looks)
        if (is_all and self.is_same_file and not self.is_other) or (len(whole) == len(self.looks) and not self.twins):
            return whole
        if self.is_begun_anew:
            return []
        # A clock that was never set shows the same to all tables.
        is_timed = len({look.time for look in self.looks}) > 1 or len(self.looks) == 1
        is_timed = is_timed and any(look.is_whole and look.is_on_time for look in self.looks)
        is_seldom = surprise(len(self.looks), len(whole), chance_of(self.pairs, self.twins)) > 10
        return whole if is_timed or is_seldom else []

    @property
    def is_begun_anew(self) -> bool:
        """Whether, in another file, no more rows of the same times are whole than come by chance."""
        # So where the clock of a box begins anew at each start, which makes a file then.
        on_time = [look for look in self.looks if look.is_on_time]
        is_possible = bool(on_time) and self.is_same_file is False and self.is_unset
        return is_possible and surprise(len(on_time), sum(look.is_whole for look in on_time), self.likeness) <= 10

    def is_proof(self, is_cut: bool) -> bool:
        """Whether the rows are those: most are in their places, whole, of several times. Else they may be equal."""
        whole = [look for look in self.looks if look.is_whole]
        # In an older copy that went on they are fewer, but not by chance.
        is_most = 2 * len(whole) > self.left or surprise(len(self.looks), len(whole), self.likeness) > 10
        # Where columns are gone, other values tell them apart. A box whose clock begins anew writes the same times.
        times = {look.time for look in whole} - {"NULL"}
        # Of a much older copy the first row alone is known.
        is_first = self.left == len(times) == 1 <= self.pairs and not self.is_begun_anew
        is_told = len(times) > 1 or is_first
        return is_most and is_told and (not is_cut or 2 * kept_values(whole) > len(whole))

    @property
    def is_retimed(self) -> bool:
        """Whether most rows have all values of before but their times, and not by chance."""
        count = len(self.looks)
        return 2 * sum(look.is_but_time for look in self.looks) > count and 2 * kept_values(self.looks) > count

    @property
    def is_shrunk(self) -> bool:
        """Whether the newest rows are gone."""
        return self.position is not None and self.highest < self.position

    @property
    def counts_on(self) -> bool:
        """Whether each rowid up to the position was given once only: all rows there are delivered ones."""
        return self.counter is not None and self.position is not None and self.counter >= self.position

    def kept(self) -> set[int] | None:
        """The anchors' rowids that hold the rows that were delivered, edited perhaps; None where that can't be told."""
        # The table of docs/delivery-evidence.md tells the evidence, the strongest first. Where the newest rows were
        # deleted and rowids may be used again, an equal time alone says nothing.
        same = [look for look in self.looks if look.is_on_time or (look.is_like and self.is_same_file)]
        kept = {*(whole := self.whole), *(look.rowid for look in same)}
        alike = [look.rowid for look in self.looks if look.is_like or self.counts_on or not self.is_shrunk]
        told = {(look.time, look.alike) for look in same}
        is_most, is_telling = 2 * len(kept) > len(self.looks), len(told) > len(self.looks) // 2
        # Rows behind the last of these may be new ones, in the places of deleted ones.
        before = [look.is_like for look in self.looks if look.rowid <= max(kept, default=0)]
        first = min((look.rowid for look in self.looks), default=0)
        is_cut_off = bool(self.is_same_file) and 2 * max(kept, default=first) > (self.position or first) + first
        is_most |= is_cut_off and sum(before) > 1 and 2 * sum(before) > len(before)
        is_all = all(look.is_whole for look in self.looks)
        is_some = any(look.is_whole for look in self.looks) and not self.is_begun_anew
        if not whole and is_some and (is_all or not self.twins):
            return None
        if whole:
            # Rows that were deleted were the newest ones: behind one that is another, none is left.
            others = [look.rowid for look in self.looks if look.rowid > max(whole) and look.rowid not in kept]
            if not others and any(rowid > max(whole) and rowid not in alike for rowid in kept):
                return None
            return {rowid for rowid in kept if rowid < min(others, default=math.inf)}
        if not self.is_same_file or self.changes < 0 or (self.counter is not None and not self.counts_on):
            # A box without a clock may begin at the same moment at each start.
            # A rebuild sets the counter back to the highest rowid that is left.
            is_back = kept_values(self.looks) > max(2, len(self.looks) // 2) or (self.is_same_file and self.changes > 0)
            is_open = is_most and is_telling and bool(is_back or not (self.is_shrunk or self.is_begun_anew))
            return (kept if self.is_same_file is None else None) if is_open else set()
        if self.changes == 0 and self.counts_on and not self.is_later:
            return {look.rowid for look in self.looks}
        if is_most:
            return kept if alike and (is_telling or len(told) > 1) else None
        return self._kept_of_others()

    def _kept_of_others(self) -> set[int] | None:
        """The same where most rows are others: none is left, or that can't be told."""
        is_cut = self.is_shrunk and (self.changes == 0 or self.is_later)
        retimed = sum(look.is_but_time for look in self.looks)
        if self.looks and retimed == len(self.looks) and not (is_cut and self.is_later):
            return None
        # Of few values most are the same by chance, or as good as always; all but one are so by none.
        is_retimed = retimed >= len(self.looks) - len(self.looks) // 32
        is_other = not is_retimed and kept_values(self.looks) <= max(1, len(self.looks) // 2)
        is_new = self.is_later and is_other
        return set() if not self.looks or is_new or is_cut else None


def held_rows(position: Position) -> int:
    """How many rows are in open windows, those of the future among them."""
    return position.get("held", position.get("open_rows", 0))


def refuse_part(state: State) -> None:
    """An error where rows were renumbered amid a set of groups without windows: where the set begins can't be told."""
    if (part := state.position.get("part")) and part["end"] is None:
        fault = f"rows of {state.table} were renumbered while groups of them were sent: which are left can't be told"
        raise SourceError(fault, "Look for the newest groups in the target, then go on with --since TIMESTAMP.")


def moved_to(state: State, rowid: int | None, why: str, level: int = logging.WARNING) -> State:
    """The state after rowids changed: a new epoch, and the position in it. What a cycle saw was said before."""
    level = logging.DEBUG if state.ended == NOWHERE or (rowid is not None and rowid == state.ended) else level
    log.log(level, "%s: %s; going on after rowid %s", state.table, why, rowid or 0)
    is_new, last = rowid is None, -math.inf if rowid is None else rowid
    anchors = [anchor for anchor in state.anchors if anchor.rowid <= last]
    gaps = [gap for gap in state.gaps if gap[1] <= last]
    before = without_keys(state.position, "since", "until") if is_new else state.position
    position: Position = {**before, "rowid": rowid}
    if "read_to" in position:
        is_open = state.position["rowid"] != position["read_to"] or "ahead" in position
        position.pop("ahead", None)
        if is_new and (part := position.pop("part", None)):  # The groups that are left of its window have no rows.
            position["closed"] = latest_time(position.get("closed"), part["end"])
        # A set without windows begins where it began; else rows of open windows are looked for from the first one on.
        begin = state.position["rowid"] if "part" in position and position["part"]["end"] is None else None
        position |= {"rowid": begin if is_open or is_new else rowid, "read_to": rowid}
        position |= {"held": 0, "open_rows": 0, "open_groups": 0} if is_new else {}
    state = dataclasses.replace(state, lineage="" if is_new else lineage_of(state), epoch=state.epoch + 1)
    return dataclasses.replace(state, anchors=anchors, gaps=gaps, position=position)


def lineage_of(state: State) -> str:
    """What the table is known by, whatever its name: who sent its first rows."""
    return state.lineage or f"{state.source_id}/{state.epoch}"


def place_of(state: State) -> Place:
    """Where a state stands."""
    lines, lineage = [anchor.line() for anchor in state.anchors], lineage_of(state)
    return Place(lineage=lineage, position=state.position, anchors=lines, columns=state.columns, gaps=state.gaps)


def without(place: Place, private: frozenset[str]) -> Place:
    """A place without the digests of columns that may not be told any more."""
    columns = place["columns"]
    names = [name for name in columns if private.isdisjoint(name.split("\0"))]
    if len(names) == len(columns) and (names or not private):
        return place
    known = ((anchor, anchor.parts(columns)) for anchor in map(Anchor.of, place["anchors"]))
    anchors = [Anchor.made(each.rowid, map(parts.__getitem__, names), each.time) for each, parts in known]
    return {**place, "columns": names, "anchors": [anchor.line() for anchor in anchors]}


def formers_of(state: State, back: str = "") -> list[Place]:
    """What is kept of tables that gave way, but for the one that is `back`."""
    places = [*([place_of(state)] if state.anchors else []), *state.formers]
    return [place for place in places if place["lineage"] != back][:MOST_FORMERS]


def made_anew(state: State, evidence: Evidence) -> State:
    """The state in a table that has none of its rows. The more are kept in mind, the sooner others are taken for it."""
    if evidence.is_same_file and evidence.changes == 0:  # As an outbox is again and again.
        most, why, level = 1, "the table was emptied", logging.INFO
    else:
        most, why, level = MOST_FORMERS, "the table was recreated", logging.WARNING
    return moved_to(dataclasses.replace(state, anchors=[], formers=formers_of(state)[:most]), None, why, level)


class Claim(NamedTuple):
    """A place of the table before, or of another stream's `table`."""

    place: Place
    table: str = ""
    settle: Callable[[], bool] = lambda: True  # whether its last commit took place, saved in the other stream's state


class Found(NamedTuple):
    """A place in the table that is here, and how surely it is that; `moved`, where rowids were given anew."""

    claim: Claim
    state: State
    evidence: Evidence
    moved: int | None
    is_sure: bool

    @property
    def end(self) -> int:
        """The last row that was sent."""
        there = [look.rowid for look in self.evidence.looks if look.is_whole or look.is_on_time]
        return max(there, default=0) if self.moved is None else self.moved


def back_in(state: State, claim: Claim, origin: Origin) -> State:
    """The state in a table that it, or another stream, knew; a rename changed its schema."""
    place = claim.place
    position, anchors = Position(**place["position"]), [Anchor.of(line) for line in place["anchors"]]
    # Where it is back after another one that is gone, windows that were sent of that stay sent.
    if "closed" in position and not claim.table:
        position["closed"] = latest_time(position["closed"], state.position.get("closed"))
    known = {**known_fields(State, place), "position": position, "anchors": anchors, "epoch": state.epoch + 1}
    known |= {"formers": formers_of(state, place["lineage"]), "ended": state.ended if state.emptied else None}
    return dataclasses.replace(state, **known, origin=state.origin or Origin(origin.file, origin.schema - 1))


def without_keys(position: Position, *keys: str) -> Position:
    """A position without some of what it has."""
    return cast(Position, {key: value for key, value in position.items() if key not in keys})


def read_to(position: Position) -> int | None:
    """The highest rowid that was looked at; rows of open windows, which begin before it, are read again."""
    return position.get("read_to", position["rowid"])


def thinned(new: Sequence[Anchor], old: Sequence[Anchor]) -> list[Anchor]:
    """The anchors to keep: all new ones, and of the old ones ever fewer the further back."""
    each = [*{anchor.rowid: anchor for anchor in reversed([*new, *old])}.values()][::-1]
    close, far = each[:CLOSE_ANCHORS], each[CLOSE_ANCHORS:]
    return close + [a for i, a in enumerate(far) if i < FAR_ANCHORS // 2 or i == len(far) - 1 or (i & (i - 1)) == 0]


def origin_of(database: Database) -> Origin:
    """Which file it is, and the count of changes of its schema now; VACUUM counts too."""
    return Origin(database.birth, *database.rows("PRAGMA schema_version")[0])


@functools.lru_cache(10)
def paired(then: tuple[str, ...], now: tuple[str, ...], key: str | None, is_renamed: bool) -> dict[str, str]:
    """For each column of before that is here still, what it is called now; renamed ones stand in their order."""
    namesake = by_spelling(now)
    pairs = {name: found for name in then if (found := namesake(name)) is not None}
    # Renamed ones count where they are meant, or where no other than the key has its name still.
    if not is_renamed and {*pairs.values()} - {key}:
        return pairs
    left = [name for name in now if name not in pairs.values()]
    return pairs | dict(zip([name for name in then if name not in pairs], left, strict=False))


def time_column_now(state: State, table: Table) -> str | None:
    """What the time column of a state is called now; None where it is gone."""
    if state.time_column in table.columns:
        return state.time_column
    then = tuple(itertools.chain.from_iterable(part.split("\0") for part in state.columns))
    if state.time_column and table.time and table.time.lower() not in map(str.lower, then):
        return table.time  # There may be others with new names.
    return paired(then, tuple(table.telling), table.key, True).get(state.time_column or "")


def comes_back(state: State, anchor: Anchor, alike: set[str], count: int) -> bool:
    """Whether one of the columns whose values are the same tells this anchor from the others; the rowid does not."""
    if len(state.anchors) == 1:  # Half of so many columns do.
        return 2 * len(alike) >= count
    known = [each.parts(state.columns) for each in state.anchors]
    own, (key,) = anchor.parts(state.columns), digests_of([str(anchor.rowid)])
    return any(own[name] != key and sum(each[name] == own[name] for each in known) == 1 for name in alike)


def time_in_row(table: Table, values: Sequence[str]) -> str:
    """A row's time as an SQL literal, out of its values as `row_content` has them."""
    return "NULL" if table.time is None else literal_of(values[[*table.telling].index(table.time)], table.encoding)


def time_of(literal: str, form: TimeForm) -> int | None:
    """The time that an SQL literal is, in microseconds since 1970; None where it is none."""
    with contextlib.suppress(ValueError):
        return to_microseconds(literal[1:-1].replace("''", "'") if literal[0] == "'" else float(literal), form)
    return None


def is_renamed(database: Database, table: str | None) -> bool:
    """Whether a table, if there is one, may have had another name: SQLite's ALTER TABLE puts the new one in quotes."""
    made = f"SELECT 1 FROM sqlite_schema WHERE name = {text_literal(table or '')} AND sql LIKE 'CREATE TABLE \"%'"
    return table is not None and bool(database.rows(made))


def another_order(table: Table) -> SourceError:
    """The error for rows that stand in another order than they were delivered in."""
    fault = f"{table.name} was rebuilt in another order: which rows were delivered can't be told"
    hint = "Go on with --since TIMESTAMP, where a column tells the time. A table that is made anew in an order of its "
    hint += "own needs cursor: timestamp, too."
    return SourceError(fault, hint)


def said_of_order(table: Table) -> str:
    """That rowids are no position, for people."""
    if table.key and table.key == table.time:
        return f"the keys of {table.name} are its times: SQLite did not give them"
    return f"the keys of {table.name} do not rise with its times: SQLite did not give them"


def passed_over(table: Table) -> SourceError:
    """The error for new rows that a position by rowid does not find."""
    fault = f"{said_of_order(table)}, and new rows below delivered ones are passed over"
    hint = "cursor: rowid leaves them. cursor: timestamp finds such rows, though not for aggregate, and begins by "
    hint += "--since TIMESTAMP: rows of that time and later are sent, those that were delivered once more."
    return SourceError(fault, hint)


# What goes on where a table has no time.
SEND_ALL = "timestamp_col, where a column tells the time, and --since tell. Without its last_upload.json all are sent"


def other_rows(table: Table) -> SourceError:
    """The question that a person has to answer."""
    fault = f"{table.name} holds other rows than were delivered; whether those were edited, or gave way to new ones, "
    hint = "Edited: --since with a time past theirs. New: --since with the time of the first. Rows that are rewritten "
    hint += "with a newer time need cursor: timestamp, too. The state is untouched."
    if table.time is None:
        hint = f"{SEND_ALL}. What holds the newest values alone, as counters, is better left out of tables. "
        hint += "The state is untouched."
    return SourceError(f"{fault}can't be told", hint)


def keep_in_mind_as_gone(states: StateFile, tables: Iterable[str], ended: int = GONE) -> None:
    """Note that a state's table is not in the file: what comes under its name later is as after a DELETE."""
    with contextlib.suppress(UploaderError):
        state = states.load()
        # Rows without times tell too little: a rebuild that is seen amid would be sent again.
        is_telling = state and state.anchors and state.time_column and not state.emptied
        if state and is_telling and not any(is_one_name(state.table, name) for name in tables):
            states.save(dataclasses.replace(state, ended=ended))


class Anchored:
    """A table whose delivered rows are known by anchors, and found again by them, whatever happened to it."""

    def __init__(self, reader: Reader, form: TimeForm = AUTO) -> None:
        self.reader = reader
        self.table = reader.table
        self.form = form
        self.rowid = reader.rowid
        self.origin: Origin | None = None
        self.newest: Sequence[Anchor] = []
        self.claims: Callable[[], Iterable[Claim]] = tuple

    @functools.cached_property
    def parts(self) -> list[str]:
        """What anchors are digested by: each column, as the state names it."""
        return parts_of(list(self.table.telling), "\0")

    def anchors(self, first: int, last: int) -> list[Anchor]:
        """The newest rows of a range, newest first, and its first one."""
        newest = self._anchors(f"{self.rowid} BETWEEN {first} AND {last}", CLOSE_ANCHORS)
        has_first = newest and newest[-1].rowid == first
        return newest if has_first else [*newest, *self._anchors(f"{self.rowid} = {first}", 1)]

    def _anchors(self, where: str, most: float = math.inf) -> list[Anchor]:
        """The anchors of the rows that meet a condition, highest rowid first."""
        rows = self.rows(where, most)
        return [Anchor.made(rowid, digests_of(row), time_in_row(self.table, row)) for rowid, row in rows]

    def located(self, state: State) -> State:
        """The state with position and anchors in the file as it is now; a `SourceError` where that can't be told."""
        newest, origin = state.anchors[:1], origin_of(self.reader.database)
        # The anchors' times may be of another column than now.
        is_timed = any(anchor.time != "NULL" for anchor in state.anchors)
        time = time_column_now(state, self.table) or (self.table.time if is_timed else None)
        table = self.table._replace(time=time)
        if not state.columns:  # Version 1.0.0 had one digest of all columns.
            table = table._replace(private=frozenset())
        now = (origin, self.parts, self.table.time, None)
        is_known = (state.origin, state.columns, table.time, state.ended) == now
        if not (is_known and newest and newest == self._anchors(f"{self.rowid} = {newest[0].rowid}", 1)):
            as_before = Anchored(Reader(self.reader.database, table), self.form)
            state = self._renewed(Search(as_before, origin, self.claims).followed(state))
        self.origin, self.newest = origin, state.anchors[:1]
        ended = state.ended if state.ended == read_to(state.position) else None
        state = dataclasses.replace(state, origin=origin, ended=ended, columns=self.parts)
        formers = [without(place, self.table.private) for place in state.formers]
        return dataclasses.replace(state, formers=formers, time_column=self.table.time)

    def _renewed(self, state: State) -> State:
        """The state, its anchors made of the columns of now. One whose row is gone still marks its rowid as used."""
        known, is_as_before = state.anchors, state.columns == self.parts
        rows = self._anchors(f"{self.rowid} IN ({', '.join(str(anchor.rowid) for anchor in known)})")
        kept = {each.rowid: each if is_as_before else dataclasses.replace(each, digest="") for each in known}
        return dataclasses.replace(state, anchors=[*(kept | {row.rowid: row for row in rows}).values()])

    def is_later(self, anchors: Sequence[Anchor], rowids: Sequence[int]) -> bool:
        """Whether rows have times that are, as SQLite compares values, later than all anchors'."""
        if self.table.time is None:
            return False
        times, time = {anchor.time for anchor in anchors} - {"NULL"}, cell(self.table.time)
        later = " AND ".join(f"{time} > {literal}" for literal in sorted(times)) or "0"
        where = f"{self.rowid} IN ({', '.join(map(str, rowids))}) AND ({later}) IS NOT 1"
        return not self.reader.select("1", f"WHERE {where} LIMIT 1")

    def moved(self, state: State) -> int | None:
        """The new rowid of the newest delivered row that is left: an equal one, after the rows that it followed.

        None where that one is in its place: then rows behind it were edited or deleted, and none renumbered.
        """
        run = state.anchors[:CLOSE_ANCHORS]
        for index, newest in enumerate(run):
            found = (self._place(state, run[index:], edited) for edited in (0, 0.25))
            if place := next(filter(None, found), None):
                if place > newest.rowid:
                    raise another_order(self.table)  # No VACUUM does that: rows came in before it.
                self._refuse_behind(state, run[index:], place)
                return None if index and place == newest.rowid else place
        return None

    def _place(self, state: State, run: Sequence[Anchor], edited: float) -> int | None:
        """The rowid of a run's first anchor, by the rows before it; an error where several places fit."""
        best = sorted(itertools.islice(self._places(state, run, edited), MOST_PLACES), reverse=True)[:2]
        if not best:
            return None
        fit, place = best[0]
        # Where rows have few values, others fit in part: one counts that fits twice as well, for which a whole run
        # counts double. That the table ends where it ended tells, too.
        is_equal = any(2 * other > fit for other, _ in best[1:])
        if is_equal and not place == run[0].rowid == self.reader.bounds()[1]:
            fault = f"{self.table.name} was vacuumed or altered, and its newest rows are equal: "
            hint = "Give the table an INTEGER PRIMARY KEY, or go on with --since TIMESTAMP."
            raise SourceError(f"{fault}which were delivered can't be told", hint)
        if run[0].time == "NULL" and place != run[0].rowid:
            chance = chance_of(*pairs_and_twins(anchor.digest for anchor in state.anchors if anchor.digest))
            if -fit * math.log2(chance) < 20:  # They may be equal by chance: `Evidence.whole` tells more.
                raise other_rows(self.table)
        return place

    def _refuse_behind(self, state: State, run: Sequence[Anchor], place: int) -> None:
        """An error where rows that were delivered before the newest one stand behind it, as after a rebuild."""
        before = [values for _, values in self.rows(f"{self.rowid} <= {place}", CLOSE_ANCHORS + 1)]
        gone = [anchor for anchor in run if not any(self._look(state, anchor, row).is_whole for row in before)]
        if gone and any(rowid > place for *_, rowid in self._places(state, gone[:1], 1)):
            raise another_order(self.table)

    def _places(self, state: State, run: Sequence[Anchor], edited: float) -> Iterator[tuple[int, int]]:
        """Rows like a run's first anchor whose rows before are its others, but for a share `edited`, highest first.

        How many of its rows are there, twice as many where none is missing, and the rowid.
        """
        time = self.table.time
        for rowid, values in self.rows(f"{cell(time)} IS {run[0].time}" if time else "1"):
            if self._look(state, run[0], values).is_whole:
                is_exact, count = self._follows(state, run, rowid, edited)
                yield from [((1 + is_exact) * count, rowid)] if count else []

    def _follows(self, state: State, run: Sequence[Anchor], rowid: int, edited: float) -> tuple[bool, int]:
        """Whether rows up to a rowid are a run of delivered ones, of which none was deleted, and how many they are."""
        # 0 where others are among them. A long run was cut off, so rows before it are known no more.
        rows = [*self.rows(f"{self.rowid} <= {rowid}", CLOSE_ANCHORS + 1)]
        left, others, gone = [*run], 0, 0
        for number, (_, values) in enumerate(rows):
            place = next((i for i, anchor in enumerate(left) if self._look(state, anchor, values).is_whole), None)
            if place is None and not edited:
                return not gone and not left, number if len(state.anchors) >= CLOSE_ANCHORS else 0
            others, gone = others + int(place is None), gone + (place or 0)
            left = left if place is None else left[place + 1 :]
        return not gone and not others, len(rows) - others if others <= edited * len(rows) else 0

    def looks(self, state: State) -> tuple[list[Look], dict[str, str]]:
        """A look at the row at each anchor's rowid, where there is one, by columns that are paired so."""
        by_rowid = {anchor.rowid: anchor for anchor in state.anchors}
        rows = [*self.rows(f"{self.rowid} IN ({', '.join(map(str, by_rowid))})", len(by_rowid))]
        # Columns may have been renamed where most rows are whole then.
        renamed, named = (self.pairs(state, is_renamed) for is_renamed in (True, False))
        looks = [self._look(state, by_rowid[rowid], values, renamed) for rowid, values in rows]
        if renamed == named or 2 * sum(look.is_whole for look in looks) > len(looks):
            return looks, renamed
        return [self._look(state, by_rowid[rowid], values, named) for rowid, values in rows], named

    def pairs(self, state: State, is_renamed: bool = False) -> dict[str, str]:
        """For each part of a row that anchors know the one that it is now."""
        return paired(tuple(state.columns), tuple(self.parts), self.table.key, is_renamed)

    def _look(self, state: State, anchor: Anchor, values: Sequence[str], so: Mapping[str, str] | None = None) -> Look:
        """How much of an anchor's row is in another, by the columns that the table had then and has now."""
        time, encoding = time_in_row(self.table, values), self.table.encoding
        moment = None if anchor.time == time else time_of(anchor.time, self.form)
        is_same_time = anchor.time == time or (moment is not None and moment == time_of(time, self.form))
        is_on_time = is_same_time and anchor.time != "NULL"
        if not anchor.digest or not state.columns:  # Of 1.0.0, maybe of the first columns that there are now.
            so_far = itertools.accumulate(old_quote(value, encoding) for value in values)
            is_whole = anchor.digest in (digest_of(quotes, encoding) for quotes in so_far)
            return Look(anchor.rowid, anchor.time, is_whole, is_on_time)
        then, now = anchor.parts(state.columns), dict(zip(self.parts, digests_of(values), strict=True))
        pairs, (key, known) = self.pairs(state) if so is None else so, (self.table.key, self.table.time)
        alike = [name for name, new in pairs.items() if then[name] == now[new] or (is_on_time and new == known)]
        others = {name for name, new in pairs.items() if new not in (key, known)}
        told = tuple((name, then[name]) for name in alike if name in others)
        is_whole = bool(pairs) and len(alike) == len(pairs) and (is_same_time or not time_column_now(state, self.table))
        is_but_time = bool(others) and others <= set(alike)
        telling = others if anchor.time == "NULL" else {name for name, new in pairs.items() if new != key}
        is_other = is_same_time and not is_whole
        is_like = is_other and comes_back(state, anchor, telling & set(alike), len(telling))
        return Look(anchor.rowid, anchor.time, is_whole, is_on_time, told, is_but_time, is_like)

    def rows(self, where: str, most: float = math.inf) -> Iterator[tuple[int, list[str]]]:
        """Rowid and values, as `row_content` has them, of the rows that meet a condition, highest rowid first."""
        values, below = f"{self.rowid}, {row_content(self.table.telling)}", ""
        limit = min(most, 1 if most == 1 else fitting_rows(self.reader.bytes_per_row) // 4 or 1)
        while most > 0:
            rows = self.reader.select(values, f"WHERE {where} {below} ORDER BY {self.rowid} DESC LIMIT {limit}")
            yield from ((rowid, content.split(",")) for rowid, content in rows)
            if len(rows) < limit:
                return
            below, most = f"AND {self.rowid} < {rows[-1][0]}", most - len(rows)


def submitted(pool: ThreadPoolExecutor, work: Callable[..., T], *given: Any) -> Future[T]:
    """What a thread makes of it; a `TransientError` where the machine lets none begin."""
    try:
        return pool.submit(work, *given)
    except RuntimeError as error:
        hint = "Raise the limit of this service's tasks (TasksMax, --pids-limit, ulimit -u), or of its memory."
        raise TransientError(f"no thread can be begun: {error}", hint) from None


@dataclasses.dataclass
class Pace:
    """Reads ranges of rowids, as many `page_rows` at once as seem right by what was read before."""

    reader: Reader
    page_rows: int
    apart: float | None = None  # how far rowids are apart; None where it has to be looked up where so many rows end

    def groups(self, first: int, last: int) -> Iterator[list[RawPage]]:
        """The pages of some parts of a range, read side by side; the next ones are begun when all of these are done."""
        with ThreadPoolExecutor(READERS) as pool:
            while (begin := first) <= last:
                parts, pages = [*itertools.islice(self._parts(first, last), PARTS)], list[RawPage]()
                reads = [submitted(pool, self._part, *part) for part in parts]
                # So a producer without WAL gets its turn to write: a process with a read lock may take another one even
                # where a writer waits (os_unix.c, unixLock).
                wait_for(reads)
                for (_, high), read in zip(parts, reads, strict=True):
                    page, end = read.result()
                    pages, first = [*pages, page], end + 1
                    if end < high:  # More rows than were foreseen: what is behind is read anew.
                        break
                self._learn(pages, len(parts), first - begin)
                yield [page for page in pages if page.keys]

    def _parts(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts of a range, each of so many rows, or fewer."""
        while first <= last:
            if self.apart is None:
                end = self.reader.nth(first, last, self.page_rows)
            else:  # Of rowids with gaps somewhat fewer: where a part has more, those behind it are read in vain.
                end = min(last, first + int(self.page_rows * max(1.0, 0.9 * self.apart)) - 1)
            yield first, end
            first = end + 1

    def _part(self, first: int, last: int) -> tuple[RawPage, int]:
        """A page of the first rows of a range, and the rowid up to which these are all."""
        rows, rowid = self._fitting(first, last), self.reader.rowid
        try:
            where = f"WHERE {rowid} BETWEEN {first} AND {last}"
            page, rows = self.reader.first_rows(where, rowid, rows, rowid)
        except CorruptError as error:
            error.good = first - 1
            raise
        # Fewer rows might be found behind those that are out of order, and they be missed.
        keys = [first - 1, *page.keys, last + 1]
        if sorted({*keys}) != keys:
            raise out_of_order(self.reader.table.name, first)
        return page, page.keys[-1] if len(page.keys) == rows else last

    def _fitting(self, first: int, last: int) -> int:
        """How many rows to read of a range: fewer where these are larger than those before."""
        rows, rowid = self.page_rows, self.reader.rowid
        if not self.reader.is_large:
            return rows
        # A look at 64 places tells where they are small.
        with contextlib.suppress(CorruptError):
            places = ", ".join(map(str, range(first, last + 1, (last - first) // 64 + 1)))
            count, size = self.reader.extent(f"WHERE {rowid} IN ({places})")
            if count <= 32 or rows * size >= 2 * PAGE_BYTES * count:
                return self.reader.fitting(f"WHERE {rowid} BETWEEN {first} AND {last} ORDER BY {rowid}", rows)
        return rows

    def _learn(self, pages: Sequence[RawPage], parts: int, span: int) -> None:
        """Foresee what comes by what was found in so many parts, of so many rowids."""
        count = sum(len(page.keys) for page in pages)
        self.apart = span / count if 2 * count >= parts * self.page_rows else None
        if count:
            self.page_rows = part_rows(sum(page.nbytes for page in pages) / count)


END: Any = object()


def prefetched(items: Iterator[T]) -> Generator[T]:
    """The same items, each but the first made in another thread while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        item = next(items, END)
        while item is not END:
            upcoming = submitted(pool, next, items, END)
            yield item
            item = upcoming.result()


def times_in(page: RawPage, column: str, form: TimeForm) -> list[int | None]:
    """The time of each row of a page; None where it can't be read."""
    array, _ = convert(page.columns[column], "timestamp", form)
    return list(array.cast(arrow_type("bigint")).to_pylist())


def is_shuffled(reader: Reader, form: TimeForm) -> bool | None:
    """Whether a producer seems to set the rowids itself, in no order: random keys, or a range of keys for each sensor.

    Then wide gaps between rowids take up half of the places that are looked at, and times are in no order either, by
    each column that may be the time. Where SQLite gives the next higher one, a gap is what was deleted, and late rows
    are late by less than the table spans. Keys that are times are in order. None where far keys and no column tell.
    """
    table = reader.table
    with contextlib.suppress(CorruptError):  # What stands before a damaged page is delivered.
        first, last = reader.bounds() if table.key else (None, 0)
        if first is None or all(is_plausible(to_microseconds(max(0, key), AUTO), time.time()) for key in (first, last)):
            return False
        pairs = reader.neighbours(first, last)
        wide = [pair for pair in pairs if pair[1] - pair[0] >= FAR_APART]
        is_sparse, columns = 2 * len(wide) > len(pairs), [table.time] if table.time else table.doubtful
        if table.autoincrement and len(set(wide)) < 4:  # Its counter goes on beyond what was deleted: rows may be late.
            return False
        if not columns:
            return None if is_sparse else False
        page = rows_at(reader, [(first, last), *pairs], columns)
        times = [times_in(page, each, form) for each in columns]
        counts = [*map(falls_in, times)]
        # Falling keys may be dense; but SQLite begins with 1, and rows may have come newest first.
        is_falling = first != 1 and all(4 * falls >= 3 * told >= 84 for falls, told in counts)
        is_turned = all(turns_once(page.keys, each) for each in times)
        return is_falling or is_turned or (is_sparse and all(6 * falls >= told > 0 for falls, told in counts))
    return False


def rows_at(reader: Reader, pairs: Iterable[tuple[int, int]], columns: Iterable[str]) -> RawPage:
    """The rows at some pairs of rowids, in order, with some of the columns."""
    wanted = {*itertools.chain.from_iterable(pairs)}
    where = f"WHERE {reader.rowid} IN ({', '.join(map(str, wanted))})"
    return reader.narrowed(columns).page(where, reader.rowid, len(wanted), reader.rowid)


def turns_once(keys: Sequence[int], times: Sequence[int | None]) -> bool:
    """Whether times rise but for one fall, and the last ones lead up to the first: slots of a ring, filled in turn."""
    known = [(key, time) for key, time in zip(keys, times, strict=True) if time is not None]
    falls = sum(before[1] > after[1] for before, after in itertools.pairwise(known))
    different = {time for _, time in known}
    if falls != 1 or len(known) < 16 or 2 * len(different) < len(known):
        return False
    (low, first), (high, last) = known[0], known[-1]
    # Where a clock was set back the last ones lead there by chance alone, as seldom as within four steps.
    return 0 <= first - last <= 4 * (max(different) - min(different)) / (high - low)


def is_ring(reader: Reader, form: TimeForm) -> bool:
    """Whether rows are written anew in turn, with later times, by some of them."""
    first, last = reader.bounds()
    if first is None or reader.table.time is None:
        return False
    page = rows_at(reader, [(first, last), *reader.neighbours(first, last)], [])
    return turns_once(page.keys, times_in(page, reader.table.time, form))


def falls_in(times: Sequence[int | None]) -> tuple[int, int]:
    """How many pairs of times are in falling order, and how many are different."""
    pairs = list(itertools.combinations((time for time in times if time is not None), 2))
    return sum(before > after for before, after in pairs), sum(before != after for before, after in pairs)


class Search(NamedTuple):
    """What became of a table that is known, by other names too: the search for it in the one that is here now."""

    here: Anchored
    origin: Origin
    claims: Callable[[], Iterable[Claim]] = tuple

    def followed(self, state: State) -> State:
        """The state after its file, the schema or the newest delivered row has changed."""
        state = self._as_seen(state)
        known = self.judged(Claim(place_of(state)), state, is_own=True)
        evidence, moved = known.evidence, known.moved
        is_refilled = evidence.is_same_file and evidence.looks and not evidence.counts_on
        # A file that was away may be back, edited; a table that was made anew changes its schema.
        is_emptied = state.emptied and not (state.ended == GONE and state.origin == self.origin)
        if is_emptied and is_refilled and self.here.table.time is None:  # Equal rows came in anew, as into a queue.
            moved, evidence = None, evidence._replace(looks=[look._replace(is_whole=False) for look in evidence.looks])
        is_gone = moved is None and not evidence.whole
        own = known if is_gone else known._replace(is_sure=True)
        if (is_gone or state.origin != self.origin) and (before := self.best(own)) is not state:
            return self.followed(before)
        if moved == read_to(state.position) or not state.anchors:
            return state
        if moved is not None:
            refuse_part(state)
            as_moved = moved_to(state, moved, "rows were renumbered, as VACUUM does")
            return self._anchored(dataclasses.replace(as_moved, anchors=[]))
        is_other = is_gone and is_emptied
        kept = set[int]() if is_other else evidence.kept()
        if kept is None and (evidence.is_retimed or not is_renamed(self.here.reader.database, self.elsewhere(state))):
            raise other_rows(self.here.table)
        if not kept and (is_other or evidence.looks or evidence.highest == 0 or evidence.is_later):
            self.say_gone(state)
            return made_anew(state, evidence)
        is_cut_back = not evidence.counts_on or self._is_overtaken(state, evidence, kept or ())
        return self._cut_back(state, evidence, kept or set()) if is_cut_back else state

    def best(self, known: Found) -> State:
        """The state in the table that is here, where that is another one than it knows, or was sent further since.

        Where its own place, which is `known`, is whole, a further one of the same table counts alone. The surest table
        counts, and of its places the furthest, that of the other stream where two are as far: its windows went on
        there. Where another table has the rows, these are a copy. Nothing is renamed without a change of the schema.
        """
        state, own = known.state, known.claim.place["lineage"]
        if "since" in state.position:  # A person said where to begin.
            return state
        claims = [*map(Claim, state.formers), *(self.claims() if state.origin != self.origin else ())]
        claims = [claim for claim in claims if not known.is_sure or claim.place["lineage"] == own]
        found = [known, *(self.judged(claim, back_in(state, claim, self.origin)) for claim in self.likely(claims))]

        def rank(each: Found) -> tuple[bool, bool, int, int, bool]:
            lineage, closed = each.claim.place["lineage"], each.claim.place["position"].get("closed") or 0
            is_sure = any(other.is_sure for other in found if other.claim.place["lineage"] == lineage)
            return is_sure, lineage == own, each.end, closed, each is known or each.claim.table != ""

        for each in itertools.takewhile(lambda each: each is not known, sorted(found, key=rank, reverse=True)):
            if each.is_sure and self.elsewhere(each.state) is None and each.claim.settle():
                name = each.claim.table
                log.warning("%s %s", state.table, f"was {name}: going on there" if name else "is what it was before")
                if lineage_of(each.state) != own:
                    self.say_gone(state)
                return each.state
        return state

    def likely(self, claims: Sequence[Claim]) -> list[Claim]:
        """Those of which a row may be here, by the times of some of them: one look for all."""
        table = self.here.table
        if table.time is None or not claims:
            return []
        lines = (claim.place["anchors"] for claim in claims)
        some = [[Anchor.of(line) for line in (*each[::3], *each[-1:])] for each in lines]
        wanted = {str(each.rowid) if table.key else each.time for anchors in some for each in anchors}
        where = f"WHERE {self.here.rowid if table.key else cell(table.time)} IN ({', '.join(wanted)})"
        found = self.here.reader.select(f"DISTINCT {row_content([table.time])}", where)
        times = {literal_of(content, table.encoding) for (content,) in found}
        return [claim for claim, anchors in zip(claims, some, strict=True) if times & {a.time for a in anchors}]

    def judged(self, claim: Claim, state: State, is_own: bool = False) -> Found:
        """A place with the evidence that there is for it; an own one in another order is an error."""
        moved, is_told = None, is_own or len({anchor.time for anchor in state.anchors}) > 1
        if is_told and not self.here.table.key and state.origin != self.origin:  # Rowids may have been given anew.
            with contextlib.suppress(*([] if is_own else [SourceError])):
                moved = self.here.moved(state)
        evidence, is_cut = self.evidence(state), not {*state.columns} <= {*self.here.parts}
        return Found(claim, state, evidence, moved, evidence.is_proof(is_cut) or not (moved is None or is_cut))

    def evidence(self, state: State) -> Evidence:
        table, origin = self.here.table, self.origin
        (looks, pairs), (first, highest) = self.here.looks(state), self.here.reader.bounds()
        is_same_file = origin.file == state.origin.file if state.origin else None
        changes = origin.schema - state.origin.schema if state.origin else 0
        counted = f"SELECT seq FROM sqlite_sequence WHERE name = {text_literal(table.name)}"
        (counter,), *_ = (self.here.reader.database.rows(counted) or [(0,)]) if table.autoincrement else [(None,)]
        is_later = self.here.is_later(state.anchors, [look.rowid for look in looks] or [first or 0, highest])
        left = sum((first or 0) <= anchor.rowid <= highest for anchor in state.anchors)
        shared = [name for name, new in pairs.items() if new != table.key]
        rows = [(each.time if table.time else "", each.parts(state.columns)) for each in state.anchors if each.digest]
        several, twins = pairs_and_twins((time, *map(parts.get, shared)) for time, parts in rows if parts)
        is_other = len(pairs) < min(len(state.columns), len(self.here.parts))
        place, told = read_to(state.position), [name for name in shared if pairs[name] != table.time]
        likeness = chance_of(*pairs_and_twins(tuple(map(parts.get, told)) for _, parts in rows if parts))
        times = (time_of(anchor.time, self.here.form) for anchor in state.anchors if anchor.time != "NULL")
        return Evidence(
            looks, place, highest, is_same_file, changes, counter, is_later, left, several, twins, is_other, likeness,
            is_unset=all(time is not None and time < CLOCK_UNSET for time in times),
        )  # fmt: skip

    def _anchored(self, state: State) -> State:
        """The state with anchors at the newest rows up to its position, besides its own where columns are the same."""
        first, last, parts = self.here.reader.bounds()[0] or 0, read_to(state.position) or 0, self.here.parts
        anchors = thinned(self.here.anchors(first, last), state.anchors if state.columns == parts else [])
        return dataclasses.replace(state, anchors=anchors, columns=parts)

    def _as_seen(self, state: State) -> State:
        """The state where a cycle saw the table end, unless rows that were behind that are there again."""
        if (end := state.ended) is None or state.emptied:
            return state
        first, times = self.here.reader.bounds(end)[0], {anchor.time for anchor in state.anchors} - {"NULL"}
        # Of a copy there may be rows of which none is an anchor: they are no later.
        is_back = first is not None and len(times) > 1 and not self.here.is_later(state.anchors, [first])
        seen = moved_to(state, end, "as was seen before")
        known, left = (self.judged(Claim(place_of(each)), each) for each in (state, seen))
        # Of few values some rows are equal by chance, the fewer the more.
        sides = itertools.groupby(sorted(known.evidence.looks), lambda look: look.rowid > end)
        is_there = {side: bool(known.evidence._replace(looks=[*looks]).whole) for side, looks in sides}
        # Where rows were renumbered, or none that was left is there for certain, all that is known tells more.
        is_open = known.moved is not None or (left.moved is None and not is_there.get(False))
        return dataclasses.replace(state, ended=None) if is_back or is_open or is_there.get(True) else seen

    def _is_overtaken(self, state: State, evidence: Evidence, kept: Iterable[int]) -> bool:
        """Whether AUTOINCREMENT counted up to the position twice, as in an older copy: several rows are others."""
        others = [look for look in evidence.looks if look.rowid > max(kept, default=0)]
        # A rebuild sets the counter back. In the same file one row alone may be edited, or times alone.
        few = int(evidence.is_same_file is not False)
        is_other = len(others) > few and not any(look.is_but_time for look in others)
        return is_other and (evidence.changes > 0 or self.here.is_later(state.anchors, [look.rowid for look in others]))

    def _cut_back(self, state: State, evidence: Evidence, kept: set[int]) -> State:
        """The state where the table is the same, but its newest rows may have gone, their rowids used again."""
        known, position = max(kept, default=0), evidence.position
        replaced = [look.rowid for look in evidence.looks if look.rowid > known]
        if state.anchors[0].rowid in kept or not (replaced or position is None or evidence.highest < position):
            return state
        if not replaced and evidence.highest > known and self.here.is_later(state.anchors, [evidence.highest]):
            replaced = [evidence.highest]  # So many were deleted that no anchor is where new ones came in.
        upper = min(replaced, default=evidence.highest + 1)
        unknown = self.here.rows(f"{self.here.rowid} BETWEEN {known + 1} AND {upper - 1}", 1)
        if kept and not (replaced and any(unknown)):
            end, why = known if replaced else evidence.highest, "its newest rows were taken away"
            is_told = end == known or len({anchor.time for anchor in state.anchors[:CLOSE_ANCHORS]}) > 1
            why += "" if is_told else ", and others in their place, if any, are passed over"
            return self._anchored(dataclasses.replace(moved_to(state, end, why), ended=end))
        fault = f"{self.here.table.name} was restored from an older copy, and new rows came in since: "
        fault += f"which of the rows {known + 1} to {upper - 1} were delivered can't be told"
        hint = "Find out where they end, then use --since TIMESTAMP" if self.here.table.time else SEND_ALL
        raise SourceError(fault, f"{hint}; the state is untouched.")

    def elsewhere(self, state: State) -> str | None:
        """Another table that has the rows of a state, if there is one; a table's name may be empty."""
        database, time, own = self.here.reader.database, self.here.table.time, Claim(place_of(state))
        for name, kind in database.kinds.items():
            if kind == "table" and name != self.here.table.name:
                with contextlib.suppress(SourceError):  # It is damaged, or no such table.
                    table = describe(database, name, "none")
                    table = table._replace(time=time if time in table.columns else None)
                    there = Search(Anchored(Reader(database, table), self.here.form), self.origin)
                    if any(there.judged(claim, state).is_sure for claim in there.likely([own])):
                        return name
        return None

    def say_gone(self, state: State) -> None:
        """Say where rows of open windows are whose table is here no more. Of an emptied one it was said before."""
        if (held := held_rows(state.position)) and state.ended != NOWHERE:
            if (name := self.elsewhere(state)) is not None:
                log.info("%s of windows that were open are in %s now", counted(held, "row"), name)
            else:
                log.warning("%s of windows that were open gone with the old file", counted(held, "row"))


class RowidCursor(Anchored):
    """New rows are those with a higher rowid than any delivered before."""

    kind = "rowid"

    def __init__(
        self, reader: Reader, up_to: int | None = None, is_trusted: bool = False, form: TimeForm = AUTO
    ) -> None:
        super().__init__(reader, form)
        self.up_to = up_to
        self.is_trusted = is_trusted
        self.is_rewritten = False

    def start(self, since: int | None) -> Position:
        """The position of a first run; rows up to the rowid `until` with times up to `since` (µs) are not new."""
        if since is None:
            return {"rowid": None}
        self.table.required_time  # noqa: B018 - an error where there is none
        return {"rowid": None, "since": since, "until": self.reader.bounds()[1]}

    def located(self, state: State) -> State:
        """The same; an error for rows where there were none, unless the settings say that keys rise."""
        with contextlib.suppress(CorruptError):
            self.is_rewritten = self._has_later(state)
            if self.is_rewritten and not self.is_trusted and is_ring(self.reader, self.form):
                raise passed_over(self.table)
        known = super().located(state)
        self.is_rewritten |= self.table.time is None and self._is_edited(state, known)
        with contextlib.suppress(CorruptError):
            if not self.is_trusted and self._has_filled(known.gaps):
                raise passed_over(self.table)
        return known

    def _is_edited(self, then: State, now: State) -> bool:
        """Whether all known rows are taken for delivered ones, but none is as it was: they may have come anew."""
        digests = {anchor.rowid: anchor.digest for anchor in then.anchors}
        pairs = [(digests[anchor.rowid], anchor.digest) for anchor in now.anchors if anchor.rowid in digests]
        is_same = (then.epoch, then.columns) == (now.epoch, now.columns)
        # AUTOINCREMENT would have given those other rowids, unless the table was dropped.
        is_open = is_same and not (self.table.autoincrement and then.origin == now.origin)
        return is_open and len(pairs) > 1 and all(before != after for before, after in pairs)

    def _has_filled(self, gaps: Iterable[Sequence[int]]) -> bool:
        """Whether rows are where there were none."""
        places = (f"{self.rowid} > {low} AND {self.rowid} < {high}" for low, high in gaps)
        found = any_of(f"EXISTS (SELECT 1 FROM {quoted(self.table.name)} q WHERE {place})" for place in places)
        return found != "0" and self.reader.database.rows(f"SELECT {found}") != [(0,)]

    def _has_later(self, state: State) -> bool:
        """Whether the oldest row that is known has a later time than all had, as in a ring."""
        oldest = [anchor.rowid for anchor in state.anchors[1:][-1:]] if self.table.time else []
        is_there = oldest and self.reader.select("1", f"WHERE {self.rowid} = {oldest[0]}")
        return bool(is_there) and self.is_later(state.anchors, oldest)

    def gaps(self, low: int | None, first: int | None, last: int) -> list[list[int]]:
        """Where no row is between a rowid and `first`, and to `last`; none without a key, since VACUUM moves rows."""
        with contextlib.suppress(CorruptError):
            if first is not None and self.table.key:
                pairs = {(-(2**63) if low is None else low, first), *self.reader.neighbours(first, last)}
                return [[low, high] for low, high in pairs if high - low > 1]
        return []

    def bounds(self, low: int | None) -> tuple[int | None, int]:
        """The lowest rowid over `low` and the highest, of the rows that were there when this cycle looked first."""
        first, last = self.reader.bounds(low)
        # Else a table that is written to all the time would be sent in ever smaller commits.
        self.up_to = last = last if self.up_to is None else min(last, self.up_to)
        return None if first is None or first > last else first, last

    def next_batch(self, position: Position, size: Callable[[], int]) -> Batch | None:
        """The next rows after `position`, None where there are none: a range of rowids with up to `size` rows."""
        first, last = self.bounds(position["rowid"])
        if first is None or not (anchors := self.anchors(first, self.reader.nth(first, last, size()))):
            return None
        # Rows behind may have been deleted since the look at the bounds: their rowids are given anew. What did not go
        # may have been larger: the last one before this batch counts.
        high, before = anchors[0].rowid, [each for each in self.newest if each.rowid < first][-1:]
        self.newest = [*self.newest, *anchors[:1]]
        after = without_keys(position, "since", "until") if high >= position.get("until", high) else position
        pages, gaps = functools.partial(self._steady, first, before, anchors), self.gaps(position["rowid"], first, high)
        return Batch({**after, "rowid": high}, anchors, pages, last - first + 1, gaps)

    def waiting(self, position: Position) -> tuple[int | None, int | None]:
        """How many rows come after a position, and their earliest time (microseconds), None where none is known."""
        low = read_to(position)
        if not (count := self.count_after(low)) or self.table.time is None:
            return count, None
        page = self.reader.narrowed([]).page(self.reader.after(low), self.rowid, 100, self.rowid)
        times = times_in(page, self.table.time, self.form)
        return count, min((time for time in times if time is not None), default=None)

    def bytes_per_row(self, position: Position) -> float:
        """How large rows are after a position: in a large file the next ones tell, since they may be larger."""
        usual = self.reader.bytes_per_row
        if self.reader.is_large:
            with contextlib.suppress(CorruptError):
                count, size = self.reader.extent(f"{self.reader.after(position['rowid'])} LIMIT {PAGE_ROWS}")
                usual = max(usual, size / max(1, count))
        return usual

    def count_after(self, low: int | None) -> int:
        """How many rows have a higher rowid. Of more than `COUNTED_ROWS` it is guessed how many, by their density."""
        rows = f"{quoted(self.table.name)} q {self.reader.after(low)} ORDER BY {self.rowid} LIMIT {COUNTED_ROWS}"
        counts = f"SELECT count(*), max(key) FROM (SELECT {self.rowid} AS key FROM {rows})"
        [(count, end)] = self.reader.database.rows(counts)
        if count < COUNTED_ROWS:
            return int(count)
        first, last = self.reader.bounds(low)
        return int(1 + (count - 1) * (last - (first or 0)) // (end - (first or 0)))

    def again(self, position: Position, after: Position) -> Iterator[RawPage]:
        """The rows of the batch that led from one position to the other, as far as they are still there."""
        first, last = self.reader.bounds(position["rowid"])[0], after["rowid"]
        if first is not None and last is not None:
            yield from self.pages(first, last)

    def refuse_others(self, first: int, before: Sequence[Anchor], anchors: Sequence[Anchor]) -> None:
        """An error where rows from `first` on gave way to others since, moved, or are still written, by the newest."""
        now, places = origin_of(self.reader.database), [f"= {each.rowid}" for each in before or anchors[-1:]]
        places += [f"BETWEEN {first} AND {each.rowid}" for each in anchors[:1]]
        found = [anchor for place in places for anchor in self._anchors(f"{self.rowid} {place}", 1)]
        told = operator.attrgetter("rowid", "time" if now == self.origin else "digest")
        others = [row for row in found if told(row) not in {*map(told, [*before, *anchors])}]
        if others and others == found[1:] and now == self.origin and others[0].rowid == anchors[0].rowid > first:
            raise StillWritten(f"row {others[0].rowid} is written while it is read", "The next cycle goes on.")
        if others or not (now == self.origin or len(found) == 2):
            raise TransientError("rows were deleted or moved while they were read", "The next cycle goes on.")

    def _steady(self, first: int, before: Sequence[Anchor], anchors: Sequence[Anchor]) -> Iterator[RawPage]:
        yield from self.pages(first, anchors[0].rowid)
        self.refuse_others(first, before, anchors)

    def pages(self, first: int, last: int, reader: Reader | None = None) -> Iterator[RawPage]:
        """The rows of a range of rowids, in order, each page in a transaction of its own."""
        reader = reader or self.reader
        pace = Pace(reader, part_rows(reader.bytes_per_row))
        for pages in prefetched(pace.groups(first, last)):
            yield from pages


# Values from `low` on and below `high`, None for no limit, that fulfil a condition in SQL, or none.
Span = tuple[Value | None, Value | None, str]


def raw_order(value: Value, encoding: str) -> tuple[int, Any]:
    """A key that sorts values as SQLite does under the collation BINARY: numbers, texts, blobs."""
    if isinstance(value, (int, float)):
        return 0, value
    return (1, value.encode(encoding)) if isinstance(value, str) else (1 + (type(value) is bytes), bytes(value))


def raw_literal(value: Value, encoding: str) -> str:
    """A value in SQL; a text without an affinity, which would turn the numbers of a column into texts."""
    if isinstance(value, float):
        return float_literal(value)
    if isinstance(value, int):
        return str(value)
    blob = f"x'{raw_order(value, encoding)[1].hex()}'"
    return blob if type(value) is bytes else f"(CAST({blob} AS TEXT) || '')"


def float_literal(value: float) -> str:
    """A double in SQL, out of whole numbers: SQLite reads some decimals as the double beside."""
    if math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    fraction, exponent = math.frexp(value)
    sign, (steps, rest) = "*" if exponent > 53 else "/", divmod(abs(exponent - 53), 62)
    return f"({int(fraction * 2**53)} * 1.0{f' {sign} {2**62}' * steps} {sign} {2**rest})"


def raw_spans(column: str, oldest: int, form: TimeForm, is_scan: bool = False) -> list[Span]:
    """Where in a column times from `oldest` (microseconds) on may be, and what is no time, in SQLite's order.

    Other values may be there too: the time itself decides. Left out are digits in texts for the years 2286 to 2529, and
    of what is no time what looks like the date of an earlier day.
    """
    if oldest <= -(10**16) or "%" in form.name:
        return [(None, None, "")]
    if form.name != "auto":
        return format_spans(column, oldest, form)
    return [*number_spans(oldest), *text_spans(column, oldest, form.zone, is_scan)]


def format_spans(column: str, oldest: int, form: TimeForm) -> list[Span]:
    """Numbers of one format from a second before `oldest` on, texts save earlier digits, and what is no time."""
    low = form.number(oldest - 10**6)
    digits = f"{column} GLOB '[0-9]*' AND {column} NOT GLOB '*[^0-9.]*' AND {column} NOT GLOB '*.*.*'"
    texts = f"NOT ({digits} AND CAST({column} AS REAL) < {raw_literal(low, 'utf-8')})"
    return [(None, form.number(FIRST_TIME), ""), (low, "", ""), ("", b"", texts), (b"", None, "")]


def number_spans(oldest: int) -> list[Span]:
    """Numbers of each unit from `oldest` on, and those that are no times; as texts the limits sort below all dates."""
    if oldest <= -(10**14):  # Before 1966 negative numbers have several units.
        return [(None, "", "")]
    limits = [limit for limit, _ in EPOCH_UNITS]
    lows = (oldest // NUMBER_FORMATS[name][0] - 1 for _, name in EPOCH_UNITS)
    *starts, last = map(max, lows, [-limits[0], *limits])
    units: list[Span] = [(low, limit, "") for low, limit in zip(starts, limits, strict=False) if low < limit]
    return [(None, -(2**63) + 1, ""), *units, (last, "", "")]


def text_spans(column: str, oldest: int, zone: ZoneInfo, is_scan: bool) -> list[Span]:
    """Texts from a day before `oldest` on, since zones differ, where SQLite reads no earlier time, and other forms."""
    day, after = (moment_of(oldest + spread).date() for spread in (-ZONE_SPREAD, 2 * ZONE_SPREAD))
    week = day.isocalendar()  # In the first days of a year it is one of the year before.
    first, later = min(day.isoformat(), f"{week.year:04}-W{week.week:02}"), after.isoformat()
    if oldest < 10**15:  # Before 2001 digits have various lengths, and may be taken for days of the Julian calendar.
        return [("", first, f"substr({column}, 5, 1) <> '-'"), (first, None, "")]
    seconds = oldest // 10**6 - 1
    earliest = str(seconds)
    if zone.key != "UTC":
        local = int(moment_of(oldest).astimezone(zone).replace(tzinfo=dt.UTC).timestamp()) - CLOCK_SHIFT // 10**6
        zoned = f"{column} GLOB '*[Zz]' OR {column} GLOB '*[+-][0-9][0-9]:[0-9][0-9]'"
        earliest = f"CASE WHEN {zoned} THEN {seconds} ELSE {local} END"
    exact = f"coalesce(unixepoch({column}), {2**62}) >= {earliest}"
    return [*odd_text_spans(column, str(seconds), first, is_scan), (first, later, exact), (later, None, "")]


def odd_text_spans(column: str, digits: str, day: str, is_scan: bool) -> list[Span]:
    """Texts below that of a day that are no dates: digits from `digits` on, and no digit among the first three."""
    # The ! keeps SQLite from taking a limit for a number. An index finds those of each year, in a scan one condition.
    spans: list[Span] = [(f"{head - 1}:" if head > 10 else "", f"{head}0!", "") for head in range(10, int(day[:2]) + 1)]
    years = range(int(digits[:4]), int(day[:4]))
    if is_scan and years:
        return [*spans, (f"{digits}!", f"{years[-1]}:", f"substr({column}, 5, 1) BETWEEN '.' AND '9'")]
    return sorted(spans + [(max(digits, f"{year}.") + "!", f"{year}:", "") for year in years])


@dataclasses.dataclass
class Walk:
    """A way through the new rows of a pass, page by page, and what comes next."""

    position: Position
    pages: Iterator[RawPage]
    next: RawPage | CorruptError | None = None
    is_whole: bool = False

    def taken(self, size: Callable[[], int]) -> list[RawPage]:
        """The next rows, as many as `size` says; it is asked where there are any. Then `next` is what comes after.

        A damaged page of the database is an error once the rows before it were taken.
        """
        parts, left = list[RawPage](), -1
        self.next = self.next or self._upcoming()
        if isinstance(self.next, CorruptError):
            raise self.next
        while isinstance(self.next, RawPage) and left and sum(part.nbytes for part in parts) < WALK_BYTES:
            left = min(size(), 50_000) if left < 0 else left
            page, count = self.next, len(self.next.keys)
            parts.append(page.only(range(left)) if count > left else page)
            self.next = page.only(range(left, count)) if count > left else self._upcoming()
            left -= len(parts[-1].keys)
        return parts

    def _upcoming(self) -> RawPage | CorruptError | None:
        try:
            return next(self.pages, None)
        except CorruptError as error:
            return error


class TimeColumn:
    """A table in the order of its time column, as SQLite has it: the order of values is not that of their times."""

    def __init__(self, reader: Reader, form: TimeForm) -> None:
        self.reader = reader
        self.table = reader.table
        self.form = form
        self.name = reader.table.required_time
        self.sql = cell(self.name)
        # In a view that unites texts with numbers a number as a limit may count as a text.
        self.is_united = reader.database.kinds[self.table.name] == "view" and reader.database.has_united

    def key(self, value: Any) -> tuple[int, Any]:
        """What a value of the column is sorted by."""
        return raw_order(value, self.table.encoding)

    def first(self, page: RawPage, value: Value | None) -> int:
        """The index of the first row of a page that is not before a value, or how many rows it has."""
        column, rows = page.columns[self.name], range(len(page.keys))
        return bisect.bisect_left(rows, self.key(value), key=lambda index: self.key(column.at(index)))

    def times(self, page: RawPage) -> list[int | None]:
        return times_in(page, self.name, self.form)

    def newest_times(self) -> list[int | None]:
        """The times of the last values, which may be numbers or texts."""
        reader, times = self.reader.narrowed([]), list[int | None]()
        for where in (f"{self.sql} < ''", f"{self.sql} >= ''"):
            page = reader.page(f"WHERE {where}", f"{self.sql} DESC", NEWEST_VALUES, row_content([self.name]))
            times += self.times(page)
        return times

    def where(self, span: Span) -> str:
        """A span as a condition."""
        low, high, more = span
        limits = ((sign, value) for sign, value in ((">=", low), ("<", high)) if value is not None)
        terms = [f"{self.sql} {sign} {raw_literal(value, self.table.encoding)}" for sign, value in limits]
        return " AND ".join([f"({more})", *terms] if more else terms) or f"{self.sql} IS NOT NULL"

    def spans(self, oldest: int) -> list[Span]:
        """Where new rows may be; those spans alone that have rows, or one where only looking at all rows can tell."""
        spans, name = raw_spans(f"q.{quoted(self.name)}", oldest, self.form), quoted(self.table.name)
        if len(spans) == 1:
            return spans
        plan = self.reader.database.rows(f"EXPLAIN QUERY PLAN SELECT 1 FROM {name} q WHERE {self.sql} >= 'x'")
        if any("SCAN" in str(step[-1]) for step in plan):  # All rows are looked at: the fewer conditions, the better.
            spans = raw_spans(f"q.{quoted(self.name)}", oldest, self.form, is_scan=True)
            return [(None, None, any_of(map(self.where, spans)))]
        looks = ", ".join(f"EXISTS (SELECT 1 FROM {name} q WHERE {self.where(span)})" for span in spans)
        [found] = self.reader.database.rows(f"SELECT {looks}")
        return list(itertools.compress(spans, found))

    def pages(self, spans: Iterable[Span], key: str, place: Value | None = None) -> Iterator[RawPage]:
        """All rows of some spans from a place on, in SQLite's order, each row once, under an expression `key`."""
        for span in self.rest_of(spans, place):
            yield from self._pages(span, key)

    def rest_of(self, spans: Iterable[Span], place: Value | None) -> Iterator[Span]:
        """The parts of spans from a place on; all of them where there is none."""
        for low, high, more in spans:
            if place is None or high is None or self.key(place) < self.key(high):
                low = max((each for each in (low, place) if each is not None), default=None, key=self.key)
                if high is None and self.is_united and isinstance(low, int | float | None):
                    yield low, "", more
                    low = ""
                yield low, high, more

    def is_indexed(self) -> bool:
        """Whether SQLite need not sort all rows for it."""
        asked = f"EXPLAIN QUERY PLAN SELECT 1 FROM {quoted(self.table.name)} q ORDER BY {self.sql}"
        return not any("TEMP B-TREE" in str(step[-1]) for step in self.reader.database.rows(asked))

    def count(self, spans: Iterable[Span], most: int) -> int:
        """How many rows are in some spans, at most so many."""
        rows = f"FROM {quoted(self.table.name)} q WHERE {any_of(map(self.where, spans))}"
        return int(self.reader.database.rows(f"SELECT count(*) FROM (SELECT 1 {rows} LIMIT {most})")[0][0])

    def _up_to(self, where: str, limit: int) -> str:
        """A further condition that holds for the first rows: SQLite would load all others, too, to sort them."""
        times = f"SELECT {self.sql} AS time FROM {quoted(self.table.name)} q {where} ORDER BY {self.sql} LIMIT {limit}"
        return f" AND {self.sql} <= (SELECT max(time COLLATE BINARY) FROM ({times}))"

    def _pages(self, span: Span, key: str) -> Iterator[RawPage]:
        rows, (low, high, more) = fitting_rows(self.reader.bytes_per_row), span
        is_large, ties = self.reader.is_large, collections.Counter[Any]()
        rows = min(rows, FIRST_ROWS) if is_large else rows
        is_indexed = not is_large or self.is_indexed()
        # Without an index each look costs a scan: one tells, where it is needed, whether there is what others are for.
        is_looked_at = is_large if is_indexed else None
        while True:
            count, where = sum(ties.values()), f"WHERE {self.where((low, high, more))}"
            limit = count + max(rows, count)
            if is_looked_at:
                limit = max(2 * count, self.reader.fitting(f"{where} ORDER BY {self.sql}", limit))
            end_of_page = self._up_to(where, limit) if is_looked_at and not is_indexed else ""
            page, limit = self.reader.first_rows(f"{where}{end_of_page}", self.sql, limit, key, count + 1)
            # A limit may count as a number beside numbers, as a text beside texts: what is beyond is left out.
            first = 0 if low is None else self.first(page, low)
            end = len(page.keys) if high is None else self.first(page, high)
            if fresh := [index for index in beyond(ties, page.keys, str) if first <= index < end]:
                yield page.only(fresh)
            if len(page.keys) < limit:
                return
            if is_looked_at is None:
                is_looked_at = self.reader.extent(where, WALK_BYTES // PAGE_ROWS)[1] > WALK_BYTES
            fitting = fitting_rows(page.nbytes / limit, PAGE_ROWS if is_indexed else SCANNED_ROWS)
            rows, low = min(4 * limit, fitting), page.columns[self.name].at(limit - 1)
            ties = collections.Counter(page.keys[self.first(page, low) :])


def record_of(moment: int | None, digests: str) -> str:
    """A row as a timestamp cursor knows it: its time, its digest and its key's, in hexadecimal digits."""
    return f"{0 if moment is None else moment + 2**63:016x}{digests}"


def time_in(record: str, unknown: int) -> int:
    """The time in a record, `unknown` where it could not be read."""
    moment = int(record[:16], 16)
    return moment - 2**63 if moment else unknown


def records_in(position: Position) -> collections.Counter[str]:
    """The records of the rows that a position remembers."""
    sent = position["pass"]["sent"] if position["pass"] else ""
    return unpacked(position["seen"], position["key"]) + unpacked(sent, position["key"])


def counts_in(position: Position) -> collections.Counter[str]:
    """How often each row that a position remembers was delivered."""
    return collections.Counter(record[16:32] for record in records_in(position).elements())


def old_records(position: Position) -> list[tuple[int, str, str]]:
    """Time, digest and key's digest of the rows that a position remembers; one of version 1.0.0 has no such records."""
    if isinstance(position["seen"], dict):
        seen = position["seen"].items()
        return [(latest_time(NEVER, time), digest, "") for digest, (count, time) in seen for _ in range(count)]
    return [(time_in(record, NEVER), record[16:32], record[32:]) for record in records_in(position).elements()]


def key_digest(values: Sequence[str], key: Sequence[int]) -> str:
    """A short digest of the values at some places; '' for none."""
    return digest_of(",".join(values[place] for place in key))[:8] if key else ""


def beyond(left: collections.Counter[Any], rows: Sequence[Any], told_by: Callable[[Any], Any]) -> list[int]:
    """The indexes of the rows that come more often than they were counted; those that come are counted down.

    Once all have come, the others are not told any more: digests are most of what a first load by time would cost.
    """
    found, counted = list[int](), sum(count for count in left.values() if count > 0)
    for index, row in enumerate(rows):
        if not counted:
            return [*found, *range(index, len(rows))]
        told = told_by(row)
        if left[told] > 0:
            left[told] -= 1
            counted -= 1
        else:
            found.append(index)
    return found


class Candidate(NamedTuple):
    """A row that a timestamp cursor finds: its time in microseconds, None where it can't be read, and its content."""

    time: int | None
    content: str

    def digest(self) -> str:
        return digest_of(self.content)


class RecordsOf(Sequence[str]):
    """The records of rows, each made when it is asked for: a quarantine names rows by them."""

    def __init__(self, rows: Sequence[Candidate], record: Callable[[Candidate], str]) -> None:
        self.rows = rows
        self.record = record

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.record(self.rows[index])


class Bridge(NamedTuple):
    """What tells a row by the columns that a table had before, and by those that it has now."""

    content: list[int]  # the places of the columns that are digested, where all are as they were
    key: list[int]  # else, beside the time, those of the key of then, if any
    fresh: list[str]  # new columns
    is_old: bool = False  # Digests are those of version 1.0.0.
    may_differ: bool = True  # Columns of the key have another type, or none.

    @staticmethod
    def between(position: Position, made_of: Position) -> Bridge:
        """From a position's columns to those of now."""
        names, kinds = [name for name, _ in made_of["columns"]], dict(made_of["columns"])
        if "columns" not in position:
            return Bridge([*range(len(names))], [], [], is_old=True)
        namesake = by_spelling(names)
        places = {old: names.index(found) for old, _ in position["columns"] if (found := namesake(old)) is not None}
        is_same = all(old in places and kinds[names[places[old]]] == kind for old, kind in position["columns"])
        fresh = [name for place, name in enumerate(names) if place not in places.values()]
        key = [places[old] for old in position["key"] if old in places]
        types = [kind for old, kind in position["columns"] if old in position["key"]]
        may_differ = not all(types) or types != [kinds[names[place]] for place in sorted(key)]
        key = key if len(key) == len(position["key"]) else []
        return Bridge([*places.values()] if is_same else [], key, fresh, may_differ=may_differ)

    def of_row(self, time: int, values: Sequence[str], encoding: str) -> Any:
        """What told a row before that has these values now."""
        if self.is_old:
            return digest_of("".join(old_quote(value, encoding) for value in values), encoding)
        if self.content:
            return digest_of(",".join(values[place] for place in self.content))
        return time, key_digest(values, self.key)


Groups = dict[Any, list[tuple[bool, str]]]  # by what told rows before: has one more than new columns' defaults; record


def recognised(groups: Groups, delivered: Mapping[Any, int], bridge: Bridge, times: set[int]) -> list[str] | None:
    """The records of the rows that were delivered, untouched ones before others; None where that can't be told."""
    found = list[str]()
    for before, rows in groups.items():
        here, count = sorted(rows), delivered.get(before, 0)
        # By times alone, new rows may stand for deleted ones.
        if count > len(here) and not (bridge.content or bridge.key):
            return None
        if 0 < count < len(here):
            is_touched, _ = here[count]
            if here[count - 1][0] == is_touched and len({row for row in here if row[0] == is_touched}) > 1:
                return None
        found += [record for _, record in here[:count]]
    # Where there are such times, but no such key, most likely the keys are written otherwise now, or the columns of
    # version 1.0.0 were others.
    is_open = bridge.may_differ and not found and (bridge.is_old or not bridge.content)
    now = (time_in(record, NEVER) for rows in groups.values() for _, record in rows)
    return None if is_open and times.intersection(now) else found


class Remembered:
    """A table whose delivered rows are known by records of those around the latest time; `lookback` is in seconds."""

    def __init__(self, reader: Reader, lookback: float, form: TimeForm) -> None:
        self.reader = reader
        self.table = reader.table
        self.lookback = round(lookback * 10**6) + (CLOCK_SHIFT if form.zone.key != "UTC" else 0)
        self.order = TimeColumn(reader, form)
        self.infos = reader.database.columns_of(self.table.name)
        key = [name for _, name in sorted((pk, name) for name, _, pk, *_ in self.infos if pk)]
        if not {*key} <= self.table.columns.keys() <= {name for name, *_ in self.infos}:
            raise TransientError(f"{self.table.name} was altered while it was looked at", "The next cycle goes on.")
        # Without a key that may be told, rows that differ in what is hidden alone could not be told apart.
        columns = self.table.telling if key and not self.table.private.intersection(key) else self.table.columns
        # The columns with their declared types, and those of the primary key.
        self.made_of: Position = {"columns": [[name, kind] for name, kind in columns.items()], "key": key}
        self.content = row_content(columns)
        self.key = [[*columns].index(name) for name in key]

    def record(self, row: Candidate) -> str:
        """A row's record: time, the content's digest and its key's, which tells apart rows of one time."""
        key = key_digest(row.content.split(","), self.key) if self.key else ""
        return record_of(row.time, row.digest() + key)

    def located(self, state: State) -> State:
        """The state with its records made of the columns that the table has now; an error where that can't be."""
        position, state = state.position, dataclasses.replace(state, time_column=self.table.time)
        if position | self.made_of == position:
            return state
        log.info("%s has other columns than before: its newest rows are looked up anew", state.table)
        if "columns" not in position and self.table.private:  # Version 1.0.0 had one digest of all columns.
            whole = Reader(self.reader.database, self.table._replace(private=frozenset()))
            position = Remembered(whole, self.lookback / 10**6, self.order.form).located(state).position
        return dataclasses.replace(state, position=self._renewed(position))

    def _renewed(self, position: Position) -> Position:
        """A position with new records of the rows that were delivered, as far as they are still there."""
        delivered, bridge = old_records(position), Bridge.between(position, self.made_of)
        times = {time for time, *_ in delivered}
        rows = self._groups(min(times - {NEVER}, default=position["latest"] - self.lookback), bridge)
        told = (digest if bridge.content else (time, key if bridge.key else "") for time, digest, key in delivered)
        counts = collections.Counter[Any](told)
        if (kept := recognised(rows, counts, bridge, times)) is None:
            fault = f"{self.table.name} has other columns now: which of its newest rows were delivered can't be told"
            hint = "Look for the newest rows in the target, then go on after them with --since TIMESTAMP."
            raise SourceError(fault, hint)
        seen = packed(kept)
        as_now: Position = {"newest": position["latest"], "pass": None, **position, "seen": seen, **self.made_of}
        if as_now["pass"]:
            as_now["pass"] = {**as_now["pass"], "sent": ""}
        return as_now

    def _groups(self, oldest: int, bridge: Bridge) -> Groups:
        """The rows from a time on."""
        given = {column: default for column, _, _, default, _ in self.infos}
        defaults = (f"{cell(column)} IS ({default_in_sql(given[column])})" for column in bridge.fresh)
        untouched = " AND ".join(defaults) or "1"
        groups: Groups = collections.defaultdict(list)
        key = f"{self.content} || ',' || ({untouched})"
        for page in self.order.pages(self.order.spans(oldest), key):
            contents, flags = zip(*(content.rsplit(",", 1) for content in page.keys), strict=True)
            records = map(self.record, map(Candidate, self.order.times(page), contents))
            for content, flag, record in zip(contents, flags, records, strict=True):
                before = bridge.of_row(time_in(record, NEVER), content.split(","), self.table.encoding)
                groups[before].append((flag != "1", record))
        return groups


class TimestampCursor(Remembered):
    """New rows are those whose time is not before `latest - lookback`, and that were not delivered.

    For views, tables WITHOUT ROWID, and rows that are rewritten in place with a newer time. A position has in `seen` a
    record, made of `columns` and `key`, of each delivered row from `latest - lookback` on, or from `known` on where
    `lookback` was shorter; rows whose time can't be read stay in it for good. All times are in microseconds.

    A pass goes over the candidates in SQLite's order, which is not that of their times, in one batch or more; at its
    end `latest` moves towards `newest`. Rows that come in behind its place are found by the next one, which is why
    `latest` does not go beyond `until`.
    """

    kind = "timestamp"

    def __init__(self, reader: Reader, lookback: float, form: TimeForm, now: Clock) -> None:
        super().__init__(reader, lookback, form)
        self.now = now
        self._walk: Walk | None = None
        self._held_back = 0
        self._newest: int | None = None

    def start(self, since: int | None) -> Position:
        """The position of a first run, before all times or at one."""
        latest = NEVER if since is None else since
        place: Position = {"latest": latest, "newest": None, "seen": "", **self.made_of, "since": since, "pass": None}
        # Rows that come later are new, however late: where none is there, none is not wanted.
        is_none = since is not None and not any(self._new_rows(place))
        return {**place, "since": None} if is_none else place

    def next_batch(self, position: Position, size: Callable[[], int]) -> Batch | None:
        """The next rows in the order of the time column. One object goes once over all rows that were there."""
        if self._walk is None or self._walk.position != position:
            begun: Position = {**position, "pass": self._pass(position)}
            self._held_back = 0
            self._walk = Walk(begun, self._new_rows(begun, MOST_FUTURE), is_whole=not position["pass"])
        walk, taken = self._walk, self._walk.taken(size)
        if not taken and not walk.is_whole:  # Rows came in behind the place of a pass that an earlier run began.
            self._walk = None
            return self.next_batch(self._ended(position), size)
        if not taken and self._held_back:  # Rows that wait are no rows that went.
            fault = f"{self._held_back} rows of {self.table.name} are from the future and wait: {MOST_FUTURE} were sent"
            raise SourceError(fault, "Look at this machine's clock, source_timezone and the producer's clock.")
        if not taken:
            return None
        after = self._after(walk.position, taken)
        walk.position = after if walk.next else self._ended(after)
        return Batch(walk.position, [], functools.partial(map, self._told, taken))

    def _told(self, page: RawPage) -> RawPage:
        return page._replace(keys=RecordsOf(page.keys, self.record))

    def bytes_per_row(self, _: Position) -> float:
        return self.reader.bytes_per_row

    def _pass(self, position: Position) -> Pass:
        """The pass that is under way, or a new one."""
        if position["pass"]:
            return position["pass"]
        now, times = self.now() * 10**6, self.order.newest_times()
        self._newest = latest_time(self._newest, *times)
        reached = (time for time in times if time is not None and time <= now)
        until = latest_time(position["newest"], *reached)
        return {"oldest": self._bound(position), "until": until, "place": None, "sent": ""}

    def waiting(self, position: Position) -> tuple[int | None, int | None]:
        """How many rows are new, about and at most `COUNTED_ROWS`, and their earliest time; None without an index."""
        if not self.order.is_indexed():
            return None, None
        bound = self._bound(position)  # How far the table has come is not asked: nothing is remembered of it.
        under_way: Pass = position["pass"] or {"oldest": bound, "until": None, "place": None, "sent": ""}
        spans = self.order.spans(under_way["oldest"])
        if position["latest"] > NEVER and under_way["place"] is None and (None, None, "") in spans:
            return None, None
        spans = [*self.order.rest_of(spans, sqlite_value(under_way["place"]))]
        pages = itertools.islice(self._new_rows({**position, "pass": under_way}), 2)
        first, *more = [page.keys for page in pages] or [[]]
        known = sum(counts_in(position).values())
        count = self.order.count(spans, COUNTED_ROWS + known) if more else 0
        times = (row.time for row in first if row.time is not None)
        return max(len(first), count - known), min(times, default=None)

    def again(self, position: Position, after: Position) -> Iterator[RawPage]:
        """Of the rows that are new, those that the later position has seen, or that are too old to be in it."""
        left, bound = counts_in(after), self._bound(after)
        left.subtract(counts_in(position))
        place = after["pass"] and self.order.key(sqlite_value(after["pass"]["place"]))
        for page in self._new_rows(position):
            raws, others = page.columns[self.order.name].values(), set[int]()
            for index in beyond(left, page.keys, Candidate.digest):
                is_behind, moment = place is not None and self.order.key(raws[index]) > place, page.keys[index].time
                others |= {index} if is_behind or moment is None or moment >= bound else set()
            if chosen := sorted({*range(len(page.keys))} - others):
                yield self._told(page.only(chosen))

    def _new_rows(self, position: Position, most_future: float = math.inf) -> Iterator[RawPage]:
        """The rows of a pass that were not delivered, from its place on, each as a `Candidate`."""
        under_way, known, now = self._pass(position), counts_in(position), self.now() * 10**6
        future = sum(1 for record in records_in(position).elements() if time_in(record, NEVER) > now)
        place = sqlite_value(under_way["place"])
        for page in self.order.pages(self.order.spans(under_way["oldest"]), self.content, place):
            times, chosen = self.order.times(page), list[int]()
            self._newest = latest_time(self._newest, *times)
            page = page._replace(keys=[*map(Candidate, times, page.keys)])
            for index in beyond(known, page.keys, Candidate.digest):
                moment = times[index]
                if moment is not None and moment < under_way["oldest"]:
                    continue
                if moment is not None and moment > now:
                    future += 1
                    if future > most_future:
                        self._held_back += 1
                        continue
                chosen.append(index)
            if chosen:
                yield page.only(chosen)

    def newest_of_late(self, position: Position) -> int | None:
        """After a pass without new rows, the newest time in the table where no row could be new; else None."""
        return self._newest if self._newest is not None and self._newest < self._bound(position) else None

    def _after(self, before: Position, taken: Sequence[RawPage]) -> Position:
        """The position after new rows, its pass still under way."""
        rows: list[Candidate] = [row for page in taken for row in page.keys]
        raw = taken[-1].columns[self.order.name].at(len(taken[-1].keys) - 1)
        now, under_way = self.now() * 10**6, self._pass(before)
        newest = latest_time(before["newest"], *(row.time for row in rows if row.time is not None and row.time <= now))
        after: Position = {**before, "newest": newest}
        after["known"] = bound = self._bound(after)
        # Of rows that would be late only those at the place may be met again.
        was, place = under_way["place"], self.order.key(raw)
        is_at_place = was is not None and self.order.key(sqlite_value(was)) == place
        earlier = unpacked(under_way["sent"], before["key"])
        sent = [record for record in earlier.elements() if is_at_place or time_in(record, bound) >= bound]
        at_place = len(rows) - sum(len(page.keys) - self.order.first(page, raw) for page in taken)
        sent += [
            self.record(row) for i, row in enumerate(rows) if i >= at_place or row.time is None or row.time >= bound
        ]
        return {**after, "pass": {**under_way, "place": plain_value(raw), "sent": packed(sent)}}

    def _reached(self, position: Position) -> int:
        """The latest time once the pass has come to its end. A row from the future does not move it past now."""
        if not position["pass"] or (newest := position["newest"]) is None:
            return position["latest"]
        until = position["pass"]["until"]
        return max(position["latest"], newest if until is None else min(newest, until))

    def _bound(self, position: Position) -> int:
        """The time before which no row is new once the pass has ended, not before what is no longer `known`."""
        return max(self._reached(position) - self.lookback, position.get("known", NEVER - self.lookback))

    def _ended(self, position: Position) -> Position:
        """The position at the end of its pass: the latest time moves, and rows that are late by now are forgotten."""
        if not position["pass"]:
            return position
        bound = self._bound(position)
        seen = {record: count for record, count in records_in(position).items() if time_in(record, bound) >= bound}
        ended: Position = {**position, "latest": self._reached(position), "known": bound, "seen": packed(seen)}
        return {**ended, "since": None, "pass": None}


Cursor = RowidCursor | TimestampCursor  # finds new rows after the position in a state


# === Plan =============================================================================================
#
# How raw rows become the target's rows: which column goes where as which type, with the rules of the
# scenario in between. Columns are matched by name, in any case. What can't be converted is set aside.

# Characters that Delta allows in no column name unless the table maps names (delta.io, column mapping).
FORBIDDEN_IN_NAMES = re.compile(r"[ ,;{}()\n\t=]")

# Columns of the target that the uploader fills itself, where the target has them; the source's of that name stay out.
OWN_COLUMNS = {"databricks_inserted_at": "timestamp", "databricks_batch_id": "string"}

# So long is what a batch id has after the source's: an epoch, a number of twelve digits, and a place of ten.
BATCH_LENGTH = 26


class Prepared(NamedTuple):
    """A page as an Arrow table with the keys of its rows, those set aside, and the latest time (microseconds)."""

    rows: ArrowTable
    keys: Sequence[Any]
    read: int
    bad: list[BadRow]
    latest: int | None
    odd: tuple[int, list[Any]] | None = None  # a time that can't be right, its value, and those of some other rows
    old: int = 0  # rows that are not wanted


class Plan(NamedTuple):
    """Which columns of the source are read as what, and fill which of the target's."""

    table: Table
    reads: Columns  # the source's columns with the types that they are read as
    writes: Columns  # the target's columns
    sources: dict[str, str]  # for each of these the source or result column that fills it
    required: frozenset[str]  # those that are NOT NULL
    form: TimeForm  # how the time column is written
    rules: Rules | None = None
    finite: frozenset[str] = frozenset()  # the source's columns that take no infinities
    left_out: tuple[str, ...] = ()  # source or result columns that fill none
    # Rows up to a time (microseconds) with keys up to one were delivered by another tool, or are not wanted.
    since: int | None = None
    until: Any = None
    is_made: bool = False  # The first write makes the target.
    is_windowed: bool = False  # Each row needs a time.
    now: Clock = time.time

    def from_position(self, position: Position) -> Plan:
        """The plan for rows after a position, which may say that older ones are not wanted."""
        return self._replace(since=position.get("since"), until=position.get("until"))

    def prepare(self, page: RawPage) -> Prepared:
        """A page's rows converted, those that can't be set aside, then the rules applied."""
        typed = self.typed(page)
        rows, kinds = typed.rows, self.reads
        if self.rules:
            rows, kinds = ruled(rows, kinds, self.rules), self.rules.columns
        return typed._replace(rows=self.fitted(rows, kinds))

    def typed(self, page: RawPage) -> Prepared:
        """A page's rows with the types of `reads`, without those that can't be converted or are not wanted."""
        arrays, refused = self.converted(page)
        columns = reversed(refused.items())  # The first one's reason counts.
        bad = {index: f"{name} {reason}" for name, reasons in columns for index, reason in reasons.items()}
        times = self._times(page, arrays)
        known = [time for time in times.to_pylist() if time is not None] if times.null_count else whole_numbers(times)
        rows, keys = arrow_table(arrays), page.keys
        if bad or self.since is not None:
            moments = enumerate(times.to_pylist())
            wanted = [i for i, moment in moments if i not in bad and not self._is_old(moment, page.keys[i])]
            rows = picked(rows, wanted)
            keys = [page.keys[index] for index in wanted]
        ends = (min(known), max(known)) if known else ()
        latest, odd, old = max(ends, default=None), self._odd(page, times, ends), len(page.keys) - len(keys) - len(bad)
        return Prepared(rows, keys, len(page.keys), self.bad_rows(page, bad), latest, odd, old)

    def _odd(self, page: RawPage, times: Array, ends: Iterable[int]) -> tuple[int, list[Any]] | None:
        """The earliest or the latest of a page's times, where it can't be right, with its value and the first ones."""
        for end in ends:
            if self.table.time and not is_plausible(end, self.now()):
                rows = [[*times.to_pylist()].index(end), *range(min(1000, len(page.keys)))]
                return end, page.columns[self.table.time].only(rows).values()
        return None

    def _times(self, page: RawPage, arrays: Mapping[str, Array]) -> Array:
        """The times of a page's rows in microseconds, as an array of bigint; without a time column NULL each."""
        if self.table.time is None:
            return array_of([None] * len(page.keys), "bigint")
        if self.reads.get(self.table.time) == "timestamp":
            times = arrays[self.table.time]
        else:
            times, _ = convert(page.columns[self.table.time], "timestamp", self.form)
        return times.cast(arrow_type("bigint"))

    def fitted(self, rows: ArrowTable, kinds: Columns) -> ArrowTable:
        """Rows with the types `kinds` as rows of the target."""
        columns = dict[str, "ArrowColumn"]()
        for name, kind in self.writes.items():
            columns[name], found = rows.column(self.sources[name]), kinds[self.sources[name]]
            if found != kind:
                raw = RawColumn("mixed", [*columns[name].to_pylist()])
                columns[name], bad = convert(raw, kind, TimeForm(zone=self.form.zone))
                if bad:
                    raise TargetError(f"{name} {min(bad.items())[1]}", f"Give the target's column the type {found}.")
        return arrow_table(columns)

    def converted(self, page: RawPage) -> tuple[dict[str, Array], dict[str, dict[int, str]]]:
        """The columns as arrays, and by column and index why rows can't go."""
        arrays, refused = dict[str, "Array"](), dict[str, dict[int, str]]()
        for name, kind in self.reads.items():
            # The format is that of the time column alone.
            form = self.form if name == self.table.time else TimeForm(zone=self.form.zone)
            arrays[name], refused[name] = convert(page.columns[name], kind, form)
        names = () if self.rules else self.required
        needed = {self.sources[name]: "is NULL, and the target's column is NOT NULL" for name in names}
        if self.is_windowed:
            needed[self.table.required_time] = "is NULL: the row belongs to no window"
        for name, reason in needed.items():
            array = arrays.get(name)  # None for what an aggregate makes.
            for index, value in enumerate(array.to_pylist() if array and array.null_count else ()):
                if value is None:
                    refused[name].setdefault(index, reason)
        for name in self.finite:
            for index, value in enumerate(arrays[name].to_pylist()):
                if value is not None and not math.isfinite(value):
                    refused[name].setdefault(index, f"is {value}, which JSON can't carry")
        return arrays, refused

    def _is_old(self, moment: int | None, key: Any) -> bool:
        """Whether a row was delivered by another tool, or is not wanted."""
        if self.since is None or moment is None or moment > self.since:
            return False
        return self.until is None or key <= self.until

    def bad_rows(self, page: RawPage, bad: Mapping[int, str]) -> list[BadRow]:
        """The rows set aside, without the values of columns that rules hide."""
        hidden = self.table.private
        values = {name: column.values() for name, column in page.columns.items() if bad and name not in hidden}
        absent = [name for name in self.table.columns if name not in values]
        rows = ((index, {name: column[index] for name, column in values.items()}) for index in sorted(bad))
        return [BadRow(page.keys[index], bad[index], row, absent) for index, row in rows]


def folded(name: str) -> str:
    """A column name as Delta and Spark compare it: in any case, letter by letter, as Java's equalsIgnoreCase."""
    if name.isascii():
        return name.lower()
    upper = (letter.upper() if len(letter.upper()) == 1 else letter for letter in name)
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in upper)


def refuse_names(names: Iterable[str], aimed: Callable[[str], str] = lambda name: name) -> None:
    """A `ConfigError` where two columns would be one in the target; `aimed` gives the name that each has there."""
    known: dict[str, str] = {}
    for name in names:
        keys = {folded(aimed(name)), aimed(name).lower()}  # delta-rs compares small letters, of which İ has two.
        for other in {known.setdefault(key, name) for key in keys} - {name}:
            raise ConfigError(f"the columns {other!r} and {name!r} would both be {aimed(name)!r}", "Rename one.")


def refuse_own_columns(types: Columns, length: int) -> None:
    """A `TargetError` where columns of a target can't hold what the uploader fills them with: such long ids, times."""
    for name, kind in types.items():
        own, sizes = OWN_COLUMNS.get(name.lower()), sizes_of(kind)
        is_long = base_of(kind) in TEXTS and (sizes or [length])[0] >= length
        if own and not (kind in TIMES if own == "timestamp" else is_long):
            hint = f"Make it {own.upper()}, or rename it."
            raise TargetError(f"the target's column {name} is {kind.upper()}, which can't hold what fills it", hint)


def aimed_columns(
    given: Columns, target: Columns | None, evolve: bool, id_length: int
) -> tuple[Columns, Columns, frozenset[str]]:
    """The target's columns, new ones too where it may `evolve`, that are filled: types, origins, which are NOT NULL."""
    types = types_in(target)
    refuse_own_columns(types, id_length)
    known = in_target(types)
    places = {name: known(name) or (delta_name(name) if evolve else "") for name in given}
    refuse_names((name for name, aimed in places.items() if aimed), places.__getitem__)
    sources = {aimed: name for name, aimed in places.items() if aimed and aimed.lower() not in OWN_COLUMNS}
    not_null = {name for name, kind in (target or {}).items() if kind.endswith(" not null")}
    required = frozenset(name for name in not_null if name.lower() not in OWN_COLUMNS)
    if target is not None and given and not sources:  # Databricks makes tables without any, too.
        hint = f"It has {', '.join(target) or 'no columns'}. --print-ddl prints a table with all of them."
        raise TargetError(f"the target has none of the columns {', '.join(given)}", hint)
    if missing := sorted(required - sources.keys()):
        raise TargetError(f"the target's NOT NULL columns {', '.join(missing)} are not in the source", "Drop NOT NULL.")
    writes = {aimed: types.get(aimed, given[name]) for aimed, name in sources.items()}
    for name, kind in writes.items():
        kind_of(kind, name)
    return writes, sources, required


def finite_columns(plan: Plan) -> frozenset[str]:
    """The source's real columns that are sent, or that groups are made of; what rules change is theirs to judge."""
    reals = {name for name, kind in plan.reads.items() if kind in REALS}
    is_grouped = not plan.reads.keys() >= set(plan.sources.values())
    return frozenset(reals if is_grouped else reals.intersection(plan.sources.values())) - plan.table.private


def types_in(target: Columns | None) -> Columns:
    """The target's columns without what is said of NULL."""
    return {name: kind.removesuffix(" not null") for name, kind in (target or {}).items()}


def types_set(config: Config, columns: Iterable[str]) -> Columns:
    """`column_types`, checked, by the names of the source; of those that it does not have `foreign_types` tells."""
    given, known = dict[str, str](), by_spelling([*columns, *OWN_COLUMNS])
    for key, word in config.column_types.items():
        if (name := known(str(key))) is None:
            continue
        refuse_repeats([*given, name], "column_types")
        try:
            given[name] = type_named(word)
        except ValueError as error:
            raise ConfigError(f"column_types.{key}: no type {word!r}", str(error)) from None
        if OWN_COLUMNS.get(name, given[name]) != given[name]:
            raise ConfigError(f"column_types.{key}: the uploader fills it", f"Make it {OWN_COLUMNS[name].upper()}.")
    return {name: kind for name, kind in given.items() if name not in OWN_COLUMNS}


def foreign_types(config: Config, table: Table, is_first: bool = True) -> list[str]:
    """What `column_types` names and the table has not: a `ConfigError` at first, later it may have been dropped."""
    known = [*table.columns, *OWN_COLUMNS]
    found = by_spelling(known)
    foreign = [str(key) for key in config.column_types if found(str(key)) is None]
    for key in foreign if is_first else ():
        word_of(key, known, "column_types", "column")
    return foreign


def read_types(
    config: Config, reader: Reader, target: Columns, known: dict[Any, Columns], before: Columns | None = None
) -> Columns:
    """What each column is read as: the target's type, one that is set or was `before`, or a sample's, `known` then."""
    table, given, before = reader.table, types_set(config, reader.table.columns), before or {}
    aimed = in_target(target)
    zone = ZoneInfo(config.source_timezone)
    rules = rules_in_force(config, table.columns)
    # The target has what these make.
    disguised = {name for word, name, _ in rules if word in ("hash", "mask")}
    spelled = disguised - {name for word, name, _ in rules if word not in ("hash", "mask", "remove_nulls")}
    reads = {
        name: target.get((name not in disguised and aimed(name)) or "")
        or given.get(name)
        or ("timestamp" if name == table.time else None)
        for name in table.columns
    }
    undecided = [name for name, kind in reads.items() if kind is None]
    key = (table.name, *table.columns.items(), *undecided)
    sampled = known.get(key, {})
    if undecided and not sampled:
        page = reader.narrowed(undecided).sample()
        sampled = {
            name: kept_type(name, page.columns[name], before[name], name in disguised, zone)
            if name in before
            else sampled_column(table, name, page.columns[name], zone, reader.database.kinds[table.name] == "view")
            for name in undecided
        }
        # By their digits, whole or not: else 42 would be another one once the column is read as DOUBLE.
        numbers = (n for n in spelled.intersection(sampled) if sampled[n] in (*INTEGER_BITS, "double"))
        sampled |= dict.fromkeys(numbers, "string")
        if len(page.keys) == SAMPLE_ROWS or 2 * page.nbytes > SAMPLE_BYTES:
            known[key] = sampled
    return {name: kind or sampled[name] for name, kind in reads.items()}


def kept_type(name: str, column: RawColumn, before: str, is_disguised: bool, zone: ZoneInfo) -> str:
    """The type of `before`, whatever came since: else rows would have other hashes and order than those sent."""
    # Whole numbers give way to a wider type where that holds more of the rows, and 42 gets no other hash by it.
    kinds = [before, "double"] if before in INTEGER_BITS and not is_disguised else [before]
    bad = {kind: convert(column, kind, TimeForm(zone=zone))[1] for kind in kinds}
    kind = min(kinds, key=lambda kind: len(bad[kind]))
    if 10 * len(bad[kind]) > len(column.values()):
        said = "%s is read as %s, as before, though a value of it %s: column_types sets another type"
        log.info(said, name, kind.upper(), min(bad[kind].items())[1])
    return kind


def sampled_column(table: Table, name: str, column: RawColumn, zone: ZoneInfo, is_view: bool) -> str:
    """The type of a column by its declaration and its first rows; where they differ, a log line says so."""
    declared = table.columns[name]
    # Of a view's column without a type SQLite says BLOB, too.
    asked = None if is_view and declared == "BLOB" else declared_type(declared)
    kind = fitting_type(column, asked, zone)
    if asked not in (None, kind):
        refused = convert(column, asked or "", TimeForm(zone=zone))[1]
        reason = min(refused.items(), default=(0, "holds numbers that are no times"))[1]
        log.info("%s is declared %s, but a value of it %s: it is read as %s", name, declared, reason, kind.upper())
    return kind


def in_target(columns: Collection[str]) -> Callable[[str], str | None]:
    """What finds the target's column for a source column: the same, in any case, or as Delta or Zerobus allows it."""
    by_name = {folded(column): column for column in columns} | {column: column for column in columns}

    def found(name: str) -> str | None:
        names = (name, delta_name(name), plain_name(name))
        return next(filter(None, (by_name.get(known) for each in names for known in (each, folded(each)))), None)

    return found


def delta_name(name: str) -> str:
    """A column name without the characters that Delta allows only in tables that map names."""
    return FORBIDDEN_IN_NAMES.sub("_", name)


def plain_name(name: str) -> str:
    """A column name of the characters that Zerobus takes."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


# === Targets: Delta ===================================================================================

Pages = Callable[[], Iterator["ArrowTable"]]

# Called with an intent that has changed, before anything is sent for it: the state has it from then on.
SaveIntent = Callable[[Intent], None]

Payload = Any


def application_of(state: State) -> str:
    """The name of a source in Delta transactions."""
    return f"sqlite-uploader/{state.source_id}/{state.table}"


UNFIT_STORE = (
    "An address or option of the store can't be right: check table_path or lakehouse_path, storage_options, and the"
    " AWS_* or AZURE_* variables."
)

# What stores and delta-rs' client say, whether it passes by itself, and what to do; the first that fits counts.
# Codes: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
# learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes.
STORE_ERRORS: tuple[tuple[type[UploaderError], str, str], ...] = (
    (RefusedValuesError, "(?i)invariant violation|violat.*(constraint|invariant)|(constraint|invariant).*violat"
     "|check or invariant|failed validation check|^(cast|parser|compute) error|^arithmetic overflow|^division by zero"
     "|too large to store in a Decimal",
     "A constraint of the table, or what computes one of its columns, refuses a row."),
    (RefusedValuesError, r"part-\d+-[^/]*: File name too long|KeyTooLong",
     "A value of a partition's column is too long for the name of a directory."),
    (RefusedSizeError, r"PUT \S*/part-[^/]* in .*(code: 413\b|EntityTooLarge|RequestBodyTooLarge)",
     "Smaller commits are tried by themselves."),
    # Stores have words of their own for what they refuse.
    (TransientError, r"PUT \S*/part-[^/]* in .*code: 4\d\d\b[\w\s'-]*:?\s*(<(?i:html|!doctype)|\{|$)"
     "|403 Forbidden: <(?i:html|!doctype)",
     "A proxy or firewall refuses it, maybe for its size."),
    (TargetError, "ExpiredToken|TokenRefreshRequired|Signature not valid in the specified time frame",
     "The storage credentials have expired: renew them."),
    (TargetError, "Delta table with empty schema",
     "The table was made without columns. Drop it with its _delta_log, or add its columns in Databricks."),
    (TargetError, "(?i)duplicate [a-z ]*field name", "Two of the columns have one name to delta-rs: rename one."),
    (TargetError, "Error during planning|This feature is not implemented|Schema error|sql parser error"
     "|bug in DataFusion|Optimizer rule|Unsupported: |Unsupported table features|Max catalog version",
     "delta-rs can't deal with a feature, generated column, CHECK constraint or invariant of the table: drop it,"
     " take another table, or send through a SQL warehouse."),
    (TargetError, "Json error|No table metadata or protocol|log segment|found gap"
     "|Kernel error: (Invalid Checkpoint|Arrow error: .*Parquet( argument)? error: (?!External))",
     "The table's _delta_log is damaged or not whole: restore it, or copy it anew while nobody writes."),
    (TargetError, "RequestTimeTooSkewed", "Set this machine's clock: stores accept a difference of 15 minutes."),
    (TargetError, "InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|AuthorizationFailure"
     "|InvalidAuthenticationInfo|Invalid Access Key|401 Unauthorized|InvalidToken",
     "The storage credentials are wrong: check the AWS_* or AZURE_* variables, or storage_options. delta-rs takes"
     " a variable named TOKEN for AWS_SESSION_TOKEN, too."),
    (TargetError, "latest/api/token|security-credentials|metadata/identity|metadata.google|loading credentials"
     "|IMDS|CredentialsNotLoaded|(?i:no|load) credentials?\\b|credentials? provider",
     "No storage credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
     " AZURE_STORAGE_ACCOUNT_KEY or another way to sign in, as variables or in storage_options."),
    (TargetError, "Unable to rename file: (Operation not (permitted|supported)|Function not implemented)",
     "This file system has no hard links, by which a commit is made once: choose a path on another one. Where this"
     " uploader alone writes the table, allow_unsafe_rename: true in storage_options does without."),
    (TargetError, "(?i)no space left|disk quota|StorageFull", "The disk is full: free some of it."),
    (TargetError, "(?i)permission ?denied|operation not permitted|read-only file system|ReadOnlyFilesystem",
     "This user may not write there: mend the rights of the path, or choose another one."),
    (TargetError, "(?i)could not create local directory|not a directory|NotADirectory|file ?name too long",
     "Nothing can be made under that path: check table_path or lakehouse_path, and databricks_table."),
    (TargetError, "NoSuchBucket|ContainerNotFound|FilesystemNotFound",
     "The bucket or container does not exist: check table_path or lakehouse_path."),
    (TargetError, "PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint"
     "|incorrectly configured region",
     "The bucket is in another region: set AWS_REGION."),
    (TargetError, "AccessDenied|AuthorizationPermissionMismatch|InsufficientAccountPermissions|403 Forbidden"
     "|necessary privileges",
     "The storage credentials may not do this: to read, list, write and delete objects there."),
    (TargetError, "URL scheme is not allowed",
     "An http:// endpoint needs AWS_ALLOW_HTTP=true or AZURE_ALLOW_HTTP=true."),
    (TargetError, "Account must be specified", "Set AZURE_STORAGE_ACCOUNT_NAME, or name the account in the URI."),
    (TargetError, "conditional put is disabled",
     "Commits are conditional puts: take aws_conditional_put out of the options."),
    (TargetError, r"PUT \S*/_delta_log/\d+\.json in .*code: (501\b|400 Bad Request: InvalidArgument)",
     "Commits are conditional puts (If-None-Match), which the store seems not to know: take a newer or another one."),
    (TargetError, r"Config error|Failed to parse config|ConfigInvalid|as a URL\b|recognise URL|builder error"
     "|in storage options|client configuration|invalid argument: No |Invalid encryption type|SAS query pair",
     UNFIT_STORE),
    (TransientError, "timed out",
     "The store did not answer in time. On a slow link lower batch_rows, or raise timeout in storage_options."),
    (Unreachable, "error sending request|dns error",
     "The store can't be reached: check the network, and the endpoint and region in the variables."),
    (TransientError, "Invalid table version",
     "The next cycle tries again. If that stays, the table's _delta_log is not whole: restore it, or copy it anew."),
    (TransientError, "", "The next cycle tries again."),
)  # fmt: skip


def without_xml(text: str) -> str:
    """Of a store's XML its own words."""
    said = re.search(r"<Code>([^<]*)</Code>\s*(?:<Message>([^<\n]*))?", text)
    return re.sub(r"<\?xml.*|<Error>.*", lambda _: f"{said[1]}: {said[2] or ''}" if said else "", text, flags=re.DOTALL)


def one_line(text: str) -> str:
    """What delta-rs says on one line: no colours, no queries of addresses, and of XML the store's own words."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    plain = without_xml(re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", plain))
    # Of Rust's debug output the message alone, or nothing.
    plain = re.sub(r'(?:Error: )?Os \{ code: \d+, kind: \w+, message: "([^"]*)" \}', r"\1", plain)
    plain = re.sub(r"(?s)\(?\b\w+(?:\(\w+)* \{ \w+: .*", "", plain)
    plain = re.sub(r"(?m)^ +(\d+: |at \.).*\n?", "", plain)  # a trace of its calls
    causes = (cause.strip(" \u21b3") for cause in plain.splitlines())
    return re.sub(r"(max_retries|retry_timeout): ", r"\1 ", ": ".join(cause for cause in causes if cause))


def shortened(message: str) -> str:
    """The first line, for people: without a proxy's page, and cut in the middle, since a store's word comes last."""
    first, *_ = without_xml(message).strip().splitlines() or ["no message"]
    line = re.sub(r"(?i)<(html|!doctype)\b.*", "a page of HTML", first)
    return line if len(line) <= 400 else f"{line[:150]}\u2026{line[-250:]}"


@contextlib.contextmanager
def delta_errors(name: str, writes: bool = False) -> Iterator[None]:
    """Errors of delta-rs as ours."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except Exception as error:  # delta-rs raises bare Exception for some casts
        text = str(error).strip()
        if isinstance(error, CommitFailedError) or "already exists" in text:
            raise Conflict(f"another writer was faster: {shortened(one_line(text))}") from None
        if not isinstance(error, (DeltaError, OSError, ValueError)) and type(error) is not Exception:
            raise
        # delta-rs shows the rows that a constraint refuses; what rows hold is not for logs.
        line = one_line(text.partition("Preview of invalid data")[0])
        kind, _, hint = next(row for row in STORE_ERRORS if re.search(row[1], line))
        # What was written may be committed, though the store can't be reached now. What is read has no refused row.
        if kind is (Unreachable if writes else RefusedValuesError):
            kind = TransientError
        raise kind(f"{name}: {shortened(line)}", hint) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3's, which is no Exception, and can't be imported
            raise
        fault, is_told = f"{name}: delta-rs gave up: {shortened(one_line(str(error)))}", "InvalidUri" in str(error)
        raise TargetError(fault, UNFIT_STORE if is_told else "Its developers would like to know.") from None


def varied_columns(page: ArrowTable) -> list[str]:
    """The columns whose values are mostly different in the first thousand rows; none in a smaller page."""
    if page.num_rows < SAMPLE_ROWS:
        return []
    # A dictionary of such values makes a file a third larger, and takes as long as the rest of writing it.
    first = page.slice(0, SAMPLE_ROWS)
    return [name for name in page.column_names if 2 * len(set(first.column(name).to_pylist())) > SAMPLE_ROWS]


# A commit of a million rows is one file of some 40 MB; rows are streamed into it, page by page.
COMMIT_ROWS, COMMIT_BYTES = 1_000_000, 512 << 20

# What is written together is in memory several times; so much of it at most.
TOGETHER_BYTES = 80 << 20

# delta-rs puts batches together to so many rows, whatever their size (DataFusion's batch_size).
WRITTEN_ROWS = 8192

# A file's part of so many rows is in memory until it is whole; fewer where the first ones have many bytes.
LEAST_GROUP, GROUP_ROWS, GROUP_BYTES = 1000, 100_000, 16 << 20


def rows_of_commit(bytes_per_row: float, most: int | None = None) -> int:
    """How many rows of that size one commit should have, of which what is written together has to fit into memory."""
    usual = COMMIT_BYTES if WRITTEN_ROWS * bytes_per_row < TOGETHER_BYTES else TOGETHER_BYTES
    return max(1, min(COMMIT_ROWS, int((most or usual) / max(1.0, bytes_per_row))))


def fitting_pages(pages: Iterable[ArrowTable], rows: int) -> Iterator[ArrowTable]:
    """Pages, of which so many rows are written together. `TooLargeError` where rows become too large on the way."""
    sent = held = 0
    for page in pages:
        held += page.nbytes
        if sent and held > TOGETHER_BYTES:
            raise TooLargeError(f"rows after the first {sent} are too large to be written with these", "", sent)
        sent += page.num_rows
        held = 0 if sent % rows < page.num_rows else held
        yield page


def file_properties(kinds: Columns, plain: Iterable[str] = (), rows: int = GROUP_ROWS) -> WriterProperties:
    """How files are written: by so many rows, and without dictionaries of the columns `plain`.

    Statistics of texts are shortened, as Spark does it: the log holds them. delta-rs rounds those of decimals of more
    than 15 digits, so there are none of these: readers would miss rows.
    """
    from deltalake import ColumnProperties, WriterProperties

    columns = {name: ColumnProperties(dictionary_enabled=False) for name in plain}
    for name in (name for name, kind in kinds.items() if base_of(kind) == "decimal" and sizes_of(kind)[0] > 15):
        columns[name] = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    return WriterProperties(
        compression="ZSTD", max_row_group_size=rows, statistics_truncate_length=32, column_properties=columns or None
    )


@contextlib.contextmanager
def streamed(pages: Iterable[ArrowTable]) -> Iterator[Generator[Any]]:
    """The batches of pages for delta-rs, which would tell as text only what was raised on the way: that comes out."""
    failed: list[BaseException] = []

    def batches() -> Generator[Any]:
        try:
            for page in pages:
                yield from page.to_batches()
        except BaseException as error:
            failed.append(error)
            raise

    given = batches()
    try:
        yield given
    except BaseException:
        if failed:
            raise failed[0] from None
        raise
    finally:
        # delta-rs may still read, in a thread of its own, when it raised already.
        while inspect.getgeneratorstate(given) != inspect.GEN_CLOSED:
            with contextlib.suppress(ValueError):
                given.close()
            time.sleep(0.001)


def write_pages(
    name: str, pages: Iterator[ArrowTable], table: DeltaTable | None = None, is_bounded: bool = True, **options: Any
) -> None:
    """Stream pages into a Delta table as one commit, if they hold rows; as `fitting_pages` if `is_bounded`."""
    from arro3.core import RecordBatchReader
    from deltalake import Schema, write_deltalake

    if (first := next((page for page in pages if page.num_rows), None)) is None:
        return
    kinds = types_in(columns_of(table)) if table else {}
    kinds |= {field.name: delta_type(field) for field in Schema.from_arrow(first.schema).fields}
    rows = max(LEAST_GROUP, min(GROUP_ROWS, GROUP_BYTES * first.num_rows // max(1, first.nbytes)))
    pages = itertools.chain([first], pages)
    pages = fitting_pages(pages, max(rows, WRITTEN_ROWS)) if is_bounded else pages
    with streamed(pages) as given, delta_errors(name, writes=True):
        write_deltalake(
            table or name,
            RecordBatchReader.from_batches(first.schema, given),
            mode="append" if table else "error",
            writer_properties=file_properties(kinds, varied_columns(first), rows),
            **options,
        )


def delta_type(field: Any) -> str:
    """A column's type in Databricks' words; nested ones as delta-rs writes them. Spark notes a VARCHAR's length."""
    from deltalake.schema import PrimitiveType

    kind = field.type
    plain = type_told(kind.type) if isinstance(kind, PrimitiveType) else str(kind)
    return str(field.metadata.get("__CHAR_VARCHAR_TYPE_STRING", plain))


# Says that writers compute a column: delta-rs does.
GENERATED = "delta.generationExpression"


def columns_of(table: DeltaTable) -> Columns:
    """A table's columns and types; ` not null` after those that are."""
    fields = table.schema().fields
    return {f.name: delta_type(f) + ("" if f.nullable or GENERATED in f.metadata else " not null") for f in fields}


# The table features that delta-rs writes as the protocol asks, by trial (delta-rs 1.6; delta-io/delta PROTOCOL.md,
# "Table Features"). A commit to a table with any other is refused, and called a conflict.
WRITABLE_FEATURES = {
    "appendOnly", "changeDataFeed", "checkConstraints", "columnMapping", "deletionVectors", "generatedColumns",
    "invariants", "timestampNtz", "v2Checkpoint", "variantType", "variantType-preview",
}  # fmt: skip
# Those of which files that delta-rs wrote anew hold what they held. Deleted rows must not come back.
COMPACTABLE_FEATURES = WRITABLE_FEATURES - {"columnMapping", "deletionVectors", "variantType", "variantType-preview"}


def features_of(table: DeltaTable) -> set[str]:
    """The features that a table asks of its writers, by name."""
    protocol = table.protocol()
    named = set(protocol.writer_features or [])
    # Version 6 is that before features were named; it has identity columns.
    named |= {"identityColumns"} if protocol.min_writer_version == 6 else set()
    return named | ({f"writerVersion{version}"} if (version := protocol.min_writer_version) > 7 else set())


def is_mapped(table: DeltaTable) -> bool:
    """Whether a table's files name columns otherwise than its schema."""
    return str(table.metadata().configuration.get("delta.columnMapping.mode", "none")) != "none"


def parting_columns(table: DeltaTable) -> Columns:
    """The columns that part a table, and their types."""
    types = types_in(columns_of(table))
    return {name: types[name] for name in table.metadata().partition_columns}


def completed_page(page: ArrowTable, more: Mapping[str, tuple[object, str]], parts: Columns) -> ArrowTable:
    """A page with the columns of `more` that it lacks, each of one value and a type, if `parts` of it can be named.

    delta-rs 1.6 names a part -3.25 as `-3.-25`, after which nobody reads the table, and one of that text as NULL.
    """
    from arro3.core import ChunkedArray

    for name, (value, kind) in more.items():
        if name not in page.column_names:
            page = page.append_column(name, ChunkedArray([array_of([value] * page.num_rows, kind)]))
    for name in parts.keys() & {*page.column_names} if parts else ():
        for value in {*page.column(name).to_pylist()} - {None}:
            if value == "__HIVE_DEFAULT_PARTITION__" or (parts[name].startswith("decimal") and value < 0 and value % 1):
                raise RefusedValuesError(f"{name} is {value}: a table by path can't be parted by that")
    return page


# What delta-rs 1.6 computes as Spark 4.0 does, or refuses, by trial with extreme values: comparisons, and these calls
# with columns of such types, which then have the value of such a column, or of a number.
PLAIN_CALLS = (
    ((*TIMES, "date"), r"cast\s*\(\s*({0})\s+as\s+date\s*\)"),
    ((*TIMES, "date"), r"date_trunc\s*\(\s*'(?:year|quarter|month|week|day|hour|minute|second)'\s*,\s*({0})\s*\)"),
    ((*TIMES, "date"), r"extract\s*\(\s*(?:year|quarter|month|week|day|hour|minute)\s+from\s+(?:{0})\s*\)()"),
    (TEXTS, r"(?:lower|upper|trim)\s*\(\s*({0})\s*\)"),
    (TEXTS, r"length\s*\(\s*(?:{0})\s*\)()"),
)
# Its tokens by their letters; a column's is a capital, by its type. What may stand between one AND or OR and the next.
PLAIN_TOKENS = {
    "&": r"(?:and|or)\b", " ": r"(?:not|is|null|in|between)\b", "k": r"like\b", "l": r"(?:true|false)\b",
    "m": r"(?:(?:date|timestamp)\s*)?'\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?'(?!')",
    "column": r"[a-z_]\w*|`[^`]+`", "s": r"'[^'\\]*'(?!')",
    "i": r"\d{1,18}(?![\w.])", "f": r"\d{1,18}\.\d{1,15}(?![\w.])",
    "=": r"<=>|[<>!=]=|<>|[<>=,]", "(": r"\(", ")": r"\)", "+": r"\+|-(?!-)", "*": r"\*",
}  # fmt: skip
PLAIN_TOKEN = re.compile(r"\s*(?:({}))\s*".format(")|(".join(PLAIN_TOKENS.values())), re.IGNORECASE)
PLAIN_LETTERS = dict.fromkeys(KINDS, "N") | dict.fromkeys(TEXTS, "S") | dict.fromkeys((*TIMES, "date"), "T")
PLAIN_LETTERS |= {"double": "D", "bigint": "B", "boolean": "L", "binary": "X"}
PLAIN_CLAUSE = "(?:{})".format("|".join(f"[{letters} =()+*]*" for letters in ("Sskm", "Tm", "DBNif", "Ll", "X")))


def is_plain(expression: str, types: Columns) -> bool:
    """Whether delta-rs computes an expression as Spark does: FLOAT and DECIMAL it adds otherwise, INT overflows."""
    # Names without quotes are small letters to it.
    kinds = {f"`{name}`": base_of(kind) for name, kind in types.items()}
    kinds |= {name: base_of(kind) for name, kind in types.items() if name == name.lower()}
    for suited, call in PLAIN_CALLS:
        some = "|".join(re.escape(name) for name, kind in kinds.items() if kind in suited) or "(?!)"
        expression = re.sub(f"(?i)\\b{call.format(some)}", lambda found: f" {found[1] or 0} ", expression)

    def letter(token: re.Match[str]) -> str:
        own = [*PLAIN_TOKENS][(token.lastindex or 0) - 1]
        return PLAIN_LETTERS.get(kinds.get(token[0].strip(), ""), "?") if own == "column" else own

    shape = PLAIN_TOKEN.sub(letter, expression)
    is_sum = re.search("[+*][A-Z]|[A-Zif)][+*]", shape)
    inexact = "[BNSTLX]" if re.search("[*f]", shape) else "[NSTLX]"
    if re.search(r"[A-Z]\(", shape) or (is_sum and re.search(inexact, shape)):  # a call, or such a sum
        return False
    return bool(re.fullmatch(f"{PLAIN_CLAUSE}(?:&{PLAIN_CLAUSE})*", shape))


def computed_in(table: DeltaTable) -> Iterator[tuple[str, str]]:
    """What writers compute for a table: generated columns, invariants and CHECK constraints; names, and the SQL."""
    for field in table.schema().fields:
        if GENERATED in field.metadata:
            yield f"generated column {field.name}", str(field.metadata[GENERATED])
        if told := field.metadata.get("delta.invariants"):
            yield f"invariant of {field.name}", json.loads(told)["expression"]["expression"]
    for name, text in table.metadata().configuration.items():
        if name.startswith("delta.constraints."):
            yield f"CHECK constraint {name.removeprefix('delta.constraints.')}", text


def unwritable(table: DeltaTable) -> Iterator[str]:
    """What of a table delta-rs can't write, or would write so that others read something else."""
    if unknown := sorted(features_of(table) - WRITABLE_FEATURES):
        yield f"table features {', '.join(unknown)}"
    types = types_in(columns_of(table))
    computed = {field.name for field in table.schema().fields if GENERATED in field.metadata}
    for name in computed:
        if name.lower() in OWN_COLUMNS:
            yield f"the uploader fills {name}, which is a generated column"
    for name, kind in types.items() if is_mapped(table) else ():
        if base_of(kind) not in KINDS:
            yield f"each file has to have a column {name} of type {kind}, since names are mapped"
    for name, kind in parting_columns(table).items():
        if kind == "binary" or (name in computed and kind.startswith("decimal")):
            yield f"a table that is parted by {'a generated' if name in computed else 'the'} {kind.upper()} {name}"
    for what, text in computed_in(table):
        if not is_plain(text, types):
            yield f"the {what} ({text}), which delta-rs may compute otherwise than Spark, or not at all"


@functools.cache
def warn_of_strangers(path: str) -> None:
    """Say once that the directory where a table will be made is not empty; of a store nothing is known."""
    with contextlib.suppress(OSError, UnicodeError):  # A store's address may be in letters that no file has here.
        if others := [name for name in sorted(os.listdir(path)) if not name.startswith(("_", "."))]:
            said = "%s holds files of no Delta table, such as %s. Once it is one, --compact deletes them"
            log.warning(said, path, others[0])


def as_planned(name: str, page: ArrowTable, plan: Columns | None, known: Columns | None) -> ArrowTable:
    """The page, if its columns are `known` as they were planned: delta-rs casts 1.7 to 1, and makes what lacks."""
    from deltalake import Schema

    if known is None:
        return page
    planned, names = types_in(plan), {*map(folded, known)}
    for field in Schema.from_arrow(page.schema).fields:
        is_new = plan and field.name not in planned and folded(field.name) not in names
        if not is_new and known.get(field.name) != planned.get(field.name, delta_type(field)):
            said = f"{name}: another writer changed the column {field.name} meanwhile"
            raise TransientError(said, "The next cycle plans anew.")
    return page


# By itself delta-rs waits 30 s for each request, and repeats it for 180 s (object_store 0.13, `ClientOptions` and
# `RetryConfig`). Whether a store answers at all is asked with less patience: a wrong address is told within seconds.
# Writing needs more of it: ten parts of 5 MiB share the uplink, which would have to carry 14 Mbit/s.
# `storage_options` override both.
IMPATIENT = {"connect_timeout": "5s", "timeout": "10s", "max_retries": "1", "retry_timeout": "10s"}
PATIENT = {"connect_timeout": "10s", "timeout": "300s"}

# What a commit tells of its source, so that a lost state can be made anew from the table's history.
RECOVERED = ("application", "sequence", "epoch", "position", "anchors", "columns", "time_column", "time_form")


def told_by(table: Any, name: str, application: str) -> Iterator[dict[str, Any]]:
    """What the commits of an application tell of their source, newest first, as far as the history goes."""
    seen = 0
    for depth in (100, 10_000, None):
        with delta_errors(name):
            commits = list(table.history(depth))
        for commit in commits[seen:]:
            with contextlib.suppress(TypeError, ValueError):  # Another tool means something else by the word.
                told = json.loads(commit.get("uploader", "{}"))
                if isinstance(told, dict) and told.get("application") == application:
                    yield told
        seen = len(commits)


class DeltaTarget:
    """A Delta table by path, exactly once by its transaction identifiers; as each target, a place where rows go.

    Where the first write makes it, it gets the `own` columns of the uploader's that are wanted.
    A commit is known by its intent, which is saved before it is sent. `allowance` is what one request may have, None
    where nothing limited it so far; the state keeps it. `evolves`: a commit adds the columns that the table lacks.
    delta-rs accepts a transaction's version twice from fresh snapshots, so the version is read first and
    the write goes through the same table object: a twin of it then conflicts (delta-rs 1.6,
    `DeltaTable.transaction_version`; delta-io/delta PROTOCOL.md, "Transaction Identifiers").
    """

    # delta-rs tries a conflicting commit again by itself; so many times for many writers.
    COMMIT_RETRIES = 100

    def __init__(
        self, uri: str, options: Mapping[str, object], wait: Wait = time.sleep, own: Iterable[str] = ()
    ) -> None:
        self.name = uri
        self.own = own
        self.options = {key: str(value) for key, value in options.items()}
        self.wait = wait
        self.allowance: Allowance | None = None
        self.evolves = True
        self._answered = False
        self._planned: Columns | None = None

    def columns(self) -> Columns | None:
        """The table's columns and types; ` not null` after those that are. None where the first write makes it."""
        table, self._planned = self.table(), None
        if table is None:
            warn_of_strangers(self.name)
            return None
        if fault := next(unwritable(table), ""):
            hint = "Drop it there (ALTER TABLE … DROP …), take another table, or send through a SQL warehouse."
            raise TargetError(f"{self.name} can't be written by path: {fault}", hint)
        self.evolves = not is_mapped(table)
        self._planned = columns_of(table)
        return self._planned

    def recover(self, state: State) -> dict[str, Any] | None:
        """The newest commit of a source: `sequence`, and `position` if that is told; None where it is not known."""
        application, table = application_of(state), self.table()
        if not (sequence := self.delivered(table, application, 0)):
            return None
        told = next(told_by(table, self.name, application), {"sequence": sequence})
        return {**told, "committed": told["sequence"]}

    def batch_rows(self, bytes_per_row: float, _: float = 1.0) -> int:
        """How many rows of that size one commit should have, also where but a share of them is sent."""
        allowed = self.allowance.bytes if self.allowance else Allowance.MOST
        return rows_of_commit(bytes_per_row, allowed if allowed < Allowance.MOST else None)

    def holds(self, pages: Iterable[ArrowTable]) -> bool:
        """Whether the table has these rows; asked where a recovered position has no anchors."""
        return True

    def prepare(self, pages: Pages) -> Payload:
        """What is sent, made from pages of rows. May be lazy; must not send. `DoesNotGo` where it can't be sent."""
        return lambda: prefetched(pages())

    def ready(self, intent: Intent, payload: Payload) -> Intent:
        """The intent with all that it takes to settle it; what can be done before the commit is done."""
        return intent

    def send(self, intent: Intent, payload: Payload) -> None:
        """Commit the rows. `LostAnswer` where it can't be told whether that happened, `DidNotRun` where it did not."""

        def once(table: DeltaTable | None) -> None:
            if not self._has(table, intent, is_new=True):
                with contextlib.closing(payload()) as pages:  # What is read ahead is over, too, before the next try.
                    self._append(table, intent, pages)

        self.among_others(once)

    def among_others(self, commit: Callable[[DeltaTable | None], T]) -> T:
        """What `commit` makes of the table; conflicts with other writers are tried again, ever more slowly."""
        for attempt in range(5):
            table = self.table()
            try:
                return commit(table)
            except Conflict as conflict:
                log.info("%s: tried again: %s", self.name, conflict)
                self.wait(random.uniform(0, 2**attempt))
        raise Conflict(f"{self.name}: other writers were faster five times", "The next cycle tries again.")

    def settle(self, intent: Intent, pages: Pages, save: SaveIntent = lambda intent: None) -> bool:
        """Whether an earlier commit took place; waits until that is final. `DoubtError` where it can't be told."""
        return self._has(self.table(), intent)

    def note(self, rows: ArrowTable, create: str) -> None:
        """Append rows that may be there twice or not at all; `create` makes the table where it is made by SQL."""
        table = self.table()
        merge, options = "merge" if table else None, {**IMPATIENT, **self.options}
        write_pages(self.name, iter([rows]), table, schema_mode=merge, storage_options=options)

    def close(self) -> None:
        """End what was opened for one source."""
        self._answered = False

    def table(self) -> DeltaTable | None:
        """The table as it is now, None where there is none. Never kept: credentials in it expire (delta-rs#2909)."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        with delta_errors(self.name):
            if not self._answered:  # once a cycle, whether the store answers at all
                DeltaTable.is_deltatable(self.name, {**IMPATIENT, **self.options})
                self._answered = True
            try:
                return DeltaTable(self.name, storage_options={**PATIENT, **self.options})
            except TableNotFoundError:
                return None

    def delivered(self, table: DeltaTable | None, application: str, committed: int) -> int:
        """The number of the newest commit of `application`, 0 for none; an error where it has lost `committed`."""
        with delta_errors(self.name):
            known = (table.transaction_version(application) or 0) if table else 0
        if known < committed:
            hint = (
                "Was it dropped or restored, or this box away for longer than delta.setTransactionRetentionDuration?"
                " An empty state_dir sends all rows again, also those that are there; --since TIMESTAMP later ones."
            )
            if not table:
                hint = "Does a page to log in answer in the store's place? Then do nothing. Else: " + hint
            raise TargetError(f"{self.name} has lost commits: it knows {known} of {committed}", hint)
        return known

    def _has(self, table: DeltaTable | None, intent: Intent, is_new: bool = False) -> bool:
        """Whether the table has the commit; a `StateError` where it has another one of that number.

        One that is new, or not the newest, is told by its history alone, which may have been cleaned.
        """
        application, number = intent["application"], intent["sequence"]
        delivered = self.delivered(table, application, intent["committed"])
        if delivered < number:
            return False
        saved = next((each for each in told_by(table, self.name, application) if each["sequence"] == number), None)
        is_other = saved and (saved["position"], saved["anchors"]) != (intent["position"], intent["anchors"])
        if is_other or (not saved and (is_new or delivered > number)):
            fault = f"{self.name} has a commit {number} of {application} with other rows"
            hint = "Was an older state put back? Then --recover. Is this box a clone? Then give it an empty state_dir."
            raise StateError(fault, hint)
        return True

    def _append(self, table: DeltaTable | None, intent: Intent, pages: Iterator[ArrowTable]) -> None:
        from deltalake import CommitProperties, Transaction

        now = time.time_ns() // 1000
        own = {"databricks_inserted_at": now, "databricks_batch_id": intent["batch_id"]}
        # Where files name columns otherwise, each has to have all of them.
        is_whole, fields = table is not None and is_mapped(table), table.schema().fields if table else []
        more = {
            field.name: (own.get(field.name.lower()), OWN_COLUMNS.get(field.name.lower()) or delta_type(field))
            for field in fields
            if field.name.lower() in own or (is_whole and GENERATED not in field.metadata)
        }
        more |= {name: (own[name], OWN_COLUMNS[name]) for name in self.own if table is None}
        known, parts = (types_in(columns_of(table)), parting_columns(table)) if table else (None, {})
        planned = (as_planned(self.name, page, self._planned, known) for page in pages)
        filled = (completed_page(page, more, parts) for page in planned)
        told = dict(intent)
        commit = CommitProperties(
            custom_metadata={"uploader": json.dumps({name: told[name] for name in RECOVERED})},
            # delta-rs must not repeat the commit that makes a table: as version 1 it would put its columns in the place
            # of a faster writer's, or name its file once more where only the answer was lost.
            max_commit_retries=self.COMMIT_RETRIES if table else 0,
            # Without a time Spark forgets it at once where delta.setTransactionRetentionDuration is set.
            app_transactions=[Transaction(intent["application"], intent["sequence"], now // 1000)],
        )
        write_pages(
            self.name,
            filled,
            table,
            # Merging fills columns that are missing, and adds new ones; not where a table maps names (delta-rs 1.6).
            schema_mode="merge" if table and not is_whole else None,
            storage_options={**PATIENT, **self.options},
            commit_properties=commit,
        )


# === Targets: SQL warehouse ===========================================================================
#
# Statements go through databricks-sql-connector, which must never send one twice by itself. What its errors
# say of a statement is in the tree of Errors: `DidNotRun`, for certain, or `LostAnswer`. A lost answer is
# settled later: the table is asked, and asked again once the statement can no longer run.
# Zerobus takes the same rows by HTTPS without a warehouse; its lost answers are settled by a warehouse, or not at all.


# --- SQL as text ---


def quoted_sql(name: str) -> str:
    """An identifier of the warehouse."""
    return "`" + name.replace("`", "``") + "`"


def table_name(database: str | None, table: str) -> str:
    """The quoted name of a table; `database` is a schema or catalog.schema, in backquotes where a part needs them."""
    if database is None:
        return quoted_sql(table)
    parts = re.fullmatch(r"(?:(`(?:[^`]|``)+`|[^`.]+)\.)?(`(?:[^`]|``)+`|[^`.]+)", database)
    if not parts:
        raise ConfigError(f"databricks_database is {database!r}", "Expected schema or catalog.schema.")
    names = [part[1:-1].replace("``", "`") if part[0] == "`" else part for part in parts.groups() if part]
    return ".".join(quoted_sql(name) for name in (*names, table))


def literal(text: str) -> str:
    """A string literal. Spark replaces `${name}` even inside literals, so that pair is taken apart."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "$\\{") + "'"


TOO_LATE = "begun too late"


def not_later_than(since: str, seconds: float) -> str:
    """A condition that fails a statement which begins later than that: STATEMENT_TIMEOUT does not count a queue."""
    latest = f"TIMESTAMP'{dt.datetime.fromisoformat(since) + dt.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%fZ}'"
    return f"if(greatest(current_timestamp(), {latest}) = {latest}, true, raise_error('{TOO_LATE}'))"


def carried(kind: str) -> tuple[str, str]:
    """The type as which from_json reads a column's values without loss, and what makes the column's type of that.

    Whole numbers are JSON numbers, text is text. The rest travels as text that an ANSI cast reads, which refuses what
    it can't read, and knows Python's inf and nan (docs.databricks.com, "Special floating point values"). from_json of
    some engines has no fractions in times, no NaN, and loses a number's last digit.
    """
    base = base_of(kind)
    if base in INTEGER_BITS or base == "boolean":
        return kind.upper(), "{}"
    return "STRING", {"binary": "unbase64({})"}.get(base, "{}" if base in TEXTS else f"CAST({{}} AS {kind.upper()})")


def json_texts(column: ArrowColumn, kind: str, real: str = "{!r}") -> list[str]:
    """A column's values in JSON: numbers bare, also inf and nan, or as `real` has them; BINARY in base64, else text."""
    # Each text is made once: most texts of sensors repeat.
    base, text_of = base_of(kind), functools.cache(json.JSONEncoder(ensure_ascii=False).encode)
    if base not in (*INTEGER_BITS, *REALS, *TEXTS, "boolean", "binary"):
        column = column.cast(arrow_type("string"))
    values = [*column.to_pylist()]
    if base in (*INTEGER_BITS, *REALS):
        form = real.format if base in REALS else repr
        return ["null" if value is None else form(value) for value in values]
    if base == "binary":
        values = [value if value is None else base64.b64encode(value).decode() for value in values]
    return ["null" if value is None else text_of(value) for value in values]


class Insert:
    """Rows of the types `kinds` for one INSERT: `values` are expressions by column over the subquery `source`.

    That has rows `r` out of one JSON document in one literal, with fields c0, c1, ..., so that no column's name enters
    a schema text. `size` is its length in bytes, and `texts` are the values in JSON, column by column.
    """

    route = "insert"

    def __init__(self, rows: ArrowTable, kinds: Columns) -> None:
        self.rows, self.kinds, self.count = rows, kinds, rows.num_rows
        ways = [carried(kind) for kind in kinds.values()]
        self.values = {name: ways[index][1].format(f"r.c{index}") for index, name in enumerate(kinds)}
        self.texts = [json_texts(rows.column(name), kind, '"{!r}"') for name, kind in kinds.items()]
        row = "{" + ",".join(f'"c{index}":%s' for index in range(len(kinds))) + "}"
        document = "[" + ",".join(row % texts for texts in zip(*self.texts, strict=True)) + "]"
        # As JSON's own escapes quotes and dollar signs leave only backslashes to be doubled.
        document = document.replace("'", "\\u0027").replace("$", "\\u0024").replace("\\", "\\\\")
        fields = ", ".join(f"c{index}: {kind}" for index, (kind, _) in enumerate(ways))
        explode = f"explode(from_json('{document}', 'ARRAY<STRUCT<{fields}>>', map('mode', 'FAILFAST')))"
        self.source = f"(SELECT {explode} AS r)"
        self.size = len(self.source.encode())

    @functools.cached_property
    def digest(self) -> str:
        """What tells whether rows are these, in any order, of their columns too."""
        by_name = dict(zip(self.kinds, self.texts, strict=True))
        return digest_of(json.dumps(sorted(zip(*map(by_name.__getitem__, sorted(by_name)), strict=True))))


@dataclasses.dataclass(frozen=True)
class Staged:
    """Rows in a Parquet file with columns c0, c1, ...; `values` are expressions by column over them."""

    route: ClassVar = "copy"
    size: ClassVar = 0  # A request does not carry them.
    count: int
    values: dict[str, str]
    file: Path
    sample: Insert  # Some rows, which tell of all.
    text: Insert | None  # A single row, for where its file can't be put.


def digested(sent: Insert) -> Insert:
    """The same rows with SHA-256 digests of texts and blobs, as `sha2` has them; for nothing but a comparison."""
    columns: dict[str, ArrowColumn] = {name: sent.rows.column(name) for name in sent.kinds}
    long = {name: base_of(kind) for name, kind in sent.kinds.items() if base_of(kind) in (*TEXTS, "binary")}
    for name, base in long.items():
        values = (value.rstrip(" ") if base == "char" and value else value for value in columns[name].to_pylist())
        contents = (value.encode() if isinstance(value, str) else value for value in values)
        digests = [None if content is None else hashlib.sha256(content).hexdigest() for content in contents]
        columns[name] = array_of(digests, "string")
    return Insert(arrow_table(columns), sent.kinds | dict.fromkeys(long, "string"))


def comparison(table: str, sent: Insert, past: str = "") -> str:
    """How many of the different rows that were sent the table has, how many of all too rarely, and too often.

    Those that it had in the `past` do not count. GROUP BY takes NULLs as equal, and NaNs. CHAR columns are read with
    their padding. Texts are compared as bytes, whatever their collation; of a large row, by digests: a line that
    drops a large request drops a large question, too.
    """
    brief = digested(sent) if sent.count == 1 and sent.size >= Allowance.LEAST else sent
    trims = {name: "CAST({} AS BINARY)" if base_of(kind) in TEXTS else "{}" for name, kind in sent.kinds.items()}
    trims |= {name: "CAST(rtrim({}) AS BINARY)" for name, kind in sent.kinds.items() if kind.startswith("char")}
    keys = {name: f"k{index}" for index, name in enumerate(trims)}
    told, found = dict(trims), dict(trims)
    for name, kind in sent.kinds.items():
        if brief is not sent and base_of(kind) in (*TEXTS, "binary"):
            told[name], found[name] = "{}", f"sha2({trims[name]}, 256)"
    given = ", ".join(f"{told[name].format(brief.values[name])} AS {key}" for name, key in keys.items())
    held = ", ".join(found[name].format(quoted_sql(name)) for name in keys)
    # All these rows meet it, and it lets the warehouse skip files.
    spans = [span_of(sent.rows.column(name), name, kind) for name, kind in sent.kinds.items()]
    where = " AND ".join(filter(None, spans)) or "true"
    before = f" UNION ALL SELECT 0, -1, {held} FROM {table} {past} WHERE {where}" if past else ""
    return (
        "SELECT count(CASE WHEN held <> 0 THEN 1 END), count(CASE WHEN held < sent THEN 1 END),"
        " count(CASE WHEN held > sent THEN 1 END) FROM (SELECT sum(s) AS sent, sum(h) AS held FROM"
        f" (SELECT 1 AS s, 0 AS h, {given} FROM {brief.source}"
        f" UNION ALL SELECT 0, 1, {held} FROM {table} WHERE {where}{before})"
        f" GROUP BY {', '.join(keys.values())}) WHERE sent > 0"
    )


def span_of(column: ArrowColumn, name: str, kind: str) -> str | None:
    """`column BETWEEN least AND greatest`, for whole numbers, dates and times without NULLs."""
    if column.null_count or not len(column) or kind not in (*INTEGER_BITS, "date", "timestamp"):
        return None
    values = column.to_pylist()
    least, greatest = min(values), max(values)
    if kind not in INTEGER_BITS:
        least, greatest = (f"{kind.upper()}'{end.isoformat().replace('+00:00', 'Z')}'" for end in (least, greatest))
    return f"{quoted_sql(name)} BETWEEN {least} AND {greatest}"


# --- Errors of the driver ---

# SQLSTATE classes that say for certain that a statement failed and left nothing behind: syntax, types, values,
# constraints, rights, conflicts, limits, raise_error (docs.databricks.com, "SQLSTATE error codes"). Others, such as 08
# (connection), 57 (cancelled), 58 (system) and XX (internal), leave it open. So does KD (data sources), but for a file
# that COPY INTO can't read, before it commits, and for a table whose protocol is too new; so is 56038, "not supported
# in this environment", as a table's feature of an older cluster.
DEFINITE = frozenset(
    ["07", "0A", "21", "22", "23", "28", "2B", "2D", "40", "42", "44", "54", "P0", "KD001", "KD004", "56038"]
)

# SQLSTATEs of conditions that some servers name without them, or with one that says less, or something else: types that
# can't be stored, and columns that are missing, are found before anything runs, whatever the rows hold (KD000, 22005,
# 23502; delta-io/delta, delta-error-classes.json); a hook fails after the commit, which is no conflict (2DKD0). By the
# standard 40003 is "statement completion unknown".
STATES = {
    "INCOMPATIBLE_DATA_FOR_TABLE": "42804", "DELTA_POST_COMMIT_HOOK_FAILED": "XX000", "2DKD0": "XX000",
    "DELTA_FAILED_TO_MERGE_FIELDS": "42804", "DELTA_MISSING_NOT_NULL_COLUMN_VALUE": "42703", "40003": "XX000",
    "TABLE_OR_VIEW_NOT_FOUND": "42P01", "SCHEMA_NOT_FOUND": "42704", "UNRESOLVED_COLUMN": "42703",
    "PARSE_SYNTAX_ERROR": "42601", "CAST_INVALID_INPUT": "22018", "USER_RAISED_EXCEPTION": "P0001",
    "PERMISSION_DENIED": "42501", "INSUFFICIENT_PERMISSIONS": "42501",
}  # fmt: skip

REMEDIES = {
    "42501": "Grant USE CATALOG, USE SCHEMA, SELECT, MODIFY; for databricks_volume also READ VOLUME, WRITE VOLUME.",
    "42P01": "Create the table (--print-ddl prints how), or check its name: --run-query INFO lists those there are.",
    "42704": "Check databricks_database and databricks_volume: a schema, catalog or volume is not there.",
    **dict.fromkeys(("42808", "42809"), "Rows go to a table, not a view, that takes them; leave out columns it makes."),
    "42804": "Compare the types with --check; where a column's changed, the next cycle reads them again.",
    "42703": "--run-query INFO shows the columns; where these changed, the next cycle reads them again.",
    "22": "A value does not fit its column: compare the types with --check.",
    "23": "A constraint of the table refuses a row: NOT NULL or CHECK.",
    **dict.fromkeys(("KD004", "56038"), "Take a newer warehouse or cluster, or drop the table's feature."),
    **dict.fromkeys(("2D", "40"), "Another writer was faster; the next cycle tries again."),
}


@contextlib.contextmanager
def driver_errors(writes: bool = False, taken: Callable[[], object] = bool) -> Iterator[None]:
    """The driver's errors, some of which are other libraries', as ours; `writes` where a commit is under way.

    Once the server has `taken` a statement the driver asks how it ends: what befalls these questions is none of its
    end, whatever it says of others, as 404 "Command … does not exist" (databricks-sql-go#176) or 429.
    """
    import urllib3
    from databricks.sql import exc

    try:
        yield
    except (exc.Error, urllib3.exceptions.HTTPError, OSError, ValueError, ImportError) as error:
        fault = fault_of(error, writes)
        if writes and taken() and (isinstance(error, exc.RequestError) or not isinstance(error, exc.Error)):
            fault = LostAnswer(f"the answer to a statement was lost: {fault}")
        raise fault from None


def fault_of(error: Exception, writes: bool) -> UploaderError:
    """What an error of the driver's means for a statement that was sent."""
    import urllib3
    from databricks.sql import exc

    # The driver keeps what it caught as the second argument of its RequestError.
    cause = error.args[1] if isinstance(error, exc.RequestError) and len(error.args) > 1 else error
    if isinstance(cause, UploaderError):
        return cause
    if isinstance(cause, (urllib3.exceptions.HTTPError, OSError)):
        return network_error(cause, writes)
    if isinstance(error, exc.RequestError):
        code, said = error.context.get("http-code"), str(error.context.get("error-message") or "").strip(": ")
        told = ", ".join(filter(None, [code and f"HTTP {code}", said]))
        context = error.__context__  # Its text may show a signed address.
        told = told or f"nothing ({getattr(context, 'reason', type(context).__name__)})"
        return http_error(code or 0, told, writes)
    if isinstance(error, ImportError):
        said = "a real-time warehouse speaks another protocol than this driver"
        return Rejected(said, "Use another SQL warehouse.")
    return server_error(str(error), writes)


# Alerts that end a TLS handshake, before anything else was sent (RFC 8446, 6.2).
NO_HANDSHAKE = (
    r"(?i)handshake|wrong.version|unsupported.protocol|alert.(protocol|certificate|unknown.ca|access|unrecogni)"
)


# At a custom URL, which is that of all workspaces of an account, statements for none are sent to a page to log in, too
# (databricks-sql-python#767).
LOGIN_PAGE = (
    "Is it a page to log in? Else check databricks_host, databricks_http_path and zerobus_endpoint: where the host is a"
    " custom URL, the path ends in ?o=WORKSPACE_ID."
)


def network_error(error: Exception, writes: bool, host: str = "the workspace") -> UploaderError:
    """Failures below HTTP: names, connections, TLS."""
    import socket
    import ssl
    from urllib.error import URLError

    from urllib3 import exceptions as http

    inner = getattr(error, "reason", None)
    reason = inner if isinstance(inner, Exception) else error
    tls = next((e for e in (reason, *reason.args) if isinstance(e, ssl.SSLCertVerificationError)), None)
    if tls:
        hint = "Check the clock. For a private CA or an inspecting proxy set databricks_ca_file to its PEM file."
        return Rejected(f"the host's certificate is not trusted: {tls.verify_message}", hint)
    if re.search(NO_HANDSHAKE, str(reason)):
        return Unreachable(f"the TLS handshake was refused: {reason}", "Check databricks_host, and proxies between.")
    unreachable = (http.NewConnectionError, http.ConnectTimeoutError, http.ProxyError)
    if isinstance(reason, (*unreachable, ConnectionRefusedError)) or (isinstance(error, URLError) and not writes):
        is_name = isinstance(reason, (socket.gaierror, http.NameResolutionError))
        fault = f"{host} can't be {'resolved' if is_name else 'reached'}: {reason}"
        hint = "Is the machine offline? Check databricks_host for a typo, the firewall, and HTTPS_PROXY, if need be."
        return Unreachable(fault, hint)
    if isinstance(reason, http.ResponseError) and "redirect" in str(reason):
        return Unanswered("the host redirects instead of answering", LOGIN_PAGE)
    if writes:
        return LostAnswer(f"the answer to a statement was lost: {type(reason).__name__}")
    return Unanswered(f"the connection was lost: {shortened(str(reason))}", "The next cycle tries again.")


ZEROBUS_GRANTS = "USE CATALOG, USE SCHEMA, and SELECT and MODIFY on the table."

# What a status refuses for good, and what to do; 401 as 403.
REFUSALS = {
    ("warehouse", 403): "Check or renew the token: these credentials are refused, or without CAN USE on the warehouse."
    " Or this machine's address is on no IP access list of the workspace.",
    ("warehouse", 404): "Check databricks_http_path or DATABRICKS_WAREHOUSE_ID: there is no such warehouse.",
    ("workspace", 403): f"Grant the service principal {ZEROBUS_GRANTS}",
    ("workspace", 404): "Create the table (--print-ddl prints how), or check names and zerobus_endpoint.",
    ("workspace", 501): "Zerobus does not write to such a table, as one in default storage; one that was"
    " made anew takes another name.",
}


def http_error(status: int, said: str, writes: bool, host: str = "warehouse") -> UploaderError:
    """Another status than 200, of the warehouse or of the workspace's services, or of a gateway before them."""
    shown, by_sql = f"the {host} answers: {said}", host == "warehouse"
    hint = REFUSALS.get((host, 403 if status == 401 else status))
    # Firewalls answer 403 to what is too large, IIS 404, others as they like; the session began with this token.
    is_refusal = status in (403, 404) or (not by_sql and 400 <= status < 500 and status not in (401, 408, 425, 429))
    is_large = status in (400, 413, 414, 431) or (writes and is_refusal) or says_too_large(said)
    if is_large and (writes or by_sql):
        return RefusedSizeError(shown, hint or "Smaller requests are tried by themselves.")
    if status == 511 or 300 <= status < 400:
        return Postponed(shown, LOGIN_PAGE)
    if status == 429 or (status == 503 and not writes) or (status in (408, 425) and not by_sql):
        return NotReady(shown, "It is starting or busy; the next cycle tries again.")
    if hint or (not by_sql and status < 500):
        # The session began with this token: the second refusal in a row may be for the size.
        kind = Postponed if writes else Rejected
        return kind(shown, hint or "Check databricks_host and zerobus_endpoint.")
    if writes:
        return LostAnswer(f"the answer to a request was lost: {said}")
    return Unanswered(shown, "Is it a page to log in?" if status == 200 else "The next cycle tries again.")


def server_error(message: str, writes: bool) -> UploaderError:
    """The server's own words, with its SQLSTATE or named condition."""
    condition = re.search(r"(\[?)\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", message)
    given = re.search(r"SQLSTATE:?\s*\(?([0-9A-Z]{5})\b", message)
    state = STATES.get(given[1], given[1]) if given else ""
    if condition and (condition[1] or not given):
        state = STATES.get(condition[2], state)
    # In quotes it is the statement's own text, which errors of any kind may show.
    if re.search(f"(?<!'){TOO_LATE}(?!')", message):
        hint = "Raise databricks_statement_timeout, or lower batch_rows for a slow line."
        return Postponed("the statement reached the warehouse too late and did not run", hint)
    shown = f"the warehouse answers: {shortened(message)}"
    hint = REMEDIES.get(state) or REMEDIES.get(state[:2], "")
    is_open = writes and not DEFINITE & {state, state[:2]}
    if state[:2] in ("2D", "40"):
        return Postponed(shown, hint)
    if state[:2] == "54" or (says_too_large(message) and not (is_open and state)):
        return RefusedSizeError(shown, "Smaller statements are tried by themselves.")
    if is_open:
        return LostAnswer(shown)
    kind = RefusedValuesError if writes and state[:2] in ("22", "23") else Rejected
    return kind(shown, hint)


# What gateways and servers say of a request that is too large for them, whatever their status.
TOO_LARGE = (
    r"(?i)\b(request|entity|content|payload|body|message|statement|query|frame|headers?|uri|size)\b[^.;,]{0,40}"
    r"(too (large|long|big)|larger than max|exceed\w* (the |its )?(\w+ )?(maximum|allowed|permitted)\b[^.;,]{0,20}size)"
)


def says_too_large(message: str) -> bool:
    """Whether a message says so in words of its own: what stands in quotes is the statement's text."""
    return bool(re.search(TOO_LARGE, re.sub(r"'[^']*('|$)", "", message)))


# --- Sessions ---

# Hosts that a token is sent to without being asked twice. Others are for those who name their CA.
DATABRICKS_HOSTS = (
    ".databricks.com", ".azuredatabricks.net", ".databricks.azure.cn", ".databricks.azure.us",
    ".cloud.databricks.us", ".cloud.databricks.mil",
)  # fmt: skip

# How long a stopped warehouse is waited for: classic ones take some four minutes to start.
START_SECONDS = 600

# The server may hold an answer back for as long as the statement runs; so much later it is taken for lost.
ANSWER_SECONDS = 30

USER_AGENT = f"sqlite-to-databricks-uploader/{__version__}"


def is_warehouse(config: Config) -> bool:
    """Whether statements go to a SQL warehouse, which has STATEMENT_TIMEOUT; clusters don't."""
    return bool(re.search(r"/(warehouses|endpoints)/", config.databricks_http_path or ""))


@dataclasses.dataclass(eq=False, repr=False)  # The environment holds secrets.
class Session:
    """What asks a workspace: its warehouse in a session, opened by the first statement, and its services one by one.

    It keeps the time of both. `wait` sleeps for some seconds and returns true if the run should stop; `clock` counts
    seconds. Tokens of a service principal are kept until shortly before their end.
    """

    config: Config
    environ: Mapping[str, str]
    wait: Wait = time.sleep
    clock: Clock = time.monotonic
    _connection: Any = None
    _ahead: float = 0.0
    _services_ahead: float | None = None
    _tokens: dict[str, tuple[str, float]] = dataclasses.field(default_factory=dict)

    def now(self) -> float:
        """The warehouse's time, in seconds since 1970. Boxes without a clock of their own jump; this does not."""
        self.opened()
        return self.clock() + self._ahead

    def services_now(self) -> float:
        """The services' time, in seconds since 1970; the box's own before an answer told it."""
        return time.time() if self._services_ahead is None else self.clock() + self._services_ahead

    def token(self, table: str = "") -> str:
        """The token for rows into a table, or the ordinary one, which such a token can't replace, nor it that."""
        token, end = self._tokens.get(table, ("", 0.0))
        if not token or self.clock() > end:
            rights = table_rights(self.config, table) if table else {}
            token, seconds = principal_token(renewed(self.config, self.environ), **rights)
            # It is renewed two minutes before its end: no request takes longer.
            self._tokens[table] = token, self.clock() + seconds - min(120, seconds / 2)
        return token

    def ask(self, url: str, content: bytes = b"", table: str = "", is_last: bool = False) -> Answer:
        """The answer to one request to a service; a token that isn't taken any more is renewed once."""
        from email.utils import parsedate_to_datetime

        headers = {"Authorization": f"Bearer {self.token(table)}", "Content-Type": "application/json"}
        if not table:  # A custom URL is that of all workspaces of an account (databricks-sql-python#767).
            headers["X-Databricks-Org-Id"] = workspace_of(self.config)
        answer = asked(self.config, url, headers, content, writes=bool(content))
        with contextlib.suppress(ValueError):
            self._services_ahead = parsedate_to_datetime(answer.date).timestamp() - self.clock()
        if answer.status in (401, 403):
            del self._tokens[table]  # Rights are part of a token.
        return self.ask(url, content, table, is_last=True) if answer.status == 401 and not is_last else answer

    def run(self, sql: str, *, writes: bool = False, stream: Any = None) -> Any:
        """A cursor that has executed `sql`; `writes` where that commits something."""
        from databricks.sql.backend.types import CommandState

        connection, cursor = self.opened(), None
        try:
            with driver_errors(writes, lambda: cursor and cursor.active_command_id):
                cursor = connection.cursor(arraysize=1_000)  # Answers may be too large, too.
                cursor.execute(sql, input_stream=stream)
            # A cancelled statement may have committed (dbt-databricks#1315), and the driver reports none.
            if writes and cursor.active_result_set.status is not CommandState.SUCCEEDED:
                raise LostAnswer(f"a statement ended as {cursor.active_result_set.status.name}")
        except TransientError:
            self.close(is_broken=True)
            raise
        return cursor

    def query(self, sql: str) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
        """A statement's column names, and its rows page by page."""
        cursor = self.run(sql)

        def page() -> list[tuple[Any, ...]]:
            with driver_errors():
                return [tuple(row) for row in cursor.fetchmany(1000)]

        return [column[0] for column in cursor.description or []], iter(page, [])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        return [row for page in self.query(sql)[1] for row in page]

    def close(self, is_broken: bool = False) -> None:
        """End the session, if there is one. One that is broken is dropped: the request that ends it could hang."""
        connection, self._connection = self._connection, None
        if connection and is_broken:
            connection.session.is_open = False
        elif connection:
            with contextlib.suppress(UploaderError), driver_errors():
                connection.close()

    def opened(self) -> Any:
        """The connection, begun where there is none; a warehouse that is starting is waited for."""
        waited, pause = 0.0, 1.0
        while not self._connection:
            try:
                with no_matter_of_size():
                    self._open()
            except NotReady as error:
                if waited + pause > START_SECONDS:
                    raise
                log.warning("%s; waiting for it, %d of at most %d seconds so far", error, waited, START_SECONDS)
                if self.wait(pause):
                    raise Stopped("stopped while the warehouse was starting") from None
                waited, pause = waited + pause, min(2 * pause, 30.0)
        return self._connection

    def _open(self) -> None:
        """Begin a session with its first statements, so the next ones don't wait for the warehouse to start."""
        try:
            self._connection = connect(renewed(self.config, self.environ), self.environ)
            (micros,) = self.rows("SELECT unix_micros(current_timestamp())")[0]
            self._ahead = micros / 1e6 - self.clock()
            if is_warehouse(self.config):
                self.run(f"SET STATEMENT_TIMEOUT = {self.config.databricks_statement_timeout}")
        except UploaderError:
            # Nothing may be sent in a session that is not as it should be.
            self.close(is_broken=True)
            raise


@contextlib.contextmanager
def no_matter_of_size() -> Iterator[None]:
    """For what is asked whatever rows there are: where that is refused no smaller batch would help."""
    try:
        yield
    except RefusedSizeError as error:
        raise Rejected(str(error), "Check token, rights, databricks_http_path, and gateways between.") from None


def connect(config: Config, environ: Mapping[str, str]) -> Any:
    """A connection whose driver sends each request once.

    The driver's retries would execute an INSERT again after a reset, a timeout or a 503 (databricks-sql-connector 4.9,
    `auth/retry.py`; dbt-databricks#1363). Its older retries, limited to one attempt, don't.
    """
    hostname, _, port = (config.databricks_host or "").partition(":")
    signed_in = credentials(config, environ)
    asked(config, f"https://{config.databricks_host}/", {})  # The driver would be slow to tell that nobody answers.
    # What matters in the drivers' own log lines comes as our errors. A level that was set is left.
    for name in ("databricks", "urllib3"):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
    from databricks import sql

    # Strict casts, and times shown in UTC.
    settings = {"spark.sql.ansi.enabled": "true", "spark.sql.session.timeZone": "UTC"}
    if is_warehouse(config):
        settings = {"ansi_mode": "true", "timezone": "UTC"}  # Databricks' own drivers write them so.
    with driver_errors():
        return sql.connect(
            server_hostname=hostname,
            http_path=config.databricks_http_path,
            session_configuration=settings,
            user_agent_entry=USER_AGENT,
            enable_telemetry=False,
            use_cloud_fetch=False,
            _port=int(port or 443),
            _tls_trusted_ca_file=str(config.databricks_ca_file) if config.databricks_ca_file else None,
            _enable_v3_retries=False,
            _retry_stop_after_attempts_count=1,
            _socket_timeout=config.databricks_statement_timeout + ANSWER_SECONDS,
            **signed_in,
        )


def refuse_host(config: Config, hostname: str) -> None:
    """A token goes to Databricks alone, unless `databricks_ca_file` vouches for another host."""
    if not config.databricks_ca_file and not hostname.lower().endswith(DATABRICKS_HOSTS):
        hint = "Check databricks_host. For a host of your own set databricks_ca_file to its CA's certificate."
        raise ConfigError(f"{hostname} is no Databricks host, so the token is not sent there", hint)


WAYS_IN = (
    "Set DATABRICKS_TOKEN or DATABRICKS_TOKEN_FILE, DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, or"
    " DATABRICKS_CONFIG_PROFILE."
)

# Variables that databricks-sdk signs in by, beside the settings of ours.
SDK_VARIABLES = (
    r"ARM_|GOOGLE_|ACTIONS_ID_TOKEN_|SYSTEM_ACCESSTOKEN|DATABRICKS_(AUTH|OIDC|AZURE|CONFIG|USERNAME|METADATA)"
)


def refuse_other_ways(config: Config, environ: Mapping[str, str]) -> None:
    """Whether there is any way for databricks-sdk, which would look for one for ten seconds and more."""
    if config.databricks_config_profile or any(v and re.match(SDK_VARIABLES, name) for name, v in environ.items()):
        return
    pair = {SETTINGS[s].variables[0]: getattr(config, s) for s in ("databricks_client_id", "databricks_client_secret")}
    if any(pair.values()):
        missing, given = sorted(pair, key=lambda name: bool(pair[name]))
        raise ConfigError(f"{given} is set, but not {missing}", f"A service principal needs both. {WAYS_IN}")
    file, path = Path(environ.get("HOME") or "/") / ".databrickscfg", environ.get("PATH", "")
    if not file.exists() and not any(shutil.which(name, path=path) for name in ("databricks", "az", "gcloud")):
        raise ConfigError("there is no token, and no other way to sign in to Databricks", WAYS_IN)


# --- Requests without the driver ---


class Answer(NamedTuple):
    """What a host answered: the JSON object that it told, if it did; `date` is its time as HTTP writes it.

    A page is what somebody between says, whatever the status; so is nothing at all.
    """

    status: int
    told: dict[str, Any] | None
    date: str

    def shown(self) -> str:
        """Its status, and what it says, for people."""
        return shortened(": ".join([f"HTTP {self.status}", *self.said()]))

    def said(self) -> list[str]:
        """What it says of an error."""
        return [str(self.told[key]) for key in ("error_code", "error", "message") if self.told and self.told.get(key)]


def verifying(config: Config) -> Any:
    """TLS that verifies: by `databricks_ca_file` alone where it is set, else by the system's roots."""
    import ssl

    try:
        return ssl.create_default_context(cafile=config.databricks_ca_file)
    except OSError as error:
        file = config.databricks_ca_file
        fault = ConfigError(f"databricks_ca_file: {file} is no readable PEM file: {error.strerror}")
        fault.is_final = False  # One that is being replaced is there again in the next cycle.
        raise fault from None


# An answer of services is smaller.
MOST_ANSWER_BYTES = 64 << 20


def whole_body(answer: Any) -> bytes:
    """The body of an answer; a `TimeoutError` for one that goes on for too long, as where somebody trickles it."""
    end, chunks, size = time.monotonic() + ANSWER_SECONDS, list[bytes](), 0
    while chunk := answer.read1(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > MOST_ANSWER_BYTES or time.monotonic() > end:
            raise TimeoutError("the answer does not come to an end")
    return b"".join(chunks)


def asked(config: Config, url: str, headers: Mapping[str, str], content: bytes = b"", writes: bool = False) -> Answer:
    """The answer to one request, whatever its status. It is sent once; redirects are not followed.

    `LostAnswer` only where it was sent as a whole and `writes`: else nothing happened; where its body was cut off,
    that may be for its size. A proxy (HTTPS_PROXY) sees nothing but the tunnel.
    """
    import http.client
    import urllib.request

    # The last byte is sent alone: without it, nobody has a whole JSON text.
    unsent = [content[-1:], content[:-1]]
    body = (unsent.pop() for _ in range(2)) if content else None
    host = urlsplit(url)
    refuse_host(config, host.hostname or "")
    length = {"Content-Length": str(len(content))} if content else {}
    request = urllib.request.Request(url, body, {"User-Agent": USER_AGENT, **headers, **length})
    opener = urllib.request.OpenerDirector()  # By itself it takes no status for an error, and follows none elsewhere.
    for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=verifying(config))):
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            told: Any = None
            with contextlib.suppress(ValueError):  # as in the pages of gateways
                told = json.loads(whole_body(answer))
            return Answer(answer.status, told if isinstance(told, dict) else None, answer.headers.get("Date", ""))
    except (OSError, http.client.HTTPException) as error:
        if writes and len(unsent) == 1:
            raise RefusedSizeError(f"the connection ended amid a request: {error}", "A smaller one is tried.") from None
        raise network_error(error, writes and not unsent, host.netloc) from None


def credentials(config: Config, environ: Mapping[str, str]) -> dict[str, Any]:
    """How the driver signs in: a token, a service principal, or what databricks-sdk finds then. Never by a browser."""
    method = environ.get("DATABRICKS_AUTH_TYPE", "").strip()
    token, principal = config.databricks_token, config.databricks_client_id and config.databricks_client_secret
    if token and principal and not method and not config.zerobus_endpoint:  # There the token is the warehouse's alone.
        hint = "Unset one, or set DATABRICKS_AUTH_TYPE to pat or oauth-m2m."
        raise ConfigError("both a token and a service principal are set", hint)
    if token and method in ("", "pat"):
        if not TOKEN.fullmatch(token):
            # It would be shown in full by the error that says that a header can't hold it.
            raise ConfigError("databricks_token holds a character that no token has", "Copy it again.")
        return {"access_token": token}
    if principal and method in ("", "oauth-m2m"):
        # databricks-sdk would do this without a time limit and `databricks_ca_file`, with two seconds of imports.
        own = Session(config, environ)  # Its token is as new as the driver's session.
        return {"credentials_provider": lambda: lambda: {"Authorization": f"Bearer {own.token()}"}}
    refuse_other_ways(config, environ)
    found = functools.cache(functools.partial(sdk_headers, config, method))  # Asked for once the host answers.
    return {"credentials_provider": lambda: lambda: found()()}


def principal_token(config: Config, **form: str) -> tuple[str, float]:
    """A service principal's token, and its life in seconds (docs.databricks.com, "OAuth machine-to-machine")."""
    pair = f"{config.databricks_client_id}:{config.databricks_client_secret}".encode()
    headers = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    content = urlencode({"grant_type": "client_credentials", "scope": "all-apis", **form}).encode()
    answer = asked(config, f"https://{config.databricks_host}/oidc/v1/token", headers, content)
    if answer.status != 200:
        hint = "Check DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET; secrets expire."
        for_table = f" Check zerobus_endpoint, which begins with the workspace's id, and the rights: {ZEROBUS_GRANTS}"
        kind = Rejected if answer.status in (400, 401, 403) else Postponed
        raise kind(f"the service principal gets no token: {answer.shown()}", hint + for_table if form else hint)
    token, seconds = ((answer.told or {}).get(key) for key in ("access_token", "expires_in"))
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise Rejected("the host answers without a token", "Check databricks_host.")
    return token, float(seconds) if isinstance(seconds, (int, float)) else 3600.0


def sdk_headers(config: Config, method: str) -> Callable[[], dict[str, str]]:
    """What signs requests in by databricks-sdk: profiles, Azure, workload identity, the CLI's login."""
    from databricks.sdk.core import Config as Unified
    from databricks.sdk.credentials_provider import DefaultCredentials

    class WithoutBrowser(DefaultCredentials):  # type: ignore[misc, unused-ignore]
        def __call__(self, cfg: Any) -> Any:
            if cfg.auth_type == "external-browser":
                raise ValueError("a browser is no way in for an unattended box")
            return super().__call__(cfg)

    make = functools.partial(
        Unified,
        host=f"https://{config.databricks_host}",
        profile=config.databricks_config_profile,
        auth_type=method or None,
        retry_timeout_seconds=5,
        http_timeout_seconds=5,
        credentials_strategy=WithoutBrowser(),
    )
    return functools.partial(in_time, in_time(make).authenticate)


def in_time(work: Callable[[], T]) -> T:
    """What `work` returns. After a minute it is given up, since databricks-sdk fetches tokens without a time limit."""
    try:
        return submitted(ThreadPoolExecutor(1), work).result(60)
    except OSError as error:
        raise network_error(error, writes=False) from None
    except ValueError as error:
        raise ConfigError(f"databricks-sdk finds no way in: {shortened(str(error))}", WAYS_IN) from None


# --- The table ---


def is_column(described: Sequence[Any]) -> bool:
    """Whether a row of DESCRIBE is a column's; what follows begins with a heading such as `# Partitioning`."""
    name, kind = described[:2]
    return bool(name) and not (name.startswith("#") and kind in ("", None, "data_type"))


def joined(pages: Sequence[ArrowTable]) -> ArrowTable:
    """Pages of rows as one table; without columns where there are no pages."""
    from arro3.core import Table

    if not pages:
        return arrow_table({})
    return Table.from_batches([batch for page in pages for batch in page.to_batches()], schema=pages[0].schema)


# What became of a batch: True where it is in the table, False where it never comes, None where that can't be told.
Fate = bool | None


class WarehouseTable:
    """A table in Databricks, as all routes to it see it.

    A warehouse tells its columns, or Unity Catalog where rows go by Zerobus: so that needs no warehouse. A cycle's rows
    are made for those that its first question finds. Where they are others by a later one, the cycle ends.
    """

    # Clocks of one warehouse's machines differ by less, and so much time ending a statement may take.
    SLACK_SECONDS = 15

    # So long a cycle trusts them: an INSERT turns 2.7 into 2 where a DOUBLE is an INT by now.
    TRUSTED_SECONDS = 10

    def __init__(self, session: Session, table: str) -> None:
        self.session = session
        self.timeout = session.config.databricks_statement_timeout
        self.full_name = f"{session.config.databricks_database}.{table}"
        # The largest body of Zerobus' REST is not documented; a message of gRPC takes 10 MB.
        self.allowance = Allowance(4 << 20) if session.config.zerobus_endpoint else Allowance()
        self.sql = table_name(session.config.databricks_database or "", table)
        self._columns: Columns | None = None
        self._asked = -math.inf

    def columns(self) -> Columns:
        """The table's columns, as this cycle knows them; ` not null` after the types of those that are."""
        self.look(math.inf)
        return self._columns or {}

    def look(self, trusted: float = TRUSTED_SECONDS) -> None:
        """Ask for the columns, where they are not known for less than so many seconds; `Postponed` if they changed."""
        if self._columns is not None and self.session.clock() - self._asked < trusted:
            return
        with no_matter_of_size():
            found = self._catalogued() if self.session.config.zerobus_endpoint else self._described()
        # Collations are no matter but of the batch id, which is searched for.
        plain = {name: type_told(re.sub(r" collate \S+", "", kind)) for name, kind in found.items()}
        found = plain | {name: kind for name, kind in found.items() if name.lower() in OWN_COLUMNS}
        if self._columns is not None and types_in(self._columns) != types_in(found):
            raise Postponed(f"the columns of {self.full_name} changed", "The next cycle makes its rows for them.")
        self._columns, self._asked = found, self.session.clock()

    def _described(self) -> Columns:
        """The columns as DESCRIBE tells them; which are NOT NULL and have no default, where the server tells that."""
        self.session.opened()  # That it is refused must not pass for a refused statement.
        required = set[str]()
        with contextlib.suppress(Rejected, ValueError, IndexError):
            told = json.loads(self.session.rows(f"DESCRIBE TABLE EXTENDED {self.sql} AS JSON")[0][0])
            required = {c["name"] for c in told.get("columns", []) if c.get("nullable") is False and "default" not in c}
        described = itertools.takewhile(is_column, self.session.rows(f"DESCRIBE TABLE {self.sql}"))
        return {name: kind.lower() + (" not null" if name in required else "") for name, kind, *_ in described}

    def _catalogued(self) -> Columns:
        """The columns as Unity Catalog tells them, if Zerobus can write to the table and its rows be told apart."""
        host = self.session.config.databricks_host
        answer = self.session.ask(f"https://{host}/api/2.1/unity-catalog/tables/{quote(self.full_name)}")
        if answer.status != 200 or answer.told is None:
            raise http_error(answer.status, answer.shown(), False, "workspace")
        try:
            columns = {
                column["name"]: column["type_text"].lower() + ("" if column.get("nullable", True) else " not null")
                for column in answer.told.get("columns", [])
            }
        except (TypeError, KeyError, AttributeError):
            fault = f"the workspace does not tell the columns of {self.full_name}"
            raise Rejected(fault, "Check databricks_host.") from None
        if fault := unfit_for_zerobus(answer.told, columns):
            raise Rejected(f"{self.full_name} {fault}", "--print-ddl prints a table as Zerobus wants it.")
        return columns

    def types_of(self, rows: ArrowTable) -> Columns:
        """The table's types of the columns that rows have."""
        return {name: self.columns()[name].removesuffix(" not null") for name in rows.column_names}

    def is_marked(self) -> bool:
        """Whether its rows carry the batch that they came by."""
        return "databricks_batch_id" in map(str.lower, self.columns())

    def own_values(self, intent: Intent) -> dict[str, str]:
        """What the uploader fills by itself, as expressions by column."""
        values = {"databricks_inserted_at": "current_timestamp()", "databricks_batch_id": literal(intent["batch_id"])}
        return {name: values[name.lower()] for name in self.columns() if name.lower() in OWN_COLUMNS}

    def last_batch(self, source_id: str) -> str | None:
        """The newest batch id that the table has from a source; None for none, or where nothing tells it."""
        has_warehouse = bool(self.session.config.databricks_http_path)
        if not has_warehouse or not self.is_marked():
            lacks = "it has no databricks_batch_id" if has_warehouse else "databricks_http_path is not set"
            log.warning("%s can't tell whether %s was here: %s", self.full_name, source_id, lacks)
            return None
        where = f"startswith(databricks_batch_id, {literal(f'{source_id}/')})"
        batch = "regexp_replace(databricks_batch_id, '#[^#/]*$', '')"
        found = self.session.rows(f"SELECT DISTINCT {batch} FROM {self.sql} WHERE {where}")
        # A source may be a stream of another one that feeds the same table: its name is longer then.
        batches = [str(batch) for (batch,) in found if str(batch).count("/") == source_id.count("/") + 3]
        return max(batches, key=lambda batch: [int(part) for part in batch.split("/")[-3:-1]], default=None)

    def has_marked(self, intent: Intent) -> Fate:
        """Whether a batch is there, by its mark: one row proves it, since a statement commits all or nothing."""
        if not self.is_marked():  # The column was there.
            return None
        marked = f"databricks_batch_id = {literal(intent['batch_id'])}"
        [(found,)] = self.session.rows(f"SELECT count(*) FROM {self.sql} WHERE {marked}")
        return bool(found)

    def marks_of(self, intent: Intent) -> set[str]:
        """Which rows of a batch are there, where each row has a mark of its own."""
        prefix = f"{intent['batch_id']}#"
        where = f"startswith(databricks_batch_id, {literal(prefix)})"
        mark = f"substr(databricks_batch_id, {len(prefix) + 1})"
        return {str(mark) for (mark,) in self.session.rows(f"SELECT DISTINCT {mark} FROM {self.sql} WHERE {where}")}

    def settled(self, intent: Intent, held: Callable[[], Fate]) -> Fate:
        """What `held` tells of a batch, once that is final: rows that are there are there, others may still come."""
        if (found := held()) is not False:
            return found
        return held() if self.wait_out(intent, intent["started"]) else None

    def wait_out(self, intent: Intent, since: str, is_over: Callable[[], bool] | None = None) -> bool:
        """Wait until a statement that was sent after `since` can't run any more; False where nothing bounds it.

        That is so for one that went through a cluster, and where one is asked now; not where it is told that something
        `is_over`, which is looked for ever more rarely.
        """
        if not is_over and (not is_warehouse(self.session.config) or intent.get("timeout") == 0):
            return False
        given = max(self.timeout, intent.get("timeout", 0))  # Less may be given to statements since.
        # A time ahead of now is one of a clock that was wrong.
        began = min(dt.datetime.fromisoformat(since).timestamp(), self.session.now())
        end = began + 2 * given + self.SLACK_SECONDS
        pause = 2.0 if is_over else 30.0
        while (left := end - self.session.now()) > 0 and not (is_over and is_over()):
            said = "the answer to commit %d was lost; it may still take place for %d seconds"
            log.info(said, intent["sequence"], left)
            if self.session.wait(min(left, pause)):
                raise Stopped("stopped while waiting for the end of a commit whose answer was lost")
            pause = min(2 * pause, 30.0)
        return True


# --- The routes to it ---


class Route:
    """A way into a table. What it has prepared names it, and so does its intent."""

    def __init__(self, table: WarehouseTable) -> None:
        self.table = table
        self.session = table.session
        self.config = table.session.config

    def now(self) -> str:
        """The time of who takes the rows, in ISO-8601."""
        return dt.datetime.fromtimestamp(self.session.now(), dt.UTC).isoformat()

    def send_nothing(self) -> None:
        """A commit without rows: what ends it is no fault of theirs."""
        self.session.run(f"INSERT INTO {self.table.sql} SELECT * FROM {self.table.sql} WHERE false", writes=True)


@contextlib.contextmanager
def left_to_resend(config: Config) -> Iterator[None]:
    """Where a question is refused nothing tells what it asks for: `on_doubt` decides, and the hint names that, too."""
    try:
        yield
    except (Rejected, RefusedSizeError, LostAnswer) as refused:
        if config.on_doubt != "resend":
            refused.hint += " Or on_doubt: resend sends the rows in doubt again, at the risk of doubles."
            raise
        log.warning("whether rows arrived can't be asked: %s", refused)


class SizedRoute(Route):
    """A route whose requests carry rows as text, as large as is allowed."""

    # The largest request that is tried for a single row; what helps where that is too small.
    MOST_BYTES: ClassVar[int]
    HINT: ClassVar = ""

    # What makes text of pages of rows, whatever its size.
    text_of: Callable[..., Any]

    # At most so many times as many rows are read for a request as it holds, where the others are left out.
    MOST_READ: ClassVar = 50

    _bytes_per_row: float | None = None
    _usual: int | None = None

    def batch_rows(self, bytes_per_row: float, share: float = 1.0) -> int:
        """How many rows are read for a request, of which a `share` is sent: in JSON of twice their bytes in SQLite."""
        size = self._bytes_per_row or max(1.0, 2 * bytes_per_row)
        self._usual = max(1, int(0.9 * self.table.allowance.bytes / size))
        return int(self._usual / max(share, 1 / self.MOST_READ))

    def prepare(self, pages: Iterable[ArrowTable]) -> Any:
        """Rows as text; `DoesNotGo` where a request can't hold them, or JSON can't. One row alone is tried."""
        text = self.text_of(self._bounded(pages))
        self._bytes_per_row = text.size / text.count if text.count else None
        if text.size > (self.table.allowance.bytes if text.count > 1 else self.MOST_BYTES):
            fitting = max(1, int(0.9 * text.count * self.table.allowance.bytes / text.size))
            said = f"too large for a request: {counted(text.count, 'row')} of {text.size} bytes{self.HINT}"
            raise TooLargeError(said, fitting=fitting)
        return text

    def _bounded(self, pages: Iterable[ArrowTable]) -> Iterator[ArrowTable]:
        """Pages, but not many times as many rows, or bytes, as a request may have. So no memory ends.

        All rows may be sent of which few were; and those behind small ones may be large, of which text would be made
        for each request anew.
        """
        rows, size, most = 0, 0, 4 * self.table.allowance.bytes
        for page in pages:
            before, rows, size = rows, rows + page.num_rows, size + page.nbytes
            if before and self._usual and rows > 4 * self._usual:
                raise TooLargeError(f"{rows} rows are too many for a request", fitting=self._usual)
            if rows > 1 and size > most:
                fitting = before or max(1, rows * self.table.allowance.bytes // size)
                raise TooLargeError(f"{rows} rows of {size} bytes are too large for a request", fitting=fitting)
            yield page


# What a warehouse says of a time after a table's last commit.
NO_COMMIT_SINCE = "DELTA_TIMESTAMP_GREATER_THAN_COMMIT|is after the latest"


class InsertRoute(SizedRoute):
    """Rows in the text of an INSERT."""

    # The text of a statement may have 16 MiB (Databricks, resource limits). About 8 MiB load fastest per row.
    MOST_BYTES = 15 * 1024 * 1024
    HINT = "; by databricks_volume, as a file, any size goes"
    # So much earlier than its statement was sent a commit may seem to be: S3 tells times in whole seconds.
    STAMP_SECONDS = 1

    def text_of(self, pages: Iterable[ArrowTable]) -> Insert:
        rows = joined(list(pages))
        return Insert(rows, self.table.types_of(rows))

    def ready(self, intent: Intent, payload: Insert) -> Intent:
        return intent if self.table.is_marked() else {**intent, "digest": payload.digest}

    def send(self, intent: Intent, payload: Insert) -> None:
        values = payload.values | self.table.own_values(intent)
        names, chosen = ", ".join(map(quoted_sql, values)), ", ".join(values.values())
        condition = not_later_than(intent["started"], self.table.timeout)
        sql = f"INSERT INTO {self.table.sql} ({names}) SELECT {chosen} FROM {payload.source} WHERE {condition}"
        cursor = self.session.run(sql, writes=True)
        if cursor.rowcount not in (-1, payload.count):
            raise LostAnswer(f"the warehouse speaks of {cursor.rowcount} rows inserted, not {payload.count}")

    def settle(self, intent: Intent, pages: Pages) -> Fate:
        """Without batch ids rows are compared, as often as each occurs."""
        return self.table.settled(intent, functools.partial(self.held, intent, self.text_of(pages())))

    def held(self, intent: Intent, rows: Insert) -> Fate:
        """Whether the table holds the batch.

        That rows are there proves nothing, since earlier ones may equal them: those count that the table did not have
        when the statement was sent. A table whose past can't be read leaves a doubt, unless a key tells rows apart: a
        person's question costs less than rows that are lost in silence. That none is there proves nothing either where
        they are others by now.
        """
        if not rows.count:
            return None
        found, too_few, too_many = self.compared(rows)
        is_other = intent.get("digest", rows.digest) != rows.digest
        if not found and not is_other:
            return False
        # Rows that were deleted leave others to tell; of none that is there these may be edited, too.
        is_edited = is_other and (not found or rows.count == intent["rows"])
        try:
            return self._came(rows, dt.datetime.fromisoformat(intent["started"]), is_edited)
        except Rejected as refused:
            is_told = intent.get("keyed") and not (is_edited or too_few or too_many)
            said = f"{self.table.full_name} does not tell what it held before commit {intent['sequence']}: {refused}"
            log.log(logging.INFO if is_told else logging.WARNING, "%s", said)
            return True if is_told else None

    def _came(self, rows: Insert, sent: dt.datetime, is_edited: bool) -> Fate:
        """Whether the rows came after the statement was `sent`. A mixture tells nothing: rows were changed since."""
        if sent.timestamp() > self.session.now():  # By a clock that was wrong.
            return None
        # Its commit may bear an earlier time; rows that came just before it can't be told from it.
        before = sent - dt.timedelta(seconds=self.STAMP_SECONDS)
        if is_edited:
            return None if self._past(before) else False
        if past := self._past(sent):
            found, too_few, too_many = self.compared(rows, past)
            if found:
                return None if too_few or too_many else True
        with contextlib.suppress(Rejected):  # The table may be younger than that.
            past = self._past(before)
            return None if past and self.compared(rows, past)[0] else False
        return None

    def _past(self, since: dt.datetime) -> str | None:
        """What stands for the table as it was then, by its commits' times; None where nothing was committed since."""
        past = f"TIMESTAMP AS OF '{since:%Y-%m-%dT%H:%M:%S.%fZ}'"
        try:
            self.session.rows(f"SELECT 1 FROM {self.table.sql} {past} LIMIT 1")
        except Rejected as refused:
            if not re.search(NO_COMMIT_SINCE, str(refused)):
                raise
            return None
        return past

    def compared(self, rows: Insert, past: str = "") -> tuple[int, ...]:
        """What `comparison` asks; of every second row where that is too large: a statement commits all or nothing.

        Of equal rows some are too rare then: that as many as were asked for are there does not tell of the others.
        """
        has_equal = 0
        while True:
            if rows.size <= self.table.allowance.bytes or rows.count == 1:
                try:
                    [(found, too_few, too_many)] = self.session.rows(comparison(self.table.sql, rows, past))
                    return found, too_few or has_equal, too_many
                except (RefusedSizeError, Rejected) as refused:  # A firewall's 403 may be said of its size.
                    # Not where as many bytes have just gone: then it is said of the past.
                    if rows.count == 1 or (isinstance(refused, Rejected) and (past or rows.size < Allowance.LEAST)):
                        raise
                    self.table.allowance = self.table.allowance.without(rows.size)
            has_equal |= len({*zip(*rows.texts, strict=True)}) < rows.count
            # Of all over: others may delete the rows of one place.
            rows = Insert(picked(rows.rows, range(0, rows.count, 2)), rows.kinds)


class CopyRoute(Route):
    """Rows in a Parquet file, which is put into a volume and taken up by COPY INTO; that knows what it has loaded."""

    # From so many rows on a file is faster than text.
    LEAST_ROWS = 20_000
    # So many of them are compared where COPY INTO can't tell: a statement commits all or nothing.
    COMPARED_ROWS = 10

    def __init__(self, table: WarehouseTable, by_rows: InsertRoute, directory: Path | None) -> None:
        super().__init__(table)
        self.by_rows = by_rows
        self.volume = self.config.databricks_volume or ""
        self.directory = directory
        self._staging = contextlib.ExitStack()
        self._left_over: set[str] = set()
        self._swept = False

    def prepare(self, pages: Iterator[ArrowTable], is_bounded: bool = True) -> Staged:
        """Rows as Parquet, by way of a Delta table that is thrown away; its columns have names that any file takes."""
        from deltalake import DeltaTable

        first = next(page for page in pages if page.num_rows)
        types, names = self.table.types_of(first), [f"c{index}" for index in range(first.num_columns)]
        renamed = (page.rename_columns(names) for page in itertools.chain([first], pages))
        made = tempfile.TemporaryDirectory(prefix="staging-", dir=self.directory, ignore_cleanup_errors=True)
        folder = self._staging.enter_context(made)
        write_pages(folder, renamed, is_bounded=is_bounded, target_file_size=1 << 40)
        with delta_errors(folder):
            table = DeltaTable(folder)
        values = {name: f"CAST(c{index} AS {kind.upper()})" for index, (name, kind) in enumerate(types.items())}
        (file,) = table.file_uris()
        count, step = table.count(), math.ceil(first.num_rows / self.COMPARED_ROWS)
        sample = Insert(picked(first, range(0, first.num_rows, step)), types)  # Of rows all over the first page.
        is_text = count == 1 and sample.size <= self.by_rows.MOST_BYTES
        return Staged(count, values, Path(file), sample, sample if is_text else None)

    def ready(self, intent: Intent, payload: Staged) -> Intent:
        """COPY INTO takes up a name once, so `file` is the batch's alone: drawn once, and saved with the intent."""
        prefix = f"uploader-{hashlib.sha256(intent['application'].encode()).hexdigest()[:16]}-"
        if not self._swept:  # Of this source files may be left: looked for once, and after `close` left one.
            with contextlib.suppress(Rejected):  # What is wrong with the volume PUT tells.
                self._left_over |= {f"{self.volume}/{name}" for name in self.listed() if name.startswith(prefix)}
            self._swept = True
        intent = {**intent, "file": f"{prefix}{os.urandom(16).hex()}.parquet", "volume": self.volume}
        self._stage(intent, payload)
        return {**intent, "digest": payload.sample.digest, "fields": [*payload.values]}

    def _volume(self, intent: Intent) -> str:
        """Where a file was put: another volume may be set since, and COPY INTO knows files by their paths."""
        return intent.get("volume", self.volume)

    def listed(self) -> list[str]:
        """The names of files in the volume. Stores know no directory without files: none in a volume that was emptied
        (databricks/cli#5834), nor a folder of it that the first file makes.
        """
        try:
            return [str(path).rpartition("/")[2] for path, *_ in self.session.rows(f"LIST {literal(self.volume)}")]
        except Rejected as error:
            if not re.search("42K03|PATH_NOT_FOUND|(?i:director(y|ies))", str(error)):
                raise
            return []

    def _stage(self, intent: Intent, payload: Staged, is_last: bool = False) -> None:
        """Put the file into the volume. It is streamed, so the server never names a local file to read.

        Nothing is in doubt where that fails, and the cause may be its size: smaller ones are tried, then statements.
        """
        place = literal(f"{self._volume(intent)}/{intent['file']}")
        self.session.opened()  # That a session is refused is no fault of the file.
        try:
            with payload.file.open("rb") as stream:
                self.session.run(f"PUT '__input_stream__' INTO {place} OVERWRITE", stream=stream)
        except (Rejected, Unanswered) as error:
            if error.hint and isinstance(error, Rejected):  # The server's own words.
                raise
            if payload.count == 1 and isinstance(error, Unanswered) and not is_last:  # Smaller it can't become.
                return self._stage(intent, payload, is_last=True)
            raise self._not_as_file(payload, error) from None

    def _not_as_file(self, payload: Staged, error: UploaderError) -> RefusedSizeError:
        """Said of a file that is refused for no reason that is known; the rows go as smaller ones or as statements."""
        log.warning("%d rows can't be put into %s as a file: %s", payload.count, self.volume, error)
        return RefusedSizeError(str(error), "Check databricks_volume, and what stands between.")

    def send(self, intent: Intent, payload: Staged) -> None:
        """Let the warehouse take up the file, if it has not done so before. Columns are matched by name."""
        (first, value), *others = payload.values.items()
        guarded = f"if({not_later_than(intent['started'], self.table.timeout)}, {value}, NULL)"
        values = {first: guarded, **dict(others), **self.table.own_values(intent)}
        chosen = ", ".join(f"{value} AS {quoted_sql(name)}" for name, value in values.items())
        sql = (
            f"COPY INTO {self.table.sql} FROM (SELECT {chosen} FROM {literal(self._volume(intent))})"
            f" FILEFORMAT = PARQUET FILES = ({literal(intent['file'])}) COPY_OPTIONS ('force' = 'false')"
        )
        self.session.opened()  # Nor is it one of its copy.
        try:
            cursor = self.session.run(sql, writes=True)
        except Rejected as error:
            if error.hint:
                raise
            raise self._not_as_file(payload, error) from None  # As where somebody took it away.
        self._refuse_unloaded(cursor, {payload.count, intent["rows"], *([0] if "again" in intent else [])})
        self.leave(intent)
        payload.file.unlink(missing_ok=True)

    @staticmethod
    def _refuse_unloaded(cursor: Any, expected: set[int]) -> None:
        """A `LostAnswer` where the warehouse tells that it took up another number of rows; some don't tell."""
        with driver_errors(writes=True, taken=lambda: True):
            names, told = [column[0] for column in cursor.description or []], cursor.fetchmany(1)
        loaded = dict(zip(names, told[0], strict=False)).get("num_inserted_rows") if told else None
        if isinstance(loaded, int) and loaded not in expected:
            raise LostAnswer(f"the warehouse speaks of {loaded} rows loaded, not {max(expected)}")

    def leave(self, intent: Intent) -> None:
        """Have a batch's file removed: it was loaded, or never will be."""
        self._left_over.add(f"{self._volume(intent)}/{intent['file']}")

    def settle(self, intent: Intent, pages: Pages, save: SaveIntent) -> Fate:
        """By COPY INTO itself, which takes up a file once: the same file again, once nothing else takes it up.

        Where that is refused or has no good end, rows are compared. Refused values are those of a file that was not
        taken up before.
        """
        # The file knows columns by their places, which may be others by now.
        left = (page.select(intent.get("fields", page.column_names)) for page in pages() if page.num_rows)
        first = next(left, None) if self._volume(intent) else None
        if first is None or not self.table.wait_out(intent, intent.get("again", intent["started"])):
            return None
        rows = self.prepare(itertools.chain([first], left), is_bounded=False)  # It was one batch, and stays one.
        try:
            self._send_again(intent, rows, save)
        except RefusedValuesError:
            return False
        except (Rejected, RefusedSizeError, LostAnswer) as error:
            log.warning("a file does not tell whether commit %d took place: %s", intent["sequence"], error)
            if isinstance(error, LostAnswer):
                self.table.wait_out(intent, self.now())
            came = self.by_rows.held({**intent, "rows": rows.sample.count}, rows.sample)
            if came is None and self.config.on_doubt != "resend":  # Another try may tell.
                error.hint = f"{error.hint} If each try ends so: raise databricks_statement_timeout.".strip()
                raise
            return came
        return True

    def _send_again(self, intent: Intent, rows: Staged, save: SaveIntent) -> None:
        """The same file again. Where it is, it holds all rows, also those that the source lost meanwhile."""

        def send() -> None:
            again: Intent = {**intent, "again": self.now()}
            save(again)  # A next question waits from now on, in another run too.
            self.send({**again, "started": again["again"]}, rows)

        try:
            send()
        except (Rejected, RefusedSizeError):  # It is not there any more.
            self._stage(intent, rows)
            send()

    def close(self) -> None:
        """Files that are needed no more, as the state says by now, are removed from the volume, and all from here."""
        self._staging.close()
        while self._left_over:
            file = self._left_over.pop()
            try:
                self.session.run(f"REMOVE {literal(file)}")
            except UploaderError as error:
                log.warning("%s is needed no more, and stays in its volume until a next file: %s", file, error)
                self._swept = False
                return


# --- Zerobus ---
#
# Databricks' Zerobus Ingest by REST (docs.databricks.com/aws/en/ingestion, zerobus-ingest, -concepts and
# -limits): rows as JSON, answered once they are durable, in the table some 5 s later, 30 s at the 95th
# percentile. It promises at least once. That rows are there proves that they came; that they are absent proves
# nothing, since they may wait behind the service for days.


def table_rights(config: Config, table: str) -> dict[str, str]:
    """What a token for rows into a table is asked for by: RFC 8707, RFC 9396, and databricks/zerobus-sdk#333."""
    catalog, schema, _ = table.split(".")
    wanted = {
        "CATALOG": (catalog, ["USE CATALOG"], {}),
        "SCHEMA": (f"{catalog}.{schema}", ["USE SCHEMA"], {}),
        "TABLE": (table, ["SELECT", "MODIFY"], {"operations": ["zerobuswrite"]}),
    }
    details = [
        {"type": "unity_catalog_privileges", "privileges": rights, "object_type": kind, "object_full_path": path} | more
        for kind, (path, rights, more) in wanted.items()
    ]
    resource = f"api://databricks/workspaces/{workspace_of(config)}/zerobusDirectWriteApi"
    return {"resource": resource, "authorization_details": json.dumps(details)}


def unfit_for_zerobus(told: Mapping[str, Any], columns: Columns) -> str:
    """What keeps Zerobus from writing to a table, or us from knowing its rows again; empty for nothing."""
    kind = f"{told.get('table_type')} {told.get('data_source_format')}"
    if kind != "MANAGED DELTA":
        return f"is a table of the kind {kind}; Zerobus writes to managed Delta tables only"
    if (told.get("properties") or {}).get("delta.feature.catalogManaged") == "supported":
        return "has catalog-managed commits, which Zerobus does not support"
    if wrong := [name for name in columns if not PLAIN_NAME.fullmatch(name)]:
        return f"has columns with names of other characters than ASCII letters, digits and _: {', '.join(wrong)}"
    made = [
        c["name"] for c in told.get("columns", []) if re.search("delta.(generation|identity)", c.get("type_json") or "")
    ]
    if made:
        return f"has generated or identity columns, which Zerobus does not support: {', '.join(made)}"
    kinds = {name.lower(): kind for name, kind in types_in(columns).items()}
    if kinds.get("databricks_batch_id") != "string":
        return "has no column databricks_batch_id of type STRING, by which rows are known again after a lost answer"
    return ""


# What the batch, a row's mark and its time take in each row.
OWN_BYTES = 160


class Records:
    """Rows as Zerobus takes them: JSON objects without their ends, by a mark that tells each from others of its batch.

    Such a mark is a digest of the row's values in the columns `fields`, with a number where rows are equal: so a row is
    known again when others of its batch are gone from the source, or stand elsewhere. `size` is about that of a request
    with them, in bytes.
    """

    route = "zerobus"

    def __init__(self, rows: dict[str, str], fields: list[str]) -> None:
        self.rows, self.fields, self.count = rows, fields, len(rows)
        self.size = sum(len(text.encode()) for text in rows.values()) + OWN_BYTES * self.count

    def parts(self, size: int) -> Iterator[Records]:
        """All of them, in as many parts as it takes for none to have many more bytes."""
        step, rows = max(1, self.count // max(1, math.ceil(self.size / size))), list(self.rows.items())
        for start in range(0, self.count, step):
            yield Records(dict(rows[start : start + step]), self.fields)

    def document(self, batch_id: str, batch_column: str, others: str) -> bytes:
        """All of them as one JSON array, each with its mark in the batch's column, and with other fields."""
        opening = f"{json.dumps(batch_column)}:{json.dumps(batch_id)[:-1]}#"
        rows = (f'{text}{opening}{mark}"{others}}}' for mark, text in self.rows.items())
        return f"[{','.join(rows)}]".encode()


# What 400 says, as of values that don't fit, where no row fits: "Unsupported table kind. Tables created in default
# storage are not supported. Error Code: 4024", INVALID_ARGUMENT by gRPC ("Zerobus Ingest error handling").
UNSUPPORTED_TABLE = r"(?i)unsupported table|\btables\b[^.]*\bnot supported"

# Types that Zerobus takes as whole days and microseconds since 1970.
NUMBERED = {"date": "int", "timestamp": "bigint", "timestamp_ntz": "bigint"}


class ZerobusRoute(SizedRoute):
    """Rows in the JSON of a request to Zerobus; a warehouse, where one is set, is asked after lost answers."""

    MOST_BYTES = 9 * 1024 * 1024

    def now(self) -> str:
        return dt.datetime.fromtimestamp(self.session.services_now(), dt.UTC).isoformat()

    def text_of(self, pages: Iterable[ArrowTable], fields: Sequence[str] = ()) -> Records:
        """Rows in JSON; `fields` are the columns that they are known by, all of them if none are given."""
        rows, columns = joined(list(pages)), dict[str, list[str]]()
        for name, kind in self.table.types_of(rows).items():
            number = NUMBERED.get(base_of(kind))
            column = rows.column(name).cast(arrow_type(number)) if number else rows.column(name)
            columns[name] = json_texts(column, number or kind)
            for index in (index for index, text in enumerate(columns[name]) if text in ("inf", "-inf", "nan")):
                raise RefusedValuesError(f"{name} is {columns[name][index]}, which JSON can't carry", fitting=index)
        keys = [f"{json.dumps(name)}:" for name in columns]
        texts = [
            "{" + "".join(f"{key}{text}," for key, text in zip(keys, row, strict=True) if text != "null")
            for row in zip(*columns.values(), strict=True)
        ]
        fields = list(fields or columns)
        return Records(dict(zip(marks_of([columns.get(name, []) for name in fields]), texts, strict=True)), fields)

    def ready(self, intent: Intent, payload: Records) -> Intent:
        """The token is there before the intent is, so that it can't be in the way."""
        if payload.count:
            self.session.token(self.table.full_name)
        return {**intent, "fields": payload.fields}

    def send(self, intent: Intent, payload: Records) -> None:
        names = {name.lower(): name for name in self.table.columns()}
        now = f"{json.dumps(names.get('databricks_inserted_at'))}:{int(self.session.services_now() * 10**6)}"
        others = f",{now}" if "databricks_inserted_at" in names else ""
        self._post(payload.document(intent["batch_id"], names["databricks_batch_id"], others))

    def send_nothing(self) -> None:
        try:
            self._post(b"[]")
        except (RefusedValuesError, RefusedSizeError) as error:
            if "HTTP 400" not in str(error):  # That is said of an empty list, too.
                raise

    def _post(self, document: bytes) -> None:
        url = f"https://{self.config.zerobus_endpoint}/zerobus/v1/tables/{self.table.full_name}/insert"
        answer = self.session.ask(url, document, self.table.full_name)
        if answer.status == 200 and answer.told is not None and not answer.said():
            return
        shown = answer.shown()
        if answer.status < 300:
            raise LostAnswer(f"{shown} is not Zerobus' answer: it is from a proxy between, most likely")
        status = 501 if answer.told and re.search(UNSUPPORTED_TABLE, shown) else answer.status
        if status != 400 or not answer.told or says_too_large(shown):
            raise http_error(status, shown, True, "workspace")
        raise RefusedValuesError(f"a value does not fit its column: {shown}", "Compare the types with --check.")

    def settle(self, intent: Intent, pages: Pages, save: SaveIntent) -> Fate:
        """Rows that are there are there. Of others nothing can tell whether they come: `on_doubt` has decided.

        They are sent again here, and not as a new batch: by their marks the view of --print-ddl drops the doubles.
        """
        there = set[str]()
        if self.config.databricks_http_path:
            came = functools.partial(self.table.marks_of, intent)
            with left_to_resend(self.config):
                self.table.wait_out(intent, intent["started"], lambda: len(came()) == intent["rows"])
                there = came()
        if len(there) == intent["rows"]:
            return True
        known, may_resend = intent["fields"], self.config.on_doubt == "resend"
        if may_resend and not (there or self.config.zerobus_endpoint):
            return None  # As a new batch, by the route that is set now.
        if not (may_resend and self.config.zerobus_endpoint and self.table.columns().keys() >= set(known)):
            raise self._doubt(intent, len(there))
        if not (rows := self.text_of(pages(), known).rows):  # They can't be made again.
            return None
        missing = Records({mark: text for mark, text in rows.items() if mark not in there}, known)
        log.warning(
            "%d of the %d rows of commit %d are there, as far as can be told; on_doubt says to send %d again",
            len(there), intent["rows"], intent["sequence"], missing.count,
        )  # fmt: skip
        try:
            self._resend(intent, missing, self.table.allowance.bytes, save, may_part=bool(there))
        except DoesNotGo:
            if there:
                raise
            return False
        return True

    def _resend(self, intent: Intent, rows: Records, size: int, save: SaveIntent, may_part: bool) -> None:
        """Send rows again, in parts of about this size, or smaller ones where that is refused.

        Where none is there they become a new batch instead, which goes around a row that never goes.
        """
        for part in rows.parts(size):
            again: Intent = {**intent, "started": self.now()}
            save(again)  # A next question waits from now on, in another run too.
            try:
                self.send(again, part)
            except RefusedSizeError:
                if part.count == 1 or not may_part:
                    raise
                self.table.allowance = self.table.allowance.without(part.size)
                self._resend(intent, part, part.size // 2, save, may_part)

    def _doubt(self, intent: Intent, there: int) -> DoubtError:
        fault = f"{there or 'none'} of the {intent['rows']} rows of commit {intent['sequence']} can be found"
        if not self.config.databricks_http_path:
            fault = f"without a warehouse it can't be told whether commit {intent['sequence']} took place"
        hint = (
            "Look for them there: they may still come, after days even. on_doubt: resend, with zerobus_endpoint, sends"
            " those that are missing; where they come after all, the view of --print-ddl drops the doubles."
        )
        return DoubtError(f"{fault} in {self.table.full_name}", hint)


def marks_of(columns: Sequence[Sequence[str]]) -> list[str]:
    """What tells rows apart, given their values as texts column by column."""
    seen: dict[str, int] = {}
    marks = []
    for row in zip(*columns, strict=True):
        digest = digest_of(",".join(row))
        count = seen[digest] = seen.get(digest, -1) + 1
        marks.append(f"{digest}.{count}" if count else digest)
    return marks


# --- The target ---


class WarehouseTarget(WarehouseTable):
    """A table in Databricks, exactly once as far as the answers to its statements, or else its rows, can tell.

    Three routes lead there: INSERT; with a volume, for many rows, a file and COPY INTO; Zerobus alone where it is set.
    Its session, which others share, stays open when it is closed.
    """

    evolves = False

    def __init__(self, session: Session, table: str, directory: Path | None = None) -> None:
        super().__init__(session, table)
        config = session.config
        self.name = f"{config.databricks_host}/{self.full_name}"
        self.insert = InsertRoute(self)
        self.copy = CopyRoute(self, self.insert, directory)
        self.zerobus = ZerobusRoute(self)
        self.routes: dict[str, InsertRoute | CopyRoute | ZerobusRoute]
        self.routes = {"insert": self.insert, "copy": self.copy, "zerobus": self.zerobus}
        self.usual: SizedRoute = self.zerobus if config.zerobus_endpoint else self.insert
        self.by_files = bool(config.databricks_volume and not config.zerobus_endpoint)

    def recover(self, state: State) -> dict[str, Any] | None:
        """What the newest batch id of a source tells, its `position` by rowid alone; None where it is not known."""
        if (last := self.last_batch(state.source_id)) is None:
            return None
        epoch, sequence, place = last.split("/")[-3:]
        told = {"epoch": int(epoch), "sequence": int(sequence), "committed": int(sequence)}
        # A replay may have come when no row was known to be delivered: then it is None.
        if state.position.keys() - {"rowid", "since", "until"} or not re.fullmatch(r"-?\d+", place):
            return told
        return {**told, "position": {"rowid": int(place)}}

    def holds(self, pages: Iterable[ArrowTable]) -> bool:
        """Whether the table has these rows, each at least as often: another source may have sent equal ones."""
        rows = self.insert.text_of(pages)
        return rows.count > 0 and not self.insert.compared(rows)[1]

    def batch_rows(self, bytes_per_row: float, share: float = 1.0) -> int:
        return rows_of_commit(bytes_per_row) if self.by_files else self.usual.batch_rows(bytes_per_row, share)

    def prepare(self, pages: Pages) -> Payload:
        """Rows as text; many, where there is a volume, as a Parquet file."""
        if not self.by_files:
            return self.usual.prepare(pages())
        upcoming, taken, count, size = pages(), [], 0, 0
        for page in upcoming:
            taken.append(page)
            count, size = count + page.num_rows, size + page.nbytes
            if count > self.copy.LEAST_ROWS or size > self.allowance.bytes:  # As text they are larger still.
                return self.copy.prepare(itertools.chain(taken, upcoming))
        with contextlib.suppress(TooLargeError):
            return self.usual.prepare(taken)
        return self.copy.prepare(iter(taken))

    def ready(self, intent: Intent, payload: Payload) -> Intent:
        """The intent with what it takes to settle it: `started` bounds how long the commit may still take place."""
        self.look()
        try:
            intent = self.routes[payload.route].ready(intent, payload)
        except RefusedSizeError:
            if not (payload := payload.text if isinstance(payload, Staged) else None):
                raise
            intent = self.insert.ready(intent, payload)
        is_bounded = payload.route == "zerobus" or is_warehouse(self.session.config)
        intent = {**intent, "rows": payload.count, "route": payload.route, "bytes": payload.size}
        timeout = self.timeout if is_bounded else 0
        return {**intent, "marked": self.is_marked(), "started": self.routes[payload.route].now(), "timeout": timeout}

    def send(self, intent: Intent, payload: Payload) -> None:
        """Commit the rows on their route. Refused values are nobody's fault where the columns changed."""
        if not payload.count:
            return
        payload = payload.text if intent["route"] != payload.route else payload
        try:
            self.routes[payload.route].send(intent, payload)
        except DidNotRun as error:
            if "file" in intent and not isinstance(error, (NotReady, Unreachable)):  # Else its removal would wait.
                self.copy.leave(intent)
            if isinstance(error, RefusedValuesError):
                self.look(0)
            status = re.search(r"HTTP \d{3}", str(error)) if isinstance(error, RefusedSizeError) else None
            if status and status[0] in str(self.fault_of_nothing(intent)):  # As where rights were taken away since.
                if intent["bytes"] >= Allowance.LEAST:  # Or all is refused for a while after what was too large.
                    self.allowance = self.allowance.without(min(intent["bytes"], self.allowance.bytes))
                hint = "A request without rows is refused, too: it is no matter of size."
                raise Rejected(str(error), hint if error.hint.startswith("Smaller") else error.hint) from None
            raise

    def fault_of_nothing(self, intent: Intent) -> UploaderError | None:
        """How a commit of nothing on an intent's route ends; None for well, which proves that others would go."""
        try:
            self.routes[intent["route"]].send_nothing()
        except UploaderError as error:
            return error
        return None

    def settle(self, intent: Intent, pages: Pages, save: SaveIntent = lambda intent: None) -> bool:
        """Whether an earlier commit took place: by the batch's mark, or as its route knows; else `on_doubt` decides."""
        config, held = self.session.config, None
        if not intent["rows"]:
            return True
        if intent["route"] == "zerobus":
            held = self.zerobus.settle(intent, pages, save)
        elif config.databricks_http_path:
            self.session.opened()  # That a session is refused tells nothing of the question.
            with left_to_resend(config):
                if intent["marked"]:
                    held = self.settled(intent, functools.partial(self.has_marked, intent))
                else:
                    by_file = functools.partial(self.copy.settle, save=save)
                    held = (by_file if "file" in intent else self.insert.settle)(intent, pages)
        if held is not None:
            if "file" in intent:
                self.copy.leave(intent)
            return held
        if config.on_doubt == "resend":
            log.warning("whether commit %d took place can't be told: by on_doubt, it did not", intent["sequence"])
            return False
        raise DoubtError(
            f"it can't be told whether commit {intent['sequence']} took place in {self.name}",
            "Look for its rows there, and delete them, or they come twice; then on_doubt: resend sends all of them. A"
            " column databricks_batch_id in the table prevents such doubts.",
        )

    def note(self, rows: ArrowTable, create: str) -> None:
        """Append what the table has columns for. Without a warehouse nobody can make it."""
        try:
            columns = self.columns()
        except Rejected:
            if not self.session.config.databricks_http_path:
                raise
            self.session.run(create)
            columns = self.columns()
        aimed = in_target(columns)
        known = arrow_table({column: rows.column(name) for name in rows.column_names if (column := aimed(name))})
        payload = self.prepare(lambda: iter([known]))
        self.send(self.ready({"sequence": 0, "batch_id": f"status/{os.urandom(16).hex()}"}, payload), payload)

    def close(self) -> None:
        self._columns = None  # A next cycle asks for them anew, whatever they were.
        self.copy.close()


# === Batches ==========================================================================================
#
# A table, opened for one cycle, and batches of its new rows: as they come, filtered, sanitized, or as groups of
# windows. Which cursor, rules and plan a source gets by the settings is decided here.


@dataclasses.dataclass
class Tally:
    """What became of the rows of one commit, or of all commits of a cycle; `latest` in microseconds since 1970."""

    read: int = 0
    sent: int = 0
    bad: int = 0
    old: int = 0
    commits: int = 0
    latest: int | None = None
    nbytes: int = 0

    def add(self, other: Tally) -> None:
        """Count another one in."""
        for name in ("read", "sent", "bad", "old", "commits", "nbytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latest = latest_time(self.latest, other.latest)


@dataclasses.dataclass
class Figures(Tally):
    """What is known of a stream since it was first seen, as it is kept beside the state and measured from outside.

    Counts grow; what waits is of the last look. Times are in microseconds since 1970, `ended` in seconds; None where
    that can't be told without reading much.
    """

    table: str = ""  # the stream's name, also where it is the only one
    source_id: str = ""
    route: str = ""
    target: str = ""
    scenario: str = ""
    errors: dict[str, int] = dataclasses.field(default_factory=dict)
    cycles: int = 0
    seconds: float = 0.0
    cycle_seconds: float = 0.0
    ended: float | None = None  # the last good cycle
    failures: int = 0  # in a row
    last_error: str | None = None
    newest: int | None = None  # the latest time that was delivered
    position: str | None = None
    waiting: int | None = None
    oldest: int | None = None  # of the rows that wait, but for those that are held
    held: int = 0  # of the rows that wait, in open windows, as they should be
    open_windows: int = 0
    quarantined: int = 0


def tally_of(prepared: Prepared) -> Tally:
    """What becomes of a page's rows."""
    rows, bad = prepared.rows, len(prepared.bad)
    return Tally(prepared.read, rows.num_rows, bad, prepared.old, latest=prepared.latest, nbytes=rows.nbytes)


Target = DeltaTarget | WarehouseTarget  # where rows go
Progress = Callable[[int, int], None]  # called with the rows read of a batch, and how many are in it and after it


def hint_of(stream: str, hint: str) -> str:
    """A hint about a stream. Where there are several, --since alone would move all of them to its time."""
    is_alone = not stream or "--table " in hint
    return hint if is_alone else hint.replace("--since", f"--table {shlex.quote(stream)} --since")


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that cycles of one stream need, made once."""

    config: Config
    scenario: str
    target: Target
    states: StateFile
    now: Clock = time.time
    stopping: threading.Event = dataclasses.field(default_factory=threading.Event)
    progress: Progress = lambda read, waiting: None
    figures: Figures | None = None  # where anybody asks what waits
    is_looking: bool = False  # It has no lock, and may write no state.
    source_ids: set[str] = dataclasses.field(default_factory=set)  # names that this process's streams began with
    warned: set[str] = dataclasses.field(default_factory=set)
    sampled: dict[Any, Columns] = dataclasses.field(default_factory=dict)
    tables: dict[tuple[str, int], Table] = dataclasses.field(default_factory=dict)

    @property
    def stream(self) -> str:
        """Its name, empty where it is the only one."""
        return self.config.stream

    @property
    def quarantine(self) -> Quarantine:
        """Where the stream's rows go that can't be delivered."""
        return self.states.quarantine

    def warn_once(self, message: str, hint: str = "", level: int = logging.WARNING) -> None:
        """Log a warning, but not in every cycle; the hint may change."""
        if message not in self.warned:
            self.warned.add(message)
            log.log(level, "%s", f"{message}. {hint_of(self.stream, hint)}" if hint else message)


def refuse_too_many(job: Job, count: int, example: str) -> None:
    """Stop where too many rows can't be delivered."""
    if count > job.config.max_bad_rows:
        fault = f"more than {counted(job.config.max_bad_rows, 'row')} can't be delivered; the last one: {example}"
        raise TooManyBadRows(fault, "Mend the cause, or raise max_bad_rows; nothing of this batch was sent.")


class RowSource(NamedTuple):
    """A table, open for one cycle, and batches of its new rows as they come: raw, filtered or sanitized."""

    cursor: Cursor
    plan: Callable[[], Plan]

    def next_batch(self, position: Position, size: Callable[[], int]) -> Batch | None:
        """The next batch after `position`, its pages prepared; None where nothing is new."""
        batch = self.cursor.next_batch(position, size)
        return batch and batch._replace(pages=lambda: self._prepared(position, batch.pages()))

    def again(self, position: Position, after: Position) -> Iterator[Prepared]:
        """The pages that led from one position to the other, as far as the source still has their rows."""
        return self._prepared(position, self.cursor.again(position, after))

    def count_of(self, tally: Tally) -> int:
        """How large a batch was, as `next_batch` is told how large it may be: in rows of the source."""
        return tally.read

    def rejected(self, before: Position, after: Position, refused: DoesNotGo) -> list[BadRow]:
        """The one row between two positions, which does not go."""
        pages = self.cursor.again(before, after)
        return [row for page in pages for row in self.plan().bad_rows(page, {0: str(refused)})]

    def sends_keys(self) -> bool:
        """Whether each row has a primary key, and is sent with it as it is."""
        plan, table = self.plan(), self.cursor.table
        database = self.cursor.reader.database
        key = {table.key} if table.key else set()  # SQLite takes NULL for other keys of tables with rowids.
        if database.kinds[table.name] == "table without rowid":
            key = {name for name, _, pk, *_ in database.columns_of(table.name) if pk}
        return bool(key) and key <= {*plan.sources.values()} - table.private

    def of_lines(self, lines: Lines, unfit: Mapping[int, str]) -> Prepared:
        """Rows out of the quarantine, where those that are `unfit` stay."""
        page = page_of_lines(self.cursor.table, [line for index, line in enumerate(lines) if index not in unfit])
        prepared, stay = self.plan().prepare(page), [staying(lines[index], fault) for index, fault in unfit.items()]
        return prepared._replace(read=len(lines), bad=[*prepared.bad, *stay])

    def unfit(self, lines: Lines, is_hiding: bool) -> dict[int, str]:
        """Which rows in quarantine can't be sent whatever the target takes, and why."""
        faults = (lacking(self.cursor.table, line, is_hiding) for line in lines)
        return {index: fault for index, fault in enumerate(faults) if fault}

    def _prepared(self, position: Position, pages: Iterator[RawPage]) -> Iterator[Prepared]:
        return map(self.plan().from_position(position).prepare, pages)


# How far times may be ahead of the clock, in microseconds, and be taken for times of a zone that was not told.
MOST_AHEAD = DAY


def merged_ranges(ranges: Sequence[Sequence[int]], most: int = 100) -> list[list[int]]:
    """At most so many ranges that have all of these, which are in order, and as little else: the closest become one."""
    by_gap = sorted(range(1, len(ranges)), key=lambda index: ranges[index - 1][1] - ranges[index][0])
    cuts = [0, *sorted(by_gap[: most - 1]), len(ranges)]
    return [[ranges[low][0], ranges[high - 1][1]] for low, high in itertools.pairwise(cuts) if low < high]


@dataclasses.dataclass
class Windows:
    """What was read of the open windows. Times are in microseconds since 1970."""

    partials: Partials
    seen: int  # the highest key that was looked at before
    closed: int | None  # the time before which windows were sent
    now: int  # the clock
    opened: dict[int, list[int]] = dataclasses.field(default_factory=dict)  # by an open one's start its first key, rows
    rows: int = 0  # Without windows, so many make groups.
    again: int = 0  # rows that were looked at before and are in open windows now
    late: int = 0  # rows that came too late
    read: int = 0  # rows that are new
    latest: int | None = None  # time of all
    newest: int | None = None  # time up to the clock
    soon: int = 2**63 - 1  # the first one after it
    ahead: FutureRows = dataclasses.field(default_factory=lambda: FutureRows(due=2**62, rows=0, ranges=[]))
    ahead_new: int = 0  # of the rows whose windows begin too far ahead of the clock
    odd: tuple[int, list[Any]] | None = None
    bad: list[BadRow] = dataclasses.field(default_factory=list)

    def put_ahead(self, keys: Series, starts: Series, is_ahead: Series) -> None:
        """Remember rows in windows of the future: `keys` and `starts` of a page, and which are meant."""
        if is_ahead.any():
            # Rows that follow each other come after as many others.
            runs = keys[is_ahead].groupby((~is_ahead).cumsum()[is_ahead]).agg(["min", "max"])
            due = min(self.ahead["due"], (starts[is_ahead].min() - EPOCH) // MICROSECOND)
            ranges = merged_ranges([*self.ahead["ranges"], *runs.to_numpy().tolist()])
            self.ahead = {"due": due, "rows": self.ahead["rows"] + int(is_ahead.sum()), "ranges": ranges}
            self.ahead_new += int((keys[is_ahead] > self.seen).sum())

    def take_in(self, aggregate: Aggregate, plan: Plan, typed: Prepared, limit: int, since: int) -> None:
        """Add a page's rows to the groups of their windows, save for windows of the future."""
        import pandas as pd

        frame = to_frame(typed.rows, plan.reads)
        starts, times = aggregate.window_of(frame), frame[plan.table.time]
        is_past = times <= moment_of(self.now)
        newest, soon = times[is_past].max(), times[~is_past].min()
        if not pd.isna(newest):
            self.newest = latest_time(self.newest, (newest - EPOCH) // MICROSECOND)
        if not pd.isna(soon):
            self.soon = min((soon - EPOCH) // MICROSECOND, self.soon)
        keys = pd.Series(typed.keys, index=frame.index, dtype="int64")
        is_new = keys > self.seen
        # By the rows' times: windows may have had another length, or be none since.
        is_left = times.notna() if self.closed is None else times >= moment_of(self.closed)
        if starts is None:  # Rows behind `since` are of the set; others are where windows were open before.
            frame = frame[(keys > since) | is_left]
            self.rows += len(frame)
        else:
            self.late += int((is_new & ~is_left).sum())
            is_ahead = is_left & (starts >= moment_of(limit))
            self.put_ahead(keys, starts, is_ahead)
            is_open = is_left & ~is_ahead
            self.again += int((is_left & ~is_new).sum())
            for start, key, size in keys[is_open].groupby(starts[is_open]).agg(["min", "size"]).itertuples():
                begin = (start - EPOCH) // MICROSECOND
                self.opened.setdefault(begin, [int(key), 0])[1] += int(size)
            frame = frame[is_open]
        self.partials = aggregate.add(self.partials, frame)


def due_groups(
    aggregate: Aggregate, is_flush: bool, position: Position, windows: Windows, size: Callable[[], int]
) -> tuple[dt.datetime | None, Part | None, bool]:
    """The time before which windows are sent now, in a flush all, as many groups as `size` says; None for none.

    The part of the first one that is sent where it has more; and whether there is more to send.
    """
    length, horizon, newest = aggregate.window_length, windows.partials.horizon, windows.newest
    begun, complete, end = position.get("part"), None, None
    if is_flush and length and windows.opened and not begun:  # Else rows that came in since would be too late.
        newest = max(windows.opened) + (length + aggregate.lateness) // MICROSECOND
    if length and newest is not None:
        complete = aggregate.closed(windows.partials, moment_of(newest))
        end = complete and aggregate.first_windows(windows.partials, complete, size())
    if begun and begun["end"] is not None:  # None of its groups may be left.
        end = max(end or moment_of(begun["end"]), moment_of(begun["end"]))
    if not end and length:
        return None, None, False
    part = aggregate.part(windows.partials, end, size(), begun["since"] if begun else windows.seen)
    return end, part, bool(part or (end and ((horizon and end >= horizon) or (complete and end < complete))))


class WindowSource(NamedTuple):
    """A table, open for one cycle, and batches of groups.

    A window is sent once, when a time past its end and `allowed_lateness` was read; a cycle with new rows reads those
    of the open windows anew. A time in the future closes no window, since the rows before it would all come too late.
    Rows in windows that begin more than a day ahead hold no position: `ahead` has where they are, and they are read
    when they are over. The groups of one window may be too many for a commit: of what was sent then `part` tells, and
    until all were, no further row is looked at.
    """

    cursor: RowidCursor
    plan: Callable[[], Plan]
    aggregate: Aggregate
    flush: bool
    now: Clock

    def next_batch(self, position: Position, size: Callable[[], int]) -> Batch | None:
        """The windows that are complete; None where no row came in since the last look."""
        for _ in range(4):
            try:
                return self._next(position, size)
            except StillWritten as error:
                log.info("%s; it waits", error)
                self.cursor.up_to = (self.cursor.up_to or 0) - 1
        raise TransientError("the newest rows are written while they are read", "The next cycle goes on.")

    def _next(self, position: Position, size: Callable[[], int]) -> Batch | None:
        now = int(min(self.now() * 10**6, 2**62))
        position, first, last = self._in_view(position)
        has_more = position.get("more") or position.get("soon", 2**63 - 1) <= now
        is_looked_at = last == position.get("read_to") and not has_more
        is_due = self._is_due(position, self._due(now))
        is_all = self.flush or not self.aggregate.window_length
        is_idle = first is None or (is_looked_at and not (is_all and position.get("open_rows")))
        if is_idle and not is_due:
            return None
        anchors = self.cursor.anchors(first or last, last)
        last = anchors[0].rowid if anchors else last
        windows = self._read(position, first, last, now, now + MOST_AHEAD, self._due(now))
        self.cursor.refuse_others(first or last, self.cursor.newest, anchors)
        after = self._after(position, windows, last, size)
        length = self.aggregate.window_length
        is_as_before = length is not None and position.get("window") == int(length.total_seconds())
        if is_as_before and (gone := position.get("open_rows", 0) - windows.again) > 0:
            log.warning("%s of open windows were deleted, or given other times", counted(gone, "row"))
        if windows.late:
            log.warning("%s came too late: their windows were sent before", counted(windows.late, "row"))
        if windows.ahead_new:
            log.warning("%s more than a day ahead of the clock: their windows wait", counted(windows.ahead_new, "row"))
        prepared = self._prepared(position, after, windows)
        gaps = self.cursor.gaps(read_to(position), self.cursor.reader.bounds(read_to(position))[0], last)
        return Batch(after, anchors, lambda: iter([prepared]), gaps=gaps)

    def _in_view(self, position: Position) -> tuple[Position, int | None, int]:
        """The position, with the first and last rowid to look at: amid a window no further than before."""
        first, last = self.cursor.bounds(position["rowid"])
        if not (part := position.get("part")):
            return position, first, last
        is_there = first is not None and first <= (read_to(position) or 0)
        if is_there and part["by"] == self.aggregate.form:
            return position, first, min(last, read_to(position) or 0)
        position = without_keys(position, "part")
        if is_there:
            log.warning("groups of a window were sent by other rules before: all of its groups are sent by these")
        elif part["end"] is not None:
            position["closed"] = part["end"]
        return position, first, last

    def again(self, position: Position, after: Position) -> Iterator[Prepared]:
        """The groups that led from one position to the other, as far as the source still has their rows."""
        first, last = self.cursor.reader.bounds(position["rowid"])[0], after["read_to"]
        if (first is not None and last is not None) or "ahead" in position:
            end = 2**62 if (told := self.aggregate.end_of(after)) is None else told
            yield self._prepared(position, after, self._read(position, first, last or 0, 2**62, end, end))

    def count_of(self, tally: Tally) -> int:
        """How large a batch was: in groups."""
        return tally.sent

    def rejected(self, before: Position, after: Position, refused: DoesNotGo) -> list[BadRow]:
        """The one group between two positions, which does not go, and rows that were set aside with it."""
        bad = list[BadRow]()
        for prepared in self.again(before, after):
            bad += prepared.bad
            for number, group in enumerate(prepared.rows.to_struct_array().to_pylist()):
                row = {n: v if isinstance(v, int | float | bytes | None) else str(v) for n, v in group.items()}
                bad.append(BadRow(number, str(refused), row))
        return bad

    def sends_keys(self) -> bool:
        """Whether a group comes once: that of a window does."""
        return self.aggregate.window_length is not None

    def of_lines(self, lines: Lines, _: Mapping[int, str]) -> Prepared:
        """Groups out of the quarantine. What is there besides stays: rows of no window, groups by other rules."""
        arrays, refused, writes = dict[str, "Array"](), dict[int, str](), self.plan().writes
        rows = [{name: sqlite_value(value) for name, value in line["row"].items()} for line in lines]
        for index, row in enumerate(rows):
            if not row.keys() >= writes.keys():
                refused[index] = "no group as they are made now: insert its rows, corrected, in the source"
            elif others := sorted(row.keys() - writes.keys()):
                refused[index] = f"{', '.join(others)} is not sent any more: take it out of the line"
        for name, kind in writes.items():
            arrays[name], bad = convert(RawColumn("mixed", [row.get(name) for row in rows]), kind, AUTO)
            refused = {index: f"{name} {reason}" for index, reason in bad.items()} | refused
        fit = picked(arrow_table(arrays), (index for index in range(len(rows)) if index not in refused))
        return Prepared(fit, [], len(rows), [staying(lines[index], refused[index]) for index in sorted(refused)], None)

    def unfit(self, _: Lines, __: bool) -> dict[int, str]:
        """None: a group's line has all that is sent of it."""
        return {}

    def _is_due(self, position: Position, due: int) -> bool:
        """Whether rows that were ahead are read: by the start of the earliest one's window, as windows are now."""
        length = (self.aggregate.window_length or MICROSECOND) // MICROSECOND
        return "ahead" in position and position["ahead"]["due"] // length * length < due

    def _due(self, now: int) -> int:
        """The time before which windows that were ahead are read: their time is over. In a flush all but the future."""
        length = self.aggregate.window_length
        if length is None:
            return 2**62
        return now + MOST_AHEAD if self.flush else now - (length + self.aggregate.lateness) // MICROSECOND

    def _read(self, position: Position, first: int | None, last: int, now: int, limit: int, due: int) -> Windows:
        """All rows of open windows, page by page, as groups; and those that were ahead, where one of them is due."""
        plan, seen, part = self.plan().from_position(position), read_to(position), position.get("part")
        seen = seen if seen is not None else (first or 1) - 1
        since = part["since"] if part else seen
        windows = Windows(self.aggregate.empty(), seen, position.get("closed"), now)
        ahead, reader = position.get("ahead"), self.cursor.reader
        # Windows from `limit` on are ahead, or from `due` on where they were ahead before.
        ranges = [(first, last, limit)] if first is not None else []
        if ahead and self._is_due(position, due):
            ranges = [*((low, high, due) for low, high in ahead["ranges"]), *ranges]
        elif ahead:
            windows.ahead = ahead
        for low, high, end in ranges:
            for page in self.cursor.pages(low, high, reader.narrowed(plan.reads)):
                typed = plan.typed(page)
                windows.latest, windows.odd = latest_time(windows.latest, typed.latest), windows.odd or typed.odd
                windows.read += sum(1 for key in page.keys if key > seen)
                windows.bad += [row for row in typed.bad if row.key > seen]
                windows.take_in(self.aggregate, plan, typed, end, since)
        windows.partials = self.aggregate.whole(windows.partials)
        windows.partials = self.aggregate.unsent(windows.partials, part) if part else windows.partials
        return windows

    def _after(self, position: Position, windows: Windows, last: int, size: Callable[[], int]) -> Position:
        """The position once the groups that are due were sent."""
        length = self.aggregate.window_length
        end, part, has_more = due_groups(self.aggregate, self.flush, position, windows, size)
        closed = (end - EPOCH) // MICROSECOND if end and not part else position.get("closed")
        # Windows that end after the last one that was sent, which may have been longer.
        first = closed - length // MICROSECOND + 1 if length and closed is not None else closed
        still_open = [start for start in windows.opened if first is None or start >= first]
        rowid = min((windows.opened[start][0] for start in still_open), default=last + 1) - 1
        open_rows = sum(windows.opened[start][1] for start in still_open)
        if part and not length:
            rowid, open_rows = windows.seen if position["rowid"] is None else position["rowid"], windows.rows
        after: Position = {
            **position,
            "rowid": rowid,
            "read_to": last,
            "more": has_more,
            "closed": closed,
            "soon": windows.soon,
            "held": open_rows + windows.ahead["rows"],
            "open_rows": open_rows,
            "open_groups": self.aggregate.groups_from(windows.partials, first) if still_open else 0,
            "open_windows": len(still_open),
        }
        if length and still_open:
            until = moment_of(min(still_open)) + length + self.aggregate.lateness
            after |= {"open_until": (until - EPOCH) // MICROSECOND, "window": int(length.total_seconds())}
        after = without_keys(after, "ahead", "part")
        # Those after the position are read again in any case.
        if ranges := [[low, min(high, rowid)] for low, high in windows.ahead["ranges"] if low <= rowid]:
            rows = min(windows.ahead["rows"], sum(high - low + 1 for low, high in ranges))
            after["ahead"] = {**windows.ahead, "ranges": ranges, "rows": rows}
        return {**after, "part": part} if part else after

    def _prepared(self, position: Position, after: Position, windows: Windows) -> Prepared:
        """The groups between two positions as the target takes them, with what became of the rows."""
        plan, kinds, part = self.plan(), self.aggregate.columns, after.get("part")
        end = self.aggregate.end_of(after)
        is_none = self.aggregate.window_length is not None and position.get("closed") == end
        partials = self.aggregate.empty() if is_none else windows.partials
        groups = self.aggregate.result(partials, None if end is None else moment_of(end), part["upto"] if part else "")
        rows = plan.fitted(to_table(groups, kinds), kinds)
        return Prepared(rows, [], windows.read, windows.bad, windows.latest, windows.odd)


Source = RowSource | WindowSource  # `plan` is made when it is first asked for.


def said_of_time(table: Table) -> str:
    """The time column, for people."""
    which = f": one of {', '.join(table.doubtful)}?" if table.doubtful else ""
    return f"time column {table.time}" if table.time else f"no time column{which}"


def table_in(job: Job, database: Database, state: State) -> Table:
    """The source table, looked up anew where the file has another schema, and until its time column is known."""
    database.look_again()
    key = (database.birth, database.version)
    if known := job.tables.get(key):
        return known
    reader = reader_of(job.config, database)
    for remark, hint in reader.remarks():
        job.warn_once(remark, hint)
    table, asked = reader.table, job.config.timestamp_col
    # One odd value among its times would leave a box without a time column after its next start.
    if asked is None and state.time_column in table.columns:
        table = table._replace(time=state.time_column, doubtful=())
    job.tables.clear()
    if table.time:
        # Until there are rows a column that will hold nothing may be taken for the time.
        if has_rows(database, table.name):
            job.tables[key] = table
    elif asked is None:
        said = f"{table.name} has {said_of_time(table)}; timestamp_col names it, or none. New rows are found by rowid"
        job.warn_once(said, level=logging.INFO if table.rowid else logging.DEBUG)
    return table


def is_unbound(state: State) -> bool:
    """Whether a state leaves it open by what new rows are found: none was sent, or all are new again."""
    return state.position in ({}, {"rowid": None}) and not state.intent


def is_by_rowid(config: Config, reader: Reader, state: State) -> bool:
    """Whether new rows are found by rowid; with `auto` as the state began, in a first run where SQLite gives rowids."""
    table = reader.table
    if config.cursor == "rowid" and table.rowid is None:
        raise ConfigError(f"{table.name} has no rowid", "Set cursor to auto or timestamp.")
    if config.cursor != "auto" or table.rowid is None:
        return config.cursor == "rowid"
    if not is_unbound(state):
        return "rowid" in state.position
    if table.key and table.key == table.time and not config.enable_aggregate:
        return False  # The producer sets such a key, and a row may be late.
    if not is_shuffled(reader, time_form(config)):
        return True
    fault = said_of_order(table)
    if table.time is None:
        hint = f"Set timestamp_col to one of {', '.join(table.doubtful)}: new rows are found by time then."
        raise ConfigError(fault, hint)
    if config.enable_aggregate:
        hint = "Let SQLite give the keys. cursor: rowid goes on all the same, without new rows below delivered ones."
        raise ConfigError(f"{fault}, and aggregate reads by them", hint)
    return False


def cursor_of(config: Config, reader: Reader, now: Clock, state: State, up_to: int | None = None) -> Cursor:
    """The cursor that the settings ask for."""
    private = private_columns(config, reader.table.columns)
    reader = Reader(reader.database, reader.table._replace(private=private))
    if is_by_rowid(config, reader, state):
        return RowidCursor(reader, up_to, config.cursor == "rowid", time_form(config))
    return TimestampCursor(reader, config.lookback, time_form(config), now)


def warn_of_order(job: Job, cursor: Cursor, state: State) -> None:
    """Say once where `auto` finds new rows by time though there is a key, or can't tell whether keys rise with time."""
    table = cursor.table
    if job.config.cursor != "auto" or not table.key:
        return
    if isinstance(cursor, TimestampCursor):
        said = f"{said_of_order(table)}. New rows are found by time, lookback {job.config.lookback:g} s"
        job.warn_once(said, level=logging.INFO)
    elif is_unbound(state) and is_shuffled(cursor.reader, time_form(job.config)) is None:
        fault = f"the keys of {table.name} are far apart, and no column tells whether they rise with time"
        hint = "cursor: rowid says that they do; else name the time by timestamp_col."
        job.warn_once(f"{fault}: new rows below delivered ones would be passed over", hint)


def clock_of(job: Job) -> Clock:
    """The wall clock, or where it was never set one after which nothing comes: then the times of rows alone count."""
    if job.now() >= CLOCK_BEGAN:
        return job.now
    job.warn_once("this machine's clock is not set: rows from the future are taken for rows of now")
    return lambda: math.inf


def leads_clock(cursor: TimestampCursor, position: Position) -> bool:
    """Whether a position is ahead of the clock, which was set back since: rows until then count as late."""
    return position.get("latest", NEVER) - cursor.lookback > cursor.now() * 10**6


def time_shown(table: Table, time: int) -> str:
    """A time of a table for people; not that of a private column."""
    return "a time that is private" if table.time in table.private else moment_of(time).isoformat()


def warn_of_passed_over(job: Job, cursor: TimestampCursor, position: Position) -> None:
    """Say once which rows a cursor by time passes over: those without a time, and those until a time to come."""
    time, name = cell(cursor.table.required_time), quoted(cursor.table.name)
    if (looked := f"looked for NULL in {name}") not in job.warned:
        [(count,)] = cursor.reader.database.rows(f"SELECT count(*) FROM {name} q WHERE {time} IS NULL")
        if count:
            job.warned.add(looked)
            job.warn_once(f"{counted(count, 'row')} without a time: a timestamp cursor does not find them")
    if leads_clock(cursor, position):
        said = f"rows up to {time_shown(cursor.table, position['latest'])} were sent, which this clock has yet to reach"
        hint = "It was ahead, then. --since TIMESTAMP sends rows from a time on, also those that were sent before."
        job.warn_once(f"{said}: rows until then count as late, and are passed over", hint)


def warn_of_late(job: Job, cursor: Cursor, position: Position) -> None:
    """Say once that all rows are older than those that were sent, as in a table that was made anew."""
    newest = cursor.newest_of_late(position) if isinstance(cursor, TimestampCursor) else None
    sent = position.get("newest")
    if newest is not None and sent is not None:
        told = time_shown(cursor.table, sent)
        said = f"rows up to {told} were sent: all that are here are older by more than lookback"
        hint = f"The newest is of {time_shown(cursor.table, newest)}. Was the table made anew? --since TIMESTAMP sends"
        job.warn_once(said, f"{hint} rows from a time on, also those that were sent before.")


def warn_of_rewritten(job: Job, cursor: Cursor) -> None:
    """Say once that delivered rows get later times in their places, or all of them other values, which is not sent."""
    if isinstance(cursor, RowidCursor) and cursor.is_rewritten:
        table, passed = cursor.table, "what is rewritten is not sent again"
        if table.time is None:
            said = f"all known rows of {table.name} have other values than were delivered: {passed}"
            hint = "Where its producer deletes all rows and writes them anew, a column with the time tells them apart."
            return job.warn_once(said, hint)
        said = f"rows of {table.name} that were delivered have later times now: {passed}"
        hint = "cursor: timestamp sends rows with a newer time, as of a ring, and begins by --since TIMESTAMP."
        job.warn_once(said, hint)


def what_waits(cursor: Cursor, position: Position, is_done: bool = False) -> dict[str, int | None]:
    """What comes after a position, of which nothing is unread where a cycle `is_done`, as `Figures` have it."""
    rows, oldest = (0, None) if is_done else cursor.waiting(position)
    held = held_rows(position)
    return {"waiting": None if rows is None else rows + held, "oldest": oldest, "held": held}


def rules_for(config: Config, scenario: str, columns: Columns, table: Table) -> Rules | Aggregate | None:
    """The scenario's rules for a table's columns, checked; None for raw rows."""
    if scenario == "sanitize":
        return parse_sanitize(config.sanitize_config, columns, config.sanitize_secret)
    if scenario == "aggregate":
        time = table.required_time
        return parse_aggregate(config.aggregate_config, {**columns, time: "timestamp"}, time)
    return parse_filter(config.filter_config, columns) if scenario == "filter" else None


def early_rules(job: Job, reader: Reader, before: Columns) -> Rules | Aggregate | None:
    """The scenario's rules by what the source tells. Where they don't fit that, the target is asked for types."""
    try:
        reads = read_types(job.config, reader, {}, job.sampled, before) if job.scenario != "raw" else {}
        return rules_for(job.config, job.scenario, reads, reader.table)
    except ConfigError:
        with contextlib.suppress(UploaderError):
            if job.scenario != "aggregate":  # Its groups tell nothing of the rows.
                if "target" not in job.sampled:  # Idle cycles wake no warehouse: a plan asks before rows are sent.
                    reads = read_types(job.config, reader, types_in(job.target.columns()), job.sampled, before)
                    rules_for(job.config, job.scenario, reads, reader.table)
                    job.sampled["target"] = reads
                return None
        raise


def plan_of(job: Job, reader: Reader, now: Clock, aggregate: Aggregate | None, before: Columns) -> Plan:
    """The scenario's plan, for the target's columns as they are now. What is neither sent nor used is not looked at."""
    target = job.target.columns()
    types = types_in(target)
    reads = aggregate.source_columns if aggregate else read_types(job.config, reader, types, job.sampled, before)
    rules = aggregate or rules_for(job.config, job.scenario, reads, reader.table)
    given = rules.columns if rules else reads
    is_made, evolve = target is None, job.config.schema == "evolve" and job.target.evolves
    source_id = job.config.source_id or f"{32 * '0'}/{job.stream}".rstrip("/")
    aimed = aimed_columns(given, target, is_made or evolve, len(source_id) + BATCH_LENGTH)
    page_rules = rules if isinstance(rules, Rules) else None
    if aggregate is None:
        needed = page_rules.used.union(aimed[1].values()) if page_rules else {*aimed[1].values()}
        reads = {name: kind for name, kind in reads.items() if name in needed}
    if page_rules:
        sent = {name: kind for name, kind in page_rules.columns.items() if name in reads}
        page_rules = page_rules._replace(columns=sent)
    is_windowed = aggregate is not None and aggregate.window_length is not None
    form = time_form(job.config)
    left_out = tuple(name for name in given if name not in aimed[1].values())
    plan = Plan(
        reader.table, reads, *aimed, form, page_rules,
        left_out=left_out, is_windowed=is_windowed, is_made=is_made, now=now,
    )  # fmt: skip
    if job.config.zerobus_endpoint:
        plan = plan._replace(finite=finite_columns(plan))
    warn_of_columns(job, plan, types)
    return plan


def said_of_left_out(plan: Plan, evolves: bool) -> Iterator[tuple[str, str]]:
    """Which columns of the source don't arrive, each text with a hint."""
    if names := [name for name in plan.left_out if name]:
        hint = "schema: evolve adds columns" if evolves else "ALTER TABLE ... ADD COLUMNS makes them there"
        is_lacking = any(name.lower() not in OWN_COLUMNS for name in names)
        hint = f"{hint}; rows that were sent before stay without them." if is_lacking else ""
        shown = ", ".join(map(repr, names))
        yield f"left out, since the target has no such column, or the uploader fills it: {shown}", hint
    if "" in plan.left_out:
        yield "a column whose name is empty is left out: Delta tables have no such names", "A view that names it helps."


def warn_of_columns(job: Job, plan: Plan, target: Columns) -> None:
    """Say once which columns of the source don't arrive, which of the target's stay empty, which types don't count."""
    for said, hint in said_of_left_out(plan, job.target.evolves):
        job.warn_once(said, hint)
    if empty := [name for name in target if name not in plan.sources and name.lower() not in OWN_COLUMNS]:
        said = f"not filled, since the source has no such column: {', '.join(map(repr, empty))}"
        job.warn_once(said, level=logging.INFO)
    wanted, aimed = types_set(job.config, plan.table.columns).items(), in_target(target)
    told = [(name, kind, target.get(aimed(name) or "", kind)) for name, kind in wanted]
    if others := [f"{name} is {found.upper()}" for name, kind, found in told if found != kind]:
        job.warn_once(f"column_types count where a table is made; in {job.target.name} {', '.join(others)}")


# So long a key of hashes is at least, as random characters: telephone numbers are soon tried under a short one.
SECRET_LENGTH = 32


def source_in(job: Job, database: Database, state: State, up_to: int | None = None) -> Source:
    """The scenario's source in a file that was opened for this cycle; its rules are checked before anything is read."""
    config, reader, now = job.config, Reader(database, table_in(job, database, state)), clock_of(job)
    cursor = cursor_of(config, reader, now, state, up_to)
    warn_of_order(job, cursor, state)
    if isinstance(cursor, TimestampCursor):
        warn_of_passed_over(job, cursor, state.position)
    if 0 < len(config.sanitize_secret or "") < SECRET_LENGTH:
        hint = "What can be guessed can be found again by such a key."
        job.warn_once(f"SANITIZE_SECRET has fewer than {SECRET_LENGTH} characters", hint)
    types_set(config, reader.table.columns)
    if foreign := foreign_types(config, reader.table, is_first=not state.sequence):
        job.warn_once(f"column_types: {reader.table.name} has no column {', '.join(foreign)}: dropped, or misspelt")
    rules = early_rules(job, reader, state.reads)
    aggregate = rules if isinstance(rules, Aggregate) else None
    plan = functools.cache(lambda: plan_of(job, cursor.reader, now, aggregate, state.reads))
    if aggregate is None:
        return RowSource(cursor, plan)
    if not isinstance(cursor, RowidCursor):
        raise ConfigError("aggregate needs a table with rowids", "Take the table behind the view, or cursor: auto.")
    return WindowSource(cursor, plan, aggregate, config.flush, now)


# === Beginning ========================================================================================
#
# The state that a run begins with: the saved one if it belongs to this source and target, a first one, or what
# the target knows of a source whose state was lost. What would begin with a quarantine is refused before it is sent.


def random_id(job: Job) -> str:
    """A name for a source that has none. Streams that begin in one process begin alike, but none as one before did."""
    # A source whose state was lost would number its commits anew, and a target takes each number once.
    end = f"/{job.stream}" if job.stream else ""
    bases = (name.partition("/")[0] for name in sorted(job.source_ids))
    return next((base for base in bases if base + end not in job.source_ids), os.urandom(16).hex()) + end


def completed(job: Job, source: Source, state: State) -> State:
    """A state that has no more than `last_upload`, made whole: rows past that time are new."""
    return dataclasses.replace(
        state,
        source_id=job.config.source_id or state.source_id or random_id(job),
        table=source.cursor.table.name,
        time_column=source.cursor.table.time,
        time_form=time_form(job.config).line(),
        target=job.target.name,
        # Numbers go on after those of a state that was lost: its quarantine stays.
        sequence=job.quarantine.newest(),
        position=source.cursor.start(to_microseconds(state.last_upload, AUTO) if state.last_upload else None),
    )


# A batch becomes smaller so often: of a million rows that never arrived together, four thousand may.
HALVINGS = 8


def confirmed(state: State, intent: Intent, tally: Tally, is_set_aside: bool = False) -> State:
    """The state after its intent was committed, or its one row set aside, which proves nothing."""
    latest = moment_of(tally.latest).isoformat() if tally.latest is not None else None
    is_as_large = 5 * intent.get("bytes", 0) >= 4 * state.lost_bytes  # That a much smaller one went proves nothing.
    fewer, more = max(0, min(state.lost, HALVINGS) - int(is_as_large)), 2 * state.lost_rows
    return dataclasses.replace(
        state,
        intent=None,
        lost=state.lost if is_set_aside else fewer,
        lost_rows=state.lost_rows if is_set_aside else more if more < PAGE_ROWS else 0,
        sequence=intent["sequence"],
        committed=intent["sequence"] if tally.commits else state.committed,
        commits=state.commits + tally.commits,
        epoch=intent["epoch"],
        position=intent["position"],
        ended=GONE if state.ended == GONE else None,  # A doubt may end after that.
        anchors=[Anchor.of(line) for line in intent["anchors"]],
        columns=intent.get("columns", []),
        reads=intent.get("reads", {}),
        gaps=intent.get("gaps", []),
        last_upload=max(filter(None, [state.last_upload, latest]), default=None),
    )


def times_of(job: Job, reader: Reader, state: State) -> Iterator[tuple[str, str, str]]:
    """What a position by time depends on: what it is called, as the state has it, and as it is now."""
    form, table = time_form(job.config), reader.table
    if state.time_column in table.columns:
        yield "time column", str(state.time_column), str(table.time)
    if state.time_form not in (None, form.line()):
        # One that reads the newest times as the one before did is the same; where there are none, nothing tells.
        before, now = (TimeColumn(reader, each).newest_times() for each in (TimeForm.of(str(state.time_form)), form))
        if before != now or not any(now):
            yield "times read as", str(state.time_form), form.line()


def named_now(job: Job, table: str, state: State) -> str:
    """The source's name by the settings. One of the single form keeps its name as a stream, and a stream as such."""
    named, stream = job.config.source_id or state.source_id, job.stream or PREFIXES[job.scenario] + table
    longer, shorter = (named, state.source_id) if job.stream else (state.source_id, named)
    return state.source_id if longer == f"{shorter}/{stream}" else named


def bound_to(job: Job, source: Source, state: State, is_anew: bool) -> Iterator[tuple[str, str | None, str | None]]:
    """What a state belongs to: what that is called, as the state has it, and as it is now."""
    cursor, table = source.cursor, source.cursor.table
    for what, known, found in (("table", state.table, table.name), ("target", state.target, job.target.name)):
        yield what, known, known if is_one_name(known, found) else found
    yield "source_id", state.source_id, named_now(job, table.name, state)
    if "read_to" in state.position or (job.scenario == "aggregate" and state.position.get("rowid") is not None):
        yield "scenario", "aggregate" if "read_to" in state.position else "of single rows", job.scenario
    if is_anew:  # By what new rows are found is open, then.
        return
    yield "cursor", "rowid" if "rowid" in state.position else "timestamp", cursor.kind
    if "latest" in state.position or {state.position.get("closed"), state.position.get("since")} != {None}:
        yield from times_of(job, cursor.reader, state)


def refuse_foreign(job: Job, source: Source, state: State, subject: str, is_anew: bool = False) -> None:
    """A `StateError` for a state of another source, target or way to read; `subject` is what says that, with a verb."""
    for what, known, found in bound_to(job, source, state, is_anew):
        if known != found:
            settings = {"source_id": "source_id", "time column": "timestamp_col"}
            settings |= {"cursor": "cursor"} if known == "timestamp" or source.cursor.table.rowid else {}
            value = str(known).removesuffix(f"/{job.stream}")  # The setting is that of all streams.
            hint = f"{settings[what]}: {value} goes on there. " if what in settings else ""
            if what == "table":
                hint = "One that was renamed goes on by its new name in tables, with the databricks_table of before. "
            elif what == "target":  # Another state_dir alone would send all rows again.
                name = f"source_id: {state.source_id.removesuffix(f'/{job.stream}')}"
                hint = "One that was moved or renamed goes on, by path or where it has databricks_batch_id, "
                hint += f"with an empty state_dir and {name}. "
            hint += "Set back what was changed; or "
            if what in ("cursor", "time column", "times read as"):
                hint += "--since TIMESTAMP begins anew, with the rows of that time and later."
                hint += " Let a run as before settle the last commit first." if state.intent else ""
            else:
                hint += "give each source table, target and scenario a state_dir of its own."
            raise StateError(f"{subject} to {what} {known}, not {found}", hint)


@functools.cache
def state_beside(directory: Path, _: tuple[int, ...]) -> State | None:
    """The state of another stream that is read by rowid: once as long as its file has the same fingerprint."""
    state = StateFile(directory).load()
    return state if state and "rowid" in state.position else None


def settle_of_other(job: Job, source: Source, cursor: RowidCursor, states: StateFile, other: State) -> bool:
    """Settle another stream's commit that is in doubt, and save that in its state; whether it took place."""
    # That stream can't: its own table has no such rows any more.
    intent, here = other.intent or Intent(), Anchored(cursor.reader, cursor.form)
    low, high = (here.located(state).position for state in (other, confirmed(other, intent, Tally())))
    again = functools.partial(source.again, low, high)
    is_there = intent.get("confirmed") or job.target.settle(intent, lambda: (each.rows for each in again()))
    if not job.is_looking:
        known = dataclasses.replace(other, intent=None)
        states.save(confirmed(other, intent, Tally(commits=1)) if is_there else known)
    return bool(is_there)


def went_elsewhere(job: Job, folder: Path) -> bool:
    """Whether a stream, whose state can't be read, sent its rows to another target in the last cycle."""
    figures = last_cycle(folder.parent).get("streams", {}).get(unquote(folder.name), {})
    return not is_one_name(str(figures.get("target") or job.target.name), job.target.name)


def claims_on(job: Job, cursor: RowidCursor, source: Source) -> Iterator[Claim]:
    """Places of other streams, or of the single form, that a table may be in which was renamed, as loggers rotate."""
    own = job.states.directory
    if cursor.reader.bounds()[0] is None:
        return
    folder, single = (own.parent, [own.parent / STATE_NAME]) if job.stream else (own, [])
    files = [*single, *sorted(folder.glob(f"{PREFIXES[job.scenario]}*/{STATE_NAME}"))]
    is_new_name = is_renamed(cursor.reader.database, cursor.table.name)
    for file in (each for each in files if is_new_name or is_one_name(each.parent.name, own.name)):
        try:
            other = state_beside(file.parent, fingerprint(file)) if file.exists() else None
        except StateError:
            if went_elsewhere(job, file.parent):
                continue
            raise
        if other and other.table and other.table != cursor.table.name and is_one_name(other.target, job.target.name):
            yield from (Claim(place, other.table) for place in formers_of(other))
            # A commit in doubt may have led further. Its rows are here now.
            if other.intent and other.intent["anchors"] and "replayed" not in other.intent:
                settle = functools.partial(settle_of_other, job, source, cursor, StateFile(file.parent), other)
                yield Claim(place_of(confirmed(other, other.intent, Tally())), other.table, settle)


# So many of the newest rows are looked for in the target before a state without anchors is believed.
VERIFIED_ROWS = 1000


def is_known(job: Job, source: Source, cursor: RowidCursor, state: State) -> bool:
    """Whether rows of a recovered state are here, the target having them, or the table was made anew since."""
    if not state.anchors:  # The target tells a rowid alone.
        first = (read_to(state.position) or 0) - VERIFIED_ROWS
        newest = source.again({**state.position, "rowid": first}, state.position)
        return job.target.holds(prepared.rows for prepared in newest)
    evidence = Search(cursor, origin_of(cursor.reader.database)).evidence(state)
    return bool(evidence.whole) or cursor.located(state).epoch > state.epoch or not evidence.looks


def recovered(job: Job, source: Source) -> State | None:
    """The state out of what the target knows of a source; None where it knows nothing."""
    first = completed(job, source, State())
    single = dataclasses.replace(first, source_id=first.source_id.removesuffix(f"/{job.stream}"))
    known, is_told = job.target.recover(first), isinstance(job.target, DeltaTarget)  # A batch id names no table.
    if known is None and job.stream and is_told:  # It may have been the only table before.
        known, first = job.target.recover(single), single
    if known is None:
        return None
    if "position" not in known:
        fault = f"{job.target.name} knows {first.source_id}, but does not tell up to which row"
        raise StateError(fault, "Restore the state from a copy, or use --since TIMESTAMP.")
    state, cursor = dataclasses.replace(first, **state_fields(known)), source.cursor
    state = dataclasses.replace(state, sequence=max(first.sequence, state.sequence))
    refuse_foreign(job, source, state, f"what {job.target.name} knows of {state.source_id} belongs")
    if not isinstance(cursor, RowidCursor):
        return state
    place = read_to(state.position) or 0
    if is_known(job, source, cursor, state):
        anchors = state.anchors or cursor.anchors(place - VERIFIED_ROWS, place)
        return dataclasses.replace(state, anchors=anchors, columns=state.columns or cursor.parts)
    if job.stream and first is single:
        return None
    fault = f"{job.target.name} knows source {state.source_id} up to row {place}, but not the rows that are here"
    hint = "Made anew? Give it another source_id, or use --since TIMESTAMP. Edited? --since with a time past its rows."
    raise StateError(fault, hint)


def first_state(job: Job, source: Source, state: State) -> State:
    """The state of a first run, or what the target knows where a configured `source_id` was there before."""
    former = job.states.directory / encoded_name(PREFIXES[job.scenario] + source.cursor.table.name) / STATE_NAME
    if not job.stream and former.exists():
        fault = f"{source.cursor.table.name} was uploaded as one of several tables"
        hint = f"Keep the setting tables, or move what is in {former.parent} to {former.parent.parent}."
        raise StateError(fault, hint)
    known = recovered(job, source) if job.config.source_id else None
    if known is None:
        return completed(job, source, state)
    aside = "" if job.quarantine.count() else "; rows that were in quarantine are not there"
    said = "no state here, but the target knows %s: going on after commit %d%s"
    log.warning(said, known.source_id, known.sequence, aside)
    return known


def may_be_there(job: Job, state: State) -> bool:
    """Whether a commit that is not confirmed may be in the target of before. One by path tells; no answer is a yes."""
    if state.intent and is_by_path(state.target or ""):
        with contextlib.suppress(UploaderError):
            return DeltaTarget(str(state.target), job.config.storage_options).settle(state.intent, lambda: iter(()))
    return state.intent is not None


def checked(job: Job, source: Source, state: State, is_anew: bool = False) -> State:
    """The saved state if it belongs to this source, target and, but `is_anew`, cursor; the first one, or an error."""
    is_first = not (state.table or state.last_upload)
    if isinstance(source.cursor, RowidCursor) and (job.stream or is_first):
        source.cursor.claims = functools.partial(claims_on, job, source.cursor, source)
    if is_first:
        return first_state(job, source, state)
    if state.table is None:
        return completed(job, source, state)
    if not is_one_name(state.target, job.target.name) and not (state.sequence or may_be_there(job, state)):
        # What no row was ever read for is no target: most likely its path or name was wrong.
        log.info("nothing reached %s yet: rows go to %s instead", state.target, job.target.name)
        state = dataclasses.replace(state, target=job.target.name, intent=None)
    if is_unbound(state):
        state = dataclasses.replace(state, position=source.cursor.start(None))
    refuse_foreign(job, source, state, f"{job.states.file} belongs", is_anew)
    return dataclasses.replace(state, time_form=time_form(job.config).line())


def said_of_form(plan: Plan, form: TimeForm) -> str:
    """A form as the configuration has it."""
    said = f"timestamp_format: {json.dumps(form.name, ensure_ascii=False)}"
    if form.zone != plan.form.zone:
        return f"{said} with source_timezone: {json.dumps(form.zone.key)}"
    word = None if "%z" in form.name else re.search("(?<=%[MSfp] )" + FIELDS["Z"], form.name)
    return f"{said}, and source_timezone, if {word[0]} means a zone" if word else said


ODD_TIMES = "the column {} has times before 2000 or more than a day ahead"


def said_of_odd_time(plan: Plan, moment: int, values: Sequence[Any]) -> tuple[str, str]:
    """That the first of these times can't be right, and the format under which it would be, as they all are."""
    name, better = str(plan.table.time), list[str]()
    is_private = name in plan.table.private
    forms = fitting_forms(values, plan.form.zone, plan.now())
    for form in forms:
        with contextlib.suppress(ValueError):
            told = to_microseconds(values[0], form)
            if is_plausible(told, plan.now()):
                made = "plausible" if is_private else moment_of(told).isoformat()
                better.append(f"{said_of_form(plan, form)} makes it {made}")
    remedy = " or ".join(better) or "look at the clock behind it"
    if not better and plan.form not in forms:
        remedy += "; where it is right, no timestamp_format is: send a view with ISO-8601, or seconds since 1970"
    shown = "It is private" if is_private else f"{values[0]!r:.60} is read as {moment_of(moment).isoformat()}"
    return ODD_TIMES.format(name), f"{shown}; {remedy}."


def odd_times_of(source: Source) -> list[tuple[str, str]]:
    """What is to be said of times of the first thousand rows that can't be right, before any is sent."""
    plan = source.plan()
    odd = plan.typed(source.cursor.reader.sample()).odd
    return [said_of_odd_time(plan, *odd)] if odd else []


def say_of_guesses(plan: Plan, page: RawPage) -> None:
    """Name the columns of a table to be made whose types the first rows could not tell."""
    # Those without a value, and whole numbers where SQLite keeps no 21.0 apart from 21 (datatype3.html, 3).
    empty = [name for name, column in page.columns.items() if all(value is None for value in column.values())]
    declared = {name: word.upper() for name, word in plan.table.columns.items()}
    fluid = [name for name, word in declared.items() if word and "INT" not in word and name not in empty]
    for what, kind, names in (("nothing", "string", empty), ("whole numbers", "bigint", fluid)):
        if open_ones := [name for name in names if plan.reads.get(name) == kind]:
            said = "%s: %s so far, so made %s; column_types sets other types before a table is made"
            log.info(said, ", ".join(open_ones), what, kind.upper())


def remedy_for(plan: Plan, name: str, values: Sequence[Any], beside: Sequence[Any]) -> str:
    """The setting that lets values of a column go, with all values `beside` them, ready to paste."""
    is_time = name == plan.table.time and values[0] is not None
    formats = fitting_forms(beside, plan.form.zone, plan.now()) if is_time else []
    if formats and plan.form not in formats:
        return " or ".join(said_of_form(plan, form) for form in formats)
    if not plan.is_made or values[0] is None:
        return "Correct the source, or give the target's column a type that holds them, such as STRING."
    has_blobs = any(isinstance(value, bytes) for value in beside)
    if has_blobs and any(isinstance(value, (int, float)) for value in beside):
        what = f"send a view that makes texts of both, as by hex({quoted(name)})"
        return f"No type holds blobs beside numbers: {what if plan.table.time else 'leave the table out'}."
    kind = "binary" if has_blobs else "string"
    remedy = f"column_types: {json.dumps({name: kind}, ensure_ascii=False)}"
    if name == plan.table.time and not formats:
        return f"No one timestamp_format reads them: send a view with ISO-8601. {remedy} sends them as they are."
    return remedy


def refuse_missing(plan: Plan, page: RawPage) -> None:
    """The same for what rules leave or make NULL; of other rows the target's NOT NULL columns are told before."""
    if not (plan.rules and plan.required):
        return
    with contextlib.suppress(RefusedValuesError):  # That is one row's.
        rows = plan.prepare(page).rows
        for name in plan.required:
            count, hint = rows.column(name).null_count, "Drop NOT NULL in the target, or let a rule leave them out."
            if 10 * count > len(page.keys):
                fault = f"{count} of the first {len(page.keys)} rows would go to quarantine: {name} is NULL"
                raise ConfigError(f"{fault}; nothing was sent", hint)


def refuse_bad_start(source: Source, state: State) -> None:
    """A `ConfigError` where a first run would begin with a quarantine, of more than a tenth of its first rows."""
    plan, reader = source.plan(), source.cursor.reader
    if state.committed or state.anchors:  # Of a table that was renamed.
        return
    page = reader.sample()
    if plan.is_made:
        say_of_guesses(plan, page)
    refused = {name: bad for name, bad in plan.converted(page)[1].items() if bad}
    count = len(set().union(*refused.values()))
    if 10 * count <= len(page.keys):
        return refuse_missing(plan.from_position(state.position), page)
    name = max(refused, key=lambda name: len(refused[name]))
    reason = min(refused[name].items())[1]
    values = [page.columns[name].values()[index] for index in sorted(refused[name])]
    shown = "" if name in plan.table.private or values[0] is None else f" (it is {values[0]!r:.60})"
    fault = f"{count} of the first {len(page.keys)} rows would go to quarantine: {name} {reason}{shown}"
    raise ConfigError(f"{fault}; nothing was sent", remedy_for(plan, name, values, page.columns[name].values()))


# === Cycle ============================================================================================
#
# Read, intend, commit, confirm. Whatever step a crash comes at, the next run finds out from state and
# target what happened, and goes on there.


def canonical(rules: Any) -> Any:
    """Rules in one form, however they are written: YAML has keys that are no texts, and times."""
    if isinstance(rules, Mapping):
        return {str(key): canonical(value) for key, value in rules.items()}
    if isinstance(rules, list):
        return [*map(canonical, rules)]
    if isinstance(rules, float) and rules.is_integer():
        return int(rules)
    if isinstance(rules, (str, dt.date)):
        with contextlib.suppress(ValueError, OverflowError):
            moment = dt.datetime.fromisoformat(str(rules))
            return str(moment.astimezone(dt.UTC) if moment.tzinfo else moment)
    return rules


def made_by(job: Job, plan: Plan) -> str:
    """A digest of what rows are made by: after a change of it they can't be made again, to be looked for."""
    rules = canonical(getattr(job.config, f"{job.scenario}_config", None))
    secret = (job.config.sanitize_secret or "") if job.scenario == "sanitize" else ""
    # In whatever order the columns stand: a rebuild may change that.
    reads = {name: plan.reads.get(source) for name, source in plan.sources.items()}
    # The key of hashes is told from others by four bytes, which tell nothing of it.
    told = [job.scenario, rules, hmac.digest(secret.encode(), b"rows", "sha256")[:4].hex(), reads]
    told += [plan.writes, plan.sources, plan.table.time, plan.form.line()]
    return digest_of(json.dumps(told, sort_keys=True, default=str))


def batch_id_end(position: Position) -> str:
    """A batch id's last part: the rowid up to which all rows were sent. Places by time and of windows have a letter."""
    if "latest" in position:
        return f"t{position['latest'] // 1000}"
    return f"{'w' if 'read_to' in position else ''}{position.get('rowid')}"


def intent_of(job: Job, source: Source, state: State, batch: Batch) -> Intent:
    """What is saved before a commit is sent, so that its fate can be found out after a crash."""
    sequence = state.sequence + 1
    return {
        "sequence": sequence,
        "application": application_of(state),
        "batch_id": f"{state.source_id}/{state.epoch}/{sequence:012d}/{batch_id_end(batch.position)}",
        "made_by": made_by(job, source.plan()),
        "started": dt.datetime.fromtimestamp(job.now(), dt.UTC).isoformat(),
        "epoch": state.epoch,
        "position": batch.position,
        "anchors": [anchor.line() for anchor in thinned(batch.anchors, state.anchors)],
        "columns": state.columns,
        "time_column": state.time_column,
        "time_form": state.time_form,
        "keyed": not job.stream and source.sends_keys(),  # Other streams may have the same keys.
        "reads": source.plan().reads if job.scenario != "raw" else {},
        "gaps": sorted([*batch.gaps, *state.gaps], key=lambda gap: gap[0] - gap[1])[:MOST_GAPS],
    }


def save_source_id(job: Job, state: State) -> None:
    """A kill before the first intent must not lose the name by which a staged file is found."""
    if state.committed and job.states.file.exists():
        return
    saved = job.states.load() or State()
    if not (saved.table or saved.last_upload):
        if not (state.committed or state.anchors):
            log.info("first run of source %s: all rows of %s are new", state.source_id, state.table)
        if saved.source_id != state.source_id:
            keep_name(job, state.source_id)


def keep_name(job: Job, name: str) -> None:
    """Keep the name of a source that has not begun: it is a box's also while nothing of it arrives."""
    job.states.save(State(source_id=name))
    job.source_ids.add(name)


@dataclasses.dataclass
class Shipment:
    """A batch on its way: its intent, what is sent of it, and what became of its rows."""

    intent: Intent
    payload: Payload
    tally: Tally


@functools.cache
def share_heap() -> None:
    """Let all threads share one heap (mallopt(3), M_ARENA_MAX)."""
    import ctypes

    # With one each, as glibc has it, memory that one thread freed is not used by another, and a process with a long
    # backlog grows by some MiB with each commit.
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(-8, 1)


def replayed(job: Job, source: Source, intent: Intent) -> Iterator[Prepared]:
    """The rows that an intent takes out of the quarantine."""
    lines = lines_of(file for file in job.quarantine.files() if file.name in intent["replayed"])
    first, end = intent.get("span", (0, None))
    unfit = source.unfit(lines[first:end], job.scenario == "sanitize")
    if len(unfit) != intent.get("unfit", 0):
        raise ConfigError("the columns are others than when the replay began", "Start it again.")
    return iter([source.of_lines(lines[first:end], unfit)])


def pages_again(delivery: Delivery, intent: Intent, is_asked: bool = False) -> Iterator[Prepared]:
    """The pages of an intent, out of the source, or out of the quarantine where it was a replay.

    None where they would be others by now, as by other rules: nothing tells whether they arrived, where it `is_asked`.
    """
    source, state, now = delivery.source, delivery.state, made_by(delivery.job, delivery.source.plan())
    if intent.get("made_by", now) != now:
        if is_asked:
            said = f"the settings by which the rows of commit {intent['sequence']} were made have changed since"
            delivery.job.warn_once(said, "With those of before it can be found out whether they came.")
    elif "replayed" in intent:
        with contextlib.suppress(ConfigError, StateError):  # Its lines, or the table's columns, are others by now.
            yield from replayed(delivery.job, source, intent)
    else:  # Both ends are looked up anew: rowids may have been renumbered since.
        after = source.cursor.located(confirmed(state, intent, Tally()))
        yield from source.again(source.cursor.located(state).position, after.position)


def rows_again(delivery: Delivery, intent: Intent, bad: list[BadRow]) -> Iterator[ArrowTable]:
    """The rows of an intent that is asked about; `bad` are those that don't fit any more."""
    bad.clear()
    for prepared in pages_again(delivery, intent, is_asked=True):
        bad += prepared.bad
        yield prepared.rows


def tally_again(delivery: Delivery, intent: Intent) -> Tally:
    """What an intent that took place did: rows that were edited since were sent, or set aside, as they were."""
    tally = Tally(commits=int(intent.get("rows") != 0))
    with contextlib.suppress(SourceError):  # where the source no longer has its rows
        for prepared in pages_again(delivery, intent):
            tally.add(tally_of(prepared))
    tally.sent = intent.get("rows", tally.sent)
    # Those of a replay were counted when they came.
    tally.bad = 0 if "replayed" in intent else delivery.job.quarantine.count(intent["sequence"])
    return tally


# --- What does not go, or had no answer: how much smaller the next request is ---


def is_small(intent: Intent) -> bool:
    """Whether a request is too small to be refused for its size: then a row of it may be disliked, or the line down."""
    return "route" in intent and intent.get("bytes", Allowance.LEAST) < Allowance.LEAST


def measured(intent: Intent, size: int, bytes_per_row: float | None) -> Intent:
    """With the size that was found while it was sent; about so many bytes where no request says its own."""
    return {**intent, "size": size, "bytes": intent.get("bytes", int(size * (bytes_per_row or 0)))}


def lost_again(state: State, intent: Intent) -> State:
    """The state after a request that had no answer, and did not arrive. The second time half of its rows may follow."""
    half = max(1, intent["size"] // 2) if is_small(intent) and state.lost else state.lost_rows
    return dataclasses.replace(state, lost=state.lost + 1, lost_bytes=intent.get("bytes", 0), lost_rows=half)


def is_alone(intent: Intent) -> bool:
    """Whether it is one row of the source."""
    return intent["size"] == 1 and "replayed" not in intent


def is_given_up(lost: int, intent: Intent) -> bool:
    """Whether a request of one row was lost 16, 32, 64, 128, 192 times in a row, and so on."""
    # So a line that lets nothing pass costs few rows, though several may be disliked one after another.
    is_often = lost in (2 * HALVINGS, 4 * HALVINGS) or lost % (8 * HALVINGS) == 0
    return "route" in intent and is_alone(intent) and is_often


def beside_others(target: Target, state: State) -> Intent:
    """The intent of a lost request; of a large single row it tells whether a commit without rows goes just then."""
    intent = state.intent or {}
    if state.lost and is_alone(intent) and not is_small(intent) and isinstance(target, WarehouseTarget):
        return {**intent, "others_go": not target.fault_of_nothing(intent)}
    return intent


def is_at_fault(state: State, intent: Intent) -> bool:
    """Whether a large request of one row was lost so often for its size, and not for a line that was down."""
    if "route" not in intent:  # Stores may be down for long, and there nothing else is sent to tell.
        return is_alone(intent) and state.lost >= HALVINGS
    # Two losses may have two causes, and those before may be of other rows.
    is_same = state.lost_bytes == intent.get("bytes") and state.lost > 1
    return is_alone(intent) and is_same and intent.get("others_go", False)


def without_blame(error: DidNotRun, intent: Intent, total: Tally) -> DidNotRun:
    """The error, where it is a refusal of a size that is small, of a single row: then the row is not at fault."""
    is_alone = intent["size"] == 1 and 0 < intent["bytes"] < Allowance.LEAST
    # Where others went, a firewall may dislike what it holds.
    if total.commits or not is_alone or not isinstance(error, RefusedSizeError):
        return error
    hint = "Such a small request is not refused for its size; what stands between may tell."
    return Rejected(str(error), hint if error.hint.startswith("Smaller") else f"{hint} {error.hint}")


def of_this_stream(error: UploaderError) -> UploaderError:
    """An error that keeps no other stream waiting: that a host is busy was said of this one's rows."""
    return Postponed(str(error), error.hint) if isinstance(error, NotReady) else error


# --- One cycle ---


def known_by(delivery: Delivery) -> dict[str, str]:
    """What the quarantine knows the table by: one of several may get another name."""
    lineage = {"lineage": lineage_of(delivery.state)} if delivery.job.stream else {}
    return {"table": delivery.source.cursor.table.name, **lineage}


def is_back(state: State, found: State) -> bool:
    """Whether a state was found in another table than before, further, or with its newest row, renumbered perhaps."""
    is_further = (read_to(found.position) or 0) > (read_to(state.position) or 0)
    # Columns may have come and gone.
    shared = [name for name in found.columns if name in state.columns]
    known = ([(each, each.parts(of.columns)) for each in of.anchors[:1] if each.digest] for of in (found, state))
    newest, before = ([(each.time, *map(parts.get, shared)) for each, parts in rows] for rows in known)
    is_there = newest == before != [] and (len(shared) > 1 or found.columns == state.columns)
    return bool(found.anchors) and (is_further or lineage_of(found) != lineage_of(state) or is_there)


def as_it_ended(state: State, found: State, is_empty: bool) -> State:
    """A state that knows where its table was seen to end, and the newest rows that are left there besides its own."""
    if is_empty or found.ended is None or found.columns != state.columns:
        return dataclasses.replace(state, ended=NOWHERE if is_empty else None)
    anchors = {anchor.rowid: anchor for anchor in (*state.anchors, *found.anchors)}
    return dataclasses.replace(state, ended=found.ended, anchors=[anchors[rowid] for rowid in sorted(anchors)[::-1]])


def find_again(delivery: Delivery) -> None:
    """Find the position in the file as it is now, and keep what was learned of it also where no row is new."""
    # What changes one after the other tells more than all of it at once. What moved a position is not kept, since rows
    # may be put back; but where the table ended is, and where it was before.
    state, cursor = delivery.state, delivery.source.cursor
    delivery.state = found = cursor.located(state)
    if found.epoch == state.epoch:  # Else the table was made anew, or emptied and filled again.
        warn_of_rewritten(delivery.job, cursor)
    if found.epoch != state.epoch and not is_back(state, found):
        found = as_it_ended(state, found, state.emptied or cursor.reader.bounds()[0] is None)
    if (state.committed or found.anchors) and found != state:
        delivery.job.states.save(found)


def look_at_waiting(delivery: Delivery, is_done: bool) -> None:
    """Tell what waits: after a cycle that sent all, the state knows it; else a look is taken, where one can be."""
    if delivery.job.figures is None:
        return
    with contextlib.suppress(UploaderError):
        if not is_done:
            delivery.state = delivery.source.cursor.located(delivery.state)
        found = what_waits(delivery.source.cursor, delivery.state.position, is_done)
        vars(delivery.job.figures).update(found)


@dataclasses.dataclass
class Delivery:
    """One cycle: a job, its source as it is opened, the state so far, and what became of all rows."""

    job: Job
    source: Source
    state: State
    total: Tally
    # How many rows a batch may have while one stands in the way that does not go: half as many after each that did not.
    stride: int | None = None
    bytes_per_row: float | None = None
    newest: Shipment = dataclasses.field(init=False)  # the last one that was begun

    def run(self) -> None:
        """Deliver all rows that are new, around those that don't go."""
        if self.state.allowance:
            self.job.target.allowance = self.state.allowance
        is_done = False
        try:
            self.settle()
            find_again(self)
            if self.job.figures and self.job.figures.waiting is None:
                look_at_waiting(self, is_done)
            while not self._sent_all() and not self.job.stopping.is_set():
                pass
            is_done = not self.job.stopping.is_set()
        finally:
            look_at_waiting(self, is_done)

    def settle(self) -> None:
        """Leave no doubt: the target tells whether an intent that has no confirmation was committed."""
        if intent := self.state.intent:
            if intent.get("confirmed") or self._took_place(intent):
                log.info("commit %d had taken place", intent["sequence"])
                tally = tally_again(self, intent)
                self._confirm(intent, tally)
                self.total.add(tally)
            else:
                then, lost = "stay in quarantine" if "replayed" in intent else "are sent again", self.state.lost + 1
                log.info("commit %d did not take place; its rows %s", intent["sequence"], then)
                is_too_large = self._narrow(intent) and is_at_fault(self.state, intent)
                if not is_too_large:
                    self._save(dataclasses.replace(lost_again(self.state, intent), intent=None))
                if is_too_large or is_given_up(lost, intent):
                    fault = f"{lost} times a request of {intent['bytes']} bytes had no answer and did not arrive"
                    self._set_aside(intent, DoesNotGo(fault))
        self.job.quarantine.forget_after(self.state.sequence)

    def _took_place(self, intent: Intent) -> bool:
        """What the target says. Where a question with rows gets no answer either, the next one is made smaller."""
        bad = list[BadRow]()
        try:
            took_place = self.job.target.settle(intent, lambda: rows_again(self, intent, bad), save=self._save_intent)
            if took_place and intent.get("route") == "zerobus":  # Its rows were made to be sent again.
                self.job.quarantine.add(intent["sequence"], known_by(self), bad)
            return took_place
        except TransientError as error:
            has_rows = intent.get("route") == "zerobus" or not intent.get("marked", True)
            if has_rows and not isinstance(error, Unreachable) and self._narrow(intent, is_asked=True):
                self._save(self.state)
            raise of_this_stream(error) from None

    def _narrow(self, intent: Intent, is_certain: bool = False, is_asked: bool = False) -> bool:
        """Allow half as much after the second loss in a row; whether a request of that size can be large at all."""
        size = intent.get("bytes", 0)
        if not (self.state.lost or is_certain or is_asked) or size < Allowance.LEAST:
            return False
        allowance = self.job.target.allowance or Allowance(size)
        # A single row may be larger than is allowed: that it was refused tells nothing of what is smaller.
        self.job.target.allowance = allowance.without(size if is_certain else min(size, allowance.bytes))
        return True

    def commit(self, shipment: Shipment) -> None:
        """One commit, its intent saved before, its confirmation after."""
        save_source_id(self.job, self.state)
        target, tally, count = self.job.target, shipment.tally, functools.partial(self.source.count_of, shipment.tally)
        sized: Intent = {**shipment.intent, "size": count(), "committed": self.state.committed}
        intent = target.ready(sized, shipment.payload)
        self.job.states.save(dataclasses.replace(self.state, intent=intent))
        began = time.monotonic()
        try:
            target.send(intent, shipment.payload)
        except DidNotRun as error:
            raise self._not_run(measured(intent, count(), self.bytes_per_row), error) from None
        except TransientError as error:
            if not isinstance(error, Conflict):  # Then its size was not at fault.
                self._save_intent(lost := measured(intent, count(), self.bytes_per_row))
                if (told := beside_others(target, self.state)) is not lost:
                    self._save_intent(told)
            raise
        intent = measured(intent, count(), self.bytes_per_row)
        tally.commits = int(tally.sent > 0)
        if target.allowance and tally.commits and intent["bytes"]:  # 0 where a file carried the rows
            is_fast = time.monotonic() - began < 10  # seconds: no reason not to send more
            target.allowance = target.allowance.after(intent["bytes"], is_fast)
        self._confirm(intent, tally)
        self.total.add(tally)

    def _not_run(self, intent: Intent, error: DidNotRun) -> UploaderError:
        """The error of a commit that did not happen, for certain; an overload passes, a single row may be at fault."""
        if isinstance(error, RefusedSizeError):
            self._narrow(intent, is_certain=True)
        told = without_blame(error, intent, self.total)
        is_passing = told is not error or (isinstance(error, Postponed) and not isinstance(error, Unreachable))
        is_size = is_passing and self._narrow(intent) and (intent["size"] > 1 or self.state.lost > HALVINGS)
        is_told = isinstance(error, (RefusedSizeError, NotReady))  # Others are of a warehouse that read the statement.
        is_size |= is_passing and is_told and is_given_up(self.state.lost + 1, intent)
        self._save(lost_again(self.state, intent) if is_passing else self.state)
        return RefusedSizeError(f"again, {error}", error.hint) if is_size else of_this_stream(told)

    def _sent_all(self) -> bool:
        """Send batch after batch. False where one did not go: it is smaller now, or its one row is set aside."""
        under_way: Shipment | None = None
        try:
            with contextlib.closing(prefetched(self.shipments())) as upcoming:
                for under_way in upcoming:
                    self.commit(under_way)
                    under_way = None
                    self.stride = None
                    if self.job.stopping.is_set():
                        break
        except DoesNotGo as refused:
            shipment = under_way or self.newest
            self.job.quarantine.forget_after(self.state.sequence)
            is_written = isinstance(refused, StillWritten)
            # 0 where not one page could be made.
            count = self.source.count_of(shipment.tally) or (0 if is_written else self._size(Tally()))
            if count > 1 and self.stride != 1:
                most = min(count, self.stride or count)  # A window may have more groups than are wanted.
                self.stride = max(1, min(refused.fitting or most // 2, most - 1))
            elif not count or is_written:
                raise
            else:
                self._set_aside(shipment.intent, refused)
            return False
        return True

    def shipments(self) -> Iterator[Shipment]:
        """One batch after another with what is to be sent, each prepared while the one before is under way."""
        state, tallies = self.state, [Tally(bad=self.total.bad)]
        while batch := self.source.next_batch(state.position, lambda: self._size(tallies[-1])):
            share_heap()
            if len(tallies) == 1:
                refuse_bad_start(self.source, self.state)
            self.newest = shipment = Shipment(intent_of(self.job, self.source, state, batch), None, Tally())
            tallies.append(shipment.tally)
            pages = functools.partial(self.pages, batch, shipment.intent, [*tallies])
            shipment.payload = self.job.target.prepare(pages)
            yield shipment
            state = confirmed(state, shipment.intent, shipment.tally)
        warn_of_late(self.job, self.source.cursor, state.position)

    def _size(self, last: Tally) -> int:
        """How many rows a batch may have. The target is asked once there are rows: no warehouse wakes for none."""
        if self.bytes_per_row is None:
            self.bytes_per_row = self.source.cursor.bytes_per_row(self.state.position)
        # What share of the last one's rows was sent, rather too much, where few tell; all of none.
        share = min(1.0, (last.sent + 2 * math.sqrt(last.sent) + 1) / (self.source.count_of(last) + 1))
        usual = self.job.config.batch_rows or self.job.target.batch_rows(self.bytes_per_row, share)
        if not self.state.lost_bytes:
            # What ended the same way twice is too large for the line, or for the time that the other side has.
            usual = max(1, usual >> min(max(0, self.state.lost - 1), HALVINGS))
        return min(self.stride or usual, usual, self.state.lost_rows or usual)

    def _set_aside(self, intent: Intent, refused: DoesNotGo) -> None:
        """Put the one row of an intent into quarantine, and go on after it."""
        bad = self.source.rejected(self.state.position, intent["position"], refused)
        self.job.quarantine.put(intent["sequence"], known_by(self), bad)
        self._save(confirmed(self.state, intent, Tally(), is_set_aside=bool(self.state.lost_rows)))
        self.total.add(Tally(read=1, bad=max(1, len(bad))))
        refuse_too_many(self.job, self.total.bad, str(refused))

    def pages(self, batch: Batch, intent: Intent, tallies: Sequence[Tally]) -> Iterator[ArrowTable]:
        """The rows of a batch as Arrow tables, counted in the last tally. Bad rows are in quarantine before the end."""
        bad, tally = list[BadRow](), tallies[-1]
        vars(tally).update(vars(Tally()))  # A batch may be read more than once.
        for prepared in batch.pages():
            if prepared.odd and ODD_TIMES.format(self.source.plan().table.time) not in self.job.warned:
                self.job.warn_once(*said_of_odd_time(self.source.plan(), *prepared.odd))
            bad += prepared.bad
            tally.add(tally_of(prepared))
            if bad and "replayed" not in intent:  # Those were counted when they came.
                refuse_too_many(self.job, sum(each.bad for each in tallies), f"{bad[-1].key}: {bad[-1].reason}")
            self.job.progress(prepared.read, batch.waiting)
            yield prepared.rows
        self.job.quarantine.put(intent["sequence"], known_by(self), bad)

    def _confirm(self, intent: Intent, tally: Tally) -> None:
        if "replayed" in intent:  # Once a file has gone nothing else may tell.
            self._save_intent({**intent, "confirmed": True, "rows": tally.sent})
        self.job.quarantine.forget(intent.get("replayed", []))
        self._save(confirmed(self.state, intent, tally))

    def _save_intent(self, intent: Intent) -> None:
        self._save(dataclasses.replace(self.state, intent=intent))

    def _save(self, state: State) -> None:
        self.state = dataclasses.replace(state, allowance=self.job.target.allowance)
        self.job.states.save(self.state)


def replay_some(delivery: Delivery, files: Sequence[Path], lines: Lines, first: int, end: int) -> Tally:
    """One commit of some of the quarantine's rows, which moves no position."""
    job, tally, place = delivery.job, Tally(), delivery.state.position
    unfit = len(delivery.source.unfit(lines[first:end], job.scenario == "sanitize"))
    span: Intent = {"replayed": [file.name for file in files], "span": [first, end], "unfit": unfit}
    batch = Batch(place, [], lambda: replayed(job, delivery.source, intent))
    intent: Intent = {**intent_of(job, delivery.source, delivery.state, batch), **span}

    def pages() -> Iterator[ArrowTable]:
        yield from delivery.pages(batch, intent, [tally])
        own = lines_of(job.quarantine.files(intent["sequence"]))
        job.quarantine.put_lines(intent["sequence"], [*lines[:first], *own, *lines[end:]])

    delivery.commit(Shipment(intent, job.target.prepare(pages), tally))
    return tally


def replay(delivery: Delivery) -> tuple[int, int]:
    """Send the rows in quarantine that can be delivered now, around those that can't; how many went, how many stay.

    Each commit empties the files that there are, and keeps what it does not send in one of its own: first what
    can't be delivered, then what was not tried.
    """
    job, sent, stay, most = delivery.job, 0, 0, delivery.job.config.batch_rows or 0
    size = most
    while (lines := lines_of(files := job.quarantine.files()))[stay:] and not job.stopping.is_set():
        end = stay + size if size else len(lines)
        try:
            tally = replay_some(delivery, files, lines, stay, end)
        except DoesNotGo as refused:
            job.quarantine.forget_after(delivery.state.sequence)
            size = (min(end, len(lines)) - stay) // 2
            if not size:
                log.warning("row %s stays in quarantine: %s", lines[stay]["key"], refused)
                stay, size = stay + 1, 1
        else:
            sent, stay, size = sent + tally.sent, stay + tally.bad, min(2 * size, most or 2 * size)
    return sent, len(lines)


def run_cycle(job: Job, database: Database, total: Tally, up_to: int | None = None) -> None:
    """Deliver all rows that are new; where a page is damaged, those before it. `total` counts, also up to an error."""
    try:
        with opened_delivery(job, database, total, up_to) as delivery:
            delivery.run()
    except UncomputableError:
        if database.is_thorough:
            raise
        database.is_thorough = True
        job.tables.clear()
        run_cycle(job, database, total, up_to)
    except CorruptError as error:
        if up_to is None and error.good is not None:
            run_cycle(job, database, total, error.good)
        raise


@contextlib.contextmanager
def opened_delivery(job: Job, database: Database, total: Tally, up_to: int | None = None) -> Iterator[Delivery]:
    """A delivery of rows up to a rowid; at its end the target is closed."""
    with contextlib.closing(job.target):
        state = job.states.load() or State()
        source = source_in(job, database, state, up_to)
        yield Delivery(job, source, checked(job, source, state), total)


# === Streams ==========================================================================================
#
# A stream is a source table on its way to a scenario's table. Without `tables` there is one, which has no
# name. With it each has a state in a directory of its own; lock, session and the open file are shared.

# The exit status of a run that delivered what it could.
QUARANTINED = 3

# Statuses of streams, the worst last.
STATUSES = (0, QUARANTINED, 75, 1, 2)

# Characters that delta-rs 1.6 can't make the name of a store with, and ends the process, or which it refuses; and what
# it reads as another: a backslash, and on local disks an escape such as %20.
UNFIT_IN_PATHS = re.compile(r"[][|^\\\x00-\x1f\x7f]|^(?!.*://).*(%[0-9A-Fa-f]{2})")


# What Databricks has in no name of a table, in backquotes either (docs.databricks.com, "Names").
UNFIT_IN_CATALOGS = re.compile(r"[./ \x00-\x1f\x7f]")


def refuse_table_name(table: str) -> None:
    """A `ConfigError` for a name that no table in Databricks can have."""
    if unfit := UNFIT_IN_CATALOGS.search(table):
        hint = "Set databricks_table for this source table; the schema belongs into databricks_database."
        raise ConfigError(f"no table in Databricks can be called {table!r}, with {unfit[0]!r}", hint)


def target_of(config: Config, session: Session, directory: Path | None = None, beside: str = "") -> Target:
    """The target that is in force, or the table `beside` it; in `directory` it may keep files that are on their way."""
    refuse_targets(config)
    table = beside or routed_table(config.databricks_table or "", scenario_of(config))
    if config.zerobus_endpoint or config.databricks_http_path:
        refuse_table_name(table)
        return WarehouseTarget(session, table, directory)
    own = [] if beside else [name for name in OWN_COLUMNS if name in map(str.lower, config.column_types)]
    return DeltaTarget(delta_uri(config, table, beside), config.storage_options, session.wait, own)


def delta_uri(config: Config, table: str, beside: str = "") -> str:
    """Where a table by path lies; a `ConfigError` where none can."""
    # A table within another one: its files are rubbish to that one's VACUUM.
    if ".." in table.split("/") or ("/" in table and config.databricks_table == config.sqlite_table_name):
        raise ConfigError(f"{table} would lie in another folder than {config.lakehouse_path}", "Set databricks_table.")
    root, _ = lake_and_name(config)
    uri = absolute_uri(config.table_path if config.table_path and not beside else f"{root}/{table}")
    refuse_unwritable(uri, f"{uri!r}", "" if "://" in uri else uri)
    if unfit := UNFIT_IN_PATHS.search(uri):
        hint = "Choose another lakehouse_path or table_path, or another databricks_table for this source table."
        raise ConfigError(f"{uri}: no Delta table can be at a path with {unfit[1] or unfit[0]!r}", hint)
    return uri


def lake_and_name(config: Config) -> tuple[str, str]:
    """Where tables by path lie side by side, and the name of the one that `table_path` is."""
    place = absolute_uri(config.table_path or config.lakehouse_path or "").rstrip("/")
    root, _, name = place.rpartition("/")
    if root.endswith(":/"):  # Nothing lies beside a bucket.
        root = place
    return (root, name) if config.table_path else (place, "")


def absolute_uri(uri: str) -> str:
    """A URI as it is; a local path made absolute, so that it names the same table from everywhere."""
    return uri if "://" in uri else str(Path(uri).absolute())


def tables_like(wanted: str, kinds: Mapping[str, str]) -> tuple[bool, list[str]]:
    """Whether an entry of `tables` is a pattern, and the tables that it stands for; a name also where it is not there.

    Views, virtual tables and what is behind these fit no pattern.
    """
    exact = tables_named(wanted, kinds)
    if exact or not any(sign in wanted for sign in "*?["):
        return False, exact or [wanted]
    fitting = re.compile(fnmatch.translate(wanted.lower()))
    return True, [name for name, kind in kinds.items() if kind.startswith("table") and fitting.match(name.lower())]


def stream_of(config: Config, entry: Layer, table: str) -> Config:
    """All settings of a stream: those of its entry, else those of the top level."""
    own = {"databricks_table": table, **entry, "sqlite_table_name": table}
    settings = dataclasses.replace(config, tables=(), **own)
    name = PREFIXES[scenario_of(settings)] + table
    source_id = config.source_id and f"{config.source_id}/{name}"
    place = config.state_dir / encoded_name(name)
    return dataclasses.replace(settings, stream=name, state_dir=place, source_id=source_id)


def streams_in(config: Config, database: Database, may_be_none: Callable[[], bool] = bool) -> dict[str, Config]:
    """All streams by name. Where a pattern and a name say the same, the name's entry counts.

    One that two patterns lead to, as of a table that comes later, keeps `tables`, and fails on its own.
    """
    if not config.tables:
        return {"": config}
    named, fitting = dict[str, Config](), dict[str, Config]()
    for entry in config.tables:
        is_open, tables = tables_like(entry["sqlite_table_name"], database.kinds)
        found = fitting if is_open else named
        for stream in (stream_of(config, entry, table) for table in tables):
            if (name := stream.stream) in found and not is_open:
                raise ConfigError(f"two entries of tables lead to the stream {name}", "Keep one of them.")
            found[name] = dataclasses.replace(stream, tables=config.tables if name in found else ())
    if not (named or fitting or may_be_none()):
        wanted = ", ".join(entry["sqlite_table_name"] for entry in config.tables)
        raise SourceError(f"the database has no table like {wanted} yet", "Start the producer, or check tables.")
    return {**fitting, **named}


def sharing(streams: Iterable[Config]) -> dict[str, list[Config]]:
    """By target table the streams that share it though no setting says so: the prefix of a name does not count."""
    shared = dict[str, list[Config]]()
    for stream in streams:
        if stream.databricks_table == stream.sqlite_table_name and stream.stream and not stream.table_path:
            target = routed_table(stream.databricks_table or "", scenario_of(stream))
            shared.setdefault(target.lower(), []).append(stream)
    return {target: found for target, found in shared.items() if len(found) > 1}


def said_of_sharing(streams: Iterable[Config]) -> Iterator[tuple[str, str]]:
    """Which tables land in one, each text with a hint."""
    for target, found in sharing(streams).items():
        names = {str(stream.sqlite_table_name): stream.stream for stream in found}
        longest = max(names, key=len)
        hint = f"Where that is not meant, set databricks_table in entries of tables: {names[longest]} for {longest}."
        yield f"{', '.join(names)} go into one table, {target}", hint


def chosen_streams(config: Config, streams: dict[str, Config]) -> dict[str, Config]:
    """All streams, or those of the table, else the one, that `sqlite_table_name` names besides."""
    if config.sqlite_table_name is None or not streams:
        return streams
    word, tables = config.sqlite_table_name, {name: str(stream.sqlite_table_name) for name, stream in streams.items()}
    for spelled in (str, str.lower):  # A table's name before a stream's, which may be another table's.
        for called in (tables, {name: name for name in streams}):
            if only := {name: streams[name] for name in called if spelled(called[name]) == spelled(word)}:
                return only
    raise MissingTableError(f"{word} is none of the tables", nearest(word, dict.fromkeys(tables.values())))


class StreamNames(logging.Filter):
    """Puts the name of the stream that is under way before each line, and into its fields; one comes after another."""

    stream = ""

    def filter(self, record: logging.LogRecord) -> bool:
        if self.stream:
            record.msg, record.args = "%s: %s", (self.stream, record.getMessage())
            record.fields = {**getattr(record, "fields", {}), "table": self.stream}
        return True


NAMES = StreamNames()
log.addFilter(NAMES)


def log_error(error: UploaderError, then: str = "") -> None:
    """An error for people, with what to do; for programs one line with the same in fields."""
    kind = type(error).__name__
    fields: dict[str, Any] = {"message": f"{error}{then}", "kind": kind, "hint": error.hint, "status": error.status}
    fields |= {"source": error.source, "table": error.table}
    lines = [f"{error}{then}", error.hint, f"--help-error {kind} tells more."]
    log.error("%s", "\n  ".join(filter(None, lines)), extra={"fields": fields})


def for_each(streams: Mapping[str, Config], deed: Callable[[Config], int | None]) -> int:
    """Do something for each stream, also where it fails for others; returns the worst status.

    An error that is one stream's goes on where it is the only one, else it is reported under its name.
    """
    statuses, failed = {0}, dict[str, UploaderError]()
    for name, stream in streams.items():
        NAMES.stream = name
        try:
            with file_errors():
                if name and stream.tables:
                    raise ConfigError(f"two patterns of tables fit {name}", "Give its table an entry of its own.")
                statuses.add(deed(stream) or 0)
        except (Unreachable, NotReady) as error:  # It is the same for all that come after.
            error.failed, error.status = failed, max({*statuses, error.status}, key=STATUSES.index)
            raise
        except UploaderError as error:
            if not name:
                raise
            error.hint = hint_of(name, error.hint)
            failed[name] = error
            statuses.add(error.status)
            if not error.is_said:
                log_error(error)
        finally:
            NAMES.stream = ""
    worst = max(statuses, key=STATUSES.index)
    if failed:
        raise StreamsError(failed, len(streams), worst)
    return worst


def is_of(state: State, config: Config) -> bool:
    """Whether a state of the single form is that of a stream. One that has a time alone tells nothing."""
    table, target = routed_table(config.databricks_table or "", scenario_of(config)), state.target or ""
    ends = filter(None, (f"/{table}", f".{table}", config.table_path))
    is_target = any(is_one_name(target[-len(end) :], end) for end in ends)
    return is_one_name(state.table, config.sqlite_table_name) and is_target


def place_of_stream(config: Config) -> StateFile:
    """Where state and quarantine of a stream are, which may still be the single form's place; for looking only."""
    own, single = StateFile(config.state_dir), StateFile(config.state_dir.parent)
    if config.stream and own.load() is None and (state := single.load()) and is_of(state, config):
        return single
    return own


def adopt(directory: Path, streams: Mapping[str, Config], is_first: bool) -> None:
    """Give a state of the single form to its stream. It moves at last: a move that was broken off is begun again.

    Its table may come later, as where the producer makes its database anew; the first cycle says that there is none.
    """
    single = StateFile(directory)
    state = single.load()
    if state is None or not (state.table or state.last_upload):
        return
    owners = [name for name, stream in streams.items() if not state.table or is_of(state, stream)]
    if not owners:
        said = f"{single.file} is the state of {state.table} to {state.target}, which is no stream"
        log.log(logging.WARNING if is_first else logging.DEBUG, "%s", said)
        return
    if len(owners) > 1:
        hint = f"Move it into the directory of the stream that it belongs to: {directory}/<prefix><table>."
        raise StateError(f"{single.file} may belong to {' or '.join(owners)}", hint)
    own = StateFile(streams[owners[0]].state_dir)
    if own.file.exists():
        raise StateError(f"{single.file} and {own.file} are states of one stream", "Keep the newer one.")
    make_directory(own.directory)
    make_directory(own.quarantine.directory)
    for file in single.quarantine.files():
        os.replace(file, own.quarantine.directory / file.name)
    sync_directory(own.quarantine.directory)
    os.replace(single.file, own.file)
    for changed in (own.directory, directory):
        sync_directory(changed)
    log.info("%s: goes on after the state that was in %s", owners[0], directory)


def bring_along(left: StateFile, streams: Mapping[str, Config]) -> None:
    """Bring the quarantine of a stream whose table has another name now to the stream of that name.

    File by file, so that a kill loses none. Numbers that are not used up are those of batches that were never sent.
    """
    if not left.quarantine.files() or (state := left.sound()) is None or state.intent:  # It is in doubt, too.
        return
    left.quarantine.forget_after(state.sequence)
    files = left.quarantine.files()
    for place in (StateFile(stream.state_dir) for stream in streams.values()):
        own = place.sound()
        if own and not own.intent and is_one_name(own.target, state.target) and lineage_of(own) == lineage_of(state):
            place.save(dataclasses.replace(own, sequence=own.sequence + len(files)))
            make_directory(place.quarantine.directory)
            for number, file in enumerate(files, own.sequence + 1):
                left.quarantine.put_lines(int(file.stem), [{**line, "table": own.table} for line in lines_of([file])])
                os.replace(file, place.quarantine.directory / f"{number:012d}.jsonl")
            for changed in (place, left):
                sync_directory(changed.quarantine.directory)
            return


def were_there(config: Config) -> bool:
    """Whether tables that `tables` stands for were sent before."""
    states = (StateFile(file.parent).sound() for file in of_streams(config.state_dir, STATE_NAME))
    kinds = {str(state.table): "table" for state in states if state}
    return any(kinds.keys() & tables_like(entry["sqlite_table_name"], kinds)[1] for entry in config.tables)


def say_left(directory: Path, streams: Iterable[str]) -> None:
    """Say what is in the quarantines of streams that are there no more."""
    known = {encoded_name(stream) for stream in streams}
    for folder in of_streams(directory, "quarantine"):
        count = 0 if folder.parent.name in known else Quarantine(folder).count()
        if count:
            name, rows = unquote(folder.parent.name), counted(count, "row")
            log.warning("%s: its table has gone, or is in tables no more; %s in quarantine: %s", name, rows, folder)


class Supervisor(NamedTuple):
    """systemd, where it started this process and asks to be told (sd_notify(3)); else nobody.

    `address` is its socket's, an abstract one with `@`; after `patience` seconds without a sign of life we are dead.
    """

    address: str = ""
    patience: float = math.inf

    @staticmethod
    def of(environ: Mapping[str, str]) -> Supervisor:
        """The one that the environment names (sd_watchdog_enabled(3))."""
        watched = environ.get("WATCHDOG_USEC", "")
        is_for_us = environ.get("WATCHDOG_PID") in (None, str(os.getpid())) and re.fullmatch("0*[1-9][0-9]*", watched)
        return Supervisor(environ.get("NOTIFY_SOCKET", ""), int(watched) / 10**6 if is_for_us else math.inf)

    def tell(self, **said: str) -> None:
        """Say things such as READY=1, one a line. Where nobody hears it, or has no time to, that does no harm."""
        if not self.address.startswith(("/", "@")):
            return
        import socket

        content = "\n".join(f"{name}={' '.join(value.split())}" for name, value in said.items()).encode()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto(content, self.address.replace("@", "\0", 1))

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait for some seconds, or until `stop` is set, with signs of life; whether it is."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not stop.wait(min(left, self.patience / 2, 3600)):
            self.tell(WATCHDOG="1")
        return stop.is_set()


@contextlib.contextmanager
def opened_for_cycle(config: Config) -> Iterator[Database]:
    """The database. Where its file is not there or empty, or has other tables, that is noted for all streams."""
    tables: Iterable[str] | None = None
    try:
        with opened_database(config, config.state_dir) as database:
            tables = database.kinds
            yield database
    except SourceError:
        is_there = os.path.exists(config.sqlite or "")
        if tables is not None or not is_there or not os.path.getsize(config.sqlite or ""):
            for folder in [config.state_dir, *(file.parent for file in of_streams(config.state_dir, STATE_NAME))]:
                # The same file does not come back as it was once it was empty.
                keep_in_mind_as_gone(StateFile(folder), tables or (), NOWHERE if is_there and tables is None else GONE)
        raise


@dataclasses.dataclass
class Fleet:
    """The streams of a run, each with a job that is made when it is first seen."""

    config: Config
    environ: Mapping[str, str]
    stopping: threading.Event
    supervisor: Supervisor = dataclasses.field(default_factory=Supervisor)
    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)
    source_ids: set[str] = dataclasses.field(default_factory=set)
    seen: set[str] | None = None

    @functools.cached_property
    def session(self) -> Session:
        """The one session with a warehouse, opened by its first statement; to be closed after each cycle."""
        return Session(self.config, self.environ, functools.partial(self.supervisor.wait, stop=self.stopping))

    def each(self, deed: Callable[[Job, Database], int | None]) -> int:
        """Do something for each stream that is there now, with the file opened once; returns the worst status."""
        state_beside.cache_clear()
        directory, is_first = self.config.state_dir, self.seen is None
        with opened_for_cycle(self.config) as database:
            # Those that were there come again, as a logger's of the next day.
            known = streams_in(self.config, database, lambda: not is_first or were_there(self.config))
            streams = chosen_streams(self.config, known)
            if self.config.tables:
                streams = self._left(streams, database)
                adopt(directory, known, is_first)
                for said in said_of_sharing(streams.values()) if streams.keys() - (self.seen or set()) else ():
                    log.warning("%s. %s", *said)
                if is_first:
                    say_left(directory, (n for n, s in known.items() if s.sqlite_table_name in database.kinds))
            self.seen = set(streams)
            return for_each(streams, functools.partial(self._do, deed, database))

    def _do(self, deed: Callable[[Job, Database], int | None], database: Database, stream: Config) -> int | None:
        """Do something for one stream; its errors tell the source and the table."""
        try:
            return None if self.stopping.is_set() else deed(self._job(stream), database)
        except UploaderError as error:
            error.source = str(stream.sqlite)
            with contextlib.suppress(UploaderError):
                error.table = error.table or detect_table(database, stream.sqlite_table_name)
            raise

    def _left(self, streams: dict[str, Config], database: Database) -> dict[str, Config]:
        """The streams without those whose table was there once and has gone, which is said once."""
        folders = [file.parent.name for file in of_streams(self.config.state_dir, STATE_NAME)]
        by_folder = {encoded_name(name): name for name in streams}
        known = {by_folder.get(folder) or unquote(folder): folder for folder in folders}  # A long name is no more told.
        gone = {n for n, s in streams.items() if n in known and s.sqlite_table_name not in database.kinds}
        if self.config.sqlite_table_name is None:
            gone |= known.keys() - streams.keys()
        for name in sorted(gone if self.seen is None else gone & self.seen):
            log.warning("%s: its table has gone, or is in tables no more; its state stays", name)
            self.jobs.pop(name, None)
        for name in gone:
            states = StateFile(self.config.state_dir / known[name])
            keep_in_mind_as_gone(states, database.kinds)
            with contextlib.suppress(UploaderError), file_errors():  # It stays where it is, which is said.
                bring_along(states, streams)
        return {name: settings for name, settings in streams.items() if name not in gone}

    def _job(self, stream: Config) -> Job:
        """A stream's job, made when it is first asked for; one that can't be made is the stream's own failure."""
        if stream.stream not in self.jobs:
            target, scenario = target_of(stream, self.session, self.config.state_dir), scenario_of(stream)
            log.info("rows go to %s by %s: %s", target.name, route_of(stream), reason_of(stream, scenario))
            if fault := unused_privacy(stream, scenario):
                log.warning("%s. %s", *fault)
            job = Job(stream, scenario, target, StateFile(stream.state_dir))
            self.jobs[stream.stream] = dataclasses.replace(job, stopping=self.stopping, source_ids=self.source_ids)
        return self.jobs[stream.stream]


# === Actions ==========================================================================================
#
# What a person asks for beside uploading: look, check, try, repair. Results go to stdout, logs to stderr.


@contextlib.contextmanager
def looking(config: Config, target: Target, state: State, database: Database) -> Iterator[tuple[Job, Source]]:
    """A stream's job and its source, as an upload has them, with nothing but scratch to write to."""
    with tempfile.TemporaryDirectory() as scratch:
        states = StateFile(config.state_dir)
        states.quarantine = Quarantine(Path(scratch))
        database.is_thorough = True
        job = Job(config, scenario_of(config), target, states, is_looking=True)
        yield job, source_in(job, database, state)


def beginning(job: Job, source: Source, saved: State) -> State:
    """The state that an upload would begin with, or the error that would end it."""
    state = checked(job, source, saved)
    if isinstance(job.target, DeltaTarget):
        job.target.delivered(job.target.table(), application_of(state), state.committed)
    return state


# --- Results on stdout ---

COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "FAIL": "\033[31m"}


def coloured(word: str, stream: TextIO, environ: Mapping[str, str]) -> str:
    """A word in its colour, if it has one and the stream is a terminal that shows it (no-color.org)."""
    is_shown = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return f"{COLOURS[word]}{word}\033[0m" if is_shown and word in COLOURS else word


def print_rows(form: str, names: Sequence[str], pages: Iterable[Iterable[Sequence[Any]]], title: str = "") -> None:
    """All rows under their names, as a table for people, JSON lines or CSV, written as they come."""
    rows = ([shown(value) for value in row] for page in pages for row in page)
    if form == "json":
        keys = distinct(names)
        sys.stdout.writelines(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
    elif form == "csv":
        # A carriage return would stand without quotes, were it no part of the end of a line.
        lines = csv.writer(written := io.StringIO(), lineterminator="\r\n")
        for row in itertools.chain([names], rows):
            lines.writerow(map(flat, row))
            sys.stdout.write(written.getvalue().removesuffix("\r\n") + "\n")
            written.seek(written.truncate(0))
    else:
        if title:
            print(f"\n{title}")
        print_table(names, (["NULL" if value is None else str(flat(value)) for value in row] for row in rows))


# The widest table, in characters, where no terminal says how wide it is.
PAPER_WIDTH = 100


def print_table(names: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """A table whose columns are as wide as what its first rows hold; where that is too wide, a field a line."""
    first = list(itertools.islice(rows, 1000))
    widths = [min(60, max(map(len, column))) for column in zip(names, *first, strict=True)]
    limit = shutil.get_terminal_size((PAPER_WIDTH, 0)).columns if sys.stdout.isatty() else PAPER_WIDTH
    if first and sum(widths) + 2 * (len(widths) - 1) > limit and len(names) > 2:
        width = max(map(len, names))
        for number, row in enumerate(itertools.chain(first, rows), 1):
            print(f"-[ row {number} ]".ljust(width + 1, "-") + "+" + "-" * max(0, min(20, limit - width - 2)))
            for name, text in zip(names, row, strict=True):
                print(f"{name.ljust(width)} | {text}".rstrip())
        return
    for row in itertools.chain([names, ["-" * width for width in widths]], first, rows):
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def shown(value: object) -> Any:
    """A value as tables, CSV and JSON show it."""
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number.
    if isinstance(value, (list, tuple)):
        return [*map(shown, value)]
    if isinstance(value, dict):
        return {str(name): shown(each) for name, each in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def flat(value: object) -> object:
    """A shown value for a cell, where lists and structs stand as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def distinct(names: Iterable[str]) -> list[str]:
    """Names as JSON's keys: of two columns of one name, as joins have them, the second is called name_1."""
    known, keys = [*names], list[str]()
    for name in known:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        keys.append(name if name not in keys else next(each for each in numbered if each not in (*keys, *known)))
    return keys


def scenario_tables(config: Config, there: Iterable[str]) -> list[str]:
    """The names that the scenarios' tables may have; patterns of `tables` stand for those that are `there`."""
    word, bases = config.sqlite_table_name or "", [config.databricks_table or ""]
    if config.tables:
        names = [(entry, entry["sqlite_table_name"]) for entry in config.tables]
        chosen = [entry for entry, name in names if not word or word in tables_like(name, {word: "table"})[1]]
        bases = [str(entry.get("databricks_table", word or entry["sqlite_table_name"])) for entry in chosen]
    kinds = dict.fromkeys(sorted(there), "table")
    routed = dict.fromkeys(routed_table(base, scenario) for base in bases for scenario in PREFIXES)
    return [each for name in routed for each in tables_like(name, kinds)[1]]


def delta_targets(config: Config) -> dict[str, DeltaTarget]:
    """The Delta tables that may be there, by name, as a local lake and the states tell; `status_table` is beside."""
    root, own = lake_and_name(config)
    states = (StateFile(file.parent).sound() for file in config.state_dir.glob(f"*/{STATE_NAME}"))
    there = {str(state.target).removeprefix(f"{root}/") for state in states if state}
    there |= {file.parent.name for file in Path(root).glob("*/_delta_log")}
    named = [own] if own else scenario_tables(config, there)
    if not named and "://" in root:
        raise ConfigError("nothing tells which tables there are", "Upload rows first, or name the tables in tables.")
    return {n: DeltaTarget(f"{root}/{n}", config.storage_options) for n in (*named, config.status_table) if n}


# The column names of a result, and its rows page by page.
Result = tuple[list[str], Iterable[Iterable[Sequence[Any]]]]


@contextlib.contextmanager
def query_errors(targets: Mapping[str, DeltaTarget], named: Iterable[str]) -> Iterator[None]:
    """What deltalake says to a query, as an error of ours; of the tables that are `named` it knows the columns."""
    try:
        yield
    except Exception as error:  # deltalake raises bare Exception for a query that is wrong
        said = re.sub(r"\. Did you mean .*|:? *Valid fields are .*", "", shortened(one_line(str(error))))
        there = list[str]()
        for name, target in targets.items():
            with contextlib.suppress(UploaderError):  # One that is damaged is no fault of this query.
                there += [name] if target.table() else []
        hint = f"Tables: {', '.join(there) or 'none'}. INFO shows their columns."
        if wrong := re.search(r"No field named \"?([^\s\"]+?)\"?(?:\.$|$|\s)", said):
            columns = (column for name in named for column in targets[name].columns() or {})
            hint = nearest(wrong[1].rpartition(".")[2], columns)
        raise TargetError(f"the query was refused: {said}", hint) from None


def listed(column: Array) -> list[Any]:
    """A result's column as Python's values, or as texts where it has none: for days after its year 9999, intervals."""
    with contextlib.suppress(ValueError, OverflowError):
        if "Interval(" not in str(column.type):  # That ends arro3 in a panic, also within a list.
            return list(column.to_pylist())
    return list(column.cast(arrow_type("string")).to_pylist())


def query_delta(targets: Mapping[str, DeltaTarget], sql: str) -> Result:
    """What deltalake's own engine says to a statement; the tables that it names are opened alone."""
    from deltalake import QueryBuilder

    builder, words = QueryBuilder(), sql.lower().replace('"', "")
    named = [name for name in targets if name.lower().replace('"', "") in words]
    for name, table in ((name, table) for name in named if (table := targets[name].table())):
        for known in {name, name.lower()}:  # In quotes: it would take all letters for small ones.
            with delta_errors(name):
                builder = builder.register(quoted(known), table)
    with query_errors(targets, named):
        found = builder.execute(sql)
    if not found.schema.names:  # It would be done to names that this query alone knows.
        raise TargetError("by path only queries are possible: this statement has no result", "Begin with SELECT.")

    def pages() -> Iterator[Iterable[Sequence[Any]]]:
        with query_errors(targets, named):
            for batch in found:
                yield zip(*map(listed, batch.columns), strict=True)

    return list(found.schema.names), pages()


def run_query(config: Config, environ: Mapping[str, str], sql: str, form: str) -> None:
    """Print a statement's result; for INFO the tables, and each scenario's table with its columns and row count."""
    is_info, by_warehouse = sql.strip().upper() == "INFO", bool(config.databricks_http_path)
    # A statement has names of its own; by path it is given ours.
    asked_for = ("databricks_database", "databricks_table")
    refuse_targets(config, asked_for[is_info:] if by_warehouse else ())
    if config.zerobus_endpoint and not config.databricks_http_path:
        hint = "Zerobus takes rows and gives none: set databricks_http_path."
        raise ConfigError("--run-query needs a warehouse", hint)
    with contextlib.closing(Session(config, environ)) as session:
        by_path = {} if by_warehouse else delta_targets(config)
        query: Callable[[str], Result] = session.query if by_warehouse else functools.partial(query_delta, by_path)
        if not is_info:
            print_rows(form, *query(sql))
            return
        database, tables = config.databricks_database or "", [n for n, target in by_path.items() if target.table()]
        if by_warehouse:
            schema = table_name(database, "").rpartition(".")[0]
            tables = [str(row[1]) for row in session.rows(f"SHOW TABLES IN {schema}")]
        print_rows(form, ["table"], [[[name] for name in tables]], "Tables")
        routed = tables if config.table_path else scenario_tables(config, tables)
        for name in (name for name in tables if name in routed):
            columns = (by_path.get(name) or WarehouseTarget(session, name)).columns() or {}
            print_rows(form, ["column", "type"], [columns.items()], f"Description of {name}")
            place = table_name(database, name) if by_warehouse else quoted(name)
            _, pages = query(f"SELECT count(*) AS n FROM {place}")
            print_rows(form, ["rows"], pages, f"Rows in {name}")


# --- Measuring ---

# What is measured of each stream: what it is called, what it means, and how it is known at a time.
COUNTERS: dict[str, tuple[str, Callable[[Figures, float], float | None]]] = {
    "uploader_rows_sent": ("Rows delivered", lambda f, _: f.sent),
    "uploader_commits": ("Commits made", lambda f, _: f.commits),
    "uploader_bytes_sent": ("Bytes of rows in memory, before encoding", lambda f, _: f.nbytes),
    "uploader_rows_quarantined": ("Rows set aside", lambda f, _: f.bad),
}
GAUGES: dict[str, tuple[str, Callable[[Figures, float], float | None]]] = {
    "uploader_rows_waiting": ("Rows not delivered yet, at the end of the last cycle", lambda f, _: f.waiting),
    "uploader_oldest_waiting_seconds": (
        "Age of the oldest row that was not delivered, open windows aside; 0 for none",
        lambda f, now: 0 if f.waiting == f.held else f.oldest and max(0.0, now - f.oldest / 10**6),
    ),
    "uploader_lag_seconds": (
        "Age of the newest delivered row", lambda f, now: None if f.newest is None else now - f.newest / 10**6
    ),
    "uploader_quarantine_rows": ("Rows in quarantine now", lambda f, _: f.quarantined),
    "uploader_consecutive_failures": ("Cycles that failed since the last good one", lambda f, _: f.failures),
    "uploader_open_windows": ("Windows of aggregate that are not complete", lambda f, _: f.open_windows),
    "uploader_last_success_timestamp_seconds": ("End of the last good cycle", lambda f, _: f.ended),
}  # fmt: skip


class Metrics:
    """Streams' figures for Prometheus, asked for at each scrape. What is not known is left out: sums stay right."""

    def __init__(self, streams: Callable[[], Iterable[Figures]]) -> None:
        from prometheus_client import CollectorRegistry

        self.streams = streams
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Any]:
        """All metrics, each with the streams that have it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

        streams, now = list(self.streams()), time.time()
        for kind, measures in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for name, (meaning, measure) in measures.items():
                family = kind(name, meaning, labels=["table"])
                for figures in streams:
                    if (value := measure(figures, now)) is not None:
                        family.add_metric([figures.table], value)
                yield family
        errors = CounterMetricFamily("uploader_errors", "Failed cycles", labels=["kind", "table"])
        seconds = SummaryMetricFamily("uploader_cycle_seconds", "Length of cycles", labels=["table"])
        named = ("table", "version", "source_id", "route", "target", "scenario")
        info = GaugeMetricFamily("uploader_info", "What this uploader is", labels=named)
        for figures in streams:
            for kind_of_error, count in [*figures.errors.items()]:
                errors.add_metric([kind_of_error, figures.table], count)
            seconds.add_metric([figures.table], figures.cycles, figures.seconds)
            info.add_metric([str(getattr(figures, name, __version__)) for name in named], 1)
        yield from (errors, seconds, info)

    def serve(self, address: str, health: Callable[[], tuple[bool, str]]) -> None:
        """Serve them until the process ends, and beside them the health, as a status and in words."""
        from prometheus_client import start_http_server

        server: Any
        host, _, port = address.rpartition(":")
        try:
            server, _ = start_http_server(int(port), host.strip("[]") or "127.0.0.1", self.registry)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", error)
            raise ConfigError(f"metrics_address {address}: {said}", "Choose a free port.") from None
        # A probe that hangs up, or says nothing, is not worth a traceback or a thread.
        server.handle_error = lambda *_: log.debug("metrics_address: a request was broken off", exc_info=True)
        server.RequestHandlerClass = type("Brief", (server.RequestHandlerClass,), {"timeout": 10})  # seconds
        metrics = server.get_app()

        def app(environ: Any, respond: Any) -> Any:
            if environ["PATH_INFO"].rstrip("/") != "/healthz":
                return metrics(environ, respond)
            is_well, said = health()
            respond("200 OK" if is_well else "503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{said}\n".encode()]

        server.set_app(app)

    def write(self, file: Path) -> None:
        """Replace a file with them, which everybody may read: its reader is another user's process."""
        from prometheus_client import generate_latest

        replace_durably(file, generate_latest(self.registry), 0o644)


def refuse_other_content(file: Path) -> None:
    """A `ConfigError` for a file that is no file of metrics: it would be replaced, and might be somebody's database."""
    if not file.name:
        raise ConfigError(f"metrics_file: {file} is a directory", "Name a file in it, such as uploader.prom.")
    if not file.is_file():
        return
    with contextlib.suppress(OSError), file.open("rb") as opened:
        if opened.read(6) not in (b"", b"# HELP"):
            hint = "It would be replaced: choose another name."
            raise ConfigError(f"metrics_file: {file} holds something else", hint)


# --- Watching: one summary a cycle, progress ---


@contextlib.contextmanager
def drawn_bar(patience: float = 0.5) -> Iterator[Progress]:
    """Rows read, of all that there are, on a terminal, once that is worth it; nothing but it stays of the bar."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    style: dict[str, Any] = {"unit": " rows", "unit_scale": True, "mininterval": 0.2, "miniters": 1, "leave": False}
    known, done, total, began = -1, 0, 0, time.monotonic()
    bar: tqdm[NoReturn] | None = None
    with logging_redirect_tqdm(), contextlib.ExitStack() as drawn:

        def advance(read: int, waiting: int) -> None:
            nonlocal known, done, total, bar
            if waiting != known:  # the same for each page of a batch
                known, total = waiting, done + waiting
            done += read
            total = max(total, done)
            if bar is None and time.monotonic() - began > patience and done < total:
                bar = drawn.enter_context(tqdm(**style))
                bar.start_t -= time.monotonic() - began
            if bar is not None:
                bar.total = total
                bar.update(done - bar.n)

        yield advance


# --- What is said of rows: pure texts ---


def age_text(seconds: float) -> str:
    """A length of time in its largest fitting unit: 40 s, 5 min, 3 h, 2 days."""
    units = ((172_800, 86_400, "days"), (7_200, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))
    return next(f"{seconds / unit:.0f} {name}" for least, unit, name in units if seconds >= least)


def aged(seconds: float, word: str) -> str:
    """An age in a `word` such as old or ago; a clock that was set back knows later times than its own."""
    return f"{age_text(abs(seconds))} {word if seconds >= 0 else 'ahead of the clock'}"


def open_windows(position: Position, now: float) -> str:
    """What waits in open windows, and until when; empty where nothing does."""
    if not position.get("open_groups"):
        return ""
    rows, groups = counted(position["open_rows"], "row"), counted(position["open_groups"], "group")
    end = moment_of(position["open_until"])
    shown = f"{end:%H:%MZ}" if abs(end.timestamp() - now) < 86400 else f"{end:%Y-%m-%d %H:%MZ}"
    window = next((word for word, length in WINDOWS.items() if length.total_seconds() == position["window"]), "window")
    wait = f"wait for their {window} to end ({shown})"
    if end.timestamp() < now:
        wait = f"wait for a row after {shown}, which ends their {window}"
    return f"{rows} in {groups} {wait}; --flush sends them now"


def example_of(line: Mapping[str, Any], config: Config) -> str:
    """A row in quarantine without what sanitize hides by now; no values where its rules are about other columns."""
    row, told = line["row"], dict[str, Any]()
    with contextlib.suppress(ConfigError, TypeError):  # TypeError: a line that was corrected by hand
        private = private_columns(config, dict.fromkeys([*row, *line.get("hidden", [])], ""))
        told = {name: value for name, value in row.items() if name not in private}
    text = json.dumps(told)
    return text if len(text) <= 300 else f"{text[:300]}\u2026"


def quarantine_text(lines: Lines, place: Path, config: Config) -> str:
    """How many rows were set aside, why, one of them for an example, and where; empty for none."""
    if not lines:
        return ""
    reasons = collections.Counter(str(line["reason"])[:200] for line in lines)
    why = "; ".join(f"{count} \u00d7 {reason}" for reason, count in reasons.most_common(3))
    more = f"; and {counted(len(reasons) - 3, 'other reason')}" if len(reasons) > 3 else ""
    one = f"For example row {lines[0]['key']}: {example_of(lines[0], config)}"
    return f"{counted(len(lines), 'row')} in quarantine: {why}{more}. {one} ({place})"


def summary(tally: Tally, seconds: float, scenario: str, waits: str) -> str:
    """What a cycle did, in one line."""
    if not (tally.read or tally.sent):
        return f"nothing new{waits and f'; {waits}'}"
    if waits and not (tally.sent or tally.bad):
        return waits
    commits = counted(tally.commits, "commit")
    dropped = tally.read - tally.sent - tally.bad - tally.old if scenario == "filter" else 0
    sent = f"{counted(tally.sent, 'row')} sent in {commits}, {seconds:.1f} s"
    parts = [sent, f"{dropped} filtered out" if dropped > 0 else ""]
    parts.append(f"{tally.old} of an earlier time left out" if tally.old else "")
    return "; ".join(filter(None, [*parts, f"{tally.bad} to quarantine", waits]))


# What `status_table` gets of each stream.
STATUS_COLUMNS = {
    "box": "string", "version": "string", "stream": "string", "position": "string", "newest": "timestamp",
    "waiting": "bigint", "quarantine": "bigint", "failures": "bigint", "error": "string",
    "cycle_seconds": "double", "time": "timestamp",
}  # fmt: skip


@dataclasses.dataclass
class LastReport:
    """What `status_table` was told last: when it was tried, in seconds since 1970, and a digest of what was told.

    After a failure `pause` is for how many seconds it is left alone. `box` is the name that the box was told by.
    """

    at: float = 0.0
    digest: str = ""
    pause: float = 0.0
    box: str = ""


@dataclasses.dataclass
class StatusTable:
    """A row about each stream, now and then, for a table beside the target. Nothing depends on it.

    After a lost answer a row may be there twice, or be missing: the next one tells the same and more. What would tell
    values that sanitize hides is `private`, by stream; until that is known, all that might.
    """

    fleet: Fleet
    said: LastReport
    private: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def look(self, job: Job, table: Table) -> None:
        """Note which of a stream's columns are private ones: a position is made of time or key."""
        private = private_columns(job.config, table.columns)
        told = {"newest": {table.time}, "position": {table.time, table.key}}
        self.private[job.stream] = [column for column, names in told.items() if names & private]

    @functools.cached_property
    def target(self) -> Target:
        """The table, by the same route and in the same session as the rows."""
        config = self.fleet.config
        return target_of(config, self.fleet.session, config.state_dir, config.status_table or "")

    def write(self, streams: Mapping[str, Figures], now: Clock = time.time) -> bool:
        """Tell how the streams are, if that is due: news at most once an interval; whether it was tried."""
        moment, interval, said = now(), self.fleet.config.interval, self.said
        what = digest_of(json.dumps([(f.table, f.sent, f.bad, f.last_error) for f in streams.values()]))
        # Without news it is told once an hour: a box that is silent for longer is a box in trouble.
        pause = min(said.pause, 86_400) or (interval - 1 if what != said.digest else 3600)
        if not streams or 0 <= moment - said.at < pause:
            return False
        bases = (f.source_id.removesuffix(f"/{stream}") for stream, f in streams.items())
        box = said.box or next(filter(None, bases), "")
        try:
            self._send(streams, round(moment * 10**6), self.fleet.config.source_id or box)
            self.said = LastReport(moment, what, box=box)
        except UploaderError as error:
            pause = min(max(2 * said.pause, interval, 60.0), 86_400.0)
            self.said = LastReport(moment, said.digest, pause, box)
            again = f"the rows go on; trying again in {age_text(pause)}"
            log.warning("status_table %s: %s. %s (%s)", self.fleet.config.status_table, error, error.hint, again)
        return True

    def _send(self, streams: Mapping[str, Figures], moment: int, box: str) -> None:
        if any(is_one_name(self.target.name, job.target.name) for job in self.fleet.jobs.values()):
            raise ConfigError(f"rows go to {self.target.name}", "Choose another name.")
        told = [
            {**vars(f), "box": box, "stream": f.table,
             "quarantine": f.quarantined, "error": f.last_error, "version": __version__, "time": moment,
             **dict.fromkeys(self.private.get(stream, ["newest", "position"] if f.scenario == "sanitize" else []))}
            for stream, f in streams.items()
        ]  # fmt: skip
        rows = arrow_table({name: array_of([f[name] for f in told], kind) for name, kind in STATUS_COLUMNS.items()})
        with contextlib.closing(self.target):
            self.target.note(rows, status_ddl(self.fleet.config))


def position_text(position: Position) -> str | None:
    """The rowid or time up to which all rows were sent, for people; None where none was."""
    rowid, latest = position.get("rowid"), position.get("latest", NEVER)
    return str(rowid) if rowid else moment_of(latest).isoformat() if latest > NEVER else None


def measure(job: Job, figures: Figures) -> State:
    """Take in what lies on the disk; the state, empty where it can't be read."""
    state = job.states.sound() or State()
    figures.source_id = state.source_id
    figures.newest = to_microseconds(state.last_upload, AUTO) if state.last_upload else None
    figures.position = position_text(state.position)
    figures.open_windows = state.position.get("open_windows", state.position.get("open_groups", 0))
    figures.quarantined = job.quarantine.count()
    return state


def say_of(job: Job, state: State, total: Tally, figures: Figures, before: Sequence[Path]) -> bool:
    """One line about a stream, where there is anything to say, and one more about rows that were set aside."""
    waits = open_windows(state.position, job.now())
    if not (total.read or total.sent or waits or job.stopping.is_set() or log.isEnabledFor(logging.DEBUG)):
        return False
    fields: dict[str, float] = {"rows": total.sent, "commits": total.commits, "quarantined": total.bad}
    fields["seconds"] = round(figures.cycle_seconds, 3)
    message = summary(total, figures.cycle_seconds, job.scenario, waits)
    if job.stopping.is_set():
        waiting, _ = waiting_and_delivered(job.config, state, [])
        message = f"{message}; stopped".removeprefix("nothing new; ")
        message += f", {counted(waiting, 'row')} wait" if waiting else ""
    elif total.commits and state.commits == total.commits:
        message += ". --run-query INFO shows what arrived"
    # What was set aside is said first: the last line is the whole.
    if total.bad:
        kept = job.quarantine.files()  # That of a commit that had taken place was there before.
        new = [file for file in kept if file not in before]
        log.warning("%s", quarantine_text(lines_of(new or kept), job.quarantine.directory, job.config))
    log.info("%s", message, extra={"fields": fields})
    return True


# While a host can't be reached, waits grow to so many intervals; between tries of a stream to so many seconds.
LONGEST_WAIT = 12
MOST_SELDOM = 3600


@dataclasses.dataclass
class Outage:
    """What fails and is tried again ever more seldom: said when it begins, once a day while it lasts, and when it ends.

    The last `error` stands until the time that is `due`, as long as what is `known` of its circumstances is the same.
    """

    error: UploaderError | None = None
    failures: int = 0
    began: float = 0.0
    told: float = 0.0
    due: float = 0.0
    known: object = None

    def failed(self, error: UploaderError, now: float, wait: float, longest: float) -> float:
        """Say what has to be said of one more failure; the wait until the next try."""
        is_other = not isinstance(error, TransientError) and str(error) != str(self.error)
        self.failures += 1
        if self.failures == 1 or is_other:
            self.began = now if self.failures == 1 else self.began
            self.told = now
            log_error(error, "" if error.is_final else "; trying again, ever more seldom")
        elif now - self.told >= 86_400:
            self.told = now
            log_error(error, f", for {age_text(now - self.began)} now")
        self.error, error.is_said = error, True
        # With jitter: many boxes share an outage.
        return min(wait * 2.0 ** min(self.failures - 1, 30), longest) * random.uniform(0.8, 1.0)


def seldom(
    fleet: Fleet, outages: dict[str, Outage], deed: Callable[[Job, Database], int], job: Job, database: Database
) -> int:
    """Do something for a stream, ever more seldom while it needs a person: each try wakes a warehouse.

    A new process tries at once, and so does this one where the file, its schema or a secret is another.
    """
    config, now, outage = fleet.config, time.monotonic(), outages.setdefault(job.stream, Outage())
    known = database.birth, database.version, renewed(config, fleet.environ)
    if outage.error and now < outage.due and known == outage.known:
        raise outage.error.with_traceback(None)
    try:
        status = deed(job, database)
    except (TransientError, SourceError, FileError):
        raise
    except UploaderError as error:
        is_costly = isinstance(job.target, WarehouseTarget)  # Others are looked at without a session.
        if is_costly and not config.once and (job.stream or not error.is_final):
            outage.known, longest = known, max(config.interval, MOST_SELDOM)
            outage.due = now + outage.failed(error, now, config.interval, longest)
        raise
    if outages.pop(job.stream).failures and not fleet.stopping.is_set():
        log.info("goes on after %s", age_text(now - outage.began))
    return status


@dataclasses.dataclass
class Watch:
    """Runs cycles and says what they did: in the log, to Prometheus, to the healthcheck, to the supervisor.

    `figures` are those of the streams by name, as the last cycle, maybe of an earlier run, left them.
    """

    fleet: Fleet
    figures: dict[str, Figures]
    metrics: Metrics | None = None
    status: StatusTable | None = None
    warned: bool = False
    beaten: float = -math.inf
    quiet: tuple[int, ...] | None = None
    looked: float = -math.inf
    outages: dict[str, Outage] = dataclasses.field(default_factory=dict)

    MOST_QUIET: ClassVar = 60  # seconds without a look at the rows of a file that looks as it did

    def cycle(self) -> Tally:
        """One cycle of all streams in one session, in which a file that is as the last look left it is not opened.

        Errors are counted and go on.
        """
        total, spoke, began, fleet = Tally(), dict[str, bool](), time.monotonic(), self.fleet
        file, known, self.quiet = fleet.config.sqlite, self.quiet, None
        # Windows close by the clock, too.
        seen = untouched(file) if file and all(job.scenario != "aggregate" for job in fleet.jobs.values()) else None
        is_as_left = seen is not None and seen == known and began - self.looked < self.MOST_QUIET
        with contextlib.closing(fleet.session):
            if is_as_left:
                self._pass_over()
            else:
                self._look(total, spoke)
                self.looked = began
            self._end(summary(total, time.monotonic() - began, "", ""))
        has_all = bool(spoke) and len(spoke) == len(fleet.seen or ())
        if is_as_left or (has_all and not any(spoke.values())):
            self.quiet = seen
            tables = f" in {counted(len(fleet.seen or ()), 'table')}" if fleet.config.tables else ""
            log.info("nothing new%s", tables, extra={"fields": {"rows": 0, "commits": 0, "quarantined": 0}})
        return total

    def _pass_over(self) -> None:
        """Count a cycle without a look."""
        for stream, job in self.fleet.jobs.items():
            figures = self._of(stream)
            figures.cycles, figures.cycle_seconds, figures.ended = figures.cycles + 1, 0.0, job.now()
            figures.quarantined = job.quarantine.count()

    def _look(self, total: Tally, spoke: dict[str, bool]) -> None:
        """Deliver what is new; in `spoke` is of each stream that came to a good end whether it had anything to say."""
        try:
            with file_errors():
                deed = functools.partial(self._deliver, total, spoke)
                self.fleet.each(functools.partial(seldom, self.fleet, self.outages, deed))
        except UploaderError as error:
            self._fail(error, spoke)
            self._end(f"failed: {error}", is_reachable=not isinstance(error, (Unreachable, NotReady)))
            raise

    def rest(self, seconds: float) -> None:
        """Wait for the next cycle; the healthcheck knows how long."""
        self._beat(seconds)
        self.fleet.supervisor.wait(seconds, self.fleet.stopping)

    def _fail(self, error: UploaderError, done: Iterable[str]) -> None:
        """Count a failure: of the streams that failed, or of all that it kept from a good end."""
        seen = self.figures.keys() if self.fleet.seen is None else self.fleet.seen
        kept = () if isinstance(error, StreamsError) else seen - set(done) or {""}
        for stream, each in {**dict.fromkeys(kept, error), **error.failed}.items():
            figures, kind = self._of(stream), type(each).__name__
            figures.errors[kind] = figures.errors.get(kind, 0) + 1
            figures.failures += 1
            figures.last_error = redacted(str(each))

    def _of(self, stream: str) -> Figures:
        return self.figures.setdefault(stream, Figures(table=stream))

    def _end(self, said: str, is_reachable: bool = True) -> None:
        """Tell everybody that a cycle has ended, `status_table` last. Streams that are no more are forgotten."""
        config, seen = self.fleet.config, self.fleet.seen
        if seen is not None and not (config.tables and config.sqlite_table_name):
            self.figures = {stream: self._of(stream) for stream in sorted(seen)}
        self._beat()
        self.fleet.supervisor.tell(STATUS=f"{dt.datetime.now(dt.UTC):%H:%M:%SZ} {redacted(said)}")
        try:
            if self.metrics and config.metrics_file:
                self.metrics.write(config.metrics_file)
            self.warned = False
        except OSError as error:
            if not self.warned:
                log.warning("metrics_file: %s can't be written: %s", config.metrics_file, error.strerror)
            self.warned = True
        if self.status and is_reachable and not self.fleet.stopping.is_set():
            with contextlib.suppress(Stopped):  # What the cycle ended with counts.
                if self.status.write(self.figures):
                    self._beat()

    def _deliver(self, total: Tally, spoke: dict[str, bool], job: Job, database: Database) -> int:
        """One stream's part of a cycle, counted in; whether it had anything to say, once it came to a good end."""
        began, own, before = time.monotonic(), Tally(), job.quarantine.files()
        figures = self._known(job, database)
        try:
            if job.config.since is not None:
                start_since(job, database, job.config.since)
            with self._progress(figures) as progress, contextlib.suppress(Stopped):
                asked = figures if self.metrics or self.status else None
                run_cycle(dataclasses.replace(job, progress=progress, figures=asked), database, own)
        except UploaderError:
            if own.sent:
                log.info("%s; then it failed", summary(own, time.monotonic() - began, job.scenario, ""))
            raise
        finally:
            figures.cycle_seconds = time.monotonic() - began
            figures.seconds += figures.cycle_seconds
            figures.cycles += 1
            figures.add(own)
            total.add(own)
            state = measure(job, figures)
        figures.ended, figures.failures, figures.last_error = job.now(), 0, None
        spoke[job.stream] = say_of(job, state, own, figures, before)
        return QUARANTINED if own.bad else 0

    def _known(self, job: Job, database: Database) -> Figures:
        """A stream's figures, with what does not change while it runs."""
        figures = self._of(job.stream)
        with contextlib.suppress(UploaderError):
            table = detect_table(database, job.config.sqlite_table_name)
            figures.table = job.stream or PREFIXES[job.scenario] + table
            if (self.status or self.metrics) and not (job.config.source_id or job.states.load()):
                keep_name(job, random_id(job))
            if self.status and job.scenario == "sanitize":
                self.status.look(job, table_in(job, database, job.states.sound() or State()))
        figures.route, figures.target, figures.scenario = route_of(job.config), redacted(job.target.name), job.scenario
        if not figures.source_id:
            measure(job, figures)
        return figures

    def _beat(self, wait: float = 0.0) -> None:
        """Write down that a cycle, or one page of a long one, ended now, and how long the wait is; nothing needs it."""
        config, self.beaten = self.fleet.config, time.monotonic()
        errors = {stream: figures.last_error for stream, figures in self.figures.items() if figures.last_error}
        if len(errors) == len(self.figures) and len(set(errors.values())) == 1:  # the same for all
            errors = {"": next(iter(errors.values()))}
        beat = {
            "ended": dt.datetime.fromtimestamp(time.time(), dt.UTC).isoformat(timespec="seconds"),
            "interval": config.interval,
            "wait": wait,
            "once": config.once,
            "error": "; ".join(f"{stream}: {text}" if stream else text for stream, text in errors.items()) or None,
            "streams": {stream: vars(figures) for stream, figures in self.figures.items()},
            "report": vars(self.status.said) if self.status else None,
        }
        self.fleet.supervisor.tell(WATCHDOG="1")
        temporary = self.fleet.config.state_dir / "cycle.new"
        with contextlib.suppress(OSError):
            temporary.touch(0o600)
            temporary.write_text(json.dumps(beat) + "\n")
            os.replace(temporary, temporary.with_name(CYCLE_FILE))

    @contextlib.contextmanager
    def _progress(self, figures: Figures) -> Iterator[Progress]:
        """A bar on a terminal, a sign of life everywhere."""
        is_drawn = sys.stderr.isatty() and log.getEffectiveLevel() <= logging.INFO
        with drawn_bar() if is_drawn else contextlib.nullcontext(Job.progress) as draw:

            def advance(read: int, waiting: int) -> None:
                draw(read, waiting)
                figures.waiting = waiting or figures.waiting
                if time.monotonic() - self.beaten > 1:  # second
                    self._beat()

            yield advance


# --- Looking: health, status, DDL, a dry run ---

# A cycle that is late by more than this many intervals, and a minute, is taken for dead.
LATE_INTERVALS = 3


def remembered(kind: type[T], saved: Any) -> T:
    """Figures out of a file that nothing vouches for: what is of another kind than they begin with is left out."""
    kinds: dict[Any, Any] = {int: (int, float), float: (int, float), type(None): (int, float, str)}
    usual, given = vars(kind()), known_fields(kind, saved).items()
    return kind(**{n: v for n, v in given if isinstance(v, kinds.get(type(usual[n]), type(usual[n])))})


def health(config: Config) -> tuple[bool, str]:
    """Whether the last cycle ended not long ago, nor after now, failed or not, and in words: waiting is no sickness."""
    said = last_cycle(config.state_dir)
    if not said:
        return False, "no cycle has ended yet"
    age, interval = time.time() - dt.datetime.fromisoformat(said["ended"]).timestamp(), said["interval"]
    when = f"{age:.0f} seconds ago" if age >= 0 else f"{-age:.0f} seconds ahead of the clock, which was set back"
    patience = max(LATE_INTERVALS * interval, said["wait"] + interval) + 60 + config.databricks_statement_timeout
    return abs(age) <= patience, f"the last cycle ended {when}" + (f": {said['error']}" if said["error"] else "")


def healthcheck(config: Config) -> int:
    """0 while the uploader is well, else 1."""
    is_well, said = health(config)
    print(said)
    return int(not is_well)


def configured(config: Config) -> dict[str, Config]:
    """The streams as the source has them now."""
    if not config.tables:
        return {"": config}
    with opened_database(config) as database:
        return chosen_streams(config, streams_in(config, database))


# What a table of several streams has room for.
BRIEF = ("stream", "last_upload", "commits", "rows_waiting", "delivered_to", "quarantined", "last_error")


def print_status(config: Config, form: str) -> int:
    """What was delivered and what waits; reads local files only."""
    said, found = last_cycle(config.state_dir), dict[str, dict[str, Any]]()
    # A row is needed by all streams of its table, also by those that were not asked for.
    streams = configured(dataclasses.replace(config, sqlite_table_name=None) if config.tables else config)
    if config.tables:
        say_left(config.state_dir, streams)
    chosen = chosen_streams(config, streams)
    tables = {stream.sqlite_table_name for stream in chosen.values()}
    streams = {name: stream for name, stream in streams.items() if stream.sqlite_table_name in tables}
    try:
        return for_each(streams, lambda stream: found.update({stream.stream: facts_of(stream, said)}))
    finally:
        # A row is safe to delete once all streams of its table have delivered it.
        for name, known in found.items():
            table = streams[name].sqlite_table_name
            others = [found.get(other, {}) for other, stream in streams.items() if stream.sqlite_table_name == table]
            ends: list[Any] = [other.get("delivered_to") for other in others]
            known["delivered_to"] = min(ends) if None not in ends and len(set(map(type, ends))) == 1 else None
        facts = [found[name] for name in chosen if name in found]
        if form == "table" and not config.tables:
            print_rows(form, ["fact", "value"], [status_lines(each, said, time.time()) for each in facts])
        elif facts:
            names = BRIEF if form == "table" else list(facts[0])
            print_rows(form, names, [[[each[name] for name in names] for each in facts]])


def facts_of(config: Config, said: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of one stream; `said` is what the last cycle left."""
    stream, directory, place = config.stream, config.state_dir, place_of_stream(config)
    if (state := place.load()) is None:
        log.warning("%s holds no state: nothing was uploaded with it", directory)
        state = State()
    own = StateFile(directory).quarantine
    lines = lines_of(sorted({*own.files(), *place.quarantine.files()}))  # A move may have been broken off.
    newest = state.last_upload and dt.datetime.fromisoformat(state.last_upload).timestamp()
    # Its table may have been another stream's before.
    others = set(of_streams(directory.parent, "quarantine")) - {own.directory} if stream else set()
    before = lines_of(file for folder in others for file in Quarantine(folder).files())
    needed = [line for line in before if line.get("lineage") == lineage_of(state)]
    waiting, delivered = waiting_and_delivered(config, state, [*lines, *needed])
    return {
        **({"stream": stream} if stream else {}),
        "target": state.target,
        "source": f"{config.sqlite or ''} {state.table or config.sqlite_table_name or ''}".strip() or None,
        "source_id": state.source_id or None,
        "last_upload": state.last_upload,
        "position": state.position.get("rowid", state.position.get("latest")),
        "commits": state.commits,
        "unconfirmed": state.intent["sequence"] if state.intent else None,
        "delivered_to": delivered,
        "rows_waiting": waiting,
        "lag_seconds": round(time.time() - newest) if newest else None,
        "open_windows": open_windows(state.position, time.time()) or None,
        "quarantined": len(lines),
        "quarantine": quarantine_text(lines, place.quarantine.directory, config) or None,
        "last_cycle": said.get("ended"),
        "last_error": said.get("streams", {}).get(stream, {}).get("last_error"),
    }


def status_lines(facts: Mapping[str, Any], said: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    """The facts of `--status` for people; `said` is what was said of the last cycle."""
    waiting, newest = facts["rows_waiting"], facts["last_upload"]
    yield "target", facts["target"] or "- (nothing was sent yet)"
    yield "source", facts["source"]
    yield "source_id", facts["source_id"] or "-"
    yield "delivered", f"{counted(facts['commits'], 'commit')}, rows up to {newest or '-'}"
    if facts["unconfirmed"]:
        yield "unconfirmed", f"commit {facts['unconfirmed']}: the next cycle asks the target about it"
    lag = f"; the newest before them is {aged(facts['lag_seconds'], 'old')}" if waiting and newest else ""
    yield "waiting", "- (only a cycle can tell)" if waiting is None else f"{counted(waiting, 'row')}{lag}"
    if facts["open_windows"]:
        yield "windows", facts["open_windows"]
    end = facts["delivered_to"]
    known = f"rows up to {end:,} are delivered" if isinstance(end, int) else f"rows before {end} are delivered"
    yield "safe to delete", "- (nothing that is known)" if end is None else known
    yield "quarantine", facts["quarantine"] or "-"
    if not said:
        yield "last cycle", "- (none has ended yet)"
        return
    ended = dt.datetime.fromisoformat(said["ended"]).timestamp()
    yield "last cycle", aged(now - ended, "ago") + (f": {said['error']}" if said["error"] else "")
    yield "next cycle", next_cycle(ended + (said["wait"] or said["interval"]) - now, said)


def next_cycle(seconds: float, said: Mapping[str, Any]) -> str:
    """When the next cycle is due."""
    if said.get("once"):
        return "when it is started: the last run was for once"
    late = seconds < -60 - LATE_INTERVALS * said["interval"]
    return "overdue: is the service running?" if late else f"in {age_text(max(0, seconds))}"


def waiting_and_delivered(config: Config, state: State, lines: Lines) -> tuple[int | None, int | str | None]:
    """How many rows wait, and what is `delivered_to`, by a state and its quarantine's lines; None where untold."""
    if config.sqlite is None:
        return None, None
    with opened_database(config) as database:
        reader = reader_of(config, database)
        try:
            cursor = cursor_of(config, reader, time.time, state)
            if state.position and ("rowid" in state.position) != (cursor.kind == "rowid"):
                return None, None
            position = cursor.located(state).position if state.position else cursor.start(None)
        except (SourceError, ConfigError) as error:
            log.warning("%s. %s", error, error.hint)
            return None, None
        return what_waits(cursor, position)["waiting"], delivered_to(cursor, position, lines)


def delivered_to(cursor: Cursor, position: Position, lines: Lines) -> int | str | None:
    """Up to which rowid, or before which time in ISO-8601, nothing is lost with the source's rows; None for nowhere.

    They are in the target, or filtered out, or in quarantine with all their values; where sanitize hides some of
    these, the source has the only copy. Rows of open windows are not delivered, nor those that late ones may precede.
    """
    columns = cursor.table.columns.keys()
    needed = [line["key"] for line in lines if not columns <= line["row"].keys()]
    if isinstance(cursor, TimestampCursor):
        end: int = position["latest"] - cursor.lookback
        is_told = position["latest"] != NEVER and not leads_clock(cursor, position)
        return moment_of(end).isoformat() if is_told and not needed else None
    if position["rowid"] is None or (needed and cursor.table.key is None):  # VACUUM gives rows other rowids.
        return None
    ahead = [low for low, _ in position.get("ahead", {"ranges": []})["ranges"]]
    return int(min([position["rowid"], *(key - 1 for key in [*ahead, *needed])]))


def joint_type(one: str, other: str) -> str:
    """The type of a column that two tables fill."""
    classes = sorted({of for of, kind in CLASS_TYPES.items() if kind in (one, other)})
    return one if one == other else MIXED_TYPES.get(tuple(classes), "string")


def print_ddl(config: Config, which: str) -> int:
    """CREATE statements for the scenario's tables, or all that rules allow; source tables of one target make one."""
    made: dict[str, tuple[str, Config, Columns, str | None]] = {}  # by names as a catalog compares them

    def look(stream: Config) -> None:
        with opened_database(stream) as database:
            reader = reader_of(stream, database)
            table, reads = reader.table, read_types(stream, reader, {}, {})
            foreign_types(stream, table)
        if not stream.databricks_table:
            log.info("databricks_table is not set: the statement says readings")
        for scenario in PREFIXES if which == "all" else [scenario_of(stream)]:
            is_set = bool(getattr(stream, f"{scenario}_config", None))
            if scenario == "aggregate" and which == "all" and not is_set:
                print("-- aggregated: set aggregate_config to see its table")
                continue
            rules = rules_for(stream, scenario, reads, table) if is_set or scenario == "aggregate" else None
            name = routed_table(stream.databricks_table or "readings", scenario)
            if stream.zerobus_endpoint or stream.databricks_http_path:
                refuse_table_name(name)
            columns = rules.columns if rules else reads
            refuse_names(columns)
            name, first, known, time_column = made.get(name.lower(), (name, stream, {}, table.time))
            earlier = in_target(known)
            there = {earlier(column) or column: kind for column, kind in columns.items()}
            joint = {column: joint_type(known.get(column, kind), kind) for column, kind in there.items()}
            made[name.lower()] = (name, first, known | joint, time_column)

    if config.databricks_database:
        print(f"CREATE SCHEMA IF NOT EXISTS {table_name(config.databricks_database, '').rpartition('.')[0]};")
    try:
        return for_each(configured(config), look)
    finally:
        for name, stream, columns, time_column in made.values():
            print(ddl(stream, name, columns, time_column))
        if config.status_table:
            print(status_ddl(config))


# A table is clustered by what it has statistics of: so many of its first columns ("Use liquid clustering for tables").
# Others are refused with DELTA_CLUSTERING_COLUMN_MISSING_STATS.
CLUSTERED_COLUMNS = 32


def ddl(config: Config, name: str, columns: Columns, time_column: str | None) -> str:
    """One CREATE TABLE, with the columns that the uploader fills, clustered by time; with a view where rows may double.

    In it each row counts once, by its batch and its place there, its mark. Rows of other routes have none, and stay.
    """
    if config.zerobus_endpoint:
        refuse_names(columns, plain_name)
        columns, time_column = {plain_name(c): kind for c, kind in columns.items()}, plain_name(time_column or "")
    times = [column for column, kind in columns.items() if kind == "timestamp"]
    by = time_column if time_column in times else next(iter(times), None)
    is_by_path = bool(config.lakehouse_path or config.table_path)  # delta-rs does not write to a clustered table.
    cluster = f" CLUSTER BY ({quoted_sql(by)})" if by and not is_by_path else ""
    if by and cluster and [*columns].index(by) >= CLUSTERED_COLUMNS:
        columns = {by: columns[by], **columns}
    mapped = any(FORBIDDEN_IN_NAMES.search(column) for column in columns)
    properties = " TBLPROPERTIES ('delta.columnMapping.mode' = 'name')" if mapped else ""
    created = f"{creation(config, name, columns)}{cluster}{properties};"
    if not config.zerobus_endpoint or config.on_doubt != "resend":
        return created
    table = table_name(config.databricks_database, name)
    numbered = "row_number() OVER (PARTITION BY `databricks_batch_id`"
    names = ", ".join(map(quoted_sql, [*columns, *OWN_COLUMNS]))
    return (
        f"{created}\nCREATE OR REPLACE VIEW {table[:-1]}_once` AS\nSELECT {names} FROM (\n"
        f"  SELECT *, {numbered} ORDER BY `databricks_inserted_at`) AS `databricks_nth` FROM {table}\n"
        ") WHERE `databricks_nth` = 1 OR `databricks_batch_id` IS NULL OR NOT contains(`databricks_batch_id`, '#');"
    )


def creation(config: Config, name: str, columns: Columns) -> str:
    """What makes a table, with the columns that the uploader fills, up to its clustering."""
    body = ",\n".join(f"  {quoted_sql(column)} {kind.upper()}" for column, kind in {**columns, **OWN_COLUMNS}.items())
    return f"CREATE TABLE IF NOT EXISTS {table_name(config.databricks_database, name)} (\n{body}\n) USING DELTA"


def status_ddl(config: Config) -> str:
    """What makes the table of `status_table`."""
    return f"{creation(config, config.status_table or '', STATUS_COLUMNS)};"


class Unasked(DeltaTarget):
    """Stands for a warehouse in a dry run, which must not start one: rows look as the source types them."""

    def table(self) -> None:
        return None


def show_new(config: Config, environ: Mapping[str, str], form: str) -> None:
    """Read and process what is new in one stream, and show what would be sent; neither state nor target is touched."""
    target, saved = target_of(config, Session(config, environ)), place_of_stream(config).load() or State()
    if isinstance(target, WarehouseTarget):
        target = Unasked(target.name, {})
    first, total = list[Sequence[Any]](), Tally()
    with opened_database(config) as database, looking(config, target, saved, database) as (job, source):
        names = list(source.plan().writes)
        state = source.cursor.located(beginning(job, source, saved))
        for shipment in Delivery(job, source, state, total).shipments():
            for page in shipment.payload():
                head = page.slice(0, min(5 - len(first), page.num_rows))
                first += zip(*(column.to_pylist() for column in head.columns), strict=True)
            total.add(shipment.tally)
            state = confirmed(state, shipment.intent, shipment.tally)
        aside = quarantine_text(lines_of(job.quarantine.files()), Path("nothing is written"), config)
    if saved.intent:
        log.info("commit %d is not confirmed yet; its rows are among these", saved.intent["sequence"])
    if waits := open_windows(state.position, time.time()):
        log.info("%s", waits)
    if aside:
        log.warning("%s", aside)
    where = f"{target.name} by {route_of(config)}"
    title = f"Would go to {where}: {counted(total.sent, 'row')} of {total.read} read, {total.bad} to quarantine"
    print_rows(form, names, [first], title)


# --- Beginning: a file of settings for a database ---

# Settings that a file of settings for a database has in another place, or not.
NOT_WRITTEN = {"sqlite", "sqlite_table_name", "tables", "timestamp_col", "databricks_table", "once", "storage_options"}


def yaml_line(name: str, value: object) -> str:
    """A setting as a line of YAML."""
    import yaml

    return str(yaml.safe_dump({name: value}, allow_unicode=True, width=math.inf)).strip()


def print_init(config: Config) -> None:
    """A file of settings for the database: an entry for each table that can go, with what is in it."""
    with opened_database(config) as database:
        kinds = {name: kind for name, kind in database.kinds.items() if kind != "shadow"}
        streams = {name: stream_of(dataclasses.replace(config, state_dir=Path()), {}, name) for name in kinds}
        shared = sharing(streams[name] for name, kind in kinds.items() if kind.startswith("table"))
        apart = [str(stream.sqlite_table_name) for found in shared.values() for stream in found]
        lines = [line for name in kinds for line in entry_for(streams[name], database, name, name in apart)]
    # Several databases may be sent from one directory.
    given: dict[str, Any] = {"state_dir": Path("state", Path(str(config.sqlite)).stem)}
    for name, setting in SETTINGS.items():
        if getattr(config, name) not in (setting.default, None) and name not in NOT_WRITTEN and not setting.secret:
            given[name] = getattr(config, name)
    # From everywhere the same: in another directory the state would be another one, and all rows be sent again.
    uris = ("lakehouse_path", "table_path")
    given |= {s: absolute_uri(str(v)) for s, v in given.items() if isinstance(v, Path) or s in uris}
    print("# Made by --init. Next: --check, then run. All settings: docs/configuration.md.")
    print(yaml_line("sqlite", config.sqlite and str(config.sqlite.absolute())))
    if not any(getattr(config, name) for name in TARGETS):
        print("\n# Where to: fill in these, or lakehouse_path, a directory or s3:// address for Delta tables.")
        for name in ("databricks_host", "databricks_http_path", "databricks_database"):
            print(f"# {yaml_line(name, SETTINGS[name].example)}")
    print("\n".join(["", *(yaml_line(name, value) for name, value in given.items()), ""]))
    print("tables:" if any(line.startswith("-") for line in lines) else "# tables:")
    print("\n".join(f"  {line}" for line in lines))


def entry_for(stream: Config, database: Database, name: str, is_apart: bool) -> list[str]:
    """A table's lines: what is in it, and its entry, in a comment where it can't go; `is_apart` names its target."""
    said, entry, extra = list[str](), [f"- {yaml_line('sqlite_table_name', name)}"], list[str]()
    entry += [f"  {yaml_line('databricks_table', stream.stream)}"] if is_apart else []
    NAMES.stream = name
    try:
        columns = {column: "" for column, *_ in database.columns_of(name)}
        said.append(content_of(database, name, private_columns(stream, columns)))
        table = reader_of(stream, database).table
        times = first_values(database, name, table.time) if table.time else []
        said[0] += f"; {said_of_time(table)}{form_of_time(times)}"
        extra = [f"  # {yaml_line('timestamp_col', column)}" for column in table.doubtful]
        if form := only_format(stream, times):
            stream = dataclasses.replace(stream, timestamp_format=form)
            entry.append(f"  {yaml_line('timestamp_format', form)}")
        if (kind := database.kinds[name]) in ("view", "virtual"):
            what, or_it = ("view", ", or it alone") if kind == "view" else ("virtual table", "")
            raise ConfigError(f"it is a {what}", f"Take the tables behind it{or_it}.")
        if name != name.strip() or not name:
            raise ConfigError("no setting is empty, nor has blanks at its ends", "Send a view of another name.")
        if stream.lakehouse_path:
            delta_uri(stream, routed_table(name, scenario_of(stream)))
        with looking(stream, Unasked("", {}), State(), database) as (_, source):
            refuse_bad_start(source, State())
            said += [f"{fault}: {hint}" for fault, hint in odd_times_of(source)]
    except UploaderError as error:
        said += [f"Left out: {error}. {error.hint}", *entry, *extra]
        entry, extra = [], []
    finally:
        NAMES.stream = ""
    return [*(f"# {' '.join(text.split())}" for text in said), *entry, *extra]


def only_format(config: Config, times: Sequence[Any]) -> str:
    """The pattern that alone reads a time column's texts, where no format is set; empty for several."""
    usual = time_form(config)
    forms = fitting_forms(times if usual.name == "auto" else [], usual.zone, time.time())
    return forms[0].name if len(forms) == 1 and "%" in forms[0].name and forms[0].zone == usual.zone else ""


def form_of_time(times: Sequence[Any]) -> str:
    """How the time column is written, for people."""
    known = next(iter(times), None)
    if not isinstance(known, (int, float)):
        return " (text)" if known else ""
    units = {"unix": "seconds", "unix_ms": "milliseconds", "unix_us": "microseconds"}
    return f" ({units.get(unit_of(known) or '', 'nanoseconds')} since 1970)"


# --- Caring: Delta tables that live for years ---
#
# delta-rs' optimizer puts a table's many small files together: no value changes, uploaders go on meanwhile, since
# appends don't conflict with it. Files that were replaced stay for a week, or for the table's
# `delta.deletedFileRetentionDuration` where that is longer, so that readers, time travel and uploaders' commits find
# them; then the next compaction deletes them. The log needs no care: delta-rs shortens it with each checkpoint, every
# 100 commits.

# What --compact tells of each table; sizes in bytes.
COMPACTED = ("table", "files_before", "files", "bytes_before", "bytes", "version_before", "version", "files_deleted")

# A file below this many bytes is small: delta-rs makes files of some 100 MiB.
SMALL_FILE = 32 * 2**20

# From so many small files on --check asks for it: a cycle holds the list of all files, some 2 KiB each.
TOO_MANY_FILES = 10_000


def file_sizes(name: str, table: DeltaTable) -> list[int]:
    """The sizes of a table's files in bytes."""
    with delta_errors(name):
        return [*table.get_add_actions().column("size_bytes").to_pylist()]


def kept_hours(table: DeltaTable) -> int:
    """For how many hours replaced files stay: a week, or longer where the table's owner says so."""
    kept = table.metadata().configuration.get("delta.deletedFileRetentionDuration", "").lower()
    hours = {"week": 168.0, "day": 24.0, "hour": 1.0, "minute": 1 / 60, "second": 1 / 3600}
    parts = re.findall(rf"(\d+) ({'|'.join(hours)})", kept)
    return max(168, math.ceil(sum(int(count) * hours[unit] for count, unit in parts)))


def compact_table(name: str, table: DeltaTable | None) -> list[Any]:
    """Compact a table, and delete what was replaced long ago; what `COMPACTED` lists, nothing where there is none."""
    from deltalake import CommitProperties

    if table is None:
        return []
    # delta-rs would name such a part anew as nobody reads it.
    parts = [(name, kind) for name, kind in parting_columns(table).items() if base_of(kind) in ("decimal", "binary")]
    misnamed = [f"parted by the {kind.upper()} {name}" for name, kind in parts]
    if unknown := sorted(features_of(table) - COMPACTABLE_FEATURES) + misnamed:
        hint = "OPTIMIZE and VACUUM in Databricks can; on S3, stop the uploaders meanwhile."
        raise TargetError(f"{name} can't be compacted with its features: {', '.join(unknown)}", hint)
    before, was = file_sizes(name, table), table.version()
    often = CommitProperties(max_commit_retries=DeltaTarget.COMMIT_RETRIES)
    with delta_errors(name):
        # One task: each holds its part of the rows.
        written = file_properties(types_in(columns_of(table)))
        table.optimize.compact(max_concurrent_tasks=1, writer_properties=written, commit_properties=often)
        # In full: otherwise files stay for ever once a checkpoint has forgotten them (delta-rs#3644). Files that
        # no commit names yet are spared for the same week (delta-rs#3835).
        gone = table.vacuum(kept_hours(table), dry_run=False, full=True, commit_properties=often)
        table.create_checkpoint()
    after = file_sizes(name, table)
    return [name, len(before), len(after), sum(before), sum(after), was, table.version(), len(gone)]


def compact(config: Config, form: str) -> None:
    """Compact the Delta tables by path, and print what was done."""
    if config.databricks_http_path or config.zerobus_endpoint:
        hint = "Predictive optimization does it for managed tables by itself; for external ones schedule OPTIMIZE."
        raise ConfigError("--compact is for Delta tables by path; Databricks takes care of its own", hint)
    refuse_targets(config)
    targets = delta_targets(config)
    each = (target.among_others(functools.partial(compact_table, target.name)) for target in targets.values())
    done = [*filter(None, each)]
    if not done:
        log.warning("no Delta table is there: %s", ", ".join(targets) or lake_and_name(config)[0])
    print_rows(form, COMPACTED, [done])


# --- Checking: every part of the way, one after the other ---


class Finding(NamedTuple):
    """What was looked at, whether that is right (None: only said), and what to do if not; of another part, which."""

    text: str
    ok: bool | None = True
    hint: str = ""
    part: str = ""


def check(config: Config, environ: Mapping[str, str], as_json: bool) -> int:
    """Look at each part; 1 where one failed, else 0. Parts go on after one that failed, if they can."""
    failed, marks = False, {True: "ok  ", False: coloured("FAIL", sys.stdout, environ), None: "    "}
    with contextlib.closing(Session(config, environ)) as session:
        for stream, part, found in findings(config, session):
            failed, text, hint = failed or found.ok is False, redacted(found.text), redacted(found.hint)
            if as_json:
                about = {"stream": stream} if stream else {}
                print(json.dumps({**about, "part": part, "ok": found.ok, "text": text, "hint": hint}), flush=True)
            else:
                more = f"\n       {hint}" if hint else ""
                print(f"{marks[found.ok]} {stream and f'{stream} '}{part}: {text}{more}", flush=True)
    return int(failed)


def findings(config: Config, session: Session) -> Iterator[tuple[str, str, Finding]]:
    """What is found of each stream and part, one after the other."""
    checks = {"configuration": check_configuration, "database": check_database, "state": check_state}
    checks["target"] = functools.partial(check_target, session)
    streams: dict[str, Config] = {}
    try:
        streams = configured(config)
    except UploaderError as error:
        yield "", "database", Finding(str(error), False, error.hint)
    for text, hint in said_of_sharing(streams.values()):
        yield "", "configuration", Finding(text, None, hint)
    parts = [(part, look, settings) for settings in streams.values() for part, look in checks.items()]
    parts.append(("reports", functools.partial(check_reports, session), config))
    said = set[tuple[str, str]]()  # Two parts may fail for one reason.
    for part, look, settings in parts:
        try:
            with file_errors():
                yield from ((settings.stream, found.part or part, found) for found in look(settings))
        except UploaderError as error:  # the last thing that a look finds
            if (fault := (settings.stream, str(error))) not in said:
                yield settings.stream, part, Finding(str(error), False, hint_of(settings.stream, error.hint))
            said.add(fault)


def check_configuration(config: Config) -> Iterator[Finding]:
    """The scenario and the target that are in force."""
    scenario = scenario_of(config)
    refuse_targets(config)
    where = config.zerobus_endpoint or config.databricks_http_path or config.table_path or config.lakehouse_path
    table = config.table_path or routed_table(config.databricks_table or "", scenario)
    yield Finding(f"rows go to {table} ({where}) by {route_of(config)}: {reason_of(config, scenario)}")
    if fault := unused_privacy(config, scenario):
        yield Finding(fault[0], None, fault[1])


def check_database(config: Config) -> Iterator[Finding]:
    """How the file can be opened, what is in it, and how new rows are found."""
    with opened_database(config) as database:
        reader = reader_of(config, database)
        table = reader.table
        yield from check_file(config.sqlite, database)
        for remark, hint in reader.remarks():
            yield Finding(remark, None, hint)
        yield Finding(f"table {table.name}, {len(table.columns)} columns, {said_of_time(table)}")
        state, form = StateFile(config.state_dir).sound() or State(), time_form(config)
        cursor = cursor_of(config, reader, time.time, state)
        if isinstance(cursor, RowidCursor):
            if is_one_name(state.table, table.name):
                cursor.located(state)
            said = "assigned by AUTOINCREMENT" if table.autoincrement else "not AUTOINCREMENT; digests of rows guard it"
            if config.cursor == "auto" and is_shuffled(reader, form) is None:
                said = "which are far apart; no column tells whether they rise with time"
            yield Finding(f"new rows are found by rowid ({said})")
        else:
            if table.key and config.cursor == "auto":
                yield Finding(said_of_order(table), None)
            indexed = cursor.order.is_indexed() and "%" not in form.name
            hint = "" if indexed else "Without an index that sorts by time every cycle reads the whole table."
            yield Finding(f"new rows are found by time, lookback {config.lookback:g} s", indexed or None, hint)
        if newest := newest_of(cursor.reader, form):
            yield Finding(f"the highest time is {newest}", None)


# File systems that two machines see, or a machine and its guest (sqlite.org/wal.html, "all processes on one host").
SHARED_FILE_SYSTEMS = {"virtiofs", "9p", "nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.grpcfuse", "fakeowner"}


def check_file(asked: Path | None, database: Database) -> Iterator[Finding]:
    """The journal mode, and file systems that don't carry a WAL."""
    file = database.file
    told = f"{file}" if asked and file == asked.absolute() else f"{asked}, which is {file},"
    if not database.wal_mode:
        yield Finding(f"{told} can be opened (rollback journal)")
        return
    in_use = all(side.exists() for side in side_files(file)[:2])
    producer = "in use by a producer" if in_use else "no producer has it open"
    if database.copied_bytes:
        producer = "from a private copy"
    yield Finding(f"{told} can be opened (WAL, {producer})")
    points, folders = mount_points(), map(str, (file, *file.parents))
    system = next((points[folder] for folder in folders if folder in points), "")
    if system in SHARED_FILE_SYSTEMS:
        hint = "Run the uploader on the machine that the producer runs on, or use journal_mode=DELETE."
        yield Finding(f"{file} is on {system}, which does not carry a WAL's shared memory", False, hint)


def check_state(config: Config) -> Iterator[Finding]:
    """Whether the state can be read, and the directory written. A running uploader is no fault."""
    states = StateFile(config.state_dir)
    try:
        with states, tempfile.TemporaryFile(dir=states.directory) as probe:
            probe.write(bytes(4096))
            found = "can be written"
    except LockedError:
        found = "is in use by an uploader that runs"
    place = place_of_stream(config)
    said, state = "nothing uploaded yet", place.load()
    if state and (state.commits or state.last_upload):
        said = f"uploaded up to {state.last_upload or '-'}, {counted(state.commits, 'commit')}"
    yield Finding(f"{states.directory} {found}; {said}")
    if aside := quarantine_text(lines_of(place.quarantine.files()), place.quarantine.directory, config):
        yield Finding(aside, None, "Mend the cause, then --replay-quarantine.")


def check_target(session: Session, config: Config) -> Iterator[Finding]:
    """What leads to the target, in the order in which it is needed, and whether the columns fit. Sends no row."""
    target = target_of(config, session)
    if isinstance(target, WarehouseTarget) and not config.zerobus_endpoint:
        yield from check_session(session, config)
    columns = target.columns()
    known = "; the first write makes the table" if columns is None else f", {len(columns)} columns"
    hint = "Whether it may be written to, only an upload shows." if "://" in target.name else ""
    yield Finding(f"{target.name} can be reached{known}", True, hint)
    if isinstance(target, DeltaTarget):
        yield from check_delta(target)
    elif config.zerobus_endpoint:
        session.token(target.full_name)
        said = "it is a managed Delta table; the service principal gets a token for it at"
        yield Finding(f"{said} {config.zerobus_endpoint}")
    yield from check_columns(config, target)
    if isinstance(target, DeltaTarget):
        return
    if not config.databricks_http_path:
        yield Finding(f"no warehouse settles doubts; on_doubt: {config.on_doubt}", None)
        return
    said, hint = "the warehouse can read its rows", "INSERT needs MODIFY, which only an upload shows."
    if config.zerobus_endpoint:
        yield from check_session(session, config)
        said, hint = f"{said}, which settles doubts", ""
    session.rows(f"SELECT 1 FROM {target.sql} LIMIT 0")
    yield Finding(said, True, hint)
    if target.by_files:
        target.copy.listed()
        yield Finding(f"{config.databricks_volume} can be listed")


def check_session(session: Session, config: Config) -> Iterator[Finding]:
    """Sign-in, network and TLS."""
    credentials(config, session.environ)
    yield Finding("what follows opens a session, which starts a stopped warehouse", None)
    [(user,)] = session.rows("SELECT current_user()")
    signed_in = f"signed in as {user or 'the owner of these credentials'}"
    yield Finding(f"{config.databricks_host} answers, its certificate is right; {signed_in}")


def check_delta(target: DeltaTarget) -> Iterator[Finding]:
    """Whether a table on this machine could be written, and how many files it has."""
    if "://" not in target.name:
        # Path.exists raises where a directory may not be searched.
        there = next(p for p in (Path(target.name), *Path(target.name).parents) if os.path.exists(p))
        if not is_writable(there):
            fault = f"{there} is no directory that can be written"
            raise TargetError(fault, "Mend its rights, or choose another path.")
    table = target.table()
    small = sum(size < SMALL_FILE for size in file_sizes(target.name, table)) if table else 0
    if small >= TOO_MANY_FILES:
        said = f"{small:,} small files make every cycle slower and larger"
        yield Finding(said, None, "--compact puts them together, beside running uploaders.")


def is_writable(directory: Path) -> bool:
    """Whether files can be made in a directory."""
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def check_columns(config: Config, target: Target) -> Iterator[Finding]:
    """Column by column: what is sent where, as which type, if the state belongs there."""
    saved = State()
    with contextlib.suppress(StateError):  # That was said before.
        saved = place_of_stream(config).load() or saved
    with opened_database(config) as database, looking(config, target, saved, database) as (job, source):
        plan, declared = source.plan(), source.cursor.table.columns
        refuse_bad_start(source, beginning(job, source, saved))
        for fault, hint in odd_times_of(source):
            yield Finding(fault, None, hint, part="database")
    for name, kind in plan.writes.items():
        origin = plan.sources[name]
        yield Finding(f"{origin} ({declared.get(origin, 'result') or 'no type'}) -> {name} {kind}", part="columns")
    for said, hint in said_of_left_out(plan, target.evolves):
        yield Finding(said, None, hint, part="columns")


def check_reports(session: Session, config: Config) -> Iterator[Finding]:
    """Whether what is told beside the rows has its place: a file of metrics, a table of boxes."""
    if config.metrics_file:
        refuse_other_content(config.metrics_file)
        file, directory = config.metrics_file, config.metrics_file.absolute().parent
        if os.path.exists(file) and not file.is_file():
            yield Finding(f"metrics_file: {file} is there and no file", False, "Take it away, or choose another name.")
        is_open = is_writable(directory)
        said = f"metrics_file: {directory} {'can be written' if is_open else 'is no directory that can be written'}"
        yield Finding(said, is_open, "" if is_open else "Make it, or mend its rights.")
    if config.status_table:
        target, columns = target_of(config, session, beside=config.status_table), None
        with contextlib.suppress(*([Rejected] if config.databricks_http_path else [])):
            columns = target.columns()
        is_there = "the first report makes it" if columns is None else "it is there"
        yield Finding(f"status_table: {target.name}: {is_there}")


# --- Repairing: rows from quarantine, a lost state, a point to start from ---


def replay_quarantine(job: Job, database: Database) -> int:
    """Send the rows in quarantine that can be delivered now; the others stay there."""
    if not job.quarantine.files():
        log.info("the quarantine is empty")
        return 0
    with opened_delivery(job, database, Tally()) as delivery:
        delivery.settle()
        sent, stay = replay(delivery)
    if stay:
        log.warning("%s", quarantine_text(lines_of(job.quarantine.files()), job.quarantine.directory, job.config))
    log.info("%s sent from quarantine, %d left", counted(sent, "row"), stay)
    return QUARANTINED if stay else 0


def recover(job: Job, database: Database) -> None:
    """Make a lost or damaged state anew from what the target knows of `source_id`."""
    if not job.config.source_id:
        raise ConfigError("--recover needs source_id", "It is in the old state, the log of a first run, or a batch id.")
    try:
        if (state := job.states.load()) and state.table:
            if job.stream:  # Others of its streams are to be made anew.
                log.info("%s is there and sound", job.states.file)
                return
            raise ConfigError(f"{job.states.file} is there and sound", "Move it away if it must be made anew.")
    except StateError as error:
        log.warning("%s", error)
    with contextlib.closing(job.target):
        source = source_in(job, database, State())
        state = recovered(job, source)
        if state is None:
            raise StateError(f"{job.target.name} does not know source {job.config.source_id}", "Check source_id.")
        place, latest = position_text(state.position) or "the beginning", state.position.get("latest", NEVER)
        place = time_shown(source.cursor.table, latest) if latest > NEVER else place
        log.info("commit %d of %s ended at %s; going on after it", state.sequence, state.source_id, place)
        job.states.save(state)


def start_since(job: Job, database: Database, text: str) -> None:
    """Move the position so that rows from a time on count as new, also those that were sent before; whole windows."""
    try:
        form = time_form(job.config)
        since = to_microseconds(text, TimeForm(zone=form.zone) if iso_moment(text) else form)
        if NUMBER_TEXT.fullmatch(text) and not iso_moment(text) and since not in PLAUSIBLE_TIMES:
            raise ValueError  # A bare year would be seconds since 1970.
    except ValueError:
        raise ConfigError(f"--since: {text!r} is no time", "Write it as 2026-01-31T12:00:00Z.") from None
    with contextlib.closing(job.target):
        state = job.states.load() or State()
        source = source_in(job, database, state)
        if state.table:
            delivery = Delivery(job, source, checked(job, source, state, is_anew=not state.intent), Tally())
            delivery.settle()
            state = delivery.state
        else:
            state = completed(job, source, State())
            known = job.config.source_id and job.target.recover(state)
            state = dataclasses.replace(state, sequence=max(state.sequence, known["sequence"] if known else 0))
        if isinstance(source, WindowSource) and (length := source.aggregate.window_length):
            since -= since % (length // MICROSECOND)
        position = source.cursor.start(since - 1)
        log.warning("rows from %s on are sent now, also those that were sent before", moment_of(since).isoformat())
        state = dataclasses.replace(state, position=position, ended=None, anchors=[], gaps=[], formers=[])
        state = dataclasses.replace(state, epoch=state.epoch + 1, time_column=source.cursor.table.time)
        job.states.save(state)


# === Command line =====================================================================================

EPILOG = """examples:
  uv run sqlite_to_databricks_uploader.py --init --sqlite sensor.db > uploader.yaml
  uv run sqlite_to_databricks_uploader.py --config uploader.yaml --check
  uv run sqlite_to_databricks_uploader.py --config uploader.yaml --once
  uv run sqlite_to_databricks_uploader.py --sqlite sensor.db --lakehouse-path ./lake --databricks-table readings

exit status:
  0  done; also nothing new, windows still open, or a clean stop by a signal
  1  a cycle failed; its rows wait in the source, and the next run sends them
  2  wrong configuration or usage
  3  done, but some rows went to quarantine
  75 another process uses the state directory
  143, 130  broken off by SIGTERM, SIGINT; an upload only by a second one

Each setting is also a YAML key and a variable: docs/configuration.md."""


class Arguments(argparse.ArgumentParser):
    """A parser that says which flag was meant, and repeats no value: it may be a secret."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        if found := re.match(r"unrecognized arguments: .*?(--?\w[\w-]*)", message):
            name = found[1].lstrip("-").replace("-", "_")
            message = f"unknown flag {found[1]}. "
            if name in SETTINGS and not flags_of(name):
                message += f"It has no flag: set {SETTINGS[name].variables[0]}."
            else:
                message += f"Did you mean {close_to(found[1], self._option_string_actions) or '--help'}?"
        super().error(message)


def add_actions(parser: argparse.ArgumentParser) -> None:
    """What can be done beside uploading, and how it is said."""
    # fmt: off
    add = parser.add_argument_group("actions").add_mutually_exclusive_group().add_argument
    add("--check", action="store_true", help="test every part of the way, with remedies")
    add("--init", action="store_true", help="print a file of settings for the database")
    add("--dry-run", action="store_true", help="read and process, show what would be sent, send nothing")
    add("--status", action="store_true", help="what was delivered and what waits; works offline")
    add("--healthcheck", action="store_true", help="0 if cycles end in time, else 1")
    add("--run-query", metavar="SQL", help="print a query's result; INFO shows tables and row counts")
    add("--compact", action="store_true", help="put a Delta table's small files together, beside running uploaders")
    add("--print-ddl", nargs="?", const="scenario", choices=["scenario", "all"], help="print CREATE TABLE statements")
    add("--replay-quarantine", action="store_true", help="send the quarantined rows that can be delivered by now")
    add("--recover", action="store_true", help="rebuild a lost state from the target (needs source_id)")
    add("--since", metavar="TIMESTAMP", help="one cycle that counts rows from this time on as new")
    add("--flush", action="store_true", help="one cycle that sends open windows too (aggregate)")
    add("--help-error", metavar="NAME", help="what a kind of error means, and what to do")
    add = parser.add_argument_group("output").add_argument
    add("-v", "--verbose", action="count", help="say more; twice: the libraries too")
    add("-q", "--quiet", action="store_true", help="say only what went wrong")
    add("--log-format", choices=["text", "json"], help="log lines on stderr for people or programs")
    add("--format", choices=["table", "json", "csv"], help="results on stdout")
    # fmt: on


def parse_arguments(argv: Sequence[str] | None) -> dict[str, Any]:
    """What the command line says. What is not given is absent, so that layers can tell."""
    parser = Arguments(
        usage="%(prog)s [--config FILE] [ACTION] [SETTINGS]",
        description="Append the new rows of a SQLite table to Databricks or Delta tables, exactly once.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    version = f"sqlite-to-databricks-uploader {__version__} (Python {sys.version.split()[0]})"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML file with settings")
    add_actions(parser)
    settings = parser.add_argument_group("settings")
    for name, setting in SETTINGS.items():
        if flags_of(name):
            switch: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(setting.default, bool) else {}
            text = f"{setting.help.rstrip('.')} [{setting.variables[0]}]".replace("%", "%%")
            metavar = name.rpartition("_")[2].upper()
            settings.add_argument(*flags_of(name), dest=name, metavar=metavar, help=text, **switch)
    return vars(parser.parse_args(argv))


def load_config(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """The configuration of one run: defaults, then YAML, environment and command line."""
    yaml = layer_from_yaml(arguments["config"]) if "config" in arguments else {}
    # argparse leaves out what was not given.
    flags = {name: parse_setting(name, arguments[name], flags_of(name)[0]) for name in SETTINGS if name in arguments}
    for name in arguments.keys() & {"run_query", "since"}:
        refuse_unwritable(arguments[name], f"--{name.replace('_', '-')}")
    warn_of_unknown(environ)
    layers = [("YAML file", yaml), ("environment", layer_from_environ(environ)), ("command line", flags)]
    config, asked = merge_layers(layers), {name: arguments[name] for name in ("since", "flush") if name in arguments}
    return dataclasses.replace(config, once=config.once or bool(asked), **asked)


@dataclasses.dataclass
class LogLines(logging.Formatter):
    """A line for people, in colour on a terminal, or one JSON object: no tracebacks, secrets or signed addresses."""

    as_json: bool
    environ: Mapping[str, str] = dataclasses.field(repr=False)

    def format(self, record: logging.LogRecord) -> str:
        moment, level = dt.datetime.fromtimestamp(record.created, dt.UTC), record.levelname
        given, message = getattr(record, "fields", {}).items(), redacted(record.getMessage())
        fields = {name: redacted(value) if isinstance(value, str) else value for name, value in given}
        if self.as_json:
            line = {"time": moment.isoformat(timespec="milliseconds"), "level": level.lower(), "message": message}
            return json.dumps(line | fields)
        # A table's name may hold the end of a line, or what a terminal obeys; lines of our own are indented.
        message = re.sub(r"\n(?!  )|[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda sign: repr(sign[0])[1:-1], message)
        return f"{moment:%Y-%m-%dT%H:%M:%SZ} {coloured(level, sys.stderr, self.environ)} {message}"


def set_up_logging(arguments: Mapping[str, Any], secrets: Iterable[str | None], environ: Mapping[str, str]) -> None:
    """One handler on stderr, without secrets, whoever logs them; set up again once they are known."""
    handler = logging.StreamHandler(sys.stderr)
    handler.name = "uploader"
    handler.setFormatter(LogLines(arguments.get("log_format") == "json", environ))
    SECRETS[:] = [secret for secret in secrets if secret]
    verbose = arguments.get("verbose") or 0
    if verbose < 2:
        # delta-rs would print debug structures on stderr; what matters of them comes as an error of ours.
        os.environ.setdefault("RUST_LOG", "off")
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if other.name != handler.name), handler]
    root.setLevel(logging.DEBUG if verbose > 1 else logging.WARNING)
    log.setLevel(logging.DEBUG if verbose else logging.WARNING if arguments.get("quiet") else logging.INFO)


def secrets_of(config: Config, environ: Mapping[str, str]) -> list[str | None]:
    """The values that no log line may hold."""
    words, clouds = "SECRET|KEY|TOKEN|SAS|PASSWORD", "AWS|AZURE|ARM|GOOGLE|DATABRICKS"
    options = [str(v) for k, v in config.storage_options.items() if re.search(words, k, re.IGNORECASE)]
    stores = [value for name, value in environ.items() if re.fullmatch(f"({clouds})_.*({words})", name)]
    return [*(getattr(config, name) for name, setting in SETTINGS.items() if setting.secret), *options, *stores]


# What a run that ends by itself does when it is asked to. An action is broken off instead.
STOPS: list[Callable[[], None]] = []
# So many seconds an action has to clear away after itself.
GRACE_SECONDS = 5.0


def stop_event(supervisor: Supervisor) -> threading.Event:
    """An event that SIGTERM and SIGINT set, where they are heeded."""
    stop = threading.Event()

    def announce() -> None:
        supervisor.tell(STOPPING="1")
        log.info("stopping as soon as what is under way has ended; a second signal ends it at once")

    def request_stop() -> None:
        with contextlib.suppress(RuntimeError):  # No more threads.
            announcing = threading.Thread(target=announce, daemon=True)
            announcing.start()
            announcing.join(0.5)  # It may take for ever where nobody reads the log.
        stop.set()

    STOPS[:] = [request_stop]
    return stop


def heed_signals() -> None:
    """Let SIGTERM and SIGINT end the process in good order, and a second one, a second or more later, at once.

    A thread hears them. Python's own handlers have to wait while the main thread is in a long call into C, and wait
    for good for a lock that it holds itself.
    """
    hears, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and a shell's background want it
            signal.signal(number, break_off)
    threading.Thread(target=hear, args=[hears], daemon=True).start()


def break_off(number: int, _frame: object) -> None:
    """End an action by an exception, which lets it clear away after itself; by one alone."""
    if not STOPS:
        for heeded in (signal.SIGTERM, signal.SIGINT):
            signal.signal(heeded, lambda *_: None)
        raise SystemExit(128 + number)


def end_at_once() -> None:
    """Let signals end the process by themselves: deltalake lets no thread run while it reads a query's result."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is break_off:
            signal.signal(number, signal.SIG_DFL)


def hear(pipe: int) -> None:
    """Pass the first request on; at a second one, or where an action does not end, end the process.

    `uv run` passes on what its whole group was sent, so the same request can come twice.
    """
    import select

    [number], began = os.read(pipe, 1), time.monotonic()
    if STOPS:
        STOPS[0]()
    while select.select([pipe], [], [], None if STOPS else GRACE_SECONDS)[0]:
        [number] = os.read(pipe, 1)
        if time.monotonic() - began >= 1:
            break
    for directory in COPIES:
        shutil.rmtree(directory, ignore_errors=True)
    os._exit(128 + number)


def run_for_ever(
    one_cycle: Callable[[], Tally], interval: float, stop: threading.Event, rest: Wait, now: Clock = time.monotonic
) -> None:
    """Cycle until `stop` is set, which also ends the `rest` between. What may pass by itself is tried again."""
    outage = Outage()
    while not stop.is_set():
        wait = interval
        try:
            sent = one_cycle().sent
            if outage.failures and (sent or not stop.is_set()):
                age = age_text(now() - outage.began)
                log.info("reachable again after %s; %s sent", age, counted(sent, "row"))
            outage = Outage()
        except (Unreachable, NotReady) as error:
            wait = outage.failed(error, now(), interval, LONGEST_WAIT * interval)
        except UploaderError as error:
            if error.is_final:
                raise
            if not error.is_said:
                log_error(error, "" if stop.is_set() else f"; trying again in {age_text(interval)}")
        rest(wait)


def watch_over(fleet: Fleet) -> Watch:
    """What watches a fleet's cycles, its metrics served where that is wanted."""
    config, saved = fleet.config, last_cycle(fleet.config.state_dir)
    streams = saved.get("streams", {}).items()
    # Those of the other form have the labels of these.
    figures = {name: remembered(Figures, each) for name, each in streams if bool(name) == bool(config.tables)}
    watch = Watch(fleet, figures)
    for each in figures.values():
        each.waiting = each.oldest = None  # has to be looked for anew
    if config.metrics_file:
        refuse_other_content(config.metrics_file)
    if config.metrics_address is not None or config.metrics_file:
        watch.metrics = Metrics(lambda: watch.figures.values())
    if config.status_table:
        watch.status = StatusTable(fleet, remembered(LastReport, saved.get("report")))
    if watch.metrics and config.metrics_address is not None:
        watch.metrics.serve(config.metrics_address, functools.partial(health, config))
    return watch


def upload(config: Config, environ: Mapping[str, str], arguments: Mapping[str, Any]) -> int:
    """Run one cycle, or cycles until a signal comes, or an action that needs the state; returns the exit status."""
    supervisor = Supervisor.of(environ)
    stop = stop_event(supervisor)
    scenario_of(config)
    refuse_targets(config)
    with StateFile(config.state_dir):
        # What a killed run left: private copies, and files on their way into a volume.
        for left in [*config.state_dir.glob("copy-*"), *config.state_dir.glob("staging-*")]:
            shutil.rmtree(left, ignore_errors=True)
        fleet = Fleet(config, environ, stop, supervisor)
        with contextlib.closing(fleet.session):
            if "replay_quarantine" in arguments:
                return fleet.each(replay_quarantine)
            if "recover" in arguments:
                return fleet.each(recover)
            watch = watch_over(fleet)
            supervisor.tell(READY="1", STATUS="started")
            if config.once:
                return QUARANTINED if watch.cycle().bad else 0
            supervisor.wait(random.uniform(0, config.jitter), stop)
            run_for_ever(watch.cycle, config.interval, stop, watch.rest)
            return 0


def act(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    """Do what the command line asks for; returns the exit status."""
    if "help_error" in arguments:
        name = arguments["help_error"]
        kind = {known.lower(): kind for known, kind in error_kinds().items()}.get(name.lower())
        if kind is None:
            raise ConfigError(f"there is no error {name}", nearest(name, error_kinds()))
        print(f"{kind.__name__} (status {kind.status})\n\n{inspect.getdoc(kind)}")
        return 0
    config = load_config(arguments, environ)
    set_up_logging(arguments, secrets_of(config, environ), environ)
    if "run_query" in arguments:
        end_at_once()
    form = arguments.get("format", "table")
    actions: dict[str, Callable[[], int | None]] = {
        "init": lambda: print_init(config),
        "check": lambda: check(config, environ, arguments.get("log_format") == "json"),
        "run_query": lambda: run_query(config, environ, arguments["run_query"], form),
        "status": lambda: print_status(config, form),
        "healthcheck": lambda: healthcheck(config),
        "print_ddl": lambda: print_ddl(config, arguments["print_ddl"]),
        "compact": lambda: compact(config, form),
        "dry_run": lambda: for_each(configured(config), functools.partial(show_new, environ=environ, form=form)),
    }
    chosen = next((action for name, action in actions.items() if name in arguments), None)
    if config.state_dir is None and "init" not in arguments:  # Its file names one.
        config = dataclasses.replace(config, state_dir=Path("/state") if Path("/state").exists() else Path("state"))
        log.log(logging.DEBUG if chosen else logging.INFO, "state_dir is not set: using %s", config.state_dir)
    return chosen() or 0 if chosen else upload(config, environ, arguments)


def open_streams() -> None:
    """Give the process the standard streams that it was not given, and let them take any text.

    A file opened later would be given the number of a closed one, and the log would be written into the database.
    What a terminal or a pipe of another encoding can't show is written as `\\u2082`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # is given the lowest free number: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the program; returns its exit status. The only place where errors end."""
    arguments = parse_arguments(argv)
    set_up_logging(arguments, [], environ)
    try:
        with file_errors():
            status = act(arguments, environ)
            sys.stdout.flush()
            return status
    except Stopped as stopped:
        log.info("%s", stopped)
        return 0
    except UploaderError as error:
        log_error(error)
        return error.status
    except ModuleNotFoundError as error:
        log.error("the package %s is missing: start the script by `uv run %s`", error.name, Path(__file__).name)
        return ConfigError.status
    except BrokenPipeError:
        return 1


def run_process() -> NoReturn:
    """Run the program as a process, whose status is the program's, whatever comes once that is known.

    Python would write to streams that nobody reads any more, and be open to signals again, on its way out.
    """
    open_streams()
    heed_signals()
    try:
        status = main()
    except SystemExit as end:  # argparse's, or a signal's
        status = int(end.code or 0)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run_process()
