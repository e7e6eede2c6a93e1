"""Writes docs/operators.md: what the reference implements, from the registry and the docstrings, and what it does not.

    python -m webdnn_reference.operators_page docs/operators.md

Which operators exist says the onnx package, and for com.microsoft the installed onnxruntime.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path

import onnx.defs

from webdnn_reference import ops  # registers every family
from webdnn_reference.registry import OPERATORS

__all__ = ["missing_contrib", "missing_versions", "page"]

assert ops.__name__  # the import is for its effect

_CONTRIB = "com.microsoft"
_INTRODUCTION = """\
# Operators

What the NumPy reference implements, by domain; the versions are those at which a meaning or a type list changed.
Written by `python -m webdnn_reference.operators_page docs/operators.md`; a test keeps it current.
"""


def page() -> str:
    """The text of docs/operators.md."""
    sections = [_INTRODUCTION]
    domains = sorted({domain for domain, *_ in OPERATORS})
    for domain in domains:
        names = sorted({op for owner, op, *_ in OPERATORS if owner == domain})
        rows = [
            f"| {op} | {', '.join(map(str, OPERATORS.versions(op, domain)))} | {_meaning(op, domain)} |" for op in names
        ]
        head = [f"## {domain or 'ai.onnx'}", "", f"{len(names)} operators.", ""]
        head += ["| operator | versions | computes |", "|---|---|---|"]
        sections.append("\n".join([*head, *rows]) + "\n")
    onnx_missing = [f"- {text}" for text in missing_versions()]
    sections.append("## Not implemented\n\n### ONNX\n\n" + ("\n".join(onnx_missing) or "Nothing.") + "\n")
    contrib = "\n".join(f"- {name}" for name in missing_contrib())
    sections.append(f"### {_CONTRIB}, of what onnxruntime computes on a CPU\n\n{contrib or 'Nothing.'}\n")
    return "\n".join(sections)


def _meaning(op: str, domain: str) -> str:
    """The first sentence of the newest version's docstring."""
    function = OPERATORS.get(op, OPERATORS.versions(op, domain)[-1], domain)
    text = inspect.getdoc(function) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")


def missing_versions() -> tuple[str, ...]:
    """Every schema version of the ONNX domains that the reference has not, as `domain Operator version`.

    A version that only deprecates its operator needs none: the one before it applies.
    """
    missing = []
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.deprecated and schema.since_version not in OPERATORS.versions(schema.name, schema.domain):
            missing.append(f"{schema.domain or 'ai.onnx'} {schema.name} {schema.since_version}")
    return tuple(sorted(missing))


def missing_contrib() -> tuple[str, ...]:
    """The operators of com.microsoft that onnxruntime computes on a CPU and the reference does not."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    kernels = {
        kernel.op_name
        for kernel in runtime.get_all_opkernel_def()
        if kernel.domain == _CONTRIB and kernel.provider == "CPUExecutionProvider"
    }
    return tuple(sorted(name for name in kernels if not OPERATORS.versions(name, _CONTRIB)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.parse_args(arguments).path.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
