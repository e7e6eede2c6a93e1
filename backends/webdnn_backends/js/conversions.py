"""Loads, stores and conversions in JavaScript: what each storage type looks like in a typed array, and Cast."""

from __future__ import annotations

from webdnn_backends.ir.narrow_floats import NARROW_FLOATS
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.ir.templates import ATOM, Code, Row, fill
from webdnn_backends.js.operators import BIT_AND, BIT_OR, CHOICE, EQUALITY, SHIFT
from webdnn_onnx.dtypes import DType

__all__ = ["TYPED_ARRAYS", "bitcast_row", "cast_rows", "load_row", "store_row"]

_BYTES = (
    DType.BOOL,
    DType.INT8,
    DType.UINT8,
    DType.INT4,
    DType.UINT4,
    DType.INT2,
    DType.UINT2,
    DType.FLOAT4E2M1,
    DType.FLOAT8E4M3FN,
    DType.FLOAT8E4M3FNUZ,
    DType.FLOAT8E5M2,
    DType.FLOAT8E5M2FNUZ,
    DType.FLOAT8E8M0,
)
TYPED_ARRAYS: dict[DType, str] = {
    **dict.fromkeys(_BYTES, "Uint8Array"),
    DType.INT16: "Int16Array",
    DType.UINT16: "Uint16Array",
    DType.FLOAT16: "Uint16Array",
    DType.BFLOAT16: "Uint16Array",
    DType.INT32: "Int32Array",
    DType.UINT32: "Uint32Array",
    DType.INT64: "BigInt64Array",
    DType.UINT64: "BigUint64Array",
    DType.FLOAT32: "Float32Array",
    DType.FLOAT64: "Float64Array",
}
"""The typed array in which a kernel sees each storage type. 8-bit integers may also come as Int8Array, 16-bit ones as
either signedness: loads do not rely on it."""

_SIGNED_8, _SIGNED_16 = Row("{a:11} << 24 >> 24", SHIFT), Row("{a:11} << 16 >> 16", SHIFT)
_NARROWING = {
    DType.INT2: Row("{a:11} << 30 >> 30", SHIFT),
    DType.INT4: Row("{a:11} << 28 >> 28", SHIFT),
    DType.INT8: _SIGNED_8,
    DType.INT16: _SIGNED_16,
    DType.UINT2: Row("{a:8} & 3", BIT_AND),
    DType.UINT4: Row("{a:8} & 15", BIT_AND),
    DType.UINT8: Row("{a:8} & 255", BIT_AND),
    DType.UINT16: Row("{a:8} & 65535", BIT_AND),
}
_SUB_BYTE = (DType.INT2, DType.UINT2, DType.INT4, DType.UINT4, DType.FLOAT4E2M1)


def load_row(dtype: DType) -> Row:
    """The element `{b}` of the array `{a}`, as a value of its compute type."""
    element = "{a}[{b}]"
    if dtype in _SUB_BYTE:
        word, shift = (
            ("{a}[{b:11} >> 1]", "({b:8} & 1) << 2") if dtype.bits == 4 else ("{a}[{b:11} >> 2]", "({b:8} & 3) << 1")
        )
        moved = Code(f"{word} >> ({shift})", SHIFT)
        row = _NARROWING.get(dtype)
        if row is None:
            return Row(f"unpack_{dtype.value}({moved.text})", ATOM, (f"unpack_{dtype.value}",))
        filled = fill(row, moved)
        return Row(filled.text, filled.strength)
    if dtype is DType.BOOL:
        return Row(f"{element} !== 0", EQUALITY)
    if dtype is DType.INT8:
        return Row(f"{element} << 24 >> 24", SHIFT)
    if dtype in NARROW_FLOATS:
        return Row(f"unpack_{dtype.value}({element})", ATOM, (f"unpack_{dtype.value}",))
    return Row(element)


def store_row(dtype: DType) -> Row:
    """A statement that puts the value `{c}` into element `{b}` of the array `{a}`."""
    if dtype in _SUB_BYTE:
        setter = "set_nibble" if dtype.bits == 4 else "set_crumb"
        if dtype is DType.FLOAT4E2M1:
            return Row(f"{setter}({{a}}, {{b}}, pack_{dtype.value}({{c}}))", ATOM, (setter, f"pack_{dtype.value}"))
        return Row(f"{setter}({{a}}, {{b}}, {{c}})", ATOM, (setter,))
    if dtype is DType.BOOL:
        return Row("{a}[{b}] = {c:2} ? 1 : 0")
    if dtype in NARROW_FLOATS:
        return Row(f"{{a}}[{{b}}] = pack_{dtype.value}({{c}})", ATOM, (f"pack_{dtype.value}",))
    return Row("{a}[{b}] = {c}")


_IDENTITY = Row("{a:20}")
_WIDE = (Scalar.I64, Scalar.U64)


def cast_rows(source: Scalar, to: DType) -> tuple[Row, ...]:
    """The steps of a Cast, applied in order."""
    if to is DType.BOOL:
        zero = "0n" if source in _WIDE else "0"
        return () if source is Scalar.BOOL else (Row(f"{{a:9}} !== {zero}", EQUALITY),)
    if source is Scalar.BOOL:
        wide = to in (DType.INT64, DType.UINT64)
        number = Row("{a:3} ? 1n : 0n" if wide else "{a:3} ? 1 : 0", CHOICE)
        return (number, *cast_rows(Scalar.F32, to)) if to is DType.FLOAT8E8M0 else (number,)
    if to is DType.FLOAT64:
        return (Row("Number({a})"),) if source in _WIDE else ()
    if to is DType.FLOAT32:
        return _to_single(source)
    if to.is_float:
        names = (f"pack_{to.value}", f"unpack_{to.value}")
        single = (Row("f32_odd({a})", ATOM, ("f32_odd",)),) if source is Scalar.F64 else _to_single(source)
        return (*single, Row(f"{names[1]}({names[0]}({{a}}))", ATOM, names))
    signed = to.is_signed_integer
    if to in (DType.INT64, DType.UINT64):
        return _to_wide(source, "i64" if signed else "u64")
    steps: tuple[Row, ...]
    if source.is_float:
        name = "i32_of_float" if signed else "u32_of_float"
        steps = (Row(f"{name}({{a}})", ATOM, (name,)),)
    elif source in _WIDE:
        steps = (Row(f"Number(BigInt.{'asIntN' if signed else 'asUintN'}(32, {{a}}))"),)
    elif to is DType.INT32 and source is Scalar.U32:
        steps = (Row("{a:6} | 0", BIT_OR),)
    elif to is DType.UINT32 and source is Scalar.I32:
        steps = (Row("{a:11} >>> 0", SHIFT),)
    else:
        steps = ()
    return (*steps, _NARROWING[to]) if to in _NARROWING else steps


def _to_single(source: Scalar) -> tuple[Row, ...]:
    if source is Scalar.F32:
        return ()
    name = "f32_of_64" if source in _WIDE else "fround"
    return (Row(f"{name}({{a}})", ATOM, (name,)),)


def _to_wide(source: Scalar, kind: str) -> tuple[Row, ...]:
    if source.is_float:
        return (Row(f"{kind}_of_float({{a}})", ATOM, (f"{kind}_of_float",)),)
    wrap = Row(f"BigInt.{'asIntN' if kind == 'i64' else 'asUintN'}(64, {{a}})")
    if source in _WIDE:
        return () if source.value == kind else (wrap,)
    whole = Row("BigInt({a})")
    return (whole, wrap) if kind == "u64" and source is Scalar.I32 else (whole,)


def bitcast_row(source: Scalar, to: Scalar) -> Row:
    """The same bits as another compute type."""
    rows = {
        (Scalar.F32, Scalar.U32): Row("u32_bits_of_f32({a})", ATOM, ("u32_bits_of_f32",)),
        (Scalar.F32, Scalar.I32): Row("u32_bits_of_f32({a}) | 0", BIT_OR, ("u32_bits_of_f32",)),
        (Scalar.U32, Scalar.F32): Row("f32_from_u32_bits({a})", ATOM, ("f32_from_u32_bits",)),
        (Scalar.I32, Scalar.F32): Row("f32_from_u32_bits({a})", ATOM, ("f32_from_u32_bits",)),
        (Scalar.U32, Scalar.I32): Row("{a:6} | 0", BIT_OR),
        (Scalar.I32, Scalar.U32): Row("{a:11} >>> 0", SHIFT),
        (Scalar.F64, Scalar.U64): Row("u64_bits_of_f64({a})", ATOM, ("u64_bits_of_f64",)),
        (Scalar.F64, Scalar.I64): Row("BigInt.asIntN(64, u64_bits_of_f64({a}))", ATOM, ("u64_bits_of_f64",)),
        (Scalar.U64, Scalar.F64): Row("f64_from_u64_bits({a})", ATOM, ("f64_from_u64_bits",)),
        (Scalar.I64, Scalar.F64): Row("f64_from_u64_bits(BigInt.asUintN(64, {a}))", ATOM, ("f64_from_u64_bits",)),
        (Scalar.I64, Scalar.U64): Row("BigInt.asUintN(64, {a})"),
        (Scalar.U64, Scalar.I64): Row("BigInt.asIntN(64, {a})"),
    }
    return _IDENTITY if source is to else rows[source, to]
