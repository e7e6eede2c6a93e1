"""Reductions of rows: softmax, normalisations, sums and maxima along axes, global pooling, totals.

A row is one combination of the axes that the stage's reductions depend on. Several invocations share a row: each
combines every n-th term, their parts are combined as a tree in workgroup memory, and then they share the row's output
elements. Where neighbouring terms lie next to each other, neighbouring invocations take them; where neighbouring rows
do (channels-last pooling), neighbouring invocations take one row each. A large reduction with few rows is done in two
kernels, the first of which reduces pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from webdnn_backends.ir.build import add, apply, floor_div, i32, mul, select, sub
from webdnn_backends.ir.loops import (
    Assign,
    Axis,
    Barrier,
    Const,
    Expr,
    If,
    Kernel,
    Load,
    Local,
    Loop,
    LoopKind,
    Read,
    Reduce,
    Space,
    Stmt,
    Store,
    Var,
    subexpressions,
)
from webdnn_backends.ir.rewrite import free_variables, map_children, replaced, rewrite
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.te.access import position
from webdnn_backends.te.epilogue import Arguments, is_plain, split, stride, surface
from webdnn_backends.te.implementation import Implementation, ScheduleContext
from webdnn_backends.te.naming import stage_name
from webdnn_backends.te.reductions import combine, identity
from webdnn_backends.te.simplify import simplify
from webdnn_backends.te.tensors import Call, Stage, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, product

__all__ = ["row_schedule"]

_SHORTEST_ROW = 16
_ENOUGH_ROWS = 4096
_INVOCATIONS = 64
_MOST_LANES = 256
_PIECE = 8192
_PIECES = 128


def row_schedule(stage: Stage, context: ScheduleContext) -> Implementation | str:
    """The kernels of a stage with reductions, or the reason why the generic schedule should take it."""
    found = _rows(stage, context)
    if isinstance(found, str):
        return found
    pieces = _in_pieces(stage, found)
    if pieces is None:
        return Implementation((found.schedule(),))
    first, second, partial = pieces
    context = ScheduleContext({**context.tensors, partial.name: partial}, context.layouts, context.constants)
    calls = []
    for each in (first, second):
        rows = _rows(each, context, shortest=1)
        assert isinstance(rows, _Rows), "the parts of a reduction are reductions of rows"
        calls.append(rows.schedule())
    return Implementation(tuple(calls), (partial,))


def _rows(stage: Stage, context: ScheduleContext, shortest: int = _SHORTEST_ROW) -> _Rows | str:
    reductions = tuple(dict.fromkeys(stage.reductions))
    if not reductions:
        return "the generic schedule serves it as well"
    axes = [stage.axes[axis] for axis in context.layout(stage.output) if stage.axes[axis].extent != 1]
    names = {axis.name for axis in axes}
    needed = {frozenset(free_variables(reduce) & names) for reduce in reductions}
    if len(needed) != 1:
        return "its reductions depend on different axes"
    inner = {axis.name for reduce in reductions for axis in reduce.axes}
    if any(free_variables(reduce) & inner for reduce in reductions):
        return "a reduction depends on the terms of another"
    depends = next(iter(needed))
    rows = tuple(axis for axis in axes if axis.name in depends)
    elements = tuple(axis for axis in axes if axis.name not in depends)
    length = _longest(reductions)
    if isinstance(length, int) and length < shortest:
        return f"rows of {length} terms are too short to share"
    arguments = Arguments(stage, context)
    across = not _terms_are_dense(arguments, reductions) and _rows_are_dense(arguments, reductions, rows)
    count = product([axis.extent for axis in rows])
    enough = isinstance(count, int) and count >= _ENOUGH_ROWS
    if enough and not elements and rows and _rows_are_dense(arguments, reductions, rows):
        return f"{count} rows are enough for one invocation each, and neighbours lie side by side"
    return _Rows(arguments, rows, elements, length, across)


def _longest(reductions: tuple[Reduce, ...]) -> Dim:
    lengths = [product([axis.extent for axis in reduce.axes]) for reduce in reductions]
    known = [length for length in lengths if isinstance(length, int)]
    return max(known) if len(known) == len(lengths) else next(each for each in lengths if not isinstance(each, int))


def _reads(reduce: Reduce) -> list[Read]:
    return [part for part in subexpressions(reduce.body) if isinstance(part, Read)]


def _terms_are_dense(arguments: Arguments, reductions: tuple[Reduce, ...]) -> bool:
    """Whether an operand of a reduction has its neighbouring terms side by side."""
    return any(
        stride(arguments.place(read.tensor, read.indices), axis.name) == 1
        for reduce in reductions
        for axis in reduce.axes
        if axis.extent != 1
        for read in _reads(reduce)
    )


def _rows_are_dense(arguments: Arguments, reductions: tuple[Reduce, ...], rows: tuple[Axis, ...]) -> bool:
    """Whether an operand of a reduction has the elements of neighbouring rows side by side."""
    return bool(rows) and any(
        stride(arguments.place(read.tensor, read.indices), rows[-1].name) == 1
        for reduce in reductions
        for read in _reads(reduce)
    )


def _in_pieces(stage: Stage, rows: _Rows) -> tuple[Stage, Stage, Tensor] | None:
    """A long reduction of few rows as reductions of pieces and one of their results; None where it is short, or one
    reduction of several."""
    reductions = tuple(dict.fromkeys(stage.reductions))
    length, count = rows.length, product([axis.extent for axis in rows.rows])
    if len(reductions) != 1 or not isinstance(length, int) or length < _PIECE:
        return None
    if not isinstance(count, int) or count * _MOST_LANES >= length:
        return None
    (reduce,) = reductions
    size = max(1024, -(-length // _PIECES))
    pieces = -(-length // size)
    values: dict[str, Expr] = {axis.name: Const(0) for axis in reduce.axes if axis.extent == 1}
    piece, term = Axis("piece", pieces), Axis("term", size)
    number = add(mul(piece.var, size), term.var)
    values |= rows.terms(reduce, number)
    body = rewrite(reduce.body, lambda part: values.get(part.name) if isinstance(part, Var) else None)
    if pieces * size != length:
        body = select(apply(Op.LT, number, Const(length)), body, identity(reduce.op, reduce.type))
    kept = tuple(axis for axis in stage.axes if axis in rows.rows)
    storage = {Scalar.F32: DType.FLOAT32, Scalar.I32: DType.INT32, Scalar.U32: DType.UINT32}.get(reduce.type)
    if storage is None:
        return None
    partial = Tensor(f"{stage.output}#pieces", storage, (*(axis.extent for axis in kept), pieces))
    first = Stage(partial.name, (*kept, piece), Reduce(reduce.op, (term,), body), source=stage.source)
    read = Read(partial.name, (*(axis.var for axis in kept), piece.var), reduce.type)
    second = Stage(
        stage.output,
        stage.axes,
        replaced(stage.body, reduce, Reduce(reduce.op, (piece,), read)),
        source=stage.source,
    )
    return first, second, partial


@dataclass
class _Rows:
    """rows, elements: the stage's axes, in storage order. length: terms of the longest reduction. across: neighbouring
    invocations take neighbouring rows instead of neighbouring terms."""

    arguments: Arguments
    rows: tuple[Axis, ...]
    elements: tuple[Axis, ...]
    length: Dim
    across: bool
    statements: list[Stmt] = field(default_factory=list)
    computed: dict[Expr, Var] = field(default_factory=dict)
    registers: int = 0

    def __post_init__(self) -> None:
        stage = self.arguments.stage
        self.count = product([axis.extent for axis in self.rows])
        self.lanes, self.together = self._shape()
        self.known = (*stage.axes, *(axis for reduce in stage.reductions for axis in reduce.axes))
        self.ones: dict[str, Expr] = {axis.name: Const(0) for axis in self.known if axis.extent == 1}
        self.row_values: dict[str, Expr] = {}

    def _shape(self) -> tuple[int, int]:
        """How many invocations share a row, and how many rows a workgroup takes."""
        if self.across:
            return (16, 16) if not isinstance(self.length, int) or self.length >= _INVOCATIONS else (4, 16)
        if not isinstance(self.length, int):
            return _INVOCATIONS, 1
        enough = isinstance(self.count, int) and self.count >= _ENOUGH_ROWS // 2
        most = _INVOCATIONS if enough else _MOST_LANES
        lanes = min(most, max(8, 1 << (max(1, self.length // 4).bit_length() - 1)))
        return lanes, max(1, _INVOCATIONS // lanes)

    def schedule(self) -> Call:
        """The kernel call: workgroups of rows, invocations of (terms, rows) or (rows, terms)."""
        arguments, stage = self.arguments, self.arguments.stage
        rows = i32(arguments.dim(self.count))
        number = mul(Var("group"), self.together)
        self.statements = []
        inside: Expr | None = None
        if self.together > 1:
            number = add(number, Var("place"))
            if not isinstance(self.count, int) or self.count % self.together:
                inside = apply(Op.LT, number, rows)
                number = apply(Op.MIN, number, sub(rows, 1))
        for name, value in split(number, self.rows, arguments).items():
            self.row_values[name] = self._register(value)
        last = self._output(inside)
        body = (*self.statements, *last)
        loops = [("slice", self.lanes, LoopKind.INVOCATION_X)]
        if self.together > 1:
            loops.append(("place", self.together, LoopKind.INVOCATION_Y))
        if self.across:
            loops = [("place", self.together, LoopKind.INVOCATION_X), ("slice", self.lanes, LoopKind.INVOCATION_Y)]
        nest: tuple[Stmt, ...] = body
        for name, extent, kind in loops:
            nest = (Loop(name, Const(extent), nest, kind),)
        types = dict.fromkeys(reduce.type for reduce in stage.reductions)
        size = self.lanes * self.together
        memory = tuple(Local(_memory(type), type, size=size, space=Space.WORKGROUP) for type in types)
        groups = floor_div(add(rows, self.together - 1), self.together)
        whole = (Loop("group", groups, (*memory, *nest), LoopKind.WORKGROUP_X),)
        return arguments.call(Kernel(stage_name(stage, arguments.context), (), (), whole))

    def _output(self, inside: Expr | None) -> tuple[Stmt, ...]:
        """The row's elements, shared by its invocations."""
        arguments, stage = self.arguments, self.arguments.stage
        parts = [*surface(stage.body)]
        element = Var("element")
        values = {**self.ones, **self.row_values}
        if self.elements:
            values |= self._numbered(parts, [arguments.target()], self.elements, element)
        value = self._invariant(stage.body, values)
        axes = [Const(0) if axis.extent == 1 else axis.var for axis in stage.axes]
        target = self._place(stage.output, tuple(axes), values)
        store: Stmt = Store("out", target, value)
        if self.elements:
            count = i32(arguments.dim(product([axis.extent for axis in self.elements])))
            store = Loop("element", self._mine(count), (store,), LoopKind.SERIAL, Var("slice"), self.lanes)
        else:
            first = apply(Op.EQ, Var("slice"), Const(0))
            inside = first if inside is None else apply(Op.AND, first, inside)
        return (store,) if inside is None else (If(inside, (store,)),)

    def _mine(self, count: Expr) -> Expr:
        """How many of `count` iterations one invocation of a row takes."""
        return floor_div(sub(add(count, self.lanes - 1), Var("slice")), self.lanes)

    def ordered(self, reduce: Reduce) -> tuple[Axis, ...]:
        """The axes of a reduction, the one along which an operand lies densest last."""
        axes = [axis for axis in reduce.axes if axis.extent != 1]
        for read in _reads(reduce):
            place = self.arguments.place(read.tensor, read.indices)
            dense = [axis for axis in axes if stride(place, axis.name) == 1]
            if dense:
                return (*(axis for axis in axes if axis != dense[-1]), dense[-1])
        return tuple(axes)

    def terms(self, reduce: Reduce, number: Expr) -> dict[str, Expr]:
        """The values of a reduction's axes at a term's number."""
        return self._numbered([*surface(reduce.body)], [], self.ordered(reduce), number)

    def _numbered(
        self, parts: Sequence[Expr], places: Sequence[Expr], axes: tuple[Axis, ...], number: Expr
    ) -> dict[str, Expr]:
        direct = all(is_plain(part) for part in parts if isinstance(part, Read))
        if direct and len(axes) > 1 and self.arguments.flat(parts, places, axes):
            return {**{axis.name: Const(0) for axis in axes[:-1]}, axes[-1].name: number}
        return split(number, axes, self.arguments)

    # values

    def _register(self, value: Expr) -> Expr:
        if isinstance(value, Var | Const):
            return value
        name = f"value_{self.registers}"
        self.registers += 1
        self.statements.append(Local(name, value.type, value))
        return Var(name, value.type)

    def _invariant(self, expr: Expr, values: Mapping[str, Expr]) -> Expr:
        """The output's value: what depends on reductions but not on the element is computed once for the row."""
        if isinstance(expr, Reduce | Read | Var | Const):
            return self._value(expr, values)
        holds = any(isinstance(part, Reduce) for part in subexpressions(expr))
        if holds and not free_variables(expr) & {axis.name for axis in self.elements}:
            return self._register(self._value(expr, values))
        return map_children(expr, lambda part: self._invariant(part, values))

    def _value(self, expr: Expr, values: Mapping[str, Expr]) -> Expr:
        """The expression with its reductions in registers and its reads as loads."""
        match expr:
            case Reduce():
                return self._reduced(expr)
            case Read(tensor=tensor, indices=indices, type=type):
                return Load(self.arguments.buffer(tensor), self._place(tensor, indices, values), type)
            case Var(name=name):
                return values.get(name, self.arguments.parameters.expr(expr))
            case _:
                return map_children(expr, lambda part: self._value(part, values))

    def _place(self, tensor: str, indices: tuple[Expr, ...], values: Mapping[str, Expr]) -> Expr:
        index = simplify(position(self.arguments.context, tensor, indices), self.known)
        return self._value(index, values)

    def _reduced(self, reduce: Reduce) -> Var:
        """The result of a reduction, in a register of every invocation of the row."""
        if reduce in self.computed:
            return self.computed[reduce]
        term = Var(f"term_{self.registers}")
        terms = [axis for axis in reduce.axes if axis.extent != 1]
        values = {**self.ones, **self.row_values, **self.terms(reduce, term)}
        value = self._value(reduce.body, values)
        total = Var(f"total_{self.registers}", reduce.type)
        half, turn = Var(f"half_{self.registers}"), f"turn_{self.registers}"
        self.registers += 1
        memory = _memory(reduce.type)
        if any(found.type is reduce.type for found in self.computed.values()):
            self.statements.append(Barrier())
        count = i32(self.arguments.dim(product([axis.extent for axis in terms])))
        here = self._part(Var("slice"))
        pair = Load(memory, here, reduce.type), Load(memory, self._part(add(Var("slice"), half)), reduce.type)
        self.statements += [
            Local(total.name, reduce.type, identity(reduce.op, reduce.type)),
            Loop(
                term.name,
                self._mine(count),
                (Assign(total.name, combine(reduce.op, total, value)),),
                LoopKind.SERIAL,
                Var("slice"),
                self.lanes,
            ),
            Store(memory, here, total),
            Barrier(),
            Local(half.name, Scalar.I32, Const(self.lanes // 2)),
            Loop(
                turn,
                Const(self.lanes.bit_length() - 1),
                (
                    If(apply(Op.LT, Var("slice"), half), (Store(memory, here, combine(reduce.op, *pair)),)),
                    Barrier(),
                    Assign(half.name, apply(Op.DIV, half, Const(2))),
                ),
            ),
        ]
        result = self._register(Load(memory, self._part(Const(0)), reduce.type))
        assert isinstance(result, Var), "a load is kept in a register"
        self.computed[reduce] = result
        return result

    def _part(self, slice: Expr) -> Expr:
        """Where the part of one invocation of the row lies in workgroup memory."""
        if self.together == 1:
            return slice
        if self.across:
            return add(mul(slice, self.together), Var("place"))
        return add(mul(Var("place"), self.lanes), slice)


def _memory(type: Scalar) -> str:
    return f"parts_{type.value}"
