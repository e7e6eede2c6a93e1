"""Sequence operators of com.microsoft that carry a state: linear attention, gated delta nets and their convolution."""

from __future__ import annotations

import itertools
import math

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError, UnsupportedOpError
from webdnn_reference.numeric import Array, narrow, unidirectional, widen
from webdnn_reference.ops.activations import logistic, softplus_of
from webdnn_reference.ops.attention_core import join_heads, split_heads
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.ops.linear_attention import recurrence, rule_of, silu
from webdnn_reference.registry import Context, op

__all__ = ["gated_delta_net", "linear_attention_gate", "ms_causal_conv_with_state", "ms_linear_attention"]


@op("LinearAttentionGate", 1, domain=MS)
def linear_attention_gate(
    a: Array, dt_bias: Array, decay_scale: Array, b: Array | None = None
) -> tuple[Array, Array | None]:
    """decay_scale softplus(a + dt_bias), and logistic(b). a, b: float[B, T, H], others: float32[H] -> shape of a."""
    wide = widen(a)
    decay = decay_scale.astype(wide.dtype) * softplus_of(wide + dt_bias.astype(wide.dtype))
    return narrow(decay, a), None if b is None else narrow(logistic(widen(b)), b)


@op("LinearAttention", 1, domain=MS)
def ms_linear_attention(
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
    state_window: int = 0,
    update_rule: str = "gated_delta",
) -> tuple[Array, Array]:
    """LinearAttention of ai.onnx, with two additions.

    There may be more key than query heads, which then share queries. state_window W gives the states after each of the
    last W tokens, [W, B, Hkv, Dk, Dv], zeros where there are fewer; of such a past only the last is read.
    Raises ShapeError, InvalidModelError.
    """
    gated, delta = rule_of(update_rule)
    if (gated and decay is None) or (delta and beta is None):
        raise InvalidModelError(f"expected {'decay' if gated and decay is None else 'beta'}, got none")
    q = split_heads(widen(query), q_num_heads, "query")
    k = split_heads(widen(key), kv_num_heads, "key")
    v = split_heads(widen(value), kv_num_heads, "value")
    if q_num_heads % kv_num_heads and kv_num_heads % q_num_heads:
        raise ShapeError(f"kv_num_heads: expected a divisor or multiple of {q_num_heads}, got {kv_num_heads}")
    if q.shape[3] != k.shape[3]:
        raise ShapeError(f"query, key: expected heads of one size, got {q.shape[3]} and {k.shape[3]}")
    if kv_num_heads > q_num_heads:
        q = np.repeat(q, kv_num_heads // q_num_heads, axis=1)
    shape = (k.shape[0], kv_num_heads, k.shape[3], v.shape[3])
    g = split_heads(widen(decay), kv_num_heads, "decay") if gated and decay is not None else None
    if decay is not None and g is not None and g.shape[3] not in (1, k.shape[3]):
        expected = f"{kv_num_heads} or {kv_num_heads * k.shape[3]} in the last dimension"
        raise ShapeError(f"decay: expected {expected}, got shape {list(decay.shape)}")
    b = None
    if delta and beta is not None:
        b = unidirectional(widen(beta), (*beta.shape[:2], kv_num_heads), "beta").transpose(0, 2, 1)
    factor = float(scale or 1 / np.sqrt(k.shape[3]))
    window = max(state_window, 1)
    first = np.zeros(shape, k.dtype)
    if past_state is not None and past_state.size != window * first.size:
        raise ShapeError(f"past_state: expected shape {list(shape)}, got {list(past_state.shape)}")
    if past_state is not None:
        first = widen(past_state).astype(k.dtype).reshape(window, *shape)[-1]
    states = [first]
    steps = q.shape[2]
    cuts = [0, *range(max(steps - window, 0) + 1, steps + 1)]
    outputs = []
    for start, end in itertools.pairwise(cuts):
        part = slice(start, end)
        gate, rate = (None if x is None else x[:, :, part] for x in (g, b))
        y, state = recurrence(q[:, :, part], k[:, :, part], v[:, :, part], states[-1], gate, rate, factor)
        outputs.append(y)
        states.append(state)
    whole = np.concatenate(outputs, axis=2) if outputs else np.zeros((*q.shape[:3], v.shape[3]), q.dtype)
    present = states[-1]
    if state_window:
        known = states[len(states) - min(steps, window) :]
        present = np.stack([np.zeros(shape, k.dtype)] * (window - len(known)) + known)
    return narrow(join_heads(whole), query), narrow(present, query if past_state is None else past_state)


@op("CausalConvWithState", 1, domain=MS)
def ms_causal_conv_with_state(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    past_state: Array | None = None,
    *,
    activation: str = "none",
    channels_last: int = 0,
    dilation: int = 1,
    input_channel_offset: int = 0,
    input_channels: int = 0,
    ndim: int = 1,
    state_channels_last: int = -1,
    state_length: int = 0,
    state_update_capacity: int = 0,
    state_window: int = 0,
) -> tuple[Array, Array]:
    """CausalConvWithState of ai.onnx with dilation, channels-last data and a window of states.

    input: float[B, C, L], or [B, L, C...] if channels_last; weight: [C, 1, k]; past_state: [B, C, (k - 1) dilation] in
    the layout of input, for state_window W [W, ...] of which the last is read; present_state: the same, after each of
    the last W positions. The options that only CUDA has, and ndim above 1, are not supported.
    Raises ShapeError, InvalidModelError, UnsupportedOpError.
    """
    unsupported = {
        "ndim": ndim != 1,
        "input_channel_offset": input_channel_offset != 0,
        "input_channels": input_channels != 0,
        "state_channels_last": state_channels_last not in (-1, channels_last),
        "state_length": state_length not in (0, (weight.shape[-1] - 1) * dilation),
        "state_update_capacity": state_update_capacity != 0,
    }
    if any(unsupported.values()):
        names = [name for name, wrong in unsupported.items() if wrong]
        raise UnsupportedOpError(f"expected default {', '.join(names)}, got others")
    if activation not in ("none", "silu", "swish"):
        raise InvalidModelError(f"activation: expected silu, swish or none, got {activation!r}")
    if input.ndim < 3 or (input.ndim > 3 and not channels_last) or not weight.shape[2] or dilation < 1:
        got = f"{list(input.shape)}, {list(weight.shape)} and {dilation}"
        raise ShapeError(f"input, weight, dilation: expected [B, C, L], taps and a positive number, got {got}")
    x = _channels_first(input, channels_last)
    batch, channels, length = x.shape
    if weight.shape[0] != channels or state_window < 0:
        raise ShapeError(f"weight: expected {channels} channels, got {list(weight.shape)}")
    kernel = weight.shape[2]
    history = (kernel - 1) * dilation
    past = np.zeros((batch, channels, history), input.dtype)
    if past_state is not None:
        rank = input.ndim + bool(state_window)
        if past_state.ndim != rank or (state_window and not len(past_state)):
            raise ShapeError(f"past_state: expected rank {rank} and a state, got shape {list(past_state.shape)}")
        past = _channels_first(past_state[-1] if state_window else past_state, channels_last)
    if past.shape != (batch, channels, history):
        raise ShapeError(f"past_state: expected {history} positions, got {list(past.shape)}")
    whole = np.concatenate([past, x], axis=2)
    wide, taps = widen(whole), widen(weight)
    y = np.zeros((batch, channels, length), wide.dtype)
    for tap in range(kernel):
        y += wide[:, :, tap * dilation : tap * dilation + length] * taps[:, 0, tap, None]
    if bias is not None:
        y = y + widen(bias)[:, None]
    if activation != "none":
        y = silu(y)
    if not state_window:
        present = _channels_back(whole[:, :, whole.shape[2] - history :], input, channels_last)
        return narrow(_channels_back(y, input, channels_last), input), present
    slots = []
    for slot in range(state_window):
        end = length - state_window + slot + 1
        state = whole[:, :, end : end + history] if end > 0 else np.zeros_like(past)
        slots.append(_channels_back(state, input, channels_last))
    return narrow(_channels_back(y, input, channels_last), input), np.stack(slots)


def _channels_first(x: Array, channels_last: int) -> Array:
    """[B, C, L] from [B, L, C...] if channels_last."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:])).transpose(0, 2, 1) if channels_last else x


def _channels_back(x: Array, like: Array, channels_last: int) -> Array:
    if not channels_last:
        return x
    return x.transpose(0, 2, 1).reshape(x.shape[0], x.shape[2], *like.shape[2:])


@op("GatedDeltaNet", 1, domain=MS)
def gated_delta_net(
    query: Array,
    key: Array | None = None,
    value: Array | None = None,
    cu_seqlens: Array | None = None,
    decay: Array | None = None,
    beta: Array | None = None,
    initial_state: Array | None = None,
    a_log: Array | None = None,
    dt_bias: Array | None = None,
    capture_count: Array | None = None,  # noqa: ARG001 - only with state_update_capacity
    state_update_active: Array | None = None,  # noqa: ARG001 - only with state_update_capacity
    *,
    beta_activation: str = "none",
    chunk_size: int = 64,  # noqa: ARG001 - a tuning hint
    gate_activation: str = "none",
    gate_lower_bound: float = -5.0,
    qk_l2_norm: int = 0,
    scale: float = 0.0,
    state_update_capacity: int = 0,
    update_rule: str = "gated_delta",
    context: Context,
) -> tuple[Array, Array]:
    """Linear attention on token-major data of several requests, with fused gates.

    query: float[tokens, Hq, Dk], key: the same, value: [tokens, Hv, Dv], or query packed with both; rank 4 with
    [batch, sequence] for tokens; cu_seqlens: int32[batch + 1], where each request starts; decay: [tokens, Hv] or
    [tokens, Hv, Dk]; beta: [tokens, Hv]; initial_state: float32[batch, Hv, Dv, Dk]; a_log, dt_bias: float32
    -> output: [tokens, Hv, Dv], final_state as initial_state.
    Raises ShapeError, InvalidModelError, UnsupportedOpError for state_update_capacity.
    """
    if state_update_capacity:
        raise UnsupportedOpError(f"state_update_capacity: expected 0, got {state_update_capacity}")
    gated, delta = rule_of(update_rule)
    q, k, v = _token_major(query, key, value, initial_state)
    tokens, value_heads = v.shape[:2]
    if qk_l2_norm:
        q, k = (x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + x.dtype.type(1e-6)) for x in (q, k))
    group = value_heads // q.shape[1]
    q, k = (np.repeat(x, group, axis=1) for x in (q, k))
    g = None
    if gated:
        g = _gate(decay, a_log, dt_bias, gate_activation, gate_lower_bound, tokens, value_heads, q.shape[2])
    b = None
    if delta:
        if beta is None:
            raise InvalidModelError("beta: expected one for the delta rule, got none")
        if beta.size != tokens * value_heads:
            raise ShapeError(f"beta: expected shape [{tokens}, {value_heads}], got {list(beta.shape)}")
        b = widen(beta).reshape(tokens, value_heads)
        b = logistic(b) if beta_activation == "sigmoid" else b
    starts = _starts(cu_seqlens, initial_state, tokens)
    stash = np.float64 if context.float64 else np.float32
    states = np.zeros((len(starts) - 1, value_heads, v.shape[2], q.shape[2]), stash)
    if initial_state is not None:
        if initial_state.shape != states.shape:
            raise ShapeError(f"initial_state: expected shape {list(states.shape)}, got {list(initial_state.shape)}")
        states = initial_state.astype(stash)
    factor = float(scale or 1 / np.sqrt(q.shape[2]))
    y = np.zeros((tokens, value_heads, v.shape[2]), q.dtype)
    finals = states.copy()
    for request, (start, end) in enumerate(itertools.pairwise(starts)):
        part = slice(start, end)
        heads = [x[part].transpose(1, 0, 2)[None] for x in (q, k, v)]
        gate = None if g is None else g[part].transpose(1, 0, 2)[None]
        rate = None if b is None else b[part].T[None]
        state = np.swapaxes(states[request : request + 1], 2, 3).astype(q.dtype)
        out, last = recurrence(heads[0], heads[1], heads[2], state, gate, rate, factor)
        y[part] = out[0].transpose(1, 0, 2)
        finals[request] = np.swapaxes(last[0], 1, 2)
    shape = (*query.shape[:2], *y.shape[1:]) if query.ndim == 4 or (key is None and query.ndim == 3) else y.shape
    return narrow(y.reshape(shape), query), finals


def _token_major(
    query: Array, key: Array | None, value: Array | None, initial_state: Array | None
) -> tuple[Array, Array, Array]:
    """Query, key and value as [tokens, heads, size]."""
    if (key is None) != (value is None):
        raise InvalidModelError("key, value: expected both, or neither where the query is packed, got one")
    if key is not None and value is not None:
        of_heads = query.ndim in (3, 4) and 0 not in query.shape[-2:] and value.ndim == query.ndim
        if not of_heads or key.shape != query.shape or value.shape[:-2] != query.shape[:-2]:
            got = f"{list(query.shape)}, {list(key.shape)} and {list(value.shape)}"
            raise ShapeError(f"query, key, value: expected [tokens, heads, size] of the same tokens, got {got}")
        if value.shape[-2] % query.shape[-2] or 0 in value.shape[-2:]:
            raise ShapeError(f"value: expected a multiple of {query.shape[-2]} heads, got shape {list(value.shape)}")
        q, k, v = (widen(x).reshape(-1, *x.shape[-2:]) for x in (query, key, value))
        return q, k, v
    if initial_state is None:
        raise InvalidModelError("initial_state: expected one for packed queries, got none")
    if initial_state.ndim != 4 or 0 in initial_state.shape[1:] or query.ndim not in (2, 3):
        got = f"{list(query.shape)} and {list(initial_state.shape)}"
        raise ShapeError(f"query, initial_state: expected [tokens, packed] and [batch, Hv, Dv, Dk], got {got}")
    _, value_heads, value_size, size = initial_state.shape
    packed = widen(query).reshape(math.prod(query.shape[:-1]), query.shape[-1])
    width = (packed.shape[1] - value_heads * value_size) // 2
    if width < size or packed.shape[1] != 2 * width + value_heads * value_size or width % size:
        expected = f"{value_heads * value_size} and a multiple of {2 * size} in the last dimension"
        raise ShapeError(f"query: expected {expected}, got shape {list(query.shape)}")
    if value_heads % (width // size):
        raise ShapeError(f"query: expected heads that divide the {value_heads} of the values, got {width // size}")
    parts = np.split(packed, [width, 2 * width], axis=1)
    sizes = (size, size, value_size)
    q, k, v = (x.reshape(len(packed), x.shape[1] // part, part) for x, part in zip(parts, sizes, strict=True))
    return q, k, v


def _starts(cu_seqlens: Array | None, initial_state: Array | None, tokens: int) -> list[int]:
    if cu_seqlens is not None:
        if cu_seqlens.ndim != 1 or not len(cu_seqlens):
            raise ShapeError(f"cu_seqlens: expected shape [batch + 1], got {list(cu_seqlens.shape)}")
        starts = [int(start) for start in cu_seqlens]
        if sorted(starts) != starts or not 0 <= starts[0] <= starts[-1] <= tokens:
            raise ShapeError(f"cu_seqlens: expected ascending starts of 0..{tokens}, got {starts}")
        return starts
    if initial_state is None or not len(initial_state) or tokens % len(initial_state):
        raise ShapeError(f"initial_state: expected a batch that divides {tokens} tokens, got another")
    return list(range(0, tokens + 1, tokens // len(initial_state))) if tokens else [0] * (len(initial_state) + 1)


def _gate(
    decay: Array | None,
    a_log: Array | None,
    dt_bias: Array | None,
    activation: str,
    lower_bound: float,
    tokens: int,
    heads: int,
    key_size: int,
) -> Array:
    """Logarithms of the decay, [tokens, heads, Dk or 1]."""
    if decay is None:
        raise InvalidModelError("decay: expected one for a gated rule, got none")
    per_head = max(tokens * heads, 1)
    if decay.size not in (tokens * heads, tokens * heads * key_size):
        expected = f"[{tokens}, {heads}] or [{tokens}, {heads}, {key_size}]"
        raise ShapeError(f"decay: expected shape {expected}, got {list(decay.shape)}")
    raw = widen(decay).reshape(tokens, heads, max(decay.size // per_head, 1))
    if activation == "none":
        return raw
    if a_log is None:
        raise InvalidModelError(f"a_log: expected one for gate_activation {activation!r}, got none")
    if a_log.size != heads:
        raise ShapeError(f"a_log: expected shape [{heads}], got {list(a_log.shape)}")
    if dt_bias is not None and dt_bias.size not in (heads, heads * key_size):
        raise ShapeError(f"dt_bias: expected {heads} or {heads * key_size} elements, got shape {list(dt_bias.shape)}")
    rate = np.exp(a_log.astype(raw.dtype)).reshape(-1, 1)
    if dt_bias is not None:
        raw = raw + dt_bias.astype(raw.dtype).reshape(heads, -1)
    if activation in ("softplus", "qwen"):
        return np.asarray(-rate * softplus_of(raw))
    if activation in ("sigmoid", "kda"):
        return np.asarray(raw.dtype.type(lower_bound) * logistic(rate * raw))
    raise InvalidModelError(f"gate_activation: expected none, softplus, sigmoid or kda, got {activation!r}")
