"""An If whose branches give different ranks takes what follows into its branches."""

from __future__ import annotations

from onnx import NodeProto, TensorProto, helper

from webdnn_onnx.graph import Graph
from webdnn_onnx.infer import analyse_ranks
from webdnn_onnx.load import load


def _squeezed_or_not() -> Graph:
    """If(flag, Squeeze(x), x), then a Relu."""
    squeezed = helper.make_tensor_value_info("a", TensorProto.FLOAT, None)
    whole = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    then = helper.make_graph([helper.make_node("Squeeze", ["x", "axes"], ["a"])], "then", [], [squeezed])
    otherwise = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "else", [], [whole])
    nodes = [
        helper.make_node("If", ["flag"], ["z"], then_branch=then, else_branch=otherwise),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    graph = helper.make_graph(nodes, "ranks", inputs, [output], [axes])
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def test_what_follows_has_a_rank_in_each_branch() -> None:
    graph = analyse_ranks(_squeezed_or_not()).graph
    (node,) = graph.nodes
    assert node.op == "If"
    ranks = {tuple(inner.op for inner in branch.nodes): len(branch.outputs[0].shape) for branch in node.subgraphs}
    assert ranks == {("Squeeze", "Relu"): 1, ("Identity", "Relu"): 2}


def _with_symbols(nodes: list[NodeProto], shapes: dict[str, tuple[int, list[str | int]]]) -> Graph:
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "ranks", inputs, [output])
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def _ranks(graph: Graph) -> set[int]:
    """The ranks that the last value has in all innermost branches but those that contradict the sizes."""
    last = graph.nodes[-1]
    if last.op != "If":
        return {len(graph.value(last.outputs[0]).shape)}
    return {rank for branch in last.subgraphs if branch.nodes for rank in _ranks(branch)}


def test_a_squeeze_of_sizes_becomes_branches() -> None:
    nodes = [helper.make_node("Squeeze", ["x"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    graph = _with_symbols(nodes, {"x": (TensorProto.FLOAT, ["batch", 1, 3, "length"])})
    assert _ranks(analyse_ranks(graph).graph) == {1, 2, 3}


def test_a_reshape_to_a_shape_of_unknown_length_has_a_branch_for_each_rank() -> None:
    nodes = [helper.make_node("Reshape", ["x", "sizes"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    graph = _with_symbols(nodes, {"x": (TensorProto.FLOAT, [12]), "sizes": (TensorProto.INT64, ["rank"])})
    assert _ranks(analyse_ranks(graph).graph) == set(range(1, 9))
