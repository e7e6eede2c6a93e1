"""Binary and variadic operators: what onnxruntime cannot judge."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run
from webdnn_onnx.errors import InvalidModelError, ShapeError

tensor = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize(
    ("shape", "axis", "view"),
    [
        ((), None, ()),
        ((1, 1), None, ()),
        ((5,), None, (5,)),
        ((4, 5), None, (4, 5)),
        ((3, 4), 1, (3, 4, 1)),
        ((2,), 0, (2, 1, 1, 1)),
        ((3,), -3, (3, 1, 1)),
    ],
)
def test_broadcasting_by_attribute(opset: int, shape: tuple[int, ...], axis: int | None, view: tuple[int, ...]) -> None:
    b = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    np.testing.assert_array_equal(run("Add", tensor, b, opset=opset, **attributes), tensor + b.reshape(view))
    np.testing.assert_array_equal(run("Greater", tensor, b, opset=1, **attributes), tensor > b.reshape(view))
    np.testing.assert_array_equal(run("Pow", tensor, b, opset=1, **attributes).shape, tensor.shape)


def test_without_broadcast_shapes_must_be_equal_before_7() -> None:
    with pytest.raises(ShapeError, match="only broadcast=1 allows another"):
        run("Mul", tensor, tensor[0], opset=6)


def test_consumed_inputs_are_ignored() -> None:
    np.testing.assert_array_equal(run("Add", tensor, tensor, opset=1, consumed_inputs=(0, 0)), tensor + tensor)


def test_variadic_operators_before_8_do_not_broadcast() -> None:
    with pytest.raises(ShapeError, match="inputs broadcast from opset 8 on"):
        run("Max", tensor, tensor[0], opset=6)
    np.testing.assert_array_equal(run("Sum", tensor, tensor, tensor, opset=6), tensor * 3)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_integer_division_truncates_towards_zero(dtype: type) -> None:
    x, y = np.array([7, -7, 7, -7, 6, -6, 0], dtype), np.array([2, 2, -2, -2, 3, 3, -5], dtype)
    np.testing.assert_array_equal(run("Div", x, y, opset=14), [3, -3, -3, 3, 2, -2, 0])


def test_integer_arithmetic_wraps() -> None:
    x = np.array([127, -128], np.int8)
    np.testing.assert_array_equal(run("Add", x, np.int8(1), opset=14), [-128, -127])
    np.testing.assert_array_equal(run("Mul", x, np.int8(2), opset=14), [-2, 0])


def test_float_mod_is_refused_without_fmod_before_28() -> None:
    with pytest.raises(InvalidModelError, match="fmod: expected 1"):
        run("Mod", np.ones(2, np.float32), np.ones(2, np.float32), opset=13)


def test_mod_28_of_floats_follows_its_table() -> None:
    inf, nan = np.inf, np.nan
    x = np.array([5.5, -5.5, 0.0, -0.0, inf, 1.0, 1.0, -1.0, 1.0, nan])
    y = np.array([3.0, 3.0, -2.0, 2.0, 2.0, 0.0, inf, inf, -inf, 1.0])
    got = run("Mod", x, y, opset=28)
    np.testing.assert_array_equal(got, [2.5, 0.5, -0.0, 0.0, nan, nan, 1.0, inf, -inf, nan])
    assert np.signbit(got[2])
    assert not np.signbit(got[3])
    got = run("Mod", x, y, opset=28, fmod=1)
    np.testing.assert_array_equal(got, [2.5, -2.5, 0.0, -0.0, nan, nan, 1.0, -1.0, 1.0, nan])


def test_pow_keeps_the_type_of_its_base() -> None:
    assert run("Pow", np.array([2], np.int32), np.array([0.5], np.float32), opset=12).dtype == np.int32
    half = run("Pow", np.array([2, 3], np.float16), np.array([2, -1], np.int64), opset=15)
    np.testing.assert_array_equal(half, np.array([4, 1 / 3]).astype(np.float16))
    assert half.dtype == np.float16


def test_integer_pow_of_a_negative_exponent_truncates() -> None:
    x, y = np.array([1, -1, -1, 2, -3], np.int32), np.array([-2, -2, -3, -1, -2], np.int32)
    np.testing.assert_array_equal(run("Pow", x, y, opset=13), [1, 1, -1, 0, 0])


def test_integer_pow_is_exact_beyond_float64() -> None:
    assert int(run("Pow", np.array(3, np.int64), np.array(39, np.int64), opset=13)) == 3**39


def test_signed_bit_shifts() -> None:
    x, y = np.array([-8, -8, 8, -8, 8, 1], np.int8), np.array([1, 9, -1, -1, 8, 7], np.int8)
    np.testing.assert_array_equal(run("BitShift", x, y, opset=28, direction="RIGHT"), [-4, -1, 0, -1, 0, 0])
    np.testing.assert_array_equal(run("BitShift", x, y, opset=28, direction="LEFT"), [-16, 0, 0, 0, 0, -128])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sums_of_narrow_floats_are_rounded_once(dtype: type) -> None:
    values = [np.full((3,), value).astype(dtype) for value in (1.0, 2.0**-9, 2.0**-9, 2.0**-9, 2.0**-9)]
    expected = np.full((3,), 1 + 2.0**-7).astype(dtype)
    np.testing.assert_array_equal(run("Sum", *values, opset=13), expected)


def test_max_and_min_keep_nan() -> None:
    x, y = np.array([1, np.nan, 3], np.float32), np.array([np.nan, 2, 2], np.float32)
    np.testing.assert_array_equal(run("Max", x, y, opset=13), [np.nan, np.nan, 3])
    np.testing.assert_array_equal(run("Min", x, y, opset=13), [np.nan, np.nan, 2])


def test_equal_of_strings() -> None:
    x, y = np.array(["a", "b"], object), np.array(["a", "c"], object)
    got = run("Equal", x, y, opset=19)
    assert got.dtype == np.bool_
    np.testing.assert_array_equal(got, [True, False])


def test_where_of_strings() -> None:
    got = run("Where", np.array([True, False]), np.array("a", object), np.array(["b", "c"], object), opset=16)
    assert list(got) == ["a", "c"]


def test_shapes_that_do_not_broadcast_are_named() -> None:
    with pytest.raises(ShapeError, match=r"expected shapes that broadcast, got \[2, 3, 4, 5\] and \[7\]"):
        run("Add", tensor, np.zeros(7, np.float32), opset=13)


@pytest.mark.parametrize("base", [np.int32, np.int64])
@pytest.mark.parametrize("exponent", [np.uint32, np.int64, np.uint64])
def test_integer_powers_take_exponents_that_do_not_fit_the_base(base: type, exponent: type) -> None:
    x = np.array([2, 3, -3, -1, 0, 7], base)
    top = 1 << 8 * x.itemsize
    for count in (2**31, 2**31 + 1, 2**32 - 1):
        got = run("Pow", x, np.array(count, exponent), opset=15)
        assert [value % top for value in got.tolist()] == [pow(value, count, top) for value in x.tolist()]


def test_mod_has_two_ways() -> None:
    with pytest.raises(InvalidModelError, match="fmod: expected 0 or 1, got 2"):
        run("Mod", np.ones(2, np.float32), np.ones(2, np.float32), opset=28, fmod=2)


@pytest.mark.parametrize("exponent", [np.float32(2), np.float32(3), np.int64(3), np.full((1, 1, 1), 4, np.float32)])
def test_small_whole_powers_are_rounded_once(exponent: np.ndarray) -> None:
    x = np.random.default_rng(6).standard_normal((40, 50)).astype(np.float32)
    x[0, :4] = [np.nan, np.inf, -np.inf, -0.0]
    x[0, 4:6] = [3e38, 1e-20]
    whole = int(np.asarray(exponent).item())
    with np.errstate(over="ignore", under="ignore"):
        expected = np.array([float(value) ** whole for value in x.flat]).astype(np.float32)
    got = run("Pow", x, np.asarray(exponent), opset=15)
    np.testing.assert_array_equal(got, expected.reshape(np.broadcast_shapes(x.shape, np.shape(exponent))))
