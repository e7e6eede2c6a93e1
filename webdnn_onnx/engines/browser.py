"""A Chromium of the user's machine: found, started on a fresh profile, driven over a pipe, and cleaned up after.

Flags: https://peter.sh/experiments/chromium-command-line-switches/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from webdnn_onnx.engines.pipe import DevTools, DevToolsClosedError
from webdnn_onnx.errors import BackendError

__all__ = ["GPU", "Browser", "Tab", "chromium_flags", "find_chromium", "has_gpu"]

GPU: TypeAlias = Literal["auto", "software", "hardware"]
"""Which WebGPU adapter: SwiftShader on the CPU, the machine's own, or its own where it seems to have one."""

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "microsoft-edge")
_MACOS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

_FLAGS: tuple[str, ...] = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-quic",
    "--disable-renderer-backgrounding",
    "--disable-sync",
    "--disable-features=MediaRouter,OptimizationHints,Translate",
    "--force-color-profile=srgb",
    "--metrics-recording-only",
    "--mute-audio",
    "--password-store=basic",
    "--use-mock-keychain",
    "--enable-unsafe-webgpu",
)
_SOFTWARE: tuple[str, ...] = (
    "--use-webgpu-adapter=swiftshader",
    # SwiftShader compiles the zeros of workgroup memory one by one: seconds for each kernel that has a few KiB of it.
    "--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
)
_HARDWARE: tuple[str, ...] = ("--ignore-gpu-blocklist",)
_HARDWARE_LINUX: tuple[str, ...] = ("--enable-features=Vulkan", "--use-angle=vulkan", "--disable-vulkan-surface")
_SMALL_SHARED_MEMORY = 512 << 20
_EXIT_SECONDS = 5.0


def find_chromium() -> Path:
    """The browser to use: $CHROMIUM, else the first known name on PATH. Raises BackendError if there is none."""
    wanted = os.environ.get("CHROMIUM")
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise BackendError(f"chromium: expected $CHROMIUM to be an executable, got {wanted!r}")
        return Path(found)
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    if sys.platform == "darwin":
        for path in _MACOS:
            if Path(path).exists():
                return Path(path)
    raise BackendError("chromium: expected a Chromium or Chrome on PATH or in $CHROMIUM, got none; install chromium")


def has_gpu() -> bool:
    """Whether this machine seems to have a GPU that a headless browser can use."""
    if sys.platform == "darwin":
        return True
    return Path("/dev/nvidia0").exists() or any(Path("/dev/dri").glob("renderD*"))


def chromium_flags(gpu: GPU) -> list[str]:
    """The command line of the browser, without the profile folder and the page."""
    flags: list[str] = [*_FLAGS]
    if gpu == "software" or (gpu == "auto" and not has_gpu()):
        flags += _SOFTWARE
    else:
        flags += _HARDWARE
        if sys.platform.startswith("linux"):
            flags += _HARDWARE_LINUX
    if sys.platform.startswith("linux"):
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to run its sandbox as root
        with contextlib.suppress(OSError):
            if shutil.disk_usage("/dev/shm").total < _SMALL_SHARED_MEMORY:
                flags.append("--disable-dev-shm-usage")
    return flags


class Browser:
    """A running Chromium. Raises BackendError if it does not start."""

    def __init__(
        self,
        *,
        executable: Path | None = None,
        gpu: GPU = "auto",
        flags: Iterable[str] = (),
        start_timeout: float = 60.0,
    ) -> None:
        if os.name != "posix":
            raise BackendError(f"chromium: expected Linux or macOS (it is driven over pipes), got {sys.platform}")
        self.executable = executable or find_chromium()
        self.profile = Path(tempfile.mkdtemp(prefix="webdnn-chromium-"))
        self._log = self.profile / "output.txt"
        arguments = [
            str(self.executable),
            *chromium_flags(gpu),
            *flags,
            f"--user-data-dir={self.profile}",
            "about:blank",
        ]
        try:
            self._pid, read_fd, write_fd = _spawn(arguments, self._log)
        except OSError as error:
            shutil.rmtree(self.profile, ignore_errors=True)
            raise BackendError(f"chromium: cannot start {self.executable}: {error.strerror}") from error
        self._finalizer = weakref.finalize(self, _cleanup, self._pid, self.profile)
        self.devtools = DevTools(read_fd, write_fd)
        try:
            self.version = str(self.devtools.call("Browser.getVersion", timeout=start_timeout)["product"])
        except BackendError as error:
            said = self.last_words()
            self.close()
            raise BackendError(f"chromium: {self.executable} did not start: {said or error}") from error

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def alive(self) -> bool:
        return not self.devtools.closed

    def last_words(self) -> str:
        """The last line that the browser printed, "" if none."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""

    def tab(self, url: str = "about:blank", *, width: int = 1280, height: int = 800, timeout: float = 30.0) -> Tab:
        """Open a page and wait until it has loaded."""
        window = {"url": "about:blank", "newWindow": True, "width": width, "height": height}
        target = self.devtools.call("Target.createTarget", window)
        attach = {"targetId": target["targetId"], "flatten": True}
        session = self.devtools.call("Target.attachToTarget", attach)["sessionId"]
        tab = Tab(self, str(target["targetId"]), str(session))
        if url != "about:blank":
            tab.navigate(url, timeout=timeout)
        return tab

    def close(self) -> None:
        """Ask the browser to exit, end it if it does not, and remove its profile."""
        if self._finalizer.alive:
            with contextlib.suppress(BackendError):
                self.devtools.start("Browser.close")
            self.devtools.close()
            self._finalizer()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Tab:
    """One page. `console` collects what it prints, `errors` what it throws and nobody catches."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser = browser
        self.target = target
        self.session = session
        self.console: list[str] = []
        self.errors: list[str] = []
        self.crash = threading.Event()
        self._loaded = threading.Event()
        browser.devtools.listen(self._on_event, session)
        for domain in ("Page", "Runtime", "Log", "Inspector"):
            self.call(f"{domain}.enable")

    @property
    def crashed(self) -> bool:
        """Whether its process has ended; `crash` is the event to wait for."""
        return self.crash.is_set()

    def call(self, method: str, params: dict[str, Any] | None = None, timeout: float = 30.0) -> dict[str, Any]:
        """A DevTools command for this page. Raises BackendError if it fails, with the reason if the page crashed."""
        if self.crashed:
            raise BackendError(f"chromium: {method}: expected a living tab, got one that has crashed")
        try:
            return self.browser.devtools.call(method, params, self.session, timeout)
        except DevToolsClosedError as error:
            said = self.browser.last_words()
            raise BackendError(f"chromium: the browser exited during {method}{f': {said}' if said else ''}") from error

    def navigate(self, url: str, timeout: float = 30.0) -> None:
        """Go to a URL and wait for its load event."""
        self._loaded.clear()
        answer = self.call("Page.navigate", {"url": url}, timeout)
        if answer.get("errorText"):
            raise BackendError(f"chromium: {url}: {answer['errorText']}")
        if not self._loaded.wait(timeout):
            raise BackendError(f"chromium: {url}: expected it to load within {timeout:g} s, got no load event")
        if self.crashed:
            raise BackendError(f"chromium: {url}: the tab crashed while it loaded")

    def evaluate(self, expression: str, timeout: float = 30.0) -> Any:
        """The JSON-like value of an expression, awaited. Raises BackendError with what JavaScript threw."""
        params = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", params, timeout)
        if "exceptionDetails" in answer:
            raise BackendError(f"chromium: {_describe_exception(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout: float = 30.0) -> Any:
        """The first true value of an expression, asked for every 50 ms. Raises BackendError after `timeout` s."""
        end = time.monotonic() + timeout
        while True:
            value = self.evaluate(expression, timeout)
            if value:
                return value
            if time.monotonic() > end:
                raise BackendError(f"chromium: expected `{expression}` within {timeout:g} s, got {value!r}")
            time.sleep(0.05)

    def mouse(self, kind: Literal["mousePressed", "mouseMoved", "mouseReleased"], x: float, y: float) -> None:
        """A real mouse event of the left button at a place in the viewport."""
        held = kind != "mouseReleased"
        params = {"type": kind, "x": x, "y": y, "button": "left", "buttons": int(held), "clickCount": 1}
        self.call("Input.dispatchMouseEvent", params)

    def drag(self, points: Iterable[tuple[float, float]]) -> None:
        """Press at the first point, move through the others, release at the last."""
        path = list(points)
        self.mouse("mousePressed", *path[0])
        for point in path[1:]:
            self.mouse("mouseMoved", *point)
        self.mouse("mouseReleased", *path[-1])

    def click(self, selector: str) -> None:
        """Click in the middle of the element that a CSS selector finds."""
        script = f"""(() => {{
            const element = document.querySelector({_quote(selector)});
            element.scrollIntoView({{ block: "center", behavior: "instant" }});
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        x, y = self.evaluate(script)
        self.drag([(x, y)])

    def screenshot(self, path: Path, *, width: int, height: int, scale: float = 1.0, dark: bool = False) -> None:
        """Write a PNG of the page at a viewport size, in its light or dark colours."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", metrics)
        data = self.call("Page.captureScreenshot", {"format": "png"})["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self) -> None:
        with contextlib.suppress(BackendError):
            self.browser.devtools.call("Target.closeTarget", {"targetId": self.target})

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.consoleAPICalled":
                words = " ".join(str(item.get("value", item.get("description", ""))) for item in params["args"])
                self.console.append(f"{params['type']}: {words}")
            case "Runtime.exceptionThrown":
                self.errors.append(_describe_exception(params["exceptionDetails"]))
            case "Log.entryAdded":
                entry = params["entry"]
                self.console.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}".rstrip())
            case "Inspector.targetCrashed":
                self.crash.set()
                self._loaded.set()
                reason = BackendError("chromium: the tab crashed (out of memory, or a bug of the browser)")
                self.browser.devtools.fail(self.session, reason)


def _quote(text: str) -> str:
    import json

    return json.dumps(text)


def _describe_exception(details: dict[str, Any]) -> str:
    exception = details.get("exception", {})
    return str(exception.get("description") or exception.get("value") or details.get("text", "an exception"))


def _spawn(arguments: list[str], log: Path) -> tuple[int, int, int]:
    """Start a process group whose descriptors 3 and 4 are pipes; returns its id and our ends."""
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    # The sources must not be 3 or 4 themselves, or the first duplication would overwrite the second one's source.
    high_read = fcntl.fcntl(command_read, fcntl.F_DUPFD_CLOEXEC, 10)
    high_write = fcntl.fcntl(answer_write, fcntl.F_DUPFD_CLOEXEC, 10)
    for descriptor in (command_read, answer_write):
        os.close(descriptor)
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, high_read, 3),
        (os.POSIX_SPAWN_DUP2, high_write, 4),
    ]
    try:
        pid = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=actions, setpgroup=0)
    except OSError:
        os.close(command_write)
        os.close(answer_read)
        raise
    finally:
        os.close(high_read)
        os.close(high_write)
    return pid, answer_read, command_write


def _cleanup(pid: int, profile: Path) -> None:
    """Wait for the browser's exit, end its process group, remove its files."""
    end = time.monotonic() + _EXIT_SECONDS
    exited = False
    while not exited and time.monotonic() < end:
        try:
            exited = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            exited = True
        if not exited:
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if not exited:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    for _ in range(50):  # helper processes may still write for a moment
        shutil.rmtree(profile, ignore_errors=True)
        if not profile.exists():
            break
        time.sleep(0.1)
