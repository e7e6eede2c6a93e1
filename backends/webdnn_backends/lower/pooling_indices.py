"""MaxPool with the places of its maxima."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, mul
from webdnn_backends.ir.loops import Assign, Const, Expr, If, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.direct import Direct, nest
from webdnn_backends.lower.formulas import all_of, below
from webdnn_onnx.dtypes import DType

if TYPE_CHECKING:
    from webdnn_backends.lower.contraction import Window

__all__ = ["max_pool_with_indices"]


def max_pool_with_indices(context: NodeContext, span: Window) -> None:
    """The maximum of each window and where it is in the flat input; of equal ones the first in the window counts.

    storage_order 1 counts the spatial axes of each channel column by column. Parallel over all windows.
    """
    kernel = Direct(context, "max_pool_indices")
    x = kernel.input(0)
    y = kernel.output(0) if context.wants(0) else None
    places = kernel.output(1)
    shape, rank = x.tensor.shape, len(span.kernel)
    out: list[Expr] = [Var(f"i{axis}") for axis in range(rank + 2)]
    taps = [Var(f"t{axis}") for axis in range(rank)]
    at = [Var(f"at{axis}") for axis in range(rank)]
    best, where, value = Var("best", x.load(out).type), Var("where", signed=True), Var("value", x.load(out).type)
    inside = all_of(*(below(at[axis], shape[2 + axis]) for axis in range(rank)))
    better = apply(Op.OR, apply(Op.LT, where, Const(0)), apply(Op.GT, value, best))
    if value.type.is_float:
        first_nan = all_of(apply(Op.IS_NAN, value), apply(Op.NOT, apply(Op.IS_NAN, best)))
        better = apply(Op.OR, better, first_nan)
    order = range(rank) if not context.attribute("storage_order", 0) else range(rank - 1, -1, -1)
    flat: Expr = add(mul(out[0], build.dim(shape[1])), out[1])
    for axis in order:
        flat = add(mul(flat, build.dim(shape[2 + axis])), at[axis])
    take: tuple[Stmt, ...] = (
        Local("value", value.type, x.load([*out[:2], *at])),
        If(better, (Assign("best", value), Assign("where", flat))),
    )
    positions = [Local(f"at{axis}", Scalar.I32, span.position(axis, out[2 + axis], taps[axis])) for axis in range(rank)]
    body: list[Stmt] = [
        Local("best", best.type, const(float("-inf") if best.type.is_float else 0, best.type)),
        Local("where", Scalar.I32, Const(-1)),
        *nest([f"t{axis}" for axis in range(rank)], span.kernel, *positions, If(inside, take)),
        places.store(out, cast(DType.INT64, where)),
    ]
    if y is not None:
        body.append(y.store(out, best))
    names = [f"i{axis}" for axis in range(rank + 2)]
    kernel.run(*nest(names, places.tensor.shape, *body, parallel=True))
