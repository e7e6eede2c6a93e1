"""The node cases that earlier releases of the onnx package carried as files: what the old operator versions mean.

The package's own suite has been regenerated at the newest opset over the years; models in the world have not. Each
release listed in historical_wheels.toml is downloaded once, checked against its hash, and read in place.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from tests.reference.onnx_suite import DRAWN, check_model, parse_data_sets

__all__ = ["HistoricalCase", "Wheel", "cases", "load", "wheels"]

_HERE = Path(__file__).parent
_PREFIX = "onnx/backend/test/data/node/"


@dataclass(frozen=True)
class Wheel:
    """One release: how pip names the file, and its hash."""

    version: str
    python: str
    platform: str
    sha256: str


@dataclass(frozen=True)
class HistoricalCase:
    """One case; `name` is the release and the case, as in exceptions: `1.6.0/test_abs`."""

    name: str
    files: Mapping[str, bytes]

    def check(self, atol: float = 1e-7) -> None:
        """Run it. Raises AssertionError where an output differs."""
        model = self.model()
        sets = parse_data_sets(self.files, model)
        assert sets, f"{self.name}: expected at least one data set, got none"
        check_model(model, sets, rtol=1e-3, atol=atol, drawn=self.name.partition("/")[2] in DRAWN)

    def model(self) -> ModelProto:
        return onnx.load_from_string(self.files["model.onnx"])


def wheels() -> tuple[Wheel, ...]:
    """The releases, oldest first."""
    listed: list[dict[str, Any]] = tomllib.loads((_HERE / "historical_wheels.toml").read_text())["wheel"]
    return tuple(Wheel(**entry) for entry in listed)


def load(wheel: Wheel) -> Path:
    """The wheel's file, from the cache or downloaded into it.

    Raises FileNotFoundError where it can be had from neither, ValueError if its hash is not the listed one.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webdnn-onnx" / "onnx-wheels"
    found = list(folder.glob(f"onnx-{wheel.version}-*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", wheel.python, "--implementation", "cp", "--platform", wheel.platform]
        done = subprocess.run(
            [*command, "--dest", str(folder), f"onnx=={wheel.version}"], capture_output=True, text=True, check=False
        )
        found = list(folder.glob(f"onnx-{wheel.version}-*.whl"))
        if not found:
            raise FileNotFoundError(f"onnx {wheel.version}: pip download: {' '.join(done.stderr.split())[-300:]}")
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise ValueError(f"{found[0]}: expected sha256 {wheel.sha256}, got {digest}; delete the file")
    return found[0]


@functools.cache
def cases() -> Mapping[str, HistoricalCase]:
    """All cases by name; one that an earlier release has with the same content is left out."""
    known: set[bytes] = set()
    found: dict[str, HistoricalCase] = {}
    for wheel in wheels():
        for case in _read(wheel):
            digest = hashlib.sha256()
            for name, content in sorted(case.files.items()):
                digest.update(f"{case.name.partition('/')[2]}/{name}:{len(content)}:".encode() + content)
            if digest.digest() not in known:
                known.add(digest.digest())
                found[case.name] = case
    return found


def _read(wheel: Wheel) -> Iterator[HistoricalCase]:
    with zipfile.ZipFile(load(wheel)) as archive:
        grouped: dict[str, dict[str, bytes]] = {}
        for name in archive.namelist():
            if name.startswith(_PREFIX) and not name.endswith("/"):
                case, _, file = name.removeprefix(_PREFIX).partition("/")
                grouped.setdefault(case, {})[file] = archive.read(name)
    for case, files in sorted(grouped.items()):
        yield HistoricalCase(f"{wheel.version}/{case}", files)
