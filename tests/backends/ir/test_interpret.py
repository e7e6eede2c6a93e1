"""The interpreter: loops, masks, vectors, workgroups, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from webdnn_backends.ir.build import add, apply, f32, mul, select
from webdnn_backends.ir.interpret import interpret
from webdnn_backends.ir.loops import (
    Access,
    Assign,
    Barrier,
    BufferParameter,
    Cast,
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
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.verify import verify
from webdnn_onnx.dtypes import DType

AT, J, N = Var("i"), Var("j"), Var("n")


def make(*body: Stmt, dtype: DType = DType.FLOAT32) -> Kernel:
    buffers = (BufferParameter("x", dtype, Access.READ), BufferParameter("y", dtype, Access.READ_WRITE))
    return verify(Kernel("probe", buffers, ("n",), body))


def x(index: Expr, lanes: int = 1) -> Load:
    return Load("x", index, Scalar.F32, lanes)


def test_serial_extent_may_differ_per_lane() -> None:
    total = Var("t", Scalar.F32)
    body = (
        Local("t", Scalar.F32, f32(0)),
        Loop("j", AT, (Assign("t", apply(Op.ADD, total, x(J))),)),
        Store("y", AT, total),
    )
    y = np.zeros(5, np.float32)
    interpret(make(Loop("i", N, body, LoopKind.PARALLEL)), {"x": np.arange(5, dtype=np.float32), "y": y}, [5])
    np.testing.assert_array_equal(y, [0, 0, 1, 3, 6])


def test_branches_run_under_masks_and_guard_loads() -> None:
    body = (
        If(
            apply(Op.LT, AT, Const(2)),
            (Store("y", AT, x(AT)),),
            (Store("y", AT, select(apply(Op.LT, AT, Const(3)), x(AT), f32(-1))),),
        ),
    )
    y = np.zeros(5, np.float32)
    interpret(make(Loop("i", N, body, LoopKind.PARALLEL)), {"x": np.arange(3, dtype=np.float32) + 7, "y": y}, {"n": 5})
    np.testing.assert_array_equal(y, [7, 8, 9, -1, -1])


def test_vectors_load_store_and_gather() -> None:
    four = mul(AT, 4)
    reverse = Vector(tuple(Lane(x(four, 4), lane) for lane in (3, 2, 1, 0)))
    y = np.zeros(8, np.float32)
    kernel = make(Loop("i", N, (Store("y", four, reverse),), LoopKind.PARALLEL))
    interpret(kernel, {"x": np.arange(8, dtype=np.float32), "y": y}, [2])
    np.testing.assert_array_equal(y, [3, 2, 1, 0, 7, 6, 5, 4])


def reversed_in_groups(*, barrier: bool) -> Kernel:
    at = add(mul(Var("g"), 4), AT)
    fill: tuple[Stmt, ...] = (Store("tile", AT, x(at)), *((Barrier(),) if barrier else ()))
    mirrored = Load("tile", add(mul(AT, -1), 3), Scalar.F32)
    inner = Loop("i", Const(4), (*fill, Store("y", at, mirrored)), LoopKind.INVOCATION_X)
    tile = Local("tile", Scalar.F32, size=4, space=Space.WORKGROUP)
    return make(Loop("g", N, (tile, inner), LoopKind.WORKGROUP_X))


def test_workgroups_share_memory() -> None:
    y = np.zeros(8, np.float32)
    interpret(reversed_in_groups(barrier=True), {"x": np.arange(8, dtype=np.float32), "y": y}, [2])
    np.testing.assert_array_equal(y, [3, 2, 1, 0, 7, 6, 5, 4])


def test_missing_barrier_is_a_race() -> None:
    arrays = {"x": np.arange(8, dtype=np.float32), "y": np.zeros(8, np.float32)}
    with pytest.raises(RuntimeError, match="probe: workgroup array 'tile'"):
        interpret(reversed_in_groups(barrier=False), arrays, [2])


@pytest.mark.parametrize("offset", [-1, 1])
def test_index_outside_a_buffer_is_an_error_that_says_where(offset: int) -> None:
    kernel = make(Loop("i", N, (Store("y", AT, x(add(AT, offset))),), LoopKind.PARALLEL))
    with pytest.raises(IndexError, match=r"probe: buffer 'x' has 3 elements, got index (-1|3) \("):
        interpret(kernel, {"x": np.zeros(3, np.float32), "y": np.zeros(3, np.float32)}, [3])


def test_wrong_arguments_are_refused() -> None:
    kernel = make(Loop("i", N, (Store("y", AT, x(AT)),), LoopKind.PARALLEL))
    with pytest.raises(ValueError, match="no array for buffer 'y'"):
        interpret(kernel, {"x": np.zeros(3, np.float32)}, [3])
    with pytest.raises(ValueError, match="expected flat float32, got float64"):
        interpret(kernel, {"x": np.zeros(3), "y": np.zeros(3, np.float32)}, [3])
    with pytest.raises(ValueError, match="expected 1 parameters, got 0"):
        interpret(kernel, {"x": np.zeros(3, np.float32), "y": np.zeros(3, np.float32)})


def test_narrow_integers_wrap_when_stored() -> None:
    doubled = apply(Op.MUL, Load("x", AT, Scalar.I32), Const(2))
    y = np.zeros(3, np.int8)
    kernel = make(Loop("i", N, (Store("y", AT, doubled),), LoopKind.PARALLEL), dtype=DType.INT8)
    interpret(kernel, {"x": np.array([1, 100, -100], np.int8), "y": y}, [3])
    np.testing.assert_array_equal(y, [2, -56, 56])


def test_casts_saturate_from_floats_and_wrap_between_integers() -> None:
    y = np.zeros(6, np.int8)
    buffers = (
        BufferParameter("x", DType.FLOAT32, Access.READ),
        BufferParameter("y", DType.INT8, Access.WRITE),
    )
    body = Loop("i", Const(6), (Store("y", AT, Cast(DType.INT32, x(AT))),), LoopKind.PARALLEL)
    values = np.array([1.9, -1.9, np.nan, np.inf, -np.inf, 300], np.float32)
    interpret(verify(Kernel("probe", buffers, (), (body,))), {"x": values, "y": y})
    np.testing.assert_array_equal(y, [1, -1, 0, -1, 0, 44])


def test_large_parallel_loops_run_in_parts() -> None:
    count = 1_000_000
    y = np.zeros(count, np.float32)
    kernel = make(Loop("i", N, (Store("y", AT, apply(Op.ADD, x(AT), f32(1))),), LoopKind.PARALLEL))
    interpret(kernel, {"x": np.arange(count, dtype=np.float32), "y": y}, [count])
    np.testing.assert_array_equal(y, np.arange(count, dtype=np.float32) + 1)
