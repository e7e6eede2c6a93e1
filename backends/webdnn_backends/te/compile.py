"""From a tensor program to kernel calls for one target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.loops import Kernel
from webdnn_backends.te.fuse import Fusion, Policy, fuse
from webdnn_backends.te.generic import GenericOptions, generic
from webdnn_backends.te.implementation import Implement, Implementation, Layout, PackedConstant, ScheduleContext
from webdnn_backends.te.layout import channels_last
from webdnn_backends.te.packing import Constants
from webdnn_backends.te.reuse import Reuse, Scheduled
from webdnn_backends.te.split import split
from webdnn_backends.te.tensors import (
    Call,
    Copy,
    Host,
    If,
    Item,
    Loop,
    ReshapeHint,
    Stage,
    Tensor,
    TensorProgram,
    named,
    nested,
)
from webdnn_onnx.dtypes import DType

__all__ = ["CompiledProgram", "Target", "compile_program"]


@dataclass(frozen=True)
class Target:
    """What a target brings: fusion limits, the generic schedule's options, its own schedules, and what it cannot run.

    implement: the fast schedules, or None. objection: why a kernel cannot run on the target (it then runs as JavaScript
    on the host, which the report names), or None. adapt: how a kernel that a lowering wrote is run best.
    """

    name: str
    policy: Policy = field(default_factory=Policy)
    options: GenericOptions = field(default_factory=GenericOptions)
    channels_last: bool = False
    implement: Implement | None = None
    objection: Callable[[Kernel], str | None] = lambda _: None
    adapt: Callable[[Kernel], Kernel] = lambda kernel: kernel


@dataclass(frozen=True)
class CompiledProgram:
    """Kernel calls in order for one target.

    tensors: all that the items name. layouts: physical axis orders that are not row-major. aliases: tensor -> the
    tensor whose storage it shares. constants: arrays of constant tensors, packed ones included, made when they
    are read. declined: stage output -> why the fast schedules left it to the generic one.
    """

    target: str
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layouts: Mapping[str, Layout]
    aliases: Mapping[str, str]
    constants: Mapping[str, npt.NDArray[Any]]
    items: tuple[Item, ...]
    declined: Mapping[str, str] = field(default_factory=dict)
    fusions: tuple[Fusion, ...] = ()


def compile_program(program: TensorProgram, target: Target) -> CompiledProgram:
    """The program fused, laid out and scheduled for a target."""
    fusions: list[Fusion] = []
    program = fuse(widen(program), target.policy, fusions)
    if target.policy.split:
        program = split(program, target.policy.tensors)
    layouts = channels_last(program) if target.channels_last else {}
    compiler = _Compiler(program, target, layouts)
    for item in program.items:
        compiler.add(item)
    return compiler.finish(tuple(fusions))


def _shaped(items: Iterable[Item]) -> Iterator[str]:
    """The tensors whose shape matters to an item, not only their elements: no views of tensors of another shape."""
    for item in items:
        match item:
            case Host(inputs=inputs):
                yield from inputs
            case Copy(input=name):
                yield name
            case Loop():
                yield from (name for group in item.carried for name in group)
                yield from (name for group in (*item.gather, *item.scatter) for name in group[:2])
        yield from _shaped(nested(item))


_WIDENED = {DType.FLOAT16: DType.FLOAT32, DType.BFLOAT16: DType.FLOAT32}


def widen(program: TensorProgram) -> TensorProgram:
    """Intermediate float16 and bfloat16 tensors and constants stored as float32: computing is in float32 anyway, and
    storing more precisely costs no correctness."""
    fixed = {*program.inputs, *program.outputs}
    for item in program.items:
        if not isinstance(item, Stage):
            fixed.update(named(item))
    changed = {
        name: replace(tensor, dtype=_WIDENED[tensor.dtype])
        for name, tensor in program.tensors.items()
        if tensor.dtype in _WIDENED and name not in fixed
    }
    made = {name: partial(array.astype, np.float32) for name, array in program.constants.items() if name in changed}
    return replace(program, tensors={**program.tensors, **changed}, constants=Constants.over(program.constants, made))


def _packed(packed: PackedConstant, constants: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return packed.pack(constants[packed.constant])


def _scheduled(stage: Stage, context: ScheduleContext, target: Target) -> Scheduled:
    """The target's own schedule of a stage, or the generic one."""
    declined = ""
    if target.implement is not None:
        found = _objected(target.implement(stage, context), target)
        if isinstance(found, Implementation):
            return Scheduled(found)
        declined = found if stage.hint is not None else ""
    return Scheduled(Implementation((_placed(generic(stage, context, target.options), target),)), declined)


def _objected(found: Implementation | str, target: Target) -> Implementation | str:
    """What a fast schedule offers, unless the target cannot run it: the host runs only the generic schedule."""
    if isinstance(found, str):
        return found
    reasons = (target.objection(call.kernel) for call in found.calls)
    return next((reason for reason in reasons if reason is not None), found)


def _placed(call: Call, target: Target) -> Call:
    return replace(call, placed=target.objection(call.kernel) or "")


def _adapted(call: Call, target: Target) -> Call:
    return call if call.placed else replace(call, kernel=target.adapt(call.kernel))


class _Compiler:
    def __init__(self, program: TensorProgram, target: Target, layouts: dict[str, Layout]) -> None:
        self.program, self.target, self.layouts = program, target, layouts
        self.tensors = dict(program.tensors)
        self.constants = program.constants
        self.aliases: dict[str, str] = {}
        self.items: list[Item] = []
        self.declined: dict[str, str] = {}
        self.packed: dict[tuple[str, str], str] = {}
        self.made: dict[str, Callable[[], npt.NDArray[Any]]] = {}
        self.shaped = set(_shaped(program.items))
        self.reuse = Reuse(partial(_scheduled, target=target))

    def add(self, item: Item) -> None:
        """Schedule one item."""
        match item:
            case If(then=then, otherwise=otherwise):
                self.items.append(replace(item, then=self._block(then), otherwise=self._block(otherwise)))
                return
            case Loop(body=body):
                self.items.append(replace(item, body=self._block(body)))
                return
        if not isinstance(item, Stage):
            self.items.append(_adapted(_placed(item, self.target), self.target) if isinstance(item, Call) else item)
            return
        if self.tensors[item.output].elements == 0:
            return
        if self._is_view(item):
            assert isinstance(item.hint, ReshapeHint), "only reshapes are views"
            self.aliases[item.output] = self.aliases.get(item.hint.x, item.hint.x)
            return
        found = self.reuse(item, ScheduleContext(self.tensors, self.layouts, self.constants))
        if found.declined:
            self.declined[item.output] = found.declined
        self._implement(found.implementation)

    def _block(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        """Schedule the items of a branch or body."""
        outer, self.items = self.items, []
        for item in items:
            self.add(item)
        block, self.items = tuple(self.items), outer
        return block

    def _is_view(self, stage: Stage) -> bool:
        if (
            not isinstance(stage.hint, ReshapeHint)
            or stage.output in self.program.outputs
            or stage.output in self.shaped
        ):
            return False
        return (
            stage.hint.x not in self.layouts
            and stage.output not in self.layouts
            and self.tensors[stage.hint.x].dtype is self.tensors[stage.output].dtype
        )

    def _implement(self, found: Implementation) -> None:
        for tensor in found.temporaries:
            self.tensors[tensor.name] = tensor
        names = {packed.tensor.name: self._pack(packed) for packed in found.packed}
        for call in found.calls:
            self.items.append(replace(call, arguments=tuple(names.get(name, name) for name in call.arguments)))

    def _pack(self, packed: PackedConstant) -> str:
        key = (packed.constant, packed.key)
        if key not in self.packed:
            self.packed[key] = packed.tensor.name
            self.tensors[packed.tensor.name] = packed.tensor
            self.made[packed.tensor.name] = partial(_packed, packed, self.constants)
        return self.packed[key]

    def finish(self, fusions: tuple[Fusion, ...]) -> CompiledProgram:
        """The compiled program with only the tensors that it uses."""
        used = {*self.program.inputs, *self.program.outputs}
        for item in self.items:
            used.update(named(item))
        used.update(self.aliases.get(name, name) for name in tuple(used))
        return CompiledProgram(
            self.target.name,
            {name: tensor for name, tensor in self.tensors.items() if name in used},
            self.program.inputs,
            self.program.outputs,
            {name: layout for name, layout in self.layouts.items() if name in used},
            {name: source for name, source in self.aliases.items() if name in used},
            Constants.over(self.constants, self.made).only(used),
            tuple(self.items),
            self.declined,
            fusions,
        )
