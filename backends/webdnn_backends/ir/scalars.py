"""Compute types and scalar operators of the loop IR: closed sets, each visible whole.

Values in registers have a *compute type*; elements in buffers have a storage `DType`. Loading widens, storing narrows:
8- and 16-bit integers compute as i32 or u32, float16, bfloat16, float8 and float4 as f32. An operator that must see a
narrow type's rounding or wrap-around in the middle of an expression says so with `Cast`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from webdnn_onnx.dtypes import DType

__all__ = ["OPS", "Op", "OpFacts", "Scalar", "compute_type", "storage_type"]


class Scalar(enum.Enum):
    """The type of a value in a register."""

    # Members are singletons and keys of many tables; Enum's own hash is a Python function.
    __hash__ = object.__hash__

    BOOL = "bool"
    I32 = "i32"
    U32 = "u32"
    I64 = "i64"
    U64 = "u64"
    F32 = "f32"
    F64 = "f64"

    @property
    def is_float(self) -> bool:
        return self in (Scalar.F32, Scalar.F64)

    @property
    def is_signed(self) -> bool:
        return self in (Scalar.I32, Scalar.I64)

    @property
    def is_integer(self) -> bool:
        return self in (Scalar.I32, Scalar.U32, Scalar.I64, Scalar.U64)

    @property
    def bits(self) -> int:
        return 64 if self in (Scalar.I64, Scalar.U64, Scalar.F64) else 32


def compute_type(dtype: DType) -> Scalar:
    """The compute type in which elements of a storage type are handled. Raises KeyError for strings and complex."""
    return _COMPUTE[dtype]


def storage_type(scalar: Scalar) -> DType:
    """The storage type that holds a compute type exactly."""
    return _STORAGE[scalar]


_STORAGE = {
    Scalar.BOOL: DType.BOOL,
    Scalar.I32: DType.INT32,
    Scalar.U32: DType.UINT32,
    Scalar.I64: DType.INT64,
    Scalar.U64: DType.UINT64,
    Scalar.F32: DType.FLOAT32,
    Scalar.F64: DType.FLOAT64,
}
_COMPUTE = {
    DType.BOOL: Scalar.BOOL,
    **dict.fromkeys((DType.INT2, DType.INT4, DType.INT8, DType.INT16, DType.INT32), Scalar.I32),
    **dict.fromkeys((DType.UINT2, DType.UINT4, DType.UINT8, DType.UINT16, DType.UINT32), Scalar.U32),
    DType.INT64: Scalar.I64,
    DType.UINT64: Scalar.U64,
    **dict.fromkeys(
        (
            DType.FLOAT4E2M1,
            DType.FLOAT8E4M3FN,
            DType.FLOAT8E4M3FNUZ,
            DType.FLOAT8E5M2,
            DType.FLOAT8E5M2FNUZ,
            DType.FLOAT8E8M0,
            DType.FLOAT16,
            DType.BFLOAT16,
            DType.FLOAT32,
        ),
        Scalar.F32,
    ),
    DType.FLOAT64: Scalar.F64,
}


class Op(enum.Enum):
    """A scalar operator; the value is its printed name. `OPS` states what each means."""

    # Members are singletons and keys of many tables; Enum's own hash is a Python function.
    __hash__ = object.__hash__

    # arithmetic
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    REM = "rem"
    FLOOR_DIV = "floor_div"
    FLOOR_MOD = "floor_mod"
    FMA = "fma"
    NEG = "neg"
    ABS = "abs"
    SIGN = "sign"
    MIN = "min"
    MAX = "max"
    # rounding
    FLOOR = "floor"
    CEIL = "ceil"
    TRUNC = "trunc"
    ROUND = "round"
    # functions
    SQRT = "sqrt"
    EXP = "exp"
    LOG = "log"
    POW = "pow"
    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    ASIN = "asin"
    ACOS = "acos"
    ATAN = "atan"
    SINH = "sinh"
    COSH = "cosh"
    TANH = "tanh"
    ASINH = "asinh"
    ACOSH = "acosh"
    ATANH = "atanh"
    ERF = "erf"
    # comparison
    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IS_NAN = "is_nan"
    IS_INF = "is_inf"
    # logic
    AND = "and"
    OR = "or"
    XOR = "xor"
    NOT = "not"
    # bits
    BIT_AND = "bit_and"
    BIT_OR = "bit_or"
    BIT_XOR = "bit_xor"
    BIT_NOT = "bit_not"
    SHL = "shl"
    SHR = "shr"
    POPCOUNT = "popcount"


@dataclass(frozen=True)
class OpFacts:
    """arity; operands: which compute types ("f" floats, "i" integers, "b" bool); boolean: whether the result is BOOL
    (else it has the operands' type); meaning: what every dialect must compute."""

    arity: int
    operands: str
    boolean: bool
    meaning: str


def _op(arity: int, operands: str, meaning: str, *, boolean: bool = False) -> OpFacts:
    return OpFacts(arity, operands, boolean, meaning)


OPS: dict[Op, OpFacts] = {
    Op.ADD: _op(2, "fi", "a + b; integers wrap"),
    Op.SUB: _op(2, "fi", "a - b; integers wrap"),
    Op.MUL: _op(2, "fi", "a * b; integers wrap"),
    Op.DIV: _op(2, "fi", "floats: IEEE; integers: rounds towards zero, x/0 = 0, MIN/-1 = MIN"),
    Op.REM: _op(2, "fi", "a - b*trunc(a/b), the sign of a; floats: C fmod; integers: x rem 0 = 0, MIN rem -1 = 0"),
    Op.FLOOR_DIV: _op(2, "i", "rounds towards minus infinity, x/0 = 0"),
    Op.FLOOR_MOD: _op(2, "fi", "a - b*floor(a/b), the sign of b; integers: x mod 0 = 0"),
    Op.FMA: _op(3, "f", "a*b + c, with one rounding or two"),
    Op.NEG: _op(1, "fi", "-a; integers wrap"),
    Op.ABS: _op(1, "fi", "|a|; |MIN| = MIN"),
    Op.SIGN: _op(1, "fi", "-1, 0 or 1; NaN stays NaN"),
    Op.MIN: _op(2, "fi", "the smaller; NaN if either is NaN"),
    Op.MAX: _op(2, "fi", "the larger; NaN if either is NaN"),
    Op.FLOOR: _op(1, "f", "towards minus infinity"),
    Op.CEIL: _op(1, "f", "towards plus infinity"),
    Op.TRUNC: _op(1, "f", "towards zero"),
    Op.ROUND: _op(1, "f", "to nearest, halves to even"),
    Op.SQRT: _op(1, "f", "correctly rounded or within 2.5 ULP; NaN below zero"),
    Op.EXP: _op(1, "f", "within 4 ULP; overflow gives infinity, underflow zero"),
    Op.LOG: _op(1, "f", "within 4 ULP; log(0) = -infinity, NaN below zero"),
    Op.POW: _op(2, "f", "IEEE pow: pow(x, 0) = 1, negative base with integral exponent has a sign, else NaN"),
    Op.SIN: _op(1, "f", "within 4 ULP or 1e-7 for |a| <= 1e5"),
    Op.COS: _op(1, "f", "within 4 ULP or 1e-7 for |a| <= 1e5"),
    Op.TAN: _op(1, "f", "sin/cos"),
    Op.ASIN: _op(1, "f", "NaN outside [-1, 1]"),
    Op.ACOS: _op(1, "f", "NaN outside [-1, 1]"),
    Op.ATAN: _op(1, "f", "the arc tangent"),
    Op.SINH: _op(1, "f", "the hyperbolic sine, accurate near zero"),
    Op.COSH: _op(1, "f", "the hyperbolic cosine"),
    Op.TANH: _op(1, "f", "the hyperbolic tangent, accurate near zero, +-1 for large |a|"),
    Op.ASINH: _op(1, "f", "odd, accurate near zero"),
    Op.ACOSH: _op(1, "f", "NaN below 1"),
    Op.ATANH: _op(1, "f", "NaN outside [-1, 1], +-infinity at the ends"),
    Op.ERF: _op(1, "f", "the error function, within 1e-7 absolute"),
    Op.EQ: _op(2, "fib", "false for NaN", boolean=True),
    Op.NE: _op(2, "fib", "true for NaN", boolean=True),
    Op.LT: _op(2, "fi", "false for NaN", boolean=True),
    Op.LE: _op(2, "fi", "false for NaN", boolean=True),
    Op.GT: _op(2, "fi", "false for NaN", boolean=True),
    Op.GE: _op(2, "fi", "false for NaN", boolean=True),
    Op.IS_NAN: _op(1, "f", "by its bits, whatever the compiler assumes", boolean=True),
    Op.IS_INF: _op(1, "f", "by its bits, whatever the compiler assumes", boolean=True),
    Op.AND: _op(2, "b", "both; both operands may be evaluated", boolean=True),
    Op.OR: _op(2, "b", "either; both operands may be evaluated", boolean=True),
    Op.XOR: _op(2, "b", "one of them", boolean=True),
    Op.NOT: _op(1, "b", "the opposite", boolean=True),
    Op.BIT_AND: _op(2, "i", "bit by bit"),
    Op.BIT_OR: _op(2, "i", "bit by bit"),
    Op.BIT_XOR: _op(2, "i", "bit by bit"),
    Op.BIT_NOT: _op(1, "i", "bit by bit"),
    Op.SHL: _op(2, "i", "a << b; 0 where b is not below the width"),
    Op.SHR: _op(
        2, "i", "a >> b; logical for unsigned, arithmetic for signed; 0 (or -1) where b is not below the width"
    ),
    Op.POPCOUNT: _op(1, "i", "the number of one bits"),
}
