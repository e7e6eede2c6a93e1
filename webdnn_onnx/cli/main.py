"""The entry point: parses the command line, calls the command, turns errors into exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from webdnn_onnx.cli.arguments import build_parser
from webdnn_onnx.errors import WebDNNError

__all__ = ["main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `webdnn` with these arguments (those of the process unless given); returns the exit code.

    0: done. 1: a check failed. 2: the input is at fault, in one line on standard error. 130: interrupted.
    """
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if parsed.version:
        from importlib.metadata import version

        print(f"webdnn-onnx {version('webdnn-onnx')}")
        return 0
    if parsed.command is None:
        parser.print_help()
        return 2
    # A polite kill is an interrupt, so that browsers and half-written files are cleaned up.
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        command = importlib.import_module(f"webdnn_onnx.cli.{parsed.command}")
        code: int = command.run(parsed)
        sys.stdout.flush()
        return code
    except WebDNNError as error:
        print(f"webdnn {parsed.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
