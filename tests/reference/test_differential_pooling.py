"""Pooling against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, filled


@st.composite
def pooling(draw: st.DrawFn, dilations: bool = True, ceil: bool = True) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The shape of X and the attributes; pads and strides are as small as onnxruntime asks for."""
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *(draw(st.integers(5, 8)) for _ in range(rank)))
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if draw(st.booleans()):
        attributes["strides"] = [draw(st.integers(1, size)) for size in kernel]
    padding = draw(st.sampled_from(["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if padding == "pads":
        attributes["pads"] = [draw(st.integers(0, size - 1)) for size in kernel * 2]
    elif padding != "none":
        attributes["auto_pad"] = padding
    if dilations and padding in ("none", "pads") and draw(st.booleans()):
        attributes["dilations"] = [draw(st.integers(1, 2)) for _ in range(rank)]
    if ceil and padding in ("none", "pads") and draw(st.booleans()):
        attributes["ceil_mode"] = 1
    return shape, attributes


@BOUNDED
@given(case=pooling(), seed=st.integers(0, 999), include=st.integers(0, 1))
def test_average_pool(case: tuple[Any, ...], seed: int, include: int) -> None:
    shape, attributes = case
    agree("AveragePool", [filled(shape, np.float32, seed)], attributes | {"count_include_pad": include}, opset=19)


@pytest.mark.parametrize("opset", [7, 10, 11])
@BOUNDED
@given(data=st.data(), seed=st.integers(0, 999))
def test_average_pool_of_earlier_versions(opset: int, data: st.DataObject, seed: int) -> None:
    shape, attributes = data.draw(pooling(dilations=False, ceil=opset >= 10))
    agree("AveragePool", [filled(shape, np.float32, seed)], attributes, opset=opset)


@BOUNDED
@given(case=pooling(), seed=st.integers(0, 999), dtype=st.sampled_from([np.float32, np.float64, np.int8, np.uint8]))
def test_max_pool(case: tuple[Any, ...], seed: int, dtype: type) -> None:
    shape, attributes = case
    kinds = {np.float32: 1, np.float64: 11, np.int8: 3, np.uint8: 2}
    agree("MaxPool", [filled(shape, dtype, seed, 20)], attributes, opset=12, outputs=[kinds[dtype]])


@BOUNDED
@given(case=pooling(), seed=st.integers(0, 999), order=st.integers(0, 1))
def test_max_pool_with_indices(case: tuple[Any, ...], seed: int, order: int) -> None:
    shape, attributes = case
    x = np.round(filled(shape, np.float32, seed))
    outputs = [TensorProto.FLOAT, TensorProto.INT64]
    agree("MaxPool", [x], attributes | {"storage_order": order}, opset=12, outputs=outputs)


@BOUNDED
@given(case=pooling(), seed=st.integers(0, 999), p=st.integers(1, 3))
def test_lp_pool(case: tuple[Any, ...], seed: int, p: int) -> None:
    shape, attributes = case
    agree("LpPool", [filled(shape, np.float32, seed)], attributes | {"p": p}, opset=18, rtol=1e-4)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5), (2, 3, 4, 5, 2)])
def test_global_pools(op: str, shape: tuple[int, ...]) -> None:
    agree(op, [filled(shape, np.float32, 1)], opset=2)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_lp_pool(p: int) -> None:
    agree("GlobalLpPool", [filled((2, 3, 4, 5), np.float32, 1)], {"p": p}, opset=2)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 2])
def test_max_unpool(rank: int, step: int) -> None:
    sizes = ((4 - 1) * step + 2,) * rank
    count = 2 * 3 * int(np.prod(sizes))
    indices = np.random.default_rng(1).permutation(count)[: 6 * 4**rank].reshape(2, 3, *[4] * rank)
    attributes = {"kernel_shape": [2] * rank, "strides": [step] * rank}
    agree("MaxUnpool", [filled((2, 3, *[4] * rank), np.float32, 1), indices], attributes, opset=11)
