"""Loops, branches, registers and arrays in WebAssembly run as the interpreter runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import wasmtime

from webdnn_backends.ir.build import add, floor_div, floor_mod, mul
from webdnn_backends.ir.interpret import interpret
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
    LoopKind,
    Select,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.wasm.dialect import compile_kernel, emit_module, is_parallel, parameter_names, scratch_bytes
from webdnn_backends.wasm.text import print_function
from webdnn_onnx.dtypes import DType

Array = npt.NDArray[Any]
Run = Callable[..., None]
F32, I32 = Scalar.F32, Scalar.I32
PARALLEL, UNROLL = LoopKind.PARALLEL, LoopKind.UNROLL


def x(index: Expr, lanes: int = 1) -> Load:
    return Load("x", index, F32, lanes)


def kernel(name: str, body: Sequence[Stmt], parameters: Sequence[str] = (), dtype: DType = DType.FLOAT32) -> Kernel:
    buffers = (BufferParameter("x", DType.FLOAT32, Access.READ), BufferParameter("y", dtype, Access.READ_WRITE))
    return Kernel(name, buffers, tuple(parameters), tuple(body))


def agree(
    run: Run, item: Kernel, sizes: tuple[int, int], parameters: dict[str, int] | None = None, **options: Any
) -> Array:
    """Run both ways and compare exactly; returns y."""
    source = np.random.default_rng(0).normal(size=sizes[0]).astype(np.float32)
    dtype = item.buffer("y").dtype.numpy
    expected, got = np.zeros(sizes[1], dtype), np.zeros(sizes[1], dtype)
    interpret(item, {"x": source, "y": expected}, parameters or {})
    run(item, {"x": source, "y": got}, parameters or {}, **options)
    np.testing.assert_array_equal(got, expected)
    return got


@pytest.mark.parametrize("extents", [(7,), (1, 9), (5, 1), (3, 4, 5), (2, 1, 3, 1, 2), (1, 1)])
def test_parallel_loops_divide_into_any_ranges(run: Run, extents: tuple[int, ...]) -> None:
    names = [f"i{k}" for k in range(len(extents))]
    index: Expr = Const(0)
    for name, extent in zip(names, extents, strict=True):
        index = add(mul(index, extent), Var(name))
    body: tuple[Stmt, ...] = (Store("y", index, Apply(Op.MUL, (x(index), Const(2.0, F32)))),)
    for name, extent in reversed(list(zip(names, extents, strict=True))):
        body = (Loop(name, Const(extent), body, PARALLEL),)
    item = kernel("halves", body)
    assert is_parallel(item)
    total = int(np.prod(extents))
    for cut in {0, 1, total // 3, total // 2, total}:
        agree(run, item, (total, total), ranges=[(cut, total), (0, cut)])


def test_parallel_loops_with_starts_steps_and_symbolic_extents(run: Run) -> None:
    index = add(mul(Var("i"), Var("n")), Var("j"))
    inner = Loop("j", floor_div(Var("n"), 2), (Store("y", index, x(index)),), PARALLEL, Const(1), 2)
    item = kernel("odd", (Loop("i", Var("m"), (inner,), PARALLEL),), ("m", "n"))
    got = agree(run, item, (5 * 7, 5 * 7), {"m": 5, "n": 7}, ranges=[(0, 4), (4, 5), (5, 15)])
    assert np.count_nonzero(got) == 15
    agree(run, item, (35, 35), {"m": 0, "n": 7}, ranges=[(0, 0)])


@pytest.mark.parametrize("kind", [LoopKind.SERIAL, UNROLL])
def test_reductions_keep_registers(run: Run, kind: LoopKind) -> None:
    total = Var("total", F32)
    body = (
        Local("total", F32, Const(0.0, F32)),
        Loop("k", Const(6), (Assign("total", Apply(Op.ADD, (total, x(add(mul(Var("i"), 6), Var("k")))))),), kind),
        Store("y", Var("i"), total),
    )
    agree(run, kernel("sums", (Loop("i", Const(5), body, PARALLEL),)), (30, 5), ranges=[(0, 2), (2, 5)])


def test_symbolic_strides_advance_pointers(run: Run) -> None:
    """y[j, i] = sum over k of x[i, k] - x[k, j]: three strides, one of them backwards."""
    total, n = Var("total", F32), Var("n")
    forward = x(add(mul(Var("i"), n), Var("k")))
    backward = x(add(mul(add(n, Apply(Op.NEG, (add(Var("k"), 1),))), n), Var("j")))
    body = (
        Local("total", F32, Const(0.0, F32)),
        Loop("k", n, (Assign("total", Apply(Op.ADD, (total, Apply(Op.SUB, (forward, backward))))),)),
        Store("y", add(mul(Var("j"), n), Var("i")), total),
    )
    nest = Loop("i", n, (Loop("j", n, body),))
    for size in (0, 1, 5):
        agree(run, kernel("strides", (nest,), ("n",)), (size * size, size * size), {"n": size})


def test_loads_of_a_zero_trip_loop_are_not_moved_before_it(run: Run) -> None:
    far = x(mul(Var("n"), 1 << 26))
    body = (Loop("k", Var("n"), (Store("y", Var("k"), far),)),)
    run(kernel("never", body, ("n",)), {"x": np.ones(1, np.float32), "y": np.zeros(1, np.float32)}, {"n": 0})


def test_stores_are_seen_by_later_loads(run: Run) -> None:
    """A running sum in place: y[i] += y[i-1], then a second pass reads what the first wrote."""
    y = lambda index: Load("y", index, F32)  # noqa: E731  # as short as the name above
    first = Loop("i", Const(8), (Store("y", Var("i"), x(Var("i"))),))
    step = Store("y", Var("i"), Apply(Op.ADD, (y(Var("i")), y(add(Var("i"), -1)))))
    twice = Store("y", Var("i"), Apply(Op.ADD, (y(Var("i")), y(Var("i")))))
    body = (first, Loop("i", Const(7), (step, twice), start=Const(1)), Store("y", Const(0), y(Const(7))))
    agree(run, kernel("running", body), (8, 8))


def test_registers_keep_values_that_a_store_then_changes(run: Run) -> None:
    """Swap y[0] and y[1] through registers."""
    load = [Load("y", Const(k), F32) for k in range(2)]
    body = (
        Store("y", Const(0), x(Const(0))),
        Store("y", Const(1), x(Const(1))),
        Local("a", F32, load[0]),
        Store("y", Const(0), load[1]),
        Store("y", Const(1), Var("a", F32)),
    )
    agree(run, kernel("swap", body), (2, 2))


def test_branches_assign_in_both_arms(run: Run) -> None:
    best, here = Var("best", F32), x(Var("i"))
    body = (
        Local("best", F32, Const(0.0, F32)),
        Local("count", I32, Const(0)),
        Loop(
            "i",
            Const(20),
            (
                If(
                    Apply(Op.GT, (here, best)),
                    (Assign("best", here), Assign("count", add(Var("count"), 1))),
                    (If(Apply(Op.LT, (here, Const(-1.0, F32))), (Assign("count", add(Var("count"), 100)),)),),
                ),
                Store("y", Var("i"), Apply(Op.ADD, (best, Cast(DType.FLOAT32, Var("count"))))),
            ),
        ),
    )
    agree(run, kernel("branches", body), (20, 20))


def test_arrays_live_in_scratch_memory(run: Run) -> None:
    """Reverse each row through an array."""
    backwards = Load("row", add(mul(Var("k"), -1), 5), F32)
    body = (
        Local("row", F32, size=6),
        Loop("k", Const(6), (Store("row", Var("k"), x(add(mul(Var("i"), 6), Var("k")))),)),
        Loop("k", Const(6), (Store("y", add(mul(Var("i"), 6), Var("k")), backwards),)),
    )
    item = kernel("reverse", (Loop("i", Const(4), body, PARALLEL),))
    assert scratch_bytes([item]) == 32
    agree(run, item, (24, 24), ranges=[(0, 3), (3, 4)])


def test_divisions_of_loop_variables_fold(run: Run) -> None:
    """y[i] = x[(i / 12) + (i % 12) / 3 * 5 + i % 3]: remainders of a nest that is already apart cost nothing."""
    i = add(add(mul(Var("a"), 12), mul(Var("b"), 3)), Var("c"))
    index = add(add(floor_div(i, 12), mul(floor_div(floor_mod(i, 12), 3), 5)), floor_mod(i, 3))
    body: tuple[Stmt, ...] = (Store("y", i, x(index)),)
    for name, extent in (("c", 3), ("b", 4), ("a", 5)):
        body = (Loop(name, Const(extent), body),)
    item = kernel("folds", body)
    agree(run, item, (40, 60))
    text = print_function(compile_kernel(item).function)
    assert "div" not in text
    assert "rem" not in text


def test_kernels_that_store_parts_of_bytes_are_not_divided(run: Run) -> None:
    body = (Loop("i", Const(9), (Store("y", Var("i"), Cast(DType.INT32, x(Var("i")))),), PARALLEL),)
    item = kernel("nibbles", body, dtype=DType.INT4)
    assert not is_parallel(item)
    agree(run, item, (9, 9))


def test_padding_guards_do_not_read_outside(run: Run) -> None:
    position = add(Var("i"), -2)
    inside = Apply(Op.AND, (Apply(Op.GE, (position, Const(0))), Apply(Op.LT, (position, Const(4)))))
    body = (Loop("i", Const(8), (Store("y", Var("i"), Select(inside, x(position), Const(-1.0, F32))),)),)
    agree(run, kernel("pad", body), (4, 8))


def test_addresses_take_their_constants_in_the_instruction() -> None:
    body = (
        Loop("i", Const(8), tuple(Store("y", add(mul(Var("i"), 4), k), x(add(mul(Var("i"), 4), k))) for k in range(4))),
    )
    text = print_function(compile_kernel(kernel("offsets", body)).function)
    assert all(f"offset={4 * k}" in text for k in (1, 2, 3))
    assert "i32.mul" not in text


@pytest.mark.parametrize("threads", [False, True])
def test_equal_kernels_give_equal_bytes(threads: bool) -> None:
    body = (Loop("i", Const(8), (Store("y", Var("i"), Apply(Op.POW, (x(Var("i")), x(Var("i"))))),)),)
    first, second = (emit_module([kernel("power", body)], threads=threads) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x00asm")


@pytest.mark.parametrize("relaxed", [False, True])
def test_modules_of_threads_import_a_shared_memory_and_are_valid(relaxed: bool) -> None:
    config = wasmtime.Config()
    config.wasm_threads = True
    config.shared_memory = True
    config.wasm_relaxed_simd = True
    body = (Loop("i", Const(8), (Store("y", Var("i"), Apply(Op.REM, (x(Var("i")), x(Const(0))))),), PARALLEL),)
    data = emit_module([kernel("remainder", body)], relaxed=relaxed, threads=True)
    module = wasmtime.Module(wasmtime.Engine(config), data)
    imported = module.imports[0]
    assert (imported.module, imported.name) == ("env", "memory")
    assert {item.name for item in module.exports} == {"remainder", "scratch"}


def test_text_names_the_arguments() -> None:
    body = (Loop("i", Var("n"), (Store("y", Var("i"), x(Var("i"))),), PARALLEL),)
    item = kernel("copy", body, ("n",))
    assert parameter_names(item) == ("x", "y", "n", "begin", "end")
    text = print_function(compile_kernel(item).function, parameter_names(item))
    assert text.startswith('(func $copy (export "copy") (param $x i32) (param $y i32) (param $n i32)')
    assert "local.get $begin" in text
    assert "f32.store" in text


def test_what_both_arms_share_is_computed_before_the_choice(run: Run) -> None:
    """The choice does not depend on the inner loop, so it moves in front of it; its arms load, so they are branches."""
    row = Cast(DType.FLOAT32, Var("i"))

    def arm(op: Op, place: int) -> Expr:
        return Apply(Op.MUL, (Apply(op, (Apply(Op.DIV, (row, x(Const(0)))),)), x(Const(place))))

    chosen = Select(Apply(Op.LT, (x(Const(1)), x(Const(2)))), arm(Op.CEIL, 3), arm(Op.FLOOR, 4))
    opposite = Select(Apply(Op.LT, (x(Const(2)), x(Const(1)))), arm(Op.CEIL, 3), arm(Op.FLOOR, 4))
    for number, value in enumerate((chosen, opposite)):
        store = Store("y", add(mul(Var("i"), Var("n")), Var("j")), value)
        inner = Loop("j", Var("n"), (store,))
        agree(run, kernel(f"arms{number}", [Loop("i", Const(5), (inner,))], ["n"]), (5, 15), {"n": 3})
