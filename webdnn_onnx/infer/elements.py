"""Operators on small tensors of integers whose elements are dimensions: the shape arithmetic that exporters write.

An element is None where it is not known. Float tensors take part while every element is an integer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call, UnknownRankError
from webdnn_onnx.infer.registry import Elements, element_rule
from webdnn_onnx.symbolic import Dim, equal, less, lower_bound, maximum, minimum, product, select

__all__: list[str] = []

Results = list[Elements | None]


def _fixed(shape: Shape) -> tuple[int, ...]:
    """The shape, if it is all numbers; otherwise the rule ends without a result."""
    fixed = tuple(dim for dim in shape if isinstance(dim, int))
    if len(fixed) != len(shape):
        raise UnknownRankError
    return fixed


def _indices(shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape)


def _input_shape(call: Call, index: int) -> tuple[int, ...]:
    return _fixed(call.shape(index))


def _take(elements: Elements, positions: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Elements:
    return tuple(elements[int(position)] for position in positions.reshape(-1))


@element_rule("Shape")
def shape_of(call: Call, shapes: Sequence[Shape]) -> Results:
    """The input's dimensions."""
    del shapes
    shape = call.shape(0)
    first, last, _ = slice(call.number("start", 0), call.number("end", len(shape))).indices(len(shape))
    return [shape[first : max(last, first)]]


@element_rule("Size")
def size(call: Call, shapes: Sequence[Shape]) -> Results:
    """Their product."""
    del shapes
    return [(product(call.shape(0)),)]


@element_rule(("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"))
def unchanged(call: Call, shapes: Sequence[Shape]) -> Results:
    """The same elements in the same order."""
    del shapes
    return [call.known(0)]


@element_rule("Dropout")
def dropout(call: Call, shapes: Sequence[Shape]) -> Results:
    """The same elements, unless it may train."""
    del shapes
    return [None if call.has(2) else call.known(0)]


@element_rule(("Cast", "CastLike"))
def cast(call: Call, shapes: Sequence[Shape]) -> Results:
    """The same elements; as booleans, whether they are not 0."""
    del shapes
    known = call.known(0)
    target = call.scope.type(call.node.output(0))
    dtype = getattr(target, "dtype", None)
    if known is None or dtype is None:
        return [None]
    if dtype is DType.BOOL:
        return [tuple(None if item is None else 1 - equal(item, 0) for item in known)]
    if dtype.is_integer and dtype not in (DType.INT64, DType.INT32):
        low, high = (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1)) if dtype.is_signed_integer else (0, 2**dtype.bits)
        return [tuple(item if isinstance(item, int) and low <= item < high else None for item in known)]
    return [known]


@element_rule(("Floor", "Ceil", "Round"))
def rounding(call: Call, shapes: Sequence[Shape]) -> Results:
    """Integers stay what they are."""
    del shapes
    return [call.known(0)]


@element_rule("Neg")
def negation(call: Call, shapes: Sequence[Shape]) -> Results:
    """Each element negated."""
    del shapes
    known = call.known(0)
    return [None if known is None else tuple(None if item is None else -item for item in known)]


@element_rule("Abs")
def absolute(call: Call, shapes: Sequence[Shape]) -> Results:
    """max(x, -x)."""
    del shapes
    known = call.known(0)
    return [None if known is None else tuple(None if item is None else maximum(item, -item) for item in known)]


@element_rule("Not")
def negated_condition(call: Call, shapes: Sequence[Shape]) -> Results:
    """1 - x."""
    del shapes
    known = call.known(0)
    return [None if known is None else tuple(None if item is None else 1 - item for item in known)]


def _divide(left: Dim, right: Dim, call: Call) -> Dim | None:
    """Integer division truncates, which equals flooring where neither is negative; float division must be exact."""
    if right == 0:
        return None
    quotient = left // right
    if call.dtype(0).is_float:
        return quotient if quotient * right == left else None
    if isinstance(left, int) and isinstance(right, int):
        return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    if quotient * right == left:
        return quotient
    return quotient if _not_negative(left) and _not_negative(right) else None


def _not_negative(dim: Dim) -> bool:
    return lower_bound(dim) >= 0


def _remainder(left: Dim, right: Dim, call: Call) -> Dim | None:
    if right == 0:
        return None
    if call.number("fmod", 0) and not (_not_negative(left) and _not_negative(right)):
        return None
    if isinstance(left, int) and not isinstance(right, int):
        return right.__rmod__(left)
    return left % right


def _power(left: Dim, right: Dim, call: Call) -> Dim | None:
    del call
    if isinstance(right, int) and 0 <= right <= 8:
        return product([left] * right)
    return None


def _both(left: Dim, right: Dim, call: Call) -> Dim:
    del call
    return left * right


def _either(left: Dim, right: Dim, call: Call) -> Dim:
    del call
    return left + right - left * right


_BINARY: dict[str, Callable[[Dim, Dim, Call], Dim | None]] = {
    "Add": lambda left, right, _: left + right,
    "Sub": lambda left, right, _: left - right,
    "Mul": lambda left, right, _: left * right,
    "Div": _divide,
    "Mod": _remainder,
    "Pow": _power,
    "Min": lambda left, right, _: minimum(left, right),
    "Max": lambda left, right, _: maximum(left, right),
    "Sum": lambda left, right, _: left + right,
    "And": _both,
    "Or": _either,
    "Xor": lambda left, right, _: left + right - 2 * left * right,
    "Equal": lambda left, right, _: equal(left, right),
    "Less": lambda left, right, _: less(left, right),
    "Greater": lambda left, right, _: less(right, left),
    "LessOrEqual": lambda left, right, _: 1 - less(right, left),
    "GreaterOrEqual": lambda left, right, _: 1 - less(left, right),
}


def _spread(call: Call, index: int, shape: tuple[int, ...]) -> Elements | None:
    """An input's elements broadcast to a shape."""
    known = call.known(index)
    if known is None:
        return None
    return _take(known, np.broadcast_to(_indices(_input_shape(call, index)), shape))


@element_rule(tuple(_BINARY))
def arithmetic(call: Call, shapes: Sequence[Shape]) -> Results:
    """Element by element, with broadcasting; from the left for more than two inputs."""
    shape = _fixed(shapes[0])
    function = _BINARY[call.node.op]
    result = _spread(call, 0, shape)
    for index in range(1, call.count):
        other = _spread(call, index, shape)
        if result is None or other is None:
            return [None]
        result = tuple(
            None if left is None or right is None else function(left, right, call)
            for left, right in zip(result, other, strict=True)
        )
    return [result]


@element_rule("Where")
def where(call: Call, shapes: Sequence[Shape]) -> Results:
    """X where the condition holds, else Y."""
    shape = _fixed(shapes[0])
    condition = _spread(call, 0, shape)
    if condition is None:
        return [None]
    nothing: Elements = (None,) * len(condition)
    true, false = _spread(call, 1, shape) or nothing, _spread(call, 2, shape) or nothing
    return [tuple(_choose(*choice) for choice in zip(condition, true, false, strict=True))]


def _choose(condition: Dim | None, true: Dim | None, false: Dim | None) -> Dim | None:
    if condition == 1:
        return true
    if condition == 0:
        return false
    return None if condition is None or true is None or false is None else select(condition, true, false)


@element_rule("Gather")
def gather(call: Call, shapes: Sequence[Shape]) -> Results:
    """The elements at constant indices."""
    del shapes
    known, indices = call.known(0), call.integers(1)
    if known is None or indices is None:
        return [None]
    shape = _input_shape(call, 0)
    axis = call.axis(call.number("axis", 0), len(shape))
    wanted = np.asarray(indices, np.int64).reshape(_input_shape(call, 1))
    outside = (wanted < -shape[axis]) | (wanted >= shape[axis])
    if outside.any():
        raise call.shape_error("indices", f"within [{-shape[axis]}, {shape[axis] - 1}]", str(wanted[outside][0]))
    return [_take(known, np.take(_indices(shape), wanted, axis=axis))]


@element_rule("Slice")
def slice_of(call: Call, shapes: Sequence[Shape]) -> Results:
    """The elements within constant bounds."""
    known = call.known(0)
    shape = _input_shape(call, 0)
    starts = call.numbers("starts") or call.integers(1)
    ends = call.numbers("ends") or call.integers(2)
    if known is None or starts is None or ends is None:
        return [None]
    axes = call.numbers("axes") or (call.integers(3) if call.has(3) else tuple(range(len(starts))))
    steps = call.integers(4) if call.has(4) else (1,) * len(starts)
    if axes is None or steps is None:
        return [None]
    ranges = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = shape[axis]
        # Python reads a negative end as counted from the back again; one before the front means "to the front".
        stop = None if step < 0 and end < -size else end
        ranges[axis] = slice(start, stop, step)
    taken = _indices(shape)[tuple(ranges)]
    return [_take(known, taken) if taken.size == product(shapes[0]) else None]


@element_rule("Concat")
def concat(call: Call, shapes: Sequence[Shape]) -> Results:
    """All inputs' elements; unknown ones stay unknown."""
    parts: list[np.ndarray[tuple[int, ...], np.dtype[np.object_]]] = []
    for index in range(call.count):
        shape = _input_shape(call, index)
        part = np.empty(int(np.prod(shape, dtype=np.int64)), dtype=object)
        known = call.known(index)
        if known is not None:
            part[:] = known
        parts.append(part.reshape(shape))
    axis = call.axis(call.number("axis", 1), len(shapes[0]))
    return [tuple(np.concatenate(parts, axis=axis).reshape(-1))]


@element_rule("Split")
def split(call: Call, shapes: Sequence[Shape]) -> Results:
    """Each part's elements."""
    known = call.known(0)
    if known is None:
        return []
    shape = _input_shape(call, 0)
    axis = call.axis(call.number("axis", 0), len(shape))
    sizes = [_fixed(part)[axis] for part in shapes]
    ends = list(itertools.accumulate(sizes))
    return [_take(known, part) for part in np.split(_indices(shape), ends[:-1], axis=axis)]


@element_rule("Transpose")
def transpose(call: Call, shapes: Sequence[Shape]) -> Results:
    """The elements in the new order."""
    del shapes
    known = call.known(0)
    return [None if known is None else _take(known, _indices(_input_shape(call, 0)).transpose(call.numbers("perm")))]


@element_rule("Expand")
def expand(call: Call, shapes: Sequence[Shape]) -> Results:
    """The elements broadcast."""
    return [_spread(call, 0, _fixed(shapes[0]))]


@element_rule("Tile", since=6)
def tile(call: Call, shapes: Sequence[Shape]) -> Results:
    """The elements repeated."""
    del shapes
    known, repeats = call.known(0), call.integers(1)
    if known is None or repeats is None:
        return [None]
    return [_take(known, np.tile(_indices(_input_shape(call, 0)), repeats))]


@element_rule("ConstantOfShape")
def constant_of_shape(call: Call, shapes: Sequence[Shape]) -> Results:
    """One number everywhere; 0 where no value is given."""
    count = product(shapes[0])
    assert isinstance(count, int), "an element rule is called with shapes of numbers"
    value = call.attribute("value")
    fill: Dim = 0
    if isinstance(value, np.ndarray):
        number = value.reshape(-1)[0]
        if float(number) != int(number):
            return [None]
        fill = int(number)
    return [(fill,) * count]


@element_rule("Range")
def range_(call: Call, shapes: Sequence[Shape]) -> Results:
    """start, start + delta, ..."""
    start, delta = call.known(0), call.known(2)
    count = product(shapes[0])
    if start is None or delta is None or start[0] is None or delta[0] is None or not isinstance(count, int):
        return [None]
    return [tuple(start[0] + delta[0] * index for index in range(count))]


_REDUCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "ReduceProd": lambda left, right: left * right,
    "ReduceSum": lambda left, right: left + right,
    "ReduceMax": maximum,
    "ReduceMin": minimum,
}


@element_rule(tuple(_REDUCTIONS))
def reduction(call: Call, shapes: Sequence[Shape]) -> Results:
    """All elements combined, where all axes are reduced."""
    known = call.known(0)
    if known is None or not known or product(shapes[0]) != 1 or product(call.shape(0)) == 1:
        return [known if known is not None and len(known) == 1 else None]
    result = known[0]
    for element in known[1:]:
        if result is None or element is None:
            return [None]
        result = _REDUCTIONS[call.node.op](result, element)
    return [(result,)]


@element_rule("NonZero")
def non_zero(call: Call, shapes: Sequence[Shape]) -> Results:
    """The positions of elements that are known not to be 0."""
    known = call.integers(0)
    if known is None:
        return [None]
    positions = np.stack(np.nonzero(np.asarray(known).reshape(_input_shape(call, 0))))
    return [tuple(int(position) for position in positions.reshape(-1)) if shapes[0] == positions.shape else None]
