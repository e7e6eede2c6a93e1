"""Matrix products on a GPU: C[m, n] = epilogue(sum over k of A[m, k] * B[k, n]), tiled through workgroup memory.

A workgroup computes one tile of C. It walks along k in steps: all its invocations copy a piece of A and one of B into
workgroup memory, then each multiplies its rows and columns in registers. In small tiles, slices of the invocations
share the k of a step, and their sums are added in the end. Elements of A and B come from callbacks, so a convolution is
the same kernel with A gathered from an image. Edges are zeros in workgroup memory and guarded stores; extents may be
symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from webdnn_backends.ir.build import add, apply, f32, floor_div, floor_mod, i32, mul, select
from webdnn_backends.ir.loops import (
    Assign,
    Barrier,
    BufferParameter,
    Const,
    Expr,
    If,
    Kernel,
    Lane,
    Load,
    Local,
    Loop,
    LoopKind,
    Space,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.scalars import Op, Scalar

__all__ = ["TILES", "Product", "Row", "Tile", "choose_tile", "narrow_product", "row_product", "tiled_product"]

Row: TypeAlias = Mapping[str, Expr]

_ZERO4 = Splat(f32(0.0), 4)


@dataclass(frozen=True)
class Product:
    """One matrix product, or a batch of them.

    m, n, k: extents. batch: extent of the variable `batch`, which the callbacks may use. rows(m): the coordinates of a
    row, computed once and handed to `left` and `store`. left(row, k, lanes) and right(k, n, lanes): elements of A along
    k and of B along n; they are asked for four lanes, from a multiple of four, only where `left_vectors` and
    `right_vectors` say so. store(row, n, value): writes one column, or four from a multiple of four where
    `store_vectors` holds.
    """

    name: str
    m: int | Expr
    n: int | Expr
    k: int | Expr
    rows: Callable[[Expr], Row]
    left: Callable[[Row, Expr, int], Expr]
    right: Callable[[Expr, Expr, int], Expr]
    store: Callable[[Row, Expr, Expr], tuple[Stmt, ...]]
    batch: int | Expr = 1
    buffers: tuple[BufferParameter, ...] = ()
    parameters: tuple[str, ...] = ()
    left_vectors: bool = False
    right_vectors: bool = False
    store_vectors: bool = False


@dataclass(frozen=True)
class Tile:
    """rows x columns of C per workgroup, depth along k per step and slice; each invocation computes
    row_block x column_block, of its slice's part of k."""

    rows: int
    columns: int
    depth: int
    row_block: int
    column_block: int
    slices: int = 1

    @property
    def across(self) -> int:
        """Invocations along n."""
        return self.columns // self.column_block

    @property
    def down(self) -> int:
        """Invocations along m."""
        return self.rows // self.row_block

    @property
    def step(self) -> int:
        """Elements along k that the workgroup goes through at once."""
        return self.depth * self.slices

    @property
    def memory(self) -> int:
        """Elements of workgroup memory: a piece of A, then one of B; in the end the sums of all slices but one."""
        pieces = (self.rows + self.columns) * self.step
        return max(pieces, self.rows * self.columns * (self.slices - 1))


TILES = (
    Tile(128, 128, 16, 8, 8),
    Tile(64, 64, 32, 8, 4),
    Tile(32, 64, 16, 4, 8, slices=2),
    Tile(16, 32, 16, 2, 4, slices=4),
)
"""Largest first: more arithmetic per byte; smaller ones keep more of a GPU busy with a smaller C. All fit 16 KiB of
workgroup memory. More slices of smaller tiles would be faster yet on the largest GPUs, and slower on all others."""

_FEWEST = (192, 192, 96)
"""The numbers of workgroups from which all but the last are taken."""

_USED = 0.75
"""The least part of a large tile's elements that lie in the matrix."""


def choose_tile(m: int | Expr, n: int | Expr, batch: int | Expr) -> Tile:
    """The largest tile of which there are enough to fill a GPU, with little of it outside the matrix."""
    if not isinstance(m, int) or not isinstance(n, int):
        # Never far from the best: a quarter slower for a large matrix, where a large tile is several times slower for a
        # small one.
        return TILES[2]
    count = batch if isinstance(batch, int) else 1
    for tile, fewest in zip(TILES[:-1], _FEWEST, strict=True):
        down, across = -(-m // tile.rows), -(-n // tile.columns)
        used = m * n / (down * tile.rows * across * tile.columns)
        if count * down * across >= fewest and used >= _USED:
            return tile
    return TILES[-1]


_ENOUGH_INVOCATIONS = 4096
"""Of a narrow product: fewer leave a GPU idle."""


def tiled_product(product: Product, tile: Tile) -> Kernel:
    """The kernel: workgroups (columns, rows, batch) of invocations (across, down, slice).

    While a step is multiplied the next one is on its way: its elements are loaded into registers first.
    """
    x, y = Var("across"), Var("down")
    first_row, first_column = Var("first_row"), Var("first_column")
    rows = [add(mul(y, tile.row_block), i) for i in range(tile.row_block)]
    columns = [add(mul(x, 4), tile.across * 4 * j) for j in range(tile.column_block // 4)]
    copied = _copied_rows(product, tile)
    fetches = [*_fetch_left(product, tile, copied), *_fetch_right(product, tile)]
    following = add(Var("block"), 1)
    body: tuple[Stmt, ...] = (
        Local("first_row", Scalar.I32, mul(Var("tile_row"), tile.rows)),
        Local("first_column", Scalar.I32, mul(Var("tile_column"), tile.columns)),
        Local("blocks", Scalar.I32, floor_div(add(i32(product.k), tile.step - 1), tile.step)),
        *(Local(_sum(i, j), Scalar.F32, _ZERO4, lanes=4) for i in range(len(rows)) for j in range(len(columns))),
        *(statement for row in copied for statement in row.declared),
        *(Local(fetch.register, Scalar.F32, fetch.value(Const(0)), lanes=4) for fetch in fetches),
        Loop(
            "block",
            Var("blocks"),
            (
                *(Store("pieces", fetch.place, Var(fetch.register, Scalar.F32, 4)) for fetch in fetches),
                Barrier(),
                If(
                    apply(Op.LT, following, Var("blocks")),
                    tuple(Assign(fetch.register, fetch.value(mul(following, tile.step))) for fetch in fetches),
                ),
                _multiply(tile, rows, columns),
                Barrier(),
            ),
        ),
        *_store(product, tile, [add(first_row, row) for row in rows], [add(first_column, at) for at in columns]),
    )
    nest: tuple[Stmt, ...] = body
    nest = (Loop("across", Const(tile.across), nest, LoopKind.INVOCATION_X),)
    nest = (Loop("down", Const(tile.down), nest, LoopKind.INVOCATION_Y),)
    if tile.slices > 1:
        nest = (Loop("slice", Const(tile.slices), nest, LoopKind.INVOCATION_Z),)
    nest = (Local("pieces", Scalar.F32, size=tile.memory, space=Space.WORKGROUP), *nest)
    for name, extent, kind in (
        ("tile_column", _tiles(product.n, tile.columns), LoopKind.WORKGROUP_X),
        ("tile_row", _tiles(product.m, tile.rows), LoopKind.WORKGROUP_Y),
        ("batch", i32(product.batch), LoopKind.WORKGROUP_Z),
    ):
        nest = (Loop(name, extent, nest, kind),)
    return Kernel(product.name, product.buffers, product.parameters, nest)


def _tiles(extent: int | Expr, size: int) -> Expr:
    return floor_div(add(i32(extent), size - 1), size)


def _sum(row: int, column: int) -> str:
    return f"sum_{row}_{column}"


def _exceeds(extent: int | Expr, size: int) -> bool:
    """Whether tiles of that size may reach beyond the extent."""
    return not isinstance(extent, int) or extent % size != 0


def _both(*conditions: Expr | None) -> Expr | None:
    result: Expr | None = None
    for condition in conditions:
        if condition is not None:
            result = condition if result is None else apply(Op.AND, result, condition)
    return result


def _below(value: Expr, extent: int | Expr, size: int) -> Expr | None:
    """value < extent, or None where tiles of that size never reach beyond it."""
    return apply(Op.LT, value, i32(extent)) if _exceeds(extent, size) else None


def _copies(tile: Tile, elements: int) -> Iterator[Expr]:
    """The numbers of the vec4s that one invocation copies."""
    invocations = tile.across * tile.down * tile.slices
    flat = add(mul(Var("down"), tile.across), Var("across"))
    if tile.slices > 1:
        flat = add(mul(Var("slice"), tile.across * tile.down), flat)
    vectors = elements // 4
    assert vectors % invocations == 0, "a tile is copied in whole rounds"
    for turn in range(vectors // invocations):
        yield add(flat, turn * invocations)


@dataclass(frozen=True)
class _Fetch:
    """One vec4 on its way to workgroup memory: its register, its place there, its value in a step by where that begins
    along k."""

    register: str
    place: Expr
    value: Callable[[Expr], Expr]


@dataclass(frozen=True)
class _CopiedRow:
    """One vec4 of A that an invocation copies in every step: its number in the tile, and its row's coordinates."""

    number: Expr
    m: Expr
    row: Row
    declared: tuple[Stmt, ...]


def _copied_rows(product: Product, tile: Tile) -> list[_CopiedRow]:
    """The coordinates of the rows that this invocation copies, in registers: they stay the same along k."""
    found = []
    for turn, number in enumerate(_copies(tile, tile.rows * tile.step)):
        m: Expr = add(Var("first_row"), floor_div(number, tile.step // 4))
        row, declared = _in_registers(product.rows(m), f"copy_{turn}")
        found.append(_CopiedRow(number, m, row, declared))
    return found


def _in_registers(row: Row, prefix: str) -> tuple[Row, tuple[Stmt, ...]]:
    names = {name: f"{prefix}_{at}" for at, name in enumerate(row) if not isinstance(row[name], Const)}
    declared = tuple(Local(register, Scalar.I32, row[name]) for name, register in names.items())
    return {name: Var(names[name]) if name in names else row[name] for name in row}, declared


def _fetch_left(product: Product, tile: Tile, copied: list[_CopiedRow]) -> Iterator[_Fetch]:
    """Rows of A, four elements along k at a time, kept as [row][k]."""
    width = tile.step // 4

    def value(copy: _CopiedRow, start: Expr) -> Expr:
        depth = add(start, mul(floor_mod(copy.number, width), 4))
        inside = _below(copy.m, product.m, tile.rows)
        if product.left_vectors:
            guard = _both(inside, _below(depth, product.k, tile.step))
            return _guard(guard, product.left(copy.row, depth, 4), _ZERO4)
        lanes = []
        for lane in range(4):
            at = add(depth, lane)
            guard = _both(inside, _below(at, product.k, tile.step))
            lanes.append(_guard(guard, product.left(copy.row, at, 1), f32(0.0)))
        return Vector(tuple(lanes))

    for turn, copy in enumerate(copied):
        yield _Fetch(f"next_left_{turn}", mul(copy.number, 4), partial(value, copy))


def _fetch_right(product: Product, tile: Tile) -> Iterator[_Fetch]:
    """Rows of B, four columns at a time, kept as [k][column] behind the piece of A."""
    width = tile.columns // 4

    def value(number: Expr, start: Expr) -> Expr:
        k, column = floor_div(number, width), mul(floor_mod(number, width), 4)
        depth, n = add(start, k), add(Var("first_column"), column)
        inside = _below(depth, product.k, tile.step)
        if product.right_vectors:
            return _guard(_both(inside, _below(n, product.n, tile.columns)), product.right(depth, n, 4), _ZERO4)
        lanes = []
        for lane in range(4):
            at = add(n, lane)
            guard = _both(inside, _below(at, product.n, tile.columns))
            lanes.append(_guard(guard, product.right(depth, at, 1), f32(0.0)))
        return Vector(tuple(lanes))

    for turn, number in enumerate(_copies(tile, tile.step * tile.columns)):
        place = add(mul(number, 4), tile.rows * tile.step)
        yield _Fetch(f"next_right_{turn}", place, partial(value, number))


def _guard(condition: Expr | None, value: Expr, otherwise: Expr) -> Expr:
    return value if condition is None else select(condition, value, otherwise)


def _multiply(tile: Tile, rows: list[Expr], columns: list[Expr]) -> Stmt:
    """Four steps along k for the whole register block."""
    depth = mul(Var("step"), 4)
    if tile.slices > 1:
        depth = add(mul(Var("slice"), tile.depth), depth)
    behind = tile.rows * tile.step
    body: list[Stmt] = []
    for i, row in enumerate(rows):
        at = add(mul(row, tile.step), depth)
        body.append(Local(f"left_{i}", Scalar.F32, Load("pieces", at, Scalar.F32, 4), lanes=4))
    for lane in range(4):
        for j, column in enumerate(columns):
            at = add(add(mul(add(depth, lane), tile.columns), column), behind)
            name = f"right_{lane}_{j}"
            body.append(Local(name, Scalar.F32, Load("pieces", at, Scalar.F32, 4), lanes=4))
            for i in range(len(rows)):
                total = Var(_sum(i, j), Scalar.F32, 4)
                factor = Splat(Lane(Var(f"left_{i}", Scalar.F32, 4), lane), 4)
                body.append(Assign(total.name, apply(Op.FMA, factor, Var(name, Scalar.F32, 4), total)))
    return Loop("step", Const(tile.depth // 4), tuple(body))


def _store(product: Product, tile: Tile, rows: list[Expr], columns: list[Expr]) -> Iterator[Stmt]:
    """The epilogue of every row and column inside the matrix, by the first slice once it has added up the others."""
    sums = [Var(_sum(i, j), Scalar.F32, 4) for i in range(len(rows)) for j in range(len(columns))]
    statements: list[Stmt] = []
    if tile.slices > 1:
        invocations = tile.across * tile.down
        flat = add(mul(Var("down"), tile.across), Var("across"))

        def place(slice: Expr, number: int) -> Expr:
            return mul(add(mul(add(mul(add(slice, -1), len(sums)), number), invocations), flat), 4)

        put = tuple(Store("pieces", place(Var("slice"), at), total) for at, total in enumerate(sums))
        yield If(apply(Op.GT, Var("slice"), Const(0)), put)
        yield Barrier()
        part = Var("part")
        found = [Load("pieces", place(part, at), Scalar.F32, 4) for at in range(len(sums))]
        added = tuple(Assign(total.name, apply(Op.ADD, total, value)) for total, value in zip(sums, found, strict=True))
        statements.append(Loop("part", Const(tile.slices - 1), added, start=Const(1)))
    for i, m in enumerate(rows):
        row, declared = _in_registers(product.rows(m), f"out_{i}")
        inside: list[Stmt] = list(declared)
        for j, n in enumerate(columns):
            inside += _store_columns(product, row, n, Var(_sum(i, j), Scalar.F32, 4))
        statements.append(If(apply(Op.LT, m, i32(product.m)), tuple(inside)))
    if tile.slices > 1:
        yield If(apply(Op.EQ, Var("slice"), Const(0)), tuple(statements))
    else:
        yield from statements


def _store_columns(product: Product, row: Row, n: Expr, total: Var) -> Iterator[Stmt]:
    if product.store_vectors:
        yield If(apply(Op.LT, n, i32(product.n)), product.store(row, n, total))
        return
    for lane in range(4):
        at = add(n, lane)
        yield If(apply(Op.LT, at, i32(product.n)), product.store(row, at, Lane(total, lane)))


def narrow_product(product: Product) -> Kernel:
    """A product with few columns, in batches or not: an invocation computes four columns of some rows by itself.

    Neighbouring invocations take the columns of one row, then those of the next batch, whose outputs often lie next to
    each other.
    """
    block = _narrow_rows(product)
    lanes = 4 if product.left_vectors else 1
    n, depth = mul(Var("columns"), 4), mul(Var("step"), lanes)
    rows = [add(mul(Var("rows"), block), i) for i in range(block)]
    body: list[Stmt] = []
    terms: list[Stmt] = []
    places: list[Row] = []
    for i, m in enumerate(rows):
        last = add(i32(product.m), -1)
        inside = apply(Op.MIN, m, last) if i and _exceeds(product.m, block) else m
        row, declared = _in_registers(product.rows(inside), f"at_{i}")
        places.append(row)
        body += declared
        body.append(Local(_sum(i, 0), Scalar.F32, _ZERO4, lanes=4))
        terms.append(Local(f"left_{i}", Scalar.F32, product.left(row, depth, lanes), lanes=lanes))
    for lane in range(lanes):
        right = Var(f"right_{lane}", Scalar.F32, 4)
        terms.append(Local(right.name, Scalar.F32, _columns(product, add(depth, lane), n, 4), lanes=4))
        for i in range(block):
            left: Expr = Var(f"left_{i}", Scalar.F32, lanes)
            factor = Splat(Lane(left, lane) if lanes > 1 else left, 4)
            total = Var(_sum(i, 0), Scalar.F32, 4)
            terms.append(Assign(total.name, apply(Op.FMA, factor, right, total)))
    body.append(Loop("step", floor_div(i32(product.k), lanes), tuple(terms)))
    for i, m in enumerate(rows):
        stores = tuple(_store_columns(product, places[i], n, Var(_sum(i, 0), Scalar.F32, 4)))
        guard = _below(m, product.m, block) if i else None
        body += stores if guard is None else [If(guard, stores)]
    nest = tuple(body)
    for name, extent in (
        ("columns", _tiles(product.n, 4)),
        ("batch", i32(product.batch)),
        ("rows", _tiles(product.m, block)),
    ):
        nest = (Loop(name, extent, nest, LoopKind.PARALLEL),)
    return Kernel(product.name, product.buffers, product.parameters, nest)


def _narrow_rows(product: Product) -> int:
    """Rows of an invocation: as many as leave enough invocations."""
    if not isinstance(product.m, int) or not isinstance(product.n, int):
        return 4
    batch = product.batch if isinstance(product.batch, int) else 1
    each = batch * -(-product.n // 4)
    return next((rows for rows in (4, 2) if each * (product.m // rows) >= _ENOUGH_INVOCATIONS), 1)


def _columns(product: Product, depth: Expr, n: Expr, width: int) -> Expr:
    """Four columns of a row of B, zero beyond the last."""
    if product.right_vectors:
        return _guard(_below(n, product.n, width), product.right(depth, n, 4), _ZERO4)
    lanes = [add(n, lane) for lane in range(4)]
    each = (_guard(_below(lane, product.n, width), product.right(depth, lane, 1), f32(0.0)) for lane in lanes)
    return Vector(tuple(each))


def row_product(product: Product, *, across: int | None = None) -> Kernel:
    """A product with few rows: a workgroup computes four columns of one row for each of its invocations `across`, and
    `_ROW_INVOCATIONS / across` of them share k.

    Each invocation sums its part of k for four columns; the parts are added in workgroup memory. Narrow workgroups are
    many, which is what fills a GPU from one row of weights.
    """
    across = _across(product) if across is None else across
    slices, width = _ROW_INVOCATIONS // across, 4 * across
    x, y = Var("across"), Var("down")
    row, declared = _in_registers(product.rows(Var("row")), "at")
    n = add(mul(Var("tile_column"), width), mul(x, 4))
    total = Var("total", Scalar.F32, 4)
    part = Load("parts", mul(add(mul(Var("slice"), across), x), 4), Scalar.F32, 4)
    body: tuple[Stmt, ...] = (
        *declared,
        Local("total", Scalar.F32, _ZERO4, lanes=4),
        _row_terms(product, row, n, slices, width),
        Store("parts", mul(add(mul(y, across), x), 4), total),
        Barrier(),
        If(
            apply(Op.EQ, y, Const(0)),
            (
                Loop("slice", Const(slices - 1), (Assign("total", apply(Op.ADD, total, part)),), start=Const(1)),
                *_store_columns(product, row, n, total),
            ),
        ),
    )
    memory = Local("parts", Scalar.F32, size=width * slices, space=Space.WORKGROUP)
    nest: tuple[Stmt, ...] = (Loop("across", Const(across), body, LoopKind.INVOCATION_X),)
    nest = (memory, Loop("down", Const(slices), nest, LoopKind.INVOCATION_Y))
    for name, extent, kind in (
        ("tile_column", _tiles(product.n, width), LoopKind.WORKGROUP_X),
        ("row", i32(product.m), LoopKind.WORKGROUP_Y),
        ("batch", i32(product.batch), LoopKind.WORKGROUP_Z),
    ):
        nest = (Loop(name, extent, nest, kind),)
    return Kernel(product.name, product.buffers, product.parameters, nest)


_ROW_INVOCATIONS = 256
_MANY_WORKGROUPS = 256
_AT_ONCE = 4


def _across(product: Product) -> int:
    """The widest workgroups of which there are many; a few columns of each row still fill whole memory sectors."""
    if not isinstance(product.n, int):
        return 16
    rows = product.m if isinstance(product.m, int) else 1
    batch = product.batch if isinstance(product.batch, int) else 1
    for across in (16, 8):
        if rows * batch * -(-product.n // (4 * across)) >= _MANY_WORKGROUPS:
            return across
    return 4


def _row_terms(product: Product, row: Row, n: Expr, slices: int, width: int) -> Stmt:
    """One invocation's part of k, several loads in flight at once where k is a multiple of as many turns."""
    y, k = Var("down"), Var("depth")
    several = isinstance(product.k, int) and product.k % (slices * _AT_ONCE) == 0
    turns = _AT_ONCE if several else 1
    loads: list[Stmt] = []
    terms: list[Stmt] = []
    total = Var("total", Scalar.F32, 4)
    for turn in range(turns):
        at = add(k, turn * slices)
        weights = _columns(product, at, n, width)
        left, right = Var(f"left_{turn}", Scalar.F32), Var(f"right_{turn}", Scalar.F32, 4)
        loads.append(Local(left.name, Scalar.F32, product.left(row, at, 1)))
        loads.append(Local(right.name, Scalar.F32, weights, lanes=4))
        terms.append(Assign("total", apply(Op.FMA, Splat(left, 4), right, total)))
    step = slices * turns
    mine = floor_div(add(i32(product.k), add(mul(y, -1), step - 1)), step)
    return Loop("depth", mine, (*loads, *terms), LoopKind.SERIAL, y, step)
