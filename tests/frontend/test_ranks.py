"""An If whose branches give different ranks takes what follows into its branches."""

from __future__ import annotations

from onnx import TensorProto, helper

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
