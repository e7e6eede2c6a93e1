"""Normalizations of com.microsoft: with residual sums, embeddings, gates and groups.

Statistics are computed in float32, or float64 where the input is.
"""

from __future__ import annotations

import math

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, average, narrow, single, unidirectional, widen
from webdnn_reference.ops.activations import logistic
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.quantization import dequantize_linear_10
from webdnn_reference.registry import Context, op

__all__ = [
    "branchwise_rms_norm",
    "embed_layer_normalization",
    "gated_rms_norm",
    "group_norm",
    "q_embed_layer_normalization",
    "skip_group_norm",
    "skip_layer_normalization",
    "skip_simplified_layer_normalization",
]

_EPSILON = single(1e-12)


def _layer_normalized(x: Array, gamma: Array, beta: Array | None, epsilon: float) -> tuple[Array, Array, Array]:
    mean = average(x, axis=-1, keepdims=True)
    centred = x - mean
    inverse = 1 / np.sqrt(average(np.square(centred), axis=-1, keepdims=True) + x.dtype.type(epsilon))
    y = centred * inverse * widen(gamma)
    return y if beta is None else y + widen(beta), mean, inverse


def _residual(input: Array, skip: Array, bias: Array | None) -> Array:
    total = widen(input) + widen(unidirectional(skip, input.shape, "skip"))
    return total if bias is None else total + widen(bias)


@op("SkipLayerNormalization", 1, domain=MS)
def skip_layer_normalization(
    input: Array,
    skip: Array,
    gamma: Array,
    beta: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float = _EPSILON,
    context: Context,
) -> tuple[Array, Array, Array, Array]:
    """Layer normalization of input + skip + bias.

    input: float[B, S, H], skip: [B, S, H], [1, S, H] or [S, H]; gamma, beta, bias: [H] -> output: dtype of input;
    mean, inv_std_var: float32[B, S, 1]; input_skip_bias_sum: dtype of input.
    """
    total = _residual(input, skip, bias)
    y, mean, inverse = _layer_normalized(total, gamma, beta, epsilon)
    stash = np.float64 if context.float64 else np.float32
    return narrow(y, input), mean.astype(stash), inverse.astype(stash), narrow(total, input)


@op("SkipSimplifiedLayerNormalization", 1, domain=MS)
def skip_simplified_layer_normalization(
    input: Array,
    skip: Array,
    gamma: Array,
    bias: Array | None = None,
    *,
    epsilon: float = _EPSILON,
    context: Context,
) -> tuple[Array, Array, Array, Array]:
    """Root-mean-square normalization of input + skip + bias; shapes and outputs as SkipLayerNormalization.

    The mean, which is not subtracted, is given as zero.
    """
    total = _residual(input, skip, bias)
    inverse = 1 / np.sqrt(average(np.square(total), axis=-1, keepdims=True) + total.dtype.type(epsilon))
    stash = np.float64 if context.float64 else np.float32
    y = narrow(total * inverse * widen(gamma), input)
    return y, np.zeros(inverse.shape, stash), inverse.astype(stash), narrow(total, input)


@op("EmbedLayerNormalization", 1, domain=MS)
def embed_layer_normalization(
    input_ids: Array,
    segment_ids: Array | None,
    word_embedding: Array,
    position_embedding: Array,
    segment_embedding: Array | None,
    gamma: Array,
    beta: Array,
    mask: Array | None = None,
    position_ids: Array | None = None,
    *,
    epsilon: float = _EPSILON,
    mask_index_type: int = 1,  # noqa: ARG001 - says whether mask_index is wanted
) -> tuple[Array, Array, Array]:
    """Layer normalization of the sum of word, position and segment embeddings.

    input_ids, segment_ids, mask: int32[B, S]; position_ids: int32[B or 1, S]; tables: float[*, H]
    -> output: float[B, S, H]; mask_index: int32[B], how many of the mask's elements are 1; embedding_sum.
    """
    batch, sequence = input_ids.shape
    positions = np.arange(sequence)[None] if position_ids is None else position_ids
    rows = [("input_ids", input_ids, word_embedding), ("position_ids", positions, position_embedding)]
    if segment_embedding is not None and segment_ids is not None:
        rows.append(("segment_ids", segment_ids, segment_embedding))
    for what, ids, table in rows:
        if ids.size and not 0 <= ids.min() <= ids.max() < len(table):
            raise ShapeError(f"{what}: expected rows 0..{len(table) - 1} of a table, got {ids.min()}..{ids.max()}")
    total = widen(word_embedding[input_ids]) + widen(position_embedding[positions])
    if segment_embedding is not None and segment_ids is not None:
        total = total + widen(segment_embedding[segment_ids])
    y, _, _ = _layer_normalized(total, gamma, beta, epsilon)
    return narrow(y, gamma), _mask_index(mask, batch), narrow(total, gamma)


def _mask_index(mask: Array | None, batch: int) -> Array:
    if mask is None:
        return np.zeros(batch, np.int32)
    return np.asarray((mask == 1).sum(axis=1), np.int32)


@op("QEmbedLayerNormalization", 1, domain=MS)
def q_embed_layer_normalization(
    input_ids: Array,
    segment_ids: Array | None,
    word_embedding_quant: Array,
    position_embedding_quant: Array,
    segment_embedding: Array | None,
    gamma_quant: Array,
    beta_quant: Array,
    mask: Array | None,
    word_embedding_scale: Array,
    position_embedding_scale: Array,
    segment_embedding_scale: Array | None,
    gamma_scale: Array,
    beta_scale: Array,
    word_embedding_zero_point: Array,
    position_embedding_zero_point: Array,
    segment_embedding_zero_point: Array | None,
    gamma_zero_point: Array,
    beta_zero_point: Array,
    *,
    epsilon: float = _EPSILON,
) -> tuple[Array, Array]:
    """EmbedLayerNormalization with 8-bit tables, gamma and beta, each with one scale and zero point."""
    segments = None
    if segment_embedding is not None and segment_embedding_scale is not None:
        segments = dequantize_linear_10(segment_embedding, segment_embedding_scale, segment_embedding_zero_point)
    y, mask_index, _ = embed_layer_normalization(
        input_ids,
        segment_ids,
        dequantize_linear_10(word_embedding_quant, word_embedding_scale, word_embedding_zero_point),
        dequantize_linear_10(position_embedding_quant, position_embedding_scale, position_embedding_zero_point),
        segments,
        dequantize_linear_10(gamma_quant, gamma_scale, gamma_zero_point),
        dequantize_linear_10(beta_quant, beta_scale, beta_zero_point),
        mask,
        epsilon=epsilon,
    )
    return y, mask_index


@op("GatedRMSNorm", 1, domain=MS)
def gated_rms_norm(
    X: Array, scale: Array, gate: Array, *, activation: str = "silu", epsilon: float = single(1e-5)
) -> Array:
    """Groups of C elements over their root mean square, times scale, times an activation of the gate.

    X, gate: float[..., H * C], scale: [C] -> shape and dtype of X. Raises ShapeError, InvalidModelError.
    """
    size = scale.shape[0]
    if not size or X.shape[-1] % size:
        raise ShapeError(f"X: expected a last dimension in groups of {size}, got shape {list(X.shape)}")
    if activation not in ("silu", "swish", "sigmoid"):
        raise InvalidModelError(f"activation: expected silu, swish or sigmoid, got {activation!r}")
    groups = widen(X).reshape(*X.shape[:-1], -1, size)
    inverse = 1 / np.sqrt(average(np.square(groups), axis=-1, keepdims=True) + groups.dtype.type(epsilon))
    z = widen(gate)
    opened = logistic(z) if activation == "sigmoid" else z * logistic(z)
    return narrow((groups * inverse * widen(scale)).reshape(X.shape) * opened, X)


@op("BranchwiseRMSNorm", 1, domain=MS)
def branchwise_rms_norm(
    X: Array, scale: Array | None = None, *, epsilon: float = single(1e-5), num_branches: int = 0
) -> Array:
    """Each branch over its root mean square. X: float[..., C, H], or [..., C * H] with num_branches C -> same.

    scale: [C * H], [C, H] or [H]. Raises ShapeError.
    """
    if num_branches < 0 or (num_branches and X.shape[-1] % num_branches):
        raise ShapeError(f"X: expected {num_branches} branches, got shape {list(X.shape)}")
    branches = widen(X).reshape(*X.shape[:-1], num_branches, X.shape[-1] // num_branches) if num_branches else widen(X)
    inverse = 1 / np.sqrt(average(np.square(branches), axis=-1, keepdims=True) + branches.dtype.type(epsilon))
    y = branches * inverse
    if scale is not None:
        per_branch = scale.size != branches.shape[-1]
        if per_branch and scale.size != math.prod(branches.shape[-2:]):
            raise ShapeError(f"scale: expected {branches.shape[-1]} values for each branch, got {list(scale.shape)}")
        y = y * (widen(scale).reshape(branches.shape[-2:]) if per_branch else widen(scale).reshape(-1))
    return narrow(y.reshape(X.shape), X)


@op("GroupNorm", 1, domain=MS)
def group_norm(
    X: Array,
    gamma: Array,
    beta: Array,
    *,
    activation: int,
    channels_last: int = 1,
    epsilon: float = single(1e-5),
    groups: int,
) -> Array:
    """Normalization over groups of channels, then SiLU if activation is 1.

    X: float[N, H, W, C], or [N, C, H, W] if not channels_last; gamma, beta: [C] -> shape and dtype of X.
    Raises ShapeError.
    """
    return narrow(_group_normalized(widen(X), gamma, beta, activation, channels_last, epsilon, groups), X)


@op("SkipGroupNorm", 1, domain=MS)
def skip_group_norm(
    X: Array,
    gamma: Array,
    beta: Array,
    skip: Array,
    bias: Array | None = None,
    *,
    activation: int,
    channels_last: int = 1,
    epsilon: float = single(1e-5),
    groups: int,
) -> tuple[Array, Array]:
    """GroupNorm of X + skip + bias, and that sum. skip: [N, H, W, C], [N, 1, 1, C] or [N, C]; else as GroupNorm."""
    added = widen(skip)
    if added.ndim == 2:
        added = added[:, None, None, :] if channels_last else added[:, :, None, None]
    total = widen(X) + unidirectional(added, X.shape, "skip")
    if bias is not None:
        column = widen(bias) if channels_last else widen(bias).reshape(-1, 1, 1)
        total = total + unidirectional(column, X.shape, "bias")
    y = _group_normalized(total, gamma, beta, activation, channels_last, epsilon, groups)
    return narrow(y, X), narrow(total, X)


def _group_normalized(
    x: Array, gamma: Array, beta: Array, activation: int, channels_last: int, epsilon: float, groups: int
) -> Array:
    first = np.moveaxis(x, -1, 1) if channels_last else x
    if groups < 1 or first.shape[1] % groups:
        raise ShapeError(f"groups: expected a divisor of {first.shape[1]} channels, got {groups}")
    if gamma.shape != first.shape[1:2] or beta.shape != gamma.shape:
        raise ShapeError(f"gamma, beta: expected {first.shape[1]} values, got {list(gamma.shape)}, {list(beta.shape)}")
    grouped = first.reshape(first.shape[0], groups, math.prod(first.shape[1:]) // groups)
    centred = grouped - average(grouped, axis=2, keepdims=True)
    inverse = 1 / np.sqrt(average(np.square(centred), axis=2, keepdims=True) + x.dtype.type(epsilon))
    per_channel = (-1, *[1] * (first.ndim - 2))
    y = (centred * inverse).reshape(first.shape) * widen(gamma).reshape(per_channel)
    y = y + widen(beta).reshape(per_channel)
    if activation:
        y = y * logistic(y)
    return np.moveaxis(y, 1, -1) if channels_last else y
