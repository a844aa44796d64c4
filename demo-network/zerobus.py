"""A stand-in for Databricks Zerobus Ingest by REST, part of local_warehouse.py: rows by HTTPS, in the table soon after.

    POST /oidc/v1/token                                with resource and authorization_details: a token for one table
    GET  /api/2.1/unity-catalog/tables/FULL_NAME       the table's columns, with an ordinary token
    POST /zerobus/v1/tables/FULL_NAME/insert           a JSON array of objects; 200 and {} once they are on disk

Documented, and so here (pages zerobus-ingest, zerobus-concepts, zerobus-limits, zerobus-quotas and zerobus-errors of
docs.databricks.com/aws/en/ingestion; the SDK is github.com/databricks/zerobus-sdk)
  * The three addresses, the token's form fields, bearer tokens, a JSON array also for one row, 200 and {}.
  * Tokens are for one table, and 3 to 6 KB long. An ordinary token is refused at the insert endpoint, a token for a
    table by Unity Catalog (the SDK says so where it reads a table's columns). No personal tokens.
  * An answer says that rows are durable, not that a query sees them: 5 s at the median, 30 s for 95 in 100.
  * TIMESTAMP and TIMESTAMP_NTZ are whole microseconds since 1970, DATE whole days since 1970, BINARY base64, DECIMAL
    text; numbers, booleans and texts are JSON's own. What an object leaves out is NULL. There is no NaN, no infinity.
  * Errors are {"error_code": NAME, "message": TEXT}: 400 INVALID_PARAMETER_VALUE, 404 NOT_FOUND, 501 NOT_IMPLEMENTED.
  * Managed Delta tables only, without catalog-managed commits; names of ASCII letters, digits and underscores; a table
    that was dropped and made anew under its name isn't supported. The service never changes a table's schema.
  * The Unity Catalog endpoint's fields and type names (databricks-sdk, service/catalog.py: TableInfo, ColumnTypeName).
  * Newer SDKs add "operations": ["zerobuswrite"] to the detail about the table (pull request 333, so that all
    privileges count); here it may be there or not.

Guessed, for want of a source; a client does well not to lean on it
  * One bad record refuses its whole request, and the message doesn't say which. Names of fields count with their case.
    Numbers in texts, numbers with a fraction for integers, decimals that need rounding or have an exponent, a name
    twice in one object, and an empty array are refused.
  * The other names of errors: 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 429 RESOURCE_EXHAUSTED, 500 INTERNAL_ERROR,
    503 TEMPORARILY_UNAVAILABLE. 413, 502 and 504 carry HTML, as those of gateways do.
  * The status of a wrong content type (400), a compressed body (400), a table of a kind that isn't supported or one
    that was made anew (501; of default storage 400 has been seen). That the token endpoint refuses what the principal
    isn't granted (400); a wrong resource and wrong details (400; RFC 8707, RFC 9396).
  * The largest body: 10 MB here, --zerobus-limit. Nothing is documented for REST.
  * Whether the rows of a request reach the table together and in their order: here they do, unless told otherwise.
  * That rows are refused at the workspace's own address.

Not here: gRPC, protobuf, Arrow; VARIANT (the engine has none); quotas. What is in the journal comes into the table
once, also after a kill. The real service promises at least once; rules to fail do the rest.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import os
import random
import re
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

CODES = {  # error_code by status; 400, 404 and 501 are documented
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL_ERROR",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
}
PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+")
CATALOG_TYPES = {"tinyint": "BYTE", "smallint": "SHORT", "bigint": "LONG"}  # others are called as in SQL


class Refusal(Exception):
    """A request that the service refuses, with this status; `error` is the token endpoint's word for it."""

    def __init__(self, status: int, text: str, error: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.error = error


def invalid(text: str) -> Refusal:
    """The refusal of what a request holds."""
    return Refusal(400, text)


class Column(NamedTuple):
    """A column of a table: its name, its type in SQL, and whether NULL is allowed."""

    name: str
    type: str
    nullable: bool = True


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Settings
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Settings:
    """What can be set while it runs, by POST /admin/zerobus with some of these names.

    delay     seconds from the answer until rows are in the table
    spread    seconds: each part takes up to so much longer, by chance, so that parts come out of order
    parts     into how many parts the rows of one request fall on their way to the table
    limit     bytes of the largest body
    refuse    how a larger one is refused: a status, "close" or "reset"
    workspace the workspace's id
    deny      rights that the service principal lacks: ["MODIFY main.s.t", "USE SCHEMA main.s", ...]
    tables    by full name, what Unity Catalog says differently of a table: {"main.s.t": {"table_type": "EXTERNAL"}}
    anew      take rows also for tables that were dropped and made anew
    """

    delay: float = 5.0
    spread: float = 0.0
    parts: int = 1
    limit: int = 10_000_000
    refuse: int | str = 413
    workspace: str = "127"
    deny: list[str] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    anew: bool = False

    def change(self, given: dict[str, Any]) -> None:
        """Set some of them. Raises ValueError for names and values that make no sense."""
        if unknown := given.keys() - asdict(self).keys():
            raise ValueError(f"unknown settings {sorted(unknown)}")
        if given.get("refuse", 413) not in ("close", "reset") and type(given.get("refuse", 413)) is not int:
            raise ValueError(f"refuse is a status, 'close' or 'reset', not {given['refuse']!r}")
        for name, value in given.items():
            setattr(self, name, value)


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Tokens and rights
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def rights(table: str) -> list[dict[str, Any]]:
    """The authorization_details for one table, as they have to be asked for."""
    catalog, schema, _ = table.split(".")
    wanted = [("CATALOG", catalog, ["USE CATALOG"]), ("SCHEMA", f"{catalog}.{schema}", ["USE SCHEMA"])]
    return [
        {"type": "unity_catalog_privileges", "privileges": privileges, "object_type": kind, "object_full_path": path}
        for kind, path, privileges in [*wanted, ("TABLE", table, ["SELECT", "MODIFY"])]
    ]


def table_of_token(form: dict[str, str], settings: Settings) -> str:
    """The table that a token is asked for by this form; none for an ordinary token. Raises Refusal."""
    if not form.keys() & {"resource", "authorization_details"}:
        return ""
    if form.get("resource") != f"api://databricks/workspaces/{settings.workspace}/zerobusDirectWriteApi":
        raise Refusal(400, f"resource {form.get('resource')!r} is none of this workspace", "invalid_target")
    if form.get("scope") != "all-apis":
        raise Refusal(400, f"scope is all-apis, not {form.get('scope')!r}", "invalid_scope")
    table = table_of_details(form.get("authorization_details", ""))
    if lacking := lacking_rights(table, settings, "SELECT", "MODIFY"):
        raise Refusal(400, f"The principal lacks {lacking}", "invalid_authorization_details")
    return table


def table_of_details(text: str) -> str:
    """The table of authorization_details, which have to ask for what is needed and for nothing else."""
    wrong = Refusal(
        400, "authorization_details is no list of the rights for one table", "invalid_authorization_details"
    )
    try:
        details = json.loads(text)
        [table] = [detail["object_full_path"] for detail in details if detail["object_type"] == "TABLE"]
        asked = [{**detail, "privileges": sorted(detail["privileges"])} for detail in details]
        needed = [{**detail, "privileges": sorted(detail["privileges"])} for detail in rights(table)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise wrong from error
    for detail in asked:
        if detail["object_type"] == "TABLE" and detail.get("operations") == ["zerobuswrite"]:
            del detail["operations"]
    if sorted(asked, key=json.dumps) != sorted(needed, key=json.dumps):
        raise wrong
    return str(table).lower()


def lacking_rights(table: str, settings: Settings, *privileges: str) -> str:
    """The first right that the service principal lacks on the way to a table; empty if there is none."""
    catalog, schema, _ = table.split(".")
    needed = [f"USE CATALOG {catalog}", f"USE SCHEMA {catalog}.{schema}", *(f"{right} {table}" for right in privileges)]
    denied = {right.lower() for right in settings.deny}
    return next((right for right in needed if right.lower() in denied), "")


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Tables
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def table_info(table: str, columns: Sequence[Column], settings: Settings) -> dict[str, Any]:
    """What Unity Catalog answers about a table."""
    catalog, schema, name = table.split(".")
    info = {
        "name": name,
        "catalog_name": catalog,
        "schema_name": schema,
        "full_name": table,
        "table_type": "MANAGED",
        "data_source_format": "DELTA",
        "owner": "local",
        "properties": {"delta.minReaderVersion": "1", "delta.minWriterVersion": "2"},
        "columns": [column_info(column, position) for position, column in enumerate(columns)],
    }
    return info | settings.tables.get(table, {})


def column_info(column: Column, position: int) -> dict[str, Any]:
    """One column as Unity Catalog describes it; positions begin at 0."""
    kind = column.type.lower()
    word = re.split(r"[<(]", kind)[0]
    said = {"tinyint": "byte", "smallint": "short", "int": "integer", "bigint": "long"}.get(kind, kind)
    described = {"name": column.name, "type": said, "nullable": column.nullable, "metadata": {}}
    info = {
        "name": column.name,
        "type_text": kind,
        "type_name": CATALOG_TYPES.get(word, word.upper()),
        "type_json": json.dumps(described),
        "position": position,
        "nullable": column.nullable,
    }
    if word == "decimal":
        info["type_precision"], info["type_scale"] = decimal_of(kind)
    return info


def refuse_table(table: str, info: dict[str, Any]) -> None:
    """Refuse tables that the service doesn't write to."""
    if (info["table_type"], info["data_source_format"]) != ("MANAGED", "DELTA"):
        raise Refusal(501, f"Table {table} is no managed Delta table")
    if info["properties"].get("delta.feature.catalogManaged") == "supported":
        raise Refusal(501, f"Table {table} has catalog-managed commits")
    names = [*table.split("."), *(column["name"] for column in info["columns"])]
    if wrong := [name for name in names if not PLAIN_NAME.fullmatch(name)]:
        raise Refusal(501, f"Names are of ASCII letters, digits and underscores, unlike {wrong}")


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Records
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

INTEGERS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
DAYS = (-719_162, 2_932_896)  # 0001-01-01 and 9999-12-31
FLOAT_MAX = 3.4028235677973366e38  # rounds to infinity from here on
Reader = Callable[[Any], Any]  # from a JSON value that isn't null to Arrow's; raises ValueError


def records_of(body: bytes) -> list[dict[str, Any]]:
    """The records of a request. Raises Refusal."""
    try:
        records = json.loads(body.decode(), object_pairs_hook=without_doubles, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise invalid(f"The body is no JSON: {error}") from error
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise invalid("The body is no JSON array of objects")
    return records


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, in which no name stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def no_constant(word: str) -> None:
    """Refuse NaN, Infinity and -Infinity, which Python would read."""
    raise ValueError(f"{word} is no JSON")


def arrow_table(columns: Sequence[Column], records: list[dict[str, Any]]) -> Any:
    """The records as a pyarrow.Table with all columns of the table in their order. Raises Refusal."""
    import pyarrow

    known = {column.name for column in columns}
    if unknown := {name for record in records for name in record} - known:
        raise invalid(f"Unknown field {min(unknown)!r}")
    arrays = [pyarrow.array(cells(column, records), arrow_type(column.type)) for column in columns]
    fields = [pyarrow.field(c.name, array.type, c.nullable) for c, array in zip(columns, arrays, strict=True)]
    return pyarrow.table(arrays, schema=pyarrow.schema(fields))


def cells(column: Column, records: list[dict[str, Any]]) -> list[Any]:
    """A column's values of all records."""
    read, found = reader(column.type), [record.get(column.name) for record in records]
    if not column.nullable and None in found:
        raise invalid(f"Required field {column.name!r} is missing")
    try:
        return [None if value is None else read(value) for value in found]
    except ValueError as error:
        raise invalid(f"Field {column.name!r} of type {column.type}: {error}") from error


def reader(kind: str) -> Reader:
    """What reads the JSON form of a type."""
    kind = kind.lower()
    word, _, inside = kind.partition("<")
    simple: dict[str, Reader] = {"string": text, "boolean": boolean, "double": number, "float": small_number}
    simple |= {"binary": binary, "date": lambda value: whole(value, *DAYS)}
    if kind in INTEGERS:
        half = 1 << INTEGERS[kind] - 1
        return lambda value: whole(value, -half, half - 1)
    if kind in ("timestamp", "timestamp_ntz"):
        return lambda value: whole(value, DAYS[0] * 86_400_000_000, (DAYS[1] + 1) * 86_400_000_000 - 1)
    if kind.startswith("decimal"):
        precision, scale = decimal_of(kind)
        return lambda value: decimal(value, precision, scale)
    if word in ("array", "map", "struct"):
        return nested_reader(word, parted(inside[:-1]))
    if kind not in simple:
        raise Refusal(501, f"The type {kind} is not available")
    return simple[kind]


def nested_reader(word: str, parts: list[str]) -> Reader:
    """What reads an ARRAY, a MAP (whose keys are texts) or a STRUCT."""
    if word == "struct":
        fields = {name: reader(kind) for name, _, kind in (part.partition(":") for part in parts)}
        return lambda value: structure(value, fields)
    read = reader(parts[-1])
    if word == "array":
        return lambda value: [None if v is None else read(v) for v in typed(value, list)]
    return lambda value: [(text(k), None if v is None else read(v)) for k, v in typed(value, dict).items()]


def structure(value: Any, fields: dict[str, Reader]) -> dict[str, Any]:
    """An object for a STRUCT."""
    if unknown := typed(value, dict).keys() - fields.keys():
        raise ValueError(f"unknown field {min(unknown)!r}")
    return {name: None if value.get(name) is None else read(value[name]) for name, read in fields.items()}


def typed(value: Any, kind: type) -> Any:
    """The value, if JSON had it as this."""
    if type(value) is not kind:
        raise ValueError(f"{json.dumps(value)[:100]} is no {kind.__name__}")
    return value


def whole(value: Any, least: int, most: int) -> int:
    """An integer within bounds."""
    if not least <= typed(value, int) <= most:
        raise ValueError(f"{value} is out of range")
    return int(value)


def number(value: Any) -> float:
    """A finite number."""
    try:
        found = float(value) if type(value) in (int, float) else float(typed(value, float))
    except OverflowError as error:
        raise ValueError("out of range") from error
    if abs(found) == float("inf"):
        raise ValueError("out of range")
    return found


def small_number(value: Any) -> float:
    """A number that a FLOAT can hold."""
    if abs(found := number(value)) >= FLOAT_MAX:
        raise ValueError(f"{value} is out of range")
    return found


def boolean(value: Any) -> bool:
    """true or false."""
    return bool(typed(value, bool))


def text(value: Any) -> str:
    """A text that UTF-8 can hold."""
    typed(value, str).encode()
    return str(value)


def binary(value: Any) -> bytes:
    """Bytes, from base64 with padding."""
    try:
        return base64.b64decode(typed(value, str), validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error


def decimal(value: Any, precision: int, scale: int) -> Decimal:
    """A decimal, from its digits; zeros at either end don't count."""
    match = re.fullmatch(r"-?([0-9]+)(?:\.([0-9]+))?", typed(value, str))
    if not match:
        raise ValueError(f"{value[:100]!r} is no decimal")
    if len(match[1].lstrip("0")) > precision - scale or len((match[2] or "").rstrip("0")) > scale:
        raise ValueError(f"{value[:100]} has too many digits")
    return Decimal(value)


def decimal_of(kind: str) -> tuple[int, int]:
    """Precision and scale of decimal(p,s)."""
    found = re.fullmatch(r"decimal(?:\((\d+)(?:,\s*(\d+))?\))?", kind.lower())
    assert found, kind
    return int(found[1] or 10), int(found[2] or 0)


def parted(inside: str) -> list[str]:
    """The parts between the commas outside of brackets."""
    depths = itertools.accumulate((c in "<(") - (c in ">)") for c in inside)
    marked = "".join("\0" if c == "," and depth == 0 else c for c, depth in zip(inside, depths, strict=True))
    return [part.strip() for part in marked.split("\0")]


def arrow_type(kind: str) -> Any:
    """A column's type in Arrow."""
    import pyarrow as pa

    kind = kind.lower()
    word, _, inside = kind.partition("<")
    parts = parted(inside[:-1]) if inside else []
    if word == "array":
        return pa.list_(arrow_type(parts[0]))
    if word == "map":
        return pa.map_(arrow_type(parts[0]), arrow_type(parts[1]))
    if word == "struct":
        return pa.struct([(name, arrow_type(of)) for name, _, of in (part.partition(":") for part in parts)])
    if kind.startswith("decimal"):
        return pa.decimal128(*decimal_of(kind))
    simple = {"tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64()}
    simple |= {"float": pa.float32(), "double": pa.float64(), "string": pa.string(), "boolean": pa.bool_()}
    simple |= {"binary": pa.binary(), "date": pa.date32(), "timestamp_ntz": pa.timestamp("us")}
    return simple.get(kind, pa.timestamp("us", "UTC"))


# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# From the answer to the table
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Waiting(NamedTuple):
    """Rows that are on disk and not yet in their table: a Parquet file, whose name says when they are due."""

    due: float  # seconds since 1970
    path: Path

    @property
    def table(self) -> str:
        """The full name of the table."""
        return self.path.parent.name

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return int(self.path.stem.split("-")[2])


class Journal:
    """The Parquet files that wait: DIRECTORY/zerobus/TABLE/DUE-NUMBER-ROWS.parquet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "zerobus"
        self._waiting: list[Waiting] = []
        self._numbers = itertools.count(time.time_ns())
        self._changed = threading.Condition()

    def load(self) -> None:
        """Find what an earlier run left."""
        for path in self.directory.glob("*/*.parquet"):
            self._waiting.append(Waiting(int(path.name.split("-")[0]) / 1e6, path))

    def add(self, table: str, rows: Any, seconds: float) -> None:
        """Write rows down, durably; they are due in so many seconds."""
        import pyarrow.parquet

        due = time.time() + seconds
        path = self.directory / table / f"{int(due * 1e6)}-{next(self._numbers)}-{len(rows)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        pyarrow.parquet.write_table(rows, part, version="2.6", coerce_timestamps="us")
        sync(part)
        part.replace(path)
        sync(path.parent)
        with self._changed:
            self._waiting.append(Waiting(due, path))
            self._changed.notify_all()

    def take(self, everything: bool = False) -> list[Waiting]:
        """What is due now, the earliest first; it is given out once."""
        with self._changed:
            now = time.time()
            due = sorted(entry for entry in self._waiting if everything or entry.due <= now)
            self._waiting = [entry for entry in self._waiting if entry not in due]
            return due

    def give_back(self, entries: list[Waiting]) -> None:
        """Let entries wait again."""
        with self._changed:
            self._waiting += entries

    def rest(self) -> None:
        """Sleep until something is due, or may be."""
        with self._changed:
            earliest = min((entry.due for entry in self._waiting), default=float("inf"))
            self._changed.wait(max(0.0, min(1.0, earliest - time.time())))

    def waiting(self) -> dict[str, int]:
        """The rows that wait, by table."""
        with self._changed:
            return dict(sum((Counter({entry.table: entry.rows}) for entry in self._waiting), Counter()))


def sync(place: Path) -> None:
    """Make a file, or a directory's entries, durable."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


Write = Callable[[str, list[Path]], None]  # puts files' rows into a table, in one commit, each file once for good


class Zerobus:
    """Takes rows and brings them to their tables. `write` is the warehouse's."""

    def __init__(self, directory: Path, settings: Settings, write: Write) -> None:
        self.settings = settings
        self.journal = Journal(directory)
        self._write = write
        self._chance = random.Random(0)
        self._made: dict[str, int] = {}
        self._writing = threading.Lock()
        self._ended = False

    def start(self) -> None:
        """Begin to bring rows to their tables."""
        self.journal.load()
        threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        """Bring nothing more; what waits is found by the next one that works in this directory."""
        with self._writing:
            self._ended = True

    def check(self, table: str, made: int, info: dict[str, Any]) -> None:
        """Refuse a table that can't be written to; `made` tells one from another of the same name."""
        if lacking := lacking_rights(table, self.settings, "SELECT", "MODIFY"):
            raise Refusal(403, f"The principal lacks {lacking}")
        refuse_table(table, info)
        if self._made.setdefault(table, made) != made and not self.settings.anew:
            raise Refusal(501, f"Table {table} was dropped and made anew")

    def take(self, table: str, rows: Any, first: int | None = None, late: float = 0.0) -> int:
        """Take rows: the first so many at the usual time, the others so many seconds later; without those, never.

        Returns how many were taken. Without `first`: all, or none of them at the usual time if some are late.
        """
        usual = (0 if late else len(rows)) if first is None else min(first, len(rows))
        self._part(table, rows.slice(0, usual), 0.0)
        if late:
            self._part(table, rows.slice(usual), late)
        return len(rows) if late else usual

    def _part(self, table: str, rows: Any, late: float) -> None:
        """Write rows down in as many parts as are wanted."""
        size = -(-len(rows) // max(1, self.settings.parts)) or 1
        for start in range(0, len(rows), size):
            seconds = self.settings.delay + self._chance.random() * self.settings.spread
            self.journal.add(table, rows.slice(start, size), seconds + late)

    def flush(self) -> dict[str, int]:
        """Bring everything that waits to its table now; returns what still waits."""
        with self._writing:
            self._bring(self.journal.take(everything=True))
        return self.waiting()

    def waiting(self) -> dict[str, int]:
        """The rows that are not in their tables yet, by table."""
        with self._writing:
            return self.journal.waiting()

    def tell(self) -> dict[str, Any]:
        """What GET /admin/zerobus answers."""
        return {**asdict(self.settings), "waiting": self.waiting()}

    def _run(self) -> None:
        while not self._ended:
            self.journal.rest()
            with self._writing:
                if not self._ended:
                    self._bring(self.journal.take())

    def _bring(self, due: list[Waiting]) -> None:
        """Put rows into their tables, one commit each; what fails waits."""
        for table, entries in itertools.groupby(sorted(due, key=lambda entry: entry.table), lambda entry: entry.table):
            found = list(entries)
            try:
                self._write(table, [entry.path for entry in found])
            except Exception:  # a fault of this program: the console gets the traceback, the rows go on waiting
                traceback.print_exc()
                self.journal.give_back([Waiting(time.time() + 1, entry.path) for entry in found])
                continue
            for entry in found:
                entry.path.unlink()
