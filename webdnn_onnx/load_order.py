"""Topological order of the nodes of a model file."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from onnx import AttributeProto, GraphProto, NodeProto

from webdnn_onnx.errors import InvalidModelError, describe_node

__all__ = ["sort_nodes"]


def sort_nodes(nodes: Sequence[NodeProto], where: str) -> list[NodeProto]:
    """The nodes, each after the nodes whose outputs it (or a graph nested in it) reads; otherwise in the given order.

    Raises InvalidModelError for a cycle, naming a node on it.
    """
    producer = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    if all(producer.get(name, -1) < index for index, node in enumerate(nodes) for name in _reads(node)):
        return list(nodes)
    needs: list[set[int]] = []
    followers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        before = {producer[name] for name in _reads(node) if name in producer}
        needs.append(before)
        for other in before:
            followers[other].append(index)
    ready = [index for index, before in enumerate(needs) if not before]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for follower in followers[index]:
            needs[follower].discard(index)
            if not needs[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(nodes):
        node = nodes[_on_cycle(needs)]
        place = describe_node(node.op_type, node.name or next(iter(node.output), ""))
        raise InvalidModelError(
            f"{where}: {place}: expected a graph without cycles, got a node that needs its own output"
        )
    return [nodes[index] for index in order]


def _on_cycle(needs: Sequence[set[int]]) -> int:
    """A node on a cycle: whoever walks from an unsorted node to a node it still needs comes back to one."""
    index = next(index for index, before in enumerate(needs) if before)
    seen: set[int] = set()
    while index not in seen:
        seen.add(index)
        index = min(needs[index])
    return index


def _reads(node: NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        kind = attribute.type
        if kind == AttributeProto.GRAPH:
            yield from _free_names(attribute.g)
        elif kind == AttributeProto.GRAPHS:
            for graph in attribute.graphs:
                yield from _free_names(graph)


def _free_names(graph: GraphProto) -> set[str]:
    """The names that a nested graph takes from the graphs around it."""
    own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    own.update(tensor.values.name for tensor in graph.sparse_initializer)
    own.update(output for node in graph.node for output in node.output)
    read = {name for node in graph.node for name in _reads(node)}
    read.update(info.name for info in graph.output)
    return read - own
