"""Operators that make tensors: Constant, ConstantOfShape, Range, EyeLike, OneHot."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, LimitError, ShapeError
from webdnn_reference.numeric import Array, int_list, is_float, narrow, scalar_int, widen
from webdnn_reference.registry import Context, op


@op("Constant", since=(1, 9))
def constant_1(*, value: Array) -> Array:
    """The tensor in its attribute.

    Spec: https://onnx.ai/onnx/operators/onnx__Constant.html#constant-9
    """
    return value


@op("Constant", since=11)
def constant_11(*, value: Array | None = None, sparse_value: Array | None = None) -> Array:
    """The tensor in its attribute; a sparse one as a dense tensor.

    Spec: https://onnx.ai/onnx/operators/onnx__Constant.html#constant-11
    """
    return constant_12(value=value, sparse_value=sparse_value)


@op("Constant", since=(12, 13, 19, 21, 23, 24, 25))
def constant_12(
    *,
    value: Array | None = None,
    sparse_value: Array | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
    value_string: str | None = None,
    value_strings: Sequence[str] | None = None,
) -> Array:
    """What exactly one of its attributes holds: numbers as float32 or int64, a scalar or a vector.

    Raises InvalidModelError if none or several are given.
    Spec: https://onnx.ai/onnx/operators/onnx__Constant.html#constant-25
    """
    held: list[tuple[Any, Any]] = [
        (value, None),
        (sparse_value, None),
        (value_float, np.float32),
        (value_floats, np.float32),
        (value_int, np.int64),
        (value_ints, np.int64),
        (value_string, object),
        (value_strings, object),
    ]
    given = [(content, dtype) for content, dtype in held if content is not None]
    if len(given) != 1:
        raise InvalidModelError(f"attributes: expected exactly one value, got {len(given)}")
    content, dtype = given[0]
    return np.asarray(content, dtype)


@op("ConstantOfShape", since=(9, 20, 21, 23, 24, 25))
def constant_of_shape(input: Array, *, value: Array | None = None) -> Array:
    """A tensor of the given shape filled with one value; float32 zeros by default. A view of one element.

    input: int64[r], the sizes; value: one element, whose dtype is the result's. Raises ShapeError for negative sizes.
    Spec: https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html#constantofshape-25
    """
    sizes = int_list(input, "input")
    if any(size < 0 for size in sizes):
        raise ShapeError(f"input: expected sizes that are not negative, got {sizes}")
    if math.prod(sizes) > sys.maxsize // 16:
        raise LimitError(f"input: expected results that fit into memory, got sizes {sizes}")
    if value is None:
        return np.broadcast_to(np.float32(0), sizes)
    if value.size != 1:
        raise ShapeError(f"value: expected one element, got shape {list(value.shape)}")
    return np.broadcast_to(value.reshape(()), sizes)


@op("Range", since=11)
def range_11(start: Array, limit: Array, delta: Array, *, context: Context) -> Array:
    """The numbers start, start + delta, ... before `limit`.

    start, limit, delta: scalars of one dtype -> max(ceil((limit - start) / delta), 0) elements.
    Raises ShapeError if delta is zero. Spec: https://onnx.ai/onnx/operators/onnx__Range.html#range-11
    """
    return range_27(start, limit, delta, context=context)


@op("Range", since=27)
def range_27(start: Array, limit: Array, delta: Array, *, stash_type: int = 1, context: Context) -> Array:
    """As since 11, for float16 and bfloat16 too: in float32 if stash_type is 1, else in the type itself.

    Spec: https://onnx.ai/onnx/operators/onnx__Range.html#range-27
    """
    if start.size != 1 or limit.size != 1 or delta.size != 1:
        raise ShapeError(f"inputs: expected scalars, got {list(start.shape)}, {list(limit.shape)}, {list(delta.shape)}")
    first, last, step = (value.reshape(()) for value in (start, limit, delta))
    if stash_type == 1:
        first, last, step = widen(first), widen(last), widen(step)
    elif stash_type != 0:
        raise InvalidModelError(f"stash_type: expected 0 or 1, got {stash_type}")
    if not step:
        raise ShapeError("delta: expected a number other than 0, got 0")
    if not is_float(start):
        count = max(-((int(first) - int(last)) // int(step)), 0)
        values = int(first) + np.arange(count, dtype=np.int64) * int(step)
        return values.astype(start.dtype)
    # The specification divides in float32, and the number of elements hangs on it; the oracle, which holds float32
    # inputs as float64, must find the same number.
    single = context.float64 or start.dtype != np.float64
    kind = np.float32 if single else np.float64
    quotient = narrow(last.astype(kind) - first.astype(kind), kind) / step.astype(kind)
    if not np.isfinite(quotient):
        raise ShapeError(f"start, limit, delta: expected finitely many steps, got {start}, {limit} and {delta}")
    count = max(math.ceil(quotient), 0)
    if count > sys.maxsize // 8:
        raise LimitError(f"start, limit, delta: expected results that fit into memory, got {count} elements")
    steps = np.arange(count).astype(first.dtype)
    return narrow(first + steps * step, start)


@op("EyeLike", since=(9, 22))
def eye_like(input: Array, *, dtype: int | None = None, k: int = 0) -> Array:
    """Ones on the k-th diagonal of a matrix of the input's shape, zeros elsewhere; in the input's dtype by default.

    Raises ShapeError unless the input is a matrix.
    Spec: https://onnx.ai/onnx/operators/onnx__EyeLike.html#eyelike-22
    """
    if input.ndim != 2:
        raise ShapeError(f"input: expected rank 2, got shape {list(input.shape)}")
    kind = input.dtype if dtype is None else DType.from_onnx(dtype).numpy
    return np.eye(input.shape[0], input.shape[1], k=k).astype(kind)


@op("OneHot", since=9)
def one_hot_9(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """As since 11, but negative indices are outside [0, depth) and give the off value throughout.

    Spec: https://onnx.ai/onnx/operators/onnx__OneHot.html#onehot-9
    """
    return _one_hot(indices, depth, values, axis, negative=False)


@op("OneHot", since=(11, 28))
def one_hot_11(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """The on value at each index along a new axis of size `depth`, and the off value elsewhere.

    indices: any number, rank r; depth: one element; values: [off, on] -> rank r + 1 in the dtype of values. Negative
    indices count from the back; those outside [-depth, depth - 1] give the off value throughout.
    Spec: https://onnx.ai/onnx/operators/onnx__OneHot.html#onehot-11
    """
    return _one_hot(indices, depth, values, axis, negative=True)


def _one_hot(indices: Array, depth: Array, values: Array, axis: int, negative: bool) -> Array:
    count = scalar_int(depth, "depth")
    rank = indices.ndim + 1
    if not 0 <= count <= sys.maxsize // 8:
        raise ShapeError(f"depth: expected a size, got {count}")
    if not -rank <= axis < rank:
        raise ShapeError(f"axis: expected one in [{-rank}, {rank - 1}], got {axis}")
    if values.shape != (2,):
        raise ShapeError(f"values: expected shape [2], got {list(values.shape)}")
    at = widen(indices).astype(np.int64)
    if negative:
        at = np.where(at < 0, at + count, at)
    hot = np.expand_dims(at, axis) == np.arange(count).reshape([-1 if i == axis % rank else 1 for i in range(rank)])
    off, on = values
    return np.where(hot, np.asarray(on, values.dtype), np.asarray(off, values.dtype))
