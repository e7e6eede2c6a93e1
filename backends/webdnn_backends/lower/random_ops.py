"""Operators that draw random numbers, and Dropout.

The specification fixes distributions, not numbers. Numbers come from Threefry-2x32 with 20 rounds, a function of a key
and a counter, so that every element is drawn by itself (Salmon et al., Parallel random numbers: as easy as 1, 2, 3,
2011). A node with a `seed` draws the same numbers in every run; the others take a new key from the host in every run.
Dropout with a seed draws from MT19937 as the published test data does.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, floor_div, floor_mod, mul
from webdnn_backends.ir.loops import Access, Assign, Const, Expr, If, Local, ReduceOp, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, loop
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.movement import flat_index
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import Host
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, product

__all__: list[str] = []

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def _u32(value: int) -> Expr:
    return const(value, Scalar.U32)


def _key(context: NodeContext) -> str:
    """The tensor of two words that fixes the numbers of a node."""
    seed: float | int | None = context.attribute("seed", None)
    if seed is not None:
        words = (struct.unpack("<I", struct.pack("<f", seed))[0], 0)
        return context.table(np.array(words, np.uint32))
    key = context.scratch(DType.UINT32, (2,))
    context.state.items.append(Host("random_key", (), (key.name,), {}, context.node.source))
    return key.name


def random_words(context: NodeContext, count: Dim) -> str:
    """Two random words for each of `count` elements: uint32[count, 2]."""
    words = context.scratch(DType.UINT32, (count, 2))
    kernel = Direct(context, "threefry")
    key, target = kernel.read(_key(context)), kernel.write(words)
    x, y = Var("x", Scalar.U32), Var("y", Scalar.U32)
    keys = [Var(f"key{k}", Scalar.U32) for k in range(3)]
    element = Var("element")
    third = apply(Op.BIT_XOR, apply(Op.BIT_XOR, keys[0], keys[1]), _u32(_PARITY))
    body: list[Stmt] = [
        Local("key0", Scalar.U32, key.load([0])),
        Local("key1", Scalar.U32, key.load([1])),
        Local("key2", Scalar.U32, third),
        Local("x", Scalar.U32, apply(Op.ADD, cast(DType.UINT32, element), keys[0])),
        Local("y", Scalar.U32, keys[1]),
    ]
    for step in range(20):
        turn = _ROTATIONS[step % 8]
        turned = apply(Op.BIT_OR, apply(Op.SHL, y, _u32(turn)), apply(Op.SHR, y, _u32(32 - turn)))
        body += [Assign("x", apply(Op.ADD, x, y)), Assign("y", apply(Op.BIT_XOR, turned, x))]
        if step % 4 == 3:
            group = step // 4 + 1
            injected = apply(Op.ADD, keys[(group + 1) % 3], _u32(group))
            body += [
                Assign("x", apply(Op.ADD, x, keys[group % 3])),
                Assign("y", apply(Op.ADD, y, injected)),
            ]
    body += [target.store([element, 0], x), target.store([element, 1], y)]
    kernel.run(loop("element", count, *body, parallel=True))
    return words.name


def _uniform(context: NodeContext, words: str, at: Expr, *, wide: bool) -> Expr:
    """A number in [0, 1): 24 bits of the first word, or 53 of both."""
    first = context.read(words, (at, Const(0)))
    if not wide:
        return apply(Op.MUL, cast(DType.FLOAT32, apply(Op.SHR, first, _u32(8))), const(2.0**-24, Scalar.F32))
    high = cast(DType.FLOAT64, apply(Op.SHR, first, _u32(5)))
    low = cast(DType.FLOAT64, apply(Op.SHR, context.read(words, (at, Const(1))), _u32(6)))
    whole = apply(Op.ADD, apply(Op.MUL, high, const(2.0**26, Scalar.F64)), low)
    return apply(Op.MUL, whole, const(2.0**-53, Scalar.F64))


def _normal(context: NodeContext, words: str, at: Expr, *, wide: bool) -> Expr:
    """A normally distributed number, by Box and Muller."""
    dtype, scalar = (DType.FLOAT64, Scalar.F64) if wide else (DType.FLOAT32, Scalar.F32)

    def fraction(word: int, above: int) -> Expr:
        drawn = apply(Op.SHR, context.read(words, (at, Const(word))), _u32(8))
        return apply(Op.MUL, cast(dtype, apply(Op.ADD, drawn, _u32(above))), const(2.0**-24, scalar))

    radius = apply(Op.SQRT, apply(Op.MUL, const(-2.0, scalar), apply(Op.LOG, fraction(0, 1))))
    return apply(Op.MUL, radius, apply(Op.COS, apply(Op.MUL, const(2 * math.pi, scalar), fraction(1, 0))))


def _draw(context: NodeContext, number: Callable[[Expr], Expr], scale: float, offset: float) -> None:
    """Numbers of the output's shape, scaled and moved."""
    shape = context.output().shape

    def body(i: Indices) -> Expr:
        x = number(flat_index(i, shape))
        return apply(Op.ADD, apply(Op.MUL, x, like(x, scale)), like(x, offset))

    context.emit(body)


@lowering("RandomUniform")
@lowering("RandomUniformLike")
def _random_uniform(context: NodeContext) -> None:
    low, high = context.attribute("low", 0.0), context.attribute("high", 1.0)
    output = context.output()
    words = random_words(context, output.elements)
    wide = output.dtype is DType.FLOAT64
    _draw(context, lambda at: _uniform(context, words, at, wide=wide), high - low, low)


@lowering("RandomNormal")
@lowering("RandomNormalLike")
def _random_normal(context: NodeContext) -> None:
    output = context.output()
    words = random_words(context, output.elements)
    wide = output.dtype is DType.FLOAT64
    mean, scale = context.attribute("mean", 0.0), context.attribute("scale", 1.0)
    _draw(context, lambda at: _normal(context, words, at, wide=wide), scale, mean)


@lowering("Bernoulli", since=15)
def _bernoulli(context: NodeContext) -> None:
    shape, dtype = context.shape(0), context.output().dtype
    words = random_words(context, product(list(shape)))
    wide = context.dtype(0) is DType.FLOAT64

    def body(i: Indices) -> Expr:
        hit = apply(Op.LT, _uniform(context, words, flat_index(i, shape), wide=wide), context.element(0, i))
        scalar = compute_type(dtype)
        return hit if scalar is Scalar.BOOL else build.select(hit, const(1, scalar), const(0, scalar))

    context.emit(body)


@lowering("Multinomial", since=7)
def _multinomial(context: NodeContext) -> None:
    batch, classes = context.shape(0)
    samples, dtype = context.attribute("sample_size", 1), context.output().dtype
    wide = DType.FLOAT64 if context.dtype(0) is DType.FLOAT64 else DType.FLOAT32
    words = random_words(context, batch * samples)
    peak = context.temporary(
        wide, (batch,), lambda i: context.reduce(ReduceOp.MAX, [classes], lambda k: context.element(0, (i[0], k[0])))
    )
    weights = context.temporary(
        wide,
        (batch, classes),
        lambda i: apply(Op.EXP, apply(Op.SUB, context.element(0, i), context.read(peak, (i[0],)))),
    )
    totals = context.temporary(
        wide, (batch,), lambda i: context.sum([classes], lambda k: context.read(weights, (i[0], k[0])))
    )
    points = context.temporary(
        wide,
        (batch, samples),
        lambda i: apply(
            Op.MUL,
            _uniform(context, words, add(mul(i[0], samples), i[1]), wide=wide is DType.FLOAT64),
            context.read(totals, (i[0],)),
        ),
    )
    kernel = Direct(context, "multinomial")
    weight, point, target = kernel.read(weights), kernel.read(points), kernel.output()
    scalar = compute_type(wide)
    row, sample, chosen, sum_ = Var("row"), Var("sample"), Var("chosen"), Var("sum", scalar)
    last = build.sub(build.dim(classes), 1)
    past = apply(Op.LE, sum_, Var("point", scalar))
    kernel.run(
        loop(
            "row",
            batch,
            loop(
                "sample",
                samples,
                Local("point", scalar, point.load([row, sample])),
                Local("sum", scalar, const(0, scalar)),
                Local("chosen", Scalar.I32, Const(0)),
                loop(
                    "k",
                    classes,
                    Assign("sum", apply(Op.ADD, sum_, weight.load([row, Var("k")]))),
                    If(past, (Assign("chosen", add(chosen, 1)),)),
                ),
                target.store([row, sample], cast(dtype, apply(Op.MIN, chosen, last))),
                parallel=True,
            ),
            parallel=True,
        )
    )


_STATE = 624
_MIDDLE = 397


def _twister_words(context: NodeContext, seed: int, count: Dim) -> str:
    """Two words of MT19937 for each element: uint32[count, 2]. In order, hence by one invocation."""
    words = context.scratch(DType.UINT32, (count, 2))
    memory = context.scratch(DType.UINT32, (_STATE,))
    kernel = Direct(context, "mt19937")
    state, target = kernel.write(memory, access=Access.READ_WRITE), kernel.write(words)
    at, y = Var("at"), Var("y", Scalar.U32)
    place = Var("place")
    before = state.load([build.sub(at, 1)])
    spread = apply(Op.MUL, apply(Op.BIT_XOR, before, apply(Op.SHR, before, _u32(30))), _u32(1812433253))
    upper = apply(Op.BIT_AND, state.load([place]), _u32(0x80000000))
    lower = apply(Op.BIT_AND, state.load([floor_mod(add(place, 1), _STATE)]), _u32(0x7FFFFFFF))
    far = state.load([floor_mod(add(place, _MIDDLE), _STATE)])
    odd = apply(Op.MUL, apply(Op.BIT_AND, y, _u32(1)), _u32(0x9908B0DF))
    mixed = apply(Op.BIT_XOR, apply(Op.BIT_XOR, far, apply(Op.SHR, y, _u32(1))), odd)

    def temper(shift: int, op: Op, mask: int) -> Stmt:
        return Assign("y", apply(Op.BIT_XOR, y, apply(Op.BIT_AND, apply(op, y, _u32(shift)), _u32(mask))))

    kernel.run(
        state.store([0], _u32(seed % (1 << 32))),
        loop(
            "at",
            _STATE - 1,
            state.store([at], apply(Op.ADD, spread, cast(DType.UINT32, at))),
            start=Const(1),
        ),
        loop(
            "at",
            count * 2,
            Local("place", Scalar.I32, floor_mod(at, _STATE)),
            Local("y", Scalar.U32, apply(Op.BIT_OR, upper, lower)),
            Assign("y", mixed),
            state.store([place], y),
            temper(11, Op.SHR, 0xFFFFFFFF),
            temper(7, Op.SHL, 0x9D2C5680),
            temper(15, Op.SHL, 0xEFC60000),
            temper(18, Op.SHR, 0xFFFFFFFF),
            target.store([floor_div(at, 2), floor_mod(at, 2)], y),
        ),
    )
    return words.name


@lowering("Dropout")
def _dropout(context: NodeContext) -> None:
    opset = context.node.opset
    training: Expr = build.TRUE
    if opset >= 12:
        given = context.constant(2)
        fixed = not context.has(2) or (given is not None and not bool(given))
        training = build.FALSE if fixed else context.element(2, (Const(0),) * context.rank(2))
    elif opset >= 7 or context.attribute("is_test", 0):
        training = build.FALSE
    if training == build.FALSE:
        context.emit(lambda i: context.element(0, i))
        _mask(context, lambda _: build.TRUE)
        return
    shape = context.shape(0)
    zero = (Const(0),) * (context.rank(1) if context.has(1) else 0)
    wide = context.has(1) and context.dtype(1) is DType.FLOAT64
    scalar = Scalar.F64 if wide else Scalar.F32
    ratio = context.element(1, zero) if context.has(1) else const(context.attribute("ratio", 0.5), scalar)
    seed: int | None = context.attribute("seed", None)
    count = product(list(shape))
    words = random_words(context, count) if seed is None else _twister_words(context, seed, count)

    def kept(i: Indices) -> Expr:
        """u >= ratio for u = (a * 2^26 + b) / 2^53, compared in whole numbers that float32 holds exactly."""
        at = flat_index(i, shape)
        a, b = (
            cast(DType.INT32, apply(Op.SHR, context.read(words, (at, Const(word))), _u32(5 + word))) for word in (0, 1)
        )
        scaled = apply(Op.MUL, ratio, const(2.0**27, scalar))
        whole = apply(Op.FLOOR, scaled)
        part = apply(Op.CEIL, apply(Op.MUL, apply(Op.SUB, scaled, whole), const(2.0**26, scalar)))
        high, low = cast(DType.INT32, whole), cast(DType.INT32, part)
        level = apply(Op.AND, apply(Op.EQ, a, high), apply(Op.GE, b, low))
        drawn = apply(Op.OR, apply(Op.GT, a, high), level)
        return apply(Op.OR, apply(Op.NOT, training), drawn)

    mask = context.temporary(DType.BOOL, shape, kept)

    def body(i: Indices) -> Expr:
        x = context.element(0, i)
        factor = apply(Op.DIV, const(1.0, scalar), apply(Op.SUB, const(1.0, scalar), ratio))
        own = cast(DType.FLOAT64 if x.type is Scalar.F64 else DType.FLOAT32, factor)
        dropped = build.select(context.read(mask, i), apply(Op.MUL, x, own), like(x, 0))
        return build.select(training, dropped, x)

    context.emit(body)
    _mask(context, lambda i: context.read(mask, i))


def _mask(context: NodeContext, kept: Callable[[Indices], Expr]) -> None:
    if not context.wants(1):
        return
    scalar = compute_type(context.output(1).dtype)

    def body(i: Indices) -> Expr:
        return kept(i) if scalar is Scalar.BOOL else build.select(kept(i), const(1, scalar), const(0, scalar))

    context.emit(body, output=1)
