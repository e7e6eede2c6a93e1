"""Losses, Dropout and the optimizer steps."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference.one_node import run, run_all
from tests.reference.strategies import filled
from webdnn_onnx.errors import InvalidModelError, ShapeError

PREVIEW = "ai.onnx.preview.training"
SCORES = filled((3, 4, 2), np.float64, 1)
LABELS = np.array([[0, 3], [-1, 1], [2, 2]])


def test_ignored_labels_count_neither_in_the_sum_nor_in_the_mean() -> None:
    kept = [(n, d) for n, d in np.ndindex(3, 2) if LABELS[n, d] != -1]
    losses = [-SCORES[n, LABELS[n, d], d] for n, d in kept]
    attributes = {"ignore_index": -1}
    got = run("NegativeLogLikelihoodLoss", SCORES, LABELS, opset=22, reduction="none", **attributes)
    assert got[1, 0] == 0
    np.testing.assert_allclose(got[tuple(np.transpose(kept))], losses)
    got = run("NegativeLogLikelihoodLoss", SCORES, LABELS, opset=22, **attributes)
    np.testing.assert_allclose(got, np.mean(losses))
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    used = [weights[LABELS[place]] for place in kept]
    got = run("NegativeLogLikelihoodLoss", SCORES, LABELS, weights, opset=22, **attributes)
    np.testing.assert_allclose(got, np.dot(losses, used) / np.sum(used))


def test_cross_entropy_of_large_scores_is_finite() -> None:
    scores = np.array([[1000.0, 0.0]], np.float32)
    loss, log_prob = run_all("SoftmaxCrossEntropyLoss", scores, np.array([1]), opset=13, outputs=2)
    assert loss == 1000
    np.testing.assert_array_equal(log_prob, [[0, -1000]])


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(InvalidModelError, match=r"labels: expected classes in \[0, 3\]"):
        run("SoftmaxCrossEntropyLoss", SCORES, LABELS, opset=13)
    with pytest.raises(ShapeError, match=r"labels: expected shape \[3, 2\], got \[3\]"):
        run("SoftmaxCrossEntropyLoss", SCORES, LABELS[:, 0], opset=13)


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_dropout_outside_training_is_the_identity(opset: int) -> None:
    x = filled((3, 4), np.float32, 1)
    y, mask = run_all("Dropout", x, opset=opset, outputs=2)
    np.testing.assert_array_equal(y, x)
    assert mask.dtype == (np.float32 if opset == 7 else np.bool_)
    assert mask.all()


@pytest.mark.parametrize("opset", [1, 6])
def test_dropout_before_7_trains_unless_is_test(opset: int) -> None:
    x = np.ones((50, 50), np.float32)
    assert run("Dropout", x, opset=opset, is_test=1).all()
    y, mask = run_all("Dropout", x, opset=opset, outputs=2, ratio=0.25)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    np.testing.assert_array_equal(mask, y != 0)
    assert abs(mask.mean() - 0.75) < 0.05


def test_dropout_in_training_is_reproducible_by_its_seed() -> None:
    x = np.ones((8, 8), np.float32)
    inputs = (x, np.float32(0.5), np.array(True))
    first, second = (run("Dropout", *inputs, opset=13, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(run("Dropout", x, np.float32(0), np.array(True), opset=13), x)
    with pytest.raises(InvalidModelError, match="ratio: expected one in"):
        run("Dropout", x, np.float32(1), np.array(True), opset=13)


def test_adagrad_of_two_tensors() -> None:
    tensors = [filled((2,), np.float32, 1), filled((3,), np.float32, 2)]
    gradients = [filled((2,), np.float32, 3), filled((3,), np.float32, 4)]
    squares = [np.ones(2, np.float32), np.ones(3, np.float32)]
    outputs = run_all(
        "Adagrad", np.float32(0.1), np.int64(4), *tensors, *gradients, *squares,
        opset=1, outputs=4, domain=PREVIEW, decay_factor=0.5, norm_coefficient=0.25,
    )  # fmt: skip
    for index in range(2):
        x, g = tensors[index].astype(np.float64), gradients[index].astype(np.float64)
        g = 0.25 * x + g
        h = 1 + g * g
        np.testing.assert_allclose(outputs[index], x - 0.1 / 3 * g / (np.sqrt(h) + 1e-6), rtol=1e-5)
        np.testing.assert_allclose(outputs[index + 2], h, rtol=1e-5)
        assert outputs[index].dtype == np.float32


@pytest.mark.parametrize("count", [0, 3])
def test_adam(count: int) -> None:
    x, g, v, h = (filled((3,), np.float64, seed) for seed in range(4))
    h = np.abs(h)
    outputs = run_all(
        "Adam", np.array(0.1), np.array(count), x, g, v, h, opset=1, outputs=3, domain=PREVIEW,
        alpha=0.75, beta=0.5, norm_coefficient=0.25, norm_coefficient_post=0.125,
    )  # fmt: skip
    g = 0.25 * x + g
    v, h = 0.75 * v + 0.25 * g, 0.5 * h + 0.5 * g * g
    rate = 0.1 * np.sqrt(1 - 0.5**count) / (1 - 0.75**count) if count else 0.1
    np.testing.assert_allclose(outputs[0], 0.875 * (x - rate * v / (np.sqrt(h) + np.float32(1e-6))), rtol=1e-9)
    np.testing.assert_allclose(outputs[1], v)
    np.testing.assert_allclose(outputs[2], h)


@pytest.mark.parametrize("mode", ["standard", "nesterov"])
@pytest.mark.parametrize("count", [0, 1])
def test_momentum(mode: str, count: int) -> None:
    x, g, v = (filled((3,), np.float64, seed) for seed in range(3))
    outputs = run_all(
        "Momentum", np.array(0.1), np.array(count), x, g, v, opset=1, outputs=2, domain=PREVIEW,
        alpha=0.75, beta=0.5, norm_coefficient=0.25, mode=mode,
    )  # fmt: skip
    g = 0.25 * x + g
    velocity = 0.75 * v + (0.5 if count else 1) * g
    direction = g + 0.75 * velocity if mode == "nesterov" else velocity
    np.testing.assert_allclose(outputs[0], x - 0.1 * direction)
    np.testing.assert_allclose(outputs[1], velocity)


def test_momentum_of_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="mode: expected standard or nesterov"):
        run(
            "Momentum", np.array(0.1), np.array(0), np.ones(1), np.ones(1), np.ones(1), opset=1, domain=PREVIEW,
            alpha=0.5, beta=0.5, norm_coefficient=0.0, mode="fast",
        )  # fmt: skip
