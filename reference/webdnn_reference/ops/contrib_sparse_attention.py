"""SparseAttention of com.microsoft."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, narrow, scalar_int, widen
from webdnn_reference.ops.attention_core import join_heads, masked_softmax, scores_of, weighted_values
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.contrib_gqa import projections, turned
from webdnn_reference.registry import op

__all__ = ["sparse_attention"]


@op("SparseAttention", 1, domain=MS)
def sparse_attention(
    query: Array,
    key: Array | None,
    value: Array | None,
    past_key: Array,
    past_value: Array,
    block_row_indices: Array,
    block_col_indices: Array,
    total_sequence_length: Array,
    key_total_sequence_lengths: Array,
    cos_cache: Array | None = None,
    sin_cache: Array | None = None,
    *,
    do_rotary: int = 0,
    kv_num_heads: int,
    num_heads: int,
    rotary_interleaved: int = 0,
    scale: float | None = None,
    sparse_block_size: int,
) -> tuple[Array, Array, Array]:
    """Causal attention of grouped heads, of which each sees some blocks of the keys.

    query: float[B, S, N * D], or packed with key and value; key, value: [B, S, Nkv * D]; past_key, past_value: buffers
    [B, Nkv, M, D]; block_row_indices: int32[L, M / block + 1] and block_col_indices: [L, most], the blocks that each
    block of queries sees, head h by layout h mod L; total_sequence_length: their maximum T, S for a first prompt;
    key_total_sequence_lengths: int32[B], the keys that count after this step
    -> output: [B, S, N * D]; present_key, present_value as the past. Raises ShapeError, InvalidModelError.
    """
    q, k, v = projections(query, key, value, num_heads, kv_num_heads)
    batch, _, sequence, size = q.shape
    total = scalar_int(total_sequence_length, "total_sequence_length")
    counts = key_total_sequence_lengths.reshape(-1).astype(np.int64)
    if total < sequence:
        raise ShapeError(f"total_sequence_length: expected at least {sequence}, got {total}")
    if past_key.shape[2] < total or past_key.shape[3] != size:
        expected = f"at least {total} positions of {size} elements"
        raise ShapeError(f"past_key: expected {expected}, got shape {list(past_key.shape)}")
    least = 1 if total == sequence else sequence
    if counts.shape != (batch,) or not least <= counts.min(initial=least) <= counts.max(initial=least) <= total:
        raise ShapeError(f"key_total_sequence_lengths: expected {batch} of {least}..{total}, got {counts.tolist()}")
    starts = np.zeros(batch, np.int64) if total == sequence else counts - sequence
    if do_rotary:
        if cos_cache is None or sin_cache is None:
            raise InvalidModelError("do_rotary: expected cos_cache and sin_cache, got none")
        positions = starts[:, None] + np.arange(sequence)
        q, k = (turned(x, positions, cos_cache, sin_cache, rotary_interleaved) for x in (q, k))
    presents = [widen(past).astype(q.dtype) for past in (past_key, past_value)]
    y = np.zeros((batch, num_heads, sequence, size), q.dtype)
    _check_layout(block_row_indices, block_col_indices, sparse_block_size, total)
    blocks = _visible(block_row_indices, block_col_indices)[np.arange(num_heads) % len(block_row_indices)]
    for row, start in enumerate(starts):
        held = int(start) + sequence
        for present, new in zip(presents, (k, v), strict=True):
            present[row, :, start:held] = new[row]
        keys, values = (present[row : row + 1, :, :held] for present in presents)
        own, at = int(start) + np.arange(sequence)[:, None], np.arange(held)
        allowed = (at <= own) & blocks[:, own // sparse_block_size, at // sparse_block_size]
        scores = scores_of(q[row : row + 1], keys, scale or 1 / np.sqrt(size))
        y[row] = weighted_values(masked_softmax(scores, allowed, None), values)[0]
    return narrow(join_heads(y), query), narrow(presents[0], past_key), narrow(presents[1], past_value)


def _check_layout(rows: Array, columns: Array, block_size: int, total: int) -> None:
    """Raises unless every layout is compressed rows of enough blocks for all keys."""
    if block_size < 1:
        raise InvalidModelError(f"sparse_block_size: expected a positive number, got {block_size}")
    count, needed = rows.shape[1] - 1, -(-total // block_size)
    if count < needed or not len(rows):
        raise ShapeError(f"block_row_indices: expected at least {needed + 1} columns, got shape {list(rows.shape)}")
    if rows.min() < 0 or rows.max() > columns.shape[1] or (np.diff(rows, axis=1) < 0).any():
        raise ShapeError(f"block_row_indices: expected ascending rows of 0..{columns.shape[1]}, got {rows.tolist()}")
    for row, held in zip(rows, columns, strict=True):
        used = held[row[0] : row[-1]]
        if used.size and not 0 <= used.min() <= used.max() < count:
            raise ShapeError(f"block_col_indices: expected blocks 0..{count - 1}, got {used.tolist()}")


def _visible(rows: Array, columns: Array) -> Array:
    """Flags [layouts, blocks, blocks] from compressed rows."""
    layouts, count = rows.shape[0], rows.shape[1] - 1
    flags = np.zeros((layouts, count, count), np.bool_)
    for layout in range(layouts):
        for block in range(count):
            flags[layout, block, columns[layout, rows[layout, block] : rows[layout, block + 1]]] = True
    return flags
