"""Grouped convolutions as batches of products: the channels of the output become two axes, group and channel in it."""

from __future__ import annotations

from dataclasses import replace

from webdnn_backends.ir.build import add, mul
from webdnn_backends.ir.loops import Axis
from webdnn_backends.ir.rewrite import substitute
from webdnn_backends.te.implementation import ScheduleContext
from webdnn_backends.te.simplify import simplify
from webdnn_backends.te.tensors import ConvHint, Stage

__all__ = ["by_group"]


def by_group(stage: Stage, hint: ConvHint, context: ScheduleContext) -> tuple[Stage, ScheduleContext]:
    """The stage, and what its schedule looks at, with the groups as an axis of their own, in the same storage."""
    batch, channel, *places = stage.axes
    output = context.tensors[stage.output]
    filters = context.tensors[hint.w].shape[0]
    if channel.extent != filters or not isinstance(filters, int):
        return stage, context
    width = filters // hint.group
    group, own = Axis("group", hint.group), Axis("own", width)
    axes = (batch, group, own, *places)
    body = simplify(substitute(stage.body, {channel.name: add(mul(group.var, width), own.var)}), axes)
    shape = (output.shape[0], group.extent, own.extent, *output.shape[2:])
    layout = tuple(
        at for axis in context.layout(stage.output) for at in ((1, 2) if axis == 1 else (axis + (axis > 1),))
    )
    tensors = {**context.tensors, stage.output: replace(output, shape=shape)}
    changed = replace(context, tensors=tensors, layouts={**context.layouts, stage.output: layout})
    return replace(stage, axes=axes, body=body), changed
