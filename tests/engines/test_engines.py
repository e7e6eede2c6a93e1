"""Chromium and Node: what both promise, and how they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from webdnn_onnx.engines import Engine, open_engine
from webdnn_onnx.engines.browser import Browser, find_chromium
from webdnn_onnx.engines.chromium import ChromiumEngine
from webdnn_onnx.errors import BackendError, InvalidModelError, ShapeError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module", params=[pytest.param("chromium", marks=pytest.mark.browser), "node"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with open_engine(request.param) as running:
        yield running


def run(
    engine: Engine, bundle: Path, *, backend: str = "js", repeat: int = 1, timeout: float = 30.0, **extra: Any
) -> Any:
    return engine.run(bundle, backend, {"x": X, **extra}, repeat=repeat, timeout=timeout)


def test_tensors_go_in_and_out(engine: Engine, bundle: Path) -> None:
    outputs, info = run(engine, bundle)
    assert np.array_equal(outputs["y"], 2 * X)
    assert outputs["y"].dtype == np.float32
    assert info.backend == "js"
    assert info.placement == ("sort on js: no sorting network",)
    assert info.notes == ("a note",)
    assert any("run 1" in line for line in info.console)


def test_integers_of_64_bits_keep_every_bit(engine: Engine, bundle: Path) -> None:
    big = np.array([2**62 - 1, -(2**62)], dtype=np.int64)
    outputs, _ = engine.run(bundle, "js", {"x": big})
    assert np.array_equal(np.asarray(outputs["y"]), 2 * big)


def test_a_bundle_stays_loaded_until_another_is_asked_for(engine: Engine, bundle: Path) -> None:
    _, first = run(engine, bundle, repeat=3)
    outputs, second = run(engine, bundle)
    assert len(first.run_ms) == 3
    assert outputs["runs"] == 4
    assert first.load_ms > 0
    assert second.load_ms == 0


def test_a_bundle_that_was_written_again_is_loaded_again(engine: Engine, bundle: Path) -> None:
    run(engine, bundle)
    entry = bundle / "index.js"
    entry.write_text(entry.read_text().replace("value + value", "value * value"))
    os.utime(bundle / "model.json", ns=(1, 1))
    outputs, _ = run(engine, bundle)
    assert np.array_equal(outputs["y"], X * X)


@pytest.mark.parametrize(
    ("name", "kind"), [("ShapeError", ShapeError), ("ModelError", InvalidModelError), ("TypeError", BackendError)]
)
def test_an_error_of_the_runtime_has_its_class_here(
    engine: Engine, bundle: Path, name: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"js in \w+: .*expected \[2\], got \[3\]"):
        run(engine, bundle, fail=np.array([name], dtype=object))


def test_an_error_while_loading_is_reported(engine: Engine, bundle: Path) -> None:
    with pytest.raises(BackendError, match="no such backend"):
        run(engine, bundle, backend="missing")


def test_a_run_that_never_ends_is_stopped_and_the_next_one_works(engine: Engine, bundle: Path) -> None:
    with pytest.raises(BackendError, match="within 1 s"):
        run(engine, bundle, timeout=1, hang=X)
    assert np.array_equal(run(engine, bundle)[0]["y"], 2 * X)


def test_a_folder_that_is_no_bundle_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"no model\.json"):
        run(engine, tmp_path)


def test_expressions_are_awaited(engine: Engine) -> None:
    assert engine.evaluate("Promise.resolve([1, 'a', { b: null }])") == [1, "a", {"b": None}]
    with pytest.raises(BackendError, match="nonsense"):
        engine.evaluate("nonsense()")


def commands() -> list[str]:
    """The command lines of all running processes."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(BackendError, match="chromium, node"):
        open_engine("netscape")


def test_a_node_that_exits_is_an_error_and_the_next_run_works(bundle: Path) -> None:
    with open_engine("node") as engine:
        engine.evaluate("globalThis.crash = () => process.exit(3)")
        with pytest.raises(BackendError, match="exit status 3"):
            run(engine, bundle, crash=X)
        assert np.array_equal(run(engine, bundle)[0]["y"], 2 * X)


@pytest.mark.browser
def test_a_browser_that_is_killed_is_an_error_and_the_next_run_works(bundle: Path) -> None:
    with ChromiumEngine() as engine:
        server, pid = engine.server, engine.browser.pid

        def kill(_: bytes) -> bytes:
            os.kill(pid, signal.SIGKILL)
            return b""

        server.routes["/kill"] = kill
        engine.evaluate("globalThis.crash = () => fetch('/kill').then(() => new Promise(() => {}))")
        with pytest.raises(BackendError, match="exited"):
            run(engine, bundle, crash=X)
        assert np.array_equal(run(engine, bundle)[0]["y"], 2 * X)


@pytest.mark.browser
def test_a_tab_that_crashes_is_an_error_and_the_next_run_works(bundle: Path) -> None:
    with ChromiumEngine() as engine:
        with pytest.raises(BackendError, match=r"ERR_ABORTED|crashed"):
            engine.page.navigate("chrome://crash", timeout=10)
        engine.page.crash.wait(10)
        assert np.array_equal(run(engine, bundle)[0]["y"], 2 * X)


@pytest.mark.browser
def test_the_page_is_cross_origin_isolated_and_has_webgpu() -> None:
    with ChromiumEngine(gpu="software") as engine:
        assert engine.evaluate("crossOriginIsolated") is True
        assert (
            engine.evaluate("navigator.gpu.requestAdapter().then((adapter) => adapter.info.architecture)")
            == "swiftshader"
        )


@pytest.mark.browser
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    browser = Browser()
    assert list(tmp_path.iterdir()) == [browser.profile]
    browser.close()
    assert list(tmp_path.iterdir()) == []
    assert not [command for command in commands() if str(browser.profile) in command]


def test_a_browser_that_cannot_start_says_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\necho 'no display, sorry' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(fake))
    with pytest.raises(BackendError, match="no display, sorry"):
        ChromiumEngine()


def test_a_chromium_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(BackendError, match="/nowhere/chromium"):
        find_chromium()
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(BackendError, match="install chromium"):
        find_chromium()
