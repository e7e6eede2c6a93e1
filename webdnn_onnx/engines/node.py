"""Bundles under Node: one long-lived process, messages over its standard input and output."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webdnn_onnx.engines.browser import has_gpu
from webdnn_onnx.engines.engine import Engine, RunResult
from webdnn_onnx.engines.messages import bundle_stamp, js_error, request, result
from webdnn_onnx.engines.tensors import RunValue, decode, encode
from webdnn_onnx.errors import BackendError

__all__ = ["NodeEngine", "find_node"]

_FLAGS = ("--no-warnings", "--experimental-wasm-relaxed-simd")
_VULKAN_CHOICES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
_SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
"""The Vulkan driver on the CPU that Debian's Chromium brings: with it, WebGPU runs on machines without a GPU."""


def find_node() -> Path:
    """The Node to use: $NODE, else `node` on PATH. Raises BackendError if there is none."""
    found = shutil.which(os.environ.get("NODE", "node"))
    if found is None:
        raise BackendError("node: expected Node.js 20 or newer on PATH or in $NODE, got none")
    return Path(found)


class NodeEngine(Engine):
    """One Node process. modules: a folder from which the npm package `webgpu` resolves, for the webgpu backend;
    $WEBDNN_NODE_MODULES goes before it.

    A crash ends the call with BackendError; the next call starts a new process.
    """

    name = "node"

    def __init__(self, *, executable: Path | None = None, modules: Path | None = None) -> None:
        self._executable = executable or find_node()
        self._environment = dict(os.environ)
        if modules is not None:
            self._environment.setdefault("WEBDNN_NODE_MODULES", str(Path(modules).resolve()))
        if not has_gpu() and not any(name in os.environ for name in _VULKAN_CHOICES) and _SWIFTSHADER.exists():
            self._environment["VK_ICD_FILENAMES"] = str(_SWIFTSHADER)
        self._process: subprocess.Popen[bytes] | None = None
        self._stamps: dict[str, int] = {}
        self._printed: deque[str] = deque(maxlen=200)

    @property
    def version(self) -> str:
        """Node's name and version."""
        return f"Node {self.evaluate('process.version')}"

    def run(
        self, bundle: Path, backend: str, inputs: Mapping[str, RunValue], *, repeat: int = 1, timeout: float = 120.0
    ) -> RunResult:
        folder = Path(bundle).resolve()
        stamp = bundle_stamp(bundle)
        # Node keeps imported modules for ever, so a bundle that was written again needs a new process.
        if self._stamps.get(str(folder), stamp) != stamp:
            self._stop()
        self._stamps[str(folder)] = stamp
        printed = len(self._printed)
        message = request((folder / "index.js").as_uri(), backend, inputs, repeat)
        answer = self._exchange(message, timeout, f"{backend} in node, {bundle}")
        header, _ = decode(answer)
        if "error" in header:
            raise js_error(header["error"], backend, self.name)
        return result(answer, tuple(self._printed)[printed:])

    def publish(self, folder: Path) -> str:
        return f"{Path(folder).resolve().as_uri()}/"

    def exchange(self, message: bytes, *, timeout: float = 30.0) -> bytes:
        answer = self._exchange(message, timeout, "node")
        header, _ = decode(answer)
        if "error" in header:
            raise js_error(header["error"], "module", self.name)
        return answer

    def evaluate(self, expression: str, *, timeout: float = 30.0) -> Any:
        header, _ = decode(self._exchange(encode({"evaluate": expression}, {}), timeout, "node"))
        if "error" in header:
            raise BackendError(f"node: {header['error']['stack'] or header['error']['message']}")
        return header["value"]

    def close(self) -> None:
        self._stop()

    def _exchange(self, message: bytes, timeout: float, what: str) -> bytes:
        """One message there and one back, within a time. Ends the process if that fails."""
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            process.stdin.write(len(message).to_bytes(4, "little"))
            process.stdin.write(message)
            process.stdin.flush()
            length = int.from_bytes(self._read(process, 4), "little")
            return self._read(process, length)
        except (OSError, EOFError) as error:
            late = timer.finished.is_set()
            self._stop()
            said = f"; its last words: {self._printed[-1]}" if self._printed else ""
            reason = (
                f"expected an answer within {timeout:g} s, got none" if late else f"the process ended: {error}{said}"
            )
            raise BackendError(f"{what}: {reason}") from error
        finally:
            timer.cancel()

    @staticmethod
    def _read(process: subprocess.Popen[bytes], count: int) -> bytes:
        assert process.stdout is not None
        data = process.stdout.read(count)
        if len(data) < count:
            raise EOFError(f"exit status {process.wait()}")
        return data

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            program = Path(__file__).with_name("node.mjs")
            self._process = subprocess.Popen(
                [str(self._executable), *_FLAGS, str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
            )
            threading.Thread(target=self._collect, args=(self._process,), daemon=True).start()
        return self._process

    def _collect(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._printed.append(line.decode(errors="replace").rstrip())

    def _stop(self) -> None:
        process, self._process = self._process, None
        self._stamps.clear()
        if process is not None:
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
