"""run, check, reference and inspect; the bundle's model is written by hand, so that the compiler has no part in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from webdnn_onnx.cli import main
from webdnn_onnx.cli.bundle import remember_source

ENTRY = """
const W = Array.from({ length: 12 }, (_, index) => Math.fround(-1 + (2 * index) / 11));
export async function load(options) {
  if (options.backend === "wasm") throw Object.assign(new Error("no SIMD"), { name: "BackendError" });
  return {
    backend: options.backend, threads: 1, notes: [], placement: [],
    async run({ x }) {
      const rows = x.dims[0];
      const data = new Float32Array(rows * 4);
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < 4; column++) {
          let sum = 1 + ERROR;
          for (let k = 0; k < 3; k++) sum += x.data[row * 3 + k] * W[k * 4 + column];
          data[row * 4 + column] = Math.max(sum, 0);
        }
      return { y: { data, dims: [rows, 4], dtype: "float32" } };
    },
    async dispose() {},
  };
}
"""

Bundle = Callable[..., Path]


@pytest.fixture
def bundle(tmp_path: Path, model: Path) -> Bundle:
    """Writes a bundle that computes what the model does, plus an error."""

    def write(error: float = 0.0, backends: tuple[str, ...] = ("js",), *, noted: bool = True) -> Path:
        folder = tmp_path / "bundle"
        folder.mkdir()
        manifest = {
            "format": 1,
            "name": "small",
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 4]}],
            "symbols": ["batch"],
            "programs": {backend: {"buffers": []} for backend in backends},
        }
        (folder / "model.json").write_text(json.dumps(manifest))
        (folder / "index.js").write_text(ENTRY.replace("ERROR", str(error)))
        if noted:
            remember_source(folder, model)
        return folder

    return write


def test_check_passes_a_bundle_that_is_right(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle()), "--engine", "node"]) == 0
    shown = capsys.readouterr().out
    assert "ok" in shown
    assert "FAILED" not in shown


def test_check_fails_a_bundle_with_a_planted_error(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle(error=0.01)), "--engine", "node", "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["passed"] is False
    assert {"backend", "loadMs", "runMs", "placement", "notes"} <= set(result["info"])
    (output,) = result["outputs"]
    assert output["error"] == pytest.approx(0.01, rel=1e-3)
    assert "expected" in output["reason"]


def test_check_goes_on_after_a_backend_that_does_not_start(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle(backends=("wasm", "js"))), "--engine", "node"]) == 1
    shown = capsys.readouterr().out
    assert "no SIMD" in shown
    assert any(line.startswith("js") and line.endswith("ok") for line in shown.splitlines())


def test_check_takes_inputs_and_the_model_from_files(bundle: Bundle, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((5, 3), np.float32))
    arguments = ["check", str(bundle(noted=False)), "--engine", "node", "--model", str(model)]
    assert main([*arguments, "--input", str(tmp_path / "x.npz")]) == 0


def test_check_asks_for_a_model_that_it_does_not_know(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle(noted=False)), "--engine", "node"]) == 2
    assert "--model" in capsys.readouterr().err


def test_check_refuses_a_backend_that_the_bundle_has_not(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle()), "--engine", "node", "--backend", "webgpu"]) == 2
    assert "expected a program for webgpu, got only: js" in capsys.readouterr().err


def test_run_saves_its_outputs(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.array([[1, 2, 3]], np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    out = tmp_path / "y.npz"
    arguments = ["run", str(bundle()), "--engine", "node", "--backend", "js", "--repeat", "3"]
    assert main([*arguments, "--input", str(tmp_path / "x.npz"), "--output", str(out)]) == 0
    expected = np.maximum(x @ np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4) + 1, 0)
    with np.load(out) as archive:
        assert np.allclose(archive["y"], expected)
    assert "median" in capsys.readouterr().out


def test_run_leaves_no_half_written_file(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "missing" / "y.npz"
    assert main(["run", str(bundle()), "--engine", "node", "--backend", "js", "--output", str(out)]) == 2
    assert str(out) in capsys.readouterr().err


def test_run_reports_what_the_runtime_refuses(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((1, 3)))
    assert main(["run", str(bundle()), "--engine", "node", "--input", str(tmp_path / "x.npz")]) == 2
    assert "expected float32, got float64" in capsys.readouterr().err


def test_reference_runs_the_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3), np.float32))
    assert main(["reference", str(model), "--input", str(tmp_path / "x.npz"), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)["outputs"]["y"]
    assert output == {"dtype": "float32", "shape": [2, 4], "first": [1.0] * 8}


def test_inspect_lists_operators_and_cost(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--nodes"]) == 0
    shown = capsys.readouterr().out
    assert "ai.onnx 17" in shown
    assert "12*batch" in shown
    assert "every operator can be compiled" in shown
    assert "project" in shown


def test_inspect_counts_what_is_fixed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--dim", "batch=10", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["macs"] == 120
    assert facts["parameters"] == 16
    assert facts["symbols"] == []
    assert facts["nodes"][0]["bytesWritten"] == 160


def test_inspect_names_what_is_missing(strange_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(strange_model), "--json"]) == 0
    (missing,) = json.loads(capsys.readouterr().out)["missing"]
    assert missing["op"] == "com.example.Frobnicate"
    assert missing["first"] == "odd"
