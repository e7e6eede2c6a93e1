"""Cases on disk: written once per suite and version of the onnx package, then read in milliseconds by every worker.

A pack is a little-endian u64 (bytes of the index), a JSON index, and the records that it locates. A record is a message
as webdnn_onnx.engines.tensors writes it: a JSON header and named values.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from webdnn_conformance.case import Case, DataSet, Facts
from webdnn_onnx.engines import RunValue
from webdnn_onnx.engines.tensors import decode, encode

__all__ = ["Pack", "cache_folder", "decode_case", "encode_case", "source_hash", "write_pack"]

_LENGTH = 8


def cache_folder() -> Path:
    """Where packs are kept: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webdnn-onnx" / "conformance"


def source_hash(*modules: Path) -> str:
    """A short hash of source files: a pack that other code wrote is not read."""
    digest = hashlib.sha256()
    for path in (Path(__file__), Path(__file__).with_name("case.py"), *modules):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def encode_case(case: Case) -> bytes:
    """A case as a record."""
    values: dict[str, RunValue] = {"model": np.frombuffer(case.model, np.uint8)}
    sets = []
    for number, data in enumerate(case.sets):
        for name, value in data.inputs.items():
            values[f"{number}/in/{name}"] = value
        for index, value in enumerate(data.expected or ()):
            values[f"{number}/out/{index}"] = value
        sets.append({"inputs": list(data.inputs), "outputs": None if data.expected is None else len(data.expected)})
    return encode({"id": case.id, "facts": dataclasses.asdict(case.facts), "sets": sets}, values)


def decode_case(record: bytes) -> Case:
    """The case of a record."""
    header, values = decode(record)
    sets = tuple(
        DataSet(
            {name: values[f"{number}/in/{name}"] for name in one["inputs"]},
            None if one["outputs"] is None else [values[f"{number}/out/{index}"] for index in range(one["outputs"])],
        )
        for number, one in enumerate(header["sets"])
    )
    model = values["model"]
    assert isinstance(model, np.ndarray), "encode_case stores the model as bytes"
    facts = header["facts"] | {"dtypes": tuple(header["facts"]["dtypes"])}
    return Case(header["id"], Facts(**facts), model.tobytes(), sets)


def write_pack(path: Path, cases: Iterable[Case]) -> None:
    """Write a pack whole or not at all. Raises ValueError if two cases have one id."""
    index: dict[str, tuple[int, int]] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    records = path.with_name(f"{path.name}.{os.getpid()}.records")
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with records.open("wb") as stream:
            for case in cases:
                if case.id in index:
                    raise ValueError(f"{case.id}: expected one case of that id, got two")
                record = encode_case(case)
                index[case.id] = (stream.tell(), len(record))
                facts[case.id] = dataclasses.asdict(case.facts)
                stream.write(record)
                stream.write(b"\0" * (-len(record) % 8))
        head = json.dumps({"cases": [{"id": key, "at": index[key], "facts": facts[key]} for key in index]}).encode()
        with temporary.open("wb") as stream, records.open("rb") as source:
            stream.write(len(head).to_bytes(_LENGTH, "little") + head)
            while chunk := source.read(1 << 20):
                stream.write(chunk)
        temporary.replace(path)
    finally:
        records.unlink(missing_ok=True)
        temporary.unlink(missing_ok=True)


class Pack:
    """A pack for reading: iterates over ids, gives facts and cases by id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        size = int.from_bytes(self._data[:_LENGTH], "little")
        self._base = _LENGTH + size
        listed = json.loads(self._data[_LENGTH : self._base])["cases"]
        self._at: dict[str, tuple[int, int]] = {entry["id"]: tuple(entry["at"]) for entry in listed}
        self._facts: dict[str, Facts] = {
            entry["id"]: Facts(**(entry["facts"] | {"dtypes": tuple(entry["facts"]["dtypes"])})) for entry in listed
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, case_id: object) -> bool:
        return case_id in self._at

    def facts(self, case_id: str) -> Facts:
        return self._facts[case_id]

    def case(self, case_id: str) -> Case:
        offset, size = self._at[case_id]
        return decode_case(self._data[self._base + offset : self._base + offset + size])
