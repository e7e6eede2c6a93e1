"""The loss operators against onnxruntime, which runs their function bodies or its training kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, filled


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[np.ndarray | None], dict[str, Any]]:
    """Scores, labels, perhaps weights, and the attributes."""
    seed = draw(st.integers(0, 999))
    classes = draw(st.integers(2, 4))
    inner = tuple(draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2))))
    batch = draw(st.integers(1, 3))
    labels = np.random.default_rng(seed).integers(0, classes, (batch, *inner))
    attributes: dict[str, Any] = {"reduction": draw(st.sampled_from(["none", "sum", "mean"]))}
    if draw(st.booleans()):
        attributes["ignore_index"] = draw(st.sampled_from([0, 1]))
        labels.reshape(-1)[0] = 1 - attributes["ignore_index"]
    weights = np.abs(filled((classes,), np.float32, seed + 1)) + np.float32(0.1) if draw(st.booleans()) else None
    return [filled((batch, classes, *inner), np.float32, seed), labels, weights], attributes


@BOUNDED
@given(case=labelled())
def test_negative_log_likelihood_loss(case: tuple[Any, ...]) -> None:
    inputs, attributes = case
    agree("NegativeLogLikelihoodLoss", inputs, attributes, opset=13, atol=1e-4)


@pytest.mark.parametrize("outputs", [1, 2])
@BOUNDED
@given(case=labelled())
def test_softmax_cross_entropy_loss(outputs: int, case: tuple[Any, ...]) -> None:
    inputs, attributes = case
    kinds = [TensorProto.FLOAT] * outputs
    agree("SoftmaxCrossEntropyLoss", inputs, attributes, opset=13, outputs=kinds, atol=1e-4)
