"""What every engine can do: run a bundle on a backend, evaluate JavaScript, and say what it ran on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from webdnn_onnx.engines.tensors import RunValue

__all__ = ["Engine", "RunInfo", "RunResult"]


@dataclass(frozen=True)
class RunInfo:
    """What one call of `Engine.run` observed.

    backend: the one that ran. adapter: the GPU, in words. load_ms: fetching and compiling (0 where the bundle was
    loaded already). run_ms: each run, inputs in to outputs out. threads: of WebAssembly. placement: the steps that
    left the backend, in words. notes: what the runtime says of how it runs. console: what was printed meanwhile.
    """

    backend: str
    adapter: str = ""
    load_ms: float = 0.0
    run_ms: tuple[float, ...] = ()
    threads: int = 1
    placement: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    console: tuple[str, ...] = ()


class RunResult(NamedTuple):
    """Outputs by name, in the order of the model, and what was observed."""

    outputs: dict[str, RunValue]
    info: RunInfo


class Engine(ABC):
    """A long-lived JavaScript engine. Not for several threads at a time."""

    name: str

    @abstractmethod
    def run(
        self, bundle: Path, backend: str, inputs: Mapping[str, RunValue], *, repeat: int = 1, timeout: float = 120.0
    ) -> RunResult:
        """Load `bundle` (kept until another one is asked for) and run it `repeat` times.

        backend: "webgpu", "wasm", "js" or "auto". Raises BackendError if the engine fails, crashes or takes longer
        than `timeout` seconds; the next call starts it afresh.
        """

    @abstractmethod
    def evaluate(self, expression: str, *, timeout: float = 30.0) -> Any:
        """The JSON-like value of a JavaScript expression, awaited. Raises BackendError if it throws."""

    @abstractmethod
    def publish(self, folder: Path) -> str:
        """A URL, ending in a slash, under which the engine's modules find the files of a folder."""

    @abstractmethod
    def exchange(self, message: bytes, *, timeout: float = 30.0) -> bytes:
        """One message of tensors there and one back, for programs with a module of their own.

        Its header names the module's URL as `module`; that exports `answer(header, values)`, which returns (or
        promises) `{header, values}`. Raises BackendError as `run` does, and for whatever the module throws.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop it and remove everything it left on the disk."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
