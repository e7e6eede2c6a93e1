"""Fusion: producers are written into their consumers until a buffer must exist.

Three kinds of producer are inlined. Elementwise and movement stages, where no element is computed more often than
before or it costs nothing. Reductions into the elementwise stage behind them (the epilogue of a matrix product or
convolution). Reductions of rows into stages that use the result for each element of the row (softmax, normalisation),
which the generic schedule computes once per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from webdnn_backends.ir.build import cast
from webdnn_backends.ir.loops import Apply, Axis, Const, Expr, Read, Reduce, Select, Var, subexpressions
from webdnn_backends.ir.rewrite import free_variables, map_children, reads, rewrite, size, substitute
from webdnn_backends.ir.scalars import Op
from webdnn_backends.te.simplify import simplify
from webdnn_backends.te.tensors import (
    Call,
    ConvHint,
    If,
    Item,
    Loop,
    MatMulHint,
    PoolHint,
    ReshapeHint,
    Stage,
    Tensor,
    TensorProgram,
    arguments_read,
    nested,
    results,
)
from webdnn_onnx.symbolic import product

__all__ = ["Fusion", "Policy", "fuse"]


@dataclass(frozen=True)
class Policy:
    """What a target allows. tensors: how many distinct tensors a fused stage may read. size: how many nodes its body
    may have. split: whether stages that read more than `tensors` by themselves are split, since no kernel may."""

    tensors: int = 7
    size: int = 400
    split: bool = False


@dataclass(frozen=True)
class Fusion:
    """One decision, for `--explain`: what was fused into what, or why it was not."""

    producer: str
    consumer: str
    reason: str | None


def fuse(program: TensorProgram, policy: Policy, explain: list[Fusion] | None = None) -> TensorProgram:
    """The program with stages inlined into their consumers and stages that nothing reads removed."""
    uses: dict[str, int] = {}
    for item in every(program.items):
        for name in dict.fromkeys(arguments_read(item)):
            uses[name] = uses.get(name, 0) + 1
        if isinstance(item, If):
            for name in item.results:
                uses[name] = uses.get(name, 0) + 2
    for name in program.outputs:
        uses[name] = uses.get(name, 0) + 2
    decisions = explain if explain is not None else []
    return replace(program, items=_fused(program.items, set(program.outputs), uses, program, policy, decisions))


def _fused(
    block: tuple[Item, ...],
    needed: set[str],
    uses: dict[str, int],
    program: TensorProgram,
    policy: Policy,
    explain: list[Fusion],
) -> tuple[Item, ...]:
    """A list of items fused within itself; `needed`: the tensors that are read behind it. A kernel may update a tensor
    that a stage has written: what reads it from then on reads the kernel's result."""
    stages: dict[str, Stage] = {}
    items: list[Item] = []
    for item in block:
        match item:
            case Stage():
                item = _absorb(item, stages, uses, program, policy, explain)
                stages[item.output] = item
            case If(then=then, otherwise=otherwise, results=names):
                parts = (_fused(part, set(names), uses, program, policy, explain) for part in (then, otherwise))
                item = replace(item, then=next(parts), otherwise=next(parts))
            case Call():
                for name in results(item):
                    stages.pop(name, None)
            case Loop(body=body):
                item = replace(item, body=_fused(body, set(_loop_reads(item)), uses, program, policy, explain))
        items.append(item)
    return _live(items, needed)


def _loop_reads(item: Loop) -> Iterator[str]:
    """What a loop reads of its body's tensors after each iteration."""
    yield item.next
    yield from (new for _, _, new in item.carried)
    yield from (element for element, _, _ in item.scatter)


def every(items: tuple[Item, ...]) -> Iterator[Item]:
    """Items and all items inside them."""
    for item in items:
        yield item
        yield from every(nested(item))


def _live(items: list[Item], outputs: set[str]) -> tuple[Item, ...]:
    needed = set(outputs)
    kept: list[Item] = []
    for item in reversed(items):
        if isinstance(item, Stage) and item.output not in needed:
            continue
        needed.update(arguments_read(item))
        kept.append(item)
    return tuple(reversed(kept))


def _absorb(
    consumer: Stage,
    stages: dict[str, Stage],
    uses: dict[str, int],
    program: TensorProgram,
    policy: Policy,
    explain: list[Fusion],
) -> Stage:
    declined: set[str] = set()
    while True:
        candidates = [name for name in dict.fromkeys(r.tensor for r in reads(consumer.body)) if name not in declined]
        producer = next((stages[name] for name in candidates if name in stages), None)
        if producer is None:
            return consumer
        reason = _objection(producer, consumer, uses, policy)
        if reason is None:
            inlined = _inline(producer, consumer, program.tensors[producer.output])
            distinct = {read.tensor for read in reads(inlined.body)}
            if size(inlined.body) > policy.size:
                reason = "the fused expression would be too large"
            elif len(distinct) > policy.tensors:
                reason = f"the fused kernel would read {len(distinct)} tensors"
            else:
                consumer = inlined
        if reason is not None:
            declined.add(producer.output)
        explain.append(Fusion(producer.output, consumer.output, reason))


def _objection(producer: Stage, consumer: Stage, uses: dict[str, int], policy: Policy) -> str | None:
    """Why the producer must stay a tensor of its own, or None."""
    del policy
    places = _places(consumer.body, producer.output)
    inside = any(axes for axes, _ in places)
    if isinstance(producer.hint, ReshapeHint) and not _plain(producer.body):
        return "a reshape is free as a view"
    if producer.reductions:
        return _reduction_objection(producer, consumer, places, uses)
    if inside and isinstance(consumer.hint, ConvHint | PoolHint):
        return "the operand of a convolution or pooling is read from memory"
    if inside and isinstance(consumer.hint, MatMulHint) and not _at_known_positions(producer.body):
        return "the operand of a matrix product is read from memory"
    if _cost(producer.body) == 0:
        divides = any(isinstance(part, Apply) and part.op in _DIVISIONS for part in subexpressions(producer.body))
        return "its index arithmetic would be repeated" if inside and divides and uses[producer.output] > 1 else None
    if uses[producer.output] > 1:
        return f"{uses[producer.output]} readers or a model output would compute it again"
    loops = [axis for axis in consumer.axes if axis.extent != 1]
    for axes, indices in places:
        bound = frozenset().union(*map(free_variables, indices)) if indices else frozenset()
        if any(axis.name not in bound for axis in (*loops, *axes) if axis.extent != 1) and _cost(producer.body) > 1:
            return "its elements would be computed more than once"
    return None


_DIVISIONS = (Op.FLOOR_DIV, Op.FLOOR_MOD, Op.DIV, Op.REM)


def _reduction_objection(
    producer: Stage, consumer: Stage, places: Sequence[tuple[tuple[Axis, ...], tuple[Expr, ...]]], uses: dict[str, int]
) -> str | None:
    if consumer.hint is not None:
        return "the consumer has a schedule of its own"
    if len({indices for _, indices in places}) != 1:
        return "it is read at several places"
    indices = places[0][1]
    names = [index.name for index in indices if isinstance(index, Var)]
    if any(not isinstance(index, Var | Const) for index in indices) or len(set(names)) != len(names):
        return "it is not read element by element"
    axes = [axis.name for axis in consumer.axes if axis.extent != 1]
    if any(name not in axes for name in names):
        return "it is read along a reduced axis"
    extents = {axis.name: axis.extent for axis in consumer.axes}
    for index, axis in zip(indices, producer.axes, strict=True):
        if axis.extent != (extents[index.name] if isinstance(index, Var) else 1):
            return "only a part of it is read"
    if set(names) == set(axes):
        if uses[producer.output] > 1:
            return f"{uses[producer.output]} readers or a model output need it"
        if consumer.reductions and producer.hint is not None:
            return "the consumer reduces too"
        if isinstance(producer.hint, ConvHint | PoolHint) and (names != axes or _moved(indices, consumer.axes)):
            return "the axes are permuted"
        return None
    if producer.hint is not None:
        return "its schedule computes whole tensors"
    if axes[: len(names)] != names:
        return "rows are not the outer axes"
    if _is_wider([axis for axis in consumer.axes if axis.name not in names], producer):
        return "the rows are wider than what is reduced: few would compute much"
    return None


_WIDER = 8


def _is_wider(rest: Sequence[Axis], producer: Stage) -> bool:
    """Whether a row has far more elements than any of the producer's reductions; judged by the number of axes where
    sizes are symbols."""
    row = product([axis.extent for axis in rest])
    sums = [[axis for axis in reduce.axes if axis.extent != 1] for reduce in producer.reductions]
    sizes = [product([axis.extent for axis in axes]) for axes in sums]
    if row in sizes:
        return False
    known = [reduced for reduced in sizes if isinstance(reduced, int)]
    if isinstance(row, int) and len(known) == len(sizes):
        return all(row > _WIDER * reduced for reduced in known)
    return all(sum(axis.extent != 1 for axis in rest) > len(axes) for axes in sums)


def _moved(indices: Sequence[Expr], axes: Sequence[Axis]) -> bool:
    """Whether axes of a tensor are others of a consumer of the same rank, which a schedule would take for its own."""
    pairs = zip(indices, axes, strict=False)
    return len(indices) == len(axes) and any(isinstance(at, Var) and at.name != axis.name for at, axis in pairs)


def _places(body: Expr, tensor: str) -> list[tuple[tuple[Axis, ...], tuple[Expr, ...]]]:
    """Where a tensor is read: the reduction axes around it, and the indices."""
    found: list[tuple[tuple[Axis, ...], tuple[Expr, ...]]] = []

    def visit(part: Expr, axes: tuple[Axis, ...]) -> Expr:
        if isinstance(part, Reduce):
            axes = (*axes, *part.axes)
        if isinstance(part, Read) and part.tensor == tensor:
            found.append((axes, part.indices))
        return map_children(part, lambda child: visit(child, axes))

    visit(body, ())
    return found


def _at_known_positions(body: Expr) -> bool:
    """Whether it is one Read at positions that are not themselves read from memory."""
    return isinstance(body, Read) and not any(
        isinstance(part, Read | Reduce) for index in body.indices for part in subexpressions(index)
    )


def _plain(body: Expr) -> bool:
    """Whether it is one Read at bare variables and constants."""
    return isinstance(body, Read) and all(isinstance(index, Var | Const) for index in body.indices)


_CHEAP = frozenset((Op.ADD, Op.SUB, Op.MUL, Op.NEG, Op.ABS, Op.MIN, Op.MAX, Op.NOT, Op.AND, Op.OR))


def _cost(body: Expr) -> int:
    """Arithmetic per element, index arithmetic not counted."""
    match body:
        case Read() | Const() | Var():
            return 0
        case Select(true=true, false=false):
            return max(_cost(true), _cost(false))
        case Apply(op=op, args=args):
            return (1 if op in _CHEAP else 10) + sum(map(_cost, args))
    total = 1

    def visit(part: Expr) -> Expr:
        nonlocal total
        total += _cost(part)
        return part

    map_children(body, visit)
    return total


def _inline(producer: Stage, consumer: Stage, tensor: Tensor) -> Stage:
    names = [axis.name for axis in producer.axes]
    narrow = tensor.dtype.bits < 32 and tensor.dtype.is_integer
    fresh = freshen(producer.body, "p")

    def replace_read(part: Expr) -> Expr | None:
        if not isinstance(part, Read) or part.tensor != producer.output:
            return None
        value = substitute(fresh, dict(zip(names, part.indices, strict=True)))
        return cast(tensor.dtype, value) if narrow and not isinstance(value, Read) else value

    body = rewrite(freshen(consumer.body, "c"), replace_read)
    body = simplify(canonical(body), consumer.axes)
    hint = consumer.hint
    if producer.reductions and hint is None:
        hint = producer.hint
    if isinstance(hint, ReshapeHint) or (isinstance(hint, ConvHint | PoolHint) and not _still_holds(hint, body)):
        hint = None
    return Stage(consumer.output, consumer.axes, body, hint, tuple(dict.fromkeys((*producer.source, *consumer.source))))


def _still_holds(hint: ConvHint | PoolHint, body: Expr) -> bool:
    return any(read.tensor == hint.x for read in reads(body))


def freshen(body: Expr, prefix: str) -> Expr:
    """Every reduction's axes under names of their own."""
    numbers = count()

    def visit(part: Expr) -> Expr:
        part = map_children(part, visit)
        if not isinstance(part, Reduce):
            return part
        renamed = {axis.name: f"{prefix}{next(numbers)}" for axis in part.axes}
        return _renamed(part, renamed)

    return visit(body)


def canonical(body: Expr) -> Expr:
    """Reduction axes named by nesting height, so that equal reductions are equal expressions."""

    def height(part: Expr) -> int:
        inner = 0

        def visit(child: Expr) -> Expr:
            nonlocal inner
            inner = max(inner, height(child))
            return child

        map_children(part, visit)
        return inner + isinstance(part, Reduce)

    def visit(part: Expr) -> Expr:
        part = map_children(part, visit)
        if not isinstance(part, Reduce):
            return part
        level = height(part)
        return _renamed(part, {axis.name: f"r{level}_{position}" for position, axis in enumerate(part.axes)})

    return visit(body)


def _renamed(part: Reduce, names: dict[str, str]) -> Reduce:
    values: dict[str, Expr] = {old: Var(new) for old, new in names.items()}
    axes = tuple(Axis(names[axis.name], axis.extent) for axis in part.axes)
    change: Callable[[Expr], Expr] = lambda expr: substitute(expr, values)  # noqa: E731  # one of two short choices
    return Reduce(part.op, axes, change(part.body))
