"""Values whose rank depends on a condition: what follows moves into the branches, where every rank is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from webdnn_onnx.graph import Attribute, Graph, Node, TensorType, Value
from webdnn_onnx.infer.engine import Inference, analyse
from webdnn_onnx.infer.rank_choices import with_choices

__all__ = ["analyse_ranks"]

_MOST_SPLITS = 16
"""Each split may double what follows; a graph with more of them keeps values of unknown rank."""

_Path = tuple[tuple[int, str], ...]
"""Of a nested graph: the node and its attribute, level by level."""


def analyse_ranks(graph: Graph) -> Inference:
    """As `analyse`, for a graph in which every If that gives tensors of one rank or another ends its graph.

    Exporters write `If(dimension == 1, Squeeze(x), x)`. The nodes behind such an If go into both of its branches. A
    Squeeze or Reshape whose rank depends on sizes becomes such an If.
    """
    inference = analyse(graph)
    for split in range(_MOST_SPLITS):
        while (chosen := with_choices(graph, inference.graph)) is not None:
            graph = chosen
            inference = analyse(graph)
        place = next(_undecided(inference.graph, ()), None)
        if place is None:
            break
        path, index = place
        graph = _changed(graph, path, index, split)
        inference = analyse(graph)
    return inference


def _undecided(graph: Graph, path: _Path) -> Iterator[tuple[_Path, int]]:
    """The places of Ifs that give a tensor of one rank or another, which nodes behind it read."""
    read: set[str] = set()
    found: list[int] = []
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if node.op == "If" and any(name in read and _rank_differs(graph, node, name) for name in node.outputs):
            found.append(index)
        read.update(_reads(node))
    for index, node in enumerate(graph.nodes):
        if index in found:
            yield path, index
        for name, attribute in node.attributes.items():
            if isinstance(attribute, Graph):
                yield from _undecided(attribute, (*path, (index, name)))


def _rank_differs(graph: Graph, node: Node, name: str) -> bool:
    kind = graph.values[name].type if name in graph.values else None
    if not isinstance(kind, TensorType) or kind.shape is not None:
        return False
    position = node.outputs.index(name)
    ranks: set[int | None] = set()
    for branch in node.subgraphs:
        if position >= len(branch.outputs):
            continue
        own = branch.outputs[position].type
        if not isinstance(own, TensorType):
            return False
        if own.shape is None and not _is_chosen(branch, branch.outputs[position].name):
            return False
        ranks.add(None if own.shape is None else len(own.shape))
    return len(ranks) > 1 or None in ranks


def _is_chosen(graph: Graph, name: str) -> bool:
    """Whether an If of the graph gives the value: its rank then is known once that If is split too."""
    return any(node.op == "If" and name in node.outputs for node in graph.nodes)


def _reads(node: Node) -> Iterator[str]:
    yield from node.inputs
    for branch in node.subgraphs:
        yield from (value.name for value in branch.outputs)
        for inner in branch.nodes:
            yield from _reads(inner)


def _changed(graph: Graph, path: _Path, index: int, split: int) -> Graph:
    if not path:
        return _split(graph, index, split)
    (at, name), rest = path[0], path[1:]
    node = graph.nodes[at]
    inner = node.attributes[name]
    assert isinstance(inner, Graph), "a path leads through graphs"
    attributes = {**node.attributes, name: _changed(inner, rest, index, split)}
    return replace(graph, nodes=(*graph.nodes[:at], replace(node, attributes=attributes), *graph.nodes[at + 1 :]))


def _split(graph: Graph, index: int, split: int) -> Graph:
    """The graph with the nodes behind one If inside of its branches."""
    node, behind = graph.nodes[index], graph.nodes[index + 1 :]
    moved = {name for other in (node, *behind) for name in other.outputs if name}
    results = tuple(dict.fromkeys(value.name for value in graph.outputs if value.name in moved))
    attributes: dict[str, Attribute] = dict(node.attributes)
    for side in ("then_branch", "else_branch"):
        branch = node.attributes[side]
        assert isinstance(branch, Graph), "an If has two branches"
        suffix = f".{side[:4]}{split}"
        names = {name: value.name for name, value in zip(node.outputs, branch.outputs, strict=True) if name}
        copies = []
        for other in behind:
            names.update({name: name + suffix for name in other.outputs if name})
            copies.append(_renamed(other, names, suffix))
        outputs = tuple(Value(names[name], None) for name in results)
        attributes[side] = replace(branch, nodes=(*branch.nodes, *copies), outputs=outputs)
    whole = replace(node, outputs=results, attributes=attributes)
    return replace(graph, nodes=(*graph.nodes[:index], whole))


def _renamed(node: Node, names: Mapping[str, str], suffix: str) -> Node:
    """The node with other names for values; what nested graphs define is renamed too."""
    attributes = {
        key: _renamed_graph(attribute, names, suffix) if isinstance(attribute, Graph) else attribute
        for key, attribute in node.attributes.items()
    }
    inputs = tuple(names.get(name, name) for name in node.inputs)
    return replace(
        node, inputs=inputs, outputs=tuple(names.get(name, name) for name in node.outputs), attributes=attributes
    )


def _renamed_graph(graph: Graph, names: Mapping[str, str], suffix: str) -> Graph:
    own = {value.name for value in graph.inputs} | set(graph.constants)
    own.update(name for node in graph.nodes for name in node.outputs if name)
    inner = {**names, **{name: name + suffix for name in own}}

    def value(old: Value) -> Value:
        return replace(old, name=inner.get(old.name, old.name))

    return replace(
        graph,
        inputs=tuple(map(value, graph.inputs)),
        outputs=tuple(map(value, graph.outputs)),
        nodes=tuple(_renamed(node, inner, suffix) for node in graph.nodes),
        constants={inner[name]: array for name, array in graph.constants.items()},
        values={inner.get(name, name): value(old) for name, old in graph.values.items()},
    )
