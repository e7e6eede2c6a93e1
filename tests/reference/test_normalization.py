"""Normalizations: earlier versions, training, narrow floats."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run, run_all
from tests.reference.strategies import filled
from webdnn_onnx.errors import InvalidModelError, ShapeError

X = filled((3, 4, 5, 6), np.float64, 1)
SCALE, BIAS, MEAN = (filled((4,), np.float64, seed) for seed in (2, 3, 4))
VAR = np.abs(filled((4,), np.float64, 5)) + 0.1
PARAMETERS = (SCALE, BIAS, MEAN, VAR)


def column(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 1, 1)


def formula(mean: np.ndarray, var: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    return (X - column(mean)) / np.sqrt(column(var) + epsilon) * column(SCALE) + column(BIAS)


@pytest.mark.parametrize("opset", [1, 6, 7, 8, 9, 10, 13, 14, 15])
def test_batch_normalization_uses_the_given_statistics(opset: int) -> None:
    attributes = {"is_test": 1} if opset < 7 else {}
    got = run("BatchNormalization", X, *PARAMETERS, opset=opset, **attributes)
    np.testing.assert_allclose(got, formula(MEAN, VAR), rtol=1e-6)


@pytest.mark.parametrize(("opset", "count"), [(1, 5), (6, 5), (7, 5), (9, 5), (13, 5), (14, 3), (15, 3)])
def test_batch_normalization_in_training_uses_those_of_the_batch(opset: int, count: int) -> None:
    attributes = {"training_mode": 1} if opset >= 14 else {}
    outputs = run_all("BatchNormalization", X, *PARAMETERS, opset=opset, outputs=count, momentum=0.75, **attributes)
    mean, var = X.mean(axis=(0, 2, 3)), X.var(axis=(0, 2, 3))
    np.testing.assert_allclose(outputs[0], formula(mean, var), rtol=1e-6)
    np.testing.assert_allclose(outputs[1], MEAN * 0.75 + mean * 0.25, rtol=1e-12)
    np.testing.assert_allclose(outputs[2], VAR * 0.75 + var * 0.25, rtol=1e-12)
    if count == 5:
        np.testing.assert_allclose(outputs[3], mean, rtol=1e-12)
        np.testing.assert_allclose(outputs[4], var, rtol=1e-12)


@pytest.mark.parametrize("opset", [6, 7])
def test_batch_normalization_per_activation(opset: int) -> None:
    parameters = [np.abs(filled((4, 5, 6), np.float64, seed)) for seed in range(4)]
    attributes = {"is_test": 1} if opset < 7 else {}
    got = run("BatchNormalization", X, *parameters, opset=opset, spatial=0, **attributes)
    scale, bias, mean, var = parameters
    np.testing.assert_allclose(got, (X - mean) / np.sqrt(var + 1e-5) * scale + bias, rtol=1e-6)


def test_batch_normalization_of_rank_1_has_one_channel() -> None:
    one = np.array([2.0])
    got = run("BatchNormalization", np.array([1.0, 5.0]), one, one, one, one, opset=9)
    np.testing.assert_allclose(got, (np.array([1.0, 5.0]) - 2) / np.sqrt(2 + 1e-5) * 2 + 2)


def test_batch_normalization_15_mixes_types() -> None:
    x = X.astype(np.float16)
    parameters = [value.astype(np.float32) for value in PARAMETERS]
    outputs = run_all("BatchNormalization", x, *parameters, opset=15, outputs=3, training_mode=1)
    assert [value.dtype for value in outputs] == [np.float16, np.float32, np.float32]


def test_batch_normalization_names_a_parameter_of_the_wrong_size() -> None:
    with pytest.raises(ShapeError, match="scale: expected 4 elements"):
        run("BatchNormalization", X, SCALE[:3], BIAS, MEAN, VAR, opset=15)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3), (3, 4, 2, 2), (1, 6, 2, 3, 2)])
def test_local_response_normalization(size: int, shape: tuple[int, ...]) -> None:
    x = filled(shape, np.float64, 1)
    sums = np.zeros_like(x)
    for c in range(shape[1]):
        sums[:, c] = (x[:, max(0, c - (size - 1) // 2) : c + (size - 1 - (size - 1) // 2) + 1] ** 2).sum(axis=1)
    expected = x / (1.5 + 0.2 / size * sums) ** 0.7
    np.testing.assert_allclose(run("LRN", x, opset=13, size=size, alpha=0.2, beta=0.7, bias=1.5), expected)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_layer_normalization_of_float64_is_not_narrowed(axis: int) -> None:
    axes = tuple(range(axis % 4, 4))
    scale = filled(X.shape[axis:] if axis else X.shape, np.float64, 7)
    y, mean, inverse = run_all("LayerNormalization", X, scale, opset=17, outputs=3, axis=axis)
    expected_mean, deviation = X.mean(axis=axes, keepdims=True), np.sqrt(X.var(axis=axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, (X - expected_mean) / deviation * scale, rtol=1e-7)
    assert (mean.dtype, inverse.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inverse, 1 / deviation, rtol=1e-5)


def test_layer_normalization_statistics_of_the_oracle_are_float64() -> None:
    x, scale = X.astype(np.float32), np.ones(6, np.float32)
    outputs = run_all("LayerNormalization", x, scale, opset=17, outputs=3, float64=True)
    assert {value.dtype for value in outputs} == {np.dtype(np.float64)}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_narrow_values_are_rounded_before_they_are_scaled(op: str, dtype: type) -> None:
    x, scale = X.astype(dtype), filled((6,), np.float32, 2).astype(dtype)
    plain = run(op, x, np.ones(6, dtype), opset=23).astype(np.float32)
    expected = (plain * scale.astype(np.float32)).astype(dtype)
    got = run(op, x, scale, opset=23)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


def test_rms_normalization_has_the_type_of_its_scale() -> None:
    assert run("RMSNormalization", X.astype(np.float16), np.ones(6, np.float32), opset=23).dtype == np.float32


@pytest.mark.parametrize(("opset", "size"), [(18, 2), (21, 4)])
def test_group_normalization_scales_groups_then_channels(opset: int, size: int) -> None:
    scale, bias = np.arange(1.0, size + 1), np.arange(size) - 0.5
    grouped = X.reshape(3, 2, -1)
    normal = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    repeat = 4 // size
    expected = normal.reshape(X.shape) * column(scale.repeat(repeat)) + column(bias.repeat(repeat))
    got = run("GroupNormalization", X, scale, bias, opset=opset, num_groups=2)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_lp_normalization_of_zeros_is_zero() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(run("LpNormalization", x, opset=22), [[0, 0], [0.6, 0.8]])
    np.testing.assert_allclose(run("LpNormalization", x, opset=1, p=1), [[0, 0], [3 / 7, 4 / 7]])
    with pytest.raises(InvalidModelError, match="p: expected 1 or 2, got 3"):
        run("LpNormalization", x, opset=22, p=3)


def test_mean_variance_normalization_of_a_constant_is_zero() -> None:
    got = run("MeanVarianceNormalization", np.full((2, 3, 2, 2), 5.0), opset=13)
    np.testing.assert_array_equal(got, np.zeros((2, 3, 2, 2)))


def test_instance_normalization_of_rank_3() -> None:
    x = filled((2, 4, 9), np.float64, 1)
    got = run("InstanceNormalization", x, SCALE, BIAS, opset=22)
    normal = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(got, normal * SCALE.reshape(-1, 1) + BIAS.reshape(-1, 1), rtol=1e-6)
