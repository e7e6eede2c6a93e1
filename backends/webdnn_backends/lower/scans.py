"""Operators that walk along an axis: cumulative sums and products, ArgMax and ArgMin, Hardmax."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, const
from webdnn_backends.ir.loops import Assign, Const, Expr, If, Load, Local, ReduceOp, Stmt, Store, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, loop, nest
from webdnn_backends.lower.reduction import softmax_axes
from webdnn_backends.lower.registry import LOWERINGS, lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, equal, less, product, select

__all__: list[str] = []


def around(context: NodeContext, axis: Dim, shape: Sequence[Dim]) -> tuple[Dim, Dim, Dim]:
    """How many elements lie before an axis, along it and behind it; the axis may be known only at run time."""
    rank = len(shape)
    if isinstance(axis, int):
        at = context.axis(axis, rank)
        return product(list(shape[:at])), shape[at], product(list(shape[at + 1 :]))
    axis = select(less(axis, 0), axis + rank, axis)
    before = [select(less(d, axis), size, 1) for d, size in enumerate(shape)]
    behind = [select(less(axis, d), size, 1) for d, size in enumerate(shape)]
    along = sum((equal(axis, d) * size for d, size in enumerate(shape)), start=0)
    outer, length, inner = (context.state.short(size, 1) for size in (product(before), along, product(behind)))
    return outer, length, inner


def _cumulative(name: str, op: Op, start: int) -> None:
    def lower(context: NodeContext) -> None:
        given = context.integers(1, 1)
        if given is None:
            raise context.unsupported("an axis that is no single integer")
        shape, dtype = context.shape(0), context.dtype(0)
        outer, length, inner = around(context, given[0], shape)
        exclusive, reverse = context.attribute("exclusive", 0), context.attribute("reverse", 0)
        kernel = Direct(context, name.lower())
        x, y = kernel.input(0), kernel.output()
        scalar = compute_type(dtype)
        step = Var("step")
        along = build.sub(build.sub(build.dim(length), 1), step) if reverse else step
        at = build.add(
            build.mul(build.add(build.mul(Var("outer"), build.dim(length)), along), build.dim(inner)), Var("inner")
        )
        total = Var("total", scalar)
        advance = Assign("total", cast(dtype, apply(op, total, Load(x.buffer, at, scalar))))
        write = Store(y.buffer, at, total)
        walk: tuple[Stmt, ...] = (write, advance) if exclusive else (advance, write)
        body = (Local("total", scalar, const(start, scalar)), loop("step", length, *walk))
        kernel.run(*nest(("outer", "inner"), (outer, inner), *body, parallel=True))

    LOWERINGS.add(name, 1, lower)


_cumulative("CumSum", Op.ADD, 0)
_cumulative("CumProd", Op.MUL, 1)


def _arg(name: str, op: Op) -> None:
    def lower(context: NodeContext) -> None:
        shape = context.shape(0)
        axis = context.axis(context.attribute("axis", 0), len(shape))
        keep = context.attribute("keepdims", 1)
        last = context.attribute("select_last_index", 0)
        kernel = Direct(context, name.lower())
        x, y = kernel.input(0), kernel.output()
        at: list[Expr] = [Var(f"i{k}") for k in range(len(shape))]
        others = [f"i{k}" for k in range(len(shape)) if k != axis]
        result: list[Expr] = [Const(0) if k == axis else index for k, index in enumerate(at) if keep or k != axis]
        best, where, value = Var("best", x.load(at).type), Var("where"), Var("value", x.load(at).type)
        better = apply(_INCLUSIVE[op] if last else op, value, best)
        if value.type.is_float:
            better = apply(Op.OR, better, _first_nan(value, best, bool(last)))
        first = [Const(0) if k == axis else index for k, index in enumerate(at)]
        body = (
            Local("best", best.type, x.load(first)),
            Local("where", Scalar.I32, Const(0)),
            loop(
                f"i{axis}",
                build.sub(build.dim(shape[axis]), 1),
                Local("value", value.type, x.load(at)),
                If(better, (Assign("best", value), Assign("where", at[axis]))),
                start=Const(1),
            ),
            y.store(result, cast(DType.INT64, where)),
        )
        extents = [size for k, size in enumerate(shape) if k != axis]
        kernel.run(*nest(others, extents, *body, parallel=True))

    LOWERINGS.add(name, 1, lower)


_INCLUSIVE = {Op.GT: Op.GE, Op.LT: Op.LE}


def _first_nan(value: Expr, best: Expr, last: bool) -> Expr:
    """NaN wins, the first one or the last one."""
    nan = apply(Op.IS_NAN, value)
    return nan if last else apply(Op.AND, nan, apply(Op.NOT, apply(Op.IS_NAN, best)))


_arg("ArgMax", Op.GT)
_arg("ArgMin", Op.LT)


@lowering("Hardmax")
def _hardmax(context: NodeContext) -> None:
    axes, shape = softmax_axes(context), context.shape(0)
    extents = [shape[axis] for axis in axes]
    reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))

    def at(i: Indices, k: Indices) -> list[Expr]:
        inner = iter(k)
        return [next(inner) if axis in axes else index for axis, index in enumerate(i)]

    def row(i: Indices) -> list[Expr]:
        return [Const(0) if axis in axes else index for axis, index in enumerate(i)]

    def flat(k: Indices) -> Expr:
        total: Expr = Const(0)
        for index, size in zip(k, extents, strict=True):
            total = build.add(build.mul(total, build.dim(size)), index)
        return total

    peak = context.temporary(
        context.dtype(0),
        reduced,
        lambda i: context.reduce(ReduceOp.MAX, extents, lambda k: context.element(0, at(i, k))),
    )

    def first_peak(i: Indices) -> Expr:
        def candidate(k: Indices) -> Expr:
            hit = apply(Op.EQ, context.element(0, at(i, k)), context.read(peak, row(i)))
            return build.select(hit, flat(k), Const(2**31 - 1))

        return context.reduce(ReduceOp.MIN, extents, candidate)

    first = context.temporary(DType.INT32, reduced, first_peak)

    def body(i: Indices) -> Expr:
        hit = apply(Op.EQ, flat(tuple(i[axis] for axis in axes)), context.read(first, row(i)))
        scalar = compute_type(context.dtype(0))
        return build.select(hit, const(1, scalar), const(0, scalar))

    context.emit(body)
