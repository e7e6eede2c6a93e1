"""com.microsoft and former ai.onnx operators that are operators of ai.onnx under another name or with other outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.movement import is_axis
from webdnn_backends.lower.registry import LOWERINGS, lowering
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


def _lower_as(context: NodeContext, op: str, opset: int, outputs: Sequence[str] | None = None) -> None:
    """Lower the node as another operator of ai.onnx. outputs: their names there, "" where one is not wanted."""
    names = context.node.outputs if outputs is None else tuple(outputs)
    node = replace(context.node, op=op, domain="", opset=opset, outputs=names)
    LOWERINGS.get(op, opset)(NodeContext(context.state, node))


@lowering("Pad", domain=MS)
def _pad(context: NodeContext) -> None:
    _lower_as(context, "Pad", 11)


@lowering("DynamicSlice")
def _dynamic_slice(context: NodeContext) -> None:
    _lower_as(context, "Slice", 10)


@lowering("Unique", domain=MS)
def _unique(context: NodeContext) -> None:
    y, places, counts = (context.node.output(index) for index in range(3))
    node = replace(context.node, attributes={"sorted": 0})
    _lower_as(NodeContext(context.state, node), "Unique", 11, (y, "", places, counts))


@lowering("ExpandDims", domain=MS)
def _expand_dims(context: NodeContext) -> None:
    shape = context.shape(0)
    rank = len(shape) + 1
    given = context.integers(1, 1)
    if given is None:
        raise context.unsupported("an axis of unknown size")
    sizes: dict[int, Dim] = {}
    passed: Dim = 0
    for axis in range(rank):
        here = is_axis(given[0], axis, rank)
        before = shape[axis] if axis < rank - 1 else 1
        sizes[axis] = here + passed * (shape[axis - 1] if axis else 1) + (1 - here - passed) * before
        passed = passed + here
    context.define(sizes)
    _lower_as(context, "Reshape", 13)
