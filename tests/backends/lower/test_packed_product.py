"""MatMulNBits with weights that are part of the model: the kernel that reads four words of a row at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.lower.one_node import Array, agree, f32

COLUMNS = 5


def call(
    rows: int, depth: int, bits: int, block: int, zeros: str = "none"
) -> tuple[list[Array | None], dict[str, Any]]:
    """Inputs and attributes of a call with so many rows of so many values."""
    random = np.random.default_rng(depth + bits)
    blocks = -(-depth // block)
    weights = random.integers(0, 256, (COLUMNS, blocks, block * bits // 8)).astype(np.uint8)
    points: dict[str, Array | None] = {
        "none": None,
        "packed": random.integers(0, 256, (COLUMNS, -(-blocks * bits // 8))).astype(np.uint8),
        "real": f32(COLUMNS, blocks, seed=3) + np.float32(3),
    }
    inputs = [f32(2, rows, depth), weights, f32(COLUMNS, blocks, seed=1), points[zeros], None, f32(COLUMNS, seed=2)]
    return inputs, {"K": depth, "N": COLUMNS, "bits": bits, "block_size": block}


def constants(inputs: list[Array | None]) -> list[int]:
    return [index for index, value in enumerate(inputs) if index and value is not None]


def check(inputs: list[Array | None], attributes: dict[str, Any], *, symbolic: bool = False) -> None:
    agree(
        "MatMulNBits",
        inputs,
        attributes,
        opset=1,
        domain="com.microsoft",
        constant=constants(inputs),
        symbolic=symbolic,
        atol=1e-3,
    )


@pytest.mark.parametrize("zeros", ["none", "packed", "real"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_each_width_and_kind_of_zero_point(bits: int, zeros: str) -> None:
    check(*call(1, 128, bits, 32, zeros))


@pytest.mark.parametrize(("bits", "block"), [(4, 16), (2, 16), (2, 32), (8, 16), (4, 64)])
def test_blocks_narrower_and_wider_than_a_group(bits: int, block: int) -> None:
    check(*call(1, 128, bits, block, "packed"))


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("symbolic", [False, True])
def test_rows_that_fill_no_tile_and_those_that_do(rows: int, symbolic: bool) -> None:
    check(*call(rows, 64, 4, 32, "packed"), symbolic=symbolic)


def test_a_depth_that_ends_inside_a_block() -> None:
    check(*call(2, 80, 4, 32))


def test_rows_that_are_no_whole_groups_take_the_other_way() -> None:
    check(*call(2, 40, 4, 16))
