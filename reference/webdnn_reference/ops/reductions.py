"""Reductions over axes.

Until version 13 (ReduceSum: until 11) the axes are an attribute, later an input. Narrow floats are reduced in float32
and rounded once. Integers: sums and products wrap in their own type; means, norms and logarithms are computed in
float64 and truncated. Over no elements a sum is 0, a product 1, a maximum the least value, a minimum the greatest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, axes_of, is_float, limits, narrow, saturate, widen
from webdnn_reference.registry import op

__all__: list[str] = []

Reduction: TypeAlias = Callable[[Array, tuple[int, ...], bool], Array]
"""(values, axes counted from the front, keepdims) -> reduced values. No axes: every element is its own set."""


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.sum(x, axis=axes, keepdims=keepdims, dtype=x.dtype))


def _product(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.prod(x, axis=axes, keepdims=keepdims, dtype=x.dtype))


def _maximum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.max(x, axis=axes, keepdims=keepdims, initial=_extremes(x)[0]))


def _minimum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.min(x, axis=axes, keepdims=keepdims, initial=_extremes(x)[1]))


def _extremes(x: Array) -> tuple[float, float]:
    if x.dtype == np.bool_:
        return False, True
    return (-np.inf, np.inf) if is_float(x) else limits(x.dtype)


def _mean(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    total = np.sum(x, axis=axes, keepdims=keepdims)
    count = x.size // total.size if total.size else 1
    if is_float(x):
        return np.asarray(total / np.asarray(count, x.dtype))
    return np.asarray(np.trunc(total / count)) if count else np.zeros_like(total)


def _norm1(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return _sum(np.abs(x), axes, keepdims)


def _norm2(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    real = _real(x)
    return np.asarray(np.sqrt(_sum(real * real, axes, keepdims)))


def _sum_of_squares(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return _sum(x * x, axes, keepdims)


def _log_sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.log(_sum(_real(x), axes, keepdims)))


def _log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    real = _real(x)
    greatest = _maximum(real, axes, True)
    shift = np.where(np.isfinite(greatest), greatest, 0)
    total = np.log(_sum(np.exp(real - shift), axes, True)) + shift
    return np.asarray(total if keepdims else np.squeeze(total, axis=axes))


def _real(x: Array) -> Array:
    return x if is_float(x) else x.astype(np.float64)


_REDUCTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Reduction]] = {
    "ReduceL1": ((1, 11, 13), (18,), _norm1),
    "ReduceL2": ((1, 11, 13), (18,), _norm2),
    "ReduceLogSum": ((1, 11, 13), (18, 28), _log_sum),
    "ReduceLogSumExp": ((1, 11, 13), (18, 28), _log_sum_exp),
    "ReduceMax": ((1, 11, 12, 13), (18, 20), _maximum),
    "ReduceMean": ((1, 11, 13), (18,), _mean),
    "ReduceMin": ((1, 11, 12, 13), (18, 20), _minimum),
    "ReduceProd": ((1, 11, 13), (18,), _product),
    "ReduceSum": ((1, 11), (13,), _sum),
    "ReduceSumSquare": ((1, 11, 13), (18,), _sum_of_squares),
}
"""Operator -> versions with axes as an attribute, versions with axes as an input, what it computes.

Spec: https://onnx.ai/onnx/operators/ (one page per operator).
"""


def _reduce(function: Reduction, data: Array, axes: tuple[int, ...], keepdims: int) -> Array:
    result = function(widen(data), axes, bool(keepdims))
    if is_float(result) and not is_float(data):
        return saturate(np.trunc(result), data.dtype)
    return narrow(result, data)


def _register(name: str, before: tuple[int, ...], since: tuple[int, ...], function: Reduction) -> None:
    @op(name, since=before)
    def by_attribute(data: Array, *, axes: Sequence[int] | None = None, keepdims: int = 1) -> Array:
        everything = tuple(range(data.ndim))
        return _reduce(function, data, axes_of(axes, data.ndim) if axes else everything, keepdims)

    @op(name, since=since)
    def by_input(data: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
        if axes is not None and axes.ndim > 1:
            raise ShapeError(f"axes: expected rank 1, got shape {list(axes.shape)}")
        if axes is not None and axes.size:
            return _reduce(function, data, axes_of(axes.reshape(-1), data.ndim), keepdims)
        return _reduce(function, data, () if noop_with_empty_axes else tuple(range(data.ndim)), keepdims)

    text = f"{name} over `axes` (by default all). data: any number -> same dtype.   Raises ShapeError."
    by_attribute.__name__ = by_attribute.__qualname__ = f"{name.lower()}_1"
    by_input.__name__ = by_input.__qualname__ = f"{name.lower()}_{since[0]}"
    by_attribute.__doc__ = text
    by_input.__doc__ = (
        f"{text}\n\nnoop_with_empty_axes: without axes each element is a set of its own: nothing is summed, but norms "
        "and logarithms are still taken."
    )


for _name, (_before, _since, _function) in _REDUCTIONS.items():
    _register(_name, _before, _since, _function)
