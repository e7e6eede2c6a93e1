"""com.microsoft: DynamicQuantizeLSTM, an LSTM with 8-bit weights.

X as a whole, and the hidden state of each step over the whole batch, are rounded to the 256 values of their range. So
the walking kernel is parallel over directions only: batch entries share the range of each step.
"""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, const
from webdnn_backends.ir.loops import Assign, Const, Expr, If, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.direct import Operand, loop, nest
from webdnn_backends.lower.formulas import (
    as_type,
    at_least,
    at_most,
    clamp,
    equal,
    less,
    minus,
    negative,
    over,
    plus,
    times,
)
from webdnn_backends.lower.quantization import dynamic_parameters
from webdnn_backends.lower.recurrent import Walk, layer_of, lstm_step, projected_input
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.graph import Shape

__all__: list[str] = []

_W, _R = 1, 2
_SCALES = {_W: 8, _R: 10}
"""The input with the scales of a matrix; its zero points are the next."""


def _parameter(shape: Shape, direction: Expr, column: Expr) -> list[Expr]:
    """Where a scale or zero point lies: one for each direction, or for each of its columns."""
    return [direction] if len(shape) == 1 else [direction, Const(0) if shape[1] == 1 else column]


def _rounded(x: Expr, scale: Expr, zero: Expr) -> Expr:
    """The number that x becomes when it is quantized to uint8."""
    code = clamp(plus(apply(Op.ROUND, over(x, scale)), zero), 0, 255)
    return times(minus(code, zero), scale)


@lowering("DynamicQuantizeLSTM", domain=MS)
def _dynamic_quantize_lstm(context: NodeContext) -> None:
    layer = layer_of(context, 4, 2, ("Sigmoid", "Tanh", "Tanh"), hidden=context.shape(_R)[1])
    scale, zero = dynamic_parameters(context, context.name(0))

    def x(at: Sequence[Expr]) -> Expr:
        offset = as_type(Scalar.F32, context.read(zero, ()))
        return _rounded(context.element(0, at), context.read(scale, ()), offset)

    def weight(at: Sequence[Expr]) -> Expr:
        direction, column, k = at
        scales, zeros = _SCALES[_W], _SCALES[_W] + 1
        offset = context.element(zeros, _parameter(context.shape(zeros), direction, column))
        whole = build.sub(as_type(Scalar.I32, context.element(_W, [direction, k, column])), as_type(Scalar.I32, offset))
        factor = context.element(scales, _parameter(context.shape(scales), direction, column))
        return times(as_type(Scalar.F32, whole), factor)

    walk = Walk(layer, "dynamic_lstm", projected_input(layer, lambda _: None, x, weight, hint=None), (5, 6))
    scales, zeros = (walk.kernel.input(_SCALES[_R] + place) for place in (0, 1))
    walk.weight = lambda at: _recurrent_weight(walk.recurrence, scales, zeros, at)
    previous = _rounded(walk.state(0, Var("k")), Var("scale", Scalar.F32), Var("zero", Scalar.F32))
    step = lstm_step(layer, walk, lambda _: previous)
    write: tuple[Stmt, ...] = ()
    silence: tuple[Stmt, ...] = ()
    if context.wants(0):
        y = walk.kernel.output(0)
        place, silent = Var("j"), const(0, layer.scalar)
        write = (loop("j", layer.hidden, walk.y(y, Var("time"), walk.state(0, place))),)
        silence = (loop("j", layer.hidden, walk.y(y, Var("step"), silent)),)
    entry = (
        Local("length", Scalar.I32, walk.length()),
        If(less(Var("step"), Var("length")), (Local("time", Scalar.I32, walk.time()), *step, *write), silence),
    )
    body = loop("step", layer.steps, *_range(walk), loop("b", layer.batch, *entry))
    walk.kernel.run(*nest(("d",), (len(layer.backwards),), body, parallel=True))
    walk.finish()


def _recurrent_weight(recurrence: Operand, scales: Operand, zeros: Operand, at: Sequence[Expr]) -> Expr:
    direction, column, k = at
    offset = zeros.load(_parameter(zeros.tensor.shape, direction, column))
    whole = build.sub(as_type(Scalar.I32, recurrence.load([direction, k, column])), as_type(Scalar.I32, offset))
    return times(as_type(Scalar.F32, whole), scales.load(_parameter(scales.tensor.shape, direction, column)))


def _range(walk: Walk) -> tuple[Stmt, ...]:
    """The scale and zero point of the hidden state of all batch entries, left in `scale` and `zero`."""
    layer = walk.layer
    low, high, scale = (Var(name, Scalar.F32) for name in ("low", "high", "scale"))
    nothing = const(0, Scalar.F32)
    state = walk.state(0, Var("j"))
    whole = nest(
        ("b", "j"),
        (layer.batch, layer.hidden),
        Assign("low", at_most(low, state)),
        Assign("high", at_least(high, state)),
    )
    span = over(minus(high, low), 255)
    return (
        Local("low", Scalar.F32, nothing),
        Local("high", Scalar.F32, nothing),
        *whole,
        Local("scale", Scalar.F32, build.select(equal(span, 0), const(1, Scalar.F32), span)),
        Local("zero", Scalar.F32, apply(Op.ROUND, clamp(over(negative(low), scale), 0, 255))),
    )
