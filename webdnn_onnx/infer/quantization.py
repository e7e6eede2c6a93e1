"""Quantising and dequantising."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import shape_rule

__all__: list[str] = []


def _quantized_type(call: Call) -> DType:
    if call.has(2):
        return call.dtype(2)
    value = call.number("output_dtype", 0)
    return DType.from_onnx(value) if value else DType.UINT8


def _dequantized_type(call: Call) -> DType:
    value = call.number("output_dtype", 0)
    scale = call.dtype(1)
    return DType.from_onnx(value) if value else DType.FLOAT32 if scale is DType.FLOAT8E8M0 else scale


@shape_rule("QuantizeLinear", dtype=_quantized_type)
@shape_rule("QuantizeLinear", domain="com.microsoft", dtype=_quantized_type)
@shape_rule("DequantizeLinear", dtype=_dequantized_type)
@shape_rule("DequantizeLinear", domain="com.microsoft", dtype=_dequantized_type)
def quantize(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule("DynamicQuantizeLinear", dtype=(DType.UINT8, DType.FLOAT32, DType.UINT8))
def dynamic_quantize(call: Call) -> list[Shape]:
    """The input's shape, and scalars for scale and zero point."""
    return [call.shape(0), (), ()]
