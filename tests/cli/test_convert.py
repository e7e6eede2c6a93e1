"""webdnn convert, and what it writes run in real engines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from webdnn_onnx.cli import main
from webdnn_onnx.errors import WebDNNError

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digit classifier for every backend. Copy it before writing to it."""
    from webdnn_onnx.convert import convert

    folder = tmp_path_factory.mktemp("site") / "digits"
    convert(DIGITS, folder)
    return folder


def test_the_summary_fits_on_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(DIGITS), "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) < 24
    assert captured.err == ""
    assert "image: float32[1, 1, 8, 8]" in captured.out
    assert all(backend in captured.out for backend in ("webgpu", "wasm", "js"))


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(DIGITS), "--out", str(tmp_path / "out"), "--backend", "js", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_only_the_backends_asked_for_are_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(DIGITS), "--out", str(out), "--backend", "js", "--quiet"]) == 0
    assert list(json.loads((out / "model.json").read_bytes())["programs"]) == ["js"]
    assert not list(out.glob("*.wasm"))


def test_explain_says_what_was_fused_and_what_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(DIGITS), "--out", str(tmp_path / "out"), "--backend", "js", "--explain"]) == 0
    shown = capsys.readouterr().out
    assert "BatchNormalization" in shown
    assert ": fused" in shown
    assert "not fused: " in shown


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "elsewhere" / "b"
    for out in (first, second):
        assert main(["convert", str(DIGITS), "--out", str(out), "--quiet"]) == 0
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["convert", str(DIGITS), "--out", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "model"), (b"not a model", "model"), (DIGITS.read_bytes()[:5000], "model")]
)
def test_what_is_no_model_is_one_line(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    out = tmp_path / "out"
    assert main(["convert", str(tmp_path / "x.onnx"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists()


def test_an_operator_that_is_unknown_is_named(
    tmp_path: Path, strange_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(strange_model), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "Frobnicate" in error
    assert "odd" in error
    assert not (tmp_path / "out").exists()


def test_a_shape_that_contradicts_the_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(DIGITS), "--out", str(tmp_path / "out"), "--shape", "image=1,3,8,8"]) == 2
    assert "image" in capsys.readouterr().err


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from webdnn_onnx import convert as module; from webdnn_onnx.cli import main; "
        "module._render = lambda *_: os.kill(os.getpid(), signal.SIGINT); "
        f"sys.exit(main(['convert', {str(DIGITS)!r}, '--out', 'out', '--backend', 'js']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.browser
def test_every_backend_agrees_with_the_reference_in_chromium(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(DIGITS), "--out", str(out), "--quiet"]) == 0
    assert main(["check", str(out), "--gpu", "software"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows if row.endswith("ok")] == ["webgpu", "wasm", "js"]


def test_wasm_and_js_agree_with_the_reference_in_node(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(DIGITS), "--out", str(out), "--quiet"]) == 0
    assert main(["check", str(out), "--engine", "node", "--backend", "wasm", "--backend", "js"]) == 0


@pytest.mark.parametrize("weights", ["f16", "int8"])
def test_narrow_weights_are_smaller_and_still_agree(converted: Path, tmp_path: Path, weights: str) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(DIGITS), "--out", str(out), "--quiet", "--weights", weights, "--backend", "js"]) == 0
    size, full = (sum(path.stat().st_size for path in folder.glob("*.bin")) for folder in (out, converted))
    assert size < 0.6 * full
    assert main(["check", str(out), "--engine", "node"]) == 0


def test_a_damaged_weight_file_is_found(converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    shutil.copytree(converted, out)
    shard = out / "weights-00.bin"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    assert main(["run", str(out), "--engine", "node", "--backend", "js"]) == 2
    assert "weights-00.bin" in capsys.readouterr().err


def test_a_symbolic_batch_can_be_fixed_or_left_open(model: Path, tmp_path: Path) -> None:
    fixed, open_ = tmp_path / "fixed", tmp_path / "open"
    assert main(["convert", str(model), "--out", str(fixed), "--quiet", "--dim", "batch=5", "--backend", "js"]) == 0
    assert json.loads((fixed / "model.json").read_bytes())["inputs"][0]["shape"] == [5, 3]
    assert main(["check", str(fixed), "--engine", "node"]) == 0
    assert main(["convert", str(model), "--out", str(open_), "--quiet", "--backend", "js"]) == 0
    for rows in (1, 7):
        np.savez(tmp_path / "x.npz", x=np.ones((rows, 3), np.float32))
        assert main(["check", str(open_), "--engine", "node", "--input", str(tmp_path / "x.npz")]) == 0


def test_an_operator_that_is_newer_than_the_model_s_opset_is_named_with_the_versions_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Gelu", ["x"], ["y"], name="act")], "early", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "x.onnx")
    assert main(["convert", str(tmp_path / "x.onnx"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "Gelu 'act' (opset 17)" in error
    assert "versions 20" in error


def relu(path: Path, given: list[int] | None, declared: list[int] | None, *, outputs: int = 1) -> Path:
    """A model of one Relu whose input and output are declared so."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, given)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, declared)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y][:outputs])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("declared", [[2, 5], [6]], ids=["size", "rank"])
def test_an_output_that_is_not_as_declared_is_noted(
    tmp_path: Path, declared: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = relu(tmp_path / "x.onnx", [2, 3], declared)
    assert main(["convert", str(path), "--out", str(tmp_path / "out"), "--backend", "js"]) == 0
    assert f"note: output 'y': declared as float32{declared}, its nodes give float32[2, 3]" in capsys.readouterr().out


def test_an_input_of_unknown_rank_is_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = relu(tmp_path / "x.onnx", None, None)
    assert main(["convert", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "input 'x': expected a known rank" in (error := capsys.readouterr().err)
    assert "--shape x=" in error
    assert main(["convert", str(path), "--out", str(tmp_path / "out"), "--shape", "x=2,3", "--backend", "js"]) == 0


def test_a_model_without_outputs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = relu(tmp_path / "x.onnx", [2, 3], [2, 3], outputs=0)
    assert main(["convert", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "expected at least one output, got none" in capsys.readouterr().err


def test_a_rank_that_sizes_decide_says_to_fix_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list("abcdef"))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Squeeze", ["x"], ["y"])], "squeeze", [x], [y])
    path = tmp_path / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    arguments = ["convert", str(path), "--out", str(tmp_path / "out"), "--backend", "js"]
    assert main(arguments) == 2
    assert "--dim" in capsys.readouterr().err
    assert main([*arguments, "--dim", "a=1", "--dim", "b=2", "--dim", "c=3"]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backends": ("cuda",)}, "backends: expected some of webgpu, wasm, js, got cuda"),
        ({"backends": ()}, "got none"),
        ({"weights": "f8"}, "weights: expected one of f32, f16, int8, got f8"),
    ],
)
def test_the_python_function_refuses_options_that_there_are_not(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    from webdnn_onnx.convert import convert

    with pytest.raises(WebDNNError, match=said):
        convert(DIGITS, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
