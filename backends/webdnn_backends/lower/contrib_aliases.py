"""com.microsoft and former ai.onnx operators that are operators of ai.onnx under another name or with other outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.movement import is_axis
from webdnn_backends.lower.registry import LOWERINGS, lowering
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


def _lower_as(
    context: NodeContext,
    op: str,
    opset: int,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Lower the node as another operator of ai.onnx. inputs, outputs: their names there, "" for an absent one."""
    node = replace(
        context.node,
        op=op,
        domain="",
        opset=opset,
        inputs=context.node.inputs if inputs is None else tuple(inputs),
        outputs=context.node.outputs if outputs is None else tuple(outputs),
        attributes=context.node.attributes if attributes is None else dict(attributes),
    )
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
    _lower_as(context, "Unique", 11, outputs=(y, "", places, counts), attributes={"sorted": 0})


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


@lowering("Rfft", domain=MS)
def _rfft(context: NodeContext) -> None:
    _expect_plain(context)
    shape = context.shape(0)
    signal = context.temporary(context.dtype(0), (*shape, 1), lambda i: context.element(0, i[:-1]))
    _lower_as(context, "DFT", 17, inputs=(signal,), attributes={"axis": len(shape) - 1, "onesided": 1})


@lowering("Irfft", domain=MS)
def _irfft(context: NodeContext) -> None:
    _expect_plain(context)
    shape = context.output().shape
    signal = context.scratch(context.output().dtype, (*shape, 1))
    attributes = {"axis": len(shape) - 1, "onesided": 1, "inverse": 1}
    _lower_as(context, "DFT", 17, outputs=(signal.name,), attributes=attributes)
    context.emit(lambda i: context.read(signal.name, [*i, 0]))


def _expect_plain(context: NodeContext) -> None:
    """Raises InvalidModelError for a form of the transform that nothing writes."""
    defaults = {"normalized": 0, "onesided": 1, "signal_ndim": 1}
    given = {name: context.attribute(name, value) for name, value in defaults.items()}
    if given != defaults:
        raise InvalidModelError(f"{context.where}: attributes: expected {defaults}, got {given}")
