"""Convolutions on channels-last inputs: kernels, strides, dilations, groups, edges, blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir.loops import Access, BufferParameter
from webdnn_backends.wasm.conv import (
    Conv,
    conv2d,
    depthwise_conv2d,
    pack_conv_weights,
    pack_depthwise_weights,
    plain_store,
)
from webdnn_backends.wasm.matmul import product_extent
from webdnn_backends.wasm.tiles import PLAIN, RELAXED
from webdnn_onnx.dtypes import DType

Array = npt.NDArray[Any]
Run = Callable[..., None]
CASES = [
    # n, c, oc, size, kernel, strides, dilations, group
    (1, 16, 24, (5, 7), (1, 1), (1, 1), (1, 1), 1),
    (2, 3, 11, (9, 11), (3, 3), (2, 2), (1, 1), 1),
    (1, 5, 8, (8, 9), (3, 2), (1, 2), (2, 1), 1),
    (1, 4, 9, (9, 9), (3, 3), (1, 1), (2, 2), 1),
    (2, 8, 12, (6, 6), (3, 3), (1, 1), (1, 1), 2),
    (1, 96, 20, (7, 7), (3, 3), (1, 1), (1, 1), 1),
    (1, 700, 5, (4, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 6, 16, (5, 5), (1, 1), (2, 2), (1, 1), 1),
    (1, 12, 12, (6, 4), (1, 3), (1, 1), (1, 2), 3),
]


def direct(x: Array, w: Array, strides: tuple[int, int], dilations: tuple[int, int], group: int) -> Array:
    """(N, H, W, C) and (OC, C/group, KH, KW) -> (N, OH, OW, OC), by the definition."""
    n, height, width, _ = x.shape
    out_channels, depth, kh, kw = w.shape
    oh = (height - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (width - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    out = np.zeros((n, oh, ow, out_channels))
    for g in range(group):
        own = slice(g * (out_channels // group), (g + 1) * (out_channels // group))
        part = x[..., g * depth : (g + 1) * depth]
        for i in range(kh):
            for j in range(kw):
                top, left = i * dilations[0], j * dilations[1]
                window = part[:, top : top + oh * strides[0] : strides[0], left : left + ow * strides[1] : strides[1]]
                out[..., own] += window[:, :oh, :ow].astype(np.float64) @ w[own, :, i, j].T
    return out


def setting(case: tuple[Any, ...]) -> tuple[Conv, Array, Array, Array]:
    n, channels, out_channels, size, kernel, strides, dilations, group = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *size, channels)).astype(np.float32)
    w = rng.normal(size=(out_channels, channels // group, *kernel)).astype(np.float32)
    expected = direct(x, w, strides, dilations, group)
    buffers = tuple(
        BufferParameter(name, DType.FLOAT32, Access.WRITE if name == "y" else Access.READ) for name in "xwy"
    )
    oh, ow = expected.shape[1:3]
    conv = Conv(
        "conv", buffers, n, oh, ow, *size, channels, out_channels, kernel, strides, dilations,
        plain_store(out_channels, oh * ow, "y"), group,
    )  # fmt: skip
    return conv, x, w, expected


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions(run: Run, case: tuple[Any, ...], relaxed: bool) -> None:
    conv, x, w, expected = setting(case)
    kernel = conv2d(conv, RELAXED if relaxed else PLAIN)
    n, oh, ow, oc = expected.shape
    folded = conv.pointwise and conv.group == 1
    pixels, repeats = (n * oh * ow, 1) if folded else (oh * ow, n * conv.group)
    tasks = repeats * product_extent(pixels, oc // conv.group, w[0].size)
    y = np.zeros(expected.size, np.float32)
    buffers = {"x": x.ravel(), "w": pack_conv_weights(w, conv.group).ravel(), "y": y}
    run(kernel, buffers, relaxed=relaxed, ranges=[(tasks // 3, tasks), (0, tasks // 3)])
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "strides", "dilations"),
    [
        (8, (7, 9), (3, 3), (1, 1), (1, 1)),
        (6, (9, 12), (3, 3), (2, 2), (1, 1)),
        (3, (12, 8), (5, 5), (1, 1), (1, 1)),
        (4, (9, 9), (3, 2), (1, 2), (2, 2)),
    ],
)
def test_depthwise_convolutions(
    run: Run,
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> None:
    conv, x, w, expected = setting((2, channels, channels, size, kernel, strides, dilations, channels))
    y = np.zeros(expected.size, np.float32)
    buffers = {"x": x.ravel(), "w": pack_depthwise_weights(w).ravel(), "y": y}
    run(depthwise_conv2d(conv), buffers, relaxed=True, ranges=[(0, 2 * expected.shape[1])])
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
