"""Operators on optionals: a value, or None where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.graph import Type
from webdnn_reference.numeric import Array
from webdnn_reference.registry import op


@op("Optional", since=(15, 28))
def optional(input: Any = None, *, type: Type | None = None) -> Any:
    """An optional that holds the input, or an empty one of the element type `type` without an input.

    Raises InvalidModelError if both are missing.
    Spec: https://onnx.ai/onnx/operators/onnx__Optional.html#optional-15
    """
    if input is None and type is None:
        raise InvalidModelError("input, type: expected one of them, got none")
    return input


@op("OptionalHasElement", since=(15, 18, 28))
def optional_has_element(input: Any = None) -> Array:
    """Whether an optional holds a value, as a bool scalar. Since 18 tensors and sequences are held values too.

    Spec: https://onnx.ai/onnx/operators/onnx__OptionalHasElement.html#optionalhaselement-18
    """
    return np.array(input is not None)


@op("OptionalGetElement", since=(15, 18, 28))
def optional_get_element(input: Any) -> Any:
    """The value that an optional holds. Raises InvalidModelError if it holds none.

    Spec: https://onnx.ai/onnx/operators/onnx__OptionalGetElement.html#optionalgetelement-18
    """
    if input is None:
        raise InvalidModelError("input: expected an optional that holds a value, got an empty one")
    return input
