"""Pooling over all spatial axes at once."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, average, narrow, widen
from webdnn_reference.ops.pooling import lp_norm_of_powers, powers
from webdnn_reference.registry import op

__all__ = ["global_average_pool", "global_lp_pool_1", "global_lp_pool_2", "global_max_pool"]


def _spatial_axes(X: Array) -> tuple[int, ...]:
    if X.ndim < 2:
        raise ShapeError(f"X: expected rank 2 or more, [N, C, D1, ...], got shape {list(X.shape)}")
    return tuple(range(2, X.ndim))


@op("GlobalAveragePool", since=(1, 22))
def global_average_pool(X: Array) -> Array:
    """The mean of each channel.

    X: float [N, C, D1, ..., Dn] -> [N, C, 1, ..., 1], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html#globalaveragepool-22
    """
    return narrow(average(widen(X), axis=_spatial_axes(X), keepdims=True), X)


@op("GlobalMaxPool", since=(1, 22))
def global_max_pool(X: Array) -> Array:
    """The maximum of each channel.

    X: float [N, C, D1, ..., Dn] -> [N, C, 1, ..., 1], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html#globalmaxpool-22
    """
    return narrow(np.max(widen(X), axis=_spatial_axes(X), keepdims=True, initial=-np.inf), X)


def _global_lp(X: Array, p: float) -> Array:
    if p <= 0:
        raise InvalidModelError(f"p: expected a positive number, got {p}")
    sums = np.sum(powers(widen(X), p), axis=_spatial_axes(X), keepdims=True)
    return narrow(lp_norm_of_powers(sums, p), X)


@op("GlobalLpPool", since=1)
def global_lp_pool_1(X: Array, *, p: float = 2.0) -> Array:
    """The p-norm of each channel.

    X: float [N, C, D1, ..., Dn] -> [N, C, 1, ..., 1], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__GlobalLpPool.html#globallppool-1
    """
    return _global_lp(X, p)


@op("GlobalLpPool", since=(2, 22))
def global_lp_pool_2(X: Array, *, p: int = 2) -> Array:
    """The p-norm of each channel.

    X: float [N, C, D1, ..., Dn] -> [N, C, 1, ..., 1], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__GlobalLpPool.html#globallppool-22
    """
    return _global_lp(X, p)
