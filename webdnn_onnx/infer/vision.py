"""Resizing, grids and images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call, show
from webdnn_onnx.infer.movement import unknown
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.infer.shapes import normal_axes
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_EXACT_DENOMINATOR = 1024


def _scaled(call: Call, shape: Shape, scales: Sequence[float]) -> Shape:
    if len(scales) != len(shape):
        raise call.shape_error("scales", f"{len(shape)} values", str(len(scales)))
    return tuple(
        _scaled_dim(call, axis, dim, scale) for axis, (dim, scale) in enumerate(zip(shape, scales, strict=True))
    )


def _scaled_dim(call: Call, axis: int, dim: Dim, scale: float) -> Dim:
    """floor(dim * scale), the product rounded to float32 as implementations do."""
    if isinstance(dim, int):
        return math.floor(np.float32(dim) * np.float32(scale))
    exact = Fraction(scale)
    if exact.denominator > _EXACT_DENOMINATOR:
        return call.fresh(axis)
    return dim * exact.numerator // exact.denominator


def _scales_input(call: Call, index: int) -> tuple[float, ...] | None:
    array = call.array(index)
    return None if array is None else tuple(float(scale) for scale in array.reshape(-1))


def _is_given(call: Call, index: int) -> bool:
    """Whether an optional input is present; exporters write an absent one also as an empty tensor."""
    if not call.has(index):
        return False
    array = call.array(index)
    return array is None or array.size > 0


@shape_rule("Upsample")
def upsample_1(call: Call) -> list[Shape]:
    """Scales are attributes."""
    shape = call.shape(0)
    scales = call.attribute("scales")
    if isinstance(scales, tuple):
        return [_scaled(call, shape, [float(scale) for scale in scales if isinstance(scale, int | float)])]
    height, width = call.attribute("height_scale"), call.attribute("width_scale")
    if not isinstance(height, int | float) or not isinstance(width, int | float):
        raise call.shape_error("scales", "an attribute", "none")
    return [_scaled(call, shape, (1.0,) * (len(shape) - 2) + (float(height), float(width)))]


@shape_rule("Upsample", since=9)
@shape_rule("Resize", since=10)
def resize_10(call: Call) -> list[Shape]:
    """floor(size * scale) along each axis."""
    shape = call.shape(0)
    scales = _scales_input(call, 1)
    return [unknown(call, len(shape)) if scales is None else _scaled(call, shape, scales)]


@shape_rule("Resize", since=11)
def resize(call: Call) -> list[Shape]:
    """The given sizes, or floor(size * scale), along each axis or each of `axes`."""
    shape = call.shape(0)
    given = call.numbers("axes")
    axes = normal_axes(call, given, len(shape)) if given is not None else tuple(range(len(shape)))
    result = list(shape)
    if _is_given(call, 3):
        sizes = call.elements(3, len(axes))
        if sizes is not None and len(sizes) != len(axes):
            raise call.shape_error("sizes", f"{len(axes)} values", str(len(sizes)))
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if sizes is not None and policy != "stretch":
            return [_kept_aspect(call, shape, axes, sizes, policy)]
        for position, axis in enumerate(axes):
            result[axis] = call.fresh(axis) if sizes is None else sizes[position]
        return [tuple(result)]
    scales = _scales_input(call, 2)
    if scales is None:
        for axis in axes:
            result[axis] = call.fresh(axis)
        return [tuple(result)]
    if len(scales) != len(axes):
        raise call.shape_error("scales", f"{len(axes)} values", str(len(scales)))
    for axis, scale in zip(axes, scales, strict=True):
        result[axis] = _scaled_dim(call, axis, shape[axis], scale)
    return [tuple(result)]


def _kept_aspect(call: Call, shape: Shape, axes: Sequence[int], sizes: Sequence[Dim], policy: str) -> Shape:
    """All axes scaled by the smallest (`not_larger`) or largest ratio, rounded half up."""
    result = list(shape)
    ratios: list[Fraction] = []
    for axis, size in zip(axes, sizes, strict=True):
        dim = shape[axis]
        if isinstance(dim, int) and isinstance(size, int) and dim:
            ratios.append(Fraction(size, dim))
    known = len(ratios) == len(axes) and len(axes) > 0
    for axis in axes:
        dim = shape[axis]
        if known and isinstance(dim, int):
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            result[axis] = math.floor(dim * ratio + Fraction(1, 2))
        else:
            result[axis] = call.fresh(axis)
    return tuple(result)


@shape_rule("GridSample", since=16)
def grid_sample(call: Call) -> list[Shape]:
    """[N, C, *grid.shape[1:-1]]."""
    x, grid = call.at_least(0, 3), call.at_least(1, 3)
    if len(x) != len(grid):
        raise call.shape_error("grid", f"rank {len(x)}", show(grid))
    return [(*x[:2], *grid[1:-1])]


@shape_rule("AffineGrid")
def affine_grid(call: Call) -> list[Shape]:
    """[N, H, W, 2] or [N, D, H, W, 3] for size [N, C, (D,) H, W]."""
    places = {2: 4, 3: 5}
    theta = call.ranked(0, 3)[1]
    size = call.elements(1, places.get(theta) if isinstance(theta, int) else None)
    if size is None:
        return []
    return [(size[0], *size[2:], len(size) - 2)]


@shape_rule("ImageDecoder", dtype=DType.UINT8)
def image_decoder(call: Call) -> list[Shape]:
    """[height, width, channels]."""
    channels = 1 if call.text("pixel_format", "RGB") == "Grayscale" else 3
    return [(call.fresh(0), call.fresh(1), channels)]
