"""Type annotations of a model file as Type and Value."""

from __future__ import annotations

import onnx

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError
from webdnn_onnx.graph import MapType, OptionalType, SequenceType, Shape, TensorType, Type, Value
from webdnn_onnx.symbolic import Dim, parse_dim, symbol

__all__ = ["read_type", "read_value"]

_ANONYMOUS = ("", "?", "-1", "None")
"""Texts that exporters write as `dim_param` of a dimension they do not know; two of them need not be equal."""


def read_value(info: onnx.ValueInfoProto, name: str = "") -> Value:
    """A ValueInfoProto; a dimension without a name is the symbol `<value>.dim<axis>`."""
    label = name or info.name
    return Value(label, read_type(info.type, label) if info.HasField("type") else None)


def read_type(proto: onnx.TypeProto, label: str) -> Type | None:
    """A TypeProto; None where it says nothing. Raises InvalidModelError for sparse and opaque types."""
    kind = proto.WhichOneof("value")
    if kind is None:
        return None
    if kind == "tensor_type":
        if not proto.tensor_type.elem_type:
            return None
        return TensorType(_dtype(proto.tensor_type.elem_type, label), _shape(proto.tensor_type, label))
    if kind == "sequence_type":
        element = read_type(proto.sequence_type.elem_type, f"{label}.element")
        return None if element is None else SequenceType(element)
    if kind == "optional_type":
        element = read_type(proto.optional_type.elem_type, f"{label}.element")
        return None if element is None else OptionalType(element)
    if kind == "map_type":
        element = read_type(proto.map_type.value_type, f"{label}.value")
        return None if element is None else MapType(_dtype(proto.map_type.key_type, label), element)
    raise InvalidModelError(f"value '{label}': expected a tensor, sequence, optional or map, got {kind}")


def _dtype(number: int, label: str) -> DType:
    try:
        return DType.from_onnx(number)
    except DTypeError as error:
        raise InvalidModelError(f"value '{label}': {error}") from None


def _shape(proto: onnx.TypeProto.Tensor, label: str) -> Shape | None:
    if not proto.HasField("shape"):
        return None
    return tuple(_dim(dim, f"{label}.dim{axis}") for axis, dim in enumerate(proto.shape.dim))


def _dim(proto: onnx.TensorShapeProto.Dimension, anonymous: str) -> Dim:
    if proto.HasField("dim_value") and proto.dim_value >= 0:
        return proto.dim_value
    if proto.dim_param.strip() in _ANONYMOUS:
        return symbol(anonymous)
    return parse_dim(proto.dim_param)
