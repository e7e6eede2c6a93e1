"""Matrix products in WebAssembly: C[m, n] = epilogue(sum over k of A[m, k] * B[k, n]), in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.build import add, floor_div, i32, mul, sub
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
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
    Splat,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.wasm.tiles import COMMON_ROWS, PANEL, Operands, Tile, product_tasks, task_count
from webdnn_onnx.dtypes import DType

__all__ = [
    "MatMul",
    "matmul",
    "pack_panels",
    "pack_panels_kernel",
    "panel_elements",
    "plain_buffers",
    "product_extent",
    "row_products",
    "task_shape",
]

_LONGEST_SUM = 512
_BLOCK = 256
_ENOUGH_TASKS = 16
_NEAR = 64 * 1024
_LOW, _TALL = 24, 96
_VECTOR, _CHAINS = 4, 4


@dataclass(frozen=True)
class MatMul:
    """One matrix product.

    m, n, k: extents. batch: outer parallel loops (variable, extent), which `left`, `right` and `store` may use.
    left(m, k): one element of A. right: first element of B's panels, packed `[panel][k][8]`, in buffer `panels`.
    store(m, n, value): writes one or four columns; the epilogue is its caller's.
    """

    name: str
    buffers: tuple[BufferParameter, ...]
    m: int | Expr
    n: int | Expr
    k: int | Expr
    left: Callable[[Expr, Expr], Expr]
    panels: str
    store: Callable[[Expr, Expr, Expr], tuple[Stmt, ...]]
    right: int | Expr = 0
    batch: tuple[tuple[str, int | Expr], ...] = ()
    parameters: tuple[str, ...] = ()


def matmul(product: MatMul, tile: Tile) -> Kernel:
    """The kernel; its parallel range is batch * row blocks * column groups, whatever the tile."""
    k = i32(product.k)
    blocks, block = _blocking(k) if tile.blocked else (Const(1), 0)
    rows, panels = task_shape(product.m, product.n, product.k)
    start = mul(Var("kb"), block) if blocks != Const(1) else Const(0)
    inner: Expr = k
    if blocks != Const(1):
        inner = Const(block)
        if not (isinstance(k, Const) and int(k.value) % block == 0):
            inner = Apply(Op.MIN, (Const(block), sub(k, start)))

    def right(panel: Expr, indices: tuple[Expr, ...], vector: int) -> Expr:
        at = add(mul(add(mul(panel, k), add(start, indices[0])), PANEL), vector * 4)
        return Load(product.panels, add(product.right, at), Scalar.F32, 4)

    operands = Operands(
        reduce=(inner,),
        left=lambda row, indices: product.left(row, add(start, indices[0])),
        right=right,
        store=product.store,
    )
    body = product_tasks(operands, tile, m=product.m, n=product.n, rows=rows, panels=panels, blocks=blocks)
    for name, extent in reversed(product.batch):
        body = (Loop(name, i32(extent), body, LoopKind.PARALLEL),)
    return Kernel(product.name, product.buffers, product.parameters, body)


def _blocking(k: Expr) -> tuple[Expr, int]:
    """(blocks of the sum, terms in each): a panel's block stays in the nearest cache."""
    if not isinstance(k, Const):
        return floor_div(add(k, _BLOCK - 1), _BLOCK), _BLOCK
    size = int(k.value)
    if size <= _LONGEST_SUM:
        return Const(1), size
    blocks = -(-size // _BLOCK)
    block = (-(-size // blocks) + 3) // 4 * 4
    return Const(-(-size // block)), block


def row_products(product: MatMul, right: Callable[[Expr, Expr, int], Expr]) -> Kernel:
    """The same product for few rows where both operands lie along k: sums of products of vectors, nothing is packed.

    right(n, k, lanes): elements of B from k on; it takes the place of the panels.
    """
    k = i32(product.k)
    sums = [Var(f"sum{chain}", Scalar.F32, _VECTOR) for chain in range(_CHAINS)]
    zero: Expr = Const(0.0, Scalar.F32)
    step = _VECTOR * _CHAINS
    body: list[Stmt] = [Local(item.name, Scalar.F32, Splat(zero), lanes=_VECTOR) for item in sums]
    many: list[Stmt] = []
    for chain, item in enumerate(sums):
        at = add(Var("k"), chain * _VECTOR)
        left = product.left(Var("m"), at)
        assert isinstance(left, Load), "both operands are read from memory"
        terms = (replace(left, lanes=_VECTOR), right(Var("j"), at, _VECTOR), item)
        many.append(Assign(item.name, Apply(Op.FMA, terms)))
    whole = floor_div(k, step)
    body.append(Loop("k", whole, tuple(many), step=step))
    total: Expr = sums[0]
    for item in sums[1:]:
        total = Apply(Op.ADD, (total, item))
    body.append(Local("all", Scalar.F32, total, lanes=_VECTOR))
    lanes = [Lane(Var("all", Scalar.F32, _VECTOR), lane) for lane in range(_VECTOR)]
    pairs = [Apply(Op.ADD, (lanes[lane], lanes[lane + 1])) for lane in (0, 2)]
    body.append(Local("sum", Scalar.F32, Apply(Op.ADD, (pairs[0], pairs[1]))))
    result = Var("sum", Scalar.F32)
    term = Apply(Op.FMA, (product.left(Var("m"), Var("k")), right(Var("j"), Var("k"), 1), result))
    start = mul(whole, step)
    body.append(Loop("k", sub(k, start), (Assign(result.name, term),), start=start))
    body += product.store(Var("m"), Var("j"), result)
    loops: tuple[Stmt, ...] = (Loop("j", i32(product.n), tuple(body), LoopKind.PARALLEL),)
    loops = (Loop("m", i32(product.m), loops, LoopKind.PARALLEL),)
    for name, extent in reversed(product.batch):
        loops = (Loop(name, i32(extent), loops, LoopKind.PARALLEL),)
    return Kernel(product.name, product.buffers, product.parameters, loops)


def task_shape(m: int | Expr, n: int | Expr, k: int | Expr) -> tuple[int, int]:
    """(rows, panels) of a task: enough work to be worth handing out, and enough tasks that threads finish together.

    A right operand that no near cache holds is fetched anew for every block of rows: then the blocks are taller.
    """
    m, n, k = (int(size.value) if isinstance(size, Const) else size for size in (m, n, k))
    small = isinstance(n, int) and isinstance(k, int) and n * k <= _NEAR
    rows = _LOW if small else _TALL
    if isinstance(m, int):
        blocks = -(-m // rows)
        rows = max(-(-m // (max(blocks, 1) * COMMON_ROWS)), 1) * COMMON_ROWS
    most = 64
    if isinstance(n, int):
        panels = max(-(-n // PANEL), 1)
        row_blocks = -(-m // rows) if isinstance(m, int) else _ENOUGH_TASKS
        groups = -(-_ENOUGH_TASKS // max(row_blocks, 1))
        most = min(most, -(-panels // groups))
    return rows, most


def product_extent(m: int, n: int, k: int) -> int:
    """The parallel range of a product without batch axes."""
    return task_count(m, n, *task_shape(m, n, k))


def panel_elements(k: int, n: int) -> int:
    """Elements of a packed right operand."""
    return -(-n // PANEL) * k * PANEL


def pack_panels(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(..., k, n) -> (..., panels, k, 8): the layout that `matmul` reads, columns beyond n zero."""
    *batch, k, n = matrix.shape
    panels = -(-n // PANEL)
    padded = np.zeros((*batch, k, panels * PANEL), matrix.dtype)
    padded[..., :n] = matrix
    return np.ascontiguousarray(np.moveaxis(padded.reshape(*batch, k, panels, PANEL), -2, -3))


def pack_panels_kernel(
    name: str,
    buffers: Sequence[BufferParameter],
    k: int | Expr,
    n: int | Expr,
    element: Callable[[Expr, Expr, int], Expr],
    target: str,
    *,
    start: int | Expr = 0,
    batch: Sequence[tuple[str, int | Expr]] = (),
    parameters: Sequence[str] = (),
    lanes: int = 1,
) -> Kernel:
    """Packs a right operand that is only known at run time.

    element(k, n, lanes): its elements from n on; lanes is 4 only if asked for here (they lie side by side) and all four
    are there. start: first element of the panels in `target`, which may use the batch loops' variables.
    """
    k, n = i32(k), i32(n)
    panel, row = Var("panel"), Var("row")
    at, first = add(start, mul(add(mul(panel, k), row), PANEL)), mul(panel, PANEL)
    whole = tuple(
        Store(target, add(at, column), element(row, add(first, column), lanes)) for column in range(0, PANEL, lanes)
    )
    zero = Const(0.0, Scalar.F32)
    partial = tuple(
        If(
            Apply(Op.LT, (add(first, column), n)),
            (Store(target, add(at, column), element(row, add(first, column), 1)),),
            (Store(target, add(at, column), zero),),
        )
        for column in range(PANEL)
    )
    body: tuple[Stmt, ...] = (Loop("row", k, whole),)
    if not (isinstance(n, Const) and int(n.value) % PANEL == 0):
        full = Apply(Op.LE, (add(first, PANEL), n))
        body = (If(full, body, (Loop("row", k, partial),)),)
    loops: tuple[Stmt, ...] = (Loop("panel", floor_div(add(n, PANEL - 1), PANEL), body, LoopKind.PARALLEL),)
    for variable, extent in reversed(batch):
        loops = (Loop(variable, i32(extent), loops, LoopKind.PARALLEL),)
    return Kernel(name, tuple(buffers), tuple(parameters), loops)


def plain_buffers(output: DType = DType.FLOAT32) -> tuple[BufferParameter, ...]:
    """The buffers a, b, c of a product without an epilogue."""
    return (
        BufferParameter("a", DType.FLOAT32, Access.READ),
        BufferParameter("b", DType.FLOAT32, Access.READ),
        BufferParameter("c", output, Access.WRITE),
    )
