"""How the rules of type and shape inference are registered.

A *rule* gives the types of a node's outputs. Most operators map tensors to tensors: a *shape rule* gives only the
shapes, and the element types are declared where it is registered, so that they are known even where a rank is not.
An *element rule* evaluates a node on small tensors of integers whose elements are dimensions (`infer.elements`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape, Type
from webdnn_onnx.registry import Registry
from webdnn_onnx.symbolic import Dim

if TYPE_CHECKING:
    from webdnn_onnx.infer.call import Call

__all__ = [
    "ELEMENT_RULES",
    "RULES",
    "ElementRule",
    "ElementType",
    "Elements",
    "Rule",
    "ShapeRule",
    "element_rule",
    "rule",
    "shape_rule",
]

Elements: TypeAlias = tuple["Dim | None", ...]
"""A tensor's elements in row-major order, None where one is not known."""

Since: TypeAlias = int | tuple[int, ...]
Rule: TypeAlias = "Callable[[Call], Sequence[Type | None]]"
ShapeRule: TypeAlias = "Callable[[Call], Sequence[Shape | None]]"
ElementRule: TypeAlias = "Callable[[Call, Sequence[Shape]], Sequence[Elements | None]]"
ElementType: TypeAlias = "int | DType | Callable[[Call], DType | None]"
"""An output's element type: that of input number n, a fixed one, or what a function of the call says."""


@dataclass(frozen=True)
class Entry:
    """A rule; with `dtypes`, one for each output (the last repeats), `shape` is called instead of `types`."""

    types: Rule | None = None
    shape: ShapeRule | None = None
    dtypes: tuple[ElementType, ...] = ()
    same: tuple[int, ...] | Literal["all"] = ()


RULES: Registry[Entry] = Registry("type inference")
ELEMENT_RULES: Registry[ElementRule] = Registry("element inference")


def rule(op: str | tuple[str, ...], since: Since = 1, domain: str = "") -> Callable[[Rule], Rule]:
    """Register how the types of an operator's outputs follow from its inputs and attributes."""

    def register(function: Rule) -> Rule:
        for name in (op,) if isinstance(op, str) else op:
            RULES.add(name, since, Entry(types=function), domain)
        return function

    return register


def shape_rule(
    op: str | tuple[str, ...],
    since: Since = 1,
    domain: str = "",
    *,
    dtype: ElementType | tuple[ElementType, ...] = 0,
    same: tuple[int, ...] | Literal["all"] = (),
) -> Callable[[ShapeRule], ShapeRule]:
    """Register the shapes of an operator's outputs; `dtype` declares their element types.

    same: the inputs whose element types must agree.
    """
    dtypes = dtype if isinstance(dtype, tuple) else (dtype,)

    def register(function: ShapeRule) -> ShapeRule:
        for name in (op,) if isinstance(op, str) else op:
            RULES.add(name, since, Entry(shape=function, dtypes=dtypes, same=same), domain)
        return function

    return register


def element_rule(op: str | tuple[str, ...], since: Since = 1) -> Callable[[ElementRule], ElementRule]:
    """Register how an operator acts on tensors whose elements are dimensions."""

    def register(function: ElementRule) -> ElementRule:
        for name in (op,) if isinstance(op, str) else op:
            ELEMENT_RULES.add(name, since, function)
        return function

    return register
