"""What a node costs: multiply-adds and bytes, as numbers or as expressions over symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError
from webdnn_onnx.graph import Graph, Node, Shape, TensorType
from webdnn_onnx.symbolic import Dim, product

__all__ = ["Cost", "bytes_of", "call_macs", "node_cost"]


@dataclass(frozen=True)
class Cost:
    """macs: multiply-adds of contractions, else 0. read, written: bytes of its inputs, outputs. None: unknown."""

    macs: Dim | None
    read: Dim | None
    written: Dim | None


def node_cost(graph: Graph, node: Node) -> Cost:
    """The cost of one node of a graph whose types are inferred; fused kernels move fewer bytes than this."""
    return Cost(_macs(graph, node), _bytes(graph, node.inputs), _bytes(graph, node.outputs))


def _macs(graph: Graph, node: Node) -> Dim | None:
    try:
        return _count_macs(graph, node)
    except DTypeError:
        return None


def _count_macs(graph: Graph, node: Node) -> Dim | None:
    """Multiply-adds. Raises DTypeError where a shape that they depend on is unknown."""

    def shape(name: str) -> Shape:
        return graph.value(name).shape

    match node.op:
        case "Conv" | "ConvInteger" | "DeformConv":
            # Every output element sums over one filter: input channels of its group times the kernel.
            return _times(shape(node.output(0)), shape(node.input(1))[1:])
        case "QLinearConv":
            return _times(shape(node.output(0)), shape(node.input(3))[1:])
        case "ConvTranspose":
            # Every input element is spread over the filters of its channel.
            return _times(shape(node.input(0)), shape(node.input(1))[1:])
        case "MatMul" | "MatMulInteger" | "Gemm" | "FusedMatMul":
            first = shape(node.input(0))
            inner = first[0] if node.attributes.get("transA") == 1 else first[-1]
            return _times(shape(node.output(0)), (inner,))
        case "QLinearMatMul":
            return _times(shape(node.output(0)), shape(node.input(0))[-1:])
        case "RNN" | "GRU" | "LSTM":
            steps = shape(node.input(0))[:2]
            return product([*steps, _add(product(shape(node.input(1))), product(shape(node.input(2))))])
    return 0


class Sized(Protocol):
    """Anything with an element type and a number of elements."""

    @property
    def dtype(self) -> DType: ...

    @property
    def elements(self) -> Dim: ...


def bytes_of(tensors: Iterable[Sized]) -> int | None:
    """Bytes of some tensors together; None if a size is symbolic."""
    total: Dim = 0
    for tensor in tensors:
        total = total + _stored(tensor.elements, tensor.dtype)
    return total if isinstance(total, int) else None


def _times(first: Shape, second: Shape) -> Dim:
    return product([*first, *second])


def _add(left: Dim, right: Dim) -> Dim:
    return left + right


def _bytes(graph: Graph, names: tuple[str, ...]) -> Dim | None:
    total: Dim = 0
    for name in dict.fromkeys(names):
        if not name:
            continue
        kind = graph.value(name).type
        if not isinstance(kind, TensorType) or kind.shape is None:
            return None
        total = total + _stored(product(kind.shape), kind.dtype)
    return total


def _stored(elements: Dim, dtype: DType) -> Dim:
    return elements * (dtype.bits // 8) if dtype.bits >= 8 else (elements * dtype.bits + 7) // 8


def call_macs(graph: Graph, sources: Sequence[tuple[str, ...]]) -> list[int | None]:
    """Multiply-adds of each kernel call, by the nodes of the model that it covers; None where they are symbolic.

    A contraction that became several calls counts for the first of them.
    """
    costs: dict[str, tuple[Dim | None, int]] = {}
    for number, node in enumerate(graph.nodes):
        macs = _macs(graph, node)
        if macs != 0:
            costs.update(dict.fromkeys(node.source, (macs, number)))
    counted: set[int] = set()
    found: list[int | None] = []
    for names in sources:
        total: Dim | None = 0
        for name in names:
            macs, number = costs.get(name, (0, -1))
            if number in counted or number < 0:
                continue
            counted.add(number)
            total = None if macs is None or total is None else total + macs
        found.append(total if isinstance(total, int) else None)
    return found
