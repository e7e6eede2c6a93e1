"""BatchNormalization, GroupNormalization and MeanVarianceNormalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, floor_div, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.formulas import as_type, count, minus, over, plus, times, wide_dtype
from webdnn_backends.lower.movement import unflatten
from webdnn_backends.lower.reduction import inverse_deviation, moments
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.symbolic import Dim, product

__all__: list[str] = []


@lowering("GroupNormalization", since=18)
def _group_normalization(context: NodeContext) -> None:
    shape, dtype = context.shape(0), context.dtype(0)
    groups, epsilon = context.attribute("num_groups", 1), context.attribute("epsilon", 1e-5)
    by_channel = context.node.opset >= 21
    members = shape[1] // groups
    width = build.dim(members)
    extents = [members, *shape[2:]]
    rows = (shape[0], groups)
    wide = wide_dtype(dtype)

    def element(i: Indices, k: Indices) -> Expr:
        return context.element(0, [i[0], add(mul(i[1], width), k[0]), *k[1:]])

    def divided(total: Expr) -> Expr:
        return over(total, count(product(extents), total.type))

    mean = context.temporary(wide, rows, lambda i: divided(context.sum(extents, lambda k: element(i, k))))

    def spread(i: Indices) -> Expr:
        def square(k: Indices) -> Expr:
            x = minus(element(i, k), context.read(mean, i))
            return times(x, x)

        return divided(context.sum(extents, square))

    variance = context.temporary(wide, rows, spread)

    def body(i: Indices) -> Expr:
        group = floor_div(i[1], width)
        row = [i[0], group]
        y = minus(context.element(0, i), context.read(mean, row))
        y = times(y, inverse_deviation(context.read(variance, row), epsilon))
        at = [i[1] if by_channel else group]
        if by_channel:
            y = as_type(y.type, cast(dtype, y))
        return plus(times(y, as_type(y.type, context.element(1, at))), as_type(y.type, context.element(2, at)))

    context.emit(body)


@lowering("MeanVarianceNormalization")
def _mean_variance_normalization(context: NodeContext) -> None:
    rank = context.rank(0)
    variance_wanted = True
    if context.node.opset >= 9:
        axes: Sequence[int] = [context.axis(axis, rank) for axis in context.attribute("axes", (0, 2, 3))]
    else:
        across = context.attribute("across_channels", 0)
        axes = [axis for axis in range(rank) if axis != 1 or across]
        variance_wanted = bool(context.attribute("normalize_variance", 1))
    mean, variance = moments(context, context.name(0), sorted(set(axes)), wide_dtype(context.dtype(0)))

    def body(i: Indices) -> Expr:
        row = [Const(0) if axis in axes else index for axis, index in enumerate(i)]
        centred = minus(context.element(0, i), context.read(mean, row))
        if not variance_wanted:
            return centred
        return over(centred, plus(apply(Op.SQRT, context.read(variance, row)), 1e-9))

    context.emit(body)


@lowering("BatchNormalization")
def _batch_normalization(context: NodeContext) -> None:
    if context.node.opset >= 14:
        training = bool(context.attribute("training_mode", 0))
    else:
        training = any(map(context.wants, range(1, 5))) and not (
            context.node.opset < 7 and context.attribute("is_test", 0)
        )
    if training:
        _trained(context)
        return
    epsilon = context.attribute("epsilon", 1e-5)

    def body(i: Indices) -> Expr:
        wide = context.element(0, i)
        scale, bias, mean, variance = (as_type(wide.type, _parameter_at(context, k, i)) for k in range(1, 5))
        y = times(minus(wide, mean), times(scale, inverse_deviation(variance, epsilon)))
        return plus(y, bias)

    context.emit(body)


def _per_activation(context: NodeContext) -> bool:
    """Whether each place of the image has statistics of its own (spatial = 0, up to opset 8)."""
    return context.node.opset < 9 and not context.attribute("spatial", 1) and context.rank(0) > 2


def _parameter_at(context: NodeContext, index: int, i: Indices) -> Expr:
    """An element of scale, bias, mean or variance: of the channel, or of the channel's place."""
    shape = context.shape(index)
    if _per_activation(context):
        if len(shape) == len(i) - 1:
            return context.element(index, i[1:])
        sizes = context.shape(0)[1:]
        flat: Expr = Const(0)
        for at, size in zip(i[1:], sizes, strict=True):
            flat = add(mul(flat, build.dim(size)), at)
        return context.element(index, unflatten(flat, shape))
    return context.element(index, [i[1] if len(i) > 1 else Const(0)])


def _trained(context: NodeContext) -> None:
    """Normalisation by the statistics of the batch, and the running ones."""
    shape, rank = context.shape(0), context.rank(0)
    epsilon, momentum = context.attribute("epsilon", 1e-5), context.attribute("momentum", 0.9)
    axes = [0] if _per_activation(context) else [axis for axis in range(rank) if axis != 1 or rank < 2]
    mean, variance = moments(context, context.name(0), axes, wide_dtype(context.dtype(0)))

    def body(i: Indices) -> Expr:
        row = [Const(0) if axis in axes else index for axis, index in enumerate(i)]
        y = minus(context.element(0, i), context.read(mean, row))
        scale = as_type(y.type, _parameter_at(context, 1, i))
        factor = times(scale, inverse_deviation(context.read(variance, row), epsilon))
        return plus(times(y, factor), as_type(y.type, _parameter_at(context, 2, i)))

    context.emit(body)
    kept: list[Dim] = [size for axis, size in enumerate(shape) if axis not in axes]

    def statistic(tensor: str, i: Indices) -> Expr:
        """A statistic by the indices of an output, which may be flat."""
        inner = iter(i if len(i) == len(kept) else unflatten(i[0], kept))
        return context.read(tensor, [Const(0) if axis in axes else next(inner) for axis in range(rank)])

    def running(tensor: str, old: int) -> Callable[[Indices], Expr]:
        def at(i: Indices) -> Expr:
            now = statistic(tensor, i)
            before = as_type(now.type, context.element(old, i))
            return plus(times(before, momentum), times(now, 1 - momentum))

        return at

    for output, (tensor, old) in enumerate(((mean, 3), (variance, 4)), start=1):
        context.emit(_in_type(context, output, running(tensor, old)), output=output)
    for output, tensor in enumerate((mean, variance), start=3):
        context.emit(
            _in_type(context, output, lambda i, tensor=tensor: statistic(tensor, i)),  # type: ignore[misc]  # binds the loop's value
            output=output,
        )


def _in_type(context: NodeContext, output: int, body: Callable[[Indices], Expr]) -> Callable[[Indices], Expr]:
    """The element in the type that an output computes in."""
    if not context.wants(output):
        return body
    scalar = Scalar.F64 if wide_dtype(context.output(output).dtype).bits == 64 else Scalar.F32
    return lambda i: as_type(scalar, body(i))
