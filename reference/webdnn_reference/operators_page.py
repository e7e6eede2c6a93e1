"""What docs/operators.md says of the reference: an operator's meaning, from its docstring, and what is missing.

Which operators exist says the onnx package, and for com.microsoft the installed onnxruntime.
"""

from __future__ import annotations

import inspect

import onnx.defs

from webdnn_reference import ops  # registers every family
from webdnn_reference.registry import OPERATORS

__all__ = ["meaning", "missing_contrib", "missing_versions"]

assert ops.__name__  # the import is for its effect

_CONTRIB = "com.microsoft"


def meaning(op: str, domain: str) -> str:
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
    import onnxruntime.capi.onnxruntime_pybind11_state as runtime  # pyright: ignore[reportMissingImports]  # a compiled module without stubs

    kernels = {
        kernel.op_name
        for kernel in runtime.get_all_opkernel_def()
        if kernel.domain == _CONTRIB and kernel.provider == "CPUExecutionProvider"
    }
    return tuple(sorted(name for name in kernels if not OPERATORS.versions(name, _CONTRIB)))
