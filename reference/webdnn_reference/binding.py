"""From a node to a call: the implementation for its version, with its attributes bound.

Done once per node when a graph is planned, so that running it costs one function call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

from webdnn_onnx.errors import InvalidModelError, describe_node
from webdnn_onnx.graph import Node
from webdnn_reference import ops  # registers every family
from webdnn_reference.constraints import Constraints, constraints_of
from webdnn_reference.contrib_inputs import Shapes, contrib_constraints, contrib_shapes
from webdnn_reference.registry import OPERATORS, Operator

__all__ = ["Bound", "bind", "where"]

assert ops.__name__  # the import is for its effect

# Hints for in-place computation that operators carried before opset 6; they say nothing about values.
_IGNORED_BEFORE_6 = frozenset({"consumed_inputs"})


class Bound(NamedTuple):
    """A call that only lacks its inputs."""

    function: Operator
    attributes: Mapping[str, Any]
    wants_context: bool
    least: int
    most: int | None
    constraints: Constraints | None
    shapes: Shapes


@dataclass(frozen=True)
class _Signature:
    least: int
    most: int | None
    attributes: frozenset[str]
    required: tuple[str, ...]
    kinds: Mapping[str, str]
    accepts_any: bool
    wants_context: bool


def where(node: Node) -> str:
    """How messages name a node."""
    return describe_node(node.op, node.name, node.opset, node.domain)


def bind(node: Node) -> Bound:
    """Find the implementation of a node and bind its attributes.

    Raises UnsupportedOpError if there is none at this opset, InvalidModelError if an attribute is unknown at that
    version or of another kind, or a required one is missing.
    """
    function = OPERATORS.get(node.op, node.opset, node.domain, node.name)
    signature = _signature(function)
    constraints = constraints_of(node.op, node.opset, node.domain) or contrib_constraints(node.op, node.domain)
    allowed = signature.attributes
    if constraints is not None and constraints.attributes is not None:
        # One function may serve versions of which only the later ones have an attribute.
        allowed = allowed & constraints.attributes
    attributes = dict(node.attributes)
    if node.opset < 6:
        for name in _IGNORED_BEFORE_6 - allowed:
            attributes.pop(name, None)
    if not signature.accepts_any:
        for name in attributes:
            if name not in allowed:
                known = ", ".join(sorted(allowed)) or "none"
                raise InvalidModelError(f"{where(node)}: attributes: expected some of: {known}; got '{name}'")
    for name in signature.required:
        if name not in attributes:
            raise InvalidModelError(f"{where(node)}: attribute '{name}': expected a value, got none")
    for name, kind in signature.kinds.items():
        if name in attributes and not _is_of_kind(attributes[name], kind):
            got = attributes[name]
            raise InvalidModelError(f"{where(node)}: attribute '{name}': expected {_KINDS[kind][0]}, got {got!r}")
    return Bound(
        function=function,
        attributes=attributes,
        wants_context=signature.wants_context,
        least=signature.least,
        most=signature.most,
        constraints=constraints,
        shapes=contrib_shapes(node.op, node.domain),
    )


_KINDS: Mapping[str, tuple[str, type]] = {
    "int": ("an integer", Integral),
    "float": ("a number", Real),
    "str": ("a string", str),
    "Sequence[int]": ("integers", Integral),
    "Sequence[float]": ("numbers", Real),
    "Sequence[str]": ("strings", str),
}
"""The annotations of attributes: what to call them, and what each value is."""


def _is_of_kind(value: Any, kind: str) -> bool:
    wanted = _KINDS[kind][1]
    if not kind.startswith("Sequence"):
        return isinstance(value, wanted)
    return isinstance(value, (tuple, list)) and all(isinstance(item, wanted) for item in value)


@functools.cache
def _signature(function: Operator) -> _Signature:
    least, most = 0, 0
    variadic = False
    keywords: dict[str, bool] = {}
    kinds: dict[str, str] = {}
    accepts_any = False
    for parameter in inspect.signature(function).parameters.values():
        match parameter.kind:
            case inspect.Parameter.POSITIONAL_ONLY | inspect.Parameter.POSITIONAL_OR_KEYWORD:
                most += 1
                least += parameter.default is inspect.Parameter.empty
            case inspect.Parameter.VAR_POSITIONAL:
                variadic = True
            case inspect.Parameter.KEYWORD_ONLY:
                keywords[parameter.name] = parameter.default is inspect.Parameter.empty
                kind = str(parameter.annotation).removesuffix(" | None")
                if kind in _KINDS:
                    kinds[parameter.name] = kind
            case inspect.Parameter.VAR_KEYWORD:
                accepts_any = True
    wants_context = keywords.pop("context", None) is not None
    return _Signature(
        least=least,
        most=None if variadic else most,
        attributes=frozenset(keywords),
        required=tuple(name for name, required in keywords.items() if required),
        kinds=kinds,
        accepts_any=accepts_any,
        wants_context=wants_context,
    )
