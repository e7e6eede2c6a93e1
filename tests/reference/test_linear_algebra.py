"""MatMul, Gemm, Einsum, Det: what onnxruntime cannot judge."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run
from tests.reference.strategies import filled
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.ops import linear_algebra

NARROW = [np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_products_are_accumulated_wide(dtype: type) -> None:
    a, b = filled((4, 300), dtype, 1, 1), filled((300, 5), dtype, 2, 1)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    tolerance = float(ml_dtypes.finfo(dtype).eps)
    for got in (
        run("MatMul", a, b, opset=13),
        run("Gemm", a, b, opset=13),
        run("Einsum", a, b, opset=28, equation="ij,jk"),
    ):
        assert got.dtype == dtype
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integer_products_wrap(dtype: type) -> None:
    greatest = np.iinfo(dtype).max
    a = np.array([[greatest, 1]], dtype)
    np.testing.assert_array_equal(run("MatMul", a, np.array([[2], [2]], dtype), opset=9), [[0]])
    np.testing.assert_array_equal(run("Gemm", a, np.array([[1], [0]], dtype), opset=11), [[greatest]])


def test_gemm_6_broadcasts_only_by_attribute() -> None:
    a, b, c = filled((2, 3), np.float64, 1), filled((3, 4), np.float64, 2), filled((4,), np.float64, 3)
    with pytest.raises(ShapeError, match="only broadcast=1 allows another"):
        run("Gemm", a, b, c, opset=6)
    np.testing.assert_allclose(run("Gemm", a, b, c, opset=6, broadcast=1, beta=2.0), a @ b + 2 * c)


def test_integer_gemm_with_real_factors_truncates() -> None:
    a = np.array([[3]], np.int32)
    np.testing.assert_array_equal(run("Gemm", a, a, np.array([1], np.int32), opset=11, alpha=0.5, beta=1.0), [[5]])


def test_gemm_whose_c_does_not_fit_says_so() -> None:
    with pytest.raises(ShapeError, match=r"C: expected a shape that broadcasts to \[2, 4\], got \[3\]"):
        run("Gemm", np.zeros((2, 3)), np.zeros((3, 4)), np.zeros(3), opset=13)


def test_matmul_of_shapes_that_do_not_fit_says_so() -> None:
    with pytest.raises(ShapeError, match=r"got \[2, 3\] and \[4, 5\]"):
        run("MatMul", np.zeros((2, 3)), np.zeros((4, 5)), opset=13)


def test_einsum_with_the_wrong_number_of_terms_says_so() -> None:
    with pytest.raises(InvalidModelError, match="equation: expected 1 terms"):
        run("Einsum", np.zeros((2, 3)), opset=12, equation="ij,jk")
    with pytest.raises(ShapeError, match="equation 'ij,jk': expected inputs that fit it"):
        run("Einsum", np.zeros((2, 3)), np.zeros((4, 2)), opset=12, equation="ij,jk")


@pytest.mark.parametrize("dtype", [*NARROW, np.float32, np.float64])
def test_determinants(dtype: type) -> None:
    x = np.array([[[1, 2], [3, 4]], [[2, 0], [0, 5]]]).astype(dtype)
    got = run("Det", x, opset=22)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(np.float64), [-2, 10], rtol=1e-2 if dtype in NARROW else 1e-6)
    assert run("Det", np.zeros((0, 0), dtype), opset=22) == 1
    with pytest.raises(ShapeError, match="expected square matrices"):
        run("Det", np.zeros((2, 3), dtype), opset=22)


def test_a_broadcast_matrix_multiplies_like_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_algebra, "_BLOCK_ELEMENTS", 20)
    a, row = filled((3, 7), np.float32, 1), filled((1, 5), np.float32, 2)
    spread = np.broadcast_to(row, (7, 5))
    for b, trans in ((spread, 0), (spread.T, 1), (np.broadcast_to(np.float32(0.5), (7, 5)), 0)):
        expected = a.astype(np.float64) @ (b.T if trans else b)
        np.testing.assert_allclose(run("Gemm", a, b, opset=13, transB=trans), expected, rtol=1e-5, atol=1e-5)
        if not trans:
            np.testing.assert_allclose(run("MatMul", a, b, opset=13), expected, rtol=1e-5, atol=1e-5)
