"""Which loops become functions of their own, and that kernels share them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from test_js import needs_node, run

from webdnn_backends.ir.build import add, apply, mul
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    BufferParameter,
    Cast,
    Const,
    Expr,
    If,
    Kernel,
    Load,
    Local,
    Loop,
    Splat,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.js.dialect import emit, emit_module
from webdnn_backends.js.outline import outline
from webdnn_onnx.dtypes import DType

_X = BufferParameter("x", DType.FLOAT32, Access.READ)
_Y = BufferParameter("y", DType.FLOAT32, Access.WRITE)
_TOTAL = Var("total", Scalar.F64)


def _element(index: Expr) -> Expr:
    return Cast(DType.FLOAT64, Load("x", index, Scalar.F32))


def _sum(extent: int | Expr, index: Expr, *more: Stmt) -> Loop:
    extent = Const(extent) if isinstance(extent, int) else extent
    return Loop("k", extent, (Assign("total", apply(Op.ADD, _TOTAL, _element(index))), *more))


def _rows(name: str, rows: int, columns: int, step: int = 1) -> Kernel:
    """The sum of each row of a matrix, whose elements lie `step` apart."""
    body = (
        Local("total", Scalar.F64, Const(0.0, Scalar.F64)),
        _sum(columns, add(mul(Var("row"), columns * step), mul(Var("k"), step))),
        Store("y", Var("row"), Cast(DType.FLOAT32, _TOTAL)),
    )
    return Kernel(name, (_X, _Y), (), (Loop("row", Const(rows), body),))


def _buffers() -> dict[str, BufferParameter]:
    return {"x": _X, "y": _Y}


def test_loops_of_one_form_share_a_function_whatever_their_sizes() -> None:
    text = emit_module([_rows("rows_200", 3, 200), _rows("rows_300", 4, 300), _rows("rows_of_every_other", 4, 300, 2)])
    assert text.count("function sum_1_") == 2
    assert "export function rows_200" in text


def test_the_text_of_a_kernel_comes_with_its_sums() -> None:
    function = emit(_rows("rows_200", 3, 200))
    assert len(function.sums) == 1
    assert f"total += {function.sums[0].name}(x, 200, " in function.text


def test_a_short_sum_stays_where_it_is() -> None:
    assert outline(_sum(127, Var("k")), _buffers()) is None
    assert outline(_sum(128, Var("k")), _buffers()) is not None
    assert outline(_sum(Var("n"), Var("k")), _buffers()) is not None


def test_a_loop_that_stores_stays_where_it_is() -> None:
    assert outline(_sum(500, Var("k"), Store("y", Var("k"), Const(0.0, Scalar.F32))), _buffers()) is None


def test_a_loop_that_reads_what_the_kernel_writes_stays_where_it_is() -> None:
    written = BufferParameter("x", DType.FLOAT32, Access.READ_WRITE)
    assert outline(_sum(500, Var("k")), {"x": written}) is None


def test_a_loop_that_does_more_than_add_stays_where_it_is() -> None:
    largest = Assign("total", apply(Op.MAX, _TOTAL, _element(Var("k"))))
    assert outline(Loop("k", Const(500), (largest,)), _buffers()) is None
    squared = Assign("total", apply(Op.ADD, _TOTAL, apply(Op.MUL, _TOTAL, _element(Var("k")))))
    assert outline(Loop("k", Const(500), (squared,)), _buffers()) is None
    single = Var("total", Scalar.F32)
    rounded = Assign("total", apply(Op.ADD, single, Load("x", Var("k"), Scalar.F32)))
    assert outline(Loop("k", Const(500), (rounded,)), _buffers()) is None


def _nested() -> Kernel:
    """Four sums over rows of a window whose position and guard come from outside, with registers on the way."""
    four = Var("four", Scalar.F64, 4)
    place = add(add(Var("corner"), mul(Var("r"), 40)), 3)
    inner: tuple[Stmt, ...] = (
        Local("factor", Scalar.F64, _element(add(Var("start"), mul(Var("c"), 2)))),
        Assign("total", apply(Op.ADD, apply(Op.MUL, Var("factor", Scalar.F64), Var("scale", Scalar.F64)), _TOTAL)),
        Assign("four", apply(Op.ADD, Cast(DType.FLOAT64, Load("x", Var("start"), Scalar.F32, 4)), four)),
    )
    guarded = If(Apply(Op.NE, (Var("r"), Var("skipped"))), (Loop("c", Const(16), inner),))
    body: tuple[Stmt, ...] = (
        Local("corner", Scalar.I32, mul(Var("row"), 5)),
        Local("scale", Scalar.F64, Cast(DType.FLOAT64, Var("row"))),
        Local("total", Scalar.F64, Const(0.5, Scalar.F64)),
        Local("four", Scalar.F64, Splat(Const(1.0, Scalar.F64)), lanes=4),
        Loop("r", Const(5), (Local("start", Scalar.I32, place), guarded)),
        Store("y", mul(Var("row"), 5), Cast(DType.FLOAT32, _TOTAL)),
        Store("y", add(mul(Var("row"), 5), 1), Cast(DType.FLOAT32, four)),
    )
    return Kernel("nested", (_X, _Y), ("skipped",), (Loop("row", Const(3), body),))


@needs_node
def test_nested_sums_with_guards_and_registers_are_right(tmp_path: Path) -> None:
    kernel = _nested()
    assert len(emit(kernel).sums) == 1
    x = np.random.default_rng(1).normal(size=400).astype(np.float32)
    case = Probe("nested", kernel, {"x": x, "y": np.zeros(15, np.float32)}, {"skipped": 2}, absolute=1e-5)
    assert case.difference(run([case], tmp_path)["nested"]) is None
