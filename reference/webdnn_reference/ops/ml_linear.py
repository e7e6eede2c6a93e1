"""Linear models of ai.onnx.ml: LinearClassifier and LinearRegressor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array
from webdnn_reference.ops.ml_common import (
    DOMAIN,
    as_float_output,
    class_labels,
    features,
    post_transformed,
    probit,
    with_second_class,
)
from webdnn_reference.registry import Context, op

__all__ = ["linear_classifier", "linear_regressor"]


@op("LinearClassifier", 1, domain=DOMAIN)
def linear_classifier(
    X: Array,
    *,
    classlabels_ints: Sequence[int] = (),
    classlabels_strings: Sequence[str] = (),
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    multi_class: int = 0,  # noqa: ARG001 - scores are per class either way
    post_transform: str = "NONE",
    context: Context,
) -> tuple[Array, Array]:
    """The class with the greatest linear score, and the scores.

    X: numbers[N, F] -> Y: int64 or string[N], Z: float32[N, E]. With a single score and two labels the second wins
    where the score is positive, and Z has the columns 1 - score and score.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html#linearclassifier-1
    """
    labels = class_labels(classlabels_ints, classlabels_strings)
    scores = _affine(features(X), coefficients, intercepts)
    if not scores.shape[1]:
        raise ShapeError("coefficients: expected one for each feature of each class, got none")
    if scores.shape[1] > 1:
        chosen = labels[scores.argmax(axis=1)]
        return chosen, as_float_output(post_transformed(scores, post_transform), context)
    positive = scores[:, 0] > 0
    if len(labels) != 2:
        kind = labels.dtype
        fallback = np.array(["0", "1"], np.object_) if kind == np.object_ else np.array([0, 1], np.int64)
        z = probit(scores) if post_transform == "PROBIT" else scores
        return fallback[positive.astype(np.int64)], as_float_output(z, context)
    z = with_second_class(scores, post_transform, symmetric=False)
    return labels[positive.astype(np.int64)], as_float_output(z, context)


@op("LinearRegressor", 1, domain=DOMAIN)
def linear_regressor(
    X: Array,
    *,
    coefficients: Sequence[float] = (),
    intercepts: Sequence[float] = (),
    post_transform: str = "NONE",
    targets: int = 1,
    context: Context,
) -> Array:
    """Affine functions of the features. X: numbers[N, F] -> float32[N, targets].

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html#linearregressor-1
    """
    rows = features(X)
    if len(coefficients) != targets * rows.shape[1]:
        raise ShapeError(
            f"coefficients: expected {targets} targets times {rows.shape[1]} features, got {len(coefficients)}"
        )
    scores = _affine(rows, coefficients, intercepts)
    if targets == 1:
        return as_float_output(probit(scores) if post_transform == "PROBIT" else scores, context)
    return as_float_output(post_transformed(scores, post_transform), context)


def _affine(rows: Array, coefficients: Sequence[float], intercepts: Sequence[float]) -> Array:
    weights = np.array(coefficients, np.float32).astype(rows.dtype)
    if not rows.shape[1] or weights.size % rows.shape[1]:
        raise ShapeError(f"coefficients: expected a multiple of {rows.shape[1]} features, got {weights.size}")
    scores = rows @ weights.reshape(-1, rows.shape[1]).T
    if len(intercepts):
        scores = scores + np.array(intercepts, np.float32).astype(rows.dtype)
    return np.asarray(scores)
