"""Nodes whose rank depends on sizes, written as If by those sizes.

Squeeze without axes removes a dimension that is 1, which a symbolic one may be. Reshape takes its rank from the length
of its shape, and reductions from that of their axes, which may be symbolic too. They become Ifs in whose branches
everything is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Attribute, Graph, Node, Shape, TensorType, Type, Value

__all__ = ["with_choices"]

_MOST_SQUEEZED = 4
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


_REDUCTIONS = """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare"""
_LISTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Reshape", "Expand", "Squeeze", "Unsqueeze", *_REDUCTIONS.split()), (1,)),
    "ConstantOfShape": (0,),
    "Slice": (1, 2, 3, 4),
    "Pad": (3,),
    "AffineGrid": (1,),
    "Col2Im": (1, 2),
}
"""Which inputs are lists on whose common length the sizes of the result depend."""


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

    def constant(self, value: int | Sequence[int], dtype: DType = DType.INT64) -> str:
        name = self.name()
        self.constants[name] = np.array(value, dtype.numpy)
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

    def branch(self, condition: str, then: Graph, otherwise: Graph, output: str = "") -> Node:
        return self.make("If", [condition], output, {"then_branch": then, "else_branch": otherwise})

    def choose(self, tests: Sequence[str], cases: Sequence[int], write: Callable[..., list[Node]]) -> None:
        """What `write` makes of the first case whose test holds, or of the last case."""
        output = self.node.outputs[0]
        if not tests:
            self.nodes += write(cases[0], output)
            return
        rest = _graph(*write(cases[-1]))
        for place in range(len(tests) - 1, 0, -1):
            rest = _graph(self.branch(tests[place], _graph(*write(cases[place])), rest))
        self.nodes.append(self.branch(tests[0], _graph(*write(cases[0])), rest, output))


def _graph(*nodes: Node) -> Graph:
    return Graph((), (Value(nodes[-1].outputs[0], None),), nodes)


def _types(graph: Graph) -> dict[str, Type | None]:
    found = {value.name: value.type for value in (*graph.outputs, *graph.inputs, *graph.values.values())}
    return found | {name: graph.value(name).type for name in graph.constants}


def _shape(types: Mapping[str, Type | None], name: str) -> Shape | None:
    kind = types.get(name)
    return kind.shape if isinstance(kind, TensorType) else None


def _written(node: Node, types: Mapping[str, Type | None]) -> _Writing | None:
    kind = types.get(node.output(0))
    declared = len(kind.shape) if isinstance(kind, TensorType) and kind.shape is not None else None
    if node.domain or not node.inputs:
        return None
    shape = _shape(types, node.inputs[0])
    if node.op == "Squeeze" and not node.input(1) and "axes" not in node.attributes:
        return None if shape is None or declared is not None else _squeeze(node, shape)
    if node.op in ("GatherND", "ScatterND"):
        updates = _shape(types, node.input(2)) if node.op == "ScatterND" else None
        return _by_depth(node, shape, _shape(types, node.inputs[1]), len(updates) if updates is not None else declared)
    return _by_length(node, types, declared) if node.op in _LISTS else None


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
        chosen = writing.branch(is_one, _graph(then), _graph(otherwise), node.outputs[0] if last else "")
        writing.nodes.append(chosen)
        current = chosen.outputs[0]
    return writing


def _by_length(node: Node, types: Mapping[str, Type | None], declared: int | None) -> _Writing | None:
    """One branch for every length that the lists among the inputs may have; none for the only one."""
    lists = [index for index in _LISTS[node.op] if node.input(index)]
    shapes = [_shape(types, node.inputs[index]) for index in lists]
    if not lists or any(shape is None or len(shape) != 1 or isinstance(shape[0], int) for shape in shapes):
        return None
    source = _shape(types, node.inputs[0])
    lengths = _lengths(node, None if source is None else len(source), declared)
    if not lengths:
        return None
    writing = _Writing(node)
    count = writing.add("Size", [node.inputs[lists[0]]]) if len(lengths) > 1 else ""
    tests = [writing.add("Equal", [count, writing.constant(length)]) for length in lengths[:-1]]

    def with_length(length: int, output: str = "") -> list[Node]:
        inputs, nodes = list(node.inputs), []
        for index in lists:
            kind = types[node.inputs[index]]
            assert isinstance(kind, TensorType), "its shape is known"
            if length == 0:
                inputs[index] = writing.constant([], kind.dtype)
                continue
            nodes.append(writing.make("Reshape", [node.inputs[index], writing.constant([length])]))
            inputs[index] = nodes[-1].outputs[0]
        return [*nodes, writing.make(node.op, inputs, output, node.attributes)]

    writing.choose(tests, lengths, with_length)
    return writing


def _by_depth(node: Node, shape: Shape | None, indices: Shape | None, rank: int | None) -> _Writing | None:
    """One branch for every depth that the indices may have: the size of their last axis. rank: of the slices, which
    are the updates or the output, where it is known."""
    if shape is None or not indices or isinstance(indices[-1], int):
        return None
    batch = node.attributes.get("batch_dims", 0)
    most = len(shape) - (batch if isinstance(batch, int) else 0)
    depths = range(1, most + 1)
    if rank is not None:
        only = most + len(indices) - 1 - rank
        depths = range(only, only + 1)
    if not depths or depths[0] < 1:
        return None
    writing = _Writing(node)
    sizes = writing.add("Shape", [node.inputs[1]])
    last = writing.add("Gather", [sizes, writing.constant(len(indices) - 1)]) if len(depths) > 1 else ""
    lead = writing.add("Gather", [sizes, writing.constant(range(len(indices) - 1))])
    tests = [writing.add("Equal", [last, writing.constant(depth)]) for depth in depths[:-1]]

    def with_depth(depth: int, output: str = "") -> list[Node]:
        whole = writing.make("Concat", [lead, writing.constant([depth])], attributes={"axis": 0})
        known = writing.make("Reshape", [node.inputs[1], whole.outputs[0]])
        inputs = (node.inputs[0], known.outputs[0], *node.inputs[2:])
        return [whole, known, writing.make(node.op, inputs, output, node.attributes)]

    writing.choose(tests, depths, with_depth)
    return writing


def _lengths(node: Node, rank: int | None, declared: int | None) -> list[int]:
    """The lengths that the lists may have. rank: of input 0; declared: of the output; None where unknown."""
    op = node.op
    if op in ("Reshape", "ConstantOfShape"):
        return [*range(_MOST_RANK + 1)] if declared is None else [declared]
    if op == "AffineGrid":
        return [4, 5]
    if op == "Col2Im":
        for name, places in (("pads", 2), ("strides", 1), ("dilations", 1)):
            given = node.attributes.get(name)
            if isinstance(given, tuple):
                return [len(given) // places]
        return [1, 2, 3]
    if rank is None:
        return []
    if op == "Expand":
        return [*range((_MOST_RANK if declared is None else declared) + 1)]
    if op == "Squeeze":
        return [*range(rank + 1)] if declared is None else [rank - declared]
    if op == "Unsqueeze":
        return [*range(_MOST_RANK - rank + 1)] if declared is None else [declared - rank]
    return [*range(rank + 1)]
