"""Every operator version of ONNX is registered, with the inputs, attributes and defaults of its schema."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx.defs
import pytest
from onnx import AttributeProto, helper

import webdnn_reference.ops  # noqa: F401 -- registers every family
from webdnn_reference.registry import OPERATORS

DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview.training")
NOT_IMPLEMENTED = {"Gradient": "differentiates a graph; the reference evaluates one"}
BEFORE_6 = {"consumed_inputs"}
MISSPELT = {("GRU-1", "direction"): "forward"}


def schemas() -> Iterator[onnx.defs.OpSchema]:
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in DOMAINS and schema.name not in NOT_IMPLEMENTED and not schema.deprecated:
            yield schema


def name_of(schema: onnx.defs.OpSchema) -> str:
    return f"{schema.domain}{'.' if schema.domain else ''}{schema.name}-{schema.since_version}"


ALL = sorted(schemas(), key=name_of)


@pytest.mark.parametrize("schema", ALL, ids=name_of)
def test_signature(schema: onnx.defs.OpSchema) -> None:
    function = OPERATORS.find(schema.name, schema.since_version, schema.domain)
    assert function is not None
    assert schema.since_version in OPERATORS.versions(schema.name, schema.domain), "another version stands in for it"
    parameters = inspect.signature(function).parameters.values()
    positional = [item for item in parameters if item.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if not any(item.kind is inspect.Parameter.VAR_POSITIONAL for item in parameters):
        assert len(positional) >= len(schema.inputs), "it takes fewer inputs than the schema has"
        required = sum(item.default is inspect.Parameter.empty for item in positional)
        assert required <= schema.min_input, "it requires an input that is optional"
    if any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters):
        return
    keywords = {item.name: item.default for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}
    keywords.pop("context", None)
    attributes = {name: value for name, value in schema.attributes.items() if name not in BEFORE_6}
    assert set(attributes) <= set(keywords), "attributes that it does not take"
    for name, attribute in attributes.items():
        if attribute.required or attribute.default_value.type == AttributeProto.UNDEFINED:
            continue
        expected = _plain(helper.get_attribute_value(attribute.default_value))
        assert _plain(keywords[name]) == MISSPELT.get((name_of(schema), name), expected), name


def _plain(value: Any) -> Any:
    """A default in one form: text decoded, numbers as float32 has them, lists as tuples."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        return float(np.float32(value))
    return tuple(_plain(item) for item in value) if isinstance(value, (list, tuple)) else value
