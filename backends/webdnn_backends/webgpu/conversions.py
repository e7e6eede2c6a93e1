"""Types, literals, Cast and Bitcast in WGSL."""

from __future__ import annotations

import math

import numpy as np

from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.ir.templates import ATOM, Code, Row
from webdnn_backends.webgpu.operators import TIGHT, UNARY
from webdnn_onnx.dtypes import DType

__all__ = ["WIDE", "bitcast_row", "cast_rows", "literal", "type_name"]

WIDE = (Scalar.I64, Scalar.U64)
_NAMES = {
    Scalar.BOOL: "bool",
    Scalar.I32: "i32",
    Scalar.U32: "u32",
    Scalar.I64: "vec2<u32>",
    Scalar.U64: "vec2<u32>",
    Scalar.F32: "f32",
}


def type_name(type: Scalar, lanes: int = 1) -> str:
    """The WGSL type of a register."""
    return _NAMES[type] if lanes == 1 else f"vec{lanes}<{_NAMES[type]}>"


_LARGEST = float(np.finfo(np.float32).max)


def literal(value: bool | int | float, type: Scalar) -> tuple[Code, tuple[str, ...]]:
    """The text of a constant and the private variables that it reads."""
    if type is Scalar.BOOL:
        return Code("true" if value else "false"), ()
    if type in WIDE:
        bits = int(value) & ((1 << 64) - 1)
        return Code(f"vec2<u32>({bits & 0xFFFFFFFF}u, {bits >> 32}u)"), ()
    if type is Scalar.U32:
        return Code(f"{int(value)}u"), ()
    if type is Scalar.I32:
        if value == -(1 << 31):
            return Code("i32(-2147483648)"), ()
        return Code(str(int(value)), ATOM if value >= 0 else UNARY), ()
    number = np.float32(value)
    if math.isnan(number):
        return Code("bitcast<f32>(nan_bits)"), ("nan_bits",)
    if math.isinf(number):
        text = "bitcast<f32>(infinity_bits)"
        return Code(text if number > 0 else f"-{text}", ATOM if number > 0 else UNARY), ("infinity_bits",)
    text = np.format_float_positional(number, trim="-") if 1e-4 <= abs(number) < 1e9 or number == 0 else str(number)
    if abs(float(text)) > _LARGEST:
        text = repr(float(number))  # the shortest text rounds beyond float32, which WGSL refuses
    return Code(f"{text}f", UNARY if math.copysign(1, number) < 0 else ATOM), ()


_NARROWING = {
    DType.INT2: Row("extractBits({a}, 0u, 2u)"),
    DType.INT4: Row("extractBits({a}, 0u, 4u)"),
    DType.INT8: Row("extractBits({a}, 0u, 8u)"),
    DType.INT16: Row("extractBits({a}, 0u, 16u)"),
    DType.UINT2: Row("extractBits({a}, 0u, 2u)"),
    DType.UINT4: Row("extractBits({a}, 0u, 4u)"),
    DType.UINT8: Row("extractBits({a}, 0u, 8u)"),
    DType.UINT16: Row("extractBits({a}, 0u, 16u)"),
}


def cast_rows(source: Scalar, to: DType) -> tuple[Row, ...]:
    """The steps of a Cast of one or several lanes, applied in order; `{I}`, `{U}`, `{T}` are the types by lanes."""
    if to is DType.BOOL:
        if source is Scalar.BOOL:
            return ()
        if source in WIDE:
            return (Row("any({a} != vec2<u32>(0u))"),)
        if source is Scalar.F32:
            return (Row(f"!({{a:{TIGHT}}} == {{T}}(0f))", UNARY),)
        return (Row(f"{{a:{TIGHT}}} != {'{I}(0)' if source is Scalar.I32 else '{U}(0u)'}", 1),)
    if to.is_float:
        single = _to_single(source)
        if to is DType.FLOAT32:
            return single
        names = (f"pack_{to.value}{{x}}", f"unpack_{to.value}{{x}}")
        return (*single, Row(f"{names[1]}({names[0]}({{a}}))", ATOM, names))
    signed = to.is_signed_integer
    if to in (DType.INT64, DType.UINT64):
        return _to_wide(source, "i64" if signed else "u64")
    steps: tuple[Row, ...]
    if source is Scalar.F32:
        name = f"{'i32' if signed else 'u32'}_of_f32{{x}}"
        steps = (Row(f"{name}({{a}})", ATOM, (name,)),)
    elif source in WIDE:
        steps = (Row("bitcast<i32>({a:20}.x)" if signed else "{a:20}.x"),)
    elif source is (Scalar.I32 if signed else Scalar.U32):
        steps = ()
    else:
        steps = (Row("{I}({a})" if signed else "{U}({a})"),)
    return (*steps, _NARROWING[to]) if to in _NARROWING else steps


def _to_single(source: Scalar) -> tuple[Row, ...]:
    if source is Scalar.F32:
        return ()
    if source in WIDE:
        name = f"f32_of_{source.value}"
        return (Row(f"{name}({{a}})", ATOM, (name,)),)
    return (Row("{T}({a})"),)


def _to_wide(source: Scalar, kind: str) -> tuple[Row, ...]:
    if source in WIDE:
        return ()
    if source is Scalar.F32:
        return (Row(f"{kind}_of_f32({{a}})", ATOM, (f"{kind}_of_f32",)),)
    if source is Scalar.I32:
        return (Row("wide_of_i32({a})", ATOM, ("wide_of_i32",)),)
    return (Row("vec2<u32>({a}, 0u)" if source is Scalar.U32 else "vec2<u32>(u32({a}), 0u)"),)


def bitcast_row(source: Scalar, to: Scalar) -> Row:
    """The same bits as another compute type; 64-bit integers share one representation."""
    if source is to or source in WIDE:
        return Row("{a:20}")
    letter = {Scalar.I32: "I", Scalar.U32: "U", Scalar.F32: "T"}[to]
    return Row(f"bitcast<{{{letter}}}>({{a}})")
