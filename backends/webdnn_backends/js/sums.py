"""Sums in double precision: JavaScript's own arithmetic.

Engines compute float32 arithmetic as float64 with a conversion after every operation, so a float32 sum kept in float64
is two to three times as fast, and its rounding error is that of the last conversion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from webdnn_backends.ir.loops import Apply, Assign, Cast, Const, Expr, If, Kernel, Local, Loop, Splat, Stmt, Store, Var
from webdnn_backends.ir.rewrite import rewrite
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.statements import walk
from webdnn_onnx.dtypes import DType

__all__ = ["with_double_sums"]


def with_double_sums(kernel: Kernel) -> Kernel:
    """The kernel with every float32 register that is only ever added to, in a loop, held in float64.

    Terms that are products are not rounded before they are added. A register with any other assignment stays as it is.
    """
    names = _sums(kernel.body)
    if not names:
        return kernel
    return replace(kernel, body=tuple(_statement(item, names) for item in kernel.body))


def _sums(body: tuple[Stmt, ...]) -> frozenset[str]:
    found = {item.name for item in _in_loops(body) if isinstance(item, Assign) and _adds(item)}
    for item in walk(body):
        match item:
            case Assign(name=name) if not _adds(item):
                found.discard(name)
            case Local(name=name) if item.type is not Scalar.F32 or item.size is not None:
                found.discard(name)
            case _:
                pass
    return frozenset(found)


def _in_loops(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    for item in walk(body):
        if isinstance(item, Loop):
            yield from walk(item.body)


def _adds(item: Assign) -> bool:
    """Whether the new value is the old one and something more."""
    match item.value:
        case Apply(op=Op.FMA, args=(_, _, Var(name=item.name))):
            return item.value.type is Scalar.F32
        case Apply(op=Op.ADD, args=(left, right)):
            own = [isinstance(part, Var) and part.name == item.name for part in (left, right)]
            return item.value.type is Scalar.F32 and own[0] != own[1]
        case _:
            return False


def _statement(item: Stmt, names: frozenset[str]) -> Stmt:
    match item:
        case Loop(body=body):
            return replace(item, body=tuple(_statement(inner, names) for inner in body))
        case If(condition=condition, then=then, otherwise=otherwise):
            branches = [tuple(_statement(inner, names) for inner in branch) for branch in (then, otherwise)]
            return If(_narrow(condition, names), branches[0], branches[1])
        case Store(index=index, value=value):
            return replace(item, index=_narrow(index, names), value=_narrow(value, names))
        case Local(name=name, init=init) if init is not None:
            if name in names:
                return replace(item, type=Scalar.F64, init=_wide(init, names))
            return replace(item, init=_narrow(init, names))
        case Assign(name=name, value=value):
            return Assign(name, _wide(value, names) if name in names else _narrow(value, names))
        case _:
            return item


def _wide(expr: Expr, names: frozenset[str]) -> Expr:
    """The value in float64, sums and products in it not rounded on the way."""
    match expr:
        case Var(name=name) if name in names:
            return replace(expr, type=Scalar.F64)
        case Const(value=value):
            return Const(value, Scalar.F64)
        case Splat(arg=arg):
            return replace(expr, arg=_wide(arg, names))
        case Apply(op=Op.FMA, args=(left, right, total)):
            product = Apply(Op.MUL, (_wide(left, names), _wide(right, names)))
            return Apply(Op.ADD, (product, _wide(total, names)))
        case Apply(op=Op.ADD | Op.MUL as op, args=args):
            return Apply(op, tuple(_wide(arg, names) for arg in args))
        case _:
            return Cast(DType.FLOAT64, _narrow(expr, names))


def _narrow(expr: Expr, names: frozenset[str]) -> Expr:
    """The expression with float64 sums converted where it reads them."""

    def change(part: Expr) -> Expr | None:
        if isinstance(part, Var) and part.name in names:
            return Cast(DType.FLOAT32, replace(part, type=Scalar.F64))
        return None

    return rewrite(expr, change)
