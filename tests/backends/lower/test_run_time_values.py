"""Operators whose sizes or axes are tensors that are computed at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.lower.one_node import Array, agree, f32


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(1,), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceLogSumExp"])
def test_reduction_along_axes_given_at_run_time(op: str, axes: tuple[int, ...], keepdims: int) -> None:
    agree(op, [f32(2, 3, 4), i64(*axes)], {"keepdims": keepdims})


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("attributes", [{}, {"exclusive": 1}, {"reverse": 1}])
def test_cumulative_sum_along_an_axis_given_at_run_time(axis: int, attributes: dict[str, Any]) -> None:
    agree("CumSum", [f32(2, 3, 4), np.array(axis, np.int64)], attributes, opset=14)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [((1,), (100,), (1,), (1,)), ((-1, 0), (-100, 2), (2, -3), (-2, 1)), ((5,), (1,), (0,), (1,))],
)
def test_slice_by_values_given_at_run_time(
    starts: tuple[int, ...], ends: tuple[int, ...], axes: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    agree("Slice", [f32(3, 4, 5), i64(*starts), i64(*ends), i64(*axes), i64(*steps)])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pads_and_axes_given_at_run_time(mode: str) -> None:
    agree("Pad", [f32(3, 4, 5), i64(1, 2, 0, 1), None, i64(2, -3)], {"mode": mode}, opset=21)


def test_negative_pads_given_at_run_time_crop() -> None:
    agree("Pad", [f32(4, 5), i64(-1, 1, 0, -2)], opset=21)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
def test_resize_by_scales_given_at_run_time(mode: str, antialias: int) -> None:
    if mode == "nearest" and antialias:
        pytest.skip("nearest has no antialiasing")
    scales = np.array([1, 1, 0.6, 1.7], np.float32)
    agree("Resize", [f32(1, 2, 5, 6), None, scales], {"mode": mode, "antialias": antialias}, opset=19, rtol=1e-3)


@pytest.mark.parametrize("region_known", [False, True])
@pytest.mark.parametrize("length_known", [False, True])
@pytest.mark.parametrize("by_sizes", [False, True])
def test_a_region_crops_and_leaves_the_length(by_sizes: bool, length_known: bool, region_known: bool) -> None:
    region = np.array([0, 0, 0.25, 0.2, 1, 1, 0.75, 0.9], np.float32)
    resized = [None, i64(1, 2, 7, 5)] if by_sizes else [np.array([1, 1, 2, 1.5], np.float32)]
    constant = [1] * region_known + [1 + len(resized)] * length_known
    attributes = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear", "extrapolation_value": 9.0}
    agree("Resize", [f32(1, 2, 4, 6), region, *resized], attributes, opset=13, constant=constant)


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 5), (600,)])
def test_non_zero_elements_in_order(shape: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(0).integers(0, 2, shape), np.int32)
    agree("NonZero", [x])


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress_by_a_short_condition(axis: int | None) -> None:
    agree("Compress", [f32(3, 4), np.array([False, True])], {} if axis is None else {"axis": axis})


@pytest.mark.parametrize("sorted_", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique_elements_and_slices(axis: int | None, sorted_: int) -> None:
    x = np.random.default_rng(1).integers(0, 3, (7, 3)).astype(np.float32)
    attributes = {"sorted": sorted_} | ({} if axis is None else {"axis": axis})
    agree("Unique", [x], attributes, outputs=4)


def test_range_and_one_hot_of_sizes_given_at_run_time() -> None:
    agree("Range", [np.array(2.5, np.float32), np.array(-3, np.float32), np.array(-1, np.float32)])
    agree("OneHot", [i64(0, -1, 7), np.array(4, np.float32), f32(2)])
