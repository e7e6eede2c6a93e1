"""Which indices are certainly not negative, so that dividing them needs no care."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from webdnn_backends.ir.loops import Apply, Const, Expr, Var
from webdnn_backends.ir.scalars import Op

__all__ = ["is_not_negative"]


def is_not_negative(expr: Expr, known: AbstractSet[str]) -> bool:
    """Whether an index is zero or more. known: the variables that are."""
    match expr:
        case Const(value=value):
            return value >= 0
        case Var(name=name):
            return name in known
        case Apply(op=Op.FLOOR_MOD, args=(_, Const(value=value))):
            return value > 0
        case Apply(op=Op.ADD | Op.MUL | Op.FLOOR_DIV | Op.MIN, args=(left, right)):
            return is_not_negative(left, known) and is_not_negative(right, known)
        case _:
            return False
