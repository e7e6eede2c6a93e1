"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss."""

from __future__ import annotations

from collections.abc import Callable

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import as_type, minus, negative, over, times, wide_dtype
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError

__all__: list[str] = []


def _loss(context: NodeContext, log_probability: Callable[[Indices], Expr]) -> None:
    """-weights[c] * log_probability[n, c, ...] where c is the label; "mean" divides by the sum of the weights used."""
    ignored = context.node.attributes.get("ignore_index")
    reduction = context.attribute("reduction", "mean")
    if reduction not in ("none", "sum", "mean"):
        raise InvalidModelError(f"{context.where}: reduction: expected none, sum or mean, got {reduction!r}")
    shape, wide = context.shape(1), wide_dtype(context.dtype(0))

    def label(i: Indices) -> tuple[Expr, Expr]:
        """The class that counts, and whether it does."""
        given = cast(DType.INT32, context.element(1, i))
        if not isinstance(ignored, int):
            return given, build.TRUE
        counted = apply(Op.NE, given, Const(ignored))
        return build.select(counted, given, Const(0)), counted

    def weight(i: Indices, type_of: Expr) -> Expr:
        chosen, counted = label(i)
        value: Expr = like(type_of, 1)
        if context.has(2):
            value = as_type(type_of.type, context.element(2, [chosen]))
        return build.select(counted, value, like(type_of, 0))

    def loss(i: Indices) -> Expr:
        chosen, counted = label(i)
        picked = negative(log_probability((i[0], chosen, *i[1:])))
        value = times(picked, weight(i, picked))
        return build.select(counted, value, like(value, 0))

    if reduction == "none":
        context.emit(loss)
        return
    total = context.temporary(wide, (), lambda _: context.sum(shape, loss))
    if reduction == "sum":
        context.emit(lambda _: context.read(total, ()))
        return
    zero = context.read(total, ())
    used = context.temporary(wide, (), lambda _: context.sum(shape, lambda i: weight(i, zero)))
    context.emit(lambda _: over(context.read(total, ()), context.read(used, ())))


@lowering("NegativeLogLikelihoodLoss")
def _negative_log_likelihood_loss(context: NodeContext) -> None:
    _loss(context, lambda i: context.element(0, i))


@lowering("SoftmaxCrossEntropyLoss")
def _softmax_cross_entropy_loss(context: NodeContext) -> None:
    shape, wide = context.shape(0), wide_dtype(context.dtype(0))
    rows = (shape[0], 1, *shape[2:])

    def at(i: Indices, k: Expr) -> Expr:
        return context.element(0, [i[0], k, *i[2:]])

    def row(i: Indices) -> list[Expr]:
        return [i[0], Const(0), *i[2:]]

    peak = context.temporary(wide, rows, lambda i: context.reduce(ReduceOp.MAX, [shape[1]], lambda k: at(i, k[0])))

    def exponentials(i: Indices) -> Expr:
        return context.sum([shape[1]], lambda k: apply(Op.EXP, minus(at(i, k[0]), context.read(peak, row(i)))))

    total = context.temporary(wide, rows, exponentials)

    def log_probability(i: Indices) -> Expr:
        shifted = minus(context.element(0, i), context.read(peak, row(i)))
        return minus(shifted, apply(Op.LOG, context.read(total, row(i))))

    logs = context.temporary(wide, shape, log_probability)
    _loss(context, lambda i: context.read(logs, i))
    context.emit(lambda i: context.read(logs, i), output=1)
