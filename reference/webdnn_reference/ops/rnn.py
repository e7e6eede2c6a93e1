"""RNN, GRU and LSTM.

The three share one loop over time, vectorised over the batch. A reverse direction reads each sequence backwards
within its own length; steps beyond a sequence's length leave its state alone and give zeros in Y. States stay in the
working precision (float32 or float64) from step to step; outputs are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, widen
from webdnn_reference.ops.rnn_activations import Activation, activation_functions
from webdnn_reference.registry import op

State: TypeAlias = tuple[Array, ...]
Cell: TypeAlias = Callable[[Array, State], State]
"""One step: the input at this time [batch, input] and the states [batch, hidden] give the next states."""

__all__ = ["Sequences", "clipped", "gru", "lstm", "rnn", "run_lstm", "sequences_of"]

_DIRECTIONS = {"forward": (False,), "foward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Whether each direction runs backwards; "foward" is how GRU-1 spells its default."""


@dataclass(frozen=True)
class Sequences:
    """The input of a recurrent operator in the layout of the loop.

    x: [sequence, batch, input] in the working precision. lengths: [batch]. backwards: index [sequence, batch] that
    reverses each sequence within its length.
    """

    x: Array
    lengths: Array
    backwards: Array
    directions: tuple[bool, ...]
    layout: int
    dtype: np.dtype[Any]


def _directions(direction: str) -> tuple[bool, ...]:
    """For each direction whether it runs backwards. Raises InvalidModelError for an unknown one."""
    try:
        return _DIRECTIONS[direction.lower()]
    except KeyError:
        raise InvalidModelError(f"direction: expected forward, reverse or bidirectional, got {direction!r}") from None


def sequences_of(X: Array, W: Array, sequence_lens: Array | None, direction: str, layout: int) -> Sequences:
    directions = _directions(direction)
    if layout not in (0, 1):
        raise InvalidModelError(f"layout: expected 0 or 1, got {layout}")
    if X.ndim != 3:
        raise ShapeError(f"X: expected rank 3, got shape {list(X.shape)}")
    if W.shape[:1] != (len(directions),):
        raise ShapeError(f"W: expected {len(directions)} directions ({direction}), got shape {list(W.shape)}")
    x = np.swapaxes(X, 0, 1) if layout else X
    steps, batch = x.shape[:2]
    lengths = np.full(batch, steps, np.int64) if sequence_lens is None else sequence_lens.astype(np.int64).reshape(-1)
    if lengths.shape != (batch,) or (lengths > steps).any() or (lengths < 0).any():
        raise ShapeError(f"sequence_lens: expected {batch} lengths of 0..{steps}, got {lengths.tolist()}")
    time = np.arange(steps)[:, None]
    backwards = np.where(time < lengths, lengths - 1 - time, time)
    return Sequences(widen(x), lengths, backwards, directions, layout, X.dtype)


def _run(sequences: Sequences, cells: Sequence[Cell], initial: Sequence[State]) -> tuple[Array, tuple[Array, ...]]:
    """Y [sequence, directions, batch, hidden] and the last states, each [directions, batch, hidden]."""
    steps, batch = sequences.x.shape[:2]
    rows = np.arange(batch)
    outputs: list[Array] = []
    finals: list[State] = []
    for backwards, cell, state in zip(sequences.directions, cells, initial, strict=True):
        x = sequences.x[sequences.backwards, rows] if backwards else sequences.x
        y = np.zeros((steps, *state[0].shape), state[0].dtype)
        shortest = sequences.lengths.min(initial=steps)
        for time in range(steps):
            if time < shortest:
                state = cell(x[time], state)
                y[time] = state[0]
                continue
            active = (time < sequences.lengths)[:, None]
            stepped = cell(x[time], state)
            state = tuple(np.where(active, new, old) for new, old in zip(stepped, state, strict=True))
            y[time] = np.where(active, state[0], 0)
        outputs.append(y[sequences.backwards, rows] if backwards else y)
        finals.append(state)
    last = tuple(np.stack(states) for states in zip(*finals, strict=True))
    return np.stack(outputs, axis=1), last


def _finish(sequences: Sequences, y: Array, last: Sequence[Array]) -> tuple[Array, ...]:
    if sequences.layout:
        y = y.transpose(2, 0, 1, 3)
        last = [np.swapaxes(state, 0, 1) for state in last]
    return tuple(array.astype(sequences.dtype) for array in (y, *last))


def _initial(sequences: Sequences, value: Array | None, hidden: int) -> Array:
    """The first state of each direction, [directions, batch, hidden]; zeros where the input is absent."""
    if value is None:
        return np.zeros((len(sequences.directions), sequences.x.shape[1], hidden), sequences.x.dtype)
    return widen(np.swapaxes(value, 0, 1) if sequences.layout else value)


def _split_bias(B: Array | None, directions: int, gates: int, hidden: int) -> tuple[Array, Array]:
    """The biases of the input and of the recurrence, each [directions, gates * hidden]."""
    if B is None:
        zeros = np.zeros((directions, gates * hidden), np.float32)
        return zeros, zeros
    wide = widen(B)
    return wide[:, : gates * hidden], wide[:, gates * hidden :]


def clipped(function: Activation, clip: float | None) -> Activation:
    """The function of its input bounded to [-clip, clip], where a clip is given."""
    if not clip:
        return function
    if not clip > 0:
        raise InvalidModelError(f"clip: expected a positive number, got {clip}")
    return lambda x: function(np.clip(x, -clip, clip))


def _hidden_size(R: Array) -> int:
    if R.ndim != 3:
        raise ShapeError(f"R: expected rank 3, got shape {list(R.shape)}")
    return int(R.shape[2])


def _check_weights(
    sequences: Sequences,
    hidden: int,
    gates: int,
    W: Array,
    R: Array,
    B: Array | None,
    states: Sequence[Array | None],
    P: Array | None = None,
) -> None:
    """Raises ShapeError unless every parameter has the shape that X and the hidden size ask for."""
    count = len(sequences.directions)
    batch, width = sequences.x.shape[1:]
    initial = (batch, count, hidden) if sequences.layout else (count, batch, hidden)
    expected: list[tuple[str, Array | None, tuple[int, ...]]] = [
        ("W", W, (count, gates * hidden, width)),
        ("R", R, (count, gates * hidden, hidden)),
        ("B", B, (count, 2 * gates * hidden)),
        *((name, state, initial) for name, state in zip(("initial_h", "initial_c"), states, strict=False)),
        ("P", P, (count, 3 * hidden)),
    ]
    for name, value, shape in expected:
        if value is not None and value.shape != shape:
            raise ShapeError(f"{name}: expected shape {list(shape)}, got {list(value.shape)}")


@op("RNN", (1, 7, 14, 22))
def rnn(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    output_sequence: int = 0,  # noqa: ARG001 - RNN-1 only: says whether Y is named
) -> tuple[Array, ...]:
    """One-layer simple recurrent network: Ht = f(Xt W^T + Ht-1 R^T + Wb + Rb).

    X: float[sequence, batch, input], W: [directions, hidden, input], R: [directions, hidden, hidden],
    B: [directions, 2 hidden] -> Y: [sequence, directions, batch, hidden], Y_h: [directions, batch, hidden]; with
    layout 1 the batch comes first. Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__RNN.html
    """
    sequences = sequences_of(X, W, sequence_lens, direction, layout)
    count = len(sequences.directions)
    hidden = hidden_size or _hidden_size(R)
    _check_weights(sequences, hidden, 1, W, R, B, [initial_h])
    functions = activation_functions(activations[:count], activation_alpha, activation_beta, count)
    input_bias, recurrent_bias = _split_bias(B, count, 1, hidden)
    weights, recurrence = widen(W), widen(R)
    states = _initial(sequences, initial_h, hidden)

    def cell(index: int) -> Cell:
        f = clipped(functions[index], clip)
        bias = input_bias[index] + recurrent_bias[index]
        return lambda x, state: (f(x @ weights[index].T + state[0] @ recurrence[index].T + bias),)

    y, last = _run(sequences, [cell(i) for i in range(count)], [(states[i],) for i in range(count)])
    return _finish(sequences, y, last)


@op("GRU", (1, 3, 7, 14, 22))
def gru(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
    output_sequence: int = 0,  # noqa: ARG001 - GRU-1 and GRU-3 only: says whether Y is named
) -> tuple[Array, ...]:
    """One-layer gated recurrent unit: Ht = (1 - zt) ht + zt Ht-1; gates in the order z, r, h.

    X: float[sequence, batch, input], W: [directions, 3 hidden, input], R: [directions, 3 hidden, hidden],
    B: [directions, 6 hidden] -> Y: [sequence, directions, batch, hidden], Y_h: [directions, batch, hidden]; with
    layout 1 the batch comes first. Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__GRU.html
    """
    sequences = sequences_of(X, W, sequence_lens, direction, layout)
    count = len(sequences.directions)
    hidden = hidden_size or _hidden_size(R)
    _check_weights(sequences, hidden, 3, W, R, B, [initial_h])
    names = activations or ("Sigmoid", "Tanh") * count
    functions = activation_functions(names, activation_alpha, activation_beta, 2 * count)
    input_bias, recurrent_bias = _split_bias(B, count, 3, hidden)
    weights, recurrence = widen(W), widen(R)
    states = _initial(sequences, initial_h, hidden)
    gates = slice(0, 2 * hidden)
    candidate = slice(2 * hidden, None)

    def cell(index: int) -> Cell:
        f, g = (clipped(function, clip) for function in functions[2 * index : 2 * index + 2])
        w, r = weights[index], recurrence[index]
        wb, rb = input_bias[index], recurrent_bias[index]

        def step(x: Array, state: State) -> State:
            (h,) = state
            from_input = x @ w.T + wb
            both = f(from_input[:, gates] + h @ r[gates].T + rb[gates])
            z, reset = both[:, :hidden], both[:, hidden:]
            if linear_before_reset:
                recurrent = reset * (h @ r[candidate].T + rb[candidate])
            else:
                recurrent = (reset * h) @ r[candidate].T + rb[candidate]
            return ((1 - z) * g(from_input[:, candidate] + recurrent) + z * h,)

        return step

    y, last = _run(sequences, [cell(i) for i in range(count)], [(states[i],) for i in range(count)])
    return _finish(sequences, y, last)


@op("LSTM", (1, 7, 14, 22))
def lstm(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    P: Array | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
    output_sequence: int = 0,  # noqa: ARG001 - LSTM-1 only: says whether Y is named
) -> tuple[Array, ...]:
    """One-layer long short-term memory: Ct = ft Ct-1 + it ct, Ht = ot h(Ct); gates in the order i, o, f, c.

    X: float[sequence, batch, input], W: [directions, 4 hidden, input], R: [directions, 4 hidden, hidden],
    B: [directions, 8 hidden], P: peepholes [directions, 3 hidden] in the order i, o, f
    -> Y: [sequence, directions, batch, hidden], Y_h and Y_c: [directions, batch, hidden]; with layout 1 the batch
    comes first. input_forget couples the gates: ft = 1 - it. clip bounds the input of every activation, h's too.
    Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__LSTM.html
    """
    sequences = sequences_of(X, W, sequence_lens, direction, layout)
    count = len(sequences.directions)
    _check_weights(sequences, hidden_size or _hidden_size(R), 4, W, R, B, [initial_h, initial_c], P)
    names = activations or ("Sigmoid", "Tanh", "Tanh") * count
    functions = activation_functions(names, activation_alpha, activation_beta, 3 * count)
    functions = [clipped(function, clip) for function in functions]
    return run_lstm(
        sequences, widen(W), widen(R), B, (initial_h, initial_c), P, functions, bool(input_forget), hidden_size
    )


def run_lstm(
    sequences: Sequences,
    weights: Array,
    recurrence: Array,
    B: Array | None,
    initial: tuple[Array | None, Array | None],
    P: Array | None,
    functions: Sequence[Activation],
    input_forget: bool,
    hidden_size: int | None = None,
    rounded: Callable[[Array], Array] = lambda h: h,
) -> tuple[Array, ...]:
    """The outputs of an LSTM. functions: f, g, h of each direction; rounded: what R sees of Ht-1."""
    count = len(sequences.directions)
    hidden = hidden_size or recurrence.shape[-1]
    input_bias, recurrent_bias = _split_bias(B, count, 4, hidden)
    peepholes = None if P is None else widen(P)
    hidden_states, cell_states = (_initial(sequences, value, hidden) for value in initial)

    def cell(index: int) -> Cell:
        f, g, h = functions[3 * index : 3 * index + 3]
        w, r = weights[index], recurrence[index]
        bias = input_bias[index] + recurrent_bias[index]
        gate_i, gate_o, gate_f, gate_c = (slice(gate * hidden, (gate + 1) * hidden) for gate in range(4))
        seen = None if peepholes is None else np.split(peepholes[index], 3)

        def step(x: Array, state: State) -> State:
            previous_h, previous_c = state
            sums = x @ w.T + rounded(previous_h) @ r.T + bias
            if seen is not None:
                sums[:, gate_i] += seen[0] * previous_c
                sums[:, gate_f] += seen[2] * previous_c
            i = f(sums[:, gate_i])
            forget = 1 - i if input_forget else f(sums[:, gate_f])
            cell_state = forget * previous_c + i * g(sums[:, gate_c])
            if seen is not None:
                sums[:, gate_o] += seen[1] * cell_state
            return f(sums[:, gate_o]) * h(cell_state), cell_state

        return step

    states = [(hidden_states[i], cell_states[i]) for i in range(count)]
    y, last = _run(sequences, [cell(i) for i in range(count)], states)
    return _finish(sequences, y, last)
