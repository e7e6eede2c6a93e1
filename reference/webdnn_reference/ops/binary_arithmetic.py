"""Arithmetic of two tensors: Add, Sub, Mul, Div, Mod, Pow and BitShift.

Integers wrap. Integer division truncates towards zero; dividing an integer by zero gives 0 (the specification leaves
it open). Before opset 7 the second operand is broadcast by attribute, later by NumPy's rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from webdnn_onnx.errors import InvalidModelError
from webdnn_reference.numeric import Array, broadcast, broadcastable, in_parts, is_float, narrow, widen
from webdnn_reference.ops.binary_legacy import legacy_operand
from webdnn_reference.registry import op

__all__ = ["bit_shift", "mod_10", "mod_28", "pow_1", "pow_7"]

_SMALL_POWERS = frozenset({2, 3, 4})

Function: TypeAlias = Callable[[Array, Array], Array]


def _divide(a: Array, b: Array) -> Array:
    if is_float(a):
        return np.asarray(np.divide(a, b))
    floor, remainder = np.floor_divide(a, b), np.remainder(a, b)
    return np.asarray(floor + ((remainder != 0) & ((a < 0) != (b < 0))).astype(a.dtype))


_FUNCTIONS: dict[str, Function] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide}
"""Operator -> its function on two arrays of one working-precision dtype; all have versions 1, 6, 7, 13 and 14.

Spec: https://onnx.ai/onnx/operators/ (one page per operator).
"""


def _register(name: str, function: Function) -> None:
    @op(name, since=(1, 6))
    def legacy(A: Array, B: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
        return narrow(function(widen(A), widen(legacy_operand(A, B, broadcast, axis))), A)

    @op(name, since=(7, 13, 14))
    def arithmetic(A: Array, B: Array) -> Array:
        a, b = broadcast_operands(A, B)
        return narrow(function(a, b), A)

    legacy.__name__ = legacy.__qualname__ = f"{name.lower()}_1"
    legacy.__doc__ = f"{name} of a tensor and one that `broadcast` and `axis` fit to it, before opset 7."
    arithmetic.__name__ = arithmetic.__qualname__ = f"{name.lower()}_7"
    arithmetic.__doc__ = f"{name} of two tensors of one dtype, broadcast -> that dtype."


def broadcast_operands(A: Array, B: Array) -> tuple[Array, Array]:
    """Both operands in working precision. Raises ShapeError if they do not broadcast."""
    a, b = broadcastable(widen(A), widen(B))
    return a, b


for _name, _function in _FUNCTIONS.items():
    _register(_name, _function)


def _modulo(A: Array, B: Array, fmod: int) -> Array:
    if fmod not in (0, 1):
        raise InvalidModelError(f"fmod: expected 0 or 1, got {fmod}")
    a, b = broadcast_operands(A, B)
    return narrow(np.fmod(a, b) if fmod else np.mod(a, b), A)


@op("Mod", since=(10, 13))
def mod_10(A: Array, B: Array, *, fmod: int = 0) -> Array:
    """The remainder of A / B: with the sign of B, or with the sign of A if fmod = 1, which floats require.

    A, B: any number, of one dtype, broadcast -> that dtype.   Raises InvalidModelError for floats without fmod.
    Spec: https://onnx.ai/onnx/operators/onnx__Mod.html#mod-13
    """
    if is_float(A) and not fmod:
        raise InvalidModelError("fmod: expected 1 for floating-point inputs before opset 28, got 0")
    return _modulo(A, B, fmod)


@op("Mod", since=28)
def mod_28(A: Array, B: Array, *, fmod: int = 0) -> Array:
    """A - floor(A / B) * B, with the sign of B; or A - trunc(A / B) * B, with the sign of A, if fmod = 1.

    A, B: any number, of one dtype, broadcast -> that dtype.   Spec: https://onnx.ai/onnx/operators/onnx__Mod.html
    """
    return _modulo(A, B, fmod)


def _power(X: Array, Y: Array) -> Array:
    x, y = broadcast_operands(X, Y)
    if is_float(x) or is_float(y):
        plain = x.dtype == np.float32 and (y.dtype == np.float32 or y.dtype.itemsize <= 2)
        if x.dtype == np.float32 and y.size == 1 and y.reshape(()).item() in _SMALL_POWERS:
            whole = int(y.reshape(()).item())
            return narrow(in_parts(lambda part: _product(part, whole), x).reshape(np.broadcast(x, y).shape), X)
        working = np.float32 if plain else np.float64
        result = np.power(x.astype(working), y.astype(working))
        return narrow(result if is_float(x) else np.trunc(result), X)
    return narrow(_integer_power(x, y), X)


def _product(x: Array, count: int) -> Array:
    """x times itself, rounded once: in float64, which is faster than the power."""
    if count == 2:
        return np.asarray(np.square(x))
    wide = x.astype(np.float64)
    result = wide
    for _ in range(count - 1):
        result = result * wide
    return np.asarray(result).astype(x.dtype)


def _integer_power(x: Array, y: Array) -> Array:
    """x ** y modulo the width of x; for negative y the real result truncated (0 ** negative gives 0)."""
    # Modulo 2^64, of which the widths of x are parts: an exponent need not fit the type of x.
    power = np.power(x.astype(np.uint64), np.maximum(y, 0).astype(np.uint64)).astype(x.dtype)
    odd = (y.astype(np.uint64) & np.uint64(1)).astype(np.bool_)
    inverse = np.where(x == 1, 1, np.where(x == -1, np.where(odd, -1, 1), 0))
    return np.asarray(np.where(y < 0, inverse, power))


@op("Pow", since=1)
def pow_1(X: Array, Y: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
    """X to the power of Y, which `broadcast` and `axis` fit to X.

    X, Y: float, of one dtype -> shape and dtype of X.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Pow.html#pow-1
    """
    return _power(X, legacy_operand(X, Y, broadcast, axis))


@op("Pow", since=(7, 12, 13, 15))
def pow_7(X: Array, Y: Array) -> Array:
    """X to the power of Y, in the dtype of X.

    X, Y: any number, broadcast; from opset 12 on of different dtypes. An integer X with a float Y is computed in
    float64 and truncated.   Spec: https://onnx.ai/onnx/operators/onnx__Pow.html#pow-15
    """
    return _power(X, Y)


@op("BitShift", since=(11, 28))
def bit_shift(X: Array, Y: Array, *, direction: str) -> Array:
    """X with its bits moved by Y places.

    X, Y: integer, of one dtype, broadcast -> that dtype. Signed right shifts extend the sign; a shift by a negative
    number or by the width or more leaves only sign bits.   Raises InvalidModelError for an unknown direction.
    Spec: https://onnx.ai/onnx/operators/onnx__BitShift.html#bitshift-28
    """
    x, y = broadcast(X, Y)
    width = 8 * x.dtype.itemsize
    inside = (y >= 0) & (y < width)
    places = np.where(inside, y, 0).astype(x.dtype)
    if direction == "LEFT":
        return narrow(np.where(inside, np.left_shift(x, places), 0), X)
    if direction == "RIGHT":
        return narrow(np.where(inside, np.right_shift(x, places), np.where(x < 0, -1, 0).astype(x.dtype)), X)
    raise InvalidModelError(f"direction: expected 'LEFT' or 'RIGHT', got {direction!r}")
