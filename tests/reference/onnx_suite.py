"""The cases that the onnx package carries, and how one is run on the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, TypeProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from webdnn_reference import Interpreter
from webdnn_reference.values import as_value

__all__ = [
    "DRAWN",
    "KINDS",
    "TOLERANCES",
    "check",
    "check_model",
    "compare",
    "load_cases",
    "model_of",
    "operator_of",
    "parse_data_sets",
]

_LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
DRAWN = frozenset(
    f"test_bernoulli{variant}{form}" for variant in ("", "_double", "_seed") for form in ("", "_expanded")
)
"""Cases whose expected values were drawn: shape and dtype are compared here, distributions in test_random."""

TOLERANCES = {
    "test_attention_4d_causal_fp16_expanded": (
        2e-3,
        "one unit in the last place of float16 is up to 1e-3; the expected values are further from exact than ours",
    ),
}
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


def check(case: TestCase, *, float64: bool = False) -> None:
    """Run every data set of a case. Raises AssertionError where an output differs.

    float64: run it as the oracle, which differs from values rounded to narrow types by that rounding.
    """
    model = model_of(case)
    if float64:
        check_model(model, _data_sets(case, model), 2e-2, 1e-3, drawn=case.name in DRAWN, float64=True)
        return
    rtol, _ = TOLERANCES.get(case.name, (case.rtol, ""))
    check_model(model, _data_sets(case, model), rtol, case.atol, drawn=case.name in DRAWN)


def check_model(
    model: ModelProto,
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]],
    rtol: float,
    atol: float,
    *,
    drawn: bool = False,
    float64: bool = False,
) -> None:
    """Run a model on inputs in the order of the graph's.

    drawn: compare only shapes and dtypes. float64: run it as the oracle, and compare with the expected floats widened.
    """
    interpreter = Interpreter(model, seed=0, float64=float64)
    initialized = {tensor.name for tensor in model.graph.initializer}
    for inputs, outputs in data_sets:
        names = [value.name for value in model.graph.input]
        if len(inputs) < len(names):
            names = [name for name in names if name not in initialized]
        got = list(interpreter.run(dict(zip(names, inputs, strict=True))).values())
        expected = [as_value(_plain(value), float64) for value in outputs]
        if drawn:
            got, expected = [np.zeros_like(value) for value in got], [np.zeros_like(value) for value in expected]
        compare(expected, got, rtol, atol)


def compare(expected: Sequence[Any], got: Sequence[Any], rtol: float, atol: float) -> None:
    """The package's own comparison (shape, dtype, values), applied inside sequences and to empty optionals too."""
    assert len(expected) == len(got), f"expected {len(expected)} values, got {len(got)}"
    for wanted, value in zip(expected, got, strict=True):
        if isinstance(wanted, list) or isinstance(value, list):
            assert isinstance(wanted, list), f"expected {wanted!r}, got the sequence {value!r}"
            assert isinstance(value, list), f"expected the sequence {wanted!r}, got {value!r}"
            compare(wanted, value, rtol, atol)
        elif wanted is None or value is None:
            assert wanted is value, f"expected {wanted!r}, got {value!r}"
        else:
            Runner.assert_similar_outputs([wanted], [value], rtol=rtol, atol=atol)


def model_of(case: TestCase) -> ModelProto:
    """The model of a case, read from the package's folder where it is kept there."""
    if case.model is not None:
        return case.model
    if case.kind == "real":
        return onnx.load(_LIGHT / Path(case.url or "").name)
    return onnx.load(Path(case.model_dir or "") / "model.onnx")


def _data_sets(case: TestCase, model: ModelProto) -> Sequence[tuple[Sequence[Any], Sequence[Any]]]:
    if case.data_sets is not None:
        return [([_plain(item) for item in inputs], outputs) for inputs, outputs in case.data_sets]
    if case.kind == "real":
        return [_light_data(case, model)]
    folder = Path(case.model_dir or "")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*.pb")}
    return parse_data_sets(files, model)


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
    """Values in the form that the interpreter gives: the suite has protos, NumPy scalars and bytes too."""
    if isinstance(value, TensorProto):
        return _plain(numpy_helper.to_array(value))
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if value is None else as_value(value, float64=False)


def parse_data_sets(files: Mapping[str, bytes], model: ModelProto) -> Sequence[tuple[Sequence[Any], Sequence[Any]]]:
    """The data sets among a case's files, by their names relative to the case's folder."""
    folders = sorted({name.partition("/")[0] for name in files if name.startswith("test_data_set")})
    return [
        (
            _numbered(files, f"{folder}/input_", [value.type for value in model.graph.input]),
            _numbered(files, f"{folder}/output_", [value.type for value in model.graph.output]),
        )
        for folder in folders
    ]


def _numbered(files: Mapping[str, bytes], prefix: str, types: Sequence[TypeProto]) -> list[Any]:
    count = sum(name.startswith(prefix) for name in files)
    return [_value(files[f"{prefix}{index}.pb"], types[index]) for index in range(count)]


def _value(data: bytes, declared: TypeProto) -> Any:
    match declared.WhichOneof("value"):
        case "sequence_type":
            sequence = onnx.SequenceProto()
            sequence.ParseFromString(data)
            return _plain(numpy_helper.to_list(sequence))
        case "optional_type":
            optional = onnx.OptionalProto()
            optional.ParseFromString(data)
            # Older releases wrote an empty optional as one that holds a tensor of no type.
            undefined = onnx.OptionalProto.UNDEFINED
            if undefined in (optional.elem_type, optional.tensor_value.data_type) and not optional.HasField(
                "sequence_value"
            ):
                return None
            return _plain(numpy_helper.to_optional(optional))
        case _:
            tensor = onnx.TensorProto()
            tensor.ParseFromString(data)
            if declared.tensor_type.elem_type == TensorProto.BFLOAT16 and tensor.data_type == TensorProto.UINT16:
                # Older releases stored the bits of bfloat16 as uint16.
                tensor.data_type = TensorProto.BFLOAT16
            return _plain(tensor)
