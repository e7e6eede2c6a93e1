"""Arithmetic on shapes that several families share."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call, show
from webdnn_onnx.symbolic import Dim, equal, less, maximum, minimum, select

__all__ = [
    "broadcast",
    "broadcast_dim",
    "ceil_quotient",
    "compacted",
    "is_axis",
    "normal_axes",
    "remove_axes",
    "slice_length",
    "windows",
]

_FAR = 2**31 - 1
"""Exporters write this or more as a slice's end where they mean the end of the axis."""


def broadcast(call: Call, shapes: Sequence[Shape]) -> Shape:
    """Their multidirectional broadcast. Raises ShapeError if they have none.

    Two different symbols broadcast to the larger one, which leaves out only that one is 0 where the other is 1.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, dim in enumerate(shape, start=rank - len(shape)):
            merged = broadcast_dim(result[axis], dim)
            if merged is None:
                raise call.shape_error("inputs", "shapes that broadcast", " and ".join(map(show, shapes)))
            result[axis] = merged
    return tuple(result)


def broadcast_dim(left: Dim, right: Dim) -> Dim | None:
    """The broadcast of two dimensions; None if there is none."""
    if left == right or right == 1:
        return left
    if left == 1:
        return right
    if isinstance(left, int) and isinstance(right, int):
        return None
    if isinstance(left, int):
        return left
    if isinstance(right, int):
        return right
    return maximum(left, right)


def normal_axes(call: Call, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """The axes counted from the front. Raises ShapeError if one is out of range or given twice."""
    normal = tuple(call.axis(axis, rank, "axes") for axis in axes)
    if len(set(normal)) != len(normal):
        raise call.shape_error("axes", "each axis once", str(list(axes)))
    return normal


def remove_axes(shape: Shape, axes: Sequence[int]) -> Shape:
    """The shape without these axes."""
    return tuple(dim for axis, dim in enumerate(shape) if axis not in axes)


def ceil_quotient(left: Dim, right: Dim) -> Dim:
    """left / right rounded towards plus infinity, for any sign of either."""
    return -((-left) // right)


def slice_length(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """How many elements `start:end:step` takes of an axis, with ONNX's clamping."""
    if step > 0:
        begin = _from_end(start, size)
        begin = maximum(begin, 0)
        if isinstance(end, int) and end >= _FAR:
            stop = size
        else:
            stop = minimum(_from_end(end, size), size)
    else:
        if isinstance(start, int) and start >= _FAR:
            begin = size - 1
        else:
            begin = minimum(_from_end(start, size), size - 1)
        if isinstance(end, int) and end <= -_FAR:
            stop = -1
        else:
            stop = maximum(_from_end(end, size), -1)
    return maximum(ceil_quotient(stop - begin, step), 0)


def _from_end(position: Dim, size: Dim) -> Dim:
    return select(less(position, 0), position + size, position)


def windows(
    size: Dim, kernel: Dim, stride: int, dilation: int, pads: tuple[Dim, Dim], auto_pad: str, ceil_mode: bool = False
) -> Dim:
    """How many windows a convolution or pooling makes along one axis."""
    span = (kernel - 1) * dilation + 1
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return ceil_quotient(size, stride)
    begin, end = (0, 0) if auto_pad == "VALID" else pads
    room = size + begin + end - span
    if not ceil_mode or auto_pad == "VALID":
        count = room // stride + 1
    else:
        # A last window must not begin in the padding behind the input.
        count = minimum(ceil_quotient(room, stride) + 1, ceil_quotient(size + begin, stride))
    return max(count, 0) if isinstance(count, int) else count


def is_axis(given: Dim, axis: int, rank: int) -> Dim:
    """1 where a run-time axis, counted from either end, is this one; else 0."""
    return equal(given, axis) + equal(given, axis - rank)


def compacted(shape: Shape, flags: Sequence[Dim], rank: int) -> Shape:
    """The `rank` dimensions whose flag is 0, in order: number j is the one with j kept ones before it."""
    result: list[Dim] = [0] * rank
    before: Dim = 0
    for dim, flag in zip(shape, flags, strict=True):
        for position in range(rank):
            result[position] = result[position] + (1 - flag) * equal(before, position) * dim
        before = before + 1 - flag
    return tuple(result)
