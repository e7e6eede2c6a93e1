"""What passes share: nested graphs, renaming of values, lookups through scopes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy.typing as npt

from webdnn_onnx.graph import Attribute, Graph, Node, Shape, TensorType, Type, Value
from webdnn_onnx.passes.log import Log

__all__ = ["RANDOM", "Rewrite", "View", "bypass", "everywhere", "merge_sources", "rename"]

RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)
"""Operators that draw random numbers: never merged and never evaluated by a pass."""


@dataclass(frozen=True)
class View:
    """A graph and those around it, for lookups by name."""

    graph: Graph
    outer: View | None = None

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The array of a constant of this or an outer graph."""
        view: View | None = self
        while view is not None:
            if name in view.graph.constants:
                return view.graph.constants[name]
            view = view.outer
        return None

    def type(self, name: str) -> Type | None:
        """The type of a value of this or an outer graph."""
        view: View | None = self
        while view is not None:
            found = view.graph.value(name).type
            if found is not None:
                return found
            view = view.outer
        return None

    def shape(self, name: str) -> Shape | None:
        """The shape of a tensor, if its rank is known."""
        found = self.type(name)
        return found.shape if isinstance(found, TensorType) else None


Rewrite: TypeAlias = Callable[[Graph, View, Log], Graph]


def everywhere(graph: Graph, log: Log, rewrite: Rewrite, outer: View | None = None) -> Graph:
    """The graph with `rewrite` applied to every graph nested in it, innermost first, then to itself."""
    view = View(graph, outer)
    nodes = tuple(_nested(node, view, log, rewrite) for node in graph.nodes)
    if any(new is not old for new, old in zip(nodes, graph.nodes, strict=True)):
        graph = graph.with_nodes(nodes)
    return rewrite(graph, View(graph, outer), log)


def _nested(node: Node, view: View, log: Log, rewrite: Rewrite) -> Node:
    if not node.subgraphs:
        return node
    return replace(
        node, attributes={name: _visit(value, view, log, rewrite) for name, value in node.attributes.items()}
    )


def _visit(value: Attribute, view: View, log: Log, rewrite: Rewrite) -> Attribute:
    if isinstance(value, Graph):
        return everywhere(value, log, rewrite, view)
    if isinstance(value, tuple) and value and all(isinstance(item, Graph) for item in value):
        return tuple(everywhere(item, log, rewrite, view) for item in value if isinstance(item, Graph))
    return value


def rename(node: Node, names: Mapping[str, str]) -> Node:
    """The node reading other values, in its nested graphs too."""
    inputs = tuple(names.get(name, name) for name in node.inputs)
    if node.subgraphs:
        attributes = {name: _rename_attribute(value, names) for name, value in node.attributes.items()}
        return replace(node, inputs=inputs, attributes=attributes)
    return node if inputs == node.inputs else replace(node, inputs=inputs)


def _rename_attribute(value: Attribute, names: Mapping[str, str]) -> Attribute:
    if isinstance(value, Graph):
        return _rename_graph(value, names)
    if isinstance(value, tuple) and value and all(isinstance(item, Graph) for item in value):
        return tuple(_rename_graph(item, names) for item in value if isinstance(item, Graph))
    return value


def _rename_graph(graph: Graph, names: Mapping[str, str]) -> Graph:
    own = {value.name for value in graph.inputs} | graph.constants.keys()
    own.update(name for node in graph.nodes for name in node.outputs)
    visible = {old: new for old, new in names.items() if old not in own}
    if not visible:
        return graph
    outputs = tuple(Value(visible.get(value.name, value.name), value.type) for value in graph.outputs)
    return replace(graph, nodes=tuple(rename(node, visible) for node in graph.nodes), outputs=outputs)


def bypass(graph: Graph, same: Mapping[str, str], removed: set[int]) -> tuple[Graph, set[int]]:
    """The graph without the nodes `removed` (by id), whose outputs are the same as other values: output -> value.

    A graph output keeps its name: the value's producer takes it over, if it is a node of this graph whose value is no
    output itself; otherwise the node stays. Returns the graph and the ids of the nodes that stayed.
    """
    outputs = {value.name for value in graph.outputs}
    producers = graph.producers()
    uses: dict[str, str] = {}
    made: dict[str, str] = {}
    kept: set[int] = set()

    def final(name: str) -> str:
        while name in uses:
            name = uses[name]
        return name

    for node in graph.nodes:
        if id(node) not in removed:
            continue
        for output in filter(None, node.outputs):
            source = final(same[output])
            if output not in outputs:
                uses[output] = source
            elif source in producers and id(producers[source]) not in removed and source not in outputs | made.keys():
                made[source] = output
            else:
                kept.add(id(node))
    uses = {name: final(name) for name in uses}
    names = {name: made.get(target, target) for name, target in uses.items()} | made
    nodes: list[Node] = []
    for node in graph.nodes:
        if id(node) in removed - kept:
            continue
        node = rename(node, names)
        if any(name in made for name in node.outputs):
            node = replace(node, outputs=tuple(made.get(name, name) for name in node.outputs))
        nodes.append(node)
    values = dict(graph.values)
    for old, new in made.items():
        values[new] = Value(new, graph.value(old).type)
    return graph.with_nodes(nodes, values=values), kept


def merge_sources(*nodes: Node) -> tuple[str, ...]:
    """The sources of all of them, each once."""
    return tuple(dict.fromkeys(name for node in nodes for name in node.source))
