"""Operators written as loop-IR kernels: for what is no expression per element (sorting, scanning, scattering).

A `Direct` collects the operands of one kernel and gives loads and stores by logical indices; symbolic sizes become
kernel parameters by themselves.

    kernel = Direct(context, "cumsum")
    x, y = kernel.input(0), kernel.output()
    kernel.run(loop("i", n, ..., parallel=True))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import (
    Access,
    Assign,
    Barrier,
    BufferParameter,
    Expr,
    If,
    Kernel,
    Load,
    Local,
    Loop,
    LoopKind,
    Stmt,
    Store,
    Var,
    subexpressions,
)
from webdnn_backends.ir.rewrite import free_variables, substitute
from webdnn_backends.ir.scalars import compute_type
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.movement import flat_index
from webdnn_backends.te.naming import shape_name, short_dtype
from webdnn_backends.te.simplify import simplify
from webdnn_backends.te.tensors import Tensor
from webdnn_onnx.symbolic import Dim, symbol

__all__ = ["Direct", "Operand", "loop", "nest"]


@dataclass(frozen=True)
class Operand:
    """A tensor as a kernel's buffer, stored row-major."""

    tensor: Tensor
    buffer: str

    def load(self, indices: Sequence[Expr | int]) -> Expr:
        """The element at logical indices."""
        return Load(self.buffer, self.position(indices), compute_type(self.tensor.dtype))

    def store(self, indices: Sequence[Expr | int], value: Expr) -> Store:
        """Write the element at logical indices."""
        return Store(self.buffer, self.position(indices), value)

    def position(self, indices: Sequence[Expr | int]) -> Expr:
        """The flat position of logical indices."""
        return flat_index([build.i32(index) for index in indices], self.tensor.shape)


def loop(
    name: str,
    extent: Dim | Expr,
    *body: Stmt,
    parallel: bool = False,
    independent: bool = False,
    start: Expr | None = None,
) -> Loop:
    """A serial loop, a parallel one (outermost only), or one of independent iterations."""
    size = extent if isinstance(extent, Expr) else build.dim(extent)
    kind = LoopKind.PARALLEL if parallel else LoopKind.INDEPENDENT if independent else LoopKind.SERIAL
    return Loop(name, size, tuple(body), kind, start if start is not None else build.i32(0))


def nest(names: Sequence[str], extents: Sequence[Dim], *body: Stmt, parallel: bool = False) -> tuple[Stmt, ...]:
    """Loops inside one another, outermost first; the body itself where there are none."""
    statements: tuple[Stmt, ...] = body
    for name, extent in zip(reversed(names), reversed(extents), strict=True):
        statements = (loop(name, extent, *statements, parallel=parallel),)
    return statements


class Direct:
    """One kernel under construction. name: what it computes, in words."""

    def __init__(self, context: NodeContext, name: str) -> None:
        self.context, self.name = context, name
        self.operands: dict[str, Operand] = {}
        self.access: dict[str, Access] = {}

    def input(self, index: int) -> Operand:
        """An input of the node, read."""
        return self.read(self.context.name(index))

    def output(self, index: int = 0, *, access: Access = Access.WRITE) -> Operand:
        """An output of the node; READ_WRITE if the kernel also reads it or writes only a part."""
        return self.write(self.context.output(index), access=access)

    def read(self, tensor: str) -> Operand:
        """A tensor by name, read."""
        return self._operand(self.context.state.tensor(tensor), f"in{len(self.operands)}", Access.READ)

    def write(self, tensor: Tensor, *, access: Access = Access.WRITE) -> Operand:
        """A tensor that the kernel writes."""
        return self._operand(tensor, f"out{len(self.operands)}", access)

    def _operand(self, tensor: Tensor, buffer: str, access: Access) -> Operand:
        found = self.operands.get(tensor.name)
        if found is None:
            found = self.operands[tensor.name] = Operand(tensor, buffer)
            self.access[tensor.name] = access
        elif self.access[tensor.name] is not access:
            self.access[tensor.name] = Access.READ_WRITE
        return found

    def run(self, *body: Stmt) -> None:
        """Finish the kernel and add its call to the program."""
        statements = tuple(map_expressions(part, lambda expr: simplify(expr, ())) for part in body)
        free: dict[str, Var] = {}
        scope: frozenset[str] = frozenset()
        for part in statements:
            scope = _free(part, scope, free)
        values = {old: Var(f"n{position}", signed=var.signed) for position, (old, var) in enumerate(free.items())}
        statements = tuple(map_expressions(part, lambda expr: substitute(expr, values)) for part in statements)
        buffers = tuple(
            BufferParameter(operand.buffer, operand.tensor.dtype, self.access[name])
            for name, operand in self.operands.items()
        )
        written = next(
            operand.tensor for name, operand in self.operands.items() if self.access[name] is not Access.READ
        )
        title = f"{self.name}_{short_dtype(written.dtype)}_{shape_name(written.shape)}"
        kernel = Kernel(title, buffers, tuple(var.name for var in values.values()), statements)
        self.context.call(
            kernel, tuple(self.operands), tuple(symbol(name, signed=var.signed) for name, var in values.items())
        )


def map_expressions(statement: Stmt, change: Callable[[Expr], Expr]) -> Stmt:
    """The statement with every expression in it changed."""
    match statement:
        case Loop(body=body, extent=extent, start=start):
            inner = tuple(map_expressions(part, change) for part in body)
            return replace(statement, extent=change(extent), start=change(start), body=inner)
        case If(condition=condition, then=then, otherwise=otherwise):
            return If(
                change(condition),
                tuple(map_expressions(part, change) for part in then),
                tuple(map_expressions(part, change) for part in otherwise),
            )
        case Store(buffer=buffer, index=index, value=value):
            return Store(buffer, change(index), change(value))
        case Local(init=init):
            return statement if init is None else replace(statement, init=change(init))
        case Assign(name=name, value=value):
            return Assign(name, change(value))
        case Barrier():
            return statement


def _free(statement: Stmt, bound: frozenset[str], found: dict[str, Var]) -> frozenset[str]:
    """Collect the variables that nothing in the kernel declares; returns what is bound behind the statement."""

    def look(*exprs: Expr) -> None:
        for expr in exprs:
            for name in sorted(free_variables(expr) - bound):
                signed = any(part == Var(name, signed=True) for part in subexpressions(expr))
                found.setdefault(name, Var(name, signed=signed))

    def block(body: tuple[Stmt, ...], scope: frozenset[str]) -> None:
        for part in body:
            scope = _free(part, scope, found)

    match statement:
        case Loop(var=var, extent=extent, start=start, body=body):
            look(extent, start)
            block(body, bound | {var})
        case If(condition=condition, then=then, otherwise=otherwise):
            look(condition)
            block(then, bound)
            block(otherwise, bound)
        case Store(index=index, value=value):
            look(index, value)
        case Local(name=name, init=init):
            if init is not None:
                look(init)
            return bound | {name}
        case Assign(value=value):
            look(value)
        case Barrier():
            pass
    return bound
