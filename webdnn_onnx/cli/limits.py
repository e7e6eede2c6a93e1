"""Which integers a model accepts: an input that indexes a table must stay below its size."""

from __future__ import annotations

from webdnn_onnx.errors import DTypeError
from webdnn_onnx.graph import Graph, Node

__all__ = ["index_limits"]

_PASSES_VALUES = frozenset(
    {"Add", "Cast", "Clip", "Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice"}
    | {"Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"}
)
_INDEXED = {"Gather": 1, "GatherElements": 1, "OneHot": 0}
"""Operator -> the input that holds indices."""


def index_limits(graph: Graph) -> dict[str, int]:
    """For each graph input that reaches the indices of a Gather: the size of the smallest such table's axis."""
    consumers = graph.consumers()
    limits: dict[str, int] = {}
    for value in graph.inputs:
        reached, pending = {value.name}, [value.name]
        while pending:
            name = pending.pop()
            for node in consumers.get(name, ()):
                size = _table_size(graph, node, name)
                if size is not None:
                    limits[value.name] = min(size, limits.get(value.name, size))
                elif node.op in _PASSES_VALUES and not node.domain:
                    fresh = [output for output in node.outputs if output and output not in reached]
                    reached.update(fresh)
                    pending.extend(fresh)
    return limits


def _table_size(graph: Graph, node: Node, name: str) -> int | None:
    """The size of the axis that `name` indexes in this node, None if it indexes none or the size is unknown."""
    position = _INDEXED.get(node.op)
    if position is None or node.domain or node.input(position) != name:
        return None
    if node.op == "OneHot":
        depth = graph.constants.get(node.input(1))
        return None if depth is None else int(depth.reshape(-1)[0])
    axis = node.attributes.get("axis", 0)
    try:
        shape = graph.value(node.input(0)).shape
    except DTypeError:
        return None
    size = shape[axis] if isinstance(axis, int) and -len(shape) <= axis < len(shape) else None
    return size if isinstance(size, int) else None
