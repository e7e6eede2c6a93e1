"""Conversions between float32 and the narrower floats as integer arithmetic on their bits, for targets without them.

`unpack` gives the float32 value of storage bits, `pack` the storage bits of a float32 value: rounded to nearest even,
overflow to infinity where the type has one, else to its largest value.
Spec: https://onnx.ai/onnx/technical/float8.html, https://onnx.ai/onnx/technical/float4.html
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from webdnn_backends.ir.build import apply, const, select
from webdnn_backends.ir.decompose import Definition
from webdnn_backends.ir.loops import Bitcast, Cast, Expr, Local, Splat, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_onnx.dtypes import DType

__all__ = ["NARROW_FLOATS", "pack", "unpack"]

_F32_MANTISSA, _F32_BIAS, _F32_INFINITY = 23, 127, 0x7F800000


@dataclass(frozen=True)
class _Layout:
    """mantissa: its bits; bias: of the exponent; largest: the bits of the largest finite value; infinity: its bits, or
    None; nan: the bits that NaN gets; signed_zero: whether -0 exists."""

    bits: int
    mantissa: int
    bias: int
    largest: int
    infinity: int | None
    nan: int
    signed_zero: bool = True


_LAYOUTS = {
    DType.FLOAT16: _Layout(16, 10, 15, 0x7BFF, 0x7C00, 0x7E00),
    DType.BFLOAT16: _Layout(16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0),
    DType.FLOAT8E4M3FN: _Layout(8, 3, 7, 0x7E, None, 0x7F),
    DType.FLOAT8E4M3FNUZ: _Layout(8, 3, 8, 0x7F, None, 0x80, signed_zero=False),
    DType.FLOAT8E5M2: _Layout(8, 2, 15, 0x7B, 0x7C, 0x7E),
    DType.FLOAT8E5M2FNUZ: _Layout(8, 2, 16, 0x7F, None, 0x80, signed_zero=False),
    DType.FLOAT4E2M1: _Layout(4, 1, 1, 0x7, None, 0x7),
}
NARROW_FLOATS = (*_LAYOUTS, DType.FLOAT8E8M0)


class _Words:
    """Collects the registers of one definition over U32 words."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.statements: list[Stmt] = []

    def let(self, name: str, value: Expr) -> Var:
        self.statements.append(Local(name, value.type, value, lanes=value.lanes))
        return Var(name, value.type, value.lanes)

    def word(self, value: int) -> Expr:
        literal = const(value, Scalar.U32)
        return Splat(literal, self.lanes) if self.lanes > 1 else literal

    def number(self, value: float) -> Expr:
        literal = const(value, Scalar.F32)
        return Splat(literal, self.lanes) if self.lanes > 1 else literal

    def masked(self, value: Expr, mask: int) -> Expr:
        return apply(Op.BIT_AND, value, self.word(mask))

    def left(self, value: Expr, count: int) -> Expr:
        return apply(Op.SHL, value, self.word(count)) if count else value

    def right(self, value: Expr, count: int) -> Expr:
        return apply(Op.SHR, value, self.word(count)) if count else value


def _named(dtype: DType, verb: str, lanes: int) -> str:
    return f"{verb}_{dtype.value}" if lanes == 1 else f"{verb}_{dtype.value}x{lanes}"


@functools.cache
def unpack(dtype: DType, lanes: int = 1) -> Definition:
    """bits: U32, the element in its low bits (the others may be set) -> F32. Raises KeyError for other types."""
    words = _Words(lanes)
    bits = Var("bits", Scalar.U32, lanes)
    result = _unpack_e8m0(words, bits) if dtype is DType.FLOAT8E8M0 else _unpack(words, bits, _LAYOUTS[dtype])
    return Definition(_named(dtype, "unpack", lanes), (bits,), tuple(words.statements), result)


@functools.cache
def pack(dtype: DType, lanes: int = 1) -> Definition:
    """x: F32 -> U32, the element's bits, the others clear. Raises KeyError for other types."""
    words = _Words(lanes)
    x = Var("x", Scalar.F32, lanes)
    result = _pack_e8m0(words, x) if dtype is DType.FLOAT8E8M0 else _pack(words, x, _LAYOUTS[dtype])
    return Definition(_named(dtype, "pack", lanes), (x,), tuple(words.statements), result)


def _unpack(words: _Words, bits: Expr, layout: _Layout) -> Expr:
    spare = _F32_MANTISSA - layout.mantissa
    if layout.bias == _F32_BIAS:
        return Bitcast(Scalar.F32, words.left(bits, spare))
    magnitude = words.let("magnitude", words.masked(bits, (1 << (layout.bits - 1)) - 1))
    sign = words.let("sign", words.left(words.masked(bits, 1 << (layout.bits - 1)), 32 - layout.bits))
    tiny = apply(Op.LT, magnitude, words.word(1 << layout.mantissa))
    scale = words.number(2.0 ** (1 - layout.bias - layout.mantissa))
    small = Bitcast(Scalar.U32, apply(Op.MUL, Cast(DType.FLOAT32, magnitude), scale))
    offset = words.word((_F32_BIAS - layout.bias) << _F32_MANTISSA)
    value = select(tiny, small, apply(Op.ADD, words.left(magnitude, spare), offset))
    if layout.infinity is not None:
        beyond = apply(Op.BIT_OR, words.left(magnitude, spare), words.word(_F32_INFINITY))
        value = select(apply(Op.GE, magnitude, words.word(layout.infinity)), beyond, value)
    value = apply(Op.BIT_OR, value, sign)
    if layout.infinity is None and layout.nan != layout.largest:
        low = words.masked(bits, (1 << layout.bits) - 1)
        is_nan = apply(Op.EQ, low if not layout.signed_zero else magnitude, words.word(layout.nan))
        value = select(is_nan, words.word(0x7FC00000), value)
    return Bitcast(Scalar.F32, value)


def _pack(words: _Words, x: Expr, layout: _Layout) -> Expr:
    spare = _F32_MANTISSA - layout.mantissa
    whole = words.let("whole", Bitcast(Scalar.U32, x))
    magnitude = words.let("magnitude", words.masked(whole, 0x7FFFFFFF))
    rebias = (_F32_BIAS - layout.bias) << _F32_MANTISSA
    shifted = words.let("shifted", apply(Op.SUB, magnitude, words.word(rebias)) if rebias else magnitude)
    half = words.word((1 << (spare - 1)) - 1)
    even = words.masked(words.right(shifted, spare), 1)
    rounded: Expr = words.right(apply(Op.ADD, shifted, apply(Op.ADD, half, even)), spare)
    if rebias:
        # Adding a number whose last place is the type's smallest step rounds to that step.
        step = 2.0 ** (1 - layout.bias - layout.mantissa + _F32_MANTISSA)
        step_bits = (1 - layout.bias - layout.mantissa + _F32_MANTISSA + _F32_BIAS) << _F32_MANTISSA
        total = apply(Op.ADD, Bitcast(Scalar.F32, magnitude), words.number(step))
        small = apply(Op.SUB, Bitcast(Scalar.U32, total), words.word(step_bits))
        smallest_normal = words.word((1 - layout.bias + _F32_BIAS) << _F32_MANTISSA)
        rounded = select(apply(Op.LT, magnitude, smallest_normal), small, rounded)
    most = words.word(layout.largest if layout.infinity is None else layout.infinity)
    value = words.let("value", apply(Op.MIN, rounded, most))
    sign = words.let("sign", words.left(words.right(whole, 31), layout.bits - 1))
    signed = apply(Op.BIT_OR, value, sign)
    if not layout.signed_zero:
        signed = select(apply(Op.EQ, value, words.word(0)), value, signed)
    return select(apply(Op.GT, magnitude, words.word(_F32_INFINITY)), words.word(layout.nan), signed)


def _unpack_e8m0(words: _Words, bits: Expr) -> Expr:
    exponent = words.let("exponent", words.masked(bits, 0xFF))
    value = select(apply(Op.EQ, exponent, words.word(0)), words.word(1 << 22), words.left(exponent, _F32_MANTISSA))
    return Bitcast(Scalar.F32, select(apply(Op.EQ, exponent, words.word(0xFF)), words.word(0x7FC00000), value))


def _pack_e8m0(words: _Words, x: Expr) -> Expr:
    """To the nearest power of two, halves upwards; NaN below zero."""
    whole = words.let("whole", Bitcast(Scalar.U32, x))
    magnitude = words.let("magnitude", words.masked(whole, 0x7FFFFFFF))
    rounded = words.right(apply(Op.ADD, magnitude, words.word(1 << 22)), _F32_MANTISSA)
    rounded = apply(Op.MIN, rounded, words.word(0xFE))
    value = select(apply(Op.LT, magnitude, words.word(3 << 21)), words.word(0), rounded)
    negative = apply(Op.GT, whole, words.word(0x80000000))
    invalid = apply(Op.OR, negative, apply(Op.GT, magnitude, words.word(_F32_INFINITY)))
    return select(invalid, words.word(0xFF), value)
