"""Dimensions that are 1 only at run time, and lists whose length only the run tells."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.lower.one_node import Array, agree, f32


@pytest.mark.parametrize(
    ("left", "right"), [((1, 3), (4, 1)), ((1,), (4, 3)), ((4, 3), (1, 1)), ((2, 1, 3), (1, 5, 1)), ((4, 3), (3,))]
)
def test_a_symbolic_dimension_may_be_one(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = f32(*left), f32(*right, seed=1)
    agree("Add", [a, b], symbolic=True)
    agree("Where", [a > 0, a, b], symbolic=True)


@pytest.mark.parametrize(("left", "right"), [((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((2, 1, 2, 3), (4, 3, 2))])
def test_symbolic_batches_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = f32(*left), f32(*right, seed=1)
    agree("MatMul", [a, b], symbolic=True)
    agree("Einsum", [a, b], {"equation": "...ij,...jk->...ik"}, symbolic=True)
    agree("MatMulInteger", [(9 * a).astype(np.int8), (9 * b).astype(np.int8)], symbolic=True)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Tile", [f32(2, 3), np.array([2, 1])]),
        ("TopK", [f32(2, 3), np.array([2])]),
        ("CumSum", [f32(2, 3), np.array([1])]),
        ("Pad", [f32(2, 3), np.array([1, 0, 0, 2])]),
        ("CenterCropPad", [f32(2, 3), np.array([3, 2])]),
    ],
)
def test_a_list_of_symbolic_length_has_the_length_that_it_must_have(op: str, inputs: list[Array]) -> None:
    agree(op, inputs, outputs=2 if op == "TopK" else 1, symbolic=True)


def test_windows_of_symbolic_size() -> None:
    x, w = f32(1, 2, 6, 5), f32(4, 1, 3, 2, seed=1)
    agree("Conv", [x, w], {"group": 2, "strides": [2, 1]}, symbolic=True)
    agree("ConvTranspose", [x, f32(2, 3, 3, 2, seed=1)], {"pads": [1, 0, 0, 1]}, symbolic=True)
    agree("MaxPool", [x], {"kernel_shape": [4, 2], "strides": [3, 2], "ceil_mode": 1}, symbolic=True)
    agree("AveragePool", [x], {"kernel_shape": [4, 2], "strides": [3, 2], "ceil_mode": 1}, symbolic=True)


def test_updates_tell_the_symbolic_depth_of_indices() -> None:
    x = f32(3, 4, 2)
    agree("ScatterND", [x, np.array([[0, 1], [2, 3]]), f32(2, 2, seed=1)], symbolic=True)


def test_samples_that_are_real_only_at_run_time() -> None:
    agree("DFT", [f32(1, 6, 1)], opset=20, symbolic=True)
    agree("STFT", [f32(1, 16, 1), np.array(4), f32(5, seed=1)], symbolic=True)
