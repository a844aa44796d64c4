"""The stand-in for Zerobus in the local warehouse, and the gateway: over real sockets, what other tests take for granted."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import struct
import time
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import deltalake
import pytest
from databricks.sql import exc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from urllib3.exceptions import HTTPError

from boxes import examples
from gateway import Gateway
from warehouse import PRINCIPAL, Warehouse

USUAL = {"delay": 0.2, "spread": 0.0, "parts": 1, "limit": 10_000_000, "refuse": 413, "deny": [], "tables": {}}
USUAL |= {"anew": True, "token_lifetime": 3600}
RESOURCE = "api://databricks/workspaces/127/zerobusDirectWriteApi"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("zerobus"), "--client", PRINCIPAL, "--patience", "1") as local:
        local.sql("CREATE SCHEMA s")
        yield local


@pytest.fixture
def warehouse(running: Warehouse) -> Warehouse:
    """The warehouse as it is usually, with an empty table main.s.t."""
    running.heal()
    running.flush()
    running.zerobus(**USUAL)
    running.sql("CREATE OR REPLACE TABLE s.t (id BIGINT NOT NULL, name STRING)")
    return running


class Answer(NamedTuple):
    """An answer: status, headers and body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def refused(self) -> tuple[int, str]:
        """The status and the error's name."""
        return self.status, self.json["error_code"]


def ask(warehouse: Warehouse, method: str, url: str, body: bytes = b"", **headers: str) -> Answer:
    """One request over TLS, in a connection of its own."""
    parts = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=str(warehouse.ca_file))
    connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=30, context=context)
    try:
        connection.request(method, parts.path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def details(table: str) -> list[dict[str, Any]]:
    """The authorization_details of one table."""
    catalog, schema, _ = table.split(".")
    wanted = [("CATALOG", catalog, ["USE CATALOG"]), ("SCHEMA", f"{catalog}.{schema}", ["USE SCHEMA"])]
    return [
        {"type": "unity_catalog_privileges", "privileges": rights, "object_type": kind, "object_full_path": path}
        for kind, path, rights in [*wanted, ("TABLE", table, ["SELECT", "MODIFY"])]
    ]


def token_answer(warehouse: Warehouse, table: str = "main.s.t", secret: str = "", **form: str) -> Answer:
    """What the token endpoint says; with table "" an ordinary token is asked for."""
    fields = {"grant_type": "client_credentials", "scope": "all-apis"}
    if table:
        fields |= {"resource": RESOURCE, "authorization_details": json.dumps(details(table))}
    client = ":".join((warehouse.client[0], secret or warehouse.client[1]))
    basic = "Basic " + base64.b64encode(client.encode()).decode()
    body = urllib.parse.urlencode({**fields, **form}).encode()
    return ask(warehouse, "POST", f"https://{warehouse.address}/oidc/v1/token", body, Authorization=basic)


def token(warehouse: Warehouse, table: str = "main.s.t") -> str:
    """A token for rows into a table."""
    return str(token_answer(warehouse, table).json["access_token"])


def insert(warehouse: Warehouse, records: Any, table: str = "main.s.t", host: str = "", **headers: str) -> Answer:
    """Send records, or a body as it is."""
    body = records if isinstance(records, bytes) else json.dumps(records).encode()
    given_headers = {"Content_Type": "application/json", **headers}
    if "Authorization" not in given_headers:
        given_headers["Authorization"] = f"Bearer {token(warehouse, table)}"
    url = f"{host or warehouse.zerobus_endpoint}/zerobus/v1/tables/{table}/insert"
    return ask(warehouse, "POST", url, body, **given_headers)


def ids(warehouse: Warehouse) -> list[int]:
    """The ids in main.s.t, in order."""
    return [row[0] for row in warehouse.sql("SELECT id FROM s.t ORDER BY id")]


def arrived(warehouse: Warehouse, count: int) -> list[int]:
    """The ids in main.s.t once there are so many, at the latest after some seconds."""
    end = time.monotonic() + 20
    while len(found := ids(warehouse)) < count and time.monotonic() < end:
        time.sleep(0.05)
    return found


def python_rows(table: deltalake.DeltaTable) -> list[dict[str, Any]]:
    """A Delta table's rows, read without the engine that wrote them."""
    found = deltalake.QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all()
    cells = [[found.column(name)[i].as_py() for name in found.column_names] for i in range(found.num_rows)]
    return [dict(zip(found.column_names, row, strict=True)) for row in cells]


# ── Tokens ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_for_a_table_is_long_and_good_for_rows_into_that_table_alone(warehouse: Warehouse) -> None:
    warehouse.sql("CREATE OR REPLACE TABLE s.other (id BIGINT)")
    answer = token_answer(warehouse)
    assert (answer.status, answer.json["token_type"], answer.json["expires_in"]) == (200, "Bearer", 3600)
    bearer = f"Bearer {answer.json['access_token']}"
    assert 3000 <= len(bearer) <= 6144
    assert insert(warehouse, [{"id": 1}], Authorization=bearer).status == 200
    assert insert(warehouse, [{"id": 1}], "main.s.other", Authorization=bearer).refused == (403, "PERMISSION_DENIED")
    url = f"https://{warehouse.address}/api/2.1/unity-catalog/tables/main.s.t"
    assert ask(warehouse, "GET", url, Authorization=bearer).refused == (403, "PERMISSION_DENIED")
    with pytest.raises(exc.RequestError, match="not for this"):
        warehouse.sql("SELECT 1", access_token=bearer.removeprefix("Bearer "))


def test_rows_need_a_token_for_the_table_no_other_one(warehouse: Warehouse) -> None:
    ordinary = str(token_answer(warehouse, "").json["access_token"])
    assert insert(warehouse, [{"id": 1}], Authorization=f"Bearer {ordinary}").refused == (403, "PERMISSION_DENIED")
    for header in (f"Bearer {warehouse.token}", "Bearer nonsense", "Basic eDp5", ""):
        assert insert(warehouse, [{"id": 1}], Authorization=header).refused == (401, "UNAUTHENTICATED")


def test_the_token_request_is_checked_word_by_word(warehouse: Warehouse) -> None:
    def detailed(wanted: Any) -> dict[str, str]:
        return {"authorization_details": json.dumps(wanted)}

    whole, more = details("main.s.t"), details("main.z.u")
    wrong: list[Any] = [whole[:2], whole[1:], whole + more, [*whole[:2], more[2]], [1], {}, "x"]
    wrong += [[*whole[:2], whole[2] | {"privileges": rights}] for rights in (["ALL PRIVILEGES"], ["MODIFY"], [])]
    wrong += [[*whole[:2], whole[2] | {"type": "privileges"}], [*whole[:2], whole[2] | {"operations": ["read"]}]]
    for form, error in (
        ({"resource": "api://databricks/workspaces/128/zerobusDirectWriteApi"}, "invalid_target"),
        ({"resource": ""}, "invalid_target"),
        ({"scope": "sql"}, "invalid_scope"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"authorization_details": ""}, "invalid_authorization_details"),
        *[(detailed(given_details), "invalid_authorization_details") for given_details in wrong],
    ):
        answer = token_answer(warehouse, **form)
        assert (form, answer.status, answer.json["error"]) == (form, 400, error)


def test_the_order_of_details_and_the_operation_of_newer_clients_do_not_matter(warehouse: Warehouse) -> None:
    wanted = details("main.s.t")
    wanted[2] |= {"operations": ["zerobuswrite"], "privileges": ["MODIFY", "SELECT"]}
    assert token_answer(warehouse, authorization_details=json.dumps(wanted[::-1])).status == 200
    assert token_answer(warehouse, secret="wrong").status == 401


def test_tokens_end_by_their_lifetime_or_when_told(warehouse: Warehouse) -> None:
    warehouse.zerobus(token_lifetime=1)
    answer = token_answer(warehouse)
    assert answer.json["expires_in"] == 1
    bearer = f"Bearer {answer.json['access_token']}"
    time.sleep(1.1)
    assert insert(warehouse, [{"id": 1}], Authorization=bearer).refused == (401, "UNAUTHENTICATED")
    warehouse.zerobus(token_lifetime=3600)
    bearer = f"Bearer {token(warehouse)}"
    assert insert(warehouse, [{"id": 2}], Authorization=bearer).status == 200
    warehouse.expire_tokens()
    assert insert(warehouse, [{"id": 3}], Authorization=bearer).refused == (401, "UNAUTHENTICATED")
    assert arrived(warehouse, 1) == [2]


@pytest.mark.parametrize("right", ["USE CATALOG main", "USE SCHEMA main.s", "SELECT main.s.t", "MODIFY main.s.t"])
def test_a_right_that_is_missing_is_missed_everywhere(warehouse: Warehouse, right: str) -> None:
    bearer = f"Bearer {token(warehouse)}"
    warehouse.zerobus(deny=[right])
    assert insert(warehouse, [{"id": 1}], Authorization=bearer).refused == (403, "PERMISSION_DENIED")
    refused = token_answer(warehouse)
    assert (refused.status, refused.json["error"]) == (400, "invalid_authorization_details")
    assert right in refused.json["error_description"]
    assert table_answer(warehouse).status == (200 if "MODIFY" in right else 403)


# ── Unity Catalog ─────────────────────────────────────────────────────────────────────────────────────────────────────


def table_answer(warehouse: Warehouse, table: str = "main.s.t", bearer: str = "") -> Answer:
    """What Unity Catalog says about a table."""
    url = f"https://{warehouse.address}/api/2.1/unity-catalog/tables/{table}"
    return ask(warehouse, "GET", url, Authorization=f"Bearer {bearer or warehouse.token}")


def test_unity_catalog_tells_the_columns_of_a_table(warehouse: Warehouse) -> None:
    warehouse.sql("CREATE OR REPLACE TABLE s.wide (Id BIGINT NOT NULL, a TINYINT, b DECIMAL(10, 2), c ARRAY<STRING>)")
    info = table_answer(warehouse, "main.s.wide", str(token_answer(warehouse, "").json["access_token"])).json
    assert (info["full_name"], info["table_type"], info["data_source_format"]) == ("main.s.wide", "MANAGED", "DELTA")
    told = [(c["name"], c["type_text"], c["type_name"], c["nullable"], c["position"]) for c in info["columns"]]
    assert told == [
        ("Id", "bigint", "LONG", False, 0),
        ("a", "tinyint", "BYTE", True, 1),
        ("b", "decimal(10,2)", "DECIMAL", True, 2),
        ("c", "array<string>", "ARRAY", True, 3),
    ]
    assert (info["columns"][2]["type_precision"], info["columns"][2]["type_scale"]) == (10, 2)
    assert table_answer(warehouse, "main.s.none").refused == (404, "TABLE_DOES_NOT_EXIST")
    assert table_answer(warehouse, bearer="wrong").refused == (403, "PERMISSION_DENIED")


def test_the_sdk_reads_a_table_of_the_stand_in(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    from databricks.sdk import WorkspaceClient

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(warehouse.ca_file))
    client_id, secret = warehouse.client
    client = WorkspaceClient(host=f"https://{warehouse.address}", client_id=client_id, client_secret=secret)
    table = client.tables.get("main.s.t")
    assert table.columns and [column.name for column in table.columns] == ["id", "name"]


# ── Refused ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_body_that_does_not_fit_is_refused_as_a_whole(warehouse: Warehouse) -> None:
    bodies = [b"", b"{}", b'{"id": 1}', b"[]", b"[1]", b"[[]]", b'[{"id": 1}', b"null", b'[{"id": 1, "id": 2}]']
    bodies += [b'[{"id": NaN}]', b'[{"id": Infinity}]', b'[{"id": 1, "name": "\xff"}]', b'[{"id": 1, "nope": 2}]']
    bodies += [b'[{"id": 1}, {}]', b'[{"id": null}]', b'[{"ID": 1}]', b'[{"id": 1}, {"id": "2"}]', b'[{"id": 1.0}]']
    bodies += [b'[{"id": true}]', b'[{"id": 1, "name": 5}]', b'[{"id": 1, "name": "\\ud800"}]']
    bearer = f"Bearer {token(warehouse)}"
    found = {body: insert(warehouse, body, Authorization=bearer).refused for body in bodies}
    assert found == dict.fromkeys(bodies, (400, "INVALID_PARAMETER_VALUE"))
    assert warehouse.zerobus()["waiting"] == {}


UNFIT: list[tuple[str, Any]] = [
    *[("TINYINT", 128), ("SMALLINT", -32769), ("INT", 2**31), ("BIGINT", 2**63), ("INT", 1.5), ("INT", "1")],
    *[("DOUBLE", "1"), ("DOUBLE", 10**400), ("FLOAT", 3.5e38), ("DOUBLE", True), ("BOOLEAN", 1)],
    *[("BOOLEAN", "true"), ("STRING", 1), ("STRING", {}), ("BINARY", "a"), ("BINARY", "é"), ("BINARY", [1])],
    *[("DATE", "2024-01-01"), ("DATE", 2_932_897), ("DATE", 1.5), ("TIMESTAMP", "2024-01-01T00:00:00Z")],
    *[("TIMESTAMP", 253_402_300_800_000_000), ("TIMESTAMP", 1.5), ("DECIMAL(5, 2)", 1.5), ("DECIMAL(5, 2)", 1)],
    *[("DECIMAL(5, 2)", "1000"), ("DECIMAL(5, 2)", "1.005"), ("DECIMAL(5, 2)", "1e1"), ("DECIMAL(5, 2)", "")],
    *[("DECIMAL(5, 2)", "NaN"), ("DECIMAL(5, 2)", "\u0661"), ("ARRAY<INT>", "[1]"), ("ARRAY<INT>", ["1"])],
    *[("MAP<STRING, INT>", {"a": "1"}), ("STRUCT<a: INT>", {"b": 1}), ("STRUCT<a: INT>", [1])],
]


def test_a_value_that_does_not_fit_its_column_is_refused(warehouse: Warehouse) -> None:
    columns = ", ".join(f"v{i} {kind}" for i, (kind, _) in enumerate(UNFIT))
    warehouse.sql(f"CREATE OR REPLACE TABLE s.unfit ({columns})")
    bearer = f"Bearer {token(warehouse, 'main.s.unfit')}"
    for i, (_, value) in enumerate(UNFIT):
        answer = insert(warehouse, [{}, {f"v{i}": None}, {f"v{i}": value}], "main.s.unfit", Authorization=bearer)
        assert (answer.refused, i) == ((400, "INVALID_PARAMETER_VALUE"), i)
        assert f"'v{i}'" in answer.json["message"]
    assert insert(warehouse, [{}], "main.s.unfit", Authorization=bearer).status == 200


def test_content_types_addresses_and_methods_are_checked(warehouse: Warehouse) -> None:
    for headers in ({"Content_Type": "text/plain"}, {"Content_Encoding": "gzip"}, {"Content_Type": "text/json"}):
        assert insert(warehouse, [{"id": 1}], **headers).refused == (400, "INVALID_PARAMETER_VALUE")
    assert insert(warehouse, [{"id": 1}], Content_Type="application/json; charset=utf-8").status == 200
    assert insert(warehouse, [{"id": 1}], host=f"https://{warehouse.address}").refused == (404, "NOT_FOUND")
    url = f"{warehouse.zerobus_endpoint}/zerobus/v1/tables/main.s.t/insert"
    assert ask(warehouse, "GET", url, Authorization=f"Bearer {token(warehouse)}").status == 404
    assert insert(warehouse, [{"id": 1}], "main.s.none").refused == (404, "NOT_FOUND")


def test_only_managed_delta_tables_with_plain_names_take_rows(warehouse: Warehouse) -> None:
    for info in (
        {"table_type": "EXTERNAL"},
        {"table_type": "VIEW"},
        {"data_source_format": "ICEBERG"},
        {"properties": {"delta.feature.catalogManaged": "supported"}},
    ):
        warehouse.zerobus(tables={"main.s.t": info})
        assert info.items() <= table_answer(warehouse).json.items()
        assert insert(warehouse, [{"id": 1}]).refused == (501, "NOT_IMPLEMENTED")
    mapping = "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"
    for name, columns in (("named", "größe BIGINT"), ("spaced", "`a b` BIGINT")):
        warehouse.sql(f"CREATE OR REPLACE TABLE s.{name} ({columns}) {mapping}")
        assert insert(warehouse, [{}], f"main.s.{name}").refused == (501, "NOT_IMPLEMENTED")


def test_a_table_made_anew_under_its_name_is_refused(warehouse: Warehouse) -> None:
    warehouse.zerobus(anew=False)
    warehouse.sql("CREATE OR REPLACE TABLE s.anew (id BIGINT)")
    assert insert(warehouse, [{"id": 1}], "main.s.anew").status == 200
    warehouse.flush()
    warehouse.sql("CREATE OR REPLACE TABLE s.anew (id BIGINT)")
    assert insert(warehouse, [{"id": 2}], "main.s.anew").refused == (501, "NOT_IMPLEMENTED")


@pytest.mark.parametrize("refuse", [413, 400, 503])
def test_a_body_over_the_limit_is_refused_by_a_status(warehouse: Warehouse, refuse: int) -> None:
    body = json.dumps([{"id": i} for i in range(100)]).encode()
    warehouse.zerobus(limit=len(body) - 1, refuse=refuse)
    assert insert(warehouse, body).status == refuse
    warehouse.zerobus(limit=len(body))
    assert insert(warehouse, body).status == 200
    assert arrived(warehouse, 100) == list(range(100))


@pytest.mark.parametrize("refuse", ["close", "reset"])
def test_a_body_over_the_limit_ends_the_connection(warehouse: Warehouse, refuse: str) -> None:
    warehouse.zerobus(limit=10, refuse=refuse)
    with pytest.raises(ConnectionResetError):
        insert(warehouse, [{"id": 1, "name": "long"}])
    entry = warehouse.inserts("main.s.t")[-1]
    assert (entry["status"], entry["rows"]) == ({"close": "closed", "reset": "reset"}[refuse], 0)


# ── Rows on their way ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_answered_first_and_in_the_table_later(warehouse: Warehouse) -> None:
    warehouse.zerobus(delay=3600)
    answer = insert(warehouse, [{"id": 1}, {"id": 2, "name": "b"}])
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"{}", "application/json")
    assert (ids(warehouse), warehouse.zerobus()["waiting"]) == ([], {"main.s.t": 2})
    warehouse.flush()
    assert (ids(warehouse), warehouse.zerobus()["waiting"]) == ([1, 2], {})
    warehouse.zerobus(delay=0.3)
    insert(warehouse, [{"id": 3}])
    assert arrived(warehouse, 3) == [1, 2, 3]


def test_three_thousand_rows_are_one_request_and_one_commit(warehouse: Warehouse) -> None:
    before, bearer = warehouse.log(), f"Bearer {token(warehouse)}"
    records = [{"id": i, "name": "x" * 50} for i in range(3000)]
    assert insert(warehouse, records, Authorization=bearer).status == 200
    after = warehouse.log()
    assert after["requests"] == before["requests"] + 2
    assert after["calls"]["ZerobusInsert"] == before["calls"].get("ZerobusInsert", 0) + 1
    assert after["inserts"][-1]["rows"] == 3000
    assert arrived(warehouse, 3000) == list(range(3000))
    assert deltalake.DeltaTable(warehouse.table_path("s.t")).version() == 1


def test_nothing_is_counted_while_nothing_is_asked(warehouse: Warehouse) -> None:
    insert(warehouse, [{"id": 1}])
    before = warehouse.log()
    warehouse.flush()
    after = warehouse.log()
    assert [after[key] for key in ("requests", "calls")] == [before[key] for key in ("requests", "calls")]


def test_a_request_may_arrive_in_parts_and_out_of_order(warehouse: Warehouse) -> None:
    warehouse.zerobus(delay=0.1, spread=3.0, parts=10)
    insert(warehouse, [{"id": i} for i in range(10)])
    assert arrived(warehouse, 10) == list(range(10))
    table = deltalake.DeltaTable(warehouse.table_path("s.t"))
    came: list[int] = []
    for version in range(1, table.version() + 1):
        table.load_as_version(version)
        came += sorted({row["id"] for row in python_rows(table)} - set(came))
    assert came != sorted(came)


def test_rows_that_wait_outlive_the_process_and_arrive_once(tmp_path: Path) -> None:
    options = ("--client", "box:secret", "--zerobus-delay", "3600")
    with Warehouse(tmp_path / "w", *options) as local:
        local.sql("CREATE SCHEMA s")
        local.sql("CREATE TABLE s.t (id BIGINT NOT NULL, name STRING)")
        insert(local, [{"id": 1}])
        local.flush()
        insert(local, [{"id": 2}, {"id": 3}])
        [waiting] = (local.directory / "zerobus" / "main.s.t").glob("*.parquet")
    with local:
        assert local.zerobus()["waiting"] == {"main.s.t": 2}
        kept = waiting.read_bytes()
        local.flush()
        assert ids(local) == [1, 2, 3]
        waiting.write_bytes(kept)  # as if it had been killed between the commit and the file's removal
    with local:
        local.flush()
        assert ids(local) == [1, 2, 3]


# ── LastReport to fail ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["drop", "reset", "status", "error"])
def test_a_failure_comes_before_or_after_rows_are_taken(warehouse: Warehouse, action: str, when: str) -> None:
    bearer = f"Bearer {token(warehouse)}"
    warehouse.fail("ZerobusInsert", action, when=when, status=500)
    if action in ("drop", "reset"):
        with pytest.raises(ConnectionResetError):
            insert(warehouse, [{"id": 1}], Authorization=bearer)
    else:
        assert insert(warehouse, [{"id": 1}], Authorization=bearer).status == {"status": 500, "error": 400}[action]
    warehouse.flush()
    taken = [1] if when == "after" else []
    assert (ids(warehouse), warehouse.inserts("main.s.t")[-1]["rows"]) == (taken, len(taken))
    assert insert(warehouse, [{"id": 2}], Authorization=bearer).status == 200


@pytest.mark.parametrize("call", ["ZerobusInsert", "ZerobusToken", "GetTable"])
def test_any_status_can_be_asked_for_with_retry_after(warehouse: Warehouse, call: str) -> None:
    for status in (401, 403, 404, 413, 429, 500, 502, 503):
        warehouse.fail(call, "status", status=status, retry_after=7)
        if call == "ZerobusToken":
            answer = token_answer(warehouse)
        elif call == "GetTable":
            answer = table_answer(warehouse)
        else:
            answer = insert(warehouse, [{"id": 1}], Authorization="")
        assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
        assert answer.headers.get_content_type() == ("text/html" if status in (413, 502) else "application/json")


def test_of_a_batch_whose_answer_is_lost_a_part_may_have_been_taken(warehouse: Warehouse) -> None:
    warehouse.fail("ZerobusInsert", "drop", when="after", rows=3)
    with pytest.raises(ConnectionResetError):
        insert(warehouse, [{"id": i} for i in range(10)])
    warehouse.flush()
    assert (ids(warehouse), warehouse.inserts("main.s.t")[-1]["rows"]) == ([0, 1, 2], 3)


@pytest.mark.parametrize(("rows", "early"), [(None, 0), (4, 4)])
@pytest.mark.parametrize("action", ["drop", "late"])
def test_rows_may_be_late_all_or_a_part_answered_or_not(
    warehouse: Warehouse, action: str, rows: int | None, early: int
) -> None:
    bearer = f"Bearer {token(warehouse)}"
    warehouse.fail("ZerobusInsert", action, when="after", rows=rows, late=86400)
    if action == "late":
        assert insert(warehouse, [{"id": i} for i in range(10)], Authorization=bearer).status == 200
    else:
        with pytest.raises(ConnectionResetError):
            insert(warehouse, [{"id": i} for i in range(10)], Authorization=bearer)
    assert arrived(warehouse, early) == list(range(early))
    assert warehouse.zerobus()["waiting"] == {"main.s.t": 10 - early}
    warehouse.flush()
    assert ids(warehouse) == list(range(10))


def test_a_zombie_is_taken_after_its_connection_has_gone(warehouse: Warehouse) -> None:
    warehouse.zerobus(delay=0)
    warehouse.fail("ZerobusInsert", "zombie", seconds=0.5)
    with pytest.raises(ConnectionResetError):
        insert(warehouse, [{"id": 1}])
    assert warehouse.inserts("main.s.t")[-1]["rows"] == 0
    assert arrived(warehouse, 1) == [1]


def test_a_record_can_be_made_one_that_is_refused_wherever_it_stands(warehouse: Warehouse) -> None:
    warehouse.fail('"poison"', "error", message="The record can't be taken", times=-1)
    records = [{"id": i, "name": "x" * 100} for i in range(500)]
    assert insert(warehouse, [*records, {"id": 500, "name": "poison"}]).refused == (400, "INVALID_PARAMETER_VALUE")
    assert insert(warehouse, records).status == 200


def test_settings_and_rules_that_make_no_sense_are_refused(warehouse: Warehouse) -> None:
    for settings_given in ({"delays": 1}, {"refuse": "shout"}):
        with pytest.raises(Exception, match="400"):
            warehouse.zerobus(**settings_given)
    with pytest.raises(Exception, match="400"):
        warehouse.fail("ZerobusInsert", "drop", row=1)


# ── Values ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TYPES = """a TINYINT, b SMALLINT, c INT, d BIGINT, e FLOAT, f DOUBLE, g STRING, h BOOLEAN, i BINARY, j DATE, k TIMESTAMP,
    l TIMESTAMP_NTZ, m DECIMAL(38, 10), n DECIMAL(5, 0), o ARRAY<BIGINT>, p STRUCT<x: BIGINT, y: STRING>"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


def integers(bits: int) -> st.SearchStrategy[int]:
    """All integers of so many bits."""
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


def same(value: Any) -> tuple[Any, Any]:
    """A value whose JSON form is itself."""
    return value, value


def moments(value: datetime, aware: bool) -> tuple[Any, Any]:
    """A time's JSON form, and the time as it is read."""
    return (value.replace(tzinfo=UTC) - EPOCH) // MICRO, value.replace(tzinfo=UTC if aware else None)


def decimals(value: Decimal) -> tuple[Any, Any]:
    """A decimal's JSON form, and the decimal; both are exact, whatever the context's precision."""
    return f"{value:f}", value


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
VALUES: dict[str, st.SearchStrategy[tuple[Any, Any]]] = {
    **{name: integers(bits).map(same) for name, bits in zip("abcd", (8, 16, 32, 64), strict=True)},
    "e": st.floats(width=32, allow_nan=False, allow_infinity=False).map(same),
    "f": st.floats(allow_nan=False, allow_infinity=False).map(same),
    "g": TEXTS.map(same),
    "h": st.booleans().map(same),
    "i": st.binary(max_size=30).map(lambda value: (base64.b64encode(value).decode(), value)),
    "j": st.dates().map(lambda value: ((value - date(1970, 1, 1)).days, value)),
    "k": TIMES.map(lambda value: moments(value, True)),
    "l": TIMES.map(lambda value: moments(value, False)),
    "m": st.integers(-(10**38) + 1, 10**38 - 1).map(lambda value: decimals(Decimal(f"{value}E-10"))),
    "n": st.integers(-99999, 99999).map(lambda value: (str(value), Decimal(value))),
    "o": st.lists(integers(64), max_size=3).map(same),
    "p": st.fixed_dictionaries({"x": integers(64), "y": TEXTS}).map(same),
}


def bits(value: Any) -> Any:
    """A value that tells -0.0 from 0.0."""
    return struct.pack("d", value) if isinstance(value, float) else value


@settings(
    max_examples=examples(12),
    phases=[Phase.reuse, Phase.generate],  # each try takes a second: what fails is not made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.fixed_dictionaries({}, optional={k: st.none().map(same) | v for k, v in VALUES.items()}), min_size=1)
)
def test_values_of_every_type_arrive_exactly(warehouse: Warehouse, rows: list[dict[str, tuple[Any, Any]]]) -> None:
    warehouse.sql(f"CREATE OR REPLACE TABLE s.every (nr INT, {TYPES})")
    records = [{"nr": nr, **{name: pair[0] for name, pair in row.items()}} for nr, row in enumerate(rows)]
    assert insert(warehouse, records, "main.s.every").status == 200
    warehouse.flush()
    found = deltalake.DeltaTable(warehouse.table_path("s.every"))
    arrived_rows = sorted(python_rows(found), key=lambda row: row["nr"])
    assert [row["nr"] for row in arrived_rows] == list(range(len(rows)))
    for sent, came in zip(rows, arrived_rows, strict=True):
        differing = {k: (sent.get(k), came[k]) for k in VALUES if bits(sent.get(k, (None, None))[1]) != bits(came[k])}
        assert not differing


# ── The gateway ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gateway_passes_everything_on_below_its_limit(warehouse: Warehouse, tmp_path: Path) -> None:
    with Gateway(warehouse, limit=100_000) as gateway:
        assert insert(warehouse, [{"id": 1}], host=gateway.zerobus_endpoint).status == 200
        assert (gateway.requests, gateway.refused) == (1, 0)
        assert 0 < gateway.largest < 100
        assert gateway.passed == {"/zerobus/v1/tables/main.s.t/insert": 1}
        gateway.forget()
        with warehouse.connect(_port=gateway.port) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT '{'x' * 50_000}'")
            assert len(cursor.fetchone()[0]) == 50_000
            file = tmp_path / "file"
            file.write_bytes(bytes(range(256)) * 300)
            warehouse.sql("CREATE VOLUME IF NOT EXISTS main.s.v")
        with warehouse.connect(_port=gateway.port, staging_allowed_local_path=str(tmp_path)) as connection:
            connection.cursor().execute(f"PUT '{file}' INTO '/Volumes/main/s/v/file' OVERWRITE")
        assert (warehouse.directory / "volumes/main/s/v/file").read_bytes() == file.read_bytes()
        assert gateway.requests > 5 and gateway.largest == 76_800
        assert any(path.startswith("/staging/") for path in gateway.passed)


@pytest.mark.parametrize("refuse", [413, 400])
def test_a_gateway_answers_a_large_request_with_a_status_and_its_words(warehouse: Warehouse, refuse: int) -> None:
    before = warehouse.log()["requests"]
    with Gateway(warehouse, limit=1000, refuse=refuse) as gateway:
        answer = insert(warehouse, b"x" * 3_000_000, host=gateway.zerobus_endpoint, Authorization="")
        assert (answer.status, answer.headers.get_content_type()) == (refuse, "text/html")
        gateway.text = "Statement is too large"
        answer = insert(warehouse, b"x" * 1001, host=gateway.zerobus_endpoint, Authorization="")
        assert (answer.status, answer.body) == (refuse, b"Statement is too large")
        assert (gateway.requests, gateway.refused, gateway.largest) == (2, 2, 0)
        with pytest.raises(exc.RequestError) as caught, warehouse.connect(_port=gateway.port) as connection:
            connection.cursor().execute(f"SELECT '{'x' * 2000}'")
        assert caught.value.context["http-code"] == refuse
    assert warehouse.log()["requests"] <= before + 2


@pytest.mark.parametrize("refuse", ["close", "reset"])
def test_a_gateway_ends_the_connection_of_a_large_request(warehouse: Warehouse, refuse: str) -> None:
    with Gateway(warehouse, limit=1000, refuse=refuse) as gateway:
        for size in (1001, 3_000_000):
            with pytest.raises((ConnectionError, ssl.SSLError)):
                insert(warehouse, b"x" * size, host=gateway.zerobus_endpoint, Authorization="")
        with pytest.raises((exc.Error, HTTPError)), warehouse.connect(_port=gateway.port) as connection:
            connection.cursor().execute(f"SELECT '{'x' * 2000}'")
        assert gateway.refused >= 3


def test_a_gateways_limit_changes_while_it_runs(warehouse: Warehouse) -> None:
    body, bearer = json.dumps([{"id": i} for i in range(1000)]).encode(), f"Bearer {token(warehouse)}"
    with Gateway(warehouse) as gateway:

        def status() -> int:
            return insert(warehouse, body, host=gateway.zerobus_endpoint, Authorization=bearer).status

        assert (status(), gateway.largest) == (200, len(body))
        gateway.limit = len(body) - 1
        assert status() == 413
        gateway.limit, gateway.refuse = len(body), "reset"
        assert status() == 200
        gateway.limit = 10
        with pytest.raises((ConnectionError, ssl.SSLError)):
            status()
        assert (gateway.requests, gateway.refused) == (4, 2)
    assert arrived(warehouse, 2000) == sorted([*range(1000)] * 2)


@pytest.mark.parametrize("action", ["drop", "reset"])
def test_a_connection_that_the_warehouse_ends_ends_at_the_gateway_too(warehouse: Warehouse, action: str) -> None:
    with Gateway(warehouse) as gateway:
        warehouse.fail("ZerobusInsert", action, when="after")
        with pytest.raises(ConnectionResetError):
            insert(warehouse, [{"id": 1}], host=gateway.zerobus_endpoint)
    assert arrived(warehouse, 1) == [1]
