"""Converts the digit classifier and runs it in a real browser on every backend: what `make demo` shows.

    python examples/digits/demo.py [FOLDER]

Writes the page and its model to FOLDER (site/digits unless given), classifies images that the network was not trained
on, and prints what each backend made of them.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
from train import digits

from webdnn_onnx.cli.bundle import remember_source
from webdnn_onnx.cli.convert import summary
from webdnn_onnx.cli.progress import Progress
from webdnn_onnx.cli.table import format_table
from webdnn_onnx.convert import convert
from webdnn_onnx.engines import open_engine
from webdnn_onnx.errors import WebDNNError
from webdnn_onnx.report.units import format_ms

HERE = Path(__file__).parent
PAGE = ("index.html", "style.css", "main.js", "strokes.js", "icon.svg")
IMAGES = 50


def build(folder: Path) -> None:
    """Write the page and the converted model."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGE:
        shutil.copyfile(HERE / name, folder / name)
    with Progress() as progress:
        report = convert(HERE / "digits.onnx", folder / "model", progress=progress)
    remember_source(folder / "model", HERE / "digits.onnx")
    print(summary(report))


def classify(bundle: Path) -> list[tuple[object, ...]]:
    """One row per backend: what it ran on, how long it took, how many images it got right."""
    images, labels = digits()[2:]
    rows: list[tuple[object, ...]] = []
    with open_engine("chromium") as engine:
        for backend in ("webgpu", "wasm", "js"):
            try:
                load_ms, times, right = 0.0, [], 0
                for image, label in zip(images[:IMAGES], labels[:IMAGES], strict=True):
                    outputs, info = engine.run(bundle, backend, {"image": image[None]})
                    right += int(np.argmax(np.asarray(outputs["probabilities"])) == label)
                    load_ms = load_ms or info.load_ms
                    times += info.run_ms
            except WebDNNError as error:
                rows.append((backend, "", "", "", f"failed: {error}"))
            else:
                latency = format_ms(statistics.median(times))
                rows.append((backend, info.adapter, format_ms(load_ms), latency, f"{right} of {IMAGES}"))
    return rows


def main() -> int:
    """Build, classify, say how to open the page."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("site/digits")
    build(folder)
    print(f"\n{IMAGES} handwritten digits that it was not trained on, in Chromium:\n")
    rows = classify(folder / "model")
    print(format_table(("backend", "on", "start-up", "median run", "right"), rows, right=(2, 3)))
    print(f"\nDraw digits yourself:  .venv/bin/webdnn serve {folder}  and open http://127.0.0.1:8000/")
    return int(any(str(row[-1]).startswith("failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
