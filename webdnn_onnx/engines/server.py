"""A local web server for bundles: the right MIME types, and the headers that threads need.

A page may share memory between threads only when it is cross-origin isolated, which these headers make it:
https://html.spec.whatwg.org/multipage/browsers.html#cross-origin-opener-policies
"""

from __future__ import annotations

import http.server
import posixpath
import socket
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

from webdnn_onnx.errors import BackendError

__all__ = ["HEADERS", "MIME_TYPES", "Route", "Server"]

HEADERS: Mapping[str, str] = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

MIME_TYPES: Mapping[str, str] = {
    ".bin": "application/octet-stream",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".wgsl": "text/plain; charset=utf-8",
    "": "application/octet-stream",
}

Route = Callable[[bytes], bytes]
"""Answers a request to a path of its own: body in (empty for GET), body out."""


class Server:
    """Serves folders under URL prefixes, and functions under exact paths, from threads of this process.

    folders: URL prefix -> folder; the longest prefix that fits wins. routes: path -> function. Port 0 takes any free
    one. Raises BackendError if the port cannot be had.
    """

    def __init__(
        self,
        folders: Mapping[str, Path] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.folders: dict[str, Path] = {}
        self.routes: dict[str, Route] = {}
        self.log = log
        for prefix, folder in (folders or {}).items():
            self.mount(prefix, folder)
        try:
            self._http = _HTTPServer((host, port), self)
        except OSError as error:
            raise BackendError(f"server: expected a free port at {host}:{port}, got: {error.strerror}") from error
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True, name="webdnn-serve")
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of the root, without a slash at the end."""
        host, port = self._http.server_address[:2]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}"

    def mount(self, prefix: str, folder: Path) -> str:
        """Serve `folder` under `prefix` ("/a/"); returns the URL of that prefix once the server runs."""
        clean = f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"
        self.folders[clean] = Path(folder).resolve()
        return f"{self.url}{clean}" if hasattr(self, "_http") else clean

    def resolve(self, path: str) -> Path | None:
        """The file that a URL path stands for, or None if it lies in no mounted folder."""
        for prefix in sorted(self.folders, key=len, reverse=True):
            if path.startswith(prefix):
                root = self.folders[prefix]
                found = (root / path[len(prefix) :]).resolve()
                return found if found == root or root in found.parents else None
        return None

    def wait(self) -> None:
        """Block until the server is closed (or the caller is interrupted)."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _HTTPServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], owner: Server) -> None:
        self.owner = owner
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of an answer is no error of ours."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _HTTPServer
    protocol_version = "HTTP/1.1"
    server_version = "webdnn"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        route = self.server.owner.routes.get(path)
        if route is None:
            self._send(HTTPStatus.NOT_FOUND, b"not found\n", ".txt")
        else:
            self._send(HTTPStatus.OK, route(data), ".bin")

    def _answer(self, *, body: bool) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path, errors="surrogateescape")
        owner = self.server.owner
        route = owner.routes.get(path)
        if route is not None:
            self._send(HTTPStatus.OK, route(b""), posixpath.splitext(path)[1], body=body)
            return
        file = owner.resolve(path) if "\0" not in path else None
        if file is not None and file.is_dir():
            if not path.endswith("/"):
                self._redirect(parts.path + "/" + (f"?{parts.query}" if parts.query else ""))
                return
            file = file / "index.html" if (file / "index.html").is_file() else file
        if file is None or not file.exists():
            self._send(HTTPStatus.NOT_FOUND, f"{path}: not found\n".encode(errors="replace"), ".txt", body=body)
        elif file.is_dir():
            self._send(HTTPStatus.OK, _listing(path, file), ".html", body=body)
        else:
            self._file(file, body=body)

    def _redirect(self, location: str) -> None:
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, status: HTTPStatus, data: bytes, suffix: str, *, body: bool = True) -> None:
        self._head(status, len(data), suffix)
        if body:
            self.wfile.write(data)

    def _file(self, file: Path, *, body: bool) -> None:
        try:
            stream = file.open("rb")
        except OSError as error:
            self._send(HTTPStatus.FORBIDDEN, f"{error.strerror}\n".encode(), ".txt", body=body)
            return
        with stream:
            self._head(HTTPStatus.OK, file.stat().st_size, file.suffix)
            while body and (chunk := stream.read(1 << 20)):
                self.wfile.write(chunk)

    def _head(self, status: HTTPStatus, length: int, suffix: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", MIME_TYPES.get(suffix.lower(), MIME_TYPES[""]))
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.owner.log is not None:
            self.server.owner.log(format % args)


def _listing(path: str, folder: Path) -> bytes:
    """A plain page with the names in a folder."""
    from html import escape

    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    links = "".join(f'<li><a href="{urllib.parse.quote(name)}">{escape(name)}</a></li>' for name in names)
    style = "body{font:16px/1.6 system-ui;margin:2rem auto;max-width:50rem}:root{color-scheme:light dark}"
    title = escape(path)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1><ul>{links}</ul></html>"
    )
    return page.encode()
