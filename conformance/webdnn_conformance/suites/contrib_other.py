"""Recipes of com.microsoft operators on quantized values, tensors and text, and of operators that ai.onnx once had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_conformance.suites.recipes import FLOAT, FLOAT16, INT8, INT32, INT64, STRING, UINT8, UINT32, Draw, Recipe
from webdnn_onnx.dtypes import DType

__all__ = ["FAMILIES"]


def quantized(draw: Draw) -> Iterator[Recipe]:
    yield Recipe(
        "dynamic_matmul",
        "DynamicQuantizeMatMul",
        [draw.f32(2, 3, 8), draw.u8(8, 5), draw.positive(1), draw.u8(1), draw.f32(5)],
    )
    yield Recipe(
        "dynamic_matmul/columns", "DynamicQuantizeMatMul", [draw.f32(3, 8), draw.i8(8, 5), draw.positive(5), draw.i8(5)]
    )
    inputs: list[Any] = [
        draw.u8(3, 8),
        draw.u8(8, 5),
        draw.positive(1),
        draw.positive(5),
        draw.u8(1),
        draw.u8(5),
        draw.f32(5),
    ]
    yield Recipe("matmul_integer_to_float", "MatMulIntegerToFloat", inputs)
    a, b = (
        [draw.u8(3, 4), draw.scalar(0.02), draw.scalar(3, np.uint8)],
        [draw.u8(5, 4), draw.scalar(0.03), draw.scalar(7, np.uint8)],
    )
    yield Recipe("gemm/float", "QGemm", [*a, *b], {"transB": 1})
    bias = draw.integers(-500, 500, 5).astype(np.int32)
    inputs = [*a, draw.i8(4, 5), draw.positive(5), draw.i8(5), bias, draw.scalar(0.5), draw.scalar(100, np.uint8)]
    yield Recipe("gemm", "QGemm", inputs, {"alpha": 0.7}, (UINT8,))
    for name, dtype, kind, codes in (("u8", np.uint8, UINT8, draw.u8), ("i8", np.int8, INT8, draw.i8)):

        def z(value: int, dtype: Any = dtype) -> npt.NDArray[Any]:
            return draw.scalar(value, dtype)

        y = [draw.scalar(0.04), z(2)]
        pair = [codes(2, 3, 4), draw.scalar(0.02), z(3), codes(4), draw.scalar(0.03), z(7), *y]
        yield Recipe(f"add/{name}", "QLinearAdd", pair, {}, (kind,))
        yield Recipe(f"mul/{name}", "QLinearMul", pair, {}, (kind,))
        x = [codes(1, 6, 6, 6), draw.scalar(0.02), z(3)]
        yield Recipe(f"sigmoid/{name}", "QLinearSigmoid", [*x, draw.scalar(0.004), z(0)], {}, (kind,))
        yield Recipe(f"leaky_relu/{name}", "QLinearLeakyRelu", [*x, *y], {"alpha": 0.2}, (kind,))
        for last in (0, 1):
            window: dict[str, Any] = {
                "kernel_shape": [3, 3],
                "pads": [1, 1, 1, 1],
                "strides": [2, 2],
                "channels_last": last,
            }
            yield Recipe(f"average/{name}/{last}", "QLinearAveragePool", [*x, *y], window, (kind,))
            yield Recipe(
                f"global/{name}/{last}", "QLinearGlobalAveragePool", [*x, *y], {"channels_last": last}, (kind,)
            )
        reduced = {"axes": [1, 2], "keepdims": 0}
        yield Recipe(f"reduce_mean/{name}", "QLinearReduceMean", [*x, *y], reduced, (kind,), judged=False)
        parts = [codes(2, 3), draw.scalar(0.03), z(2), codes(2, 4), draw.scalar(0.01), z(5)]
        yield Recipe(f"concat/{name}", "QLinearConcat", [*y, *parts], {"axis": 1}, (kind,))
        for opset in (12, 13):
            attributes: dict[str, Any] = {"axis": 1, "opset": opset}
            inputs = [
                codes(2, 3, 4),
                draw.scalar(0.03),
                z(4),
                draw.scalar(1 / 256),
                draw.scalar(0 if kind == UINT8 else -128, dtype),
            ]
            yield Recipe(f"softmax/{name}/{opset}", "QLinearSoftmax", inputs, attributes, (kind,))
        condition = draw.integers(0, 2, (2, 3)).astype(np.bool_)
        inputs = [
            condition,
            codes(2, 3),
            draw.scalar(0.02),
            z(3),
            codes(3),
            draw.scalar(0.03),
            z(1),
            draw.scalar(0.025),
            z(2),
        ]
        yield Recipe(f"where/{name}", "QLinearWhere", inputs, {}, (kind,))
        bias = draw.integers(-100, 100, 6).astype(np.int32)
        inputs = [
            codes(1, 5, 5, 4),
            draw.scalar(0.02),
            z(3),
            draw.i8(6, 2, 3, 3),
            draw.positive(6),
            np.zeros(6, np.int8),
        ]
        attributes = {"group": 2, "channels_last": 1, "pads": [1, 1, 1, 1]}
        inputs += [draw.scalar(0.3), z(4), bias]
        yield Recipe(f"conv/{name}", "QLinearConv", inputs, attributes, (kind,))
        yield Recipe(f"conv/{name}/weights", "QLinearConv", inputs, attributes, (kind,), constant=(1, 2, *range(3, 9)))
        window = {"kernel_shape": [2, 2], "strides": [2, 2]}
        yield Recipe(f"max_pool/{name}", "NhwcMaxPool", [codes(1, 5, 5, 4)], window, (kind,))
        yield Recipe(
            f"quantize/{name}", "QuantizeLinear", [draw.f32(3, 4), draw.positive(4), codes(4)], {"axis": 1}, (kind,)
        )
        yield Recipe(f"dequantize/{name}", "DequantizeLinear", [codes(3, 4), draw.positive(3), codes(3)], {"axis": 0})


def quantized_tables(draw: Draw) -> Iterator[Recipe]:
    ids = draw.integers(0, 5, (2, 3)).astype(np.int32)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    tables: list[Any] = [draw.u8(10, 8), draw.u8(5, 8), draw.u8(2, 8), draw.u8(8), draw.u8(8)]
    scales = [draw.scalar(0.01 * (1 + place)) for place in range(5)]
    zeros = [draw.scalar(100 + place, np.uint8) for place in range(5)]
    inputs = [ids, ids % 2, *tables, mask, *scales, *zeros]
    weights = (2, 3, 4, 5, 6, *range(8, 18))
    yield Recipe("q_embed", "QEmbedLayerNormalization", inputs, {}, (FLOAT, INT32), tolerance=1e-3, constant=weights)
    for last, dtype, kind in ((0, np.float32, FLOAT), (1, np.float16, FLOAT16)):
        inputs = [draw.u8(7, 32), np.array([[1, -1], [6, 9]]), draw.f32(7, 2).astype(dtype), draw.u8(7, last + 1)]
        attributes = {"bits": 4 * (1 + last), "block_size": 32 >> last, "quantize_axis": 1}
        name = f"gather_block/rows/{dtype.__name__}"
        yield Recipe(name, "GatherBlockQuantized", inputs, attributes, (kind,), tolerance=1e-2, constant=(0, 2, 3))


def wide_codes(draw: Draw) -> Iterator[Recipe]:
    """QuantizeLinear and DequantizeLinear in 16 and 4 bits, of which onnxruntime takes no arrays, and of products."""
    x, scales = draw.f32(3, 4), draw.positive(4)
    for dtype in (DType.INT16, DType.UINT16, DType.INT4, DType.UINT4):
        low = -8 if dtype is DType.INT4 else 0
        zeros, codes = (draw.integers(low, low + 15, shape).astype(dtype.numpy) for shape in ((4,), (3, 4)))
        inputs, kinds, judged = [x, scales, zeros], (dtype.onnx,), dtype.bits > 4
        yield Recipe(f"quantize/{dtype.value}", "QuantizeLinear", inputs, {"axis": 1}, kinds, judged=judged)
        inputs = [codes, scales, zeros]
        yield Recipe(f"dequantize/{dtype.value}", "DequantizeLinear", inputs, {"axis": 1}, judged=judged)
    products = draw.integers(-9999, 9999, (3, 4)).astype(np.int32)
    yield Recipe("dequantize/int32", "DequantizeLinear", [products, draw.scalar(0.01), None])


def recurrent(draw: Draw) -> Iterator[Recipe]:
    for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        for columns in (False, True):
            shape = (count, 20) if columns else (count,)
            limit = 1 if columns else 4
            parameters = [(draw.positive(*shape), draw.integers(0, limit, shape).astype(np.int8)) for _ in range(2)]
            inputs: list[Any] = [draw.f32(4, 2, 3), draw.i8(count, 3, 20), draw.i8(count, 5, 20), draw.f32(count, 40)]
            lengths = np.array([4, 2], np.int32) if columns else None
            states = [draw.f32(count, 2, 5), draw.f32(count, 2, 5), draw.f32(count, 15)] if columns else [None] * 3
            inputs += [lengths, *states, *parameters[0], *parameters[1]]
            attributes = {"hidden_size": 5, "direction": direction}
            name = f"dynamic_lstm/{direction}/{columns:d}"
            weights = (1, 2, 3, 8, 9, 10, 11)
            yield Recipe(
                name, "DynamicQuantizeLSTM", inputs, attributes, (FLOAT,) * 3, tolerance=2e-2, constant=weights
            )


def tensors(draw: Draw) -> Iterator[Recipe]:
    yield Recipe("trilu", "Trilu", [draw.f32(2, 3, 4), draw.scalar(1, np.int64)], {"upper": 0})
    yield Recipe("range", "Range", [draw.scalar(1), draw.scalar(5), draw.scalar(0.7)])
    yield Recipe("range/no_delta", "Range", [np.array([1], np.int32), np.array([5], np.int32)], {}, (INT32,))
    for mode in ("constant", "edge", "reflect"):
        yield Recipe(
            f"pad/{mode}", "Pad", [draw.f32(3, 4), np.array([1, 1, 2, 0]), np.array([2], np.float32)], {"mode": mode}
        )
    yield Recipe("gather_nd", "GatherND", [draw.f32(3, 4, 5), np.array([[0, 1], [2, 3]])])
    yield Recipe("expand_dims", "ExpandDims", [draw.f32(3, 4), draw.scalar(-1, np.int32)])
    yield Recipe("unique", "Unique", [np.array([2, 1, 1, 3, 4, 3], np.float32)], {}, (FLOAT, INT64, INT64))
    yield Recipe("inverse", "Inverse", [draw.f32(2, 4, 4) + 4 * np.eye(4, dtype=np.float32)])
    for metric in ("euclidean", "sqeuclidean"):
        yield Recipe(f"cdist/{metric}", "CDist", [draw.f32(4, 6), draw.f32(5, 6)], {"metric": metric})
    ids = np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]])
    for size in (1, 2, 3):
        yield Recipe(f"n_gram/{size}", "NGramRepeatBlock", [ids, draw.f32(2, 6)], {"ngram_size": size})
    rois = np.array([[0.1, 0.2, 0.8, 0.9], [0, 0, 1.3, 1], [0.5, 0.5, 0.2, 0.1]], np.float32)
    for mode in ("bilinear", "nearest"):
        inputs: list[Any] = [draw.f32(2, 3, 6, 7), rois, np.array([0, 1, 1], np.int32), np.array([4, 5], np.int32)]
        yield Recipe(f"crop/{mode}", "CropAndResize", inputs, {"mode": mode, "extrapolation_value": 7.0})
    for axis in (1, -1):
        attributes: dict[str, Any] = {"dim": axis, "size": 3, "step": 2}
        yield Recipe(f"unfold/{axis % 3}", "UnfoldTensor", [draw.f32(2, 8, 7)], attributes)
    yield Recipe("gated_add", "GatedAdd", [draw.f32(2, 3, 4), draw.f32(2, 3, 4), draw.f32(2, 3, 1)])
    yield Recipe("rfft", "Rfft", [draw.f32(2, 9)], {"signal_ndim": 1}, judged=False)
    for length in (5, 4):
        yield Recipe(f"irfft/{length}", "Irfft", [draw.f32(3, length, 2)], {"signal_ndim": 1}, judged=False)
    yield Recipe("complex_mul", "ComplexMul", [draw.f32(2, 3, 2), draw.f32(3, 2)], judged=False)
    a, b = (draw.integers(-999, 999, shape).astype(np.int16) for shape in ((2, 3, 4), (4, 5)))
    yield Recipe("matmul_integer16", "MatMulInteger16", [a, b], {}, (INT32,))
    for dtype in (np.int32, np.uint32, np.int64, np.uint64):
        x = draw.integers(0, 1 << 31, (2, 3)).astype(dtype)
        yield Recipe(f"murmur/{dtype.__name__}", "MurmurHash3", [x], {"seed": 7}, (UINT32,))
    yield Recipe("murmur/float32", "MurmurHash3", [draw.f32(5)], {"positive": 0}, (INT32,))
    yield Recipe("grid_sample", "GridSample", [draw.f32(2, 3, 4, 5), draw.f32(2, 6, 7, 2)], {"mode": "bicubic"})


def texts(_draw: Draw) -> Iterator[Recipe]:
    words = np.array(["Hello World", "I love computer  science !", "", " a b "], object)
    styles: dict[str, dict[str, Any]] = {
        "separators": {"separators": ["o+", " "]},
        "short": {"separators": ["o+", " "], "mincharnum": 2},
        "marks": {"separators": [" "], "mark": 1},
        "characters": {"separators": [""], "mark": 1},
        "expression": {"tokenexp": "[a-z]|[a-z]+", "mark": 1, "mincharnum": 3},
        "dot": {"tokenexp": "."},
    }
    for name, attributes in styles.items():
        whole: dict[str, Any] = {"mark": 0, "mincharnum": 1, "pad_value": "#"} | attributes
        yield Recipe(f"tokenizer/{name}", "Tokenizer", [words], whole, (STRING,))
    hashed = np.array(["", "a", "ab", "word", "two words", "\u00e9\u4e2d"], object)
    yield Recipe("murmur/string", "MurmurHash3", [hashed], {"positive": 0}, (INT32,))
    blank: dict[str, Any] = {"mark": 1, "mincharnum": 1, "pad_value": "#", "separators": [" "]}
    yield Recipe("tokenizer/none", "Tokenizer", [np.array([[" "], [""]], object)], blank, (STRING,))


def legacy(draw: Draw) -> Iterator[Recipe]:
    x = draw.f32(1, 3, 6, 7)
    calls: dict[str, dict[str, Any]] = {
        "Affine": {"alpha": 2.0, "beta": 1.0},
        "Scale": {"scale": 2.0},
        "ScaledTanh": {"alpha": 2.0, "beta": 0.5},
        "ParametricSoftplus": {"alpha": 2.0, "beta": 0.5},
        "ImageScaler": {"scale": 2.0, "bias": [1.0, 2.0, 3.0]},
        "Crop": {"border": [1, 1, 1, 2]},
    }
    for op, attributes in calls.items():
        yield Recipe(f"legacy/{op}", op, [x], attributes, domain="")
    yield Recipe(
        "legacy/LayerNormalization", "LayerNormalization", [x, draw.f32(7), draw.f32(7)], {"epsilon": 1e-3}, domain=""
    )
    for across in (0, 1):
        for variance in (0, 1):
            attributes = {"across_channels": across, "normalize_variance": variance}
            name = f"legacy/MeanVarianceNormalization/{across}{variance}"
            yield Recipe(name, "MeanVarianceNormalization", [draw.f32(2, 3, 4, 5)], attributes, domain="")
    yield Recipe("legacy/Crop/scale", "Crop", [x], {"border": [1, 1, 1, 2], "scale": [2, 3]}, domain="")
    starts, ends, axes = np.array([1, 0]), np.array([-1, 9]), np.array([2, 3])
    yield Recipe("legacy/DynamicSlice", "DynamicSlice", [x, starts, ends, axes], domain="")


FAMILIES = (quantized, quantized_tables, wide_codes, recurrent, tensors, texts, legacy)
