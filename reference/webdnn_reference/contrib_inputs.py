"""What inputs the operators of com.microsoft take: types and shapes, as the schemas of onnxruntime have them.

onnx knows no schemas of that domain, nor of operators that never were in ai.onnx or left it, so they are written down
here. One line is one operator, with `name:type[shape]` for each input. `?` behind a name: it may be absent; `*`:
there may be any number. A type is a family of element types; `T.float` is one that must be the same for all inputs
with the same letter in front. A shape names its sizes: a name is one size throughout the call (that of an attribute,
where one has that name), `...` any sizes in front, the same throughout. Alternatives stand behind `|`. Without a
shape the operator checks it itself, or takes any.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_reference.constraints import Constraints, Formal, tensor_text

__all__ = ["Shapes", "check_shapes", "contrib_constraints", "contrib_shapes"]

MS = "com.microsoft"

Shape = tuple[str, ...]
Shapes = tuple["NamedShapes", ...]


@dataclass(frozen=True)
class NamedShapes:
    """One input and the shapes that it may have; none where nothing is said."""

    name: str
    alternatives: tuple[Shape, ...]


_REAL = (DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64)
_BYTES = (DType.INT8, DType.UINT8)
_PACKED = (DType.UINT8, DType.INT4, DType.UINT4)
_FAMILIES: Mapping[str, tuple[DType, ...]] = {
    "float": _REAL,
    "float32": (DType.FLOAT32,),
    "byte": _BYTES,
    "uint8": (DType.UINT8,),
    "int16": (DType.INT16, DType.UINT16),
    "int32": (DType.INT32,),
    "int64": (DType.INT64,),
    "index": (DType.INT32, DType.INT64),
    "bool": (DType.BOOL,),
    "number": (DType.FLOAT32, DType.FLOAT64, DType.INT16, DType.INT32, DType.INT64),
    "point": (*_REAL, DType.UINT8),
    "joined": (DType.FLOAT32, *_BYTES),
    "code": (*_BYTES, DType.INT16, DType.UINT16, DType.INT4, DType.UINT4),
    "quantized": (*_BYTES, DType.INT16, DType.UINT16, DType.INT32, DType.INT4, DType.UINT4),
    "string": (DType.STRING,),
    "hashed": (DType.INT32, DType.UINT32, DType.INT64, DType.UINT64, DType.FLOAT32, DType.FLOAT64, DType.STRING),
    "cache": (*_REAL, DType.FLOAT8E4M3FN, *_BYTES),
    "block": (*_PACKED, *(dtype for dtype in DType if dtype.is_float and dtype.bits < 16)),
    "any": tuple(DType),
}

_TABLE = """
Attention: input:T.float[B,S,E] weights:T.float[E,H] bias?:T.float[H] mask_index?:int32
    past?:T.float[2,B,num_heads,P,D] attention_bias?:T.float[b,n,S,t] past_sequence_length?:int32
BiasAdd: X:T.float[...,C] bias:T.float[C] skip:T.float[...,C]
BiasGelu: A:T.float[...,C] B:T.float[C]
BiasSoftmax: data:T.float bias:T.float
BiasSplitGelu: X:T.float[...,C] bias:T.float[C]
BranchwiseRMSNorm: X:T.float scale?:float
CDist: A:T.float[M,C] B:T.float[N,C]
CausalConvWithState: input:T.float weight:T.float[C,1,K] bias?:T.float[C] past_state?:T.float
ComplexMul: A:T.float B:T.float
CropAndResize: X:T.float[N,C,H,W] rois:T.float[R,4] batch_indices:int32[R] crop_size:int32[2]
DecoderMaskedMultiHeadAttention: query:T.float[B,S,E] key?:T.float[B,L,F]|[B,num_heads,L,D]
    value?:T.float[B,L,V]|[B,num_heads,L,W] mask_index?:int32 attention_bias?:T.float[b,n,S,t]
    past_key?:T.float[B,num_heads,P,X] past_value?:T.float[B,num_heads,P,Y] past_sequence_length?:int32
    beam_width?:int32 cache_indirection?:int32 bias?:T.float
DequantizeLinear: x:T.quantized x_scale:float x_zero_point?:T.quantized
DynamicQuantizeLSTM: X:float32[S,B,I] W:U.byte[D,I,G] R:U.byte[D,H,G] B?:float32[D,X2] sequence_lens?:int32[B]
    initial_h?:float32[D,B,H] initial_c?:float32[D,B,H] P?:float32[D,X3] W_scale:float32 W_zero_point:U.byte
    R_scale:float32 R_zero_point:U.byte
DynamicQuantizeMatMul: A:float32 B:U.byte b_scale:float32 b_zero_point?:U.byte bias?:float32
EmbedLayerNormalization: input_ids:int32[B,S] segment_ids?:int32[B,S] word_embedding:T.float[V,H]
    position_embedding:T.float[P,H] segment_embedding?:T.float[G,H] gamma:T.float[H] beta:T.float[H] mask?:int32[B,S]
    position_ids?:int32[B,S]|[1,S]
ExpandDims: X:any axis:int32
FastGelu: X:T.float[...,C] bias?:T.float[C]
FusedConv: X:T.float W:T.float B?:T.float Z?:T.float
FusedGemm: A:T.float B:T.float C?:T.float
FusedMatMul: A:T.float B:T.float
GatedAdd: X:T.float[...,C] Y:T.float[...,C] gate:T.float gate_weight?:T.float
GatedDeltaNet: query:T.float key?:T.float value?:T.float cu_seqlens?:int32 decay?:G.float beta?:G.float
    initial_state?:float32 a_log?:float32 dt_bias?:float32 capture_count?:int32 state_update_active?:int32
GatedRMSNorm: X:T.float[...,D] scale:T.float[C] gate:T.float[...,D]
GatherBlockQuantized: data:D.block indices:index scales:float zero_points?:D.block
GatherND: data:any indices:index
Gelu: X:float
GridSample: X:T.float[N,C,A,B] Grid:T.float[N,Y,Z,2]
GroupNorm: X:T.float[N,A,Y,Z] gamma:M.float[C] beta:M.float[C]
GroupQueryAttention: query:T.float[B,S,E] key?:T.float[B,S,F] value?:T.float[B,S,G]
    past_key?:K.cache[B,kv_num_heads,P,X] past_value?:K.cache[B,kv_num_heads,P,Y] seqlens_k:int32[B]|[B,1]
    total_sequence_length:int32 cos_cache?:T.float[Q,R] sin_cache?:T.float[Q,R] position_ids?:int64
    attention_bias?:T.float[b,n,S,t] head_sink?:T.float[num_heads] k_scale?:float32 v_scale?:float32
    q_norm_weight?:T.float k_norm_weight?:T.float query_seqlens?:int32[B]
Inverse: X:float
Irfft: X:T.float[...,n,2]
LinearAttention: query:T.float[B,T,X] key:T.float[B,T,Y] value:T.float[B,T,Z] past_state?:S.float
    decay?:T.float[B,T,W] beta?:T.float[B,T,V]
LinearAttentionGate: a:T.float[...,H] dt_bias:float32[H] decay_scale:float32[H] b?:T.float[...,H]
MRotaryEmbedding: input:T.float[B,S,E]|[B,N,S,D] position_ids:int64[3,B,S] cos_cache:T.float[P,R] sin_cache:T.float[P,R]
MatMulBnb4: A:T.float B:uint8 absmax:T.float
MatMulInteger16: A:int16 B:int16
MatMulIntegerToFloat: A:A.byte B:B.byte a_scale:S.float b_scale:S.float a_zero_point?:A.byte b_zero_point?:B.byte
    bias?:S.float
MatMulNBits: A:T.float[...,K] B:uint8 scales:T.float zero_points?:point g_idx?:int32[G] bias?:T.float[N]
MoE: input:T.float[...,H] router_probs:T.float[t,E] fc1_experts_weights:T.float[E,F,H] fc1_experts_bias?:T.float[E,F]
    fc2_experts_weights:T.float[E,H,I] fc2_experts_bias?:T.float[E,H] fc3_experts_weights?:T.float[E,J,H]
    fc3_experts_bias?:T.float[E,J]
MultiHeadAttention: query:T.float[B,S,E]|[B,S,num_heads,3,D] key?:T.float[B,L,F]|[B,L,num_heads,2,D]|[B,num_heads,L,D]
    value?:T.float[B,L,V]|[B,num_heads,L,W] bias?:T.float[H] key_padding_mask?:int32 attention_bias?:T.float[b,n,S,t]
    past_key?:T.float[B,num_heads,P,X] past_value?:T.float[B,num_heads,P,Y] past_sequence_length?:int32
    cache_indirection?:int32
MurmurHash3: X:hashed
NGramRepeatBlock: input_ids:int64[B,S] scores:float32[B,V]
NhwcFusedConv: X:T.float W:T.float B?:T.float Z?:T.float
NhwcMaxPool: x:byte
Pad: data:T.float pads:int64 value?:T.float[]|[1]
QAttention: input:A.byte[B,S,E] weight:W.byte[E,H] bias:F.float[H] input_scale:F.float weight_scale:F.float
    mask_index?:int32 input_zero_point?:A.byte weight_zero_point?:W.byte
    past?:F.float[2,B,num_heads,P,D]
QEmbedLayerNormalization: input_ids:int32[B,S] segment_ids?:int32[B,S] word_embedding_quant:Q.byte[V,H]
    position_embedding_quant:Q.byte[P,H] segment_embedding?:Q.byte[G,H] gamma_quant:Q.byte[H] beta_quant:Q.byte[H]
    mask?:int32[B,S] word_embedding_scale:float32 position_embedding_scale:float32 segment_embedding_scale?:float32
    gamma_scale:float32 beta_scale:float32 word_embedding_zero_point:Q.byte position_embedding_zero_point:Q.byte
    segment_embedding_zero_point?:Q.byte gamma_zero_point:Q.byte beta_zero_point:Q.byte
QGemm: A:A.byte a_scale:float32 a_zero_point:A.byte B:B.byte b_scale:float32 b_zero_point:B.byte C?:int32
    y_scale?:float32 y_zero_point?:byte
QLinearAdd: A:T.byte A_scale:float32[]|[1] A_zero_point?:T.byte[]|[1] B:T.byte B_scale:float32[]|[1]
    B_zero_point?:T.byte[]|[1] C_scale:float32[]|[1] C_zero_point?:T.byte[]|[1]
QLinearAveragePool: X:T.byte x_scale:float32[]|[1] x_zero_point?:T.byte[]|[1] y_scale:float32[]|[1]
    y_zero_point?:T.byte[]|[1]
QLinearConcat: Y_scale:float32[]|[1] Y_zero_point:byte[]|[1] inputs*:joined
QLinearConv: x:X.byte x_scale:float32 x_zero_point:X.byte w:W.byte w_scale:float32 w_zero_point:W.byte y_scale:float32
    y_zero_point:byte B?:int32
QLinearGlobalAveragePool: X:T.byte x_scale:float32[]|[1] x_zero_point:T.byte[]|[1] y_scale:float32[]|[1]
    y_zero_point:T.byte[]|[1]
QLinearLeakyRelu: X:T.byte X_scale:float32[]|[1] X_zero_point?:T.byte[]|[1] Y_scale:float32[]|[1]
    Y_zero_point?:T.byte[]|[1]
QLinearMul: A:T.byte A_scale:float32[]|[1] A_zero_point?:T.byte[]|[1] B:T.byte B_scale:float32[]|[1]
    B_zero_point?:T.byte[]|[1] C_scale:float32[]|[1] C_zero_point?:T.byte[]|[1]
QLinearReduceMean: data:T.byte data_scale:float32[]|[1] data_zero_point?:T.byte[]|[1] reduced_scale:float32[]|[1]
    reduced_zero_point?:T.byte[]|[1]
QLinearSigmoid: X:T.byte X_scale:float32[]|[1] X_zero_point?:T.byte[]|[1] Y_scale:float32[]|[1]
    Y_zero_point?:T.byte[]|[1]
QLinearSoftmax: X:T.byte X_scale:float32[]|[1] x_zero_point?:T.byte[]|[1] y_scale:float32[]|[1]
    y_zero_point:T.byte[]|[1]
QLinearWhere: condition:bool X:T.byte x_scale:float32[]|[1] x_zero_point:T.byte[]|[1] Y:T.byte y_scale:float32[]|[1]
    y_zero_point:T.byte[]|[1] z_scale:float32[]|[1] z_zero_point:T.byte[]|[1]
QMoE: input:T.float[...,H] router_probs:T.float[t,E] fc1_experts_weights:uint8[E,F,X] fc1_scales?:float[E,F]|[E,F,A]
    fc1_experts_bias?:T.float[E,F] fc2_experts_weights:uint8[E,H,Y] fc2_scales?:float[E,H]|[E,H,B]
    fc2_experts_bias?:T.float[E,H] fc3_experts_weights?:uint8[E,J,Z] fc3_scales?:float[E,J]|[E,J,C]
    fc3_experts_bias?:T.float[E,J] fc1_zero_points?:uint8[E,U]|[E,F,U] fc2_zero_points?:uint8[E,V]|[E,H,V]
    fc3_zero_points?:uint8[E,W]|[E,J,W] router_weights?:T.float[t,E]
QuantizeLinear: x:T.float y_scale:T.float y_zero_point?:code
QuickGelu: X:float
Range: start:T.number[]|[1] limit:T.number[]|[1] delta?:T.number[]|[1]
Rfft: X:T.float
RotaryEmbedding: input:T.float[B,S,E]|[B,N,S,D] position_ids:int64[]|[1]|[B,S] cos_cache:T.float[P,R]
    sin_cache:T.float[P,R]
ScaledSiLU: X:float scale?:float[]|[1]
SkipGroupNorm: X:T.float[N,A,Y,Z] gamma:M.float[C] beta:M.float[C] skip:T.float bias?:T.float[C]
SkipLayerNormalization: input:T.float[...,H] skip:T.float gamma:T.float[H] beta?:T.float[H] bias?:T.float[H]
SkipSimplifiedLayerNormalization: input:T.float[...,H] skip:T.float gamma:T.float[H] bias?:T.float[H]
SparseAttention: query:T.float[B,S,E] key?:T.float[B,S,F] value?:T.float[B,S,G] past_key:T.float[B,kv_num_heads,M,D]
    past_value:T.float[B,kv_num_heads,M,D] block_row_indices:int32[L,R] block_col_indices:int32[L,C]
    total_sequence_length:int32 key_total_sequence_lengths:int32[B] cos_cache?:T.float[P,A] sin_cache?:T.float[P,A]
Tokenizer: X:string
TransposeMatMul: A:T.float B:T.float
Trilu: X:any k?:int64
UnfoldTensor: input:any
Unique: x:any[N]
"""

_LEGACY = """
Affine: X:float
Crop: input:float[N,C,H,W]
DynamicSlice: data:any starts:I.index ends:I.index axes?:I.index
ImageScaler: input:float[N,C,H,W]
LayerNormalization: X:float Scale:float B?:float
MeanVarianceNormalization: input:float
ParametricSoftplus: X:float
Scale: input:float
ScaledTanh: input:float
SimplifiedLayerNormalization: X:float scale:float
ThresholdedRelu: X:float
"""
"""Those of ai.onnx that onnx has no schema of, at any version or at the earlier ones."""

_TABLES = {MS: _TABLE, "": _LEGACY}

_INPUT = re.compile(r"(\w+)([?*]?):(?:(\w)\.)?(\w+)((?:\|?\[[^\]]*\])*)")


@functools.cache
def _parsed(domain: str) -> Mapping[str, tuple[Constraints, Shapes]]:
    found: dict[str, tuple[Constraints, Shapes]] = {}
    for line in re.sub(r"\n +", " ", _TABLES.get(domain, "").strip()).splitlines():
        op, _, text = line.partition(": ")
        formals: list[Formal] = []
        repeated: Formal | None = None
        shapes: list[NamedShapes] = []
        for name, count, letter, family, alternatives in _INPUT.findall(text):
            dtypes = _FAMILIES[family]
            formal = Formal(
                name=name,
                types=frozenset(map(tensor_text, dtypes)),
                dtypes=frozenset(dtype.numpy for dtype in dtypes),
                variable=letter,
                required=not count,
            )
            if count == "*":
                repeated = formal
            else:
                formals.append(formal)
            drawn = tuple(tuple(filter(None, part.split(","))) for part in re.findall(r"\[([^\]]*)\]", alternatives))
            shapes.append(NamedShapes(name, drawn))
        if not any(named.alternatives for named in shapes):
            shapes = []
        least = max((index + 1 for index, formal in enumerate(formals) if formal.required), default=0)
        found[op] = (Constraints(tuple(formals), repeated, least), tuple(shapes))
    return found


def contrib_constraints(op: str, domain: str) -> Constraints | None:
    """The types of an operator's inputs, or None where nothing is written down."""
    found = _parsed(domain).get(op)
    return None if found is None else found[0]


def contrib_shapes(op: str, domain: str) -> Shapes:
    """The shapes of an operator's inputs; none where nothing is written down."""
    found = _parsed(domain).get(op)
    return () if found is None else found[1]


def check_shapes(shapes: Shapes, values: Sequence[Any], attributes: Mapping[str, Any]) -> None:
    """Check the inputs of one call. Raises ShapeError for one that fits none of its shapes."""
    sizes: dict[str, Any] = {name: value for name, value in attributes.items() if isinstance(value, int)}
    for named, value in zip(shapes, values, strict=False):
        if not named.alternatives or not isinstance(value, np.ndarray):
            continue
        for alternative in named.alternatives:
            bound = _bound(alternative, value.shape, sizes)
            if bound is not None:
                sizes = bound
                break
        else:
            expected = " or ".join(_shape_text(alternative, sizes) for alternative in named.alternatives)
            raise ShapeError(f"{named.name}: expected shape {expected}, got {list(value.shape)}")


def _bound(wanted: Shape, shape: tuple[int, ...], sizes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The sizes known after an input of this shape, or None if it does not fit."""
    found = dict(sizes)
    if wanted[:1] == ("...",):
        count = len(shape) - len(wanted) + 1
        if count < 0 or found.setdefault("...", shape[:count]) != shape[:count]:
            return None
        wanted, shape = wanted[1:], shape[count:]
    if len(wanted) != len(shape):
        return None
    for name, size in zip(wanted, shape, strict=True):
        if (int(name) if name.isdigit() else found.setdefault(name, size)) != size:
            return None
    return found


def _shape_text(wanted: Shape, sizes: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for name in wanted:
        known = sizes.get(name, name)
        parts.extend(map(str, known) if isinstance(known, tuple) else [str(known)])
    return f"[{', '.join(parts)}]"
