"""Fourier transforms, windows and the mel filter bank.

Transforms compute in the precision of their input, float32 for narrower types.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, axis_of, is_integer, narrow, saturate, scalar, scalar_int, widen
from webdnn_reference.registry import Context, op

__all__ = ["blackman_window", "dft_17", "dft_20", "hamming_window", "hann_window", "mel_weight_matrix", "stft"]


@op("DFT", 17)
def dft_17(
    input: Array,
    dft_length: Array | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Array:
    """The discrete Fourier transform along `axis`; see `dft_20`.

    Spec: https://onnx.ai/onnx/operators/onnx__DFT.html#dft-17
    """
    return _dft(input, dft_length, axis, bool(inverse), bool(onesided))


@op("DFT", 20)
def dft_20(
    input: Array,
    dft_length: Array | None = None,
    axis: Array | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Array:
    """The discrete Fourier transform along one axis.

    input: float[..., 1] (real) or float[..., 2] (complex) -> float[..., 2], or [..., 1] for the inverse of a
    one-sided spectrum. The axis becomes dft_length long (padded with zeros or cut), and dft_length // 2 + 1 long
    in a one-sided spectrum. Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__DFT.html#dft-20
    """
    return _dft(input, dft_length, -2 if axis is None else scalar_int(axis, "axis"), bool(inverse), bool(onesided))


def _dft(x: Array, dft_length: Array | None, axis: int, inverse: bool, onesided: bool) -> Array:
    values = _to_complex(x, "input")
    where = axis_of(axis, x.ndim, "axis")
    if where == x.ndim - 1:
        raise ShapeError(f"axis: expected one before the last, which holds the complex parts, got {axis}")
    real = x.shape[-1] == 1
    if onesided and real == inverse:
        wanted, got = ("complex", "real") if inverse else ("real", "complex")
        raise InvalidModelError(f"onesided with inverse={int(inverse)}: expected {wanted} input, got {got}")
    length = 2 * (values.shape[where] - 1) if onesided and inverse else values.shape[where]
    if dft_length is not None:
        length = scalar_int(dft_length, "dft_length")
    if length < 1:
        raise ShapeError(f"dft_length: expected at least 1, got {length}")
    if onesided and inverse:
        return narrow(np.fft.irfft(values, length, where)[..., None], x)
    if onesided:
        return narrow(_from_complex(np.fft.rfft(np.real(values), length, where)), x)
    transform = np.fft.ifft if inverse else np.fft.fft
    return narrow(_from_complex(transform(values, length, where)), x)


@op("STFT", 17)
def stft(
    signal: Array,
    frame_step: Array,
    window: Array | None = None,
    frame_length: Array | None = None,
    *,
    onesided: int = 1,
) -> Array:
    """The Fourier transforms of successive windowed frames of a signal.

    signal: float[batch, length, 1 or 2], window: float[frame_length] -> float[batch, frames, bins, 2] with
    frames = (length - frame_length) // frame_step + 1 and bins = frame_length // 2 + 1 where one-sided.
    Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__STFT.html#stft-17
    """
    if signal.ndim != 3:
        raise ShapeError(f"signal: expected rank 3, got shape {list(signal.shape)}")
    values = _to_complex(signal, "signal")
    step = scalar_int(frame_step, "frame_step")
    size = values.shape[1]
    if frame_length is not None:
        size = scalar_int(frame_length, "frame_length")
    elif window is not None:
        size = window.size
    if window is not None and window.shape != (size,):
        raise ShapeError(f"window: expected shape [{size}], the frame length, got {list(window.shape)}")
    if not 1 <= size <= values.shape[1] or step < 1:
        raise ShapeError(
            f"frame: expected a length of 1..{values.shape[1]} and a step of at least 1, got {size} and {step}"
        )
    frames = np.lib.stride_tricks.sliding_window_view(values, size, axis=1)[:, ::step]
    if window is not None:
        frames = frames * widen(window)
    if not onesided:
        return narrow(_from_complex(np.fft.fft(frames, axis=-1)), signal)
    if signal.shape[-1] != 1:
        raise InvalidModelError("onesided: expected 0 for a complex signal, got 1")
    return narrow(_from_complex(np.fft.rfft(np.real(frames), axis=-1)), signal)


def _to_complex(x: Array, what: str) -> Array:
    if x.ndim < 2 or x.shape[-1] not in (1, 2):
        raise ShapeError(f"{what}: expected a last dimension of 1 (real) or 2 (complex), got shape {list(x.shape)}")
    wide = widen(x)
    return wide[..., 0] + 0j if x.shape[-1] == 1 else wide[..., 0] + 1j * wide[..., 1]


def _from_complex(z: Array) -> Array:
    return np.stack([np.real(z), np.imag(z)], axis=-1)


@op("BlackmanWindow", 17)
def blackman_window(size: Array, *, output_datatype: int = 1, periodic: int = 1, context: Context) -> Array:
    """The Blackman window 0.42 - 0.5 cos t + 0.08 cos 2t.

    size: a scalar -> output_datatype[size]; t runs from 0 to 2 pi over size steps, or size - 1 if not periodic.
    Spec: https://onnx.ai/onnx/operators/onnx__BlackmanWindow.html#blackmanwindow-17
    """
    return _window(size, (0.42, -0.5, 0.08), periodic, output_datatype, context)


@op("HammingWindow", 17)
def hamming_window(size: Array, *, output_datatype: int = 1, periodic: int = 1, context: Context) -> Array:
    """The Hamming window 25/46 - 21/46 cos t; see `blackman_window`.

    Spec: https://onnx.ai/onnx/operators/onnx__HammingWindow.html#hammingwindow-17
    """
    return _window(size, (25 / 46, -21 / 46), periodic, output_datatype, context)


@op("HannWindow", 17)
def hann_window(size: Array, *, output_datatype: int = 1, periodic: int = 1, context: Context) -> Array:
    """The Hann window 0.5 - 0.5 cos t; see `blackman_window`.

    Spec: https://onnx.ai/onnx/operators/onnx__HannWindow.html#hannwindow-17
    """
    return _window(size, (0.5, -0.5), periodic, output_datatype, context)


def _window(size: Array, terms: tuple[float, ...], periodic: int, output_datatype: int, context: Context) -> Array:
    length = scalar_int(size, "size")
    if length < 0:
        raise ShapeError(f"size: expected 0 or more, got {length}")
    steps = length if periodic else length - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        t = 2 * np.pi * np.arange(length, dtype=np.float64) / steps
    values = sum((term * np.cos(k * t) for k, term in enumerate(terms)), np.zeros(length))
    return _as_datatype(values, output_datatype, context)


@op("MelWeightMatrix", 17)
def mel_weight_matrix(
    num_mel_bins: Array,
    dft_length: Array,
    sample_rate: Array,
    lower_edge_hertz: Array,
    upper_edge_hertz: Array,
    *,
    output_datatype: int = 1,
    context: Context,
) -> Array:
    """Triangular filters that sum the bins of a spectrum into bands of the mel scale.

    All inputs are scalars -> output_datatype[dft_length // 2 + 1, num_mel_bins]. The corners of the triangles are
    whole bins: floor((dft_length + 1) f / sample_rate) for num_mel_bins + 2 frequencies f, spaced evenly in mel.
    Spec: https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html#melweightmatrix-17
    """
    bands = scalar_int(num_mel_bins, "num_mel_bins")
    length = scalar_int(dft_length, "dft_length")
    rate = scalar_int(sample_rate, "sample_rate")
    if min(bands, length) < 0 or rate < 1:
        raise ShapeError(
            "num_mel_bins, dft_length, sample_rate: expected none below 0 and a rate of at least 1, "
            f"got {bands}, {length} and {rate}"
        )
    edges = (scalar(lower_edge_hertz, "lower_edge_hertz"), scalar(upper_edge_hertz, "upper_edge_hertz"))
    low, high = (2595 * np.log10(1 + float(edge) / 700) for edge in edges)
    mel = low + np.arange(bands + 2) * ((high - low) / (bands + 2))
    corners = np.floor((length + 1) * 700 * (10 ** (mel / 2595) - 1) / rate).astype(np.int64)
    lower, center, upper = corners[:-2], corners[1:-1], corners[2:]
    bins = np.arange(length // 2 + 1)[:, None]
    rising = (bins - lower) / np.maximum(center - lower, 1)
    falling = (upper - bins) / np.maximum(upper - center, 1)
    weights = np.where(bins < center, rising, falling)
    weights = np.where((bins >= lower) & (bins < upper), weights, 0)
    weights = np.where(bins == center, 1, weights)
    return _as_datatype(weights, output_datatype, context)


def _as_datatype(values: Array, output_datatype: int, context: Context) -> Array:
    dtype: np.dtype[Any] = DType.from_onnx(output_datatype).numpy
    if is_integer(dtype):
        # Cast from float32, as the function bodies do: the peak of a window is 1, not the float64 just below it.
        return saturate(np.trunc(values.astype(np.float32)), dtype)
    return values if context.float64 else values.astype(dtype)
