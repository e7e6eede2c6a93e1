"""Arithmetic, comparisons, logic and variadic operators against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, array, broadcastable, filled, specials
from webdnn_onnx.dtypes import DType

INTEGERS = [np.int8, np.uint8, np.int32, np.int64, np.uint32, np.uint64]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@BOUNDED
@given(data=st.data())
def test_arithmetic(op: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64, *INTEGERS]))
    first, second = (filled(shape, dtype, data.draw(st.integers(0, 999))) for shape in data.draw(broadcastable(2)))
    if op == "Div" and first.dtype.kind in "iu":
        second = np.where(second == 0, 1, second).astype(dtype)
    agree(op, [first, second], opset=14, outputs=[DType.from_numpy(dtype).onnx])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"])
def test_arithmetic_at_special_values(op: str) -> None:
    x = specials(np.float32)
    agree(op, [x[:, None], x[None, :]], opset=13)


@pytest.mark.parametrize("fmod", [0, 1])
@BOUNDED
@given(data=st.data())
def test_mod(fmod: int, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([*INTEGERS, np.int16, *([np.float32, np.float64] if fmod else [])]))
    first, second = (filled(shape, dtype, data.draw(st.integers(0, 999))) for shape in data.draw(broadcastable(2)))
    second = np.where(second == 0, 2, second).astype(dtype)
    agree("Mod", [first, second], {"fmod": fmod}, opset=13, outputs=[DType.from_numpy(dtype).onnx])


@BOUNDED
@given(data=st.data())
def test_pow(data: st.DataObject) -> None:
    base, exponent = (data.draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64])) for _ in range(2))
    left, right = data.draw(broadcastable(2))
    first = filled(left, base, data.draw(st.integers(0, 999)), 1.5)
    second = filled(right, exponent, data.draw(st.integers(0, 999)), 1.0)
    if np.dtype(exponent).kind == "f":
        first = np.abs(first) + 1 if np.dtype(base).kind == "f" else np.abs(first)
        second = np.abs(second)
    else:
        second = np.abs(second)
    agree("Pow", [first, second.astype(exponent)], opset=15, outputs=[DType.from_numpy(base).onnx], rtol=1e-4)


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@BOUNDED
@given(data=st.data())
def test_comparisons(op: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64]))
    first, second = (filled(shape, dtype, data.draw(st.integers(0, 9)), 1) for shape in data.draw(broadcastable(2)))
    agree(op, [first, second], opset=19, outputs=[TensorProto.BOOL])


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
@BOUNDED
@given(data=st.data())
def test_logic(op: str, data: st.DataObject) -> None:
    first, second = (filled(shape, np.bool_, data.draw(st.integers(0, 9))) for shape in data.draw(broadcastable(2)))
    agree(op, [first, second], opset=7, outputs=[TensorProto.BOOL])


@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
@BOUNDED
@given(data=st.data())
def test_bitwise_logic(op: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(INTEGERS))
    first, second = (filled(shape, dtype, data.draw(st.integers(0, 9)), 30) for shape in data.draw(broadcastable(2)))
    agree(op, [first, second], opset=18, outputs=[DType.from_numpy(dtype).onnx])


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
def test_bit_shift(direction: str, dtype: type) -> None:
    x = filled((3, 4), dtype, 1, 30)
    places = np.array([0, 1, 3, 7], dtype)
    kind = DType.from_numpy(dtype).onnx
    agree("BitShift", [x, places], {"direction": direction}, opset=11, outputs=[kind])


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
@BOUNDED
@given(data=st.data())
def test_variadic(op: str, data: st.DataObject) -> None:
    dtypes = [np.float32, np.float64] if op in ("Max", "Min") else [np.float32]
    if op in ("Max", "Min"):
        dtypes += [np.int32, np.int64, np.uint64, np.int8]
    dtype = data.draw(st.sampled_from(dtypes))
    count = data.draw(st.integers(1, 4))
    inputs = [filled(shape, dtype, data.draw(st.integers(0, 999))) for shape in data.draw(broadcastable(count))]
    agree(op, inputs, opset=13, outputs=[DType.from_numpy(dtype).onnx])


@BOUNDED
@given(data=st.data())
def test_where(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8]))
    choice, left, right = data.draw(broadcastable(3))
    inputs = [filled(choice, np.bool_, 1), filled(left, dtype, 2), filled(right, dtype, 3)]
    agree("Where", inputs, opset=16, outputs=[DType.from_numpy(dtype).onnx])


@BOUNDED
@given(x=array([np.bool_]), y=array([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]))
def test_negations(x: np.ndarray, y: np.ndarray) -> None:
    agree("Not", [x], opset=1, outputs=[TensorProto.BOOL])
    agree("BitwiseNot", [y], opset=18, outputs=[DType.from_numpy(y.dtype).onnx])
