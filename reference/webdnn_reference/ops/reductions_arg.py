"""ArgMax and ArgMin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, axis_of, widen
from webdnn_reference.registry import op

__all__ = ["arg_max_1", "arg_max_12", "arg_min_1", "arg_min_12"]


def _arg(find: Callable[..., Any], data: Array, axis: int, keepdims: int, last: int) -> Array:
    front = axis_of(axis, data.ndim)
    if not data.shape[front]:
        if data.size or math.prod(data.shape[:front] + data.shape[front + 1 :]):
            raise ShapeError(f"data: expected elements along axis {axis}, got shape {list(data.shape)}")
        shape = (*data.shape[:front], *([1] if keepdims else []), *data.shape[front + 1 :])
        return np.zeros(shape, np.int64)
    x = widen(data)
    found = find(np.flip(x, front) if last else x, axis=front, keepdims=bool(keepdims))
    return np.asarray(data.shape[front] - 1 - found if last else found, dtype=np.int64)


@op("ArgMax", since=(1, 11))
def arg_max_1(data: Array, *, axis: int = 0, keepdims: int = 1) -> Array:
    """The index of the first greatest element along an axis; the first NaN counts as greatest.

    data: any number -> int64.   Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__ArgMax.html#argmax-11
    """
    return _arg(np.argmax, data, axis, keepdims, 0)


@op("ArgMax", since=(12, 13))
def arg_max_12(data: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    """The index of the first (or last) greatest element along an axis; NaN counts as greatest.

    data: any number -> int64.   Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__ArgMax.html#argmax-13
    """
    return _arg(np.argmax, data, axis, keepdims, select_last_index)


@op("ArgMin", since=(1, 11))
def arg_min_1(data: Array, *, axis: int = 0, keepdims: int = 1) -> Array:
    """The index of the first least element along an axis; the first NaN counts as least.

    data: any number -> int64.   Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__ArgMin.html#argmin-11
    """
    return _arg(np.argmin, data, axis, keepdims, 0)


@op("ArgMin", since=(12, 13))
def arg_min_12(data: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    """The index of the first (or last) least element along an axis; NaN counts as least.

    data: any number -> int64.   Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__ArgMin.html#argmin-13
    """
    return _arg(np.argmin, data, axis, keepdims, select_last_index)
