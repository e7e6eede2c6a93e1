"""Operators of the ai.onnx domain that left the specification, or never were in it, and are still met in files.

Their schemas are those that onnxruntime registers. LayerNormalization is among them because its optimizer has written
it into models of any opset, long before opset 17.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, average, axis_of, narrow, single, unidirectional, widen
from webdnn_reference.ops.activations import softplus_of
from webdnn_reference.ops.normalization_layer import layer_normalization
from webdnn_reference.ops.structure import slice_10
from webdnn_reference.registry import Context, op

__all__ = [
    "affine",
    "crop",
    "dynamic_slice",
    "image_scaler",
    "mean_variance_normalization_1",
    "parametric_softplus",
    "scale",
    "scaled_tanh",
    "simplified_layer_normalization",
]


@op("Affine", (1, 10))
def affine(X: Array, *, alpha: float = 1.0, beta: float = 0.0) -> Array:
    """alpha x + beta. X: float, any shape -> same shape and dtype."""
    return narrow(alpha * widen(X) + beta, X)


@op("Scale", (1, 10))
def scale(input: Array, *, scale: float = 1.0) -> Array:
    """The input times a factor. input: float, any shape -> same shape and dtype."""
    return narrow(widen(input) * scale, input)


@op("ScaledTanh", (1, 10))
def scaled_tanh(input: Array, *, alpha: float, beta: float) -> Array:
    """alpha tanh(beta x). input: float, any shape -> same shape and dtype."""
    return narrow(alpha * np.tanh(beta * widen(input)), input)


@op("ParametricSoftplus", (1, 10))
def parametric_softplus(X: Array, *, alpha: float, beta: float) -> Array:
    """alpha log(exp(beta x) + 1). X: float, any shape -> same shape and dtype."""
    return narrow(alpha * softplus_of(beta * widen(X)), X)


@op("ImageScaler", (1, 10))
def image_scaler(input: Array, *, bias: Sequence[float] = (), scale: float = 1.0) -> Array:
    """An image times a factor plus one bias for each channel. input: float[N, C, H, W] -> same shape and dtype.

    Raises ShapeError unless there are C biases, or none.
    """
    if input.ndim != 4 or len(bias) not in (0, input.shape[1]):
        raise ShapeError(f"bias: expected a value for each channel of {list(input.shape)}, got {len(bias)}")
    y = widen(input) * scale
    return narrow(y + np.array(bias, y.dtype).reshape(-1, 1, 1) if bias else y, input)


@op("Crop", (1, 10))
def crop(input: Array, *, border: Sequence[int] = (0, 0, 0, 0), scale: Sequence[int] = ()) -> Array:
    """The part of an image inside a border, or of a size. input: float[N, C, H, W] -> same dtype.

    border: left, top, right, bottom. scale: height and width, which count from the left and top border.
    Raises ShapeError if the part is not inside the image.
    """
    if input.ndim != 4 or len(border) != 4 or len(scale) not in (0, 2):
        raise ShapeError(f"expected rank 4, 4 borders and 2 scales, got {input.ndim}, {len(border)}, {len(scale)}")
    left, top, right, bottom = border
    height, width = input.shape[2:]
    bottom_end, right_end = (top + scale[0], left + scale[1]) if scale else (height - bottom, width - right)
    if not (0 <= top <= bottom_end <= height and 0 <= left <= right_end <= width):
        raise ShapeError(f"expected a part of {height} x {width}, got {top}:{bottom_end}, {left}:{right_end}")
    return input[:, :, top:bottom_end, left:right_end]


@op("DynamicSlice", (1, 10))
def dynamic_slice(data: Array, starts: Array, ends: Array, axes: Array | None = None) -> Array:
    """Slices along axes, as Slice-10 without steps."""
    return slice_10(data, starts, ends, axes)


op("LayerNormalization", 1)(layer_normalization)


@op("MeanVarianceNormalization", 1)
def mean_variance_normalization_1(
    input: Array,
    *,
    across_channels: int = 0,
    normalize_variance: int = 1,
) -> Array:
    """Zero mean, and unit variance if asked for, of each channel over the whole batch, or of all channels together.

    input: float[N, C, H, W] -> same shape and dtype. 1e-9 is added to the standard deviation.
    """
    axes = tuple(axis for axis in range(input.ndim) if axis != 1 or across_channels)
    x = widen(input)
    centred = x - average(x, axis=axes, keepdims=True)
    if not normalize_variance:
        return narrow(centred, input)
    deviation = np.sqrt(average(np.square(centred), axis=axes, keepdims=True))
    return narrow(centred / (deviation + x.dtype.type(1e-9)), input)


@op("SimplifiedLayerNormalization", 1)
def simplified_layer_normalization(
    X: Array,
    scale: Array,
    *,
    axis: int = -1,
    epsilon: float = single(1e-5),
    stash_type: int = 1,
    context: Context,
) -> tuple[Array, Array]:
    """X over its root mean square along the axes from `axis` on, times scale.

    X: float, scale: float, broadcastable to X -> Y: shape of X, dtype of scale; inv_std_var: float32.
    """
    if stash_type != 1:
        raise InvalidModelError(f"stash_type: expected 1, got {stash_type}")
    x = widen(X)
    axes = tuple(range(axis_of(axis, X.ndim), X.ndim))
    inverse = 1 / np.sqrt(average(np.square(x), axis=axes, keepdims=True) + x.dtype.type(epsilon))
    stash = np.float64 if context.float64 else np.float32
    return narrow(x * inverse * widen(unidirectional(scale, X.shape, "scale")), scale), inverse.astype(stash)
