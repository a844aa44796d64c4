"""Chapter Rows: values of any class become values of a column's type exactly, or are reported."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from arro3.core import Array
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sqlite_to_databricks_uploader as up
from boxes import examples

UTC, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")


def converted(values: list[Any], kind: str, zone: ZoneInfo = UTC) -> tuple[list[Any], dict[int, str]]:
    array, bad = up.convert(up.RawColumn("mixed", values), kind, up.TimeForm(zone=zone))
    return list(array.to_pylist()), bad


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("INTEGER", "bigint"), ("tinyint unsigned", "bigint"), ("VARCHAR(20)", "string"), ("TEXT", "string"),
        ("BLOB", "binary"), ("REAL", "double"), ("DOUBLE PRECISION", "double"), ("BOOLEAN", "boolean"),
        ("DATE", "date"), ("DATETIME", "timestamp"), ("TIMESTAMP", "timestamp"), ("DECIMAL(10, 2)", "decimal(10,2)"),
        ("NUMERIC(5)", "decimal(5,0)"), ("FLOAT", "double"), ("NUMERIC", None), ("DECIMAL(0)", None), ("", None),
        ("STRING", None), ("JSON", None), ("UUID", None), ("TIME", None), ("ENUM", None), ("ANY", None), ("DECIMAL", None),
    ],
)  # fmt: skip
def test_declarations_say_what_type_a_new_column_gets(declared: str, kind: str | None) -> None:
    assert up.declared_type(declared) == kind


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("bigint", [1, 3.0, "12", None, 2**63 - 1, -(2**63)], [1, 3, 12, None, 2**63 - 1, -(2**63)]),
        ("double", [1, 2**53, "1.5", math.inf, -0.0], [1.0, 2.0**53, 1.5, math.inf, -0.0]),
        ("float", [2**24 + 1, 2**53 + 1, str(2**53 + 1)], [2.0**24, 2.0**53, 2.0**53]),
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
        ("double", 2**53 + 1), ("double", "nan"), ("double", "1,5"), ("double", "1e999"), ("double", b"1"), ("float", 1e39), ("float", 2.0**128 - 2.0**103),
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


# Where a clock stands matters to times alone.
IN_ZONES = [(kind, UTC) for kind in KINDS] + [("timestamp", BERLIN), ("date", BERLIN)]


@pytest.mark.parametrize("plain", PLAIN_VALUES)
def test_the_fast_way_gives_exactly_what_the_careful_way_gives(plain: str) -> None:
    """For each kind of column: values take longer to make up than to convert."""
    values_of_class, arrow = PLAIN_VALUES[plain]

    @example([None])
    @given(st.lists(st.one_of(st.none(), values_of_class), max_size=6))
    def check(values: list[Any]) -> None:
        column = up.RawColumn(plain, Array(values, up.arrow_type(arrow)))
        for kind, zone in IN_ZONES:
            fast = up.convert(column, kind, up.TimeForm(zone=zone))
            careful = up.convert_each(values, kind, up.TimeForm(zone=zone))
            assert fast[0].type == careful[0].type, kind
            told, expected = (found[0].cast(up.arrow_type("string")).to_pylist() for found in (fast, careful))
            assert repr(told) == repr(expected), kind
            assert fast[1] == careful[1], kind

    check()


# Times of a clock in one unit, and what is near the ends of units and years.
NEAR_UNITS = [2**24, 10**11, 10**14, 10**17, 253_402_300_800, 253_402_300_800_000, 2_440_587, 45_000, 1_795_010_112]
COUNTS = st.one_of(
    st.sampled_from(NEAR_UNITS).flatmap(lambda near: st.integers(near - 3, near + 3)),
    st.sampled_from([10**9, 10**12, 10**15, 10**18]).flatmap(lambda unit: st.integers(unit, 3 * unit)),
    st.integers(-(2**63), 2**63 - 1),
)
FRACTIONS = st.one_of(st.sampled_from([0.0, 0.5, 0.25, 5e-7, 1.5e-6, 0.0000025]), st.floats(0, 1))


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(COUNTS, FRACTIONS), min_size=1, max_size=3), st.sampled_from(["auto", *up.NUMBER_FORMATS]))
def test_numbers_are_the_same_times_together_as_each_alone(parts: list[tuple[int, float]], name: str) -> None:
    form = up.TimeForm(name)
    wholes, reals = [count for count, _ in parts], [float(count) + fraction for count, fraction in parts]
    for storage, values in (("integer", [*wholes, None]), ("real", [None, *reals])):
        column = up.RawColumn(storage, Array(values, up.arrow_type(up.CLASS_TYPES[storage])))
        array, bad = up.convert(column, "timestamp", form)
        careful, expected = up.convert_each(values, "timestamp", form)
        assert array.cast(up.arrow_type("bigint")).to_pylist() == careful.cast(up.arrow_type("bigint")).to_pylist()
        assert bad == expected


@pytest.mark.parametrize("values", [[1_795_010_112_345, 1_795_010_112_346], [1_795_010_112.345678, 1_795_010_113.5]])
def test_numbers_of_one_unit_are_not_looked_at_one_by_one(values: list[float]) -> None:
    kind = "bigint" if isinstance(values[0], int) else "double"
    assert up.cast_number_times(Array([*values, None], up.arrow_type(kind)), up.AUTO) is not None
    assert up.cast_number_times(Array([*values, 10.0**15], up.arrow_type("double")), up.AUTO) is None


# A text near ISO-8601: parts that fit or nearly so, in orders that mostly fit.
DAYS = st.one_of(
    st.dates().map(str),
    st.dates(dt.date(1960, 1, 1), dt.date(2200, 12, 31)).map(str),
    st.dates(dt.date(2026, 3, 28), dt.date(2026, 3, 30)).map(str),
    st.dates(dt.date(2026, 10, 24), dt.date(2026, 10, 26)).map(str),
    st.sampled_from(
        ["2026-02-30", "0000-01-01", "20260131", "2026-W05-6", "2026W056", "2026-1-1", "1795010112345", "2026-031"]
    ),
)
CLOCKS = st.one_of(
    st.times().map(str),
    st.times(dt.time(1), dt.time(4)).map(lambda t: t.isoformat("seconds")),
    st.sampled_from(["12", "12:30", "1230", "123000", "12:30:60", "12:61:00", "24:00:00", "12:30:00.", "12:30:00,5", "12:30:00.1234567891"]),
)  # fmt: skip
ZONES = st.sampled_from(
    ["", "", "Z", "z", "+02:00", "-0330", "+01", " +01:00", "+00:00", "-00:00", "+23:59", "+24:00", "+12:99", " UTC", " Europe/Berlin", " No/Where"]
)  # fmt: skip
NEAR_ISO = st.one_of(
    st.tuples(DAYS, st.sampled_from(["T", " ", "t", "", "_", "\n", "  "]), CLOCKS, ZONES).map("".join),
    st.tuples(st.sampled_from(["", " ", "+", "-"]), DAYS, st.sampled_from(["", " ", "\n", "Z", "\uff3a"])).map("".join),
    st.tuples(st.sampled_from(["", "-", "+"]), st.integers(0, 2**64).map(str), st.sampled_from(["", ".", ".25"])).map(
        "".join
    ),
)
ZONES_OF_CLOCKS = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Monrovia")


@settings(max_examples=examples(100))
@example("2026-01-31T12:30:60Z")
@example("2026-01-31T12:30:00+12:99")
@example("2026-01-31 12:61:00")
@given(st.one_of(NEAR_ISO, st.lists(NEAR_ISO, min_size=1, max_size=3)))
def test_both_ways_agree_on_each_text_that_looks_like_a_time(texts: str | list[str]) -> None:
    values = [texts, None] if isinstance(texts, str) else texts
    for form in (up.TimeForm(zone=ZoneInfo(zone)) for zone in ZONES_OF_CLOCKS):
        fast = up.cast_text_times(Array(values, up.arrow_type("string")), form)
        careful, bad = up.convert_each(values, "timestamp", form)
        if fast is not None:
            told = fast.cast(up.arrow_type("bigint")).to_pylist()
            assert [time for index, time in enumerate(told) if index not in bad] == [
                time for index, time in enumerate(careful.cast(up.arrow_type("bigint")).to_pylist()) if index not in bad
            ], form
            assert not any(told[index] is not None for index in bad), form


@pytest.mark.parametrize(
    "odd",
    ["2026-01-31T12:30:60Z", "2026-01-31 12:61:00.5", "2026-01-31T12:30:00+12:99", "2026-01-31T12:30:00.25-00:60"],
)
@pytest.mark.parametrize("place", [0, 1, 8])
def test_a_time_that_no_clock_shows_is_found_among_others_of_its_form(odd: str, place: int) -> None:
    usual = odd.replace("61", "59").replace("60", "59").replace("99", "00")
    texts = [*[usual] * place, odd, *[usual] * (8 - place)]
    assert up.cast_text_times(Array([usual] * 9, up.arrow_type("string")), up.AUTO) is not None
    assert up.cast_text_times(Array(texts, up.arrow_type("string")), up.AUTO) is None


@given(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(9000, 1, 1)), st.sampled_from(ZONES_OF_CLOCKS))
def test_times_of_a_zone_are_what_its_clocks_say_in_any_year(time: dt.datetime, name: str) -> None:
    zone = ZoneInfo(name)
    column = up.RawColumn("text", Array([str(time), str(time)], up.arrow_type("string")))
    array, bad = up.convert(column, "timestamp", up.TimeForm(zone=zone))
    wanted = (time.replace(tzinfo=zone).astimezone(dt.UTC) - up.EPOCH) // dt.timedelta(microseconds=1)
    assert array.cast(up.arrow_type("bigint")).to_pylist() == [wanted, wanted]
    assert bad == {}


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1795010112345", 1795010112345000), ("-1.5", -1500000), ("+1790000000", 1790000000000000),
        ("1790000000.123456", 1790000000123456), (" 1790000000123456789\n", 1790000000123456),
        ("0", 0), ("20260131", 1769817600000000), ("2026-01-31T24:00", None), ("20261331", None), ("1_790_000_000", None),
        ("\uff11\uff17\uff19\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10", None), ("1790000000e0", None), ("infinity", None), ("99999999999999999999", None),
        ("2026-01-31 05:00:00 AM", None), ("2026-01-31x05:00:00", None), ("2026-12-31T23:59:60Z", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)  # fmt: skip
def test_digits_are_numbers_since_1970_save_a_day_of_eight(text: str, microseconds: int | None) -> None:
    values, bad = converted([text], "timestamp")
    assert bool(bad) == (microseconds is None)
    assert microseconds is None or values == [up.EPOCH + dt.timedelta(microseconds=microseconds)]


@given(st.floats(-62e9, 99e9))
def test_a_real_number_since_1970_is_the_nearest_microsecond(seconds: float) -> None:
    told = up.to_microseconds(seconds, up.AUTO)
    assert abs(Fraction(seconds) * 10**6 - told) <= Fraction(1, 2)


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.floats().map(repr),
    st.text("0123456789+-.eE_ \uff11\uff12', ", max_size=6),
    st.sampled_from(
        ["1_000", "\uff11\uff12", "infinity", "nan", " 1", "1 ", "1,5", "0x10", "1e-400", "1e400", "1.", ".5", "+5"]
    ),
)


@given(NUMBERS, st.sampled_from(["bigint", "smallint", "double", "decimal(18,3)"]))
def test_a_number_as_text_is_that_number_or_refused(text: str, kind: str) -> None:
    [value], bad = converted([text], kind)
    if bad:
        return
    assert re.fullmatch(r"[-+.0-9eE]+", text)
    exact = Decimal(text)
    if kind == "double":
        assert value == float(text) and ("." in text or "e" in text.lower() or int(value) == int(text))
        assert (value == 0) == (exact == 0)
    else:
        assert value == exact


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bigint", "\uff11\uff12"), ("bigint", "1_000"), ("bigint", " 1"), ("double", "9007199254740993"), ("double", "1e-400"),
        ("decimal(10,2)", "1_000"), ("decimal(10,2)", "\uff11"), ("decimal(10,2)", " 1"), ("decimal(10,2)", "infinity"),
        ("boolean", "1.0"), ("boolean", "on"), ("boolean", b"1"), ("date", "2026-01-31T00:00:00+02:00"),
        ("date", "1795010112345"), ("date", "2026-01-31x00:00"),
    ],
)  # fmt: skip
def test_what_only_python_takes_for_a_value_is_refused(kind: str, value: Any) -> None:
    assert converted([value], kind)[1]


@pytest.mark.parametrize("word", ["t", "TRUE", "y", " Yes ", "1"])
def test_words_for_a_boolean_are_those_of_databricks(word: str) -> None:
    opposite = {"t": "f", "true": "false", "y": "n", "yes": "NO", "1": "0"}[word.strip().lower()]
    assert converted([word, opposite], "boolean") == ([True, False], {})


@pytest.mark.parametrize(
    ("values", "asked", "kind"),
    [
        ([1, None], "bigint", "bigint"), ([1, "x"], "bigint", "string"), ([1, 1.5], "bigint", "double"),
        ([2**53 + 1, 1.5], None, "string"), ([], "decimal(5,2)", "decimal(5,2)"), ([1.5], "decimal(5,2)", "decimal(5,2)"),
        ([1.555], "decimal(5,2)", "double"), (["yes", 0], "boolean", "boolean"), (["on", "off"], "boolean", "string"),
        ([2], "boolean", "bigint"), (["2026-01-31"], "date", "date"), (["2026-01-31 10:00"], "date", "timestamp"),
        (["soon"], "timestamp", "string"), ([1790000000], "timestamp", "timestamp"), ([2461000.5], "timestamp", "double"),
        ([0, 0, 1790000000], "timestamp", "bigint"), ([b"x", "y"], "string", "binary"), ([b"x", 1], None, "string"),
        (["12"], None, "string"), ([""], "double", "string"), ([None], None, "string"), ([math.inf], "double", "double"),
        (["10:00:00.000000"], None, "string"), ([up.InvalidText(b"\xff")], "string", "string"),
    ],
)  # fmt: skip
def test_a_new_column_gets_the_type_that_holds_its_rows(values: list[Any], asked: str | None, kind: str) -> None:
    assert up.fitting_type(up.RawColumn("mixed", values), asked, UTC) == kind


ANY_VALUE = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=3), st.text(max_size=3),
    st.sampled_from(["yes", "0", "2026-01-31", "1e5", "", "10:00"]), NEAR_ISO,
)  # fmt: skip


@given(st.lists(ANY_VALUE, max_size=5), st.sampled_from([None, *KINDS, "binary", "double"]))
def test_the_type_of_a_new_column_holds_every_mix_but_blobs_beside_numbers(
    values: list[Any], asked: str | None
) -> None:
    kind = up.fitting_type(up.RawColumn("mixed", values), asked, UTC)
    refused = up.convert_each(values, kind, up.AUTO)[1]
    classes = {type(value) for value in values}
    assert not refused or (bytes in classes and classes & {int, float})


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("STRING", "string"), (" Decimal ( 10 , 2 ) ", "decimal(10,2)"), ("numeric(5)", "decimal(5,0)"), ("DEC", "decimal(10,0)"),
        ("long", "bigint"), ("INTEGER", "int"), ("varchar(20)", "varchar(20)"), ("timestamp_ltz", "timestamp"), ("REAL", "float"),
    ],
)  # fmt: skip
def test_types_may_be_named_in_databricks_words(word: str, kind: str) -> None:
    assert up.type_named(word) == kind


@pytest.mark.parametrize(
    "word", ["strnig", "varchar", "int(5)", "decimal(39)", "decimal(2,3)", "struct<a:int>", "", 5, None]
)
def test_words_that_are_no_type_are_refused(word: Any) -> None:
    with pytest.raises(ValueError):
        up.type_named(word)


PATTERNS = {
    "%d.%m.%Y %H:%M:%S.%f": 1, "%Y/%m/%d %H:%M": 60 * 10**6, "%m/%d/%Y %I:%M:%S %p": 10**6, "%Y%m%d%H%M%S": 10**6,
    "%d %b %Y %H:%M:%S.%f %z": 1, "%j/%Y %H.%M": 60 * 10**6, "%H:%M:%S %d-%m-%y": 10**6, "%Y-%m-%d": up.DAY, "%d.%m.%Y %H:%M %Z": 60 * 10**6,
}  # fmt: skip
micros = st.integers(946_684_800 * 10**6, 3_000_000_000 * 10**6)


@settings(max_examples=examples(200))
@given(micros, st.sampled_from([*PATTERNS]), st.sampled_from([UTC, BERLIN]))
def test_a_moment_written_by_a_pattern_is_read_back(moment: int, pattern: str, zone: ZoneInfo) -> None:
    local = (up.EPOCH + dt.timedelta(microseconds=moment)).astimezone(dt.UTC if "%Z" in pattern else zone)
    local = local.replace(fold=0)
    text, step = local.strftime(pattern), PATTERNS[pattern]
    local = local.replace(microsecond=local.microsecond if step == 1 else 0)
    local = local.replace(second=local.second if step <= 10**6 else 0)
    local = local.replace(hour=0, minute=0) if step == up.DAY else local
    cut = (local.astimezone(dt.UTC) - up.EPOCH) // dt.timedelta(microseconds=1)
    assert up.to_microseconds(text, up.TimeForm(up.time_format(pattern), zone)) == cut


@settings(max_examples=examples(200))
@given(micros, st.sampled_from([*up.NUMBER_FORMATS]))
def test_a_moment_written_as_a_number_is_read_back_as_number_and_as_text(moment: int, name: str) -> None:
    unit, origin = up.NUMBER_FORMATS[name]
    exact, form = (moment - origin) / unit, up.TimeForm(name, BERLIN)
    digits = f"{exact.numerator * 10**20 // exact.denominator}".rjust(21, "0")
    assert up.to_microseconds(f"{digits[:-20]}.{digits[-20:]}", form) in (moment, moment - (name == "unix_ns"))
    if exact.denominator == 1:
        assert up.to_microseconds(int(exact), form) == up.to_microseconds(str(exact), form) == moment


@settings(max_examples=examples(300))
@given(st.floats(-700_000, 5_000_000) | st.floats(2_451_544, 2_500_000) | st.floats(36_526, 60_000))
def test_any_double_of_days_is_the_nearest_microsecond_of_its_own_value(days: float) -> None:
    for name, start in (("julian", Fraction(-4_881_175, 2)), ("ole", Fraction(-25_569))):
        exact = (Fraction(days) + start) * 86_400 * 10**6
        nearest = math.floor(exact + Fraction(1, 2))
        if up.FIRST_TIME <= nearest <= up.LAST_TIME:
            assert up.to_microseconds(days, up.TimeForm(name, UTC)) == nearest
        else:
            with pytest.raises(ValueError, match=r"outside the years|is no time"):
                up.to_microseconds(days, up.TimeForm(name, UTC))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("unix", "2026-01-31"), ("unix", b"1790000000"), ("julian", math.inf), ("julian", "x"), ("unix", 10**15), ("unix", ""),
        ("%d.%m.%Y", "2026-01-31"), ("%d.%m.%Y", 5), ("%d.%m.%Y", b"31.01.2026"), ("%d%m%Y", 1112026), ("%d.%m.%Y", "31.02.2026"),
    ],
)  # fmt: skip
def test_a_time_in_another_form_is_refused_by_the_name_of_the_format(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"is no time in timestamp_format {re.escape(name)}|outside the years"):
        up.to_microseconds(value, up.TimeForm(name, UTC))


@pytest.mark.parametrize("word", ["%H:%M", "iso", "%d.%m", "%Y-%m-%d %Q", "%d.%m.%Y %I:%M", "%", "epoch"])
def test_a_pattern_that_tells_no_moment_is_refused_with_an_example(word: str) -> None:
    with pytest.raises(up.ConfigError, match=r"UPLOAD_TIMESTAMP_FORMAT: expected auto, unix, .*%d\.%m\.%Y %H:%M:%S"):
        up.layer_from_environ({"UPLOAD_TIMESTAMP_FORMAT": word})


def test_days_of_the_time_column_are_read_by_the_format_too() -> None:
    array, bad = up.convert(up.RawColumn("text", Array(["31.01.2026", "2026"], up.arrow_type("string"))), "date",
                            up.TimeForm("%d.%m.%Y", BERLIN))  # fmt: skip
    assert array.to_pylist() == [dt.date(2026, 1, 31), None]
    assert bad == {1: "is no time in timestamp_format %d.%m.%Y"}


WRITTEN_DAYS = [
    gap.join(f"%{field}" for field in order)
    for gap in ("-", "/", ".", " ", ":", "")
    for order in ("Ymd", "dmY", "mdY", "ymd", "dmy", "mdy")
    if gap != ":" or order == "Ymd"
]
WRITTEN_DAYS += [
    "%d %b %Y",
    "%d-%b-%y",
    "%d. %B %Y",
    "%B %d, %Y",
    "%A, %d %B %Y",
    "%a %d/%m/%Y",
    "%Y-%j",
    "%d%b%Y",
    "%Y年%m月%d日",
]
WRITTEN_CLOCKS = [
    "%H:%M",
    "%H:%M:%S",
    "%H:%M:%S.%f",
    "%H:%M:%S,%f",
    "%H.%M.%S",
    "%H%M",
    "%H%M%S",
    "%H-%M-%S",
    "%I:%M %p",
    "%I:%M:%S%p",
    "%I.%M.%S.%f %p",
    "%H时%M分%S秒",
    "%Hh%M",
]
WRITTEN_ZONES = ["", "%z", " %z", " %Z", " GMT%z"]


@settings(max_examples=examples(100))
@given(
    st.tuples(st.sampled_from(WRITTEN_DAYS), st.sampled_from([" ", "T", ", ", "_", " - ", " at "]), st.sampled_from(WRITTEN_CLOCKS), st.sampled_from(WRITTEN_ZONES)),
    st.sampled_from(["", "before", "around"]), st.sampled_from(["{}", '"{}"', "[{}]", "#{}#"]),
    st.lists(st.integers(1_600_000_000 * 10**6, 1_780_000_000 * 10**6), min_size=1, max_size=9),
)  # fmt: skip
def test_the_pattern_that_wrote_texts_is_among_the_few_that_fit(
    parts: tuple[str, str, str, str], place: str, frame: str, moments: list[int]
) -> None:
    """Or another one that reads them to the same times."""
    day, between, clock, zone = parts
    if place and "%y" in day and "%S" not in clock and ":" not in clock:
        place = ""  # May be something else.
    place, between = (
        "" if ":" in day or "%a" in day.lower() else place,
        " " if between == "T" and (place or day[-1] == "日") else between,
    )
    pattern = f"{day}{between}{clock}{zone}" if place == "" else f"{clock}{zone}{between}{day}"
    if place == "around" and day[-4:].lower() == "b %y":
        pattern = f"{day[:-3]} {clock}{zone} %Y"
    times = [up.EPOCH + dt.timedelta(microseconds=moment) for moment in moments]
    written = [frame.format(time.strftime(pattern)) for time in times]
    wanted = [up.to_microseconds(text, up.TimeForm(frame.replace("%", "%%").format(pattern))) for text in written]
    fitting = up.fitting_forms(written, UTC, 1_790_000_000)
    assert wanted in [[up.to_microseconds(text, form) for text in written] for form in fitting]
    assert len(fitting) <= 6
    assert all(up.time_format(form.name) == form.name for form in fitting)


@pytest.mark.parametrize(
    ("value", "formats"),
    [
        (2_461_000.5, ["julian"]), (1.34e16, ["webkit"]), (46_000.25, ["ole"]), (8e8, ["apple"]), ("8e8", ["apple"]), (20_261_101, ["%Y%m%d"]),
        (1_780_000_000, ["auto"]), ("11/12/2025 10:00", ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"]), ("27/11/98", ["%d/%m/%y"]), ("x", []), (b"", []),
        ("Fri Jul  3 04:05:06 2026", ["%a %b %d %H:%M:%S %Y"]), ("03/Jul/2026:04:05:06 +0200", ["%d/%b/%Y:%H:%M:%S %z"]),
        ("2026-07-13_04-05-06", ["%Y-%m-%d_%H-%M-%S"]), ("2026110105", ["%Y%m%d%H"]), ("Friday, 03 July 2026 04:05:06", ["%A, %d %B %Y %H:%M:%S"]),
    ],
)  # fmt: skip
def test_formats_are_those_under_which_values_are_plausible(value: Any, formats: list[str]) -> None:
    assert [form.name for form in up.fitting_forms([value], UTC, 1_795_000_000)] == formats


# Clocks and days without a year, as people and programs write them; a text that may be a date as well is none of these.
CLOCKS_ALONE = [
    "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S,%f", "%H:%M:%SZ", "%H:%M:%S+01:00", "%I:%M %p", "%I:%M:%S %p", "%Hh%M",
    "%Hh%Mm%Ss", "%H:%M:%S UTC", "%H.%M.%S Uhr", "%M:%S.%f",
]  # fmt: skip
YEARLESS_DAYS = ["", "%m-%d", "%d.%m.", "%d/%m", "%b %d", "%d %B", "%d", "%a"]


@settings(max_examples=examples(100))
@given(
    st.sampled_from(CLOCKS_ALONE), st.sampled_from(YEARLESS_DAYS), st.sampled_from([" ", ", ", "/", "-", "_"]), st.booleans(), st.booleans(),
    st.integers(1_600_000_000, 1_780_000_000), st.sampled_from([1, 60, 61, 3600, 90_000]), st.integers(1, 12),
)  # fmt: skip
def test_times_of_the_day_and_days_without_a_year_fit_no_form(
    clock: str, day: str, between: str, is_day_first: bool, is_cut: bool, start: int, step: int, count: int
) -> None:
    """Also where they all are of one hour, whose minutes or seconds might be years; fractions of three or six digits."""
    pattern = (f"{day}{between}{clock}" if is_day_first else f"{clock}{between}{day}") if day else clock
    times = [up.EPOCH + dt.timedelta(seconds=start + step * index, milliseconds=index) for index in range(count)]
    fraction = [f"{time.microsecond:06}"[: 3 if is_cut else 6] for time in times]
    written = [time.strftime(pattern.replace("%f", some)) for time, some in zip(times, fraction, strict=True)]
    assert up.fitting_forms(written, UTC, 1_795_000_000) == [], written


@pytest.mark.parametrize(
    "written",
    [
        [f"10:10:{i:02}" for i in range(30)], [f"{i % 24:02}:{i:02}:{10 + i // 2}.123" for i in range(40)],
        [f"00:05:{i:02}" for i in range(1, 13)], [f"1.02:03:{i:02}" for i in range(1, 13)], [f"3 days, 1:02:{i:02}" for i in range(1, 13)],
        [f"PT16H12M{i:02}S" for i in range(1, 13)], [f"01h02m{i:02}s" for i in range(1, 13)],
        [f"10.10.10.{i}" for i in range(1, 255)], [f"10.10.10.{i}" for i in range(10, 24)], [f"192.168.1.{i}" for i in range(10, 24)],
        [f"1.2.{i}" for i in range(1, 10)], [f"v1.2.{i}" for i in range(10, 24)], [f"1.2.{i}.{i}" for i in range(10, 24)],
        [f"00:1a:2b:3c:4d:{i:02x}" for i in range(24)], [f"10:11:12:13:14:{i}" for i in range(27, 99)], [f"+49 30 1234{i}" for i in range(10, 24)],
        [f"555-010-{i}" for i in range(2000, 2024)], [f"06 58 72 86 {i}" for i in range(10, 24)], [f"2-{i}-28" for i in range(1, 13)],
        [f"2026-{i:05}" for i in range(1, 300)], [f"0937{i}" for i in range(10, 24)], [f"1009{i}" for i in range(32, 60)], [f"11-28 {i:02}" for i in range(24)],
        [f"1.3.6.1.4.{i}" for i in range(10, 24)], [f"10.05.{i} Uhr" for i in range(10, 24)], [f"10.05.{i} PM" for i in range(10, 24)],
        [f"10.11. 10.05.{i}" for i in range(10, 24)], [f"10:10:{i:02}.000000" for i in range(1, 13)], [f"02:04:32.11282{i}" for i in range(1, 6)],
    ],
    ids=lambda written: written[-1],
)  # fmt: skip
def test_addresses_versions_durations_and_numbers_fit_no_form(written: list[str]) -> None:
    assert up.fitting_forms(written, UTC, 1_795_000_000) == []


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("2026:11:28 10:09:08", "%Y:%m:%d %H:%M:%S"), ("28Nov26:10:09:08", "%d%b%y:%H:%M:%S"),
        ("28/11/26:10:09:08", "%d/%m/%y:%H:%M:%S"), ("100908.25,281126", "%H%M%S.%f,%d%m%y"), ("26-11-28-10-59", "%y-%m-%d-%H-%M"),
        ("26-11-28_10-09-08", "%y-%m-%d_%H-%M-%S"), ("10:09:08;28.11.26", "%H:%M:%S;%d.%m.%y"), ("28.11.26, 10:09", "%d.%m.%y, %H:%M"),
        ("28. 11.26 10.09", "%d. %m.%y %H.%M"), ("11/28/26 9:05 AM", "%m/%d/%y %I:%M %p"), ("28 Nov 26 10:09", "%d %b %y %H:%M"),
        ("26-11-28T10:09:08.123", "%y-%m-%dT%H:%M:%S.%f"), ("31.12.2030", "%d.%m.%Y"), ("03-22-00 14-10-2023", "%H-%M-%S %d-%m-%Y"), ("1.2.26", "%d.%m.%y"),
        ("2026110105", "%Y%m%d%H"), ("20261101050709000000", "%Y%m%d%H%M%S%f"), ("20261101050709123", "%Y%m%d%H%M%S%f"),
    ],
)  # fmt: skip
def test_dates_that_look_a_little_like_something_else_are_found(text: str, pattern: str) -> None:
    assert pattern in [form.name for form in up.fitting_forms([text], UTC, 1_796_000_000)]


@pytest.mark.parametrize(
    "pattern", ["%Y%m%d%H%M%S75", "%Y-%m-%d-%H", "%H_%d%m%Y", "%H-%d%m%Y", "%H%M%S123%d%m%y", "%H%M%S123%d.%m.%y"]
)
def test_a_wrong_format_is_worse_than_none(pattern: str) -> None:
    """strptime takes one digit where it would write two."""
    times = [up.EPOCH + dt.timedelta(seconds=1_750_000_000 + 86_461 * index) for index in range(40)]
    assert up.fitting_forms([time.strftime(pattern) for time in times], UTC, 1_796_000_000) == []


def test_the_format_of_long_texts_is_not_looked_for() -> None:
    assert up.fitting_forms(["." * 20_000 + "a\nb", " " * 20_000], UTC, 1_796_000_000) == []


def test_the_name_of_a_zone_is_what_its_clocks_are_called_then() -> None:
    """In the hour that comes twice the name tells which; CEST in winter is no time, nor is a zone of another place."""
    form = up.TimeForm("%d.%m.%Y %H:%M %Z", BERLIN)
    told = {"25.10.2026 02:30 CEST": 0, "25.10.2026 02:30 CET": 1, "25.10.2026 02:30 UTC": 2, "25.10.2026 02:30 GMT": 2}
    for text, hour in told.items():
        assert up.to_microseconds(text, form) == up.to_microseconds(f"2026-10-25T0{hour}:30Z", up.AUTO)
    for text in ("25.12.2026 02:30 CEST", "25.12.2026 02:30 EST"):
        with pytest.raises(ValueError):
            up.to_microseconds(text, form)


def test_the_name_of_a_zone_may_be_a_number_that_the_day_has_too() -> None:
    form = up.TimeForm("%Y-%m-%d %H:%M:%S %Z", ZoneInfo("America/Sao_Paulo"))
    assert up.to_microseconds("2026-03-05 10:00:00 -03", form) == up.to_microseconds("2026-03-05T13:00Z", up.AUTO)


@pytest.mark.parametrize("value", [-99_999_999_999, -99_999_999_999.0, "-99999999999", -99_999_999_999_999])
def test_a_number_before_the_year_1_is_no_time(value: Any) -> None:
    """Nothing in Databricks shows it; a sentinel of a sensor may be such a number."""
    with pytest.raises(ValueError, match="outside the years 1 to 9999"):
        up.to_microseconds(value, up.AUTO)
    assert up.to_microseconds(-62_135_596_800, up.AUTO) == up.FIRST_TIME
