"""RNN, GRU and LSTM."""

from __future__ import annotations

from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import shape_rule

__all__: list[str] = []


@shape_rule(("RNN", "GRU", "LSTM"), same=(0, 1, 2))
def recurrent(call: Call) -> list[Shape]:
    """Y [seq, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]; batch first with layout 1."""
    x, recurrence = call.ranked(0, 3), call.ranked(2, 3)
    directions = recurrence[0]
    hidden = call.attribute("hidden_size")
    size = hidden if isinstance(hidden, int) else recurrence[2]
    call.expect_equal("hidden size of R", size, recurrence[2])
    call.expect_equal("input size of W", x[2], call.ranked(1, 3)[2])
    if call.number("layout", 0):
        batch, sequence = x[0], x[1]
        state = (batch, directions, size)
        return [(batch, sequence, directions, size), state, state]
    sequence, batch = x[0], x[1]
    state = (directions, batch, size)
    return [(sequence, directions, batch, size), state, state]


@shape_rule("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(call: Call) -> list[Shape]:
    """As LSTM, of weights whose last two axes are swapped."""
    sequence, batch, _ = call.ranked(0, 3)
    directions, size, _ = call.ranked(2, 3)
    state = (directions, batch, size)
    return [(sequence, directions, batch, size), state, state]
