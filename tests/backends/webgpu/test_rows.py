"""Reductions of rows compute what the generic schedule computes, in the interpreter and on Dawn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from webdnn_backends.te.compile import compile_program
from webdnn_backends.webgpu.target import TARGET
from webdnn_onnx.convert import prepare

sys.path.insert(0, str(Path(__file__).parent))
from stages import RunProbes, agree, on_device

from tests.backends.scheduled import model, normal

SOFTMAX: list[tuple[Sequence[int | str], tuple[int, ...], int]] = [
    ((3, 40), (3, 40), -1),
    ((1, 1031), (1, 1031), -1),
    ((2, 3, 5, 17), (2, 3, 5, 17), -1),
    ((2, 64, 7), (2, 64, 7), 1),
    (("batch", 3, "length"), (2, 3, 70), -1),
    (("batch", 37), (1, 37), -1),
]


@pytest.mark.parametrize(("shape", "size", "axis"), SOFTMAX, ids=str)
def test_softmax(shape: Sequence[int | str], size: tuple[int, ...], axis: int, run_probes: RunProbes) -> None:
    inputs = {"x": normal(*size)}
    node = helper.make_node("Softmax", ["x"], ["y"], axis=axis)
    fast = 1 if axis == -1 else 2
    on_device(agree(model([node], {"x": shape}, shape), inputs, fast), inputs, run_probes)


def test_log_softmax_of_large_values(run_probes: RunProbes) -> None:
    inputs = {"x": normal(5, 100) * 100}
    node = helper.make_node("LogSoftmax", ["x"], ["y"])
    on_device(agree(model([node], {"x": (5, 100)}, (5, 100)), inputs), inputs, run_probes)


@pytest.mark.parametrize("size", [(2, 7, 64), (1, 3, 129), (1, 1, 768)], ids=str)
def test_layer_normalization(size: tuple[int, ...], run_probes: RunProbes) -> None:
    inputs = {"x": normal(*size)}
    node = helper.make_node("LayerNormalization", ["x", "s", "b"], ["y"], epsilon=1e-5)
    data = model([node], {"x": size}, size, s=normal(size[-1]), b=normal(size[-1]))
    on_device(agree(data, inputs), inputs, run_probes)


def test_instance_normalization_of_images(run_probes: RunProbes) -> None:
    inputs = {"x": normal(2, 6, 9, 7)}
    node = helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"])
    data = model([node], {"x": (2, 6, 9, 7)}, (2, 6, 9, 7), s=normal(6), b=normal(6))
    on_device(agree(data, inputs), inputs, run_probes)


REDUCTIONS: list[tuple[str, tuple[int, ...], list[int], int]] = [
    ("ReduceMean", (4, 33, 50), [2], 1),
    ("ReduceSum", (4, 33, 50), [1, 2], 1),
    ("ReduceMax", (3, 64, 20), [1], 1),
    ("ReduceMin", (67, 3), [0], 1),
    ("ReduceProd", (2, 40), [1], 1),
    ("ReduceL2", (2, 3, 4, 31), [1, 3], 1),
    ("ReduceLogSumExp", (5, 61), [1], 1),
    ("ReduceSum", (9, 50, 40), [0, 1, 2], 2),
    ("ReduceMax", (3, 9001), [1], 2),
    ("ReduceSum", (4, 5, 8), [2], 0),
]


@pytest.mark.parametrize(("op", "shape", "axes", "kernels"), REDUCTIONS, ids=str)
def test_reductions(op: str, shape: tuple[int, ...], axes: list[int], kernels: int, run_probes: RunProbes) -> None:
    inputs = {"x": normal(*shape)}
    if op == "ReduceSum":
        node = helper.make_node(op, ["x", "axes"], ["y"], keepdims=0)
        data = model([node], {"x": shape}, ["n"] * (len(shape) - len(axes)), axes=np.array(axes, np.int64))
    else:
        node = helper.make_node(op, ["x"], ["y"], axes=axes, keepdims=0)
        data = model([node], {"x": shape}, ["n"] * (len(shape) - len(axes)))
    on_device(agree(data, inputs, kernels), inputs, run_probes)


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("channels", [10, 16, 35])
def test_global_pooling_behind_a_convolution(pool: str, channels: int, run_probes: RunProbes) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node(pool, ["a"], ["y"])]
    inputs = {"x": normal(2, 3, 9, 11)}
    data = model(nodes, {"x": (2, 3, 9, 11)}, ["n", "c", 1, 1], w=normal(channels, 3, 3, 3))
    compiled = agree(data, inputs, 2)
    on_device(compiled, inputs, run_probes)


def test_total_of_symbolic_extents(run_probes: RunProbes) -> None:
    inputs = {"x": normal(7, 30)}
    nodes = [helper.make_node("Sub", ["x", "c"], ["a"]), helper.make_node("ReduceSumSquare", ["a"], ["y"], keepdims=0)]
    on_device(agree(model(nodes, {"x": ("n", "m")}, [], c=normal(1)), inputs), inputs, run_probes)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (0, 40), (3, 0)])
def test_rows_of_few_or_no_elements(rows: int, columns: int) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"])
    inputs = {"x": normal(rows, columns)}
    agree(model([node], {"x": ("rows", "columns")}, ("rows", "columns")), inputs)


def test_many_neighbouring_rows_are_left_to_the_generic_schedule() -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)
    _, program = prepare(model([node], {"x": (2, 20, 3000)}, (2, 3000)))
    compiled = compile_program(program, TARGET)
    assert len(compiled.items) == 1
    agree(model([node], {"x": (2, 20, 3000)}, (2, 3000)), {"x": normal(2, 20, 3000)}, 0)
