"""WebAssembly instructions that this backend uses: their bytes and what follows them.

Spec: https://webassembly.github.io/spec/core/binary/instructions.html (SIMD and relaxed SIMD included) and
https://webassembly.github.io/threads/core/binary/instructions.html
"""

from __future__ import annotations

import enum
from typing import TypeAlias

__all__ = ["OPCODES", "Immediate", "Instruction", "unsigned_leb"]

Instruction: TypeAlias = tuple[str | int | float | bytes, ...]


class Immediate(enum.Enum):
    """What follows an opcode."""

    NONE = enum.auto()
    INDEX = enum.auto()
    BLOCK = enum.auto()
    I32 = enum.auto()
    I64 = enum.auto()
    F32 = enum.auto()
    F64 = enum.auto()
    V128 = enum.auto()
    LANE = enum.auto()
    LANES16 = enum.auto()
    MEMORY = enum.auto()
    MEMORY_LANE = enum.auto()
    TYPE = enum.auto()
    ZERO = enum.auto()


def unsigned_leb(value: int) -> bytes:
    """LEB128 of a non-negative integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _run(prefix: bytes, first: int, immediate: Immediate, names: str) -> dict[str, tuple[bytes, Immediate]]:
    """Consecutive opcodes; a dash skips one."""
    return {
        name: (prefix + (unsigned_leb(first + i) if prefix else bytes([first + i])), immediate)
        for i, name in enumerate(names.split())
        if name != "-"
    }


_NONE, _MEMORY = Immediate.NONE, Immediate.MEMORY
_SIMD = b"\xfd"

OPCODES: dict[str, tuple[bytes, Immediate]] = {
    **_run(b"", 0x00, _NONE, "unreachable nop"),
    **_run(b"", 0x02, Immediate.BLOCK, "block loop if"),
    **_run(b"", 0x05, _NONE, "else"),
    **_run(b"", 0x0B, _NONE, "end"),
    **_run(b"", 0x0C, Immediate.INDEX, "br br_if"),
    **_run(b"", 0x0F, _NONE, "return"),
    **_run(b"", 0x10, Immediate.INDEX, "call"),
    **_run(b"", 0x1A, _NONE, "drop select"),
    "select_t": (b"\x1c\x01", Immediate.TYPE),
    **_run(b"", 0x20, Immediate.INDEX, "local.get local.set local.tee global.get global.set"),
    **_run(b"", 0x28, _MEMORY, "i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u"),
    **_run(b"", 0x36, _MEMORY, "i32.store i64.store f32.store f64.store i32.store8 i32.store16"),
    **_run(b"", 0x3F, Immediate.ZERO, "memory.size memory.grow"),
    "i32.const": (b"\x41", Immediate.I32),
    "i64.const": (b"\x42", Immediate.I64),
    "f32.const": (b"\x43", Immediate.F32),
    "f64.const": (b"\x44", Immediate.F64),
    **_run(
        b"",
        0x45,
        _NONE,
        "i32.eqz i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u "
        "i64.eqz i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u "
        "f32.eq f32.ne f32.lt f32.gt f32.le f32.ge f64.eq f64.ne f64.lt f64.gt f64.le f64.ge "
        "i32.clz i32.ctz i32.popcnt i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u "
        "i32.and i32.or i32.xor i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr "
        "i64.clz i64.ctz i64.popcnt i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u "
        "i64.and i64.or i64.xor i64.shl i64.shr_s i64.shr_u i64.rotl i64.rotr "
        "f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt "
        "f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign "
        "f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt "
        "f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign "
        "i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u "
        "i64.extend_i32_s i64.extend_i32_u i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u "
        "f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u f32.demote_f64 "
        "f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32 "
        "i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64 "
        "i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s",
    ),
    **_run(
        b"\xfc",
        0,
        _NONE,
        "i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u "
        "i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u",
    ),
    **_run(
        _SIMD,
        0,
        _MEMORY,
        "v128.load v128.load8x8_s v128.load8x8_u v128.load16x4_s v128.load16x4_u v128.load32x2_s v128.load32x2_u "
        "v128.load8_splat v128.load16_splat v128.load32_splat v128.load64_splat v128.store",
    ),
    "v128.const": (b"\xfd\x0c", Immediate.V128),
    "i8x16.shuffle": (b"\xfd\x0d", Immediate.LANES16),
    **_run(
        _SIMD,
        14,
        _NONE,
        "i8x16.swizzle i8x16.splat i16x8.splat i32x4.splat i64x2.splat f32x4.splat f64x2.splat",
    ),
    **_run(
        _SIMD,
        21,
        Immediate.LANE,
        "i8x16.extract_lane_s i8x16.extract_lane_u i8x16.replace_lane i16x8.extract_lane_s i16x8.extract_lane_u "
        "i16x8.replace_lane i32x4.extract_lane i32x4.replace_lane i64x2.extract_lane i64x2.replace_lane "
        "f32x4.extract_lane f32x4.replace_lane f64x2.extract_lane f64x2.replace_lane",
    ),
    **_run(
        _SIMD,
        55,
        _NONE,
        "i32x4.eq i32x4.ne i32x4.lt_s i32x4.lt_u i32x4.gt_s i32x4.gt_u i32x4.le_s i32x4.le_u i32x4.ge_s i32x4.ge_u "
        "f32x4.eq f32x4.ne f32x4.lt f32x4.gt f32x4.le f32x4.ge - - - - - - "
        "v128.not v128.and v128.andnot v128.or v128.xor v128.bitselect v128.any_true",
    ),
    **_run(
        _SIMD,
        84,
        Immediate.MEMORY_LANE,
        "v128.load8_lane v128.load16_lane v128.load32_lane v128.load64_lane "
        "v128.store8_lane v128.store16_lane v128.store32_lane v128.store64_lane",
    ),
    **_run(_SIMD, 92, _MEMORY, "v128.load32_zero v128.load64_zero"),
    **_run(
        _SIMD,
        96,
        _NONE,
        "i8x16.abs i8x16.neg i8x16.popcnt i8x16.all_true i8x16.bitmask i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u "
        "f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest i8x16.shl i8x16.shr_s i8x16.shr_u i8x16.add",
    ),
    **_run(
        _SIMD,
        124,
        _NONE,
        "i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u "
        "i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u "
        "i16x8.abs i16x8.neg i16x8.q15mulr_sat_s i16x8.all_true i16x8.bitmask i16x8.narrow_i32x4_s "
        "i16x8.narrow_i32x4_u i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u "
        "i16x8.extend_high_i8x16_u i16x8.shl i16x8.shr_s i16x8.shr_u i16x8.add",
    ),
    **_run(
        _SIMD,
        160,
        _NONE,
        "i32x4.abs i32x4.neg - i32x4.all_true i32x4.bitmask - - i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s "
        "i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u i32x4.shl i32x4.shr_s i32x4.shr_u i32x4.add - - "
        "i32x4.sub - - - i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s",
    ),
    **_run(
        _SIMD,
        224,
        _NONE,
        "f32x4.abs f32x4.neg - f32x4.sqrt f32x4.add f32x4.sub f32x4.mul f32x4.div f32x4.min f32x4.max "
        "f32x4.pmin f32x4.pmax",
    ),
    **_run(
        _SIMD,
        248,
        _NONE,
        "i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u",
    ),
    **_run(_SIMD, 0x105, _NONE, "f32x4.relaxed_madd f32x4.relaxed_nmadd"),
    **_run(_SIMD, 0x10D, _NONE, "f32x4.relaxed_min f32x4.relaxed_max"),
    **_run(_SIMD, 0x112, _NONE, "i16x8.relaxed_dot_i8x16_i7x16_s i32x4.relaxed_dot_i8x16_i7x16_add_s"),
    **_run(b"\xfe", 0, _MEMORY, "memory.atomic.notify memory.atomic.wait32"),
    **_run(b"\xfe", 0x10, _MEMORY, "i32.atomic.load"),
    **_run(b"\xfe", 0x17, _MEMORY, "i32.atomic.store"),
    **_run(b"\xfe", 0x1E, _MEMORY, "i32.atomic.rmw.add"),
    **_run(b"\xfe", 0x48, _MEMORY, "i32.atomic.rmw.cmpxchg"),
}
