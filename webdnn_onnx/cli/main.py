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

    0: done. 1: a check failed. 2: the input or the machine is at fault (a full disk, too little memory), in one line on
    standard error. 130: interrupted.
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
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        _forget_output()
        return 0
    except MemoryError as error:
        print(f"webdnn {parsed.command}: expected enough memory, got too little: {error}".rstrip(": "), file=sys.stderr)
        return 2
    except OSError as error:
        _forget_output()
        place = error.filename or "standard output"
        print(f"webdnn {parsed.command}: {place}: {error.strerror or error}", file=sys.stderr)
        return 2


def _forget_output() -> None:
    """What is still buffered must not be written at exit: that fails once more, with a traceback."""
    with contextlib.suppress(OSError, ValueError):  # there may be no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
