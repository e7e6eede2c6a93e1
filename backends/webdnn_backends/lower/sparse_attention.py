"""com.microsoft: SparseAttention, attention of grouped heads of which each sees some blocks of the keys."""

from __future__ import annotations

import math
from collections.abc import Callable

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, cast
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import compute_type
from webdnn_backends.lower.attention_stages import Heads, Scores, emit_heads, heads_of, mixed, probabilities, scores_of
from webdnn_backends.lower.attention_stages import rotated as rotated_heads
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import all_of, as_type, at_most, below, equal, less, less_equal, wide_dtype
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_ROWS, _COLUMNS, _TOTAL, _COUNTS, _COS, _SIN = range(5, 11)


@lowering("SparseAttention", domain=MS)
def _sparse_attention(context: NodeContext) -> None:
    heads, groups = context.attribute("num_heads", 1), context.attribute("kv_num_heads", 1)
    if context.has(1):
        q = heads_of(context, context.name(0), heads)
        k, v = (heads_of(context, context.name(index), groups) for index in (1, 2))
    else:
        size = context.shape(0)[2] // (heads + 2 * groups)
        starts = ((0, heads), (size * heads, groups), (size * (heads + groups), groups))
        q, k, v = (heads_of(context, context.name(0), number, start, size) for start, number in starts)
    first = _first_position(context, q.length)
    if context.attribute("do_rotary", 0):
        if not (context.has(_COS) and context.has(_SIN)):
            raise InvalidModelError(f"{context.where}: do_rotary: expected cos_cache and sin_cache, got none")
        q, k = (_turned(context, x, first) for x in (q, k))
    keys, values = (_cached(context, x, past, first) for x, past in ((k, 3), (v, 4)))
    raw = scores_of(context, q, keys, context.attribute("scale", 0.0))
    blocks = _visible(context)
    layouts, block = context.shape(_ROWS)[0], context.attribute("sparse_block_size", 16)
    count = context.shape(_ROWS)[1] - 1

    def body(i: Indices) -> Expr:
        b, _, _, s, t = i
        own = add(first(b), s)
        layout = build.floor_mod(raw.head(i), build.dim(layouts))
        # A buffer may be longer than the layouts: what lies behind them is never seen.
        row, column = (at_most(build.floor_div(at, block), build.dim(count - 1)) for at in (own, t))
        seen = all_of(less_equal(t, own), context.read(blocks, [layout, row, column]))
        score = context.read(raw.tensor, i)
        return build.select(seen, score, like(score, -math.inf))

    scores = Scores(context.temporary(wide_dtype(context.dtype(0)), raw.shape, body), raw.shape)
    emit_heads(context, mixed(context, probabilities(context, scores), values))


def _first_position(context: NodeContext, queries: Dim) -> Callable[[Expr], Expr]:
    """The position of an entry's first new token: 0 where all tokens there are are new."""

    def at(b: Expr) -> Expr:
        total = cast(DType.INT32, context.element(_TOTAL, [0] * context.rank(_TOTAL)))
        length = build.dim(queries)
        earlier = build.sub(cast(DType.INT32, context.element(_COUNTS, [b])), length)
        return build.select(equal(total, length), Const(0), earlier)

    return at


def _turned(context: NodeContext, x: Heads, first: Callable[[Expr], Expr]) -> Heads:
    def cache(index: int) -> Callable[[Expr, Expr, Expr], Expr]:
        return lambda b, s, pair: context.element(index, [add(first(b), s), pair])

    half = context.shape(_COS)[1]
    turned = rotated_heads(x, half, cache(_COS), cache(_SIN), context.attribute("rotary_interleaved", 0))
    return turned.stored(context, wide_dtype(context.dtype(0)))


def _cached(context: NodeContext, new: Heads, past: int, first: Callable[[Expr], Expr]) -> Heads:
    """The buffer with this step's keys or values written into it, which is an output too."""
    dtype, output = context.dtype(past), past - 2
    scalar = compute_type(dtype)

    def body(i: Indices) -> Expr:
        b, h, t, d = i
        place = build.sub(t, first(b))
        fresh = as_type(scalar, new.at(b, h, place, d))
        return build.select(below(place, new.length), fresh, context.element(past, i))

    if context.wants(output):
        context.emit(body, output=output)
        return heads_of(context, context.output(output).name)
    return heads_of(context, context.temporary(dtype, context.shape(past), body))


def _visible(context: NodeContext) -> str:
    """Flags [layouts, blocks of queries, blocks of keys] from compressed rows."""
    layouts, rows = context.shape(_ROWS)
    most = context.shape(_COLUMNS)[1]

    def body(i: Indices) -> Expr:
        layout, row, column = i
        start, end = (cast(DType.INT32, context.element(_ROWS, [layout, add(row, after)])) for after in (0, 1))

        def entry(k: Indices) -> Expr:
            same = equal(cast(DType.INT32, context.element(_COLUMNS, [layout, *k])), column)
            return all_of(less_equal(start, k[0]), less(k[0], end), same)

        return context.reduce(ReduceOp.ANY, [most], entry)

    return context.temporary(DType.BOOL, (layouts, rows - 1, rows - 1), body)
