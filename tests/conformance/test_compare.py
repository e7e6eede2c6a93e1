"""The judges: tolerances, distances, messages."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from webdnn_conformance.case import Facts
from webdnn_conformance.compare import against_reference, against_suite, tolerance_of, ulp_distance
from webdnn_onnx.dtypes import DType


def facts(op: str, **changes: Any) -> Facts:
    given = {"op": op, "domain": "", "version": 13, "opset": 13, "dtypes": ("f32",), "numeric": True, "single": True}
    return Facts(**{**given, **changes})


def message(op: str, got: Any, want: Any, **changes: Any) -> str:
    return against_reference(facts(op, **changes), ["y"], [got], [want]).message


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_neighbours_are_one_ulp_apart(dtype: Any) -> None:
    one = np.array([1.0, -1.0, 0.0], dtype)
    codes = one.view(f"u{one.itemsize}") + np.array(1, f"u{one.itemsize}")
    assert ulp_distance(codes.view(dtype), one).tolist() == [1, 1, 1]


def test_distance_crosses_zero() -> None:
    tiny = np.array([np.finfo(np.float32).smallest_subnormal], np.float32)
    assert ulp_distance(tiny, -tiny).tolist() == [2]
    assert ulp_distance(np.array([0.0], np.float32), np.array([-0.0], np.float32)).tolist() == [0]


def test_the_tolerance_belongs_to_operator_and_type() -> None:
    assert tolerance_of(facts("Transpose"), DType.FLOAT32).ulp == 0
    assert tolerance_of(facts("Exp"), DType.FLOAT32).klass == "transcendental"
    assert tolerance_of(facts("MatMul"), DType.FLOAT16).klass == "default"
    assert tolerance_of(facts("Exp", single=False), DType.FLOAT32).klass == "composite"
    assert all(tolerance_of(facts("Add"), dtype).reason for dtype in DType if dtype.is_float)


def test_moved_values_are_exact() -> None:
    want = np.array([1.0, 2.0], np.float32)
    assert message("Transpose", want, want) == ""
    found = message("Transpose", np.nextafter(want, np.float32(3)), want)
    assert "output 'y' at [1]: expected 2, got 2.00000024 (1 ULP, allowed 0; 2 of 2 elements)" in found


def test_nan_and_infinity_have_to_be_where_they_are() -> None:
    want = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert message("Exp", want, want) == ""
    assert "expected nan" in message("Exp", np.array([0, np.inf, -np.inf], np.float32), want)
    assert "expected inf" in message("Exp", np.array([np.nan, -np.inf, -np.inf], np.float32), want)
    assert "expected -inf" in message("Exp", np.array([np.nan, np.inf, -3e38], np.float32), want)


def test_integers_strings_and_types_are_exact() -> None:
    ints = np.array([[1, 2], [3, 4]], np.int64)
    assert "at [1, 0]: expected 3, got 5 (1 of 4 elements differ)" in message(
        "Add", np.array([[1, 2], [5, 4]], np.int64), ints
    )
    assert message("Add", ints.astype(np.int32), ints) == "output 'y': expected int64[2, 2], got int32[2, 2]"
    words = np.array(["a", "b"], object)
    assert "expected b, got c" in message("StringConcat", np.array(["a", "c"], object), words)


def test_sequences_optionals_and_maps_are_compared_inside() -> None:
    one = np.array([1.0], np.float32)
    assert message("SequenceAt", [one], [one]) == ""
    assert "a sequence of 2" in message("SequenceAt", [one], [one, one])
    assert "expected no value" in message("Optional", one, None)
    assert message("Optional", None, None) == ""
    assert "[3]" in message("ZipMap", {3: one + 1}, {3: one})


def test_drawn_values_are_compared_by_type_alone() -> None:
    one = np.ones(3, np.float32)
    assert message("Bernoulli", one, 0 * one, drawn=True) == ""
    assert message("Bernoulli", one[:2], one, drawn=True) != ""


def test_the_suite_compares_with_its_harness_tolerance() -> None:
    want = np.array([1.0], np.float32)
    assert against_suite(facts("Exp"), [want * np.float32(1.0009)], [want]) == ""
    assert against_suite(facts("Exp"), [want * np.float32(1.002)], [want]).startswith("output 0: ")
    assert against_suite(facts("Exp"), [want.astype(np.float64)], [want]) != ""
    assert against_suite(facts("Exp"), [], [want]) == "expected 1 outputs, got 0"
