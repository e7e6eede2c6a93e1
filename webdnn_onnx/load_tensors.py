"""Tensors of a model file as NumPy arrays: inline, external (by memory map) and sparse.

Spec: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import functools
import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import SparseTensorProto, TensorProto, numpy_helper

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError

__all__ = ["TensorReader"]

Array = npt.NDArray[Any]

_FIELDS = {
    DType.FLOAT32: "float_data",
    DType.FLOAT64: "double_data",
    DType.INT32: "int32_data",
    DType.INT64: "int64_data",
    DType.UINT64: "uint64_data",
}
"""Where elements lie that are not raw, for the types whose elements are written as they are."""


class TensorReader:
    """Reads the tensors of one model; `folder` is where its external data lies (None: it has nowhere to lie)."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, tensor: TensorProto, name: str = "") -> Array:
        """The tensor's elements; external data stays on disk until it is touched, and is read-only.

        Raises InvalidModelError if bytes are missing or the file does not lie where the model says.
        """
        label = name or tensor.name
        dtype = _dtype(tensor.data_type, label)
        shape = tuple(tensor.dims)
        if min(shape, default=0) < 0:
            raise InvalidModelError(f"tensor '{label}': dimensions: expected none below 0, got {list(shape)}")
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external(tensor, label, dtype, shape)
        if dtype is DType.STRING:
            return _strings(tensor, label, shape)
        if tensor.HasField("raw_data"):
            data = tensor.raw_data
            expected = dtype.storage_bytes(math.prod(shape))
            if len(data) != expected:
                raise InvalidModelError(
                    f"tensor '{label}': {dtype.value}{list(shape)}: expected {expected} bytes, got {len(data)}"
                )
            if dtype.bits >= 8:
                array: Array = np.frombuffer(data, _stored(dtype)).reshape(shape)
                return array
        try:
            if dtype in _FIELDS:
                return np.array(getattr(tensor, _FIELDS[dtype]), dtype.numpy).reshape(shape)
            return np.asarray(numpy_helper.to_array(tensor)).reshape(shape)
        except (ValueError, TypeError) as error:
            raise InvalidModelError(
                f"tensor '{label}': expected {math.prod(shape)} elements of {dtype.value}, "
                f"got data of another length ({_first_line(error)})"
            ) from None

    def read_sparse(self, tensor: SparseTensorProto, name: str = "") -> Array:
        """The dense form of a sparse tensor (zeros, or empty strings, where it gives nothing)."""
        label = name or tensor.values.name
        shape = tuple(tensor.dims)
        values = self.read(tensor.values, label)
        indices = self.read(tensor.indices, f"{label} (indices)")
        dense = np.full(shape, "" if values.dtype == object else 0, dtype=values.dtype)
        size = math.prod(shape)
        if indices.ndim == 1:
            flat = indices
        elif indices.ndim == 2 and indices.shape[1] == len(shape):
            outside = (indices < 0) | (indices >= np.asarray(shape))
            if outside.any():
                raise InvalidModelError(f"sparse tensor '{label}': indices: expected within {list(shape)}, got others")
            flat = indices @ np.asarray([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)
        else:
            raise InvalidModelError(
                f"sparse tensor '{label}': indices: expected rank 1, or rank 2 with {len(shape)} columns, "
                f"got shape {list(indices.shape)}"
            )
        if len(flat) != values.size or ((flat < 0) | (flat >= size)).any():
            raise InvalidModelError(
                f"sparse tensor '{label}': expected {values.size} indices within {size} elements, got {len(flat)}"
            )
        dense.reshape(-1)[flat] = values.reshape(-1)
        return dense

    def _external(self, tensor: TensorProto, label: str, dtype: DType, shape: tuple[int, ...]) -> Array:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if dtype is DType.STRING:
            raise InvalidModelError(f"tensor '{label}': external data: expected a numeric type, got strings")
        data = self._file(location, label)
        expected = dtype.storage_bytes(math.prod(shape))
        try:
            offset = int(entries.get("offset", "0") or 0)
            length = int(entries["length"]) if entries.get("length") else expected
        except ValueError:
            raise InvalidModelError(
                f"tensor '{label}': external data: expected integers as offset and length, "
                f"got '{entries.get('offset')}' and '{entries.get('length')}'"
            ) from None
        got = max(min(length, len(data) - offset), 0)
        if got < expected or offset < 0:
            raise InvalidModelError(
                f"tensor '{label}': external data '{location}': expected {expected} bytes at offset {offset}, got {got}"
            )
        if dtype.bits < 8:
            packed = TensorProto(data_type=tensor.data_type, dims=shape)
            packed.raw_data = data[offset : offset + expected].tobytes()
            return np.asarray(numpy_helper.to_array(packed)).reshape(shape)
        if expected == 0:
            return np.zeros(shape, dtype.numpy)
        array: Array = np.ndarray(shape, _stored(dtype), buffer=data, offset=offset)
        return array

    def _file(self, location: str, label: str) -> npt.NDArray[np.uint8]:
        if location in self._files:
            return self._files[location]
        if self._folder is None:
            raise InvalidModelError(
                f"tensor '{label}': external data '{location}': expected a model given by its path, "
                f"got bytes or a ModelProto; pass the path, or folder=..."
            )
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        if not location or posix.is_absolute() or windows.drive or windows.is_absolute() or ".." in windows.parts:
            raise InvalidModelError(
                f"tensor '{label}': external data: expected a relative path inside the model's folder, got '{location}'"
            )
        path = self._folder / location
        if not path.is_file():
            raise InvalidModelError(
                f"tensor '{label}': external data: expected the file '{path}', got no such file; "
                f"keep it beside the model"
            )
        size = path.stat().st_size
        try:
            data = np.memmap(path, np.uint8, mode="r") if size else np.zeros(0, np.uint8)
        except OSError:  # a file system without memory maps
            data = np.fromfile(path, np.uint8)
            data.flags.writeable = False
        self._files[location] = data
        return data


def _dtype(number: int, label: str) -> DType:
    try:
        return DType.from_onnx(number)
    except DTypeError as error:
        raise InvalidModelError(f"tensor '{label}': {error}") from None


@functools.cache
def _stored(dtype: DType) -> np.dtype[Any]:
    """How a file stores elements of 8 bits or more: little-endian; ml_dtypes types have no byte order of their own."""
    return dtype.numpy.newbyteorder("<") if dtype.numpy.isbuiltin == 1 else dtype.numpy


def _strings(tensor: TensorProto, label: str, shape: tuple[int, ...]) -> Array:
    if len(tensor.string_data) != math.prod(shape):
        raise InvalidModelError(
            f"tensor '{label}': string{list(shape)}: expected {math.prod(shape)} strings, got {len(tensor.string_data)}"
        )
    array = np.empty(len(tensor.string_data), dtype=object)
    array[:] = [text.decode("utf-8", "surrogateescape") for text in tensor.string_data]
    return array.reshape(shape)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
