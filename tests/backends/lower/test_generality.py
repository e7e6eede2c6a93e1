"""Forms of operators that the published cases leave out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.lower.one_node import Array, agree, f32
from webdnn_onnx.convert import convert
from webdnn_onnx.dtypes import DType


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare", "ReduceMean", "ReduceMax"])
def test_a_reduction_over_no_axes_takes_norms_and_logarithms(op: str) -> None:
    agree(op, [np.abs(f32(2, 3))], {"noop_with_empty_axes": 1})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_erf_and_shrink_of_integers(dtype: type) -> None:
    x: Array = np.arange(-9, 9).astype(dtype)
    agree("Erf", [x], opset=9)
    for lambd, bias in ((-1.0, 0.0), (1.5, 2.7), (-3.0, -300.0), (1e9, 1.0)):
        agree("Shrink", [x], {"lambd": lambd, "bias": bias})


def test_a_scale_that_is_a_power_of_two_gives_float32() -> None:
    scale = np.array(2.0).astype(DType.FLOAT8E8M0.numpy)
    agree("DequantizeLinear", [np.array([1, 3], np.int8), scale], opset=24)


def test_one_scale_along_the_only_axis() -> None:
    agree("DequantizeLinear", [np.array([1, 3], np.int8), f32(2)])
    agree("DequantizeLinear", [np.array([1, 3], np.int8), f32(1)], symbolic=True)


def test_types_that_differ_between_inputs_and_outputs() -> None:
    scale = np.array(0.5, np.float16)
    agree("DequantizeLinear", [np.array([1, 3], np.int8), scale], {"output_dtype": TensorProto.FLOAT}, opset=24)
    agree("RMSNormalization", [f32(2, 3).astype(np.float64), f32(3)], opset=23)
    agree("LayerNormalization", [f32(2, 3).astype(np.float64), f32(3).astype(np.float64)], outputs=3)


def test_the_places_of_integers_without_positive_ones() -> None:
    x = np.arange(-12, 0, dtype=np.int8).reshape(1, 1, 3, 4)
    agree("MaxPool", [x], {"kernel_shape": [2, 2]}, outputs=2, opset=12)


def test_windows_that_do_not_fit_give_nothing() -> None:
    agree("AveragePool", [f32(1, 2, 1, 3)], {"kernel_shape": [3, 3]})


def test_lists_that_are_scalars() -> None:
    zero = np.array(0)
    agree("Slice", [f32(4, 3), zero + 1, zero + 3, np.array([0])])
    agree("Clip", [f32(4), np.array([-0.5], np.float32), np.array([[0.5]], np.float32)])


def test_strings_of_the_model_are_constants_of_the_host(tmp_path: Path) -> None:
    words = numpy_helper.from_array(np.array(["a", "b"], object), "words")
    kind = helper.make_tensor_value_info("x", TensorProto.STRING, [1])
    result = helper.make_tensor_value_info("y", TensorProto.STRING, [3])
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "words"], ["y"], axis=0)], "g", [kind], [result], [words]
    )
    convert(helper.make_model(graph, ir_version=10), tmp_path / "bundle", backends=("js",))
    steps = json.loads((tmp_path / "bundle/model.json").read_text())["programs"]["js"]["steps"]
    assert steps[0]["host"] == "string_constant"
    assert steps[0]["options"] == {"dims": [2], "strings": ["a", "b"]}


@pytest.mark.parametrize("symbolic", [False, True])
def test_scales_that_are_no_simple_fractions(symbolic: bool) -> None:
    scales = np.array([2.261268, 0.65470034], np.float32)
    for constant in ((1,), ()):
        agree("Resize", [f32(4, 3), scales], opset=10, constant=constant, symbolic=symbolic)
