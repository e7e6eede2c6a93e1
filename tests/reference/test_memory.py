"""Operators that work in parts: what they take at most, and that parts join where sizes are no multiples of them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from tests.reference.one_node import run, run_all

RANDOM = np.random.default_rng(0)


def bytes_of(*values: np.ndarray | None) -> int:
    return sum(value.nbytes for value in values if value is not None)


def peak_of(op: str, *inputs: np.ndarray | None, opset: int, **attributes: Any) -> float:
    """The most that a node has at once, its inputs included, in units of its inputs and outputs together."""
    run(op, *inputs, opset=opset, **attributes)  # what is cached on the first call is no part of it
    tracemalloc.start()
    outputs = run_all(op, *inputs, opset=opset, **attributes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (bytes_of(*inputs) + peak) / bytes_of(*inputs, *outputs)


def image(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def hats(length: int, resized: int) -> np.ndarray:
    """The matrix [resized, length] of linear interpolation between the centres of samples, clamped at the ends."""
    places = np.clip((np.arange(resized) + 0.5) * length / resized - 0.5, 0, length - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(length))))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(224, 224), (961, 1283)])
def test_resizing_a_picture_takes_little_more_than_the_picture(mode: str, size: tuple[int, int]) -> None:
    sizes = np.array([1, 3, *size])
    assert peak_of("Resize", image(1, 3, 480, 640), None, None, sizes, opset=19, mode=mode) < 3


@pytest.mark.parametrize("shape", [(1, 3, 211, 307), (2, 301, 13, 17), (7, 5, 101, 3)])
@pytest.mark.parametrize("size", [(127, 409), (1021, 31)])
def test_slabs_of_a_resized_image_join(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    x = RANDOM.standard_normal(shape)
    got = run("Resize", x, None, None, np.array(size), opset=19, mode="linear", axes=[2, 3])
    np.testing.assert_allclose(got, hats(shape[2], size[0]) @ x @ hats(shape[3], size[1]).T, rtol=1e-9, atol=1e-12)


def test_slabs_along_the_last_axis_join() -> None:
    x = RANDOM.standard_normal((2, 3, 123, 301))
    got = run("Resize", x, None, None, np.array([409, 257]), opset=19, mode="linear", axes=[3, 2])
    np.testing.assert_allclose(got, hats(123, 257) @ x @ hats(301, 409).T, rtol=1e-9, atol=1e-12)
