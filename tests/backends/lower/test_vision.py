"""Grids, regions, boxes, columns and displaced convolutions: what the node suite leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.lower.one_node import Array, agree, f32


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_grids_beyond_the_image(aligned: int, mode: str, padding: str) -> None:
    grid = (f32(1, 2, 3, 2) * 1.5).astype(np.float32)
    grid[0, 0, 0, 0] = np.nan
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    agree("GridSample", [f32(1, 2, 3, 4, seed=1), grid], attributes, atol=1e-4)


def test_volumes_are_sampled() -> None:
    agree("GridSample", [f32(1, 1, 2, 3, 2), f32(1, 2, 1, 2, 3, seed=1)], {"mode": "linear"})


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("opset", [10, 16])
def test_regions_take_as_many_samples_as_they_need(opset: int, ratio: int, mode: str) -> None:
    rois = np.array([[0, 0, 5, 4], [1.5, 2, 3, 7], [-4, -4, 9, 9]], np.float32)
    attributes = {"output_height": 2, "output_width": 2, "sampling_ratio": ratio, "mode": mode, "spatial_scale": 0.5}
    agree("RoiAlign", [f32(2, 1, 4, 5), rois, np.array([0, 1, 0], np.int64)], attributes, opset=opset)


def test_maxima_of_regions() -> None:
    rois = np.array([[0, 0, 0, 3, 3], [1, 1, 1, 1, 1], [0, 2, 2, 9, 9]], np.float32)
    agree("MaxRoiPool", [f32(2, 2, 4, 4), rois], {"pooled_shape": [2, 2]})


@pytest.mark.parametrize("limit", [0, 1, 9])
@pytest.mark.parametrize("center", [0, 1])
def test_boxes_that_overlap_are_left_out(center: int, limit: int) -> None:
    random = np.random.default_rng(0)
    boxes = random.random((2, 6, 4)).astype(np.float32)
    scores = np.round(random.random((2, 2, 6)), 1).astype(np.float32)
    inputs: list[Array | None] = [
        boxes,
        scores,
        np.array([limit], np.int64),
        np.array([0.3], np.float32),
        np.array([0.2], np.float32),
    ]
    agree("NonMaxSuppression", inputs, {"center_point_box": center})


@pytest.mark.parametrize("constant", [(), (2,)])
@pytest.mark.parametrize("limit", [2**63 - 1, 2**32 + 1, 2])
def test_a_limit_of_64_bits_is_one(limit: int, constant: tuple[int, ...]) -> None:
    boxes = np.array([[[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]], np.float32)
    agree("NonMaxSuppression", [boxes, f32(1, 1, 3), np.array([limit], np.int64)], constant=constant)


def test_no_limit_selects_no_box() -> None:
    agree("NonMaxSuppression", [np.ones((1, 2, 4), np.float32), f32(1, 1, 2)])


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_displaced_taps(masked: bool, group: int) -> None:
    inputs = [f32(1, 2, 3, 3), f32(2, 2 // group, 2, 2, seed=1), f32(1, 8, 2, 2, seed=2), f32(2, seed=3)]
    mask: Array | None = f32(1, 4, 2, 2, seed=4) if masked else None
    agree("DeformConv", [*inputs, mask], {"group": group})


def test_columns_are_summed_into_the_image() -> None:
    shape, block = np.array([4, 5], np.int64), np.array([2, 3], np.int64)
    attributes = {"pads": [1, 0, 1, 0], "strides": [2, 1]}
    agree("Col2Im", [f32(1, 12, 9), shape, block], attributes, constant=[1, 2])
