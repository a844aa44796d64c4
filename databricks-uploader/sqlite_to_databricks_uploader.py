#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "adbc-driver-manager>=1.13,<2",        # reads SQLite into Arrow at C speed, with a current SQLite inside
#     "adbc-driver-sqlite>=1.13,<2",
#     "arro3-core>=0.9,<0.10",               # Arrow in 11 MB; deltalake brings it anyway
#     "databricks-sql-connector>=4.9,<4.10", # pinned to a minor: its replay of INSERTs is switched off by name
#     "deltalake>=1.6,<2",                   # Delta tables without a Databricks account or a JVM
#     "pandas>=2.2,<4",                      # the connector brings it; sanitize, filter and aggregate use it
#     "pyyaml>=6,<7",
# ]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""Append the new rows of a SQLite table to a Delta table or a Databricks SQL warehouse, exactly once.

Written so far:

    Errors           what passes by itself and what does not, with hint and exit status
    Configuration    every setting declared once; YAML, environment and command line in layers
    Source           opening the SQLite file harmlessly, finding its table and its time column
    State            last_upload.json: durable, validated, locked
    Targets          Delta tables by path, exactly once by transaction identifiers
    Cycle            intent, commit, confirmation
    Command line     arguments and the one place where errors are caught

Not written yet: the SQL warehouse, processing, timestamp cursors; each is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import difflib
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

__version__ = "0.1.0"

log = logging.getLogger("uploader")


# === Errors ===========================================================================================
#
# One tree. A `TransientError` passes by itself: the rows wait and the next cycle tries again. Any
# other error needs a person. Each has a hint (what to do next) and the exit status of a `--once` run.


class UploaderError(Exception):
    """Anything that ends a cycle: a message for people, a hint, an exit status."""

    status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(UploaderError):
    """The settings can't be right; nothing was read or sent."""

    status = 2


class SourceError(UploaderError):
    """The database or its table is not what the settings or the state say."""


class StateError(UploaderError):
    """The state can't be trusted or written; nothing is sent without it."""


class TargetError(UploaderError):
    """The target refuses: wrong token, missing table, unfitting columns."""


class DoubtError(UploaderError):
    """It can't be found out whether an earlier commit took place."""


class TransientError(UploaderError):
    """Will pass by itself: busy, unreachable, overloaded. The rows wait where they are."""


class LockedError(TransientError):
    """Another process uses this state directory. 75 is sysexits' EX_TEMPFAIL."""

    status = 75


# === Configuration ====================================================================================
#
# `Config` declares every setting once: its YAML key is the field's name, and flag, variable, help,
# the example file and docs/configuration.md follow from the metadata beside it.

Parser = Callable[[Any], Any]


def text(value: Any) -> str:
    """Any scalar as text; lists and mappings are refused."""
    if isinstance(value, (dict, list)) or value is None or str(value).strip() == "":
        raise ValueError("expected a text")
    return str(value).strip()


def path(value: Any) -> Path:
    """A file system path, `~` expanded."""
    return Path(text(value)).expanduser()


def boolean(value: Any) -> bool:
    """`true`/`1` and `false`/`0` in any case, as YAML, shells and compose files write them."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return known[str(value).strip().lower()]
    except KeyError:
        raise ValueError("expected true or false") from None


def number(minimum: float) -> Parser:
    """A finite number, at least `minimum`."""

    def parse(value: Any) -> float:
        try:
            parsed = float(text(value)) if not isinstance(value, bool) else math.nan
        except ValueError:
            parsed = math.nan
        if not math.isfinite(parsed) or parsed < minimum:
            raise ValueError(f"expected a number of at least {minimum:g}")
        return parsed

    return parse


def whole_number(minimum: int) -> Parser:
    """A whole number, at least `minimum`."""

    def parse(value: Any) -> int:
        shown = text(value)
        if isinstance(value, bool) or not re.fullmatch(r"[+-]?\d+", shown) or int(shown) < minimum:
            raise ValueError(f"expected a whole number of at least {minimum}")
        return int(shown)

    return parse


def one_of(*choices: str) -> Parser:
    """One of a few words, in any case."""

    def parse(value: Any) -> str:
        word = text(value).lower()
        if word not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return word

    return parse


def mapping(value: Any) -> dict[str, Any]:
    """Rules: a mapping in YAML, JSON text elsewhere."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"malformed JSON at line {error.lineno}, column {error.colno}") from None
    if not isinstance(value, dict):
        raise ValueError('expected a mapping, in JSON for example {"column": "value"}')
    return value


def time_zone(value: Any) -> str:
    """An IANA zone name that this machine knows."""
    try:
        ZoneInfo(text(value))
    except (KeyError, ValueError, OSError):
        raise ValueError("expected a time zone such as UTC or Europe/Berlin") from None
    return text(value)


def host(value: Any) -> str:
    """A host with an optional port; scheme, path and `?o=` of a pasted address are dropped."""
    shown = text(value)
    if shown.startswith("http://"):
        raise ValueError("expected https: a token is never sent unencrypted")
    shown = shown.removeprefix("https://").split("/")[0].split("?")[0]
    if not re.fullmatch(r"[A-Za-z0-9.\-]+(:\d+)?", shown):
        raise ValueError("expected a host such as adb-123.4.azuredatabricks.net")
    return shown


def http_path(value: Any) -> str:
    """The path of a warehouse or cluster; a bare warehouse id becomes its path."""
    shown = text(value)
    return shown if "/" in shown else f"/sql/1.0/warehouses/{shown}"


def volume(value: Any) -> str:
    """A Unity Catalog volume's path."""
    shown = text(value).rstrip("/")
    if not re.fullmatch(r"/Volumes/[^/]+/[^/]+/[^/]+(/[^/]+)*", shown):
        raise ValueError("expected /Volumes/catalog/schema/volume")
    return shown


def address(value: Any) -> str:
    """`host:port` to listen on; `off` for none."""
    shown = text(value)
    if not re.fullmatch(r".*:\d{1,5}", shown):
        raise ValueError("expected host:port, for example 127.0.0.1:9108")
    return shown


def setting(
    default: Any,
    env: str,
    parse: Parser,
    help: str,
    *,
    aliases: Sequence[str] = (),
    flags: Sequence[str] = (),
    flag: bool = True,
    secret: bool = False,
    shown: str = "",
    example: str = "",
) -> Any:
    """Declare one setting.

    `env` lists its variables, first the usual one. `aliases` are other YAML keys, `flags` other
    flags. A secret has no flag, may come from `<VARIABLE>_FILE`, and is masked wherever it is shown.
    `shown` documents a default that is not a plain value; `example` stands in the example file.
    """
    meta = {
        "env": tuple(env.split()), "parse": parse, "help": help, "aliases": tuple(aliases),
        "flags": tuple(flags), "flag": flag and not secret, "secret": secret, "shown": shown,
        "example": example,
    }  # fmt: skip
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=meta)
    return dataclasses.field(default=default, repr=not secret, metadata=meta)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run needs to know, checked and typed. Times are in seconds."""

    sqlite: Path | None = setting(
        None, "SQLITE_PATH", path, "The SQLite database file to read.",
        aliases=["sqlite_path"], example="/data/sensor_data.db")  # fmt: skip
    sqlite_table_name: str | None = setting(
        None, "SQLITE_TABLE_NAME", text, "Source table or view.",
        aliases=["sqlite_table"], flags=["--table"], shown="detected")  # fmt: skip
    timestamp_col: str | None = setting(
        None, "TIMESTAMP_COL", text, "The time column.", shown="detected")  # fmt: skip
    cursor: str = setting(
        "auto", "UPLOAD_CURSOR", one_of("auto", "rowid", "timestamp"),
        "How new rows are found: auto, rowid or timestamp (docs/delivery.md).")  # fmt: skip
    lookback: float = setting(
        300.0, "UPLOAD_LOOKBACK", number(0),
        "Seconds that a timestamp cursor looks back for late rows.")  # fmt: skip
    source_timezone: str = setting(
        "UTC", "UPLOAD_SOURCE_TIMEZONE", time_zone, "Zone of times written without one.")  # fmt: skip
    source_id: str | None = setting(
        None, "UPLOAD_SOURCE_ID", text,
        "Names this source in Delta transactions and batch ids.",
        shown="random, kept in the state")  # fmt: skip
    databricks_host: str | None = setting(
        None, "DATABRICKS_HOST DATABRICKS_SERVER_HOSTNAME", host,
        "Workspace host; https://, a path and ?o= are accepted, so is a port.",
        example="your-workspace.cloud.databricks.com")  # fmt: skip
    databricks_http_path: str | None = setting(
        None, "DATABRICKS_HTTP_PATH DATABRICKS_WAREHOUSE_ID", http_path,
        "Path of the SQL warehouse or cluster.", shown="from `DATABRICKS_WAREHOUSE_ID`",
        example="/sql/1.0/warehouses/your_warehouse_id")  # fmt: skip
    databricks_token: str | None = setting(
        None, "DATABRICKS_TOKEN", text,
        "Personal access token. Better from the environment than from YAML.",
        secret=True)  # fmt: skip
    databricks_database: str | None = setting(
        None, "DATABRICKS_DATABASE", text, "Target schema, or catalog.schema.",
        example="your_database")  # fmt: skip
    databricks_table: str | None = setting(
        None, "DATABRICKS_TABLE", text, "Base table name; the scenario's prefix is added.",
        example="sensor_readings")  # fmt: skip
    databricks_volume: str | None = setting(
        None, "DATABRICKS_VOLUME", volume,
        "/Volumes/catalog/schema/volume: bulk route by PUT and COPY INTO.")  # fmt: skip
    databricks_ca_file: Path | None = setting(
        None, "DATABRICKS_CA_FILE", path,
        "CA bundle (PEM) that is trusted for the workspace host.", shown="system roots")  # fmt: skip
    databricks_statement_timeout: int = setting(
        120, "DATABRICKS_STATEMENT_TIMEOUT", whole_number(1),
        "Seconds that the server may work on one INSERT; the longest wait after a lost answer.")  # fmt: skip
    table_path: str | None = setting(
        None, "TABLE_PATH", text,
        "One Delta table's path or URI (local, s3://, abfss://), used as given.")  # fmt: skip
    lakehouse_path: str | None = setting(
        None, "LAKEHOUSE_PATH", text,
        "Root of Delta tables: rows go to <lakehouse_path>/<prefix><databricks_table>.")  # fmt: skip
    storage_options: dict[str, Any] = setting(
        {}, "STORAGE_OPTIONS", mapping,
        "Options for delta-rs, such as AWS_* and AZURE_* keys (JSON in the environment).",
        flag=False)  # fmt: skip
    enable_sanitize: bool = setting(
        False, "ENABLE_SANITIZE", boolean, "Clean rows first; they go to secure_<table>.")  # fmt: skip
    enable_filter: bool = setting(
        False, "ENABLE_FILTER", boolean, "Keep some rows only; they go to filtered_<table>.")  # fmt: skip
    enable_aggregate: bool = setting(
        False, "ENABLE_AGGREGATE", boolean, "Send groups only; they go to aggregated_<table>.")  # fmt: skip
    sanitize_config: dict[str, Any] = setting(
        {}, "SANITIZE_CONFIG", mapping, "Rules of enable_sanitize (JSON outside YAML).")  # fmt: skip
    filter_config: dict[str, Any] = setting(
        {}, "FILTER_CONFIG", mapping, "Rules of enable_filter (JSON outside YAML).")  # fmt: skip
    aggregate_config: dict[str, Any] = setting(
        {}, "AGGREGATE_CONFIG", mapping, "Rules of enable_aggregate (JSON outside YAML).")  # fmt: skip
    state_dir: Path | None = setting(
        None, "STATE_DIR", path,
        "Where last_upload.json lives: one directory per source table and scenario.",
        shown="`/state`, or `./state` where `/state` does not exist", example="./state")  # fmt: skip
    interval: float = setting(300.0, "UPLOAD_INTERVAL", number(0), "Seconds between cycles.")  # fmt: skip
    jitter: float = setting(
        0.0, "UPLOAD_JITTER", number(0),
        "The first cycle waits a random part of this many seconds.")  # fmt: skip
    once: bool = setting(False, "ONCE", boolean, "One cycle, then exit.")  # fmt: skip
    batch_rows: int | None = setting(
        None, "UPLOAD_BATCH_ROWS", whole_number(1), "Most rows per commit.",
        shown="chosen by the tool")  # fmt: skip
    schema: str = setting(
        "match", "UPLOAD_SCHEMA", one_of("match", "evolve"),
        "New source columns: match warns, evolve adds them (Delta targets).")  # fmt: skip
    max_bad_rows: int = setting(
        1000, "UPLOAD_MAX_BAD_ROWS", whole_number(0),
        "Rows quarantined in one cycle before the run stops.")  # fmt: skip
    on_doubt: str = setting(
        "stop", "UPLOAD_ON_DOUBT", one_of("stop", "resend"),
        "When it can't be found out whether an INSERT committed: stop or resend.")  # fmt: skip
    databricks_client_id: str | None = setting(
        None, "DATABRICKS_CLIENT_ID", text, "Service principal for OAuth machine-to-machine.",
        flag=False)  # fmt: skip
    databricks_client_secret: str | None = setting(
        None, "DATABRICKS_CLIENT_SECRET", text, "Its secret.", secret=True)  # fmt: skip
    databricks_config_profile: str | None = setting(
        None, "DATABRICKS_CONFIG_PROFILE", text, "Profile of ~/.databrickscfg.")  # fmt: skip
    metrics_address: str | None = setting(
        None, "UPLOAD_METRICS_ADDRESS", address, "host:port for Prometheus metrics.",
        shown="off")  # fmt: skip


SETTINGS = {field.name: field for field in dataclasses.fields(Config)}
YAML_KEYS = {key: name for name, f in SETTINGS.items() for key in (name, *f.metadata["aliases"])}
TARGET_SETTINGS = ("databricks_http_path", "table_path", "lakehouse_path")

# A layer maps setting names to values that are already parsed.
Layer = dict[str, Any]


def parse_setting(name: str, value: Any, origin: str) -> Any:
    """The typed value of one setting, or a `ConfigError` that names where the bad one stands."""
    meta = SETTINGS[name].metadata
    try:
        return meta["parse"](value)
    except ValueError as error:
        shown = "" if meta["secret"] else f" (it is {value!r})"
        raise ConfigError(f"{origin}: {error}{shown}", meta["help"]) from None


def layer_from_yaml(file: Path) -> Layer:
    """The settings of a YAML file; unknown keys are errors that name the nearest known one."""
    document = load_yaml(file)
    layer: Layer = {}
    for key, value in document.items():
        if key not in YAML_KEYS:
            raise ConfigError(f"{file}: unknown key {key!r}", nearest(str(key), YAML_KEYS))
        name = YAML_KEYS[key]
        if name in layer:
            raise ConfigError(f"{file}: {key!r} repeats {name!r} under another name", "Keep one.")
        if value is not None:
            layer[name] = parse_setting(name, value, f"{file}: {key}")
    if "databricks_token" in layer:
        log.warning("%s holds a token; DATABRICKS_TOKEN or DATABRICKS_TOKEN_FILE keeps it out of files", file)
    return layer


def load_yaml(file: Path) -> dict[Any, Any]:
    """The mapping in a YAML file, read by the safe loader."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}", "Check --config.") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"{file} is not valid YAML{line}", "Check quotes and indentation.") from None
    if document is not None and not isinstance(document, dict):
        raise ConfigError(f"{file} holds no settings", "Expected lines such as `sqlite: /data/sensor.db`.")
    return document or {}


def layer_from_environ(environ: Mapping[str, str]) -> Layer:
    """The settings in the environment. Empty variables count as unset, as in compose files."""
    layer: Layer = {}
    for name, field in SETTINGS.items():
        for variable in field.metadata["env"]:
            if name not in layer and environ.get(variable, "").strip():
                layer[name] = parse_setting(name, environ[variable], variable)
        if field.metadata["secret"]:
            layer |= secret_from_file(name, environ, given=name in layer)
    return layer


def secret_from_file(name: str, environ: Mapping[str, str], *, given: bool) -> Layer:
    """A secret named by `<VARIABLE>_FILE`, the convention of container images."""
    variable = SETTINGS[name].metadata["env"][0]
    file = environ.get(f"{variable}_FILE", "").strip()
    if not file:
        return {}
    if given:
        raise ConfigError(f"{variable} and {variable}_FILE are both set", "Unset one of them.")
    try:
        secret = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable}_FILE: {file} can't be read: {error.__class__.__name__}") from None
    return {name: parse_setting(name, secret, f"{variable}_FILE")}


def layer_from_flags(arguments: Mapping[str, Any]) -> Layer:
    """The settings on the command line; argparse leaves out what was not given."""
    return {name: parse_setting(name, arguments[name], flag_of(name)) for name in SETTINGS if name in arguments}


def merge_layers(layers: Sequence[tuple[str, Layer]]) -> Config:
    """One `Config` out of layers, the highest last; its target comes from the highest that names one."""
    merged: Layer = {}
    for _, layer in layers:
        merged |= layer
    for origin, layer in reversed(layers):
        named = [name for name in TARGET_SETTINGS if name in layer]
        if len(named) > 1:
            raise ConfigError(f"{origin}: two targets, {' and '.join(named)}", "Keep one of them.")
        if named:
            merged = {k: v for k, v in merged.items() if k not in TARGET_SETTINGS or k == named[0]}
            log.debug("target %s comes from the %s", named[0], origin)
            break
    return Config(**merged)


def flag_of(name: str) -> str:
    """`batch_rows` is `--batch-rows`."""
    return "--" + name.replace("_", "-")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint with the known word that looks most like this one."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


# The table that rows go to depends on the one kind of processing that is enabled.
PREFIXES = {"raw": "raw_", "filter": "filtered_", "sanitize": "secure_", "aggregate": "aggregated_"}


def scenario_of(config: Config) -> str:
    """Which kind of processing is enabled: a key of `PREFIXES`."""
    enabled = [s for s in ("sanitize", "filter", "aggregate") if getattr(config, f"enable_{s}")]
    if len(enabled) > 1:
        names = " and ".join(f"enable_{s}" for s in enabled)
        raise ConfigError(f"{names} are both true", "Enable one; each scenario is an uploader of its own.")
    return enabled[0] if enabled else "raw"


def routed_table(base: str, scenario: str) -> str:
    """The scenario's table. A base name that already has one of the prefixes counts without it."""
    for prefix in PREFIXES.values():
        if base.lower().startswith(prefix) and len(base) > len(prefix):
            base = base[len(prefix) :]
            break
    return PREFIXES[scenario] + base


def check_target(config: Config) -> None:
    """Exactly one target, with all that it needs, or a `ConfigError` that says what to set."""
    if not any(getattr(config, name) for name in TARGET_SETTINGS):
        raise ConfigError(
            "no target is set",
            "Set databricks_http_path (or DATABRICKS_WAREHOUSE_ID), lakehouse_path or table_path.",
        )
    needed: list[str] = []
    if config.lakehouse_path:
        needed = ["databricks_table"]
    if config.databricks_http_path:
        needed = ["databricks_host", "databricks_database", "databricks_table"]
    missing = [name for name in needed if getattr(config, name) is None]
    if missing:
        variables = ", ".join(SETTINGS[name].metadata["env"][0] for name in missing)
        raise ConfigError(f"{' and '.join(missing)} not set", f"Set {variables}, or the YAML keys.")


def configuration_table() -> str:
    """docs/configuration.md's table of settings, in Markdown."""
    lines = ["| YAML key | variable | flag | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, field in SETTINGS.items():
        meta = field.metadata
        keys = " ".join(f"`{key}`" for key in (name, *meta["aliases"]))
        variables = [*meta["env"], *([f"{meta['env'][0]}_FILE"] if meta["secret"] else [])]
        flags = " ".join(f"`{f}`" for f in flags_of(name)) or "none"
        lines.append(
            f"| {keys} | {' '.join(f'`{v}`' for v in variables)} | {flags} | {shown_default(name)} | {meta['help']} |"
        )
    return "\n".join(lines) + "\n"


def flags_of(name: str) -> list[str]:
    """All flags of one setting; none for a secret."""
    meta = SETTINGS[name].metadata
    return [flag_of(name), *meta["flags"]] if meta["flag"] else []


def shown_default(name: str) -> str:
    """A setting's default, as the documentation shows it."""
    field = SETTINGS[name]
    if field.metadata["shown"]:
        return str(field.metadata["shown"])
    if field.default is dataclasses.MISSING:
        return "`{}`"
    return "-" if field.default is None else f"`{plain(field.default)}`"


def plain(value: Any) -> str:
    """A default as YAML writes it: 300, not 300.0; false, not False."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def example_config() -> str:
    """databricks-uploader-config.yaml.example: each setting, those of a first run filled in."""
    lines = ["# Every setting of the uploader. Flags and variables override this file.", ""]
    for name, field in SETTINGS.items():
        meta = field.metadata
        lines.append(f"# {meta['help']}")
        if meta["secret"]:
            lines += [f"# Prefer {meta['env'][0]} or {meta['env'][0]}_FILE to a line here.", f"# {name}:", ""]
        elif meta["example"]:
            lines += [f"{name}: {json.dumps(meta['example'])}", ""]
        else:
            lines += [f"# {name}: {shown_default(name).strip('`-')}".rstrip(), ""]
    return "\n".join(lines).rstrip() + "\n"


# === Source ===========================================================================================
#
# The producer's file, read through ADBC alone: a second copy of SQLite in this process would drop the
# first one's POSIX locks (sqlite.org/howtocorrupt.html, 2.2.1). Each query is one short transaction.


def quoted(name: str) -> str:
    """An SQLite identifier. Columns also need a table alias, or a wrong name becomes a string."""
    return '"' + name.replace('"', '""') + '"'


def source_uri(file: Path) -> str:
    """The URI that opens `file` without writing beside it, or a `SourceError` that says why not.

    A WAL database whose side files are missing is opened immutable, since SQLite would create them
    under our user; that is right only while no WAL holds rows.
    """
    if not file.is_file():
        raise SourceError(f"{file} does not exist or is no file", "Check sqlite; mount the file's directory.")
    with file.open("rb") as opened:
        header = opened.read(20)
    if header and not header.startswith(b"SQLite format 3\0"):
        raise SourceError(f"{file} is not a SQLite database", "Check sqlite.")
    wal, shm = (file.with_name(file.name + end) for end in ("-wal", "-shm"))
    is_wal = header[18:19] == b"\x02"
    if is_wal and not shm.exists() and wal.exists() and wal.stat().st_size:
        raise SourceError(f"{wal} holds rows, but {shm.name} is missing", "Let the producer open its database.")
    immutable = "&immutable=1" if is_wal and not (wal.exists() and shm.exists()) else ""
    return f"file:{quote(str(file.absolute()))}?mode=ro{immutable}"


def values_of(column: Any) -> list[Any]:
    """The Python values of an Arrow column."""
    return [value for chunk in column.chunks for value in chunk.to_pylist()]


def fingerprint(file: Path) -> tuple[int, ...]:
    """What changes when a producer writes: the file's identity, size and time, and its WAL's size."""
    wal = file.with_name(file.name + "-wal")
    seen = file.stat()
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, wal.stat().st_size if wal.exists() else 0


class Database:
    """One read-only connection. Use as a context manager; queries return lists of tuples."""

    def __init__(self, file: Path, busy_seconds: float = 5.0) -> None:
        self.file = file
        self.busy_seconds = busy_seconds
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Database:
        import adbc_driver_manager
        import adbc_driver_sqlite

        uri = source_uri(self.file)
        self._unchanging = fingerprint(self.file) if "immutable=1" in uri else None
        database = self._stack.enter_context(adbc_driver_sqlite.connect(uri))
        self._connection = self._stack.enter_context(adbc_driver_manager.AdbcConnection(database))
        self.rows(f"PRAGMA busy_timeout = {int(self.busy_seconds * 1000)}")
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a small query. Each column must hold one type."""
        return list(zip(*(values_of(column) for column in self.table(sql).columns), strict=True))

    def table(self, sql: str, batch_rows: int = 1024) -> Any:
        """An Arrow table of all rows; ADBC takes each column's type from the first `batch_rows`."""
        import adbc_driver_manager
        from arro3.core import Table

        try:
            with adbc_driver_manager.AdbcStatement(self._connection) as statement:
                statement.set_options(**{"adbc.sqlite.query.batch_rows": str(batch_rows)})
                statement.set_sql_query(sql)
                table = Table.from_arrow(statement.execute_query()[0])
        except adbc_driver_manager.Error as error:
            raise source_error(str(error)) from None
        if self._unchanging not in (None, fingerprint(self.file)):
            raise TransientError("the producer began to write while its file was read", "The next cycle reads it anew.")
        return table


def source_error(message: str) -> UploaderError:
    """SQLite's message as one of ours; the driver gives no error code."""
    if "locked" in message or "busy" in message:
        return TransientError("the database is locked by another process", "The next cycle tries again.")
    return SourceError(message.split("\n")[0], "Check the file with `sqlite3 FILE 'PRAGMA integrity_check'`.")


TIME_NAMES = ("timestamp", "event_timestamp", "created_at", "measurementtime", "time", "datetime", "date", "ts")


def detect_table(database: Database, wanted: str | None) -> str:
    """The table or view to read: the one that is set, else the only table, else the only view."""
    found = database.rows(
        "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"
    )
    names = [name for name, _ in found]
    if wanted is not None:
        matches = [name for name in names if name.lower() == wanted.lower()]
        if not matches:
            raise ConfigError(f"the database has no table {wanted!r}", nearest(wanted, names))
        return str(matches[0])
    candidates = [name for name, kind in found if kind == "table"] or names
    if len(candidates) != 1:
        raise ConfigError(f"tables found: {', '.join(candidates) or 'none'}", "Set sqlite_table_name.")
    return str(candidates[0])


def detect_time_column(columns: Mapping[str, str], wanted: str | None) -> str:
    """The time column among `columns`, a mapping of names to declared types."""
    by_name = {name.lower(): name for name in columns}
    if wanted is not None:
        if wanted.lower() not in by_name:
            raise ConfigError(f"the table has no column {wanted!r}", nearest(wanted, columns))
        return by_name[wanted.lower()]
    for name in TIME_NAMES:
        if name in by_name:
            return by_name[name]
    declared = [n for n, kind in columns.items() if kind.upper().split("(")[0] in ("DATE", "DATETIME", "TIMESTAMP")]
    if len(declared) != 1:
        raise ConfigError(f"no single time column among {', '.join(columns)}", "Set timestamp_col.")
    return declared[0]


def columns_of(database: Database, table: str) -> dict[str, str]:
    """Column names and declared types, generated columns included."""
    literal = table.replace("'", "''")
    return dict(database.rows(f"SELECT name, type FROM pragma_table_xinfo('{literal}') WHERE hidden <> 1"))


# === State ============================================================================================
#
# One small JSON file. It is replaced as a whole, durably: temporary file, fsync, rename, fsync of the
# directory. A file that can't be trusted stops the run; it is never replaced by an empty one.

STATE_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class State:
    """What was delivered. `last_upload` is ISO-8601 in UTC and for people; `position` decides."""

    last_upload: str | None = None
    source_id: str = ""
    epoch: int = 0
    table: str | None = None
    position: dict[str, Any] = dataclasses.field(default_factory=dict)
    anchors: list[list[Any]] = dataclasses.field(default_factory=list)
    sequence: int = 0
    intent: dict[str, Any] | None = None
    target: str | None = None


def checksum(document: Mapping[str, Any]) -> str:
    """A digest of everything but the checksum itself: it finds damage and half-made edits."""
    content = {key: value for key, value in document.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class StateFile:
    """`last_upload.json` in its directory, locked while used as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "last_upload.json"
        self._lock = -1

    def __enter__(self) -> StateFile:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.directory / ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise LockedError(
                f"another process uses {self.directory}", "Give each uploader its own state_dir."
            ) from None
        return self

    def __exit__(self, *reason: object) -> None:
        os.close(self._lock)

    def load(self) -> State | None:
        """The saved state; None where there is none; a `StateError` where it can't be trusted."""
        try:
            document = json.loads(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged(error.__class__.__name__) from None
        if isinstance(document, dict) and document.keys() == {"last_upload"}:
            return State(last_upload=utc_text(document["last_upload"], self.file))
        return self._checked(document)

    def save(self, state: State) -> None:
        """Replace the saved state durably, or raise `StateError` and leave the old one as it was."""
        document = {"format": STATE_FORMAT, **dataclasses.asdict(state)}
        content = json.dumps({**document, "checksum": checksum(document)}, indent=1).encode()
        temporary = self.file.with_suffix(".tmp")
        try:
            temporary.unlink(missing_ok=True)
            write_durably(temporary, content)
            os.replace(temporary, self.file)
            sync_directory(self.directory)
        except OSError as error:
            raise self._unwritable(error) from None

    def _checked(self, document: Any) -> State:
        if not isinstance(document, dict) or document.get("checksum") != checksum(document):
            raise self._damaged("its checksum does not fit")
        if document["format"] != STATE_FORMAT:
            raise StateError(f"{self.file} has format {document['format']}", "Use the uploader version that wrote it.")
        return State(**{field.name: document[field.name] for field in dataclasses.fields(State)})

    def _damaged(self, why: str) -> StateError:
        hint = "Restore it from a copy. Without it, rows may be sent twice: don't just delete it."
        return StateError(f"{self.file} can't be trusted: {why}", hint)

    def _unwritable(self, error: OSError) -> StateError:
        return StateError(f"{self.directory} can't be written: {error.strerror}", "Set state_dir, or mend its rights.")


def write_durably(file: Path, content: bytes) -> None:
    """Create `file`, which must not exist (no planted link is followed), readable by its owner only."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
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


def utc_text(value: Any, file: Path) -> str:
    """A hand-made `last_upload` as ISO-8601 in UTC; without a zone it counts as UTC."""
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise StateError(f"{file}: last_upload {value!r} is no time", "Write it as 2026-01-31T12:00:00Z.") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat()


# Declared types by SQLite's affinity rules (sqlite.org/datatype3.html, 3.1), with a seed value that
# fixes the type of ADBC's column and the name that typeof() gives its values.
AFFINITIES = (
    ("INT", "0", "integer"),
    ("CHAR", "''", "text"),
    ("CLOB", "''", "text"),
    ("TEXT", "''", "text"),
    ("BLOB", "x''", "blob"),
    ("REAL", "0.5", "real"),
    ("FLOA", "0.5", "real"),
    ("DOUB", "0.5", "real"),
)


def affinity(column: str, declared: str) -> tuple[str, str]:
    """Seed and typeof() name of a declared type."""
    for part, seed, kind in AFFINITIES:
        if part in declared.upper():
            return seed, kind
    raise SourceError(f"column {column!r} is declared {declared or 'without a type'}: not supported yet")


@dataclasses.dataclass(frozen=True)
class Page:
    """Some new rows as an Arrow table, and what the state must say before they are sent."""

    rows: Any
    intent: dict[str, Any]


class SourceTable:
    """One rowid table with text times. Rows of unexpected types stop the cycle; none is skipped."""

    def __init__(self, database: Database, name: str, columns: Mapping[str, str], time_column: str) -> None:
        self.database = database
        self.name = name
        self.columns = columns
        self.time_column = time_column

    def page_after(self, rowid: int, limit: int) -> Page | None:
        """The next rows by rowid, in one statement; None where there are none."""
        kinds = {name: affinity(name, declared) for name, declared in self.columns.items()}
        odd = " OR ".join(f"typeof(q.{quoted(n)}) NOT IN ('{kind}', 'null')" for n, (_, kind) in kinds.items())
        chosen = ", ".join(f"q.{quoted(name)}" for name in kinds)
        seeds = ", ".join(seed for seed, _ in kinds.values())
        table = self.database.table(
            f"SELECT {seeds}, 0, 0 UNION ALL SELECT * FROM (SELECT {chosen}, {odd}, q.rowid"
            f" FROM {quoted(self.name)} q WHERE q.rowid > {int(rowid)} ORDER BY q.rowid LIMIT {int(limit)})",
            limit + 1,
        ).slice(1)
        return self._page(table.combine_chunks()) if table.num_rows else None

    def check_anchor(self, state: State) -> None:
        """The last delivered row must still be there as it was; else the file was changed or recreated."""
        for rowid, digest in state.anchors:
            page = self.page_after(rowid - 1, 1)
            if page is None or page.intent["rowid"] != rowid or page.intent["anchor"] != digest:
                raise SourceError(
                    f"row {rowid}, the last one delivered, is gone or changed: was the file recreated?",
                    "Following a recreated file is not supported yet; start it with an empty state_dir.",
                )

    def _page(self, table: Any) -> Page:
        from arro3.core import Table

        names = list(self.columns)
        rowids = values_of(table.columns[-1])
        flags = values_of(table.columns[-2])
        if any(flags):
            raise SourceError(f"row {rowids[flags.index(1)]} holds a value of another type than its column declares")
        columns = [self._typed(name, table.columns[i]) for i, name in enumerate(names)]
        rows = Table.from_arrays(columns, names=names)
        times = [value for value in values_of(rows.column(self.time_column)) if value is not None]
        last = [values_of(column.slice(len(rowids) - 1, 1))[0] for column in table.columns[:-2]]
        intent = {
            "rowid": rowids[-1],
            "anchor": hashlib.sha256(repr(last).encode()).hexdigest()[:16],
            "last_upload": max(times).isoformat() if times else None,
        }
        return Page(rows, intent)

    def _typed(self, name: str, column: Any) -> Any:
        """Valid UTF-8 and UTC microseconds; a cast gives NULL for what it can't convert, so NULLs are counted."""
        from arro3.core import DataType

        is_time = name == self.time_column
        if is_time and affinity(name, self.columns[name])[1] != "text":
            raise SourceError(f"time column {name!r} holds no text: not supported yet")
        if affinity(name, self.columns[name])[1] != "text":
            return column
        typed = column.cast(DataType.binary()).cast(DataType.string())
        if is_time:
            typed = typed.cast(DataType.timestamp("us", tz="UTC"))
        if typed.null_count != column.null_count:
            raise SourceError(f"column {name!r} holds {'a time that is none' if is_time else 'invalid UTF-8'}")
        return typed


# === Targets ==========================================================================================


class DeltaTarget:
    """A Delta table by path. The transaction's version is the highest rowid that a commit holds."""

    def __init__(self, uri: str, storage_options: Mapping[str, Any]) -> None:
        self.uri = uri
        self.options = {key: str(value) for key, value in storage_options.items()}

    def delivered(self, application: str) -> int:
        """The highest rowid that the table holds from `application`; 0 for none."""
        table = self._table()
        return (table.transaction_version(application) or 0) if table else 0

    def send(self, application: str, version: int, rows: Any) -> None:
        """Append an Arrow table in one commit that conflicts with any twin of it.

        delta-rs accepts a version twice from fresh snapshots, so it is read first and the write goes
        through the same table object (delta-rs 1.6, `DeltaTable.transaction_version`).
        """
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import DeltaError

        table = self._table()
        if table and (table.transaction_version(application) or 0) >= version:
            return
        commit = CommitProperties(app_transactions=[Transaction(application, version)])
        try:
            if table:
                write_deltalake(table, rows, mode="append", commit_properties=commit)
            else:
                options = self.options or None
                write_deltalake(self.uri, rows, mode="error", storage_options=options, commit_properties=commit)
        except DeltaError as error:
            raise TransientError(f"{self.uri} was not written: {error}", "The next cycle tries again.") from None

    def _table(self) -> Any:
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(self.uri, self.options or None):
            return None
        return DeltaTable(self.uri, storage_options=self.options or None)


# === Cycle ============================================================================================

PAGE_ROWS = 100_000


def run_cycle(config: Config, source: SourceTable, states: StateFile, target: DeltaTarget) -> int:
    """Deliver all new rows, one intent, commit and confirmation after another; returns their number."""
    state = states.load() or State(source_id=config.source_id or uuid.uuid4().hex, position={"rowid": 0})
    state = settle(state, source, target)
    source.check_anchor(state)
    sent = 0
    while page := source.page_after(state.position["rowid"], config.batch_rows or PAGE_ROWS):
        state = dataclasses.replace(state, intent=page.intent, table=source.name, target=target.uri)
        states.save(state)
        target.send(application_of(state), page.intent["rowid"], page.rows)
        state = confirmed(state, source)
        states.save(state)
        sent += page.rows.num_rows
    return sent


def application_of(state: State) -> str:
    """The Delta application id of a source; a new epoch begins where rowids begin again."""
    return f"sqlite-uploader/{state.source_id}/{state.epoch}/{state.table}"


def settle(state: State, source: SourceTable, target: DeltaTarget) -> State:
    """Resolve an intent that has no confirmation: the table knows whether its commit took place."""
    if state.table not in (None, source.name) or state.target not in (None, target.uri):
        raise StateError(f"the state belongs to {state.table} and {state.target}", "Give this pair its own state_dir.")
    if "rowid" not in state.position:
        raise StateError("a state with only last_upload can't be continued yet", "Use an empty state_dir.")
    if state.intent is None:
        return state
    if target.delivered(application_of(state)) >= state.intent["rowid"]:
        return confirmed(state, source)
    return dataclasses.replace(state, intent=None)


def confirmed(state: State, source: SourceTable) -> State:
    """The state after its intent was committed."""
    intent = state.intent or {}
    newest = max(filter(None, [state.last_upload, intent["last_upload"]]), default=None)
    return dataclasses.replace(
        state,
        intent=None,
        sequence=state.sequence + 1,
        last_upload=newest,
        position={"rowid": intent["rowid"]},
        anchors=[[intent["rowid"], intent["anchor"]]],
    )


# === Command line =====================================================================================


def build_parser() -> argparse.ArgumentParser:
    """The arguments; what is not given is absent from the result, so that layers can tell."""
    parser = argparse.ArgumentParser(
        description="Append new SQLite rows to Databricks or Delta tables.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML file with settings.")
    for name, field in SETTINGS.items():
        if not flags_of(name):
            continue
        switch = {"nargs": "?", "const": "true"} if field.default in (True, False) else {}
        parser.add_argument(*flags_of(name), dest=name, help=field.metadata["help"], **switch)
    return parser


def load_config(argv: Sequence[str] | None, environ: Mapping[str, str]) -> Config:
    """The configuration of one run: defaults, then YAML, environment and command line."""
    arguments = vars(build_parser().parse_args(argv))
    file = arguments.pop("config", None)
    return merge_layers(
        [
            ("YAML file", layer_from_yaml(file) if file else {}),
            ("environment", layer_from_environ(environ)),
            ("command line", layer_from_flags(arguments)),
        ]
    )


def upload(config: Config) -> int:
    """One cycle into a Delta table by path."""
    scenario = scenario_of(config)
    check_target(config)
    if scenario != "raw" or config.databricks_http_path or config.source_timezone != "UTC":
        raise ConfigError("this version sends raw rows with UTC times to Delta tables by path only")
    if config.sqlite is None:
        raise ConfigError("sqlite is not set", "Set SQLITE_PATH or --sqlite.")
    uri = config.table_path or f"{config.lakehouse_path}/{routed_table(config.databricks_table or '', scenario)}"
    sqlite = config.sqlite
    log.info("%s rows go to %s", scenario, uri)
    directory = config.state_dir or (Path("/state") if Path("/state").exists() else Path("state"))
    target = DeltaTarget(uri, config.storage_options)
    with StateFile(directory) as states:
        if config.once:
            cycle(config, sqlite, states, target)
        else:
            run_for_ever(lambda: cycle(config, sqlite, states, target), config.interval, stop_event())
    return 0


def cycle(config: Config, sqlite: Path, states: StateFile, target: DeltaTarget) -> None:
    """Open the file anew, since it may have been replaced, and deliver what is new."""
    with Database(sqlite) as database:
        name = detect_table(database, config.sqlite_table_name)
        columns = columns_of(database, name)
        source = SourceTable(database, name, columns, detect_time_column(columns, config.timestamp_col))
        log.info("%d rows sent", run_cycle(config, source, states, target))


def run_for_ever(one_cycle: Callable[[], None], interval: float, stop: threading.Event) -> None:
    """Cycle until `stop` is set, which also ends the waiting. A failed cycle is reported and tried again."""
    while not stop.is_set():
        try:
            one_cycle()
        except ConfigError:
            raise
        except UploaderError as error:
            log.error("%s; trying again in %g s. %s", error, interval, error.hint)
        stop.wait(interval)


def stop_event() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = threading.Event()

    def request_stop(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
    return stop


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the program; returns its exit status. The only place where errors end."""
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        config = load_config(argv, environ)
        return upload(config)
    except UploaderError as error:
        log.error("%s%s", error, f"\n  {error.hint}" if error.hint else "")
        return error.status


if __name__ == "__main__":
    sys.exit(main())
