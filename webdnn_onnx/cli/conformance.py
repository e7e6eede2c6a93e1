"""`webdnn conformance`: the ONNX suite on every backend, with a report page."""

from __future__ import annotations

import argparse
import importlib

from webdnn_onnx.cli.numbers import count, seconds
from webdnn_onnx.errors import WebDNNError

__all__ = ["add_options", "run"]

_PACKAGE = "webdnn_conformance"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    from pathlib import Path

    parser.add_argument(
        "--backend",
        "-b",
        action="append",
        metavar="NAMES",
        help="js, wasm, webgpu, with commas between them (all of them)",
    )
    parser.add_argument(
        "--suite",
        action="append",
        metavar="NAMES",
        help="onnx, historical, contrib, models (onnx)",
    )
    parser.add_argument(
        "--filter",
        "-k",
        action="append",
        default=[],
        metavar="TEXT",
        help="only cases whose id contains this; repeat for several",
    )
    parser.add_argument("--engine", choices=("chromium", "node"), default="chromium", help="where (chromium)")
    parser.add_argument(
        "--gpu", choices=("auto", "software", "hardware"), default="auto", help="the WebGPU adapter (auto)"
    )
    parser.add_argument(
        "--browser-endpoint",
        metavar="URL",
        help="drive a remote browser: ws:// of DevTools or a Playwright server, http:// of a Grid or chromedriver",
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="the folder of real models of the suite `models`")
    parser.add_argument("--strict", action="store_true", help="fail cases that leave the backend for a compute step")
    parser.add_argument("--jobs", "-j", type=count, metavar="N", help="processes (one per core); 0: all in this one")
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for one case (60)")
    parser.add_argument("--expectations", type=Path, metavar="DIR", help="expectation files (the package's own)")
    parser.add_argument("--html", type=Path, metavar="DIR", help="write the report page into this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML")
    parser.add_argument(
        "--scoreboard", type=Path, metavar="DIR", help="write them as the ONNX backend scoreboard reads"
    )
    parser.add_argument("--list", action="store_true", help="print the ids of the cases and run nothing")
    parser.add_argument("--kernels", action="store_true", help="print the emitted kernels of the first three cases")
    parser.add_argument("--verbose", "-v", action="store_true", help="list every failure, however many there are")


def run(arguments: argparse.Namespace) -> int:
    """Run the conformance package's command, which a source checkout has."""
    arguments.backend = arguments.backend or ["js,wasm,webgpu"]
    arguments.suite = arguments.suite or ["onnx"]
    try:
        command = importlib.import_module(f"{_PACKAGE}.command")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != _PACKAGE:
            raise
        raise WebDNNError(
            f"expected the package {_PACKAGE}, got none: it comes with the source checkout, not with the "
            "wheel; clone the repository and run `make setup` there"
        ) from None
    code: int = command.run(arguments)
    return code
