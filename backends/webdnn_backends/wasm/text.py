"""A readable form of an emitted function, after the WebAssembly text format, for reports and golden files."""

from __future__ import annotations

from webdnn_backends.wasm.encode import Function
from webdnn_backends.wasm.opcodes import OPCODES, Immediate, Instruction

__all__ = ["print_function"]


def print_function(function: Function, parameters: tuple[str, ...] = ()) -> str:
    """The function as text, one instruction a line, blocks indented; `parameters` names the first locals."""
    names = dict(enumerate(parameters))
    head = [f'(func ${function.name} (export "{function.name}")' if function.exported else f"(func ${function.name}"]
    head += [f"(param ${names.get(i, i)} {type})" for i, type in enumerate(function.type.parameters)]
    head += [f"(result {type})" for type in function.type.results]
    lines = [" ".join(head)]
    if function.locals:
        lines.append(f"  (local {' '.join(function.locals)})")
    depth = 1
    for instruction in function.body:
        if instruction[0] in ("end", "else"):
            depth -= 1
        lines.append("  " * depth + _show(instruction, names))
        if instruction[0] in ("block", "loop", "if", "else"):
            depth += 1
    lines.append(")")
    return "\n".join(lines) + "\n"


def _show(instruction: Instruction, names: dict[int, str]) -> str:
    name = str(instruction[0])
    match OPCODES[name][1]:
        case Immediate.MEMORY:
            return name + (f" offset={instruction[1]!r}" if instruction[1] else "")
        case Immediate.MEMORY_LANE:
            return f"{name} offset={instruction[1]!r} {instruction[3]!r}"
        case Immediate.V128 | Immediate.LANES16:
            assert isinstance(instruction[1], bytes), "v128 immediates are 16 bytes"
            words = [instruction[1][i : i + 4][::-1].hex() for i in range(0, 16, 4)]
            return f"{name} i32x4 {' '.join('0x' + word for word in words)}"
        case Immediate.BLOCK:
            return name + (f" (result {instruction[1]!s})" if len(instruction) > 1 and instruction[1] else "")
        case Immediate.INDEX if name.startswith("local."):
            index = int(instruction[1])
            return f"{name} ${names.get(index, index)}"
        case _:
            return " ".join(str(part) for part in instruction)
