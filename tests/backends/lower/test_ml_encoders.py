"""Encoders of ai.onnx.ml against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.lower.one_node import agree, f32


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("positions", [[2, 0], [[1], [3], [0]], [[1, 0], [3, 2]], 2], ids=str)
@pytest.mark.parametrize("shape", [(4,), (3, 4)], ids=str)
def test_features_at_positions_in_any_arrangement(shape: tuple[int, ...], positions: object, symbolic: bool) -> None:
    inputs = [f32(*shape), np.array(positions, np.int64)]
    agree("ArrayFeatureExtractor", inputs, domain="ai.onnx.ml", opset=1, symbolic=symbolic)
