"""Resize with sizes or scales known only at run time: positions and weights are computed along each axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, f32
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim

__all__ = ["Sampling", "at_run_time", "finished", "measured", "symbolic", "type_of", "widened"]


@dataclass(frozen=True)
class Sampling:
    """How one axis is sampled: the attributes of Resize."""

    mode: str
    transform: str
    nearest: str
    cubic_a: float
    exclude_outside: bool
    antialias: bool


def widened(x: Expr) -> Expr:
    """Integers as float32, to be interpolated."""
    return x if x.type.is_float else cast(DType.FLOAT32, x)


def type_of(x: Expr) -> DType:
    return DType.FLOAT64 if x.type.is_float and x.type.bits == 64 else DType.FLOAT32


def finished(context: NodeContext, x: Expr, *, rounds: bool) -> Expr:
    """Interpolated values in the output's type: integers are rounded or cut off, and saturate."""
    dtype = context.output().dtype
    if dtype.is_float or not x.type.is_float:
        return x
    low = -(1 << (dtype.bits - 1)) if dtype.is_signed_integer else 0
    high = (1 << (dtype.bits - (1 if dtype.is_signed_integer else 0))) - 1
    bounded = apply(Op.MIN, apply(Op.MAX, apply(Op.ROUND if rounds else Op.TRUNC, x), f32(low)), f32(high))
    return cast(dtype, bounded)


@dataclass(frozen=True)
class Line:
    """How one axis is sampled at run time. place: where in the input an output position lies. scale: output size over
    input size. taps: how many input elements make an output element."""

    size: Dim
    count: Dim
    scale: Expr
    place: Callable[[Expr], Expr]
    taps: Dim
    crops: bool = False


def measured(context: NodeContext, modern: bool) -> bool:
    """Whether the scales are computed at run time."""
    if "scales" in context.node.attributes or (context.node.op == "Upsample" and context.node.opset < 9):
        return False
    index = 2 if modern else 1
    if modern and context.has(3) and not _is_empty(context, 3):
        policy = context.attribute("keep_aspect_ratio_policy", "stretch")
        return policy != "stretch" and bool(context.state.unknown_sizes(context.node.outputs[0]))
    return context.constant(index) is None


def by_sizes(context: NodeContext) -> bool:
    """Whether the node names lengths, not scales."""
    modern = context.node.op == "Resize" and context.node.opset >= 11
    return modern and context.has(3) and not _is_empty(context, 3)


def _is_empty(context: NodeContext, index: int) -> bool:
    return 0 in context.shape(index)


def at_run_time(context: NodeContext, sampling: Sampling) -> None:
    """Resize by scales (or by sizes that keep the aspect ratio) that are computed at run time."""
    rank, shape = context.rank(0), context.shape(0)
    axes = [context.axis(axis, rank) for axis in context.attribute("axes", tuple(range(rank)))]
    extents = [real(shape[axis]) for axis in axes]
    if by_sizes(context):
        # The common ratio of sizes that keep the aspect.
        op = ReduceOp.MIN if context.attribute("keep_aspect_ratio_policy", "stretch") == "not_larger" else ReduceOp.MAX
        combine = Op.MIN if op is ReduceOp.MIN else Op.MAX
        ratios = [
            apply(Op.DIV, cast(DType.FLOAT32, context.element(3, (Const(k),))), extent)
            for k, extent in enumerate(extents)
        ]
        common = ratios[0]
        for ratio in ratios[1:]:
            common = apply(combine, common, ratio)
        table = context.temporary(DType.FLOAT32, (1,), lambda _: common)
        scales = [context.read(table, (Const(0),))] * len(axes)
        sizes = [_rounded("round_prefer_ceil", apply(Op.MUL, extent, scales[0]), scales[0]) for extent in extents]
    else:
        index = 2 if context.node.op == "Resize" and context.node.opset >= 11 else 1
        scales = [context.element(index, (Const(k),)) for k in range(len(axes))]
        sizes = [apply(Op.FLOOR, apply(Op.MUL, extent, scales[k])) for k, extent in enumerate(extents)]
    counts = context.temporary(
        DType.INT64, (len(axes),), lambda i: cast(DType.INT64, _chosen(i[0], [cast(DType.INT64, x) for x in sizes]))
    )
    context.measure({axis: (counts, k) for k, axis in enumerate(axes)})
    width = {"nearest": 1, "linear": 2}.get(sampling.mode, 4)

    def reach(k: int) -> Expr:
        """Input elements per output element; one where the axis stays as it is."""
        full: Expr = Const(width)
        if sampling.antialias:
            span = apply(Op.DIV, f32(width / 2), apply(Op.MIN, scales[k], f32(1.0)))
            full = build.mul(cast(DType.INT32, apply(Op.CEIL, span)), 2)
        return build.select(apply(Op.EQ, scales[k], f32(1.0)), Const(1), full)

    taps: Sequence[Dim] = (1,) * len(axes)
    if sampling.mode != "nearest":
        found = context.state.elements(
            context.temporary(DType.INT32, (len(axes),), lambda i: _chosen(i[0], [reach(k) for k in range(len(axes))]))
        )
        assert found is not None, "a tensor has few axes"
        taps = found
    lines: dict[int, Line] = {}
    for k, axis in enumerate(axes):
        count = context.output().shape[axis]
        ends = (_roi(context, k), _roi(context, k + len(axes))) if sampling.transform == "tf_crop_and_resize" else None
        place = _places(sampling.transform, shape[axis], count, scales[k], ends, by_sizes(context))
        lines[axis] = Line(shape[axis], count, scales[k], place, taps[k], ends is not None)
    _sampled(context, sampling, lines)


def _roi(context: NodeContext, position: int) -> Expr:
    return cast(DType.FLOAT32, context.element(1, (Const(position),)))


def _chosen(at: Expr, values: Sequence[Expr]) -> Expr:
    result = values[-1]
    for position in range(len(values) - 2, -1, -1):
        result = build.select(apply(Op.EQ, at, Const(position)), values[position], result)
    return result


def symbolic(context: NodeContext, sampling: Sampling, scales: Sequence[float | None], resized: Sequence[int]) -> None:
    """Resize by scales known here, or to sizes that are expressions over symbols."""
    lines: dict[int, Line] = {}
    for axis in resized:
        scale, size, count = scales[axis], context.shape(0)[axis], context.output().shape[axis]
        ratio = f32(scale) if scale is not None else apply(Op.DIV, real(count), real(size))
        width = {"nearest": 1, "linear": 2}.get(sampling.mode, 4)
        taps: Dim = width
        if sampling.antialias:
            span = apply(Op.DIV, f32(width / 2), apply(Op.MIN, ratio, f32(1.0)))
            reach = context.temporary(
                DType.INT32,
                (1,),
                lambda _, span=span: build.mul(cast(DType.INT32, apply(Op.CEIL, span)), 2),  # type: ignore[misc]  # a default binds the loop's value
            )
            found = context.state.elements(reach)
            assert found is not None, "one element"
            taps = found[0]
        ends = None
        if sampling.transform == "tf_crop_and_resize":
            axes = list(context.attribute("axes", tuple(range(context.rank(0)))))
            ends = (_roi(context, axes.index(axis)), _roi(context, axes.index(axis) + len(axes)))
        place = _places(sampling.transform, size, count, ratio, ends, by_sizes(context))
        lines[axis] = Line(size, count, ratio, place, taps, ends is not None)
    _sampled(context, sampling, lines)


_AXES_AT_ONCE = 2
"""Axes that one kernel interpolates: each has two tables, and a shader binds few buffers."""


def _sampled(context: NodeContext, sampling: Sampling, lines: Mapping[int, Line]) -> None:
    if sampling.mode == "nearest":

        def nearest(i: Indices) -> Expr:
            at = list(i)
            for axis, line in lines.items():
                at[axis] = clamped(
                    cast(DType.INT32, _rounded(sampling.nearest, line.place(i[axis]), line.scale)), line.size
                )
            return context.element(0, at)

        context.emit(lambda i: finished(context, _cropped(context, lines, i, nearest(i)), rounds=False))
        return
    shape = list(context.shape(0))
    source = context.name(0)
    axes = list(lines)
    for start in range(0, len(axes), _AXES_AT_ONCE):
        group = {axis: lines[axis] for axis in axes[start : start + _AXES_AT_ONCE]}
        interpolate = _interpolation(context, sampling, group, source)
        if start + _AXES_AT_ONCE >= len(axes):
            context.emit(
                lambda i, interpolate=interpolate: finished(  # type: ignore[misc]  # a default binds the loop's value
                    context, _cropped(context, lines, i, interpolate(i)), rounds=sampling.antialias
                )
            )
            return
        for axis, line in group.items():
            shape[axis] = line.count
        wide = DType.FLOAT64 if context.dtype(0) is DType.FLOAT64 else DType.FLOAT32
        source = context.temporary(wide, tuple(shape), interpolate)
    context.emit(lambda i: context.element(0, i))


def _interpolation(
    context: NodeContext, sampling: Sampling, lines: Mapping[int, Line], source: str
) -> Callable[[Indices], Expr]:
    """A weighted sum along some axes of a tensor."""
    tables = {axis: _tables(context, sampling, line) for axis, line in lines.items()}

    def body(i: Indices) -> Expr:
        def sample(k: Indices) -> Expr:
            at = list(i)
            factor: Expr | None = None
            for tap, (axis, line) in zip(k, lines.items(), strict=True):
                first, weights = tables[axis]
                at[axis] = clamped(build.add(context.read(first, (i[axis],)), tap), line.size)
                weight = context.read(weights, (i[axis], tap))
                factor = weight if factor is None else apply(Op.MUL, factor, weight)
            assert factor is not None, "there is an axis"
            x = widened(context.read(source, at))
            return apply(Op.MUL, x, cast(type_of(x), factor))

        return context.sum([line.taps for line in lines.values()], sample)

    return body


def _cropped(context: NodeContext, lines: Mapping[int, Line], i: Indices, x: Expr) -> Expr:
    """The extrapolation value where a position lies outside the input (tf_crop_and_resize)."""
    for axis, line in lines.items():
        if line.crops:
            place = line.place(i[axis])
            outside = apply(Op.OR, apply(Op.LT, place, f32(0.0)), apply(Op.GT, place, real(line.size - 1)))
            x = build.select(outside, like(x, context.attribute("extrapolation_value", 0.0)), x)
    return x


def _tables(context: NodeContext, sampling: Sampling, line: Line) -> tuple[str, str]:
    """The first input position of every output position, and its weights [outputs, taps]."""
    taps = build.dim(line.taps)
    single = apply(Op.EQ, taps, Const(1))

    def first(i: Indices) -> Expr:
        low = cast(DType.INT32, apply(Op.FLOOR, line.place(i[0])))
        return build.select(single, i[0], build.add(build.sub(low, build.floor_div(taps, 2)), 1))

    start = context.temporary(DType.INT32, (line.count,), first)
    stretch = apply(Op.MIN, line.scale, f32(1.0)) if sampling.antialias else f32(1.0)

    def raw(i: Indices) -> Expr:
        position = build.add(context.read(start, (i[0],)), i[1])
        distance = apply(Op.ABS, apply(Op.SUB, cast(DType.FLOAT32, position), line.place(i[0])))
        distance = apply(Op.MUL, distance, stretch)
        if sampling.mode == "linear":
            weight = apply(Op.MAX, apply(Op.SUB, f32(1.0), distance), f32(0.0))
        else:
            weight = _cubic(distance, sampling.cubic_a)
        if not sampling.exclude_outside:
            return weight
        inside = apply(Op.LT, cast(DType.UINT32, position), cast(DType.UINT32, build.dim(line.size)))
        return build.select(inside, weight, f32(0.0))

    weights = context.temporary(DType.FLOAT32, (line.count, line.taps), raw)
    if not (sampling.exclude_outside or sampling.antialias):
        return start, weights
    total = context.temporary(
        DType.FLOAT32, (line.count,), lambda i: context.sum([line.taps], lambda k: context.read(weights, (i[0], k[0])))
    )
    normal = context.temporary(
        DType.FLOAT32,
        (line.count, line.taps),
        lambda i: apply(Op.DIV, context.read(weights, i), context.read(total, (i[0],))),
    )
    return start, normal


def _cubic(d: Expr, a: float) -> Expr:
    """Keys' kernel of a distance."""

    def horner(*coefficients: float) -> Expr:
        value: Expr = f32(coefficients[0])
        for coefficient in coefficients[1:]:
            value = apply(Op.ADD, apply(Op.MUL, value, d), f32(coefficient))
        return value

    near, far = horner(a + 2, -(a + 3), 0, 1), horner(a, -5 * a, 8 * a, -4 * a)
    outer = build.select(apply(Op.LT, d, f32(2.0)), far, f32(0.0))
    return build.select(apply(Op.LE, d, f32(1.0)), near, outer)


def real(dim: Dim) -> Expr:
    """A size as float32."""
    return cast(DType.FLOAT32, build.dim(dim)) if not isinstance(dim, int) else f32(dim)


def clamped(index: Expr, size: Dim) -> Expr:
    """An index brought inside an axis."""
    return apply(Op.MIN, apply(Op.MAX, index, Const(0)), build.sub(build.dim(size), 1))


def _rounded(mode: str, x: Expr, scale: Expr) -> Expr:
    if mode == "simple":
        down: Expr = apply(Op.LT, scale, f32(1.0))
        if isinstance(scale, Const):
            down = build.TRUE if scale.value < 1 else build.FALSE
        return build.select(down, apply(Op.CEIL, x), apply(Op.FLOOR, x))
    if mode == "round_prefer_floor":
        return apply(Op.CEIL, apply(Op.SUB, x, f32(0.5)))
    if mode == "round_prefer_ceil":
        return apply(Op.FLOOR, apply(Op.ADD, x, f32(0.5)))
    return apply(Op.FLOOR if mode == "floor" else Op.CEIL, x)


def _places(
    transform: str, size: Dim, count: Dim, scale: Expr, ends: tuple[Expr, Expr] | None, sized: bool
) -> Callable[[Expr], Expr]:
    """Where in the input an output position lies (coordinate_transformation_mode).

    ends: of the region of interest. sized: whether `count` was asked for, not the scale.
    """

    def place(o: Expr) -> Expr:
        at = cast(DType.FLOAT32, o)
        half = apply(Op.SUB, apply(Op.DIV, apply(Op.ADD, at, f32(0.5)), scale), f32(0.5))
        single = apply(Op.LE, build.dim(count), Const(1))
        span = apply(Op.MAX, real(count - 1), f32(1.0))
        match transform:
            case "half_pixel":
                return half
            case "half_pixel_symmetric":
                adjustment = apply(Op.DIV, real(count), apply(Op.MUL, scale, real(size)))
                centre = apply(Op.MUL, apply(Op.MUL, real(size), f32(0.5)), apply(Op.SUB, f32(1.0), adjustment))
                return apply(Op.ADD, centre, half)
            case "pytorch_half_pixel":
                return build.select(single, f32(0.0), half)
            case "align_corners":
                whole = real(count - 1) if sized else apply(Op.SUB, apply(Op.MUL, scale, real(size)), f32(1.0))
                return build.select(single, f32(0.0), apply(Op.DIV, apply(Op.MUL, at, real(size - 1)), whole))
            case "tf_half_pixel_for_nn":
                return apply(Op.DIV, apply(Op.ADD, at, f32(0.5)), scale)
            case "tf_crop_and_resize":
                assert ends is not None, "the caller reads the region"
                start, end = ends
                middle = apply(Op.MUL, apply(Op.MUL, f32(0.5), apply(Op.ADD, start, end)), real(size - 1))
                step = apply(Op.DIV, apply(Op.MUL, apply(Op.SUB, end, start), real(size - 1)), span)
                moved = apply(Op.ADD, apply(Op.MUL, start, real(size - 1)), apply(Op.MUL, at, step))
                return build.select(single, middle, moved)
            case _:
                return apply(Op.DIV, at, scale)

    return place
