"""A gateway before the local warehouse that takes no large request, as those before real workspaces.

    with Gateway(warehouse, limit=1_000_000, refuse=413) as gateway:
        environment = warehouse.environment() | gateway.environment()
        ...
        gateway.limit = 100_000          # from now on; None: no limit
        gateway.refuse = "reset"         # 413 or any other status, "close" or "reset"
        assert gateway.largest <= 100_000

It is a process's thread with real sockets: TLS ends here (with the warehouse's own certificate) and begins again on the
way to the warehouse. What isn't too large is passed on byte for byte, headers included, and so are the answers; a
connection that the warehouse drops or resets is dropped or reset here, too. A status comes once the body has been read,
as from a gateway that lingers; "close" and "reset" come while the client is still sending, after `limit` bytes.
"""

from __future__ import annotations

import http.client
import http.server
import ssl
import threading
from collections import Counter
from types import TracebackType

from local_warehouse import TlsHandler, TlsServer

from warehouse import Warehouse

HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")  # a proxy's own, RFC 9110 7.6.1


class Gateway:
    """Stands before a warehouse; limit, refuse and text may change at any time.

    limit     bytes of the largest body that passes; None: any
    refuse    what happens to a larger one: a status, "close" or "reset"
    text      the body of that status; None: a page of HTML
    methods   those of requests that are refused
    answers   bytes of the largest answer that passes back; a larger one is a 502
    requests  how many requests came, refused ones included; refused: how many of them
    is_shared whether it is the custom URL of an account, where a request that names no workspace is sent to /login
    largest   bytes of the largest body that passed; passed: how many requests passed, by path
    """

    def __init__(
        self, warehouse: Warehouse, limit: int | None = None, refuse: int | str = 413, text: str | None = None
    ) -> None:
        self.warehouse = warehouse
        self.limit = limit
        self.refuse = refuse
        self.text = text
        self.methods = {"GET", "POST", "PUT", "DELETE"}
        self.answers = 1 << 40
        self.is_shared = False
        self.requests = 0
        self.refused = 0
        self.largest = 0
        self.passed: Counter[str] = Counter()
        self.lock = threading.Lock()
        self._server: _Server | None = None

    def __enter__(self) -> Gateway:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port that it listens at."""
        assert self._server
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """Host and port, as DATABRICKS_HOST takes them."""
        return f"localhost:{self.port}"

    @property
    def zerobus_endpoint(self) -> str:
        """As DATABRICKS_ZEROBUS_ENDPOINT takes it."""
        return f"https://127.0.0.1:{self.port}"

    def environment(self, zerobus: bool = False) -> dict[str, str]:
        """The variables that differ from the warehouse's own."""
        endpoint = {"DATABRICKS_ZEROBUS_ENDPOINT": self.zerobus_endpoint} if zerobus else {}
        return {"DATABRICKS_HOST": self.address, **endpoint}

    def forget(self) -> None:
        """Begin to count anew."""
        with self.lock:
            self.requests = self.refused = self.largest = 0
            self.passed.clear()


class _Server(TlsServer):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__(("localhost", 0), _Handler)
        self.gateway = gateway
        self.inside = ssl.create_default_context(cafile=str(gateway.warehouse.ca_file))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(gateway.warehouse.directory / "server.pem")


class _Handler(TlsHandler):
    server: _Server

    def setup(self) -> None:
        """One connection to the warehouse for each of a client's: shaking hands costs as much as a statement."""
        super().setup()
        warehouse = self.server.gateway.warehouse
        self.inner = http.client.HTTPSConnection(
            warehouse.host, warehouse.port, timeout=300, context=self.server.inside
        )

    def finish(self) -> None:
        self.inner.close()
        super().finish()

    def _handle(self) -> None:
        gateway, size = self.server.gateway, int(self.headers.get("Content-Length") or 0)
        limit, refuse = gateway.limit, gateway.refuse
        too_large = limit is not None and size > limit and self.command in gateway.methods
        with gateway.lock:
            gateway.requests += 1
            gateway.refused += too_large
        if gateway.is_shared and not self._names_a_workspace():
            self.rfile.read(size)
            self.send(303, {"Location": "/login"}, b"")
        elif limit is not None and too_large:
            self._refuse(size, limit, refuse)
        elif len(body := self.rfile.read(size)) == size:
            self._pass_on(body)
        else:  # The client is gone; half a request is none.
            self.drop(abruptly=False)

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _names_a_workspace(self) -> bool:
        """By ?o= or a header (databricks-sql-python#767); 127 is the local one. Tokens are the account's."""
        is_named = self.path.endswith("?o=127") or self.headers.get("X-Databricks-Org-Id") == "127"
        return is_named or not self.path.startswith(("/sql/", "/api/"))

    def _refuse(self, size: int, limit: int, refuse: int | str) -> None:
        if isinstance(refuse, str):
            self.rfile.read(limit)
            return self.drop(abruptly=refuse == "reset")
        while size > 0 and (read := self.rfile.read(min(size, 65536))):
            size -= len(read)
        reason = http.client.responses.get(refuse, "")
        page = f"<html><head><title>{refuse} {reason}</title></head></html>"
        text = self.server.gateway.text
        kind, body = ("text/html", page) if text is None else ("text/plain", text)
        self.send(refuse, {"Content-Type": kind, "Connection": "close"}, body.encode())
        self.close_connection = True

    def _pass_on(self, body: bytes) -> None:
        gateway = self.server.gateway
        with gateway.lock:
            gateway.largest = max(gateway.largest, len(body))
            gateway.passed[self.path.partition("?")[0]] += 1
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        try:
            self.inner.request(self.command, self.path, body, headers)
            answer = self.inner.getresponse()
            content = answer.read()
        except ConnectionResetError as error:
            return self.drop(abruptly=not isinstance(error, http.client.RemoteDisconnected))
        except (OSError, http.client.HTTPException):
            return self.drop(abruptly=False)
        if len(content) > gateway.answers:
            return self.send(502, {"Content-Type": "text/html"}, b"<html></html>")
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in (*HOP_BY_HOP, "server", "date")}
        self.send(answer.status, kept, content)
