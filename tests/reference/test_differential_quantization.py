"""Quantization against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree, model, onnxruntime_outputs, reference_outputs
from tests.reference.strategies import BOUNDED, array, filled, shapes
from webdnn_onnx.dtypes import DType

EIGHT_BITS = [np.int8, np.uint8]
TYPES = [*EIGHT_BITS, np.int16, np.uint16]


def at_most_one_apart(
    op: str, inputs: list[np.ndarray | None], attributes: dict[str, object], opset: int, kind: int
) -> None:
    """Requantized values may round the other way where the exact quotient is all but a half."""
    data = model(op, inputs, attributes, opset, [kind])
    (expected,), (got,) = onnxruntime_outputs(data, inputs), reference_outputs(data, inputs)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    difference = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    assert difference.max(initial=0) <= 1
    assert np.count_nonzero(difference) <= max(1, got.size // 50)


@st.composite
def parameters(
    draw: st.DrawFn, x: np.ndarray, dtype: type, blocks: bool
) -> tuple[np.ndarray, np.ndarray | None, dict[str, int]]:
    """A scale, perhaps a zero point, and the axis attributes, of one granularity."""
    seed = draw(st.integers(0, 999))
    kind = draw(st.sampled_from(["tensor", "axis", "block"] if blocks else ["tensor", "axis"])) if x.ndim else "tensor"
    axis = draw(st.integers(-x.ndim, x.ndim - 1)) if x.ndim else 0
    shape: tuple[int, ...] = ()
    attributes: dict[str, int] = {}
    if kind == "axis":
        shape, attributes = (x.shape[axis],), {"axis": axis}
    elif kind == "block":
        size = draw(st.integers(1, 3))
        front = axis % x.ndim
        shape = (*x.shape[:front], -(-x.shape[front] // size), *x.shape[front + 1 :])
        attributes = {"axis": axis, "block_size": size}
    scale = np.asarray(np.abs(filled(shape, np.float32, seed, 0.05)) + np.float32(0.01))
    zero = filled(shape, dtype, seed + 1, 5) if draw(st.booleans()) or dtype != np.uint8 else None
    return scale, None if zero is None else np.asarray(zero), attributes


@pytest.mark.parametrize("opset", [10, 13, 21])
@BOUNDED
@given(data=st.data())
def test_quantize_linear(opset: int, data: st.DataObject) -> None:
    x = data.draw(array([np.float32], shapes(2, 4, empty=False)))
    dtype = data.draw(st.sampled_from(TYPES if opset >= 21 else EIGHT_BITS))
    scale, zero, attributes = data.draw(parameters(x, dtype, blocks=opset >= 21))
    if opset == 10:
        scale, zero, attributes = (
            scale.reshape(-1)[0].reshape(()),
            None if zero is None else zero.reshape(-1)[0].reshape(()),
            {},
        )
    agree("QuantizeLinear", [x, scale, zero], attributes, opset=opset, outputs=[DType.from_numpy(dtype).onnx])


@pytest.mark.parametrize("opset", [10, 13, 21])
@BOUNDED
@given(data=st.data())
def test_dequantize_linear(opset: int, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([*(TYPES if opset >= 21 else EIGHT_BITS), np.int32]))
    x = data.draw(array([dtype], shapes(2, 4, empty=False), scale=30))
    scale, zero, attributes = data.draw(parameters(x, dtype, blocks=opset >= 21))
    zero = None if dtype == np.int32 else zero
    if opset == 10:
        scale, zero, attributes = (
            scale.reshape(-1)[0].reshape(()),
            None if zero is None else zero.reshape(-1)[0].reshape(()),
            {},
        )
    agree("DequantizeLinear", [x, scale, zero], attributes, opset=opset)


@BOUNDED
@given(x=array([np.float32], shapes(1, 3, empty=False)))
def test_dynamic_quantize_linear(x: np.ndarray) -> None:
    outputs = [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8]
    agree("DynamicQuantizeLinear", [x], opset=11, outputs=outputs)


def test_dynamic_quantize_linear_of_zeros() -> None:
    outputs = [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8]
    agree("DynamicQuantizeLinear", [np.zeros((2, 3), np.float32)], opset=11, outputs=outputs)


@BOUNDED
@given(data=st.data(), seed=st.integers(0, 999))
def test_matmul_integer(data: st.DataObject, seed: int) -> None:
    left, right = data.draw(st.sampled_from(EIGHT_BITS)), data.draw(st.sampled_from(EIGHT_BITS))
    rows, inner, columns = (data.draw(st.integers(1, 5)) for _ in range(3))
    batch = data.draw(shapes(0, 2, 3, empty=False))
    a, b = filled((*batch, rows, inner), left, seed, 40), filled((inner, columns), right, seed + 1, 40)
    zeros: list[np.ndarray | None] = []
    if data.draw(st.booleans()):
        zeros = [
            np.asarray(filled((), left, seed + 2)),
            filled((columns,) if data.draw(st.booleans()) else (), right, seed + 3),
        ]
    agree("MatMulInteger", [a, b, *map(np.asarray, zeros)], opset=10, outputs=[TensorProto.INT32])


@BOUNDED
@given(data=st.data(), seed=st.integers(0, 999))
def test_qlinear_matmul(data: st.DataObject, seed: int) -> None:
    dtype = data.draw(st.sampled_from(EIGHT_BITS))
    a, b = filled((3, 4, 5), dtype, seed, 40), filled((5, 6), dtype, seed + 1, 40)
    scales = [np.float32(0.02), np.float32(0.03), np.float32(0.11)]
    zeros = [np.asarray(filled((), dtype, seed + 2 + index)) for index in range(3)]
    inputs = [a, np.array(scales[0]), zeros[0], b, np.array(scales[1]), zeros[1], np.array(scales[2]), zeros[2]]
    at_most_one_apart("QLinearMatMul", inputs, {}, 10, DType.from_numpy(dtype).onnx)


@BOUNDED
@given(data=st.data(), seed=st.integers(0, 999))
def test_qlinear_conv(data: st.DataObject, seed: int) -> None:
    group, per_channel = data.draw(st.sampled_from([1, 2])), data.draw(st.booleans())
    x = filled((2, 4, 6, 7), np.uint8, seed, 80)
    w = filled((6, 4 // group, 3, 2), np.int8, seed + 1, 40)
    w_scale = np.abs(filled((6,) if per_channel else (), np.float32, seed + 2, 0.02)) + np.float32(0.01)
    w_zero = np.zeros((6,) if per_channel else (), np.int8)
    bias = filled((6,), np.int32, seed + 3, 300) if data.draw(st.booleans()) else None
    inputs = [
        x, np.array(0.02, np.float32), np.array(100, np.uint8), w, np.asarray(w_scale, np.float32), w_zero,
        np.array(0.4, np.float32), np.array(120, np.uint8), bias,
    ]  # fmt: skip
    attributes = {"group": group, "pads": [1, 0, 1, 1], "strides": [2, 1]}
    at_most_one_apart("QLinearConv", inputs, attributes, 10, TensorProto.UINT8)
