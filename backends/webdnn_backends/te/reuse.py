"""Equal stages are scheduled once: the layers of a model often differ in nothing but the names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.loops import Expr, Read
from webdnn_backends.ir.rewrite import reads, rewrite
from webdnn_backends.te.implementation import Implementation, ScheduleContext
from webdnn_backends.te.tensors import ConvHint, Hint, PoolHint, ReshapeHint, Stage, Tensor
from webdnn_onnx.errors import WebDNNError

__all__ = ["Reuse", "Scheduled"]


@dataclass(frozen=True)
class Scheduled:
    """What became of a stage. declined: why the fast schedules left it to the generic one; empty if they did not."""

    implementation: Implementation
    declined: str = ""


class Reuse:
    """A schedule that works on each distinct stage once.

    The schedule sees stages whose tensors have made-up names, and of constants only shape and type: what depends on
    their values belongs in `PackedConstant.pack`.
    """

    def __init__(self, schedule: Callable[[Stage, ScheduleContext], Scheduled]) -> None:
        self._schedule = schedule
        self._found: dict[object, Scheduled] = {}

    def __call__(self, stage: Stage, context: ScheduleContext) -> Scheduled:
        """What the schedule makes of the stage. Raises what it raises."""
        names = _names(stage)
        anonymous = _renamed(stage, {name: _mark(number) for number, name in enumerate(names)})
        facts = tuple(
            (context.tensors[name].dtype, context.tensors[name].shape, context.layout(name), name in context.constants)
            for name in names
        )
        key = (anonymous, facts)
        found = self._found.get(key)
        if found is None:
            try:
                found = self._schedule(anonymous, _context(names, context))
            except WebDNNError:
                self._schedule(stage, context)  # raises the same with the tensor's own name
                raise
            self._found[key] = found
        return _named(found, names, stage.source)


def _names(stage: Stage) -> tuple[str, ...]:
    """The tensors of a stage, in an order that does not depend on their names."""
    hinted: tuple[str, ...] = ()
    match stage.hint:
        case ConvHint(x=x, w=w):
            hinted = (x, w)
        case PoolHint(x=x) | ReshapeHint(x=x):
            hinted = (x,)
        case _:
            pass
    return tuple(dict.fromkeys((stage.output, *(read.tensor for read in reads(stage.body)), *hinted)))


def _mark(number: int) -> str:
    return f"\0{number}\0"


def _renamed(stage: Stage, names: Mapping[str, str]) -> Stage:
    def change(part: Expr) -> Expr | None:
        if not isinstance(part, Read) or part.tensor not in names:
            return None  # a renamed part that a simplification has moved up
        return Read(names[part.tensor], part.indices, part.type)

    hint: Hint | None = stage.hint
    match hint:
        case ConvHint():
            hint = replace(hint, x=names[hint.x], w=names[hint.w])
        case PoolHint() | ReshapeHint():
            hint = replace(hint, x=names[hint.x])
        case _:
            pass
    return Stage(names[stage.output], stage.axes, rewrite(stage.body, change), hint)


def _context(names: Sequence[str], context: ScheduleContext) -> ScheduleContext:
    tensors: dict[str, Tensor] = {}
    constants: dict[str, npt.NDArray[Any]] = {}
    for number, name in enumerate(names):
        tensor = tensors[_mark(number)] = replace(context.tensors[name], name=_mark(number))
        if name in context.constants:
            sizes = [int(str(size)) for size in tensor.shape]
            constants[_mark(number)] = np.broadcast_to(np.zeros((), tensor.dtype.numpy), sizes)
    layouts = {_mark(number): context.layouts[name] for number, name in enumerate(names) if name in context.layouts}
    return ScheduleContext(tensors, layouts, constants)


def _named(found: Scheduled, names: Sequence[str], source: tuple[str, ...]) -> Scheduled:
    """With the tensors' own names, also where those of temporaries and packed weights are made of them."""

    def name(text: str) -> str:
        return re.sub("\0([0-9]+)\0", lambda match: names[int(match[1])], text)

    def tensor(each: Tensor) -> Tensor:
        return replace(each, name=name(each.name))

    made = found.implementation
    calls = tuple(replace(call, arguments=tuple(map(name, call.arguments)), source=source) for call in made.calls)
    packed = tuple(replace(one, tensor=tensor(one.tensor), constant=name(one.constant)) for one in made.packed)
    return Scheduled(Implementation(calls, tuple(map(tensor, made.temporaries)), packed), name(found.declined))
