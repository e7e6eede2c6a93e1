"""Tensor expressions: what an ONNX graph becomes before it is cut into kernels.

A `Stage` gives one tensor by an expression for its element at symbolic indices, with reductions inside. A `Call` is an
operator written directly as a loop-IR kernel. A `TensorProgram` is a list of them in an order in which they can run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy.typing as npt

from webdnn_backends.ir.loops import Axis, Expr, Kernel, Reduce, subexpressions
from webdnn_backends.ir.rewrite import reads
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim, product

__all__ = [
    "Bind",
    "Call",
    "ConvHint",
    "Copy",
    "Define",
    "Hint",
    "Host",
    "If",
    "Item",
    "Loop",
    "MatMulHint",
    "PoolHint",
    "ReshapeHint",
    "Stage",
    "Tensor",
    "TensorProgram",
    "arguments_read",
    "named",
    "nested",
    "results",
]


@dataclass(frozen=True)
class Tensor:
    """A value of the program: storage type and logical shape.

    slot: it lives on the JavaScript side, as a string tensor, a sequence, an optional, or a tensor whose size only its
    host function knows; kernels never see it.
    """

    name: str
    dtype: DType
    shape: Shape
    slot: bool = False

    @property
    def elements(self) -> Dim:
        return product(self.shape)


@dataclass(frozen=True)
class MatMulHint:
    """The stage's Reduce is SUM over one axis of Read(a) * Read(b), as MatMul and Gemm give it."""


@dataclass(frozen=True)
class ConvHint:
    """The stage's Reduce is a convolution of `x` (N, C, spatial...) with `w` (OC, C/group, kernel...).

    Axes of the stage: (n, oc, spatial...). pads: begin and end for each spatial axis, zeros.
    """

    x: str
    w: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    group: int


@dataclass(frozen=True)
class PoolHint:
    """The stage is a pooling of `x` over a window; kind is "max" or "average"."""

    kind: str
    x: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ReshapeHint:
    """The stage holds the elements of `x` in the same row-major order: no copy where `x` is stored row-major."""

    x: str


Hint: TypeAlias = MatMulHint | ConvHint | PoolHint | ReshapeHint


@dataclass(frozen=True)
class Stage:
    """`output[axes] = body`. axes: one per dimension of the output. hint: what a fast schedule may rely on; whoever
    changes the body so that it no longer holds removes it. source: names of the ONNX nodes it computes."""

    output: str
    axes: tuple[Axis, ...]
    body: Expr
    hint: Hint | None = None
    source: tuple[str, ...] = ()

    @property
    def reductions(self) -> tuple[Reduce, ...]:
        """Every Reduce in the body, outermost first."""
        return tuple(part for part in subexpressions(self.body) if isinstance(part, Reduce))


@dataclass(frozen=True)
class Call:
    """One run of a kernel. arguments: a tensor per kernel buffer; parameters: a dimension per kernel parameter.
    placed: why it runs as JavaScript on the host instead of on the target; "" where it does not."""

    kernel: Kernel
    arguments: tuple[str, ...]
    parameters: tuple[Dim, ...] = ()
    source: tuple[str, ...] = ()
    placed: str = ""


@dataclass(frozen=True)
class Bind:
    """The listed symbols get their values from elements of computed tensors: (symbol, tensor, index); an index of -1-k
    is dimension k of a slot, or the length of a sequence."""

    symbols: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Define:
    """A symbol that abbreviates an expression over symbols that have their values by now."""

    symbol: str
    value: Dim


@dataclass(frozen=True)
class Copy:
    """The same elements under another name; between a slot and a tensor, the slot's tensor."""

    input: str
    output: str


@dataclass(frozen=True)
class Host:
    """A function of the bundle's JavaScript over slots and tensors: strings, sequences, data-dependent sizes."""

    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    source: tuple[str, ...] = ()


@dataclass(frozen=True)
class If:
    """One of two item lists, by a tensor of one element. results: what both lists compute for the items behind."""

    condition: str
    then: tuple[Item, ...]
    otherwise: tuple[Item, ...]
    results: tuple[str, ...]
    source: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loop:
    """A repetition of items, as docs/bundle-format.md defines it.

    trip: most iterations; condition: read before the first; next: read after each; "" where absent. carried: (initial,
    state, next). gather: (sequence, element, reverse), scatter: (element, sequence, reverse), along the leading axis.
    iteration: tensor that holds the number of the iteration; symbol: the same as a symbol; count: symbol for the number
    of iterations done.
    """

    body: tuple[Item, ...]
    trip: str = ""
    condition: str = ""
    next: str = ""
    carried: tuple[tuple[str, str, str], ...] = ()
    gather: tuple[tuple[str, str, bool], ...] = ()
    scatter: tuple[tuple[str, str, bool], ...] = ()
    iteration: str = ""
    symbol: str = ""
    count: str = ""
    source: tuple[str, ...] = ()


Item: TypeAlias = "Stage | Call | Bind | Define | Copy | Host | If | Loop"


@dataclass(frozen=True)
class TensorProgram:
    """The whole model as items in order. tensors: every tensor by name, inputs, outputs and constants included."""

    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    items: tuple[Item, ...]


def arguments_read(item: Item) -> Iterator[str]:
    """The tensors that an item reads, in order, repeated ones too."""
    match item:
        case Stage(body=body):
            yield from (read.tensor for read in reads(body))
        case Call(kernel=kernel, arguments=arguments):
            yield from (
                name
                for name, parameter in zip(arguments, kernel.buffers, strict=True)
                if parameter.access.value != "write"
            )
        case Bind(symbols=symbols):
            yield from (tensor for _, tensor, _ in symbols)
        case Host(inputs=inputs):
            yield from (name for name in inputs if name)
        case Define():
            return
        case Copy(input=name):
            yield name
        case If(condition=condition, then=then, otherwise=otherwise):
            yield condition
            for inner in (*then, *otherwise):
                yield from arguments_read(inner)
        case Loop():
            yield from (name for name in (item.trip, item.condition, item.next) if name)
            yield from (name for initial, _, new in item.carried for name in (initial, new))
            yield from (sequence for sequence, _, _ in item.gather)
            yield from (element for element, _, _ in item.scatter)
            for inner in item.body:
                yield from arguments_read(inner)


def results(item: Item) -> Iterator[str]:
    """The tensors that an item computes."""
    match item:
        case Stage(output=output):
            yield output
        case Call(kernel=kernel, arguments=arguments):
            yield from (
                name
                for name, parameter in zip(arguments, kernel.buffers, strict=True)
                if parameter.access.value != "read"
            )
        case Bind() | Define():
            return
        case Copy(output=output):
            yield output
        case Host(outputs=outputs):
            yield from (name for name in outputs if name)
        case If(results=names):
            yield from names
        case Loop():
            yield from (state for _, state, _ in item.carried)
            yield from (sequence for _, sequence, _ in item.scatter)


def nested(item: Item) -> tuple[Item, ...]:
    """The items inside a control-flow item."""
    match item:
        case If(then=then, otherwise=otherwise):
            return (*then, *otherwise)
        case Loop(body=body):
            return body
        case _:
            return ()


def named(item: Item) -> Iterator[str]:
    """Every tensor that an item or one inside it names, repeated ones too."""
    match item:
        case Call(arguments=arguments):
            yield from arguments
        case Loop():
            yield from (name for group in item.carried for name in group)
            yield from (name for group in (*item.gather, *item.scatter) for name in group[:2])
            yield from (name for name in (item.trip, item.condition, item.next, item.iteration) if name)
        case _:
            yield from arguments_read(item)
            yield from results(item)
    for inner in nested(item):
        yield from named(inner)
