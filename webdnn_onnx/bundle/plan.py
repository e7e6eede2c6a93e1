"""The memory plan: where each tensor of a program lives, so that two live ones never overlap.

Tensors of known size get an offset in one arena (WebAssembly, JavaScript) or a slot among pooled buffers (WebGPU, where
one buffer may not be read and written by the same dispatch). The sizes of the others are known at run time; they carry
their live ranges instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from webdnn_backends.te.compile import CompiledProgram
from webdnn_backends.te.tensors import named
from webdnn_onnx.symbolic import Dim

__all__ = ["ALIGNMENT", "Live", "Plan", "check_plan", "live_ranges", "plan_arena", "plan_slots", "storage_size"]

ALIGNMENT = 16
"""Bytes to which every buffer's offset is aligned: a v128."""


@dataclass(frozen=True)
class Live:
    """From the first item that writes a tensor to the last that reads it, both included; size in bytes."""

    name: str
    first: int
    last: int
    size: Dim


@dataclass(frozen=True)
class Plan:
    """ranges: of all inputs, outputs and temporaries, in order of `first`. offsets: in the arena, of the static ones.
    slots: pooled buffers of the static ones. arena: bytes. slot_sizes: bytes by slot."""

    ranges: tuple[Live, ...]
    offsets: Mapping[str, int]
    slots: Mapping[str, int]
    arena: int
    slot_sizes: tuple[int, ...]

    @property
    def peak(self) -> int:
        """Bytes that temporaries, inputs and outputs of known size take at run time."""
        return self.arena or sum(self.slot_sizes)


def storage_size(program: CompiledProgram, name: str) -> Dim:
    """Bytes of a tensor in storage, a multiple of 4."""
    tensor = program.tensors[name]
    bits = tensor.elements * tensor.dtype.bits
    return (bits + 31) // 32 * 4


def live_ranges(program: CompiledProgram) -> tuple[Live, ...]:
    """The live range of every tensor that is not a constant, aliases counted to the tensor whose storage they share."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}

    def touch(names: Iterable[str], step: int) -> None:
        for name in names:
            root = program.aliases.get(name, name)
            if root in program.constants or program.tensors[root].slot:
                continue
            first.setdefault(root, step)
            last[root] = max(step, last.get(root, step))

    touch(program.inputs, 0)
    for step, item in enumerate(program.items):
        touch(named(item), step)
    touch(program.outputs, len(program.items))
    names = sorted(first, key=lambda name: (first[name], name))
    return tuple(Live(name, first[name], last[name], storage_size(program, name)) for name in names)


def plan_arena(program: CompiledProgram) -> Plan:
    """Offsets in one arena: the largest tensors first, each at the lowest place that is free while it lives."""
    ranges = live_ranges(program)
    static = sorted(
        ((live, int(live.size)) for live in ranges if isinstance(live.size, int)),
        key=lambda pair: (-pair[1], pair[0].first),
    )
    placed: list[tuple[Live, int, int]] = []
    for live, size in static:
        offset = 0
        for other, begin, end in sorted(placed, key=lambda entry: entry[1]):
            if other.last < live.first or live.last < other.first:
                continue
            if offset + size <= begin:
                break
            offset = max(offset, _aligned(end))
        placed.append((live, offset, offset + size))
    offsets = {live.name: offset for live, offset, _ in placed}
    arena = _aligned(max((end for _, _, end in placed), default=0))
    plan = Plan(ranges, offsets, {}, arena, ())
    check_plan(plan)
    return plan


def plan_slots(program: CompiledProgram) -> Plan:
    """Pooled buffers: each tensor takes the free slot that fits it best, or a new one."""
    ranges = live_ranges(program)
    slots: dict[str, int] = {}
    sizes: list[int] = []
    busy: list[int] = []
    own = {*program.inputs, *program.outputs}
    for live in ranges:
        if not isinstance(live.size, int):
            continue
        shared = live.name not in own
        free = [slot for slot, until in enumerate(busy) if until < live.first] if shared else []
        if free:
            size = live.size
            slot = min(free, key=lambda at: (abs(sizes[at] - size), at))
            sizes[slot] = max(sizes[slot], size)
            busy[slot] = live.last
        else:
            slot = len(sizes)
            sizes.append(live.size)
            busy.append(live.last if shared else len(program.items) + 1)
        slots[live.name] = slot
    plan = Plan(ranges, {}, slots, 0, tuple(sizes))
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Asserts that no two tensors that live at the same time share a byte or a slot."""
    ranges = {live.name: live for live in plan.ranges}
    spans = [(offset, offset + int(str(ranges[name].size)), ranges[name]) for name, offset in plan.offsets.items()] + [
        (slot * 2, slot * 2 + 1, ranges[name]) for name, slot in plan.slots.items()
    ]
    spans = sorted((span for span in spans if span[1] > span[0]), key=lambda span: span[0])
    active: list[tuple[int, int, Live]] = []
    for begin, end, live in spans:
        active = [entry for entry in active if entry[1] > begin]
        for _, _, other in active:
            apart = other.last < live.first or live.last < other.first
            assert apart, f"memory plan: '{live.name}' and '{other.name}' overlap while both live"
        active.append((begin, end, live))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
