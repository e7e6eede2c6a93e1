"""Elementwise operators: one expression per element, broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, const
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.casts import converted
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.registry import LOWERINGS, lowering
from webdnn_backends.te.tensors import Copy
from webdnn_onnx.dtypes import DType

__all__: list[str] = []

_UNARY: dict[str, Op] = {
    "Abs": Op.ABS,
    "Neg": Op.NEG,
    "Sign": Op.SIGN,
    "Ceil": Op.CEIL,
    "Floor": Op.FLOOR,
    "Round": Op.ROUND,
    "Sqrt": Op.SQRT,
    "Exp": Op.EXP,
    "Log": Op.LOG,
    "Sin": Op.SIN,
    "Cos": Op.COS,
    "Tan": Op.TAN,
    "Asin": Op.ASIN,
    "Acos": Op.ACOS,
    "Atan": Op.ATAN,
    "Sinh": Op.SINH,
    "Cosh": Op.COSH,
    "Tanh": Op.TANH,
    "Asinh": Op.ASINH,
    "Acosh": Op.ACOSH,
    "Atanh": Op.ATANH,
    "Not": Op.NOT,
    "BitwiseNot": Op.BIT_NOT,
    "IsNaN": Op.IS_NAN,
}
_BINARY: dict[str, Op] = {
    "Add": Op.ADD,
    "Sub": Op.SUB,
    "Mul": Op.MUL,
    "Div": Op.DIV,
    "And": Op.AND,
    "Or": Op.OR,
    "Xor": Op.XOR,
    "BitwiseAnd": Op.BIT_AND,
    "BitwiseOr": Op.BIT_OR,
    "BitwiseXor": Op.BIT_XOR,
    "Equal": Op.EQ,
    "Less": Op.LT,
    "LessOrEqual": Op.LE,
    "Greater": Op.GT,
    "GreaterOrEqual": Op.GE,
}


def unary(op: Op) -> Callable[[NodeContext], None]:
    """The lowering of an operator that is one scalar operator."""

    def lower(context: NodeContext) -> None:
        context.emit(lambda i: apply(op, context.element(0, i)))

    return lower


def binary(op: Op) -> Callable[[NodeContext], None]:
    """The lowering of a broadcasting operator that is one scalar operator."""

    def lower(context: NodeContext) -> None:
        shift = legacy_shift(context)
        context.emit(
            lambda i: apply(
                op, context.element(0, i) if shift is not None else context.broadcast(0, i), _second(context, i, shift)
            )
        )

    return lower


for _name, _op in _UNARY.items():
    LOWERINGS.add(_name, 1, unary(_op))
for _name, _op in _BINARY.items():
    LOWERINGS.add(_name, 1, binary(_op))


def legacy_shift(context: NodeContext) -> int | None:
    """Where B's axes start in A under the opset 1 to 6 `broadcast` and `axis` attributes; None for today's rule."""
    if context.node.opset >= 7 or not context.attribute("broadcast", 0):
        return None
    if context.shape(1) == (1,) * context.rank(1):
        return 0
    rank, axis = context.rank(0), context.attribute("axis", context.rank(0) - context.rank(1))
    if context.rank(1) == 1 and not -rank <= axis < rank:
        return 0  # one element, or an axis that is none
    return context.axis(axis, rank)


def _second(context: NodeContext, indices: tuple[Expr, ...], shift: int | None) -> Expr:
    if shift is None:
        return context.broadcast(1, indices)
    shape = context.shape(1)
    at = [Const(0) if size == 1 else context.within(size, indices[shift + k]) for k, size in enumerate(shape)]
    return context.element(1, at)


def number(context: NodeContext, value: float, index: int = 0) -> Const:
    """A literal of the type that an input computes in."""
    return const(value, context.element(index, (Const(0),) * context.rank(index)).type)


def activation(
    name: str, since: int = 1, domain: str = ""
) -> Callable[[Callable[[NodeContext, Expr], Expr]], Callable[[NodeContext, Expr], Expr]]:
    """Register an operator of one input given as x -> f(x)."""

    def register(function: Callable[[NodeContext, Expr], Expr]) -> Callable[[NodeContext, Expr], Expr]:
        LOWERINGS.add(
            name, since, lambda context: context.emit(lambda i: function(context, context.element(0, i))), domain
        )
        return function

    return register


def like(x: Expr, value: float) -> Const:
    """A literal of x's type."""
    return const(value, x.type)


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and largest value of an integer type."""
    if dtype.is_signed_integer:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + exp(-x)); exp overflows to infinity and the quotient is then 0."""
    return apply(Op.DIV, like(x, 1), apply(Op.ADD, like(x, 1), apply(Op.EXP, apply(Op.NEG, x))))


@activation("Relu")
def _relu(_context: NodeContext, x: Expr) -> Expr:
    return apply(Op.MAX, x, like(x, 0))


@activation("Reciprocal")
def _reciprocal(_context: NodeContext, x: Expr) -> Expr:
    return apply(Op.DIV, like(x, 1), x)


@activation("Sigmoid")
def _sigmoid(_context: NodeContext, x: Expr) -> Expr:
    return sigmoid(x)


@activation("LeakyRelu")
def _leaky_relu(context: NodeContext, x: Expr) -> Expr:
    scaled = apply(Op.MUL, x, like(x, context.attribute("alpha", 0.01)))
    return build.select(apply(Op.LT, x, like(x, 0)), scaled, x)


@activation("ThresholdedRelu")
def _thresholded_relu(context: NodeContext, x: Expr) -> Expr:
    return build.select(apply(Op.GT, x, like(x, context.attribute("alpha", 1.0))), x, like(x, 0))


@activation("Elu")
def _elu(context: NodeContext, x: Expr) -> Expr:
    return _exponential_unit(x, context.attribute("alpha", 1.0), 1.0)


@activation("Selu")
def _selu(context: NodeContext, x: Expr) -> Expr:
    old = context.node.opset < 6
    alpha = context.attribute("alpha", 1.6732 if old else 1.67326319217681884765625)
    gamma = context.attribute("gamma", 1.0507 if old else 1.05070102214813232421875)
    return _exponential_unit(x, alpha, gamma)


@activation("Celu")
def _celu(context: NodeContext, x: Expr) -> Expr:
    alpha = context.attribute("alpha", 1.0)
    negative = apply(Op.MUL, like(x, alpha), expm1(apply(Op.DIV, x, like(x, alpha))))
    return build.select(apply(Op.LT, x, like(x, 0)), negative, x)


def _exponential_unit(x: Expr, alpha: float, gamma: float) -> Expr:
    negative = apply(Op.MUL, like(x, alpha), expm1(x))
    return apply(Op.MUL, like(x, gamma), build.select(apply(Op.LT, x, like(x, 0)), negative, x))


def expm1(x: Expr) -> Expr:
    """exp(x) - 1."""
    return apply(Op.SUB, apply(Op.EXP, x), like(x, 1))


@activation("Softplus")
def _softplus(_context: NodeContext, x: Expr) -> Expr:
    return softplus(x)


def softplus(x: Expr) -> Expr:
    """log(1 + exp(x)) without overflow: max(x, 0) + log(1 + exp(-|x|))."""
    small = apply(Op.LOG, apply(Op.ADD, like(x, 1), apply(Op.EXP, apply(Op.NEG, apply(Op.ABS, x)))))
    return apply(Op.ADD, apply(Op.MAX, x, like(x, 0)), small)


@activation("Softsign")
def _softsign(_context: NodeContext, x: Expr) -> Expr:
    return apply(Op.DIV, x, apply(Op.ADD, like(x, 1), apply(Op.ABS, x)))


@activation("HardSigmoid")
def _hard_sigmoid(context: NodeContext, x: Expr) -> Expr:
    return hard_sigmoid(x, context.attribute("alpha", 0.2), context.attribute("beta", 0.5))


def hard_sigmoid(x: Expr, alpha: float, beta: float) -> Expr:
    """max(0, min(1, alpha*x + beta))."""
    line = apply(Op.ADD, apply(Op.MUL, x, like(x, alpha)), like(x, beta))
    return apply(Op.MAX, like(x, 0), apply(Op.MIN, like(x, 1), line))


@activation("HardSwish")
def _hard_swish(_context: NodeContext, x: Expr) -> Expr:
    return apply(Op.MUL, x, hard_sigmoid(x, 1 / 6, 0.5))


@activation("Mish")
def _mish(_context: NodeContext, x: Expr) -> Expr:
    return apply(Op.MUL, x, apply(Op.TANH, softplus(x)))


@activation("Swish")
def _swish(context: NodeContext, x: Expr) -> Expr:
    return apply(Op.MUL, x, sigmoid(apply(Op.MUL, x, like(x, context.attribute("alpha", 1.0)))))


@lowering("SwiGLU", since=28)
def _swiglu(context: NodeContext) -> None:
    alpha = context.attribute("alpha", 1.0)

    def body(i: tuple[Expr, ...]) -> Expr:
        a = context.element(0, i)
        return apply(Op.MUL, apply(Op.MUL, a, sigmoid(apply(Op.MUL, a, like(a, alpha)))), context.element(1, i))

    context.emit(body)


@activation("Gelu")
def _gelu(context: NodeContext, x: Expr) -> Expr:
    return gelu_tanh(x) if context.attribute("approximate", "none") == "tanh" else gelu_erf(x)


@activation("Gelu", domain="com.microsoft")
def _gelu_microsoft(_context: NodeContext, x: Expr) -> Expr:
    return gelu_erf(x)


@activation("QuickGelu", domain="com.microsoft")
def _quick_gelu(context: NodeContext, x: Expr) -> Expr:
    return apply(Op.MUL, x, sigmoid(apply(Op.MUL, x, like(x, context.attribute("alpha", 1.702)))))


def gelu_erf(x: Expr) -> Expr:
    """x * (1 + erf(x / sqrt 2)) / 2."""
    erf = apply(Op.ERF, apply(Op.MUL, x, like(x, math.sqrt(0.5))))
    return apply(Op.MUL, apply(Op.MUL, like(x, 0.5), x), apply(Op.ADD, like(x, 1), erf))


def gelu_tanh(x: Expr) -> Expr:
    """x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2."""
    cube = apply(Op.MUL, apply(Op.MUL, x, x), x)
    inner = apply(Op.MUL, like(x, math.sqrt(2 / math.pi)), apply(Op.ADD, x, apply(Op.MUL, like(x, 0.044715), cube)))
    return apply(Op.MUL, apply(Op.MUL, like(x, 0.5), x), apply(Op.ADD, like(x, 1), apply(Op.TANH, inner)))


@activation("Shrink")
def _shrink(context: NodeContext, x: Expr) -> Expr:
    lambd, bias = context.attribute("lambd", 0.5), context.attribute("bias", 0.0)
    if not x.type.is_float:
        return _shrink_integers(x, context.dtype(0), lambd, int(bias))
    above = build.select(apply(Op.GT, x, like(x, lambd)), apply(Op.SUB, x, like(x, bias)), like(x, 0))
    return build.select(apply(Op.LT, x, like(x, -lambd)), apply(Op.ADD, x, like(x, bias)), above)


def _shrink_integers(x: Expr, dtype: DType, lambd: float, bias: int) -> Expr:
    """The bounds as the integers beside them, within the type's range, where no element is beyond them."""
    low, high = integer_range(dtype)
    shift = const((bias - low) % (1 << dtype.bits) + low, x.type)
    most, least = math.floor(min(max(lambd, low - 1), high)), math.ceil(max(min(-lambd, high + 1), low))
    above = build.TRUE if most < low else apply(Op.GT, x, const(most, x.type))
    below = build.TRUE if least > high else apply(Op.LT, x, const(least, x.type))
    less = build.select(above, cast(dtype, apply(Op.SUB, x, shift)), const(0, x.type))
    return build.select(below, cast(dtype, apply(Op.ADD, x, shift)), less)


@lowering("Erf")
def _erf(context: NodeContext) -> None:
    """Of integers rounded towards zero: the function is 1 from 6 on, to the last place of float64."""

    def body(i: tuple[Expr, ...]) -> Expr:
        x = context.element(0, i)
        if x.type.is_float:
            return apply(Op.ERF, x)
        one, zero = const(1, x.type), const(0, x.type)
        value = build.select(apply(Op.GE, x, const(6, x.type)), one, zero)
        if not x.type.is_signed:
            return value
        return build.select(apply(Op.LE, x, const(-6, x.type)), apply(Op.NEG, one), value)

    context.emit(body)


@lowering("PRelu")
def _prelu(context: NodeContext) -> None:
    def body(i: tuple[Expr, ...]) -> Expr:
        x = context.element(0, i)
        if context.node.opset < 7 and context.rank(1) == 1 and context.rank(0) > 1:
            slope = context.element(1, [Const(0) if context.shape(1)[0] == 1 else i[1]])
        else:
            slope = context.broadcast(1, i)
        return build.select(apply(Op.LT, x, like(x, 0)), apply(Op.MUL, x, slope), x)

    context.emit(body)


@lowering("Clip")
def _clip(context: NodeContext) -> None:
    def body(i: tuple[Expr, ...]) -> Expr:
        x = context.element(0, i)
        if context.node.opset >= 11:
            bounds = [context.element(k, [0] * context.rank(k)) if context.has(k) else None for k in (1, 2)]
        else:
            given = (context.node.attributes.get(name) for name in ("min", "max"))
            bounds = [None if value is None else like(x, float(value)) for value in given]  # type: ignore[arg-type]  # FLOAT attributes
        if bounds[0] is not None:
            x = apply(Op.MAX, x, bounds[0])
        return x if bounds[1] is None else apply(Op.MIN, x, bounds[1])

    context.emit(body)


@lowering("Identity")
def _identity(context: NodeContext) -> None:
    source, target = (context.state.tensor(names[0]) for names in (context.node.inputs, context.node.outputs))
    if source.slot:
        context.state.items.append(Copy(source.name, target.name))
        return
    context.emit(lambda i: context.element(0, i))


@lowering("Cast")
def _cast(context: NodeContext) -> None:
    target, saturate = context.output().dtype, bool(context.attribute("saturate", 1))
    mode = context.attribute("round_mode", "up")
    context.emit(lambda i: converted(context.element(0, i), target, saturate=saturate, round_mode=mode))


LOWERINGS.add("CastLike", 15, _cast)


@lowering("IsInf")
def _is_inf(context: NodeContext) -> None:
    def body(i: tuple[Expr, ...]) -> Expr:
        x = context.element(0, i)
        infinite = apply(Op.IS_INF, x)
        if not context.attribute("detect_positive", 1):
            infinite = apply(Op.AND, infinite, apply(Op.LT, x, like(x, 0)))
        if not context.attribute("detect_negative", 1):
            infinite = apply(Op.AND, infinite, apply(Op.GT, x, like(x, 0)))
        return infinite

    context.emit(body)


@lowering("Where")
def _where(context: NodeContext) -> None:
    context.emit(lambda i: build.select(context.broadcast(0, i), context.broadcast(1, i), context.broadcast(2, i)))


@lowering("Pow")
def _pow(context: NodeContext) -> None:
    shift = legacy_shift(context)

    def body(i: tuple[Expr, ...]) -> Expr:
        x = context.element(0, i) if shift is not None else context.broadcast(0, i)
        return power(context, x, _second(context, i, shift))

    context.emit(body)


def power(context: NodeContext, x: Expr, exponent: Expr) -> Expr:
    """x ** exponent in x's type; small constant exponents become products and square roots."""
    if isinstance(exponent, Const):
        value = float(exponent.value)
        if value == 1.0:
            return x
        if value in (2.0, 3.0):
            square = apply(Op.MUL, x, x)
            return square if value == 2.0 else apply(Op.MUL, square, x)
        if value == 0.5 and x.type.is_float:
            return apply(Op.SQRT, x)
    if x.type.is_float:
        return apply(Op.POW, x, cast(DType.FLOAT64 if x.type is Scalar.F64 else DType.FLOAT32, exponent))
    double = apply(Op.POW, cast(DType.FLOAT64, x), cast(DType.FLOAT64, exponent))
    return cast(context.output().dtype, double)


@lowering("Mod")
def _mod(context: NodeContext) -> None:
    op = Op.REM if context.attribute("fmod", 0) else Op.FLOOR_MOD
    context.emit(lambda i: apply(op, context.broadcast(0, i), context.broadcast(1, i)))


@lowering("BitShift")
def _bit_shift(context: NodeContext) -> None:
    op = Op.SHL if context.attribute("direction", "") == "LEFT" else Op.SHR
    context.emit(lambda i: apply(op, context.broadcast(0, i), context.broadcast(1, i)))


def _variadic(name: str, op: Op) -> None:
    def lower(context: NodeContext) -> None:
        def body(i: tuple[Expr, ...]) -> Expr:
            total = context.broadcast(0, i)
            for k in range(1, len(context.node.inputs)):
                total = apply(op, total, context.broadcast(k, i))
            if name == "Mean":
                total = apply(Op.DIV, total, like(total, len(context.node.inputs)))
            return total

        context.emit(body)

    LOWERINGS.add(name, 1, lower)


for _name, _op in {"Sum": Op.ADD, "Mean": Op.ADD, "Max": Op.MAX, "Min": Op.MIN}.items():
    _variadic(_name, _op)
