"""Convolutions over one and three axes as ones over planes, for which every target has fast kernels.

A sequence is an image of one row. A volume is a batch of planes, in which the planes under a kernel's first axis are
further channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.movement import within
from webdnn_backends.te.tensors import ConvHint, ReshapeHint
from webdnn_onnx.symbolic import Dim

if TYPE_CHECKING:
    from webdnn_backends.lower.contraction import Window

__all__ = ["emit_over_planes", "over_planes"]


def emit_over_planes(context: NodeContext, span: Window) -> bool:
    """Give the output of a Conv node over one or three axes by a convolution over two, if that has fast kernels."""
    weights, shape, sizes = context.constant(1), context.shape(0), context.output().shape[2:]
    if weights is None or not span.static or len(shape) not in (3, 5) or 0 in (*shape, *weights.shape, *sizes):
        return False
    if compute_type(context.dtype(0)) is not Scalar.F32:
        return False
    element = over_planes(context, weights, span, sizes)
    context.emit(lambda i: apply(Op.ADD, element(i), context.element(2, [i[1]])) if context.has(2) else element(i))
    return True


def over_planes(
    context: NodeContext, weights: npt.NDArray[Any], span: Window, sizes: Sequence[Dim]
) -> Callable[[Indices], Expr]:
    """The elements of a convolution of the first input, of any rank, with constant weights. span: static; sizes: of the
    spatial axes of what it gives."""
    match len(sizes):
        case 1:
            return _over_row(context, weights, span, sizes[0])
        case 3:
            return _over_volume(context, weights, span, sizes)
    result = _correlate(context, context.name(0), weights, span, sizes)
    return lambda i: context.read(result, i)


def _over_row(context: NodeContext, weights: npt.NDArray[Any], span: Window, size: Dim) -> Callable[[Indices], Expr]:
    (n, channels, length), x = context.shape(0), context.name(0)
    view = (n, channels, 1, length)
    row = context.temporary(context.dtype(0), view, lambda i: context.read(x, [i[0], i[1], i[3]]), ReshapeHint(x))
    plane = replace(
        span,
        kernel=(1, *span.kernel),
        strides=(1, *span.strides),
        dilations=(1, *span.dilations),
        pads=((0, 0), *span.pads),
    )
    result = _correlate(context, row, weights[:, :, np.newaxis], plane, (1, size))
    return lambda i: context.read(result, [i[0], i[1], Const(0), i[2]])


def _over_volume(
    context: NodeContext, weights: npt.NDArray[Any], span: Window, sizes: Sequence[Dim]
) -> Callable[[Indices], Expr]:
    shape, x, group = context.shape(0), context.name(0), context.attribute("group", 1)
    filters, depth, taps = weights.shape[:3]
    planes = build.dim(sizes[0])
    zero = const(0, compute_type(context.dtype(0)))

    def gathered(i: Indices) -> Expr:
        batch, plane = floor_div(i[0], planes), floor_mod(i[0], planes)
        tap = floor_mod(floor_div(i[1], depth), taps)
        channel = add(mul(floor_div(i[1], taps * depth), depth), floor_mod(i[1], depth))
        position = span.position(0, plane, tap)
        value = context.read(x, [batch, channel, position, i[2], i[3]])
        if not span.can_leave(0, shape[2], sizes[0]):
            return value
        return build.select(within(position, build.dim(shape[2])), value, zero)

    stacked = context.temporary(context.dtype(0), (shape[0] * sizes[0], group * taps * depth, *shape[3:]), gathered)
    plane = replace(
        span, kernel=span.kernel[1:], strides=span.strides[1:], dilations=span.dilations[1:], pads=span.pads[1:]
    )
    kernel = weights.swapaxes(1, 2).reshape(filters, taps * depth, *weights.shape[3:])
    result = _correlate(context, stacked, kernel, plane, sizes[1:])
    return lambda i: context.read(result, [add(mul(i[0], planes), i[2]), i[1], i[3], i[4]])


def _correlate(context: NodeContext, x: str, weights: npt.NDArray[Any], span: Window, sizes: Sequence[Dim]) -> str:
    """The convolution of a tensor by name; the name of a temporary in the type of the node's output."""
    w, group = context.table(np.ascontiguousarray(weights)), context.attribute("group", 1)
    shape, (filters, depth) = context.state.tensor(x).shape, weights.shape[:2]
    zero = const(0, compute_type(context.state.tensor(x).dtype))

    def element(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            channel = k[0] if group == 1 else add(mul(floor_div(i[1], filters // group), depth), k[0])
            inside: Expr = build.TRUE
            at = [span.position(axis, *place) for axis, place in enumerate(zip(i[2:], k[1:], strict=True))]
            for axis, position in enumerate(at):
                if span.can_leave(axis, shape[2 + axis], sizes[axis]):
                    check = within(position, build.dim(shape[2 + axis]))
                    inside = check if inside == build.TRUE else apply(Op.AND, inside, check)
            value = build.select(inside, context.read(x, [i[0], channel, *at]), zero)
            return apply(Op.MUL, value, context.read(w, [i[1], *k]))

        return context.sum([depth, *span.kernel], term)

    hint = ConvHint(x, w, span.integer_kernel, span.strides, span.dilations, span.integer_pads, group)
    return context.temporary(context.output().dtype, (shape[0], filters, *sizes), element, hint)
