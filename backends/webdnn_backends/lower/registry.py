"""Where lowerings are registered: one function per operator (and version, where versions differ)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import onnx

from webdnn_backends.lower.context import NodeContext
from webdnn_onnx.registry import Registry

__all__ = ["LOWERINGS", "STRING_LOWERINGS", "Lower", "lowering", "string_lowering"]

Lower: TypeAlias = Callable[[NodeContext], None]


_EXPERIMENTAL = frozenset({"LayerNormalization", "MeanVarianceNormalization", "ThresholdedRelu"})
"""Experimental operators of opset 1 that old models have and runtimes keep; the specification took them in later."""


class _Lowerings(Registry[Lower]):
    """Most lowerings serve an operator from its first version on, and are registered as since=1."""

    def add(self, op: str, since: int | tuple[int, ...], implementation: Lower, domain: str = "") -> None:
        first = 1 if op in _EXPERIMENTAL else _first_versions().get((domain, op), 1)
        for version in (since,) if isinstance(since, int) else since:
            super().add(op, max(version, first), implementation, domain)


@cache
def _first_versions() -> dict[tuple[str, str], int]:
    """The opset that brought each operator of the specification; models of earlier opsets cannot mean that one."""
    versions: dict[tuple[str, str], int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        key = (schema.domain, schema.name)
        versions[key] = min(schema.since_version, versions.get(key, schema.since_version))
    return versions


LOWERINGS: Registry[Lower] = _Lowerings("the compiler")


def lowering(op: str, since: int | tuple[int, ...] = 1, domain: str = "") -> Callable[[Lower], Lower]:
    """Register how an operator becomes tensor expressions or kernels."""
    return LOWERINGS.decorate(op, since, domain)


STRING_LOWERINGS: Registry[Lower] = Registry("the compiler, for strings")
"""Operators that take numbers as well as strings, and become something else where they have strings."""


def string_lowering(op: str, since: int | tuple[int, ...] = 1, domain: str = "") -> Callable[[Lower], Lower]:
    """Register what an operator becomes where an input or output holds strings."""
    return STRING_LOWERINGS.decorate(op, since, domain)
