"""A compiled program as the manifest holds it: buffers, kernels and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webdnn_backends.emit import Emitted
from webdnn_backends.ir.loops import Kernel
from webdnn_backends.te.compile import CompiledProgram
from webdnn_backends.te.tensors import Bind, Call, Copy, Define, Host, If, Item, Loop, nested
from webdnn_onnx.bundle.plan import Plan, storage_size
from webdnn_onnx.symbolic import Dim, substitute, to_json

__all__ = ["KernelTable", "bound_symbols", "calls_of", "host_functions", "kernel_table", "program_record"]


@dataclass(frozen=True)
class KernelTable:
    """The different kernels of a program, each under a name of its own. index: position by call identity."""

    kernels: tuple[Kernel, ...]
    index: Mapping[int, int]


def calls_of(items: Sequence[Item]) -> list[Call]:
    """Every kernel call among items, nested ones too."""
    found: list[Call] = []
    for item in items:
        if isinstance(item, Call):
            found.append(item)
        found.extend(calls_of(nested(item)))
    return found


def bound_symbols(items: Sequence[Item]) -> set[str]:
    """The symbols that get their values while the items run."""
    found: set[str] = set()
    for item in items:
        match item:
            case Bind(symbols=symbols):
                found.update(name for name, _, _ in symbols)
            case Define(symbol=name):
                found.add(name)
            case Loop(symbol=iteration, count=count):
                found.update(name for name in (iteration, count) if name)
        found |= bound_symbols(nested(item))
    return found


def host_functions(items: Sequence[Item]) -> set[str]:
    """The host functions that the items name."""
    found: set[str] = set()
    for item in items:
        if isinstance(item, Host):
            found.add(item.function)
        found |= host_functions(nested(item))
    return found


def kernel_table(calls: Sequence[Call]) -> KernelTable:
    """The kernels of some calls, equal ones once; equal names of different kernels are numbered."""
    positions: dict[Kernel, int] = {}
    kernels: list[Kernel] = []
    names: dict[str, int] = {}
    index: dict[int, int] = {}
    for call in calls:
        anonymous = replace(call.kernel, name="")
        if anonymous not in positions:
            positions[anonymous] = len(kernels)
            used = names.get(call.kernel.name, 0)
            names[call.kernel.name] = used + 1
            name = call.kernel.name if used == 0 else f"{call.kernel.name}_v{used + 1}"
            kernels.append(replace(call.kernel, name=name))
        index[id(call)] = positions[anonymous]
    return KernelTable(tuple(kernels), index)


def program_record(
    program: CompiledProgram,
    plan: Plan,
    table: KernelTable,
    emitted: Emitted,
    host: tuple[KernelTable, Emitted],
    weight: Callable[[str], Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest's record of a program. weight: name of a constant -> its record among the weights."""
    writer = _Writer(program, plan, table, emitted, host, weight)
    steps = writer.steps(program.items)
    inputs = [writer.buffer(name) for name in program.inputs]
    outputs = [writer.buffer(name) for name in program.outputs]
    record: dict[str, Any] = {
        "buffers": writer.records,
        "kernels": list(emitted.records),
        "steps": steps,
        "inputs": inputs,
        "outputs": outputs,
        "arenaBytes": plan.arena if all(isinstance(live.size, int) for live in plan.ranges) else None,
    }
    if host[0].kernels:
        record["hostKernels"] = list(host[1].records)
    if emitted.requires:
        record["requires"] = {**emitted.requires, **_large_buffers(writer.records)}
    if emitted.scratch:
        record["scratchBytes"] = emitted.scratch
    return record


_COMMON_BINDING = 128 << 20
"""What every WebGPU device can bind (maxStorageBufferBindingSize)."""


def _large_buffers(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The limits that a program needs beyond what every device has."""
    largest = max((record["bytes"] for record in records if isinstance(record["bytes"], int)), default=0)
    if largest <= _COMMON_BINDING:
        return {}
    return {"limits": {"maxStorageBufferBindingSize": largest, "maxBufferSize": largest}}


class _Writer:
    def __init__(
        self,
        program: CompiledProgram,
        plan: Plan,
        table: KernelTable,
        emitted: Emitted,
        host: tuple[KernelTable, Emitted],
        weight: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self.program, self.plan, self.table, self.emitted, self.host = program, plan, table, emitted, host
        self.weight = weight
        self.ranges = {live.name: live for live in plan.ranges}
        self.positions: dict[str, int] = {}
        self.records: list[dict[str, Any]] = []

    def buffer(self, name: str) -> int:
        """The position of a tensor's buffer."""
        root = self.program.aliases.get(name, name)
        if root not in self.positions:
            self.positions[root] = len(self.records)
            self.records.append(self._record(root))
        return self.positions[root]

    def _record(self, name: str) -> dict[str, Any]:
        tensor = self.program.tensors[name]
        if tensor.slot:
            return {"role": "value", "dtype": tensor.dtype.value, "shape": [], "elements": 0, "bytes": 0}
        record: dict[str, Any] = {
            "role": self._role(name),
            "dtype": tensor.dtype.value,
            "shape": [to_json(size) for size in tensor.shape],
            "elements": to_json(tensor.elements),
            "bytes": to_json(storage_size(self.program, name)),
        }
        if name in self.program.layouts:
            record["order"] = list(self.program.layouts[name])
        if name in self.program.constants:
            record["weight"] = dict(self.weight(name))
        elif name in self.plan.offsets:
            record["offset"] = self.plan.offsets[name]
        elif name in self.plan.slots:
            record["slot"] = self.plan.slots[name]
        if name in self.ranges:
            record["first"], record["last"] = self.ranges[name].first, self.ranges[name].last
        return record

    def _role(self, name: str) -> str:
        if name in self.program.constants:
            return "weight"
        if name in self.program.inputs:
            return "input"
        return "output" if name in self.program.outputs else "temporary"

    def steps(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """The manifest's steps for some items."""
        return [self._step(item) for item in items]

    def _step(self, item: Item) -> dict[str, Any]:
        match item:
            case Call():
                return self._run(item)
            case Bind(symbols=symbols):
                return {"bind": [[symbol, self.buffer(tensor), index] for symbol, tensor, index in symbols]}
            case Host(function=function, inputs=inputs, outputs=outputs, options=options):
                args = [self.buffer(name) if name else None for name in inputs]
                outs = [self.buffer(name) if name else None for name in outputs]
                return {"host": function, "args": args, "outs": outs, "options": dict(options)}
            case If(condition=condition, then=then, otherwise=otherwise):
                return {"if": self.buffer(condition), "then": self.steps(then), "else": self.steps(otherwise)}
            case Define(symbol=name, value=value):
                return {"define": [[name, to_json(value)]]}
            case Copy(input=source, output=output):
                return {"copy": [self.buffer(source), self.buffer(output)]}
            case Loop():
                return {"loop": self._loop(item)}
        raise AssertionError(f"{type(item).__name__}: an item that has no step")

    def _loop(self, item: Loop) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for key in ("trip", "condition", "next", "iteration"):
            name = getattr(item, key)
            if name:
                record[key] = self.buffer(name)
        for key in ("symbol", "count"):
            if getattr(item, key):
                record[key] = getattr(item, key)
        if item.carried:
            record["carried"] = [[self.buffer(name) for name in group] for group in item.carried]
        for key in ("gather", "scatter"):
            groups = getattr(item, key)
            if groups:
                record[key] = [[self.buffer(first), self.buffer(second), flag] for first, second, flag in groups]
        record["body"] = self.steps(item.body)
        return record

    def _run(self, call: Call) -> dict[str, Any]:
        on_host = id(call) in self.host[0].index
        table, emitted = self.host if on_host else (self.table, self.emitted)
        position = table.index[id(call)]
        step: dict[str, Any] = {"run": position, "args": [self.buffer(name) for name in call.arguments]}
        if call.parameters:
            step["params"] = [to_json(size) for size in call.parameters]
        values: dict[str, Dim] = dict(zip(call.kernel.parameters, call.parameters, strict=True))
        shape = emitted.shapes[position]
        if shape.grid is not None:
            step["grid"] = [to_json(substitute(size, values)) for size in shape.grid]
        if shape.extent is not None:
            step["extent"] = to_json(substitute(shape.extent, values))
        if on_host:
            step["on"] = "js"
        return step
