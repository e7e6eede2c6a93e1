"""Gathering, scattering, sorting, and selections whose size depends on the data."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call, show
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


@shape_rule("Gather")
def gather(call: Call) -> list[Shape]:
    """The data's shape with one axis replaced by the indices' shape."""
    data, indices = call.at_least(0, 1), call.shape(1)
    axis = call.axis(call.number("axis", 0), len(data))
    return [(*data[:axis], *indices, *data[axis + 1 :])]


@shape_rule("GatherElements")
def gather_elements(call: Call) -> list[Shape]:
    """The indices' shape."""
    data, indices = call.shape(0), call.shape(1)
    if len(data) != len(indices):
        raise call.shape_error("indices", f"rank {len(data)}", show(indices))
    return [indices]


@shape_rule("GatherND")
def gather_nd(call: Call) -> list[Shape]:
    """indices.shape[:-1] + data.shape[batch_dims + indices.shape[-1]:]."""
    data, indices = call.at_least(0, 1), call.at_least(1, 1)
    depth = indices[-1]
    if not isinstance(depth, int):
        return []
    return [(*indices[:-1], *data[call.number("batch_dims", 0) + depth :])]


@shape_rule(("Scatter", "ScatterElements", "ScatterND"), same=(0, 2))
def scatter(call: Call) -> list[Shape]:
    """The data's shape."""
    return [call.shape(0)]


@shape_rule("OneHot", dtype=2)
def one_hot(call: Call) -> list[Shape]:
    """The indices' shape with `depth` inserted at `axis`."""
    indices = call.shape(0)
    axis = call.axis(call.number("axis", -1), len(indices) + 1)
    depth = call.scalar(1)
    return [(*indices[:axis], call.fresh(axis) if depth is None else depth, *indices[axis:])]


@shape_rule("TopK", dtype=(0, DType.INT64))
def top_k(call: Call) -> list[Shape]:
    """The input's shape with k along one axis, for values and indices."""
    shape = call.at_least(0, 1)
    axis = call.axis(call.number("axis", -1), len(shape))
    k: Dim | None = call.number("k", 0) if call.opset < 10 else call.scalar(1)
    if isinstance(k, int) and isinstance(shape[axis], int) and k > shape[axis]:  # type: ignore[operator]  # a number, as was asked before
        raise call.shape_error("k", f"at most {shape[axis]}", str(k))
    result = (*shape[:axis], call.fresh(axis) if k is None else k, *shape[axis + 1 :])
    return [result, result]


@shape_rule("NonZero", dtype=DType.INT64)
def non_zero(call: Call) -> list[Shape]:
    """[rank, number of elements that are not zero]."""
    return [(len(call.shape(0)), call.fresh(1))]


@shape_rule("Compress")
def compress(call: Call) -> list[Shape]:
    """As many slices along `axis`, or elements, as the condition selects."""
    axis = call.attribute("axis")
    if not isinstance(axis, int):
        return [(call.fresh(0),)]
    shape = call.shape(0)
    normal = call.axis(axis, len(shape))
    return [tuple(call.fresh(other) if other == normal else dim for other, dim in enumerate(shape))]


@shape_rule("Unique", dtype=(0, DType.INT64))
def unique(call: Call) -> list[Shape]:
    """The unique elements or slices, their first positions, where each came from, their counts."""
    shape = call.shape(0)
    axis = call.attribute("axis")
    if not isinstance(axis, int):
        count: Dim = call.fresh(0)
        inverse: Dim = 1
        for dim in shape:
            inverse = inverse * dim
        return [(count,), (count,), (inverse,), (count,)]
    normal = call.axis(axis, len(shape))
    count = call.fresh(normal)
    first = tuple(count if other == normal else dim for other, dim in enumerate(shape))
    return [first, (count,), (shape[normal],), (count,)]


@shape_rule("NonMaxSuppression", dtype=DType.INT64)
def non_max_suppression(call: Call) -> list[Shape]:
    """[number selected, 3]."""
    return [(call.fresh(0), 3)]
