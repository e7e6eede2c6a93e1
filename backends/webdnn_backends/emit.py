"""What a dialect gives back for the kernels of a program: files, and what the manifest says of each kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from webdnn_onnx.symbolic import Dim

__all__ = ["Emitted", "LaunchShape"]


@dataclass(frozen=True)
class LaunchShape:
    """How large a run of a kernel is, over the kernel's parameter names. grid: workgroups (WebGPU). extent: iterations
    to divide among threads (WebAssembly, parallel kernels)."""

    grid: tuple[Dim, Dim, Dim] | None = None
    extent: Dim | None = None


@dataclass(frozen=True)
class Emitted:
    """files: by name. records: the manifest's record of each kernel, in order. shapes: likewise. texts: each kernel
    as a person reads it. requires: features and limits that the device must have. scratch: bytes of local arrays that
    each thread needs."""

    files: Mapping[str, bytes]
    records: tuple[Mapping[str, Any], ...]
    shapes: tuple[LaunchShape, ...]
    texts: tuple[str, ...] = ()
    requires: Mapping[str, Any] = field(default_factory=dict)
    scratch: int = 0
