"""What each scalar operator is in JavaScript: one table per compute type, of rows as in `ir.templates`.

A row may name helper functions (`helpers.HELPERS`) or definitions (`ir.decompose`), which are emitted with the module.
"""

from __future__ import annotations

from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.templates import ATOM, Row

__all__ = [
    "BIT_AND",
    "BIT_OR",
    "CHOICE",
    "EQUALITY",
    "OPERATORS",
    "PRODUCT",
    "SHIFT",
    "SUM",
    "UNARY",
]

UNARY, PRODUCT, SUM, SHIFT, RELATION, EQUALITY = 15, 13, 12, 11, 10, 9
BIT_AND, BIT_XOR, BIT_OR, AND, OR, CHOICE = 8, 7, 6, 5, 4, 2


def _call(name: str, arity: int) -> Row:
    return Row(f"{name}({', '.join('{' + letter + '}' for letter in 'abc'[:arity])})", ATOM, (name,))


def _infix(symbol: str, strength: int) -> Row:
    return Row(f"{{a:{strength}}} {symbol} {{b:{strength + 1}}}", strength)


def _rounded(inner: str) -> Row:
    return Row(f"fround({inner})", ATOM, ("fround",))


def _math(name: str) -> Row:
    return Row(f"Math.{name}({{a}})")


_COMPARISONS = {
    Op.EQ: _infix("===", EQUALITY),
    Op.NE: _infix("!==", EQUALITY),
    Op.LT: _infix("<", RELATION),
    Op.LE: _infix("<=", RELATION),
    Op.GT: _infix(">", RELATION),
    Op.GE: _infix(">=", RELATION),
}
_BOOL = {
    Op.EQ: _infix("===", EQUALITY),
    Op.NE: _infix("!==", EQUALITY),
    Op.XOR: _infix("!==", EQUALITY),
    Op.AND: _infix("&&", AND),
    Op.OR: _infix("||", OR),
    Op.NOT: Row("!{a:15}", UNARY),
}
_EXACT_FLOAT = {
    Op.NEG: Row("-{a:16}", UNARY),
    Op.ABS: _math("abs"),
    Op.SIGN: _math("sign"),
    Op.MIN: Row("Math.min({a}, {b})"),
    Op.MAX: Row("Math.max({a}, {b})"),
    Op.FLOOR: _math("floor"),
    Op.CEIL: _math("ceil"),
    Op.TRUNC: _math("trunc"),
    Op.ROUND: _call("round", 1),
    Op.REM: _infix("%", PRODUCT),
    Op.IS_NAN: Row("Number.isNaN({a})"),
    Op.IS_INF: Row("Math.abs({a}) === Infinity", EQUALITY),
    **_COMPARISONS,
}
_ROUNDED_FLOAT = {
    Op.ADD: _infix("+", SUM),
    Op.SUB: _infix("-", SUM),
    Op.MUL: _infix("*", PRODUCT),
    Op.DIV: _infix("/", PRODUCT),
    Op.SQRT: _math("sqrt"),
    Op.EXP: _math("exp"),
    Op.LOG: _math("log"),
    Op.POW: _call("pow", 2),
    Op.SIN: _math("sin"),
    Op.COS: _math("cos"),
    Op.TAN: _math("tan"),
    Op.ASIN: _math("asin"),
    Op.ACOS: _math("acos"),
    Op.ATAN: _math("atan"),
    Op.SINH: _math("sinh"),
    Op.COSH: _math("cosh"),
    Op.TANH: _math("tanh"),
    Op.ASINH: _math("asinh"),
    Op.ACOSH: _math("acosh"),
    Op.ATANH: _math("atanh"),
    Op.ERF: _call("erf_f64", 1),
    Op.FLOOR_MOD: _call("floor_mod_float", 2),
}
_F64 = {**_EXACT_FLOAT, **_ROUNDED_FLOAT, Op.FMA: Row("{a:13} * {b:14} + {c:13}", SUM)}
_F32 = {
    **_EXACT_FLOAT,
    **{op: Row(f"fround({row.template})", ATOM, ("fround", *row.helpers)) for op, row in _ROUNDED_FLOAT.items()},
    Op.FMA: _rounded("fround({a:13} * {b:14}) + {c:13}"),
}
_I32 = {
    Op.ADD: Row("({a:12} + {b:13}) | 0", BIT_OR),
    Op.SUB: Row("({a:12} - {b:13}) | 0", BIT_OR),
    Op.MUL: Row("Math.imul({a}, {b})"),
    Op.DIV: Row("({a:13} / {b:14}) | 0", BIT_OR),
    Op.REM: Row("({a:13} % {b:14}) | 0", BIT_OR),
    Op.FLOOR_DIV: Row("Math.floor({a:13} / {b:14}) | 0", BIT_OR),
    Op.FLOOR_MOD: _call("floor_mod_i32", 2),
    Op.NEG: Row("-{a:16} | 0", BIT_OR),
    Op.ABS: Row("Math.abs({a}) | 0", BIT_OR),
    Op.SIGN: _math("sign"),
    Op.MIN: Row("Math.min({a}, {b})"),
    Op.MAX: Row("Math.max({a}, {b})"),
    Op.BIT_AND: _infix("&", BIT_AND),
    Op.BIT_OR: _infix("|", BIT_OR),
    Op.BIT_XOR: _infix("^", BIT_XOR),
    Op.BIT_NOT: Row("~{a:15}", UNARY),
    Op.SHL: _call("shl_i32", 2),
    Op.SHR: _call("shr_i32", 2),
    Op.POPCOUNT: _call("popcount32", 1),
    **_COMPARISONS,
}
_U32 = {
    Op.ADD: Row("({a:12} + {b:13}) >>> 0", SHIFT),
    Op.SUB: Row("({a:12} - {b:13}) >>> 0", SHIFT),
    Op.MUL: Row("Math.imul({a}, {b}) >>> 0", SHIFT),
    Op.DIV: Row("({a:13} / {b:14}) >>> 0", SHIFT),
    Op.REM: Row("({a:13} % {b:14}) >>> 0", SHIFT),
    Op.FLOOR_DIV: Row("({a:13} / {b:14}) >>> 0", SHIFT),
    Op.FLOOR_MOD: Row("({a:13} % {b:14}) >>> 0", SHIFT),
    Op.NEG: Row("-{a:16} >>> 0", SHIFT),
    Op.ABS: Row("{a:20}"),
    Op.SIGN: _math("sign"),
    Op.MIN: Row("Math.min({a}, {b})"),
    Op.MAX: Row("Math.max({a}, {b})"),
    Op.BIT_AND: Row("({a:8} & {b:9}) >>> 0", SHIFT),
    Op.BIT_OR: Row("({a:6} | {b:7}) >>> 0", SHIFT),
    Op.BIT_XOR: Row("({a:7} ^ {b:8}) >>> 0", SHIFT),
    Op.BIT_NOT: Row("~{a:15} >>> 0", SHIFT),
    Op.SHL: _call("shl_u32", 2),
    Op.SHR: _call("shr_u32", 2),
    Op.POPCOUNT: _call("popcount32", 1),
    **_COMPARISONS,
}


def _wide(wrap: str, kind: str) -> dict[Op, Row]:
    return {
        Op.ADD: Row(f"BigInt.{wrap}(64, {{a:12}} + {{b:13}})"),
        Op.SUB: Row(f"BigInt.{wrap}(64, {{a:12}} - {{b:13}})"),
        Op.MUL: Row(f"BigInt.{wrap}(64, {{a:13}} * {{b:14}})"),
        Op.DIV: _call(f"div_{kind}", 2),
        Op.REM: _call("rem_64", 2),
        Op.FLOOR_DIV: _call("floor_div_i64" if kind == "i64" else "div_u64", 2),
        Op.FLOOR_MOD: _call("floor_mod_64", 2),
        Op.NEG: Row(f"BigInt.{wrap}(64, -{{a:16}})"),
        Op.ABS: _call("abs_i64", 1) if kind == "i64" else Row("{a:20}"),
        Op.SIGN: _call("sign_64", 1),
        Op.MIN: _call("min_64", 2),
        Op.MAX: _call("max_64", 2),
        Op.BIT_AND: _infix("&", BIT_AND),
        Op.BIT_OR: _infix("|", BIT_OR),
        Op.BIT_XOR: _infix("^", BIT_XOR),
        Op.BIT_NOT: Row("~{a:15}", UNARY) if kind == "i64" else Row("BigInt.asUintN(64, ~{a:15})"),
        Op.SHL: _call(f"shl_{kind}", 2),
        Op.SHR: _call(f"shr_{kind}", 2),
        Op.POPCOUNT: _call("popcount64", 1),
        **_COMPARISONS,
    }


OPERATORS: dict[Scalar, dict[Op, Row]] = {
    Scalar.BOOL: _BOOL,
    Scalar.I32: _I32,
    Scalar.U32: _U32,
    Scalar.I64: _wide("asIntN", "i64"),
    Scalar.U64: _wide("asUintN", "u64"),
    Scalar.F32: _F32,
    Scalar.F64: _F64,
}
