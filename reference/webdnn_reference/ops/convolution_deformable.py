"""DeformConv: a convolution whose taps are displaced by given offsets, for any number of spatial axes."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, narrow, widen
from webdnn_reference.ops.convolution import check_convolution
from webdnn_reference.registry import op
from webdnn_reference.windows import Windows, plan_windows

__all__ = ["deform_conv"]

_SLAB_ELEMENTS = 1 << 18


def _positions(windows: Windows, offset: Array) -> list[Array]:
    """Where each tap reads, per spatial axis: [N, offset groups, taps, *outputs], in input coordinates."""
    rank = windows.rank
    taps = list(itertools.product(*map(range, windows.kernel)))
    places = []
    for axis in range(rank):
        tap_shift = np.array([tap[axis] for tap in taps], offset.dtype) * windows.dilations[axis]
        starts = np.arange(windows.outputs[axis], dtype=offset.dtype) * windows.strides[axis] - windows.begins[axis]
        grid = tap_shift.reshape(-1, *[1] * rank) + starts.reshape(-1, *[1] * (rank - 1 - axis))
        places.append(grid + offset[:, :, :, axis])
    return places


def _sample(x: Array, places: list[Array]) -> Array:
    """Linear interpolation of x [N, groups, C/groups, D1, ..., Dn], zero outside: [N, groups, C/groups, *places]."""
    batch, groups, members = x.shape[:3]
    sizes = x.shape[3:]
    shape = places[0].shape[2:]
    result = np.zeros((batch, groups, members, *shape), x.dtype)
    if not result.size or not x.size:
        return result
    flat = x.reshape(batch, groups, members, -1)
    floors = [np.floor(place) for place in places]
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        weight = np.ones((batch, groups, *shape), x.dtype)
        index = np.zeros((batch, groups, *shape), np.int64)
        for size, place, floor, side in zip(sizes, places, floors, corner, strict=True):
            fraction = place - floor
            weight = weight * (fraction if side else 1 - fraction)
            inside = (floor + side >= 0) & (floor + side < size)
            weight = np.where(inside, weight, 0)
            index = index * size + np.where(inside, floor + side, 0).astype(np.int64)
        picked = np.take_along_axis(flat, index.reshape(batch, groups, 1, -1), axis=3)
        result += picked.reshape(result.shape) * weight[:, :, None]
    return result


@op("DeformConv", since=(19, 22))
def deform_conv(
    X: Array,
    W: Array,
    offset: Array,
    B: Array | None = None,
    mask: Array | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Convolution that reads each tap at its place plus an offset, by linear interpolation, times a mask.

    X: float [N, C, D1, ..., Dn]; W: [M, C/group, k1, ..., kn]; offset: [N, offset_group * taps * n, o1, ..., on];
    B: [M] or absent; mask: [N, offset_group * taps, o1, ..., on] or absent -> [N, M, o1, ..., on], dtype of X.
    What lies outside the input is zero.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__DeformConv.html#deformconv-22
    """
    check_convolution(X, W, B, group, kernel_shape)
    if offset_group < 1 or X.shape[1] % offset_group:
        raise ShapeError(f"offset_group: expected a divisor of {X.shape[1]} channels, got {offset_group}")
    windows = plan_windows(X.shape[2:], W.shape[2:], strides=strides, dilations=dilations, pads=pads, auto_pad="NOTSET")
    batch, channels = X.shape[:2]
    features, taps = W.shape[0], math.prod(windows.kernel)
    wanted = (batch, offset_group * taps * windows.rank, *windows.outputs)
    if offset.shape != wanted:
        raise ShapeError(f"offset: expected shape {list(wanted)}, got {list(offset.shape)}")
    if mask is not None and mask.shape != (batch, offset_group * taps, *windows.outputs):
        wanted = (batch, offset_group * taps, *windows.outputs)
        raise ShapeError(f"mask: expected shape {list(wanted)}, got {list(mask.shape)}")
    rows, row = windows.outputs[0], math.prod(windows.outputs[1:])
    kernel = widen(W).reshape(group, features // group, channels // group * taps)
    y = np.empty((batch, features, *windows.outputs), kernel.dtype)
    slab = max(1, min(rows, _SLAB_ELEMENTS // max(1, channels * taps * row)))
    for sample, start in itertools.product(range(batch), range(0, rows, slab)):
        at = (slice(sample, sample + 1), slice(None), slice(start, start + slab))
        # The same windows, as seen from row `start` of the outputs.
        part = dataclasses.replace(
            windows,
            begins=(windows.begins[0] - start * windows.strides[0], *windows.begins[1:]),
            outputs=(min(slab, rows - start), *windows.outputs[1:]),
        )
        places = _positions(part, widen(offset[at]).reshape(1, offset_group, taps, windows.rank, *part.outputs))
        image = widen(X[sample]).reshape(1, offset_group, channels // offset_group, *X.shape[2:])
        samples = _sample(image, places)
        if mask is not None:
            samples = samples * widen(mask[at]).reshape(1, offset_group, 1, taps, *part.outputs)
        columns = samples.reshape(group, channels // group * taps, math.prod(part.outputs))
        y[at] = (kernel @ columns).reshape(1, features, *part.outputs)
    if B is not None:
        y += widen(B).reshape(-1, *[1] * windows.rank)
    return narrow(y, X)
