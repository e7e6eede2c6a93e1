"""A case as the converter leaves it: the files that a browser would get, and what its programs say."""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webdnn_onnx.convert import convert
from webdnn_onnx.errors import UnsupportedOpError, WebDNNError

__all__ = ["Bundle", "Refusal", "convert_case", "steps_of"]

_NOT_SHIPPED = ("webdnn", "index.", "report.")
"""What a bundle holds beside the model: the runtime, which is loaded once, and texts for people."""


@dataclass(frozen=True)
class Refusal:
    """Why a case has no program for a backend: a status of an outcome and a message."""

    status: str
    message: str


@dataclass(frozen=True)
class Bundle:
    """files: by name, without the runtime. refused: backends that have no program. ms: to convert."""

    files: Mapping[str, bytes]
    refused: Mapping[str, Refusal]
    ms: float
    placements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.files["model.json"])
        return found

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends that it has programs for."""
        return tuple(self.manifest["programs"]) if self.files else ()

    def kernels(self) -> dict[str, str]:
        """Backend -> the text of its kernels."""
        from webdnn_conformance.wat import disassemble

        texts: dict[str, str] = {}
        for name, content in self.files.items():
            if name == "kernels.wasm":
                texts["wasm"] = disassemble(content)
            elif name.endswith((".wgsl", ".js")):
                backend = {"kernels.wgsl": "webgpu", "kernels.js": "js"}.get(name, name)
                texts[backend] = content.decode()
        return texts

    def steps(self, backend: str) -> tuple[int, list[tuple[str, str]]]:
        """How many compute steps a backend's program has, and those of them that leave it, as (kernel, reason)."""
        program = self.manifest["programs"][backend]
        count, placed = 0, []
        for step in steps_of(program["steps"]):
            if "host" in step:
                count += 1
                if backend != "js":
                    placed.append((str(step["host"]), "its values live on the JavaScript side"))
            elif "run" in step:
                count += 1
                if step.get("on", backend) != backend:
                    name = str(program["hostKernels"][step["run"]]["name"])
                    placed.append((name, self.placements.get(backend, {}).get(name, "the target has no kernel for it")))
        return count, placed


def steps_of(steps: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Every step of a program, nested ones included."""
    for step in steps:
        yield step
        yield from steps_of(step.get("then", ()))
        yield from steps_of(step.get("else", ()))
        yield from steps_of(step.get("loop", {}).get("body", ()))


def convert_case(model: bytes, backends: Sequence[str], name: str) -> Bundle:
    """Convert once for all backends; where that fails, for each alone, so that a refusal is put to its backend."""
    start = time.perf_counter()
    bundle = _convert(model, backends, name)
    if isinstance(bundle, Refusal):
        alone = {backend: bundle if len(backends) == 1 else _convert(model, [backend], name) for backend in backends}
        able = [backend for backend, one in alone.items() if isinstance(one, Bundle)]
        refused = {backend: one for backend, one in alone.items() if isinstance(one, Refusal)}
        found = _convert(model, able, name) if able else None
        if isinstance(found, Bundle):
            bundle = Bundle(found.files, refused, 0.0, found.placements)
        else:
            bundle = Bundle({}, dict.fromkeys(able, bundle) | refused, 0.0)
    return Bundle(bundle.files, bundle.refused, 1e3 * (time.perf_counter() - start), bundle.placements)


def _convert(model: bytes, backends: Sequence[str], name: str) -> Bundle | Refusal:
    with tempfile.TemporaryDirectory(prefix="webdnn-case-") as folder:
        try:
            report = convert(model, Path(folder) / "bundle", backends=backends, name=name)
        except UnsupportedOpError as error:
            return Refusal("unimplemented", str(error))
        except WebDNNError as error:
            return Refusal("error", f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001  # whatever the converter raises is the case's result
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            return Refusal(
                "error", f"converter: {type(error).__name__} at {place}: {' '.join(str(error).split())[:300]}"
            )
        files = {
            path.name: path.read_bytes()
            for path in sorted((Path(folder) / "bundle").iterdir())
            if not path.name.startswith(_NOT_SHIPPED)
        }
    placements = {
        one.backend: {call.name: call.reason for call in one.calls if call.where != one.backend}
        for one in report.backends
    }
    return Bundle(files, {}, 0.0, placements)
