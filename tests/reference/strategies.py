"""What differential tests draw: shapes, arrays of given types, axes, attributes of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["BOUNDED", "array", "broadcastable", "filled", "shapes", "specials"]

BOUNDED = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
"""Enough examples to meet every branch, few enough that a file runs in seconds; the same ones each time."""


def shapes(least: int = 0, most: int = 4, side: int = 4, empty: bool = True) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of rank least to most; sizes up to `side`, and 0 where `empty`."""
    return st.lists(st.integers(0 if empty else 1, side), min_size=least, max_size=most).map(tuple)


def filled(shape: Sequence[int], dtype: npt.DTypeLike, seed: int, scale: float = 3.0) -> np.ndarray[Any, Any]:
    """Numbers around zero (bools at random; unsigned integers from zero)."""
    random = np.random.default_rng(seed)
    resolved = np.dtype(dtype)
    if resolved == np.bool_:
        return random.random(tuple(shape)) < 0.5
    if resolved.kind in "iu":
        least = 0 if resolved.kind == "u" else -int(scale * 3)
        return random.integers(least, int(scale * 3) + 1, tuple(shape)).astype(resolved)
    return np.asarray(random.standard_normal(tuple(shape)) * scale).astype(resolved)


@st.composite
def array(
    draw: st.DrawFn,
    dtypes: Sequence[npt.DTypeLike],
    shape: st.SearchStrategy[tuple[int, ...]] | None = None,
    scale: float = 3.0,
) -> np.ndarray[Any, Any]:
    """An array of one of these types."""
    return filled(
        draw(shape if shape is not None else shapes()),
        draw(st.sampled_from(list(dtypes))),
        draw(st.integers(0, 2**31)),
        scale,
    )


@st.composite
def broadcastable(draw: st.DrawFn, count: int, side: int = 3) -> tuple[tuple[int, ...], ...]:
    """Shapes that broadcast with each other."""
    full = draw(shapes(0, 4, side))
    result = []
    for _ in range(count):
        kept = full[draw(st.integers(0, len(full))) :]
        result.append(tuple(1 if draw(st.integers(0, 3)) == 0 else size for size in kept))
    return tuple(result)


def specials(dtype: npt.DTypeLike) -> np.ndarray[Any, Any]:
    """Infinities, NaN, zeros of both signs, and numbers near the limits of a float type."""
    facts = np.finfo(dtype)
    return np.array(
        [np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -3.5, facts.max, -facts.max, facts.tiny], dtype
    )
