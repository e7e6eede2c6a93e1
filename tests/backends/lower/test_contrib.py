"""com.microsoft operators: the calls of the conformance suite, in the interpreter of the loop IR."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.lower.one_node import agree
from webdnn_backends.lower.registry import LOWERINGS
from webdnn_conformance.suites import contrib_float, contrib_other
from webdnn_conformance.suites.recipes import FLOAT, Draw, Recipe

FAMILIES = (
    contrib_float.elementwise,
    contrib_float.normalizations,
    contrib_float.products,
    contrib_other.quantized,
    contrib_float.experts,
)


def cases() -> Iterator[Recipe]:
    for family in FAMILIES:
        yield from family(Draw(family.__name__))


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_call(case: Recipe) -> None:
    assert LOWERINGS.get(case.op, 1, case.domain, case.name) is not None
    # A quantized result may differ by one step where a real number lies between two.
    whole = case.outputs[0] != FLOAT
    outputs = [bool(kind) for kind in case.outputs]
    agree(
        case.op,
        case.inputs,
        case.attributes,
        opset=1,
        domain=case.domain,
        outputs=outputs,
        rtol=1e-3,
        atol=1 if whole else max(1e-4, case.tolerance * 1e-2),
    )
