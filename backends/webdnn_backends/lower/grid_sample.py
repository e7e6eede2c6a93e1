"""GridSample: the coordinates of all samples as a tensor, then a sum over the taps of the interpolation."""

from __future__ import annotations

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, const
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import (
    all_of,
    as_type,
    clamp,
    count,
    equal,
    less_equal,
    minus,
    over,
    plus,
    times,
    wide_dtype,
)
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_MODES = {"bilinear": "linear", "bicubic": "cubic", "linear": "linear", "cubic": "cubic", "nearest": "nearest"}
_FAR = float(2**30)
_CUBIC = -0.75


@lowering("GridSample", since=16)
@lowering("GridSample", domain=MS)
def _grid_sample(context: NodeContext) -> None:
    given, padding = context.attribute("mode", "linear"), context.attribute("padding_mode", "zeros")
    if given not in _MODES or padding not in ("zeros", "border", "reflection"):
        raise InvalidModelError(f"{context.where}: mode, padding_mode: expected known ones, got {given!r}, {padding!r}")
    mode = _MODES[given]
    shape, grid = context.shape(0), context.shape(1)
    rank = len(shape) - 2
    wide = wide_dtype(context.dtype(1))
    scalar = compute_type(wide)
    aligned = bool(context.attribute("align_corners", 0))

    def coordinate(i: Indices) -> Expr:
        """Where sample [n, e...] lies along axis i[-1] of the image."""
        value: Expr = const(0, scalar)
        for axis in range(rank - 1, -1, -1):
            raw = as_type(scalar, context.element(1, [*i[:-1], Const(rank - 1 - axis)]))
            place = _place(raw, shape[2 + axis], aligned)
            if mode != "cubic":
                place = _moved(place, shape[2 + axis], aligned, padding)
            value = place if axis == rank - 1 else build.select(equal(i[-1], axis), place, value)
        return value

    places = context.temporary(wide, (*grid[:-1], rank), coordinate)
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[mode]
    dtype = context.dtype(0)
    exact = not dtype.is_float and mode != "nearest"
    inner = Scalar.F64 if exact else compute_type(dtype)

    def tap(i: Indices, k: Indices) -> tuple[Expr, Expr]:
        """The image's element under one tap (zero outside), and the tap's weight."""
        at: list[Expr] = []
        conditions: list[Expr] = []
        weight: Expr = const(1, scalar)
        for axis in range(rank):
            x = context.read(places, [i[0], *i[2:], Const(axis)])
            base = apply(Op.ROUND if mode == "nearest" else Op.FLOOR, x)
            offset = as_type(scalar, k[axis]) if mode != "nearest" else const(0, scalar)
            if mode == "cubic":
                offset = minus(offset, 1)
            distance = apply(Op.ABS, minus(minus(x, base), offset))
            if mode == "linear":
                weight = times(weight, minus(1, distance))
            elif mode == "cubic":
                weight = times(weight, _cubic(distance))
            index = plus(base, offset) if mode != "nearest" else base
            moved = _moved(index, shape[2 + axis], aligned, padding)
            last = count(shape[2 + axis] - 1, scalar)
            if padding == "zeros":
                conditions.extend([less_equal(0, moved), less_equal(moved, last)])
            at.append(cast(DType.INT32, clamp(moved, 0, last)))
        value = context.element(0, [i[0], i[1], *at])
        return build.select(all_of(*conditions), value, like(value, 0)), weight

    def body(i: Indices) -> Expr:
        if mode == "nearest":
            return tap(i, ())[0]

        def term(k: Indices) -> Expr:
            value, weight = tap(i, k)
            return times(as_type(inner, value), as_type(inner, weight))

        total = context.sum([taps] * rank, term)
        return cast(dtype, total) if exact else total

    context.emit(body)


def _place(raw: Expr, size: Dim, aligned: bool) -> Expr:
    """A coordinate from -1 to 1 in pixels; NaN counts as -1."""
    x = build.select(apply(Op.IS_NAN, raw), like(raw, -1), raw)
    shifted = plus(x, 1)
    if aligned:
        place = times(over(shifted, 2), count(size - 1, x.type))
    else:
        place = over(minus(times(shifted, count(size, x.type)), 1), 2)
    return clamp(place, -_FAR, _FAR)


def _moved(x: Expr, size: Dim, aligned: bool, padding: str) -> Expr:
    """A position moved into the image by the padding mode; untouched for zeros."""
    if padding == "zeros":
        return x
    last = count(size - 1, x.type)
    if padding == "reflection":
        low = 0.0 if aligned else -0.5
        span = last if aligned else count(size, x.type)
        start = minus(x, low)
        turns = apply(Op.FLOOR, over(start, span))
        rest = minus(start, times(turns, span))
        odd = apply(Op.NE, minus(turns, times(apply(Op.FLOOR, over(turns, 2)), 2)), like(x, 0))
        folded = plus(build.select(odd, minus(span, rest), rest), low)
        if aligned and size == 1:
            return like(x, 0)
        x = folded
        if aligned and not isinstance(size, int):
            x = build.select(equal(build.dim(size), 1), like(x, 0), folded)
    return clamp(x, 0, last)


def _cubic(distance: Expr) -> Expr:
    """Keys' cubic convolution kernel."""
    a = _CUBIC
    near = plus(times(times(minus(times(distance, a + 2), a + 3), distance), distance), 1)
    far = minus(times(plus(times(minus(times(distance, a), 5 * a), distance), 8 * a), distance), 4 * a)
    outer = build.select(apply(Op.LT, distance, like(distance, 2)), far, like(distance, 0))
    return build.select(less_equal(distance, 1), near, outer)
