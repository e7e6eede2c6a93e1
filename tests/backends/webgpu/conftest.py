"""Runs WGSL kernels in Dawn under Node, on a GPU where there is one and on SwiftShader otherwise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir.probes import Probe
from webdnn_backends.webgpu import WgslKernel, emit
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import evaluate

Array = npt.NDArray[Any]
RunProbes = Callable[..., dict[str, dict[str, Array]]]

MODULES = Path(os.environ.get("WEBDNN_NODE_MODULES", Path(__file__).parents[3] / "runtime" / "node_modules"))
SOFTWARE = ("/usr/lib/chromium/vk_swiftshader_icd.json", "/opt/google/chrome/vk_swiftshader_icd.json")


@pytest.fixture
def run_probes(tmp_path: Path) -> RunProbes:
    """The buffers that each probe leaves; skips where Node or an adapter is missing, fails where WGSL is refused."""
    return lambda cases, shaders=None: run(list(cases), tmp_path, shaders)


def run(
    probes: Sequence[Probe], folder: Path, emitted: Mapping[str, WgslKernel] | None = None
) -> dict[str, dict[str, Array]]:
    if shutil.which("node") is None:
        pytest.skip("node is not on PATH")
    data, runs, places = bytearray(), [], []
    for probe in probes:
        shader = (emitted or {}).get(probe.id) or emit(probe.kernel)
        buffers, place = [], {}
        for buffer in probe.kernel.buffers:
            content = packed(probe.buffers[buffer.name], buffer.dtype)
            content += bytes(-len(content) % 4)
            buffers.append({"offset": len(data), "bytes": len(content)})
            place[buffer.name] = (len(data), len(content), buffer.dtype)
            data += content
        runs.append(
            {
                "name": probe.id,
                "text": shader.text,
                "entry": shader.entry,
                "bindings": shader.bindings,
                "buffers": buffers,
                "parameters": [probe.parameters[name] for name in probe.kernel.parameters],
                "grid": [evaluate(extent, probe.parameters) for extent in shader.grid],
            }
        )
        places.append(place)
    answer, output = drive(runs, bytes(data), folder)
    assert not answer["errors"], "\n".join(f"{name}: {text}" for name, text in answer["errors"].items())
    return {
        probe.id: {
            name: unpacked(output[start : start + size], dtype, len(probe.buffers[name]))
            for name, (start, size, dtype) in place.items()
        }
        for probe, place in zip(probes, places, strict=True)
    }


def drive(runs: list[dict[str, Any]], data: bytes, folder: Path) -> tuple[dict[str, Any], bytes]:
    paths = {name: str(folder / name) for name in ("data", "output", "answer")}
    (folder / "data").write_bytes(data)
    (folder / "job.json").write_text(json.dumps({**paths, "runs": runs}))
    environment = dict(os.environ)
    for icd in SOFTWARE:
        if "VK_ICD_FILENAMES" not in environment and Path(icd).is_file():
            environment["VK_ICD_FILENAMES"] = icd
            libraries = [str(Path(icd).parent), environment.get("LD_LIBRARY_PATH", "")]
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    command = ["node", Path(__file__).with_name("driver.mjs"), folder / "job.json", MODULES.parent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads((folder / "answer").read_text())
    if "unavailable" in answer:
        pytest.skip(f"WebGPU under Node: {answer['unavailable']}")
    return answer, (folder / "output").read_bytes()


def packed(array: Array, dtype: DType) -> bytes:
    """The elements as a bundle stores them: sub-byte types low bits first."""
    if dtype.bits >= 8:
        return array.tobytes()
    codes = array.view(np.uint8) & ((1 << dtype.bits) - 1)
    per_byte = 8 // dtype.bits
    codes = np.append(codes, np.zeros(-len(codes) % per_byte, np.uint8)).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * dtype.bits
    return np.bitwise_or.reduce(codes << shifts, axis=1).astype(np.uint8).tobytes()


def unpacked(data: bytes, dtype: DType, count: int) -> Array:
    if dtype.bits >= 8:
        return np.frombuffer(data, dtype.numpy, count)
    shifts = np.arange(8 // dtype.bits, dtype=np.uint8) * dtype.bits
    codes = ((np.frombuffer(data, np.uint8)[:, None] >> shifts) & ((1 << dtype.bits) - 1)).ravel()[:count]
    if dtype.is_float:
        return codes.view(dtype.numpy)
    signed = codes.astype(np.int16)
    if dtype.is_signed_integer:
        signed = np.where(signed >= 1 << (dtype.bits - 1), signed - (1 << dtype.bits), signed)
    return signed.astype(dtype.numpy)
