"""The wheel: what is in it, what it needs, and that it works alone in an empty environment."""

from __future__ import annotations

import email
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, with the build tools of the development environment."""
    if not (ROOT / "webdnn_onnx" / "_runtime" / "webdnn.js").is_file():
        pytest.fail("the runtime is not built: run `make setup`")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_holds_the_three_packages_and_nothing_else(names: set[str]) -> None:
    tops = {name.split("/", 1)[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"webdnn_onnx", "webdnn_reference", "webdnn_backends"}
    assert not [name for name in names if "__pycache__" in name or "node_modules" in name]


def test_it_holds_the_built_runtime_and_the_other_files_that_are_no_python(names: set[str]) -> None:
    expected = {
        "webdnn_onnx/_runtime/webdnn.js",
        "webdnn_onnx/_runtime/webdnn.worker.js",
        "webdnn_onnx/_runtime/webdnn.d.ts",
        "webdnn_onnx/engines/session.js",
        "webdnn_onnx/engines/node.mjs",
        "webdnn_onnx/engines/page.html",
        "webdnn_onnx/engines/page.js",
        "webdnn_onnx/report/report.css",
    }
    assert expected <= names


def test_it_is_typed(names: set[str]) -> None:
    assert {f"{package}/py.typed" for package in ("webdnn_onnx", "webdnn_reference", "webdnn_backends")} <= names


def test_it_needs_numpy_onnx_and_its_ml_dtypes_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = email.message_from_bytes(archive.read(metadata))
    needed = [line for line in message.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.split(">", 1)[0].strip() for line in needed) == ["ml-dtypes", "numpy", "onnx"]
    assert message["License-Expression"] == "MIT"


def test_it_converts_a_model_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    scripts = home / ("Scripts" if sys.platform == "win32" else "bin")
    run([str(scripts / "python"), "-m", "pip", "install", "--quiet", str(wheel)], tmp_path)
    run([str(scripts / "webdnn"), "convert", str(DIGITS), "--out", "digits"], tmp_path)
    folder = tmp_path / "digits"
    assert {"index.js", "webdnn.js", "model.json", "report.html"} <= {path.name for path in folder.iterdir()}
    run([str(scripts / "webdnn"), "reference", str(DIGITS)], tmp_path)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
