"""DFT, STFT, windows and mel filters against onnxruntime."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, filled

KINDS = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
ABSOLUTE = {np.float32: 2e-3, np.float64: 1e-8}


@BOUNDED
@given(
    length=st.integers(1, 17),
    parts=st.integers(1, 2),
    inverse=st.booleans(),
    wanted=st.one_of(st.none(), st.integers(1, 20)),
    axis=st.sampled_from([1, 2, -2, -3]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 999),
)
def test_dft(length: int, parts: int, inverse: bool, wanted: int | None, axis: int, dtype: type, seed: int) -> None:
    x = filled((2, length, length + 1, parts), dtype, seed)
    onesided = int(parts == 1 and not inverse and seed % 2)
    inputs = [x, None if wanted is None else np.array(wanted, np.int64), np.array(axis, np.int64)]
    attributes = {"inverse": int(inverse), "onesided": onesided}
    agree("DFT", inputs, attributes, opset=20, outputs=[KINDS[dtype]], rtol=1e-3, atol=ABSOLUTE[dtype])


@BOUNDED
@given(
    length=st.integers(16, 40),
    frame=st.integers(2, 16),
    step=st.integers(1, 9),
    windowed=st.booleans(),
    onesided=st.integers(0, 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 999),
)
def test_stft(length: int, frame: int, step: int, windowed: bool, onesided: int, dtype: type, seed: int) -> None:
    signal = filled((2, length, 1), dtype, seed)
    window = filled((frame,), dtype, seed + 1) if windowed else None
    inputs = [signal, np.array(step, np.int64), window, np.array(frame, np.int64)]
    agree("STFT", inputs, {"onesided": onesided}, opset=17, outputs=[KINDS[dtype]], rtol=1e-3, atol=ABSOLUTE[dtype])


@BOUNDED
@given(
    op=st.sampled_from(["BlackmanWindow", "HammingWindow", "HannWindow"]),
    size=st.integers(2, 40),
    periodic=st.integers(0, 1),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_windows(op: str, size: int, periodic: int, dtype: type) -> None:
    attributes = {"periodic": periodic, "output_datatype": KINDS[dtype]}
    agree(op, [np.array(size, np.int64)], attributes, opset=17, outputs=[KINDS[dtype]], rtol=1e-4, atol=1e-6)


@BOUNDED
@given(bands=st.integers(1, 12), length=st.integers(4, 64), low=st.integers(0, 500), span=st.integers(100, 3000))
def test_mel_weight_matrix(bands: int, length: int, low: int, span: int) -> None:
    whole = [np.array(value, np.int64) for value in (bands, length, 8000)]
    edges = [np.array(value, np.float32) for value in (low, min(low + span, 4000))]
    agree("MelWeightMatrix", [*whole, *edges], opset=17, rtol=1e-4, atol=1e-5)
