"""A progress bar on standard error, only where someone watches."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]

_BAR = 24
_INTERVAL = 0.05


class Progress:
    """Shows how far a command is; silent if `stream` is no terminal or `quiet`. Call it as progress(stage, done)."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._show = not quiet and self._stream.isatty()
        self._last = 0.0
        self._stage = ""

    def __call__(self, stage: str, done: float) -> None:
        """stage: what is being done. done: from 0 to 1."""
        now = time.monotonic()
        if not self._show or (stage == self._stage and now - self._last < _INTERVAL):
            return
        self._last, self._stage = now, stage
        filled = round(_BAR * min(max(done, 0.0), 1.0))
        columns = shutil.get_terminal_size().columns
        line = f"{'█' * filled}{'░' * (_BAR - filled)} {done:4.0%}  {stage}"
        self._stream.write(f"\r\x1b[K{line[: columns - 1]}")
        self._stream.flush()

    def clear(self) -> None:
        """Remove the bar."""
        if self._show and self._stage:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()
