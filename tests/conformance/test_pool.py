"""Processes: results come back, a process that dies takes one case with it, an interrupt keeps what is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conformance.models import ADD, EVERY, MUL, pack_of, run
from webdnn_conformance.pool import run_in_processes
from webdnn_conformance.worker import Options
from webdnn_onnx.cli import main
from webdnn_onnx.engines.node import NodeEngine
from webdnn_onnx.errors import BackendError


def test_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    found = run(tmp_path, jobs=2)
    assert not found.failed, found
    assert [one.id for one in found.results] == sorted(EVERY)


def test_a_dead_process_is_put_to_the_case_it_was_at(tmp_path: Path) -> None:
    """A case whose pack is damaged ends the process that reads it; the others run all the same."""
    pack = pack_of(tmp_path)
    damaged = tmp_path / "damaged.pack"
    content = pack.path.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    damaged.write_bytes(content[:head] + b"\xff" * (len(content) - head))
    work = [(pack.path, MUL), (damaged, ADD), (pack.path, ADD)]
    options = Options(("js",), engine="node", timeout=20)
    found = list(run_in_processes(work, options, 1))
    assert sorted((one.id, one.outcomes[0].status) for one in found) == [(ADD, "crash"), (ADD, "pass"), (MUL, "pass")]
    assert "process ended" in next(one.outcomes[0].message for one in found if one.outcomes[0].status == "crash")


def test_a_case_that_the_engine_does_not_survive_is_blamed_with_its_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from webdnn_backends.ir.scalars import Op, Scalar
    from webdnn_backends.ir.templates import Row
    from webdnn_backends.js.operators import OPERATORS

    monkeypatch.setitem(OPERATORS[Scalar.F32], Op.ADD, Row("process.exit(7) ?? {a} + {b}"))
    found = run(tmp_path, ADD, MUL)
    states = {(one.id, outcome.backend): outcome.status for one in found.results for outcome in one.outcomes}
    assert states == {(ADD, "js"): "crash", (ADD, "wasm"): "pass", (MUL, "js"): "pass", (MUL, "wasm"): "pass"}


def test_a_crash_that_does_not_happen_again_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, crashes = NodeEngine.exchange, ["node: exited with -9"]

    def flaky(engine: NodeEngine, message: bytes, *, timeout: float = 30.0) -> bytes:
        if crashes:
            raise BackendError(crashes.pop())
        return exchange(engine, message, timeout=timeout)

    monkeypatch.setattr(NodeEngine, "exchange", flaky)
    found = run(tmp_path, ADD, MUL)
    assert not found.failed
    notes = {(one.id, outcome.backend): outcome.message for one in found.results for outcome in one.outcomes}
    assert "second attempt, the first ended with: node: exited with -9" in notes[ADD, "js"]
    assert notes[MUL, "js"] == ""


def test_an_interrupt_reports_what_is_done() -> None:
    command = [sys.executable, "-m", "webdnn_conformance", "--suite", "contrib", "--engine", "node", "--backend", "js"]
    with subprocess.Popen(
        [*command, "--jobs", "1", "--json", os.devnull], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(6)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    if process.returncode != 130:
        assert process.returncode == 0, err  # it was faster than we are
        return
    assert "interrupted: these are the cases that were done" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "cuda"], "--backend: expected some of js, wasm, webgpu, got 'cuda'"),
        (["--suite", "onxx"], "--suite: expected one of"),
        (["--suite", "contrib", "--filter", "nothing-like-this"], "--filter: expected part of a case id"),
        (["--suite", "models"], "--models"),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--browser-endpoint", "ws://127.0.0.1:1"], "cannot connect"),
        (["--browser-endpoint", "http://127.0.0.1:1"], "expected an answer, got none"),
        (["--html", "own"], "choose another"),
        (["--html", "file/report"], "expected a folder that can be written, got"),
        (["--json", "own"], "expected a file to write, got a folder"),
        (["--scoreboard", "file"], "expected a folder that can be written, got"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_no_case_could_survive_is_said_before_the_first(
    option: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "data").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    assert main(["conformance", "--suite", "contrib", "--filter", "gelu", *option]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_command_lists_and_fails_as_it_should(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["conformance", "--suite", "contrib", "--filter", "gelu", "--list"]) == 0
    assert "contrib/microsoft/com.microsoft.fastgelu/1/f32/fast_gelu" in capsys.readouterr().out
    (tmp_path / "js.toml").write_text('[[entry]]\nid = "contrib/none"\nstatus = "skip"\nreason = "x"\n')
    arguments = ["--suite", "contrib", "--filter", "/bias_gelu", "--engine", "node", "--backend", "js", "--jobs", "0"]
    assert main(["conformance", *arguments]) == 0
    assert main(["conformance", *arguments, "--expectations", str(tmp_path)]) == 1
    assert "PROBLEM expectations/js.toml: contrib/none" in capsys.readouterr().out


def test_without_the_package_the_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "webdnn_conformance"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "webdnn_conformance", None)
    assert main(["conformance"]) == 2
    assert "expected the package webdnn_conformance, got none" in capsys.readouterr().err
