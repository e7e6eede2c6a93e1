"""Strings."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import shape_rule

__all__: list[str] = []


@shape_rule("RegexFullMatch", dtype=DType.BOOL)
def regex_full_match(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule("StringNormalizer")
def string_normalizer(call: Call) -> list[Shape]:
    """The input's shape, of which stop words take some off the last axis."""
    shape = call.ranked(0, 1, 2)
    if not call.attribute("stopwords"):
        return [shape]
    return [(*shape[:-1], call.fresh(len(shape) - 1))]


@shape_rule("StringSplit", dtype=(0, DType.INT64))
def string_split(call: Call) -> list[Shape]:
    """The input's shape with the longest split behind it, and the number of parts of each."""
    shape = call.shape(0)
    return [(*shape, call.fresh(len(shape))), shape]


@shape_rule("TfIdfVectorizer", dtype=DType.FLOAT32)
def tf_idf_vectorizer(call: Call) -> list[Shape]:
    """The last axis becomes one entry for each n-gram of the pool."""
    shape = call.ranked(0, 1, 2)
    indexes = call.numbers("ngram_indexes") or ()
    return [(*shape[:-1], max(indexes, default=-1) + 1)]


@shape_rule("Tokenizer", domain="com.microsoft")
def tokenizer(call: Call) -> list[Shape]:
    """The input's shape with the most tokens of a string behind it."""
    shape = call.ranked(0, 1, 2)
    return [(*shape, call.fresh(len(shape)))]
