"""If, Loop and Scan as nested items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import cast
from webdnn_backends.ir.loops import Axis, Expr, Read
from webdnn_backends.ir.scalars import compute_type
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.program import lower_nodes
from webdnn_backends.lower.registry import lowering
from webdnn_backends.lower.state import LoweringState
from webdnn_backends.te.tensors import Copy, Host, If, Item, Loop, Stage, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Graph
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


@lowering("If")
def _if(context: NodeContext) -> None:
    state = context.state
    landed = [state.landing(name) if name else None for name in context.node.outputs]
    branches = [_branch(context, _graph(context, name), landed) for name in ("then_branch", "else_branch")]
    results = tuple(tensor.name for tensor in landed if tensor is not None)
    state.items.append(If(context.name(0), branches[0], branches[1], results, context.node.source))
    for name, tensor in zip(context.node.outputs, landed, strict=True):
        if tensor is not None:
            state.land(name, tensor)


def _graph(context: NodeContext, attribute: str) -> Graph:
    graph = context.node.attributes[attribute]
    assert isinstance(graph, Graph), f"{attribute} is a graph attribute"
    return graph


def _branch(context: NodeContext, graph: Graph, landed: Sequence[Tensor | None]) -> tuple[Item, ...]:
    state = context.state
    if len(graph.outputs) != len(landed):
        reason = f"{context.where}: a branch that contradicts the sizes around it: {graph.name}"
        return (Host("refuse", (), (), {"reason": reason}, context.node.source),)
    with state.scope(graph) as items:
        lower_nodes(state, graph)
        for value, tensor in zip(graph.outputs, landed, strict=True):
            if tensor is not None:
                items.append(Copy(state.tensor(value.name).name, tensor.name))
        return tuple(items)


@lowering("Loop")
def _loop(context: NodeContext) -> None:
    state, body = context.state, _graph(context, "body")
    count = len(body.inputs) - 2
    finals, stacked = context.node.outputs[:count], context.node.outputs[count:]
    landed = [state.landing(name) if name else None for name in finals]
    trip = context.name(0) if context.has(0) else ""
    condition = context.name(1) if context.has(1) else _true(state)
    initials = [state.tensor(name).name for name in context.node.inputs[2:]]
    sequences = [state.landing(name) if name else None for name in stacked]
    with state.scope(body) as items:
        iteration = state.tensor(body.inputs[0].name).name
        flag = state.tensor(body.inputs[1].name).name
        states = [_loop_state(state, value.name) for value in body.inputs[2:]]
        lower_nodes(state, body)
        next_flag = state.tensor(body.outputs[0].name).name
        news = [state.tensor(value.name).name for value in body.outputs[1 : 1 + count]]
        carried = _carried(state, [(condition, flag, next_flag), *zip(initials, states, news, strict=True)])
        elements = [state.tensor(value.name).name for value in body.outputs[1 + count :]]
        scatter = tuple(
            (element, sequence.name, False)
            for element, sequence in zip(elements, sequences, strict=True)
            if sequence is not None
        )
        inner = tuple(items)
    state.items.append(
        Loop(
            inner,
            trip,
            condition,
            next_flag,
            carried,
            scatter=scatter,
            iteration=iteration,
            source=context.node.source,
        )
    )
    for name, tensor, final in zip(finals, landed, states, strict=True):
        if tensor is not None:
            state.items.append(Copy(final, tensor.name))
            state.land(name, tensor)
    for name, sequence in zip(stacked, sequences, strict=True):
        if sequence is not None:
            state.land(name, sequence)


def _true(state: LoweringState) -> str:
    tensor = state.add_tensor("true", DType.BOOL, ())
    state.constants[tensor.name] = np.array(True)
    return tensor.name


def _loop_state(state: LoweringState, name: str) -> str:
    """The tensor that carries a value into an iteration; a slot where its size changes from one to the next."""
    landed = state.landing(name)
    state.land(name, landed)
    return landed.name


def _carried(state: LoweringState, groups: Sequence[tuple[str, str, str]]) -> tuple[tuple[str, str, str], ...]:
    """Copies in an order in which no new value is overwritten before it is copied: a new value that is a state itself
    goes through a tensor of its own."""
    states = {name for _, name, _ in groups}
    result: list[tuple[str, str, str]] = []
    for initial, own, new in groups:
        if new in states and new != own:
            tensor = state.tensors[new]
            copy = state.add_tensor(new, tensor.dtype, tensor.shape, slot=tensor.slot)
            state.items.append(Copy(new, copy.name))
            new = copy.name
        result.append((initial, own, new))
    return tuple(result)


@lowering("Scan", since=9)
def _scan(context: NodeContext) -> None:
    state, body = context.state, _graph(context, "body")
    inputs = context.attribute("num_scan_inputs", 1)
    count = len(context.node.inputs) - inputs
    scanned = context.node.inputs[count:]
    outputs = len(body.outputs) - count
    axes = context.attribute("scan_input_axes", (0,) * inputs)
    reverse = context.attribute("scan_input_directions", (0,) * inputs)
    out_axes = context.attribute("scan_output_axes", (0,) * outputs)
    out_reverse = context.attribute("scan_output_directions", (0,) * outputs)
    sequences = [_leading(state, name, axis) for name, axis in zip(scanned, axes, strict=True)]
    trip = _whole_number(state, state.tensors[sequences[0]].shape[0])
    initials = [state.tensor(name).name for name in context.node.inputs[:count]]
    stacks = [
        _output_stack(state, name, axis) for name, axis in zip(context.node.outputs[count:], out_axes, strict=True)
    ]
    with state.scope(body) as items:
        states = [state.tensor(value.name).name for value in body.inputs[:count]]
        elements = [state.tensor(value.name).name for value in body.inputs[count:]]
        lower_nodes(state, body)
        news = [state.tensor(value.name).name for value in body.outputs[:count]]
        results = [state.tensor(value.name).name for value in body.outputs[count:]]
        carried = _carried(state, list(zip(initials, states, news, strict=True)))
        inner = tuple(items)
    gather = tuple(
        (sequence, element, bool(flag)) for sequence, element, flag in zip(sequences, elements, reverse, strict=True)
    )
    scatter = tuple(
        (element, stack.name, bool(flag))
        for element, stack, flag in zip(results, stacks, out_reverse, strict=True)
        if stack is not None
    )
    state.items.append(Loop(inner, trip, carried=carried, gather=gather, scatter=scatter, source=context.node.source))
    for name, final in zip(context.node.outputs[:count], states, strict=True):
        if name:
            state.items.append(Copy(final, state.tensor(name).name))
    for name, stack, axis in zip(context.node.outputs[count:], stacks, out_axes, strict=True):
        if name and stack is not None and stack.name != state.tensor(name).name:
            _move(state, stack, state.tensor(name), 0, axis % len(stack.shape))


def _leading(state: LoweringState, name: str, axis: int) -> str:
    """A tensor with the scanned axis in front."""
    tensor = state.tensor(name)
    axis %= len(tensor.shape)
    if axis == 0:
        return tensor.name
    shape = (tensor.shape[axis], *tensor.shape[:axis], *tensor.shape[axis + 1 :])
    moved = state.add_tensor(name, tensor.dtype, shape)
    _move(state, tensor, moved, axis, 0)
    return moved.name


def _output_stack(state: LoweringState, name: str, axis: int) -> Tensor | None:
    """Where a scan output's elements are collected, in front."""
    if not name:
        return None
    tensor = state.tensor(name)
    axis %= len(tensor.shape)
    if axis == 0:
        return tensor
    shape = (tensor.shape[axis], *tensor.shape[:axis], *tensor.shape[axis + 1 :])
    return state.add_tensor(name, tensor.dtype, shape)


def _move(state: LoweringState, source: Tensor, target: Tensor, origin: int, place: int) -> None:
    """A stage that moves one axis of a tensor."""
    axes = tuple(Axis(f"i{position}", extent) for position, extent in enumerate(target.shape))
    indices: list[Expr] = [axis.var for axis in axes]
    indices.insert(origin, indices.pop(place))
    state.items.append(Stage(target.name, axes, Read(source.name, tuple(indices), compute_type(source.dtype))))


@lowering("Scan", since=8)
def _scan_8(context: NodeContext) -> None:
    """A scan for every element of the batch, which is axis 0; its length may be less than that of axis 1."""
    state, body, source = context.state, _graph(context, "body"), context.node.source
    inputs = context.attribute("num_scan_inputs", 1)
    given = [state.tensor(name) for name in context.node.inputs[1:]]
    count = len(given) - inputs
    reverse = context.attribute("directions", (0,) * inputs)
    batch, time = given[count].shape[:2]
    slices = [state.add_tensor(tensor.name, tensor.dtype, tensor.shape[1:]) for tensor in given]
    gather = [(whole.name, part.name, False) for whole, part in zip(given, slices, strict=True)]
    if context.has(0):
        length = state.add_tensor("length", DType.INT64, ())
        gather.append((context.name(0), length.name, False))
        trip = length.name
    else:
        trip = _whole_number(state, time)
    with state.scope(body) as items:
        states = [state.tensor(value.name).name for value in body.inputs[:count]]
        elements = [state.tensor(value.name).name for value in body.inputs[count:]]
        lower_nodes(state, body)
        results = [state.tensor(value.name) for value in body.outputs]
        initials = [part.name for part in slices[:count]]
        news = [tensor.name for tensor in results[:count]]
        carried = _carried(state, list(zip(initials, states, news, strict=True)))
        inner = tuple(items)
    stacks = [state.add_tensor("stack", tensor.dtype, (time, *tensor.shape)) for tensor in results[count:]]
    cleared = [Copy(_zeros(state, stack), stack.name) for stack in stacks]
    scan = Loop(
        inner,
        trip,
        carried=carried,
        gather=tuple(
            (part.name, element, bool(flag))
            for part, element, flag in zip(slices[count:], elements, reverse, strict=True)
        ),
        scatter=tuple((tensor.name, stack.name, False) for tensor, stack in zip(results[count:], stacks, strict=True)),
        source=source,
    )
    finals = [*states, *(stack.name for stack in stacks)]
    scatter = tuple(
        (final, state.tensor(name).name, False)
        for final, name in zip(finals, context.node.outputs, strict=True)
        if name
    )
    rows = _whole_number(state, batch)
    state.items.append(Loop((*cleared, scan), rows, gather=tuple(gather), scatter=scatter, source=source))


def _zeros(state: LoweringState, like: Tensor) -> str:
    tensor = state.add_tensor("zeros", like.dtype, like.shape)
    axes = tuple(Axis(f"i{position}", extent) for position, extent in enumerate(like.shape))
    state.items.append(Stage(tensor.name, axes, build.const(0, compute_type(like.dtype))))
    return tensor.name


def _whole_number(state: LoweringState, size: Dim) -> str:
    """A size as an int64 scalar."""
    tensor = state.add_tensor("count", DType.INT64, ())
    state.items.append(Stage(tensor.name, (), cast(DType.INT64, build.dim(size))))
    return tensor.name
