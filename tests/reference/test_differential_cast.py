"""Cast against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import specials
from webdnn_onnx.dtypes import DType

NUMBERS = [
    DType.FLOAT16, DType.FLOAT32, DType.FLOAT64, DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8,
    DType.UINT16, DType.UINT32, DType.UINT64, DType.BOOL,
]  # fmt: skip


@pytest.mark.parametrize("target", NUMBERS, ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("source", NUMBERS, ids=lambda dtype: dtype.value)
def test_between_numbers(source: DType, target: DType) -> None:
    values = [0, 1, 2, 3, 100, 127] if source is not DType.BOOL else [0, 1]
    if source.is_float:
        values = [0, 0.5, 0.99, 1.5, 2.5, 100.25, 127]
    x = np.array(values).astype(source.numpy)
    if not source.is_unsigned_integer and source is not DType.BOOL and not target.is_unsigned_integer:
        x = np.concatenate([x, -x])
    agree("Cast", [x], {"to": target.onnx}, opset=19, outputs=[target.onnx], rtol=0, atol=0)


@pytest.mark.parametrize("source", [DType.INT64, DType.INT32, DType.UINT64], ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("target", [DType.INT8, DType.UINT8, DType.INT16, DType.UINT32], ids=lambda dtype: dtype.value)
def test_integers_out_of_range_lose_their_high_bits(source: DType, target: DType) -> None:
    x = np.array([200, 300, 70000, 2**31 - 1, 129]).astype(source.numpy)
    agree("Cast", [x], {"to": target.onnx}, opset=19, outputs=[target.onnx])


@pytest.mark.parametrize("target", [DType.FLOAT16, DType.FLOAT64, DType.BOOL], ids=lambda dtype: dtype.value)
def test_special_floats(target: DType) -> None:
    agree("Cast", [specials(np.float32)], {"to": target.onnx}, opset=19, outputs=[target.onnx])


@pytest.mark.parametrize("source", [np.int64, np.uint8, np.bool_, np.float32])
def test_to_strings(source: type) -> None:
    x = np.array([0, 1]) if source is np.bool_ else np.array([0, 1, 7, 120])
    values = x.astype(source)
    if source is np.float32:
        values = np.array([0, 1, -2.5, 0.1, 1e20, np.inf, -np.inf, np.nan, 123456.7], np.float32)
    agree("Cast", [values], {"to": TensorProto.STRING}, opset=19, outputs=[TensorProto.STRING])


@pytest.mark.parametrize(
    "target", [DType.FLOAT32, DType.FLOAT64, DType.INT32, DType.INT64], ids=lambda dtype: dtype.value
)
def test_from_strings(target: DType) -> None:
    x = np.array(["1", "-20", "3000"], object)
    if target.is_float:
        x = np.array(["1", "-2.5", "1e-5", "1E8", "INF", "-INF", "+INF", "NaN", "inf"], object)
    agree("Cast", [x], {"to": target.onnx}, opset=19, outputs=[target.onnx])
