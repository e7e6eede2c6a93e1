"""Comparisons, logic and bitwise logic of two tensors.

Comparisons follow IEEE 754: every ordered comparison with NaN is false. Before opset 7 the second operand is
broadcast by attribute, later by NumPy's rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from webdnn_reference.numeric import Array, broadcastable, narrow, widen, widen_integer
from webdnn_reference.ops.binary_legacy import legacy_operand
from webdnn_reference.registry import op

__all__: list[str] = []

Function: TypeAlias = Callable[[Array, Array], Array]

_PREDICATES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Function]] = {
    "And": ((1,), (7,), np.logical_and),
    "Equal": ((1,), (7, 11, 13, 19), np.equal),
    "Greater": ((1,), (7, 9, 13), np.greater),
    "GreaterOrEqual": ((), (12, 16), np.greater_equal),
    "Less": ((1,), (7, 9, 13), np.less),
    "LessOrEqual": ((), (12, 16), np.less_equal),
    "Or": ((1,), (7,), np.logical_or),
    "Xor": ((1,), (7,), np.logical_xor),
}
"""Operator -> its versions with broadcasting by attribute, its later versions, its function; the result is bool."""

_BITWISE: dict[str, Function] = {
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}
"""Operator -> its function on integers of one dtype, which the result has too.

Spec: https://onnx.ai/onnx/operators/ (one page per operator).
"""


def _register_predicate(name: str, before: tuple[int, ...], since: tuple[int, ...], function: Function) -> None:
    def legacy(A: Array, B: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
        return narrow(function(widen(A), widen(legacy_operand(A, B, broadcast, axis))), np.bool_)

    def predicate(A: Array, B: Array) -> Array:
        return narrow(function(*broadcastable(widen(A), widen(B))), np.bool_)

    legacy.__name__ = legacy.__qualname__ = f"{name.lower()}_1"
    legacy.__doc__ = f"{name} of a tensor and one that `broadcast` and `axis` fit to it, before opset 7 -> bool."
    predicate.__name__ = predicate.__qualname__ = f"{name.lower()}_7"
    predicate.__doc__ = f"{name} of two tensors of one dtype, broadcast -> bool."
    if before:
        op(name, since=before)(legacy)
    op(name, since=since)(predicate)


def _register_bitwise(name: str, function: Function) -> None:
    @op(name, since=18)
    def bitwise(A: Array, B: Array) -> Array:
        return narrow(function(*broadcastable(widen_integer(A), widen_integer(B))), A)

    bitwise.__name__ = bitwise.__qualname__ = name.lower()
    bitwise.__doc__ = f"{name} of two integer tensors of one dtype, broadcast -> that dtype."


for _name, (_before, _since, _predicate) in _PREDICATES.items():
    _register_predicate(_name, _before, _since, _predicate)
for _name, _bitwise in _BITWISE.items():
    _register_bitwise(_name, _bitwise)
