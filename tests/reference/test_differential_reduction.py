"""Reductions, ArgMax, ArgMin and CumSum against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, array, shapes
from webdnn_onnx.dtypes import DType

REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


@st.composite
def some_axes(draw: st.DrawFn, rank: int) -> list[int]:
    chosen = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=rank)) if rank else []
    return [axis - rank if draw(st.booleans()) else axis for axis in chosen]


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("op", REDUCTIONS)
@BOUNDED
@given(data=st.data())
def test_reductions(op: str, opset: int, data: st.DataObject) -> None:
    logarithm = op in ("LogSum", "LogSumExp")
    dtypes = [np.float32, np.float64] if logarithm or op in ("L1", "L2") else [np.float32, np.int32]
    x = data.draw(array(dtypes, shapes(1, 4, empty=False), scale=2))
    if op == "LogSum":
        x = np.abs(x)
    if op == "Prod":  # onnxruntime saturates integer products
        x = np.clip(x, -1, 1)
    if op == "Mean" and x.dtype == np.int32:
        x = np.abs(x)
    axes = data.draw(some_axes(x.ndim))
    attributes: dict[str, object] = {"keepdims": data.draw(st.integers(0, 1))}
    inputs: list[np.ndarray | None] = [x]
    if opset >= (13 if op == "Sum" else 18):
        inputs.append(np.array(axes, np.int64) if axes or data.draw(st.booleans()) else None)
    elif axes:
        attributes["axes"] = axes
    agree(f"Reduce{op}", inputs, attributes, opset=opset, outputs=[DType.from_numpy(x.dtype).onnx])


@pytest.mark.parametrize("op", ["Max", "Min", "Prod", "Sum", "SumSquare", "L1", "L2", "LogSum", "LogSumExp"])
def test_reductions_of_nothing(op: str) -> None:
    x = np.zeros((2, 0, 3), np.float32)
    agree(f"Reduce{op}", [x, np.array([1], np.int64)], opset=18)
    agree(f"Reduce{op}", [x, np.array([0], np.int64)], opset=18)


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean", "LogSumExp"])
def test_reductions_at_infinities(op: str) -> None:
    x = np.array([[np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf, -np.inf, -np.inf], [np.inf, np.inf, 0]], np.float32)
    agree(f"Reduce{op}", [x, np.array([1], np.int64)], opset=18)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@BOUNDED
@given(data=st.data())
def test_arg_reductions(op: str, data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int32, np.uint8, np.float64], shapes(1, 4, empty=False), scale=0.6))
    x = np.round(x).astype(x.dtype)
    attributes = {
        "axis": data.draw(st.integers(-x.ndim, x.ndim - 1)),
        "keepdims": data.draw(st.integers(0, 1)),
        "select_last_index": data.draw(st.integers(0, 1)),
    }
    agree(op, [x], attributes, opset=13, outputs=[TensorProto.INT64])


@BOUNDED
@given(data=st.data())
def test_cumulative_sum(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.float64, np.int32, np.int64], shapes(1, 4)))
    assume(x.size)
    axis = np.array(data.draw(st.integers(-x.ndim, x.ndim - 1)), data.draw(st.sampled_from([np.int32, np.int64])))
    if data.draw(st.booleans()):
        axis = axis.reshape(1)
    attributes = {"exclusive": data.draw(st.integers(0, 1)), "reverse": data.draw(st.integers(0, 1))}
    agree("CumSum", [x, axis], attributes, opset=14, outputs=[DType.from_numpy(x.dtype).onnx])


@BOUNDED
@given(data=st.data())
def test_cumulative_product(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.float64, np.int32, np.int64], shapes(1, 4), scale=1.0))
    assume(x.size)
    axis = np.array(data.draw(st.integers(-x.ndim, x.ndim - 1)), np.int64)
    attributes = {"exclusive": data.draw(st.integers(0, 1)), "reverse": data.draw(st.integers(0, 1))}
    agree("CumProd", [x, axis], attributes, opset=26, outputs=[DType.from_numpy(x.dtype).onnx])
