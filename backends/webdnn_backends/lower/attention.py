"""Attention, RotaryEmbedding and FlexAttention of the ONNX domains."""

from __future__ import annotations

import math
from collections.abc import Callable

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast
from webdnn_backends.ir.loops import Expr
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.attention_stages import (
    Heads,
    Scores,
    emit_heads,
    heads_of,
    in_precision,
    mixed,
    probabilities,
    rotated,
    scores_of,
    softcapped,
)
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import all_of, as_type, less, less_equal, plus, wide_dtype
from webdnn_backends.lower.program import lower_nodes
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import ReshapeHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.graph import Graph, Shape
from webdnn_onnx.symbolic import Dim

__all__ = ["with_past"]


def with_past(context: NodeContext, new: Heads, past: str, output: int) -> Heads:
    """Keys or values with those of earlier steps in front, as the present output or a tensor like it."""
    shape = context.state.tensor(past).shape
    before = shape[2]
    whole = (new.batch, new.heads, before + new.length, new.size)

    def body(i: Indices) -> Expr:
        b, h, t, d = i
        later = new.at(b, h, build.sub(t, build.dim(before)), d)
        return build.select(apply(Op.LT, t, build.dim(before)), context.read(past, [b, h, t, d]), later)

    if context.wants(output):
        context.emit(body, output=output)
        return heads_of(context, context.output(output).name)
    return heads_of(context, context.temporary(context.state.tensor(past).dtype, whole, body))


def _present(context: NodeContext, new: Heads, past_input: int, output: int) -> Heads:
    if context.has(past_input):
        return with_past(context, new, context.name(past_input), output)
    context.emit(lambda i: new.at(i[0], i[1], i[2], i[3]), output=output)
    return new


@lowering("Attention", since=23)
def _attention(context: NodeContext) -> None:
    if context.has(4) != context.has(5):
        raise InvalidModelError(f"{context.where}: expected past_key and past_value together, got one of them")
    mode = context.attribute("qk_matmul_output_mode", 0)
    if not 0 <= mode <= 3:
        raise InvalidModelError(f"{context.where}: qk_matmul_output_mode: expected 0..3, got {mode}")
    kv_heads = context.attribute("kv_num_heads", 0)
    q = heads_of(context, context.name(0), context.attribute("q_num_heads", 0))
    k = _present(context, heads_of(context, context.name(1), kv_heads), 4, 1)
    v = _present(context, heads_of(context, context.name(2), kv_heads), 5, 2)
    raw = scores_of(context, q, k, context.attribute("scale", 0.0))
    softcap = context.attribute("softcap", 0.0)
    capped = raw
    if softcap:
        body: Callable[[Indices], Expr] = lambda i: softcapped(context.read(raw.tensor, i), softcap)  # noqa: E731  # a def would be three lines for one
        capped = Scores(context.temporary(wide_dtype(context.dtype(0)), raw.shape, body), raw.shape)
    biased = _biased(context, capped, q, k)
    precision = context.node.attributes.get("softmax_precision")
    to = DType.from_onnx(int(precision)) if isinstance(precision, int) else None
    weights = probabilities(context, biased, rounded=lambda x: in_precision(to, x))
    emit_heads(context, mixed(context, weights, v))
    shown = (raw, capped, biased, weights)[mode]
    context.emit(lambda i: context.read(shown.tensor, shown.split(i)), output=3, hint=ReshapeHint(shown.tensor))


def _biased(context: NodeContext, scores: Scores, q: Heads, k: Heads) -> Scores:
    """The scores with the mask added, -infinity where a key may not be attended to."""
    left, right = context.attribute("left_window_size", -1), context.attribute("right_window_size", -1)
    causal = context.attribute("is_causal", 0)
    if not (context.has(3) or context.has(6) or causal or left >= 0 or right >= 0):
        return scores

    def body(i: Indices) -> Expr:
        b, _, _, s, t = i
        score = context.read(scores.tensor, i)
        conditions: list[Expr] = []
        position = s
        count = None
        if context.has(6):
            count = as_type(Scalar.I32, context.element(6, [b]))
        if context.has(4):
            position = add(s, build.dim(context.shape(4)[2]))
        elif count is not None:
            position = add(s, build.sub(count, build.dim(q.length)))
        if causal:
            conditions.append(less_equal(t, position))
        if left >= 0:
            conditions.append(less_equal(build.sub(position, left), t))
        if right >= 0:
            conditions.append(less_equal(t, add(position, right)))
        if count is not None:
            conditions.append(less(t, count))
        if context.has(3):
            at, present = _mask_place(context, (b, scores.head(i), s, t), k.length)
            mask = context.element(3, at)
            if mask.type is Scalar.BOOL:
                conditions.append(build.select(present, mask, build.FALSE))
            else:
                mask = as_type(score.type, mask)
                hidden = like(mask, -math.inf)
                score = plus(score, mask if present == build.TRUE else build.select(present, mask, hidden))
        allowed = all_of(*conditions)
        return build.select(allowed, score, like(score, -math.inf))

    return Scores(context.temporary(wide_dtype(context.dtype(0)), scores.shape, body), scores.shape)


def _mask_place(context: NodeContext, i: Indices, keys: Dim) -> tuple[list[Expr], Expr]:
    """Indices into the mask from [batch, head, query, key], and whether it covers that key."""
    shape = context.shape(3)
    aligned = i[4 - len(shape) :]
    at = [context.within(size, index) for size, index in zip(shape, aligned, strict=True)]
    columns = shape[-1]
    if columns == keys or (columns == 1 and context.node.opset < 24):
        return at, build.TRUE
    return at, apply(Op.LT, i[3], build.dim(columns))


@lowering("RotaryEmbedding", since=23)
def _rotary_embedding(context: NodeContext) -> None:
    x = heads_of(context, context.name(0), context.attribute("num_heads", 0))
    size = context.attribute("rotary_embedding_dim", 0) or x.size
    half = size // 2

    def cache(index: int) -> Callable[[Expr, Expr, Expr], Expr]:
        def element(b: Expr, s: Expr, pair: Expr) -> Expr:
            if not context.has(3):
                return context.element(index, [b, s, pair])
            return context.element(index, [cast(DType.INT32, context.element(3, [b, s])), pair])

        return element

    emit_rotated(context, rotated(x, half, cache(1), cache(2), context.attribute("interleaved", 0)))


def emit_rotated(context: NodeContext, x: Heads) -> None:
    """Give the first output, [batch, heads, length, size] or [batch, length, heads * size], from heads."""
    rank = len(context.output().shape)
    size = build.dim(x.size)

    def body(i: Indices) -> Expr:
        if rank == 4:
            return x.at(i[0], i[1], i[2], i[3])
        return x.at(i[0], build.floor_div(i[2], size), i[1], build.floor_mod(i[2], size))

    context.emit(body)


@lowering("FlexAttention", domain="ai.onnx.preview")
def _flex_attention(context: NodeContext) -> None:
    q, k, v = (heads_of(context, context.name(position)) for position in range(3))
    scores = _modified(context, scores_of(context, q, k, context.attribute("scale", 0.0)), "score_mod")
    weights = _modified(context, probabilities(context, scores), "prob_mod")
    emit_heads(context, mixed(context, weights, v))


def _modified(context: NodeContext, scores: Scores, name: str) -> Scores:
    """The scores as a subgraph of the model changes them, in the precision that it sees."""
    body = context.node.attributes.get(name)
    precision = context.node.attributes.get("softmax_precision")
    wide = wide_dtype(context.dtype(0))
    to = DType.from_onnx(int(precision)) if isinstance(precision, int) else wide
    if not isinstance(body, Graph):
        if to.bits >= wide.bits:
            return scores
        narrow: Callable[[Indices], Expr] = lambda i: in_precision(to, context.read(scores.tensor, i))  # noqa: E731  # a def would be three lines for one
        return Scores(context.temporary(wide, scores.shape, narrow), scores.shape)
    batch, heads, group, queries, keys = scores.shape
    flat: Shape = (batch, heads * group, queries, keys)
    seen = context.temporary(to, flat, lambda i: cast(to, context.read(scores.tensor, scores.split(i))))
    state = context.state
    with state.scope(body) as items:
        state.scopes[-1].names[body.inputs[0].name] = seen
        lower_nodes(state, body)
        result = state.tensor(body.outputs[0].name)
    state.items.extend(items)

    def back(i: Indices) -> Expr:
        return as_type(scalar, context.read(result.name, [i[0], scores.head(i), i[3], i[4]]))

    scalar = Scalar.F64 if wide is DType.FLOAT64 else Scalar.F32
    return Scores(context.temporary(wide, scores.shape, back), scores.shape)
