"""com.microsoft: older names of operators that ai.onnx has since, and small helpers."""

from __future__ import annotations

import math

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const
from webdnn_backends.ir.loops import Bitcast, Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.attention_stages import in_precision
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import equal, minus, plus, times
from webdnn_backends.lower.movement import wrapped_index
from webdnn_backends.lower.registry import lowering, string_lowering
from webdnn_onnx.dtypes import DType
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


@lowering("UnfoldTensor", domain=MS)
def _unfold_tensor(context: NodeContext) -> None:
    axis, step = context.axis(context.attribute("dim", -1), context.rank(0)), context.attribute("step", 1)
    context.emit(lambda i: context.element(0, [*i[:axis], add(build.mul(i[axis], step), i[-1]), *i[axis + 1 : -1]]))


@lowering("GatedAdd", domain=MS)
def _gated_add(context: NodeContext) -> None:
    if context.has(3):
        raise context.unsupported("a projected gate (gate_weight)")

    def body(i: Indices) -> Expr:
        product = times(context.element(1, i), context.broadcast(2, i))
        return plus(context.element(0, i), in_precision(context.dtype(0), product))

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


_FIRST_FACTOR, _SECOND_FACTOR = 0xCC9E2D51, 0x1B873593
"""Of MurmurHash3_x86_32, as are the other numbers below."""


@lowering("MurmurHash3", domain=MS)
def _murmur_hash3(context: NodeContext) -> None:
    def rotated(x: Expr, by: int) -> Expr:
        left, right = (apply(op, x, const(n, Scalar.U32)) for op, n in ((Op.SHL, by), (Op.SHR, 32 - by)))
        return apply(Op.BIT_OR, left, right)

    def folded(x: Expr, by: int) -> Expr:
        return apply(Op.BIT_XOR, x, apply(Op.SHR, x, const(by, Scalar.U32)))

    def body(i: Indices) -> Expr:
        words = _words(context.element(0, i))
        state: Expr = const(context.attribute("seed", 0) & 0xFFFFFFFF, Scalar.U32)
        for word in words:
            mixed = times(rotated(times(word, _FIRST_FACTOR), 15), _SECOND_FACTOR)
            state = plus(times(rotated(apply(Op.BIT_XOR, state, mixed), 13), 5), 0xE6546B64)
        state = apply(Op.BIT_XOR, state, const(4 * len(words), Scalar.U32))
        state = folded(times(folded(times(folded(state, 16), 0x85EBCA6B), 13), 0xC2B2AE35), 16)
        return state if context.output().dtype is DType.UINT32 else Bitcast(Scalar.I32, state)

    context.emit(body)


def _words(x: Expr) -> list[Expr]:
    """The bits of a number in 32-bit words, the lowest first."""
    if x.type.bits == 32:
        return [x if x.type is Scalar.U32 else Bitcast(Scalar.U32, x)]
    whole = x if x.type is Scalar.U64 else Bitcast(Scalar.U64, x)
    return [cast(DType.UINT32, part) for part in (whole, apply(Op.SHR, whole, const(32, Scalar.U64)))]


@string_lowering("MurmurHash3", domain=MS)
def _murmur_hash3_of_strings(context: NodeContext) -> None:
    context.host(
        "murmur_hash3", {"seed": context.attribute("seed", 0) & 0xFFFFFFFF, "dtype": context.output().dtype.value}
    )
