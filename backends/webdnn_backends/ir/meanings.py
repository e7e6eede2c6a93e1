"""What each scalar operator and each conversion computes, in NumPy: the table that every dialect is checked against."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_onnx.dtypes import DType

__all__ = ["MEANINGS", "bitcast", "convert", "evaluate", "narrow", "numpy_type", "widen"]

Array = npt.NDArray[Any]

_NUMPY: dict[Scalar, np.dtype[Any]] = {
    Scalar.BOOL: np.dtype(np.bool_),
    Scalar.I32: np.dtype(np.int32),
    Scalar.U32: np.dtype(np.uint32),
    Scalar.I64: np.dtype(np.int64),
    Scalar.U64: np.dtype(np.uint64),
    Scalar.F32: np.dtype(np.float32),
    Scalar.F64: np.dtype(np.float64),
}


def numpy_type(type: Scalar) -> np.dtype[Any]:
    """The NumPy dtype of a compute type."""
    return _NUMPY[type]


def evaluate(op: Op, *args: Array) -> Array:
    """The operator applied to arrays of one compute type; the result has the operator's type."""
    with np.errstate(all="ignore"):
        return np.asarray(MEANINGS[op](*args))


def bitcast(value: Array, type: Scalar) -> Array:
    """The same bits read as another compute type of the same width."""
    return np.ascontiguousarray(value).view(_NUMPY[type])


def widen(value: Array) -> Array:
    """Storage elements in their compute type."""
    return value.astype(_NUMPY[compute_type(DType.from_numpy(value.dtype))])


def narrow(value: Array, to: DType) -> Array:
    """Values of a compute type as storage elements: what Store does."""
    return convert(value, to).astype(to.numpy)


def convert(value: Array, to: DType) -> Array:
    """Cast: values of a storage type, held in its compute type."""
    with np.errstate(all="ignore"):
        if to is DType.BOOL:
            return np.asarray(value != 0)
        if value.dtype == np.bool_:
            value = value.astype(np.int32)
        if to.is_float:
            return _to_float(value, to)
        return _to_integer(value, to)


def _to_integer(value: Array, to: DType) -> Array:
    target = compute_type(to)
    if value.dtype.kind == "f":
        wide = value.astype(np.float64)
        low, high = int(np.iinfo(_NUMPY[target]).min), int(np.iinfo(_NUMPY[target]).max)
        inside = np.where(np.isnan(wide) | (wide >= float(high)) | (wide <= float(low)), 0.0, np.trunc(wide))
        whole = inside.astype(_NUMPY[target])
        whole = np.where(wide >= float(high), _NUMPY[target].type(high), whole)
        whole = np.where(wide <= float(low), _NUMPY[target].type(low), whole)
    else:
        whole = value.astype(_NUMPY[target])
    if to.bits < target.bits:
        spare = _NUMPY[target].type(target.bits - to.bits)
        whole = (whole << spare) >> spare
    return whole.astype(_NUMPY[target])


def _to_float(value: Array, to: DType) -> Array:
    if to in (DType.FLOAT32, DType.FLOAT64):
        return value.astype(to.numpy)
    wide = _to_float32_odd(value) if value.dtype == np.float64 else value.astype(np.float32)
    if to is DType.FLOAT8E8M0:
        return _round_e8m0(wide)
    if to in (DType.FLOAT8E4M3FN, DType.FLOAT4E2M1):
        limit = np.float32(448.0 if to is DType.FLOAT8E4M3FN else 6.0)
        wide = np.clip(wide, -limit, limit)
    elif to in (DType.FLOAT8E4M3FNUZ, DType.FLOAT8E5M2FNUZ):
        limit = np.float32(240.0 if to is DType.FLOAT8E4M3FNUZ else 57344.0)
        wide = np.clip(wide, -limit, limit)
    if to is DType.FLOAT4E2M1:
        wide = np.where(np.isnan(wide), np.float32(6.0), wide)
    return wide.astype(to.numpy).astype(np.float32)


def _to_float32_odd(value: Array) -> Array:
    """float64 as float32 rounded to odd: a second rounding to fewer bits is then as if it were the only one."""
    near = value.astype(np.float32)
    bits, back = near.view(np.uint32), near.astype(np.float64)
    moved = np.where(np.abs(back) > np.abs(value), bits - np.uint32(1), bits + np.uint32(1))
    inexact = (back != value) & (value == value) & (bits % 2 == 0)
    return np.where(inexact, moved, bits).view(np.float32)


def _round_e8m0(value: Array) -> Array:
    """The nearest power of two, halves upwards, from 2**-127 to 2**127; NaN for NaN and below zero."""
    mantissa, exponent = np.frexp(np.where(np.isfinite(value) & (value > 0), value, np.float32(1)))
    power = np.clip(exponent - (mantissa < np.float32(0.75)), -127, 127)
    rounded = np.ldexp(np.float64(1), power).astype(np.float32)
    rounded = np.where(value == 0, np.float32(2.0**-127), rounded)
    rounded = np.where(np.isposinf(value), np.float32(2.0**127), rounded)
    return np.where(np.isnan(value) | (value < 0), np.float32(np.nan), rounded)


def _guarded(quotient: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """An integer division in which x/0 is 0 and MIN/-1 wraps."""

    def divide(a: Array, b: Array) -> Array:
        safe = np.where(b == 0, b.dtype.type(1), b)
        if a.dtype.kind == "i":
            safe = np.where(b == -1, b.dtype.type(1), safe)
            return np.where(b == 0, b.dtype.type(0), np.where(b == -1, np.negative(a), quotient(a, safe)))
        return np.where(b == 0, b.dtype.type(0), quotient(a, safe))

    return divide


def _remainder(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    def remainder(a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            return function(a, b)
        safe = np.where(b == 0, b.dtype.type(1), b)
        if a.dtype.kind == "i":
            safe = np.where(b == -1, b.dtype.type(1), safe)
        return function(a, safe)

    return remainder


def _truncated(a: Array, b: Array) -> Array:
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "u":
        return np.asarray(quotient)
    inexact = quotient * b != a
    return np.asarray(quotient + (inexact & ((a < 0) != (b < 0))).astype(a.dtype))


def _divide(a: Array, b: Array) -> Array:
    return np.asarray(np.divide(a, b)) if a.dtype.kind == "f" else _guarded(_truncated)(a, b)


def _shift_left(a: Array, b: Array) -> Array:
    width = a.dtype.itemsize * 8
    outside = (b < 0) | (b >= width)
    return np.where(outside, a.dtype.type(0), np.left_shift(a, np.where(outside, b.dtype.type(0), b)))


def _shift_right(a: Array, b: Array) -> Array:
    width = a.dtype.itemsize * 8
    outside = (b < 0) | (b >= width)
    filled = np.right_shift(a, a.dtype.type(width - 1)) if a.dtype.kind == "i" else np.zeros_like(a)
    return np.where(outside, filled, np.right_shift(a, np.where(outside, b.dtype.type(0), b)))


def _single(function: Callable[..., Array]) -> Callable[..., Array]:
    """Evaluated in float64 and rounded, so that the meaning does not hang on a library's float32 accuracy."""

    def rounded(*args: Array) -> Array:
        return np.asarray(function(*(arg.astype(np.float64) for arg in args))).astype(args[0].dtype)

    return rounded


def _erf(a: Array) -> Array:
    flat = [math.erf(value) for value in a.ravel().tolist()]
    return np.array(flat, np.float64).reshape(a.shape)


MEANINGS: dict[Op, Callable[..., Array]] = {
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: _divide,
    Op.REM: _remainder(np.fmod),
    Op.FLOOR_DIV: _guarded(np.floor_divide),
    Op.FLOOR_MOD: _remainder(np.mod),
    Op.FMA: lambda a, b, c: a * b + c,
    Op.NEG: np.negative,
    Op.ABS: np.abs,
    Op.SIGN: np.sign,
    Op.MIN: np.minimum,
    Op.MAX: np.maximum,
    Op.FLOOR: np.floor,
    Op.CEIL: np.ceil,
    Op.TRUNC: np.trunc,
    Op.ROUND: np.rint,
    Op.SQRT: np.sqrt,
    Op.EXP: _single(np.exp),
    Op.LOG: _single(np.log),
    Op.POW: _single(np.power),
    Op.SIN: _single(np.sin),
    Op.COS: _single(np.cos),
    Op.TAN: _single(np.tan),
    Op.ASIN: _single(np.arcsin),
    Op.ACOS: _single(np.arccos),
    Op.ATAN: _single(np.arctan),
    Op.SINH: _single(np.sinh),
    Op.COSH: _single(np.cosh),
    Op.TANH: _single(np.tanh),
    Op.ASINH: _single(np.arcsinh),
    Op.ACOSH: _single(np.arccosh),
    Op.ATANH: _single(np.arctanh),
    Op.ERF: _single(_erf),
    Op.EQ: np.equal,
    Op.NE: np.not_equal,
    Op.LT: np.less,
    Op.LE: np.less_equal,
    Op.GT: np.greater,
    Op.GE: np.greater_equal,
    Op.IS_NAN: np.isnan,
    Op.IS_INF: np.isinf,
    Op.AND: np.logical_and,
    Op.OR: np.logical_or,
    Op.XOR: np.logical_xor,
    Op.NOT: np.logical_not,
    Op.BIT_AND: np.bitwise_and,
    Op.BIT_OR: np.bitwise_or,
    Op.BIT_XOR: np.bitwise_xor,
    Op.BIT_NOT: np.invert,
    Op.SHL: _shift_left,
    Op.SHR: _shift_right,
    Op.POPCOUNT: lambda a: np.bitwise_count(a.view(f"u{a.dtype.itemsize}")).astype(a.dtype),
}
