"""What inference knows while it walks a graph: types, elements and bindings, scope by scope."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Graph, TensorType, Type, ValueBinding
from webdnn_onnx.infer.registry import Elements
from webdnn_onnx.symbolic import Dim, Sum, free_symbols, symbol

__all__ = ["ELEMENTS_LIMIT", "Scope"]

ELEMENTS_LIMIT = 1024
"""Tensors with more elements are not evaluated element by element."""


@dataclass
class Scope:
    """The names of one graph, and through `outer` those of the graphs around it."""

    graph: Graph
    outer: Scope | None = None
    types: dict[str, Type | None] = field(default_factory=dict)
    elements: dict[str, Elements] = field(default_factory=dict)
    bindings: dict[str, ValueBinding] = field(default_factory=dict)

    def type(self, name: str) -> Type | None:
        """A value's type as far as it is known."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.types:
                return scope.types[name]
            if name in scope.graph.constants:
                found = scope.types[name] = scope.graph.value(name).type
                return found
            scope = scope.outer
        return None

    def array(self, name: str) -> npt.NDArray[Any] | None:
        """The array, if the value is a constant."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.graph.constants:
                return scope.graph.constants[name]
            if name in scope.types:
                return None
            scope = scope.outer
        return None

    def known(self, name: str) -> Elements | None:
        """A value's elements as dimensions: of a small constant, or what was evaluated; None if nothing is known."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.elements:
                return scope.elements[name]
            if name in scope.graph.constants:
                found = _integers(scope.graph.constants[name])
                if found is not None:
                    scope.elements[name] = found
                return found
            scope = scope.outer
        return None

    def bind(self, name: str, count: int | None = None) -> tuple[Dim, ...] | None:
        """A value's elements, where an unknown one becomes a signed symbol `<value>[<index>]` bound to it.

        None if it is no integer tensor with a fixed, small number of elements. count: how many it must have, where its
        type does not say.
        """
        found = self.known(name)
        owner = self._owner(name)
        if found is None:
            count = self._bindable(name, count)
            if count is None:
                return None
            found = (None,) * count
        complete: list[Dim] = []
        for index, element in enumerate(found):
            if element is None:
                key = f"{name}[{index}]"
                owner.bindings[key] = ValueBinding(name, index)
                element = symbol(key, signed=True)
            complete.append(element)
        owner.elements[name] = tuple(complete)
        return tuple(complete)

    def fresh(self, name: str, axis: int) -> Sum:
        """The symbol for a dimension that only running the graph tells: `<value>.dim<axis>`."""
        key = f"{name}.dim{axis}"
        self.bindings[key] = ValueBinding(name, -1 - axis)
        return symbol(key)

    def forget_sizes(self, name: str) -> None:
        """Take back the symbols of a value's dimensions: its rank turned out to be unknown."""
        for key in [key for key, binding in self.bindings.items() if binding.value == name and binding.index < 0]:
            del self.bindings[key]

    def is_signed(self, dim: Dim) -> bool:
        """Whether it depends on elements of run-time tensors, so that 0 and -1 may be meant as marks."""
        names = free_symbols(dim)
        scope: Scope | None = self
        while scope is not None:
            if any(name in scope.bindings and scope.bindings[name].index >= 0 for name in names):
                return True
            scope = scope.outer
        return False

    def is_visible_outside(self, dim: Dim) -> bool:
        """Whether the dimension still means something after this scope ends."""
        return not any(name in self.bindings for name in free_symbols(dim))

    def _owner(self, name: str) -> Scope:
        scope: Scope = self
        while name not in scope.types and name not in scope.graph.constants and scope.outer is not None:
            scope = scope.outer
        return scope

    def _bindable(self, name: str, expected: int | None) -> int | None:
        found = self.type(name)
        if not isinstance(found, TensorType) or not (found.dtype.is_integer or found.dtype is DType.BOOL):
            return None
        if found.shape is None or not all(isinstance(size, int) for size in found.shape):
            return expected
        count = 1
        for size in found.shape:
            if not isinstance(size, int):
                return None
            count *= size
        return count if count <= ELEMENTS_LIMIT else None


def _integers(array: npt.NDArray[Any]) -> Elements | None:
    """The elements of a small array that are integers; floating-point arrays count where every element is one."""
    if array.size > ELEMENTS_LIMIT or array.dtype == object or array.dtype.kind == "c":
        return None
    if array.dtype.kind not in "iub":
        if DType.from_numpy(array.dtype).is_float:
            wide = array.astype(np.float64)
            if not (np.isfinite(wide).all() and (wide == np.floor(wide)).all() and (np.abs(wide) < 2**53).all()):
                return None
            return tuple(int(element) for element in wide.reshape(-1))
        return tuple(int(element) for element in array.reshape(-1))
    return tuple(int(element) for element in array.reshape(-1).tolist())
