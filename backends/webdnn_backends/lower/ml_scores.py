"""What the ai.onnx.ml operators share: feature matrices, scores, labels and post-transforms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from webdnn_backends.ir.build import apply, cast, const, select
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.te.tensors import Host
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim

__all__ = ["DOMAIN", "Features", "arg_max", "emit_labels", "emit_transformed", "features", "labels_of", "second_class"]

DOMAIN = "ai.onnx.ml"

Features = tuple[Dim, Dim, Callable[[Expr, Expr], Expr]]
"""Rows, columns, and the element at (row, column) in the type to compute in."""


def wide_type(context: NodeContext) -> DType:
    """Scores are computed in float64 for float64 features, else in float32."""
    return DType.FLOAT64 if context.dtype(0) is DType.FLOAT64 else DType.FLOAT32


def features(context: NodeContext) -> Features:
    """The first input as a matrix; a vector is one row."""
    shape, wide = context.shape(0), wide_type(context)
    if len(shape) == 1:
        return 1, shape[0], lambda _, column: cast(wide, context.element(0, (column,)))
    return shape[0], shape[1], lambda row, column: cast(wide, context.element(0, (row, column)))


def labels_of(context: NodeContext) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]] | tuple[str, ...]:
    """The class labels. Raises InvalidModelError unless exactly one kind is given."""
    strings: tuple[str, ...] = context.attribute("classlabels_strings", ())
    integers: tuple[int, ...] = context.attribute("classlabels_ints", ()) or context.attribute("classlabels_int64s", ())
    if bool(strings) == bool(integers):
        raise InvalidModelError(f"{context.where}: class labels: expected integers or strings, got both or neither")
    return strings or np.array(integers, np.int64)


def emit_labels(
    context: NodeContext, chosen: str, labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | Sequence[str]
) -> None:
    """Output 0: the label at each row's chosen position (an int32 tensor)."""
    if not context.wants(0):
        return
    if isinstance(labels, np.ndarray):
        table = context.table(labels)
        context.emit(lambda i: context.read(table, (context.read(chosen, i),)))
        return
    target = context.state.tensor(context.node.outputs[0])
    options = {"labels": list(labels)}
    context.state.items.append(Host("string_labels", (chosen,), (target.name,), options, context.node.source))


def arg_max(context: NodeContext, scores: str, rows: Dim, count: int) -> str:
    """The first position of each row's greatest score, as int32."""
    shape = (rows,)
    type = compute_type(context.state.tensors[scores].dtype)
    dtype = DType.FLOAT64 if type is Scalar.F64 else DType.FLOAT32 if type is Scalar.F32 else DType.INT32

    def peak(i: Indices) -> Expr:
        return context.reduce(ReduceOp.MAX, [count], lambda k: context.read(scores, (i[0], k[0])))

    best = context.temporary(dtype, shape, peak)

    def first(i: Indices) -> Expr:
        def candidate(k: Indices) -> Expr:
            hit = apply(Op.EQ, context.read(scores, (i[0], k[0])), context.read(best, i))
            return select(hit, k[0], Const(count - 1))

        return context.reduce(ReduceOp.MIN, [count], candidate)

    return context.temporary(DType.INT32, shape, first)


def _logistic(x: Expr) -> Expr:
    one = like(x, 1)
    return apply(Op.DIV, one, apply(Op.ADD, one, apply(Op.EXP, apply(Op.NEG, x))))


def emit_transformed(context: NodeContext, scores: str, shape: Shape, transform: str, output: int) -> None:
    """An output by scores [N, C] after a post-transform."""

    def put(body: Callable[[Indices], Expr]) -> None:
        dtype = context.output(output).dtype
        context.emit(lambda i: cast(dtype, body(i)), output=output)

    if not context.wants(output):
        return
    dtype = context.state.tensors[scores].dtype
    match transform:
        case "NONE":
            put(lambda i: context.read(scores, i))
        case "LOGISTIC":
            put(lambda i: _logistic(context.read(scores, i)))
        case "PROBIT":
            quantile = _probit(context, scores, shape)
            put(lambda i: context.read(quantile, i))
        case "SOFTMAX" | "SOFTMAX_ZERO":
            put(_softmax(context, scores, shape, dtype, zero=transform == "SOFTMAX_ZERO"))
        case other:
            raise InvalidModelError(f"{context.where}: post_transform: expected a known one, got '{other}'")


def _softmax(context: NodeContext, scores: str, shape: Shape, dtype: DType, *, zero: bool) -> Callable[[Indices], Expr]:
    rows, classes = shape
    peak = context.temporary(
        dtype, (rows,), lambda i: context.reduce(ReduceOp.MAX, [classes], lambda k: context.read(scores, (i[0], k[0])))
    )

    def power(row: Expr, column: Expr) -> Expr:
        x = context.read(scores, (row, column))
        result = apply(Op.EXP, apply(Op.SUB, x, context.read(peak, (row,))))
        return select(_is_zero(x), like(x, 0), result) if zero else result

    total = context.temporary(dtype, (rows,), lambda i: context.sum([classes], lambda k: power(i[0], k[0])))

    def body(i: Indices) -> Expr:
        x, sum_ = context.read(scores, i), context.read(total, (i[0],))
        above = power(i[0], i[1])
        if zero:
            scaled = apply(Op.MUL, x, apply(Op.EXP, apply(Op.NEG, context.read(peak, (i[0],)))))
            above = select(_is_zero(x), scaled, above)
            sum_ = select(apply(Op.EQ, sum_, like(x, 0)), like(x, 1), sum_)
        return apply(Op.DIV, above, sum_)

    return body


def _is_zero(x: Expr) -> Expr:
    return apply(Op.LE, apply(Op.ABS, x), like(x, 1e-7))


def _probit(context: NodeContext, scores: str, shape: Shape) -> str:
    """The quantile of the normal distribution: sqrt(2) erfinv(2p - 1), by Winitzki's start and Halley's steps."""
    dtype = context.state.tensors[scores].dtype
    scalar = compute_type(dtype)

    def number(value: float) -> Expr:
        return const(value, scalar)

    def argument(i: Indices) -> Expr:
        return apply(Op.SUB, apply(Op.MUL, number(2), context.read(scores, i)), number(1))

    def inner(i: Indices) -> Expr:
        y = argument(i)
        return select(apply(Op.LT, apply(Op.ABS, y), number(1)), y, number(0))

    clipped = context.temporary(dtype, shape, inner)
    a = 0.147

    def start(i: Indices) -> Expr:
        y = context.read(clipped, i)
        logarithm = apply(Op.LOG, apply(Op.SUB, number(1), apply(Op.MUL, y, y)))
        first = apply(Op.ADD, number(2 / (math.pi * a)), apply(Op.MUL, logarithm, number(0.5)))
        root = apply(Op.SQRT, apply(Op.SUB, apply(Op.MUL, first, first), apply(Op.DIV, logarithm, number(a))))
        size = apply(Op.SQRT, apply(Op.MAX, apply(Op.SUB, root, first), number(0)))
        return select(apply(Op.LT, y, number(0)), apply(Op.NEG, size), size)

    x = context.temporary(dtype, shape, start)
    for _ in range(3):

        def step(i: Indices, before: str = x) -> Expr:
            value = context.read(before, i)
            error = apply(Op.SUB, apply(Op.ERF, value), context.read(clipped, i))
            slope = apply(Op.MUL, number(math.sqrt(math.pi) / 2), apply(Op.EXP, apply(Op.MUL, value, value)))
            change = apply(Op.MUL, error, slope)
            return apply(Op.SUB, value, apply(Op.DIV, change, apply(Op.ADD, number(1), apply(Op.MUL, value, change))))

        x = context.temporary(dtype, shape, step)

    def result(i: Indices) -> Expr:
        y = argument(i)
        end = select(apply(Op.LT, y, number(0)), number(-math.inf), number(math.inf))
        outside = select(apply(Op.EQ, apply(Op.ABS, y), number(1)), end, number(math.nan))
        inside = apply(Op.MUL, number(math.sqrt(2)), context.read(x, i))
        return select(apply(Op.LT, apply(Op.ABS, y), number(1)), inside, outside)

    return context.temporary(dtype, shape, result)


def second_class(context: NodeContext, score: str, rows: Dim, transform: str, *, symmetric: bool) -> None:
    """Output 1: two columns from the one score [N, 1] of the positive class; the first has the negated score where
    `symmetric` or for LOGISTIC, else 1 - score. Only LOGISTIC and PROBIT apply."""
    dtype = context.state.tensors[score].dtype

    def pair(i: Indices) -> Expr:
        x = context.read(score, (i[0], Const(0)))
        other = apply(Op.NEG, x) if symmetric or transform == "LOGISTIC" else apply(Op.SUB, like(x, 1), x)
        return select(apply(Op.EQ, i[1], Const(0)), other, x)

    both = context.temporary(dtype, (rows, 2), pair)
    emit_transformed(context, both, (rows, 2), transform if transform in ("LOGISTIC", "PROBIT") else "NONE", 1)
