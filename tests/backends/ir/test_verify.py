"""Every rule of the loop IR has a kernel that breaks it."""

from __future__ import annotations

import pytest

from webdnn_backends.ir.build import add, apply, const, f32, mul
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    Barrier,
    Bitcast,
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
    Select,
    Space,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.show import show
from webdnn_backends.ir.verify import verify
from webdnn_onnx.dtypes import DType

AT = Var("i")
FOUR = Const(4)
X = BufferParameter("x", DType.FLOAT32, Access.READ)
Y = BufferParameter("y", DType.FLOAT32, Access.WRITE)


def load(index: Expr = AT, lanes: int = 1) -> Load:
    return Load("x", index, Scalar.F32, lanes)


def kernel(*body: Stmt) -> Kernel:
    return Kernel("probe", (X, Y), ("n",), body)


def parallel(*body: Stmt) -> Loop:
    return Loop("i", Var("n"), body, LoopKind.PARALLEL)


def group(*body: Stmt, before: tuple[Stmt, ...] = (), size: Expr = FOUR) -> Loop:
    return Loop("g", Var("n"), (*before, Loop("i", size, body, LoopKind.INVOCATION_X)), LoopKind.WORKGROUP_X)


STORE = Store("y", AT, load())
SHARED = Local("tile", Scalar.F32, size=4, space=Space.WORKGROUP)

BROKEN = {
    "i32, got f32": parallel(Store("y", load(), load())),
    "f32, got i32": parallel(Store("y", AT, AT)),
    "'z' is a buffer or array in scope": parallel(Store("z", AT, load())),
    "'x' is writable": parallel(Store("x", AT, f32(1))),
    "'y' is readable": parallel(Store("y", AT, Load("y", AT, Scalar.F32))),
    "'x' is an array of i32": parallel(Store("y", Load("x", AT, Scalar.I32), f32(0))),
    "'j' is i32; it is not in scope": parallel(Store("y", Var("j"), f32(0))),
    "'i' is f32; it is i32": parallel(Store("y", AT, Var("i", Scalar.F32))),
    "'i' is declared once": parallel(Loop("i", Const(2), (STORE,))),
    "'x' is declared once": parallel(Local("x", Scalar.F32, f32(0))),
    "step of loop 'i' is positive": Loop("i", Const(2), (STORE,), step=0),
    "unrolled loop 'i' has a constant extent": Loop("i", Var("n"), (STORE,), LoopKind.UNROLL),
    "add has 2 operands": parallel(Store("y", AT, Apply(Op.ADD, (load(),)))),
    "bit_and takes operands of kind i": parallel(Store("y", AT, apply(Op.BIT_AND, load(), load()))),
    "an operand of add is f32, got i32": parallel(Store("y", AT, Apply(Op.ADD, (load(), AT)))),
    "a condition is bool": parallel(If(AT, (STORE,))),
    "a bitcast keeps the width": parallel(Store("y", AT, Bitcast(Scalar.F32, Cast(DType.INT64, AT)))),
    "the other choice is f32": parallel(Store("y", AT, Select(const(True, Scalar.BOOL), load(), AT))),
    "a splat has 4 lanes": parallel(Store("y", AT, Splat(load(), 2))),
    "the lane is one of 4": parallel(Store("y", AT, Lane(load(lanes=4), 4))),
    "a vector has 4 lanes": parallel(Store("y", AT, Vector((load(), load())))),
    "a load has 1 or 4 lanes": parallel(Store("y", AT, load(lanes=3))),
    "a literal of f32 is a Python float": parallel(Store("y", AT, Const(1, Scalar.F32))),
    "a literal of u32 is within": parallel(Store("y", Cast(DType.INT32, Const(-1, Scalar.U32)), load())),
    "the assigned 'i' is a register": parallel(Assign("i", Const(0))),
    "array 'a' has scalars": parallel(Local("a", Scalar.F32, size=0)),
    "stands in a workgroup mapping": parallel(SHARED),
    "a barrier stands within invocation loops": parallel(Barrier()),
    "all invocations of a workgroup arrive": group(If(apply(Op.LT, AT, Const(2)), (Barrier(),))),
    "invocation_x loop 'i' is part of": group(STORE, size=Var("n")),
    "invocation_x loop 'i' is part of one perfect nest": group(STORE, before=(Local("r", Scalar.F32, f32(0)),)),
    "parallel loop 'i' is part of one perfect nest": Loop("k", Const(2), (parallel(STORE),)),
}


@pytest.mark.parametrize("message", BROKEN, ids=lambda message: message.replace(" ", "_"))
def test_broken_kernel_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match="kernel probe") as raised:
        verify(kernel(BROKEN[message]))  # type: ignore[arg-type]  # broken on purpose
    assert message in str(raised.value)


def test_good_kernels_pass() -> None:
    j = Loop("j", Const(4), (Store("tile", AT, load()), Barrier(), Store("y", AT, Load("tile", AT, Scalar.F32))))
    for body in (parallel(STORE), group(j, before=(SHARED,)), Loop("i", Const(3), (STORE,), start=Var("n"))):
        assert verify(kernel(body)).body == (body,)


def test_shown_kernel_reads_as_text() -> None:
    total = Local("t", Scalar.F32, f32(0))
    step = Assign("t", apply(Op.ADD, Var("t", Scalar.F32), load(add(mul(AT, 4), Var("k")))))
    body = parallel(total, Loop("k", Const(4), (step,)), Store("y", AT, Var("t", Scalar.F32)))
    assert show(kernel(body)) == (
        "kernel probe(in x: float32, out y: float32, n)\n"
        "  parallel i in n\n"
        "    t: f32 = 0.0\n"
        "    for k in 4\n"
        "      t = (t + x[((i * 4) + k)])\n"
        "    y[i] = t"
    )
