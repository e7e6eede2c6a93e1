"""Scalar operators as functions of simpler ones, for dialects whose target lacks them or computes them too loosely.

A `Definition` is a small function in the loop IR: parameters, statements, one result. A dialect prints it once as a
helper function, or inlines it with the statements' registers renamed. Definitions are generic in lanes; those with
`scalar_only` contain loops and have one lane. A definition may apply operators that are themselves decomposed
(SINH applies EXP); these references never form a cycle.

What the definitions rely on: ADD SUB MUL DIV FMA NEG ABS SQRT ROUND TRUNC MIN MAX, comparisons, Select, Bitcast,
integer and bit operators, and Cast between floats and the integer of their width. Splitting into high and low parts is
done by masking bits, so that a compiler that reassociates floats cannot undo it. Polynomials that are not in
`coefficients` are Taylor series.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from webdnn_backends.ir import coefficients
from webdnn_backends.ir.build import apply, cast, const, select
from webdnn_backends.ir.loops import Assign, Bitcast, Cast, Expr, If, Local, Loop, Splat, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_onnx.dtypes import DType

__all__ = ["DEFINED", "Definition", "define"]


@dataclass(frozen=True)
class Definition:
    """`name(parameters) { body; return result }`; the body declares registers, and has loops where `scalar_only`."""

    name: str
    parameters: tuple[Var, ...]
    body: tuple[Stmt, ...]
    result: Expr
    scalar_only: bool = False


class _Body:
    """Collects the registers of one definition, for one float type and one number of lanes."""

    def __init__(self, type: Scalar, lanes: int) -> None:
        self.type, self.lanes = type, lanes
        self.format = _FORMATS[type]
        self.statements: list[Stmt] = []

    def let(self, name: str, value: Expr) -> Var:
        """A register with this value."""
        assert all(not isinstance(other, Local) or other.name != name for other in self.statements), name
        self.statements.append(Local(name, value.type, value, lanes=value.lanes))
        return Var(name, value.type, value.lanes)

    def const(self, value: float) -> Expr:
        return self._spread(const(value, self.type))

    def integer(self, value: int) -> Expr:
        """A literal of the integer type that is as wide as the float."""
        return self._spread(const(value, self.format.integer))

    def _spread(self, value: Expr) -> Expr:
        return Splat(value, self.lanes) if self.lanes > 1 else value

    def polynomial(self, x: Expr, terms: tuple[float, ...]) -> Expr:
        """c[0] + c[1]*x + ..., by Horner's rule."""
        result = self.const(terms[-1])
        for coefficient in reversed(terms[:-1]):
            result = apply(Op.FMA, result, x, self.const(coefficient))
        return result

    def bits(self, x: Expr) -> Expr:
        return Bitcast(self.format.integer, x)

    def high(self, x: Expr) -> Expr:
        """`x` with the lower half of its mantissa cleared: products of two such numbers are exact."""
        return Bitcast(self.type, apply(Op.BIT_AND, self.bits(x), self.integer(-(1 << self.format.low_bits))))

    def with_sign_of(self, sign: Expr, magnitude: Expr) -> Expr:
        mask = self.integer(self.format.minimum)
        bits = apply(Op.BIT_OR, self.bits(magnitude), apply(Op.BIT_AND, self.bits(sign), mask))
        return Bitcast(self.type, bits)

    def power_of_two(self, exponent: Expr) -> Expr:
        """2**exponent for exponents of normal numbers; `exponent` has the integer type."""
        biased = apply(Op.ADD, exponent, self.integer(self.format.bias))
        return Bitcast(self.type, apply(Op.SHL, biased, self.integer(self.format.mantissa)))

    def to_integer(self, x: Expr) -> Expr:
        return Cast(self.format.integer_storage, x)

    def to_float(self, x: Expr) -> Expr:
        return Cast(self.format.storage, x)


@dataclass(frozen=True)
class _Format:
    """One float type: its layout, and constants cut to fit it."""

    storage: DType
    integer: Scalar
    integer_storage: DType
    mantissa: int
    bias: int
    low_bits: int
    minimum: int
    ln2: tuple[float, float]
    exp_range: tuple[float, float]
    half_pi: tuple[float, ...]
    reduction_limit: float
    normalise: int
    exp_terms: int
    log_terms: int
    sin_terms: int
    sinh_terms: int
    huge_exponent: float


_FORMATS = {
    Scalar.F32: _Format(
        storage=DType.FLOAT32,
        integer=Scalar.I32,
        integer_storage=DType.INT32,
        mantissa=23,
        bias=127,
        low_bits=12,
        minimum=-(1 << 31),
        ln2=(0.693145751953125, 1.4286068203094173e-06),
        exp_range=(-104.0, 88.72283935546875),
        half_pi=(1.5703125, 0.0004825592041015625, 1.2665987014770508e-06, 9.920935796805404e-10),
        reduction_limit=131072.0,
        normalise=25,
        exp_terms=8,
        log_terms=5,
        sin_terms=5,
        sinh_terms=6,
        huge_exponent=2.0**32,
    ),
    Scalar.F64: _Format(
        storage=DType.FLOAT64,
        integer=Scalar.I64,
        integer_storage=DType.INT64,
        mantissa=52,
        bias=1023,
        low_bits=27,
        minimum=-(1 << 63),
        ln2=(0.6931471805592082, 7.371002565167799e-13),
        exp_range=(-746.0, 709.7827128933840),
        half_pi=(1.5707963109016418, 1.5893254712295857e-08, 6.123233932053594e-17, 6.36831716351095e-25),
        reduction_limit=2.0**26,
        normalise=54,
        exp_terms=14,
        log_terms=12,
        sin_terms=9,
        sinh_terms=10,
        huge_exponent=2.0**64,
    ),
}


def define(op: Op, type: Scalar, lanes: int = 1) -> Definition:
    """The definition of an operator for a float type.

    Raises KeyError if there is none (see `DEFINED`), ValueError for several lanes of a `scalar_only` one.
    """
    return _define(op, type, lanes)


@functools.cache
def _define(op: Op, type: Scalar, lanes: int) -> Definition:
    build, arity, scalar_only = _BUILDERS[op]
    if type not in _FORMATS:
        raise KeyError(f"{op.value} of {type.value}")
    if scalar_only and lanes != 1:
        raise ValueError(f"{op.value}: is defined for one lane, got {lanes}")
    body = _Body(type, lanes)
    parameters = tuple(Var(name, type, lanes) for name in ("x", "y")[:arity])
    result = build(body, *parameters)
    suffix = type.value if lanes == 1 else f"{type.value}x{lanes}"
    return Definition(f"{op.value}_{suffix}", parameters, tuple(body.statements), result, scalar_only)


def _exp(body: _Body, x: Expr) -> Expr:
    """2**n * e**r with x = n*ln(2) + r, |r| <= ln(2)/2."""
    n = body.let("n", apply(Op.ROUND, apply(Op.MUL, x, body.const(1 / math.log(2)))))
    high, low = body.format.ln2
    r = apply(Op.FMA, n, body.const(-low), apply(Op.FMA, n, body.const(-high), x))
    value = _scaled_exp(body, n, body.let("r", r))
    return _exp_limits(body, x, value)


def _scaled_exp(body: _Body, n: Expr, r: Expr) -> Expr:
    terms = tuple(1 / math.factorial(k) for k in range(body.format.exp_terms))
    value = body.let("p", body.polynomial(r, terms))
    whole = body.let("whole", body.to_integer(n))
    half = body.let("half", apply(Op.SHR, whole, body.integer(1)))
    rest = body.power_of_two(apply(Op.SUB, whole, half))
    return apply(Op.MUL, apply(Op.MUL, value, body.power_of_two(half)), rest)


def _exp_limits(body: _Body, x: Expr, value: Expr) -> Expr:
    low, high = body.format.exp_range
    value = select(apply(Op.GT, x, body.const(high)), body.const(math.inf), value)
    return select(apply(Op.LT, x, body.const(low)), body.const(0.0), value)


def _split_binary(body: _Body, x: Expr) -> tuple[Expr, Expr]:
    """(m, k) with x = m * 2**k, sqrt(1/2) <= m < sqrt(2), for positive finite x."""
    form = body.format
    tiny = body.let("tiny", apply(Op.LT, x, body.const(2.0 ** (1 - form.bias))))
    normal = body.let("normal", select(tiny, apply(Op.MUL, x, body.const(2.0**form.normalise)), x))
    one, root = form.bias << form.mantissa, _bits(math.sqrt(0.5), form)
    offset = body.let("offset", apply(Op.ADD, body.bits(normal), body.integer(one - root)))
    shifted = apply(Op.SHR, offset, body.integer(form.mantissa))
    adjust = select(tiny, body.integer(form.bias + form.normalise), body.integer(form.bias))
    k = body.let("k", apply(Op.SUB, shifted, adjust))
    fraction = apply(Op.BIT_AND, offset, body.integer((1 << form.mantissa) - 1))
    m = body.let("m", Bitcast(body.type, apply(Op.ADD, fraction, body.integer(root))))
    return m, body.to_float(k)


def _bits(value: float, form: _Format) -> int:
    """The bit pattern of a positive float, its mantissa cut off."""
    mantissa, exponent = math.frexp(value)
    return ((exponent - 1 + form.bias) << form.mantissa) + int((mantissa * 2 - 1) * 2**form.mantissa)


def _log(body: _Body, x: Expr) -> Expr:
    """k*ln(2) + f - s*(f - R) with m = 1 + f, s = f/(2 + f), R = 2*s*s/3 + 2*s**4/5 + ..."""
    m, k = _split_binary(body, x)
    k = body.let("kf", k)
    f = body.let("f", apply(Op.SUB, m, body.const(1.0)))
    s = body.let("s", apply(Op.DIV, f, apply(Op.ADD, f, body.const(2.0))))
    z = body.let("z", apply(Op.MUL, s, s))
    series = tuple(2 / (2 * i + 3) for i in range(body.format.log_terms))
    rest = body.let("rest", apply(Op.MUL, z, body.polynomial(z, series)))
    high, low = body.format.ln2
    small = apply(Op.FMA, k, body.const(low), apply(Op.MUL, s, apply(Op.SUB, rest, f)))
    value: Expr = apply(Op.FMA, k, body.const(high), apply(Op.ADD, f, small))
    value = select(apply(Op.EQ, x, body.const(math.inf)), x, value)
    value = select(apply(Op.EQ, x, body.const(0.0)), body.const(-math.inf), value)
    bad = apply(Op.OR, apply(Op.LT, x, body.const(0.0)), apply(Op.IS_NAN, x))
    return select(bad, body.const(math.nan), value)


def _pow(body: _Body, x: Expr, y: Expr) -> Expr:
    """exp(y * log|x|) with the logarithm and the product held as high + low, then the cases of IEEE 754."""
    form = body.format
    magnitude = body.let("magnitude", apply(Op.ABS, x))
    limit = body.const(form.huge_exponent)
    too_big = apply(Op.GT, apply(Op.ABS, y), limit)
    power = body.let("power", select(too_big, body.with_sign_of(y, limit), y))
    m, k = _split_binary(body, magnitude)
    k = body.let("kf", k)
    high, low = _log_high_low(body, m, k)
    power_high = body.let("power_high", body.high(power))
    power_low = apply(Op.SUB, power, power_high)
    exact = body.let("exact", apply(Op.MUL, power_high, high))
    small = body.let("small", apply(Op.FMA, power, low, apply(Op.MUL, power_low, high)))
    total = body.let("total", apply(Op.ADD, exact, small))
    n = body.let("n", apply(Op.ROUND, apply(Op.MUL, total, body.const(1 / math.log(2)))))
    ln2_high, ln2_low = form.ln2
    rest = apply(Op.FMA, n, body.const(-ln2_high), exact)
    r = body.let("r", apply(Op.ADD, rest, apply(Op.FMA, n, body.const(-ln2_low), small)))
    value = body.let("value", _exp_limits(body, total, _scaled_exp(body, n, r)))
    return _pow_cases(body, x, y, magnitude, value)


def _log_high_low(body: _Body, m: Expr, k: Expr) -> tuple[Expr, Expr]:
    """log(m) + k*ln(2) as two registers, the first with half of the mantissa."""
    f = body.let("f", apply(Op.SUB, m, body.const(1.0)))
    d = body.let("d", apply(Op.ADD, m, body.const(1.0)))
    d_high = body.let("d_high", body.high(d))
    d_low = body.let("d_low", apply(Op.SUB, m, apply(Op.SUB, d_high, body.const(1.0))))
    s = body.let("s", apply(Op.DIV, f, d))
    s_high = body.let("s_high", body.high(s))
    remainder = apply(Op.SUB, apply(Op.SUB, f, apply(Op.MUL, s_high, d_high)), apply(Op.MUL, s_high, d_low))
    s_low = body.let("s_low", apply(Op.DIV, remainder, d))
    z = body.let("z", apply(Op.MUL, s, s))
    series = tuple(2 / (2 * i + 3) for i in range(body.format.log_terms))
    tail = apply(Op.MUL, s, apply(Op.MUL, z, body.polynomial(z, series)))
    ln2_high, ln2_low = body.format.ln2
    whole = body.let("whole_log", apply(Op.MUL, k, body.const(ln2_high)))
    twice = body.let("twice", apply(Op.MUL, s_high, body.const(2.0)))
    high = body.let("log_high", body.high(apply(Op.ADD, whole, twice)))
    rest = apply(Op.ADD, apply(Op.SUB, whole, high), twice)
    small = apply(Op.ADD, apply(Op.FMA, k, body.const(ln2_low), apply(Op.MUL, s_low, body.const(2.0))), tail)
    return high, body.let("log_low", apply(Op.ADD, rest, small))


def _pow_cases(body: _Body, x: Expr, y: Expr, magnitude: Expr, value: Expr) -> Expr:
    zero, one, infinity = body.const(0.0), body.const(1.0), body.const(math.inf)
    integral = body.let("integral", apply(Op.EQ, apply(Op.TRUNC, y), y))
    half = body.let("half_power", apply(Op.MUL, y, body.const(0.5)))
    odd = apply(Op.AND, integral, apply(Op.NE, apply(Op.TRUNC, half), half))
    rising = body.let("rising", apply(Op.GT, y, zero))
    value = select(apply(Op.EQ, magnitude, zero), select(rising, zero, infinity), value)
    value = body.let("finite", select(apply(Op.EQ, magnitude, infinity), select(rising, infinity, zero), value))
    negative = apply(Op.LT, body.bits(x), body.integer(0))
    value = select(apply(Op.AND, odd, negative), apply(Op.NEG, value), value)
    undefined = apply(Op.AND, apply(Op.LT, x, zero), apply(Op.NOT, integral))
    undefined = apply(Op.AND, undefined, apply(Op.LT, magnitude, infinity))
    undefined = apply(Op.OR, undefined, apply(Op.OR, apply(Op.IS_NAN, x), apply(Op.IS_NAN, y)))
    value = select(undefined, body.const(math.nan), value)
    return select(apply(Op.OR, apply(Op.EQ, y, zero), apply(Op.EQ, x, one)), one, value)


def _quadrant(body: _Body, x: Expr) -> tuple[Expr, Expr, Expr]:
    """(q, sin r, cos r) with x = n*pi/2 + r and q = n mod 4. Accurate for |x| up to the format's reduction limit,
    within [-1, 1] beyond it."""
    n = body.let("n", apply(Op.ROUND, apply(Op.MUL, x, body.const(2 / math.pi))))
    r = x
    for i, part in enumerate(body.format.half_pi):
        r = body.let(f"r{i}", apply(Op.FMA, n, body.const(-part), r))
    r = body.let("r", apply(Op.MAX, apply(Op.MIN, r, body.const(0.8)), body.const(-0.8)))
    z = body.let("z", apply(Op.MUL, r, r))
    count = body.format.sin_terms
    sine_terms = tuple((-1) ** (i + 1) / math.factorial(2 * i + 3) for i in range(count - 1))
    cosine_terms = tuple((-1) ** i / math.factorial(2 * i) for i in range(count + 1))
    cube = apply(Op.MUL, z, r)
    sine = body.let("sine", apply(Op.FMA, cube, body.polynomial(z, sine_terms), r))
    cosine = body.let("cosine", body.polynomial(z, cosine_terms))
    return body.let("q", body.to_integer(n)), sine, cosine


def _bit(body: _Body, q: Expr, bit: int) -> Expr:
    return apply(Op.NE, apply(Op.BIT_AND, q, body.integer(bit)), body.integer(0))


def _sin(body: _Body, x: Expr) -> Expr:
    q, sine, cosine = _quadrant(body, x)
    value = body.let("value", select(_bit(body, q, 1), cosine, sine))
    turned = select(_bit(body, q, 2), apply(Op.NEG, value), value)
    return select(apply(Op.EQ, x, body.const(0.0)), x, turned)


def _cos(body: _Body, x: Expr) -> Expr:
    q, sine, cosine = _quadrant(body, x)
    value = body.let("value", select(_bit(body, q, 1), sine, cosine))
    return select(_bit(body, apply(Op.ADD, q, body.integer(1)), 2), apply(Op.NEG, value), value)


def _tan(body: _Body, x: Expr) -> Expr:
    q, sine, cosine = _quadrant(body, x)
    turned = body.let("turned", _bit(body, q, 1))
    value = apply(Op.DIV, select(turned, apply(Op.NEG, cosine), sine), select(turned, sine, cosine))
    return select(apply(Op.EQ, x, body.const(0.0)), x, value)


def _odd(body: _Body, x: Expr, z: Expr, terms: tuple[float, ...]) -> Expr:
    """x * P(z), where P(0) = 1."""
    cube = apply(Op.MUL, x, z)
    return apply(Op.FMA, cube, body.polynomial(z, terms[1:]), x)


def _atan(body: _Body, x: Expr) -> Expr:
    a = body.let("a", apply(Op.ABS, x))
    far = body.let("far", apply(Op.GT, a, body.const(1 + math.sqrt(2))))
    middle = body.let("middle", apply(Op.GT, a, body.const(math.sqrt(2) - 1)))
    one = body.const(1.0)
    top = select(far, body.const(-1.0), select(middle, apply(Op.SUB, a, one), a))
    bottom = select(far, a, select(middle, apply(Op.ADD, a, one), one))
    t = body.let("t", apply(Op.DIV, top, bottom))
    z = body.let("z", apply(Op.MUL, t, t))
    base = select(far, body.const(math.pi / 2), select(middle, body.const(math.pi / 4), body.const(0.0)))
    return body.with_sign_of(x, apply(Op.ADD, base, _odd(body, t, z, coefficients.ATAN[body.type])))


def _asin_half(body: _Body, a: Expr) -> tuple[Expr, Expr]:
    """(whether a > 1/2, asin(sqrt((1 - a)/2)) there or else asin(a)), for 0 <= a <= 1."""
    big = body.let("big", apply(Op.GT, a, body.const(0.5)))
    half = apply(Op.MUL, apply(Op.SUB, body.const(1.0), a), body.const(0.5))
    z = body.let("z", select(big, half, apply(Op.MUL, a, a)))
    s = body.let("s", select(big, apply(Op.SQRT, z), a))
    return big, body.let("p", _odd(body, s, z, coefficients.ASIN[body.type]))


def _asin(body: _Body, x: Expr) -> Expr:
    a = body.let("a", apply(Op.ABS, x))
    big, p = _asin_half(body, a)
    value = select(big, apply(Op.FMA, p, body.const(-2.0), body.const(math.pi / 2)), p)
    return select(apply(Op.GT, a, body.const(1.0)), body.const(math.nan), body.with_sign_of(x, value))


def _acos(body: _Body, x: Expr) -> Expr:
    a = body.let("a", apply(Op.ABS, x))
    big, p = _asin_half(body, a)
    twice = body.let("twice", apply(Op.MUL, p, body.const(2.0)))
    far = select(apply(Op.GT, x, body.const(0.0)), twice, apply(Op.SUB, body.const(math.pi), twice))
    value = select(big, far, apply(Op.SUB, body.const(math.pi / 2), body.with_sign_of(x, p)))
    return select(apply(Op.GT, a, body.const(1.0)), body.const(math.nan), value)


def _sinh_cosh_parts(body: _Body, x: Expr) -> tuple[Expr, Expr, Expr]:
    """(|x|, e**|x|/2, e**-|x|/2), the second overflowing only where it must: half of e is taken in its exponent, so
    that no compiler multiplies e by itself first."""
    a = body.let("a", apply(Op.ABS, x))
    e = body.let("e", apply(Op.EXP, apply(Op.MUL, a, body.const(0.5))))
    half = Bitcast(body.type, apply(Op.SUB, body.bits(e), body.integer(1 << body.format.mantissa)))
    growing = apply(Op.MUL, half, e)
    return a, growing, apply(Op.DIV, apply(Op.DIV, body.const(0.5), e), e)


def _sinh(body: _Body, x: Expr) -> Expr:
    a, growing, shrinking = _sinh_cosh_parts(body, x)
    z = body.let("z", apply(Op.MUL, x, x))
    near = _odd(body, x, z, tuple(1 / math.factorial(2 * i + 1) for i in range(body.format.sinh_terms)))
    far = body.with_sign_of(x, apply(Op.SUB, growing, shrinking))
    return select(apply(Op.LT, a, body.const(1.0)), near, far)


def _cosh(body: _Body, x: Expr) -> Expr:
    _, growing, shrinking = _sinh_cosh_parts(body, x)
    return apply(Op.ADD, growing, shrinking)


def _tanh(body: _Body, x: Expr) -> Expr:
    a = body.let("a", apply(Op.ABS, x))
    t = body.let("t", apply(Op.EXP, apply(Op.MUL, a, body.const(-2.0))))
    far = apply(Op.DIV, apply(Op.SUB, body.const(1.0), t), apply(Op.ADD, body.const(1.0), t))
    near = _odd(body, a, body.let("z", apply(Op.MUL, x, x)), coefficients.TANH[body.type])
    return body.with_sign_of(x, select(apply(Op.LT, a, body.const(0.55)), near, far))


def _asinh(body: _Body, x: Expr) -> Expr:
    a = body.let("a", apply(Op.ABS, x))
    huge = body.let("huge", apply(Op.GT, a, body.const(2.0 ** (body.format.mantissa // 2 + 3))))
    z = body.let("z", apply(Op.MUL, x, x))
    root = apply(Op.SQRT, apply(Op.ADD, z, body.const(1.0)))
    logarithm = apply(Op.LOG, select(huge, a, apply(Op.ADD, a, root)))
    far = apply(Op.ADD, logarithm, select(huge, body.const(math.log(2)), body.const(0.0)))
    near = _odd(body, a, z, coefficients.ASINH[body.type])
    return body.with_sign_of(x, select(apply(Op.LT, a, body.const(0.5)), near, far))


def _acosh(body: _Body, x: Expr) -> Expr:
    """2*asinh(sqrt((x - 1)/2)): no cancellation near 1, no overflow."""
    half = apply(Op.MUL, apply(Op.SUB, x, body.const(1.0)), body.const(0.5))
    value = apply(Op.MUL, apply(Op.ASINH, apply(Op.SQRT, half)), body.const(2.0))
    return select(apply(Op.LT, x, body.const(1.0)), body.const(math.nan), value)


def _atanh(body: _Body, x: Expr) -> Expr:
    a = body.let("a", apply(Op.ABS, x))
    one = body.const(1.0)
    ratio = apply(Op.DIV, apply(Op.ADD, one, a), apply(Op.SUB, one, a))
    far = apply(Op.MUL, apply(Op.LOG, ratio), body.const(0.5))
    far = select(apply(Op.EQ, a, one), body.const(math.inf), far)
    far = select(apply(Op.GT, a, one), body.const(math.nan), body.with_sign_of(x, far))
    near = _odd(body, x, apply(Op.MUL, x, x), coefficients.ATANH[body.type])
    return select(apply(Op.LT, a, body.const(0.5)), near, far)


def _erf(body: _Body, x: Expr) -> Expr:
    """x * P(x*x) up to 1, then 1 - exp(-x*x) * Q."""
    a = body.let("a", apply(Op.ABS, x))
    b = body.let("b", select(apply(Op.GT, a, body.const(6.2)), body.const(6.2), a))
    centre, terms = coefficients.ERFC[body.type]
    top = apply(Op.SUB, b, body.const(centre))
    t = body.let("t", apply(Op.DIV, top, apply(Op.ADD, b, body.const(centre))))
    bell = apply(Op.EXP, apply(Op.NEG, apply(Op.MUL, b, b)))
    scale = apply(Op.FMA, b, body.const(2.0), body.const(1.0))
    tail = apply(Op.DIV, apply(Op.MUL, bell, body.polynomial(t, terms)), scale)
    far = body.with_sign_of(x, apply(Op.SUB, body.const(1.0), tail))
    first, *rest = coefficients.ERF[body.type]
    excess = body.polynomial(body.let("z", apply(Op.MUL, x, x)), (first - 1, *rest))
    near = apply(Op.FMA, x, excess, x)
    value = select(apply(Op.LT, a, body.const(1.0)), near, far)
    return select(apply(Op.IS_NAN, x), x, value)


def _integer_mantissa(body: _Body, name: str, magnitude: Expr) -> tuple[Expr, Expr]:
    """(mantissa, exponent) with magnitude = mantissa * 2**(exponent - bias - mantissa bits), if positive and finite."""
    form = body.format
    tiny = body.let(f"{name}_tiny", apply(Op.LT, magnitude, body.const(2.0 ** (1 - form.bias))))
    scaled = apply(Op.MUL, magnitude, body.const(2.0**form.normalise))
    bits = body.let(f"{name}_bits", body.bits(select(tiny, scaled, magnitude)))
    field = apply(Op.SHR, bits, body.integer(form.mantissa))
    exponent = apply(Op.SUB, field, select(tiny, body.integer(form.normalise), body.integer(0)))
    fraction = apply(Op.BIT_AND, bits, body.integer((1 << form.mantissa) - 1))
    mantissa = apply(Op.BIT_OR, fraction, body.integer(1 << form.mantissa))
    return body.let(f"{name}_mantissa", mantissa), body.let(f"{name}_exponent", exponent)


def _rem(body: _Body, x: Expr, y: Expr) -> Expr:
    """Long division of the mantissas: exact for every quotient."""
    form = body.format
    a, b = body.let("a", apply(Op.ABS, x)), body.let("b", apply(Op.ABS, y))
    remainder, a_exponent = _integer_mantissa(body, "a", a)
    divisor, b_exponent = _integer_mantissa(body, "b", b)
    defined = apply(Op.AND, apply(Op.GT, b, body.const(0.0)), apply(Op.LT, a, body.const(math.inf)))
    defined = body.let("defined", apply(Op.AND, defined, apply(Op.NOT, apply(Op.IS_NAN, y))))
    divides = body.let("divides", apply(Op.AND, defined, apply(Op.GE, a, b)))
    steps = select(divides, apply(Op.SUB, a_exponent, b_exponent), body.integer(0))
    assert isinstance(remainder, Var), "a register"
    subtract = If(apply(Op.GE, remainder, divisor), (Assign(remainder.name, apply(Op.SUB, remainder, divisor)),))
    double = Assign(remainder.name, apply(Op.SHL, remainder, body.integer(1)))
    body.statements += [Loop("step", cast(DType.INT32, steps), (subtract, double)), subtract]
    scale = body.let("scale", apply(Op.ADD, b_exponent, body.integer(-form.bias - form.mantissa)))
    half = body.let("half", apply(Op.SHR, scale, body.integer(1)))
    value = apply(Op.MUL, body.to_float(remainder), body.power_of_two(half))
    value = apply(Op.MUL, value, body.power_of_two(apply(Op.SUB, scale, half)))
    value = select(divides, body.with_sign_of(x, value), x)
    return select(defined, value, body.const(math.nan))


def _floor_mod(body: _Body, x: Expr, y: Expr) -> Expr:
    zero = body.const(0.0)
    r = body.let("r", apply(Op.REM, x, y))
    differs = apply(Op.XOR, apply(Op.LT, r, zero), apply(Op.LT, y, zero))
    moved = select(differs, apply(Op.ADD, r, y), r)
    return select(apply(Op.EQ, r, zero), body.with_sign_of(y, zero), moved)


def _sign(body: _Body, x: Expr) -> Expr:
    zero = body.const(0.0)
    below = select(apply(Op.LT, x, zero), body.const(-1.0), x)
    return select(apply(Op.GT, x, zero), body.const(1.0), below)


_BUILDERS: dict[Op, tuple[Callable[..., Expr], int, bool]] = {
    Op.REM: (_rem, 2, True),
    Op.FLOOR_MOD: (_floor_mod, 2, True),
    Op.SIGN: (_sign, 1, False),
    Op.EXP: (_exp, 1, False),
    Op.LOG: (_log, 1, False),
    Op.POW: (_pow, 2, False),
    Op.SIN: (_sin, 1, False),
    Op.COS: (_cos, 1, False),
    Op.TAN: (_tan, 1, False),
    Op.ASIN: (_asin, 1, False),
    Op.ACOS: (_acos, 1, False),
    Op.ATAN: (_atan, 1, False),
    Op.SINH: (_sinh, 1, False),
    Op.COSH: (_cosh, 1, False),
    Op.TANH: (_tanh, 1, False),
    Op.ASINH: (_asinh, 1, False),
    Op.ACOSH: (_acosh, 1, False),
    Op.ATANH: (_atanh, 1, False),
    Op.ERF: (_erf, 1, False),
}
DEFINED = frozenset(_BUILDERS)
