"""What the schedules of all targets share: a kernel's arguments, and what happens to a sum before it is stored.

A schedule builds its kernel from callbacks before it knows all buffers; `Arguments` names them as they are asked for
and finally makes the call. `Epilogue` writes a stage's body around its sum, for one element or four neighbouring ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, floor_div, floor_mod, i32
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Axis,
    Bitcast,
    BufferParameter,
    Cast,
    Const,
    Expr,
    Kernel,
    Lane,
    Load,
    Local,
    Read,
    Reduce,
    ReduceOp,
    Select,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
    subexpressions,
)
from webdnn_backends.ir.rewrite import reads, substitute
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.te.access import position
from webdnn_backends.te.implementation import ScheduleContext
from webdnn_backends.te.parameters import parameters_of
from webdnn_backends.te.simplify import IndexAlgebra, strides
from webdnn_backends.te.tensors import Call, Stage
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim

__all__ = ["Arguments", "Epilogue", "is_plain", "only_sum", "outside", "split", "stride", "surface"]

_PLAIN = (Read, Var, Const, Apply, Cast, Bitcast, Select)


def is_plain(part: Expr) -> bool:
    """Whether `Epilogue` can put a part of the body around a sum into vectors."""
    if isinstance(part, Read):
        return not any(isinstance(inner, Read | Reduce) for index in part.indices for inner in subexpressions(index))
    return isinstance(part, _PLAIN)


@dataclass
class Arguments:
    """Buffers and parameters of the kernel of one stage, named as they are asked for."""

    stage: Stage
    context: ScheduleContext
    buffers: dict[str, BufferParameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = dict.fromkeys((self.stage.output, *(read.tensor for read in reads(self.stage.body))))
        sizes = [size for name in names for size in self.context.tensors[name].shape]
        self.parameters = parameters_of(sizes, [self.stage.body], {axis.name for axis in self.stage.axes}, "size")

    def buffer(self, tensor: str, dtype: DType | None = None) -> str:
        """The kernel's name for a tensor that it reads."""
        if tensor not in self.buffers:
            dtype = self.context.tensors[tensor].dtype if dtype is None else dtype
            self.buffers[tensor] = BufferParameter(f"in{len(self.buffers)}", dtype, Access.READ)
        return self.buffers[tensor].name

    def dim(self, size: Dim) -> int | Expr:
        """A size over the kernel's parameters."""
        renamed = self.parameters.dim(size)
        return renamed if isinstance(renamed, int) else build.dim(renamed)

    def place(self, tensor: str, indices: Sequence[Expr]) -> Expr:
        """The flat position of an element, over the kernel's parameters."""
        return self.parameters.expr(position(self.context, tensor, indices))

    def target(self) -> Expr:
        """Where the stage's element goes, over its axes."""
        axes = [Const(0) if axis.extent == 1 else axis.var for axis in self.stage.axes]
        return self.place(self.stage.output, axes)

    def flat(self, parts: Sequence[Expr], places: Sequence[Expr], axes: Sequence[Axis]) -> bool:
        """Whether axes can be counted as one: `places` and the reads among `parts` depend on them as on a flat index,
        and nothing else among `parts` does."""
        names = [axis.name for axis in axes]
        if any(isinstance(part, Var) and part.name in names for part in parts):
            return False
        every = [*places, *(self.place(part.tensor, part.indices) for part in parts if isinstance(part, Read))]
        for each in every:
            found = strides(IndexAlgebra({}).to_dim(each), tuple(names))
            if found is None:
                return False
            for outer, inner in pairwise(axes):
                extent = self.dim(inner.extent)
                size = extent if isinstance(extent, int) else IndexAlgebra({}).to_dim(extent)
                if found[outer.name] != found[inner.name] * size:
                    return False
        return True

    def call(self, kernel: Kernel) -> Call:
        """The call of the finished kernel, which was built before all its buffers were known; its variant for plain
        WebAssembly has the same arguments."""
        out = BufferParameter("out", self.context.tensors[self.stage.output].dtype, Access.WRITE)
        buffers, parameters = (*self.buffers.values(), out), self.parameters.names
        plain = None if kernel.plain is None else replace(kernel.plain, buffers=buffers, parameters=parameters)
        kernel = replace(kernel, buffers=buffers, parameters=parameters, plain=plain)
        return Call(kernel, (*self.buffers, self.stage.output), self.parameters.sizes, self.stage.source)


@dataclass(frozen=True)
class Epilogue:
    """The stage's body around its sum. column: the stage axis along which vectors lie."""

    arguments: Arguments
    reduce: Reduce
    column: str

    def store(self, values: Mapping[str, Expr], total: Expr) -> tuple[Stmt, ...]:
        """Compute and write one or four elements; values: of the stage's axes."""
        value = self._value(values, total)
        if value.lanes != total.lanes:
            value = Splat(value, total.lanes)
        target = self.arguments.target()
        if total.lanes == 1 or stride(target, self.column) == 1:
            return (Store("out", substitute(target, values), value),)
        result = Var(f"result_{total.name}" if isinstance(total, Var) else "result", value.type, 4)
        stores = (
            Store("out", substitute(target, {**values, self.column: add(values[self.column], k)}), Lane(result, k))
            for k in range(4)
        )
        return (Local(result.name, result.type, value, lanes=4), *stores)

    def vectors(self) -> bool:
        """Whether four neighbouring columns can be stored at once."""
        stored = self.arguments.context.tensors[self.arguments.stage.output].dtype
        if stored.bits != 32 or stride(self.arguments.target(), self.column) != 1:
            return False
        for part in outside(self.arguments.stage, self.reduce):
            if part.type in (Scalar.I64, Scalar.U64):
                return False
            if isinstance(part, Select) and any(isinstance(inner, Read) for inner in subexpressions(part)):
                return False
        return True

    def _value(self, values: Mapping[str, Expr], total: Expr) -> Expr:
        memo: dict[int, Expr] = {}

        def visit(part: Expr) -> Expr:
            if id(part) not in memo:
                memo[id(part)] = self._visit(part, values, total, visit)
            return memo[id(part)]

        return visit(self.arguments.stage.body)

    def _visit(self, part: Expr, values: Mapping[str, Expr], total: Expr, visit: Callable[[Expr], Expr]) -> Expr:
        if part == self.reduce:
            return total
        match part:
            case Read(tensor=tensor, indices=indices, type=type):
                return self._load(tensor, indices, type, values, total.lanes)
            case Var(name=name) if name == self.column and total.lanes == 4:
                return Vector(tuple(add(values[name], k) for k in range(4)))
            case Var(name=name):
                return values.get(name, self.arguments.parameters.expr(part))
            case Apply(op=op, args=args):
                return apply(op, *map(visit, args))
            case Cast(to=to, arg=arg):
                return Cast(to, visit(arg))
            case Bitcast(type=type, arg=arg):
                return Bitcast(type, visit(arg))
            case Select(condition=condition, true=true, false=false):
                return build.select(visit(condition), visit(true), visit(false))
            case _:
                return part

    def _load(
        self, tensor: str, indices: tuple[Expr, ...], type: Scalar, values: Mapping[str, Expr], lanes: int
    ) -> Expr:
        place, buffer = self.arguments.place(tensor, indices), self.arguments.buffer(tensor)
        step = stride(place, self.column) if lanes == 4 else 0
        if step == 0:
            return Load(buffer, substitute(place, values), type)
        if step == 1:
            return Load(buffer, substitute(place, values), type, 4)
        each = [{**values, self.column: add(values[self.column], k)} for k in range(4)]
        return Vector(tuple(Load(buffer, substitute(place, item), type) for item in each))


def stride(place: Expr, axis: str) -> Dim | None:
    """How far apart neighbours along an axis lie, if evenly."""
    found = strides(IndexAlgebra({}).to_dim(place), (axis,))
    return None if found is None else found[axis]


def split(number: Expr, axes: Sequence[Axis], arguments: Arguments) -> dict[str, Expr]:
    """The axes' values at a flat number over them, the last one fastest."""
    values: dict[str, Expr] = {}
    rest = number
    for axis in reversed(axes[1:]):
        extent = i32(arguments.dim(axis.extent))
        values[axis.name] = floor_mod(rest, extent)
        rest = floor_div(rest, extent)
    if axes:
        values[axes[0].name] = rest
    return values


def only_sum(stage: Stage) -> Reduce | None:
    """The one sum in float32 that the stage's body holds, if it holds no other reduction."""
    found = set(stage.reductions)
    reduce = next(iter(found)) if len(found) == 1 else None
    return reduce if reduce is not None and reduce.op is ReduceOp.SUM and reduce.type is Scalar.F32 else None


def outside(stage: Stage, reduce: Reduce) -> Iterator[Expr]:
    """Every part of the stage's body that is not in the sum."""
    return (part for part in surface(stage.body) if part != reduce)


def surface(part: Expr) -> Iterator[Expr]:
    """The parts of an expression outside of its reductions' terms and its reads' indices."""
    yield part
    children: tuple[Expr, ...] = ()
    match part:
        case Apply(args=args) | Vector(args=args):
            children = args
        case Cast(arg=arg) | Bitcast(arg=arg):
            children = (arg,)
        case Select(condition=condition, true=true, false=false):
            children = (condition, true, false)
        case _:
            pass
    for child in children:
        yield from surface(child)
