"""Max, average and Lp pooling over windows, and MaxUnpool, for any number of spatial axes.

Sums and maxima over a window are taken one spatial axis at a time, so that their cost grows with the sum, not the
product, of the kernel's sizes. Padding never takes part, except in averages with count_include_pad.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, int_list, is_float, limits, narrow, select, widen
from webdnn_reference.registry import Context, op
from webdnn_reference.windows import Windows, pad_spatial, plan_windows, spatial_attribute

__all__ = [
    "average_pool_1",
    "average_pool_7",
    "average_pool_10",
    "average_pool_19",
    "lp_pool_1",
    "lp_pool_2",
    "lp_pool_18",
    "max_pool_1",
    "max_pool_8",
    "max_pool_10",
    "max_unpool",
]


def _check(X: Array) -> None:
    if X.ndim < 3:
        raise ShapeError(f"X: expected rank 3 or more, [N, C, D1, ...], got shape {list(X.shape)}")


def _along_axes(padded: Array, windows: Windows, combine: np.ufunc) -> Array:
    """Combine the elements of each window; padded [N, C, ...] -> [N, C, *outputs]."""
    result = padded
    for axis in range(windows.rank):
        count, kernel = windows.outputs[axis], windows.kernel[axis]
        if not count:
            return np.zeros((*padded.shape[:2], *windows.outputs), padded.dtype)
        lead: tuple[Any, ...] = (slice(None),) * (axis + 2)
        if count < kernel:
            step, reach = windows.strides[axis], (kernel - 1) * windows.dilations[axis] + 1
            parts = [
                combine.reduce(
                    result[(*lead, slice(start * step, start * step + reach, windows.dilations[axis]))],
                    axis=axis + 2,
                    keepdims=True,
                    dtype=result.dtype,
                )
                for start in range(count)
            ]
            result = np.concatenate(parts, axis=axis + 2)
            continue
        combined = result[(*lead, windows.taps(axis, 0))].copy()
        for position in range(1, kernel):
            combine(combined, result[(*lead, windows.taps(axis, position))], out=combined)
        result = combined
    return result


def _outer_product(factors: Sequence[Array]) -> Array:
    """[a], [b], ... -> [a, b, ...]."""
    result = np.ones(())
    for factor in factors:
        result = result[..., None] * factor
    return result


def _window_counts(windows: Windows, include_pad: bool) -> Array:
    """How many elements each window averages: [*outputs]. Elements past the end padding never count."""
    factors = []
    for axis, size in enumerate(windows.sizes):
        begin, end = windows.begins[axis], windows.ends[axis]
        starts = np.arange(windows.outputs[axis])[:, None] * windows.strides[axis] - begin
        positions = starts + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        least, limit = (-begin, size + end) if include_pad else (0, size)
        factors.append(np.sum((positions >= least) & (positions < limit), axis=1))
    return _outer_product(factors)


def _average(X: Array, windows: Windows, include_pad: bool) -> Array:
    _check(X)
    x = widen(X)
    sums = _along_axes(pad_spatial(x, windows.begins, windows.extents, 0), windows, np.add)
    return narrow(sums / _window_counts(windows, include_pad).astype(x.dtype), X)


@op("AveragePool", since=1)
def average_pool_1(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The mean of each window, padding excluded.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__AveragePool.html#averagepool-1
    """
    windows = plan_windows(X.shape[2:], kernel_shape, strides=strides, pads=pads, auto_pad=auto_pad)
    return _average(X, windows, include_pad=False)


@op("AveragePool", since=7)
def average_pool_7(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    count_include_pad: int = 0,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The mean of each window, padding excluded or counted as zeros.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__AveragePool.html#averagepool-7
    """
    windows = plan_windows(X.shape[2:], kernel_shape, strides=strides, pads=pads, auto_pad=auto_pad)
    return _average(X, windows, bool(count_include_pad))


@op("AveragePool", since=(10, 11))
def average_pool_10(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The mean of each window, padding excluded or counted as zeros; windows may reach past the end (ceil_mode).

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__AveragePool.html#averagepool-11
    """
    windows = plan_windows(
        X.shape[2:], kernel_shape, strides=strides, pads=pads, auto_pad=auto_pad, ceil_mode=ceil_mode
    )
    return _average(X, windows, bool(count_include_pad))


@op("AveragePool", since=(19, 22))
def average_pool_19(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The mean of each dilated window, padding excluded or counted as zeros.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__AveragePool.html#averagepool-22
    """
    windows = plan_windows(
        X.shape[2:],
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    return _average(X, windows, bool(count_include_pad))


def _maximum(X: Array, windows: Windows) -> Array:
    _check(X)
    x = widen(X)
    lowest = -math.inf if is_float(x) else limits(x.dtype)[0]
    return narrow(_along_axes(pad_spatial(x, windows.begins, windows.extents, lowest), windows, np.maximum), X)


def _maximum_with_indices(X: Array, windows: Windows, storage_order: int) -> tuple[Array, Array]:
    """The maxima and where they are in X flattened over all axes; of equal ones the first in the window counts."""
    _check(X)
    x = widen(X)
    lowest = -math.inf if is_float(x) else limits(x.dtype)[0]
    padded = pad_spatial(x, windows.begins, windows.extents, lowest)
    positions = pad_spatial(_linear_positions(X.shape, storage_order), windows.begins, windows.extents, -1)
    values, places = windows.view(padded), windows.view(positions)
    best = np.full((*X.shape[:2], *windows.outputs), lowest, x.dtype)
    where = np.full(best.shape, -1, np.int64)
    has_nan = bool(np.isnan(np.max(x, initial=lowest)))
    for taps in itertools.product(*map(range, windows.kernel)):
        at: tuple[Any, ...] = (slice(None), slice(None), *taps)
        # Of two elements the new one counts if it is greater, the first inside X, or NaN where the best is none.
        better = (values[at] > best) | (where < 0)
        if has_nan:
            better |= np.isnan(values[at]) & ~np.isnan(best)
        better &= places[at] >= 0
        best = select(better, values[at], best)
        where = select(better, np.broadcast_to(places[at], where.shape), where)
    return narrow(best, X), where


def _linear_positions(shape: Sequence[int], storage_order: int) -> Array:
    """The index of each element; storage_order 1 counts the spatial axes of each channel column by column."""
    channels, sizes = math.prod(shape[:2]), tuple(shape[2:])
    within = np.arange(math.prod(sizes), dtype=np.int64).reshape(sizes, order="F" if storage_order else "C")
    starts = np.arange(channels, dtype=np.int64) * math.prod(sizes)
    return np.asarray(starts.reshape(*shape[:2], *[1] * len(sizes)) + within)


@op("MaxPool", since=1)
def max_pool_1(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The maximum of each window.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__MaxPool.html#maxpool-1
    """
    return _maximum(X, plan_windows(X.shape[2:], kernel_shape, strides=strides, pads=pads, auto_pad=auto_pad))


@op("MaxPool", since=8)
def max_pool_8(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    context: Context,
) -> Array | tuple[Array, Array]:
    """The maximum of each window, and where it is in X as a flat index.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype, and int64 of that shape.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__MaxPool.html#maxpool-8
    """
    windows = plan_windows(X.shape[2:], kernel_shape, strides=strides, pads=pads, auto_pad=auto_pad)
    if context.outputs == 1:
        return _maximum(X, windows)
    return _maximum_with_indices(X, windows, storage_order)


@op("MaxPool", since=(10, 11, 12, 22))
def max_pool_10(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    context: Context,
) -> Array | tuple[Array, Array]:
    """The maximum of each dilated window, and where it is in X as a flat index.

    X: float, int8 or uint8 [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype, and int64 of that shape.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__MaxPool.html#maxpool-22
    """
    windows = plan_windows(
        X.shape[2:],
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    if context.outputs == 1:
        return _maximum(X, windows)
    return _maximum_with_indices(X, windows, storage_order)


def lp_norm_of_powers(sums: Array, p: float) -> Array:
    """The p-th root of sums of p-th powers."""
    return np.asarray(np.sqrt(sums) if p == 2 else np.power(sums, 1 / p))


def powers(x: Array, p: float) -> Array:
    """|x|**p, element by element."""
    return np.asarray(x * x if p == 2 else np.power(np.abs(x), p))


def _lp(X: Array, windows: Windows, p: float) -> Array:
    _check(X)
    if p <= 0:
        raise InvalidModelError(f"p: expected a positive number, got {p}")
    padded = pad_spatial(powers(widen(X), p), windows.begins, windows.extents, 0)
    return narrow(lp_norm_of_powers(_along_axes(padded, windows, np.add), p), X)


@op("LpPool", since=1)
def lp_pool_1(
    X: Array,
    *,
    kernel_shape: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    p: float = 2.0,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The p-norm of each window; without kernel_shape one window covers everything.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__LpPool.html#lppool-1
    """
    kernel = X.shape[2:] if kernel_shape is None else kernel_shape
    return _lp(X, plan_windows(X.shape[2:], kernel, strides=strides, pads=pads, auto_pad=auto_pad), p)


@op("LpPool", since=(2, 11))
def lp_pool_2(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The p-norm of each window.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__LpPool.html#lppool-11
    """
    return _lp(X, plan_windows(X.shape[2:], kernel_shape, strides=strides, pads=pads, auto_pad=auto_pad), p)


@op("LpPool", since=(18, 22))
def lp_pool_18(
    X: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The p-norm of each dilated window.

    X: float [N, C, D1, ..., Dn] -> [N, C, o1, ..., on], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__LpPool.html#lppool-22
    """
    windows = plan_windows(
        X.shape[2:],
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    return _lp(X, windows, p)


@op("MaxUnpool", since=(9, 11, 22))
def max_unpool(
    X: Array,
    I: Array,  # noqa: E741 -- the input's name in the specification
    output_shape: Array | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Zeros, with the elements of X at the flat positions that MaxPool reported.

    X: float [N, C, D1, ..., Dn]; I: int64, shape of X; output_shape: int64, the whole shape -> that shape, dtype of X.
    The indices count in the tensor that MaxPool read, whose size follows from the attributes; with an output_shape
    the result is that tensor inside one of the wanted size.   Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__MaxUnpool.html#maxunpool-22
    """
    _check(X)
    if I.shape != X.shape:
        raise ShapeError(f"I: expected the shape of X, {list(X.shape)}, got {list(I.shape)}")
    rank = X.ndim - 2
    kernel = spatial_attribute("kernel_shape", kernel_shape, rank, 1)
    steps = spatial_attribute("strides", strides, rank, 1)
    padding = spatial_attribute("pads", pads, 2 * rank, 0)
    sizes = tuple(
        (size - 1) * step - padding[axis] - padding[axis + rank] + extent
        for axis, (size, step, extent) in enumerate(zip(X.shape[2:], steps, kernel, strict=True))
    )
    if min(sizes) < 0:
        raise ShapeError(f"kernel_shape, pads, strides: expected sizes that are not negative, got {list(sizes)}")
    flat = np.zeros(math.prod(X.shape[:2]) * math.prod(sizes), X.dtype)
    if I.size and (int(I.min()) < 0 or int(I.max()) >= flat.size):
        raise InvalidModelError(f"I: expected indices in [0, {flat.size - 1}], got {int(I.min())} to {int(I.max())}")
    flat[I.reshape(-1)] = X.reshape(-1)
    result = flat.reshape(*X.shape[:2], *sizes)
    if output_shape is None:
        return result
    wanted = tuple(int_list(output_shape, "output_shape"))
    if len(wanted) != X.ndim or wanted[:2] != X.shape[:2] or min(wanted) < 0:
        raise ShapeError(f"output_shape: expected {list(X.shape[:2])} and {rank} sizes, got {list(wanted)}")
    return pad_spatial(result, [0] * rank, wanted[2:], 0)
