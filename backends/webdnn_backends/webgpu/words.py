"""Words that no name of ours may be in WGSL: keywords, reserved words, types, built-in functions, the dialect's own.

Spec: https://www.w3.org/TR/WGSL/#keyword-summary, https://www.w3.org/TR/WGSL/#reserved-words
"""

from __future__ import annotations

__all__ = ["RESERVED"]

_KEYWORDS = """
alias break case const const_assert continue continuing default diagnostic discard else enable false fn for if let
loop override requires return struct switch true var while
"""
_RESERVED = """
NULL Self abstract active alignas alignof as asm asm_fragment async attribute auto await become cast catch class
co_await co_return co_yield coherent column_major common compile compile_fragment concept const_cast consteval
constexpr constinit crate debugger decltype delete demote demote_to_helper do dynamic_cast enum explicit export
extends extern external fallthrough filter final finally friend from fxgroup get goto groupshared highp impl
implements import inline instanceof interface layout lowp macro macro_rules match mediump meta mod module move mut
mutable namespace new nil noexcept noinline nointerpolation non_coherent noncoherent noperspective null nullptr of
operator package packoffset partial pass patch pixelfragment precise precision premerge priv protected pub public
readonly ref regardless register reinterpret_cast require resource restrict self set shared sizeof smooth snorm
static static_assert static_cast std subroutine super target template this thread_local throw trait try type
typedef typeid typename typeof union unless unorm unsafe unsized use using varying virtual volatile wgsl where with
writeonly yield
"""
_TYPES = """
array atomic bool f16 f32 i32 mat2x2 mat2x3 mat2x4 mat3x2 mat3x3 mat3x4 mat4x2 mat4x3 mat4x4 ptr sampler u32 vec2
vec3 vec4 vec2f vec3f vec4f vec2i vec3i vec4i vec2u vec3u vec4u function private workgroup uniform storage read
write read_write
"""
_FUNCTIONS = """
all any select arrayLength abs acos acosh asin asinh atan atanh atan2 ceil clamp cos cosh countLeadingZeros
countOneBits countTrailingZeros cross degrees determinant distance dot dot4U8Packed dot4I8Packed exp exp2
extractBits faceForward firstLeadingBit firstTrailingBit floor fma fract frexp insertBits inverseSqrt ldexp length
log log2 max min mix modf normalize pow quantizeToF16 radians reflect refract reverseBits round saturate sign sin
sinh smoothstep sqrt step tan tanh transpose trunc bitcast atomicLoad atomicStore atomicAdd atomicAnd atomicOr
atomicXor workgroupBarrier storageBarrier pack2x16float unpack2x16float
"""
_OURS = "main group groups local index total first element last parameters nan_bits infinity_bits"

RESERVED = frozenset(" ".join((_KEYWORDS, _RESERVED, _TYPES, _FUNCTIONS, _OURS)).split())
