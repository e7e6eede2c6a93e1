"""Operators that write elements by index: Scatter, ScatterElements, ScatterND, TensorScatter.

Where two updates meet in one place, plain writing keeps the last; the specification leaves it open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, axis_of, narrow, widen
from webdnn_reference.ops.indexing import index_tuples, places, within
from webdnn_reference.registry import op

_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}
_SINCE_16 = ("none", "add", "mul")
_SINCE_18 = ("none", "add", "mul", "max", "min")


@op("Scatter", since=9)
def scatter(data: Array, indices: Array, updates: Array, *, axis: int = 0) -> Array:
    """A copy of `data` with updates written at the indices along `axis` (the former name of ScatterElements).

    Spec: https://onnx.ai/onnx/operators/onnx__Scatter.html#scatter-9
    """
    return scatter_elements_11(data, indices, updates, axis=axis)


@op("ScatterElements", since=(11, 13))
def scatter_elements_11(data: Array, indices: Array, updates: Array, *, axis: int = 0) -> Array:
    """A copy of `data` with each update written at its index along `axis` and its own place along the others.

    indices, updates: one shape, within data's off the axis. Raises ShapeError if not, or an index is outside.
    Spec: https://onnx.ai/onnx/operators/onnx__ScatterElements.html#scatterelements-13
    """
    return _scatter_elements(data, indices, updates, axis, "none", _SINCE_16)


@op("ScatterElements", since=16)
def scatter_elements_16(
    data: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none"
) -> Array:
    """As since 11; with reduction add or mul, updates are combined with what is there.

    Spec: https://onnx.ai/onnx/operators/onnx__ScatterElements.html#scatterelements-16
    """
    return _scatter_elements(data, indices, updates, axis, reduction, _SINCE_16)


@op("ScatterElements", since=18)
def scatter_elements_18(
    data: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none"
) -> Array:
    """As since 16, with reductions max and min too.

    Spec: https://onnx.ai/onnx/operators/onnx__ScatterElements.html#scatterelements-18
    """
    return _scatter_elements(data, indices, updates, axis, reduction, _SINCE_18)


@op("ScatterND", since=(11, 13))
def scatter_nd_11(data: Array, indices: Array, updates: Array) -> Array:
    """A copy of `data` with slices written at the index tuples in the last dimension of `indices`.

    data: rank r; indices: int64 (..., k), k <= r; updates: (..., *data.shape[k:]). Raises ShapeError if not.
    Spec: https://onnx.ai/onnx/operators/onnx__ScatterND.html#scatternd-13
    """
    return _scatter_nd(data, indices, updates, "none", _SINCE_16)


@op("ScatterND", since=16)
def scatter_nd_16(data: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    """As since 11; with reduction add or mul, updates are combined with what is there.

    Spec: https://onnx.ai/onnx/operators/onnx__ScatterND.html#scatternd-16
    """
    return _scatter_nd(data, indices, updates, reduction, _SINCE_16)


@op("ScatterND", since=18)
def scatter_nd_18(data: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    """As since 16, with reductions max and min too.

    Spec: https://onnx.ai/onnx/operators/onnx__ScatterND.html#scatternd-18
    """
    return _scatter_nd(data, indices, updates, reduction, _SINCE_18)


@op("TensorScatter", since=24)
def tensor_scatter(
    past_cache: Array, update: Array, write_indices: Array | None = None, *, axis: int = -2, mode: str = "linear"
) -> Array:
    """A cache with an update written along the sequence axis, for each batch element from its write index on.

    past_cache: (batch, ..., max_sequence, ...); update: the same but for its sequence length; write_indices:
    int64[batch], 0 by default. mode circular wraps at max_sequence. Raises ShapeError if a linear update does not fit.
    Spec: https://onnx.ai/onnx/operators/onnx__TensorScatter.html#tensorscatter-24
    """
    axis = axis_of(axis, past_cache.ndim)
    if mode not in ("linear", "circular"):
        raise InvalidModelError(f"mode: expected linear or circular, got '{mode}'")
    if axis == 0:
        raise ShapeError("axis: expected an axis after the batch, got 0")
    batch, longest = past_cache.shape[0], past_cache.shape[axis]
    count = update.shape[axis] if update.ndim == past_cache.ndim else -1
    if count > longest or update.shape != (*past_cache.shape[:axis], count, *past_cache.shape[axis + 1 :]):
        raise ShapeError(
            f"update: expected {list(past_cache.shape)} with at most {longest} at axis {axis}, got {list(update.shape)}"
        )
    starts = np.zeros(batch, np.int64) if write_indices is None else write_indices
    if starts.shape != (batch,):
        raise ShapeError(f"write_indices: expected shape [{batch}], got {list(starts.shape)}")
    if mode == "linear" and np.any(starts < 0):
        raise ShapeError(f"write_indices: expected none below 0 in mode linear, got {starts.tolist()}")
    positions = starts[:, None] + np.arange(count)
    positions = positions % longest if mode == "circular" else within(positions, longest, "write_indices")
    result = past_cache.copy()
    result.swapaxes(1, axis)[np.arange(batch)[:, None], positions] = update.swapaxes(1, axis)
    return result


def _scatter_elements(
    data: Array, indices: Array, updates: Array, axis: int, reduction: str, allowed: tuple[str, ...]
) -> Array:
    if updates.shape != indices.shape:
        raise ShapeError(f"updates: expected the shape of indices, {list(indices.shape)}, got {list(updates.shape)}")
    at = places(indices, data.shape, axis_of(axis, data.ndim))
    return _written(data, at, updates, reduction, allowed)


def _scatter_nd(data: Array, indices: Array, updates: Array, reduction: str, allowed: tuple[str, ...]) -> Array:
    if not data.ndim:
        raise ShapeError("data: expected rank 1 or more, got a scalar")
    at = index_tuples(indices, data.shape)
    expected = indices.shape[:-1] + data.shape[len(at) :]
    if updates.shape != expected:
        raise ShapeError(f"updates: expected shape {list(expected)}, got {list(updates.shape)}")
    if not at:
        # Tuples of length zero address the whole tensor, once each.
        at = (np.zeros(indices.shape[:-1], np.int64),)
        return _written(data[None], at, updates, reduction, allowed).reshape(data.shape)
    return _written(data, at, updates, reduction, allowed)


def _written(data: Array, at: tuple[Array, ...], updates: Array, reduction: str, allowed: tuple[str, ...]) -> Array:
    if reduction not in allowed:
        raise InvalidModelError(f"reduction: expected one of {', '.join(allowed)}, got '{reduction}'")
    if reduction == "none":
        result = data.copy()
        result[at] = updates
        return result
    if data.dtype == object and reduction != "add":
        raise DTypeError(f"reduction: expected none or add for strings, got '{reduction}'")
    result = widen(data).copy() if widen(data) is data else widen(data)
    _REDUCTIONS[reduction](result, at, widen(updates))
    return narrow(result, data)
