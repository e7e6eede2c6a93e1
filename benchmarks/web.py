"""Our bundles beside onnxruntime-web in one Chromium page: latency, thread scaling, cold start.

    python -m benchmarks.web [--model NAME ...] [--runs N] [--backend wasm|webgpu]

Runs are interleaved, one of ours and one of theirs in turn, and the medians are compared: on a shared machine only the
ratio means something. The models are the light ones of the onnx package: real architectures, made-up weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from webdnn_onnx.convert import convert
from webdnn_onnx.engines.chromium import ChromiumEngine
from webdnn_onnx.load import load

HERE = Path(__file__).parent
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = ("squeezenet", "resnet50", "densenet121", "shufflenet")


class Comparison:
    """A browser, a server with bundles and peers, and the measurements taken in it."""

    def __init__(self, folder: Path, backend: str) -> None:
        peer = HERE / "node_modules" / "onnxruntime-web" / "dist"
        if not peer.is_dir():
            raise SystemExit(f"{peer}: expected onnxruntime-web, got nothing; run `npm install --prefix benchmarks`")
        self.folder, self.backend = folder, backend
        self.engine = ChromiumEngine()
        self.engine.server.mount("/bench/", HERE)
        self.engine.server.mount("/ort/", peer)
        self.engine.server.mount("/models/", folder)

    def prepare(self, model: Path) -> dict[str, Any]:
        """Convert a model; returns what the page needs to know of it.

        Both engines get a Sum of two as Add: the peer computes Sum on the CPU, where every one waits for the GPU.
        """
        name = model.stem
        proto = onnx.load(model)
        for node in proto.graph.node:
            if node.op_type == "Sum" and len(node.input) == 2:
                node.op_type = "Add"
        path = self.folder / f"{name}.onnx"
        onnx.save(proto, path)
        convert(path, self.folder / name, backends=(self.backend,))
        inputs = [
            {"name": value.name, "dims": [int(str(size)) for size in value.shape], "dtype": value.dtype.value}
            for value in load(path).inputs
        ]
        return {"bundle": f"/models/{name}", "model": f"/models/{name}.onnx", "inputs": inputs, "backend": self.backend}

    def call(self, function: str, arguments: dict[str, Any]) -> Any:
        """A function of page.js in a fresh tab."""
        tab = self.engine.tab(f"{self.engine.server.url}/bench/blank.html")
        try:
            expression = f'import("/bench/page.js").then((page) => page.{function}({json.dumps(arguments)}))'
            return tab.evaluate(expression, timeout=600)
        finally:
            tab.close()


def measure(comparison: Comparison, model: Path, runs: int) -> list[str]:
    """Lines of a report about one model."""
    facts = comparison.prepare(model)
    lines: list[str] = []
    for threads in (1, 2) if comparison.backend == "wasm" else (1,):
        found = comparison.call("compare", {**facts, "threads": threads, "runs": runs, "warmups": 3})
        lines.append(
            f"{model.stem:18} {comparison.backend:6} {threads} thread{'s' if threads > 1 else ' '} "
            f"ours {found['oursMedian']:8.2f} ms   onnxruntime-web {found['theirsMedian']:8.2f} ms   "
            f"{found['theirsMedian'] / found['oursMedian']:5.2f}x   largest difference {found['difference']:.1e}"
        )
    if comparison.backend == "webgpu":
        ours = found["oursMedian"]
        found = comparison.call("captured", {**facts, "runs": runs, "warmups": 3})
        lines.append(
            f"{model.stem:18} webgpu captured  ours {ours:8.2f} ms   onnxruntime-web {found['median']:8.2f} ms   "
            f"{found['median'] / ours:5.2f}x"
        )
    if comparison.backend == "wasm":
        found = comparison.call("scaling", {**facts, "threads": 2, "blocks": 5, "runs": runs})
        lines.append(
            f"{model.stem:18} wasm   scaling   one thread {found['one']:8.2f} ms   two {found['many']:8.2f} ms   "
            f"{found['one'] / found['many']:5.2f}x"
        )
    cold: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(5):
        for engine, times in cold.items():
            times.append(comparison.call("coldStart", {**facts, "engine": engine, "threads": 1}))
    medians = {engine: statistics.median(times) for engine, times in cold.items()}
    lines.append(
        f"{model.stem:18} {comparison.backend:6} cold start ours {medians['ours']:8.2f} ms   "
        f"onnxruntime-web {medians['theirs']:8.2f} ms   {medians['theirs'] / medians['ours']:5.2f}x"
    )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help=f"a light model ({', '.join(MODELS)}) or a path to an .onnx")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--backend", choices=("wasm", "webgpu"), default="wasm")
    options = parser.parse_args(arguments)
    chosen = options.model or MODELS[:2]
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(Path(folder), options.backend)
        with comparison.engine:
            for name in chosen:
                path = Path(name) if name.endswith(".onnx") else LIGHT / f"light_{name}.onnx"
                for line in measure(comparison, path, options.runs):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
