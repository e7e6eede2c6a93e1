"""The ONNX package's own cases on the reference, all kinds."""

from __future__ import annotations

import functools

import pytest

from tests.reference.onnx_suite import check
from webdnn_conformance.case import Case
from webdnn_conformance.suites.onnx_suite import KINDS, cases
from webdnn_onnx.errors import WebDNNError

NOT_RUN = tuple(f"onnx/simple/composite/12/f32/{name}" for name in ("gradient_of_add", "gradient_of_add_and_mul"))
"""Gradient differentiates a graph; the reference evaluates one."""

AT_ANOTHER_TIE = ("dynamicquantizelinear", "dynamicquantizelinear_expanded")
"""In the exact quotient an element lies on the other side of a tie, and differs by one step."""


@functools.cache
def _cases() -> dict[str, Case]:
    return {case.id: case for kind in KINDS for case in cases(kind)}


def test_cases_that_are_not_run_exist() -> None:
    assert set(NOT_RUN) <= set(_cases())


def test_the_suite_is_the_one_that_was_counted() -> None:
    counts = {kind: sum(name.startswith(f"onnx/{kind}/") for name in _cases()) for kind in KINDS}
    assert counts["node"] >= 1884, counts
    assert counts["simple"] >= 23, counts


@pytest.mark.parametrize("name", list(_cases()))
def test_case(name: str) -> None:
    if name in NOT_RUN:
        pytest.skip("Gradient differentiates a graph; the reference evaluates one")
    check(_cases()[name])


def test_oracle_agrees() -> None:
    failed: list[str] = []
    for name, case in _cases().items():
        if name not in NOT_RUN and "/real/" not in name and name.rpartition("/")[2] not in AT_ANOTHER_TIE:
            try:
                check(case, float64=True)
            except (AssertionError, WebDNNError) as error:
                failed.append(f"{name}: {' '.join(str(error).split())[:300]}")
    assert not failed, "\n".join(failed)
