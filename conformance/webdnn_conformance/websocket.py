"""A small WebSocket client: text messages over ws:// and wss://, as far as browsers' remote interfaces need it.

Spec: https://www.rfc-editor.org/rfc/rfc6455
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import struct
import urllib.parse

from webdnn_onnx.errors import BackendError

__all__ = ["WebSocket"]

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_HEADER_LIMIT = 1 << 16


class WebSocket:
    """One connection. Raises BackendError if it cannot be made or breaks."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise BackendError(f"{url}: expected ws://host:port/path, got another kind of address")
        self.url = url
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        try:
            self._socket = socket.create_connection((parts.hostname, port), timeout)
            if parts.scheme == "wss":
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=parts.hostname)
        except OSError as error:
            raise BackendError(f"{url}: cannot connect: {error.strerror or error}") from error
        self._buffer = bytearray()
        self._shake_hands(parts)
        self._socket.settimeout(None)

    def send(self, text: str) -> None:
        """Send one text message."""
        self._send(_TEXT, text.encode())

    def receive(self) -> str | None:
        """The next text message; None once the other side has closed."""
        parts = bytearray()
        while True:
            try:
                last, kind, data = self._frame()
            except OSError:
                return None
            if kind == _CLOSE:
                with contextlib.suppress(OSError):
                    self._send(_CLOSE, data)
                return None
            if kind == _PING:
                self._send(_PONG, data)
            elif kind != _PONG:
                parts += data
                if last:
                    return parts.decode()

    def close(self) -> None:
        """Say goodbye and close; a thread that waits in `receive` gets None."""
        with contextlib.suppress(OSError):
            self._send(_CLOSE, b"")
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _shake_hands(self, parts: urllib.parse.SplitResult) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if parts.username:
            login = base64.b64encode(f"{parts.username}:{parts.password or ''}".encode()).decode()
            lines.append(f"Authorization: Basic {login}")
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self._buffer:
            chunk = self._socket.recv(4096)
            if not chunk or len(self._buffer) > _HEADER_LIMIT:
                raise BackendError(f"{self.url}: expected an answer to the WebSocket handshake, got none")
            self._buffer += chunk
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        status, *headers = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
        accepted = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
        if " 101 " not in f"{status} " or fields.get("sec-websocket-accept") != accepted:
            raise BackendError(f"{self.url}: expected a WebSocket, got: {status}")

    def _send(self, kind: int, data: bytes) -> None:
        mask = os.urandom(4)
        size = len(data)
        if size < 126:
            head = bytes([0x80 | kind, 0x80 | size])
        elif size < 1 << 16:
            head = bytes([0x80 | kind, 0x80 | 126]) + struct.pack(">H", size)
        else:
            head = bytes([0x80 | kind, 0x80 | 127]) + struct.pack(">Q", size)
        self._socket.sendall(head + mask + _masked(data, mask))

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._read(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._read(8))
        mask = self._read(4) if second & 0x80 else b""
        data = self._read(size)
        return bool(first & 0x80), first & 0x0F, _masked(data, mask) if mask else data

    def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = self._socket.recv(1 << 18)
            if not chunk:
                raise ConnectionError("closed")
            self._buffer += chunk
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


def _masked(data: bytes, mask: bytes) -> bytes:
    """Data under the mask that clients have to use."""
    if not data:
        return b""
    length = len(data)
    pattern = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(length, "little")
