"""Operators that only move elements: index maps, not copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext, literal
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import ReshapeHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim, equal

__all__ = ["flat_index", "is_axis", "unflatten"]


def is_axis(given: Dim, axis: int, rank: int) -> Dim:
    """1 where an axis, maybe known only at run time, is this one, counted from either end; else 0."""
    return equal(given, axis) + equal(given, axis - rank)


def flat_index(indices: Sequence[Expr], shape: Sequence[Dim]) -> Expr:
    """The row-major position of an element."""
    total: Expr = Const(0)
    for index, size in zip(indices, shape, strict=True):
        total = add(mul(total, build.dim(size)), index)
    return total


def unflatten(position: Expr, shape: Sequence[Dim]) -> Indices:
    """The indices of the element at a row-major position."""
    indices: list[Expr] = []
    for axis in range(len(shape) - 1, -1, -1):
        size = build.dim(shape[axis])
        if shape[axis] == 1:
            indices.append(Const(0))
        else:
            indices.append(position if axis == 0 else floor_mod(position, size))
            position = floor_div(position, size)
    return tuple(reversed(indices))


@lowering("Reshape")
@lowering("Flatten")
@lowering("Squeeze")
@lowering("Unsqueeze")
def _reshape(context: NodeContext) -> None:
    source, target = context.shape(0), context.output().shape

    def body(i: Indices) -> Expr:
        kept = _matching_indices(i, source, target)
        return context.element(0, kept if kept is not None else unflatten(flat_index(i, target), source))

    context.emit(body, hint=ReshapeHint(context.name(0)))


def _matching_indices(i: Indices, source: Shape, target: Shape) -> list[Expr] | None:
    """The source indices where the shapes differ only in axes of size 1, else None."""
    if [size for size in source if size != 1] != [size for size in target if size != 1]:
        return None
    rest = iter([index for index, size in zip(i, target, strict=True) if size != 1])
    return [Const(0) if size == 1 else next(rest) for size in source]


@lowering("Transpose")
def _transpose(context: NodeContext) -> None:
    rank = context.rank(0)
    perm = context.attribute("perm", tuple(range(rank - 1, -1, -1)))

    def body(i: Indices) -> Expr:
        source: list[Expr] = [Const(0)] * rank
        for position, axis in enumerate(perm):
            source[axis] = i[position]
        return context.element(0, source)

    context.emit(body)


@lowering("Expand")
def _expand(context: NodeContext) -> None:
    context.emit(lambda i: context.broadcast(0, i))


@lowering("Concat")
def _concat(context: NodeContext) -> None:
    axis = context.axis(context.attribute("axis", 1), len(context.output().shape))
    present = [k for k in range(len(context.node.inputs)) if context.shape(k)[axis] != 0] or [0]

    def body(i: Indices) -> Expr:
        starts: list[Dim] = [0]
        for k in present:
            starts.append(starts[-1] + context.shape(k)[axis])

        def part(position: int) -> Expr:
            local = build.sub(i[axis], build.dim(starts[position]))
            return context.element(present[position], [*i[:axis], local, *i[axis + 1 :]])

        result = part(len(present) - 1)
        for position in range(len(present) - 2, -1, -1):
            result = build.select(apply(Op.LT, i[axis], build.dim(starts[position + 1])), part(position), result)
        return result

    context.emit(body)


@lowering("Split")
def _split(context: NodeContext) -> None:
    axis = context.axis(context.attribute("axis", 0), context.rank(0))
    if context.has(1):
        for position, size in enumerate(context.integers(1, len(context.node.outputs)) or ()):
            context.define({axis: size}, position)
    start: Dim = 0
    for position in range(len(context.node.outputs)):
        if not context.wants(position):
            raise context.unsupported("an output left out")
        first = build.dim(start)
        context.emit(
            lambda i, first=first: context.element(0, [*i[:axis], add(i[axis], first), *i[axis + 1 :]]),  # type: ignore[misc]  # a default binds the loop's value
            output=position,
        )
        start = start + context.output(position).shape[axis]


@lowering("Gather")
def _gather(context: NodeContext) -> None:
    axis = context.axis(context.attribute("axis", 0), context.rank(0))
    inner = context.rank(1)
    size = build.dim(context.shape(0)[axis])

    def body(i: Indices) -> Expr:
        index = wrapped_index(context, 1, i[axis : axis + inner], size)
        return context.element(0, [*i[:axis], index, *i[axis + inner :]])

    context.emit(body)


def wrapped_index(context: NodeContext, source: int, indices: Sequence[Expr], size: Expr) -> Expr:
    """An element of an index tensor as I32, negative ones counted from the end."""
    index = cast(DType.INT32, context.element(source, indices))
    if isinstance(index, Const):
        return index if index.value >= 0 else add(size, int(index.value))
    constant = context.constant(source)
    if constant is not None and constant.size and int(np.min(constant)) >= 0:
        return index
    return build.select(apply(Op.LT, index, Const(0)), add(index, size), index)


@lowering("GatherElements")
def _gather_elements(context: NodeContext) -> None:
    axis = context.axis(context.attribute("axis", 0), context.rank(0))
    size = build.dim(context.shape(0)[axis])
    context.emit(lambda i: context.element(0, [*i[:axis], wrapped_index(context, 1, i, size), *i[axis + 1 :]]))


@lowering("GatherND")
def _gather_nd(context: NodeContext) -> None:
    batch = context.attribute("batch_dims", 0)
    depth = context.shape(1)[-1]
    if not isinstance(depth, int):
        raise context.unsupported("an index depth known only at run time")
    lead = context.rank(1) - 1

    def body(i: Indices) -> Expr:
        at = [
            wrapped_index(context, 1, [*i[:lead], Const(k)], build.dim(context.shape(0)[batch + k]))
            for k in range(depth)
        ]
        return context.element(0, [*i[:batch], *at, *i[lead:]])

    context.emit(body)


@lowering("Tile")
def _tile(context: NodeContext) -> None:
    shape = context.shape(0)
    context.emit(
        lambda i: context.element(
            0, [floor_mod(at, build.dim(size)) if size != 1 else Const(0) for at, size in zip(i, shape, strict=True)]
        )
    )


@lowering("Pad")
def _pad(context: NodeContext) -> None:
    rank = context.rank(0)
    if context.node.opset < 11:
        pads: Sequence[Dim] | None = context.attribute("pads", context.attribute("paddings", ()))
        axes: Sequence[Dim] = tuple(range(rank))
        fill: Expr = const(context.attribute("value", 0.0), compute_type(context.dtype(0)))
    else:
        given = context.integers(3) if context.has(3) else tuple(range(rank))
        if given is None:
            raise context.unsupported("a number of axes known only at run time")
        axes = given
        pads = context.integers(1, 2 * len(axes))
        default = literal(np.zeros((), context.dtype(0).numpy), context.dtype(0))
        fill = context.element(2, (Const(0),) * context.rank(2)) if context.has(2) else default
    if pads is None:
        raise context.unsupported("pads that are no small integer tensor")
    begins: list[Dim] = [0] * rank
    ends: list[Dim] = [0] * rank
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        for position in range(rank):
            flag = is_axis(axis, position, rank)
            begins[position] += flag * begin
            ends[position] += flag * end
    context.define({axis: size + begins[axis] + ends[axis] for axis, size in enumerate(context.shape(0))})
    mode = context.attribute("mode", "constant")
    context.emit(lambda i: _padded(context, i, begins, mode, fill))


def _padded(context: NodeContext, i: Indices, begins: Sequence[Dim], mode: str, fill: Expr) -> Expr:
    inside: Expr = build.TRUE
    at: list[Expr] = []
    for axis, (index, size) in enumerate(zip(i, context.shape(0), strict=True)):
        moved = build.sub(index, build.dim(begins[axis]))
        extent = build.dim(size)
        if context.output().shape[axis] == size and begins[axis] == 0:
            at.append(index)
        elif mode == "constant":
            inside = _and(inside, within(moved, extent))
            at.append(moved)
        elif mode == "edge":
            at.append(apply(Op.MAX, Const(0), apply(Op.MIN, moved, build.sub(extent, 1))))
        elif mode == "wrap":
            at.append(floor_mod(moved, extent))
        else:
            at.append(reflected(moved, extent))
    return build.select(inside, context.element(0, at), fill)


def within(index: Expr, extent: Expr) -> Expr:
    """0 <= index < extent, in one unsigned comparison."""
    return apply(Op.LT, cast(DType.UINT32, index), cast(DType.UINT32, extent))


def reflected(index: Expr, extent: Expr) -> Expr:
    """An index mirrored at both ends, the ends not repeated, any number of times."""
    last = build.sub(extent, 1)
    period = apply(Op.MAX, mul(last, 2), Const(1))
    folded = floor_mod(index, period)
    return apply(Op.MIN, folded, build.sub(period, folded)) if extent != Const(1) else Const(0)


def _and(left: Expr, right: Expr) -> Expr:
    return right if left == build.TRUE else apply(Op.AND, left, right)


@lowering("DepthToSpace")
def _depth_to_space(context: NodeContext) -> None:
    block = context.attribute("blocksize", 1)
    channels = context.output().shape[1]
    columns = context.attribute("mode", "DCR") == "CRD"

    def body(i: Indices) -> Expr:
        n, c, h, w = i
        offset = add(mul(floor_mod(h, block), block), floor_mod(w, block))
        depth = add(mul(c, block * block), offset) if columns else add(mul(offset, build.dim(channels)), c)
        return context.element(0, [n, depth, floor_div(h, block), floor_div(w, block)])

    context.emit(body)


@lowering("SpaceToDepth")
def _space_to_depth(context: NodeContext) -> None:
    block, channels = context.attribute("blocksize", 1), build.dim(context.shape(0)[1])
    columns = context.attribute("mode", "DCR") == "CRD"

    def body(i: Indices) -> Expr:
        n, d, h, w = i
        area = Const(block * block)
        offset, c = (
            (floor_mod(d, area), floor_div(d, area)) if columns else (floor_div(d, channels), floor_mod(d, channels))
        )
        row, column = add(mul(h, block), floor_div(offset, block)), add(mul(w, block), floor_mod(offset, block))
        return context.element(0, [n, c, row, column])

    context.emit(body)


@lowering("Trilu")
@lowering("Trilu", domain="com.microsoft")
def _trilu(context: NodeContext) -> None:
    upper = context.attribute("upper", 1)

    def body(i: Indices) -> Expr:
        shift = cast(DType.INT32, context.element(1, (Const(0),) * context.rank(1))) if context.has(1) else Const(0)
        difference = build.sub(i[-1], i[-2])
        kept = apply(Op.GE if upper else Op.LE, difference, shift)
        return build.select(
            kept, context.element(0, i), literal(np.zeros((), context.dtype(0).numpy), context.dtype(0))
        )

    context.emit(body)


@lowering("Shape")
def _shape(context: NodeContext) -> None:
    shape, rank = context.shape(0), context.rank(0)
    start, end = context.attribute("start", 0), context.attribute("end", rank)
    chosen = shape[slice(*slice(start, end).indices(rank))]
    context.emit(lambda i: element_of(chosen, i[0] if chosen else Const(0), Scalar.I64))


@lowering("Size")
def _size(context: NodeContext) -> None:
    total = context.state.tensor(context.node.inputs[0]).elements
    context.emit(lambda _: cast(DType.INT64, build.dim(total)))


def element_of(dims: Sequence[Dim], at: Expr, type: Scalar) -> Expr:
    """The dimension at a position, as an integer of the given type."""
    dtype = DType.INT64 if type is Scalar.I64 else DType.INT32
    if not dims:
        return const(0, type)
    result = cast(dtype, build.dim(dims[-1]))
    for position in range(len(dims) - 2, -1, -1):
        result = build.select(apply(Op.EQ, at, Const(position)), cast(dtype, build.dim(dims[position])), result)
    return result


@lowering("ConstantOfShape")
def _constant_of_shape(context: NodeContext) -> None:
    value = np.asarray(context.attribute("value", np.zeros(1, np.float32)))
    context.emit(lambda _: literal(value.reshape(()), context.output().dtype))


@lowering("EyeLike")
def _eye_like(context: NodeContext) -> None:
    dtype, k = context.output().dtype, context.attribute("k", 0)
    one, zero = (literal(np.full((), value, dtype.numpy), dtype) for value in (1, 0))
    context.emit(lambda i: build.select(apply(Op.EQ, build.sub(i[1], i[0]), Const(k)), one, zero))


@lowering("ReverseSequence")
def _reverse_sequence(context: NodeContext) -> None:
    time, batch = context.attribute("time_axis", 0), context.attribute("batch_axis", 1)

    def body(i: Indices) -> Expr:
        length = cast(DType.INT32, context.element(1, [i[batch]]))
        mirrored = build.sub(build.sub(length, 1), i[time])
        at = build.select(apply(Op.LT, i[time], length), mirrored, i[time])
        return context.element(0, [*i[:time], at, *i[time + 1 :]])

    context.emit(body)
