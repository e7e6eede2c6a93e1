"""Statements rewritten for dialects."""

from __future__ import annotations

import numpy as np

from webdnn_backends.ir.build import add, const
from webdnn_backends.ir.interpret import interpret
from webdnn_backends.ir.loops import Access, BufferParameter, Const, Kernel, Load, Local, Loop, Stmt, Store, Var
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.ir.statements import distinct_arrays, walk
from webdnn_backends.ir.verify import verify
from webdnn_backends.js.dialect import emit
from webdnn_backends.webgpu.dialect import emit as emit_wgsl
from webdnn_onnx.dtypes import DType


def _filled(size: int, value: int, type: Scalar = Scalar.I32) -> Loop:
    """A scope with an array `a` of its own, whose last element goes to the output."""
    body: tuple[Stmt, ...] = (
        Local("a", type, size=size),
        Loop("k", Const(size), (Store("a", Var("k"), const(value, type)),)),
        Store(
            "y", add(Var("i"), value), Load("a", Const(size - 1), Scalar.I32) if type is Scalar.I32 else Const(value)
        ),
    )
    return Loop("i", Const(1), body)


def _kernel(*body: Stmt) -> Kernel:
    return Kernel("arrays", (BufferParameter("y", DType.INT32, Access.READ_WRITE),), (), body)


def test_arrays_of_one_name_and_two_sizes_are_told_apart() -> None:
    kernel = _kernel(_filled(4, 0), _filled(8, 1), _filled(4, 2), _filled(4, 3, Scalar.F32))
    body = distinct_arrays(kernel.body)
    assert {item.name: (item.size, item.type) for item in walk(body) if isinstance(item, Local)} == {
        "a": (4, Scalar.I32),
        "a_": (8, Scalar.I32),
        "a__": (4, Scalar.F32),
    }
    changed = _kernel(*body)
    verify(changed)
    result = np.zeros(4, np.int32)
    interpret(changed, {"y": result})
    assert result.tolist() == [0, 1, 2, 3]
    assert emit(kernel).text.count("new Int32Array") == 2
    assert emit_wgsl(kernel).text.count("array<i32, 8>") + emit_wgsl(kernel).text.count("array<vec4<i32>, 2>") == 1


def test_arrays_of_one_kind_stay_as_they_are() -> None:
    body = (_filled(4, 0), _filled(4, 1))
    assert distinct_arrays(body) is body
