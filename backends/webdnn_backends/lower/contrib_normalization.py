"""com.microsoft: normalisations with residual sums, embeddings, gates and groups; SimplifiedLayerNormalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, cast, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import sigmoid
from webdnn_backends.lower.formulas import as_type, count, equal, minus, over, plus, times, wide_dtype
from webdnn_backends.lower.reduction import inverse_deviation, moments
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim, product

__all__ = ["mean_square"]


def mean_square(context: NodeContext, shape: Shape, axis: int, at: Callable[[Indices], Expr]) -> str:
    """The mean of the squares over the axes from `axis` on, each kept with size 1, as a temporary."""
    extents = shape[axis:]
    dtype = wide_dtype(context.dtype(0))

    def body(i: Indices) -> Expr:
        def square(k: Indices) -> Expr:
            x = at((*i[:axis], *k))
            return times(x, x)

        total = context.sum(extents, square)
        return over(total, count(product(list(extents)), total.type))

    return context.temporary(dtype, (*shape[:axis], *[1] * len(extents)), body)


def _ones(i: Indices, axis: int) -> list[Expr]:
    """Indices of a row's statistics, kept with size 1 from `axis` on."""
    return [*i[:axis], *[Const(0)] * (len(i) - axis)]


def _summed(context: NodeContext, bias: int, output: int) -> str:
    """input + skip + bias as a tensor: the output that shows it, or a temporary. Returns its name."""
    shape = context.shape(0)

    def body(i: Indices) -> Expr:
        total = plus(context.element(0, i), context.broadcast(1, i))
        return plus(total, context.broadcast(bias, i)) if context.has(bias) else total

    summed = context.temporary(wide_dtype(context.dtype(0)), shape, body)
    context.emit(lambda i: context.read(summed, i), output=output)
    return summed


@lowering("SkipLayerNormalization", domain=MS)
def _skip_layer_normalization(context: NodeContext) -> None:
    total = _summed(context, 4, 3)
    _layer_normalised(context, total, 2, 3, statistics=True)


def _layer_normalised(context: NodeContext, tensor: str, gamma: int, beta: int, *, statistics: bool) -> None:
    """Layer normalisation of a tensor along its last axis, and the mean and inverse deviation as outputs 1 and 2."""
    axis = len(context.state.tensor(tensor).shape) - 1
    epsilon = context.attribute("epsilon", 1e-12)
    mean, variance = moments(context, tensor, [axis], wide_dtype(context.state.tensor(tensor).dtype))

    def body(i: Indices) -> Expr:
        row = _ones(i, axis)
        centred = minus(context.read(tensor, i), context.read(mean, row))
        y = times(centred, inverse_deviation(context.read(variance, row), epsilon), context.broadcast(gamma, i))
        return plus(y, context.broadcast(beta, i)) if context.has(beta) else y

    context.emit(body)
    if statistics:
        context.emit(lambda i: context.read(mean, i), output=1)
        context.emit(lambda i: inverse_deviation(context.read(variance, i), epsilon), output=2)


@lowering("SkipSimplifiedLayerNormalization", domain=MS)
def _skip_simplified(context: NodeContext) -> None:
    total = _summed(context, 3, 3)
    shape = context.shape(0)
    axis, epsilon = len(shape) - 1, context.attribute("epsilon", 1e-12)
    power = mean_square(context, shape, axis, lambda i: context.read(total, i))

    def body(i: Indices) -> Expr:
        scale = inverse_deviation(context.read(power, _ones(i, axis)), epsilon)
        return times(context.read(total, i), scale, context.broadcast(2, i))

    context.emit(body)
    context.emit(lambda _: const(0, compute_type(context.output(1).dtype)), output=1)
    context.emit(lambda i: inverse_deviation(context.read(power, i), epsilon), output=2)


@lowering("SimplifiedLayerNormalization")
@lowering("SimplifiedLayerNormalization", domain=MS)
def _simplified(context: NodeContext) -> None:
    shape = context.shape(0)
    axis = context.axis(context.attribute("axis", -1), len(shape))
    epsilon = context.attribute("epsilon", 1e-5)
    power = mean_square(context, shape, axis, lambda i: context.element(0, i))

    def body(i: Indices) -> Expr:
        scale = inverse_deviation(context.read(power, _ones(i, axis)), epsilon)
        return times(context.element(0, i), scale, as_type(scale.type, context.broadcast(1, i)))

    context.emit(body)
    context.emit(lambda i: inverse_deviation(context.read(power, i), epsilon), output=1)


@lowering("EmbedLayerNormalization", domain=MS)
def _embed_layer_normalization(context: NodeContext) -> None:
    def table(index: int) -> Callable[[Expr, Expr], Expr]:
        return lambda row, column: context.element(index, [row, column])

    _embedded(context, [table(index) for index in (2, 3, 4)], positions=8)


def _embedded(context: NodeContext, tables: Sequence[Callable[[Expr, Expr], Expr]], positions: int) -> None:
    """The normalised sum of word, position and segment embeddings, the mask's lengths, and the sum itself."""
    batch, sequence = context.shape(0)
    hidden = context.shape(2)[1]
    dtype = wide_dtype(context.dtype(5))

    def body(i: Indices) -> Expr:
        b, s, column = i
        place = s
        if context.has(positions):
            place = cast(DType.INT32, context.broadcast(positions, [b, s]))
        total = plus(tables[0](cast(DType.INT32, context.element(0, [b, s])), column), tables[1](place, column))
        if context.has(1) and context.has(4):
            total = plus(total, tables[2](cast(DType.INT32, context.element(1, [b, s])), column))
        return total

    total = context.temporary(dtype, (batch, sequence, hidden), body)
    _layer_normalised(context, total, 5, 6, statistics=False)
    _emit_lengths(context, sequence)
    context.emit(lambda i: context.read(total, i), output=2)


def _emit_lengths(context: NodeContext, sequence: Dim) -> None:
    """How many elements of each row of the mask (input 7) are 1, as output 1."""

    def lengths(i: Indices) -> Expr:
        if not context.has(7):
            return Const(0)
        return context.sum(
            [sequence], lambda s: cast(DType.INT32, equal(as_type(Scalar.I32, context.element(7, [i[0], *s])), 1))
        )

    context.emit(lengths, output=1)


@lowering("QEmbedLayerNormalization", domain=MS)
def _q_embed_layer_normalization(context: NodeContext) -> None:
    def real(index: int, scale: int, zero: int, at: Sequence[Expr]) -> Expr:
        value = cast(DType.INT32, context.element(index, at))
        if context.has(zero):
            value = build.sub(value, cast(DType.INT32, context.element(zero, [0] * context.rank(zero))))
        factor = context.element(scale, [0] * context.rank(scale))
        return times(as_type(factor.type, value), factor)

    batch, sequence = context.shape(0)
    hidden = context.shape(2)[1]
    groups = ((2, 8, 13), (3, 9, 14), (4, 10, 15))

    def body(i: Indices) -> Expr:
        b, s, column = i
        rows = (cast(DType.INT32, context.element(0, [b, s])), s)
        total = plus(*(real(*groups[part], [row, column]) for part, row in enumerate(rows)))
        if context.has(1) and context.has(4) and context.has(10):
            row = cast(DType.INT32, context.element(1, [b, s]))
            total = plus(total, real(*groups[2], [row, column]))
        return total

    total = context.temporary(DType.FLOAT32, (batch, sequence, hidden), body)
    mean, variance = moments(context, total, [2], DType.FLOAT32)

    def normalised(i: Indices) -> Expr:
        row = _ones(i, 2)
        inverse = inverse_deviation(context.read(variance, row), context.attribute("epsilon", 1e-12))
        y = times(minus(context.read(total, i), context.read(mean, row)), inverse, real(5, 11, 16, [i[2]]))
        return plus(y, real(6, 12, 17, [i[2]]))

    context.emit(normalised)
    _emit_lengths(context, sequence)


@lowering("GatedRMSNorm", domain=MS)
def _gated_rms_norm(context: NodeContext) -> None:
    shape = context.shape(0)
    size = context.shape(1)[0]
    lead = shape[:-1]
    width = build.dim(size)

    def grouped(i: Indices) -> Expr:
        return context.element(0, [*i[:-2], add(mul(i[-2], width), i[-1])])

    power = mean_square(context, (*lead, shape[-1] // size, size), len(lead) + 1, grouped)

    def body(i: Indices) -> Expr:
        group, place = floor_div(i[-1], width), floor_mod(i[-1], width)
        scale = inverse_deviation(context.read(power, [*i[:-1], group, Const(0)]), context.attribute("epsilon", 1e-5))
        y = times(context.element(0, i), scale, context.element(1, [place]))
        gate = context.element(2, i)
        opened = sigmoid(gate)
        return times(y, opened if context.attribute("activation", "silu") == "sigmoid" else times(gate, opened))

    context.emit(body)


@lowering("BranchwiseRMSNorm", domain=MS)
def _branchwise_rms_norm(context: NodeContext) -> None:
    shape, branches = context.shape(0), context.attribute("num_branches", 0)
    epsilon = context.attribute("epsilon", 1e-5)
    size = shape[-1] // branches if branches else shape[-1]
    width = build.dim(size)
    lead: Shape = (*shape[:-1], branches) if branches else shape[:-1]

    def split(i: Indices) -> Indices:
        """Indices [.., branch, place] from indices into the input."""
        return (*i[:-1], floor_div(i[-1], width), floor_mod(i[-1], width)) if branches else i

    def joined(i: Indices) -> Indices:
        return (*i[:-2], add(mul(i[-2], width), i[-1])) if branches else i

    power = mean_square(context, (*lead, size), len(lead), lambda i: context.element(0, joined(i)))

    def body(i: Indices) -> Expr:
        at = split(i)
        y = times(context.element(0, i), inverse_deviation(context.read(power, [*at[:-1], Const(0)]), epsilon))
        if not context.has(1):
            return y
        whole = context.state.tensor(context.name(1)).elements
        place = at[-1] if whole == size else add(mul(at[-2], width), at[-1])
        if context.rank(1) == 2:
            return times(y, context.element(1, at[-2:]))
        return times(y, context.element(1, [place]))

    context.emit(body)


@lowering("GroupNorm", domain=MS)
def _group_norm(context: NodeContext) -> None:
    _group_normalised(context, context.name(0))


@lowering("SkipGroupNorm", domain=MS)
def _skip_group_norm(context: NodeContext) -> None:
    last = bool(context.attribute("channels_last", 1))

    def body(i: Indices) -> Expr:
        channel = i[-1] if last else i[1]
        skip = context.element(3, [i[0], channel]) if context.rank(3) == 2 else context.broadcast(3, i)
        total = plus(context.element(0, i), skip)
        return plus(total, context.element(4, [channel])) if context.has(4) else total

    total = context.temporary(wide_dtype(context.dtype(0)), context.shape(0), body)
    _group_normalised(context, total)
    context.emit(lambda i: context.read(total, i), output=1)


def _group_normalised(context: NodeContext, tensor: str) -> None:
    """Normalisation of a tensor over groups of channels, gamma and beta as inputs 1 and 2, then SiLU if asked for."""
    shape = context.state.tensor(tensor).shape
    last = bool(context.attribute("channels_last", 1))
    groups, epsilon = context.attribute("groups", 1), context.attribute("epsilon", 1e-5)
    channels, spatial = (shape[-1], shape[1:-1]) if last else (shape[1], shape[2:])
    size = channels // groups
    width = build.dim(size)

    def grouped(i: Indices) -> Expr:
        """An element by [batch, group, channel in the group, place]."""
        channel = add(mul(i[1], width), i[2])
        return context.read(tensor, [i[0], *i[3:], channel] if last else [i[0], channel, *i[3:]])

    wide = wide_dtype(context.dtype(0))
    extents = [size, *spatial]

    def divided(total: Expr) -> Expr:
        return over(total, count(product(extents), total.type))

    mean = context.temporary(
        wide, (shape[0], groups), lambda i: divided(context.sum(extents, lambda k: grouped((*i, *k))))
    )

    def deviation(i: Indices) -> Expr:
        def square(k: Indices) -> Expr:
            x = minus(grouped((*i, *k)), context.read(mean, i))
            return times(x, x)

        return divided(context.sum(extents, square))

    variance = context.temporary(wide, (shape[0], groups), deviation)

    def body(i: Indices) -> Expr:
        channel = i[-1] if last else i[1]
        row = [i[0], floor_div(channel, width)]
        y = minus(context.read(tensor, i), context.read(mean, row))
        y = times(y, inverse_deviation(context.read(variance, row), epsilon), context.element(1, [channel]))
        y = plus(y, context.element(2, [channel]))
        return times(y, sigmoid(y)) if context.attribute("activation", 0) else y

    context.emit(body)
