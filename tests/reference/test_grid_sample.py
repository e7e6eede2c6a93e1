"""GridSample and AffineGrid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.judge import agree
from tests.reference.one_node import run
from tests.reference.strategies import BOUNDED, filled
from webdnn_onnx.errors import ShapeError


def keys(t: float) -> list[float]:
    """Weights of the four samples around a position, by the cubic convolution kernel with a = -0.75."""
    a = -0.75
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (t, 1 - t)]
    far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1 + t, 2 - t)]
    return [far[0], near[0], near[1], far[1]]


@pytest.mark.parametrize("mode", ["bicubic", "cubic"])
def test_cubic_with_border_clamps_each_sample(mode: str) -> None:
    image = np.array([[[[1.0, 2.0, 4.0, 8.0]]]])
    x = 0.3
    grid = np.array([[[[(2 * x + 1) / 4 - 1, 0.0]]]])
    weights = keys(x)
    expected = weights[0] * 1 + weights[1] * 1 + weights[2] * 2 + weights[3] * 4
    got = run("GridSample", image, grid, opset=16 if mode == "bicubic" else 20, mode=mode, padding_mode="border")
    np.testing.assert_allclose(got.item(), expected, rtol=1e-6)


def test_reflection_about_the_edges() -> None:
    image = np.arange(4.0).reshape(1, 1, 1, 4)
    positions = np.array([-1.0, -0.5, 3.0, 4.2])
    grid = np.stack([(2 * positions + 1) / 4 - 1, np.zeros(4)], axis=-1).reshape(1, 1, 4, 2)
    got = run("GridSample", image, grid, opset=20, padding_mode="reflection")
    np.testing.assert_allclose(got.reshape(-1), [0, 0, 3, 2.8], atol=1e-6)


def test_nearest_takes_the_even_neighbour_half_way() -> None:
    image = np.arange(4.0).reshape(1, 1, 1, 4)
    grid = np.array([[-1 + 2 * 0.5 / 3, 0.0], [-1 + 2 * 1.5 / 3, 0.0], [0.9, 0.0]]).reshape(1, 1, 3, 2)
    got = run("GridSample", image, grid, opset=20, mode="nearest", align_corners=1)
    np.testing.assert_array_equal(got.reshape(-1), [0, 2, 3])


def test_a_nan_position_counts_as_minus_one() -> None:
    image = np.arange(1.0, 5.0).reshape(1, 1, 1, 4)
    grid = np.array([np.nan, 0.0]).reshape(1, 1, 1, 2)
    assert run("GridSample", image, grid, opset=20, align_corners=1).item() == 1


def test_volumes() -> None:
    volume = filled((2, 3, 2, 3, 4), np.float32, 0)
    centre = np.zeros((2, 1, 1, 1, 3), np.float32)
    got = run("GridSample", volume, centre, opset=20, align_corners=1)
    np.testing.assert_allclose(got[..., 0, 0, 0], volume[:, :, :, 1, 1:3].mean(axis=(2, 3)), rtol=1e-5)


def test_an_empty_batch() -> None:
    got = run("GridSample", np.zeros((0, 2, 3, 3), np.float32), np.zeros((0, 4, 5, 2), np.float32), opset=20)
    assert got.shape == (0, 2, 4, 5)


def test_the_grid_has_a_coordinate_for_each_axis() -> None:
    with pytest.raises(ShapeError, match="grid"):
        run("GridSample", np.zeros((1, 1, 2, 2)), np.zeros((1, 2, 2, 3)), opset=20)


@BOUNDED
@given(
    seed=st.integers(0, 999),
    mode=st.sampled_from(["bilinear", "nearest", "bicubic"]),
    padding=st.sampled_from(["zeros", "border", "reflection"]),
    align=st.integers(0, 1),
)
def test_grid_sample_agrees(seed: int, mode: str, padding: str, align: int) -> None:
    inputs = [filled((2, 3, 4, 5), np.float32, seed), filled((2, 3, 6, 2), np.float32, seed + 1, 1.2)]
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    agree("GridSample", inputs, attributes, opset=16, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("align", [0, 1])
def test_the_identity_map_gives_the_pixels_own_positions(align: int) -> None:
    theta = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
    grid = run("AffineGrid", theta, np.array([1, 1, 3, 4]), opset=20, align_corners=align)
    image = filled((1, 1, 3, 4), np.float32, 0)
    np.testing.assert_allclose(run("GridSample", image, grid, opset=20, align_corners=align), image, atol=1e-5)


@BOUNDED
@given(rank=st.integers(2, 3), align=st.integers(0, 1), seed=st.integers(0, 999), data=st.data())
def test_affine_grid_agrees(rank: int, align: int, seed: int, data: st.DataObject) -> None:
    # A single position lies in the middle here and at the beginning in onnxruntime, if corners are aligned.
    sizes = [data.draw(st.integers(1 + align, 4)) for _ in range(rank)]
    theta = filled((2, rank, rank + 1), np.float32, seed)
    agree("AffineGrid", [theta, np.array([2, 1, *sizes])], {"align_corners": align}, opset=20, atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_an_infinite_position_on_an_axis_of_one_sample(mode: str) -> None:
    x = np.array([[[[2.0], [3.0]]]], np.float32)
    at = np.array([[[[np.inf, -1.0], [-np.inf, 1.0]]]], np.float32)
    got = run("GridSample", x, at, opset=20, mode=mode, align_corners=1)
    np.testing.assert_allclose(got, [[[[2, 3]]]], rtol=1e-6)
