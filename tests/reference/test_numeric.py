"""The arithmetic rules that operator families share."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.strategies import BOUNDED
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import (
    axes_of,
    axis_of,
    broadcast,
    broadcast_shape,
    broadcastable,
    in_parts,
    int_list,
    is_float,
    is_integer,
    limits,
    narrow,
    saturate,
    scalar_int,
    select,
    unidirectional,
    widen,
    wrap,
)

INTEGERS = [dtype for dtype in DType if dtype.is_integer]
FLOATS = [dtype for dtype in DType if dtype.is_float]


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_compute_in_float32_or_wider(dtype: DType) -> None:
    x = np.ones(3, dtype.numpy)
    assert is_float(x)
    assert not is_integer(x)
    wide = widen(x)
    assert wide.dtype == (np.float64 if dtype is DType.FLOAT64 else np.float32)
    assert narrow(wide, x).dtype == x.dtype
    assert narrow(wide, x.dtype).tolist() == x.tolist()


@pytest.mark.parametrize("dtype", [*INTEGERS, DType.BOOL, DType.STRING])
def test_other_types_are_not_widened(dtype: DType) -> None:
    x = np.ones(3, dtype.numpy)
    assert widen(x) is x
    assert is_integer(x) == dtype.is_integer
    assert not is_float(x)


@pytest.mark.parametrize("dtype", INTEGERS)
@BOUNDED
@given(value=st.integers(-(2**63), 2**63 - 1))
def test_wrap_is_arithmetic_modulo_the_width(dtype: DType, value: int) -> None:
    got = int(wrap(np.array([value]), dtype.numpy).astype(object)[0])
    least, greatest = limits(dtype.numpy)
    assert least <= got <= greatest
    assert (got - value) % (1 << dtype.bits) == 0


@pytest.mark.parametrize("dtype", INTEGERS)
@BOUNDED
@given(value=st.integers(-(2**63), 2**63 - 1))
def test_saturate_of_integers_is_the_nearest_value(dtype: DType, value: int) -> None:
    least, greatest = limits(dtype.numpy)
    got = saturate(np.array([value]), dtype.numpy)
    assert got.dtype == dtype.numpy
    assert int(got.astype(object)[0]) == min(max(value, least), greatest)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_saturate_of_floats(dtype: DType, kind: Any) -> None:
    least, greatest = limits(dtype.numpy)
    x = np.array([np.nan, np.inf, -np.inf, 1, 0], kind)
    got = [int(value) for value in saturate(x, dtype.numpy).astype(object)]
    assert got == [0, greatest, least, 1, 0]


def test_saturate_of_floats_at_the_limits_of_64_bits() -> None:
    x = np.array([2.0**63, -(2.0**63), 2.0**64, 2.0**63 - 1024])
    assert saturate(x, np.int64).tolist() == [2**63 - 1, -(2**63), 2**63 - 1, 2**63 - 1024]
    assert saturate(x, np.uint64).tolist() == [2**63, 0, 2**64 - 1, 2**63 - 1024]


def test_axes_are_counted_from_the_front() -> None:
    assert [axis_of(axis, 3) for axis in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    assert axes_of([-1, 0], 3) == (2, 0)
    for axis in (-4, 3):
        with pytest.raises(ShapeError, match=rf"axis: expected one in \[-3, 2\], got {axis}"):
            axis_of(axis, 3)
    with pytest.raises(ShapeError, match="once"):
        axes_of([0, -3], 3)


def test_shapes_broadcast_or_are_refused() -> None:
    assert broadcast_shape((2, 1), (3,), ()) == (2, 3)
    x, y = np.zeros((2, 1)), np.zeros(3)
    assert [array.shape for array in broadcast(x, y)] == [(2, 3), (2, 3)]
    assert [array.shape for array in broadcastable(x, y)] == [(2, 1), (3,)]
    assert unidirectional(y, (2, 3)).shape == (2, 3)
    for function in (broadcast, broadcastable):
        with pytest.raises(ShapeError, match=r"\[2\] and \[3\]"):
            function(np.zeros(2), y)
    with pytest.raises(ShapeError, match="broadcasts to"):
        unidirectional(np.zeros((2, 3)), (3,))


def test_numbers_come_from_tensors_of_the_right_rank() -> None:
    assert scalar_int(np.array([3]), "k") == scalar_int(np.array(3), "k") == 3
    assert int_list(np.array([3, 4]), "axes") == [3, 4]
    assert int_list(np.array(3), "axes") == [3]
    with pytest.raises(ShapeError, match=r"k: expected one element, got shape \[2\]"):
        scalar_int(np.zeros(2), "k")
    with pytest.raises(ShapeError, match=r"axes: expected rank 1, got shape \[1, 1\]"):
        int_list(np.zeros((1, 1)), "axes")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("size", [7, 5000])
def test_select_keeps_every_bit(dtype: type, size: int) -> None:
    words = np.random.default_rng(3).integers(0, 256, (2, size * np.dtype(dtype).itemsize), np.uint8)
    x, y = words.view(dtype)  # NaN with any payload, infinities and both zeros among them
    condition = np.arange(size) % 3 == 0
    got = select(condition, x, y)
    assert got.dtype == dtype
    assert got.tobytes() == b"".join((x if chosen else y)[at].tobytes() for at, chosen in enumerate(condition))


@pytest.mark.parametrize("shape", [(), (0, 3), (70001,), (300, 500)])
def test_parts_make_a_whole(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(4).standard_normal(shape)
    for array in (x, x.T):
        got = in_parts(lambda part: (part > 0).astype(np.int8), array)
        np.testing.assert_array_equal(got, (array > 0).astype(np.int8))
        assert got.dtype == np.int8
