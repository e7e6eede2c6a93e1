"""Operators of com.microsoft that onnxruntime does not compute on a CPU: formulas written out here as the judge."""

from __future__ import annotations

import cmath
import itertools
import math

import numpy as np
import pytest

from tests.reference.judge import agree
from tests.reference.one_node import run, run_all
from tests.reference.strategies import filled
from webdnn_onnx.errors import InvalidModelError, ShapeError

MS = "com.microsoft"


def _softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("shape", [(2, 1, 1, 5), (1, 1, 4, 5)])
def test_bias_softmax_adds_a_mask_before_it_normalizes(shape: tuple[int, ...]) -> None:
    x, bias = filled((2, 3, 4, 5), np.float32, 1), filled(shape, np.float32, 2)
    got = run("BiasSoftmax", x, bias, opset=1, domain=MS, axis=3, is_inner_broadcast=int(shape[0] == 2))
    for at in itertools.product(range(2), range(3), range(4)):
        added = bias[min(at[0], shape[0] - 1), 0, min(at[2], shape[2] - 1)]
        np.testing.assert_allclose(got[at], _softmax(x[at].astype(np.float64) + added), rtol=1e-5, atol=1e-7)


def test_bias_softmax_normalizes_over_all_axes_from_the_given_one() -> None:
    x, bias = filled((2, 3, 4), np.float32, 1), filled((1, 3, 4), np.float32, 2)
    got = run("BiasSoftmax", x, bias, opset=1, domain=MS, axis=1, is_inner_broadcast=0)
    np.testing.assert_allclose(got[1].reshape(-1), _softmax((x + bias)[1].reshape(-1)), rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_rfft_is_the_sum_over_turning_phases(length: int) -> None:
    x = filled((2, length), np.float32, length)
    got = run("Rfft", x, opset=1, domain=MS, normalized=0, onesided=1, signal_ndim=1)
    assert got.shape == (2, length // 2 + 1, 2)
    for row, k in itertools.product(range(2), range(length // 2 + 1)):
        expected = sum(float(x[row, n]) * cmath.exp(-2j * math.pi * k * n / length) for n in range(length))
        np.testing.assert_allclose(got[row, k], [expected.real, expected.imag], atol=1e-4)


def test_irfft_undoes_rfft() -> None:
    x = filled((3, 8), np.float32, 1)
    there = run("Rfft", x, opset=1, domain=MS, normalized=0, onesided=1, signal_ndim=1)
    back = run("Irfft", there, opset=1, domain=MS, normalized=0, onesided=1, signal_ndim=1)
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_transforms_that_no_kernel_has_are_refused() -> None:
    with pytest.raises(InvalidModelError, match="expected normalized 0"):
        run("Rfft", filled((2, 8), np.float32, 1), opset=1, domain=MS, normalized=1, onesided=1, signal_ndim=1)


def test_complex_products_broadcast() -> None:
    a, b = filled((2, 3, 2), np.float32, 1), filled((3, 2), np.float32, 2)
    got = run("ComplexMul", a, b, opset=1, domain=MS)
    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    imaginary = a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    np.testing.assert_allclose(got, np.stack([real, imaginary], axis=-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantized_mean_is_the_mean_of_what_the_integers_stand_for(dtype: type, keepdims: int) -> None:
    x = filled((2, 3, 4), dtype, 1, 30)
    zero, target = np.array(3, dtype), np.array(7, dtype)
    scales = np.array(0.25, np.float32), np.array(0.125, np.float32)
    got = run(
        "QLinearReduceMean", x, scales[0], zero, scales[1], target,
        opset=1, domain=MS, axes=(1,), keepdims=keepdims,
    )  # fmt: skip
    mean = ((x.astype(np.float64) - 3) * 0.25).mean(axis=1, keepdims=bool(keepdims))
    facts = np.iinfo(dtype)
    np.testing.assert_array_equal(got, np.clip(np.rint(mean / 0.125) + 7, facts.min, facts.max).astype(dtype))


@pytest.mark.parametrize("skip_shape", [(2, 3, 4, 6), (2, 1, 1, 6), (2, 6)])
@pytest.mark.parametrize("activation", [0, 1])
def test_skip_group_norm_normalizes_the_sum(skip_shape: tuple[int, ...], activation: int) -> None:
    x, skip, bias = filled((2, 3, 4, 6), np.float32, 1), filled(skip_shape, np.float32, 2), filled((6,), np.float32, 3)
    gamma, beta = filled((6,), np.float32, 4), filled((6,), np.float32, 5)
    y, total = run_all(
        "SkipGroupNorm", x, gamma, beta, skip, bias,
        opset=1, outputs=2, domain=MS, activation=activation, channels_last=1, epsilon=1e-3, groups=2,
    )  # fmt: skip
    wide = x.astype(np.float64) + skip.reshape(2, *((1, 1) if len(skip_shape) < 4 else skip_shape[1:3]), 6) + bias
    np.testing.assert_allclose(total, wide, rtol=1e-5, atol=1e-5)
    for sample, group in itertools.product(range(2), range(2)):
        part = slice(3 * group, 3 * group + 3)
        values = wide[sample, :, :, part]
        expected = (values - values.mean()) / np.sqrt(values.var() + 1e-3) * gamma[part] + beta[part]
        if activation:
            expected = expected / (1 + np.exp(-expected))
        np.testing.assert_allclose(y[sample, :, :, part], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("segments", [False, True])
def test_quantized_embedding_agrees_with_onnxruntime(segments: bool) -> None:
    ids = np.array([[1, 3, 0], [2, 2, 4]], np.int32)
    tables = [filled((count, 8), np.uint8, count, 40) for count in (5, 4, 2)]
    gamma, beta = filled((8,), np.uint8, 1, 40), filled((8,), np.uint8, 2, 40)
    scales = [np.array(value, np.float32) for value in (0.02, 0.03, 0.01, 0.02, 0.01)]
    zeros = [np.array(value, np.uint8) for value in (10, 20, 5, 3, 60)]
    if not segments:
        tables[2], scales[2], zeros[2] = None, None, None  # type: ignore[call-overload]  # absent inputs among arrays
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    inputs = [ids, ids % 2 if segments else None, *tables, gamma, beta, mask, *scales, *zeros]
    agree("QEmbedLayerNormalization", inputs, opset=1, domain=MS, outputs=(1, 6), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("left", "right"), [(np.int16, np.int16), (np.uint16, np.uint16), (np.int16, np.uint16)])
def test_products_of_16_bit_integers_wrap_in_32_bits(left: type, right: type) -> None:
    a = np.array([[30000, 30000, 30000], [-5 if left is np.int16 else 5, 2, 1]], left)
    b = np.array([[30000, 1], [30000, 2], [30000, 3]], right)
    got = run("MatMulInteger16", a, b, opset=1, domain=MS)
    unsigned = left is right is np.uint16
    assert got.dtype == (np.uint32 if unsigned else np.int32)
    for row, column in itertools.product(range(2), range(2)):
        exact = sum(int(p) * int(q) for p, q in zip(a[row], b[:, column], strict=True)) % 2**32
        assert int(got[row, column]) == (exact if unsigned or exact < 2**31 else exact - 2**32)
    with pytest.raises(ShapeError, match="expected shapes"):
        run("MatMulInteger16", a, b[:2], opset=1, domain=MS)


@pytest.mark.parametrize(
    ("text", "seed", "expected"),
    [
        ("", 0, 0),
        ("", 1, 0x514E28B7),
        ("a", 0x9747B28C, 0x7FA09EA6),
        ("aa", 0x9747B28C, 0x5D211726),
        ("aaa", 0x9747B28C, 0x283E0130),
        ("aaaa", 0x9747B28C, 0x5A97808A),
        ("Hello, world!", 0, 0xC0363E43),
    ],
)
def test_murmur_hash_of_published_texts(text: str, seed: int, expected: int) -> None:
    x = np.array([["other"], [text]], object)
    assert run("MurmurHash3", x, domain=MS, opset=1, seed=seed)[1, 0] == expected
    if len(text) == 4:
        number = np.frombuffer(text.encode(), "<i4").astype(np.int32)
        assert run("MurmurHash3", number, domain=MS, opset=1, seed=seed, positive=0) == np.uint32(expected).view(
            np.int32
        )
