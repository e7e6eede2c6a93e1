"""What a run gave: printed, saved, summed up."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.engines import RunInfo, RunValue
from webdnn_onnx.errors import OutputError

__all__ = ["print_outputs", "run_facts", "save_outputs", "summaries"]

_SHOWN = 8


def print_outputs(outputs: Mapping[str, RunValue]) -> None:
    """Each output's type and values, shortened."""
    for name, value in outputs.items():
        if isinstance(value, np.ndarray):
            print(f"{name}: {DType.from_numpy(value.dtype).value}{list(value.shape)}")
            text = np.array2string(np.asarray(value), threshold=64, edgeitems=3, precision=6, max_line_width=100)
            print("  " + text.replace("\n", "\n  "))
        else:
            print(f"{name}: {value}")


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
    """Write an .npz whole or not at all; items of sequences are `name/0`, `name/1`. Raises OutputError."""
    arrays: dict[str, Any] = {}
    for name, value in outputs.items():
        if isinstance(value, list):
            arrays.update({f"{name}/{index}": np.asarray(item) for index, item in enumerate(value)})
        elif isinstance(value, dict):
            arrays.update({f"{name}/{key}": np.asarray(item) for key, item in value.items()})
        elif value is not None:
            arrays[name] = value
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


def _summary(value: RunValue) -> Any:
    if isinstance(value, np.ndarray):
        first = value.reshape(-1)[:_SHOWN]
        dtype = DType.from_numpy(value.dtype)
        values = [str(item) if dtype is DType.STRING else _number(item) for item in first]
        return {"dtype": dtype.value, "shape": list(value.shape), "first": values}
    if isinstance(value, list):
        return [_summary(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _summary(item) for key, item in value.items()}
    return None


def _number(item: Any) -> Any:
    if isinstance(item, (np.bool_, np.integer)):
        return item.item()
    number = float(item)
    return number if np.isfinite(number) else str(number)
