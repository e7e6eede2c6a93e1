"""com.microsoft operators: the calls of the conformance suite, in the interpreter of the loop IR."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.backends.lower.one_node import agree, f32
from webdnn_backends.lower.registry import LOWERINGS
from webdnn_conformance.suites import contrib_attention, contrib_float, contrib_other
from webdnn_conformance.suites.recipes import INT8, MS, UINT8, Draw, Recipe

FAMILIES = tuple(
    family
    for module in (contrib_float, contrib_attention, contrib_other)
    for family in module.FAMILIES
    if family not in (contrib_other.texts, contrib_other.legacy)
)
"""Strings have host functions, which the interpreter of the loop IR does not run."""


def cases() -> Iterator[Recipe]:
    for family in FAMILIES:
        yield from family(Draw(family.__name__))


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_call(case: Recipe) -> None:
    assert LOWERINGS.get(case.op, 1, case.domain, case.name) is not None
    # A quantized result may differ by one step where a real number lies between two.
    codes = case.outputs[0] in (UINT8, INT8)
    outputs = [bool(kind) for kind in case.outputs]
    agree(
        case.op,
        case.inputs,
        case.attributes,
        opset=1,
        domain=case.domain,
        outputs=outputs,
        rtol=1e-3,
        atol=1 if codes else max(1e-4, case.tolerance * 1e-2),
    )


SYMBOLIC = (
    "rotary/",
    "attention/",
    "multi_head/",
    "grouped/",
    "linear_attention/",
    "gated_delta_net/",
    "skip_layer",
    "crop",
)


@pytest.mark.parametrize(
    "case", [case for case in cases() if case.name.startswith(SYMBOLIC)], ids=lambda case: case.name
)
def test_call_with_sizes_known_only_at_run_time(case: Recipe) -> None:
    agree(
        case.op,
        case.inputs,
        case.attributes,
        opset=1,
        domain=case.domain,
        outputs=[bool(kind) for kind in case.outputs],
        constant=case.constant,
        symbolic=True,
        rtol=1e-3,
        atol=max(1e-4, case.tolerance * 1e-2),
    )


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_mask_of_one_flag_hides_nothing(batch: int, symbolic: bool) -> None:
    inputs = [f32(2, 3, 4), f32(4, 12), f32(12), np.zeros((batch, 1), np.int32)]
    agree("Attention", inputs, {"num_heads": 2}, opset=1, domain=MS, symbolic=symbolic, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial", [(7,), (5, 4, 6)])
def test_channels_last_max_pool_of_any_rank(spatial: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, *spatial, 3)).astype(np.uint8)
    attributes = {"kernel_shape": [2] * len(spatial), "strides": [2] * len(spatial)}
    agree("NhwcMaxPool", [x], attributes, opset=1, domain=MS)


def test_a_fused_parametric_softplus() -> None:
    attributes = {"activation": "ParametricSoftplus", "activation_alpha": 0.5, "activation_beta": 2.0}
    agree("FusedGemm", [f32(3, 4), f32(4, 5), f32(5)], attributes, opset=1, domain=MS)
