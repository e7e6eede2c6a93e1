"""Quantization: narrow types, blocks, precision, and products with parameters per row or channel."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run, run_all
from tests.reference.strategies import filled
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError

NARROW = [DType.INT4, DType.UINT4, DType.INT2, DType.UINT2, DType.INT16, DType.UINT16]


@pytest.mark.parametrize("target", NARROW, ids=lambda dtype: dtype.value)
def test_quantize_to_integers_saturates(target: DType) -> None:
    x = np.array([-1e9, -3.0, -0.5, 0.0, 0.5, 1.0, 2.5, 1e9, np.inf, -np.inf], np.float32)
    got = run("QuantizeLinear", x, np.float32(0.5), np.array(1).astype(target.numpy), opset=25)
    assert got.dtype == target.numpy
    bits = target.bits
    least, greatest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if target.is_signed_integer else (0, (1 << bits) - 1)
    expected = np.clip(np.rint(x.astype(np.float64) / 0.5) + 1, least, greatest)
    np.testing.assert_array_equal(got.astype(np.int64), expected)


def test_nan_quantizes_to_the_zero_point() -> None:
    assert run("QuantizeLinear", np.float32(np.nan), np.float32(1), np.uint8(7), opset=13) == 7


def test_without_a_zero_point_the_output_is_uint8_or_output_dtype() -> None:
    x = np.array([-3.0, 3.0], np.float32)
    assert run("QuantizeLinear", x, np.float32(1), opset=21).dtype == np.uint8
    assert run("QuantizeLinear", x, np.float32(1), opset=21, output_dtype=DType.INT4.onnx).dtype == ml_dtypes.int4
    with pytest.raises(DTypeError, match="output_dtype: expected int8 as y_zero_point has, got uint8"):
        run("QuantizeLinear", x, np.float32(1), np.int8(0), opset=21, output_dtype=DType.UINT8.onnx)


@pytest.mark.parametrize("saturate", [0, 1])
def test_quantize_to_float8_saturates_or_not(saturate: int) -> None:
    zero = np.array(0, ml_dtypes.float8_e4m3fn)
    got = run("QuantizeLinear", np.array([1e4, 3.0], np.float32), np.float32(2), zero, opset=19, saturate=saturate)
    np.testing.assert_array_equal(got.astype(np.float32), [448 if saturate else np.nan, 1.5])


def test_quantize_to_float4() -> None:
    x = np.array([0.2, 0.3, 5.1, -100, 1.25], np.float32)
    got = run("QuantizeLinear", x, np.float32(1), opset=23, output_dtype=DType.FLOAT4E2M1.onnx)
    np.testing.assert_array_equal(got.astype(np.float32), [0, 0.5, 6, -6, 1])


def test_quantization_in_blocks() -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    scale = np.array([[1, 2, 4], [0.5, 1, 3]], np.float32)
    spread = np.repeat(scale, 2, axis=1)[:, :5]
    got = run("QuantizeLinear", x, scale, opset=21, axis=1, block_size=2)
    np.testing.assert_array_equal(got, np.rint(x / spread))
    back = run("DequantizeLinear", got, scale, opset=21, axis=-1, block_size=2)
    np.testing.assert_array_equal(back, got * spread)
    with pytest.raises(ShapeError, match=r"y_scale: expected shape \[2, 3\] for blocks of 2"):
        run("QuantizeLinear", x, scale[:, :2], opset=21, axis=1, block_size=2)


def test_the_quotient_is_rounded_to_the_type_of_the_division() -> None:
    x, scale = np.array([1000.4], np.float32), np.array(0.9, np.float32)
    zero = np.array(0, np.int16)
    exact = run("QuantizeLinear", x, scale, zero, opset=23)
    half = run("QuantizeLinear", x, scale, zero, opset=23, precision=DType.BFLOAT16.onnx)
    assert int(exact[0]) == round(1000.4 / 0.9)
    assert int(half[0]) == int(np.float32(1000.4 / 0.9).astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23, 24, 25, 28])
def test_dequantize_at_every_version(opset: int) -> None:
    x = np.array([[0, 128, 255], [3, 4, 5]], np.uint8)
    got = run("DequantizeLinear", x, np.float32(0.5), np.uint8(128), opset=opset)
    np.testing.assert_array_equal(got, (x.astype(np.float32) - 128) * np.float32(0.5))
    if opset >= 13:
        scale, zero = np.array([1, 2, 4], np.float32), np.array([0, 128, 5], np.uint8)
        got = run("DequantizeLinear", x, scale, zero, opset=opset, axis=1)
        np.testing.assert_array_equal(got, (x.astype(np.float32) - zero) * scale)


def test_the_difference_of_int32_does_not_overflow() -> None:
    x = np.array([2**31 - 1, -(2**31)], np.int32)
    got = run("DequantizeLinear", x, np.float32(1), np.int32(-1), opset=13)
    np.testing.assert_array_equal(got, np.array([2.0**31, -(2.0**31) + 1], np.float32))


def test_dequantize_from_narrow_types_to_a_named_type() -> None:
    x = np.array([-8, 7], np.int8).astype(ml_dtypes.int4)
    got = run("DequantizeLinear", x, np.float16(0.5), opset=23, output_dtype=DType.BFLOAT16.onnx)
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got.astype(np.float32), [-4, 3.5])
    scale = np.array(4, np.float32).astype(ml_dtypes.float8_e8m0fnu)
    got = run("DequantizeLinear", x, scale, opset=24, output_dtype=DType.FLOAT16.onnx)
    np.testing.assert_array_equal(got, np.array([-32, 28], np.float16))


def test_quantization_in_the_oracle_still_rounds_to_integers() -> None:
    x = np.array([0.4, 1.6], np.float32)
    got = run("QuantizeLinear", x, np.float32(1), opset=13, float64=True)
    np.testing.assert_array_equal(got, np.array([0, 2], np.uint8))
    assert run("DequantizeLinear", got, np.float32(0.5), opset=13, float64=True).dtype == np.float64


NARROW = [DType.FLOAT4E2M1, DType.FLOAT6E2M3, DType.FLOAT6E3M2, DType.FLOAT8E4M3FN, DType.FLOAT8E5M2]


@pytest.mark.parametrize("float64", [False, True], ids=["declared", "oracle"])
@pytest.mark.parametrize("dtype", NARROW, ids=lambda dtype: dtype.value)
def test_quantization_to_narrow_floats_rounds_and_comes_back(dtype: DType, float64: bool) -> None:
    x = np.linspace(-3, 3, 25, dtype=np.float32)
    scale = np.array(0.5, np.float32)
    got = run("QuantizeLinear", x, scale, opset=28, output_dtype=dtype.onnx, float64=float64)
    assert got.dtype == dtype.numpy
    np.testing.assert_array_equal(got, (x * 2).astype(dtype.numpy))
    back = run("DequantizeLinear", got, scale, opset=28, float64=float64)
    assert back.dtype == (np.float64 if float64 else np.float32)
    np.testing.assert_array_equal(back, got.astype(np.float32) / 2)


def test_dequantization_in_the_oracle_multiplies_in_float64() -> None:
    x = np.array([2**31 - 1], np.int32)
    scale = np.array(0.5, np.float32).astype(ml_dtypes.float8_e8m0fnu)
    got = run("DequantizeLinear", x, scale, opset=24, float64=True)
    np.testing.assert_array_equal(got, [(2**31 - 1) / 2])


def test_dynamic_quantization_keeps_zero_exact() -> None:
    x = np.array([-1.0, 0.0, 3.0], np.float32)
    y, scale, zero = run_all("DynamicQuantizeLinear", x, opset=11, outputs=3)
    assert (y.dtype, scale.dtype, zero.dtype) == (np.uint8, np.float32, np.uint8)
    assert y[1] == zero
    np.testing.assert_allclose((y.astype(np.float64) - zero) * scale, x, atol=float(scale) / 2)


def test_matmul_integer_with_zero_points_per_row_and_column() -> None:
    a, b = filled((3, 4), np.uint8, 1, 40), filled((4, 5), np.int8, 2, 40)
    row, column = np.array([1, 2, 3], np.uint8), np.array([-1, 0, 1, 2, 3], np.int8)
    expected = (a.astype(int) - row[:, None].astype(int)) @ (b.astype(int) - column.astype(int))
    got = run("MatMulInteger", a, b, row, column, opset=10)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected)
    batched = run("MatMulInteger", a[None], b[None], row.reshape(1, 3, 1), column.reshape(1, 1, 5), opset=10)
    np.testing.assert_array_equal(batched[0], expected)


def test_conv_integer_with_zero_points_per_channel() -> None:
    x, w = filled((1, 2, 5, 5), np.uint8, 1, 40), filled((3, 2, 2, 2), np.int8, 2, 40)
    zero = np.array([1, -2, 3], np.int8)
    wide = run(
        "Conv", x.astype(np.float64) - 9, w.astype(np.float64) - zero.reshape(-1, 1, 1, 1), opset=11, pads=(1,) * 4
    )
    got = run("ConvInteger", x, w, np.uint8(9), zero, opset=10, pads=(1,) * 4)
    np.testing.assert_array_equal(got, wide.astype(np.int32))


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_qlinear_matmul_of_float8(dtype: type) -> None:
    a, b = filled((2, 3), dtype, 1, 1), filled((3, 2), dtype, 2, 1)
    zero, scales = np.array(0, dtype), [np.array(value, np.float16) for value in (0.5, 0.25, 2.0)]
    got = run("QLinearMatMul", a, scales[0], zero, b, scales[1], zero, scales[2], zero, opset=21)
    expected = (a.astype(np.float64) * 0.5) @ (b.astype(np.float64) * 0.25) / 2
    np.testing.assert_array_equal(got, expected.astype(np.float32).astype(dtype))


def test_qlinear_matmul_per_row_and_column() -> None:
    a, b = filled((3, 4), np.uint8, 1, 40), filled((4, 2), np.int8, 2, 40)
    rows, columns = np.array([0.5, 1, 2], np.float32), np.array([1, 0.5], np.float32)
    zero_a, zero_b = np.array([1, 2, 3], np.uint8), np.array([1, -1], np.int8)
    got = run("QLinearMatMul", a, rows, zero_a, b, columns, zero_b, np.float32(8), np.uint8(100), opset=10)
    real = ((a.astype(float) - zero_a[:, None]) * rows[:, None]) @ ((b.astype(float) - zero_b) * columns)
    np.testing.assert_array_equal(got, np.clip(np.rint(real / 8) + 100, 0, 255))


@pytest.mark.parametrize("size", [200, 300])
def test_sums_of_products_are_exact_on_both_sides_of_2_to_the_24(size: int) -> None:
    a = np.full((2, size), 255, np.uint8)
    a[0, 0] = 254
    b = np.full((size, 2), 255, np.uint8)
    expected = a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(run("MatMulInteger", a, b, opset=10), expected)
    x, w = a.reshape(2, size, 1, 1), b.T.reshape(2, size, 1, 1)
    np.testing.assert_array_equal(run("ConvInteger", x, w, opset=10)[..., 0, 0], expected)
    one, zero, step = np.float32(1), np.uint8(0), np.float32(2**20)
    product = run("QLinearMatMul", a, one, zero, b, one, zero, step, zero, opset=10)
    np.testing.assert_array_equal(product, np.rint(expected / 2**20))


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
def test_scales_and_zero_points_have_one_shape(op: str) -> None:
    x = np.zeros((2, 2), np.float32 if op == "QuantizeLinear" else np.int8)
    assert run(op, x, np.ones(1, np.float32), np.int8(0), opset=21).shape == (2, 2)
    for scale, zero_point in ((np.float32(1), np.zeros(2, np.int8)), (np.ones(2, np.float32), np.int8(0))):
        with pytest.raises(ShapeError, match="zero point: expected the shape of the scale, "):
            run(op, x, scale, zero_point, opset=21)


def test_quotients_have_the_precision_of_a_float() -> None:
    with pytest.raises(InvalidModelError, match="precision: expected a float type of 16 bits or more, got int32"):
        run("QuantizeLinear", np.ones(2, np.float32), np.float32(1), opset=23, precision=DType.INT32.onnx)
