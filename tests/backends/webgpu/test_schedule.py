"""Stages with tiled kernels compute what the generic schedule computes, in the interpreter and on Dawn."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from webdnn_backends.ir.loops import Loop, LoopKind
from webdnn_backends.ir.statements import walk
from webdnn_backends.te.compile import compile_program
from webdnn_backends.te.tensors import Call
from webdnn_backends.webgpu.target import TARGET
from webdnn_onnx.convert import prepare
from webdnn_onnx.errors import LimitError

sys.path.insert(0, str(Path(__file__).parent))
from stages import RunProbes, agree, on_device

from tests.backends.scheduled import Array, model, normal

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
    on_device(agree(data, inputs, fast=3), inputs, run_probes)


DEPTHWISE: list[tuple[dict[str, Any], int, tuple[int, int], tuple[int, int]]] = [
    ({"pads": [1, 1, 1, 1]}, 8, (7, 6), (3, 3)),
    ({"pads": [0, 0, 1, 1], "strides": [2, 2]}, 12, (8, 9), (3, 3)),
    ({}, 4, (5, 8), (2, 3)),
    ({"dilations": [2, 2], "pads": [2, 3, 2, 1]}, 4, (9, 11), (3, 3)),
    ({"pads": [2, 2, 2, 2]}, 64, (33, 29), (5, 5)),
    ({"pads": [1, 1, 1, 1]}, 128, (16, 16), (3, 3)),
    ({}, 4, (3, 3), (3, 3)),
]


@pytest.mark.parametrize(("attributes", "channels", "size", "kernel"), DEPTHWISE, ids=str)
def test_depthwise_convolutions(
    attributes: dict[str, Any], channels: int, size: tuple[int, int], kernel: tuple[int, int], run_probes: RunProbes
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("Conv", ["a", "w1", "c1"], ["b"], group=channels, **attributes),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["y"]),
    ]
    weights = {"w0": normal(channels, 2, 1, 1), "w1": normal(channels, 1, *kernel), "c1": normal(channels)}
    data = model(nodes, {"x": ("n", 2, *size)}, ["n", "c", "h", "v"], **weights, w2=normal(3, channels, 1, 1))
    inputs = {"x": normal(2, 2, *size)}
    on_device(agree(data, inputs, 3), inputs, run_probes)


def test_depthwise_convolutions_of_symbolic_images(run_probes: RunProbes) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["b"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "w2"], ["y"]),
    ]
    weights = {"w0": normal(8, 2, 1, 1), "w1": normal(8, 1, 3, 3), "w2": normal(3, 8, 1, 1)}
    data = model(nodes, {"x": (1, 2, "height", "width")}, ["n", "c", "h", "v"], **weights)
    inputs = {"x": normal(1, 2, 7, 10)}
    on_device(agree(data, inputs, 3), inputs, run_probes)


GROUPED: list[tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    ({"group": 2, "pads": [1, 1, 1, 1]}, (1, 8, 6, 7), (40, 4, 3, 3)),
    ({"group": 3}, (2, 24, 5, 5), (12, 8, 1, 1)),
    ({"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}, (1, 8, 9, 9), (12, 2, 3, 3)),
    ({"group": 6, "dilations": [2, 2]}, (1, 6, 9, 7), (12, 1, 3, 3)),
    ({"group": 2}, (1, 6, 5, 5), (14, 3, 2, 2)),
    ({"group": 3, "pads": [1, 1]}, (2, 9, 20), (15, 3, 3)),
    ({"group": 2}, (1, 8, 4, 1), (10, 4, 1, 1)),
]


@pytest.mark.parametrize(("attributes", "x", "w"), GROUPED, ids=str)
def test_grouped_convolutions(
    attributes: dict[str, Any], x: tuple[int, ...], w: tuple[int, ...], run_probes: RunProbes
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Conv", ["a", "w", "b"], ["c"], **attributes),
        helper.make_node("Sigmoid", ["c"], ["d"]),
        helper.make_node("Mul", ["c", "d"], ["y"]),
    ]
    data = model(nodes, {"x": x}, [f"d{axis}" for axis in range(len(x))], w=normal(*w), b=normal(w[0]))
    inputs = {"x": normal(*x)}
    compiled = agree(data, inputs, 1)
    assert not compiled.declined
    on_device(compiled, inputs, run_probes)


def test_grouped_convolutions_in_a_row_keep_their_layout(run_probes: RunProbes) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("Conv", ["a", "w1", "c1"], ["b"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "a"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w2"], ["y"], group=4),
    ]
    weights = {"w0": normal(32, 2, 1, 1), "w1": normal(32, 16, 3, 3), "c1": normal(32), "w2": normal(16, 8, 1, 1)}
    data = model(nodes, {"x": (2, 2, "height", "width")}, ["n", "c", "h", "v"], **weights)
    inputs = {"x": normal(2, 2, 6, 9)}
    on_device(agree(data, inputs, 3), inputs, run_probes)


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
    on_device(compiled, inputs, run_probes)


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
    on_device(compiled, inputs, run_probes)


def test_stages_that_do_not_separate_are_left_to_the_generic_schedule() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=6)
    _, program = prepare(model([node], {"x": (1, 6, 5, 5)}, ("n", "c", "h", "v"), w=normal(6, 1, 3, 3)))
    compiled = compile_program(program, replace(TARGET))
    assert list(compiled.declined.values()) == ["the channels of a pixel do not lie side by side"]


@pytest.mark.parametrize("size", [7, "size"])
def test_generic_kernels_stay_parallel_in_all_output_axes(size: int | str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=6, pads=[1, 1, 1, 1])
    _, program = prepare(model([node], {"x": (2, 6, size, size)}, ("n", "c", "h", "v"), w=normal(6, 1, 3, 3)))
    (call,) = (item for item in compile_program(program, TARGET).items if isinstance(item, Call))
    kinds = [item.kind for item in walk(call.kernel.body) if isinstance(item, Loop)]
    assert kinds.count(LoopKind.PARALLEL) == 4


def test_tensors_beyond_the_limit_of_a_buffer_are_named() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    _, program = prepare(model([node], {"x": (20000, 20000)}, (20000, 20000)))
    with pytest.raises(
        LimitError, match=r"tensor 'y': bytes of a storage buffer: expected at most 1073741824 .*1600000000"
    ):
        compile_program(program, TARGET)


def test_a_batch_of_more_products_than_workgroups_is_left_to_the_generic_schedule() -> None:
    shapes = {"x": (70000, 8, 2), "z": (70000, 2, 3)}
    _, program = prepare(model([helper.make_node("MatMul", ["x", "z"], ["y"])], shapes, (70000, 8, 3)))
    assert "70000 workgroups" in compile_program(program, TARGET).declined["y"]
