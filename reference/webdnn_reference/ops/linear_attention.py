"""LinearAttention and CausalConvWithState: sequence operators that carry a state instead of a cache."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, narrow, unidirectional, widen
from webdnn_reference.ops.activations import logistic
from webdnn_reference.ops.attention_core import join_heads, split_heads
from webdnn_reference.registry import op

__all__ = ["causal_conv_with_state", "linear_attention", "recurrence", "rule_of", "silu"]


_RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}


def rule_of(update_rule: str) -> tuple[bool, bool]:
    """Whether an update rule decays the state, and whether it subtracts what the state says already.

    Raises InvalidModelError for an unknown one.
    """
    if update_rule not in _RULES:
        raise InvalidModelError(f"update_rule: expected one of {list(_RULES)}, got {update_rule!r}")
    return _RULES[update_rule]


def silu(x: Array) -> Array:
    """x times its logistic function."""
    return np.asarray(x * logistic(x))


@op("CausalConvWithState", 27)
def causal_conv_with_state(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    past_state: Array | None = None,
    *,
    activation: str = "none",
) -> tuple[Array, Array]:
    """Depthwise convolution over the current and k - 1 earlier positions, and the positions that the next call needs.

    input: float[B, C, L], weight: [C, 1, k], bias: [C], past_state: [B, C, k - 1], zeros if absent
    -> output: [B, C, L], present_state: [B, C, k - 1]. Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html#causalconvwithstate-27
    """
    if input.ndim != 3 or weight.ndim != 3 or weight.shape[:2] != (input.shape[1], 1):
        raise ShapeError(
            f"input, weight: expected [B, C, L] and [C, 1, k], got {list(input.shape)} and {list(weight.shape)}"
        )
    batch, channels, length = input.shape
    kernel = weight.shape[2]
    if kernel < 1:
        raise ShapeError(f"weight: expected a kernel of at least 1, got {list(weight.shape)}")
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(f"bias: expected shape [{channels}], got {list(bias.shape)}")
    if past_state is None:
        past_state = np.zeros((batch, channels, kernel - 1), input.dtype)
    if past_state.shape != (batch, channels, kernel - 1):
        raise ShapeError(f"past_state: expected {[batch, channels, kernel - 1]}, got {list(past_state.shape)}")
    whole = np.concatenate([past_state, input], axis=2)
    wide, taps = widen(whole), widen(weight)
    y = np.zeros((batch, channels, length), wide.dtype)
    for tap in range(kernel):
        y += wide[:, :, tap : tap + length] * taps[:, 0, tap, None]
    if bias is not None:
        y = y + widen(bias)[:, None]
    if activation not in ("none", "silu", "swish"):
        raise InvalidModelError(f"activation: expected silu, swish or none, got {activation!r}")
    if activation != "none":
        y = silu(y)
    return narrow(y, input), whole[:, :, whole.shape[2] - (kernel - 1) :]


@op("LinearAttention", 27)
def linear_attention(
    query: Array,
    key: Array,
    value: Array,
    past_state: Array | None = None,
    decay: Array | None = None,
    beta: Array | None = None,
    *,
    chunk_size: int = 64,  # noqa: ARG001 - a tuning hint
    kv_num_heads: int,
    q_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Array, Array]:
    """Attention through a matrix per head that each token updates: linear, gated, delta or gated_delta rule.

    query: float[B, T, Hq * Dk], key: [B, T, Hkv * Dk], value: [B, T, Hkv * Dv], past_state: [B, Hkv, Dk, Dv],
    decay: [B, T, Hkv * Dk] or [B, T, Hkv], beta: [B, T, Hkv] or [B, T, 1]
    -> output: [B, T, Hq * Dv], present_state: [B, Hkv, Dk, Dv]. The state is kept in float32 (float64 for float64)
    from token to token. Raises ShapeError, InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx__LinearAttention.html#linearattention-27
    """
    q = split_heads(widen(query), q_num_heads, "query")
    k = split_heads(widen(key), kv_num_heads, "key")
    v = split_heads(widen(value), kv_num_heads, "value")
    _check_heads(q, k, v)
    state = np.zeros((*k.shape[:2], k.shape[3], v.shape[3]), k.dtype)
    if past_state is not None:
        if past_state.shape != state.shape:
            raise ShapeError(f"past_state: expected shape {list(state.shape)}, got {list(past_state.shape)}")
        state = widen(past_state).astype(k.dtype)
    gated, delta = rule_of(update_rule)
    if (gated and decay is None) or (delta and beta is None):
        raise InvalidModelError(f"expected {'decay' if gated and decay is None else 'beta'}, got none")
    g = split_heads(widen(decay), kv_num_heads, "decay") if gated and decay is not None else None
    if g is not None and (g.shape[:3] != k.shape[:3] or g.shape[3] not in (1, k.shape[3])):
        raise ShapeError(f"decay: expected a value for each head or for each of its keys, got {list(g.shape)} by heads")
    b = None
    if delta and beta is not None:
        b = unidirectional(widen(beta), (k.shape[0], k.shape[2], kv_num_heads), "beta").transpose(0, 2, 1)
    factor = scale if scale != 0 else 1 / np.sqrt(q.shape[3])
    y, state = recurrence(q, k, v, state, g, b, float(factor))
    return narrow(join_heads(y), query), narrow(state, query if past_state is None else past_state)


def _check_heads(q: Array, k: Array, v: Array) -> None:
    """Raises ShapeError unless queries, keys and values [B, H, T, D] belong together."""
    same = q.shape[0] == k.shape[0] == v.shape[0] and q.shape[2] == k.shape[2] == v.shape[2]
    if not same or k.shape[1] != v.shape[1] or q.shape[3] != k.shape[3] or not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ShapeError(
            "query, key, value: expected [B, Hq, T, Dk], [B, H, T, Dk] and [B, H, T, Dv] with Hq a multiple of H, "
            f"got {list(q.shape)}, {list(k.shape)} and {list(v.shape)}"
        )


def recurrence(
    q: Array, k: Array, v: Array, state: Array, decay: Array | None, beta: Array | None, scale: float
) -> tuple[Array, Array]:
    """The recurrence of linear attention.

    q: [B, Hq, T, Dk], k: [B, H, T, Dk], v: [B, H, T, Dv], state: [B, H, Dk, Dv], decay: logarithms [B, H, T, Dk or 1],
    beta: [B, H, T], None for the plain rule -> outputs [B, Hq, T, Dv] and the last state.
    """
    batch, heads, steps = k.shape[:3]
    group = q.shape[1] // heads
    outputs = np.zeros((batch, q.shape[1], steps, v.shape[3]), q.dtype)
    for step in range(steps):
        key, value = k[:, :, step, :, None], v[:, :, step, None, :]
        if decay is not None:
            state = np.exp(decay[:, :, step])[..., None] * state
        if beta is not None:
            value = beta[:, :, step, None, None] * (value - np.swapaxes(key, 2, 3) @ state)
        state = state + key * value
        queries = q[:, :, step].reshape(batch, heads, group, -1)
        outputs[:, :, step] = (q.dtype.type(scale) * (queries @ state)).reshape(batch, q.shape[1], -1)
    return outputs, state
