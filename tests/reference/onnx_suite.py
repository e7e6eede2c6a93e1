"""How the cases of the suites are run on the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.backend.test.runner import Runner

from webdnn_conformance.case import Case, DataSet
from webdnn_reference import Interpreter
from webdnn_reference.values import as_value

__all__ = ["check", "check_model", "compare"]


def check(case: Case, *, float64: bool = False) -> None:
    """Run every data set of a case. Raises AssertionError where an output differs.

    float64: run it as the oracle, which differs from values rounded to narrow types by that rounding.
    """
    rtol, atol = (2e-2, 1e-3) if float64 else (case.facts.rtol, case.facts.atol)
    check_model(case.model, case.sets, rtol, atol, drawn=case.facts.drawn, float64=float64)


def check_model(
    model: ModelProto | bytes,
    sets: Sequence[DataSet],
    rtol: float,
    atol: float,
    *,
    drawn: bool = False,
    float64: bool = False,
) -> None:
    """Run a model on data sets.

    drawn: compare only shapes and dtypes. float64: run it as the oracle, and compare with the expected floats widened.
    """
    interpreter = Interpreter(model, seed=0, float64=float64)
    for one in sets:
        got = list(interpreter.run(one.inputs).values())
        expected = [as_value(value, float64) for value in one.expected or ()]
        if drawn:
            got, expected = [np.zeros_like(value) for value in got], [np.zeros_like(value) for value in expected]
        compare(expected, got, rtol, atol)


def compare(expected: Sequence[Any], got: Sequence[Any], rtol: float, atol: float) -> None:
    """The package's own comparison (shape, dtype, values), applied inside sequences and to empty optionals too."""
    assert len(expected) == len(got), f"expected {len(expected)} values, got {len(got)}"
    for wanted, value in zip(expected, got, strict=True):
        if isinstance(wanted, list) or isinstance(value, list):
            assert isinstance(wanted, list), f"expected {wanted!r}, got the sequence {value!r}"
            assert isinstance(value, list), f"expected the sequence {wanted!r}, got {value!r}"
            compare(wanted, value, rtol, atol)
        elif wanted is None or value is None:
            assert wanted is value, f"expected {wanted!r}, got {value!r}"
        else:
            Runner.assert_similar_outputs([wanted], [value], rtol=rtol, atol=atol)
