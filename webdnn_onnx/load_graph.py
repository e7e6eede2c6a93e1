"""GraphProto into Graph: names, order, attributes, constants, nested graphs and model-local functions.

Spec: https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from webdnn_onnx.errors import InvalidModelError, describe_node
from webdnn_onnx.graph import Attribute, Graph, Node, Value
from webdnn_onnx.load_check import NodeChecker
from webdnn_onnx.load_order import sort_nodes
from webdnn_onnx.load_tensors import TensorReader
from webdnn_onnx.load_types import read_type, read_value

__all__ = ["GraphReader"]

Array = npt.NDArray[Any]
FunctionKey = tuple[str, str, str]

_OPSET_IMPORTS_SINCE = 3
_DEFAULTS_SINCE = 4


class _BoundAttribute(NamedTuple):
    """An attribute and the scope that its graphs and references are read in."""

    proto: AttributeProto
    scope: _Scope


@dataclass
class _Scope:
    """What a piece of the file sees: value names of the file -> names of the Graph, and the function being inlined."""

    names: dict[str, str]
    outer: _Scope | None
    opsets: Mapping[str, int]
    attributes: Mapping[str, _BoundAttribute] = field(default_factory=dict)
    path: str = ""
    calls: tuple[FunctionKey, ...] = ()

    def find(self, name: str) -> str | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


@dataclass
class _Parts:
    """The Graph under construction."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)


class GraphReader:
    """Reads one model; `graph()` is its only question."""

    def __init__(self, model: ModelProto, tensors: TensorReader, keep_defaults: bool) -> None:
        self._model = model
        self._tensors = tensors
        self._keep_defaults = keep_defaults and model.ir_version >= _DEFAULTS_SINCE
        self._opsets = _opset_imports(model.opset_import, model.ir_version)
        self._checker = NodeChecker(model.ir_version, self._opsets)
        self._taken: set[str] = set()
        self._functions: dict[FunctionKey, FunctionProto] = {}
        for function in model.functions:
            key = (_domain(function.domain), function.name, function.overload)
            if key in self._functions:
                raise InvalidModelError(f"function '{'.'.join(key[:2])}': expected one definition, got two")
            self._functions[key] = function

    def graph(self) -> Graph:
        """The model's main graph."""
        scope = _Scope({}, None, self._opsets)
        return self._graph(self._model.graph, scope)

    def _graph(self, proto: GraphProto, scope: _Scope) -> Graph:
        where = f"graph '{proto.name}'" if proto.name else "graph"
        parts = _Parts()
        initializers = [tensor.name for tensor in proto.initializer]
        initializers += [tensor.values.name for tensor in proto.sparse_initializer]
        inputs = [info.name for info in proto.input]
        for kind, names in (("input", inputs), ("initializer", initializers)):
            _expect_distinct(names, f"{where}: {kind}s")
        self._declare(dict.fromkeys((*inputs, *initializers)), scope, where)
        self._declare((name for node in proto.node for name in node.output if name), scope, where)
        for tensor in proto.initializer:
            parts.constants[scope.names[tensor.name]] = self._tensors.read(tensor)
        for sparse in proto.sparse_initializer:
            parts.constants[scope.names[sparse.values.name]] = self._tensors.read_sparse(sparse)
        if self._keep_defaults and scope.outer is None:
            for name in set(inputs) & set(initializers):
                del parts.constants[scope.names[name]]
        self._nodes(proto.node, scope, parts, where)
        for info in proto.value_info:
            name = scope.names.get(info.name)
            if name is not None and name not in parts.constants:
                parts.values[name] = read_value(info, name)
        return Graph(
            inputs=tuple(
                read_value(info, scope.names[info.name])
                for info in proto.input
                if scope.names[info.name] not in parts.constants
            ),
            outputs=tuple(
                read_value(info, self._resolve(info.name, scope, f"{where}: outputs")) for info in proto.output
            ),
            nodes=tuple(parts.nodes),
            constants=parts.constants,
            values=parts.values,
            opsets=scope.opsets,
            name=proto.name,
        )

    def _declare(self, names: Iterable[str], scope: _Scope, where: str) -> None:
        for name in names:
            if not name:
                raise InvalidModelError(f"{where}: inputs and initializers: expected names, got an empty one")
            if name in scope.names:
                raise InvalidModelError(f"{where}: value '{name}': expected one definition, got two")
            scope.names[name] = self._fresh(name)

    def _fresh(self, name: str) -> str:
        unique, count = name, 0
        while unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        return unique

    def _resolve(self, name: str, scope: _Scope, where: str) -> str:
        found = scope.find(name)
        if found is None:
            raise InvalidModelError(
                f"{where}: value '{name}': expected an input, an initializer or a node's output, got none of that name"
            )
        return found

    def _nodes(self, protos: Sequence[NodeProto], scope: _Scope, parts: _Parts, where: str) -> None:
        for proto in sort_nodes(protos, where):
            self._node(proto, scope, parts)

    def _node(self, proto: NodeProto, scope: _Scope, parts: _Parts) -> None:
        domain = _domain(proto.domain)
        where = describe_node(
            proto.op_type, proto.name or next(iter(proto.output), ""), scope.opsets.get(domain), domain
        )
        attributes = self._bind(proto, scope, where) if proto.attribute else {}
        function = self._functions.get((domain, proto.op_type, proto.overload))
        if function is not None:
            self._call(function, proto, attributes, scope, parts, where)
            return
        outputs = tuple(scope.names[name] if name else "" for name in proto.output)
        if domain == "" and proto.op_type == "Constant":
            if len(outputs) != 1 or len(attributes) != 1:
                raise InvalidModelError(
                    f"{where}: expected one output and one attribute that holds the value, "
                    f"got {len(outputs)} and {len(attributes)}"
                )
            parts.constants[outputs[0]] = self._constant(next(iter(attributes.values())).proto, where)
            return
        if domain not in scope.opsets:
            raise InvalidModelError(
                f"{where}: opset_import: expected an entry for domain '{domain or 'ai.onnx'}', got none"
            )
        if not scope.calls:
            self._checker.check(proto, domain, where)
        label = proto.name or f"{proto.op_type}:{next(filter(None, proto.output), '')}"
        parts.nodes.append(
            Node(
                op=proto.op_type,
                inputs=tuple(self._resolve(name, scope, where) if name else "" for name in proto.input),
                outputs=outputs,
                attributes={name: self._attribute(bound, where) for name, bound in attributes.items()},
                domain=domain,
                opset=scope.opsets[domain],
                name=scope.path + proto.name if proto.name else "",
                source=(scope.path + label,),
            )
        )

    def _bind(self, proto: NodeProto, scope: _Scope, where: str) -> dict[str, _BoundAttribute]:
        """The node's attributes, references to attributes of the enclosing function resolved."""
        bound: dict[str, _BoundAttribute] = {}
        for attribute in proto.attribute:
            reference = attribute.ref_attr_name
            if not reference:
                bound[attribute.name] = _BoundAttribute(attribute, scope)
            elif reference in scope.attributes:
                bound[attribute.name] = scope.attributes[reference]
        if len(bound) < len(proto.attribute):
            _expect_distinct([attribute.name for attribute in proto.attribute], f"{where}: attributes")
        return bound

    def _call(
        self,
        function: FunctionProto,
        proto: NodeProto,
        attributes: Mapping[str, _BoundAttribute],
        scope: _Scope,
        parts: _Parts,
        where: str,
    ) -> None:
        key = (_domain(function.domain), function.name, function.overload)
        if key in scope.calls:
            raise InvalidModelError(f"{where}: expected a function that does not call itself, got a recursive one")
        if len(proto.input) > len(function.input) or len(proto.output) > len(function.output):
            raise InvalidModelError(
                f"{where}: expected at most {len(function.input)} inputs and {len(function.output)} outputs, "
                f"got {len(proto.input)} and {len(proto.output)}"
            )
        label = scope.path + (proto.name or f"{proto.op_type}:{next(iter(proto.output), '')}")
        names = dict.fromkeys(function.input, "")
        for inner, outer in zip(function.input, proto.input, strict=False):
            names[inner] = self._resolve(outer, scope, where) if outer else ""
        opsets = {**self._opsets, **_opset_imports(function.opset_import, self._model.ir_version)}
        body = _Scope(names, None, MappingProxyType(opsets), {}, f"{label}/", (*scope.calls, key))
        defaults = {default.name: _BoundAttribute(default, body) for default in function.attribute_proto}
        body.attributes = {**defaults, **attributes}
        results = {
            inner: scope.names[outer] for inner, outer in zip(function.output, proto.output, strict=False) if outer
        }
        produced: set[str] = set()
        for node in function.node:
            for name in filter(None, node.output):
                if name in names:
                    raise InvalidModelError(f"{where}: value '{name}': expected one definition, got two")
                names[name] = results[name] if name in results else self._fresh(f"{label}/{name}")
                produced.add(name)
        self._nodes(function.node, body, parts, where)
        for inner, outer in zip(function.output, proto.output, strict=False):
            source = self._resolve(inner, body, where)
            if outer and (inner not in produced or scope.names[outer] != source):
                self._taken.add(scope.names[outer])
                parts.nodes.append(
                    Node("Identity", (source,), (scope.names[outer],), opset=opsets.get("", 1), source=(label,))
                )

    def _constant(self, proto: AttributeProto, where: str) -> Array:
        match proto.name, proto.type:
            case _, AttributeProto.TENSOR:
                return self._tensors.read(proto.t, proto.t.name or where)
            case _, AttributeProto.SPARSE_TENSOR:
                return self._tensors.read_sparse(proto.sparse_tensor, where)
            case _, AttributeProto.FLOAT:
                return np.asarray(proto.f, np.float32)
            case _, AttributeProto.FLOATS:
                return np.asarray(proto.floats, np.float32)
            case _, AttributeProto.INT:
                return np.asarray(proto.i, np.int64)
            case _, AttributeProto.INTS:
                return np.asarray(proto.ints, np.int64)
            case _, AttributeProto.STRING:
                return np.asarray(_text(proto.s), dtype=object)
            case _, AttributeProto.STRINGS:
                texts = np.empty(len(proto.strings), dtype=object)
                texts[:] = [_text(text) for text in proto.strings]
                return texts
        raise InvalidModelError(f"{where}: attribute '{proto.name}': expected a value, got none")

    def _attribute(self, bound: _BoundAttribute, where: str) -> Attribute:
        proto = bound.proto
        match proto.type:
            case AttributeProto.FLOAT:
                return proto.f
            case AttributeProto.INT:
                return proto.i
            case AttributeProto.STRING:
                return _text(proto.s)
            case AttributeProto.FLOATS:
                return tuple(proto.floats)
            case AttributeProto.INTS:
                return tuple(proto.ints)
            case AttributeProto.STRINGS:
                return tuple(_text(text) for text in proto.strings)
            case AttributeProto.TENSOR:
                return self._tensors.read(proto.t, f"{where}: attribute '{proto.name}'")
            case AttributeProto.TENSORS:
                return tuple(
                    self._tensors.read(tensor, f"{where}: attribute '{proto.name}'") for tensor in proto.tensors
                )
            case AttributeProto.SPARSE_TENSOR:
                return self._tensors.read_sparse(proto.sparse_tensor, f"{where}: attribute '{proto.name}'")
            case AttributeProto.GRAPH:
                return self._nested(proto.g, bound.scope)
            case AttributeProto.GRAPHS:
                return tuple(self._nested(graph, bound.scope) for graph in proto.graphs)
            case AttributeProto.TYPE_PROTO:
                found = read_type(proto.tp, f"{where}: attribute '{proto.name}'")
                if found is not None:
                    return found
        raise InvalidModelError(
            f"{where}: attribute '{proto.name}': expected a number, string, tensor, graph or type, "
            f"got {AttributeProto.AttributeType.Name(proto.type)}"
        )

    def _nested(self, proto: GraphProto, scope: _Scope) -> Graph:
        return self._graph(proto, replace(scope, names={}, outer=scope))


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _opset_imports(entries: Iterable[onnx.OperatorSetIdProto], ir_version: int) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for entry in entries:
        domain = _domain(entry.domain)
        if found.setdefault(domain, entry.version) != entry.version:
            raise InvalidModelError(
                f"opset_import of '{domain or 'ai.onnx'}': expected one version, "
                f"got {found[domain]} and {entry.version}"
            )
    if not found and ir_version < _OPSET_IMPORTS_SINCE:
        found[""] = 1
    return MappingProxyType(found)


def _expect_distinct(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise InvalidModelError(f"{where}: expected distinct names, got '{twice}' twice")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
