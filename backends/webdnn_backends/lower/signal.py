"""Fourier transforms, windows and the mel filter bank.

Transforms are fast ones (fourier.py) where the length is known and has small factors. Otherwise they are sums over the
signal with a table of cosines and sines by angle, exact at its quarters: the angle of frequency f and time t is entry
f*t mod n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeGuard

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import (
    as_type,
    count,
    equal,
    less,
    minus,
    over,
    plus,
    times,
    wide_dtype,
)
from webdnn_backends.lower.fourier import Complex, factors, roots_of_unity, transform
from webdnn_backends.lower.registry import LOWERINGS, lowering
from webdnn_backends.te.tensors import If, Item
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, minimum
from webdnn_onnx.symbolic import equal as equal_dims
from webdnn_onnx.symbolic import select as select_dim

__all__: list[str] = []


def _scalar_size(context: NodeContext, index: int, what: str) -> Dim:
    found = context.integers(index, 1)
    if not found:
        raise context.unsupported(f"{what} of unknown size")
    return found[0]


# windows


def _window(name: str, terms: Sequence[float]) -> None:
    """Register the sum of terms[k] * cos(k t), t from 0 to 2 pi over the window."""

    def lower(context: NodeContext) -> None:
        size = _scalar_size(context, 0, "a size")
        context.define({0: size})
        periodic, dtype = context.attribute("periodic", 1), context.output().dtype
        steps = size if periodic else size - 1
        if isinstance(size, int) and isinstance(steps, int) and dtype.is_float:
            with np.errstate(invalid="ignore", divide="ignore"):
                t = 2 * np.pi * np.arange(size, dtype=np.float64) / np.float64(steps)
            values = sum((term * np.cos(k * t) for k, term in enumerate(terms)), np.zeros(size))
            table = context.table(values.astype(np.float64 if dtype is DType.FLOAT64 else np.float32))
            context.emit(lambda i: context.read(table, i))
            return
        scalar = Scalar.F64 if dtype is DType.FLOAT64 else Scalar.F32

        def body(i: Indices) -> Expr:
            t = over(times(as_type(scalar, i[0]), 2 * math.pi), count(steps, scalar))
            value: Expr = const(terms[0], scalar)
            for k, term in enumerate(terms[1:], start=1):
                value = plus(value, times(apply(Op.COS, times(t, k)), term))
            return value if dtype.is_float else cast(dtype, value)

        context.emit(body)

    LOWERINGS.add(name, 17, lower)


_window("BlackmanWindow", (0.42, -0.5, 0.08))
_window("HammingWindow", (25 / 46, -21 / 46))
_window("HannWindow", (0.5, -0.5))


@lowering("MelWeightMatrix", since=17)
def _mel_weight_matrix(context: NodeContext) -> None:
    """In float64: the corners of the triangles are whole bins, found by rounding down."""
    bands, length = _scalar_size(context, 0, "num_mel_bins"), _scalar_size(context, 1, "dft_length")
    context.define({0: length // 2 + 1, 1: bands})
    double = Scalar.F64

    def edge(index: int) -> Expr:
        hertz = as_type(double, context.element(index, [0] * context.rank(index)))
        return times(apply(Op.LOG, plus(over(hertz, 700), 1)), 2595 / math.log(10))

    rate = as_type(double, context.element(2, [0] * context.rank(2)))

    def corner(i: Indices) -> Expr:
        low, high = edge(3), edge(4)
        mel = plus(low, times(as_type(double, i[0]), over(minus(high, low), count(bands + 2, double))))
        hertz = times(minus(apply(Op.EXP, times(mel, math.log(10) / 2595)), 1), 700)
        # The least rounding error must not move a corner that lies on a bin.
        place = over(times(hertz, count(length + 1, double)), rate)
        return cast(DType.INT32, apply(Op.FLOOR, plus(place, 1e-9)))

    corners = context.temporary(DType.INT32, (bands + 2,), corner)
    dtype = context.output().dtype
    scalar = compute_type(wide_dtype(dtype))

    def body(i: Indices) -> Expr:
        row, band = i
        lower, center, upper = (context.read(corners, [add(band, k)]) for k in range(3))

        def share(distance: Expr, width: Expr) -> Expr:
            return over(as_type(scalar, distance), as_type(scalar, apply(Op.MAX, width, Const(1))))

        rising, falling = (
            share(build.sub(row, lower), build.sub(center, lower)),
            share(build.sub(upper, row), build.sub(upper, center)),
        )
        weight = build.select(less(row, center), rising, falling)
        outside = apply(Op.OR, less(row, lower), apply(Op.GE, row, upper))
        weight = build.select(outside, like(weight, 0), weight)
        weight = build.select(equal(row, center), like(weight, 1), weight)
        return weight if dtype.is_float else cast(dtype, weight)

    context.emit(body)


# transforms


def _angles(context: NodeContext, length: Dim, dtype: DType) -> str:
    """The cosine and sine of 2 pi k / length for k below length, [length, 2], as a tensor."""
    if isinstance(length, int):
        return context.table(roots_of_unity(length, dtype))
    scalar = compute_type(dtype)

    def body(i: Indices) -> Expr:
        # By quarters of the circle, so that the table is exact where they begin.
        size = build.dim(length)
        quarter = floor_div(mul(i[0], 4), size)
        rest = build.sub(mul(i[0], 4), mul(quarter, size))
        angle = times(over(as_type(scalar, rest), as_type(scalar, size)), math.pi / 2)
        turned = floor_mod(add(quarter, i[1]), 2)
        value = build.select(equal(turned, 0), apply(Op.COS, angle), apply(Op.SIN, angle))
        flipped = build.select(equal(i[1], 0), floor_mod(floor_div(add(quarter, 1), 2), 2), floor_div(quarter, 2))
        return build.select(equal(flipped, 1), apply(Op.NEG, value), value)

    return context.temporary(dtype, (length, 2), body)


def _turn(left: Expr, right: Expr, length: Dim) -> Expr:
    """left * right mod length, without overflow of the product."""
    if isinstance(length, int) and length < 1 << 15:
        return floor_mod(mul(left, right), length)
    wide = apply(Op.MUL, cast(DType.INT64, left), cast(DType.INT64, right))
    return cast(DType.INT32, apply(Op.FLOOR_MOD, wide, cast(DType.INT64, build.dim(length))))


def _part(context: NodeContext, at: Sequence[Expr], part: int) -> Expr:
    """The real or imaginary part of a sample; a last axis that may be 1 at run time then has zeros as the latter."""
    value, parts = context.element(0, [*at, Const(part)]), context.shape(0)[-1]
    if part == 0 or isinstance(parts, int):
        return value
    return build.select(less(1, build.dim(parts)), value, like(value, 0))


@lowering("DFT", since=17)
def _dft(context: NodeContext) -> None:
    shape = context.shape(0)
    rank = len(shape)
    inverse, onesided = context.attribute("inverse", 0), context.attribute("onesided", 0)
    where: Dim = context.attribute("axis", 1)
    if context.node.opset >= 20:
        where = _scalar_size(context, 2, "an axis") if context.has(2) else -2
    # Along which axis it goes may be known only at run time: every axis has a flag.
    if isinstance(where, int):
        chosen = context.axis(where, rank)
        flags: list[Dim] = [int(axis == chosen) for axis in range(rank - 1)]
    else:
        flags = [equal_dims(where, axis) + equal_dims(where, axis - rank) for axis in range(rank - 1)]

    def along(values: Sequence[Dim]) -> Dim:
        total: Dim = 0
        for flag, value in zip(flags, values, strict=True):
            total = total + flag * value
        return total

    size = along(shape[:-1])
    length = _scalar_size(context, 1, "a dft_length") if context.has(1) else size
    if onesided and inverse and not context.has(1):
        length = (size - 1) * 2
    length, size = context.state.short(length), context.state.short(size)
    result = length // 2 + 1 if onesided and not inverse else length
    sizes = {axis: select_dim(flags[axis], result, shape[axis]) for axis in range(rank - 1)}
    sizes[rank - 1] = 1 if onesided and inverse else 2
    context.define(sizes)
    dtype = wide_dtype(context.dtype(0))
    real = shape[-1] == 1
    if isinstance(where, int):
        if _is_fast(length, real=real):
            axis = context.axis(where, rank)
            found = _fast_dft(context, axis, length, real=real, folded=bool(onesided and inverse))
            context.emit(lambda i: context.read(found, [*i[:axis], *i[axis + 1 : -1], i[axis], i[-1]]))
            return
    elif not context.has(1) and not onesided and all(_is_fast(size, real=real) for size in shape[:-1]):
        _fast_dft_by_axis(context, where, real=real)
        return
    angles = _angles(context, length, dtype)

    def element(i: Indices, t: Expr, part: int) -> Expr:
        if real and part:
            return const(0, compute_type(dtype))
        at = [
            t if flag == 1 else i[axis] if flag == 0 else build.select(equal(build.dim(flag), 1), t, i[axis])
            for axis, flag in enumerate(flags)
        ]
        return _part(context, at, part)

    def body(i: Indices) -> Expr:
        frequency: Expr = Const(0)
        for axis, flag in enumerate(flags):
            frequency = add(frequency, mul(build.dim(flag), i[axis]))

        def term(k: Indices) -> Expr:
            turn = _turn(frequency, k[0], length)
            cosine, sine = (context.read(angles, [turn, Const(part)]) for part in (0, 1))
            x, y = element(i, k[0], 0), element(i, k[0], 1)
            if onesided and inverse:
                ends = apply(Op.OR, equal(k[0], 0), equal(mul(k[0], 2), build.dim(length)))
                value = minus(times(x, cosine), times(y, sine))
                return times(value, build.select(ends, like(value, 1), like(value, 2)))
            first, second = (times(x, cosine), times(y, sine)), (times(y, cosine), times(x, sine))
            if real:
                return build.select(equal(i[-1], 0), first[0], second[1] if inverse else apply(Op.NEG, second[1]))
            combine = (minus, plus) if inverse else (plus, minus)
            return build.select(equal(i[-1], 0), combine[0](*first), combine[1](*second))

        used = minimum(size, length // 2 + 1 if onesided and inverse else length)
        total = context.sum([context.state.short(used)], term)
        return over(total, count(length, total.type)) if inverse else total

    context.emit(body)


def _is_fast(length: Dim, *, real: bool) -> TypeGuard[int]:
    """Whether the fast transform of signals so long has fewer products than the sum: short real signals have few."""
    if not isinstance(length, int):
        return False
    found = factors(length)
    return found is not None and 2 * sum(found) < length * (1 if real else 2)


def _fast_dft(context: NodeContext, axis: int, length: int, *, real: bool, folded: bool) -> str:
    """DFT along a known axis, which becomes the last but one of the tensor that is returned. folded: the input is one
    half of a spectrum, the other half being its conjugate."""
    shape = context.shape(0)
    size, scalar = shape[axis], compute_type(wide_dtype(context.dtype(0)))

    def stored(row: Indices, t: Expr, part: int) -> Expr:
        if real and part:
            return const(0, scalar)
        value = _part(context, [*row[:axis], t, *row[axis:]], part)
        if isinstance(size, int) and size >= (length // 2 + 1 if folded else length):
            return value
        return build.select(less(t, build.dim(size)), value, const(0, scalar))

    def element(row: Indices, t: Expr) -> Complex:
        if not folded:
            return stored(row, t, 0), stored(row, t, 1)
        mirrored = less(build.i32(length // 2), t)
        near = build.select(mirrored, build.sub(build.i32(length), t), t)
        imaginary = stored(row, near, 1)
        imaginary = build.select(mirrored, apply(Op.NEG, imaginary), imaginary)
        ends = apply(Op.OR, equal(t, 0), equal(mul(t, 2), length))
        return stored(row, near, 0), build.select(ends, like(imaginary, 0), imaginary)

    rows = (*shape[:axis], *shape[axis + 1 : -1])
    return transform(context, rows, length, element, inverse=bool(context.attribute("inverse", 0)))


def _fast_dft_by_axis(context: NodeContext, where: Dim, *, real: bool) -> None:
    """DFT along an axis that is told at run time: a branch for each."""
    state, shape, output = context.state, context.shape(0), context.output()
    last = len(shape) - 2

    def along(axis: int) -> tuple[Item, ...]:
        with state.branch() as items:
            size = shape[axis]
            assert isinstance(size, int)
            found = _fast_dft(context, axis, size, real=real, folded=False)
            context.emit(lambda i: context.read(found, [*i[:axis], *i[axis + 1 : -1], i[axis], i[-1]]))
            return tuple(items)

    otherwise = along(last)
    for axis in reversed(range(last)):
        chosen = apply(Op.OR, equal(build.dim(where), axis), equal(build.dim(where), axis - len(shape)))
        condition = context.temporary(DType.BOOL, (), partial(_given, chosen))
        otherwise = (If(condition, along(axis), otherwise, (output.name,), context.node.source),)
    state.items.extend(otherwise)


def _given(value: Expr, _: Indices) -> Expr:
    return value


@lowering("STFT", since=17)
def _stft(context: NodeContext) -> None:
    shape = context.shape(0)
    step = _scalar_size(context, 1, "a frame_step")
    length: Dim = shape[1]
    if context.has(3):
        length = _scalar_size(context, 3, "a frame_length")
    elif context.has(2):
        length = context.shape(2)[0]
    bins = length // 2 + 1 if context.attribute("onesided", 1) else length
    context.define({1: (shape[1] - length) // step + 1, 2: bins})
    dtype = wide_dtype(context.dtype(0))
    real = len(shape) == 2 or shape[2] == 1

    def element(b: Expr, at: Expr, part: int) -> Expr:
        return context.element(0, [b, at]) if len(shape) == 2 else _part(context, [b, at], part)

    if _is_fast(length, real=real):

        def windowed(row: Indices, t: Expr) -> Complex:
            at = add(mul(row[1], build.dim(step)), t)
            value = element(row[0], at, 0)
            parts = (value, like(value, 0) if real else element(row[0], at, 1))
            return (times(parts[0], weight), times(parts[1], weight)) if (weight := _window_at(context, t)) else parts

        frames = context.output().shape[1]
        found = transform(context, (shape[0], frames), length, windowed, inverse=False)
        context.emit(lambda i: context.read(found, i))
        return
    angles = _angles(context, length, dtype)

    def body(i: Indices) -> Expr:
        b, frame, frequency, part = i

        def term(k: Indices) -> Expr:
            at = add(mul(frame, build.dim(step)), k[0])
            turn = _turn(frequency, k[0], length)
            cosine, sine = (context.read(angles, [turn, Const(place)]) for place in (0, 1))
            if weight := _window_at(context, k[0]):
                cosine, sine = times(cosine, weight), times(sine, weight)
            x = element(b, at, 0)
            first, second = times(x, cosine), apply(Op.NEG, times(x, sine))
            if not real:
                y = element(b, at, 1)
                first, second = plus(first, times(y, sine)), plus(second, times(y, cosine))
            return build.select(equal(part, 0), first, second)

        return context.sum([length], term)

    context.emit(body)


def _window_at(context: NodeContext, t: Expr) -> Expr | None:
    """STFT's window at a time within the frame; None where there is none."""
    return context.element(2, [t]) if context.has(2) else None
