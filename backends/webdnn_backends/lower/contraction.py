"""Matrix products, convolutions and pooling: the stages whose schedules decide speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, floor_div, mul
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.movement import within
from webdnn_backends.lower.planes import emit_over_planes
from webdnn_backends.lower.pooling_indices import max_pool_with_indices
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import ConvHint, MatMulHint, PoolHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, maximum

__all__ = ["Window", "convolution", "gemm", "matmul", "scaled", "window"]


def matmul(context: NodeContext, i: Indices, a: str, b: str) -> Expr:
    """Element `i` of the product of two tensors by name, by the rules of numpy.matmul."""
    left, right = context.state.tensor(a).shape, context.state.tensor(b).shape
    rows, columns = len(left) > 1, len(right) > 1
    lead = len(i) - rows - columns
    m, n = (i[lead] if rows else None), (i[-1] if columns else None)

    def batch(shape: tuple[Dim, ...]) -> list[Expr]:
        dims = shape[:-2]
        aligned = i[lead - len(dims) : lead]
        return [context.within(size, at) for size, at in zip(dims, aligned, strict=True)]

    def product(k: Indices) -> Expr:
        x = context.read(a, [*batch(left), m, k[0]] if m is not None else [k[0]])
        y = context.read(b, [*batch(right), k[0], n] if n is not None else [k[0]])
        return apply(Op.MUL, x, y)

    return context.sum([left[-1]], product)


@lowering("MatMul")
def _matmul(context: NodeContext) -> None:
    context.emit(lambda i: matmul(context, i, context.name(0), context.name(1)), hint=MatMulHint())


@lowering("Gemm")
def _gemm(context: NodeContext) -> None:
    context.emit(lambda i: gemm(context, i), hint=MatMulHint())


def gemm(context: NodeContext, i: Indices) -> Expr:
    """Element `i` of Gemm on the first three inputs."""
    trans_a, trans_b = context.attribute("transA", 0), context.attribute("transB", 0)

    def product(k: Indices) -> Expr:
        x = context.element(0, [k[0], i[0]] if trans_a else [i[0], k[0]])
        y = context.element(1, [i[1], k[0]] if trans_b else [k[0], i[1]])
        return apply(Op.MUL, x, y)

    total = scaled(context.sum([context.shape(0)[0 if trans_a else 1]], product), context.attribute("alpha", 1.0))
    if not context.has(2):
        return total
    return apply(Op.ADD, total, scaled(context.broadcast(2, i), context.attribute("beta", 1.0)))


def scaled(x: Expr, factor: float) -> Expr:
    """x times a literal, where that is not 1."""
    return x if factor == 1.0 else apply(Op.MUL, x, like(x, factor))


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes: sizes, strides, dilations, begin and end pads per axis. ceil: the last
    window may reach behind the padding."""

    kernel: tuple[Dim, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[Dim, Dim], ...]
    ceil: bool = False

    @property
    def static(self) -> bool:
        return all(isinstance(size, int) for size in (*self.kernel, *(pad for pair in self.pads for pad in pair)))

    @property
    def integer_kernel(self) -> tuple[int, ...]:
        """The sizes where they are known at compile time."""
        return tuple(int(str(size)) for size in self.kernel)

    @property
    def integer_pads(self) -> tuple[tuple[int, int], ...]:
        """The pads where they are known at compile time."""
        return tuple((int(str(begin)), int(str(end))) for begin, end in self.pads)

    def position(self, axis: int, output: Expr, offset: Expr) -> Expr:
        """Where in the input (may lie in the padding) a window at `output` has its element `offset`."""
        at = add(mul(output, self.strides[axis]), mul(offset, self.dilations[axis]))
        return build.sub(at, build.dim(self.pads[axis][0]))

    def can_leave(self, axis: int, size: Dim, outputs: Dim) -> bool:
        """Whether some window reaches outside an axis of the given size."""
        begin, end = self.pads[axis]
        reach = (self.kernel[axis] - 1) * self.dilations[axis]
        if begin != 0 or not (isinstance(size, int) and isinstance(outputs, int) and isinstance(reach, int)):
            return self.ceil or not (begin == 0 and end == 0)
        return (outputs - 1) * self.strides[axis] + reach >= size


def window(context: NodeContext, kernel: tuple[Dim, ...], spatial: Sequence[Dim], outputs: Sequence[Dim]) -> Window:
    """The window of a convolution or pooling node, auto_pad resolved."""
    rank = len(kernel)
    strides = context.attribute("strides", (1,) * rank)
    dilations = context.attribute("dilations", (1,) * rank)
    given = context.attribute("pads", (0,) * (2 * rank))
    mode = context.attribute("auto_pad", "NOTSET")
    pads: list[tuple[Dim, Dim]] = []
    for axis in range(rank):
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = (outputs[axis] - 1) * strides[axis] + reach - spatial[axis]
            total = maximum(total, 0)
            small = total // 2
            pads.append((small, total - small) if mode == "SAME_UPPER" else (total - small, small))
        elif mode == "VALID":
            pads.append((0, 0))
        else:
            pads.append((given[axis], given[axis + rank]))
    return Window(kernel, strides, dilations, tuple(pads), bool(context.attribute("ceil_mode", 0)))


@lowering("Conv")
def _conv(context: NodeContext) -> None:
    kernel, spatial, outputs = context.shape(1)[2:], context.shape(0)[2:], context.output().shape[2:]
    if not emit_over_planes(context, window(context, kernel, spatial, outputs)):
        body, hint = convolution(context)
        context.emit(body, hint=hint)


def convolution(context: NodeContext) -> tuple[Callable[[Indices], Expr], ConvHint | None]:
    """The element of Conv on the first three inputs, and what a fast schedule may rely on."""
    x_shape, w_shape, out = context.shape(0), context.shape(1), context.output().shape
    group = context.attribute("group", 1)
    kernel = w_shape[2:]
    span = window(context, kernel, x_shape[2:], out[2:])
    depth, width = w_shape[1], w_shape[0] // group

    def body(i: Indices) -> Expr:
        def product(k: Indices) -> Expr:
            channel = k[0] if group == 1 else add(mul(floor_div(i[1], build.dim(width)), build.dim(depth)), k[0])
            x = padded(context, i, k[1:], channel, span, like_zero(context))
            return apply(Op.MUL, x, context.element(1, [i[1], *k]))

        total = context.sum([depth, *kernel], product)
        return apply(Op.ADD, total, context.element(2, [i[1]])) if context.has(2) else total

    hint = None
    if span.static:
        hint = ConvHint(
            context.name(0),
            context.name(1),
            span.integer_kernel,
            span.strides,
            span.dilations,
            span.integer_pads,
            group,
        )
    return body, hint


def like_zero(context: NodeContext) -> Expr:
    """Zero in the type that the first input computes in."""
    return const(0, compute_type(context.dtype(0)))


def padded(context: NodeContext, i: Indices, offsets: Indices, channel: Expr, span: Window, fill: Expr) -> Expr:
    """The input element under a window, `fill` outside."""
    spatial, outputs = context.shape(0)[2:], context.output().shape[2:]
    inside: Expr = build.TRUE
    at: list[Expr] = []
    for axis, offset in enumerate(offsets):
        position = span.position(axis, i[2 + axis], offset)
        if span.can_leave(axis, spatial[axis], outputs[axis]):
            check = within(position, build.dim(spatial[axis]))
            inside = check if inside == build.TRUE else apply(Op.AND, inside, check)
        at.append(position)
    return build.select(inside, context.element(0, [i[0], channel, *at]), fill)


@lowering("MaxPool")
def _max_pool(context: NodeContext) -> None:
    kernel: tuple[int, ...] = context.attribute("kernel_shape", ())
    shown = 0 if context.wants(0) else 1
    span = window(context, kernel, context.shape(0)[2:], context.output(shown).shape[2:])
    if context.wants(1):
        max_pool_with_indices(context, span)
        return
    dtype = context.dtype(0)
    scalar = compute_type(dtype)
    lowest = const(float("-inf") if scalar.is_float else _minimum(dtype), scalar)
    context.emit(
        lambda i: context.reduce(ReduceOp.MAX, kernel, lambda k: padded(context, i, k, i[1], span, lowest)),
        hint=_pool_hint(context, "max", span),
    )


def _minimum(dtype: DType) -> int:
    return -(1 << (dtype.bits - 1)) if dtype.is_signed_integer else 0


def _pool_hint(context: NodeContext, kind: str, span: Window) -> PoolHint | None:
    if not span.static:
        return None
    return PoolHint(kind, context.name(0), span.integer_kernel, span.strides, span.dilations, span.integer_pads)


@lowering("AveragePool")
def _average_pool(context: NodeContext) -> None:
    kernel: tuple[int, ...] = context.attribute("kernel_shape", ())
    spatial, outputs = context.shape(0)[2:], context.output().shape[2:]
    span = window(context, kernel, spatial, outputs)
    include = context.node.opset >= 7 and context.attribute("count_include_pad", 0)

    def body(i: Indices) -> Expr:
        total = context.sum(kernel, lambda k: padded(context, i, k, i[1], span, like_zero(context)))
        count: Expr = Const(1)
        for axis, size in enumerate(kernel):
            count = mul(count, covered(span, axis, i[2 + axis], size, spatial[axis], outputs[axis], bool(include)))
        divisor = const(int(count.value), total.type) if isinstance(count, Const) else cast(_full_float(context), count)
        return apply(Op.DIV, total, divisor)

    context.emit(body, hint=_pool_hint(context, "average", span))


def _full_float(context: NodeContext) -> DType:
    return DType.FLOAT64 if context.dtype(0) is DType.FLOAT64 else DType.FLOAT32


def covered(span: Window, axis: int, output: Expr, size: int, extent: Dim, outputs: Dim, include: bool) -> Expr:
    """How many elements of a window count along an axis: those inside the input, or inside the padded input."""
    if not span.can_leave(axis, extent, outputs):
        return Const(size)
    step = span.dilations[axis]
    first = span.position(axis, output, Const(0))
    begin, end = span.pads[axis]
    low, high = (-begin, extent + end) if include else (0, extent)
    skipped = floor_div(add(apply(Op.MAX, build.sub(build.dim(low), first), Const(0)), step - 1), step)
    reached = floor_div(add(build.sub(build.dim(high), first), step - 1), step)
    return apply(Op.MAX, build.sub(apply(Op.MIN, reached, Const(size)), skipped), Const(0))
