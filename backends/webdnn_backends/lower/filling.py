"""Tensors that are made of a few numbers: Range and OneHot, whose size may be known only at run time."""

from __future__ import annotations

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType

__all__: list[str] = []


def scalar(context: NodeContext, index: int) -> Expr:
    """The one element of an input."""
    return context.element(index, (Const(0),) * context.rank(index))


@lowering("Range", since=11)
@lowering("Range", domain="com.microsoft")
def _range(context: NodeContext) -> None:
    dtype = context.dtype(0)
    delta = scalar(context, 2) if context.has(2) else const(1, scalar(context, 0).type)
    if 0 in context.state.unknown_sizes(context.node.outputs[0]):

        def count(_: Indices) -> Expr:
            span = apply(Op.SUB, scalar(context, 1), scalar(context, 0))
            if delta.type.is_float:
                return apply(Op.MAX, cast(DType.INT64, apply(Op.CEIL, apply(Op.DIV, span, delta))), zero)
            steps = apply(Op.NEG, apply(Op.FLOOR_DIV, apply(Op.NEG, span), delta))
            return apply(Op.MAX, cast(DType.INT64, steps), zero)

        zero = cast(DType.INT64, Const(0))
        context.measure({0: (context.temporary(DType.INT64, (), count), 0)})
    context.emit(lambda i: apply(Op.ADD, scalar(context, 0), apply(Op.MUL, cast(dtype, i[0]), delta)))


@lowering("OneHot")
def _one_hot(context: NodeContext) -> None:
    rank = context.rank(0) + 1
    axis = context.axis(context.attribute("axis", -1), rank)
    if axis in context.state.unknown_sizes(context.node.outputs[0]):
        count = context.temporary(DType.INT64, (), lambda _: cast(DType.INT64, scalar(context, 1)))
        context.measure({axis: (count, 0)})
    depth = build.dim(context.output().shape[axis])

    def body(i: Indices) -> Expr:
        index = cast(DType.INT32, context.element(0, [*i[:axis], *i[axis + 1 :]]))
        wrapped = build.select(apply(Op.LT, index, Const(0)), add(index, depth), index)
        on, off = (context.element(2, (Const(position),)) for position in (1, 0))
        return build.select(apply(Op.EQ, wrapped, i[axis]), on, off)

    context.emit(body)
