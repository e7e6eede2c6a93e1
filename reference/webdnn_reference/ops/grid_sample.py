"""GridSample and AffineGrid: sampling an image at positions that another tensor holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, int_list, is_integer, narrow, saturate, widen
from webdnn_reference.ops.resize import cubic_kernel
from webdnn_reference.registry import op

__all__ = ["affine_grid", "grid_sample", "sample"]

_MODES = {"bilinear": "linear", "bicubic": "cubic", "linear": "linear", "cubic": "cubic", "nearest": "nearest"}


@op("GridSample", 16)
def grid_sample_16(
    X: Array, grid: Array, *, align_corners: int = 0, mode: str = "bilinear", padding_mode: str = "zeros"
) -> Array:
    """Samples of an image [N, C, H, W] at the positions of a grid [N, H_out, W_out, 2]; see `grid_sample`.

    Spec: https://onnx.ai/onnx/operators/onnx__GridSample.html#gridsample-16
    """
    if X.ndim != 4:
        raise ShapeError(f"X: expected rank 4 before opset 20, got shape {list(X.shape)}")
    return sample(X, grid, align_corners, mode, padding_mode)


@op("GridSample", (20, 22))
def grid_sample(
    X: Array, grid: Array, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Array:
    """Samples of X at the positions that `grid` gives, by nearest, N-linear or N-cubic interpolation.

    X: any[N, C, D1..Dr], grid: float[N, E1..Er, r], coordinates from -1 to 1, innermost first
    -> same dtype as X, [N, C, E1..Er]. A NaN coordinate counts as -1. Interpolated integers are cut off towards zero.
    Raises ShapeError, InvalidModelError, DTypeError.
    Spec: https://onnx.ai/onnx/operators/onnx__GridSample.html#gridsample-22
    """
    return sample(X, grid, align_corners, mode, padding_mode)


def sample(X: Array, grid: Array, align_corners: int, mode: str, padding_mode: str) -> Array:
    """GridSample of any version."""
    rank = X.ndim - 2
    if rank < 1 or grid.ndim != X.ndim or grid.shape[-1] != rank or grid.shape[0] != X.shape[0]:
        raise ShapeError(
            f"X, grid: expected [N, C, D1, ..., Dr] and [N, ..., r] of one rank, "
            f"got {list(X.shape)} and {list(grid.shape)}"
        )
    if mode not in _MODES or padding_mode not in ("zeros", "border", "reflection"):
        raise InvalidModelError(f"mode, padding_mode: expected known ones, got {mode!r}, {padding_mode!r}")
    batch, channels = X.shape[:2]
    sizes = X.shape[2:]
    shape = (batch, channels, *grid.shape[1:-1])
    if X.size == 0 or grid.size == 0:
        return np.zeros(shape, X.dtype)
    positions = widen(grid).reshape(batch, -1, rank)
    positions = np.where(np.isnan(positions), positions.dtype.type(-1), positions)
    taps = [
        _taps(positions[..., rank - 1 - axis], size, bool(align_corners), _MODES[mode], padding_mode)
        for axis, size in enumerate(sizes)
    ]
    flat = X.reshape(batch, channels, -1)
    if _MODES[mode] == "nearest":
        index, inside = _combined([tap[0] for tap in taps], sizes)
        values = np.take_along_axis(flat, index[:, None], axis=2)
        return np.where(inside[:, None], values, np.zeros((), X.dtype)).reshape(shape)
    if X.dtype.kind in "bO":
        raise DTypeError(f"X: expected numbers for mode {mode}, got {X.dtype}")
    wide = flat.astype(np.float64) if is_integer(X) else widen(flat)
    total = np.zeros((batch, channels, positions.shape[1]), wide.dtype)
    for chosen in itertools.product(*taps):
        index, inside = _combined(chosen, sizes)
        weight = np.prod([tap[1] for tap in chosen], axis=0).astype(np.real(wide).dtype)
        values = np.take_along_axis(wide, index[:, None], axis=2)
        total += np.where(inside[:, None], values, 0) * weight[:, None]
    return (saturate(np.trunc(total), X.dtype) if is_integer(X) else narrow(total, X)).reshape(shape)


Tap = tuple[Array, Array, Array]
"""For each position: the index along one axis, its weight, and whether it lies inside the image."""


def _taps(normalised: Array, size: int, align_corners: bool, mode: str, padding: str) -> list[Tap]:
    """The samples along one axis, of length `size`, that each position [N, P] draws on."""
    kind = normalised.dtype.type
    if align_corners:
        # The only sample of an axis lies at every position, infinite ones too.
        x = (normalised + 1) / 2 * kind(size - 1) if size > 1 else np.zeros_like(normalised)
        low, high = 0.0, size - 1.0
    else:
        x = ((normalised + 1) * kind(size) - 1) / 2
        low, high = -0.5, size - 0.5
    far = kind(2**30)
    x = np.clip(x, -far, far)
    if mode != "cubic":
        x = _padded(x, size, low, high, padding)
    if mode == "nearest":
        return [_tap(np.rint(x), np.ones_like(x), size, low, high, padding)]
    base = np.floor(x)
    ratio = x - base
    if mode == "linear":
        weights = [1 - ratio, ratio]
        offsets = [0, 1]
    else:
        weights = [cubic_kernel(np.abs(ratio - k), -0.75).astype(x.dtype) for k in (-1, 0, 1, 2)]
        offsets = [-1, 0, 1, 2]
    return [_tap(base + k, w, size, low, high, padding) for k, w in zip(offsets, weights, strict=True)]


def _tap(index: Array, weight: Array, size: int, low: float, high: float, padding: str) -> Tap:
    index = _padded(index, size, low, high, padding)
    inside = (index >= 0) & (index <= size - 1)
    return np.clip(index, 0, size - 1).astype(np.int64), weight, inside


def _padded(x: Array, size: int, low: float, high: float, padding: str) -> Array:
    """Coordinates moved into the image by the padding mode; untouched for zeros."""
    if padding == "zeros":
        return x
    if padding == "reflection":
        span = high - low
        if span <= 0:
            return np.zeros_like(x)
        turns, rest = np.divmod(x - x.dtype.type(low), x.dtype.type(span))
        x = np.where(turns % 2 == 0, rest, x.dtype.type(span) - rest) + x.dtype.type(low)
    return np.clip(x, 0, size - 1)


def _combined(chosen: Sequence[Tap], sizes: Sequence[int]) -> tuple[Array, Array]:
    """The flat index of one tap per axis, and whether it lies inside along all of them."""
    index = np.ravel_multi_index([tap[0] for tap in chosen], tuple(sizes))
    inside = np.logical_and.reduce([tap[2] for tap in chosen])
    return np.asarray(index), inside


@op("AffineGrid", 20)
def affine_grid(theta: Array, size: Array, *, align_corners: int = 0) -> Array:
    """Sampling grids that apply affine maps to the positions of an image's pixels.

    theta: float[N, r, r + 1], size: int64[r + 2] = (N, C, D1..Dr) -> float[N, D1..Dr, r], innermost coordinate first;
    r is 2 or 3. Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__AffineGrid.html#affinegrid-20
    """
    sizes = int_list(size, "size")
    lengths, rank = sizes[2:], len(sizes) - 2
    if rank not in (2, 3) or min(sizes) < 0:
        raise ShapeError(f"size: expected [N, C, H, W] or [N, C, D, H, W], none below 0, got {sizes}")
    if theta.shape != (sizes[0], rank, rank + 1):
        raise ShapeError(f"theta: expected shape {[sizes[0], rank, rank + 1]}, got {list(theta.shape)}")
    wide = widen(theta)
    axes = []
    for length in lengths:
        if align_corners:
            axes.append(np.linspace(-1, 1, length) if length > 1 else np.zeros(length))
        else:
            axes.append((2 * np.arange(length) + 1) / max(length, 1) - 1)
    mesh = np.meshgrid(*axes, indexing="ij")
    homogeneous = np.stack([*reversed(mesh), np.ones(lengths)], axis=-1).astype(wide.dtype)
    flat = homogeneous.reshape(1, -1, rank + 1) @ np.swapaxes(wide, 1, 2)
    return narrow(flat.reshape(theta.shape[0], *lengths, rank), theta)
