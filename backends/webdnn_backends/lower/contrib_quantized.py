"""com.microsoft: operators on quantized tensors: numbers are read by scale and zero point, and quantized again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contraction import covered, window
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import like, sigmoid
from webdnn_backends.lower.formulas import all_of, as_type, below, equal, less, minus, over, plus, times
from webdnn_backends.lower.quantization import dynamic_parameters, quantized, zero_indices
from webdnn_backends.lower.registry import LOWERINGS, lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim, product

__all__: list[str] = []


class _Numbers:
    """The scales and zero points of a node that are single numbers.

    Those known only at run time are gathered into tensors of a few, since a GPU kernel may read few buffers.
    """

    _FEW, _MOST = 3, 6

    def __init__(self, context: NodeContext, *indices: int) -> None:
        self.context = context
        free = [index for index in indices if context.has(index) and context.constant(index) is None]
        self._places: dict[int, tuple[str, int]] = {}
        for start in range(0, len(free), self._MOST) if len(free) > self._FEW else ():
            part = free[start : start + self._MOST]
            name = context.temporary(DType.FLOAT32, (len(part),), lambda i, part=part: self._gathered(i[0], part))  # type: ignore[misc]  # a default binds the loop's value
            self._places |= {index: (name, place) for place, index in enumerate(part)}

    def _gathered(self, place: Expr, indices: Sequence[int]) -> Expr:
        found = as_type(Scalar.F32, self._element(indices[-1]))
        for at in range(len(indices) - 2, -1, -1):
            found = build.select(equal(place, at), as_type(Scalar.F32, self._element(indices[at])), found)
        return found

    def _element(self, index: int) -> Expr:
        return self.context.element(index, [0] * self.context.rank(index))

    def scale(self, index: int) -> Expr:
        """A scale."""
        if index not in self._places:
            return self._element(index)
        name, place = self._places[index]
        return self.context.read(name, [place])

    def zero(self, index: int) -> Expr | None:
        """A zero point as I32; None where it is absent."""
        return as_type(Scalar.I32, self.scale(index)) if self.context.has(index) else None

    def centred(self, value: Expr, zero: int) -> Expr:
        """value - zero point."""
        whole, offset = as_type(Scalar.I32, value), self.zero(zero)
        return whole if offset is None else build.sub(whole, offset)

    def real(self, value: Expr, scale: int) -> Expr:
        """(value - zero point) * scale; the zero point is the input behind the scale."""
        factor = self.scale(scale)
        return times(as_type(factor.type, self.centred(value, scale + 1)), factor)

    def mean(self, total: Expr, number: Expr, scale: int) -> Expr:
        """What a sum of centred values means, divided by their number. The sum is one of integers, so that its order
        does not decide how the mean is rounded."""
        factor = self.scale(scale)
        return times(over(as_type(factor.type, total), as_type(factor.type, number)), factor)

    def again(self, value: Expr, scale: int) -> Expr:
        """A number quantized to the type of the output; the zero point is the input behind the scale."""
        return quantized(value, self.scale(scale), self.zero(scale + 1), self.context.output().dtype)


def _binary(name: str, op: Op) -> None:
    def lower(context: NodeContext) -> None:
        numbers = _Numbers(context, 1, 2, 4, 5, 6, 7)

        def body(i: Indices) -> Expr:
            a, b = numbers.real(context.broadcast(0, i), 1), numbers.real(context.broadcast(3, i), 4)
            return numbers.again(apply(op, a, b), 6)

        context.emit(body)

    LOWERINGS.add(name, 1, lower, MS)


_binary("QLinearAdd", Op.ADD)
_binary("QLinearMul", Op.MUL)


def _unary(name: str, function: Callable[[NodeContext, Expr], Expr]) -> None:
    def lower(context: NodeContext) -> None:
        numbers = _Numbers(context, 1, 2, 3, 4)
        context.emit(lambda i: numbers.again(function(context, numbers.real(context.element(0, i), 1)), 3))

    LOWERINGS.add(name, 1, lower, MS)


def _leaky_relu(context: NodeContext, x: Expr) -> Expr:
    return build.select(less(x, 0), times(x, context.attribute("alpha", 0.01)), x)


_unary("QLinearSigmoid", lambda _, x: sigmoid(x))
_unary("QLinearLeakyRelu", _leaky_relu)


@lowering("QLinearWhere", domain=MS)
def _where(context: NodeContext) -> None:
    numbers = _Numbers(context, 2, 3, 5, 6, 7, 8)

    def body(i: Indices) -> Expr:
        x, y = numbers.real(context.broadcast(1, i), 2), numbers.real(context.broadcast(4, i), 5)
        return numbers.again(build.select(context.broadcast(0, i), x, y), 7)

    context.emit(body)


@lowering("QLinearConcat", domain=MS)
def _concat(context: NodeContext) -> None:
    axis = context.axis(context.attribute("axis", 0), len(context.output().shape))
    parts = range(2, len(context.node.inputs), 3)
    numbers = _Numbers(context, 0, 1, *(index for part in parts for index in (part + 1, part + 2)))

    def body(i: Indices) -> Expr:
        starts: list[Dim] = [0]
        for part in parts:
            starts.append(starts[-1] + context.shape(part)[axis])

        def element(position: int) -> Expr:
            part = parts[position]
            local = build.sub(i[axis], build.dim(starts[position]))
            value = context.element(part, [*i[:axis], local, *i[axis + 1 :]])
            return numbers.real(value, part + 1)

        result = element(len(parts) - 1)
        for position in range(len(parts) - 2, -1, -1):
            result = build.select(apply(Op.LT, i[axis], build.dim(starts[position + 1])), element(position), result)
        return numbers.again(result, 0)

    context.emit(body)


@lowering("QLinearSoftmax", domain=MS)
def _softmax(context: NodeContext) -> None:
    shape = context.shape(0)
    rank = len(shape)
    axis = context.axis(context.attribute("axis", -1), rank)
    # Before opset 13 Softmax runs over the axis and all behind it.
    axes = [axis] if context.attribute("opset", 13) >= 13 else list(range(axis, rank))
    rows = tuple(1 if k in axes else size for k, size in enumerate(shape))
    extents = [shape[k] for k in axes]

    def at(i: Indices, k: Indices) -> list[Expr]:
        inner = iter(k)
        return [next(inner) if position in axes else index for position, index in enumerate(i)]

    def row(i: Sequence[Expr]) -> list[Expr]:
        return [Const(0) if position in axes else index for position, index in enumerate(i)]

    numbers = _Numbers(context, 1, 2, 3, 4)

    def real(i: Sequence[Expr]) -> Expr:
        return numbers.real(context.element(0, i), 1)

    peak = context.temporary(
        DType.FLOAT32, rows, lambda i: context.reduce(ReduceOp.MAX, extents, lambda k: real(at(i, k)))
    )

    def exponential(i: Sequence[Expr]) -> Expr:
        return apply(Op.EXP, minus(real(i), context.read(peak, row(i))))

    total = context.temporary(DType.FLOAT32, rows, lambda i: context.sum(extents, lambda k: exponential(at(i, k))))
    context.emit(lambda i: numbers.again(over(exponential(i), context.read(total, row(i))), 3))


def _mean_over(context: NodeContext, axes: Sequence[int], keep: bool, scale: int) -> None:
    """The mean of the first input over axes, quantized by inputs `scale` and the next."""
    shape = context.shape(0)
    extents = [shape[axis] for axis in axes]
    numbers = _Numbers(context, 1, 2, scale, scale + 1)

    def body(i: Indices) -> Expr:
        kept = iter([index for axis, index in enumerate(i) if axis not in axes] if keep else i)
        outer = [None if axis in axes else next(kept) for axis in range(len(shape))]

        def term(k: Indices) -> Expr:
            inner = iter(k)
            at = [next(inner) if index is None else index for index in outer]
            return numbers.centred(context.element(0, at), 2)

        total = context.sum(extents, term)
        return numbers.again(numbers.mean(total, build.dim(product(extents)), 1), scale)

    context.emit(body)


@lowering("QLinearGlobalAveragePool", domain=MS)
def _global_average_pool(context: NodeContext) -> None:
    rank = context.rank(0)
    _mean_over(context, range(1, rank - 1) if context.attribute("channels_last", 0) else range(2, rank), True, 3)


@lowering("QLinearReduceMean", domain=MS)
def _reduce_mean(context: NodeContext) -> None:
    rank = context.rank(0)
    given: tuple[int, ...] = context.attribute("axes", ())
    axes = sorted(context.axis(axis, rank) for axis in given) if given else range(rank)
    _mean_over(context, axes, bool(context.attribute("keepdims", 1)), 3)


def _spatial(shape: Shape, last: bool) -> Shape:
    return shape[1:-1] if last else shape[2:]


def _place(i: Indices, at: Sequence[Expr], last: bool) -> list[Expr]:
    """Indices of an image in the layout of the output, at other spatial positions."""
    return [i[0], *at, i[-1]] if last else [i[0], i[1], *at]


@lowering("QLinearAveragePool", domain=MS)
def _average_pool(context: NodeContext) -> None:
    last = bool(context.attribute("channels_last", 0))
    kernel: tuple[int, ...] = context.attribute("kernel_shape", ())
    spatial, outputs = _spatial(context.shape(0), last), _spatial(context.output().shape, last)
    span = window(context, kernel, spatial, outputs)
    include = bool(context.attribute("count_include_pad", 0))
    numbers = _Numbers(context, 1, 2, 3, 4)

    def body(i: Indices) -> Expr:
        at = i[1:-1] if last else i[2:]

        def term(k: Indices) -> Expr:
            places = [span.position(axis, at[axis], k[axis]) for axis in range(len(kernel))]
            inside = all_of(*(below(place, size) for place, size in zip(places, spatial, strict=True)))
            value = numbers.centred(context.element(0, _place(i, places, last)), 2)
            return build.select(inside, value, like(value, 0))

        total = context.sum(kernel, term)
        number: Expr = Const(1)
        for axis, size in enumerate(kernel):
            number = build.mul(number, covered(span, axis, at[axis], size, spatial[axis], outputs[axis], include))
        return numbers.again(numbers.mean(total, number, 1), 3)

    context.emit(body)


@lowering("NhwcMaxPool", domain=MS)
def _nhwc_max_pool(context: NodeContext) -> None:
    kernel: tuple[int, ...] = context.attribute("kernel_shape", ())
    spatial = _spatial(context.shape(0), True)
    span = window(context, kernel, spatial, _spatial(context.output().shape, True))
    lowest = -128 if context.dtype(0).is_signed_integer else 0

    def body(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            places = [span.position(axis, i[1 + axis], k[axis]) for axis in range(len(kernel))]
            inside = all_of(*(below(place, size) for place, size in zip(places, spatial, strict=True)))
            value = context.element(0, _place(i, places, True))
            return build.select(inside, value, like(value, lowest))

        return context.reduce(ReduceOp.MAX, kernel, term)

    context.emit(body)


@lowering("QLinearConv", domain=MS)
def _conv(context: NodeContext) -> None:
    last = bool(context.attribute("channels_last", 0))
    weights = context.shape(3)
    kernel = tuple(size for size in weights[2:] if isinstance(size, int))
    if len(kernel) != len(weights) - 2:
        raise context.unsupported("a kernel of unknown size")
    spatial = _spatial(context.shape(0), last)
    span = window(context, kernel, spatial, _spatial(context.output().shape, last))
    group, depth = context.attribute("group", 1), weights[1]
    width = weights[0] // group
    numbers = _Numbers(context, 1, 2, 6, 7)

    def weight(value: Expr, channel: Expr) -> Expr:
        whole = as_type(Scalar.I32, value)
        if not context.has(5):
            return whole
        at = [Const(0) if size == 1 else channel for size in context.shape(5)]
        return build.sub(whole, as_type(Scalar.I32, context.element(5, at)))

    def body(i: Indices) -> Expr:
        channel, at = (i[-1], i[1:-1]) if last else (i[1], i[2:])

        def term(k: Indices) -> Expr:
            own = k[0]
            if group != 1:
                own = build.add(build.mul(build.floor_div(channel, build.dim(width)), build.dim(depth)), k[0])
            places = [span.position(axis, at[axis], k[1 + axis]) for axis in range(len(kernel))]
            inside = all_of(*(below(place, size) for place, size in zip(places, spatial, strict=True)))
            where = [i[0], *places, own] if last else [i[0], own, *places]
            x = numbers.centred(context.element(0, where), 2)
            w = weight(context.element(3, [channel, *k]), channel)
            return build.select(inside, times(x, w), Const(0))

        total = context.sum([depth, *kernel], term)
        if context.has(8):
            total = plus(total, context.element(8, [channel]))
        of = [Const(0) if size == 1 else channel for size in context.shape(4)]
        factor = times(numbers.scale(1), context.element(4, of))
        return numbers.again(times(as_type(factor.type, total), factor), 6)

    context.emit(body)


@lowering("QGemm", domain=MS)
def _gemm(context: NodeContext) -> None:
    trans_a, trans_b = context.attribute("transA", 0), context.attribute("transB", 0)
    depth = context.shape(0)[0 if trans_a else 1]
    numbers = _Numbers(context, 1, 2, 7, 8)

    def weight(at: Sequence[Expr], column: Expr) -> Expr:
        place = [Const(0) if size == 1 else column for size in context.shape(5)]
        return build.sub(as_type(Scalar.I32, context.element(3, at)), as_type(Scalar.I32, context.element(5, place)))

    def body(i: Indices) -> Expr:
        m, n = i

        def term(k: Indices) -> Expr:
            x = numbers.centred(context.element(0, [k[0], m] if trans_a else [m, k[0]]), 2)
            return times(x, weight([n, k[0]] if trans_b else [k[0], n], n))

        total = context.sum([depth], term)
        if context.has(6):
            total = plus(total, context.broadcast(6, i))
        of = [Const(0) if size == 1 else n for size in context.shape(4)]
        factor = times(times(numbers.scale(1), context.attribute("alpha", 1.0)), context.element(4, of))
        value = times(as_type(factor.type, total), factor)
        return numbers.again(value, 7) if context.has(7) else value

    context.emit(body)


@lowering("DynamicQuantizeMatMul", domain=MS)
def _dynamic_matmul(context: NodeContext) -> None:
    scale, zero = dynamic_parameters(context, context.name(0))
    whole = context.temporary(
        DType.UINT8,
        context.shape(0),
        lambda i: quantized(context.element(0, i), context.read(scale, ()), context.read(zero, ()), DType.UINT8),
    )
    left, right = context.shape(0), context.shape(1)

    def body(i: Indices) -> Expr:
        def parameter(index: int) -> Expr:
            along = [i[-1], *i[:-2], Const(0), i[-1]]
            return context.element(index, zero_indices(context, context.shape(index), along))

        def term(k: Indices) -> Expr:
            x = build.sub(
                as_type(Scalar.I32, context.read(whole, [*i[:-1][-len(left) + 1 :], *k])),
                as_type(Scalar.I32, context.read(zero, ())),
            )
            dims = right[:-2]
            batch = i[len(i) - 2 - len(dims) : len(i) - 2]
            at = [Const(0) if size == 1 else b for size, b in zip(dims, batch, strict=True)]
            y = as_type(Scalar.I32, context.element(1, [*at, *k, i[-1]]))
            return times(x, build.sub(y, as_type(Scalar.I32, parameter(3))) if context.has(3) else y)

        total = cast(DType.FLOAT32, context.sum([left[-1]], term))
        value = times(total, times(context.read(scale, ()), parameter(2)))
        return plus(value, context.element(4, [i[-1]])) if context.has(4) else value

    context.emit(body)
