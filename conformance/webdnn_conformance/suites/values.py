"""What the suites store as protocol buffers, as the values that engines and the reference take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import ModelProto, SequenceProto, TensorProto, TypeProto, numpy_helper

from webdnn_conformance.case import DataSet
from webdnn_reference.values import as_input

__all__ = ["data_set", "data_sets", "input_names", "parse", "plain"]


def plain(value: Any) -> Any:
    """A tensor proto, NumPy scalar or list of them as arrays and lists; strings as object arrays of `str`."""
    if isinstance(value, TensorProto):
        return plain(numpy_helper.to_array(value))
    if isinstance(value, SequenceProto):
        return plain(numpy_helper.to_list(value))
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if value is None else as_input(value)


def input_names(model: ModelProto, given: int) -> list[str]:
    """The names that `given` values stand for: an initializer is an input only where values are given for all."""
    names = [value.name for value in model.graph.input]
    if given < len(names):
        initialized = {tensor.name for tensor in model.graph.initializer}
        names = [name for name in names if name not in initialized]
    return names


def data_set(model: ModelProto, inputs: Sequence[Any], outputs: Sequence[Any] | None) -> DataSet:
    """Values in the order of the graph as a data set. Raises ValueError if their number is another."""
    names = input_names(model, len(inputs))
    expected = None if outputs is None else [plain(value) for value in outputs]
    return DataSet(dict(zip(names, map(plain, inputs), strict=True)), expected)


def data_sets(files: Mapping[str, bytes], model: ModelProto) -> list[DataSet]:
    """The data sets among a case's files, by their names relative to the case's folder."""
    folders = sorted({name.partition("/")[0] for name in files if name.startswith("test_data_set")})
    return [
        data_set(
            model,
            _numbered(files, f"{folder}/input_", [value.type for value in model.graph.input]),
            _numbered(files, f"{folder}/output_", [value.type for value in model.graph.output]),
        )
        for folder in folders
    ]


def _numbered(files: Mapping[str, bytes], prefix: str, types: Sequence[TypeProto]) -> list[Any]:
    count = sum(name.startswith(prefix) for name in files)
    return [parse(files[f"{prefix}{index}.pb"], types[index]) for index in range(count)]


def parse(data: bytes, declared: TypeProto) -> Any:
    """A stored value of the declared type."""
    match declared.WhichOneof("value"):
        case "sequence_type":
            sequence = onnx.SequenceProto()
            sequence.ParseFromString(data)
            return plain(sequence)
        case "optional_type":
            optional = onnx.OptionalProto()
            optional.ParseFromString(data)
            # Older releases wrote an empty optional as one that holds a tensor of no type.
            undefined = onnx.OptionalProto.UNDEFINED
            if undefined in (optional.elem_type, optional.tensor_value.data_type) and not optional.HasField(
                "sequence_value"
            ):
                return None
            return plain(numpy_helper.to_optional(optional))
        case _:
            tensor = onnx.TensorProto()
            tensor.ParseFromString(data)
            if declared.tensor_type.elem_type == TensorProto.BFLOAT16 and tensor.data_type == TensorProto.UINT16:
                tensor.data_type = TensorProto.BFLOAT16  # older releases stored the bits of bfloat16 as uint16
            return plain(tensor)
