"""Tiled products: edges, batches, epilogues and symbolic extents, in the interpreter and on Dawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from webdnn_backends.ir.build import add, apply, f32, mul
from webdnn_backends.ir.loops import Access, BufferParameter, Expr, Load, Splat, Stmt, Store, Var
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.verify import verify
from webdnn_backends.webgpu import emit
from webdnn_backends.webgpu.tiles import (
    TILES,
    Product,
    Row,
    Tile,
    choose_tile,
    narrow_product,
    row_product,
    tiled_product,
)
from webdnn_onnx.dtypes import DType

TILE_IDS = [f"{tile.rows}x{tile.columns}x{tile.depth}x{tile.slices}" for tile in TILES]


def relu_product(m: int, n: int, k: int, batch: int = 1, *, symbolic: bool = False) -> tuple[Product, dict[str, int]]:
    """max(A @ B, 0) of dense matrices."""
    sizes: dict[str, int] = {"m": m, "n": n, "k": k} if symbolic else {}
    rows: int | Expr = Var("m") if symbolic else m
    columns: int | Expr = Var("n") if symbolic else n
    depth: int | Expr = Var("k") if symbolic else k

    def left(row: Row, at: Expr, lanes: int) -> Expr:
        return Load("a", add(mul(add(mul(Var("batch"), rows), row["m"]), depth), at), Scalar.F32, lanes)

    def right(at: Expr, column: Expr, lanes: int) -> Expr:
        return Load("b", add(mul(add(mul(Var("batch"), depth), at), columns), column), Scalar.F32, lanes)

    def store(row: Row, column: Expr, value: Expr) -> tuple[Stmt, ...]:
        zero: Expr = f32(0.0) if value.lanes == 1 else Splat(f32(0.0), 4)
        at = add(mul(add(mul(Var("batch"), rows), row["m"]), columns), column)
        return (Store("y", at, apply(Op.MAX, value, zero)),)

    buffers = (
        BufferParameter("a", DType.FLOAT32, Access.READ),
        BufferParameter("b", DType.FLOAT32, Access.READ),
        BufferParameter("y", DType.FLOAT32, Access.WRITE),
    )
    wide = not symbolic and n % 4 == 0
    deep = not symbolic and k % 4 == 0
    name = f"matmul_relu_{batch}x{m}x{n}x{k}{'_symbolic' if symbolic else ''}"
    return (
        Product(
            name,
            rows,
            columns,
            depth,
            lambda m: {"m": m},
            left,
            right,
            store,
            batch,
            buffers,
            tuple(sizes),
            deep,
            wide,
            wide,
        ),
        sizes,
    )


def case(build: Callable[[Product], Any], m: int, n: int, k: int, batch: int = 1, *, symbolic: bool = False) -> Probe:
    product, sizes = relu_product(m, n, k, batch, symbolic=symbolic)
    rng = np.random.default_rng(2)
    arrays = {
        "a": rng.integers(-4, 5, batch * m * k).astype(np.float32),
        "b": rng.integers(-4, 5, batch * k * n).astype(np.float32),
        "y": np.full(batch * m * n, math.nan, np.float32),
    }
    kernel = verify(build(product))
    return Probe(kernel.name, kernel, arrays, sizes)


def product_of(probe: Probe, m: int, n: int, k: int, batch: int = 1) -> np.ndarray[Any, Any]:
    a, b = probe.buffers["a"].reshape(batch, m, k), probe.buffers["b"].reshape(batch, k, n)
    return np.maximum(a @ b, 0).ravel()


SHAPES = [(64, 64, 32, 1, False), (33, 47, 21, 2, False), (70, 36, 40, 1, False), (33, 47, 21, 1, True)]


@pytest.mark.parametrize("tile", TILES, ids=TILE_IDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiled_product_is_the_product(tile: Tile, shape: tuple[int, int, int, int, bool]) -> None:
    m, n, k, batch, symbolic = shape
    probe = case(lambda product: tiled_product(product, tile), m, n, k, batch, symbolic=symbolic)
    np.testing.assert_array_equal(probe.expected()["y"], product_of(probe, m, n, k, batch))


ROW_SHAPES = [
    (1, 128, 100, 1, False),
    (3, 70, 33, 2, False),
    (2, 37, 50, 1, True),
    (1, 64, 512, 1, False),
    (1, 7, 1, 1, False),
]


@pytest.mark.parametrize("shape", ROW_SHAPES, ids=str)
def test_row_product_is_the_product(shape: tuple[int, int, int, int, bool]) -> None:
    m, n, k, batch, symbolic = shape
    probe = case(row_product, m, n, k, batch, symbolic=symbolic)
    np.testing.assert_array_equal(probe.expected()["y"], product_of(probe, m, n, k, batch))


NARROW_SHAPES = [
    (9, 4, 12, 3, False),
    (8195, 3, 5, 1, False),
    (11, 14, 7, 2, False),
    (6, 5, 8, 1, True),
]


@pytest.mark.parametrize("shape", NARROW_SHAPES, ids=str)
def test_narrow_product_is_the_product(shape: tuple[int, int, int, int, bool]) -> None:
    m, n, k, batch, symbolic = shape
    probe = case(narrow_product, m, n, k, batch, symbolic=symbolic)
    np.testing.assert_array_equal(probe.expected()["y"], product_of(probe, m, n, k, batch))


def test_products_run_on_the_device(run_probes: Callable[..., Any]) -> None:
    cases = [
        case(lambda product: tiled_product(product, TILES[0]), 130, 36, 40),
        case(lambda product: tiled_product(product, TILES[1]), 70, 36, 40),
        case(lambda product: tiled_product(product, TILES[2]), 70, 36, 150),
        case(lambda product: tiled_product(product, TILES[-1]), 33, 47, 300, symbolic=True),
        case(row_product, 3, 70, 33),
        case(row_product, 1, 64, 512),
        case(narrow_product, 11, 14, 7, 2),
        case(narrow_product, 6, 5, 8, symbolic=True),
        case(lambda product: row_product(product, across=16), 2, 128, 64),
    ]
    results = run_probes(cases)
    for probe in cases:
        assert probe.difference(results[probe.id]) is None


def test_every_tile_fits_the_default_limits() -> None:
    for tile in TILES:
        product, _ = relu_product(256, 256, 256)
        assert emit(tiled_product(product, tile)).workgroup == (tile.across, tile.down, tile.slices)


def test_tile_fits_the_matrix() -> None:
    assert choose_tile(2048, 2048, 1) == TILES[0]
    assert choose_tile(1024, 1024, 1) == TILES[1]
    assert choose_tile(512, 512, 1) == TILES[2]
    assert choose_tile(196, 256, 1) == TILES[3]
    assert choose_tile(8, 4096, 1).rows == 16
