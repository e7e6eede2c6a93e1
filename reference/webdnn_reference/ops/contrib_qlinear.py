"""Operators of com.microsoft on quantized tensors: dequantize, compute with real numbers, quantize again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, average, axes_of, axis_of, broadcastable, single
from webdnn_reference.ops.activations import leaky_relu, logistic
from webdnn_reference.ops.activations_softmax import softmax_1, softmax_13
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.pooling import average_pool_10, max_pool_10
from webdnn_reference.ops.quantization import dequantize_linear_10, rounded_to
from webdnn_reference.ops.quantization_products import qlinear_conv
from webdnn_reference.registry import Context, op

__all__ = [
    "nhwc_max_pool",
    "qlinear_add",
    "qlinear_average_pool",
    "qlinear_concat",
    "qlinear_conv_ms",
    "qlinear_global_average_pool",
    "qlinear_leaky_relu",
    "qlinear_mul",
    "qlinear_reduce_mean",
    "qlinear_sigmoid",
    "qlinear_softmax",
    "qlinear_where",
]


def _quantized(x: Array, scale: Array, zero_point: Array | None, like: Array) -> Array:
    """Numbers quantized to the type of `like`."""
    zero = np.zeros((), like.dtype) if zero_point is None else zero_point.reshape(())
    return rounded_to(x / scale.reshape(()), zero, DType.from_numpy(like.dtype), True)


def _centred(x: Array, scale: Array, zero_point: Array | None) -> Array:
    """x less its zero point, in the type of the scale. Sums of such numbers are exact in any order up to 2^24: a mean
    is scaled at the end."""
    zero = 0 if zero_point is None else zero_point.astype(np.int32)
    return np.asarray(x.astype(np.int32) - zero).astype(scale.dtype)


@op("QLinearAdd", 1, domain=MS)
def qlinear_add(
    A: Array,
    A_scale: Array,
    A_zero_point: Array | None,
    B: Array,
    B_scale: Array,
    B_zero_point: Array | None,
    C_scale: Array,
    C_zero_point: Array | None = None,
) -> Array:
    """A + B with broadcasting. A, B: int8 or uint8 -> same type."""
    broadcastable(A, B)
    return _quantized(
        dequantize_linear_10(A, A_scale, A_zero_point) + dequantize_linear_10(B, B_scale, B_zero_point),
        C_scale,
        C_zero_point,
        A,
    )


@op("QLinearMul", 1, domain=MS)
def qlinear_mul(
    A: Array,
    A_scale: Array,
    A_zero_point: Array | None,
    B: Array,
    B_scale: Array,
    B_zero_point: Array | None,
    C_scale: Array,
    C_zero_point: Array | None = None,
) -> Array:
    """A times B with broadcasting. A, B: int8 or uint8 -> same type."""
    broadcastable(A, B)
    return _quantized(
        dequantize_linear_10(A, A_scale, A_zero_point) * dequantize_linear_10(B, B_scale, B_zero_point),
        C_scale,
        C_zero_point,
        A,
    )


@op("QLinearSigmoid", 1, domain=MS)
def qlinear_sigmoid(
    X: Array, X_scale: Array, X_zero_point: Array | None, Y_scale: Array, Y_zero_point: Array | None = None
) -> Array:
    """1 / (1 + exp(-x)). X: int8 or uint8, any shape -> same."""
    return _quantized(logistic(dequantize_linear_10(X, X_scale, X_zero_point)), Y_scale, Y_zero_point, X)


@op("QLinearLeakyRelu", 1, domain=MS)
def qlinear_leaky_relu(
    X: Array,
    X_scale: Array,
    X_zero_point: Array | None,
    Y_scale: Array,
    Y_zero_point: Array | None = None,
    *,
    alpha: float = single(0.01),
) -> Array:
    """x, times alpha where negative. X: int8 or uint8, any shape -> same."""
    return _quantized(leaky_relu(dequantize_linear_10(X, X_scale, X_zero_point), alpha=alpha), Y_scale, Y_zero_point, X)


@op("QLinearAveragePool", 1, domain=MS)
def qlinear_average_pool(
    X: Array,
    x_scale: Array,
    x_zero_point: Array | None,
    y_scale: Array,
    y_zero_point: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """AveragePool. X: int8 or uint8[N, C, D1..Dr], or [N, D1..Dr, C] if channels_last -> same type and layout."""
    y = average_pool_10(
        _channels_first(_centred(X, x_scale, x_zero_point), channels_last),
        kernel_shape=kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        pads=pads,
        strides=strides,
    )
    return _quantized(_channels_back(y, channels_last) * x_scale, y_scale, y_zero_point, X)


@op("QLinearGlobalAveragePool", 1, domain=MS)
def qlinear_global_average_pool(
    X: Array, x_scale: Array, x_zero_point: Array, y_scale: Array, y_zero_point: Array, *, channels_last: int = 0
) -> Array:
    """The mean over all spatial axes, which become 1. X: int8 or uint8[N, C, D1..Dr], or channels last -> same."""
    axes = tuple(range(1, X.ndim - 1) if channels_last else range(2, X.ndim))
    mean = average(_centred(X, x_scale, x_zero_point), axis=axes, keepdims=True)
    return _quantized(mean * x_scale, y_scale, y_zero_point, X)


@op("QLinearReduceMean", 1, domain=MS)
def qlinear_reduce_mean(
    data: Array,
    data_scale: Array,
    data_zero_point: Array | None,
    reduced_scale: Array,
    reduced_zero_point: Array | None = None,
    *,
    axes: Sequence[int],
    keepdims: int,
) -> Array:
    """The mean over axes. data: int8 or uint8 -> same type."""
    where = axes_of(axes, data.ndim) if axes else tuple(range(data.ndim))
    mean = average(_centred(data, data_scale, data_zero_point), axis=where, keepdims=bool(keepdims))
    return _quantized(np.asarray(mean * data_scale), reduced_scale, reduced_zero_point, data)


@op("QLinearConcat", 1, domain=MS)
def qlinear_concat(Y_scale: Array, Y_zero_point: Array, *inputs: Array | None, axis: int) -> Array:
    """Tensors side by side along an axis; inputs: for each its values, scale and zero point."""
    if not inputs or len(inputs) % 3:
        raise InvalidModelError(f"inputs: expected triples after the first two, got {len(inputs)}")
    parts: list[Array] = []
    for index, (x, scale, zero_point) in enumerate(zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)):
        if x is None or scale is None:
            missing = "values" if x is None else "scale"
            raise InvalidModelError(f"inputs: expected values and a scale in each triple, got no {missing} in {index}")
        parts.append(_quantized(dequantize_linear_10(x, scale, zero_point), Y_scale, Y_zero_point, Y_zero_point))
    where = axis_of(axis, parts[0].ndim)
    rests = {(*part.shape[:where], 0, *part.shape[where + 1 :]) for part in parts}
    if len(rests) != 1 or len({part.ndim for part in parts}) != 1:
        raise ShapeError(f"inputs: expected shapes equal but for axis {where}, got {[list(p.shape) for p in parts]}")
    return np.concatenate(parts, axis=where)


@op("QLinearSoftmax", 1, domain=MS)
def qlinear_softmax(
    X: Array,
    X_scale: Array,
    x_zero_point: Array | None,
    y_scale: Array,
    y_zero_point: Array,
    *,
    axis: int = -1,
    opset: int,
) -> Array:
    """Softmax as that operator is at `opset`. X: int8 or uint8, any shape -> same."""
    softmax = softmax_13 if opset >= 13 else softmax_1
    return _quantized(softmax(dequantize_linear_10(X, X_scale, x_zero_point), axis=axis), y_scale, y_zero_point, X)


@op("QLinearWhere", 1, domain=MS)
def qlinear_where(
    condition: Array,
    X: Array,
    x_scale: Array,
    x_zero_point: Array,
    Y: Array,
    y_scale: Array,
    y_zero_point: Array,
    z_scale: Array,
    z_zero_point: Array,
) -> Array:
    """X where the condition holds, else Y, with broadcasting. X, Y: int8 or uint8 -> same type."""
    broadcastable(condition, X, Y)
    chosen = np.where(
        condition, dequantize_linear_10(X, x_scale, x_zero_point), dequantize_linear_10(Y, y_scale, y_zero_point)
    )
    return _quantized(chosen, z_scale, z_zero_point, X)


@op("QLinearConv", 1, domain=MS)
def qlinear_conv_ms(
    x: Array,
    x_scale: Array,
    x_zero_point: Array,
    w: Array,
    w_scale: Array,
    w_zero_point: Array,
    y_scale: Array,
    y_zero_point: Array,
    B: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    channels_last: int = 0,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """QLinearConv of ai.onnx, of channels-last data if channels_last; the kernel is [M, C / group, k1..kr]."""
    y = qlinear_conv(
        _channels_first(x, channels_last),
        x_scale,
        x_zero_point,
        w,
        w_scale,
        w_zero_point,
        y_scale,
        y_zero_point,
        B,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return _channels_back(y, channels_last)


@op("NhwcMaxPool", 1, domain=MS)
def nhwc_max_pool(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    context: Context,
) -> Array:
    """MaxPool of channels-last data. x: int8 or uint8[N, D1..Dr, C] -> same type and layout."""
    outputs = max_pool_10(
        _channels_first(x, 1),
        kernel_shape=kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        dilations=dilations,
        pads=pads,
        strides=strides,
        context=context,
    )
    return _channels_back(outputs if isinstance(outputs, np.ndarray) else outputs[0], 1)


def _channels_first(x: Array, channels_last: int) -> Array:
    if x.ndim < 3:
        raise ShapeError(f"input: expected rank 3 or more, got shape {list(x.shape)}")
    return np.moveaxis(x, -1, 1) if channels_last else x


def _channels_back(x: Array, channels_last: int) -> Array:
    return np.moveaxis(x, 1, -1) if channels_last else x
