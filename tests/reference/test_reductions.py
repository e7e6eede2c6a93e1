"""Reductions and cumulative operators: what onnxruntime cannot judge."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run
from webdnn_onnx.errors import ShapeError

X = np.arange(24, dtype=np.float64).reshape(2, 3, 4) - 7


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("ReduceSum", X), ("ReduceMean", X), ("ReduceMax", X), ("ReduceMin", X), ("ReduceProd", X),
        ("ReduceL1", np.abs(X)), ("ReduceL2", np.abs(X)), ("ReduceSumSquare", X * X), ("ReduceLogSumExp", X),
    ],
)  # fmt: skip
@pytest.mark.parametrize("axes", [None, np.zeros(0, np.int64)])
def test_without_axes_a_noop_still_takes_norms_and_logarithms(
    op: str, expected: np.ndarray, axes: np.ndarray | None
) -> None:
    np.testing.assert_allclose(run(op, X, axes, opset=18, noop_with_empty_axes=1), expected, rtol=1e-12)


def test_without_axes_and_without_noop_everything_is_reduced() -> None:
    assert run("ReduceSum", X, None, opset=13).shape == (1, 1, 1)
    assert run("ReduceSum", X, np.zeros(0, np.int64), opset=13, keepdims=0) == X.sum()


def test_extremes_of_nothing() -> None:
    axes = np.array([0])
    assert run("ReduceMax", np.zeros((0,), np.int32), axes, opset=18) == np.iinfo(np.int32).min
    assert run("ReduceMin", np.zeros((0,), np.uint8), axes, opset=18) == 255
    assert not run("ReduceMax", np.zeros((0,), np.bool_), axes, opset=20)
    assert run("ReduceMin", np.zeros((0,), np.bool_), axes, opset=20)
    assert run("ReduceMax", np.zeros((0,), np.float16), axes, opset=18) == -np.inf


def test_bool_extremes() -> None:
    x = np.array([[True, False], [False, False]])
    got = run("ReduceMax", x, np.array([1]), opset=20, keepdims=0)
    assert got.dtype == np.bool_
    np.testing.assert_array_equal(got, [True, False])


def test_integer_means_and_norms_truncate() -> None:
    x = np.array([[-3, -4], [1, 2]], np.int32)
    np.testing.assert_array_equal(run("ReduceMean", x, axes=(1,), opset=13, keepdims=0), [-3, 1])
    np.testing.assert_array_equal(run("ReduceL2", x, axes=(1,), opset=13, keepdims=0), [5, 2])


def test_sums_of_small_integers_wrap_in_their_own_type() -> None:
    x = np.full(3, 2**31, np.uint32)
    got = run("ReduceSum", x, opset=13, keepdims=0)
    assert got.dtype == np.uint32
    assert got == 2**31


def test_log_sum_exp_of_large_values_does_not_overflow() -> None:
    x = np.array([1000.0, 1000.0], np.float32)
    np.testing.assert_allclose(run("ReduceLogSumExp", x, opset=13, keepdims=0), 1000 + np.log(2), rtol=1e-6)
    lowest = np.array([-np.inf, -np.inf], np.float32)
    assert run("ReduceLogSumExp", lowest, opset=13, keepdims=0) == -np.inf


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_sums_are_accumulated_wide(dtype: type) -> None:
    x = np.ones(5000).astype(dtype)
    assert float(run("ReduceSum", x, opset=13, keepdims=0)) == float(np.float64(5000).astype(dtype))


def test_an_axis_outside_the_rank_is_named() -> None:
    with pytest.raises(ShapeError, match=r"axes: expected one in \[-3, 2\], got 3"):
        run("ReduceSum", X, np.array([3]), opset=13)


def test_arg_max_takes_the_first_or_the_last_of_equals() -> None:
    x = np.array([[1, 3, 3], [2, 2, 1]], np.float32)
    np.testing.assert_array_equal(run("ArgMax", x, opset=13, axis=1, keepdims=0), [1, 0])
    np.testing.assert_array_equal(run("ArgMax", x, opset=13, axis=1, keepdims=0, select_last_index=1), [2, 1])
    assert run("ArgMin", x.astype(ml_dtypes.bfloat16), opset=13, axis=-1).dtype == np.int64


@pytest.mark.parametrize(
    ("exclusive", "reverse", "expected"),
    [(0, 0, [1, 2, 6]), (1, 0, [1, 1, 2]), (0, 1, [6, 6, 3]), (1, 1, [6, 3, 1])],
)
def test_cumulative_product(exclusive: int, reverse: int, expected: list[int]) -> None:
    x = np.array([1, 2, 3], np.int32)
    got = run("CumProd", x, np.array(0), opset=26, exclusive=exclusive, reverse=reverse)
    np.testing.assert_array_equal(got, np.array(expected, np.int32))


def test_cumulative_sum_accepts_an_axis_of_rank_1_and_empty_tensors() -> None:
    np.testing.assert_array_equal(run("CumSum", np.ones((2, 3)), np.array([1]), opset=14)[0], [1, 2, 3])
    assert run("CumSum", np.zeros((2, 0)), np.array(1), opset=14, exclusive=1).shape == (2, 0)


def test_narrow_cumulative_sums_are_rounded_once_each() -> None:
    x = np.full(300, 0.01).astype(np.float16)
    expected = np.cumsum(x.astype(np.float64)).astype(np.float16)
    np.testing.assert_allclose(run("CumSum", x, np.array(0), opset=14), expected, rtol=1e-3)
