"""String and text operators against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, broadcastable

STRING = TensorProto.STRING
# Of an empty string onnxruntime makes no part, also where there is a delimiter.
WORDS = st.text("ab ,;A", min_size=1, max_size=6)


def filled_with(draw: st.DataObject, shape: tuple[int, ...], words: st.SearchStrategy[str]) -> np.ndarray[Any, Any]:
    texts = np.empty(shape, object)
    texts.reshape(-1)[:] = [draw.draw(words) for _ in range(texts.size)]
    return texts


@BOUNDED
@given(data=st.data(), shapes=broadcastable(2))
def test_concat(data: st.DataObject, shapes: tuple[tuple[int, ...], ...]) -> None:
    words = st.text("aé漢🙂", max_size=3)
    agree("StringConcat", [filled_with(data, shape, words) for shape in shapes], opset=20, outputs=[STRING])


@BOUNDED
@given(data=st.data(), delimiter=st.sampled_from(["", ",", " ", ",;", "a"]), limit=st.none() | st.integers(1, 3))
def test_split(data: st.DataObject, delimiter: str, limit: int | None) -> None:
    texts = filled_with(data, (3,), WORDS)
    attributes: dict[str, Any] = {"delimiter": delimiter} | ({} if limit is None else {"maxsplit": limit})
    agree("StringSplit", [texts], attributes, opset=20, outputs=[STRING, TensorProto.INT64])


@BOUNDED
@given(
    data=st.data(),
    case=st.sampled_from(["NONE", "LOWER", "UPPER"]),
    sensitive=st.integers(0, 1),
    row=st.booleans(),
)
def test_normalizer(data: st.DataObject, case: str, sensitive: int, row: bool) -> None:
    texts = filled_with(data, (1, 4) if row else (4,), st.sampled_from(["the", "The", "a", "B", "Ünder", "x y"]))
    stop = data.draw(st.lists(st.sampled_from(["the", "A", "b"]), min_size=1, unique=True))
    attributes = {
        "case_change_action": case,
        "is_case_sensitive": sensitive,
        "stopwords": stop,
        "locale": "C.UTF-8",
    }
    agree("StringNormalizer", [texts], attributes, opset=10, outputs=[STRING])


@pytest.mark.parametrize(
    "pattern",
    [r"a+b?", r"(ab|b)*", r"[^a]*", r"\w+", r"\d*", r"a{1,2}.", r"^a.*$", r"(?i)AB", r"", r"\s*\S", r"[[:alpha:]]+"],
)
@BOUNDED
@given(data=st.data())
def test_regex(pattern: str, data: st.DataObject) -> None:
    texts = filled_with(data, (4,), st.text("ab A1é", max_size=3))
    agree("RegexFullMatch", [texts], {"pattern": pattern}, opset=20, outputs=[TensorProto.BOOL])


@BOUNDED
@given(
    data=st.data(),
    mode=st.sampled_from(["TF", "IDF", "TFIDF"]),
    least=st.integers(1, 2),
    more=st.integers(0, 1),
    skips=st.integers(0, 3),
    textual=st.booleans(),
    rows=st.integers(0, 2),
)
def test_tf_idf(data: st.DataObject, mode: str, least: int, more: int, skips: int, textual: bool, rows: int) -> None:
    pool = [1, 2, 1, 2, 2, 1, 3, 3]
    attributes: dict[str, Any] = {
        "mode": mode,
        "min_gram_length": least,
        "max_gram_length": min(least + more, 2),
        "max_skip_count": skips,
        "ngram_counts": [0, 2],
        "ngram_indexes": [3, 0, 2, 1, 4],
        "weights": [1.0, 2.0, 0.5, 3.0, 4.0],
    }
    attributes["pool_strings" if textual else "pool_int64s"] = [str(item) for item in pool] if textual else pool
    x: Any = np.array([data.draw(st.integers(1, 4)) for _ in range(6)]).reshape([rows, 6 // rows] if rows else [6])
    if textual:
        x = x.astype(str).astype(object)
    agree("TfIdfVectorizer", [x], attributes, opset=9)
