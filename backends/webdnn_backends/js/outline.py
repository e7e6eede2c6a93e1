"""Sums as functions of their own, which all kernels of a module share.

V8 compiles a function the sooner the smaller it is and the more often it is called, and code that it compiles in the
middle of a loop is thrown away where the loop ends. A kernel whose loops are written in place spends most of its first
run in the interpreter; the sum of a tile as a function with extents and positions as arguments is hot after
milliseconds, for every kernel with a tile of that form.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    BufferParameter,
    Const,
    Expr,
    If,
    Kernel,
    Load,
    Local,
    Loop,
    LoopKind,
    Splat,
    Stmt,
    Var,
)
from webdnn_backends.ir.rewrite import free_variables, map_children, substitute
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.statements import assigned, declared, expressions, walk
from webdnn_backends.js.innermost import tightened
from webdnn_backends.te.simplify import IndexAlgebra, strides

__all__ = ["MOST_SUMS", "Outline", "outline"]

_ENOUGH_TERMS = 128
MOST_SUMS = 32


@dataclass(frozen=True)
class Outline:
    """A loop as a call. function: declares the sums from zero and runs the loop; its parameters are `numbers`.
    sums: its registers. buffers, numbers, registers: the caller's, for the function's buffers, parameters and sums."""

    function: Kernel
    sums: tuple[Var, ...]
    buffers: tuple[str, ...]
    numbers: tuple[Expr, ...]
    registers: tuple[Var, ...]


def outline(loop: Loop, buffers: Mapping[str, BufferParameter]) -> Outline | None:
    """The loop as a call, or None where it is not worth one, or does something else than add to float64 registers what
    it reads from buffers that nobody changes."""
    if loop.kind is not LoopKind.SERIAL or not _only_adds(loop, buffers):
        return None
    own = set(declared((loop,)))
    found = [item for item in walk((loop,)) if isinstance(item, Assign) and item.name not in own]
    registers = tuple(dict.fromkeys(Var(item.name, item.value.type, item.value.lanes) for item in found))
    if not registers or any(register.type is not Scalar.F64 for register in registers):
        return None
    count = sum(register.lanes for register in registers)
    worth = count <= MOST_SUMS and _trips(loop) * count >= _ENOUGH_TERMS
    return _Outliner(buffers, registers).outline(loop) if worth else None


def _only_adds(loop: Loop, buffers: Mapping[str, BufferParameter]) -> bool:
    for item in walk((loop,)):
        match item:
            case Loop(kind=LoopKind.SERIAL) | If():
                pass
            case Local(size=None):
                pass
            case Assign() if _adds(item):
                pass
            case _:
                return False
        for part in expressions(item):
            if isinstance(part, Load) and (
                part.buffer not in buffers or buffers[part.buffer].access is not Access.READ
            ):
                return False
            if isinstance(part, Apply) and part.op in (Op.FLOOR_DIV, Op.FLOOR_MOD):
                return False
    changing = assigned((loop,))
    locals_ = {item.name for item in walk((loop,)) if isinstance(item, Local)}
    return not changing & locals_


def _adds(item: Assign) -> bool:
    match item.value:
        case Apply(op=Op.ADD, args=(term, Var(name=item.name))) | Apply(op=Op.ADD, args=(Var(name=item.name), term)):
            return item.name not in free_variables(term)
        case _:
            return False


def _trips(item: Stmt) -> float:
    """How often the innermost statements run; infinite where that is not known."""
    match item:
        case Loop(extent=extent, body=body):
            own = extent.value if isinstance(extent, Const) else math.inf
            return float(own) * max(map(_trips, body), default=1.0)
        case If(then=then, otherwise=otherwise):
            return max(map(_trips, (*then, *otherwise)), default=1.0)
        case _:
            return 1.0


@dataclass
class _Outliner:
    """Renames what the loop uses, so that loops of one form give equal functions. names: of loop variables and
    registers. innermost: loop variables. positions: what the loop's own index registers hold."""

    available: Mapping[str, BufferParameter]
    registers: tuple[Var, ...]
    names: dict[str, str] = field(default_factory=dict)
    innermost: set[str] = field(default_factory=set)
    positions: dict[str, Expr] = field(default_factory=dict)
    buffers: dict[str, BufferParameter] = field(default_factory=dict)
    numbers: dict[Expr, Var] = field(default_factory=dict)

    def outline(self, loop: Loop) -> Outline:
        for number, register in enumerate(self.registers):
            self.names[register.name] = f"sum{number}"
        sums = tuple(Var(self.names[item.name], item.type, item.lanes) for item in self.registers)
        zero = Const(0.0, Scalar.F64)
        body = (
            *(Local(item.name, item.type, zero if item.lanes == 1 else Splat(zero), lanes=item.lanes) for item in sums),
            *self.block((loop,)),
        )
        kernel = Kernel("", tuple(self.buffers.values()), tuple(var.name for var in self.numbers.values()), body)
        digest = hashlib.sha256(repr(kernel).encode()).hexdigest()[:6]
        kernel = replace(tightened(kernel), name=f"sum_{sum(item.lanes for item in sums)}_{digest}")
        return Outline(kernel, sums, tuple(self.buffers), tuple(self.numbers), self.registers)

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(inner for item in body for inner in self.statement(item))

    def statement(self, item: Stmt) -> Iterator[Stmt]:
        match item:
            case Loop(var=var, body=body):
                start, extent = self.argument(item.start), self.argument(item.extent)
                self.names[var] = f"k{len(self.names)}"
                if not any(isinstance(inner, Loop) for inner in walk(body)):
                    self.innermost.add(var)
                yield Loop(self.names[var], extent, self.block(body), item.kind, start, item.step)
            case If(condition=condition, then=then, otherwise=otherwise):
                yield If(self.value(condition), self.block(then), self.block(otherwise))
            case Local(name=name, init=init) if init is not None and item.type is Scalar.I32:
                self.positions[name] = self.inlined(init)
            case Local(name=name, init=init) if init is not None:
                first = self.value(init)
                self.names[name] = f"value{len(self.names)}"
                yield Local(self.names[name], item.type, first, lanes=item.lanes)
            case Assign(name=name, value=value):
                yield Assign(self.names[name], self.value(value))
            case _:
                raise AssertionError("only what `_only_adds` lets through")

    def number(self, expr: Expr) -> Expr:
        """An argument of the function; zero and one stay what they are."""
        if expr in (Const(0), Const(1)):
            return expr
        return self.numbers.setdefault(expr, Var(f"n{len(self.numbers)}", expr.type))

    def inlined(self, expr: Expr) -> Expr:
        """The expression without the loop's index registers."""
        return substitute(expr, self.positions)

    def argument(self, expr: Expr) -> Expr:
        """The expression as one argument if nothing in the loop changes it."""
        expr = self.inlined(expr)
        return self.value(expr) if free_variables(expr) & self.names.keys() else self.number(expr)

    def position(self, index: Expr) -> Expr:
        """start + variable * step ..., with arguments for the start and the steps of the outer loops."""
        index = self.inlined(index)
        free = free_variables(index)
        inner = tuple(name for name in self.names if name in free)
        algebra = IndexAlgebra({})
        found = strides(algebra.to_dim(index), inner)
        if found is None or algebra.opaque:
            return self.value(index)
        total = self.number(substitute(index, {name: Const(0) for name in inner}))
        for name in inner:
            step = build.dim(found[name])
            known = name in self.innermost and isinstance(step, Const)
            total = build.add(total, build.mul(Var(self.names[name]), step if known else self.number(step)))
        return total

    def value(self, expr: Expr) -> Expr:
        """The expression over the function's names; what comes from outside are arguments."""
        match expr:
            case Var(name=name) if name in self.positions:
                return self.value(self.positions[name])
            case Var(name=name) if name in self.names:
                return Var(self.names[name], expr.type, expr.lanes)
            case Var():
                return self.number(expr)
            case Load(buffer=buffer, index=index):
                return Load(self.buffer(buffer), self.position(index), expr.type, expr.lanes)
            case _:
                return map_children(expr, self.value)

    def buffer(self, name: str) -> str:
        known = self.available[name]
        new = BufferParameter(f"b{len(self.buffers)}", known.dtype, known.access)
        return self.buffers.setdefault(name, new).name
