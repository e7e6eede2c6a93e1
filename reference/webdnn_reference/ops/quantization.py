"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

One scale for the whole tensor, one per slice along an axis, or one per block along an axis. Integers are rounded to
the nearest, halves to even, and saturate. NaN quantizes to the zero point. The float64 oracle divides and multiplies in
float64; quantizing rounds there too.
"""

from __future__ import annotations

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, axis_of, is_float, limits, narrow, saturate, widen, widen_integer
from webdnn_reference.ops.cast import convert
from webdnn_reference.registry import Context, op

__all__ = [
    "dequantize_linear_10",
    "dequantize_linear_13",
    "dequantize_linear_21",
    "dequantize_linear_23",
    "dynamic_quantize_linear",
    "quantize_linear_10",
    "quantize_linear_13",
    "quantize_linear_19",
    "quantize_linear_21",
    "quantize_linear_23",
    "rounded_to",
]


def _spread(name: str, values: Array, x: Array, axis: int, block_size: int) -> Array:
    """A scale or zero point in a shape that broadcasts with x. Raises ShapeError."""
    if block_size:
        front = axis_of(axis, x.ndim)
        blocks = -(-x.shape[front] // block_size)
        expected = (*x.shape[:front], blocks, *x.shape[front + 1 :])
        if block_size < 0 or values.shape != expected:
            raise ShapeError(
                f"{name}: expected shape {list(expected)} for blocks of {block_size}, got {list(values.shape)}"
            )
        repeated = np.repeat(values, block_size, axis=front)
        return repeated[(slice(None),) * front + (slice(0, x.shape[front]),)]
    if values.size == 1 and values.ndim <= 1:
        return values.reshape(())
    front = 0 if x.ndim == 1 else axis_of(axis, x.ndim)
    if values.shape != (x.shape[front],):
        raise ShapeError(f"{name}: expected one element or shape [{x.shape[front]}], got {list(values.shape)}")
    return values.reshape(-1, *[1] * (x.ndim - front - 1))


def _check_shapes(scale: Array, zero_point: Array | None) -> None:
    if zero_point is not None and zero_point.shape != scale.shape and not zero_point.size == scale.size == 1:
        raise ShapeError(
            f"zero point: expected the shape of the scale, {list(scale.shape)}, got {list(zero_point.shape)}"
        )


def rounded_to(scaled: Array, zero_point: Array | None, to: DType, float8_saturate: bool) -> Array:
    """Real quotients x / scale as quantized values: rounded to integers, or converted to a narrow float."""
    if to.is_float:
        return convert(scaled if zero_point is None else scaled + widen(zero_point), to, saturate=float8_saturate)
    if to.bits > 16:
        whole = np.where(np.isnan(scaled), 0, np.rint(scaled)).astype(np.float64)
        return saturate(whole if zero_point is None else whole + widen_integer(zero_point), to.numpy)
    # Sums with a zero point of 16 bits are exact in float32 up to 2^24, and beyond it they saturate.
    levels = np.asarray(np.rint(widen(scaled)))
    if np.isnan(np.max(levels, initial=-np.inf)):
        levels = np.where(np.isnan(levels), levels.dtype.type(0), levels)
    if zero_point is not None:
        levels = np.asarray(levels + widen_integer(zero_point).astype(levels.dtype))
    least, greatest = limits(to.numpy)
    levels = np.clip(levels, least, greatest, out=levels)
    return (levels.astype(np.int8) if to.bits < 8 else levels).astype(to.numpy)


def _quantize(
    x: Array,
    y_scale: Array,
    y_zero_point: Array | None,
    *,
    to: DType,
    axis: int = 1,
    block_size: int = 0,
    precision: DType | None = None,
    float8_saturate: bool = True,
) -> Array:
    """precision: the type that the quotient is rounded to; None keeps the working precision."""
    _check_shapes(y_scale, y_zero_point)
    scale = _spread("y_scale", y_scale, x, axis, block_size)
    divisor = widen(scale) if is_float(scale) else scale.astype(np.float32)
    working = np.float64 if np.float64 in (x.dtype, divisor.dtype) else np.float32
    quotient = np.divide(widen(x).astype(working), divisor.astype(working))
    if precision is not None:
        quotient = widen(narrow(quotient, precision.numpy))
    zero_point = None if y_zero_point is None else _spread("y_zero_point", y_zero_point, x, axis, block_size)
    return rounded_to(quotient, zero_point, to, float8_saturate)


def _zero_type(y_zero_point: Array | None) -> DType:
    return DType.UINT8 if y_zero_point is None else DType.from_numpy(y_zero_point.dtype)


def _output_type(output_dtype: int, y_zero_point: Array | None) -> DType:
    if not output_dtype:
        return _zero_type(y_zero_point)
    wanted = DType.from_onnx(output_dtype)
    if y_zero_point is not None and _zero_type(y_zero_point) is not wanted:
        raise DTypeError(
            f"output_dtype: expected {_zero_type(y_zero_point).value} as y_zero_point has, got {wanted.value}"
        )
    return wanted


def _division_type(x: Array, context: Context) -> DType | None:
    """The type in which versions 19 and 21 divide: that of x, float32 for integers."""
    return None if context.float64 or not is_float(x) else DType.from_numpy(x.dtype)


@op("QuantizeLinear", since=10)
def quantize_linear_10(x: Array, y_scale: Array, y_zero_point: Array | None = None) -> Array:
    """saturate(round(x / y_scale) + y_zero_point), with one scale.

    x: float32 or int32; y_scale: float32, one element; y_zero_point: int8 or uint8, by default uint8 0 -> its dtype.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html#quantizelinear-10
    """
    if y_scale.size != 1:
        raise ShapeError(f"y_scale: expected one element, got shape {list(y_scale.shape)}")
    return _quantize(x, y_scale, y_zero_point, to=_zero_type(y_zero_point))


@op("QuantizeLinear", since=13)
def quantize_linear_13(x: Array, y_scale: Array, y_zero_point: Array | None = None, *, axis: int = 1) -> Array:
    """saturate(round(x / y_scale) + y_zero_point), with one scale or one per slice along an axis.

    x: float32 or int32; y_scale: float32; y_zero_point: int8 or uint8, by default uint8 0 -> its dtype.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html#quantizelinear-13
    """
    return _quantize(x, y_scale, y_zero_point, to=_zero_type(y_zero_point), axis=axis)


@op("QuantizeLinear", since=19)
def quantize_linear_19(
    x: Array,
    y_scale: Array,
    y_zero_point: Array | None = None,
    *,
    axis: int = 1,
    saturate: int = 1,
    context: Context,
) -> Array:
    """saturate(round(x / y_scale) + y_zero_point), with one scale or one per slice along an axis; float8 too.

    x: float or int32; y_scale: dtype of x; y_zero_point: 8 bits wide, by default uint8 0 -> its dtype.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html#quantizelinear-19
    """
    return _quantize(
        x,
        y_scale,
        y_zero_point,
        to=_zero_type(y_zero_point),
        axis=axis,
        precision=_division_type(x, context),
        float8_saturate=bool(saturate),
    )


@op("QuantizeLinear", since=21)
def quantize_linear_21(
    x: Array,
    y_scale: Array,
    y_zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    saturate: int = 1,
    context: Context,
) -> Array:
    """saturate(round(x / y_scale) + y_zero_point), with one scale, one per slice, or one per block along an axis.

    x: float or int32; y_scale: dtype of x; y_zero_point: by default 0 -> its dtype, else output_dtype, else uint8.
    Raises ShapeError, DTypeError.
    Spec: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html#quantizelinear-21
    """
    return _quantize(
        x,
        y_scale,
        y_zero_point,
        to=_output_type(output_dtype, y_zero_point),
        axis=axis,
        block_size=block_size,
        precision=_division_type(x, context),
        float8_saturate=bool(saturate),
    )


@op("QuantizeLinear", since=(23, 24, 25, 28))
def quantize_linear_23(
    x: Array,
    y_scale: Array,
    y_zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    context: Context,
) -> Array:
    """saturate(round(x / y_scale) + y_zero_point), dividing in the type `precision`, by default that of y_scale.

    x: float or int32; y_scale: float or int32, one element, [Di], or one per block; y_zero_point: by default 0 -> its
    dtype, else output_dtype, else uint8.   Raises ShapeError, DTypeError.
    Spec: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html#quantizelinear-28
    """
    division: DType | None = None
    if precision and (not DType.from_onnx(precision).is_float or DType.from_onnx(precision).bits < 16):
        raise InvalidModelError(
            f"precision: expected a float type of 16 bits or more, got {DType.from_onnx(precision).value}"
        )
    if not context.float64:
        division = DType.from_onnx(precision) if precision else DType.from_numpy(y_scale.dtype)
        if not division.is_float or division is DType.FLOAT8E8M0:
            division = None
    return _quantize(
        x,
        y_scale,
        y_zero_point,
        to=_output_type(output_dtype, y_zero_point),
        axis=axis,
        block_size=block_size,
        precision=division,
        float8_saturate=bool(saturate),
    )


def _dequantize(
    x: Array, x_scale: Array, x_zero_point: Array | None, *, axis: int = 1, block_size: int = 0, to: DType
) -> Array:
    _check_shapes(x_scale, x_zero_point)
    scale = widen(_spread("x_scale", x_scale, x, axis, block_size))
    # The difference of two integers fits in twice their width.
    values = (
        widen(x)
        if is_float(x)
        else widen_integer(x).astype(np.int16 if DType.from_numpy(x.dtype).bits <= 8 else np.int64)
    )
    if x_zero_point is not None:
        zero_point = _spread("x_zero_point", x_zero_point, x, axis, block_size)
        values = values - (widen(zero_point) if is_float(x) else widen_integer(zero_point))
    working = np.result_type(scale.dtype, to.numpy if to is DType.FLOAT64 else np.float32)
    numbers = values.astype(working)
    numbers *= scale.astype(working)
    return narrow(numbers, to.numpy)


@op("DequantizeLinear", since=10)
def dequantize_linear_10(x: Array, x_scale: Array, x_zero_point: Array | None = None) -> Array:
    """(x - x_zero_point) * x_scale, with one scale.

    x: int8, uint8 or int32; x_scale: float32, one element; x_zero_point: dtype of x, by default 0 -> float32.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html#dequantizelinear-10
    """
    if x_scale.size != 1:
        raise ShapeError(f"x_scale: expected one element, got shape {list(x_scale.shape)}")
    return _dequantize(x, x_scale, x_zero_point, to=DType.from_numpy(x_scale.dtype))


@op("DequantizeLinear", since=(13, 19))
def dequantize_linear_13(x: Array, x_scale: Array, x_zero_point: Array | None = None, *, axis: int = 1) -> Array:
    """(x - x_zero_point) * x_scale, with one scale or one per slice along an axis.

    x: int8, uint8, int32, from opset 19 on float8; x_scale: float; x_zero_point: dtype of x, by default 0 -> dtype of
    x_scale.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html#dequantizelinear-19
    """
    return _dequantize(x, x_scale, x_zero_point, axis=axis, to=DType.from_numpy(x_scale.dtype))


@op("DequantizeLinear", since=21)
def dequantize_linear_21(
    x: Array, x_scale: Array, x_zero_point: Array | None = None, *, axis: int = 1, block_size: int = 0
) -> Array:
    """(x - x_zero_point) * x_scale, with one scale, one per slice, or one per block along an axis.

    x: integer or float8; x_scale: float; x_zero_point: dtype of x, by default 0 -> dtype of x_scale.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html#dequantizelinear-21
    """
    return _dequantize(x, x_scale, x_zero_point, axis=axis, block_size=block_size, to=DType.from_numpy(x_scale.dtype))


@op("DequantizeLinear", since=(23, 24, 25, 28))
def dequantize_linear_23(
    x: Array,
    x_scale: Array,
    x_zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    context: Context,
) -> Array:
    """(x - x_zero_point) * x_scale, in the type that output_dtype names, by default that of x_scale.

    x: integer or narrow float; x_scale: float, one element, [Di], or one per block; x_zero_point: dtype of x, by
    default 0. A float8e8m0 scale without output_dtype gives float32.   Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html#dequantizelinear-28
    """
    to = DType.from_onnx(output_dtype) if output_dtype else DType.from_numpy(x_scale.dtype)
    if not to.is_float:
        raise InvalidModelError(f"output_dtype: expected a float type, got {to.value}")
    if context.float64:
        to = DType.FLOAT64
    elif to is DType.FLOAT8E8M0:
        to = DType.FLOAT32
    return _dequantize(x, x_scale, x_zero_point, axis=axis, block_size=block_size, to=to)


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(x: Array) -> tuple[Array, Array, Array]:
    """uint8 values with the scale and zero point that map the range of x, extended to hold 0, to [0, 255].

    x: float32 -> uint8 of its shape, a float32 scalar, a uint8 scalar. If x is all zeros or empty, the scale is 1.
    Spec: https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html#dynamicquantizelinear-11
    """
    least, greatest = np.min(x, initial=0), np.max(x, initial=0)
    span = np.asarray((greatest - least) / x.dtype.type(255))
    scale = np.where(span == 0, x.dtype.type(1), span)
    zero_point = saturate(np.rint(np.clip(-least / scale, 0, 255)), np.uint8)
    return rounded_to(x / scale, zero_point, DType.UINT8, True), narrow(scale, x), zero_point
