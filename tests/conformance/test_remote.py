"""A browser that is reached over a WebSocket."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conformance.fake_grid import SESSION, Chromium, FakeGrid
from tests.conformance.fake_playwright import FakePlaywright
from tests.conformance.models import run
from webdnn_conformance import grid as grid_module
from webdnn_conformance.grid import GridSession
from webdnn_conformance.playwright import PlaywrightPage
from webdnn_conformance.remote import DevToolsPage, RemoteEngine
from webdnn_conformance.websocket import WebSocket
from webdnn_onnx.engines.browser import chromium_flags
from webdnn_onnx.errors import BackendError

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A Chromium that listens on a port of its own choice."""
    browser = Chromium([flag for flag in chromium_flags("software") if flag != "--remote-debugging-pipe"])
    yield f"ws://127.0.0.1:{browser.port}"
    browser.close()


@pytest.fixture
def grid() -> Iterator[Callable[..., FakeGrid]]:
    """Starts Grids; what a test starts ends with it."""
    with contextlib.ExitStack() as stack:

        def start(capabilities: dict[str, object] | None = None) -> FakeGrid:
            found = FakeGrid(capabilities)
            stack.callback(found.close)
            return found

        yield start


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


def test_cases_run_in_a_browser_of_a_grid_and_its_session_is_ended(
    grid: Callable[..., FakeGrid], tmp_path: Path
) -> None:
    server = grid()
    found = run(tmp_path, engine="chromium", endpoint=server.url, backends=("js", "wasm", "webgpu"))
    assert not found.failed, [outcome.message for _, outcome in found.failures()]
    assert "Chrome" in found.engine_version
    assert server.wanted["browserName"] == "chrome"
    assert server.calls == ["POST /session", f"GET {SESSION}/se/cdp", f"DELETE {SESSION}"]


def test_a_browser_of_a_grid_that_dies_is_an_error_and_the_next_call_gets_another(
    grid: Callable[..., FakeGrid],
) -> None:
    server = grid()
    with RemoteEngine(server.url) as engine:
        server.end()
        with pytest.raises(BackendError):
            engine.evaluate("new Promise(() => {})", timeout=5)
        assert engine.evaluate("1 + 1") == 2
    assert server.calls.count("POST /session") == server.calls.count(f"DELETE {SESSION}") == 2


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [({}, "se:cdp"), ({"se:cdp": "ws://127.0.0.1:1/x"}, "cannot connect")],
    ids=["no DevTools", "nobody behind it"],
)
def test_a_session_that_is_of_no_use_is_ended(
    grid: Callable[..., FakeGrid], capabilities: dict[str, object], said: str
) -> None:
    server = grid(capabilities)
    with pytest.raises(BackendError, match=said):
        RemoteEngine(server.url)
    assert server.calls == ["POST /session", f"DELETE {SESSION}"]


def test_a_session_is_kept_alive_under_the_name_that_the_grid_was_called_by(
    grid: Callable[..., FakeGrid], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_module, "_ALIVE_SECONDS", 0.02)
    server = grid({"se:cdp": "wss://localhost:4444/session/d4c2/se/cdp"})
    session = GridSession(server.url)
    assert session.devtools == "wss://127.0.0.1:4444/session/d4c2/se/cdp"
    end = time.monotonic() + 5
    while f"GET {SESSION}/timeouts" not in server.calls and time.monotonic() < end:
        time.sleep(0.01)
    session.close()
    assert f"GET {SESSION}/timeouts" in server.calls
    assert server.calls[-1] == f"DELETE {SESSION}"


def test_the_browser_of_a_chromedriver_is_found_by_its_port(grid: Callable[..., FakeGrid], endpoint: str) -> None:
    server = grid({"goog:chromeOptions": {"debuggerAddress": urlsplit(endpoint).netloc}})
    with RemoteEngine(server.url) as engine:
        assert engine.evaluate("1 + 1") == 2
    assert server.calls == ["POST /session", f"DELETE {SESSION}"]
