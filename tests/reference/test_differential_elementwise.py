"""Unary functions and activations against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, array, shapes, specials
from webdnn_onnx.dtypes import DType

Array = np.ndarray[Any, Any]

UNARY = [
    ("Abs", 13), ("Acos", 22), ("Acosh", 22), ("Asin", 22), ("Asinh", 22), ("Atan", 22), ("Atanh", 22), ("Ceil", 13),
    ("Cos", 22), ("Cosh", 22), ("Erf", 13), ("Exp", 13), ("Floor", 13), ("Log", 13), ("Neg", 13), ("Reciprocal", 13),
    ("Round", 22), ("Sigmoid", 13), ("Sign", 13), ("Sin", 22), ("Sinh", 22), ("Softplus", 22), ("Softsign", 22),
    ("Sqrt", 13), ("Tan", 22), ("Tanh", 13), ("HardSwish", 22), ("Mish", 22), ("Relu", 14), ("IsNaN", 20),
]  # fmt: skip


@pytest.mark.parametrize(("op", "opset"), UNARY)
def test_unary_functions(op: str, opset: int) -> None:
    kind = TensorProto.BOOL if op == "IsNaN" else TensorProto.FLOAT
    for shape in ((), (0, 3), (2, 3, 5)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32) * 2
        agree(op, [np.asarray(x)], opset=opset, outputs=[kind])
    agree(op, [specials(np.float32)], opset=opset, outputs=[kind])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("op", ["Abs", "Neg", "Sign"])
def test_integer_functions(op: str, dtype: type) -> None:
    if op == "Neg" and dtype in (np.int16, np.uint8):
        pytest.skip("onnxruntime has no kernel (int16), the schema no type (uint8)")
    limits = np.iinfo(dtype)
    x = np.array([limits.min, limits.max, 0, 1, 3], dtype)
    agree(op, [x], opset=13, outputs=[DType.from_numpy(dtype).onnx])


@pytest.mark.parametrize(
    ("op", "opset", "names"),
    [
        ("Celu", 12, ("alpha",)), ("Elu", 22, ("alpha",)), ("HardSigmoid", 22, ("alpha", "beta")),
        ("LeakyRelu", 16, ("alpha",)), ("Selu", 22, ("alpha", "gamma")), ("Shrink", 9, ("bias", "lambd")),
        ("ThresholdedRelu", 22, ("alpha",)),
    ],
)  # fmt: skip
@BOUNDED
@given(data=st.data())
def test_activations_with_attributes(op: str, opset: int, names: tuple[str, ...], data: st.DataObject) -> None:
    x = data.draw(array([np.float32]))
    numbers = st.sampled_from([0.1, 0.5, 1.0, 1.7, 2.0])
    attributes = {name: data.draw(numbers) for name in names if data.draw(st.booleans())}
    agree(op, [x], attributes, opset=opset)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    x = np.linspace(-8, 8, 1001, dtype=np.float32)
    agree("Gelu", [x], {"approximate": approximate}, opset=20, atol=1e-6)


@pytest.mark.parametrize("opset", [9, 11, 13])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@BOUNDED
@given(data=st.data())
def test_softmax_family(op: str, opset: int, data: st.DataObject) -> None:
    x = data.draw(array([np.float32], shapes(1, 4)))
    least = 0 if opset == 9 else -x.ndim
    attributes = {"axis": data.draw(st.integers(least, x.ndim - 1))}
    if x.ndim > 1 and data.draw(st.booleans()):
        attributes = {}
    agree(op, [x], attributes, opset=opset)


@BOUNDED
@given(data=st.data())
def test_clip(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.uint64]))
    bound = st.one_of(st.none(), st.integers(0, 5))
    bounds = [None if value is None else np.array(value, x.dtype) for value in (data.draw(bound), data.draw(bound))]
    agree("Clip", [x, *bounds], opset=13, outputs=[DType.from_numpy(x.dtype).onnx])


@BOUNDED
@given(data=st.data())
def test_prelu(data: st.DataObject) -> None:
    x = data.draw(array([np.float32], shapes(1, 4)))
    shape = tuple(1 if data.draw(st.booleans()) else size for size in x.shape[data.draw(st.integers(0, x.ndim)) :])
    slope = data.draw(array([np.float32], st.just(shape)))
    agree("PRelu", [x, slope], opset=16)


@pytest.mark.parametrize("negative", [0, 1])
@pytest.mark.parametrize("positive", [0, 1])
def test_is_inf(negative: int, positive: int) -> None:
    attributes = {"detect_negative": negative, "detect_positive": positive}
    agree("IsInf", [specials(np.float32)], attributes, opset=20, outputs=[TensorProto.BOOL])
