"""Chapter Rows: values of any class become values of a column's type exactly, or are reported."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from arro3.core import Array
from hypothesis import example, given
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up

UTC, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")


def converted(values: list[Any], kind: str, zone: ZoneInfo = UTC) -> tuple[list[Any], dict[int, str]]:
    array, bad = up.convert(up.RawColumn("mixed", values), kind, zone)
    return list(array.to_pylist()), bad


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("INTEGER", "bigint"), ("tinyint unsigned", "bigint"), ("VARCHAR(20)", "string"), ("TEXT", "string"),
        ("BLOB", "binary"), ("REAL", "double"), ("DOUBLE PRECISION", "double"), ("BOOLEAN", "boolean"),
        ("DATE", "date"), ("DATETIME", "timestamp"), ("TIMESTAMP", "timestamp"), ("DECIMAL(10, 2)", "decimal(10,2)"),
        ("NUMERIC(5)", "decimal(5,0)"), ("NUMERIC", "double"), ("DECIMAL(0)", "double"), ("", None),
    ],
)  # fmt: skip
def test_declarations_say_what_type_a_new_column_gets(declared: str, kind: str | None) -> None:
    assert up.declared_type(declared) == kind


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("bigint", [1, 3.0, "12", None, 2**63 - 1, -(2**63)], [1, 3, 12, None, 2**63 - 1, -(2**63)]),
        ("double", [1, 2**53, "1.5", math.inf, -0.0], [1.0, 2.0**53, 1.5, math.inf, -0.0]),
        ("decimal(10,2)", [1, 1.5, "2.25", 19.99], [Decimal("1"), Decimal("1.5"), Decimal("2.25"), Decimal("19.99")]),
        ("boolean", [0, 1, "TRUE", 1.0], [False, True, True, True]),
        ("string", ["a", 5, 1.5, "a\0b"], ["a", "5", "1.5", "a\0b"]),
        ("binary", [b"\xff", "ü"], [b"\xff", b"\xc3\xbc"]),
        ("date", ["2026-01-31", "1969-12-31T00:00:00"], [dt.date(2026, 1, 31), dt.date(1969, 12, 31)]),
    ],
)
def test_what_fits_is_converted_without_change(kind: str, values: list[Any], expected: list[Any]) -> None:
    assert converted(values, kind) == (expected, {})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bigint", 1.7), ("bigint", "x"), ("bigint", 2.0**64), ("bigint", b"1"), ("int", 2**31), ("tinyint", -129),
        ("double", 2**53 + 1), ("double", "nan"), ("double", "1,5"), ("double", "1e999"), ("double", b"1"), ("float", 1e39),
        ("decimal(10,2)", 19.999), ("decimal(4,2)", 100), ("decimal(4,2)", "x"), ("decimal(4,2)", math.inf),
        ("boolean", 2), ("boolean", "yes please"), ("string", b"a"), ("string", up.InvalidText(b"\xff")),
        ("varchar(3)", "abcd"), ("binary", 5), ("date", "2026-01-31T12:00:00"), ("date", 5), ("date", "2026-02-30"),
        ("timestamp", "garbage"), ("timestamp", ""), ("timestamp", b"2026-01-01"), ("timestamp", "2026-02-30"),
        ("timestamp", math.inf), ("timestamp", up.InvalidText(b"\xff")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_reported_and_never_bent(kind: str, value: Any) -> None:
    values, bad = converted([None, value], kind)
    assert values == [None, None]
    assert list(bad) == [1]
    assert bad[1].startswith(("is ", "has ", "does "))


@pytest.mark.parametrize(
    ("value", "zone", "expected"),
    [
        ("2026-07-01T12:00:00Z", BERLIN, "2026-07-01T12:00:00"),
        ("2026-07-01T12:00:00.123456+02:00", UTC, "2026-07-01T10:00:00.123456"),
        ("2026-07-01T12:00:00-0530", UTC, "2026-07-01T17:30:00"),
        ("2026-07-01 12:00:00", UTC, "2026-07-01T12:00:00"),
        ("2026-07-01 12:00:00", BERLIN, "2026-07-01T10:00:00"),
        ("2026-07-01 12:00", BERLIN, "2026-07-01T10:00:00"),
        ("2026-10-25 02:30:00", BERLIN, "2026-10-25T00:30:00"),
        ("2026-07-01", UTC, "2026-07-01T00:00:00"),
        (1767225600, UTC, "2026-01-01T00:00:00"),
        (1767225600.25, UTC, "2026-01-01T00:00:00.250000"),
        (1767225600123, UTC, "2026-01-01T00:00:00.123000"),
        (1767225600123456, UTC, "2026-01-01T00:00:00.123456"),
        (1767225600123456789, UTC, "2026-01-01T00:00:00.123456"),
    ],
)
def test_times_of_every_form_become_utc_microseconds(value: Any, zone: ZoneInfo, expected: str) -> None:
    values, bad = converted([value], "timestamp", zone)
    assert bad == {}
    assert values == [dt.datetime.fromisoformat(expected).replace(tzinfo=dt.UTC)]


def test_a_type_that_rows_cannot_be_made_for_is_named() -> None:
    with pytest.raises(up.TargetError, match="struct"):
        up.arrow_type("struct<a:int>")


PLAIN_VALUES = {
    "integer": (st.integers(-(2**63), 2**63 - 1), "bigint"),
    "real": (st.floats(allow_nan=False), "double"),
    "text": (
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)).map(str),
            st.datetimes(timezones=st.timezones(), min_value=dt.datetime(1900, 1, 1)).map(lambda t: t.isoformat()),
            st.sampled_from(
                ["2026-01-01T00:00:00 Europe/Berlin", "2026-12-31T23:59:60Z", "20260101T000000", " 2026-01-01"]
            ),
        ),
        "string",
    ),
}
KINDS = ["bigint", "int", "smallint", "double", "string", "timestamp", "boolean", "decimal(18,3)", "date", "varchar(5)"]


@pytest.mark.parametrize("zone", [UTC, BERLIN], ids=str)
@pytest.mark.parametrize("plain", PLAIN_VALUES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_way_gives_exactly_what_the_careful_way_gives(plain: str, kind: str, zone: ZoneInfo) -> None:
    values_of_class, arrow = PLAIN_VALUES[plain]

    @example([None])
    @given(st.lists(st.one_of(st.none(), values_of_class), max_size=6))
    def check(values: list[Any]) -> None:
        fast = up.convert(up.RawColumn(plain, Array(values, up.arrow_type(arrow))), kind, zone)
        careful = up.convert_each(values, kind, zone)
        assert fast[0].type == careful[0].type
        assert repr(fast[0].cast(up.arrow_type("string")).to_pylist()) == repr(
            careful[0].cast(up.arrow_type("string")).to_pylist()
        )
        assert fast[1] == careful[1]

    check()
