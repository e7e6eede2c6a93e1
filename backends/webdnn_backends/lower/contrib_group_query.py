"""com.microsoft: GroupQueryAttention, attention of grouped heads with a cache of keys and values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, compute_type
from webdnn_backends.lower.attention_stages import (
    Heads,
    Scores,
    emit_heads,
    heads_of,
    mixed,
    probabilities,
    rotated,
    scores_of,
    softcapped,
)
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import all_of, as_type, at_most, clamp, count, less, less_equal, over, plus, times
from webdnn_backends.lower.formulas import wide_dtype as wide
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim, maximum

__all__: list[str] = []


@dataclass(frozen=True)
class _Lengths:
    """For a batch entry: how many keys count after this step, and how many of its tokens are new."""

    ends: Callable[[Expr], Expr]
    fresh: Callable[[Expr], Expr]

    def start(self, b: Expr) -> Expr:
        """The position of the first new token."""
        return build.sub(self.ends(b), self.fresh(b))


def _lengths(context: NodeContext, queries: Dim) -> _Lengths:
    rank = context.rank(5)

    def ends(b: Expr) -> Expr:
        return add(cast(DType.INT32, context.element(5, [b] if rank == 1 else [b, *[0] * (rank - 1)])), 1)

    def fresh(b: Expr) -> Expr:
        if context.has(16):
            return cast(DType.INT32, context.element(16, [b]))
        return at_most(ends(b), build.dim(queries))

    return _Lengths(ends, fresh)


@lowering("GroupQueryAttention", domain=MS)
def _group_query_attention(context: NodeContext) -> None:
    quantized = [context.attribute(name, "NONE") != "NONE" for name in ("k_quant_type", "v_quant_type")]
    if any(quantized) and context.attribute("kv_cache_bit_width", 0) == 4:
        raise context.unsupported("a cache of 4-bit numbers")
    if context.attribute("sliding_window_cache", 0):
        raise context.unsupported("sliding_window_cache 1")
    heads, groups = context.attribute("num_heads", 1), context.attribute("kv_num_heads", 1)
    if context.has(1):
        q = heads_of(context, context.name(0), heads)
        k, v = (heads_of(context, context.name(index), groups) for index in (1, 2))
    else:
        size = context.shape(0)[2] // (heads + 2 * groups)
        starts = ((0, heads), (size * heads, groups), (size * (heads + groups), groups))
        q, k, v = (heads_of(context, context.name(0), number, start, size) for start, number in starts)
    totals = context.integers(6)
    if not totals:
        raise context.unsupported("a total_sequence_length of unknown size")
    total = totals[0]
    lengths = _lengths(context, q.length)
    if context.has(14) and context.has(15):
        q = _normalized(context, q, 14, "q_norm_epsilon")
        k = _normalized(context, k, 15, "k_norm_epsilon")
    if context.attribute("do_rotary", 0):
        if not (context.has(7) and context.has(8)):
            raise InvalidModelError(f"{context.where}: do_rotary: expected cos_cache and sin_cache, got none")
        q, k = (_turned(context, x, lengths, total) for x in (q, k))
    keys, values = (
        _cached(context, new, past, output, lengths, total, scale if flag else None)
        for new, past, output, scale, flag in zip((k, v), (3, 4), (1, 2), (12, 13), quantized, strict=True)
    )
    raw = scores_of(context, q, keys, context.attribute("scale", 0.0))
    scores, allowed = _masked(context, raw, lengths)
    sink: Callable[[Indices], Expr] | None = None
    scalar = compute_type(wide(context.dtype(0)))
    if context.has(11):
        sink = lambda i: as_type(scalar, context.element(11, [raw.head(i)]))  # noqa: E731
    elif context.attribute("smooth_softmax", -1) == 1:
        sink = lambda _: build.const(0, scalar)  # noqa: E731
    weights = probabilities(context, scores, sink=sink)

    def counted(i: Indices, value: Expr) -> Expr:
        return build.select(less(i[2], lengths.fresh(i[0])), value, like(value, 0))

    emit_heads(context, mixed(context, weights, values), shown=counted)
    mode = context.attribute("qk_output", 0)

    def shown(i: Indices) -> Expr:
        if not mode:
            return build.const(0, scalar)
        value = context.read((scores if mode == 1 else weights).tensor, raw.split(i))
        return build.select(all_of(allowed(i), less(i[2], lengths.fresh(i[0]))), value, like(value, 0))

    context.emit(shown, output=3)


def _normalized(context: NodeContext, x: Heads, weight: int, name: str) -> Heads:
    """Heads over their root mean square, times a weight, in a tensor of their own."""
    epsilon = context.attribute(name, context.attribute("qk_norm_epsilon", 1e-6))
    dtype = wide(context.dtype(0))
    shape = (x.batch, x.heads, x.length)

    def power(i: Indices) -> Expr:
        def square(d: Indices) -> Expr:
            value = x.at(i[0], i[1], i[2], d[0])
            return times(value, value)

        total = context.sum([x.size], square)
        mean = over(total, count(x.size, total.type))
        return over(like(mean, 1), apply(Op.SQRT, plus(mean, epsilon)))

    inverse = context.temporary(dtype, shape, power)

    def at(b: Expr, h: Expr, s: Expr, d: Expr) -> Expr:
        value = times(x.at(b, h, s, d), context.read(inverse, [b, h, s]))
        return times(value, as_type(value.type, context.element(weight, [d])))

    return Heads(at, x.batch, x.heads, x.length, x.size).stored(context, dtype)


def _turned(context: NodeContext, x: Heads, lengths: _Lengths, total: Dim) -> Heads:
    """Heads after rotary embedding, in a tensor of their own."""
    most, half = context.shape(7)

    def position(b: Expr, s: Expr) -> Expr:
        place = add(lengths.start(b), s)
        if context.has(9):
            ids = context.shape(9)
            at = [Const(0) if size == 1 else index for size, index in zip(ids, (b, s)[-len(ids) :], strict=True)]
            place = cast(DType.INT32, context.element(9, at))
            first = add(cast(DType.INT32, context.element(9, [0] * len(ids))), s)
            if not context.has(16):
                place = build.select(apply(Op.EQ, build.dim(x.length), build.dim(total)), first, place)
        return clamp(place, 0, build.dim(most - 1))

    def cache(index: int) -> Callable[[Expr, Expr, Expr], Expr]:
        return lambda b, s, pair: context.element(index, [position(b, s), pair])

    turned = rotated(x, half, cache(7), cache(8), context.attribute("rotary_interleaved", 0))
    return turned.stored(context, wide(context.dtype(0)))


def _cached(
    context: NodeContext, new: Heads, past: int, output: int, lengths: _Lengths, total: Dim, scale: int | None
) -> Heads:
    """The cache after this step, as an output or a tensor like it; zeros behind what it holds."""
    before = context.shape(past)[2] if context.has(past) else 0
    capacity = maximum(before, total) if context.has(past) else total
    dtype = context.dtype(past if context.has(past) else 0)
    scalar = compute_type(wide(context.dtype(0)))

    def factor(i: Indices) -> Expr:
        assert scale is not None, "only of quantized caches"
        return context.broadcast(scale, i)

    def written(value: Expr, i: Indices) -> Expr:
        if scale is None:
            return value
        low, high = (-128, 127) if dtype.is_signed_integer else (0, 255)
        return cast(dtype, clamp(apply(Op.ROUND, over(value, as_type(value.type, factor(i)))), low, high))

    def body(i: Indices) -> Expr:
        b, h, t, d = i
        start = lengths.start(b)
        fresh = written(new.at(b, h, build.sub(t, start), d), i)
        held: Expr = like(fresh, 0)
        held = build.select(less(t, lengths.ends(b)), fresh, held)
        if not context.has(past) or before == 0:
            return held
        return build.select(less(t, start), context.element(past, i), held)

    if context.wants(output):
        context.define({2: capacity}, output)
        context.emit(body, output=output)
        name = context.output(output).name
    else:
        name = context.temporary(dtype, (new.batch, new.heads, capacity, new.size), body)
    stored = heads_of(context, name)
    if scale is None:
        return stored

    def real(b: Expr, h: Expr, t: Expr, d: Expr) -> Expr:
        return times(as_type(scalar, stored.at(b, h, t, d)), as_type(scalar, factor((b, h, t, d))))

    return Heads(real, stored.batch, stored.heads, stored.length, stored.size).stored(context, wide(context.dtype(0)))


def _masked(context: NodeContext, raw: Scores, lengths: _Lengths) -> tuple[Scores, Callable[[Indices], Expr]]:
    """The scores, capped and biased, -infinity where a key may not be seen; and where it may, by [batch, head, query,
    key]."""
    softcap, window = context.attribute("softcap", 0.0), context.attribute("local_window_size", -1)
    causal = context.attribute("causal", 1)

    def allowed(i: Indices) -> Expr:
        b, _, s, t = i
        own = add(lengths.start(b), s)
        conditions = [less(t, lengths.ends(b))]
        if causal:
            conditions.append(less_equal(t, own))
            if window > 0:
                conditions.append(less(build.sub(own, window), t))
        return all_of(*conditions)

    def body(i: Indices) -> Expr:
        at = (i[0], raw.head(i), i[3], i[4])
        score = softcapped(context.read(raw.tensor, i), softcap)
        if context.has(10):
            columns = context.shape(10)[-1]
            place = at if columns in (1, raw.shape[-1]) else (*at[:3], at_most(at[3], build.dim(columns - 1)))
            score = plus(score, as_type(score.type, context.broadcast(10, place)))
        return build.select(allowed(at), score, like(score, -math.inf))

    tensor = context.temporary(wide(context.dtype(0)), raw.shape, body)
    return Scores(tensor, raw.shape), allowed
