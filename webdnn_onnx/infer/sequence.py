"""Sequences and optionals."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import OptionalType, SequenceType, TensorType, Type
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.control import merge_inexact
from webdnn_onnx.infer.registry import rule, shape_rule

__all__: list[str] = []


@rule("SequenceConstruct")
def sequence_construct(call: Call) -> Sequence[Type | None]:
    """A sequence of what all inputs have in common."""
    element = call.type(0)
    for index in range(1, call.count):
        element = merge_inexact(element, call.type(index))
    return [None if element is None else SequenceType(element)]


@rule("SequenceEmpty")
def sequence_empty(call: Call) -> Sequence[Type | None]:
    """A sequence of tensors of unknown rank."""
    return [SequenceType(TensorType(DType.from_onnx(call.number("dtype", 1)), None))]


@rule("SequenceInsert")
def sequence_insert(call: Call) -> Sequence[Type | None]:
    """A sequence of what its elements and the new one have in common."""
    kind, new = call.type(0), call.type(1)
    if not isinstance(kind, SequenceType):
        return [None if new is None else SequenceType(new)]
    return [SequenceType(merge_inexact(kind.element, new) or kind.element)]


@rule("SequenceErase")
def sequence_erase(call: Call) -> Sequence[Type | None]:
    """The sequence's type."""
    return [call.type(0)]


@rule("SequenceAt")
def sequence_at(call: Call) -> Sequence[Type | None]:
    """The element's type; a size that is no number may be another one in every element."""
    kind = call.type(0)
    return [_measured(call, kind.element) if isinstance(kind, SequenceType) else None]


def _measured(call: Call, kind: Type) -> Type:
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    shape = tuple(dim if isinstance(dim, int) else call.fresh(axis) for axis, dim in enumerate(kind.shape))
    return TensorType(kind.dtype, shape)


@shape_rule("SequenceLength", dtype=DType.INT64)
def sequence_length(call: Call) -> list[tuple[int, ...]]:
    """A scalar."""
    del call
    return [()]


@rule("SplitToSequence")
def split_to_sequence(call: Call) -> Sequence[Type | None]:
    """A sequence of parts along one axis; their size there is known where all are equal."""
    kind = call.tensor(0)
    if kind.shape is None:
        return [SequenceType(kind)]
    shape = kind.shape
    axis = call.axis(call.number("axis", 0), len(shape))
    before, after = shape[:axis], shape[axis + 1 :]
    if not call.has(1):
        keep = (1,) if call.number("keepdims", 1) else ()
        return [SequenceType(TensorType(kind.dtype, (*before, *keep, *after)))]
    sizes = call.integers(1)
    split = call.type(1)
    part: int | None = None
    if sizes is not None and len(set(sizes)) == 1:
        whole = shape[axis]
        scalar = isinstance(split, TensorType) and split.shape == ()
        part = sizes[0] if not scalar or (isinstance(whole, int) and sizes[0] and whole % sizes[0] == 0) else None
    return [SequenceType(TensorType(kind.dtype, None if part is None else (*before, part, *after)))]


@rule("ConcatFromSequence")
def concat_from_sequence(call: Call) -> Sequence[Type | None]:
    """The elements along one axis, whose size only running the graph tells."""
    kind = call.type(0)
    if not isinstance(kind, SequenceType) or not isinstance(kind.element, TensorType):
        return [None]
    element = kind.element
    if element.shape is None:
        return [element]
    new = call.number("new_axis", 0)
    axis = call.axis(call.number("axis", 0), len(element.shape) + new)
    rest = element.shape[axis:] if new else element.shape[axis + 1 :]
    return [TensorType(element.dtype, (*element.shape[:axis], call.fresh(axis), *rest))]


@rule("Optional")
def optional(call: Call) -> Sequence[Type | None]:
    """An optional of the input's type, or of attribute `type`."""
    kind = call.type(0)
    if kind is None:
        given = call.attribute("type")
        kind = given if isinstance(given, TensorType | SequenceType) else None
    return [None if kind is None else OptionalType(kind)]


@rule("OptionalGetElement")
def optional_get_element(call: Call) -> Sequence[Type | None]:
    """What is inside; a value that is no optional is itself."""
    kind = call.type(0)
    return [_measured(call, kind.element) if isinstance(kind, OptionalType) else kind]


@shape_rule("OptionalHasElement", dtype=DType.BOOL)
def optional_has_element(call: Call) -> list[tuple[int, ...]]:
    """A scalar."""
    del call
    return [()]
