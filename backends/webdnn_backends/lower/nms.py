"""NonMaxSuppression: sort, select, count, then write as many rows as there are.

The boxes of each class are sorted by score; one kernel, parallel over batches and classes, keeps the boxes that no
better one overlaps; the number of all kept boxes becomes the size of the output.
"""

from __future__ import annotations

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const
from webdnn_backends.ir.loops import Access, Assign, Const, Expr, If, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, loop, nest
from webdnn_backends.lower.formulas import (
    all_of,
    as_type,
    at_least,
    at_most,
    less,
    minus,
    over,
    plus,
    times,
    wide_dtype,
)
from webdnn_backends.lower.registry import lowering
from webdnn_backends.lower.topk import order_of
from webdnn_backends.te.tensors import Tensor
from webdnn_onnx.dtypes import DType

__all__: list[str] = []

_BATCH, _CLASS = Var("batch"), Var("class_")


@lowering("NonMaxSuppression", since=10)
def _non_max_suppression(context: NodeContext) -> None:
    batches, classes, boxes = context.shape(1)
    order = order_of(context, context.name(1), 2, boxes, largest=True)
    kept, numbers = _select(context, order)
    total = context.scratch(DType.INT64, (1,))
    starts = context.scratch(DType.INT32, (batches, classes))
    counting = Direct(context, "count_boxes")
    number = counting.read(numbers.name)
    first, whole = counting.write(starts), counting.write(total)
    place = [_BATCH, _CLASS]
    counting.run(
        Local("sum", Scalar.I32, Const(0)),
        *nest(
            ("batch", "class_"),
            (batches, classes),
            first.store(place, Var("sum")),
            Assign("sum", add(Var("sum"), number.load(place))),
        ),
        whole.store([0], cast(DType.INT64, Var("sum"))),
    )
    context.measure({0: (total.name, 0)})
    writing = Direct(context, "write_boxes")
    source, number, first = (writing.read(name) for name in (kept.name, numbers.name, starts.name))
    output = writing.output(access=Access.READ_WRITE)
    row = add(first.load(place), Var("box"))
    values = (_BATCH, _CLASS, source.load([*place, Var("box")]))
    stores = [output.store([row, column], cast(DType.INT64, value)) for column, value in enumerate(values)]
    writing.run(
        *nest(
            ("batch", "class_", "box"),
            (batches, classes, boxes),
            If(less(Var("box"), number.load(place)), tuple(stores)),
            parallel=True,
        )
    )


def _limit(context: NodeContext) -> Expr:
    """The most boxes of a class; a negative one, or one beyond 31 bits, counts as no limit."""
    if not context.has(2):
        return Const(0)
    boxes = build.dim(context.shape(1)[2])
    given = cast(DType.INT32, at_most(context.element(2, [0] * context.rank(2)), (1 << 31) - 1))
    return build.select(less(given, 0), boxes, at_most(given, boxes))


def _select(context: NodeContext, order: str) -> tuple[Tensor, Tensor]:
    """The boxes that each class keeps, best first, and how many."""
    batches, classes, boxes = context.shape(1)
    kept = context.scratch(DType.INT32, (batches, classes, boxes))
    numbers = context.scratch(DType.INT32, (batches, classes))
    corners = _corners(context)
    settings = _settings(context)
    kernel = Direct(context, "non_max_suppression")
    ranked, corner, scores = kernel.read(order), kernel.read(corners), kernel.input(1)
    setting = kernel.read(settings)
    out, number = kernel.write(kept, access=Access.READ_WRITE), kernel.write(numbers)
    scalar = compute_type(corner.tensor.dtype)
    place = [_BATCH, _CLASS]
    held, box, other, free = Var("held"), Var("box"), Var("other"), Var("free", Scalar.BOOL)

    def edge(of: Expr, column: int) -> Expr:
        return corner.load([_BATCH, of, Const(column)])

    def area(of: Expr) -> Expr:
        return times(minus(edge(of, 2), edge(of, 0)), minus(edge(of, 3), edge(of, 1)))

    def shared_length(axis: int) -> Expr:
        low, high = at_least(edge(box, axis), edge(other, axis)), at_most(edge(box, 2 + axis), edge(other, 2 + axis))
        return at_least(minus(high, low), 0)

    shared, union = Var("shared", scalar), Var("union", scalar)
    zero = const(0, scalar)
    real = all_of(*(apply(Op.GT, part, zero) for part in (shared, area(box), area(other), union)))
    overlapping = all_of(real, apply(Op.GT, over(shared, union), setting.load([1])))
    compare: tuple[Stmt, ...] = (
        Local("other", Scalar.I32, out.load([*place, Var("rival")])),
        Local("shared", scalar, times(shared_length(0), shared_length(1))),
        Local("union", scalar, minus(plus(area(box), area(other)), shared)),
        If(overlapping, (Assign("free", build.FALSE),)),
    )
    score = as_type(scalar, scores.load([*place, box]))
    wanted = apply(Op.GE, score, setting.load([2])) if context.has(4) else build.TRUE
    candidate: tuple[Stmt, ...] = (
        Local("free", Scalar.BOOL, build.TRUE),
        loop("rival", held, *(If(free, compare),)),
        If(free, (out.store([*place, held], box), Assign("held", add(held, 1)))),
    )
    kernel.run(
        *nest(
            ("batch", "class_"),
            (batches, classes),
            Local("held", Scalar.I32, Const(0)),
            Local("limit", Scalar.I32, cast(DType.INT32, setting.load([0]))),
            loop(
                "step",
                boxes,
                If(
                    less(held, Var("limit")),
                    (
                        Local("box", Scalar.I32, ranked.load([*place, Var("step")])),
                        If(wanted, candidate) if wanted != build.TRUE else If(less(held, Var("limit")), candidate),
                    ),
                ),
            ),
            number.store(place, held),
            parallel=True,
        )
    )
    return kept, numbers


def _settings(context: NodeContext) -> str:
    """The limit, the overlap and the least score as a tensor of three numbers."""
    wide = wide_dtype(context.dtype(0))
    scalar = compute_type(wide)

    def given(index: int) -> Expr:
        if not context.has(index):
            return const(0, scalar)
        return as_type(scalar, context.element(index, [0] * context.rank(index)))

    def body(i: Indices) -> Expr:
        limit = as_type(scalar, _limit(context))
        return build.select(
            apply(Op.EQ, i[0], Const(0)), limit, build.select(apply(Op.EQ, i[0], Const(1)), given(3), given(4))
        )

    return context.temporary(wide, (3,), body)


def _corners(context: NodeContext) -> str:
    """The least and greatest corner of each box, [batch, box, 4], as a tensor."""
    wide = wide_dtype(context.dtype(0))
    centred = context.attribute("center_point_box", 0)

    def body(i: Indices) -> Expr:
        axis = build.floor_mod(i[2], 2)
        low = apply(Op.LT, i[2], Const(2))
        one, two = (context.element(0, [i[0], i[1], add(axis, 2 * part)]) for part in (0, 1))
        if centred:
            half = over(two, 2)
            return build.select(low, minus(one, half), plus(one, half))
        return build.select(low, at_most(one, two), at_least(one, two))

    batches, boxes, _ = context.shape(0)
    return context.temporary(wide, (batches, boxes, 4), body)
