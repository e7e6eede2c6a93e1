"""Activation functions, element by element.

Each is written so that a discarded branch cannot overflow into the result. Narrow floats are computed in float32 and
rounded once; attributes are float32 numbers.
"""

from __future__ import annotations

import math

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.erf import erf
from webdnn_reference.numeric import (
    Array,
    by_parts,
    in_parts,
    is_float,
    narrow,
    select,
    single,
    unidirectional,
    widen,
    wrap,
)
from webdnn_reference.registry import op

__all__ = [
    "celu",
    "clip_1",
    "clip_6",
    "clip_11",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "logistic",
    "mish",
    "prelu_1",
    "prelu_7",
    "relu",
    "selu_1",
    "selu_6",
    "shrink",
    "sigmoid",
    "softplus",
    "softplus_of",
    "softsign",
    "swiglu",
    "swish",
    "thresholded_relu",
]

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) in the type of x, without overflow."""
    decay = np.exp(-np.abs(x))
    return np.asarray(np.maximum(decay, np.asarray(x >= 0).astype(decay.dtype)) / (1 + decay))


def softplus_of(x: Array) -> Array:
    """log(1 + exp(x)) in the type of x, without overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


@op("Relu", since=(1, 6, 13, 14))
def relu(X: Array) -> Array:
    """max(X, 0); NaN stays NaN.

    X: float or signed integer -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Relu.html#relu-14
    """
    x = widen(X)
    y = np.zeros_like(x)  # NumPy vectorises the maximum of two arrays, not that of an array and a number
    return narrow(np.maximum(x, y, out=y), X)


@op("LeakyRelu", since=(1, 6, 16))
@by_parts
def leaky_relu(X: Array, *, alpha: float = single(0.01)) -> Array:
    """X where it is not negative, alpha * X elsewhere.

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__LeakyRelu.html#leakyrelu-16
    """
    x = widen(X)
    return narrow(select(x < 0, alpha * x, x), X)


def _prelu(X: Array, slope: Array) -> Array:
    x = widen(X)
    return narrow(np.where(x < 0, widen(unidirectional(slope, X.shape, "slope")) * x, x), X)


@op("PRelu", since=(1, 6))
def prelu_1(X: Array, slope: Array) -> Array:
    """X where it is not negative, slope * X elsewhere; a slope of C elements belongs to axis 1.

    X: float; slope: one element, [C], or broadcastable to X -> shape and dtype of X.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__PRelu.html#prelu-6
    """
    if slope.size == 1:
        slope = slope.reshape(())
    elif slope.ndim == 1 and X.ndim > 1:
        slope = slope.reshape(-1, *[1] * (X.ndim - 2))
    return _prelu(X, slope)


@op("PRelu", since=(7, 9, 16))
def prelu_7(X: Array, slope: Array) -> Array:
    """X where it is not negative, slope * X elsewhere.

    X: float or integer; slope: broadcastable to X -> shape and dtype of X.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__PRelu.html#prelu-16
    """
    return _prelu(X, slope)


@op("Elu", since=(1, 6, 22))
@by_parts
def elu(X: Array, *, alpha: float = 1.0) -> Array:
    """X where it is not negative, alpha * (exp(X) - 1) elsewhere.

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Elu.html#elu-22
    """
    x = widen(X)
    return narrow(select(x < 0, alpha * np.expm1(np.minimum(x, 0)), x), X)


@op("Celu", since=(12, 28))
@by_parts
def celu(X: Array, *, alpha: float = 1.0) -> Array:
    """max(0, X) + min(0, alpha * (exp(X / alpha) - 1)).

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Celu.html#celu-28
    """
    x = widen(X)
    return narrow(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)), X)


@by_parts
def _selu(X: Array, alpha: float, gamma: float) -> Array:
    x = widen(X)
    return narrow(gamma * select(x <= 0, alpha * np.expm1(np.minimum(x, 0)), x), X)


@op("Selu", since=1)
def selu_1(X: Array, *, alpha: float = single(1.6732), gamma: float = single(1.0507)) -> Array:
    """gamma * X where it is positive, gamma * alpha * (exp(X) - 1) elsewhere; constants of four decimals.

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Selu.html#selu-1
    """
    return _selu(X, alpha, gamma)


@op("Selu", since=(6, 22))
def selu_6(
    X: Array,
    *,
    alpha: float = single(1.67326319217681884765625),
    gamma: float = single(1.05070102214813232421875),
) -> Array:
    """gamma * X where it is positive, gamma * alpha * (exp(X) - 1) elsewhere.

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Selu.html#selu-22
    """
    return _selu(X, alpha, gamma)


@op("ThresholdedRelu", since=(1, 10, 22))
@by_parts
def thresholded_relu(X: Array, *, alpha: float = 1.0) -> Array:
    """X where it is greater than alpha, 0 elsewhere.

    X: float -> same shape and dtype.
    Spec: https://onnx.ai/onnx/operators/onnx__ThresholdedRelu.html#thresholdedrelu-22
    """
    x = widen(X)
    return narrow(select(x > alpha, x, np.zeros_like(x)), X)


@op("Shrink", since=9)
@by_parts
def shrink(input: Array, *, bias: float = 0.0, lambd: float = 0.5) -> Array:
    """X + bias below -lambd, X - bias above lambd, 0 between.

    input: any number -> same shape and dtype; for integers the bias is truncated first, as the function body has it.
    Spec: https://onnx.ai/onnx/operators/onnx__Shrink.html#shrink-9
    """
    x = widen(input)
    if not math.isfinite(bias) and not is_float(x):
        raise InvalidModelError(f"bias: expected a finite number for integers, got {bias}")
    shift = x.dtype.type(bias) if is_float(x) else wrap(np.asarray(int(bias)), x.dtype)
    return narrow(select(x < -lambd, x + shift, select(x > lambd, x - shift, np.zeros_like(x))), input)


@by_parts
def _clip(input: Array, least: float | None, greatest: float | None) -> Array:
    x = widen(input)
    if least is not None:
        x = np.maximum(x, least)
    if greatest is not None:
        x = np.minimum(x, greatest)
    return narrow(x, input)


@op("Clip", since=1)
def clip_1(input: Array, *, min: float | None = None, max: float | None = None) -> Array:
    """min(max, max(input, min)) with bounds that may be absent.

    input: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Clip.html#clip-1
    """
    return _clip(input, min, max)


@op("Clip", since=6)
def clip_6(input: Array, *, min: float = -_FLOAT32_MAX, max: float = _FLOAT32_MAX) -> Array:
    """min(max, max(input, min)); the default bounds are the finite range of float32.

    input: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Clip.html#clip-6
    """
    return _clip(input, min, max)


@op("Clip", since=(11, 12, 13))
def clip_11(input: Array, min: Array | None = None, max: Array | None = None) -> Array:
    """min(max, max(input, min)); where min > max, everything is max.

    input: any number; min, max: one element of that dtype, or absent -> same shape and dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Clip.html#clip-13
    """
    for bound, name in ((min, "min"), (max, "max")):
        if bound is not None and bound.size != 1:
            raise ShapeError(f"{name}: expected one element, got shape {list(bound.shape)}")
    least, greatest = (None if bound is None else widen(bound).reshape(()) for bound in (min, max))
    if least is None and greatest is None:
        return input
    return in_parts(lambda part: narrow(np.clip(widen(part), least, greatest), input), input)


@op("Sigmoid", since=(1, 6, 13))
@by_parts
def sigmoid(X: Array) -> Array:
    """1 / (1 + exp(-X)).

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Sigmoid.html#sigmoid-13
    """
    return narrow(logistic(widen(X)), X)


@op("HardSigmoid", since=(1, 6, 22))
@by_parts
def hard_sigmoid(X: Array, *, alpha: float = single(0.2), beta: float = 0.5) -> Array:
    """max(0, min(1, alpha * X + beta)).

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__HardSigmoid.html#hardsigmoid-22
    """
    return narrow(np.maximum(0, np.minimum(1, alpha * widen(X) + beta)), X)


@op("HardSwish", since=(14, 22))
@by_parts
def hard_swish(X: Array) -> Array:
    """X * max(0, min(1, X / 6 + 0.5)).

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__HardSwish.html#hardswish-22
    """
    x = widen(X)
    return narrow(x * np.maximum(0, np.minimum(1, single(1 / 6) * x + 0.5)), X)


@op("Softplus", since=(1, 22))
@by_parts
def softplus(X: Array) -> Array:
    """log(1 + exp(X)).

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Softplus.html#softplus-22
    """
    return narrow(softplus_of(widen(X)), X)


@op("Softsign", since=(1, 22))
@by_parts
def softsign(input: Array) -> Array:
    """X / (1 + |X|).

    input: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Softsign.html#softsign-22
    """
    x = widen(input)
    return narrow(x / (1 + np.abs(x)), input)


@op("Mish", since=(18, 22))
@by_parts
def mish(X: Array) -> Array:
    """X * tanh(log(1 + exp(X))).

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Mish.html#mish-22
    """
    x = widen(X)
    return narrow(x * np.tanh(softplus_of(x)), X)


def _cube(x: Array) -> Array:
    if x.dtype != np.float32:
        return np.asarray(x**3)
    wide = x.astype(np.float64)  # faster than the power and as exact
    return np.asarray(wide * wide * wide).astype(x.dtype)


@op("Gelu", since=20)
@by_parts
def gelu(X: Array, *, approximate: str = "none") -> Array:
    """X times the normal distribution's cumulative function at X, exact or by its tanh approximation.

    X: float -> same shape and dtype.   Raises InvalidModelError for another approximation than "none" and "tanh".
    Spec: https://onnx.ai/onnx/operators/onnx__Gelu.html#gelu-20
    """
    x = widen(X)
    if approximate == "none":
        return narrow(0.5 * x * (1 + erf(x * math.sqrt(0.5))), X)
    if approximate == "tanh":
        return narrow(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + single(0.044715) * _cube(x)))), X)
    raise InvalidModelError(f"approximate: expected 'none' or 'tanh', got {approximate!r}")


@op("Swish", since=24)
@by_parts
def swish(X: Array, *, alpha: float = 1.0) -> Array:
    """X / (1 + exp(-alpha * X)).

    X: float -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Swish.html#swish-24
    """
    x = widen(X)
    return narrow(x * logistic(alpha * x), X)


@op("SwiGLU", since=28)
def swiglu(A: Array, B: Array, *, alpha: float = 1.0) -> Array:
    """Swish(A) * B.

    A, B: float, of one shape -> that shape and dtype.   Raises ShapeError if the shapes differ.
    Spec: https://onnx.ai/onnx/operators/onnx__SwiGLU.html#swiglu-28
    """
    if A.shape != B.shape:
        raise ShapeError(f"B: expected the shape of A, {list(A.shape)}, got {list(B.shape)}")
    a = widen(A)
    return narrow(a * logistic(alpha * a) * widen(B), A)
