"""The inputs of a graph as a bundle's manifest would state them."""

from __future__ import annotations

from typing import Any

from webdnn_onnx.cli.bundle import Port
from webdnn_onnx.graph import Graph, MapType, OptionalType, SequenceType, TensorType, Type
from webdnn_onnx.symbolic import to_json

__all__ = ["ports_of"]


def ports_of(graph: Graph) -> tuple[Port, ...]:
    """One port per graph input."""
    return tuple(Port(value.name, _describe(value.type)) for value in graph.inputs)


def _describe(kind: Type | None) -> dict[str, Any]:
    match kind:
        case TensorType(dtype, shape):
            return {"dtype": dtype.value} | ({} if shape is None else {"shape": [to_json(dim) for dim in shape]})
        case SequenceType(element):
            return {"sequence": _describe(element)}
        case OptionalType(element):
            return {"optional": _describe(element)}
        case MapType(key, value):
            return {"map": [key.value, _describe(value)]}
        case None:
            return {}
