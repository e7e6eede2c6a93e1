"""Stages with tiled kernels compute what the generic schedule computes, in the interpreter and on Dawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from webdnn_backends.ir.loops import Access, Loop, LoopKind
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.statements import walk
from webdnn_backends.te.compile import CompiledProgram, Target, compile_program
from webdnn_backends.te.fuse import Policy
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.webgpu.target import TARGET
from webdnn_onnx.convert import prepare
from webdnn_onnx.symbolic import evaluate

Array = npt.NDArray[Any]
RunProbes = Callable[..., dict[str, dict[str, Array]]]
GENERIC = Target("generic", Policy(tensors=16))
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def model(
    nodes: Sequence[Any], inputs: Mapping[str, Sequence[int | str]], output: Sequence[int | str], **weights: Array
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(proto.SerializeToString())


def tiled(call: Call) -> bool:
    return any(getattr(item, "kind", None) is LoopKind.WORKGROUP_X for item in walk(call.kernel.body))


def agree(data: bytes, inputs: Mapping[str, Array], fast: int = 1) -> CompiledProgram:
    """The model's output by the generic schedule and by the target's; `fast` kernels are tiled."""
    _, program = prepare(data)
    expected = run_compiled(compile_program(program, GENERIC), inputs)[0]
    compiled = compile_program(program, TARGET)
    assert sum(tiled(call) for call in compiled.items if isinstance(call, Call)) == fast, compiled.declined
    np.testing.assert_allclose(run_compiled(compiled, inputs)[0], expected, rtol=1e-4, atol=1e-4)
    return compiled


def probes_of(compiled: CompiledProgram, inputs: Mapping[str, Array]) -> list[Probe]:
    """Every kernel call with the arguments that it has in a run."""
    found: list[Probe] = []
    sizes = {
        str(size): actual
        for name in compiled.inputs
        for size, actual in zip(compiled.tensors[name].shape, inputs[name].shape, strict=True)
    }

    def observe(call: Call, memory: Mapping[str, Array]) -> None:
        parameters = [evaluate(dim, sizes) for dim in call.parameters]
        buffers = {}
        for buffer, argument in zip(call.kernel.buffers, call.arguments, strict=True):
            root = compiled.aliases.get(argument, argument)
            array = memory[root] if root in memory else compiled.constants[root].reshape(-1)
            buffers[buffer.name] = np.zeros_like(array) if buffer.access is not Access.READ else array.copy()
        named = dict(zip(call.kernel.parameters, parameters, strict=True))
        found.append(Probe(f"{len(found)}/{call.kernel.name}", call.kernel, buffers, named, absolute=1e-4))

    run_compiled(compiled, inputs, observe)
    return found


CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, int, int, int], tuple[int, int, int, int], int]] = [
    ({}, (1, 3, 9, 8), (10, 3, 3, 3), 1),
    ({"pads": [1, 1, 1, 1]}, (2, 5, 7, 7), (9, 5, 3, 3), 1),
    ({"pads": [0, 1, 2, 0], "strides": [2, 1]}, (1, 4, 8, 9), (16, 4, 3, 2), 1),
    ({}, (2, 6, 4, 5), (8, 6, 1, 1), 1),
    ({"strides": [2, 2]}, (1, 6, 5, 5), (8, 6, 1, 1), 1),
    ({"group": 6, "pads": [1, 1, 1, 1]}, (2, 6, 7, 6), (6, 1, 3, 3), 0),
    ({"dilations": [2, 2], "auto_pad": "SAME_UPPER"}, (1, 3, 9, 9), (8, 3, 3, 3), 1),
]


@pytest.mark.parametrize(("attributes", "x", "w", "fast"), CONVOLUTIONS, ids=str)
def test_convolutions(attributes: dict[str, Any], x: tuple[int, ...], w: tuple[int, ...], fast: int) -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    data = model([node], {"x": x}, ["n", "c", "h", "v"], w=normal(*w), b=normal(w[0]))
    agree(data, {"x": normal(*x)}, fast)


def block() -> tuple[bytes, dict[str, Array]]:
    """Convolutions in a row with a residual, activations and a pooling."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1", "c1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["e"]),
        helper.make_node("Mul", ["d", "e"], ["f"]),
        helper.make_node("MaxPool", ["f"], ["g"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["g", "w2"], ["y"]),
    ]
    weights = {"w0": normal(8, 3, 3, 3), "w1": normal(8, 8, 3, 3), "c1": normal(8), "w2": normal(5, 8, 1, 1)}
    return model(nodes, {"x": (2, 3, 10, 9)}, ["n", "c", "h", "v"], **weights), {"x": normal(2, 3, 10, 9)}


def test_convolutions_in_a_row_are_all_tiled() -> None:
    agree(*block(), fast=3)


def test_convolutions_in_a_row_run_on_the_device(run_probes: RunProbes) -> None:
    data, inputs = block()
    cases = probes_of(agree(data, inputs, fast=3), inputs)
    results = run_probes(cases)
    assert [case.difference(results[case.id]) for case in cases] == [None] * len(cases)


PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((7, 20), (20, 12)),
    ((1, 30), (30, 9)),
    ((2, 5, 16), (16, 8)),
    ((2, 3, 14, 6), (6, 10)),
    ((50, 60), (60, 3)),
]


@pytest.mark.parametrize(("a", "b"), PRODUCTS, ids=str)
def test_products_with_weights(a: tuple[int, ...], b: tuple[int, ...], run_probes: RunProbes) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["q"])]
    nodes.append(helper.make_node("Tanh", ["q"], ["y"]))
    inputs = {"x": normal(*a)}
    compiled = agree(model(nodes, {"x": a}, (*a[:-1], b[-1]), w=normal(*b), b=normal(b[-1])), inputs)
    cases = probes_of(compiled, inputs)
    results = run_probes(cases)
    assert [case.difference(results[case.id]) for case in cases] == [None] * len(cases)


def test_products_of_two_inputs_in_batches() -> None:
    inputs = {"x": normal(2, 3, 9, 8), "z": normal(2, 3, 8, 12)}
    node = helper.make_node("MatMul", ["x", "z"], ["y"])
    agree(model([node], {name: array.shape for name, array in inputs.items()}, (2, 3, 9, 12)), inputs)


def test_transposed_weights_are_packed_when_compiled() -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    compiled = agree(model([node], {"x": (20, 16)}, (20, 10), w=normal(10, 16), b=normal(10)), {"x": normal(20, 16)})
    packed = next(array for name, array in compiled.constants.items() if "#columns" in name)
    assert packed.shape == (16, 12)


def test_symbolic_rows(run_probes: RunProbes) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = {"x": normal(3, 7, 16)}
    compiled = agree(model([node], {"x": ("batch", "rows", 16)}, ("batch", "rows", 8), w=normal(16, 8)), inputs)
    cases = probes_of(compiled, inputs)
    results = run_probes(cases)
    assert [case.difference(results[case.id]) for case in cases] == [None] * len(cases)


def test_stages_that_do_not_separate_are_left_to_the_generic_schedule() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=6)
    _, program = prepare(model([node], {"x": (1, 6, 5, 5)}, ("n", "c", "h", "v"), w=normal(6, 1, 3, 3)))
    compiled = compile_program(program, replace(TARGET))
    assert list(compiled.declined.values()) == [
        "0 axes depend on one operand only, where there is to be one of columns"
    ]


@pytest.mark.parametrize("size", [7, "size"])
def test_generic_kernels_stay_parallel_in_all_output_axes(size: int | str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=6, pads=[1, 1, 1, 1])
    _, program = prepare(model([node], {"x": (2, 6, size, size)}, ("n", "c", "h", "v"), w=normal(6, 1, 3, 3)))
    (call,) = (item for item in compile_program(program, TARGET).items if isinstance(item, Call))
    kinds = [item.kind for item in walk(call.kernel.body) if isinstance(item, Loop)]
    assert kinds.count(LoopKind.PARALLEL) == 4
