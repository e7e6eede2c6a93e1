"""Operators that exporters wrote out, put together again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Graph, Node, TensorType
from webdnn_onnx.passes.log import Log
from webdnn_onnx.passes.rewrite import View, everywhere, merge_sources

__all__ = ["recognise_compositions"]

_GELU_SINCE, _LAYER_NORMALIZATION_SINCE = 20, 17
_CLOSE = 1e-4


def recognise_compositions(graph: Graph, log: Log) -> Graph:
    """Replaces written-out Gelu (with erf or tanh) and LayerNormalization over the last axis by one node.

    The node gets the operator's first opset, whatever the model's is. Not: where something else reads a value in
    between, or it is a graph output; other constants than the formula's; normalisation of other axes; float types
    other than float32 and float16 (whose intermediate rounding LayerNormalization does not have).
    """
    return everywhere(graph, log, _recognise)


@dataclass(frozen=True)
class _Match:
    """Nodes from the first to the last, the node that replaces them, and what it is called."""

    nodes: tuple[Node, ...]
    result: Node


class _Patterns:
    """Looks backwards from a node; a method gives None where the pattern does not hold."""

    def __init__(self, graph: Graph, view: View) -> None:
        self.view = view
        self.producers = graph.producers()

    def producer(self, name: str, *ops: str) -> Node | None:
        node = self.producers.get(name)
        return node if node is not None and not node.domain and node.op in ops else None

    def scalar(self, name: str) -> float | None:
        array = self.view.constant(name)
        return None if array is None or array.size != 1 or array.dtype == object else float(array.reshape(-1)[0])

    def with_scalar(self, node: Node | None, value: float) -> str | None:
        """The operand of a Mul or Add whose other operand is this number."""
        if node is None or len(node.inputs) != 2:
            return None
        for index in (0, 1):
            found = self.scalar(node.input(index))
            if found is not None and math.isclose(found, value, rel_tol=_CLOSE):
                return node.input(1 - index)
        return None

    def gelu(self, last: Node) -> _Match | None:
        """x * 0.5 * (1 + f), multiplied in any order, where f is the erf or the tanh of its argument."""
        factors: list[str] = []
        nodes: list[Node] = [last]
        pending = list(last.inputs)
        while pending:
            name = pending.pop()
            inner = self.producer(name, "Mul")
            if inner is not None and len(nodes) < 3:
                nodes.append(inner)
                pending.extend(inner.inputs)
            else:
                factors.append(name)
        if len(factors) != 3:
            return None
        halves = [name for name in factors if self.scalar(name) == 0.5]
        adds = [node for name in factors if (node := self.producer(name, "Add")) is not None]
        sums = [node for node in adds if self.with_scalar(node, 1.0)]
        if len(halves) != 1 or not sums:
            return None
        for add in sums:
            rest = [name for name in factors if name not in (halves[0], add.output(0))]
            function = self.producer(self.with_scalar(add, 1.0) or "", "Erf", "Tanh")
            if len(rest) != 1 or function is None:
                continue
            inner_nodes = self.erf(function, rest[0]) if function.op == "Erf" else self.tanh(function, rest[0])
            if inner_nodes is None:
                continue
            found = (*inner_nodes, function, add, *reversed(nodes))
            form = "none" if function.op == "Erf" else "tanh"
            attributes = {"approximate": form}
            result = Node("Gelu", (rest[0],), last.outputs, attributes, opset=_GELU_SINCE, name=last.name)
            return _Match(found, result)
        return None

    def erf(self, function: Node, x: str) -> tuple[Node, ...] | None:
        """x / sqrt(2), or x * sqrt(0.5)."""
        scaled = self.producer(function.input(0), "Div", "Mul")
        if scaled is None:
            return None
        if scaled.op == "Div":
            divisor = self.scalar(scaled.input(1))
            fits = scaled.input(0) == x and divisor is not None and math.isclose(divisor, math.sqrt(2), rel_tol=_CLOSE)
        else:
            fits = self.with_scalar(scaled, math.sqrt(0.5)) == x
        return (scaled,) if fits else None

    def tanh(self, function: Node, x: str) -> tuple[Node, ...] | None:
        """sqrt(2 / pi) * (x + 0.044715 * x^3)."""
        outer = self.producer(function.input(0), "Mul")
        add = self.producer(self.with_scalar(outer, math.sqrt(2 / math.pi)) or "", "Add")
        if outer is None or add is None or x not in add.inputs:
            return None
        cubic = self.producer(add.input(1 if add.input(0) == x else 0), "Mul")
        power = self.producer(self.with_scalar(cubic, 0.044715) or "", "Pow")
        if cubic is None or power is None or power.input(0) != x or self.scalar(power.input(1)) != 3:
            return None
        return (power, cubic, add, outer)

    def layer_normalization(self, last: Node) -> _Match | None:
        """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias, over the last axis."""
        product = next((node for name in last.inputs if (node := self.producer(name, "Mul")) is not None), None)
        if product is None:
            return None
        divided = next((node for name in product.inputs if (node := self.producer(name, "Div")) is not None), None)
        if divided is None:
            return None
        bias = last.input(1 if last.input(0) == product.output(0) else 0)
        scale = product.input(1 if product.input(0) == divided.output(0) else 0)
        centred, root = self.producer(divided.input(0), "Sub"), self.producer(divided.input(1), "Sqrt")
        shifted = self.producer(root.input(0), "Add") if root is not None else None
        if centred is None or root is None or shifted is None:
            return None
        mean_index = 0 if self.producer(shifted.input(0), "ReduceMean") else 1
        variance = self.producer(shifted.input(mean_index), "ReduceMean")
        epsilon = self.scalar(shifted.input(1 - mean_index))
        power = self.producer(variance.input(0), "Pow") if variance is not None else None
        mean = self.producer(centred.input(1), "ReduceMean")
        if variance is None or power is None or mean is None or epsilon is None or self.scalar(power.input(1)) != 2:
            return None
        squared = self.producer(power.input(0), "Sub")
        x = centred.input(0)
        if squared is None or squared.inputs != centred.inputs or mean.input(0) != x:
            return None
        shape = self.view.shape(x)
        sizes = [self.view.shape(name) for name in (scale, bias)]
        if shape is None or any(size is None or len(size) != 1 or size != shape[-1:] for size in sizes):
            return None
        if not self.is_over_last(mean, len(shape)) or not self.is_over_last(variance, len(shape)):
            return None
        found = tuple(
            {
                id(node): node
                for node in (mean, squared, centred, power, variance, shifted, root, divided, product, last)
            }.values()
        )
        attributes = {"axis": -1, "epsilon": epsilon}
        inputs = (x, scale, bias)
        opset = _LAYER_NORMALIZATION_SINCE
        return _Match(found, Node("LayerNormalization", inputs, last.outputs, attributes, opset=opset, name=last.name))

    def is_over_last(self, node: Node, rank: int) -> bool:
        axes = node.attributes.get("axes")
        if axes is None and node.input(1):
            array = self.view.constant(node.input(1))
            axes = None if array is None else tuple(int(axis) for axis in array.reshape(-1))
        return axes in ((-1,), (rank - 1,)) and bool(node.attributes.get("keepdims", 1))


def _recognise(graph: Graph, view: View, log: Log) -> Graph:
    patterns = _Patterns(graph, view)
    consumers = graph.consumers()
    outputs = {value.name for value in graph.outputs}
    taken: set[int] = set()
    results: dict[int, Node] = {}
    for node in graph.nodes:
        if node.domain or node.opset < 7 or id(node) in taken:
            continue
        match = patterns.gelu(node) if node.op == "Mul" else None
        if node.op == "Add":
            match = patterns.layer_normalization(node)
        if match is None or any(id(inner) in taken for inner in match.nodes):
            continue
        kind = view.type(match.result.input(0))
        allowed = (DType.FLOAT32, DType.FLOAT16) if match.result.op == "Gelu" else (DType.FLOAT32,)
        if not isinstance(kind, TensorType) or kind.dtype not in allowed:
            log.declined("recognise_compositions", match.nodes, f"the element type of {match.result.op} is {kind}")
            continue
        if not _is_private(match.nodes, consumers, outputs):
            log.declined(
                "recognise_compositions", match.nodes, f"a value within {match.result.op} is read elsewhere too"
            )
            continue
        taken.update(id(inner) for inner in match.nodes)
        merged = Node(
            match.result.op,
            match.result.inputs,
            match.result.outputs,
            match.result.attributes,
            opset=match.result.opset,
            name=match.result.name,
            source=merge_sources(*match.nodes),
        )
        results[id(node)] = merged
        log.fired("recognise_compositions", match.nodes, f"together they are {merged.op}")
    if not results:
        return graph
    nodes = [results.get(id(node), node) for node in graph.nodes if id(node) not in taken or id(node) in results]
    return graph.with_nodes(nodes)


def _is_private(nodes: Sequence[Node], consumers: dict[str, list[Node]], outputs: set[str]) -> bool:
    """Whether nothing outside reads what the nodes before the last compute."""
    inside = {id(node) for node in nodes}
    return all(
        name not in outputs and all(id(reader) in inside for reader in consumers.get(name, ()))
        for node in nodes[:-1]
        for name in node.outputs
    )
