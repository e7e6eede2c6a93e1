"""A browser of a Selenium Grid, or of chromedriver itself: a WebDriver session, and the DevTools connection behind it.

Spec: https://www.w3.org/TR/webdriver2/
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from webdnn_onnx.errors import BackendError

__all__ = ["GridSession", "browser_address"]

_FLAGS = ("--enable-unsafe-webgpu", "--ignore-gpu-blocklist")
_ALIVE_SECONDS = 60.0
"""A Grid ends sessions that send no WebDriver command for some minutes; what goes over DevTools does not count."""

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class GridSession:
    """A session of the Grid at an http:// address; devtools: the address of its browser's DevTools.

    Raises BackendError if the Grid gives none; then no session is left behind.
    """

    def __init__(self, endpoint: str) -> None:
        base = endpoint.rstrip("/")
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": list(_FLAGS)}}
        answer = _http(f"{base}/session", "POST", {"capabilities": {"alwaysMatch": wanted}})
        try:
            self._url = f"{base}/session/{answer['value']['sessionId']}"
            capabilities = answer["value"]["capabilities"]
        except (KeyError, TypeError):
            raise BackendError(f"{endpoint}: expected a WebDriver session, got {str(answer)[:200]}") from None
        self._ended = threading.Event()
        try:
            self.devtools = _devtools(endpoint, capabilities)
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._stay, daemon=True, name="webdnn-grid").start()

    def close(self) -> None:
        """End the session, and with it the browser."""
        self._ended.set()
        with contextlib.suppress(BackendError):
            _http(self._url, "DELETE")

    def _stay(self) -> None:
        while not self._ended.wait(_ALIVE_SECONDS):
            with contextlib.suppress(BackendError):
                _http(f"{self._url}/timeouts")


def browser_address(endpoint: str) -> str:
    """The full WebSocket address of a browser that listens at ws://host:port. Raises BackendError."""
    parts = urllib.parse.urlsplit(endpoint)
    scheme = "https" if parts.scheme == "wss" else "http"
    facts = _http(f"{scheme}://{parts.netloc}/json/version")
    try:
        return str(facts["webSocketDebuggerUrl"])
    except (KeyError, TypeError):
        raise BackendError(f"{endpoint}: expected a browser at /json/version, got {str(facts)[:200]}") from None


def _devtools(endpoint: str, capabilities: dict[str, Any]) -> str:
    """Where the browser of a session can be reached. A Grid that does not know its own name says localhost."""
    grid = urllib.parse.urlsplit(endpoint)
    if "se:cdp" in capabilities:
        found = urllib.parse.urlsplit(str(capabilities["se:cdp"]))
        if found.hostname in _LOCAL:
            host = str(grid.hostname) if found.port is None else f"{grid.hostname}:{found.port}"
            found = found._replace(netloc=host)
        return found.geturl()
    address = capabilities.get("goog:chromeOptions", {}).get("debuggerAddress")
    if address and grid.hostname in _LOCAL:
        return browser_address(f"ws://{address}")
    raise BackendError(f"{endpoint}: expected a session with `se:cdp`, got one without: the Grid offers no DevTools")


def _http(url: str, method: str = "GET", body: Any = None) -> Any:
    """The JSON of an answer. Raises BackendError."""
    data = None if body is None else json.dumps(body).encode()
    try:
        asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        text = _reason(error.read().decode(errors="replace"))
        raise BackendError(f"{method} {url}: expected an answer, got {error.code}: {text}") from error
    except (OSError, ValueError) as error:
        raise BackendError(f"{method} {url}: expected an answer, got none: {error}") from error


def _reason(text: str) -> str:
    """What a WebDriver error says, without the stack; other texts in short."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["value"]["message"])
    return text.partition("\n")[0][:300]
