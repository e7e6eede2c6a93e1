"""Loops of independent iterations, which lowerings mark: several iterations at a time.

Where an iteration only computes elements side by side, four become one vector. Where it holds a sum, those of several
iterations run in one loop: what they share is loaded once, and no addition waits for the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import (
    Apply,
    Assign,
    Const,
    Expr,
    If,
    Kernel,
    Load,
    Local,
    Loop,
    LoopKind,
    Select,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.rewrite import free_variables, loads, substitute
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.ir.statements import assigned, declared, expressions, walk
from webdnn_backends.te.simplify import IndexAlgebra, strides
from webdnn_onnx.dtypes import DType

__all__ = ["several_at_a_time"]

_VECTOR = 4
_MOST_REGISTERS = 8
"""Sums that run side by side: with an element of each operand they fit the registers that V8 has on x64."""


def several_at_a_time(kernel: Kernel) -> Kernel:
    """The kernel with its independent loops widened where that is possible."""
    floats = frozenset(buffer.name for buffer in kernel.buffers if buffer.dtype is DType.FLOAT32)
    return replace(kernel, body=_block(kernel.body, floats))


def _block(body: tuple[Stmt, ...], floats: frozenset[str]) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for item in body:
        match item:
            case Loop(kind=LoopKind.INDEPENDENT, step=1):
                out += _widened(item, floats)
            case Loop():
                out.append(replace(item, body=_block(item.body, floats)))
            case If(condition=condition, then=then, otherwise=otherwise):
                out.append(If(condition, _block(then, floats), _block(otherwise, floats)))
            case _:
                out.append(item)
    return tuple(out)


def _widened(loop: Loop, floats: frozenset[str]) -> list[Stmt]:
    """The loop by vectors or with its sums side by side, and what is left; or as it is."""
    vectors = _Vectors(loop.var, floats).body(loop.body)
    if vectors is not None:
        return _split(loop, vectors, _VECTOR)
    count = _sums_at_once(loop)
    if count > 1:
        return _split(loop, _together(loop.var, loop.body, count, floats), count)
    return [replace(loop, body=_block(loop.body, floats))]


def _split(loop: Loop, body: tuple[Stmt, ...], count: int) -> list[Stmt]:
    whole, rest = floor_div(loop.extent, count), floor_mod(loop.extent, count)
    out: list[Stmt] = []
    if whole != Const(0):
        out.append(replace(loop, extent=whole, body=body, step=count))
    if rest != Const(0):
        out.append(replace(loop, extent=rest, start=add(loop.start, mul(whole, count))))
    return out


class _NoVectorError(Exception):
    """An expression that has no vector."""


class _Vectors:
    """Four iterations of a loop as one. wide: what stands for registers of the body; other ones of `own` have no vector
    of four iterations."""

    def __init__(
        self,
        name: str,
        floats: frozenset[str],
        wide: Mapping[str, Expr] | None = None,
        own: frozenset[str] = frozenset(),
    ) -> None:
        self.name, self.floats, self.own = name, floats, own
        self.wide = dict(wide or {})

    def body(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...] | None:
        """The statements, or None where one cannot be done four times at once."""
        try:
            return tuple(map(self._statement, body))
        except _NoVectorError:
            return None

    def _statement(self, item: Stmt) -> Stmt:
        match item:
            case Local(name=name, type=Scalar.F32, init=init, size=None, lanes=1) if init is not None:
                value = self._value(init)
                self.wide[name] = Var(name, Scalar.F32, value.lanes)
                return replace(item, init=value, lanes=value.lanes)
            case Store(buffer=buffer, index=index, value=value) if buffer in self.floats and self._step(index) == 1:
                wide = self._value(value)
                return Store(buffer, index, wide if wide.lanes == _VECTOR else Splat(wide, _VECTOR))
        raise _NoVectorError

    def _step(self, index: Expr) -> object:
        if loads(index) or not self.wide.keys().isdisjoint(free_variables(index)):
            return None
        found = strides(IndexAlgebra({}).to_dim(index), (self.name,))
        return None if found is None else found[self.name]

    def _value(self, expr: Expr) -> Expr:
        if isinstance(expr, Var) and expr.name in self.wide:
            return self.wide[expr.name]
        if not self.own.isdisjoint(free_variables(expr) - self.wide.keys()):
            raise _NoVectorError
        if self.name not in free_variables(expr) and self.wide.keys().isdisjoint(free_variables(expr)):
            return expr
        match expr:
            case Load(buffer=buffer, index=index, type=Scalar.F32, lanes=1) if buffer in self.floats:
                if self._step(index) == 1:
                    return replace(expr, lanes=_VECTOR)
            case Apply(op=op, args=args) if args[0].type in (Scalar.F32, Scalar.BOOL) and expr.lanes == 1:
                return build.apply(op, *map(self._value, args))
            case Select(condition=condition, true=true, false=false) if expr.type is Scalar.F32:
                chosen = self._value(condition)
                if chosen.lanes == 1 or not (loads(true) or loads(false)):
                    return build.select(chosen, self._value(true), self._value(false))
        raise _NoVectorError


def _sums_at_once(loop: Loop) -> int:
    """How many iterations' sums go side by side: as many as have registers; 1 where the body has no such sums, or they
    share nothing."""
    inner = [item for item in loop.body if isinstance(item, Loop)]
    own = {loop.var, *declared(loop.body)}
    if not inner or any(isinstance(item, If) or (isinstance(item, Local) and item.size) for item in walk(loop.body)):
        return 1
    shared = False
    for item in inner:
        if not all(isinstance(part, Assign) for part in item.body) or item.kind is not LoopKind.SERIAL:
            return 1
        if not own.isdisjoint(free_variables(item.extent) | free_variables(item.start)):
            return 1
        fixed = own - {item.var}
        parts = (part for statement in item.body for part in expressions(statement) if isinstance(part, Load))
        shared = shared or any(fixed.isdisjoint(free_variables(part.index)) for part in parts)
    most = max(len(assigned(item.body)) for item in inner)
    return next((count for count in (4, 2) if count * most <= _MOST_REGISTERS), 1) if shared else 1


def _together(name: str, body: tuple[Stmt, ...], count: int, floats: frozenset[str]) -> tuple[Stmt, ...]:
    """So many iterations statement by statement, their inner loops as one. What follows the sums of four iterations is
    done by vectors as soon as it can be."""
    own = [item for item in walk(body) if isinstance(item, Local)]
    copies: list[tuple[dict[str, Expr], dict[str, str]]] = []
    for copy in range(count):
        names = {item.name: f"{item.name}_{copy}" for item in own}
        values: dict[str, Expr] = {item.name: Var(names[item.name], item.type, item.lanes) for item in own}
        copies.append(({**values, name: add(Var(name), copy)}, names))
    out: list[Stmt] = []
    last = max(place for place, item in enumerate(body) if isinstance(item, Loop))
    for place, item in enumerate(body):
        if place > last and count == _VECTOR:
            scalars = [local for local in own if local in body[:place] and local.lanes == 1]
            wide = {local.name: Vector(tuple(copy[0][local.name] for copy in copies)) for local in scalars}
            vectors = _Vectors(name, floats, wide, frozenset(local.name for local in own)).body(body[place:])
            if vectors is not None:
                return (*out, *vectors)
        if isinstance(item, Loop):
            parts = (_copied(part, *copy) for part in item.body for copy in copies)
            out.append(replace(item, body=tuple(parts)))
        else:
            out += [_copied(item, *copy) for copy in copies]
    return tuple(out)


def _copied(item: Stmt, values: Mapping[str, Expr], names: Mapping[str, str]) -> Stmt:
    change = partial(substitute, values=values)
    match item:
        case Local(name=name, init=init):
            return replace(item, name=names[name], init=None if init is None else change(init))
        case Assign(name=name, value=value):
            return Assign(names.get(name, name), change(value))
        case Store(buffer=buffer, index=index, value=value):
            return Store(buffer, change(index), change(value))
    raise AssertionError(f"{item.__class__.__name__}: nothing else is in a loop of sums")
