"""The ONNX package's own cases on the reference, all kinds."""

from __future__ import annotations

import functools

import pytest
from onnx.backend.test.case.test_case import TestCase

from tests.reference.onnx_suite import KINDS, check, load_cases
from webdnn_onnx.errors import WebDNNError

NOT_RUN = {
    "test_gradient_of_add": "Gradient differentiates a graph; the reference evaluates one",
    "test_gradient_of_add_and_mul": "Gradient differentiates a graph; the reference evaluates one",
}


AT_ANOTHER_TIE = ("test_dynamicquantizelinear", "test_dynamicquantizelinear_expanded")
"""In the exact quotient an element lies on the other side of a tie, and differs by one step."""


@functools.cache
def _cases() -> dict[str, TestCase]:
    return {f"{kind}/{case.name}": case for kind in KINDS for case in load_cases(kind)}


def test_cases_that_are_not_run_exist() -> None:
    assert set(NOT_RUN) <= {case.name for case in _cases().values()}


def test_the_suite_is_the_one_that_was_counted() -> None:
    counts = {kind: sum(name.startswith(f"{kind}/") for name in _cases()) for kind in KINDS}
    assert counts["node"] >= 1884, counts
    assert counts["simple"] >= 23, counts


@pytest.mark.parametrize("name", list(_cases()))
def test_case(name: str) -> None:
    case = _cases()[name]
    if case.name in NOT_RUN:
        pytest.skip(NOT_RUN[case.name])
    check(case)


def test_oracle_agrees() -> None:
    failed: list[str] = []
    for name, case in _cases().items():
        if case.name not in NOT_RUN and case.kind != "real" and case.name not in AT_ANOTHER_TIE:
            try:
                check(case, float64=True)
            except (AssertionError, WebDNNError) as error:
                failed.append(f"{name}: {' '.join(str(error).split())[:300]}")
    assert not failed, "\n".join(failed)
