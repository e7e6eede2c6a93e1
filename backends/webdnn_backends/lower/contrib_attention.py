"""com.microsoft: MultiHeadAttention, Attention, QAttention, DecoderMaskedMultiHeadAttention and RotaryEmbedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, compute_type
from webdnn_backends.lower.attention import emit_rotated
from webdnn_backends.lower.attention_stages import (
    Heads,
    Scores,
    emit_heads,
    heads_of,
    mixed,
    probabilities,
    rotated,
    scores_of,
)
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import all_of, as_type, equal, less, less_equal, plus, times, wide_dtype
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import MatMulHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_onnx.symbolic import Dim

__all__ = ["MS", "broadcast_to"]

MS = "com.microsoft"
_FILTER = -10000.0
_LEAST = float(np.finfo(np.float32).min)


def _integer(context: NodeContext, index: int) -> Dim:
    """The one element of an integer input. Raises UnsupportedOpError where it is no small tensor."""
    found = context.integers(index)
    if not found:
        raise context.unsupported(f"input {index} of unknown size")
    return found[0]


def _with_bias(context: NodeContext, x: Heads, bias: int, start: Dim) -> Heads:
    """Heads plus their part of a bias vector, in a tensor of their own."""
    width = build.dim(x.size)

    def at(b: Expr, h: Expr, s: Expr, d: Expr) -> Expr:
        place = add(add(build.mul(h, width), d), build.dim(start))
        return plus(x.at(b, h, s, d), context.element(bias, [place]))

    return Heads(at, x.batch, x.heads, x.length, x.size).stored(context, wide_dtype(context.dtype(0)))


def _cached(context: NodeContext, new: Heads, past: Callable[[Indices], Expr] | None, used: Dim) -> Heads:
    """Keys or values behind the first `used` positions of the past, in a tensor of their own."""
    if past is None:
        return new
    before = build.dim(used)

    def at(b: Expr, h: Expr, t: Expr, d: Expr) -> Expr:
        later = new.at(b, h, build.sub(t, before), d)
        return build.select(apply(Op.LT, t, before), as_type(later.type, past((b, h, t, d))), later)

    whole = Heads(at, new.batch, new.heads, used + new.length, new.size)
    return whole.stored(context, wide_dtype(context.dtype(0)))


def _present(whole: Heads, past: Callable[[Indices], Expr] | None, shared: bool) -> Callable[[Indices], Expr]:
    """The cache after this step; a shared buffer keeps what lies behind."""

    def at(i: Indices) -> Expr:
        b, h, t, d = i
        if not shared or past is None:
            return whole.at(b, h, t, d)
        held = build.dim(whole.length)
        return build.select(apply(Op.LT, t, held), whole.at(b, h, t, d), past(i))

    return at


def _shown(context: NodeContext, index: int, q: Heads, k: Heads) -> Callable[[Indices], Expr]:
    """Whether a mask shows a key, by [batch, head, query, key]. Raises ShapeError."""
    shape = context.shape(index)
    batch, keys = q.batch, k.length

    def element(*at: Expr | int) -> Expr:
        return as_type(compute_type(DType.INT32), context.element(index, at))

    def positive(*at: Expr) -> Expr:
        return apply(Op.GT, element(*at), Const(0))

    if len(shape) == 1:
        count = shape[0]
        if count == batch or (isinstance(count, int) and isinstance(batch, int) and count != batch * 2):
            return lambda i: less(i[3], element(i[0]))
        # There may be starts behind the ends; maybe only running tells.
        ends = build.dim(batch)
        both = build.TRUE if count == batch * 2 else equal(build.dim(count), build.dim(batch * 2))

        def between(i: Indices) -> Expr:
            start = element(add(i[0], build.select(both, ends, Const(0))))
            return all_of(less(i[3], element(i[0])), less_equal(build.select(both, start, Const(0)), i[3]))

        return between
    if len(shape) == 2:
        if shape[1] == keys or (isinstance(shape[1], int) and shape[1] != 1):
            return lambda i: positive(i[0], i[3])
        # One flag for all keys, of which there are more, hides nothing.
        alone = all_of(equal(build.dim(shape[1]), Const(1)), less(Const(1), build.dim(keys)))
        last = [build.dim(size - 1) for size in shape]
        return lambda i: build.select(
            alone, build.TRUE, positive(apply(Op.MIN, i[0], last[0]), apply(Op.MIN, i[3], last[1]))
        )
    if len(shape) == 3:
        return lambda i: positive(i[0], i[2], i[3])
    if len(shape) == 4:
        first = build.dim(keys - q.length)
        return lambda i: positive(i[0], Const(0), add(i[2], first), i[3])
    raise ShapeError(f"{context.where}: mask: expected rank 1 to 4, got {list(shape)}")


def _attend(
    context: NodeContext, q: Heads, k: Heads, v: Heads, mask: int, attention_bias: int
) -> tuple[Scores, Scores, Callable[[Expr, Expr], Expr]]:
    """The weighted values, the masked and biased scores, and whether a query may see a key."""
    raw = scores_of(context, q, k, context.attribute("scale", 0.0))
    filter_value = context.attribute("mask_filter_value", _FILTER)
    shown = _shown(context, mask, q, k) if context.has(mask) else None
    unidirectional = context.attribute("unidirectional", 0)
    earlier = build.dim(k.length - q.length)

    def allowed(s: Expr, t: Expr) -> Expr:
        return less_equal(t, add(s, earlier)) if unidirectional else build.TRUE

    def body(i: Indices) -> Expr:
        b, _, _, s, t = i
        at = (b, raw.head(i), s, t)
        score = context.read(raw.tensor, i)
        if shown is not None:
            score = plus(score, build.select(shown(at), like(score, 0), like(score, filter_value)))
        if context.has(attention_bias):
            score = plus(score, as_type(score.type, broadcast_to(context, attention_bias, at)))
        return build.select(allowed(s, t), score, like(score, -math.inf))

    biased = Scores(context.temporary(wide_dtype(context.dtype(0)), raw.shape, body), raw.shape)
    return mixed(context, probabilities(context, biased), v), biased, allowed


def broadcast_to(context: NodeContext, index: int, at: Sequence[Expr]) -> Expr:
    """The element of an input of at most that rank, axes of size 1 repeated."""
    return context.broadcast(index, at)


def _emit_scores(context: NodeContext, scores: Scores, allowed: Callable[[Expr, Expr], Expr], output: int) -> None:
    """The scores as an output; keys that may not be seen have float32's least number."""

    def body(i: Indices) -> Expr:
        score = context.read(scores.tensor, scores.split(i))
        return build.select(allowed(i[2], i[3]), score, like(score, _LEAST))

    context.emit(body, output=output)


def _packed(context: NodeContext, index: int, part: int) -> Heads:
    """One part of heads packed as [batch, length, heads, parts, size]."""
    batch, length, heads, _, size = context.shape(index)
    return Heads(lambda b, h, s, d: context.element(index, [b, s, h, part, d]), batch, heads, length, size)


@lowering("MultiHeadAttention", domain=MS)
def _multi_head_attention(context: NodeContext) -> None:
    if context.has(9):
        raise context.unsupported("beams (cache_indirection)")
    heads = context.attribute("num_heads", 1)
    if context.rank(0) == 5:
        q, k, v = (_packed(context, 0, part) for part in range(3))
    else:
        q = heads_of(context, context.name(0), heads)
        if context.rank(1) == 5:
            k, v = (_packed(context, 1, part) for part in range(2))
        else:
            k, v = (heads_of(context, context.name(index), heads) for index in (1, 2))
    if context.has(3):
        hidden = q.heads * q.size
        only_query = context.has(1) and context.rank(1) == 4
        q = _with_bias(context, q, 3, 0)
        if not only_query:
            k, v = _with_bias(context, k, 3, hidden), _with_bias(context, v, 3, hidden * 2)
    _with_cache(context, q, k, v, mask=4, attention_bias=5, past=(6, 7), length=8 if context.has(8) else None)


def _with_cache(
    context: NodeContext,
    q: Heads,
    k: Heads,
    v: Heads,
    *,
    mask: int,
    attention_bias: int,
    past: tuple[int, int],
    length: int | None,
) -> None:
    """Attention with separate caches of keys and values, and its four outputs. length: the input that says how many
    positions of shared caches are filled."""
    used: Dim = 0
    if context.has(past[0]):
        used = context.shape(past[0])[2] if length is None else _integer(context, length)
    for position, output in enumerate((1, 2)):
        new = (k, v)[position]
        read: Callable[[Indices], Expr] | None = None
        if context.has(past[position]):
            read = lambda i, index=past[position]: context.element(index, i)  # noqa: E731 - binds the index
        whole = _cached(context, new, read, used)
        present = _present(whole, read, length is not None)
        if context.wants(output):
            context.define({2: used + new.length}, output)
        context.emit(present, output=output)
        k, v = (whole, v) if position == 0 else (k, whole)
    result, scores, allowed = _attend(context, q, k, v, mask, attention_bias)
    emit_heads(context, result)
    _emit_scores(context, scores, allowed, 3)


@lowering("DecoderMaskedMultiHeadAttention", domain=MS)
def _decoder_masked(context: NodeContext) -> None:
    if context.has(9):
        raise context.unsupported("beams (cache_indirection)")
    heads = context.attribute("num_heads", 1)
    if context.has(1):
        q, k, v = (heads_of(context, context.name(index), heads) for index in range(3))
    else:
        hidden = context.shape(0)[2] // 3
        q, k, v = (heads_of(context, context.name(0), heads, hidden * part, hidden // heads) for part in range(3))
    if context.has(10):
        hidden = q.heads * q.size
        only_query = context.has(1) and context.rank(1) == 4
        q = _with_bias(context, q, 10, 0)
        if not only_query:
            k, v = _with_bias(context, k, 10, hidden), _with_bias(context, v, 10, hidden * 2)
    shared = context.attribute("past_present_share_buffer", 0) and context.has(7)
    _with_cache(context, q, k, v, mask=3, attention_bias=4, past=(5, 6), length=7 if shared else None)


@lowering("Attention", domain=MS)
def _ms_attention(context: NodeContext) -> None:
    def projected(i: Indices) -> Expr:
        b, s, c = i
        total = context.sum(
            [context.shape(0)[2]], lambda k: times(context.element(0, [b, s, *k]), context.element(1, [*k, c]))
        )
        return plus(total, context.element(2, [c])) if context.has(2) else total

    batch, length, _ = context.shape(0)
    columns = context.shape(1)[1]
    tensor = context.temporary(wide_dtype(context.dtype(0)), (batch, length, columns), projected, MatMulHint())
    _packed_attention(context, tensor, past=4, mask=3, attention_bias=5, used=6)


@lowering("QAttention", domain=MS)
def _q_attention(context: NodeContext) -> None:
    scale, weight_scale = (context.element(3, [0] * context.rank(3)), 4)

    def centred(index: int, zero: int, at: Sequence[Expr], column: Expr) -> Expr:
        value = cast(DType.INT32, context.element(index, at))
        if not context.has(zero):
            return value
        shape = context.shape(zero)
        place = [Const(0) if size == 1 else column for size in shape]
        return build.sub(value, cast(DType.INT32, context.element(zero, place)))

    def projected(i: Indices) -> Expr:
        b, s, c = i
        total = context.sum(
            [context.shape(0)[2]],
            lambda k: times(centred(0, 6, [b, s, *k], Const(0)), centred(1, 7, [*k, c], c)),
        )
        of = [Const(0) if size == 1 else c for size in context.shape(weight_scale)]
        factor = times(scale, context.element(weight_scale, of))
        value = times(as_type(factor.type, total), factor)
        return plus(value, context.element(2, [c])) if context.has(2) else value

    batch, length, _ = context.shape(0)
    columns = context.shape(1)[1]
    tensor = context.temporary(DType.FLOAT32, (batch, length, columns), projected)
    _packed_attention(context, tensor, past=8, mask=5, attention_bias=None, used=None)


def _packed_attention(
    context: NodeContext, tensor: str, *, past: int, mask: int, attention_bias: int | None, used: int | None
) -> None:
    """Attention on queries, keys and values side by side in one tensor, with one cache for both."""
    heads = context.attribute("num_heads", 1)
    columns = context.state.tensor(tensor).shape[2]
    sizes: Sequence[Dim] = context.attribute("qkv_hidden_sizes", ()) or (columns // 3,) * 3
    starts = (0, sizes[0], sizes[0] + sizes[1])
    q, k, v = (
        heads_of(context, tensor, heads, start, size // heads) for start, size in zip(starts, sizes, strict=True)
    )
    filled: Dim = 0
    shared = False
    reads: list[Callable[[Indices], Expr] | None] = [None, None]
    if context.has(past):
        reads = [lambda i, part=part: context.element(past, [part, *i]) for part in (0, 1)]  # type: ignore[misc]  # binds the part
        filled = context.shape(past)[3]
        shared = bool(context.attribute("past_present_share_buffer", 0))
        if shared and used is not None and context.has(used):
            filled = _integer(context, used)
    if context.attribute("do_rotary", 0):
        size = context.attribute("rotary_embedding_dim", 0) or q.size
        q, k = (_turned(context, x, size, filled) for x in (q, k))
    k, v = _cached(context, k, reads[0], filled), _cached(context, v, reads[1], filled)
    keys, values = _present(k, reads[0], shared), _present(v, reads[1], shared)
    context.emit(
        lambda i: build.select(apply(Op.EQ, i[0], Const(0)), keys(i[1:]), values(i[1:])),
        output=1,
    )
    absent = len(context.node.inputs)
    result, _, _ = _attend(context, q, k, v, mask, absent if attention_bias is None else attention_bias)
    emit_heads(context, result)


def _turned(context: NodeContext, x: Heads, size: Dim, offset: Dim) -> Heads:
    """Heads after rotary embedding with angles position / 10000^(2 i / size), in a tensor of their own."""
    scalar = compute_type(wide_dtype(context.dtype(0)))

    def angle(function: Op) -> Callable[[Expr, Expr, Expr], Expr]:
        def at(_b: Expr, s: Expr, pair: Expr) -> Expr:
            exponent = times(as_type(scalar, pair), as_type(scalar, const(2, scalar)))
            width = as_type(scalar, build.dim(size))
            rate = apply(Op.EXP, times(apply(Op.DIV, exponent, width), -math.log(10000.0)))
            return apply(function, times(as_type(scalar, add(s, build.dim(offset))), rate))

        return at

    turned = rotated(x, size // 2, angle(Op.COS), angle(Op.SIN), 0)
    return turned.stored(context, wide_dtype(context.dtype(0)))


def _rotary_heads(context: NodeContext) -> Heads:
    """The input of a rotary embedding as heads; without num_heads their size is that of the caches."""
    size = context.attribute("rotary_embedding_dim", 0) or context.shape(2)[1] * 2
    heads: Dim = context.attribute("num_heads", 0)
    if heads == 0:
        heads = context.shape(0)[2] // size if context.rank(0) == 3 else context.shape(0)[1]
    return heads_of(context, context.name(0), heads)


@lowering("MRotaryEmbedding", domain=MS)
def _m_rotary_embedding(context: NodeContext) -> None:
    if context.attribute("is_packed_batching", 0):
        raise context.unsupported("is_packed_batching 1")
    time, height, width = context.attribute("mrope_section", (0, 0, 0))
    if not isinstance(half := context.shape(2)[1], int) or time + height + width != half:
        raise ShapeError(f"{context.where}: mrope_section: expected {half} pairs, got {[time, height, width]}")
    pairs = np.arange(half)
    streams = np.repeat(np.arange(3), [time, height, width])
    if context.attribute("mrope_layout", 0):
        streams = np.where((pairs % 3 == 1) & (pairs < 3 * height), 1, 0)
        streams = np.where((pairs % 3 == 2) & (pairs < 3 * width), 2, streams)
    table = context.table(streams.astype(np.int32))

    def cache(index: int) -> Callable[[Expr, Expr, Expr], Expr]:
        def element(b: Expr, s: Expr, pair: Expr) -> Expr:
            place = cast(DType.INT32, context.element(1, [context.read(table, [pair]), b, s]))
            return context.element(index, [place, pair])

        return element

    x = _rotary_heads(context)
    emit_rotated(context, rotated(x, half, cache(2), cache(3), context.attribute("interleaved", 0)))


@lowering("RotaryEmbedding", domain=MS)
def _rotary_embedding(context: NodeContext) -> None:
    if context.attribute("is_packed_batching", 0):
        raise context.unsupported("is_packed_batching 1")
    half, x = context.shape(2)[1], _rotary_heads(context)
    ids = context.shape(1)
    # The schema gives positions of one axis one element.
    one = len(ids) < 2

    def cache(index: int) -> Callable[[Expr, Expr, Expr], Expr]:
        def element(b: Expr, s: Expr, pair: Expr) -> Expr:
            if one:
                first = cast(DType.INT32, context.element(1, [0] * len(ids)))
                return context.element(index, [add(first, s), pair])
            return context.element(index, [cast(DType.INT32, context.broadcast(1, [b, s])), pair])

        return element

    emit_rotated(context, rotated(x, half, cache(2), cache(3), context.attribute("interleaved", 0)))
