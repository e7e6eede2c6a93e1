"""Operators on sequences, which are lists; none of them changes the list it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, axis_of, int_list, scalar_int
from webdnn_reference.ops.structure import concat_4, pieces
from webdnn_reference.registry import op


@op("SequenceEmpty", since=11)
def sequence_empty(*, dtype: int = 1) -> list[Array]:
    """A sequence without elements; `dtype` is what it may take.

    Spec: https://onnx.ai/onnx/operators/onnx__SequenceEmpty.html#sequenceempty-11
    """
    del dtype
    return []


@op("SequenceConstruct", since=11)
def sequence_construct(*inputs: Array) -> list[Array]:
    """The inputs, of one dtype, as a sequence.

    Spec: https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html#sequenceconstruct-11
    """
    return list(inputs)


@op("SequenceLength", since=11)
def sequence_length(input_sequence: Sequence[Any]) -> Array:
    """The number of elements, as an int64 scalar.

    Spec: https://onnx.ai/onnx/operators/onnx__SequenceLength.html#sequencelength-11
    """
    return np.array(len(input_sequence), np.int64)


@op("SequenceAt", since=11)
def sequence_at(input_sequence: Sequence[Array], position: Array) -> Array:
    """The element at a position in [-n, n - 1]. Raises ShapeError outside.

    Spec: https://onnx.ai/onnx/operators/onnx__SequenceAt.html#sequenceat-11
    """
    return input_sequence[_position(position, len(input_sequence))]


@op("SequenceInsert", since=11)
def sequence_insert(input_sequence: Sequence[Array], tensor: Array, position: Array | None = None) -> list[Array]:
    """The sequence with a tensor before a position in [-n, n]; at the end by default. Raises ShapeError outside.

    Spec: https://onnx.ai/onnx/operators/onnx__SequenceInsert.html#sequenceinsert-11
    """
    count = len(input_sequence)
    at = count
    if position is not None:
        at = scalar_int(position, "position")
        if not -count <= at <= count:
            raise ShapeError(f"position: expected one in [{-count}, {count}], got {at}")
        at = at + count if at < 0 else at
    return [*input_sequence[:at], tensor, *input_sequence[at:]]


@op("SequenceErase", since=11)
def sequence_erase(input_sequence: Sequence[Array], position: Array | None = None) -> list[Array]:
    """The sequence without the element at a position in [-n, n - 1]; the last by default. Raises ShapeError outside.

    Spec: https://onnx.ai/onnx/operators/onnx__SequenceErase.html#sequenceerase-11
    """
    count = len(input_sequence)
    at = _position(np.array(-1) if position is None else position, count)
    return [*input_sequence[:at], *input_sequence[at + 1 :]]


@op("ConcatFromSequence", since=11)
def concat_from_sequence(input_sequence: Sequence[Array], *, axis: int, new_axis: int = 0) -> Array:
    """The elements one after the other along an axis, or stacked along a new one.

    Raises ShapeError for an empty sequence and for shapes that do not fit.
    Spec: https://onnx.ai/onnx/operators/onnx__ConcatFromSequence.html#concatfromsequence-11
    """
    if not input_sequence:
        raise ShapeError("input_sequence: expected at least one tensor, got none")
    if not new_axis:
        return concat_4(*input_sequence, axis=axis)
    axis = axis_of(axis, input_sequence[0].ndim + 1)
    shapes = {element.shape for element in input_sequence}
    if len(shapes) != 1:
        raise ShapeError(f"input_sequence: expected tensors of one shape, got {sorted(map(list, shapes))}")
    return np.stack(input_sequence, axis)


@op("SplitToSequence", since=(11, 24))
def split_to_sequence(input: Array, split: Array | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Array]:
    """Pieces along an axis: of size `split` if it is a scalar (the last may be smaller), of the sizes in it if it is
    a vector, and single slices without it; these lose the axis unless keepdims is 1.

    Raises ShapeError for sizes that do not add up. Spec:
    https://onnx.ai/onnx/operators/onnx__SplitToSequence.html#splittosequence-24
    """
    axis = axis_of(axis, input.ndim)
    size = input.shape[axis]
    if split is None:
        singles = pieces(input, [1] * size, axis)
        return list(singles) if keepdims else [np.squeeze(piece, axis) for piece in singles]
    if split.ndim == 0:
        step = int(split)
        if step < 1:
            raise ShapeError(f"split: expected a positive size, got {step}")
        return list(pieces(input, [min(step, size - start) for start in range(0, size, step)], axis))
    return list(pieces(input, int_list(split, "split"), axis))


def _position(position: Array, count: int) -> int:
    at = scalar_int(position, "position")
    if not -count <= at < count:
        raise ShapeError(f"position: expected one in [{-count}, {count - 1}], got {at}")
    return at + count if at < 0 else at
