"""The generated list of operators, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

from webdnn_reference.operators_page import missing_contrib, missing_versions

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_schema_version_of_onnx_but_gradient_is_implemented() -> None:
    assert missing_versions() == ("ai.onnx.preview.training Gradient 1",)


def test_operators_whose_absence_has_a_reason_are_absent() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    named = ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", "MaxpoolWithMask")
    assert set(named) <= set(missing_contrib())
    assert all(name in text for name in named)
