"""What each scalar operator is in WGSL: one table per compute type, of rows as in `ir.templates`.

Where WGSL's own function is looser than the operator's meaning, the row calls the definition of `ir.decompose`:

| operator                | WGSL promises                        | here                       |
|-------------------------|--------------------------------------|----------------------------|
| exp                     | 3 + 2*|x| ULP                        | exp_f32, 2 ULP             |
| log                     | 3 ULP or 2**-21 absolute             | log_f32, 1 ULP             |
| sin, cos, tan           | 2**-11 absolute within [-pi, pi]     | sin_f32, ...: 1e-7         |
| pow                     | exp2(y * log2(x)), x > 0 only        | pow_f32, IEEE cases        |
| asin, acos, atan        | up to 4,096 ULP                      | asin_f32, ...: 3 ULP       |
| sinh, cosh, tanh, a...h | inherited, tanh overflows in places  | sinh_f32, ...: 4 ULP       |
| float %                 | a - b*trunc(a/b), rounded            | rem_f32, exact             |
| min, max, sign          | NaN indeterminate                    | min_f32, ...: by bits      |
| float !=                | false for NaN on some devices        | !(a == b)                  |
| sqrt, /                 | 4.5 and 2.5 ULP, divisor < 2**126    | as they are                |
| integer / and %         | x/0 = x                              | div_i32, ...: x/0 = 0      |
| << and >>               | the count modulo 32                  | shl_i32, ...: guarded      |

A helper name followed by {x} has a scalar and a vec4 form. 64-bit integers are vec2<u32> and have one lane.
"""

from __future__ import annotations

from webdnn_backends.ir.decompose import DEFINED, define
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.templates import ATOM, Row

__all__ = ["OPERATORS", "PRODUCT", "SUM", "TIGHT", "UNARY"]

UNARY, PRODUCT, SUM, LOOSE = 15, 13, 12, 1
TIGHT = UNARY
"""WGSL does not mix shifts, comparisons and bit operators with others: their operands are atoms, unary or in
parentheses."""


def _call(name: str, arity: int) -> Row:
    return Row(f"{name}({', '.join('{' + letter + '}' for letter in 'abc'[:arity])})", ATOM, (name,))


def _native(name: str, arity: int = 1) -> Row:
    return Row(f"{name}({', '.join('{' + letter + '}' for letter in 'abc'[:arity])})")


def _sum(symbol: str) -> Row:
    return Row(f"{{a:{SUM}}} {symbol} {{b:{PRODUCT}}}", SUM)


def _product(symbol: str) -> Row:
    return Row(f"{{a:{PRODUCT}}} {symbol} {{b:{UNARY}}}", PRODUCT)


def _loose(symbol: str) -> Row:
    return Row(f"{{a:{TIGHT}}} {symbol} {{b:{TIGHT}}}", LOOSE)


_NEGATION = Row("-{a:16}", UNARY)
_COMPARISONS = {
    Op.EQ: _loose("=="),
    Op.NE: _loose("!="),
    Op.LT: _loose("<"),
    Op.LE: _loose("<="),
    Op.GT: _loose(">"),
    Op.GE: _loose(">="),
}
_BITS = {
    Op.BIT_AND: _loose("&"),
    Op.BIT_OR: _loose("|"),
    Op.BIT_XOR: _loose("^"),
    Op.BIT_NOT: Row("~{a:16}", UNARY),
}
_BOOL = {
    Op.EQ: _loose("=="),
    Op.NE: _loose("!="),
    Op.XOR: _loose("!="),
    Op.AND: _loose("&"),
    Op.OR: _loose("|"),
    Op.NOT: Row("!{a:16}", UNARY),
}
_F32 = {
    Op.ADD: _sum("+"),
    Op.SUB: _sum("-"),
    Op.MUL: _product("*"),
    Op.DIV: _product("/"),
    Op.FMA: _native("fma", 3),
    Op.NEG: _NEGATION,
    Op.ABS: _native("abs"),
    Op.MIN: _call("min_f32{x}", 2),
    Op.MAX: _call("max_f32{x}", 2),
    Op.FLOOR: _native("floor"),
    Op.CEIL: _native("ceil"),
    Op.TRUNC: _native("trunc"),
    Op.ROUND: _native("round"),
    Op.SQRT: _native("sqrt"),
    Op.IS_NAN: _call("is_nan{x}", 1),
    Op.IS_INF: _call("is_inf{x}", 1),
    **{op: _call(f"{op.value}_f32{{x}}", len(define(op, Scalar.F32).parameters)) for op in DEFINED},
    **_COMPARISONS,
    Op.NE: Row(f"!({{a:{TIGHT}}} == {{b:{TIGHT}}})", UNARY),
}
_I32 = {
    Op.ADD: _sum("+"),
    Op.SUB: _sum("-"),
    Op.MUL: _product("*"),
    Op.DIV: _call("div_i32{x}", 2),
    Op.REM: _call("rem_i32{x}", 2),
    Op.FLOOR_DIV: _call("floor_div_i32{x}", 2),
    Op.FLOOR_MOD: _call("floor_mod_i32{x}", 2),
    Op.NEG: _NEGATION,
    Op.ABS: _native("abs"),
    Op.SIGN: _native("sign"),
    Op.MIN: _native("min", 2),
    Op.MAX: _native("max", 2),
    Op.SHL: _call("shl_i32{x}", 2),
    Op.SHR: _call("shr_i32{x}", 2),
    Op.POPCOUNT: _native("countOneBits"),
    **_BITS,
    **_COMPARISONS,
}
_U32 = {
    **_I32,
    Op.DIV: _call("div_u32{x}", 2),
    Op.REM: _call("rem_u32{x}", 2),
    Op.FLOOR_DIV: _call("div_u32{x}", 2),
    Op.FLOOR_MOD: _call("rem_u32{x}", 2),
    Op.NEG: Row("~{a:16} + 1u", SUM),
    Op.ABS: Row("{a:20}"),
    Op.SIGN: Row("min({a}, {U}(1u))"),
    Op.SHL: _call("shl_u32{x}", 2),
    Op.SHR: _call("shr_u32{x}", 2),
}


def _wide(kind: str) -> dict[Op, Row]:
    signed = kind == "i64"
    less = f"less_{kind}"
    return {
        Op.ADD: _call("add64", 2),
        Op.SUB: _call("sub64", 2),
        Op.MUL: _call("mul64", 2),
        Op.DIV: _call(f"div_{kind}", 2),
        Op.REM: _call(f"rem_{kind}", 2),
        Op.FLOOR_DIV: _call("floor_div_i64" if signed else "div_u64", 2),
        Op.FLOOR_MOD: _call("floor_mod_i64" if signed else "rem_u64", 2),
        Op.NEG: _call("neg64", 1),
        Op.ABS: _call("abs_i64", 1) if signed else Row("{a:20}"),
        Op.SIGN: _call(f"sign_{kind}", 1),
        Op.MIN: _call(f"min_{kind}", 2),
        Op.MAX: _call(f"max_{kind}", 2),
        Op.SHL: _call("shl64", 2),
        Op.SHR: _call(f"shr_{kind}", 2),
        Op.POPCOUNT: Row("vec2<u32>(countOneBits({a:20}.x) + countOneBits({a:20}.y), 0u)"),
        Op.EQ: _call("equal64", 2),
        Op.NE: Row("!equal64({a}, {b})", UNARY, ("equal64",)),
        Op.LT: Row(f"{less}({{a}}, {{b}})", ATOM, (less,)),
        Op.GT: Row(f"{less}({{b}}, {{a}})", ATOM, (less,)),
        Op.LE: Row(f"!{less}({{b}}, {{a}})", UNARY, (less,)),
        Op.GE: Row(f"!{less}({{a}}, {{b}})", UNARY, (less,)),
        **_BITS,
    }


OPERATORS: dict[Scalar, dict[Op, Row]] = {
    Scalar.BOOL: _BOOL,
    Scalar.I32: _I32,
    Scalar.U32: _U32,
    Scalar.I64: _wide("i64"),
    Scalar.U64: _wide("u64"),
    Scalar.F32: _F32,
}
"""No row for F64: WGSL has no 64-bit float, and emulating one is slower than running the kernel on the host."""
