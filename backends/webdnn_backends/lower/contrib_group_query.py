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
from webdnn_backends.lower.quantization import integer_range
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim, maximum

__all__: list[str] = []


@dataclass(frozen=True)
class _Lengths:
    """For a batch entry, all as expressions. ends: how many tokens there are after this step. fresh: how many of this
    step's count. kept: how many earlier ones the cache that is given holds."""

    ends: Callable[[Expr], Expr]
    fresh: Callable[[Expr], Expr]
    kept: Callable[[Expr], Expr]

    def start(self, b: Expr) -> Expr:
        """The position of the first new token."""
        return build.sub(self.ends(b), self.fresh(b))

    def held(self, b: Expr) -> Expr:
        """How many keys take part in this step."""
        return add(self.kept(b), self.fresh(b))

    def first(self, b: Expr) -> Expr:
        """The position of the first of these keys."""
        return build.sub(self.start(b), self.kept(b))


def _lengths(context: NodeContext, queries: Dim, window: _Window | None) -> _Lengths:
    rank = context.rank(5)

    def ends(b: Expr) -> Expr:
        return add(cast(DType.INT32, context.element(5, [b] if rank == 1 else [b, *[0] * (rank - 1)])), 1)

    def fresh(b: Expr) -> Expr:
        if context.has(16):
            return cast(DType.INT32, context.element(16, [b]))
        return at_most(ends(b), build.dim(queries))

    def start(b: Expr) -> Expr:
        return build.sub(ends(b), fresh(b))

    return _Lengths(ends, fresh, (lambda b: window.resident(start(b))) if window else start)


@dataclass(frozen=True)
class _Window:
    """A cache that holds the latest `capacity` tokens or fewer, of which `size` matter."""

    capacity: Dim
    size: int

    def resident(self, tokens: Expr) -> Expr:
        """How many positions it holds after so many tokens; what it forgets, it forgets in steps."""
        capacity = build.dim(self.capacity)
        step = build.dim(self.capacity - self.size + 1)
        beyond = add(build.sub(tokens, capacity), build.sub(step, 1))
        fewer = build.sub(tokens, build.mul(step, build.floor_div(beyond, step)))
        return build.select(less_equal(tokens, capacity), tokens, fewer)


@lowering("GroupQueryAttention", domain=MS)
def _group_query_attention(context: NodeContext) -> None:
    quantized = [context.attribute(name, "NONE") != "NONE" for name in ("k_quant_type", "v_quant_type")]
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
    window = None
    if context.attribute("sliding_window_cache", 0):
        if not context.has(3):
            raise InvalidModelError(f"{context.where}: sliding_window_cache: expected past_key, got none")
        window = _Window(context.shape(3)[2], context.attribute("local_window_size", -1))
    lengths = _lengths(context, q.length, window)
    if context.has(14) and context.has(15):
        q = _normalized(context, q, 14, "q_norm_epsilon")
        k = _normalized(context, k, 15, "k_norm_epsilon")
    if context.attribute("do_rotary", 0):
        if not (context.has(7) and context.has(8)):
            raise InvalidModelError(f"{context.where}: do_rotary: expected cos_cache and sin_cache, got none")
        q, k = (_turned(context, x, lengths, total) for x in (q, k))
    keys, values = (
        _cached(context, new, _Cache(context, past, output, scale if flag else None), lengths, total, window)
        for new, past, output, scale, flag in zip((k, v), (3, 4), (1, 2), (12, 13), quantized, strict=True)
    )
    raw = scores_of(context, q, keys, context.attribute("scale", 0.0))
    scores, allowed = _masked(context, raw, lengths)
    sink: Callable[[Indices], Expr] | None = None
    scalar = compute_type(wide(context.dtype(0)))
    if context.has(11):
        sink = lambda i: as_type(scalar, context.element(11, [raw.head(i)]))  # noqa: E731  # one of three short choices
    elif context.attribute("smooth_softmax", -1) == 1:
        sink = lambda _: build.const(0, scalar)  # noqa: E731  # one of three short choices
    weights = probabilities(context, scores, sink=sink)

    def counted(i: Indices, value: Expr) -> Expr:
        return build.select(less(i[2], lengths.fresh(i[0])), value, like(value, 0))

    emit_heads(context, mixed(context, weights, values), shown=counted)
    mode = context.attribute("qk_output", 0)

    def shown(i: Indices) -> Expr:
        if not mode:
            return build.const(0, scalar)
        b, h, s, t = i
        place = build.sub(t, lengths.first(b)) if window else t
        safe = clamp(place, 0, build.dim(raw.shape[-1] - 1)) if window else t
        value = context.read((scores if mode == 1 else weights).tensor, raw.split((b, h, s, safe)))
        return build.select(all_of(allowed((b, h, s, place)), less(s, lengths.fresh(b))), value, like(value, 0))

    context.define({3: total}, 3)
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


@dataclass(frozen=True)
class _Cache:
    """How keys or values are held from step to step. past, output: where they come from and go. scale: the input that
    quantized ones have."""

    context: NodeContext
    past: int
    output: int
    scale: int | None

    @property
    def dtype(self) -> DType:
        return self.context.dtype(self.past if self.context.has(self.past) else 0)

    @property
    def halved(self) -> bool:
        """Whether two numbers of 4 bits share a byte."""
        return self.scale is not None and self.context.attribute("kv_cache_bit_width", 0) == 4

    def written(self, new: Heads, i: Indices) -> Expr:
        """What is stored at [batch, head, position, place]."""
        if self.halved:
            b, h, t, byte = i
            low, high = (self._code(new, (b, h, t, add(build.mul(byte, 2), half))) for half in (0, 1))
            return apply(Op.BIT_OR, low, apply(Op.SHL, high, build.const(4, high.type)))
        return new.at(*i) if self.scale is None else self._code(new, i)

    def _code(self, new: Heads, i: Indices) -> Expr:
        value = new.at(*i)
        whole = apply(Op.ROUND, over(value, as_type(value.type, self._factor(i))))
        if self.halved:
            return cast(self.dtype, plus(clamp(whole, -8, 7), 8))
        low, high = integer_range(self.dtype)
        return cast(self.dtype, clamp(whole, low, high))

    def read(self, stored: Heads, size: Dim) -> Heads:
        """The numbers of a stored tensor. size: how many each head has."""
        scalar = compute_type(wide(self.context.dtype(0)))

        def real(b: Expr, h: Expr, t: Expr, d: Expr) -> Expr:
            if self.halved:
                byte = cast(DType.INT32, stored.at(b, h, t, build.floor_div(d, 2)))
                shift = build.mul(build.floor_mod(d, 2), 4)
                code: Expr = build.sub(apply(Op.BIT_AND, apply(Op.SHR, byte, shift), Const(15)), 8)
            else:
                code = stored.at(b, h, t, d)
            return times(as_type(scalar, code), as_type(scalar, self._factor((b, h, t, d))))

        return Heads(real, stored.batch, stored.heads, stored.length, size)

    def _factor(self, i: Indices) -> Expr:
        assert self.scale is not None, "only of quantized caches"
        return self.context.broadcast(self.scale, i)


def _cached(
    context: NodeContext, new: Heads, cache: _Cache, lengths: _Lengths, total: Dim, window: _Window | None
) -> Heads:
    """The keys or values of this step, zeros behind them. They are the cache after it too, unless that is a window."""
    past, output = cache.past, cache.output
    before = context.shape(past)[2] if context.has(past) else 0
    capacity = before + new.length if window else maximum(before, total) if context.has(past) else total
    width = new.size // 2 if cache.halved else new.size

    def body(i: Indices) -> Expr:
        b, h, t, d = i
        kept = lengths.kept(b)
        fresh = cache.written(new, (b, h, build.sub(t, kept), d))
        held = build.select(less(t, lengths.held(b)), fresh, like(fresh, 0))
        if not context.has(past) or before == 0:
            return held
        return build.select(less(t, kept), context.element(past, i), held)

    if context.wants(output) and not window:
        context.define({2: capacity}, output)
        context.emit(body, output=output)
        name = context.output(output).name
    else:
        name = context.temporary(cache.dtype, (new.batch, new.heads, capacity, width), body)
    if window:
        _emit_window(context, name, output, lengths, window)
    stored = heads_of(context, name)
    if cache.scale is None:
        return stored
    return cache.read(stored, new.size).stored(context, wide(context.dtype(0)))


def _emit_window(context: NodeContext, name: str, output: int, lengths: _Lengths, window: _Window) -> None:
    """The latest positions of a stored tensor as the cache after this step."""

    def body(i: Indices) -> Expr:
        b, h, t, d = i
        resident = window.resident(lengths.ends(b))
        moved = add(t, build.sub(lengths.held(b), resident))
        safe = at_most(moved, build.dim(context.state.tensor(name).shape[2] - 1))
        value = context.read(name, [b, h, safe, d])
        return build.select(less(t, resident), value, like(value, 0))

    context.emit(body, output=output)


def _masked(context: NodeContext, raw: Scores, lengths: _Lengths) -> tuple[Scores, Callable[[Indices], Expr]]:
    """The scores, capped and biased, -infinity where a key may not be seen; and where it may, by [batch, head, query,
    key]."""
    softcap, window = context.attribute("softcap", 0.0), context.attribute("local_window_size", -1)
    causal, windowed = context.attribute("causal", 1), context.attribute("sliding_window_cache", 0)

    def allowed(i: Indices) -> Expr:
        b, _, s, t = i
        # Positions are counted from that of the first key.
        own = add(lengths.kept(b), s)
        conditions = [less_equal(0, t)] if windowed else []
        conditions.append(less(t, lengths.held(b)))
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
            column = add(at[3], lengths.first(i[0])) if windowed else at[3]
            exact = columns == 1 or (columns == raw.shape[-1] and not windowed)
            place = at if exact else (*at[:3], at_most(column, build.dim(columns - 1)))
            score = plus(score, as_type(score.type, context.broadcast(10, place)))
        return build.select(allowed(at), score, like(score, -math.inf))

    tensor = context.temporary(wide(context.dtype(0)), raw.shape, body)
    return Scores(tensor, raw.shape), allowed
