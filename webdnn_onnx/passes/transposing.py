"""Transposes merged, moved behind elementwise operators, and cancelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from webdnn_onnx.graph import Graph, Node, TensorType, Value
from webdnn_onnx.passes.log import Log
from webdnn_onnx.passes.rewrite import View, everywhere, merge_sources

__all__ = ["merge_transposes", "push_transposes"]

_UNARY = frozenset(
    (
        *("Abs", "Ceil", "Cast", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
        *(
            "LeakyRelu",
            "Log",
            "Mish",
            "Neg",
            "Not",
            "Reciprocal",
            "Relu",
            "Round",
            "Selu",
            "Sigmoid",
            "Sign",
            "Softplus",
        ),
        *("Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu"),
    )
)
_BINARY = frozenset(("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"))


def merge_transposes(graph: Graph, log: Log) -> Graph:
    """Replaces a Transpose of a Transpose by one, or by nothing where they cancel.

    Not: orders of ranks that are not known.
    """
    return everywhere(graph, log, _merge)


def _merge(graph: Graph, view: View, log: Log) -> Graph:
    producers = dict(graph.producers())
    nodes: list[Node] = []
    changed = False
    for node in graph.nodes:
        inner = producers.get(node.input(0))
        if _is_transpose(node) and inner is not None and _is_transpose(inner):
            first, second = _order(inner, view), _order(node, view)
            if first is not None and second is not None:
                merged = tuple(first[axis] for axis in second)
                log.fired("merge_transposes", (inner, node), f"together they are the order {list(merged)}")
                node = replace(
                    node, inputs=(inner.input(0),), attributes={"perm": merged}, source=merge_sources(inner, node)
                )
                producers[node.output(0)] = node
                changed = True
        nodes.append(node)
    return graph.with_nodes(nodes) if changed else graph


def push_transposes(graph: Graph, log: Log) -> Graph:
    """Replaces f(Transpose(x)) by Transpose(f(x)) where another Transpose then follows it, so that both can cancel.

    Cases: elementwise functions of one tensor; arithmetic with a constant of one element or of the same rank; with
    another Transpose of the same order. Not: a transposed tensor that something else reads or that is a graph output;
    a chain of them that ends in no Transpose.
    """
    return everywhere(graph, log, _push)


def _push(graph: Graph, view: View, log: Log) -> Graph:
    producers, consumers = graph.producers(), graph.consumers()
    outputs = {value.name for value in graph.outputs}
    constants = dict(graph.constants)
    values = dict(graph.values)
    for node in graph.nodes:
        if not _is_elementwise(node) or node.output(0) in outputs or any(node.outputs[1:]):
            continue
        transposes = [
            producers[name]
            for name in dict.fromkeys(node.inputs)
            if name in producers and _is_transpose(producers[name])
        ]
        if not transposes or not _ends_in_transpose(node, consumers, outputs):
            continue
        order = _order(transposes[0], view)
        private = all(
            transpose.output(0) not in outputs and consumers[transpose.output(0)] == [node] for transpose in transposes
        )
        if order is None or not private or any(_order(transpose, view) != order for transpose in transposes):
            log.declined("push_transposes", (*transposes, node), "the transposed tensor is read elsewhere too")
            continue
        inputs = [_before(name, order, transposes, view, constants) for name in node.inputs]
        if any(name is None for name in inputs):
            log.declined("push_transposes", (*transposes, node), "its other operand has no transposed form")
            continue
        moved = f"{node.output(0)}/before_transpose"
        before = replace(
            node,
            inputs=tuple(name for name in inputs if name is not None),
            outputs=(moved,),
            source=merge_sources(node),
        )
        after = Node(
            "Transpose",
            (moved,),
            node.outputs,
            {"perm": order},
            opset=transposes[0].opset,
            source=merge_sources(*transposes),
        )
        kind = view.type(node.output(0))
        if isinstance(kind, TensorType) and kind.shape is not None:
            shape = [kind.shape[order.index(axis)] for axis in range(len(order))]
            values[moved] = Value(moved, TensorType(kind.dtype, tuple(shape)))
        drop = {id(transpose) for transpose in transposes}
        nodes: list[Node] = []
        for other in graph.nodes:
            if other is node:
                nodes.extend((before, after))
            elif id(other) not in drop:
                nodes.append(other)
        log.fired("push_transposes", (*transposes, node), "a Transpose follows that it can meet")
        graph = graph.with_nodes(nodes, constants=constants, values=values)
        return _push(graph, View(graph, view.outer), log)
    return graph


def _ends_in_transpose(node: Node, consumers: dict[str, list[Node]], outputs: set[str]) -> bool:
    """Whether the chain of elementwise nodes behind this one ends in a Transpose."""
    for _ in range(64):
        readers = consumers.get(node.output(0), [])
        if len(readers) != 1 or node.output(0) in outputs:
            return False
        node = readers[0]
        if _is_transpose(node):
            return True
        if not _is_elementwise(node):
            return False
    return False


def _before(
    name: str, order: tuple[int, ...], transposes: list[Node], view: View, constants: dict[str, np.ndarray]
) -> str | None:
    """The operand as it is before the Transpose; None if it has no such form."""
    for transpose in transposes:
        if transpose.output(0) == name:
            return transpose.input(0)
    if not name:
        return name
    array = view.constant(name)
    if array is None:
        return None
    if array.size == 1 and array.ndim <= len(order):
        return name
    if array.ndim > len(order):
        return None
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    moved = f"{name}/transposed_{'_'.join(map(str, order))}"
    constants[moved] = full.transpose(np.argsort(order))
    return moved


def _is_elementwise(node: Node) -> bool:
    return not node.domain and (node.op in _UNARY or (node.op in _BINARY and node.opset >= 8))


def _is_transpose(node: Node) -> bool:
    return node.op == "Transpose" and not node.domain


def _order(node: Node, view: View) -> tuple[int, ...] | None:
    order = node.attributes.get("perm")
    if isinstance(order, tuple):
        return tuple(int(axis) for axis in order)  # type: ignore[arg-type]  # an INTS attribute
    shape = view.shape(node.input(0))
    return None if shape is None else tuple(reversed(range(len(shape))))
