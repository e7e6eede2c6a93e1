"""The attention operators of all domains: formulas written out, and onnxruntime as judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.reference.judge import agree, model, onnxruntime_outputs, reference_outputs
from tests.reference.one_node import run, run_all
from tests.reference.strategies import BOUNDED, filled
from webdnn_onnx.errors import InvalidModelError, ShapeError, UnsupportedOpError
from webdnn_reference import Interpreter

MS = "com.microsoft"
FLOAT = TensorProto.FLOAT
B, S, N, D = 2, 4, 2, 8
H = N * D


def f32(*shape: int, seed: int = 0) -> np.ndarray:
    return filled(shape, np.float32, seed, 1.0)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """softmax(q k^T / sqrt(size) + bias) v for heads [..., sequence, size]."""
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]) + bias
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def test_attention_is_its_formula() -> None:
    q, k, v = (f32(B, N, S, D, seed=i) for i in range(3))
    bias = f32(S, S, seed=3)
    np.testing.assert_allclose(run("Attention", q, k, v, bias, opset=23), attended(q, k, v, bias), rtol=1e-4, atol=1e-5)


def test_consecutive_query_heads_share_a_key_head() -> None:
    q, k, v = f32(B, 4, S, D), f32(B, 2, S, D, seed=1), f32(B, 2, S, D, seed=2)
    expected = attended(q, k.repeat(2, axis=1), v.repeat(2, axis=1))
    np.testing.assert_allclose(run("Attention", q, k, v, opset=23), expected, rtol=1e-4, atol=1e-5)


def test_three_dimensions_pack_the_heads() -> None:
    q, k, v = (f32(B, S, H, seed=i) for i in range(3))
    heads = [x.reshape(B, S, N, D).swapaxes(1, 2) for x in (q, k, v)]
    got = run("Attention", q, k, v, opset=23, q_num_heads=N, kv_num_heads=N)
    np.testing.assert_array_equal(got, run("Attention", *heads, opset=23).swapaxes(1, 2).reshape(B, S, H))


def test_causal_queries_follow_the_past() -> None:
    q, k, v = (f32(1, 1, 3, D, seed=i) for i in range(3))
    past = [f32(1, 1, 2, D, seed=i) for i in (3, 4)]
    y, keys, _ = run_all("Attention", q, k, v, None, *past, opset=23, outputs=3, is_causal=1)
    whole = [np.concatenate(pair, axis=2) for pair in ((past[0], k), (past[1], v))]
    hidden = np.where(np.arange(5) <= np.arange(3)[:, None] + 2, 0, -np.inf)
    np.testing.assert_allclose(y, attended(q, *whole, hidden), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(keys, whole[0])


def test_a_query_that_may_attend_to_nothing_gives_zeros() -> None:
    q, k, v = (f32(1, 1, 2, D, seed=i) for i in range(3))
    mask = np.array([[False, False], [True, False]])
    y, _, _, weights = run_all("Attention", q, k, v, mask, opset=23, outputs=4, qk_matmul_output_mode=3)
    np.testing.assert_array_equal(y[0, 0], [np.zeros(D), v[0, 0, 0]])
    np.testing.assert_array_equal(weights[0, 0], [[0, 0], [1, 0]])


def test_windows_and_lengths_of_an_outer_cache() -> None:
    q, k, v = f32(2, 1, 1, D), f32(2, 1, 6, D, seed=1), f32(2, 1, 6, D, seed=2)
    y = run("Attention", q, k, v, None, None, None, np.array([6, 3]), opset=25, is_causal=1, left_window_size=1)
    for row, end in enumerate((6, 3)):
        part = slice(end - 2, end)
        np.testing.assert_allclose(y[row], attended(q[row], k[row, :, part], v[row, :, part]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_attention_keeps_the_type(dtype: type) -> None:
    q, k, v = (f32(B, N, S, D, seed=i).astype(dtype) for i in range(3))
    got = run("Attention", q, k, v, opset=23)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, attended(*(x.astype(np.float64) for x in (q, k, v))), rtol=3e-3, atol=1e-3)


def test_a_mask_of_one_column_covers_one_key() -> None:
    q, k, v = f32(1, 1, 2, 4, seed=1), f32(1, 1, 3, 4, seed=2), f32(1, 1, 3, 4, seed=3)
    mask = np.ones((2, 1), np.bool_)
    np.testing.assert_allclose(run("Attention", q, k, v, mask, opset=24), np.repeat(v[:, :, :1], 2, 2), rtol=1e-6)
    np.testing.assert_allclose(run("Attention", q, k, v, mask, opset=23), attended(q, k, v), rtol=1e-5)


def test_a_mask_has_a_column_for_each_key_at_version_23() -> None:
    q, k = f32(1, 1, 2, 4), f32(1, 1, 3, 4)
    with pytest.raises(ShapeError, match="attn_mask"):
        run("Attention", q, k, k, np.ones((2, 2), np.bool_), opset=23)


def test_past_keys_need_past_values() -> None:
    with pytest.raises(InvalidModelError, match="past_value"):
        run("Attention", *(f32(1, 1, 2, D) for _ in range(3)), None, f32(1, 1, 2, D), opset=23)


def test_hidden_sizes_are_whole_heads() -> None:
    with pytest.raises(ShapeError, match="heads"):
        run("Attention", *(f32(1, 2, 7) for _ in range(3)), opset=23, q_num_heads=2, kv_num_heads=2)


@BOUNDED
@given(
    seed=st.integers(0, 999),
    causal=st.integers(0, 1),
    kv_heads=st.sampled_from([1, 2, 4]),
    past=st.sampled_from([0, 3]),
    mask=st.sampled_from(["none", "bool", "float"]),
    softcap=st.sampled_from([0.0, 2.0]),
)
def test_attention_agrees(seed: int, causal: int, kv_heads: int, past: int, mask: str, softcap: float) -> None:
    inputs: list[Any] = [f32(B, 4, S, D, seed=seed), f32(B, kv_heads, S, D, seed=seed + 1)]
    inputs += [f32(B, kv_heads, S, 6, seed=seed + 2), None]
    if mask != "none":
        inputs[3] = f32(S, past + S, seed=seed + 3)
        if mask == "bool":
            inputs[3] = inputs[3] > -1
            inputs[3][:, 0] = True
    if past:
        inputs += [f32(B, kv_heads, past, D, seed=seed + 4), f32(B, kv_heads, past, 6, seed=seed + 5)]
    attributes = {"is_causal": causal, "softcap": softcap}
    agree("Attention", inputs, attributes, opset=23, outputs=[FLOAT] * (3 if past else 1), rtol=1e-3, atol=1e-4)


def test_flex_attention_runs_its_subgraphs() -> None:
    def doubled(name: str) -> Any:
        node = helper.make_node("Add", ["x", "x"], ["y"])
        values = [helper.make_tensor_value_info(value, FLOAT, [None] * 4) for value in ("x", "y")]
        return helper.make_graph([node], name, values[:1], values[1:])

    node = helper.make_node(
        "FlexAttention", ["q", "k", "v"], ["o"], domain="ai.onnx.preview",
        score_mod=doubled("scores"), prob_mod=doubled("probabilities"),
    )  # fmt: skip
    inputs = [helper.make_tensor_value_info(name, FLOAT, [B, N, S, D]) for name in "qkv"]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("o", FLOAT, None)])
    imports = [helper.make_opsetid("", 26), helper.make_opsetid("ai.onnx.preview", 1)]
    data = helper.make_model(graph, opset_imports=imports).SerializeToString()
    q, k, v = (f32(B, N, S, D, seed=i) for i in range(3))
    got = Interpreter(data).run({"q": q, "k": k, "v": v})["o"]
    np.testing.assert_allclose(got, 2 * attended(2 * q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding_turns_pairs(interleaved: int) -> None:
    x, angles = f32(1, 1, 3, 4), f32(3, 2, seed=1)
    pairs = (x[..., 0::2] + 1j * x[..., 1::2]) if interleaved else (x[..., :2] + 1j * x[..., 2:])
    turned = pairs * np.exp(1j * angles)
    expected = np.empty_like(x)
    first, second = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(0, 2), slice(2, 4))
    expected[..., first], expected[..., second] = turned.real, turned.imag
    caches = [f(angles)[None].astype(np.float32) for f in (np.cos, np.sin)]
    got = run("RotaryEmbedding", x, *caches, opset=23, interleaved=interleaved)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_convolution_goes_on_where_it_stopped() -> None:
    x, w, b = f32(2, 3, 7), f32(3, 1, 4, seed=1), f32(3, seed=2)
    whole, last = run_all("CausalConvWithState", x, w, b, opset=27, outputs=2, activation="silu")
    first, state = run_all("CausalConvWithState", x[..., :2], w, b, opset=27, outputs=2, activation="silu")
    rest, end = run_all("CausalConvWithState", x[..., 2:], w, b, state, opset=27, outputs=2, activation="silu")
    np.testing.assert_allclose(np.concatenate([first, rest], axis=2), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(end, last)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_the_recurrence_goes_on_where_it_stopped(rule: str) -> None:
    x = [f32(1, 5, H), f32(1, 5, H, seed=1), f32(1, 5, H, seed=2)]
    gates = [-np.abs(f32(1, 5, N, seed=3)), np.abs(f32(1, 5, N, seed=4)) / 4]
    common: dict[str, Any] = {"opset": 27, "outputs": 2, "q_num_heads": N, "kv_num_heads": N, "update_rule": rule}
    whole, last = run_all("LinearAttention", *x, None, *gates, **common)
    first, state = run_all("LinearAttention", *(y[:, :2] for y in x), None, *(g[:, :2] for g in gates), **common)
    rest, end = run_all("LinearAttention", *(y[:, 2:] for y in x), state, *(g[:, 2:] for g in gates), **common)
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(end, last, rtol=1e-4, atol=1e-5)


def masks(kind: str, keys: int, seed: int) -> np.ndarray | None:
    random = np.random.default_rng(seed)
    return {
        "none": None,
        "lengths": np.array([keys, keys - 2], np.int32),
        "keys": random.integers(0, 2, (B, keys)).astype(np.int32),
        "queries": random.integers(0, 2, (B, S, keys)).astype(np.int32),
        "ends": np.array([keys, keys - 1, 0, 1], np.int32),
    }[kind]


@BOUNDED
@given(
    seed=st.integers(0, 999),
    unidirectional=st.integers(0, 1),
    mask=st.sampled_from(["none", "lengths", "keys", "queries", "ends"]),
    extra=st.sampled_from(["none", "past", "bias"]),
)
def test_ms_attention_agrees(seed: int, unidirectional: int, mask: str, extra: str) -> None:
    past = 3 if extra == "past" else 0
    inputs = [f32(B, S, 6, seed=seed), f32(6, 3 * H, seed=seed + 1), f32(3 * H, seed=seed + 2)]
    inputs.append(masks(mask, S + past, seed))
    inputs.append(f32(2, B, N, past, D, seed=seed + 3) if past else None)
    inputs.append(f32(1, N, S, S, seed=seed + 4) if extra == "bias" else None)
    attributes = {"num_heads": N, "unidirectional": unidirectional}
    agree("Attention", inputs, attributes, opset=1, domain=MS, outputs=[FLOAT] * 2, rtol=1e-3, atol=1e-3)


@BOUNDED
@given(
    seed=st.integers(0, 999),
    unidirectional=st.integers(0, 1),
    mask=st.sampled_from(["none", "lengths", "keys", "queries"]),
    past=st.sampled_from([0, 3]),
    bias=st.booleans(),
)
def test_multi_head_attention_agrees(seed: int, unidirectional: int, mask: str, past: int, bias: bool) -> None:
    inputs: list[Any] = [f32(B, S, H, seed=seed + i) for i in range(3)]
    inputs += [f32(3 * H, seed=seed + 3) if bias else None, masks(mask, S + past, seed)]
    inputs.append(f32(B, N, S, S + past, seed=seed + 4))
    inputs += [f32(B, N, past, D, seed=seed + 5 + i) if past else None for i in range(2)]
    attributes = {"num_heads": N, "unidirectional": unidirectional}
    agree("MultiHeadAttention", inputs, attributes, opset=1, domain=MS, outputs=[FLOAT] * 4, rtol=1e-3, atol=1e-3)


def test_packed_heads_are_the_same_as_separate_ones() -> None:
    q, k, v = (f32(B, S, N, D, seed=i) for i in range(3))
    common: dict[str, Any] = {"opset": 1, "domain": MS, "num_heads": N}
    expected = run("MultiHeadAttention", *(x.reshape(B, S, H) for x in (q, k, v)), **common)
    np.testing.assert_array_equal(run("MultiHeadAttention", np.stack([q, k, v], axis=3), **common), expected)
    packed = np.stack([k, v], axis=3)
    np.testing.assert_array_equal(run("MultiHeadAttention", q.reshape(B, S, H), packed, **common), expected)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("cross", [False, True])
def test_decoder_masked_multi_head_attention_agrees(mask: bool, cross: bool) -> None:
    hidden = np.array([[1, 0, 1, 1], [0, 1, 1, 1]], np.int32) if mask else None
    inputs: list[Any] = [f32(B, 1, H)]
    if cross:
        inputs += [f32(B, N, 4, D, seed=1), f32(B, N, 4, D, seed=2), hidden]
        attributes = {"num_heads": N}
    else:
        inputs += [f32(B, 1, H, seed=1), f32(B, 1, H, seed=2), hidden, f32(1, N, 1, 4, seed=3)]
        inputs += [f32(B, N, 6, D, seed=4), f32(B, N, 6, D, seed=5), np.array([3], np.int32)]
        attributes = {"num_heads": N, "past_present_share_buffer": 1}
    outputs = [FLOAT] * (1 if cross else 3)
    agree(
        "DecoderMaskedMultiHeadAttention", inputs, attributes, opset=1, domain=MS, outputs=outputs, rtol=1e-3, atol=1e-4
    )


def test_beams_are_refused() -> None:
    inputs = [f32(B, S, H)] * 3 + [None] * 6 + [np.zeros((B, 1, 4), np.int32)]
    with pytest.raises(UnsupportedOpError, match="cache_indirection"):
        run("MultiHeadAttention", *inputs, opset=1, domain=MS, num_heads=N)


def test_quantized_attention_agrees() -> None:
    random = np.random.default_rng(0)
    data, weights = (
        random.integers(0, 256, (B, S, 6)).astype(np.uint8),
        random.integers(-9, 9, (6, 3 * H)).astype(np.int8),
    )
    scales = [np.array(value, np.float32) for value in (0.02, 0.03)]
    zeros = [np.array(3, np.uint8), np.array(2, np.int8)]
    inputs = [data, weights, f32(3 * H), *scales, masks("lengths", S, 0), *zeros]
    agree("QAttention", inputs, {"num_heads": N}, opset=1, domain=MS, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("one_offset", [False, True])
@pytest.mark.parametrize("rank", [3, 4])
def test_ms_rotary_embedding_agrees(interleaved: int, one_offset: bool, rank: int) -> None:
    x = f32(B, S, H) if rank == 3 else f32(B, N, S, D)
    positions = np.array([3]) if one_offset else np.random.default_rng(0).integers(0, 9, (B, S))
    inputs = [x, positions, f32(10, D // 2, seed=1), f32(10, D // 2, seed=2)]
    agree("RotaryEmbedding", inputs, {"interleaved": interleaved}, opset=1, domain=MS)


HEADS, SIZE = 4, 16


def grouped(
    seed: int, sequence: int, past: int, lengths: list[int], total: int, packed: bool, rotary: bool
) -> list[Any]:
    width = HEADS * SIZE
    if packed:
        inputs: list[Any] = [f32(B, sequence, width + 2 * SIZE, seed=seed), None, None]
    else:
        inputs = [f32(B, sequence, width, seed=seed)] + [f32(B, sequence, SIZE, seed=seed + i) for i in (1, 2)]
    inputs += [f32(B, 1, past, SIZE, seed=seed + i) for i in (3, 4)]
    inputs += [np.array(lengths, np.int32) - 1, np.array(total, np.int32)]
    return inputs + ([f32(32, SIZE // 2, seed=seed + i) for i in (5, 6)] if rotary else [None, None])


@BOUNDED
@given(
    seed=st.integers(0, 999),
    step=st.sampled_from(["prompt", "padded prompt", "buffer", "token", "ragged token"]),
    packed=st.booleans(),
    rotary=st.sampled_from([None, 0, 1]),
    window=st.sampled_from([-1, 2]),
    softcap=st.sampled_from([0.0, 2.0]),
    smooth=st.sampled_from([0, 1]),
)
def test_group_query_attention_agrees(
    seed: int, step: str, packed: bool, rotary: int | None, window: int, softcap: float, smooth: int
) -> None:
    sequence, past, lengths, total = {
        "prompt": (4, 0, [4, 4], 4),
        "padded prompt": (4, 0, [4, 2], 4),
        "buffer": (4, 8, [4, 4], 4),
        "token": (1, 5, [6, 6], 6),
        "ragged token": (1, 8, [6, 4], 6),
    }[step]
    inputs = grouped(seed, sequence, past, lengths, total, packed, rotary is not None)
    attributes = {"num_heads": HEADS, "kv_num_heads": 1, "local_window_size": window, "softcap": softcap}
    attributes |= {"smooth_softmax": smooth}
    if rotary is not None:
        attributes |= {"do_rotary": 1, "rotary_interleaved": rotary}
    data = model("GroupQueryAttention", inputs, attributes, 1, [FLOAT] * 3, MS)
    expected, got = onnxruntime_outputs(data, inputs), reference_outputs(data, inputs)
    for row, length in enumerate(lengths):
        # What lies beyond a sequence's length is unspecified.
        np.testing.assert_allclose(got[0][row, :length], expected[0][row, :length], rtol=1e-3, atol=1e-3)
        for ours, theirs in zip(got[1:], expected[1:], strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours[row, :, :length], theirs[row, :, :length], rtol=1e-3, atol=1e-3)


def test_a_windowed_cache_gives_what_the_whole_one_gives() -> None:
    tokens, window, capacity = 9, 3, 4
    data = [f32(1, tokens, HEADS * SIZE), f32(1, tokens, SIZE, seed=1), f32(1, tokens, SIZE, seed=2)]
    common: dict[str, Any] = {"opset": 1, "domain": MS, "num_heads": HEADS, "kv_num_heads": 1}
    common["local_window_size"] = window
    empty = np.zeros((1, 1, 0, SIZE), np.float32)
    counts = [np.array([tokens - 1], np.int32), np.array(tokens, np.int32)]
    expected = run("GroupQueryAttention", *data, empty, empty, *counts, **common)
    caches: tuple[Any, ...] = tuple(np.zeros((1, 1, capacity, SIZE), np.float32) for _ in range(2))
    for token in range(tokens):
        counts = [np.array([token], np.int32), np.array(token + 1, np.int32)]
        inputs = [x[:, token : token + 1] for x in data]
        y, *caches_now = run_all(
            "GroupQueryAttention", *inputs, *caches, *counts, outputs=3, sliding_window_cache=1, **common
        )
        caches = tuple(caches_now)
        np.testing.assert_allclose(y[0, 0], expected[0, token], rtol=1e-4, atol=1e-5)
    assert caches[0].shape == (1, 1, capacity, SIZE)


def test_an_8_bit_cache_rounds_keys_and_values() -> None:
    inputs = grouped(0, 4, 0, [4, 4], 4, False, False)
    common: dict[str, Any] = {"opset": 1, "domain": MS, "num_heads": HEADS, "kv_num_heads": 1}
    exact = run("GroupQueryAttention", *inputs, **common)
    scale = np.array([0.02], np.float32)
    inputs[3:5] = [np.zeros((B, 1, 0, SIZE), np.int8)] * 2
    types = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
    y, key, _ = run_all("GroupQueryAttention", *inputs, *[None] * 3, scale, scale, outputs=3, **types, **common)
    assert key.dtype == np.int8
    np.testing.assert_array_equal(key[:, 0], np.clip(np.rint(inputs[1] / scale), -128, 127).astype(np.int8))
    np.testing.assert_allclose(y, exact, atol=0.1)


@BOUNDED
@given(data=st.data(), interleaved=st.integers(0, 1), packed=st.booleans(), part=st.sampled_from([0, 4]))
def test_rotary_embedding_agrees(data: st.DataObject, interleaved: int, packed: bool, part: int) -> None:
    x = filled((2, 3, 16) if packed else (2, 2, 3, 8), np.float32, 0)
    angles = np.random.default_rng(1).uniform(0, 6, (10, (part or 8) // 2)).astype(np.float32)
    at = np.array([[data.draw(st.integers(0, 9)) for _ in range(3)] for _ in range(2)])
    listed = data.draw(st.booleans())
    caches = [function(angles if listed else angles[at]) for function in (np.cos, np.sin)]
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": part, "num_heads": 2 if packed or part else 0}
    agree("RotaryEmbedding", [x, *caches, at if listed else None], attributes, opset=23, atol=1e-5)
