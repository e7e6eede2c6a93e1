"""Conversions between element types, as the table of the Cast specification says.

What it leaves open: floats outside the range of an integer type are truncated and wrapped, NaN becomes 0.
"""

from __future__ import annotations

import math

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, mul
from webdnn_backends.ir.loops import Bitcast, Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.formulas import all_of, as_type, clamp, equal, less
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError

__all__ = ["converted"]

_LARGEST = {
    DType.FLOAT8E4M3FN: 448.0,
    DType.FLOAT8E4M3FNUZ: 240.0,
    DType.FLOAT8E5M2: 57344.0,
    DType.FLOAT8E5M2FNUZ: 57344.0,
}
_ROUNDS_UP = {DType.FLOAT8E4M3FN: 464.0, DType.FLOAT8E4M3FNUZ: 248.0, DType.FLOAT8E5M2FNUZ: 61440.0}
"""Halfway from the largest value to the next power of two, in the types without infinity."""


def converted(x: Expr, to: DType, *, saturate: bool = True, round_mode: str = "up") -> Expr:
    """x in another type. saturate: what is too large for a float8 type becomes its greatest value, rather than infinity
    or NaN. round_mode: up, down or nearest, for float8e8m0. Raises InvalidModelError for another."""
    if to is DType.FLOAT8E8M0:
        return _exponent(as_type(Scalar.F32, x), saturate, round_mode)
    if to in _LARGEST:
        return _float8(x if x.type.is_float else as_type(Scalar.F32, x), to, saturate)
    if to is DType.FLOAT4E2M1:
        real = x if x.type.is_float else as_type(Scalar.F32, x)
        return cast(to, build.select(apply(Op.IS_NAN, real), const(-0.0, real.type), real))
    if x.type.is_float and to.is_integer:
        return _integer(x, to)
    return cast(to, x)


def _integer(x: Expr, to: DType) -> Expr:
    """A float cut off towards zero; negative ones wrap in unsigned types."""
    if to.bits < 32:
        return cast(to, cast(DType.INT32, x))
    if to in (DType.UINT32, DType.UINT64):
        signed = cast(DType.INT32 if to is DType.UINT32 else DType.INT64, x)
        return build.select(less(x, 0), cast(to, signed), cast(to, x))
    return cast(to, x)


def _float8(x: Expr, to: DType, saturate: bool) -> Expr:
    if saturate:
        return cast(to, clamp(x, -_LARGEST[to], _LARGEST[to]))
    if to not in _ROUNDS_UP:
        return cast(to, x)
    # The last value of float8e4m3fn is even, so that a tie stays below; in the others it goes up.
    over = Op.GT if to is DType.FLOAT8E4M3FN else Op.GE
    limit = const(_ROUNDS_UP[to], x.type)
    return cast(to, build.select(apply(over, apply(Op.ABS, x), limit), const(math.nan, x.type), x))


def _exponent(x: Expr, saturate: bool, round_mode: str) -> Expr:
    """float8e8m0, powers of two from 2**-127 to 2**127 and NaN; negative numbers give NaN."""
    if round_mode not in ("up", "down", "nearest"):
        raise InvalidModelError(f"round_mode: expected up, down or nearest, got {round_mode!r}")
    bits = Bitcast(Scalar.I32, x)
    exponent, mantissa = apply(Op.SHR, bits, Const(23)), apply(Op.BIT_AND, bits, Const(0x7FFFFF))
    top = 0x400000

    def raised(fraction: Expr, whole: int) -> Expr:
        """1 where a number is rounded up; fraction: what lies above the power of two, of `whole`."""
        if round_mode == "down":
            return Const(0)
        least = Const(1) if round_mode == "up" else Const(whole // 2)
        return cast(DType.INT32, apply(Op.GE, fraction, least))

    normal = add(exponent, raised(mantissa, 0x800000))
    # Subnormal numbers lie below 2**-126; those below 2**-127 have no power of two of their own.
    high = raised(build.sub(mantissa, top), top)
    low = build.sub(raised(build.sub(mantissa, top // 2), top // 2), 1)
    subnormal = build.select(apply(Op.GE, mantissa, Const(top)), high, low)
    code = build.select(equal(exponent, 0), subnormal, normal)
    code = build.select(equal(x, 0), Const(-1), code)
    code = build.select(apply(Op.IS_INF, x), Const(255), code)
    invalid = apply(Op.OR, apply(Op.IS_NAN, x), less(x, 0))
    if saturate:
        code = clamp(code, 0, 254)
    else:
        outside = apply(Op.NOT, all_of(apply(Op.GE, code, Const(0)), apply(Op.LE, code, Const(254))))
        invalid = apply(Op.OR, invalid, outside)
    power = Bitcast(Scalar.F32, build.select(equal(code, 0), Const(top), mul(code, 1 << 23)))
    return cast(DType.FLOAT8E8M0, build.select(invalid, const(math.nan, x.type), power))
