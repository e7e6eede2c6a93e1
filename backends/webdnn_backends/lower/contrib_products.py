"""com.microsoft: matrix products and convolutions fused with what follows, or on weights packed in a few bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contraction import convolution, gemm, scaled, window
from webdnn_backends.lower.contrib_activations import fused_activation
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.formulas import all_of, as_type, below, less, minus, plus, times, wide_dtype
from webdnn_backends.lower.movement import unflatten, wrapped_index
from webdnn_backends.lower.packed_bits import unpacked
from webdnn_backends.lower.packed_product import lower_packed_product
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import MatMulHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


@lowering("FusedMatMul", domain=MS)
@lowering("TransposeMatMul", domain=MS)
def _fused_matmul(context: NodeContext) -> None:
    left = _arranged(context, 0, "A")
    right = _arranged(context, 1, "B")
    rows, columns = context.rank(0) > 1, context.rank(1) > 1
    depth = left[0][-1]

    def body(i: Indices) -> Expr:
        lead = len(i) - rows - columns

        def product(k: Indices) -> Expr:
            x = _element(left, i[:lead], [i[lead], *k] if rows else [*k])
            y = _element(right, i[:lead], [*k, i[-1]] if columns else [*k])
            return times(x, y)

        return scaled(context.sum([depth], product), context.attribute("alpha", 1.0))

    context.emit(body, hint=MatMulHint())


_Arranged = tuple[Shape, Callable[[Sequence[Expr]], Expr]]


def _arranged(context: NodeContext, index: int, name: str) -> _Arranged:
    """An operand after its transpositions: its shape, and its elements."""
    order = list(range(context.rank(index)))
    if context.attribute(f"transBatch{name}", 0) and len(order) > 2:
        order = [*order[1:-1], order[0], order[-1]]
    if context.attribute(f"trans{name}", 0) and len(order) > 1:
        order[-1], order[-2] = order[-2], order[-1]
    shape = context.shape(index)

    def element(i: Sequence[Expr]) -> Expr:
        at: list[Expr] = [Const(0)] * len(order)
        for axis, place in zip(order, i, strict=True):
            at[axis] = place
        return context.element(index, at)

    return tuple(shape[axis] for axis in order), element


def _element(operand: _Arranged, batch: Sequence[Expr], matrix: Sequence[Expr]) -> Expr:
    """An element by output batch indices, of which missing and size-1 axes are broadcast."""
    shape, element = operand
    dims = shape[: len(shape) - len(matrix)]
    aligned = batch[len(batch) - len(dims) :]
    at = [Const(0) if size == 1 else index for size, index in zip(dims, aligned, strict=True)]
    return element([*at, *matrix])


@lowering("FusedGemm", domain=MS)
def _fused_gemm(context: NodeContext) -> None:
    given = (context.node.attributes.get(name) for name in ("activation_alpha", "activation_beta"))
    activate = fused_activation(context, [float(value) for value in given if isinstance(value, float)])
    product = context.temporary(
        wide_dtype(context.dtype(0)), context.output().shape, lambda i: gemm(context, i), MatMulHint()
    )
    context.emit(lambda i: activate(context.read(product, i)))


@lowering("FusedConv", domain=MS)
def _fused_conv(context: NodeContext) -> None:
    activate = fused_activation(context, context.attribute("activation_params", ()))
    body, hint = convolution(context)
    product = context.temporary(wide_dtype(context.dtype(0)), context.output().shape, body, hint)

    def result(i: Indices) -> Expr:
        y = context.read(product, i)
        return activate(plus(y, context.element(3, i)) if context.has(3) else y)

    context.emit(result)


@lowering("MatMulNBits", domain=MS)
def _matmul_n_bits(context: NodeContext) -> None:
    if context.attribute("weight_prepacked", 0):
        raise InvalidModelError(f"{context.where}: weight_prepacked: expected 0, the portable layout, got 1")
    if lower_packed_product(context):
        return
    depth, bits = context.attribute("K", 0), context.attribute("bits", 4)
    size = context.attribute("block_size", 32)
    blocks = -(-depth // size)
    scalar = compute_type(wide_dtype(context.dtype(0)))
    empty = context.state.tensor(context.name(1)).elements == 0

    def weight_value(n: Expr, k: Expr) -> Expr:
        row = context.shape(1)[1:]
        return unpacked(lambda at: context.element(1, [n, *unflatten(at, row)]), k, bits)

    def zero_point(n: Expr, block: Expr) -> Expr:
        if not context.has(3):
            return const(1 << (bits - 1), scalar)
        if context.dtype(3) is not DType.UINT8:
            return as_type(scalar, _row_element(context, 3, n, block, blocks))
        bytes_ = -(-blocks * bits // 8)
        return as_type(scalar, unpacked(lambda at: _row_element(context, 3, n, at, bytes_), block, bits))

    def scale(n: Expr, block: Expr) -> Expr:
        return as_type(scalar, _row_element(context, 2, n, block, blocks))

    def body(i: Indices) -> Expr:
        n = i[-1]

        def grouped(k: Indices) -> Expr:
            block = cast(DType.INT32, context.element(4, k))
            weight = times(minus(as_type(scalar, weight_value(n, k[0])), zero_point(n, block)), scale(n, block))
            return times(context.element(0, [*i[:-1], *k]), weight)

        def in_block(b: Indices) -> Expr:
            def term(k: Indices) -> Expr:
                place = add(mul(b[0], size), k[0])
                weight = minus(as_type(scalar, weight_value(n, place)), zero_point(n, b[0]))
                value = times(context.element(0, [*i[:-1], place]), weight)
                return value if depth % size == 0 else build.select(less(place, depth), value, const(0, scalar))

            return times(context.sum([min(size, depth)], term), scale(n, b[0]))

        if empty:
            total: Expr = const(0, scalar)
        else:
            total = context.sum([depth], grouped) if context.has(4) else context.sum([blocks], in_block)
        return plus(total, as_type(scalar, context.element(5, [n]))) if context.has(5) else total

    context.emit(body)


def _row_element(context: NodeContext, index: int, row: Expr, column: Expr, columns: int) -> Expr:
    """An element of a table of rows, which may be stored flat or with more axes."""
    shape = context.shape(index)
    if len(shape) == 2:
        return context.element(index, [row, column])
    return context.element(index, unflatten(add(mul(row, columns), column), shape))


_FP4 = (0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4)
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Quantiles of the normal distribution, from QLoRA (https://arxiv.org/abs/2305.14314), appendix E."""


@lowering("MatMulBnb4", domain=MS)
def _matmul_bnb4(context: NodeContext) -> None:
    depth, width = context.attribute("K", 0), context.attribute("N", 0)
    size, kind = context.attribute("block_size", 16), context.attribute("quant_type", 1)
    transposed = context.attribute("transB", 1)
    codes = _NF4 if kind else (*_FP4, *(-value for value in _FP4))
    table = context.table(np.array(codes, np.float32))
    scalar = compute_type(wide_dtype(context.dtype(0)))

    def weight(n: Expr, k: Expr) -> Expr:
        place = add(mul(n, depth), k)
        byte = cast(DType.INT32, context.element(1, unflatten(floor_div(place, 2), context.shape(1))))
        shift = mul(apply(Op.SUB, Const(1), floor_mod(place, 2)), 4)
        code = apply(Op.BIT_AND, apply(Op.SHR, byte, shift), Const(15))
        scale = context.element(2, unflatten(floor_div(place, size), context.shape(2)))
        return times(as_type(scalar, context.read(table, [code])), as_type(scalar, scale))

    def body(i: Indices) -> Expr:
        def product(k: Indices) -> Expr:
            factor = weight(i[-1], k[0]) if transposed else weight(k[0], i[-1])
            return times(context.element(0, [*i[:-1], *k]), factor)

        return context.sum([depth if transposed else width], product)

    context.emit(body)


@lowering("GatherBlockQuantized", domain=MS)
def _gather_block_quantized(context: NodeContext) -> None:
    rank = context.rank(0)
    gathered = context.axis(context.attribute("gather_axis", 0), rank)
    along = context.axis(context.attribute("quantize_axis", 1), rank)
    bits, block = context.attribute("bits", 4), context.attribute("block_size", 128)
    packed = context.dtype(0) is DType.UINT8
    per = 8 // bits if packed else 1
    shape: list[Dim] = list(context.shape(0))
    shape[-1] = shape[-1] * per
    inner = context.rank(1)
    scalar = compute_type(wide_dtype(context.dtype(2)))
    size = shape[gathered]

    def value(index: int, at: Sequence[Expr]) -> Expr:
        """An element of the table or of the zero points, as I32 or a float."""
        if packed:
            return unpacked(lambda byte: context.element(index, [*at[:-1], byte]), at[-1], bits)
        found = context.element(index, at)
        return found if found.type.is_float else cast(DType.INT32, found)

    def body(i: Indices) -> Expr:
        chosen = wrapped_index(context, 1, i[gathered : gathered + inner], build.dim(size))
        known = below(chosen, size)
        row = build.select(known, chosen, Const(0))
        at = [*i[:gathered], row, *i[gathered + inner :]]
        place = list(at)
        place[along] = floor_div(at[along], block) if block else Const(0)
        number = value(0, at)
        if context.has(3):
            zero = value(3, place)
            number = minus(as_type(number.type, number), as_type(number.type, zero))
        elif packed:
            number = minus(number, 1 << (bits - 1))
        scale = context.element(2, place)
        real = times(as_type(scalar, number), as_type(scalar, scale))
        return build.select(all_of(known), real, const(0, scalar))

    context.emit(body)


@lowering("MatMulInteger16", domain=MS)
def _matmul_integer16(context: NodeContext) -> None:
    to = Scalar.U32 if context.output().dtype is DType.UINT32 else Scalar.I32
    left, right = (context.shape(index) for index in (0, 1))

    def body(i: Indices) -> Expr:
        lead = len(i) - 2

        def at(shape: Shape, matrix: Sequence[Expr]) -> list[Expr]:
            dims = shape[:-2]
            batch = i[lead - len(dims) : lead]
            return [*(Const(0) if size == 1 else b for size, b in zip(dims, batch, strict=True)), *matrix]

        def product(k: Indices) -> Expr:
            x = as_type(to, context.element(0, at(left, [i[-2], *k])))
            return times(x, as_type(to, context.element(1, at(right, [*k, i[-1]]))))

        return context.sum([left[-1]], product)

    context.emit(body)


@lowering("NhwcFusedConv", domain=MS)
def _nhwc_fused_conv(context: NodeContext) -> None:
    activate = fused_activation(context, context.attribute("activation_params", ()))
    shape, weights, outputs = context.shape(0), context.shape(1), context.output().shape[1:-1]
    kernel = tuple(size for size in weights[2:] if isinstance(size, int))
    if len(kernel) != len(weights) - 2:
        raise context.unsupported("a kernel of unknown size")
    span = window(context, kernel, shape[1:-1], outputs)
    group, depth = context.attribute("group", 1), weights[1]
    width = weights[0] // group

    def body(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            channel = k[0]
            if group != 1:
                channel = add(mul(floor_div(i[-1], build.dim(width)), build.dim(depth)), k[0])
            places = [span.position(axis, i[1 + axis], k[1 + axis]) for axis in range(len(kernel))]
            inside = all_of(*(below(place, size) for place, size in zip(places, shape[1:-1], strict=True)))
            value = times(context.element(0, [i[0], *places, channel]), context.element(1, [i[-1], *k]))
            return build.select(inside, value, const(0, value.type))

        total = context.sum([depth, *kernel], term)
        if context.has(2):
            total = plus(total, context.element(2, [i[-1]]))
        return activate(plus(total, context.element(3, i)) if context.has(3) else total)

    context.emit(body)
