"""What the attention operators of all domains share.

Heads are [batch, heads, sequence, head_size]. Scores and probabilities are [batch, heads, queries, keys].
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, narrow, widen

__all__ = [
    "head_blocks",
    "in_precision",
    "join_heads",
    "masked_softmax",
    "rotate",
    "scores_of",
    "softcapped",
    "split_heads",
    "weighted_values",
]


_BLOCK_ELEMENTS = 1 << 18
_Block: TypeAlias = tuple[slice, slice]


def head_blocks(q: Array, k: Array, v: Array) -> Iterator[tuple[_Block, _Block]]:
    """Which samples and heads to attend to at once: of q and the scores, and of k and v.

    One block takes as many heads of a sample as have few scores, at least one; heads that do not agree
    are one block, which `scores_of` and `weighted_values` refuse.
    """
    batch, heads, queries, _ = q.shape
    shared, keys = k.shape[1:3]
    agree = v.shape[:3] == k.shape[:3] and k.shape[0] == batch and q.shape[3] == k.shape[3]
    if not agree or not shared or heads % shared or batch * heads * queries * keys <= _BLOCK_ELEMENTS:
        yield (slice(None), slice(None)), (slice(None), slice(None))
        return
    group = heads // shared
    few = max(1, _BLOCK_ELEMENTS // (queries * keys))
    for sample in range(batch):
        row = slice(sample, sample + 1)
        if few < group:
            for head, start in itertools.product(range(shared), range(0, group, few)):
                first = head * group
                yield (row, slice(first + start, first + min(start + few, group))), (row, slice(head, head + 1))
            continue
        step = few // group
        for start in range(0, shared, step):
            stop = min(start + step, shared)
            yield (row, slice(start * group, stop * group)), (row, slice(start, stop))


def split_heads(x: Array, heads: int, what: str) -> Array:
    """[batch, sequence, heads * size] -> [batch, heads, sequence, size]; 4-D input is left alone.

    Raises ShapeError if the last dimension is no multiple of `heads`.
    """
    if x.ndim == 4:
        return x
    if x.ndim != 3 or heads <= 0 or x.shape[2] % heads:
        raise ShapeError(f"{what}: expected [batch, sequence, {heads} heads * size], got {list(x.shape)}")
    batch, sequence, hidden = x.shape
    return x.reshape(batch, sequence, heads, hidden // heads).transpose(0, 2, 1, 3)


def join_heads(x: Array) -> Array:
    """[batch, heads, sequence, size] -> [batch, sequence, heads * size]."""
    batch, heads, sequence, size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, sequence, heads * size)


def scores_of(q: Array, k: Array, scale: float) -> Array:
    """Scaled dot products of queries and keys; consecutive query heads share a key head where there are fewer."""
    products = _by_group(q, np.swapaxes(k, 2, 3))
    products *= q.dtype.type(scale)
    return products


def weighted_values(probabilities: Array, v: Array) -> Array:
    """Sums of values weighted by probabilities; query heads share value heads as in `scores_of`."""
    return _by_group(probabilities, v)


def _by_group(a: Array, b: Array) -> Array:
    batch, heads, rows, inner = a.shape
    if not b.shape[1] or heads % b.shape[1] or a.shape[0] != b.shape[0] or inner != b.shape[2]:
        raise ShapeError(
            f"attention: expected heads that group and sizes that agree, got {list(a.shape)} and {list(b.shape)}"
        )
    grouped = a.reshape(batch, b.shape[1], heads // b.shape[1], rows, inner)
    return (grouped @ b[:, :, None]).reshape(batch, heads, rows, b.shape[3])


def softcapped(scores: Array, softcap: float) -> Array:
    """Scores bounded smoothly to [-softcap, softcap]; 0 leaves them alone."""
    if not softcap:
        return scores
    cap = scores.dtype.type(softcap)
    capped = scores / cap
    np.tanh(capped, out=capped)
    capped *= cap
    return np.asarray(capped)


def masked_softmax(scores: Array, allowed: Array | None = None, sink: Array | None = None) -> Array:
    """Normalised exponentials along the last axis; where `allowed` is false the probability is 0.

    A row that allows nothing is all zeros. sink: logits, broadcast to [..., 1], that take part in the normalisation
    and are then dropped.
    """
    if allowed is not None:
        scores = np.where(allowed, scores, scores.dtype.type(-np.inf))
    if not scores.shape[-1]:
        return scores
    greatest = scores.max(axis=-1, keepdims=True)
    if sink is not None:
        greatest = np.maximum(greatest, sink)
    greatest = np.where(np.isneginf(greatest), 0, greatest)
    own = scores if allowed is not None and greatest.dtype == scores.dtype else None
    exponentials = np.subtract(scores, greatest, out=own)
    np.exp(exponentials, out=exponentials)
    total = exponentials.sum(axis=-1, keepdims=True)
    if sink is not None:
        total = (total + np.exp(sink - greatest)).astype(scores.dtype)
    exponentials /= np.where(total == 0, total.dtype.type(1), total)
    return np.asarray(exponentials)


def in_precision(x: Array, precision: int | None, float64: bool) -> Array:
    """Rounded to the float type with this TensorProto number, held in the type that computes with it."""
    if precision is None or float64:
        return x
    return widen(narrow(x, DType.from_onnx(precision).numpy))


def rotate(x: Array, cos: Array, sin: Array, interleaved: int) -> Array:
    """Rotary position embedding of the first part of each head, as long as cos and sin together; the rest is kept.

    x: [batch, sequence, heads, size]; cos, sin: [batch, sequence, half], half <= size / 2. Raises ShapeError.
    """
    half = cos.shape[-1]
    if 2 * half > x.shape[-1] or cos.shape != sin.shape or cos.shape[:2] != x.shape[:2]:
        raise ShapeError(
            f"rotary embedding: caches: expected {list(x.shape[:2])} rows of at most {x.shape[-1] // 2} columns, "
            f"got {list(cos.shape)} and {list(sin.shape)}"
        )
    turning, kept = x[..., : 2 * half], x[..., 2 * half :]
    first, second = (turning[..., 0::2], turning[..., 1::2]) if interleaved else np.split(turning, 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    real, imaginary = cos * first - sin * second, sin * first + cos * second
    if interleaved:
        turned = np.stack([real, imaginary], axis=-1).reshape(turning.shape)
    else:
        turned = np.concatenate([real, imaginary], axis=-1)
    return np.concatenate([turned, kept], axis=-1)
