"""A whole graph as a tensor program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from webdnn_backends.ir.loops import Axis, Read
from webdnn_backends.ir.scalars import compute_type
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.registry import LOWERINGS, STRING_LOWERINGS
from webdnn_backends.lower.state import LoweringState
from webdnn_backends.te.tensors import Copy, Host, Stage, TensorProgram
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, UnsupportedOpError, describe_node
from webdnn_onnx.graph import Graph, Node, TensorType
from webdnn_onnx.symbolic import Dim

__all__ = ["lower_graph", "lower_nodes", "unsupported_nodes"]


def lower_graph(graph: Graph, known: Mapping[str, tuple[Dim, ...]]) -> TensorProgram:
    """The tensor program of a graph whose types are inferred.

    known: elements of small integer tensors as dimensions. Raises UnsupportedOpError for an operator, or a form of
    one, that has no lowering; DTypeError where the type or rank of a value is unknown.
    """
    state = LoweringState(known)
    with state.scope(graph) as items:
        inputs = tuple(state.tensor(value.name).name for value in graph.inputs)
        lower_nodes(state, graph)
        outputs = tuple(_output(state, value.name, set(inputs)) for value in graph.outputs)
        return TensorProgram(state.tensors, inputs, outputs, state.constants, tuple(items))


def lower_nodes(state: LoweringState, graph: Graph) -> None:
    """Lower every node of a graph whose scope is open."""
    for value in graph.inputs:
        state.bind_value(value.name)
    for name, array in graph.constants.items():
        tensor = state.tensor(name)
        if tensor.dtype is DType.STRING:
            options = {"dims": [int(size) for size in array.shape], "strings": [str(item) for item in array.ravel()]}
            state.items.append(Host("string_constant", (), (tensor.name,), options))
    for node in graph.nodes:
        _check_types(state, node)
        lower = STRING_LOWERINGS.find(node.op, node.opset, node.domain) if _has_strings(state, node) else None
        lower = lower or LOWERINGS.get(node.op, node.opset, node.domain, node.name)
        lower(NodeContext(state, node))
        for name in node.outputs:
            if name:
                state.bind_value(name)


def _check_types(state: LoweringState, node: Node) -> None:
    """Raise DTypeError for a tensor of 6-bit floats, which bundles do not store."""
    for name in filter(None, (*node.inputs, *node.outputs)):
        kind = state.value(name).type
        if isinstance(kind, TensorType) and kind.dtype.bits == 6:
            raise DTypeError(
                f"{describe_node(node.op, node.name, node.opset, node.domain)}: value '{name}': "
                f"expected an element type that bundles store, got {kind.dtype.value}; only the reference computes it"
            )


def _has_strings(state: LoweringState, node: Node) -> bool:
    """Whether an input or output is a tensor of strings."""
    kinds = (state.value(name).type for name in (*node.inputs, *node.outputs) if name)
    return any(isinstance(kind, TensorType) and kind.dtype is DType.STRING for kind in kinds)


def _output(state: LoweringState, name: str, inputs: set[str]) -> str:
    """The tensor of a model output; one that is an input or a constant gets a copy."""
    tensor = state.tensor(name)
    if tensor.name not in inputs and tensor.name not in state.constants:
        return tensor.name
    copy = state.add_tensor(name, tensor.dtype, tensor.shape, slot=tensor.slot)
    if tensor.slot:
        state.items.append(Copy(tensor.name, copy.name))
        return copy.name
    axes = tuple(Axis(f"i{position}", extent) for position, extent in enumerate(tensor.shape))
    body = Read(tensor.name, tuple(axis.var for axis in axes), compute_type(tensor.dtype))
    state.items.append(Stage(copy.name, axes, body))
    return copy.name


def unsupported_nodes(graph: Graph) -> list[str]:
    """One line per operator of the graph that has no lowering at its version, with the first node that uses it."""
    lines: dict[tuple[str, str, int], str] = {}
    for node in _with_nested(graph):
        try:
            LOWERINGS.get(node.op, node.opset, node.domain, node.source[0] if node.source else node.name)
        except UnsupportedOpError as error:
            lines.setdefault((node.domain, node.op, node.opset), str(error))
    return list(lines.values())


def _with_nested(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of the graphs nested in it."""
    for node in graph.nodes:
        yield node
        for subgraph in node.subgraphs:
            yield from _with_nested(subgraph)
