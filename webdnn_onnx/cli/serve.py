"""`webdnn serve`: a local web server for converted models."""

from __future__ import annotations

import argparse

from webdnn_onnx.engines.server import Server
from webdnn_onnx.errors import InvalidModelError

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if not arguments.folder.is_dir():
        raise InvalidModelError(f"{arguments.folder}: expected a folder to serve, got none")
    with Server({"/": arguments.folder}, host=arguments.host, port=arguments.port) as server:
        print(f"serving {arguments.folder} at {server.url}/  (Ctrl-C stops)", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            print()
    return 0
