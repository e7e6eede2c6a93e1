"""Calls of com.microsoft with one thing wrong: one line names the input, what is expected and what was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.reference.one_node import run
from webdnn_onnx.errors import WebDNNError

MS = "com.microsoft"
Inputs = list[np.ndarray | None]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def codes(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


ONE = np.ones((), np.float32)
POINT = np.zeros((), np.uint8)

RIGHT: dict[str, tuple[str, Inputs, dict[str, Any]]] = {
    "packed": (
        "GatedDeltaNet",
        [zeros(5, 14), None, None, ints(0, 2, 5), zeros(5, 2), zeros(5, 2), zeros(2, 2, 3, 4), zeros(2), zeros(2)],
        {"gate_activation": "softplus"},
    ),
    "lstm": (
        "DynamicQuantizeLSTM",
        [
            zeros(3, 2, 4),
            codes(1, 4, 20),
            codes(1, 5, 20),
            zeros(1, 40),
            None,
            None,
            None,
            zeros(1, 15),
            zeros(1),
            codes(1),
            zeros(1),
            codes(1),
        ],
        {"hidden_size": 5},
    ),
    "sparse": (
        "SparseAttention",
        [
            zeros(1, 1, 16),
            zeros(1, 1, 8),
            zeros(1, 1, 8),
            zeros(1, 1, 32, 8),
            zeros(1, 1, 32, 8),
            ints(0, 1, 3)[None],
            ints(0, 0, 1)[None],
            ints(20),
            ints(20),
        ],
        {"num_heads": 2, "kv_num_heads": 1, "sparse_block_size": 16},
    ),
    "bits": (
        "MatMulNBits",
        [zeros(2, 40), codes(5, 3, 8), zeros(5, 3), codes(5, 2)],
        {"K": 40, "N": 5, "bits": 4, "block_size": 16},
    ),
    "experts": (
        "QMoE",
        [
            zeros(2, 32),
            zeros(2, 3),
            codes(3, 8, 16),
            zeros(3, 8, 2),
            None,
            codes(3, 32, 4),
            zeros(3, 32, 1),
            None,
            None,
            None,
            None,
            codes(3, 8, 1),
            codes(3, 32, 1),
        ],
        {"block_size": 16},
    ),
    "rows": (
        "QMoE",
        [
            zeros(2, 32),
            zeros(2, 3),
            codes(3, 8, 16),
            zeros(3, 8),
            None,
            codes(3, 32, 4),
            zeros(3, 32),
            None,
            None,
            None,
            None,
            codes(3, 4),
            codes(3, 16),
        ],
        {},
    ),
    "gathered": (
        "GatherBlockQuantized",
        [codes(7, 24), ints(0, 3), zeros(7, 3), codes(7, 2)],
        {"bits": 4, "block_size": 16},
    ),
    "grouped": (
        "GroupQueryAttention",
        [
            zeros(1, 1, 16),
            zeros(1, 1, 8),
            zeros(1, 1, 8),
            np.zeros((1, 1, 5, 8), np.int8),
            np.zeros((1, 1, 5, 8), np.int8),
            ints(5),
            ints(6),
            zeros(9, 4),
            zeros(9, 4),
            np.array([[5]]),
            None,
            None,
            ONE[None],
            np.ones((1, 1, 1, 8), np.float32),
            zeros(8),
            zeros(8),
        ],
        {
            "num_heads": 2,
            "kv_num_heads": 1,
            "do_rotary": 1,
            "k_quant_type": "PER_TENSOR",
            "v_quant_type": "PER_CHANNEL",
            "kv_cache_bit_width": 8,
        },
    ),
    "windowed": (
        "GroupQueryAttention",
        [zeros(1, 1, 16), zeros(1, 1, 8), zeros(1, 1, 8), zeros(1, 1, 5, 8), zeros(1, 1, 5, 8), ints(4), ints(5)],
        {"num_heads": 2, "kv_num_heads": 1, "sliding_window_cache": 1, "local_window_size": 3},
    ),
    "linear": (
        "LinearAttention",
        [zeros(2, 3, 8), zeros(2, 3, 8), zeros(2, 3, 6), None, zeros(2, 3, 2), zeros(2, 3, 2)],
        {"q_num_heads": 2, "kv_num_heads": 2},
    ),
    "joined": (
        "QLinearConcat",
        [ONE, POINT, codes(2, 3), ONE, POINT, codes(2, 1), ONE, POINT],
        {"axis": 1},
    ),
    "convolved": (
        "CausalConvWithState",
        [zeros(2, 3, 6), zeros(3, 1, 4), None, zeros(5, 2, 3, 3)],
        {"state_window": 5},
    ),
    "gemm": ("QGemm", [codes(2, 3), ONE, POINT, codes(3, 4), zeros(4), codes(4)], {}),
    "scaled": ("MatMulIntegerToFloat", [codes(2, 3), codes(3, 4), ONE, ONE], {}),
    "attention": (
        "QAttention",
        [codes(1, 2, 4), codes(4, 12), zeros(12), ONE, ONE, None, POINT, POINT, zeros(2, 1, 2, 3, 2)],
        {"num_heads": 2},
    ),
    "channels": ("NhwcFusedConv", [zeros(1, 5, 5, 2), zeros(3, 2, 3, 3), None, zeros(1, 3, 3, 3)], {}),
    "positions": (
        "MRotaryEmbedding",
        [zeros(1, 2, 16), np.zeros((3, 1, 2), np.int64), zeros(9, 4), zeros(9, 4)],
        {"mrope_section": (1, 1, 2), "num_heads": 2},
    ),
    "unfolded": ("UnfoldTensor", [zeros(5)], {"size": 2}),
    "transformed": ("Rfft", [zeros(2, 4)], {"signal_ndim": 1}),
    "inverted": ("Irfft", [zeros(2, 3, 2)], {"signal_ndim": 1}),
    "blocked": ("MatMulBnb4", [zeros(2, 4), codes(10), zeros(2)], {"K": 4, "N": 5, "block_size": 16, "quant_type": 1}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_call_that_is_changed_is_right(name: str) -> None:
    op, inputs, attributes = RIGHT[name]
    run(op, *inputs, opset=1, domain=MS, **attributes)


@pytest.mark.parametrize(
    ("name", "at", "value", "what"),
    [
        ("packed", 0, zeros(5, 13), r"query: expected 6 and a multiple of 8 .* got shape \[5, 13\]"),
        ("packed", 0, zeros(5, 6), r"query: expected 6 and a multiple of 8 .* got shape \[5, 6\]"),
        ("packed", 0, zeros(5, 30), "query: expected heads that divide the 2 of the values, got 3"),
        ("packed", 6, zeros(2, 3, 4), r"initial_state: expected .* \[batch, Hv, Dv, Dk\], got .* \[2, 3, 4\]"),
        ("packed", 3, ints(0, 2, 5)[None], r"cu_seqlens: expected shape \[batch \+ 1\], got \[1, 3\]"),
        ("packed", 3, ints(0, 4, 2), r"cu_seqlens: expected ascending starts of 0\.\.5, got \[0, 4, 2\]"),
        ("packed", 3, ints(0, 2, 6), r"cu_seqlens: expected ascending starts of 0\.\.5, got \[0, 2, 6\]"),
        ("packed", 4, zeros(5, 3), r"decay: expected shape \[5, 2\] or \[5, 2, 4\], got \[5, 3\]"),
        ("packed", 7, zeros(3), r"a_log: expected shape \[2\], got \[3\]"),
        ("packed", 8, zeros(3), r"dt_bias: expected 2 or 8 elements, got shape \[3\]"),
        ("lstm", 2, codes(1, 6, 20), r"R: expected shape \[1, 6, 24\], got \[1, 6, 20\]"),
        ("lstm", 3, zeros(1, 20), r"B: expected shape \[1, 40\], got \[1, 20\]"),
        ("lstm", 7, zeros(1, 14), r"P: expected shape \[1, 15\], got \[1, 14\]"),
        ("lstm", "hidden_size", 4, "hidden_size: expected 5 as R has, got 4"),
        ("sparse", 3, zeros(1, 1, 32, 4), r"past_\w+: expected .*, got .*\[1, 1, 32, [48]\]"),
        ("sparse", 5, ints(0, 1)[None], r"block_row_indices: expected at least 3 columns, got shape \[1, 2\]"),
        ("sparse", 5, ints(0, 2, 1)[None], r"block_row_indices: expected ascending rows of 0\.\.3, got"),
        ("sparse", 6, ints(0, 0, 2)[None], r"block_col_indices: expected blocks 0\.\.1, got \[0, 0, 2\]"),
        ("sparse", 7, ints(0), "total_sequence_length: expected at least 1, got 0"),
        ("sparse", 8, ints(21), r"key_total_sequence_lengths: expected 1 of 1\.\.20, got \[21\]"),
        ("sparse", "sparse_block_size", -16, "sparse_block_size: expected a positive number, got -16"),
        ("sparse", "num_heads", 0, "num_heads, kv_num_heads: expected positive numbers, got 0 and 1"),
        ("bits", 3, codes(5, 3), r"zero_points: expected shape \[5, 2\], got \[5, 3\]"),
        ("bits", 3, zeros(5, 2), r"zero_points: expected shape \[5, 3\], got \[5, 2\]"),
        ("experts", 3, zeros(3, 8), r"fc1_scales: expected shape \[3, 8, 2\], got \[3, 8\]"),
        ("experts", 6, None, "fc2_scales: expected them for integer weights, got none"),
        ("experts", 12, codes(3, 32, 2), r"fc2_zero_points: expected shape \[3, 32, 1\], got \[3, 32, 2\]"),
        ("experts", "block_size", -1, "block_size: expected a positive number, or 0 for one block, got -1"),
        ("rows", 11, codes(3, 8), r"fc1_zero_points: expected shape \[3, 4\], got \[3, 8\]"),
        ("packed", 0, zeros(0, 14), r"decay: expected shape \[0, 2\] or \[0, 2, 4\], got \[5, 2\]"),
        ("positions", "mrope_section", (2, 2), r"mrope_section: expected three numbers of 4 pairs, got \[2, 2\]"),
        ("gathered", 3, codes(7, 3), r"zero_points: expected shape \[7, 2\], got \[7, 3\]"),
        ("gathered", 3, codes(6, 2), r"zero_points: expected shape \[7, 2\], got \[6, 2\]"),
        ("grouped", 3, None, "past_key, past_value: expected both or none, got one"),
        ("grouped", 3, zeros(1, 1, 5, 8), r"past_value': expected tensor\(float\) .* got tensor\(int8\)"),
        ("grouped", 9, np.array([[5, 6]]), r"position_ids: expected shape \[1, 1\], got \[1, 2\]"),
        ("grouped", 12, None, "k_scale: expected one for a quantized cache, got none"),
        ("grouped", 12, zeros(2), r"k_scale: expected a shape that broadcasts to \[1, 1, 1, 8\], got \[2\]"),
        ("grouped", 13, zeros(1, 1, 1, 7), r"v_scale: expected .* \[1, 1, 1, 8\], got \[1, 1, 1, 7\]"),
        ("grouped", 14, zeros(7), r"q_norm_weight: expected shape \[8\], got \[7\]"),
        ("grouped", 15, zeros(1, 8), r"k_norm_weight: expected shape \[8\], got \[1, 8\]"),
        ("windowed", "local_window_size", 6, "sliding_window_cache: expected a local_window_size .* got 6 and 5"),
        ("windowed", "local_window_size", -1, "sliding_window_cache: expected a local_window_size .* got -1 and 5"),
        ("linear", 4, zeros(2, 3, 4), r"decay: expected 2 or 8 in the last dimension, got shape \[2, 3, 4\]"),
        ("linear", 5, zeros(2, 3, 3), r"beta: expected .* \[2, 3, 2\], got \[2, 3, 3\]"),
        ("joined", 2, None, "inputs: expected values and a scale in each triple, got no values in 0"),
        ("joined", 6, None, "inputs: expected values and a scale in each triple, got no scale in 1"),
        ("joined", 5, codes(2), "inputs: expected shapes equal but for axis 1"),
        ("convolved", 3, zeros(2, 3, 3), r"past_state: expected rank 4 and a state, got shape \[2, 3, 3\]"),
        ("convolved", 3, zeros(0, 2, 3, 3), "past_state: expected rank 4 and a state"),
        ("gemm", 4, zeros(3), r"b_scale: expected a shape that broadcasts to \[2, 4\], got \[3\]"),
        ("scaled", 2, zeros(3), r"a_scale: expected one element, got shape \[3\]"),
        ("attention", 8, zeros(1, 1, 2, 3, 2), r"past: expected shape \[2, 1, 2, P, D\], got \[1, 1, 2, 3, 2\]"),
        ("channels", 0, zeros(50), r"X, Z: expected \[N, D1\.\.Dr, C\], got \[50\] and \[1, 3, 3, 3\]"),
        ("positions", 1, np.full((3, 1, 2), 9), r"position_ids: expected 0\.\.8, got 9 to 9"),
        ("unfolded", "size", -2, r"size, step: expected 0\.\.5 and a positive number, got -2 and 1"),
        ("transformed", 0, zeros(2, 0), r"X: expected elements along the last axis, got shape \[2, 0\]"),
        ("inverted", 0, zeros(2, 1, 2), r"X: expected at least 2 frequencies, got shape \[2, 1, 2\]"),
        ("blocked", "N", -1, "B, absmax: expected"),
    ],
)
def test_one_thing_wrong_is_named(name: str, at: int | str, value: Any, what: str) -> None:
    op, inputs, attributes = RIGHT[name]
    if isinstance(at, int):
        inputs = [*inputs[:at], value, *inputs[at + 1 :]]
    else:
        attributes = {**attributes, at: value}
    with pytest.raises(WebDNNError, match=what) as refused:
        run(op, *inputs, opset=1, domain=MS, **attributes)
    assert "that the operator accepts" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_softmax_with_a_bias_of_no_elements_is_empty() -> None:
    y = run("BiasSoftmax", zeros(0, 3), zeros(3), opset=1, domain=MS, axis=1, is_inner_broadcast=1)
    assert y.shape == (0, 3)
