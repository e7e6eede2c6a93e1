"""Narrow floats: every bit pattern unpacks to its value, and packing agrees with the stated conversion."""

from __future__ import annotations

import numpy as np
import pytest

from webdnn_backends.ir import meanings
from webdnn_backends.ir.interpret import evaluate_definition
from webdnn_backends.ir.narrow_floats import NARROW_FLOATS, pack, unpack
from webdnn_onnx.dtypes import DType


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("dtype", NARROW_FLOATS, ids=lambda dtype: dtype.value)
def test_every_bit_pattern_unpacks_to_its_value(dtype: DType, lanes: int) -> None:
    patterns = np.arange(1 << dtype.bits, dtype=np.uint32)
    want = patterns.astype(np.uint16 if dtype.bits == 16 else np.uint8).view(dtype.numpy).astype(np.float32)
    args = patterns | np.uint32(0xA5A50000 & ~((1 << dtype.bits) - 1))
    got = evaluate_definition(unpack(dtype, lanes), args if lanes == 1 else args.reshape(-1, 4))
    np.testing.assert_array_equal(got.ravel(), want)
    np.testing.assert_array_equal(np.signbit(got.ravel()[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]))


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("dtype", NARROW_FLOATS, ids=lambda dtype: dtype.value)
def test_packing_rounds_to_nearest_even(dtype: DType, lanes: int) -> None:
    rng = np.random.default_rng(3)
    patterns = np.arange(1 << dtype.bits).astype(np.uint16 if dtype.bits == 16 else np.uint8)
    values = patterns.view(dtype.numpy).astype(np.float32)
    finite = np.sort(values[np.isfinite(values)])
    between = (finite[1:].astype(np.float64) + finite[:-1]) / 2
    spread = rng.standard_normal(20_000) * np.exp2(rng.uniform(-140, 120, 20_000))
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38, 448, 464, 465, 6, 7, 65519, 65520]
    halves = between.astype(np.float32)
    near = [halves, np.nextafter(halves, np.float32(9e9)), np.nextafter(halves, np.float32(-9e9))]
    x = np.concatenate([values, *near, spread.astype(np.float32), np.array(special, np.float32)])
    x = x[: len(x) // 4 * 4]
    bits = evaluate_definition(pack(dtype, lanes), x if lanes == 1 else x.reshape(-1, 4)).ravel()
    assert int(bits.max()) < 1 << dtype.bits
    got = bits.astype(patterns.dtype).view(dtype.numpy).astype(np.float32)
    want = meanings.convert(x, dtype)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]))
