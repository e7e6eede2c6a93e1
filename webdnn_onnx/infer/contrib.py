"""com.microsoft: operators that quantised and fused models of the web use.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.linear import matmul_shape
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.infer.shapes import broadcast
from webdnn_onnx.symbolic import Dim, maximum

__all__: list[str] = []

_MS = "com.microsoft"


@shape_rule("MatMulNBits", domain=_MS)
def matmul_n_bits(call: Call) -> list[Shape]:
    """[.., N] for A [.., K]."""
    return [(*call.at_least(0, 1)[:-1], call.number("N", 0))]


@shape_rule("MatMulIntegerToFloat", domain=_MS, dtype=2)
@shape_rule("DynamicQuantizeMatMul", domain=_MS, dtype=DType.FLOAT32)
def quantized_matmul(call: Call) -> list[Shape]:
    """As MatMul."""
    return [matmul_shape(call, call.shape(0), call.shape(1))]


@shape_rule(("FusedMatMul", "TransposeMatMul"), domain=_MS)
def fused_matmul(call: Call) -> list[Shape]:
    """As MatMul of the inputs, the last two axes (and on request the batch axes) of either transposed."""
    left = _transposed(call.shape(0), call.number("transA", 0), call.number("transBatchA", 0))
    right = _transposed(call.shape(1), call.number("transB", 0), call.number("transBatchB", 0))
    return [matmul_shape(call, left, right)]


def _transposed(shape: Shape, matrix: int, batch: int) -> Shape:
    if len(shape) < 2:
        return shape
    if batch:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if matrix else shape


@shape_rule("FusedGemm", domain=_MS)
def fused_gemm(call: Call) -> list[Shape]:
    """As Gemm."""
    a, b = call.ranked(0, 2), call.ranked(1, 2)
    rows = a[1] if call.number("transA", 0) else a[0]
    columns = b[0] if call.number("transB", 0) else b[1]
    return [(rows, columns)]


@shape_rule("QGemm", domain=_MS, dtype=lambda call: call.dtype(8) if call.has(8) else DType.FLOAT32)
def q_gemm(call: Call) -> list[Shape]:
    """As Gemm of inputs 0 and 3."""
    a, b = call.ranked(0, 2), call.ranked(3, 2)
    rows = a[1] if call.number("transA", 0) else a[0]
    columns = b[0] if call.number("transB", 0) else b[1]
    return [(rows, columns)]


@shape_rule(("QLinearAdd", "QLinearMul"), domain=_MS)
def q_linear_binary(call: Call) -> list[Shape]:
    """The broadcast of inputs 0 and 3."""
    return [broadcast(call, (call.shape(0), call.shape(3)))]


@shape_rule(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), domain=_MS)
def q_linear_activation(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule("QLinearGlobalAveragePool", domain=_MS)
def q_linear_global_average_pool(call: Call) -> list[Shape]:
    """[N, C, 1..], or [N, 1.., C] with channels last."""
    shape = call.at_least(0, 3)
    ones = (1,) * (len(shape) - 2)
    return [(shape[0], *ones, shape[-1]) if call.number("channels_last", 0) else (*shape[:2], *ones)]


@shape_rule("QLinearConcat", domain=_MS, dtype=1)
def q_linear_concat(call: Call) -> list[Shape]:
    """Tensors are inputs 2, 5, 8, ..; their sum along one axis."""
    shapes = [call.shape(index) for index in range(2, call.count, 3)]
    axis = call.axis(call.number("axis", 0), len(shapes[0]))
    total: Dim = 0
    for shape in shapes:
        total = total + shape[axis]
    return [(*shapes[0][:axis], total, *shapes[0][axis + 1 :])]


@shape_rule("GatherBlockQuantized", domain=_MS, dtype=2)
def gather_block_quantized(call: Call) -> list[Shape]:
    """As Gather of the dequantised table; a byte of a uint8 table holds several elements."""
    data, indices = call.at_least(0, 1), call.shape(1)
    if call.dtype(0) is DType.UINT8:
        data = (*data[:-1], data[-1] * (8 // call.number("bits", 4)))
    axis = call.axis(call.number("gather_axis", 0), len(data))
    return [(*data[:axis], *indices, *data[axis + 1 :])]


@shape_rule("EmbedLayerNormalization", domain=_MS, dtype=(2, DType.INT32, 2))
def embed_layer_normalization(call: Call) -> list[Shape]:
    """[batch, sequence, hidden], the mask's lengths [batch], and the sum before normalising."""
    batch, sequence = call.ranked(0, 2)
    output = (batch, sequence, call.ranked(2, 2)[1])
    return [output, (batch,), output]


@shape_rule("Attention", domain=_MS, dtype=0)
def attention(call: Call) -> list[Shape]:
    """[batch, sequence, size of V], and present [2, batch, heads, total, head size]."""
    batch, sequence, _ = call.ranked(0, 3)
    sizes = call.numbers("qkv_hidden_sizes")
    hidden: Dim = sizes[2] if sizes is not None else call.ranked(1, 2)[1] // 3
    heads = call.number("num_heads", 1)
    total: Dim = sequence
    if call.has(4):
        total = sequence + call.ranked(4, 5)[3]
    return [(batch, sequence, hidden), (2, batch, heads, total, hidden // heads)]


@shape_rule("MultiHeadAttention", domain=_MS)
def multi_head_attention(call: Call) -> list[Shape]:
    """[batch, sequence, hidden of V], the present key and value [batch, heads, total, head size], and the scores."""
    query = call.ranked(0, 3, 5)
    heads = call.number("num_heads", 1)
    if len(query) == 5:
        batch, sequence, _, _, size = query
        present: Shape = (batch, heads, sequence, size)
        return [(batch, sequence, size * heads), present, present, (batch, heads, sequence, sequence)]
    batch, sequence, hidden = query
    if not call.has(2):
        packed = call.ranked(1, 5)
        present = (batch, heads, packed[1], packed[4])
        return [(batch, sequence, hidden), present, present, (batch, heads, sequence, packed[1])]
    key, value = call.ranked(1, 3, 4), call.ranked(2, 3, 4)
    length = key[1] if len(key) == 3 else key[2]
    width = value[2] if len(value) == 3 else value[3] * heads
    total = held = length
    if call.has(6):
        past = call.ranked(6, 4)[2]
        filled = call.scalar(8) if call.has(8) else past
        total = call.fresh(3, 3) if filled is None else filled + length
        held = past if call.has(8) else total
    return [
        (batch, sequence, width),
        (batch, heads, held, hidden // heads),
        (batch, heads, held, width // heads),
        (batch, heads, sequence, total),
    ]


def _cache_dtype(call: Call) -> DType:
    return call.dtype(3) if call.has(3) else call.dtype(0)


@shape_rule("GroupQueryAttention", domain=_MS, dtype=(0, _cache_dtype, _cache_dtype, 0))
def group_query_attention(call: Call) -> list[Shape]:
    """[batch, sequence, hidden], the present key and value [batch, kv heads, total, head size], and the scores."""
    batch, sequence, hidden = call.ranked(0, 3)
    heads, groups = call.number("num_heads", 1), call.number("kv_num_heads", 1)
    size = hidden // heads if call.has(1) else hidden // (heads + 2 * groups)
    past: Dim = 0
    width = size
    if call.has(3):
        # Two numbers of 4 bits share an element.
        _, _, past, width = call.ranked(3, 4)
    length = call.scalar(6)
    if call.number("sliding_window_cache", 0):
        capacity = past
    elif length is not None:
        capacity = maximum(past, length)
    else:
        # The cache is as long as it must be: the given buffer, or one for all positions so far.
        capacity = call.fresh(2, 1) if past != 0 else sequence
    present = (batch, groups, capacity, width)
    scores = (batch, heads, sequence, call.fresh(3, 3) if length is None else length)
    return [(batch, sequence, size * heads), present, present, scores]


@shape_rule("SparseAttention", domain=_MS)
def sparse_attention(call: Call) -> list[Shape]:
    """[batch, sequence, hidden], and the buffers of keys and values."""
    batch, sequence, hidden = call.ranked(0, 3)
    heads, groups = call.number("num_heads", 1), call.number("kv_num_heads", 1)
    width = hidden if call.has(1) else hidden // (heads + 2 * groups) * heads
    return [(batch, sequence, width), call.ranked(3, 4), call.ranked(4, 4)]


@shape_rule("BiasSplitGelu", domain=_MS)
def bias_split_gelu(call: Call) -> list[Shape]:
    """Half of the last axis."""
    shape = call.at_least(0, 1)
    return [(*shape[:-1], shape[-1] // 2)]


@shape_rule(("BiasAdd", "GroupNorm"), domain=_MS)
def keeps_shape(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]
