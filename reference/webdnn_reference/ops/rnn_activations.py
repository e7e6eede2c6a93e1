"""The activation functions that RNN, GRU and LSTM name, with the alpha and beta that some of them take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from webdnn_onnx.errors import InvalidModelError
from webdnn_reference.numeric import Array
from webdnn_reference.ops.activations import logistic, softplus_of

Activation: TypeAlias = Callable[[Array], Array]

__all__ = ["ACTIVATIONS", "Activation", "activation_functions"]


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


ACTIVATIONS: dict[str, tuple[Callable[..., Array], float | None, float | None]] = {
    "affine": (lambda x, alpha, beta: alpha * x + beta, 1.0, 0.0),
    "elu": (_elu, 1.0, None),
    "hardsigmoid": (lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), 0.2, 0.5),
    "leakyrelu": (lambda x, alpha: np.where(x >= 0, x, alpha * x), 0.01, None),
    "relu": (lambda x: np.maximum(x, 0), None, None),
    "scaledtanh": (lambda x, alpha, beta: alpha * np.tanh(beta * x), 1.0, 1.0),
    "sigmoid": (logistic, None, None),
    "softplus": (softplus_of, None, None),
    "softsign": (lambda x: x / (1 + np.abs(x)), None, None),
    "tanh": (np.tanh, None, None),
    "thresholdedrelu": (lambda x, alpha: np.where(x >= alpha, x, 0), 1.0, None),
}
"""Name in lower case -> function, default alpha, default beta; None where it takes none."""


def activation_functions(
    names: Sequence[str], alpha: Sequence[float], beta: Sequence[float], count: int
) -> list[Activation]:
    """The functions named, in order; each that takes an alpha or beta consumes the next value given.

    Raises InvalidModelError for an unknown name or a wrong number of names.
    """
    if len(names) != count:
        raise InvalidModelError(f"activations: expected {count} names, got {list(names)}")
    alphas, betas = iter(alpha), iter(beta)
    functions: list[Activation] = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise InvalidModelError(f"activations: expected one of {sorted(ACTIVATIONS)}, got {name!r}")
        function, default_alpha, default_beta = ACTIVATIONS[name.lower()]
        arguments: list[float] = []
        if default_alpha is not None:
            arguments.append(next(alphas, default_alpha))
        if default_beta is not None:
            arguments.append(next(betas, default_beta))
        functions.append(_bound(function, arguments))
    return functions


def _bound(function: Callable[..., Array], arguments: Sequence[float]) -> Activation:
    return lambda x: function(x, *arguments)
