"""RoiAlign, MaxRoiPool and NonMaxSuppression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.one_node import run
from tests.reference.strategies import BOUNDED, filled
from webdnn_onnx.errors import InvalidModelError

IMAGE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)


def test_opset_10_has_no_half_pixel_shift() -> None:
    rois, batch = np.array([[1, 1, 2, 2]], np.float32), np.array([0])
    assert run("RoiAlign", IMAGE, rois, batch, opset=10, sampling_ratio=1).item() == 1.5 + 4 * 1.5
    assert run("RoiAlign", IMAGE, rois, batch, opset=16, sampling_ratio=1).item() == 1 + 4 * 1
    unshifted = {"coordinate_transformation_mode": "output_half_pixel"}
    assert run("RoiAlign", IMAGE, rois, batch, opset=16, sampling_ratio=1, **unshifted).item() == 1.5 + 4 * 1.5


def test_a_small_region_is_one_pixel_only_without_the_shift() -> None:
    rois, batch = np.array([[1, 1, 1, 1]], np.float32), np.array([0])
    assert run("RoiAlign", IMAGE, rois, batch, opset=10, sampling_ratio=1).item() == 1.5 + 4 * 1.5
    assert run("RoiAlign", IMAGE, rois, batch, opset=16, sampling_ratio=1).item() == 0.5 + 4 * 0.5


def test_no_regions() -> None:
    got = run("RoiAlign", IMAGE, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), opset=16, output_height=2)
    assert got.shape == (0, 1, 2, 1)


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(InvalidModelError, match="mode"):
        run("RoiAlign", IMAGE, np.zeros((1, 4), np.float32), np.zeros(1, np.int64), opset=16, mode="sum")


def test_max_roi_pool_takes_both_corners_in() -> None:
    rois = np.array([[0, 0, 0, 1, 1], [0, 1, 1, 3, 3], [0, 9, 9, 9, 9]], np.float32)
    got = run("MaxRoiPool", IMAGE, rois, opset=1, pooled_shape=(1, 1))
    np.testing.assert_array_equal(got.reshape(-1), [5, 15, 0])


@BOUNDED
@given(
    seed=st.integers(0, 999),
    opset=st.sampled_from([10, 16]),
    ratio=st.integers(0, 3),
    mode=st.sampled_from(["avg", "max"]),
    scale=st.sampled_from([1.0, 0.5]),
)
def test_roi_align_agrees(seed: int, opset: int, ratio: int, mode: str, scale: float) -> None:
    corners = np.random.default_rng(seed).uniform(-1, 9, (5, 2, 2)).astype(np.float32)
    rois = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    attributes = {
        "output_height": 2,
        "output_width": 3,
        "sampling_ratio": ratio,
        "mode": mode,
        "spatial_scale": scale,
    }
    inputs = [filled((2, 3, 6, 7), np.float32, seed), rois, np.array([0, 1, 1, 0, 1])]
    agree("RoiAlign", inputs, attributes, opset=opset, rtol=1e-3, atol=1e-4)


@BOUNDED
@given(seed=st.integers(0, 999), height=st.integers(1, 3), scale=st.sampled_from([1.0, 0.5]))
def test_max_roi_pool_agrees(seed: int, height: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 8, (4, 2, 2))
    rois = np.concatenate([random.integers(0, 2, (4, 1)), corners.min(axis=1), corners.max(axis=1)], axis=1)
    inputs = [filled((2, 3, 7, 8), np.float32, seed), rois.astype(np.float32)]
    agree("MaxRoiPool", inputs, {"pooled_shape": [height, 2], "spatial_scale": scale}, opset=1)


BOXES = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 0, 1, 0.5]]], np.float32)
SCORES = np.array([[[0.9, 0.8, 0.7, 0.7]]], np.float32)


def suppressed(*inputs: np.ndarray, **attributes: int) -> list[int]:
    return [int(row[2]) for row in run("NonMaxSuppression", BOXES, SCORES, *inputs, opset=11, **attributes)]


def test_without_a_maximum_nothing_is_selected() -> None:
    assert run("NonMaxSuppression", BOXES, SCORES, opset=11).shape == (0, 3)


def test_overlap_equal_to_the_threshold_is_kept() -> None:
    assert suppressed(np.array([9]), np.array([0.5], np.float32)) == [0, 2, 3]
    assert suppressed(np.array([9]), np.array([0.49], np.float32)) == [0, 2]


def test_a_score_equal_to_the_threshold_is_kept() -> None:
    assert suppressed(np.array([9]), np.array([1.0], np.float32), np.array([0.7], np.float32)) == [0, 1, 2, 3]


def test_boxes_without_area_suppress_nothing() -> None:
    boxes = np.zeros((1, 2, 4), np.float32)
    got = run("NonMaxSuppression", boxes, np.ones((1, 1, 2), np.float32), np.array([5]), opset=11)
    assert len(got) == 2


@BOUNDED
@given(seed=st.integers(0, 999), center=st.integers(0, 1), limit=st.integers(1, 6), overlap=st.floats(0.1, 0.9))
def test_non_max_suppression_agrees(seed: int, center: int, limit: int, overlap: float) -> None:
    random = np.random.default_rng(seed)
    inputs = [
        random.uniform(0, 1, (2, 12, 4)).astype(np.float32),
        random.uniform(0, 1, (2, 3, 12)).astype(np.float32),
        np.array([limit]),
        np.array([overlap], np.float32),
        np.array([0.25], np.float32),
    ]
    agree("NonMaxSuppression", inputs, {"center_point_box": center}, opset=11, outputs=[TensorProto.INT64])
