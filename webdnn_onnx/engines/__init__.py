"""Real JavaScript engines, driven from Python: Chromium and Node.

>>> with open_engine("chromium") as engine:
...     outputs, info = engine.run(Path("site/model"), "webgpu", {"image": image})
"""

from __future__ import annotations

from typing import Any

from webdnn_onnx.engines.engine import Engine, RunInfo, RunResult
from webdnn_onnx.engines.tensors import RunValue
from webdnn_onnx.errors import BackendError

__all__ = ["ENGINES", "Engine", "RunInfo", "RunResult", "RunValue", "open_engine"]

ENGINES = ("chromium", "node")


def open_engine(name: str, **options: Any) -> Engine:
    """Start an engine by name; options are those of ChromiumEngine or NodeEngine. Raises BackendError."""
    if name == "chromium":
        from webdnn_onnx.engines.chromium import ChromiumEngine

        return ChromiumEngine(**options)
    if name == "node":
        from webdnn_onnx.engines.node import NodeEngine

        return NodeEngine(**options)
    raise BackendError(f"engine: expected one of {', '.join(ENGINES)}, got {name!r}")
