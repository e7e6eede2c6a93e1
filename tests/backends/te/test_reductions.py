"""Reductions of single elements: by vectors where targets have them, terms kept where the output repeats them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.backends.te.compiled import compiled, model, random, run
from webdnn_backends.ir.show import show
from webdnn_backends.te.tensors import Call

SIZES = [1, 3, 7, 8, 9, 31, 32]


def softmax(x: np.ndarray) -> np.ndarray:
    terms: np.ndarray = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    shares: np.ndarray = terms / terms.sum(-1, keepdims=True)
    return shares


def kernels(content: bytes, target: str) -> str:
    return "\n".join(show(item.kernel) for item in compiled(content, target).items if isinstance(item, Call))


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", ["scalar", "vector", "parallel"])
def test_softmax(target: str, size: int, symbolic: bool) -> None:
    x = random(3, size)
    shape: list[int | str] = ["rows", "columns"] if symbolic else [3, size]
    content = model([helper.make_node("Softmax", ["x"], ["y"])], {"x": shape}, ["y"])
    np.testing.assert_allclose(run(content, {"x": x}, target)[0], softmax(x), rtol=1e-5)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean", "ReduceL2"])
@pytest.mark.parametrize("size", SIZES)
def test_reductions_over_several_axes(op: str, size: int) -> None:
    x = random(2, 3, size)
    content = model(
        [helper.make_node(op, ["x", "axes"], ["y"], keepdims=0)], {"x": [2, 3, size]}, ["y"], {"axes": np.array([1, 2])}
    )
    (got,) = run(content, {"x": x}, "vector")
    np.testing.assert_allclose(got, run(content, {"x": x}, "scalar")[0], rtol=1e-5)


def test_nan_stays_the_maximum() -> None:
    x = random(2, 20)
    x[0, 13] = np.nan
    content = model([helper.make_node("ReduceMax", ["x"], ["y"], axes=[1])], {"x": [2, 20]}, ["y"], opset=13)
    np.testing.assert_array_equal(run(content, {"x": x}, "vector")[0][:, 0], x.max(1))


def test_the_exponentials_of_a_softmax_are_computed_once() -> None:
    content = model([helper.make_node("Softmax", ["x"], ["y"])], {"x": [4, 64]}, ["y"])
    for target in ("scalar", "vector"):
        assert kernels(content, target).count("exp(") == 1


def test_terms_that_the_output_repeats_along_another_axis_are_not_kept() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axes"], ["s"], keepdims=0),
        helper.make_node("Div", ["e", "s"], ["y"]),
    ]
    x = random(8, 8)
    content = model(nodes, {"x": [8, 8]}, ["y"], {"axes": np.array([1])})
    expected = np.exp(x) / np.exp(x).sum(1)
    np.testing.assert_allclose(run(content, {"x": x}, "vector")[0], expected, rtol=1e-5)


def test_only_float32_terms_are_kept() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("IsInf", ["e"], ["i"]),
        helper.make_node("Cast", ["i"], ["c"], to=TensorProto.INT32),
        helper.make_node("ReduceMax", ["c", "axes"], ["m"]),
        helper.make_node("Add", ["c", "m"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    x = random(3, 16)
    x[1, 5] = 1000
    content = model(nodes, {"x": [3, 16]}, ["y"], {"axes": np.array([1])})
    infinite = (x > 100).astype(np.float32)
    for target in ("scalar", "vector"):
        np.testing.assert_array_equal(run(content, {"x": x}, target)[0], infinite + infinite.max(1, keepdims=True))
