"""TopK: runs, merging, insertion, ties and NaN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.lower.one_node import agree, f32


def k_of(value: int) -> np.ndarray:
    return np.array([value], np.int64)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("size", [1, 5, 64, 65, 130, 200])
def test_rows_of_every_length_are_ordered(size: int, largest: int) -> None:
    agree("TopK", [f32(2, size), k_of(min(size, 7))], {"largest": largest}, outputs=2, constant=[1])


def test_whole_rows_along_an_inner_axis() -> None:
    agree("TopK", [f32(2, 70, 2), k_of(70)], {"axis": 1}, outputs=2, constant=[1])


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("symbolic", [False, True])
def test_of_equals_the_lower_place_comes_first(symbolic: bool, largest: int) -> None:
    x = np.random.default_rng(0).integers(0, 4, (2, 140 if not symbolic else 20)).astype(np.float32)
    agree("TopK", [x, k_of(9)], {"largest": largest}, outputs=2, constant=[1], symbolic=symbolic)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("symbolic", [False, True])
def test_nan_is_the_greatest(symbolic: bool, largest: int) -> None:
    x = np.array([[1, np.nan, -np.inf, 3, np.nan, np.inf]], np.float32)
    agree("TopK", [x, k_of(6)], {"largest": largest}, outputs=2, constant=[1], symbolic=symbolic)


def test_k_may_be_zero_or_known_at_run_time() -> None:
    agree("TopK", [f32(2, 5), k_of(0)], outputs=2, constant=[1])
    agree("TopK", [f32(2, 5), k_of(3)], outputs=2)
