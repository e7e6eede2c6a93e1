"""What is known not to pass, per backend: expectations/<backend>.toml.

    [[entry]]
    id = "onnx/node/bernoulli/"        # a prefix of case ids
    status = "xfail"                   # it runs and must fail; `skip`: it is not run
    reason = "why, and what would have to change"
    engine = "node"                    # only in this engine; in every one unless given

An entry that matches no case, and an `xfail` whose case passes, fail the run: the files only ever shrink.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from webdnn_onnx.errors import InvalidModelError

__all__ = ["Expectation", "Expectations", "load_expectations", "parse_expectations"]

_STATUSES = ("skip", "xfail")
_ENGINES = ("chromium", "node")


@dataclass(frozen=True)
class Expectation:
    """One entry of a backend's file. engine: the only one that it holds for; "" for all."""

    id: str
    status: str
    reason: str
    engine: str = ""


@dataclass(frozen=True)
class Expectations:
    """The entries of one backend."""

    backend: str
    entries: tuple[Expectation, ...] = ()

    def find(self, case_id: str) -> Expectation | None:
        """The entry with the longest prefix of an id."""
        found = [entry for entry in self.entries if case_id.startswith(entry.id)]
        return max(found, key=lambda entry: len(entry.id), default=None)

    def unused(self, case_ids: Iterable[str]) -> list[Expectation]:
        """Entries that match no case of whole suites; entries for suites that are not among them are left out."""
        known = list(case_ids)
        suites = {case_id.partition("/")[0] for case_id in known}
        return [
            entry
            for entry in self.entries
            if entry.id.partition("/")[0] in suites and not any(case_id.startswith(entry.id) for case_id in known)
        ]


def load_expectations(backend: str, engine: str, folder: Path | None = None) -> Expectations:
    """The entries of a backend that hold for an engine, from a folder, the package's own unless told otherwise; none
    where it has no file."""
    path = (folder or Path(__file__).with_name("expectations")) / f"{backend}.toml"
    found = parse_expectations(backend, path.read_text(), str(path)) if path.is_file() else Expectations(backend)
    return Expectations(backend, tuple(entry for entry in found.entries if entry.engine in ("", engine)))


def parse_expectations(backend: str, text: str, where: str = "expectations") -> Expectations:
    """Entries from the text of a file. Raises InvalidModelError if one is incomplete or named twice."""
    try:
        listed = tomllib.loads(text).get("entry", [])
    except tomllib.TOMLDecodeError as error:
        raise InvalidModelError(f"{where}: expected TOML, got: {error}") from None
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise InvalidModelError(f"{where}: expected entries as [[entry]], got something else")
    entries: list[Expectation] = []
    for number, entry in enumerate(listed, 1):
        missing = [key for key in ("id", "status", "reason") if not str(entry.get(key, "")).strip()]
        if missing:
            raise InvalidModelError(f"{where}: entry {number}: expected {missing[0]}, got none")
        if entry["status"] not in _STATUSES:
            raise InvalidModelError(
                f"{where}: {entry['id']}: status: expected {' or '.join(_STATUSES)}, got {entry['status']!r}"
            )
        engine = entry.get("engine", "")
        if engine not in ("", *_ENGINES):
            raise InvalidModelError(f"{where}: {entry['id']}: engine: expected {' or '.join(_ENGINES)}, got {engine!r}")
        if entry["id"] in _ids(entries):
            raise InvalidModelError(f"{where}: {entry['id']}: expected one entry, got two")
        entries.append(Expectation(entry["id"], entry["status"], entry["reason"], engine))
    return Expectations(backend, tuple(entries))


def _ids(entries: Sequence[Expectation]) -> set[str]:
    return {entry.id for entry in entries}
