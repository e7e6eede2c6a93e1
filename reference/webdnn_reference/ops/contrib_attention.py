"""Attention, MultiHeadAttention and QAttention of com.microsoft.

Scores that a mask hides are lowered by mask_filter_value rather than removed, as the schema says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError, UnsupportedOpError
from webdnn_reference.numeric import Array, narrow, scalar_int, single, widen
from webdnn_reference.numeric import unidirectional as unidirectional_view
from webdnn_reference.ops.attention_core import (
    head_blocks,
    join_heads,
    masked_softmax,
    rotate,
    scores_of,
    split_heads,
    weighted_values,
)
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.contrib_quantization import dequantize_linear
from webdnn_reference.registry import Context, op

__all__ = ["decoder_masked_multi_head_attention", "ms_attention", "multi_head_attention", "q_attention"]

_FILTER = -10000.0


@op("Attention", 1, domain=MS)
def ms_attention(
    input: Array,
    weights: Array,
    bias: Array | None = None,
    mask_index: Array | None = None,
    past: Array | None = None,
    attention_bias: Array | None = None,
    past_sequence_length: Array | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = _FILTER,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: Sequence[int] = (),
    rotary_embedding_dim: int = 0,
    scale: float | None = None,
    unidirectional: int = 0,
    context: Context,
) -> tuple[Array, ...]:
    """Self-attention with its projections of queries, keys and values packed in one matrix.

    input: float[B, S, I], weights: [I, Hq + Hk + Hv], bias: [Hq + Hk + Hv]; mask_index: see `_mask_bias`, or [B, 1] or
    [1, 1], which hides nothing;
    past: [2, B, N, P, D]; attention_bias: broadcast to [B, N, S, P + S] -> output: [B, S, Hv];
    present: [2, B, N, P + S, D], or the shape of past where it is a shared buffer. Raises ShapeError.
    """
    sizes = tuple(qkv_hidden_sizes) or (weights.shape[1] // 3,) * 3
    if sum(sizes) != weights.shape[1]:
        raise ShapeError(f"weights: expected {sum(sizes)} columns, got shape {list(weights.shape)}")
    projected = widen(input) @ widen(weights)
    if bias is not None:
        projected = np.add(projected, widen(bias), out=projected if bias.dtype == projected.dtype else None)
    parts = np.split(projected, np.cumsum(sizes)[:-1], axis=2)
    q, k, v = (split_heads(part, num_heads, "input") for part in parts)
    used = past.shape[3] if past is not None else 0
    if past is not None and past_present_share_buffer and past_sequence_length is not None:
        used = scalar_int(past_sequence_length, "past_sequence_length")
    if do_rotary:
        q, k = (_rotated(heads, rotary_embedding_dim or heads.shape[3], used) for heads in (q, k))
    k, present_k = _with_past(k, None if past is None else past[0], used, bool(past_present_share_buffer))
    v, present_v = _with_past(v, None if past is None else past[1], used, bool(past_present_share_buffer))
    if mask_index is not None and mask_index.shape in ((q.shape[0], 1), (1, 1)):
        mask_index = None
    mask = _mask_bias(mask_index, q.shape[0], q.shape[2], k.shape[2], mask_filter_value)
    y, _ = _attend(q, k, v, scale, mask, attention_bias, unidirectional, shown=False)
    if context.outputs < 2:
        return (narrow(join_heads(y), input),)
    present = np.stack([present_k, present_v]) if present_k.shape == present_v.shape else present_k[None]
    return narrow(join_heads(y), input), narrow(present, input)


@op("QAttention", 1, domain=MS)
def q_attention(
    input: Array,
    weight: Array,
    bias: Array,
    input_scale: Array,
    weight_scale: Array,
    mask_index: Array | None = None,
    input_zero_point: Array | None = None,
    weight_zero_point: Array | None = None,
    past: Array | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = _FILTER,
    num_heads: int,
    past_present_share_buffer: int = 0,
    scale: float | None = None,
    unidirectional: int = 0,
    context: Context,
) -> tuple[Array, ...]:
    """Attention with an 8-bit input and 8-bit weights, one scale each, for the weights also one per column.

    Shapes as `ms_attention` -> dtype of bias.
    """
    return ms_attention(
        dequantize_linear(input, input_scale, input_zero_point),
        dequantize_linear(weight, weight_scale, weight_zero_point, axis=1),
        bias,
        mask_index,
        past,
        do_rotary=do_rotary,
        mask_filter_value=mask_filter_value,
        num_heads=num_heads,
        past_present_share_buffer=past_present_share_buffer,
        scale=scale,
        unidirectional=unidirectional,
        context=context,
    )


@op("MultiHeadAttention", 1, domain=MS)
def multi_head_attention(
    query: Array,
    key: Array | None = None,
    value: Array | None = None,
    bias: Array | None = None,
    key_padding_mask: Array | None = None,
    attention_bias: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    past_sequence_length: Array | None = None,
    cache_indirection: Array | None = None,
    *,
    mask_filter_value: float = _FILTER,
    num_heads: int,
    scale: float | None = None,
    unidirectional: int = 0,
    context: Context,
) -> tuple[Array, ...]:
    """Attention on projected queries, keys and values.

    query: float[B, S, H], or packed [B, S, N, 3, D] alone; key: [B, T, H], packed with value [B, T, N, 2, D], or heads
    [B, N, T, D] as value then is; bias: of the three projections, of which heads take only that of the queries;
    key_padding_mask: see `_mask_bias`; past_key, past_value: [B, N, P, D], a shared buffer where past_sequence_length
    is given -> output: [B, S, Hv]; present_key, present_value: [B, N, P + T, D]; qk: the biased scores
    [B, N, S, P + T].
    Raises ShapeError, UnsupportedOpError for beams (cache_indirection).
    """
    if cache_indirection is not None:
        raise UnsupportedOpError("cache_indirection: expected no beams, got an input")
    q, k, v = _heads_of(query, key, value, num_heads)
    if bias is not None:
        q, k, v = _with_bias(q, k, v, widen(bias), query_only=key is not None and key.ndim == 4)
    used = 0
    if past_key is not None:
        used = past_key.shape[2]
        if past_sequence_length is not None:
            used = scalar_int(past_sequence_length, "past_sequence_length")
    shared = past_sequence_length is not None
    k, present_key = _with_past(k, past_key, used, shared)
    v, present_value = _with_past(v, past_value, used, shared)
    mask = _mask_bias(key_padding_mask, q.shape[0], q.shape[2], k.shape[2], mask_filter_value)
    y, scores = _attend(q, k, v, scale, mask, attention_bias, unidirectional, shown=context.outputs > 3)
    outputs = (narrow(join_heads(y), query), narrow(present_key, query), narrow(present_value, query))
    return outputs if scores is None else (*outputs, narrow(scores, query))


@op("DecoderMaskedMultiHeadAttention", 1, domain=MS)
def decoder_masked_multi_head_attention(
    query: Array,
    key: Array | None = None,
    value: Array | None = None,
    mask_index: Array | None = None,
    attention_bias: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    past_sequence_length: Array | None = None,
    beam_width: Array | None = None,
    cache_indirection: Array | None = None,
    bias: Array | None = None,
    *,
    mask_filter_value: float = _FILTER,
    num_heads: int,
    output_qk: int = 0,  # noqa: ARG001 - says whether the fourth output is wanted
    past_present_share_buffer: int = 0,
    scale: float | None = None,
    context: Context,
) -> tuple[Array, ...]:
    """MultiHeadAttention of one new token. query: float[B, 1, H], or packed [B, 1, 3 H]; the rest as there.

    Raises ShapeError, UnsupportedOpError for beams.
    """
    if beam_width is not None and scalar_int(beam_width, "beam_width") != 1:
        raise UnsupportedOpError("beam_width: expected 1, got more")
    if key is None:
        query, key, value = np.split(query, 3, axis=2)
    return multi_head_attention(
        query,
        key,
        value,
        bias,
        mask_index,
        attention_bias,
        past_key,
        past_value,
        past_sequence_length if past_present_share_buffer else None,
        cache_indirection,
        mask_filter_value=mask_filter_value,
        num_heads=num_heads,
        scale=scale,
        context=context,
    )


def _heads_of(query: Array, key: Array | None, value: Array | None, heads: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values as [B, N, S, D], from any of the packings."""
    if query.ndim == 5:
        packed = widen(query)
        q, k, v = (packed[:, :, :, part].transpose(0, 2, 1, 3) for part in range(3))
        return q, k, v
    q = split_heads(widen(query), heads, "query")
    if key is None:
        raise ShapeError(f"key: expected one for a query of shape {list(query.shape)}, got none")
    if key.ndim == 5:
        packed = widen(key)
        return q, packed[:, :, :, 0].transpose(0, 2, 1, 3), packed[:, :, :, 1].transpose(0, 2, 1, 3)
    if value is None:
        raise ShapeError(f"value: expected one for a key of shape {list(key.shape)}, got none")
    return (
        q,
        split_heads(widen(key), heads, "key"),
        split_heads(widen(value), heads, "value"),
    )


def _with_bias(q: Array, k: Array, v: Array, bias: Array, *, query_only: bool) -> tuple[Array, Array, Array]:
    if q.shape[3] != k.shape[3]:
        raise ShapeError(f"query, key: expected heads of one size, got {q.shape[3]} and {k.shape[3]}")
    hidden, values = q.shape[1] * q.shape[3], v.shape[1] * v.shape[3]
    if bias.size != 2 * hidden + values:
        raise ShapeError(f"bias: expected {2 * hidden + values} elements, got shape {list(bias.shape)}")
    parts = np.split(bias.reshape(-1), [hidden, 2 * hidden])
    biases = [part.reshape(heads.shape[1], 1, heads.shape[3]) for part, heads in zip(parts, (q, k, v), strict=True)]
    return (q + biases[0], k, v) if query_only else (q + biases[0], k + biases[1], v + biases[2])


def _with_past(new: Array, past: Array | None, used: int, shared: bool) -> tuple[Array, Array]:
    """Keys or values with those of earlier steps in front, and the cache after this step.

    used: how many positions of the past are filled. shared: whether the cache keeps the past's shape.
    """
    if past is None:
        return new, new
    if past.shape[:2] != new.shape[:2] or past.shape[3:] != new.shape[3:]:
        raise ShapeError(
            f"past: expected shape [{new.shape[0]}, {new.shape[1]}, P, {new.shape[3]}], got {list(past.shape)}"
        )
    earlier = widen(past).astype(new.dtype)
    whole = np.concatenate([earlier[:, :, :used], new], axis=2)
    if not shared:
        return whole, whole
    if whole.shape[2] > past.shape[2]:
        raise ShapeError(f"past: expected a buffer of at least {whole.shape[2]} positions, got {past.shape[2]}")
    present = earlier.copy()
    present[:, :, : whole.shape[2]] = whole
    return whole, present


def _mask_bias(mask: Array | None, batch: int, queries: int, keys: int, filter_value: float) -> Array | None:
    """What a mask adds to the scores, broadcast to [B, N, S, T]: filter_value where it hides a key.

    mask: int32[B], how many keys count; [2 B], their ends and starts; [B, T], [B, S, T] or [B, 1, max, max], where 0
    hides. Raises ShapeError for other shapes.
    """
    if mask is None:
        return None
    position = np.arange(keys)
    match mask.shape:
        case (count,) if count == batch:
            shown = (position < mask[:, None])[:, None, None]
        case (count,) if count == 2 * batch:
            shown = ((position < mask[:batch, None]) & (position >= mask[batch:, None]))[:, None, None]
        case (count,) if count == 3 * batch + 2:
            shown = (position < mask[:batch, None])[:, None, None]
        case (rows, columns) if rows == batch and columns == keys:
            shown = (mask > 0)[:, None, None]
        case (rows, queried, columns) if rows == batch and queried == queries and columns == keys:
            shown = (mask > 0)[:, None]
        case (rows, 1, longest, _) if rows == batch and longest >= keys:
            shown = mask[:, :, keys - queries : keys, :keys] > 0
        case shape:
            raise ShapeError(
                f"mask: expected [{batch}], [{2 * batch}], [{batch}, {keys}] or [{batch}, {queries}, {keys}], "
                f"got {list(shape)}"
            )
    return np.where(shown, 0, single(filter_value))


def _attend(
    q: Array,
    k: Array,
    v: Array,
    scale: float | None,
    mask: Array | None,
    attention_bias: Array | None,
    unidirectional: int,
    *,
    shown: bool,
) -> tuple[Array, Array | None]:
    """Outputs [B, N, S, D] and, if shown, scores, masked and biased, [B, N, S, T]; keys to come have float32's least
    number."""
    shape = (*q.shape[:3], k.shape[2])
    biases = [] if mask is None else [mask]
    if attention_bias is not None:
        biases.append(widen(attention_bias))
    added = [unidirectional_view(bias.astype(q.dtype, copy=False), shape, "attention_bias") for bias in biases]
    allowed = None
    if unidirectional:
        earlier = k.shape[2] - q.shape[2]
        allowed = np.arange(k.shape[2]) <= np.arange(q.shape[2])[:, None] + earlier
    y = np.empty((shape[0], shape[2], shape[1], v.shape[3]), np.result_type(q, k, v)).transpose(0, 2, 1, 3)
    kept = np.empty(shape, np.result_type(q, k)) if shown else None
    for block, shared in head_blocks(q, k, v):
        scores = scores_of(q[block], k[shared], scale or 1 / np.sqrt(q.shape[3]))
        for bias in added:
            scores += bias[block]
        y[block] = weighted_values(masked_softmax(scores, allowed), v[shared])
        if kept is not None and allowed is not None:
            kept[block] = np.where(allowed, scores, np.finfo(np.float32).min)
        elif kept is not None:
            kept[block] = scores
    return y, kept


def _rotated(heads: Array, size: int, offset: int) -> Array:
    """Rotary embedding with angles position / 10000^(2 i / size)."""
    if size % 2:
        raise InvalidModelError(f"rotary_embedding_dim: expected an even number, got {size}")
    position = offset + np.arange(heads.shape[2])
    angles = position[:, None] / 10000.0 ** (np.arange(0, size, 2) / size)
    cos, sin = (
        np.broadcast_to(f(angles).astype(heads.dtype), (heads.shape[0], *angles.shape)) for f in (np.cos, np.sin)
    )
    return rotate(heads.transpose(0, 2, 1, 3), cos, sin, 0).transpose(0, 2, 1, 3)
