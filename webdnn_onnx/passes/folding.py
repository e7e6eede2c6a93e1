"""Constants computed ahead of time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import WebDNNError
from webdnn_onnx.graph import Graph, Node, TensorType
from webdnn_onnx.infer import analyse
from webdnn_onnx.passes.log import Log
from webdnn_onnx.passes.rewrite import RANDOM, View, everywhere

__all__ = ["BLOW_UP_LIMIT", "fold_constants", "fold_shapes"]

Array = npt.NDArray[Any]

BLOW_UP_LIMIT = 64 * 2**20
"""Bytes up to which a small constant may be spread into a large one."""

_KEPT = RANDOM | {"ImageDecoder", "Optional", "SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SplitToSequence"}


def fold_shapes(graph: Graph, log: Log) -> Graph:
    """Replaces integer tensors whose elements are numbers by shape inference alone by constants.

    Cases: Shape of a fixed shape, and what Gather, Concat, Mul, ... make of it.
    Not: elements that hold a symbol; nodes with several outputs of which one is not known.
    """
    elements = analyse(graph).elements

    def rewrite(graph: Graph, view: View, log: Log) -> Graph:
        del view
        constants = dict(graph.constants)
        nodes: list[Node] = []
        for node in graph.nodes:
            arrays = [_from_elements(graph, name, elements.get(name)) for name in node.outputs]
            if node.op in RANDOM or any(array is None for array in arrays):
                nodes.append(node)
                continue
            constants.update(
                {name: array for name, array in zip(node.outputs, arrays, strict=True) if array is not None}
            )
            log.fired("fold_shapes", (node,), "follows from the shapes")
        return graph if len(nodes) == len(graph.nodes) else graph.with_nodes(nodes, constants=constants)

    return everywhere(graph, log, rewrite)


def _from_elements(graph: Graph, name: str, elements: tuple[Any, ...] | None) -> Array | None:
    kind = graph.value(name).type
    if elements is None or not isinstance(kind, TensorType) or kind.shape is None:
        return None
    if not (kind.dtype.is_integer or kind.dtype is DType.BOOL) or not all(isinstance(item, int) for item in elements):
        return None
    if not all(isinstance(dim, int) for dim in kind.shape) or math.prod(map(int, kind.shape)) != len(elements):  # type: ignore[arg-type]  # numbers, as was asked before
        return None
    try:
        return np.array(elements, dtype=kind.dtype.numpy).reshape(kind.shape)  # type: ignore[arg-type]  # numbers, as was asked before
    except OverflowError:
        return None


def fold_constants(graph: Graph, log: Log) -> Graph:
    """Replaces nodes whose inputs are all constants by what the reference computes.

    Not: random operators and sequences; nodes with nested graphs; a result that spreads its inputs into more than
    BLOW_UP_LIMIT bytes; a node that the reference cannot evaluate (it then fails, if at all, where it is lowered).
    """
    return everywhere(graph, log, _fold)


def _fold(graph: Graph, view: View, log: Log) -> Graph:
    constants = dict(graph.constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs: list[Array | None] = []
        for name in node.inputs:
            array = constants.get(name) if name in constants else view.constant(name) if name else None
            if name and array is None:
                break
            inputs.append(array)
        if len(inputs) < len(node.inputs) or node.op in _KEPT or node.subgraphs or not any(node.outputs):
            nodes.append(node)
            continue
        results = _evaluate(node, inputs, graph, log)
        if results is None:
            nodes.append(node)
            continue
        constants.update({name: array for name, array in zip(node.outputs, results, strict=False) if name})
        log.fired("fold_constants", (node,), "all inputs are constants")
    return graph if len(nodes) == len(graph.nodes) else graph.with_nodes(nodes, constants=constants)


def _evaluate(node: Node, inputs: list[Array | None], graph: Graph, log: Log) -> tuple[Array, ...] | None:
    from webdnn_reference import evaluate_node

    given = sum(array.nbytes for array in inputs if array is not None)
    size = sum(_bytes(graph, name) for name in node.outputs)
    if size > max(BLOW_UP_LIMIT, given):
        log.declined("fold_constants", (node,), f"{size} bytes from {given}, more than {BLOW_UP_LIMIT}")
        return None
    if node.op == "ConstantOfShape" and inputs[0] is not None:
        # A view of one element: the memory of a large constant is needed only where it is written out.
        value = node.attributes.get("value")
        fill = value.reshape(()) if isinstance(value, np.ndarray) else np.float32(0)
        return (np.broadcast_to(fill, tuple(int(dim) for dim in inputs[0].reshape(-1))),)
    if node.op == "Dropout" and len(inputs) > 2:
        return None
    try:
        results = evaluate_node(node, inputs)
    except WebDNNError as error:
        log.declined("fold_constants", (node,), str(error))
        return None
    if not all(isinstance(result, np.ndarray) for result in results):
        log.declined("fold_constants", (node,), "its result is no tensor")
        return None
    return results


def _bytes(graph: Graph, name: str) -> int:
    kind = graph.value(name).type if name else None
    if not isinstance(kind, TensorType) or kind.shape is None:
        return 0
    count = 1
    for dim in kind.shape:
        count *= dim if isinstance(dim, int) else 1
    return kind.dtype.storage_bytes(count)
