"""The graph: what every stage before lowering reads and returns.

All values are frozen; a pass builds a new graph. Names follow the ONNX specification (IR.md). Shapes may hold
symbolic dimensions (`webdnn_onnx.symbolic`). Every node carries `source`, the names of the nodes of the user's model
it came from, through every pass and fusion.

Spec: https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError
from webdnn_onnx.symbolic import Dim

__all__ = [
    "Attribute",
    "Graph",
    "MapType",
    "Node",
    "OptionalType",
    "SequenceType",
    "Shape",
    "TensorType",
    "Type",
    "Value",
    "ValueBinding",
]

Shape: TypeAlias = tuple[Dim, ...]


@dataclass(frozen=True)
class TensorType:
    """A dense tensor; `shape` is None while its rank is unknown."""

    dtype: DType
    shape: Shape | None

    def __str__(self) -> str:
        shape = "?" if self.shape is None else ", ".join(map(str, self.shape))
        return f"{self.dtype.value}[{shape}]"


@dataclass(frozen=True)
class SequenceType:
    """A list of values of one type."""

    element: Type

    def __str__(self) -> str:
        return f"seq({self.element})"


@dataclass(frozen=True)
class OptionalType:
    """A value that may be absent."""

    element: Type

    def __str__(self) -> str:
        return f"optional({self.element})"


@dataclass(frozen=True)
class MapType:
    """A dictionary from integers or strings to values of one type (ai.onnx.ml)."""

    key: DType
    value: Type

    def __str__(self) -> str:
        return f"map({self.key.value}, {self.value})"


Type: TypeAlias = TensorType | SequenceType | OptionalType | MapType


@dataclass(frozen=True)
class Value:
    """A named value and its type; `type` is None while inference has not reached it."""

    name: str
    type: Type | None

    @property
    def tensor(self) -> TensorType:
        """Its type as a tensor. Raises DTypeError for sequences, optionals, maps and unknown types."""
        if isinstance(self.type, TensorType):
            return self.type
        raise DTypeError(f"value '{self.name}': expected a tensor, got {self.type or 'an unknown type'}")

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

    @property
    def shape(self) -> Shape:
        """Its dimensions. Raises DTypeError if it is no tensor or has no known rank."""
        shape = self.tensor.shape
        if shape is None:
            raise DTypeError(f"value '{self.name}': expected a tensor of known rank, got an unknown rank")
        return shape


Attribute: TypeAlias = "int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | npt.NDArray[Any] | tuple[npt.NDArray[Any], ...] | Graph | tuple[Graph, ...] | Type | tuple[Type, ...]"  # noqa: E501  # one string literal, or type checkers do not read it
"""An attribute's value. Strings are decoded as UTF-8 with surrogateescape, so that any bytes survive."""


@dataclass(frozen=True)
class Node:
    """One operator call.

    domain: "" for ai.onnx. opset: the version of that domain which the model imports (not the operator's own
    since_version: implementations are looked up as "greatest `since` not above it"). An absent optional input or
    output is named "".
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    domain: str = ""
    opset: int = 1
    name: str = ""
    source: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def input(self, index: int) -> str:
        """The name of an input, "" where it is absent or left out at the end."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def output(self, index: int) -> str:
        """The name of an output, "" where it is absent or left out at the end."""
        return self.outputs[index] if index < len(self.outputs) else ""

    @property
    def subgraphs(self) -> tuple[Graph, ...]:
        """The graphs among its attributes (branches and bodies), in attribute order."""
        found: list[Graph] = []
        for attribute in self.attributes.values():
            if isinstance(attribute, Graph):
                found.append(attribute)
            elif isinstance(attribute, tuple) and attribute and isinstance(attribute[0], Graph):
                found.extend(item for item in attribute if isinstance(item, Graph))
        return tuple(found)


@dataclass(frozen=True)
class ValueBinding:
    """A symbol whose value is known once tensor `value` is computed.

    index >= 0: element number `index`, row-major. index < 0: the size of dimension `-1 - index`, where only running
    the operator tells it (NonZero, Unique, ...).
    """

    value: str
    index: int


@dataclass(frozen=True)
class Graph:
    """A whole model, or the body of a control-flow node.

    inputs, outputs: with their types. nodes: in topological order. constants: initializers that are not inputs, by
    name; arrays are never written to and may be memory maps. values: types of all other values by name, as far as
    inferred. opsets: domain -> version. bindings: symbols that stand for elements of run-time tensors.
    A subgraph sees the names of the graphs around it.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[Any]] = field(default_factory=lambda: MappingProxyType({}))
    values: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    opsets: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    bindings: Mapping[str, ValueBinding] = field(default_factory=lambda: MappingProxyType({}))
    name: str = ""

    def __post_init__(self) -> None:
        for mapping in ("constants", "values", "opsets", "bindings"):
            object.__setattr__(self, mapping, MappingProxyType(dict(getattr(self, mapping))))

    def value(self, name: str) -> Value:
        """The value with that name, with its type if known: a constant, an input, an output or an inner value."""
        if name in self.constants:
            array = self.constants[name]
            return Value(name, TensorType(DType.from_numpy(array.dtype), tuple(int(size) for size in array.shape)))
        if name in self.values:
            return self.values[name]
        for value in (*self.inputs, *self.outputs):
            if value.name == name:
                return value
        return Value(name, None)

    def with_nodes(self, nodes: tuple[Node, ...] | list[Node], **changes: Any) -> Graph:
        """A copy with other nodes (and other fields, where given)."""
        return replace(self, nodes=tuple(nodes), **changes)

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that computes it."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, in order; nodes whose subgraphs read it count."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys((*node.inputs, *_outer_reads(node))):
                if name:
                    readers.setdefault(name, []).append(node)
        return readers


def outer_reads(graph: Graph) -> Iterator[str]:
    """The names that a subgraph takes from the graphs around it."""
    own = {value.name for value in graph.inputs} | set(graph.constants)
    for node in graph.nodes:
        for name in (*node.inputs, *_outer_reads(node)):
            if name and name not in own:
                yield name
        own.update(node.outputs)
    for value in graph.outputs:
        if value.name not in own:
            yield value.name


def _outer_reads(node: Node) -> Iterator[str]:
    for subgraph in node.subgraphs:
        yield from outer_reads(subgraph)
