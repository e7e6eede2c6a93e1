"""Mixtures of experts of com.microsoft: MoE and QMoE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError, UnsupportedOpError
from webdnn_reference.numeric import Array, narrow, widen
from webdnn_reference.ops.activations import gelu, logistic
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.contrib_blocks import dequantized_blocks, unpacked
from webdnn_reference.registry import op

__all__ = ["moe", "q_moe"]


@dataclass(frozen=True)
class _Activation:
    """What lies between the two layers of an expert."""

    kind: str
    alpha: float
    beta: float
    limit: float | None
    fusion: int
    limit_after: int

    def __call__(self, first: Array, third: Array | None) -> Array:
        """first: outputs of the first layer, [tokens, inter] or, fused, [tokens, 2 inter]; third: of the third."""
        if self.kind in ("swiglu", "geglu"):
            gate, linear = self._halves(first, third)
            if self.kind == "geglu":
                return gelu(gate, approximate="tanh") * linear
            return self._swiglu(gate, linear)
        functions: dict[str, Callable[[Array], Array]] = {
            "relu": lambda x: np.maximum(x, 0),
            "relu2": lambda x: np.square(np.maximum(x, 0)),
            "gelu": lambda x: gelu(x, approximate="tanh"),
            "silu": lambda x: np.asarray(x * logistic(x)),
            "identity": lambda x: x,
        }
        if self.kind not in functions:
            raise InvalidModelError(f"activation_type: expected a known one, got {self.kind!r}")
        if third is not None and third.shape != first.shape:
            raise ShapeError(f"fc3_experts_weights: expected {first.shape[1]} rows as fc1, got {third.shape[1]}")
        y = functions[self.kind](first)
        return y if third is None else y * third

    def _halves(self, first: Array, third: Array | None) -> tuple[Array, Array]:
        if self.fusion and first.shape[1] % 2:
            raise ShapeError(
                f"fc1_experts_weights: expected an even number of rows for two layers, got {first.shape[1]}"
            )
        if self.fusion == 1:
            return first[:, 0::2], first[:, 1::2]
        if self.fusion == 2:
            gate, linear = np.split(first, 2, axis=1)
            return gate, linear
        if third is None:
            raise InvalidModelError(f"fc3_experts_weights: expected them for unfused {self.kind}, got none")
        return first, third

    def _swiglu(self, gate: Array, linear: Array) -> Array:
        alpha, beta = gate.dtype.type(self.alpha), gate.dtype.type(self.beta)
        if self.limit is not None:
            limit = gate.dtype.type(self.limit)
            linear = np.clip(linear, -limit, limit)
            if self.limit_after:
                return np.asarray(np.minimum(gate * logistic(alpha * gate), limit) * (linear + beta))
            gate = np.minimum(gate, limit)
        return np.asarray(gate * logistic(alpha * gate) * (linear + beta))


def _mixed(
    x: Array,
    router: Array,
    router_weights: Array | None,
    k: int,
    normalize: int,
    expert: Callable[[int, Array], Array],
) -> Array:
    """The outputs of each token's best k experts, weighted by the softmax of the router's logits.

    x: [tokens, hidden], router: logits [tokens, experts]; router_weights: the weights to use instead of the softmax.
    Of equal logits the first expert is taken.
    """
    if router.shape[0] != len(x) or not 1 <= k <= router.shape[1]:
        raise ShapeError(f"router_probs: expected [{len(x)}, at least {k} experts], got shape {list(router.shape)}")
    exponentials = np.exp(router - router.max(axis=1, keepdims=True))
    weights = exponentials / exponentials.sum(axis=1, keepdims=True)
    if router_weights is not None:
        weights = widen(router_weights).astype(x.dtype)
    chosen = np.argsort(-router, axis=1, kind="stable")[:, :k]
    shares = np.take_along_axis(weights, chosen, axis=1)
    if normalize:
        total = shares.sum(axis=1, keepdims=True)
        shares = shares / np.where(total == 0, 1, total)
    y = np.zeros_like(x)
    for index in np.unique(chosen):
        token, rank = np.nonzero(chosen == index)
        y[token] += shares[token, rank, None] * expert(int(index), x[token])
    return y


@op("MoE", 1, domain=MS)
def moe(
    input: Array,
    router_probs: Array,
    fc1_experts_weights: Array,
    fc1_experts_bias: Array | None,
    fc2_experts_weights: Array,
    fc2_experts_bias: Array | None = None,
    fc3_experts_weights: Array | None = None,
    fc3_experts_bias: Array | None = None,
    *,
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    activation_type: str = "relu",
    k: int = 1,
    normalize_routing_weights: int = 0,
    swiglu_fusion: int = 0,
    swiglu_limit: float | None = None,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
) -> Array:
    """For each token the outputs of its best k experts, two-layer networks, weighted by a softmax over all experts.

    input: float[tokens, H] or [B, S, H]; router_probs: logits [tokens, E]; fc1: [E, I or 2 I, H], fc2: [E, H, I],
    fc3: [E, I, H] -> shape and dtype of input. Raises ShapeError, InvalidModelError, UnsupportedOpError for the sparse
    mixer.
    """
    if use_sparse_mixer:
        raise UnsupportedOpError("use_sparse_mixer: expected 0, got 1")
    activation = _Activation(
        activation_type, activation_alpha, activation_beta, swiglu_limit, swiglu_fusion, swiglu_limit_after_activation
    )
    x = widen(input).reshape(-1, input.shape[-1])

    def expert(index: int, tokens: Array) -> Array:
        def layer(data: Array, weights: Array, bias: Array | None) -> Array:
            if weights.shape[2] != data.shape[1]:
                raise ShapeError(f"experts' weights: expected rows of {data.shape[1]}, got shape {list(weights.shape)}")
            y = data @ widen(weights[index]).T
            return y if bias is None else y + widen(bias[index])

        third = None if fc3_experts_weights is None else layer(tokens, fc3_experts_weights, fc3_experts_bias)
        hidden = activation(layer(tokens, fc1_experts_weights, fc1_experts_bias), third)
        return layer(hidden, fc2_experts_weights, fc2_experts_bias)

    y = _mixed(x, widen(router_probs), None, k, normalize_routing_weights, expert)
    return narrow(y.reshape(input.shape), input)


@op("QMoE", 1, domain=MS)
def q_moe(
    input: Array,
    router_probs: Array,
    fc1_experts_weights: Array,
    fc1_scales: Array | None,
    fc1_experts_bias: Array | None,
    fc2_experts_weights: Array,
    fc2_scales: Array | None,
    fc2_experts_bias: Array | None = None,
    fc3_experts_weights: Array | None = None,
    fc3_scales: Array | None = None,
    fc3_experts_bias: Array | None = None,
    fc1_zero_points: Array | None = None,
    fc2_zero_points: Array | None = None,
    fc3_zero_points: Array | None = None,
    router_weights: Array | None = None,
    *,
    accuracy_level: int = 0,  # noqa: ARG001 - a least accuracy, which this exceeds
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    activation_type: str = "relu",
    block_size: int = 0,
    expert_weight_bits: int = 4,
    fc1_expert_weight_bits: int = 0,
    fc2_expert_weight_bits: int = 0,
    fc3_expert_weight_bits: int = 0,
    k: int = 1,
    normalize_routing_weights: int = 0,
    quant_type: str = "int",
    swiglu_fusion: int = 0,
    swiglu_limit: float | None = None,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
    weights_prepacked: int = -1,  # noqa: ARG001 - the raw layout is the only one
) -> Array:
    """MoE with integer weights: [E, N, K * bits / 8], packed along K, low-order bits first.

    scales: [E, N], or [E, N, K / block_size] with block_size; zero points: packed alike, [E, N * bits / 8] or
    [E, N, blocks * bits / 8]; absent, the middle of the range; router_weights: [tokens, E], used in place of the
    softmax once the experts are chosen. Raises ShapeError, InvalidModelError, UnsupportedOpError.
    """
    if use_sparse_mixer or quant_type != "int":
        raise UnsupportedOpError(f"expected quant_type int without sparse mixer, got {quant_type!r}")
    if block_size < 0:
        raise InvalidModelError(f"block_size: expected a positive number, or 0 for one block, got {block_size}")
    activation = _Activation(
        activation_type, activation_alpha, activation_beta, swiglu_limit, swiglu_fusion, swiglu_limit_after_activation
    )
    x = widen(input).reshape(-1, input.shape[-1])

    def expert(index: int, tokens: Array) -> Array:
        def layer(
            name: str,
            data: Array,
            weights: Array,
            scales: Array | None,
            zero: Array | None,
            bias: Array | None,
            bits: int,
        ) -> Array:
            if scales is None:
                raise InvalidModelError(f"{name}_scales: expected them for integer weights, got none")
            _check_blocks(name, weights, scales, zero, bits, -(-data.shape[1] // block_size) if block_size else 1)
            factors = widen(scales[index]).astype(x.dtype)
            points = None if zero is None else zero[index]
            length = data.shape[1]
            if factors.ndim == 1:
                factors = factors[:, None]
                if points is not None:
                    points = unpacked(points, bits)[: len(factors), None].astype(x.dtype)
            block = block_size if block_size and factors.shape[1] > 1 else length
            y = data @ dequantized_blocks(weights[index], factors, points, bits, block, length).T
            return y if bias is None else y + widen(bias[index])

        third = None
        if fc3_experts_weights is not None:
            bits = fc3_expert_weight_bits or expert_weight_bits
            third = layer("fc3", tokens, fc3_experts_weights, fc3_scales, fc3_zero_points, fc3_experts_bias, bits)
        bits = fc1_expert_weight_bits or expert_weight_bits
        first = layer("fc1", tokens, fc1_experts_weights, fc1_scales, fc1_zero_points, fc1_experts_bias, bits)
        bits = fc2_expert_weight_bits or expert_weight_bits
        hidden = activation(first, third)
        return layer("fc2", hidden, fc2_experts_weights, fc2_scales, fc2_zero_points, fc2_experts_bias, bits)

    y = _mixed(x, widen(router_probs), router_weights, k, normalize_routing_weights, expert)
    return narrow(y.reshape(input.shape), input)


def _check_blocks(name: str, weights: Array, scales: Array, zero_points: Array | None, bits: int, blocks: int) -> None:
    """Raises ShapeError unless every block of a row has its scale and, where there are zero points, its zero point."""
    experts, rows = weights.shape[:2]
    if scales.shape != (experts, rows, blocks) and (blocks != 1 or scales.shape != (experts, rows)):
        expected = f"{[experts, rows, blocks]}{f' or {[experts, rows]}' if blocks == 1 else ''}"
        raise ShapeError(f"{name}_scales: expected shape {expected}, got {list(scales.shape)}")
    if zero_points is not None:
        points = (*scales.shape[:-1], -(-scales.shape[-1] * bits // 8))
        if zero_points.shape != points:
            raise ShapeError(f"{name}_zero_points: expected shape {list(points)}, got {list(zero_points.shape)}")
