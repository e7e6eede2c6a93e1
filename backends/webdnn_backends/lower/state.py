"""What grows while a graph is lowered: tensors, constants, items, and the scopes of nested graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from webdnn_backends.te.tensors import Bind, Copy, Define, Item, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError
from webdnn_onnx.graph import Graph, MapType, TensorType, Type, Value
from webdnn_onnx.symbolic import Call, Dim, Sum, abbreviate, lower_bound, symbol

__all__ = ["LoweringState", "Scope"]

_MOST_BOUND = 64
"""Tensors with more elements than this are data, not sizes."""


@dataclass
class Scope:
    """A graph that is being lowered, and the tensors of its values. own: names that it defines itself."""

    graph: Graph
    own: frozenset[str]
    names: dict[str, str] = field(default_factory=dict)


@dataclass
class LoweringState:
    """known: elements of small integer tensors as dimensions. bound: symbols that some item binds already. shared:
    tensors of a lowering's own that several nodes use, by what they hold."""

    known: Mapping[str, tuple[Dim, ...]]
    scopes: list[Scope] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    defined: dict[Call | Sum, Sum] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    shared: dict[tuple[str | int, ...], str] = field(default_factory=dict)

    @contextmanager
    def scope(self, graph: Graph) -> Iterator[list[Item]]:
        """Lower into a nested graph: names resolve to it first, and items go to the list that is given."""
        defined = {value.name for value in graph.inputs} | set(graph.constants)
        defined.update(name for node in graph.nodes for name in node.outputs if name)
        self.scopes.append(Scope(graph, frozenset(defined)))
        try:
            with self.branch() as items:
                yield items
        finally:
            self.scopes.pop()

    @contextmanager
    def branch(self) -> Iterator[list[Item]]:
        """Lower into a list of items that may be passed over: what it binds is bound within it only."""
        outer, self.items = self.items, []
        bound, known, shared = set(self.bound), dict(self.defined), dict(self.shared)
        try:
            yield self.items
        finally:
            self.items = outer
            self.bound, self.defined, self.shared = bound, known, shared

    def fresh(self, prefix: str) -> str:
        """A name that no tensor has."""
        while True:
            count = self.counters.get(prefix, 0)
            self.counters[prefix] = count + 1
            name = f"{prefix}#{count}"
            if name not in self.tensors:
                return name

    def _scope_of(self, name: str) -> Scope:
        return next((scope for scope in reversed(self.scopes) if name in scope.own), self.scopes[0])

    def value(self, name: str) -> Value:
        """The graph value that a name means here."""
        return self._scope_of(name).graph.value(name)

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The array of a graph value that is known at compile time, else None."""
        return self._scope_of(name).graph.constants.get(name) if name else None

    def tensor(self, name: str) -> Tensor:
        """The tensor of a graph value or the temporary with that name. Raises DTypeError where its type is unknown."""
        if name in self.tensors and not any(name in scope.own for scope in self.scopes):
            return self.tensors[name]
        scope = self._scope_of(name)
        if name not in scope.names:
            own = name if name not in self.tensors else self.fresh(name)
            scope.names[name] = own
            self.tensors[own] = self._spec(own, scope.graph.value(name))
            if name in scope.graph.constants and self.tensors[own].dtype is not DType.STRING:
                self.constants[own] = scope.graph.constants[name]
        return self.tensors[scope.names[name]]

    def ranked(self, name: str) -> Tensor:
        """As `tensor`. Raises DTypeError where it is no tensor of known rank."""
        found = self.tensor(name)
        if found.slot:
            kind = self.value(name).type if self.knows(name) else None
            if not isinstance(kind, TensorType) or kind.shape is None:
                raise DTypeError(
                    f"value '{name}': expected a tensor of known rank, got {kind or 'an unknown type'}; "
                    f"what decides it has to be fixed: --shape, --dim"
                )
        return found

    def knows(self, name: str) -> bool:
        """Whether a name is that of a graph value, not of a temporary."""
        return any(name in scope.own for scope in self.scopes)

    def _spec(self, name: str, value: Value) -> Tensor:
        kind = value.type
        if isinstance(kind, TensorType):
            if kind.shape is None:
                return Tensor(name, kind.dtype, (), slot=True)
            shape = tuple(self.short(size) for size in kind.shape)
            return Tensor(name, kind.dtype, shape, slot=kind.dtype is DType.STRING)
        if kind is None:
            raise DTypeError(f"value '{value.name}': expected a known type, got none; declare its type in the model")
        return Tensor(name, _element_type(kind), (), slot=True)

    def add_tensor(self, prefix: str, dtype: DType, shape: tuple[Dim, ...], *, slot: bool = False) -> Tensor:
        """A tensor of the compiler's own."""
        tensor = Tensor(self.fresh(prefix), dtype, shape, slot)
        self.tensors[tensor.name] = tensor
        return tensor

    # symbols

    def _define(self, size: Call | Sum) -> Sum:
        """The symbol that abbreviates a long size expression from here on."""
        if size not in self.defined:
            name = f"size{len(self.defined)}"
            whole = size if isinstance(size, Sum) else Sum((((size,), 1),))
            self.items.append(Define(name, whole))
            self.defined[size] = symbol(name, signed=lower_bound(whole) < 0)
        return self.defined[size]

    def short(self, size: Dim, terms: int = 3) -> Dim:
        """The size with long parts abbreviated by symbols that are defined from here on; the whole of it where it has
        more than so many terms. Kernels that use it stay small."""
        size = abbreviate(size, self._define)
        return size if isinstance(size, int) or len(size.terms) <= terms else self._define(size)

    def bind_value(self, name: str) -> None:
        """Bind the symbols that stand for elements of a computed value."""
        graph = self._scope_of(name).graph
        tensor = self.tensor(name)
        pairs = tuple(
            (own, tensor.name, binding.index)
            for own, binding in graph.bindings.items()
            if binding.value == name and binding.index >= 0 and own not in self.bound
        )
        self._bind(pairs)

    def elements(self, name: str, count: Dim | None = None) -> tuple[Dim, ...] | None:
        """The elements of an integer tensor that is computed at run time, as symbols bound from here on; None where it
        is too large or its size is unknown. count: how many it must have, where its type does not say."""
        tensor = self.tensor(name)
        count = tensor.elements if count is None else count
        if tensor.slot or not isinstance(count, int) or count > _MOST_BOUND or not tensor.dtype.is_integer:
            return None
        names = [f"{name}[{index}]" for index in range(count)]
        self._bind(tuple((own, tensor.name, k) for k, own in enumerate(names) if own not in self.bound))
        return tuple(symbol(own, signed=True) for own in names)

    def _bind(self, pairs: tuple[tuple[str, str, int], ...]) -> None:
        if pairs:
            self.items.append(Bind(pairs))
            self.bound.update(own for own, _, _ in pairs)

    def unknown_sizes(self, name: str) -> dict[int, str]:
        """The symbols of the dimensions of a value that only running the graph tells, by axis."""
        graph = self._scope_of(name).graph
        return {
            -1 - binding.index: own
            for own, binding in graph.bindings.items()
            if binding.value == name and binding.index < 0
        }

    def is_data_dependent(self, name: str) -> bool:
        """Whether a tensor value has a dimension that only running the graph tells."""
        return bool(self.unknown_sizes(name))

    def bind_sizes(self, name: str, sizes: Mapping[int, tuple[str, int]]) -> None:
        """Give dimensions of a value that only running tells, by axis, by elements of tensors."""
        self._bind(tuple((own, *sizes[axis]) for axis, own in self.unknown_sizes(name).items() if axis in sizes))

    def define_sizes(self, name: str, sizes: Mapping[int, Dim]) -> None:
        """Give dimensions of a value that only running tells, by axis, by expressions."""
        for axis, own in self.unknown_sizes(name).items():
            if axis in sizes:
                self.items.append(Define(own, sizes[axis]))
                self.bound.add(own)

    def landing(self, name: str) -> Tensor:
        """Where a host function or control flow leaves a value: its tensor, or a slot where its size is known only
        then. `land` follows it."""
        tensor = self.tensor(name)
        if tensor.slot or not self.is_data_dependent(name):
            return tensor
        return self.add_tensor(name, tensor.dtype, (), slot=True)

    def land(self, name: str, landed: Tensor) -> None:
        """Bind the sizes of a landed value and copy it where kernels read it."""
        pairs = tuple((own, landed.name, -1 - axis) for axis, own in self.unknown_sizes(name).items())
        if pairs:
            self.items.append(Bind(pairs))
            self.bound.update(own for own, _, _ in pairs)
        tensor = self.tensor(name)
        if landed.name != tensor.name:
            self.items.append(Copy(landed.name, tensor.name))


def _element_type(kind: Type) -> DType:
    while not isinstance(kind, TensorType):
        kind = kind.value if isinstance(kind, MapType) else kind.element
    return kind.dtype
