"""Object stores for tests: S3 (moto) and ADLS (Azurite), each a process of its own, and a gate that fails as told."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

AZURITE = "3.35.0"


class Missing(Exception):
    """A server can't be had on this machine; says why."""


@dataclasses.dataclass(frozen=True)
class Store:
    """A running object store.

    `root` is the URI of its bucket or container. `place` and `keys` are what a client needs: as environment
    variables, and as storage_options too. `others` are further keys, by name.
    """

    root: str
    url: str
    place: Mapping[str, str]
    keys: Mapping[str, str]
    others: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def client(self) -> dict[str, str]:
        """Place and keys."""
        return {**self.place, **self.keys}

    def at(self, url: str) -> Store:
        """The same store, reached at another address, such as a gate's."""
        place = {name: value.replace(self.url, url) for name, value in self.place.items()}
        return dataclasses.replace(self, url=url, place=place)


# === S3


@contextlib.contextmanager
def s3() -> Iterator[Store]:
    """An S3 server with one bucket. uv makes its environment at the first start, from the package index."""
    uv = shutil.which("uv")
    if not uv:
        raise Missing("no S3 server: uv is not installed")
    command = [uv, "run", "--quiet", "--script", str(Path(__file__).with_name("s3_server.py"))]
    with started(command, {}) as (line, complaints):
        if not line:
            raise Missing(f"no S3 server: moto did not start: {complaints()}")
        found = json.loads(line)
        place = {"AWS_ENDPOINT_URL": found["url"], "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        yield Store(
            f"s3://{found['bucket']}",
            found["url"],
            place,
            aws_keys(*found["writer"]),
            {"reader": aws_keys(*found["reader"])},
        )


def aws_keys(identity: str, secret: str) -> dict[str, str]:
    """The variables of one AWS access key."""
    return {"AWS_ACCESS_KEY_ID": identity, "AWS_SECRET_ACCESS_KEY": secret}


# === ADLS

ACCOUNT = "edgebox"
CONTAINER = "lake"
ACCOUNT_KEY = base64.b64encode(b"the key of a storage account that exists in tests only").decode()


@contextlib.contextmanager
def adls() -> Iterator[Store]:
    """Azurite's blob service with one container. npm installs it once into a cache, from the package index."""
    node = shutil.which("node")
    if not node:
        raise Missing("no Azurite: node is not installed")
    options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry"]
    command = [node, str(installed_azurite()), *options, "--inMemoryPersistence", "--silent"]
    accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"}
    with started(command, accounts, "successfully listens") as (line, complaints):
        if not line:
            raise Missing(f"no Azurite: it did not start: {complaints()}")
        url = line.split()[-1]
        create_container(url)
        # Azurite ignores `startFrom`, with which object_store 0.13 lists (apache/arrow-rs-object-store#623). LastReport that
        # this is an emulator, it does without; then the address has to come from this variable.
        place = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": url, "AZURE_ALLOW_HTTP": "true"}
        place["AZURE_STORAGE_ACCOUNT_NAME"] = ACCOUNT
        root = f"abfss://{CONTAINER}@{ACCOUNT}.dfs.core.windows.net"
        yield Store(root, url, place, {"AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY})


def installed_azurite() -> Path:
    """Azurite's blob service, installed where the caches of this user are."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = caches / "sqlite-to-databricks-uploader" / f"azurite-{AZURITE}"
    script = directory / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if script.exists():
        return script
    npm = shutil.which("npm")
    if not npm:
        raise Missing(f"no Azurite: npm is not installed, and {directory} does not exist")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(directory), f"azurite@{AZURITE}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    if not script.exists():
        raise Missing(f"no Azurite: npm could not install it: {result.stderr.strip()[-500:]}")
    return script


def create_container(url: str) -> None:
    """Make the container by Azure's REST interface, signed with the account's key (its "Shared Key")."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    signed = "\n".join([*lines, f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}", "restype:container"])
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    address = f"{url}/{ACCOUNT}/{CONTAINER}?restype=container"
    urllib.request.urlopen(urllib.request.Request(address, headers=headers, method="PUT")).close()


# === Processes


@contextlib.contextmanager
def started(command: list[str], environ: Mapping[str, str], sign: str = "") -> Iterator[tuple[str, Callable[[], str]]]:
    """A process: the first line of its output that contains `sign` ("" where it ended before), and its complaints."""
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**inherited, **environ})
    assert process.stdin and process.stdout and process.stderr
    try:
        line = next((line for line in process.stdout if sign in line), "")
        # Nobody reads on; a full pipe would stop a server that talks.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        complaints = process.stderr.read if not line else str
        if line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
        yield line.strip(), complaints
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(timeout=120)


# === The gate

Answer = tuple[int, str]


@dataclasses.dataclass
class Rule:
    """What happens to requests whose method and path match: see `Gate.fail` and `Gate.meanwhile`."""

    match: re.Pattern[str]
    times: int = 1_000_000
    before: Callable[[], object] = lambda: None
    answer: Answer | None = None
    silent: bool = False
    lost: bool = False
    after: Callable[[], object] = lambda: None


class Gate:
    """A proxy in front of an object store: records requests, and fails as told.

    `requests` are (method, path, headers with lower-case names). Without a store behind it, only rules answer.
    Only for clients in other processes: delta-rs holds Python's lock while it waits, so the gate could not answer it.
    """

    def __init__(self, store: str = "") -> None:
        self.store = urlsplit(store).netloc
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.rules: list[Rule] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Passing,), {"gate": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Where the gate listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def secure(self, certificate: Path) -> str:
        """Speak TLS from now on, with a certificate for localhost; where the gate listens then."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        return self.url.replace("http://127.0.0.1", "https://localhost")

    def fail(self, match: str, answer: Answer, times: int = 1_000_000) -> None:
        """Answer the next `times` requests whose "METHOD path" matches by status and text; the store is not asked."""
        self.rules.append(Rule(re.compile(match), times, answer=answer))

    def hang(self, match: str) -> None:
        """Never answer such requests."""
        self.rules.append(Rule(re.compile(match), silent=True))

    def lose(self, match: str, after: Callable[[], object] = lambda: None, times: int = 1) -> None:
        """Let the store carry such requests out, call `after`, and end the connection without an answer."""
        self.rules.append(Rule(re.compile(match), times, lost=True, after=after))

    def meanwhile(self, match: str, work: Callable[[], object]) -> None:
        """Do some work before the next such request is passed on."""
        self.rules.append(Rule(re.compile(match), 1, work))

    def rule_for(self, request: str) -> Rule | None:
        """The first rule that matches and is left."""
        with self._lock:
            for rule in self.rules:
                if rule.times > 0 and rule.match.search(request):
                    rule.times -= 1
                    return rule
        return None

    def wait_until_closed(self) -> None:
        """Keep a request waiting."""
        self._closing.wait(120)

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Passing(BaseHTTPRequestHandler):
    """One request on its way through the gate."""

    protocol_version = "HTTP/1.1"
    gate: Gate

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.gate.requests.append((self.command, self.path, headers))
        rule = self.gate.rule_for(f"{self.command} {self.path}") or Rule(re.compile(""))
        rule.before()
        self.close_connection = rule.silent or rule.lost
        if rule.silent:
            self.gate.wait_until_closed()
        elif rule.answer:
            self.answer(rule.answer[0], {"Content-Type": "application/xml"}, rule.answer[1].encode())
        else:
            self.pass_on(rule, headers, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def pass_on(self, rule: Rule, headers: Mapping[str, str], body: bytes) -> None:
        """Ask the store; the Host header stays, since it is signed. Its answer is passed back, or lost."""
        connection = http.client.HTTPConnection(self.gate.store, timeout=200)
        try:
            connection.request(self.command, self.path, body, {**headers, "connection": "close"})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        rule.after()
        if not rule.lost:
            self.answer(response.status, dict(response.getheaders()), content)

    def answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """Send an answer on; how it is cut into pieces is this connection's own affair."""
        own = {"connection", "transfer-encoding", "keep-alive", "date", "server"}
        length = headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": length}.items():
            if name.lower() not in own:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            # The client may have been ended.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay quiet."""
