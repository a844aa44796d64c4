"""Chapter Plan: which column goes where, whatever became of the columns on either side."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType, StructType

import sqlite_to_databricks_uploader as up
from boxes import Box


def test_a_column_that_the_target_lacks_is_named_and_left_out(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    box.execute("ALTER TABLE t ADD COLUMN extra TEXT", "INSERT INTO t VALUES ('2026-01-02', 2, 'e')")
    assert box.run() == 0
    assert box.arrived("v") == [(1,), (2,)]
    assert "extra" in caplog.text


@pytest.mark.parametrize(
    ("prefix", "rules"),
    [
        ("raw_", {}),
        ("filtered_", {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"v": {">": 0}}'}),
        ("secure_", {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"drop": ["name"]}'}),
    ],
)
def test_no_row_is_set_aside_for_a_value_that_is_not_sent(box: Box, prefix: str, rules: dict[str, str]) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, name)", "INSERT INTO t VALUES ('2026-01-01', 1, 1)")
    fields = [Field("time", PrimitiveType("timestamp")), Field("v", PrimitiveType("long"))]
    DeltaTable.create(str(box.folder / "lake" / f"{prefix}readings"), Schema(fields))
    assert box.run(**rules) == 0
    box.execute("INSERT INTO t VALUES ('2026-01-02', 2, ?)", rows=[("a",), (b"b",), (1.5,)])
    assert box.run(**rules) == 0
    assert len(box.arrived("v", prefix)) == 4


RULES = {
    "filtered_": {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"v": {">": 0}}'},
    "secure_": {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"round": {"v": 1}}'},
    "aggregated_": {
        "ENABLE_AGGREGATE": "1",
        "AGGREGATE_CONFIG": '{"group_by": ["minute"], "aggregations": {"v": "avg"}}',
    },
}


@pytest.mark.parametrize("declared", ["REAL", ""])
@pytest.mark.parametrize("prefix", RULES)
def test_one_value_of_another_class_stops_no_rules_that_ran_before(box: Box, prefix: str, declared: str) -> None:
    """Though it is among the first rows, which tell what a column holds."""
    box.execute(f"CREATE TABLE t (time TEXT, v {declared})")
    box.execute("INSERT INTO t VALUES (?, 1.5)", rows=[(f"2026-01-01T00:00:{i:02}",) for i in range(20)])
    assert box.run(**RULES[prefix]) == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01T00:01:00', 'error'), ('2026-01-01T00:02:00', 2.5)")
    assert box.run(**RULES[prefix]) == up.QUARANTINED
    box.execute("INSERT INTO t VALUES ('2026-01-01T00:03:00', 3.5)")
    assert box.run(**RULES[prefix]) == 0
    assert len(box.arrived("*", prefix)) == (2 if prefix == "aggregated_" else 22)
    assert [line["reason"] for line in box.quarantined()] == ["v is no number"]


@pytest.mark.parametrize("declared", ["", "NUMERIC", "INTEGER"])
def test_a_type_that_was_a_first_guess_widens(box: Box, declared: str) -> None:
    """SQLite keeps 21.0 as 21 in such columns."""
    box.execute(f"CREATE TABLE t (time TEXT, v {declared})")
    for minute, values in enumerate([(21, 22), (21.5, 22), (23.5, 24.5)]):
        rows = [(f"2026-01-01T00:0{minute}:00", value) for value in values]
        box.execute("INSERT INTO t VALUES (?, ?)", rows=rows)
        assert box.run(**RULES["aggregated_"]) == 0
    assert sorted(value for _, value in box.arrived("*", "aggregated_")) == [21.5, 21.75]


@pytest.mark.parametrize("how", ["min", "max", "first", "sum"])
@pytest.mark.parametrize("declared", ["INTEGER", "REAL", ""])
def test_one_bad_value_of_a_small_table_changes_no_group(box: Box, declared: str, how: str) -> None:
    """The first rows are sampled anew in each cycle there; as texts, 10 is less than 9."""
    rules = {
        "ENABLE_AGGREGATE": "1",
        "AGGREGATE_CONFIG": json.dumps({"group_by": ["hour"], "aggregations": {"v": how}}),
    }
    box.execute(f"CREATE TABLE t (time TEXT, v {declared})")
    for hour, values in enumerate([(9, 10), (9, 10, "bad"), (9, 10), (9,)]):
        box.execute(f"INSERT INTO t VALUES ('2026-01-01T0{hour}:00:00', ?)", rows=[(value,) for value in values])
        assert box.run(**rules) == (up.QUARANTINED if "bad" in values else 0)
    assert len(set(box.arrived(f"{how}_v", "aggregated_"))) == 1
    assert len(box.arrived("*", "aggregated_")) == 3
    assert [line["row"]["v"] for line in box.quarantined()] == ["bad"]


@pytest.mark.parametrize("rule", ['{"hash": ["v"]}', '{"mask": {"v": 3}}'])
@pytest.mark.parametrize(
    ("declared", "good"),
    [("DECIMAL(10,2)", 2.5), ("TIMESTAMP", "2026-01-31 12:00:00"), ("BOOLEAN", 1), ("DATE", "2026-01-31")],
)
def test_one_bad_value_of_a_small_table_changes_no_hash_or_mask(
    box: Box, declared: str, good: object, rule: str
) -> None:
    rules = {"ENABLE_SANITIZE": "1", "SANITIZE_SECRET": "k" * 40, "SANITIZE_CONFIG": rule, "TIMESTAMP_COL": "time"}
    box.execute(f"CREATE TABLE t (time TEXT, v {declared})")
    for value in (good, "bad", good):
        box.execute("INSERT INTO t VALUES ('2026-01-01', ?)", rows=[(value,)])
        assert box.run(**rules) == (up.QUARANTINED if value == "bad" else 0)
    assert len(box.arrived("v", "secure_")) == 2
    assert len(set(box.arrived("v", "secure_"))) == 1


def test_a_column_that_means_something_else_now_keeps_its_type_until_another_one_is_set(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows are set aside, not sent under hashes that nobody expects."""
    rules = {"ENABLE_SANITIZE": "1", "SANITIZE_SECRET": "k" * 40, "SANITIZE_CONFIG": '{"hash": ["v"]}'}
    box.execute("CREATE TABLE t (time TEXT, v DECIMAL(10,2))", "INSERT INTO t VALUES ('2026-01-01', 2.5)")
    assert box.run(**rules) == 0
    box.execute("DROP TABLE t", "CREATE TABLE t (time TEXT, v TEXT)")
    box.execute("INSERT INTO t VALUES ('2026-01-02', ?)", rows=[(name,) for name in "abc"])
    assert box.run(**rules, UPLOAD_MAX_BAD_ROWS="2") == 1
    said = "v is read as DECIMAL(10,2), as before, though a value of it is no number: column_types sets another type"
    assert said in caplog.text
    assert box.run(**rules, UPLOAD_MAX_BAD_ROWS="2", UPLOAD_COLUMN_TYPES='{"v": "STRING"}') == 0
    assert len(box.arrived("v", "secure_")) == 4


def test_a_fraction_changes_no_hash_where_a_rule_reads_its_column_as_whole_numbers(box: Box) -> None:
    """As DOUBLE, 42 would be 42.0, which has another hash."""
    config = '{"hash": ["v"], "replace_values": {"v": {"5": 6}}}'
    rules = {"ENABLE_SANITIZE": "1", "SANITIZE_SECRET": "k" * 40, "SANITIZE_CONFIG": config}
    box.execute("CREATE TABLE t (time TEXT, v)")
    for value in (42, 2.5, 42):
        box.execute("INSERT INTO t VALUES ('2026-01-01', ?)", rows=[(value,)])
        assert box.run(**rules) == (up.QUARANTINED if value == 2.5 else 0)
    assert [count for count in Counter(box.arrived("v", "secure_")).values()] == [2]


def test_a_fraction_is_set_aside_for_no_bad_value_beside_it(box: Box) -> None:
    """A column of whole numbers that gets fractions is one of numbers, whatever else stands in it."""
    box.execute("CREATE TABLE t (time TEXT, v)", "INSERT INTO t VALUES ('2026-01-01T00:00', 21)")
    assert box.run(**RULES["aggregated_"]) == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01T00:01', ?)", rows=[(21,), (21.5,), ("bad",)])
    assert box.run(**RULES["aggregated_"]) == up.QUARANTINED
    assert [line["row"]["v"] for line in box.quarantined()] == ["bad"]


def test_a_table_by_path_is_made_with_columns_that_tell_boxes_apart_where_they_are_asked_for(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'a')")
    wanted = {"UPLOAD_COLUMN_TYPES": '{"DATABRICKS_BATCH_ID": "STRING", "databricks_inserted_at": "TIMESTAMP"}'}
    for name in ("box-1", "box-2"):
        assert box.run("--source-id", name, STATE_DIR=str(box.folder / name), **wanted) == 0
    found = box.arrived("id, databricks_batch_id, databricks_inserted_at")
    assert sorted(batch.split("/")[0] for _, batch, _ in found) == ["box-1", "box-2"]
    assert all(moment.year > 2025 for _, _, moment in found)
    wrong = {"UPLOAD_COLUMN_TYPES": '{"databricks_batch_id": "INT"}'}
    assert box.run(STATE_DIR=str(box.folder / "x"), **wrong) == 2
    assert "the uploader fills it" in caplog.text


def test_a_file_has_parts_of_as_many_rows_as_memory_has_room_for(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    given, made = list[int](), up.file_properties
    monkeypatch.setattr(up, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(up, "LEAST_GROUP", 1)

    def noted(*asked: Any) -> Any:
        given.append(asked[-1])
        return made(*asked)

    monkeypatch.setattr(up, "file_properties", noted)
    box.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    box.execute("INSERT INTO t (v) VALUES (?)", rows=[("x" * 1000,)] * 500)
    assert box.run() == 0
    assert len(given) == 1 and 50 < given[0] < 110
    monkeypatch.setattr(up, "LEAST_GROUP", 200)
    box.execute("INSERT INTO t (v) VALUES (?)", rows=[("x" * 100_000,), ("x",)])
    assert box.run() == 0
    assert given[-1] == 200, "one large row must not make a part of each row that follows"
    assert len(box.arrived("id")) == 502


@pytest.mark.parametrize("declared", ["", "NUMERIC", "INTEGER"])
def test_a_number_has_one_hash_also_once_its_column_holds_fractions(box: Box, declared: str) -> None:
    """Of a column that is hashed or masked alone; a rule with numbers needs numbers."""
    rules = {
        "ENABLE_SANITIZE": "1",
        "SANITIZE_SECRET": "k" * 40,
        "SANITIZE_CONFIG": '{"hash": ["v"], "mask": {"w": 2}}',
    }
    box.execute(f"CREATE TABLE t (time TEXT, v {declared}, w {declared})")
    for values in ([42, 43], [42, 2.5], [42]):
        box.execute("INSERT INTO t VALUES ('2026-01-01', ?1, ?1)", rows=[(value,) for value in values])
        assert box.run(**rules) == 0
    found = Counter(box.arrived("v, w", "secure_"))
    assert sorted(found.values()) == [1, 1, 3]
    assert {masked for _, masked in found} == {"**", "*.5"}
    rules["SANITIZE_CONFIG"] = '{"hash": ["v"], "replace_values": {"v": {"42": 0}}}'
    assert box.run(**rules, DATABRICKS_TABLE="other", STATE_DIR=str(box.folder / "other")) == 0


def test_a_fault_in_rules_is_told_before_the_target_is_asked(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute("CREATE TABLE t (time TEXT, v REAL)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    del box.environ["LAKEHOUSE_PATH"]
    box.environ["TABLE_PATH"] = "s3://nowhere/t"
    rules = {"ENABLE_FILTER": "1", "FILTER_CONFIG": '{"vv": {">": 0}}', "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    assert box.run(**rules, AWS_REGION="x", AWS_ALLOW_HTTP="true") == 2
    assert "unknown column 'vv'" in caplog.text


@pytest.mark.parametrize("rules", [{}, {"SANITIZE_CONFIG": '{"round": {"v": 1}}', "ENABLE_SANITIZE": "true"}])
def test_a_column_with_a_type_that_is_set_may_be_dropped_later(
    box: Box, caplog: pytest.LogCaptureFixture, rules: dict[str, str]
) -> None:
    types = {"UPLOAD_COLUMN_TYPES": '{"V": "float", "note": "string"}', **rules}
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v REAL, note)",
        "INSERT INTO t VALUES (1, '2026-01-01', 1.5, 7)",
    )
    assert box.run(**types) == 0 and "any more" not in caplog.text
    box.execute("ALTER TABLE t DROP COLUMN note", "INSERT INTO t VALUES (2, '2026-01-02', 2.5)")
    assert box.run(**types) == 0
    assert caplog.text.count("column_types: t has no column note: dropped, or misspelt") == 1
    assert box.arrived("id, v, note", "secure_" if rules else "raw_") == [(1, 1.5, "7"), (2, 2.5, None)]


@pytest.mark.parametrize("prefix", ["filtered_", "secure_"])
def test_the_type_that_a_table_has_decides_also_for_rules_in_a_first_run(box: Box, prefix: str) -> None:
    box.execute("CREATE TABLE t (time TEXT, v REAL)")
    rows: list[tuple[object]] = [*[(1.5,)] * 19, ("error",)]
    box.execute("INSERT INTO t VALUES ('2026-01-01', ?)", rows=rows)
    fields = [Field("time", PrimitiveType("timestamp")), Field("v", PrimitiveType("double"))]
    DeltaTable.create(str(box.folder / "lake" / f"{prefix}readings"), Schema(fields))
    assert box.run(**RULES[prefix]) == up.QUARANTINED
    assert len(box.arrived("v", prefix)) == 19


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"x": "long"}, "the target has none of the columns time, v"),
        ({"v": "long", "databricks_batch_id": "long"}, "the target's column databricks_batch_id is BIGINT"),
        ({"v": "long", "Databricks_Inserted_At": "date"}, "the target's column Databricks_Inserted_At is DATE"),
    ],
)
def test_a_target_that_can_take_no_row_is_refused_before_anything_is_sent(
    box: Box, fields: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    schema = Schema([Field(name, PrimitiveType(kind)) for name, kind in fields.items()])
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), schema)
    assert box.run() == 1
    assert said in caplog.text
    assert not box.state_file.exists()


@pytest.mark.parametrize(
    ("own", "is_fit"),
    [
        ({"databricks_batch_id": "varchar(57)"}, False),
        ({"databricks_batch_id": "varchar(58)"}, True),
        ({"DATABRICKS_BATCH_ID": "string not null"}, True),
        ({"databricks_batch_id": "timestamp"}, False),
        ({"databricks_inserted_at": "timestamp_ntz"}, True),
        ({"databricks_inserted_at": "varchar(62)"}, False),
    ],
)
def test_columns_that_the_uploader_fills_have_to_hold_that(own: dict[str, str], is_fit: bool) -> None:
    """A batch id is as long as the source's name, and 26 characters."""
    with contextlib.nullcontext() if is_fit else pytest.raises(up.TargetError, match=next(iter(own))):
        up.aimed_columns({"v": "bigint"}, {"v": "bigint", **own}, False, 32 + up.BATCH_LENGTH)


def test_a_time_that_the_target_takes_in_no_format_is_refused_with_what_helps(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01 10:00:00', 1)")
    schema = Schema([Field("time", PrimitiveType("long")), Field("v", PrimitiveType("long"))])
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), schema)
    assert box.run() == 2
    assert "give the target's column a type that holds them" in caplog.text
    assert "timestamp_format" not in caplog.text


def test_a_new_column_is_added_where_the_schema_may_evolve(box: Box) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    box.execute("ALTER TABLE t ADD COLUMN extra REAL", "INSERT INTO t VALUES ('2026-01-02', 2, 0.5)")
    assert box.run("--schema", "evolve") == 0
    assert box.arrived("v, extra") == [(1, None), (2, 0.5)]


def test_a_column_that_the_source_lost_arrives_as_null(box: Box) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER, w TEXT)", "INSERT INTO t VALUES ('2026-01-01', 1, 'w')")
    assert box.run() == 0
    box.execute("ALTER TABLE t DROP COLUMN w", "INSERT INTO t VALUES ('2026-01-02', 2)")
    assert box.run() == 0
    assert box.arrived("v, w") == [(1, "w"), (2, None)]


def test_names_that_delta_refuses_are_rewritten(box: Box) -> None:
    box.execute('CREATE TABLE "my t" (time TEXT, "a b;(c)" INTEGER, "ü`\'" TEXT)')
    box.execute("INSERT INTO \"my t\" VALUES ('2026-01-01', 1, 'x')")
    assert box.run() == 0
    box.execute("INSERT INTO \"my t\" VALUES ('2026-01-01', 2, 'y')")
    assert box.run() == 0
    assert [field.name for field in box.table().schema().fields] == ["time", "a_b__c_", "ü`'"]
    assert box.arrived('"a_b__c_"') == [(1,), (2,)]


def test_columns_that_the_uploader_fills_are_not_the_sources(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """A source may have been copied out of Databricks; the second cycle sends two columns of one name."""
    create = "CREATE TABLE t (time TEXT, v INTEGER, Databricks_Batch_Id TEXT)"
    box.execute(create, "INSERT INTO t VALUES ('2026-01-01', 1, 'theirs')")
    assert box.run() == 0
    assert "the uploader fills it: 'Databricks_Batch_Id'" in caplog.text
    box.table().alter.add_columns([Field("databricks_batch_id", PrimitiveType("string"))])
    box.execute("INSERT INTO t VALUES ('2026-01-02', 2, 'theirs')")
    assert box.run() == 0
    [(_, first), (_, second)] = box.arrived("v, databricks_batch_id")
    assert first is None and second.endswith("/2")


def table_in_log(box: Box, features: list[str], reader: int = 1, writer: int = 7) -> None:
    """A table as another engine leaves it: delta-rs itself makes none with these features."""
    log = box.folder / "lake" / "raw_readings" / "_delta_log"
    log.mkdir(parents=True)
    fields = [
        {"name": n, "type": k, "nullable": True, "metadata": {}} for n, k in (("time", "timestamp"), ("v", "long"))
    ]
    protocol: dict[str, object] = {"minReaderVersion": reader, "minWriterVersion": writer}
    protocol |= {"writerFeatures": features} if writer == 7 else {}
    protocol |= {"readerFeatures": features} if reader == 3 else {}
    metadata = {
        "id": "5f2a", "format": {"provider": "parquet", "options": {}}, "partitionColumns": [], "configuration": {},
        "schemaString": json.dumps({"type": "struct", "fields": fields}), "createdTime": 0,
    }  # fmt: skip
    lines = [json.dumps({"protocol": protocol}), json.dumps({"metaData": metadata})]
    (log / "00000000000000000000.json").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("features", "reader", "writer"),
    [
        (["allowColumnDefaults"], 1, 7), (["clustering", "domainMetadata"], 1, 7), (["rowTracking"], 1, 7),
        (["typeWidening"], 3, 7), (["inCommitTimestamp"], 1, 7), (["identityColumns"], 1, 7), ([], 1, 6), (["tomorrows"], 1, 7),
        ([], 1, 99),
    ],
)  # fmt: skip
def test_a_table_whose_features_cannot_be_written_is_refused_for_good(
    box: Box, caplog: pytest.LogCaptureFixture, features: list[str], reader: int, writer: int
) -> None:
    unnamed = "identityColumns" if writer == 6 else "writerVersion99"
    table_in_log(box, features, reader, writer)
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run("--check") == 1
    assert box.run() == 1
    assert "can't be written by path: table features " + ", ".join(features or [unnamed]) in caplog.text
    assert "--help-error TargetError" in caplog.text
    assert box.state()["intent"] is None if box.state_file.exists() else True


def computing_table(box: Box, generated: str, constraint: str, invariant: str = "") -> None:
    """A table as Databricks makes it, whose column `g` writers compute, or that has a constraint, or `v` an invariant."""
    metadata = {"g": {"delta.generationExpression": generated}} if generated else {}
    if invariant:
        metadata["v"] = {"delta.invariants": json.dumps({"expression": {"expression": invariant}})}
    kinds = {"time": "timestamp", "s": "string", "v": "long", "g": "integer"}
    schema = Schema([Field(name, PrimitiveType(kind), metadata=metadata.get(name)) for name, kind in kinds.items()])
    made = {
        "id": "5f2a", "format": {"provider": "parquet", "options": {}}, "partitionColumns": [], "createdTime": 0,
        "configuration": {"delta.constraints.c": constraint} if constraint else {}, "schemaString": schema.to_json(),
    }  # fmt: skip
    log = box.folder / "lake" / "raw_readings" / "_delta_log"
    log.mkdir(parents=True)
    lines = [json.dumps({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}}), json.dumps({"metaData": made})]
    (log / "00000000000000000000.json").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("generated", "constraint"),
    [
        ("YEAR(time)", ""), ("hash(s)", ""), ("absent + 1", ""), ("", "s RLIKE '^[a-z]$'"), ("", "year(time) > 2000"),
        ("", "exists(s, x -> x > 1)"), ("", "v IN (SELECT 1)"), ("", "v / 2 > 0"), ("CAST(v / 2 AS INT)", ""),
        ("", "date_format(time, 'yyyy') = '2026'"), ("", "s || 'x' IS NOT NULL"), ("", "s = 'a\\\\'"), ("", "s > 5"),
        ("", "v LIKE '1%'"), ("", "v * 2 > 1"), ("", "time < '2027'"), ("", "V > 0"), ("", 's = "a"'),
    ],
)  # fmt: skip
def test_an_expression_that_delta_rs_may_compute_otherwise_than_spark_is_refused_for_good(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], generated: str, constraint: str
) -> None:
    """delta-rs divides whole numbers as such, and takes the same words for other functions. `--check` tells it, too."""
    computing_table(box, generated, constraint)
    box.execute("CREATE TABLE t (time TEXT, s TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 'a', 1)")
    assert box.run("--check") == 1
    assert f"({generated or constraint}), which delta-rs may compute otherwise than Spark" in capsys.readouterr().out
    assert box.run() == 1
    assert "Drop it there (ALTER TABLE … DROP …), take another table, or send through a SQL warehouse" in caplog.text
    assert "--help-error TargetError" in caplog.text
    assert "tries again" not in caplog.text
    assert not [*(box.folder / "lake").rglob("*.parquet")]
    without = (log := box.folder / "lake/raw_readings/_delta_log/00000000000000000000.json").read_text().splitlines()[1]
    without = without.replace(json.dumps(constraint), '"true"').replace(generated or "?", "v + 1")
    log.with_name("00000000000000000001.json").write_text(without + "\n")
    assert box.run() == 0
    assert box.arrived("v") == [(1,)]


def test_an_invariant_that_delta_rs_may_compute_otherwise_is_refused(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    computing_table(box, "", "", invariant="v / 2 > 0")
    box.execute("CREATE TABLE t (time TEXT, s TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 'a', 1)")
    assert box.run() == 1
    assert "the invariant of v (v / 2 > 0), which delta-rs may compute otherwise than Spark" in caplog.text


@pytest.mark.parametrize(
    ("generated", "constraint"),
    [("v", ""), ("v + 1", ""), ("", "v < 100"), ("", "s <> 'x' AND v IS NOT NULL"), ("", "v BETWEEN -1 AND 100")],
)
def test_a_row_of_which_a_column_cannot_be_computed_is_set_aside_and_the_others_arrive(
    box: Box, generated: str, constraint: str
) -> None:
    computing_table(box, generated, constraint)
    rows = [("2026-01-01", "a", 1), ("2026-01-02", "x", 10**12), ("2026-01-03", "", 2)]
    box.execute("CREATE TABLE t (time TEXT, s TEXT, v INTEGER)", "INSERT INTO t VALUES (?, ?, ?)", rows=rows)
    assert box.run("--check") == 0
    assert box.run() == up.QUARANTINED
    assert sorted(v for (v,) in box.arrived("v")) == [1, 2]
    assert [line["row"]["v"] for line in box.quarantined()] == [10**12]


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("CAST(time AS DATE)", "date", dt.date(2026, 3, 1)), ("extract(year FROM `time`) + 0", "integer", 2026),
        ("date_trunc('HOUR', time)", "timestamp", dt.datetime(2026, 3, 1, 10, tzinfo=dt.UTC)),
        ("lower(s)", "string", "ä b"), ("length(s) + 1", "integer", 4), ("v - 1", "long", 4), ("d * 0.5", "double", 0.75),
        ("v >= 5 AND (s LIKE 'Ä%' OR NOT d IN (1, 2))", "boolean", True), ("time > '2026-01-01'", "boolean", True),
        ("time >= TIMESTAMP '2026-03-01 10:00:00' AND time < DATE'2026-03-02'", "boolean", True),
    ],
)  # fmt: skip
def test_what_delta_rs_computes_as_spark_does_is_filled(box: Box, expression: str, kind: str, value: object) -> None:
    """Spark 4.0 has the same values, by trial."""
    kinds = {"time": "timestamp", "s": "string", "v": "long", "d": "double", "g": kind}
    noted = {"g": {"delta.generationExpression": expression}}
    fields = [Field(name, PrimitiveType(kind), metadata=noted.get(name)) for name, kind in kinds.items()]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields))
    insert = "INSERT INTO t VALUES ('2026-03-01T10:20:30Z', 'Ä b', 5, 1.5)"
    box.execute("CREATE TABLE t (time TEXT, s TEXT, v INTEGER, d REAL)", insert)
    assert box.run() == 0
    assert box.arrived("g") == [(value,)]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("External error: Schema error: Duplicate field name (case-insensitive): 'ID'", up.TargetError),
        ("Schema error: Schema contains duplicate qualified field name source.id", up.TargetError),
        ("Generic DeltaTable error: Error during planning: Invalid function 'year'", up.TargetError),
        ("Internal error: no such type.\nThis issue was likely caused by a bug in DataFusion's code.", up.TargetError),
        ("Optimizer rule 'simplify_expressions' failed: caused by: Cast error: no time", up.TargetError),
        ("Cast error: Cannot cast string 'a' to value of Int32 type", up.RefusedValuesError),
        ("1000.00 is too large to store in a Decimal128 of precision 5. Max is 999.99", up.RefusedValuesError),
        ("Generic S3 error: Error performing PUT http://store/b/part-0: InternalError: We encountered an internal error", up.TransientError),
        ("Generic S3 error: HTTP error: error decoding response body", up.TransientError),
        ("Parquet error: External: Generic S3 error: SlowDown: reduce your request rate", up.TransientError),
        ("Kernel error: Error interacting with object store: 503 Service Unavailable", up.TransientError),
        ("Kernel error: Arrow error: Parquet error: External: Generic S3 error: SlowDown", up.TransientError),
        ("Kernel error: Arrow error: Parquet error: Invalid Parquet file. Corrupt footer", up.TargetError),
        ("Kernel error: Invalid Checkpoint: Had a _last_checkpoint hint but didn't find any checkpoints", up.TargetError),
        *((f"Generic S3 error: Error performing PUT http://store/b/t/{file} in 2.2s, after 10 retries, max_retries 10, "
           f"retry_timeout 180s  - Server returned non-2xx status code: {answer}", kind) for file, answer, kind in (
            ("_delta_log/00000000000000000001.json", "501 Not Implemented: NotImplemented: A header", up.TargetError),
            ("_delta_log/00000000000000000001.json", "400 Bad Request: InvalidArgument: If-None", up.TargetError),
            ("_delta_log/00000000000000000001.json", "500 Internal Server Error: InternalError", up.TransientError),
            ("part-0.zstd.parquet", "501 Not Implemented: NotImplemented: A header", up.TransientError),
        )),
    ],
)  # fmt: skip
def test_what_delta_rs_says_tells_whether_it_passes(said: str, kind: type[up.UploaderError]) -> None:
    with pytest.raises(up.UploaderError) as refused, up.delta_errors("lake/t", writes=True):
        raise ValueError(said)
    assert type(refused.value) is kind
    assert ("rename one" in refused.value.hint) == ("uplicate" in said)


@pytest.mark.parametrize(
    ("said", "is_about_links"),
    [
        ("Operation not permitted (os error 1)", True),  # vfat, exFAT
        ("Operation not supported (os error 95)", True),  # shares of other machines
        ("Function not implemented (os error 38)", True),  # what is mounted by a program
        ("Permission denied (os error 13)", False),
    ],
)
def test_a_disk_without_hard_links_is_not_taken_for_one_without_rights(said: str, is_about_links: bool) -> None:
    with pytest.raises(up.TargetError) as refused, up.delta_errors("lake/t", writes=True):
        raise OSError(f"Generic LocalFileSystem error: Unable to rename file: {said}")
    assert ("hard links" in refused.value.hint) == is_about_links


@pytest.mark.parametrize("said", ["No space left on device", "Disk quota exceeded"])
def test_a_full_disk_is_no_wrong_path(said: str) -> None:
    """As where no inode is left for the table's directory."""
    with pytest.raises(up.TargetError, match=said) as refused, up.delta_errors("lake/t", writes=True):
        raise OSError(f"Could not create local directory: lake/t: {said}")
    assert "disk is full" in refused.value.hint


def test_a_value_that_cannot_be_read_from_the_log_is_no_fault_of_a_row() -> None:
    with pytest.raises(up.TransientError), up.delta_errors("lake/t"):
        raise ValueError("Cast error: Cannot cast string 'a' to value of Int32 type")


def test_a_table_whose_features_cannot_be_read_is_refused_for_good(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    table_in_log(box, ["tomorrows"], 3)
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 1
    assert "--help-error TargetError" in caplog.text


@pytest.mark.parametrize("features", [["deletionVectors"], ["v2Checkpoint"], ["deletionVectors", "v2Checkpoint"]])
def test_a_table_with_features_that_files_do_not_feel_is_filled(box: Box, features: list[str]) -> None:
    table_in_log(box, features, 3)
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    assert box.arrived("v") == [(1,)]


def test_check_and_a_run_name_what_is_left_out_and_say_that_no_table_has_an_empty_name(
    box: Box, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    box.execute('CREATE TABLE t (time TEXT, "" INTEGER)', "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    empty, missing = "a column whose name is empty is left out", "left out, since the target has no such column"
    assert empty in caplog.text and missing not in caplog.text and "A view" in caplog.text
    box.execute("ALTER TABLE t ADD COLUMN more INTEGER")
    assert box.run("--check") == 0
    output = capsys.readouterr().out
    assert empty in output and f"{missing}, or the uploader fills it: 'more'\n" in output


@pytest.mark.parametrize("mode", ["name", "id"])
@pytest.mark.parametrize("flags", [(), ("--schema", "evolve")])
def test_a_table_that_maps_names_is_filled_under_its_physical_names(
    box: Box, caplog: pytest.LogCaptureFixture, mode: str, flags: tuple[str, ...]
) -> None:
    kinds = {"time": "timestamp", "a b": "long", "other": "date", "g": "long"}
    metadata = {"g": {"delta.generationExpression": "`a b` + 1"}}
    fields = [Field(name, PrimitiveType(kind), metadata=metadata.get(name)) for name, kind in kinds.items()]
    configuration = {"delta.columnMapping.mode": mode}
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields), configuration=configuration)
    box.execute('CREATE TABLE t ("A B" INTEGER, time TEXT, extra TEXT)', "INSERT INTO t VALUES (1, '2026-01-01', 'x')")
    assert box.run("--check", *flags) == 0
    assert box.run(*flags) == 0
    assert "left out, since the target has no such column" in caplog.text
    assert box.arrived('"a b", other, g') == [(1, None, 2)]
    physical = [field.metadata["delta.columnMapping.physicalName"] for field in box.table().schema().fields]
    [file] = (box.folder / "lake").rglob("*.parquet")
    assert all(name.encode() in file.read_bytes() for name in physical)
    box.execute("INSERT INTO t VALUES (2, '2026-01-02', 'y')")
    assert box.run(*flags) == 0
    assert len(box.arrived()) == 2


def test_a_column_that_writers_compute_is_computed_also_where_it_is_not_null(box: Box) -> None:
    fields = [
        Field("time", PrimitiveType("timestamp")),
        Field("v", PrimitiveType("long")),
        Field("g", PrimitiveType("long"), nullable=False, metadata={"delta.generationExpression": "v + 1"}),
    ]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields))
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    assert box.arrived("v, g") == [(1, 2)]


def test_a_transaction_tells_when_it_was_made(box: Box) -> None:
    """Else Spark's next checkpoint forgets it, where the table's owner limits how long they are kept."""
    box.execute("CREATE TABLE t (time TEXT)", "INSERT INTO t VALUES ('2026-01-01')")
    began = time.time()
    assert box.run() == 0
    [log] = (box.folder / "lake").rglob("*.json")
    [told] = [json.loads(line)["txn"] for line in log.read_text().splitlines() if "txn" in json.loads(line)]
    assert int(began * 1000) <= told["lastUpdated"] <= time.time() * 1000


@pytest.mark.parametrize("said", ["{}", "bob", "[1]", '{"application": 5}', "null", '"text"', "[" * 9])
def test_commits_of_other_tools_are_passed_over_whatever_they_tell(box: Box, said: str) -> None:
    """They may mean something else by the word under which the uploader tells where a commit's rows are from."""
    box.execute("CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (1)")
    assert box.run("--source-id", "box 7") == 0
    box.table().delete("v = 1", commit_properties=CommitProperties(custom_metadata={"uploader": said}))
    box.state_file.unlink()
    box.execute("INSERT INTO t VALUES (2)")
    assert box.run("--source-id", "box 7") == 0
    assert box.arrived() == [(2,)]


@pytest.mark.parametrize("kind", ["decimal(10,2)", "decimal(18,6)", "decimal(38,10)"])
def test_statistics_of_decimals_cover_them_or_are_absent_also_after_a_compaction(box: Box, kind: str) -> None:
    """They are JSON's numbers, of which delta-rs rounds those of more than 15 digits: readers would pass over rows."""
    fields = {"v": "long", "d": kind, "s": "string", "g": kind}
    noted = {"g": {"delta.generationExpression": "d"}}
    schema = Schema([Field(name, PrimitiveType(kind), metadata=noted.get(name)) for name, kind in fields.items()])
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), schema)
    box.execute("CREATE TABLE t (v INTEGER, d TEXT, s TEXT)")
    for number, text in enumerate(
        ["12345678.12", "123456789012.123456", "1234567890123456789012345678.1234567891", None]
    ):
        box.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(number, text, "x" * 1000), (number, "1.5", "x")])
        box.run("--max-bad-rows", "9")
    before = len(statistics(box))
    assert box.run("--compact") == 0
    told = statistics(box)
    assert len(told) > before
    values = [Decimal(d) for (d,) in box.arrived("d") if d is not None]
    ends = [(each["minValues"].get(name), each["maxValues"].get(name)) for each in told for name in ("d", "g")]
    assert all(end in [None, *values] for each in ends for end in each)
    assert ((None, None) in ends) == (kind != "decimal(10,2)")
    assert all(len(each["maxValues"]["s"]) <= 33 for each in told)


def test_a_longer_decimal_that_comes_later_in_a_commit_finds_no_statistics_either(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How files are written is said before their first page, by the type alone."""
    monkeypatch.setattr(up, "PAGE_ROWS", 100)
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), schema_of({"v": "long", "d": "decimal(38,10)"}))
    texts = ["1.5"] * 500 + ["1234567890123456890.5"]
    box.execute("CREATE TABLE t (v INTEGER, d TEXT)")
    box.execute("INSERT INTO t VALUES (?, ?)", rows=list(enumerate(texts)))
    assert box.run() == 0
    assert [each["maxValues"].get("d") for each in statistics(box)] == [None]
    assert len(box.arrived("v")) == 501


def statistics(box: Box) -> list[dict[str, Any]]:
    """What the log says of the values of each file that was ever added, numbers as they are written."""
    logs = sorted((box.folder / "lake" / "raw_readings" / "_delta_log").glob("*.json"))
    added = [json.loads(line)["add"] for log in logs for line in log.read_text().splitlines() if '"add"' in line]
    return [json.loads(each["stats"], parse_float=Decimal, parse_int=Decimal) for each in added]


def test_a_generated_column_of_the_uploaders_own_is_refused(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    noted = {"delta.generationExpression": "s"}
    fields = [
        Field("s", PrimitiveType("string")),
        Field("databricks_batch_id", PrimitiveType("string"), metadata=noted),
    ]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields))
    box.execute("CREATE TABLE t (s TEXT)", "INSERT INTO t VALUES ('a')")
    assert box.run() == 1
    assert "the uploader fills databricks_batch_id, which is a generated column" in caplog.text


@pytest.mark.parametrize("mode", ["none", "name"])
def test_a_column_that_can_not_be_filled_is_named_with_what_helps(
    box: Box, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    """A view without it does, but not where each file has to have all columns."""
    nested = Field("s", StructType([Field("a", PrimitiveType("long"))]))
    fields, configuration = [Field("time", PrimitiveType("timestamp")), nested], {"delta.columnMapping.mode": mode}
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields), configuration=configuration)
    box.execute("CREATE TABLE t (time TEXT, s TEXT)", "INSERT INTO t VALUES ('2026-01-01', 'a')")
    box.execute("CREATE VIEW w AS SELECT time FROM t")
    assert box.run("--table", "t") == 1
    assert f"{'the' if mode == 'none' else 'a'} column s of type " in caplog.text
    assert box.run("--table", "w", "--state-dir", str(box.folder / "other")) == (mode == "name")


def test_a_table_is_made_among_other_files_with_a_warning(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    folder = box.folder / "lake" / "raw_readings"
    (folder / "of_others").mkdir(parents=True)
    box.execute("CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (1)")
    assert box.run("--check") == 0
    assert f"{folder} holds files of no Delta table, such as of_others." in caplog.text
    caplog.clear()
    assert [box.run(), box.run()] == [0, 0]
    assert "holds files" not in caplog.text


CHANGED = {
    "narrowed": ({"time": "timestamp", "v": "long"}, 2, []),
    "rounded": ({"time": "timestamp", "v": "decimal(3,0)"}, 2, []),
    "widened": ({"time": "timestamp", "v": "string"}, 0, [("1.7",)]),
    "dropped": ({"time": "timestamp", "w": "double"}, 0, [(None,)]),
    "renamed": ({"time": "timestamp", "V": "double"}, 0, [(1.7,)]),
    "added": ({"time": "timestamp", "v": "double", "x": "long"}, 2, []),
    "added in another case": ({"time": "timestamp", "v": "double", "X": "long"}, 2, []),
}


@pytest.mark.parametrize("step", ["send", "_append"])
@pytest.mark.parametrize("change", CHANGED)
def test_no_value_is_altered_and_no_column_comes_back_where_others_change_the_table_before_the_commit(
    box: Box, monkeypatch: pytest.MonkeyPatch, step: str, change: str
) -> None:
    """delta-rs would cast 1.7 to 1, and make a column that was dropped once more. The next cycle plans anew."""
    columns, status, rows = CHANGED[change]
    box.execute("CREATE TABLE t (time TEXT, v REAL, x REAL)", "INSERT INTO t VALUES ('2026-01-01', 1.7, 2.5)")
    uri, made = str(box.folder / "lake" / "raw_readings"), {"time": "timestamp", "v": "double"}
    DeltaTable.create(uri, schema_of(made))
    real = getattr(up.DeltaTarget, step)

    def late(*args: object) -> object:
        monkeypatch.setattr(up.DeltaTarget, step, real)
        DeltaTable.create(uri, schema_of(columns), mode="overwrite")
        return real(*args)

    monkeypatch.setattr(up.DeltaTarget, step, late)
    flags = ("--schema", "evolve") if "added" in change else ()
    assert box.run(*flags) == 1
    assert box.arrived() == []
    assert box.run(*flags) == status
    assert [field.name for field in box.table().schema().fields] == [*columns]
    assert box.arrived([*columns][1]) == rows


def schema_of(columns: dict[str, str]) -> Schema:
    return Schema([Field(name, PrimitiveType(kind)) for name, kind in columns.items()])


def test_a_row_whose_partition_can_not_be_named_is_set_aside_and_the_others_arrive(box: Box) -> None:
    """Directories are named by the values of the column that parts the table."""
    fields = [Field("v", PrimitiveType("long")), Field("place", PrimitiveType("string"))]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields), partition_by=["place"])
    places = ["a/b", "", None, "x" * 300, "..", "50%", "__HIVE_DEFAULT_PARTITION__"]
    box.execute("CREATE TABLE t (v INTEGER, place TEXT)", "INSERT INTO t VALUES (?, ?)", rows=[*enumerate(places)])
    assert box.run() == up.QUARANTINED
    assert box.arrived() == [(v, place) for v, place in enumerate(places) if v not in (3, 6)]
    assert sorted(line["row"]["v"] for line in box.quarantined()) == [3, 6]


def test_a_negative_fraction_that_would_part_a_table_is_set_aside_and_the_table_stays_readable(box: Box) -> None:
    """delta-rs 1.6 names it -3.-25, after which nobody reads the table. Where this fails it does so no more."""
    fields = [Field("v", PrimitiveType("long")), Field("d", PrimitiveType("decimal(10,2)"))]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields), partition_by=["d"])
    box.execute(
        "CREATE TABLE t (v INTEGER, d)", "INSERT INTO t VALUES (?, ?)", rows=[*enumerate(["-1", "-3.25", "0.5", None])]
    )
    assert box.run() == up.QUARANTINED
    assert [v for (v,) in box.arrived("v")] == [0, 2, 3]
    assert [line["row"]["v"] for line in box.quarantined()] == [1]


@pytest.mark.parametrize(
    ("kind", "generated", "fault"),
    [
        ("binary", "", "parted by the BINARY d"), ("decimal(10,2)", "v + 0.5", "parted by a generated DECIMAL(10,2) d"),
        ("decimal(10,2)", "", ""), ("date", "", ""), ("long", "v + 1", ""),
    ],
)  # fmt: skip
def test_a_table_whose_parts_delta_rs_would_misname_is_refused_and_others_are_filled(
    box: Box, caplog: pytest.LogCaptureFixture, kind: str, generated: str, fault: str
) -> None:
    """Also where the source lacks the column that parts it. delta-rs 1.6 names b"a" as its escape."""
    noted = {"delta.generationExpression": generated} if generated else None
    fields = [Field("v", PrimitiveType("long")), Field("d", PrimitiveType(kind), metadata=noted)]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields), partition_by=["d"])
    box.execute("CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (-1)")
    assert box.run("--check") == bool(fault)
    assert box.run() == bool(fault)
    assert f"can't be written by path: a table that is {fault}" in caplog.text if fault else box.arrived("v") == [(-1,)]


def test_what_reads_ahead_is_over_before_a_refused_row_is_set_aside(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would take away the quarantine's file, once it comes to an end without a bad row of its own."""
    real, is_set_aside = up.Quarantine.put, threading.Event()

    def late(quarantine: up.Quarantine, sequence: int, table: dict[str, str], rows: Sequence[up.BadRow]) -> None:
        if not rows:
            is_set_aside.wait(0.2)
        real(quarantine, sequence, table, rows)
        if rows:
            is_set_aside.set()

    fields = [Field("v", PrimitiveType("long")), Field("d", PrimitiveType("decimal(10,2)"))]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields), partition_by=["d"])
    box.execute("CREATE TABLE t (v INTEGER, d)", "INSERT INTO t VALUES (1, '-3.25')")
    monkeypatch.setattr(up.Quarantine, "put", late)
    assert box.run() == up.QUARANTINED
    assert [line["row"]["v"] for line in box.quarantined()] == [1]


def test_the_length_that_spark_notes_of_a_varchar_is_kept(box: Box) -> None:
    noted = {"__CHAR_VARCHAR_TYPE_STRING": "varchar(2)"}
    fields = [Field("time", PrimitiveType("timestamp")), Field("s", PrimitiveType("string"), metadata=noted)]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields))
    box.execute("CREATE TABLE t (time TEXT, s TEXT)", "INSERT INTO t VALUES ('2026-01-01', 'ab')")
    assert box.run() == 0
    box.execute("INSERT INTO t VALUES ('2026-01-01', 'abc')")
    assert box.run() == up.QUARANTINED
    assert box.arrived("s") == [("ab",)]


@pytest.mark.parametrize(
    ("one", "other"),
    [("\u00c4", "\u00e4"), ("k", "\u212a"), ("a b", "a_B"), ("\u03c3", "\u03a3"), ("\u0130", "i\u0307")],
)
def test_names_that_are_equal_for_the_target_are_refused_before_anything_is_written(
    box: Box, caplog: pytest.LogCaptureFixture, one: str, other: str
) -> None:
    box.execute(
        f'CREATE TABLE t (time TEXT, "{one}" INTEGER, "{other}" INTEGER)', "INSERT INTO t VALUES ('2026-01-01', 1, 2)"
    )
    assert box.run() == 2
    assert "would both be" in caplog.text
    assert not box.state_file.exists() and not (box.folder / "lake").exists()
    assert box.run("--check") == 1
    assert box.run("--print-ddl") == (0 if " " in one else 2)


@pytest.mark.parametrize(("one", "other"), [("\u00df", "ss"), ("\u00e9", "e\u0301")])
def test_names_that_only_look_equal_are_two_columns(box: Box, one: str, other: str) -> None:
    box.execute(
        f'CREATE TABLE t (time TEXT, "{one}" INTEGER, "{other}" INTEGER)', "INSERT INTO t VALUES ('2026-01-01', 1, 2)"
    )
    assert box.run() == 0
    assert box.arrived(f'"{one}", "{other}"') == [(1, 2)]
    box.execute("INSERT INTO t VALUES ('2026-01-02', 3, 4)")
    assert box.run() == 0
    assert len(box.arrived()) == 2


def rows_of_one(box: Box, declared: str, values: list[object], strict: str = "") -> None:
    box.execute(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v {declared}) {strict}",
        "INSERT INTO t (time, v) VALUES ('2026-01-01', ?)",
        rows=[(value,) for value in values],
    )


@pytest.mark.parametrize(
    ("declared", "values", "kind", "strict"),
    [
        ("STRING", ["pump"], "string", ""), ("JSON", ["{}"], "string", ""), ("UUID", ["6f-ff"], "string", ""),
        ("TIME", ["12:00:00"], "string", ""), ("ANY", ["x", 1], "string", "STRICT"), ("ENUM", ["a"], "string", ""),
        ("NUMERIC", [1, 2.5], "double", ""), ("NUMERIC", [1, 2], "bigint", ""), ("", [b"x"], "binary", ""),
        ("INTEGER", ["n/a", 1], "string", ""), ("BOOLEAN", ["yes", "NO", 1], "boolean", ""), ("BOOLEAN", ["on"], "string", ""),
        ("DATETIME", ["soon"], "string", ""), ("DECIMAL(4,2)", [1.234], "double", ""), ("REAL", ["warm", 1.5], "string", ""),
    ],
)  # fmt: skip
def test_the_first_rows_decide_where_a_declaration_says_nothing_or_is_wrong(
    box: Box, capsys: pytest.CaptureFixture[str], declared: str, values: list[object], kind: str, strict: str
) -> None:
    rows_of_one(box, declared, values, strict)
    assert box.run("--print-ddl") == 0
    assert f"`v` {kind.upper()}," in capsys.readouterr().out
    assert box.run("--check") == 0
    assert f"-> v {kind}\n" in capsys.readouterr().out
    assert box.run("--dry-run") == 0
    assert box.run() == 0
    made = {field.name: up.delta_type(field) for field in box.table().schema().fields}
    assert made["v"] == kind
    assert len(box.arrived()) == len(values)


def test_types_that_the_first_rows_could_not_tell_are_said_once(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite keeps no 21.0 apart from 21 in a column of numeric affinity, such as a mapper's decimal."""
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, price decimal, n BIGINT, later NUMERIC, any)",
        insert := "INSERT INTO t (time, price, n, any) VALUES ('2026-01-01', ?, ?, ?)",
        rows=[(21.0, 1, 1), (22, 2, 2)],
    )
    assert box.run() == 0
    assert [text for text in caplog.messages if "so far" in text] == [
        "later: nothing so far, so made STRING; column_types sets other types before a table is made",
        "price: whole numbers so far, so made BIGINT; column_types sets other types before a table is made",
    ]
    caplog.clear()
    box.execute(insert, rows=[(21.5, 3, 3)])
    assert box.run(UPLOAD_COLUMN_TYPES='{"price": "double", "n": "bigint"}') == 3
    assert not any("so far" in text for text in caplog.messages)
    assert "column_types count where a table is made; in" in caplog.text
    assert "price is BIGINT" in caplog.text and "n is BIGINT" not in caplog.text


def test_a_renamed_column_is_said_on_both_sides_with_the_remedy(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v INT)", "INSERT INTO t VALUES (1, '2026-01-01', 1)"
    )
    assert box.run() == 0
    assert "not filled" not in caplog.text and "left out" not in caplog.text
    box.execute("ALTER TABLE t RENAME COLUMN v TO w", "INSERT INTO t VALUES (2, '2026-01-02', 2)")
    assert box.run() == 0
    assert "or the uploader fills it: 'w'. schema: evolve adds columns; rows that were sent before stay" in caplog.text
    assert "not filled, since the source has no such column: 'v'" in caplog.text
    assert box.arrived("id, v") == [(1, 1), (2, None)]


def test_a_declaration_that_gives_way_is_said_in_one_line(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    rows_of_one(box, "INTEGER", ["n/a", 1])
    assert box.run() == 0
    assert caplog.text.count("v is declared INTEGER, but a value of it is no whole number: it is read as STRING") == 1


def test_types_may_be_set_by_column(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    rows_of_one(box, "REAL", [1.25])
    types = {"UPLOAD_COLUMN_TYPES": '{"V": "DECIMAL(6, 2)", "id": "STRING"}'}
    assert box.run("--print-ddl", **types) == 0
    assert "`v` DECIMAL(6,2)," in capsys.readouterr().out
    assert box.run(**types) == 0
    assert box.arrived("id, v") == [("1", Decimal("1.25"))]
    assert box.run(UPLOAD_COLUMN_TYPES='{"v": "STRING"}') == 0


@pytest.mark.parametrize(
    "types", ['{"w": "STRING"}', '{"v": "STRNIG"}', '{"v": ["STRING"]}', '{"v": "STRING", "V": "DOUBLE"}']
)
def test_unknown_columns_and_types_are_refused_with_the_nearest_name(
    box: Box, caplog: pytest.LogCaptureFixture, types: str
) -> None:
    rows_of_one(box, "REAL", [1.25])
    for action in ((), ("--print-ddl",), ("--dry-run",)):
        assert box.run(*action, UPLOAD_COLUMN_TYPES=types) == 2
    assert "column_types" in caplog.text
    assert not box.state_file.exists() and not (box.folder / "lake").exists()


def test_a_cycle_with_nothing_new_samples_no_column_but_the_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of_one(box, "JSON", ["{}"])
    assert box.run() == 0
    sampled, real = list[str](), up.Reader.sample

    def sample(reader: up.Reader) -> object:
        sampled.extend(reader.table.columns)
        return real(reader)

    monkeypatch.setattr(up.Reader, "sample", sample)
    assert box.run() == 0
    assert sampled == ["time"]


def test_a_table_of_many_columns_is_planned_without_comparing_each_with_all(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2,000 columns that took four seconds of each cycle that had rows."""
    names, folded = [f"c{index}" for index in range(200)], Counter[str]()
    box.execute(f"CREATE TABLE t (time TEXT, {' REAL, '.join(names)} REAL)")
    box.execute("INSERT INTO t (time, c7) VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    box.execute("INSERT INTO t (time, c7) VALUES ('2026-01-02', 2)")
    monkeypatch.setattr(up, "folded", lambda name: folded.update([name]) or name.lower())
    assert box.run() == 0
    assert box.arrived("c7") == [(1.0,), (2.0,)]
    assert 0 < folded.total() < 10 * len(names)


def test_one_look_tells_the_types_of_all_columns(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ", ".join(f"c{i} JSON" for i in range(300))
    box.execute(f"CREATE TABLE t (time TEXT, {names})", "INSERT INTO t (time, c7) VALUES ('2026-01-01', '{}')")
    asked, table = [], up.Database.table

    def counted(database: up.Database, sql: str, *more: int) -> object:
        asked.append(sql)
        return table(database, sql, *more)

    monkeypatch.setattr(up.Database, "table", counted)
    assert box.run("--print-ddl") == 0
    assert len(asked) < 20


@pytest.mark.parametrize("action", [(), ("--dry-run",)])
def test_a_first_run_never_begins_with_a_quarantine(
    box: Box, caplog: pytest.LogCaptureFixture, action: tuple[str, ...]
) -> None:
    box.execute("CREATE TABLE t (time TEXT, v REAL)", "INSERT INTO t VALUES ('31.01.2026', 1)")
    assert box.run(*action) == 2
    assert "1 of the first 1 rows would go to quarantine: time is no time (it is '31.01.2026')" in caplog.text
    assert not box.state_file.exists() and not (box.folder / "lake").exists() and not box.quarantined()
    assert box.run("--check") == 1
    assert box.run(UPLOAD_COLUMN_TYPES='{"time": "string"}') == 0
    assert box.arrived("time, v") == [("31.01.2026", 1.0)]


def test_a_tenth_of_bad_rows_is_a_quarantine_and_one_more_a_refusal(box: Box) -> None:
    times = ["2026-01-01"] * 18 + ["soon"] * 2
    box.execute("CREATE TABLE t (time TEXT)", "INSERT INTO t VALUES (?)", rows=[(time,) for time in times])
    box.execute("INSERT INTO t VALUES ('soon')")
    assert box.run() == 2
    box.execute("DELETE FROM t WHERE rowid = 21")
    assert box.run() == up.QUARANTINED
    assert (len(box.arrived()), len(box.quarantined())) == (18, 2)
    box.execute("INSERT INTO t VALUES ('soon')")
    assert box.run() == up.QUARANTINED


def test_a_first_run_into_a_table_that_is_there_names_its_column(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    fields = [Field("time", PrimitiveType("timestamp")), Field("v", PrimitiveType("long"))]
    DeltaTable.create(str(box.folder / "lake" / "raw_readings"), Schema(fields))
    rows_of_one(box, "TEXT", ["twelve"])
    assert box.run() == 2
    assert "v is no whole number (it is 'twelve')" in caplog.text
    assert "give the target's column a type" in caplog.text


def test_rows_without_a_time_have_no_format_that_would_help(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute("CREATE TABLE t (time INTEGER, v REAL)")
    box.execute("INSERT INTO t VALUES (?, 1)", rows=[(1_790_000_000 + i if i % 4 else None,) for i in range(40)])
    assert box.run("--timestamp-format", "unix", **RULES["aggregated_"]) == 2
    assert "is NULL: the row belongs to no window" in caplog.text
    assert "\n  timestamp_format" not in caplog.text and "Correct the source" in caplog.text


@pytest.mark.parametrize("prefix", ["filtered_", "secure_"])
def test_no_first_run_begins_with_a_quarantine_of_what_rules_leave_null(
    box: Box, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    box.execute("CREATE TABLE t (time TEXT, v REAL, name TEXT)")
    box.execute("INSERT INTO t VALUES ('2026-01-01', 1, ?)", rows=[("a" if i % 5 else None,) for i in range(20)])
    fields = [Field("time", PrimitiveType("timestamp")), Field("v", PrimitiveType("double"))]
    fields.append(Field("name", PrimitiveType("string"), nullable=False))
    DeltaTable.create(str(box.folder / "lake" / f"{prefix}readings"), Schema(fields))
    assert box.run(**RULES[prefix]) == 2
    assert "4 of the first 20 rows would go to quarantine: name is NULL" in caplog.text


def test_a_refusal_shows_no_value_that_a_rule_hides(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('canary', 1)")
    rules = {"ENABLE_SANITIZE": "1", "SANITIZE_CONFIG": '{"mask": {"time": 2}}'}
    assert box.run(**rules) == 2
    assert "canary" not in caplog.text
