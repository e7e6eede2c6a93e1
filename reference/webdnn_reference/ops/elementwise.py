"""Mathematical functions of one tensor, element by element.

Floats follow IEEE 754: NaN gives NaN, a pole gives an infinity, what is outside the domain gives NaN. Integer inputs,
where a version allows them, wrap (Abs and Neg of the least value give the least value).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from webdnn_reference.erf import erf
from webdnn_reference.numeric import NARROW_FLOATS, Array, in_parts, narrow, widen, widen_integer
from webdnn_reference.registry import op

__all__ = ["bitwise_not", "identity", "is_inf", "is_nan", "logical_not"]

Function: TypeAlias = Callable[[Array], Array]


def _reciprocal(x: Array) -> Array:
    return np.divide(np.ones((), x.dtype), x)


_FUNCTIONS: dict[str, tuple[tuple[int, ...], Function]] = {
    "Abs": ((1, 6, 13), np.abs),
    "Acos": ((7, 22), np.arccos),
    "Acosh": ((9, 22), np.arccosh),
    "Asin": ((7, 22), np.arcsin),
    "Asinh": ((9, 22), np.arcsinh),
    "Atan": ((7, 22), np.arctan),
    "Atanh": ((9, 22), np.arctanh),
    "Ceil": ((1, 6, 13), np.ceil),
    "Cos": ((7, 22), np.cos),
    "Cosh": ((9, 22), np.cosh),
    "Erf": ((9, 13), erf),
    "Exp": ((1, 6, 13), np.exp),
    "Floor": ((1, 6, 13), np.floor),
    "Log": ((1, 6, 13), np.log),
    "Neg": ((1, 6, 13), np.negative),
    "Reciprocal": ((1, 6, 13), _reciprocal),
    "Round": ((11, 22), np.rint),
    "Sign": ((9, 13), np.sign),
    "Sin": ((7, 22), np.sin),
    "Sinh": ((9, 22), np.sinh),
    "Sqrt": ((1, 6, 13), np.sqrt),
    "Tan": ((7, 22), np.tan),
    "Tanh": ((1, 6, 13), np.tanh),
}
"""Operator -> its versions, all of which mean the same, and its function on working-precision arrays.

Round takes halves to the even neighbour. Sign of NaN is NaN and of a zero is that zero. Erf of integers rounds the
real result towards zero. Spec: https://onnx.ai/onnx/operators/ (one page per operator).
"""


_OF_THE_SIGN = frozenset({"Abs", "Neg"})
"""What changes no more than the sign bit of a float needs no wider type."""


def _register(name: str, since: tuple[int, ...], function: Function) -> None:
    exact = name in _OF_THE_SIGN

    @op(name, since=since)
    def unary(x: Array) -> Array:
        if exact or (isinstance(function, np.ufunc) and x.dtype not in NARROW_FLOATS):
            return np.asarray(function(x))
        return in_parts(lambda part: narrow(function(widen(part)), part), x)

    unary.__name__ = unary.__qualname__ = name.lower()
    unary.__doc__ = f"{name} of each element. x: any shape -> same shape and dtype."


for _name, (_since, _function) in _FUNCTIONS.items():
    _register(_name, _since, _function)


@op("IsInf", since=(10, 20))
def is_inf(x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Array:
    """Whether each element is an infinity, of the signs that the attributes ask for.

    x: any float -> bool of the same shape.   Spec: https://onnx.ai/onnx/operators/onnx__IsInf.html#isinf-20
    """
    wide = widen(x)
    result = np.zeros(x.shape, np.bool_)
    if detect_negative:
        result |= wide == -np.inf
    if detect_positive:
        result |= wide == np.inf
    return result


@op("IsNaN", since=(9, 13, 20))
def is_nan(x: Array) -> Array:
    """Whether each element is NaN.

    x: any float -> bool of the same shape.   Spec: https://onnx.ai/onnx/operators/onnx__IsNaN.html#isnan-20
    """
    return np.asarray(np.isnan(widen(x)))


@op("Not", since=1)
def logical_not(x: Array) -> Array:
    """The negation of each element.

    x: bool -> bool of the same shape.   Spec: https://onnx.ai/onnx/operators/onnx__Not.html#not-1
    """
    return np.asarray(np.logical_not(x))


@op("BitwiseNot", since=18)
def bitwise_not(x: Array) -> Array:
    """Each element with all its bits inverted.

    x: any integer -> same shape and dtype.   Spec: https://onnx.ai/onnx/operators/onnx__BitwiseNot.html#bitwisenot-18
    """
    return narrow(np.invert(widen_integer(x)), x)


@op("Identity", since=(1, 13, 14, 16, 19, 21, 23, 24, 25))
def identity(x: Any) -> Any:
    """The value itself: a tensor, a sequence or an optional.

    Spec: https://onnx.ai/onnx/operators/onnx__Identity.html#identity-25
    """
    return x
