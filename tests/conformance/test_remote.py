"""A browser that is reached over a WebSocket."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.conformance.fake_playwright import FakePlaywright
from tests.conformance.models import run
from webdnn_conformance.playwright import PlaywrightPage
from webdnn_conformance.remote import DevToolsPage, RemoteEngine
from webdnn_conformance.websocket import WebSocket
from webdnn_onnx.engines.browser import chromium_flags, find_chromium
from webdnn_onnx.errors import BackendError

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A Chromium that listens on a port of its own choice."""
    flags = [flag for flag in chromium_flags("software") if flag != "--remote-debugging-pipe"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(find_chromium()), *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        with subprocess.Popen([*command, "about:blank"], stderr=subprocess.DEVNULL) as process:
            port = Path(profile) / "DevToolsActivePort"
            end = time.monotonic() + 60
            while not port.is_file() or not port.read_text().strip():
                assert time.monotonic() < end, "the browser did not open its port"
                time.sleep(0.05)
            yield f"ws://127.0.0.1:{port.read_text().splitlines()[0]}"
            process.terminate()


def test_cases_run_on_every_backend(endpoint: str, tmp_path: Path) -> None:
    found = run(tmp_path, engine="chromium", endpoint=endpoint, backends=("js", "wasm", "webgpu"))
    assert not found.failed, [outcome.message for _, outcome in found.failures()]
    assert "Chrome" in found.engine_version
    assert any(outcome.adapter for one in found.results for outcome in one.outcomes)


def test_a_crashed_page_is_an_error_and_the_next_call_works(endpoint: str) -> None:
    with RemoteEngine(endpoint) as engine:
        assert engine.evaluate("isSecureContext && crossOriginIsolated") is True
        assert isinstance(engine.page, DevToolsPage)
        with pytest.raises(BackendError):
            engine.page.tab.call("Page.crash", timeout=3)
        assert engine.evaluate("1 + 1") == 2


def test_errors_of_the_page_come_back(endpoint: str, tmp_path: Path) -> None:
    from webdnn_onnx.engines.tensors import encode

    (tmp_path / "module.js").write_text("export function answer() { throw new TypeError('no such thing'); }\n")
    with RemoteEngine(endpoint) as engine:
        module = f"{engine.publish(tmp_path)}module.js"
        with pytest.raises(BackendError, match="no such thing"):
            engine.exchange(encode({"module": module}, {}))


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/x", "http://127.0.0.1:1", "ftp://127.0.0.1/"])
def test_an_endpoint_that_is_none_is_one_line(url: str) -> None:
    with pytest.raises(BackendError, match=r"expected|cannot connect"):
        RemoteEngine(url)


def test_a_server_that_speaks_no_websocket_is_refused() -> None:
    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(BackendError, match=r"expected a WebSocket, got: HTTP/1\.0 403"):
            WebSocket(f"ws://127.0.0.1:{server.server_port}/x")


@pytest.mark.parametrize("launched", [True, False])
def test_a_playwright_server_gives_a_page(launched: bool) -> None:
    def evaluate(expression: str, fetch: Callable[[str], bytes]) -> object:
        return fetch("https://webdnn.invalid/a.js").decode() if "fetch" in expression else True

    server = FakePlaywright(evaluate, launched=launched)
    page = PlaywrightPage(server.url, "https://webdnn.invalid", lambda url: (url.encode(), "text/javascript"))
    assert page.version == "Webkit 26.1"
    assert page.evaluate("fetch()") == "https://webdnn.invalid/a.js"
    with pytest.raises(BackendError, match="it failed"):
        page.evaluate("fail()")
    assert ("launch" in server.calls) is not launched
    page.close()
    end = time.monotonic() + 5
    while page.alive and time.monotonic() < end:
        time.sleep(0.01)
    assert not page.alive
    server.close()
