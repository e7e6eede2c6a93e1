"""Sliding windows over the spatial axes of a tensor [N, C, D1, ..., Dn]: the geometry of convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array

__all__ = ["Windows", "pad_spatial", "plan_windows", "spatial_attribute"]


@dataclass(frozen=True)
class Windows:
    """How windows lie over the spatial axes; every field has one entry per spatial axis.

    sizes: of the input. begins, ends: padding. outputs: number of windows. The last window may reach past the end
    padding where ceil_mode asks for it.
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.sizes)

    @property
    def extents(self) -> tuple[int, ...]:
        """The size of the padded input that the windows cover, up to the last element of the last window."""
        return tuple(
            max(0, (output - 1) * stride + (kernel - 1) * dilation + 1) if output else 0
            for output, stride, kernel, dilation in zip(
                self.outputs, self.strides, self.kernel, self.dilations, strict=True
            )
        )

    @property
    def is_pointwise(self) -> bool:
        """Whether each window is the one input element at its own position."""
        return set(self.kernel) <= {1} and set(self.strides) <= {1} and set(self.begins + self.ends) <= {0}

    def view(self, padded: Array) -> Array:
        """All windows of a padded tensor [N, C, ...] as a read-only view [N, C, *kernel, *outputs]."""
        steps = padded.strides[2:]
        return as_strided(
            padded,
            (*padded.shape[:2], *self.kernel, *self.outputs),
            (
                *padded.strides[:2],
                *(step * dilation for step, dilation in zip(steps, self.dilations, strict=True)),
                *(step * stride for step, stride in zip(steps, self.strides, strict=True)),
            ),
            writeable=False,
        )

    def taps(self, axis: int, position: int) -> slice:
        """The elements of the padded input that kernel position `position` meets, along one spatial axis."""
        start = position * self.dilations[axis]
        return slice(start, start + (self.outputs[axis] - 1) * self.strides[axis] + 1, self.strides[axis])


def spatial_attribute(name: str, values: Sequence[int] | None, rank: int, default: int) -> tuple[int, ...]:
    """An attribute with one entry per spatial axis. Raises ShapeError if it has another length."""
    if values is None:
        return (default,) * rank
    if len(values) != rank:
        raise ShapeError(f"{name}: expected {rank} entries, one per spatial axis, got {list(values)}")
    return tuple(int(value) for value in values)


def plan_windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None,
    auto_pad: str,
    ceil_mode: int = 0,
) -> Windows:
    """Place windows over spatial axes of the given sizes.

    auto_pad: NOTSET uses `pads` (begins, then ends); VALID pads nothing; SAME_UPPER and SAME_LOWER pad so that there
    are ceil(size / stride) windows, with the odd element at the end or at the beginning. ceil_mode adds a last window
    that reaches past the end padding, unless it would start there.
    Raises ShapeError, or InvalidModelError for an unknown auto_pad, a stride or dilation below 1 or a negative pad.
    """
    rank = len(sizes)
    kernel = spatial_attribute("kernel_shape", kernel, rank, 1)
    steps = spatial_attribute("strides", strides, rank, 1)
    gaps = spatial_attribute("dilations", dilations, rank, 1)
    if min((*steps, *gaps, *kernel), default=1) < 1:
        got = f"{list(kernel)}, {list(steps)} and {list(gaps)}"
        raise InvalidModelError(f"kernel_shape, strides, dilations: expected positive entries, got {got}")
    begins, ends = _explicit_pads(pads, rank)
    if auto_pad not in ("NOTSET", ""):
        begins, ends = _automatic_pads(auto_pad, sizes, kernel, steps, gaps)
    outputs = []
    for size, extent, step, gap, begin, end in zip(sizes, kernel, steps, gaps, begins, ends, strict=True):
        room = size + begin + end - ((extent - 1) * gap + 1)
        count = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and count > 1 and (count - 1) * step >= size + begin:
            count -= 1
        outputs.append(max(0, count))
    return Windows(tuple(sizes), kernel, steps, gaps, begins, ends, tuple(outputs))


def _explicit_pads(pads: Sequence[int] | None, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if pads is None:
        return (0,) * rank, (0,) * rank
    if len(pads) != 2 * rank:
        raise ShapeError(f"pads: expected {2 * rank} entries, two per spatial axis, got {list(pads)}")
    if min(pads, default=0) < 0:
        raise InvalidModelError(f"pads: expected entries that are not negative, got {list(pads)}")
    return tuple(int(pad) for pad in pads[:rank]), tuple(int(pad) for pad in pads[rank:])


def _automatic_pads(
    auto_pad: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if auto_pad == "VALID":
        return (0,) * len(sizes), (0,) * len(sizes)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise InvalidModelError(f"auto_pad: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {auto_pad!r}")
    totals = [
        max(0, (-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1 - size)
        for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    small = tuple(total // 2 for total in totals)
    large = tuple(total - total // 2 for total in totals)
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def pad_spatial(x: Array, begins: Sequence[int], extents: Sequence[int], value: float) -> Array:
    """The tensor with `begins` elements before it and, along each spatial axis, `extents` elements in all.

    Elements that lie outside `extents` are cut off; negative begins crop. Without padding it is a view.
    """
    sizes = x.shape[2:]
    inner, outer = [], []
    for size, begin, extent in zip(sizes, begins, extents, strict=True):
        start, stop = max(0, -begin), max(max(0, -begin), min(size, extent - begin))
        inner.append(slice(start, stop))
        outer.append(slice(start + begin, stop + begin))
    kept = x[(slice(None), slice(None), *inner)]
    if kept.shape[2:] == tuple(extents):
        return kept
    padded = np.full((*x.shape[:2], *extents), value, x.dtype)
    padded[(slice(None), slice(None), *outer)] = kept
    return padded
