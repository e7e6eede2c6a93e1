"""What commands need to know of a bundle: its manifest, and the model that it was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webdnn_onnx.errors import InvalidModelError

__all__ = ["Manifest", "Port", "file_hash", "find_source", "read_manifest", "remember_source"]

_REMEMBERED = 200


@dataclass(frozen=True)
class Port:
    """An input or output. type: as in the manifest; dtype and shape of tensors, `shape` holding dims as in JSON."""

    name: str
    type: Mapping[str, Any]

    @property
    def dtype(self) -> str | None:
        """The element type, None for sequences, optionals and maps."""
        return self.type.get("dtype")

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(self.type.get("shape", ()))


@dataclass(frozen=True)
class Manifest:
    """model.json as commands see it."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    backends: tuple[str, ...]
    data: Mapping[str, Any]


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle. Raises InvalidModelError if the folder is none."""
    path = bundle / "model.json"
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        reason = f"{(error.strerror or str(error)).lower()}: model.json"
        raise InvalidModelError(f"{bundle}: expected a folder that `webdnn convert` wrote, got {reason}") from None
    except ValueError as error:
        raise InvalidModelError(f"{path}: expected JSON, got: {error}") from None
    try:
        if data["format"] != 1:
            raise InvalidModelError(f"{path}: format: expected 1, got {data['format']}; convert the model again")
        return Manifest(
            str(data["name"]),
            tuple(Port(port["name"], port) for port in data["inputs"]),
            tuple(Port(port["name"], port) for port in data["outputs"]),
            tuple(data["programs"]),
            data,
        )
    except (KeyError, TypeError) as error:
        raise InvalidModelError(f"{path}: expected a manifest of `webdnn convert`, got one without {error}") from None


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remember_source(bundle: Path, model: Path) -> None:
    """Note in the user's cache which model a bundle was made from.

    The bundle itself names no path, so that the same model gives the same bytes everywhere.
    """
    index = _read_index()
    index.pop(_key(bundle), None)
    index[_key(bundle)] = str(model.resolve())
    path = _index_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(dict(list(index.items())[-_REMEMBERED:]), indent=1))
        temporary.replace(path)
    except OSError:
        return  # without the note, `webdnn check` asks for --model


def find_source(bundle: Path, model: Path | None) -> Path:
    """The model to check a bundle against: `model` if given, else the one remembered. Raises InvalidModelError."""
    if model is not None:
        if not model.is_file():
            raise InvalidModelError(f"{model}: expected an ONNX file, got no such file")
        return model
    noted = _read_index().get(_key(bundle))
    if noted is None:
        raise InvalidModelError(f"{bundle}: expected to know the model it was made from, got no note; give --model")
    if not Path(noted).is_file():
        raise InvalidModelError(f"{bundle}: its model {noted} is gone; give --model")
    return Path(noted)


def _key(bundle: Path) -> str:
    """The manifest's hash: it stays the same when a bundle is moved or served from elsewhere."""
    return file_hash(bundle / "model.json")


def _index_path() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "webdnn-onnx" / "sources.json"


def _read_index() -> dict[str, str]:
    try:
        index = json.loads(_index_path().read_bytes())
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}
