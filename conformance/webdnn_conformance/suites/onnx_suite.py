"""The cases that the installed onnx package carries: node, simple, pytorch-operator, pytorch-converted, real."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from webdnn_conformance.case import Case, DataSet, make_case
from webdnn_conformance.suites.values import data_set, data_sets, parse

__all__ = ["KINDS", "cases"]

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "real")

_LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
_DRAWN = ("bernoulli",)
"""Operators whose expected values were drawn by the generator of whoever wrote the case."""

_RTOL = {"test_attention_4d_causal_fp16_expanded": 2e-3}
"""One unit in the last place of float16 is up to 1e-3; these expected values are that far from exact."""


def cases(kind: str) -> Iterator[Case]:
    """The cases of one kind, by name."""
    found = sorted(load_model_tests(kind=kind), key=lambda case: str(case.name))
    # `_expanded` cases, and variants of that, are about the operator whose body they are.
    subjects = {str(case.name): _subject(case.model) for case in found if case.model is not None}
    for case in found:
        name = str(case.name)
        model = _model(case)
        op, domain = subjects.get(name.partition("_expanded")[0]) or _subject(model) or ("", "")
        yield make_case(
            f"onnx/{kind}",
            name.removeprefix("test_"),
            model,
            _sets(case, model),
            op=op,
            domain=domain,
            drawn=any(word in name for word in _DRAWN),
            rtol=_RTOL.get(name, float(case.rtol)),
            atol=float(case.atol),
        )


def _subject(model: ModelProto) -> tuple[str, str] | None:
    """The operator of a graph of one node, its constants aside."""
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    if len(nodes) != 1 and len(model.graph.node) != 1:
        return None
    node = nodes[0] if nodes else model.graph.node[0]
    return str(node.op_type), str(node.domain)


def _model(case: TestCase) -> ModelProto:
    if case.model is not None:
        return case.model
    if case.kind == "real":
        return onnx.load(_LIGHT / Path(case.url or "").name)
    return onnx.load(Path(case.model_dir or "") / "model.onnx")


def _sets(case: TestCase, model: ModelProto) -> Sequence[DataSet]:
    if case.data_sets is not None:
        return [data_set(model, inputs, outputs) for inputs, outputs in case.data_sets]
    if case.kind == "real":
        return [_light_set(case, model)]
    folder = Path(case.model_dir or "")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*.pb")}
    return data_sets(files, model)


def _light_set(case: TestCase, model: ModelProto) -> DataSet:
    """The models without trained weights take arange(n) / n and have their output beside them."""
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs: list[Any] = []
    for value in model.graph.input:
        if value.name not in initialized:
            shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            count = math.prod(shape)
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    stem = Path(case.url or "").stem
    outputs = [
        parse((_LIGHT / f"{stem}_output_{index}.pb").read_bytes(), value.type)
        for index, value in enumerate(model.graph.output)
    ]
    return data_set(model, inputs, outputs)
