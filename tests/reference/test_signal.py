"""DFT, STFT, windows and the mel filter bank."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.one_node import run
from tests.reference.strategies import filled
from webdnn_onnx.errors import InvalidModelError, ShapeError


def complex_of(x: np.ndarray) -> np.ndarray:
    return x[..., 0] + 1j * x[..., 1]


def direct(x: np.ndarray, sign: int) -> np.ndarray:
    """The transform of the last axis by its definition, not divided by the length."""
    n = np.arange(x.shape[-1])
    return x @ np.exp(sign * 2j * np.pi * np.outer(n, n) / len(n))


@pytest.mark.parametrize("length", [1, 5, 6])
def test_dft_is_its_definition(length: int) -> None:
    x = filled((2, length, 2), np.float64, 0)
    np.testing.assert_allclose(complex_of(run("DFT", x, opset=20)), direct(complex_of(x), -1), atol=1e-9)
    inverse = complex_of(run("DFT", x, opset=20, inverse=1))
    np.testing.assert_allclose(inverse, direct(complex_of(x), 1) / length, atol=1e-9)


@pytest.mark.parametrize("length", [4, 8])
def test_the_length_cuts_or_pads(length: int) -> None:
    x = filled((1, 6, 1), np.float64, 0)
    padded = np.zeros((1, length))
    padded[:, : min(6, length)] = x[:, :length, 0]
    got = run("DFT", x, np.array(length), opset=17)
    np.testing.assert_allclose(complex_of(got), direct(padded.astype(complex), -1), atol=1e-9)


@pytest.mark.parametrize("length", [6, 7])
def test_a_one_sided_spectrum_goes_there_and_back(length: int) -> None:
    x = filled((3, length, 1), np.float64, 0)
    spectrum = run("DFT", x, opset=20, onesided=1)
    assert spectrum.shape == (3, length // 2 + 1, 2)
    back = run("DFT", spectrum, np.array(length), opset=20, onesided=1, inverse=1)
    np.testing.assert_allclose(back, x, atol=1e-9)


def test_the_axis_is_an_input_since_20_and_an_attribute_before() -> None:
    x = filled((2, 3, 4, 2), np.float32, 0)
    np.testing.assert_array_equal(run("DFT", x, None, np.array(-3), opset=20), run("DFT", x, opset=17, axis=1))


def test_one_sided_transforms_take_real_signals() -> None:
    with pytest.raises(InvalidModelError, match="onesided"):
        run("DFT", np.zeros((1, 4, 2)), opset=20, onesided=1)


def test_the_last_axis_holds_the_parts_of_complex_numbers() -> None:
    with pytest.raises(ShapeError, match="axis"):
        run("DFT", np.zeros((1, 4, 2)), None, np.array(2), opset=20)


def test_stft_transforms_windowed_frames() -> None:
    signal, window = filled((2, 11, 1), np.float64, 0), filled((4,), np.float64, 1)
    got = complex_of(run("STFT", signal, np.array(3), window, opset=17))
    assert got.shape == (2, 3, 3)
    for frame in range(3):
        piece = signal[:, 3 * frame : 3 * frame + 4, 0] * window
        np.testing.assert_allclose(got[:, frame], direct(piece.astype(complex), -1)[:, :3], atol=1e-9)


def test_stft_without_window_and_length_is_one_frame() -> None:
    signal = filled((1, 6, 2), np.float64, 0)
    got = run("STFT", signal, np.array(1), opset=17, onesided=0)
    np.testing.assert_allclose(complex_of(got)[:, 0], direct(complex_of(signal), -1), atol=1e-9)


@pytest.mark.parametrize(
    ("op", "numpy_window"), [("HannWindow", np.hanning), ("HammingWindow", None), ("BlackmanWindow", np.blackman)]
)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_windows(op: str, numpy_window: object, kind: int) -> None:
    size = np.array(7, np.int32)
    agree(op, [size], {"periodic": 1, "output_datatype": kind}, opset=17, outputs=[kind], rtol=1e-5, atol=1e-6)
    if callable(numpy_window):
        got = run(op, size, opset=17, periodic=0, output_datatype=TensorProto.DOUBLE)
        np.testing.assert_allclose(got, numpy_window(7), atol=1e-12)


def test_hamming_uses_the_exact_fraction() -> None:
    got = run("HammingWindow", np.array(4), opset=17, output_datatype=TensorProto.DOUBLE)
    np.testing.assert_allclose(got, [4 / 46, 25 / 46, 1, 25 / 46], atol=1e-12)


@pytest.mark.parametrize("bands", [4, 8, 20])
def test_mel_weight_matrix_agrees(bands: int) -> None:
    inputs = [np.array(value, np.int64) for value in (bands, 64, 8000)]
    inputs += [np.array(value, np.float32) for value in (20.0, 3800.0)]
    agree("MelWeightMatrix", inputs, opset=17, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("onesided", [0, 1])
def test_dft_agrees(dtype: type, onesided: int) -> None:
    kind = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}[dtype]
    x = filled((2, 12, 1), dtype, 0)
    agree("DFT", [x], {"onesided": onesided}, opset=20, outputs=[kind], rtol=1e-3, atol=1e-4)


def test_the_peak_of_an_integer_window_is_one() -> None:
    np.testing.assert_array_equal(run("BlackmanWindow", np.array(4), opset=17, output_datatype=7), [0, 0, 1, 0])
