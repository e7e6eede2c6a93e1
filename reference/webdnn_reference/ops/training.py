"""Dropout, and the optimizer steps of ai.onnx.preview.training.

Dropout draws from NumPy's legacy generator when the node gives a seed, which makes it agree with the values that the
ONNX suite publishes; without a seed it draws from the interpreter's generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, narrow, scalar, single, widen
from webdnn_reference.registry import Context, op

__all__ = ["adagrad", "adam", "dropout_1", "dropout_7", "dropout_10", "dropout_12", "momentum"]

_PREVIEW = "ai.onnx.preview.training"


def _drop(data: Array, ratio: float, seed: int | None, context: Context) -> tuple[Array, Array]:
    if not 0 <= ratio < 1:
        raise InvalidModelError(f"ratio: expected one in [0, 1), got {ratio}")
    uniform: Callable[..., Any] = (
        context.random.uniform if seed is None else np.random.RandomState(seed % (1 << 32)).uniform
    )
    kept = np.asarray(uniform(0.0, 1.0, data.shape) >= ratio)
    x = widen(data)
    return narrow(np.where(kept, x, 0) * x.dtype.type(1 / (1 - ratio)), data), kept


@op("Dropout", since=(1, 6))
def dropout_1(data: Array, *, is_test: int = 0, ratio: float = 0.5, context: Context) -> tuple[Array, Array]:
    """The input, with random elements zeroed and the others scaled up unless is_test is set.

    data: float -> output and mask, both shape and dtype of data.   Raises InvalidModelError for a ratio outside [0, 1).
    Spec: https://onnx.ai/onnx/operators/onnx__Dropout.html#dropout-6
    """
    if is_test:
        return data, np.ones(data.shape, data.dtype)
    output, kept = _drop(data, ratio, None, context)
    return output, kept.astype(data.dtype)


@op("Dropout", since=7)
def dropout_7(data: Array, *, ratio: float = 0.5) -> tuple[Array, Array]:
    """The input itself: this version has no training mode.

    data: float -> output and a mask of ones, both shape and dtype of data. ratio has no effect.
    Spec: https://onnx.ai/onnx/operators/onnx__Dropout.html#dropout-7
    """
    del ratio
    return data, np.ones(data.shape, data.dtype)


@op("Dropout", since=10)
def dropout_10(data: Array, *, ratio: float = 0.5) -> tuple[Array, Array]:
    """The input itself: this version has no training mode.

    data: float -> output, shape and dtype of data, and a mask of true. ratio has no effect.
    Spec: https://onnx.ai/onnx/operators/onnx__Dropout.html#dropout-10
    """
    del ratio
    return data, np.ones(data.shape, np.bool_)


@op("Dropout", since=(12, 13, 22))
def dropout_12(
    data: Array,
    ratio: Array | None = None,
    training_mode: Array | None = None,
    *,
    seed: int | None = None,
    context: Context,
) -> tuple[Array, Array]:
    """The input; in training mode with random elements zeroed and the others scaled by 1 / (1 - ratio).

    data: float; ratio: float scalar, by default 0.5; training_mode: bool scalar, by default false -> output, shape
    and dtype of data, and a bool mask.   Raises InvalidModelError for a ratio outside [0, 1).
    Spec: https://onnx.ai/onnx/operators/onnx__Dropout.html#dropout-22
    """
    share = 0.5 if ratio is None else float(scalar(ratio, "ratio"))
    if training_mode is None or not scalar(training_mode, "training_mode") or share == 0:
        return data, np.ones(data.shape, np.bool_)
    return _drop(data, share, seed, context)


def _groups(inputs: tuple[Array, ...], size: int) -> list[tuple[Array, ...]]:
    """One tuple per optimized tensor from inputs that list all tensors, then all gradients, and so on."""
    if not inputs or len(inputs) % size:
        raise InvalidModelError(f"inputs: expected a positive multiple of {size}, got {len(inputs)}")
    count = len(inputs) // size
    groups = [tuple(inputs[index::count]) for index in range(count)]
    for group in groups:
        if any(value.shape != group[0].shape for value in group):
            shapes = ", ".join(str(list(value.shape)) for value in group)
            raise ShapeError(f"inputs: expected one shape per tensor and its gradient and state, got {shapes}")
    return groups


def _ordered(updated: list[tuple[Array, ...]], groups: list[tuple[Array, ...]]) -> tuple[Array, ...]:
    """All new tensors, then all new states of the first kind, and so on, each in the dtype of its tensor."""
    kinds = range(len(updated[0]))
    return tuple(
        narrow(values[kind], group[0]) for kind in kinds for values, group in zip(updated, groups, strict=True)
    )


@op("Adagrad", since=1, domain=_PREVIEW)
def adagrad(
    R: Array,
    T: Array,
    *inputs: Array,
    decay_factor: float = 0.0,
    epsilon: float = single(1e-6),
    norm_coefficient: float = 0.0,
) -> tuple[Array, ...]:
    """One step of Adagrad for any number of tensors.

    R: learning rate; T: update count; inputs: float tensors X, their gradients G, their accumulated squares H ->
    new X, new H.   Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adagrad.html
    """
    rate = scalar(R, "R") / (1 + int(scalar(T, "T")) * decay_factor)
    groups = _groups(inputs, 3)
    updated: list[tuple[Array, ...]] = []
    for x, gradient, squares in groups:
        regularized = norm_coefficient * x + gradient
        new_squares = squares + regularized * regularized
        updated.append((x - rate * regularized / (np.sqrt(new_squares) + epsilon), new_squares))
    return _ordered(updated, groups)


@op("Adam", since=1, domain=_PREVIEW)
def adam(
    R: Array,
    T: Array,
    *inputs: Array,
    alpha: float = single(0.9),
    beta: float = single(0.999),
    epsilon: float = single(1e-6),
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> tuple[Array, ...]:
    """One step of Adam for any number of tensors.

    R: learning rate; T: update count; inputs: float tensors X, their gradients G, averaged gradients V and averaged
    squared gradients H -> new X, new V, new H.   Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html
    """
    rate, count = scalar(R, "R"), int(scalar(T, "T"))
    if count > 0:
        rate = rate * np.sqrt(1 - beta**count) / (1 - alpha**count)
    groups = _groups(inputs, 4)
    updated: list[tuple[Array, ...]] = []
    for x, gradient, averaged, squares in groups:
        regularized = norm_coefficient * x + gradient
        new_averaged = alpha * averaged + (1 - alpha) * regularized
        new_squares = beta * squares + (1 - beta) * (regularized * regularized)
        new_x = x - rate * new_averaged / (np.sqrt(new_squares) + epsilon)
        updated.append(((1 - norm_coefficient_post) * new_x, new_averaged, new_squares))
    return _ordered(updated, groups)


@op("Momentum", since=1, domain=_PREVIEW)
def momentum(
    R: Array, T: Array, *inputs: Array, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> tuple[Array, ...]:
    """One step of gradient descent with momentum, standard or Nesterov's, for any number of tensors.

    R: learning rate; T: update count; inputs: float tensors X, their gradients G, their momenta V -> new X, new V.
    Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Momentum.html
    """
    if mode not in ("standard", "nesterov"):
        raise InvalidModelError(f"mode: expected standard or nesterov, got {mode!r}")
    rate = scalar(R, "R")
    factor = beta if int(scalar(T, "T")) > 0 else 1.0
    groups = _groups(inputs, 3)
    updated: list[tuple[Array, ...]] = []
    for x, gradient, velocity in groups:
        regularized = norm_coefficient * x + gradient
        new_velocity = alpha * velocity + factor * regularized
        direction = regularized + alpha * new_velocity if mode == "nesterov" else new_velocity
        updated.append((x - rate * direction, new_velocity))
    return _ordered(updated, groups)
