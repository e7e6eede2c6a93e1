"""Older aliases of com.microsoft for operators that ai.onnx has since, and small helpers."""

from __future__ import annotations

import math

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, axis_of, broadcastable, narrow, scalar, scalar_int, unidirectional, widen
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.grid_sample import sample
from webdnn_reference.ops.indexing import gather_nd_11
from webdnn_reference.ops.ml_common import squared_distances
from webdnn_reference.ops.structure import pad_11, trilu
from webdnn_reference.ops.structure_filled import range_11
from webdnn_reference.registry import Context, op

__all__ = [
    "bias_softmax",
    "cdist",
    "complex_mul",
    "crop_and_resize",
    "expand_dims",
    "gather_nd",
    "grid_sample_ms",
    "inverse",
    "irfft",
    "n_gram_repeat_block",
    "pad",
    "range_ms",
    "rfft",
    "trilu_ms",
    "unfold_tensor",
    "unique_ms",
]


@op("Trilu", 1, domain=MS)
def trilu_ms(X: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    """The upper or lower triangle of matrices, zeros elsewhere, as Trilu of ai.onnx."""
    return trilu(X, k, upper=upper)


@op("Range", 1, domain=MS)
def range_ms(start: Array, limit: Array, delta: Array | None = None, *, context: Context) -> Array:
    """start, start + delta, ... up to but not including limit; delta is 1 if absent."""
    step = np.ones((), start.dtype) if delta is None else scalar(delta, "delta")
    return np.asarray(range_11(scalar(start, "start"), scalar(limit, "limit"), step, context=context))


@op("Pad", 1, domain=MS)
def pad(data: Array, pads: Array, value: Array | None = None, *, mode: str = "constant") -> Array:
    """The tensor with elements added (or removed) at both ends of each axis, as Pad-11."""
    return pad_11(data, pads.reshape(-1), None if value is None else value.reshape(()), mode=mode)


@op("GatherND", 1, domain=MS)
def gather_nd(data: Array, indices: Array) -> Array:
    """Slices of the tensor by index tuples, as GatherND-11."""
    return gather_nd_11(data, indices)


@op("GridSample", 1, domain=MS)
def grid_sample_ms(
    X: Array, Grid: Array, *, align_corners: int = 0, mode: str = "bilinear", padding_mode: str = "zeros"
) -> Array:
    """Samples of an image [N, C, H, W] at the positions of a grid, as GridSample-16."""
    return sample(X, Grid, align_corners, mode, padding_mode)


@op("ExpandDims", 1, domain=MS)
def expand_dims(X: Array, axis: Array) -> Array:
    """The tensor with an axis of length 1 inserted. axis: int32 scalar in [-rank - 1, rank]."""
    where = axis_of(scalar_int(axis, "axis"), X.ndim + 1, "axis")
    return np.expand_dims(X, where)


@op("Unique", 1, domain=MS)
def unique_ms(x: Array) -> tuple[Array, Array, Array]:
    """The distinct values in the order they first occur, the place of each element among them, and their counts.

    x: any[n] -> y: same type, idx: int64[n], counts: int64.
    """
    values, first, inverse_of, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return values[order], rank[inverse_of.reshape(-1)], counts[order].astype(np.int64)


@op("Inverse", 1, domain=MS)
def inverse(X: Array) -> Array:
    """The inverses of matrices. X: float[..., N, N] -> same. Raises ShapeError; InvalidModelError for singular ones."""
    if X.ndim < 2 or X.shape[-1] != X.shape[-2]:
        raise ShapeError(f"X: expected square matrices, got shape {list(X.shape)}")
    try:
        return narrow(np.linalg.inv(widen(X)), X)
    except np.linalg.LinAlgError:
        raise InvalidModelError("X: expected invertible matrices, got a singular one") from None


@op("CDist", 1, domain=MS)
def cdist(A: Array, B: Array, *, metric: str = "sqeuclidean") -> Array:
    """Distances between rows. A: float[M, N], B: [K, N] -> [M, K]. metric: euclidean or sqeuclidean."""
    if metric not in ("euclidean", "sqeuclidean"):
        raise InvalidModelError(f"metric: expected euclidean or sqeuclidean, got {metric!r}")
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[1]:
        raise ShapeError(f"A, B: expected [M, N] and [K, N], got {list(A.shape)} and {list(B.shape)}")
    squares = squared_distances(A, B)
    return np.asarray(squares if metric == "sqeuclidean" else np.sqrt(squares))


@op("NGramRepeatBlock", 1, domain=MS)
def n_gram_repeat_block(input_ids: Array, scores: Array, *, ngram_size: int) -> Array:
    """Scores with -inf for tokens that would complete an n-gram which the sequence already has.

    input_ids: int64[B, S], scores: float[B, V] -> same as scores.
    """
    if input_ids.size and not 0 <= input_ids.min() <= input_ids.max() < scores.shape[1]:
        raise ShapeError(f"input_ids: expected tokens 0..{scores.shape[1] - 1}, got others")
    result = scores.copy()
    length = input_ids.shape[1]
    if length + 1 < ngram_size or ngram_size < 1:
        return result
    windows = np.lib.stride_tricks.sliding_window_view(input_ids, min(ngram_size, length), axis=1)
    if length < ngram_size:
        return result
    latest = input_ids[:, length - (ngram_size - 1) :]
    row, start = np.nonzero((windows[:, :, :-1] == latest[:, None]).all(axis=2))
    result[row, windows[row, start, -1]] = -np.inf
    return result


@op("CropAndResize", 1, domain=MS)
def crop_and_resize(
    X: Array,
    rois: Array,
    batch_indices: Array,
    crop_size: Array,
    *,
    extrapolation_value: float = 0.0,
    mode: str = "bilinear",
) -> Array:
    """Regions of images resized to one size, corners aligned.

    X: float[N, C, H, W], rois: [K, 4] as y1, x1, y2, x2 from 0 to 1, batch_indices: int32[K], crop_size: int32[2]
    -> [K, C, *crop_size]; positions outside the image give extrapolation_value. Raises ShapeError, InvalidModelError.
    """
    if X.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 4 or crop_size.size != 2:
        raise ShapeError(
            f"expected X [N, C, H, W], rois [K, 4], crop_size [2], got {list(X.shape)}, "
            f"{list(rois.shape)}, {list(crop_size.shape)}"
        )
    if not np.isfinite(widen(rois)).all() or (crop_size < 0).any() or not X.size:
        raise ShapeError(f"rois, crop_size, X: expected finite numbers, sizes and images, got {crop_size.tolist()}")
    if batch_indices.size and not 0 <= batch_indices.min() <= batch_indices.max() < len(X):
        raise ShapeError(f"batch_indices: expected images 0..{len(X) - 1}, got others")
    if mode not in ("bilinear", "nearest"):
        raise InvalidModelError(f"mode: expected bilinear or nearest, got {mode!r}")
    positions = []
    for axis, count in enumerate(int(size) for size in crop_size.reshape(-1)):
        span = rois.dtype.type(X.shape[2 + axis] - 1)
        first, last = rois[:, axis, None], rois[:, 2 + axis, None]
        if count > 1:
            positions.append(first * span + np.arange(count) * ((last - first) * span / rois.dtype.type(count - 1)))
        else:
            positions.append(rois.dtype.type(0.5) * (first + last) * span)
    y, x = positions[0].astype(rois.dtype), positions[1].astype(rois.dtype)
    inside = ((y >= 0) & (y <= X.shape[2] - 1))[:, :, None] & ((x >= 0) & (x <= X.shape[3] - 1))[:, None]
    pixels = np.ascontiguousarray(widen(X).transpose(0, 2, 3, 1))
    values = _sampled(pixels, batch_indices, y, x, mode == "nearest")
    values[~inside] = extrapolation_value
    return narrow(values.transpose(0, 3, 1, 2), X)


def _sampled(images: Array, chosen: Array, y: Array, x: Array, nearest: bool) -> Array:
    """The chosen [K] of images [N, H, W, C] at the crossings of rows y [K, R] and columns x [K, S] -> [K, R, S, C]."""
    region = chosen[:, None, None]
    height, width = images.shape[1:3]
    y, x = np.clip(y, 0, height - 1)[:, :, None], np.clip(x, 0, width - 1)[:, None]
    if nearest:
        rows, columns = (np.floor(np.abs(p) + 0.5).astype(np.int64) for p in (y, x))
        return np.asarray(images[region, rows, columns])
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (y - top)[..., None].astype(images.dtype), (x - left)[..., None].astype(images.dtype)
    above = images[region, top, left] * (1 - across) + images[region, top, right] * across
    below = images[region, bottom, left] * (1 - across) + images[region, bottom, right] * across
    return np.asarray(above * (1 - down) + below * down)


@op("UnfoldTensor", 1, domain=MS)
def unfold_tensor(input: Array, *, dim: int = -1, size: int, step: int = 1) -> Array:
    """Slices of `size` elements along an axis, one every `step`, their elements along a new last axis.

    input: any[..., n, ...] -> [..., (n - size) // step + 1, ..., size]. Raises ShapeError.
    """
    axis = axis_of(dim, input.ndim)
    if not 0 <= size <= input.shape[axis] or step < 1:
        expected = f"0..{input.shape[axis]} and a positive number"
        raise ShapeError(f"size, step: expected {expected}, got {size} and {step}")
    windows = np.lib.stride_tricks.sliding_window_view(input, size, axis=axis)
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(windows, axis, 0)[::step], 0, axis))


@op("Rfft", 1, domain=MS)
def rfft(X: Array, *, normalized: int = 0, onesided: int = 1, signal_ndim: int = 1) -> Array:
    """The one-sided Fourier transform of the last axis. X: float[..., n] -> [..., n // 2 + 1, 2]."""
    _expect_plain(normalized, onesided, signal_ndim)
    if not X.shape[-1:] or not X.shape[-1]:
        raise ShapeError(f"X: expected elements along the last axis, got shape {list(X.shape)}")
    z = np.fft.rfft(widen(X), axis=-1)
    return narrow(np.stack([z.real, z.imag], axis=-1), X)


@op("Irfft", 1, domain=MS)
def irfft(X: Array, *, normalized: int = 0, onesided: int = 1, signal_ndim: int) -> Array:
    """The inverse of Rfft. X: float[..., n // 2 + 1, 2] -> [..., n] for even n."""
    _expect_plain(normalized, onesided, signal_ndim)
    x = widen(X)
    length = 2 * (x.shape[-2] - 1)
    if length < 1:
        raise ShapeError(f"X: expected at least 2 frequencies, got shape {list(X.shape)}")
    return narrow(np.fft.irfft(x[..., 0] + 1j * x[..., 1], n=length, axis=-1), X)


def _expect_plain(normalized: int, onesided: int, signal_ndim: int) -> None:
    if normalized or not onesided or signal_ndim != 1:
        raise InvalidModelError(
            f"expected normalized 0, onesided 1, signal_ndim 1, got {normalized}, {onesided}, {signal_ndim}"
        )


@op("ComplexMul", 1, domain=MS)
def complex_mul(A: Array, B: Array) -> Array:
    """Products of complex numbers, with broadcasting. A, B: float[..., 2] -> same type."""
    if A.shape[-1:] != (2,) or B.shape[-1:] != (2,):
        raise ShapeError(f"A, B: expected real and imaginary parts last, got {list(A.shape)} and {list(B.shape)}")
    a, b = broadcastable(widen(A), widen(B))
    product = (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] + 1j * b[..., 1])
    return narrow(np.stack([product.real, product.imag], axis=-1), A)


@op("BiasSoftmax", 1, domain=MS)
def bias_softmax(data: Array, bias: Array, *, axis: int = 1, is_inner_broadcast: int) -> Array:
    """Softmax of data + bias over the axes from `axis` on.

    bias: broadcast to data; with is_inner_broadcast 0 its batch axes repeat the outer ones of data.
    """
    x, b = widen(data), widen(bias)
    first = axis_of(axis, x.ndim)
    if is_inner_broadcast and b.ndim < x.ndim:
        b = b.reshape(*b.shape[: b.ndim - (x.ndim - first)], *[1] * (x.ndim - b.ndim), *b.shape[-(x.ndim - first) :])
    logits = (x + unidirectional(b, x.shape, "bias")).reshape(*x.shape[:first], math.prod(x.shape[first:]))
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return narrow((exponentials / exponentials.sum(axis=-1, keepdims=True)).reshape(x.shape), data)
