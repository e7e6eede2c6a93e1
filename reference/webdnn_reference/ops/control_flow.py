"""If, Loop, Scan and SequenceMap. Their bodies see the values around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_onnx.graph import Graph, TensorType, Value
from webdnn_reference.numeric import Array, axis_of, scalar_int
from webdnn_reference.registry import Context, op

_VERSIONS = (11, 13, 16, 19, 21, 23, 24, 25)


@op("If", since=(1, *_VERSIONS))
def if_(cond: Array, *, then_branch: Graph, else_branch: Graph, context: Context) -> tuple[Any, ...]:
    """The outputs of one branch.

    cond: bool, one element. Raises ShapeError for another size.
    Spec: https://onnx.ai/onnx/operators/onnx__If.html#if-25
    """
    return context.run(then_branch if scalar_int(cond, "cond") else else_branch, ())


@op("Loop", since=(1, *_VERSIONS))
def loop(M: Array | None = None, cond: Array | None = None, *carried: Any, body: Graph, context: Context) -> Any:
    """The values carried through at most M runs of the body while its condition holds, then its stacked outputs.

    body: (iteration, condition, *carried) -> (condition, *carried, *elements); element outputs of all runs are stacked
    along a new first axis. An absent M or cond does not limit.
    Spec: https://onnx.ai/onnx/operators/onnx__Loop.html#loop-25
    """
    count = len(carried)
    if len(body.inputs) != count + 2 or len(body.outputs) <= count:
        raise InvalidModelError(
            f"body: expected {count + 2} inputs and at least {count + 1} outputs, "
            f"got {len(body.inputs)} and {len(body.outputs)}"
        )
    limit = None if M is None else scalar_int(M, "M")
    going = cond is None or bool(scalar_int(cond, "cond"))
    stacks: list[list[Array]] = [[] for _ in body.outputs[count + 1 :]]
    iteration = 0
    while going and (limit is None or iteration < limit):
        counter = _as_declared(np.array(iteration, np.int64), body.inputs[0])
        condition, *results = context.run(body, [counter, _as_declared(np.array(True), body.inputs[1]), *carried])
        carried = tuple(results[:count])
        for stack, element in zip(stacks, results[count:], strict=True):
            stack.append(element)
        going = bool(scalar_int(condition, "condition of the body"))
        iteration += 1
    return (*carried, *map(_stacked, stacks, body.outputs[count + 1 :]))


@op("Scan", since=8)
def scan_8(
    sequence_lens: Array | None,
    *inputs: Array,
    body: Graph,
    num_scan_inputs: int,
    directions: Sequence[int] | None = None,
    context: Context,
) -> tuple[Array, ...]:
    """As since 9, for each element of a batch: batch is axis 0 of every input and output, time is axis 1.

    sequence_lens: int64[batch], how many steps each element has; later steps of the scan outputs are zero.
    Spec: https://onnx.ai/onnx/operators/onnx__Scan.html#scan-8
    """
    states = len(inputs) - num_scan_inputs
    if not 0 <= states < len(inputs):
        raise InvalidModelError(f"num_scan_inputs: expected one in [1, {len(inputs)}], got {num_scan_inputs}")
    if inputs[states].ndim < 2 or any(value.shape[:1] != inputs[states].shape[:1] for value in inputs):
        got = ", ".join(str(list(value.shape)) for value in inputs)
        raise ShapeError(f"inputs: expected states [batch, ...] and scan inputs [batch, time, ...], got {got}")
    batch, longest = inputs[states].shape[:2]
    lengths = [longest] * batch if sequence_lens is None else sequence_lens.tolist()
    if len(lengths) != batch or any(not 0 <= length <= longest for length in lengths):
        raise ShapeError(f"sequence_lens: expected {batch} lengths in [0, {longest}], got {lengths}")
    rows: list[tuple[Array, ...]] = []
    for element, length in enumerate(lengths):
        cut = [value[element][:length] if index >= states else value[element] for index, value in enumerate(inputs)]
        results = scan_9(
            *cut,
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
            context=context,
        )
        missing = longest - length
        rows.append(
            tuple(
                np.concatenate([result, np.zeros((missing, *result.shape[1:]), result.dtype)])
                if index >= states and missing
                else result
                for index, result in enumerate(results)
            )
        )
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


@op("Scan", since=(9, *_VERSIONS))
def scan_9(
    *inputs: Array,
    body: Graph,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
    context: Context,
) -> tuple[Array, ...]:
    """The states carried through one run of the body per slice of the scan inputs, then stacks of its other outputs.

    inputs: states, then `num_scan_inputs` tensors that are cut along their axes, backwards where the direction is 1.
    Raises ShapeError if the scan inputs have different lengths.
    Spec: https://onnx.ai/onnx/operators/onnx__Scan.html#scan-25
    """
    count = len(inputs) - num_scan_inputs
    if count < 0 or len(body.inputs) != len(inputs) or len(body.outputs) < count:
        raise InvalidModelError(
            f"body: expected {len(inputs)} inputs and at least {max(count, 0)} outputs, "
            f"got {len(body.inputs)} and {len(body.outputs)}"
        )
    states: Sequence[Any] = inputs[:count]
    lines = [
        _line(value, axis, direction)
        for value, axis, direction in zip(
            inputs[count:],
            _list(scan_input_axes, num_scan_inputs, "scan_input_axes"),
            _list(scan_input_directions, num_scan_inputs, "scan_input_directions"),
            strict=True,
        )
    ]
    lengths = {line.shape[0] for line in lines}
    if len(lengths) != 1:
        raise ShapeError(f"scan inputs: expected one length along their axes, got {sorted(lengths)}")
    stacks: list[list[Array]] = [[] for _ in body.outputs[count:]]
    for step in range(lengths.pop()):
        results = context.run(body, [*states, *(line[step] for line in lines)])
        states = results[:count]
        for stack, element in zip(stacks, results[count:], strict=True):
            stack.append(element)
    outputs: list[Array] = []
    axes = _list(scan_output_axes, len(stacks), "scan_output_axes")
    ways = _list(scan_output_directions, len(stacks), "scan_output_directions")
    for stack, declared, axis, direction in zip(stacks, body.outputs[count:], axes, ways, strict=True):
        whole = _stacked(stack[::-1] if direction else stack, declared)
        outputs.append(np.moveaxis(whole, 0, axis_of(axis, whole.ndim, "scan_output_axes")))
    return (*states, *outputs)


@op("SequenceMap", since=17)
def sequence_map(
    input_sequence: Sequence[Any], *additional: Any, body: Graph, context: Context
) -> tuple[list[Any], ...]:
    """For each output of the body, the sequence of its values over the elements of the input sequences.

    additional: sequences of the same length, of which the body sees one element at a time, or tensors, which it sees
    whole. Raises ShapeError for another length.
    Spec: https://onnx.ai/onnx/operators/onnx__SequenceMap.html#sequencemap-17
    """
    count = len(input_sequence)
    for other in additional:
        if isinstance(other, list) and len(other) != count:
            raise ShapeError(f"sequences: expected {count} elements as in the first, got {len(other)}")
    found: list[list[Any]] = [[] for _ in body.outputs]
    for index, element in enumerate(input_sequence):
        others = [other[index] if isinstance(other, list) else other for other in additional]
        for sequence, value in zip(found, context.run(body, [element, *others]), strict=True):
            sequence.append(value)
    return tuple(found)


def _line(value: Array, axis: int, direction: int) -> Array:
    """The scanned axis in front, in the order of the scan."""
    line = np.moveaxis(value, axis_of(axis, value.ndim, "scan_input_axes"), 0)
    return line[::-1] if direction else line


def _list(given: Sequence[int] | None, count: int, what: str) -> Sequence[int]:
    if given is None:
        return [0] * count
    if len(given) != count:
        raise InvalidModelError(f"{what}: expected {count} values, got {len(given)}")
    return given


def _stacked(elements: Sequence[Array], declared: Value) -> Array:
    """The elements along a new first axis; without any, an empty tensor as far as the body declares its shape."""
    if elements:
        shapes = {element.shape for element in elements}
        if len(shapes) > 1:
            raise ShapeError(
                f"output '{declared.name}' of the body: expected one shape, got {sorted(map(list, shapes))}"
            )
        return np.stack(elements)
    if not isinstance(declared.type, TensorType):
        return np.zeros(0, np.float32)
    sizes = [size if isinstance(size, int) else 0 for size in declared.type.shape or ()]
    return np.zeros([0, *sizes], declared.type.dtype.numpy)


def _as_declared(scalar: Array, declared: Value) -> Array:
    """A scalar with the rank that the body declares for it; older exporters write vectors of one element."""
    if isinstance(declared.type, TensorType) and declared.type.shape is not None:
        return scalar.reshape((1,) * len(declared.type.shape))
    return scalar
