"""Resize and Upsample: values worked out by hand, and onnxruntime as judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.reference.judge import agree
from tests.reference.one_node import run
from tests.reference.strategies import BOUNDED, filled
from webdnn_onnx.errors import InvalidModelError, ShapeError

RAMP = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)


def scales(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_opset_10_nearest_takes_the_sample_before_when_it_enlarges() -> None:
    got = run("Resize", RAMP, scales(1, 1, 1, 1.5), opset=10)
    np.testing.assert_array_equal(got[0, 0], [[1, 1, 2, 3, 3, 4], [5, 5, 6, 7, 7, 8]])


def test_opset_10_nearest_takes_the_sample_after_when_it_shrinks() -> None:
    np.testing.assert_array_equal(run("Resize", RAMP, scales(1, 1, 0.6, 0.6), opset=10)[0, 0], [[1, 3]])


def test_opset_10_linear_is_asymmetric() -> None:
    got = run("Resize", RAMP, scales(1, 1, 0.6, 0.6), opset=10, mode="linear")
    np.testing.assert_allclose(got[0, 0], [[1, 1 + 1 / 0.6]], rtol=1e-6)


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes"),
    [
        (1, (), {"width_scale": 2.0, "height_scale": 1.0}),
        (7, (), {"scales": (1.0, 1.0, 1.0, 2.0)}),
        (9, (scales(1, 1, 1, 2),), {}),
    ],
)
def test_upsample_repeats_samples(opset: int, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    got = run("Upsample", RAMP, *inputs, opset=opset, mode="nearest", **attributes)
    np.testing.assert_array_equal(got, RAMP.repeat(2, axis=3))


def test_tf_half_pixel_for_nn() -> None:
    row = np.arange(6, dtype=np.float32)
    got = run(
        "Resize",
        row,
        scales(),
        scales(),
        np.array([4]),
        opset=11,
        coordinate_transformation_mode="tf_half_pixel_for_nn",
        nearest_mode="floor",
    )
    np.testing.assert_array_equal(got, np.floor((np.arange(4) + 0.5) * 1.5))


def test_align_corners_divides_by_the_fractional_length() -> None:
    got = run(
        "Resize", np.arange(4.0), None, scales(0.6), opset=19, mode="linear",
        coordinate_transformation_mode="align_corners",
    )  # fmt: skip
    np.testing.assert_allclose(got, np.arange(2) * 3 / (np.float32(0.6) * 4 - 1), rtol=1e-6)


def test_half_pixel_symmetric_keeps_the_centre() -> None:
    got = run(
        "Resize", np.arange(5.0), None, scales(0.5), opset=19, mode="linear",
        coordinate_transformation_mode="half_pixel_symmetric",
    )  # fmt: skip
    np.testing.assert_allclose(got, [1.0, 3.0], rtol=1e-6)


def test_a_length_is_the_floor_of_the_product_with_the_float32_scale() -> None:
    assert run("Resize", np.zeros(10), None, scales(0.7), opset=19).shape == (6,)
    assert run("Resize", np.zeros(10), None, scales(1.1), opset=19).shape == (11,)


def test_coordinates_half_way_come_out_half_way() -> None:
    got = run("Resize", np.arange(6.0), None, None, np.array([5]), opset=19, nearest_mode="round_prefer_floor")
    np.testing.assert_array_equal(got, [0, 1, 2, 4, 5])
    got = run("Resize", np.arange(6.0), None, None, np.array([5]), opset=19, nearest_mode="round_prefer_ceil")
    np.testing.assert_array_equal(got, [0, 1, 3, 4, 5])


@pytest.mark.parametrize(("policy", "shape"), [("not_larger", (3, 4)), ("not_smaller", (6, 8)), ("stretch", (6, 4))])
def test_keep_aspect_ratio(policy: str, shape: tuple[int, ...]) -> None:
    got = run("Resize", np.zeros((3, 4)), None, None, np.array([6, 4]), opset=19, keep_aspect_ratio_policy=policy)
    assert got.shape == shape


def test_axes_may_be_given_in_any_order() -> None:
    x = filled((2, 3, 4), np.float32, 0)
    got = run("Resize", x, None, scales(2, 3), opset=18, axes=(-1, 0))
    np.testing.assert_array_equal(got, x.repeat(2, axis=2).repeat(3, axis=0))


def test_outside_the_region_is_the_extrapolation_value() -> None:
    got = run(
        "Resize", np.arange(4.0), np.array([0.0, 2.0]), None, np.array([3]), opset=13, mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0,
    )  # fmt: skip
    np.testing.assert_array_equal(got, [0, 3, 9])


def test_strings_and_bools_have_neighbours() -> None:
    got = run("Resize", np.array(["a", "b"], object), None, scales(2), opset=13)
    assert got.tolist() == ["a", "a", "b", "b"]


def test_interpolated_integers_are_cut_off() -> None:
    got = run("Resize", np.array([0, 3, -3], np.int8), None, scales(2), opset=13, mode="linear")
    np.testing.assert_array_equal(got, np.array([0, 0, 2, 1, -1, -3], np.int8))


def test_an_empty_result_needs_no_input() -> None:
    assert run("Resize", np.zeros((0, 3), np.float32), None, scales(2, 2), opset=13).shape == (0, 6)


def test_scales_and_sizes_exclude_each_other() -> None:
    with pytest.raises(InvalidModelError, match="scales and sizes"):
        run("Resize", np.zeros(3), None, scales(2), np.array([6]), opset=13)


def test_there_is_a_scale_for_each_axis() -> None:
    with pytest.raises(ShapeError, match="scales"):
        run("Resize", np.zeros((3, 3)), None, scales(2), opset=13)


FACTORS = st.sampled_from([1.0, 1.5, 2.0, 2.5, 3.0])
MODES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric", "align_corners"]


@BOUNDED
@given(data=st.data(), seed=st.integers(0, 999))
def test_resize_agrees(data: st.DataObject, seed: int) -> None:
    shape = tuple(data.draw(st.integers(2, 7)) for _ in range(2))
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    transformation = data.draw(st.sampled_from(MODES))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transformation}
    if mode == "nearest":
        choices = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attributes["nearest_mode"] = data.draw(st.sampled_from(choices))
    else:
        attributes["antialias"] = data.draw(st.integers(0, 1))
    if mode == "cubic":
        attributes["exclude_outside"] = data.draw(st.integers(0, 1))
    factors, sizes = None, None
    if data.draw(st.booleans()) or transformation == "align_corners":
        sizes = [data.draw(st.integers(1, 12)) for _ in range(2)]
        resized = sizes
    else:
        drawn = [data.draw(st.sampled_from([0.5, 0.75, 1.5, 2.0, 2.25])) for _ in range(2)]
        factors, resized = scales(1, 1, *drawn), [int(size * scale) for size, scale in zip(shape, drawn, strict=True)]
    # onnxruntime leaves an axis alone whose length does not change, and resamples antialiased edges differently.
    assume(all(new and new != old for new, old in zip(resized, shape, strict=True)))
    assume(mode == "nearest" or not attributes["antialias"] or "exclude_outside" not in attributes)
    inputs = [filled((1, 2, *shape), np.float32, seed), None, factors]
    if sizes is not None:
        inputs.append(np.array([1, 2, *sizes], np.int64))
    if mode == "nearest" and sizes is not None:
        # Computed in float32, onnxruntime's coordinates miss whole and half numbers by a rounding.
        positions = [(np.arange(new) * 2 + 1) * old / new for old, new in zip(shape, sizes, strict=True)]
        assume(all(np.abs(p - np.rint(p)).min() > 1e-3 for p in positions))
        assume(transformation not in ("asymmetric", "align_corners"))
    agree("Resize", inputs, attributes, opset=19, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("opset", [7, 9])
@BOUNDED
@given(mode=st.sampled_from(["nearest", "linear"]), height=FACTORS, width=FACTORS, seed=st.integers(0, 999))
def test_upsample_agrees(opset: int, mode: str, height: float, width: float, seed: int) -> None:
    x, factors = filled((1, 2, 3, 4), np.float32, seed), scales(1, 1, height, width)
    inputs = [x] if opset == 7 else [x, factors]
    attributes = {"mode": mode} | ({"scales": factors.tolist()} if opset == 7 else {})
    agree("Upsample", inputs, attributes, opset=opset, atol=1e-5)


@pytest.mark.parametrize(("policy", "lengths"), [("not_larger", (5, 7)), ("not_smaller", (6, 8))])
def test_align_corners_keeps_the_corners_whatever_the_policy(policy: str, lengths: tuple[int, int]) -> None:
    image = np.add.outer(np.arange(3.0) * 10, np.arange(4.0))
    got = run(
        "Resize", image, None, None, np.array([5, 8]), opset=19, mode="linear",
        coordinate_transformation_mode="align_corners", keep_aspect_ratio_policy=policy,
    )  # fmt: skip
    np.testing.assert_allclose(got, np.add.outer(np.linspace(0, 20, lengths[0]), np.linspace(0, 3, lengths[1])))
