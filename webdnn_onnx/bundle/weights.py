"""Weights: constants in storage form, encoded, deduplicated, cut into shards."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError

__all__ = ["SHARD_BYTES", "Encoding", "WeightFile", "WeightStore", "stored_bytes"]

SHARD_BYTES = 24 * 2**20 - 2**16
"""Static hosts cap files at 25 MiB; a shard stays below 24."""

Encoding: TypeAlias = Literal["f32", "f16", "int8"]

_SMALLEST_ENCODED = 1024
"""Arrays with fewer elements than this (biases, scales) are stored as they are."""


def stored_bytes(array: npt.NDArray[Any], dtype: DType) -> bytes:
    """An array as docs/bundle-format.md stores its elements: row-major, little-endian, narrow types packed.

    Raises DTypeError for strings, complex numbers and 6-bit floats.
    """
    if dtype is DType.STRING or dtype.is_complex or dtype.bits == 6:
        raise DTypeError(f"a constant of type {dtype.value}: expected a numeric type, got one that has no storage form")
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype.bits >= 8:
        return bytes(flat.astype(dtype.numpy, copy=False).tobytes())
    codes = flat.astype(dtype.numpy, copy=False).view(np.uint8) & ((1 << dtype.bits) - 1)
    per_byte = 8 // dtype.bits
    padded = np.concatenate([codes, np.zeros(-len(codes) % per_byte, np.uint8)]).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * dtype.bits
    return bytes(np.bitwise_or.reduce(padded << shifts, axis=1).astype(np.uint8).tobytes())


@dataclass
class WeightFile:
    """One stream of bytes, written as shards. encoding: how large float32 arrays are stored.

    write(name, content) receives each finished shard; `shards` lists them afterwards. records: fingerprint -> the
    manifest's record.
    """

    encoding: Encoding
    write: Callable[[str, bytes], None]
    shards: list[dict[str, Any]] = field(default_factory=list)
    stored: int = 0
    _pending: bytearray = field(default_factory=bytearray)
    records: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    def add(self, array: npt.NDArray[Any], dtype: DType) -> dict[str, Any]:
        """Store a constant; returns its record for the manifest. Equal constants are stored once."""
        key, uniform = fingerprint(array, dtype)
        return self.put(key, lambda: array, dtype, uniform)

    def put(
        self, key: bytes, read: Callable[[], npt.NDArray[Any]], dtype: DType, uniform: float | int | None
    ) -> dict[str, Any]:
        """As `add`, for a constant whose fingerprint is known."""
        if key not in self.records:
            filled = {"encoding": "fill", "value": uniform}
            self.records[key] = self._encoded(read(), dtype) if uniform is None else filled
        return self.records[key]

    def cut(self) -> None:
        """Begin a new shard with whatever is added next."""
        if self._pending:
            self._flush()

    def _encoded(self, array: npt.NDArray[Any], dtype: DType) -> dict[str, Any]:
        large = dtype is DType.FLOAT32 and array.size >= _SMALLEST_ENCODED
        if large and self.encoding == "f16" and float(np.max(np.abs(array))) < 65504:
            return {"encoding": "f16", "pieces": self._append(array.astype(np.float16).tobytes())}
        if large and self.encoding == "int8" and array.ndim >= 2:
            return self._int8(array)
        return {"encoding": "raw", "pieces": self._append(stored_bytes(array, dtype))}

    def _int8(self, array: npt.NDArray[Any]) -> dict[str, Any]:
        """Symmetric, one scale per output channel: per index of the leading axis, and per lane of packed panels."""
        lanes = array.shape[-1] if array.ndim >= 3 and array.shape[-1] in (4, 8, 16) else 1
        blocks = np.ascontiguousarray(array).reshape(array.shape[0], -1, lanes)
        scales = (np.max(np.abs(blocks), axis=1, keepdims=True) / 127).astype(np.float32)
        codes = np.rint(blocks / np.where(scales == 0, 1, scales)).astype(np.int8)
        return {
            "encoding": "int8",
            "pieces": self._append(codes.tobytes()),
            "scales": self._append(scales.tobytes()),
            "channel": blocks.shape[1] * lanes,
            "lanes": lanes,
        }

    def _append(self, content: bytes) -> list[dict[str, int]]:
        """The places of some bytes: one piece, or several where they run over the end of a shard."""
        self.stored += len(content)
        pieces: list[dict[str, int]] = []
        view = memoryview(content)
        while view:
            self._pending.extend(bytes(-len(self._pending) % 16))
            room = SHARD_BYTES - len(self._pending)
            if room <= 0 or (len(view) > room and len(view) <= SHARD_BYTES):
                self._flush()
                continue
            part = view[:room]
            pieces.append({"shard": len(self.shards), "offset": len(self._pending), "bytes": len(part)})
            self._pending.extend(part)
            view = view[len(part) :]
        return pieces

    def _flush(self) -> None:
        content = bytes(self._pending)
        name = f"weights-{len(self.shards):02d}.bin"
        self.shards.append({"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
        self.write(name, content)
        self._pending.clear()

    def finish(self) -> list[dict[str, Any]]:
        """Write the last shard; returns the manifest's list of shards."""
        self.cut()
        return self.shards


@dataclass
class WeightStore:
    """The constants of several backends. Those that the same backends read share shards, so that a page downloads
    only what its backend needs.

    Arrays are read twice, to compare and to store them, and not kept in between.
    """

    file: WeightFile
    _users: dict[bytes, dict[str, None]] = field(default_factory=dict)
    _sources: dict[bytes, _Source] = field(default_factory=dict)
    _keys: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _seen: dict[int, tuple[weakref.ref[npt.NDArray[Any]], bytes]] = field(default_factory=dict)

    def use(self, backend: str, name: str, dtype: DType, read: Callable[[], npt.NDArray[Any]]) -> None:
        """Note that a backend reads a constant under a name. All uses come before `write`."""
        array = read()
        known = self._seen.get(id(array))
        if known is not None and known[0]() is array:
            key = known[1]
        else:
            key, uniform = fingerprint(array, dtype)
            self._seen[id(array)] = (weakref.ref(array), key)
            self._sources.setdefault(key, _Source(read, dtype, uniform))
        self._users.setdefault(key, {})[backend] = None
        self._keys[backend, name] = key

    def write(self) -> list[dict[str, Any]]:
        """Store every constant, group by group; returns the manifest's list of shards."""
        groups: dict[tuple[str, ...], list[bytes]] = {}
        for key, backends in self._users.items():
            groups.setdefault(tuple(backends), []).append(key)
        for keys in groups.values():
            for key in keys:
                source = self._sources[key]
                self.file.put(key, source.read, source.dtype, source.uniform)
            self.file.cut()
        return self.file.finish()

    def record(self, backend: str, name: str) -> dict[str, Any]:
        """The manifest's record of a constant that was noted and stored."""
        return self.file.records[self._keys[backend, name]]


@dataclass(frozen=True)
class _Source:
    """Where a constant comes from. uniform: the one value of all its elements, if they are equal."""

    read: Callable[[], npt.NDArray[Any]]
    dtype: DType
    uniform: float | int | None


def fingerprint(array: npt.NDArray[Any], dtype: DType) -> tuple[bytes, float | int | None]:
    """A digest that equal constants share, and the one value of a constant of equal elements (else None)."""
    uniform = _uniform(array, dtype)
    key = hashlib.sha256(f"{dtype.value} {array.shape} {uniform}".encode())
    if uniform is None:
        content = np.ascontiguousarray(array)
        key.update(content.view(np.uint8).data if dtype.bits >= 8 else stored_bytes(array, dtype))
    return key.digest(), uniform


def _uniform(array: npt.NDArray[Any], dtype: DType) -> float | int | None:
    """The one value of an array of equal values that a manifest can hold exactly, else None."""
    if array.size < 64 or dtype not in (DType.FLOAT32, DType.INT32, DType.UINT32):
        return None
    first = array.flat[0]
    repeated = not any(array.strides)
    if not np.isfinite(first) or not (repeated or _all_equal(array, first)):
        return None
    return float(first) if dtype.is_float else int(first)


def _all_equal(array: npt.NDArray[Any], value: Any) -> bool:
    flat = array.reshape(-1)
    return bool(flat[-1] == value) and all(bool(np.all(chunk == value)) for chunk in _chunks(flat))


def _chunks(flat: npt.NDArray[Any], size: int = 1 << 16) -> Iterator[npt.NDArray[Any]]:
    """Pieces that grow, so that a difference near the start is found at little cost."""
    begin = 0
    while begin < flat.size:
        yield flat[begin : begin + size]
        begin += size
        size = min(size * 4, 1 << 24)
