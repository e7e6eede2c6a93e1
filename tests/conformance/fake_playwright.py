"""A server that speaks as much of Playwright's protocol as one page needs, and whose page answers by a function."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["FakePlaywright"]


class FakePlaywright:
    """evaluate: what the page answers to an expression, given a way to fetch a URL through the route that is set."""

    def __init__(self, evaluate: Callable[[str, Callable[[str], bytes]], Any], *, launched: bool) -> None:
        self.evaluate = evaluate
        self.launched = launched
        self.calls: list[str] = []
        self._bodies: dict[str, bytes] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/some/path"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rwb") as stream:
            key = ""
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(": ")
                key = value if name == "Sec-WebSocket-Key" else key
            accepted = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
            head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            stream.write(f"{head}Sec-WebSocket-Accept: {base64.b64encode(accepted).decode()}\r\n\r\n".encode())
            stream.flush()
            self._stream = stream
            while (message := self._receive()) is not None:
                self._answer(message)

    def _receive(self) -> dict[str, Any] | None:
        head = self._stream.read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return None
        size = head[1] & 127
        if size == 126:
            (size,) = struct.unpack(">H", self._stream.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._stream.read(8))
        mask = self._stream.read(4)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self._stream.read(size)))
        found: dict[str, Any] = json.loads(data)
        return found

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        half = len(data) // 2  # in two frames, as servers may send it
        for first, part in ((0x01, data[:half]), (0x80, data[half:])):
            self._stream.write(bytes([first, 126]) + struct.pack(">H", len(part)) + part)
        self._stream.flush()

    def _create(self, guid: str, **facts: Any) -> None:
        self._send({"guid": "", "method": "__create__", "params": {"guid": guid, "initializer": facts, "type": guid}})

    def _answer(self, message: dict[str, Any]) -> None:
        self.calls.append(message["method"])
        params, result = message["params"], dict[str, Any]()
        match message["method"]:
            case "initialize":
                self._create("browser", name="webkit", version="26.1")
                launched = {"preLaunchedBrowser": {"guid": "browser"}} if self.launched else {}
                self._create("playwright", chromium={"guid": "chromium"}, **launched)
                result = {"playwright": {"guid": "playwright"}}
            case "launch":
                result = {"browser": {"guid": "browser"}}
            case "newContext":
                result = {"context": {"guid": "context"}}
            case "newPage":
                self._create("page", mainFrame={"guid": "frame"})
                result = {"page": {"guid": "page"}}
            case "fulfill":
                self._bodies[message["guid"]] = base64.b64decode(params["body"])
            case "evaluateExpression" if "fail" in params["expression"]:
                self._send({"id": message["id"], "error": {"error": {"name": "Error", "message": "it failed"}}})
                return
            case "evaluateExpression":
                value = self.evaluate(params["expression"], self._fetch)
                result = {"value": {"s": json.dumps(value)}}
        self._send({"id": message["id"], "result": result})

    def _fetch(self, url: str) -> bytes:
        self._create("request-1", url=url)
        self._create("route-1", request={"guid": "request-1"})
        self._send({"guid": "page", "method": "route", "params": {"route": {"guid": "route-1"}}})
        reply = self._receive()
        assert reply is not None
        self._answer(reply)
        return self._bodies["route-1"]
