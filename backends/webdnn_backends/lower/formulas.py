"""Scalar arithmetic on expressions, for formulas of more than two terms; Python numbers become literals.

y = plus(times(x, scale), 1)
"""

from __future__ import annotations

from functools import reduce
from typing import TypeAlias

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, const
from webdnn_backends.ir.loops import Expr
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim

__all__ = [
    "Number",
    "all_of",
    "as_type",
    "at_least",
    "at_most",
    "below",
    "clamp",
    "count",
    "equal",
    "less",
    "less_equal",
    "minus",
    "negative",
    "over",
    "plus",
    "times",
    "wide_dtype",
]

Number: TypeAlias = "Expr | int | float"


def _operands(left: Number, right: Number) -> tuple[Expr, Expr]:
    if not isinstance(left, Expr):
        assert isinstance(right, Expr), "one operand is an expression"
        return const(left, right.type), right
    return left, right if isinstance(right, Expr) else const(right, left.type)


def plus(left: Number, right: Number, *more: Number) -> Expr:
    """The sum, from left to right."""
    return reduce(lambda total, term: _apply(Op.ADD, total, term), more, _apply(Op.ADD, left, right))


def minus(left: Number, right: Number) -> Expr:
    return _apply(Op.SUB, left, right)


def times(left: Number, right: Number, *more: Number) -> Expr:
    """The product, from left to right."""
    return reduce(lambda total, factor: _apply(Op.MUL, total, factor), more, _apply(Op.MUL, left, right))


def over(left: Number, right: Number) -> Expr:
    return _apply(Op.DIV, left, right)


def negative(x: Expr) -> Expr:
    return apply(Op.NEG, x)


def at_least(left: Number, right: Number) -> Expr:
    """The larger of two."""
    return _apply(Op.MAX, left, right)


def at_most(left: Number, right: Number) -> Expr:
    """The smaller of two."""
    return _apply(Op.MIN, left, right)


def clamp(x: Expr, low: Number, high: Number) -> Expr:
    """x bounded to [low, high]."""
    return at_most(at_least(x, low), high)


def less(left: Number, right: Number) -> Expr:
    return _apply(Op.LT, left, right)


def less_equal(left: Number, right: Number) -> Expr:
    return _apply(Op.LE, left, right)


def equal(left: Number, right: Number) -> Expr:
    return _apply(Op.EQ, left, right)


def below(index: Expr, size: Dim) -> Expr:
    """0 <= index < size, in one unsigned comparison."""
    return apply(Op.LT, cast(DType.UINT32, index), cast(DType.UINT32, build.dim(size)))


def all_of(*conditions: Expr) -> Expr:
    """Whether all conditions hold; true of none."""
    result: Expr = build.TRUE
    for condition in conditions:
        result = condition if result == build.TRUE else apply(Op.AND, result, condition)
    return result


def _apply(op: Op, left: Number, right: Number) -> Expr:
    return apply(op, *_operands(left, right))


_FULL = {
    Scalar.BOOL: DType.BOOL,
    Scalar.I32: DType.INT32,
    Scalar.U32: DType.UINT32,
    Scalar.I64: DType.INT64,
    Scalar.U64: DType.UINT64,
    Scalar.F32: DType.FLOAT32,
    Scalar.F64: DType.FLOAT64,
}


def as_type(type: Scalar, x: Expr) -> Expr:
    """x converted to a compute type."""
    return x if x.type is type else cast(_FULL[type], x)


def count(size: Dim, type: Scalar) -> Expr:
    """A number of elements in a compute type."""
    return const(size, type) if isinstance(size, int) else cast(_FULL[type], build.dim(size))


def wide_dtype(dtype: DType) -> DType:
    """Where intermediate results of a float type are kept: float64 for float64, else float32."""
    return DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32
