"""Softmax, LogSoftmax and Hardmax.

Before version 13 the input is coerced to a matrix, [product of dimensions before axis, product of the rest], and the
function runs along its rows; axis defaults to 1. From 13 on it runs along one axis, by default the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, axis_of, narrow, widen
from webdnn_reference.registry import op

__all__ = [
    "hardmax_1",
    "hardmax_13",
    "log_softmax_1",
    "log_softmax_13",
    "log_softmax_of",
    "softmax_1",
    "softmax_13",
    "softmax_of",
]

AlongAxis: TypeAlias = Callable[[Array, int], Array]


def softmax_of(x: Array, axis: int) -> Array:
    """Normalised exponentials along an axis, in the type of x."""
    powers = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(powers / np.sum(powers, axis=axis, keepdims=True))


def log_softmax_of(x: Array, axis: int) -> Array:
    """Logarithm of the normalised exponentials along an axis, in the type of x."""
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)))


def _hardmax_of(x: Array, axis: int) -> Array:
    result = np.zeros(x.shape, x.dtype)
    if x.size:
        np.put_along_axis(result, np.argmax(x, axis=axis, keepdims=True), 1, axis)
    return result


def _flattened(function: AlongAxis, x: Array, axis: int) -> Array:
    if not -x.ndim <= axis <= x.ndim:
        raise ShapeError(f"axis: expected one in [{-x.ndim}, {x.ndim}], got {axis}")
    front = axis + x.ndim if axis < 0 else axis
    rows = int(np.prod(x.shape[:front], dtype=np.int64))
    columns = int(np.prod(x.shape[front:], dtype=np.int64))
    return narrow(function(widen(x).reshape(rows, columns), 1).reshape(x.shape), x)


def _along(function: AlongAxis, x: Array, axis: int) -> Array:
    return narrow(function(widen(x), axis_of(axis, x.ndim)), x)


@op("Softmax", since=(1, 11))
def softmax_1(input: Array, *, axis: int = 1) -> Array:
    """Normalised exponentials over all dimensions from `axis` on together.

    input: float -> same shape and dtype.   Raises ShapeError if axis is outside [-rank, rank].
    Spec: https://onnx.ai/onnx/operators/onnx__Softmax.html#softmax-11
    """
    return _flattened(softmax_of, input, axis)


@op("Softmax", since=13)
def softmax_13(input: Array, *, axis: int = -1) -> Array:
    """Normalised exponentials along one axis.

    input: float -> same shape and dtype.   Raises ShapeError if axis is outside [-rank, rank-1].
    Spec: https://onnx.ai/onnx/operators/onnx__Softmax.html#softmax-13
    """
    return _along(softmax_of, input, axis)


@op("LogSoftmax", since=(1, 11))
def log_softmax_1(input: Array, *, axis: int = 1) -> Array:
    """Logarithm of Softmax over all dimensions from `axis` on together.

    input: float -> same shape and dtype.   Raises ShapeError if axis is outside [-rank, rank].
    Spec: https://onnx.ai/onnx/operators/onnx__LogSoftmax.html#logsoftmax-11
    """
    return _flattened(log_softmax_of, input, axis)


@op("LogSoftmax", since=13)
def log_softmax_13(input: Array, *, axis: int = -1) -> Array:
    """Logarithm of Softmax along one axis.

    input: float -> same shape and dtype.   Raises ShapeError if axis is outside [-rank, rank-1].
    Spec: https://onnx.ai/onnx/operators/onnx__LogSoftmax.html#logsoftmax-13
    """
    return _along(log_softmax_of, input, axis)


@op("Hardmax", since=(1, 11))
def hardmax_1(input: Array, *, axis: int = 1) -> Array:
    """1 at the first maximum over all dimensions from `axis` on together, 0 elsewhere.

    input: float -> same shape and dtype.   Raises ShapeError if axis is outside [-rank, rank].
    Spec: https://onnx.ai/onnx/operators/onnx__Hardmax.html#hardmax-11
    """
    return _flattened(_hardmax_of, input, axis)


@op("Hardmax", since=13)
def hardmax_13(input: Array, *, axis: int = -1) -> Array:
    """1 at the first maximum along one axis, 0 elsewhere.

    input: float -> same shape and dtype.   Raises ShapeError if axis is outside [-rank, rank-1].
    Spec: https://onnx.ai/onnx/operators/onnx__Hardmax.html#hardmax-13
    """
    return _along(_hardmax_of, input, axis)
