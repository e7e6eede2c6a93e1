"""Training statistics, statistics of each place, groups, losses and pooling: what the node suite leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.lower.one_node import agree, f32


def statistics(*shape: int) -> list[np.ndarray]:
    return [f32(*shape, seed=1), f32(*shape, seed=2), f32(*shape, seed=3), np.abs(f32(*shape, seed=4))]


@pytest.mark.parametrize(("opset", "outputs"), [(6, 5), (7, 5), (9, 5), (14, 3), (15, 3)])
def test_training_gives_running_statistics(opset: int, outputs: int) -> None:
    attributes = {"training_mode": 1} if opset >= 14 else {}
    agree("BatchNormalization", [f32(2, 3, 2, 2), *statistics(3)], attributes, opset=opset, outputs=outputs)


@pytest.mark.parametrize("outputs", [1, 5])
def test_each_place_of_the_image_has_statistics_of_its_own(outputs: int) -> None:
    inputs = [f32(3, 2, 2, 2), *statistics(2, 2, 2)]
    agree("BatchNormalization", inputs, {"spatial": 0}, opset=7, outputs=outputs)


@pytest.mark.parametrize(("opset", "size"), [(18, 2), (21, 4)])
def test_groups_of_channels(opset: int, size: int) -> None:
    inputs = [f32(2, 4, 3), f32(size, seed=1), f32(size, seed=2)]
    agree("GroupNormalization", inputs, {"num_groups": 2}, opset=opset)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("ignored", [None, 1, -5])
def test_losses_leave_out_ignored_labels(ignored: int | None, reduction: str) -> None:
    labels = np.array([[0, 1], [2, 1 if ignored != -5 else -5]], np.int64)
    attributes = {"reduction": reduction} | ({} if ignored is None else {"ignore_index": ignored})
    agree("SoftmaxCrossEntropyLoss", [f32(2, 3, 2), labels, np.abs(f32(3, seed=1))], attributes, opset=13, outputs=2)


@pytest.mark.parametrize("order", [0, 1])
def test_places_of_maxima(order: int) -> None:
    x = np.round(f32(1, 2, 4, 5))
    attributes = {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [0, 1, 0, 1], "storage_order": order}
    agree("MaxPool", [x], attributes, outputs=2)


@pytest.mark.parametrize(("p", "opset"), [(1, 11), (2, 18), (3, 22)])
def test_norms_of_windows(p: int, opset: int) -> None:
    agree("LpPool", [f32(1, 2, 5)], {"kernel_shape": [3], "p": p, "pads": [1, 1]}, opset=opset)
    agree("GlobalLpPool", [f32(1, 2, 3, 2)], {"p": p}, opset=opset)
