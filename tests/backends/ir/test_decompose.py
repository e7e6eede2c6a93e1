"""Definitions against the meanings of the operators they stand for, evaluated with more digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir import meanings
from webdnn_backends.ir.decompose import DEFINED, define
from webdnn_backends.ir.interpret import evaluate_definition
from webdnn_backends.ir.scalars import OPS, Op, Scalar

Array = npt.NDArray[Any]

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1e-40, 3e38, -3e38)
ORDINARY = (2.0, 3.0, -2.0, -3.0, 100.0, -100.0, 6.2, 9.0, 1e5, -1e5)

# Largest error allowed in units in the last place, for float32 and float64: what the series and the roundings
# of their last steps cost, rounded up from what is measured.
ULP: dict[Op, tuple[float, float]] = {
    Op.REM: (0.5, 0.5),
    Op.FLOOR_MOD: (0.5, 0.5),
    Op.SIGN: (0.5, 0.5),
    Op.EXP: (1.5, 1.5),
    Op.LOG: (1.0, 1.0),
    Op.POW: (4.0, 30.0),
    Op.SIN: (2.0, 2.0),
    Op.COS: (2.0, 2.0),
    Op.TAN: (16.0, 4.0),
    Op.ASIN: (2.5, 2.5),
    Op.ACOS: (1.5, 1.5),
    Op.ATAN: (2.6, 2.6),
    Op.SINH: (3.5, 4.0),
    Op.COSH: (3.0, 3.0),
    Op.TANH: (2.0, 2.0),
    Op.ASINH: (3.5, 3.5),
    Op.ACOSH: (1.5, 1.5),
    Op.ATANH: (1.5, 1.5),
    Op.ERF: (1.5, 1.5),
}
RANGES = {
    Op.EXP: (-104.0, 89.0),
    Op.SIN: (-1e5, 1e5),
    Op.COS: (-1e5, 1e5),
    Op.TAN: (-1e5, 1e5),
    Op.ASIN: (-1.0, 1.0),
    Op.ACOS: (-1.0, 1.0),
    Op.SINH: (-90.0, 90.0),
    Op.COSH: (-90.0, 90.0),
    Op.TANH: (-20.0, 20.0),
    Op.ATANH: (-1.0, 1.0),
    Op.ERF: (-7.0, 7.0),
}
PERIODIC = (Op.SIN, Op.COS, Op.TAN)
FLOATS = {Scalar.F32: np.float32, Scalar.F64: np.float64}


def inputs(op: Op, type: Scalar) -> tuple[Array, ...]:
    rng = np.random.default_rng(7)
    dtype = FLOATS[type]
    if OPS[op].arity == 2:
        special = np.array(SPECIAL + ORDINARY)
        x = rng.standard_normal(20_000) * np.exp2(rng.uniform(-20, 20, 20_000))
        y = rng.standard_normal(20_000) * np.exp2(rng.uniform(-10, 10, 20_000))
        x[::5] = rng.uniform(0.5, 2, 4_000)
        y[::3] = np.round(y[::3])
        left, right = np.meshgrid(special, special)
        return np.append(left.ravel(), x).astype(dtype), np.append(right.ravel(), y).astype(dtype)
    spread = rng.standard_normal(50_000) * np.exp2(rng.uniform(-30, 30, 50_000))
    dense = rng.uniform(*RANGES.get(op, (-10.0, 10.0)), 100_000)
    values = np.concatenate([SPECIAL, ORDINARY, spread, dense]).astype(dtype)
    return (values[~(np.isfinite(values) & (np.abs(values) > 1e5))] if op in PERIODIC else values,)


def exact(op: Op, args: tuple[Array, ...], type: Scalar) -> Array:
    """The value with more digits than the result has."""
    wide = np.float64 if type is Scalar.F32 else np.longdouble
    if op is Op.ERF:
        return np.array([math.erf(value) for value in args[0].tolist()])
    functions: dict[Op, Callable[..., Array]] = {
        Op.EXP: np.exp,
        Op.LOG: np.log,
        Op.POW: np.power,
        Op.SIN: np.sin,
        Op.COS: np.cos,
        Op.TAN: np.tan,
        Op.ASIN: np.arcsin,
        Op.ACOS: np.arccos,
        Op.ATAN: np.arctan,
        Op.SINH: np.sinh,
        Op.COSH: np.cosh,
        Op.TANH: np.tanh,
        Op.ASINH: np.arcsinh,
        Op.ACOSH: np.arccosh,
        Op.ATANH: np.arctanh,
    }
    with np.errstate(all="ignore"):
        if op not in functions:
            return meanings.evaluate(op, *args)
        return functions[op](*(arg.astype(wide) for arg in args))


def test_every_definition_has_a_stated_accuracy() -> None:
    assert ULP.keys() == DEFINED


@pytest.mark.parametrize("type", FLOATS, ids=lambda type: type.value)
@pytest.mark.parametrize("op", sorted(DEFINED, key=lambda op: op.value), ids=lambda op: op.value)
def test_definition_is_as_accurate_as_stated(op: Op, type: Scalar) -> None:
    args = inputs(op, type)
    got = evaluate_definition(define(op, type), *args)
    want = exact(op, args, type)
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
    assert got.dtype == FLOATS[type]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    infinite = np.isinf(rounded) | np.isinf(got)
    np.testing.assert_array_equal(got[infinite], rounded[infinite])
    if op is not Op.SIGN:
        zero = rounded == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(rounded[zero]))
    finite = ~infinite & ~np.isnan(rounded)
    error = np.abs(got[finite].astype(want.dtype) - want[finite])
    ulp = error / np.spacing(np.abs(rounded[finite])).astype(want.dtype)
    if op in PERIODIC:
        ulp = np.where(error < (1e-7 if type is Scalar.F32 else 1e-14), 0, ulp)
    worst = int(np.argmax(ulp))
    limit = ULP[op][list(FLOATS).index(type)]
    assert ulp[worst] <= limit, f"{op.value} of {[arg[finite][worst] for arg in args]}: {ulp[worst]} ULP"


@pytest.mark.parametrize("op", sorted(DEFINED, key=lambda op: op.value), ids=lambda op: op.value)
def test_four_lanes_compute_what_one_does(op: Op) -> None:
    args = [arg[: len(arg) // 4 * 4] for arg in inputs(op, Scalar.F32)]
    definition = define(op, Scalar.F32)
    if definition.scalar_only:
        with pytest.raises(ValueError, match="one lane"):
            define(op, Scalar.F32, 4)
        return
    one = evaluate_definition(definition, *args)
    four = evaluate_definition(define(op, Scalar.F32, 4), *(arg.reshape(-1, 4) for arg in args))
    np.testing.assert_array_equal(four.ravel(), one)


def test_large_arguments_of_sine_stay_bounded() -> None:
    x = np.float32([1e6, 1e10, 3e38])
    for op in (Op.SIN, Op.COS):
        assert (np.abs(evaluate_definition(define(op, Scalar.F32), x)) <= 1).all()


def test_operators_without_a_definition_are_refused() -> None:
    with pytest.raises(KeyError):
        define(Op.ADD, Scalar.F32)
    with pytest.raises(KeyError):
        define(Op.EXP, Scalar.I32)
