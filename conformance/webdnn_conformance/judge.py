"""The verdict on a backend's outputs, and what the reference makes of a case."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from webdnn_conformance.case import Case
from webdnn_conformance.compare import Finding, against_reference, against_suite
from webdnn_onnx.engines import RunValue
from webdnn_onnx.errors import WebDNNError
from webdnn_reference import Interpreter

__all__ = ["Reference", "ask_reference", "judge"]


@dataclass(frozen=True)
class Reference:
    """The reference's outputs per data set, in the graph's order. error: why there are none."""

    names: tuple[str, ...]
    sets: Sequence[Sequence[Any]]
    error: str = ""


def ask_reference(case: Case) -> Reference:
    """Run a case on the reference."""
    try:
        interpreter = Interpreter(case.model, seed=0)
        names = tuple(value.name for value in interpreter.graph.outputs)
        with np.errstate(all="ignore"):
            return Reference(names, [list(interpreter.run(data.inputs).values()) for data in case.sets])
    except WebDNNError as error:
        return Reference((), (), f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001  # a fault of the reference must not end the run
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Reference((), (), f"{type(error).__name__} at {frame.name}:{frame.lineno}: {error}")


def judge(case: Case, reference: Reference, outputs: Sequence[Mapping[str, RunValue]]) -> Finding:
    """The worst finding over all data sets, by both judges; a message says which one disagrees."""
    finding = Finding()
    for number, (data, values) in enumerate(zip(case.sets, outputs, strict=True)):
        where = f"set {number}: " if len(case.sets) > 1 else ""
        got = list(values.values())
        if reference.sets:
            found = against_reference(case.facts, list(values), got, reference.sets[number])
            prefix = f"reference: {where}" if found.message else ""
            finding = finding.worse(Finding(found.ulp, found.error, prefix + found.message))
        elif data.expected is None:
            finding = finding.worse(Finding(message=f"no judge: the reference fails: {reference.error}"))
        if data.expected is not None and (reason := against_suite(case.facts, got, data.expected)):
            finding = finding.worse(Finding(message=f"suite: {where}{reason}"))
    return finding
