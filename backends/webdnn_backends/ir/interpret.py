"""Runs kernels in NumPy: the meaning of the loop IR, executable.

Parallel iterations are array lanes evaluated in lockstep under a mask, so that a Barrier has nothing to do; serial
loops run to the largest extent of any lane. Loads and stores are checked: an index outside its buffer is an error that
names kernel, buffer and index, and so is workgroup memory that two invocations touch without a Barrier between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import meanings
from webdnn_backends.ir.decompose import Definition
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    Barrier,
    Bitcast,
    Cast,
    Const,
    Expr,
    If,
    Kernel,
    Lane,
    Load,
    Local,
    Loop,
    LoopKind,
    Select,
    Space,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.scalars import Scalar, storage_type

__all__ = ["evaluate_definition", "interpret"]

Array = npt.NDArray[Any]

_IN_ORDER = (LoopKind.SERIAL, LoopKind.UNROLL, LoopKind.INDEPENDENT)
_GROUPS = (LoopKind.WORKGROUP_X, LoopKind.WORKGROUP_Y, LoopKind.WORKGROUP_Z)
_MOST_LANES = 1 << 18


def interpret(kernel: Kernel, buffers: Mapping[str, Array], parameters: Mapping[str, int] | Sequence[int] = ()) -> None:
    """Runs the kernel on the buffers, in place.

    buffers: one flat array per argument, one element each, in the NumPy dtype of its storage type. parameters: by name,
    or in order. Raises IndexError for a load or store outside a buffer, RuntimeError for a race in workgroup memory,
    ValueError where the arguments do not fit the kernel.
    """
    if not isinstance(parameters, Mapping):
        if len(parameters) != len(kernel.parameters):
            raise ValueError(f"{kernel.name}: expected {len(kernel.parameters)} parameters, got {len(parameters)}")
        parameters = dict(zip(kernel.parameters, parameters, strict=True))
    storage: dict[str, Array] = {}
    for buffer in kernel.buffers:
        if buffer.name not in buffers:
            raise ValueError(f"{kernel.name}: no array for buffer '{buffer.name}'")
        array = buffers[buffer.name]
        if array.ndim != 1 or array.dtype != buffer.dtype.numpy:
            got = f"{array.dtype} of rank {array.ndim}"
            raise ValueError(f"{kernel.name}: buffer '{buffer.name}': expected flat {buffer.dtype.numpy}, got {got}")
        storage[buffer.name] = array
    values = {name: np.array([parameters[name]], np.int32) for name in kernel.parameters}
    run = _Run(kernel, storage)
    with np.errstate(all="ignore"):
        for frame in run.divided(kernel.body, _Frame(1, values)):
            run.execute(kernel.body, frame)


def evaluate_definition(definition: Definition, *args: Array) -> Array:
    """The definition's result for arrays of arguments: (n,) for one lane, (n, lanes) for several."""
    run = _Run(Kernel(definition.name, (), (), ()), {})
    values = {parameter.name: arg for parameter, arg in zip(definition.parameters, args, strict=True)}
    frame = _Frame(len(args[0]), dict(values))
    with np.errstate(all="ignore"):
        run.perform(definition.body, frame)
        return run.value(definition.result, frame)


@dataclass
class _WorkgroupArray:
    """Elements per workgroup, and who touched each since the last barrier (-1 nobody, -2 several readers)."""

    elements: Array
    writer: Array
    reader: Array

    def settle(self) -> None:
        self.writer.fill(-1)
        self.reader.fill(-1)


@dataclass
class _Frame:
    """The lanes that run together: their variables, which are active (None for all), and their workgroup.

    chosen: for a loop that is divided, the part of its iterations that this frame runs.
    """

    count: int
    values: dict[str, Array]
    active: Array | None = None
    group: Array | None = None
    groups: int = 1
    private: dict[str, Array] = field(default_factory=dict)
    shared: dict[str, _WorkgroupArray] = field(default_factory=dict)
    chosen: tuple[int, int] | None = None

    def narrowed(self, condition: Array) -> _Frame:
        condition = np.broadcast_to(condition, (self.count,))
        active = condition if self.active is None else self.active & condition
        return replace(self, active=active)

    @property
    def idle(self) -> bool:
        return self.active is not None and not bool(self.active.any())


class _Run:
    def __init__(self, kernel: Kernel, storage: dict[str, Array]) -> None:
        self.kernel, self.storage = kernel, storage

    def divided(self, body: tuple[Stmt, ...], frame: _Frame) -> Iterator[_Frame]:
        """The frame, or copies that each run a part of a top-level parallel loop too large to run at once."""
        if len(body) != 1 or not isinstance(body[0], Loop) or body[0].kind in _IN_ORDER:
            yield frame
            return
        extent = int(self.value(body[0].extent, frame)[0])
        inner = self.lanes_below(body[0].body, frame)
        part = max(1, _MOST_LANES // max(inner, 1))
        for begin in range(0, extent, part):
            yield replace(frame, values=dict(frame.values), chosen=(begin, min(extent, begin + part)))

    def lanes_below(self, body: tuple[Stmt, ...], frame: _Frame) -> int:
        most = 1
        for statement in body:
            if isinstance(statement, Loop) and statement.kind not in _IN_ORDER:
                try:
                    extent = int(self.value(statement.extent, frame)[0])
                except KeyError:
                    extent = 64
                most = max(most, extent * self.lanes_below(statement.body, frame))
        return most

    def execute(self, body: tuple[Stmt, ...], frame: _Frame) -> None:
        """The statements of a scope; its registers and private arrays end with it."""
        self.perform(body, frame)
        for statement in body:
            if isinstance(statement, Local):
                frame.values.pop(statement.name, None)
                frame.private.pop(statement.name, None)

    def perform(self, body: tuple[Stmt, ...], frame: _Frame) -> None:
        for statement in body:
            match statement:
                case Loop(kind=kind) if kind in _IN_ORDER:
                    self.serial(statement, frame)
                case Loop():
                    self.spread(statement, frame)
                case If():
                    self.branch(statement, frame)
                case Store():
                    self.store(statement, frame)
                case Local():
                    self.declare(statement, frame)
                case Assign(name=name, value=value):
                    self.assign(name, self.value(value, frame), frame)
                case Barrier():
                    for array in frame.shared.values():
                        array.settle()

    def assign(self, name: str, value: Array, frame: _Frame) -> None:
        if frame.active is not None:
            active = frame.active if value.ndim == 1 else frame.active[:, None]
            value = np.where(active, value, frame.values[name])
        frame.values[name] = value

    def declare(self, local: Local, frame: _Frame) -> None:
        if local.size is None:
            if local.init is not None:
                frame.values[local.name] = self.value(local.init, frame)
            else:
                shape = (frame.count,) if local.lanes == 1 else (frame.count, local.lanes)
                frame.values[local.name] = _poison(shape, local.type)
        elif local.space is Space.WORKGROUP:
            shape = (frame.groups, local.size)
            nobody = np.full(shape, -1, np.int32)
            frame.shared[local.name] = _WorkgroupArray(_poison(shape, local.type), nobody, nobody.copy())
        else:
            frame.private[local.name] = _poison((frame.count, local.size), local.type)

    def branch(self, statement: If, frame: _Frame) -> None:
        condition = self.value(statement.condition, frame)
        then = frame.narrowed(condition)
        if not then.idle:
            self.execute(statement.then, then)
        otherwise = frame.narrowed(~condition)
        if statement.otherwise and not otherwise.idle:
            self.execute(statement.otherwise, otherwise)

    def serial(self, loop: Loop, frame: _Frame) -> None:
        start, extent = self.value(loop.start, frame), self.value(loop.extent, frame)
        uniform = len(extent) == 1
        counted = extent if uniform or frame.active is None else extent[frame.active]
        for step in range(int(counted.max(initial=0))):
            inner = frame if uniform else frame.narrowed(step < extent)
            inner.values[loop.var] = start + np.int32(step * loop.step)
            self.execute(loop.body, inner)
        frame.values.pop(loop.var, None)

    def spread(self, loop: Loop, frame: _Frame) -> None:
        """Runs every iteration as a lane of its own."""
        start, extent = self.value(loop.start, frame), self.value(loop.extent, frame)
        first, last = 0, int(np.max(extent, initial=0))
        if frame.chosen is not None:
            first, last = frame.chosen
        width = max(last - first, 0)
        if width == 0:
            return
        origin = np.repeat(np.arange(frame.count), width)
        step = np.tile(np.arange(first, last, dtype=np.int32), frame.count)
        values = {name: _gather(value, origin) for name, value in frame.values.items()}
        values[loop.var] = _gather(start, origin) + step * np.int32(loop.step)
        active = None if frame.active is None else frame.active[origin]
        lanes = len(origin)
        group = np.zeros(lanes, np.intp) if frame.group is None else frame.group[origin]
        groups = frame.groups
        if loop.kind in _GROUPS:
            group, groups = np.arange(lanes), lanes
        inner = _Frame(lanes, values, active, group, groups, {}, frame.shared)
        if len(extent) > 1:
            inner = inner.narrowed(step < extent[origin])
        self.execute(loop.body, inner)

    def store(self, store: Store, frame: _Frame) -> None:
        index, value = self.value(store.index, frame), self.value(store.value, frame)
        lanes = store.value.lanes
        position, rows = self.positions(store.buffer, index, lanes, frame)
        value = np.broadcast_to(value, (frame.count, lanes) if lanes > 1 else (frame.count,))[rows]
        if store.buffer in frame.private:
            at = (rows[:, None], position) if lanes > 1 else (rows, position)
            frame.private[store.buffer][at] = value
        elif store.buffer in frame.shared:
            self.share(frame, store.buffer, position, rows, value)
        else:
            buffer = self.kernel.buffer(store.buffer)
            if buffer.access is Access.READ:
                raise ValueError(f"{self.kernel.name}: store to '{store.buffer}', which is only read")
            self.storage[store.buffer][position] = meanings.narrow(value, buffer.dtype)

    def positions(self, name: str, index: Array, lanes: int, frame: _Frame) -> tuple[Array, Array]:
        """The checked element positions of the active lanes, and which lanes these are."""
        rows = np.arange(frame.count) if frame.active is None else np.flatnonzero(frame.active)
        index = np.broadcast_to(index, (frame.count,))[rows].astype(np.int64)
        size = self.size(name, frame)
        wrong = (index < 0) | (index + lanes > size)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            where = ", ".join(
                f"{variable}={np.broadcast_to(value.T, (*value.T.shape[:-1], frame.count)).T[rows[at]]}"
                for variable, value in frame.values.items()
            )
            raise IndexError(
                f"{self.kernel.name}: buffer '{name}' has {size} elements, got index {index[at]}"
                f"{f' with {lanes} lanes' if lanes > 1 else ''} ({where})"
            )
        return (index[:, None] + np.arange(lanes) if lanes > 1 else index), rows

    def size(self, name: str, frame: _Frame) -> int:
        if name in frame.private:
            return int(frame.private[name].shape[1])
        if name in frame.shared:
            return int(frame.shared[name].elements.shape[1])
        return len(self.storage[name])

    def share(self, frame: _Frame, name: str, position: Array, rows: Array, value: Array) -> None:
        array = frame.shared[name]
        group, lane = self.members(frame, rows, position)
        met = np.stack([array.writer[group, position], array.reader[group, position]])
        self.report_race(name, position, (met != -1) & (met != lane))
        array.elements[group, position] = value
        array.writer[group, position] = lane

    def members(self, frame: _Frame, rows: Array, position: Array) -> tuple[Array, Array]:
        assert frame.group is not None, "workgroup memory is used inside a workgroup"
        group, lane = frame.group[rows], rows.astype(np.int32)
        if position.ndim == 1:
            return group, lane
        return np.broadcast_to(group[:, None], position.shape), np.broadcast_to(lane[:, None], position.shape)

    def report_race(self, name: str, position: Array, wrong: Array) -> None:
        if wrong.any():
            at = np.broadcast_to(position, wrong.shape)[wrong][0]
            raise RuntimeError(
                f"{self.kernel.name}: workgroup array '{name}': element {at} is written by one invocation and "
                f"touched by another without a barrier between them"
            )

    def load(self, load: Load, frame: _Frame) -> Array:
        index = self.value(load.index, frame)
        local = load.buffer in frame.private or load.buffer in frame.shared
        if not local and len(index) == 1 and not frame.idle:
            frame = replace(frame, count=1, active=None)
        position, rows = self.positions(load.buffer, index, load.lanes, frame)
        if load.buffer in frame.private:
            at = (rows[:, None], position) if load.lanes > 1 else (rows, position)
            found = frame.private[load.buffer][at]
        elif load.buffer in frame.shared:
            found = self.read_shared(frame, load.buffer, position, rows)
        else:
            found = meanings.widen(self.storage[load.buffer][position])
        if len(rows) == frame.count:
            return found
        result = np.zeros((frame.count, *found.shape[1:]), found.dtype)
        result[rows] = found
        return result

    def read_shared(self, frame: _Frame, name: str, position: Array, rows: Array) -> Array:
        array = frame.shared[name]
        group, lane = self.members(frame, rows, position)
        writer, reader = array.writer[group, position], array.reader[group, position]
        self.report_race(name, position, (writer != -1) & (writer != lane))
        first = np.full(array.reader.shape, -1, np.int32)
        first[group, position] = lane
        alone = (first[group, position] == lane) & ((reader == -1) | (reader == lane))
        array.reader[group, position] = lane
        array.reader[group[~alone], position[~alone]] = -2
        return array.elements[group, position]

    def value(self, expr: Expr, frame: _Frame) -> Array:
        """(1,) where uniform or (lanes of the frame,); with a second axis for vectors."""
        match expr:
            case Var(name=name):
                return frame.values[name]
            case Const(value=value):
                return np.array([value], meanings.numpy_type(expr.type))
            case Load():
                return self.load(expr, frame)
            case Apply(op=op, args=args):
                return meanings.evaluate(op, *(self.value(arg, frame) for arg in args))
            case Cast(to=to, arg=arg):
                return meanings.convert(self.value(arg, frame), to)
            case Bitcast(arg=arg):
                return meanings.bitcast(self.value(arg, frame), expr.type)
            case Select():
                return self.select(expr, frame)
            case Splat(arg=arg, lanes=lanes):
                return np.repeat(self.value(arg, frame)[:, None], lanes, axis=1)
            case Lane(arg=arg, lane=lane):
                return self.value(arg, frame)[:, lane]
            case Vector(args=args):
                return np.stack(np.broadcast_arrays(*(self.value(arg, frame) for arg in args)), axis=1)
            case _:
                raise ValueError(f"{self.kernel.name}: {type(expr).__name__} is of the level above the loop IR")

    def select(self, expr: Select, frame: _Frame) -> Array:
        condition = self.value(expr.condition, frame)
        if expr.condition.lanes > 1:
            return np.where(condition, self.value(expr.true, frame), self.value(expr.false, frame))
        if len(condition) == 1 and frame.active is None:
            return self.value(expr.true if condition[0] else expr.false, frame)
        true = self.value(expr.true, frame.narrowed(condition))
        false = self.value(expr.false, frame.narrowed(~condition))
        return np.where(condition if true.ndim == 1 and false.ndim == 1 else condition[:, None], true, false)


def _gather(value: Array, origin: Array) -> Array:
    return value if len(value) == 1 else value[origin]


def _poison(shape: tuple[int, ...], type: Scalar) -> Array:
    """What memory holds before it is written: NaN, or an odd pattern."""
    dtype = storage_type(type).numpy
    if type.is_float:
        return np.full(shape, np.nan, dtype)
    return np.full(shape, 0xA5, np.uint8).astype(dtype)
