"""Host functions: JavaScript written by hand for what no kernel can express, taken from the sources in `js/host/`.

A source is an ES module of top-level declarations (functions and constants, `export` where a step may name it). Only
the declarations that a program needs are written into its bundle: the named functions, and what they mention.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

__all__ = ["HostDeclaration", "host_declarations", "host_module"]

_DECLARATION = re.compile(r"^(export )?(?:async )?(?:function\*?|const|class) (\w+)", re.MULTILINE)
_START = re.compile(r"^(?:/\*\*|(?:export )?(?:async )?(?:function\*?|const|class) )", re.MULTILINE)


@dataclass(frozen=True)
class HostDeclaration:
    """One top-level declaration. exported: whether a step may name it. uses: the declarations that it mentions."""

    name: str
    text: str
    exported: bool
    uses: frozenset[str]


def host_module(names: Iterable[str]) -> str:
    """The text of the named functions and everything they need, in the order of the sources.

    Raises KeyError for a name that no source exports.
    """
    declarations = host_declarations()
    pending = sorted(set(names))
    exported = set(pending)
    for name in pending:
        if not declarations[name].exported:
            raise KeyError(name)
    needed: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += sorted(declarations[name].uses)
    parts = [
        declaration.text if name in exported else declaration.text.replace("export ", "", 1)
        for name, declaration in declarations.items()
        if name in needed
    ]
    return "".join(part + "\n\n" for part in parts)


@functools.cache
def host_declarations() -> dict[str, HostDeclaration]:
    """Every declaration of every source, by name."""
    folder = resources.files("webdnn_backends.js") / "host"
    sources = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".js")), key=lambda entry: entry.name)
    texts = [text for source in sources for text in _split(source.read_text("utf-8"))]
    found = {_name(text): text for text in texts}
    assert len(found) == len(texts), "host sources declare every name once"
    declarations: dict[str, HostDeclaration] = {}
    for name, text in found.items():
        words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"/\*\*.*?\*/|(?m:^\s*//.*$)", "", text, flags=re.DOTALL)))
        exported = _DECLARATION.search(text)
        assert exported is not None, "a part holds a declaration"
        declarations[name] = HostDeclaration(name, text, bool(exported[1]), frozenset(words & found.keys() - {name}))
    return declarations


def _split(text: str) -> list[str]:
    """The declarations of a source, each with the comment above it."""
    starts = [match.start() for match in _START.finditer(text)]
    parts: list[str] = []
    comment = ""
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[begin:end]
        if _DECLARATION.search(part):
            parts.append((comment + part).strip())
            comment = ""
        else:
            comment = part
    return parts


def _name(text: str) -> str:
    match = _DECLARATION.search(text)
    assert match is not None, "a part holds a declaration"
    return match[2]
