"""What every schedule needs of a reduction: where it starts, and how a term is added."""

from __future__ import annotations

from webdnn_backends.ir.build import apply, const
from webdnn_backends.ir.loops import Apply, Const, Expr, ReduceOp, Vector
from webdnn_backends.ir.scalars import Op, Scalar

__all__ = ["apply_lanes", "combine", "identity"]


def apply_lanes(value: Expr, lanes: int) -> Expr:
    """A scalar in as many lanes as asked."""
    return value if lanes == 1 else Vector((value,) * lanes)


def identity(op: ReduceOp, type: Scalar) -> Const:
    """What a reduction starts from."""
    if op is ReduceOp.SUM:
        return const(0, type)
    if op is ReduceOp.PROD:
        return const(1, type)
    if op in (ReduceOp.ANY, ReduceOp.ALL):
        return const(op is ReduceOp.ALL, Scalar.BOOL)
    if type.is_float:
        return const(float("-inf") if op is ReduceOp.MAX else float("inf"), type)
    bits = type.bits
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if type.is_signed else (0, (1 << bits) - 1)
    return const(low if op is ReduceOp.MAX else high, type)


def combine(op: ReduceOp, accumulator: Expr, value: Expr) -> Expr:
    """The accumulator with one more term."""
    if op is ReduceOp.SUM and accumulator.type.is_float and isinstance(value, Apply) and value.op is Op.MUL:
        return apply(Op.FMA, *value.args, accumulator)
    return apply(_COMBINE[op], accumulator, value)


_COMBINE = {
    ReduceOp.SUM: Op.ADD,
    ReduceOp.PROD: Op.MUL,
    ReduceOp.MIN: Op.MIN,
    ReduceOp.MAX: Op.MAX,
    ReduceOp.ANY: Op.OR,
    ReduceOp.ALL: Op.AND,
}
