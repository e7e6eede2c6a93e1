"""Einsum: sums of products, contracted in pairs from the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webdnn_backends.ir.build import apply
from webdnn_backends.ir.loops import Expr
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.formulas import times
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import MatMulHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_WIDENED = {DType.FLOAT16: DType.FLOAT32, DType.BFLOAT16: DType.FLOAT32}


@dataclass(frozen=True)
class _Operand:
    """A tensor and the label of each of its axes. Labels are letters; those of an ellipsis are numbers, -1 the last."""

    tensor: str
    labels: tuple[str, ...]


@lowering("Einsum")
def _einsum(context: NodeContext) -> None:
    equation = context.attribute("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(context.node.inputs):
        raise InvalidModelError(
            f"{context.where}: equation: expected {len(context.node.inputs)} terms, one per input, got {equation!r}"
        )
    operands = [
        _Operand(context.name(index), _labels(context, term, context.rank(index))) for index, term in enumerate(terms)
    ]
    sizes = _sizes(context, operands)
    wanted = _wanted(operands, left, right if arrow else None)
    while len(operands) > 2:
        later = {label for operand in operands[2:] for label in operand.labels} | set(wanted)
        both = dict.fromkeys((*operands[0].labels, *operands[1].labels))
        kept = tuple(label for label in both if label in later)
        shape = tuple(sizes[label] for label in kept)
        dtype = _WIDENED.get(context.dtype(0), context.dtype(0))
        pair = operands[:2]
        name = context.temporary(
            dtype,
            shape,
            lambda i, pair=pair, kept=kept: _product(context, pair, kept, sizes, i),  # type: ignore[misc]  # binds the loop's values
            _hint(pair, kept),
        )
        operands = [_Operand(name, kept), *operands[2:]]
    context.emit(lambda i: _product(context, operands, wanted, sizes, i), hint=_hint(operands, wanted))


def _labels(context: NodeContext, term: str, rank: int) -> tuple[str, ...]:
    """The label of each axis of an operand."""
    before, dots, after = term.partition("...")
    missing = rank - len(before) - len(after)
    if missing < 0 or (missing and not dots):
        raise ShapeError(f"{context.where}: equation term {term!r}: expected rank {len(before + after)}, got {rank}")
    return (*before, *(str(k - missing) for k in range(missing)), *after)


def _wanted(operands: Sequence[_Operand], left: str, right: str | None) -> tuple[str, ...]:
    """The labels of the result: as given, or the ellipsis and then in alphabetical order those that come once."""
    dots = sorted({label for operand in operands for label in operand.labels if label.startswith("-")}, key=int)
    if right is not None:
        before, found, after = right.partition("...")
        return (*before, *(dots if found else ()), *after)
    letters = [letter for letter in left if letter.isalpha()]
    return (*dots, *sorted(letter for letter in set(letters) if letters.count(letter) == 1))


def _sizes(context: NodeContext, operands: Sequence[_Operand]) -> dict[str, Dim]:
    """The size of each label; 1 gives way to another."""
    sizes: dict[str, Dim] = {}
    for operand in operands:
        for label, size in zip(operand.labels, context.state.tensor(operand.tensor).shape, strict=True):
            known = sizes.get(label, 1)
            if isinstance(known, int) and isinstance(size, int) and 1 not in (known, size) and known != size:
                raise ShapeError(f"{context.where}: equation: expected one size of {label!r}, got {known} and {size}")
            sizes[label] = size if known == 1 else known
    return sizes


def _product(
    context: NodeContext, operands: Sequence[_Operand], wanted: Sequence[str], sizes: dict[str, Dim], i: Indices
) -> Expr:
    """An element of the sum of products over the labels that the result does not have."""
    place = dict(zip(wanted, i, strict=True))
    summed = [label for operand in operands for label in operand.labels if label not in place]
    summed = list(dict.fromkeys(summed))

    def element(k: Indices) -> Expr:
        at = {**place, **dict(zip(summed, k, strict=True))}
        factors = [_read(context, operand, at) for operand in operands]
        if len(factors) == 1:
            return factors[0]
        if factors[0].type is Scalar.BOOL:
            return apply(Op.AND, factors[0], factors[1])
        return times(factors[0], factors[1])

    return context.sum([sizes[label] for label in summed], element)


def _read(context: NodeContext, operand: _Operand, at: dict[str, Expr]) -> Expr:
    shape = context.state.tensor(operand.tensor).shape
    return context.read(
        operand.tensor,
        [context.within(size, at[label]) for label, size in zip(operand.labels, shape, strict=True)],
    )


def _hint(operands: Sequence[_Operand], wanted: Sequence[str]) -> MatMulHint | None:
    """Two different operands without repeated labels, one of them summed over."""
    if len(operands) != 2 or operands[0].tensor == operands[1].tensor:
        return None
    if any(len(set(operand.labels)) != len(operand.labels) for operand in operands):
        return None
    summed = {label for operand in operands for label in operand.labels if label not in wanted}
    return MatMulHint() if len(summed) == 1 and all(summed <= set(operand.labels) for operand in operands) else None
