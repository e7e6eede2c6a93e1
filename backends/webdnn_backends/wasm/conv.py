"""Two-dimensional convolutions in WebAssembly, on channels-last activations: no im2col, no indirection.

Output pixels are the rows of the register tile, output channels its columns, and the sum runs over kernel rows and the
contiguous run of `kernel width * channels` input elements below each. Padding is in the input already: a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.build import add, floor_div, floor_mod, i32, mul, select
from webdnn_backends.ir.loops import (
    Apply,
    Assign,
    BufferParameter,
    Const,
    Expr,
    Kernel,
    Load,
    Local,
    Loop,
    LoopKind,
    Splat,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.wasm.matmul import pack_panels, task_shape
from webdnn_backends.wasm.tiles import PANEL, Operands, Tile, product_tasks

__all__ = ["Conv", "conv2d", "depthwise_conv2d", "pack_conv_weights", "pack_depthwise_weights"]

_LONGEST_SUM = 640
_LONGEST_RUN = 512
_DEPTHWISE_PIXELS = 4


@dataclass(frozen=True)
class Conv:
    """One convolution of a padded channels-last input.

    batch, out_height, out_width, in_height, in_width: sizes, those of the input with its padding. channels: of the
    input. group: how many. x, w: buffers; w is packed by `pack_conv_weights` or `pack_depthwise_weights`.
    store(n, pixel, channel, value): writes one or four output channels of a pixel counted row by row. folded: whether
    `store` takes pixels counted through all images, with n = 0.
    """

    name: str
    buffers: tuple[BufferParameter, ...]
    batch: int | Expr
    out_height: int | Expr
    out_width: int | Expr
    in_height: int | Expr
    in_width: int | Expr
    channels: int
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    store: Callable[[Expr, Expr, Expr, Expr], tuple[Stmt, ...]]
    group: int = 1
    x: str = "x"
    w: str = "w"
    parameters: tuple[str, ...] = ()
    folded: bool = True

    @property
    def pointwise(self) -> bool:
        """Whether pixels of input and output correspond one to one."""
        return self.kernel == (1, 1) and self.strides == (1, 1)


def conv2d(conv: Conv, tile: Tile) -> Kernel:
    """The kernel; its parallel range is batch * groups * pixel blocks * channel blocks, whatever the tile."""
    depth, width = conv.channels // conv.group, conv.out_channels // conv.group
    pixels = mul(conv.out_height, conv.out_width)
    image: Expr = Var("n")
    batch: list[tuple[str, int | Expr]] = [("n", conv.batch)]
    if conv.pointwise and conv.group == 1 and conv.folded:
        pixels, image, batch = mul(conv.batch, pixels), Const(0), []
    if conv.group > 1:
        batch.append(("g", conv.group))
    group: Expr = Var("g") if conv.group > 1 else Const(0)
    inner, blocks, split = _reduction(conv, depth, tile.blocked)
    total = conv.kernel[0] * conv.kernel[1] * depth
    origin = mul(mul(image, mul(conv.in_height, conv.in_width)), conv.channels)
    origin = add(origin, mul(group, depth))
    panels = -(-width // PANEL)

    def left(row: Expr, indices: tuple[Expr, ...]) -> Expr:
        return Load(conv.x, add(row, split(indices)[0]), Scalar.F32)

    def right(panel: Expr, indices: tuple[Expr, ...], vector: int) -> Expr:
        at = mul(add(mul(add(mul(group, panels), panel), total), split(indices)[1]), PANEL)
        return Load(conv.w, add(at, vector * 4), Scalar.F32, 4)

    operands = Operands(
        reduce=inner,
        left=left,
        right=right,
        store=lambda m, n, value: conv.store(image, m, add(mul(group, width), n), value),
        handles=lambda first, count: _pixel_handles(conv, origin, first, count),
    )
    rows, group_panels = task_shape(pixels, width, total)
    body = product_tasks(operands, tile, m=pixels, n=width, rows=rows, panels=group_panels, blocks=blocks)
    for name, extent in reversed(batch):
        body = (Loop(name, i32(extent), body, LoopKind.PARALLEL),)
    return Kernel(conv.name, conv.buffers, conv.parameters, body)


def _reduction(
    conv: Conv, depth: int, may_block: bool
) -> tuple[tuple[Expr, ...], int, Callable[[tuple[Expr, ...]], tuple[Expr, Expr]]]:
    """(extents inside a block, blocks, indices -> (offset in the input from a pixel's corner, position in the sum))."""
    kernel_height, kernel_width = conv.kernel
    row_step = mul(conv.in_width, conv.channels * conv.dilations[0])
    contiguous = (conv.dilations[1] == 1 and conv.group == 1) or kernel_width == 1
    run = kernel_width * depth if contiguous else depth
    taps = 1 if contiguous else kernel_width
    total = kernel_height * kernel_width * depth
    parts = 1
    blocked = may_block and total > _LONGEST_SUM
    if blocked:
        parts = next(part for part in range(1, run + 1) if run % part == 0 and run // part <= _LONGEST_RUN)

    def split(indices: tuple[Expr, ...]) -> tuple[Expr, Expr]:
        """Indices are (kernel row, tap, element); in a blocked sum `kb` holds row, tap and part."""
        if blocked:
            part = floor_mod(Var("kb"), parts)
            outer = floor_div(Var("kb"), parts)
            row, tap = floor_div(outer, taps), floor_mod(outer, taps)
            element = add(mul(part, run // parts), indices[0])
        else:
            row, element = indices[0], indices[-1]
            tap = indices[1] if taps > 1 else Const(0)
        offset = add(add(mul(row, row_step), mul(tap, conv.dilations[1] * conv.channels)), element)
        place = add(mul(add(mul(row, taps), tap), run), element)
        return offset, place

    if blocked:
        return (Const(run // parts),), kernel_height * taps * parts, split
    extents: tuple[Expr, ...] = (Const(kernel_height), Const(taps), Const(run))
    if taps == 1:
        extents = (Const(kernel_height), Const(run))
    return extents, 1, split


def _pixel_handles(conv: Conv, origin: Expr, first: Expr, count: int) -> tuple[list[Stmt], list[Expr]]:
    """The input position of each pixel's corner. Only the first is divided out; the others follow from it."""
    if conv.pointwise:
        return [], [add(origin, mul(add(first, r), conv.channels)) for r in range(count)]
    width = i32(conv.out_width)
    line = mul(conv.in_width, conv.channels * conv.strides[0])
    step = conv.channels * conv.strides[1]
    column: Expr = Var("column0")
    corner = add(add(origin, mul(floor_div(first, width), line)), mul(column, step))
    out: list[Stmt] = [
        Local("column0", Scalar.I32, floor_mod(first, width)),
        Local("corner0", Scalar.I32, corner),
    ]
    handles: list[Expr] = [Var("corner0")]
    for r in range(1, count):
        ends = Apply(Op.EQ, (add(column, 1), width))
        next_line = add(add(Var(f"corner{r - 1}"), line), mul(mul(add(width, -1), step), -1))
        out.append(Local(f"corner{r}", Scalar.I32, select(ends, next_line, add(Var(f"corner{r - 1}"), step))))
        out.append(Local(f"column{r}", Scalar.I32, select(ends, Const(0), add(column, 1))))
        column = Var(f"column{r}")
        handles.append(Var(f"corner{r}"))
    return out, handles


def pack_conv_weights(weights: npt.NDArray[np.float32], group: int) -> npt.NDArray[np.float32]:
    """(OC, C/group, KH, KW) -> (group, panels, KH * KW * C/group, 8), channels beyond the last zero."""
    out_channels, depth, height, width = weights.shape
    grouped = weights.reshape(group, out_channels // group, depth, height, width)
    matrix = grouped.transpose(0, 3, 4, 2, 1).reshape(group, height * width * depth, out_channels // group)
    return pack_panels(np.ascontiguousarray(matrix))


def pack_depthwise_weights(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(C, 1, KH, KW) -> (KH, KW, C rounded up to a multiple of 4)."""
    channels, _, height, width = weights.shape
    padded = np.zeros((height, width, -(-channels // 4) * 4), weights.dtype)
    padded[..., :channels] = weights[:, 0].transpose(1, 2, 0)
    return padded


def depthwise_conv2d(conv: Conv) -> Kernel:
    """A convolution of each channel by itself: vectors of channels, several pixels of a line at a time."""
    width = i32(conv.out_width)
    tiles = floor_div(width, _DEPTHWISE_PIXELS)
    at = mul(Var("t"), _DEPTHWISE_PIXELS)
    line: list[Stmt] = []
    if tiles != Const(0):
        line.append(Loop("t", tiles, _depthwise_pixels(conv, at, _DEPTHWISE_PIXELS)))
    rest = floor_mod(width, _DEPTHWISE_PIXELS)
    if rest != Const(0):
        line.append(Loop("t", rest, _depthwise_pixels(conv, Var("t"), 1), start=mul(tiles, _DEPTHWISE_PIXELS)))
    body: tuple[Stmt, ...] = (Loop("oh", i32(conv.out_height), tuple(line), LoopKind.PARALLEL),)
    body = (Loop("n", i32(conv.batch), body, LoopKind.PARALLEL),)
    return Kernel(conv.name, conv.buffers, conv.parameters, body)


def _depthwise_pixels(conv: Conv, first: Expr, pixels: int) -> tuple[Stmt, ...]:
    """All channels of some pixels: memory is read in the order in which it lies."""
    whole, rest = conv.channels // 4 * 4, conv.channels % 4
    out: list[Stmt] = []
    if whole:
        out.append(Loop("c", Const(whole // 4), _depthwise_tile(conv, Var("c"), first, pixels, 4), step=4))
    if rest:
        out.append(Loop("c", Const(rest), _depthwise_tile(conv, Var("c"), first, pixels, 1), start=Const(whole)))
    return tuple(out)


def _depthwise_tile(conv: Conv, channel: Expr, first: Expr, pixels: int, lanes: int) -> tuple[Stmt, ...]:
    """`pixels` neighbours of a line; each weight is loaded once, and each input that two windows share too."""
    padded_channels = -(-conv.channels // 4) * 4
    sums = [Var(f"sum{p}", Scalar.F32, lanes) for p in range(pixels)]
    zero: Expr = Const(0.0, Scalar.F32)
    out: list[Stmt] = [Local(item.name, Scalar.F32, Splat(zero) if lanes == 4 else zero, lanes=lanes) for item in sums]
    image = mul(Var("n"), mul(conv.in_height, conv.in_width))
    body: list[Stmt] = []
    for kw in range(conv.kernel[1]):
        place = add(mul(add(mul(Var("kh"), conv.kernel[1]), kw), padded_channels), channel)
        weight = Load(conv.w, place, Scalar.F32, lanes)
        for p, item in enumerate(sums):
            line = add(mul(Var("oh"), conv.strides[0]), mul(Var("kh"), conv.dilations[0]))
            column = add(mul(add(first, p), conv.strides[1]), kw * conv.dilations[1])
            position = add(mul(add(add(image, mul(line, conv.in_width)), column), conv.channels), channel)
            value = Load(conv.x, position, Scalar.F32, lanes)
            body.append(Assign(item.name, Apply(Op.FMA, (value, weight, item))))
    unrolled = LoopKind.UNROLL if conv.kernel[0] <= 3 else LoopKind.SERIAL
    out.append(Loop("kh", Const(conv.kernel[0]), tuple(body), unrolled))
    for p, item in enumerate(sums):
        pixel = add(mul(Var("oh"), conv.out_width), add(first, p))
        out += conv.store(Var("n"), pixel, channel, item)
    return tuple(out)


def plain_store(
    conv_channels: int, pixels: int | Expr, buffer: str
) -> Callable[[Expr, Expr, Expr, Expr], tuple[Stmt, ...]]:
    """Stores of a channels-last output without an epilogue."""

    def store(n: Expr, pixel: Expr, channel: Expr, value: Expr) -> tuple[Stmt, ...]:
        at = add(mul(add(mul(n, pixels), pixel), conv_channels), channel)
        return (Store(buffer, at, value),)

    return store
