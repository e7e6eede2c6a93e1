"""Where lowerings are registered: one function per operator (and version, where versions differ)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from webdnn_backends.lower.context import NodeContext
from webdnn_onnx.registry import Registry

__all__ = ["LOWERINGS", "Lower", "lowering"]

Lower: TypeAlias = Callable[[NodeContext], None]

LOWERINGS: Registry[Lower] = Registry("the compiler")


def lowering(op: str, since: int | tuple[int, ...] = 1, domain: str = "") -> Callable[[Lower], Lower]:
    """Register how an operator becomes tensor expressions or kernels."""
    return LOWERINGS.decorate(op, since, domain)
