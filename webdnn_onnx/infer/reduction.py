"""Reductions along axes that are attributes, constants, or known only at run time."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.infer.shapes import compacted, is_axis, normal_axes, remove_axes
from webdnn_onnx.symbolic import Dim, minimum, select

__all__ = ["reduced"]

_AXES_INPUT_SINCE = 18


@shape_rule(
    (
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
    )
)
def reduce_1(call: Call) -> list[Shape]:
    """Axes are an attribute; none means all."""
    return [reduced(call, call.numbers("axes"))]


@shape_rule("ReduceSum", since=13)
@shape_rule(
    (
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSumSquare"),
    ),
    since=_AXES_INPUT_SINCE,
)
def reduce(call: Call) -> list[Shape]:
    """Axes are an input; none, or an empty one, means all, or none with `noop_with_empty_axes`."""
    axes = call.elements(1) if call.has(1) else ()
    if axes is None:
        shape = call.shape(0)
        if not call.number("keepdims", 1):
            return []
        return [tuple(call.fresh(axis) for axis in range(len(shape)))]
    if not axes:
        return [call.shape(0) if call.number("noop_with_empty_axes", 0) else reduced(call, None)]
    return [reduced(call, axes)]


def reduced(call: Call, axes: tuple[Dim, ...] | None) -> Shape:
    """The input's shape with these axes (None: all) 1, or gone where `keepdims` is 0."""
    shape = call.shape(0)
    keep = call.number("keepdims", 1)
    fixed = range(len(shape)) if axes is None else [axis for axis in axes if isinstance(axis, int)]
    if axes is None or len(fixed) == len(axes):
        normal = normal_axes(call, fixed, len(shape))
        if keep:
            return tuple(1 if axis in normal else dim for axis, dim in enumerate(shape))
        return remove_axes(shape, normal)
    flags = [_is_reduced(axis, axes, len(shape)) for axis in range(len(shape))]
    if keep:
        return tuple(select(flag, 1, dim) for flag, dim in zip(flags, shape, strict=True))
    return compacted(shape, flags, len(shape) - len(axes))


def _is_reduced(axis: int, axes: tuple[Dim, ...], rank: int) -> Dim:
    total: Dim = 0
    for given in axes:
        total = total + is_axis(given, axis, rank)
    return total if len(axes) == 1 else minimum(total, 1)


@shape_rule(("ArgMax", "ArgMin"), dtype=DType.INT64)
def arg_extremum(call: Call) -> list[Shape]:
    """The input's shape with one axis 1, or gone."""
    return [reduced(call, (call.number("axis", 0),))]
