"""Operators that draw random numbers.

The specification fixes their distribution, not their numbers. A node with a `seed` draws the same numbers in every
run; the others draw from the interpreter's generator, which its own seed fixes. Draws are made in float64 and rounded
once, so that a model in another precision sees the same numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, narrow
from webdnn_reference.registry import Context, op


@op("RandomNormal", since=(1, 22))
def random_normal(
    *,
    shape: Sequence[int],
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
    context: Context,
) -> Array:
    """Normally distributed numbers with the given mean and standard deviation.

    Spec: https://onnx.ai/onnx/operators/onnx__RandomNormal.html#randomnormal-22
    """
    kind = _float(dtype)
    return narrow(_generator(seed, context).standard_normal(_sizes(shape)) * scale + mean, kind)


@op("RandomNormalLike", since=(1, 22))
def random_normal_like(
    input: Array,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
    context: Context,
) -> Array:
    """As RandomNormal, in the input's shape and, by default, its dtype.

    Spec: https://onnx.ai/onnx/operators/onnx__RandomNormalLike.html#randomnormallike-22
    """
    kind = _number(input, dtype)
    return random_normal(shape=input.shape, dtype=kind, mean=mean, scale=scale, seed=seed, context=context)


@op("RandomUniform", since=(1, 22))
def random_uniform(
    *,
    shape: Sequence[int],
    dtype: int = 1,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
    context: Context,
) -> Array:
    """Uniformly distributed numbers in [low, high).

    Spec: https://onnx.ai/onnx/operators/onnx__RandomUniform.html#randomuniform-22
    """
    kind = _float(dtype)
    drawn = narrow(_generator(seed, context).random(_sizes(shape)) * (high - low) + low, kind)
    if low < high:
        # Rounding to a narrow type may reach the excluded end.
        end = np.asarray(high, kind)
        drawn = np.where(drawn >= end, np.nextafter(end, np.asarray(low, kind)), drawn)
    return narrow(drawn, kind)


@op("RandomUniformLike", since=(1, 22))
def random_uniform_like(
    input: Array,
    *,
    dtype: int | None = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
    context: Context,
) -> Array:
    """As RandomUniform, in the input's shape and, by default, its dtype.

    Spec: https://onnx.ai/onnx/operators/onnx__RandomUniformLike.html#randomuniformlike-22
    """
    kind = _number(input, dtype)
    return random_uniform(shape=input.shape, dtype=kind, low=low, high=high, seed=seed, context=context)


@op("Bernoulli", since=(15, 22))
def bernoulli(input: Array, *, dtype: int | None = None, seed: float | None = None, context: Context) -> Array:
    """One with the probability that the input gives, else zero; in the input's dtype by default.

    Spec: https://onnx.ai/onnx/operators/onnx__Bernoulli.html#bernoulli-22
    """
    drawn = _generator(seed, context).random(input.shape) < input.astype(np.float64)
    return drawn.astype(DType.from_onnx(_number(input, dtype)).numpy)


@op("Multinomial", since=(7, 22))
def multinomial(
    input: Array, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None, context: Context
) -> Array:
    """Outcomes drawn with the unnormalised log-probabilities that each row gives.

    input: (batch, classes) -> int32|int64 (batch, sample_size). Raises ShapeError unless it is a matrix with classes.
    Spec: https://onnx.ai/onnx/operators/onnx__Multinomial.html#multinomial-22
    """
    if input.ndim != 2 or not input.shape[1]:
        raise ShapeError(f"input: expected (batch, at least one class), got {list(input.shape)}")
    kind = DType.from_onnx(dtype)
    if kind not in (DType.INT32, DType.INT64):
        raise DTypeError(f"dtype: expected int32 or int64, got {kind.value}")
    if sample_size < 0:
        raise InvalidModelError(f"sample_size: expected at least 0, got {sample_size}")
    logits = input.astype(np.float64)
    weights = np.cumsum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)
    points = _generator(seed, context).random((input.shape[0], sample_size)) * weights[:, -1:]
    chosen = np.sum(points[:, :, None] >= weights[:, None, :], axis=2)
    return narrow(chosen, kind.numpy)


def _generator(seed: float | None, context: Context) -> np.random.Generator:
    if seed is None:
        return context.random
    return np.random.default_rng(struct.unpack("<I", struct.pack("<f", seed))[0])


def _float(number: int) -> np.dtype[Any]:
    dtype = DType.from_onnx(number)
    if not dtype.is_float:
        raise DTypeError(f"dtype: expected a floating-point type, got {dtype.value}")
    return dtype.numpy


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    if any(size < 0 for size in shape):
        raise ShapeError(f"shape: expected sizes that are not negative, got {list(shape)}")
    return tuple(shape)


def _number(input: Array, dtype: int | None) -> int:
    return DType.from_numpy(input.dtype).onnx if dtype is None else dtype
