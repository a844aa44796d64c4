"""Delta by path on S3 and ADLS: real stores in processes of their own, whole runs, real sockets between them."""

from __future__ import annotations

import copy
import json
import os
import queue
import re
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable

import object_stores
import sensor_table
import sqlite_to_databricks_uploader as up
from adversary import Stage
from boxes import PROGRAM, SAMPLE, Box, interrupted_at, rows_of, same_rows
from object_stores import Gate, Store
from test_security import self_signed
from test_warehouse import proxy

# The servers of the stores come from package indexes when they are started for the first time.
pytestmark = pytest.mark.network

READINGS = ", ".join(name for name in sensor_table.COLUMNS if name != "timestamp")
COMMIT = r"PUT \S*/_delta_log/\d+\.json"
FIRST_COMMIT = r"PUT \S*/_delta_log/0+\.json"
DATA = r"PUT \S*\.parquet"


class StoreBox(Box):
    """An edge box whose lakehouse lies in an object store; its own variables name no store and hold no keys."""

    def __init__(self, folder: Path, store: Store, name: str = "lakehouse") -> None:
        super().__init__(folder)
        self.store = store
        self.root = f"{store.root}/{folder.name}/{name}"
        self.environ["LAKEHOUSE_PATH"] = self.root

    def table(self, prefix: str = "raw_") -> DeltaTable:
        """The Delta table in the store."""
        return DeltaTable(f"{self.root}/{prefix}readings", storage_options=self.store.client)

    def at(self, url: str) -> StoreBox:
        """The same box, whose processes find the store at another address, such as a gate's."""
        other = copy.copy(self)
        other.store = self.store.at(url)
        return other

    def start(self, *flags: str, **environ: str) -> subprocess.Popen[str]:
        """Start the uploader as a process, with the variables of its store."""
        command, pipe = [*PROGRAM, *flags], subprocess.PIPE
        return subprocess.Popen(command, env=self.variables(environ), stdout=pipe, stderr=pipe, text=True)

    def variables(self, more: Mapping[str, str]) -> dict[str, str]:
        """The variables of the box, its store and this process; those of value "" are left out."""
        variables = {**os.environ, **self.environ, **self.store.client, **more}
        return {name: value for name, value in variables.items() if value}

    def end(self, *flags: str, **environ: str) -> tuple[int, str]:
        """The exit status of such a process, and everything that it writes; it has loaded all before."""
        with Stage(self.folder) as stage:
            return stage.run(self.variables(environ), *flags), stage.said()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and output of a process. A minute is far more than any of them needs."""
    with process:
        output, errors = process.communicate(timeout=200)
    return process.returncode, output + errors


@pytest.fixture(scope="module")
def s3() -> Iterator[Store]:
    yield from running(object_stores.s3())


@pytest.fixture(scope="module")
def adls() -> Iterator[Store]:
    for store in running(object_stores.adls()):
        with pytest.MonkeyPatch.context() as patch:
            # The one variable that can't be given as a storage option.
            patch.setenv("AZURITE_BLOB_STORAGE_URL", store.url)
            yield store


def running(start: AbstractContextManager[Store]) -> Iterator[Store]:
    """A store, or a skip that says what is missing."""
    with ExitStack() as stack:
        try:
            store = stack.enter_context(start)
        except object_stores.Missing as missing:
            pytest.skip(str(missing))
        yield store


@pytest.fixture(params=["s3", "adls"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each of the stores."""
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def far(tmp_path: Path, store: Store) -> StoreBox:
    """A box with the sample, whose lakehouse lies in each of the stores."""
    box = StoreBox(tmp_path, store)
    box.sample()
    return box


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between client and store, and none of this machine's own keys."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith(("AWS_", "AZURE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def exact(box: StoreBox) -> bool:
    """Whether the table holds the source's rows, each once."""
    return same_rows(box.arrived(READINGS), box.source(READINGS))


# === On the way to the store


@pytest.mark.parametrize("by", ["SSL_CERT_FILE", "certificate_path"])
def test_a_store_with_a_private_authority_is_reached_through_a_proxy(tmp_path: Path, s3: Store, by: str) -> None:
    """Without its certificate it is not trusted."""
    box, certificate = StoreBox(tmp_path, s3), tmp_path / "private.pem"
    box.sample()
    certificate.write_bytes(self_signed("localhost", 10))
    with proxy() as (address, asked), Gate(s3.url) as gate:
        url = gate.secure(certificate)
        elsewhere = {"AWS_ALLOW_HTTP": "", "HTTPS_PROXY": address, "NO_PROXY": "-"}
        options = {"max_retries": "0"}
        status, said = box.at(url).end("--check", **elsewhere, STORAGE_OPTIONS=json.dumps(options))
        assert (status, gate.requests) == (1, []), said
        trusted = {"SSL_CERT_FILE": str(certificate)} if by == "SSL_CERT_FILE" else {}
        options |= {} if trusted else {"certificate_path": str(certificate)}
        status, said = box.at(url).end(**elsewhere, **trusted, STORAGE_OPTIONS=json.dumps(options))
        assert (status, set(asked)) == (0, {url.removeprefix("https://")}), said
    assert exact(box)


# === Whole runs


@pytest.mark.parametrize("way", ["environment", "storage_options"])
def test_the_sample_arrives_exactly_and_a_second_run_adds_nothing(
    far: StoreBox, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = far.folder / "config.yaml"
    config.write_text(yaml.safe_dump({"storage_options": typed(far.store.client)} if way == "storage_options" else {}))
    for name, value in far.store.client.items() if way == "environment" else ():
        monkeypatch.setenv(name, value)
    assert far.run("--config", str(config)) == 0
    assert exact(far)
    version = far.table().version()
    assert far.run("--config", str(config)) == 0
    assert (exact(far), far.table().version()) == (True, version)


def typed(options: Mapping[str, str]) -> dict[str, str | bool]:
    """Options as a person writes them in YAML: true without quotes."""
    return {name: True if value == "true" else value for name, value in options.items()}


@pytest.mark.parametrize("scheme", ["az://lake", "abfs://lake@edgebox.dfs.core.windows.net", "adl://lake"])
def test_adls_is_known_by_its_other_schemes_too(adls: Store, tmp_path: Path, scheme: str) -> None:
    box = StoreBox(tmp_path, adls)
    box.sample()
    root = box.root.replace(adls.root, scheme)
    assert box.end(LAKEHOUSE_PATH=root)[0] == 0
    assert exact(box)


def test_the_earlier_system_s_configuration_runs_unchanged(s3: Store, tmp_path: Path) -> None:
    """Its four keys, with the address and the keys of S3 in the environment."""
    table = f"{s3.root}/{tmp_path.name}/delta/sensor_readings"
    config = tmp_path / "uploader-config.yaml"
    config.write_text(f'sqlite: "{SAMPLE}"\ntable_path: "{table}"\nstate_dir: "{tmp_path}/state"\ninterval: 300\n')
    box = StoreBox(tmp_path, s3)
    status, output = box.end(
        "--config", str(config), SQLITE_PATH="", LAKEHOUSE_PATH="", DATABRICKS_TABLE="", STATE_DIR=""
    )
    assert status == 0, output
    assert DeltaTable(table, storage_options=s3.client).count() == 3000


def test_a_profile_of_aws_is_found_in_the_home_directory(s3: Store, tmp_path: Path) -> None:
    """For an address of one's own it has to be asked for; for AWS it is read by itself."""
    box = StoreBox(tmp_path, s3)
    box.sample()
    (tmp_path / ".aws").mkdir()
    names = (name.lower() + " = " + value for name, value in s3.keys.items())
    (tmp_path / ".aws" / "credentials").write_text("\n".join(["[edge]", *names]))
    profile = {"HOME": str(tmp_path), "AWS_PROFILE": "edge", "AWS_FORCE_CREDENTIAL_LOAD": "true"}
    status, output = box.end(**profile, **dict.fromkeys(s3.keys, ""))
    assert status == 0, output
    assert exact(box)


def test_check_and_queries_work_on_a_store(far: StoreBox) -> None:
    assert far.end()[0] == 0
    status, output = far.end("--check")
    assert status == 0, output
    assert "raw_readings can be reached, 26 columns" in output
    assert "Whether it may be written to, only an upload shows" in output
    status, output = far.end("--run-query", "SELECT count(*) AS n FROM raw_readings", "--format", "json", "-q")
    assert (status, output) == (0, '{"n": 3000}\n')


# === Exactly once


@pytest.mark.parametrize("step", ["send", "save"])
def test_a_run_that_ends_between_commit_and_confirmation_sends_nothing_twice(
    far: StoreBox, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = json.dumps(far.store.client)
    owner, call = (up.DeltaTarget, 2) if step == "send" else (up.StateFile, 3)
    interrupted_at(owner, step, "after", call, monkeypatch.setattr)
    with pytest.raises(KeyboardInterrupt):
        far.run("--batch-rows", "1000", STORAGE_OPTIONS=options)
    monkeypatch.undo()
    assert far.run(STORAGE_OPTIONS=options) == 0
    assert exact(far)


@pytest.mark.parametrize("moment", [DATA, FIRST_COMMIT, r"PUT \S*/_delta_log/0+1\.json"])
def test_a_process_killed_while_the_store_answers_neither_loses_nor_doubles(far: StoreBox, moment: str) -> None:
    """The store has carried the request out; kill -9 comes before its answer."""
    victims: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
    with Gate(far.store.url) as gate:
        gate.lose(moment, after=lambda: victims.get(timeout=30).kill())
        process = far.at(gate.url).start("--batch-rows", "1000")
        victims.put(process)
        assert ended(process)[0] == -9
    assert far.end("--batch-rows", "1000")[0] == 0
    assert exact(far)


@pytest.mark.parametrize("moment", [DATA, COMMIT])
def test_an_answer_that_is_lost_neither_loses_nor_doubles(far: StoreBox, moment: str) -> None:
    """The client repeats the request by itself, and finds its own commit in its way."""
    with Gate(far.store.url) as gate:
        gate.lose(moment, times=2)
        status, output = far.at(gate.url).end("--batch-rows", "1000")
    assert status == 0, output
    assert exact(far)
    assert [commit["operationMetrics"]["num_added_rows"] for commit in far.table().history()] == [1000, 1000, 1000]


def test_a_commit_whose_answer_is_lost_with_the_store_is_found_by_the_next_run(s3: Store, tmp_path: Path) -> None:
    """Also where more rows came in since."""
    box = StoreBox(tmp_path, s3)
    box.sample()
    with Gate(s3.url) as gate:
        gate.lose(COMMIT, after=lambda: gate.lose("", times=1_000_000))
        status, output = box.at(gate.url).end("--batch-rows", "2000", STORAGE_OPTIONS='{"max_retries": "1"}')
    assert status == 1, output
    assert box.end()[0] == 0
    assert exact(box)


def test_four_writers_at_once_come_out_exact(store: Store, stage: Stage, tmp_path: Path) -> None:
    boxes = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        boxes.append(StoreBox(tmp_path / str(number), store))
        boxes[-1].environ["LAKEHOUSE_PATH"] = boxes[-1].root = f"{store.root}/{tmp_path.name}"
        sensor_table.create(boxes[-1].database, 600 + number, index=False)
    with Gate(store.url) as gate:
        environs = [box.at(gate.url).variables({"UPLOAD_BATCH_ROWS": "200"}) for box in boxes]
        consoles = [tmp_path / f"console{number}.txt" for number in range(4)]
        statuses = stage.run_together(dict(zip(consoles, environs, strict=True)))
        assert statuses == [0] * 4, [console.read_text() for console in consoles]
        commits = [headers for method, path, headers in gate.requests if method == "PUT" and path.endswith(".json")]
    assert same_rows(boxes[0].arrived(READINGS), [row for box in boxes for row in box.source(READINGS)])
    assert len(commits) >= 3 + 4 + 4 + 4
    assert all(headers.get("if-none-match") == "*" for headers in commits)


def test_two_boxes_that_make_the_table_at_the_same_moment_keep_each_other_s_columns(s3: Store, tmp_path: Path) -> None:
    """delta-rs would repeat the second one's commit as version 1, with its columns in the place of the first one's."""
    more, fewer = pair(tmp_path, s3, "extra TEXT, v INTEGER", "v INTEGER")
    with Gate(s3.url) as gate:
        gate.meanwhile(FIRST_COMMIT, more.end)
        assert fewer.at(gate.url).end()[0] == 0
    assert fewer.arrived("v, extra") == [(1, "one"), (2, None)]


def test_two_boxes_that_make_the_table_with_other_types_wait_for_a_cycle(s3: Store, tmp_path: Path) -> None:
    more, fewer = pair(tmp_path, s3, "extra TEXT, v TEXT", "v INTEGER")
    with Gate(s3.url) as gate:
        gate.meanwhile(FIRST_COMMIT, more.end)
        status, output = fewer.at(gate.url).end()
    assert status == 1
    assert "another writer changed the column v meanwhile" in output
    assert fewer.end()[0] == 0
    assert fewer.arrived("v, extra") == [("1", "one"), ("2", None)]


def pair(folder: Path, store: Store, first: str, second: str) -> tuple[StoreBox, StoreBox]:
    """Two boxes with one row each, for one table that does not exist yet, whose columns differ."""
    boxes = []
    for number, columns in enumerate((first, second), 1):
        (folder / str(number)).mkdir()
        box = StoreBox(folder / str(number), store)
        box.environ["LAKEHOUSE_PATH"] = box.root = f"{store.root}/{folder.name}"
        row = f"INSERT INTO t (time, v) VALUES ('2026-01-01', {number})"
        box.execute(f"CREATE TABLE t (time TEXT, {columns})", row)
        boxes.append(box)
    boxes[0].execute("UPDATE t SET extra = 'one'")
    return boxes[0], boxes[1]


@pytest.mark.parametrize("name", ["AWS_S3_ALLOW_UNSAFE_RENAME", "AWS_S3_LOCKING_PROVIDER"])
@pytest.mark.parametrize("way", ["environment", "storage_options"])
def test_options_that_once_made_writers_unsafe_do_nothing(s3: Store, tmp_path: Path, name: str, way: str) -> None:
    box = StoreBox(tmp_path, s3)
    box.sample()
    value = "dynamodb" if name.endswith("PROVIDER") else "true"
    environ = {name: value} if way == "environment" else {"STORAGE_OPTIONS": json.dumps({name: value})}
    with Gate(s3.url) as gate:
        status, _ = box.at(gate.url).end(**environ)
        commits = [headers for method, path, headers in gate.requests if method == "PUT" and path.endswith(".json")]
    assert status == 0
    assert [headers.get("if-none-match") for headers in commits] == ["*"]


def test_a_store_that_is_busy_is_asked_again(far: StoreBox) -> None:
    with Gate(far.store.url) as gate:
        gate.fail("PUT", (503, xml("SlowDown", "Please reduce your request rate.")), times=3)
        assert far.at(gate.url).end()[0] == 0
    assert exact(far)


# === Errors: clear, soon, without secrets; nothing is lost and no state is left that stands in the way


def xml(code: str, message: str) -> str:
    """An error as S3 and ADLS answer it."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'


def refused(box: StoreBox, *words: str, **environ: str) -> None:
    """Run a box that can't deliver: one line says why, the next what to do; no secret is shown, no state left."""
    before = box.state_file.read_bytes() if box.state_file.exists() else b""
    status, output = box.end("--quiet", **environ)
    assert status == 1, output
    first, *others = output.splitlines()
    assert " ERROR " in first and others and all(line.startswith("  ") for line in others), output
    for word in words:
        assert word in output
    for name, value in {**box.store.client, **environ}.items():
        assert not value or not re.search("SECRET|KEY|TOKEN", name) or name.endswith("_ID") or value not in output
    assert (box.state_file.read_bytes() if box.state_file.exists() else b"") == before


def delivers(box: StoreBox) -> bool:
    """Run a box as it should be; whether all rows arrive."""
    return box.end()[0] == 0 and exact(box)


def test_a_bucket_or_container_that_does_not_exist_is_named(far: StoreBox) -> None:
    wrong = far.root.replace("://lake", "://lakes")
    code = "NoSuchBucket" if wrong.startswith("s3") else "ContainerNotFound"
    refused(far, f"{wrong}/raw_readings", code, "does not exist: check", LAKEHOUSE_PATH=wrong)
    assert delivers(far), "a slip of the pen has to be mended by mending it"


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-wrong-secret"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "InvalidAccessKeyId"),
    ],
)
def test_a_wrong_key_of_s3_is_told(s3: Store, tmp_path: Path, keys: dict[str, str], code: str) -> None:
    box = StoreBox(tmp_path, s3)
    box.sample()
    refused(box, code, "credentials are wrong: check the AWS_*", **keys)
    assert delivers(box)


SAS = "sv=2021-08-06&ss=b&srt=sco&sp=rwdlac&se=2020-01-01T00:00:00Z&sig=c2lnbmF0dXJlLW9mLWEtc2hhcmVkLWFjY2Vzcw%3D%3D"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"AZURE_STORAGE_ACCOUNT_KEY": "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXk="}, "credentials are wrong"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "not base64 not base64 not base64"}, "credentials are wrong"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "", "AZURE_STORAGE_SAS_TOKEN": SAS}, "credentials are wrong"),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "", "AZURE_STORAGE_USE_EMULATOR": ""}, "Set AZURE_STORAGE_ACCOUNT_NAME"),
    ],
    ids=["another key", "no key", "expired signature", "no account"],
)
def test_a_wrong_key_of_adls_is_told(adls: Store, tmp_path: Path, keys: dict[str, str], words: str) -> None:
    box = StoreBox(tmp_path, adls)
    box.sample()
    root = box.root.replace(adls.root, "az://lake")
    refused(box, words, **keys, **({"LAKEHOUSE_PATH": root} if "AZURE_STORAGE_ACCOUNT_NAME" in keys else {}))


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (400, xml("ExpiredToken", "The provided token has expired."), "credentials have expired"),
        (403, xml("RequestTimeTooSkewed", "The difference is too large."), "clock"),
        (301, xml("PermanentRedirect", "Use another endpoint."), "another region: set AWS_REGION"),
        (400, xml("AuthorizationHeaderMalformed", "expecting 'eu-west-1'"), "another region: set AWS_REGION"),
        (403, "", "may not do this"),
    ],
)
def test_what_aws_answers_is_told_in_its_words_and_ours(
    s3: Store, tmp_path: Path, status: int, text: str, words: str
) -> None:
    """Answers of AWS that the S3 server here does not give."""
    box = StoreBox(tmp_path, s3)
    box.sample()
    with Gate(s3.url) as gate:
        gate.fail(".", (status, text))
        refused(box.at(gate.url), words)


def test_a_key_that_may_only_read_is_told_and_the_rows_wait(s3: Store, tmp_path: Path) -> None:
    box = StoreBox(tmp_path, s3)
    box.sample()
    status, output = box.end("--quiet", **s3.others["reader"])
    assert status == 1
    assert "AccessDenied" in output and "may not do this" in output
    assert box.state()["position"] == {"rowid": None}
    assert delivers(box)


def test_credentials_that_expire_between_two_commits_lose_nothing(s3: Store, tmp_path: Path) -> None:
    box = StoreBox(tmp_path, s3)
    box.sample()
    with Gate(s3.url) as gate:
        gate.fail(r"PUT \S*/_delta_log/0+1\.json", (400, xml("ExpiredToken", "The provided token has expired.")))
        status, output = box.at(gate.url).end("--batch-rows", "1000")
    assert status == 1
    assert "credentials have expired" in output
    assert len(box.arrived("id")) == 1000
    assert delivers(box)


def test_a_variable_that_is_taken_for_the_session_token_is_named(s3: Store, tmp_path: Path) -> None:
    box = StoreBox(tmp_path, s3)
    box.sample()
    refused(box, "InvalidToken", "a variable named TOKEN", TOKEN="something of another program")


@pytest.mark.parametrize("damage", ["cut off", "first lost", "gap", "no checkpoint", "bad checkpoint"])
def test_a_log_that_is_damaged_or_not_whole_is_told_in_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """As by a copy that was broken off; what delta-rs says has a trace of its calls."""
    box = Box(tmp_path)
    box.execute("CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (?)", rows=[(1,), (2,), (3,)])
    assert box.run(UPLOAD_BATCH_ROWS="1") == 0
    box.execute("INSERT INTO t VALUES (4)")
    table = box.folder / "lake" / "raw_readings"
    first, second, last = sorted((table / "_delta_log").glob("*.json"))
    if "checkpoint" in damage:
        DeltaTable(table).create_checkpoint()
        [checkpoint] = (table / "_delta_log").glob("*.parquet")
        checkpoint.unlink() if damage == "no checkpoint" else checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    elif damage == "cut off":
        last.write_bytes(last.read_bytes()[:100])
    else:
        (first if damage == "first lost" else second).unlink()
    assert box.run() == 1
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "_delta_log is damaged or not whole" in said and "unknown>" not in said and len(said) < 400


def test_a_table_without_columns_is_told(tmp_path: Path) -> None:
    """What Databricks' CREATE TABLE … LOCATION makes on an empty path; delta-rs can't open it."""
    log = tmp_path / "lake" / "raw_readings" / "_delta_log"
    log.mkdir(parents=True)
    schema = {"schemaString": json.dumps({"type": "struct", "fields": []}), "partitionColumns": [], "configuration": {}}
    meta = {"metaData": {"id": "0", "format": {"provider": "parquet", "options": {}}, **schema}}
    actions = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, meta]
    (log / f"{0:020d}.json").write_text("\n".join(map(json.dumps, actions)))
    box = Box(tmp_path)
    box.sample()
    command = PROGRAM
    done = subprocess.run(command, env=box.environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "made without columns" in done.stderr


def test_an_address_where_nobody_listens_is_told(far: StoreBox) -> None:
    refused(far.at("http://127.0.0.1:9"), "Connection refused", "can't be reached: check the network")


def test_an_unencrypted_address_has_to_be_allowed(s3: Store, tmp_path: Path) -> None:
    box = StoreBox(tmp_path, s3)
    box.sample()
    refused(box, "needs AWS_ALLOW_HTTP=true or AZURE_ALLOW_HTTP", AWS_ALLOW_HTTP="")


@pytest.mark.parametrize(
    "uri, option",
    [
        *((uri, {}) for uri in ("s3:///t", "hdfs://x/t", "viewfs://x/t")),
        *((uri, {}) for uri in ("lakefs://x/y/z", "hf://x/y", "oss://x/t", "b2://x/t", "swift://x")),
        ("uc://a.b.c", {"databricks_host": "-"}),
        *(("s3://b/t", {name: "\u00a0"}) for name in ("timeout", "max_retries", "allow_http", "proxy_url")),
        *(("s3://b/t", {name: "x y"}) for name in ("aws_endpoint", "aws_conditional_put", "aws_checksum_algorithm")),
        ("s3://b/t", {"aws_server_side_encryption": "x"}), ("s3://b/t", {"user_agent": "a\nb"}),
        ("abfss://c@x.dfs.core.windows.net/t", {"azure_storage_sas_token": "?x"}),
    ],
)  # fmt: skip
def test_an_address_or_option_that_delta_rs_cannot_take_needs_a_person(uri: str, option: dict[str, str]) -> None:
    """It said that the next cycle tries again, for ever."""
    keys = {"AWS_REGION": "x", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    with pytest.raises(up.TargetError) as refused:
        up.DeltaTarget(uri, {**keys, **option}).table()
    assert refused.value.hint == up.UNFIT_STORE


def test_a_store_that_does_not_answer_is_given_up_soon(s3: Store, adls: Store, tmp_path: Path) -> None:
    """Also the service that gives keys to machines in the cloud, which is asked where no keys are set."""
    with Gate() as gate:
        gate.hang(".")
        no_keys = dict.fromkeys(s3.keys, "") | {"AWS_METADATA_ENDPOINT": gate.url}
        processes = []
        cases: list[tuple[Store, dict[str, str]]] = [(s3.at(gate.url), {}), (adls.at(gate.url), {}), (s3, no_keys)]
        for number, (store, environ) in enumerate(cases):
            (tmp_path / str(number)).mkdir()
            box = StoreBox(tmp_path / str(number), store)
            box.sample()
            processes.append(box.start("--quiet", **environ))
        results = [ended(process) for process in processes]
    assert [status for status, _ in results] == [1, 1, 1], results
    assert "The store did not answer in time" in results[0][1]
    assert "The store did not answer in time" in results[1][1]
    assert "No storage credentials were found: set AWS_ACCESS_KEY_ID" in results[2][1]


def test_a_query_that_can_not_reach_its_store_is_told_alike(far: StoreBox) -> None:
    wrong = far.root.replace("://lake", "://lakes")
    status, output = far.end("--run-query", "INFO", "-q", LAKEHOUSE_PATH=wrong)
    assert status == 1
    assert "does not exist: check table_path or lakehouse_path" in output
    assert "Traceback" not in output


def test_storage_options_that_are_malformed_are_not_shown(s3: Store, tmp_path: Path) -> None:
    box = StoreBox(tmp_path, s3)
    status, output = box.end(STORAGE_OPTIONS='{"AWS_SECRET_ACCESS_KEY": "hunter2hunter2"')
    assert status == 2
    assert "STORAGE_OPTIONS: malformed JSON" in output
    assert "hunter2" not in output


# --- Files ---


def written(folder: Path, columns: dict[str, tuple[list[Any], str]]) -> int:
    """The size of the file that rows become, in bytes; they are what was written."""
    page = up.arrow_table({name: up.array_of(values, kind) for name, (values, kind) in columns.items()})
    up.write_pages(str(folder), iter([page, page]))
    table = DeltaTable(str(folder))
    found = rows_of(table)
    assert same_rows(found, 2 * list(zip(*(values for values, _ in columns.values()), strict=True)))
    return sum(Path(file).stat().st_size for file in table.file_uris())


def test_delta_rs_reads_no_more_rows_once_writing_has_failed(tmp_path: Path) -> None:
    """By itself it does, while its error is handled: of a database that is in use for something else then."""
    up.write_pages(str(tmp_path / "t"), iter([up.arrow_table({"v": up.array_of([1], "bigint")})]))
    DeltaTable(tmp_path / "t").alter.add_constraint({"positive": "v > 0"})

    def pages() -> Generator[Any]:
        for _ in range(50):
            yield up.arrow_table({"v": up.array_of([-1] * 1000, "bigint")})
            time.sleep(0.05)

    read: Any = pages()
    with pytest.raises(up.RefusedValuesError):
        up.write_pages(str(tmp_path / "t"), read, DeltaTable(tmp_path / "t"))
    assert not read.gi_running


@pytest.mark.parametrize("kind", ["bigint", "double", "string"])
def test_values_that_are_all_different_make_no_larger_file_by_a_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make: dict[str, Callable[[int], Any]] = {"bigint": int, "double": lambda n: n / 7, "string": lambda n: f"{n:032}"}
    columns: dict[str, tuple[list[Any], str]] = {
        "different": ([make[kind](n) for n in range(20_000)], kind), "same": ([n % 4 for n in range(20_000)], "bigint"),
        "none": ([None] * 20_000, kind),
    }  # fmt: skip
    size = written(tmp_path / "now", columns)
    monkeypatch.setattr(up, "varied_columns", lambda page: [])
    assert size < 0.9 * written(tmp_path / "before", columns)


def test_values_that_repeat_keep_their_dictionary() -> None:
    """As do those of a few rows: nothing is known of what follows."""
    few, many = [(n % 97, n) for n in range(999)], [(n % 97, n) for n in range(1000)]
    for rows, varied in ((few, []), (many, ["n"])):
        sensor, n = zip(*rows, strict=True)
        page = up.arrow_table({"sensor": up.array_of(list(sensor), "bigint"), "n": up.array_of(list(n), "bigint")})
        assert up.varied_columns(page) == varied
