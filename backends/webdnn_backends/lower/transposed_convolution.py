"""ConvTranspose as an ordinary convolution.

Output positions that leave the same remainder by the stride (a phase) are sums over the same elements of the weights,
at input positions side by side: a convolution with stride 1. One convolution computes all phases as groups of channels,
and its elements are put in place where they are read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, const, floor_div, floor_mod, mul, sub
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contraction import Window
from webdnn_backends.lower.movement import within
from webdnn_backends.lower.planes import over_planes
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.symbolic import Dim, maximum

__all__: list[str] = []


@lowering("ConvTranspose")
def _conv_transpose(context: NodeContext) -> None:
    kernel = context.shape(1)[2:]
    rank = len(kernel)
    strides = context.attribute("strides", (1,) * rank)
    dilations = context.attribute("dilations", (1,) * rank)
    begins = _begins(context, kernel, strides, dilations)
    axes = [_axis(context, *sizes) for sizes in zip(range(rank), kernel, strides, dilations, begins, strict=True)]
    weights = context.constant(1)
    empty = 0 in (*context.shape(0), *context.shape(1), *context.output().shape)
    if weights is None or empty or any(axis is None for axis in axes):
        _as_gather(context, kernel, strides, dilations, begins)
    else:
        _as_convolution(context, weights, [axis for axis in axes if axis is not None])


def _begins(
    context: NodeContext, kernel: Sequence[Dim], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> list[Dim]:
    """The begin pads, from pads, auto_pad or output_shape."""
    rank = len(kernel)
    given = context.attribute("pads", (0,) * (2 * rank))
    extra = context.attribute("output_padding", (0,) * rank)
    mode = context.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * rank
    if mode == "NOTSET" and "output_shape" not in context.node.attributes:
        return list(given[:rank])
    begins: list[Dim] = []
    for axis in range(rank):
        size, wanted = context.shape(0)[2 + axis], context.output().shape[2 + axis]
        total = (size - 1) * strides[axis] + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1 - wanted
        total = maximum(total, 0)
        begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return begins


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of the convolution. taps: its kernel's size. begin, end: its pads. first: the position in its
    output is that of phases less this."""

    kernel: int
    stride: int
    dilation: int
    pad: int
    taps: int
    begin: int
    end: int
    first: int

    @property
    def spread(self) -> int:
        """The dilation of the convolution: gaps between taps are zeros in the weights where there are phases."""
        return self.dilation if self.stride == 1 else 1

    @property
    def reach(self) -> int:
        return (self.taps - 1) * self.spread

    def source(self, phase: int, tap: int) -> int | None:
        """The element of the given weights that a tap of a phase has; None where it is zero."""
        if self.stride == 1:
            return self.kernel - 1 - tap
        at, rest = divmod((self.taps - 1 - tap) * self.stride + phase, self.dilation)
        return at if rest == 0 and at < self.kernel else None


def _axis(context: NodeContext, axis: int, kernel: Dim, stride: int, dilation: int, pad: Dim) -> _Axis | None:
    size, wanted = context.shape(0)[2 + axis], context.output().shape[2 + axis]
    beyond = wanted - 1 + pad - (size - 1) * stride
    if not isinstance(kernel, int) or not isinstance(pad, int) or not isinstance(beyond, int) or kernel == 0:
        return None
    taps = kernel if stride == 1 else (kernel - 1) * dilation // stride + 1
    reach = (taps - 1) * (dilation if stride == 1 else 1)
    first = min(max(pad // stride, 0), reach)
    return _Axis(kernel, stride, dilation, pad, taps, reach - first, max(beyond // stride, 0), first)


def _as_convolution(context: NodeContext, weights: npt.NDArray[np.generic], axes: Sequence[_Axis]) -> None:
    group, width = context.attribute("group", 1), weights.shape[1]
    phases = math.prod(axis.stride for axis in axes)
    sizes = [size + axis.begin + axis.end - axis.reach for size, axis in zip(context.shape(0)[2:], axes, strict=True)]
    span = Window(
        tuple(axis.taps for axis in axes),
        (1,) * len(axes),
        tuple(axis.spread for axis in axes),
        tuple((axis.begin, axis.end) for axis in axes),
    )
    element = over_planes(context, _phase_weights(weights, group, axes), span, sizes)

    def placed(i: Indices) -> Expr:
        phase: Expr = Const(0)
        at: list[Expr] = []
        for position, axis in zip(i[2:], axes, strict=True):
            far = add(position, axis.pad)
            phase = add(mul(phase, axis.stride), floor_mod(far, axis.stride))
            at.append(sub(floor_div(far, axis.stride), axis.first))
        channel = add(mul(phase, width), i[1])
        if group != 1:
            outer = mul(floor_div(i[1], width), phases * width)
            channel = add(add(outer, mul(phase, width)), floor_mod(i[1], width))
        value = element((i[0], channel, *at))
        return apply(Op.ADD, value, context.element(2, [i[1]])) if context.has(2) else value

    context.emit(placed)


def _phase_weights(weights: npt.NDArray[np.generic], group: int, axes: Sequence[_Axis]) -> npt.NDArray[np.generic]:
    """(channels, outputs of a group, *kernel) -> (groups * phases * outputs of a group, channels of a group, *taps)."""
    given = weights.reshape(group, -1, *weights.shape[1:])
    taps = tuple(axis.taps for axis in axes)
    phases = tuple(axis.stride for axis in axes)
    made = np.zeros((group, math.prod(phases), given.shape[2], given.shape[1], *taps), weights.dtype)
    for number, phase in enumerate(product(*map(range, phases))):
        for tap in product(*map(range, taps)):
            found = [axis.source(*place) for axis, *place in zip(axes, phase, tap, strict=True)]
            if None not in found:
                target: tuple[Any, ...] = (slice(None), number, ..., *tap)
                origin: tuple[Any, ...] = (..., *found)
                made[target] = given[origin].swapaxes(1, 2)
    return made.reshape(-1, given.shape[1], *taps)


def _as_gather(
    context: NodeContext,
    kernel: Sequence[Dim],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    begins: Sequence[Dim],
) -> None:
    """Every element by all elements of the kernel, those between input positions skipped."""
    x_shape, w_shape, group = context.shape(0), context.shape(1), context.attribute("group", 1)
    depth, width = w_shape[0] // group, w_shape[1]
    zero = const(0, compute_type(context.dtype(0)))

    def body(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            channel = k[0] if group == 1 else add(mul(floor_div(i[1], build.dim(width)), build.dim(depth)), k[0])
            own = i[1] if group == 1 else floor_mod(i[1], build.dim(width))
            inside: Expr = build.TRUE
            at: list[Expr] = []
            for axis in range(len(kernel)):
                reach = sub(add(i[2 + axis], build.dim(begins[axis])), mul(k[1 + axis], dilations[axis]))
                position = floor_div(reach, strides[axis])
                checks = [within(position, build.dim(x_shape[2 + axis]))]
                if strides[axis] != 1:
                    checks.append(apply(Op.EQ, floor_mod(reach, strides[axis]), Const(0)))
                for check in checks:
                    inside = check if inside == build.TRUE else apply(Op.AND, inside, check)
                at.append(position)
            value = apply(Op.MUL, context.element(0, [i[0], channel, *at]), context.element(1, [channel, own, *k[1:]]))
            return build.select(inside, value, zero)

        total = context.sum([depth, *kernel], term)
        return apply(Op.ADD, total, context.element(2, [i[1]])) if context.has(2) else total

    context.emit(body)
