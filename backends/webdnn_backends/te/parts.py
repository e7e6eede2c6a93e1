"""What the generic schedule asks of parts of an expression."""

from __future__ import annotations

from webdnn_backends.ir.loops import Apply, Cast, Const, Expr, Load, Reduce, Var, Vector, subexpressions
from webdnn_backends.ir.rewrite import map_children
from webdnn_backends.ir.scalars import Scalar

__all__ = ["count_parts", "guarded", "is_index", "positions_of", "work"]


def count_parts(expr: Expr, counts: dict[Expr, int]) -> None:
    """How often each part is used, parts of repeated parts counted once, reductions not entered."""
    counts[expr] = counts.get(expr, 0) + 1
    if counts[expr] > 1 or isinstance(expr, Reduce):
        return

    def visit(part: Expr) -> Expr:
        count_parts(part, counts)
        return part

    map_children(expr, visit)


def positions_of(expr: Expr) -> frozenset[Expr]:
    """The elements that positions of other elements are computed from."""
    loads = (part for part in subexpressions(expr) if isinstance(part, Load))
    return frozenset(part for load in loads for part in subexpressions(load.index) if isinstance(part, Load))


def work(expr: Expr) -> int:
    """Whether computing the expression itself, not its parts, is arithmetic."""
    return 0 if isinstance(expr, Var | Const | Load | Vector) else 1


def is_index(expr: Expr) -> bool:
    """Whether it is index arithmetic, which costs nothing to repeat."""
    return expr.type is Scalar.I32 and isinstance(expr, Apply | Cast)


def guarded(expr: Expr) -> bool:
    """Whether it reads memory, and so must stay behind the condition that it stands behind."""
    return any(isinstance(part, Load) for part in subexpressions(expr))
