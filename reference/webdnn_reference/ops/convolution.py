"""Conv and ConvTranspose, for any number of spatial axes.

A convolution is a matrix product of the kernel [M/group, C/group * taps] with the windows of the input
[C/group * taps, outputs], batched over N and groups; the windows are copied out of a strided view a slab of output
rows at a time, which bounds the memory and keeps the slab in cache.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, narrow, widen
from webdnn_reference.registry import op
from webdnn_reference.windows import Windows, pad_spatial, plan_windows, spatial_attribute

__all__ = ["check_convolution", "conv", "conv_transpose", "convolve"]

_SLAB_ELEMENTS = 1 << 20


def check_convolution(X: Array, W: Array, B: Array | None, group: int, kernel_shape: Sequence[int] | None) -> None:
    """Check the shapes of a convolution. Raises ShapeError."""
    if X.ndim < 3:
        raise ShapeError(f"X: expected rank 3 or more, [N, C, D1, ...], got shape {list(X.shape)}")
    if W.ndim != X.ndim:
        raise ShapeError(f"W: expected rank {X.ndim} as X has, got shape {list(W.shape)}")
    if group < 1 or X.shape[1] % group or W.shape[0] % group:
        raise ShapeError(f"group: expected a divisor of {X.shape[1]} and {W.shape[0]} channels, got {group}")
    if W.shape[1] * group != X.shape[1]:
        raise ShapeError(f"W channels: expected {X.shape[1] // group}, got {W.shape[1]}")
    if kernel_shape is not None and tuple(kernel_shape) != W.shape[2:]:
        raise ShapeError(f"kernel_shape: expected that of W, {list(W.shape[2:])}, got {list(kernel_shape)}")
    if B is not None and B.shape != (W.shape[0],):
        raise ShapeError(f"B: expected shape [{W.shape[0]}], got {list(B.shape)}")


def convolve(x: Array, w: Array, windows: Windows, group: int) -> Array:
    """Convolve in the common type of x and w; x [N, C, ...], w [M, C/group, ...] -> [N, M, *outputs]."""
    batch, channels = x.shape[:2]
    features = w.shape[0]
    padded = pad_spatial(x, windows.begins, windows.extents, 0)
    if not padded.size * w.size * math.prod(windows.outputs):
        return np.zeros((batch, features, *windows.outputs), x.dtype)
    kernel = np.ascontiguousarray(w).reshape(group, features // group, -1)
    if windows.is_pointwise:
        columns = padded.reshape(batch, group, channels // group, -1)
        return np.asarray(kernel @ columns).reshape(batch, features, *windows.outputs)
    return _by_slabs(padded, kernel, windows)


def _by_slabs(padded: Array, kernel: Array, windows: Windows) -> Array:
    batch = padded.shape[0]
    group, per_group, products = kernel.shape
    view = windows.view(padded)
    result = np.empty((batch, group, per_group, math.prod(windows.outputs)), np.result_type(padded, kernel))
    rows, row = windows.outputs[0], math.prod(windows.outputs[1:])
    slab = max(1, min(rows, _SLAB_ELEMENTS // (group * products * row)))
    scratch = np.empty(group * products * slab * row, padded.dtype)
    lead = (slice(None),) * (1 + windows.rank)
    for sample, start in itertools.product(range(batch), range(0, rows, slab)):
        taken = view[sample][(*lead, slice(start, start + slab))]
        columns = scratch[: taken.size]
        np.copyto(columns.reshape(taken.shape), taken)
        np.matmul(
            kernel,
            columns.reshape(group, products, -1),
            out=result[sample, :, :, start * row : (start + slab) * row],
        )
    return result.reshape(batch, group * per_group, *windows.outputs)


@op("Conv", since=(1, 11, 22))
def conv(
    X: Array,
    W: Array,
    B: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Cross-correlation of the input with each kernel, plus a bias.

    X: float [N, C, D1, ..., Dn]; W: [M, C/group, k1, ..., kn]; B: [M] or absent -> [N, M, o1, ..., on], dtype of X.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__Conv.html#conv-22
    """
    check_convolution(X, W, B, group, kernel_shape)
    windows = plan_windows(X.shape[2:], W.shape[2:], strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    y = convolve(widen(X), widen(W), windows, group)
    return narrow(_add_bias(y, B), X)


def _add_bias(y: Array, B: Array | None) -> Array:
    if B is not None:
        y += widen(B).reshape(-1, *[1] * (y.ndim - 2))
    return y


@op("ConvTranspose", since=(1, 11, 22))
def conv_transpose(
    X: Array,
    W: Array,
    B: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The transpose of Conv: each input element adds its multiple of the kernel to the output; plus a bias.

    X: float [N, C, D1, ..., Dn]; W: [C, M/group, k1, ..., kn]; B: [M] or absent -> [N, M, o1, ..., on], dtype of X.
    output_shape: spatial, or with N and M in front; it overrides pads. What it asks for beyond the transposed
    convolution is zeros at the end.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__ConvTranspose.html#convtranspose-22
    """
    _check_transposed(X, W, B, group, kernel_shape)
    rank = X.ndim - 2
    kernel = W.shape[2:]
    steps = spatial_attribute("strides", strides, rank, 1)
    gaps = spatial_attribute("dilations", dilations, rank, 1)
    extra = spatial_attribute("output_padding", output_padding, rank, 0)
    if min((*steps, *gaps), default=1) < 1 or min(extra, default=0) < 0:
        got = f"{list(steps)}, {list(gaps)} and {list(extra)}"
        raise InvalidModelError(
            f"strides, dilations, output_padding: expected positive ones, padding from 0, got {got}"
        )
    if any(more >= max(step, gap) for more, step, gap in zip(extra, steps, gaps, strict=True) if more):
        got = f"{list(extra)} for {list(steps)} and {list(gaps)}"
        raise InvalidModelError(f"output_padding: expected less than the stride or the dilation of its axis, got {got}")
    full = tuple(
        step * (size - 1) + more + (extent - 1) * gap + 1
        for step, size, more, extent, gap in zip(steps, X.shape[2:], extra, kernel, gaps, strict=True)
    )
    begins, outputs = _transposed_placement(full, X.shape[2:], steps, pads, auto_pad, output_shape)
    x, w = widen(X), widen(W)
    batch, channels = X.shape[:2]
    features = W.shape[1] * group
    columns = x.reshape(batch, group, channels // group, math.prod(X.shape[2:]))
    weights = w.reshape(group, channels // group, W.shape[1], *kernel)
    y = np.zeros((batch, features, *(max(0, size) for size in full)), x.dtype)
    for taps in itertools.product(*map(range, kernel if x.size else (0,))):
        at: tuple[Any, ...] = (..., *taps)
        weight = np.swapaxes(weights[at], 1, 2)
        places = tuple(
            slice(tap * gap, tap * gap + (size - 1) * step + 1, step)
            for tap, gap, size, step in zip(taps, gaps, X.shape[2:], steps, strict=True)
        )
        y[(slice(None), slice(None), *places)] += (weight @ columns).reshape(batch, features, *X.shape[2:])
    cropped = pad_spatial(y, [-begin for begin in begins], outputs, 0)
    return narrow(_add_bias(cropped, B), X)


def _check_transposed(X: Array, W: Array, B: Array | None, group: int, kernel_shape: Sequence[int] | None) -> None:
    if X.ndim < 3 or W.ndim != X.ndim:
        raise ShapeError(f"X, W: expected one rank, 3 or more, got shapes {list(X.shape)} and {list(W.shape)}")
    if W.shape[0] != X.shape[1]:
        raise ShapeError(f"W: expected {X.shape[1]} input channels as X has, got shape {list(W.shape)}")
    if group < 1 or X.shape[1] % group:
        raise ShapeError(f"group: expected a divisor of {X.shape[1]} channels, got {group}")
    if kernel_shape is not None and tuple(kernel_shape) != W.shape[2:]:
        raise ShapeError(f"kernel_shape: expected that of W, {list(W.shape[2:])}, got {list(kernel_shape)}")
    if min(W.shape[2:]) < 1:
        raise ShapeError(f"W: expected a kernel of at least one element, got shape {list(W.shape)}")
    if B is not None and B.shape != (W.shape[1] * group,):
        raise ShapeError(f"B: expected shape [{W.shape[1] * group}], got {list(B.shape)}")


def _transposed_placement(
    full: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
    output_shape: Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What to cut off before the uncropped output, and how much to keep."""
    rank = len(full)
    if output_shape is not None:
        given = tuple(output_shape)
        outputs = spatial_attribute("output_shape", given[2:] if len(given) == rank + 2 else given, rank, 0)
        if min(outputs, default=0) < 0:
            raise ShapeError(f"output_shape: expected sizes that are not negative, got {list(output_shape)}")
    elif auto_pad not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise InvalidModelError(f"auto_pad: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {auto_pad!r}")
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        outputs = tuple(
            max(0, min(most, size * stride)) for most, size, stride in zip(full, sizes, strides, strict=True)
        )
    else:
        padding = spatial_attribute("pads", pads, 2 * rank, 0) if auto_pad in ("NOTSET", "") else (0,) * (2 * rank)
        if min(padding, default=0) < 0:
            raise InvalidModelError(f"pads: expected entries that are not negative, got {list(padding)}")
        begins, ends = padding[:rank], padding[rank:]
        return begins, tuple(max(0, size - begin - end) for size, begin, end in zip(full, begins, ends, strict=True))
    totals = [max(0, size - output) for size, output in zip(full, outputs, strict=True)]
    if auto_pad == "SAME_UPPER":
        return tuple(total // 2 for total in totals), outputs
    return tuple(total - total // 2 for total in totals), outputs
