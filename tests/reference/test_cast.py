"""Cast, CastLike, BitCast: the tables of the specification."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from tests.reference.one_node import run
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError

NAN, INF = np.nan, np.inf
FLOAT8 = {
    DType.FLOAT8E4M3FN: (448.0, NAN), DType.FLOAT8E4M3FNUZ: (240.0, NAN), DType.FLOAT8E5M2: (57344.0, INF),
    DType.FLOAT8E5M2FNUZ: (57344.0, NAN),
}  # fmt: skip
SOURCES = [np.float32, np.float64, np.float16]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", FLOAT8, ids=lambda dtype: dtype.value)
def test_float8_saturates(target: DType, source: type) -> None:
    greatest, _ = FLOAT8[target]
    x = np.array([INF, -INF, NAN, 6e4, -6e4, 0.0, 1.0], source)
    got = run("Cast", x, opset=19, to=target.onnx)
    assert got.dtype == target.numpy
    wide = got.astype(np.float32)
    np.testing.assert_array_equal(wide, [greatest, -greatest, NAN, greatest, -greatest, 0, 1])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", FLOAT8, ids=lambda dtype: dtype.value)
def test_float8_without_saturation(target: DType, source: type) -> None:
    _, over = FLOAT8[target]
    x = np.array([INF, -INF, NAN, 6.5e4, -6.5e4, 1.0], source)
    got = run("Cast", x, opset=19, to=target.onnx, saturate=0).astype(np.float32)
    np.testing.assert_array_equal(got, [over, -over, NAN, over, -over, 1])


@pytest.mark.parametrize("target", FLOAT8, ids=lambda dtype: dtype.value)
def test_negative_zero_survives_only_where_it_exists(target: DType) -> None:
    got = run("Cast", np.array([-0.0], np.float32), opset=19, to=target.onnx).view(np.uint8)
    assert got[0] == (0 if target.value.endswith("uz") else 0x80)


@pytest.mark.parametrize("target", [*FLOAT8, DType.BFLOAT16, DType.FLOAT4E2M1], ids=lambda dtype: dtype.value)
def test_float64_is_rounded_once(target: DType) -> None:
    values = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    values = np.unique(values[np.isfinite(values) & (np.abs(values) >= 0.25)])
    values = values[np.abs(values) < 5]
    grid = np.unique(values.astype(target.numpy).astype(np.float64))
    middles = (grid[1:] + grid[:-1]) / 2
    for offset, expected in ((2.0**-40, grid[1:]), (-(2.0**-40), grid[:-1])):
        got = run("Cast", middles + offset, opset=28, to=target.onnx).astype(np.float64)
        neighbours = np.abs(got - expected) <= np.abs(got - np.where(offset > 0, grid[:-1], grid[1:]))
        assert neighbours.all()


def test_bfloat16_of_float64_does_not_round_through_float32() -> None:
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8, 1 + 2.0**-8 - 2.0**-40])
    got = run("Cast", x, opset=13, to=DType.BFLOAT16.onnx).astype(np.float64)
    np.testing.assert_array_equal(got, [1 + 2.0**-7, 1, 1])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("up", [1, 2, 2, 2, 4, 2.0**-127]), ("down", [1, 1, 1, 1, 2, 2.0**-127]), ("nearest", [1, 1, 2, 2, 4, 2.0**-127])],
)
def test_float8e8m0_rounding(mode: str, expected: list[float]) -> None:
    x = np.array([1.0, 1.25, 1.5, 1.75, 3.0, 0.0], np.float32)
    got = run("Cast", x, opset=24, to=DType.FLOAT8E8M0.onnx, round_mode=mode)
    np.testing.assert_array_equal(got.astype(np.float64), expected)


def test_float8e8m0_outside_its_range() -> None:
    x = np.array([0.0, 2.0**-140, 1.5 * 2.0**127, INF, NAN])
    saturated = run("Cast", x, opset=24, to=DType.FLOAT8E8M0.onnx).astype(np.float64)
    np.testing.assert_array_equal(saturated, [2.0**-127, 2.0**-127, 2.0**127, 2.0**127, NAN])
    plain = run("Cast", x, opset=24, to=DType.FLOAT8E8M0.onnx, saturate=0, round_mode="nearest").astype(np.float64)
    np.testing.assert_array_equal(plain, [NAN] * 5)
    with pytest.raises(InvalidModelError, match="round_mode: expected up, down or nearest"):
        run("Cast", x, opset=24, to=DType.FLOAT8E8M0.onnx, round_mode="odd")


@pytest.mark.parametrize("target", [DType.INT4, DType.UINT4, DType.INT2, DType.UINT2], ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("source", [np.float32, np.int32, np.int64, ml_dtypes.bfloat16])
def test_narrow_integers_keep_the_low_bits(target: DType, source: type) -> None:
    x = np.arange(-20, 21).astype(source)
    got = run("Cast", x, opset=25, to=target.onnx).astype(np.int64)
    bits = target.bits
    expected = np.arange(-20, 21) % (1 << bits)
    if target.is_signed_integer:
        expected = np.where(expected >= 1 << (bits - 1), expected - (1 << bits), expected)
    np.testing.assert_array_equal(got, expected)


def test_floats_outside_an_integer_type_are_the_same_everywhere() -> None:
    x = np.array([300.7, -1.5, NAN, 2.0**40, 2.0**63, 1e19])
    np.testing.assert_array_equal(run("Cast", x[:4], opset=13, to=DType.UINT8.onnx), [44, 255, 0, 0])
    np.testing.assert_array_equal(
        run("Cast", x[3:], opset=13, to=DType.UINT64.onnx), np.array([2**40, 2**63, 10**19], np.uint64)
    )


def test_cast_1_takes_the_name_of_a_type() -> None:
    assert run("Cast", np.ones(1, np.int32), opset=1, to="FLOAT16").dtype == np.float16
    with pytest.raises(DTypeError, match="to: expected the name of an element type"):
        run("Cast", np.ones(1, np.int32), opset=1, to="REAL")


def test_strings_that_are_no_numbers_are_named() -> None:
    with pytest.raises(InvalidModelError, match="expected strings that are numbers, got 'two'"):
        run("Cast", np.array(["1", "two"], object), opset=13, to=DType.FLOAT32.onnx)


def test_strings_become_large_integers_exactly() -> None:
    x = np.array(["9223372036854775807", "100.5"], object)
    np.testing.assert_array_equal(run("Cast", x, opset=13, to=DType.INT64.onnx), [2**63 - 1, 100])


def test_bools_and_nan() -> None:
    x = np.array([0.0, -0.0, NAN, 0.5], np.float32)
    np.testing.assert_array_equal(run("Cast", x, opset=13, to=DType.BOOL.onnx), [False, False, True, True])


def test_cast_like_takes_the_type_of_its_second_input() -> None:
    got = run("CastLike", np.array([1.5, 600.0]), np.zeros(0, ml_dtypes.float8_e4m3fn), opset=19)
    np.testing.assert_array_equal(got.astype(np.float32), [1.5, 448])


@pytest.mark.parametrize("to", [DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32], ids=lambda dtype: dtype.value)
def test_a_cast_in_the_oracle_does_not_round_to_16_or_32_bits(to: DType) -> None:
    x = np.array([1 / 3])
    got = run("Cast", x, opset=19, float64=True, to=to.onnx)
    assert got.dtype == np.float64
    assert got[0] == 1 / 3


NARROW = [dtype for dtype in DType if dtype.is_float and dtype.bits < 16]


@pytest.mark.parametrize("to", NARROW, ids=lambda dtype: dtype.value)
def test_a_cast_in_the_oracle_rounds_to_fewer_bits(to: DType) -> None:
    x = np.array([0.3, 1.0, 2.6, 1e9], np.float32)
    got = run("Cast", x, opset=28, float64=True, to=to.onnx)
    assert got.dtype == to.numpy
    np.testing.assert_array_equal(got, run("Cast", x, opset=28, to=to.onnx))
    back = run("Cast", got, opset=28, float64=True, to=DType.FLOAT32.onnx)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, got.astype(np.float64))


SIX = {DType.FLOAT6E2M3: (2, 1, 3), DType.FLOAT6E3M2: (3, 3, 2)}
"""Exponent bits, bias, mantissa bits."""


def _six_bit_values(dtype: DType) -> list[float]:
    """The values of a type without infinities and NaN, by the definition: a sign, exponent and mantissa."""
    _, bias, digits = SIX[dtype]
    values = []
    for code in range(32):
        exponent, fraction = code >> digits, (code & ((1 << digits) - 1)) / (1 << digits)
        values.append(fraction * 2.0 ** (1 - bias) if exponent == 0 else (1 + fraction) * 2.0 ** (exponent - bias))
    return values


@pytest.mark.parametrize("dtype", SIX, ids=lambda dtype: dtype.value)
def test_six_bits_round_to_the_nearest_even_and_saturate(dtype: DType) -> None:
    values = _six_bit_values(dtype)
    assert max(values) == (7.5 if dtype is DType.FLOAT6E2M3 else 28)
    for low, high in itertools.pairwise(enumerate(values)):
        even = low if low[0] % 2 == 0 else high
        middle = (low[1] + high[1]) / 2
        x = np.array([low[1], middle, -middle, np.nextafter(middle, 99), np.nextafter(middle, 0)])
        got = run("Cast", x, opset=28, to=dtype.onnx)
        assert got.dtype == dtype.numpy
        np.testing.assert_array_equal(got.astype(np.float64), [low[1], even[1], -even[1], high[1], low[1]])
    beyond = run("Cast", np.array([1e9, -1e9, INF, -INF], np.float32), opset=28, saturate=0, to=dtype.onnx)
    greatest = max(values)
    np.testing.assert_array_equal(beyond.astype(np.float64), [greatest, -greatest, greatest, -greatest])


def test_six_bits_before_opset_28_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"expected one of tensor\(bfloat16\)"):
        run("Cast", np.zeros(2, DType.FLOAT6E2M3.numpy), opset=25, to=DType.FLOAT32.onnx)


PAIRS = [
    (np.float32, np.int32), (np.float16, ml_dtypes.bfloat16), (np.float64, np.uint64), (np.int8, np.uint8),
    (ml_dtypes.float8_e5m2, np.int8), (np.uint16, np.float16),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_bit_cast_keeps_the_bytes(source: type, target: type) -> None:
    x = np.arange(16, dtype=np.uint8).reshape(2, 8).view(source)
    got = run("BitCast", x, opset=26, to=DType.from_numpy(target).onnx)
    assert got.dtype == target
    assert got.tobytes() == x.tobytes()


@pytest.mark.parametrize("source", [DType.INT4, DType.UINT4, DType.FLOAT4E2M1], ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("target", [DType.INT4, DType.UINT4, DType.FLOAT4E2M1], ids=lambda dtype: dtype.value)
def test_bit_cast_of_four_bits(source: DType, target: DType) -> None:
    nibbles = np.arange(16, dtype=np.uint8)
    x = run("BitCast", nibbles.astype(ml_dtypes.uint4), opset=26, to=source.onnx)
    got = run("BitCast", x, opset=26, to=target.onnx)
    assert got.dtype == target.numpy
    back = run("BitCast", got, opset=26, to=DType.UINT4.onnx)
    np.testing.assert_array_equal(back.astype(np.uint8), nibbles)


def test_bit_cast_to_another_width_is_refused() -> None:
    with pytest.raises(DTypeError, match="expected a type of 32 bits"):
        run("BitCast", np.ones(2, np.float32), opset=26, to=DType.INT64.onnx)


@pytest.mark.parametrize("source", [np.int64, np.uint64])
@pytest.mark.parametrize("target", [DType.BFLOAT16, DType.FLOAT8E5M2], ids=lambda dtype: dtype.value)
def test_long_integers_are_rounded_once(target: DType, source: type) -> None:
    # Half way between two neighbours, and one more or less, which float64 does not hold; float8 saturates.
    half = 1 << 54
    x = np.array(
        [(1 << 62) + half + off for off in (-1, 0, 1)] + [(1 << 62) + 3 * half + off for off in (-1, 0, 1)], source
    )
    got = run("Cast", x, opset=19, to=target.onnx).astype(np.float64)
    steps = np.array([0, 0, 2, 2, 4, 4]) * float(half) + 2.0**62
    np.testing.assert_array_equal(got, np.minimum(steps, 57344) if target is DType.FLOAT8E5M2 else steps)
    if source is np.int64:
        negative = run("Cast", -x, opset=19, to=target.onnx).astype(np.float64)
        np.testing.assert_array_equal(negative, -got)


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        (np.float32, 2**24, "16777216"),
        (np.float32, 1e7, "10000000"),
        (np.float32, 1e-4, "0.0001"),
        (np.float32, 123456789, "123456790"),
        (np.float32, 1e16, "1e+16"),
        (np.float32, 0.3 - 0.2, "0.1"),
        (np.float32, 1 / 3, "0.33333334"),
        (np.float64, 1e15, "1000000000000000"),
        (np.float64, 1 / 3, "0.3333333333333333"),
        (np.float64, 9.9e-5, "9.9e-05"),
        (np.float64, 5e-324, "5e-324"),
        (np.float16, 0.1, "0.099975586"),
        (np.float32, -0.0, "-0"),
    ],
)
def test_numbers_become_the_shortest_text_without_an_exponent_up_to_1e16(
    source: type, value: float, expected: str
) -> None:
    assert run("Cast", np.array([value], source), opset=13, to=DType.STRING.onnx).tolist() == [expected]


@pytest.mark.parametrize("text", ["1_000", "\u0663", "0x10", "1,5", "1 2", "1f", "", "."])
@pytest.mark.parametrize("target", [DType.FLOAT32, DType.INT64], ids=lambda dtype: dtype.value)
def test_only_decimals_are_numbers(text: str, target: DType) -> None:
    with pytest.raises(InvalidModelError, match="expected strings that are numbers"):
        run("Cast", np.array([text], object), opset=13, to=target.onnx)


def test_spellings_of_numbers() -> None:
    x = np.array([" +1. ", ".5", "1E8", "-infinity", "+INF", "nan"], object)
    np.testing.assert_array_equal(
        run("Cast", x, opset=13, to=DType.FLOAT32.onnx), np.array([1, 0.5, 1e8, -np.inf, np.inf, NAN], np.float32)
    )


@pytest.mark.parametrize(
    "target", [DType.FLOAT4E2M1, DType.FLOAT6E2M3, DType.FLOAT6E3M2], ids=lambda dtype: dtype.value
)
def test_exponents_to_the_narrowest_floats(target: DType) -> None:
    x = np.array([0.5, 1, 2, 2.0**100], np.float32).astype(DType.FLOAT8E8M0.numpy)
    greatest = {DType.FLOAT4E2M1: 6, DType.FLOAT6E2M3: 7.5, DType.FLOAT6E3M2: 28}[target]
    assert run("Cast", x, opset=28, to=target.onnx).astype(np.float32).tolist() == [0.5, 1, 2, greatest]


def test_targets_are_those_of_the_version() -> None:
    x = np.ones(1, np.float32)
    assert run("Cast", x, opset=19, to=DType.FLOAT8E5M2.onnx).dtype == DType.FLOAT8E5M2.numpy
    with pytest.raises(DTypeError, match=r"Cast.*: output 'output': expected one of .*, got tensor\(float8e5m2\)"):
        run("Cast", x, opset=13, to=DType.FLOAT8E5M2.onnx)
