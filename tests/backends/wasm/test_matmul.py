"""Matrix products with edges, blocks, batches and symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir.build import add, mul
from webdnn_backends.ir.interpret import interpret
from webdnn_backends.ir.loops import Access, Apply, BufferParameter, Const, Expr, Load, Splat, Stmt, Store, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.wasm.matmul import (
    MatMul,
    matmul,
    pack_panels,
    pack_panels_kernel,
    panel_elements,
    plain_buffers,
    product_extent,
)
from webdnn_backends.wasm.tiles import PLAIN, RELAXED
from webdnn_onnx.dtypes import DType

Array = npt.NDArray[Any]
Run = Callable[..., None]
EDGES = [
    (6, 8, 4),
    (7, 9, 5),
    (1, 16, 33),
    (13, 20, 600),
    (48, 64, 520),
    (5, 3, 1),
    (49, 70, 30),
    (30, 600, 20),
    (25, 1, 7),
]


def operands(m: int, n: int, k: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(m + n + k)
    return rng.normal(size=(m, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)


def product(m: int | Expr, n: int | Expr, k: int | Expr, **options: Any) -> MatMul:
    def store(i: Expr, j: Expr, value: Expr) -> tuple[Stmt, ...]:
        one: Expr = Const(1.0, Scalar.F32)
        shifted = Apply(Op.ADD, (value, Splat(one) if value.lanes == 4 else one))
        return (Store("c", add(mul(i, n), j), shifted),)

    def left(i: Expr, j: Expr) -> Expr:
        return Load("a", add(mul(i, k), j), Scalar.F32)

    return MatMul("product", plain_buffers(), m, n, k, left, "b", store, **options)


@pytest.mark.parametrize(("m", "n", "k"), EDGES)
@pytest.mark.parametrize("relaxed", [False, True])
def test_products_of_every_edge(run: Run, m: int, n: int, k: int, relaxed: bool) -> None:
    a, b = operands(m, n, k)
    kernel = matmul(product(m, n, k), RELAXED if relaxed else PLAIN)
    total = product_extent(m, n, k)
    c = np.zeros(m * n, np.float32)
    buffers = {"a": a.ravel(), "b": pack_panels(b).ravel(), "c": c}
    run(kernel, buffers, relaxed=relaxed, ranges=[(total // 2, total), (0, total // 2)])
    np.testing.assert_allclose(c.reshape(m, n), a.astype(np.float64) @ b + 1, rtol=2e-5, atol=2e-4)
    expected = np.zeros(m * n, np.float32)
    interpret(kernel, {**buffers, "c": expected})
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5 * k)


SIZES = [(13, 20, 600), (1, 3, 5), (24, 16, 256), (40, 9, 513), (3, 8, 0)]
TAILS = [(rows, 7 + rows, 3) for rows in (2, 4, 5, 9, 11)]


@pytest.mark.parametrize(("m", "n", "k"), SIZES + TAILS)
def test_products_of_symbolic_sizes(run: Run, m: int, n: int, k: int) -> None:
    a, b = operands(m, n, k)
    kernel = matmul(product(Var("m"), Var("n"), Var("k"), parameters=("m", "n", "k")), RELAXED)
    total = -(-m // 96) * -(-n // (64 * 8))
    c = np.zeros(m * n, np.float32)
    sources = {
        "a": np.resize(a.ravel(), max(a.size, 1)),
        "b": np.resize(pack_panels(b).ravel(), max(k * 24, 1)),
        "c": c,
    }
    run(kernel, sources, {"m": m, "n": n, "k": k}, relaxed=True, ranges=[(0, total)])
    if k:
        np.testing.assert_allclose(c.reshape(m, n), a.astype(np.float64) @ b + 1, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize(("n", "lanes"), [(16, 4), (16, 1), (11, 4), (3, 1)])
def test_batches_with_a_right_operand_packed_at_run_time(run: Run, n: int, lanes: int) -> None:
    batch, m, k = 3, 7, 10
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(batch, m, k)).astype(np.float32), rng.normal(size=(batch, k, n)).astype(np.float32)
    panels = np.zeros(batch * panel_elements(k, n), np.float32)
    size = panel_elements(k, n)
    pack = pack_panels_kernel(
        "pack",
        (BufferParameter("b", DType.FLOAT32, Access.READ), BufferParameter("p", DType.FLOAT32, Access.WRITE)),
        k,
        n,
        lambda i, j, lanes: Load("b", add(mul(add(mul(Var("g"), k), i), n), j), Scalar.F32, lanes),
        "p",
        start=mul(Var("g"), size),
        batch=[("g", batch)],
        lanes=lanes,
    )
    run(pack, {"b": b.ravel(), "p": panels}, ranges=[(0, batch * -(-n // 8))])
    np.testing.assert_array_equal(panels, pack_panels(b).ravel())
    kernel = matmul(
        MatMul(
            "batched",
            plain_buffers(),
            m,
            n,
            k,
            lambda i, j: Load("a", add(mul(add(mul(Var("g"), m), i), k), j), Scalar.F32),
            "b",
            lambda i, j, value: (Store("c", add(mul(add(mul(Var("g"), m), i), n), j), value),),
            right=mul(Var("g"), size),
            batch=(("g", batch),),
        ),
        RELAXED,
    )
    c = np.zeros(batch * m * n, np.float32)
    total = batch * product_extent(m, n, k)
    run(kernel, {"a": a.ravel(), "b": panels, "c": c}, relaxed=True, ranges=[(1, total), (0, 1)])
    np.testing.assert_allclose(c.reshape(batch, m, n), a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("m", "n"), [(6, 8), (7, 9), (1, 3), (12, 16), (25, 21)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_what_is_long_behind_a_sum_is_written_once_per_tile(run: Run, m: int, n: int, symbolic: bool) -> None:
    a, b = operands(m, n, 4)
    sizes: tuple[int | Expr, int | Expr] = (Var("m"), Var("n")) if symbolic else (m, n)

    def store(i: Expr, j: Expr, value: Expr) -> tuple[Stmt, ...]:
        return (Store("c", add(mul(i, sizes[1]), j), Apply(Op.TANH, (value,))),)

    names = ("m", "n") if symbolic else ()
    described = replace(product(*sizes, 4, parameters=names), store=store)
    kernel = matmul(described, RELAXED)
    total = -(-m // 96) * -(-n // (64 * 8)) if symbolic else product_extent(m, n, 4)
    c = np.zeros(m * n, np.float32)
    buffers = {"a": a.ravel(), "b": pack_panels(b).ravel(), "c": c}
    run(kernel, buffers, {"m": m, "n": n} if symbolic else {}, relaxed=True, ranges=[(0, total)])
    np.testing.assert_allclose(c.reshape(m, n), np.tanh(a.astype(np.float64) @ b), rtol=2e-5, atol=2e-6)
