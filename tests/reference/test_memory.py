"""Operators that work in parts: what they take at most, and that parts join where sizes are no multiples of them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from tests.reference.one_node import run, run_all

RANDOM = np.random.default_rng(0)


def bytes_of(*values: np.ndarray | None) -> int:
    return sum(value.nbytes for value in values if value is not None)


def peak_of(op: str, *inputs: np.ndarray | None, opset: int, **attributes: Any) -> float:
    """The most that a node has at once, its inputs included, in units of its inputs and outputs together."""
    run(op, *inputs, opset=opset, **attributes)  # what is cached on the first call is no part of it
    tracemalloc.start()
    outputs = run_all(op, *inputs, opset=opset, **attributes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (bytes_of(*inputs) + peak) / bytes_of(*inputs, *outputs)


def image(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def hats(length: int, resized: int) -> np.ndarray:
    """The matrix [resized, length] of linear interpolation between the centres of samples, clamped at the ends."""
    places = np.clip((np.arange(resized) + 0.5) * length / resized - 0.5, 0, length - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(length))))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(224, 224), (961, 1283)])
def test_resizing_a_picture_takes_little_more_than_the_picture(mode: str, size: tuple[int, int]) -> None:
    sizes = np.array([1, 3, *size])
    assert peak_of("Resize", image(1, 3, 480, 640), None, None, sizes, opset=19, mode=mode) < 3


@pytest.mark.parametrize("shape", [(1, 3, 211, 307), (2, 301, 13, 17), (7, 5, 101, 3)])
@pytest.mark.parametrize("size", [(127, 409), (1021, 31)])
def test_slabs_of_a_resized_image_join(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    x = RANDOM.standard_normal(shape)
    got = run("Resize", x, None, None, np.array(size), opset=19, mode="linear", axes=[2, 3])
    np.testing.assert_allclose(got, hats(shape[2], size[0]) @ x @ hats(shape[3], size[1]).T, rtol=1e-9, atol=1e-12)


def test_slabs_along_the_last_axis_join() -> None:
    x = RANDOM.standard_normal((2, 3, 123, 301))
    got = run("Resize", x, None, None, np.array([409, 257]), opset=19, mode="linear", axes=[3, 2])
    np.testing.assert_allclose(got, hats(123, 257) @ x @ hats(301, 409).T, rtol=1e-9, atol=1e-12)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Attention written out, a query at a time; heads of q share those of k and v."""
    y = np.zeros((*q.shape[:3], v.shape[3]))
    for sample, head, row in np.ndindex(*q.shape[:3]):
        shared = head * k.shape[1] // q.shape[1]
        weights = np.exp(k[sample, shared] @ q[sample, head, row] / np.sqrt(q.shape[3]) - hidden[sample, row])
        y[sample, head, row] = weights / weights.sum() @ v[sample, shared]
    return y


@pytest.mark.parametrize("heads", [(7, 7), (15, 5), (12, 1)])
def test_heads_of_attention_join(heads: tuple[int, int]) -> None:
    q, k, v = (RANDOM.standard_normal((2, count, 190, 3)) for count in (heads[0], *heads[1:] * 2))
    hidden = np.where(RANDOM.random((2, 190, 190)) < 0.3, np.inf, 0)
    hidden[..., 0] = 0
    got = run("Attention", q, k, v, hidden[:, None] == 0, opset=23)
    np.testing.assert_allclose(got, attended(q, k, v, hidden), rtol=1e-9)


def test_heads_of_multi_head_attention_join() -> None:
    q, k, v = (RANDOM.standard_normal((2, 190, 21)).astype(np.float32) for _ in range(3))
    mask = (RANDOM.random((2, 190)) < 0.8).astype(np.int32)
    hidden = np.broadcast_to(np.where(mask, 0, np.inf)[:, None], (2, 190, 190))
    got = run("MultiHeadAttention", q, k, v, None, mask, opset=1, domain="com.microsoft", num_heads=7)
    heads = [x.reshape(2, 190, 7, 3).transpose(0, 2, 1, 3) for x in (q, k, v)]
    wanted = attended(heads[0], heads[1], heads[2], hidden).transpose(0, 2, 1, 3).reshape(q.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared", [12, 1])
def test_attention_holds_the_scores_of_few_heads(shared: int) -> None:
    q, k = (RANDOM.standard_normal((1, heads, 512, 64)).astype(np.float32) for heads in (12, shared))
    assert peak_of("Attention", q, k, k, opset=23) < 3


def test_multi_head_attention_holds_the_scores_of_few_heads() -> None:
    x = RANDOM.standard_normal((1, 512, 768)).astype(np.float32)
    assert peak_of("MultiHeadAttention", x, x, x, opset=1, domain="com.microsoft", num_heads=12) < 3


QUANTIZED = [
    ((1, 64, 56, 56), (64, 64, 3, 3), 1),
    ((1, 144, 56, 56), (144, 1, 3, 3), 144),
    ((2, 6, 211, 93), (10, 3, 3, 3), 2),
    ((2, 300, 37, 41), (7, 300, 1, 1), 1),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "group"), QUANTIZED)
def test_parts_of_an_integer_convolution_join(x_shape: tuple[int, ...], w_shape: tuple[int, ...], group: int) -> None:
    x, w = image(*x_shape), image(*w_shape)
    zeros = np.array(7, np.uint8), np.array(129, np.uint8)
    pad = w_shape[2] // 2
    attributes: dict[str, Any] = {"pads": [pad] * 4, "strides": [2, 1], "group": group}
    got = run("ConvInteger", x, w, *zeros, opset=10, **attributes)
    numbers = [value.astype(np.int32) - int(zero) for value, zero in zip((x, w), zeros, strict=True)]
    padded = np.pad(numbers[0], ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w_shape[2:], axis=(2, 3))[:, :, ::2]
    parts = zip(np.split(windows, group, axis=1), np.split(numbers[1], group, axis=0), strict=True)
    wanted = np.concatenate([np.einsum("nchwij,mcij->nmhw", part, kernel) for part, kernel in parts], axis=1)
    np.testing.assert_array_equal(got, wanted)
    unit = np.array(1, np.float32)
    bias = np.arange(w_shape[0], dtype=np.int32)
    scale = np.linspace(1e-4, 2e-3, w_shape[0], dtype=np.float32)
    requantized = run(
        "QLinearConv", x, unit, zeros[0], w, scale, zeros[1], unit, np.array(3, np.uint8), bias, opset=10, **attributes
    )
    column = (-1, 1, 1)
    levels = np.rint((wanted + bias.reshape(column)).astype(np.float32) * scale.reshape(column)) + 3
    np.testing.assert_array_equal(requantized, np.clip(levels, 0, 255))


def test_quantized_convolution_takes_little_more_than_its_tensors() -> None:
    unit, zero = np.array(1, np.float32), np.array(3, np.uint8)
    inputs = image(1, 144, 112, 112), unit, zero, image(144, 1, 3, 3), unit, zero, unit, zero
    assert peak_of("QLinearConv", *inputs, opset=10, group=144, pads=[1] * 4) < 3


def test_slabs_of_a_deformable_convolution_join() -> None:
    x, w = RANDOM.standard_normal((2, 24, 71, 53)), RANDOM.standard_normal((10, 12, 3, 3))
    still = np.zeros((2, 2 * 9 * 2, 36, 53))
    mask = RANDOM.random((2, 2 * 9, 36, 53))
    call: dict[str, Any] = {"opset": 19, "pads": [1] * 4, "strides": [2, 1], "group": 2}
    plain = run("Conv", x, w, None, **call)
    got = run("DeformConv", x, w, still, None, np.ones_like(mask), offset_group=2, **call)
    np.testing.assert_allclose(got, plain, rtol=1e-9, atol=1e-12)
    below = np.roll(x, -1, axis=2)
    below[:, :, -1] = 0
    still.reshape(2, 2, 9, 2, 36, 53)[:, :, :, 0] = 1
    inner = run("DeformConv", x, w, still, None, None, offset_group=2, **call)[:, :, 1:]
    np.testing.assert_allclose(inner, run("Conv", below, w, None, **call)[:, :, 1:], rtol=1e-9, atol=1e-12)


def test_parts_of_a_four_bit_matrix_join() -> None:
    absmax = RANDOM.random(-(-301 * 333 // 48)).astype(np.float32)
    packed = image((301 * 333 + 1) // 2)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[: 301 * 333]
    values = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4])
    weights = (np.concatenate([values, -values])[codes] * np.repeat(absmax, 48)[: codes.size]).reshape(301, 333)
    a = RANDOM.standard_normal((2, 333)).astype(np.float32)
    got = run(
        "MatMulBnb4", a, packed, absmax, opset=1, domain="com.microsoft", K=333, N=301, block_size=48, quant_type=0
    )
    np.testing.assert_allclose(got, a @ weights.T, rtol=1e-4, atol=1e-4)
