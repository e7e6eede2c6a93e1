"""com.microsoft: GatedDeltaNet, linear attention over the tokens of several requests with fused gates.

One kernel walks the tokens, parallel over requests, heads and rows of the state, since the rows do not touch each
other. What goes into it token by token (normalised queries and keys, decays, rates) is computed by stages before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, const, floor_div, mul
from webdnn_backends.ir.loops import Assign, Const, Expr, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.contrib_attention import MS
from webdnn_backends.lower.direct import Direct, loop, nest
from webdnn_backends.lower.elementwise import sigmoid, softplus
from webdnn_backends.lower.formulas import as_type, minus, negative, over, plus, times, wide_dtype
from webdnn_backends.lower.linear_attention import rule_of, scale_of
from webdnn_backends.lower.movement import flat_index, unflatten
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim, product

__all__: list[str] = []

_QUERY, _KEY, _VALUE, _STARTS, _DECAY, _BETA, _STATE, _A_LOG, _DT_BIAS = range(9)


@dataclass(frozen=True)
class _Sizes:
    """requests: how many share the tokens. query: heads of queries and keys; heads: of values, a multiple of them.
    key, value: sizes of a head."""

    requests: Dim
    tokens: Dim
    query: Dim
    heads: Dim
    key: Dim
    value: Dim


def _sizes(context: NodeContext) -> _Sizes:
    shape = context.shape(_QUERY)
    if context.has(_STATE):
        requests, heads, value, key = context.shape(_STATE)
    elif context.has(_KEY) and context.has(_STARTS):
        heads, value = context.shape(_VALUE)[-2:]
        requests, key = context.shape(_STARTS)[0] - 1, shape[-1]
    else:
        raise InvalidModelError(f"{context.where}: initial_state: expected one for these inputs, got none")
    if context.has(_KEY):
        return _Sizes(requests, product(list(shape[:-2])), shape[-2], heads, key, value)
    query = (shape[-1] - heads * value) // 2 // key
    return _Sizes(requests, product(list(shape[:-1])), query, heads, key, value)


def _rows(context: NodeContext, index: int, start: Dim = 0) -> Callable[[Expr, Expr], Expr]:
    """Elements of an input by token and column, whatever axes the tokens are spread over. start: the first column."""
    shape = context.shape(index)
    width = product(list(shape[-2:] if context.has(_KEY) and index in (_QUERY, _KEY, _VALUE) else shape[-1:]))

    def at(token: Expr, column: Expr) -> Expr:
        place = add(mul(token, build.dim(width)), add(column, build.dim(start)))
        return context.element(index, unflatten(place, shape))

    return at


def _table(
    context: NodeContext, source: Callable[[Expr, Expr], Expr], shape: tuple[Dim, Dim, Dim], norm: bool = False
) -> str:
    """Heads [tokens, heads, size] in a tensor of their own, over their Euclidean norm where asked for."""
    dtype = wide_dtype(context.dtype(_QUERY))
    scalar = compute_type(dtype)
    tokens, heads, size = shape

    def value(t: Expr, h: Expr, d: Expr) -> Expr:
        return as_type(scalar, source(t, add(mul(h, build.dim(size)), d)))

    if not norm:
        return context.temporary(dtype, shape, lambda i: value(*i))

    def power(i: Indices) -> Expr:
        total = context.sum([size], lambda d: times(value(i[0], i[1], d[0]), value(i[0], i[1], d[0])))
        return apply(Op.SQRT, plus(total, 1e-6))

    length = context.temporary(dtype, (tokens, heads), power)
    return context.temporary(dtype, shape, lambda i: over(value(*i), context.read(length, i[:2])))


def _per_head(context: NodeContext, index: int, sizes: _Sizes) -> tuple[Callable[[Expr, Expr, Expr], Expr], Dim]:
    """Elements of a gate by token, head and place, and how many places it has: 1, or the size of a key."""
    shape = context.shape(index)
    total = product(list(shape))
    width = sizes.key if total == sizes.tokens * sizes.heads * sizes.key and total != sizes.tokens * sizes.heads else 1

    def at(token: Expr, head: Expr, place: Expr) -> Expr:
        flat = add(mul(add(mul(token, build.dim(sizes.heads)), head), build.dim(width)), place)
        return context.element(index, unflatten(flat, shape))

    return at, width


def _decay(context: NodeContext, sizes: _Sizes) -> str:
    """By what the state shrinks at each token, [tokens, heads, 1 or key size]."""
    if not context.has(_DECAY):
        raise InvalidModelError(f"{context.where}: decay: expected one for a gated rule, got none")
    kind = context.attribute("gate_activation", "none")
    if kind not in ("none", "softplus", "qwen", "sigmoid", "kda"):
        raise InvalidModelError(
            f"{context.where}: gate_activation: expected none, softplus, sigmoid or kda, got {kind!r}"
        )
    if kind != "none" and not context.has(_A_LOG):
        raise InvalidModelError(f"{context.where}: a_log: expected one for gate_activation {kind!r}, got none")
    dtype = wide_dtype(context.dtype(_QUERY))
    scalar = compute_type(dtype)
    given, width = _per_head(context, _DECAY, sizes)

    def element(index: int, head: Expr, place: Expr) -> Expr:
        """Of a parameter with an entry for each head, or for each place of each head."""
        shape = context.shape(index)
        per = width if product(list(shape)) != sizes.heads else 1
        at = add(mul(head, build.dim(per)), Const(0) if per == 1 else place)
        return as_type(scalar, context.element(index, unflatten(at, shape)))

    def body(i: Indices) -> Expr:
        token, head, place = i
        raw = as_type(scalar, given(token, head, place))
        if kind == "none":
            return apply(Op.EXP, raw)
        rate = apply(Op.EXP, element(_A_LOG, head, place))
        if context.has(_DT_BIAS):
            raw = plus(raw, element(_DT_BIAS, head, place))
        if kind in ("softplus", "qwen"):
            return apply(Op.EXP, negative(times(rate, softplus(raw))))
        bound = context.attribute("gate_lower_bound", -5.0)
        return apply(Op.EXP, times(sigmoid(times(rate, raw)), bound))

    return context.temporary(dtype, (sizes.tokens, sizes.heads, width), body)


def _rate(context: NodeContext, sizes: _Sizes) -> str:
    """How much of what is new at each token enters the state, [tokens, heads]."""
    if not context.has(_BETA):
        raise InvalidModelError(f"{context.where}: beta: expected one for the delta rule, got none")
    dtype = wide_dtype(context.dtype(_QUERY))
    given, _ = _per_head(context, _BETA, sizes)

    def body(i: Indices) -> Expr:
        raw = as_type(compute_type(dtype), given(i[0], i[1], Const(0)))
        return sigmoid(raw) if context.attribute("beta_activation", "none") == "sigmoid" else raw

    return context.temporary(dtype, (sizes.tokens, sizes.heads), body)


@lowering("GatedDeltaNet", domain=MS)
def _gated_delta_net(context: NodeContext) -> None:
    if context.attribute("state_update_capacity", 0):
        raise context.unsupported(f"state_update_capacity {context.attribute('state_update_capacity', 0)}")
    gated, delta = rule_of(context)
    sizes = _sizes(context)
    norm = bool(context.attribute("qk_l2_norm", 0))
    width = sizes.query * sizes.key
    if context.has(_KEY):
        sources = [_rows(context, index) for index in (_QUERY, _KEY, _VALUE)]
    else:
        sources = [_rows(context, _QUERY, start) for start in (0, width, width * 2)]
    of_keys = (sizes.tokens, sizes.query, sizes.key)
    query, key = (_table(context, source, of_keys, norm) for source in sources[:2])
    value = _table(context, sources[2], (sizes.tokens, sizes.heads, sizes.value))
    decay = _decay(context, sizes) if gated else None
    rate = _rate(context, sizes) if delta else None
    dtype = wide_dtype(context.dtype(_QUERY))
    scalar = compute_type(dtype)
    state = context.temporary(
        dtype,
        (sizes.requests, sizes.heads, sizes.value, sizes.key),
        lambda i: as_type(scalar, context.element(_STATE, i)) if context.has(_STATE) else const(0, scalar),
    )
    result = context.scratch(dtype, (sizes.tokens, sizes.heads, sizes.value))
    _walk(context, sizes, (query, key, value, decay, rate, state, result.name))
    target = context.output().shape

    def shown(i: Indices) -> Expr:
        return context.read(result.name, unflatten(flat_index(i, target), result.shape))

    context.emit(lambda i: context.read(result.name, i) if len(target) == 3 else shown(i))
    context.emit(lambda i: as_type(compute_type(context.output(1).dtype), context.read(state, i)), output=1)


def _walk(context: NodeContext, sizes: _Sizes, tensors: tuple[str, str, str, str | None, str | None, str, str]) -> None:
    """The kernel that updates the states token by token and reads them."""
    kernel = Direct(context, "gated_delta_net")
    query, key, value = (kernel.read(name) for name in tensors[:3])
    decay, rate = (kernel.read(name) if name else None for name in tensors[3:5])
    matrix = kernel.write(context.state.tensor(tensors[5]))
    kernel.read(tensors[5])
    result = kernel.write(context.state.tensor(tensors[6]))
    scalar = compute_type(matrix.tensor.dtype)
    request, head, row, token, place = Var("request"), Var("head"), Var("row"), Var("token"), Var("place")
    zero = const(0, scalar)
    shared = floor_div(head, build.dim(sizes.heads // sizes.query))
    held = matrix.load([request, head, row, place])
    k = key.load([token, shared, place])
    steps: list[Stmt] = []
    if decay is not None:
        at = place if decay.tensor.shape[2] != 1 else Const(0)
        shrunk = times(decay.load([token, head, at]), held)
        steps.append(loop("place", sizes.key, matrix.store([request, head, row, place], shrunk)))
    new = value.load([token, head, row])
    if rate is not None:
        steps.append(Local("told", scalar, zero))
        steps.append(loop("place", sizes.key, Assign("told", apply(Op.FMA, k, held, Var("told", scalar)))))
        new = times(rate.load([token, head]), minus(new, Var("told", scalar)))
    steps.append(Local("new", scalar, new))
    moved = apply(Op.FMA, k, Var("new", scalar), held)
    steps.append(loop("place", sizes.key, matrix.store([request, head, row, place], moved)))
    total = Var("total", scalar)
    q = query.load([token, shared, place])
    steps += [
        Local("total", scalar, zero),
        loop("place", sizes.key, Assign("total", apply(Op.FMA, q, held, total))),
        result.store([token, head, row], times(total, scale_of(context, sizes.key, scalar))),
    ]
    if context.has(_STARTS):
        starts = kernel.input(_STARTS)
        first, end = (as_type(Scalar.I32, starts.load([at])) for at in (request, add(request, 1)))
    else:
        each = build.dim(sizes.tokens // sizes.requests) if sizes.requests != 0 else Const(0)
        first, end = mul(request, each), mul(add(request, 1), each)
    walk = loop("token", build.sub(end, Var("first")), *steps, start=Var("first"))
    kernel.run(
        *nest(
            ("request", "head", "row"),
            (sizes.requests, sizes.heads, sizes.value),
            Local("first", Scalar.I32, first),
            walk,
            parallel=True,
        )
    )
