"""If, Loop, Scan and SequenceMap: the types of what nested graphs give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_onnx.graph import Graph, OptionalType, SequenceType, TensorType, Type
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import rule
from webdnn_onnx.infer.scope import Scope
from webdnn_onnx.symbolic import Dim, symbol

__all__ = ["merge", "merge_inexact"]

_ROUNDS = 8


def merge_inexact(left: Type | None, right: Type | None) -> Type | None:
    """The type of a value that has one of two types; where they disagree on a size, the shape is unknown."""
    return merge(left, right, lambda _: None)


def merge(left: Type | None, right: Type | None, fresh: Callable[[int], Dim | None]) -> Type | None:
    """The type of a value that has one of two types; a dimension that differs is `fresh(axis)`."""
    if left is None or right is None or left == right:
        return left if left == right else None
    if isinstance(left, OptionalType) != isinstance(right, OptionalType):
        left, right = (kind.element if isinstance(kind, OptionalType) else kind for kind in (left, right))
        inner = merge(left, right, fresh)
        return inner and OptionalType(inner)
    if isinstance(left, OptionalType) and isinstance(right, OptionalType):
        inner = merge(left.element, right.element, fresh)
        return inner and OptionalType(inner)
    if isinstance(left, SequenceType) and isinstance(right, SequenceType):
        inner = merge_inexact(left.element, right.element)
        return inner and SequenceType(inner)
    if not isinstance(left, TensorType) or not isinstance(right, TensorType) or left.dtype is not right.dtype:
        return None
    if left.shape is None or right.shape is None or len(left.shape) != len(right.shape):
        return TensorType(left.dtype, None)
    dims: list[Dim] = []
    for axis, (one, other) in enumerate(zip(left.shape, right.shape, strict=True)):
        dim = one if one == other else fresh(axis)
        if dim is None:
            return TensorType(left.dtype, None)
        dims.append(dim)
    return TensorType(left.dtype, tuple(dims))


def _outside(kind: Type | None, scope: Scope, call: Call, output: int, shift: int = 0) -> Type | None:
    """A nested graph's output type in terms of the symbols that mean something outside it.

    shift: how many axes the node's output has in front of those of the graph's.
    """
    if isinstance(kind, TensorType) and kind.shape is not None:
        shape = tuple(
            dim if scope.is_visible_outside(dim) else call.fresh(axis, output)
            for axis, dim in enumerate(kind.shape, start=shift)
        )
        return TensorType(kind.dtype, shape)
    if isinstance(kind, SequenceType | OptionalType):
        element = kind.element
        if isinstance(element, TensorType) and not all(map(scope.is_visible_outside, element.shape or ())):
            return type(kind)(TensorType(element.dtype, None))
    return kind


@rule("If")
def if_(call: Call) -> Sequence[Type | None]:
    """What both branches agree on; a dimension in which they differ is known once the branch has run.

    A branch that contradicts the sizes around it cannot be taken with them: the other one then decides, and this one
    becomes a graph without outputs whose name says why.
    """
    branches: list[list[Type | None]] = []
    known = call.known(0)
    condition = known[0] if known is not None and len(known) == 1 else None
    errors: list[ShapeError] = []
    for name, taken in (("then_branch", 1), ("else_branch", 0)):
        graph = call.attribute(name)
        if not isinstance(graph, Graph):
            raise call.dtype_error(f"attribute '{name}'", "a graph", "none")
        try:
            inferred, scope = call.nested(graph, call.scope, (), ())
        except ShapeError as error:
            errors.append(error)
            call.graphs[name] = replace(graph, nodes=(), outputs=(), name=str(error))
            continue
        call.graphs[name] = inferred
        types = [_outside(value.type, scope, call, index) for index, value in enumerate(inferred.outputs)]
        if not isinstance(condition, int) or bool(condition) == bool(taken):
            branches.append(types)
    if not branches:
        raise errors[0]
    if len(branches) == 1:
        return branches[0]
    merged = [
        merge(then, otherwise, partial(call.fresh, output=index))
        for index, (then, otherwise) in enumerate(zip(*branches, strict=False))
    ]
    for name, kind in zip(call.node.outputs, merged, strict=False):
        if isinstance(kind, TensorType) and kind.shape is None:
            call.scope.forget_sizes(name)
    return merged


@rule("Loop")
def loop(call: Call) -> Sequence[Type | None]:
    """The carried values in types that hold in every iteration, then the stacked outputs of all iterations."""
    body = _body(call)
    carried: list[Type | None] = [call.type(index) for index in range(2, call.count)]
    count = len(carried)
    steps: list[Type | None] = [TensorType(DType.INT64, ()), TensorType(DType.BOOL, ())]
    names = [value.name for value in body.inputs]
    inferred, scope = call.nested(body, call.scope, [*steps, *carried], ())
    for _ in range(_ROUNDS):
        after = [value.type for value in inferred.outputs[1 : 1 + count]]
        widened = _widen(carried, after, names[2:])
        if widened == carried:
            break
        carried = widened
        inferred, scope = call.nested(body, call.scope, [*steps, *carried], ())
    call.graphs["body"] = inferred
    finals = [_outside(kind, scope, call, index) for index, kind in enumerate(carried)]
    trips = _trips(call, inferred)
    stacked: list[Type | None] = []
    for index, value in enumerate(inferred.outputs[1 + count :], start=count):
        inside = _outside(value.type, scope, call, index, shift=1)
        if isinstance(inside, TensorType) and inside.shape is not None:
            first = call.fresh(0, index) if trips is None else trips
            inside = TensorType(inside.dtype, (first, *inside.shape))
        stacked.append(inside)
    return [*finals, *stacked]


def _body(call: Call) -> Graph:
    body = call.attribute("body")
    if not isinstance(body, Graph):
        raise call.dtype_error("attribute 'body'", "a graph", "none")
    return body


def _trips(call: Call, body: Graph) -> Dim | None:
    """How often the body runs, if its condition can never end it early."""
    limit = call.known(0) if call.has(0) else None
    entered = call.known(1) if call.has(1) else (1,)
    condition = body.outputs[0].name
    producers = body.producers()
    while condition in producers and producers[condition].op == "Identity":
        condition = producers[condition].inputs[0]
    given = condition == body.inputs[1].name
    constant = condition in body.constants and bool(body.constants[condition].reshape(-1)[0])
    if limit is None or entered is None or limit[0] is None or entered[0] != 1 or not (given or constant):
        return None
    bound = limit[0]
    return max(bound, 0) if isinstance(bound, int) else bound


def _widen(before: list[Type | None], after: list[Type | None], names: list[str]) -> list[Type | None]:
    """Types that an iteration keeps, or nearer to it: a size that changes is a symbol of the body's input."""
    result: list[Type | None] = []
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        if isinstance(one, SequenceType) and isinstance(other, SequenceType):
            result.append(
                one if one == other else SequenceType(merge_inexact(one.element, other.element) or one.element)
            )
        else:
            result.append(merge(one, other, partial(_body_dim, names[index])))
    return result


def _body_dim(name: str, axis: int) -> Dim:
    return symbol(f"{name}.dim{axis}")


@rule("Scan", since=8)
def scan_8(call: Call) -> Sequence[Type | None]:
    """States and scanned tensors have a batch axis in front; input 0 is the optional sequence lengths."""
    body = _body(call)
    scanned = call.number("num_scan_inputs", 0)
    count = call.count - 1 - scanned
    states = [call.type(1 + index) for index in range(count)]
    inputs = [_drop_axes(state, (0,)) for state in states]
    inputs += [_drop_axes(call.type(1 + index), (0, 1)) for index in range(count, count + scanned)]
    inferred, scope = call.nested(body, call.scope, inputs, ())
    call.graphs["body"] = inferred
    batch = sequence = None
    first = call.type(1 + count)
    if isinstance(first, TensorType) and first.shape is not None:
        batch, sequence = first.shape[0], first.shape[1]
    outputs: list[Type | None] = list(states)
    for index, value in enumerate(inferred.outputs[count:], start=count):
        kind = _outside(value.type, scope, call, index)
        if isinstance(kind, TensorType) and kind.shape is not None and batch is not None and sequence is not None:
            kind = TensorType(kind.dtype, (batch, sequence, *kind.shape))
        outputs.append(kind)
    return outputs


@rule("Scan", since=9)
def scan(call: Call) -> Sequence[Type | None]:
    """The states as they came, then the outputs of all steps stacked along their axes."""
    body = _body(call)
    scanned = call.number("num_scan_inputs", 0)
    count = call.count - scanned
    axes = call.numbers("scan_input_axes") or (0,) * scanned
    states = [call.type(index) for index in range(count)]
    length: Dim | None = None
    inputs = list(states)
    for position in range(scanned):
        kind = call.type(count + position)
        if isinstance(kind, TensorType) and kind.shape is not None:
            axis = call.axis(axes[position], len(kind.shape), "scan_input_axes")
            size = kind.shape[axis]
            if length is not None:
                call.expect_equal("scanned length", length, size)
            length = size if length is None or isinstance(size, int) else length
            kind = _drop_axes(kind, (axis,))
        inputs.append(kind)
    inferred, scope = call.nested(body, call.scope, inputs, ())
    call.graphs["body"] = inferred
    outputs: list[Type | None] = list(states)
    directions = call.numbers("scan_output_axes")
    for index, value in enumerate(inferred.outputs[count:]):
        kind = _outside(value.type, scope, call, count + index)
        if isinstance(kind, TensorType) and kind.shape is not None and length is not None:
            axis = directions[index] if directions is not None else 0
            axis = call.axis(axis, len(kind.shape) + 1, "scan_output_axes")
            kind = TensorType(kind.dtype, (*kind.shape[:axis], length, *kind.shape[axis:]))
        outputs.append(kind)
    return outputs


def _drop_axes(kind: Type | None, axes: tuple[int, ...]) -> Type | None:
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    return TensorType(kind.dtype, tuple(dim for axis, dim in enumerate(kind.shape) if axis not in axes))


@rule("SequenceMap")
def sequence_map(call: Call) -> Sequence[Type | None]:
    """Sequences of what the body gives for one element of each."""
    body = _body(call)
    inputs: list[Type | None] = []
    for index in range(call.count):
        kind = call.type(index)
        inputs.append(_element(kind.element, body.inputs[index].name) if isinstance(kind, SequenceType) else kind)
    inferred, scope = call.nested(body, call.scope, inputs, ())
    call.graphs["body"] = inferred
    outputs: list[Type | None] = []
    for value in inferred.outputs:
        kind = value.type
        if isinstance(kind, TensorType) and not all(map(scope.is_visible_outside, kind.shape or ())):
            kind = TensorType(kind.dtype, None)
        outputs.append(None if kind is None else SequenceType(kind))
    return outputs


def _element(kind: Type, name: str) -> Type:
    """The type of a body's input that takes one element after the other: sizes that are no numbers are its own."""
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    shape = tuple(dim if isinstance(dim, int) else _body_dim(name, axis) for axis, dim in enumerate(kind.shape))
    return TensorType(kind.dtype, shape)
