"""Text of expressions with just enough parentheses: what the tables of the textual dialects are made of.

A row is a template over the operands a, b, c and the binding strength of what it prints. In a template `{a:13}` asks
for an operand that binds at least as tightly as 13. A row may name helper functions, which are emitted with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ATOM", "Code", "Row", "fill"]

ATOM = 20


@dataclass(frozen=True)
class Code:
    """An expression's text and how tightly it binds."""

    text: str
    strength: int = ATOM

    def at(self, strength: int) -> str:
        """The text, in parentheses where a context of that strength needs them."""
        return self.text if self.strength >= strength else f"({self.text})"


@dataclass(frozen=True)
class Row:
    """template: what is printed; strength: how tightly that binds; helpers: the functions that it calls."""

    template: str
    strength: int = ATOM
    helpers: tuple[str, ...] = ()


def fill(row: Row, *operands: Code) -> Code:
    """The row with its operands in place."""
    named = dict(zip("abc", operands, strict=False))

    def place(match: re.Match[str]) -> str:
        strength = match.group(2)
        return named[match.group(1)].at(int(strength) if strength else 0)

    return Code(re.sub(r"\{([abc])(?::(\d+))?\}", place, row.template), row.strength)
