"""String and text operators, and image decoding."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_onnx.graph import Node
from webdnn_reference import evaluate_node


def call(op: str, *inputs: Any, opset: int = 20, **attributes: Any) -> Any:
    names = tuple(f"x{index}" for index in range(len(inputs)))
    got = evaluate_node(Node(op, names, ("y", "z")[: 2 if op == "StringSplit" else 1], attributes, opset=opset), inputs)
    return got if op == "StringSplit" else got[0]


def texts(*values: Any) -> Any:
    return np.array(values, dtype=object)


def test_concat_broadcasts() -> None:
    got = call("StringConcat", texts(["a"], ["b"]), texts("x", "", "ü"))
    assert got.tolist() == [["ax", "a", "aü"], ["bx", "b", "bü"]]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ["Monday", "tuesday", "THE", "the"]),
        ({"case_change_action": "UPPER"}, ["MONDAY", "TUESDAY", "THE", "THE"]),
        ({"case_change_action": "LOWER", "stopwords": ("the",)}, ["monday", "tuesday"]),
        ({"is_case_sensitive": 1, "stopwords": ("the",)}, ["Monday", "tuesday", "THE"]),
        ({"stopwords": ("monday", "TUESDAY", "The")}, [""]),
    ],
)
def test_normalizer(attributes: dict[str, Any], expected: list[str]) -> None:
    words = texts("Monday", "tuesday", "THE", "the")
    assert call("StringNormalizer", words, **attributes).tolist() == expected
    assert call("StringNormalizer", words[None], **attributes).tolist() == [expected]


def test_normalizer_refuses_several_rows() -> None:
    with pytest.raises(ShapeError, match=r"\[2, 1\]"):
        call("StringNormalizer", texts(["a"], ["b"]))


@pytest.mark.parametrize(
    ("attributes", "parts", "counts"),
    [
        ({}, [["a", "b,,c"], ["d", ""]], [2, 1]),
        ({"delimiter": ""}, [["a", "b,,c"], ["d", ""]], [2, 1]),
        ({"delimiter": ","}, [[" a  b", "", "c"], ["d", "", ""]], [3, 1]),
        ({"delimiter": ",", "maxsplit": 1}, [[" a  b", ",c"], ["d", ""]], [2, 1]),
    ],
)
def test_split(attributes: dict[str, Any], parts: list[list[str]], counts: list[int]) -> None:
    got, number = call("StringSplit", texts(" a  b,,c", "d"), **attributes)
    assert got.tolist() == parts
    assert number.tolist() == counts
    assert number.dtype == np.int64


def test_split_at_white_space_leaves_none_at_the_end() -> None:
    got, number = call("StringSplit", texts(" a b  c ", "\u2003 ", "d\xa0\x85e", "\x1ff\ufeff"), maxsplit=1)
    assert got.tolist() == [["a", "b  c"], ["", ""], ["d", "e"], ["\x1ff\ufeff", ""]]
    assert number.tolist() == [2, 0, 2, 1]


def test_split_of_nothing() -> None:
    got, number = call("StringSplit", np.zeros((2, 0), object))
    assert got.shape == (2, 0, 0)
    assert number.shape == (2, 0)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        (r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)", "a.b@gmail.com", "a@gmail.com.au"),
        ("a|ab", "ab", "abc"),
        (r"\d+", "123", "१२३"),
        (r"\s", "\t", "\v"),
        (r"[[:upper:]][[:^digit:]]", "Ab", "A1"),
        (r"\pL+\p{Nd}", "éß9", "é-9"),
        (r"[^\PL]", "é", "1"),
        (r"\Qa.b\E", "a.b", "axb"),
        (r"\x{e9}\x41", "éA", "eA"),
        (r"(?i)straße", "STRAßE", "STRASE"),
        (r"(?P<word>\w+)\z", "abc", "a b"),
        (r"a$", "a", "a\n"),
        (r"a.b", "a-b", "a\nb"),
        (r"(?s)a.b", "a\nb", "ab"),
        (r"\bab\b", "ab", "abc"),
        ("a{,2}", "a{,2}", "aa"),
        ("}+a{2}", "}}aa", "}}a"),
        (r"^*a$*\z+", "a", "^a$"),
        ("(?P<1st>a)", "a", "b"),
        ("(?i-i:a)", "a", "A"),
        (r"\101\x{e9}", "Aé", "1é"),
    ],
)
def test_regex_has_the_meaning_of_re2(pattern: str, matching: str, other: str) -> None:
    got = call("RegexFullMatch", texts([matching], [other]), pattern=pattern)
    assert got.tolist() == [[True], [False]]
    assert got.dtype == np.bool_


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"(a)\1", "(?=a)a", "(?<!a)b", "a++", "a{2}+", "(?>a)", "[[:foo:]]", "(", "[a", "a\\"),
        *(r"a\Z", r"\u0041", r"[\b]", r"\C", "a{1001}", "(?P<n>a)(?P<n>b)"),
    ],
)
def test_regex_that_re2_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidModelError, match="RE2"):
        call("RegexFullMatch", texts("a"), pattern=pattern)


BIGRAMS: dict[str, Any] = {
    "mode": "TF",
    "min_gram_length": 1,
    "max_gram_length": 2,
    "max_skip_count": 0,
    "ngram_counts": (0, 2),
    "ngram_indexes": (3, 0, 2, 1),
    "pool_int64s": (5, 7, 5, 7, 7, 5),
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Of 5 7 7 5 5: two 7, one (7 5), one (5 7), three 5.
        ({}, [2, 1, 1, 3]),
        ({"min_gram_length": 2}, [0, 1, 1, 0]),
        ({"max_gram_length": 1}, [2, 0, 0, 3]),
        # One skipped: (5 7), (7 5), (7 5).
        ({"max_skip_count": 1}, [2, 3, 2, 3]),
        ({"mode": "IDF", "weights": (2.0, 3.0, 4.0, 5.0)}, [3, 5, 4, 2]),
        ({"mode": "TFIDF", "weights": (2.0, 3.0, 4.0, 5.0)}, [6, 5, 4, 6]),
        ({"mode": "IDF"}, [1, 1, 1, 1]),
    ],
)
def test_tf_idf(changes: dict[str, Any], expected: list[float]) -> None:
    row = np.array([5, 7, 7, 5, 5])
    attributes = {**BIGRAMS, **changes}
    got = call("TfIdfVectorizer", row, **attributes)
    assert got.tolist() == expected
    assert got.dtype == np.float32
    rows = np.stack([row, np.zeros(5, int)])
    assert call("TfIdfVectorizer", rows, **attributes).tolist() == [expected, [0, 0, 0, 0]]


def test_tf_idf_of_strings() -> None:
    attributes = {**BIGRAMS, "pool_strings": ("a", "b", "a", "b", "b", "a")}
    del attributes["pool_int64s"]
    assert call("TfIdfVectorizer", texts("a", "b", "b", "a", "a"), **attributes).tolist() == [2, 1, 1, 3]


def _encoded(pixels: Any, kind: str) -> Any:
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(pixels).save(stream, kind)
    return np.frombuffer(stream.getvalue(), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_images_are_decoded_exactly(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    stream = _encoded(pixels, kind)
    np.testing.assert_array_equal(call("ImageDecoder", stream), pixels)
    np.testing.assert_array_equal(call("ImageDecoder", stream, pixel_format="BGR"), pixels[..., ::-1])
    grey = call("ImageDecoder", stream, pixel_format="Grayscale")
    assert grey.shape == (3, 5, 1)
    # ITU-R 601-2 luma.
    np.testing.assert_allclose(grey[..., 0], pixels @ [0.299, 0.587, 0.114], atol=1)


def test_damaged_stream_gives_an_empty_image() -> None:
    stream = _encoded(np.zeros((4, 4, 3), np.uint8), "PNG")
    for damaged in (stream[:20], np.zeros(0, np.uint8), stream[::-1].copy()):
        got = call("ImageDecoder", damaged)
        assert got.size == 0
        assert got.dtype == np.uint8


def test_unknown_pixel_format_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="CMYK"):
        call("ImageDecoder", np.zeros(0, np.uint8), pixel_format="CMYK")
