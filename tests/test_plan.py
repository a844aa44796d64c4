"""Chapter Plan: which column goes where, whatever became of the columns on either side."""

from __future__ import annotations

import pytest
from deltalake import Field
from deltalake.schema import PrimitiveType

from boxes import Box


def test_a_column_that_the_target_lacks_is_named_and_left_out(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.execute("CREATE TABLE t (time TEXT, v INTEGER)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    assert box.run() == 0
    box.execute("ALTER TABLE t ADD COLUMN extra TEXT", "INSERT INTO t VALUES ('2026-01-02', 2, 'e')")
    assert box.run() == 0
    assert box.arrived("v") == [(1,), (2,)]
    assert "extra" in caplog.text


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
    assert "the uploader fills it: Databricks_Batch_Id" in caplog.text
    box.table().alter.add_columns([Field("databricks_batch_id", PrimitiveType("string"))])
    box.execute("INSERT INTO t VALUES ('2026-01-02', 2, 'theirs')")
    assert box.run() == 0
    [(_, first), (_, second)] = box.arrived("v, databricks_batch_id")
    assert first is None and second.endswith("/2")
