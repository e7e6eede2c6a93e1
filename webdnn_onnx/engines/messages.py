"""What Python and session.js say to each other: requests, results and errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webdnn_onnx import errors
from webdnn_onnx.engines.engine import RunInfo, RunResult
from webdnn_onnx.engines.tensors import RunValue, decode, encode
from webdnn_onnx.errors import BackendError, InvalidModelError, WebDNNError

__all__ = ["bundle_stamp", "js_error", "request", "result"]


def bundle_stamp(bundle: Path) -> int:
    """A number that changes when a bundle is written again. Raises InvalidModelError if it is no bundle."""
    manifest = Path(bundle) / "model.json"
    try:
        return manifest.stat().st_mtime_ns
    except OSError:
        raise InvalidModelError(f"{bundle}: expected a folder that `webdnn convert` wrote, got no model.json") from None


def request(entry: str, backend: str, inputs: Mapping[str, RunValue], repeat: int) -> bytes:
    """A request to load `entry` (a URL or path of index.js) and run it."""
    return encode({"entry": entry, "backend": backend, "repeat": repeat, "options": {}}, inputs)


def result(message: bytes, console: tuple[str, ...] = ()) -> RunResult:
    """The answer to a request."""
    header, outputs = decode(message)
    info = header["info"]
    return RunResult(
        outputs,
        RunInfo(
            backend=str(info["backend"]),
            adapter=str(info["adapter"]),
            load_ms=float(info["loadMs"]),
            run_ms=tuple(float(value) for value in info["runMs"]),
            threads=int(info["threads"]),
            placement=tuple(info["placement"]),
            console=console,
        ),
    )


def js_error(error: Mapping[str, Any], backend: str, engine: str) -> WebDNNError:
    """The Python error for one that the runtime threw: the class of the same name, else BackendError."""
    name, message = str(error.get("name", "Error")), str(error.get("message", ""))
    found = getattr(errors, name, None)
    kind = found if isinstance(found, type) and issubclass(found, WebDNNError) else BackendError
    said = message if kind.__name__ == name else f"{name}: {message}"
    return kind(f"{backend} in {engine}: {said}")
