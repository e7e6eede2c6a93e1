"""As much of a Selenium Grid as one session needs: it starts a Chromium, and hands its DevTools on under `se:cdp`."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from webdnn_onnx.engines.browser import chromium_flags, find_chromium

__all__ = ["Chromium", "FakeGrid"]

SESSION = "/session/d4c2"


class Chromium:
    """A browser that listens for DevTools on a port of its own choice."""

    def __init__(self, flags: list[str]) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [str(find_chromium()), *flags, "--remote-debugging-port=0", f"--user-data-dir={self._profile.name}"]
        self.process = subprocess.Popen([*command, "about:blank"], stderr=subprocess.DEVNULL)
        port = Path(self._profile.name) / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not port.is_file() or port.read_text().count("\n") < 1:
            assert time.monotonic() < end, "the browser did not open its port"
            time.sleep(0.05)
        self.port, self.path = int(port.read_text().splitlines()[0]), port.read_text().splitlines()[1]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._profile.cleanup()


class FakeGrid:
    """capabilities: what a session says of itself, in place of `se:cdp`. calls: the requests, in order.

    Its host in `se:cdp` is localhost, as that of a Grid which does not know its own name.
    """

    def __init__(self, capabilities: dict[str, Any] | None = None) -> None:
        self.capabilities = capabilities
        self.calls: list[str] = []
        self.wanted: dict[str, Any] = {}
        self.browser: Chromium | None = None
        grid = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                grid.calls.append(f"POST {self.path}")
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.reply(grid.begin(body["capabilities"]["alwaysMatch"]))

            def do_GET(self) -> None:
                grid.calls.append(f"GET {self.path}")
                if self.path == f"{SESSION}/se/cdp" and grid.browser is not None:
                    self.close_connection = True
                    grid.forward(self)
                else:
                    self.reply({})

            def do_DELETE(self) -> None:
                grid.calls.append(f"DELETE {self.path}")
                grid.end()
                self.reply(None)

            def reply(self, value: Any) -> None:
                content = json.dumps({"value": value}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.end()
        self._server.shutdown()
        self._server.server_close()

    def begin(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self.wanted = wanted
        if self.capabilities is not None:
            return {"sessionId": SESSION.rpartition("/")[2], "capabilities": self.capabilities}
        ours = ("--remote-debugging-pipe", "--enable-unsafe-webgpu")  # a Grid starts browsers without these
        own = [flag for flag in chromium_flags("software") if flag not in ours]
        self.browser = Chromium([*own, *wanted["goog:chromeOptions"]["args"]])
        address = f"ws://localhost:{self._server.server_port}{SESSION}/se/cdp"
        return {"sessionId": SESSION.rpartition("/")[2], "capabilities": {"se:cdp": address}}

    def end(self) -> None:
        browser, self.browser = self.browser, None
        if browser is not None:
            browser.close()

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        """Join a WebSocket to that of the browser, byte by byte."""
        assert self.browser is not None
        with socket.create_connection(("127.0.0.1", self.browser.port)) as behind:
            kept = [
                f"{name}: {value}" for name, value in request.headers.items() if name.lower() not in ("host", "origin")
            ]
            lines = [f"GET {self.browser.path} HTTP/1.1", f"Host: 127.0.0.1:{self.browser.port}", *kept]
            behind.sendall("\r\n".join([*lines, "", ""]).encode())
            threading.Thread(target=_pump, args=(behind, request.connection), daemon=True).start()
            _pump(request.connection, behind)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
