"""Constants after a convolution or a matrix product moved into its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_onnx.graph import Graph, Node
from webdnn_onnx.passes.log import Log
from webdnn_onnx.passes.rewrite import View, everywhere, merge_sources

__all__ = ["fuse_affine"]

Array = npt.NDArray[Any]

_NAME = "fuse_affine"


@dataclass(frozen=True)
class _Affine:
    """y = x * scale + shift along the channels of the result; None where there is none."""

    scale: Array | None
    shift: Array | None


def fuse_affine(graph: Graph, log: Log) -> Graph:
    """Replaces Conv, ConvTranspose, Gemm or BatchNormalization followed by an affine map of its channels by one node.

    Cases of the map: BatchNormalization in inference; Mul, Div, Add and Sub of a constant with one element or one for
    each channel. Not: weights that are no constants; a result that something else reads or that is a graph output; a
    bias that is no constant; a Gemm whose alpha or beta is not 1 or whose C is no row; integer arithmetic.
    """
    return everywhere(graph, log, _fuse)


def _fuse(graph: Graph, view: View, log: Log) -> Graph:
    while True:
        producers, consumers = graph.producers(), graph.consumers()
        outputs = {value.name for value in graph.outputs}
        constants = dict(graph.constants)
        replaced: dict[int, Node] = {}
        dropped: set[int] = set()
        for node in graph.nodes:
            source = next(
                (producers[name] for name in node.inputs if name in producers and _is_target(producers[name])), None
            )
            if (
                source is None
                or node.op not in _FOLLOWERS
                or node.domain
                or id(source) in replaced
                or id(source) in dropped
            ):
                continue
            if len(consumers.get(source.output(0), ())) != 1 or source.output(0) in outputs:
                log.declined(_NAME, (source, node), "its result is read elsewhere too")
                continue
            affine = _affine(node, source, view)
            if isinstance(affine, str):
                log.declined(_NAME, (source, node), affine)
                continue
            fused = _apply(source, node, affine, view, constants)
            if isinstance(fused, str):
                log.declined(_NAME, (source, node), fused)
                continue
            log.fired(_NAME, (source, node), f"{node.op} is part of the weights of {source.op}")
            replaced[id(source)] = fused
            dropped.add(id(node))
        if not dropped:
            return graph
        nodes = [replaced.get(id(node), node) for node in graph.nodes if id(node) not in dropped]
        graph = graph.with_nodes(nodes, constants=constants)
        view = View(graph, view.outer)


_FOLLOWERS = ("BatchNormalization", "Mul", "Div", "Add", "Sub")


def _is_target(node: Node) -> bool:
    return not node.domain and node.op in ("Conv", "ConvTranspose", "Gemm", "BatchNormalization")


def _affine(node: Node, source: Node, view: View) -> _Affine | str:
    if node.op == "BatchNormalization":
        return _normalization(node, view)
    position = 0 if node.input(0) == source.output(0) else 1
    if node.input(0) == node.input(1) or (position == 1 and node.op in ("Div", "Sub")):
        return "the constant is not the second operand"
    if node.opset < 7:
        return "arithmetic before opset 7 broadcasts by attributes"
    array = view.constant(node.input(1 - position))
    shape = view.shape(source.output(0))
    if array is None or shape is None:
        return "the other operand is no constant"
    channels = _per_channel(array, len(shape), shape[1])
    if channels is None:
        return f"the other operand has shape {list(array.shape)}, which is not one element for each channel"
    if not np.issubdtype(array.dtype, np.floating):
        return f"the element type is {array.dtype}"
    wide = channels.astype(np.float64)
    if node.op == "Mul":
        return _Affine(wide, None)
    if node.op == "Div":
        return _Affine(1 / wide, None) if (wide != 0).all() else "it divides by 0"
    return _Affine(None, wide if node.op == "Add" else -wide)


def _per_channel(array: Array, rank: int, channels: object) -> Array | None:
    """The array as one element for each channel, if axis 1 of the result is the only one that it varies along."""
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
        return None
    return array.reshape(-1)


def _normalization(node: Node, view: View) -> _Affine | str:
    if node.attributes.get("training_mode", 0) or any(node.outputs[1:]):
        return "it normalises by the batch's own statistics"
    if node.opset < 9 and (
        not node.attributes.get("spatial", 1) or (node.opset < 7 and not node.attributes.get("is_test", 0))
    ):
        return "it normalises each element, or by the batch's own statistics"
    arrays = [view.constant(name) for name in node.inputs[1:5]]
    if len(arrays) != 4 or any(array is None for array in arrays):
        return "its parameters are no constants"
    scale, bias, mean, variance = (array.astype(np.float64) for array in arrays if array is not None)
    epsilon = node.attributes.get("epsilon", 1e-5)
    assert isinstance(epsilon, int | float), "epsilon is a number"
    factor = scale / np.sqrt(variance + epsilon)
    return _Affine(factor, bias - mean * factor)


def _apply(source: Node, node: Node, affine: _Affine, view: View, constants: dict[str, Array]) -> Node | str:
    if source.op == "BatchNormalization":
        return _apply_to_normalization(source, node, affine, view, constants)
    weight = view.constant(source.input(1))
    if weight is None:
        return "the weights are no constant"
    if not np.issubdtype(weight.dtype, np.floating):
        return f"the weights' element type is {weight.dtype}"
    gemm = source.op == "Gemm"
    if gemm and (source.attributes.get("alpha", 1.0) != 1.0 or source.attributes.get("beta", 1.0) != 1.0):
        return "alpha or beta is not 1"
    group = source.attributes.get("group", 1)
    assert isinstance(group, int), "group is an integer"
    axis = (0 if source.attributes.get("transB", 0) else 1) if gemm else 0 if source.op == "Conv" else 1
    channels = weight.shape[axis] * (group if source.op == "ConvTranspose" else 1)
    bias = view.constant(source.input(2)) if source.input(2) else None
    if source.input(2) and bias is None:
        return "the bias is no constant"
    if bias is not None and bias.size not in (1, channels):
        return f"C has shape {list(bias.shape)}, which is no row"
    if bias is not None and gemm and bias.ndim > 1 and bias.shape[0] != 1:
        return f"C has shape {list(bias.shape)}, which is no row"
    inputs: Sequence[str] = (*source.inputs[:2], source.input(2))
    result = node.output(0)
    shift = np.zeros(channels) if bias is None else np.broadcast_to(bias.astype(np.float64).reshape(-1), (channels,))
    if affine.scale is not None:
        factor = np.broadcast_to(affine.scale, (channels,))
        name = f"{result}/weight"
        constants[name] = _scaled(weight, factor, axis, group if source.op == "ConvTranspose" else 1)
        inputs = (inputs[0], name, inputs[2])
        shift = shift * factor
    if affine.shift is not None:
        shift = shift + np.broadcast_to(affine.shift, (channels,))
    if bias is not None or affine.shift is not None:
        name = f"{result}/bias"
        constants[name] = shift.astype(weight.dtype)
        inputs = (*inputs[:2], name)
    inputs = inputs if inputs[2] else inputs[:2]
    return replace(source, inputs=tuple(inputs), outputs=(result,), source=merge_sources(source, node))


def _apply_to_normalization(
    source: Node, node: Node, affine: _Affine, view: View, constants: dict[str, Array]
) -> Node | str:
    inner = _normalization(source, view)
    if isinstance(inner, str):
        return inner
    scale, bias = view.constant(source.input(1)), view.constant(source.input(2))
    assert scale is not None, "a normalisation that fuses has constant parameters"
    assert bias is not None, "a normalisation that fuses has constant parameters"
    factor = np.float64(1) if affine.scale is None else affine.scale
    shift = np.float64(0) if affine.shift is None else affine.shift
    names = (f"{node.output(0)}/scale", f"{node.output(0)}/bias")
    constants[names[0]] = np.asarray(scale * factor, dtype=scale.dtype)
    constants[names[1]] = np.asarray(bias * factor + shift, dtype=bias.dtype)
    inputs = (source.input(0), *names, *source.inputs[3:])
    return replace(source, inputs=inputs, outputs=(node.output(0),), source=merge_sources(source, node))


def _scaled(weight: Array, factor: Array, axis: int, group: int) -> Array:
    """The weights times one factor for each output channel."""
    if group == 1:
        shape = [1] * weight.ndim
        shape[axis] = -1
        return np.asarray(weight * factor.reshape(shape), dtype=weight.dtype)
    parts = factor.reshape(group, 1, -1, *[1] * (weight.ndim - 2))
    grouped = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
    return np.asarray((grouped * parts).reshape(weight.shape), dtype=weight.dtype)
