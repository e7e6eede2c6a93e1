"""Tokenizer and MurmurHash3 of com.microsoft."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.strings_regex import compile_re2
from webdnn_reference.registry import op

__all__ = ["murmur_hash3", "tokenizer"]


@op("Tokenizer", 1, domain=MS)
def tokenizer(
    X: Array,
    *,
    mark: int,
    mincharnum: int,
    pad_value: str,
    separators: Sequence[str] = (),
    tokenexp: str = "",
) -> Array:
    """The tokens of each string along a new last axis, which is as long as the most tokens; the rest is pad_value.

    X: string[C] or [N, C] -> string[..., D]. Tokens are what lies between matches of the separators, one separator
    after the other, or the leftmost longest matches of tokenexp; a single empty separator, or the expression ".",
    takes every character. Tokens of fewer than mincharnum characters are left out. mark adds \\x02 in front and \\x03
    behind. Without any token D is 0. Raises ShapeError, InvalidModelError.
    """
    if X.ndim not in (1, 2):
        raise ShapeError(f"X: expected rank 1 or 2, got shape {list(X.shape)}")
    if bool(separators) == bool(tokenexp):
        raise InvalidModelError("expected separators or tokenexp, got " + ("both" if tokenexp else "neither"))
    if not X.size:
        return X
    if tokenexp == "." or list(separators) == [""]:
        rows = [list(text) for text in X.reshape(-1)]
    elif tokenexp:
        expression = compile_re2(tokenexp)
        rows = [_matches(expression, text) for text in X.reshape(-1)]
    else:
        patterns = [compile_re2(separator) for separator in separators if separator]
        rows = [_between(patterns, text) for text in X.reshape(-1)]
    rows = [[token for token in row if len(token) >= max(mincharnum, 1)] for row in rows]
    longest = max(len(row) for row in rows)
    if not longest:
        return np.empty((*X.shape, 0), np.object_)
    if mark:
        rows, longest = [["\x02", *row, "\x03"] for row in rows], longest + 2
    y = np.full((len(rows), longest), pad_value, np.object_)
    for index, row in enumerate(rows):
        y[index, : len(row)] = row
    return y.reshape(*X.shape, longest)


def _between(patterns: Sequence[re.Pattern[str]], text: str) -> list[str]:
    tokens = [text]
    for pattern in patterns:
        tokens = [piece for token in tokens for piece in _split(pattern, token)]
    return tokens


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    pieces, start = [], 0
    for match in pattern.finditer(text):
        if match.end() > match.start():
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]


def _matches(expression: re.Pattern[str], text: str) -> list[str]:
    """The leftmost matches that do not overlap, each as long as possible; empty ones are left out."""
    tokens, position = [], 0
    while (first := expression.search(text, position)) is not None:
        start, end = first.start(), len(text)
        while end > first.end() and expression.fullmatch(text, start, end) is None:
            end -= 1
        if end > start:
            tokens.append(text[start:end])
        position = max(end, start + 1)
    return tokens


@op("MurmurHash3", 1, domain=MS)
def murmur_hash3(X: Array, *, positive: int = 1, seed: int = 0) -> Array:
    """MurmurHash3_x86_32 of each element's bytes, of a string's in UTF-8.

    X: 32- or 64-bit numbers or strings, any shape -> same shape, uint32, or int32 if positive is 0.
    Spec: https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp
    """
    start = np.uint32(seed & 0xFFFFFFFF)
    hashes: Array = np.empty(X.size, np.uint32)
    if X.dtype == np.object_:
        texts = [text.encode() for text in X.reshape(-1)]
        lengths = np.array([len(text) for text in texts], np.int64)
        for length in np.unique(lengths):
            (group,) = np.nonzero(lengths == length)
            padded = b"".join(texts[index] + bytes(-length % 4) for index in group)
            hashes[group] = _murmur(_words(padded, len(group)), int(length), start)
    else:
        little = np.ascontiguousarray(X, X.dtype.newbyteorder("<"))
        hashes[:] = _murmur(_words(little.tobytes(), X.size), X.dtype.itemsize, start)
    hashes = hashes.reshape(X.shape)
    return hashes if positive else hashes.view(np.int32)


def _words(data: bytes, rows: int) -> Array:
    return np.frombuffer(data, "<u4").reshape(rows, len(data) // 4 // max(rows, 1)).astype(np.uint32)


def _murmur(words: Array, length: int, seed: np.uint32) -> Array:
    """The hashes of rows of 32-bit words, the last padded with zero bytes, that hold `length` bytes each."""
    state: Array = np.full(len(words), seed, np.uint32)
    for index in range(words.shape[1]):
        state ^= _scrambled(words[:, index])
        if index < length // 4:
            state = _rotated(state, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    state ^= np.uint32(length)
    state = (state ^ state >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    state = (state ^ state >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return np.asarray(state ^ state >> np.uint32(16))


def _scrambled(words: Array) -> Array:
    return _rotated(words * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)


def _rotated(words: Array, by: int) -> Array:
    return np.asarray(words << np.uint32(by) | words >> np.uint32(32 - by))
