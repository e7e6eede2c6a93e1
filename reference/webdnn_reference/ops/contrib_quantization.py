"""Quantized products of com.microsoft, and its QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, narrow, scalar, unidirectional, widen, widen_integer
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.linear_algebra import matrix_product
from webdnn_reference.ops.quantization import (
    dequantize_linear_13,
    dynamic_quantize_linear,
    quantize_linear_13,
    rounded_to,
)
from webdnn_reference.ops.quantization_products import matmul_integer
from webdnn_reference.registry import op

__all__ = [
    "dequantize_linear",
    "dynamic_quantize_matmul",
    "matmul_integer16",
    "matmul_integer_to_float",
    "q_gemm",
    "quantize_linear",
]


@op("QuantizeLinear", 1, domain=MS)
def quantize_linear(x: Array, y_scale: Array, y_zero_point: Array | None = None, *, axis: int = 1) -> Array:
    """saturate(round(x / y_scale) + y_zero_point) in the type of the zero point, by default uint8.

    One scale for all of x, or one for each slice along `axis`. Raises ShapeError.
    """
    return quantize_linear_13(x, y_scale, y_zero_point, axis=axis)


@op("DequantizeLinear", 1, domain=MS)
def dequantize_linear(x: Array, x_scale: Array, x_zero_point: Array | None = None, *, axis: int = 1) -> Array:
    """(x - x_zero_point) x_scale in the type of the scale; scales as QuantizeLinear. Raises ShapeError."""
    return dequantize_linear_13(x, x_scale, x_zero_point, axis=axis)


@op("DynamicQuantizeMatMul", 1, domain=MS)
def dynamic_quantize_matmul(
    A: Array, B: Array, b_scale: Array, b_zero_point: Array | None = None, bias: Array | None = None
) -> Array:
    """The product of A, quantized to uint8 as DynamicQuantizeLinear does, and of quantized B, as numbers, plus bias.

    A: float32[..., M, K], B: int8 or uint8[..., K, N], b_scale, b_zero_point: one or [N], bias: [N] -> dtype of A.
    """
    a, a_scale, a_zero_point = dynamic_quantize_linear(A)
    return matmul_integer_to_float(a, B, a_scale, b_scale, a_zero_point, b_zero_point, bias)


@op("MatMulIntegerToFloat", 1, domain=MS)
def matmul_integer_to_float(
    A: Array,
    B: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero_point: Array | None = None,
    b_zero_point: Array | None = None,
    bias: Array | None = None,
) -> Array:
    """The product of quantized matrices, as numbers, plus bias.

    A, B: int8 or uint8; scales and zero points: one each, for B also one per column -> dtype of the scales.
    """
    sums = matmul_integer(A, B, _scalar(a_zero_point), _scalar(b_zero_point))
    scale = widen(scalar(a_scale, "a_scale")) * widen(unidirectional(_one(b_scale), sums.shape, "b_scale"))
    y = sums.astype(scale.dtype) * scale
    return narrow(y if bias is None else y + widen(unidirectional(bias, y.shape, "bias")), a_scale)


@op("MatMulInteger16", 1, domain=MS)
def matmul_integer16(A: Array, B: Array) -> Array:
    """The product of 16-bit integer matrices in 32 bits, which wraps. A, B: int16 or uint16 -> int32 or uint32."""
    kind = np.uint32 if A.dtype == B.dtype == np.uint16 else np.int32
    return matrix_product(A.astype(np.int64), B.astype(np.int64)).astype(kind)


@op("QGemm", 1, domain=MS)
def q_gemm(
    A: Array,
    a_scale: Array,
    a_zero_point: Array,
    B: Array,
    b_scale: Array,
    b_zero_point: Array,
    C: Array | None = None,
    y_scale: Array | None = None,
    y_zero_point: Array | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """alpha A B + C on quantized matrices; quantized if y_scale is given, else float32.

    A: int8 or uint8[M, K], B: [K, N]; C: int32, broadcast to [M, N], in units of alpha a_scale b_scale.
    Raises ShapeError.
    """
    if A.ndim != 2 or B.ndim != 2:
        raise ShapeError(f"A, B: expected rank 2, got shapes {list(A.shape)} and {list(B.shape)}")
    a, b = A.T if transA else A, B.T if transB else B
    sums = matmul_integer(a, b, _scalar(a_zero_point), _scalar(b_zero_point)).astype(np.int64)
    if C is not None:
        sums = sums + unidirectional(C, sums.shape, "C")
    scale = alpha * scalar(a_scale, "a_scale") * unidirectional(_one(b_scale), sums.shape, "b_scale")
    real = sums.astype(scale.dtype) * scale
    if y_scale is None:
        return real
    zero_point = np.zeros((), A.dtype) if y_zero_point is None else _one(y_zero_point)
    return rounded_to(real / _one(y_scale), zero_point, DType.from_numpy(zero_point.dtype), True)


def _one(x: Array) -> Array:
    """A tensor of one element as a scalar; others as they are."""
    return x.reshape(()) if x.size == 1 else x


def _scalar(x: Array | None) -> Array | None:
    return None if x is None else _one(widen_integer(x))
