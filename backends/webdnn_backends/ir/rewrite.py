"""Rebuilding expressions: substitution of variables, replacement bottom-up, free variables, size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import is_

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import (
    Apply,
    Bitcast,
    Cast,
    Const,
    Expr,
    Lane,
    Load,
    Read,
    Reduce,
    Select,
    Splat,
    Var,
    Vector,
    operands,
    subexpressions,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_onnx.symbolic import free_symbols

__all__ = ["free_variables", "loads", "map_children", "reads", "replaced", "rewrite", "size", "substitute"]


def map_children(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The expression with `change` applied to its direct operands; index arithmetic is simplified as it is rebuilt."""
    old = operands(expr)
    new = tuple([change(part) for part in old])
    if all(map(is_, old, new)):
        return expr
    match expr:
        case Load(buffer=buffer, type=type, lanes=lanes):
            return Load(buffer, new[0], type, lanes)
        case Read(tensor=tensor, type=type):
            return Read(tensor, new, type)
        case Apply(op=op):
            return _rebuild(op, new)
        case Vector():
            return Vector(new)
        case Select():
            return build.select(*new)
        case Cast() | Bitcast() | Splat() | Lane():
            return replace(expr, arg=new[0])
        case Reduce(op=op, axes=axes):
            return Reduce(op, axes, new[0])
        case Var() | Const():
            return expr


def _rebuild(op: Op, args: tuple[Expr, ...]) -> Expr:
    if args[0].type is Scalar.I32 and args[0].lanes == 1 and op in _INDEX:
        return _INDEX[op](*args)
    if op is Op.AND:
        left, right = args
        if left == build.TRUE or right == build.FALSE:
            return right
        if right == build.TRUE or left == build.FALSE:
            return left
    return Apply(op, args)


_INDEX: dict[Op, Callable[..., Expr]] = {
    Op.ADD: build.add,
    Op.SUB: build.sub,
    Op.MUL: build.mul,
    Op.FLOOR_DIV: build.floor_div,
    Op.FLOOR_MOD: build.floor_mod,
}


def rewrite(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """The expression with every part, from the leaves up, replaced by what `change` returns for it (None: as it is)."""
    memo: dict[int, Expr] = {}

    def visit(part: Expr) -> Expr:
        found = memo.get(id(part))
        if found is None:
            rebuilt = map_children(part, visit)
            changed = change(rebuilt)
            found = rebuilt if changed is None else changed
            memo[id(part)] = found
        return found

    return visit(expr)


def replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    """The expression with every part that equals `old` replaced."""
    return new if expr == old else map_children(expr, lambda part: replaced(part, old, new))


def substitute(expr: Expr, values: Mapping[str, Expr] | Mapping[str, Var]) -> Expr:
    """The expression with variables replaced, all at once. Axes of a Reduce inside must not be among them."""
    if not values:
        return expr
    memo: dict[int, Expr] = {}
    names = values.keys()

    def visit(part: Expr) -> Expr:
        if isinstance(part, Var):
            return values.get(part.name, part)
        if names.isdisjoint(free_variables(part)):
            return part
        found = memo.get(id(part))
        if found is None:
            found = memo[id(part)] = map_children(part, visit)
        return found

    return visit(expr)


def free_variables(expr: Expr) -> frozenset[str]:
    """Names of variables that no Reduce inside binds."""
    found: frozenset[str] | None = expr.__dict__.get("_free")
    if found is None:
        found = expr.__dict__["_free"] = _free_variables(expr)
    return found


_NONE: frozenset[str] = frozenset()


def _free_variables(expr: Expr) -> frozenset[str]:
    if isinstance(expr, Var):
        return frozenset((expr.name,))
    parts = operands(expr)
    found = free_variables(parts[0]) if len(parts) == 1 else _NONE.union(*map(free_variables, parts))
    if isinstance(expr, Reduce):
        found |= _NONE.union(*(free_symbols(axis.extent) for axis in expr.axes))
        return found - {axis.name for axis in expr.axes}
    return found


def loads(expr: Expr) -> bool:
    """Whether there is a Load in it."""
    found: bool | None = expr.__dict__.get("_loads")
    if found is None:
        found = expr.__dict__["_loads"] = isinstance(expr, Load) or any(map(loads, operands(expr)))
    return found


def reads(expr: Expr) -> list[Read]:
    """Every Read in it, in order, repeated ones too."""
    return [part for part in subexpressions(expr) if isinstance(part, Read)]


def size(expr: Expr) -> int:
    """How many nodes it has, as a tree."""
    return sum(1 for _ in subexpressions(expr))
