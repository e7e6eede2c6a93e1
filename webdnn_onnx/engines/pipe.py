"""The Chrome DevTools Protocol over a pair of pipes.

Chromium started with --remote-debugging-pipe reads commands from file descriptor 3 and writes answers and events to
file descriptor 4, each a JSON text ended by a zero byte. No port is opened and no library is needed.

Spec: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from webdnn_onnx.errors import BackendError

__all__ = ["DevTools", "DevToolsClosedError"]

Listener = Callable[[str, dict[str, Any]], None]


class DevToolsClosedError(BackendError):
    """The browser closed its end of the pipe: it exited or crashed."""


class DevTools:
    """One connection. Commands may come from any thread; events are handed to listeners on the reading thread."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._reader = os.fdopen(read_fd, "rb", buffering=0)
        self._writer = os.fdopen(write_fd, "wb", buffering=0)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[str, str | None, Future[dict[str, Any]]]] = {}
        self._listeners: dict[str | None, list[Listener]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._read, daemon=True, name="webdnn-devtools")
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._closed

    def listen(self, listener: Listener, session: str | None = None) -> None:
        """Call `listener(method, params)` for every event of a session (None: of the browser itself)."""
        with self._lock:
            self._listeners.setdefault(session, []).append(listener)

    def start(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> Future[dict[str, Any]]:
        """Send a command; the future has its result. Raises DevToolsClosedError if the browser is gone."""
        future: Future[dict[str, Any]] = Future()
        message: dict[str, Any] = {"id": next(self._ids), "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        with self._lock:
            if self._closed:
                raise DevToolsClosedError(f"browser: {method}: expected a running browser, got one that has exited")
            self._waiting[message["id"]] = (method, session, future)
            try:
                view = memoryview(data)
                while view:
                    view = view[self._writer.write(view) :]
            except OSError as error:
                del self._waiting[message["id"]]
                raise DevToolsClosedError(f"browser: {method}: {error.strerror}") from error
        return future

    def call(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Send a command and wait. Raises BackendError if the browser refuses it, is gone or silent."""
        future = self.start(method, params, session)
        try:
            return future.result(timeout)
        except FutureTimeoutError:
            raise BackendError(f"browser: {method}: expected an answer within {timeout:g} s, got none") from None

    def fail(self, session: str | None, error: BackendError) -> None:
        """End the commands that wait for a session which will not answer any more."""
        with self._lock:
            ended = [number for number, (_, owner, _) in self._waiting.items() if owner == session]
            futures = [self._waiting.pop(number)[2] for number in ended]
        for future in futures:
            future.set_exception(error)

    def close(self) -> None:
        """Close our ends of the pipes. The browser exits when it reads the end of file."""
        with contextlib.suppress(OSError):
            self._writer.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _read(self) -> None:
        pending = bytearray()
        while True:
            try:
                chunk = self._reader.read(1 << 16)
            except (OSError, ValueError):
                chunk = b""
            if not chunk:
                break
            pending += chunk
            while (end := pending.find(b"\0")) >= 0:
                message = json.loads(pending[:end])
                del pending[: end + 1]
                self._dispatch(message)
        with self._lock:
            self._closed = True
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for method, _, future in waiting:
            future.set_exception(
                DevToolsClosedError(f"browser: {method}: expected an answer, got an exit of the browser")
            )
        self._reader.close()

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._lock:
                entry = self._waiting.pop(message["id"], None)
            if entry is None:
                return
            method, _, future = entry
            if "error" in message:
                future.set_exception(BackendError(f"browser: {method}: {message['error'].get('message', 'refused')}"))
            else:
                future.set_result(message.get("result", {}))
            return
        with self._lock:
            listeners = list(self._listeners.get(message.get("sessionId"), ()))
        for listener in listeners:
            listener(message["method"], message.get("params", {}))
