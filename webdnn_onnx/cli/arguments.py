"""The command line: every command and option. Imports nothing heavy, so that `webdnn --help` answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from webdnn_onnx.cli.conformance import add_options as add_conformance_options
from webdnn_onnx.cli.numbers import count, port, positive, seconds

__all__ = ["BACKENDS", "COMMANDS", "build_parser"]

BACKENDS = ("webgpu", "wasm", "js")

COMMANDS = {
    "convert": "turn a model into a folder that any web server can host",
    "run": "run a converted model in a real browser or Node",
    "check": "compare every backend with the reference",
    "serve": "serve a folder with the headers that threads need",
    "inspect": "operators, shapes, cost, and what is supported where",
    "reference": "run a model with the NumPy reference interpreter",
    "conformance": "run the ONNX suite on every backend, and write a report page",
}
"""Command -> one line of help. Each is a module of this package with a function `run(arguments) -> exit code`."""

_EPILOG = """\
exit codes: 0 done, 1 a check failed, 2 the input is at fault (one line on stderr says what and where)
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit code 2 and one line, as for every other input at fault."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` in the result names the module to call."""
    parser = _Parser(
        prog="webdnn",
        description="Compile ONNX models to WebGPU, WebAssembly and JavaScript, and prove the result.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    added = {name: commands.add_parser(name, help=text, description=_sentence(text)) for name, text in COMMANDS.items()}
    _convert(added["convert"])
    _run(added["run"])
    _check(added["check"])
    _serve(added["serve"])
    _inspect(added["inspect"])
    _reference(added["reference"])
    add_conformance_options(added["conformance"])
    return parser


class _Backends(argparse.Action):
    """Backend names, separated by commas or given by several options, each once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002  # argparse gives it
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002  # argparse gives it
    ) -> None:
        names = [name.strip() for name in str(values).split(",")]
        for name in names:
            if name not in BACKENDS:
                raise argparse.ArgumentError(self, f"expected {', '.join(BACKENDS)}, got '{name}'")
        setattr(namespace, self.dest, list(dict.fromkeys([*(getattr(namespace, self.dest) or ()), *names])))


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    parser.add_argument("--out", "-o", type=Path, metavar="DIR", required=True, help="the folder to write")
    parser.add_argument(
        "--backend",
        "-b",
        action=_Backends,
        metavar="NAMES",
        help=f"compile for these backends, separated by commas (all unless given: {','.join(BACKENDS)})",
    )
    _fixing(parser)
    parser.add_argument(
        "--weights", choices=("f32", "f16", "int8"), default="f32", help="how weights are stored in the bundle (f32)"
    )
    parser.add_argument("--explain", action="store_true", help="say which rewrites fired, and why the others did not")
    parser.add_argument("--strict", action="store_true", help="fail if a step cannot run on the backend it is for")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar and no summary")


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="DIR", help="a folder that `webdnn convert` wrote")
    _input(parser)
    _sizes(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the outputs to this .npz")
    parser.add_argument("--backend", "-b", choices=(*BACKENDS, "auto"), default="auto", help="which backend (auto)")
    _engine(parser)
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help="run N times and print the latency")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="DIR", help="a folder that `webdnn convert` wrote")
    parser.add_argument(
        "--model", type=Path, metavar="MODEL", help="the model it was made from, where `webdnn check` cannot find it"
    )
    _input(parser)
    _sizes(parser)
    parser.add_argument(
        "--backend", "-b", action=_Backends, metavar="NAMES", help="check only these, separated by commas"
    )
    _engine(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path(), help="the folder (here)")
    parser.add_argument("--port", "-p", type=port, default=8000, help="the port (8000; 0 takes any free one)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (127.0.0.1: this machine only)")


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    _fixing(parser)
    parser.add_argument("--nodes", action="store_true", help="list every node, not only the operators")
    parser.add_argument(
        "--placement", action="store_true", help="compile it too, and say which kernels leave their backend, and why"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _reference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    _input(parser)
    _fixing(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the outputs to this .npz")
    parser.add_argument("--float64", action="store_true", help="compute every floating-point value in double precision")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _fixing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=1,3,224,224", help="fix the shape of an input"
    )
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="fix a symbolic dimension")


def _input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        "-i",
        action="append",
        default=[],
        metavar="FILE",
        help=".npz with arrays by input name, or NAME=FILE with .npy or .pb (TensorProto); seeded values unless given",
    )
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="seed of the values that are not given (0)")


def _sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=N",
        help="size of a symbolic dimension of inputs that are not given (1 for a batch, else 4)",
    )


def _engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=("chromium", "node"), default="chromium", help="where (chromium)")
    parser.add_argument(
        "--gpu",
        choices=("auto", "software", "hardware"),
        default="auto",
        help="the WebGPU adapter: the machine's, or SwiftShader on the CPU (auto: the machine's if it has one)",
    )
    parser.add_argument("--timeout", type=seconds, default=600.0, metavar="S", help="seconds for one backend (600)")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
