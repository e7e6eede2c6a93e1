"""Innermost loops as an engine wants them: what an optimising compiler for JavaScript cannot do by itself.

V8 neither merges equal loads from typed arrays nor moves checked index arithmetic out of a loop, and until it has
compiled a function at all, everything in the loop is interpreted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    Cast,
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
    Store,
    Var,
)
from webdnn_backends.ir.rewrite import free_variables, rewrite, substitute
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.ir.statements import assigned, declared
from webdnn_backends.te.simplify import IndexAlgebra, strides

__all__ = ["tightened"]


def tightened(kernel: Kernel) -> Kernel:
    """The kernel with innermost loops that load an element once and keep the invariant part of a position in a
    register."""
    fixed = frozenset(buffer.name for buffer in kernel.buffers if buffer.access is Access.READ)
    rewriter = _Rewriter(fixed, assigned(kernel.body), frozenset((*declared(kernel.body), *kernel.parameters)))
    return replace(kernel, body=rewriter.block(kernel.body))


@dataclass
class _Rewriter:
    """fixed: buffers that the kernel only reads; changing: registers with assignments; taken: names in use."""

    fixed: frozenset[str]
    changing: frozenset[str]
    taken: frozenset[str]

    def __post_init__(self) -> None:
        self.numbers = count()

    def fresh(self, stem: str) -> str:
        """A name that the kernel does not have yet."""
        return next(name for number in self.numbers if (name := f"{stem}{number}") not in self.taken)

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        """Statements with the innermost loops among them and inside them changed."""
        out: list[Stmt] = []
        for item in body:
            match item:
                case If(then=then, otherwise=otherwise):
                    out.append(replace(item, then=self.block(then), otherwise=self.block(otherwise)))
                case Loop(body=inner) if any(isinstance(part, Loop | If) for part in inner):
                    out.append(replace(item, body=self.block(inner)))
                case Loop():
                    out += self.innermost(item)
                case _:
                    out.append(item)
        return tuple(out)

    def innermost(self, loop: Loop) -> list[Stmt]:
        """A loop without others inside, and the registers in front of it."""
        loop = replace(loop, body=self.loaded_once(loop.body))
        if loop.kind is not LoopKind.SERIAL:
            return [loop]
        starts: dict[Expr, Var] = {}
        bound = {loop.var, *declared(loop.body)} | self.changing

        def change(part: Expr) -> Expr | None:
            if not isinstance(part, Load):
                return None
            return replace(part, index=self._position(part.index, loop.var, bound, starts))

        body = tuple(_mapped(item, lambda expr: rewrite(expr, change)) for item in loop.body)
        registers = [Local(register.name, Scalar.I32, start) for start, register in starts.items()]
        return [*registers, replace(loop, body=body)]

    def _position(self, index: Expr, variable: str, bound: set[str], starts: dict[Expr, Var]) -> Expr:
        """start + variable * step + constant, the start in a register; the index as it is where it has no such form."""
        algebra = IndexAlgebra({})
        found = strides(algebra.to_dim(index), (variable,))
        start = substitute(index, {variable: Const(0)})
        if found is None or algebra.opaque or found[variable] == 0 or free_variables(start) & bound:
            return index
        start, offset = _split(start)
        if isinstance(start, Var | Const):
            return index
        if start not in starts:
            starts[start] = Var(self.fresh("start"))
        step = build.mul(Var(variable), build.dim(found[variable]))
        return build.add(build.add(starts[start], step), offset)

    def loaded_once(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        """Loads that several assignments share go into a register in front of the first."""
        loads = [load for item in body if isinstance(item, Assign) for load in self._loads(item.value)]
        registers = {
            load: Var(self.fresh("element"), load.type, load.lanes)
            for load, times in Counter(loads).items()
            if times > 1 and not free_variables(load) & (self.changing | set(declared(body)))
        }
        if not registers:
            return body
        out: list[Stmt] = []
        seen: set[Load] = set()
        for item in body:
            if isinstance(item, Assign):
                for load in self._loads(item.value):
                    if load in registers and load not in seen:
                        seen.add(load)
                        out.append(Local(registers[load].name, load.type, load, lanes=load.lanes))
                value = rewrite(item.value, lambda part: registers.get(part) if isinstance(part, Load) else None)
                item = replace(item, value=value)
            out.append(item)
        return tuple(out)

    def _loads(self, expr: Expr) -> Iterator[Load]:
        """Loads that are carried out whenever the expression is, of elements that nothing changes."""
        match expr:
            case Load(buffer=buffer) if buffer in self.fixed:
                yield expr
            case Apply(args=args):
                for arg in args:
                    yield from self._loads(arg)
            case Cast(arg=arg) | Splat(arg=arg):
                yield from self._loads(arg)
            case _:
                pass


def _split(index: Expr) -> tuple[Expr, int]:
    """(index without its constant term, constant term)."""
    match index:
        case Apply(args=(left, Const(value=value))) if build.add(left, int(value)) == index:
            return left, int(value)
        case _:
            return index, 0


def _mapped(item: Stmt, change: Callable[[Expr], Expr]) -> Stmt:
    match item:
        case Store(index=index, value=value):
            return replace(item, index=change(index), value=change(value))
        case Local(init=init) if init is not None:
            return replace(item, init=change(init))
        case Assign(value=value):
            return replace(item, value=change(value))
        case _:
            return item
