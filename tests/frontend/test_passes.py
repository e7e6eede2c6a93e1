from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.frontend.build import model, node
from webdnn_onnx.graph import Graph
from webdnn_onnx.infer import infer
from webdnn_onnx.load import load
from webdnn_onnx.passes import PIPELINE, Log, optimize
from webdnn_reference import Interpreter

RANDOM = np.random.default_rng(7)


def numbers(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RANDOM.uniform(0.5, 1.5, shape).astype(np.float32)


def graph_of(
    nodes: list[NodeProto], inputs: dict[str, Any], outputs: list[str] | None = None, opset: int = 17, **constants: Any
) -> Graph:
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    return infer(load(model(nodes, inputs, outputs or [nodes[-1].output[0]], arrays, opset)))


def check(graph: Graph, ops: list[str], tolerance: float = 1e-5) -> Graph:
    """Optimises, expects these operators, and the same answer to the same question; returns the result."""
    log = Log()
    optimized = optimize(graph, log)
    assert [each.op for each in optimized.nodes] == ops, "\n".join(map(str, log.firings))
    assert [value.name for value in optimized.outputs] == [value.name for value in graph.outputs]
    assert [value.name for value in optimized.inputs] == [value.name for value in graph.inputs]
    feeds = {value.name: numbers(*(int(str(dim)) for dim in value.shape)) for value in graph.inputs}
    expected, got = Interpreter(graph).run(feeds), Interpreter(optimized).run(feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=tolerance, atol=tolerance)
    return optimized


def declined(graph: Graph, reason: str) -> None:
    log = Log()
    optimize(graph, log)
    assert any(reason in firing.reason for firing in log.firings if not firing.fired), list(map(str, log.firings))


CONV = node("Conv", ["x", "w"], ["c"], name="conv")


@pytest.mark.parametrize("apply", PIPELINE, ids=lambda function: function.__name__)
def test_pass_that_has_nothing_to_do_returns_an_equal_graph(apply: Callable[[Graph, Log], Graph]) -> None:
    graph = graph_of([node("Relu", ["x"], ["y"])], {"x": [2]})
    log = Log()
    assert apply(graph, log) == graph
    assert not log.firings


def test_batch_normalization_joins_convolution() -> None:
    parameters = {name: numbers(4) for name in "sbmv"}
    nodes = [CONV, node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], name="norm")]
    optimized = check(graph_of(nodes, {"x": [1, 2, 5, 5]}, w=numbers(4, 2, 3, 3), **parameters), ["Conv"])
    assert optimized.nodes[0].source == ("conv", "norm")


def test_batch_normalization_joins_grouped_transposed_convolution() -> None:
    parameters = {name: numbers(6) for name in ("s", "b", "m", "v", "bias")}
    nodes = [
        node("ConvTranspose", ["x", "w", "bias"], ["c"], group=2, strides=[2, 2]),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    check(graph_of(nodes, {"x": [1, 4, 3, 3]}, w=numbers(4, 3, 2, 2), **parameters), ["ConvTranspose"])


def test_scale_and_shift_join_matrix_product() -> None:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["g"], transB=1),
        node("Mul", ["g", "s"], ["h"]),
        node("Sub", ["h", "t"], ["y"]),
    ]
    constants = {"w": numbers(4, 3), "b": numbers(4), "s": numbers(1, 4), "t": numbers(1)}
    check(graph_of(nodes, {"x": [2, 3]}, **constants), ["Gemm"])


def test_affine_map_of_result_read_elsewhere_stays() -> None:
    nodes = [CONV, node("Mul", ["c", "s"], ["y"])]
    graph = graph_of(nodes, {"x": [1, 2, 5, 5]}, ["y", "c"], w=numbers(4, 2, 3, 3), s=np.float32(2))
    check(graph, ["Conv", "Mul"])
    declined(graph, "read elsewhere")


def test_constant_that_varies_over_space_stays() -> None:
    nodes = [CONV, node("Mul", ["c", "s"], ["y"])]
    graph = graph_of(nodes, {"x": [1, 2, 5, 5]}, w=numbers(4, 2, 3, 3), s=numbers(3))
    check(graph, ["Conv", "Mul"])
    declined(graph, "not one element for each channel")


def test_zero_padding_joins_convolution() -> None:
    nodes = [node("Pad", ["x", "p"], ["q"]), node("Conv", ["q", "w"], ["y"], pads=[1, 0, 0, 1])]
    pads = np.array([0, 0, 1, 2, 0, 0, 3, 0])
    check(graph_of(nodes, {"x": [1, 2, 5, 5]}, p=pads, w=numbers(4, 2, 3, 3)), ["Conv"])


@pytest.mark.parametrize(
    ("attributes", "pads", "reason"),
    [({"mode": "reflect"}, [0, 0, 1, 1, 0, 0, 1, 1], "mode"), ({}, [0, 1, 1, 1, 0, 0, 1, 1], "batch or channels")],
)
def test_other_padding_stays(attributes: dict[str, Any], pads: list[int], reason: str) -> None:
    nodes = [node("Pad", ["x", "p"], ["q"], **attributes), node("Conv", ["q", "w"], ["y"])]
    channels = 2 + pads[1]
    graph = graph_of(nodes, {"x": [1, 2, 5, 5]}, p=np.array(pads), w=numbers(4, channels, 3, 3))
    check(graph, ["Pad", "Conv"])
    declined(graph, reason)


@pytest.mark.parametrize(("counts", "ops"), [(1, ["AveragePool"]), (0, ["Pad", "AveragePool"])])
def test_padding_joins_pooling_that_counts_it(counts: int, ops: list[str]) -> None:
    pool = node("AveragePool", ["q"], ["y"], kernel_shape=[2, 2], count_include_pad=counts)
    nodes = [node("Pad", ["x", "p"], ["q"]), pool]
    check(graph_of(nodes, {"x": [1, 2, 5, 5]}, p=np.array([0, 0, 1, 1, 0, 0, 0, 0])), ops)


def test_transposes_around_elementwise_operators_cancel() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        node("Relu", ["a"], ["b"]),
        node("Add", ["b", "k"], ["c"]),
        node("Transpose", ["c"], ["d"], perm=[0, 3, 1, 2]),
        node("Sigmoid", ["d"], ["y"]),
    ]
    check(graph_of(nodes, {"x": [1, 2, 3, 4]}, k=numbers(2)), ["Relu", "Add", "Sigmoid"])


def test_transposed_value_read_elsewhere_stays() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[1, 0]),
        node("Relu", ["a"], ["b"]),
        node("Transpose", ["b"], ["y"], perm=[1, 0]),
    ]
    check(graph_of(nodes, {"x": [2, 3]}, ["y", "a"]), ["Transpose", "Relu", "Transpose"])


NO_OPS = {
    "identity": node("Identity", ["a"], ["b"]),
    "dropout": node("Dropout", ["a"], ["b", "mask"]),
    "cast": node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
    "reshape": node("Reshape", ["a", "shape"], ["b"]),
    "expand": node("Expand", ["a", "one"], ["b"]),
    "transpose": node("Transpose", ["a"], ["b"], perm=[0, 1]),
    "concat": node("Concat", ["a"], ["b"], axis=0),
    "sum": node("Sum", ["a"], ["b"]),
    "slice": node("Slice", ["a", "zero", "far"], ["b"]),
    "pad": node("Pad", ["a", "zeros"], ["b"]),
    "times one": node("Mul", ["a", "unit"], ["b"]),
}


@pytest.mark.parametrize("name", NO_OPS)
def test_operator_that_computes_nothing_is_removed(name: str) -> None:
    constants = {
        "shape": np.array([2, 3]),
        "one": np.array([1]),
        "zero": np.array([0]),
        "far": np.array([2**40]),
        "zeros": np.zeros(4, np.int64),
        "unit": np.float32(1),
    }
    used = {key: array for key, array in constants.items() if key in NO_OPS[name].input}
    nodes = [node("Relu", ["x"], ["a"]), NO_OPS[name], node("Neg", ["b"], ["y"])]
    check(graph_of(nodes, {"x": [2, 3]}, **used), ["Relu", "Neg"])
    check(graph_of(nodes[:2], {"x": [2, 3]}, **used), ["Relu"])


def test_adding_zero_to_floats_stays() -> None:
    check(graph_of([node("Add", ["x", "k"], ["y"])], {"x": [2]}, k=np.float32(0)), ["Add"])


def test_output_that_is_an_input_or_a_constant_keeps_its_name() -> None:
    nodes = [node("Identity", ["x"], ["y"]), node("Add", ["k", "k"], ["z"])]
    optimized = check(graph_of(nodes, {"x": [2]}, ["y", "z"], k=numbers(2)), ["Identity"])
    assert list(optimized.constants) == ["z"]


def test_chain_of_identities_between_outputs_keeps_both_names() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Identity", ["a"], ["b"]), node("Identity", ["b"], ["c"])]
    check(graph_of(nodes, {"x": [2]}, ["a", "c"]), ["Relu", "Identity"])
    check(graph_of(nodes, {"x": [2]}, ["c", "b"]), ["Relu", "Identity"])


def test_equal_nodes_merge_and_random_ones_do_not() -> None:
    nodes = [node("Abs", ["x"], ["a"]), node("Abs", ["x"], ["b"]), node("Add", ["a", "b"], ["y"])]
    check(graph_of(nodes, {"x": [2]}), ["Abs", "Add"])
    draws = [node("RandomUniformLike", ["x"], [name]) for name in "ab"]
    graph = graph_of([*draws, node("Sub", ["a", "b"], ["y"])], {"x": [2]})
    assert len(optimize(graph).nodes) == 3


def test_constants_fold_but_are_not_blown_up() -> None:
    nodes = [node("ConstantOfShape", ["s"], ["a"]), node("Add", ["x", "a"], ["y"])]
    check(graph_of(nodes, {"x": [3]}, s=np.array([3])), ["Add"])
    graph = graph_of(nodes, {"x": [1]}, s=np.array([2**26]))
    assert [each.op for each in optimize(graph).nodes] == ["ConstantOfShape", "Add"]
    declined(graph, "more than")


def test_shape_of_fixed_input_folds() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "i"], ["t"]),
        node("Concat", ["t", "m"], ["u"], axis=0),
        node("Reshape", ["x", "u"], ["y"]),
    ]
    check(graph_of(nodes, {"x": [2, 3, 4]}, i=np.array([2]), m=np.array([-1])), ["Reshape"])


def test_branch_of_constant_condition_is_inlined() -> None:
    y = helper.make_empty_tensor_value_info("t")
    branches = {
        "then_branch": helper.make_graph([node("Relu", ["x"], ["t"])], "a", [], [y]),
        "else_branch": helper.make_graph([node("Neg", ["x"], ["t"])], "b", [], [y]),
    }
    check(graph_of([node("If", ["c"], ["y"], **branches)], {"x": [2]}, c=np.array(False)), ["Neg"])


def gelu_with_erf() -> list[NodeProto]:
    return [
        node("Div", ["x", "root"], ["a"]),
        node("Erf", ["a"], ["b"]),
        node("Add", ["b", "one"], ["c"]),
        node("Mul", ["x", "c"], ["d"]),
        node("Mul", ["d", "half"], ["y"]),
    ]


CONSTANTS = {"root": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)}


def test_gelu_with_erf_is_recognised() -> None:
    check(graph_of(gelu_with_erf(), {"x": [8]}, **CONSTANTS), ["Gelu"])


def test_gelu_with_another_constant_stays() -> None:
    graph = graph_of(gelu_with_erf(), {"x": [8]}, **{**CONSTANTS, "root": np.float32(1.5)})
    check(graph, ["Div", "Erf", "Add", "Mul", "Mul"])


def test_gelu_whose_inside_is_read_stays() -> None:
    graph = graph_of(gelu_with_erf(), {"x": [8]}, ["y", "b"], **CONSTANTS)
    check(graph, ["Div", "Erf", "Add", "Mul", "Mul"])
    declined(graph, "read elsewhere")


def test_gelu_with_tanh_is_recognised() -> None:
    nodes = [
        node("Pow", ["x", "three"], ["a"]),
        node("Mul", ["a", "k"], ["b"]),
        node("Add", ["x", "b"], ["c"]),
        node("Mul", ["c", "s"], ["d"]),
        node("Tanh", ["d"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Mul", ["x", "half"], ["g"]),
        node("Mul", ["g", "f"], ["y"]),
    ]
    values = {"three": 3, "k": 0.044715, "s": np.sqrt(2 / np.pi), "one": 1, "half": 0.5}
    constants = {name: np.float32(value) for name, value in values.items()}
    check(graph_of(nodes, {"x": [8]}, **constants), ["Gelu"])


def test_layer_normalization_is_recognised() -> None:
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[-1]),
        node("Sub", ["x", "m"], ["c"]),
        node("Pow", ["c", "two"], ["p"]),
        node("ReduceMean", ["p"], ["v"], axes=[-1]),
        node("Add", ["v", "eps"], ["e"]),
        node("Sqrt", ["e"], ["r"]),
        node("Div", ["c", "r"], ["d"]),
        node("Mul", ["d", "w"], ["s"]),
        node("Add", ["s", "b"], ["y"]),
    ]
    constants = {"two": np.float32(2), "eps": np.float32(1e-5), "w": numbers(6), "b": numbers(6)}
    optimized = check(graph_of(nodes, {"x": [2, 3, 6]}, opset=12, **constants), ["LayerNormalization"])
    assert len(optimized.nodes[0].source) == 9


def test_log_says_what_fired_and_why_not() -> None:
    log = Log()
    optimize(
        graph_of([CONV, node("Mul", ["c", "s"], ["y"])], {"x": [1, 2, 5, 5]}, w=numbers(4, 2, 3, 3), s=numbers(3)), log
    )
    assert "fuse_affine: conv, Mul:y: not: the other operand has shape [3]" in str(log.firings[0])
