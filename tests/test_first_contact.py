"""Databases as real software leaves them: right at the first try, or a refusal that says which setting helps."""

from __future__ import annotations

import datetime as dt
import sqlite3
from typing import Any

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


GO_TIMES = {
    " +0000 UTC": utc(2025, 11, 27, 10), ".5 +0000 UTC m=+0.012345678": utc(2025, 11, 27, 10, 0, 0, 500_000),
    " +0200 CEST": utc(2025, 11, 27, 8), ".123456789 -0330 -0330": utc(2025, 11, 27, 13, 30, 0, 123_456),
}  # fmt: skip


@pytest.mark.parametrize("end", GO_TIMES)
@pytest.mark.parametrize("cursor", ["rowid", "timestamp"])
def test_times_as_go_prints_them_are_times(box: Box, cursor: str, end: str) -> None:
    made(box, "r (id INTEGER PRIMARY KEY, created_at DATETIME)", [(1, f"2025-11-27 10:00:00{end}")])
    assert box.run("--once", "--cursor", cursor, UPLOAD_SOURCE_TIMEZONE="Europe/Berlin") == 0
    box.execute("INSERT INTO r VALUES (?, ?)", rows=[(2, f"2025-11-27 10:00:01{end}")])
    assert box.run("--once", "--cursor", cursor, UPLOAD_SOURCE_TIMEZONE="Europe/Berlin") == 0
    times = [GO_TIMES[end], GO_TIMES[end] + dt.timedelta(seconds=1)]
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
