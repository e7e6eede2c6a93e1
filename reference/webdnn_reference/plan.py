"""The order of work for one graph: its steps with their calls bound, and what may be forgotten after each.

Planned once; run as often as wanted (the body of a Loop runs once per iteration).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.graph import Graph, Node, outer_reads
from webdnn_reference.binding import Bound, bind

__all__ = ["Plan", "Step", "plan_graph"]


@dataclass(frozen=True)
class Step:
    """One node. count: outputs up to the last one with a name. frees: values that nothing after it reads."""

    node: Node
    bound: Bound
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    frees: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """captures: names that a subgraph takes from the graphs around it."""

    graph: Graph
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captures: tuple[str, ...]


def plan_graph(graph: Graph, outputs: tuple[str, ...] | None = None) -> Plan:
    """Plan a graph for all of its outputs, or for some values of it: nodes that those do not need are left out.

    Raises UnsupportedOpError or InvalidModelError for a node that cannot be bound.
    """
    wanted = tuple(value.name for value in graph.outputs) if outputs is None else outputs
    nodes = list(graph.nodes) if outputs is None else _needed(graph, set(wanted))
    reads = [dict.fromkeys(_reads(node)) for node in nodes]
    last_reader: dict[str, int] = {}
    for index, names in enumerate(reads):
        for name in names:
            last_reader[name] = index
    kept = set(wanted)
    frees: list[list[str]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for name in node.outputs:
            if name and name not in last_reader and name not in kept:
                frees[index].append(name)
    for name, index in last_reader.items():
        if name not in kept and name not in graph.constants:
            frees[index].append(name)
    steps = tuple(
        Step(node, bind(node), _trimmed(node.inputs), _trimmed(node.outputs), tuple(freed))
        for node, freed in zip(nodes, frees, strict=True)
    )
    return Plan(
        graph=graph,
        steps=steps,
        inputs=tuple(value.name for value in graph.inputs),
        outputs=wanted,
        captures=tuple(dict.fromkeys(outer_reads(graph))),
    )


def _needed(graph: Graph, wanted: set[str]) -> list[Node]:
    known = set(graph.constants) | {value.name for value in graph.inputs}
    known |= {name for node in graph.nodes for name in node.outputs if name}
    for name in wanted:
        if name not in known:
            raise InvalidModelError(f"outputs: expected names of values in the graph, got '{name}'")
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(_reads(node))
    return kept[::-1]


def _reads(node: Node) -> Iterator[str]:
    yield from (name for name in node.inputs if name)
    for subgraph in node.subgraphs:
        yield from outer_reads(subgraph)


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    count = len(names)
    while count and not names[count - 1]:
        count -= 1
    return names[:count]
