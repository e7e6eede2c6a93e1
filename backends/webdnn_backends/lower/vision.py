"""Col2Im, AffineGrid and DeformConv."""

from __future__ import annotations

import itertools

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contraction import window
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import all_of, as_type, below, count, equal, minus, over, plus, times, wide_dtype
from webdnn_backends.lower.movement import flat_index
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, product

__all__: list[str] = []


@lowering("Col2Im", since=18)
def _col2im(context: NodeContext) -> None:
    image, block = context.integers(1), context.integers(2)
    if image is None or block is None:
        raise context.unsupported("an image_shape or block_shape of unknown size")
    rank = len(image)
    context.define(dict(enumerate(image, start=2)))
    dilations = context.attribute("dilations", (1,) * rank)
    strides = context.attribute("strides", (1,) * rank)
    pads = context.attribute("pads", (0,) * (2 * rank))
    places: list[Dim] = []
    for axis in range(rank):
        whole = image[axis] + pads[axis] + pads[axis + rank]
        places.append((whole - (block[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1)
    area = product(list(block))
    context.define({1: context.shape(0)[1] // area if area != 0 else 0})

    def body(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            at: list[Expr] = []
            conditions: list[Expr] = []
            for axis in range(rank):
                reach = build.sub(add(i[2 + axis], pads[axis]), mul(k[axis], dilations[axis]))
                place = floor_div(reach, strides[axis])
                conditions.append(below(place, places[axis]))
                if strides[axis] != 1:
                    conditions.append(equal(floor_mod(reach, strides[axis]), 0))
                at.append(place)
            row = add(mul(i[1], build.dim(area)), flat_index(k, block))
            value = context.element(0, [i[0], row, flat_index(at, places)])
            return build.select(all_of(*conditions), value, like(value, 0))

        return context.sum(block, term)

    context.emit(body)


@lowering("AffineGrid", since=20)
def _affine_grid(context: NodeContext) -> None:
    size = context.integers(1)
    if size is None:
        raise context.unsupported("a size of unknown length")
    lengths = size[2:]
    rank = len(lengths)
    context.define({0: size[0], **dict(enumerate(lengths, start=1))})
    aligned = context.attribute("align_corners", 0)
    scalar = compute_type(wide_dtype(context.dtype(0)))

    def coordinate(at: Expr, length: Dim) -> Expr:
        """The position of a pixel from -1 to 1."""
        place = as_type(scalar, at)
        if aligned:
            if length == 1:
                return const(0, scalar)
            step = over(times(place, 2), count(length - 1, scalar))
            value = minus(step, 1)
            if isinstance(length, int):
                return value
            return build.select(equal(build.dim(length), 1), const(0, scalar), value)
        return minus(over(plus(times(place, 2), 1), count(length, scalar)), 1)

    def body(i: Indices) -> Expr:
        n, *at, j = i
        total = context.element(0, [n, j, Const(rank)])
        for column in range(rank):
            axis = rank - 1 - column
            total = plus(total, times(context.element(0, [n, j, Const(column)]), coordinate(at[axis], lengths[axis])))
        return total

    context.emit(body)


@lowering("DeformConv", since=19)
def _deform_conv(context: NodeContext) -> None:
    """The displaced samples as a tensor [N, C, kernel..., outputs...], then a sum of products with the weights."""
    shape, weights, outputs = context.shape(0), context.shape(1), context.output().shape[2:]
    rank = len(shape) - 2
    kernel = weights[2:]
    span = window(context, kernel, shape[2:], outputs)
    group, offset_group = context.attribute("group", 1), context.attribute("offset_group", 1)
    wide = wide_dtype(context.dtype(0))
    scalar = compute_type(wide)
    taps: Dim = product(list(kernel))
    members = shape[1] // offset_group

    def sample(i: Indices) -> Expr:
        n, c, k, o = i[0], i[1], i[2 : 2 + rank], i[2 + rank :]
        of = floor_div(c, build.dim(members)) if offset_group != 1 else Const(0)
        tap = flat_index(k, kernel)
        position = add(mul(of, build.dim(taps)), tap)
        floors: list[Expr] = []
        fractions: list[Expr] = []
        for axis in range(rank):
            offset = as_type(scalar, context.element(2, [n, add(mul(position, rank), axis), *o]))
            place = plus(as_type(scalar, span.position(axis, o[axis], k[axis])), offset)
            low = apply(Op.FLOOR, place)
            floors.append(cast(DType.INT32, low))
            fractions.append(minus(place, low))
        total: Expr = const(0, scalar)
        for corner in itertools.product((0, 1), repeat=rank):
            at = [add(low, side) for low, side in zip(floors, corner, strict=True)]
            inside = all_of(*(below(place, size) for place, size in zip(at, shape[2:], strict=True)))
            weight: Expr = const(1, scalar)
            for fraction, side in zip(fractions, corner, strict=True):
                weight = times(weight, fraction if side else minus(1, fraction))
            value = times(context.element(0, [n, c, *at]), weight)
            total = plus(total, build.select(inside, value, const(0, scalar)))
        if context.has(4):
            total = times(total, as_type(scalar, context.element(4, [n, position, *o])))
        return total

    samples = context.temporary(wide, (*shape[:2], *kernel, *outputs), sample)
    depth = weights[1]
    width = weights[0] // group

    def body(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            channel = k[0]
            if group != 1:
                channel = add(mul(floor_div(i[1], build.dim(width)), build.dim(depth)), k[0])
            return times(context.read(samples, [i[0], channel, *k[1:], *i[2:]]), context.element(1, [i[1], *k]))

        total = context.sum([depth, *kernel], term)
        return plus(total, context.element(3, [i[1]])) if context.has(3) else total

    context.emit(body)
