"""Loops of independent iterations several at a time compute what they compute one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from webdnn_backends.ir.build import add, apply, floor_div, mul
from webdnn_backends.ir.loops import (
    Access,
    Assign,
    BufferParameter,
    Const,
    Expr,
    Kernel,
    Load,
    Local,
    Loop,
    LoopKind,
    Select,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.verify import verify
from webdnn_backends.wasm.independent import several_at_a_time
from webdnn_onnx.dtypes import DType

Run = Callable[..., None]
J, K, TOTAL = Var("j"), Var("k"), Var("total", Scalar.F32)
DEPTH = 6


def x(index: Expr) -> Load:
    return Load("x", index, Scalar.F32)


def kernel(*body: Stmt, inputs: tuple[DType, ...] = (DType.FLOAT32, DType.FLOAT32)) -> Kernel:
    """`body` for every j of a number of iterations that only the call tells."""
    buffers = [BufferParameter(name, dtype, Access.READ) for name, dtype in zip("xw", inputs, strict=True)]
    loop = Loop("j", Var("n"), body, LoopKind.INDEPENDENT)
    return Kernel("k", (*buffers, BufferParameter("y", DType.FLOAT32, Access.WRITE)), ("n",), (loop,))


def outputs(run: Run, kernel: Kernel, n: int, dtype: type[np.generic] = np.float32) -> np.ndarray:
    random = np.random.default_rng(n)
    y = np.zeros(n, np.float32)
    arrays = {"x": random.normal(size=64).astype(np.float32), "w": random.normal(size=512).astype(dtype), "y": y}
    verify(kernel)
    run(kernel, arrays, [n])
    return arrays["y"]


ELEMENTS = (
    Local("a", Scalar.F32, apply(Op.EXP, x(J))),
    Local("b", Scalar.F32, apply(Op.MUL, Var("a", Scalar.F32), x(Const(3)))),
    Store("y", J, Select(apply(Op.LT, x(J), Const(0.0, Scalar.F32)), Var("a", Scalar.F32), Var("b", Scalar.F32))),
)
SUM = (
    Local("total", Scalar.F32, x(J)),
    Loop(
        "k",
        Const(DEPTH),
        (Assign("total", apply(Op.FMA, x(K), Load("w", add(mul(J, DEPTH), K), Scalar.F32), TOTAL)),),
    ),
)
SUMS = (*SUM, Store("y", J, apply(Op.TANH, TOTAL)))


@pytest.mark.parametrize("body", [ELEMENTS, SUMS])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 7, 16])
def test_the_same_results(run: Run, body: tuple[Stmt, ...], n: int) -> None:
    before = kernel(*body)
    after = several_at_a_time(before)
    assert isinstance(after.body[0], Loop)
    assert after.body[0].step == 4
    np.testing.assert_allclose(outputs(run, after, n), outputs(run, before, n), rtol=1e-6)


def test_what_follows_the_sums_is_a_vector() -> None:
    (first, _) = several_at_a_time(kernel(*SUMS)).body
    assert isinstance(first, Loop)
    (stored,) = (item for item in first.body if isinstance(item, Store))
    assert stored.value.lanes == 4
    (inner,) = (item for item in first.body if isinstance(item, Loop))
    assert [item.name for item in inner.body if isinstance(item, Assign)] == [f"total_{copy}" for copy in range(4)]


def test_one_at_a_time_where_no_vector_can_be() -> None:
    gather = Store("y", J, x(mul(J, 2)))
    halves = Store("y", J, x(floor_div(J, 2)))
    guarded = Store("y", J, Select(apply(Op.LT, J, Const(2)), x(J), Const(0.0, Scalar.F32)))
    chosen = Store("y", J, Select(apply(Op.LT, x(Const(0)), x(J)), x(add(J, 40)), Const(0.0, Scalar.F32)))
    for body in (gather, halves, guarded, chosen):
        before = kernel(body)
        assert several_at_a_time(before) == before
    narrow = kernel(Store("y", J, Load("w", J, Scalar.F32)), inputs=(DType.FLOAT32, DType.FLOAT16))
    assert several_at_a_time(narrow) == narrow


def test_sums_that_share_nothing_stay_apart() -> None:
    total = Assign("total", apply(Op.ADD, Load("w", add(mul(J, DEPTH), K), Scalar.F32), TOTAL))
    before = kernel(Local("total", Scalar.F32, x(J)), Loop("k", Const(DEPTH), (total,)), Store("y", J, TOTAL))
    assert several_at_a_time(before) == before


def test_sums_of_different_lengths_stay_apart() -> None:
    before = kernel(SUM[0], Loop("k", J, SUM[1].body), Store("y", J, TOTAL))
    assert several_at_a_time(before) == before
