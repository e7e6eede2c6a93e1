"""Short constructors for loop-IR expressions, with the simplifications that need no knowledge of ranges."""

from __future__ import annotations

from collections.abc import Callable

from webdnn_backends.ir.loops import Apply, Cast, Const, Expr, Select, Splat, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Call, Dim, Symbol

__all__ = ["add", "apply", "cast", "const", "dim", "f32", "floor_div", "floor_mod", "i32", "mul", "select", "sub"]

FALSE, TRUE = Const(False, Scalar.BOOL), Const(True, Scalar.BOOL)


def const(value: bool | int | float, type: Scalar) -> Const:
    """A literal of a compute type."""
    return Const(float(value) if type.is_float else bool(value) if type is Scalar.BOOL else int(value), type)


def i32(value: int | Expr) -> Expr:
    """An index: integers become literals."""
    return Const(value) if isinstance(value, int) else value


def f32(value: float) -> Const:
    return Const(float(value), Scalar.F32)


def apply(op: Op, *args: Expr) -> Expr:
    """An operator applied; scalars are splatted where another operand is a vector."""
    lanes = max(arg.lanes for arg in args)
    return Apply(op, tuple(Splat(arg, lanes) if arg.lanes != lanes else arg for arg in args))


def cast(to: DType, arg: Expr) -> Expr:
    """A conversion; none where a literal can be converted here or the full-width type is the same."""
    if isinstance(arg, Const) and to in (DType.INT64, DType.FLOAT64) and not isinstance(arg.value, float):
        return const(arg.value, Cast(to, arg).type)
    if isinstance(arg, Const) and to is DType.INT32 and not isinstance(arg.value, float):
        return const((int(arg.value) + (1 << 31)) % (1 << 32) - (1 << 31), Scalar.I32)
    if isinstance(arg, Const) and to is DType.UINT32 and not isinstance(arg.value, float):
        return const(int(arg.value) & 0xFFFFFFFF, Scalar.U32)
    result = Cast(to, arg)
    return arg if result.type is arg.type and to.bits == arg.type.bits and to is not DType.BOOL else result


def select(condition: Expr, true: Expr, false: Expr) -> Expr:
    """A choice; decided here where the condition is a literal."""
    if isinstance(condition, Const):
        return true if condition.value else false
    if true == false:
        return true
    lanes = max(true.lanes, false.lanes, condition.lanes)
    return Select(
        condition,
        Splat(true, lanes) if true.lanes != lanes else true,
        Splat(false, lanes) if false.lanes != lanes else false,
    )


def add(left: int | Expr, right: int | Expr) -> Expr:
    """Sum of two indices; constants are gathered on the right."""
    left, right = i32(left), i32(right)
    if isinstance(left, Const) and isinstance(right, Const):
        return Const(int(left.value) + int(right.value))
    if isinstance(left, Const):
        left, right = right, left
    if isinstance(right, Const):
        if right.value == 0:
            return left
        if isinstance(left, Apply) and left.op is Op.ADD and isinstance(left.args[1], Const):
            return add(left.args[0], int(left.args[1].value) + int(right.value))
        return Apply(Op.ADD, (left, right))
    if isinstance(left, Apply) and left.op is Op.ADD and isinstance(left.args[1], Const):
        return add(add(left.args[0], right), left.args[1])
    if isinstance(right, Apply) and right.op is Op.ADD and isinstance(right.args[1], Const):
        return add(add(left, right.args[0]), right.args[1])
    return Apply(Op.ADD, (left, right))


def sub(left: int | Expr, right: int | Expr) -> Expr:
    """Difference of two indices."""
    left, right = i32(left), i32(right)
    if isinstance(right, Const):
        return add(left, -int(right.value))
    return Const(0) if left == right else Apply(Op.SUB, (left, right))


def mul(left: int | Expr, right: int | Expr) -> Expr:
    """Product of two indices; a constant factor is distributed over an added constant."""
    left, right = i32(left), i32(right)
    if isinstance(left, Const) and isinstance(right, Const):
        return Const(int(left.value) * int(right.value))
    if isinstance(left, Const):
        left, right = right, left
    if isinstance(right, Const):
        if right.value == 0:
            return Const(0)
        if right.value == 1:
            return left
        if isinstance(left, Apply) and isinstance(left.args[-1], Const):
            inner = int(left.args[-1].value)
            if left.op is Op.ADD:
                return add(mul(left.args[0], right), inner * int(right.value))
            if left.op is Op.MUL:
                return mul(left.args[0], inner * int(right.value))
    return Apply(Op.MUL, (left, right))


def floor_div(left: int | Expr, right: int | Expr) -> Expr:
    """Quotient of two indices, towards minus infinity."""
    left, right = i32(left), i32(right)
    if isinstance(right, Const):
        if right.value == 1:
            return left
        if isinstance(left, Const):
            return Const(int(left.value) // int(right.value) if right.value else 0)
    return Apply(Op.FLOOR_DIV, (left, right))


def floor_mod(left: int | Expr, right: int | Expr) -> Expr:
    """Remainder of two indices, with the divisor's sign."""
    left, right = i32(left), i32(right)
    if isinstance(right, Const):
        if right.value == 1:
            return Const(0)
        if isinstance(left, Const):
            return Const(int(left.value) % int(right.value) if right.value else 0)
    return Apply(Op.FLOOR_MOD, (left, right))


def dim(value: Dim) -> Expr:
    """A dimension as an I32 expression over kernel parameters named like its symbols."""
    if isinstance(value, int):
        return Const(value)
    total: Expr = Const(0)
    for atoms, factor in value.terms:
        term: Expr = Const(factor)
        for atom in atoms:
            term = mul(_atom(atom), term) if isinstance(term, Const) else mul(term, _atom(atom))
        total = add(total, term)
    return total


_CALLS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "floordiv": floor_div,
    "mod": floor_mod,
    "max": lambda left, right: Apply(Op.MAX, (left, right)),
    "min": lambda left, right: Apply(Op.MIN, (left, right)),
    "eq": lambda left, right: Cast(DType.INT32, Apply(Op.EQ, (left, right))),
    "lt": lambda left, right: Cast(DType.INT32, Apply(Op.LT, (left, right))),
}


def _atom(atom: Symbol | Call) -> Expr:
    if isinstance(atom, Symbol):
        return Var(atom.name, signed=atom.signed)
    return _CALLS[atom.function](dim(atom.left), dim(atom.right))
