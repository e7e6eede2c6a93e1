"""RE2 patterns as JavaScript regular expressions.

JavaScript has most of RE2's syntax with the flag `u`. What differs is rewritten: named groups, POSIX classes, `\\s`,
`.`, \\A, \\z, \\a, \\x{...}, \\pN, \\Q...\\E and leading flags. What RE2 refuses (backreferences, look-around) is
refused, and so is \\C, a byte of a character.
Spec: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re

from webdnn_onnx.errors import InvalidModelError

__all__ = ["javascript_pattern"]

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t\x20",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\t\n\v\f\r\x20",
    "upper": "A-Z",
    "word": r"0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_NEGATED = {
    "s": r"\x00-\x08\x0b\x0e-\x1f!-\u{10ffff}",
    "d": r"\x00-/:-\u{10ffff}",
    "w": r"\x00-/:-@\x5b-\x5e`\x7b-\u{10ffff}",
}
_SPACE = r"\t\n\f\r\x20"
_FLAGS = re.compile(r"\(\?([imsU]+)\)")
_CODE = re.compile(r"\\x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))")
_CATEGORY = re.compile(r"\\([pP])(?:\{(\^?)(\w+)\}|(\w))")
_SCRIPTS = re.compile(r"[A-Z][a-z]{2,}(?:_[A-Z][a-z]+)*")
_SYNTAX = frozenset("^$\\.*+?()[]{}|/")


def javascript_pattern(pattern: str) -> tuple[str, str]:
    """The pattern and the flags of a JavaScript regular expression that matches what the RE2 pattern does.

    Raises InvalidModelError if RE2 refuses the pattern or JavaScript cannot express it.
    """
    flags = "u"
    start = 0
    if leading := _FLAGS.match(pattern):
        if "U" in leading[1]:
            raise _refused(pattern, "the flag U, which JavaScript has not")
        flags += "".join(sorted(leading[1]))
        start = leading.end()
    out: list[str] = []
    index = start
    while index < len(pattern):
        char = pattern[index]
        if char == "\\":
            text, index = _escape(pattern, index, inside=False)
        elif char == "[":
            text, index = _class(pattern, index)
        elif pattern.startswith("(?", index):
            text, index = _group(pattern, index)
        elif char == "." and "s" not in flags:
            text, index = r"[^\n]", index + 1
        elif char in "*+?}" and pattern.startswith("+", index + 1):
            raise _refused(pattern, "a repetition of a repetition")
        elif char == "{" and not re.match(r"\{\d+(,\d*)?\}", pattern[index:]):
            text, index = r"\{", index + 1
        elif char == "{":
            end = pattern.index("}", index) + 1
            text, index = pattern[index:end], end
        elif char in "}]":
            text, index = "\\" + char, index + 1
        else:
            text, index = char, index + 1
        out.append(text)
    return "".join(out), flags


def _group(pattern: str, start: int) -> tuple[str, int]:
    if pattern.startswith("(?:", start):
        return "(?:", start + 3
    for opening in ("(?P<", "(?<"):
        if pattern.startswith(opening, start) and not pattern.startswith(("(?<=", "(?<!"), start):
            return "(?<", start + len(opening)
    raise _refused(pattern, f"'{pattern[start : start + 4]}'")


def _class(pattern: str, start: int) -> tuple[str, int]:
    out = ["["]
    index = start + 1
    if pattern.startswith("^", index):
        out.append("^")
        index += 1
    first = index
    while index < len(pattern):
        char = pattern[index]
        if char == "]" and index > first:
            return "".join([*out, "]"]), index + 1
        if posix := re.compile(r"\[:(\^?)(\w+):\]").match(pattern, index):
            if posix[2] not in _POSIX or posix[1]:
                raise _refused(pattern, posix.group())
            out.append(_POSIX[posix[2]])
            index = posix.end()
        elif char == "\\":
            text, index = _escape(pattern, index, inside=True)
            out.append(text)
        else:
            out.append("\\" + char if char in "[]" else char)
            index += 1
    raise _refused(pattern, "missing ]")


def _escape(pattern: str, start: int, inside: bool) -> tuple[str, int]:
    """One escape as JavaScript text, bare of brackets inside a class, and where it ends."""
    if start + 1 >= len(pattern):
        raise _refused(pattern, "a trailing backslash")
    char = pattern[start + 1]
    end = start + 2
    if char.isdigit() and char != "0":
        raise _refused(pattern, f"backreference \\{char}")
    if char == "Q" and not inside:
        close = pattern.find("\\E", end)
        quoted = pattern[end:] if close < 0 else pattern[end:close]
        return "".join(map(_literal, quoted)), len(pattern) if close < 0 else close + 2
    if code := _CODE.match(pattern, start):
        return f"\\u{{{code[1] or code[2]}}}", code.end()
    if category := _CATEGORY.match(pattern, start):
        name = category[3] or category[4]
        negated = (category[1] == "P") != bool(category[2])
        prefix = "Script=" if _SCRIPTS.fullmatch(name) else ""
        return f"\\{'P' if negated else 'p'}{{{prefix}{name}}}", category.end()
    if char == "C":
        raise _refused(pattern, "\\C, a byte, which JavaScript has not")
    simple = {"a": r"\x07", "A": "^", "z": "$"}
    if char in simple and (char == "a" or not inside):
        return simple[char], end
    if char == "s":
        return (_SPACE if inside else f"[{_SPACE}]"), end
    if char in "SDW":
        return (_NEGATED[char.lower()] if inside else f"[^{_SPACE}]" if char == "S" else "\\" + char), end
    if char in "dwbBtnrfv0":
        return "\\" + char, end
    return ("\\" + char if char in _SYNTAX or (inside and char == "-") else char), end


def _literal(char: str) -> str:
    return "\\" + char if char in _SYNTAX else char


def _refused(pattern: str, what: str) -> InvalidModelError:
    return InvalidModelError(f"pattern: expected an RE2 pattern, got '{pattern}' with {what}")
