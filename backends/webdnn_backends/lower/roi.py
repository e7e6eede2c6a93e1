"""RoiAlign, MaxRoiPool and com.microsoft CropAndResize: regions of interest at a fixed size.

How many samples a bin takes may depend on its region, so these are kernels, parallel over all bins of all channels.
"""

from __future__ import annotations

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, mul, sub
from webdnn_backends.ir.loops import Assign, Const, Expr, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.direct import Direct, loop, nest
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import (
    all_of,
    as_type,
    at_least,
    at_most,
    clamp,
    count,
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

_K, _C, _BINS = Var("region"), Var("channel"), (Var("row"), Var("column"))


@lowering("RoiAlign", since=10)
def _roi_align(context: NodeContext) -> None:
    mode = context.attribute("mode", "avg")
    if mode not in ("avg", "max"):
        raise InvalidModelError(f"{context.where}: mode: expected avg or max, got {mode!r}")
    half_pixel = context.node.opset >= 16 and (
        context.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    )
    ratio, scale = context.attribute("sampling_ratio", 0), context.attribute("spatial_scale", 1.0)
    kernel = Direct(context, "roi_align")
    x, rois, batches, y = kernel.input(0), kernel.input(1), kernel.input(2), kernel.output()
    sizes, pooled = x.tensor.shape[2:], y.tensor.shape[2:]
    scalar = compute_type(wide_dtype(context.dtype(0)))

    def corner(column: int) -> Expr:
        value = times(as_type(scalar, rois.load([_K, column])), scale)
        return minus(value, 0.5) if half_pixel else value

    setup: list[Stmt] = [Local("image", Scalar.I32, cast(DType.INT32, batches.load([_K])))]
    for axis in range(2):
        start, end = corner(1 - axis), corner(3 - axis)
        extent = minus(end, start) if half_pixel else at_least(minus(end, start), 1)
        setup.append(Local(f"start{axis}", scalar, start))
        setup.append(Local(f"bin{axis}", scalar, over(extent, count(pooled[axis], scalar))))
        samples: Expr = Const(ratio)
        if ratio <= 0:
            samples = at_least(cast(DType.INT32, apply(Op.CEIL, Var(f"bin{axis}", scalar))), 0)
        setup.append(Local(f"samples{axis}", Scalar.I32, samples))
    grid = [Var(f"samples{axis}") for axis in range(2)]
    total = Var("total", scalar)

    def position(axis: int) -> tuple[Stmt, ...]:
        """The coordinate of a sample along an axis, and the two pixels and weights that it draws on."""
        sample = add(mul(_BINS[axis], grid[axis]), Var(f"sample{axis}"))
        step = over(plus(as_type(scalar, sample), 0.5), as_type(scalar, grid[axis]))
        raw, at, low = Var(f"raw{axis}", scalar), Var(f"at{axis}", scalar), Var(f"low{axis}")
        fraction = minus(at, as_type(scalar, low))
        inside = all_of(less_equal(-1, raw), less_equal(raw, count(sizes[axis], scalar)))
        zero = const(0, scalar)
        return (
            Local(f"raw{axis}", scalar, plus(Var(f"start{axis}", scalar), times(Var(f"bin{axis}", scalar), step))),
            Local(f"at{axis}", scalar, clamp(raw, 0, count(sizes[axis] - 1, scalar))),
            Local(f"low{axis}", Scalar.I32, cast(DType.INT32, apply(Op.FLOOR, at))),
            Local(f"high{axis}", Scalar.I32, at_most(add(low, 1), build.dim(sizes[axis] - 1))),
            Local(f"near{axis}", scalar, build.select(inside, minus(1, fraction), zero)),
            Local(f"far{axis}", scalar, build.select(inside, fraction, zero)),
        )

    def share(rows: str, columns: str, row: str, column: str) -> Expr:
        weight = times(Var(f"{row}0", scalar), Var(f"{column}1", scalar))
        return times(as_type(scalar, x.load([Var("image"), _C, Var(f"{rows}0"), Var(f"{columns}1")])), weight)

    shares = [
        share(rows, columns, "near" if rows == "low" else "far", "near" if columns == "low" else "far")
        for rows in ("low", "high")
        for columns in ("low", "high")
    ]
    if mode == "avg":
        take = Assign("total", plus(total, plus(shares[0], *shares[1:])))
        first: Expr = const(0, scalar)
        number = as_type(scalar, mul(grid[0], grid[1]))
        result = over(total, number)
    else:
        best = shares[0]
        for one in shares[1:]:
            best = at_least(best, one)
        take = Assign("total", at_least(total, best))
        first, result = const(float("-inf"), scalar), total
    empty = apply(Op.LE, mul(grid[0], grid[1]), Const(0))
    kernel.run(
        *nest(
            ("region", "channel", "row", "column"),
            y.tensor.shape,
            *setup,
            Local("total", scalar, first),
            loop("sample0", grid[0], *position(0), loop("sample1", grid[1], *position(1), take)),
            y.store([_K, _C, *_BINS], build.select(empty, const(0, scalar), result)),
            parallel=True,
        )
    )


@lowering("MaxRoiPool")
def _max_roi_pool(context: NodeContext) -> None:
    scale = context.attribute("spatial_scale", 1.0)
    kernel = Direct(context, "max_roi_pool")
    x, rois, y = kernel.input(0), kernel.input(1), kernel.output()
    sizes, pooled = x.tensor.shape[2:], y.tensor.shape[2:]
    scalar = compute_type(wide_dtype(context.dtype(0)))

    def corner(column: int) -> Expr:
        """Rounded to a whole pixel, halves away from zero."""
        value = times(as_type(scalar, rois.load([_K, column])), scale)
        size = apply(Op.FLOOR, plus(apply(Op.ABS, value), 0.5))
        return build.select(apply(Op.LT, value, like(value, 0)), apply(Op.NEG, size), size)

    setup: list[Stmt] = [Local("image", Scalar.I32, cast(DType.INT32, rois.load([_K, 0])))]
    for axis in range(2):
        first, last = corner(2 - axis), corner(4 - axis)
        setup.append(Local(f"first{axis}", scalar, first))
        length = at_least(plus(minus(last, Var(f"first{axis}", scalar)), 1), 1)
        setup.append(Local(f"bin{axis}", scalar, over(length, count(pooled[axis], scalar))))

    def edge(axis: int, place: Expr, rounding: Op) -> Expr:
        at = apply(rounding, times(as_type(scalar, place), Var(f"bin{axis}", scalar)))
        return cast(DType.INT32, clamp(plus(at, Var(f"first{axis}", scalar)), 0, count(sizes[axis], scalar)))

    for axis in range(2):
        setup.append(Local(f"low{axis}", Scalar.I32, edge(axis, _BINS[axis], Op.FLOOR)))
        setup.append(Local(f"high{axis}", Scalar.I32, edge(axis, add(_BINS[axis], 1), Op.CEIL)))
    value = x.load([Var("image"), _C, Var("at0"), Var("at1")])
    best = Var("best", value.type)
    extents = [at_least(sub(Var(f"high{axis}"), Var(f"low{axis}")), 0) for axis in range(2)]
    empty = apply(Op.LE, mul(extents[0], extents[1]), Const(0))
    kernel.run(
        *nest(
            ("region", "channel", "row", "column"),
            y.tensor.shape,
            *setup,
            Local("best", value.type, const(float("-inf"), value.type)),
            loop(
                "at0",
                extents[0],
                loop("at1", extents[1], Assign("best", at_least(best, value)), start=Var("low1")),
                start=Var("low0"),
            ),
            y.store([_K, _C, *_BINS], build.select(empty, const(0, value.type), best)),
            parallel=True,
        )
    )


@lowering("CropAndResize", domain=MS)
def _crop_and_resize(context: NodeContext) -> None:
    mode = context.attribute("mode", "bilinear")
    if mode not in ("bilinear", "nearest"):
        raise InvalidModelError(f"{context.where}: mode: expected bilinear or nearest, got {mode!r}")
    shape = context.shape(0)
    given = context.integers(3, 2)
    if given is None:
        raise context.unsupported("a crop_size that is no integer tensor")
    context.define({2: given[0], 3: given[1]})
    outside = context.attribute("extrapolation_value", 0.0)
    scalar = compute_type(wide_dtype(context.dtype(1)))

    def place(i: Indices, axis: int, size: Dim, crop: Dim) -> Expr:
        span = count(size - 1, scalar)
        first, last = (as_type(scalar, context.element(1, [i[0], column])) for column in (axis, 2 + axis))
        step = over(times(minus(last, first), span), count(crop - 1, scalar))
        walked = plus(times(first, span), times(as_type(scalar, i[2 + axis]), step))
        if isinstance(crop, int) and crop > 1:
            return walked
        middle = times(times(plus(first, last), span), 0.5)
        return middle if crop == 1 else build.select(apply(Op.GT, build.dim(crop), Const(1)), walked, middle)

    def body(i: Indices) -> Expr:
        image = cast(DType.INT32, context.element(2, [i[0]]))
        inside: list[Expr] = []
        low: list[Expr] = []
        high: list[Expr] = []
        fraction: list[Expr] = []
        for axis in range(2):
            size = shape[2 + axis]
            at = place(i, axis, size, given[axis])
            last = count(size - 1, scalar)
            inside.extend([less_equal(0, at), less_equal(at, last)])
            bounded = clamp(at, 0, last)
            if mode == "nearest":
                bounded = apply(Op.FLOOR, plus(bounded, 0.5))
            floor = apply(Op.FLOOR, bounded)
            low.append(cast(DType.INT32, floor))
            high.append(at_most(add(low[-1], 1), build.dim(size - 1)))
            fraction.append(minus(bounded, floor))

        def pixel(row: Expr, column: Expr) -> Expr:
            return as_type(scalar, context.element(0, [image, i[1], row, column]))

        def mixed(first: Expr, second: Expr, share: Expr) -> Expr:
            return plus(times(first, minus(1, share)), times(second, share))

        if mode == "nearest":
            value = pixel(low[0], low[1])
        else:
            above = mixed(pixel(low[0], low[1]), pixel(low[0], high[1]), fraction[1])
            beneath = mixed(pixel(high[0], low[1]), pixel(high[0], high[1]), fraction[1])
            value = mixed(above, beneath, fraction[0])
        return build.select(all_of(*inside), value, const(outside, scalar))

    context.emit(body)
