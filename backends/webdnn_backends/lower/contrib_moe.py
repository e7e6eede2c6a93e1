"""com.microsoft: MoE and QMoE, mixtures of experts.

Every token runs its best k experts only: the choice is a tensor of places, by which weights are read. The layers are
stages over [token, rank of the expert, unit].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, floor_div, mul
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.elementwise import gelu_tanh, sigmoid
from webdnn_backends.lower.formulas import (
    as_type,
    at_least,
    at_most,
    clamp,
    equal,
    minus,
    over,
    plus,
    times,
    wide_dtype,
)
from webdnn_backends.lower.movement import flat_index, unflatten
from webdnn_backends.lower.packed_bits import unpacked
from webdnn_backends.lower.registry import lowering
from webdnn_backends.lower.topk import order_of
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim, product

__all__: list[str] = []

Weight = Callable[[Expr, Expr, Expr], Expr]
"""A weight by expert, output unit and input unit."""


@dataclass(frozen=True)
class _Layer:
    """A layer of every expert: its weights, outputs, and the input that holds its bias, if there is one."""

    weight: Weight
    units: Dim
    bias: int | None


@lowering("MoE", domain=MS)
def _moe(context: NodeContext) -> None:
    def layer(index: int) -> _Layer | None:
        if not context.has(index):
            return None
        bias = index + 1 if context.has(index + 1) else None
        weight: Weight = lambda e, n, k: context.element(index, [e, n, k])  # noqa: E731  # typed by its name
        return _Layer(weight, context.shape(index)[1], bias)

    _mixture(context, layer(2), layer(4), layer(6), None)


@lowering("QMoE", domain=MS)
def _q_moe(context: NodeContext) -> None:
    if context.attribute("quant_type", "int") != "int":
        raise context.unsupported(f"quant_type {context.attribute('quant_type', 'int')!r}")
    scalar = _scalar(context)
    default, size = context.attribute("expert_weight_bits", 4), context.attribute("block_size", 0)

    def layer(index: int, zero: int) -> _Layer | None:
        if not context.has(index):
            return None
        if not context.has(index + 1):
            raise InvalidModelError(f"{context.where}: scales: expected them for integer weights, got none")
        number = {2: 1, 5: 2, 8: 3}[index]
        bits = context.attribute(f"fc{number}_expert_weight_bits", 0) or default
        scales = context.shape(index + 1)

        def weight(e: Expr, n: Expr, k: Expr) -> Expr:
            value = as_type(scalar, unpacked(lambda at: context.element(index, [e, n, at]), k, bits))
            blocked = len(scales) == 3
            block = floor_div(k, size) if blocked and size and scales[2] != 1 else Const(0)
            scale = context.element(index + 1, [e, n, block] if blocked else [e, n])
            if not context.has(zero):
                point: Expr = build.const(1 << (bits - 1), scalar)
            elif blocked:
                point = as_type(scalar, unpacked(lambda at: context.element(zero, [e, n, at]), block, bits))
            else:
                point = as_type(scalar, unpacked(lambda at: context.element(zero, [e, at]), n, bits))
            return times(minus(value, point), as_type(scalar, scale))

        bias = index + 2 if context.has(index + 2) else None
        return _Layer(weight, context.shape(index)[1], bias)

    _mixture(context, layer(2, 11), layer(5, 12), layer(8, 13), 14)


def _scalar(context: NodeContext) -> Scalar:
    return compute_type(wide_dtype(context.dtype(0)))


def _mixture(
    context: NodeContext, first: _Layer | None, second: _Layer | None, third: _Layer | None, weights: int | None
) -> None:
    if context.attribute("use_sparse_mixer", 0):
        raise context.unsupported("use_sparse_mixer 1")
    assert first is not None, "a required input of the operator"
    assert second is not None, "a required input of the operator"
    *lead, hidden = context.shape(0)
    tokens = product(lead)
    k, wide, scalar = context.attribute("k", 1), wide_dtype(context.dtype(0)), _scalar(context)
    order = order_of(context, context.name(1), 1, k, largest=True)
    share = _shares(context, order, k, weights)

    def x(t: Expr, h: Expr) -> Expr:
        return context.element(0, [*unflatten(t, lead), h])

    def run(layer: _Layer, depth: Dim, data: Callable[[Expr, Expr, Expr], Expr]) -> str:
        """The outputs of a layer, [token, rank, unit], as a tensor."""

        def body(i: Indices) -> Expr:
            t, r, n = i
            expert = context.read(order, [t, r])
            total = context.sum([depth], lambda h: times(data(t, r, h[0]), layer.weight(expert, n, h[0])))
            return (
                total if layer.bias is None else plus(total, as_type(scalar, context.element(layer.bias, [expert, n])))
            )

        return context.temporary(wide, (tokens, k, layer.units), body)

    one = run(first, hidden, lambda t, _, h: x(t, h))
    three = None if third is None else run(third, hidden, lambda t, _, h: x(t, h))
    inner, activate = _activation(context, one, three, first.units)
    middle = context.temporary(wide, (tokens, k, inner), activate)
    two = run(second, inner, lambda t, r, h: context.read(middle, [t, r, h]))

    def body(i: Indices) -> Expr:
        t = flat_index(i[:-1], lead)
        return context.sum([k], lambda r: times(context.read(share, [t, *r]), context.read(two, [t, *r, i[-1]])))

    context.emit(body)


def _shares(context: NodeContext, order: str, k: int, weights: int | None) -> str:
    """The weight of each chosen expert, [token, rank], as a tensor."""
    tokens, experts = context.shape(1)
    wide, scalar = wide_dtype(context.dtype(0)), _scalar(context)

    def logit(t: Expr, e: Expr) -> Expr:
        return as_type(scalar, context.element(1, [t, e]))

    if weights is not None and context.has(weights):

        def raw(t: Expr, e: Expr) -> Expr:
            return as_type(scalar, context.element(weights, [t, e]))
    else:
        peak = context.temporary(
            wide, (tokens,), lambda i: context.reduce(ReduceOp.MAX, [experts], lambda e: logit(i[0], e[0]))
        )

        def exponential(t: Expr, e: Expr) -> Expr:
            return apply(Op.EXP, minus(logit(t, e), context.read(peak, [t])))

        total = context.temporary(wide, (tokens,), lambda i: context.sum([experts], lambda e: exponential(i[0], e[0])))

        def raw(t: Expr, e: Expr) -> Expr:
            return over(exponential(t, e), context.read(total, [t]))

    chosen = context.temporary(wide, (tokens, k), lambda i: raw(i[0], context.read(order, list(i))))
    if not context.attribute("normalize_routing_weights", 0):
        return chosen

    def normalised(i: Indices) -> Expr:
        summed = context.sum([k], lambda r: context.read(chosen, [i[0], *r]))
        return over(context.read(chosen, list(i)), build.select(equal(summed, 0), build.const(1, scalar), summed))

    return context.temporary(wide, (tokens, k), normalised)


def _activation(
    context: NodeContext, first: str, third: str | None, units: Dim
) -> tuple[Dim, Callable[[Indices], Expr]]:
    """What lies between the layers: how many units there are, and their values."""
    kind = context.attribute("activation_type", "relu")
    if kind not in ("swiglu", "geglu"):
        simple: dict[str, Callable[[Expr], Expr]] = {
            "relu": lambda x: at_least(x, 0),
            "relu2": lambda x: times(at_least(x, 0), at_least(x, 0)),
            "gelu": gelu_tanh,
            "silu": lambda x: times(x, sigmoid(x)),
            "identity": lambda x: x,
        }
        if kind not in simple:
            raise InvalidModelError(f"{context.where}: activation_type: expected a known one, got {kind!r}")

        def plain(i: Indices) -> Expr:
            y = simple[kind](context.read(first, list(i)))
            return y if third is None else times(y, context.read(third, list(i)))

        return units, plain
    fusion = context.attribute("swiglu_fusion", 0)
    if not fusion and third is None:
        raise InvalidModelError(f"{context.where}: fc3_experts_weights: expected them for unfused {kind}, got none")
    inner = units // 2 if fusion else units

    def halves(i: Indices) -> tuple[Expr, Expr]:
        t, r, n = i
        if fusion == 1:
            return context.read(first, [t, r, mul(n, 2)]), context.read(first, [t, r, add(mul(n, 2), 1)])
        if fusion == 2:
            return context.read(first, [t, r, n]), context.read(first, [t, r, add(n, build.dim(inner))])
        assert third is not None, "checked above"
        return context.read(first, [t, r, n]), context.read(third, [t, r, n])

    alpha, beta = context.attribute("activation_alpha", 1.0), context.attribute("activation_beta", 0.0)
    limit = context.node.attributes.get("swiglu_limit")

    def gated(i: Indices) -> Expr:
        gate, linear = halves(i)
        if kind == "geglu":
            return times(gelu_tanh(gate), linear)
        if isinstance(limit, float):
            linear = clamp(linear, -limit, limit)
            if context.attribute("swiglu_limit_after_activation", 0):
                return times(at_most(times(gate, sigmoid(times(gate, alpha))), limit), plus(linear, beta))
            gate = at_most(gate, limit)
        return times(times(gate, sigmoid(times(gate, alpha))), plus(linear, beta))

    return inner, gated
