"""Det and com.microsoft Inverse: elimination with partial pivoting, parallel over matrices."""

from __future__ import annotations

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, const
from webdnn_backends.ir.loops import Access, Assign, Expr, If, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.direct import Direct, Operand, loop, nest
from webdnn_backends.lower.formulas import equal, minus, over, times, wide_dtype
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_COLUMN, _ROW, _PLACE, _PIVOT = Var("column"), Var("row"), Var("place"), Var("pivot")


def _batch(rank: int) -> list[Expr]:
    return [Var(f"i{axis}") for axis in range(rank)]


def _find_pivot(matrix: Operand, batch: list[Expr], size: Dim, scalar: Scalar) -> tuple[Stmt, ...]:
    """`pivot`: the row at or below `column` with the greatest element in that column."""
    best, value = Var("best", scalar), Var("value", scalar)
    return (
        Local("pivot", Scalar.I32, _COLUMN),
        Local("best", scalar, apply(Op.ABS, matrix.load([*batch, _COLUMN, _COLUMN]))),
        loop(
            "row",
            build.sub(build.sub(build.dim(size), _COLUMN), 1),
            Local("value", scalar, apply(Op.ABS, matrix.load([*batch, _ROW, _COLUMN]))),
            If(apply(Op.GT, value, best), (Assign("best", value), Assign("pivot", _ROW))),
            start=build.add(_COLUMN, 1),
        ),
    )


def _swap_rows(matrix: Operand, batch: list[Expr], width: Dim, scalar: Scalar) -> Stmt:
    """Rows `column` and `pivot` of the matrix exchanged."""
    held = Var("held", scalar)
    return loop(
        "place",
        width,
        Local("held", scalar, matrix.load([*batch, _COLUMN, _PLACE])),
        matrix.store([*batch, _COLUMN, _PLACE], matrix.load([*batch, _PIVOT, _PLACE])),
        matrix.store([*batch, _PIVOT, _PLACE], held),
    )


@lowering("Det", since=11)
def _det(context: NodeContext) -> None:
    shape, wide = context.shape(0), wide_dtype(context.dtype(0))
    scalar, size, lead = compute_type(wide), shape[-1], len(shape) - 2
    work = context.state.tensor(context.temporary(wide, shape, lambda i: context.element(0, i)))
    kernel = Direct(context, "determinant")
    matrix = kernel.write(work, access=Access.READ_WRITE)
    y = kernel.output()
    batch = _batch(lead)
    total, factor, diagonal = Var("total", scalar), Var("factor", scalar), Var("diagonal", scalar)
    rest = build.sub(build.sub(build.dim(size), _COLUMN), 1)
    after = build.add(_COLUMN, 1)
    change = minus(matrix.load([*batch, _ROW, _PLACE]), times(factor, matrix.load([*batch, _COLUMN, _PLACE])))
    eliminate = loop(
        "row",
        rest,
        Local("factor", scalar, over(matrix.load([*batch, _ROW, _COLUMN]), diagonal)),
        loop("place", rest, matrix.store([*batch, _ROW, _PLACE], change), start=after),
        start=after,
    )
    kernel.run(
        *nest(
            [f"i{axis}" for axis in range(lead)],
            shape[:-2],
            Local("total", scalar, const(1, scalar)),
            loop(
                "column",
                size,
                *_find_pivot(matrix, batch, size, scalar),
                If(
                    apply(Op.NE, _PIVOT, _COLUMN),
                    (_swap_rows(matrix, batch, size, scalar), Assign("total", apply(Op.NEG, total))),
                ),
                Local("diagonal", scalar, matrix.load([*batch, _COLUMN, _COLUMN])),
                Assign("total", times(total, diagonal)),
                If(apply(Op.NE, diagonal, const(0, scalar)), (eliminate,)),
            ),
            y.store(batch, total),
            parallel=True,
        )
    )


@lowering("Inverse", domain=MS)
def _inverse(context: NodeContext) -> None:
    """Gauss-Jordan elimination of [X | 1]."""
    shape, wide = context.shape(0), wide_dtype(context.dtype(0))
    scalar, size, lead = compute_type(wide), shape[-1], len(shape) - 2
    width = size * 2

    def augmented(i: tuple[Expr, ...]) -> Expr:
        inside = apply(Op.LT, i[-1], build.dim(size))
        unit = equal(build.sub(i[-1], build.dim(size)), i[-2])
        return build.select(inside, context.element(0, i), build.select(unit, const(1, scalar), const(0, scalar)))

    work = context.state.tensor(context.temporary(wide, (*shape[:-1], width), augmented))
    kernel = Direct(context, "inverse")
    matrix = kernel.write(work, access=Access.READ_WRITE)
    batch = _batch(lead)
    factor, diagonal = Var("factor", scalar), Var("diagonal", scalar)
    change = minus(matrix.load([*batch, _ROW, _PLACE]), times(factor, matrix.load([*batch, _COLUMN, _PLACE])))
    eliminate = loop(
        "row",
        size,
        If(
            apply(Op.NE, _ROW, _COLUMN),
            (
                Local("factor", scalar, matrix.load([*batch, _ROW, _COLUMN])),
                loop("place", width, matrix.store([*batch, _ROW, _PLACE], change)),
            ),
        ),
    )
    scale = loop(
        "place",
        width,
        matrix.store([*batch, _COLUMN, _PLACE], over(matrix.load([*batch, _COLUMN, _PLACE]), diagonal)),
    )
    kernel.run(
        *nest(
            [f"i{axis}" for axis in range(lead)],
            shape[:-2],
            loop(
                "column",
                size,
                *_find_pivot(matrix, batch, size, scalar),
                If(apply(Op.NE, _PIVOT, _COLUMN), (_swap_rows(matrix, batch, width, scalar),)),
                Local("diagonal", scalar, matrix.load([*batch, _COLUMN, _COLUMN])),
                scale,
                eliminate,
            ),
            parallel=True,
        )
    )
    context.emit(lambda i: context.read(work.name, [*i[:-1], build.add(i[-1], build.dim(size))]))
