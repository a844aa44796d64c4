"""Chapter Processing: conversion between Arrow and pandas, sanitize, filter, aggregate."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import logging
import math
import sqlite3
import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import yaml
from arro3.core import Array, ChunkedArray, DataType, Table
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from boxes import Box, examples

BIG = 2**53 + 1
NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=dt.UTC)

# The columns of the tables that the user's own documents create.
SEED = {
    "id": "bigint", "device_id": "string", "timestamp": "timestamp",
    "temperature": "double", "humidity": "double", "status": "string",
}  # fmt: skip


def frame(columns: Mapping[str, str], **values: Sequence[Any]) -> Any:
    """A frame of `columns`; those not given hold NULL."""
    rows = max(len(items) for items in values.values())
    arrays = {name: arrow(values.get(name, [None] * rows), kind) for name, kind in columns.items()}
    return up.to_frame(Table.from_arrays(list(arrays.values()), names=list(arrays)), dict(columns))


def arrow(items: Sequence[Any], kind: str) -> Any:
    """An Arrow array of Python's values; times are given without a zone."""
    if kind.startswith("timestamp"):
        items = [item and (item - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1) for item in items]
    if kind == "date" or kind.startswith("decimal"):
        items = [item and str(item) for item in items]
    return up.array_of(items, kind)


def values(found: Any, columns: Mapping[str, str]) -> dict[str, list[Any]]:
    """A frame's Python values by column, by way of Arrow."""
    table = up.to_table(found, dict(columns))
    return {name: [*table.column(name).to_pylist()] for name in table.column_names}


# --- Arrow and pandas ---


def arrow_table() -> tuple[Any, dict[str, str]]:
    """One column of each type, with what conversions like to change."""
    plain: dict[str, tuple[list[Any], Any]] = {
        "bigint": ([BIG, None, -(2**63)], DataType.int64()),
        "int": ([1, None, -(2**31)], DataType.int32()),
        "smallint": ([1, None, -(2**15)], DataType.int16()),
        "tinyint": ([1, None, -128], DataType.int8()),
        "double": ([math.nan, None, -math.inf], DataType.float64()),
        "float": ([0.5, None, -math.inf], DataType.float32()),
        "boolean": ([True, None, False], DataType.bool()),
        "string": (["", None, "\0ä😀"], DataType.string()),
        "binary": ([b"", None, b"\0\xff"], DataType.binary()),
    }
    arrays = {kind: Array(items, arrow) for kind, (items, arrow) in plain.items()}
    micros = Array([1, None, -62135596800000000], DataType.int64())
    arrays["timestamp"] = micros.cast(DataType.timestamp("us", tz="UTC"))
    arrays["timestamp_ntz"] = micros.cast(DataType.timestamp("us"))
    arrays["date"] = Array([1, None, -719162], DataType.int32()).cast(DataType.date32())
    wide = Array(["0.10", None, "-" + "9" * 36 + ".99"], DataType.string())
    arrays["decimal(38,2)"] = wide.cast(DataType.decimal128(38, 2))
    return Table.from_arrays(list(arrays.values()), names=list(arrays)), {kind: kind for kind in arrays}


def test_every_type_comes_back_from_pandas_as_it_was() -> None:
    table, columns = arrow_table()
    back = up.to_table(up.to_frame(table, columns), columns)
    assert back.schema == table.schema
    for name in columns:
        assert repr(back.column(name).to_pylist()) == repr(table.column(name).to_pylist())


@pytest.mark.parametrize("rows", [0, 1])
def test_columns_without_null_come_back_too(rows: int) -> None:
    table, columns = arrow_table()
    part = table.slice(0, rows)
    assert up.to_table(up.to_frame(part, columns), columns).schema == table.schema
    assert up.to_frame(part, columns)["bigint"].tolist() == [BIG][:rows]


def test_nan_stays_apart_from_null_and_types_are_the_agreed_ones() -> None:
    table, columns = arrow_table()
    found = up.to_frame(table, columns)
    assert found["double"].isna().tolist() == [False, True, False]
    types = found.dtypes.astype(str)
    assert types[["bigint", "tinyint", "double", "float"]].tolist() == ["Int64", "Int8", "Float64", "Float32"]
    assert types[["boolean", "string", "date", "decimal(38,2)"]].tolist() == ["boolean", "object", "object", "object"]
    assert types[["timestamp", "timestamp_ntz"]].tolist() == ["datetime64[us, UTC]", "datetime64[us]"]


def test_a_page_in_several_chunks_is_one_frame() -> None:
    chunks = ChunkedArray([Array([1], DataType.int64()), Array([None, 3], DataType.int64())])
    table = Table.from_arrays([chunks], names=["id"])
    assert values(up.to_frame(table, {"id": "bigint"}), {"id": "bigint"}) == {"id": [1, None, 3]}


def test_a_decimal_that_does_not_fit_is_an_error_and_not_null() -> None:
    too_wide = frame({"price": "decimal(10,2)"}, price=[Decimal("100.00")])
    with pytest.raises(up.RefusedValuesError, match="price"):
        up.to_table(too_wide, {"price": "decimal(4,2)"})


# --- Sanitize ---


def sanitized(rules: Any, columns: Mapping[str, str], secret: str | None = None, **items: Sequence[Any]) -> Any:
    """The values that come out of `rules`."""
    sanitize = up.parse_sanitize(rules, dict(columns), secret)
    return values(sanitize.apply(frame(columns, **items)), sanitize.columns)


def test_the_sanitize_rules_of_the_readme_do_what_it_says() -> None:
    rules = yaml.safe_load(
        'remove_nulls: ["temperature", "humidity"]\nreplace_values:\n  status: {"error": "unknown", "": "unknown"}'
    )
    found = sanitized(
        rules,
        SEED,
        id=[1, 2, 3, 4],
        temperature=[1.0, None, 3.0, 4.0],
        humidity=[1.0, 2.0, None, 4.0],
        status=["error", "error", "", ""],
    )
    assert (found["id"], found["status"]) == ([1, 4], ["unknown", "unknown"])
    assert list(found) == list(SEED)


def test_the_sanitize_rules_of_the_environment_example_do_what_it_says() -> None:
    text = '{"column_to_clean": "pattern_to_remove", "another_column": {"replace_value": "X", "with_value": "Y"}}'
    columns = {"column_to_clean": "string", "another_column": "string"}
    cleaned = ["a pattern_to_remove b", None, ""]
    found = sanitized(json.loads(text), columns, column_to_clean=cleaned, another_column=["X", "XX", None])
    assert found == {"column_to_clean": ["a  b", None, ""], "another_column": ["Y", "XX", None]}


def test_replacements_take_types_from_the_column_and_null_on_either_side() -> None:
    columns = {"code": "bigint", "level": "double", "name": "string", "day": "timestamp"}
    rules = {
        "replace_values": {"code": {"0": None, str(BIG): 7}, "level": {"-999": 0.5}},
        "name": {"replace_value": None, "with_value": "none"},
        "day": {"replace_value": "1970-01-01T01:00:00+01:00", "with_value": dt.date(2026, 1, 31)},
    }
    epoch = dt.datetime(1970, 1, 1)
    found = sanitized(
        rules, columns, code=[0, BIG, BIG + 1], level=[-999.0, math.inf, 1.5], name=["a", None, ""], day=[epoch] * 3
    )
    assert found["code"] == [None, 7, BIG + 1]
    assert found["level"] == [0.5, math.inf, 1.5]
    assert found["name"] == ["a", "none", ""]
    assert found["day"] == [dt.datetime(2026, 1, 31, tzinfo=dt.UTC)] * 3


def test_values_are_exchanged_once_and_whole() -> None:
    found = sanitized({"replace_values": {"s": {"a": "b", "b": "c"}}}, {"s": "string"}, s=["a", "b", "ab"])
    assert found == {"s": ["b", "c", "ab"]}


def test_rows_go_after_replacements_whatever_the_order_of_the_rules() -> None:
    rules = {"remove_nulls": ["level"], "replace_values": {"level": {"-999": None}}}
    assert sanitized(rules, {"level": "double"}, level=[-999.0, 1.0]) == {"level": [1.0]}


def test_a_hash_is_keyed_stable_and_keeps_null() -> None:
    columns = {"name": "string", "code": "bigint", "level": "double", "at": "timestamp", "raw": "binary"}
    found = sanitized(
        {"hash": list(columns)}, columns, "s3cret",
        name=["Zoë", None], code=[BIG, None], level=[1.0, None], raw=[b"\xff", None],
        at=[NOON.replace(tzinfo=None), None],
    )  # fmt: skip

    def expected(shown: bytes) -> str:
        return hmac.new(b"s3cret", shown, hashlib.sha256).hexdigest()

    assert found["name"] == [expected("Zoë".encode()), None]
    assert found["code"] == [expected(b"9007199254740993"), None]
    assert found["level"] == [expected(b"1.0"), None]
    assert found["at"] == [expected(b"2026-01-31T12:00:00.000001"), None]
    assert found["raw"] == [expected(b"ff"), None]


@pytest.mark.parametrize("kind", [*arrow_table()[1]])
def test_null_stays_null_through_every_change_of_values(kind: str) -> None:
    table, columns = arrow_table()
    for rules in ({"hash": [kind]}, {"mask": {kind: 1}}, {kind: {"replace_value": None, "with_value": None}}):
        sanitize = up.parse_sanitize(rules, columns, "k")
        found = values(sanitize.apply(up.to_frame(table, columns)), sanitize.columns)[kind]
        assert [item is None for item in found] == [False, True, False]


def test_equal_values_have_equal_hashes_on_every_page() -> None:
    one, other = (sanitized({"hash": ["a"]}, {"a": "bigint"}, "k", a=page)["a"] for page in ([1, 2, None], [2, 5, 6]))
    assert one[1] == other[0] != one[0]


def test_coordinates_are_rounded_and_their_sign_does_not_show_in_zero() -> None:
    found = sanitized({"round": {"latitude": 2}}, {"latitude": "double"}, latitude=[47.37689, -0.001, None])
    assert repr(found["latitude"]) == "[47.38, 0.0, None]"


def test_decimals_are_rounded_without_losing_other_digits() -> None:
    columns = {"price": "decimal(38,3)", "fee": "decimal(6,2)"}
    long = "9" * 30
    found = sanitized({"round": {"price": 1, "fee": 5}}, columns, price=[Decimal(long + ".250")], fee=[Decimal("1.25")])
    assert found == {"price": [Decimal(long + ".2")], "fee": [Decimal("1.25")]}


def test_a_mask_shows_the_last_characters_and_never_a_whole_value() -> None:
    columns = {"card": "string", "phone": "bigint"}
    found = sanitized(
        {"mask": {"card": 4, "phone": 0}}, columns, card=["1234567890", "1234", None], phone=[12, 3, None]
    )
    assert found == {"card": ["******7890", "****", None], "phone": ["**", "*", None]}


def test_dropped_columns_are_gone_and_may_still_remove_rows() -> None:
    sanitize = up.parse_sanitize({"drop": ["STATUS"], "remove_nulls": ["status"]}, SEED, None)
    found = sanitize.apply(frame(SEED, id=[1, 2], status=["ok", None]))
    assert "status" not in sanitize.columns and list(found) == list(sanitize.columns)
    assert found["id"].tolist() == [1]


def test_what_repeats_is_changed_once_and_a_zero_repeats_no_other_zero() -> None:
    """They are equal, but have two texts, so two hashes."""
    changed: list[Any] = []

    def change(value: Any) -> str:
        changed.append(value)
        return up.canonical_text(value)

    step = up.Step("x", change, "string", "none")
    assert step.changed(["a", None, "b", "a"]) == ["a", "none", "b", "a"] and sorted(changed) == ["a", "b"]
    assert step.changed([0.0, -0.0, None]) == ["0.0", "-0.0", "none"]
    assert step.changed([Decimal("0.0"), Decimal("-0.0")]) == ["0.0", "-0.0"]


def test_the_columns_whose_values_are_private_are_named() -> None:
    rules = {
        "drop": ["a"], "hash": ["b"], "mask": {"c": 1}, "round": {"d": 1},
        "e": "x", "replace_values": {"f": {"x": "y"}}, "remove_nulls": ["g"],
    }  # fmt: skip
    config = up.Config(enable_sanitize=True, sanitize_config=rules)
    assert up.private_columns(config, dict.fromkeys("abcdefgh", "")) == set("abcdef")


def test_of_columns_that_differ_by_case_alone_rules_mean_the_one_that_is_written_so() -> None:
    """SQLite takes é and É for two."""
    columns = {"é": "string", "É": "double", "id": "bigint"}
    for name, other in (("é", "É"), ("É", "é")):
        rules = up.parse_sanitize({"drop": [name], "remove_nulls": [other]}, columns, None)
        assert rules.used == {other} and [*rules.columns] == [other, "id"]
        assert up.parse_filter({name: None}, columns).used == {name}
        given = up.Config(column_types={name: "string", other: "date"})
        assert up.types_set(given, columns) == {name: "string", other: "date"}
    assert [*up.parse_sanitize({"drop": ["É", "é"]}, columns, None).columns] == ["id"]


def test_a_decimal_is_rounded_to_no_more_digits_than_it_has() -> None:
    columns = {"price": "decimal(38,4)"}
    values = [Decimal("1.2500"), Decimal("9" * 34 + ".0000"), None]
    assert sanitized({"round": {"price": 100}}, columns, price=values) == {"price": values}


def test_a_rule_wins_over_a_column_of_its_name() -> None:
    columns = {"mask": "string", "a": "string"}
    assert sanitized({"mask": {"mask": 0}}, columns, mask=["x"], a=["y"]) == {"mask": ["*"], "a": ["y"]}
    with pytest.raises(up.ConfigError, match=r"sanitize_config\.mask: expected a mapping"):
        up.parse_sanitize({"mask": "pattern"}, columns, None)


@pytest.mark.parametrize(
    ("rules", "message", "hint"),
    [
        ({}, "sanitize_config: ", ""),
        ({"remove_nulls": ["temprature"]}, "sanitize_config.remove_nulls: unknown column", "temperature"),
        ({"remove_nulls": []}, "expected a list", ""),
        ({"remove_null": ["temperature"]}, "sanitize_config: unknown column", "remove_nulls"),
        ({"replace_values": {"id": {"x": 1}}}, "sanitize_config.replace_values.id", ""),
        ({"replace_values": {"id": {"0": 1.5}}}, "does not fit", ""),
        ({"replace_values": {"id": {"0": 2**63}}}, "does not fit", ""),
        ({"replace_values": {"status": {"a": 1}}}, "is no value of a string column", "quotes"),
        ({"replace_values": {"status": []}}, "expected a mapping", ""),
        ({"temperature": "x"}, "sanitize_config.temperature: a regular expression needs a text column", ""),
        ({"status": "("}, "sanitize_config.status: bad regular expression", ""),
        ({"status": {"replace_value": "X"}}, "replace_value and with_value", ""),
        ({"round": {"status": 2}}, "no decimals", ""),
        ({"round": {"temperature": 2.5}}, "whole number", ""),
        ({"mask": {"status": -1}}, "whole number", ""),
        ({"hash": ["status"]}, "secret", "SANITIZE_SECRET"),
        ({"drop": ["status"], "mask": {"status": 1}}, "comes twice", ""),
        ({"drop": list(SEED)}, "no column is left", ""),
    ],
)
def test_wrong_sanitize_rules_are_refused_with_their_place(rules: Any, message: str, hint: str) -> None:
    with pytest.raises(up.ConfigError) as error:
        up.parse_sanitize(rules, SEED, None)
    assert message in str(error.value) and hint in error.value.hint


# --- Filter ---


def kept(rules: Any, columns: Mapping[str, str], **items: Sequence[Any]) -> list[int]:
    """The positions of the rows that pass."""
    rows = frame(columns, **items).assign(position=range(max(map(len, items.values()))))
    return list(up.parse_filter(rules, dict(columns)).apply(rows)["position"])


def test_the_filter_rules_of_the_readme_do_what_it_says() -> None:
    rules = yaml.safe_load('temperature:\n  ">": -50\n  "<": 150\ndevice_status: "active"')
    columns = {"temperature": "double", "device_status": "string"}
    temperatures = [-50.0, -49.9, 150.0, 149.9, None, 20.0]
    status = ["active"] * 5 + ["off"]
    assert kept(rules, columns, temperature=temperatures, device_status=status) == [1, 3]


def test_the_filter_rules_of_the_environment_example_do_what_it_says() -> None:
    rules = json.loads('{"numeric_column": {">": 100, "<=": 200}, "string_column_equals": "active_value"}')
    columns = {"numeric_column": "bigint", "string_column_equals": "string"}
    texts = ["active_value"] * 4 + ["other"]
    assert kept(rules, columns, numeric_column=[100, 101, 200, 201, 150], string_column_equals=texts) == [1, 2]


@pytest.mark.parametrize(
    ("kind", "rule", "items", "expected"),
    [
        ("bigint", {">": BIG - 1}, [BIG - 1, BIG, None], [1]),
        ("bigint", {"==": float(2**53)}, [BIG, BIG - 1, None], [1]),
        ("bigint", {"in": [1, float(2**53)]}, [1, BIG, BIG - 1], [0, 2]),
        ("bigint", {"<": 2.5}, [2, 3, None], [0]),
        ("bigint", True, [1, 0, None], [0]),
        ("bigint", None, [1, None], [1]),
        ("bigint", {"<": 2**70}, [1, None], [0]),
        ("string", {"not_in": ["a"]}, ["a", "b", None], [1]),
        ("string", {"!=": "a"}, ["a", "b", None], [1]),
        ("string", {"is_null": False}, ["a", None], [0]),
        ("string", {"matches": "^S[0-9]+"}, ["S1", "xS1", None], [0]),
        ("double", {"between": [0, 1]}, [0.0, 1.0, 1.5, None, math.nan], [0, 1]),
        ("double", {"!=": 5}, [math.nan, 1.0, None], [1]),
        ("double", {"not_in": [5]}, [math.nan, 1.0, None], [1]),
        ("double", {"is_null": False}, [math.nan, None], [0]),
        ("double", {"<": math.inf}, [math.inf, -math.inf, math.nan], [1]),
        ("float", {"==": 0.1}, [0.1, 0.2, None], [0]),
        ("boolean", True, [True, False, None], [0]),
        ("decimal(10,2)", {">=": "0.10"}, [Decimal("0.10"), Decimal("0.09"), None], [0]),
        ("date", {">": "2026-01-30"}, [dt.date(2026, 1, 30), dt.date(2026, 1, 31), None], [1]),
        ("timestamp", {">=": "2026-01-31T13:00:00.000001+01:00"}, [NOON.replace(tzinfo=None), None], [0]),
        ("timestamp", {">": dt.date(2026, 1, 31)}, [NOON.replace(tzinfo=None), None], [0]),
        ("timestamp", {"in": ["2026-01-31T12:00:00.000001Z"]}, [NOON.replace(tzinfo=None), None], [0]),
        ("binary", {"is_null": True}, [b"", None], [1]),
    ],
)
def test_each_operator_keeps_what_sql_would(kind: str, rule: Any, items: list[Any], expected: list[int]) -> None:
    assert kept({"x": rule}, {"x": kind}, x=items) == expected


RULE_OF = {
    "string": "a",
    "boolean": True,
    "date": "2026-01-31",
    "timestamp": "2026-01-31",
    "timestamp_ntz": "2026-01-31",
}


@pytest.mark.parametrize("kind", [kind for kind in arrow_table()[1] if kind != "binary"])
def test_a_page_of_nothing_but_null_passes_no_comparison(kind: str) -> None:
    value = RULE_OF.get(kind, 1)
    comparisons: list[dict[str, Any]] = [{word: value} for word in ("<", "<=", ">", ">=", "==", "!=")]
    for rule in (*comparisons, {"in": [value]}, {"not_in": [value]}, {"between": [value, value]}, {"is_null": False}):
        assert kept({"x": rule}, {"x": kind}, x=[None, None]) == []


def test_rules_find_columns_in_any_case_as_sqlite_does() -> None:
    assert kept({"TEMPERATURE": {">": 1}}, {"Temperature": "double"}, Temperature=[1.0, 2.0]) == [1]


def test_a_filtered_frame_has_all_columns_and_its_rows_keep_their_places() -> None:
    table, columns = arrow_table()
    found = up.parse_filter({"bigint": {"<": 0}}, columns).apply(up.to_frame(table, columns))
    assert found.index.tolist() == [2]
    assert up.to_table(found, columns).column("binary").to_pylist() == [b"\0\xff"]


@pytest.mark.parametrize(
    ("rules", "message", "hint"),
    [
        ({}, "filter_config: ", ""),
        ({"temprature": 1}, "filter_config: unknown column", "temperature"),
        ({"temperature": {"=>": 1}}, "filter_config.temperature: unknown operator '=>'", "Known: >, >=, <,"),
        ({"temperature": {"=": 1}}, "filter_config.temperature: unknown operator '='", "<=, ==, !=, in"),
        ({"temperature": {">": "5"}}, "filter_config.temperature.>: '5'", "number"),
        ({"temperature": {">": None}}, "never true", "is_null"),
        ({"temperature": {">": math.nan}}, "filter_config.temperature", ""),
        ({"temperature": {}}, "expected a mapping", ""),
        ({"status": ["a"]}, "a list needs an operator", "in"),
        ({"status": 5}, "filter_config.status.==", "quotes"),
        ({"status": {"in": "a"}}, "expected a list", ""),
        ({"status": {"in": []}}, "expected a list", ""),
        ({"status": {"in": ["a", None]}}, "never true", "is_null"),
        ({"status": {"matches": "("}}, "filter_config.status.matches: bad regular expression", ""),
        ({"id": {"matches": "1"}}, "needs a text column", ""),
        ({"id": {"between": [2, 1]}}, "the lower first", ""),
        ({"id": {"is_null": "yes"}}, "filter_config.id.is_null", "true or false"),
        ({"timestamp": {">": "yesterday"}}, "filter_config.timestamp.>", "2026"),
        ({"timestamp": {">": 5}}, "filter_config.timestamp.>", "2026"),
    ],
)
def test_wrong_filter_rules_are_refused_with_their_place(rules: Any, message: str, hint: str) -> None:
    with pytest.raises(up.ConfigError) as error:
        up.parse_filter(rules, SEED)
    assert message in str(error.value) and hint in error.value.hint


SQL = {"==": "=", "!=": "<>", "not_in": "NOT IN", "in": "IN"}
FILTERED = {"id": "bigint", "level": "double", "name": "string"}
LITTLE: dict[str, Any] = {
    "id": st.sampled_from([-1, 0, 1, 2, BIG - 1, BIG, 2**63 - 1]),
    "level": st.sampled_from([-1.5, -0.0, 0.5, 1.0, 1e300, math.inf]),
    "name": st.sampled_from(["", "A", "a", "ab", "ä", "😀"]),
}
TESTS = st.sampled_from(list(FILTERED)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.one_of(
            st.tuples(st.sampled_from([">", ">=", "<", "<=", "==", "!="]), LITTLE[name]),
            st.tuples(st.sampled_from(["in", "not_in"]), st.lists(LITTLE[name], min_size=1, max_size=3)),
            st.tuples(
                st.just("between"),
                st.lists(LITTLE[name], min_size=2, max_size=2).map(lambda ends: [min(ends), max(ends)]),
            ),
            st.tuples(st.just("is_null"), st.booleans()),
        ),
    )
)
FILTER_ROWS = st.lists(st.tuples(*(st.none() | LITTLE[name] for name in FILTERED)), max_size=12)


def sql_condition(name: str, word: str, value: Any) -> tuple[str, list[Any]]:
    """The same test in SQL, with its parameters."""
    if word == "is_null":
        return f"{name} IS {'' if value else 'NOT '}NULL", []
    if word == "between":
        return f"{name} BETWEEN ? AND ?", value
    if isinstance(value, list):
        return f"{name} {SQL[word]} ({', '.join('?' * len(value))})", value
    return f"{name} {SQL.get(word, word)} ?", [value]


@settings(max_examples=examples(60))
@given(FILTER_ROWS, st.lists(TESTS, min_size=1, max_size=3), st.integers(1, 5))
def test_a_filter_keeps_what_sqlite_keeps_on_pages_of_any_size(rows: Any, tests: Any, page: int) -> None:
    rules: dict[str, dict[str, Any]] = {}
    for name, (word, value) in tests:
        rules.setdefault(name, {})[word] = value
    clauses = [sql_condition(n, word, value) for n, words in rules.items() for word, value in words.items()]
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (id INTEGER, level REAL, name TEXT)")
        database.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        where = " AND ".join(clause for clause, _ in clauses)
        expected = database.execute(
            f"SELECT id, level, name FROM t WHERE {where} ORDER BY rowid", [p for _, ps in clauses for p in ps]
        ).fetchall()
    database.close()
    chosen = up.parse_filter(rules, FILTERED)
    found: list[Any] = []
    for start in range(0, len(rows), page):
        columns = dict(zip(FILTERED, zip(*rows[start : start + page], strict=True), strict=True))
        found += zip(*values(chosen.apply(frame(FILTERED, **columns)), FILTERED).values(), strict=True)
    assert found == expected


# --- Aggregate ---


def aggregated(aggregate: Any, pages: Sequence[Any]) -> dict[str, list[Any]]:
    """All groups of all pages, by column."""
    partials = aggregate.empty()
    for page in pages:
        partials = aggregate.add(partials, page)
    return values(aggregate.result(partials, None), aggregate.columns)


def times(*texts: str) -> list[Any]:
    """Times without a zone, as a frame is made of."""
    return [dt.datetime.fromisoformat(text) for text in texts]


def test_the_aggregate_rules_of_the_readme_fill_the_table_of_the_readme() -> None:
    rules = yaml.safe_load(
        'group_by: ["device_id", "hour"]\naggregations:\n  temperature: "avg"\n  humidity: "max"\n  readings: "count"'
    )
    aggregate = up.parse_aggregate(rules, SEED, "timestamp")
    assert list(aggregate.columns.items()) == [
        ("device_id", "string"),
        ("hour", "timestamp"),
        ("avg_temperature", "double"),
        ("max_humidity", "double"),
        ("reading_count", "bigint"),
    ]
    page = frame(
        SEED,
        device_id=["a", "a", "a", "b"],
        timestamp=times("2026-01-31T11:59:59.999999", "2026-01-31T12:00:00", "2026-01-31T12:59:59", "2026-01-31T12:30"),
        temperature=[5.0, 10.0, 20.0, None],
        humidity=[5.0, None, 60.0, None],
    )
    noon = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert aggregated(aggregate, [page]) == {
        "device_id": ["a", "a", "b"],
        "hour": [noon - dt.timedelta(hours=1), noon, noon],
        "avg_temperature": [5.0, 15.0, None],
        "max_humidity": [5.0, 60.0, None],
        "reading_count": [1, 2, 1],
    }


def test_the_aggregate_rules_of_the_environment_example_do_what_it_says() -> None:
    text = (
        '{"group_by": ["device_id", "hour_of_day"], '
        '"aggregations": {"temperature": "avg", "humidity": "max", "records": "count"}}'
    )
    aggregate = up.parse_aggregate(json.loads(text), SEED, "timestamp")
    moments = times("2026-01-31T12:10", "2026-01-31T12:50", "2026-02-01T12:10")
    page = frame(SEED, device_id=["a"] * 3, timestamp=moments, temperature=[1.0, 2.0, 3.0], humidity=[1.0, 2.0, 3.0])
    assert aggregate.window_length == dt.timedelta(days=1)
    assert aggregated(aggregate, [page]) == {
        "device_id": ["a", "a"],
        "hour_of_day": [12, 12],
        "avg_temperature": [1.5, 3.0],
        "max_humidity": [2.0, 3.0],
        "record_count": [2, 1],
    }


def test_functions_are_named_and_typed_after_their_column() -> None:
    columns = {"t": "timestamp", "n": "int", "d": "decimal(10,2)", "s": "string", "f": "float"}
    rules = {
        "group_by": "s",
        "aggregations": {
            "n": ["avg", "sum", "min", "stddev", "median", "count"],
            "d": ["sum", "max", "avg"],
            "f": ["sum", "last"],
            "S": "first",
            "status": "count",
            "entries": "count",
        },
    }
    assert up.parse_aggregate(rules, columns, "t").columns == {
        "s": "string", "avg_n": "double", "sum_n": "bigint", "min_n": "int", "stddev_n": "double",
        "median_n": "double", "count_n": "bigint", "sum_d": "decimal(20,2)", "max_d": "decimal(10,2)",
        "avg_d": "double", "sum_f": "double", "last_f": "float", "first_s": "string", "status_count": "bigint",
        "entry_count": "bigint",
    }  # fmt: skip


def test_a_source_column_wins_over_a_time_key_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    columns = {"timestamp": "timestamp", "Hour": "bigint"}
    with caplog.at_level(logging.INFO, "uploader"):
        aggregate = up.parse_aggregate({"group_by": ["hour"], "aggregations": {"rows": "count"}}, columns, "timestamp")
    assert "'Hour' is the source's column" in caplog.text
    assert aggregate.columns == {"Hour": "bigint", "row_count": "bigint"}
    assert aggregate.window_length is None and aggregate.window_of(frame(columns, Hour=[1])) is None


def test_days_of_the_week_count_from_sunday_before_1970_too() -> None:
    columns = {"t": "timestamp"}
    rules = {"group_by": ["minute", "hour", "day", "hour_of_day", "day_of_week"], "aggregations": {"rows": "count"}}
    page = frame(columns, t=times("1969-12-31T23:59:59.999999", "2026-02-01T12:34:56.7"))
    found = aggregated(up.parse_aggregate(rules, columns, "t"), [page])
    assert found["day_of_week"] == [4, 1]  # a Wednesday, a Sunday
    assert found["hour_of_day"] == [23, 12]
    assert [moment.isoformat() for moment in found["minute"]] == [
        "1969-12-31T23:59:00+00:00",
        "2026-02-01T12:34:00+00:00",
    ]
    assert [moment.isoformat() for moment in found["day"]] == ["1969-12-31T00:00:00+00:00", "2026-02-01T00:00:00+00:00"]


def test_rows_without_a_time_have_no_window_and_join_no_group() -> None:
    aggregate = up.parse_aggregate({"group_by": "day", "aggregations": {"rows": "count"}}, SEED, "timestamp")
    page = frame(SEED, timestamp=[None, NOON.replace(tzinfo=None)])
    starts = aggregate.window_of(page)
    assert starts is not None and starts.isna().tolist() == [True, False]
    assert aggregated(aggregate, [page])["row_count"] == [1]


def test_without_a_time_key_all_rows_count_and_no_window_closes() -> None:
    aggregate = up.parse_aggregate({"group_by": "status", "aggregations": {"rows": "count"}}, SEED, "timestamp")
    partials = aggregate.add(aggregate.empty(), frame(SEED, status=["b", None, "b"]))
    assert aggregate.closed(partials, NOON) is None
    assert values(aggregate.result(partials, None), aggregate.columns) == {"status": [None, "b"], "row_count": [1, 2]}


def test_a_window_closes_when_the_newest_time_passes_its_end_and_the_lateness() -> None:
    rules = {"group_by": "hour", "aggregations": {"rows": "count"}, "allowed_lateness": 60}
    aggregate = up.parse_aggregate(rules, SEED, "timestamp")
    partials = aggregate.add(aggregate.empty(), frame(SEED, timestamp=times("2026-01-31T11:00", "2026-01-31T12:00")))
    noon = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert aggregate.closed(partials, noon + dt.timedelta(seconds=59)) is None
    assert aggregate.closed(partials, noon + dt.timedelta(seconds=60)) == noon
    closed = aggregate.result(partials, noon)
    assert values(closed, aggregate.columns)["hour"] == [noon - dt.timedelta(hours=1)]
    assert values(aggregate.result(partials, None), aggregate.columns)["hour"] == [noon - dt.timedelta(hours=1), noon]


def test_first_and_last_go_by_time_and_ties_by_the_order_of_the_source() -> None:
    rules = {"group_by": "status", "aggregations": {"id": ["first", "last"]}}
    aggregate = up.parse_aggregate(rules, SEED, "timestamp")
    early, late = times("2026-01-31T11:00", "2026-01-31T12:00")
    pages = [
        frame(SEED, id=[None, 1, 2], timestamp=[early, late, late], status=["a"] * 3),
        frame(SEED, id=[3, 4, 5], timestamp=[late, None, early], status=["a"] * 3),
    ]
    found = aggregated(aggregate, pages)
    assert (found["first_id"], found["last_id"]) == ([5], [3])
    assert aggregated(aggregate, pages[:1])["first_id"] == [1]
    ties = frame(SEED, id=list(range(1000)), timestamp=[late, early] * 500, status=["a"] * 1000)
    found = aggregated(aggregate, [ties])
    assert (found["first_id"], found["last_id"]) == ([1], [998])


def test_a_sum_of_integers_is_exact_and_never_wraps(caplog: pytest.LogCaptureFixture) -> None:
    rules = {"group_by": "status", "aggregations": {"id": ["sum", "avg"]}}
    aggregate = up.parse_aggregate(rules, SEED, "timestamp")
    status = ["a", "a", "b", "b", "c", "c"]
    page = frame(SEED, id=[2**63 - 1, -2, 2**63 - 1, 1, -(2**63), -1], status=status)
    found = aggregated(aggregate, [page])
    assert found["sum_id"] == [2**63 - 3, None, None]
    assert found["avg_id"] == [2.0**62, 2.0**62, -(2.0**62)]
    assert "2 sums do not fit bigint" in caplog.text


def test_sums_of_decimals_are_exact() -> None:
    columns = {"t": "timestamp", "d": "decimal(38,2)", "k": "bigint"}
    aggregate = up.parse_aggregate({"group_by": "k", "aggregations": {"d": ["sum", "avg"]}}, columns, "t")
    most = Decimal("9" * 36 + ".99")
    page = frame(columns, d=[most, Decimal("-0.01"), most, most, None], k=[1, 1, 2, 2, 3])
    assert aggregated(aggregate, [page])["sum_d"] == [Decimal("9" * 36 + ".98"), None, None]


@pytest.mark.parametrize(("rows", "page", "relative"), [(1000, 7, 1e-6), (60_000, 50_000, 1e-9)])
def test_the_deviation_of_large_values_close_to_each_other_is_kept(rows: int, page: int, relative: float) -> None:
    """Sums of squares would have no digit left."""
    aggregate = up.parse_aggregate({"group_by": "status", "aggregations": {"temperature": "stddev"}}, SEED, "timestamp")
    readings = 1e9 + np.random.default_rng(3).standard_normal(rows)
    parts = [readings[start : start + page].tolist() for start in range(0, rows, page)]
    pages = [frame(SEED, temperature=part, status=["a"] * len(part)) for part in parts]
    expected = float(np.std(readings - 1e9, ddof=1))
    assert aggregated(aggregate, pages)["stddev_temperature"] == [pytest.approx(expected, rel=relative)]


@pytest.mark.parametrize("sizes", [[59], [7], [1]])
def test_equal_values_have_no_deviation_at_all(sizes: list[int]) -> None:
    rules = {"group_by": "sensor", "aggregations": {"level": "stddev"}}
    rows = [(START, "a", 20.1, None, None)] * 59
    assert aggregated(up.parse_aggregate(rules, GROUPED, "t"), split(rows, sizes))["stddev_level"] == [0.0]


@pytest.mark.parametrize(
    ("declared", "values", "average"),
    [
        ("DECIMAL(10,2)", ["1.10"] * 3, 1.1), ("INTEGER", [2**53 + 1, 1, 1], (2**53 + 3) / 3),
        ("INTEGER", [2**62, 2**62, 2**62 + 9], (3 * 2**62 + 9) / 3), ("REAL", [0.5, 1.0], 0.75), ("INTEGER", [None, 4, 5], 4.5),
    ],
)  # fmt: skip
def test_an_average_of_what_is_exact_is_rounded_once(
    box: Box, declared: str, values: list[object], average: float
) -> None:
    box.execute(
        f"CREATE TABLE t (time TEXT, g TEXT, v {declared})",
        "INSERT INTO t VALUES ('2026-01-01', 'a', ?)",
        rows=[(value,) for value in values],
    )
    rules = '{"group_by": ["g"], "aggregations": {"v": "avg"}}'
    assert box.run("--enable-aggregate", "--aggregate-config", rules) == 0
    assert box.arrived("avg_v", "aggregated_") == [(average,)]


def test_infinities_make_no_deviation_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    rules = {"group_by": "status", "aggregations": {"temperature": ["sum", "stddev", "median", "max"]}}
    page = frame(SEED, temperature=[math.inf, -math.inf, math.inf, 1.0], status=["a", "a", "b", "b"])
    found = aggregated(up.parse_aggregate(rules, SEED, "timestamp"), [page])
    assert (repr(found["sum_temperature"]), found["max_temperature"]) == ("[nan, inf]", [math.inf, math.inf])
    assert repr(found["stddev_temperature"]) == "[nan, nan]"
    # What other tests left open may be collected just now.
    assert [str(warning) for warning in recwarn.list if warning.category is not ResourceWarning] == []


def test_nan_is_passed_over_by_functions_and_is_a_key_of_its_own() -> None:
    columns = {"t": "timestamp", "level": "double", "other": "double"}
    rules = {"group_by": "level", "aggregations": {"other": ["count", "max", "avg"]}}
    page = frame(columns, level=[math.nan, None, math.nan, 1.0], other=[1.0, 2.0, math.nan, math.nan])
    found = aggregated(up.parse_aggregate(rules, columns, "t"), [page])
    assert repr(found["level"]) == "[None, 1.0, nan]"
    assert (found["count_other"], found["max_other"], found["avg_other"]) == (
        [1, 0, 1],
        [2.0, None, 1.0],
        [2.0, None, 1.0],
    )


@pytest.mark.parametrize(
    ("rules", "message", "hint"),
    [
        ({}, "aggregate_config", "group_by"),
        ({"group_by": ["hour"]}, "aggregate_config.aggregations", ""),
        ({"aggregations": {"id": "avg"}}, "aggregate_config.group_by", ""),
        ({"group_by": ["device_id", "device_ID"], "aggregations": {"id": "avg"}}, "comes twice", ""),
        ({"group_by": ["hours"], "aggregations": {"id": "avg"}}, "aggregate_config.group_by: unknown column", "hour"),
        ({"group_by": ["hour"], "aggregation": {"id": "avg"}}, "unknown key", "aggregations"),
        ({"group_by": ["hour"], "aggregations": {"temprature": "avg"}}, "unknown column", "temperature"),
        ({"group_by": ["hour"], "aggregations": {"id": "average"}}, "aggregations.id: unknown function", "avg"),
        ({"group_by": ["hour"], "aggregations": {"id": "mean"}}, "aggregations.id: unknown function", "avg, sum"),
        ({"group_by": ["hour"], "aggregations": {"id": []}, "x": 1}, "unknown key", ""),
        ({"group_by": ["hour"], "aggregations": {"id": []}}, "aggregations.id: expected a list", ""),
        (
            {"group_by": ["hour"], "aggregations": {"status": "avg"}},
            "needs a column of numbers",
            '{"status": "double"}',
        ),
        ({"group_by": ["hour"], "aggregations": {"timestamp": "avg"}}, "needs a column of numbers", "min, max, first"),
        ({"group_by": ["hour"], "aggregations": {"id": ["avg", "AVG"]}}, "comes twice", ""),
        ({"group_by": ["hour"], "aggregations": {"id": "avg"}, "allowed_lateness": -1}, "allowed_lateness", "seconds"),
        (
            {"group_by": ["hour"], "aggregations": {"id": "avg"}, "allowed_lateness": True},
            "allowed_lateness",
            "seconds",
        ),
        (
            {"group_by": ["hour"], "aggregations": {"id": "avg"}, "allowed_lateness": "1h"},
            "allowed_lateness",
            "seconds",
        ),
    ],
)
def test_wrong_aggregate_rules_are_refused_with_their_place(rules: Any, message: str, hint: str) -> None:
    with pytest.raises(up.ConfigError) as error:
        up.parse_aggregate(rules, SEED, "timestamp")
    assert message in str(error.value) and hint in error.value.hint


GROUPED = {"t": "timestamp", "sensor": "string", "level": "double", "code": "bigint", "name": "string"}
RULES = {
    "group_by": ["sensor", "minute", "day_of_week"],
    "aggregations": {
        "level": ["avg", "sum", "min", "max", "count", "stddev", "median", "first", "last"],
        "code": ["sum", "min", "max", "avg", "median"],
        "name": ["min", "max", "first", "last", "count"],
        "readings": "count",
    },
}
START = dt.datetime(2026, 1, 31, 23, 58)
GROUP_ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(0, 8).map(lambda n: START + dt.timedelta(seconds=30 * n)),
        st.sampled_from([None, "a", "a\0b", "ä"]),
        st.none() | st.floats(-1e6, 1e6, allow_subnormal=False),
        st.none() | st.integers(-(2**55), 2**55),
        st.sampled_from([None, "", "x", "y"]),
    ),
    max_size=25,
)
PAGES = st.lists(st.integers(1, 8), min_size=1, max_size=6)


def split(rows: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    """Frames of these sizes, over and over until the rows are used up."""
    pages: list[Any] = []
    start = 0
    while start < len(rows):
        part = rows[start : start + sizes[len(pages) % len(sizes)]]
        pages.append(frame(GROUPED, **dict(zip(GROUPED, zip(*part, strict=True), strict=True))))
        start += len(part)
    return pages


def reference(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """RULES over all rows at once, in plain Python."""
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        if row[0] is not None:
            groups.setdefault((row[0].replace(second=0), row[1]), []).append(row)
    order = sorted(groups, key=lambda key: (key[0], key[1] is not None, key[1] or ""))
    records = [reference_group(minute, sensor, groups[minute, sensor]) for minute, sensor in order]
    return {name: [record[name] for record in records] for name in up.parse_aggregate(RULES, GROUPED, "t").columns}


def reference_group(minute: dt.datetime, sensor: str | None, rows: Sequence[Any]) -> dict[str, Any]:
    """One group of `reference`."""
    record: dict[str, Any] = {"sensor": sensor, "minute": minute.replace(tzinfo=dt.UTC), "reading_count": len(rows)}
    record["day_of_week"] = minute.isoweekday() % 7 + 1
    for position, name in ((2, "level"), (3, "code"), (4, "name")):
        present = [(row[0], row[position]) for row in rows if row[position] is not None]
        items = [item for _, item in present]
        record[f"count_{name}"] = len(items)
        record[f"min_{name}"], record[f"max_{name}"] = min(items, default=None), max(items, default=None)
        in_time = [item for _, item in sorted(present, key=lambda pair: pair[0])]
        latest = [item for moment, item in present if moment == max(m for m, _ in present)]
        record[f"first_{name}"], record[f"last_{name}"] = (in_time[0], latest[-1]) if items else (None, None)
        if name != "name":
            record[f"sum_{name}"] = sum(items) if items else None
            record[f"avg_{name}"] = math.fsum(items) / len(items) if items else None
            record[f"median_{name}"] = statistics.median(items) if items else None
            record[f"stddev_{name}"] = statistics.stdev(items) if len(items) > 1 else None
    return record


def check_equal(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> None:
    """Equal, save for the last bits of what floats are added up for."""
    inexact = ("avg_level", "sum_level", "stddev_level", "median_level", "avg_code", "median_code")
    for name, items in expected.items():
        if name in inexact:
            items = [item if item is None else pytest.approx(item, rel=1e-9, abs=1e-6) for item in items]
        assert found[name] == items, name


@settings(max_examples=examples(15))
@given(GROUP_ROWS, PAGES)
def test_groups_do_not_depend_on_pages(rows: Any, sizes: list[int]) -> None:
    aggregate = up.parse_aggregate(RULES, GROUPED, "t")._replace(least_rows=1)
    check_equal(aggregated(aggregate, split(rows, sizes)), reference(rows))


@settings(max_examples=examples(12))
@given(GROUP_ROWS, PAGES, st.integers(1, 8))
def test_windows_sent_cycle_by_cycle_make_the_same_groups(rows: Any, sizes: list[int], cycle: int) -> None:
    """Each cycle reads rows of windows that are not sent yet, a cycle's pages more than the one before."""
    aggregate = up.parse_aggregate(RULES, GROUPED, "t")
    rows = sorted((row for row in rows if row[0] is not None), key=lambda row: row[0])
    sent: dict[str, list[Any]] = {name: [] for name in aggregate.columns}
    mark = dt.datetime.min.replace(tzinfo=dt.UTC)
    for seen in [*range(cycle, len(rows), cycle), len(rows)]:
        waiting = [row for row in rows[:seen] if row[0].replace(tzinfo=dt.UTC) >= mark]
        partials = aggregate.empty()
        for page in split(waiting, sizes):
            partials = aggregate.add(partials, page)
        newest = waiting[-1][0].replace(tzinfo=dt.UTC) if waiting else mark
        end = None if seen == len(rows) else aggregate.closed(partials, newest)
        if end or seen == len(rows):
            for name, items in values(aggregate.result(partials, end), aggregate.columns).items():
                sent[name] += items
        mark = end or mark
    check_equal(sent, reference(rows))


@settings(max_examples=examples(10))
@given(GROUP_ROWS, PAGES)
def test_what_does_not_fit_in_memory_comes_in_further_rounds(rows: Any, sizes: list[int]) -> None:
    aggregate = up.parse_aggregate(RULES, GROUPED, "t")._replace(most_bytes=1, least_rows=1)
    sent: dict[str, list[Any]] = {name: [] for name in aggregate.columns}
    mark: dt.datetime | None = None
    rounds = 0
    while rounds == 0 or mark is not None:
        waiting = [row for row in rows if mark is None or (row[0] and row[0].replace(tzinfo=dt.UTC) >= mark)]
        partials = aggregate.empty()
        for page in split(waiting, sizes):
            partials = aggregate.add(partials, page)
        end = aggregate.closed(partials, dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
        assert end is None or partials.horizon is None or (mark or up.EPOCH) < end == partials.horizon
        for name, items in values(aggregate.result(partials, end), aggregate.columns).items():
            sent[name] += items
        mark, rounds = partials.horizon, rounds + 1
    check_equal(sent, reference(rows))
    assert rounds >= len({row[0].replace(second=0) for row in rows if row[0]}) / 2


def test_memory_follows_the_groups_and_not_the_rows() -> None:
    rules = {"group_by": ["device_id", "minute"], "aggregations": {"temperature": ["avg", "max", "count", "stddev"]}}
    aggregate = up.parse_aggregate(rules, SEED, "timestamp")
    partials = aggregate.empty()
    page = frame(SEED, device_id=["a", "b"] * 500, timestamp=[START] * 1000, temperature=[1.0, 2.0] * 500)
    for _ in range(40):
        partials = aggregate.add(partials, page)
        assert sum(len(piece) for piece in partials.pieces) < 10_000
    assert aggregate.result(partials, None)["count_temperature"].tolist() == [20_000, 20_000]
