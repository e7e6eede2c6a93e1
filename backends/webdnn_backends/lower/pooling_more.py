"""LpPool, GlobalLpPool and MaxUnpool."""

from __future__ import annotations

from webdnn_backends.ir.build import apply, cast
from webdnn_backends.ir.loops import Access, Expr, If, Local, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contraction import like_zero, padded, window
from webdnn_backends.lower.direct import Direct, nest
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import all_of, below, times
from webdnn_backends.lower.movement import unflatten
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


def _power(x: Expr, p: float) -> Expr:
    """|x| ** p."""
    if p == 2:
        return times(x, x)
    size = apply(Op.ABS, x)
    return size if p == 1 else apply(Op.POW, size, like(x, p))


def _root(total: Expr, p: float) -> Expr:
    """total ** (1 / p)."""
    if p == 2:
        return apply(Op.SQRT, total)
    return total if p == 1 else apply(Op.POW, total, like(total, 1 / p))


@lowering("LpPool")
def _lp_pool(context: NodeContext) -> None:
    spatial, p = context.shape(0)[2:], float(context.attribute("p", 2))
    kernel: tuple[int, ...] = context.attribute(
        "kernel_shape", tuple(size for size in spatial if isinstance(size, int))
    )
    if len(kernel) != len(spatial):
        raise context.unsupported("a window over axes of unknown size")
    span = window(context, kernel, spatial, context.output().shape[2:])

    def body(i: Indices) -> Expr:
        total = context.sum(kernel, lambda k: _power(padded(context, i, k, i[1], span, like_zero(context)), p))
        return _root(total, p)

    context.emit(body)


@lowering("GlobalLpPool")
def _global_lp_pool(context: NodeContext) -> None:
    p = float(context.attribute("p", 2))
    spatial = context.shape(0)[2:]
    context.emit(lambda i: _root(context.sum(spatial, lambda k: _power(context.element(0, [i[0], i[1], *k]), p)), p))


@lowering("MaxUnpool")
def _max_unpool(context: NodeContext) -> None:
    shape = context.shape(0)
    rank = len(shape) - 2
    kernel_shape = context.attribute("kernel_shape", (1,) * rank)
    strides = context.attribute("strides", (1,) * rank)
    pads = context.attribute("pads", (0,) * (2 * rank))
    # The indices count in the tensor that MaxPool has read, whatever the wanted output shape.
    sizes: list[Dim] = list(shape[:2])
    for axis in range(rank):
        reach = (shape[2 + axis] - 1) * strides[axis] + kernel_shape[axis]
        sizes.append(reach - pads[axis] - pads[axis + rank])
    target = context.output()
    if target.shape != tuple(sizes):
        given = context.integers(2) if context.has(2) else None
        if given is not None:
            context.define(dict(enumerate(given)))
            target = context.output()
    context.emit(lambda _: like_zero(context))
    kernel = Direct(context, "max_unpool")
    x, indices = kernel.input(0), kernel.input(1)
    y = kernel.output(access=Access.READ_WRITE)
    i: list[Expr] = [Var(f"i{axis}") for axis in range(rank + 2)]
    at = unflatten(Var("place"), sizes)
    inside = all_of(*(below(index, size) for index, size in zip(at, target.shape, strict=True)))
    kernel.run(
        *nest(
            [f"i{axis}" for axis in range(rank + 2)],
            shape,
            Local("place", Scalar.I32, cast(DType.INT32, indices.load(i))),
            If(inside, (y.store(at, x.load(i)),)),
            parallel=True,
        )
    )
