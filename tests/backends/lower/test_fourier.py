"""DFT and STFT: fast transforms of every factor, sums where there is none, axes told at run time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.lower.one_node import Array, agree, f32
from webdnn_backends.lower.fourier import factors

ATOL = 2e-5
"""Spectra of up to 420 normally distributed numbers are some twenty in size: ten units in the last place."""


def scalar(value: int) -> Array:
    return np.array(value, np.int64)


def test_a_length_is_the_product_of_its_factors_or_too_hard() -> None:
    for length in range(1, 400):
        found = factors(length)
        largest = max(
            (p for p in range(2, length + 1) if length % p == 0 and all(p % q for q in range(2, p))), default=1
        )
        assert (found is None) == (largest > 13), length
        assert found is None or int(np.prod(found)) == length


@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 10, 11, 13, 17, 24, 60, 64, 91, 420])
def test_complex_signals(length: int, inverse: int) -> None:
    agree("DFT", [f32(2, length, 2), None, scalar(1)], {"inverse": inverse}, constant=[2], atol=ATOL)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("length", [6, 20, 36, 49, 400])
def test_real_signals(length: int, onesided: int) -> None:
    agree("DFT", [f32(2, length, 1), None, scalar(-2)], {"onesided": onesided}, constant=[2], atol=ATOL)


@pytest.mark.parametrize("length", [10, 39, 40])
def test_half_a_spectrum_back(length: int) -> None:
    spectrum = np.fft.rfft(f32(3, length)).astype(np.complex64)
    x = np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)
    agree("DFT", [x, scalar(length), scalar(1)], {"inverse": 1, "onesided": 1}, constant=[1, 2], atol=ATOL)


@pytest.mark.parametrize("length", [40, 25, 30])
@pytest.mark.parametrize("symbolic", [False, True])
def test_signals_are_cut_or_padded(symbolic: bool, length: int) -> None:
    x = f32(2, 30, 2)
    agree("DFT", [x, scalar(length), scalar(1)], constant=[1, 2], symbolic=symbolic, atol=ATOL)


@pytest.mark.parametrize("axis", [-4, -3, -2, 0, 1, 2])
def test_the_axis_may_be_told_at_run_time(axis: int) -> None:
    agree("DFT", [f32(2, 12, 9, 2), None, scalar(axis)], {"inverse": 1}, atol=ATOL)


def test_float64_stays_float64() -> None:
    x = f32(1, 50, 2).astype(np.float64)
    agree("DFT", [x, None, scalar(1)], constant=[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("windowed", [False, True])
def test_frames(windowed: bool, parts: int) -> None:
    window = np.hanning(32).astype(np.float32) if windowed else None
    inputs = [f32(2, 100, parts), scalar(12), window, scalar(32)]
    agree("STFT", inputs, {"onesided": int(parts == 1)}, constant=[1, 3], atol=ATOL)
