"""Databases as real software leaves them: right at the first try, or a refusal that says which setting helps."""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from boxes import Box

COUNT = 100


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type,misc]


def made(box: Box, table: str, rows: list[tuple[Any, ...]]) -> None:
    name = table.split("(")[0].strip()
    marks = ", ".join("?" * len(rows[0]))
    connection = sqlite3.connect(box.database)
    connection.execute(f"CREATE TABLE {table}")
    connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
    connection.commit()
    connection.close()


def test_a_csv_import_is_refused_with_the_pattern_that_fits_and_arrives_with_it(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    times = [(1 + i % 28, i % 24) for i in range(200)]
    rows = [(f"2025/11/{d:02d} {h:02d}:00", f"{d / 3:.2f}", "Zürich") for d, h in times]
    made(box, 'data ("Date" TEXT, "Temp (C)" TEXT, "Site.Name" TEXT)', rows)
    assert box.run("--once") == 2
    assert 'timestamp_format: "%Y/%m/%d %H:%M"' in caplog.text
    assert box.run("--once", "--timestamp-format", "%Y/%m/%d %H:%M") == 0
    assert sorted(row[0] for row in box.arrived('"Date"')) == sorted(utc(2025, 11, d, h) for d, h in times)


def test_times_of_another_country_are_refused_with_their_pattern_and_arrive_with_it(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(i, f"{1 + i % 28:02d}.11.2025 10:00:{i % 60:02d}", i / 3) for i in range(COUNT)]
    made(box, "messwerte (id INTEGER PRIMARY KEY, timestamp TEXT, Wert REAL)", rows)
    assert box.run("--once", UPLOAD_SOURCE_TIMEZONE="Europe/Berlin") == 2
    assert 'timestamp_format: "%d.%m.%Y %H:%M:%S"' in caplog.text
    told = {"UPLOAD_TIMESTAMP_FORMAT": "%d.%m.%Y %H:%M:%S", "UPLOAD_SOURCE_TIMEZONE": "Europe/Berlin"}
    assert box.run("--dry-run", **told) == 0
    assert box.run("--check", **told) == 0
    assert box.run("--once", **told) == 0
    assert sorted(box.arrived("id, timestamp")) == [(i, utc(2025, 11, 1 + i % 28, 9, 0, i % 60)) for i in range(COUNT)]


def test_a_day_and_a_time_of_day_in_two_columns_arrive_as_they_are(box: Box) -> None:
    box.execute("CREATE TABLE t (Date DATE, Time TIME)", "INSERT INTO t VALUES ('2026-11-01', '07:15:00')")
    assert box.run() == 0
    assert box.state()["last_upload"] == "2026-11-01T00:00:00+00:00"
    box.execute("INSERT INTO t VALUES ('2026-11-01', '07:20:00')")
    assert box.run() == 0
    assert box.arrived('"Time"') == [("07:15:00",), ("07:20:00",)]


@pytest.mark.parametrize(
    ("day", "flags"),
    [("2026-11-01", ("--source-timezone", "Europe/Berlin")), ("01.11.2026", ("--timestamp-format", "%d.%m.%Y"))],
)
def test_a_zone_or_a_format_for_days_makes_no_time_of_a_time_of_day(box: Box, day: str, flags: tuple[str, str]) -> None:
    box.execute("CREATE TABLE t (time TEXT, date TEXT)", f"INSERT INTO t VALUES ('12:01:00', '{day}')")
    assert box.run(*flags) == 0
    assert box.arrived("time") == [("12:01:00",)]


def test_days_that_look_like_times_of_day_are_days_where_the_format_says_so(box: Box) -> None:
    box.execute("CREATE TABLE t (ts TEXT, v INTEGER)", "INSERT INTO t VALUES ('05:12:26', 1)")
    assert box.run("--timestamp-format", "%d:%m:%y") == 0
    assert box.arrived("ts, v") == [(utc(2026, 12, 5), 1)]


def test_seconds_since_1970_as_text_are_times(box: Box) -> None:
    rows = [(i, str(1_790_000_000 + i), f"{i},5") for i in range(COUNT)]
    made(box, "r (id INTEGER PRIMARY KEY, timestamp TEXT, v TEXT)", rows)
    assert box.run("--once") == 0
    assert sorted(box.arrived("id, timestamp, v")) == [
        (i, dt.datetime.fromtimestamp(1_790_000_000 + i, dt.UTC), f"{i},5") for i in range(COUNT)
    ]


def test_what_a_mapper_declares_arrives_with_fitting_types(box: Box) -> None:
    rows = [(i, f"2025-11-27 10:00:00.{i:06d}", i / 100, i % 2, "10:00:00.000000", 2**62 + i) for i in range(COUNT)]
    columns = (
        "id INTEGER NOT NULL PRIMARY KEY, created_at DATETIME, price NUMERIC(10, 2), flag BOOLEAN, t TIME, big BIGINT"
    )
    made(box, f"reading ({columns})", rows)
    assert box.run("--once") == 0
    arrived = sorted(box.arrived("id, created_at, CAST(price AS VARCHAR), flag, t, big"))
    assert arrived == [
        (i, utc(2025, 11, 27, 10, 0, 0, i), f"{i / 100:.2f}", bool(i % 2), "10:00:00.000000", 2**62 + i)
        for i in range(COUNT)
    ]


ENDS = {
    " +0000 UTC": utc(2025, 11, 27, 10), ".5 +0000 UTC m=+0.012345678": utc(2025, 11, 27, 10, 0, 0, 500_000),
    "+02:00[Africa/Cairo]": utc(2025, 11, 27, 8), ".25Z[Etc/GMT+0]": utc(2025, 11, 27, 10, 0, 0, 250_000),
    " +0200 CEST": utc(2025, 11, 27, 8), ".123456789 -0330 -0330": utc(2025, 11, 27, 13, 30, 0, 123_456),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("cursor", ["rowid", "timestamp"])
def test_times_as_go_and_java_print_them_are_times(box: Box, cursor: str, end: str) -> None:
    made(box, "r (id INTEGER PRIMARY KEY, created_at DATETIME)", [(1, f"2025-11-27 10:00:00{end}")])
    assert box.run("--once", "--cursor", cursor, UPLOAD_SOURCE_TIMEZONE="Europe/Berlin") == 0
    box.execute("INSERT INTO r VALUES (?, ?)", rows=[(2, f"2025-11-27 10:00:01{end}")])
    assert box.run("--once", "--cursor", cursor, UPLOAD_SOURCE_TIMEZONE="Europe/Berlin") == 0
    times = [ENDS[end], ENDS[end] + dt.timedelta(seconds=1)]
    assert sorted(time for (time,) in box.arrived("created_at")) == times


def test_words_that_sqlite_takes_for_numeric_are_strings(box: Box) -> None:
    rows = [(i, 1_780_000_000 + i, f"n{i}", f"{i:08x}-0000", '{"a": 1}') for i in range(COUNT)]
    made(box, "r (id INTEGER PRIMARY KEY, ts INTEGER, name STRING, uid UUID, doc JSON)", rows)
    assert box.run("--once") == 0
    # 0000000e-0000 is a number to SQLite, which holds a 0 for it.
    assert box.arrived("id, name, uid, doc") == box.source("id, name, CAST(uid AS TEXT), doc", "r")


NUMBERS = [("julian", 2_461_000.5, utc(2025, 11, 21)), ("webkit", 13_408_156_800_000_000, utc(2025, 11, 21)),
           ("apple", 785_376_000, utc(2025, 11, 21)), ("ole", 45_982.0, utc(2025, 11, 21))]  # fmt: skip


@pytest.mark.parametrize(("form", "number", "moment"), NUMBERS)
def test_numbers_of_another_beginning_are_warned_of_once_with_their_format(
    box: Box, caplog: pytest.LogCaptureFixture, form: str, number: float, moment: dt.datetime
) -> None:
    made(box, "r (id INTEGER PRIMARY KEY, ts REAL)", [(i, number) for i in range(3)])
    assert box.run("--dry-run") == 0
    warned = [record.getMessage() for record in caplog.records if "times before 2000" in record.getMessage()]
    assert len(warned) == 1
    assert f'timestamp_format: "{form}" makes it {moment.isoformat()}' in warned[0]
    caplog.clear()
    assert box.run("--once", "--timestamp-format", form) == 0
    assert box.arrived("ts") == [(moment,)] * 3
    assert "times before 2000" not in caplog.text


def test_rows_in_another_form_than_the_format_go_to_quarantine_and_can_be_replayed_under_their_own(box: Box) -> None:
    rows = [(i, f"{1 + i:02d}.11.2025") for i in range(20)]
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", [*rows, (20, "2025/11/30")])
    assert box.run("--once", "--timestamp-format", "%d.%m.%Y") == 3
    assert [row["reason"] for row in box.quarantined()] == ["ts is no time in timestamp_format %d.%m.%Y"]
    assert box.run("--replay-quarantine", "--timestamp-format", "%Y/%m/%d") == 0
    assert sorted(box.arrived("id, ts"))[-1] == (20, utc(2025, 11, 30))


def test_since_takes_a_time_as_the_column_has_it(box: Box) -> None:
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", [(i, f"{1 + i:02d}.11.2025") for i in range(9)])
    assert box.run("--since", "05.11.2025", "--timestamp-format", "%d.%m.%Y") == 0
    assert sorted(box.arrived("id")) == [(4,), (5,), (6,), (7,), (8,)]


def test_windows_are_made_of_times_in_a_format(box: Box) -> None:
    made(box, "r (id INTEGER PRIMARY KEY, ts REAL)", [(i, 2_461_000.501 + i / 24) for i in range(6)])
    rules = '{"group_by": ["hour"], "aggregations": {"id": ["count"]}}'
    told = {"ENABLE_AGGREGATE": "true", "AGGREGATE_CONFIG": rules, "UPLOAD_TIMESTAMP_FORMAT": "julian"}
    assert box.run("--flush", **told) == 0
    assert sorted(box.arrived("hour", "aggregated_"))[:2] == [(utc(2025, 11, 21),), (utc(2025, 11, 21, 1),)]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_text_of_another_encoding_is_refused_with_the_type_that_takes_its_bytes(
    box: Box, encoding: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Latin-1, as programs in C write it: SQLite looks at no text."""
    box.execute(f"PRAGMA encoding = '{encoding}'", "CREATE TABLE r (id INTEGER PRIMARY KEY, ts TEXT, site TEXT)")
    content = "Z\u00fcrich".encode("latin-1") if encoding == "UTF-8" else b"\x00\xd8"
    box.execute(f"INSERT INTO r (ts, site) VALUES ('2026-01-01', CAST(x'{content.hex()}' AS TEXT))")
    assert box.run() == 2
    assert 'column_types: {"site": "binary"}' in capfd.readouterr().err
    assert box.run(UPLOAD_COLUMN_TYPES='{"site": "binary"}') == 0
    assert box.arrived("site") == [(content,)]


def test_a_column_that_no_type_holds_is_refused_with_another_way_than_a_type(
    box: Box, capfd: pytest.CaptureFixture[str]
) -> None:
    box.execute("CREATE TABLE r (id INTEGER PRIMARY KEY, ts TEXT, v)")
    box.execute("INSERT INTO r (ts, v) VALUES ('2026-01-01', ?)", rows=[(1,), (b"x",), ("y",), (2.5,)])
    assert box.run() == 2
    said = capfd.readouterr().err
    assert 'hex("v")' in said
    assert "column_types" not in said
    box.execute("CREATE VIEW w AS SELECT id, ts, hex(v) AS v FROM r")
    assert box.run("--table", "w") == 0
    assert box.arrived("v") == [("31",), ("322E35",), ("78",), ("79",)]


@pytest.mark.parametrize("year", [1970, 2060])
def test_iso_8601_keeps_its_format_where_times_are_not_of_these_years(
    box: Box, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, year: int
) -> None:
    """As when sessions end, or a clock was not set. Mappers leave out a fraction of 0, which a pattern would demand."""
    box.environ["UPLOAD_TABLES"] = "*"
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, expires DATETIME)")
    box.execute("INSERT INTO t VALUES (?, ?)", rows=[(i, f"{year}-12-14 08:00:00.{i:06}") for i in range(1, 9)])
    assert box.run("--init") == 0
    assert "timestamp_format:" not in capsys.readouterr().out
    assert box.run() == 0
    assert "the column expires has times before 2000 or more than a day ahead" in caplog.text
    assert "ISO-8601" not in caplog.text, "they are"


def test_times_of_another_epoch_are_told_before_any_row_is_sent(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    """As an app of a phone writes them, in seconds since 2001: read as of 1970 they are of 1995."""
    box.execute("CREATE TABLE ZREADING (Z_PK INTEGER PRIMARY KEY, ZDATE TIMESTAMP, ZVALUE FLOAT)")
    box.execute("INSERT INTO ZREADING (ZDATE, ZVALUE) VALUES (?, 1)", rows=[(817_000_000.5 + n,) for n in range(50)])
    capsys.readouterr()
    assert box.run("--init") == 0
    assert 'timestamp_format: "apple" makes it 2026-' in capsys.readouterr().out
    assert box.run("--check") == 0
    assert 'timestamp_format: "apple" makes it 2026-' in capsys.readouterr().out
    assert box.run("--check", "--timestamp-format", "apple") == 0
    assert "makes it" not in capsys.readouterr().out
    assert box.arrived() == []


# A time as other software writes it: t is the moment, ms and us its fraction, h its hour of twelve.
FORMS = [
    # Spreadsheets and desktops of many countries.
    "{t.month}/{t.day}/{t.year} {t.hour}:{t:%M}", "{t.month}/{t.day}/{t.year} {h}:{t:%M:%S %p}", "{t.month}/{t.day}/{t:%y} {t.hour}:{t:%M}", "{t:%d/%m/%Y %H:%M:%S}",
    "{t:%d/%m/%Y} {h}:{t:%M:%S} {t:%p}", "{t:%d.%m.%Y %H:%M:%S}", "{t.day}.{t.month}.{t.year} {t.hour}:{t:%M}", "{t.day}. {t.month}. {t.year} {t.hour}:{t:%M:%S}", "{t:%d-%m-%Y %H:%M:%S}",
    "{t.day}-{t.month}-{t.year} {t.hour}:{t:%M:%S}", "{t:%Y. %m. %d.} {t.hour}:{t:%M:%S}", "{t:%Y/%m/%d} {t.hour}:{t:%M:%S}", "{t.year}/{t.month}/{t.day} {t.hour}:{t:%M}", "{t:%Y.%m.%d %H:%M}",
    "{t.day}.{t.month}.{t.year} klo {t.hour:02}.{t:%M.%S}", "{t.day}.{t.month}.{t.year} {t.hour}.{t:%M.%S}", "{t:%d.%m.%Y} kl. {t:%H:%M}", "{t:%d.%m.%Y, %H:%M} Uhr", "{t:%d/%m/%Y} à {t:%H}h{t:%M}",
    "{t:%d/%m/%Y} às {t:%H:%M:%S}", "{t.year}年{t.month}月{t.day}日 {t:%H时%M分%S秒}", "{t.year}년 {t.month}월 {t.day}일 {t:%H:%M:%S}", "{t.month}/{t.day}/{t.year}, {h}:{t:%M:%S}\u202f{t:%p}",
    "{t:%A, %B} {t.day}, {t:%Y} {h}:{t:%M %p}", "{t:%a %d/%m/%Y %H:%M:%S}.{cs:02}", "{t:%a %m/%d/%Y}", "{t:%B} {t.day}, {t:%Y} at {h}:{t:%M %p}",
    # Databases.
    "{t:%d-%b-%y}", "{T:%d-%b-%y %I.%M.%S}.{us:06} {t:%p}", "{t:%b} {t.day:>2} {t.year} {h:>2}:{t:%M%p}", "{t:%b} {t.day:>2} {t.year} {h:>2}:{t:%M:%S}:{ms:03}{t:%p}",
    "{t:%d %b %Y %H:%M:%S}:{ms:03}", "{t:%m-%d-%y}", "{T:%d%b%Y:%H:%M:%S}.{ms:03}", "{T:%d%b%y}", "{t:%d.%m.%Y %H:%M:%S}.{us:06} UTC",
    # Logs, mails and protocols.
    "{t:%a %b} {t.day:>2} {t:%H:%M:%S %Y}", "{t:%a %b} {t.day:>2} {t:%H:%M:%S} UTC {t:%Y}", "{t:%a %b %d %H:%M:%S} +0000 {t:%Y}", "{t:%a %b %d %Y %H:%M:%S} GMT+0000", "{t:%a, %d %b %Y %H:%M:%S} GMT", "{t:%a, %d %b %Y %H:%M:%S} +0000",
    "{t:%A, %d-%b-%y %H:%M:%S} GMT", "[{t:%d/%b/%Y:%H:%M:%S} +0000]", "[{t:%a %b %d %H:%M:%S}.{us:06} {t.year}]", "{t:%Y/%m/%d %H:%M:%S}", "{t:%m/%d/%y-%H:%M:%S}.{us:06}", "{t:%b %d, %Y %H:%M:%S}.{us:06} UTC",
    "{t:%a} {t.day:2} {t:%b %H:%M:%S} UTC {t:%Y}", "{t:%d %b %y %H:%M} UTC", "\"{t:%Y-%m-%dT%H:%M:%S}Z\"", "'{t:%Y-%m-%d %H:%M:%S}'", "{t:%b} {t.day} {t:%Y %H:%M:%S}", "{t:%H:%M:%S %d-%m-%Y}", "{t:%Y-%m-%d at %H:%M:%S}",
    # Devices and file names.
    "{t:%Y:%m:%d %H:%M:%S}", "{t:%d%m%y %H%M%S}", "{t:%H%M%S}.{cs:02},{t:%d%m%y}", "{t:%H:%M:%S;%d.%m.%y}", "{t:%Y%m%d-%H%M%S}", "{t:%Y%m%d_%H%M%S}{ms:03}", "{t:%Y%m%d%H%M%S}Z", "{t:%Y-%m-%d-%H-%M-%S}", "{t:%Y_%m_%d__%H_%M_%S}",
    "{t:%Y-%j}", "{t:%Y-%jT%H:%M:%S}Z", "{t:%Y}/{t:%m}/{t:%d}_{t:%H}h{t:%M}m{t:%S}s", "{t.day}/{t.month}/{t.year} {t.hour}:{t.minute}:{t.second}", "{t:%m-%Y}", "{t:%b %Y}", "{t:%Y-%m}", "{t:%m/%Y}",
    "DT#{t:%Y-%m-%d-%H:%M:%S}.{cs:02}", "D#{t:%Y-%m-%d}", "{t:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)",
    # Digits.
    "{t:%Y%m%d%H%M%S}", "{t:%Y%m%d%H%M%S}{ms:03}", "{t:%Y%m%d%H%M}", "{t:%y%m%d%H%M%S}", "{t:%d%m%Y%H%M%S}", "{t:%Y%m}", "{t:%d%m%y}", "{t:%Y%j}", "{t:%y%m%d%H%M}",
]  # fmt: skip


def spelled(form: str, moment: dt.datetime) -> str:
    parts = {"us": moment.microsecond, "ms": moment.microsecond // 1000, "cs": moment.microsecond // 10_000}
    text = form.replace("{T:", "{t:").format(t=moment, h=(moment.hour - 1) % 12 + 1, **parts)
    return text.upper() if "{T:" in form else text


def kept(form: str, moment: dt.datetime) -> dt.datetime:
    """The part of a moment that a form tells."""
    unit = next((unit for word, unit in (("us", 1), ("ms", 1000), ("cs", 10_000)) if f"{{{word}" in form), 10**6)
    parts: dict[str, Any] = {"microsecond": moment.microsecond // unit * unit if unit < 10**6 else 0}
    shown = {
        "hour": ("%H", "%I", "{h", "hour"),
        "minute": ("%M", "minute"),
        "second": ("%S", "second"),
        "day": ("%d", "day", "%j"),
    }
    for name, words in shown.items():
        if not any(word in form for word in words):
            parts[name] = int(name == "day")
    return moment.replace(**parts)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_other_software_is_named_at_the_first_try_and_told_so_all_rows_arrive(
    box: Box, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    step = dt.timedelta(hours=13, minutes=7, seconds=11, microseconds=123_456)
    times = [utc(2026, 1, 2, 3, 4, 5) + index * step for index in range(60)]
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", [(i, spelled(form, time)) for i, time in enumerate(times)])
    assert box.run("--dry-run") in (0, 2)
    named = caplog.text.partition("timestamp_format: ")[2]
    pattern, _ = json.JSONDecoder().raw_decode(named)
    how = FORMS.index(form) % 3
    flags, environ, file = list[str](), dict[str, str](), box.folder / "uploader.yaml"
    if how == 0:
        flags = ["--timestamp-format", pattern]
    elif how == 1:
        environ = {"UPLOAD_TIMESTAMP_FORMAT": pattern}
    else:
        file.write_text(
            "timestamp_format: " + named.splitlines()[0].partition(" makes it ")[0].partition(" or timestamp_")[0]
        )
        flags = ["--config", str(file)]
    assert box.run("--once", *flags, **environ) == 0
    assert sorted(box.arrived("id, ts")) == [(i, kept(form, time)) for i, time in enumerate(times)]


def test_a_time_that_may_be_day_or_month_first_is_told_both_ways_and_the_likelier_first(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """Few rows of one time of the year: by days they are nearer to each other than by months."""
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", [(i, f"0{i}/03/2026 10:00") for i in range(1, 6)])
    assert box.run("--once") == 2
    assert 'timestamp_format: "%d/%m/%Y %H:%M" or timestamp_format: "%m/%d/%Y %H:%M"' in caplog.text


def test_some_rows_without_a_time_do_not_hide_the_format_of_the_others(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(i, "n/a" if i % 20 == 0 else f"{1 + i % 28:02d}.01.2026 10:00") for i in range(COUNT)]
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", rows)
    assert box.run("--once") == 2
    assert 'timestamp_format: "%d.%m.%Y %H:%M"' in caplog.text
    assert box.run("--once", "--timestamp-format", "%d.%m.%Y %H:%M") == 3
    assert len(box.arrived()) == COUNT - len(box.quarantined()) == COUNT - 5


ZONE_WORDS = [("CET", "CEST", 1, "Europe/"), ("EST", "EDT", -5, "America/"), ("IST", "IST", 5.5, "Asia/"), ("JST", "JST", 9, "Asia/")]  # fmt: skip


@pytest.mark.parametrize(("winter", "summer", "hours", "area"), ZONE_WORDS)
def test_a_word_for_a_zone_is_read_by_the_clocks_of_source_timezone(
    box: Box, caplog: pytest.LogCaptureFixture, winter: str, summer: str, hours: float, area: str
) -> None:
    """As date(1) and Java print it. Where several zones have the word, each is told."""
    offsets = [dt.timedelta(hours=hours), dt.timedelta(hours=hours + (winter != summer))]
    times = [utc(2026, month, 5 + i, 20, 30, i) for month in (1, 7) for i in range(10)]
    rows = [
        (i, f"{time + offsets[time.month == 7]:%a %b %d %H:%M:%S} {(winter, summer)[time.month == 7]} 2026")
        for i, time in enumerate(times)
    ]
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", rows)
    assert box.run("--once") == 2
    named = re.findall(r'timestamp_format: ("[^"]*") with source_timezone: "([^"]*)"', caplog.text)
    [zone] = [zone for _, zone in named if ZoneInfo(zone).utcoffset(dt.datetime(2026, 1, 1)) == offsets[0]]
    assert zone.startswith(area)
    assert box.run("--once", "--timestamp-format", json.loads(named[0][0]), UPLOAD_SOURCE_TIMEZONE=zone) == 0
    assert sorted(box.arrived("id, ts")) == list(enumerate(times))


def test_a_word_for_a_zone_that_nobody_knows_asks_for_source_timezone(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", [(i, f"05.01.2026 04:05:{i:02} MEZ") for i in range(20)])
    assert box.run("--once") == 2
    assert 'timestamp_format: "%d.%m.%Y %H:%M:%S MEZ", and source_timezone, if MEZ means a zone' in caplog.text


@pytest.mark.parametrize("half", ["p. m.", "오후", "下午", "nachm.", "SA"])
def test_a_half_of_the_day_that_strptime_does_not_know_is_not_left_out(
    box: Box, caplog: pytest.LogCaptureFixture, half: str
) -> None:
    """4:05 in the afternoon would arrive as 04:05."""
    made(box, "r (id INTEGER PRIMARY KEY, ts TEXT)", [(i, f"5/1/2026 {half} 4:05:{i:02}") for i in range(20)])
    made(box, "s (id INTEGER PRIMARY KEY, ts TEXT)", [(i, f"5/1/2026 4:05:{i:02} {half}") for i in range(20)])
    for table in ("r", "s"):
        assert box.run("--once", "--table", table) == 2
    assert "timestamp_format: " not in caplog.text
    assert caplog.text.count("No one timestamp_format reads them: send a view with ISO-8601.") == 2
    assert box.run("--once", "--table", "r", UPLOAD_COLUMN_TYPES='{"ts": "string"}') == 0
    assert box.arrived("ts")[0] == (f"5/1/2026 {half} 4:05:00",)


EPOCHS = {
    "FILETIME": (10**7, 11_644_473_600),
    "ticks": (10**7, 62_135_596_800),
    "seconds since 1900": (1, 2_208_988_800),
}


@pytest.mark.parametrize("epoch", EPOCHS)
def test_numbers_that_have_no_format_are_sent_by_a_view_as_the_message_says(
    box: Box, caplog: pytest.LogCaptureFixture, epoch: str
) -> None:
    unit, shift = EPOCHS[epoch]
    rows = [(i, (1_767_000_000 + i + shift) * unit) for i in range(20)]
    made(box, "r (id INTEGER PRIMARY KEY, ts INTEGER)", rows)
    assert box.run("--dry-run") == 0
    assert "no timestamp_format is: send a view with ISO-8601, or seconds since 1970" in caplog.text
    assert "makes it" not in caplog.text
    box.execute(f"CREATE VIEW w AS SELECT id, ts / {unit} - {shift} AS ts FROM r")
    assert box.run("--once", "--table", "w") == 0
    assert sorted(box.arrived("id, ts")) == [
        (i, dt.datetime.fromtimestamp(1_767_000_000 + i, dt.UTC)) for i in range(20)
    ]


def test_rows_of_a_mapper_that_are_edited_later_come_once_and_new_ones_go_on(box: Box) -> None:
    """Sequelize, TypeORM and Prisma rewrite `updatedAt` with each edit; it has "date" in its name."""
    times = [f"2026-11-27 10:00:{i:02d}.000 +00:00" for i in range(60)]
    made(box, "readings (id INTEGER PRIMARY KEY, v REAL, createdAt DATETIME, updatedAt DATETIME)",
         [(i, i / 3, time, time) for i, time in enumerate(times[:50])])  # fmt: skip
    assert box.run() == 0
    box.execute("UPDATE readings SET v = 1.5, updatedAt = '2026-11-27 12:00:00.000 +00:00'")
    box.execute("INSERT INTO readings VALUES (?, 0, ?, ?)", rows=[(i, times[i], times[i]) for i in range(50, 60)])
    assert box.run() == 0
    assert sorted(box.arrived("id")) == [(i,) for i in range(60)]


def test_a_rule_for_numbers_that_a_csv_import_has_as_texts_names_the_type_that_compares_them(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """As texts 9.5 is more than 22."""
    made(box, "data (temp TEXT)", [(text,) for text in ("9.5", "21.0", "22.5", "100.0")])
    rule = ("--enable-filter", "--filter-config", '{"temp": {">": 22}}')
    assert box.run(*rule) == 2
    assert "to compare numbers, set column_types to double" in caplog.text
    assert box.run(*rule, UPLOAD_COLUMN_TYPES='{"temp": "double"}') == 0
    assert sorted(box.arrived(prefix="filtered_")) == [(22.5,), (100.0,)]
