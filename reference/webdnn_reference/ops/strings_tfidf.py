"""TfIdfVectorizer: counts of n-grams."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array
from webdnn_reference.registry import op


@op("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(
    X: Array,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int] | None = None,
    pool_strings: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
) -> Array:
    """How often each n-gram of a pool occurs in each row, plain (TF), as one or zero (IDF, weighted) or weighted.

    X: string|int32|int64, (C,) or (N, C) -> float32 (max(ngram_indexes) + 1,) or with N in front. The items of an
    n-gram may lie up to max_skip_count apart. The pool holds the 1-grams, then the 2-grams, ...; ngram_counts[n - 1]
    is where the n-grams start. Raises InvalidModelError for a pool that does not fit.
    Spec: https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html#tfidfvectorizer-9
    """
    if X.ndim not in (1, 2):
        raise ShapeError(f"X: expected rank 1 or 2, got shape {list(X.shape)}")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise InvalidModelError(f"mode: expected TF, IDF or TFIDF, got '{mode}'")
    if (pool_int64s is None) == (pool_strings is None):
        raise InvalidModelError("pool_int64s, pool_strings: expected exactly one of them, got both or none")
    pool: Sequence[Any] = pool_int64s or pool_strings or ()
    grams = _grams(pool, ngram_counts, ngram_indexes)
    counts = np.zeros((X.shape[0] if X.ndim == 2 else 1, max(ngram_indexes, default=-1) + 1), np.float32)
    factors = np.ones(counts.shape[1], np.float32)
    if weights is not None:
        if len(weights) != len(ngram_indexes):
            raise InvalidModelError(f"weights: expected {len(ngram_indexes)} values, got {len(weights)}")
        factors[list(ngram_indexes)] = weights
    for row, items in enumerate(np.atleast_2d(X).tolist()):
        for gram in _occurring(items, min_gram_length, max_gram_length, max_skip_count):
            if gram in grams:
                counts[row, grams[gram]] += 1
    if mode == "IDF":
        counts = np.minimum(counts, 1).astype(np.float32)
    if mode != "TF":
        counts *= factors
    return counts.reshape(-1) if X.ndim == 1 else counts


def _grams(pool: Sequence[Any], starts: Sequence[int], indexes: Sequence[int]) -> dict[tuple[Any, ...], int]:
    """N-gram -> its place in the output."""
    found: list[tuple[Any, ...]] = []
    for length, (start, end) in enumerate(itertools.pairwise([*starts, len(pool)]), start=1):
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            raise InvalidModelError(f"ngram_counts: expected whole {length}-grams from {start} to {end}, got a part")
        found.extend(tuple(pool[at : at + length]) for at in range(start, end, length))
    if len(found) != len(indexes):
        raise InvalidModelError(f"ngram_indexes: expected {len(found)} values, one for each n-gram, got {len(indexes)}")
    if min(indexes, default=0) < 0:
        raise InvalidModelError(f"ngram_indexes: expected none below 0, got {min(indexes)}")
    return dict(zip(found, indexes, strict=True))


def _occurring(items: list[Any], shortest: int, longest: int, skips: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for length in range(shortest, longest + 1):
        # A single item has no gap in which anything could be skipped.
        for step in range(1, (skips if length > 1 else 0) + 2):
            reach = step * (length - 1)
            found.extend(tuple(items[at : at + reach + 1 : step]) for at in range(len(items) - reach))
    return found
