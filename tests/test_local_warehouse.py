"""The local SQL warehouse, through the real connector: what the other tests take for granted about it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import pytest
from databricks.sql import exc
from urllib3.exceptions import HTTPError

from warehouse import PRINCIPAL, Warehouse

SENSORS = "id BIGINT, device_id STRING, timestamp TIMESTAMP, temperature DOUBLE, humidity DOUBLE, status STRING"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("warehouse"), "--client", PRINCIPAL, "--patience", "1") as running:
        running.sql("CREATE SCHEMA s")
        running.sql("CREATE VOLUME main.s.v")
        yield running


@pytest.fixture
def readings(warehouse: Warehouse) -> str:
    """The name of an empty table with an integer and a text."""
    warehouse.heal()
    warehouse.sql("CREATE OR REPLACE TABLE s.readings (id BIGINT, name STRING)")
    return "s.readings"


def refusal(warehouse: Warehouse, statement: str, **options: Any) -> str:
    """The message of a statement that fails on the server."""
    with pytest.raises(exc.ServerOperationError) as caught:
        warehouse.sql(statement, **options)
    return str(caught.value)


def from_json(table: str, columns: str, cells: str, fields: str, records: list[dict[str, Any]]) -> str:
    """The uploader's form of INSERT: one JSON document in one literal."""
    document = json.dumps(records, ensure_ascii=False).replace("'", "\\u0027").replace("\\", "\\\\")
    source = f"SELECT explode(from_json('{document}', 'ARRAY<STRUCT<{fields}>>', map('mode', 'FAILFAST'))) r"
    return f"INSERT INTO {table} ({columns}) SELECT {cells} FROM ({source})"


def together(work: Callable[[int], Any], times: int) -> list[Any]:
    """What the same work returns, or raises, in so many threads at once."""
    ended: list[Any] = []

    def one(number: int) -> None:
        try:
            ended.append(work(number))
        except Exception as error:
            ended.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


# ── Tables and statements ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_statements_of_the_quick_start_make_delta_tables(warehouse: Warehouse) -> None:
    warehouse.sql("CREATE DATABASE IF NOT EXISTS sensor_data;")
    warehouse.sql(f"CREATE TABLE IF NOT EXISTS sensor_data.raw_sensor_readings ({SENSORS});")
    warehouse.sql(
        """CREATE TABLE IF NOT EXISTS sensor_data.filtered_sensor_readings
           AS SELECT * FROM sensor_data.raw_sensor_readings WHERE 1=0;"""
    )
    warehouse.sql(
        """CREATE TABLE IF NOT EXISTS main.sensor_data.keyed (
               id BIGINT NOT NULL COMMENT 'it''s the key', -- comments, too
               amount DECIMAL(10, 2),
               PRIMARY KEY (id) -- Optional: Define primary keys if applicable
           ) CLUSTER BY (id) TBLPROPERTIES ('delta.appendOnly' = 'true');"""
    )
    names = [row[1] for row in warehouse.sql("SHOW TABLES IN sensor_data")]
    assert names == ["filtered_sensor_readings", "keyed", "raw_sensor_readings"]
    described = [row[:2] for row in warehouse.sql("DESCRIBE TABLE sensor_data.filtered_sensor_readings")]
    assert described == [tuple(column.lower().split(" ")) for column in SENSORS.split(", ")]
    assert warehouse.sql("DESCRIBE `sensor_data`.`keyed`")[1][:2] == ("amount", "decimal(10,2)")
    for name in names:
        assert deltalake.DeltaTable(warehouse.table_path(f"sensor_data.{name}")).version() == 0


def test_every_type_and_null_comes_back_through_the_connector(warehouse: Warehouse) -> None:
    values = """1Y a, 2S b, 3 c, 4L d, 1.5D e, CAST(0.5 AS FLOAT) f, 2.50 g, 'ü''' h, x'00ff' i, true j,
        DATE'2024-02-29' k, TIMESTAMP'2024-01-01 00:00:00.000001' l, ARRAY(1, 2) m, MAP('k', 1) n, NULL o"""
    [row] = warehouse.sql(f"SELECT {values}")
    assert row[:6] == (1, 2, 3, 4, 1.5, 0.5)
    assert row[6:11] == (Decimal("2.50"), "ü", b"\x00\xff", True, date(2024, 2, 29))
    assert row[11:] == (datetime(2024, 1, 1, 0, 0, 0, 1), "[1, 2]", '{"k": 1}', None)
    nulls = ", ".join(f"CAST(NULL AS {kind})" for kind in ("INT", "DOUBLE", "STRING", "BINARY", "DATE", "TIMESTAMP"))
    assert warehouse.sql(f"SELECT {nulls}") == [(None,) * 6]


def test_an_insert_counts_its_rows_and_fills_columns_by_name(warehouse: Warehouse, readings: str) -> None:
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {readings} (name, id) VALUES ('a', 1), ('b', 2)")
        assert (cursor.rowcount, tuple(cursor.fetchone())) == (2, (2, 2))
        cursor.execute(f"INSERT INTO {readings} BY NAME SELECT 'c' AS name")
        cursor.execute(f"INSERT INTO {readings} (id) SELECT 4")
    assert warehouse.sql(f"SELECT * FROM {readings} ORDER BY name, id") == [(4, None), (1, "a"), (2, "b"), (None, "c")]
    assert "UNRESOLVED_COLUMN" in refusal(warehouse, f"INSERT INTO {readings} (id, nope) SELECT 1, 2")
    assert "INSERT_COLUMN_ARITY_MISMATCH" in refusal(warehouse, f"INSERT INTO {readings} (id) SELECT 1, 2")


def test_ten_thousand_rows_of_json_arrive_as_they_are(warehouse: Warehouse) -> None:
    warehouse.sql(f"CREATE TABLE s.big ({SENSORS})")
    text = "it's \\ \" \n \x01 \u2028 😀 \\' \\n `"
    records: list[dict[str, Any]] = [
        {"c0": i, "c1": f"{text}{i}", "c2": f"2024-01-01T00:00:{i % 60:02d}.{i:06d}Z", "c3": str(i / 7), "c4": None}
        for i in range(10_000)
    ]
    fields, cells = (
        "c0: BIGINT, c1: STRING, c2: STRING, c3: STRING",
        "r.c0, r.c1, CAST(r.c2 AS TIMESTAMP), CAST(r.c3 AS DOUBLE)",
    )
    warehouse.sql(from_json("s.big", "id, device_id, timestamp, temperature", cells, fields, records))
    rows = warehouse.sql(
        "SELECT id, device_id, date_format(timestamp, 'ss.SSSSSS'), temperature FROM s.big ORDER BY id"
    )
    assert rows == [(r["c0"], r["c1"], r["c2"][17:-1], r["c0"] / 7) for r in records]


@pytest.mark.parametrize(
    ("field", "value"),
    [("BIGINT", 1.7), ("BIGINT", "12"), ("BIGINT", 2**63), ("TINYINT", 300), ("BOOLEAN", 1), ("DOUBLE", "x")],
)
def test_json_that_does_not_fit_fails_the_statement(
    warehouse: Warehouse, readings: str, field: str, value: object
) -> None:
    statement = from_json(readings, "id", "r.c0", f"c0: {field}", [{"c0": 1}, {"c0": value}])
    assert "MALFORMED_RECORD_IN_PARSING" in refusal(warehouse, statement)
    broken = statement.replace('[{"c0"', '{"c0"')
    assert "MALFORMED_RECORD_IN_PARSING" in refusal(warehouse, broken)
    assert warehouse.sql(f"SELECT count(*) FROM {readings}") == [(0,)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *[("300", "TINYINT"), ("1.7", "BIGINT"), ("x", "DOUBLE"), ("maybe", "BOOLEAN"), ("2024-02-30", "DATE")],
        *[("noon", "TIMESTAMP"), ("1000", "DECIMAL(3, 1)")],
    ],
)
def test_a_cast_that_does_not_fit_fails_the_statement(warehouse: Warehouse, text: str, kind: str) -> None:
    assert "SQLSTATE: 22" in refusal(warehouse, f"SELECT CAST('{text}' AS {kind})")


def test_texts_are_cast_to_every_type_of_a_table(warehouse: Warehouse) -> None:
    warehouse.sql("CREATE TABLE s.kinds (a DOUBLE, b DECIMAL(38, 6), c DATE, d BOOLEAN, e BINARY, f TIMESTAMP)")
    cells = """CAST(r.c0 AS DOUBLE), CAST(r.c1 AS DECIMAL(38, 6)), CAST(r.c2 AS DATE), CAST(r.c3 AS BOOLEAN),
        unbase64(r.c4), CAST(r.c5 AS TIMESTAMP)"""
    fields = ", ".join(f"c{i}: STRING" for i in range(6))
    given = ["NaN", "12345678901234567890.123456", "2024-02-29", "true", "AP8=", "2024-01-01T00:00:00.5+05:30"]
    records = [{f"c{i}": value for i, value in enumerate(given)}, {"c0": "-Infinity"}, {"c0": "1e300"}]
    warehouse.sql(from_json("s.kinds", "a, b, c, d, e, f", cells, fields, records))
    [nan, *rest], infinite, large = warehouse.sql("SELECT * FROM s.kinds ORDER BY b DESC, a")
    assert (infinite, large) == ((float("-inf"), *[None] * 5), (1e300, *[None] * 5))
    assert nan != nan
    assert rest[:2] == [Decimal("12345678901234567890.123456"), date(2024, 2, 29)]
    assert rest[2:] == [True, b"\x00\xff", datetime(2023, 12, 31, 18, 30, 0, 500_000)]


def test_not_null_is_kept_and_told(warehouse: Warehouse) -> None:
    warehouse.sql("CREATE TABLE s.strict (id BIGINT NOT NULL, name STRING)")
    assert "DELTA_NOT_NULL_CONSTRAINT_VIOLATED" in refusal(warehouse, "INSERT INTO s.strict VALUES (NULL, 'x')")
    assert "NO_DEFAULT_COLUMN_VALUE_AVAILABLE" in refusal(warehouse, "INSERT INTO s.strict (name) SELECT 'x'")
    [[described]] = warehouse.sql("DESCRIBE TABLE EXTENDED s.strict AS JSON")
    assert [column["nullable"] for column in json.loads(described)["columns"]] == [False, True]
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.columns(schema_name="s", table_name="strict")
        assert [(row.COLUMN_NAME, row.NULLABLE) for row in cursor.fetchall()] == [("id", 0), ("name", 1)]
        cursor.tables(schema_name="s", table_name="str%")
        assert [row.TABLE_NAME for row in cursor.fetchall()] == ["strict"]


def test_odd_names_and_any_case_are_found(warehouse: Warehouse) -> None:
    columns = "`a b` BIGINT, `c``d` STRING, `e'f` STRING, `größe;` STRING"
    assert "DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES" in refusal(warehouse, f"CREATE TABLE s.odd ({columns})")
    mapping = "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"
    warehouse.sql(f"CREATE TABLE S.`Odd-Näme` ({columns}) {mapping}")
    warehouse.sql("INSERT INTO s.`ODD-NÄME` (`e'f`, `A B`, `c``d`) SELECT 'x', 1, 'y'")
    assert warehouse.sql("SELECT * FROM Main.S.`Odd-Näme` AS o WHERE o.`a b` = 1") == [(1, "y", "x", None)]


def test_a_table_can_be_replaced_dropped_and_made_again(warehouse: Warehouse) -> None:
    with warehouse.connect(schema="s") as connection, connection.cursor() as other:
        for columns, value in (("a BIGINT", 1), ("a BIGINT, b STRING", 2), ("b STRING", 3)):
            warehouse.sql("DROP TABLE IF EXISTS s.again" if value == 3 else "SELECT 1")
            warehouse.sql(f"CREATE OR REPLACE TABLE s.again ({columns})")
            warehouse.sql(f"INSERT INTO s.again ({columns.split()[0]}) VALUES ({value})")
            other.execute("SELECT * FROM again")
            assert len(other.fetchall()) == 1
    assert "TABLE_OR_VIEW_ALREADY_EXISTS" in refusal(warehouse, "CREATE TABLE s.again (a INT)")
    warehouse.sql("DROP TABLE s.again")
    assert not warehouse.table_path("s.again").exists()
    assert "TABLE_OR_VIEW_NOT_FOUND" in refusal(warehouse, "SELECT * FROM s.again")


def test_rows_can_be_changed_and_merged(warehouse: Warehouse, readings: str) -> None:
    warehouse.sql(f"INSERT INTO {readings} VALUES (1, 'a'), (2, 'b')")
    assert warehouse.sql(f"UPDATE {readings} SET name = 'c' WHERE id = 2") == [(1,)]
    source = "(SELECT 2 AS id UNION ALL SELECT 3) n ON t.id = n.id WHEN MATCHED THEN UPDATE SET name = 'd'"
    merge = f"MERGE INTO {readings} t USING {source} WHEN NOT MATCHED THEN INSERT (id) VALUES (n.id)"
    assert warehouse.sql(merge) == [(2,)]
    assert warehouse.sql(f"DELETE FROM {readings} WHERE id = 7") == [(0,)]
    warehouse.sql(f"DELETE FROM {readings} WHERE id = 1")
    assert warehouse.sql(f"SELECT * FROM {readings} ORDER BY id") == [(2, "d"), (3, None)]


def test_a_table_is_read_as_it_was(warehouse: Warehouse, readings: str) -> None:
    """Up to its last commit, and not before its first."""
    times = [datetime.now(UTC)]
    for number in (1, 2):
        time.sleep(0.1)
        times.append(datetime.now(UTC))
        warehouse.sql(f"INSERT INTO {readings} VALUES ({number}, 'a')")
    asked = [f"SELECT count(*) FROM S.Readings TIMESTAMP AS OF '{at.isoformat()}' WHERE id > 0" for at in times]
    assert [warehouse.sql(text) for text in asked[1:]] == [[(0,)], [(1,)]]
    too_late = asked[0].replace(times[0].isoformat(), datetime.now(UTC).isoformat())
    assert "[DELTA_TIMESTAMP_GREATER_THAN_COMMIT]" in refusal(warehouse, too_late)
    too_early = asked[0].replace(times[0].isoformat(), "2020-01-01T00:00:00Z")
    assert "[DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION]" in refusal(warehouse, too_early)


def test_parameters_are_bound_up_to_the_limit(warehouse: Warehouse, readings: str) -> None:
    warehouse.sql(f"INSERT INTO {readings} VALUES (?, ?)", [7, "it's ? :x \\ \n"])
    found = f"SELECT name FROM {readings} WHERE id = :id AND :none IS NULL AND ':id' <> 'x'"
    assert warehouse.sql(found, {"id": 7, "none": None}) == [("it's ? :x \\ \n",)]
    many = ", ".join(["(?, 'x')"] * 256)
    with pytest.raises(exc.ServerOperationError, match="256 parameters"):
        warehouse.sql(f"INSERT INTO {readings} VALUES {many}", list(range(256)))


def test_a_request_carries_one_statement(warehouse: Warehouse, readings: str) -> None:
    """Only the first one would run otherwise, and nobody would know."""
    assert "PARSE_SYNTAX_ERROR" in refusal(warehouse, f"DROP TABLE {readings}; SELECT 1")
    assert warehouse.sql(f"SELECT count(*), '; ;' FROM {readings} ; ; -- the end") == [(0, "; ;")]


def test_a_statement_over_16_mib_is_refused(warehouse: Warehouse) -> None:
    assert "STATEMENT_TOO_LARGE" in refusal(warehouse, f"SELECT length('{'x' * 16 * 1024 * 1024}')")


def test_large_results_are_fetched_in_pages(warehouse: Warehouse) -> None:
    with warehouse.connect() as connection, connection.cursor(arraysize=1000) as cursor:
        cursor.execute("SELECT id FROM range(3500)")
        assert [row.id for row in cursor.fetchall()] == list(range(3500))


# ── Sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_and_namespaces_belong_to_one_session(warehouse: Warehouse, readings: str) -> None:
    zone = {"session_configuration": {"TIMEZONE": "America/New_York"}}
    with warehouse.connect(schema="s", **zone) as connection, connection.cursor() as cursor:
        cursor.execute("SET ANSI_MODE = true")
        cursor.execute("SELECT unix_timestamp(TIMESTAMP'1970-01-01 00:00:00'), TIMESTAMP'1970-01-01 00:00:00'")
        assert tuple(cursor.fetchone()) == (5 * 3600, datetime(1970, 1, 1))
        cursor.execute("SELECT count(*) FROM readings")
        cursor.execute("USE SCHEMA default")
        cursor.execute("SELECT current_schema()")
        assert cursor.fetchone()[0] == "default"
    assert warehouse.sql("SELECT unix_timestamp(TIMESTAMP'1970-01-01 00:00:00')") == [(0,)]
    assert "CONFIG_NOT_AVAILABLE" in refusal(warehouse, "SET spark.sql.shuffle.partitions = 1")
    assert "SCHEMA_NOT_FOUND" in refusal(warehouse, "USE nowhere")
    assert "NO_SUCH_CATALOG" in refusal(warehouse, "USE nowhere.s")


def test_a_statement_that_outlives_its_timeout_commits_nothing(warehouse: Warehouse, readings: str) -> None:
    numbers = "range(300000) a CROSS JOIN range(300000) b WHERE a.id * b.id = -1"
    endless = f"INSERT INTO {readings} (id) SELECT a.id FROM {numbers} UNION ALL SELECT 1"
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET STATEMENT_TIMEOUT = 1")
        with pytest.raises(exc.ServerOperationError, match="STATEMENT_TIMEOUT"):
            cursor.execute(endless)
        cursor.execute(f"SELECT count(*) FROM {readings}")
        assert cursor.fetchone()[0] == 0


def test_a_cancelled_statement_commits_nothing(warehouse: Warehouse, readings: str) -> None:
    warehouse.fail("INSERT", "slow", seconds=30)
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute_async(f"INSERT INTO {readings} (id) VALUES (1)")
        cursor.cancel()
        with pytest.raises(exc.Error, match="OPERATION_CANCELED"):
            cursor.get_async_execution_result()
    assert warehouse.sql(f"SELECT count(*) FROM {readings}") == [(0,)]


def test_a_closed_session_is_an_invalid_handle(warehouse: Warehouse) -> None:
    with warehouse.connect() as connection, connection.cursor() as cursor:
        warehouse.close_sessions()
        with pytest.raises(exc.DatabaseError, match="Invalid SessionHandle"):
            cursor.execute("SELECT 1")


def test_clients_at_once_lose_nothing(warehouse: Warehouse, readings: str) -> None:
    def insert(client: int) -> None:
        with warehouse.connect() as connection, connection.cursor() as cursor:
            for number in (0, 100):
                cursor.execute(f"INSERT INTO {readings} (id) VALUES ({client + number})")

    assert together(insert, 8) == [None] * 8
    assert sorted(row[0] for row in warehouse.sql(f"SELECT id FROM {readings}")) == [*range(8), *range(100, 108)]


# ── Who may ask ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_token_a_wrong_path_and_an_unknown_authority_are_refused(warehouse: Warehouse) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"access_token": "wrong"}, "Invalid access token"),
        ({"http_path": "/sql/1.0/warehouses/other"}, "RESOURCE_DOES_NOT_EXIST"),
    ]
    for options, words in refused:
        with pytest.raises(exc.RequestError, match=words):
            warehouse.sql("SELECT 1", **options)
    with pytest.raises(HTTPError, match="CERTIFICATE_VERIFY_FAILED"):
        warehouse.sql("SELECT 1", _tls_trusted_ca_file=None)


def test_files_with_secrets_are_private(warehouse: Warehouse) -> None:
    assert {(warehouse.directory / name).stat().st_mode & 0o777 for name in ("token", "server.pem")} == {0o600}


def token_for(warehouse: Warehouse, client: str) -> dict[str, Any]:
    """What the token endpoint answers a service principal."""
    url = f"https://{warehouse.address}/oidc/.well-known/oauth-authorization-server"
    context = ssl.create_default_context(cafile=str(warehouse.ca_file))
    with urllib.request.urlopen(url, context=context) as answer:
        endpoint = json.load(answer)["token_endpoint"]
    headers = {"Authorization": "Basic " + base64.b64encode(client.encode()).decode()}
    request = urllib.request.Request(endpoint, b"grant_type=client_credentials&scope=all-apis", headers)
    with urllib.request.urlopen(request, context=context) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_a_service_principal_gets_tokens_that_expire(warehouse: Warehouse) -> None:
    given = token_for(warehouse, PRINCIPAL)
    assert (given["token_type"], given["expires_in"]) == ("Bearer", 3600)
    with warehouse.connect(access_token=given["access_token"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        warehouse.request("POST", "/admin/expire_tokens")
        with pytest.raises(exc.RequestError, match="expired"):
            cursor.execute("SELECT 1")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        token_for(warehouse, "box:wrong")


# ── LastReport to fail ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["drop", "reset", "status", "error"])
def test_a_failure_comes_before_or_after_the_insert(
    warehouse: Warehouse, readings: str, action: str, when: str
) -> None:
    before = len(warehouse.statements(f"insert into {readings}"))
    warehouse.fail(f"INSERT INTO {readings}", action, when=when)
    with pytest.raises((exc.Error, HTTPError)):
        warehouse.sql(f"INSERT INTO {readings} (id) VALUES (1)")
    executed = 1 if when == "after" else 0
    assert warehouse.sql(f"SELECT count(*) FROM {readings}") == [(executed,)]
    assert len(warehouse.statements(f"insert into {readings}")) == before + executed
    warehouse.sql(f"INSERT INTO {readings} (id) VALUES (2)")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_any_status_with_retry_after_can_be_asked_for(warehouse: Warehouse, readings: str, status: int) -> None:
    warehouse.fail("OpenSession", "status", status=status, retry_after=7)
    with pytest.raises(exc.RequestError) as caught:
        warehouse.sql("SELECT 1", own=True)
    assert caught.value.context["http-code"] == status
    assert warehouse.sql("SELECT 1") == [(1,)]


def test_a_rule_can_let_calls_pass_and_hold_more_than_once(warehouse: Warehouse, readings: str) -> None:
    warehouse.fail("SELECT 1", "error", message="[TOLD] so SQLSTATE: 12345", skip=1, times=2)
    assert warehouse.sql("SELECT 1") == [(1,)]
    assert [refusal(warehouse, "SELECT 1") for _ in range(2)] == ["[TOLD] so SQLSTATE: 12345"] * 2
    assert warehouse.sql("SELECT 1") == [(1,)]
    with pytest.raises(urllib.error.HTTPError, match="400"):
        warehouse.fail("SELECT 1", "explode")


def test_a_zombie_commits_later_but_not_after_its_timeout(warehouse: Warehouse, readings: str) -> None:
    before = len(warehouse.statements(f"INSERT INTO {readings} (id) VALUES", outcome=""))
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET STATEMENT_TIMEOUT = 3")
        for number, seconds in ((1, 0.5), (2, 60)):
            warehouse.fail("INSERT", "zombie", seconds=seconds)
            with pytest.raises(HTTPError):
                cursor.execute(f"INSERT INTO {readings} (id) VALUES ({number})")
        while len(ended := warehouse.statements(f"INSERT INTO {readings} (id) VALUES", outcome="")[before:]) < 2:
            time.sleep(0.05)
    assert [entry["outcome"] for entry in ended] == ["ok", "error"]
    assert ended[0]["seconds"] >= 0.5 and 3 <= ended[1]["seconds"] < 60
    assert warehouse.sql(f"SELECT id FROM {readings}") == [(1,)]


def test_a_slow_statement_is_polled_for(warehouse: Warehouse, readings: str) -> None:
    warehouse.fail("INSERT", "slow", seconds=2)
    before = warehouse.log()["calls"].get("GetOperationStatus", 0)
    warehouse.sql(f"INSERT INTO {readings} (id) VALUES (1)")
    assert warehouse.log()["calls"]["GetOperationStatus"] > before
    assert warehouse.sql(f"SELECT count(*) FROM {readings}") == [(1,)]


def test_a_held_back_answer_meets_a_client_that_waits_no_longer(warehouse: Warehouse, readings: str) -> None:
    warehouse.fail("INSERT", "delay", seconds=2, when="after")
    with pytest.raises(HTTPError, match="timed out"):
        warehouse.sql(f"INSERT INTO {readings} (id) VALUES (1)", _socket_timeout=1)
    assert warehouse.sql(f"SELECT count(*) FROM {readings}") == [(1,)]


def test_a_stopped_warehouse_starts_in_time(warehouse: Warehouse) -> None:
    for how in ("refuse", "operations"):
        warehouse.starting(3600, how)
        with pytest.raises(exc.RequestError, match="TEMPORARILY_UNAVAILABLE"):
            warehouse.sql("SELECT 1", own=True)
        warehouse.starting(0.2, how)
        while True:
            with contextlib.suppress(exc.RequestError):
                assert warehouse.sql("SELECT 1", own=True) == [(1,)]
                break


def test_requests_sessions_and_statements_are_logged(warehouse: Warehouse) -> None:
    before = warehouse.log()
    assert warehouse.log()["requests"] == before["requests"]
    warehouse.sql("SELECT 'logged'", own=True)
    after = warehouse.log()
    assert after["sessions_opened"] == before["sessions_opened"] + 1
    assert after["requests"] == before["requests"] + 3
    assert after["statements"][-1]["statement"] == "SELECT 'logged'"
    lines = (warehouse.directory / "statements.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]) == after["statements"][-1]


# ── Volumes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def parquet(warehouse: Warehouse, readings: str) -> bytes:
    """A Parquet file of 100 rows for the table of readings."""
    warehouse.sql("CREATE OR REPLACE TABLE s.source (id BIGINT, name STRING)")
    warehouse.sql("INSERT INTO s.source SELECT id, concat('n', id) FROM range(100)")
    [path] = warehouse.table_path("s.source").glob("*.parquet")
    return path.read_bytes()


def put(warehouse: Warehouse, path: str, content: bytes) -> None:
    """Send a file to a volume from a stream."""
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"PUT '__input_stream__' INTO '{path}' OVERWRITE", input_stream=io.BytesIO(content))


def test_files_go_into_a_volume_and_out_of_it(warehouse: Warehouse, tmp_path: Path) -> None:
    put(warehouse, "/Volumes/main/s/v/deep/er/a b%20ü.bin", b"first")
    put(warehouse, "/Volumes/main/s/v/deep/er/a b%20ü.bin", b"second")
    assert (warehouse.directory / "volumes/main/s/v/deep/er/a b%20ü.bin").read_bytes() == b"second"
    local = tmp_path / "local.bin"
    local.write_bytes(b"third")
    place = "'/Volumes/main/s/v/deep/er/c.bin'"
    warehouse.sql(f"PUT '{local}' INTO {place}", staging_allowed_local_path=str(tmp_path))
    assert [row[1:3] for row in warehouse.sql("LIST '/Volumes/main/s/v/deep/er'")] == [("a b%20ü.bin", 6), ("c.bin", 5)]
    assert "FILE_ALREADY_EXISTS" in refusal(warehouse, f"PUT '{local}' INTO {place}")
    warehouse.sql(f"REMOVE {place}")
    assert "PATH_NOT_FOUND" in refusal(warehouse, f"REMOVE {place}")
    assert "UC_VOLUME_NOT_FOUND" in refusal(warehouse, "LIST '/Volumes/main/s/nowhere'")
    assert "INVALID_PARAMETER_VALUE" in refusal(warehouse, "LIST '/Volumes/main/s/v/../../../tables'")


def test_moving_a_file_can_fail(warehouse: Warehouse) -> None:
    warehouse.fail("StagedPUT", "status", status=503)
    with pytest.raises(exc.OperationalError, match="503"):
        put(warehouse, "/Volumes/main/s/v/never.bin", b"never")
    assert "PATH_NOT_FOUND" in refusal(warehouse, "REMOVE '/Volumes/main/s/v/never.bin'")


def test_copy_into_loads_a_file_once(warehouse: Warehouse, readings: str, parquet: bytes) -> None:
    for name in ("a.parquet", "b.parquet"):
        put(warehouse, f"/Volumes/main/s/v/once/{name}", parquet)
    copy = f"COPY INTO {readings} FROM '/Volumes/main/s/v/once' FILEFORMAT = PARQUET"
    assert warehouse.sql(f"{copy} FILES = ('a.parquet')") == [(100, 100, 0)]
    assert warehouse.sql(f"{copy} FILES = ('a.parquet')") == [(0, 0, 0)]
    assert warehouse.sql(copy) == [(100, 100, 0)]
    assert warehouse.sql(f"{copy} COPY_OPTIONS ('force' = 'true')") == [(200, 200, 0)]
    assert "PATH_NOT_FOUND" in refusal(warehouse, f"{copy} FILES = ('c.parquet')")
    assert warehouse.sql(f"SELECT count(*), count(DISTINCT name) FROM {readings}") == [(400, 100)]


def test_copy_into_takes_expressions_and_columns(warehouse: Warehouse, readings: str, parquet: bytes) -> None:
    put(warehouse, "/Volumes/main/s/v/selected.parquet", parquet)
    source = "(SELECT upper(name), if(id < 3 AND id > -1, id + 1, id + 1) FROM '/Volumes/main/s/v/selected.parquet')"
    options = "FORMAT_OPTIONS ('mergeSchema' = 'true') COPY_OPTIONS ('mergeSchema' = 'true')"
    warehouse.sql(f"COPY INTO {readings} (name, id) FROM {source} FILEFORMAT = PARQUET {options}")
    assert warehouse.sql(f"SELECT min(id), max(id), min(name) FROM {readings}") == [(1, 100, "N0")]


def test_copies_of_one_file_at_once_load_it_once(warehouse: Warehouse, readings: str, parquet: bytes) -> None:
    put(warehouse, "/Volumes/main/s/v/twins.parquet", parquet)
    copy = f"COPY INTO {readings} FROM '/Volumes/main/s/v/twins.parquet' FILEFORMAT = PARQUET"
    answers = together(lambda _: warehouse.sql(copy), 6)
    assert sorted(answers) == [[(0, 0, 0)]] * 5 + [[(100, 100, 0)]]


def test_a_copy_whose_answer_is_lost_is_not_loaded_again(warehouse: Warehouse, readings: str, parquet: bytes) -> None:
    put(warehouse, "/Volumes/main/s/v/lost.parquet", parquet)
    copy = f"COPY INTO {readings} FROM '/Volumes/main/s/v/lost.parquet' FILEFORMAT = PARQUET"
    warehouse.fail("COPY INTO", "drop", when="after")
    with pytest.raises(HTTPError):
        warehouse.sql(copy)
    assert warehouse.sql(copy) == [(0, 0, 0)]


# ── From one run to the next ──────────────────────────────────────────────────────────────────────────────────────────


def test_tables_files_and_loads_outlive_the_process(tmp_path: Path) -> None:
    def copy(table: str) -> list[tuple[Any, ...]]:
        return local.sql(f"COPY INTO {table} FROM '/Volumes/main/default/v/{table}.parquet' FILEFORMAT = PARQUET")

    def begin_copy(table: str, back: int) -> None:
        """Leave the note of a COPY INTO that a crash has cut short, begun so many commits ago."""
        commits = sorted((local.table_path(f"default.{table}") / "_delta_log").glob("*.json"))
        entry = {"before": commits[-1 - back].name, "files": [f"/Volumes/main/default/v/{table}.parquet"]}
        (local.table_path(f"default.{table}") / "_copy_into.jsonl").write_text(json.dumps(entry) + "\n")

    with Warehouse(tmp_path / "w") as local:
        local.sql("CREATE VOLUME default.v")
        for table in ("loaded", "committed", "begun"):
            local.sql(f"CREATE TABLE {table} AS SELECT 1 AS id")
            [path] = local.table_path(f"default.{table}").glob("*.parquet")
            put(local, f"/Volumes/main/default/v/{table}.parquet", path.read_bytes())
            local.sql(f"INSERT INTO {table} VALUES (2)")
        assert copy("loaded") == [(1, 1, 0)]
        begin_copy("committed", back=1)
        begin_copy("begun", back=0)
        port = local.port
        assert local.stop() == 0
    with local:
        assert local.port == port
        assert [copy(table) for table in ("loaded", "committed", "begun")] == [[(0, 0, 0)], [(0, 0, 0)], [(1, 1, 0)]]
        assert local.sql("SELECT count(*) FROM begun") == [(3,)]
