"""Trains the network of this example on scikit-learn's digits and writes it as digits.onnx.

    python examples/digits/train.py

Training is seeded; two minutes on one core. The images are 8x8, the counts of ink in 4x4 blocks of a 32x32 bitmap that
the digit fills; the page turns what is drawn into the same form.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from network import BatchNorm, Convolution, Dense, Flatten, Layer, MaxPool, Relu, Sgd, cross_entropy
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["digits"]

SEED = 5
EPOCHS = 160
BATCH = 64
RATE = 0.04
OPSET = 17

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def digits() -> tuple[Images, Labels, Images, Labels]:
    """Images for training (N, 1, 8, 8; 0 to 1) and their labels, then those held out for testing."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]
    train, test, train_labels, test_labels = train_test_split(
        images, data.target.astype(np.int64), test_size=360, random_state=SEED, stratify=data.target
    )
    return train, train_labels, test, test_labels


def augment(images: Images, random: np.random.Generator) -> Images:
    """The images, each rotated, sheared, scaled, shifted and bent, and with a lighter or heavier stroke."""
    rows, columns = np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij")
    grid = np.stack([rows, columns]) - 3.5
    result = np.empty_like(images)
    for index, image in enumerate(images[:, 0]):
        angle, shear = np.deg2rad(random.uniform(-15, 15)), random.uniform(-0.25, 0.25)
        rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = rotate @ np.array([[1, 0], [shear, 1]]) @ np.diag(1 / random.uniform(0.85, 1.12, 2))
        bend = ndimage.gaussian_filter(random.standard_normal((2, 8, 8)), (0, 2, 2)) * random.uniform(0, 3.5)
        places = np.einsum("ij,jhw->ihw", matrix, grid + random.uniform(-0.7, 0.7, (2, 1, 1))) + 3.5 + bend
        moved = ndimage.map_coordinates(image, places, order=1)
        result[index, 0] = np.clip(moved * random.uniform(0.75, 1.35), 0, 1) ** random.uniform(0.5, 1.6)
    return result


def build(random: np.random.Generator) -> list[Layer]:
    """The network, its weights drawn at random."""
    return [
        *(Convolution(1, 16, random), BatchNorm(16), Relu()),
        *(Convolution(16, 24, random), BatchNorm(24), Relu(), MaxPool()),
        *(Convolution(24, 32, random), BatchNorm(32), Relu(), MaxPool()),
        *(Flatten(), Dense(128, 32, random), Relu(), Dense(32, 10, random)),
    ]


def forward(layers: list[Layer], x: Images, training: bool = False) -> Images:
    """The logits of a batch."""
    for layer in layers:
        layer.training = training
        x = layer.forward(x)
    return x


def train(layers: list[Layer], images: Images, labels: Labels, random: np.random.Generator) -> None:
    """Fit the layers; the learning rate falls along a cosine."""
    optimiser = Sgd(layers)
    for epoch in range(EPOCHS):
        order = random.permutation(len(images))
        rate = RATE * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        losses = []
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            logits = forward(layers, augment(images[batch], random), training=True)
            loss, gradient = cross_entropy(logits, labels[batch])
            losses.append(loss)
            for layer in reversed(layers):
                gradient = layer.backward(gradient)
            optimiser.step(rate)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3}: loss {np.mean(losses):.4f}")


def accuracy(layers: list[Layer], images: Images, labels: Labels) -> float:
    """The share of images that get their label."""
    return float(np.mean(forward(layers, images).argmax(1) == labels))


def export(layers: list[Layer]) -> onnx.ModelProto:
    """The trained network as ONNX: one image in, ten probabilities out."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    current = "image"

    def add(op: str, name: str, inputs: dict[str, npt.NDArray[np.float32]], **attributes: object) -> None:
        nonlocal current
        names = []
        for suffix, array in inputs.items():
            names.append(f"{name}.{suffix}")
            constants.append(numpy_helper.from_array(array.astype(np.float32), names[-1]))
        nodes.append(helper.make_node(op, [current, *names], [name], name=name, **attributes))
        current = name

    counts: dict[str, int] = {}
    for layer in layers:
        kind = type(layer).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{kind}{counts[kind]}"
        match layer:
            case Convolution():
                add("Conv", name, {"weight": layer.parameters[0]}, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            case BatchNorm():
                scale, shift = layer.parameters
                statistics = {"scale": scale, "shift": shift, "mean": layer.mean, "variance": layer.variance}
                add("BatchNormalization", name, statistics, epsilon=layer.EPSILON)
            case Relu():
                add("Relu", name, {})
            case MaxPool():
                add("MaxPool", name, {}, kernel_shape=[2, 2], strides=[2, 2])
            case Flatten():
                add("Flatten", name, {})
            case Dense():
                add("Gemm", name, {"weight": layer.parameters[0], "bias": layer.parameters[1]}, transB=1)
    nodes.append(helper.make_node("Softmax", [current], ["probabilities"], name="softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="webdnn-onnx")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, say how good it is, write digits.onnx beside this file."""
    images, labels, test_images, test_labels = digits()
    random = np.random.default_rng(SEED)
    layers = build(random)
    train(layers, images, labels, random)
    held_out = accuracy(layers, test_images, test_labels)
    print(f"accuracy: {accuracy(layers, images, labels):.2%} in training, {held_out:.2%} held out")
    path = Path(__file__).with_name("digits.onnx")
    onnx.save(export(layers), path)
    print(f"{path.name}: {path.stat().st_size / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
