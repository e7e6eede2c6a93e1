"""Operators of com.microsoft: onnxruntime, whose they are, as judge; and the same calls in the float64 oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.reference.judge import agree, model, onnxruntime_outputs, reference_outputs
from tests.reference.one_node import run, run_all
from webdnn_conformance.suites import contrib
from webdnn_conformance.suites.recipes import FLOAT, INT8, MS, UINT8
from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError, UnsupportedOpError

RANDOM = np.random.default_rng(7)

CASES = {recipe.name: recipe for recipe in contrib.recipes()}


def f32(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


def u8(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.judged])
def test_agrees(name: str) -> None:
    case = CASES[name]
    opset = 1 if case.domain else 7
    if case.outputs[0] in (UINT8, INT8):
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
    x: np.ndarray = f32(3, 4).astype(dtype)
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


@pytest.mark.parametrize("batch", [1, 2])
def test_a_mask_of_one_flag_hides_nothing(batch: int) -> None:
    x, weights, mask = f32(2, 3, 4), f32(4, 12), np.zeros((batch, 1), np.int32)
    agree("Attention", [x, weights, f32(12), mask], {"num_heads": 2}, opset=1, domain=MS, rtol=1e-4, atol=1e-5)


def test_gathering_no_rows_of_a_packed_table() -> None:
    inputs = [u8(3, 8), np.zeros((1, 0), np.int64), f32(3, 1), u8(3, 1)]
    got = run("GatherBlockQuantized", *inputs, opset=1, domain=MS, block_size=16)
    assert (got.dtype, got.shape) == (np.float32, (1, 0, 16))


def test_weights_and_zero_points_count_whatever_the_order_of_blocks() -> None:
    packed, scales, zero_points = u8(5, 2, 4), f32(5, 2), u8(5, 1)
    blocks = RANDOM.permutation(np.arange(32) // 16).astype(np.int32)
    codes = (packed.reshape(5, 8, 1) >> np.arange(0, 8, 2)).reshape(5, 32) & 3
    zeros = zero_points >> np.arange(0, 4, 2) & 3
    expected = (codes.astype(np.float32) - zeros[:, blocks]) * scales[:, blocks]
    inputs = [np.eye(32, dtype=np.float32), packed, scales, zero_points, blocks]
    got = run("MatMulNBits", *inputs, opset=1, domain=MS, K=32, N=5, block_size=16, bits=2)
    np.testing.assert_allclose(got, expected.T, rtol=1e-6)


def test_a_convolution_of_one_tap_has_a_state_of_no_positions() -> None:
    inputs = [f32(1, 3, 4), f32(4, 1, 1), f32(4), f32(1, 0, 4)]
    attributes = {"channels_last": 1}
    agree("CausalConvWithState", inputs, attributes, opset=1, outputs=(FLOAT, FLOAT), domain=MS, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spatial", [(7,), (5, 4, 6)])
def test_channels_last_max_pool_of_any_rank(spatial: tuple[int, ...]) -> None:
    attributes = {"kernel_shape": [2] * len(spatial), "strides": [2] * len(spatial)}
    agree("NhwcMaxPool", [u8(2, *spatial, 3)], attributes, opset=1, outputs=(UINT8,), domain=MS)


def test_a_fused_parametric_softplus() -> None:
    attributes = {"activation": "ParametricSoftplus", "activation_alpha": 0.5, "activation_beta": 2.0}
    agree("FusedGemm", [f32(3, 4), f32(4, 5), f32(5)], attributes, opset=1, domain=MS, rtol=1e-5, atol=1e-6)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(InvalidModelError, match="activation"):
        run("FusedGemm", f32(2, 2), f32(2, 2), opset=1, domain=MS, activation="Swell")
    with pytest.raises(ShapeError, match="MatMulNBits"):
        run("MatMulNBits", f32(2, 31), u8(5, 2, 8), f32(5, 2), opset=1, domain=MS, K=32, N=5, block_size=16)
    blank, router = np.zeros((1, 1, 1), np.uint8), f32(1, 1)
    with pytest.raises(UnsupportedOpError, match="quant_type"):
        run("QMoE", router, router, blank, None, None, blank, None, opset=1, domain=MS, quant_type="fp4")


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("sparse/prompt", "sparse/token"))])
def test_sparse_attention_agrees_where_caches_are_updated_in_place(name: str) -> None:
    case = CASES[name]
    data = model(case.op, case.inputs, case.attributes, 1, case.outputs, case.domain)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    caches = {index: onnxruntime.OrtValue.ortvalue_from_numpy(case.inputs[index].copy()) for index in (3, 4)}
    for index, value in enumerate(case.inputs):
        if value is not None:
            given = caches.get(index) or onnxruntime.OrtValue.ortvalue_from_numpy(value)
            binding.bind_ortvalue_input(f"x{index}", given)
    binding.bind_output("y0")
    for index, cache in caches.items():
        binding.bind_ortvalue_output(f"y{index - 2}", cache)
    session.run_with_iobinding(binding)
    for ours, theirs in zip(reference_outputs(data, case.inputs), binding.copy_outputs_to_cpu(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "what"),
    [
        ("BiasGelu", [f32(2, 3), f32(4, 3)], {}, r"B: expected shape \[3\], got \[4, 3\]"),
        ("FastGelu", [f32(2, 3), f32(1)], {}, r"bias: expected shape \[3\], got \[1\]"),
        ("BiasAdd", [f32(1, 2, 3), f32(3), f32(2, 3)], {}, r"skip: expected shape \[1, 2, 3\], got \[2, 3\]"),
        ("RotaryEmbedding", [f32(1, 2, 4), np.zeros((2, 2), np.int64), f32(5, 2), f32(5, 2)], {}, "position_ids"),
        ("QuickGelu", [np.zeros(3, np.int32)], {}, r"input 'X': expected one of .*, got tensor\(int32\)"),
        ("BiasGelu", [f32(3), f32(3).astype(np.float16)], {}, r"input 'B': expected tensor\(float\)"),
    ],
)
def test_shapes_and_types_are_those_of_the_schema(
    op: str, inputs: list[np.ndarray], attributes: dict[str, Any], what: str
) -> None:
    with pytest.raises((ShapeError, DTypeError), match=rf"^com.microsoft.{op} \(opset 1\): {what}"):
        run(op, *inputs, opset=1, domain=MS, **attributes)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "domain", "what"),
    [
        (
            "QuickGelu",
            [np.zeros(3, np.float32)],
            {"alpha": "much"},
            MS,
            "attribute 'alpha': expected a number, got 'much'",
        ),
        (
            "Trilu",
            [np.zeros((3, 3), np.float32)],
            {"upper": 0.5},
            MS,
            "attribute 'upper': expected an integer, got 0.5",
        ),
        (
            "Crop",
            [np.zeros((1, 1, 4, 4), np.float32)],
            {"border": "all"},
            "",
            "attribute 'border': expected integers, got 'all'",
        ),
        ("Affine", [None], {}, "", "input 'X': expected a value, got none"),
        (
            "Tokenizer",
            [np.zeros(3, np.float32)],
            {"mark": 0, "mincharnum": 1, "pad_value": ""},
            MS,
            r"input 'X': expected one of .*string",
        ),
        ("DequantizeLinear", [np.zeros(3, np.uint8), None], {}, MS, "input 'x_scale': expected a value, got none"),
    ],
)
def test_attributes_and_inputs_without_a_schema_of_onnx(
    op: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], domain: str, what: str
) -> None:
    with pytest.raises((InvalidModelError, DTypeError), match=what):
        run(op, *inputs, opset=1, domain=domain, **attributes)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


ONE, TOTAL = np.array([0], np.int32), np.array([1], np.int32)
GROUPED = {"num_heads": 2, "kv_num_heads": 1}
GATHERED = {"block_size": 16, "bits": 8}


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "what"),
    [
        ("GatedAdd", [zeros(2, 3), zeros(2, 3), zeros(3, 1)], {}, r"gate: expected .* \[2, 3\], got \[3, 1\]"),
        ("GroupQueryAttention", [zeros(1, 1, 8), zeros(1, 1, 4), None, None, None, ONE, TOTAL], GROUPED, "key, value"),
        (
            "GroupQueryAttention",
            [zeros(1, 1, 8), zeros(1, 1, 3), zeros(1, 1, 4), None, None, ONE, TOTAL],
            GROUPED,
            "size",
        ),
        ("GroupQueryAttention", [zeros(1, 1, 16), None, None, None, None, TOTAL, TOTAL], GROUPED, "from 0 to 0"),
        ("GatedDeltaNet", [zeros(5, 2, 4), zeros(5, 1, 4), zeros(5, 2, 3)], {}, "query, key, value: expected"),
        ("MoE", [zeros(2, 4), zeros(2, 3), zeros(3, 5, 4), None, zeros(3, 4, 6)], {}, "rows of 5"),
        ("GatherBlockQuantized", [np.zeros((3, 32), np.uint8), ONE, zeros(2, 2)], GATHERED, "scales: expected 3 or 1"),
    ],
)
def test_sizes_that_no_name_ties_together(
    op: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], what: str
) -> None:
    with pytest.raises((ShapeError, InvalidModelError), match=what) as refused:
        run(op, *inputs, opset=1, domain=MS, **attributes)
    assert "that the operator accepts" not in str(refused.value)
