"""The suites: named sources of cases, each kept as packs in the user's cache."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import onnx

from webdnn_conformance.case import Case
from webdnn_conformance.store import Pack, cache_folder, source_hash, write_pack
from webdnn_onnx.errors import InvalidModelError

__all__ = ["DEFAULT", "SUITES", "load_suite"]

_HERE = Path(__file__).parent


def load_suite(name: str, *, models: Path | None = None) -> list[Pack]:
    """The packs of a suite, written first where there are none yet.

    models: the folder of the suite `models`. Raises InvalidModelError if the suite or what it needs is not there.
    """
    if name not in SUITES:
        raise InvalidModelError(f"--suite: expected one of {', '.join(SUITES)}, got {name!r}")
    return SUITES[name](models)


def _onnx(_models: Path | None) -> list[Pack]:
    from webdnn_conformance.suites import onnx_suite

    key = source_hash(_HERE / "onnx_suite.py", _HERE / "values.py")
    return [_pack(f"onnx-{kind}-{onnx.__version__}-{key}", onnx_suite.cases, kind) for kind in onnx_suite.KINDS]


def _historical(_models: Path | None) -> list[Pack]:
    from webdnn_conformance.suites import historical

    key = source_hash(*(_HERE / name for name in ("historical.py", "values.py", "historical_exceptions.toml")))
    try:
        return [
            _pack(f"historical-{one.version}-{onnx.__version__}-{one.sha256[:8]}-{key}", historical.cases, one.version)
            for one in historical.wheels()
        ]
    except FileNotFoundError as error:
        raise InvalidModelError(f"--suite historical: {error}") from None


def _contrib(_models: Path | None) -> list[Pack]:
    from webdnn_conformance.suites import contrib

    key = source_hash(*sorted(_HERE.glob("contrib*.py")))
    return [_pack(f"contrib-{onnx.__version__}-{key}", contrib.cases)]


def _models(folder: Path | None) -> list[Pack]:
    from webdnn_conformance.suites import models

    if folder is None or not folder.is_dir():
        raise InvalidModelError(f"--suite models: expected a folder of models by --models, got {folder}")
    stamps = "".join(f"{path}{path.stat().st_mtime_ns}" for path in sorted(folder.rglob("*")))
    key = source_hash(*(_HERE / name for name in ("models.py", "models.toml", "values.py")))
    stamp = hashlib.sha256(stamps.encode()).hexdigest()[:12]
    return [_pack(f"models-{onnx.__version__}-{stamp}-{key}", models.cases, folder)]


def _pack(name: str, cases: Callable[..., Iterable[Case]], *arguments: object) -> Pack:
    path = cache_folder() / f"{name}.pack"
    if not path.is_file():
        print(f"conformance: reading {name.rpartition('-')[0]} (once)", file=sys.stderr, flush=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about values that the suite overflows on purpose
            write_pack(path, cases(*arguments))
    return Pack(path)


SUITES: dict[str, Callable[[Path | None], list[Pack]]] = {
    "onnx": _onnx,
    "historical": _historical,
    "contrib": _contrib,
    "models": _models,
}
DEFAULT = ("onnx",)
