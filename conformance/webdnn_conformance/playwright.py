"""A page of a Playwright server: `playwright run-server`, `playwright launch-server`, and device farms that offer one.

The wire protocol is Playwright's own; the few messages that are needed here have kept their form over many releases.
https://github.com/microsoft/playwright/blob/main/packages/protocol/src/protocol.yml
"""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeAlias

from webdnn_conformance.websocket import WebSocket
from webdnn_onnx.engines.server import HEADERS
from webdnn_onnx.errors import BackendError

__all__ = ["Content", "PlaywrightPage"]

Content: TypeAlias = Callable[[str], tuple[bytes | None, str]]
"""The file at a URL, None where there is none, and its MIME type."""

_TIMEOUT = 60.0
_FLAGS = ("--enable-unsafe-webgpu", "--ignore-gpu-blocklist")


class PlaywrightPage:
    """One page. Requests below `origin` are answered by `content`. Raises BackendError if the server refuses."""

    def __init__(self, endpoint: str, origin: str, content: Content) -> None:
        self.endpoint = endpoint
        self._content = content
        self._socket = WebSocket(endpoint, timeout=_TIMEOUT)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._created: dict[str, dict[str, Any]] = {}
        self._alive = True
        threading.Thread(target=self._read, daemon=True, name="webdnn-playwright").start()
        try:
            self._frame = self._open(origin)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._alive

    def evaluate(self, expression: str, timeout: float = _TIMEOUT) -> Any:
        """The JSON-like value of an expression, awaited."""
        wrapped = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        nothing = {"value": {"v": "undefined"}, "handles": []}
        params = {"expression": wrapped, "isFunction": False, "arg": nothing}
        answer = self._call(self._frame, "evaluateExpression", params, timeout)
        return json.loads(answer["value"]["s"])

    def navigate(self, url: str) -> None:
        self._call(self._frame, "goto", {"url": url, "timeout": 1e3 * _TIMEOUT})

    def close(self) -> None:
        """Close the connection; the server closes what was opened over it."""
        self._socket.close()

    def _open(self, origin: str) -> str:
        """A page that asks us for everything below `origin`; returns its frame."""
        answer = self._call("", "initialize", {"sdkLanguage": "javascript"})
        playwright = self._created[answer["playwright"]["guid"]]
        browser = playwright.get("preLaunchedBrowser")
        if browser is None:
            options = {"headless": True, "args": [*_FLAGS], "timeout": 1e3 * _TIMEOUT}
            browser = self._call(playwright["chromium"]["guid"], "launch", options)["browser"]
        facts = self._created[browser["guid"]]
        self.version = f"{str(facts.get('name', 'browser')).capitalize()} {facts.get('version', '')}".strip()
        context = self._call(browser["guid"], "newContext", {})["context"]["guid"]
        page = self._call(context, "newPage", {})["page"]["guid"]
        patterns = {"patterns": [{"glob": f"{origin}/**"}]}
        self._call(page, "setNetworkInterceptionPatterns", patterns)
        return str(self._created[page]["mainFrame"]["guid"])

    def _start(self, guid: str, method: str, params: dict[str, Any]) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = future
            message = {"id": number, "guid": guid, "method": method, "params": params, "metadata": {}}
            try:
                self._socket.send(json.dumps(message))
            except OSError as error:
                self._alive = False
                raise BackendError(f"{self.endpoint}: {method}: {error.strerror or error}") from error
        return future

    def _call(self, guid: str, method: str, params: dict[str, Any], timeout: float = _TIMEOUT) -> dict[str, Any]:
        try:
            return self._start(guid, method, params).result(timeout)
        except FutureTimeoutError:
            raise BackendError(
                f"{self.endpoint}: {method}: expected an answer within {timeout:g} s, got none"
            ) from None

    def _read(self) -> None:
        while (text := self._socket.receive()) is not None:
            message = json.loads(text)
            if "id" in message:
                self._answered(message)
            elif message.get("method") == "__create__":
                self._created[message["params"]["guid"]] = message["params"]["initializer"]
            elif message.get("method") == "__dispose__":
                self._created.pop(message["guid"], None)
            elif message.get("method") == "route":
                self._fulfil(message["params"]["route"]["guid"])
            elif message.get("method") == "crash":
                self._end("the page crashed")
        self._end("the connection was closed")

    def _answered(self, message: dict[str, Any]) -> None:
        with self._lock:
            future = self._waiting.pop(message["id"], None)
        if future is None:
            return
        if "error" in message:
            said = message["error"].get("error", message["error"])
            future.set_exception(BackendError(f"{self.endpoint}: {said.get('message', said)}"))
        else:
            future.set_result(message.get("result", {}))

    def _fulfil(self, route: str) -> None:
        """Answer a request of the page; the reply to that is not waited for."""
        request = self._created[self._created[route]["request"]["guid"]]
        content, kind = self._content(request["url"])
        headers = {**HEADERS, "Content-Type": kind}
        answer = {
            "status": 404 if content is None else 200,
            "headers": [{"name": name, "value": value} for name, value in headers.items()],
            "body": base64.b64encode(content or b"").decode(),
            "isBase64": True,
        }
        self._start(route, "fulfill", answer)

    def _end(self, reason: str) -> None:
        self._alive = False
        with self._lock:
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(BackendError(f"{self.endpoint}: {reason}"))
