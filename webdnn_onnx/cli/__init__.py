"""The `webdnn` command."""

from webdnn_onnx.cli.main import main

__all__ = ["main"]
