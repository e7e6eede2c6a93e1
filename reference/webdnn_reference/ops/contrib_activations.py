"""Activations of com.microsoft, most of them fused with a bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError, UnsupportedOpError
from webdnn_reference.numeric import Array, narrow, single, unidirectional, widen
from webdnn_reference.ops.activations import gelu, logistic, softplus_of
from webdnn_reference.registry import op

__all__ = [
    "MS",
    "bias_add",
    "bias_gelu",
    "bias_split_gelu",
    "fast_gelu",
    "fused_activation",
    "gated_add",
    "ms_gelu",
    "quick_gelu",
    "scaled_silu",
]

MS = "com.microsoft"


@op("Gelu", 1, domain=MS)
def ms_gelu(X: Array) -> Array:
    """x Phi(x), with the error function. X: float, any shape -> same shape and dtype."""
    return gelu(X)


@op("BiasGelu", 1, domain=MS)
def bias_gelu(A: Array, B: Array) -> Array:
    """Gelu of A + B. A: float[..., C], B: [C] -> shape and dtype of A."""
    return narrow(gelu(widen(A) + widen(B)), A)


@op("FastGelu", 1, domain=MS)
def fast_gelu(X: Array, bias: Array | None = None) -> Array:
    """Gelu by the tanh approximation, of X + bias. X: float[..., C], bias: [C] -> shape and dtype of X."""
    x = widen(X) if bias is None else widen(X) + widen(bias)
    return narrow(gelu(x, approximate="tanh"), X)


@op("QuickGelu", 1, domain=MS)
def quick_gelu(X: Array, *, alpha: float = single(1.702)) -> Array:
    """x logistic(alpha x). X: float, any shape -> same shape and dtype."""
    x = widen(X)
    return narrow(x * logistic(alpha * x), X)


@op("ScaledSiLU", 1, domain=MS)
def scaled_silu(X: Array, scale: Array | None = None, *, alpha: float = 1.0) -> Array:
    """z logistic(z) for z = scale X, each step rounded to the dtype of X. X: float, any shape -> same."""
    factor = alpha if scale is None else widen(scale).reshape(())
    z = widen(narrow(widen(X) * factor, X))
    return narrow(z * widen(narrow(logistic(z), X)), X)


@op("BiasAdd", 1, domain=MS)
def bias_add(X: Array, bias: Array, skip: Array) -> Array:
    """X + bias + skip. X, skip: float[N, S, C], bias: [C] -> shape and dtype of X."""
    return narrow(widen(X) + widen(bias) + widen(skip), X)


@op("BiasSplitGelu", 1, domain=MS)
def bias_split_gelu(X: Array, bias: Array) -> Array:
    """The first half of X + bias times the Gelu of the second. X: float[N, S, D], bias: [D] -> [N, S, D / 2]."""
    if X.shape[-1] % 2:
        raise ShapeError(f"X: expected an even last dimension, got shape {list(X.shape)}")
    first, second = np.split(widen(X) + widen(bias), 2, axis=-1)
    return narrow(first * gelu(second), X)


def _clip(x: Array, low: float, high: float) -> Array:
    return np.minimum(np.maximum(x, low), high)


_FUSED: dict[str, tuple[Callable[..., Array], tuple[float, ...]]] = {
    "Relu": (lambda x: np.maximum(x, 0), ()),
    "Tanh": (np.tanh, ()),
    "Sigmoid": (logistic, ()),
    "Softplus": (softplus_of, ()),
    "Softsign": (lambda x: x / (1 + np.abs(x)), ()),
    "Gelu": (gelu, ()),
    "HardSwish": (lambda x: x * _clip(x / 6 + x.dtype.type(0.5), 0, 1), ()),
    "LeakyRelu": (lambda x, alpha: np.where(x >= 0, x, x * x.dtype.type(alpha)), (0.01,)),
    "ThresholdedRelu": (lambda x, alpha: np.where(x > alpha, x, 0), (1.0,)),
    "Elu": (lambda x, alpha: np.where(x >= 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0))), (1.0,)),
    "Clip": (_clip, (-np.inf, np.inf)),
    "HardSigmoid": (lambda x, a, b: _clip(x.dtype.type(a) * x + x.dtype.type(b), 0, 1), (0.2, 0.5)),
    "Affine": (lambda x, a, b: x.dtype.type(a) * x + x.dtype.type(b), (1.0, 0.0)),
    "ParametricSoftplus": (lambda x, a, b: x.dtype.type(a) * softplus_of(x.dtype.type(b) * x), (1.0, 1.0)),
    "ScaledTanh": (lambda x, a, b: x.dtype.type(a) * np.tanh(x.dtype.type(b) * x), (1.0, 1.0)),
}
"""Name -> function and the default values of its parameters."""


def fused_activation(x: Array, activation: str | None, parameters: Sequence[float]) -> Array:
    """The activation that a fused operator names, in the type of x. Raises InvalidModelError for an unknown one."""
    if not activation:
        return x
    if activation not in _FUSED:
        raise InvalidModelError(f"activation: expected one of {sorted(_FUSED)}, got {activation!r}")
    function, defaults = _FUSED[activation]
    given = tuple(parameters)[: len(defaults)]
    return np.asarray(function(x, *given, *defaults[len(given) :]))


@op("GatedAdd", 1, domain=MS)
def gated_add(X: Array, Y: Array, gate: Array, gate_weight: Array | None = None) -> Array:
    """X + Y gate, the product rounded to their type. X, Y: float[..., C], gate: [..., 1] -> same as X.

    Raises UnsupportedOpError for a projected gate (gate_weight), which only CUDA computes.
    """
    if gate_weight is not None:
        raise UnsupportedOpError("gate_weight: expected none, got one")
    product = narrow(widen(Y) * widen(unidirectional(gate, Y.shape, "gate")), Y)
    return narrow(widen(X) + widen(product), X)
