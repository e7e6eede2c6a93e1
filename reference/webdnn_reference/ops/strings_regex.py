"""RE2 patterns in terms of Python's `re`.

The two agree on most syntax. What differs is rewritten: ASCII meaning of \\d, \\s, \\w and their kin, POSIX classes,
Unicode general categories, \\z, \\Q...\\E and `$`. What RE2 refuses (backreferences, look-around, possessive and
atomic groups, conditionals, other escapes) is refused, and so is \\C, a byte of a character.
Spec: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

from webdnn_onnx.errors import InvalidModelError

__all__ = ["compile_re2"]

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_PERL = {"d": "0-9", "s": r"\t\n\f\r ", "w": "0-9A-Za-z_"}
_WORD = "[0-9A-Za-z_]"
_REWRITTEN = {
    "A": r"(?:\A)",
    "z": r"(?:\Z)",
    "b": f"(?:(?<!{_WORD})(?={_WORD})|(?<={_WORD})(?!{_WORD}))",
    "B": f"(?:(?<!{_WORD})(?!{_WORD})|(?<={_WORD})(?={_WORD}))",
}
_CONTROLS = frozenset("afnrtv")
_NAMED = re.compile(r"\(\?P?<(\w+)>")
_ANCHORS = {"$": r"(?:\Z)", "^": "(?:^)"}
"""RE2's `$` is the end of the text; Python's may also stand before a last newline. In a group both can be repeated."""
_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_MOST_REPEATS = 1000
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")


@functools.lru_cache(maxsize=64)
def compile_re2(pattern: str) -> re.Pattern[str]:
    """The pattern compiled. Raises InvalidModelError if RE2 would refuse it, or Python cannot express it."""
    try:
        return re.compile(_translate(pattern))
    except re.error as error:
        raise _refused(pattern, error.msg) from None


def _translate(pattern: str) -> str:
    out: list[str] = []
    names: set[str] = set()
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if char == "\\":
            text, index = _escape(pattern, index, inside=False)
        elif char == "[":
            text, index = _class(pattern, index)
        elif pattern.startswith("(?", index):
            text, index = _group(pattern, index, names)
        elif char in "*+?{":
            text, index = _repetition(pattern, index)
        else:
            text, index = _ANCHORS.get(char, char), index + 1
        out.append(text)
    return "".join(out)


def _repetition(pattern: str, start: int) -> tuple[str, int]:
    """A repetition, perhaps a lazy one; a brace that starts none stands for itself."""
    text = pattern[start]
    if text == "{":
        count = _COUNT.match(pattern, start)
        if count is None:
            return r"\{", start + 1
        if max(int(count[1]), int(count[2] or 0)) > _MOST_REPEATS:
            raise _refused(pattern, f"more than {_MOST_REPEATS} repetitions")
        text = count[0]
    end = start + len(text)
    if pattern.startswith("?", end):
        return text + "?", end + 1
    if pattern.startswith("+", end):
        raise _refused(pattern, "a repetition of a repetition")
    return text, end


def _group(pattern: str, start: int, names: set[str]) -> tuple[str, int]:
    if flags := _FLAGS.match(pattern, start):
        off = set(flags[2] or "")
        on = set(flags[1]) - off
        if (on | off) & {"m", "U"}:
            raise _refused(pattern, "flags m and U, which the reference has not")
        if flags[3] == ")":
            if start:
                raise _refused(pattern, "flags inside the pattern, which the reference has not")
            return (f"(?{''.join(sorted(on))})" if on else ""), flags.end()
        return f"(?{''.join(sorted(on))}{'-' + ''.join(sorted(off)) if off else ''}:", flags.end()
    if pattern.startswith("(?:", start):
        return "(?:", start + 3
    if named := _NAMED.match(pattern, start):
        if named[1] in names:
            raise _refused(pattern, f"two groups '{named[1]}'")
        names.add(named[1])
        return "(?:", named.end()
    raise _refused(pattern, f"'{pattern[start : start + 4]}'")


def _class(pattern: str, start: int) -> tuple[str, int]:
    out = ["["]
    index = start + 1
    if pattern.startswith("^", index):
        out.append("^")
        index += 1
    first = index
    while index < len(pattern):
        if pattern[index] == "]" and index > first:
            return "".join([*out, "]"]), index + 1
        if posix := re.compile(r"\[:(\^?)(\w+):\]").match(pattern, index):
            negated, name = posix.groups()
            if name not in _POSIX:
                raise _refused(pattern, posix.group())
            out.append(_complement(_POSIX[name]) if negated else _POSIX[name])
            index = posix.end()
        elif pattern[index] == "\\":
            text, index = _escape(pattern, index, inside=True)
            out.append(text)
        else:
            out.append("\\" + pattern[index] if pattern[index] in "[]&~|" else pattern[index])
            index += 1
    raise _refused(pattern, "missing ]")


def _escape(pattern: str, start: int, inside: bool) -> tuple[str, int]:
    """One escape as Python text, bare of brackets inside a class, and where it ends."""
    if start + 1 >= len(pattern):
        raise _refused(pattern, "a trailing backslash")
    char = pattern[start + 1]
    end = start + 2
    if octal := re.compile(r"\\(0[0-7]{0,2}|[1-7][0-7]{1,2})").match(pattern, start):
        return re.escape(chr(int(octal[1], 8))), octal.end()
    if char.isdigit():
        raise _refused(pattern, f"backreference \\{char}")
    if char == "Q" and not inside:
        close = pattern.find("\\E", end)
        quoted = pattern[end:] if close < 0 else pattern[end:close]
        return re.escape(quoted), len(pattern) if close < 0 else close + 2
    if char in "pP":
        members, end = _category(pattern, start)
    elif char.lower() in _PERL:
        members = _PERL[char.lower()]
    elif char == "x" and (code := re.compile(r"\\x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))").match(pattern, start)):
        return re.escape(chr(int(code[1] or code[2], 16))), code.end()
    elif char in _REWRITTEN and not inside:
        return _REWRITTEN[char], end
    elif char in _CONTROLS or (char.isascii() and not char.isalnum()):
        return "\\" + char, end
    else:
        raise _refused(pattern, f"the escape \\{char}")
    if char.isupper():
        return (_complement(members) if inside else f"[^{members}]"), end
    return (members if inside else f"[{members}]"), end


def _category(pattern: str, start: int) -> tuple[str, int]:
    named = re.compile(r"\\[pP](?:\{(\w+)\}|(\w))").match(pattern, start)
    if named is None:
        raise _refused(pattern, "a class without a name")
    members = _ranges(named[1] or named[2])
    if not members:
        raise _refused(pattern, f"{named.group()}, of which the reference has the general categories")
    return members, named.end()


@functools.cache
def _ranges(category: str) -> str:
    return _as_ranges([unicodedata.category(chr(code)).startswith(category) for code in range(sys.maxunicode + 1)])


@functools.cache
def _complement(members: str) -> str:
    outside = re.compile(f"[^{members}]")
    return _as_ranges([outside.match(chr(code)) is not None for code in range(sys.maxunicode + 1)])


def _as_ranges(wanted: list[bool]) -> str:
    """The members of a class that holds exactly the code points which are wanted."""
    out: list[str] = []
    start: int | None = None
    for code, member in enumerate([*wanted, False]):
        if member and start is None:
            start = code
        elif not member and start is not None:
            out.append(rf"\U{start:08x}-\U{code - 1:08x}")
            start = None
    return "".join(out)


def _refused(pattern: str, what: str) -> InvalidModelError:
    return InvalidModelError(f"pattern: expected an RE2 pattern, got '{pattern}' with {what}")
