"""What is fused and what is not, and that fused programs compute the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parent))
from compiled import TARGETS, compiled, model, random, run

from webdnn_backends.te.tensors import Call
from webdnn_reference import Interpreter

node = helper.make_node


def kernels(content: bytes, target: str = "scalar") -> list[str]:
    return [item.kernel.name for item in compiled(content, target).items if isinstance(item, Call)]


def test_an_elementwise_chain_is_one_kernel() -> None:
    content = model(
        [node("Relu", ["x"], ["a"]), node("Exp", ["a"], ["b"]), node("Neg", ["b"], ["y"])], {"x": [3, 5]}, ["y"]
    )
    assert len(kernels(content)) == 1


def test_a_value_with_two_readers_is_computed_once() -> None:
    nodes = [node("Exp", ["x"], ["a"]), node("Relu", ["a"], ["y"]), node("Neg", ["a"], ["z"])]
    assert len(kernels(model(nodes, {"x": [4]}, ["y", "z"]))) == 3


def test_an_epilogue_joins_its_product() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["c"]), node("Relu", ["c"], ["y"])]
    content = model(nodes, {"x": [4, 8]}, ["y"], {"w": random(8, 6), "b": random(6)})
    assert len(kernels(content)) == 1


def test_a_product_does_not_join_a_concatenation() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Concat", ["a", "x"], ["y"], axis=1)]
    assert len(kernels(model(nodes, {"x": [4, 8]}, ["y"], {"w": random(8, 8)}))) == 2


def test_an_exponential_is_not_recomputed_inside_a_product() -> None:
    nodes = [node("Exp", ["x"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    assert len(kernels(model(nodes, {"x": [4, 8]}, ["y"], {"w": random(8, 6)}))) == 2


def test_a_transpose_joins_the_product_that_reads_it() -> None:
    nodes = [node("Transpose", ["x"], ["a"], perm=[1, 0]), node("MatMul", ["a", "w"], ["y"])]
    assert len(kernels(model(nodes, {"x": [8, 4]}, ["y"], {"w": random(8, 6)}))) == 1


def test_an_embedding_is_looked_up_once_before_the_product_that_reads_it() -> None:
    nodes = [
        node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        node("Gather", ["table", "i"], ["a"]),
        node("MatMul", ["a", "w"], ["y"]),
    ]
    assert len(kernels(model(nodes, {"x": [4, 5]}, ["y"], {"table": random(9, 8), "w": random(8, 6)}))) == 2


def test_softmax_is_one_kernel() -> None:
    assert len(kernels(model([node("Softmax", ["x"], ["y"], axis=-1)], {"x": [4, 8]}, ["y"]))) == 1


def test_layer_normalization_is_one_kernel() -> None:
    nodes = [node("LayerNormalization", ["x", "s", "b"], ["y"])]
    assert len(kernels(model(nodes, {"x": [4, 8]}, ["y"], {"s": random(8), "b": random(8)}))) == 1


def test_a_reshape_of_stored_elements_is_a_view() -> None:
    shape = np.array([4, 2, 4], np.int64)
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Reshape", ["a", "s"], ["b"]),
        node("Transpose", ["b"], ["y"], perm=[1, 0, 2]),
    ]
    program = compiled(model(nodes, {"x": [4, 8]}, ["y"], {"s": shape, "w": random(8, 8)}))
    assert len(program.items) == 2
    assert program.aliases == {"b": "a"}


def test_every_refusal_has_a_reason() -> None:
    nodes = [node("Exp", ["x"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    program = compiled(model(nodes, {"x": [4, 8]}, ["y"], {"w": random(8, 6)}))
    assert [fusion.reason for fusion in program.fusions] == ["the operand of a matrix product is read from memory"]


SMALL = {
    "epilogue": (
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"]),
            node("Add", ["b", "x"], ["y"]),
        ],
        {"x": [2, 3, 6, 5]},
        {"w": random(3, 3, 3, 3)},
    ),
    "strided": (
        [node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[0, 1, 1, 0])],
        {"x": [1, 3, 7, 9]},
        {"w": random(5, 3, 3, 2)},
    ),
    "grouped": ([node("Conv", ["x", "w"], ["y"], group=2)], {"x": [1, 4, 5, 5]}, {"w": random(6, 2, 3, 3)}),
    "pooled": (
        [
            node("MaxPool", ["x"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Concat", ["a", "a"], ["y"], axis=1),
        ],
        {"x": [1, 4, 7, 7]},
        {},
    ),
    "averaged": ([node("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], pads=[1, 0, 1, 1])], {"x": [1, 2, 5, 5]}, {}),
    "softmax": ([node("Softmax", ["x"], ["y"], axis=1)], {"x": [2, 3, 4]}, {}),
    "squeezed": (
        [
            node("GlobalAveragePool", ["x"], ["a"]),
            node("Sigmoid", ["a"], ["b"]),
            node("Mul", ["x", "b"], ["y"]),
        ],
        {"x": [2, 3, 4, 4]},
        {},
    ),
    "attention": (
        [
            node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["x", "t"], ["s"]),
            node("Softmax", ["s"], ["p"], axis=-1),
            node("MatMul", ["p", "x"], ["y"]),
        ],
        {"x": [2, 5, 4]},
        {},
    ),
    "instance": (
        [node("InstanceNormalization", ["x", "s", "b"], ["y"])],
        {"x": [2, 3, 4, 5]},
        {"s": random(3), "b": random(3)},
    ),
    "gathered": (
        [node("Gather", ["x", "i"], ["a"], axis=1), node("Slice", ["a", "f", "l", "x2"], ["y"])],
        {"x": [3, 6, 2]},
        {
            "i": np.array([[4, -1], [0, 2]], np.int64),
            "f": np.array([1], np.int64),
            "l": np.array([-4], np.int64),
            "x2": np.array([0], np.int64),
        },
    ),
}
SMALL["gathered"][2]["l"] = np.array([3], np.int64)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SMALL)
def test_the_interpreted_program_agrees_with_the_reference(name: str, target: str) -> None:
    nodes, inputs, constants = SMALL[name]
    content = model(nodes, inputs, ["y"], constants)
    feeds = {key: random(*shape, seed=1) for key, shape in inputs.items()}
    expected = Interpreter(content, float64=True).run(feeds)["y"]
    (got,) = run(content, feeds, target)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 3), (4, 7)])
def test_symbolic_sizes_are_kernel_parameters(sizes: tuple[int, int]) -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Softmax", ["a"], ["y"], axis=-1)]
    content = model(nodes, {"x": ["batch", "length", 8]}, ["y"], {"w": random(8, 6)})
    feeds = {"x": random(*sizes, 8, seed=2)}
    expected = Interpreter(content, float64=True).run(feeds)["y"]
    (got,) = run(content, feeds, "vector")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_sum_does_not_join_rows_far_wider_than_itself() -> None:
    nodes = [node("ReduceSum", ["x", "axes"], ["a"], keepdims=0), node("Sub", ["z", "a"], ["y"])]
    content = model(nodes, {"x": [2, 5], "z": [9, 64, 2]}, ["y"], {"axes": np.array([1], np.int64)})
    assert len(kernels(content)) == 2
    nodes = [node("ReduceSum", ["x", "axes"], ["a"]), node("Sub", ["z", "a"], ["y"])]
    wide = model(nodes, {"x": [2, 5], "z": [2, 640]}, ["y"], {"axes": np.array([1], np.int64)})
    narrow = model(nodes, {"x": [2, 5], "z": [2, 5]}, ["y"], {"axes": np.array([1], np.int64)})
    assert (len(kernels(wide)), len(kernels(narrow))) == (2, 1)
