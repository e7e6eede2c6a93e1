"""Named values as bytes: how tensors travel between Python and an engine.

A message is a little-endian u32 (bytes of the header), a JSON header padded so that the payload starts at a multiple
of eight, and the payload. The header is any JSON object; in `values` each value is one of

    {"dtype", "shape", "offset", "bytes"}         a tensor; sub-byte types are packed, low bits first
    {"dtype": "string", "shape", "strings"}       a tensor of strings
    {"sequence": [value, ...]}                    a list
    {"keys": [...], "items": [value, ...]}        a map
    {"absent": true}                              an optional without a value
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import BackendError

__all__ = ["RunValue", "decode", "encode"]

RunValue: TypeAlias = "npt.NDArray[Any] | list[Any] | dict[Any, Any] | None"
"""A tensor (strings as an object array), a sequence, a map, or an absent optional."""

_ALIGNMENT = 8


def encode(header: Mapping[str, Any], values: Mapping[str, RunValue]) -> bytes:
    """One message: `header` with its `values` filled in, and their payload."""
    payload = bytearray()
    full = {**header, "values": {name: _describe(value, payload) for name, value in values.items()}}
    text = json.dumps(full).encode()
    text += b" " * (-(len(text) + 4) % _ALIGNMENT)
    return len(text).to_bytes(4, "little") + text + bytes(payload)


def decode(message: bytes) -> tuple[dict[str, Any], dict[str, RunValue]]:
    """The header and the values of a message. Raises BackendError if it is damaged."""
    try:
        start = 4 + int.from_bytes(message[:4], "little")
        header: dict[str, Any] = json.loads(message[4:start])
        payload = memoryview(message)[start:]
        values = {name: _restore(spec, payload) for name, spec in header.pop("values", {}).items()}
    except (ValueError, KeyError) as error:
        raise BackendError(f"engine: expected a message of tensors, got {len(message)} bytes: {error}") from error
    return header, values


def _describe(value: RunValue, payload: bytearray) -> dict[str, Any]:
    if value is None:
        return {"absent": True}
    if isinstance(value, list):
        return {"sequence": [_describe(item, payload) for item in value]}
    if isinstance(value, dict):
        return {"keys": list(value), "items": [_describe(np.asarray(item), payload) for item in value.values()]}
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = DType.from_numpy(array.dtype)
    shape = [int(size) for size in array.shape]
    if dtype is DType.STRING:
        return {"dtype": "string", "shape": shape, "strings": [str(item) for item in array.reshape(-1)]}
    payload += b"\0" * (-len(payload) % _ALIGNMENT)
    data = _pack(array, dtype)
    offset = len(payload)
    payload += data
    return {"dtype": dtype.value, "shape": shape, "offset": offset, "bytes": len(data)}


def _restore(spec: Mapping[str, Any], payload: memoryview) -> RunValue:
    if spec.get("absent"):
        return None
    if "sequence" in spec:
        return [_restore(item, payload) for item in spec["sequence"]]
    if "keys" in spec:
        return dict(zip(spec["keys"], (_restore(item, payload) for item in spec["items"]), strict=True))
    shape = tuple(int(size) for size in spec["shape"])
    if spec["dtype"] == "string":
        return np.array(spec["strings"], dtype=object).reshape(shape)
    dtype = DType(spec["dtype"])
    data = payload[spec["offset"] : spec["offset"] + spec["bytes"]]
    return _unpack(data, dtype, shape)


def _pack(array: npt.NDArray[Any], dtype: DType) -> bytes:
    if dtype.bits >= 8:
        return np.ascontiguousarray(array).tobytes()
    per_byte = 8 // dtype.bits
    codes = np.ascontiguousarray(array).view(np.uint8).reshape(-1) & ((1 << dtype.bits) - 1)
    codes = np.pad(codes, (0, -codes.size % per_byte)).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(dtype.bits)
    packed: npt.NDArray[np.uint8] = np.bitwise_or.reduce(codes << shifts, axis=1).astype(np.uint8)
    return packed.tobytes()


def _unpack(data: memoryview, dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.bits >= 8:
        return np.frombuffer(data, dtype.numpy, count).reshape(shape).copy()
    per_byte = 8 // dtype.bits
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(dtype.bits)
    codes = (np.frombuffer(data, np.uint8)[:, None] >> shifts) & np.uint8((1 << dtype.bits) - 1)
    codes = codes.reshape(-1)[:count]
    if dtype.is_signed_integer:
        sign = np.uint8(1 << (dtype.bits - 1))
        return ((codes ^ sign).astype(np.int8) - np.int8(sign)).astype(dtype.numpy).reshape(shape)
    if dtype.is_unsigned_integer:
        return codes.astype(dtype.numpy).reshape(shape)
    return codes.astype(np.uint8).view(dtype.numpy).reshape(shape)
