"""Scalar operators that WebAssembly lacks, as values built from those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable

from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.wasm.values import Value, ValueTable

__all__ = ["EXPANSIONS", "expansion"]

Expansion = Callable[[ValueTable, tuple[Value, ...]], Value]


def expansion(op: Op, type: Scalar, lanes: int) -> Expansion | None:
    """How an operator without a row is built up, or None."""
    kind = "b" if type is Scalar.BOOL else "f" if type.is_float else "i"
    if lanes == 4 and (op, kind) in _SCALAR_ONLY:
        return None
    return EXPANSIONS.get((op, kind))


def _literal(t: ValueTable, value: float, like: Value) -> Value:
    return t.splat(t.const(value, like.type), like.lanes)


def _sign(t: ValueTable, args: tuple[Value, ...]) -> Value:
    (a,) = args
    zero, one = _literal(t, 0, a), _literal(t, 1, a)
    positive = t.op(Op.GT, a, zero)
    if not a.type.is_float and not a.type.is_signed:
        return t.select(positive, one, zero)
    below = t.select(t.op(Op.LT, a, zero), _literal(t, -1, a), zero)
    result = t.select(positive, one, below)
    return t.select(t.op(Op.NE, a, a), a, result) if a.type.is_float else result


def _is_nan(t: ValueTable, args: tuple[Value, ...]) -> Value:
    return t.op(Op.NE, args[0], args[0])


def _is_inf(t: ValueTable, args: tuple[Value, ...]) -> Value:
    return t.op(Op.EQ, t.op(Op.ABS, args[0]), _literal(t, math.inf, args[0]))


def _negate(t: ValueTable, args: tuple[Value, ...]) -> Value:
    return t.op(Op.SUB, _literal(t, 0, args[0]), args[0])


def _absolute(t: ValueTable, args: tuple[Value, ...]) -> Value:
    (a,) = args
    if not a.type.is_signed:
        return a
    return t.select(t.op(Op.LT, a, _literal(t, 0, a)), t.op(Op.NEG, a), a)


def _minimum(t: ValueTable, args: tuple[Value, ...]) -> Value:
    return t.select(t.op(Op.LT, *args), args[0], args[1])


def _maximum(t: ValueTable, args: tuple[Value, ...]) -> Value:
    return t.select(t.op(Op.GT, *args), args[0], args[1])


def _not(t: ValueTable, args: tuple[Value, ...]) -> Value:
    return t.op(
        Op.BIT_XOR, args[0], _literal(t, -1 if args[0].type.is_signed else (1 << args[0].type.bits) - 1, args[0])
    )


def _floor_div(t: ValueTable, args: tuple[Value, ...]) -> Value:
    a, b = args
    quotient = t.op(Op.DIV, a, b)
    if not a.type.is_signed:
        return quotient
    zero = _literal(t, 0, a)
    remainder = t.op(Op.SUB, a, t.op(Op.MUL, quotient, b))
    inexact = t.op(Op.AND, t.op(Op.NE, remainder, zero), t.op(Op.NE, b, zero))
    opposite = t.op(Op.LT, t.op(Op.BIT_XOR, a, b), zero)
    lower = t.op(Op.SUB, quotient, _literal(t, 1, a))
    return t.select(t.op(Op.AND, inexact, opposite), lower, quotient)


def _floor_mod(t: ValueTable, args: tuple[Value, ...]) -> Value:
    a, b = args
    remainder = t.op(Op.REM, a, b)
    if not a.type.is_signed:
        return remainder
    zero = _literal(t, 0, a)
    wrong = t.op(Op.AND, t.op(Op.NE, remainder, zero), t.op(Op.LT, t.op(Op.BIT_XOR, remainder, b), zero))
    return t.select(wrong, t.op(Op.ADD, remainder, b), remainder)


def _float_floor_mod(t: ValueTable, args: tuple[Value, ...]) -> Value:
    a, b = args
    remainder, zero = t.op(Op.REM, a, b), _literal(t, 0, a)
    nonzero = t.op(Op.NE, remainder, zero)
    wrong = t.op(Op.AND, nonzero, t.op(Op.NE, t.op(Op.LT, remainder, zero), t.op(Op.LT, b, zero)))
    signed_zero = t.select(t.op(Op.LT, b, zero), _literal(t, -0.0, a), zero)
    return t.select(nonzero, t.select(wrong, t.op(Op.ADD, remainder, b), remainder), signed_zero)


def _fma(t: ValueTable, args: tuple[Value, ...]) -> Value:
    return t.op(Op.ADD, t.op(Op.MUL, args[0], args[1]), args[2])


# REM and DIV of integers, and fmod, are the emitter's; four lanes of these go lane by lane where they rest on them.
EXPANSIONS: dict[tuple[Op, str], Expansion] = {
    (Op.SIGN, "f"): _sign,
    (Op.SIGN, "i"): _sign,
    (Op.IS_NAN, "f"): _is_nan,
    (Op.IS_INF, "f"): _is_inf,
    (Op.NEG, "i"): _negate,
    (Op.ABS, "i"): _absolute,
    (Op.MIN, "i"): _minimum,
    (Op.MAX, "i"): _maximum,
    (Op.BIT_NOT, "i"): _not,
    (Op.FLOOR_DIV, "i"): _floor_div,
    (Op.FLOOR_MOD, "i"): _floor_mod,
    (Op.FLOOR_MOD, "f"): _float_floor_mod,
    (Op.FMA, "f"): _fma,
}
_SCALAR_ONLY = {(Op.FLOOR_DIV, "i"), (Op.FLOOR_MOD, "i"), (Op.FLOOR_MOD, "f")}
