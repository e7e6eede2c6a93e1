"""Walking statements: what is declared, assigned and computed in a body, and substitution of a variable in it."""

from __future__ import annotations

from collections.abc import Iterator

from webdnn_backends.ir.loops import Assign, Expr, If, Local, Loop, Stmt, Store, subexpressions
from webdnn_backends.ir.rewrite import substitute

__all__ = ["assigned", "declared", "expressions", "replace_variable", "walk"]


def walk(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """All statements, outer ones first."""
    for item in body:
        yield item
        match item:
            case Loop(body=inner):
                yield from walk(inner)
            case If(then=then, otherwise=otherwise):
                yield from walk(then)
                yield from walk(otherwise)
            case _:
                pass


def expressions(item: Stmt) -> Iterator[Expr]:
    """All expressions of one statement and their parts, without those of the statements inside it."""
    roots: tuple[Expr, ...] = ()
    match item:
        case Loop(extent=extent, start=start):
            roots = (extent, start)
        case If(condition=condition):
            roots = (condition,)
        case Store(index=index, value=value):
            roots = (index, value)
        case Local(init=init) if init is not None:
            roots = (init,)
        case Assign(value=value):
            roots = (value,)
        case _:
            pass
    for root in roots:
        yield from subexpressions(root)


def declared(body: tuple[Stmt, ...]) -> Iterator[str]:
    """The names of loop variables, registers and arrays."""
    for item in walk(body):
        if isinstance(item, Loop):
            yield item.var
        elif isinstance(item, Local):
            yield item.name


def assigned(body: tuple[Stmt, ...]) -> frozenset[str]:
    """The registers that change after their declaration."""
    return frozenset(item.name for item in walk(body) if isinstance(item, Assign))


def replace_variable(statement: Stmt, name: str, value: Expr) -> Stmt:
    """The statement with a variable replaced everywhere in it."""
    into = {name: value}
    match statement:
        case Loop():
            body = tuple(replace_variable(item, name, value) for item in statement.body)
            start, extent = substitute(statement.start, into), substitute(statement.extent, into)
            return Loop(statement.var, extent, body, statement.kind, start, statement.step)
        case If(condition=condition, then=then, otherwise=otherwise):
            branches = [tuple(replace_variable(item, name, value) for item in branch) for branch in (then, otherwise)]
            return If(substitute(condition, into), branches[0], branches[1])
        case Store(buffer=buffer, index=index, value=stored):
            return Store(buffer, substitute(index, into), substitute(stored, into))
        case Local(init=init) if init is not None:
            first = substitute(init, into)
            return Local(statement.name, statement.type, first, statement.size, statement.lanes, statement.space)
        case Assign(name=target, value=changed):
            return Assign(target, substitute(changed, into))
        case _:
            return statement
