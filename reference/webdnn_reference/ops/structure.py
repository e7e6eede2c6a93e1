"""Operators that join, cut, pad and repeat tensors."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, LimitError, ShapeError
from webdnn_reference.numeric import Array, axes_of, axis_of, int_list, scalar_int
from webdnn_reference.registry import Context, op


@op("Concat", since=1)
def concat_1(*inputs: Array, axis: int = 1) -> Array:
    """The inputs one after the other along `axis`.

    Spec: https://onnx.ai/onnx/operators/onnx__Concat.html#concat-1
    """
    return concat_4(*inputs, axis=axis)


@op("Concat", since=(4, 11, 13))
def concat_4(*inputs: Array, axis: int) -> Array:
    """The inputs one after the other along `axis`.

    inputs: one dtype, one rank, shapes equal but for `axis`. Raises ShapeError otherwise.
    Spec: https://onnx.ai/onnx/operators/onnx__Concat.html#concat-13
    """
    first = inputs[0].shape
    axis = axis_of(axis, len(first))
    for other in inputs[1:]:
        if other.ndim != len(first) or (*other.shape[:axis], *other.shape[axis + 1 :]) != (
            *first[:axis],
            *first[axis + 1 :],
        ):
            raise ShapeError(
                f"inputs: expected shapes equal but for axis {axis}, got {list(first)} and {list(other.shape)}"
            )
    return np.concatenate(inputs, axis=axis)


@op("Split", since=1)
def split_1(
    input: Array, sizes: Array | None = None, *, axis: int = 0, split: Sequence[int] | None = None, context: Context
) -> tuple[Array, ...]:
    """Pieces along `axis`: of the sizes in the second input or else the attribute `split`, or else equal ones.

    sizes: of the dtype of `input`, which is a float.
    Spec: https://onnx.ai/onnx/operators/onnx__Split.html#split-1
    """
    given = split if sizes is None else int_list(sizes, "split")
    return split_2(input, axis=axis, split=given, context=context)


@op("Split", since=(2, 11))
def split_2(input: Array, *, axis: int = 0, split: Sequence[int] | None = None, context: Context) -> tuple[Array, ...]:
    """Pieces along `axis` of the sizes in `split`, or as many equal ones as there are outputs.

    Raises ShapeError if the sizes do not add up, or the dimension does not divide.
    Spec: https://onnx.ai/onnx/operators/onnx__Split.html#split-11
    """
    axis = axis_of(axis, input.ndim)
    if split is None:
        size, rest = divmod(input.shape[axis], context.declared)
        if rest:
            raise ShapeError(f"axis {axis}: expected a multiple of {context.declared}, got {input.shape[axis]}")
        split = [size] * context.declared
    return _one_each(pieces(input, split, axis), context)


@op("Split", since=13)
def split_13(input: Array, split: Array | None = None, *, axis: int = 0, context: Context) -> tuple[Array, ...]:
    """As since 2, with `split` an optional int64 input.

    Spec: https://onnx.ai/onnx/operators/onnx__Split.html#split-13
    """
    return split_2(input, axis=axis, split=None if split is None else int_list(split, "split"), context=context)


@op("Split", since=18)
def split_18(
    input: Array, split: Array | None = None, *, axis: int = 0, num_outputs: int | None = None, context: Context
) -> tuple[Array, ...]:
    """Pieces along `axis` of the sizes in `split`, or `num_outputs` equal ones of which the last may be smaller.

    Raises InvalidModelError unless exactly one of the two is given.
    Spec: https://onnx.ai/onnx/operators/onnx__Split.html#split-18
    """
    axis = axis_of(axis, input.ndim)
    if (split is None) == (num_outputs is None):
        raise InvalidModelError("split, num_outputs: expected exactly one of them, got both or none")
    if split is not None:
        return _one_each(pieces(input, int_list(split, "split"), axis), context)
    count = num_outputs or 0
    if count < 1:
        raise InvalidModelError(f"num_outputs: expected at least 1, got {count}")
    size = -(-input.shape[axis] // count)
    sizes = [max(0, min(size, input.shape[axis] - index * size)) for index in range(count)]
    return _one_each(pieces(input, sizes, axis), context)


def _one_each(found: tuple[Array, ...], context: Context) -> tuple[Array, ...]:
    if len(found) != context.declared:
        raise InvalidModelError(f"outputs: expected {len(found)}, one for each piece, got {context.declared}")
    return found


def pieces(input: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    """Slices of the given sizes, in order. Raises ShapeError if they do not add up to the dimension."""
    if sum(sizes) != input.shape[axis] or any(size < 0 for size in sizes):
        raise ShapeError(f"split: expected sizes that add up to {input.shape[axis]}, got {list(sizes)}")
    before = (slice(None),) * axis
    found: list[Array] = []
    start = 0
    for size in sizes:
        found.append(input[(*before, slice(start, start + size))])
        start += size
    return tuple(found)


@op("Slice", since=1)
def slice_1(data: Array, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None) -> Array:
    """The part from `starts` up to `ends` along `axes`; negative ones count from the back, all are clamped.

    Spec: https://onnx.ai/onnx/operators/onnx__Slice.html#slice-1
    """
    return _sliced(data, starts, ends, axes, None)


@op("Slice", since=(10, 11, 13))
def slice_10(data: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    """As since 1 with int32 or int64 inputs, and `steps`, which may be negative but not zero.

    Raises ShapeError for lists of different lengths, a repeated axis, a step of zero.
    Spec: https://onnx.ai/onnx/operators/onnx__Slice.html#slice-13
    """
    return _sliced(
        data,
        int_list(starts, "starts"),
        int_list(ends, "ends"),
        None if axes is None else int_list(axes, "axes"),
        None if steps is None else int_list(steps, "steps"),
    )


def _sliced(
    data: Array,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Array:
    axes = axes_of(range(len(starts)) if axes is None else axes, data.ndim)
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        lengths = [len(starts), len(ends), len(axes), len(steps)]
        raise ShapeError(f"starts, ends, axes, steps: expected equal lengths, got {lengths}")
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step == 0:
            raise ShapeError("steps: expected values other than 0, got 0")
        size = data.shape[axis]
        index[axis] = slice(*_bounds(start, end, step, size), step)
    return data[tuple(index)]


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int, int | None]:
    start, end = (value + size if value < 0 else value for value in (start, end))
    if step > 0:
        return min(max(start, 0), size), min(max(end, 0), size)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    # An end before the front cannot be written as a number in a NumPy slice.
    return max(start, 0), None if end == -1 else end


_MODES = ("constant", "reflect", "edge")


@op("Pad", since=1)
def pad_1(data: Array, *, paddings: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """The tensor with elements added at (or, where negative, removed from) both ends of every dimension.

    Spec: https://onnx.ai/onnx/operators/onnx__Pad.html#pad-1
    """
    return pad_2(data, pads=paddings, mode=mode, value=value)


@op("Pad", since=2)
def pad_2(data: Array, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """The tensor with elements added at (or, where negative, removed from) both ends of every dimension.

    pads: all begins, then all ends. mode: constant, reflect, edge.
    Spec: https://onnx.ai/onnx/operators/onnx__Pad.html#pad-2
    """
    return padded(data, pads, range(data.ndim), mode, data.dtype.type(value), modes=_MODES)


@op("Pad", since=(11, 13))
def pad_11(data: Array, pads: Array, constant_value: Array | None = None, *, mode: str = "constant") -> Array:
    """As since 2 with inputs; without `constant_value` the padding is 0, False or the empty string.

    Spec: https://onnx.ai/onnx/operators/onnx__Pad.html#pad-13
    """
    return pad_18(data, pads, constant_value, mode=mode)


@op("Pad", since=18)
def pad_18(
    data: Array,
    pads: Array,
    constant_value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Array:
    """As since 11, for the dimensions in `axes` (all by default).

    Spec: https://onnx.ai/onnx/operators/onnx__Pad.html#pad-18
    """
    return _padded_by(data, pads, constant_value, axes, mode, _MODES)


@op("Pad", since=(19, 21, 23, 24, 25))
def pad_19(
    data: Array,
    pads: Array,
    constant_value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Array:
    """As since 11, for the dimensions in `axes` (all by default). mode: constant, reflect, edge, and wrap since 19.

    Spec: https://onnx.ai/onnx/operators/onnx__Pad.html#pad-25
    """
    return _padded_by(data, pads, constant_value, axes, mode, (*_MODES, "wrap"))


def _padded_by(
    data: Array, pads: Array, constant_value: Array | None, axes: Array | None, mode: str, modes: Sequence[str]
) -> Array:
    if constant_value is not None and constant_value.size != 1:
        raise ShapeError(f"constant_value: expected one element, got shape {list(constant_value.shape)}")
    value = ("" if data.dtype == object else 0) if constant_value is None else constant_value.reshape(())[()]
    chosen = range(data.ndim) if axes is None else int_list(axes, "axes")
    return padded(data, int_list(pads, "pads"), chosen, mode, value, modes=modes)


def padded(
    data: Array, pads: Sequence[int], axes: Sequence[int], mode: str, value: Any, *, modes: Sequence[str]
) -> Array:
    """Pad the given axes. Raises ShapeError if pads and axes do not fit, or the mode has no element to repeat."""
    axes = axes_of(axes, data.ndim)
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"pads: expected {2 * len(axes)} values, two for each axis, got {len(pads)}")
    if mode not in modes:
        raise InvalidModelError(f"mode: expected one of {', '.join(modes)}, got '{mode}'")
    ends = list(zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True))
    shape = list(data.shape)
    for axis, before, after in ends:
        shape[axis] += before + after
        if shape[axis] < 0:
            raise ShapeError(
                f"pads: expected to leave at least 0 of axis {axis}'s {data.shape[axis]}, got {shape[axis]}"
            )
    if 0 in shape:
        return np.empty(shape, data.dtype)
    for axis, before, after in ends:
        # Removal comes first: a reflection repeats only what is left.
        kept = data.shape[axis] + min(before, 0) + min(after, 0)
        if kept <= 0 and mode == "constant":
            return np.full(shape, value, data.dtype)
        if kept < 0:
            raise ShapeError(f"pads: expected to leave elements of axis {axis}'s {data.shape[axis]}, got {kept}")
        data = np.take(data, range(max(-before, 0), max(-before, 0) + kept), axis) if kept < data.shape[axis] else data
        data = _extended(data, axis, max(before, 0), max(after, 0), mode, value)
    return data


def _extended(data: Array, axis: int, before: int, after: int, mode: str, value: Any) -> Array:
    size = data.shape[axis]
    if before == after == 0:
        return data
    if mode == "constant":
        shape = list(data.shape)
        shape[axis] = size + before + after
        result = np.full(shape, value, data.dtype)
        result[(slice(None),) * axis + (slice(before, before + size),)] = data
        return result
    if size == 0:
        raise ShapeError(f"axis {axis}: expected elements to repeat with mode '{mode}', got none")
    index = np.arange(-before, size + after)
    if mode == "edge":
        index = np.clip(index, 0, size - 1)
    elif mode == "wrap":
        index %= size
    else:
        period = max(2 * (size - 1), 1)
        index = np.abs(index) % period
        index = np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
    return np.take(data, index, axis)


@op("Tile", since=1)
def tile_1(input: Array, tiles: Array, axis: Array) -> Array:
    """The tensor repeated along one axis; both numbers are tensors of one element.

    Spec: https://onnx.ai/onnx/operators/onnx__Tile.html#tile-1
    """
    repeats = [1] * input.ndim
    repeats[axis_of(scalar_int(axis, "axis"), input.ndim)] = scalar_int(tiles, "tiles")
    return _tiled(input, repeats)


@op("Tile", since=(6, 13))
def tile_6(input: Array, repeats: Array) -> Array:
    """The tensor repeated along every axis.

    repeats: int64[rank]. Raises ShapeError for another length.
    Spec: https://onnx.ai/onnx/operators/onnx__Tile.html#tile-13
    """
    if repeats.shape != (input.ndim,):
        raise ShapeError(f"repeats: expected shape [{input.ndim}], got {list(repeats.shape)}")
    return _tiled(input, repeats.tolist())


def _tiled(input: Array, repeats: Sequence[int]) -> Array:
    if any(count < 0 for count in repeats):
        raise ShapeError(f"repeats: expected counts that are not negative, got {list(repeats)}")
    if math.prod(repeats) * input.size > sys.maxsize // 16:
        raise LimitError(f"repeats: expected results that fit into memory, got {list(repeats)}")
    return np.tile(input, repeats)


@op("CenterCropPad", since=18)
def center_crop_pad(input_data: Array, shape: Array, *, axes: Sequence[int] | None = None) -> Array:
    """The tensor cut or zero-padded around its centre to `shape` along `axes`.

    An odd difference is cut one more at the end, and padded one more at the end.
    Spec: https://onnx.ai/onnx/operators/onnx__CenterCropPad.html#centercroppad-18
    """
    chosen = axes_of(range(input_data.ndim) if axes is None else axes, input_data.ndim)
    sizes = int_list(shape, "shape")
    if len(sizes) != len(chosen):
        raise ShapeError(f"shape: expected {len(chosen)} sizes, one for each axis, got {len(sizes)}")
    begins: list[int] = []
    ends: list[int] = []
    for axis, wanted in zip(chosen, sizes, strict=True):
        missing = wanted - input_data.shape[axis]
        begin = missing // 2 if missing >= 0 else -(-missing // 2)
        begins.append(begin)
        ends.append(missing - begin)
    empty: Any = "" if input_data.dtype == object else 0
    return padded(input_data, begins + ends, chosen, "constant", empty, modes=_MODES)


@op("Trilu", since=14)
def trilu(input: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    """The upper (or lower) triangle of the last two dimensions from the k-th diagonal on; the rest is zero.

    input: any dtype, rank >= 2; k: int64 scalar, 0 by default.
    Spec: https://onnx.ai/onnx/operators/onnx__Trilu.html#trilu-14
    """
    if input.ndim < 2:
        raise ShapeError(f"input: expected rank 2 or more, got shape {list(input.shape)}")
    diagonal = 0 if k is None else scalar_int(k, "k")
    rows, columns = np.ogrid[: input.shape[-2], : input.shape[-1]]
    kept = columns - rows >= diagonal if upper else columns - rows <= diagonal
    return np.where(kept, input, np.zeros((), input.dtype))


@op("ReverseSequence", since=(10, 28))
def reverse_sequence(input: Array, sequence_lens: Array, *, batch_axis: int = 1, time_axis: int = 0) -> Array:
    """For each batch element, its first `sequence_lens[b]` steps in reverse order, and the rest as it is.

    Raises ShapeError unless the two axes are 0 and 1 in some order, and every length is in [0, steps].
    Spec: https://onnx.ai/onnx/operators/onnx__ReverseSequence.html#reversesequence-10
    """
    if input.ndim < 2:
        raise ShapeError(f"input: expected rank 2 or more, got shape {list(input.shape)}")
    if {batch_axis, time_axis} != {0, 1}:
        raise ShapeError(f"batch_axis, time_axis: expected 0 and 1 in some order, got {batch_axis} and {time_axis}")
    data = input if time_axis == 0 else input.swapaxes(0, 1)
    steps, batch = data.shape[:2]
    if sequence_lens.shape != (batch,):
        raise ShapeError(f"sequence_lens: expected shape [{batch}], got {list(sequence_lens.shape)}")
    if np.any((sequence_lens < 0) | (sequence_lens > steps)):
        raise ShapeError(f"sequence_lens: expected lengths in [0, {steps}], got {sequence_lens.tolist()}")
    time = np.arange(steps)[:, None]
    source = np.where(time < sequence_lens, sequence_lens - 1 - time, time)
    result = data[source, np.arange(batch)]
    return result if time_axis == 0 else result.swapaxes(0, 1)
