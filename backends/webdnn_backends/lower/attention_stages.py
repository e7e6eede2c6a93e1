"""What the attention operators of all domains share: scores, softmax and weighted values as stages.

Scores and probabilities are [batch, key heads, group, queries, keys]: query head h is head h // group of the keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.formulas import as_type, at_least, equal, minus, over, plus, times, wide_dtype
from webdnn_backends.te.tensors import MatMulHint, ReshapeHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError
from webdnn_onnx.graph import Shape
from webdnn_onnx.symbolic import Dim

__all__ = [
    "Heads",
    "Scores",
    "emit_heads",
    "heads_of",
    "mixed",
    "probabilities",
    "rotated",
    "scores_of",
    "softcapped",
]

Element: TypeAlias = Callable[[Expr, Expr, Expr, Expr], Expr]
"""An element by batch, head, position and place within the head."""


@dataclass(frozen=True)
class Heads:
    """Queries, keys or values, [batch, heads, length, size], however they are stored."""

    at: Element
    batch: Dim
    heads: Dim
    length: Dim
    size: Dim

    def stored(self, context: NodeContext, dtype: DType) -> Heads:
        """The same elements computed into a tensor of their own."""
        shape = (self.batch, self.heads, self.length, self.size)
        return heads_of(context, context.temporary(dtype, shape, lambda i: self.at(i[0], i[1], i[2], i[3])))


@dataclass(frozen=True)
class Scores:
    """A tensor [batch, key heads, group, queries, keys] by name."""

    tensor: str
    shape: Shape

    def head(self, i: Indices) -> Expr:
        """The query head of indices into it."""
        return add(mul(i[1], build.dim(self.shape[2])), i[2])

    def split(self, i: Indices) -> Indices:
        """Indices into it from [batch, head, query, key]."""
        b, h, s, t = i
        group = build.dim(self.shape[2])
        return (b, floor_div(h, group), floor_mod(h, group), s, t)


def heads_of(context: NodeContext, tensor: str, heads: Dim = 0, start: Dim = 0, size: Dim | None = None) -> Heads:
    """The heads of a tensor [batch, heads, length, size] or [batch, length, columns], of whose columns those from
    `start` on are heads * size. Raises ShapeError where the columns are no multiple of the heads."""
    shape = context.state.tensor(tensor).shape
    if len(shape) == 4:
        return Heads(lambda b, h, s, d: context.read(tensor, [b, h, s, d]), *shape)
    if len(shape) != 3 or heads == 0 or (size is None and isinstance(shape[2], int) and shape[2] % heads != 0):
        raise ShapeError(
            f"{context.where}: heads: expected [batch, heads, length, size] or [batch, length, {heads} heads * size], "
            f"got {list(shape)}"
        )
    width = shape[2] // heads if size is None else size

    def at(b: Expr, h: Expr, s: Expr, d: Expr) -> Expr:
        return context.read(tensor, [b, s, add(add(mul(h, build.dim(width)), d), build.dim(start))])

    return Heads(at, shape[0], heads, shape[1], width)


def scores_of(context: NodeContext, q: Heads, k: Heads, scale: float) -> Scores:
    """Scaled dot products of queries and keys; 0 stands for 1 / sqrt(head size)."""
    group = q.heads // k.heads
    if isinstance(q.heads, int) and isinstance(k.heads, int) and (k.heads == 0 or q.heads % k.heads):
        raise ShapeError(
            f"{context.where}: heads: expected those of Q a multiple of those of K, got {q.heads}, {k.heads}"
        )
    wide = wide_dtype(context.dtype(0))
    shape = (q.batch, k.heads, group, q.length, k.length)

    def body(i: Indices) -> Expr:
        b, h, g, s, t = i
        head = add(mul(h, build.dim(group)), g)
        total = context.sum([q.size], lambda d: times(q.at(b, head, s, d[0]), k.at(b, h, t, d[0])))
        if scale or isinstance(q.size, int):
            return times(total, scale or 1 / math.sqrt(q.size))  # type: ignore[arg-type]  # a number here
        return over(total, apply(Op.SQRT, as_type(total.type, build.dim(q.size))))

    return Scores(context.temporary(wide, shape, body, MatMulHint()), shape)


def softcapped(x: Expr, softcap: float) -> Expr:
    """x bounded smoothly to [-softcap, softcap]; 0 leaves it alone."""
    return times(apply(Op.TANH, over(x, softcap)), softcap) if softcap else x


def probabilities(
    context: NodeContext,
    scores: Scores,
    *,
    rounded: Callable[[Expr], Expr] = lambda x: x,
    sink: Callable[[Indices], Expr] | None = None,
) -> Scores:
    """Softmax of each row; a row of -infinity gives zeros.

    rounded: the precision of scores and results. sink: a logit for each row, given indices into the scores, that takes
    part in the normalisation.
    """
    wide = wide_dtype(context.dtype(0))
    *lead, keys = scores.shape
    row = (*lead, 1)

    def score(i: Indices, k: Expr) -> Expr:
        return rounded(context.read(scores.tensor, [*i[:-1], k]))

    def greatest(i: Indices) -> Expr:
        peak = context.reduce(ReduceOp.MAX, [keys], lambda k: score(i, k[0]))
        if sink is not None:
            peak = at_least(peak, sink(i))
        return build.select(equal(peak, -math.inf), like(peak, 0), peak)

    peak = context.temporary(wide, row, greatest)

    def exponential(i: Indices, k: Expr) -> Expr:
        return apply(Op.EXP, minus(score(i, k), context.read(peak, [*i[:-1], Const(0)])))

    def summed(i: Indices) -> Expr:
        total = context.sum([keys], lambda k: exponential(i, k[0]))
        if sink is not None:
            total = plus(total, apply(Op.EXP, minus(sink(i), context.read(peak, [*i[:-1], Const(0)]))))
        return build.select(equal(total, 0), like(total, 1), total)

    total = context.temporary(wide, row, summed)
    result = context.temporary(
        wide,
        scores.shape,
        lambda i: rounded(over(exponential(i, i[-1]), context.read(total, [*i[:-1], Const(0)]))),
    )
    return Scores(result, scores.shape)


def mixed(context: NodeContext, weights: Scores, v: Heads) -> Scores:
    """Sums of values weighted by probabilities: [batch, key heads, group, queries, value size]."""
    batch, heads, group, queries, keys = weights.shape
    shape = (batch, heads, group, queries, v.size)

    def body(i: Indices) -> Expr:
        b, h, g, s, e = i
        return context.sum(
            [keys], lambda t: times(context.read(weights.tensor, [b, h, g, s, t[0]]), v.at(b, h, t[0], e))
        )

    return Scores(context.temporary(wide_dtype(context.dtype(0)), shape, body, MatMulHint()), shape)


def emit_heads(
    context: NodeContext, result: Scores, *, output: int = 0, shown: Callable[[Indices, Expr], Expr] | None = None
) -> None:
    """Give an output [batch, heads, queries, size] or [batch, queries, heads * size] from `mixed`.

    shown: what becomes of the value at [batch, head, query, place].
    """
    if not context.wants(output):
        return
    rank = len(context.output(output).shape)
    size = build.dim(result.shape[-1])

    def body(i: Indices) -> Expr:
        at = i if rank == 4 else (i[0], floor_div(i[2], size), i[1], floor_mod(i[2], size))
        value = context.read(result.tensor, result.split(at))
        return value if shown is None else shown(at, value)

    hint = ReshapeHint(result.tensor) if rank == 4 and shown is None else None
    context.emit(body, output=output, hint=hint)


def rotated(
    x: Heads,
    half: Dim,
    cos: Callable[[Expr, Expr, Expr], Expr],
    sin: Callable[[Expr, Expr, Expr], Expr],
    interleaved: int,
) -> Heads:
    """Rotary position embedding of the first 2 * half elements of each head; the rest is kept.

    cos, sin: an angle's by batch, position in the sequence and pair.
    """
    pairs, turning = build.dim(half), build.dim(half * 2)

    def at(b: Expr, h: Expr, s: Expr, d: Expr) -> Expr:
        if interleaved:
            pair = floor_div(d, 2)
            is_second = equal(floor_mod(d, 2), 1)
            first, second = mul(pair, 2), add(mul(pair, 2), 1)
        else:
            is_second = apply(Op.GE, d, pairs)
            pair = build.select(is_second, build.sub(d, pairs), d)
            first, second = pair, add(pair, pairs)
        c, n = cos(b, s, pair), sin(b, s, pair)
        real, imaginary = x.at(b, h, s, first), x.at(b, h, s, second)
        c, n = as_type(real.type, c), as_type(real.type, n)
        value = build.select(
            is_second, plus(times(n, real), times(c, imaginary)), minus(times(c, real), times(n, imaginary))
        )
        if half * 2 == x.size:
            return value
        return build.select(apply(Op.LT, d, turning), value, x.at(b, h, s, d))

    return Heads(at, x.batch, x.heads, x.length, x.size)


def in_precision(precision: DType | None, x: Expr) -> Expr:
    """Rounded to a float type and held in x's type."""
    if precision is None or precision.bits >= x.type.bits:
        return x
    return as_type(x.type, cast(precision, x))
