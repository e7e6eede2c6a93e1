"""Cases of com.microsoft operators, and of old ones that onnxruntime keeps: seeded inputs, judged by the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import ModelProto, helper, numpy_helper

from webdnn_conformance.case import Case, DataSet, make_case
from webdnn_conformance.suites import contrib_attention, contrib_float, contrib_other
from webdnn_conformance.suites.recipes import Draw, Recipe
from webdnn_onnx.dtypes import DType

__all__ = ["cases", "recipes"]

_IR_VERSION = 10
_OPSET = 7
"""Of ai.onnx in legacy cases: the last at which all these operators were in use."""


def recipes() -> Iterator[Recipe]:
    """Every recipe. The numbers of each follow from the name of its family and its place in it."""
    for family in (*contrib_float.FAMILIES, *contrib_attention.FAMILIES, *contrib_other.FAMILIES):
        draw = Draw(family.__name__)
        yield from family(draw)


def cases() -> Iterator[Case]:
    """One case per recipe; nothing is expected but what the reference computes."""
    for recipe in recipes():
        given = {
            f"x{index}": value
            for index, value in enumerate(recipe.inputs)
            if value is not None and index not in recipe.constant
        }
        name = recipe.name.replace("/", "_").lower()
        yield make_case(
            "contrib/legacy" if not recipe.domain else "contrib/microsoft", name, _model(recipe), [DataSet(given)]
        )


def _model(recipe: Recipe) -> ModelProto:
    """A model of one node."""
    attributes: dict[str, Any] = dict(recipe.attributes)
    names = ["" if value is None else f"x{index}" for index, value in enumerate(recipe.inputs)]
    results = [f"y{index}" if kind else "" for index, kind in enumerate(recipe.outputs)]
    node = helper.make_node(recipe.op, names, results, domain=recipe.domain, **attributes)
    inputs = [
        helper.make_tensor_value_info(name, DType.from_numpy(value.dtype).onnx, value.shape)
        for index, (name, value) in enumerate(zip(names, recipe.inputs, strict=True))
        if name and index not in recipe.constant
    ]
    constants = [numpy_helper.from_array(recipe.inputs[index], names[index]) for index in recipe.constant]
    outputs = [
        helper.make_tensor_value_info(name, kind, None)
        for name, kind in zip(results, recipe.outputs, strict=True)
        if name
    ]
    graph = helper.make_graph([node], recipe.op, inputs, outputs, constants)
    imports = [helper.make_opsetid(recipe.domain, 1 if recipe.domain else _OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
