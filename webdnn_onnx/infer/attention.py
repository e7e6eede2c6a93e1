"""Attention and what comes with it."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Graph, Shape, TensorType, Type
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import rule, shape_rule
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


@shape_rule("Attention", since=23, dtype=(0, 1, 2, 0))
def attention(call: Call) -> list[Shape]:
    """Y in the rank of Q, the present key and value [N, heads, total, size], and the scores [N, heads, q, total]."""
    q, k, v = call.ranked(0, 3, 4), call.ranked(1, 3, 4), call.ranked(2, 3, 4)
    query_heads, heads = call.number("q_num_heads", 0), call.number("kv_num_heads", 0)
    if len(q) == 3:
        if not query_heads or not heads:
            raise call.shape_error("attributes q_num_heads and kv_num_heads", "both with rank-3 inputs", "none")
        q4: Shape = (q[0], query_heads, q[1], q[2] // query_heads)
        k4: Shape = (k[0], heads, k[1], k[2] // heads)
        v4: Shape = (v[0], heads, v[1], v[2] // heads)
    else:
        q4, k4, v4 = q, k, v
    total: Dim = k4[2]
    if call.has(4):
        total = call.ranked(4, 4)[2] + total
    y = (*q4[:3], v4[3]) if len(q) == 4 else (q4[0], q4[2], q4[1] * v4[3])
    return [y, (*k4[:2], total, k4[3]), (*v4[:2], total, v4[3]), (*q4[:3], total)]


@rule("FlexAttention", domain="ai.onnx.preview")
def flex_attention(call: Call) -> list[Type | None]:
    """[N, heads, q, size of V]; the subgraphs see the scores [N, heads, q, keys] in softmax_precision."""
    q, k, v = call.ranked(0, 4), call.ranked(1, 4), call.ranked(2, 4)
    wide = DType.FLOAT64 if call.dtype(0) is DType.FLOAT64 else DType.FLOAT32
    precision = call.number("softmax_precision", 0)
    scores = TensorType(DType.from_onnx(precision) if precision else wide, (*q[:3], k[2]))
    for name in ("score_mod", "prob_mod"):
        body = call.attribute(name)
        if isinstance(body, Graph):
            call.graphs[name], _ = call.nested(body, call.scope, [scores], [None])
    return [TensorType(call.dtype(0), (*q[:3], v[3]))]


@shape_rule("RotaryEmbedding")
@shape_rule("RotaryEmbedding", domain="com.microsoft")
def rotary_embedding(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.ranked(0, 3, 4)]


@shape_rule("LinearAttention", dtype=(0, lambda call: call.dtype(3) if call.has(3) else call.dtype(0)))
def linear_attention(call: Call) -> list[Shape]:
    """[B, T, q heads * d_v], and the state [B, kv heads, d_k, d_v]."""
    q, k, v = call.ranked(0, 3), call.ranked(1, 3), call.ranked(2, 3)
    query_heads, heads = call.number("q_num_heads", 1), call.number("kv_num_heads", 1)
    size = v[2] // heads
    return [(q[0], q[1], size * query_heads), (q[0], heads, k[2] // heads, size)]
