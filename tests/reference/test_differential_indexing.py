"""Operators that read, write and order by index against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, array, filled, shapes
from webdnn_onnx.dtypes import DType

ANY = [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_, np.float16]


def kind(x: np.ndarray[Any, Any]) -> int:
    return DType.from_numpy(x.dtype).onnx


def indices(data: st.DataObject, shape: tuple[int, ...], size: int, negative: bool = True) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    return random.integers(-size if negative else 0, size, shape).astype(dtype)


@BOUNDED
@given(data=st.data())
def test_gather(data: st.DataObject) -> None:
    x = data.draw(array(ANY, shapes(1, 4, empty=False)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    agree(
        "Gather",
        [x, indices(data, data.draw(shapes(0, 3)), x.shape[axis])],
        {"axis": axis},
        opset=13,
        outputs=[kind(x)],
    )


@BOUNDED
@given(data=st.data())
def test_gather_elements(data: st.DataObject) -> None:
    x = data.draw(array(ANY, shapes(1, 4, empty=False)))
    axis = data.draw(st.integers(0, x.ndim - 1))
    shape = tuple(data.draw(st.integers(1, 4 if other == axis else size)) for other, size in enumerate(x.shape))
    at = indices(data, shape, x.shape[axis])
    agree("GatherElements", [x, at], {"axis": axis}, opset=13, outputs=[kind(x)])


@BOUNDED
@given(data=st.data())
def test_gather_nd(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64], shapes(2, 4, empty=False)))
    batch = data.draw(st.integers(0, x.ndim - 1))
    depth = data.draw(st.integers(1, x.ndim - batch))
    shape = (*x.shape[:batch], *data.draw(shapes(0, 2)))
    columns = [indices(data, shape, x.shape[batch + axis]).astype(np.int64) for axis in range(depth)]
    agree("GatherND", [x, np.stack(columns, -1)], {"batch_dims": batch}, opset=13, outputs=[kind(x)])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@BOUNDED
@given(data=st.data())
def test_scatter_elements(reduction: str, data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64], shapes(1, 3, empty=False)))
    axis = data.draw(st.integers(0, x.ndim - 1))
    shape = tuple(data.draw(st.integers(1, size)) for size in x.shape)
    at = indices(data, shape, x.shape[axis])
    if reduction == "none":
        # Two updates of one place may be written in any order.
        at = np.argsort(np.random.default_rng(0).random(shape), axis).astype(np.int64)
    agree(
        "ScatterElements",
        [x, at, filled(shape, x.dtype, 1)],
        {"axis": axis, "reduction": reduction},
        opset=18,
        outputs=[kind(x)],
    )


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@BOUNDED
@given(data=st.data())
def test_scatter_nd(reduction: str, data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64], shapes(1, 3, empty=False)))
    depth = data.draw(st.integers(1, x.ndim))
    count = 1 if reduction == "none" else data.draw(st.integers(1, 4))
    columns = [indices(data, (count,), x.shape[axis]).astype(np.int64) for axis in range(depth)]
    updates = filled((count, *x.shape[depth:]), x.dtype, 1)
    agree("ScatterND", [x, np.stack(columns, -1), updates], {"reduction": reduction}, opset=18, outputs=[kind(x)])


@BOUNDED
@given(data=st.data())
def test_compress(data: st.DataObject) -> None:
    x = data.draw(array(ANY, shapes(1, 3, empty=False)))
    attributes = {"axis": data.draw(st.integers(-x.ndim, x.ndim - 1))} if data.draw(st.booleans()) else {}
    size = x.shape[attributes["axis"]] if attributes else x.size
    condition = filled((data.draw(st.integers(1, size)),), np.bool_, data.draw(st.integers(0, 99)))
    agree("Compress", [x, condition], attributes, opset=11, outputs=[kind(x)])


@BOUNDED
@given(x=array([np.float32, np.int64, np.bool_], shapes(1, 4)))
def test_non_zero(x: np.ndarray[Any, Any]) -> None:
    agree("NonZero", [np.where(np.abs(x) < 1, 0, x).astype(x.dtype)], opset=13, outputs=[TensorProto.INT64])


@BOUNDED
@given(data=st.data())
def test_top_k(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64, np.int32, np.float64], shapes(1, 4, empty=False), scale=1))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    k = np.array([data.draw(st.integers(0, x.shape[axis]))], np.int64)
    attributes = {"axis": axis, "largest": data.draw(st.integers(0, 1))}
    agree("TopK", [np.round(x).astype(x.dtype), k], attributes, opset=11, outputs=[kind(x), TensorProto.INT64])


@BOUNDED
@given(data=st.data())
def test_unique(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64, np.int8], shapes(1, 3, empty=False), scale=0.5))
    x = np.round(x).astype(x.dtype) + 0
    attributes: dict[str, int] = {"sorted": data.draw(st.integers(0, 1))}
    if data.draw(st.booleans()):
        attributes["axis"] = data.draw(st.integers(-x.ndim, x.ndim - 1))
    agree("Unique", [x], attributes, opset=11, outputs=[kind(x), *[TensorProto.INT64] * 3])


@BOUNDED
@given(data=st.data())
def test_one_hot(data: st.DataObject) -> None:
    at = indices(data, data.draw(shapes(1, 3)), 6).astype(np.int64)
    depth = np.array([4] if data.draw(st.booleans()) else 4, np.int64)
    axis = data.draw(st.integers(-at.ndim - 1, at.ndim))
    agree("OneHot", [at, depth, np.array([-1, 5], np.float32)], {"axis": axis}, opset=11)


@pytest.mark.parametrize("opset", [9, 10])
@BOUNDED
@given(data=st.data())
def test_scatter(opset: int, data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64, np.bool_], shapes(1, 3, empty=False)))
    axis = data.draw(st.integers(0, x.ndim - 1))
    shape = tuple(data.draw(st.integers(1, size)) for size in x.shape)
    at = np.argsort(np.random.default_rng(0).random(shape), axis).astype(np.int64)
    agree("Scatter", [x, at, filled(shape, x.dtype, 1)], {"axis": axis}, opset=opset, outputs=[kind(x)])


@BOUNDED
@given(data=st.data(), mode=st.sampled_from(["linear", "circular"]), axis=st.sampled_from([-2, 1, 2]))
def test_tensor_scatter(data: st.DataObject, mode: str, axis: int) -> None:
    past = filled((2, 3, 4, 5), np.float32, 0)
    steps = data.draw(st.integers(1, past.shape[axis]))
    shape = tuple(steps if at == axis % 4 else size for at, size in enumerate(past.shape))
    last = past.shape[axis] - (steps if mode == "linear" else 1)
    starts = [data.draw(st.integers(0, last)) for _ in range(2)]
    inputs = [past, filled(shape, np.float32, 1), np.array(starts) if data.draw(st.booleans()) else None]
    agree("TensorScatter", inputs, {"mode": mode, "axis": axis}, opset=24)
