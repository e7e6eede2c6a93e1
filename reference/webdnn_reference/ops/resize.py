"""Resize and Upsample.

Every mode is separable: along each axis an output sample is a weighted sum of a few input samples (its taps), so the
tensor is resampled one axis after the other, a slab of output samples at a time, which bounds the memory. Coordinates
are computed in float64, except that nearest neighbour with `scales` computes in their own type, float32: there
coordinates half way between two samples come out half way.

A length is floor(length * scale) for the very float32 value of `scale`, as in ONNX shape inference: 10 times 0.7 is 6.
Like shape inference it leaves the region of tf_crop_and_resize out of account.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, axes_of, is_integer, narrow, saturate, widen
from webdnn_reference.registry import op

__all__ = ["Resampling", "cubic_kernel", "resample", "resize", "resize_10", "upsample_1", "upsample_7", "upsample_9"]

_SLAB_ELEMENTS = 1 << 15
_Step: TypeAlias = tuple[int, Array, Array]
"""An axis, and the indices and weights [resized, taps] of what makes each output sample along it."""


@dataclass(frozen=True)
class Resampling:
    """The attributes that say how samples are taken; named as in ONNX. "simple" is the nearest mode of opset 10."""

    mode: str = "nearest"
    coordinate_transformation_mode: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: int = 0
    extrapolation_value: float = 0.0
    antialias: int = 0


@dataclass(frozen=True)
class _Axis:
    """One axis to resample: lengths before and after, their ratio, and the region of tf_crop_and_resize.

    scale is float32 where it was given as such, float64 where it was computed from sizes.
    """

    axis: int
    length: int
    resized: int
    scale: np.floating[Any]
    start: float = 0.0
    end: float = 1.0


@op("Resize", 10)
def resize_10(X: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """The input resampled at x / scale; nearest takes the sample before, or after where an axis shrinks.

    X: any[d1..dr], scales: float32[r] -> same dtype [floor(d1 * scale1)..]. Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__Resize.html#resize-10
    """
    return _resize_asymmetric(X, scales, mode, "Resize")


@op("Upsample", 1)
def upsample_1(X: Array, *, width_scale: float, height_scale: float, mode: str = "nearest") -> Array:
    """An image [N, C, H, W] enlarged by nearest neighbour or bilinear interpolation.

    Spec: https://onnx.ai/onnx/operators/onnx__Upsample.html#upsample-1
    """
    return _resize_asymmetric(X, np.array([1, 1, height_scale, width_scale], np.float32), mode)


@op("Upsample", 7)
def upsample_7(X: Array, *, scales: Sequence[float], mode: str = "nearest") -> Array:
    """A tensor enlarged by nearest neighbour or N-linear interpolation.

    Spec: https://onnx.ai/onnx/operators/onnx__Upsample.html#upsample-7
    """
    return _resize_asymmetric(X, np.array(scales, np.float32), mode)


@op("Upsample", (9, 10))
def upsample_9(X: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """A tensor enlarged by nearest neighbour or N-linear interpolation; deprecated since version 10.

    Spec: https://onnx.ai/onnx/operators/onnx__Upsample.html#upsample-9
    """
    return _resize_asymmetric(X, scales, mode)


@op("Resize", (11, 13, 18, 19))
def resize(
    X: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Array:
    """The input resampled to other lengths, by nearest neighbour, N-linear or N-cubic interpolation.

    X: any (numbers for linear and cubic) [d1..dr]; roi: [2k], scales: float32[k] or sizes: int64[k], k = len(axes)
    -> same dtype and rank. Interpolated integers are cut off towards zero; with antialias they are rounded.
    align_corners with fractional scales divides by length * scale - 1, as the node tests do.
    Raises ShapeError, InvalidModelError, DTypeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Resize.html#resize-19
    """
    chosen = axes_of(range(X.ndim) if axes is None else axes, X.ndim)
    how = Resampling(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        exclude_outside,
        extrapolation_value,
        antialias,
    )
    lengths = np.array([X.shape[axis] for axis in chosen], np.int64)
    regions = _regions(roi, len(chosen), coordinate_transformation_mode)
    given = scales is not None and scales.size > 0
    if given == (sizes is not None and sizes.size > 0) and len(chosen) > 0:
        raise InvalidModelError("expected one of scales and sizes, got " + ("both" if given else "neither"))
    if given and scales is not None:
        _expect_length("scales", scales, len(chosen))
        factors = scales.astype(np.float32)
        resized = np.floor(lengths * factors.astype(np.float64)).astype(np.int64)
        ratios: Array = factors
    else:
        wanted = np.zeros(0, np.int64) if sizes is None else sizes.astype(np.int64)
        _expect_length("sizes", wanted, len(chosen))
        resized, ratios = _sizes_to_scales(lengths, wanted, keep_aspect_ratio_policy)
    plan = [
        _Axis(axis, int(lengths[i]), int(resized[i]), ratios[i], float(regions[0][i]), float(regions[1][i]))
        for i, axis in enumerate(chosen)
    ]
    return resample(X, plan, how)


def resample(X: Array, plan: Sequence[_Axis], how: Resampling) -> Array:
    """Resample the axes of `plan` one after the other."""
    if how.mode not in ("nearest", "linear", "bilinear", "cubic"):
        raise InvalidModelError(f"mode: expected nearest, linear or cubic, got {how.mode!r}")
    shape = list(X.shape)
    for item in plan:
        given = type(item.scale) is np.float32
        if item.resized < 0 or not item.scale >= 0 or (given and item.scale == 0):
            raise ShapeError(
                f"axis {item.axis}: expected a positive scale or size, got {item.scale} and {item.resized}"
            )
        shape[item.axis] = item.resized
    if 0 in shape:
        return np.empty(shape, X.dtype)
    if X.size == 0:
        raise ShapeError(f"X: expected elements to make {shape} of, got shape {list(X.shape)}")
    positions = [_coordinates(item, how) for item in plan]
    if how.mode == "nearest":
        y = X
        for item, x in zip(plan, positions, strict=True):
            y = np.take(y, _nearest(x, item, how), axis=item.axis)
    else:
        y = _interpolate(X, plan, positions, how)
    if how.coordinate_transformation_mode == "tf_crop_and_resize":
        outside = np.zeros(shape, np.bool_)
        for item, x in zip(plan, positions, strict=True):
            beyond = (x < 0) | (x > item.length - 1)
            outside |= beyond.reshape([-1 if axis == item.axis else 1 for axis in range(X.ndim)])
        y = np.where(outside, np.array(how.extrapolation_value).astype(X.dtype), y)
    return y


def _interpolate(X: Array, plan: Sequence[_Axis], positions: Sequence[Array], how: Resampling) -> Array:
    if X.dtype.kind in "bO":
        raise DTypeError(f"X: expected numbers for mode {how.mode}, got {X.dtype}")
    working = np.dtype(np.float64) if is_integer(X) else widen(X[:0]).dtype
    changed = [
        (item, x)
        for item, x in zip(plan, positions, strict=True)
        if item.length != item.resized or not np.array_equal(x, np.arange(item.length))
    ]
    if not changed:
        return _rounded(X.astype(working), X.dtype, how)
    lead = min(item.axis for item, _ in changed)
    x = X.reshape(-1, *X.shape[lead:])
    steps: list[_Step] = []
    shape, most = list(x.shape[1:]), 0
    for item, places in changed:
        indices, weights = _taps(places, item, how)
        steps.append((item.axis - lead + 1, indices, weights.astype(np.zeros(0, working).real.dtype)))
        shape[item.axis - lead] = item.resized
        most = max(most, math.prod(shape))
    if most * len(x) <= 2 * _SLAB_ELEMENTS:
        for step in steps:
            x = _weighted(x, step, working)
        return _rounded(x, X.dtype, how).reshape(*X.shape[:lead], *shape)
    (axis, indices, weights), *others = steps
    result = np.empty((len(x), *shape), X.dtype)
    members = max(1, _SLAB_ELEMENTS // most)
    samples = max(1, _SLAB_ELEMENTS * len(indices) // most)
    for first, start in itertools.product(range(0, len(x), members), range(0, len(indices), samples)):
        part = slice(start, start + samples)
        y = _weighted(x[first : first + members], (axis, indices[part], weights[part]), working)
        for step in others:
            y = _weighted(y, step, working)
        result[(slice(first, first + members), *(slice(None),) * (axis - 1), part)] = _rounded(y, X.dtype, how)
    return result.reshape(*X.shape[:lead], *shape)


def _weighted(x: Array, step: _Step, working: np.dtype[Any]) -> Array:
    """x resampled along one axis, in the working type."""
    axis, indices, weights = step
    if x.dtype != working:
        least, span = indices.min(), np.ptp(indices) + 1
        if span < indices.size:
            x = x[(slice(None),) * axis + (slice(least, least + span),)].astype(working)
            indices = indices - least
    column = [-1 if each == axis else 1 for each in range(x.ndim)]
    total: Array | None = None
    for tap in range(indices.shape[1]):
        taken = np.take(x, indices[:, tap], axis=axis).astype(working, copy=False)
        taken *= weights[:, tap].reshape(column)
        # The sum begins at 0, so that no sum of zeros is -0.
        total = np.add(taken, 0 if total is None else total, out=taken)
    assert total is not None, "an output sample has a tap"
    return total


def _rounded(y: Array, dtype: np.dtype[Any], how: Resampling) -> Array:
    if is_integer(dtype):
        return saturate(np.rint(y) if how.antialias else np.trunc(y), dtype)
    return narrow(y, dtype)


def _coordinates(item: _Axis, how: Resampling) -> Array:
    """Where in the input, in units of samples, each output sample along an axis lies."""
    kind = type(item.scale) if how.mode == "nearest" else np.float64
    x = np.arange(item.resized, dtype=kind)
    scale, half, last = kind(item.scale), kind(0.5), kind(item.length - 1)
    positions: Array
    match how.coordinate_transformation_mode:
        case "half_pixel":
            positions = (x + half) / scale - half
        case "half_pixel_symmetric":
            adjustment = kind(item.resized) / (scale * kind(item.length))
            offset = kind(item.length / 2) * (1 - adjustment)
            positions = offset + (x + half) / scale - half
        case "pytorch_half_pixel":
            positions = (x + half) / scale - half if item.resized > 1 else np.zeros_like(x)
        case "align_corners":
            fractional = type(item.scale) is np.float32
            steps = (scale * kind(item.length) if fractional else kind(item.resized)) - 1
            positions = x * last / steps if item.resized > 1 else np.zeros_like(x)
        case "asymmetric":
            positions = x / scale
        case "tf_half_pixel_for_nn":
            positions = (x + half) / scale
        case "tf_crop_and_resize":
            start, end = kind(item.start), kind(item.end)
            if item.resized > 1:
                positions = start * last + x * (end - start) * last / kind(item.resized - 1)
            else:
                positions = np.full_like(x, half * (start + end) * last)
        case other:
            raise InvalidModelError(f"coordinate_transformation_mode: expected a known one, got {other!r}")
    return positions.astype(np.float32) if how.mode == "nearest" else positions


def _nearest(x: Array, item: _Axis, how: Resampling) -> Array:
    index: Array
    match how.nearest_mode:
        case "round_prefer_floor":
            index = np.ceil(x - x.dtype.type(0.5))
        case "round_prefer_ceil":
            index = np.floor(x + x.dtype.type(0.5))
        case "floor":
            index = np.floor(x)
        case "ceil":
            index = np.ceil(x)
        case "simple":
            index = np.ceil(x) if item.scale < 1 else np.floor(x)
        case other:
            raise InvalidModelError(
                f"nearest_mode: expected round_prefer_floor, round_prefer_ceil, floor or ceil, got {other!r}"
            )
    return np.clip(index, 0, item.length - 1).astype(np.int64)


def _taps(x: Array, item: _Axis, how: Resampling) -> tuple[Array, Array]:
    """Indices and weights [resized, taps] of the input samples that make each output sample."""
    cubic = how.mode == "cubic"
    stretch = min(float(item.scale), 1.0) if how.antialias else 1.0
    support = (2 if cubic else 1) / stretch
    first = np.floor(x - support).astype(np.int64) + 1
    indices = first[:, None] + np.arange(int(np.ceil(2 * support)))
    distance = np.abs(indices - x[:, None]) * stretch
    weights = cubic_kernel(distance, how.cubic_coeff_a) if cubic else np.maximum(1 - distance, 0)
    if how.exclude_outside:
        weights = np.where((indices < 0) | (indices >= item.length), 0, weights)
    if how.exclude_outside or how.antialias:
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
    return np.clip(indices, 0, item.length - 1), weights


def cubic_kernel(distance: Array, a: float) -> Array:
    """Keys' cubic convolution kernel at a distance of at least 0."""
    near: Array = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far: Array = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _regions(roi: Array | None, count: int, coordinate_transformation_mode: str) -> Array:
    """Normalised starts and ends, [2, count]; the whole axis unless the mode crops."""
    if coordinate_transformation_mode != "tf_crop_and_resize":
        return np.stack([np.zeros(count), np.ones(count)])
    if roi is None or roi.size != 2 * count:
        raise ShapeError(f"roi: expected {2 * count} values, got {'none' if roi is None else roi.size}")
    if not np.isfinite(roi).all():
        raise ShapeError(f"roi: expected finite numbers, got {roi.tolist()}")
    return roi.astype(np.float64).reshape(2, count)


def _sizes_to_scales(lengths: Array, sizes: Array, policy: str) -> tuple[Array, Array]:
    """The resized lengths and the scales that asked-for sizes mean."""
    ratios = sizes / np.maximum(lengths, 1)
    if policy == "stretch" or len(lengths) == 0:
        return sizes, ratios
    if policy not in ("not_larger", "not_smaller"):
        raise InvalidModelError(
            f"keep_aspect_ratio_policy: expected stretch, not_larger or not_smaller, got {policy!r}"
        )
    ratio = ratios.min() if policy == "not_larger" else ratios.max()
    return np.floor(ratio * lengths + 0.5).astype(np.int64), np.full(len(lengths), ratio)


def _resize_asymmetric(X: Array, scales: Array, mode: str, operator: str = "Upsample") -> Array:
    _expect_length("scales", scales, X.ndim)
    if mode == "cubic":
        raise InvalidModelError("mode: expected nearest or linear, got 'cubic'")
    factors = scales.astype(np.float32)
    if operator == "Upsample" and not (factors >= 1).all():
        raise ShapeError(f"scales: expected at least 1, got {factors.tolist()}")
    resized = np.floor(np.array(X.shape, np.int64) * factors.astype(np.float64)).astype(np.int64)
    how = Resampling(mode, "asymmetric", "simple")
    return resample(
        X,
        [_Axis(i, X.shape[i], int(resized[i]), factors[i]) for i in range(X.ndim)],
        how,
    )


def _expect_length(what: str, values: Array, count: int) -> None:
    if values.shape != (count,):
        raise ShapeError(f"{what}: expected shape [{count}], a value for each axis, got {list(values.shape)}")
