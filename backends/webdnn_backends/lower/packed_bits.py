"""Unsigned integers of a few bits, packed into the bytes of a tensor, low-order bits first."""

from __future__ import annotations

from collections.abc import Callable

from webdnn_backends.ir.build import add, apply, cast, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op
from webdnn_onnx.dtypes import DType

__all__ = ["unpacked"]


def unpacked(byte: Callable[[Expr], Expr], place: Expr, bits: int) -> Expr:
    """The value at a place of a row, as I32. byte: a byte of the row, widened, by its position."""
    if bits == 8:
        return cast(DType.INT32, byte(place))
    mask = Const((1 << bits) - 1)
    if 8 % bits == 0:
        per = 8 // bits
        word = cast(DType.INT32, byte(floor_div(place, per)))
        return apply(Op.BIT_AND, apply(Op.SHR, word, mul(floor_mod(place, per), bits)), mask)
    first = mul(place, bits)
    at, shift = floor_div(first, 8), floor_mod(first, 8)
    last = floor_div(add(first, bits - 1), 8)
    low = apply(Op.SHR, cast(DType.INT32, byte(at)), shift)
    high = apply(Op.SHL, cast(DType.INT32, byte(last)), apply(Op.SUB, Const(8), shift))
    straddling = apply(Op.BIT_AND, high, apply(Op.SUB, Const(0), cast(DType.INT32, apply(Op.NE, last, at))))
    return apply(Op.BIT_AND, apply(Op.BIT_OR, low, straddling), mask)
