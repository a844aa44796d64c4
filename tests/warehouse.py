"""The local SQL warehouse for tests: a process of its own, spoken to by the real connector."""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent.parent / "demo-network" / "local_warehouse.py"


def trust_the_given() -> None:
    """Load no authorities of the system's: every connector's connection would, for 30 ms, and no test needs them."""
    setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)  # noqa: B010 - typed as a method


# A service principal for tests, whose secret has characters that go wrong where they aren't quoted.
PRINCIPAL = "box:s3cret/+ %41&?"

# How statements begin that leave something in their session.
OF_ITS_SESSION = re.compile(r"\s*(USE|SET|CREATE\s+(OR\s+REPLACE\s+)?TEMP)", re.IGNORECASE)

# How one begins that makes a table whose name needs no quotes.
MAKES_A_TABLE = re.compile(r"\s*CREATE TABLE ([\w.]+)", re.IGNORECASE)

# Warehouses that nobody uses any more, whose processes run: a start takes as long as many tests.
IDLE: list[Warehouse] = []


class Warehouse:
    """A running local warehouse: where it is, what it was asked, and how it is told to fail.

    `directory` holds its certificates, tables (`tables/<catalog>/<schema>/<table>`), volumes and log.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.host = "localhost"
        self.port = 0
        self.http_path = ""
        self.token = ""
        self.ca_file = directory / "ca.pem"
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.made: list[str] = []
        self._kept: Any = None
        self._alone = threading.Lock()

    def start(self) -> Warehouse:
        """Start a process and wait for its line; the first start on a machine installs its environment."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = ["uv", "run", "--quiet", "--script", str(SCRIPT), *self._arguments()]
        inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        with (self.directory / "console.txt").open("ab") as console:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=console, text=True, env=inherited
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the local warehouse did not start: {(self.directory / 'console.txt').read_text()}"
        self._learn(json.loads(line))
        return self

    def _arguments(self) -> list[str]:
        usual = ["--directory", str(self.directory), "--quiet", "--until-stdin-closes", "--port", str(self.port)]
        return [*usual, *self._options]

    def _learn(self, ready: dict[str, Any]) -> None:
        self.port, self.http_path = ready["port"], ready["http_path"]
        self.token = Path(ready["token_file"]).read_text()

    def stop(self) -> int:
        """End the process; returns its exit status."""
        self._let_go()
        if self._process is None:
            return 0
        self._process.terminate()
        status = self._process.wait(timeout=120)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process = None
        return status

    def __enter__(self) -> Warehouse:
        """Take over an idle process, which then begins anew. Without one, and where this is a restart, start one."""
        if self in IDLE:
            IDLE.remove(self)
            self.stop()
        if self.port or not IDLE:
            return self.start()
        other = IDLE.pop()
        self._process, other._process = other._process, None
        self._learn(other.request("POST", "/admin/anew", self._arguments()))
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the process to the next one that needs a warehouse; it ends with the tests."""
        self._let_go()
        if self._process and self._process.poll() is None:
            IDLE.append(self)

    @property
    def address(self) -> str:
        """Host and port, as DATABRICKS_HOST takes them."""
        return f"{self.host}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables that point the uploader at this warehouse."""
        return {
            "DATABRICKS_HOST": self.address,
            "DATABRICKS_HTTP_PATH": self.http_path,
            "DATABRICKS_TOKEN": self.token,
            "DATABRICKS_CA_FILE": str(self.ca_file),
        }

    @property
    def zerobus_endpoint(self) -> str:
        """Where rows go by Zerobus, as DATABRICKS_ZEROBUS_ENDPOINT takes it; the workspace's id is 127."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def client(self) -> tuple[str, str]:
        """Id and secret of the service principal, from the option --client."""
        identity, _, secret = self._options[self._options.index("--client") + 1].partition(":")
        return identity, secret

    def zerobus_environment(self) -> dict[str, str]:
        """The variables that point the uploader at Zerobus here, without a warehouse; it needs the option --client."""
        identity, secret = self.client
        return {
            "DATABRICKS_HOST": self.address,
            "DATABRICKS_ZEROBUS_ENDPOINT": self.zerobus_endpoint,
            "DATABRICKS_CLIENT_ID": identity,
            "DATABRICKS_CLIENT_SECRET": secret,
            "DATABRICKS_CA_FILE": str(self.ca_file),
        }

    def connect(self, **options: Any) -> Any:
        """A connection of the real connector, which tries once only, so that failures come at once."""
        from databricks import sql

        usual = {"_port": self.port, "_tls_trusted_ca_file": str(self.ca_file), "enable_telemetry": False}
        usual |= {"_enable_v3_retries": False, "_retry_stop_after_attempts_count": 1, "_socket_timeout": 60}
        if "credentials_provider" not in options:
            usual["access_token"] = self.token
        return sql.connect(**{"server_hostname": self.host, "http_path": self.http_path, **usual, **options})

    def sql(self, text: str, parameters: Any = None, own: bool = False, **options: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement, sent through the connector.

        A session is kept for it, since to open one takes longer than most statements. One with options, one that would
        change the session, and one beside another have sessions of their own, as has one with `own`.
        """
        self.made += MAKES_A_TABLE.findall(text)
        if own or options or OF_ITS_SESSION.match(text) or not self._alone.acquire(blocking=False):
            with self.connect(**options) as connection:
                return asked(connection, text, parameters)
        try:
            kept, self._kept = self._kept or self.connect(), None
            found = asked(kept, text, parameters)
            self._kept = kept
            return found
        finally:
            self._alone.release()

    def table_path(self, name: str) -> Path:
        """The directory of a Delta table, from its name of two or three parts."""
        parts = name.lower().split(".")
        return self.directory.joinpath("tables", *(["main"][: 3 - len(parts)] + parts))

    def _let_go(self) -> None:
        """Close the session that is kept."""
        from databricks.sql.exc import Error

        with contextlib.suppress(Error):
            if self._kept:
                self._kept.close()
        self._kept = None

    def log(self) -> dict[str, Any]:
        """Counts of requests, calls and sessions opened since the start, and every statement."""
        answer: dict[str, Any] = self.request("GET", "/admin/log")
        return answer

    def statements(self, containing: str = "", outcome: str = "ok") -> list[dict[str, Any]]:
        """The statements with this text that ended so: "ok", "error" or "not executed"."""
        wanted = containing.lower()
        entries = self.log()["statements"]
        return [e for e in entries if wanted in e["statement"].lower() and outcome in ("", e["outcome"])]

    def fail(self, match: str, action: str, **rule: Any) -> None:
        """Fail at the next call or statement that matches; the rules are listed at the top of the script."""
        self.request("POST", "/admin/fail", {"match": match, "action": action, **rule})

    def heal(self) -> None:
        """Forget all rules for failing."""
        self.request("DELETE", "/admin/fail")

    def drop(self, tables: list[str]) -> None:
        """Drop tables: a session of the engine, as one is lost with each client that is killed, is told of all there are."""
        for table in tables:
            self.sql(f"DROP TABLE IF EXISTS {table}")

    def starting(self, seconds: float, how: str = "refuse") -> None:
        """Behave like a stopped warehouse that needs this long to start."""
        self.request("POST", "/admin/starting", {"seconds": seconds, "how": how})

    def close_sessions(self) -> None:
        """Forget all sessions, as an idle warehouse does."""
        self._let_go()
        self.request("POST", "/admin/close_sessions")

    def zerobus(self, **settings: Any) -> dict[str, Any]:
        """Change settings of Zerobus (see Settings in zerobus.py); returns all, with the rows that wait by table."""
        answer: dict[str, Any] = self.request("POST", "/admin/zerobus", settings)
        return answer

    def flush(self) -> None:
        """Bring all rows that wait to their tables, late ones, too."""
        self.request("POST", "/admin/zerobus/flush")

    def inserts(self, table: str = "", status: int | str | None = None) -> list[dict[str, Any]]:
        """The requests with rows for Zerobus: table, bytes, status (or "closed", "reset"), rows taken, detail."""
        entries = self.log()["inserts"]
        return [e for e in entries if e["table"].endswith(table) and status in (None, e["status"])]

    def expire_tokens(self) -> None:
        """Let all tokens of the service principal end now."""
        self.request("POST", "/admin/expire_tokens")

    def request(self, method: str, path: str, content: Any = None) -> Any:
        """One request to the warehouse itself, beside the connector."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"https://{self.address}{path}", body, headers, method=method)
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return json.loads(answer.read())


def asked(connection: Any, text: str, parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
