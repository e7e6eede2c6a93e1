"""Errors planted in each dialect, a lowering and the memory plan are found, and blamed on the right case."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.models import ADD, CHAIN, MUL, TRANSPOSE, run
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.lower.registry import LOWERINGS
from webdnn_conformance.result import Run
from webdnn_onnx.bundle.plan import plan_arena


def blamed(found: Run) -> dict[str, set[str]]:
    """Backend -> the cases that fail on it."""
    return {
        name: {
            one.id
            for one in found.results
            for outcome in one.outcomes
            if outcome.backend == name and outcome.status != "pass"
        }
        for name in found.backends
    }


def test_nothing_planted_nothing_found(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert not found.failed, [outcome.message for _, outcome in found.failures()]
    assert len(found.results) == 4


def test_an_operator_of_javascript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webdnn_backends.js.operators import OPERATORS

    rows = OPERATORS[Scalar.F32]
    monkeypatch.setitem(rows, Op.ADD, rows[Op.SUB])
    assert blamed(run(tmp_path, ADD, MUL)) == {"js": {ADD}, "wasm": set()}


def test_an_operator_of_webassembly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webdnn_backends.wasm import rows

    for table in (rows.SCALAR_ROWS, rows.VECTOR_ROWS):
        monkeypatch.setitem(table, (Op.ADD, Scalar.F32), table[Op.SUB, Scalar.F32])
    found = run(tmp_path, ADD, MUL)
    assert blamed(found) == {"js": set(), "wasm": {ADD}}
    message = next(outcome.message for _, outcome in found.failures())
    assert message.startswith("reference: output 'y' at [")
    assert "expected" in message
    assert "ULP" in message


@pytest.mark.browser
def test_an_operator_of_wgsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webdnn_backends.webgpu.operators import OPERATORS

    rows = OPERATORS[Scalar.F32]
    monkeypatch.setitem(rows, Op.ADD, rows[Op.SUB])
    found = run(tmp_path, ADD, MUL, engine="chromium", backends=("js", "webgpu"))
    assert blamed(found) == {"js": set(), "webgpu": {ADD}}


def test_an_index_of_a_lowering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transpose reads an element of another column."""
    versions = LOWERINGS._entries["", "Transpose"]
    since = max(versions)
    lower = versions[since]

    def planted(context: Any) -> None:
        element = context.element
        with monkeypatch.context() as patch:
            patch.setattr(type(context), "element", lambda _, number, place: element(number, [place[0]] * len(place)))
            lower(context)

    monkeypatch.setitem(versions, since, planted)
    assert blamed(run(tmp_path, ADD, TRANSPOSE)) == {"js": {TRANSPOSE}, "wasm": {TRANSPOSE}}


def test_an_offset_of_the_memory_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All temporaries lie at one place."""

    def planted(program: Any) -> Any:
        plan = plan_arena(program)
        own = {*program.inputs, *program.outputs}
        temporaries = [name for name in plan.offsets if name not in own]
        lowest = min((plan.offsets[name] for name in temporaries), default=0)
        return dataclasses.replace(plan, offsets={**plan.offsets, **dict.fromkeys(temporaries, lowest)})

    monkeypatch.setattr("webdnn_onnx.convert.plan_arena", planted)
    assert blamed(run(tmp_path, ADD, CHAIN)) == {"js": {CHAIN}, "wasm": {CHAIN}}


def test_a_wrong_suite_expectation_is_told_from_a_wrong_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conformance import models

    good = models.EVERY[ADD]
    (expected,) = good.sets[0].expected or ()
    bad = dataclasses.replace(good.sets[0], expected=[np.asarray(expected) + np.float32(1)])
    monkeypatch.setitem(models.EVERY, ADD, dataclasses.replace(good, sets=(bad,)))
    messages = [outcome.message for _, outcome in run(tmp_path, ADD).failures()]
    assert len(messages) == 2
    assert all(message.startswith("suite: output 0") for message in messages)
