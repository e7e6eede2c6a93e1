"""com.microsoft operators that exporters write most, against onnxruntime on drawn shapes and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, filled

MS = "com.microsoft"
FLOAT, UINT8, INT8 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8
SEEDS = st.integers(0, 999)


def check(op: str, inputs: list[Any], attributes: dict[str, Any], outputs: tuple[int, ...] = (FLOAT,)) -> None:
    agree(op, inputs, attributes, opset=1, outputs=outputs, domain=MS, rtol=1e-3, atol=1e-3)


@BOUNDED
@given(batch=st.integers(1, 3), steps=st.integers(1, 4), width=st.integers(1, 9), bias=st.booleans(), seed=SEEDS)
def test_skip_layer_normalizations(batch: int, steps: int, width: int, bias: bool, seed: int) -> None:
    x, skip = (filled((batch, steps, width), np.float32, seed + index, 1.0) for index in range(2))
    gamma, beta, extra = (filled((width,), np.float32, seed + 2 + index, 1.0) for index in range(3))
    attributes = {"epsilon": 1e-3}
    outputs = (FLOAT, 0, 0, FLOAT)
    check("SkipLayerNormalization", [x, skip, gamma, beta, extra if bias else None], attributes, outputs)
    check("SkipSimplifiedLayerNormalization", [x, skip, gamma, extra if bias else None], attributes, outputs)


@BOUNDED
@given(
    heads=st.integers(1, 3),
    half=st.integers(1, 4),
    steps=st.integers(1, 4),
    interleaved=st.integers(0, 1),
    flat=st.booleans(),
    offset=st.booleans(),
    seed=SEEDS,
)
def test_rotary_embedding(
    heads: int, half: int, steps: int, interleaved: int, flat: bool, offset: bool, seed: int
) -> None:
    shape = (2, steps, heads * 2 * half) if flat else (2, heads, steps, 2 * half)
    angles = filled((9, half), np.float32, seed + 1)
    positions = np.array([2], np.int64) if offset else np.random.default_rng(seed).integers(0, 9, (2, steps))
    inputs = [filled(shape, np.float32, seed), positions, np.cos(angles), np.sin(angles)]
    check("RotaryEmbedding", inputs, {"interleaved": interleaved})


@BOUNDED
@given(
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([16, 32]),
    rows=st.integers(1, 4),
    columns=st.integers(1, 6),
    depth=st.integers(1, 3),
    zeros=st.booleans(),
    seed=SEEDS,
)
def test_matmul_nbits(bits: int, block: int, rows: int, columns: int, depth: int, zeros: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    K = block * depth
    packed = random.integers(0, 256, (columns, depth, block * bits // 8)).astype(np.uint8)
    scales = np.abs(filled((columns, depth), np.float32, seed + 1, 0.05))
    zero_points = random.integers(0, 256, (columns, (depth * bits + 7) // 8)).astype(np.uint8) if zeros else None
    attributes = {"K": K, "N": columns, "bits": bits, "block_size": block}
    x = filled((rows, K), np.float32, seed + 2, 0.3)
    agree("MatMulNBits", [x, packed, scales, zero_points], attributes, opset=1, domain=MS, rtol=1e-2, atol=2e-2)


@BOUNDED
@given(rows=st.integers(1, 4), depth=st.integers(1, 9), columns=st.integers(1, 5), alpha=st.floats(0.25, 2), seed=SEEDS)
def test_fused_matmul(rows: int, depth: int, columns: int, alpha: float, seed: int) -> None:
    flip_a, flip_b = seed & 1, seed >> 1 & 1
    a = filled((2, depth, rows) if flip_a else (2, rows, depth), np.float32, seed, 1.0)
    b = filled((2, columns, depth) if flip_b else (2, depth, columns), np.float32, seed + 1, 1.0)
    check("FusedMatMul", [a, b], {"alpha": alpha, "transA": flip_a, "transB": flip_b})


@BOUNDED
@given(signed=st.booleans(), op=st.sampled_from(["QLinearAdd", "QLinearMul"]), width=st.integers(1, 6), seed=SEEDS)
def test_quantized_sums_and_products(signed: bool, op: str, width: int, seed: int) -> None:
    dtype = np.int8 if signed else np.uint8
    low = -128 if signed else 0
    random = np.random.default_rng(seed)
    a, b = (random.integers(low, low + 256, shape).astype(dtype) for shape in ((3, width), (width,)))
    scales = [np.array(value, np.float32) for value in random.uniform(0.01, 0.2, 3)]
    zeros = [np.array(value, dtype) for value in random.integers(low, low + 256, 3)]
    inputs = [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]]
    agree(op, inputs, opset=1, outputs=[INT8 if signed else UINT8], domain=MS)


@BOUNDED
@given(op=st.sampled_from(["Gelu", "QuickGelu", "FastGelu", "BiasGelu"]), width=st.integers(1, 9), seed=SEEDS)
def test_gelus(op: str, width: int, seed: int) -> None:
    inputs = [filled((3, width), np.float32, seed)]
    check(op, [*inputs, filled((width,), np.float32, seed + 1)] if op == "BiasGelu" else inputs, {})
