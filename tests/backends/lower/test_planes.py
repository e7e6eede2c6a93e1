"""Convolutions over one and three axes, and those whose axes are renamed: as fast as over planes, and as right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.backends.lower.one_node import Array, agree, f32
from webdnn_backends.te.compile import CompiledProgram, compile_program
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.wasm.target import TARGET as WASM
from webdnn_backends.webgpu.target import TARGET as WEBGPU
from webdnn_onnx.convert import prepare
from webdnn_reference import Interpreter

TARGETS = {"wasm": WASM, "webgpu": WEBGPU}

CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 11), (4, 3, 3), {}),
    ((1, 3, 11), (4, 3, 3), {"pads": [1, 2], "strides": [2], "dilations": [2]}),
    ((1, 4, 9), (6, 2, 3), {"group": 2, "auto_pad": "SAME_UPPER"}),
    ((2, 8, 9), (8, 1, 5), {"group": 8, "pads": [2, 2]}),
    ((1, 3, 5), (4, 3, 5), {}),
    ((2, 3, 4, 5, 6), (4, 3, 2, 3, 3), {}),
    ((1, 3, 5, 4, 6), (4, 3, 3, 3, 1), {"pads": [1, 1, 0, 1, 0, 0], "strides": [2, 1, 2], "dilations": [1, 1, 2]}),
    ((2, 4, 3, 4, 4), (6, 2, 2, 2, 2), {"group": 2}),
    ((1, 4, 3, 4, 4), (4, 1, 3, 3, 3), {"group": 4, "pads": [1, 1, 1, 1, 1, 1]}),
]


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize(("x", "w", "attributes"), CASES, ids=str)
def test_convolutions(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any], symbolic: bool) -> None:
    agree("Conv", [f32(*x), f32(*w, seed=1), f32(w[0], seed=2)], attributes, constant=(1, 2), symbolic=symbolic)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("x", "w", "attributes"), CASES, ids=str)
def test_fast_kernels(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any], target: str) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["a"], **attributes), helper.make_node("Relu", ["a"], ["y"])]
    feeds = {"x": f32(*x)}
    compiled = checked(nodes, {"w": f32(*w, seed=1), "b": f32(w[0], seed=2)}, feeds, target)
    if target == "wasm":
        calls = [item for item in compiled.items if isinstance(item, Call)]
        assert any("#" in name and "padded" not in name for call in calls for name in call.arguments)


@pytest.mark.parametrize("target", TARGETS)
def test_a_convolution_whose_axes_move_keeps_them(target: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Reshape", ["a", "s"], ["b"]),
        helper.make_node("Transpose", ["b"], ["y"], perm=[0, 2, 1, 3]),
    ]
    constants = {"w": f32(6, 3, 1, 1), "s": np.array([6, 2, 1, 2])}
    checked(nodes, constants, {"x": f32(1, 3, 2, 2, seed=1)}, target)


def checked(
    nodes: list[NodeProto], constants: dict[str, Array], feeds: dict[str, Array], target: str
) -> CompiledProgram:
    """The compiled program, once its kernels give what the reference gives."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    _, program = prepare(model.SerializeToString())
    compiled = compile_program(program, TARGETS[target])
    expected = Interpreter(model).run(feeds)["y"]
    np.testing.assert_allclose(run_compiled(compiled, feeds)[0], expected, rtol=1e-4, atol=1e-5)
    return compiled
