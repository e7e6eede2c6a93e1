"""Reductions, softmax and normalisations: expressions with Reduce inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, const, floor_mod
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import as_type
from webdnn_backends.lower.movement import flat_index, is_axis, unflatten
from webdnn_backends.lower.registry import LOWERINGS, lowering
from webdnn_backends.te.tensors import Host, ReshapeHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim, minimum, product, select

__all__ = ["inverse_deviation", "moments", "softmax_axes"]


@dataclass(frozen=True)
class Span:
    """What a Reduce* node combines. shape: of the result with the reduced axes kept as 1. extents: of the reduction.
    at: input indices from those of the kept result and of the reduction. axes: the reduced ones, None where only
    running tells. flags: a tensor with 1 for each reduced axis, where not even their number is known."""

    shape: Shape
    extents: tuple[Dim, ...]
    at: Callable[[Indices, Indices], list[Expr]]
    axes: frozenset[int] | None = None
    flags: str = ""


def reduction_span(context: NodeContext) -> Span | None:
    """What a Reduce* node combines; None where it is the identity (noop_with_empty_axes)."""
    rank, shape = context.rank(0), context.shape(0)
    by_input = context.node.opset >= (13 if context.node.op == "ReduceSum" else 18)
    noop = bool(by_input and context.attribute("noop_with_empty_axes", 0))
    given: Sequence[Dim] | None = context.attribute("axes", ())
    if by_input:
        given = context.integers(1) if context.has(1) else ()
    if given is None:
        return _open_span(context, noop)
    if not given and noop:
        return None
    if all(isinstance(axis, int) for axis in given):
        axes = {context.axis(int(axis), rank) for axis in given if isinstance(axis, int)} or set(range(rank))
        return _fixed_span(shape, axes)
    flags = [minimum(sum((is_axis(axis, d, rank) for axis in given), start=0), 1) for d in range(rank)]
    return _run_time_span(context, shape, flags)


def _fixed_span(shape: Shape, axes: set[int]) -> Span:
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    extents = tuple(shape[axis] for axis in sorted(axes))

    def at(i: Indices, k: Indices) -> list[Expr]:
        inner = iter(k)
        return [next(inner) if axis in axes else index for axis, index in enumerate(i)]

    return Span(kept, extents, at, frozenset(axes))


def _run_time_span(context: NodeContext, shape: Shape, flags: Sequence[Dim], tensor: str = "") -> Span:
    """Every axis is one of the result and one of the reduction, and one of the two has size 1."""
    short = context.state.short
    kept = tuple(short(select(flag, 1, size), 1) for flag, size in zip(flags, shape, strict=True))
    extents = tuple(short(select(flag, size, 1), 1) for flag, size in zip(flags, shape, strict=True))

    def at(i: Indices, k: Indices) -> list[Expr]:
        return [build.add(outer, inner) for outer, inner in zip(i, k, strict=True)]

    return Span(kept, extents, at, flags=tensor)


def _open_span(context: NodeContext, noop: bool) -> Span:
    """Axes whose number is known only at run time; none of them means all, or with `noop` none."""
    rank, shape = context.rank(0), context.shape(0)
    count = product(list(context.shape(1)))

    def flag(i: Indices) -> Expr:
        def hit(k: Indices) -> Expr:
            axis = cast(DType.INT32, context.element(1, k))
            return apply(Op.EQ, floor_mod(axis, rank), i[0])

        found = context.reduce(ReduceOp.ANY, context.shape(1), hit)
        if not noop:
            found = apply(Op.OR, found, apply(Op.EQ, build.dim(count), Const(0)))
        return cast(DType.INT64, found)

    tensor = context.temporary(DType.INT64, (rank,), flag)
    flags = context.state.elements(tensor)
    assert flags is not None, "a tensor has few axes"
    span = _run_time_span(context, shape, flags, tensor)
    context.define(dict(enumerate(span.shape)))
    return span


def emit_reduction(context: NodeContext, span: Span, body: Callable[[Indices], Expr]) -> None:
    """Give the node's output by its expression over the indices of the result with the reduced axes kept."""
    if context.attribute("keepdims", 1):
        context.emit(body)
        return
    target = context.state.tensor(context.node.outputs[0])
    if target.slot:
        kept = context.temporary(context.dtype(0), span.shape, body)
        context.state.items.append(Host("squeeze", (kept, span.flags), (target.name,), {}, context.node.source))
        return
    if span.axes is not None:
        context.emit(lambda i: body(_restored(i, span.axes or frozenset(), len(span.shape))))
        return
    kept = context.temporary(context.output().dtype, span.shape, body)
    context.emit(
        lambda i: context.read(kept, unflatten(flat_index(i, target.shape), span.shape)), hint=ReshapeHint(kept)
    )


def _restored(i: Indices, axes: frozenset[int], rank: int) -> Indices:
    """Indices with a 0 at each of these axes."""
    rest = iter(i)
    return tuple(Const(0) if axis in axes else next(rest) for axis in range(rank))


def _identity(x: Expr) -> Expr:
    return x


def _square(x: Expr) -> Expr:
    return apply(Op.MUL, x, x)


def _reduce(
    name: str,
    op: ReduceOp,
    before: Callable[[Expr], Expr] = _identity,
    after: Callable[[Expr, Expr], Expr] = lambda total, _: total,
) -> None:
    """Register a reduction: after(combine(before(x)), number of elements)."""

    def lower(context: NodeContext) -> None:
        span = reduction_span(context)
        if span is None:
            one = counted(1)

            def alone(i: Indices) -> Expr:
                x = before(context.element(0, i))
                return after(x, one(x))

            context.emit(alone)
            return
        combine = op
        if context.dtype(0) is DType.BOOL:
            combine = ReduceOp.ANY if op is ReduceOp.MAX else ReduceOp.ALL
        count = counted(product(list(span.extents)))

        def body(i: Indices) -> Expr:
            total = context.reduce(combine, span.extents, lambda k: before(context.element(0, span.at(i, k))))
            return after(total, count(total))

        emit_reduction(context, span, body)

    LOWERINGS.add(name, 1, lower)


def spread(i: Indices, k: Indices, axes: Sequence[int], rank: int, keep: int) -> list[Expr]:
    """Input indices from output indices `i` and reduction indices `k`."""
    rest = iter([index for axis, index in enumerate(i) if axis not in axes] if keep else i)
    inner = iter(k)
    return [next(inner) if axis in axes else next(rest) for axis in range(rank)]


def counted(count: Dim) -> Callable[[Expr], Expr]:
    """The number of reduced elements, in the type of the total."""
    return lambda total: (
        const(count, total.type) if isinstance(count, int) else cast(_full(total.type), build.dim(count))
    )


def _full(type: Scalar) -> DType:
    return {
        Scalar.F32: DType.FLOAT32,
        Scalar.F64: DType.FLOAT64,
        Scalar.I32: DType.INT32,
        Scalar.U32: DType.UINT32,
        Scalar.I64: DType.INT64,
        Scalar.U64: DType.UINT64,
        Scalar.BOOL: DType.BOOL,
    }[type]


def _floating(function: Op) -> Callable[[Expr, Expr], Expr]:
    """A function of the total, computed in float64 for integers."""

    def after(total: Expr, _: Expr) -> Expr:
        if total.type.is_float:
            return apply(function, total)
        return cast(_full(total.type), apply(function, cast(DType.FLOAT64, total)))

    return after


_reduce("ReduceSum", ReduceOp.SUM)
_reduce("ReduceMean", ReduceOp.SUM, after=lambda total, count: apply(Op.DIV, total, count))
_reduce("ReduceMax", ReduceOp.MAX)
_reduce("ReduceMin", ReduceOp.MIN)
_reduce("ReduceProd", ReduceOp.PROD)
_reduce("ReduceSumSquare", ReduceOp.SUM, before=_square)
_reduce("ReduceL1", ReduceOp.SUM, before=lambda x: apply(Op.ABS, x))
_reduce("ReduceL2", ReduceOp.SUM, before=_square, after=_floating(Op.SQRT))
_reduce("ReduceLogSum", ReduceOp.SUM, after=_floating(Op.LOG))


@lowering("ReduceLogSumExp")
def _log_sum_exp(context: NodeContext) -> None:
    span = reduction_span(context)
    if span is None:
        context.emit(lambda i: context.element(0, i))
        return
    wide = context.dtype(0).is_float

    def element(i: Indices, k: Indices) -> Expr:
        x = context.element(0, span.at(i, k))
        return x if wide else cast(DType.FLOAT64, x)

    def body(i: Indices) -> Expr:
        peak = context.reduce(ReduceOp.MAX, span.extents, lambda k: element(i, k))
        finite = build.select(apply(Op.IS_INF, peak), like(peak, 0), peak)
        total = context.sum(span.extents, lambda k: apply(Op.EXP, apply(Op.SUB, element(i, k), finite)))
        result = apply(Op.ADD, apply(Op.LOG, total), finite)
        return result if wide else cast(context.output().dtype, result)

    emit_reduction(context, span, body)


def softmax_axes(context: NodeContext) -> tuple[int, ...]:
    """The normalised axes: one since opset 13, before that `axis` and all behind it."""
    rank = context.rank(0)
    if context.node.opset >= 13:
        return (context.axis(context.attribute("axis", -1), rank),)
    first = context.attribute("axis", 1)
    return tuple(range(first + rank if first < 0 else first, rank))


def _softmax(context: NodeContext, *, log: bool) -> None:
    axes, shape, dtype = softmax_axes(context), context.shape(0), context.dtype(0)
    extents = [shape[axis] for axis in axes]
    reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    wide = DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32

    def at(i: Indices, k: Indices) -> Expr:
        return context.element(0, spread(i, k, axes, len(shape), 1))

    def row(i: Indices) -> list[Expr]:
        return [Const(0) if axis in axes else index for axis, index in enumerate(i)]

    peak = context.temporary(wide, reduced, lambda i: context.reduce(ReduceOp.MAX, extents, lambda k: at(i, k)))
    total = context.temporary(
        wide,
        reduced,
        lambda i: context.sum(extents, lambda k: apply(Op.EXP, apply(Op.SUB, at(i, k), context.read(peak, row(i))))),
    )

    def body(i: Indices) -> Expr:
        shifted = apply(Op.SUB, context.element(0, i), context.read(peak, row(i)))
        if log:
            return apply(Op.SUB, shifted, apply(Op.LOG, context.read(total, row(i))))
        return apply(Op.DIV, apply(Op.EXP, shifted), context.read(total, row(i)))

    context.emit(body)


LOWERINGS.add("Softmax", 1, lambda context: _softmax(context, log=False))
LOWERINGS.add("LogSoftmax", 1, lambda context: _softmax(context, log=True))


def moments(context: NodeContext, tensor: str, axes: Sequence[int], wide: DType) -> tuple[str, str]:
    """Mean and population variance over some axes, each kept with size 1, as temporaries."""
    shape = context.state.tensor(tensor).shape
    extents = [shape[axis] for axis in axes]
    reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    count = product(extents)

    def at(i: Indices, k: Indices) -> Expr:
        return cast(wide, context.read(tensor, spread(i, k, axes, len(shape), 1)))

    def divided(total: Expr) -> Expr:
        return apply(
            Op.DIV, total, const(count, total.type) if isinstance(count, int) else cast(wide, build.dim(count))
        )

    mean = context.temporary(wide, reduced, lambda i: divided(context.sum(extents, lambda k: at(i, k))))

    def variance(i: Indices) -> Expr:
        def deviation(k: Indices) -> Expr:
            return _square(apply(Op.SUB, at(i, k), context.read(mean, i)))

        return divided(context.sum(extents, deviation))

    return mean, context.temporary(wide, reduced, variance)


def inverse_deviation(variance: Expr, epsilon: float) -> Expr:
    """1 / sqrt(variance + epsilon)."""
    return apply(Op.DIV, like(variance, 1), apply(Op.SQRT, apply(Op.ADD, variance, like(variance, epsilon))))


def _wide(dtype: DType) -> DType:
    return DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32


def normalised(context: NodeContext, mean: str, variance: str, i: Indices, row: Sequence[Expr], epsilon: float) -> Expr:
    """(x - mean) / sqrt(variance + epsilon) for the node's first input."""
    centred = apply(Op.SUB, context.element(0, i), context.read(mean, row))
    return apply(Op.MUL, centred, inverse_deviation(context.read(variance, row), epsilon))


@lowering("LayerNormalization")
def _layer_normalization(context: NodeContext) -> None:
    rank = context.rank(0)
    axis = context.axis(context.attribute("axis", -1), rank)
    epsilon = context.attribute("epsilon", 1e-5)
    mean, variance = moments(context, context.name(0), range(axis, rank), _wide(context.dtype(0)))

    def body(i: Indices) -> Expr:
        row = [*i[:axis], *([Const(0)] * (rank - axis))]
        y = normalised(context, mean, variance, i, row, epsilon)
        y = apply(Op.MUL, y, context.broadcast(1, i))
        return apply(Op.ADD, y, context.broadcast(2, i)) if context.has(2) else y

    context.emit(body)

    def deviation(i: Indices) -> Expr:
        return inverse_deviation(context.read(variance, i), epsilon)

    _emit_statistic(context, 1, lambda i: context.read(mean, i))
    _emit_statistic(context, 2, deviation)


def _emit_statistic(context: NodeContext, output: int, body: Callable[[Indices], Expr]) -> None:
    """An optional output, in the type that `stash_type` gives it."""
    if context.wants(output):
        stored = compute_type(context.output(output).dtype)
        context.emit(lambda i: as_type(stored, body(i)), output=output)


@lowering("RMSNormalization")
def _rms_normalization(context: NodeContext) -> None:
    rank, shape = context.rank(0), context.shape(0)
    axis = context.axis(context.attribute("axis", -1), rank)
    wide = _wide(context.dtype(0))
    extents = shape[axis:]
    reduced = (*shape[:axis], *([1] * (rank - axis)))
    count = product(list(extents))

    def mean_square(i: Indices) -> Expr:
        total = context.sum(extents, lambda k: _square(context.element(0, [*i[:axis], *k])))
        return apply(
            Op.DIV, total, const(count, total.type) if isinstance(count, int) else cast(wide, build.dim(count))
        )

    power = context.temporary(wide, reduced, mean_square)

    def body(i: Indices) -> Expr:
        row = [*i[:axis], *([Const(0)] * (rank - axis))]
        scale = inverse_deviation(context.read(power, row), context.attribute("epsilon", 1e-5))
        y = apply(Op.MUL, context.element(0, i), scale)
        weight = context.broadcast(1, i)
        wider = Scalar.F64 if Scalar.F64 in (y.type, weight.type) else y.type
        return as_type(weight.type, apply(Op.MUL, as_type(wider, y), as_type(wider, weight)))

    context.emit(body)


@lowering("InstanceNormalization")
def _instance_normalization(context: NodeContext) -> None:
    rank = context.rank(0)
    mean, variance = moments(context, context.name(0), range(2, rank), _wide(context.dtype(0)))

    def body(i: Indices) -> Expr:
        row = [*i[:2], *([Const(0)] * (rank - 2))]
        y = normalised(context, mean, variance, i, row, context.attribute("epsilon", 1e-5))
        return apply(Op.ADD, apply(Op.MUL, y, context.element(1, [i[1]])), context.element(2, [i[1]]))

    context.emit(body)


@lowering("LpNormalization")
def _lp_normalization(context: NodeContext) -> None:
    shape = context.shape(0)
    axis = context.axis(context.attribute("axis", -1), len(shape))
    p = context.attribute("p", 2)
    reduced = tuple(1 if k == axis else size for k, size in enumerate(shape))

    def total(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            x = context.element(0, [*i[:axis], *k, *i[axis + 1 :]])
            return apply(Op.ABS, x) if p == 1 else _square(x)

        sum_ = context.sum([shape[axis]], term)
        return sum_ if p == 1 else apply(Op.SQRT, sum_)

    norm = context.temporary(_wide(context.dtype(0)), reduced, total)

    def body(i: Indices) -> Expr:
        divisor = context.read(norm, [*i[:axis], Const(0), *i[axis + 1 :]])
        zero = apply(Op.EQ, divisor, like(divisor, 0))
        return build.select(zero, like(divisor, 0), apply(Op.DIV, context.element(0, i), divisor))

    context.emit(body)


@lowering("LRN")
def _lrn(context: NodeContext) -> None:
    size = context.attribute("size", 1)
    alpha, beta, bias = (
        context.attribute("alpha", 1e-4),
        context.attribute("beta", 0.75),
        context.attribute("bias", 1.0),
    )
    before = (size - 1) // 2
    channels = build.dim(context.shape(0)[1])

    def body(i: Indices) -> Expr:
        def square(k: Indices) -> Expr:
            channel = build.sub(build.add(i[1], k[0]), before)
            inside = apply(Op.LT, cast(DType.UINT32, channel), cast(DType.UINT32, channels))
            x = context.element(0, [i[0], channel, *i[2:]])
            return build.select(inside, _square(x), like(x, 0))

        total = context.sum([size], square)
        scaled = apply(Op.ADD, like(total, bias), apply(Op.MUL, like(total, alpha / size), total))
        if math.isclose(beta, 0.75):
            root = apply(Op.SQRT, scaled)
            divisor = apply(Op.MUL, root, apply(Op.SQRT, root))
        else:
            divisor = apply(Op.POW, scaled, like(scaled, beta))
        return apply(Op.DIV, context.element(0, i), divisor)

    context.emit(body)


def _global(name: str, op: ReduceOp) -> None:
    def lower(context: NodeContext) -> None:
        spatial = context.shape(0)[2:]

        def body(i: Indices) -> Expr:
            total = context.reduce(op, spatial, lambda k: context.element(0, [i[0], i[1], *k]))
            if op is ReduceOp.MAX:
                return total
            count = product(list(spatial))
            divisor = (
                const(count, total.type) if isinstance(count, int) else cast(_wide(context.dtype(0)), build.dim(count))
            )
            return apply(Op.DIV, total, divisor)

        context.emit(body)

    LOWERINGS.add(name, 1, lower)


_global("GlobalAveragePool", ReduceOp.SUM)
_global("GlobalMaxPool", ReduceOp.MAX)
