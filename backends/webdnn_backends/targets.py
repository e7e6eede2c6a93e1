"""The targets, by name: each backend package offers `target.TARGET` and `target.emit`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from webdnn_backends.emit import Emitted
from webdnn_backends.ir.loops import Kernel
from webdnn_backends.te.compile import Target

__all__ = ["BACKENDS", "emitter", "target"]

BACKENDS = ("webgpu", "wasm", "js")
"""In the order in which a page tries them."""


def target(name: str) -> Target:
    """What the compiler needs to know of a backend. Raises KeyError for an unknown name."""
    return _module(name).TARGET  # type: ignore[no-any-return]  # each target module defines it


def emitter(name: str) -> Callable[[Sequence[Kernel]], Emitted]:
    """The function that prints a backend's kernels. Raises KeyError for an unknown name."""
    return _module(name).emit  # type: ignore[no-any-return]  # each target module defines it


def _module(name: str):  # type: ignore[no-untyped-def]  # a module
    if name not in BACKENDS:
        raise KeyError(name)
    return importlib.import_module(f"webdnn_backends.{name}.target")
