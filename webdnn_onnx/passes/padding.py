"""Padding done by the convolution or pooling that reads it."""

from __future__ import annotations

from dataclasses import replace

from webdnn_onnx.graph import Graph, Node
from webdnn_onnx.passes.log import Log
from webdnn_onnx.passes.rewrite import View, everywhere, merge_sources

__all__ = ["fuse_pads"]

_NAME = "fuse_pads"


def fuse_pads(graph: Graph, log: Log) -> Graph:
    """Replaces Pad with zeros followed by Conv or AveragePool (which counts padding) by one node with more `pads`.

    Not: another mode or value; padding of batch or channels; negative or run-time pads; `auto_pad`; a result that
    something else reads or that is a graph output; an AveragePool that rounds up, or does not count padding.
    """
    return everywhere(graph, log, _fuse)


def _fuse(graph: Graph, view: View, log: Log) -> Graph:
    producers, consumers = graph.producers(), graph.consumers()
    outputs = {value.name for value in graph.outputs}
    replaced: dict[int, Node] = {}
    dropped: set[int] = set()
    for node in graph.nodes:
        pad = producers.get(node.input(0))
        if pad is None or pad.op != "Pad" or pad.domain or node.domain or node.op not in ("Conv", "AveragePool"):
            continue
        reason = _reason(node, pad, view)
        if pad.output(0) in outputs or len(consumers.get(pad.output(0), ())) != 1:
            reason = "the padded tensor is read elsewhere too"
        if reason:
            log.declined(_NAME, (pad, node), reason)
            continue
        padding = _pads(pad, view)
        assert padding is not None, "pads that have no reason against them are known"
        count = len(padding) // 2 - 2
        own = node.attributes.get("pads") or (0,) * (2 * count)
        assert isinstance(own, tuple), "pads are a list"
        added = (*padding[2 : 2 + count], *padding[4 + count :])
        pads = tuple(int(left) + int(right) for left, right in zip(own, added, strict=True))  # type: ignore[arg-type]  # INTS attributes
        attributes = {name: value for name, value in node.attributes.items() if name != "auto_pad"} | {"pads": pads}
        inputs = (pad.input(0), *node.inputs[1:])
        replaced[id(node)] = replace(node, inputs=inputs, attributes=attributes, source=merge_sources(pad, node))
        dropped.add(id(pad))
        log.fired(_NAME, (pad, node), f"{node.op} pads by itself")
    if not dropped:
        return graph
    return graph.with_nodes([replaced.get(id(node), node) for node in graph.nodes if id(node) not in dropped])


def _reason(node: Node, pad: Node, view: View) -> str:
    """Why the padding cannot be the node's; empty if it can."""
    if pad.attributes.get("mode", "constant") != "constant":
        return f"its mode is {pad.attributes.get('mode')}"
    padding = _pads(pad, view)
    shape = view.shape(pad.output(0))
    if padding is None or shape is None or len(padding) != 2 * len(shape):
        return "its pads are not known, or not for all axes"
    rank = len(shape)
    if any(size < 0 for size in padding) or any(padding[axis] for axis in (0, 1, rank, rank + 1)):
        return "it pads batch or channels, or by a negative number"
    zero = pad.attributes.get("value", 0.0) == 0.0
    if pad.input(2):
        array = view.constant(pad.input(2))
        zero = array is not None and array.size == 1 and bool(array.reshape(-1)[0] == 0)
    if not zero:
        return "its value is not 0"
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "the sizes of auto_pad depend on the input"
    own = node.attributes.get("pads")
    if node.op == "AveragePool":
        if node.attributes.get("ceil_mode", 0):
            return "a pooling that rounds up counts other elements"
        padded = isinstance(own, tuple) and any(own)
        if not node.attributes.get("count_include_pad", 0):
            return "the pooling does not count padding" if not padded else "the pooling counts only this padding"
    return ""


def _pads(pad: Node, view: View) -> tuple[int, ...] | None:
    given = pad.attributes.get("pads") or pad.attributes.get("paddings")
    if isinstance(given, tuple):
        return tuple(int(size) for size in given)  # type: ignore[arg-type]  # INTS attributes
    array = view.constant(pad.input(1)) if pad.input(1) and not pad.input(3) else None
    return None if array is None else tuple(int(size) for size in array.reshape(-1))
