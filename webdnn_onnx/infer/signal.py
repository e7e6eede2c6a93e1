"""Windows and Fourier transforms."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.movement import unknown
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


def _output_type(call: Call) -> DType:
    return DType.from_onnx(call.number("output_datatype", 1))


@shape_rule(("BlackmanWindow", "HammingWindow", "HannWindow"), dtype=_output_type)
def window(call: Call) -> list[Shape]:
    """As many elements as the input says."""
    size = call.scalar(0)
    return [(call.fresh(0) if size is None else size,)]


@shape_rule("MelWeightMatrix", dtype=_output_type)
def mel_weight_matrix(call: Call) -> list[Shape]:
    """[dft_length // 2 + 1, num_mel_bins]."""
    bins, length = call.scalar(0), call.scalar(1)
    if bins is None or length is None:
        return [unknown(call, 2)]
    return [(length // 2 + 1, bins)]


@shape_rule("DFT", since=17)
def dft_17(call: Call) -> list[Shape]:
    """The axis is an attribute."""
    return _transformed(call, call.number("axis", 1))


@shape_rule("DFT", since=20)
def dft(call: Call) -> list[Shape]:
    """The axis is an input."""
    shape = call.at_least(0, 2)
    if not call.has(2):
        return _transformed(call, -2)
    axis = call.scalar(2)
    if isinstance(axis, int):
        return _transformed(call, axis)
    return [(*unknown(call, len(shape) - 1), call.fresh(len(shape) - 1))]


def _transformed(call: Call, axis: int) -> list[Shape]:
    """The signal's shape with the transform's length, halved where one side is enough, and 2 (or 1) parts."""
    shape = call.at_least(0, 2)
    normal = call.axis(axis, len(shape))
    length: Dim | None = call.scalar(1) if call.has(1) else shape[normal]
    if length is None:
        length = call.fresh(normal)
    parts = 2
    if call.number("onesided", 0):
        if call.number("inverse", 0):
            parts = 1
            if not call.has(1):
                length = (length - 1) * 2
        else:
            length = length // 2 + 1
    result = list(shape)
    result[normal] = length
    return [(*result[:-1], parts)]


@shape_rule("STFT")
def stft(call: Call) -> list[Shape]:
    """[batch, frames, bins, 2]."""
    signal = call.ranked(0, 2, 3)
    step = call.scalar(1)
    length: Dim | None = None
    if call.has(3):
        length = call.scalar(3)
    elif call.has(2):
        length = call.ranked(2, 1)[0]
    if step is None or length is None:
        return [(signal[0], call.fresh(1), call.fresh(2), 2)]
    bins = length // 2 + 1 if call.number("onesided", 1) else length
    return [(signal[0], (signal[1] - length) // step + 1, bins, 2)]
