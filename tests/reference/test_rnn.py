"""RNN, GRU and LSTM: the formulas of the specification written out, and onnxruntime as judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.one_node import run, run_all
from tests.reference.strategies import BOUNDED, filled
from webdnn_onnx.errors import InvalidModelError, ShapeError

STEPS, BATCH, INPUT, HIDDEN = 4, 3, 2, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def operands(op: str, directions: int = 1, seed: int = 0, steps: int = STEPS, scale: float = 1.0) -> list[Any]:
    """X, W, R, B with small random numbers."""
    gates = GATES[op] * HIDDEN
    shapes = [
        (steps, BATCH, INPUT),
        (directions, gates, INPUT),
        (directions, gates, HIDDEN),
        (directions, 2 * gates),
    ]
    return [filled(shape, np.float32, seed + index, scale) for index, shape in enumerate(shapes)]


def one_step_lstm(x: np.ndarray, w: np.ndarray, b: np.ndarray, clip: float = np.inf) -> np.ndarray:
    """H after one step from zero states."""
    gates = np.clip(x @ w.T + b[: 4 * HIDDEN] + b[4 * HIDDEN :], -clip, clip)
    i, o, _, c = np.split(gates, 4, axis=1)
    cell = sigmoid(i) * np.tanh(c)
    return sigmoid(o) * np.tanh(np.clip(cell, -clip, clip))


def test_lstm_is_its_formula() -> None:
    X, W, R, B = operands("LSTM", steps=1)
    expected = one_step_lstm(X[0], W[0], B[0])
    np.testing.assert_allclose(run("LSTM", X, W, R, B, opset=14, hidden_size=HIDDEN)[0, 0], expected, rtol=1e-5)


def test_lstm_clips_the_input_of_every_activation() -> None:
    X, W, R, B = operands("LSTM", steps=1, scale=3)
    got = run("LSTM", X, W, R, B, opset=14, hidden_size=HIDDEN, clip=0.25)
    np.testing.assert_allclose(got[0, 0], one_step_lstm(X[0], W[0], B[0], 0.25), rtol=1e-5)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_a_sequence_ends_at_its_length(op: str) -> None:
    X, W, R, B = operands(op)
    lengths = np.array([4, 2, 0], np.int32)
    y, last = run_all(op, X, W, R, B, lengths, opset=14, outputs=2, hidden_size=HIDDEN)[:2]
    short, short_last = run_all(op, X[:2], W, R, B, opset=14, outputs=2, hidden_size=HIDDEN)[:2]
    np.testing.assert_allclose(y[:2, :, 1], short[:, :, 1], rtol=1e-6)
    np.testing.assert_allclose(last[:, 1], short_last[:, 1], rtol=1e-6)
    assert not y[2:, :, 1].any()
    assert not y[:, :, 2].any()


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_a_sequence_of_length_zero_keeps_its_state(op: str) -> None:
    X, W, R, B = operands(op)
    initial = filled((1, BATCH, HIDDEN), np.float32, 9)
    _, last = run_all(op, X, W, R, B, np.zeros(BATCH, np.int32), initial, opset=14, outputs=2, hidden_size=HIDDEN)[:2]
    np.testing.assert_array_equal(last, initial)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_reverse_reads_each_sequence_backwards_within_its_length(op: str) -> None:
    X, W, R, B = operands(op)
    lengths = np.array([4, 2, 3], np.int32)
    turned = X.copy()
    for row, length in enumerate(lengths):
        turned[:length, row] = X[:length, row][::-1]
    y = run(op, X, W, R, B, lengths, opset=14, hidden_size=HIDDEN, direction="reverse")
    forward = run(op, turned, W, R, B, lengths, opset=14, hidden_size=HIDDEN)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(y[:length, 0, row], forward[:length, 0, row][::-1], rtol=1e-6)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_layout_1_puts_the_batch_first(op: str) -> None:
    X, W, R, B = operands(op, directions=2)
    initial = filled((2, BATCH, HIDDEN), np.float32, 9)
    common: dict[str, Any] = {"opset": 14, "outputs": 2, "hidden_size": HIDDEN, "direction": "bidirectional"}
    y, last = run_all(op, X, W, R, B, None, initial, **common)[:2]
    batch_first = run_all(op, X.swapaxes(0, 1), W, R, B, None, initial.swapaxes(0, 1), layout=1, **common)
    np.testing.assert_array_equal(batch_first[0], y.transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(batch_first[1], last.swapaxes(0, 1))


def test_rnn_with_relu() -> None:
    X, W, R, B = operands("RNN", steps=1)
    expected = np.maximum(X[0] @ W[0].T + B[0, :HIDDEN] + B[0, HIDDEN:], 0)
    got = run("RNN", X, W, R, B, opset=14, hidden_size=HIDDEN, activations=("Relu",))
    np.testing.assert_allclose(got[0, 0], expected, rtol=1e-5, atol=1e-6)


def test_version_1_has_output_sequence_and_its_spelling_of_forward() -> None:
    X, W, R, B = operands("GRU")
    got = run("GRU", X, W, R, B, opset=1, hidden_size=HIDDEN, output_sequence=1, direction="foward")
    np.testing.assert_array_equal(got, run("GRU", X, W, R, B, opset=7, hidden_size=HIDDEN))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_states_and_outputs_have_the_type_of_the_input(dtype: type) -> None:
    outputs = run_all("LSTM", *(x.astype(dtype) for x in operands("LSTM")), opset=14, outputs=3, hidden_size=HIDDEN)
    assert [output.dtype for output in outputs] == [dtype] * 3


def test_no_steps_give_an_empty_sequence_and_the_initial_state() -> None:
    X, W, R, B = operands("GRU", steps=0)
    y, last = run_all("GRU", X, W, R, B, opset=14, outputs=2, hidden_size=HIDDEN)
    assert y.shape == (0, 1, BATCH, HIDDEN)
    assert not last.any()


def test_a_length_beyond_the_input_is_an_error() -> None:
    with pytest.raises(ShapeError, match="sequence_lens"):
        run("GRU", *operands("GRU"), np.array([5, 1, 1], np.int32), opset=14, hidden_size=HIDDEN)


def test_an_unknown_activation_is_an_error() -> None:
    with pytest.raises(InvalidModelError, match="activations"):
        run("RNN", *operands("RNN"), opset=14, hidden_size=HIDDEN, activations=("Swell",))


ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", "LeakyRelu", "Elu", "HardSigmoid", "Affine"]


@st.composite
def recurrent(draw: st.DrawFn) -> tuple[str, list[Any], dict[str, Any]]:
    op = draw(st.sampled_from(["RNN", "GRU", "LSTM"]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    count = 2 if direction == "bidirectional" else 1
    seed = draw(st.integers(0, 999))
    inputs = operands(op, count, seed, scale=0.4)
    lengths = [draw(st.integers(1, STEPS)) for _ in range(BATCH)]
    inputs.append(np.array(lengths, np.int32) if draw(st.booleans()) else None)
    states = 2 if op == "LSTM" else 1
    if draw(st.booleans()):
        inputs += [filled((count, BATCH, HIDDEN), np.float32, seed + 10 + i) for i in range(states)]
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": HIDDEN}
    if op == "LSTM":
        inputs += [None] * (7 - len(inputs))
        if draw(st.booleans()):
            inputs.append(filled((count, 3 * HIDDEN), np.float32, seed + 20))
        attributes["input_forget"] = draw(st.integers(0, 1))
    if op == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        names = [draw(st.sampled_from(ACTIVATIONS)) for _ in range({"RNN": 1, "GRU": 2, "LSTM": 3}[op] * count)]
        attributes["activations"] = names
        attributes["activation_alpha"] = [0.3] * len(names)
        attributes["activation_beta"] = [0.4] * len(names)
    elif op != "LSTM" and draw(st.booleans()):
        attributes["clip"] = 0.6
    return op, inputs, attributes


@BOUNDED
@given(case=recurrent())
def test_recurrent_operators_agree(case: tuple[str, list[Any], dict[str, Any]]) -> None:
    op, inputs, attributes = case
    outputs = [TensorProto.FLOAT] * (3 if op == "LSTM" else 2)
    agree(op, inputs, attributes, opset=14, outputs=outputs, rtol=1e-3, atol=1e-4)
