"""A browser that runs elsewhere, as an engine: over DevTools, a Selenium Grid or a Playwright server.

Nothing has to be reachable from the browser's machine: the page lives under an address that exists nowhere, and every
request for it is answered over the connection itself. The address is https, so that the page is a secure context and
has WebGPU.

    ws://host:9222                          a browser started with --remote-debugging-port
    ws://host:9222/devtools/browser/ID      the same, by its full address
    ws://host:4444/session/ID/se/cdp        a session of a Selenium Grid
    http://host:4444                        a Selenium Grid, or chromedriver: a session is made, and ended afterwards
    ws://host:3000/any/other/path           a Playwright server, with whatever browser it has

Spec: https://chromedevtools.github.io/devtools-protocol/tot/Fetch/ and https://www.w3.org/TR/webdriver2/
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import threading
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from webdnn_conformance.grid import GridSession, browser_address
from webdnn_conformance.playwright import Content, PlaywrightPage
from webdnn_conformance.websocket import WebSocket
from webdnn_onnx.engines import Engine, RunResult, RunValue
from webdnn_onnx.engines.browser import Browser, Tab
from webdnn_onnx.engines.messages import js_error, request, result
from webdnn_onnx.engines.pipe import DevTools
from webdnn_onnx.engines.server import HEADERS, MIME_TYPES
from webdnn_onnx.errors import BackendError

__all__ = ["DevToolsPage", "RemoteEngine"]

ORIGIN = "https://webdnn.invalid"
_WEB = Path(__file__).with_name("web")
_TIMEOUT = 30.0


class RemoteEngine(Engine):
    """A page in a remote browser. A crash ends the call with BackendError; the next call opens a new page."""

    name = "chromium"

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._numbers = itertools.count(1)
        self._folders: dict[str, Path] = {}
        self._messages: dict[str, bytes] = {}
        self._page: Page | None = None
        self.publish(_WEB)
        self._engine = self.publish(Path(_session_module()).parent)
        self.version = self.page.version

    @property
    def page(self) -> Page:
        """The page that runs bundles; connects if there is none."""
        if self._page is not None and not self._page.alive:
            self._stop()
        if self._page is None:
            self._page = _connect(self.endpoint, self._content)
            self._page.navigate(f"{ORIGIN}/0/remote.html?session={urllib.parse.quote(self._engine)}session.js")
            end = time.monotonic() + _TIMEOUT
            while not self._page.evaluate("typeof webdnn === 'object'", _TIMEOUT):
                if time.monotonic() > end:
                    raise BackendError(f"{self.endpoint}: expected the page to be ready within {_TIMEOUT:g} s")
                time.sleep(0.05)
        return self._page

    def publish(self, folder: Path) -> str:
        resolved = Path(folder).resolve()
        for prefix, known in self._folders.items():
            if known == resolved:
                return prefix
        prefix = f"/{len(self._folders)}/"
        self._folders[prefix] = resolved
        return prefix

    def run(
        self, bundle: Path, backend: str, inputs: Mapping[str, RunValue], *, repeat: int = 1, timeout: float = 120.0
    ) -> RunResult:
        entry = f"{self.publish(bundle)}index.js"
        return result(self._ask(request(entry, backend, inputs, repeat), timeout, backend))

    def exchange(self, message: bytes, *, timeout: float = 30.0) -> bytes:
        return self._ask(message, timeout, "module")

    def evaluate(self, expression: str, *, timeout: float = 30.0) -> Any:
        return self.page.evaluate(expression, timeout)

    def close(self) -> None:
        self._stop()

    def _ask(self, message: bytes, timeout: float, who: str) -> bytes:
        """One message to the page; the answer comes back as the value of an expression."""
        page = self.page
        path = f"/request/{next(self._numbers)}"
        self._messages[path] = message
        try:
            answer = page.evaluate(f"webdnn.ask({path!r})", timeout)
        except BackendError as error:
            self._stop()
            raise BackendError(f"{self.endpoint}: {error}") from error
        finally:
            del self._messages[path]
        if "error" in answer:
            raise js_error(answer["error"], who, self.name)
        return base64.b64decode(answer["message"])

    def _content(self, url: str) -> tuple[bytes | None, str]:
        path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
        if path in self._messages:
            return self._messages[path], MIME_TYPES[""]
        for prefix, folder in self._folders.items():
            file = (folder / path.removeprefix(prefix)).resolve()
            if path.startswith(prefix) and folder in file.parents and file.is_file():
                return file.read_bytes(), MIME_TYPES.get(file.suffix.lower(), MIME_TYPES[""])
        return None, MIME_TYPES[".txt"]

    def _stop(self) -> None:
        page, self._page = self._page, None
        if page is not None:
            page.close()


class Page(Protocol):
    """What every kind of connection offers. version: the browser's name and version. alive: it has not crashed."""

    version: str

    @property
    def alive(self) -> bool: ...

    def navigate(self, url: str) -> None: ...

    def evaluate(self, expression: str, timeout: float = ...) -> Any: ...

    def close(self) -> None: ...


def _connect(endpoint: str, content: Content) -> Page:
    """A page at an endpoint of any kind. Raises BackendError if it is none."""
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme in ("http", "https") or "/devtools/" in parts.path or parts.path.endswith("/se/cdp"):
        return DevToolsPage(endpoint, content)
    if parts.path in ("", "/"):
        try:
            return DevToolsPage(endpoint, content)
        except BackendError as error:
            if "/json/version" not in str(error):
                raise
    return PlaywrightPage(endpoint, ORIGIN, content)


class DevToolsPage:
    """A page over the DevTools protocol."""

    def __init__(self, endpoint: str, content: Content) -> None:
        self._content = content
        self._browser = _RemoteBrowser(endpoint)
        self.version = self._browser.version
        self.tab: Tab = self._browser.tab()
        self._browser.devtools.listen(self._paused, self.tab.session)
        self.tab.call("Fetch.enable", {"patterns": [{"urlPattern": f"{ORIGIN}/*"}]})

    @property
    def alive(self) -> bool:
        return self._browser.alive and not self.tab.crashed

    def navigate(self, url: str) -> None:
        self.tab.navigate(url)

    def evaluate(self, expression: str, timeout: float = _TIMEOUT) -> Any:
        """The JSON-like value of an expression, awaited."""
        return self.tab.evaluate(expression, timeout)

    def close(self) -> None:
        if self.alive:
            self.tab.close()
        self._browser.close()

    def _paused(self, method: str, params: dict[str, Any]) -> None:
        """Answer a request of the page. Called on the reading thread, so it only sends."""
        if method != "Fetch.requestPaused":
            return
        content, kind = self._content(params["request"]["url"])
        headers = {**HEADERS, "Content-Type": kind}
        answer = {
            "requestId": params["requestId"],
            "responseCode": 404 if content is None else 200,
            "responseHeaders": [{"name": name, "value": value} for name, value in headers.items()],
            "body": base64.b64encode(content or b"").decode(),
        }
        self._browser.devtools.start("Fetch.fulfillRequest", answer, self.tab.session)


class _RemoteBrowser(Browser):
    """A browser that somebody else started. It is left running; a Grid's session that was made here is ended."""

    def __init__(self, endpoint: str) -> None:
        self._session: GridSession | None = None
        self._socket: WebSocket | None = None
        try:
            self._socket = WebSocket(self._resolve(endpoint), timeout=_TIMEOUT)
            self.devtools = self._speak(self._socket)
            self.version = str(self.devtools.call("Browser.getVersion", timeout=_TIMEOUT)["product"])
        except BackendError as error:
            self.close()
            raise BackendError(f"{endpoint}: expected a browser that speaks the DevTools protocol: {error}") from error

    def last_words(self) -> str:
        return ""

    def close(self) -> None:
        if self._socket is not None:
            if hasattr(self, "devtools"):
                self.devtools.close()
            self._socket.close()
        if self._session is not None:
            self._session.close()

    def _resolve(self, endpoint: str) -> str:
        """The WebSocket's address."""
        parts = urllib.parse.urlsplit(endpoint)
        if parts.scheme in ("http", "https"):
            self._session = GridSession(endpoint)
            return self._session.devtools
        return browser_address(endpoint) if parts.path in ("", "/") else endpoint

    def _speak(self, connection: WebSocket) -> DevTools:
        """The connection as the pipes that DevTools reads and writes."""
        read_answers, write_answers = os.pipe()
        read_commands, write_commands = os.pipe()
        for target, end in ((_receive, write_answers), (_send, read_commands)):
            threading.Thread(target=target, args=(connection, end), daemon=True, name="webdnn-remote").start()
        return DevTools(read_answers, write_commands)


def _receive(connection: WebSocket, end: int) -> None:
    with contextlib.suppress(OSError):
        while (text := connection.receive()) is not None:
            data = memoryview(text.encode() + b"\0")
            while data:
                data = data[os.write(end, data) :]
    os.close(end)


def _send(connection: WebSocket, end: int) -> None:
    pending = bytearray()
    with contextlib.suppress(OSError):
        while chunk := os.read(end, 1 << 18):
            pending += chunk
            while (stop := pending.find(b"\0")) >= 0:
                connection.send(pending[:stop].decode())
                del pending[: stop + 1]
    os.close(end)


def _session_module() -> str:
    import webdnn_onnx.engines

    return str(Path(webdnn_onnx.engines.__file__).with_name("session.js"))
