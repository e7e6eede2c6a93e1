"""CumSum and CumProd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from webdnn_reference.numeric import Array, axis_of, narrow, scalar_int, widen
from webdnn_reference.registry import op

__all__ = ["cumulative_product", "cumulative_sum"]


def _scan(accumulate: Callable[..., Any], neutral: int, x: Array, axis: Array, exclusive: int, reverse: int) -> Array:
    front = axis_of(scalar_int(axis, "axis"), x.ndim)
    values = widen(x)
    values = np.flip(values, front) if reverse else values
    if exclusive and x.shape[front]:
        first = np.full_like(values[(slice(None),) * front + (slice(0, 1),)], neutral)
        values = np.concatenate([first, values[(slice(None),) * front + (slice(0, -1),)]], axis=front)
    result = accumulate(values, axis=front, dtype=values.dtype)
    return narrow(np.flip(result, front) if reverse else result, x)


@op("CumSum", since=(11, 14))
def cumulative_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """Running sums along an axis.

    x: any number; axis: one integer, of rank 0 or 1 -> shape and dtype of x. exclusive leaves out the element itself;
    reverse runs from the end. Integers wrap.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__CumSum.html#cumsum-14
    """
    return _scan(np.cumsum, 0, x, axis, exclusive, reverse)


@op("CumProd", since=26)
def cumulative_product(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """Running products along an axis.

    x: any number; axis: one integer, of rank 0 or 1 -> shape and dtype of x. exclusive leaves out the element itself;
    reverse runs from the end. Integers wrap.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__CumProd.html#cumprod-26
    """
    return _scan(np.cumprod, 1, x, axis, exclusive, reverse)
