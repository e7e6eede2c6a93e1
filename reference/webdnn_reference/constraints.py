"""The type constraints of the ONNX schemas, checked on values.

A schema says for each input which types it may have, and which inputs must have the same one. Operators outside the
ONNX domains have no schema here; contrib_inputs.py has those of com.microsoft.
Spec: https://github.com/onnx/onnx/blob/main/docs/IR.md#standard-data-types
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.defs

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError

__all__ = ["Constraints", "Formal", "check_inputs", "check_outputs", "constraints_of", "tensor_text", "type_text"]

_SCHEMA_NAMES: dict[DType, str] = {DType.FLOAT32: "float", DType.FLOAT64: "double"}


@dataclass(frozen=True)
class Formal:
    """One declared input. variable: the type variable that it shares with others, or "" where nothing is shared."""

    name: str
    types: frozenset[str]
    dtypes: frozenset[np.dtype[Any]]
    variable: str
    required: bool


@dataclass(frozen=True)
class Constraints:
    """What one operator version says of its inputs; `repeated` declares those beyond the last of `formals`.

    outputs: the last one declares those beyond it too. attributes: their names. None where no schema says it.
    """

    formals: tuple[Formal, ...]
    repeated: Formal | None
    least: int
    outputs: tuple[Formal, ...] | None = None
    attributes: frozenset[str] | None = None


@functools.cache
def constraints_of(op: str, opset: int, domain: str) -> Constraints | None:
    """The constraints of an operator at an opset, or None where ONNX has no schema for it."""
    if not onnx.defs.has(op, max_inclusive_version=opset, domain=domain):
        return None
    schema = onnx.defs.get_schema(op, max_inclusive_version=opset, domain=domain)
    option = onnx.defs.OpSchema.FormalParameterOption
    shared = [formal.type_str for formal in schema.inputs]
    formals: list[Formal] = []
    repeated: Formal | None = None
    for formal in schema.inputs:
        variadic = formal.option == option.Variadic
        together = formal.is_homogeneous and (shared.count(formal.type_str) > 1 or variadic)
        one = _formal(formal, formal.type_str if together else "")
        if variadic:
            repeated = one
        else:
            formals.append(one)
    outputs = tuple(_formal(formal, "") for formal in schema.outputs)
    return Constraints(tuple(formals), repeated, _least(schema), outputs, frozenset(schema.attributes))


def _formal(formal: onnx.defs.OpSchema.FormalParameter, variable: str) -> Formal:
    return Formal(
        name=formal.name,
        types=frozenset(formal.types),
        dtypes=frozenset(_DTYPES[name] for name in formal.types if name in _DTYPES),
        variable=variable,
        required=formal.option == onnx.defs.OpSchema.FormalParameterOption.Single,
    )


def _least(schema: onnx.defs.OpSchema) -> int:
    """How many inputs a call has at least. Absent ones at the end count for none, so the schema's own number, which
    counts optional inputs in front of variadic ones that there may be none of, is too large."""
    least = 0
    for index, formal in enumerate(schema.inputs):
        if formal.option == onnx.defs.OpSchema.FormalParameterOption.Single:
            least = index + 1
        elif formal.option == onnx.defs.OpSchema.FormalParameterOption.Variadic and formal.min_arity:
            least = index + formal.min_arity
    return least


def check_inputs(constraints: Constraints, values: Sequence[Any], float64: bool) -> None:
    """Check the inputs of one call.

    float64: the interpreter holds every floating-point value as float64, so that it stands for any float type.
    Raises DTypeError for a type that the schema does not list or that differs within one type variable,
    InvalidModelError for a missing or surplus input.
    """
    if len(values) < constraints.least:
        raise InvalidModelError(f"inputs: expected at least {constraints.least}, got {len(values)}")
    bound: dict[str, np.dtype[Any]] = {}
    formals = constraints.formals
    for index, value in enumerate(values):
        formal = formals[index] if index < len(formals) else constraints.repeated
        if formal is None:
            if value is None:
                continue
            raise InvalidModelError(f"inputs: expected at most {len(formals)}, got {len(values)}")
        if isinstance(value, np.ndarray):
            dtype = value.dtype
            if dtype not in formal.dtypes and not (float64 and dtype == np.float64 and _has_float(formal)):
                raise DTypeError(f"input '{formal.name}': expected one of {_names(formal)}, got {type_text(value)}")
            if formal.variable and bound.setdefault(formal.variable, dtype) != dtype:
                expected = tensor_text(DType.from_numpy(bound[formal.variable]))
                raise DTypeError(
                    f"input '{formal.name}': expected {expected} as the other inputs of type {formal.variable}, "
                    f"got {type_text(value)}"
                )
        elif value is None:
            if formal.required and not any(name.startswith("optional") for name in formal.types):
                raise InvalidModelError(f"input '{formal.name}': expected a value, got none")
        elif not _accepts(formal, value, float64):
            raise DTypeError(f"input '{formal.name}': expected one of {_names(formal)}, got {type_text(value)}")


def check_outputs(constraints: Constraints, values: Sequence[Any]) -> None:
    """Check the types of the tensors that one call gave: attributes may name types that the version does not have.

    Raises DTypeError for a type that the schema does not list.
    """
    outputs = constraints.outputs
    if not outputs:
        return
    for index, value in enumerate(values):
        if isinstance(value, np.ndarray):
            formal = outputs[min(index, len(outputs) - 1)]
            if value.dtype not in formal.dtypes:
                raise DTypeError(f"output '{formal.name}': expected one of {_names(formal)}, got {type_text(value)}")


def tensor_text(dtype: DType) -> str:
    """The schema's name of a tensor type: `tensor(float)`."""
    return f"tensor({_SCHEMA_NAMES.get(dtype, dtype.value)})"


_DTYPES: dict[str, np.dtype[Any]] = {
    text: dtype.numpy for dtype in DType for text in (tensor_text(dtype), f"optional({tensor_text(dtype)})")
}
"""The array dtype that a schema's name of a tensor type, or of an optional tensor, stands for."""


def type_text(value: Any) -> str:
    """The schema's name of a value's type; `seq()` for an empty sequence, which is of any type."""
    if isinstance(value, np.ndarray):
        return tensor_text(DType.from_numpy(value.dtype))
    if isinstance(value, list):
        return f"seq({type_text(value[0])})" if value else "seq()"
    if isinstance(value, Mapping):
        return "map()"
    if value is None:
        return "optional()"
    return type(value).__name__


def _accepts(formal: Formal, value: Any, float64: bool) -> bool:
    text = type_text(value)
    if text in ("seq()", "optional()", "map()") or text.startswith("seq(map"):
        kind = text[: text.index("(")]
        return any(name.startswith((kind, f"optional({kind}")) for name in formal.types)
    if float64 and "(double)" in text:
        return any(name.startswith(("seq", "optional(seq")) for name in formal.types)
    return _allows(formal.types, text)


def _allows(types: frozenset[str] | set[str], text: str) -> bool:
    return text in types or f"optional({text})" in types


@functools.cache
def _has_float(formal: Formal) -> bool:
    return any(DType.from_numpy(dtype).is_float for dtype in formal.dtypes)


def _names(formal: Formal) -> str:
    return ", ".join(sorted(formal.types))
