"""Conv, ConvTranspose, ConvInteger and DeformConv against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, filled


@st.composite
def window_attributes(draw: st.DrawFn, rank: int) -> dict[str, Any]:
    """Strides, dilations and either pads or auto_pad, each possibly absent."""
    attributes: dict[str, Any] = {}
    if draw(st.booleans()):
        attributes["strides"] = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    padding = draw(st.sampled_from(["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if padding == "pads":
        attributes["pads"] = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    elif padding != "none":
        attributes["auto_pad"] = padding
    if padding in ("none", "pads", "VALID") and draw(st.booleans()):
        attributes["dilations"] = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    return attributes


@st.composite
def convolution(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]:
    """Shapes of X and W, the group count, the attributes."""
    rank = draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 1, 2, 3]))
    members, features = draw(st.integers(1, 3)), draw(st.integers(1, 3)) * group
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    sizes = tuple(draw(st.integers(5, 8)) for _ in range(rank))
    attributes = draw(window_attributes(rank)) | {"group": group}
    return (draw(st.integers(1, 2)), members * group, *sizes), (features, members, *kernel), group, attributes


@BOUNDED
@given(case=convolution(), seed=st.integers(0, 999), bias=st.booleans())
def test_conv(case: tuple[Any, ...], seed: int, bias: bool) -> None:
    x_shape, w_shape, _, attributes = case
    b = filled((w_shape[0],), np.float32, seed + 2) if bias else None
    agree(
        "Conv",
        [filled(x_shape, np.float32, seed, 1), filled(w_shape, np.float32, seed + 1, 1), b],
        attributes,
        opset=11,
    )


@BOUNDED
@given(case=convolution(), seed=st.integers(0, 999), data=st.data())
def test_conv_transpose(case: tuple[Any, ...], seed: int, data: st.DataObject) -> None:
    x_shape, w_shape, group, attributes = case
    features, members, *kernel = w_shape
    w = filled((members * group, features // group, *kernel), np.float32, seed + 1, 1)
    steps = attributes.get("strides", [1] * len(kernel))
    gaps = attributes.get("dilations", [1] * len(kernel))
    more = [data.draw(st.integers(0, max(step, gap) - 1)) for step, gap in zip(steps, gaps, strict=True)]
    assume(all(extra < step for extra, step in zip(more, steps, strict=True)))
    if any(more):
        attributes = attributes | {"output_padding": more}
    bias = filled((features,), np.float32, seed + 2) if data.draw(st.booleans()) else None
    agree("ConvTranspose", [filled(x_shape, np.float32, seed, 1), w, bias], attributes, opset=11)


@BOUNDED
@given(
    seed=st.integers(0, 999), extra=st.integers(-2, 1), auto_pad=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"])
)
def test_conv_transpose_with_output_shape(seed: int, extra: int, auto_pad: str) -> None:
    x, w = filled((1, 2, 4, 3), np.float32, seed, 1), filled((2, 3, 3, 3), np.float32, seed + 1, 1)
    attributes = {"strides": [2, 2], "output_shape": [9 + extra, 7 + extra], "auto_pad": auto_pad}
    agree("ConvTranspose", [x, w], attributes, opset=11)


@BOUNDED
@given(case=convolution(), seed=st.integers(0, 999), signed=st.booleans(), zero=st.booleans())
def test_conv_integer(case: tuple[Any, ...], seed: int, signed: bool, zero: bool) -> None:
    x_shape, w_shape, _, attributes = case
    x = filled(x_shape, np.uint8, seed, 80)
    w = filled(w_shape, np.int8 if signed else np.uint8, seed + 1, 40)
    zeros = [np.array(7, np.uint8), np.array(3, w.dtype)] if zero else []
    agree("ConvInteger", [x, w, *zeros], attributes, opset=10, outputs=[TensorProto.INT32])


@BOUNDED
@given(seed=st.integers(0, 999), data=st.data())
def test_deform_conv(seed: int, data: st.DataObject) -> None:
    group, offset_group = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([1, 2]))
    step, pad, gap = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 1)), data.draw(st.integers(1, 2))
    kernel = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    sizes = (6, 7)
    outputs = tuple((size + 2 * pad - gap * (k - 1) - 1) // step + 1 for size, k in zip(sizes, kernel, strict=True))
    taps = kernel[0] * kernel[1]
    inputs = [
        filled((2, 4, *sizes), np.float32, seed, 1),
        filled((4, 4 // group, *kernel), np.float32, seed + 1, 1),
        filled((2, offset_group * taps * 2, *outputs), np.float32, seed + 2, 1.5),
        filled((4,), np.float32, seed + 3) if data.draw(st.booleans()) else None,
        filled((2, offset_group * taps, *outputs), np.float32, seed + 4) if data.draw(st.booleans()) else None,
    ]
    attributes = {
        "group": group, "offset_group": offset_group, "kernel_shape": list(kernel),
        "strides": [step] * 2, "pads": [pad] * 4, "dilations": [gap] * 2,
    }  # fmt: skip
    agree("DeformConv", inputs, attributes, opset=19, rtol=1e-4, atol=1e-4)
