"""What Python and session.js say to each other: requests, results and errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webdnn_onnx.engines.engine import RunInfo, RunResult
from webdnn_onnx.engines.tensors import RunValue, decode, encode
from webdnn_onnx.errors import BackendError, InvalidModelError, LimitError, ShapeError, WebDNNError

__all__ = ["bundle_stamp", "js_error", "request", "result"]

_ERRORS: dict[str, type[WebDNNError]] = {
    "WebDNNError": WebDNNError,
    "ModelError": InvalidModelError,
    "IntegrityError": InvalidModelError,
    "InputError": ShapeError,
    "ShapeError": ShapeError,
    "BackendError": BackendError,
    "DeviceLostError": BackendError,
    "OutOfMemoryError": LimitError,
}


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
            notes=tuple(info["notes"]),
            console=console,
        ),
    )


def js_error(error: Mapping[str, Any], backend: str, engine: str) -> WebDNNError:
    """The Python error for one that JavaScript threw, by its class there; BackendError for any that is not ours."""
    name, message = str(error.get("name", "Error")), str(error.get("message", ""))
    if name in _ERRORS:
        return _ERRORS[name](f"{backend} in {engine}: {message}")
    return BackendError(f"{backend} in {engine}: {name}: {message}")
