"""Output axes that a stage treats as one, merged into one."""

from __future__ import annotations

from webdnn_backends.ir.loops import Axis, Expr, Load, Var
from webdnn_backends.ir.rewrite import free_variables, map_children
from webdnn_backends.te.simplify import IndexAlgebra, strides
from webdnn_onnx.symbolic import symbol

__all__ = ["merge_axes"]


def merge_axes(axes: list[Axis], body: Expr, target: Expr) -> tuple[list[Axis], Expr, Expr]:
    """Neighbouring axes as one where all positions depend on them as on one flat index."""
    last = len(axes) - 1
    while last > 0:
        merged = _merge(axes[last - 1], axes[last], body, target)
        if merged is not None:
            body, target = merged
            flat = Axis(axes[last].name, axes[last - 1].extent * axes[last].extent)
            axes = [*axes[: last - 1], flat, *axes[last + 1 :]]
        last -= 1
    return axes, body, target


def _merge(outer: Axis, inner: Axis, body: Expr, target: Expr) -> tuple[Expr, Expr] | None:
    names = (outer.name, inner.name)

    def flat(index: Expr) -> Expr | None:
        algebra = IndexAlgebra({})
        polynomial = algebra.to_dim(index)
        if any(free_variables(part) & set(names) for part in algebra.opaque):
            return None
        factors = strides(polynomial, names)
        if factors is None or factors[outer.name] != factors[inner.name] * inner.extent:
            return None
        rest = polynomial - symbol(outer.name) * factors[outer.name]
        return algebra.to_expr(rest)

    failed = False

    def visit(part: Expr) -> Expr:
        nonlocal failed
        if failed:
            return part
        if isinstance(part, Load):
            index = flat(part.index)
            if index is None:
                failed = True
                return part
            return Load(part.buffer, index, part.type)
        if isinstance(part, Var) and part.name in names:
            failed = True
            return part
        return map_children(part, visit)

    changed, where = visit(body), flat(target)
    return None if failed or where is None else (changed, where)
