"""What a lowering sees of its node, and how it gives back tensor expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import Axis, Const, Expr, Kernel, Read, Reduce, ReduceOp, Var
from webdnn_backends.ir.scalars import compute_type
from webdnn_backends.lower.state import LoweringState
from webdnn_backends.te.tensors import Call, Hint, Host, Stage, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, ShapeError, UnsupportedOpError, describe_node
from webdnn_onnx.graph import Node, Shape
from webdnn_onnx.symbolic import Dim, equal

__all__ = ["Indices", "NodeContext", "literal"]

Indices = tuple[Expr, ...]
T = TypeVar("T")


class NodeContext:
    """One node while it is lowered. Inputs and outputs are counted from 0."""

    def __init__(self, state: LoweringState, node: Node) -> None:
        self.state = state
        self.node = node
        self._axes = 0
        self._extents: dict[str, Dim] = {}

    # the node

    @property
    def where(self) -> str:
        """The start of an error message about this node."""
        return describe_node(self.node.op, self.node.name, self.node.opset, self.node.domain)

    def attribute(self, name: str, default: T) -> T:
        """An attribute, or the version's default."""
        value: Any = self.node.attributes.get(name, default)
        return value  # type: ignore[no-any-return]  # the schema gives the attribute the type of its default

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return bool(self.node.input(index))

    def wants(self, index: int) -> bool:
        """Whether an optional output is used."""
        return bool(self.node.output(index))

    def name(self, index: int) -> str:
        """The tensor name of an input."""
        return self.state.tensor(self.node.inputs[index]).name

    def shape(self, index: int) -> Shape:
        """The dimensions of an input. Raises DTypeError where it is no tensor of known rank."""
        return self.state.ranked(self.node.inputs[index]).shape

    def rank(self, index: int) -> int:
        return len(self.shape(index))

    def dtype(self, index: int) -> DType:
        """The storage type of an input."""
        return self.state.tensor(self.node.inputs[index]).dtype

    def output(self, index: int = 0) -> Tensor:
        """The tensor of an output. Raises DTypeError where its rank is unknown."""
        return self.state.ranked(self.node.outputs[index])

    def measure(self, sizes: Mapping[int, tuple[str, int]], output: int = 0) -> None:
        """Give the dimensions of an output that only running tells, each by an element (tensor, position) of an integer
        tensor. To be called before the output's shape is asked for."""
        if self.wants(output):
            self.state.bind_sizes(self.node.outputs[output], sizes)

    def define(self, sizes: Mapping[int, Dim], output: int = 0) -> None:
        """Give dimensions of an output that inference left open, by axis, where expressions can state them."""
        if self.wants(output):
            self.state.define_sizes(self.node.outputs[output], sizes)

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """The array of an input that is known at compile time, else None."""
        return self.state.constant(self.node.input(index))

    def integers(self, index: int, count: int | None = None) -> tuple[Dim, ...] | None:
        """The elements of an integer input as dimensions: numbers where it is a constant, expressions where it is shape
        arithmetic, signed symbols bound at run time where it is a small tensor of known size; else None.
        count: how many it must have, where its type does not say."""
        name = self.node.input(index)
        array = self.constant(index)
        if array is not None:
            return tuple(int(item) for item in np.asarray(array).ravel())
        return self.state.known.get(name) or self.state.elements(name, count)

    def unsupported(self, what: str) -> UnsupportedOpError:
        """The error to raise for a form of the operator that has no lowering."""
        return UnsupportedOpError(f"{self.where}: expected a form that the compiler has, got {what}")

    def axis(self, value: int, rank: int) -> int:
        """A possibly negative axis counted from 0. Raises ShapeError outside [-rank, rank-1]."""
        if not -rank <= value < max(rank, 1):
            raise ShapeError(f"{self.where}: axis: expected within [{-rank}, {rank - 1}], got {value}")
        return value % rank if rank else 0

    # expressions

    def read(self, tensor: str, indices: Sequence[Expr | int]) -> Expr:
        """One element of a tensor; a tensor of one constant element becomes a literal."""
        spec = self.state.tensor(tensor)
        if len(indices) != len(spec.shape):
            raise ShapeError(f"{self.where}: '{tensor}': expected rank {len(indices)}, got {len(spec.shape)}")
        if spec.dtype is DType.STRING:
            raise self.unsupported("strings")
        array = self.state.constants.get(tensor)
        if array is not None and array.size == 1:
            return literal(array.reshape(()), spec.dtype)
        return Read(tensor, tuple(build.i32(index) for index in indices), compute_type(spec.dtype))

    def element(self, index: int, indices: Sequence[Expr | int]) -> Expr:
        """One element of an input."""
        return self.read(self.name(index), indices)

    def broadcast(self, index: int, indices: Sequence[Expr]) -> Expr:
        """The element of an input under multidirectional broadcasting to the given output indices."""
        shape = self.shape(index)
        aligned = indices[len(indices) - len(shape) :]
        return self.element(index, [self.within(size, at) for size, at in zip(shape, aligned, strict=True)])

    def within(self, size: Dim, at: Expr) -> Expr:
        """An output index as that of a dimension which is as large or 1, maybe only at run time."""
        if size == 1 or isinstance(size, int) or isinstance(at, Const):
            return Const(0) if size == 1 else at
        if isinstance(at, Var) and self._extents.get(at.name, size) == size:
            return at
        return build.mul(at, build.dim(self.state.short(1 - equal(size, 1), 0)))

    def reduce(self, op: ReduceOp, extents: Sequence[Dim], body: Callable[[Indices], Expr]) -> Expr:
        """A reduction over fresh axes with the given extents."""
        axes = tuple(self._fresh_axis(extent) for extent in extents)
        return Reduce(op, axes, body(tuple(axis.var for axis in axes))) if axes else body(())

    def sum(self, extents: Sequence[Dim], body: Callable[[Indices], Expr]) -> Expr:
        """The sum over fresh axes with the given extents."""
        return self.reduce(ReduceOp.SUM, extents, body)

    def _fresh_axis(self, extent: Dim) -> Axis:
        self._axes += 1
        axis = Axis(f"k{self._axes - 1}", extent)
        self._extents[axis.name] = extent
        return axis

    # results

    def emit(self, body: Callable[[Indices], Expr], *, output: int = 0, hint: Hint | None = None) -> None:
        """Give an output by the expression for its element at the given indices."""
        if self.wants(output):
            self._stage(self.output(output), body, hint)

    def temporary(self, dtype: DType, shape: Shape, body: Callable[[Indices], Expr], hint: Hint | None = None) -> str:
        """A tensor between this node's stages; returns its name."""
        tensor = self.scratch(dtype, shape)
        self._stage(tensor, body, hint)
        return tensor.name

    def scratch(self, dtype: DType, shape: Shape) -> Tensor:
        """A tensor that a direct kernel writes."""
        return self.state.add_tensor(self.node.outputs[0] or self.node.op, dtype, tuple(shape))

    def table(self, array: npt.NDArray[Any]) -> str:
        """A constant computed at compile time; returns its tensor name."""
        tensor = self.scratch(DType.from_numpy(array.dtype), tuple(int(size) for size in array.shape))
        self.state.constants[tensor.name] = array
        return tensor.name

    def call(self, kernel: Kernel, arguments: Sequence[str], parameters: Sequence[Dim] = ()) -> None:
        """Run a kernel written directly in loop IR on tensors by name."""
        self.state.items.append(Call(kernel, tuple(arguments), tuple(parameters), self.node.source))

    def _stage(self, tensor: Tensor, body: Callable[[Indices], Expr], hint: Hint | None) -> None:
        axes = tuple(Axis(f"i{position}", extent) for position, extent in enumerate(tensor.shape))
        outer, self._extents = self._extents, {**self._extents, **{axis.name: axis.extent for axis in axes}}
        expr = body(tuple(Const(0) if axis.extent == 1 else Var(axis.name) for axis in axes))
        self._extents = outer
        if expr.type is not compute_type(tensor.dtype):
            raise DTypeError(
                f"{self.where}: output '{tensor.name}': expected {compute_type(tensor.dtype).value}, "
                f"got an expression of type {expr.type.value}"
            )
        self.state.items.append(Stage(tensor.name, axes, expr, hint, self.node.source))

    def host(
        self, function: str, options: Mapping[str, Any] | None = None, *, inputs: Sequence[str] | None = None
    ) -> None:
        """Compute all outputs by a function of the bundle's JavaScript (webdnn_backends/js/host). inputs: tensor names
        ("" for an absent one); those of the node by default."""
        given = inputs
        if given is None:
            given = [self.state.tensor(name).name if name else "" for name in self.node.inputs]
        landed = [self.state.landing(name) if name else None for name in self.node.outputs]
        outputs = tuple(tensor.name if tensor else "" for tensor in landed)
        self.state.items.append(Host(function, tuple(given), outputs, dict(options or {}), self.node.source))
        for name, tensor in zip(self.node.outputs, landed, strict=True):
            if tensor is not None:
                self.state.land(name, tensor)


def literal(value: npt.NDArray[Any], dtype: DType) -> Const:
    """A scalar array as a literal of the type it computes in."""
    scalar = compute_type(dtype)
    return build.const(float(value) if scalar.is_float else bool(value) if dtype is DType.BOOL else int(value), scalar)
