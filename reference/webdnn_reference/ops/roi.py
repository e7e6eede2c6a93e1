"""RoiAlign and MaxRoiPool: pooling regions of interest to a fixed size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, average, narrow, widen
from webdnn_reference.registry import op

__all__ = ["max_roi_pool", "roi_align", "roi_align_10"]

_SAMPLES_AT_ONCE = 1 << 18


@op("RoiAlign", 10)
def roi_align_10(
    X: Array,
    rois: Array,
    batch_indices: Array,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Array:
    """Regions pooled without the half-pixel shift; see `roi_align`.

    Spec: https://onnx.ai/onnx/operators/onnx__RoiAlign.html#roialign-10
    """
    pooled = (output_height, output_width)
    return _roi_align(X, rois, batch_indices, mode, pooled, sampling_ratio, spatial_scale, half_pixel=False)


@op("RoiAlign", (16, 22))
def roi_align(
    X: Array,
    rois: Array,
    batch_indices: Array,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Array:
    """Regions divided into bins, each the average or maximum of bilinear samples.

    X: float[N, C, H, W], rois: float[K, 4] as x1, y1, x2, y2, batch_indices: int64[K]
    -> float[K, C, output_height, output_width]. sampling_ratio 0 takes ceil(bin length) samples along each axis.
    max is the greatest of the samples' weighted neighbours, as in the node tests, not of the interpolated samples.
    output_half_pixel omits the shift by half a pixel and takes regions to be at least one pixel long.
    Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__RoiAlign.html#roialign-22
    """
    if coordinate_transformation_mode not in ("half_pixel", "output_half_pixel"):
        raise InvalidModelError(
            "coordinate_transformation_mode: expected half_pixel or output_half_pixel, "
            f"got {coordinate_transformation_mode!r}"
        )
    pooled = (output_height, output_width)
    half_pixel = coordinate_transformation_mode == "half_pixel"
    return _roi_align(X, rois, batch_indices, mode, pooled, sampling_ratio, spatial_scale, half_pixel=half_pixel)


def _roi_align(
    X: Array,
    rois: Array,
    batch_indices: Array,
    mode: str,
    pooled: tuple[int, int],
    sampling_ratio: int,
    spatial_scale: float,
    *,
    half_pixel: bool,
) -> Array:
    if X.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 4 or batch_indices.shape != rois.shape[:1]:
        raise ShapeError(
            "expected X [N, C, H, W], rois [K, 4], batch_indices [K], got "
            f"{list(X.shape)}, {list(rois.shape)}, {list(batch_indices.shape)}"
        )
    _expect_images(batch_indices, len(X), "batch_indices")
    if min(pooled) < 1:
        raise InvalidModelError(f"output_height, output_width: expected positive ones, got {list(pooled)}")
    if mode not in ("avg", "max"):
        raise InvalidModelError(f"mode: expected avg or max, got {mode!r}")
    image = widen(X)
    corners = widen(rois).astype(image.dtype) * image.dtype.type(spatial_scale)
    if half_pixel:
        corners = corners - image.dtype.type(0.5)
    start, extent = corners[:, [1, 0]], corners[:, [3, 2]] - corners[:, [1, 0]]
    if not half_pixel:
        extent = np.maximum(extent, 1)
    if not np.isfinite(corners).all():
        raise ShapeError("rois, spatial_scale: expected finite numbers, got others")
    bins = extent / np.array(pooled, image.dtype)
    grids = np.ceil(bins).astype(np.int64) if sampling_ratio <= 0 else np.full(bins.shape, sampling_ratio, np.int64)
    grids = np.maximum(grids, 0)
    y = np.zeros((len(rois), X.shape[1], *pooled), image.dtype)
    pixels = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    for grid in np.unique(grids, axis=0):
        if grid.min() == 0 or y.size == 0:
            continue
        (group,) = np.nonzero((grids == grid).all(axis=1))
        per_region = X.shape[1] * int(np.prod(grid)) * pooled[0] * pooled[1]
        for part in np.array_split(group, -(-len(group) * per_region // _SAMPLES_AT_ONCE)):
            rows, columns = (
                _sample_positions(start[part, axis], bins[part, axis], pooled[axis], int(grid[axis]))
                for axis in range(2)
            )
            combine = np.add if mode == "avg" else np.maximum
            samples = _sampled(pixels, batch_indices[part], rows, columns, combine)
            samples = samples.reshape(len(part), X.shape[1], pooled[0], int(grid[0]), pooled[1], int(grid[1]))
            y[part] = average(samples, axis=(3, 5)) if mode == "avg" else samples.max(axis=(3, 5))
    return narrow(y, X)


def _sample_positions(start: Array, bin_size: Array, bins: int, samples: int) -> Array:
    """Coordinates [K, bins * samples] along one axis: `samples` evenly spaced ones in each bin."""
    steps = (np.arange(bins * samples).astype(start.dtype) + start.dtype.type(0.5)) / start.dtype.type(samples)
    positions: Array = start[:, None] + bin_size[:, None] * steps
    return positions


def _sampled(pixels: Array, images: Array, rows: Array, columns: Array, combine: np.ufunc) -> Array:
    """The weighted four neighbours, combined, of the positions where rows and columns cross.

    pixels: [N, H, W, C], images: [K] of them, rows: [K, R], columns: [K, S] -> [K, C, R, S]. Positions up to one pixel
    outside take the value at the border, those further out are zero.
    """
    image = images[:, None, None]
    height, width = pixels.shape[1:3]
    result: Array | None = None
    for y, y_weight in _linear_taps(rows, height):
        for x, x_weight in _linear_taps(columns, width):
            weight = (y_weight[:, :, None] * x_weight[:, None, :])[..., None]
            share = pixels[image, y[:, :, None], x[:, None, :]]
            share *= weight
            result = share if result is None else combine(result, share, out=result)
    assert result is not None  # there are two taps along each axis
    return result.transpose(0, 3, 1, 2)


def _linear_taps(x: Array, size: int) -> list[tuple[Array, Array]]:
    inside = (x >= -1) & (x <= size)
    x = np.clip(x, 0, size - 1)
    low = np.floor(x).astype(np.int64)
    ratio = x - low.astype(x.dtype)
    high = np.minimum(low + 1, size - 1)
    return [(low, np.where(inside, 1 - ratio, 0)), (high, np.where(inside, ratio, 0))]


@op("MaxRoiPool", (1, 22))
def max_roi_pool(X: Array, rois: Array, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0) -> Array:
    """Regions, rounded to whole pixels, divided into bins, each the maximum of its pixels.

    X: float[N, C, H, W], rois: float[K, 5] as batch, x1, y1, x2, y2 (corners belong to the region)
    -> float[K, C, *pooled_shape]; an empty bin is 0. Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html#maxroipool-22
    """
    if X.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        raise ShapeError(f"expected X [N, C, H, W] and rois [K, 5], got {list(X.shape)}, {list(rois.shape)}")
    if len(pooled_shape) != 2 or min(pooled_shape) < 1:
        raise InvalidModelError(f"pooled_shape: expected two positive sizes, got {list(pooled_shape)}")
    wide = widen(rois)
    if not np.isfinite(wide).all():
        raise ShapeError("rois: expected finite numbers, got others")
    batches = wide[:, 0].astype(np.int64)
    _expect_images(batches, len(X), "rois")
    scaled = wide[:, 1:] * wide.dtype.type(spatial_scale)
    corners = np.floor(np.abs(scaled) + wide.dtype.type(0.5)) * np.sign(scaled)
    y = np.zeros((len(rois), X.shape[1], *pooled_shape), X.dtype)
    pixels = np.ascontiguousarray(X.transpose(0, 2, 3, 1))
    for index, (x1, y1, x2, y2) in enumerate(corners):
        image = pixels[batches[index]]
        bins = _bins(x1, x2, pooled_shape[1], X.shape[3])
        for row, rows in enumerate(_bins(y1, y2, pooled_shape[0], X.shape[2])):
            if rows.start >= rows.stop:
                continue
            strip = image[rows].max(axis=0)
            for column, columns in enumerate(bins):
                if columns.start < columns.stop:
                    y[index, :, row, column] = strip[columns].max(axis=0)
    return y


def _expect_images(indices: Array, count: int, what: str) -> None:
    if indices.size and not 0 <= indices.min() <= indices.max() < count:
        raise ShapeError(f"{what}: expected images 0..{count - 1}, got {indices.min()}..{indices.max()}")


def _bins(first: float, last: float, count: int, limit: int) -> list[slice]:
    """The pixels of each of `count` bins of a region from `first` to `last`, both included, inside the image."""
    size = np.float32(max(last - first + 1, 1)) / np.float32(count)
    edges = np.arange(count + 1, dtype=np.float32) * size
    starts = np.clip(np.floor(edges[:-1]) + first, 0, limit).astype(np.int64)
    ends = np.clip(np.ceil(edges[1:]) + first, 0, limit).astype(np.int64)
    return [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]
