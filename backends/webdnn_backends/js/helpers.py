"""The small functions that JavaScript kernels call, emitted only when used.

Each entry is a text and the helpers it calls. An i32 is any int32 value, a u32 any integer in [0, 2**32), i64 and u64
are BigInt, an f32 is a number that float32 holds.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["HELPERS", "with_dependencies"]

HELPERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fround": ("const fround = Math.fround;", ()),
    "sums": ("// What a function of several sums returns.\nconst sums = new Float64Array(32);", ()),
    "word": (
        "const word = new Uint32Array(1), single = new Float32Array(word.buffer);\n"
        "const wide = new BigUint64Array(1), double = new Float64Array(wide.buffer);",
        (),
    ),
    "u32_bits_of_f32": ("function u32_bits_of_f32(x) { single[0] = x; return word[0]; }", ("word",)),
    "f32_from_u32_bits": ("function f32_from_u32_bits(x) { word[0] = x; return single[0]; }", ("word",)),
    "u64_bits_of_f64": ("function u64_bits_of_f64(x) { double[0] = x; return wide[0]; }", ("word",)),
    "f64_from_u64_bits": ("function f64_from_u64_bits(x) { wide[0] = x; return double[0]; }", ("word",)),
    "round": (
        "// To nearest, halves to even.\n"
        "function round(x) { const r = Math.round(x); return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r; }",
        (),
    ),
    "pow": (
        "// IEEE 754: pow(1, y) and pow(-1, infinity) are 1.\n"
        "function pow(x, y) { return x === 1 || (x === -1 && (y === Infinity || y === -Infinity)) ? 1 : x ** y; }",
        (),
    ),
    "floor_mod_float": (
        "function floor_mod_float(a, b) {\n"
        "  const r = a % b;\n"
        "  return r === 0 ? (b < 0 || Object.is(b, -0) ? -0 : 0) : r < 0 !== b < 0 ? r + b : r;\n"
        "}",
        (),
    ),
    "floor_mod_i32": ("function floor_mod_i32(a, b) { return (((a % b) + b) % b) | 0; }", ()),
    "shl_i32": ("function shl_i32(a, b) { return b >>> 0 > 31 ? 0 : a << b; }", ()),
    "shr_i32": ("function shr_i32(a, b) { return a >> (b >>> 0 > 31 ? 31 : b); }", ()),
    "shl_u32": ("function shl_u32(a, b) { return b > 31 ? 0 : (a << b) >>> 0; }", ()),
    "shr_u32": ("function shr_u32(a, b) { return b > 31 ? 0 : a >>> b; }", ()),
    "popcount32": (
        "function popcount32(a) {\n"
        "  a -= (a >>> 1) & 0x55555555;\n"
        "  a = (a & 0x33333333) + ((a >>> 2) & 0x33333333);\n"
        "  return Math.imul((a + (a >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;\n"
        "}",
        (),
    ),
    "popcount64": (
        "function popcount64(a) {\n"
        "  return BigInt(popcount32(Number(a & 0xffffffffn)) + popcount32(Number((a >> 32n) & 0xffffffffn)));\n"
        "}",
        ("popcount32",),
    ),
    "div_i64": ("function div_i64(a, b) { return b === 0n ? 0n : BigInt.asIntN(64, a / b); }", ()),
    "div_u64": ("function div_u64(a, b) { return b === 0n ? 0n : a / b; }", ()),
    "rem_64": ("function rem_64(a, b) { return b === 0n ? 0n : a % b; }", ()),
    "floor_div_i64": (
        "function floor_div_i64(a, b) {\n"
        "  if (b === 0n) return 0n;\n"
        "  const q = a / b;\n"
        "  return BigInt.asIntN(64, q * b !== a && a < 0n !== b < 0n ? q - 1n : q);\n"
        "}",
        (),
    ),
    "floor_mod_64": ("function floor_mod_64(a, b) { return b === 0n ? 0n : ((a % b) + b) % b; }", ()),
    "shl_i64": ("function shl_i64(a, b) { return b < 0n || b > 63n ? 0n : BigInt.asIntN(64, a << b); }", ()),
    "shr_i64": ("function shr_i64(a, b) { return a >> (b < 0n || b > 63n ? 63n : b); }", ()),
    "shl_u64": ("function shl_u64(a, b) { return b > 63n ? 0n : BigInt.asUintN(64, a << b); }", ()),
    "shr_u64": ("function shr_u64(a, b) { return b > 63n ? 0n : a >> b; }", ()),
    "min_64": ("function min_64(a, b) { return a < b ? a : b; }", ()),
    "max_64": ("function max_64(a, b) { return a > b ? a : b; }", ()),
    "abs_i64": ("function abs_i64(a) { return a < 0n ? BigInt.asIntN(64, -a) : a; }", ()),
    "sign_64": ("function sign_64(a) { return a > 0n ? 1n : a < 0n ? -1n : 0n; }", ()),
    "i32_of_float": (
        "function i32_of_float(x) { return x >= 2147483647 ? 2147483647 : x <= -2147483648 ? -2147483648 : x | 0; }",
        (),
    ),
    "u32_of_float": ("function u32_of_float(x) { return x >= 4294967295 ? 4294967295 : x <= 0 ? 0 : x >>> 0; }", ()),
    "i64_of_float": (
        "function i64_of_float(x) {\n"
        "  if (x >= 9223372036854775807) return 9223372036854775807n;\n"
        "  if (x <= -9223372036854775808) return -9223372036854775808n;\n"
        "  return x === x ? BigInt(Math.trunc(x)) : 0n;\n"
        "}",
        (),
    ),
    "u64_of_float": (
        "function u64_of_float(x) {\n"
        "  return x >= 18446744073709551615 ? 18446744073709551615n : x > 0 ? BigInt(Math.trunc(x)) : 0n;\n"
        "}",
        (),
    ),
    "f32_of_64": (
        "// Odd rounding to 53 bits first, so that the rounding to 24 bits is the only one.\n"
        "function f32_of_64(a) {\n"
        "  if (a >= -9007199254740992n && a <= 9007199254740992n) return fround(Number(a));\n"
        "  return fround(Number(((a >> 11n) | ((a & 2047n) === 0n ? 0n : 1n)) << 11n));\n"
        "}",
        ("fround",),
    ),
    "f32_odd": (
        "// Rounded to odd, so that a second rounding to fewer bits is as if it were the only one.\n"
        "function f32_odd(x) {\n"
        "  single[0] = x;\n"
        "  const near = single[0];\n"
        "  if (near !== x && x === x && (word[0] & 1) === 0) word[0] += Math.abs(near) > Math.abs(x) ? -1 : 1;\n"
        "  return single[0];\n"
        "}",
        ("word",),
    ),
    "set_nibble": (
        "function set_nibble(x, i, value) {\n"
        "  const at = i >> 1, shift = (i & 1) << 2;\n"
        "  x[at] = (x[at] & ~(15 << shift)) | ((value & 15) << shift);\n"
        "}",
        (),
    ),
    "set_crumb": (
        "function set_crumb(x, i, value) {\n"
        "  const at = i >> 2, shift = (i & 3) << 1;\n"
        "  x[at] = (x[at] & ~(3 << shift)) | ((value & 3) << shift);\n"
        "}",
        (),
    ),
}


def with_dependencies(names: Iterable[str]) -> list[str]:
    """The helpers and those they call, in the order of the table."""
    wanted: set[str] = set()
    pending = [name for name in names if name in HELPERS]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += HELPERS[name][1]
    return [name for name in HELPERS if name in wanted]
