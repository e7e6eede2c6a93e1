"""ConvTranspose with constant weights is a convolution with stride 1, and with others a gather; both mean the same."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.lower.one_node import Array, agree, f32
from webdnn_backends.te.compile import compile_program
from webdnn_backends.te.tensors import Call
from webdnn_backends.wasm.target import TARGET
from webdnn_onnx.convert import prepare

CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 4, 5), (3, 4, 2, 2), {"strides": [2, 2]}),
    ((1, 3, 4, 5), (3, 4, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ((1, 2, 5, 4), (2, 3, 3, 2), {"strides": [1, 3], "pads": [2, 0, 1, 1]}),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"dilations": [2, 1], "pads": [4, 0, 2, 3]}),
    ((1, 2, 5, 4), (2, 3, 3, 2), {"dilations": [2, 3], "strides": [2, 2]}),
    ((1, 2, 5, 4), (2, 3, 2, 1), {"strides": [3, 4]}),
    ((1, 4, 3, 3), (4, 2, 4, 4), {"strides": [2, 2], "group": 2, "pads": [1, 0, 0, 1]}),
    ((1, 3, 3, 3), (3, 1, 4, 4), {"strides": [2, 2], "group": 3}),
    ((1, 2, 4, 4), (2, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 4, 4), (2, 2, 3, 3), {"strides": [2, 2], "output_shape": [12, 9]}),
    ((1, 2, 4, 4), (2, 2, 2, 2), {"strides": [2, 2], "pads": [3, 2, 2, 3]}),
    ((2, 2, 5), (2, 3, 4), {"strides": [3], "pads": [1, 2]}),
    ((0, 2, 5), (2, 3, 4), {"strides": [3]}),
    ((1, 2, 2, 3, 2), (2, 3, 3, 2, 1), {"strides": [2, 2, 1], "pads": [1, 0, 0, 0, 1, 0]}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), CASES, ids=str)
def test_constant_weights(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> None:
    agree("ConvTranspose", inputs(x, w, attributes), attributes, constant=(1,))


@pytest.mark.parametrize(("x", "w", "attributes"), CASES, ids=str)
def test_constant_weights_and_symbolic_sizes(
    x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    agree("ConvTranspose", inputs(x, w, attributes), attributes, constant=(1, 2), symbolic=True)


@pytest.mark.parametrize(("x", "w", "attributes"), CASES, ids=str)
def test_weights_of_the_run(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> None:
    agree("ConvTranspose", inputs(x, w, attributes), attributes)


def inputs(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> list[Array]:
    return [f32(*x), f32(*w, seed=1), f32(w[1] * attributes.get("group", 1), seed=2)]


def test_an_upsampling_has_the_kernel_of_a_convolution() -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "upsampling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 16, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 12, 12))],
        [numpy_helper.from_array(f32(16, 8, 2, 2), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    _, program = prepare(model.SerializeToString())
    compiled = compile_program(program, TARGET)
    calls = [item for item in compiled.items if isinstance(item, Call)]
    assert any("#" in name for call in calls for name in call.arguments), "weights are packed for a fast kernel"
    assert not compiled.declined
    assert len(calls) <= 3
