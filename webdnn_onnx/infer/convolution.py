"""Convolutions and pooling."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call, show
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.infer.shapes import windows
from webdnn_onnx.symbolic import Dim

__all__ = ["window_sizes"]


def _spatial(call: Call, name: str, default: int, count: int) -> tuple[int, ...]:
    values = call.numbers(name) or (default,) * count
    if len(values) != count:
        raise call.shape_error(f"attribute '{name}'", f"{count} values", str(list(values)))
    return values


def _pads(call: Call, count: int) -> list[tuple[int, int]]:
    pads = _spatial(call, "pads", 0, 2 * count)
    return list(zip(pads[:count], pads[count:], strict=True))


def window_sizes(call: Call, sizes: Shape, kernel: Shape, dilated: bool = True, ceil: bool = False) -> Shape:
    """How many windows of a kernel lie along each spatial axis, by the node's strides, dilations and padding."""
    count = len(sizes)
    if len(kernel) != count:
        raise call.shape_error("kernel", f"{count} spatial axes", show(kernel))
    strides = _spatial(call, "strides", 1, count)
    dilations = _spatial(call, "dilations", 1, count) if dilated else (1,) * count
    pads = _pads(call, count)
    auto_pad = call.text("auto_pad", "NOTSET")
    return tuple(
        windows(sizes[axis], kernel[axis], strides[axis], dilations[axis], pads[axis], auto_pad, ceil)
        for axis in range(count)
    )


def _convolution(call: Call, data: int, weight: int) -> Shape:
    x, w = call.at_least(data, 3), call.at_least(weight, 3)
    if len(x) != len(w):
        raise call.shape_error("W", f"rank {len(x)}", show(w))
    group = call.number("group", 1)
    if isinstance(x[1], int) and isinstance(w[1], int) and x[1] != w[1] * group:
        raise call.shape_error("W channels", f"{x[1]} / group {group}", str(w[1]))
    kernel: Shape = call.numbers("kernel_shape") or w[2:]
    return (x[0], w[0], *window_sizes(call, x[2:], kernel))


@shape_rule("Conv", same=(0, 1, 2))
def conv(call: Call) -> list[Shape]:
    """[N, M, windows..] for X [N, C, D..] and W [M, C/group, k..]."""
    return [_convolution(call, 0, 1)]


@shape_rule("ConvInteger", dtype=DType.INT32)
def conv_integer(call: Call) -> list[Shape]:
    """As Conv, in int32."""
    return [_convolution(call, 0, 1)]


@shape_rule("QLinearConv", dtype=7)
def qlinear_conv(call: Call) -> list[Shape]:
    """As Conv of inputs 0 and 3, in the element type of the output's zero point."""
    return [_convolution(call, 0, 3)]


@shape_rule("DeformConv")
def deform_conv(call: Call) -> list[Shape]:
    """As Conv."""
    return [_convolution(call, 0, 1)]


@shape_rule("FusedConv", domain="com.microsoft")
def fused_conv(call: Call) -> list[Shape]:
    """As Conv."""
    return [_convolution(call, 0, 1)]


@shape_rule("ConvTranspose", same=(0, 1, 2))
def conv_transpose(call: Call) -> list[Shape]:
    """[N, M*group, out..] for X [N, C, D..] and W [C, M, k..]; `output_shape` overrides the padding."""
    x, w = call.at_least(0, 3), call.at_least(1, 3)
    call.expect_equal("W input channels", x[1], w[0])
    count = len(x) - 2
    kernel: Shape = call.numbers("kernel_shape") or w[2:]
    strides = _spatial(call, "strides", 1, count)
    dilations = _spatial(call, "dilations", 1, count)
    extra = _spatial(call, "output_padding", 0, count)
    auto_pad = call.text("auto_pad", "NOTSET")
    given = call.numbers("output_shape")
    channels = w[1] * call.number("group", 1)
    if given is not None:
        return [(x[0], channels, *given[-count:])]
    sizes: list[Dim] = []
    for axis, (begin, end) in enumerate(_pads(call, count)):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            sizes.append(x[axis + 2] * strides[axis])
        else:
            padding = 0 if auto_pad == "VALID" else begin + end
            sizes.append((x[axis + 2] - 1) * strides[axis] + extra[axis] + span - padding)
    return [(x[0], channels, *sizes)]


@shape_rule("MaxPool", dtype=(0, DType.INT64))
@shape_rule(("AveragePool", "LpPool"))
def pool(call: Call) -> list[Shape]:
    """[N, C, windows..]; MaxPool has its indices in the same shape."""
    x = call.at_least(0, 3)
    kernel = call.numbers("kernel_shape")
    if kernel is None:
        raise call.shape_error("attribute 'kernel_shape'", "one size for each spatial axis", "none")
    result = (*x[:2], *window_sizes(call, x[2:], kernel, ceil=bool(call.number("ceil_mode", 0))))
    return [result, result]


@shape_rule(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"))
def global_pool(call: Call) -> list[Shape]:
    """[N, C, 1..]."""
    x = call.at_least(0, 2)
    return [(*x[:2], *(1 for _ in x[2:]))]


@shape_rule("MaxUnpool")
def max_unpool(call: Call) -> list[Shape]:
    """What input `output_shape` says, or the size whose pooling gives the input."""
    x = call.at_least(0, 3)
    if call.has(2):
        given = call.elements(2, len(x))
        return [given if given is not None else tuple(call.fresh(axis) for axis in range(len(x)))]
    count = len(x) - 2
    kernel = _spatial(call, "kernel_shape", 1, count)
    strides = _spatial(call, "strides", 1, count)
    sizes = [
        (x[axis + 2] - 1) * strides[axis] + kernel[axis] - begin - end
        for axis, (begin, end) in enumerate(_pads(call, count))
    ]
    return [(*x[:2], *sizes)]


@shape_rule("MaxRoiPool")
def max_roi_pool(call: Call) -> list[Shape]:
    """[num_rois, C, *pooled_shape]."""
    x, rois = call.ranked(0, 4), call.ranked(1, 2)
    return [(rois[0], x[1], *_spatial(call, "pooled_shape", 1, 2))]


@shape_rule("RoiAlign")
def roi_align(call: Call) -> list[Shape]:
    """[num_rois, C, output_height, output_width]."""
    x, rois = call.ranked(0, 4), call.ranked(1, 2)
    return [(rois[0], x[1], call.number("output_height", 1), call.number("output_width", 1))]


@shape_rule("Col2Im")
def col2im(call: Call) -> list[Shape]:
    """[N, C, *image_shape] for an input [N, C * product of block_shape, L]."""
    x = call.ranked(0, 3)
    counts = (size for index in (1, 2) for size in call.shape(index) if isinstance(size, int))
    count = next(counts, None)
    image, block = call.elements(1, count), call.elements(2, count)
    if image is None or block is None:
        return []
    channels = x[1]
    for size in block:
        channels = channels // size
    return [(x[0], channels, *image)]


@shape_rule("CausalConvWithState", same=(0, 1))
def causal_conv_with_state(call: Call) -> list[Shape]:
    """The input's shape, and the state [N, C, k-1]."""
    x, w = call.ranked(0, 3), call.ranked(1, 3)
    return [x, (x[0], x[1], w[2] - 1)]
