"""Parallel loops: a function carries out a part `begin .. end` of the flattened range of their nest."""

from __future__ import annotations

from typing import TypeAlias

from webdnn_backends.ir.loops import Loop, LoopKind, Stmt
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.wasm.emit import Region
from webdnn_backends.wasm.values import INT_MAX, Value
from webdnn_backends.wasm.writer import Writer, changes, loop_range

__all__ = ["write_parallel"]

_Nest: TypeAlias = list[tuple[Loop, Value, Value]]
"""Loops from the outside in, with start and extent."""


def write_parallel(writer: Writer, loop: Loop, begin: int, end: int) -> None:
    """A perfect nest of parallel loops, of whose flattened range this call carries out begin .. end-1."""
    builder = writer.builder
    nest = [loop]
    while len(nest[-1].body) == 1:
        inner = nest[-1].body[0]
        if not isinstance(inner, Loop) or inner.kind is not LoopKind.PARALLEL:
            break
        nest.append(inner)
    body = nest[-1].body
    kept: _Nest = []
    for item in nest:
        start, extent = writer.value(item.start), writer.value(item.extent)
        if extent.is_const and extent.constant == 1:
            writer.names[item.var] = start
        else:
            kept.append((item, start, extent))
    first, last = (builder.local(index, Scalar.I32, 1, 0, 0) for index in (begin, end))
    if len(kept) <= 1:
        item, start, extent = (
            kept[0] if kept else (nest[-1], writer.value(nest[-1].start), builder.const(1, Scalar.I32))
        )
        low, high = (builder.sum([(start, 1), (bound, item.step)]) for bound in (first, last))
        flat = Loop(item.var, item.extent, body, LoopKind.SERIAL, item.start, item.step)
        writer.range(flat, low, high, False, loop_range(start, extent.range, item.step))
        return
    _odometer(writer, kept, body, begin, end)


def _odometer(writer: Writer, nest: _Nest, body: tuple[Stmt, ...], begin: int, end: int) -> None:
    """Runs of the innermost loop inside one loop that carries the other positions on like an odometer."""
    emitter, builder = writer.emitter, writer.builder
    for _, start, extent in nest:
        emitter.force(start)
        emitter.force(extent)
    positions = [emitter.new_local("i32") for _ in nest]
    emitter.code(("local.get", begin), ("local.get", end), ("i32.lt_s",), ("if", ""))
    writer.enter(guarded=True)
    _decompose(writer, nest, positions, begin)
    emitter.regions.append(Region(writer.depth + 1))
    changed = changes(body)
    writer.touch_all(changed)
    for (loop, start, extent), position in zip(nest[:-1], positions[:-1], strict=True):
        most = INT_MAX if extent.range is None else max(extent.range[1] - 1, 0)
        at = builder.local(position, Scalar.I32, 1, writer.depth, 0, (0, most))
        writer.names[loop.var] = builder.sum([(start, 1), (at, loop.step)])
    inner, start, extent = nest[-1]
    stop = emitter.new_local("i32")
    # The inner loop runs to its end or to the end of this call's range, whichever is nearer.
    emitter.code(("local.get", positions[-1]), ("local.get", end), ("i32.add",), ("local.get", begin), ("i32.sub",))
    emitter.code(("local.set", stop))
    emitter.emit(extent)
    emitter.code(("local.get", stop))
    emitter.emit(extent)
    emitter.code(("local.get", stop), ("i32.lt_s",), ("select",), ("local.set", stop))
    level = writer.depth
    low = builder.local(positions[-1], Scalar.I32, 1, level, 0, (0, INT_MAX))
    high = builder.local(stop, Scalar.I32, 1, level, 0)
    flat = Loop(inner.var, inner.extent, body, LoopKind.SERIAL, inner.start, inner.step)
    bounded = builder.sum([(start, 1), (low, inner.step)])
    bounds = loop_range(start, extent.range, inner.step)
    writer.range(flat, bounded, builder.sum([(start, 1), (high, inner.step)]), True, bounds)
    emitter.code(("local.get", begin), ("local.get", stop), ("i32.add",), ("local.get", positions[-1]), ("i32.sub",))
    emitter.code(("local.set", begin), ("i32.const", 0), ("local.set", positions[-1]))
    _carry(writer, nest, positions)
    emitter.code(("local.get", begin), ("local.get", end), ("i32.lt_s",), ("br_if", 0))
    body_code = emitter.regions.pop().code
    emitter.code(("loop", ""), *body_code, ("end",))
    writer.leave(changed)
    emitter.code(("end",))


def _decompose(writer: Writer, nest: _Nest, positions: list[int], begin: int) -> None:
    emitter = writer.emitter
    rest = emitter.new_local("i32")
    emitter.code(("local.get", begin), ("local.set", rest))
    for (_, _, extent), position in reversed(list(zip(nest, positions, strict=True))[1:]):
        emitter.code(("local.get", rest))
        emitter.emit(extent)
        emitter.code(("i32.rem_u",), ("local.set", position), ("local.get", rest))
        emitter.emit(extent)
        emitter.code(("i32.div_u",), ("local.set", rest))
    emitter.code(("local.get", rest), ("local.set", positions[0]))


def _carry(writer: Writer, nest: _Nest, positions: list[int]) -> None:
    """Advance the outer positions by one: the last of them first."""
    emitter = writer.emitter
    for depth, ((_, _, extent), position) in enumerate(reversed(list(zip(nest[:-1], positions[:-1], strict=True)))):
        emitter.code(("local.get", position), ("i32.const", 1), ("i32.add",), ("local.tee", position))
        if depth < len(nest) - 2:
            emitter.emit(extent)
            emitter.code(("i32.eq",), ("if", ""), ("i32.const", 0), ("local.set", position))
        else:
            emitter.code(("drop",))
    emitter.code(*[("end",)] * (len(nest) - 2))
