#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "cryptography>=44,<51",
#     "databricks-sql-connector>=4.9,<4.10",
#     "pyarrow>=18,<27",
#     "pyjwt>=2.10,<3",
#     "pysail>=0.7.2,<0.8",
#     "pyspark-client>=4.1,<4.3",
#     "thrift>=0.22,<0.26",
# ]
#
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""A SQL warehouse on this machine, for trying the uploader without a Databricks account and for its tests.

    uv run demo-network/local_warehouse.py --directory ./warehouse

It prints one line of JSON when it is ready: host, port, http_path, ca_file, token_file, log_file, directory. Point the
uploader at it with DATABRICKS_HOST=localhost:PORT, DATABRICKS_HTTP_PATH, DATABRICKS_TOKEN_FILE and DATABRICKS_CA_FILE.

What is real
  * The protocol: Thrift over HTTPS as the unmodified databricks-sql-connector speaks it, with its own service classes:
    sessions, direct results, polling, cancelling, parameters, files moved to volumes at presigned addresses.
  * TLS, with an authority of its own and a certificate for localhost and 127.0.0.1. Bearer tokens are checked; service
    principals get tokens that expire.
  * SQL: Sail, a Spark SQL engine, parses and runs the statements in ANSI mode, each session with its own time zone.
  * Tables: Delta tables in DIRECTORY/tables/CATALOG/SCHEMA/TABLE, for any Delta reader. NOT NULL is enforced. A
    statement that was stopped by its STATEMENT_TIMEOUT, or cancelled, doesn't commit later. TIMESTAMP AS OF reads them
    as they were, and refuses a time after the last commit, or before the first.
  * COPY INTO remembers the files of each table for good, and runs once at a time per table.

Beside the warehouse: Zerobus Ingest by REST and Unity Catalog's answer about a table, as far as they are documented;
zerobus.py tells which part is and which is guessed. It needs --client. Its endpoint is https://127.0.0.1:PORT: the
first label of its name is the workspace's id, here 127. The workspace's is https://localhost:PORT.

What is not
  * No Unity Catalog: no rights, no information_schema; the catalogs are those of --catalogs, all of them empty at first
    but for the schema `default`. Names of tables are found in any case after FROM, JOIN and INTO only.
  * Statements that change the same table run one after another; Databricks lets blind INSERTs run side by side.
  * CREATE TABLE: always Delta. CLUSTER BY, COMMENT, PRIMARY and FOREIGN KEY and table properties (but for
    delta.columnMapping.mode) are taken off before the engine sees the statement. VARCHAR(n) becomes STRING. DEFAULT,
    identity and generated columns, ALTER TABLE, DROP SCHEMA, DESCRIBE DETAIL and HISTORY are refused. Views end with
    their session.
  * from_json(..., map('mode', 'FAILFAST')): the engine reads what doesn't fit as NULL, so literal documents are checked
    before it sees them, and refused as Spark refuses them. Non-finite numbers are refused too; Spark takes "NaN".
  * Sail 0.7's own faults: from_json reads some reals with an error in the last digit (a cast of text is exact); an INT
    is stored into a TIMESTAMP column as microseconds, where Databricks refuses it; NaN is stored well, but read as
    another number where all others in its file are equal, and max() passes over it.
  * COPY INTO reads Parquet only and casts to the target's types. LIST and REMOVE know single files and directories.
  * Results come as Thrift columns, never as Arrow or cloud files. Speed and cost say nothing about Databricks.

Told to fail (--fail RULE, or POST /admin/fail with the token): RULE is a JSON object with
  match    a regular expression, searched in the Thrift call's name and in the first 4000 characters of the statement
           (files to and from volumes: StagedPUT, StagedDELETE and the path; others: Token, ZerobusToken and GetTable
           with the table's full name, ZerobusInsert with that and, after a space, the whole body)
  when     "before" (the default) or "after" the call was carried out
  action   "status" (with status, retry_after), "drop" (closed without an answer), "reset" (a TCP reset), "delay" (the
           answer is held back for seconds), "slow" (the statement takes seconds longer, the client polls), "zombie"
           (dropped at once, carried out seconds later), "error" (with message, sqlstate; 400 outside of Thrift),
           "late" (nothing fails; for the next two)
  rows     of a ZerobusInsert's rows so many are taken, the others are lost; with "after" or "late"
  late     those others, or all rows without `rows`, come into the table so many seconds later than usual
  times    how often (1; -1: for ever); skip: how many matches to let pass before (0)
Others: GET /admin/log; DELETE /admin/fail; POST /admin/close_sessions, /admin/expire_tokens, and /admin/starting with
{"seconds": n, "how": "refuse" | "operations"}: a stopped warehouse that refuses everything, or all but OpenSession.
GET and POST /admin/zerobus: its settings (see Settings in zerobus.py; "token_lifetime", too) and the rows that wait, by
table; POST /admin/zerobus/flush brings all of them to their tables at once, late ones, too.
POST /admin/anew with a list of arguments of the command line: from now on it is as if it had been started with them,
but for host, port and catalogs; it answers with the line of a start. The engine's own start is what that saves.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import fnmatch
import hmac
import http.server
import ipaddress
import itertools
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

import zerobus
from zerobus import Column, Zerobus

HTTP_PATH = "/sql/1.0/warehouses/local"
STATEMENT_LIMIT = 16 * 1024 * 1024  # bytes of statement text that Databricks takes
PARAMETER_LIMIT = 255  # parameters of one statement that Databricks takes
SETTINGS = {  # what a SQL warehouse lets a session set, with the defaults
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
    """A statement failed; the text reads as Databricks writes it: [CONDITION] what happened. SQLSTATE: 42P01."""

    def __init__(self, text: str, sqlstate: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class HandleError(SqlError):
    """A session or statement that isn't there, or not any more."""


def failure(condition: str, sqlstate: str, text: str) -> SqlError:
    """A statement's error in Databricks' form."""
    return SqlError(f"[{condition}] {text.rstrip('. ')}. SQLSTATE: {sqlstate}", sqlstate)


class Refused(Exception):
    """The request is answered with this status; `taken`: rows that were taken all the same."""

    def __init__(self, status: int, text: str, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after
        self.taken = 0


class Dropped(Exception):
    """The connection is closed without an answer; `abruptly`: with a TCP reset."""

    def __init__(self, abruptly: bool) -> None:
        super().__init__()
        self.abruptly = abruptly
        self.taken = 0


ENGINE_ERRORS = (  # what the engine's messages are called on Databricks
    (r"TABLE_OR_VIEW_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND", "42P01"),
    (r"Database not found", "SCHEMA_NOT_FOUND", "42704"),
    (r"DELTA_NOT_NULL", "DELTA_NOT_NULL_CONSTRAINT_VIOLATED", "23502"),
    (r"No version of the Delta table exists", "DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION", "42816"),
    (r"found .* expected|expected one statement", "PARSE_SYNTAX_ERROR", "42601"),
    (r"does not match number of columns|fields, but table schema", "INSERT_COLUMN_ARITY_MISMATCH", "21S01"),
    (r"too large to store in a Decimal", "NUMERIC_VALUE_OUT_OF_RANGE", "22003"),
    (r"(?i)can('t|not) cast|CAST_INVALID_INPUT|invalid timestamp", "CAST_INVALID_INPUT", "22018"),
    (r"missing from the schema|cannot resolve", "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", "42703"),
    (r"unknown function", "UNRESOLVED_ROUTINE", "42883"),
    (r"divide by zero", "DIVIDE_BY_ZERO", "22012"),
    (r"(?i)unsupported", "UNSUPPORTED_FEATURE", "0A000"),
)


def engine_failure(error: Exception) -> SqlError:
    """The engine's exception as a statement's error."""
    told = f"{type(error).__name__}: {error}"
    text = re.sub(r"^(invalid argument: |Table not found: )?(\[[A-Z_]+\] )?", "", str(error).partition("\n")[0])
    names = [(condition, state) for pattern, condition, state in ENGINE_ERRORS if re.search(pattern, told, re.DOTALL)]
    return failure(*(names or [("FAILED_EXECUTE", "39000")])[0], text)


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# SQL text: just enough of a reader to find names, lists and clauses; the engine parses everything else
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
        if tuple(t.text.upper() if t.kind in ("word", "mark") else "" for t in coming) != words:
            return False
        self._next += len(words)
        return True

    def accept_any(self, *words: str) -> bool:
        """Pass one of these words if it comes next."""
        return any(self.accept(word) for word in words)

    def expect(self, *words: str) -> None:
        """Pass these words, or refuse the statement."""
        if not self.accept(*words):
            raise self.wrong(" ".join(words))

    def at_end(self) -> bool:
        """Whether nothing comes any more."""
        return self.peek().kind == "end" or self.peek().text == ";"

    def wrong(self, expected: str) -> SqlError:
        """The syntax error at this position."""
        found = "end of input" if self.at_end() else repr(self.peek().text[:40])
        return failure("PARSE_SYNTAX_ERROR", "42601", f"Syntax error at or near {found}: expected {expected}")

    def identifier(self) -> str:
        """A plain or backquoted identifier, as written."""
        if self.peek().kind not in ("word", "quoted"):
            raise self.wrong("an identifier")
        token = self.take()
        return token.text if token.kind == "word" else token.text[1:-1].replace("``", "`")

    def name(self) -> tuple[str, ...]:
        """A name of several parts, in lower case, as catalogs keep them."""
        parts = [self.identifier().lower()]
        while self.accept("."):
            parts.append(self.identifier().lower())
        return tuple(parts)

    def string(self) -> str:
        """The value of a string literal; literals side by side are one."""
        if self.peek().kind != "string":
            raise self.wrong("a string")
        value = ""
        while self.peek().kind == "string":
            value += unescaped(self.take().text)
        return value

    def group(self) -> str:
        """The text between a parenthesis that comes next and its partner."""
        self.expect("(")
        inside = self.until(")")
        self.expect(")")
        return inside

    def until(self, *stops: str, brackets: str = "()") -> str:
        """The text up to one of these words or marks outside of brackets, or up to the end."""
        start, depth = self.peek().start, 0
        while self.peek().kind != "end" and not (depth == 0 and self.peek().text.upper() in stops):
            token = self.take()
            if token.kind == "mark" and token.text in brackets:
                depth += 1 if token.text in "(<" else -1
        return self.sql[start : self.peek().start].strip()

    def rest(self) -> str:
        """All text from here on, without a closing semicolon."""
        return self.sql[self.peek().start :].rstrip().rstrip(";")


def unescaped(literal: str) -> str:
    """The value of a string literal of Spark SQL, quotes included. Quick for doubled backslashes, the common case."""
    if literal[0] in "rR":
        return literal[2:-1]
    inside = literal[1:-1]
    without_pairs = inside.replace("\\\\", "\x00")
    if "\\" not in without_pairs and "\x00" not in inside:
        return without_pairs.replace("\x00", "\\")
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
        found.append(words.until(",", brackets="()<>"))
        words.accept(",")
    return found


def bound(text: str, parameters: list[Any]) -> str:
    """A statement with the connector's native parameters put in as literals."""
    if len(parameters) > PARAMETER_LIMIT:
        found = f"{len(parameters)} parameters were given but the limit is {PARAMETER_LIMIT}"
        raise failure("INVALID_PARAMETER_VALUE", "22023", found)
    named = {p.name: parameter_literal(p) for p in parameters if p.name}
    unnamed = iter([parameter_literal(p) for p in parameters if not p.name])
    words, parts, done = Words(text), [], 0
    while (token := words.take()).kind != "end":
        name = words.peek().text if token.text == ":" and words.peek().start == token.end else ""
        if (value := next(unnamed, None) if token.text == "?" else named.get(name)) is not None:
            parts += [text[done : token.start], value]
            done = token.end + len(name)
    return "".join([*parts, text[done:]])


def parameter_literal(parameter: Any) -> str:
    """One native parameter as SQL."""
    kind = (parameter.type or "STRING").upper()
    if kind == "VOID" or parameter.value is None:
        return "NULL"
    text = text_literal(parameter.value.stringValue)
    return text if kind == "STRING" else f"CAST({text} AS {kind})"


# ── Documents that the engine would read too leniently ────────────────────────────────────────────────────────────────

INTEGERS = {"tinyint": 8, "byte": 8, "smallint": 16, "short": 16, "int": 32, "integer": 32, "bigint": 64, "long": 64}


def check_documents(sql: str) -> None:
    """Refuse from_json('…', 'ARRAY<STRUCT<…>>', map('mode', 'FAILFAST')) with values that don't fit."""
    for match in re.finditer(r"\bfrom_json\s*\(\s*(?=['\"])", sql[:100_000], re.IGNORECASE):
        words = Words(sql[match.end() :])
        document = words.string()
        if words.accept(",") and words.peek().kind == "string":
            schema = re.fullmatch(r"(?is)\s*array\s*<\s*struct\s*<(.*)>\s*>\s*", words.string())
            if schema and "FAILFAST" in words.until(")").upper():
                check_document(document, schema.group(1))


def check_document(document: str, fields: str) -> None:
    """Refuse a JSON array of objects that doesn't fit these fields."""
    try:
        records = json.loads(document)
    except ValueError as error:
        raise malformed(str(error)) from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise malformed("the document is no array of objects")
    for item in items(fields):
        words = Words(item)
        name, kind = words.identifier(), words.rest().lstrip(": ").lower()
        for record in records:
            if not fits(record.get(name), kind):
                raise malformed(f"{name} is no {kind} in {json.dumps(record)[:200]}")


def malformed(text: str) -> SqlError:
    """Spark's error for a record that it can't read."""
    detected = f"Malformed records are detected in record parsing: {text}"
    return failure("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION", "22023", detected)


def fits(value: Any, kind: str) -> bool:
    """Whether a JSON value can be read as this type."""
    if value is None or kind == "string":
        return True
    if bits := INTEGERS.get(kind):
        return type(value) is int and -(1 << bits - 1) <= value < 1 << bits - 1
    if kind in ("double", "float"):
        return type(value) in (int, float) and abs(value) != float("inf") and value == value
    return type(value) is bool if kind == "boolean" else not isinstance(value, bool)


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Tables and volumes as directories
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

TableName = tuple[str, str, str]  # catalog, schema, table, in lower case
Presign = Callable[[str, str, Path], str]  # from a verb, the server's address and a file: the address for the client


def folder(name: str) -> str:
    """A name as a directory's: what the engine would write as %20 becomes ~20~."""
    return re.sub(r"[^a-z0-9_.-]", lambda match: f"~{ord(match.group()):x}~", name)


def unfolder(name: str) -> str:
    """The name that folder() wrote."""
    return re.sub(r"~([0-9a-f]+)~", lambda match: chr(int(match.group(1), 16)), name)


class Store:
    """Which schemas and tables there are. Every change moves `version` on, so that engine sessions notice it."""

    def __init__(self, directory: Path, catalogs: tuple[str, ...]) -> None:
        self.directory = directory
        self.catalogs = catalogs
        self.version = 1
        self.schemas = {(catalog, "default") for catalog in catalogs}
        self.tables: dict[TableName, int] = {}  # with the version at which each was made
        self.columns: dict[tuple[TableName, int], list[Column]] = {}  # of those that were asked for, by the same
        self._lock = threading.Lock()
        self._table_locks: dict[TableName, threading.Lock] = {}

    def load(self) -> None:
        """Find what an earlier run left."""
        for path in self.directory.glob("tables/*/*"):
            catalog, schema = unfolder(path.parent.name), unfolder(path.name)
            if catalog in self.catalogs:
                self.schemas.add((catalog, schema))
                for log in path.glob("*/_delta_log"):
                    self.tables[(catalog, schema, unfolder(log.parent.name))] = 1
        for table in self.tables:
            self.settle_copy(table)

    def location(self, name: tuple[str, ...]) -> Path:
        """The directory of a table, or of a schema."""
        return self.directory.joinpath("tables", *map(folder, name))

    def lock(self, table: TableName) -> threading.Lock:
        """The lock that a statement holds while it changes a table."""
        with self._lock:
            return self._table_locks.setdefault(table, threading.Lock())

    def snapshot(self) -> tuple[int, set[tuple[str, str]], dict[TableName, int]]:
        """The version with its schemas and tables."""
        with self._lock:
            return self.version, set(self.schemas), dict(self.tables)

    def add_table(self, table: TableName) -> int:
        """Enter a table that was made; returns its version."""
        with self._lock:
            self.version += 1
            self.tables[table] = self.version
            return self.version

    def drop_table(self, table: TableName) -> None:
        """Remove a table and its files."""
        with self._lock:
            self.version += 1
            del self.tables[table]
        shutil.rmtree(self.location(table))

    def add_schema(self, schema: tuple[str, str]) -> None:
        """Enter a schema."""
        self.location(schema).mkdir(parents=True, exist_ok=True)
        with self._lock:
            self.version += 1
            self.schemas.add(schema)

    def last_commit(self, table: TableName) -> Path:
        """The newest commit file of a table."""
        return max((self.location(table) / "_delta_log").glob("[0-9]*.json"))

    def volume(self, name: tuple[str, ...]) -> Path:
        """The directory of a volume."""
        return self.directory.joinpath("volumes", *map(folder, name))

    def volume_path(self, path: str) -> Path:
        """The file of a path /Volumes/CATALOG/SCHEMA/VOLUME/..., whose volume has to exist."""
        top, *parts = [part for part in path.split("/") if part] or [""]
        if top != "Volumes" or len(parts) < 3 or {"..", "."} & set(parts):
            raise failure("INVALID_PARAMETER_VALUE", "22023", f"{path!r} is no path in a volume")
        volume = self.volume(tuple(part.lower() for part in parts[:3]))
        if not volume.is_dir():
            raise failure("UC_VOLUME_NOT_FOUND", "42704", f"Volume {'.'.join(parts[:3])} does not exist")
        return volume.joinpath(*parts[3:])

    # ── What COPY INTO has loaded: a file beside the table, one line before and one after each load ───────────────────

    def copied(self, table: TableName) -> set[str]:
        """The volume paths that were loaded into a table."""
        return {path for entry in self._copies(table) if entry.get("done") for path in entry["files"]}

    def begin_copy(self, table: TableName, files: list[str]) -> None:
        """Write down, durably, what is about to be loaded."""
        self._note_copy(table, {"before": self.last_commit(table).name, "files": files})

    def settle_copy(self, table: TableName) -> None:
        """Write down whether the last load was committed: nothing else has changed the table since it began."""
        entries = self._copies(table)
        if entries and "before" in entries[-1]:
            done = self.last_commit(table).name != entries[-1]["before"]
            self._note_copy(table, {"done": done, "files": entries[-1]["files"]})

    def _note_copy(self, table: TableName, entry: dict[str, Any]) -> None:
        with (self.location(table) / "_copy_into.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _copies(self, table: TableName) -> list[dict[str, Any]]:
        path = self.location(table) / "_copy_into.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# The engine
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class EngineSession:
    """One session of the engine, whose catalogs are in memory and its own, with what it was told of the store."""

    def __init__(self, spark: Any) -> None:
        self.spark = spark
        self._version = 0
        self._schemas: set[tuple[str, str]] = set()
        self._tables: dict[TableName, int] = {}
        self._lock = threading.Lock()
        self._place: tuple[str, str] | None = None
        self._zone: str | None = None

    def enter(self, catalog: str, schema: str) -> None:
        """Make a schema the session's own, unless it is."""
        if self._place != (catalog, schema):
            self._place = None
            self.carry_out(f"USE CATALOG {quoted(catalog)}")
            self.carry_out(f"USE SCHEMA {quoted(schema)}")
            self._place = catalog, schema

    def set_zone(self, zone: str) -> None:
        """Make a time zone the session's own, unless it is."""
        if self._zone != zone:
            self.spark.conf.set("spark.sql.session.timeZone", zone)
            self._zone = zone

    def run(self, sql: str) -> Any:
        """Run one statement; returns a pyarrow.Table. Raises SqlError."""
        # toArrow() would ask for the schema before, which takes as long again.
        return self._asked(lambda: self.spark.sql(sql)._to_table()[0])

    def carry_out(self, sql: str) -> None:
        """Run one statement that is no query, and fetch no answer, which takes as long again. Raises SqlError."""
        self._asked(lambda: self.spark.sql(sql))

    def columns_of(self, store: Store, table: TableName) -> list[Column]:
        """A table's columns, as its Delta log has them; they never change. Raises SqlError."""
        made = (table, store.tables.get(table, 0))
        if made not in store.columns:
            store.columns[made] = self.columns(f"SELECT * FROM {quoted(*table)}")
        return store.columns[made]

    def columns(self, query: str) -> list[Column]:
        """The columns of a query. Raises SqlError."""
        fields = self._asked(lambda: self.spark.sql(query).schema.fields)
        return [Column(f.name, f.dataType.simpleString(), f.nullable) for f in fields]

    def _asked(self, question: Callable[[], Any]) -> Any:
        from pyspark.errors import PySparkException

        try:
            return question()
        except PySparkException as error:
            raise engine_failure(error) from error

    def follow(self, store: Store) -> None:
        """Make the session's catalogs equal to the store."""
        with self._lock:
            if self._version == store.version:
                return
            version, schemas, tables = store.snapshot()
            for table in [t for t, made in self._tables.items() if tables.get(t) != made]:
                self.carry_out(f"DROP TABLE IF EXISTS {quoted(*table)}")
            for schema in schemas - self._schemas:
                self.carry_out(f"CREATE SCHEMA IF NOT EXISTS {quoted(*schema)}")
            for table in [t for t, made in tables.items() if self._tables.get(t) != made]:
                place = text_literal(str(store.location(table)))
                self.carry_out(f"CREATE TABLE IF NOT EXISTS {quoted(*table)} USING delta LOCATION {place}")
            self._version, self._schemas, self._tables = version, schemas, tables


def started_sail(catalogs: tuple[str, ...]) -> Any:
    """Start Sail in this process. Settings meant for real workspaces are kept from it: it would connect to them."""
    for name in [n for n in os.environ if n.startswith(("DATABRICKS_", "UNITY_", "UC_", "SAIL_", "SPARK_"))]:
        del os.environ[name]
    entries = [f'{{name="{name}", type="memory", initial_database=["default"]}}' for name in catalogs]
    os.environ["SAIL_CATALOG__LIST"] = f"[{', '.join(entries)}]"
    os.environ["SAIL_CATALOG__DEFAULT_CATALOG"] = catalogs[0]
    os.environ.setdefault("RUST_LOG", "off")
    warnings.filterwarnings("ignore", category=FutureWarning)  # pyspark's about pandas, which is not used here
    from pysail.spark import SparkConnectServer

    sail = SparkConnectServer()
    sail.start(background=True)
    return sail


class Engine:
    """The Sail server, and a stock of its sessions that wait to be used again."""

    def __init__(self, sail: Any) -> None:
        self._sail = sail
        self._idle: list[EngineSession] = []

    def close(self) -> None:
        """End the sessions that wait."""
        while self._idle:
            self._idle.pop().spark.stop()

    def take(self) -> EngineSession:
        """A session that waits, or a new one."""
        from pyspark.sql.connect.session import SparkSession

        try:
            return self._idle.pop()
        except IndexError:
            host, port = self._sail.listening_address
            spark = SparkSession(f"sc://{host}:{port}")
            spark.client.disable_reattachable_execute()  # for networks that fail; here it takes half of the time
            return EngineSession(spark)

    def give_back(self, session: EngineSession) -> None:
        """Keep a session for the next statement."""
        self._idle.append(session)

    @contextlib.contextmanager
    def lent(self, store: Store, session: Session) -> Iterator[EngineSession]:
        """A session of the engine for one statement: in the client's schema and zone, and with its views.

        Clients that went without a word keep none: a new one has to be told of all tables.
        """
        engine = session.own or self.take()
        try:
            engine.follow(store)
            engine.enter(session.catalog, session.schema)
            engine.set_zone(session.settings["TIMEZONE"])
            yield engine
        finally:
            if session.own is None:
                self.give_back(engine)


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Statements
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Result(NamedTuple):
    """A statement's answer: a pyarrow.Table, the number of rows changed, and whether the client has to move a file."""

    table: Any
    modified: int | None = None
    staging: bool = False


@dataclass
class Session:
    """A client's session; `address` is where the client reached this server, `own` what keeps its views."""

    guid: bytes
    catalog: str
    schema: str
    address: str
    own: EngineSession | None = None
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))

    def qualified(self, name: tuple[str, ...]) -> TableName:
        """A table's full name, from one to three parts."""
        if len(name) > 3:
            raise failure("IDENTIFIER_TOO_MANY_NAME_PARTS", "42601", f"{'.'.join(name)} has more than three parts")
        catalog, schema, table = (self.catalog, self.schema)[: 3 - len(name)] + name
        return (catalog, schema, table)


class Operation:
    """One statement on its way: its text, and in the end its result or its error."""

    def __init__(self, number: int, session: Session, text: str, delay: float = 0.0) -> None:
        self.guid = uuid.uuid4().bytes
        self.number = number
        self.session = session
        self.text = text
        self.delay = delay
        self.started = time.monotonic()
        self.done = threading.Event()
        self.stopped = threading.Event()
        self.reason: SqlError | None = None
        self.engine: EngineSession | None = None
        self.result: Result | None = None
        self.error: SqlError | None = None
        self.offset = 0

    def cancel(self, reason: SqlError) -> None:
        """Stop the statement, and don't let go before it has ended; what it has committed stays."""
        self.reason = self.reason or reason
        self.stopped.set()
        threading.Thread(target=self._interrupt, daemon=True).start()

    def _interrupt(self) -> None:
        while not self.done.wait(0.1):
            if self.engine:
                self.engine.spark.interruptAll()

    def check(self) -> None:
        """Raise if the statement was stopped."""
        if self.reason:
            raise self.reason


@dataclass
class Run:
    """What a statement's function works with."""

    store: Store
    engine: EngineSession
    session: Session
    operation: Operation
    words: Words
    presign: Presign

    def table(self) -> TableName:
        """The full name of a table that comes next and exists."""
        return self.known_table(self.words.name())

    def known_table(self, name: tuple[str, ...]) -> TableName:
        """The full name of a table that exists."""
        table = self.session.qualified(name)
        if table not in self.store.tables:
            text = f"The table or view {quoted(*name)} cannot be found. Verify the spelling and correctness of the name"
            raise failure("TABLE_OR_VIEW_NOT_FOUND", "42P01", text)
        return table

    def schema(self) -> tuple[str, str]:
        """The full name of a schema that comes next."""
        catalog, schema, _ = self.session.qualified((*self.words.name(), ""))
        return catalog, schema

    def columns(self, table: TableName) -> list[Column]:
        """A table's columns."""
        return self.engine.columns_of(self.store, table)

    @contextlib.contextmanager
    def alone(self, table: TableName) -> Iterator[None]:
        """Hold a table's lock; a statement that is stopped meanwhile waits no longer."""
        lock = self.store.lock(table)
        while not lock.acquire(timeout=0.1):
            self.operation.check()
        try:
            self.operation.check()
            yield
        finally:
            lock.release()


def rows(**columns: list[Any]) -> Any:
    """A small pyarrow.Table; columns without values are text."""
    import pyarrow

    kinds = {name: None if any(v is not None for v in values) else pyarrow.string() for name, values in columns.items()}
    return pyarrow.table({name: pyarrow.array(values, kinds[name]) for name, values in columns.items()})


def query(run: Run) -> Result:
    """Whatever only reads, and what is left to the engine to refuse."""
    check_documents(run.operation.text)
    return Result(run.engine.run(in_lower_case(run)))


def in_lower_case(run: Run) -> str:
    """The statement with its tables named as they are kept: the engine's catalogs tell capital letters apart."""
    text = run.operation.text
    words, parts, done = Words(text if len(text) < 1_000_000 else ""), [], 0
    while words.peek().kind != "end":
        if words.take().text.upper() in ("FROM", "JOIN") and words.peek().kind in ("word", "quoted"):
            start = words.peek().start
            table = run.session.qualified(words.name())
            if table in run.store.tables:
                parts += [text[done:start], quoted(*table), " "]
                done = words.peek().start
                if words.accept("TIMESTAMP", "AS", "OF") and words.peek().kind == "string":
                    check_past(run.store, table, words.string())
    return "".join([*parts, text[done:]])


def check_past(store: Store, table: TableName, time: str) -> None:
    """Refuse a time after the last commit, where the engine would read what there is now."""
    last = datetime.datetime.fromtimestamp(store.last_commit(table).stat().st_mtime, datetime.UTC)
    given = datetime.datetime.fromisoformat(time)
    if (given if given.tzinfo else given.replace(tzinfo=datetime.UTC)) > last:
        text = f"The provided timestamp ({time}) is after the latest version available to this table ({last})"
        raise failure("DELTA_TIMESTAMP_GREATER_THAN_COMMIT", "42816", text)


# ── Sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def use(run: Run) -> Result:
    """USE [CATALOG | SCHEMA | DATABASE] name."""
    if run.words.accept("CATALOG"):
        enter(run.store, run.session, run.words.identifier().lower(), "default")
    else:
        run.words.accept_any("SCHEMA", "DATABASE")
        enter(run.store, run.session, *run.schema())
    return Result(rows())


def enter(store: Store, session: Session, catalog: str, schema: str) -> None:
    """Make a schema the session's own."""
    require_schema(store, (catalog, schema))
    session.catalog, session.schema = catalog, schema


def require_schema(store: Store, schema: tuple[str, str]) -> None:
    """Refuse a schema that isn't there."""
    if schema[0] not in store.catalogs:
        raise failure("NO_SUCH_CATALOG_EXCEPTION", "42704", f"Catalog '{schema[0]}' was not found")
    if schema not in store.schemas:
        raise failure("SCHEMA_NOT_FOUND", "42704", f"The schema {quoted(*schema)} cannot be found")


def set_(run: Run) -> Result:
    """SET name [= value], SET TIME ZONE 'zone'."""
    zone = run.words.accept("TIME", "ZONE")
    name = "TIMEZONE" if zone else run.words.until("=")
    if zone or run.words.accept("="):
        configure(run.session, name, run.words.rest().strip().strip("'\""))
    return Result(rows(key=[name], value=[run.session.settings[known(name)]]))


def configure(session: Session, name: str, value: str) -> None:
    """Set one of the settings that a SQL warehouse has."""
    if known(name) == "STATEMENT_TIMEOUT" and not value.isdigit():
        raise failure("INVALID_CONF_VALUE.TYPE_MISMATCH", "22022", f"{name} {value!r} is no number of seconds")
    if known(name) == "TIMEZONE":
        try:
            ZoneInfo(value)
        except (ValueError, ZoneInfoNotFoundError) as error:
            raise failure("INVALID_CONF_VALUE.TIME_ZONE", "22022", f"Cannot resolve the time zone {value!r}") from error
    session.settings[known(name)] = value


def known(name: str) -> str:
    """A setting's name in capital letters, if a SQL warehouse has it."""
    if name.upper() not in SETTINGS:
        raise failure("CONFIG_NOT_AVAILABLE", "42K0I", f"Configuration {name} is not available")
    return name.upper()


# ── Making, removing and describing ───────────────────────────────────────────────────────────────────────────────────


def create(run: Run) -> Result:
    """CREATE SCHEMA | DATABASE | VOLUME | TABLE; views are the engine's, and the session's alone."""
    replace = run.words.accept("OR", "REPLACE")
    kind = run.words.take().text.upper()
    if kind not in ("SCHEMA", "DATABASE", "VOLUME", "TABLE"):
        run.session.own = run.engine
        return query(run)
    lenient = run.words.accept("IF", "NOT", "EXISTS")
    if kind == "TABLE":
        create_table(run, replace, lenient)
    elif kind == "VOLUME":
        run.store.volume(run.session.qualified(run.words.name())).mkdir(parents=True, exist_ok=True)
    else:
        create_schema(run, run.schema(), lenient)
    return Result(rows())


def create_schema(run: Run, schema: tuple[str, str], lenient: bool) -> None:
    """CREATE SCHEMA [IF NOT EXISTS] name."""
    require_schema(run.store, (schema[0], "default"))
    if schema not in run.store.schemas:
        run.store.add_schema(schema)
    elif not lenient:
        raise failure("SCHEMA_ALREADY_EXISTS", "42P06", f"Cannot create schema {quoted(*schema)}: it already exists")


def create_table(run: Run, replace: bool, lenient: bool) -> None:
    """CREATE [OR REPLACE] TABLE [IF NOT EXISTS] name [(columns)] [clauses] [AS query], as a Delta table."""
    table = run.session.qualified(run.words.name())
    require_schema(run.store, table[:2])
    with run.alone(table):
        if table in run.store.tables and not replace:
            if lenient:
                return
            raise failure("TABLE_OR_VIEW_ALREADY_EXISTS", "42P07", f"Cannot create table {quoted(*table)}: it exists")
        statement = table_statement(run, table)
        if table in run.store.tables:
            run.store.drop_table(table)
            run.engine.follow(run.store)
        try:
            run.engine.carry_out(statement)
        except SqlError:
            shutil.rmtree(run.store.location(table), ignore_errors=True)
            raise
        run.store.add_table(table)


def table_statement(run: Run, table: TableName) -> str:
    """The engine's statement for a new table, in its own directory and without the clauses that mean nothing here."""
    words = run.words
    if re.search(r"[./ \x00-\x1f\x7f]", table[-1]):
        raise failure("INVALID_SCHEMA_OR_RELATION_NAME", "42602", f"{quoted(table[-1])} is not a valid name for tables")
    columns = columns_of(words.group()) if words.peek().text == "(" else []
    kept, mapped = ["USING delta", f"LOCATION {text_literal(str(run.store.location(table)))}"], False
    while not words.at_end() and not words.accept("AS"):
        if words.accept("PARTITIONED", "BY"):
            kept.append(f"PARTITIONED BY ({words.group()})")
        elif words.accept("TBLPROPERTIES"):
            mapped = re.search(r"columnMapping\.mode['\"]?\s*=\s*['\"]?name", words.group()) is not None
        elif not (words.accept("USING", "DELTA") or passed_over(words, columns)):
            raise words.wrong("a clause of CREATE TABLE that is available here")
    check_names(columns, mapped)
    kept += ["TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"] if mapped else []
    kept += [] if words.at_end() else ["AS", words.rest()]
    listed = ", ".join(f"{quoted(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in columns)
    return f"CREATE TABLE {quoted(*table)} {f'({listed})' if columns else ''} {' '.join(kept)}"


def passed_over(words: Words, columns: list[Column]) -> bool:
    """Pass a clause that means nothing here; what a table is clustered by has to be one of its first 32 columns."""
    if words.accept("COMMENT"):
        return bool(words.string())
    if not words.accept("CLUSTER", "BY"):
        return False
    given = [] if words.accept_any("AUTO", "NONE") else items(words.group())
    if columns and {Words(name).identifier().lower() for name in given} - {c.name.lower() for c in columns[:32]}:
        text = f"Liquid clustering requires clustering columns to have stats. Couldn't find {given} in stats schema"
        raise failure("DELTA_CLUSTERING_COLUMN_MISSING_STATS", "22000", text)
    return True


def columns_of(text: str) -> list[Column]:
    """The columns of a CREATE TABLE. Keys, which only inform on Databricks, are left out."""
    keys = ("CONSTRAINT", "PRIMARY", "FOREIGN")
    return [column_of(Words(item)) for item in items(text) if Words(item).take().text.upper() not in keys]


def column_of(words: Words) -> Column:
    """One column: name, type, NOT NULL, COMMENT and PRIMARY KEY, of which the last two are passed over."""
    name = words.identifier()
    ends = ("NOT", "COMMENT", "DEFAULT", "PRIMARY", "GENERATED", "COLLATE", "MASK")
    kind, nullable = words.until(*ends, brackets="()<>"), True
    while not words.at_end():
        if words.accept("NOT", "NULL"):
            nullable = False
        elif words.accept("COMMENT"):
            words.string()
        elif not words.accept("PRIMARY", "KEY"):
            raise failure("UNSUPPORTED_FEATURE", "0A000", f"{words.peek().text} in a column is not available here")
    return Column(name, kind, nullable)


def check_names(columns: list[Column], mapped: bool) -> None:
    """Refuse column names that a Delta table takes only with column mapping."""
    wrong = [c.name for c in columns if re.search(r"[ ,;{}()\n\t=]", c.name)]
    if wrong and not mapped:
        text = f"Found invalid character(s) among ' ,;{{}}()\\n\\t=' in the column names {wrong}; use column mapping"
        raise failure("DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES", "42K05", text)


def drop(run: Run) -> Result:
    """DROP TABLE [IF EXISTS] name: the files go too. Views are the session's."""
    if run.words.peek().text.upper() == "VIEW":
        return query(run)
    if not run.words.accept("TABLE"):
        raise failure("UNSUPPORTED_FEATURE", "0A000", f"DROP {run.words.peek().text} is not available here")
    lenient = run.words.accept("IF", "EXISTS")
    name = run.words.name()
    if run.session.qualified(name) in run.store.tables or not lenient:
        table = run.known_table(name)
        with run.alone(table):
            run.store.drop_table(table)
    return Result(rows())


def show(run: Run) -> Result:
    """SHOW CATALOGS | SCHEMAS | DATABASES | TABLES; the rest is the engine's."""
    inside = ("IN", "FROM")
    if run.words.accept("CATALOGS"):
        return Result(rows(catalog=list(run.store.catalogs)))
    if run.words.accept_any("SCHEMAS", "DATABASES"):
        catalog = run.words.identifier().lower() if run.words.accept_any(*inside) else run.session.catalog
        return Result(rows(databaseName=sorted(schema for c, schema in run.store.schemas if c == catalog)))
    if not run.words.accept("TABLES"):
        return query(run)
    schema = run.schema() if run.words.accept_any(*inside) else (run.session.catalog, run.session.schema)
    require_schema(run.store, schema)
    pattern = run.words.string().lower() if run.words.accept("LIKE") or not run.words.at_end() else "*"
    names = sorted(t[2] for t in run.store.tables if t[:2] == schema and fnmatch.fnmatchcase(t[2], pattern))
    return Result(rows(database=[schema[1]] * len(names), tableName=names, isTemporary=[False] * len(names)))


def describe(run: Run) -> Result:
    """DESCRIBE [TABLE] [EXTENDED] name [AS JSON]; the rest is the engine's, which refuses DETAIL and HISTORY."""
    if run.words.peek().text.upper() in ("DETAIL", "HISTORY", "CATALOG", "SCHEMA", "DATABASE", "QUERY", "FUNCTION"):
        return query(run)
    run.words.accept("TABLE")
    extended = run.words.accept("EXTENDED")
    table = run.table()
    columns = run.columns(table)
    if run.words.accept("AS", "JSON"):
        return Result(rows(json_metadata=[table_json(table, columns)]))
    listed: list[tuple[str, str, str | None]] = [(c.name, c.type, None) for c in columns]
    if extended:
        place = str(run.store.location(table))
        listed += [("", "", ""), ("# Detailed Table Information", "", "")]
        listed += [("Catalog", table[0], ""), ("Database", table[1], ""), ("Table", table[2], "")]
        listed += [("Type", "MANAGED", ""), ("Location", place, ""), ("Provider", "delta", "")]
    names, kinds, comments = (list(values) for values in zip(*listed, strict=True))
    return Result(rows(col_name=names, data_type=kinds, comment=comments))


def table_json(table: TableName, columns: list[Column]) -> str:
    """What DESCRIBE TABLE EXTENDED ... AS JSON says, as far as it is known here."""
    described = [{"name": c.name, "type": {"name": c.type}, "nullable": c.nullable} for c in columns]
    return json.dumps({"table_name": table[2], "catalog_name": table[0], "schema_name": table[1], "columns": described})


# ── Changing rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def insert(run: Run) -> Result:
    """INSERT INTO | OVERWRITE [TABLE] name [(columns) | BY NAME] query. Columns that are left out become NULL."""
    check_documents(run.operation.text)
    verb = "INSERT OVERWRITE" if run.words.accept("OVERWRITE") else "INSERT INTO"
    run.words.accept("INTO")
    run.words.accept("TABLE")
    table = run.table()
    columns = run.columns(table)
    given = given_columns(run, columns)
    with run.alone(table):
        text = f"{verb} {quoted(*table)} {arranged(columns, given, run.words.rest())}"
        count = changed(run, table, text, "numOutputRows")
    return Result(rows(num_affected_rows=[count], num_inserted_rows=[count]), count)


def given_columns(run: Run, columns: list[Column]) -> list[str]:
    """The columns that an INSERT names, in its order: by its query, by a list, or all."""
    if run.words.accept("BY", "NAME"):
        return [c.name for c in run.engine.columns(run.words.rest())]
    if run.words.peek().text != "(" or run.words.peek(1).text.upper() in ("SELECT", "WITH", "VALUES", "("):
        return [c.name for c in columns]
    return [Words(item).identifier() for item in items(run.words.group())]


def arranged(columns: list[Column], given: list[str], source: str, is_copy: bool = False) -> str:
    """A query with all of the table's columns in their order: the engine takes neither a part nor equal names."""
    position = {name.lower(): i for i, name in enumerate(given)}
    unknown = position.keys() - {c.name.lower() for c in columns}
    if unknown:
        text = f"A column with name {quoted(*unknown)} cannot be resolved"
        raise failure("UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703", text)
    if len(position) < len(given):
        raise failure("COLUMN_ALREADY_EXISTS", "42711", f"A column is named twice in {given}")
    places = [(c, position.get(c.name.lower())) for c in columns]
    for name in (quoted(c.name) for c, place in places if place is None and not c.nullable):
        if is_copy:
            text = f"Column {name[1:-1]}, which has a NOT NULL constraint, is missing from the data being written"
            raise failure("DELTA_MISSING_NOT_NULL_COLUMN_VALUE", "23502", text)
        text = f"Can't determine the default value for {name} since it is not nullable and it has no default value"
        raise failure("NO_DEFAULT_COLUMN_VALUE_AVAILABLE", "42608", text)
    cells = [f"CAST(NULL AS {c.type})" if place is None else f"q.`{place}`" for c, place in places]
    named = ", ".join(f"{cell} AS {quoted(c.name)}" for cell, c in zip(cells, columns, strict=True))
    return f"SELECT {named} FROM ({source}\n) AS q({', '.join(f'`{i}`' for i in range(len(given)))})"


def changed(run: Run, table: TableName, text: str, *metrics: str) -> int:
    """Change a table; returns the sum of these of the commit's figures, since the engine's answer counts copied rows.

    A statement that was stopped fails only if it left nothing.
    """
    before = run.store.last_commit(table)
    try:
        run.engine.carry_out(text)
    except SqlError:
        if not run.operation.reason or run.store.last_commit(table) == before:
            raise
    last = run.store.last_commit(table)
    if last == before:
        run.operation.check()  # the engine's answer to a statement that was stopped may look like any other
    actions = [] if last == before else [json.loads(line) for line in last.read_text().split("\n") if line]
    figures = [action["commitInfo"]["operationMetrics"] for action in actions if "commitInfo" in action]
    return sum(int(given.get(name, 0)) for given in figures for name in metrics)


def change(run: Run) -> Result:
    """DELETE FROM, UPDATE, MERGE INTO, TRUNCATE TABLE name."""
    run.words.accept_any("FROM", "INTO")
    head = "DELETE FROM " if run.words.accept("TABLE") else run.words.sql[: run.words.peek().start]
    table = run.table()
    kinds = ("UpdatedRows", "DeletedRows", "TargetRowsUpdated", "TargetRowsDeleted", "TargetRowsInserted")
    with run.alone(table):
        count = changed(run, table, f"{head}{quoted(*table)} {run.words.rest()}", *(f"num{kind}" for kind in kinds))
    return Result(rows(num_affected_rows=[count]), count)


# ── Volumes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def put(run: Run) -> Result:
    """PUT 'local file' INTO 'volume path' [OVERWRITE]: the client sends the file to an address that it is given."""
    local = run.words.string()
    run.words.expect("INTO")
    path = run.words.string()
    if run.store.volume_path(path).exists() and not run.words.accept("OVERWRITE"):
        raise failure("FILE_ALREADY_EXISTS", "42K04", f"{path} exists; use OVERWRITE to replace it")
    url = run.presign("PUT", run.session.address, run.store.volume_path(path))
    return Result(rows(operation=["PUT"], presignedUrl=[url], headers=["{}"], localFile=[local]), staging=True)


def remove(run: Run) -> Result:
    """REMOVE 'volume path': the client asks for it at an address that it is given."""
    url = run.presign("DELETE", run.session.address, existing(run.store, run.words.string()))
    return Result(rows(operation=["REMOVE"], presignedUrl=[url], headers=["{}"]), staging=True)


def existing(store: Store, path: str) -> Path:
    """The file or directory of a volume path."""
    found = store.volume_path(path)
    if not found.exists():
        raise failure("PATH_NOT_FOUND", "42K03", f"Path does not exist: {path}")
    return found


def list_(run: Run) -> Result:
    """LIST 'volume path'. Without a file it is no directory, as in an object store (databricks/cli#5834)."""
    path = run.words.string().rstrip("/")
    found = sorted(p for p in existing(run.store, path).iterdir() if not p.name.endswith(".part"))
    if not found:
        raise SqlError("NOT_FOUND: The directory being accessed is not found.", "")
    places = [f"{path}/{p.name}{'/' if p.is_dir() else ''}" for p in found]
    sizes, times = [p.stat().st_size for p in found], [int(p.stat().st_mtime * 1000) for p in found]
    return Result(rows(path=places, name=[p.name for p in found], size=sizes, modification_time=times))


@dataclass
class Copy:
    """A COPY INTO as it was written."""

    table: TableName
    path: str = ""
    columns: list[str] | None = None
    expressions: str = "*"
    files: list[str] | None = None
    pattern: str = "*"
    force: bool = False


def copy_into(run: Run) -> Result:
    """COPY INTO name [(columns)] FROM 'path' | (SELECT ... FROM 'path') FILEFORMAT = PARQUET ..., each file once."""
    run.words.expect("INTO")
    copy = Copy(run.table())
    read_copy(run.words, copy)
    with run.alone(copy.table):
        known_files = set() if copy.force else run.store.copied(copy.table)
        fresh = [path for path in wanted_files(run.store, copy) if path not in known_files]
        count = copy_files(run, copy, fresh) if fresh else 0
    return Result(rows(num_affected_rows=[count], num_inserted_rows=[count], num_skipped_corrupt_files=[0]), count)


def read_copy(words: Words, copy: Copy) -> None:
    """Read the statement from after the table's name."""
    if words.peek().text == "(":
        copy.columns = [Words(item).identifier() for item in items(words.group())]
    words.accept("BY", "POSITION")
    words.expect("FROM")
    source = Words(words.group()) if words.peek().text == "(" else words
    if source is not words:
        source.expect("SELECT")
        copy.expressions = source.until("FROM")
        source.expect("FROM")
    copy.path = source.string().rstrip("/")
    while not words.at_end():
        read_copy_clause(words, copy)


def read_copy_clause(words: Words, copy: Copy) -> None:
    """Read one of the clauses after the source."""
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


def wanted_files(store: Store, copy: Copy) -> list[str]:
    """The volume paths of the files to load, all of which exist."""
    place = existing(store, copy.path)
    if copy.files is not None:
        paths = [f"{copy.path}/{name}" for name in copy.files]
    elif place.is_file():
        paths = [copy.path]
    else:
        paths = [f"{copy.path}/{p.relative_to(place)}" for p in sorted(place.rglob(copy.pattern)) if p.is_file()]
    for path in paths:
        existing(store, path)
    return paths


def copy_files(run: Run, copy: Copy, fresh: list[str]) -> int:
    """Load files in one commit, and write down that they are loaded so that a crash in between is seen later."""
    parts = [f"SELECT * FROM parquet.{quoted(str(run.store.volume_path(path)))}" for path in fresh]
    source = f"SELECT {copy.expressions} FROM ({' UNION ALL '.join(parts)})"
    given = copy.columns or [c.name for c in run.engine.columns(source)]
    text = f"INSERT INTO {quoted(*copy.table)} {arranged(run.columns(copy.table), given, source, is_copy=True)}"
    return load(run, copy.table, text, fresh)


def load(run: Run, table: TableName, text: str, files: list[str]) -> int:
    """Run a statement that loads files, and note that they are loaded; returns the number of rows."""
    run.store.begin_copy(table, files)
    try:
        return changed(run, table, text, "numOutputRows")
    finally:
        run.store.settle_copy(table)


# ── Rows that came by Zerobus ─────────────────────────────────────────────────────────────────────────────────────────


class Lake:
    """The tables as Zerobus and Unity Catalog see them: by full name, without a client's session."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    def made(self, name: str) -> int | None:
        """The version at which a table was made; none if it isn't there."""
        return self._store.tables.get(table_name(name))

    def columns(self, name: str) -> list[Column]:
        """A table's columns."""
        table = table_name(name)
        if found := self._store.columns.get((table, self._store.tables[table])):
            return found
        with self._run() as run:
            return run.columns(table)

    def write(self, name: str, files: list[Path]) -> None:
        """Put the rows of Parquet files into a table in one commit, each file once; a table that has gone gets none."""
        table = table_name(name)
        with self._run() as run, run.alone(table):
            if table not in self._store.tables:
                return
            known_files = self._store.copied(table)
            fresh = [file for file in files if f"zerobus:{file.name}" not in known_files]
            if fresh:
                source = " UNION ALL ".join(f"SELECT * FROM parquet.{quoted(str(file))}" for file in fresh)
                load(run, table, f"INSERT INTO {quoted(*table)} {source}", [f"zerobus:{file.name}" for file in fresh])

    @contextlib.contextmanager
    def _run(self) -> Iterator[Run]:
        """What statements work with, in a session of the engine that knows all tables."""
        session = Session(b"", self._store.catalogs[0], "default", "")
        with self._engine.lent(self._store, session) as engine:
            yield Run(self._store, engine, session, Operation(0, session, ""), Words(""), lambda *_: "")


def table_name(name: str) -> TableName:
    """A full name in three parts."""
    catalog, schema, table = name.lower().split(".")
    return catalog, schema, table


VERBS: dict[str, Callable[[Run], Result]] = {
    "COPY": copy_into,
    "CREATE": create,
    "DELETE": change,
    "DESC": describe,
    "DESCRIBE": describe,
    "DROP": drop,
    "INSERT": insert,
    "LIST": list_,
    "MERGE": change,
    "PUT": put,
    "REMOVE": remove,
    "SET": set_,
    "SHOW": show,
    "TRUNCATE": change,
    "UPDATE": change,
    "USE": use,
}


def refuse_a_second_statement(sql: str) -> None:
    """A request carries one statement; a semicolon may end it."""
    words = itertools.dropwhile(lambda token: token.text != ";", tokens(sql))
    if more := next((token for token in words if token.text != ";"), None):
        message = f"Syntax error at or near {more.text[:40]!r}: extra input after the statement"
        raise failure("PARSE_SYNTAX_ERROR", "42601", message)


def execute(store: Store, engine: Engine, operation: Operation, parameters: list[Any], presign: Presign) -> Result:
    """Carry out a statement. Raises SqlError."""
    if len(operation.text.encode()) > STATEMENT_LIMIT:
        raise failure("STATEMENT_TOO_LARGE", "54000", f"The statement is larger than {STATEMENT_LIMIT} bytes")
    if parameters:
        operation.text = bound(operation.text, parameters)
    if ";" in operation.text:
        refuse_a_second_statement(operation.text)
    words = Words(operation.text)
    verb = VERBS.get(words.peek().text.upper(), query)
    if verb is not query:
        words.take()
    with engine.lent(store, operation.session) as operation.engine:
        return verb(Run(store, operation.engine, operation.session, operation, words, presign))


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
    rows: int | None = None
    late: float = 0.0

    def __post_init__(self) -> None:
        re.compile(self.match)
        if self.action not in ("status", "drop", "reset", "delay", "slow", "zombie", "error", "late"):
            raise ValueError(f"unknown action {self.action!r}")
        if self.when not in ("before", "after"):
            raise ValueError(f"when is 'before' or 'after', not {self.when!r}")


class Faults:
    """The rules in force, and whether the warehouse is still starting."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()
        self._starting_until = 0.0
        self._starting_how = "refuse"

    def add(self, rule: dict[str, Any]) -> None:
        """Add a rule; raises TypeError, ValueError or re.error for one that makes no sense."""
        with self._lock:
            self._rules.append(Fault(**rule))

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()

    def start_over(self, seconds: float, how: str = "refuse") -> None:
        """Behave like a stopped warehouse that needs this long to start."""
        self._starting_how = how
        self._starting_until = time.monotonic() + seconds

    def too_early(self, call: str) -> bool:
        """Whether the warehouse has not started far enough for this call."""
        early = time.monotonic() < self._starting_until
        return early and (self._starting_how == "refuse" or call not in ("OpenSession", "CloseSession"))

    def take(self, call: str, text: str, when: str) -> Fault | None:
        """The first rule that fits, which is used up by one."""
        with self._lock:
            for rule in self._rules:
                hit = re.search(rule.match, call) or re.search(rule.match, text, re.IGNORECASE)
                if rule.when != when or rule.times == 0 or not hit:
                    continue
                if rule.skip == 0:
                    rule.times -= 1
                    return rule
                rule.skip -= 1
        return None


class Log:
    """One JSON line per statement in a file, a short one on stderr, and counts of requests and calls."""

    def __init__(self, path: Path, quiet: bool) -> None:
        self.path = path
        self._quiet = quiet
        self._statements: list[dict[str, Any]] = []
        self._inserts: list[dict[str, Any]] = []
        self._calls: Counter[str] = Counter()
        self._numbers = 0
        self._lock = threading.Lock()

    def number(self) -> int:
        """The next statement's number."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def count(self, name: str) -> None:
        """Count a call, or a request."""
        with self._lock:
            self._calls[name] += 1

    def write(self, number: int, text: str, seconds: float, outcome: str, changed: int | None, detail: str) -> None:
        """Write down how a statement ended: "ok", "error" or "not executed"."""
        entry = {"number": number, "at": time.time(), "seconds": round(seconds, 4), "outcome": outcome}
        entry |= {"rows": changed, "bytes": len(text.encode()), "statement": text[:1000], "detail": detail}
        with self._lock:
            self._statements.append(entry)
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        if not self._quiet:
            line = " ".join(text[:100].split())
            print(f"#{number} {outcome} {seconds:.3f}s {line} {detail}".rstrip(), file=sys.stderr)

    def note_insert(self, table: str, body: bytes, status: int | str, taken: int, detail: str = "") -> None:
        """Write down how a request with rows for Zerobus ended: its status, or how its answer was lost."""
        entry = {"at": time.time(), "table": table, "bytes": len(body), "status": status, "rows": taken}
        with self._lock:
            self._inserts.append(entry | {"detail": detail})

    def answer(self) -> dict[str, Any]:
        """What GET /admin/log answers."""
        with self._lock:
            calls = dict(self._calls)
            counts = {"requests": calls.pop("requests", 0), "sessions_opened": calls.get("OpenSession", 0)}
            return counts | {"calls": calls, "statements": list(self._statements), "inserts": list(self._inserts)}


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# The Thrift service
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

THRIFT_TYPES = {  # Arrow's types in Thrift's words, with the kind of column that carries them and its stand-in for NULL
    "bool": ("BOOLEAN", "Bool", False),
    "int8": ("TINYINT", "Byte", 0),
    "int16": ("SMALLINT", "I16", 0),
    "int32": ("INT", "I32", 0),
    "int64": ("BIGINT", "I64", 0),
    "float": ("FLOAT", "Double", 0.0),
    "double": ("DOUBLE", "Double", 0.0),
    "binary": ("BINARY", "Binary", b""),
    "large_binary": ("BINARY", "Binary", b""),
    "date32[day]": ("DATE", "String", ""),
    "null": ("NULL", "String", ""),
}


def thrift_type(kind: Any) -> tuple[str, str, Any]:
    """A pyarrow type as Thrift's: its name, the kind of its column, and what stands for NULL there."""
    nested = {"timestamp": "TIMESTAMP", "decimal128": "DECIMAL", "list": "ARRAY", "map": "MAP", "struct": "STRUCT"}
    return THRIFT_TYPES.get(str(kind), (nested.get(re.split(r"[<(\[]", str(kind))[0], "STRING"), "String", ""))


def cell_text(value: Any, zone: ZoneInfo) -> str:
    """A value that Thrift carries as text; times are in the session's zone."""
    if isinstance(value, datetime.datetime):
        local = value.astimezone(zone) if value.tzinfo else value
        return local.replace(tzinfo=None).isoformat(" ")
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        value = dict(value)
    return json.dumps(value, default=str) if isinstance(value, (list, dict)) else str(value)


class Service:
    """Answers Thrift calls. Requests and responses are the connector's own classes."""

    def __init__(self, store: Store, engine: Engine, log: Log, presign: Presign, patience: float) -> None:
        from databricks.sql.thrift_api.TCLIService import TCLIService, ttypes

        self._calls, self._t = TCLIService, ttypes
        self._store, self._engine, self._log, self._presign = store, engine, log, presign
        self._patience = patience
        self._sessions: dict[bytes, Session] = {}
        self._operations: dict[bytes, Operation] = {}
        self._ok = ttypes.TStatus(statusCode=ttypes.TStatusCode.SUCCESS_STATUS)

    def call(self, name: str, request: Any, address: str) -> Any:
        """Carry out any call but ExecuteStatement. Raises SqlError."""
        known_calls: dict[str, Callable[[Any], Any]] = {
            "OpenSession": lambda given: self._open_session(given, address),
            "CloseSession": self._close_session,
            "GetOperationStatus": self._get_operation_status,
            "CancelOperation": self._cancel_operation,
            "CloseOperation": self._close_operation,
            "GetResultSetMetadata": lambda given: self._metadata(self._finished(given)),
            "FetchResults": self._fetch_results,
            "GetSchemas": self._list_schemas,
            "GetTables": self._list_tables,
            "GetColumns": self._list_columns,
        }
        if name not in known_calls:
            raise failure("UNSUPPORTED_FEATURE", "0A000", f"The call {name} is not available here")
        return known_calls[name](request)

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

    def refused(self, name: str, request: Any, error: SqlError) -> Any:
        """The answer of a call that failed: a failed statement has a handle, as on Databricks."""
        if name == "ExecuteStatement" and not isinstance(error, HandleError):
            operation = Operation(0, self._session(request), "")
            operation.error = error
            return self._answered(operation, request)
        code = self._t.TStatusCode.ERROR_STATUS
        status = self._t.TStatus(statusCode=code, sqlState=error.sqlstate, errorMessage=str(error))
        return getattr(self._t, f"T{name}Resp")(status=status)

    # ── Sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open_session(self, request: Any, address: str) -> Any:
        session = Session(uuid.uuid4().bytes, self._store.catalogs[0], "default", address)
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
            initialNamespace=self._t.TNamespace(catalog, schema),
            canUseMultipleCatalogs=True,
            configuration={},
        )

    def _close_session(self, request: Any) -> Any:
        session = self._session(request)
        del self._sessions[session.guid]
        left = [operation for operation in list(self._operations.values()) if operation.session is session]
        for operation in left:
            self._operations.pop(operation.guid, None)
        if session.own and all(operation.done.is_set() for operation in left):
            session.own.spark.stop()
        return self._t.TCloseSessionResp(status=self._ok)

    def close_sessions(self) -> None:
        """Forget every session, as a warehouse does when it stops."""
        self._sessions.clear()

    def _session(self, request: Any) -> Session:
        guid = request.sessionHandle.sessionId.guid
        if guid not in self._sessions:
            text = f"Invalid SessionHandle: SessionHandle [{uuid.UUID(bytes=guid)}]"
            raise HandleError(text, "HY000")
        return self._sessions[guid]

    def _handle(self, guid: bytes) -> Any:
        return self._t.THandleIdentifier(guid=guid, secret=guid)

    # ── Statements ────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, request: Any, delay: float = 0.0) -> Operation:
        """Start a statement in a thread of its own, so many seconds later."""
        operation = Operation(self._log.number(), self._session(request), request.statement, delay)
        self._operations[operation.guid] = operation
        threading.Thread(target=self._carry_out, args=(operation, request.parameters or []), daemon=True).start()
        return operation

    def _carry_out(self, operation: Operation, parameters: list[Any]) -> None:
        """Run a statement within its time, and log how it ended."""
        seconds = int(operation.session.settings["STATEMENT_TIMEOUT"])
        late = failure("STATEMENT_TIMEOUT", "57014", f"The statement took longer than STATEMENT_TIMEOUT, {seconds} s")
        timer = threading.Timer(seconds, operation.cancel, [late])
        timer.daemon = True
        timer.start()
        try:
            operation.stopped.wait(operation.delay)
            operation.check()
            operation.result = execute(self._store, self._engine, operation, parameters, self._presign)
        except SqlError as error:
            operation.error = operation.reason or error
        except Exception as error:  # a fault of this program: the client gets an error, the console the traceback
            traceback.print_exc()
            operation.error = failure("INTERNAL_ERROR", "XX000", repr(error))
        finally:
            timer.cancel()
            modified = operation.result.modified if operation.result else None
            outcome, detail = ("error", str(operation.error)) if operation.error else ("ok", "")
            taken = time.monotonic() - operation.started
            self._log.write(operation.number, operation.text, taken, outcome, modified, detail)
            operation.done.set()

    def answer(self, operation: Operation, request: Any, to_the_end: bool) -> Any:
        """ExecuteStatement's answer: the result if it is there in time, else a handle to poll with."""
        if request.getDirectResults or to_the_end:
            operation.done.wait(None if to_the_end else self._patience)
        return self._answered(operation, request)

    def _answered(self, operation: Operation, request: Any) -> Any:
        kind = self._t.TOperationType.EXECUTE_STATEMENT
        response = self._t.TExecuteStatementResp(status=self._ok)
        response.operationHandle = self._t.TOperationHandle(self._handle(operation.guid), kind, hasResultSet=True)
        if request.getDirectResults:
            response.directResults = self._direct(operation, request.getDirectResults.maxRows)
        return response

    def _direct(self, operation: Operation, most: int) -> Any:
        """What there is of a statement; it is closed when that is all."""
        direct = self._t.TSparkDirectResults(operationStatus=self._state(operation))
        if operation.result:
            direct.resultSetMetadata = self._metadata(operation)
            direct.resultSet = self._fetch(operation, most)
        if operation.error or (operation.result and not direct.resultSet.hasMoreRows):
            direct.closeOperation = self._t.TCloseOperationResp(status=self._ok)
            self._operations.pop(operation.guid, None)
        return direct

    def _state(self, operation: Operation) -> Any:
        states, response = self._t.TOperationState, self._t.TGetOperationStatusResp(status=self._ok, hasResultSet=True)
        if operation.error:
            response.operationState, response.sqlState = states.ERROR_STATE, operation.error.sqlstate
            response.errorMessage = response.displayMessage = str(operation.error)
        elif operation.result:
            response.operationState, response.numModifiedRows = states.FINISHED_STATE, operation.result.modified
        else:
            response.operationState = states.RUNNING_STATE
        return response

    def _operation(self, request: Any) -> Operation:
        guid = request.operationHandle.operationId.guid
        if guid not in self._operations:
            raise HandleError(f"RESOURCE_DOES_NOT_EXIST: Command {uuid.UUID(bytes=guid)} does not exist.", "HY000")
        return self._operations[guid]

    def _get_operation_status(self, request: Any) -> Any:
        """Waits a while for the end: clients ask again at once."""
        operation = self._operation(request)
        operation.done.wait(self._patience)
        return self._state(operation)

    def _cancel_operation(self, request: Any) -> Any:
        self._operation(request).cancel(failure("OPERATION_CANCELED", "HY008", "The statement was canceled"))
        return self._t.TCancelOperationResp(status=self._ok)

    def _close_operation(self, request: Any) -> Any:
        operation = self._operations.pop(request.operationHandle.operationId.guid, None)
        if operation and not operation.done.is_set():
            operation.cancel(failure("OPERATION_CANCELED", "HY008", "The statement was closed"))
        return self._t.TCloseOperationResp(status=self._ok)

    # ── Results ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fetch_results(self, request: Any) -> Any:
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
        name, qualifiers = thrift_type(kind)[0], None
        if name == "DECIMAL":
            value = self._t.TTypeQualifierValue
            given = {"precision": value(i32Value=kind.precision), "scale": value(i32Value=kind.scale)}
            qualifiers = self._t.TTypeQualifiers(given)
        entry = self._t.TPrimitiveTypeEntry(getattr(self._t.TTypeId, f"{name}_TYPE"), qualifiers)
        return self._t.TTypeDesc([self._t.TTypeEntry(primitiveEntry=entry)])

    def _fetch(self, operation: Operation, most: int) -> Any:
        """The next rows of a result, at most 100,000."""
        assert operation.result is not None
        table, offset = operation.result.table, operation.offset
        page = table.slice(offset, max(1, min(most or 100_000, 100_000)))
        operation.offset += page.num_rows
        zone = ZoneInfo(operation.session.settings["TIMEZONE"])
        columns = [self._column(page.column(i), zone) for i in range(page.num_columns)]
        results = self._t.TRowSet(startRowOffset=offset, rows=[], columns=columns)
        return self._t.TFetchResultsResp(status=self._ok, hasMoreRows=operation.offset < len(table), results=results)

    def _column(self, column: Any, zone: ZoneInfo) -> Any:
        """A pyarrow column as a Thrift column: values with stand-ins for NULL, and a bit for each NULL."""
        _, word, stand_in = thrift_type(column.type)
        values, nulls = column.to_pylist(), bytearray(len(column) // 8 + 1)
        for i, value in enumerate(values):
            if value is None:
                nulls[i // 8] |= 1 << i % 8
                values[i] = stand_in
            elif word == "String" and not isinstance(value, str):
                values[i] = cell_text(value, zone)
        filled = getattr(self._t, f"T{word}Column")(values=values, nulls=bytes(nulls))
        return self._t.TColumn(**{f"{word[0].lower()}{word[1:]}Val": filled})

    # ── Metadata ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _listed(self, name: str, request: Any, columns: str, found: list[tuple[Any, ...]]) -> Any:
        """A metadata call's answer with these columns and rows, all in direct results."""
        operation = Operation(self._log.number(), self._session(request), name)
        operation.result = Result(rows(**{c: [row[i] for row in found] for i, c in enumerate(columns.split())}))
        kind = self._t.TOperationType.UNKNOWN
        response = getattr(self._t, f"T{name}Resp")(status=self._ok)
        response.operationHandle = self._t.TOperationHandle(self._handle(operation.guid), kind, hasResultSet=True)
        response.directResults = self._direct(operation, 100_000)
        return response

    def _matching(self, request: Any) -> list[TableName]:
        wanted = (request.catalogName, request.schemaName, request.tableName)
        return [table for table in sorted(self._store.tables) if all(map(like, wanted, table))]

    def _list_schemas(self, request: Any) -> Any:
        wanted = (request.catalogName, request.schemaName)
        found = [schema[::-1] for schema in sorted(self._store.schemas) if all(map(like, wanted, schema))]
        return self._listed("GetSchemas", request, "TABLE_SCHEM TABLE_CATALOG", found)

    def _list_tables(self, request: Any) -> Any:
        found = [(*table, "TABLE", "") for table in self._matching(request)]
        return self._listed("GetTables", request, "TABLE_CAT TABLE_SCHEM TABLE_NAME TABLE_TYPE REMARKS", found)

    def _list_columns(self, request: Any) -> Any:
        """The place besides DESCRIBE ... AS JSON that tells which columns are NOT NULL."""
        found = []
        with self._engine.lent(self._store, self._session(request)) as engine:
            for table in self._matching(request):
                for position, column in enumerate(engine.columns_of(self._store, table)):
                    null = "YES" if column.nullable else "NO"
                    found.append((*table, column.name, column.type.upper(), int(column.nullable), position, null))
        names = "TABLE_CAT TABLE_SCHEM TABLE_NAME COLUMN_NAME TYPE_NAME NULLABLE ORDINAL_POSITION IS_NULLABLE"
        return self._listed("GetColumns", request, names, [f for f in found if like(request.columnName, f[3])])


def like(pattern: str | None, name: str) -> bool:
    """Whether a name fits a JDBC pattern: % for any text, _ for any character, a backslash before a plain one."""
    parts = re.findall(r"\\.|.", pattern or "%", re.DOTALL)
    wanted = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(wanted, name, re.IGNORECASE | re.DOTALL) is not None


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Certificates and tokens
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def certificates(directory: Path) -> tuple[Path, Path]:
    """The authority's certificate and the server's with its key; made anew when they are missing or 300 days old."""
    authority, server = directory / "ca.pem", directory / "server.pem"
    if not (server.exists() and authority.exists() and time.time() - server.stat().st_mtime < 300 * 86400):
        make_certificates(authority, server)
    return authority, server


def make_certificates(authority: Path, server: Path) -> None:
    """Write an authority's certificate, whose key is thrown away, and a certificate for localhost signed by it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    leaf = signed("localhost", key, authority_key, authority=False).public_bytes(pem)
    private(server, key.private_bytes(pem, pkcs8, plain) + leaf)
    authority.write_bytes(signed("Local SQL warehouse", authority_key, authority_key, authority=True).public_bytes(pem))


def signed(name: str, key: Any, signer: Any, authority: bool) -> Any:
    """A certificate for a year: the authority's own, or one for localhost and 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    def title(text: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
    builder = x509.CertificateBuilder(title("Local SQL warehouse"), title(name), key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - day).not_valid_after(now + 365 * day)
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(signer, hashes.SHA256())


def private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


class Issued(NamedTuple):
    """A token that was issued: its end in seconds since 1970, and the table that it is for (none: an ordinary one)."""

    end: float
    table: str


class Tokens:
    """The bearer tokens: one that is always good, and those of the service principal `client` ("id:secret")."""

    def __init__(self, token: str, client: str, lifetime: int) -> None:
        self.lifetime = lifetime
        self._token = token
        self._client = client
        self._key = secrets.token_bytes(32)
        self._issued: dict[str, Issued] = {}

    def knows(self, client: str) -> bool:
        """Whether this is the service principal with its secret."""
        return bool(self._client) and hmac.compare_digest(client.encode(), self._client.encode())

    def issue(self, client: str, issuer: str, table: str = "") -> str:
        """A token for the service principal, in the form of a JWT as Databricks issues them."""
        import jwt

        end = time.time() + self.lifetime
        claims = {"iss": issuer, "sub": client.partition(":")[0], "exp": int(end), "jti": secrets.token_hex(8)}
        if table:  # the real ones have 3 to 6 KB
            claims |= {"authorization_details": zerobus.rights(table), "local": secrets.token_hex(1500)}
        token: str = jwt.encode(claims, self._key, algorithm="HS256")
        self._issued[token] = Issued(end, table)
        return token

    def expire(self) -> None:
        """Let all issued tokens end now."""
        self._issued = {token: Issued(0.0, issued.table) for token, issued in self._issued.items()}

    def check(self, header: str | None, table: str = "") -> None:
        """Raise for an Authorization header that isn't good now; with a table: that isn't for rows into it."""
        kind, _, given = (header or "").partition(" ")
        if kind != "Bearer" or not given:
            raise Refused(401, "Credential was not sent or was of an unsupported type for this API.")
        if not table and hmac.compare_digest(given.encode(), self._token.encode()):
            return
        if given not in self._issued:
            raise Refused(401 if table else 403, "Invalid access token.")
        if time.time() > self._issued[given].end:
            raise Refused(401, "The access token has expired.")
        if self._issued[given].table != table:
            raise Refused(
                403, f"The access token is not for this: it is for {self._issued[given].table or 'all-apis'}."
            )


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# HTTP
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class TlsServer(http.server.ThreadingHTTPServer):
    """An HTTPS server whose connections have threads of their own; `context` may change at any time."""

    daemon_threads = True
    request_queue_size = 256
    context: ssl.SSLContext

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break or never become TLS are everyday matters; anything else is a fault of this program."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            traceback.print_exc()


class TlsHandler(http.server.BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: TlsServer

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

    def drop(self, abruptly: bool) -> None:
        """End the connection without an answer, or reset it."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            if abruptly:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.request.detach())
            else:
                self.request.shutdown(socket.SHUT_RDWR)

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class Handler(TlsHandler):
    """A client of the warehouse, of Unity Catalog or of Zerobus."""

    server: Server

    def _handle(self) -> None:
        """Read the body and answer, unless the client has gone or is to be dropped."""
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self.path.startswith("/admin/"):
                self.server.log.count("requests")
            self._route(body)
        except Refused as refused:
            self._refuse(refused)
        except zerobus.Refusal as refusal:
            self._refuse(Refused(refusal.status, str(refusal)))
        except Dropped as dropped:
            self.drop(dropped.abruptly)
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _route(self, body: bytes) -> None:
        """Tokens, and files at presigned addresses, are had without a token."""
        path = urllib.parse.urlsplit(self.path).path
        if path in ("/.well-known/databricks-config", "/oidc/.well-known/oauth-authorization-server"):
            self._discovery()
        elif path == "/oidc/v1/token":
            self._token(body)
        elif path.startswith("/staging/"):
            self._file(body)
        elif match := re.fullmatch(r"/zerobus/v1/tables/([^/]+)/insert", path):
            self._insert(urllib.parse.unquote(match[1]).lower(), body)
        elif match := re.fullmatch(r"/api/2\.1/unity-catalog/tables/([^/]+)", path):
            self._table(urllib.parse.unquote(match[1]).lower())
        else:
            self.server.tokens.check(self.headers.get("Authorization"))
            if path == HTTP_PATH and self.command == "POST":
                self._thrift(body)
            else:
                self._admin(f"{self.command} {path}", body)

    def _refuse(self, refused: Refused) -> None:
        """An error on the level of HTTP, with the headers in which the connector looks for its words."""
        headers = {"X-Thriftserver-Error-Message": str(refused)}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(refused.retry_after)
        if self.path.startswith(("/zerobus/", "/api/", "/oidc/")):
            return self._refuse_rest(refused, headers)
        self._json({"error_code": refused.status, "message": str(refused)}, refused.status, headers)

    def _refuse_rest(self, refused: Refused, headers: dict[str, str]) -> None:
        """The same for everything but Thrift: JSON, or a gateway's page."""
        del headers["X-Thriftserver-Error-Message"]
        if refused.status not in zerobus.CODES:
            page = f"<html><body><h1>{refused.status}</h1>{refused}</body></html>"
            return self._send(page.encode(), "text/html", refused.status, headers)
        code = zerobus.CODES[refused.status]
        if refused.status == 404 and self.path.startswith("/api/"):
            code = "TABLE_DOES_NOT_EXIST"
        self._json({"error_code": code, "message": str(refused)}, refused.status, headers)

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), "application/json", status, headers)

    def _send(self, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(status, {"Content-Type": kind, **(headers or {})}, body)

    # ── Thrift ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _thrift(self, body: bytes) -> None:
        service = self.server.service
        name, sequence, request = service.read(body)
        self.server.log.count(name)
        if self.server.faults.too_early(name):
            raise Refused(503, "TEMPORARILY_UNAVAILABLE: The warehouse is starting.", retry_after=1)
        try:
            response = self._carried_out(name, request)
        except SqlError as error:
            response = service.refused(name, request, error)
        self._send(service.write(name, sequence, response), "application/x-thrift")

    def _carried_out(self, name: str, request: Any) -> Any:
        """A call's response, with the failures that were asked for."""
        service, faults, text = self.server.service, self.server.faults, getattr(request, "statement", "") or ""
        before, after = faults.take(name, text[:4000], "before"), faults.take(name, text[:4000], "after")
        if before and name == "ExecuteStatement":
            self._fail_statement(before, request)
        elif before:
            self._fail(before, name)
        if name == "ExecuteStatement":
            delay = before.seconds if before and before.action == "slow" else 0.0
            response = service.answer(service.begin(request, delay), request, to_the_end=after is not None)
        else:
            response = service.call(name, request, f"https://{self.headers['Host']}")
        if after:
            self._fail(after, name)
        return response

    def _fail_statement(self, fault: Fault, request: Any) -> None:
        """Fail before a statement: it may run later all the same, else the log says that it didn't run."""
        if fault.action == "zombie":
            self.server.service.begin(request, fault.seconds)
        elif fault.action not in ("delay", "slow"):
            log = self.server.log
            log.write(log.number(), request.statement, 0.0, "not executed", None, fault.action)
        if fault.action != "slow":
            self._fail(fault, "ExecuteStatement")

    def _fail(self, fault: Fault, name: str) -> None:
        """Do what the rule says."""
        if fault.action in ("drop", "reset", "zombie"):
            raise Dropped(fault.action == "reset")
        if fault.action == "status":
            raise Refused(fault.status, f"The call {name} was told to fail.", fault.retry_after)
        if fault.action == "error":
            raise SqlError(fault.message, fault.sqlstate)
        time.sleep(fault.seconds)

    # ── Other requests ────────────────────────────────────────────────────────────────────────────────────────────────

    def _discovery(self) -> None:
        """Where tokens are to be had, in the two forms that clients ask for."""
        base = f"https://{self.headers['Host']}/oidc"
        endpoints = {"authorization_endpoint": f"{base}/v1/authorize", "token_endpoint": f"{base}/v1/token"}
        self._json({"oidc_endpoint": base, "issuer": base, **endpoints})

    def _token(self, body: bytes) -> None:
        """A token for a service principal, by client id and secret in the header or in the form."""
        form = dict(urllib.parse.parse_qsl(body.decode()))
        kind, _, packed = (self.headers.get("Authorization") or "").partition(" ")
        client = f"{form.get('client_id')}:{form.get('client_secret')}"
        if kind == "Basic":
            client = base64.b64decode(packed).decode()
        tokens, table = self.server.tokens, ""
        if form.get("grant_type") != "client_credentials":
            return self._json({"error": "unsupported_grant_type"}, 400)
        if self.headers.get("X-Databricks-Org-Id"):  # databricks-sql-python#767
            return self._json({"error": "invalid_request", "error_description": "a token is of no workspace"}, 400)
        if not tokens.knows(client):
            return self._json({"error": "invalid_client", "error_description": "Client authentication failed"}, 401)
        try:
            table = zerobus.table_of_token(form, self.server.zerobus.settings)
        except zerobus.Refusal as refusal:
            return self._json({"error": refusal.error, "error_description": str(refusal)}, refusal.status)
        with self._faults("ZerobusToken" if table else "Token", table):
            token = tokens.issue(client, f"https://{self.headers['Host']}/oidc", table)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": tokens.lifetime, "scope": "all-apis"}
        self._json(answer)

    @contextlib.contextmanager
    def _faults(self, name: str, text: str) -> Iterator[None]:
        """Count a request, and fail before or after it if that was asked for."""
        self.server.log.count(name)
        for when in ("before", "after"):
            if fault := self.server.faults.take(name, text, when):
                self._fail_rest(fault, name)
            if when == "before":
                yield

    def _fail_rest(self, fault: Fault, name: str) -> None:
        """Do what the rule says, outside of Thrift."""
        if fault.action == "error":
            raise Refused(400, fault.message, fault.retry_after)
        if fault.action != "late":
            self._fail(fault, name)

    # ── Unity Catalog and Zerobus ─────────────────────────────────────────────────────────────────────────────────────

    def _table(self, table: str) -> None:
        """What Unity Catalog knows about a table."""
        if self.command != "GET":
            raise Refused(404, f"There is no {self.command} here.")
        self.server.tokens.check(self.headers.get("Authorization"))
        with self._faults("GetTable", table):
            settings = self.server.zerobus.settings
            if self._made(table) and (lacking := zerobus.lacking_rights(table, settings, "SELECT")):
                raise Refused(403, f"User does not have {lacking}.")
            info = zerobus.table_info(table, self.server.lake.columns(table), settings)
        self._json(info)

    def _made(self, table: str) -> int:
        """The version of a table that exists."""
        made = self.server.lake.made(table) if table.count(".") == 2 else None
        if made is None:
            raise Refused(404, f"Table '{table}' does not exist.")
        return made

    def _insert(self, table: str, body: bytes) -> None:
        """Take rows for a table; the answer says that they are on disk."""
        self.server.log.count("ZerobusInsert")
        try:
            taken = self._take_rows(table, body)
        except (Refused, zerobus.Refusal) as refused:
            self.server.log.note_insert(table, body, refused.status, getattr(refused, "taken", 0), str(refused))
            raise
        except Dropped as dropped:
            how = "reset" if dropped.abruptly else "closed"
            self.server.log.note_insert(table, body, how, dropped.taken)
            raise
        self.server.log.note_insert(table, body, 200, taken)
        self._json({})

    def _take_rows(self, table: str, body: bytes) -> int:
        """Check a request and take its rows, with the failures that were asked for; returns how many were taken."""
        faults, text, server = self.server.faults, f"{table} {body.decode(errors='replace')}", self.server
        before, after = (faults.take("ZerobusInsert", text, when) for when in ("before", "after"))
        if before and before.action not in ("late", "zombie"):
            self._fail_rest(before, "ZerobusInsert")
        rows = self._rows(table, body)
        if before and before.action == "zombie":
            timer = threading.Timer(before.seconds, server.zerobus.take, (table, rows))
            timer.daemon = True
            timer.start()
            raise Dropped(False)
        rule = after or before or Fault("", "late")
        taken = server.zerobus.take(table, rows, rule.rows, rule.late)
        if after:
            self._fail_after(after, taken)
        return taken

    def _fail_after(self, fault: Fault, taken: int) -> None:
        """Do what the rule says once rows were taken; the log tells how many."""
        try:
            self._fail_rest(fault, "ZerobusInsert")
        except (Refused, Dropped) as error:
            error.taken = taken
            raise

    def _rows(self, table: str, body: bytes) -> Any:
        """The rows of a request, if it is one that the service takes: a pyarrow.Table."""
        server, settings = self.server, self.server.zerobus.settings
        if self.command != "POST" or self.headers["Host"].partition(".")[0].partition(":")[0] != settings.workspace:
            raise Refused(404, "There is no such address. (Rows go to the Zerobus endpoint, not to the workspace.)")
        if len(body) > settings.limit:
            self._refuse_size(settings)
        server.tokens.check(self.headers.get("Authorization"), table)
        if self.headers.get_content_type() != "application/json" or self.headers.get("Content-Encoding"):
            raise zerobus.invalid("The body has to be application/json, and plain")
        made, columns = self._made(table), server.lake.columns(table)
        server.zerobus.check(table, made, zerobus.table_info(table, columns, settings))
        return zerobus.arrow_table(columns, zerobus.records_of(body))

    def _refuse_size(self, settings: zerobus.Settings) -> None:
        """Refuse a body that is too large, in the way that was asked for."""
        if isinstance(settings.refuse, str):
            raise Dropped(settings.refuse == "reset")
        raise Refused(settings.refuse, f"The body is larger than {settings.limit} bytes.")

    def _set_zerobus(self, body: bytes) -> dict[str, Any]:
        """Change settings; answers with all of them."""
        given = json.loads(body)
        self.server.tokens.lifetime = given.pop("token_lifetime", self.server.tokens.lifetime)
        self.server.zerobus.settings.change(given)
        return self.server.zerobus.tell() | {"token_lifetime": self.server.tokens.lifetime}

    def _file(self, body: bytes) -> None:
        """Move one file of a volume at the address that PUT or REMOVE gave."""
        path = self.server.presigned.get((self.command, self.path))
        if path is None:
            raise Refused(404, "There is no such address.")
        name = f"Staged{self.command}"
        self.server.log.count(name)
        for when in ("before", "after"):
            if fault := self.server.faults.take(name, str(path), when):
                self._fail(fault, name)
            if when == "before":
                move(path, body if self.command == "PUT" else None)
        self._send(b"", "text/plain")

    def _admin(self, request: str, body: bytes) -> None:
        """Requests of those who test."""
        actions: dict[str, Callable[[], Any]] = {
            "GET /admin/log": self.server.log.answer,
            "POST /admin/fail": lambda: self.server.faults.add(json.loads(body)),
            "DELETE /admin/fail": self.server.faults.clear,
            "POST /admin/starting": lambda: self.server.faults.start_over(**json.loads(body)),
            "POST /admin/close_sessions": self.server.service.close_sessions,
            "POST /admin/expire_tokens": self.server.tokens.expire,
            "POST /admin/anew": lambda: self.server.furnish(options(json.loads(body))),
            "GET /admin/zerobus": self.server.zerobus.tell,
            "POST /admin/zerobus": lambda: self._set_zerobus(body),
            "POST /admin/zerobus/flush": self.server.zerobus.flush,
        }
        if request not in actions:
            raise Refused(404, f"RESOURCE_DOES_NOT_EXIST: there is nothing at {self.path}")
        try:
            self._json(actions[request]() or {})
        except (TypeError, ValueError, re.error) as error:
            raise Refused(400, f"INVALID_PARAMETER_VALUE: {error}") from error


def move(path: Path, content: bytes | None) -> None:
    """Write a volume's file, so that it is there whole or not at all; or remove it."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_bytes(content)
    part.replace(path)


class Server(TlsServer):
    """The HTTPS server with what its connections share."""

    def __init__(self, given: argparse.Namespace) -> None:
        super().__init__((given.host, given.port), Handler)
        self.catalogs = tuple(given.catalogs.lower().split(","))
        self.sail: Any = None
        self.tokens: Tokens
        self.faults: Faults
        self.log: Log
        self.engine: Engine | None = None
        self.service: Service
        self.lake: Lake
        self.zerobus: Zerobus
        self.presigned: dict[tuple[str, str], Path] = {}

    def furnish(self, given: argparse.Namespace) -> dict[str, Any]:
        """Take what is in a directory and what was asked for; returns where everything is.

        What was there before is left with the statements and rows that are on their way to it.
        """
        directory = given.directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        authority, certificate = certificates(directory)
        secret, log = token_file(directory, given.token), Log(directory / "statements.jsonl", given.quiet)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.tokens = Tokens(secret.read_text(), given.client, given.token_lifetime)
        self.faults, self.log, self.presigned = Faults(), log, {}
        for rule in given.fail:
            self.faults.add(json.loads(rule))
        self._open(Store(directory, self.catalogs), given)
        self.faults.start_over(given.starting)
        files = {"ca_file": authority, "token_file": secret, "log_file": log.path, "directory": directory}
        place = {"host": given.host, "port": self.server_address[1], "http_path": HTTP_PATH}
        return place | {name: str(path) for name, path in files.items()}

    def _open(self, store: Store, given: argparse.Namespace) -> None:
        """Let sessions of the engine find the store's tables, and Zerobus bring rows to them."""
        store.load()
        if self.engine:
            self.engine.close()
            self.zerobus.end()
        self.engine = Engine(self.sail)
        self.engine.give_back(self.engine.take())
        self.service = Service(store, self.engine, self.log, self.presign, given.patience)
        self.lake = Lake(store, self.engine)
        settings = zerobus.Settings(delay=given.zerobus_delay, limit=given.zerobus_limit)
        self.zerobus = Zerobus(store.directory, settings, self.lake.write)
        self.zerobus.start()

    def presign(self, verb: str, address: str, path: Path) -> str:
        """An address at which a client may move one file without a token."""
        place = f"/staging/{secrets.token_urlsafe(24)}"
        self.presigned[(verb, place)] = path
        return address + place


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Command line
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("warehouse"), help="where all is kept (./warehouse)")
    parser.add_argument("--host", default="localhost", help="address to listen at (localhost)")
    parser.add_argument("--port", type=int, default=0, help="port to listen at (a free one)")
    parser.add_argument("--token", help="the bearer token (the one in DIRECTORY/token, else a random one)")
    parser.add_argument("--client", default="", metavar="ID:SECRET", help="a service principal that may ask for tokens")
    parser.add_argument("--token-lifetime", type=int, default=3600, help="seconds that such a token is good (3600)")
    parser.add_argument("--zerobus-delay", type=float, default=5.0, help="seconds from Zerobus to the table (5)")
    parser.add_argument("--zerobus-limit", type=int, default=10_000_000, help="bytes of its largest body (10,000,000)")
    parser.add_argument("--catalogs", default="main,hive_metastore,workspace", help="names of the catalogs")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds until a client is told to poll (5)")
    parser.add_argument("--fail", action="append", default=[], metavar="RULE", help="fail by this rule, in JSON")
    parser.add_argument("--starting", type=float, default=0.0, help="seconds for which the warehouse is still starting")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when whoever started this has gone")
    parser.add_argument("--quiet", action="store_true", help="no line on stderr for each statement")
    return parser.parse_args(arguments)


def token_file(directory: Path, token: str | None) -> Path:
    """The file with the token: the given one, the one from before, or a random one."""
    path = directory / "token"
    if token or not path.exists():
        private(path, (token or f"local-{secrets.token_hex(16)}").encode())
    return path


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    given = options(arguments)
    server = Server(given)
    server.sail = started_sail(server.catalogs)
    ready = server.furnish(given)
    stop = stopped_by_signal()
    if given.until_stdin_closes:
        threading.Thread(target=wait_for_stdin, args=(stop,), daemon=True).start()
    serve(server, ready, stop)


def stopped_by_signal() -> threading.Event:
    """The event that a signal to end sets."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def wait_for_stdin(stop: threading.Event) -> None:
    """Set the event when standard input ends: whoever started this has gone."""
    sys.stdin.read()
    stop.set()


def serve(server: Server, ready: dict[str, Any], stop: threading.Event) -> None:
    """Print the line that says where everything is, and serve until it is time to stop."""
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    print(json.dumps(ready), flush=True)
    stop.wait()
    server.shutdown()
    server.server_close()
    os._exit(0)  # statements that still run are given up: a Delta commit is made whole or not at all


if __name__ == "__main__":
    main(sys.argv[1:])
