"""com.microsoft: activations, most of them fused with a bias. ai.onnx: operators that left the specification."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import (
    activation,
    expm1,
    gelu_erf,
    gelu_tanh,
    hard_sigmoid,
    like,
    sigmoid,
    softplus,
)
from webdnn_backends.lower.formulas import at_least, clamp, less, less_equal, minus, over, plus, times, wide_dtype
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.errors import InvalidModelError, ShapeError

__all__ = ["fused_activation"]

_FUSED: dict[str, tuple[Callable[..., Expr], tuple[float, ...]]] = {
    "Relu": (lambda x: at_least(x, 0), ()),
    "Tanh": (lambda x: apply(Op.TANH, x), ()),
    "Sigmoid": (sigmoid, ()),
    "Softplus": (softplus, ()),
    "Softsign": (lambda x: over(x, plus(apply(Op.ABS, x), 1)), ()),
    "Gelu": (gelu_erf, ()),
    "HardSwish": (lambda x: times(x, hard_sigmoid(x, 1 / 6, 0.5)), ()),
    "LeakyRelu": (lambda x, alpha: build.select(less(x, 0), times(x, alpha), x), (0.01,)),
    "ThresholdedRelu": (lambda x, alpha: build.select(less_equal(x, alpha), like(x, 0), x), (1.0,)),
    "Elu": (lambda x, alpha: build.select(less(x, 0), times(expm1(x), alpha), x), (1.0,)),
    "Clip": (clamp, (-math.inf, math.inf)),
    "HardSigmoid": (hard_sigmoid, (0.2, 0.5)),
    "Affine": (lambda x, alpha, beta: plus(times(x, alpha), beta), (1.0, 0.0)),
    "ParametricSoftplus": (lambda x, alpha, beta: times(softplus(times(x, beta)), alpha), (1.0, 1.0)),
    "ScaledTanh": (lambda x, alpha, beta: times(apply(Op.TANH, times(x, beta)), alpha), (1.0, 1.0)),
}
"""Name -> function and the default values of its parameters."""


def fused_activation(context: NodeContext, parameters: Sequence[float]) -> Callable[[Expr], Expr]:
    """The activation that a fused operator names. Raises InvalidModelError for an unknown one."""
    name = context.attribute("activation", "")
    if not name:
        return lambda x: x
    if name not in _FUSED:
        raise InvalidModelError(
            f"{context.where}: activation: expected one of {', '.join(sorted(_FUSED))}, got {name!r}"
        )
    function, defaults = _FUSED[name]
    given = tuple(parameters)[: len(defaults)]
    return lambda x: function(x, *given, *defaults[len(given) :])


@lowering("BiasGelu", domain=MS)
def _bias_gelu(context: NodeContext) -> None:
    context.emit(lambda i: gelu_erf(plus(context.element(0, i), context.broadcast(1, i))))


@lowering("FastGelu", domain=MS)
def _fast_gelu(context: NodeContext) -> None:
    def body(i: Indices) -> Expr:
        x = context.element(0, i)
        return gelu_tanh(plus(x, context.broadcast(1, i)) if context.has(1) else x)

    context.emit(body)


@lowering("ScaledSiLU", domain=MS)
def _scaled_silu(context: NodeContext) -> None:
    dtype = context.dtype(0)

    def body(i: Indices) -> Expr:
        x = context.element(0, i)
        factor = context.element(1, [0] * context.rank(1)) if context.has(1) else context.attribute("alpha", 1.0)
        z = cast(dtype, times(x, factor))
        return times(z, cast(dtype, sigmoid(z)))

    context.emit(body)


@lowering("BiasAdd", domain=MS)
def _bias_add(context: NodeContext) -> None:
    context.emit(lambda i: plus(context.element(0, i), context.broadcast(1, i), context.element(2, i)))


@lowering("BiasSplitGelu", domain=MS)
def _bias_split_gelu(context: NodeContext) -> None:
    half = build.dim(context.shape(0)[-1] // 2)

    def body(i: Indices) -> Expr:
        second = [*i[:-1], add(i[-1], half)]
        left = plus(context.element(0, i), context.element(1, [i[-1]]))
        return times(left, gelu_erf(plus(context.element(0, second), context.element(1, [second[-1]]))))

    context.emit(body)


@lowering("BiasSoftmax", domain=MS)
def _bias_softmax(context: NodeContext) -> None:
    shape = context.shape(0)
    axis = context.axis(context.attribute("axis", 1), len(shape))
    inner = bool(context.attribute("is_inner_broadcast", 1))
    dtype = wide_dtype(context.dtype(0))
    bias_rank = context.rank(1)

    def biased(i: Indices) -> Expr:
        sizes = context.shape(1)
        aligned = i[len(i) - bias_rank :] if inner or bias_rank == len(i) else i[:bias_rank]
        at = [Const(0) if size == 1 else index for size, index in zip(sizes, aligned, strict=True)]
        return plus(context.element(0, i), context.element(1, at))

    total = context.temporary(dtype, shape, biased)
    rows = (*shape[:axis], *[1] * (len(shape) - axis))

    def row(i: Indices) -> list[Expr]:
        return [*i[:axis], *[Const(0)] * (len(shape) - axis)]

    peak = context.temporary(
        dtype,
        rows,
        lambda i: context.reduce(ReduceOp.MAX, shape[axis:], lambda k: context.read(total, [*i[:axis], *k])),
    )

    def exponential(i: Indices) -> Expr:
        return apply(Op.EXP, minus(context.read(total, i), context.read(peak, row(i))))

    summed = context.temporary(dtype, rows, lambda i: context.sum(shape[axis:], lambda k: exponential((*i[:axis], *k))))
    context.emit(lambda i: over(exponential(i), context.read(summed, row(i))))


@activation("Affine")
def _affine(context: NodeContext, x: Expr) -> Expr:
    return plus(times(x, context.attribute("alpha", 1.0)), context.attribute("beta", 0.0))


@activation("Scale")
def _scale(context: NodeContext, x: Expr) -> Expr:
    return times(x, context.attribute("scale", 1.0))


@activation("ScaledTanh")
def _scaled_tanh(context: NodeContext, x: Expr) -> Expr:
    return times(apply(Op.TANH, times(x, context.attribute("beta", 1.0))), context.attribute("alpha", 1.0))


@activation("ParametricSoftplus")
def _parametric_softplus(context: NodeContext, x: Expr) -> Expr:
    return times(softplus(times(x, context.attribute("beta", 1.0))), context.attribute("alpha", 1.0))


@lowering("ImageScaler")
def _image_scaler(context: NodeContext) -> None:
    bias: tuple[float, ...] = context.attribute("bias", ())
    channels = context.shape(0)[1]
    if bias and isinstance(channels, int) and channels != len(bias):
        raise ShapeError(f"{context.where}: bias: expected a value for each of {channels} channels, got {len(bias)}")

    def body(i: Indices) -> Expr:
        y = times(context.element(0, i), context.attribute("scale", 1.0))
        if not bias:
            return y
        offset: Expr = const(bias[-1], y.type)
        for channel in range(len(bias) - 2, -1, -1):
            offset = build.select(apply(Op.EQ, i[1], Const(channel)), const(bias[channel], y.type), offset)
        return plus(y, offset)

    context.emit(body)


@lowering("Crop")
def _crop(context: NodeContext) -> None:
    left, top = context.attribute("border", (0, 0, 0, 0))[:2]
    context.emit(lambda i: context.element(0, [i[0], i[1], add(i[2], top), add(i[3], left)]))
