"""Writes docs/operators.md: every operator and version, what reference and compiler have of it, what was measured.

    python -m webdnn_conformance.operators docs/operators.md [--results report.json ...]     write it
    python -m webdnn_conformance.operators docs/operators.md --check                         1 if it is not current

The registries say which versions there are. How many cases of an operator pass on a backend is read from support.json
beside this file, which --results rewrites from reports of `webdnn conformance --json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import webdnn_backends.lower  # registers every family
from webdnn_backends.lower.registry import LOWERINGS
from webdnn_reference.operators_page import meaning, missing_contrib, missing_versions
from webdnn_reference.registry import OPERATORS

__all__ = ["BACKENDS", "page", "summarize"]

assert webdnn_backends.lower.__name__  # the import is for its effect

BACKENDS = ("js", "wasm", "webgpu")

_SUPPORT = Path(__file__).with_name("support.json")
_CONTRIB = "com.microsoft"
_INTRODUCTION = """\
# Operators

Every operator and version that the NumPy reference implements, and what the compiler makes of it. Versions are those at
which a meaning or a type list changed; a version in brackets has no lowering yet. Under a backend: how many cases pass,
of how many there are; `(n off)`: so many of them with steps in JavaScript. *yes*: it compiles, and no case is about it;
*no*: it does not compile. Written by `python -m webdnn_conformance.operators docs/operators.md`; a test keeps it
current. [conformance.md](conformance.md) says how cases are judged.
"""

Support: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]
"""Qualified operator -> backend -> cases that pass, those of them with steps elsewhere, all cases."""


def page(support: Support | None = None) -> str:
    """The text of docs/operators.md."""
    measured = json.loads(_SUPPORT.read_text()) if support is None else support
    sections = [_INTRODUCTION, _totals()]
    for domain in sorted({domain for domain, *_ in OPERATORS}):
        names = sorted({op for owner, op, *_ in OPERATORS if owner == domain})
        head = [f"## {domain or 'ai.onnx'}", "", f"{len(names)} operators.", ""]
        head += [f"| operator | versions | {' | '.join(BACKENDS)} | computes |", "|---|---|---|---|---|---|"]
        rows = [
            f"| {op} | {_versions(op, domain)} | "
            + " | ".join(_cell(op, domain, backend, measured) for backend in BACKENDS)
            + f" | {meaning(op, domain)} |"
            for op in names
        ]
        sections.append("\n".join([*head, *rows]) + "\n")
    missing = "\n".join(f"- {text}" for text in missing_versions())
    sections.append(f"## Not in the reference\n\n### ONNX\n\n{missing or 'Nothing.'}\n")
    contrib = "\n".join(f"- {name}" for name in missing_contrib())
    sections.append(f"### {_CONTRIB}, of what onnxruntime computes on a CPU\n\n{contrib or 'Nothing.'}\n")
    return "\n".join(sections)


def _totals() -> str:
    """How many operators and versions there are, and how many of them compile."""
    entries = [(domain, op, since) for domain, op, since, _ in OPERATORS]
    compiled = [(domain, op) for domain, op, since in entries if LOWERINGS.find(op, since, domain) is not None]
    operators, known = {entry[:2] for entry in entries}, set(compiled)
    return (
        f"{len(operators)} operators in {len(entries)} versions; "
        f"{len(known)} operators in {len(compiled)} versions compile.\n"
    )


def _versions(op: str, domain: str) -> str:
    return ", ".join(
        str(since) if LOWERINGS.find(op, since, domain) is not None else f"({since})"
        for since in OPERATORS.versions(op, domain)
    )


def _cell(op: str, domain: str, backend: str, support: Support) -> str:
    if not any(LOWERINGS.find(op, since, domain) is not None for since in OPERATORS.versions(op, domain)):
        return "no"
    passed, placed, count = support.get(_qualified(op, domain), {}).get(backend, (0, 0, 0))
    if not count:
        return "yes"
    return f"{passed}/{count}" + (f" ({placed} off)" if placed else "")


def _qualified(op: str, domain: str) -> str:
    return f"{domain}.{op}" if domain else op


def summarize(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Counts per operator and backend, of the cases of all reports; a later report counts where both have a case."""
    latest = {case["id"]: case for report in reports for case in report["cases"]}
    counts: dict[str, dict[str, list[int]]] = {}
    for case in latest.values():
        by_backend = counts.setdefault(_qualified(case["op"], case["domain"]), {})
        for backend, result in case["results"].items():
            row = by_backend.setdefault(backend, [0, 0, 0])
            row[0] += result["status"] == "pass"
            row[1] += result["status"] == "pass" and bool(result["placed"])
            row[2] += 1
    return {op: dict(sorted(rows.items())) for op, rows in sorted(counts.items())}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path, help="docs/operators.md")
    parser.add_argument("--results", type=Path, nargs="+", help="reports to take the counts from")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is not current")
    given = parser.parse_args(arguments)
    if given.results:
        counts = summarize([json.loads(path.read_text()) for path in given.results])
        lines = ",\n".join(f" {json.dumps(op)}: {json.dumps(rows)}" for op, rows in counts.items())
        _SUPPORT.write_text(f"{{\n{lines}\n}}\n")
    text = page()
    if given.check:
        current = given.path.is_file() and given.path.read_text(encoding="utf-8") == text
        if not current:
            command = f"python -m webdnn_conformance.operators {given.path}"
            print(f"{given.path}: expected what the registries say; run {command}", file=sys.stderr)
        return 0 if current else 1
    given.path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
