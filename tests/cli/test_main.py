"""The command line as a whole: help, versions, exit codes, one-line errors."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from webdnn_onnx.cli import main
from webdnn_onnx.cli.arguments import COMMANDS, build_parser


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from webdnn_onnx.cli.arguments import build_parser; build_parser().format_help(); "
    program += "import webdnn_onnx.cli.main; print([name for name in ('numpy', 'onnx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_a_module(command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args([command, "--help"])
    assert stop.value.code == 0
    module = __import__(f"webdnn_onnx.cli.{command}", fromlist=["run"])
    assert callable(module.run)


def test_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"webdnn-onnx {version('webdnn-onnx')}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "/nowhere"], ["/nowhere", "expected a folder"]),
        (["run", "/nowhere"], ["/nowhere", "webdnn convert"]),
        (["check", "/nowhere"], ["/nowhere", "webdnn convert"]),
        (["inspect", "/nowhere.onnx"], ["/nowhere.onnx"]),
        (["reference", "/nowhere.onnx"], ["/nowhere.onnx"]),
        (["convert", "/nowhere.onnx", "--out", "/tmp/never"], ["/nowhere.onnx"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"webdnn {arguments[0]}: ")
    assert all(word in captured.err for word in words)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_until_it_is_interrupted(tmp_path: Path, name: signal.Signals) -> None:
    import urllib.request

    (tmp_path / "hello.txt").write_text("hi")
    command = [sys.executable, "-m", "webdnn_onnx", "serve", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http://"))
        with urllib.request.urlopen(f"{url}hello.txt", timeout=5) as answer:
            assert answer.read() == b"hi"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        process.send_signal(name)
        assert process.wait(5) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "options",
    [
        ["serve", "--port", "99999"],
        ["reference", "x.onnx", "--seed", "-1"],
        ["run", "x", "--repeat", "0"],
        ["run", "x", "--timeout", "-1"],
        ["run", "x", "--timeout", "soon"],
        ["convert", "x.onnx", "--out", "y", "--backend", "cuda"],
    ],
    ids=" ".join,
)
def test_an_option_out_of_its_range_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {options[-2]}" in last
    assert "expected" in last


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["convert"], "webdnn convert: the following arguments are required: MODEL"),
        (["convrt", "m.onnx"], "webdnn: argument COMMAND: invalid choice: 'convrt'"),
        (["run", "folder", "--repeat", "many"], "webdnn run: argument --repeat: expected a number from 1 on, got many"),
        (["inspect", "m.onnx", "--nods"], "webdnn: unrecognized arguments: --nods"),
    ],
)
def test_a_command_line_that_is_wrong_is_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    line = capsys.readouterr().err
    assert stop.value.code == 2
    assert line.startswith(expected)
    assert line.count("\n") == 1
    assert "--help" in line


def test_a_full_disk_behind_the_output_is_one_line(model: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("w") as stream:
        command = [sys.executable, "-m", "webdnn_onnx", "inspect", str(model)]
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "webdnn inspect: standard output: No space left on device\n"


def test_too_little_memory_is_one_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", str(model), "--dim", "batch=999999999999"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("webdnn reference: expected enough memory, got too little")
    assert error.count("\n") == 1
