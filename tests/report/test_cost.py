"""What nodes cost, and how the cost is shared among kernel calls."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Graph, Node, TensorType, Value
from webdnn_onnx.report.cost import call_macs, node_cost
from webdnn_onnx.symbolic import Dim, symbol


def value(name: str, *shape: Dim, dtype: DType = DType.FLOAT32) -> Value:
    return Value(name, TensorType(dtype, shape))


def graph(batch: Dim = 1) -> Graph:
    values = [
        value("w", 16, 3, 3, 3),
        value("t", batch, 16, 8, 8),
        value("u", batch, 16, 8, 8),
        value("f", batch, 1024),
        value("m", 1024, 10),
        value("y", batch, 10),
    ]
    nodes = (
        Node("Conv", ("x", "w"), ("t",), opset=17, name="conv", source=("conv",)),
        Node("Relu", ("t",), ("u",), opset=17, name="relu", source=("relu",)),
        Node("Flatten", ("u",), ("f",), opset=17, name="flat", source=("flat",)),
        Node("Gemm", ("f", "m"), ("y",), opset=17, name="gemm", source=("gemm", "bias")),
    )
    named = {item.name: item for item in values}
    return Graph((value("x", batch, 3, 8, 8),), (value("y", batch, 10),), nodes, values=named)


def test_a_convolution_multiplies_every_output_by_its_filter() -> None:
    cost = node_cost(graph(), graph().nodes[0])
    assert cost.macs == 16 * 8 * 8 * 27
    assert cost.read == 4 * (3 * 64 + 16 * 27)
    assert cost.written == 4 * 16 * 64


def test_what_is_no_contraction_multiplies_nothing() -> None:
    assert node_cost(graph(), graph().nodes[1]).macs == 0


def test_symbolic_sizes_give_expressions() -> None:
    batch = symbol("batch")
    symbolic = graph(batch)
    assert str(node_cost(symbolic, symbolic.nodes[3]).macs) == "10240*batch"


def test_unknown_shapes_give_none() -> None:
    unknown = Graph((Value("x", None),), (Value("y", None),), (Node("MatMul", ("x", "x"), ("y",), opset=17),))
    cost = node_cost(unknown, unknown.nodes[0])
    assert (cost.macs, cost.read, cost.written) == (None, None, None)


def test_packed_elements_are_counted_in_bytes() -> None:
    packed = Graph(
        (value("x", 5, dtype=DType.INT4),), (value("y", 5, dtype=DType.INT4),), (Node("Identity", ("x",), ("y",)),)
    )
    assert node_cost(packed, packed.nodes[0]).read == 3


def test_calls_share_the_cost_and_count_it_once() -> None:
    calls = [("conv", "relu"), ("conv", "relu"), ("flat",), ("gemm", "bias")]
    assert call_macs(graph(), calls) == [16 * 64 * 27, 0, 0, 10240]
    assert call_macs(graph(symbol("batch")), calls) == [None, 0, 0, None]
