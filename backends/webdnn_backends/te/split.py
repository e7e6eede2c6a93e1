"""Stages that read more tensors than a kernel may bind, in parts: a part of the expression becomes a tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import Apply, Axis, Expr, Read, Reduce, Select
from webdnn_backends.ir.rewrite import free_variables, map_children, reads, replaced
from webdnn_backends.ir.scalars import Op, storage_type
from webdnn_backends.te.tensors import If, Item, Loop, ReshapeHint, Stage, Tensor, TensorProgram

__all__ = ["split"]


def split(program: TensorProgram, most: int) -> TensorProgram:
    """The program with no stage that reads more than `most` tensors, where that can be had."""
    tensors = dict(program.tensors)
    items = _block(program.items, most, tensors)
    return replace(program, items=items, tensors=tensors)


def _block(items: tuple[Item, ...], most: int, tensors: dict[str, Tensor]) -> tuple[Item, ...]:
    return tuple(part for item in items for part in _item(item, most, tensors))


def _item(item: Item, most: int, tensors: dict[str, Tensor]) -> Iterator[Item]:
    match item:
        case Stage():
            yield from _stage(item, most, tensors)
        case If(then=then, otherwise=otherwise):
            yield replace(item, then=_block(then, most, tensors), otherwise=_block(otherwise, most, tensors))
        case Loop(body=body):
            yield replace(item, body=_block(body, most, tensors))
        case _:
            yield item


def _stage(stage: Stage, most: int, tensors: dict[str, Tensor]) -> Iterator[Stage]:
    """The stage behind stages for its parts."""
    number = 0
    while len(_tensors(stage.body)) > most:
        found = max(_parts(stage, most), key=lambda part: (part.count, -len(part.axes)), default=None)
        if found is None:
            break
        name = f"{stage.output}#part{number}"
        number += 1
        tensors[name] = Tensor(name, storage_type(found.expr.type), tuple(axis.extent for axis in found.axes))
        yield Stage(name, found.axes, found.guarded, source=stage.source)
        read = Read(name, tuple(axis.var for axis in found.axes), found.expr.type)
        hint = None if found.reduced or isinstance(stage.hint, ReshapeHint) else stage.hint
        stage = replace(stage, body=replaced(stage.body, found.expr, read), hint=hint)
    yield stage


def _tensors(expr: Expr) -> frozenset[str]:
    return frozenset(read.tensor for read in reads(expr))


@dataclass(frozen=True)
class _Part:
    """A part of a stage's expression. axes: that it depends on. conditions: under which it is evaluated at all.
    reduced: whether it lies in a reduction."""

    expr: Expr
    axes: tuple[Axis, ...]
    conditions: tuple[Expr, ...]
    reduced: bool

    @property
    def guarded(self) -> Expr:
        """The part where it is evaluated, zero elsewhere: there its reads may lie outside of their tensors."""
        value = self.expr
        for condition in reversed(self.conditions):
            value = build.select(condition, value, build.const(0, value.type))
        return value

    @property
    def count(self) -> int:
        """How many tensors it reads."""
        return len(_tensors(self.expr))


@dataclass
class _Walk:
    most: int
    parts: list[_Part] = field(default_factory=list)

    def visit(
        self, expr: Expr, axes: Mapping[str, Axis], conditions: tuple[Expr, ...] = (), *, reduced: bool = False
    ) -> None:
        """Collect the parts that may become a stage of their own."""
        count = len(_tensors(expr))
        if isinstance(expr, Read) or count < 2:
            return
        part = _Part(expr, _axes(axes, (expr, *conditions)), conditions, reduced)
        if expr.lanes == 1 and len(_tensors(part.guarded)) <= self.most:
            self.parts.append(part)
            return
        match expr:
            case Select(condition=condition, true=true, false=false):
                self.visit(condition, axes, conditions, reduced=reduced)
                self.visit(true, axes, (*conditions, condition), reduced=reduced)
                self.visit(false, axes, (*conditions, Apply(Op.NOT, (condition,))), reduced=reduced)
            case Reduce(axes=own, body=body):
                self.visit(body, {**axes, **{axis.name: axis for axis in own}}, conditions, reduced=True)
            case _:
                map_children(expr, lambda child: self._child(child, axes, conditions, reduced=reduced))

    def _child(self, child: Expr, axes: Mapping[str, Axis], conditions: tuple[Expr, ...], *, reduced: bool) -> Expr:
        self.visit(child, axes, conditions, reduced=reduced)
        return child


def _axes(axes: Mapping[str, Axis], exprs: tuple[Expr, ...]) -> tuple[Axis, ...]:
    """The axes that the expressions depend on, in order."""
    free = frozenset().union(*map(free_variables, exprs))
    return tuple(axis for name, axis in axes.items() if name in free and axis.extent != 1)


def _parts(stage: Stage, most: int) -> list[_Part]:
    walk = _Walk(most)
    walk.visit(stage.body, {axis.name: axis for axis in stage.axes})
    return walk.parts
