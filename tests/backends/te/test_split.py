"""Stages that read more tensors than a kernel may bind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper

sys.path.insert(0, str(Path(__file__).parent))
from compiled import model, random

from webdnn_backends.lower import lower_graph
from webdnn_backends.te.compile import CompiledProgram, Target, compile_program
from webdnn_backends.te.fuse import Policy
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.webgpu.target import TARGET as WEBGPU
from webdnn_onnx.infer import analyse
from webdnn_onnx.load import load

node = helper.make_node
WHOLE = Target("js", Policy(tensors=64))
SPLIT = Target("js", Policy(tensors=7, split=True))


def compiled(content: bytes, target: Target) -> CompiledProgram:
    inference = analyse(load(content))
    return compile_program(lower_graph(inference.graph, inference.elements), target)


def calls(program: CompiledProgram) -> list[Call]:
    return [item for item in program.items if isinstance(item, Call)]


def same(content: bytes, feeds: dict[str, npt.NDArray[Any]], kernels: int) -> None:
    """The split program has so many kernels, none of which binds more than eight buffers, and computes the same."""
    whole, parts = compiled(content, WHOLE), compiled(content, SPLIT)
    assert any(len(call.kernel.buffers) > 8 for call in calls(whole))
    assert [len(call.kernel.buffers) <= 8 for call in calls(parts)] == [True] * kernels
    assert all(not call.placed for call in calls(compiled(content, WEBGPU)))
    for expected, got in zip(run_compiled(whole, feeds), run_compiled(parts, feeds), strict=True):
        np.testing.assert_array_equal(got, expected)


def _inputs(count: int, *shape: int) -> tuple[dict[str, list[int | str]], dict[str, npt.NDArray[Any]]]:
    names = [f"x{number}" for number in range(count)]
    return {name: list(shape) for name in names}, {name: random(*shape, seed=at) for at, name in enumerate(names)}


def test_a_sum_of_many_tensors() -> None:
    shapes, feeds = _inputs(12, 3, 5)
    same(model([node("Sum", list(shapes), ["y"])], shapes, ["y"]), feeds, kernels=2)


def test_a_part_has_only_the_axes_that_it_depends_on() -> None:
    shapes, feeds = _inputs(7, 4)
    nodes = [node("Sum", [*shapes, "m", "n"], ["y"])]
    content = model(nodes, {**shapes, "m": [3, 4], "n": [3, 4]}, ["y"])
    same(content, {**feeds, "m": random(3, 4), "n": random(3, 4, seed=9)}, kernels=2)
    program = compiled(content, SPLIT)
    (part,) = (tensor for name, tensor in program.tensors.items() if "#part" in name)
    assert part.shape == (4,)


@pytest.mark.parametrize("count", [8, 15, 30])
def test_a_concatenation_reads_no_element_outside_of_its_parts(count: int) -> None:
    shapes, feeds = _inputs(count, 2, 3)
    content = model([node("Concat", list(shapes), ["y"], axis=1)], shapes, ["y"])
    same(content, feeds, kernels=1 + -(-(count - 7) // 6))


def test_what_is_summed_up_is_split_too() -> None:
    shapes, feeds = _inputs(9, 2, 40)
    nodes = [node("Sum", list(shapes), ["a"]), node("ReduceSum", ["a"], ["y"], keepdims=0)]
    content = model(nodes, shapes, ["y"])
    assert all(len(call.kernel.buffers) <= 8 for call in calls(compiled(content, SPLIT)))
    expected = np.sum([feeds[name] for name in shapes], dtype=np.float64)
    np.testing.assert_allclose(run_compiled(compiled(content, SPLIT), feeds)[0], expected, rtol=1e-5)


def test_stages_of_few_tensors_stay_whole() -> None:
    shapes, _ = _inputs(7, 3)
    assert len(calls(compiled(model([node("Sum", list(shapes), ["y"])], shapes, ["y"]), SPLIT))) == 1
