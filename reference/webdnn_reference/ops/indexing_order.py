"""Operators that order elements: TopK and Unique."""

from __future__ import annotations

from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, axis_of, scalar_int, widen
from webdnn_reference.registry import op


@op("TopK", since=1)
def top_k_1(X: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    """The k largest elements along one axis in descending order, and their indices.

    Spec: https://onnx.ai/onnx/operators/onnx__TopK.html#topk-1
    """
    return _top_k(X, k, axis, largest=True)


@op("TopK", since=10)
def top_k_10(X: Array, K: Array, *, axis: int = -1) -> tuple[Array, Array]:
    """As since 1, with k an int64 input of one element.

    Spec: https://onnx.ai/onnx/operators/onnx__TopK.html#topk-10
    """
    return _top_k(X, scalar_int(K, "K"), axis, largest=True)


@op("TopK", since=(11, 24))
def top_k_11(X: Array, K: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Array, Array]:
    """The k largest (or smallest) elements along one axis, and their int64 indices; of equals the lower index first.

    sorted: 0 leaves the order open; the result is sorted all the same. NaN counts as greater than every number.
    Raises ShapeError if k is outside [0, size of the axis]. Spec: https://onnx.ai/onnx/operators/onnx__TopK.html#topk-24
    """
    del sorted
    return _top_k(X, scalar_int(K, "K"), axis, largest=bool(largest))


def _top_k(X: Array, k: int, axis: int, largest: bool) -> tuple[Array, Array]:
    axis = axis_of(axis, X.ndim)
    size = X.shape[axis]
    if not 0 <= k <= size:
        raise ShapeError(f"k: expected one in [0, {size}], got {k}")
    values = widen(X)
    if 0 < k <= size // 4 and size >= 256:
        lanes = np.moveaxis(values, axis, -1)
        found = np.array([_best(lane, k, largest) for lane in lanes.reshape(-1, size)], np.int64)
        indices = np.moveaxis(found.reshape(*lanes.shape[:-1], k), -1, axis)
        return np.take_along_axis(X, indices, axis), indices
    if largest:
        # A stable ascending sort of the mirrored axis, read backwards, puts the lower index of equals first.
        order = size - 1 - np.flip(np.argsort(np.flip(values, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(values, axis=axis, kind="stable")
    indices = np.take(order, range(k), axis).astype(np.int64, copy=False)
    return np.take_along_axis(X, indices, axis), indices


def _best(values: Array, k: int, largest: bool) -> Array:
    """The indices of the k greatest (or least) of a few of many values, in order."""
    at = len(values) - k if largest else k - 1
    worst = np.partition(values, at)[at]
    # NaN compares with nothing and is the greatest.
    if largest:
        among = np.flatnonzero(np.isnan(values) if np.isnan(worst) else ~(values < worst))[::-1]
        return np.asarray(among[np.argsort(values[among], kind="stable")][: -k - 1 : -1])
    among = np.arange(len(values)) if np.isnan(worst) else np.flatnonzero(values <= worst)
    return among[np.argsort(values[among], kind="stable")][:k]


@op("Unique", since=(11, 28))
def unique(X: Array, *, axis: int | None = None, sorted: int = 1) -> tuple[Array, Array, Array, Array]:
    """The distinct elements (or slices along `axis`), their first indices, for each element its group, and counts.

    X: any dtype -> Y, and three int64 vectors. Groups are in ascending order, or by first occurrence if sorted is 0.
    Without an axis X is flattened. Spec: https://onnx.ai/onnx/operators/onnx__Unique.html#unique-11
    """
    if sorted not in (0, 1):
        raise InvalidModelError(f"sorted: expected 0 or 1, got {sorted}")
    data, axis = (X.reshape(-1), 0) if axis is None else (X, axis_of(axis, X.ndim))
    first, inverse, counts = _groups(np.moveaxis(data, axis, 0))
    if not sorted:
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        first, inverse, counts = first[order], rank[inverse], counts[order]
    return (
        np.take(data, first, axis),
        first.astype(np.int64, copy=False),
        inverse.astype(np.int64, copy=False),
        counts.astype(np.int64, copy=False),
    )


def _groups(rows: Array) -> tuple[Array, Array, Array]:
    """First row, group of each row, and size of each group; groups in lexicographic order of their rows."""
    count = rows.shape[0]
    keys: Any = widen(rows)
    if rows.ndim > 1:
        # Ranks of the elements order rows as the elements do, whatever their dtype.
        _, ranks = np.unique(keys, return_inverse=True)
        table = ranks.reshape(count, -1) if ranks.size else np.zeros((count, 1), np.int64)
        _, first, inverse, counts = np.unique(table, axis=0, return_index=True, return_inverse=True, return_counts=True)
    else:
        _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    return first, inverse.reshape(-1), counts
