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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from webdnn_conformance.case import Case, DataSet, make_case
from webdnn_conformance.suites.values import data_sets

__all__ = ["StoredCase", "Wheel", "cases", "exceptions", "load", "stored_cases", "wheels"]

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
class StoredCase:
    """One case as files; `name` is the release and the case, as in exceptions: `1.6.0/test_abs`."""

    name: str
    files: Mapping[str, bytes]


def wheels() -> tuple[Wheel, ...]:
    """The releases, oldest first."""
    listed: list[dict[str, Any]] = tomllib.loads((_HERE / "historical_wheels.toml").read_text())["wheel"]
    return tuple(Wheel(**entry) for entry in listed)


def exceptions() -> dict[str, dict[str, Any]]:
    """Case -> what is wrong with its data: a reason, and a looser `atol` where that is enough, or `refused`."""
    listed = tomllib.loads((_HERE / "historical_exceptions.toml").read_text())["exception"]
    return {case: entry for entry in listed for case in entry["cases"]}


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
def stored_cases() -> Mapping[str, StoredCase]:
    """All cases by name; one that an earlier release has with the same content is left out."""
    known: set[bytes] = set()
    found: dict[str, StoredCase] = {}
    for wheel in wheels():
        for case in _read(wheel):
            digest = hashlib.sha256()
            for name, content in sorted(case.files.items()):
                digest.update(f"{case.name.partition('/')[2]}/{name}:{len(content)}:".encode() + content)
            if digest.digest() not in known:
                known.add(digest.digest())
                found[case.name] = case
    return found


def cases(release: str) -> Iterator[Case]:
    """The cases of one release whose content no earlier release has; wrong data is left to the reference to judge."""
    known = exceptions()
    stored = {name: case for name, case in stored_cases().items() if name.startswith(f"{release}/")}
    for name, case in stored.items():
        try:
            model = onnx.load_from_string(case.files["model.onnx"])
            sets = data_sets(case.files, model)
        except UnicodeDecodeError:
            continue  # strings stored as the memory of a NumPy array: no inputs can be read
        exception = known.get(name, {})
        if exception.get("refused"):
            continue
        atol = float(exception.get("atol", 1e-7))
        if exception and "atol" not in exception:
            sets = [replace(one, expected=None) for one in sets if _fits(model, one)]
            if not sets:
                continue  # the inputs contradict the model: nobody can run it
        short = name.partition("/")[2]
        base = stored.get(f"{release}/{short.partition('_expanded')[0]}")
        op, domain = _subject(base) if base is not None else ("", "")
        drawn = "bernoulli" in short
        group = f"historical/{release}"
        yield make_case(group, short.removeprefix("test_"), model, sets, op=op, domain=domain, drawn=drawn, atol=atol)


def _fits(model: ModelProto, data: DataSet) -> bool:
    """Whether the inputs have the shapes that the model declares."""
    for value in model.graph.input:
        given = data.inputs.get(value.name)
        declared = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if isinstance(given, np.ndarray) and all(declared) and list(given.shape) != declared:
            return False
    return True


def _subject(case: StoredCase) -> tuple[str, str]:
    """The operator of a graph of one node, or two empty names."""
    graph = onnx.load_from_string(case.files["model.onnx"]).graph
    return (graph.node[0].op_type, graph.node[0].domain) if len(graph.node) == 1 else ("", "")


def _read(wheel: Wheel) -> Iterator[StoredCase]:
    with zipfile.ZipFile(load(wheel)) as archive:
        grouped: dict[str, dict[str, bytes]] = {}
        for name in archive.namelist():
            if name.startswith(_PREFIX) and not name.endswith("/"):
                case, _, file = name.removeprefix(_PREFIX).partition("/")
                grouped.setdefault(case, {})[file] = archive.read(name)
    for case, files in sorted(grouped.items()):
        yield StoredCase(f"{wheel.version}/{case}", files)
