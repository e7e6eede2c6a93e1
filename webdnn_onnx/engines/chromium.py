"""Bundles in a real browser: a headless Chromium, a local server, and tensors over HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from webdnn_onnx.engines.browser import GPU, Browser, Tab
from webdnn_onnx.engines.engine import Engine, RunResult
from webdnn_onnx.engines.messages import bundle_stamp, js_error, request, result
from webdnn_onnx.engines.server import Server
from webdnn_onnx.engines.tensors import RunValue
from webdnn_onnx.errors import BackendError

__all__ = ["ChromiumEngine"]


class ChromiumEngine(Engine):
    """One browser with one page. A crash ends the call with BackendError; the next call starts a new browser."""

    name = "chromium"

    def __init__(self, *, executable: Path | None = None, gpu: GPU = "auto", flags: Iterable[str] = ()) -> None:
        self._options: dict[str, Any] = {"executable": executable, "gpu": gpu, "flags": tuple(flags)}
        self._numbers = itertools.count(1)
        self._mounts: dict[tuple[str, int], str] = {}
        self._browser: Browser | None = None
        self._tab: Tab | None = None
        self.server = Server({"/webdnn/engine/": Path(__file__).parent})
        try:
            _ = self.page
        except BaseException:
            self.close()
            raise

    @property
    def browser(self) -> Browser:
        """The running browser."""
        return self.page.browser

    @property
    def version(self) -> str:
        """The browser's name and version."""
        return self.browser.version

    def run(
        self, bundle: Path, backend: str, inputs: Mapping[str, RunValue], *, repeat: int = 1, timeout: float = 120.0
    ) -> RunResult:
        entry = self._mount(bundle)
        tab = self.page
        printed = len(tab.console)
        answer = self._ask(
            request(f"{entry}index.js", backend, inputs, repeat), timeout, f"{backend} in chromium, {bundle}", backend
        )
        return result(answer, tuple(tab.console[printed:]))

    def publish(self, folder: Path) -> str:
        key = (str(Path(folder).resolve()), 0)
        if key not in self._mounts:
            self._mounts[key] = f"/webdnn/folder/{len(self._mounts)}/"
            self.server.mount(self._mounts[key], folder)
        return self._mounts[key]

    def exchange(self, message: bytes, *, timeout: float = 30.0) -> bytes:
        return self._ask(message, timeout, "chromium", "module")

    def _ask(self, message: bytes, timeout: float, what: str, who: str) -> bytes:
        """One message to the page and its answer. Ends the browser if that fails."""
        tab = self.page
        number = next(self._numbers)
        answers: list[bytes] = []

        def respond(body: bytes) -> bytes:
            answers.append(body)
            return b""

        self.server.routes[f"/webdnn/request/{number}"] = lambda _: message
        self.server.routes[f"/webdnn/response/{number}"] = respond
        try:
            failure = tab.evaluate(f"webdnn.answer({number})", timeout)
        except BackendError as error:
            self._stop()
            raise BackendError(f"{what}: {error}") from error
        finally:
            del self.server.routes[f"/webdnn/request/{number}"], self.server.routes[f"/webdnn/response/{number}"]
        if failure is not None:
            raise js_error(failure, who, self.name)
        return answers[0]

    def evaluate(self, expression: str, *, timeout: float = 30.0) -> Any:
        return self.page.evaluate(expression, timeout)

    def tab(self, url: str, *, width: int = 1280, height: int = 800) -> Tab:
        """Another page of the same browser, for tests that drive a page of their own."""
        return self.browser.tab(url, width=width, height=height)

    def close(self) -> None:
        self._stop()
        self.server.close()

    @property
    def page(self) -> Tab:
        """The page that runs bundles; starts the browser if it is not running."""
        if self._browser is not None and (not self._browser.alive or (self._tab is not None and self._tab.crashed)):
            self._stop()
        if self._browser is None or self._tab is None:
            self._browser = Browser(**self._options)
            self._tab = self._browser.tab(f"{self.server.url}/webdnn/engine/page.html")
            self._tab.wait_for("typeof webdnn === 'object'")
        return self._tab

    def _stop(self) -> None:
        browser, self._browser, self._tab = self._browser, None, None
        if browser is not None:
            browser.close()

    def _mount(self, bundle: Path) -> str:
        # A page keeps imported modules for ever, so a bundle that was written again gets a new address.
        key = (str(Path(bundle).resolve()), bundle_stamp(bundle))
        if key not in self._mounts:
            self._mounts[key] = f"/webdnn/bundle/{len(self._mounts)}/"
            self.server.mount(self._mounts[key], bundle)
        return self._mounts[key]
