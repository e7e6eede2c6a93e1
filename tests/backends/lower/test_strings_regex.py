"""RE2 patterns as JavaScript regular expressions."""

from __future__ import annotations

import pytest

from webdnn_backends.lower.strings_regex import javascript_pattern
from webdnn_onnx.errors import InvalidModelError


@pytest.mark.parametrize(
    ("pattern", "expected", "flags"),
    [
        (r"[[:alpha:]]+@\w+", r"[A-Za-z]+@\w+", "u"),
        (r"(?P<year>\d{4}).", r"(?<year>\d{4})[^\n]", "u"),
        (r"(?is)a.b\z", r"a.b$", "uis"),
        (r"\Qa.b\E\pL", r"a\.b\p{L}", "u"),
        (r"\x{1F600}", r"\u{1F600}", "u"),
    ],
)
def test_what_differs_is_rewritten(pattern: str, expected: str, flags: str) -> None:
    assert javascript_pattern(pattern) == (expected, flags)


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)", "(?<!a)b", "a++", "[a"])
def test_what_re2_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidModelError):
        javascript_pattern(pattern)
