"""The WGSL functions that kernels call, emitted only when used.

Texts of `GENERIC` are templates over T, U, I, B: the float, unsigned, signed and boolean type, scalar or vector; the
name's suffix is {x}, empty or "x4". Texts of `WIDE` emulate 64-bit integers as vec2<u32>, low word first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["helper_texts"]

PRIVATE = {
    "nan_bits": "var<private> nan_bits: u32 = 0x7fc00000u;",
    "infinity_bits": "var<private> infinity_bits: u32 = 0x7f800000u;",
}
"""Bits of the constants that WGSL cannot write; variables, so that no compiler evaluates them."""

GENERIC = {
    "is_nan": "fn is_nan{x}(v: {T}) -> {B} { return (bitcast<{U}>(v) & {U}(0x7fffffffu)) > {U}(0x7f800000u); }",
    "is_inf": "fn is_inf{x}(v: {T}) -> {B} { return (bitcast<{U}>(v) & {U}(0x7fffffffu)) == {U}(0x7f800000u); }",
    "min_f32": (
        "fn min_f32{x}(a: {T}, b: {T}) -> {T} {\n"
        "  return select(select(min(a, b), b, is_nan{x}(b)), a, is_nan{x}(a));\n"
        "}"
    ),
    "max_f32": (
        "fn max_f32{x}(a: {T}, b: {T}) -> {T} {\n"
        "  return select(select(max(a, b), b, is_nan{x}(b)), a, is_nan{x}(a));\n"
        "}"
    ),
    "div_i32": (
        "fn div_i32{x}(a: {I}, b: {I}) -> {I} {\n"
        "  let zero = b == {I}(0);\n"
        "  return select(a / select(b, {I}(1), zero), {I}(0), zero);\n"
        "}"
    ),
    "div_u32": (
        "fn div_u32{x}(a: {U}, b: {U}) -> {U} {\n"
        "  let zero = b == {U}(0u);\n"
        "  return select(a / select(b, {U}(1u), zero), {U}(0u), zero);\n"
        "}"
    ),
    "rem_i32": (
        "fn rem_i32{x}(a: {I}, b: {I}) -> {I} {\n"
        "  let whole = (b == {I}(0)) | (b == {I}(-1));\n"
        "  let divisor = select(b, {I}(1), whole);\n"
        "  return a - (a / divisor) * divisor;\n"
        "}"
    ),
    "rem_u32": "fn rem_u32{x}(a: {U}, b: {U}) -> {U} { return a % select(b, {U}(1u), b == {U}(0u)); }",
    "floor_div_i32": (
        "fn floor_div_i32{x}(a: {I}, b: {I}) -> {I} {\n"
        "  let q = div_i32{x}(a, b);\n"
        "  let below = (rem_i32{x}(a, b) != {I}(0)) & ((a < {I}(0)) != (b < {I}(0)));\n"
        "  return select(q, q - {I}(1), below);\n"
        "}"
    ),
    "floor_mod_i32": (
        "fn floor_mod_i32{x}(a: {I}, b: {I}) -> {I} {\n"
        "  let r = rem_i32{x}(a, b);\n"
        "  return select(r, r + b, (r != {I}(0)) & ((r < {I}(0)) != (b < {I}(0))));\n"
        "}"
    ),
    "shl_i32": (
        "fn shl_i32{x}(a: {I}, b: {I}) -> {I} {\n"
        "  let count = bitcast<{U}>(b);\n"
        "  return select({I}(0), a << (count & {U}(31u)), count < {U}(32u));\n"
        "}"
    ),
    "shr_i32": "fn shr_i32{x}(a: {I}, b: {I}) -> {I} { return a >> min(bitcast<{U}>(b), {U}(31u)); }",
    "shl_u32": ("fn shl_u32{x}(a: {U}, b: {U}) -> {U} { return select({U}(0u), a << (b & {U}(31u)), b < {U}(32u)); }"),
    "shr_u32": ("fn shr_u32{x}(a: {U}, b: {U}) -> {U} { return select({U}(0u), a >> (b & {U}(31u)), b < {U}(32u)); }"),
    "i32_of_f32": (
        "fn i32_of_f32{x}(v: {T}) -> {I} {\n"
        "  let bits = bitcast<{U}>(v);\n"
        "  let outside = (bits & {U}(0x7fffffffu)) >= {U}(0x4f000000u);\n"
        "  let limit = bitcast<{I}>({U}(0x7fffffffu) + (bits >> {U}(31u)));\n"
        "  let inside = {I}(select(v, {T}(0f), outside));\n"
        "  return select(select(inside, limit, outside), {I}(0), is_nan{x}(v));\n"
        "}"
    ),
    "u32_of_f32": (
        "fn u32_of_f32{x}(v: {T}) -> {U} {\n"
        "  let bits = bitcast<{U}>(v);\n"
        "  let above = (bits >= {U}(0x4f800000u)) & (bits <= {U}(0x7f800000u));\n"
        "  let unusable = bits >= {U}(0x4f800000u);\n"
        "  return select({U}(select(v, {T}(0f), unusable)), {U}(0xffffffffu), above);\n"
        "}"
    ),
}

_WORDS = "vec2<u32>"
WIDE = {
    "add64": (
        "fn add64(a: W, b: W) -> W {\n"
        "  let low = a.x + b.x;\n"
        "  return W(low, a.y + b.y + select(0u, 1u, low < a.x));\n"
        "}"
    ),
    "sub64": "fn sub64(a: W, b: W) -> W { return W(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x)); }",
    "neg64": "fn neg64(a: W) -> W { return sub64(W(0u), a); }",
    "mul32": (
        "fn mul32(a: u32, b: u32) -> W {\n"
        "  let a0 = a & 0xffffu; let a1 = a >> 16u;\n"
        "  let b0 = b & 0xffffu; let b1 = b >> 16u;\n"
        "  let p = a0 * b0; let q = a0 * b1; let r = a1 * b0;\n"
        "  let middle = (p >> 16u) + (q & 0xffffu) + (r & 0xffffu);\n"
        "  return W((p & 0xffffu) | (middle << 16u), a1 * b1 + (q >> 16u) + (r >> 16u) + (middle >> 16u));\n"
        "}"
    ),
    "mul64": (
        "fn mul64(a: W, b: W) -> W {\n"
        "  let low = mul32(a.x, b.x);\n"
        "  return W(low.x, low.y + a.x * b.y + a.y * b.x);\n"
        "}"
    ),
    "less_u64": "fn less_u64(a: W, b: W) -> bool { return (a.y < b.y) || ((a.y == b.y) && (a.x < b.x)); }",
    "less_i64": (
        "fn less_i64(a: W, b: W) -> bool {\n"
        "  return (bitcast<i32>(a.y) < bitcast<i32>(b.y)) || ((a.y == b.y) && (a.x < b.x));\n"
        "}"
    ),
    "equal64": "fn equal64(a: W, b: W) -> bool { return all(a == b); }",
    "min_i64": "fn min_i64(a: W, b: W) -> W { return select(b, a, less_i64(a, b)); }",
    "max_i64": "fn max_i64(a: W, b: W) -> W { return select(a, b, less_i64(a, b)); }",
    "min_u64": "fn min_u64(a: W, b: W) -> W { return select(b, a, less_u64(a, b)); }",
    "max_u64": "fn max_u64(a: W, b: W) -> W { return select(a, b, less_u64(a, b)); }",
    "shl64": (
        "fn shl64(a: W, b: W) -> W {\n"
        "  if ((b.y != 0u) || (b.x > 63u)) { return W(0u); }\n"
        "  if (b.x > 31u) { return W(0u, a.x << (b.x & 31u)); }\n"
        "  if (b.x == 0u) { return a; }\n"
        "  return W(a.x << b.x, (a.y << b.x) | (a.x >> (32u - b.x)));\n"
        "}"
    ),
    "shr_u64": (
        "fn shr_u64(a: W, b: W) -> W {\n"
        "  if ((b.y != 0u) || (b.x > 63u)) { return W(0u); }\n"
        "  if (b.x > 31u) { return W(a.y >> (b.x & 31u), 0u); }\n"
        "  if (b.x == 0u) { return a; }\n"
        "  return W((a.x >> b.x) | (a.y << (32u - b.x)), a.y >> b.x);\n"
        "}"
    ),
    "shr_i64": (
        "fn shr_i64(a: W, b: W) -> W {\n"
        "  let sign = bitcast<u32>(bitcast<i32>(a.y) >> 31u);\n"
        "  if ((b.y != 0u) || (b.x > 63u)) { return W(sign); }\n"
        "  if (b.x > 31u) { return W(bitcast<u32>(bitcast<i32>(a.y) >> (b.x & 31u)), sign); }\n"
        "  if (b.x == 0u) { return a; }\n"
        "  return W((a.x >> b.x) | (a.y << (32u - b.x)), bitcast<u32>(bitcast<i32>(a.y) >> b.x));\n"
        "}"
    ),
    "divide_u64": (
        "// (quotient, remainder) by long division; (0, 0) for a zero divisor.\n"
        "fn divide_u64(a: W, b: W) -> vec4<u32> {\n"
        "  if ((b.x | b.y) == 0u) { return vec4<u32>(0u); }\n"
        "  if ((a.y | b.y) == 0u) { return vec4<u32>(a.x / b.x, 0u, a.x % b.x, 0u); }\n"
        "  var quotient = W(0u);\n"
        "  var rest = W(0u);\n"
        "  for (var i = 0u; i < 64u; i++) {\n"
        "    let bit = select((a.x >> (63u - i)) & 1u, (a.y >> (31u - (i & 31u))) & 1u, i < 32u);\n"
        "    let carry = (rest.y >> 31u) != 0u;\n"
        "    rest = W((rest.x << 1u) | bit, (rest.y << 1u) | (rest.x >> 31u));\n"
        "    quotient = W(quotient.x << 1u, (quotient.y << 1u) | (quotient.x >> 31u));\n"
        "    if (carry || !less_u64(rest, b)) {\n"
        "      rest = sub64(rest, b);\n"
        "      quotient.x |= 1u;\n"
        "    }\n"
        "  }\n"
        "  return vec4<u32>(quotient, rest);\n"
        "}"
    ),
    "div_u64": "fn div_u64(a: W, b: W) -> W { return divide_u64(a, b).xy; }",
    "rem_u64": "fn rem_u64(a: W, b: W) -> W { return divide_u64(a, b).zw; }",
    "negative64": "fn negative64(a: W) -> bool { return (a.y >> 31u) != 0u; }",
    "abs_i64": "fn abs_i64(a: W) -> W { return select(a, neg64(a), negative64(a)); }",
    "div_i64": (
        "fn div_i64(a: W, b: W) -> W {\n"
        "  let q = div_u64(abs_i64(a), abs_i64(b));\n"
        "  return select(q, neg64(q), negative64(a) != negative64(b));\n"
        "}"
    ),
    "rem_i64": (
        "fn rem_i64(a: W, b: W) -> W {\n"
        "  let r = rem_u64(abs_i64(a), abs_i64(b));\n"
        "  return select(r, neg64(r), negative64(a));\n"
        "}"
    ),
    "floor_div_i64": (
        "fn floor_div_i64(a: W, b: W) -> W {\n"
        "  let q = div_i64(a, b);\n"
        "  let inexact = !equal64(rem_i64(a, b), W(0u));\n"
        "  return select(q, sub64(q, W(1u, 0u)), inexact && (negative64(a) != negative64(b)));\n"
        "}"
    ),
    "floor_mod_i64": (
        "fn floor_mod_i64(a: W, b: W) -> W {\n"
        "  let r = rem_i64(a, b);\n"
        "  return select(r, add64(r, b), !equal64(r, W(0u)) && (negative64(r) != negative64(b)));\n"
        "}"
    ),
    "sign_i64": "fn sign_i64(a: W) -> W { return select(W(min(a.x | a.y, 1u), 0u), W(0xffffffffu), negative64(a)); }",
    "sign_u64": "fn sign_u64(a: W) -> W { return W(min(a.x | a.y, 1u), 0u); }",
    "wide_of_i32": "fn wide_of_i32(a: i32) -> W { return W(bitcast<u32>(a), bitcast<u32>(a >> 31u)); }",
    "f32_of_u64": (
        "// The top 32 bits with a sticky last bit are rounded once, then scaled exactly.\n"
        "fn f32_of_u64(a: W) -> f32 {\n"
        "  if (a.y == 0u) { return f32(a.x); }\n"
        "  let shift = 32u - countLeadingZeros(a.y);\n"
        "  let top = shr_u64(a, W(shift, 0u));\n"
        "  let lost = shl64(a, W(64u - shift, 0u));\n"
        "  let sticky = select(0u, 1u, (lost.x | lost.y) != 0u);\n"
        "  return f32(top.x | sticky) * bitcast<f32>((127u + shift) << 23u);\n"
        "}"
    ),
    "f32_of_i64": (
        "fn f32_of_i64(a: W) -> f32 {\n"
        "  let magnitude = f32_of_u64(abs_i64(a));\n"
        "  return select(magnitude, -magnitude, negative64(a));\n"
        "}"
    ),
    "u64_of_f32": (
        "// Towards zero; saturates; 0 for NaN.\n"
        "fn u64_of_f32(v: f32) -> W {\n"
        "  let bits = bitcast<u32>(v);\n"
        "  if ((bits < 0x3f800000u) || (bits > 0x7f800000u)) { return W(0u); }\n"
        "  if (bits >= 0x5f800000u) { return W(0xffffffffu); }\n"
        "  let exponent = bits >> 23u;\n"
        "  let mantissa = W((bits & 0x7fffffu) | 0x800000u, 0u);\n"
        "  if (exponent < 150u) { return W(mantissa.x >> (150u - exponent), 0u); }\n"
        "  return shl64(mantissa, W(exponent - 150u, 0u));\n"
        "}"
    ),
    "i64_of_f32": (
        "// Towards zero; saturates; 0 for NaN.\n"
        "fn i64_of_f32(v: f32) -> W {\n"
        "  let bits = bitcast<u32>(v);\n"
        "  let magnitude = bits & 0x7fffffffu;\n"
        "  if (magnitude > 0x7f800000u) { return W(0u); }\n"
        "  if (magnitude >= 0x5f000000u) {\n"
        "    return select(W(0xffffffffu, 0x7fffffffu), W(0u, 0x80000000u), bits != magnitude);\n"
        "  }\n"
        "  let whole = u64_of_f32(bitcast<f32>(magnitude));\n"
        "  return select(whole, neg64(whole), bits != magnitude);\n"
        "}"
    ),
}


def helper_texts(names: Iterable[str]) -> list[str]:
    """The texts of the helpers and of those they call, callees first where that matters not: WGSL has no order."""
    texts: dict[str, str] = {}
    pending = sorted(names)
    while pending:
        name = pending.pop(0)
        if name in texts:
            continue
        text = _text(name)
        if text is None:
            continue
        texts[name] = text
        pending += [other for other in re.findall(r"\b[a-z]\w*(?=\()", text) if other != name]
    return [texts[name] for name in sorted(texts)]


def _text(name: str) -> str | None:
    if name in PRIVATE:
        return PRIVATE[name]
    if name in WIDE:
        return re.sub(r"\bW\b", _WORDS, WIDE[name])
    base = name.removesuffix("x4")
    if base not in GENERIC:
        return None
    vector = name != base
    text = GENERIC[base].replace("{x}", "x4" if vector else "")
    for letter, type in {"T": "f32", "U": "u32", "I": "i32", "B": "bool"}.items():
        text = text.replace(f"{{{letter}}}", f"vec4<{type}>" if vector else type)
    return text
