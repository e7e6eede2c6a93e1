"""Operators that read elements by index: Gather and its kin, Compress, NonZero."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, axis_of
from webdnn_reference.registry import op


def within(indices: Array, size: int, what: str = "indices") -> Array:
    """The indices counted from the front, as int64. Raises ShapeError if one is outside [-size, size-1]."""
    indices = indices.astype(np.int64, copy=False)
    if indices.size:
        least, greatest = int(indices.min()), int(indices.max())
        if least < -size or greatest >= size:
            wrong = least if least < -size else greatest
            raise ShapeError(f"{what}: expected values in [{-size}, {size - 1}], got {wrong}")
        if least < 0:
            return np.where(indices < 0, indices + size, indices)
    return indices


@op("Gather", since=(1, 11, 13))
def gather(data: Array, indices: Array, *, axis: int = 0) -> Array:
    """Slices of `data` along one axis, in the order of the indices.

    data: any dtype, rank r >= 1; indices: int32|int64, rank q -> rank q + r - 1. Raises ShapeError for an index
    outside the axis; negative ones count from the back. Deviation: they do so before opset 11 too.
    Spec: https://onnx.ai/onnx/operators/onnx__Gather.html#gather-13
    """
    axis = axis_of(axis, data.ndim)
    return np.take(data, within(indices, data.shape[axis]), axis)


@op("GatherElements", since=(11, 13))
def gather_elements(data: Array, indices: Array, *, axis: int = 0) -> Array:
    """For each index one element, at that place along `axis` and its own place along the other axes.

    data, indices: one rank; off the axis indices may be smaller than data -> the shape of indices.
    Raises ShapeError if indices are larger or outside the axis.
    Spec: https://onnx.ai/onnx/operators/onnx__GatherElements.html#gatherelements-13
    """
    axis = axis_of(axis, data.ndim)
    return data[places(indices, data.shape, axis)]


def places(indices: Array, shape: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """Index arrays, one for each axis: the indices along `axis`, their own places along the others."""
    if indices.ndim != len(shape) or any(
        size > limit for other, (size, limit) in enumerate(zip(indices.shape, shape, strict=True)) if other != axis
    ):
        raise ShapeError(
            f"indices: expected rank {len(shape)} and sizes within {list(shape)}, got {list(indices.shape)}"
        )
    grid = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    grid[axis] = within(indices, shape[axis])
    return tuple(grid)


@op("GatherND", since=11)
def gather_nd_11(data: Array, indices: Array) -> Array:
    """Slices of `data` at the index tuples in the last dimension of `indices`.

    data: rank r; indices: int64 (..., k), k <= r -> (..., *data.shape[k:]).
    Spec: https://onnx.ai/onnx/operators/onnx__GatherND.html#gathernd-11
    """
    return gather_nd_12(data, indices)


@op("GatherND", since=(12, 13))
def gather_nd_12(data: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    """As since 11, separately for each place in the first `batch_dims` dimensions, which both inputs share.

    Raises ShapeError if the shapes do not fit or an index is outside its axis.
    Spec: https://onnx.ai/onnx/operators/onnx__GatherND.html#gathernd-13
    """
    if not data.ndim:
        raise ShapeError("data: expected rank 1 or more, got a scalar")
    if not 0 <= batch_dims < min(data.ndim, indices.ndim):
        raise ShapeError(f"batch_dims: expected one in [0, {min(data.ndim, indices.ndim) - 1}], got {batch_dims}")
    if data.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise ShapeError(
            f"batch dimensions: expected equal ones, got {list(data.shape)} and {list(indices.shape)} at {batch_dims}"
        )
    tuples = index_tuples(indices, data.shape[batch_dims:])
    batches = np.ogrid[tuple(slice(size) for size in indices.shape[:batch_dims])] if batch_dims else ()
    expanded = [batch.reshape(batch.shape + (1,) * (indices.ndim - 1 - batch_dims)) for batch in batches]
    if not expanded and not tuples:
        return np.broadcast_to(data, indices.shape[:-1] + data.shape)
    at: tuple[Array, ...] = (*expanded, *tuples)
    return np.asarray(data[at])


def index_tuples(indices: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """The last dimension of `indices` as one index array per leading axis of `shape`, all within it."""
    depth = indices.shape[-1] if indices.ndim else 0
    if not indices.ndim or depth > len(shape):
        raise ShapeError(f"indices: expected a last dimension of at most {len(shape)}, got {list(indices.shape)}")
    return tuple(within(indices[..., axis], shape[axis]) for axis in range(depth))


@op("Compress", since=(9, 11, 28))
def compress(input: Array, condition: Array, *, axis: int | None = None) -> Array:
    """The slices along `axis` (the elements of the flattened tensor, without one) where the condition is true.

    condition: bool[n]; it may be shorter than the axis, and the rest is then left out.
    Raises ShapeError if it is no vector or selects beyond the axis.
    Spec: https://onnx.ai/onnx/operators/onnx__Compress.html#compress-11
    """
    if not input.ndim:
        raise ShapeError("input: expected rank 1 or more, got a scalar")
    if condition.ndim != 1:
        raise ShapeError(f"condition: expected rank 1, got shape {list(condition.shape)}")
    data, axis = (input.reshape(-1), 0) if axis is None else (input, axis_of(axis, input.ndim))
    chosen = np.flatnonzero(condition)
    if chosen.size and chosen[-1] >= data.shape[axis]:
        raise ShapeError(f"condition: expected at most {data.shape[axis]} values, got {condition.size}")
    return np.take(data, chosen, axis)


@op("NonZero", since=(9, 13))
def non_zero(X: Array) -> Array:
    """The indices of the elements that are not zero, row-major, one column each.

    X: any dtype, rank r -> int64[r, count]; rank 0 gives [0, count], unlike NumPy.
    Spec: https://onnx.ai/onnx/operators/onnx__NonZero.html#nonzero-13
    """
    found = X.astype(bool) if X.dtype != object else X != ""
    if X.ndim == 0:
        return np.zeros((0, int(bool(found))), np.int64)
    return np.stack(np.nonzero(found)).astype(np.int64, copy=False)
