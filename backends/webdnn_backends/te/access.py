"""From logical indices to flat element positions in storage."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_backends.ir.build import add, dim, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.te.implementation import Layout, ScheduleContext
from webdnn_onnx.symbolic import Dim

__all__ = ["position", "strides_of"]


def strides_of(shape: Sequence[Dim], layout: Layout) -> tuple[Dim, ...]:
    """Elements between neighbours along each logical axis of a dense tensor stored in the given axis order."""
    strides: list[Dim] = [0] * len(shape)
    step: Dim = 1
    for axis in reversed(layout):
        strides[axis] = step
        step = step * shape[axis]
    return tuple(strides)


def position(context: ScheduleContext, tensor: str, indices: Sequence[Expr]) -> Expr:
    """The flat element position of logical indices in a tensor as it is stored."""
    shape = context.tensors[tensor].shape
    total: Expr = Const(0)
    for index, stride in zip(indices, strides_of(shape, context.layout(tensor)), strict=True):
        total = add(total, mul(index, dim(stride)))
    return total
