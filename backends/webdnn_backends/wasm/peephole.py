"""Tidies a finished function: locals that are never read go, and the rest are renumbered by type."""

from __future__ import annotations

from collections import Counter

from webdnn_backends.wasm.opcodes import Instruction

__all__ = ["tidy"]


def tidy(code: list[Instruction], locals: list[str], parameters: int) -> tuple[list[Instruction], list[str]]:
    """The code without needless sets and tees, and the types of the locals that it still uses."""
    while True:
        shorter = _pass(code, parameters)
        if len(shorter) == len(code):
            break
        code = shorter
    return _renumber(code, locals, parameters)


def _pass(code: list[Instruction], parameters: int) -> list[Instruction]:
    reads = Counter(item[1] for item in code if item[0] == "local.get")
    writes = Counter(item[1] for item in code if item[0] in ("local.set", "local.tee"))
    out: list[Instruction] = []
    for item in code:
        name = item[0]
        if name == "local.tee" and reads[item[1]] == 0:
            continue
        previous = out[-1] if out else ("nop", 0)
        if name == "drop" and previous[0] == "local.tee":
            out[-1] = ("local.set", previous[1])
            continue
        if name == "drop" and previous[0] in ("local.get", "i32.const", "f32.const"):
            out.pop()
            continue
        if name == "local.set" and reads[item[1]] == 0:
            item = ("drop",)
        elif name == "local.get" and previous == ("local.set", item[1]):
            once = reads[item[1]] == 1 and writes[item[1]] == 1 and int(item[1]) >= parameters
            if once:
                out.pop()
            else:
                out[-1] = ("local.tee", item[1])
            continue
        out.append(item)
    return out


def _renumber(code: list[Instruction], locals: list[str], parameters: int) -> tuple[list[Instruction], list[str]]:
    used = {int(item[1]) for item in code if str(item[0]).startswith("local.")}
    order = sorted((i for i in used if i >= parameters), key=lambda i: (locals[i - parameters], i))
    index = {old: parameters + new for new, old in enumerate(order)}
    renumbered = [
        (item[0], index.get(int(item[1]), item[1])) if str(item[0]).startswith("local.") else item for item in code
    ]
    return renumbered, [locals[i - parameters] for i in order]
