"""com.microsoft operators: the calls that the reference is tested with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.lower.one_node import agree
from tests.reference import test_contrib as calls
from webdnn_backends.lower.registry import LOWERINGS

FAMILIES = (calls.elementwise, calls.normalizations, calls.products, calls.quantized, calls.experts)


def cases() -> Iterator[calls.Case]:
    for family in FAMILIES:
        yield from family()


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_call(case: calls.Case) -> None:
    assert LOWERINGS.get(case.op, 1, case.domain, case.name) is not None
    # A quantized result may differ by one step where a real number lies between two.
    whole = case.outputs[0] != calls.FLOAT
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
