"""A small convolutional network that can be trained: layers with a forward and a backward step, in NumPy.

Arrays are N, C, H, W as in ONNX. `forward` keeps what `backward` needs; `backward` returns the gradient of its input
and fills `gradients`, in the order of `parameters`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["BatchNorm", "Convolution", "Dense", "Flatten", "Layer", "MaxPool", "Relu", "Sgd", "cross_entropy"]

Array = npt.NDArray[np.float32]


class Layer(ABC):
    """A step of the network; without parameters unless it sets them."""

    training = False

    def __init__(self) -> None:
        self.parameters: list[Array] = []
        self.gradients: list[Array] = []

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """The step's output."""

    @abstractmethod
    def backward(self, gradient: Array) -> Array:
        """The gradient of the step's input, by that of its output."""


class Convolution(Layer):
    """3x3, stride 1, padding 1, no bias: a normalisation follows."""

    def __init__(self, channels_in: int, channels_out: int, random: np.random.Generator) -> None:
        super().__init__()
        scale = np.sqrt(2 / (9 * channels_in))
        weights = random.standard_normal((channels_out, channels_in, 3, 3)) * scale
        self.parameters = [weights.astype(np.float32)]

    def forward(self, x: Array) -> Array:
        self._windows = _windows(x)
        return np.einsum("nchwij,ocij->nohw", self._windows, self.parameters[0], optimize=True)

    def backward(self, gradient: Array) -> Array:
        weights = self.parameters[0]
        self.gradients = [np.einsum("nchwij,nohw->ocij", self._windows, gradient, optimize=True)]
        flipped = weights[:, :, ::-1, ::-1]
        return np.einsum("nohwij,ocij->nchw", _windows(gradient), flipped, optimize=True)


class BatchNorm(Layer):
    """Normalises each channel; running mean and variance are what ONNX's BatchNormalization takes."""

    EPSILON = 1e-5
    MOMENTUM = 0.9

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parameters = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)

    def forward(self, x: Array) -> Array:
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            self.mean = self.MOMENTUM * self.mean + (1 - self.MOMENTUM) * mean
            self.variance = self.MOMENTUM * self.variance + (1 - self.MOMENTUM) * variance
        else:
            mean, variance = self.mean, self.variance
        self._inverse = 1 / np.sqrt(variance + self.EPSILON)
        self._normalised = (x - _channel(mean)) * _channel(self._inverse)
        scale, shift = self.parameters
        return self._normalised * _channel(scale) + _channel(shift)

    def backward(self, gradient: Array) -> Array:
        axes = (0, 2, 3)
        self.gradients = [(gradient * self._normalised).sum(axes), gradient.sum(axes)]
        count = np.float32(gradient.size / gradient.shape[1])
        centred = (
            gradient - _channel(self.gradients[1] / count) - self._normalised * _channel(self.gradients[0] / count)
        )
        return centred * _channel(self.parameters[0] * self._inverse)


class Relu(Layer):
    """max(x, 0)."""

    def forward(self, x: Array) -> Array:
        self._positive = x > 0
        return x * self._positive

    def backward(self, gradient: Array) -> Array:
        return gradient * self._positive


class MaxPool(Layer):
    """2x2, stride 2."""

    def forward(self, x: Array) -> Array:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
        self._winner = blocks.argmax(-1)
        return blocks.max(-1)

    def backward(self, gradient: Array) -> Array:
        n, c, h, w = gradient.shape
        blocks = np.zeros((n, c, h, w, 4), np.float32)
        np.put_along_axis(blocks, self._winner[..., None], gradient[..., None], -1)
        return blocks.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)


class Flatten(Layer):
    """N, C, H, W to N, C*H*W."""

    def forward(self, x: Array) -> Array:
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, gradient: Array) -> Array:
        return gradient.reshape(self._shape)


class Dense(Layer):
    """x W^T + b, weights as Gemm with transB takes them."""

    def __init__(self, inputs: int, outputs: int, random: np.random.Generator) -> None:
        super().__init__()
        weights = random.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)
        self.parameters = [weights.astype(np.float32), np.zeros(outputs, np.float32)]

    def forward(self, x: Array) -> Array:
        self._x = x
        return x @ self.parameters[0].T + self.parameters[1]

    def backward(self, gradient: Array) -> Array:
        self.gradients = [gradient.T @ self._x, gradient.sum(0)]
        return gradient @ self.parameters[0]


class Sgd:
    """Stochastic gradient descent with Nesterov momentum and weight decay."""

    def __init__(self, layers: Sequence[Layer], momentum: float = 0.9, decay: float = 5e-4) -> None:
        self._layers = layers
        self._momentum = momentum
        self._decay = decay
        self._speeds = [[np.zeros_like(parameter) for parameter in layer.parameters] for layer in layers]

    def step(self, rate: float) -> None:
        """Move every parameter against its gradient."""
        for layer, speeds in zip(self._layers, self._speeds, strict=True):
            for parameter, gradient, speed in zip(layer.parameters, layer.gradients, speeds, strict=True):
                decay = self._decay if parameter.ndim > 1 else 0.0
                pull = gradient + decay * parameter
                speed *= self._momentum
                speed += pull
                parameter -= rate * (pull + self._momentum * speed)


def cross_entropy(logits: Array, labels: npt.NDArray[np.int64]) -> tuple[float, Array]:
    """The mean loss of a batch and the gradient of its logits."""
    shifted = logits - logits.max(1, keepdims=True)
    probabilities = np.exp(shifted)
    probabilities /= probabilities.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(-np.log(probabilities[rows, labels] + 1e-12).mean())
    gradient = probabilities.copy()
    gradient[rows, labels] -= 1
    return loss, (gradient / len(labels)).astype(np.float32)


def _windows(x: Array) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows: Array = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows


def _channel(values: Array) -> Array:
    return values[:, None, None]
