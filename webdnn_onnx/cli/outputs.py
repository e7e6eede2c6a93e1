"""What a run gave: printed, saved, summed up."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.engines import RunInfo, RunValue
from webdnn_onnx.errors import OutputError

__all__ = ["print_outputs", "run_facts", "save_outputs", "summaries"]

_SHOWN = 8


def print_outputs(outputs: Mapping[str, RunValue]) -> None:
    """Each output's type and values, shortened; items of sequences and maps are named as in `save_outputs`."""
    for name, value in outputs.items():
        _print(name, value)


def _print(name: str, value: Any) -> None:
    if isinstance(value, np.ndarray):
        print(f"{name}: {DType.from_numpy(value.dtype).value}{list(value.shape)}")
        text = np.array2string(value, threshold=64, edgeitems=3, precision=6, max_line_width=100)
        print("  " + text.replace("\n", "\n  "))
    elif isinstance(value, list):
        print(f"{name}: sequence of {len(value)}")
        for index, item in enumerate(value[:_SHOWN]):
            _print(f"{name}/{index}", item)
        if len(value) > _SHOWN:
            print(f"{name}/...")
    elif isinstance(value, dict):
        print(f"{name}: map of {len(value)}")
        for key, item in value.items():
            _print(f"{name}/{key}", item)
    else:
        print(f"{name}: {'empty optional' if value is None else value}")


def summaries(outputs: Mapping[str, RunValue]) -> dict[str, Any]:
    """Each output as JSON: dtype, shape, the first values."""
    return {name: _summary(value) for name, value in outputs.items()}


def run_facts(info: RunInfo) -> dict[str, Any]:
    """What was observed of a run, as JSON."""
    return {
        "backend": info.backend,
        "adapter": info.adapter,
        "threads": info.threads,
        "loadMs": info.load_ms,
        "runMs": list(info.run_ms),
        "placement": list(info.placement),
        "notes": list(info.notes),
    }


def save_outputs(path: Path, outputs: Mapping[str, RunValue]) -> None:
    """Write an .npz whole or not at all; items of sequences are `name/0`, `name/1`, of maps `name/key`.

    Strings have dtype str, types that NumPy has not (bfloat16) are bytes. Raises OutputError.
    """
    arrays = dict(item for name, value in outputs.items() for item in _arrays(name, value))
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as stream:
            try:
                np.savez(stream, **arrays)
                os.chmod(stream.name, 0o644)  # noqa: PTH101  # the name is a str
                os.replace(stream.name, path)  # noqa: PTH105  # the name is a str
            except BaseException:
                os.unlink(stream.name)  # noqa: PTH108  # the name is a str
                raise
    except OSError as error:
        raise OutputError(f"{path}: cannot write the outputs: {error.strerror or error}") from error


def _arrays(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The arrays that a value consists of, as NumPy can read them back without pickles."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _arrays(f"{name}/{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _arrays(f"{name}/{key}", item)
    elif value is not None:
        array = np.asarray(value)
        if array.dtype == np.object_:
            array = array.astype(np.str_)
        yield name, array if array.dtype.isbuiltin == 1 else _as_bytes(array)


def _as_bytes(array: Any) -> Any:
    return array if array.dtype.kind == "U" else array.view(np.dtype((np.void, array.dtype.itemsize)))


def _summary(value: Any) -> Any:
    if isinstance(value, list):
        return [_summary(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _summary(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        dtype = DType.from_numpy(value.dtype)
        first = [_item(item, dtype) for item in value.reshape(-1)[:_SHOWN]]
        return {"dtype": dtype.value, "shape": list(value.shape), "first": first}
    if value is None or isinstance(value, str):
        return value
    return _item(value, DType.from_numpy(np.asarray(value).dtype))


def _item(item: Any, dtype: DType) -> Any:
    """One element as JSON has it; numbers that it has not, and complex ones, are text."""
    if dtype is DType.STRING or dtype.is_complex:
        return str(item)
    if dtype is DType.BOOL:
        return bool(item)
    number = int(item) if dtype.is_integer else float(item)
    return number if np.isfinite(number) else str(number)
