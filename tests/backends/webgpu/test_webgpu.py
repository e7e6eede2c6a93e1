"""Kernels printed as WGSL, run by Dawn, against the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir import probes
from webdnn_backends.ir.probes import Probe
from webdnn_backends.webgpu import emit, emit_program, objection

RunProbes = Callable[[Iterable[Probe]], dict[str, dict[str, npt.NDArray[np.generic]]]]

GROUPS = {
    "operators": lambda: probes.operator_probes(denormals=False),
    "vector_operators": lambda: probes.operator_probes(denormals=False, lanes=4),
    "storage": probes.storage_probes,
    "casts": lambda: probes.cast_probes(denormals=False),
    "bitcasts": probes.bitcast_probes,
    "statements": probes.statement_probes,
}


@pytest.mark.parametrize("group", GROUPS)
def test_probes_give_what_the_interpreter_gives(group: str, run_probes: RunProbes) -> None:
    cases = [case for case in GROUPS[group]() if objection(case.kernel) is None]
    results = run_probes(cases)
    wrong = [text for case in cases if (text := case.difference(results[case.id], flush=True)) is not None]
    assert not wrong, "\n".join(wrong)
