"""Attention, RotaryEmbedding and FlexAttention.

float16 and bfloat16 compute in float32 and are rounded once, at the outputs; softmax_precision rounds the scores and
the probabilities to that type in between.
"""

from __future__ import annotations

import functools

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_onnx.graph import Graph
from webdnn_reference.numeric import Array, narrow, unidirectional, widen
from webdnn_reference.ops.attention_core import (
    head_blocks,
    in_precision,
    join_heads,
    masked_softmax,
    rotate,
    scores_of,
    softcapped,
    split_heads,
    weighted_values,
)
from webdnn_reference.registry import Context, op

__all__ = ["attention", "flex_attention", "rotary_embedding"]


@op("Attention", (23, 24, 25))
def attention(
    Q: Array,
    K: Array,
    V: Array,
    attn_mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    nonpad_kv_seqlen: Array | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    context: Context,
) -> tuple[Array, ...]:
    """Scaled dot-product attention with masks, grouped heads and a cache of keys and values.

    Q: float[B, Hq, S, D] or [B, S, Hq * D], K: [B, Hkv, T, D], V: [B, Hkv, T, E], attn_mask: bool or float, broadcast
    to [B, Hq, S, P + T], past_key: [B, Hkv, P, D], past_value: [B, Hkv, P, E], nonpad_kv_seqlen: int64[B]
    -> Y in the layout of Q, present_key: [B, Hkv, P + T, D], present_value, qk_matmul_output: [B, Hq, S, P + T].
    A query that may attend to nothing gives zeros. Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__Attention.html#attention-25
    """
    if (past_key is None) != (past_value is None):
        raise InvalidModelError("expected past_key and past_value together, got one of them")
    q = split_heads(Q, q_num_heads, "Q")
    k = split_heads(K, kv_num_heads, "K")
    v = split_heads(V, kv_num_heads, "V")
    past = 0
    if past_key is not None and past_value is not None:
        for name, cached, new in (("past_key", past_key, k), ("past_value", past_value, v)):
            if cached.ndim != 4 or (*cached.shape[:2], cached.shape[3]) != (*new.shape[:2], new.shape[3]):
                expected = f"[{new.shape[0]}, {new.shape[1]}, P, {new.shape[3]}]"
                raise ShapeError(f"{name}: expected {expected}, got {list(cached.shape)}")
        past = past_key.shape[2]
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    queries, keys = q.shape[2], k.shape[2]
    if nonpad_kv_seqlen is not None and nonpad_kv_seqlen.shape != q.shape[:1]:
        raise ShapeError(f"nonpad_kv_seqlen: expected shape [{q.shape[0]}], got {list(nonpad_kv_seqlen.shape)}")
    if nonpad_kv_seqlen is not None and ((nonpad_kv_seqlen < 0) | (nonpad_kv_seqlen > keys)).any():
        raise ShapeError(f"nonpad_kv_seqlen: expected lengths of 0..{keys}, got {nonpad_kv_seqlen.tolist()}")
    factor = 1 / np.sqrt(q.shape[3]) if scale is None else scale
    if not 0 <= qk_matmul_output_mode <= 3:
        raise InvalidModelError(f"qk_matmul_output_mode: expected 0..3, got {qk_matmul_output_mode}")
    if min(left_window_size, right_window_size) < -1:
        got = f"{left_window_size} and {right_window_size}"
        raise InvalidModelError(f"left_window_size, right_window_size: expected -1 or more, got {got}")
    _check_precision(softmax_precision)
    offset = np.full((q.shape[0], 1, 1, 1), past)
    if nonpad_kv_seqlen is not None and past_key is None:
        offset = nonpad_kv_seqlen.reshape(-1, 1, 1, 1) - queries
    position = offset + np.arange(queries)[:, None]
    key = np.arange(keys)
    conditions = []
    if is_causal:
        conditions.append(key <= position)
    if left_window_size >= 0:
        conditions.append(key >= position - left_window_size)
    if right_window_size >= 0:
        conditions.append(key <= position + right_window_size)
    if nonpad_kv_seqlen is not None:
        conditions.append(key < nonpad_kv_seqlen.reshape(-1, 1, 1, 1))
    shape = (*q.shape[:3], keys)
    added: Array | None = None
    if attn_mask is not None:
        mask = _full_mask(attn_mask, keys) if context.opset >= 24 else attn_mask
        unidirectional(mask, shape, "attn_mask")
        if mask.dtype == np.bool_:
            conditions.append(mask)
        else:
            added = np.broadcast_to(mask, shape)
            closed = np.isneginf(widen(mask))
            if closed.any():
                conditions.append(~closed)
    allowed = np.broadcast_to(functools.reduce(np.logical_and, conditions), shape) if conditions else None
    working = widen(Q[:0]).dtype
    # In the layout of Q; heads come first in the view.
    y = np.empty((shape[0], shape[2], shape[1], v.shape[3]) if Q.ndim == 3 else (*shape[:3], v.shape[3]), Q.dtype)
    by_head = y.transpose(0, 2, 1, 3) if Q.ndim == 3 else y
    wanted = qk_matmul_output_mode if context.outputs > 3 else -1
    shown = np.empty(shape, Q.dtype) if wanted >= 0 else None

    def show(stage: int, scores: Array) -> None:
        if shown is not None and stage == wanted:
            shown[block] = scores

    for block, shared in head_blocks(q, k, v):
        scores = scores_of(widen(q[block]), widen(k[shared]).astype(working, copy=False), factor)
        show(0, scores)
        scores = softcapped(scores, softcap)
        show(1, scores)
        if added is not None:
            scores = scores + widen(added[block]).astype(working, copy=False)
        if allowed is not None:
            scores = np.where(allowed[block], scores, working.type(-np.inf))
        show(2, scores)
        scores = masked_softmax(in_precision(scores, softmax_precision, context.float64))
        scores = in_precision(scores, softmax_precision, context.float64).astype(working, copy=False)
        show(3, scores)
        by_head[block] = weighted_values(scores, widen(v[shared]).astype(working, copy=False))
    outputs = (y.reshape(*y.shape[:2], -1) if Q.ndim == 3 else y, k, v)
    return outputs if shown is None else (*outputs, shown)


def _check_precision(softmax_precision: int | None) -> None:
    """Raises InvalidModelError unless it is one of the types that the specification lists."""
    if softmax_precision not in (None, 1, 10, 11, 16):
        raise InvalidModelError(f"softmax_precision: expected 1, 10, 11 or 16, got {softmax_precision}")


def _full_mask(mask: Array, keys: int) -> Array:
    """The mask with its last dimension, 1 too, extended to `keys` positions that may not be attended to."""
    missing = keys - mask.shape[-1] if mask.ndim else 0
    if missing <= 0:
        return mask
    fill = False if mask.dtype == np.bool_ else np.array(-np.inf).astype(mask.dtype)
    return np.concatenate([mask, np.full((*mask.shape[:-1], missing), fill, mask.dtype)], axis=-1)


@op("RotaryEmbedding", 23)
def rotary_embedding(
    X: Array,
    cos_cache: Array,
    sin_cache: Array,
    position_ids: Array | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Array:
    """Rotary position embedding: pairs of a head's elements turned by an angle that depends on the position.

    X: float[B, H, S, D] or [B, S, H * D]; cos_cache, sin_cache: [positions, R / 2] with position_ids: int64[B, S], or
    [B, S, R / 2] without; R is rotary_embedding_dim, by default D -> same shape and dtype. Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html#rotaryembedding-23
    """
    heads = split_heads(widen(X), num_heads, "X")
    half = (rotary_embedding_dim or heads.shape[3]) // 2
    cos, sin = widen(cos_cache), widen(sin_cache)
    if cos.shape != sin.shape:
        raise ShapeError(f"caches: expected one shape, got {list(cos.shape)} and {list(sin.shape)}")
    if position_ids is not None:
        if cos.ndim != 2 or position_ids.shape != (heads.shape[0], heads.shape[2]):
            raise ShapeError(
                f"caches, position_ids: expected [positions, {half}] and {[heads.shape[0], heads.shape[2]]}, "
                f"got {list(cos.shape)} and {list(position_ids.shape)}"
            )
        if position_ids.size and not 0 <= position_ids.min() <= position_ids.max() < len(cos):
            got = f"{position_ids.min()} to {position_ids.max()}"
            raise InvalidModelError(f"position_ids: expected rows of the caches, 0 to {len(cos) - 1}, got {got}")
        cos, sin = cos[position_ids], sin[position_ids]
    if cos.ndim != 3 or cos.shape[-1] != half:
        raise ShapeError(f"caches: expected {half} columns for each position, got {list(cos.shape)}")
    y = rotate(heads.transpose(0, 2, 1, 3), cos, sin, interleaved).transpose(0, 2, 1, 3)
    return narrow(join_heads(y) if X.ndim == 3 else y, X)


@op("FlexAttention", 1, domain="ai.onnx.preview")
def flex_attention(
    Q: Array,
    K: Array,
    V: Array,
    *,
    prob_mod: Graph | None = None,
    scale: float | None = None,
    score_mod: Graph | None = None,
    softmax_precision: int | None = None,
    context: Context,
) -> Array:
    """Attention whose scores and probabilities pass through subgraphs of the model.

    Q: float[B, Hq, S, D], K: [B, Hkv, T, D], V: [B, Hkv, T, E] -> [B, Hq, S, E]. The subgraphs see
    [B, Hq, S, T] in softmax_precision: by default float32, or float64 where Q is. Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html#flexattention-1
    """
    if Q.ndim != 4 or K.ndim != 4 or V.ndim != 4:
        raise ShapeError(f"expected Q, K, V of rank 4, got {Q.ndim}, {K.ndim}, {V.ndim}")
    q, k, v = widen(Q), widen(K), widen(V)
    precision = q.dtype
    _check_precision(softmax_precision)
    if softmax_precision is not None and not context.float64:
        precision = DType.from_onnx(softmax_precision).numpy
    factor = 1 / np.sqrt(q.shape[3]) if scale is None else scale
    scores = narrow(scores_of(q, k, factor), precision)
    for what, body in (("score_mod", score_mod), ("prob_mod", prob_mod)):
        if body is not None and len(body.outputs) != 1:
            raise InvalidModelError(f"{what}: expected one output, got {len(body.outputs)}")
    if score_mod is not None:
        (scores,) = context.run(score_mod, [scores])
    probabilities = narrow(masked_softmax(widen(scores)), precision)
    if prob_mod is not None:
        (probabilities,) = context.run(prob_mod, [probabilities])
    return narrow(weighted_values(widen(probabilities).astype(q.dtype, copy=False), v), Q)
