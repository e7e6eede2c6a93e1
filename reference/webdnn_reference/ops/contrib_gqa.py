"""GroupQueryAttention and RotaryEmbedding of com.microsoft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError, UnsupportedOpError
from webdnn_reference.numeric import (
    Array,
    average,
    is_integer,
    narrow,
    saturate,
    scalar_int,
    single,
    unidirectional,
    widen,
)
from webdnn_reference.ops.attention_core import (
    join_heads,
    masked_softmax,
    rotate,
    scores_of,
    softcapped,
    split_heads,
    weighted_values,
)
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.registry import op

__all__ = ["group_query_attention", "m_rotary_embedding", "ms_rotary_embedding", "projections", "turned"]


@op("RotaryEmbedding", 1, domain=MS)
def ms_rotary_embedding(
    input: Array,
    position_ids: Array,
    cos_cache: Array,
    sin_cache: Array,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,  # noqa: ARG001 - no kernel of onnxruntime applies it
) -> Array:
    """Rotary position embedding.

    input: float[B, S, H] or [B, N, S, D]; position_ids: int64[B, S], or [1], the first position of every sequence;
    cos_cache, sin_cache: [positions, R / 2] -> same shape and dtype. Without num_heads the head size is taken to be
    that of the caches. Raises ShapeError, UnsupportedOpError.
    """
    if is_packed_batching:
        raise UnsupportedOpError("is_packed_batching: expected 0, got 1")
    size = rotary_embedding_dim or 2 * cos_cache.shape[1]
    heads = num_heads or (input.shape[-1] // size if input.ndim == 3 else input.shape[1])
    x = split_heads(widen(input), heads, "input")
    positions = position_ids
    if position_ids.size == 1 and position_ids.ndim <= 1:
        positions = scalar_int(position_ids, "position_ids") + np.arange(x.shape[2])
    positions = np.broadcast_to(positions, (x.shape[0], x.shape[2]))
    y = turned(x, positions, cos_cache, sin_cache, interleaved)
    return narrow(join_heads(y) if input.ndim == 3 else y, input)


@op("MRotaryEmbedding", 1, domain=MS)
def m_rotary_embedding(
    input: Array,
    position_ids: Array,
    cos_cache: Array,
    sin_cache: Array,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    mrope_layout: int = 0,
    mrope_section: Sequence[int],
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,  # noqa: ARG001 - no kernel of onnxruntime applies it
) -> Array:
    """Rotary embedding whose pairs follow one of three positions: in time, height or width.

    input, caches: as RotaryEmbedding; position_ids: int64[3, B, S]; mrope_section: how many pairs follow each, side by
    side (mrope_layout 0) or in turn (1) -> same shape and dtype. Raises ShapeError, UnsupportedOpError.
    """
    if is_packed_batching:
        raise UnsupportedOpError("is_packed_batching: expected 0, got 1")
    size = rotary_embedding_dim or 2 * cos_cache.shape[1]
    heads = num_heads or (input.shape[-1] // size if input.ndim == 3 else input.shape[1])
    x = split_heads(widen(input), heads, "input")
    pair = np.arange(cos_cache.shape[1])
    if len(mrope_section) != 3 or min(mrope_section) < 0 or sum(mrope_section) != len(pair):
        raise ShapeError(f"mrope_section: expected three numbers of {len(pair)} pairs, got {list(mrope_section)}")
    _, height, width = mrope_section
    if mrope_layout:
        stream = np.where((pair % 3 == 1) & (pair < 3 * height), 1, 0)
        stream = np.where((pair % 3 == 2) & (pair < 3 * width), 2, stream)
    else:
        stream = np.repeat(np.arange(3), mrope_section)
    if position_ids.size and not 0 <= position_ids.min() <= position_ids.max() < len(cos_cache):
        got = f"{position_ids.min()} to {position_ids.max()}"
        raise ShapeError(f"position_ids: expected 0..{len(cos_cache) - 1}, got {got}")
    positions = position_ids[stream].transpose(1, 2, 0)
    cos, sin = (widen(cache).astype(x.dtype)[positions, pair] for cache in (cos_cache, sin_cache))
    y = rotate(x.transpose(0, 2, 1, 3), cos, sin, interleaved).transpose(0, 2, 1, 3)
    return narrow(join_heads(y) if input.ndim == 3 else y, input)


def turned(x: Array, positions: Array, cos_cache: Array, sin_cache: Array, interleaved: int) -> Array:
    """Heads [B, N, S, D] after rotary embedding at positions [B, S]. Raises ShapeError."""
    if positions.size and not 0 <= positions.min() <= positions.max() < len(cos_cache):
        raise ShapeError(f"rotary embedding: positions: expected 0..{len(cos_cache) - 1}, got up to {positions.max()}")
    cos, sin = (widen(cache).astype(x.dtype)[positions] for cache in (cos_cache, sin_cache))
    return rotate(x.transpose(0, 2, 1, 3), cos, sin, interleaved).transpose(0, 2, 1, 3)


@dataclass(frozen=True)
class _Cache:
    """How keys (or values) are held: quantized with a scale, or as they are. dtype: of the cache.

    bits: of a quantized number; two of 4 bits share a byte, the first in its low half, each plus 8.
    """

    dtype: np.dtype
    scale: Array | None
    bits: int = 8

    def read(self, stored: Array) -> Array:
        if self.scale is None:
            return widen(stored)
        if self.bits == 4:
            halves = np.stack([stored & 15, stored >> 4], axis=-1)
            stored = halves.reshape(*stored.shape[:-1], -1).astype(np.int8) - np.int8(8)
        return stored.astype(self.scale.dtype) * self.scale

    def write(self, x: Array) -> Array:
        if self.scale is None:
            return narrow(x, self.dtype)
        quantized = np.rint(x / self.scale)
        if self.bits == 4:
            codes = (np.clip(quantized, -8, 7) + 8).astype(np.uint8)
            return codes[..., ::2] | codes[..., 1::2] << 4
        return saturate(quantized, self.dtype)


@op("GroupQueryAttention", 1, domain=MS)
def group_query_attention(
    query: Array,
    key: Array | None,
    value: Array | None,
    past_key: Array | None,
    past_value: Array | None,
    seqlens_k: Array,
    total_sequence_length: Array,
    cos_cache: Array | None = None,
    sin_cache: Array | None = None,
    position_ids: Array | None = None,
    attention_bias: Array | None = None,
    head_sink: Array | None = None,
    k_scale: Array | None = None,
    v_scale: Array | None = None,
    q_norm_weight: Array | None = None,
    k_norm_weight: Array | None = None,
    query_seqlens: Array | None = None,
    *,
    causal: int = 1,
    do_rotary: int = 0,
    k_norm_epsilon: float | None = None,
    k_quant_type: str = "NONE",
    kv_cache_bit_width: int = 0,
    kv_num_heads: int,
    local_window_size: int = -1,
    num_heads: int,
    q_norm_epsilon: float | None = None,
    qk_norm_epsilon: float = single(1e-6),
    qk_output: int = 0,
    rotary_interleaved: int = 0,
    scale: float | None = None,
    sliding_window_cache: int = 0,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
    v_quant_type: str = "NONE",
) -> tuple[Array, Array, Array, Array]:
    """Attention of grouped heads with a cache of keys and values.

    query: float[B, S, N * D], or packed with key and value; key, value: [B, S, Nkv * D]; past_key, past_value:
    [B, Nkv, P, D]; seqlens_k: int32[B], one less than the keys that count after this step; total_sequence_length:
    their maximum T; attention_bias: broadcast to [B, N, S, T]; head_sink: [N], logits that only join the
    normalisation; query_seqlens: how many of the S tokens count
    -> output: [B, S, N * D]; present_key, present_value: [B, Nkv, max(P, T), D]; output_qk: [B, N, S, T], scores
    (0 where masked) or probabilities.
    Rows that padding leaves unspecified are zero. Caches of 4-bit numbers have two in each uint8.
    Raises ShapeError, InvalidModelError.
    """
    q, k, v = projections(query, key, value, num_heads, kv_num_heads)
    batch, _, sequence, size = q.shape
    total = scalar_int(total_sequence_length, "total_sequence_length")
    counts = seqlens_k.reshape(-1).astype(np.int64) + 1
    fresh = np.minimum(counts, sequence) if query_seqlens is None else query_seqlens.astype(np.int64)
    if (fresh < 0).any() or (fresh > sequence).any():
        raise ShapeError(f"query_seqlens: expected {batch} lengths from 0 to {sequence}, got {fresh.tolist()}")
    if counts.shape != (batch,) or (fresh > counts).any() or (counts < 1).any() or (counts > total).any():
        raise ShapeError(f"seqlens_k: expected {batch} lengths from 0 to {total - 1}, got {seqlens_k.tolist()}")
    if q_norm_weight is not None and k_norm_weight is not None:
        for what, weight in (("q_norm_weight", q_norm_weight), ("k_norm_weight", k_norm_weight)):
            if weight.shape != (size,):
                raise ShapeError(f"{what}: expected shape [{size}], got {list(weight.shape)}")
        q = _normalized(q, q_norm_weight, qk_norm_epsilon if q_norm_epsilon is None else q_norm_epsilon)
        k = _normalized(k, k_norm_weight, qk_norm_epsilon if k_norm_epsilon is None else k_norm_epsilon)
    first_prompt = query_seqlens is None and sequence == total
    if do_rotary:
        if cos_cache is None or sin_cache is None:
            raise InvalidModelError("do_rotary: expected cos_cache and sin_cache, got none")
        positions = (counts - fresh)[:, None] + np.arange(sequence)
        if position_ids is not None:
            if position_ids.shape not in ((batch, sequence), (1, sequence)) and not (
                first_prompt and position_ids.size
            ):
                raise ShapeError(f"position_ids: expected shape [{batch}, {sequence}], got {list(position_ids.shape)}")
            positions = position_ids.reshape(-1)[:1] + np.arange(sequence) if first_prompt else position_ids
        positions = np.minimum(np.broadcast_to(positions, (batch, sequence)), len(cos_cache) - 1)
        q, k = (turned(x, positions, cos_cache, sin_cache, rotary_interleaved) for x in (q, k))
    if (past_key is None) != (past_value is None):
        raise InvalidModelError("past_key, past_value: expected both or none, got one")
    for which, past, kind, factors in (
        ("key", past_key, k_quant_type, k_scale),
        ("value", past_value, v_quant_type, v_scale),
    ):
        if kind != "NONE":
            _check_quantized(which, past, factors, (1, kv_num_heads, 1, size))
    caches = [
        _Cache(query.dtype if past is None else past.dtype, None if kind == "NONE" else scales, kv_cache_bit_width or 8)
        for past, scales, kind in ((past_key, k_scale, k_quant_type), (past_value, v_scale, v_quant_type))
    ]
    capacity = total if past_key is None else past_key.shape[2]
    if not sliding_window_cache:
        capacity = max(capacity, total)
    elif past_key is None or not 1 <= local_window_size <= capacity:
        got = f"{local_window_size} and {'none' if past_key is None else capacity}"
        raise InvalidModelError(f"sliding_window_cache: expected a local_window_size within past_key, got {got}")
    widths = [size // 2 if cache.scale is not None and cache.bits == 4 else size for cache in caches]
    pasts = (("past_key", past_key), ("past_value", past_value))
    for (what, past), width in zip(pasts, widths, strict=True):
        held = 0 if past is None else past.shape[2]
        if past is not None and past.shape[3] != width:
            raise ShapeError(f"{what}: expected rows of {width} elements, got shape {list(past.shape)}")
        if not sliding_window_cache and (counts - fresh > held).any():
            raise ShapeError(f"{what}: expected {int((counts - fresh).max())} earlier positions, got {held}")
    if attention_bias is not None:
        unidirectional(attention_bias[..., :1], (batch, num_heads, sequence, 1), "attention_bias")
        if attention_bias.shape[3] < total:
            raise ShapeError(f"attention_bias: expected {total} columns, got shape {list(attention_bias.shape)}")
    presents = [
        np.zeros((batch, kv_num_heads, capacity, width), cache.dtype)
        for cache, width in zip(caches, widths, strict=True)
    ]
    y = np.zeros((batch, num_heads, sequence, size), q.dtype)
    qk = np.zeros((batch, num_heads, sequence, total) if qk_output else (), q.dtype)
    for row in range(batch):
        end, new = int(counts[row]), int(fresh[row])
        start = end - new
        stored = []
        for cache, past, x, present in zip(caches, (past_key, past_value), (k, v), presents, strict=True):
            kept = _resident(start, capacity, local_window_size) if sliding_window_cache else start
            if past is not None:
                stored.append(np.concatenate([past[row, :, :kept], cache.write(x[row : row + 1, :, :new])[0]], axis=1))
            else:
                stored.append(cache.write(x[row : row + 1, :, :new])[0])
            held = _resident(end, capacity, local_window_size) if sliding_window_cache else end
            present[row, :, :held] = stored[-1][:, stored[-1].shape[1] - held :]
        keys, values = (cache.read(held[None]).astype(q.dtype) for cache, held in zip(caches, stored, strict=True))
        positions_k = end - keys.shape[2] + np.arange(keys.shape[2])
        here = q[row : row + 1, :, :new]
        scores = softcapped(scores_of(here, keys, scale or 1 / np.sqrt(size)), softcap)
        if attention_bias is not None:
            biases = np.broadcast_to(widen(attention_bias), (batch, num_heads, sequence, attention_bias.shape[3]))
            scores += biases[row : row + 1, :, :new, positions_k].astype(q.dtype)
        allowed = np.ones((new, len(positions_k)), np.bool_)
        if causal:
            own = start + np.arange(new)[:, None]
            allowed = positions_k <= own
            if local_window_size > 0:
                allowed &= positions_k > own - local_window_size
        sink = None
        if head_sink is not None:
            sink = widen(head_sink).astype(q.dtype).reshape(-1, 1, 1)
        elif smooth_softmax == 1:
            sink = np.zeros((1, 1, 1), q.dtype)
        probabilities = masked_softmax(scores, allowed, sink)
        y[row, :, :new] = weighted_values(probabilities, values)[0]
        if qk_output:
            shown = np.where(allowed, scores, 0) if qk_output == 1 else probabilities
            qk[row, :, :new, end - len(positions_k) : end] = shown[0]
    qk = np.broadcast_to(narrow(qk, query), (batch, num_heads, sequence, total))
    return narrow(join_heads(y), query), presents[0], presents[1], qk


def projections(
    query: Array, key: Array | None, value: Array | None, heads: int, kv_heads: int
) -> tuple[Array, Array, Array]:
    """Queries, keys and values as heads, from separate inputs or one packed one."""
    if heads < 1 or kv_heads < 1:
        raise InvalidModelError(f"num_heads, kv_num_heads: expected positive numbers, got {heads} and {kv_heads}")
    if (key is None) != (value is None):
        raise InvalidModelError("key, value: expected both, or neither where the query is packed, got one")
    if key is None or value is None:
        packed = split_heads(widen(query), heads + 2 * kv_heads, "query")
        q, k, v = np.split(packed, [heads, heads + kv_heads], axis=1)
        return q, k, v
    q = split_heads(widen(query), heads, "query")
    k = split_heads(widen(key), kv_heads, "key")
    v = split_heads(widen(value), kv_heads, "value")
    if not q.shape[3] or q.shape[3] != k.shape[3] or q.shape[3] != v.shape[3]:
        raise ShapeError(
            f"query, key, value: expected heads of one size, got {q.shape[3]}, {k.shape[3]} and {v.shape[3]}"
        )
    return q, k, v


def _check_quantized(which: str, past: Array | None, scale: Array | None, channels: tuple[int, ...]) -> None:
    """Raises unless a quantized cache is there, with a scale of one element or one that broadcasts to its channels."""
    if past is None or scale is None:
        missing = f"past_{which}" if past is None else f"{which[0]}_scale"
        raise InvalidModelError(f"{missing}: expected one for a quantized cache, got none")
    if not is_integer(past):
        raise DTypeError(f"past_{which}: expected integers for a quantized cache, got {past.dtype}")
    unidirectional(scale, channels, f"{which[0]}_scale")


def _normalized(heads: Array, weight: Array, epsilon: float) -> Array:
    inverse = 1 / np.sqrt(average(np.square(heads), axis=-1, keepdims=True) + heads.dtype.type(epsilon))
    return np.asarray(heads * inverse * widen(weight).astype(heads.dtype))


def _resident(tokens: int, capacity: int, window: int) -> int:
    """How many positions a windowed cache holds after `tokens` tokens."""
    if tokens <= capacity:
        return tokens
    step = capacity - window + 1
    return tokens - step * -(-(tokens - capacity) // step)
