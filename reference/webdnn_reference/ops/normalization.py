"""Batch, instance and group normalization: statistics per channel or group of channels of [N, C, D1, ..., Dn].

Variances are population variances. Everything is computed in float32 (float64 for float64 inputs) and rounded once,
except where the specification rounds the normalized values before it scales them.
"""

from __future__ import annotations

import math

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, average, narrow, single, widen
from webdnn_reference.registry import Context, op

__all__ = [
    "batch_normalization_1",
    "batch_normalization_7",
    "batch_normalization_9",
    "batch_normalization_14",
    "group_normalization_18",
    "group_normalization_21",
    "instance_normalization",
]

_EPSILON = single(1e-5)
_MOMENTUM = single(0.9)


def _channel_shape(X: Array, spatial: int) -> tuple[int, ...]:
    """The shape in which per-channel (or per-activation) parameters broadcast with X; rank 1 is one channel."""
    if X.ndim < 2:
        return (1,) * X.ndim
    return (X.shape[1], *(1 if spatial else size for size in X.shape[2:]))


def _parameter(name: str, values: Array, shape: tuple[int, ...]) -> Array:
    if values.size != math.prod(shape):
        raise ShapeError(f"{name}: expected {math.prod(shape)} elements, got shape {list(values.shape)}")
    return widen(values).reshape(shape)


def _normalized(X: Array, scale: Array, B: Array, mean: Array, var: Array, epsilon: float, spatial: int = 1) -> Array:
    shape = _channel_shape(X, spatial)
    factor = _parameter("scale", scale, shape) / np.sqrt(_parameter("var", var, shape) + epsilon)
    y = np.asarray(widen(X) - _parameter("mean", mean, shape))
    y *= factor
    y += _parameter("B", B, shape)
    return narrow(y, X)


def _batch_statistics(X: Array, spatial: int = 1) -> tuple[Array, Array]:
    """Mean and variance over the batch (and the spatial axes), in the working precision."""
    x = widen(X)
    axes = tuple(axis for axis in range(X.ndim) if axis != 1) if spatial or X.ndim < 2 else (0,)
    mean = average(x, axis=axes, keepdims=True)
    variance = average(np.square(x - mean), axis=axes)
    return np.asarray(np.squeeze(mean, axis=axes)), np.asarray(variance)


def _running(old: Array, new: Array, momentum: float) -> Array:
    return narrow(widen(old) * momentum + new.reshape(old.shape) * (1 - momentum), old)


def _trained(
    X: Array, scale: Array, B: Array, mean: Array, var: Array, epsilon: float, momentum: float, spatial: int = 1
) -> tuple[Array, Array, Array, Array, Array]:
    shape = _channel_shape(X, spatial)
    for name, values in (("mean", mean), ("var", var)):
        _parameter(name, values, shape)
    now_mean, now_var = _batch_statistics(X, spatial)
    return (
        _normalized(X, scale, B, now_mean, now_var, epsilon, spatial),
        _running(mean, now_mean, momentum),
        _running(var, now_var, momentum),
        narrow(now_mean, mean),
        narrow(now_var, var),
    )


@op("BatchNormalization", since=(1, 6))
def batch_normalization_1(
    X: Array,
    scale: Array,
    B: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = _EPSILON,
    is_test: int = 0,
    momentum: float = _MOMENTUM,
    spatial: int = 1,
    context: Context,
) -> Array | tuple[Array, ...]:
    """Normalize by given statistics, or, in training, by those of the batch.

    X: float [N, C, D1, ..., Dn]; the others [C], or [C, D1, ..., Dn] if spatial is 0. It trains if is_test is 0 and
    more outputs than Y are used; then it also gives running and batch mean and variance.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html#batchnormalization-6
    """
    if is_test or context.outputs == 1:
        return _normalized(X, scale, B, mean, var, epsilon, spatial)
    return _trained(X, scale, B, mean, var, epsilon, momentum, spatial)


@op("BatchNormalization", since=7)
def batch_normalization_7(
    X: Array,
    scale: Array,
    B: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = _EPSILON,
    momentum: float = _MOMENTUM,
    spatial: int = 1,
    context: Context,
) -> Array | tuple[Array, ...]:
    """Normalize by given statistics or, if more outputs than Y are used, by those of the batch.

    X: float [N, C, D1, ..., Dn]; the others [C], or [C, D1, ..., Dn] if spatial is 0 -> Y, running mean and variance,
    mean and variance of the batch.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html#batchnormalization-7
    """
    if context.outputs == 1:
        return _normalized(X, scale, B, mean, var, epsilon, spatial)
    return _trained(X, scale, B, mean, var, epsilon, momentum, spatial)


@op("BatchNormalization", since=9)
def batch_normalization_9(
    X: Array,
    scale: Array,
    B: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = _EPSILON,
    momentum: float = _MOMENTUM,
    context: Context,
) -> Array | tuple[Array, ...]:
    """Normalize by given statistics or, if more outputs than Y are used, by those of the batch.

    X: float [N, C, D1, ..., Dn] or [N]; the others [C] -> Y, running mean and variance, mean and variance of the
    batch.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html#batchnormalization-9
    """
    if context.outputs == 1:
        return _normalized(X, scale, B, mean, var, epsilon)
    return _trained(X, scale, B, mean, var, epsilon, momentum)


@op("BatchNormalization", since=(14, 15))
def batch_normalization_14(
    X: Array,
    scale: Array,
    B: Array,
    input_mean: Array,
    input_var: Array,
    *,
    epsilon: float = _EPSILON,
    momentum: float = _MOMENTUM,
    training_mode: int = 0,
) -> Array | tuple[Array, ...]:
    """Normalize by given statistics or, if training_mode is set, by those of the batch.

    X: float [N, C, D1, ..., Dn] or [N]; the others [C], of possibly other float types -> Y in the dtype of X; in
    training also running mean and variance, in the dtypes of input_mean and input_var.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html#batchnormalization-15
    """
    if not training_mode:
        return _normalized(X, scale, B, input_mean, input_var, epsilon)
    return _trained(X, scale, B, input_mean, input_var, epsilon, momentum)[:3]


def _standardized(x: Array, epsilon: float, axes: tuple[int, ...]) -> Array:
    """Zero mean and unit variance along axes, in the type of x."""
    centred = x - average(x, axis=axes, keepdims=True)
    return np.asarray(centred / np.sqrt(average(np.square(centred), axis=axes, keepdims=True) + epsilon))


@op("InstanceNormalization", since=(1, 6, 22))
def instance_normalization(input: Array, scale: Array, B: Array, *, epsilon: float = _EPSILON) -> Array:
    """Normalize each channel of each sample by its own statistics.

    input: float [N, C, D1, ..., Dn]; scale, B: [C] -> shape and dtype of input.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html#instancenormalization-22
    """
    if input.ndim < 3:
        raise ShapeError(f"input: expected rank 3 or more, [N, C, D1, ...], got shape {list(input.shape)}")
    shape = _channel_shape(input, 1)
    y = _standardized(widen(input), epsilon, tuple(range(2, input.ndim)))
    return narrow(y * _parameter("scale", scale, shape) + _parameter("B", B, shape), input)


def _grouped(X: Array, num_groups: int, epsilon: float) -> Array:
    """X standardized over each group of channels, in the working precision: [N, C, D1, ..., Dn]."""
    if X.ndim < 2:
        raise ShapeError(f"X: expected rank 2 or more, [N, C, D1, ...], got shape {list(X.shape)}")
    if num_groups < 1 or X.shape[1] % num_groups:
        raise ShapeError(f"num_groups: expected a divisor of {X.shape[1]} channels, got {num_groups}")
    per_group = int(np.prod(X.shape[1:], dtype=np.int64)) // num_groups
    return _standardized(widen(X).reshape(X.shape[0], num_groups, per_group), epsilon, (2,)).reshape(X.shape)


@op("GroupNormalization", since=18)
def group_normalization_18(X: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = _EPSILON) -> Array:
    """Normalize each group of channels of each sample by its own statistics; scale and bias per group.

    X: float [N, C, D1, ..., Dn]; scale, bias: [num_groups] -> shape and dtype of X.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__GroupNormalization.html#groupnormalization-18
    """
    y = _grouped(X, num_groups, epsilon)
    shape = _channel_shape(X, 1)
    members = X.shape[1] // num_groups
    factor = _parameter("scale", scale, (num_groups,)).repeat(members).reshape(shape)
    offset = _parameter("bias", bias, (num_groups,)).repeat(members).reshape(shape)
    return narrow(y * factor + offset, X)


@op("GroupNormalization", since=21)
def group_normalization_21(
    X: Array,
    scale: Array,
    bias: Array,
    *,
    num_groups: int,
    epsilon: float = _EPSILON,
    stash_type: int = 1,
) -> Array:
    """Normalize each group of channels of each sample by its own statistics; scale and bias per channel.

    X: float [N, C, D1, ..., Dn]; scale, bias: [C] -> shape and dtype of X. The normalized values are rounded to the
    dtype of X before they are scaled. stash_type: any type is computed in float32 or better.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__GroupNormalization.html#groupnormalization-21
    """
    del stash_type
    y = widen(narrow(_grouped(X, num_groups, epsilon), X))
    shape = _channel_shape(X, 1)
    return narrow(y * _parameter("scale", scale, shape) + _parameter("bias", bias, shape), X)
