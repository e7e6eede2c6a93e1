"""Losses and optimisers."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_onnx.graph import Shape, Type
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import rule, shape_rule

__all__: list[str] = []


@shape_rule("NegativeLogLikelihoodLoss")
def negative_log_likelihood(call: Call) -> list[Shape]:
    """The target's shape, or a scalar once reduced."""
    return [call.shape(1) if call.text("reduction", "mean") == "none" else ()]


@shape_rule("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(call: Call) -> list[Shape]:
    """As NegativeLogLikelihoodLoss, and the logarithms of the probabilities in the scores' shape."""
    loss: Shape = call.shape(1) if call.text("reduction", "mean") == "none" else ()
    return [loss, call.shape(0)]


_TRAINING = "ai.onnx.preview.training"


@rule(("Adagrad", "Adam", "Momentum"), domain=_TRAINING)
def optimizer(call: Call) -> Sequence[Type | None]:
    """New tensors, then new states, in the order of the inputs, which hold the gradients between them."""
    states = {"Adagrad": 1, "Adam": 2, "Momentum": 1}[call.node.op]
    tensors = (call.count - 2) // (2 + states)
    kept = [*range(tensors), *range(2 * tensors, (2 + states) * tensors)]
    return [call.type(2 + index) for index in kept]


@rule("Gradient", domain=_TRAINING)
def gradient(call: Call) -> Sequence[Type | None]:
    """A derivative has the type of the tensor it is taken by."""
    return [call.type(index) for index in range(min(call.count, len(call.node.outputs)))]
