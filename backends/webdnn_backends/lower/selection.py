"""Operators whose output size depends on the elements: NonZero, Compress and Unique.

What is selected is counted block by block; the counts give the output's size and tell each block where it writes.
"""

from __future__ import annotations

from collections.abc import Callable

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, floor_div, mul
from webdnn_backends.ir.loops import Access, Assign, Const, Expr, If, Local, ReduceOp, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, loop
from webdnn_backends.lower.movement import unflatten
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, ceil_div, product

__all__ = ["selected_positions"]

_BLOCK = 256
"""Elements whose selection one invocation writes."""


def selected_positions(context: NodeContext, total: Dim, chosen: str) -> tuple[str, Callable[[Dim], str]]:
    """The positions at which a flat bool tensor is true, in order.

    Returns the int64[1] tensor of their number, and a function that, given that number as a dimension, adds the kernel
    that writes them and returns its int32 tensor.
    """
    blocks = context.state.short(ceil_div(total, _BLOCK))

    def hits(i: Indices) -> Expr:
        def hit(k: Indices) -> Expr:
            position = add(mul(i[0], _BLOCK), k[0])
            inside = apply(Op.LT, position, build.dim(total))
            safe = apply(Op.MIN, position, build.sub(build.dim(total), 1))
            return cast(DType.INT32, apply(Op.AND, inside, context.read(chosen, (safe,))))

        return context.sum([_BLOCK], hit)

    counts = context.temporary(DType.INT32, (blocks,), hits)
    starts = context.scratch(DType.INT32, (blocks,))
    number = context.scratch(DType.INT64, (1,))
    offsets = Direct(context, "offsets")
    count, start, whole = offsets.read(counts), offsets.write(starts), offsets.write(number)
    sum_, block = Var("sum"), Var("block")
    offsets.run(
        Local("sum", Scalar.I32, Const(0)),
        loop("block", blocks, start.store([block], sum_), Assign("sum", add(sum_, count.load([block])))),
        whole.store([0], cast(DType.INT64, sum_)),
    )

    def write(size: Dim) -> str:
        positions = context.scratch(DType.INT32, (size,))
        kernel = Direct(context, "positions")
        flags, begin = kernel.read(chosen), kernel.read(starts.name)
        target = kernel.write(positions, access=Access.READ_WRITE)
        position, at = add(mul(block, _BLOCK), Var("k")), Var("at")
        inside = apply(Op.MIN, Const(_BLOCK), build.sub(build.dim(total), mul(block, _BLOCK)))
        kernel.run(
            loop(
                "block",
                blocks,
                Local("at", Scalar.I32, begin.load([block])),
                loop(
                    "k",
                    inside,
                    If(flags.load([position]), (target.store([at], position), Assign("at", add(at, 1)))),
                ),
                parallel=True,
            )
        )
        return positions.name

    return number.name, write


@lowering("NonZero", since=9)
def _non_zero(context: NodeContext) -> None:
    shape = context.shape(0)
    total = product(list(shape))

    def chosen(i: Indices) -> Expr:
        x = context.element(0, unflatten(i[0], shape))
        return x if x.type is Scalar.BOOL else apply(Op.NE, x, const(0, x.type))

    number, write = selected_positions(context, total, context.temporary(DType.BOOL, (total,), chosen))
    context.measure({1: (number, 0)})
    positions = write(context.output().shape[1])

    def body(i: Indices) -> Expr:
        indices = unflatten(context.read(positions, (i[1],)), shape)
        result: Expr = indices[-1] if indices else Const(0)
        for axis in range(len(shape) - 2, -1, -1):
            result = build.select(apply(Op.EQ, i[0], Const(axis)), indices[axis], result)
        return cast(DType.INT64, result)

    context.emit(body)


@lowering("Compress", since=9)
def _compress(context: NodeContext) -> None:
    shape = context.shape(0)
    given: int | None = context.attribute("axis", None)
    axis = None if given is None else context.axis(given, len(shape))
    size = product(list(shape)) if axis is None else shape[axis]
    length = context.shape(1)[0]

    def chosen(i: Indices) -> Expr:
        """A condition that is shorter than the axis selects nothing behind its end."""
        if length == size:
            return context.element(1, i)
        last = build.sub(build.dim(length), 1)
        safe = apply(Op.MAX, apply(Op.MIN, i[0], last), Const(0))
        return apply(Op.AND, apply(Op.LE, i[0], last), context.element(1, (safe,)))

    number, write = selected_positions(context, size, context.temporary(DType.BOOL, (size,), chosen))
    context.measure({axis or 0: (number, 0)})
    positions = write(context.output().shape[axis or 0])

    def body(i: Indices) -> Expr:
        if axis is None:
            return context.element(0, unflatten(context.read(positions, i), shape))
        return context.element(0, [*i[:axis], context.read(positions, (i[axis],)), *i[axis + 1 :]])

    context.emit(body)


@lowering("Unique", since=11)
def _unique(context: NodeContext) -> None:
    shape = context.shape(0)
    given: int | None = context.attribute("axis", None)
    axis = None if given is None else context.axis(given, len(shape))
    rows = product(list(shape)) if axis is None else shape[axis]
    others = () if axis is None else (*shape[:axis], *shape[axis + 1 :])
    width = product(list(others))

    def entry(row: Expr, column: Expr) -> Expr:
        if axis is None:
            return context.element(0, unflatten(row, shape))
        rest = unflatten(column, others)
        return context.element(0, [*rest[:axis], row, *rest[axis:]])

    table = context.temporary(context.dtype(0), (rows, width), lambda i: entry(i[0], i[1]))
    order = _sorted_rows(context, table, rows, width)
    # A row that differs from the one before it in the order begins a group.
    fresh = context.temporary(DType.BOOL, (rows,), lambda i: _begins(context, table, order, i[0], width))
    group = context.scratch(DType.INT32, (rows,))
    sizes = context.scratch(DType.INT32, (rows,))
    firsts = context.scratch(DType.INT32, (rows,))
    number = context.scratch(DType.INT64, (1,))
    _group_rows(context, (fresh, order), (group, sizes, firsts), number, rows)
    places = {0: {axis or 0: (number.name, 0)}, 1: {0: (number.name, 0)}, 3: {0: (number.name, 0)}}
    for output, sizes_of in places.items():
        context.measure(sizes_of, output)
    groups = context.state.elements(number.name)
    assert groups is not None, "one element"
    source, rank_of = firsts.name, ""
    if not context.attribute("sorted", 1):
        source, rank_of = _by_appearance(context, firsts, groups[0])

    def row_of(at: Expr) -> Expr:
        return context.read(firsts.name, (_place(context, source, rank_of, at),))

    def value(i: Indices) -> Expr:
        row = row_of(i[axis or 0])
        if axis is None:
            return context.element(0, unflatten(row, shape))
        return context.element(0, [*i[:axis], row, *i[axis + 1 :]])

    context.emit(value)
    context.emit(lambda i: cast(DType.INT64, row_of(i[0])), output=1)

    def inverse(i: Indices) -> Expr:
        own = context.read(group.name, i)
        return cast(DType.INT64, context.read(rank_of, (own,)) if rank_of else own)

    context.emit(inverse, output=2)
    context.emit(
        lambda i: cast(DType.INT64, context.read(sizes.name, (_place(context, source, rank_of, i[0]),))), output=3
    )


def _place(context: NodeContext, source: str, rank_of: str, at: Expr) -> Expr:
    """The group that is listed at a position."""
    return context.read(source, (at,)) if rank_of else at


def _less(left: Expr, right: Expr) -> Expr:
    """NaN comes last and equals NaN."""
    if left.type is Scalar.BOOL:
        return apply(Op.AND, apply(Op.NOT, left), right)
    result = apply(Op.LT, left, right)
    if not left.type.is_float:
        return result
    return apply(Op.OR, result, apply(Op.AND, apply(Op.NOT, apply(Op.IS_NAN, left)), apply(Op.IS_NAN, right)))


def _begins(context: NodeContext, table: str, order: str, at: Expr, width: Dim) -> Expr:
    previous = apply(Op.MAX, build.sub(at, 1), Const(0))
    own, other = context.read(order, (at,)), context.read(order, (previous,))

    def differs(k: Indices) -> Expr:
        left, right = context.read(table, (own, k[0])), context.read(table, (other, k[0]))
        return apply(Op.OR, _less(left, right), _less(right, left))

    return apply(Op.OR, apply(Op.EQ, at, Const(0)), context.reduce(ReduceOp.ANY, [width], differs))


def _sorted_rows(context: NodeContext, table: str, rows: Dim, width: Dim) -> str:
    """The rows of a matrix in lexicographic order, equal ones in their own: a merge sort from the bottom up."""
    order, spare = (context.scratch(DType.INT32, (rows,)) for _ in range(2))
    kernel = Direct(context, "sort_rows")
    data = kernel.read(table)
    target = kernel.write(order, access=Access.READ_WRITE)
    other = kernel.write(spare, access=Access.READ_WRITE)
    count, run, left, right, end = build.dim(rows), Var("run"), Var("left"), Var("right"), Var("end")
    i, pair, middle = Var("i"), Var("pair"), Var("middle")
    one, two = target.load([left]), target.load([right])

    def bounded(value: Expr) -> Expr:
        return apply(Op.MIN, value, count)

    # Positive: the left row is the greater one.
    scalar = compute_type(context.dtype(0))
    a, b, sign, k = Var("a", scalar), Var("b", scalar), Var("sign", signed=True), Var("k")
    compare: tuple[Stmt, ...] = (
        Assign("sign", Const(0)),
        loop(
            "k",
            width,
            Local("a", scalar, data.load([one, k])),
            Local("b", scalar, data.load([two, k])),
            If(
                apply(Op.EQ, sign, Const(0)),
                (
                    If(_less(a, b), (Assign("sign", Const(-1)),)),
                    If(_less(b, a), (Assign("sign", Const(1)),)),
                ),
            ),
        ),
    )
    take_right = (other.store([i], two), Assign("right", add(right, 1)))
    take_left = (other.store([i], one), Assign("left", add(left, 1)))
    both = apply(Op.AND, apply(Op.LT, left, middle), apply(Op.LT, right, end))
    merge = loop(
        "i",
        build.sub(end, pair),
        Local("sign", Scalar.I32, Const(0)),
        If(both, compare, (Assign("sign", build.select(apply(Op.LT, left, middle), Const(-1), Const(1))),)),
        If(apply(Op.GT, sign, Const(0)), take_right, take_left),
        start=pair,
    )
    width_of_pair = mul(run, 2)
    kernel.run(
        loop("i", rows, target.store([i], i)),
        Local("run", Scalar.I32, Const(1)),
        loop(
            "pass",
            32,
            If(
                apply(Op.LT, run, count),
                (
                    loop(
                        "chunk",
                        floor_div(add(count, build.sub(width_of_pair, 1)), width_of_pair),
                        Local("pair", Scalar.I32, mul(Var("chunk"), width_of_pair)),
                        Local("left", Scalar.I32, pair),
                        Local("middle", Scalar.I32, bounded(add(pair, run))),
                        Local("right", Scalar.I32, middle),
                        Local("end", Scalar.I32, bounded(add(pair, width_of_pair))),
                        merge,
                    ),
                    loop("i", rows, target.store([i], other.load([i]))),
                    Assign("run", width_of_pair),
                ),
            ),
        ),
    )
    return order.name


def _group_rows(
    context: NodeContext, given: tuple[str, str], results: tuple[Tensor, Tensor, Tensor], number: Tensor, rows: Dim
) -> None:
    """The group of each row, and the size and first row of each group, in one walk along the order."""
    kernel = Direct(context, "group_rows")
    fresh, order = (kernel.read(name) for name in given)
    group, sizes, firsts = (kernel.write(tensor, access=Access.READ_WRITE) for tensor in results)
    whole = kernel.write(number)
    at, own = Var("at"), Var("own", signed=True)
    kernel.run(
        Local("own", Scalar.I32, Const(-1)),
        loop(
            "at",
            rows,
            If(
                fresh.load([at]),
                (
                    Assign("own", add(own, 1)),
                    sizes.store([own], Const(0)),
                    firsts.store([own], order.load([at])),
                ),
            ),
            sizes.store([own], add(sizes.load([own]), 1)),
            group.store([order.load([at])], own),
        ),
        whole.store([0], cast(DType.INT64, add(own, 1))),
    )


def _by_appearance(context: NodeContext, firsts: Tensor, groups: Dim) -> tuple[str, str]:
    """The groups in the order of their first rows, and the place of each group in it."""

    def place(i: Indices) -> Expr:
        own = context.read(firsts.name, i)
        return context.sum([groups], lambda k: cast(DType.INT32, apply(Op.LT, context.read(firsts.name, k), own)))

    rank_of = context.temporary(DType.INT32, (groups,), place)
    source = context.scratch(DType.INT32, (groups,))
    kernel = Direct(context, "order_of_places")
    ranks, target = kernel.read(rank_of), kernel.write(source, access=Access.READ_WRITE)
    kernel.run(loop("i", groups, target.store([ranks.load([Var("i")])], Var("i"))))
    return source.name, rank_of
