"""One node as an inference rule sees it: its inputs' types, shapes and elements, its attributes, its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, ShapeError, describe_node
from webdnn_onnx.graph import Attribute, Graph, Node, Shape, TensorType, Type
from webdnn_onnx.infer.registry import Elements
from webdnn_onnx.infer.scope import Scope
from webdnn_onnx.symbolic import Dim

__all__ = ["Call", "UnknownRankError", "UnknownTypeError"]


class UnknownTypeError(Exception):
    """An input has no known type; ends a rule, whose outputs then have none either."""


class UnknownRankError(Exception):
    """An input has no known rank; ends a shape rule, whose outputs then have only element types."""


@dataclass
class Call:
    """`nested` infers a graph among the attributes, with these types (and known elements) as its inputs."""

    node: Node
    scope: Scope
    nested: Callable[[Graph, Scope, Sequence[Type | None], Sequence[Elements | None]], tuple[Graph, Scope]]
    graphs: dict[str, Graph] = field(default_factory=dict)

    @property
    def opset(self) -> int:
        return self.node.opset

    @property
    def where(self) -> str:
        """The place an error message starts with."""
        name = self.node.name or next((output for output in self.node.outputs if output), "")
        return describe_node(self.node.op, name, self.node.opset, self.node.domain)

    def has(self, index: int) -> bool:
        """Whether the input is given."""
        return self.node.input(index) != ""

    @property
    def count(self) -> int:
        """How many inputs the node names."""
        return len(self.node.inputs)

    def type(self, index: int) -> Type | None:
        """An input's type; None if it is unknown or the input is absent."""
        name = self.node.input(index)
        return self.scope.type(name) if name else None

    def tensor(self, index: int) -> TensorType:
        """An input's type as a tensor. Raises DTypeError for another kind of value."""
        found = self.type(index)
        if found is None:
            raise UnknownTypeError
        if not isinstance(found, TensorType):
            raise self.dtype_error(f"input {index}", "a tensor", str(found))
        return found

    def dtype(self, index: int) -> DType:
        """An input's element type."""
        return self.tensor(index).dtype

    def shape(self, index: int) -> Shape:
        """An input's dimensions."""
        shape = self.tensor(index).shape
        if shape is None:
            raise UnknownRankError
        return shape

    def ranked(self, index: int, *ranks: int) -> Shape:
        """An input's dimensions. Raises ShapeError if their number is none of these."""
        shape = self.shape(index)
        if len(shape) not in ranks:
            raise self.shape_error(f"input {index}", f"rank {' or '.join(map(str, ranks))}", show(shape))
        return shape

    def at_least(self, index: int, rank: int) -> Shape:
        """An input's dimensions. Raises ShapeError if there are fewer."""
        shape = self.shape(index)
        if len(shape) < rank:
            raise self.shape_error(f"input {index}", f"rank {rank} or more", show(shape))
        return shape

    def array(self, index: int) -> npt.NDArray[Any] | None:
        """An input's array, if it is a constant."""
        return self.scope.array(self.node.input(index)) if self.has(index) else None

    def known(self, index: int) -> Elements | None:
        """An input's elements, None in the place of each unknown one; None if nothing is known."""
        return self.scope.known(self.node.input(index)) if self.has(index) else None

    def elements(self, index: int, count: int | None = None) -> tuple[Dim, ...] | None:
        """An input's elements, unknown ones as symbols bound to them; None if their number is not fixed and small.
        count: how many there must be, where the type does not say."""
        return self.scope.bind(self.node.input(index), count) if self.has(index) else None

    def scalar(self, index: int) -> Dim | None:
        """The one element of an input."""
        found = self.elements(index, 1)
        return found[0] if found is not None and len(found) == 1 else None

    def integers(self, index: int) -> tuple[int, ...] | None:
        """An input's elements where all are known numbers."""
        found = self.known(index)
        if found is None or not all(isinstance(element, int) for element in found):
            return None
        return tuple(element for element in found if isinstance(element, int))

    def attribute(self, name: str) -> Attribute | None:
        """An attribute; None where it is absent."""
        return self.node.attributes.get(name)

    def number(self, name: str, default: int) -> int:
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.dtype_error(f"attribute '{name}'", "an integer", type(value).__name__)
        return value

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers; None where it is absent."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            raise self.dtype_error(f"attribute '{name}'", "integers", type(value).__name__)
        return tuple(item for item in value if isinstance(item, int))

    def text(self, name: str, default: str) -> str:
        value = self.node.attributes.get(name, default)
        if not isinstance(value, str):
            raise self.dtype_error(f"attribute '{name}'", "a string", type(value).__name__)
        return value

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """The axis counted from the front. Raises ShapeError if it is outside [-rank, rank-1]."""
        if not -rank <= axis < rank:
            raise self.shape_error(what, f"within [{-rank}, {rank - 1}]", str(axis))
        return axis % rank if rank else 0

    def fresh(self, axis: int, output: int = 0) -> Dim:
        """The symbol for a dimension of an output that only running the graph tells."""
        return self.scope.fresh(self.node.output(output) or f"{self.node.output(0)}:{output}", axis)

    def signed(self, dim: Dim) -> bool:
        """Whether the dimension depends on elements of run-time tensors."""
        return self.scope.is_signed(dim)

    def shape_error(self, what: str, expected: str, got: str) -> ShapeError:
        return ShapeError(f"{self.where}: {what}: expected {expected}, got {got}")

    def dtype_error(self, what: str, expected: str, got: str) -> DTypeError:
        return DTypeError(f"{self.where}: {what}: expected {expected}, got {got}")

    def expect_equal(self, what: str, expected: Dim, got: Dim) -> None:
        """Raises ShapeError if both are numbers and differ."""
        if isinstance(expected, int) and isinstance(got, int) and expected != got:
            raise self.shape_error(what, str(expected), str(got))


def show(shape: Shape) -> str:
    """A shape in a message: `[batch, 3]`."""
    return f"[{', '.join(map(str, shape))}]"
