"""DynamicQuantizeLSTM of com.microsoft."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.quantization import dequantize_linear_10, dynamic_quantize_linear
from webdnn_reference.ops.rnn import clipped, run_lstm, sequences_of
from webdnn_reference.ops.rnn_activations import activation_functions
from webdnn_reference.registry import op

__all__ = ["dynamic_quantize_lstm"]


@op("DynamicQuantizeLSTM", 1, domain=MS)
def dynamic_quantize_lstm(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None,
    sequence_lens: Array | None,
    initial_h: Array | None,
    initial_c: Array | None,
    P: Array | None,
    W_scale: Array,
    W_zero_point: Array,
    R_scale: Array,
    R_zero_point: Array,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
) -> tuple[Array, ...]:
    """LSTM with 8-bit weights; X as a whole and the hidden state of each step are quantized to uint8.

    X: float32[sequence, batch, input], W: int8 or uint8[directions, input, 4 hidden], R: [directions, hidden,
    4 hidden], scales and zero points: [directions] or [directions, 4 hidden]; the rest, and the outputs, as LSTM.
    Raises ShapeError, InvalidModelError.
    """
    hidden = R.shape[1]
    expected: list[tuple[str, Array | None, list[int]]] = [
        ("R", R, [len(R), hidden, 4 * hidden]),
        ("W", W, [len(W), W.shape[1], 4 * hidden]),
        ("B", B, [len(W), 8 * hidden]),
        ("P", P, [len(W), 3 * hidden]),
    ]
    for name, value, shape in expected:
        if value is not None and list(value.shape) != shape:
            raise ShapeError(f"{name}: expected shape {shape}, got {list(value.shape)}")
    if hidden_size not in (None, 0, hidden):
        raise InvalidModelError(f"hidden_size: expected {hidden} as R has, got {hidden_size}")
    weights, recurrence = _real(W, W_scale, W_zero_point), _real(R, R_scale, R_zero_point)
    sequences = sequences_of(X, weights, sequence_lens, direction, 0)
    sequences = dataclasses.replace(sequences, x=_rounded(sequences.x))
    count = len(sequences.directions)
    names = activations or ("Sigmoid", "Tanh", "Tanh") * count
    functions = activation_functions(names, activation_alpha, activation_beta, 3 * count)
    functions = [clipped(function, clip) for function in functions]
    initial = (initial_h, initial_c)
    return run_lstm(
        sequences, weights, recurrence, B, initial, P, functions, bool(input_forget), hidden_size, rounded=_rounded
    )


def _real(weights: Array, scale: Array, zero_point: Array) -> Array:
    """Weights [directions, 4 hidden, inputs] as numbers."""
    for what, x in (("scale", scale), ("zero point", zero_point)):
        if x.shape not in ((len(weights),), (len(weights), weights.shape[2])):
            expected = f"[{len(weights)}] or [{len(weights)}, {weights.shape[2]}]"
            raise ShapeError(f"{what} of the weights: expected shape {expected}, got {list(x.shape)}")
    per_column = (len(weights), 1, -1)
    real = (weights.astype(np.int32) - zero_point.astype(np.int32).reshape(per_column)) * scale.reshape(per_column)
    return np.swapaxes(real.astype(scale.dtype), 1, 2)


def _rounded(x: Array) -> Array:
    """The numbers that x becomes when it is quantized to uint8 by its own range."""
    quantized, scale, zero_point = dynamic_quantize_linear(x)
    return dequantize_linear_10(quantized, scale, zero_point)
