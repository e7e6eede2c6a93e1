"""Stages without a schedule of their own: which compute four elements an invocation, and that they are right."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from webdnn_backends.ir.loops import Loop, LoopKind
from webdnn_backends.ir.statements import walk
from webdnn_backends.te.compile import CompiledProgram, compile_program
from webdnn_backends.te.generic import GenericOptions
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.webgpu.target import TARGET
from webdnn_onnx.convert import prepare

sys.path.insert(0, str(Path(__file__).parent))
from stages import RunProbes, on_device

from tests.backends.scheduled import GENERIC, model, normal

EAGER = replace(TARGET, options=GenericOptions(lanes=4, parallel=True, iterations=1))

node = helper.make_node


def steps(compiled: CompiledProgram) -> list[int]:
    """The largest step of a parallel loop in each kernel."""
    loops = [
        [item for item in walk(call.kernel.body) if isinstance(item, Loop) and item.kind is LoopKind.PARALLEL]
        for call in compiled.items
        if isinstance(call, Call)
    ]
    return [max((loop.step for loop in each), default=1) for each in loops]


CASES: list[tuple[str, list[Any], Sequence[int], int]] = [
    ("elementwise", [node("Mul", ["x", "x"], ["a"]), node("Exp", ["a"], ["y"])], (3, 4, 6), 4),
    ("odd", [node("Exp", ["x"], ["y"])], (3, 5), 1),
    ("transpose", [node("Transpose", ["x"], ["y"], perm=[1, 0])], (8, 4), 1),
    ("concatenation", [node("Concat", ["x", "x"], ["y"], axis=1)], (2, 6), 1),
    ("rows", [node("Concat", ["x", "x"], ["y"], axis=0)], (3, 8), 4),
]


@pytest.mark.parametrize(("name", "nodes", "shape", "step"), CASES, ids=[case[0] for case in CASES])
def test_stages_read_and_write_vectors_where_all_lies_side_by_side(
    name: str, nodes: list[Any], shape: Sequence[int], step: int, run_probes: RunProbes
) -> None:
    inputs = {"x": normal(*shape)}
    _, program = prepare(model(nodes, {"x": shape}, [f"d{axis}" for axis in range(len(shape))]))
    compiled = compile_program(program, EAGER)
    assert steps(compiled)[-1] == step, name
    expected = run_compiled(compile_program(program, GENERIC), inputs)[0]
    np.testing.assert_allclose(run_compiled(compiled, inputs)[0], expected, rtol=1e-5, atol=1e-6)
    on_device(compiled, inputs, run_probes)


def test_pooling_takes_four_channels_at_a_time(run_probes: RunProbes) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("MaxPool", ["a"], ["b"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
        node("Conv", ["c", "v"], ["y"]),
    ]
    weights = {"w": normal(8, 3, 1, 1), "v": normal(4, 8, 1, 1)}
    inputs = {"x": normal(1, 3, 9, 7)}
    _, program = prepare(model(nodes, {"x": (1, 3, 9, 7)}, ["n", "c", "h", "v"], **weights))
    compiled = compile_program(program, EAGER)
    assert steps(compiled)[1:3] == [4, 4]
    expected = run_compiled(compile_program(program, GENERIC), inputs)[0]
    np.testing.assert_allclose(run_compiled(compiled, inputs)[0], expected, rtol=1e-4, atol=1e-5)
    on_device(compiled, inputs, run_probes)


def test_few_elements_keep_an_invocation_each() -> None:
    _, program = prepare(model([node("Exp", ["x"], ["y"])], {"x": (64, 64)}, (64, 64)))
    assert steps(compile_program(program, TARGET)) == [1]
    _, program = prepare(model([node("Exp", ["x"], ["y"])], {"x": (512, 64)}, (512, 64)))
    assert steps(compile_program(program, TARGET)) == [4]


def test_symbolic_sizes_that_four_divides_are_vectors() -> None:
    _, program = prepare(model([node("Exp", ["x"], ["y"])], {"x": ("n", 64)}, ("n", 64)))
    assert steps(compile_program(program, TARGET)) == [4]
    _, program = prepare(model([node("Exp", ["x"], ["y"])], {"x": (64, "n")}, (64, "n")))
    assert steps(compile_program(program, TARGET)) == [4]
    _, program = prepare(model([node("Exp", ["x"], ["y"])], {"x": (3, "n")}, (3, "n")))
    assert steps(compile_program(program, TARGET)) == [1]
