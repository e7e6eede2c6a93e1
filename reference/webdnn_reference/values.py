"""What flows between nodes: arrays, lists (sequences), None (an empty optional), dicts (maps)."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, ShapeError
from webdnn_onnx.graph import MapType, OptionalType, SequenceType, TensorType, Type, Value
from webdnn_reference.numeric import ORACLE_FLOATS, Array

__all__ = ["as_input", "as_value", "check_declared", "typed_items"]


_KIND = attrgetter("dtype.kind")
_TEXTS = frozenset("SUT")


class _Held(list[Any]):
    """A sequence whose elements are known to be in the form that operators take."""


def as_input(value: Any) -> Any:
    """A caller's value in the form that operators take: as `as_value`, in the machine's byte order, and object arrays
    hold `str`, never bytes."""
    if isinstance(value, (list, tuple)):
        return [as_input(item) for item in value]
    result = as_value(value, float64=False)
    if isinstance(result, np.ndarray):
        if result.dtype == object:
            return _strings(result)
        if not result.dtype.isnative:
            return result.astype(result.dtype.newbyteorder("="))
    return result


def as_value(value: Any, float64: bool) -> Any:
    """A value in the form that operators take: scalars as arrays of rank 0, strings as object arrays of `str`.

    float64: floating-point arrays of 16 bits and more become float64, inside sequences and maps too.
    """
    if type(value) is np.ndarray:
        dtype = value.dtype
        if float64 and dtype in ORACLE_FLOATS:
            return value.astype(np.float64, copy=False)
        return _strings(value) if dtype.kind in "SUT" else value
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        if float64:
            return [as_value(item, float64) for item in value]
        # A loop that grows a sequence passes it here at every step.
        if type(value) is _Held or ({np.ndarray}.issuperset(map(type, value)) and _TEXTS.isdisjoint(map(_KIND, value))):
            return value if type(value) is _Held else _Held(value)
        return _Held(as_value(item, float64) for item in value)
    if isinstance(value, dict):
        return {key: as_value(item, float64) if isinstance(item, np.ndarray) else item for key, item in value.items()}
    if isinstance(value, (str, bytes)):
        return _strings(np.array(value, dtype=object))
    return as_value(np.asarray(value), float64)


def check_declared(declared: Value, value: Any, symbols: dict[str, int]) -> None:
    """Check a value given for a model input against the declared type.

    symbols: sizes of named dimensions met so far; one symbol stands for one size. Raises DTypeError, ShapeError.
    """
    if declared.type is not None:
        _check(f"input '{declared.name}'", declared.type, value, symbols)


def typed_items(declared: Value, value: Any) -> Any:
    """A value given for a model input with the numbers of its maps in the declared type. Raises DTypeError."""
    return value if declared.type is None else _typed_items(f"input '{declared.name}'", declared.type, value)


def _typed_items(what: str, expected: Type, value: Any) -> Any:
    if isinstance(expected, OptionalType):
        return None if value is None else _typed_items(what, expected.element, value)
    if isinstance(expected, SequenceType) and not isinstance(expected.element, TensorType):
        return [_typed_items(what, expected.element, item) for item in value]
    if not isinstance(expected, MapType) or not isinstance(expected.value, TensorType):
        return value
    dtype = expected.value.dtype
    typed: dict[Any, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str if expected.key is DType.STRING else (int, np.integer)):
            raise DTypeError(f"{what}: expected {expected}, got the key {key!r}")
        array = np.asarray(item)
        text = array.dtype.kind in "OSUT"
        if text != (dtype is DType.STRING) or (text and not isinstance(item, str)):
            raise DTypeError(f"{what}: expected {expected}, got the value {item!r}")
        if array.size != 1 or (dtype.is_integer and array.dtype.kind not in "biu"):
            raise DTypeError(f"{what}: expected {expected}, got the value {item!r}")
        typed[key if isinstance(key, str) else int(key)] = item if text else array.reshape(()).astype(dtype.numpy)[()]
    return typed


def _check(what: str, expected: Type, value: Any, symbols: dict[str, int]) -> None:
    if isinstance(expected, OptionalType):
        if value is not None:
            _check(what, expected.element, value, symbols)
    elif isinstance(expected, SequenceType):
        if not isinstance(value, list):
            raise DTypeError(f"{what}: expected {expected}, got {type(value).__name__}")
        for item in value:
            _check(what, expected.element, item, {})
    elif isinstance(expected, MapType):
        if not isinstance(value, dict):
            raise DTypeError(f"{what}: expected {expected}, got {type(value).__name__}")
    elif not isinstance(value, np.ndarray):
        raise DTypeError(f"{what}: expected {expected}, got {type(value).__name__}")
    else:
        _check_tensor(what, expected, value, symbols)


def _check_tensor(what: str, expected: TensorType, value: Array, symbols: dict[str, int]) -> None:
    try:
        dtype = DType.from_numpy(value.dtype)
    except DTypeError:
        raise DTypeError(f"{what}: expected {expected}, got {value.dtype}{list(value.shape)}") from None
    if dtype is not expected.dtype:
        raise DTypeError(f"{what}: expected {expected}, got {dtype.value}{list(value.shape)}")
    if expected.shape is None:
        return
    if len(expected.shape) != value.ndim:
        raise ShapeError(f"{what}: expected {expected}, got {dtype.value}{list(value.shape)}")
    for size, declared in zip(value.shape, expected.shape, strict=True):
        wanted = declared if isinstance(declared, int) else symbols.setdefault(str(declared), size)
        if size != wanted:
            known = "" if isinstance(declared, int) else f" with {declared} = {wanted} as before"
            raise ShapeError(f"{what}: expected {expected}{known}, got {dtype.value}{list(value.shape)}")


def _strings(value: Array) -> Array:
    if value.dtype == object and {str}.issuperset(map(type, value.reshape(-1).tolist())):
        return value
    flat = [item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else str(item) for item in value.flat]
    result = np.empty(value.shape, dtype=object)
    result.reshape(-1)[:] = flat
    return result
