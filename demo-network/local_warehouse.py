#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "cryptography>=44,<51",
#     "databricks-sql-connector>=4.9,<4.10",
#     "pyarrow>=18,<27",
#     "pysail>=0.7.2,<0.8",
#     "pyspark-client>=4.1,<4.3",
#     "thrift>=0.22,<0.26",
# ]
#
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""A SQL warehouse on this machine, for trying the uploader without a Databricks account and for its tests.

    uv run --script demo-network/local_warehouse.py --directory ./warehouse

It prints one line of JSON when it is ready: host, port, http_path, ca_file, token_file, log_file, directory. Point the
uploader at it with DATABRICKS_HOST=localhost:PORT, DATABRICKS_HTTP_PATH, DATABRICKS_TOKEN_FILE and DATABRICKS_CA_FILE.

What is real
  * The protocol: Thrift over HTTPS as the unmodified databricks-sql-connector speaks it, with its service classes;
    sessions, direct results, polling, cancelling, volumes by presigned addresses, native parameters.
  * TLS: an authority of its own and a certificate for localhost and 127.0.0.1. Bearer tokens are checked, OAuth tokens
    for service principals are issued and expire.
  * SQL: Sail, a Spark SQL engine, parses and runs the statements, in ANSI mode.
  * Tables: Delta tables under DIRECTORY/tables/CATALOG/SCHEMA/TABLE, readable by any Delta reader. NOT NULL is enforced.
  * COPY INTO remembers the files of each table for good, and runs one at a time per table.

What is not
  * There is no Unity Catalog: no grants, no information_schema, and the catalogs are those named by --catalogs. Any valid
    token may do everything. Table names are found in any case after FROM, JOIN and INTO only.
  * Statements that change one table run one after another; Databricks lets blind INSERTs run side by side.
  * Clauses without meaning here are taken off before the engine sees a statement: CLUSTER BY, PRIMARY KEY and FOREIGN
    KEY, table properties other than delta.columnMapping.mode. DEFAULT is kept here, not in the table. VARCHAR(n) is
    STRING. ALTER TABLE, OPTIMIZE, VACUUM, identity and generated columns are refused; views last as long as a session.
  * from_json(..., map('mode', 'FAILFAST')): the engine reads what doesn't fit as NULL, so literal documents are checked
    here first, and refused as Spark refuses them. Non-finite numbers are refused there; CAST('NaN' AS DOUBLE) works.
  * The engine stores an INT into a TIMESTAMP column as microseconds, where Databricks refuses the statement.
  * COPY INTO reads Parquet only, and its columns are cast to the target's types.
  * Results come as Thrift columns, never as Arrow or cloud files. Times, prices and speed prove nothing about Databricks.

Told to fail (--fail RULE, or POST /admin/fail): RULE is a JSON object
  match    a regular expression, searched in the Thrift call's name and in the first 4000 characters of the statement
  when     "before" (default) or "after" the call was carried out
  action   "status" (with status, retry_after), "drop" (closed without an answer), "reset" (TCP reset), "delay" (the answer
           is held back for seconds), "slow" (the statement takes seconds longer; the client polls), "zombie" (dropped at
           once, carried out seconds later), "error" (with message, sqlstate)
  times    how often (1; -1: for ever), skip: how many matches to let pass first (0)
Other requests, all with the bearer token: GET /admin/log, DELETE /admin/fail, POST /admin/starting {"seconds", "how":
"refuse" or "operations"}, POST /admin/close_sessions, POST /admin/expire_tokens.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import functools
import hmac
import http.server
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
import urllib.parse
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

HTTP_PATH = "/sql/1.0/warehouses/local"
STATEMENT_LIMIT = 16 * 1024 * 1024  # bytes of statement text that Databricks takes
PARAMETER_LIMIT = 255  # parameters of one statement that Databricks takes
DIRECT_RESULTS_WAIT = 5.0  # seconds until a client is told to poll
SETTINGS = {  # what a SQL warehouse lets a session set, with its default
    "ANSI_MODE": "true",
    "ENABLE_PHOTON": "true",
    "LEGACY_TIME_PARSER_POLICY": "EXCEPTION",
    "MAX_FILE_PARTITION_BYTES": "128m",
    "QUERY_TAGS": "",
    "READ_ONLY_EXTERNAL_METASTORE": "false",
    "STATEMENT_TIMEOUT": "172800",
    "TIMEZONE": "UTC",
    "USE_CACHED_RESULT": "true",
}

# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Errors
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class SqlError(Exception):
    """A statement failed; its text reads as Databricks writes it: [CONDITION] what happened. SQLSTATE: 42P01."""

    def __init__(self, condition: str, sqlstate: str, text: str) -> None:
        super().__init__(f"[{condition}] {text.rstrip('. ')}. SQLSTATE: {sqlstate}")
        self.sqlstate = sqlstate


ENGINE_ERRORS = (  # what the engine's messages mean in Databricks' words
    (r"TABLE_OR_VIEW_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND", "42P01"),
    (r"Database not found", "SCHEMA_NOT_FOUND", "42704"),
    (r"DELTA_NOT_NULL", "DELTA_NOT_NULL_CONSTRAINT_VIOLATED", "23502"),
    (r"found .* expected", "PARSE_SYNTAX_ERROR", "42601"),
    (r"does not match number of columns|fields, but table schema", "INSERT_COLUMN_ARITY_MISMATCH", "21S01"),
    (r"too large to store in a Decimal", "NUMERIC_VALUE_OUT_OF_RANGE", "22003"),
    (r"(?i)can('t|not) cast|CAST_INVALID_INPUT|invalid timestamp", "CAST_INVALID_INPUT", "22018"),
    (r"missing from the schema|cannot resolve|not found for INSERT", "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", "42703"),
    (r"unknown function", "UNRESOLVED_ROUTINE", "42883"),
    (r"divide by zero", "DIVIDE_BY_ZERO", "22012"),
)


def engine_error(error: Exception) -> SqlError:
    """The engine's exception as an error of a statement."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = re.sub(r"^(invalid argument: |Table not found: )?(\[[A-Z_]+\] )?", "", text)
    for pattern, condition, sqlstate in ENGINE_ERRORS:
        if re.search(pattern, str(error), re.DOTALL):
            return SqlError(condition, sqlstate, text)
    return SqlError("UNSUPPORTED_FEATURE" if "Unsupported" in type(error).__name__ else "ENGINE_ERROR", "0A000", text)


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# SQL text: just enough of a reader to find names, column lists and clauses; the engine parses everything else
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

LEXEMES = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<string>[rR]?'[^'\\]*+(?:\\.[^'\\]*+)*+'|[rR]?"[^"\\]*+(?:\\.[^"\\]*+)*+")
    |(?P<quoted>`(?:[^`]|``)*`)
    |(?P<word>\w+)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """One lexeme: its kind ("string", "quoted", "word", "mark" or "end"), its text, and where it stands."""

    kind: str
    text: str
    start: int
    end: int


def tokens(sql: str) -> Iterator[Token]:
    """The lexemes of a statement without spaces and comments, read as they are asked for."""
    for match in LEXEMES.finditer(sql):
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match.group(), match.start(), match.end())


class Words:
    """A position in a statement that moves over what it recognises."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._stream = tokens(sql)
        self._read: list[Token] = []
        self._next = 0

    def peek(self, ahead: int = 0) -> Token:
        """The token that comes next, or the one so many after it."""
        while len(self._read) <= self._next + ahead:
            end = len(self.sql)
            self._read.append(next(self._stream, Token("end", "", end, end)))
        return self._read[self._next + ahead]

    def take(self) -> Token:
        """The next token, which is passed."""
        token = self.peek()
        self._next += 1
        return token

    def accept(self, *words: str) -> bool:
        """Pass these words or marks if they come next."""
        coming = [self.peek(i) for i in range(len(words))]
        if any(t.text.upper() != word or t.kind not in ("word", "mark") for t, word in zip(coming, words, strict=True)):
            return False
        self._next += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Pass these words, or refuse the statement."""
        if not self.accept(*words):
            raise self.wrong(" ".join(words))

    def wrong(self, expected: str) -> SqlError:
        """The syntax error at this position."""
        found = self.peek()
        what = repr(found.text[:40]) if found.kind != "end" else "end of input"
        return SqlError("PARSE_SYNTAX_ERROR", "42601", f"Syntax error at or near {what}: expected {expected}")

    def identifier(self) -> str:
        """A plain or backquoted identifier, as written."""
        token = self.take()
        if token.kind == "quoted":
            return token.text[1:-1].replace("``", "`")
        if token.kind != "word":
            self._next -= 1
            raise self.wrong("an identifier")
        return token.text

    def name(self) -> tuple[str, ...]:
        """A name of one to three parts, in lower case, as catalogs keep them."""
        parts = [self.identifier().lower()]
        while self.accept("."):
            parts.append(self.identifier().lower())
        return tuple(parts)

    def string(self) -> str:
        """The value of a string literal; literals side by side are one."""
        if self.peek().kind != "string":
            raise self.wrong("a string")
        value = unescaped(self.take().text)
        while self.peek().kind == "string":
            value += unescaped(self.take().text)
        return value

    def group(self) -> str:
        """The text between a parenthesis that comes next and its partner."""
        self.expect("(")
        inside = self.until(closing=True)
        self.expect(")")
        return inside

    def until(self, *stops: str, closing: bool = False) -> str:
        """The text up to one of these words outside of brackets, up to the bracket that closes this one, or to the end."""
        start, depth = self.peek().start, 0
        while (token := self.peek()).kind != "end":
            if depth == 0 and (token.text.upper() in stops or (closing and token.text == ")")):
                break
            depth += (token.text in ("(", "<")) - (token.text in (")", ">"))
            self.take()
        return self.sql[start : self.peek().start].strip()

    def rest(self) -> str:
        """All text from here on, without a closing semicolon."""
        return self.sql[self.peek().start :].rstrip().rstrip(";")


def unescaped(literal: str) -> str:
    """The value of a string literal of Spark SQL, quotes included. Quick for doubled backslashes, the common case."""
    if literal[0] in "rR":
        return literal[2:-1]
    inside = literal[1:-1]
    plain = inside.replace("\\\\", "\x00") if "\x00" not in inside else "\\"
    if "\\" not in plain:
        return plain.replace("\x00", "\\")
    controls = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "0": "\0", "Z": "\x1a", "%": "\\%", "_": "\\_"}

    def value(match: re.Match[str]) -> str:
        code = match.group(1)
        return chr(int(code[1:], 16)) if len(code) > 1 else controls.get(code, code)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", value, inside, flags=re.DOTALL)


def quoted(*parts: str) -> str:
    """A name with each part in backquotes."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def text_literal(text: str) -> str:
    """A string literal of Spark SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def items(text: str) -> list[str]:
    """A list's members, split at the commas outside of brackets."""
    words, found = Words(text), []
    while words.peek().kind != "end":
        found.append(words.until(","))
        words.accept(",")
    return found


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Tables and volumes as directories
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

TableName = tuple[str, str, str]  # catalog, schema, table, in lower case


def folder(name: str) -> str:
    """A name as a directory's: what the engine would write as %20 becomes ~20~."""
    return re.sub(r"[^a-z0-9_.-]", lambda match: f"~{ord(match.group()):x}~", name)


def unfolder(name: str) -> str:
    """The name that folder() wrote."""
    return re.sub(r"~([0-9a-f]+)~", lambda match: chr(int(match.group(1), 16)), name)


class Store:
    """Which schemas and tables there are: DIRECTORY/tables/CATALOG/SCHEMA/TABLE. Safe for threads.

    Every change moves `version` on, and each table has the version at which it was made, so that engine sessions notice.
    """

    def __init__(self, directory: Path, catalogs: tuple[str, ...]) -> None:
        self.directory = directory
        self.catalogs = catalogs
        self.version = 1
        self.tables: dict[TableName, int] = {}
        self.schemas: set[tuple[str, str]] = {(catalog, "default") for catalog in catalogs}
        self._lock = threading.RLock()
        self._table_locks: dict[TableName, threading.RLock] = {}

    def load(self) -> None:
        """Find what an earlier run left."""
        for schema in self.directory.glob("tables/*/*"):
            catalog = unfolder(schema.parent.name)
            if catalog in self.catalogs:
                self.schemas.add((catalog, unfolder(schema.name)))
                for log in schema.glob("*/_delta_log"):
                    table = (catalog, unfolder(schema.name), unfolder(log.parent.name))
                    self.tables[table] = 1
                    self.settle_copy(table)

    def location(self, table: tuple[str, ...]) -> Path:
        """The directory of a table, or of a schema."""
        return self.directory.joinpath("tables", *(folder(part) for part in table))

    def lock(self, table: TableName) -> threading.RLock:
        """The lock that a statement holds while it changes a table."""
        with self._lock:
            return self._table_locks.setdefault(table, threading.RLock())

    def snapshot(self) -> tuple[int, set[tuple[str, str]], dict[TableName, int]]:
        """The version with its schemas and tables."""
        with self._lock:
            return self.version, set(self.schemas), dict(self.tables)

    def add_table(self, table: TableName, columns: list[Column]) -> int:
        """Enter a table that was made, with its columns' defaults and comments; returns the version."""
        notes = {c.name: {"default": c.default, "comment": c.comment} for c in columns if c.default or c.comment}
        (self.location(table) / "_warehouse.json").write_text(json.dumps(notes))
        with self._lock:
            self.version += 1
            self.tables[table] = self.version
            return self.version

    def add_schema(self, schema: tuple[str, str]) -> None:
        """Enter a schema."""
        self.location(schema).mkdir(parents=True, exist_ok=True)
        with self._lock:
            self.version += 1
            self.schemas.add(schema)

    def drop(self, name: tuple[str, ...]) -> None:
        """Remove a table, or a schema with its tables, and the directory."""
        with self._lock:
            self.version += 1
            self.schemas = {schema for schema in self.schemas if schema != name}
            self.tables = {t: v for t, v in self.tables.items() if t[: len(name)] != name}
        shutil.rmtree(self.location(name), ignore_errors=True)

    def notes(self, table: TableName) -> dict[str, dict[str, str | None]]:
        """By column: its default and its comment, where it has one."""
        path = self.location(table) / "_warehouse.json"
        found: dict[str, dict[str, str | None]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def commits(self, table: TableName) -> list[Path]:
        """The commit files of a table, the newest last."""
        return sorted((self.location(table) / "_delta_log").glob("[0-9]*.json"))

    def copied(self, table: TableName) -> set[str]:
        """The volume paths that COPY INTO has loaded into a table."""
        return {path for entry in self._copies(table) if entry.get("done") for path in entry["files"]}

    def note_copy(self, table: TableName, entry: dict[str, Any]) -> None:
        """Write a line about COPY INTO beside the table, durably: what is about to be loaded, or how that ended."""
        with (self.location(table) / "_copy_into.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def settle_copy(self, table: TableName) -> None:
        """Write down whether the last load was committed: nothing else has changed the table since it began."""
        entries = self._copies(table)
        if entries and "before" in entries[-1]:
            done = self.commits(table)[-1].name != entries[-1]["before"]
            self.note_copy(table, {"done": done, "files": entries[-1]["files"]})

    def _copies(self, table: TableName) -> list[dict[str, Any]]:
        path = self.location(table) / "_copy_into.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def volume_path(self, path: str) -> Path:
        """The file of a path /Volumes/CATALOG/SCHEMA/VOLUME/..., whose volume has to exist."""
        parts = [part for part in path.split("/") if part]
        if len(parts) < 4 or parts[0] != "Volumes" or ".." in parts or "." in parts:
            raise SqlError("INVALID_PARAMETER_VALUE", "22023", f"{path!r} is no path in a volume")
        volume = self.directory.joinpath("volumes", *(folder(part.lower()) for part in parts[1:4]))
        if not volume.is_dir():
            raise SqlError("VOLUME_DOES_NOT_EXIST", "42704", f"Volume {'.'.join(parts[1:4])} does not exist")
        return volume.joinpath(*parts[4:])


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# The engine
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class EngineSession:
    """One session of the engine with the tables that it knows. Its catalogs are in memory and its own."""

    def __init__(self, spark: Any) -> None:
        self.spark = spark
        self.version = 0
        self.schemas: set[tuple[str, str]] = set()
        self.tables: dict[TableName, int] = {}
        self.reusable = True

    def run(self, sql: str) -> Any:
        """Run one statement; returns a pyarrow.Table. Raises SqlError."""
        from pyspark.errors import PySparkException

        try:
            return self.spark.sql(sql).toArrow()
        except PySparkException as error:
            raise engine_error(error) from error

    def columns(self, table: TableName, notes: dict[str, dict[str, str | None]]) -> list[Column]:
        """A table's columns as its Delta log has them."""
        from pyspark.errors import PySparkException

        try:
            schema = self.spark.table(quoted(*table)).schema
        except PySparkException as error:
            raise engine_error(error) from error
        noted = [(f, notes.get(f.name, {})) for f in schema.fields]
        return [
            Column(f.name, f.dataType.simpleString(), f.nullable, note.get("comment"), note.get("default"))
            for f, note in noted
        ]

    def follow(self, store: Store) -> None:
        """Make the session's catalogs equal to the store."""
        if self.version == store.version:
            return
        version, schemas, tables = store.snapshot()
        for table in [t for t, made in self.tables.items() if tables.get(t) != made]:
            self.run(f"DROP TABLE IF EXISTS {quoted(*table)}")
        for schema in schemas - self.schemas:
            self.run(f"CREATE SCHEMA IF NOT EXISTS {quoted(*schema)}")
        for table in [t for t, made in tables.items() if self.tables.get(t) != made]:
            where = text_literal(str(store.location(table)))
            self.run(f"CREATE TABLE IF NOT EXISTS {quoted(*table)} USING delta LOCATION {where}")
        for schema in self.schemas - schemas:
            self.run(f"DROP SCHEMA IF EXISTS {quoted(*schema)} CASCADE")
        self.version, self.schemas, self.tables = version, schemas, tables


class Engine:
    """The Sail server and a stock of its sessions that wait to be used again."""

    def __init__(self, catalogs: tuple[str, ...]) -> None:
        self._catalogs = catalogs
        self._server: Any = None
        self._idle: list[EngineSession] = []

    def start(self) -> None:
        """Start Sail inside this process. Settings for real workspaces are kept away from it: it would connect."""
        for name in [n for n in os.environ if n.startswith(("DATABRICKS_", "UNITY_", "UC_", "SAIL_", "SPARK_"))]:
            del os.environ[name]
        entries = [f'{{name="{name}", type="memory", initial_database=["default"]}}' for name in self._catalogs]
        os.environ["SAIL_CATALOG__LIST"] = f"[{', '.join(entries)}]"
        os.environ["SAIL_CATALOG__DEFAULT_CATALOG"] = self._catalogs[0]
        os.environ.setdefault("RUST_LOG", "off")
        from pysail.spark import SparkConnectServer

        self._server = SparkConnectServer()
        self._server.start(background=True)
        self.put(self.take("UTC"))

    def take(self, zone: str) -> EngineSession:
        """A session of the engine in this time zone."""
        from pyspark.sql.connect.session import SparkSession

        try:
            session = self._idle.pop()
        except IndexError:
            host, port = self._server.listening_address
            session = EngineSession(SparkSession(f"sc://{host}:{port}"))
        session.spark.conf.set("spark.sql.session.timeZone", zone)
        session.run(f"USE CATALOG {quoted(self._catalogs[0])}")
        session.run("USE SCHEMA default")
        return session

    def put(self, session: EngineSession) -> None:
        """Give a session back; one that made views is given up."""
        if session.reusable:
            self._idle.append(session)
        else:
            session.spark.stop()


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Statements
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its type in SQL, whether NULL is allowed, its comment, and its default in SQL."""

    name: str
    type: str
    nullable: bool = True
    comment: str | None = None
    default: str | None = None


@dataclass(frozen=True)
class Result:
    """A statement's answer: a pyarrow.Table, the number of rows changed, and whether the client has to move a file."""

    table: Any
    modified: int | None = None
    staging: bool = False


@dataclass
class Session:
    """A client's session."""

    guid: bytes
    engine: EngineSession
    catalog: str
    schema: str
    address: str
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))

    def qualified(self, name: tuple[str, ...]) -> TableName:
        """A table's full name, from one to three parts."""
        if len(name) > 3:
            raise SqlError("IDENTIFIER_TOO_MANY_NAME_PARTS", "42601", f"{'.'.join(name)} has more than three parts")
        catalog, schema, table = ((self.catalog, self.schema)[: 3 - len(name)] + name)[:3]
        return (catalog, schema, table)


class Operation:
    """One statement on its way: asked for, running, done or cancelled."""

    def __init__(self, number: int, session: Session, text: str, delay: float) -> None:
        self.guid = uuid.uuid4().bytes
        self.number = number
        self.session = session
        self.text = text
        self.delay = delay
        self.started = time.monotonic()
        self.done = threading.Event()
        self.stopped = threading.Event()
        self.reason: SqlError | None = None
        self.result: Result | None = None
        self.error: SqlError | None = None
        self.offset = 0

    def cancel(self, reason: SqlError) -> None:
        """Stop the statement; what it already committed stays."""
        self.reason = self.reason or reason
        self.stopped.set()
        if not self.done.is_set():
            self.session.engine.spark.interruptAll()

    def check(self) -> None:
        """Raise if the statement was stopped."""
        if self.reason:
            raise self.reason


@dataclass
class Run:
    """What a statement's function works with."""

    store: Store
    session: Session
    operation: Operation
    words: Words
    presign: Callable[[str, str, Path], str]

    @property
    def engine(self) -> EngineSession:
        """The engine's session, which knows all tables."""
        return self.session.engine

    def table(self, name: tuple[str, ...]) -> TableName:
        """The full name of a table that exists."""
        table = self.session.qualified(name)
        if table not in self.store.tables:
            text = f"The table or view {quoted(*name)} cannot be found. Verify the spelling and correctness of the name"
            raise SqlError("TABLE_OR_VIEW_NOT_FOUND", "42P01", text)
        return table

    def columns(self, table: TableName) -> list[Column]:
        """A table's columns."""
        return self.engine.columns(table, self.store.notes(table))


def rows(**columns: list[Any]) -> Result:
    """A small answer; columns of None are text."""
    import pyarrow

    def kind(values: list[Any]) -> Any:
        samples = {type(value) for value in values} - {type(None)}
        return pyarrow.array(values, pyarrow.string() if samples <= {str} else None)

    return Result(pyarrow.table({name: kind(values) for name, values in columns.items()}))


def query(run: Run) -> Result:
    """Anything that only reads, and whatever the engine makes of the rest."""
    check_documents(run.operation.text)
    return Result(run.engine.run(found_in_any_case(run)))


def found_in_any_case(run: Run) -> str:
    """The statement with capital letters taken from the names of tables: the engine's catalogs tell cases apart."""
    if len(run.operation.text) > 1_000_000:
        return run.operation.text
    words, parts, done = Words(run.operation.text), [], 0
    while words.peek().kind != "end":
        if not (words.take().text.upper() in ("FROM", "JOIN") and words.peek().kind in ("word", "quoted")):
            continue
        start = words.peek().start
        table = run.session.qualified(words.name())
        written = words.sql[start : words.peek().start].rstrip()
        if table in run.store.tables and written != written.lower():
            parts += [words.sql[done:start], quoted(*table), " "]
            done = words.peek().start
    return "".join([*parts, words.sql[done:]])


INTEGERS = {"tinyint": 8, "byte": 8, "smallint": 16, "short": 16, "int": 32, "integer": 32, "bigint": 64, "long": 64}


def check_documents(sql: str) -> None:
    """Refuse from_json('…', 'ARRAY<STRUCT<…>>', map('mode', 'FAILFAST')) with values that don't fit."""
    for match in re.finditer(r"\bfrom_json\s*\(\s*(?=['\"])", sql[:100_000], re.IGNORECASE):
        words = Words(sql[match.end() :])
        document = words.string()
        if words.accept(",") and words.peek().kind == "string":
            schema = re.fullmatch(r"(?is)\s*array\s*<\s*struct\s*<(.*)>\s*>\s*", words.string())
            if schema and "FAILFAST" in words.until(closing=True).upper():
                check_document(document, schema.group(1))


def check_document(document: str, fields: str) -> None:
    """Refuse a JSON array of objects that doesn't fit these fields, as Spark's FAILFAST mode does."""
    malformed = functools.partial(SqlError, "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION", "22023")
    try:
        records = json.loads(document, parse_constant=str)
    except ValueError as error:
        raise malformed(f"Malformed records are detected in record parsing: {error}") from error
    for item in items(fields):
        words = Words(item)
        name, _, kind = words.identifier(), words.accept(":"), words.rest().lower()
        for record in records if isinstance(records, list) else [None]:
            if not isinstance(record, dict) or not fits(record.get(name), kind):
                raise malformed(f"Malformed records are detected in record parsing: {kind} {name}: {record!r:.200}")


def fits(value: Any, kind: str) -> bool:
    """Whether a JSON value can be read as this type."""
    if value is None or kind == "string":
        return True
    if bits := INTEGERS.get(kind):
        return type(value) is int and -(1 << bits - 1) <= value < 1 << bits - 1
    if kind in ("double", "float"):
        return type(value) in (int, float)
    return type(value) is bool if kind == "boolean" else not isinstance(value, bool)


# ── Session statements ────────────────────────────────────────────────────────────────────────────────────────────────


def use(run: Run) -> Result:
    """USE [CATALOG | SCHEMA | DATABASE] name."""
    catalog_only = run.words.accept("CATALOG")
    if not catalog_only:
        run.words.accept("SCHEMA") or run.words.accept("DATABASE")
    name = run.words.name()
    enter(run.store, run.session, *((name[0], "default") if catalog_only else (run.session.catalog, *name)[-2:]))
    return rows()


def enter(store: Store, session: Session, catalog: str, schema: str) -> None:
    """Make a schema the session's own."""
    if catalog not in store.catalogs:
        raise SqlError("NO_SUCH_CATALOG_EXCEPTION", "42704", f"Catalog '{catalog}' was not found")
    if (catalog, schema) not in store.schemas:
        raise SqlError("SCHEMA_NOT_FOUND", "42704", f"The schema {quoted(catalog, schema)} cannot be found")
    session.engine.follow(store)
    session.engine.run(f"USE CATALOG {quoted(catalog)}")
    session.engine.run(f"USE SCHEMA {quoted(schema)}")
    session.catalog, session.schema = catalog, schema


def set_(run: Run) -> Result:
    """SET name [= value], SET TIME ZONE 'zone'."""
    if run.words.accept("TIME", "ZONE"):
        configure(run.session, "TIMEZONE", run.words.string())
        return rows(key=["TIMEZONE"], value=[run.session.settings["TIMEZONE"]])
    name = run.words.until("=")
    if run.words.accept("="):
        configure(run.session, name, run.words.rest().strip().strip("'\""))
    if name.upper() not in run.session.settings:
        raise unavailable(name)
    return rows(key=[name], value=[run.session.settings[name.upper()]])


def configure(session: Session, name: str, value: str) -> None:
    """Set one of the settings that a SQL warehouse has."""
    if name.upper() not in SETTINGS:
        raise unavailable(name)
    if name.upper() == "TIMEZONE":
        try:
            ZoneInfo(value)
        except (ValueError, ZoneInfoNotFoundError) as error:
            raise SqlError("INVALID_CONF_VALUE.TIME_ZONE", "22022", f"Cannot resolve the time zone {value!r}") from error
        session.engine.spark.conf.set("spark.sql.session.timeZone", value)
    if name.upper() == "STATEMENT_TIMEOUT" and not value.isdigit():
        raise SqlError("INVALID_CONF_VALUE.TYPE_MISMATCH", "22022", f"STATEMENT_TIMEOUT {value!r} is no number of seconds")
    session.settings[name.upper()] = value


def unavailable(name: str) -> SqlError:
    """The error for a setting that a SQL warehouse doesn't have."""
    return SqlError("CONFIG_NOT_AVAILABLE", "42K0I", f"Configuration {name} is not available")


# ── Making and removing ───────────────────────────────────────────────────────────────────────────────────────────────


def create(run: Run) -> Result:
    """CREATE SCHEMA | DATABASE | VOLUME | TABLE; views are the engine's, and the session's alone."""
    replace = run.words.accept("OR", "REPLACE")
    if run.words.accept("SCHEMA") or run.words.accept("DATABASE"):
        return create_schema(run)
    if run.words.accept("VOLUME"):
        lenient = run.words.accept("IF", "NOT", "EXISTS")
        volume = run.store.directory.joinpath("volumes", *map(folder, run.session.qualified(run.words.name())))
        return make_directory(volume, lenient)
    if run.words.accept("TABLE"):
        return create_table(run, replace)
    run.engine.reusable = False
    return query(run)


def create_schema(run: Run) -> Result:
    """CREATE SCHEMA [IF NOT EXISTS] name."""
    lenient = run.words.accept("IF", "NOT", "EXISTS")
    schema = schema_name(run, run.words.name())
    if schema in run.store.schemas and not lenient:
        raise SqlError("SCHEMA_ALREADY_EXISTS", "42P06", f"Cannot create schema {quoted(*schema)}: it already exists")
    if schema[0] not in run.store.catalogs:
        raise SqlError("NO_SUCH_CATALOG_EXCEPTION", "42704", f"Catalog '{schema[0]}' was not found")
    if schema not in run.store.schemas:
        run.store.add_schema(schema)
    return rows()


def schema_name(run: Run, name: tuple[str, ...]) -> tuple[str, str]:
    """A schema's full name, from one or two parts."""
    return run.session.qualified((*name, "x"))[:2]


def make_directory(path: Path, lenient: bool) -> Result:
    """Make a volume's directory."""
    if path.exists() and not lenient:
        raise SqlError("VOLUME_ALREADY_EXISTS", "42723", "Cannot create the volume: it already exists")
    path.mkdir(parents=True, exist_ok=True)
    return rows()


def create_table(run: Run, replace: bool) -> Result:
    """CREATE [OR REPLACE] TABLE [IF NOT EXISTS] name [(columns)] [clauses] [AS query], as a Delta table."""
    lenient = run.words.accept("IF", "NOT", "EXISTS")
    table = run.session.qualified(run.words.name())
    with run.store.lock(table):
        if table in run.store.tables and not replace:
            if lenient:
                return rows()
            raise SqlError("TABLE_OR_VIEW_ALREADY_EXISTS", "42P07", f"Cannot create table {quoted(*table)}: it exists")
        if table[:2] not in run.store.schemas:
            raise SqlError("SCHEMA_NOT_FOUND", "42704", f"The schema {quoted(*table[:2])} cannot be found")
        columns = columns_of(run.words.group()) if run.words.peek().text == "(" else []
        statement = table_statement(run, table, columns)
        if table in run.store.tables:
            run.store.drop(table)
            run.engine.follow(run.store)
        run.engine.run(statement)
        run.engine.tables[table] = run.store.add_table(table, columns)
    return rows()


def columns_of(text: str) -> list[Column]:
    """The columns of a CREATE TABLE. Keys, which only inform on Databricks, are left out."""
    keys = ("CONSTRAINT", "PRIMARY", "FOREIGN")
    return [column_of(Words(item)) for item in items(text) if Words(item).take().text.upper() not in keys]


def column_of(words: Words) -> Column:
    """One column: name, type, NOT NULL, COMMENT, DEFAULT; PRIMARY KEY is passed over."""
    ends = ("NOT", "COMMENT", "DEFAULT", "PRIMARY", "CONSTRAINT", "GENERATED", "COLLATE", "MASK")
    name, kind, nullable, comment, default = words.identifier(), words.until(*ends), True, None, None
    while words.peek().kind != "end":
        if words.accept("NOT", "NULL"):
            nullable = False
        elif words.accept("COMMENT"):
            comment = words.string()
        elif words.accept("DEFAULT"):
            default = words.until(*ends)
        elif not words.accept("PRIMARY", "KEY"):
            raise SqlError("UNSUPPORTED_FEATURE", "0A000", f"{words.peek().text} in a column is not available here")
    return Column(name, kind, nullable, comment, default)


def table_statement(run: Run, table: TableName, columns: list[Column]) -> str:
    """The engine's statement for a table: a Delta table in its own directory, without clauses of no meaning here."""
    kept = ["USING delta", f"LOCATION {text_literal(str(run.store.location(table)))}"]
    mapped = False
    while run.words.peek().kind != "end" and not run.words.accept("AS") and run.words.peek().text not in ("(", ";"):
        if run.words.accept("USING"):
            run.words.expect("DELTA")
        elif run.words.accept("PARTITIONED", "BY"):
            kept.append(f"PARTITIONED BY ({run.words.group()})")
        elif run.words.accept("CLUSTER", "BY"):
            run.words.accept("AUTO") or run.words.accept("NONE") or run.words.group()
        elif run.words.accept("COMMENT"):
            run.words.string()
        elif run.words.accept("TBLPROPERTIES"):
            mapped = re.search(r"columnMapping\.mode['\"]?\s*=\s*['\"]?name", run.words.group()) is not None
        elif run.words.peek().text.upper() in ("SELECT", "WITH", "VALUES"):
            break
        else:
            raise run.words.wrong("a clause of CREATE TABLE that is available here")
    if mapped:
        kept.append("TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")
    check_names(columns, mapped)
    listed = ", ".join(f"{quoted(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in columns)
    head = f"CREATE TABLE {quoted(*table)} {f'({listed})' if columns else ''} {' '.join(kept)}"
    return f"{head} AS {run.words.rest()}" if run.words.rest().strip() else head


def check_names(columns: list[Column], mapped: bool) -> None:
    """Refuse column names that a Delta table takes only with column mapping."""
    wrong = [c.name for c in columns if re.search(r"[ ,;{}()\n\t=]", c.name)]
    if wrong and not mapped:
        text = f"Found invalid character(s) among ' ,;{{}}()\\n\\t=' in the column names {wrong}; use column mapping"
        raise SqlError("DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES", "42K05", text)


def drop(run: Run) -> Result:
    """DROP TABLE | SCHEMA | DATABASE | VOLUME [IF EXISTS] name [CASCADE]; their files go too."""
    kind = run.words.take().text.upper()
    lenient = run.words.accept("IF", "EXISTS")
    name = run.words.name()
    if kind in ("SCHEMA", "DATABASE"):
        return drop_schema(run, schema_name(run, name), lenient)
    if kind == "VOLUME":
        volume = run.store.directory.joinpath("volumes", *map(folder, run.session.qualified(name)))
        shutil.rmtree(volume, ignore_errors=lenient)
        return rows()
    if kind != "TABLE":
        return query(run)
    if not (lenient and run.session.qualified(name) not in run.store.tables):
        table = run.table(name)
        with run.store.lock(table):
            run.store.drop(table)
    return rows()


def drop_schema(run: Run, schema: tuple[str, str], lenient: bool) -> Result:
    """Remove a schema, with its tables if told so."""
    if schema not in run.store.schemas:
        if lenient:
            return rows()
        raise SqlError("SCHEMA_NOT_FOUND", "42704", f"The schema {quoted(*schema)} cannot be found")
    if any(table[:2] == schema for table in run.store.tables) and not run.words.accept("CASCADE"):
        raise SqlError("SCHEMA_NOT_EMPTY", "2BP01", f"Cannot drop the schema {quoted(*schema)}: it has tables")
    run.store.drop(schema)
    return rows()


# ── Showing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def show(run: Run) -> Result:
    """SHOW CATALOGS | SCHEMAS | DATABASES | TABLES | VIEWS | COLUMNS | CREATE TABLE; the rest is the engine's."""
    if run.words.accept("CATALOGS"):
        return rows(catalog=list(run.store.catalogs))
    if run.words.accept("SCHEMAS") or run.words.accept("DATABASES"):
        catalog = run.words.name()[0] if run.words.accept("IN") or run.words.accept("FROM") else run.session.catalog
        return rows(databaseName=sorted(schema for c, schema in run.store.schemas if c == catalog))
    if run.words.accept("TABLES"):
        return show_tables(run)
    if run.words.accept("CREATE", "TABLE"):
        return show_create(run)
    if run.words.accept("COLUMNS"):
        run.words.accept("IN") or run.words.expect("FROM")
        return rows(col_name=[c.name for c in run.columns(run.table(run.words.name()))])
    return query(run)


def show_tables(run: Run) -> Result:
    """SHOW TABLES [IN schema] [[LIKE] 'pattern']."""
    inside = run.words.accept("IN") or run.words.accept("FROM")
    schema = schema_name(run, run.words.name()) if inside else (run.session.catalog, run.session.schema)
    if schema not in run.store.schemas:
        raise SqlError("SCHEMA_NOT_FOUND", "42704", f"The schema {quoted(*schema)} cannot be found")
    run.words.accept("LIKE")
    wanted = run.words.string().lower() if run.words.peek().kind == "string" else "*"
    pattern = "|".join(re.escape(part).replace(r"\*", ".*") for part in wanted.split("|"))
    names = sorted(t[2] for t in run.store.tables if t[:2] == schema and re.fullmatch(pattern, t[2]))
    return rows(database=[schema[1]] * len(names), tableName=names, isTemporary=[False] * len(names))


def show_create(run: Run) -> Result:
    """SHOW CREATE TABLE name."""
    table = run.table(run.words.name())
    lines = [f"  {quoted(c.name)} {c.type.upper()}{'' if c.nullable else ' NOT NULL'}" for c in run.columns(table)]
    return rows(createtab_stmt=[f"CREATE TABLE {quoted(*table)} (\n" + ",\n".join(lines) + ")\nUSING delta\n"])


def describe(run: Run) -> Result:
    """DESCRIBE [TABLE] [EXTENDED] name [AS JSON] | DETAIL name | HISTORY name; the rest is the engine's."""
    if run.words.accept("DETAIL"):
        return describe_detail(run)
    if run.words.accept("HISTORY"):
        return describe_history(run)
    if run.words.peek().text.upper() in ("CATALOG", "SCHEMA", "DATABASE", "QUERY", "FUNCTION"):
        return query(run)
    run.words.accept("TABLE")
    extended = run.words.accept("EXTENDED")
    table = run.table(run.words.name())
    columns = run.columns(table)
    if run.words.accept("AS", "JSON"):
        return rows(json_metadata=[table_json(table, columns)])
    listed = [(c.name, c.type, c.comment) for c in columns]
    if extended:
        place = str(run.store.location(table))
        listed += [("", "", ""), ("# Detailed Table Information", "", ""), ("Catalog", table[0], "")]
        listed += [("Database", table[1], ""), ("Table", table[2], ""), ("Type", "MANAGED", ""), ("Location", place, "")]
        listed += [("Provider", "delta", "")]
    return rows(**{key: [r[i] for r in listed] for i, key in enumerate(("col_name", "data_type", "comment"))})


def table_json(table: TableName, columns: list[Column]) -> str:
    """What DESCRIBE TABLE EXTENDED ... AS JSON says, as far as it is known here."""
    described = [{"name": c.name, "type": {"name": c.type}, "nullable": c.nullable} for c in columns]
    return json.dumps({"table_name": table[2], "catalog_name": table[0], "schema_name": table[1], "columns": described})


def describe_detail(run: Run) -> Result:
    """DESCRIBE DETAIL name: the columns of it that are known here."""
    table = run.table(run.words.name())
    metadata = next(e["metaData"] for path in reversed(run.store.commits(table)) for e in entries(path) if "metaData" in e)
    place = str(run.store.location(table))
    return rows(format=["delta"], id=[metadata["id"]], name=[".".join(table)], location=[place])


def describe_history(run: Run) -> Result:
    """DESCRIBE HISTORY name [LIMIT n]: the commits, the newest first."""
    table = run.table(run.words.name())
    newest = run.store.commits(table)[::-1][: int(run.words.take().text) if run.words.accept("LIMIT") else None]
    infos = [next((e["commitInfo"] for e in entries(path) if "commitInfo" in e), {}) for path in newest]
    return rows(
        version=[int(path.stem) for path in newest],
        timestamp=[datetime.datetime.fromtimestamp(i.get("timestamp", 0) / 1000, datetime.UTC) for i in infos],
        operation=[str(i.get("operation")) for i in infos],
        operationMetrics=[json.dumps(i.get("operationMetrics", {})) for i in infos],
    )


def entries(commit: Path) -> list[dict[str, Any]]:
    """The actions of a Delta commit."""
    return [json.loads(line) for line in commit.read_text().splitlines()]


# ── Changing rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def insert(run: Run) -> Result:
    """INSERT INTO | OVERWRITE [TABLE] name [(columns) | BY NAME] query. Columns left out get their default or NULL."""
    check_documents(run.operation.text)
    verb = "INSERT OVERWRITE" if run.words.accept("OVERWRITE") else "INSERT INTO"
    run.words.accept("INTO")
    run.words.accept("TABLE")
    table = run.table(run.words.name())
    columns = run.columns(table)
    given = given_columns(run, columns)
    text = f"{verb} {quoted(*table)} {arranged(columns, given, run.words.rest())}"
    count = changed(run, table, text)
    return Result(rows(num_affected_rows=[count], num_inserted_rows=[count]).table, count)


def given_columns(run: Run, columns: list[Column]) -> list[str]:
    """The columns that an INSERT names, in its order: by a list, by its query, or all."""
    if run.words.accept("BY", "NAME"):
        return list(run.engine.spark.sql(run.words.rest()).schema.names)
    if run.words.peek().text != "(" or run.words.peek(1).text.upper() in ("SELECT", "WITH", "VALUES", "("):
        return [c.name for c in columns]
    return [Words(item).identifier() for item in items(run.words.group())]


def arranged(columns: list[Column], given: list[str], source: str) -> str:
    """A query with the table's columns in their order: the engine takes neither a part of them nor equal names."""
    position = {name.lower(): i for i, name in enumerate(given)}
    unknown = [name for name in given if name.lower() not in {c.name.lower() for c in columns}]
    if unknown:
        text = f"A column with name {quoted(unknown[0])} cannot be resolved"
        raise SqlError("UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703", text)
    if len(position) < len(given):
        raise SqlError("COLUMN_ALREADY_EXISTS", "42711", f"A column is named twice in {given}")
    cells = [
        f"q.`{position[c.name.lower()]}`" if c.name.lower() in position else f"CAST({c.default or 'NULL'} AS {c.type})"
        for c in columns
    ]
    named = ", ".join(f"{cell} AS {quoted(c.name)}" for cell, c in zip(cells, columns, strict=True))
    return f"SELECT {named} FROM ({source}\n) AS q({', '.join(f'`{i}`' for i in range(len(given)))})"


def changed(run: Run, table: TableName, text: str) -> int:
    """Change a table, alone; returns the number of rows. A statement that was stopped says so only if it left nothing."""
    with run.store.lock(table):
        run.operation.check()
        before = run.store.commits(table)[-1].name
        try:
            return int(run.engine.run(text).column(0)[0].as_py())
        except SqlError:
            latest = run.store.commits(table)[-1]
            if not run.operation.reason or latest.name == before:
                raise
            info = next(entry["commitInfo"] for entry in entries(latest) if "commitInfo" in entry)
            return int(info["operationMetrics"].get("numOutputRows", 0))


def change(run: Run) -> Result:
    """DELETE FROM, UPDATE, MERGE INTO, TRUNCATE TABLE name."""
    run.words.accept("FROM") or run.words.accept("INTO")
    truncate = run.words.accept("TABLE")
    start = run.words.peek().start
    table = run.table(run.words.name())
    head = "DELETE FROM " if truncate else run.words.sql[:start]
    count = changed(run, table, f"{head}{quoted(*table)} {run.words.rest()}")
    return Result(rows(num_affected_rows=[count]).table, count)


# ── Volumes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def put(run: Run) -> Result:
    """PUT 'local file' INTO 'volume path' [OVERWRITE]: the client sends the file to an address that it is given."""
    local, _ = run.words.string(), run.words.expect("INTO")
    path = run.words.string()
    if run.store.volume_path(path).exists() and not run.words.accept("OVERWRITE"):
        raise SqlError("FILE_ALREADY_EXISTS", "42K04", f"{path} exists; use OVERWRITE to replace it")
    return staged(run, "PUT", path, localFile=[local])


def get(run: Run) -> Result:
    """GET 'volume path' TO 'local file'."""
    path, _ = run.words.string(), run.words.expect("TO")
    existing(run, path)
    return staged(run, "GET", path, localFile=[run.words.string()])


def remove(run: Run) -> Result:
    """REMOVE 'volume path'."""
    path = run.words.string()
    existing(run, path)
    return staged(run, "REMOVE", path)


def staged(run: Run, operation: str, path: str, **more: list[Any]) -> Result:
    """The answer that makes the connector move a file, at an address that needs no token."""
    verb = {"REMOVE": "DELETE"}.get(operation, operation)
    url = run.presign(verb, run.session.address, run.store.volume_path(path))
    return Result(rows(operation=[operation], presignedUrl=[url], headers=["{}"], **more).table, staging=True)


def existing(run: Run, path: str) -> Path:
    """The file or directory of a volume path."""
    found = run.store.volume_path(path)
    if not found.exists():
        raise SqlError("PATH_NOT_FOUND", "42K03", f"Path does not exist: {path}")
    return found


def list_(run: Run) -> Result:
    """LIST 'volume path'."""
    path = run.words.string().rstrip("/")
    found = sorted(p for p in existing(run, path).iterdir() if not p.name.endswith(".part"))
    return rows(
        path=[f"{path}/{p.name}{'/' if p.is_dir() else ''}" for p in found],
        name=[p.name for p in found],
        size=[p.stat().st_size for p in found],
        modification_time=[int(p.stat().st_mtime * 1000) for p in found],
    )


@dataclass
class Copy:
    """A COPY INTO as it was written."""

    table: TableName
    path: str
    columns: list[str] | None = None
    expressions: str = "*"
    files: list[str] | None = None
    pattern: str = "*"
    force: bool = False


def copy_into(run: Run) -> Result:
    """COPY INTO name [(columns)] FROM 'path' | (SELECT ... FROM 'path') FILEFORMAT = PARQUET ..., each file once only."""
    copy = parsed_copy(run)
    with run.store.lock(copy.table):
        known = set() if copy.force else run.store.copied(copy.table)
        fresh = [path for path in wanted_files(run, copy) if path not in known]
        count = copy_files(run, copy, fresh) if fresh else 0
    return Result(rows(num_affected_rows=[count], num_inserted_rows=[count], num_skipped_corrupt_files=[0]).table, count)


def parsed_copy(run: Run) -> Copy:
    """Read the statement."""
    words = run.words
    words.expect("INTO")
    copy = Copy(run.table(words.name()), "")
    if words.peek().text == "(":
        copy.columns = [Words(item).identifier() for item in items(words.group())]
    words.accept("BY", "POSITION")
    words.expect("FROM")
    source = Words(words.group()) if words.peek().text == "(" else words
    if source is not words:
        source.expect("SELECT")
        copy.expressions = source.until("FROM")
        source.expect("FROM")
    copy.path = source.string()
    while words.peek().kind != "end" and words.peek().text != ";":
        copy_clause(words, copy)
    return copy


def copy_clause(words: Words, copy: Copy) -> None:
    """One of the clauses after the source."""
    if words.accept("FILEFORMAT", "="):
        words.expect("PARQUET")
    elif words.accept("FILES", "="):
        copy.files = [Words(item).string() for item in items(words.group())]
    elif words.accept("PATTERN", "="):
        copy.pattern = words.string()
    elif words.accept("COPY_OPTIONS"):
        copy.force = re.search(r"force['\"]?\s*=\s*['\"]?true", words.group(), re.IGNORECASE) is not None
    elif words.accept("FORMAT_OPTIONS"):
        words.group()
    else:
        raise words.wrong("a clause of COPY INTO that is available here")


def wanted_files(run: Run, copy: Copy) -> list[str]:
    """The volume paths of the files to load."""
    place = existing(run, copy.path)
    base = copy.path.rstrip("/")
    if copy.files is not None:
        names = [f"{base}/{name}" for name in copy.files]
    elif place.is_file():
        names = [base]
    else:
        names = [f"{base}/{p.relative_to(place)}" for p in sorted(place.rglob(copy.pattern)) if p.is_file()]
    return [name for name in names if existing(run, name)]


def copy_files(run: Run, copy: Copy, fresh: list[str]) -> int:
    """Load files in one commit and write down that they are loaded, so that a crash in between is seen later."""
    paths = [str(run.store.volume_path(path)) for path in fresh]
    union = " UNION ALL ".join(f"SELECT * FROM parquet.{quoted(path)}" for path in paths)
    source = f"SELECT {copy.expressions} FROM ({union})"
    given = copy.columns or list(run.engine.spark.sql(source).schema.names)
    text = f"INSERT INTO {quoted(*copy.table)} {arranged(run.columns(copy.table), given, source)}"
    run.store.note_copy(copy.table, {"before": run.store.commits(copy.table)[-1].name, "files": fresh})
    try:
        return changed(run, copy.table, text)
    finally:
        run.store.settle_copy(copy.table)


VERBS: dict[str, Callable[[Run], Result]] = {
    "USE": use,
    "SET": set_,
    "CREATE": create,
    "DROP": drop,
    "SHOW": show,
    "DESCRIBE": describe,
    "DESC": describe,
    "INSERT": insert,
    "DELETE": change,
    "UPDATE": change,
    "MERGE": change,
    "TRUNCATE": change,
    "COPY": copy_into,
    "PUT": put,
    "GET": get,
    "REMOVE": remove,
    "LIST": list_,
}


def bound(text: str, parameters: list[Any]) -> str:
    """A statement with its parameters' values in their places."""
    if len(parameters) > PARAMETER_LIMIT:
        text = f"{len(parameters)} parameters were given but the limit is {PARAMETER_LIMIT + 1}"
        raise SqlError("INVALID_PARAMETER_VALUE", "22023", text)
    named = {p.name: parameter_literal(p) for p in parameters if p.name}
    unnamed = iter([parameter_literal(p) for p in parameters if not p.name])
    parts, done, stream = [], 0, list(tokens(text))
    for token, following in zip(stream, [*stream[1:], None], strict=True):
        name = following.text if token.text == ":" and following and following.start == token.end else None
        if (value := next(unnamed, None) if token.text == "?" else named.get(name or "")) is not None:
            parts += [text[done : token.start], value]
            done = following.end if name and following else token.end
    return "".join([*parts, text[done:]])


def parameter_literal(parameter: Any) -> str:
    """One native parameter of the connector as SQL."""
    kind = (parameter.type or "STRING").upper()
    if kind == "VOID" or parameter.value is None:
        return "NULL"
    text = text_literal(parameter.value.stringValue)
    return text if kind == "STRING" else f"CAST({text} AS {kind})"


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Faults and the log
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Fault:
    """One rule of how to fail; see the top of this file."""

    match: str
    action: str
    when: str = "before"
    status: int = 503
    retry_after: int | None = None
    seconds: float = 0.0
    message: str = "[INTERNAL_ERROR] The statement was told to fail. SQLSTATE: XX000"
    sqlstate: str = "XX000"
    times: int = 1
    skip: int = 0

    def __post_init__(self) -> None:
        re.compile(self.match)
        if self.action not in ("status", "drop", "reset", "delay", "slow", "zombie", "error"):
            raise ValueError(f"unknown action {self.action!r}")
        if self.when not in ("before", "after"):
            raise ValueError(f"when is 'before' or 'after', not {self.when!r}")


class Faults:
    """The rules in force. Safe for threads."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()
        self.starting_until = 0.0
        self.starting_how = "refuse"

    def add(self, rule: dict[str, Any]) -> None:
        """Add a rule; raises TypeError, ValueError or re.error for one that makes no sense."""
        with self._lock:
            self._rules.append(Fault(**rule))

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()

    def start_over(self, seconds: float, how: str) -> None:
        """Behave like a stopped warehouse that needs this long to start."""
        self.starting_how = how
        self.starting_until = time.monotonic() + seconds

    def starting(self, call: str) -> bool:
        """Whether this call is too early."""
        early = time.monotonic() < self.starting_until
        return early and (self.starting_how == "refuse" or call not in ("OpenSession", "CloseSession"))

    def take(self, call: str, text: str, when: str) -> Fault | None:
        """The first rule that fits, which is used up by one."""
        with self._lock:
            for rule in self._rules:
                hit = re.search(rule.match, call) or re.search(rule.match, text[:4000], re.IGNORECASE)
                if rule.when != when or rule.times == 0 or not hit:
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                return rule
        return None


class Log:
    """One JSON line per statement in DIRECTORY/statements.jsonl and a short one on stderr; counts of calls."""

    def __init__(self, path: Path, quiet: bool) -> None:
        self.path = path
        self.quiet = quiet
        self.statements: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.requests = 0
        self._number = 0
        self._lock = threading.Lock()

    def number(self) -> int:
        """A statement's number."""
        with self._lock:
            self._number += 1
            return self._number

    def request(self) -> None:
        """Count a request, other than those to /admin."""
        with self._lock:
            self.requests += 1

    def call(self, name: str) -> None:
        """Count a Thrift call."""
        with self._lock:
            self.calls[name] += 1

    def statement(self, number: int, text: str, seconds: float, outcome: str, modified: int | None, detail: str) -> None:
        """Write down how a statement ended: "ok", "error" or "not executed"."""
        entry = {"number": number, "at": time.time(), "seconds": round(seconds, 4), "outcome": outcome}
        entry |= {"rows": modified, "bytes": len(text.encode()), "statement": text[:1000], "detail": detail}
        with self._lock:
            self.statements.append(entry)
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        if not self.quiet:
            line = " ".join(text[:100].split())
            print(f"#{number} {outcome} {seconds:.3f}s {modified or ''} {line} {detail}".rstrip(), file=sys.stderr)

    def answer(self) -> dict[str, Any]:
        """What GET /admin/log answers."""
        with self._lock:
            opened = self.calls["OpenSession"]
            counts = {"requests": self.requests, "sessions_opened": opened, "calls": dict(self.calls)}
            return counts | {"statements": list(self.statements)}


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# The Thrift service
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def arrow_type_name(kind: Any) -> str:
    """A pyarrow type as Thrift's word for it, without _TYPE."""
    import pyarrow.types as is_

    names = {"bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT"}
    names |= {"float": "FLOAT", "double": "DOUBLE", "string": "STRING", "large_string": "STRING", "null": "NULL"}
    names |= {"binary": "BINARY", "large_binary": "BINARY", "date32[day]": "DATE", "string_view": "STRING"}
    tests = (is_.is_timestamp, "TIMESTAMP"), (is_.is_decimal, "DECIMAL"), (is_.is_map, "MAP"), (is_.is_struct, "STRUCT")
    found = [name for test, name in (*tests, (is_.is_list, "ARRAY")) if test(kind)]
    return found[0] if found else names.get(str(kind), "STRING")


def cell_text(value: Any, zone: ZoneInfo) -> str:
    """A value without a column type of its own in Thrift, as text; times are in the session's zone."""
    if isinstance(value, datetime.datetime):
        local = value.astimezone(zone) if value.tzinfo else value
        return local.replace(tzinfo=None).isoformat(" ")
    return json.dumps(value, default=str) if isinstance(value, (list, dict, tuple)) else str(value)


class Service:
    """Answers Thrift calls. Every method takes and returns the connector's own request and response classes."""

    def __init__(self, store: Store, engine: Engine, log: Log, presign: Callable[[str, str, Path], str]) -> None:
        from databricks.sql.thrift_api.TCLIService import TCLIService, ttypes

        self._calls, self._t = TCLIService, ttypes
        self._store, self._engine, self._log, self._presign = store, engine, log, presign
        self._sessions: dict[bytes, Session] = {}
        self._operations: dict[bytes, Operation] = {}
        self._ok = ttypes.TStatus(statusCode=ttypes.TStatusCode.SUCCESS_STATUS)

    # ── Reading calls and writing answers ─────────────────────────────────────────────────────────────────────────────

    def read(self, body: bytes) -> tuple[str, int, Any]:
        """A call's name, its sequence number and its request."""
        from thrift.transport.TTransport import TMemoryBuffer

        protocol = self._protocol(TMemoryBuffer(body))
        name, _, sequence = protocol.readMessageBegin()
        arguments = getattr(self._calls, f"{name}_args")()
        arguments.read(protocol)
        return name, sequence, arguments.req

    def write(self, name: str, sequence: int, response: Any) -> bytes:
        """The bytes of an answer."""
        from thrift.Thrift import TMessageType
        from thrift.transport.TTransport import TMemoryBuffer

        buffer = TMemoryBuffer()
        protocol = self._protocol(buffer)
        protocol.writeMessageBegin(name, TMessageType.REPLY, sequence)
        getattr(self._calls, f"{name}_result")(success=response).write(protocol)
        protocol.writeMessageEnd()
        answer: bytes = buffer.getvalue()
        return answer

    def _protocol(self, transport: Any) -> Any:
        from thrift.protocol.TBinaryProtocol import TBinaryProtocol

        return TBinaryProtocol(transport, string_length_limit=None, container_length_limit=None)

    def refused(self, name: str, error: SqlError) -> Any:
        """The answer of a call that failed."""
        code = self._t.TStatusCode.ERROR_STATUS
        status = self._t.TStatus(statusCode=code, sqlState=error.sqlstate, errorMessage=str(error))
        return getattr(self._t, f"T{name}Resp")(status=status)

    # ── Sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def open_session(self, request: Any, address: str) -> Any:
        """OpenSession: with a namespace and settings."""
        engine = self._engine.take("UTC")
        session = Session(uuid.uuid4().bytes, engine, self._store.catalogs[0], "default", address)
        wanted = request.initialNamespace or self._t.TNamespace()
        catalog, schema = (wanted.catalogName or session.catalog).lower(), (wanted.schemaName or "default").lower()
        enter(self._store, session, catalog, schema)
        for name, value in (request.configuration or {}).items():
            if not name.startswith("spark."):
                configure(session, name, value)
        self._sessions[session.guid] = session
        return self._t.TOpenSessionResp(
            status=self._ok,
            serverProtocolVersion=self._t.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V8,
            sessionHandle=self._t.TSessionHandle(self._handle(session.guid)),
            initialNamespace=self._t.TNamespace(session.catalog, session.schema),
            canUseMultipleCatalogs=True,
            configuration={},
        )

    def close_session(self, request: Any) -> Any:
        """CloseSession: the engine's session is kept for the next client."""
        session = self._session(request)
        del self._sessions[session.guid]
        left = [o for o in list(self._operations.values()) if o.session is session]
        if all(o.done.is_set() for o in left):
            self._engine.put(session.engine)
        for operation in left:
            self._operations.pop(operation.guid, None)
        return self._t.TCloseSessionResp(status=self._ok)

    def close_all(self) -> None:
        """Forget every session, as a warehouse does when it stops."""
        self._sessions.clear()

    def _session(self, request: Any) -> Session:
        guid = request.sessionHandle.sessionId.guid
        if guid not in self._sessions:
            handle = uuid.UUID(bytes=guid)
            raise SqlError("INVALID_HANDLE.SESSION_NOT_FOUND", "HY000", f"Invalid SessionHandle: SessionHandle [{handle}]")
        return self._sessions[guid]

    def _handle(self, guid: bytes) -> Any:
        return self._t.THandleIdentifier(guid=guid, secret=guid)

    # ── Statements ────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, request: Any, delay: float = 0.0) -> Operation:
        """Start a statement in a thread of its own, so many seconds later."""
        session = self._session(request)
        operation = Operation(self._log.number(), session, request.statement, delay)
        self._operations[operation.guid] = operation
        threading.Thread(target=self._carry_out, args=(operation, request.parameters or []), daemon=True).start()
        return operation

    def _carry_out(self, operation: Operation, parameters: list[Any]) -> None:
        """Run a statement within its time, and log how it ended."""
        seconds = int(operation.session.settings["STATEMENT_TIMEOUT"])
        late = SqlError("STATEMENT_TIMEOUT", "57014", f"The statement ran longer than its STATEMENT_TIMEOUT of {seconds} s")
        timer = threading.Timer(seconds, operation.cancel, [late])
        timer.daemon = True
        timer.start()
        try:
            operation.stopped.wait(operation.delay)
            operation.check()
            operation.result = self._execute(operation, parameters)
        except SqlError as error:
            operation.error = operation.reason or error
        except Exception as error:  # a fault of this program: the client gets an error, the console the traceback
            traceback.print_exc()
            operation.error = SqlError("INTERNAL_ERROR", "XX000", repr(error))
        finally:
            timer.cancel()
            modified = operation.result.modified if operation.result else None
            outcome = "error" if operation.error else "ok"
            taken = time.monotonic() - operation.started
            self._log.statement(operation.number, operation.text, taken, outcome, modified, str(operation.error or ""))
            operation.done.set()

    def _execute(self, operation: Operation, parameters: list[Any]) -> Result:
        if len(operation.text.encode()) > STATEMENT_LIMIT:
            raise SqlError("STATEMENT_TOO_LARGE", "54000", f"The statement is larger than {STATEMENT_LIMIT} bytes")
        if parameters:
            operation.text = bound(operation.text, parameters)
        operation.session.engine.follow(self._store)
        words = Words(operation.text)
        verb = VERBS.get(words.peek().text.upper(), query)
        run = Run(self._store, operation.session, operation, words, self._presign)
        if verb is not query:
            words.take()
        return verb(run)

    def answer(self, operation: Operation, request: Any, wait: float | None) -> Any:
        """ExecuteStatement's answer: the result if it is there in time, else a handle to poll with."""
        operation.done.wait(wait)
        handle = self._t.TOperationHandle(
            self._handle(operation.guid), self._t.TOperationType.EXECUTE_STATEMENT, hasResultSet=True
        )
        direct = None
        if request.getDirectResults:
            direct = self._t.TSparkDirectResults(operationStatus=self._state(operation))
            if operation.result:
                direct.resultSetMetadata = self._metadata(operation)
                direct.resultSet = self._fetch(operation, request.getDirectResults.maxRows)
            if operation.error or (operation.result and not direct.resultSet.hasMoreRows):
                direct.closeOperation = self._t.TCloseOperationResp(status=self._ok)
                self._operations.pop(operation.guid, None)
        return self._t.TExecuteStatementResp(status=self._ok, operationHandle=handle, directResults=direct)

    def _state(self, operation: Operation) -> Any:
        states, response = self._t.TOperationState, self._t.TGetOperationStatusResp(status=self._ok, hasResultSet=True)
        if not operation.done.is_set():
            response.operationState = states.RUNNING_STATE
        elif operation.error:
            response.operationState = states.ERROR_STATE
            response.sqlState = operation.error.sqlstate
            response.errorMessage = response.displayMessage = str(operation.error)
        else:
            response.operationState = states.FINISHED_STATE
            response.numModifiedRows = operation.result.modified if operation.result else None
        return response

    def _operation(self, request: Any) -> Operation:
        guid = request.operationHandle.operationId.guid
        if guid not in self._operations:
            handle = uuid.UUID(bytes=guid)
            raise SqlError("RESOURCE_DOES_NOT_EXIST", "HY000", f"Command {handle} does not exist")
        return self._operations[guid]

    def get_operation_status(self, request: Any) -> Any:
        """GetOperationStatus: waits a while for the end, as Databricks does."""
        operation = self._operation(request)
        operation.done.wait(DIRECT_RESULTS_WAIT)
        return self._state(operation)

    def cancel_operation(self, request: Any) -> Any:
        """CancelOperation."""
        operation = self._operation(request)
        operation.cancel(SqlError("OPERATION_CANCELED", "HY008", "The statement was canceled"))
        return self._t.TCancelOperationResp(status=self._ok)

    def close_operation(self, request: Any) -> Any:
        """CloseOperation: a statement that still runs is cancelled."""
        operation = self._operations.pop(request.operationHandle.operationId.guid, None)
        if operation and not operation.done.is_set():
            operation.cancel(SqlError("OPERATION_CANCELED", "HY008", "The statement was closed"))
        return self._t.TCloseOperationResp(status=self._ok)

    # ── Results ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def get_result_set_metadata(self, request: Any) -> Any:
        """GetResultSetMetadata."""
        return self._metadata(self._finished(request))

    def fetch_results(self, request: Any) -> Any:
        """FetchResults: the next rows."""
        operation = self._finished(request)
        response = self._fetch(operation, request.maxRows)
        response.resultSetMetadata = self._metadata(operation)
        return response

    def _finished(self, request: Any) -> Operation:
        operation = self._operation(request)
        operation.done.wait()
        if operation.error:
            raise operation.error
        return operation

    def _metadata(self, operation: Operation) -> Any:
        assert operation.result is not None
        fields = operation.result.table.schema
        described = [self._t.TColumnDesc(f.name, self._type(f.type), i + 1, "") for i, f in enumerate(fields)]
        return self._t.TGetResultSetMetadataResp(
            status=self._ok,
            schema=self._t.TTableSchema(described),
            resultFormat=self._t.TSparkRowSetType.COLUMN_BASED_SET,
            lz4Compressed=False,
            isStagingOperation=operation.result.staging,
        )

    def _type(self, kind: Any) -> Any:
        name, qualifiers = arrow_type_name(kind), None
        if name == "DECIMAL":
            value = self._t.TTypeQualifierValue
            given = {"precision": value(i32Value=kind.precision), "scale": value(i32Value=kind.scale)}
            qualifiers = self._t.TTypeQualifiers(given)
        entry = self._t.TPrimitiveTypeEntry(getattr(self._t.TTypeId, f"{name}_TYPE"), qualifiers)
        return self._t.TTypeDesc([self._t.TTypeEntry(primitiveEntry=entry)])

    def _fetch(self, operation: Operation, most: int) -> Any:
        assert operation.result is not None
        table, offset = operation.result.table, operation.offset
        page = table.slice(offset, max(1, min(most or 100_000, 100_000)))
        operation.offset += page.num_rows
        zone = ZoneInfo(operation.session.settings["TIMEZONE"])
        columns = [self._column(page.column(i), zone) for i in range(page.num_columns)]
        results = self._t.TRowSet(startRowOffset=offset, rows=[], columns=columns)
        more = operation.offset < table.num_rows
        return self._t.TFetchResultsResp(status=self._ok, hasMoreRows=more, results=results)

    def _column(self, column: Any, zone: ZoneInfo) -> Any:
        """A pyarrow column as a Thrift column: values with stand-ins for NULL, and a bit for each NULL."""
        kinds = {"BOOLEAN": ("Bool", "bool", False), "TINYINT": ("Byte", "byte", 0), "SMALLINT": ("I16", "i16", 0)}
        kinds |= {"INT": ("I32", "i32", 0), "BIGINT": ("I64", "i64", 0), "BINARY": ("Binary", "binary", b"")}
        kinds |= {"FLOAT": ("Double", "double", 0.0), "DOUBLE": ("Double", "double", 0.0)}
        word, attribute, stand_in = kinds.get(arrow_type_name(column.type), ("String", "string", ""))
        values, nulls = column.to_pylist(), bytearray(len(column) // 8 + 1)
        for i, value in enumerate(values):
            if value is None:
                nulls[i // 8] |= 1 << i % 8
                values[i] = stand_in
            elif word == "String" and not isinstance(value, str):
                values[i] = cell_text(value, zone)
        filled = getattr(self._t, f"T{word}Column")(values=values, nulls=bytes(nulls))
        return self._t.TColumn(**{f"{attribute}Val": filled})

    # ── Metadata calls ────────────────────────────────────────────────────────────────────────────────────────────────

    def metadata(self, name: str, request: Any) -> Any:
        """GetCatalogs, GetSchemas, GetTables and GetColumns, all in direct results."""
        session = self._session(request)
        operation = Operation(self._log.number(), session, name, 0.0)
        session.engine.follow(self._store)
        operation.result = {"GetCatalogs": self._catalogs, "GetSchemas": self._schemas}.get(
            name, self._tables if name == "GetTables" else self._columns
        )(request, session)
        operation.done.set()
        direct = self._t.TSparkDirectResults(self._state(operation), self._metadata(operation))
        direct.resultSet = self._fetch(operation, 100_000)
        direct.closeOperation = self._t.TCloseOperationResp(status=self._ok)
        handle = self._t.TOperationHandle(self._handle(operation.guid), self._t.TOperationType.UNKNOWN, hasResultSet=True)
        return getattr(self._t, f"T{name}Resp")(status=self._ok, operationHandle=handle, directResults=direct)

    def _catalogs(self, request: Any, session: Session) -> Result:
        return rows(TABLE_CAT=list(self._store.catalogs))

    def _schemas(self, request: Any, session: Session) -> Result:
        found = [s for s in sorted(self._store.schemas) if like(request.catalogName, s[0]) and like(request.schemaName, s[1])]
        return rows(TABLE_SCHEM=[s[1] for s in found], TABLE_CATALOG=[s[0] for s in found])

    def _matching(self, request: Any) -> list[TableName]:
        wanted = (request.catalogName, request.schemaName, request.tableName)
        return [t for t in sorted(self._store.tables) if all(map(like, wanted, t))]

    def _tables(self, request: Any, session: Session) -> Result:
        found = self._matching(request)
        return rows(
            TABLE_CAT=[t[0] for t in found],
            TABLE_SCHEM=[t[1] for t in found],
            TABLE_NAME=[t[2] for t in found],
            TABLE_TYPE=["TABLE"] * len(found),
            REMARKS=[""] * len(found),
        )

    def _columns(self, request: Any, session: Session) -> Result:
        tables = self._matching(request)
        columns = [(t, i, c) for t in tables for i, c in enumerate(session.engine.columns(t, self._store.notes(t)))]
        found = [(t, i, c) for t, i, c in columns if like(request.columnName, c.name)]
        return rows(
            TABLE_CAT=[t[0] for t, _, _ in found],
            TABLE_SCHEM=[t[1] for t, _, _ in found],
            TABLE_NAME=[t[2] for t, _, _ in found],
            COLUMN_NAME=[c.name for _, _, c in found],
            TYPE_NAME=[c.type.upper() for _, _, c in found],
            NULLABLE=[int(c.nullable) for _, _, c in found],
            REMARKS=[c.comment or "" for _, _, c in found],
            COLUMN_DEF=[c.default for _, _, c in found],
            ORDINAL_POSITION=[i for _, i, _ in found],
            IS_NULLABLE=["YES" if c.nullable else "NO" for _, _, c in found],
        )


def like(pattern: str | None, name: str) -> bool:
    """Whether a name fits a JDBC pattern: % for any text, _ for any character."""
    if not pattern:
        return True
    parts = re.split(r"(\\.|%|_)", pattern)
    known = {"%": ".*", "_": "."}
    return re.fullmatch("".join(known.get(p) or re.escape(p.removeprefix("\\")) for p in parts), name, re.I) is not None


METADATA_CALLS = ("GetCatalogs", "GetSchemas", "GetTables", "GetColumns")
CALLS: dict[str, Callable[[Service, Any], Any]] = {
    "CloseSession": Service.close_session,
    "GetOperationStatus": Service.get_operation_status,
    "CancelOperation": Service.cancel_operation,
    "CloseOperation": Service.close_operation,
    "GetResultSetMetadata": Service.get_result_set_metadata,
    "FetchResults": Service.fetch_results,
}


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Certificates and tokens
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def certificates(directory: Path) -> tuple[Path, Path]:
    """The authority's certificate and the server's certificate with its key; made anew when they are missing or old."""
    authority, server = directory / "ca.pem", directory / "server.pem"
    age = time.time() - server.stat().st_mtime if server.exists() and authority.exists() else None
    if age is None or age > 300 * 86400:
        make_certificates(authority, server)
    return authority, server


def make_certificates(authority: Path, server: Path) -> None:
    """Write an authority's certificate, whose key is thrown away, and a certificate for localhost signed by it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = signed("Local SQL warehouse authority", authority_key, None)
    leaf = signed("localhost", key, authority_key)
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private(server, key.private_bytes(pem, pkcs8, plain) + leaf.public_bytes(pem))
    authority.write_bytes(root.public_bytes(pem))


def signed(name: str, key: Any, authority_key: Any | None) -> Any:
    """A certificate for a year: the authority's own, or one for localhost and 127.0.0.1."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    def title(text: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now, issuer_key = datetime.datetime.now(datetime.UTC), authority_key or key
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder().subject_name(title(name)).public_key(key.public_key())
    builder = builder.issuer_name(title("Local SQL warehouse authority")).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=365))
    builder = builder.add_extension(x509.BasicConstraints(ca=authority_key is None, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if authority_key:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    else:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


class Tokens:
    """The bearer tokens that are good now."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._issued: dict[str, float] = {}

    def issue(self, seconds: int) -> str:
        """A token for a service principal that is good for so long."""
        token = secrets.token_urlsafe(32)
        self._issued[token] = time.monotonic() + seconds
        return token

    def expire(self) -> None:
        """Let all issued tokens end now."""
        self._issued = dict.fromkeys(self._issued, 0.0)

    def refusal(self, header: str | None) -> tuple[int, str] | None:
        """Nothing for a good Authorization header, else the status and the words of the refusal."""
        kind, _, given = (header or "").partition(" ")
        if kind != "Bearer" or not given:
            return 401, "Credential was not sent or was of an unsupported type for this API."
        if hmac.compare_digest(given.encode(), self.token.encode()):
            return None
        if given not in self._issued:
            return 403, "Invalid access token."
        return None if time.monotonic() < self._issued[given] else (401, "The access token has expired.")


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# HTTP
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Dropped(Exception):
    """The connection is to be closed without an answer; `abruptly` with a TCP reset."""

    def __init__(self, abruptly: bool) -> None:
        super().__init__()
        self.abruptly = abruptly


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Shake hands here, in the connection's own thread, so that a silent client holds up nobody."""
        self.request.settimeout(20)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.request.settimeout(None)
        super().setup()

    def finish(self) -> None:
        """Close, also when the client has gone."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.request.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not printed."""

    def do_POST(self) -> None:
        """A Thrift call, a rule for failing, or a request for a token."""
        self._guarded({HTTP_PATH: self._thrift, "/oidc/v1/token": self._token}, self._other_post)

    def do_GET(self) -> None:
        """The log, where tokens are to be had, or a volume's file."""
        known = {"/admin/log": self._admin_log, "/.well-known/databricks-config": self._discovery}
        known["/oidc/.well-known/oauth-authorization-server"] = self._discovery
        self._guarded(known, self._staged)

    def do_DELETE(self) -> None:
        """Forget the rules for failing, or remove a volume's file."""
        self._guarded({"/admin/fail": self._admin_clear}, self._staged)

    def do_PUT(self) -> None:
        """A volume's file."""
        self._guarded({}, self._staged)

    def _guarded(self, known: dict[str, Callable[[bytes], None]], other: Callable[[bytes], None]) -> None:
        """Read the body and answer, unless the client has gone or is to be dropped."""
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urllib.parse.urlsplit(self.path).path
            if not path.startswith("/admin/"):
                self.server.log.request()
            known.get(path, other)(body)
        except Dropped as dropped:
            self._drop(dropped.abruptly)
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True

    def _drop(self, abruptly: bool) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            if abruptly:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.request.detach())
            else:
                self.request.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _json(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), "application/json", headers)

    def _refuse(self, status: int, text: str, retry_after: int | None = None) -> None:
        """An error on the level of HTTP, in the headers that the connector reads."""
        headers = {"X-Thriftserver-Error-Message": text, "X-Databricks-Reason-Phrase": text}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        self._json(status, {"error_code": status, "message": text}, headers)

    def _allowed(self) -> bool:
        refusal = self.server.tokens.refusal(self.headers.get("Authorization"))
        if refusal:
            self._refuse(*refusal)
        return refusal is None

    # ── Thrift ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _thrift(self, body: bytes) -> None:
        """Carry out one Thrift call, with the failures that were asked for."""
        if not self._allowed():
            return
        service, faults = self.server.service, self.server.faults
        name, sequence, request = service.read(body)
        self.server.log.call(name)
        if faults.starting(name):
            return self._refuse(503, "TEMPORARILY_UNAVAILABLE: The warehouse is starting.", retry_after=1)
        text = getattr(request, "statement", "") or ""
        fault = faults.take(name, text, "before")
        if fault and self._fail_before(fault, name, sequence, request):
            return
        after = faults.take(name, text, "after")
        delay = fault.seconds if fault and fault.action == "slow" else 0.0
        response = self._respond(name, request, delay, wait=None if after else DIRECT_RESULTS_WAIT)
        if not (after and self._fail(after, name, sequence)):
            self._send(200, service.write(name, sequence, response), "application/x-thrift")

    def _respond(self, name: str, request: Any, delay: float, wait: float | None) -> Any:
        service = self.server.service
        try:
            if name == "OpenSession":
                return service.open_session(request, f"https://{self.headers['Host']}")
            if name == "ExecuteStatement":
                return service.answer(service.begin(request, delay), request, wait)
            if name in METADATA_CALLS:
                return service.metadata(name, request)
            if name in CALLS:
                return CALLS[name](service, request)
            raise SqlError("UNSUPPORTED_FEATURE", "0A000", f"The call {name} is not available here")
        except SqlError as error:
            return service.refused(name, error)

    def _fail_before(self, fault: Fault, name: str, sequence: int, request: Any) -> bool:
        """Fail before carrying out; says whether the call is answered now."""
        if fault.action == "slow":
            return False
        if name == "ExecuteStatement" and fault.action == "zombie":
            self.server.service.begin(request, fault.seconds)
        elif name == "ExecuteStatement" and fault.action != "delay":
            log = self.server.log
            log.statement(log.number(), request.statement, 0.0, "not executed", None, fault.action)
        return self._fail(fault, name, sequence)

    def _fail(self, fault: Fault, name: str, sequence: int) -> bool:
        """Do what the rule says; says whether the call is answered now."""
        if fault.action in ("drop", "reset", "zombie"):
            raise Dropped(fault.action == "reset")
        if fault.action == "status":
            self._refuse(fault.status, f"The call {name} was told to fail.", fault.retry_after)
            return True
        if fault.action == "error":
            error = SqlError("", fault.sqlstate, "")
            error.args = (fault.message,)
            self._send(200, self.server.service.write(name, sequence, self.server.service.refused(name, error)), "")
            return True
        time.sleep(fault.seconds)
        return False

    # ── Other requests ────────────────────────────────────────────────────────────────────────────────────────────────

    def _discovery(self, body: bytes) -> None:
        """Where tokens are to be had, in the two forms that clients ask for."""
        base = f"https://{self.headers['Host']}/oidc"
        endpoints = {"authorization_endpoint": f"{base}/v1/authorize", "token_endpoint": f"{base}/v1/token"}
        self._json(200, {"oidc_endpoint": base, "issuer": base, **endpoints})

    def _token(self, body: bytes) -> None:
        """A token for a service principal, by client id and secret in the header or in the form."""
        form = {name: values[0] for name, values in urllib.parse.parse_qs(body.decode()).items()}
        kind, _, packed = (self.headers.get("Authorization") or "").partition(" ")
        given = f"{form.get('client_id')}:{form.get('client_secret')}"
        if kind == "Basic":
            given = urllib.parse.unquote(base64.b64decode(packed).decode())
        if not (self.server.client and hmac.compare_digest(given.encode(), self.server.client.encode())):
            return self._json(401, {"error": "invalid_client", "error_description": "Client authentication failed"})
        if form.get("grant_type") != "client_credentials":
            return self._json(400, {"error": "unsupported_grant_type"})
        seconds = self.server.token_lifetime
        token = self.server.tokens.issue(seconds)
        self._json(200, {"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": "all-apis"})

    def _staged(self, body: bytes) -> None:
        """Move one file of a volume at the address that PUT, GET or REMOVE gave."""
        verb, path = self.server.presigned(self.path)
        if verb != self.command or path is None:
            return self._not_found(body)
        self.server.log.call(f"Staged{verb}")
        fault = self.server.faults.take(f"Staged{verb}", str(path), "before")
        if fault and self._fail(fault, f"Staged{verb}", 0):
            return
        try:
            content = move(verb, path, body)
        except FileNotFoundError:
            return self._json(404, {"message": f"{path.name} does not exist"})
        after = self.server.faults.take(f"Staged{verb}", str(path), "after")
        if not (after and self._fail(after, f"Staged{verb}", 0)):
            self._send(200, content, "application/octet-stream")

    def _not_found(self, body: bytes) -> None:
        if self._allowed():
            self._refuse(404, f"RESOURCE_DOES_NOT_EXIST: there is nothing at {self.path}")

    def _admin_log(self, body: bytes) -> None:
        if self._allowed():
            self._json(200, self.server.log.answer())

    def _admin_clear(self, body: bytes) -> None:
        if self._allowed():
            self.server.faults.clear()
            self._json(200, {})

    def _other_post(self, body: bytes) -> None:
        if not self._allowed():
            return
        faults, content = self.server.faults, body or b"{}"
        actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "/admin/fail": faults.add,
            "/admin/starting": lambda given: faults.start_over(given["seconds"], given.get("how", "refuse")),
            "/admin/close_sessions": lambda given: self.server.service.close_all(),
            "/admin/expire_tokens": lambda given: self.server.tokens.expire(),
        }
        if self.path not in actions:
            return self._not_found(body)
        try:
            actions[self.path](json.loads(content))
        except (TypeError, ValueError, KeyError, re.error) as error:
            return self._refuse(400, f"INVALID_PARAMETER_VALUE: {error}")
        self._json(200, {})


def move(verb: str, path: Path, content: bytes) -> bytes:
    """Write, read or remove a volume's file; a file is there whole or not at all."""
    if verb == "GET":
        return path.read_bytes()
    if verb == "DELETE":
        path.unlink()
        return b""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_bytes(content)
    part.replace(path)
    return b""


class Server(http.server.ThreadingHTTPServer):
    """The HTTPS server with what its connections share."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], certificate: Path, tokens: Tokens, faults: Faults, log: Log) -> None:
        super().__init__(address, Handler)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.tokens = tokens
        self.faults = faults
        self.log = log
        self.client = ""
        self.token_lifetime = 3600
        self.service: Service
        self._presigned: dict[str, tuple[str, Path]] = {}

    def presign(self, verb: str, address: str, path: Path) -> str:
        """An address at which a client may move one file without a token."""
        key = secrets.token_urlsafe(24)
        self._presigned[f"/staging/{key}"] = (verb, path)
        return f"{address}/staging/{key}"

    def presigned(self, address: str) -> tuple[str, Path | None]:
        """What presign() allowed at an address."""
        return self._presigned.get(address, ("", None))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break or never become TLS are everyday matters; anything else is a fault of this program."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            traceback.print_exc()


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Command line
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("warehouse"), help="where everything is kept (./warehouse)")
    parser.add_argument("--host", default="localhost", help="address to listen at (localhost)")
    parser.add_argument("--port", type=int, default=0, help="port to listen at (a free one)")
    parser.add_argument("--token", help="the bearer token (the one in DIRECTORY/token, else a random one)")
    parser.add_argument("--catalogs", default="main,hive_metastore,workspace", help="names of the catalogs")
    parser.add_argument("--fail", action="append", default=[], metavar="RULE", help="fail by this rule, in JSON")
    parser.add_argument("--client", default="", metavar="ID:SECRET", help="a service principal that may ask for tokens")
    parser.add_argument("--token-lifetime", type=int, default=3600, help="seconds for which such a token is good (3600)")
    parser.add_argument("--starting", type=float, default=0.0, help="seconds for which the warehouse is still starting")
    parser.add_argument("--quiet", action="store_true", help="no line on stderr for each statement")
    return parser.parse_args(arguments)


def token_file(directory: Path, token: str | None) -> Path:
    """The file with the token: the given one, the one from before, or a random one."""
    path = directory / "token"
    if token or not path.exists():
        private(path, (token or f"local-{secrets.token_hex(16)}").encode())
    return path


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    given = options(arguments)
    warnings.filterwarnings("ignore", category=FutureWarning)
    directory = given.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    store, faults = Store(directory, tuple(given.catalogs.lower().split(","))), Faults()
    store.load()
    for rule in given.fail:
        faults.add(json.loads(rule))
    authority, certificate = certificates(directory)
    secret = token_file(directory, given.token)
    log = Log(directory / "statements.jsonl", given.quiet)
    server = Server((given.host, given.port), certificate, Tokens(secret.read_text()), faults, log)
    server.client, server.token_lifetime = given.client, given.token_lifetime
    engine = Engine(store.catalogs)
    engine.start()
    server.service = Service(store, engine, log, server.presign)
    faults.start_over(given.starting, "refuse")
    serve(server, given.host, {"ca_file": authority, "token_file": secret, "log_file": log.path, "directory": directory})
    return 0


def serve(server: Server, host: str, files: dict[str, Path]) -> None:
    """Print the line that says where everything is, and serve until a signal comes."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    ready = {"host": host, "port": server.server_address[1], "http_path": HTTP_PATH}
    print(json.dumps(ready | {name: str(path) for name, path in files.items()}), flush=True)
    stop.wait()
    server.shutdown()
    server.server_close()
    sys.stdout.flush()
    os._exit(0)  # statements that still run are given up: a Delta commit is made whole or not at all


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
