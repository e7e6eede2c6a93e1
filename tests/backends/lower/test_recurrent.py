"""RNN, GRU and LSTM: what the node suite leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.lower.one_node import Array, agree, f32

T, B, INPUT, H = 3, 2, 3, 2
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def operands(op: str, directions: int = 1, batch_first: bool = False) -> list[Array | None]:
    gates = GATES[op]
    x = f32(B, T, INPUT) if batch_first else f32(T, B, INPUT)
    state = (B, directions, H) if batch_first else (directions, B, H)
    inputs: list[Array | None] = [
        x,
        f32(directions, gates * H, INPUT, seed=1),
        f32(directions, gates * H, H, seed=2),
        f32(directions, 2 * gates * H, seed=3),
        None,
        f32(*state, seed=4),
    ]
    if op == "LSTM":
        inputs += [f32(*state, seed=5), f32(directions, 3 * H, seed=6)]
    return inputs


def outputs(op: str) -> int:
    return 3 if op == "LSTM" else 2


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_shorter_sequences_end_early_and_reverse_within_their_length(op: str, direction: str) -> None:
    inputs = operands(op, 1 + (direction == "bidirectional"))
    inputs[4] = np.array([T, 1], np.int32)
    agree(op, inputs, {"hidden_size": H, "direction": direction}, outputs=outputs(op))


@pytest.mark.parametrize("op", GATES)
def test_batch_first_layout_of_two_directions(op: str) -> None:
    attributes = {"hidden_size": H, "direction": "bidirectional", "layout": 1}
    agree(op, operands(op, 2, batch_first=True), attributes, outputs=outputs(op))


@pytest.mark.parametrize("op", GATES)
def test_clip_bounds_the_input_of_every_activation(op: str) -> None:
    agree(op, operands(op), {"hidden_size": H, "clip": 0.3}, outputs=outputs(op))


@pytest.mark.parametrize(
    "name",
    [
        *("Affine", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "ScaledTanh"),
        *("Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"),
    ],
)
def test_every_activation_in_every_place(name: str) -> None:
    attributes: dict[str, Any] = {"hidden_size": H, "activation_alpha": [0.5] * 3, "activation_beta": [0.25] * 3}
    agree("LSTM", operands("LSTM"), {**attributes, "activations": [name] * 3}, outputs=3)


def test_directions_may_have_functions_of_their_own() -> None:
    attributes = {"hidden_size": H, "direction": "bidirectional", "activations": ["Tanh", "Relu"]}
    agree("RNN", operands("RNN", 2), attributes, outputs=2)


def test_input_and_forget_gates_coupled() -> None:
    agree("LSTM", operands("LSTM"), {"hidden_size": H, "input_forget": 1}, outputs=3)


@pytest.mark.parametrize("linear", [0, 1])
def test_reset_before_or_after_the_product(linear: int) -> None:
    agree("GRU", operands("GRU"), {"hidden_size": H, "linear_before_reset": linear}, outputs=2)


def test_only_the_last_state_is_asked_for() -> None:
    agree("LSTM", operands("LSTM"), {"hidden_size": H}, outputs=[False, True, True])


def test_half_precision_keeps_its_states_wide() -> None:
    inputs = [None if x is None else x.astype(np.float16) for x in operands("LSTM")]
    agree("LSTM", inputs, {"hidden_size": H}, outputs=3, rtol=2e-3, atol=1e-3)


def test_sequence_and_batch_known_at_run_time() -> None:
    agree("GRU", operands("GRU"), {"hidden_size": H}, outputs=2, constant=[1, 2, 3], symbolic=True)


@pytest.mark.parametrize("hidden", [4, 12, 16])
@pytest.mark.parametrize(("op", "gates"), GATES.items())
def test_states_of_whole_vectors(op: str, gates: int, hidden: int) -> None:
    x, w, r = f32(3, 2, 5), f32(2, gates * hidden, 5, seed=1), f32(2, gates * hidden, hidden, seed=2)
    attributes = {"hidden_size": hidden, "direction": "bidirectional"}
    agree(op, [x, w, r, f32(2, 2 * gates * hidden, seed=3)], attributes, constant=(1, 2, 3), outputs=2)
