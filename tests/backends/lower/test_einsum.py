"""Einsum: any equation."""

from __future__ import annotations

import pytest

from tests.backends.lower.one_node import agree, f32


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bjk", [(2, 2, 3), (2, 3, 2)]),
        ("...ij,...jk->...ik", [(2, 1, 2, 3), (3, 3, 2)]),
        ("ii->i", [(3, 3)]),
        ("iij->j", [(2, 2, 3)]),
        ("ij->", [(2, 3)]),
        ("i,j->ij", [(2,), (3,)]),
        ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 2)]),
        ("bhwc,hkc->bhwk", [(2, 2, 3, 2), (2, 3, 2)]),
        ("b...,b...->...", [(2, 3), (2, 3)]),
        ("ba", [(2, 3)]),
        ("ijk,ijk->i", [(2, 2, 3), (2, 2, 3)]),
    ],
)
def test_equations(equation: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = [f32(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    agree("Einsum", inputs, {"equation": equation})
