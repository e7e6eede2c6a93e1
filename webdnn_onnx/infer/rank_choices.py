"""Squeeze and Reshape whose rank depends on sizes, written as If by those sizes.

Squeeze without axes removes a dimension that is 1, which a symbolic one may be; Reshape takes its rank from the length
of its shape, which may be symbolic too. Both become Ifs whose branches have known ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_onnx.graph import Attribute, Graph, Node, Shape, TensorType, Type, Value

__all__ = ["with_choices"]

_MOST_SQUEEZED = 3
"""A Squeeze of more symbolic dimensions than this keeps its unknown rank: each doubles what follows."""

_MOST_RANK = 8
"""The highest rank that tensors have."""


def with_choices(graph: Graph, inferred: Graph, around: Mapping[str, Type | None] | None = None) -> Graph | None:
    """The graph with its first node of unknown rank that can be written as Ifs written so; None where there is none.

    inferred: the same graph with types; nested graphs are searched too. around: the types of what a nested graph sees.
    """
    types = {**(around or {}), **_types(inferred)}
    for index, (node, typed) in enumerate(zip(graph.nodes, inferred.nodes, strict=True)):
        written = _written(node, types)
        if written is not None:
            nodes = (*graph.nodes[:index], *written.nodes, *graph.nodes[index + 1 :])
            return replace(graph, nodes=nodes, constants={**graph.constants, **written.constants})
        for name, attribute in node.attributes.items():
            body = typed.attributes[name]
            # A branch that contradicts the sizes around it has lost its nodes.
            if isinstance(attribute, Graph) and isinstance(body, Graph) and len(body.nodes) == len(attribute.nodes):
                changed = with_choices(attribute, body, types)
                if changed is not None:
                    new = replace(node, attributes={**node.attributes, name: changed})
                    return replace(graph, nodes=(*graph.nodes[:index], new, *graph.nodes[index + 1 :]))
    return None


@dataclass
class _Writing:
    """Nodes and constants in place of one node; `names` start with the name of its output."""

    node: Node
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.node.outputs[0]}~{self.count}"

    def constant(self, value: int | Sequence[int]) -> str:
        name = self.name()
        self.constants[name] = np.array(value, np.int64)
        return name

    def make(
        self, op: str, inputs: Sequence[str], output: str = "", attributes: Mapping[str, Attribute] | None = None
    ) -> Node:
        node = self.node
        return Node(op, tuple(inputs), (output or self.name(),), attributes or {}, "", node.opset, "", node.source)

    def add(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Attribute) -> str:
        node = self.make(op, inputs, output, attributes)
        self.nodes.append(node)
        return node.outputs[0]

    def squeezed(self, source: str, axes: Sequence[int], output: str = "") -> Node:
        if self.node.opset < 13:
            return self.make("Squeeze", [source], output, {"axes": tuple(axes)})
        return self.make("Squeeze", [source, self.constant(axes)], output)

    def choose(self, condition: str, then: Graph, otherwise: Graph, output: str = "") -> str:
        return self.add("If", [condition], output, then_branch=then, else_branch=otherwise)


def _graph(*nodes: Node) -> Graph:
    return Graph((), (Value(nodes[-1].outputs[0], None),), nodes)


def _types(graph: Graph) -> dict[str, Type | None]:
    found = {value.name: value.type for value in (*graph.outputs, *graph.inputs, *graph.values.values())}
    return found | {name: graph.value(name).type for name in graph.constants}


def _shape(types: Mapping[str, Type | None], name: str) -> Shape | None:
    kind = types.get(name)
    return kind.shape if isinstance(kind, TensorType) else None


def _written(node: Node, types: Mapping[str, Type | None]) -> _Writing | None:
    if node.domain or node.op not in ("Squeeze", "Reshape"):
        return None
    kind, shape = types.get(node.outputs[0]), _shape(types, node.inputs[0])
    if shape is None or not isinstance(kind, TensorType) or kind.shape is not None:
        return None
    if node.op == "Reshape":
        return _reshape(node, _shape(types, node.input(1)))
    return None if node.input(1) or "axes" in node.attributes else _squeeze(node, shape)


def _squeeze(node: Node, shape: Shape) -> _Writing | None:
    """The axes that are 1 for certain go at once, then each symbolic one, the last first, where it is 1."""
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    rest = [axis for axis in range(len(shape)) if axis not in ones]
    symbolic = [(place, axis) for place, axis in enumerate(rest) if not isinstance(shape[axis], int)]
    if len(symbolic) > _MOST_SQUEEZED:
        return None
    writing = _Writing(node)
    current = node.inputs[0]
    sizes = writing.add("Shape", [current])
    if ones:
        first = writing.squeezed(current, ones)
        writing.nodes.append(first)
        current = first.outputs[0]
    one = writing.constant(1)
    for place, axis in reversed(symbolic):
        size = writing.add("Gather", [sizes, writing.constant(axis)])
        is_one = writing.add("Equal", [size, one])
        last = (place, axis) == symbolic[0]
        then, otherwise = writing.squeezed(current, [place]), writing.make("Identity", [current])
        current = writing.choose(is_one, _graph(then), _graph(otherwise), node.outputs[0] if last else "")
    return writing


def _reshape(node: Node, shape: Shape | None) -> _Writing | None:
    """One branch for every rank. shape: of the input that gives the sizes."""
    if shape is None or len(shape) != 1:
        return None
    writing = _Writing(node)
    length = writing.add("Size", [node.inputs[1]])
    tests = [writing.add("Equal", [length, writing.constant(rank)]) for rank in range(_MOST_RANK)]

    def reshaped(rank: int) -> Graph:
        if rank == 0:
            return _graph(writing.make("Reshape", [node.inputs[0], writing.constant([])], attributes=node.attributes))
        sizes = writing.make("Reshape", [node.inputs[1], writing.constant([rank])])
        return _graph(sizes, writing.make("Reshape", [node.inputs[0], sizes.outputs[0]], attributes=node.attributes))

    rest = reshaped(_MOST_RANK)
    for rank in reversed(range(1, _MOST_RANK)):
        branches: dict[str, Attribute] = {"then_branch": reshaped(rank), "else_branch": rest}
        rest = _graph(writing.make("If", [tests[rank]], attributes=branches))
    writing.choose(tests[0], reshaped(0), rest, node.outputs[0])
    return writing
