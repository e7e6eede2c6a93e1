"""The WebAssembly rows of the scalar operators: which are one instruction, and what each conversion is.

An operator without a row here is expanded (expand.py), calls a helper (library.py) or a JavaScript Math function.
"""

from __future__ import annotations

from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_onnx.dtypes import DType

__all__ = [
    "CONVERSIONS",
    "MATH_IMPORTS",
    "SCALAR_ROWS",
    "VECTOR_CONVERSIONS",
    "VECTOR_ROWS",
    "lane_type",
    "value_type",
]

_WASM = {
    Scalar.BOOL: "i32",
    Scalar.I32: "i32",
    Scalar.U32: "i32",
    Scalar.I64: "i64",
    Scalar.U64: "i64",
    Scalar.F32: "f32",
    Scalar.F64: "f64",
}


_ARITHMETIC = {Op.ADD: "add", Op.SUB: "sub", Op.MUL: "mul"}
_EQUALITY = {Op.EQ: "eq", Op.NE: "ne"}
_ORDER = {Op.LT: "lt", Op.LE: "le", Op.GT: "gt", Op.GE: "ge"}
_FUNCTIONS = {
    Op.DIV: "div",
    Op.NEG: "neg",
    Op.ABS: "abs",
    Op.MIN: "min",
    Op.MAX: "max",
    Op.FLOOR: "floor",
    Op.CEIL: "ceil",
    Op.TRUNC: "trunc",
    Op.ROUND: "nearest",
    Op.SQRT: "sqrt",
}


def value_type(type: Scalar, lanes: int = 1) -> str:
    """The wasm type of a value."""
    return _WASM[type] if lanes == 1 else "v128"


def lane_type(type: Scalar) -> str:
    """The vector shape that holds four of a type (a BOOL lane is all ones or all zeros)."""
    return "f32x4" if type is Scalar.F32 else "i32x4"


def _scalar_rows() -> dict[tuple[Op, Scalar], str]:
    rows: dict[tuple[Op, Scalar], str] = {}
    bits = {Op.BIT_AND: "and", Op.BIT_OR: "or", Op.BIT_XOR: "xor", Op.POPCOUNT: "popcnt"}
    for type in (Scalar.I32, Scalar.U32, Scalar.I64, Scalar.U64):
        wasm, sign = _WASM[type], "s" if type.is_signed else "u"
        rows |= {(op, type): f"{wasm}.{name}" for op, name in {**_ARITHMETIC, **bits, **_EQUALITY}.items()}
        rows |= {(op, type): f"{wasm}.{name}_{sign}" for op, name in _ORDER.items()}
    for type in (Scalar.F32, Scalar.F64):
        names = {**_ARITHMETIC, **_FUNCTIONS, **_ORDER, **_EQUALITY}
        rows |= {(op, type): f"{_WASM[type]}.{name}" for op, name in names.items()}
    logic = {Op.AND: "and", Op.OR: "or", Op.XOR: "xor", Op.NOT: "eqz", **_EQUALITY}
    rows |= {(op, Scalar.BOOL): f"i32.{name}" for op, name in logic.items()}
    return rows


def _vector_rows() -> dict[tuple[Op, Scalar], str]:
    rows: dict[tuple[Op, Scalar], str] = {}
    for type in (Scalar.I32, Scalar.U32):
        sign = "s" if type.is_signed else "u"
        rows |= {(op, type): f"i32x4.{name}" for op, name in {**_ARITHMETIC, **_EQUALITY}.items()}
        rows |= {(op, type): f"i32x4.{name}_{sign}" for op, name in _ORDER.items()}
        rows |= {(Op.MIN, type): f"i32x4.min_{sign}", (Op.MAX, type): f"i32x4.max_{sign}", (Op.NEG, type): "i32x4.neg"}
        rows |= {(Op.BIT_AND, type): "v128.and", (Op.BIT_OR, type): "v128.or", (Op.BIT_XOR, type): "v128.xor"}
        rows |= {(Op.BIT_NOT, type): "v128.not"}
    rows[Op.ABS, Scalar.I32] = "i32x4.abs"
    for op, name in {**_ARITHMETIC, **_FUNCTIONS, **_ORDER, **_EQUALITY}.items():
        rows[op, Scalar.F32] = f"f32x4.{name}"
    logic = {Op.AND: "v128.and", Op.OR: "v128.or", Op.XOR: "v128.xor", Op.NOT: "v128.not"}
    rows |= {(op, Scalar.BOOL): name for op, name in logic.items()}
    rows |= {(Op.EQ, Scalar.BOOL): "i32x4.eq", (Op.NE, Scalar.BOOL): "v128.xor"}
    return rows


SCALAR_ROWS = _scalar_rows()
VECTOR_ROWS = _vector_rows()

MATH_IMPORTS: dict[Op, str] = {
    Op.EXP: "exp",
    Op.LOG: "log",
    Op.POW: "pow",
    Op.SIN: "sin",
    Op.COS: "cos",
    Op.TAN: "tan",
    Op.ASIN: "asin",
    Op.ACOS: "acos",
    Op.ATAN: "atan",
    Op.SINH: "sinh",
    Op.COSH: "cosh",
    Op.TANH: "tanh",
    Op.ASINH: "asinh",
    Op.ACOSH: "acosh",
    Op.ATANH: "atanh",
}


def _conversions() -> dict[tuple[Scalar, Scalar], tuple[str, ...]]:
    """(from, to) compute types -> instructions. Integers of one width only change their name."""
    table: dict[tuple[Scalar, Scalar], tuple[str, ...]] = {}
    narrow, wide = (Scalar.I32, Scalar.U32, Scalar.BOOL), (Scalar.I64, Scalar.U64)
    for source in narrow:
        sign = "s" if source is Scalar.I32 else "u"
        table |= {(source, to): () for to in (Scalar.I32, Scalar.U32)}
        table |= {(source, to): (f"i64.extend_i32_{sign}",) for to in wide}
        table |= {(source, to): (f"{_WASM[to]}.convert_i32_{sign}",) for to in (Scalar.F32, Scalar.F64)}
    for source in wide:
        sign = "s" if source is Scalar.I64 else "u"
        table |= {(source, to): () for to in wide}
        table |= {(source, to): ("i32.wrap_i64",) for to in (Scalar.I32, Scalar.U32)}
        table |= {(source, to): (f"{_WASM[to]}.convert_i64_{sign}",) for to in (Scalar.F32, Scalar.F64)}
    for source in (Scalar.F32, Scalar.F64):
        for to in (Scalar.I32, Scalar.U32, *wide):
            sign = "s" if to.is_signed else "u"
            table[source, to] = (f"{_WASM[to]}.trunc_sat_{_WASM[source]}_{sign}",)
        table[source, source] = ()
    table[Scalar.F32, Scalar.F64] = ("f64.promote_f32",)
    table[Scalar.F64, Scalar.F32] = ("f32.demote_f64",)
    return table


CONVERSIONS = _conversions()
VECTOR_CONVERSIONS: dict[tuple[Scalar, Scalar], tuple[str, ...]] = {
    (Scalar.I32, Scalar.U32): (),
    (Scalar.U32, Scalar.I32): (),
    (Scalar.I32, Scalar.F32): ("f32x4.convert_i32x4_s",),
    (Scalar.U32, Scalar.F32): ("f32x4.convert_i32x4_u",),
    (Scalar.F32, Scalar.I32): ("i32x4.trunc_sat_f32x4_s",),
    (Scalar.F32, Scalar.U32): ("i32x4.trunc_sat_f32x4_u",),
    (Scalar.BOOL, Scalar.I32): ("i32x4.neg",),
    (Scalar.BOOL, Scalar.U32): ("i32x4.neg",),
    (Scalar.BOOL, Scalar.F32): ("i32x4.neg", "f32x4.convert_i32x4_s"),
}

SCALAR_LOADS: dict[DType, str] = {
    DType.BOOL: "i32.load8_u",
    DType.INT8: "i32.load8_s",
    DType.UINT8: "i32.load8_u",
    DType.INT16: "i32.load16_s",
    DType.UINT16: "i32.load16_u",
    DType.INT32: "i32.load",
    DType.UINT32: "i32.load",
    DType.INT64: "i64.load",
    DType.UINT64: "i64.load",
    DType.FLOAT32: "f32.load",
    DType.FLOAT64: "f64.load",
}
SCALAR_STORES: dict[DType, str] = {
    DType.BOOL: "i32.store8",
    DType.INT8: "i32.store8",
    DType.UINT8: "i32.store8",
    DType.INT16: "i32.store16",
    DType.UINT16: "i32.store16",
    DType.INT32: "i32.store",
    DType.UINT32: "i32.store",
    DType.INT64: "i64.store",
    DType.UINT64: "i64.store",
    DType.FLOAT32: "f32.store",
    DType.FLOAT64: "f64.store",
}
VECTOR_LOADS: dict[DType, tuple[str, ...]] = {
    DType.BOOL: ("v128.load32_zero", "i16x8.extend_low_i8x16_u", "i32x4.extend_low_i16x8_u"),
    DType.INT8: ("v128.load32_zero", "i16x8.extend_low_i8x16_s", "i32x4.extend_low_i16x8_s"),
    DType.UINT8: ("v128.load32_zero", "i16x8.extend_low_i8x16_u", "i32x4.extend_low_i16x8_u"),
    DType.INT16: ("v128.load16x4_s",),
    DType.UINT16: ("v128.load16x4_u",),
    DType.INT32: ("v128.load",),
    DType.UINT32: ("v128.load",),
    DType.FLOAT32: ("v128.load",),
}
