"""Normalizations against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, array, filled, shapes

FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@BOUNDED
@given(x=array([np.float32], shapes(2, 5, empty=False)), seed=st.integers(0, 999), epsilon=st.sampled_from([1e-5, 0.1]))
def test_batch_normalization(opset: int, x: np.ndarray, seed: int, epsilon: float) -> None:
    scale, bias, mean, var = (filled((x.shape[1],), np.float32, seed + index) for index in range(4))
    agree("BatchNormalization", [x, scale, bias, mean, np.abs(var)], {"epsilon": epsilon}, opset=opset, rtol=1e-4)


def test_batch_normalization_in_training() -> None:
    x = filled((3, 4, 5, 6), np.float32, 1)
    scale, bias, mean, var = (filled((4,), np.float32, 2 + index) for index in range(4))
    attributes = {"training_mode": 1, "momentum": 0.7}
    agree("BatchNormalization", [x, scale, bias, mean, np.abs(var)], attributes, opset=15, outputs=[FLOAT] * 3)


@BOUNDED
@given(x=array([np.float32], shapes(3, 5, empty=False)), seed=st.integers(0, 999))
def test_instance_normalization(x: np.ndarray, seed: int) -> None:
    scale, bias = (filled((x.shape[1],), np.float32, seed + index) for index in range(2))
    agree("InstanceNormalization", [x, scale, bias], opset=6, rtol=1e-3, atol=1e-3)


@BOUNDED
@given(x=array([np.float32, np.float64], shapes(1, 4, empty=False)), data=st.data(), seed=st.integers(0, 999))
def test_layer_normalization(x: np.ndarray, data: st.DataObject, seed: int) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    shape = x.shape[axis:] if axis else x.shape
    bias = filled(shape, x.dtype, seed + 1) if data.draw(st.booleans()) else None
    attributes = {"axis": axis, "epsilon": 1e-3}
    kind = TensorProto.DOUBLE if x.dtype == np.float64 else FLOAT
    inputs = [x, filled(shape, x.dtype, seed), bias]
    agree("LayerNormalization", inputs, attributes, opset=17, outputs=[kind], rtol=1e-4, atol=1e-4)


def test_layer_normalization_statistics() -> None:
    inputs = [filled((2, 3, 4), np.float32, 1), filled((3, 4), np.float32, 2), filled((3, 4), np.float32, 3)]
    agree("LayerNormalization", inputs, {"axis": 1}, opset=17, outputs=[FLOAT] * 3)


@BOUNDED
@given(x=array([np.float32], shapes(1, 4, empty=False)), data=st.data(), seed=st.integers(0, 999))
def test_rms_normalization(x: np.ndarray, data: st.DataObject, seed: int) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    scale = filled(x.shape[axis:] if axis else x.shape, np.float32, seed)
    agree("RMSNormalization", [x, scale], {"axis": axis, "epsilon": 1e-3}, opset=23, rtol=1e-4)


@BOUNDED
@given(
    x=array([np.float32], shapes(4, 4, side=6, empty=False)),
    size=st.sampled_from([1, 3, 5]),
    alpha=st.sampled_from([1e-4, 0.1, 1.0]),
    bias=st.sampled_from([1.0, 2.0]),
)
def test_local_response_normalization(x: np.ndarray, size: int, alpha: float, bias: float) -> None:
    agree("LRN", [x], {"size": size, "alpha": alpha, "beta": 0.6, "bias": bias}, opset=13)


@BOUNDED
@given(x=array([np.float32, np.float64], shapes(1, 4, empty=False)), data=st.data(), p=st.sampled_from([1, 2]))
def test_lp_normalization(x: np.ndarray, data: st.DataObject, p: int) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    kind = TensorProto.DOUBLE if x.dtype == np.float64 else FLOAT
    agree("LpNormalization", [x], {"axis": axis, "p": p}, opset=1, outputs=[kind])


@BOUNDED
@given(x=array([np.float32], st.just((3, 4, 5, 2))), axes=st.sampled_from([(0, 2, 3), (0, 1, 2, 3)]))
def test_mean_variance_normalization(x: np.ndarray, axes: tuple[int, ...]) -> None:
    agree("MeanVarianceNormalization", [x], {"axes": axes}, opset=9, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(opset: int) -> None:
    size = 2 if opset == 18 else 6
    x = filled((2, 6, 3, 4), np.float32, 1)
    inputs = [x, filled((size,), np.float32, 2), filled((size,), np.float32, 3)]
    agree("GroupNormalization", inputs, {"num_groups": 2}, opset=opset, rtol=1e-4, atol=1e-4)
