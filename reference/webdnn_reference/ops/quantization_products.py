"""Products of quantized tensors: MatMulInteger, ConvInteger, QLinearMatMul and QLinearConv.

Sums of 8-bit products are exact in float64, where BLAS computes them, and in float32 where none can reach 2^24; int32
results wrap. The requantizing operators multiply the int32 sum by x_scale * w_scale / y_scale in float32 (in float64 by
the oracle), as the scales are float32.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, is_float, scalar, unidirectional, widen
from webdnn_reference.ops.convolution import check_convolution
from webdnn_reference.ops.linear_algebra import matrix_product
from webdnn_reference.ops.quantization import rounded_to
from webdnn_reference.registry import op
from webdnn_reference.windows import Windows, pad_spatial, plan_windows

_FLOAT32_EXACT = 1 << 24
_SLAB_ELEMENTS = 1 << 18

__all__ = ["conv_integer", "matmul_integer", "qlinear_conv", "qlinear_matmul"]


def _per_row(values: Array) -> Array:
    """A parameter of the left matrix: a scalar, [M], or [..., M, 1]."""
    return values.reshape(-1, 1) if values.ndim == 1 else values


def _row_parameter(name: str, values: Array, shape: Sequence[int]) -> Array:
    """A parameter of a matrix of this shape, or of its rows. Raises ShapeError."""
    return unidirectional(_per_row(values), shape, name) if values.size != 1 else values.reshape(())


def _column_parameter(name: str, values: Array, shape: Sequence[int]) -> Array:
    """A parameter of a matrix of this shape, or of its columns. Raises ShapeError."""
    return unidirectional(values, shape, name) if values.size != 1 else values.reshape(())


def _centred(x: Array, zero_point: Array | None) -> Array:
    """x less its zero point, exactly: in float32 for integers of 8 bits, else in float64."""
    wide = widen(x).astype(np.float32 if x.dtype.kind in "iu" and x.dtype.itemsize == 1 else np.float64)
    return wide if zero_point is None else np.subtract(wide, widen(zero_point).astype(wide.dtype), out=wide)


def _summable(x: Array, w: Array, axes: int | tuple[int, ...]) -> tuple[Array, Array]:
    """x and w in a type in which sums of their products along these axes of w are exact, in any order."""
    greatest = max(x.max(initial=0), -x.min(initial=0))
    if greatest * np.abs(w).sum(axis=axes, dtype=np.float64).max(initial=0) <= _FLOAT32_EXACT:
        return x, w
    return x.astype(np.float64), w.astype(np.float64)


def _product(a: Array, b: Array) -> Array:
    """The exact sums of a matrix product; vectors count as matrices of one row or column."""
    if a.dtype == b.dtype == np.float32:
        a, b = _summable(a, b, max(-2, -b.ndim))
    return matrix_product(a, b)


def _to_int32(sums: Array) -> Array:
    return sums.astype(np.int32) if sums.dtype == np.float32 else sums.astype(np.int64).astype(np.int32)


@op("MatMulInteger", since=10)
def matmul_integer(A: Array, B: Array, a_zero_point: Array | None = None, b_zero_point: Array | None = None) -> Array:
    """The matrix product of A - a_zero_point and B - b_zero_point.

    A, B: int8 or uint8 [..., M, K] and [..., K, N]; a_zero_point: a scalar, [M] or [..., M, 1]; b_zero_point: a
    scalar, [N] or [..., 1, N] -> int32 [..., M, N].   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__MatMulInteger.html#matmulinteger-10
    """
    a_zero = None if a_zero_point is None else _row_parameter("a_zero_point", a_zero_point, A.shape)
    b_zero = None if b_zero_point is None else _column_parameter("b_zero_point", b_zero_point, B.shape)
    return _to_int32(_product(_centred(A, a_zero), _centred(B, b_zero)))


def _per_feature(name: str, values: Array, W: Array) -> Array:
    """A scalar, or [M] in a shape that broadcasts with W. Raises ShapeError."""
    if values.size == 1:
        return values.reshape(())
    if values.shape != W.shape[:1]:
        raise ShapeError(f"{name}: expected one element or shape [{W.shape[0]}], got {list(values.shape)}")
    return values.reshape(-1, *[1] * (W.ndim - 1))


def _integer_convolution(
    x: Array,
    w: Array,
    x_zero_point: Array | None,
    w_zero_point: Array | None,
    windows: Windows,
    group: int,
    finish: Callable[[Array, slice], Array],
    dtype: np.dtype[Any],
) -> Array:
    """What `finish` makes of the exact sums [m, positions] of some of the M features: [N, M, *outputs] of dtype.

    Padding is zero after the zero point is subtracted. The numbers less their zero point are never whole in memory.
    """
    batch, channels = x.shape[:2]
    features, row = w.shape[0], math.prod(windows.outputs[1:])
    result = np.empty((batch, features, math.prod(windows.outputs)), dtype)
    if not x.size * w.size * result.size:
        for sample in range(batch):
            result[sample] = finish(np.zeros(result.shape[1:], np.float32), slice(0, features))
        return result.reshape(batch, features, *windows.outputs)
    zero = 0 if x_zero_point is None else int(scalar(x_zero_point, "x_zero_point"))
    kernel = _centred(w, None if w_zero_point is None else _per_feature("w_zero_point", w_zero_point, w))
    kernel = kernel.reshape(group, features // group, -1)
    greatest = max(0, int(x.max()) - zero, zero - int(x.min()))
    if greatest * np.abs(kernel).sum(axis=2, dtype=np.float64).max() > _FLOAT32_EXACT:
        kernel = kernel.astype(np.float64)
    padded = pad_spatial(x, windows.begins, windows.extents, zero)
    members, (per_group, taps), rows = channels // group, kernel.shape[1:], windows.outputs[0]
    # As many groups as have few windows, else as many rows of outputs.
    most = max(taps, per_group) * row
    some = max(1, min(group, _SLAB_ELEMENTS // (most * rows)))
    slab = max(1, min(rows, _SLAB_ELEMENTS // (most * some)))
    scratch = np.empty(0 if windows.is_pointwise else some * taps * slab * row, kernel.dtype)
    for sample, first, start in itertools.product(range(batch), range(0, group, some), range(0, rows, slab)):
        last = min(first + some, group)
        part = dataclasses.replace(windows, outputs=(min(slab, rows - start), *windows.outputs[1:]))
        top = start * windows.strides[0]
        image = padded[sample : sample + 1, first * members : last * members, top : top + part.extents[0]]
        image = image.astype(kernel.dtype, order="C")
        if zero:
            image -= kernel.dtype.type(zero)
        columns = image
        if not windows.is_pointwise:
            columns = scratch[: (last - first) * taps * math.prod(part.outputs)]
            taken = part.view(image)
            np.copyto(columns.reshape(taken.shape), taken)
        sums = kernel[first:last] @ columns.reshape(last - first, taps, -1)
        made = slice(first * per_group, last * per_group)
        result[sample, made, start * row : (start + slab) * row] = finish(sums.reshape(len(sums) * per_group, -1), made)
    return result.reshape(batch, features, *windows.outputs)


@op("ConvInteger", since=10)
def conv_integer(
    x: Array,
    w: Array,
    x_zero_point: Array | None = None,
    w_zero_point: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The convolution of x - x_zero_point and w - w_zero_point; padding counts as x_zero_point.

    x: int8 or uint8 [N, C, D1, ..., Dn]; w: int8 or uint8 [M, C/group, k1, ..., kn]; x_zero_point: a scalar;
    w_zero_point: a scalar or [M] -> int32 [N, M, o1, ..., on].   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__ConvInteger.html#convinteger-10
    """
    check_convolution(x, w, None, group, kernel_shape)
    windows = plan_windows(x.shape[2:], w.shape[2:], strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    return _integer_convolution(
        x, w, x_zero_point, w_zero_point, windows, group, lambda sums, _: _to_int32(sums), np.dtype(np.int32)
    )


@op("QLinearConv", since=10)
def qlinear_conv(
    x: Array,
    x_scale: Array,
    x_zero_point: Array,
    w: Array,
    w_scale: Array,
    w_zero_point: Array,
    y_scale: Array,
    y_zero_point: Array,
    B: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The convolution of the numbers that x and w stand for, quantized again.

    x, w: int8 or uint8, with float32 scales and zero points (for w: one or [M]); B: int32 [M], in units of
    x_scale * w_scale -> dtype of y_zero_point, [N, M, o1, ..., on].   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__QLinearConv.html#qlinearconv-10
    """
    check_convolution(x, w, None, group, kernel_shape)
    windows = plan_windows(x.shape[2:], w.shape[2:], strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    if B is not None and B.shape != w.shape[:1]:
        raise ShapeError(f"B: expected shape [{w.shape[0]}], got {list(B.shape)}")
    factor = scalar(x_scale, "x_scale") * _per_feature("w_scale", w_scale, w) / scalar(y_scale, "y_scale")
    factor = factor.reshape(-1, 1) if factor.ndim else factor
    zero = scalar(y_zero_point, "y_zero_point")

    def requantized(sums: Array, features: slice) -> Array:
        if B is not None:
            sums = sums.astype(np.float64, copy=False) + B[features, None]
        scaled = sums.astype(factor.dtype) * (factor[features] if factor.ndim else factor)
        return rounded_to(scaled, zero, DType.from_numpy(zero.dtype), True)

    return _integer_convolution(x, w, x_zero_point, w_zero_point, windows, group, requantized, zero.dtype)


@op("QLinearMatMul", since=(10, 21))
def qlinear_matmul(
    a: Array,
    a_scale: Array,
    a_zero_point: Array,
    b: Array,
    b_scale: Array,
    b_zero_point: Array,
    y_scale: Array,
    y_zero_point: Array,
) -> Array:
    """The matrix product of the numbers that a and b stand for, quantized again.

    a, b: int8, uint8, from opset 21 on float8 [..., M, K] and [..., K, N]; scales and zero points: scalars, for a and
    y also [M] or [..., M, 1], for b also [N] or [..., 1, N] -> dtype of y_zero_point, [..., M, N]. Products are summed
    exactly and scaled in float32 whatever the type of the scales.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html#qlinearmatmul-21
    """
    a_zero = _row_parameter("a_zero_point", a_zero_point, a.shape)
    b_zero = _column_parameter("b_zero_point", b_zero_point, b.shape)
    sums = _product(_centred(a, a_zero), _centred(b, b_zero))
    factor = (
        _row_parameter("a_scale", widen(a_scale), (*sums.shape[:-1], 1))
        * _column_parameter("b_scale", widen(b_scale), (*sums.shape[:-2], 1, *sums.shape[-1:]))
        / _row_parameter("y_scale", widen(y_scale), (*sums.shape[:-1], 1))
    )
    scaled = sums.astype(factor.dtype) * factor
    to = DType.from_numpy(y_zero_point.dtype)
    zero_point = _row_parameter("y_zero_point", y_zero_point, sums.shape)
    return rounded_to(scaled, None if is_float(zero_point) and not np.any(widen(zero_point)) else zero_point, to, True)
