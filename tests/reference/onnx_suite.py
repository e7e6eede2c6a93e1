"""The cases that the onnx package carries, and how one is run on the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, TypeProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from webdnn_reference import Interpreter

__all__ = ["KINDS", "check", "load_cases", "model_of", "operator_of", "stored"]

_LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "real")


def load_cases(kind: str) -> list[TestCase]:
    """The cases of one kind, sorted by name."""
    return sorted(load_model_tests(kind=kind), key=lambda case: str(case.name))


def operator_of(case: TestCase) -> str:
    """The operator of a single-node case; the case's name where there is none."""
    if case.model is None:
        return str(case.name)
    nodes = case.model.graph.node
    return str(nodes[0].op_type) if len(nodes) == 1 else str(case.name)


def check(case: TestCase) -> None:
    """Run every data set of a case. Raises AssertionError where an output differs."""
    model = model_of(case)
    interpreter = Interpreter(model, seed=0)
    initialized = {tensor.name for tensor in model.graph.initializer}
    for inputs, outputs in _data_sets(case, model):
        names = [value.name for value in model.graph.input if len(inputs) > 1 or value.name not in initialized]
        got = interpreter.run(dict(zip(names, map(_plain, inputs), strict=False)))
        expected = [_plain(value) for value in outputs]
        _same_lengths(expected, list(got.values()))
        Runner.assert_similar_outputs(expected, list(got.values()), rtol=case.rtol, atol=case.atol)


def model_of(case: TestCase) -> ModelProto:
    """The model of a case, read from the package's folder where it is kept there."""
    if case.model is not None:
        return case.model
    if case.kind == "real":
        return onnx.load(_LIGHT / Path(case.url or "").name)
    return onnx.load(Path(case.model_dir or "") / "model.onnx")


def _same_lengths(expected: Sequence[Any], got: Sequence[Any]) -> None:
    # The package's comparison stops at the end of the shorter sequence.
    for left, right in zip(expected, got, strict=True):
        assert isinstance(left, list) == isinstance(right, list), f"expected {left!r}, got {right!r}"
        assert not isinstance(left, list) or len(left) == len(right), f"expected {left!r}, got {right!r}"


def _data_sets(case: TestCase, model: ModelProto) -> Sequence[tuple[Sequence[Any], Sequence[Any]]]:
    if case.data_sets is not None:
        return [([_plain(item) for item in inputs], outputs) for inputs, outputs in case.data_sets]
    if case.kind == "real":
        return [_light_data(case, model)]
    return stored(Path(case.model_dir or ""), model)


def _light_data(case: TestCase, model: ModelProto) -> tuple[list[Any], list[Any]]:
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
        _value((_LIGHT / f"{stem}_output_{index}.pb").read_bytes(), value.type)
        for index, value in enumerate(model.graph.output)
    ]
    return inputs, outputs


def _plain(value: Any) -> Any:
    """Values in the form that the interpreter gives: the suite has protos and NumPy scalars too."""
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def stored(folder: Path, model: ModelProto) -> Sequence[tuple[list[Any], list[Any]]]:
    """The data sets of a case kept as files."""
    return [
        (
            _read(data, "input", [value.type for value in model.graph.input]),
            _read(data, "output", [value.type for value in model.graph.output]),
        )
        for data in sorted(folder.glob("test_data_set*"))
    ]


def _read(folder: Path, role: str, types: Sequence[TypeProto]) -> list[Any]:
    count = len(list(folder.glob(f"{role}_*.pb")))
    return [_value((folder / f"{role}_{index}.pb").read_bytes(), types[index]) for index in range(count)]


def _value(data: bytes, declared: TypeProto) -> Any:
    match declared.WhichOneof("value"):
        case "sequence_type":
            sequence = onnx.SequenceProto()
            sequence.ParseFromString(data)
            return numpy_helper.to_list(sequence)
        case "optional_type":
            optional = onnx.OptionalProto()
            optional.ParseFromString(data)
            return numpy_helper.to_optional(optional)
        case _:
            tensor = onnx.TensorProto()
            tensor.ParseFromString(data)
            return numpy_helper.to_array(tensor)
