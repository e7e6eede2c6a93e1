"""LinearAttention and CausalConvWithState, of ai.onnx and of com.microsoft.

The recurrence runs in one kernel, parallel over batch, heads and columns of the state, since the columns of a state
matrix do not touch each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Assign, Const, Expr, If, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.direct import Direct, loop, nest
from webdnn_backends.lower.elementwise import sigmoid, softplus
from webdnn_backends.lower.formulas import as_type, equal, less, less_equal, minus, over, plus, times, wide_dtype
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__ = ["rule_of", "scale_of"]

_RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}
"""Whether the state decays, and whether what it says already is subtracted."""


def rule_of(context: NodeContext) -> tuple[bool, bool]:
    """Whether the state decays, and whether the rule is a delta rule. Raises InvalidModelError."""
    name = context.attribute("update_rule", "gated_delta")
    if name not in _RULES:
        raise InvalidModelError(f"{context.where}: update_rule: expected one of {', '.join(_RULES)}, got {name!r}")
    return _RULES[name]


@dataclass(frozen=True)
class _Sizes:
    batch: Dim
    steps: Dim
    queries: int
    heads: int
    key: Dim
    value: Dim


@lowering("LinearAttention", since=27)
@lowering("LinearAttention", domain=MS)
def _linear_attention(context: NodeContext) -> None:
    gated, delta = rule_of(context)
    for wanted, index, name in ((gated, 4, "decay"), (delta, 5, "beta")):
        if wanted and not context.has(index):
            raise InvalidModelError(f"{context.where}: expected {name}, got none")
    queries, heads = context.attribute("q_num_heads", 1), context.attribute("kv_num_heads", 1)
    batch, steps, width = context.shape(1)
    sizes = _Sizes(batch, steps, queries, heads, width // heads, context.shape(2)[2] // heads)
    wide = wide_dtype(context.dtype(0))
    scalar = compute_type(wide)
    zero = const(0, scalar)
    window = context.attribute("state_window", 0)
    last = [window - 1] if window else []
    state = context.temporary(
        wide,
        (batch, heads, sizes.key, sizes.value),
        lambda i: as_type(scalar, context.element(3, [*last, *i])) if context.has(3) else zero,
    )
    _recurrence(context, sizes, state, gated, delta, window)
    if not window:
        context.emit(lambda i: context.read(state, i), output=1)


def _recurrence(context: NodeContext, sizes: _Sizes, state: str, gated: bool, delta: bool, window: int) -> None:
    """The kernel that updates the state token by token and gives the first output, and with a window the second: the
    states after each of the last tokens."""
    kernel = Direct(context, "linear_attention")
    query, key, value = kernel.input(0), kernel.input(1), kernel.input(2)
    matrix = kernel.write(context.state.tensor(state))
    kernel.read(state)
    output = kernel.output()
    b, h, column, t, d = Var("b"), Var("h"), Var("column"), Var("t"), Var("d")
    scalar = compute_type(matrix.tensor.dtype)
    width, depth = build.dim(sizes.value), build.dim(sizes.key)

    def of(operand: Expr) -> Expr:
        return as_type(scalar, operand)

    held = matrix.load([b, h, d, column])
    k = of(key.load([b, t, add(mul(h, depth), d)]))
    told = Var("told", scalar)
    steps: list[Stmt] = []
    if gated:
        decay = kernel.input(4)
        # One for each head, or for each place of its keys; maybe only running tells.
        columns, each = decay.tensor.shape[2], add(mul(h, depth), d)
        place = build.select(equal(build.dim(columns), sizes.heads), h, each)
        if isinstance(columns, int):
            place = h if columns == sizes.heads else each
        factor = apply(Op.EXP, of(decay.load([b, t, place])))
        steps.append(loop("d", sizes.key, matrix.store([b, h, d, column], times(factor, held))))
    new: Expr = of(value.load([b, t, add(mul(h, width), column)]))
    if delta:
        beta = kernel.input(5)
        columns = beta.tensor.shape[2]
        own = h if isinstance(columns, int) else build.select(equal(build.dim(columns), 1), Const(0), h)
        rate = of(beta.load([b, t, Const(0) if columns == 1 else own]))
        steps.append(Local("told", scalar, const(0, scalar)))
        steps.append(loop("d", sizes.key, Assign("told", apply(Op.FMA, k, held, told))))
        new = times(rate, minus(new, told))
    steps.append(Local("new", scalar, new))
    steps.append(loop("d", sizes.key, matrix.store([b, h, d, column], apply(Op.FMA, k, Var("new", scalar), held))))
    # More key than query heads share queries; more query than key heads share the state.
    group = max(sizes.queries // sizes.heads, 1)
    shared = max(sizes.heads // sizes.queries, 1)
    member = add(mul(h, group), Var("member"))
    source = floor_div(h, shared) if shared > 1 else member
    q = of(query.load([b, t, add(mul(source, depth), d)]))
    total = Var("total", scalar)
    factor = scale_of(context, sizes.key, scalar)
    steps.append(
        loop(
            "member",
            group,
            Local("total", scalar, const(0, scalar)),
            loop("d", sizes.key, Assign("total", apply(Op.FMA, q, held, total))),
            output.store([b, t, add(mul(member, width), column)], times(total, factor)),
        )
    )
    blank: tuple[Stmt, ...] = ()
    if window and context.wants(1):
        present = kernel.output(1)
        slot, absent = Var("slot"), build.sub(window, build.dim(sizes.steps))
        at = add(t, absent)
        kept = loop("d", sizes.key, present.store([at, b, h, d, column], held))
        steps.append(If(less_equal(0, at), (kept,)))
        zeros = loop("d", sizes.key, present.store([slot, b, h, d, column], const(0, scalar)))
        blank = (loop("slot", apply(Op.MAX, absent, Const(0)), zeros),)
    kernel.run(
        *nest(
            ("b", "h", "column"),
            (sizes.batch, sizes.heads, sizes.value),
            *blank,
            loop("t", sizes.steps, *steps),
            parallel=True,
        )
    )


def scale_of(context: NodeContext, size: Dim, scalar: Scalar) -> Expr:
    """The attribute, or 1 / sqrt(size of a key)."""
    given = context.attribute("scale", 0.0)
    if given or isinstance(size, int):
        return const(given or 1 / math.sqrt(size), scalar)  # type: ignore[arg-type]  # a number here
    return over(1, apply(Op.SQRT, as_type(scalar, build.dim(size))))


@lowering("LinearAttentionGate", domain=MS)
def _linear_attention_gate(context: NodeContext) -> None:
    def decay(i: Indices) -> Expr:
        x = context.element(0, i)
        raw = plus(x, as_type(x.type, context.element(1, [i[-1]])))
        return times(as_type(x.type, context.element(2, [i[-1]])), softplus(raw))

    context.emit(decay)
    if context.has(3):
        context.emit(lambda i: sigmoid(context.element(3, i)), output=1)


@lowering("CausalConvWithState", since=27)
@lowering("CausalConvWithState", domain=MS)
def _causal_conv_with_state(context: NodeContext) -> None:
    activation = context.attribute("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise InvalidModelError(f"{context.where}: activation: expected silu, swish or none, got {activation!r}")
    defaults = {
        "ndim": 1,
        "input_channel_offset": 0,
        "input_channels": 0,
        "state_update_capacity": 0,
        "state_length": 0,
        "state_channels_last": -1,
    }
    for name, default in defaults.items():
        if context.attribute(name, default) != default:
            raise context.unsupported(f"{name} {context.attribute(name, default)}")
    last = bool(context.attribute("channels_last", 0))
    dilation = context.attribute("dilation", 1)
    shape = context.shape(0)
    trailing = shape[2:] if last else ()
    length = shape[1] if last else shape[2]
    taps = context.shape(1)[2]
    history = (taps - 1) * dilation
    window = context.attribute("state_window", 0)

    def element(index: int, b: Expr, c: Expr, t: Expr) -> Expr:
        """An element by batch, channel and position; channels may be spread over several axes."""
        slot = [window - 1] if window and index == 3 else []
        if not last:
            return context.element(index, [*slot, b, c, t])
        if len(trailing) == 1:
            return context.element(index, [*slot, b, t, c])
        at: list[Expr] = []
        for size in reversed(trailing):
            at.append(floor_mod(c, build.dim(size)))
            c = floor_div(c, build.dim(size))
        return context.element(index, [*slot, b, t, *reversed(at)])

    def whole(b: Expr, c: Expr, t: Expr) -> Expr:
        """The history and then the input."""
        now = element(0, b, c, build.sub(t, build.dim(history)))
        if history == 0:
            return now
        past = element(3, b, c, t) if context.has(3) else const(0, now.type)
        return build.select(less(t, build.dim(history)), past, now)

    def split(i: Indices) -> tuple[Expr, Expr, Expr]:
        """Batch, channel and position of indices into the input's layout."""
        if not last:
            return i[0], i[1], i[2]
        channel: Expr = Const(0)
        for size, index in zip(trailing, i[2:], strict=True):
            channel = add(mul(channel, build.dim(size)), index)
        return i[0], channel, i[1]

    def body(i: Indices) -> Expr:
        b, c, t = split(i)
        total = context.sum(
            [taps],
            lambda k: times(whole(b, c, add(t, mul(k[0], dilation))), context.element(1, [c, Const(0), k[0]])),
        )
        if context.has(2):
            total = plus(total, context.element(2, [c]))
        return total if activation == "none" else times(total, sigmoid(total))

    context.emit(body)

    def state(i: Indices) -> Expr:
        if not window:
            b, c, t = split(i)
            return whole(b, c, add(t, build.dim(length)))
        b, c, t = split(i[1:])
        # How many tokens a slot has seen; it is blank where that is none.
        seen = add(i[0], build.dim(length - window + 1))
        value = whole(b, c, add(t, apply(Op.MAX, seen, Const(0))))
        return build.select(less(0, seen), value, const(0, value.type))

    context.emit(state, output=1)
