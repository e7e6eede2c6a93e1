"""Operators of com.microsoft: onnxruntime, whose they are, as judge; and the same calls in the float64 oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.reference.judge import agree, model, onnxruntime_outputs, reference_outputs
from tests.reference.one_node import run, run_all
from webdnn_onnx.errors import InvalidModelError, ShapeError, UnsupportedOpError

MS = "com.microsoft"
FLOAT, STRING, UINT8, INT8, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.STRING,
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.INT64,
)
RANDOM = np.random.default_rng(7)


def f32(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(f32(*shape, scale=0.02)) + np.float32(0.001)


def u8(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def scalar(value: float, dtype: Any = np.float32) -> np.ndarray:
    return np.array(value, dtype)


@dataclass(frozen=True)
class Case:
    """A call; `outputs` are element types, 0 where an output is not named."""

    name: str
    op: str
    inputs: list[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (FLOAT,)
    domain: str = MS
    tolerance: float = 1e-4


def elementwise() -> Iterator[Case]:
    x = f32(2, 3, 8)
    yield Case("gelu", "Gelu", [x])
    yield Case("quick_gelu", "QuickGelu", [x], {"alpha": 1.2})
    yield Case("fast_gelu", "FastGelu", [x])
    yield Case("fast_gelu/bias", "FastGelu", [x, f32(8)])
    yield Case("bias_gelu", "BiasGelu", [x, f32(8)])
    yield Case("scaled_silu", "ScaledSiLU", [x], {"alpha": 1.3})


def normalizations() -> Iterator[Case]:
    x = f32(2, 3, 8)
    for shape in ((2, 3, 8), (1, 3, 8), (3, 8)):
        inputs = [x, f32(*shape), f32(8), f32(8), f32(8)]
        outputs = (FLOAT, 0, 0, FLOAT)
        yield Case(f"skip_layer/{len(shape)}{shape[0]}", "SkipLayerNormalization", inputs, {"epsilon": 1e-5}, outputs)
    yield Case("skip_layer/no_beta", "SkipLayerNormalization", [x, x, f32(8)])
    inputs = [x, f32(2, 3, 8), f32(8), f32(8)]
    yield Case("skip_simplified", "SkipSimplifiedLayerNormalization", inputs, {}, (FLOAT, 0, 0, FLOAT))
    yield Case("simplified", "SimplifiedLayerNormalization", [x, f32(8)], {}, domain="")
    ids = RANDOM.integers(0, 5, (2, 3)).astype(np.int32)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    tables = [f32(10, 8), f32(5, 8), f32(2, 8), f32(8), f32(8)]
    outputs = (FLOAT, INT32, FLOAT)
    yield Case("embed", "EmbedLayerNormalization", [ids, ids % 2, *tables, mask], {}, outputs)
    inputs = [ids, None, tables[0], tables[1], None, *tables[3:], None, ids]
    yield Case("embed/positions", "EmbedLayerNormalization", inputs, {}, outputs)
    for activation in ("silu", "sigmoid"):
        yield Case(f"gated_rms/{activation}", "GatedRMSNorm", [x, f32(4), f32(2, 3, 8)], {"activation": activation})
    yield Case("branchwise_rms", "BranchwiseRMSNorm", [x, f32(8)], {"num_branches": 2})


def products() -> Iterator[Case]:
    for flags in range(4):
        transposed, batch = flags & 1, flags >> 1
        a = {0: (2, 3, 4, 5), 1: (2, 3, 5, 4), 2: (4, 2, 3, 5), 3: (5, 2, 3, 4)}[flags]
        b = {0: (2, 3, 5, 6), 1: (2, 3, 6, 5), 2: (5, 2, 3, 6), 3: (6, 2, 3, 5)}[flags]
        attributes = {"transA": transposed, "transB": transposed, "transBatchA": batch, "transBatchB": batch}
        yield Case(f"fused_matmul/{flags}", "FusedMatMul", [f32(*a), f32(*b)], {"alpha": 0.5, **attributes})
    yield Case("transpose_matmul", "TransposeMatMul", [f32(4, 3), f32(5, 3)], {"transB": 1})
    for activation, parameters in (
        ("Relu", []),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.2, 0.3]),
        ("HardSigmoid", [0.3, 0.4]),
    ):
        attributes = {"activation": activation, "pads": [1, 1, 1, 1], "group": 2}
        if parameters:
            attributes["activation_params"] = parameters
        inputs = [f32(1, 4, 5, 5), f32(4, 2, 3, 3), f32(4), f32(1, 4, 5, 5)]
        yield Case(f"fused_conv/{activation}", "FusedConv", inputs, attributes)
    for activation in ("Tanh", "Sigmoid", "Elu", "Softplus"):
        attributes = {"activation": activation} | ({"activation_alpha": 0.7} if activation == "Elu" else {})
        yield Case(f"fused_gemm/{activation}", "FusedGemm", [f32(3, 4), f32(4, 5), f32(5)], attributes)


def blocks() -> Iterator[Case]:
    for bits in (2, 4, 8):
        for K, size in ((64, 32), (40, 16)):
            count = -(-K // size)
            weights, scales = u8(5, count, size * bits // 8), f32(5, count)
            points = {"default": None, "packed": u8(5, -(-count * bits // 8))}
            if bits < 8:
                points["float"] = f32(5, count) + np.float32(1 << (bits - 1))
            for name, zero in points.items():
                inputs = [f32(2, 3, K), weights, scales, zero, None, f32(5)]
                attributes = {"K": K, "N": 5, "bits": bits, "block_size": size}
                yield Case(f"matmul_nbits/{bits}/{K}/{name}", "MatMulNBits", inputs, attributes, tolerance=5e-3)
        inputs = [u8(7, 8 * bits), np.array([[1, -1], [6, 9]]), f32(7, 4), None]
        attributes = {"bits": bits, "block_size": 16}
        yield Case(f"gather_block/{bits}/default", "GatherBlockQuantized", inputs, attributes)
        inputs = [*inputs[:3], u8(7, max(bits // 2, 1))]
        yield Case(f"gather_block/{bits}/packed", "GatherBlockQuantized", inputs, attributes)
    for kind in (0, 1):
        attributes = {"K": 16, "N": 5, "block_size": 16, "quant_type": kind}
        yield Case(f"matmul_bnb4/{kind}", "MatMulBnb4", [f32(2, 3, 16), u8(40), f32(5)], attributes)
    groups = np.array([1, 0] * 16, np.int32)
    inputs = [f32(2, 32), u8(5, 2, 8), f32(5, 2), None, groups]
    yield Case("matmul_nbits/groups", "MatMulNBits", inputs, {"K": 32, "N": 5, "block_size": 16}, tolerance=5e-3)
    inputs = [f32(2, 32), u8(5, 2, 0), f32(5, 2), None, None, f32(5)]
    yield Case("matmul_nbits/empty", "MatMulNBits", inputs, {"K": 32, "N": 5, "block_size": 16})


def quantized() -> Iterator[Case]:
    yield Case("dynamic_matmul", "DynamicQuantizeMatMul", [f32(2, 3, 8), u8(8, 5), positive(1), u8(1), f32(5)])
    yield Case("dynamic_matmul/columns", "DynamicQuantizeMatMul", [f32(3, 8), i8(8, 5), positive(5), i8(5)])
    inputs = [u8(3, 8), u8(8, 5), positive(1), positive(5), u8(1), u8(5), f32(5)]
    yield Case("matmul_integer_to_float", "MatMulIntegerToFloat", inputs)
    a, b = [u8(3, 4), scalar(0.02), scalar(3, np.uint8)], [u8(5, 4), scalar(0.03), scalar(7, np.uint8)]
    yield Case("gemm/float", "QGemm", [*a, *b], {"transB": 1})
    bias = RANDOM.integers(-500, 500, 5).astype(np.int32)
    inputs = [*a, i8(4, 5), positive(5), i8(5), bias, scalar(0.5), scalar(100, np.uint8)]
    yield Case("gemm", "QGemm", inputs, {"alpha": 0.7}, (UINT8,))
    for name, dtype, kind, draw in (("u8", np.uint8, UINT8, u8), ("i8", np.int8, INT8, i8)):

        def z(value: int, dtype: Any = dtype) -> np.ndarray:
            return scalar(value, dtype)

        y = [scalar(0.04), z(2)]
        pair = [draw(2, 3, 4), scalar(0.02), z(3), draw(4), scalar(0.03), z(7), *y]
        yield Case(f"add/{name}", "QLinearAdd", pair, {}, (kind,))
        yield Case(f"mul/{name}", "QLinearMul", pair, {}, (kind,))
        x = [draw(1, 6, 6, 6), scalar(0.02), z(3)]
        yield Case(f"sigmoid/{name}", "QLinearSigmoid", [*x, scalar(0.004), z(0)], {}, (kind,))
        yield Case(f"leaky_relu/{name}", "QLinearLeakyRelu", [*x, *y], {"alpha": 0.2}, (kind,))
        for last in (0, 1):
            window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "channels_last": last}
            yield Case(f"average/{name}/{last}", "QLinearAveragePool", [*x, *y], window, (kind,))
            yield Case(f"global/{name}/{last}", "QLinearGlobalAveragePool", [*x, *y], {"channels_last": last}, (kind,))
        parts = [draw(2, 3), scalar(0.03), z(2), draw(2, 4), scalar(0.01), z(5)]
        yield Case(f"concat/{name}", "QLinearConcat", [*y, *parts], {"axis": 1}, (kind,))
        for opset in (12, 13):
            attributes = {"axis": 1, "opset": opset}
            inputs = [draw(2, 3, 4), scalar(0.03), z(4), scalar(1 / 256), scalar(0 if kind == UINT8 else -128, dtype)]
            yield Case(f"softmax/{name}/{opset}", "QLinearSoftmax", inputs, attributes, (kind,))
        condition = RANDOM.integers(0, 2, (2, 3)).astype(np.bool_)
        inputs = [condition, draw(2, 3), scalar(0.02), z(3), draw(3), scalar(0.03), z(1), scalar(0.025), z(2)]
        yield Case(f"where/{name}", "QLinearWhere", inputs, {}, (kind,))
        bias = RANDOM.integers(-100, 100, 6).astype(np.int32)
        inputs = [draw(1, 5, 5, 4), scalar(0.02), z(3), i8(6, 2, 3, 3), positive(6), np.zeros(6, np.int8)]
        attributes = {"group": 2, "channels_last": 1, "pads": [1, 1, 1, 1]}
        yield Case(f"conv/{name}", "QLinearConv", [*inputs, scalar(0.3), z(4), bias], attributes, (kind,))
        window = {"kernel_shape": [2, 2], "strides": [2, 2]}
        yield Case(f"max_pool/{name}", "NhwcMaxPool", [draw(1, 5, 5, 4)], window, (kind,))
        yield Case(f"quantize/{name}", "QuantizeLinear", [f32(3, 4), positive(4), draw(4)], {"axis": 1}, (kind,))
        yield Case(f"dequantize/{name}", "DequantizeLinear", [draw(3, 4), positive(3), draw(3)], {"axis": 0})


def tensors() -> Iterator[Case]:
    yield Case("trilu", "Trilu", [f32(2, 3, 4), scalar(1, np.int64)], {"upper": 0})
    yield Case("range", "Range", [scalar(1), scalar(5), scalar(0.7)])
    yield Case("range/no_delta", "Range", [np.array([1], np.int32), np.array([5], np.int32)], {}, (INT32,))
    for mode in ("constant", "edge", "reflect"):
        yield Case(f"pad/{mode}", "Pad", [f32(3, 4), np.array([1, 1, 2, 0]), np.array([2], np.float32)], {"mode": mode})
    yield Case("gather_nd", "GatherND", [f32(3, 4, 5), np.array([[0, 1], [2, 3]])])
    yield Case("expand_dims", "ExpandDims", [f32(3, 4), scalar(-1, np.int32)])
    yield Case("unique", "Unique", [np.array([2, 1, 1, 3, 4, 3], np.float32)], {}, (FLOAT, INT64, INT64))
    yield Case("inverse", "Inverse", [f32(2, 4, 4) + 4 * np.eye(4, dtype=np.float32)])
    for metric in ("euclidean", "sqeuclidean"):
        yield Case(f"cdist/{metric}", "CDist", [f32(4, 6), f32(5, 6)], {"metric": metric})
    ids = np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]])
    for size in (1, 2, 3):
        yield Case(f"n_gram/{size}", "NGramRepeatBlock", [ids, f32(2, 6)], {"ngram_size": size})
    rois = np.array([[0.1, 0.2, 0.8, 0.9], [0, 0, 1.3, 1], [0.5, 0.5, 0.2, 0.1]], np.float32)
    for mode in ("bilinear", "nearest"):
        inputs = [f32(2, 3, 6, 7), rois, np.array([0, 1, 1], np.int32), np.array([4, 5], np.int32)]
        yield Case(f"crop/{mode}", "CropAndResize", inputs, {"mode": mode, "extrapolation_value": 7.0})
    yield Case("grid_sample", "GridSample", [f32(2, 3, 4, 5), f32(2, 6, 7, 2)], {"mode": "bicubic"})


def texts() -> Iterator[Case]:
    words = np.array(["Hello World", "I love computer  science !", "", " a b "], object)
    for name, attributes in {
        "separators": {"separators": ["o+", " "]},
        "short": {"separators": ["o+", " "], "mincharnum": 2},
        "marks": {"separators": [" "], "mark": 1},
        "characters": {"separators": [""], "mark": 1},
        "expression": {"tokenexp": "[a-z]|[a-z]+", "mark": 1, "mincharnum": 3},
        "dot": {"tokenexp": "."},
    }.items():
        whole = {"mark": 0, "mincharnum": 1, "pad_value": "#"} | attributes
        yield Case(f"tokenizer/{name}", "Tokenizer", [words], whole, (STRING,))
    blank = {"mark": 1, "mincharnum": 1, "pad_value": "#", "separators": [" "]}
    yield Case("tokenizer/none", "Tokenizer", [np.array([[" "], [""]], object)], blank, (STRING,))


def states() -> Iterator[Case]:
    for rule in ("linear", "gated", "delta", "gated_delta"):
        for heads, kv_heads in ((4, 2), (2, 4)):
            decay = -np.abs(f32(2, 5, kv_heads)) if "gated" in rule else None
            beta = RANDOM.random((2, 5, kv_heads)).astype(np.float32) if "delta" in rule else None
            inputs = [f32(2, 5, heads * 3), f32(2, 5, kv_heads * 3, scale=0.5), f32(2, 5, kv_heads * 6)]
            attributes = {"q_num_heads": heads, "kv_num_heads": kv_heads, "update_rule": rule}
            inputs += [f32(2, kv_heads, 3, 6), decay, beta]
            name = f"linear_attention/{rule}/{heads}"
            yield Case(name, "LinearAttention", inputs, attributes, (FLOAT, FLOAT))
        gated = {"gate_activation": "softplus"} if "gated" in rule else {}
        inputs = [f32(6, 2, 3), f32(6, 2, 3), f32(6, 4, 5), np.array([0, 2, 6], np.int32)]
        inputs += [f32(6, 4) if gated else None, f32(6, 4) if "delta" in rule else None, f32(2, 4, 5, 3)]
        inputs += [f32(4), f32(4)] if gated else []
        attributes = {"update_rule": rule, "qk_l2_norm": 1, "beta_activation": "sigmoid", **gated}
        yield Case(f"gated_delta_net/{rule}", "GatedDeltaNet", inputs, attributes, (FLOAT, FLOAT))
    for last in (0, 1):
        for dilation in (1, 2):
            x, past = ((2, 5, 4), (2, 2 * dilation, 4)) if last else ((2, 4, 5), (2, 4, 2 * dilation))
            inputs = [f32(*x), f32(4, 1, 3), f32(4), f32(*past)]
            attributes = {"activation": "silu", "dilation": dilation, "channels_last": last}
            yield Case(f"causal_conv/{last}{dilation}", "CausalConvWithState", inputs, attributes, (FLOAT, FLOAT))
    inputs = [f32(2, 3, 4), f32(4), -np.abs(f32(4)), f32(2, 3, 4)]
    yield Case("linear_attention_gate", "LinearAttentionGate", inputs, {}, (FLOAT, FLOAT))


def experts() -> Iterator[Case]:
    for activation in ("relu", "gelu", "silu", "identity", "swiglu"):
        for normalize in (0, 1):
            wide = 32 if activation == "swiglu" else 16
            attributes = {"k": 2, "activation_type": activation, "normalize_routing_weights": normalize}
            if activation == "swiglu":
                attributes |= {"swiglu_fusion": 1, "swiglu_limit": 2.0, "activation_alpha": 1.7, "activation_beta": 1.0}
            inputs = [f32(5, 8), f32(5, 4), f32(4, wide, 8), f32(4, wide), f32(4, 8, 16), f32(4, 8)]
            yield Case(f"moe/{activation}/{normalize}", "MoE", inputs, attributes)
    for bits in (4, 8):
        for block in (0, 16):
            count = 32 // block if block else 1
            attributes = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": bits}
            attributes |= {"normalize_routing_weights": 1} | ({"block_size": block} if block else {})
            scales = [positive(4, size, count) if block else positive(4, size) for size in (64, 32)]
            inputs = [f32(5, 32), f32(5, 4), u8(4, 64, 4 * bits), scales[0], f32(4, 64), u8(4, 32, 4 * bits), scales[1]]
            yield Case(f"q_moe/{bits}/{block}", "QMoE", [*inputs, f32(4, 32)], attributes, tolerance=5e-2)


def legacy() -> Iterator[Case]:
    x = f32(1, 3, 6, 7)
    for op, attributes in (
        ("Affine", {"alpha": 2.0, "beta": 1.0}),
        ("Scale", {"scale": 2.0}),
        ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}),
        ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}),
        ("ImageScaler", {"scale": 2.0, "bias": [1.0, 2.0, 3.0]}),
        ("Crop", {"border": [1, 1, 1, 2]}),
    ):
        yield Case(f"legacy/{op}", op, [x], attributes, domain="")
    yield Case("legacy/LayerNormalization", "LayerNormalization", [x, f32(7), f32(7)], {"epsilon": 1e-3}, domain="")
    for across in (0, 1):
        for variance in (0, 1):
            attributes = {"across_channels": across, "normalize_variance": variance}
            name = f"legacy/MeanVarianceNormalization/{across}{variance}"
            yield Case(name, "MeanVarianceNormalization", [f32(2, 3, 4, 5)], attributes, domain="")
    yield Case("legacy/Crop/scale", "Crop", [x], {"border": [1, 1, 1, 2], "scale": [2, 3]}, domain="")
    starts, ends, axes = np.array([1, 0]), np.array([-1, 9]), np.array([2, 3])
    yield Case("legacy/DynamicSlice", "DynamicSlice", [x, starts, ends, axes], domain="")


CASES = {
    case.name: case
    for family in (
        elementwise, normalizations, products, blocks, quantized, tensors, texts, states, experts, legacy,
    )
    for case in family()
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_agrees(name: str) -> None:
    case = CASES[name]
    opset = 1 if case.domain else 7
    if set(case.outputs) & {UINT8, INT8}:
        # Quantized results may differ by one step, where a quotient lies half way between two.
        data = model(case.op, case.inputs, case.attributes, opset, case.outputs, case.domain)
        (expected,), (got,) = onnxruntime_outputs(data, case.inputs), reference_outputs(data, case.inputs)
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        assert np.abs(got.astype(np.int32) - expected).max() <= 1
        return
    tolerances = {"rtol": case.tolerance, "atol": case.tolerance}
    agree(case.op, case.inputs, case.attributes, opset=opset, outputs=case.outputs, domain=case.domain, **tolerances)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if set(case.outputs) <= {0, FLOAT}])
def test_the_oracle_computes_in_float64(name: str) -> None:
    case = CASES[name]
    data = model(case.op, case.inputs, case.attributes, 1 if case.domain else 7, case.outputs, case.domain)
    exact = reference_outputs(data, case.inputs, float64=True)
    for ours, oracle in zip(reference_outputs(data, case.inputs), exact, strict=True):
        assert oracle.dtype == np.float64
        np.testing.assert_allclose(ours, oracle, rtol=5e-2 if "dynamic" in name else 1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu"])
def test_activations_keep_the_type(op: str, dtype: type) -> None:
    x = f32(3, 4).astype(dtype)
    got = run(op, x, opset=1, domain=MS)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, run(op, x.astype(np.float64), opset=1, domain=MS), rtol=2e-3, atol=1e-3)


def test_operators_without_a_cpu_kernel() -> None:
    x, bias = f32(2, 3, 8), f32(8)
    np.testing.assert_allclose(run("BiasAdd", x, bias, x, opset=1, domain=MS), 2 * x + bias, rtol=1e-6)
    half = run("BiasSplitGelu", x, bias, opset=1, domain=MS)
    expected = (x + bias)[..., :4] * run("Gelu", (x + bias)[..., 4:], opset=1, domain=MS)
    np.testing.assert_allclose(half, expected, rtol=1e-6)


@pytest.mark.parametrize("last", [0, 1])
def test_group_norm_is_that_of_ai_onnx_with_channels_last(last: int) -> None:
    x, gamma, beta = f32(2, 6, 3, 4), f32(6), f32(6)
    expected = run("GroupNormalization", x, gamma, beta, opset=21, num_groups=3)
    expected = expected / (1 + np.exp(-expected))
    given = np.moveaxis(x, 1, -1) if last else x
    got = run("GroupNorm", given, gamma, beta, opset=1, domain=MS, groups=3, activation=1, channels_last=last)
    np.testing.assert_allclose(np.moveaxis(got, -1, 1) if last else got, expected, rtol=1e-4, atol=1e-5)


def test_channels_last_convolution() -> None:
    x, w = f32(1, 5, 5, 4), f32(6, 4, 3, 3)
    expected = run("Conv", np.moveaxis(x, -1, 1), w, opset=11)
    got = run("NhwcFusedConv", x, w, opset=1, domain=MS, activation="Relu")
    np.testing.assert_allclose(got, np.maximum(np.moveaxis(expected, 1, -1), 0), rtol=1e-5, atol=1e-5)


def test_a_windowed_state_holds_the_state_after_each_of_the_last_tokens() -> None:
    q, k, v = f32(1, 4, 3), f32(1, 4, 3), f32(1, 4, 2)
    common: dict[str, Any] = {"opset": 1, "domain": MS, "q_num_heads": 1, "kv_num_heads": 1, "update_rule": "linear"}
    _, window = run_all("LinearAttention", q, k, v, outputs=2, state_window=2, **common)
    for slot, tokens in ((0, 3), (1, 4)):
        _, state = run_all("LinearAttention", q[:, :tokens], k[:, :tokens], v[:, :tokens], outputs=2, **common)
        np.testing.assert_allclose(window[slot], state, rtol=1e-5, atol=1e-6)


def test_the_quantized_lstm_is_near_the_real_one() -> None:
    W, R = i8(1, 3, 20), i8(1, 5, 20)
    X, B = f32(4, 2, 3), f32(1, 40)
    scale, zero = np.array([0.01], np.float32), np.array([0], np.int8)
    real = [np.swapaxes(x * scale, 1, 2).astype(np.float32) for x in (W, R)]
    got = run("DynamicQuantizeLSTM", X, W, R, B, None, None, None, None, scale, zero, scale, zero, opset=1, domain=MS)
    np.testing.assert_allclose(got, run("LSTM", X, *real, B, opset=14), atol=0.05)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(InvalidModelError, match="activation"):
        run("FusedGemm", f32(2, 2), f32(2, 2), opset=1, domain=MS, activation="Swell")
    with pytest.raises(ShapeError, match="MatMulNBits"):
        run("MatMulNBits", f32(2, 31), u8(5, 2, 8), f32(5, 2), opset=1, domain=MS, K=32, N=5, block_size=16)
    blank, router = np.zeros((1, 1, 1), np.uint8), f32(1, 1)
    with pytest.raises(UnsupportedOpError, match="quant_type"):
        run("QMoE", router, router, blank, None, None, blank, None, opset=1, domain=MS, quant_type="fp4")
