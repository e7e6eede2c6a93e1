"""Products with constant weights of a few bits: MatMulNBits as one kernel that reads four words of a row at once.

The weights stay in the file's layout, seen as 32-bit words. A word holds 32 / bits neighbouring values of a row; four
words, one to a lane, are a group. Shifting the group down by s values leaves in its lanes the values s, s + 8, s + 16
and s + 24 (of 4 bits), so the left operand is first rearranged to have these side by side. The file's order is kept
for the weights because they are large, and changed for the operand because it is small.

A GPU needs more parallel iterations than a few rows have elements. So several iterations, the *slices*, stand side by
side for each column. With few rows they share a row of weights, neighbours reading neighbouring words, and their sums
are added by the stage behind; with many rows each has rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Access, Assign, Cast, Expr, If, Lane, Load, Local, Splat, Stmt, Var, Vector
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, Operand, loop
from webdnn_backends.lower.formulas import as_type, at_most, less, plus
from webdnn_backends.lower.movement import flat_index, unflatten
from webdnn_backends.te.tensors import ReshapeHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, product

__all__ = ["lower_packed_product"]

_ROWS = 4
"""Rows of the result that one iteration computes together where there are many, to share the unpacked weights."""
_FEW = 2
"""So many rows are few."""
_MOST_SLICES = 16


@dataclass(frozen=True)
class _Format:
    """How a row of weights is packed. depth: values that count; columns: rows of the packed matrix."""

    depth: int
    columns: int
    bits: int
    block: int

    @property
    def blocks(self) -> int:
        return -(-self.depth // self.block)

    @property
    def padded(self) -> int:
        """Values in a row, those that fill its last block included."""
        return self.blocks * self.block

    @property
    def words(self) -> int:
        """32-bit words in a row."""
        return self.padded * self.bits // 32

    @property
    def per_word(self) -> int:
        return 32 // self.bits

    @property
    def group(self) -> int:
        """Values in four words."""
        return 4 * self.per_word

    @property
    def unit(self) -> int:
        """Values that are summed before their scale is applied: a block, or a group that holds several."""
        return max(self.block, self.group)

    @property
    def slices(self) -> int:
        """Iterations side by side for each column: a power of two that divides the units."""
        units = self.padded // self.unit
        return min(units & -units, _MOST_SLICES)

    @property
    def in_groups(self) -> bool:
        """Whether rows are whole groups, and blocks and groups lie within one another."""
        whole = self.padded * self.bits % 128 == 0
        return whole and (self.block % self.group == 0 or self.group % self.block == 0)


def lower_packed_product(context: NodeContext) -> bool:
    """Lower a MatMulNBits node whose weights are constants in whole groups; False where they are not."""
    form = _Format(
        context.attribute("K", 0),
        context.attribute("N", 0),
        context.attribute("bits", 4),
        context.attribute("block_size", 32),
    )
    weights = context.constant(1)
    if weights is None or weights.size != form.columns * form.padded * form.bits // 8 or not form.in_groups:
        return False
    if context.has(4) or form.bits not in (2, 4, 8) or context.dtype(0) is DType.FLOAT64:
        return False
    zeros = ""
    if context.has(3):
        found = context.constant(3)
        if context.dtype(3) is not DType.UINT8:
            zeros = context.name(3)
        elif found is None:
            return False
        else:
            zeros = context.table(_unpacked_zeros(found, form))
    words = np.ascontiguousarray(weights).reshape(form.columns, -1).view("<u4").astype(np.uint32, copy=False)
    _product(context, form, context.table(words), zeros)
    return True


def _unpacked_zeros(packed: npt.NDArray[np.uint8], form: _Format) -> npt.NDArray[np.uint8]:
    """Zero points [columns, blocks], one to a byte."""
    rows = packed.reshape(form.columns, -1)
    shifts = np.arange(0, 8, form.bits, dtype=np.uint8)
    values = (rows[:, :, None] >> shifts) & np.uint8((1 << form.bits) - 1)
    return np.ascontiguousarray(values.reshape(form.columns, -1)[:, : form.blocks])


def _rearranged(context: NodeContext, form: _Format, rows: Dim) -> str:
    """The left operand as [rows, padded depth], each group in the order in which shifting takes its values. Products
    of one operand share it."""
    shape = context.shape(0)
    key = ("rearranged", context.name(0), form.padded, form.group)
    made = context.state.shared.get(key)
    if made is not None:
        return made

    def body(i: Indices) -> Expr:
        row, place = i
        start = mul(floor_div(place, form.group), form.group)
        lane, shift = floor_mod(place, 4), floor_div(floor_mod(place, form.group), 4)
        k = add(add(start, mul(lane, form.per_word)), shift)
        at = [*unflatten(row, shape[:-1]), k]
        if form.padded == form.depth:
            return as_type(Scalar.F32, context.element(0, at))
        return build.select(less(k, form.depth), as_type(Scalar.F32, context.element(0, at)), const(0, Scalar.F32))

    context.state.shared[key] = context.temporary(DType.FLOAT32, (rows, form.padded), body)
    return context.state.shared[key]


@dataclass(frozen=True)
class _Kernel:
    """The kernel while it is written: its operands, and the column that an iteration is about, `column`."""

    form: _Format
    left: Operand
    words: Operand
    scales: Operand
    zeros: Operand | None

    def parameter(self, operand: Operand, block: Expr) -> Expr:
        """A scale or zero point of the column, as F32."""
        at = add(mul(Var("column"), self.form.blocks), block)
        shape = operand.tensor.shape
        plain = shape == (self.form.columns, self.form.blocks)
        return as_type(Scalar.F32, operand.load([Var("column"), block] if plain else unflatten(at, shape)))

    def parameters(self, operand: Operand | None, block: Expr) -> Expr:
        """The same for each lane of a group. block: that of the first lane."""
        if operand is None:
            return Splat(const(1 << (self.form.bits - 1), Scalar.F32))
        if self.form.block >= self.form.group:
            return Splat(self.parameter(operand, block))
        blocks = [add(block, lane * self.form.per_word // self.form.block) for lane in range(4)]
        return Vector(tuple(self.parameter(operand, at) for at in blocks))

    def totals(self, rows: Sequence[Expr], shared: bool) -> tuple[Stmt, ...]:
        """The products of the column with rows of the left operand, in lanes, left in `total0`, `total1`, ...

        shared: of the units that are this slice's; else of all.
        """
        form = self.form
        nothing = Splat(const(0, Scalar.F32))
        step = form.slices if shared else 1
        unit = add(mul(Var("turn"), step), Var("slice")) if shared else Var("turn")
        first = mul(unit, form.unit // form.block)
        group = add(mul(unit, form.unit // form.group), Var("group"))
        packed = Var("packed", Scalar.U32, 4)
        zero, scale = Var("zero", Scalar.F32, 4), Var("scale", Scalar.F32, 4)
        steps: list[Stmt] = [
            Local("packed", Scalar.U32, self._words(group), lanes=4),
            Local("start", Scalar.I32, mul(group, form.group)),
        ]
        mask = Splat(const((1 << form.bits) - 1, Scalar.U32))
        for shift in range(form.per_word):
            moved = apply(Op.SHR, packed, const(shift * form.bits, Scalar.U32)) if shift else packed
            code = moved if shift == form.per_word - 1 else apply(Op.BIT_AND, moved, mask)
            weight = Var(f"weight{shift}", Scalar.F32, 4)
            steps.append(Local(weight.name, Scalar.F32, apply(Op.SUB, Cast(DType.FLOAT32, code), zero), lanes=4))
            for index, row in enumerate(rows):
                part = Var(f"part{index}", Scalar.F32, 4)
                at = add(add(mul(row, form.padded), Var("start")), 4 * shift)
                x = Load(self.left.buffer, at, Scalar.F32, 4)
                steps.append(Assign(part.name, apply(Op.FMA, x, weight, part)))
        parts = [Local(f"part{index}", Scalar.F32, nothing, lanes=4) for index in range(len(rows))]
        sums: list[Stmt] = []
        for index in range(len(rows)):
            part, total = (Var(f"{name}{index}", Scalar.F32, 4) for name in ("part", "total"))
            sums.append(Assign(total.name, apply(Op.FMA, part, scale, total)))
        return (
            *(Local(f"total{index}", Scalar.F32, nothing, lanes=4) for index in range(len(rows))),
            loop(
                "turn",
                form.padded // form.unit // step,
                Local("scale", Scalar.F32, self.parameters(self.scales, first), lanes=4),
                Local("zero", Scalar.F32, self.parameters(self.zeros, first), lanes=4),
                *parts,
                loop("group", form.unit // form.group, *steps),
                *sums,
            ),
        )

    def _words(self, group: Expr) -> Expr:
        return Load(self.words.buffer, add(mul(Var("column"), self.form.words), mul(group, 4)), Scalar.U32, 4)


def _total(index: int) -> Expr:
    """The sum of the lanes of a total."""
    total = Var(f"total{index}", Scalar.F32, 4)
    return plus(plus(Lane(total, 0), Lane(total, 1)), plus(Lane(total, 2), Lane(total, 3)))


def _shared(writer: _Kernel, parts: Operand, rows: Dim) -> tuple[Stmt, ...]:
    """A slice's share of a column for each row."""
    row = Var("row")
    store = parts.store([row, Var("column"), Var("slice")], _total(0))
    return (loop("row", rows, *writer.totals([row], True), store),)


def _own(writer: _Kernel, whole: Operand, rows: Dim) -> tuple[Stmt, ...]:
    """A column for all rows of a tile. Beyond the last row the last is computed again."""
    last = build.sub(build.dim(rows), 1)
    places = [Var(f"row{index}") for index in range(_ROWS)]
    return (
        *(
            Local(place.name, Scalar.I32, at_most(add(mul(Var("tile"), _ROWS), index), last))
            for index, place in enumerate(places)
        ),
        *writer.totals(places, False),
        *(whole.store([place, Var("column")], _total(index)) for index, place in enumerate(places)),
    )


def _product(context: NodeContext, form: _Format, words: str, zeros: str) -> None:
    rows = product(list(context.shape(0)[:-1]))
    few, many = not isinstance(rows, int) or rows <= _FEW, not isinstance(rows, int) or rows > _FEW
    kernel = Direct(context, f"matmul_{form.bits}bits")
    left = kernel.read(_rearranged(context, form, rows))
    writer = _Kernel(form, left, kernel.read(words), kernel.input(2), kernel.read(zeros) if zeros else None)
    access = Access.READ_WRITE if few and many else Access.WRITE

    def scratch(*shape: Dim) -> Operand:
        return kernel.write(context.scratch(DType.FLOAT32, shape), access=access)

    kept = rows if isinstance(rows, int) else _FEW
    parts = scratch(kept, form.columns, form.slices) if few else None
    whole = scratch(rows, form.columns) if many else None
    tiles = (rows + (_ROWS - 1)) // _ROWS
    if not many:
        assert parts is not None, "of few rows"
        part = loop("slice", form.slices, *_shared(writer, parts, rows), parallel=True)
        kernel.run(loop("column", form.columns, part, parallel=True))
    elif not few:
        assert whole is not None, "of many rows"
        # Neighbours share rows of the operand, of which they read more than of the weights.
        column = loop("column", form.columns, *_own(writer, whole, rows), parallel=True)
        kernel.run(loop("tile", tiles, column, parallel=True))
    else:
        assert parts is not None, "of few rows"
        assert whole is not None, "of many rows"
        # Iterations [round, place, slice] in this order are shares of columns, or columns for each tile of rows.
        # Neighbours share rows of the operand, of which they read more than of the weights.
        number = add(mul(add(mul(Var("round"), form.columns), Var("place")), form.slices), Var("slice"))
        share = (Local("column", Scalar.I32, Var("place")), *_shared(writer, parts, rows))
        own = (Local("column", Scalar.I32, floor_mod(number, form.columns)), *_own(writer, whole, rows))
        tile = Local("tile", Scalar.I32, floor_div(number, form.columns))
        own = (tile, If(less(Var("tile"), build.dim(tiles)), own))
        body = If(less(build.dim(rows), _FEW + 1), share, own)
        part = loop("slice", form.slices, body, parallel=True)
        rounds = (tiles + (form.slices - 1)) // form.slices
        kernel.run(loop("round", rounds, loop("place", form.columns, part, parallel=True), parallel=True))

    def result(i: Indices) -> Expr:
        row = flat_index(i[:-1], context.shape(0)[:-1])
        value: Expr = const(0, Scalar.F32)
        if whole is not None:
            value = context.read(whole.tensor.name, [row, i[-1]])
        if parts is not None:
            name, held = parts.tensor.name, row if not many else at_most(row, _FEW - 1)
            total = context.sum([form.slices], lambda k: context.read(name, [held, i[-1], *k]))
            value = build.select(less(build.dim(rows), _FEW + 1), total, value) if many else total
        return plus(value, as_type(Scalar.F32, context.element(5, [i[-1]]))) if context.has(5) else value

    same = whole is not None and parts is None and not context.has(5)
    context.emit(result, hint=ReshapeHint(whole.tensor.name) if same and whole is not None else None)
