"""Quantized operators: integer products in i32, scales applied in float32."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, f32, floor_div, mul
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contraction import window
from webdnn_backends.lower.elementwise import integer_range
from webdnn_backends.lower.movement import within
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape

__all__ = ["integer_range", "quantized"]

_NARROW_FLOATS = (
    DType.FLOAT8E4M3FN,
    DType.FLOAT8E4M3FNUZ,
    DType.FLOAT8E5M2,
    DType.FLOAT8E5M2FNUZ,
    DType.FLOAT4E2M1,
)
_LARGEST = {
    DType.FLOAT8E4M3FN: 448.0,
    DType.FLOAT8E4M3FNUZ: 240.0,
    DType.FLOAT8E5M2: 57344.0,
    DType.FLOAT8E5M2FNUZ: 57344.0,
    DType.FLOAT4E2M1: 6.0,
}


def quantized(x: Expr, scale: Expr, zero: Expr | None, dtype: DType, *, saturate: bool = True) -> Expr:
    """round(x / scale) + zero, saturated to an integer type; x / scale in a narrow float type."""
    ratio = apply(Op.DIV, x, scale if scale.type.is_float else cast(_float(x.type), scale))
    if dtype in _NARROW_FLOATS:
        if not saturate:
            return cast(dtype, ratio)
        limit = const(_LARGEST[dtype], ratio.type)
        bounded = apply(Op.MAX, apply(Op.MIN, ratio, limit), apply(Op.NEG, limit))
        return cast(dtype, bounded)
    low, high = integer_range(dtype)
    rounded = apply(Op.ROUND, ratio)
    if zero is not None and zero != const(0, zero.type):
        rounded = apply(Op.ADD, rounded, cast(_float(ratio.type), zero))
    bounded = apply(Op.MAX, apply(Op.MIN, rounded, const(high, ratio.type)), const(low, ratio.type))
    return cast(dtype, bounded)


def _float(type: Scalar) -> DType:
    return DType.FLOAT64 if type is Scalar.F64 else DType.FLOAT32


def parameter_indices(context: NodeContext, index: int, i: Indices) -> list[Expr]:
    """Where a scale or zero point of QuantizeLinear or DequantizeLinear lies for element `i`: a scalar, one per index
    of `axis`, or one per block along it."""
    shape = context.shape(index)
    rank = context.rank(0)
    if not shape or (len(shape) == 1 and shape[0] == 1 and not (rank == 1 and context.attribute("block_size", 0))):
        return [Const(0)] * len(shape)
    given, block = context.attribute("axis", 1), context.attribute("block_size", 0)
    if len(shape) == 1 and not block and not -rank <= given < rank:
        given = 0  # the default is 1, also where there is one axis, or one number for all
    axis = context.axis(given, rank)
    if len(shape) == 1 and (rank != 1 or not block):
        return [context.within(shape[0], i[axis])]
    if not block:
        return list(i)
    return [floor_div(at, block) if k == axis else at for k, at in enumerate(i)]


@lowering("QuantizeLinear", since=10)
@lowering("QuantizeLinear", domain="com.microsoft")
def _quantize_linear(context: NodeContext) -> None:
    dtype = context.output().dtype
    saturate = bool(context.attribute("saturate", 1))

    def body(i: Indices) -> Expr:
        scale = context.element(1, parameter_indices(context, 1, i))
        zero = context.element(2, parameter_indices(context, 2, i)) if context.has(2) else None
        x = context.element(0, i)
        if not x.type.is_float:
            x = cast(_float(scale.type), x)
        return quantized(x, scale, zero, dtype, saturate=saturate)

    context.emit(body)


@lowering("DequantizeLinear", since=10)
@lowering("DequantizeLinear", domain="com.microsoft")
def _dequantize_linear(context: NodeContext) -> None:
    full = _float(compute_type(context.output().dtype))

    def body(i: Indices) -> Expr:
        scale = cast(full, context.element(1, parameter_indices(context, 1, i)))
        x = context.element(0, i)
        if not context.has(2):
            return apply(Op.MUL, cast(full, x), scale)
        zero = context.element(2, parameter_indices(context, 2, i))
        if x.type.is_float:
            return apply(Op.MUL, cast(full, apply(Op.SUB, x, zero)), scale)
        difference = apply(Op.SUB, _signed(x), _signed(zero))
        return apply(Op.MUL, cast(full, difference), scale)

    context.emit(body)


def _signed(x: Expr) -> Expr:
    """A narrow integer as i32."""
    return x if x.type is Scalar.I32 else cast(DType.INT32, x)


@lowering("DynamicQuantizeLinear", since=11)
def _dynamic_quantize_linear(context: NodeContext) -> None:
    scale, zero = dynamic_parameters(context, context.name(0))
    context.emit(
        lambda i: quantized(context.element(0, i), context.read(scale, ()), context.read(zero, ()), DType.UINT8)
    )
    context.emit(lambda _: context.read(scale, ()), output=1)
    context.emit(lambda _: context.read(zero, ()), output=2)


def dynamic_parameters(context: NodeContext, tensor: str) -> tuple[str, str]:
    """Scale and uint8 zero point of a tensor by its range, zero included (DynamicQuantizeLinear), as scalar tensors."""
    shape = context.state.tensor(tensor).shape

    def extreme(op: ReduceOp) -> str:
        bound = Op.MAX if op is ReduceOp.MAX else Op.MIN
        return context.temporary(
            DType.FLOAT32,
            (),
            lambda _: apply(bound, context.reduce(op, shape, lambda k: context.read(tensor, k)), f32(0.0)),
        )

    high, low = extreme(ReduceOp.MAX), extreme(ReduceOp.MIN)

    def scale(_: Indices) -> Expr:
        span = apply(Op.DIV, apply(Op.SUB, context.read(high, ()), context.read(low, ())), f32(255.0))
        return build.select(apply(Op.EQ, span, f32(0.0)), f32(1.0), span)

    scale_name = context.temporary(DType.FLOAT32, (), scale)

    def zero(_: Indices) -> Expr:
        at = apply(Op.DIV, apply(Op.NEG, context.read(low, ())), context.read(scale_name, ()))
        return cast(DType.UINT8, apply(Op.ROUND, apply(Op.MIN, apply(Op.MAX, at, f32(0.0)), f32(255.0))))

    return scale_name, context.temporary(DType.UINT8, (), zero)


def centred(context: NodeContext, index: int, zero: int, at: Sequence[Expr], where: Sequence[Expr]) -> Expr:
    """An element less its zero point, as i32. where: indices of the zero point."""
    x = _signed(context.element(index, at))
    if not context.has(zero):
        return x
    return apply(Op.SUB, x, _signed(context.element(zero, where)))


def zero_indices(context: NodeContext, shape: Shape, along: Sequence[Expr]) -> list[Expr]:
    """Indices of a zero point or scale that is a scalar, one number, or has dimensions like the operand's."""
    if all(size == 1 for size in shape):
        return [Const(0)] * len(shape)
    if len(shape) == 1:
        return [context.within(shape[0], along[0])]
    return [context.within(size, at) for size, at in zip(shape, along[1:], strict=True)]


def integer_matmul(context: NodeContext, i: Indices, a: int, b: int, a_zero: int, b_zero: int) -> Expr:
    """Element `i` of the product of two quantized matrices, each less its zero point."""
    left, right = context.shape(a), context.shape(b)
    rows, columns = len(left) > 1, len(right) > 1
    lead = len(i) - rows - columns
    m, n = (i[lead] if rows else None), (i[-1] if columns else None)

    def batch(shape: Shape) -> list[Expr]:
        dims = shape[:-2]
        return [context.within(size, at) for size, at in zip(dims, i[lead - len(dims) : lead], strict=True)]

    def zero(index: int, along: list[Expr], vector: Expr) -> list[Expr]:
        return zero_indices(context, context.shape(index), [vector, *along]) if context.has(index) else []

    def product(k: Indices) -> Expr:
        at_a = [*batch(left), m, k[0]] if m is not None else [k[0]]
        at_b = [*batch(right), k[0], n] if n is not None else [k[0]]
        x = centred(context, a, a_zero, at_a, zero(a_zero, at_a, m if m is not None else Const(0)))
        y = centred(context, b, b_zero, at_b, zero(b_zero, at_b, n if n is not None else Const(0)))
        return apply(Op.MUL, x, y)

    return context.sum([left[-1]], product)


@lowering("MatMulInteger", since=10)
def _matmul_integer(context: NodeContext) -> None:
    context.emit(lambda i: integer_matmul(context, i, 0, 1, 2, 3))


def integer_conv(context: NodeContext, i: Indices, x: int, w: int, x_zero: int, w_zero: int) -> Expr:
    """Element `i` of the convolution of quantized tensors, each less its zero point, which is also the padding."""
    kernel = context.shape(w)[2:]
    spatial, outputs = context.shape(x)[2:], context.output().shape[2:]
    span = window(context, kernel, spatial, outputs)
    group = context.attribute("group", 1)
    depth = build.dim(context.shape(w)[1])
    per_group = floor_div(build.dim(context.shape(w)[0]), group)

    def product(k: Indices) -> Expr:
        channel = k[0] if group == 1 else add(mul(floor_div(i[1], per_group), depth), k[0])
        inside: Expr = build.TRUE
        at: list[Expr] = []
        for axis, offset in enumerate(k[1:]):
            position = span.position(axis, i[2 + axis], offset)
            if span.can_leave(axis, spatial[axis], outputs[axis]):
                check = within(position, build.dim(spatial[axis]))
                inside = check if inside == build.TRUE else apply(Op.AND, inside, check)
            at.append(position)
        x_at = [i[0], channel, *at]
        where = [Const(0)] * context.rank(x_zero) if context.has(x_zero) else []
        value = build.select(inside, centred(context, x, x_zero, x_at, where), Const(0))
        filter_zero = zero_indices(context, context.shape(w_zero), [i[1], i[1], *k]) if context.has(w_zero) else []
        return apply(Op.MUL, value, centred(context, w, w_zero, [i[1], *k], filter_zero))

    return context.sum([context.shape(w)[1], *kernel], product)


@lowering("ConvInteger", since=10)
def _conv_integer(context: NodeContext) -> None:
    context.emit(lambda i: integer_conv(context, i, 0, 1, 2, 3))


@lowering("QLinearConv", since=10)
def _qlinear_conv(context: NodeContext) -> None:
    dtype = context.output().dtype

    def body(i: Indices) -> Expr:
        total = integer_conv(context, i, 0, 3, 2, 5)
        if context.has(8):
            total = apply(Op.ADD, total, context.element(8, [i[1]]))
        return requantized(context, total, [(1, []), (4, [i[1]])], 6, 7, dtype)

    context.emit(body)


def requantized(
    context: NodeContext,
    total: Expr,
    scales: Sequence[tuple[int, Sequence[Expr]]],
    y_scale: int,
    y_zero: int,
    dtype: DType,
) -> Expr:
    """An i32 total times the scales of its operands, in the output's quantization."""

    def scalar(index: int, along: Sequence[Expr]) -> Expr:
        shape = context.shape(index)
        where = [Const(0)] * len(shape) if all(size == 1 for size in shape) or not along else list(along)
        return context.element(index, where)

    value = cast(DType.FLOAT32, total)
    for index, along in scales:
        value = apply(Op.MUL, value, scalar(index, along))
    zero = scalar(y_zero, ()) if context.has(y_zero) else None
    return quantized(value, scalar(y_scale, ()), zero, dtype)


def _row(i: Indices) -> Expr:
    """The row of a matrix product's element; 0 where the product is a vector."""
    return i[-2] if len(i) > 1 else Const(0)


@lowering("QLinearMatMul", since=10)
def _qlinear_matmul(context: NodeContext) -> None:
    dtype = context.output().dtype

    def body(i: Indices) -> Expr:
        total = integer_matmul(context, i, 0, 3, 2, 5)
        rows = zero_indices(context, context.shape(1), [_row(i), *i[:-1], Const(0)])
        columns = zero_indices(context, context.shape(4), [i[-1], *i[:-2], Const(0), i[-1]])
        return requantized(context, total, [(1, rows), (4, columns)], 6, 7, dtype)

    context.emit(body)


@lowering("MatMulIntegerToFloat", domain="com.microsoft")
def _matmul_to_float(context: NodeContext) -> None:
    def body(i: Indices) -> Expr:
        total = cast(DType.FLOAT32, integer_matmul(context, i, 0, 1, 4, 5))
        a_scale = context.element(2, zero_indices(context, context.shape(2), [_row(i), *i[:-1], Const(0)]))
        b_scale = context.element(3, zero_indices(context, context.shape(3), [i[-1], *i[:-2], Const(0), i[-1]]))
        value = apply(Op.MUL, total, apply(Op.MUL, a_scale, b_scale))
        return apply(Op.ADD, value, context.element(6, [i[-1]])) if context.has(6) else value

    context.emit(body)
