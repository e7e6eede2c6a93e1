"""Walking statements: what is declared, assigned and computed in a body, and substitution of a variable in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from webdnn_backends.ir.loops import Assign, Expr, If, Load, Local, Loop, Stmt, Store, subexpressions
from webdnn_backends.ir.rewrite import rewrite, substitute

__all__ = ["assigned", "declared", "distinct_arrays", "expressions", "replace_variable", "walk"]


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


def expressions(item: Stmt) -> tuple[Expr, ...]:
    """All expressions of one statement and their parts, without those of the statements inside it."""
    found: tuple[Expr, ...] | None = item.__dict__.get("_expressions")
    if found is None:
        found = item.__dict__["_expressions"] = tuple(part for root in _roots(item) for part in subexpressions(root))
    return found


def _roots(item: Stmt) -> tuple[Expr, ...]:
    match item:
        case Loop(extent=extent, start=start):
            return (extent, start)
        case If(condition=condition):
            return (condition,)
        case Store(index=index, value=value):
            return (index, value)
        case Local(init=init) if init is not None:
            return (init,)
        case Assign(value=value):
            return (value,)
        case _:
            return ()


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


def distinct_arrays(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements in which arrays of one name have one type and size: for dialects that declare them at the top."""
    kinds: dict[str, list[Local]] = {}
    for item in walk(body):
        if isinstance(item, Local) and item.size is not None:
            known = kinds.setdefault(item.name, [])
            known += [] if item in known else [item]
    if all(len(known) == 1 for known in kinds.values()):
        return body
    taken = set(declared(body))
    names: dict[Local, str] = {}
    for name, known in kinds.items():
        for position, local in enumerate(known):
            own = name
            while position and own in taken:
                own += "_"
            taken.add(own)
            names[local] = own
    return _renamed_arrays(body, names, {})


def _renamed_arrays(body: tuple[Stmt, ...], names: Mapping[Local, str], outer: Mapping[str, str]) -> tuple[Stmt, ...]:
    scope = dict(outer)

    def changed(expr: Expr) -> Expr:
        def load(part: Expr) -> Expr | None:
            return replace(part, buffer=scope.get(part.buffer, part.buffer)) if isinstance(part, Load) else None

        return rewrite(expr, load)

    result: list[Stmt] = []
    for item in body:
        match item:
            case Loop(body=inner):
                extent, start = changed(item.extent), changed(item.start)
                result.append(replace(item, extent=extent, start=start, body=_renamed_arrays(inner, names, scope)))
            case If(condition=condition, then=then, otherwise=otherwise):
                branches = [_renamed_arrays(part, names, scope) for part in (then, otherwise)]
                result.append(If(changed(condition), *branches))
            case Store(buffer=buffer, index=index, value=value):
                result.append(Store(scope.get(buffer, buffer), changed(index), changed(value)))
            case Local(size=int()):
                scope[item.name] = names[item]
                result.append(replace(item, name=names[item]))
            case Local(init=init) if init is not None:
                result.append(replace(item, init=changed(init)))
            case Assign(name=name, value=value):
                result.append(Assign(name, changed(value)))
            case _:
                result.append(item)
    return tuple(result)
