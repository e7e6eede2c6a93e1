"""Our own WebAssembly binary writer: functions as instruction tuples to module bytes.

An instruction is a tuple of its name and immediates, `("i32.const", 4)`; memory instructions carry (offset, align)
with align as a power of two. Spec: https://webassembly.github.io/spec/core/binary/modules.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from webdnn_backends.wasm.opcodes import OPCODES, Immediate, Instruction, unsigned_leb

__all__ = ["Function", "FunctionType", "Global", "Import", "Module", "encode_module", "signed_leb", "unsigned_leb"]

_VALUE_TYPES = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B, "": 0x40}
MAX_PAGES = 65536


@dataclass(frozen=True)
class FunctionType:
    """Parameter and result value types, by name."""

    parameters: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Import:
    """An imported function."""

    module: str
    name: str
    type: FunctionType


@dataclass(frozen=True)
class Global:
    """An exported mutable i32 that starts at `init`."""

    name: str
    init: int = 0


@dataclass(frozen=True)
class Function:
    """A function: its name, type, extra locals and body (without the final `end`); exported under its name or not."""

    name: str
    type: FunctionType
    locals: tuple[str, ...]
    body: tuple[Instruction, ...]
    exported: bool = True


@dataclass(frozen=True)
class Module:
    """A module that imports its memory as `env.memory`. Function indices count imports first, then functions."""

    functions: tuple[Function, ...]
    imports: tuple[Import, ...] = ()
    globals: tuple[Global, ...] = ()
    shared_memory: bool = False
    minimum_pages: int = field(default=1)


def signed_leb(value: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def _wrap_signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _name(text: str) -> bytes:
    data = text.encode()
    return unsigned_leb(len(data)) + data


def _vector(items: list[bytes]) -> bytes:
    return unsigned_leb(len(items)) + b"".join(items)


def _section(number: int, content: bytes) -> bytes:
    return bytes([number]) + unsigned_leb(len(content)) + content


def encode_body(body: tuple[Instruction, ...]) -> bytes:
    """The bytes of a sequence of instructions, with the final `end`."""
    out = bytearray()
    for instruction in body:
        opcode, immediate = OPCODES[str(instruction[0])]
        out += opcode
        match immediate:
            case Immediate.NONE:
                pass
            case Immediate.INDEX:
                out += unsigned_leb(int(instruction[1]))
            case Immediate.MEMORY:
                out += unsigned_leb(int(instruction[2])) + unsigned_leb(int(instruction[1]))
            case Immediate.MEMORY_LANE:
                out += unsigned_leb(int(instruction[2])) + unsigned_leb(int(instruction[1]))
                out.append(int(instruction[3]))
            case Immediate.BLOCK | Immediate.TYPE:
                out.append(_VALUE_TYPES[str(instruction[1]) if len(instruction) > 1 else ""])
            case Immediate.I32:
                out += signed_leb(_wrap_signed(int(instruction[1]), 32))
            case Immediate.I64:
                out += signed_leb(_wrap_signed(int(instruction[1]), 64))
            case Immediate.F32:
                out += f32_bytes(float(instruction[1]))
            case Immediate.F64:
                out += struct.pack("<d", instruction[1])
            case Immediate.V128 | Immediate.LANES16:
                assert isinstance(instruction[1], bytes), "v128 immediates are 16 bytes"
                out += instruction[1]
            case Immediate.LANE:
                out.append(int(instruction[1]))
            case Immediate.ZERO:
                out.append(0)
    out += b"\x0b"
    return bytes(out)


def f32_bytes(value: float) -> bytes:
    """The nearest float32; beyond its range, infinity."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def _runs(types: tuple[str, ...]) -> list[bytes]:
    """Declarations of locals: runs of equal types."""
    runs: list[tuple[int, str]] = []
    for name in types:
        if runs and runs[-1][1] == name:
            runs[-1] = (runs[-1][0] + 1, name)
        else:
            runs.append((1, name))
    return [unsigned_leb(count) + bytes([_VALUE_TYPES[name]]) for count, name in runs]


def _encode_type(type: FunctionType) -> bytes:
    return (
        b"\x60"
        + _vector([bytes([_VALUE_TYPES[name]]) for name in type.parameters])
        + _vector([bytes([_VALUE_TYPES[name]]) for name in type.results])
    )


def encode_module(module: Module) -> bytes:
    """The binary module; equal modules give equal bytes."""
    types: dict[FunctionType, int] = {}
    for type in [entry.type for entry in module.imports] + [function.type for function in module.functions]:
        types.setdefault(type, len(types))
    limits = (
        b"\x03" + unsigned_leb(module.minimum_pages) + unsigned_leb(MAX_PAGES)
        if module.shared_memory
        else b"\x00" + unsigned_leb(module.minimum_pages)
    )
    imports = [_name("env") + _name("memory") + b"\x02" + limits]
    imports += [_name(i.module) + _name(i.name) + b"\x00" + unsigned_leb(types[i.type]) for i in module.imports]
    first = len(module.imports)
    exports = [
        _name(function.name) + b"\x00" + unsigned_leb(first + i)
        for i, function in enumerate(module.functions)
        if function.exported
    ]
    exports += [_name(item.name) + b"\x03" + unsigned_leb(i) for i, item in enumerate(module.globals)]
    bodies = []
    for function in module.functions:
        code = _vector(_runs(function.locals)) + encode_body(function.body)
        bodies.append(unsigned_leb(len(code)) + code)
    called = [entry.name for entry in module.imports] + [function.name for function in module.functions]
    names = [unsigned_leb(i) + _name(name) for i, name in enumerate(called)]
    sections = [
        _section(1, _vector([_encode_type(type) for type in types])),
        _section(2, _vector(imports)),
        _section(3, _vector([unsigned_leb(types[function.type]) for function in module.functions])),
    ]
    if module.globals:
        sections.append(
            _section(6, _vector([b"\x7f\x01\x41" + signed_leb(item.init) + b"\x0b" for item in module.globals]))
        )
    sections.append(_section(7, _vector(exports)))
    sections.append(_section(10, _vector(bodies)))
    sections.append(_section(0, _name("name") + _section(1, _vector(names))))
    return b"\x00asm\x01\x00\x00\x00" + b"".join(sections)
