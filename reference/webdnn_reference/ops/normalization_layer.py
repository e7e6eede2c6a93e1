"""Layer, RMS, Lp, mean-variance and local response normalization: statistics along axes of any tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, average, axes_of, axis_of, narrow, single, unidirectional, widen
from webdnn_reference.registry import Context, op

__all__ = [
    "layer_normalization",
    "local_response_normalization",
    "lp_normalization",
    "mean_variance_normalization",
    "rms_normalization",
]


@op("LayerNormalization", since=17)
def layer_normalization(
    X: Array,
    Scale: Array,
    B: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = single(1e-5),
    stash_type: int = 1,
    context: Context,
) -> tuple[Array, Array, Array]:
    """Zero mean and unit variance over the axes from `axis` on, then scale and bias.

    X: float; Scale, B: broadcastable to X -> Y, shape and dtype of X; Mean and InvStdDev, with 1 for the normalized
    axes, in the type that stash_type names. Statistics are computed in float32, in float64 for float64 X; the
    normalized values are rounded to the dtype of X before they are scaled.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__LayerNormalization.html#layernormalization-17
    """
    axes = tuple(range(axis_of(axis, X.ndim), X.ndim))
    x = widen(X)
    mean = average(x, axis=axes, keepdims=True)
    centred = x - mean
    inverse = 1 / np.sqrt(average(np.square(centred), axis=axes, keepdims=True) + epsilon)
    y = widen(narrow(centred * inverse, X)) * widen(unidirectional(Scale, X.shape, "Scale"))
    if B is not None:
        y = y + widen(unidirectional(B, X.shape, "B"))
    stash = np.dtype(np.float64) if context.float64 else DType.from_onnx(stash_type).numpy
    return narrow(y, X), narrow(mean, stash), narrow(inverse, stash)


@op("RMSNormalization", since=23)
def rms_normalization(
    X: Array, scale: Array, *, axis: int = -1, epsilon: float = single(1e-5), stash_type: int = 1
) -> Array:
    """X over its root mean square over the axes from `axis` on, times scale.

    X: float; scale: float, broadcastable to X -> shape of X, dtype of scale. The mean square is computed in float32,
    in float64 for float64 X, whatever stash_type; the quotient is rounded to the dtype of X.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__RMSNormalization.html#rmsnormalization-23
    """
    del stash_type
    axes = tuple(range(axis_of(axis, X.ndim), X.ndim))
    x = widen(X)
    normalized = x / np.sqrt(average(np.square(x), axis=axes, keepdims=True) + epsilon)
    return narrow(widen(narrow(normalized, X)) * widen(unidirectional(scale, X.shape, "scale")), scale)


@op("LRN", since=(1, 13))
def local_response_normalization(
    X: Array, *, size: int, alpha: float = single(1e-4), beta: float = 0.75, bias: float = 1.0
) -> Array:
    """X / (bias + alpha / size * the sum of squares of `size` neighbouring channels) ** beta.

    X: float [N, C, D1, ..., Dn] -> same shape and dtype. The channels c - floor((size-1)/2) to c + ceil((size-1)/2)
    count.   Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__LRN.html#lrn-13
    """
    if X.ndim < 2:
        raise ShapeError(f"X: expected rank 2 or more, [N, C, D1, ...], got shape {list(X.shape)}")
    if size < 1:
        raise InvalidModelError(f"size: expected at least 1, got {size}")
    x = widen(X)
    squares, sums = np.square(x), np.zeros_like(x)
    channels = X.shape[1]
    for shift in range(-((size - 1) // 2), size // 2 + 1):
        into = slice(max(0, -shift), max(0, min(channels, channels - shift)))
        sums[:, into] += squares[:, into.start + shift : into.stop + shift] if into.stop > into.start else 0
    return narrow(x / np.power(bias + alpha / size * sums, beta), X)


@op("LpNormalization", since=(1, 22))
def lp_normalization(input: Array, *, axis: int = -1, p: int = 2) -> Array:
    """Each vector along an axis over its 1-norm or 2-norm; zero vectors stay zero.

    input: float -> same shape and dtype.   Raises ShapeError, InvalidModelError for another p.
    Spec: https://onnx.ai/onnx/operators/onnx__LpNormalization.html#lpnormalization-22
    """
    front = axis_of(axis, input.ndim)
    x = widen(input)
    if p == 1:
        norm = np.sum(np.abs(x), axis=front, keepdims=True)
    elif p == 2:
        norm = np.sqrt(np.sum(np.square(x), axis=front, keepdims=True))
    else:
        raise InvalidModelError(f"p: expected 1 or 2, got {p}")
    return narrow(x / np.where(norm == 0, 1, norm), input)


@op("MeanVarianceNormalization", since=(9, 13))
def mean_variance_normalization(X: Array, *, axes: Sequence[int] = (0, 2, 3)) -> Array:
    """Zero mean and unit standard deviation over axes; 1e-9 is added to the deviation, as the function body does.

    X: float -> same shape and dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html#meanvariancenormalization-13
    """
    over = axes_of(axes, X.ndim)
    x = widen(X)
    centred = x - average(x, axis=over, keepdims=True)
    deviation = np.sqrt(average(np.square(centred), axis=over, keepdims=True))
    return narrow(centred / (deviation + single(1e-9)), X)
