"""Where an axis may be cut so that the comparisons along it are decided in each part.

A window that may reach into the padding is compared with the borders for every element, although only the first and the
last few positions can fail. Cut there, the parts in between need no comparison and read their elements side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from webdnn_backends.ir.build import add
from webdnn_backends.ir.loops import Apply, Axis, Cast, Const, Expr, Reduce, operands
from webdnn_backends.ir.rewrite import free_variables, size, substitute
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.te.simplify import IndexAlgebra, simplify, strides
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, symbol

__all__ = ["segments"]

_MOST_SEGMENTS = 5
_LARGEST = 600
"""Nodes of all copies of the body together."""


def segments(body: Expr, axis: Axis, axes: Sequence[Axis]) -> list[tuple[int, int, Expr]]:
    """(first, end, body for these values of the axis), in order; empty where the axis stays whole. axes: of the loops
    around the body, the axis among them."""
    if not isinstance(axis.extent, int):
        return []
    extents = {item.name: item.extent for item in axes}
    cuts = {cut for found in _comparisons(body, axis.name, extents) for cut in found if 0 < cut < axis.extent}
    if not cuts or len(cuts) >= _MOST_SEGMENTS or size(body) * (len(cuts) + 1) > _LARGEST:
        return []
    ends = [*sorted(cuts), axis.extent]
    return [
        (first, end, _within(body, axis, axes, first, end)) for first, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _within(body: Expr, axis: Axis, axes: Sequence[Axis], first: int, end: int) -> Expr:
    """The body simplified for the values first .. end-1 of an axis."""

    def simple(expr: Expr, extent: Dim) -> Expr:
        return simplify(expr, tuple(Axis(axis.name, extent) if item == axis else item for item in axes))

    if end == first + 1:
        return simple(substitute(body, {axis.name: Const(first)}), axis.extent)
    if first == 0:
        return simple(body, end)
    moved = simple(substitute(body, {axis.name: add(axis.var, first)}), end - first)
    return simple(substitute(moved, {axis.name: add(axis.var, -first)}), end)


def _comparisons(expr: Expr, name: str, extents: Mapping[str, Dim]) -> Iterator[tuple[int, ...]]:
    """The values of an axis at which each comparison below may begin or cease to hold, for all or for some values of
    the other variables."""
    if name not in free_variables(expr):
        return
    if isinstance(expr, Reduce):
        extents = {**extents, **{axis.name: axis.extent for axis in expr.axes}}
    if isinstance(expr, Apply) and expr.op in _ORDER and expr.lanes == 1:
        yield from (_turns(slack, name, extents) for slack in _slacks(expr))
    for part in operands(expr):
        yield from _comparisons(part, name, extents)


_ORDER = (Op.LT, Op.LE, Op.GT, Op.GE)


def _slacks(comparison: Apply) -> list[Dim]:
    """Polynomials that are all non-negative exactly where the comparison holds."""
    left, right = comparison.args
    algebra = IndexAlgebra({})
    if left.type is Scalar.U32 and comparison.op is Op.LT:
        position, limit = _uncast(left), _uncast(right)
        if position is None or limit is None:
            return []
        at = algebra.to_dim(position)
        return [at, algebra.to_dim(limit) - 1 - at]
    if left.type is not Scalar.I32:
        return []
    small, large = algebra.to_dim(left), algebra.to_dim(right)
    if comparison.op in (Op.GT, Op.GE):
        small, large = large, small
    return [large - small - (1 if comparison.op in (Op.LT, Op.GT) else 0)]


def _uncast(expr: Expr) -> Expr | None:
    if isinstance(expr, Const):
        return Const(int(expr.value))
    return expr.arg if isinstance(expr, Cast) and expr.to is DType.UINT32 and expr.arg.type is Scalar.I32 else None


def _turns(slack: Dim, name: str, extents: Mapping[str, Dim]) -> tuple[int, ...]:
    found = strides(slack, (name,))
    factor = 0 if found is None else found[name]
    if not isinstance(factor, int) or factor == 0:
        return ()
    rest = slack - symbol(name) * factor
    algebra = IndexAlgebra(extents)
    turns: list[int] = []
    for bound in (algebra.lower(rest), algebra.upper(rest)):
        if isinstance(bound, int):
            turns.append(-(bound // factor) if factor > 0 else bound // -factor + 1)
    return tuple(turns)
