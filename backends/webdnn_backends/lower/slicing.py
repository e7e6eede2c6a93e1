"""Slice, and CenterCropPad. Starts, ends, axes and steps may all be known only at run time."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, mul
from webdnn_backends.ir.loops import Const, Expr, Local, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, Operand, loop
from webdnn_backends.lower.movement import element_of, within
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, product

__all__ = ["clamped_start"]

_FIRST, _STRIDE, _LENGTH = range(3)


@lowering("Slice")
def _slice(context: NodeContext) -> None:
    rank = context.rank(0)
    if context.node.opset < 10:
        starts: Sequence[Dim] | None = context.attribute("starts", ())
        axes: Sequence[Dim] | None = context.attribute("axes", ())
        steps: Sequence[Dim] | None = None
    else:
        axes = context.integers(3) if context.has(3) else ()
        steps = context.integers(4) if context.has(4) else ()
        fixed = axes is not None and steps is not None and all(isinstance(item, int) for item in (*axes, *steps))
        starts = context.integers(1) if fixed else None
    if starts is None or context.state.unknown_sizes(context.node.outputs[0]):
        _planned(context)
        return
    first: list[Expr] = [Const(0)] * rank
    stride: list[Expr] = [Const(1)] * rank
    for start, axis, step in zip(starts, axes or range(len(starts)), steps or (1,) * len(starts), strict=True):
        assert isinstance(axis, int), "the caller looked"
        assert isinstance(step, int), "the caller looked"
        at = context.axis(axis, rank)
        first[at] = clamped_start(start, context.shape(0)[at], step)
        stride[at] = Const(step)
    context.emit(
        lambda i: context.element(0, [add(mul(at, by), of) for at, by, of in zip(i, stride, first, strict=True)])
    )


def clamped_start(start: Dim, size: Dim, step: int) -> Expr:
    """Where a slice begins, by the rules of ONNX (negative starts count from the end, then clamping)."""
    if isinstance(start, int) and isinstance(size, int):
        at = start + size if start < 0 else start
        return Const(min(max(at, 0), size - 1 if step < 0 else size))
    if isinstance(start, int) and start >= 0 and step > 0:
        return build.dim(start) if start == 0 else apply(Op.MIN, Const(start), build.dim(size))
    begin, extent = build.dim(start), build.dim(size)
    at_end = add(begin, extent)
    from_end = at_end if isinstance(start, int) else build.select(apply(Op.LT, begin, Const(0)), at_end, begin)
    top = extent if step > 0 else build.sub(extent, 1)
    return apply(Op.MIN, apply(Op.MAX, from_end, Const(0)), top)


def _planned(context: NodeContext) -> None:
    """A small kernel works out where each axis begins, its stride and its length."""
    rank, shape = context.rank(0), context.shape(0)
    kernel = Direct(context, "slice_plan")
    given = [kernel.input(index) if context.has(index) else None for index in range(1, 5)]
    starts, ends, axes, steps = given
    assert starts is not None, "the schema requires starts"
    assert ends is not None, "the schema requires ends"
    table = context.scratch(DType.INT32, (3, rank))
    plan = kernel.write(table)
    entry = Var("entry")

    def listed(operand: Operand) -> Expr:
        return operand.load([entry] if operand.tensor.shape else [])

    def value(name: str, expr: Expr) -> Local:
        return Local(name, Scalar.I64, cast(DType.INT64, expr))

    def var(name: str) -> Expr:
        return Var(name, Scalar.I64)

    zero, one = const(0, Scalar.I64), const(1, Scalar.I64)
    axis = Var("axis")
    given_axis = cast(DType.INT32, listed(axes)) if axes else entry
    size, step, backwards = var("size"), var("step"), apply(Op.LT, var("step"), zero)

    def from_end(position: Expr) -> Expr:
        return build.select(apply(Op.LT, position, zero), apply(Op.ADD, position, size), position)

    def clamp(position: Expr, forwards: tuple[Expr, Expr], reverse: tuple[Expr, Expr]) -> Expr:
        low, high = (build.select(backwards, other, own) for own, other in zip(forwards, reverse, strict=True))
        return apply(Op.MIN, apply(Op.MAX, position, low), high)

    last = apply(Op.SUB, size, one)
    room = apply(Op.SUB, var("stop"), var("begin"))
    # The quotient rounded towards plus infinity, by way of the one rounded towards minus infinity.
    length = apply(Op.NEG, apply(Op.FLOOR_DIV, apply(Op.NEG, room), step))
    everything = loop(
        "entry",
        product(list(context.shape(1))),
        Local("axis", Scalar.I32, build.floor_mod(given_axis, rank) if axes else entry),
        value("size", element_of(shape, axis, Scalar.I64)),
        value("step", listed(steps) if steps else one),
        value("start", listed(starts)),
        value("end", listed(ends)),
        value("begin", clamp(from_end(var("start")), (zero, size), (zero, last))),
        value("stop", clamp(from_end(var("end")), (zero, size), (const(-1, Scalar.I64), last))),
        plan.store([_FIRST, axis], cast(DType.INT32, var("begin"))),
        plan.store([_STRIDE, axis], cast(DType.INT32, step)),
        plan.store([_LENGTH, axis], cast(DType.INT32, apply(Op.MAX, length, zero))),
    )
    whole = [
        store
        for position, extent in enumerate(shape)
        for store in (
            plan.store([_FIRST, position], Const(0)),
            plan.store([_STRIDE, position], Const(1)),
            plan.store([_LENGTH, position], build.dim(extent)),
        )
    ]
    kernel.run(*whole, everything)
    context.measure({position: (table.name, _LENGTH * rank + position) for position in range(rank)})

    def body(i: Indices) -> Expr:
        first, stride = (
            [context.read(table.name, (Const(row), Const(position))) for position in range(rank)]
            for row in (_FIRST, _STRIDE)
        )
        return context.element(0, [add(mul(at, by), of) for at, by, of in zip(i, stride, first, strict=True)])

    context.emit(body)


@lowering("CenterCropPad", since=18)
def _center_crop_pad(context: NodeContext) -> None:
    rank, shape = context.rank(0), context.shape(0)
    axes = [context.axis(axis, rank) for axis in context.attribute("axes", tuple(range(rank)))]
    sizes = context.integers(1, len(axes))
    if sizes is None:
        raise context.unsupported("sizes that are no small integer tensor")
    context.define(dict(zip(axes, sizes, strict=True)))
    zero = const(0, context.element(0, (Const(0),) * rank).type)

    def body(i: Indices) -> Expr:
        at = list(i)
        inside: Expr = build.TRUE
        for axis, wanted in zip(axes, sizes, strict=True):
            if wanted == shape[axis]:
                continue
            more = build.dim(shape[axis] - wanted)
            fewer = build.dim(wanted - shape[axis])
            crop = build.floor_div(apply(Op.MAX, more, Const(0)), 2)
            pad = build.floor_div(apply(Op.MAX, fewer, Const(0)), 2)
            at[axis] = build.sub(add(i[axis], crop), pad)
            here = within(at[axis], build.dim(shape[axis]))
            inside = here if inside == build.TRUE else apply(Op.AND, inside, here)
        return build.select(inside, context.element(0, at), zero)

    context.emit(body)
