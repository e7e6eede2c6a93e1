"""Operators on strings: StringConcat, StringNormalizer, StringSplit, RegexFullMatch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, broadcast
from webdnn_reference.ops.strings_regex import compile_re2
from webdnn_reference.registry import op

_WHITE_SPACES = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
"""Unicode's property White_Space."""
_WHITE_SPACE = re.compile(_WHITE_SPACES)
_WHITE_SPACE_AROUND = re.compile(rf"\A{_WHITE_SPACES}|{_WHITE_SPACES}\Z")


@op("StringConcat", since=20)
def string_concat(X: Array, Y: Array) -> Array:
    """Each string of X followed by that of Y, broadcast.

    Spec: https://onnx.ai/onnx/operators/onnx__StringConcat.html#stringconcat-20
    """
    left, right = broadcast(X, Y)
    return _strings([first + second for first, second in zip(left.flat, right.flat, strict=True)], left.shape)


@op("StringNormalizer", since=10)
def string_normalizer(
    X: Array,
    *,
    case_change_action: str = "NONE",
    is_case_sensitive: int = 0,
    locale: str | None = None,
    stopwords: Sequence[str] = (),
) -> Array:
    """The strings that are no stop words, in lower case, upper case or as they are.

    X: (C,) or (1, C) -> (at most C,) or (1, at most C); one empty string where none is left. Raises ShapeError for
    another shape. Deviation: letters change case by Unicode's rules for every locale.
    Spec: https://onnx.ai/onnx/operators/onnx__StringNormalizer.html#stringnormalizer-10
    """
    del locale
    if X.ndim not in (1, 2) or (X.ndim == 2 and X.shape[0] != 1):
        raise ShapeError(f"X: expected shape (C,) or (1, C), got {list(X.shape)}")
    changes: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}
    if case_change_action not in changes:
        raise InvalidModelError(f"case_change_action: expected NONE, LOWER or UPPER, got '{case_change_action}'")
    fold: Callable[[str], str] = str if is_case_sensitive else str.lower
    unwanted = {fold(word) for word in stopwords}
    kept = [changes[case_change_action](text) for text in X.flat if fold(text) not in unwanted] or [""]
    return _strings(kept, (len(kept),) if X.ndim == 1 else (1, len(kept)))


@op("StringSplit", since=20)
def string_split(X: Array, *, delimiter: str | None = None, maxsplit: int | None = None) -> tuple[Array, Array]:
    """The parts of every string between delimiters, padded with empty strings to one length, and how many there are.

    X: any shape -> Y: (*X.shape, most parts), Z: int64 of X's shape. Without a delimiter runs of white space separate,
    and none is left at either end.
    Spec: https://onnx.ai/onnx/operators/onnx__StringSplit.html#stringsplit-20
    """
    limit = -1 if maxsplit is None else maxsplit
    parts = [text.split(delimiter, limit) if delimiter else _words(text, limit) for text in X.flat]
    most = max(map(len, parts), default=0)
    padded = [item for found in parts for item in (*found, *[""] * (most - len(found)))]
    return _strings(padded, (*X.shape, most)), np.array([*map(len, parts)], np.int64).reshape(X.shape)


def _words(text: str, limit: int) -> list[str]:
    """The parts between runs of white space, of which at most `limit` separate where that is not negative."""
    bare = _WHITE_SPACE_AROUND.sub("", text)
    if not limit or not bare:
        return [bare] if bare else []
    return _WHITE_SPACE.split(bare, max(limit, 0))


@op("RegexFullMatch", since=20)
def regex_full_match(X: Array, *, pattern: str | None = None) -> Array:
    """Whether each string matches the RE2 pattern from its first to its last character.

    Raises InvalidModelError for a pattern that RE2 does not accept.
    Spec: https://onnx.ai/onnx/operators/onnx__RegexFullMatch.html#regexfullmatch-20
    """
    compiled = compile_re2(pattern or "")
    return np.array([compiled.fullmatch(text) is not None for text in X.flat], bool).reshape(X.shape)


def _strings(texts: Sequence[str], shape: tuple[int, ...]) -> Array:
    result = np.empty(len(texts), object)
    result[:] = texts
    return result.reshape(shape)
