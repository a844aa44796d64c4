"""Shows the network demo's page while the demo runs: a web server for this machine alone, and the browser it opens."""

from __future__ import annotations

import http.server
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping


class Server:
    """Hands out the latest page at `address`, from `start` to `close`. Only this machine can reach it."""

    # A page in a browser asks once a second; after this many seconds it is taken for closed.
    PATIENCE = 5.0

    def __init__(self, port: int) -> None:
        self._port = port
        self._http: http.server.ThreadingHTTPServer | None = None
        self._content = b""
        self._handed_out = b""
        self._asked = float("-inf")

    def start(self) -> None:
        """Listen at the port; 0 takes a free one. OSError where that can't be."""
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), handler(self.page))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self) -> str:
        """Where the page is."""
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.server_port}/"

    def show(self, content: str) -> None:
        """Hand out this page from now on."""
        self._content = content.encode()

    def page(self) -> bytes:
        """The latest page, for a browser that asks."""
        self._asked, self._handed_out = time.monotonic(), self._content
        return self._content

    def close(self) -> None:
        """End, as soon as a browser that was looking has the last page."""
        if self._http is None:
            return
        while self._handed_out is not self._content and time.monotonic() < self._asked + self.PATIENCE:
            time.sleep(0.05)
        self._http.shutdown()
        self._http.server_close()


def handler(page: Callable[[], bytes]) -> type[http.server.BaseHTTPRequestHandler]:
    """What answers requests: with the page that the function `page` returns, and with nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/":
                self.send_error(404)
                return
            content = page()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the terminal has the table."""

    return Handler


def has_browser(environ: Mapping[str, str], platform: str) -> bool:
    """Whether somebody sits before a screen where a browser could open: not in CI, over SSH or without a display."""
    if environ.get("CI") or environ.get("SSH_CONNECTION"):
        return False
    return platform in ("darwin", "win32") or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def open_browser(address: str) -> bool:
    """Open the page in the user's browser, if there is one; returns whether that was tried."""
    return has_browser(os.environ, sys.platform) and webbrowser.open(address)
