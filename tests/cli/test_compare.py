"""When an output counts as right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from webdnn_onnx.cli.compare import Comparison, compare_outputs, relative_tolerance

WANT = np.array([[1.0, -200.0], [3.0, 0.0]])


def compare(got: Any, want: Any = WANT, relative: float = 1e-4) -> Comparison:
    (found,) = compare_outputs({"y": got}, {"y": want}, relative)
    return found


def test_the_limit_is_a_share_of_the_largest_magnitude() -> None:
    found = compare((WANT + 0.015).astype(np.float32))
    assert found.passed
    assert found.limit == pytest.approx(1e-4 * 200 + 1e-6)
    assert not compare((WANT + 0.03).astype(np.float32)).passed


def test_a_failure_names_the_place_and_both_numbers() -> None:
    got = WANT.astype(np.float32)
    got[1, 0] = 4
    found = compare(got)
    assert found.reason == "at [1, 0]: expected 3, got 4"
    assert found.error == 1


def test_a_shape_that_differs_fails() -> None:
    assert "expected shape [2, 2], got [4]" in compare(WANT.reshape(-1).astype(np.float32)).reason


def test_nan_must_be_where_the_reference_has_it() -> None:
    want = np.array([np.nan, 1.0])
    assert compare(np.array([np.nan, 1], np.float32), want).passed
    assert "NaN" in compare(np.array([1, np.nan], np.float32), want).reason
    assert "NaN" in compare(np.array([1, 1], np.float32), want).reason


def test_infinity_must_have_the_same_sign() -> None:
    want = np.array([np.inf, 1.0])
    assert compare(np.array([np.inf, 1], np.float32), want).passed
    assert "infinite" in compare(np.array([-np.inf, 1], np.float32), want).reason


def test_what_overflows_the_declared_type_may_be_infinite() -> None:
    assert compare(np.array([np.inf], np.float16), np.array([1e6])).passed


def test_integers_booleans_and_strings_are_exact() -> None:
    assert compare(np.array([1, 2]), np.array([1, 2])).passed
    assert compare(np.array([1, 2]), np.array([1, 3])).reason == "1 of 2 elements differ"
    assert not compare(np.array([True]), np.array([False])).passed
    assert compare(np.array(["a"], object), np.array(["a"], object)).passed


def test_sequences_are_compared_item_by_item() -> None:
    found = compare_outputs({"s": [WANT, WANT + 1]}, {"s": [WANT, WANT]}, 1e-4)
    assert [(item.name, item.passed) for item in found] == [("s/0", True), ("s/1", False)]
    assert not compare_outputs({"s": [WANT]}, {"s": [WANT, WANT]}, 1e-4)[0].passed


def test_an_output_that_is_missing_fails() -> None:
    (found,) = compare_outputs({}, {"y": WANT}, 1e-4)
    assert found.reason == "expected a value, got no value"


def test_empty_outputs_agree() -> None:
    assert compare(np.zeros((0, 3), np.float32), np.zeros((0, 3))).passed


def test_narrow_types_and_stored_weights_widen_the_tolerance() -> None:
    single = relative_tolerance(frozenset({"float32", "int64"}))
    assert single == 1e-4
    assert relative_tolerance(frozenset({"float32", "float16"})) > single
    assert (
        relative_tolerance(frozenset({"float32"}), "int8") > relative_tolerance(frozenset({"float32"}), "f16") > single
    )
