"""Symbolic dimensions fixed to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from webdnn_onnx.errors import ShapeError
from webdnn_onnx.graph import Graph, OptionalType, SequenceType, TensorType, Type, Value
from webdnn_onnx.infer import infer
from webdnn_onnx.symbolic import Dim, free_symbols, substitute, symbol

__all__ = ["specialize"]


def specialize(
    graph: Graph, shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None
) -> Graph:
    """The graph with input shapes and symbolic dimensions fixed, and types inferred anew.

    shapes: input name -> sizes, of which those of symbolic dimensions fix the symbols everywhere. dims: symbol -> size.
    Raises ShapeError for names that there are not, sizes that contradict the graph or each other, and sizes below 0.
    """
    values: dict[str, int] = {}
    inputs = {value.name: value for value in graph.inputs}
    symbols = sorted({name for value in graph.inputs for dim in _dims(value.type) for name in free_symbols(dim)})
    for name, size in (dims or {}).items():
        if name not in symbols:
            raise ShapeError(f"dimension '{name}': expected one of {', '.join(symbols) or 'none'}, got no such symbol")
        _fix(values, name, size, f"dimension '{name}'")
    ranks: dict[str, TensorType] = {}
    for name, sizes in (shapes or {}).items():
        if name not in inputs:
            raise ShapeError(f"input '{name}': expected one of {', '.join(inputs) or 'none'}, got no such input")
        kind = inputs[name].type
        if not isinstance(kind, TensorType):
            raise ShapeError(f"input '{name}': expected a tensor to give a shape to, got {kind or 'an unknown type'}")
        if kind.shape is None:
            ranks[name] = TensorType(kind.dtype, tuple(sizes))
            continue
        if len(sizes) != len(kind.shape):
            raise ShapeError(f"input '{name}': expected {len(kind.shape)} sizes for {kind}, got {list(sizes)}")
        for axis, (dim, size) in enumerate(zip(kind.shape, sizes, strict=True)):
            _solve(values, dim, size, f"input '{name}': dimension {axis}")
    for name, sizes in (shapes or {}).items():
        for axis, (dim, size) in enumerate(zip(_dims(inputs[name].type), sizes, strict=False)):
            fixed = substitute(dim, values)
            if isinstance(fixed, int) and fixed != size:
                raise ShapeError(f"input '{name}': dimension {axis}: expected {dim} = {fixed}, got {size}")
    new_inputs = tuple(
        Value(value.name, ranks.get(value.name) or _substituted(value.type, values)) for value in graph.inputs
    )
    outputs = tuple(Value(value.name, _without_shape(value.type)) for value in graph.outputs)
    known = {name: Value(name, _without_shape(value.type)) for name, value in graph.values.items()}
    return infer(replace(graph, inputs=new_inputs, outputs=outputs, values=known))


def _dims(kind: Type | None) -> tuple[Dim, ...]:
    return kind.shape if isinstance(kind, TensorType) and kind.shape is not None else ()


def _fix(values: dict[str, int], name: str, size: int, where: str) -> None:
    if size < 0:
        raise ShapeError(f"{where}: expected 0 or more, got {size}")
    if values.setdefault(name, size) != size:
        raise ShapeError(f"{where}: expected '{name}' = {values[name]} as given elsewhere, got {size}")


def _solve(values: dict[str, int], dim: Dim, size: int, where: str) -> None:
    """Fixes the symbol of a dimension; an expression of several symbols is checked once the others fix them."""
    if isinstance(dim, int):
        if dim != size:
            raise ShapeError(f"{where}: expected {dim}, got {size}")
        return
    rest = substitute(dim, values)
    names = sorted(free_symbols(rest))
    if len(names) != 1:
        return
    unknown = symbol(names[0])
    offset = substitute(rest, {names[0]: 0})
    slope = substitute(rest, {names[0]: 1}) - offset
    if not isinstance(offset, int) or not isinstance(slope, int) or slope == 0 or rest != unknown * slope + offset:
        return
    if (size - offset) % slope:
        raise ShapeError(f"{where}: expected a value of {dim}, got {size}")
    _fix(values, names[0], (size - offset) // slope, where)


def _substituted(kind: Type | None, values: Mapping[str, int]) -> Type | None:
    if isinstance(kind, TensorType) and kind.shape is not None:
        return TensorType(kind.dtype, tuple(substitute(dim, values) for dim in kind.shape))
    if isinstance(kind, SequenceType | OptionalType):
        element = _substituted(kind.element, values)
        return kind if element is None else type(kind)(element)
    return kind


def _without_shape(kind: Type | None) -> Type | None:
    """What a file declares about inner values may hold only for the sizes it was exported with."""
    return TensorType(kind.dtype, None) if isinstance(kind, TensorType) else kind
