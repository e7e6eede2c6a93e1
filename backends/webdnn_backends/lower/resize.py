"""Resize and Upsample: each axis by a table of taps and weights, computed here where sizes are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, f32
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.registry import lowering
from webdnn_backends.lower.resize_dynamic import (
    Sampling,
    at_run_time,
    by_sizes,
    finished,
    measured,
    symbolic,
    type_of,
    widened,
)
from webdnn_onnx.dtypes import DType

__all__ = ["taps"]

Array = npt.NDArray[np.float64]


def coordinates(transform: str, size: int, count: int, scale: float, start: float, end: float) -> Array:
    """Where in the input each output position lies (Resize, coordinate_transformation_mode)."""
    at = np.arange(count, dtype=np.float64)
    if transform == "half_pixel":
        return (at + 0.5) / scale - 0.5
    if transform == "half_pixel_symmetric":
        adjustment = count / (scale * size)
        return size / 2 * (1 - adjustment) + (at + 0.5) / scale - 0.5
    if transform == "pytorch_half_pixel":
        return (at + 0.5) / scale - 0.5 if count > 1 else np.zeros(1)
    if transform == "align_corners":
        return at * (size - 1) / (scale * size - 1) if count > 1 else np.zeros(1)
    if transform == "tf_half_pixel_for_nn":
        return (at + 0.5) / scale
    if transform == "tf_crop_and_resize":
        if count == 1:
            return np.full(1, 0.5 * (start + end) * (size - 1))
        return start * (size - 1) + at * (end - start) * (size - 1) / (count - 1)
    return at / scale


_ROUND: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def taps(sampling: Sampling, x: Array, size: int, scale: float) -> tuple[npt.NDArray[np.int32], Array]:
    """Input positions and weights of every output position, each [outputs, taps]."""
    if sampling.mode == "nearest":
        # Positions are rounded as float32. Before version 11: to the sample before, or after where the axis shrinks.
        simple = "ceil" if scale < 1 else "floor"
        single = x.astype(np.float32).astype(np.float64)
        rounded = _ROUND[simple if sampling.nearest == "simple" else sampling.nearest](single)
        nearest = np.clip(rounded, 0, size - 1).astype(np.int32)
        return nearest[:, None], np.ones((len(x), 1))
    stretch = min(scale, 1.0) if sampling.antialias else 1.0
    radius = (1.0 if sampling.mode == "linear" else 2.0) / stretch
    reach = int(np.ceil(radius))
    first = np.floor(x).astype(np.int64) - reach + 1
    positions = first[:, None] + np.arange(2 * reach)
    distance = np.abs(positions - x[:, None]) * stretch
    weights = np.clip(1 - distance, 0, None) if sampling.mode == "linear" else _cubic(distance, sampling.cubic_a)
    if sampling.exclude_outside:
        weights = np.where((positions >= 0) & (positions < size), weights, 0.0)
    if sampling.exclude_outside or sampling.antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    return np.clip(positions[:, used], 0, size - 1).astype(np.int32), weights[:, used]


def _cubic(d: Array, a: float) -> Array:
    """Keys' kernel (R. Keys, Cubic convolution interpolation, 1981)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@lowering("Resize", since=10)
@lowering("Upsample", since=1)
def _resize(context: NodeContext) -> None:
    modern = context.node.op == "Resize" and context.node.opset >= 11
    mode = context.attribute("mode", "nearest")
    sampling = Sampling(
        {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode),
        context.attribute("coordinate_transformation_mode", "half_pixel") if modern else "asymmetric",
        context.attribute("nearest_mode", "round_prefer_floor") if modern else "simple",
        context.attribute("cubic_coeff_a", -0.75),
        bool(context.attribute("exclude_outside", 0)),
        bool(context.attribute("antialias", 0)),
    )
    rank = context.rank(0)
    if measured(context, modern):
        at_run_time(context, sampling)
        return
    _measure_inexact(context, modern)
    scales = resize_scales(context, modern)
    resized = [
        axis for axis in range(rank) if scales[axis] != 1.0 or context.shape(0)[axis] != context.output().shape[axis]
    ]
    known_region = sampling.transform != "tf_crop_and_resize" or context.constant(1) is not None
    if known_region and all(
        isinstance(context.shape(0)[axis], int) and isinstance(context.output().shape[axis], int) for axis in resized
    ):
        _static(context, sampling, scales, resized)
    else:
        symbolic(context, sampling, scales, resized)


def _measure_inexact(context: NodeContext, modern: bool) -> None:
    """The sizes that no expression states, because a scale is no simple fraction: floor(size * scale) in float32."""
    unknown = context.state.unknown_sizes(context.node.outputs[0])
    if not unknown:
        return
    factors = dict(zip(resized_axes(context), given_scales(context, modern) or (), strict=False))
    shape, axes = context.shape(0), sorted(axis for axis in unknown if axis in factors)
    measures = {}
    for axis in axes:
        whole = apply(Op.MUL, cast(DType.FLOAT32, build.dim(shape[axis])), f32(factors[axis]))
        size = context.temporary(DType.INT64, (1,), lambda _, whole=whole: cast(DType.INT64, apply(Op.FLOOR, whole)))  # type: ignore[misc]  # a default binds the loop's value
        measures[axis] = (size, 0)
    context.measure(measures)


def resized_axes(context: NodeContext) -> list[int]:
    """The axes that the scales or sizes are for."""
    rank = context.rank(0)
    return [context.axis(axis, rank) for axis in context.attribute("axes", tuple(range(rank)))]


def given_scales(context: NodeContext, modern: bool) -> Sequence[float] | None:
    """The scales where the model holds them."""
    if "scales" in context.node.attributes:
        return context.attribute("scales", (1.0,) * context.rank(0))
    if context.node.op == "Upsample" and context.node.opset < 7:
        return [1.0, 1.0, context.attribute("height_scale", 1.0), context.attribute("width_scale", 1.0)]
    index = 2 if modern else 1
    array = context.constant(index) if context.has(index) else None
    return [float(scale) for scale in array] if array is not None and array.size else None


def resize_scales(context: NodeContext, modern: bool) -> list[float | None]:
    """The scale of each axis; None where only the sizes are known, and those at run time."""
    rank = context.rank(0)
    axes, given = resized_axes(context), given_scales(context, modern)
    scales: list[float | None] = [1.0] * rank
    for position, axis in enumerate(axes):
        before, after = context.shape(0)[axis], context.output().shape[axis]
        if given is not None:
            scales[axis] = given[position]
        elif isinstance(before, int) and isinstance(after, int):
            scales[axis] = after / before if before else 1.0
        else:
            scales[axis] = 1.0 if before == after else None
    policy = context.attribute("keep_aspect_ratio_policy", "stretch")
    known = [scale for axis, scale in enumerate(scales) if axis in axes and scale is not None]
    if given is None and policy != "stretch" and known:
        sizes = context.integers(3) or ()
        ratios = [
            size / before
            for size, before in zip(sizes, (context.shape(0)[axis] for axis in axes), strict=False)
            if isinstance(size, int) and isinstance(before, int)
        ]
        common = min(ratios) if policy == "not_larger" else max(ratios)
        for axis in axes:
            scales[axis] = common
    return scales


def _static(context: NodeContext, sampling: Sampling, scales: Sequence[float | None], resized: Sequence[int]) -> None:
    roi = context.constant(1) if sampling.transform == "tf_crop_and_resize" else None
    axes = list(context.attribute("axes", tuple(range(context.rank(0)))))
    positions: dict[int, npt.NDArray[np.int32]] = {}
    weights: dict[int, Array] = {}
    outside: dict[int, npt.NDArray[np.bool_]] = {}
    for axis in resized:
        size, count = context.shape(0)[axis], context.output().shape[axis]
        assert isinstance(size, int), "the caller checked"
        assert isinstance(count, int), "the caller checked"
        where = axes.index(axis)
        start, end = (float(roi[where]), float(roi[where + len(axes)])) if roi is not None and roi.size else (0.0, 1.0)
        scale = scales[axis]
        assert scale is not None, "static sizes give a scale"
        ratio = count / size if by_sizes(context) and sampling.transform == "align_corners" else scale
        x = coordinates(sampling.transform, size, count, ratio, start, end)
        if sampling.transform == "tf_crop_and_resize":
            outside[axis] = (x < 0) | (x > size - 1)
        positions[axis], weights[axis] = taps(sampling, x, size, scale)
    index_of = {axis: _index_map(context, table) for axis, table in positions.items()}
    weight_of = {axis: context.table(table.astype(np.float32)) for axis, table in weights.items() if table.shape[1] > 1}
    several = [axis for axis in resized if positions[axis].shape[1] > 1]
    masks = {axis: context.table(mask) for axis, mask in outside.items() if mask.any()}

    def body(i: Indices) -> Expr:
        def sample(k: Indices) -> Expr:
            at = list(i)
            factor: Expr | None = None
            for axis in resized:
                tap = k[several.index(axis)] if axis in several else Const(0)
                at[axis] = index_of[axis](i[axis], tap)
                if axis in several:
                    weight = context.read(weight_of[axis], [i[axis], tap])
                    factor = weight if factor is None else apply(Op.MUL, factor, weight)
            x = context.element(0, at)
            if factor is None:
                return x
            return apply(Op.MUL, widened(x), cast(type_of(x), factor))

        total = context.sum([positions[axis].shape[1] for axis in several], sample) if several else sample(())
        for axis, mask in masks.items():
            fill = context.attribute("extrapolation_value", 0.0)
            total = build.select(context.read(mask, [i[axis]]), like(total, fill), total)
        return finished(context, total, rounds=sampling.antialias)

    context.emit(body)


def _index_map(context: NodeContext, table: npt.NDArray[np.int32]):  # type: ignore[no-untyped-def]  # a closure of two shapes
    """The input position by output position and tap: a quotient where the table is one, else the table itself."""
    count, width = table.shape
    if width == 1:
        column = table[:, 0]
        for factor in (1, 2, 3, 4, 8):
            if np.array_equal(column, np.arange(count) // factor):
                return lambda o, _tap: build.floor_div(o, factor)
        if count > 1 and np.array_equal(column, column[0] + np.arange(count) * (column[1] - column[0])):
            step, first = int(column[1] - column[0]), int(column[0])
            return lambda o, _tap: build.add(build.mul(o, step), first)
    name = context.table(table)
    return lambda o, tap: context.read(name, [o, tap])
