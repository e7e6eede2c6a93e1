"""Writing elements by index: Scatter, ScatterElements, ScatterND, TensorScatter.

A stage copies the data, then a kernel writes the updates into the copy. Updates that may meet in one place are walked
in order by one iteration: in ScatterElements those of one line along the axis, in ScatterND with a reduction those of
one place within the slices. Without a reduction ScatterND has no such order, by its specification.
"""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast
from webdnn_backends.ir.loops import Access, Const, Expr, If, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, Operand, nest
from webdnn_backends.lower.formulas import all_of, below, less
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_REDUCTIONS = {"none": None, "add": Op.ADD, "mul": Op.MUL, "max": Op.MAX, "min": Op.MIN}
_WIDENED = {DType.FLOAT16: DType.FLOAT32, DType.BFLOAT16: DType.FLOAT32}


def _reduction(context: NodeContext) -> Op | None:
    name = context.attribute("reduction", "none")
    if name not in _REDUCTIONS:
        raise InvalidModelError(f"{context.where}: reduction: expected one of {', '.join(_REDUCTIONS)}, got {name!r}")
    return _REDUCTIONS[name]


def _copied(context: NodeContext, op: Op | None) -> Tensor:
    """A tensor with the data in it: the output, or a wider one where updates are combined."""
    dtype = context.dtype(0)
    if op is None or dtype not in _WIDENED:
        context.emit(lambda i: context.element(0, i))
        return context.output()
    name = context.temporary(_WIDENED[dtype], context.shape(0), lambda i: context.element(0, i))
    return context.state.tensor(name)


def _written(target: Operand, at: Sequence[Expr], update: Expr, op: Op | None) -> Stmt:
    if op is None:
        return target.store(at, update)
    old = target.load(at)
    if old.type is Scalar.BOOL:
        op = Op.OR if op in (Op.ADD, Op.MAX) else Op.AND
    return target.store(at, apply(op, old, update))


def _wrapped(index: Expr, size: Dim) -> Expr:
    """An index as I32, negative ones counted from the end."""
    narrow = cast(DType.INT32, index)
    return build.select(less(narrow, 0), add(narrow, build.dim(size)), narrow)


def _finish(context: NodeContext, target: Tensor) -> None:
    if target.name != context.output().name:
        context.emit(lambda i: context.read(target.name, i))


@lowering("Scatter")
@lowering("ScatterElements")
def _scatter_elements(context: NodeContext) -> None:
    op = _reduction(context)
    data, shape = context.shape(0), context.shape(1)
    rank = len(data)
    if rank == 0:
        context.emit(
            lambda i: context.element(2, i) if op is None else apply(op, context.element(0, i), context.element(2, i))
        )
        return
    axis = context.axis(context.attribute("axis", 0), rank)
    tensor = _copied(context, op)
    kernel = Direct(context, "scatter_elements")
    indices, updates = kernel.input(1), kernel.input(2)
    target = kernel.write(tensor, access=Access.READ_WRITE)
    i: list[Expr] = [Var(f"i{k}") for k in range(rank)]
    at = [*i[:axis], Var("place"), *i[axis + 1 :]]
    others = [k for k in range(rank) if k != axis]
    write = (
        Local("place", Scalar.I32, _wrapped(indices.load(i), data[axis])),
        If(below(Var("place"), data[axis]), (_written(target, at, updates.load(i), op),)),
    )
    kernel.run(
        *nest(
            [f"i{k}" for k in others],
            [shape[k] for k in others],
            *nest([f"i{axis}"], [shape[axis]], *write),
            parallel=True,
        )
    )
    _finish(context, tensor)


@lowering("ScatterND")
def _scatter_nd(context: NodeContext) -> None:
    op = _reduction(context)
    data, shape = context.shape(0), context.shape(1)
    depth = shape[-1]
    if not isinstance(depth, int):
        raise context.unsupported("an index depth known only at run time")
    tensor = _copied(context, op)
    kernel = Direct(context, "scatter_nd")
    indices, updates = kernel.input(1), kernel.input(2)
    target = kernel.write(tensor, access=Access.READ_WRITE)
    lead = [f"u{k}" for k in range(len(shape) - 1)]
    inner = [f"i{k}" for k in range(depth, len(data))]
    tuple_at: list[Expr] = [Var(name) for name in lead]
    slice_at: list[Expr] = [Var(name) for name in inner]
    places = [Var(f"place{k}") for k in range(depth)]
    found = [
        Local(f"place{k}", Scalar.I32, _wrapped(indices.load([*tuple_at, Const(k)]), data[k])) for k in range(depth)
    ]
    inside = all_of(*(below(place, data[k]) for k, place in enumerate(places)))
    store = _written(target, [*places, *slice_at], updates.load([*tuple_at, *slice_at]), op)
    write: tuple[Stmt, ...] = (*found, If(inside, (store,)) if depth else store)
    if op is None:
        body = nest([*lead, *inner], [*shape[:-1], *data[depth:]], *write, parallel=True)
    else:
        body = nest(inner, data[depth:], *nest(lead, shape[:-1], *write), parallel=True)
    kernel.run(*body)
    _finish(context, tensor)


@lowering("TensorScatter")
def _tensor_scatter(context: NodeContext) -> None:
    shape, update = context.shape(0), context.shape(1)
    axis = context.axis(context.attribute("axis", -2), len(shape))
    circular = context.attribute("mode", "linear") == "circular"

    def body(i: Indices) -> Expr:
        start: Expr = cast(DType.INT32, context.element(2, [i[0]])) if context.has(2) else Const(0)
        offset = build.sub(i[axis], start)
        if circular:
            offset = build.floor_mod(offset, build.dim(shape[axis]))
        new = context.element(1, [*i[:axis], offset, *i[axis + 1 :]])
        return build.select(below(offset, update[axis]), new, context.element(0, i))

    context.emit(body)
