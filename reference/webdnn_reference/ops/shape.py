"""Operators that change or report a shape and leave the elements in their order (and Transpose)."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import LimitError, ShapeError
from webdnn_reference.numeric import Array, axes_of, broadcast_shape, int_list
from webdnn_reference.registry import op


@op("Shape", since=(1, 13))
def shape_1(data: Array) -> Array:
    """The sizes of the dimensions.

    data: any dtype, rank r -> int64[r].
    Spec: https://onnx.ai/onnx/operators/onnx__Shape.html#shape-13
    """
    return np.array(data.shape, np.int64)


@op("Shape", since=(15, 19, 21, 23, 24, 25))
def shape_15(data: Array, *, start: int = 0, end: int | None = None) -> Array:
    """The sizes of the dimensions from `start` up to `end`; both may count from the back and are clamped to the rank.

    data: any dtype, rank r -> int64[at most r].
    Spec: https://onnx.ai/onnx/operators/onnx__Shape.html#shape-15
    """
    return np.array(data.shape[slice(start, end)], np.int64)


@op("Size", since=(1, 13, 19, 21, 23, 24, 25))
def size(data: Array) -> Array:
    """The number of elements, as an int64 scalar.

    Spec: https://onnx.ai/onnx/operators/onnx__Size.html
    """
    return np.array(data.size, np.int64)


@op("Reshape", since=1)
def reshape_1(data: Array, *, shape: Sequence[int] = ()) -> Array:
    """The same elements in another shape, given as an attribute: 0 copies a size, one -1 is inferred.

    Raises ShapeError if the number of elements differs.
    Spec: https://onnx.ai/onnx/operators/onnx__Reshape.html#reshape-1
    """
    return _reshaped(data, shape, allowzero=False)


@op("Reshape", since=(5, 13))
def reshape_5(data: Array, shape: Array) -> Array:
    """The same elements in another shape: 0 copies a size, one -1 is inferred.

    data: any dtype; shape: int64[s] -> rank s. Raises ShapeError if the number of elements differs.
    Spec: https://onnx.ai/onnx/operators/onnx__Reshape.html#reshape-13
    """
    return _reshaped(data, int_list(shape, "shape"), allowzero=False)


@op("Reshape", since=(14, 19, 21, 23, 24, 25))
def reshape_14(data: Array, shape: Array, *, allowzero: int = 0) -> Array:
    """As since 5; with allowzero, 0 is a size of zero instead of a copy (and -1 may not occur beside it).

    Spec: https://onnx.ai/onnx/operators/onnx__Reshape.html#reshape-14
    """
    return _reshaped(data, int_list(shape, "shape"), allowzero=bool(allowzero))


@op("Flatten", since=(1, 9))
def flatten_1(input: Array, *, axis: int = 1) -> Array:
    """A matrix: the dimensions before `axis` together, and the rest together.

    input: any dtype, rank r, axis in [0, r] -> rank 2.
    Spec: https://onnx.ai/onnx/operators/onnx__Flatten.html#flatten-9
    """
    if axis < 0:
        raise ShapeError(f"axis: expected one in [0, {input.ndim}] before opset 11, got {axis}")
    return flatten_11(input, axis=axis)


@op("Flatten", since=(11, 13, 21, 23, 24, 25))
def flatten_11(input: Array, *, axis: int = 1) -> Array:
    """A matrix: the dimensions before `axis` together, and the rest together.

    input: any dtype, rank r, axis in [-r, r] -> rank 2.
    Spec: https://onnx.ai/onnx/operators/onnx__Flatten.html#flatten-13
    """
    rank = input.ndim
    if not -rank <= axis <= rank:
        raise ShapeError(f"axis: expected one in [{-rank}, {rank}], got {axis}")
    axis = axis + rank if axis < 0 else axis
    return input.reshape(math.prod(input.shape[:axis]), math.prod(input.shape[axis:]))


@op("Squeeze", since=(1, 11))
def squeeze_1(data: Array, *, axes: Sequence[int] | None = None) -> Array:
    """The tensor without the dimensions in `axes`, which must be of size one; without all of size one by default.

    Raises ShapeError for an axis of another size. Deviation: negative axes are accepted before 11 too.
    Spec: https://onnx.ai/onnx/operators/onnx__Squeeze.html#squeeze-11
    """
    return _squeezed(data, axes)


@op("Squeeze", since=(13, 21, 23, 24, 25))
def squeeze_13(data: Array, axes: Array | None = None) -> Array:
    """As since 1, with `axes` an optional int64 input.

    Spec: https://onnx.ai/onnx/operators/onnx__Squeeze.html#squeeze-13
    """
    return _squeezed(data, None if axes is None else int_list(axes, "axes"))


@op("Unsqueeze", since=(1, 11))
def unsqueeze_1(data: Array, *, axes: Sequence[int]) -> Array:
    """The tensor with dimensions of size one, which lie at `axes` of the result.

    Raises ShapeError if an axis is outside the result's rank or comes twice.
    Spec: https://onnx.ai/onnx/operators/onnx__Unsqueeze.html#unsqueeze-11
    """
    return _unsqueezed(data, axes)


@op("Unsqueeze", since=(13, 21, 23, 24, 25))
def unsqueeze_13(data: Array, axes: Array) -> Array:
    """As since 1, with `axes` an int64 input.

    Spec: https://onnx.ai/onnx/operators/onnx__Unsqueeze.html#unsqueeze-13
    """
    return _unsqueezed(data, int_list(axes, "axes"))


@op("Transpose", since=(1, 13, 21, 23, 24, 25))
def transpose(data: Array, *, perm: Sequence[int] | None = None) -> Array:
    """The dimensions in the order `perm`; reversed by default.

    Raises ShapeError if perm is no permutation of the axes.
    Spec: https://onnx.ai/onnx/operators/onnx__Transpose.html#transpose-13
    """
    if perm is None:
        return data.T
    if sorted(perm) != list(range(data.ndim)):
        raise ShapeError(f"perm: expected the axes 0 to {data.ndim - 1} in some order, got {list(perm)}")
    return data.transpose(perm)


@op("Expand", since=(8, 13))
def expand(input: Array, shape: Array) -> Array:
    """The tensor broadcast with `shape`, in both directions: a 1 in `shape` keeps the tensor's size.

    input: any dtype; shape: int64[s]. Raises ShapeError if they do not broadcast.
    Spec: https://onnx.ai/onnx/operators/onnx__Expand.html#expand-13
    """
    sizes = int_list(shape, "shape")
    if any(size < 0 for size in sizes):
        raise ShapeError(f"shape: expected sizes that are not negative, got {sizes}")
    sizes = list(broadcast_shape(input.shape, sizes))
    if math.prod(sizes) > sys.maxsize // 16:
        raise LimitError(f"shape: expected results that fit into memory, got sizes {sizes}")
    return np.broadcast_to(input, sizes)


def _reshaped(data: Array, shape: Sequence[int], allowzero: bool) -> Array:
    sizes = [int(size) for size in shape]
    if sizes.count(-1) > 1 or any(size < -1 for size in sizes):
        raise ShapeError(f"shape: expected sizes, and -1 at most once, got {sizes}")
    if not allowzero:
        if any(size == 0 and index >= data.ndim for index, size in enumerate(sizes)):
            raise ShapeError(f"shape: expected 0 only where the input {list(data.shape)} has a dimension, got {sizes}")
        sizes = [data.shape[index] if size == 0 else size for index, size in enumerate(sizes)]
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        if known == 0:
            raise ShapeError(f"shape: expected no -1 beside a size of 0, got {list(shape)} for {list(data.shape)}")
        if data.size % known:
            raise ShapeError(f"shape: expected one that holds {data.size} elements, got {list(shape)}")
        sizes[sizes.index(-1)] = data.size // known
    elif known != data.size:
        raise ShapeError(
            f"shape: expected one that holds the {data.size} elements of {list(data.shape)}, got {list(shape)}"
        )
    return data.reshape(sizes)


def _squeezed(data: Array, axes: Sequence[int] | None) -> Array:
    if axes is None:
        return data.reshape([size for size in data.shape if size != 1])
    for axis in (found := axes_of(axes, data.ndim)):
        if data.shape[axis] != 1:
            raise ShapeError(f"axes: expected dimensions of size 1, got axis {axis} of {list(data.shape)}")
    return data.reshape([size for axis, size in enumerate(data.shape) if axis not in found])


def _unsqueezed(data: Array, axes: Sequence[int]) -> Array:
    rank = data.ndim + len(axes)
    found = axes_of(axes, rank)
    sizes = iter(data.shape)
    return data.reshape([1 if axis in found else next(sizes) for axis in range(rank)])
