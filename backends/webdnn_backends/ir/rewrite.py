"""Rebuilding expressions: substitution of variables, replacement bottom-up, free variables, size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

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
    subexpressions,
)
from webdnn_backends.ir.scalars import Op, Scalar

__all__ = ["free_variables", "map_children", "reads", "rewrite", "size", "substitute"]


def map_children(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The expression with `change` applied to its direct operands; index arithmetic is simplified as it is rebuilt."""
    match expr:
        case Var() | Const():
            return expr
        case Load(index=index):
            return replace(expr, index=change(index))
        case Read(indices=indices):
            return replace(expr, indices=tuple(change(index) for index in indices))
        case Apply(op=op, args=args):
            new = tuple(change(arg) for arg in args)
            if all(before is after for before, after in zip(args, new, strict=True)):
                return expr
            return _rebuild(op, new)
        case Vector(args=args):
            return Vector(tuple(change(arg) for arg in args))
        case Cast() | Bitcast() | Splat() | Lane():
            return replace(expr, arg=change(expr.arg))
        case Select(condition=condition, true=true, false=false):
            return build.select(change(condition), change(true), change(false))
        case Reduce(body=body):
            return replace(expr, body=change(body))


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


def substitute(expr: Expr, values: Mapping[str, Expr] | Mapping[str, Var]) -> Expr:
    """The expression with variables replaced, all at once. Axes of a Reduce inside must not be among them."""
    if not values:
        return expr
    memo: dict[int, Expr] = {}

    def visit(part: Expr) -> Expr:
        if isinstance(part, Var):
            return values.get(part.name, part)
        found = memo.get(id(part))
        if found is None:
            found = memo[id(part)] = map_children(part, visit)
        return found

    return visit(expr)


def free_variables(expr: Expr) -> frozenset[str]:
    """Names of variables that no Reduce inside binds."""
    match expr:
        case Var(name=name):
            return frozenset((name,))
        case Const():
            return frozenset()
        case Load(index=index):
            return free_variables(index)
        case Reduce(axes=axes, body=body):
            return (free_variables(body) | _extents(expr)) - {axis.name for axis in axes}
        case Read(indices=parts) | Apply(args=parts) | Vector(args=parts):
            return frozenset().union(*map(free_variables, parts)) if parts else frozenset()
        case Cast(arg=arg) | Bitcast(arg=arg) | Splat(arg=arg) | Lane(arg=arg):
            return free_variables(arg)
        case Select(condition=condition, true=true, false=false):
            return free_variables(condition) | free_variables(true) | free_variables(false)


def _extents(expr: Reduce) -> frozenset[str]:
    return frozenset().union(*(free_variables(build.dim(axis.extent)) for axis in expr.axes))


def reads(expr: Expr) -> list[Read]:
    """Every Read in it, in order, repeated ones too."""
    return [part for part in subexpressions(expr) if isinstance(part, Read)]


def size(expr: Expr) -> int:
    """How many nodes it has, as a tree."""
    return sum(1 for _ in subexpressions(expr))
