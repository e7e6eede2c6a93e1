"""The register tile that matrix products and convolutions share: rows x (1 or 2 vectors of 4 columns) of accumulators.

The right operand comes in panels of 8 columns, `[panel][k][8]`; the left one element at a time, spread over the lanes.
A task is a block of rows times a group of panels; one call carries out a range of tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from webdnn_backends.ir.build import add, floor_div, floor_mod, i32, mul, sub
from webdnn_backends.ir.decompose import DEFINED
from webdnn_backends.ir.loops import (
    Apply,
    Assign,
    Const,
    Expr,
    If,
    Lane,
    Load,
    Local,
    Loop,
    LoopKind,
    Splat,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.statements import expressions

__all__ = ["COMMON_ROWS", "PANEL", "PLAIN", "RELAXED", "Operands", "Tile", "product_tasks"]

PANEL = 8
"""Columns of a panel of the right operand."""

COMMON_ROWS = 12
"""Both tiles divide it, so that tasks of this many rows are the same in every module."""

_VECTOR = 4
_ENOUGH_CHAINS = 8


@dataclass(frozen=True)
class Tile:
    """rows and vectors of four columns of the largest tile; all tiles divide 12 rows, so that tasks are the same in
    every module. most_registers: how many accumulators a small tile may be doubled to. unroll: how often the innermost
    loop is written out. blocked: whether long sums are interrupted, to keep a panel's block in the nearest cache."""

    rows: int
    vectors: int = 2
    most_registers: int = 16
    unroll: int = 2
    blocked: bool = True


RELAXED = Tile(6)
"""12 accumulators, 2 columns vectors and 1 spread element: the 15 vector registers that V8 leaves on x64."""
PLAIN = Tile(4)
"""A product that is not fused needs a register of its own."""


@dataclass(frozen=True)
class Operands:
    """What a tile reads and writes.

    reduce: extents of the nested sum, outermost first; the first may be cut into blocks (see `product_tasks`).
    handles(first row, count): registers to declare for a tile's rows, and what stands for each row in `left` (None: the
    row's number does). left(row, k indices): one element. right(panel, k indices, vector): four columns of a panel.
    store(m, n, value): writes one or four columns from n on.
    """

    reduce: tuple[Expr, ...]
    left: Callable[[Expr, tuple[Expr, ...]], Expr]
    right: Callable[[Expr, tuple[Expr, ...], int], Expr]
    store: Callable[[Expr, Expr, Expr], tuple[Stmt, ...]]
    handles: Callable[[Expr, int], tuple[Sequence[Stmt], Sequence[Expr]]] | None = None


def product_tasks(
    operands: Operands,
    tile: Tile,
    *,
    m: int | Expr,
    n: int | Expr,
    rows: int,
    panels: int,
    blocks: int | Expr = 1,
) -> tuple[Stmt, ...]:
    """Parallel loops `block` and `group` over tasks of `rows` rows (a multiple of 12) and `panels` panels.

    blocks: how often the sum is interrupted to keep the panel in the nearest cache; `operands` then see the block's
    number as the variable `kb`, and partial sums wait in an array.
    """
    assert rows % COMMON_ROWS == 0, "tasks hold whole tiles of either module"
    m, n = i32(m), i32(n)
    row_blocks = _ceil_div(m, rows)
    groups = _ceil_div(n, PANEL * panels)
    first_row, first_panel = mul(Var("block"), rows), mul(Var("group"), panels)
    body = _Task(operands, tile, m, n, rows, panels, i32(blocks), first_row, first_panel).statements()
    group = Loop("group", groups, body, LoopKind.PARALLEL)
    return (Loop("block", row_blocks, (group,), LoopKind.PARALLEL),)


def task_count(m: int, n: int, rows: int, panels: int) -> int:
    """How many tasks there are."""
    return -(-m // rows) * -(-n // (PANEL * panels))


def _ceil_div(value: Expr, divisor: int) -> Expr:
    return floor_div(add(value, divisor - 1), divisor)


def _minimum(left: Expr, right: Expr) -> Expr:
    if isinstance(left, Const) and isinstance(right, Const):
        return Const(min(int(left.value), int(right.value)))
    return Apply(Op.MIN, (left, right))


@dataclass(frozen=True)
class _Task:
    operands: Operands
    tile: Tile
    m: Expr
    n: Expr
    rows: int
    panels: int
    blocks: Expr
    first_row: Expr
    first_panel: Expr

    @property
    def blocked(self) -> bool:
        return self.blocks != Const(1)

    @cached_property
    def long(self) -> bool:
        """Whether what is behind the sum is too much to be written out for every row."""
        stores = self.operands.store(Var("m"), Var("n"), _accumulator(0, 0, 0))
        parts = (part for item in stores for part in expressions(item))
        return any(isinstance(part, Apply) and part.op in DEFINED for part in parts)

    def statements(self) -> tuple[Stmt, ...]:
        """Every tile of the task."""
        rows_here = self._rows_here()
        full = floor_div(self.n, PANEL)
        panels_here = _minimum(Const(self.panels), sub(full, self.first_panel))
        if isinstance(self.n, Const) and int(self.n.value) % (self.panels * PANEL) == 0:
            panels_here = Const(self.panels)
        body: list[Stmt] = []
        if full != Const(0):
            panel = add(self.first_panel, Var("p"))
            body.append(Loop("p", panels_here, self._panel(panel, Var("p"), None, rows_here)))
        body += self._last_panel(full, rows_here)
        waits = self.long or not isinstance(self.n, Const)
        edge = (Local("edge", Scalar.F32, size=COMMON_ROWS * PANEL),) if waits else ()
        if not self.blocked:
            return (*edge, *body)
        size = self.rows * self.panels * PANEL
        zero = Store("partial", mul(Var("z"), 4), Splat(Const(0.0, Scalar.F32)))
        return (
            *edge,
            Local("partial", Scalar.F32, size=size),
            Loop("z", Const(size // 4), (zero,)),
            Loop("kb", self.blocks, tuple(body)),
        )

    def _rows_here(self) -> Expr:
        if isinstance(self.m, Const) and int(self.m.value) % self.rows == 0:
            return Const(self.rows)
        return _minimum(Const(self.rows), sub(self.m, self.first_row))

    def _last_panel(self, full: Expr, rows_here: Expr) -> list[Stmt]:
        """The panel whose columns are not all there, in the task that has it."""
        columns: Expr = floor_mod(self.n, PANEL)
        if columns == Const(0):
            return []
        slot = sub(full, self.first_panel)
        inside = Apply(Op.LT, (slot, Const(self.panels)))
        tail: Stmt
        if isinstance(columns, Const):
            statements = self._panel(full, slot, int(columns.value), rows_here)
            whole = isinstance(full, Const) and int(full.value) < self.panels
            return list(statements) if whole else [If(inside, statements)]
        tail = If(Apply(Op.GT, (columns, Const(0))), self._panel(full, slot, columns, rows_here))
        return [If(inside, (tail,))]

    def _panel(self, panel: Expr, slot: Expr, columns: int | Expr | None, rows_here: Expr) -> tuple[Stmt, ...]:
        """The tiles of one panel; columns: how many there are (None: all)."""
        most = self.tile.rows
        vectors = -(-columns // _VECTOR) if isinstance(columns, int) else 2
        if vectors < self.tile.vectors and most * 2 <= COMMON_ROWS and self.rows % (most * 2) == 0:
            most *= 2
        tiles = floor_div(rows_here, most)
        out: list[Stmt] = []
        if tiles != Const(0):
            at = mul(Var("t"), most)
            out.append(Loop("t", tiles, self._tile(most, vectors, at, panel, slot, columns)))
        out += self._row_tails(most, vectors, rows_here, panel, slot, columns)
        return tuple(out)

    def _row_tails(
        self, most: int, vectors: int, rows_here: Expr, panel: Expr, slot: Expr, columns: int | Expr | None
    ) -> list[Stmt]:
        at = mul(floor_div(rows_here, most), most)
        if isinstance(self.m, Const):
            left = int(self.m.value) % self.rows % most
            if not left:
                return []
            tail = self._tile(left, vectors, at, panel, slot, columns)
            if isinstance(rows_here, Const) or int(self.m.value) < self.rows:
                return list(tail)
            return [If(Apply(Op.LT, (rows_here, Const(self.rows))), tail)]
        # A count that only running tells is taken apart into powers of two, the largest first.
        powers = [1 << bit for bit in reversed(range((most - 1).bit_length()))]
        tails: list[Stmt] = []
        for count in powers:
            rest = floor_mod(rows_here, most)
            if count != powers[0]:
                rest = floor_mod(rest, count * 2)
            tile = self._tile(count, vectors, sub(rows_here, rest), panel, slot, columns)
            tails.append(If(Apply(Op.GE, (rest, Const(count))), tile))
        return tails

    def _tile(
        self, rows: int, vectors: int, at: Expr, panel: Expr, slot: Expr, columns: int | Expr | None
    ) -> tuple[Stmt, ...]:
        """One tile: rows from `first_row + at` on of a panel."""
        first = add(self.first_row, at)
        out: list[Stmt] = []
        handles: Sequence[Expr] = [add(first, r) for r in range(rows)]
        if self.operands.handles is not None:
            declared, handles = self.operands.handles(first, rows)
            out += declared
        for begin in range(0, vectors, self.tile.vectors):
            group = range(begin, min(begin + self.tile.vectors, vectors))
            out += self._tile_columns(handles, group, at, panel, slot, columns)
        return tuple(out)

    def _tile_columns(
        self, handles: Sequence[Expr], vectors: range, at: Expr, panel: Expr, slot: Expr, columns: int | Expr | None
    ) -> list[Stmt]:
        """The sums of some neighbouring vectors of a tile, and what becomes of them."""
        rows, first = range(len(handles)), add(self.first_row, at)

        def place(r: int, v: int) -> Expr:
            return self._partial(at, r, slot, v)

        start = (lambda r, v: Load("partial", place(r, v), Scalar.F32, 4)) if self.blocked else None
        out = _sum(self.operands, handles, vectors, panel, start, self.tile)
        final: list[Stmt] = []
        if not (columns is None or isinstance(columns, int)):
            final += self._edge(first, len(rows), vectors, panel, columns)
        elif self.long and len(rows) > 1:
            final += self._one_by_one(first, len(rows), vectors, panel, columns)
        else:
            for r in rows:
                for v in vectors:
                    n = add(mul(panel, PANEL), v * _VECTOR)
                    final += self._store(add(first, r), n, _accumulator(0, r, v), v, columns)
        if not self.blocked:
            return [*out, *final]
        keep = tuple(Store("partial", place(r, v), _accumulator(0, r, v)) for r in rows for v in vectors)
        last = Apply(Op.EQ, (Var("kb"), sub(self.blocks, 1)))
        return [*out, If(last, tuple(final), keep)]

    def _partial(self, at: Expr, row: int, slot: Expr, vector: int) -> Expr:
        return add(mul(add(mul(slot, self.rows), add(at, row)), PANEL), vector * _VECTOR)

    def _store(self, m: Expr, n: Expr, value: Var, vector: int, columns: int | None) -> tuple[Stmt, ...]:
        if columns is None or columns >= (vector + 1) * _VECTOR:
            return self.operands.store(m, n, value)
        out: list[Stmt] = []
        for lane in range(columns - vector * _VECTOR):
            out += self.operands.store(m, add(n, lane), Lane(value, lane))
        return tuple(out)

    def _one_by_one(self, first: Expr, rows: int, vectors: range, panel: Expr, columns: int | None) -> list[Stmt]:
        """Stores of a tile through an array, one row at a time."""
        out: list[Stmt] = [
            Store("edge", Const(r * PANEL + v * _VECTOR), _accumulator(0, r, v)) for r in range(rows) for v in vectors
        ]
        body: list[Stmt] = []
        for v in vectors:
            name = f"sum_{v}"
            place = add(mul(Var("r"), PANEL), v * _VECTOR)
            body.append(Local(name, Scalar.F32, Load("edge", place, Scalar.F32, _VECTOR), lanes=_VECTOR))
            n = add(mul(panel, PANEL), v * _VECTOR)
            body += self._store(add(first, Var("r")), n, Var(name, Scalar.F32, _VECTOR), v, columns)
        return [*out, Loop("r", Const(rows), tuple(body))]

    def _edge(self, first: Expr, rows: int, vectors: range, panel: Expr, columns: Expr) -> list[Stmt]:
        """Stores of a tile with as many columns as only running tells: through an array, one at a time, so that what
        is behind the sum is written out once."""
        out: list[Stmt] = [
            Store("edge", Const(r * PANEL + v * _VECTOR), _accumulator(0, r, v)) for r in range(rows) for v in vectors
        ]
        start = vectors[0] * _VECTOR
        n = add(add(mul(panel, PANEL), start), Var("c"))
        place = add(mul(Var("r"), PANEL), add(Var("c"), start))
        one = Local("sum", Scalar.F32, Load("edge", place, Scalar.F32))
        body = (one, *self.operands.store(add(first, Var("r")), n, Var("sum", Scalar.F32)))
        here = _minimum(Const(len(vectors) * _VECTOR), sub(columns, start))
        return [*out, Loop("r", Const(rows), (Loop("c", here, body),))]


def _accumulator(chain: int, row: int, vector: int) -> Var:
    return Var(f"sum{chain}_{row}_{vector}", Scalar.F32, 4)


def _sum(
    operands: Operands,
    rows: Sequence[Expr],
    vectors: range,
    panel: Expr,
    start: Callable[[int, int], Expr] | None,
    tile: Tile,
) -> list[Stmt]:
    """Registers sum0_r_v = start + the whole sum. Few registers are doubled, so that additions need not wait."""
    size = len(rows) * len(vectors)
    chains = 1
    while size * chains < _ENOUGH_CHAINS and size * chains * 2 <= tile.most_registers:
        chains *= 2
    zero = Splat(Const(0.0, Scalar.F32))
    out: list[Stmt] = []
    for chain in range(chains):
        for r in range(len(rows)):
            for v in vectors:
                first = start(r, v) if start is not None and chain == 0 else zero
                out.append(Local(_accumulator(chain, r, v).name, Scalar.F32, first, lanes=4))
    out += _reduction(operands, rows, vectors, panel, max(chains, tile.unroll), chains)
    for r in range(len(rows)):
        for v in vectors:
            for chain in range(1, chains):
                total = Apply(Op.ADD, (_accumulator(0, r, v), _accumulator(chain, r, v)))
                out.append(Assign(_accumulator(0, r, v).name, total))
    return out


def _reduction(
    operands: Operands, rows: Sequence[Expr], vectors: range, panel: Expr, unroll: int, chains: int
) -> list[Stmt]:
    """The nest of loops over k, the innermost written out `unroll` times, with what is left over after it."""
    *outer, inner = operands.reduce
    names = [f"k{i}" for i in range(len(operands.reduce))]
    prefix: tuple[Expr, ...] = tuple(Var(name) for name in names[:-1])

    def step(k: Expr, chain: int) -> list[Stmt]:
        out: list[Stmt] = []
        for r, row in enumerate(rows):
            left = Splat(operands.left(row, (*prefix, k)))
            for v in vectors:
                accumulator = _accumulator(chain, r, v)
                right = operands.right(panel, (*prefix, k), v)
                out.append(Assign(accumulator.name, Apply(Op.FMA, (left, right, accumulator))))
        return out

    k = Var(names[-1])
    whole = floor_div(inner, unroll)
    many = [item for u in range(unroll) for item in step(add(k, u), u % chains)]
    body: list[Stmt] = []
    if whole != Const(0):
        body.append(Loop(k.name, whole, tuple(many), step=unroll))
    rest = floor_mod(inner, unroll)
    if rest != Const(0):
        body.append(Loop(k.name, rest, tuple(step(k, 0)), start=mul(whole, unroll)))
    for name, extent in reversed(list(zip(names[:-1], outer, strict=True))):
        body = [Loop(name, extent, tuple(body))]
    return body
