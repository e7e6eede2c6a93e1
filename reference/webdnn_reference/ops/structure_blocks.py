"""Operators between depth, space and columns: DepthToSpace, SpaceToDepth, Col2Im."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, int_list, narrow, widen
from webdnn_reference.registry import op

# Axes of (b, first, second, third, h, w), where the depth is split into the three, in the order that makes the image.
_TO_SPACE = {"DCR": (0, 3, 4, 1, 5, 2), "CRD": (0, 1, 4, 2, 5, 3)}
# Axes of (b, c, h, rows of a block, w, columns of a block) in the order that makes the depth.
_TO_DEPTH = {"DCR": (0, 3, 5, 1, 2, 4), "CRD": (0, 1, 3, 5, 2, 4)}


@op("DepthToSpace", since=1)
def depth_to_space_1(input: Array, *, blocksize: int) -> Array:
    """Blocks of channels moved into the image, depth first.

    input: (b, c, h, w) -> (b, c / blocksize**2, h * blocksize, w * blocksize).
    Spec: https://onnx.ai/onnx/operators/onnx__DepthToSpace.html#depthtospace-1
    """
    return depth_to_space_11(input, blocksize=blocksize)


@op("DepthToSpace", since=(11, 13, 28))
def depth_to_space_11(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Blocks of channels moved into the image, in depth-column-row or column-row-depth order.

    input: (b, c, h, w) -> (b, c / blocksize**2, h * blocksize, w * blocksize). Raises ShapeError if c does not divide.
    Spec: https://onnx.ai/onnx/operators/onnx__DepthToSpace.html#depthtospace-13
    """
    b, c, h, w = _image(input, blocksize)
    order = _order(_TO_SPACE, mode)
    depth, rest = divmod(c, blocksize**2)
    if rest:
        raise ShapeError(f"input: expected channels that are a multiple of {blocksize**2}, got {c}")
    split = (b, blocksize, blocksize, depth, h, w) if mode == "DCR" else (b, depth, blocksize, blocksize, h, w)
    return input.reshape(split).transpose(order).reshape(b, depth, h * blocksize, w * blocksize)


@op("SpaceToDepth", since=(1, 13))
def space_to_depth_1(input: Array, *, blocksize: int) -> Array:
    """Blocks of the image moved into the channels, depth last.

    input: (b, c, h, w) -> (b, c * blocksize**2, h / blocksize, w / blocksize).
    Spec: https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html#spacetodepth-13
    """
    return space_to_depth_28(input, blocksize=blocksize)


@op("SpaceToDepth", since=28)
def space_to_depth_28(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Blocks of the image moved into the channels, in depth-column-row or column-row-depth order.

    input: (b, c, h, w) -> (b, c * blocksize**2, h / blocksize, w / blocksize). Raises ShapeError if h or w does not
    divide. Spec: https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html#spacetodepth-28
    """
    b, c, h, w = _image(input, blocksize)
    order = _order(_TO_DEPTH, mode)
    if h % blocksize or w % blocksize:
        raise ShapeError(f"input: expected height and width that are multiples of {blocksize}, got {[h, w]}")
    rows, columns = h // blocksize, w // blocksize
    split = input.reshape(b, c, rows, blocksize, columns, blocksize)
    return split.transpose(order).reshape(b, c * blocksize**2, rows, columns)


@op("Col2Im", since=18)
def col2im(
    input: Array,
    image_shape: Array,
    block_shape: Array,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Columns summed back into the image they were cut from.

    input: (n, c * product(block_shape), L); L runs over the block positions, row-major -> (n, c, *image_shape).
    Raises ShapeError if the sizes do not fit. Spec: https://onnx.ai/onnx/operators/onnx__Col2Im.html#col2im-18
    """
    image, block = int_list(image_shape, "image_shape"), int_list(block_shape, "block_shape")
    rank = len(image)
    dilations = dilations or [1] * rank
    strides = strides or [1] * rank
    pads = pads or [0] * (2 * rank)
    if not len(block) == len(dilations) == len(strides) == rank or len(pads) != 2 * rank:
        lengths = [len(block), len(dilations), len(pads), len(strides)]
        raise ShapeError(f"block_shape, dilations, pads, strides: expected lengths for rank {rank}, got {lengths}")
    if min((*strides, *dilations, *block), default=1) < 1:
        got = f"{list(strides)}, {list(dilations)} and {block}"
        raise ShapeError(f"strides, dilations, block_shape: expected positive numbers, got {got}")
    padded = [size + pads[axis] + pads[axis + rank] for axis, size in enumerate(image)]
    counts = [(padded[axis] - dilations[axis] * (block[axis] - 1) - 1) // strides[axis] + 1 for axis in range(rank)]
    channels, rest = divmod(input.shape[1], math.prod(block)) if input.ndim == 3 else (0, 1)
    if rest or input.shape[2] != math.prod(counts):
        raise ShapeError(
            f"input: expected (n, multiple of {math.prod(block)}, {math.prod(counts)}), got {list(input.shape)}"
        )
    if min((*image, *counts), default=0) < 0:
        raise ShapeError(f"image_shape: expected sizes that hold a block, got {image}")
    columns = widen(input).reshape(input.shape[0], channels, *block, *counts)
    result = np.zeros((input.shape[0], channels, *padded), columns.dtype)
    for offset in product(*map(range, block)):
        window = tuple(
            slice(start * dilation, start * dilation + stride * (count - 1) + 1, stride)
            for start, dilation, stride, count in zip(offset, dilations, strides, counts, strict=True)
        )
        at: tuple[slice | int, ...] = (slice(None), slice(None), *offset)
        result[(slice(None), slice(None), *window)] += columns[at]
    inside = tuple(slice(pads[axis], pads[axis] + size) for axis, size in enumerate(image))
    return narrow(result[(slice(None), slice(None), *inside)], input)


def _image(input: Array, blocksize: int) -> tuple[int, int, int, int]:
    if blocksize < 1:
        raise InvalidModelError(f"blocksize: expected at least 1, got {blocksize}")
    if input.ndim != 4:
        raise ShapeError(f"input: expected rank 4, got shape {list(input.shape)}")
    b, c, h, w = input.shape
    return b, c, h, w


def _order(orders: Mapping[str, tuple[int, ...]], mode: str) -> tuple[int, ...]:
    if mode not in orders:
        raise InvalidModelError(f"mode: expected {' or '.join(orders)}, got '{mode}'")
    return orders[mode]
