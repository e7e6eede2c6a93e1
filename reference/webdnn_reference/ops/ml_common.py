"""What the ai.onnx.ml operators share: feature matrices, scores, labels, post-transforms.

Where the specification says nothing (one score for two classes) the behaviour is onnxruntime's; docs/semantics.md
lists those places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.erf import erf
from webdnn_reference.numeric import Array, is_float, widen
from webdnn_reference.ops.activations import logistic
from webdnn_reference.registry import Context

__all__ = [
    "DOMAIN",
    "POST_TRANSFORMS",
    "as_float_output",
    "class_labels",
    "features",
    "post_transformed",
    "probit",
    "squared_distances",
    "with_second_class",
]

DOMAIN = "ai.onnx.ml"
_DIFFERENCES_AT_ONCE = 1 << 18

POST_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""In the order of TreeEnsemble's enumeration."""


def features(X: Array) -> Array:
    """The input as rows of features: [N, F] in the type to compute in; integers become float64.

    Raises ShapeError unless X has one or two dimensions.
    """
    if X.ndim not in (1, 2):
        raise ShapeError(f"X: expected rank 1 or 2, got shape {list(X.shape)}")
    rows = X.reshape(1, -1) if X.ndim == 1 else X
    return widen(rows) if is_float(rows) else rows.astype(np.float64)


def as_float_output(y: Array, context: Context) -> Array:
    """A result whose declared type is tensor(float), whatever the input's type."""
    return y.astype(np.float64 if context.float64 else np.float32)


def class_labels(integers: Sequence[int], strings: Sequence[str]) -> Array:
    """The labels as int64 or as objects. Raises InvalidModelError unless exactly one kind is given."""
    if bool(integers) == bool(strings):
        raise InvalidModelError(f"class labels: expected integers or strings, got {'both' if integers else 'neither'}")
    return np.array(integers, np.int64) if integers else np.array(list(strings), np.object_)


def probit(p: Array) -> Array:
    """The quantile of the normal distribution: sqrt(2) erfinv(2 p - 1); infinite at 0 and 1, NaN outside."""
    y = 2 * p.astype(np.float64) - 1
    inner = np.where(np.abs(y) < 1, y, 0)
    a = 0.147
    logarithm = np.log1p(-inner * inner)
    first = 2 / (np.pi * a) + logarithm / 2
    x = np.copysign(np.sqrt(np.sqrt(first * first - logarithm / a) - first), inner)
    for _ in range(4):
        error = (erf(x) - inner) * (np.sqrt(np.pi) / 2) * np.exp(x * x)
        x = x - error / (1 + x * error)
    with np.errstate(invalid="ignore"):
        outside = np.where(np.abs(y) == 1, np.copysign(np.inf, y), np.nan)
    return np.where(np.abs(y) < 1, np.sqrt(2) * x, outside).astype(p.dtype)


def squared_distances(a: Array, b: Array) -> Array:
    """Squared Euclidean distances between rows. a: [N, F], b: [M, F] -> [N, M]."""
    result = np.empty((len(a), len(b)), np.result_type(a, b))
    step = max(_DIFFERENCES_AT_ONCE // max(b.size, 1), 1)
    for start in range(0, len(a), step):
        difference = a[start : start + step, None] - b
        result[start : start + step] = np.einsum("nmf,nmf->nm", difference, difference)
    return result


def post_transformed(scores: Array, post_transform: str) -> Array:
    """Scores [N, C] after a post-transform. Raises InvalidModelError for an unknown one."""
    if scores.shape[-1] == 0:
        return scores
    match post_transform:
        case "NONE":
            return scores
        case "LOGISTIC":
            return logistic(scores)
        case "PROBIT":
            return probit(scores)
        case "SOFTMAX":
            exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
            return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
        case "SOFTMAX_ZERO":
            greatest = scores.max(axis=-1, keepdims=True)
            zero = np.abs(scores) <= 1e-7
            exponentials = np.where(zero, 0, np.exp(scores - greatest))
            total = exponentials.sum(axis=-1, keepdims=True)
            return np.asarray(
                np.where(zero, scores * np.exp(-greatest), exponentials) / np.where(total == 0, 1, total),
                scores.dtype,
            )
    raise InvalidModelError(f"post_transform: expected one of {POST_TRANSFORMS}, got {post_transform!r}")


def with_second_class(score: Array, post_transform: str, *, symmetric: bool) -> Array:
    """Two columns from the one score of the positive class [N, 1].

    The first class has the negated score where `symmetric`, else 1 - score; LOGISTIC gives logistic(-score) and
    logistic(score), PROBIT applies to both columns, the other transforms do nothing.
    """
    if post_transform == "LOGISTIC":
        return logistic(np.concatenate([-score, score], axis=1))
    pair = np.concatenate([-score if symmetric else 1 - score, score], axis=1)
    return probit(pair) if post_transform == "PROBIT" else pair
