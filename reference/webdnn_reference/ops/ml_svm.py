"""Support vector machines of ai.onnx.ml."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array
from webdnn_reference.ops.activations import logistic
from webdnn_reference.ops.ml_common import (
    DOMAIN,
    as_float_output,
    class_labels,
    features,
    post_transformed,
    probit,
    squared_distances,
    with_second_class,
)
from webdnn_reference.registry import Context, op

__all__ = ["svm_classifier", "svm_regressor"]


@op("SVMRegressor", 1, domain=DOMAIN)
def svm_regressor(
    X: Array,
    *,
    coefficients: Sequence[float] = (),
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    n_supports: int = 0,
    one_class: int = 0,
    post_transform: str = "NONE",
    rho: Sequence[float] = (),
    support_vectors: Sequence[float] = (),
    context: Context,
) -> Array:
    """A sum of kernels between the features and the support vectors; without those, a linear function.

    X: numbers[N, F] -> float32[N, 1]. one_class gives 1 where the sum is positive, else -1.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_SVMRegressor.html#svmregressor-1
    """
    rows = features(X)
    weights = np.array(coefficients, np.float32).astype(rows.dtype)
    offset = _offsets(rho, rows)[:1]
    if n_supports:
        vectors = _support_vectors(support_vectors, n_supports, rows)
        _expect_length("coefficients", weights, n_supports)
        scores = _kernel(rows, vectors, kernel_type, kernel_params) @ weights
    else:
        _expect_length("coefficients", weights, rows.shape[1])
        scores = rows @ weights
    scores = (scores + offset).reshape(-1, 1)
    if one_class:
        scores = np.where(scores > 0, 1, -1).astype(rows.dtype)
    return as_float_output(probit(scores) if post_transform == "PROBIT" else scores, context)


@op("SVMClassifier", 1, domain=DOMAIN)
def svm_classifier(
    X: Array,
    *,
    classlabels_ints: Sequence[int] = (),
    classlabels_strings: Sequence[str] = (),
    coefficients: Sequence[float] = (),
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    post_transform: str = "NONE",
    prob_a: Sequence[float] = (),
    prob_b: Sequence[float] = (),
    rho: Sequence[float] = (),
    support_vectors: Sequence[float] = (),
    vectors_per_class: Sequence[int] = (),
    context: Context,
) -> tuple[Array, Array]:
    """The class that wins most comparisons of two classes, and scores.

    X: numbers[N, F] -> Y: int64 or string[N]; Z: float32[N, classes], probabilities where prob_a and prob_b are
    given; without them Z has one column for each pair of classes, two for two classes. Without support vectors the
    model is linear, with one score for each class.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html#svmclassifier-1
    """
    labels = class_labels(classlabels_ints, classlabels_strings)
    rows = features(X)
    classes = len(labels)
    if classes == 1 and any(vectors_per_class):
        raise InvalidModelError("class labels: expected two or more beside support vectors, got one")
    weights = np.array(coefficients, np.float32).astype(rows.dtype)
    offsets = _offsets(rho, rows)
    if not sum(vectors_per_class):
        _expect_length("coefficients", weights, classes * rows.shape[1])
        scores = rows @ weights.reshape(classes, rows.shape[1]).T + offsets[:1]
        chosen = scores.argmax(axis=1)
        if classes == 2:
            greatest = scores.max(axis=1)
            threshold = greatest >= 0.5 if (weights >= 0).all() else greatest > 0
            chosen = np.where(threshold & (len(prob_a) == 0), 1, chosen)
        return labels[chosen], as_float_output(post_transformed(scores, post_transform), context)
    if len(vectors_per_class) != classes:
        raise ShapeError(f"vectors_per_class: expected {classes} values, got {len(vectors_per_class)}")
    vectors = _support_vectors(support_vectors, sum(vectors_per_class), rows)
    _expect_length("coefficients", weights, (classes - 1) * len(vectors))
    kernels = _kernel(rows, vectors, kernel_type, kernel_params)
    pairwise, votes = _pairwise(kernels, weights.reshape(-1, len(vectors)), offsets, vectors_per_class)
    if len(prob_a):
        a, b = (np.array(values, np.float32).astype(rows.dtype) for values in (prob_a, prob_b))
        scores = _coupled(logistic(-(pairwise * a + b)), classes)
        z = post_transformed(scores, post_transform)
    elif classes == 2:
        z = with_second_class(pairwise, post_transform, symmetric=post_transform == "NONE")
    else:
        z = post_transformed(pairwise, post_transform)
    return labels[votes.argmax(axis=1)], as_float_output(z, context)


def _offsets(rho: Sequence[float], rows: Array) -> Array:
    if not rho:
        raise InvalidModelError("rho: expected a value or more, got none")
    return np.array(rho, np.float32).astype(rows.dtype)


def _support_vectors(values: Sequence[float], count: int, rows: Array) -> Array:
    """The support vectors [count, F]. Raises ShapeError."""
    vectors = np.array(values, np.float32).astype(rows.dtype)
    if count < 0 or vectors.size != count * rows.shape[1]:
        raise ShapeError(
            f"support_vectors: expected {count} vectors of {rows.shape[1]} features, got {vectors.size} values"
        )
    return vectors.reshape(count, rows.shape[1])


def _expect_length(name: str, values: Array, count: int) -> None:
    if values.size != count:
        raise ShapeError(f"{name}: expected {count} values, got {values.size}")


def _kernel(rows: Array, vectors: Array, kernel_type: str, kernel_params: Sequence[float]) -> Array:
    """The kernel of every row with every vector, [N, vectors]."""
    given = (*kernel_params, 0.0, 0.0, 0.0)[:3] if kernel_params else (0.0, 0.0, 0.0)
    gamma, coef0, degree = (rows.dtype.type(np.float32(value)) for value in given)
    products = rows @ vectors.T
    match kernel_type:
        case "LINEAR":
            return np.asarray(products)
        case "POLY":
            return np.asarray((gamma * products + coef0) ** degree)
        case "SIGMOID":
            return np.asarray(np.tanh(gamma * products + coef0))
        case "RBF":
            return np.asarray(np.exp(-gamma * squared_distances(rows, vectors)))
    raise InvalidModelError(f"kernel_type: expected LINEAR, POLY, RBF or SIGMOID, got {kernel_type!r}")


def _pairwise(kernels: Array, weights: Array, rho: Array, vectors_per_class: Sequence[int]) -> tuple[Array, Array]:
    """For each pair of classes the score of the first, [N, pairs]; and how many pairs each class wins.

    weights: [classes - 1, vectors]; the row of a class among the others leaves itself out.
    """
    ends = np.cumsum(vectors_per_class)
    parts = [slice(int(end - count), int(end)) for end, count in zip(ends, vectors_per_class, strict=True)]
    votes = np.zeros((len(kernels), len(parts)), np.int64)
    scores = []
    for index, (i, j) in enumerate(itertools.combinations(range(len(parts)), 2)):
        score = kernels[:, parts[i]] @ weights[j - 1, parts[i]] + kernels[:, parts[j]] @ weights[i, parts[j]]
        score = score + rho[index]
        votes[:, i] += score > 0
        votes[:, j] += score <= 0
        scores.append(score)
    return np.stack(scores, axis=1), votes


def _coupled(pairwise: Array, classes: int) -> Array:
    """Class probabilities [N, classes] from those of each pair's first class, by pairwise coupling.

    The second method of Wu, Lin and Weng (2004), with the iteration and stopping rule of libsvm.
    """
    count = len(pairwise)
    r = np.zeros((count, classes, classes), pairwise.dtype)
    bounded = np.clip(pairwise, 1e-7, 1 - 1e-7)
    for index, (i, j) in enumerate(itertools.combinations(range(classes), 2)):
        r[:, i, j], r[:, j, i] = bounded[:, index], 1 - bounded[:, index]
    q = -np.swapaxes(r, 1, 2) * r
    diagonal = np.arange(classes)
    q[:, diagonal, diagonal] = (r * r).sum(axis=1)
    p = np.full((count, classes), 1 / classes, pairwise.dtype)
    active = np.arange(count)
    for _ in range(100):
        products = np.einsum("nij,nj->ni", q[active], p[active])
        value = (p[active] * products).sum(axis=1)
        going = np.abs(products - value[:, None]).max(axis=1, initial=0) >= 0.005 / classes
        active, products, value = active[going], products[going], value[going]
        if not len(active):
            break
        for i in range(classes):
            pivot = q[active, i, i]
            step = (value - products[:, i]) / pivot
            scale = 1 + step
            value = (value + step * (step * pivot + 2 * products[:, i])) / (scale * scale)
            products = (products + step[:, None] * q[active, i]) / scale[:, None]
            p[active, i] += step
            p[active] /= scale[:, None]
    return p
