"""Nodes that compute nothing, nothing that is read, or the same as another node."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from webdnn_onnx.graph import Attribute, Graph, Node, TensorType, outer_reads
from webdnn_onnx.passes.log import Log
from webdnn_onnx.passes.rewrite import RANDOM, View, bypass, everywhere, rename

__all__ = ["inline_branches", "merge_equal_nodes", "remove_no_ops", "remove_unused"]


def remove_unused(graph: Graph, log: Log) -> Graph:
    """Removes nodes and constants that no output depends on.

    Not: graph inputs and outputs, which keep their names and order; what a nested graph reads.
    """
    return everywhere(graph, log, _remove_unused)


def _remove_unused(graph: Graph, view: View, log: Log) -> Graph:
    del view
    needed = {value.name for value in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not any(name in needed for name in node.outputs if name):
            log.fired("remove_unused", (node,), "no output depends on it")
            continue
        node = _without_unread(node, needed, log)
        kept.append(node)
        needed.update(node.inputs)
        for nested in node.subgraphs:
            needed.update(outer_reads(nested))
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return graph.with_nodes(kept[::-1], constants=constants)


_OPTIONAL_OUTPUTS = ("Dropout", "MaxPool", "LayerNormalization", "LSTM", "GRU", "RNN")
"""Operators whose outputs after the first may be left out without changing the others."""


def _without_unread(node: Node, needed: set[str], log: Log) -> Node:
    if node.op not in _OPTIONAL_OUTPUTS or node.domain or all(not name or name in needed for name in node.outputs[1:]):
        return node
    names = [name if name in needed else "" for name in node.outputs[1:]]
    while names and not names[-1]:
        names.pop()
    log.fired("remove_unused", (node,), "only its first outputs are read")
    return replace(node, outputs=(node.output(0), *names))


def remove_no_ops(graph: Graph, log: Log) -> Graph:
    """Removes nodes whose output is one of their inputs.

    Cases: Identity; Dropout in inference; Cast to the same element type; Reshape, Flatten, Squeeze, Unsqueeze,
    Expand, Tile to the same shape; Transpose in order; Concat, Sum, Max, Min and Mean of one; Slice of everything;
    Pad by nothing; adding 0, multiplying and dividing by 1 (where the shape stays).
    Not: where the output's name is a graph output and its value an input, a constant, or another output.
    """
    return everywhere(graph, log, _remove_no_ops)


def _remove_no_ops(graph: Graph, view: View, log: Log) -> Graph:
    same: dict[str, str] = {}
    removed: dict[int, Node] = {}
    for node in graph.nodes:
        source = _passes_through(node, view)
        if source is not None:
            same[node.output(0)] = source
            removed[id(node)] = node
    if not removed:
        return graph
    result, kept = bypass(graph, same, set(removed))
    for key, node in removed.items():
        if key not in kept:
            log.fired("remove_no_ops", (node,), f"its output is its input '{same[node.output(0)]}'")
    return graph if len(kept) == len(removed) else result


def _passes_through(node: Node, view: View) -> str | None:
    """The input that the node's one output equals; None if it computes something."""
    if node.domain or not node.output(0) or any(node.outputs[1:]):
        return None
    first = node.input(0)
    if node.op == "Identity":
        return first
    if node.op == "Dropout":
        training = view.constant(node.input(2)) if node.input(2) else None
        decided = not node.input(2) or (training is not None and not training.reshape(-1)[0])
        legacy = node.opset < 7 and not node.attributes.get("is_test", 0)
        return first if decided and not legacy else None
    if node.op in ("Concat", "Sum", "Max", "Min", "Mean") and len(node.inputs) == 1:
        return first
    if node.op == "Transpose":
        order = node.attributes.get("perm")
        return first if isinstance(order, tuple) and list(order) == list(range(len(order))) else None
    before, after = view.type(first), view.type(node.output(0))
    if not isinstance(before, TensorType) or not isinstance(after, TensorType):
        return None
    if node.op == "Cast":
        return first if before.dtype is after.dtype else None
    if before.shape is None:
        return None
    if node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"):
        return first if before.shape == after.shape else None
    if node.op == "Slice":
        steps = view.constant(node.input(4)) if node.input(4) else None
        forward = not node.input(4) or (steps is not None and bool((steps == 1).all()))
        return first if forward and before.shape == after.shape else None
    if node.op == "Pad" and "pads" not in node.attributes:
        pads = view.constant(node.input(1))
        return first if pads is not None and not pads.any() else None
    return _neutral(node, view) if node.opset >= 7 else None


_NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}


def _neutral(node: Node, view: View) -> str | None:
    """x + 0, x - 0, x * 1, x / 1; -0 stays -0 only when the added 0 is negative, so adding is for integers."""
    if node.op not in _NEUTRAL:
        return None
    for index in (1, 0) if node.op in ("Add", "Mul") else (1,):
        array = view.constant(node.input(index))
        other = node.input(1 - index)
        kind = view.type(other)
        if array is None or array.size != 1 or not isinstance(kind, TensorType):
            continue
        if node.op == "Add" and not kind.dtype.is_integer:
            continue
        fits = kind.shape is not None and kind.shape == view.shape(node.output(0))
        if fits and array.reshape(-1)[0] == _NEUTRAL[node.op]:
            return other
    return None


def inline_branches(graph: Graph, log: Log) -> Graph:
    """Replaces an If whose condition is a constant by the branch that it takes.

    Not: where a name of the branch is taken in the graph around it.
    """
    return everywhere(graph, log, _inline_branches)


def _inline_branches(graph: Graph, view: View, log: Log) -> Graph:
    nodes: list[Node] = []
    constants = dict(graph.constants)
    taken = {value.name for value in graph.inputs} | set(constants)
    taken.update(name for node in graph.nodes for name in node.outputs)
    changed = False
    for node in graph.nodes:
        condition = view.constant(node.input(0)) if node.op == "If" and not node.domain else None
        branch = None
        if condition is not None:
            branch = node.attributes["then_branch" if condition.reshape(-1)[0] else "else_branch"]
        if not isinstance(branch, Graph):
            nodes.append(node)
            continue
        own = set(branch.constants) | {name for inner in branch.nodes for name in inner.outputs if name}
        if own & taken:
            log.declined("inline_branches", (node,), f"'{min(own & taken)}' is a name around it too")
            nodes.append(node)
            continue
        taken |= own
        constants.update(branch.constants)
        nodes.extend(replace(inner, source=(*inner.source, *node.source)) for inner in branch.nodes)
        for outer, value in zip(node.outputs, branch.outputs, strict=False):
            if outer:
                nodes.append(Node("Identity", (value.name,), (outer,), opset=node.opset, source=node.source))
        log.fired("inline_branches", (node,), "its condition is a constant")
        changed = True
    return graph.with_nodes(nodes, constants=constants) if changed else graph


def merge_equal_nodes(graph: Graph, log: Log) -> Graph:
    """Replaces a node by an earlier one with the same operator, attributes and inputs.

    Not: random operators; nodes with nested graphs.
    """
    return everywhere(graph, log, _merge_equal)


def _merge_equal(graph: Graph, view: View, log: Log) -> Graph:
    del view
    names: dict[str, str] = {}
    for name, first in _equal_constants(graph).items():
        names[name] = first
    outputs = {value.name for value in graph.outputs}
    seen: dict[Hashable, Node] = {}
    same: dict[str, str] = {}
    removed: dict[int, Node] = {}
    for node in graph.nodes:
        if node.op in RANDOM or node.subgraphs:
            continue
        inputs = tuple(names.get(name, name) for name in node.inputs)
        attributes = tuple(sorted((name, _key(value)) for name, value in node.attributes.items()))
        key = (node.op, node.domain, node.opset, inputs, attributes, tuple(map(bool, node.outputs)))
        first_node = seen.setdefault(key, node)
        if first_node is node or any(name in outputs for name in node.outputs):
            continue
        pairs = {new: names.get(old, old) for new, old in zip(node.outputs, first_node.outputs, strict=True) if new}
        names |= pairs
        same |= pairs
        removed[id(node)] = node
        log.fired("merge_equal_nodes", (node,), f"computes the same as '{first_node.name or first_node.output(0)}'")
    if not removed:
        return graph
    nodes = [rename(node, same) for node in graph.nodes if id(node) not in removed]
    return graph.with_nodes(nodes)


_SMALL = 1024


def _equal_constants(graph: Graph) -> dict[str, str]:
    """Small constants that equal an earlier one."""
    seen: dict[Hashable, str] = {}
    found: dict[str, str] = {}
    for name, array in graph.constants.items():
        if array.size <= _SMALL and array.dtype != object:
            first = seen.setdefault((array.dtype.str, array.dtype.name, array.shape, array.tobytes()), name)
            if first != name:
                found[name] = first
    return found


def _key(value: Attribute) -> Any:
    """A hashable and sortable stand-in for an attribute."""
    if isinstance(value, np.ndarray):
        data = value.tobytes() if value.dtype != object else repr(value.tolist())
        return ("array", value.dtype.str, value.shape, data)
    return (type(value).__name__, repr(value))
