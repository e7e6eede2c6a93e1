"""Convolutions over one and three axes as ones over planes, for which every target has fast kernels.

A sequence is an image of one row. A volume is a batch of planes, in which the planes under a kernel's first axis are
further channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, const, floor_div, floor_mod, mul, sub
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.movement import within
from webdnn_backends.te.tensors import ConvHint, ReshapeHint
from webdnn_onnx.symbolic import Dim

if TYPE_CHECKING:
    from webdnn_backends.lower.contraction import Window

__all__ = ["correlate", "emit_over_planes"]


def correlate(
    context: NodeContext,
    tensors: tuple[str, str],
    sizes: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
    group: int,
) -> str:
    """The convolution of two tensors by name, without a bias; sizes: of its spatial axes. Returns the name of a
    temporary in the type of the node's output."""
    x, w = tensors
    x_shape, w_shape = context.state.tensor(x).shape, context.state.tensor(w).shape
    depth, filters = w_shape[1], w_shape[0]
    zero = const(0, compute_type(context.state.tensor(x).dtype))

    def element(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            outer = floor_div(i[1], build.dim(filters // group))
            channel = k[0] if group == 1 else add(mul(outer, build.dim(depth)), k[0])
            inside: Expr = build.TRUE
            at: list[Expr] = []
            for axis, (position, tap) in enumerate(zip(i[2:], k[1:], strict=True)):
                at.append(sub(add(mul(position, strides[axis]), mul(tap, dilations[axis])), pads[axis][0]))
                if pads[axis] != (0, 0):
                    check = within(at[-1], build.dim(x_shape[2 + axis]))
                    inside = check if inside == build.TRUE else apply(Op.AND, inside, check)
            value = build.select(inside, context.read(x, [i[0], channel, *at]), zero)
            return apply(Op.MUL, value, context.read(w, [i[1], *k]))

        return context.sum([depth, *kernel], term)

    hint = ConvHint(x, w, tuple(kernel), tuple(strides), tuple(dilations), tuple(pads), group)
    return context.temporary(context.output().dtype, (x_shape[0], filters, *sizes), element, hint)


def emit_over_planes(context: NodeContext, span: Window) -> bool:
    """Give the output of a Conv node over one or three axes by a convolution over two, if that has fast kernels."""
    weights, shape = context.constant(1), context.shape(0)
    if weights is None or not span.static or len(shape) not in (3, 5) or 0 in (*shape, *weights.shape):
        return False
    if compute_type(context.dtype(0)) is not Scalar.F32 or 0 in context.output().shape:
        return False
    (_over_row if len(shape) == 3 else _over_volume)(context, span, weights)
    return True


def _over_row(context: NodeContext, span: Window, weights: npt.NDArray[Any]) -> None:
    (n, channels, length), x = context.shape(0), context.name(0)
    view = (n, channels, 1, length)
    row = context.temporary(context.dtype(0), view, lambda i: context.read(x, [i[0], i[1], i[3]]), ReshapeHint(x))
    rows = correlate(
        context,
        (row, context.table(weights[:, :, np.newaxis])),
        (1, context.output().shape[2]),
        (1, *span.integer_kernel),
        (1, *span.strides),
        (1, *span.dilations),
        ((0, 0), *span.integer_pads),
        context.attribute("group", 1),
    )
    context.emit(_biased(context, lambda i: context.read(rows, [i[0], i[1], Const(0), i[2]])))


def _over_volume(context: NodeContext, span: Window, weights: npt.NDArray[Any]) -> None:
    shape, out, x, group = context.shape(0), context.output().shape, context.name(0), context.attribute("group", 1)
    filters, depth, taps = weights.shape[:3]
    planes = build.dim(out[2])
    zero = const(0, Scalar.F32)

    def gathered(i: Indices) -> Expr:
        batch, plane = floor_div(i[0], planes), floor_mod(i[0], planes)
        tap = floor_mod(floor_div(i[1], depth), taps)
        channel = add(mul(floor_div(i[1], taps * depth), depth), floor_mod(i[1], depth))
        position = span.position(0, plane, tap)
        value = context.read(x, [batch, channel, position, i[2], i[3]])
        if not span.can_leave(0, shape[2], out[2]):
            return value
        return build.select(within(position, build.dim(shape[2])), value, zero)

    stacked = context.temporary(context.dtype(0), (shape[0] * out[2], group * taps * depth, *shape[3:]), gathered)
    kernel = weights.swapaxes(1, 2).reshape(filters, taps * depth, *weights.shape[3:])
    results = correlate(
        context,
        (stacked, context.table(np.ascontiguousarray(kernel))),
        out[3:],
        span.integer_kernel[1:],
        span.strides[1:],
        span.dilations[1:],
        span.integer_pads[1:],
        group,
    )
    context.emit(
        _biased(context, lambda i: context.read(results, [add(mul(i[0], planes), i[2]), i[1], i[3], i[4]])),
    )


def _biased(context: NodeContext, element: Callable[[Indices], Expr]) -> Callable[[Indices], Expr]:
    if not context.has(2):
        return element
    return lambda i: apply(Op.ADD, element(i), context.element(2, [i[1]]))
