"""Element types, named as in the ONNX specification (TensorProto.DataType, in lower case).

Spec: https://github.com/onnx/onnx/blob/main/docs/docsgen/source/technical  (one page per narrow type)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from webdnn_onnx.errors import DTypeError

__all__ = ["DType"]


@dataclass(frozen=True)
class _Facts:
    onnx: int
    numpy: np.dtype[Any]
    bits: int
    kind: str


class DType(enum.Enum):
    """An ONNX element type; its value is its name, `DType.FLOAT16.value == "float16"`."""

    # Members are singletons and keys of many tables; Enum's own hash is a Python function.
    __hash__ = object.__hash__

    BOOL = "bool"
    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT2 = "uint2"
    UINT4 = "uint4"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT4E2M1 = "float4e2m1"
    FLOAT6E2M3 = "float6e2m3"
    FLOAT6E3M2 = "float6e3m2"
    FLOAT8E4M3FN = "float8e4m3fn"
    FLOAT8E4M3FNUZ = "float8e4m3fnuz"
    FLOAT8E5M2 = "float8e5m2"
    FLOAT8E5M2FNUZ = "float8e5m2fnuz"
    FLOAT8E8M0 = "float8e8m0"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    COMPLEX64 = "complex64"
    COMPLEX128 = "complex128"
    STRING = "string"

    @property
    def onnx(self) -> int:
        """The number in TensorProto.DataType."""
        return _FACTS[self].onnx

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype that holds it (ml_dtypes for the narrow ones, object for strings)."""
        return _FACTS[self].numpy

    @property
    def bits(self) -> int:
        """Bits of one element when packed; 0 for strings."""
        return _FACTS[self].bits

    @property
    def is_float(self) -> bool:
        return _FACTS[self].kind == "f"

    @property
    def is_signed_integer(self) -> bool:
        return _FACTS[self].kind == "i"

    @property
    def is_unsigned_integer(self) -> bool:
        return _FACTS[self].kind == "u"

    @property
    def is_integer(self) -> bool:
        return _FACTS[self].kind in "iu"

    @property
    def is_complex(self) -> bool:
        return _FACTS[self].kind == "c"

    def storage_bytes(self, count: int) -> int:
        """Bytes of `count` packed elements (sub-byte types round up to a whole byte)."""
        return (count * self.bits + 7) // 8

    @staticmethod
    def from_onnx(number: int) -> DType:
        """The element type with this TensorProto.DataType number. Raises DTypeError if there is none."""
        try:
            return _BY_ONNX[number]
        except KeyError:
            raise DTypeError(f"element type: expected a TensorProto.DataType that has values, got {number}") from None

    @staticmethod
    def from_numpy(dtype: npt.DTypeLike) -> DType:
        """The element type of a NumPy array. Raises DTypeError for types that ONNX has not."""
        resolved = np.dtype(dtype)
        if resolved.kind in "OUST":
            return DType.STRING
        try:
            return _BY_NUMPY[resolved]
        except KeyError:
            raise DTypeError(f"array dtype: expected one that ONNX has, got {resolved}") from None


def _facts(onnx: int, dtype: npt.DTypeLike, bits: int, kind: str) -> _Facts:
    return _Facts(onnx, np.dtype(dtype), bits, kind)


_FACTS: dict[DType, _Facts] = {
    DType.BOOL: _facts(TensorProto.BOOL, np.bool_, 8, "b"),
    DType.INT2: _facts(TensorProto.INT2, ml_dtypes.int2, 2, "i"),
    DType.INT4: _facts(TensorProto.INT4, ml_dtypes.int4, 4, "i"),
    DType.INT8: _facts(TensorProto.INT8, np.int8, 8, "i"),
    DType.INT16: _facts(TensorProto.INT16, np.int16, 16, "i"),
    DType.INT32: _facts(TensorProto.INT32, np.int32, 32, "i"),
    DType.INT64: _facts(TensorProto.INT64, np.int64, 64, "i"),
    DType.UINT2: _facts(TensorProto.UINT2, ml_dtypes.uint2, 2, "u"),
    DType.UINT4: _facts(TensorProto.UINT4, ml_dtypes.uint4, 4, "u"),
    DType.UINT8: _facts(TensorProto.UINT8, np.uint8, 8, "u"),
    DType.UINT16: _facts(TensorProto.UINT16, np.uint16, 16, "u"),
    DType.UINT32: _facts(TensorProto.UINT32, np.uint32, 32, "u"),
    DType.UINT64: _facts(TensorProto.UINT64, np.uint64, 64, "u"),
    DType.FLOAT4E2M1: _facts(TensorProto.FLOAT4E2M1, ml_dtypes.float4_e2m1fn, 4, "f"),
    DType.FLOAT6E2M3: _facts(TensorProto.FLOAT6E2M3, ml_dtypes.float6_e2m3fn, 6, "f"),
    DType.FLOAT6E3M2: _facts(TensorProto.FLOAT6E3M2, ml_dtypes.float6_e3m2fn, 6, "f"),
    DType.FLOAT8E4M3FN: _facts(TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, 8, "f"),
    DType.FLOAT8E4M3FNUZ: _facts(TensorProto.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz, 8, "f"),
    DType.FLOAT8E5M2: _facts(TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2, 8, "f"),
    DType.FLOAT8E5M2FNUZ: _facts(TensorProto.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz, 8, "f"),
    DType.FLOAT8E8M0: _facts(TensorProto.FLOAT8E8M0, ml_dtypes.float8_e8m0fnu, 8, "f"),
    DType.FLOAT16: _facts(TensorProto.FLOAT16, np.float16, 16, "f"),
    DType.BFLOAT16: _facts(TensorProto.BFLOAT16, ml_dtypes.bfloat16, 16, "f"),
    DType.FLOAT32: _facts(TensorProto.FLOAT, np.float32, 32, "f"),
    DType.FLOAT64: _facts(TensorProto.DOUBLE, np.float64, 64, "f"),
    DType.COMPLEX64: _facts(TensorProto.COMPLEX64, np.complex64, 64, "c"),
    DType.COMPLEX128: _facts(TensorProto.COMPLEX128, np.complex128, 128, "c"),
    DType.STRING: _facts(TensorProto.STRING, np.object_, 0, "s"),
}
_BY_ONNX = {facts.onnx: dtype for dtype, facts in _FACTS.items()}
_BY_NUMPY = {facts.numpy: dtype for dtype, facts in _FACTS.items()}
