"""Where lowerings are registered: one function per operator (and version, where versions differ)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from webdnn_backends.lower.context import NodeContext
from webdnn_onnx.registry import Registry

__all__ = ["LOWERINGS", "STRING_LOWERINGS", "Lower", "lowering", "string_lowering"]

Lower: TypeAlias = Callable[[NodeContext], None]

LOWERINGS: Registry[Lower] = Registry("the compiler")


def lowering(op: str, since: int | tuple[int, ...] = 1, domain: str = "") -> Callable[[Lower], Lower]:
    """Register how an operator becomes tensor expressions or kernels."""
    return LOWERINGS.decorate(op, since, domain)


STRING_LOWERINGS: Registry[Lower] = Registry("the compiler, for strings")
"""Operators that take numbers as well as strings, and become something else where they have strings."""


def string_lowering(op: str, since: int | tuple[int, ...] = 1, domain: str = "") -> Callable[[Lower], Lower]:
    """Register what an operator becomes where an input or output holds strings."""
    return STRING_LOWERINGS.decorate(op, since, domain)
