"""The walk: every node's rule in order, nested graphs included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError
from webdnn_onnx.graph import Graph, Node, Shape, TensorType, Type, Value
from webdnn_onnx.infer.call import Call, UnknownRankError, UnknownTypeError, show
from webdnn_onnx.infer.registry import ELEMENT_RULES, RULES, Elements, ElementType, Entry
from webdnn_onnx.infer.scope import ELEMENTS_LIMIT, Scope
from webdnn_onnx.symbolic import Dim, opaque, product

__all__ = ["Inference", "analyse"]


@dataclass(frozen=True)
class Inference:
    """A graph with its types, and the elements of its small integer tensors as dimensions (nested graphs included)."""

    graph: Graph
    elements: Mapping[str, tuple[Dim, ...]]


def analyse(graph: Graph) -> Inference:
    """The types of all values of a graph, and what is known of their elements."""
    elements: dict[str, tuple[Dim, ...]] = {}
    inferred, _ = _infer(graph, None, None, (), elements)
    return Inference(inferred, MappingProxyType(elements))


def _infer(
    graph: Graph,
    outer: Scope | None,
    types: Sequence[Type | None] | None,
    known: Sequence[Elements | None],
    found: dict[str, tuple[Dim, ...]],
) -> tuple[Graph, Scope]:
    scope = Scope(graph, outer)
    given = types if types is not None else [value.type for value in graph.inputs]
    for value, kind in zip(graph.inputs, given, strict=False):
        scope.types[value.name] = kind if kind is not None else value.type
        if outer is not None:
            _bind_sizes(value.name, scope)
    for value, elements in zip(graph.inputs, known, strict=False):
        if elements is not None:
            scope.elements[value.name] = elements
    nodes = tuple(_node(node, scope, found) for node in graph.nodes)
    values = {
        name: Value(name, scope.types[name]) for node in nodes for name in node.outputs if name and name in scope.types
    }
    outputs = tuple(_output(value, scope) for value in graph.outputs)
    inputs = tuple(Value(value.name, scope.types.get(value.name)) for value in graph.inputs)
    for name in (*scope.types, *scope.elements):
        elements = scope.elements.get(name)
        if elements is not None and all(element is not None for element in elements):
            found[name] = tuple(element for element in elements if element is not None)
        else:
            found.pop(name, None)
    inferred = replace(graph, inputs=inputs, nodes=nodes, outputs=outputs, values=values, bindings=scope.bindings)
    return inferred, scope


def _bind_sizes(name: str, scope: Scope) -> None:
    """Sizes of a body's input that change between iterations are symbols of the body."""
    kind = scope.types[name]
    if isinstance(kind, TensorType) and kind.shape is not None:
        for axis, dim in enumerate(kind.shape):
            if str(dim) == f"{name}.dim{axis}":
                scope.fresh(name, axis)


def _node(node: Node, scope: Scope, found: dict[str, tuple[Dim, ...]]) -> Node:
    def nested(
        graph: Graph, around: Scope, types: Sequence[Type | None], known: Sequence[Elements | None]
    ) -> tuple[Graph, Scope]:
        return _infer(graph, around, types, known, found)

    call = Call(node, scope, nested)
    entry = RULES.find(node.op, node.opset, node.domain)
    types = _types(entry, call) if entry is not None else []
    for index, name in enumerate(node.outputs):
        if name:
            inferred = types[index] if index < len(types) else None
            scope.types[name] = _reconcile(inferred, scope.graph.values.get(name), call)
    _evaluate(call)
    if call.graphs:
        return replace(node, attributes={**node.attributes, **call.graphs})
    return node


def _types(entry: Entry, call: Call) -> list[Type | None]:
    try:
        if entry.types is not None:
            return list(entry.types(call))
        _expect_same(entry, call)
        dtypes = [_dtype(call, entry.dtypes, index) for index in range(len(call.node.outputs))]
    except (UnknownTypeError, UnknownRankError):
        return []
    shapes: Sequence[Shape | None] = []
    try:
        assert entry.shape is not None, "an entry has a rule for types or for shapes"
        shapes = entry.shape(call)
    except (UnknownTypeError, UnknownRankError):
        pass
    result: list[Type | None] = []
    for index, dtype in enumerate(dtypes):
        shape = shapes[index] if index < len(shapes) else None
        result.append(dtype and TensorType(dtype, None if shape is None else tuple(map(opaque, shape))))
    for kind in result:
        if isinstance(kind, TensorType) and kind.shape is not None:
            for dim in kind.shape:
                if isinstance(dim, int) and dim < 0:
                    raise call.shape_error("output", "no dimension below 0", show(kind.shape))
    return result


def _dtype(call: Call, dtypes: Sequence[ElementType], index: int) -> DType | None:
    spec = dtypes[min(index, len(dtypes) - 1)]
    if isinstance(spec, int):
        return call.dtype(spec)
    return spec(call) if callable(spec) else spec


def _expect_same(entry: Entry, call: Call) -> None:
    indices = range(call.count) if entry.same == "all" else entry.same
    first: TensorType | None = None
    for index in indices:
        kind = call.type(index)
        if not isinstance(kind, TensorType):
            continue
        if first is None:
            first = kind
        elif kind.dtype is not first.dtype:
            raise call.dtype_error(f"input {index}", first.dtype.value, kind.dtype.value)


def _evaluate(call: Call) -> None:
    """Elements of the outputs, where they are small and the operator has a rule for them."""
    node, scope = call.node, call.scope
    if node.domain:
        return
    function = ELEMENT_RULES.find(node.op, node.opset)
    if function is None:
        return
    shapes: list[Shape] = []
    for name in node.outputs:
        kind = scope.types.get(name)
        if not isinstance(kind, TensorType) or kind.shape is None:
            return
        if not (kind.dtype.is_integer or kind.dtype.is_float or kind.dtype.value == "bool"):
            return
        if not all(isinstance(dim, int) for dim in kind.shape) or product(kind.shape) > ELEMENTS_LIMIT:  # type: ignore[operator]  # all are numbers here
            return
        shapes.append(kind.shape)
    try:
        results = function(call, shapes)
    except (UnknownTypeError, UnknownRankError):
        return
    for name, elements in zip(node.outputs, results, strict=False):
        if name and elements is not None and any(element is not None for element in elements):
            scope.elements[name] = elements


def _reconcile(inferred: Type | None, declared: Value | None, call: Call) -> Type | None:
    """What was inferred, completed by what the file declares; where shapes differ, the file is out of date.

    Raises DTypeError where the element types differ.
    """
    hint = declared.type if declared is not None else None
    return _completed(inferred, hint, f"{call.where}: output '{declared.name if declared is not None else ''}'")


def _output(value: Value, scope: Scope) -> Value:
    return Value(value.name, _completed(scope.type(value.name), value.type, f"graph output '{value.name}'"))


def _completed(inferred: Type | None, hint: Type | None, where: str) -> Type | None:
    if inferred is None or hint is None:
        return hint if inferred is None else inferred
    if not isinstance(inferred, TensorType) or not isinstance(hint, TensorType):
        return inferred
    if inferred.dtype is not hint.dtype:
        raise DTypeError(f"{where}: element type: expected {hint.dtype.value} as declared, got {inferred.dtype.value}")
    return hint if inferred.shape is None else inferred
