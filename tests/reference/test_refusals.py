"""Whatever an operator is fed, it answers, or refuses in one line with an error of ours; NumPy's never get out."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx.defs
import pytest
from onnx.defs import OpSchema

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import WebDNNError
from webdnn_onnx.graph import Node
from webdnn_reference import evaluate_node
from webdnn_reference.constraints import tensor_text, type_text

TENSORS: Mapping[str, DType] = {tensor_text(dtype): dtype for dtype in DType}
DRAWS = 12
NUMPY = "expected inputs that the operator accepts"
"""How the interpreter words what NumPy refused: the net below the operators' own checks."""
Option = OpSchema.FormalParameterOption
Kind = OpSchema.AttrType


@functools.cache
def _schemas() -> dict[str, list[OpSchema]]:
    """All versions by operator, but for those with bodies and for Gradient, which the reference has not."""
    found: dict[str, list[OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        bodies = any(attribute.type in (Kind.GRAPH, Kind.GRAPHS) for attribute in schema.attributes.values())
        if not schema.deprecated and not bodies and schema.name != "Gradient":
            found.setdefault(f"{schema.domain}.{schema.name}" if schema.domain else schema.name, []).append(schema)
    return found


def _array(dtype: DType, draw: random.Random) -> np.ndarray[Any, Any]:
    shape = [draw.choice([0, 1, 1, 2, 2, 3, 4]) for _ in range(draw.choice([0, 1, 1, 2, 2, 3, 4, 4, 5]))]
    generator = np.random.default_rng(draw.getrandbits(32))
    if dtype is DType.STRING:
        texts = np.empty(shape, object)
        texts.reshape(-1)[:] = [draw.choice(["", "a", "b c", "1"]) for _ in range(texts.size)]
        return texts
    if dtype.is_float or dtype.is_complex:
        return np.asarray(generator.standard_normal(shape) * 3).astype(dtype.numpy)
    if dtype is DType.BOOL:
        return np.asarray(generator.random(shape) < 0.5)
    least = 0 if dtype.is_unsigned_integer else max(-4, -(2 ** (dtype.bits - 1)))
    greatest = min(4, 2 ** (dtype.bits - dtype.is_signed_integer) - 1)
    return np.asarray(generator.integers(least, greatest + 1, shape)).astype(dtype.numpy)


def _inputs(schema: OpSchema, draw: random.Random) -> list[Any]:
    chosen: dict[str, str] = {}
    inputs: list[Any] = []
    for formal in schema.inputs:
        types = sorted(name for name in formal.types if name in TENSORS)
        for _ in range(draw.choice([1, 2, 3]) if formal.option == Option.Variadic else 1):
            if formal.option == Option.Optional and draw.random() < 0.4:
                inputs.append(None)
            elif not types:
                inputs.append([_array(DType.FLOAT32, draw) for _ in range(draw.choice([0, 1, 2]))])
            else:
                value = _array(TENSORS[chosen.setdefault(formal.type_str, draw.choice(types))], draw)
                first = inputs[0] if inputs else None
                if isinstance(first, np.ndarray) and value.size and draw.random() < 0.5:
                    value = np.resize(value, first.shape)
                inputs.append(value)
    return inputs


def _attribute(kind: OpSchema.AttrType, draw: random.Random) -> Any:
    match kind:
        case Kind.INT:
            return draw.choice([-2, -1, 0, 1, 2, 3, 7])
        case Kind.FLOAT:
            return draw.choice([-1.0, 0.0, 0.5, 2.0])
        case Kind.STRING:
            return draw.choice(["", "constant", "linear", "NOTSET", "SAME_UPPER", "x"])
        case Kind.INTS:
            return tuple(draw.choice([-1, 0, 1, 2, 3]) for _ in range(draw.choice([0, 1, 2, 3, 4])))
        case Kind.FLOATS:
            return tuple(draw.choice([-1.0, 0.0, 0.5]) for _ in range(draw.choice([0, 1, 2, 3])))
        case Kind.STRINGS:
            return tuple(draw.choice(["a", "", "Relu"]) for _ in range(draw.choice([0, 1, 2, 3])))
        case Kind.TENSOR:
            return _array(DType.FLOAT32, draw)
        case _:
            return None


def _check_types(schema: OpSchema, inputs: list[Any], outputs: tuple[Any, ...]) -> None:
    """An output has a type that the schema lists, and the very type of the inputs that share its type variable."""
    shared = {formal.type_str: value for formal, value in zip(schema.inputs, inputs, strict=False) if value is not None}
    for formal, value in zip(schema.outputs, outputs, strict=False):
        text = type_text(value)
        listed = text in formal.types or text in ("seq()", "optional()", "map()") or text.startswith("seq(map")
        assert listed or f"optional({text})" in formal.types, f"{schema.name}: {formal.name}: {text}"
        if formal.type_str in shared and isinstance(value, np.ndarray):
            assert text == type_text(shared[formal.type_str]), f"{schema.name}: {formal.name}: {text}"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", _schemas())
def test_operator_answers_or_refuses(name: str) -> None:
    draw = random.Random(name)
    for schema in _schemas()[name]:
        for _ in range(DRAWS):
            inputs = _inputs(schema, draw)
            attributes = {
                key: value
                for key, attribute in schema.attributes.items()
                if attribute.required or draw.random() < 0.25
                if (value := _attribute(attribute.type, draw)) is not None
            }
            names = tuple("" if value is None else f"x{index}" for index, value in enumerate(inputs))
            outputs = tuple(f"y{index}" for index in range(max(1, schema.min_output)))
            node = Node(schema.name, names, outputs, attributes, schema.domain, schema.since_version, "n")
            refusal = ""
            try:
                got = evaluate_node(node, inputs)
                assert len(got) == len(outputs)
                _check_types(schema, inputs, got)
            except WebDNNError as error:
                refusal = str(error)
            assert "\n" not in refusal
            assert NUMPY not in refusal, refusal
            assert not refusal or refusal.startswith(f"{name} 'n' (opset {schema.since_version})")
