"""com.microsoft: further operators. ai.onnx: operators that left the specification.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape, TensorType, Type
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.convolution import window_sizes
from webdnn_onnx.infer.movement import unknown
from webdnn_onnx.infer.registry import rule, shape_rule
from webdnn_onnx.infer.shapes import broadcast
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_MS = "com.microsoft"


@shape_rule("UnfoldTensor", domain=_MS)
def unfold_tensor(call: Call) -> list[Shape]:
    """Windows along an axis, their elements along a new last one."""
    shape, size = call.at_least(0, 1), call.number("size", 1)
    axis = call.axis(call.number("dim", -1), len(shape))
    windows = (shape[axis] - size) // call.number("step", 1) + 1
    return [(*shape[:axis], windows, *shape[axis + 1 :], size)]


@shape_rule(
    ("MRotaryEmbedding", "GatedAdd", "ScaledSiLU", "GatedRMSNorm", "BranchwiseRMSNorm", "BiasSoftmax", "Trilu"),
    domain=_MS,
)
def keeps_shape(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule("MurmurHash3", domain=_MS, dtype=lambda call: DType.UINT32 if call.number("positive", 1) else DType.INT32)
def murmur_hash3(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule("SkipGroupNorm", domain=_MS)
def skip_group_norm(call: Call) -> list[Shape]:
    """The input's shape, and that of the sum."""
    return [call.shape(0), call.shape(0)]


@shape_rule("NGramRepeatBlock", domain=_MS, dtype=1)
def n_gram_repeat_block(call: Call) -> list[Shape]:
    """The scores' shape."""
    return [call.shape(1)]


@shape_rule("LinearAttentionGate", domain=_MS, dtype=(0, 3))
def linear_attention_gate(call: Call) -> list[Shape]:
    """The shape of both inputs."""
    return [call.shape(0), call.shape(0)]


@rule("GatedDeltaNet", domain=_MS)
def gated_delta_net(call: Call) -> Sequence[Type | None]:
    """[tokens, heads, value size], or [batch, sequence, ..] as the query is; the states [batch, heads, d_v, d_k]."""
    query = call.at_least(0, 2)
    packed = not call.has(1)
    if packed or not call.has(3):
        state = call.ranked(6, 4)
    else:
        state = (call.ranked(3, 1)[0] - 1, *call.at_least(2, 3)[-2:], query[-1])
    lead = query[:-1] if packed else query[:-2]
    output: Shape = (*lead, state[1], state[2])
    return [TensorType(call.dtype(0), output), TensorType(DType.FLOAT32, state)]


@shape_rule("LinearAttention", domain=_MS, dtype=(0, lambda call: call.dtype(3) if call.has(3) else call.dtype(0)))
def linear_attention(call: Call) -> list[Shape]:
    """[B, T, heads * d_v], and the states [B, kv heads, d_k, d_v], several with a window."""
    k, v = call.ranked(1, 3), call.ranked(2, 3)
    heads = call.number("kv_num_heads", 1)
    size = v[2] // heads
    state: Shape = (k[0], heads, k[2] // heads, size)
    window = call.number("state_window", 0)
    return [(k[0], k[1], size * max(heads, call.number("q_num_heads", 1))), (window, *state) if window else state]


@shape_rule("CausalConvWithState", domain=_MS)
def causal_conv_with_state(call: Call) -> list[Shape]:
    """The input's shape, and the positions that the next call needs."""
    x, weight = call.at_least(0, 3), call.ranked(1, 3)
    history = (weight[2] - 1) * call.number("dilation", 1)
    state: Shape = (x[0], history, *x[2:]) if call.number("channels_last", 0) else (*x[:2], history)
    window = call.number("state_window", 0)
    return [x, (window, *state) if window else state]


@shape_rule("MatMulBnb4", domain=_MS)
def matmul_bnb4(call: Call) -> list[Shape]:
    """[.., N] for A [.., K], or the other way round."""
    width = call.number("N", 0) if call.number("transB", 1) else call.number("K", 0)
    return [(*call.at_least(0, 1)[:-1], width)]


@shape_rule(
    "MatMulInteger16",
    domain=_MS,
    dtype=lambda call: DType.UINT32 if call.dtype(0) is call.dtype(1) is DType.UINT16 else DType.INT32,
)
def matmul_integer16(call: Call) -> list[Shape]:
    """[.., M, N]."""
    a, b = call.at_least(0, 2), call.at_least(1, 2)
    return [(*broadcast(call, (a[:-2], b[:-2])), a[-2], b[-1])]


@shape_rule("CDist", domain=_MS)
def c_dist(call: Call) -> list[Shape]:
    """[M, K] for [M, N] and [K, N]."""
    return [(call.ranked(0, 2)[0], call.ranked(1, 2)[0])]


@shape_rule("CropAndResize", domain=_MS)
def crop_and_resize(call: Call) -> list[Shape]:
    """[regions, channels, *crop_size]."""
    sizes = call.elements(3) or (call.fresh(2), call.fresh(3))
    return [(call.ranked(1, 2)[0], call.ranked(0, 4)[1], *sizes)]


@shape_rule("GridSample", domain=_MS)
def grid_sample(call: Call) -> list[Shape]:
    """[N, C, *grid.shape[1:-1]]."""
    return [(*call.at_least(0, 3)[:2], *call.at_least(1, 3)[1:-1])]


@shape_rule("GatherND", domain=_MS)
def gather_nd(call: Call) -> list[Shape]:
    """indices.shape[:-1] + data.shape[indices.shape[-1]:]."""
    indices = call.at_least(1, 1)
    depth = indices[-1]
    return [(*indices[:-1], *call.shape(0)[depth:])] if isinstance(depth, int) else []


@shape_rule("ExpandDims", domain=_MS)
def expand_dims(call: Call) -> list[Shape]:
    """An axis of length 1 inserted."""
    shape = call.shape(0)
    axis = call.scalar(1)
    if not isinstance(axis, int):
        return [unknown(call, len(shape) + 1)]
    where = call.axis(axis, len(shape) + 1)
    return [(*shape[:where], 1, *shape[where:])]


@shape_rule("Unique", domain=_MS, dtype=(0, DType.INT64))
def unique(call: Call) -> list[Shape]:
    """The distinct values, the place of each element among them, their counts."""
    different = call.fresh(0)
    return [(different,), call.ranked(0, 1), (different,)]


@shape_rule("Pad", domain=_MS)
def pad(call: Call) -> list[Shape]:
    """Each axis with what is added at both ends."""
    shape, pads = call.shape(0), call.elements(1)
    if pads is None:
        return [unknown(call, len(shape))]
    rank = len(shape)
    return [tuple(size + pads[axis] + pads[axis + rank] for axis, size in enumerate(shape))]


@shape_rule("Range", domain=_MS)
def range_(call: Call) -> list[Shape]:
    """ceil((limit - start) / step) elements."""
    start, limit = call.scalar(0), call.scalar(1)
    step: Dim | None = call.scalar(2) if call.has(2) else 1
    if not (isinstance(start, int) and isinstance(limit, int) and isinstance(step, int)) or step == 0:
        return [(call.fresh(0),)]
    return [(max(-(-(limit - start) // step), 0),)]


@shape_rule(("Rfft", "Irfft"), domain=_MS)
def fft(call: Call) -> list[Shape]:
    """[.., n] to [.., n // 2 + 1, 2], and back for even n."""
    shape = call.at_least(0, 1)
    if call.node.op == "Rfft":
        return [(*shape[:-1], shape[-1] // 2 + 1, 2)]
    return [(*shape[:-2], (shape[-2] - 1) * 2)]


@shape_rule("ComplexMul", domain=_MS)
def complex_mul(call: Call) -> list[Shape]:
    """The broadcast of the inputs."""
    return [broadcast(call, (call.shape(0), call.shape(1)))]


@rule("DecoderMaskedMultiHeadAttention", domain=_MS)
def decoder_masked(call: Call) -> Sequence[Type | None]:
    """[batch, 1, hidden of V], the caches [batch, heads, total, head size], the scores [batch, heads, 1, total]."""
    batch, sequence, width = call.ranked(0, 3)
    heads = call.number("num_heads", 1)
    length: Dim = sequence
    hidden = values = width
    if not call.has(1):
        hidden = values = width // 3
    elif len(call.shape(1)) == 4:
        length, values = call.shape(1)[2], call.shape(2)[3] * heads
    else:
        length, values = call.shape(1)[1], call.shape(2)[2]
    total = length
    caches: list[Shape] = []
    if call.has(5):
        past = call.ranked(5, 4)[2]
        shared = call.number("past_present_share_buffer", 0) and call.has(7)
        filled = call.scalar(7) if shared else past
        total = call.fresh(3, 3) if filled is None else filled + length
        caches = [(batch, heads, past if shared else total, size // heads) for size in (hidden, values)]
    else:
        caches = [(batch, heads, total, size // heads) for size in (hidden, values)]
    dtype = call.dtype(0)
    shapes: list[Shape] = [(batch, sequence, values), *caches, (batch, heads, sequence, total)]
    return [TensorType(dtype, shape) for shape in shapes]


@shape_rule("QAttention", domain=_MS, dtype=2)
def q_attention(call: Call) -> list[Shape]:
    """[batch, sequence, hidden], and present [2, batch, heads, total, head size]."""
    batch, sequence, _ = call.ranked(0, 3)
    hidden = call.ranked(1, 2)[1] // 3
    heads = call.number("num_heads", 1)
    total = sequence
    if call.has(8):
        past = call.ranked(8, 5)[3]
        total = past if call.number("past_present_share_buffer", 0) else sequence + past
    return [(batch, sequence, hidden), (2, batch, heads, total, hidden // heads)]


@shape_rule("QEmbedLayerNormalization", domain=_MS, dtype=(DType.FLOAT32, DType.INT32))
def q_embed_layer_normalization(call: Call) -> list[Shape]:
    """[batch, sequence, hidden], and the mask's lengths [batch]."""
    batch, sequence = call.ranked(0, 2)
    return [(batch, sequence, call.ranked(2, 2)[1]), (batch,)]


@shape_rule("QLinearWhere", domain=_MS, dtype=1)
def q_linear_where(call: Call) -> list[Shape]:
    """The broadcast of condition and both values."""
    return [broadcast(call, (call.shape(0), call.shape(1), call.shape(4)))]


@shape_rule("QLinearReduceMean", domain=_MS)
def q_linear_reduce_mean(call: Call) -> list[Shape]:
    """The reduced axes 1 or gone."""
    shape = call.shape(0)
    given = call.numbers("axes")
    axes = {call.axis(axis, len(shape)) for axis in given} if given else set(range(len(shape)))
    if call.number("keepdims", 1):
        return [tuple(1 if axis in axes else size for axis, size in enumerate(shape))]
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)]


@shape_rule(("QLinearAveragePool", "NhwcMaxPool"), domain=_MS)
def channels_last_pool(call: Call) -> list[Shape]:
    """[N, C, windows..], or [N, windows.., C] with channels last."""
    x = call.at_least(0, 3)
    last = call.node.op == "NhwcMaxPool" or call.number("channels_last", 0)
    kernel = call.numbers("kernel_shape") or ()
    sizes = window_sizes(call, x[1:-1] if last else x[2:], kernel, ceil=bool(call.number("ceil_mode", 0)))
    return [(x[0], *sizes, x[-1]) if last else (*x[:2], *sizes)]


@shape_rule("QLinearConv", domain=_MS, dtype=7)
def q_linear_conv(call: Call) -> list[Shape]:
    """As Conv of inputs 0 and 3, which may have its channels last."""
    x, weights = call.at_least(0, 3), call.at_least(3, 3)
    last = call.number("channels_last", 0)
    sizes = window_sizes(call, x[1:-1] if last else x[2:], weights[2:])
    return [(x[0], *sizes, weights[0]) if last else (x[0], weights[0], *sizes)]


@shape_rule("NhwcFusedConv", domain=_MS)
def nhwc_fused_conv(call: Call) -> list[Shape]:
    """[N, windows.., M] for X [N, D.., C] and W [M, C/group, k..]."""
    x, weights = call.at_least(0, 3), call.at_least(1, 3)
    return [(x[0], *window_sizes(call, x[1:-1], weights[2:]), weights[0])]


@shape_rule(("MoE", "QMoE"), domain=_MS)
def mixture_of_experts(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule("Crop")
def crop(call: Call) -> list[Shape]:
    """What lies inside the border, or a given height and width."""
    batch, channels, height, width = call.ranked(0, 4)
    left, top, right, bottom = call.numbers("border") or (0, 0, 0, 0)
    scale = call.numbers("scale")
    if scale:
        return [(batch, channels, scale[0], scale[1])]
    return [(batch, channels, height - top - bottom, width - left - right)]


@shape_rule("DynamicSlice")
def dynamic_slice(call: Call) -> list[Shape]:
    """Slices along some axes, clamped."""
    shape = list(call.shape(0))
    starts, ends = call.integers(1), call.integers(2)
    axes = call.integers(3) if call.has(3) else None
    if starts is None or ends is None or (call.has(3) and axes is None):
        return [unknown(call, len(shape))]
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = call.axis(axes[position] if axes else position, len(shape))
        size = shape[axis]
        shape[axis] = len(range(*slice(start, end).indices(size))) if isinstance(size, int) else call.fresh(axis)
    return [tuple(shape)]
