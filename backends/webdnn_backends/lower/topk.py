"""TopK: a stable order of each row by merging, or by insertion where the row's length is known only at run time.

Both give an INT32 tensor of places first, by which values and indices are read. Sorting runs of 64 is
counting predecessors; runs are merged in pairs by binary search, every element for itself, so that all places of all
rows are parallel in each of the kernels. Insertion is parallel over rows alone.
"""

from __future__ import annotations

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, floor_div, mul, sub
from webdnn_backends.ir.loops import Access, Assign, Const, Expr, If, Local, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, loop, nest
from webdnn_backends.lower.formulas import all_of, at_most, equal, less
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim

__all__ = ["order_of"]

_RUN = 64


@lowering("TopK")
def _top_k(context: NodeContext) -> None:
    rank = context.rank(0)
    axis = context.axis(context.attribute("axis", -1), rank)
    largest = bool(context.attribute("largest", 1))
    places = order_of(context, context.name(0), axis, context.output().shape[axis], largest=largest)

    def place(i: Indices) -> Expr:
        return context.read(places, i)

    context.emit(lambda i: context.element(0, [*i[:axis], place(i), *i[axis + 1 :]]))
    context.emit(lambda i: cast(DType.INT64, place(i)), output=1)


def order_of(context: NodeContext, tensor: str, axis: int, count: Dim, *, largest: bool) -> str:
    """The places of the best `count` elements along an axis, best first, of equals the lower place first.

    NaN is greater than every number. Returns the name of an INT32 tensor whose axis is at least `count` long.
    """
    size = context.state.tensor(tensor).shape[axis]
    if not isinstance(size, int):
        return _inserted(context, tensor, axis, count, largest)
    places = _runs(context, tensor, axis, size, largest)
    width = _RUN
    while width < size:
        places = _merged(context, tensor, places, axis, size, width, largest)
        width *= 2
    return places


def _precedes(left: Expr, right: Expr, largest: bool) -> Expr:
    """Whether the left value comes strictly before the right one."""
    before = apply(Op.GT if largest else Op.LT, left, right)
    if not left.type.is_float:
        return before
    high, low = (left, right) if largest else (right, left)
    return apply(Op.OR, before, all_of(apply(Op.IS_NAN, high), apply(Op.NOT, apply(Op.IS_NAN, low))))


def _names(rank: int) -> list[str]:
    return [f"i{k}" for k in range(rank)]


def _at(rank: int, axis: int, place: Expr) -> list[Expr]:
    """Indices of the current row, at a place along the axis."""
    return [place if k == axis else Var(f"i{k}") for k in range(rank)]


def _runs(context: NodeContext, tensor: str, axis: int, size: int, largest: bool) -> str:
    """The places in the order of their values within runs of 64: each counts those that come before it."""
    kernel = Direct(context, "sort_runs")
    x = kernel.read(tensor)
    shape = x.tensor.shape
    rank = len(shape)
    out = context.scratch(DType.INT32, shape)
    order = kernel.write(out)
    own, other, start = Var(f"i{axis}"), Var("other"), Var("start")
    value = Var("value", x.load(_at(rank, axis, own)).type)
    contender = x.load(_at(rank, axis, other))
    earlier = apply(
        Op.OR,
        _precedes(contender, value, largest),
        all_of(apply(Op.NOT, _precedes(value, contender, largest)), less(other, own)),
    )
    before = Var("before")
    kernel.run(
        *nest(
            _names(rank),
            shape,
            Local("value", value.type, x.load(_at(rank, axis, own))),
            Local("start", Scalar.I32, mul(floor_div(own, _RUN), _RUN)),
            Local("before", Scalar.I32, Const(0)),
            loop(
                "other",
                at_most(sub(Const(size), start), _RUN),
                Assign("before", add(before, cast(DType.INT32, earlier))),
                start=start,
            ),
            order.store(_at(rank, axis, add(start, before)), own),
            parallel=True,
        )
    )
    return out.name


def _merged(context: NodeContext, tensor: str, places: str, axis: int, size: int, width: int, largest: bool) -> str:
    """Runs of `width` places merged in pairs: each place finds by binary search how many of the other run go before."""
    kernel = Direct(context, "merge_runs")
    x, source = kernel.read(tensor), kernel.read(places)
    shape = x.tensor.shape
    rank = len(shape)
    out = context.scratch(DType.INT32, shape)
    target = kernel.write(out)
    own = Var(f"i{axis}")
    run, first, last = Var("run"), Var("first"), Var("last")
    low, high, middle = Var("low"), Var("high"), Var("middle")
    scalar = x.load(_at(rank, axis, own)).type
    value, contender = Var("value", scalar), Var("contender", scalar)
    odd = equal(build.floor_mod(run, 2), 1)
    # Places of the even run are lower: it goes first where values are equal.
    goes_first = build.select(
        odd, apply(Op.NOT, _precedes(value, contender, largest)), _precedes(contender, value, largest)
    )
    sibling = build.select(odd, sub(run, 1), add(run, 1))
    position = add(sub(own, mul(run, width)), sub(low, first))
    start = mul(at_most(run, sibling), width)
    kernel.run(
        *nest(
            _names(rank),
            shape,
            Local("run", Scalar.I32, floor_div(own, width)),
            Local("first", Scalar.I32, at_most(mul(sibling, width), size)),
            Local("last", Scalar.I32, at_most(add(first, width), size)),
            Local("value", scalar, x.load(_at(rank, axis, source.load(_at(rank, axis, own))))),
            Local("low", Scalar.I32, first),
            Local("high", Scalar.I32, last),
            loop(
                "step",
                width.bit_length(),
                If(
                    less(low, high),
                    (
                        Local("middle", Scalar.I32, floor_div(add(low, high), 2)),
                        Local("contender", scalar, x.load(_at(rank, axis, source.load(_at(rank, axis, middle))))),
                        If(goes_first, (Assign("low", add(middle, 1)),), (Assign("high", middle),)),
                    ),
                ),
            ),
            target.store(_at(rank, axis, add(start, position)), source.load(_at(rank, axis, own))),
            parallel=True,
        )
    )
    return out.name


def _inserted(context: NodeContext, tensor: str, axis: int, count: Dim, largest: bool) -> str:
    """The best places so far, kept in order while each row is read once."""
    kernel = Direct(context, "insertion_top_k")
    x = kernel.read(tensor)
    shape = x.tensor.shape
    rank = len(shape)
    out = context.scratch(DType.INT32, (*shape[:axis], count, *shape[axis + 1 :]))
    best = kernel.write(out, access=Access.READ_WRITE)
    own, held, most = Var("own"), Var("held"), build.dim(count)
    scalar = x.load(_at(rank, axis, own)).type
    value = Var("value", scalar)
    others = [k for k in range(rank) if k != axis]

    def kept(place: Expr) -> Expr:
        return best.load(_at(rank, axis, place))

    def worse(place: Expr) -> Expr:
        return _precedes(value, x.load(_at(rank, axis, kept(place))), largest)

    hole, last = Var("hole"), Var("last")
    shift = If(
        worse(sub(hole, 1)),
        (best.store(_at(rank, axis, hole), kept(sub(hole, 1))), Assign("hole", sub(hole, 1))),
    )
    enter = (
        Local("last", Scalar.I32, at_most(held, sub(most, 1))),
        Local("hole", Scalar.I32, last),
        loop("step", last, If(equal(hole, sub(last, Var("step"))), (shift,))),
        best.store(_at(rank, axis, hole), own),
        Assign("held", at_most(add(held, 1), most)),
    )
    full = (If(worse(sub(most, 1)), enter),)
    kernel.run(
        *nest(
            [f"i{k}" for k in others],
            [shape[k] for k in others],
            Local("held", Scalar.I32, Const(0)),
            If(
                less(Const(0), most),
                (
                    loop(
                        "own",
                        shape[axis],
                        Local("value", scalar, x.load(_at(rank, axis, own))),
                        If(less(held, most), enter, full),
                    ),
                ),
            ),
            parallel=True,
        )
    )
    return out.name
