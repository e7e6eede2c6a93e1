"""The engine that a command line asks for."""

from __future__ import annotations

import argparse
from pathlib import Path

from webdnn_onnx.engines import Engine, open_engine

__all__ = ["open_from"]


def open_from(arguments: argparse.Namespace) -> Engine:
    """Start the engine that --engine and --gpu name. Node takes the package `webgpu` from the current folder."""
    if arguments.engine == "node":
        return open_engine("node", modules=Path.cwd())
    return open_engine("chromium", gpu=arguments.gpu)
