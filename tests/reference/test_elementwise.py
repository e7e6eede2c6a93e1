"""Unary functions and activations: what onnxruntime cannot judge."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.erf import erf

NARROW = [np.float16, ml_dtypes.bfloat16]


def test_erf_is_exact_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), 10.0 ** np.arange(-300, 0, 7)])
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf(x), expected, rtol=1e-15)
    np.testing.assert_allclose(erf(x[:20001].astype(np.float32)), expected[:20001], rtol=3e-7)


def test_erf_of_infinities_and_zeros() -> None:
    result = erf(np.array([np.inf, -np.inf, 0.0, -0.0, np.nan]))
    np.testing.assert_array_equal(result, [1, -1, 0, 0, np.nan])
    assert np.signbit(result[3])


def test_erf_of_integers_truncates() -> None:
    np.testing.assert_array_equal(run("Erf", np.array([-9, 0, 1, 9], np.int32), opset=9), np.array([-1, 0, 0, 1]))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("op", ["Exp", "Tanh", "Sqrt", "Sigmoid", "Softplus", "Mish", "HardSwish", "Round"])
def test_narrow_floats_are_rounded_once(op: str, dtype: type) -> None:
    x = np.linspace(0.01, 4, 200).astype(dtype)
    exact = run(op, x.astype(np.float64), opset=24)
    got = run(op, x, opset=24)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, exact.astype(dtype))


@pytest.mark.parametrize("opset", [1, 6, 11])
def test_softmax_before_13_flattens_from_axis_1_on(opset: int) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    rows = np.exp(x.reshape(2, 12).astype(np.float64))
    expected = (rows / rows.sum(axis=1, keepdims=True)).reshape(2, 3, 4)
    np.testing.assert_allclose(run("Softmax", x, opset=opset), expected, rtol=1e-5)
    np.testing.assert_allclose(run("LogSoftmax", x, opset=opset), np.log(expected), rtol=1e-5)
    hard = run("Hardmax", x, opset=opset)
    assert hard.sum() == 2
    np.testing.assert_array_equal(hard.reshape(2, 12).argmax(axis=1), x.reshape(2, 12).argmax(axis=1))


def test_softmax_from_13_on_runs_along_the_last_axis() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    powers = np.exp(x.astype(np.float64))
    expected = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(run("Softmax", x, opset=13), expected, rtol=1e-5)


def test_softmax_of_an_empty_axis_is_empty() -> None:
    assert run("Softmax", np.zeros((2, 0), np.float32), opset=13).shape == (2, 0)
    assert run("Hardmax", np.zeros((2, 0), np.float32), opset=13).shape == (2, 0)


def test_softmax_of_a_rank_0_tensor_has_no_axis() -> None:
    with pytest.raises(ShapeError, match="axis: expected one in"):
        run("Softmax", np.zeros((), np.float32), opset=13)


def test_selu_1_has_constants_of_four_decimals() -> None:
    x = np.array([-1.0, 2.0])
    expected = [1.0507 * 1.6732 * math.expm1(-1), 1.0507 * 2]
    np.testing.assert_allclose(run("Selu", x, opset=1), expected, rtol=1e-7)


def test_prelu_1_reads_a_slope_of_c_elements_along_axis_1() -> None:
    x = -np.ones((2, 3, 2, 2), np.float32)
    y = run("PRelu", x, np.array([1, 2, 3], np.float32), opset=6)
    np.testing.assert_array_equal(y[0, :, 0, 0], [-1, -2, -3])


def test_clip_with_bounds_that_cross_gives_the_upper_one() -> None:
    x = np.array([-5, 0, 5], np.int32)
    np.testing.assert_array_equal(run("Clip", x, np.int32(3), np.int32(1), opset=13), [1, 1, 1])


def test_clip_6_takes_its_bounds_from_attributes() -> None:
    np.testing.assert_array_equal(run("Clip", np.array([-1.0, 9.0]), opset=6, min=0.0, max=6.0), [0, 6])


def test_clip_keeps_nan() -> None:
    assert np.isnan(run("Clip", np.array([np.nan]), np.array(0.0), np.array(1.0), opset=13))[0]


def test_swish_and_swiglu() -> None:
    a, b = np.linspace(-3, 3, 7), np.arange(7.0)
    swish = a / (1 + np.exp(-1.5 * a))
    np.testing.assert_allclose(run("Swish", a, opset=24, alpha=1.5), swish, rtol=1e-12)
    np.testing.assert_allclose(run("SwiGLU", a, b, opset=28, alpha=1.5), swish * b, rtol=1e-12)
    with pytest.raises(ShapeError, match="B: expected the shape of A"):
        run("SwiGLU", a, b[:1], opset=28)


def test_celu_of_a_large_input_does_not_overflow() -> None:
    x = np.array([1e4, -1e4, 0.0])
    np.testing.assert_allclose(run("Celu", x, opset=28, alpha=2.0), [1e4, -2.0, 0.0])


def test_gelu_refuses_an_unknown_approximation() -> None:
    with pytest.raises(InvalidModelError, match="approximate: expected 'none' or 'tanh'"):
        run("Gelu", np.zeros(1, np.float32), opset=20, approximate="quick")


def test_shrink_of_integers_truncates_the_bias() -> None:
    x = np.array([-3, -1, 0, 1, 3], np.int32)
    np.testing.assert_array_equal(run("Shrink", x, opset=9, lambd=1.5, bias=1.5), [-2, 0, 0, 0, 2])


def test_round_takes_halves_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    y = run("Round", x, opset=22)
    np.testing.assert_array_equal(y, [0, 2, 2, -0.0, -2])
    assert np.signbit(y[3])


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16, np.float16])
def test_is_nan_of_narrow_floats(dtype: type) -> None:
    x = np.array([1.0, np.nan]).astype(dtype)
    np.testing.assert_array_equal(run("IsNaN", x, opset=20), [False, True])


def test_is_inf_of_a_type_without_infinities_is_false() -> None:
    x = np.array([448.0, np.inf], np.float32).astype(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(run("IsInf", x, opset=20), [False, False])
