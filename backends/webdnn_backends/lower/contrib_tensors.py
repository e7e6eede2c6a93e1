"""com.microsoft: older names of operators that ai.onnx has since, and small helpers."""

from __future__ import annotations

import math

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import equal, minus, plus, times
from webdnn_backends.lower.movement import wrapped_index
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.errors import InvalidModelError

__all__: list[str] = []


@lowering("CDist", domain=MS)
def _c_dist(context: NodeContext) -> None:
    metric = context.attribute("metric", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean"):
        raise InvalidModelError(f"{context.where}: metric: expected euclidean or sqeuclidean, got {metric!r}")

    def body(i: Indices) -> Expr:
        def square(k: Indices) -> Expr:
            difference = minus(context.element(0, [i[0], *k]), context.element(1, [i[1], *k]))
            return times(difference, difference)

        total = context.sum([context.shape(0)[1]], square)
        return total if metric == "sqeuclidean" else apply(Op.SQRT, total)

    context.emit(body)


@lowering("GatherND", domain=MS)
def _gather_nd(context: NodeContext) -> None:
    depth = context.shape(1)[-1]
    if not isinstance(depth, int):
        raise context.unsupported("an index depth known only at run time")
    lead = context.rank(1) - 1

    def body(i: Indices) -> Expr:
        at = [wrapped_index(context, 1, [*i[:lead], Const(k)], build.dim(context.shape(0)[k])) for k in range(depth)]
        return context.element(0, [*at, *i[lead:]])

    context.emit(body)


@lowering("NGramRepeatBlock", domain=MS)
def _n_gram_repeat_block(context: NodeContext) -> None:
    size = context.attribute("ngram_size", 1)
    length = context.shape(0)[1]
    starts = length - size + 1
    if (isinstance(starts, int) and starts < 1) or size < 1:
        context.emit(lambda i: context.element(1, i))
        return

    def body(i: Indices) -> Expr:
        row, token = i

        def repeats(k: Indices) -> Expr:
            """Whether the n-gram from a start on ends with the token and begins as the sequence ends."""
            ends = add(k[0], size - 1)
            same = equal(context.element(0, [row, ends]), cast(context.dtype(0), token))
            for place in range(size - 1):
                latest = build.dim(length - (size - 1) + place)
                held = equal(context.element(0, [row, add(k[0], place)]), context.element(0, [row, latest]))
                same = apply(Op.AND, same, held)
            return same

        found = context.reduce(ReduceOp.ANY, [starts], repeats)
        score = context.element(1, i)
        return build.select(found, like(score, -math.inf), score)

    context.emit(body)


@lowering("ComplexMul", domain=MS)
def _complex_mul(context: NodeContext) -> None:
    def body(i: Indices) -> Expr:
        def part(index: int, place: int) -> Expr:
            return context.broadcast(index, [*i[:-1], Const(place)])

        real = minus(times(part(0, 0), part(1, 0)), times(part(0, 1), part(1, 1)))
        imaginary = plus(times(part(0, 0), part(1, 1)), times(part(0, 1), part(1, 0)))
        return build.select(equal(i[-1], 0), real, imaginary)

    context.emit(body)
