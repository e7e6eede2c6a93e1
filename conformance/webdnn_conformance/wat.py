"""The text of an emitted WebAssembly module, read back from the bytes that a browser gets."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from webdnn_backends.wasm.encode import Function, FunctionType
from webdnn_backends.wasm.opcodes import OPCODES, Immediate, Instruction
from webdnn_backends.wasm.text import print_function

__all__ = ["disassemble"]

_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x40: ""}
_BY_BYTES: Mapping[bytes, str] = {opcode: name for name, (opcode, _) in OPCODES.items()}
_LONGEST = max(map(len, _BY_BYTES))
_TYPE, _IMPORT, _FUNCTION, _EXPORT, _CODE, _CUSTOM = 1, 2, 3, 7, 10, 0


def disassemble(module: bytes) -> str:
    """Every function of a module that webdnn_backends wrote. Raises ValueError for bytes that it does not write."""
    sections = _sections(module)
    types = [_function_type(reader) for reader in sections[_TYPE].vector()]
    imported = sum(_is_function(reader) for reader in sections[_IMPORT].vector()) if _IMPORT in sections else 0
    kinds = [reader.unsigned() for reader in sections[_FUNCTION].vector()]
    exported = set()
    for reader in sections[_EXPORT].vector():
        reader.name()
        kind, index = reader.byte(), reader.unsigned()
        if kind == 0:
            exported.add(index)
    names = _names(sections[_CUSTOM]) if _CUSTOM in sections else {}
    texts = []
    for position, reader in enumerate(sections[_CODE].vector()):
        reader.unsigned()  # the body's length
        locals_ = [
            name
            for run in reader.vector()
            for count, name in [(run.unsigned(), _TYPES[run.byte()])]
            for _ in range(count)
        ]
        index = imported + position
        body = _body(reader)
        name = names.get(index, str(index))
        texts.append(print_function(Function(name, types[kinds[position]], tuple(locals_), body, index in exported)))
    return "\n".join(texts)


class _Reader:
    """A cursor over bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def bytes(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def signed(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - (1 << shift) if byte & 0x40 else value

    def name(self) -> str:
        return self.bytes(self.unsigned()).decode()

    def vector(self) -> list[_Reader]:
        """A place for every item: the same cursor, to be read in order."""
        return [self] * self.unsigned()


def _sections(module: bytes) -> dict[int, _Reader]:
    if module[:4] != b"\0asm":
        raise ValueError(f"expected a WebAssembly module, got {module[:4]!r}")
    reader, found = _Reader(module, 8), {}
    while reader.at < len(module):
        number, size = reader.byte(), reader.unsigned()
        found[number] = _Reader(reader.bytes(size))
    return found


def _function_type(reader: _Reader) -> FunctionType:
    reader.byte()
    parameters = tuple(_TYPES[one.byte()] for one in reader.vector())
    return FunctionType(parameters, tuple(_TYPES[one.byte()] for one in reader.vector()))


def _is_function(reader: _Reader) -> bool:
    reader.name()
    reader.name()
    kind = reader.byte()
    if kind == 0:
        reader.unsigned()
        return True
    flags = reader.byte()
    for _ in range(2 if flags & 1 else 1):
        reader.unsigned()
    return False


def _names(reader: _Reader) -> dict[int, str]:
    if reader.name() != "name":
        return {}
    reader.byte()
    reader.unsigned()
    return {one.unsigned(): one.name() for one in reader.vector()}


def _body(reader: _Reader) -> tuple[Instruction, ...]:
    found: list[Instruction] = []
    depth = 0
    while True:
        name = _opcode(reader)
        if name == "end" and depth == 0:
            return tuple(found)
        depth += (name in ("block", "loop", "if")) - (name == "end")
        found.append((name, *_immediates(reader, OPCODES[name][1])))


def _opcode(reader: _Reader) -> str:
    for length in range(1, _LONGEST + 1):
        name = _BY_BYTES.get(reader.data[reader.at : reader.at + length])
        if name is not None:
            reader.at += length
            return name
    raise ValueError(f"expected an instruction at byte {reader.at}, got 0x{reader.data[reader.at]:02x}")


def _immediates(reader: _Reader, kind: Immediate) -> tuple[int | float | str | bytes, ...]:
    match kind:
        case Immediate.INDEX:
            return (reader.unsigned(),)
        case Immediate.MEMORY | Immediate.MEMORY_LANE:
            align, offset = reader.unsigned(), reader.unsigned()
            return (offset, align, reader.byte()) if kind is Immediate.MEMORY_LANE else (offset, align)
        case Immediate.BLOCK | Immediate.TYPE:
            return (_TYPES[reader.byte()],)
        case Immediate.I32 | Immediate.I64:
            return (reader.signed(),)
        case Immediate.F32:
            return tuple(struct.unpack("<f", reader.bytes(4)))
        case Immediate.F64:
            return tuple(struct.unpack("<d", reader.bytes(8)))
        case Immediate.V128 | Immediate.LANES16:
            return (reader.bytes(16),)
        case Immediate.LANE:
            return (reader.byte(),)
        case Immediate.ZERO:
            reader.byte()
            return ()
        case _:
            return ()
