"""Cast, CastLike and BitCast.

Numbers are converted as the table of the Cast specification says. What it leaves open: floats outside the range of
an integer type are truncated and wrapped, NaN becomes 0; numbers become the shortest strings that read back as the
same value, those narrower than float32 as float32 ("1", "0.1", "1e+20", "NaN", "-INF"), bools "1" and "0"; a string
that is to become an integer may be written as a real number and is truncated.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from onnx import TensorProto

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError
from webdnn_reference.numeric import (
    ORACLE_FLOATS,
    Array,
    in_parts,
    is_float,
    is_integer,
    limits,
    widen,
    widen_integer,
    wrap,
)
from webdnn_reference.registry import Context, op

__all__ = [
    "bit_cast",
    "cast_1",
    "cast_6",
    "cast_19",
    "cast_24",
    "cast_like_15",
    "cast_like_19",
    "cast_like_24",
    "convert",
]

_FLOAT32_EXACT = 1 << 24
"""The magnitude up to which float32 holds every integer."""

_NOT_FINITE = {"nan": "NaN", "inf": "INF", "-inf": "-INF"}

_NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)\s*", re.ASCII | re.IGNORECASE)
_FLOAT8_MAX = {
    DType.FLOAT8E4M3FN: 448.0,
    DType.FLOAT8E4M3FNUZ: 240.0,
    DType.FLOAT8E5M2: 57344.0,
    DType.FLOAT8E5M2FNUZ: 57344.0,
}


def convert(x: Array, to: DType, *, saturate: bool = True, round_mode: str = "up") -> Array:
    """The array with each element converted to another type.

    saturate: whether what is too large for a float8 type becomes its greatest value, rather than infinity or NaN.
    round_mode: up, down or nearest, for float8e8m0.   Raises InvalidModelError for a string that is no number.
    """
    if to is DType.STRING:
        return x if x.dtype == np.object_ else _to_strings(x)
    if x.dtype == np.object_:
        x = _from_strings(x, to)
    if x.dtype == to.numpy:
        return x
    if to in (DType.FLOAT32, DType.FLOAT64):
        return x.astype(to.numpy)
    if to.bits >= (16 if to.is_float else 8) and (is_float(x) or not to.is_float):
        return _converted(x, to, saturate, round_mode)
    # The narrowest types take several steps, each as large as many of the results.
    return in_parts(lambda part: _converted(part, to, saturate, round_mode), x)


def _converted(x: Array, to: DType, saturate: bool, round_mode: str) -> Array:
    if to is DType.BOOL:
        return np.asarray(widen_integer(widen(x)) != 0)
    if to.is_integer:
        return _to_integers(x, to)
    if to is DType.FLOAT8E8M0:
        return _to_exponents(widen(_real(x)), saturate, round_mode)
    if to in _FLOAT8_MAX:
        return _to_float8(_real(x), to, saturate)
    return _to_float(x, to)


def _real(x: Array) -> Array:
    """Integers and bools in a float type that narrower floats can be rounded from at once."""
    if is_float(x):
        return x
    whole = widen_integer(x)
    if whole.itemsize < 4 or not whole.size or (whole.max() <= _FLOAT32_EXACT and whole.min() >= -_FLOAT32_EXACT):
        return whole.astype(np.float32)
    if whole.dtype in (np.int64, np.uint64):
        # float64 has 53 bits: what is longer is made odd there, so that the next rounding sees that something was lost.
        low = whole & whole.dtype.type(0x7FF)
        long = (low != 0) & ((whole > 1 << 53) | (whole < -(1 << 53)))
        whole = np.where(long, (whole - low) | whole.dtype.type(0x800), whole)
    return whole.astype(np.float64)


def _to_float(x: Array, to: DType) -> Array:
    real = _real(x)
    if real.dtype == np.float64 and to is not DType.FLOAT16:
        real = _to_odd_float32(real)
    return widen(real).astype(to.numpy)


def _to_odd_float32(x: Array) -> Array:
    """float64 as float32, rounded so that a further rounding gives what a single one would have given."""
    near = x.astype(np.float32)
    inexact = (near.astype(np.float64) != x) & np.isfinite(near)
    toward = np.where(np.abs(near.astype(np.float64)) > np.abs(x), np.nextafter(near, np.float32(0)), near)
    return np.where(inexact, (toward.view(np.uint32) | np.uint32(1)).view(np.float32), near)


def _to_integers(x: Array, to: DType) -> Array:
    if not is_float(x):
        return wrap(x, to.numpy)
    real = widen(x)
    least, greatest = limits(to.numpy)
    if real.size and real.min() >= least and real.max() < min(greatest + 1, 1 << 63):
        if to.bits < 8:
            real = real.astype(np.int8)
        return real.astype(to.numpy)
    if real.size and real.min() >= -(1 << 31) and real.max() < 1 << 31:
        return wrap(real.astype(np.int32), to.numpy)
    whole = np.trunc(real)
    if to is DType.UINT64:
        positive = np.where(whole >= 2.0**63, whole, 0).astype(np.uint64)
        return np.where(
            whole >= 2.0**63, positive, np.where(whole < 2.0**63, whole, 0).astype(np.int64).astype(np.uint64)
        )
    return wrap(np.where(np.isnan(whole), 0, whole).astype(np.int64), to.numpy)


def _to_float8(x: Array, to: DType, saturate: bool) -> Array:
    if x.dtype == np.float64:
        x = _to_odd_float32(x)
    x = widen(x)
    if saturate:
        x = np.clip(x, -_FLOAT8_MAX[to], _FLOAT8_MAX[to])
    return x.astype(to.numpy)


def _to_exponents(x: Array, saturate: bool, round_mode: str) -> Array:
    """float8e8m0, powers of two from 2**-127 to 2**127 and NaN; negative numbers give NaN."""
    mantissa, exponent = np.frexp(np.where(np.isfinite(x) & (x > 0), x, 1))
    match round_mode:
        case "up":
            raised = mantissa > 0.5
        case "down":
            raised = np.zeros(x.shape, np.bool_)
        case "nearest":
            raised = mantissa >= 0.75
        case _:
            raise InvalidModelError(f"round_mode: expected up, down or nearest, got {round_mode!r}")
    power = exponent.astype(np.int64) - 1 + raised
    power = np.where(x == 0, -128, np.where(x == np.inf, 128, power))
    invalid = np.isnan(x) | (x < 0)
    if saturate:
        power = np.clip(power, -127, 127)
    else:
        invalid = invalid | (power < -127) | (power > 127)
    return np.where(invalid, 255, power + 127).astype(np.uint8).view(DType.FLOAT8E8M0.numpy)


def _to_strings(x: Array) -> Array:
    values = widen(widen_integer(x)).reshape(-1)
    result = np.empty(x.shape, np.object_)
    if values.dtype.kind == "f":
        # The float64 nearest to the shortest text of a float32 has that same text, and no NumPy version changes it.
        numbers = values.tolist() if values.dtype == np.float64 else map(float, map(str, values))
        result.reshape(-1)[:] = [_spelled(text) for text in map(repr, numbers)]
    else:
        result.reshape(-1)[:] = list(map(str, values.astype(np.uint8) if values.dtype == np.bool_ else values.tolist()))
    return result


def _spelled(text: str) -> str:
    return _NOT_FINITE.get(text) or text.removesuffix(".0")


def _from_strings(x: Array, to: DType) -> Array:
    """Numbers that are exact for the target: int64 or uint64 for integers, float64 otherwise."""
    exact = np.dtype(np.uint64 if to is DType.UINT64 else np.int64 if to.is_integer else np.float64)
    texts = x.reshape(-1).tolist()
    for text in texts:
        if _NUMBER.fullmatch(text) is None:
            raise InvalidModelError(f"input: expected strings that are numbers, got {text!r}")
    try:
        plain = np.array(list(map(float if exact.kind == "f" else int, texts)), exact)
    except (ValueError, OverflowError):  # something to be truncated or wrapped, or no number
        plain = np.array([_parsed(text, exact) for text in texts], exact)
    return plain.reshape(x.shape)


def _parsed(text: str, exact: np.dtype[Any]) -> int | float:
    try:
        if exact.kind == "f":
            return float(text)
        try:
            number = int(text)
        except ValueError:
            number = int(float(text))
    except (ValueError, OverflowError):
        raise InvalidModelError(f"input: expected strings that are numbers, got {text!r}") from None
    bits = 8 * exact.itemsize
    number &= (1 << bits) - 1
    return number - (1 << bits) if exact.kind == "i" and number >> (bits - 1) else number


def _target(to: int, context: Context) -> DType:
    """The element type that an attribute names, as the interpreter holds it."""
    dtype = DType.from_onnx(to)
    return DType.FLOAT64 if context.float64 and dtype.numpy in ORACLE_FLOATS else dtype


@op("Cast", since=1)
def cast_1(input: Array, *, to: str | int, context: Context) -> Array:
    """The input converted to the type with the given name, such as "FLOAT".

    input: any number or bool -> same shape.   Raises DTypeError for an unknown name.
    Spec: https://onnx.ai/onnx/operators/onnx__Cast.html#cast-1
    """
    if isinstance(to, str):
        names: dict[str, int] = dict(TensorProto.DataType.items())
        if to.upper() not in names:
            raise DTypeError(f"to: expected the name of an element type, such as FLOAT, got {to!r}")
        to = names[to.upper()]
    return convert(input, _target(to, context))


@op("Cast", since=(6, 9, 13))
def cast_6(input: Array, *, to: int, context: Context) -> Array:
    """The input converted to another type.

    input: any number, bool or string -> same shape.   Raises DTypeError, InvalidModelError for a bad string.
    Spec: https://onnx.ai/onnx/operators/onnx__Cast.html#cast-13
    """
    return convert(input, _target(to, context))


@op("Cast", since=(19, 21, 23))
def cast_19(input: Array, *, to: int, saturate: int = 1, context: Context) -> Array:
    """The input converted to another type; what is too large for float8 saturates or not.

    input: any number, bool or string -> same shape.   Raises DTypeError, InvalidModelError for a bad string.
    Spec: https://onnx.ai/onnx/operators/onnx__Cast.html#cast-23
    """
    return convert(input, _target(to, context), saturate=bool(saturate))


@op("Cast", since=(24, 25, 28))
def cast_24(input: Array, *, to: int, round_mode: str = "up", saturate: int = 1, context: Context) -> Array:
    """The input converted to another type; round_mode says how float8e8m0 is rounded.

    input: any number, bool or string -> same shape.   Raises DTypeError, InvalidModelError for a bad string.
    Spec: https://onnx.ai/onnx/operators/onnx__Cast.html#cast-28
    """
    return convert(input, _target(to, context), saturate=bool(saturate), round_mode=round_mode)


@op("CastLike", since=15)
def cast_like_15(input: Array, target_type: Array) -> Array:
    """The first input converted to the type of the second.

    input: any number, bool or string -> same shape.   Raises InvalidModelError for a bad string.
    Spec: https://onnx.ai/onnx/operators/onnx__CastLike.html#castlike-15
    """
    return convert(input, DType.from_numpy(target_type.dtype))


@op("CastLike", since=(19, 21, 23))
def cast_like_19(input: Array, target_type: Array, *, saturate: int = 1) -> Array:
    """The first input converted to the type of the second; what is too large for float8 saturates or not.

    input: any number, bool or string -> same shape.   Raises InvalidModelError for a bad string.
    Spec: https://onnx.ai/onnx/operators/onnx__CastLike.html#castlike-23
    """
    return convert(input, DType.from_numpy(target_type.dtype), saturate=bool(saturate))


@op("CastLike", since=(24, 25))
def cast_like_24(input: Array, target_type: Array, *, round_mode: str = "up", saturate: int = 1) -> Array:
    """The first input converted to the type of the second; round_mode says how float8e8m0 is rounded.

    input: any number, bool or string -> same shape.   Raises InvalidModelError for a bad string.
    Spec: https://onnx.ai/onnx/operators/onnx__CastLike.html#castlike-25
    """
    return convert(input, DType.from_numpy(target_type.dtype), saturate=bool(saturate), round_mode=round_mode)


@op("BitCast", since=26)
def bit_cast(input: Array, *, to: int, context: Context) -> Array:
    """The same bits read as another type of the same width.

    input: anything but strings -> same shape. The float64 oracle, which has no narrower floats, rounds to the width
    of a float32 target or source.   Raises DTypeError for strings or another width.
    Spec: https://onnx.ai/onnx/operators/onnx__BitCast.html#bitcast-26
    """
    target = DType.from_onnx(to)
    source = DType.from_numpy(input.dtype)
    if context.float64 and source is DType.FLOAT64 and target.bits != 64:
        source = next((dtype for dtype in (DType.FLOAT32, DType.FLOAT16) if dtype.bits == target.bits), source)
        input = convert(input, source)
    if DType.STRING in (source, target) or source.bits != target.bits:
        raise DTypeError(f"to: expected a type of {source.bits} bits as {source.value} has, got {target.value}")
    if target is DType.BOOL:
        return np.asarray(input.view(np.uint8) != 0)
    if target.bits >= 8:
        return input.view(target.numpy)
    bits = input.view(np.uint8) & np.uint8((1 << target.bits) - 1)
    return wrap(bits, target.numpy) if is_integer(target.numpy) else bits.view(target.numpy)
