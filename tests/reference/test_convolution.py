"""Convolution and pooling: what onnxruntime cannot judge."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run, run_all
from tests.reference.strategies import filled
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.ops import convolution


def direct_conv(x: np.ndarray, w: np.ndarray, group: int, stride: int, pad: int) -> np.ndarray:
    """Two-dimensional convolution as its formula, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    batch, _, height, width = x.shape
    features, members, rows, columns = w.shape
    y = np.zeros((batch, features, (height - rows) // stride + 1, (width - columns) // stride + 1))
    for n, m, i, j in np.ndindex(*y.shape):
        first = m // (features // group) * members
        window = x[n, first : first + members, i * stride : i * stride + rows, j * stride : j * stride + columns]
        y[n, m, i, j] = np.sum(window * w[m])
    return y


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_conv_follows_its_formula(group: int, stride: int, pad: int, dtype: type) -> None:
    x, w = filled((2, 4, 6, 5), dtype, 1, 1), filled((8, 4 // group, 3, 2), dtype, 2, 1)
    got = run("Conv", x, w, opset=22, group=group, strides=(stride,) * 2, pads=(pad,) * 4)
    expected = direct_conv(x, w, group, stride, pad)
    assert got.dtype == dtype
    if dtype in (np.float32, np.float64):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 if dtype == np.float32 else 1e-12)
    else:
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=float(ml_dtypes.finfo(dtype).eps), atol=1e-5)


def test_conv_in_slabs_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = filled((1, 3, 9, 8), np.float32, 1), filled((4, 3, 3, 3), np.float32, 2)
    whole = run("Conv", x, w, opset=11)
    monkeypatch.setattr(convolution, "_SLAB_ELEMENTS", 400)
    np.testing.assert_allclose(run("Conv", x, w, opset=11), whole, rtol=1e-5, atol=1e-5)


def test_conv_of_an_empty_batch_is_empty() -> None:
    assert run("Conv", np.zeros((0, 2, 5), np.float32), np.zeros((3, 2, 3), np.float32), opset=11).shape == (0, 3, 3)


def test_conv_transpose_of_an_empty_input_is_its_bias() -> None:
    x, w, b = np.zeros((1, 2, 0), np.float32), np.zeros((2, 1, 3), np.float32), np.array([5], np.float32)
    assert run("ConvTranspose", x, w, b, opset=11, strides=(2,)).shape == (1, 1, 1)
    assert run("ConvTranspose", x[:0], w, b, opset=11).shape == (0, 1, 2)


def test_conv_without_input_channels_is_its_bias() -> None:
    x, w, b = np.zeros((1, 0, 4), np.float32), np.zeros((2, 0, 3), np.float32), np.array([1, 2], np.float32)
    np.testing.assert_array_equal(run("Conv", x, w, b, opset=11), [[[1, 1], [2, 2]]])


def test_conv_with_wrong_channels_says_so() -> None:
    with pytest.raises(ShapeError, match="W channels: expected 3, got 4"):
        run("Conv", np.zeros((1, 3, 5, 5), np.float32), np.zeros((2, 4, 3, 3), np.float32), opset=11)


def direct_transpose(x: np.ndarray, w: np.ndarray, group: int, stride: int) -> np.ndarray:
    """One-dimensional transposed convolution as its formula."""
    batch, channels, size = x.shape
    members, taps = w.shape[1:]
    y = np.zeros((batch, members * group, stride * (size - 1) + taps))
    for n, c, i, m, k in itertools.product(range(batch), range(channels), range(size), range(members), range(taps)):
        y[n, c // (channels // group) * members + m, i * stride + k] += x[n, c, i] * w[c, m, k]
    return y


@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv_transpose_with_groups(group: int) -> None:
    x, w = filled((2, 4, 5), np.float64, 1), filled((4, 3, 3), np.float64, 2)
    got = run("ConvTranspose", x, w, opset=11, group=group, strides=(2,))
    np.testing.assert_allclose(got, direct_transpose(x, w, group, 2), rtol=1e-12)


@pytest.mark.parametrize(("auto_pad", "first"), [("SAME_UPPER", 0), ("SAME_LOWER", 1), ("NOTSET", 1)])
def test_conv_transpose_splits_odd_padding_as_the_specification_says(auto_pad: str, first: int) -> None:
    x, w = np.ones((1, 1, 3)), np.array([[[1.0, 10.0, 100.0]]])
    full = direct_transpose(x, w, 1, 2)[0, 0]
    got = run("ConvTranspose", x, w, opset=11, strides=(2,), output_shape=(6,), auto_pad=auto_pad)
    np.testing.assert_allclose(got[0, 0], full[first : first + 6])


def test_conv_transpose_to_a_larger_output_adds_zeros_at_the_end() -> None:
    got = run("ConvTranspose", np.ones((1, 1, 2)), np.ones((1, 1, 2)), opset=11, output_shape=(5,))
    np.testing.assert_array_equal(got[0, 0], [1, 2, 1, 0, 0])


def test_deform_conv_without_offsets_is_conv() -> None:
    x, w = filled((1, 4, 6, 5), np.float64, 1), filled((4, 2, 3, 3), np.float64, 2)
    offset = np.zeros((1, 2 * 9 * 2, 4, 3))
    got = run("DeformConv", x, w, offset, opset=19, group=2, offset_group=2)
    np.testing.assert_allclose(got, run("Conv", x, w, opset=11, group=2), rtol=1e-12)


def test_deform_conv_of_an_empty_batch_is_empty() -> None:
    x, w, offset = np.zeros((0, 2, 5, 5)), np.zeros((3, 2, 3, 3)), np.zeros((0, 18, 3, 3))
    assert run("DeformConv", x, w, offset, opset=19).shape == (0, 3, 3, 3)


def test_deform_conv_in_three_dimensions() -> None:
    x, w = filled((1, 2, 4, 5, 3), np.float64, 1), filled((3, 2, 2, 2, 2), np.float64, 2)
    offset = np.zeros((1, 8 * 3, 3, 4, 2))
    got = run("DeformConv", x, w, offset, opset=19)
    np.testing.assert_allclose(got, run("Conv", x, w, opset=11), rtol=1e-12)
    moved = offset.reshape(1, 8, 3, 3, 4, 2).copy()
    moved[:, :, 1] = 1
    shifted = np.concatenate([x[:, :, :, 1:], np.zeros_like(x[:, :, :, :1])], axis=3)
    got = run("DeformConv", x, w, moved.reshape(offset.shape), opset=19)
    np.testing.assert_allclose(got, run("Conv", shifted, w, opset=11), rtol=1e-12)


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool", "LpPool"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_pools_of_other_floats(op: str, dtype: type) -> None:
    x = filled((1, 2, 5, 6), dtype, 1)
    got = run(op, x, opset=22, kernel_shape=(2, 3), strides=(1, 2), pads=(1, 0, 0, 1))
    wide = run(op, x.astype(np.float64), opset=22, kernel_shape=(2, 3), strides=(1, 2), pads=(1, 0, 0, 1))
    assert got.dtype == dtype
    tolerance = 0.0 if op == "MaxPool" else float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(got.astype(np.float64), wide, rtol=tolerance)


def test_pools_with_a_kernel_larger_than_their_output() -> None:
    x = filled((1, 2, 9, 9), np.float64, 1)
    np.testing.assert_allclose(run("AveragePool", x, opset=7, kernel_shape=(9, 9))[..., 0, 0], x.mean(axis=(2, 3)))
    got = run("MaxPool", x, opset=10, kernel_shape=(4, 4), dilations=(2, 2))
    expected = np.array(
        [[[x[0, c, i : i + 7 : 2, j : j + 7 : 2].max() for j in range(3)] for i in range(3)] for c in range(2)]
    )
    np.testing.assert_array_equal(got[0], expected)


@pytest.mark.parametrize("opset", [10, 11, 19, 22])
def test_a_window_that_would_start_in_the_end_padding_is_ignored(opset: int) -> None:
    x = np.arange(1.0, 5.0).reshape(1, 1, 4)
    got = run("AveragePool", x, opset=opset, kernel_shape=(1,), strides=(2,), pads=(0, 1), ceil_mode=1)
    np.testing.assert_array_equal(got[0, 0], [1, 3])


def test_max_pool_indices_by_column() -> None:
    x = np.array([[[[1.0, 2.0, 3.0], [4.0, 9.0, 5.0]]]])
    for order, expected in ((0, 4), (1, 3)):
        _, indices = run_all("MaxPool", x, opset=12, outputs=2, kernel_shape=(2, 3), storage_order=order)
        assert indices.dtype == np.int64
        assert indices.ravel()[0] == expected


def test_max_pool_gives_nan_where_a_window_holds_one() -> None:
    x = np.array([[[1.0, np.nan, 2.0, 0.0]]])
    values, indices = run_all("MaxPool", x, opset=12, outputs=2, kernel_shape=(2,))
    np.testing.assert_array_equal(values, [[[np.nan, np.nan, 2]]])
    np.testing.assert_array_equal(indices, [[[1, 1, 2]]])
    np.testing.assert_array_equal(run("MaxPool", x, opset=12, kernel_shape=(2,)), values)


@pytest.mark.parametrize(
    ("shape", "op"), list(itertools.product([(2, 3, 7), (2, 3, 2, 3, 4)], ["Max", "Average", "Lp"]))
)
def test_global_pools_of_any_rank(shape: tuple[int, ...], op: str) -> None:
    x = filled(shape, np.float64, 1)
    axes = tuple(range(2, len(shape)))
    expected = {
        "Max": x.max(axis=axes, keepdims=True),
        "Average": x.mean(axis=axes, keepdims=True),
        "Lp": np.sqrt((x * x).sum(axis=axes, keepdims=True)),
    }
    np.testing.assert_allclose(run(f"Global{op}Pool", x, opset=22), expected[op], rtol=1e-12)


def test_lp_pool_1_takes_a_real_p_and_by_default_one_window() -> None:
    x = filled((1, 2, 4), np.float64, 1)
    expected = (np.abs(x) ** 1.5).sum(axis=2, keepdims=True) ** (1 / 1.5)
    np.testing.assert_allclose(run("LpPool", x, opset=1, p=1.5), expected)
    np.testing.assert_allclose(run("GlobalLpPool", x, opset=1, p=1.5), expected)


def test_max_unpool_undoes_max_pool() -> None:
    x = filled((2, 3, 6, 8), np.float32, 1)
    values, indices = run_all("MaxPool", x, opset=12, outputs=2, kernel_shape=(2, 2), strides=(2, 2))
    y = run("MaxUnpool", values, indices, opset=11, kernel_shape=(2, 2), strides=(2, 2))
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    assert np.count_nonzero(y) == values.size
    larger = run("MaxUnpool", values, indices, np.array([2, 3, 7, 9]), opset=11, kernel_shape=(2, 2), strides=(2, 2))
    np.testing.assert_array_equal(larger[:, :, :6, :8], y)
    assert not larger[:, :, 6:].any()


def test_max_unpool_refuses_indices_outside() -> None:
    with pytest.raises(InvalidModelError, match="I: expected indices in"):
        run("MaxUnpool", np.ones((1, 1, 1), np.float32), np.full((1, 1, 1), 9), opset=11, kernel_shape=(2,))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_convolutions_refuse_negative_pads(op: str) -> None:
    x, w = np.ones((1, 1, 5), np.float32), np.ones((1, 1, 2), np.float32)
    with pytest.raises(InvalidModelError, match=r"pads: expected entries that are not negative, got \[-1, 0\]"):
        run(op, x, w, opset=11, pads=(-1, 0))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_refuse_negative_pads(op: str) -> None:
    with pytest.raises(InvalidModelError, match=r"pads: expected entries that are not negative, got \[0, -1\]"):
        run(op, np.ones((1, 1, 5), np.float32), opset=11, kernel_shape=(2,), pads=(0, -1))


def test_output_padding_is_less_than_stride_or_dilation() -> None:
    x, w = np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2), np.float32)
    assert run("ConvTranspose", x, w, opset=11, strides=(2,), output_padding=(1,)).shape == (1, 1, 7)
    assert run("ConvTranspose", x, w, opset=11, dilations=(2,), output_padding=(1,)).shape == (1, 1, 6)
    with pytest.raises(InvalidModelError, match="output_padding: expected less than the stride or the dilation"):
        run("ConvTranspose", x, w, opset=11, strides=(2,), output_padding=(2,))


def test_conv_transpose_refuses_an_unknown_auto_pad() -> None:
    x, w = np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2), np.float32)
    with pytest.raises(InvalidModelError, match="auto_pad: expected NOTSET"):
        run("ConvTranspose", x, w, opset=11, auto_pad="SAME")


def test_conv_transpose_of_an_axis_without_elements_is_empty_with_automatic_padding() -> None:
    x, w = np.ones((1, 1, 2, 0), np.float32), np.ones((1, 1, 1, 1), np.float32)
    assert run("ConvTranspose", x, w, opset=11, strides=(1, 3), auto_pad="SAME_LOWER").shape == (1, 1, 2, 0)
