"""What SECURITY.md says: secrets, files, hostile databases, TLS, names and values that look like SQL."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import random
import socket
import sqlite3
import ssl
import stat
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import sqlite_to_databricks_uploader as up
from boxes import PROGRAM, Box, rows_of

CANARY = "canary+4711/x="


def run(box: Box, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *flags], env={**box.environ, **environ}, capture_output=True, text=True, timeout=60
    )


def forms_of(secret: str) -> list[str]:
    """A secret as it may turn up."""
    return [secret, base64.b64encode(secret.encode()).decode(), urllib.parse.quote(secret, safe="")]


# --- Secrets ---


@pytest.mark.parametrize("name", [n for n, s in up.SETTINGS.items() if s.secret])
def test_a_secret_is_in_no_output_and_no_file_wherever_it_comes_from(box: Box, tmp_path: Path, name: str) -> None:
    box.sample()
    variable = up.SETTINGS[name].variables[0]
    file = tmp_path / "secret"
    file.write_text(CANARY + "\n")
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({name: CANARY}))
    ways: list[tuple[list[str], dict[str, str]]] = [
        ([], {variable: CANARY}),
        ([], {f"{variable}_FILE": str(file)}),
        (["--config", str(config)], {}),
        (["--config", str(config), "--interval", "x"], {}),
    ]
    for flags, environ in ways:
        done = run(box, "-vv", *flags, **environ)
        written = "".join(f.read_text(errors="replace") for f in (tmp_path / "state").rglob("*") if f.is_file())
        for form in forms_of(CANARY):
            assert form not in done.stdout + done.stderr + written


def test_secrets_have_no_flag() -> None:
    for name, setting in up.SETTINGS.items():
        if setting.secret:
            with pytest.raises(SystemExit) as ended:
                up.parse_arguments([f"--{name.replace('_', '-')}", CANARY])
            assert ended.value.code == 2


def test_storage_keys_are_blotted_out_of_log_lines(box: Box) -> None:
    box.sample()
    options = {"AWS_SECRET_ACCESS_KEY": CANARY, "AWS_ACCESS_KEY_ID": "id", "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
               "AWS_REGION": "x", "AWS_ALLOW_HTTP": "true", "timeout": "1s"}  # fmt: skip
    done = run(box, "-vv", LAKEHOUSE_PATH="s3://bucket/lake", STORAGE_OPTIONS=json.dumps(options))
    assert done.returncode == 1
    for form in forms_of(CANARY):
        assert form not in done.stdout + done.stderr


def test_what_signs_in_is_blotted_out_wherever_it_stands() -> None:
    """In addresses with a password, and where one secret begins as another does."""
    up.SECRETS[:] = ["abc", "abcdef"]
    assert up.redacted("abcdef http://me:pass@proxy:8080/ abc") == "*** http://me:***@proxy:8080/ ***"
    assert up.redacted("<SignatureProvided>s3</SignatureProvided>") == "<SignatureProvided>***</SignatureProvided>"
    assert up.redacted("407 Proxy-Authorization: Basic bWU6cGFzcw== X") == "407 Proxy-Authorization: Basic *** X"
    assert up.redacted("no X-Amz-Signature=0a1b</Error>") == "no X-Amz-Signature=***</Error>"
    assert (
        up.redacted("abfss://c@a.dfs.core.windows.net/a@b:c 10:30 x@y")
        == "abfss://c@a.dfs.core.windows.net/a@b:c 10:30 x@y"
    )
    environ = {
        "ARM_CLIENT_SECRET": "1",
        "DATABRICKS_PASSWORD": "2",
        "AWS_ACCESS_KEY_ID": "3",
        "GOOGLE_SERVICE_KEY": "4",
    }
    assert up.secrets_of(up.Config(storage_options={"sas": "5", "Password": "6", "region": "7"}), environ) == [
        None, None, None, "5", "6", "1", "2", "4"
    ]  # fmt: skip


def test_check_shows_no_secret(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.sample()
    box.run("--check", LAKEHOUSE_PATH=f"/proc/{CANARY}/lake", STORAGE_OPTIONS=json.dumps({"key": CANARY}))
    assert CANARY not in capsys.readouterr().out


def test_a_secret_file_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    for mode, warned in ((0o644, True), (0o600, False)):
        caplog.clear()
        file.chmod(mode)
        up.layer_from_environ({"DATABRICKS_TOKEN_FILE": str(file)})
        assert ("can be read by others" in caplog.text) == warned


@pytest.mark.parametrize("content", ["", "\n", "  "])
def test_an_empty_secret_file_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(up.ConfigError, match="DATABRICKS_TOKEN_FILE"):
        up.layer_from_environ({"DATABRICKS_TOKEN_FILE": str(file)})


# --- Files ---


def test_all_that_is_written_belongs_to_its_owner_alone_even_without_a_umask(box: Box) -> None:
    box.execute("CREATE TABLE t (time TEXT, v REAL)", "INSERT INTO t VALUES ('2026-01-01', 1)")
    before = os.umask(0)
    try:
        assert box.run() == 0
        box.execute("INSERT INTO t VALUES ('2026-01-01', 'poison')")
        assert box.run() == up.QUARANTINED
    finally:
        os.umask(before)
    folder = box.state_file.parent
    for file in [folder, *folder.rglob("*")]:
        if file.name != "cycle.json":  # holds times only
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_names_cannot_leave_the_state_directory(box: Box) -> None:
    name = '../../"; DROP TABLE x; --'
    table = name.replace('"', '""')
    box.execute(f'CREATE TABLE "{table}" (time TEXT, v INTEGER)', f"INSERT INTO \"{table}\" VALUES ('2026-01-01', 1)")
    assert box.run("--source-id", "../../../etc/x\x01") == 0
    assert box.run("--source-id", "../../../etc/x\x01") == 0
    assert box.arrived("v") == [(1,)]
    outside = {file for file in box.folder.iterdir()} - {box.folder / n for n in ("data", "state", "lake")}
    assert not outside


def test_a_huge_or_hostile_settings_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("a: b\n" * 500_000)
    with pytest.raises(up.ConfigError, match="too large"):
        up.layer_from_yaml(file)
    file.write_text("sqlite: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(up.ConfigError, match="not valid YAML"):
        up.layer_from_yaml(file)


# --- Hostile databases ---


def test_a_damaged_database_never_crashes_the_process(box: Box, tmp_path: Path) -> None:
    """Fifty files with random bytes in random places; each run ends with a status of ours."""
    box.sample()
    box.execute("DELETE FROM sensor_readings WHERE id > 600")
    with closing(sqlite3.connect(box.database)) as database:
        database.execute("VACUUM")
    sound, dice = box.database.read_bytes(), random.Random(7)
    for attempt in range(50):
        content = bytearray(sound)
        for _ in range(dice.choice([1, 10, 200])):
            content[dice.randrange(16 if attempt % 2 else 100, len(content))] = dice.randrange(256)
        box.database.write_bytes(content)
        status = box.run("--state-dir", str(tmp_path / f"s{attempt}"), LAKEHOUSE_PATH=str(tmp_path / f"l{attempt}"))
        assert status in (0, 1, 2, 3)


def test_a_views_functions_with_side_effects_are_not_run(box: Box) -> None:
    box.execute(
        "CREATE TABLE x (time TEXT)", "CREATE VIEW t AS SELECT '2026-01-01' AS time, load_extension('evil') AS v"
    )
    assert box.run("--table", "t") == 1
    assert not (box.folder / "lake").exists()


@pytest.mark.parametrize("seed", range(8))
def test_names_and_values_that_look_like_sql_arrive_as_they_are(box: Box, seed: int) -> None:
    dice = random.Random(seed)
    pieces = [
        "'",
        '"',
        "`",
        ";",
        "--",
        "/*",
        "*/",
        "\\",
        "\n",
        "{{",
        "${x}",
        ":name",
        "?",
        "%s",
        "ü",
        "\u2019",
        "\U0001f512",
        "x",
    ]
    columns = list({"".join(dice.choices(pieces, k=4)).strip() + str(i) for i in range(4)})
    values = ["".join(dice.choices([*pieces, "\0", "\x7f"], k=9)) for _ in columns]
    names = ", ".join('"' + column.replace('"', '""') + '" TEXT' for column in columns)
    with sqlite3.connect(box.database) as database:
        database.execute(f"CREATE TABLE t (time TEXT, {names})")
        database.execute(f"INSERT INTO t VALUES ('2026-01-01', {', '.join('?' * len(values))})", values)
    database.close()
    assert box.run() == 0
    table = box.table()
    arrived = table.schema().fields
    assert [field.name for field in arrived] == ["time", *(up.delta_name(column) for column in columns)]
    assert list(rows_of(table)[0][1:]) == values


# --- TLS ---


def self_signed(common_name: str, days: int) -> bytes:
    """Key and certificate in PEM, valid from ten days ago until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), dt.datetime.now(dt.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - dt.timedelta(days=10)).not_valid_after(now + dt.timedelta(days=days))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return plain + built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@contextmanager
def tls_server(folder: Path, common_name: str, days: int) -> Iterator[int]:
    """A server with a certificate of its own making, valid for so many days from some days ago."""
    certificate = folder / "server.pem"
    certificate.write_bytes(self_signed(common_name, days))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        stop.set()
        socket.create_connection(listening.getsockname()).close()
    thread.join(5)


@pytest.mark.parametrize(
    ("common_name", "days", "trusted", "said"),
    [
        ("localhost", 2, False, "self-signed"),
        ("elsewhere.example", 2, True, "hostname mismatch"),
        ("localhost", -1, True, "expired"),
    ],
    ids=["self-signed", "wrong host", "expired"],
)
def test_a_certificate_that_is_not_right_is_refused_and_gets_no_token(
    box: Box, tmp_path: Path, common_name: str, days: int, trusted: bool, said: str
) -> None:
    box.sample()
    other = tmp_path / "other"
    other.mkdir()
    with tls_server(tmp_path, common_name, days) as port, tls_server(other, "other", 2):
        environ = {
            "LAKEHOUSE_PATH": "",
            "DATABRICKS_HOST": f"localhost:{port}",
            "DATABRICKS_HTTP_PATH": "/sql/1.0/warehouses/x",
            "DATABRICKS_DATABASE": "s",
            "DATABRICKS_TOKEN": CANARY,
            "DATABRICKS_CA_FILE": str((tmp_path if trusted else other) / "server.pem"),
        }
        done = run(box, **environ)
    assert done.returncode == 1
    assert "certificate" in done.stderr
    assert said in done.stderr.lower()
    assert CANARY not in done.stderr


@pytest.mark.parametrize(
    "host", ["http://adb-1.azuredatabricks.net", "evil.example", "adb.databricks.com.evil.example"]
)
def test_a_token_goes_to_no_other_host(box: Box, host: str) -> None:
    box.sample()
    environ = {
        "LAKEHOUSE_PATH": "",
        "DATABRICKS_HOST": host,
        "DATABRICKS_WAREHOUSE_ID": "x",
        "DATABRICKS_DATABASE": "s",
    }
    done = run(box, **{**environ, "DATABRICKS_TOKEN": CANARY})
    assert done.returncode == 2
    assert CANARY not in done.stderr


def test_nothing_in_the_settings_switches_verification_off() -> None:
    for name in up.SETTINGS:
        assert not any(word in name for word in ("verify", "insecure", "no_tls", "skip"))


def test_what_writes_the_log_does_not_show_the_environment_itself() -> None:
    assert "hunter2" not in repr(up.LogLines(True, {"DATABRICKS_TOKEN": "hunter2"}))
