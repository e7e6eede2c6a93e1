"""Operators that rearrange elements: Reshape, Transpose, Concat, Split, Slice, Pad, Expand and their kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call, show
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.infer.shapes import broadcast_dim, compacted, is_axis, normal_axes, remove_axes, slice_length
from webdnn_onnx.symbolic import Dim, equal, maximum, product

__all__ = ["axes_of", "unknown"]


def unknown(call: Call, rank: int, output: int = 0) -> Shape:
    """A shape of that rank of which nothing is known."""
    return tuple(call.fresh(axis, output) for axis in range(rank))


def axes_of(call: Call, index: int) -> tuple[Dim, ...] | None:
    """Axes from the attribute `axes`, or else from an input; None where neither gives them."""
    given = call.numbers("axes")
    if given is not None:
        return given
    return call.elements(index)


def _fixed(values: Sequence[Dim] | None) -> tuple[int, ...] | None:
    if values is None or not all(isinstance(value, int) for value in values):
        return None
    return tuple(value for value in values if isinstance(value, int))


@shape_rule("Reshape")
def reshape(call: Call) -> list[Shape]:
    """Sizes from attribute (opset 1) or input; 0 copies the input's size, -1 takes what is left.

    A size that is an expression over input sizes is taken as it is; one read from a run-time tensor may be 0 or -1.
    """
    wanted: tuple[Dim, ...] | None = call.numbers("shape") if call.opset < 5 else call.elements(1)
    if wanted is None:
        rank = call.shape(1)[0] if call.has(1) else None
        return [unknown(call, rank)] if isinstance(rank, int) else []
    copies = not call.number("allowzero", 0)
    shape = call.shape(0)
    total = product(shape)
    guess: list[Dim] = []
    for axis, size in enumerate(wanted):
        if copies and size == 0:
            if axis >= len(shape):
                raise call.shape_error("shape", f"0 only in the first {len(shape)} places", show(wanted))
            guess.append(shape[axis])
        elif call.signed(size):
            copied = equal(size, 0) * shape[axis] if copies and axis < len(shape) else 0
            guess.append(maximum(size, copied))
        else:
            guess.append(size)
    marks = [axis for axis, size in enumerate(wanted) if size == -1]
    if len(marks) > 1:
        raise call.shape_error("shape", "-1 at most once", show(wanted))
    if marks:
        rest = product([size for axis, size in enumerate(guess) if axis not in marks])
        if rest == 0 and isinstance(total, int) and total:
            raise call.shape_error("shape", f"{total} elements", show(wanted))
        guess[marks[0]] = total // rest
        if isinstance(total, int) and isinstance(rest, int) and rest and total % rest:
            raise call.shape_error("shape", f"sizes whose product divides {total}", show(wanted))
        return [tuple(guess)]
    if any(call.signed(size) for size in wanted):
        # Any run-time size may be -1, which `guess` holds as 0: it is then the rest. Each size is one `max`, so that
        # products of sizes stay short.
        rest = total // product([maximum(size, 1) for size in guess])
        return [
            tuple(
                maximum(guessed, equal(size, -1) * rest) if call.signed(size) else guessed
                for size, guessed in zip(wanted, guess, strict=True)
            )
        ]
    call.expect_equal("number of elements", total, product(guess))
    return [tuple(guess)]


@shape_rule("Flatten")
def flatten(call: Call) -> list[Shape]:
    """Two axes: the product of those before `axis`, and of the others."""
    shape = call.shape(0)
    axis = call.number("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise call.shape_error("axis", f"within [{-len(shape)}, {len(shape)}]", str(axis))
    axis = axis + len(shape) if axis < 0 else axis
    return [(product(shape[:axis]), product(shape[axis:]))]


@shape_rule("Transpose")
def transpose(call: Call) -> list[Shape]:
    """The axes in the order of `perm`, or reversed."""
    shape = call.shape(0)
    order = call.numbers("perm")
    if order is None:
        return [shape[::-1]]
    if sorted(order) != list(range(len(shape))):
        raise call.shape_error("attribute 'perm'", f"an order of {len(shape)} axes", str(list(order)))
    return [tuple(shape[axis] for axis in order)]


@shape_rule("Squeeze")
def squeeze(call: Call) -> list[Shape]:
    """The shape without these axes, or without all that are 1."""
    shape = call.shape(0)
    axes = axes_of(call, 1)
    if axes is None and not call.has(1):
        return [tuple(dim for dim in shape if dim != 1)] if all(isinstance(dim, int) for dim in shape) else []
    fixed = _fixed(axes)
    if fixed is None:
        if axes is None:
            return []
        flags = [sum((is_axis(given, axis, len(shape)) for given in axes), start=0) for axis in range(len(shape))]
        return [compacted(shape, flags, len(shape) - len(axes))]
    normal = normal_axes(call, fixed, len(shape))
    for axis in normal:
        call.expect_equal(f"dimension {axis}", 1, shape[axis])
    return [remove_axes(shape, normal)]


@shape_rule("Unsqueeze")
def unsqueeze(call: Call) -> list[Shape]:
    """The shape with 1 inserted at these axes of the result."""
    shape = call.shape(0)
    axes = axes_of(call, 1)
    if axes is None:
        return []
    fixed = _fixed(axes)
    rank = len(shape) + len(axes)
    if fixed is None:
        return [_unsqueezed(shape, axes, rank)]
    normal = normal_axes(call, fixed, rank)
    rest = iter(shape)
    return [tuple(1 if axis in normal else next(rest) for axis in range(rank))]


def _unsqueezed(shape: Shape, axes: Sequence[Dim], rank: int) -> Shape:
    """1 at the run-time axes, and between them the input's dimensions in order."""
    result: list[Dim] = []
    before: Dim = 0
    for axis in range(rank):
        flag: Dim = sum((is_axis(given, axis, rank) for given in axes), start=0)
        taken = sum((equal(before, position) * dim for position, dim in enumerate(shape)), start=0)
        result.append(flag + (1 - flag) * taken)
        before = before + 1 - flag
    return tuple(result)


@shape_rule("Concat", same="all")
def concat(call: Call) -> list[Shape]:
    """The sum along one axis; the other dimensions agree."""
    shapes = [call.shape(index) for index in range(call.count)]
    rank = len(shapes[0])
    axis = call.axis(call.number("axis", 1), rank)
    result = list(shapes[0])
    for index, shape in enumerate(shapes[1:], start=1):
        if len(shape) != rank:
            raise call.shape_error(f"input {index}", f"rank {rank}", show(shape))
        for other, dim in enumerate(shape):
            if other == axis:
                result[axis] = result[axis] + dim
            else:
                call.expect_equal(f"input {index}: dimension {other}", result[other], dim)
                result[other] = dim if isinstance(dim, int) else result[other]
    return [tuple(result)]


@shape_rule("Split")
def split(call: Call) -> list[Shape]:
    """Parts along one axis: sizes from attribute or input, or equal ones, of which the last may be smaller."""
    shape = call.shape(0)
    axis = call.axis(call.number("axis", 0), len(shape))
    count = len(call.node.outputs)
    sizes: tuple[Dim, ...] | None = call.numbers("split")
    if sizes is None and call.has(1):
        sizes = call.elements(1, count)
        if sizes is None:
            return [
                tuple(call.fresh(axis, output) if other == axis else dim for other, dim in enumerate(shape))
                for output in range(count)
            ]
    if sizes is None:
        part = -((-shape[axis]) // count)
        sizes = (*(part for _ in range(count - 1)), maximum(shape[axis] - part * (count - 1), 0))
    elif len(sizes) != count:
        raise call.shape_error("split", f"{count} sizes", show(sizes))
    else:
        call.expect_equal("sum of split", shape[axis], sum(sizes, start=0))
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@shape_rule("Slice")
def slice_1(call: Call) -> list[Shape]:
    """Starts, ends and axes are attributes."""
    starts, ends = call.numbers("starts") or (), call.numbers("ends") or ()
    return [_sliced(call, starts, ends, call.numbers("axes"), None)]


@shape_rule("Slice", since=10)
def slice_10(call: Call) -> list[Shape]:
    """Starts, ends, axes and steps are inputs."""
    shape = call.shape(0)
    lengths = (call.shape(index)[0] for index in range(1, call.count) if call.has(index) and call.shape(index))
    count = next((length for length in lengths if isinstance(length, int)), None)
    starts, ends = call.elements(1, count), call.elements(2, count)
    axes = call.elements(3, count) if call.has(3) else None
    steps = call.elements(4, count) if call.has(4) else None
    lost = (call.has(3) and axes is None) or (call.has(4) and steps is None)
    if starts is None or ends is None or lost:
        return [unknown(call, len(shape))]
    return [_sliced(call, starts, ends, axes, steps)]


def _sliced(
    call: Call,
    starts: Sequence[Dim],
    ends: Sequence[Dim],
    axes: Sequence[Dim] | None,
    steps: Sequence[Dim] | None,
) -> Shape:
    shape = call.shape(0)
    count = len(starts)
    if not len(ends) == count == len(axes or starts) == len(steps or starts):
        raise call.shape_error("starts, ends, axes and steps", f"{count} of each", f"{len(ends)} ends")
    fixed = tuple(range(count)) if axes is None else _fixed(axes)
    if fixed is None:
        return _sliced_somewhere(call, starts, ends, axes or (), steps or (1,) * count)
    normal = normal_axes(call, fixed, len(shape))
    result = list(shape)
    for axis, start, end, step in zip(normal, starts, ends, steps or (1,) * count, strict=True):
        if step == 0:
            raise call.shape_error("steps", "none 0", "0")
        if isinstance(step, int):
            result[axis] = slice_length(shape[axis], start, end, step)
        else:
            result[axis] = call.fresh(axis)
    return tuple(result)


def _sliced_somewhere(
    call: Call, starts: Sequence[Dim], ends: Sequence[Dim], axes: Sequence[Dim], steps: Sequence[Dim]
) -> Shape:
    """Run-time axes: each dimension is what the slice of its axis leaves, if there is one."""
    shape = call.shape(0)
    if not all(isinstance(step, int) and step for step in steps):
        return unknown(call, len(shape))
    result: list[Dim] = []
    for axis, size in enumerate(shape):
        dim: Dim = size
        for given, start, end, step in zip(axes, starts, ends, steps, strict=True):
            assert isinstance(step, int), "steps are numbers here"
            length = slice_length(size, start, end, step)
            dim = dim + is_axis(given, axis, len(shape)) * (length - size)
        result.append(dim)
    return tuple(result)


@shape_rule("Pad")
def pad(call: Call) -> list[Shape]:
    """Each axis grows by its two pads, which are attributes before opset 11."""
    shape = call.shape(0)
    pads: tuple[Dim, ...] | None = call.numbers("pads") or call.numbers("paddings")
    axes = _fixed(call.elements(3)) if call.has(3) else tuple(range(len(shape)))
    if axes is None:
        return [unknown(call, len(shape))]
    if pads is None and call.has(1):
        pads = call.elements(1, 2 * len(axes))
        if pads is None:
            return [unknown(call, len(shape))]
    normal = normal_axes(call, axes, len(shape))
    if pads is None or len(pads) != 2 * len(normal):
        raise call.shape_error("pads", f"{2 * len(normal)} values", "none" if pads is None else str(len(pads)))
    result = list(shape)
    for position, axis in enumerate(normal):
        result[axis] = shape[axis] + pads[position] + pads[position + len(normal)]
    return [tuple(result)]


@shape_rule("Expand")
def expand(call: Call) -> list[Shape]:
    """The broadcast with a shape given as input."""
    wanted = call.elements(1)
    shape = call.shape(0)
    if wanted is None:
        rank = call.shape(1)[0]
        return [unknown(call, max(rank, len(shape)))] if isinstance(rank, int) else []
    rank = max(len(shape), len(wanted))
    left = (1,) * (rank - len(shape)) + shape
    right = (1,) * (rank - len(wanted)) + wanted
    result: list[Dim] = []
    for dim, size in zip(left, right, strict=True):
        merged = broadcast_dim(dim, size)
        if merged is None:
            raise call.shape_error("shape", f"one that {show(shape)} broadcasts to", show(wanted))
        # A run-time size may be 1 where the input's is not.
        if call.signed(size) and isinstance(dim, int) and dim != 1:
            merged = dim
        result.append(merged)
    return [tuple(result)]


@shape_rule("Tile")
def tile_1(call: Call) -> list[Shape]:
    """At opset 1: `tiles` copies along `axis`, both inputs."""
    shape = call.shape(0)
    tiles, axis = call.scalar(1), call.scalar(2)
    if tiles is None or not isinstance(axis, int):
        return [unknown(call, len(shape))]
    normal = call.axis(axis, len(shape))
    return [tuple(dim * tiles if other == normal else dim for other, dim in enumerate(shape))]


@shape_rule("Tile", since=6)
def tile(call: Call) -> list[Shape]:
    """Each axis times its number of repeats."""
    shape = call.shape(0)
    repeats = call.elements(1, len(shape))
    if repeats is None:
        return [unknown(call, len(shape))]
    if len(repeats) != len(shape):
        raise call.shape_error("repeats", f"{len(shape)} values", str(len(repeats)))
    return [tuple(dim * count for dim, count in zip(shape, repeats, strict=True))]


@shape_rule("DepthToSpace")
def depth_to_space(call: Call) -> list[Shape]:
    """[N, C / b^2, H*b, W*b]."""
    n, c, h, w = call.ranked(0, 4)
    block = call.number("blocksize", 1)
    return [(n, c // (block * block), h * block, w * block)]


@shape_rule("SpaceToDepth")
def space_to_depth(call: Call) -> list[Shape]:
    """[N, C * b^2, H/b, W/b]."""
    n, c, h, w = call.ranked(0, 4)
    block = call.number("blocksize", 1)
    return [(n, c * block * block, h // block, w // block)]


@shape_rule("CenterCropPad")
def center_crop_pad(call: Call) -> list[Shape]:
    """The given sizes along the given axes."""
    shape = list(call.shape(0))
    axes = call.numbers("axes")
    normal = normal_axes(call, axes, len(shape)) if axes is not None else tuple(range(len(shape)))
    sizes = call.elements(1, len(normal))
    for position, axis in enumerate(normal):
        shape[axis] = sizes[position] if sizes is not None and position < len(sizes) else call.fresh(axis)
    return [tuple(shape)]


@shape_rule("Shape", dtype=DType.INT64)
def shape_of(call: Call) -> list[Shape]:
    """One element for each axis from `start` to `end`."""
    rank = len(call.shape(0))
    first, last, _ = slice(call.number("start", 0), call.number("end", rank)).indices(rank)
    return [(max(last - first, 0),)]


@shape_rule("Size", dtype=DType.INT64)
def size(call: Call) -> list[Shape]:
    """A scalar."""
    del call
    return [()]


@shape_rule("ConstantOfShape", dtype=lambda call: _fill_type(call))
def constant_of_shape(call: Call) -> list[Shape]:
    """The shape that the input holds."""
    sizes = call.elements(0)
    if sizes is None:
        rank = call.shape(0)[0]
        return [unknown(call, rank)] if isinstance(rank, int) else []
    return [sizes]


def _fill_type(call: Call) -> DType:
    value = call.attribute("value")
    return DType.from_numpy(value.dtype) if isinstance(value, np.ndarray) else DType.FLOAT32


@shape_rule("Range", same=(0, 1, 2))
def range_(call: Call) -> list[Shape]:
    """max(ceil((limit - start) / delta), 0) elements."""
    start, limit, delta = call.scalar(0), call.scalar(1), call.scalar(2)
    if call.dtype(0).is_float:
        arrays = [call.array(index) for index in range(3)]
        if all(array is not None for array in arrays):
            first, last, step = (float(array.reshape(-1)[0]) for array in arrays if array is not None)
            if step:
                return [(max(int(-((first - last) // step)), 0),)]
    if start is None or limit is None or delta is None:
        return [(call.fresh(0),)]
    if delta == 0:
        raise call.shape_error("delta", "not 0", "0")
    return [(maximum(-((start - limit) // delta), 0),)]


@shape_rule("EyeLike", dtype=lambda call: _eye_type(call))
def eye_like(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.ranked(0, 2)]


def _eye_type(call: Call) -> DType:
    value = call.attribute("dtype")
    return DType.from_onnx(value) if isinstance(value, int) else call.dtype(0)
