"""Sequences: lists on the JavaScript side, handled by host functions; SequenceMap as a loop over one."""

from __future__ import annotations

import numpy as np

from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.program import lower_nodes
from webdnn_backends.lower.registry import lowering
from webdnn_backends.lower.state import LoweringState
from webdnn_backends.te.tensors import Copy, Host, Loop, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Graph, SequenceType

__all__: list[str] = []


@lowering("SequenceConstruct", since=11)
def _construct(context: NodeContext) -> None:
    context.host("sequence_construct")


@lowering("SequenceEmpty", since=11)
def _empty(context: NodeContext) -> None:
    context.host("sequence_empty")


@lowering("SequenceAt", since=11)
def _at(context: NodeContext) -> None:
    context.host("sequence_at")


@lowering("SequenceInsert", since=11)
def _insert(context: NodeContext) -> None:
    context.host("sequence_insert")


@lowering("SequenceErase", since=11)
def _erase(context: NodeContext) -> None:
    context.host("sequence_erase")


@lowering("SequenceLength", since=11)
def _length(context: NodeContext) -> None:
    context.host("sequence_length")


@lowering("ConcatFromSequence", since=11)
def _concat(context: NodeContext) -> None:
    options = {"axis": context.attribute("axis", 0), "newAxis": context.attribute("new_axis", 0)}
    context.host("concat_from_sequence", options)


@lowering("SplitToSequence", since=11)
def _split(context: NodeContext) -> None:
    options = {"axis": context.attribute("axis", 0), "keepdims": context.attribute("keepdims", 1)}
    context.host("split_to_sequence", options)


@lowering("SequenceMap", since=17)
def _map(context: NodeContext) -> None:
    """A loop with one sequence per output of the body, which grows by one element in every iteration."""
    state, source = context.state, context.node.source
    body = context.node.attributes["body"]
    assert isinstance(body, Graph), "body is a graph attribute"
    trip = state.add_tensor("count", DType.INT64, ())
    state.items.append(Host("sequence_length", (context.name(0),), (trip.name,), {}, source))
    iteration = state.add_tensor("iteration", DType.INT64, ())
    given = [state.tensor(name).name for name in context.node.inputs]
    kinds = [state.value(name).type for name in context.node.inputs]
    carried: list[tuple[str, str, str]] = []
    with state.scope(body) as items:
        for value, name, kind in zip(body.inputs, given, kinds, strict=True):
            landed = state.landing(value.name)
            if isinstance(kind, SequenceType):
                items.append(Host("sequence_at", (name, iteration.name), (landed.name,), {}, source))
            else:
                items.append(Copy(name, landed.name))
            state.land(value.name, landed)
        lower_nodes(state, body)
        for value in body.outputs:
            element = state.tensor(value.name)
            growing, grown = (_sequence(state, element.dtype) for _ in range(2))
            items.append(Host("sequence_insert", (growing.name, element.name, ""), (grown.name,), {}, source))
            carried.append(("", growing.name, grown.name))
        inner = tuple(items)
    for position, (_, growing_name, grown_name) in enumerate(carried):
        empty = _sequence(state, state.tensors[growing_name].dtype)
        state.items.append(Host("sequence_empty", (), (empty.name,), {}, source))
        carried[position] = (empty.name, growing_name, grown_name)
    state.items.append(Loop(inner, trip.name, carried=tuple(carried), iteration=iteration.name, source=source))
    for name, (_, growing_name, _) in zip(context.node.outputs, carried, strict=True):
        if name:
            state.items.append(Copy(growing_name, state.tensor(name).name))


def _sequence(state: LoweringState, dtype: DType) -> Tensor:
    return state.add_tensor("sequence", dtype, (), slot=True)


@lowering("Optional", since=15)
def _optional(context: NodeContext) -> None:
    context.host("optional")


@lowering("OptionalHasElement", since=15)
def _has_element(context: NodeContext) -> None:
    if context.has(0) and context.state.tensor(context.node.inputs[0]).slot:
        context.host("optional_has_element")
        return
    present = context.table(np.array(context.has(0)))
    context.emit(lambda _: context.read(present, ()))


@lowering("OptionalGetElement", since=15)
def _get_element(context: NodeContext) -> None:
    context.host("optional_get_element")
