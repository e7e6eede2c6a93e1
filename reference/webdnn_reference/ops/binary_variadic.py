"""Max, Min, Sum and Mean of any number of tensors, and Where.

Before opset 8 all inputs have one shape; later they broadcast. Max and Min give NaN where an input is NaN. Narrow
floats are summed in float32 and rounded once.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, broadcast, narrow, widen
from webdnn_reference.registry import op

__all__ = ["maximum_1", "maximum_8", "mean_1", "mean_8", "minimum_1", "minimum_8", "sum_1", "sum_8", "where"]


def _operands(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    if not inputs:
        raise InvalidModelError("inputs: expected at least one, got none")
    return broadcast(*(widen(x) for x in inputs))


def _equal_operands(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    for index, x in enumerate(inputs):
        if x.shape != inputs[0].shape:
            raise ShapeError(
                f"input {index}: expected the shape of input 0, {list(inputs[0].shape)}, got {list(x.shape)}; "
                "inputs broadcast from opset 8 on"
            )
    return _operands(inputs)


@op("Max", since=(1, 6))
def maximum_1(*data: Array) -> Array:
    """The greatest of the inputs, element by element.

    data: float, of one shape and dtype -> that shape and dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Max.html#max-6
    """
    return narrow(reduce(np.maximum, _equal_operands(data)), data[0])


@op("Max", since=(8, 12, 13))
def maximum_8(*data: Array) -> Array:
    """The greatest of the inputs, element by element.

    data: any number, of one dtype, broadcast -> that dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Max.html#max-13
    """
    return narrow(reduce(np.maximum, _operands(data)), data[0])


@op("Min", since=(1, 6))
def minimum_1(*data: Array) -> Array:
    """The least of the inputs, element by element.

    data: float, of one shape and dtype -> that shape and dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Min.html#min-6
    """
    return narrow(reduce(np.minimum, _equal_operands(data)), data[0])


@op("Min", since=(8, 12, 13))
def minimum_8(*data: Array) -> Array:
    """The least of the inputs, element by element.

    data: any number, of one dtype, broadcast -> that dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Min.html#min-13
    """
    return narrow(reduce(np.minimum, _operands(data)), data[0])


@op("Sum", since=(1, 6))
def sum_1(*data: Array) -> Array:
    """The sum of the inputs, element by element.

    data: float, of one shape and dtype -> that shape and dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Sum.html#sum-6
    """
    return narrow(reduce(np.add, _equal_operands(data)), data[0])


@op("Sum", since=(8, 13))
def sum_8(*data: Array) -> Array:
    """The sum of the inputs, element by element.

    data: float, of one dtype, broadcast -> that dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Sum.html#sum-13
    """
    return narrow(reduce(np.add, _operands(data)), data[0])


@op("Mean", since=(1, 6))
def mean_1(*data: Array) -> Array:
    """The mean of the inputs, element by element.

    data: float, of one shape and dtype -> that shape and dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Mean.html#mean-6
    """
    return narrow(reduce(np.add, _equal_operands(data)) / len(data), data[0])


@op("Mean", since=(8, 13))
def mean_8(*data: Array) -> Array:
    """The mean of the inputs, element by element.

    data: float, of one dtype, broadcast -> that dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Mean.html#mean-13
    """
    return narrow(reduce(np.add, _operands(data)) / len(data), data[0])


@op("Where", since=(9, 16))
def where(condition: Array, X: Array, Y: Array) -> Array:
    """X where the condition holds, Y elsewhere.

    condition: bool; X, Y: any type, of one dtype; all broadcast -> that dtype.
    Spec: https://onnx.ai/onnx/operators/onnx__Where.html#where-16
    """
    condition, X, Y = broadcast(condition, X, Y)
    return narrow(np.where(condition, X, Y), X)
