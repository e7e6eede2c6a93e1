"""Lowering: ONNX operators as tensor expressions, one module per family; importing the package registers them all."""

from __future__ import annotations

import importlib
import pkgutil

from webdnn_backends.lower.program import lower_graph, unsupported_nodes

__all__ = ["lower_graph", "unsupported_nodes"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
