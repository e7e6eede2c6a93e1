"""Scatter operators: reductions, duplicates, negative indices, half precision."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.lower.one_node import agree, f32

REDUCTIONS = ["add", "mul", "max", "min"]


@pytest.mark.parametrize("reduction", ["none", *REDUCTIONS])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_are_combined_in_order(axis: int, reduction: str) -> None:
    indices = np.array([[0, 1, 0], [2, -1, 0]], np.int64)
    agree("ScatterElements", [f32(3, 4), indices, f32(2, 3, seed=1)], {"axis": axis, "reduction": reduction})


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_slices_that_meet_are_combined(reduction: str) -> None:
    indices = np.array([[1], [-1], [1]], np.int64)
    agree("ScatterND", [f32(3, 2), indices, f32(3, 2, seed=1)], {"reduction": reduction})


def test_single_elements_by_whole_tuples() -> None:
    indices = np.array([[0, 1], [2, 0], [0, 1]], np.int64)
    agree("ScatterND", [f32(3, 2), indices, f32(3, seed=1)], {"reduction": "add"})


def test_half_precision_is_rounded_once() -> None:
    data, updates = np.full(2, 2048, np.float16), np.ones(64, np.float16)
    indices = np.zeros(64, np.int64)
    agree("ScatterElements", [data, indices, updates], {"reduction": "add"})


@pytest.mark.parametrize(("op", "opset"), [("Scatter", 9), ("ScatterElements", 11), ("ScatterElements", 16)])
def test_older_versions(op: str, opset: int) -> None:
    agree(op, [f32(3, 3), np.array([[1, 0, 2]], np.int64), f32(1, 3, seed=1)], opset=opset)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_caches_are_written_from_their_index_on(mode: str) -> None:
    starts = np.array([1, 3 if mode == "circular" else 2], np.int64)
    agree("TensorScatter", [f32(2, 2, 4, 3), f32(2, 2, 2, 3, seed=1), starts], {"mode": mode}, opset=24)
