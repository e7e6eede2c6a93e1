"""A browser that runs elsewhere, as an engine: DevTools over a WebSocket, directly or through a Selenium Grid.

Nothing has to be reachable from the browser's machine: the page lives under an address that exists nowhere, and every
request for it is answered over the connection itself. The address is https, so that the page is a secure context and
has WebGPU.

    ws://host:9222                          a browser started with --remote-debugging-port
    ws://host:9222/devtools/browser/ID      the same, by its full address
    ws://host:4444/session/ID/se/cdp        a session of a Selenium Grid
    http://host:4444                        a Selenium Grid: a session is made, and ended afterwards

Spec: https://chromedevtools.github.io/devtools-protocol/tot/Fetch/ and https://www.w3.org/TR/webdriver2/
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webdnn_conformance.websocket import WebSocket
from webdnn_onnx.engines import Engine, RunResult, RunValue
from webdnn_onnx.engines.browser import Browser, Tab
from webdnn_onnx.engines.messages import js_error, request, result
from webdnn_onnx.engines.pipe import DevTools
from webdnn_onnx.engines.server import HEADERS, MIME_TYPES
from webdnn_onnx.errors import BackendError

__all__ = ["RemoteEngine"]

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
        self._browser: _RemoteBrowser | None = None
        self._tab: Tab | None = None
        self.publish(_WEB)
        self._engine = self.publish(Path(_session_module()).parent)
        self.version = self.page.browser.version

    @property
    def page(self) -> Tab:
        """The page that runs bundles; connects if there is none."""
        if self._browser is not None and (not self._browser.alive or (self._tab is not None and self._tab.crashed)):
            self._stop()
        if self._browser is None or self._tab is None:
            self._browser = _RemoteBrowser(self.endpoint)
            self._tab = self._browser.tab()
            devtools, session = self._browser.devtools, self._tab.session
            devtools.listen(self._paused, session)
            self._tab.call("Fetch.enable", {"patterns": [{"urlPattern": f"{ORIGIN}/*"}]})
            self._tab.navigate(f"{ORIGIN}/0/remote.html?session={urllib.parse.quote(self._engine)}session.js")
            self._tab.wait_for("typeof webdnn === 'object'")
        return self._tab

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
        tab = self.page
        path = f"/request/{next(self._numbers)}"
        self._messages[path] = message
        try:
            answer = tab.evaluate(f"webdnn.ask({path!r})", timeout)
        except BackendError as error:
            self._stop()
            raise BackendError(f"{self.endpoint}: {error}") from error
        finally:
            del self._messages[path]
        if "error" in answer:
            raise js_error(answer["error"], who, self.name)
        return base64.b64decode(answer["message"])

    def _paused(self, method: str, params: dict[str, Any]) -> None:
        """Answer a request of the page. Called on the reading thread, so it only sends."""
        if method != "Fetch.requestPaused":
            return
        assert self._browser is not None, "requests come from the page of a browser"
        path = urllib.parse.unquote(urllib.parse.urlsplit(params["request"]["url"]).path)
        content, kind = self._content(path)
        headers = {**HEADERS, "Content-Type": kind}
        answer = {
            "requestId": params["requestId"],
            "responseCode": 404 if content is None else 200,
            "responseHeaders": [{"name": name, "value": value} for name, value in headers.items()],
            "body": base64.b64encode(content or b"").decode(),
        }
        assert self._tab is not None, "requests come from a page"
        self._browser.devtools.start("Fetch.fulfillRequest", answer, self._tab.session)

    def _content(self, path: str) -> tuple[bytes | None, str]:
        if path in self._messages:
            return self._messages[path], MIME_TYPES[""]
        for prefix, folder in self._folders.items():
            file = (folder / path.removeprefix(prefix)).resolve()
            if path.startswith(prefix) and folder in file.parents and file.is_file():
                return file.read_bytes(), MIME_TYPES.get(file.suffix.lower(), MIME_TYPES[""])
        return None, MIME_TYPES[".txt"]

    def _stop(self) -> None:
        browser, tab, self._browser, self._tab = self._browser, self._tab, None, None
        if browser is not None:
            if tab is not None and not tab.crashed:
                tab.close()
            browser.close()


class _RemoteBrowser(Browser):
    """A browser that somebody else started. It is left running; a Grid's session that was made here is ended."""

    def __init__(self, endpoint: str) -> None:
        self._grid_session = ""
        self._socket = WebSocket(self._resolve(endpoint), timeout=_TIMEOUT)
        read_answers, write_answers = os.pipe()
        read_commands, write_commands = os.pipe()
        for target in (self._receive, self._send):
            ends = write_answers if target == self._receive else read_commands
            threading.Thread(target=target, args=(ends,), daemon=True, name="webdnn-remote").start()
        self.devtools = DevTools(read_answers, write_commands)
        try:
            self.version = str(self.devtools.call("Browser.getVersion", timeout=_TIMEOUT)["product"])
        except BackendError as error:
            self.close()
            raise BackendError(f"{endpoint}: expected a browser that speaks the DevTools protocol: {error}") from error

    def last_words(self) -> str:
        return ""

    def close(self) -> None:
        self.devtools.close()
        self._socket.close()
        if self._grid_session:
            with contextlib.suppress(BackendError):
                _http(self._grid_session, "DELETE")

    def _resolve(self, endpoint: str) -> str:
        """The WebSocket's address."""
        parts = urllib.parse.urlsplit(endpoint)
        if parts.scheme in ("http", "https"):
            options = {"args": ["--enable-unsafe-webgpu", "--ignore-gpu-blocklist"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "se:cdp": True}
            base = endpoint.rstrip("/")
            answer = _http(f"{base}/session", "POST", {"capabilities": {"alwaysMatch": wanted}})["value"]
            self._grid_session = f"{base}/session/{answer['sessionId']}"
            found = answer["capabilities"].get("se:cdp")
            if not found:
                raise BackendError(f"{endpoint}: expected a Grid whose sessions have `se:cdp`, got one that has not")
            return str(found)
        if parts.path in ("", "/"):
            scheme = "https" if parts.scheme == "wss" else "http"
            return str(_http(f"{scheme}://{parts.netloc}/json/version")["webSocketDebuggerUrl"])
        return endpoint

    def _receive(self, end: int) -> None:
        with contextlib.suppress(OSError):
            while (text := self._socket.receive()) is not None:
                data = memoryview(text.encode() + b"\0")
                while data:
                    data = data[os.write(end, data) :]
        os.close(end)

    def _send(self, end: int) -> None:
        pending = bytearray()
        with contextlib.suppress(OSError):
            while chunk := os.read(end, 1 << 18):
                pending += chunk
                while (stop := pending.find(b"\0")) >= 0:
                    self._socket.send(pending[:stop].decode())
                    del pending[: stop + 1]
        os.close(end)


def _session_module() -> str:
    import webdnn_onnx.engines

    return str(Path(webdnn_onnx.engines.__file__).with_name("session.js"))


def _http(url: str, method: str = "GET", body: Any = None) -> Any:
    """The JSON of an answer. Raises BackendError."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        raise BackendError(f"{method} {url}: expected an answer, got {error.code}: {error.read()[:300]!r}") from error
    except (OSError, ValueError) as error:
        raise BackendError(f"{method} {url}: expected an answer, got none: {error}") from error
