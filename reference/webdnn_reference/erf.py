"""The error function, which NumPy has not.

erf(c + d) is expanded about the nearest c of a fine table as a short polynomial in d; its Taylor coefficients follow
from the derivatives of exp(-c^2) by the recurrence of the Hermite polynomials. |d| <= 1/256, so that eight terms are
exact to float64's last bits and four to float32's.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from webdnn_reference.numeric import Array, is_float

__all__ = ["erf"]

_STEPS_PER_UNIT = 128
_END = 6.0  # erf(6) rounds to 1 in float64
_TERMS = {np.dtype(np.float32): 4, np.dtype(np.float64): 8}


def erf(x: Array) -> Array:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to each element.

    x: float32 or float64, any shape -> same shape and dtype; integers are computed in float64 and truncated.
    """
    if not is_float(x):
        return np.trunc(erf(x.astype(np.float64))).astype(x.dtype)
    table = _coefficients(x.dtype)
    magnitude = np.minimum(np.abs(x), x.dtype.type(_END))
    with np.errstate(invalid="ignore"):
        nearest = np.rint(magnitude * x.dtype.type(_STEPS_PER_UNIT))
        index = np.where(np.isnan(nearest), 0, nearest).astype(np.intp)
    distance = magnitude - nearest / x.dtype.type(_STEPS_PER_UNIT)
    result = table[-1].take(index)
    for coefficients in table[-2::-1]:
        result = result * distance + coefficients.take(index)
    return np.asarray(np.copysign(result, x))


@functools.cache
def _coefficients(dtype: np.dtype[np.float64]) -> Array:
    """Row k holds the k-th Taylor coefficient of erf about each table point."""
    points = np.arange(round(_END * _STEPS_PER_UNIT) + 1) / _STEPS_PER_UNIT
    derivative = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    before, hermite = np.zeros_like(points), np.ones_like(points)
    rows = [np.array([math.erf(point) for point in points])]
    for order in range(1, _TERMS[dtype]):
        rows.append((-1) ** (order - 1) * hermite * derivative / math.factorial(order))
        before, hermite = hermite, 2 * points * hermite - 2 * (order - 1) * before
    return np.array(rows).astype(dtype)
