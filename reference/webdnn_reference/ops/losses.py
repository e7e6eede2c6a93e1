"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, narrow, widen
from webdnn_reference.ops.activations_softmax import log_softmax_of
from webdnn_reference.registry import op

__all__ = ["negative_log_likelihood_loss", "softmax_cross_entropy_loss"]


def _loss(log_prob: Array, labels: Array, weights: Array | None, ignore_index: int | None, reduction: str) -> Array:
    """-weights[c] * log_prob[n, c, ...] where c is the label; "mean" divides by the sum of the weights used."""
    if labels.shape != (log_prob.shape[0], *log_prob.shape[2:]):
        expected = [log_prob.shape[0], *log_prob.shape[2:]]
        raise ShapeError(f"labels: expected shape {expected}, got {list(labels.shape)}")
    classes = log_prob.shape[1]
    counted = np.ones(labels.shape, np.bool_) if ignore_index is None else labels != ignore_index
    if np.any(counted & ((labels < 0) | (labels >= classes))):
        raise InvalidModelError(f"labels: expected classes in [0, {classes - 1}] or ignore_index, got others")
    chosen = np.where(counted, labels, 0).astype(np.int64)
    used = counted.astype(log_prob.dtype)
    if weights is not None:
        if weights.shape != (classes,):
            raise ShapeError(f"weights: expected shape [{classes}], got {list(weights.shape)}")
        used = used * widen(weights).astype(log_prob.dtype)[chosen]
    picked = np.squeeze(np.take_along_axis(log_prob, chosen[:, None], axis=1), axis=1)
    losses = np.where(counted, -picked * used, 0)
    match reduction:
        case "none":
            return losses
        case "sum":
            return np.asarray(np.sum(losses))
        case "mean":
            return np.asarray(np.sum(losses) / np.sum(used))
        case _:
            raise InvalidModelError(f"reduction: expected none, sum or mean, got {reduction!r}")


@op("NegativeLogLikelihoodLoss", since=(12, 13, 22))
def negative_log_likelihood_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Array:
    """The weighted negative log-probability of each target class.

    input: float log-probabilities [N, C, d1, ..., dk]; target: integer [N, d1, ..., dk]; weight: [C] or absent ->
    the shape of target, or a scalar for reduction "sum" and "mean".   Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html#negativeloglikelihoodloss-22
    """
    if input.ndim < 2:
        raise ShapeError(f"input: expected rank 2 or more, [N, C, ...], got shape {list(input.shape)}")
    return narrow(_loss(widen(input), target, weight, ignore_index, reduction), input)


@op("SoftmaxCrossEntropyLoss", since=(12, 13))
def softmax_cross_entropy_loss(
    scores: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Array, Array]:
    """The weighted negative log-probability of each label, where the probabilities are Softmax(scores) over axis 1.

    scores: float [N, C, D1, ..., Dk]; labels: integer [N, D1, ..., Dk]; weights: [C] or absent -> the loss, in the
    shape of labels or a scalar, and the log-probabilities, in the shape of scores.
    Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html#softmaxcrossentropyloss-13
    """
    if scores.ndim < 2:
        raise ShapeError(f"scores: expected rank 2 or more, [N, C, ...], got shape {list(scores.shape)}")
    log_prob = log_softmax_of(widen(scores), 1)
    return narrow(_loss(log_prob, labels, weights, ignore_index, reduction), scores), narrow(log_prob, scores)
