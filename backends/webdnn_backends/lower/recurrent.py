"""RNN, GRU and LSTM: the inputs of all time steps as one matrix product, then one kernel that walks time.

The walking kernel is parallel over directions and batch entries. It keeps the states and the gates of a step in a
working tensor [direction, batch, columns]: the hidden state first, then the cell state of an LSTM, then the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, const, mul, sub
from webdnn_backends.ir.loops import Apply, Assign, Const, Expr, Lane, Load, Local, Loop, Splat, Stmt, Var
from webdnn_backends.ir.rewrite import substitute
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, Operand, loop, nest
from webdnn_backends.lower.elementwise import expm1, hard_sigmoid, like, sigmoid, softplus
from webdnn_backends.lower.formulas import as_type, clamp, less, minus, over, plus, times, wide_dtype
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.simplify import IndexAlgebra, strides
from webdnn_backends.te.tensors import Hint, MatMulHint
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__ = ["Activation", "Layer", "Walk", "activations_of", "layer_of", "lstm_step", "projected_input"]

Activation: TypeAlias = Callable[[Expr], Expr]
Element: TypeAlias = Callable[[Sequence[Expr]], Expr]

_DIRECTIONS = {"forward": (False,), "foward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Whether each direction runs backwards; "foward" is how GRU-1 spells its default."""

_FUNCTIONS: dict[str, tuple[Callable[..., Expr], float | None, float | None]] = {
    "affine": (lambda x, alpha, beta: plus(times(x, alpha), beta), 1.0, 0.0),
    "elu": (lambda x, alpha: build.select(less(x, 0), times(expm1(x), alpha), x), 1.0, None),
    "hardsigmoid": (hard_sigmoid, 0.2, 0.5),
    "leakyrelu": (lambda x, alpha: build.select(less(x, 0), times(x, alpha), x), 0.01, None),
    "relu": (lambda x: apply(Op.MAX, x, like(x, 0)), None, None),
    "scaledtanh": (lambda x, alpha, beta: times(apply(Op.TANH, times(x, beta)), alpha), 1.0, 1.0),
    "sigmoid": (sigmoid, None, None),
    "softplus": (softplus, None, None),
    "softsign": (lambda x: over(x, plus(apply(Op.ABS, x), 1)), None, None),
    "tanh": (lambda x: apply(Op.TANH, x), None, None),
    "thresholdedrelu": (lambda x, alpha: build.select(less(x, alpha), like(x, 0), x), 1.0, None),
}
"""Name in lower case -> function, default alpha, default beta; None where it takes none."""


def activations_of(context: NodeContext, defaults: Sequence[str], directions: int) -> list[list[Activation]]:
    """The activation functions of each direction, clipping included. Raises InvalidModelError."""
    wanted = len(defaults) * directions
    names = context.attribute("activations", ()) or tuple(defaults) * directions
    names = names[:wanted]
    if len(names) != wanted:
        raise InvalidModelError(f"{context.where}: activations: expected {wanted} names, got {list(names)}")
    alphas = iter(context.attribute("activation_alpha", ()))
    betas = iter(context.attribute("activation_beta", ()))
    clip = context.attribute("clip", 0.0)
    functions: list[Activation] = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            raise InvalidModelError(
                f"{context.where}: activations: expected one of {', '.join(sorted(_FUNCTIONS))}, got {name!r}"
            )
        function, alpha, beta = _FUNCTIONS[name.lower()]
        given = [next(values, default) for values, default in ((alphas, alpha), (betas, beta)) if default is not None]
        functions.append(_bound(function, given, clip))
    size = len(defaults)
    return [functions[start : start + size] for start in range(0, wanted, size)]


def _bound(function: Callable[..., Expr], arguments: Sequence[float], clip: float) -> Activation:
    return lambda x: function(clamp(x, -clip, clip) if clip else x, *arguments)


@dataclass(frozen=True)
class Layer:
    """What the operators share. gates: how many; states: 1, or 2 with a cell state.

    steps, batch, hidden: sizes. work: the working tensor of the walking kernel.
    """

    context: NodeContext
    backwards: tuple[bool, ...]
    functions: list[list[Activation]]
    gates: int
    states: int
    batch_first: bool
    steps: Dim
    batch: Dim
    hidden: Dim

    @property
    def scalar(self) -> Scalar:
        return compute_type(wide_dtype(self.context.dtype(0)))

    def activate(self, position: int, x: Expr) -> Expr:
        """The activation at a position of the list of each direction."""
        first = self.functions[0][position](x)
        return first if len(self.functions) == 1 else build.select(_FIRST, first, self.functions[1][position](x))

    def initial(self, index: int, at: Sequence[Expr]) -> Expr:
        """An element [direction, batch, hidden] of an initial state; zero where the input is absent."""
        if not self.context.has(index):
            return const(0, self.scalar)
        d, b, j = at
        return self.context.element(index, [b, d, j] if self.batch_first else [d, b, j])


_D, _B, _J = Var("d"), Var("b"), Var("j")
_FIRST = apply(Op.EQ, _D, Const(0))


def layer_of(
    context: NodeContext, gates: int, states: int, activations: Sequence[str], hidden: Dim | None = None
) -> Layer:
    """What the node's inputs and attributes say. hidden: the size of the state, where R is not [.., gates, hidden]."""
    direction = context.attribute("direction", "forward").lower()
    if direction not in _DIRECTIONS:
        raise InvalidModelError(
            f"{context.where}: direction: expected forward, reverse or bidirectional, got {direction!r}"
        )
    backwards = _DIRECTIONS[direction]
    first, second, _ = context.shape(0)
    batch_first = bool(context.attribute("layout", 0))
    steps, batch = (second, first) if batch_first else (first, second)
    functions = activations_of(context, activations, len(backwards))
    size = context.shape(2)[-1] if hidden is None else hidden
    return Layer(context, backwards, functions, gates, states, batch_first, steps, batch, size)


def projected_input(
    layer: Layer,
    recurrent_bias: Callable[[Expr], Expr | None],
    x: Element | None = None,
    weight: Element | None = None,
    hint: Hint | None = MatMulHint(),  # noqa: B008 - a frozen value
) -> str:
    """X W^T and the biases that are added to it, [direction, time, batch, gates * hidden]; returns its name.

    recurrent_bias: the condition under which a column also takes the bias of the recurrence; None for always.
    x, weight: elements of X as it is stored, and of W by [direction, column, k], where they are not the inputs'.
    """
    context = layer.context
    x = x or (lambda at: context.element(0, at))
    weight = weight or (lambda at: context.element(1, at))
    columns = layer.hidden * layer.gates

    def body(i: Indices) -> Expr:
        d, t, b, g = i
        x_at = [b, t] if layer.batch_first else [t, b]
        total = context.sum([context.shape(0)[2]], lambda k: times(x([*x_at, *k]), weight([d, g, *k])))
        if not context.has(3):
            return total
        total = plus(total, context.element(3, [d, g]))
        other = context.element(3, [d, add(g, build.dim(columns))])
        condition = recurrent_bias(g)
        return plus(total, other if condition is None else build.select(condition, other, like(other, 0)))

    shape = (len(layer.backwards), layer.steps, layer.batch, columns)
    return context.temporary(wide_dtype(context.dtype(0)), shape, body, hint)


def _working(layer: Layer, initial: Sequence[int]) -> str:
    """The working tensor, the initial states in it. initial: the inputs that hold them."""
    hidden = build.dim(layer.hidden)

    def body(i: Indices) -> Expr:
        d, b, column = i
        value: Expr = const(0, layer.scalar)
        for position in range(layer.states - 1, -1, -1):
            if layer.context.has(initial[position]):
                start = mul(hidden, position)
                state = layer.initial(initial[position], (d, b, sub(column, start)))
                inside = apply(Op.LT, column, mul(hidden, position + 1))
                if position:
                    inside = apply(Op.AND, inside, apply(Op.GE, column, start))
                value = build.select(inside, state, value)
        return value

    shape = (len(layer.backwards), layer.batch, layer.hidden * (layer.states + layer.gates))
    return layer.context.temporary(wide_dtype(layer.context.dtype(0)), shape, body)


_VECTOR, _CHAINS = 4, 2


def _vector(term: Expr) -> Expr | None:
    """A term of a sum over `k` at four neighbouring places; None where it is no product of elements side by side."""
    match term:
        case Load(index=index, type=Scalar.F32, lanes=1):
            found_strides = strides(IndexAlgebra({}).to_dim(index), ("k",))
            return replace(term, lanes=_VECTOR) if found_strides == {"k": 1} else None
        case Apply(op=Op.MUL, args=args):
            wide = [_vector(arg) for arg in args]
            found = [arg for arg in wide if arg is not None]
            return Apply(Op.MUL, tuple(found)) if len(found) == len(wide) else None
        case _:
            return None


def _sum_of_vectors(size: int, start: Expr, factors: Expr, weights: Expr) -> tuple[Stmt, ...]:
    """start + sum of factors * weights over `k`, left in `total`; several sums at once, as none waits for another."""
    chains = _CHAINS if size % (_VECTOR * _CHAINS) == 0 else 1
    sums = [Var(f"sum{chain}", Scalar.F32, _VECTOR) for chain in range(chains)]
    step = _VECTOR * chains
    terms = []
    for chain, item in enumerate(sums):
        at: dict[str, Expr] = {"k": add(Var("k"), chain * _VECTOR)}
        pair = substitute(factors, at), substitute(weights, at)
        terms.append(Assign(item.name, Apply(Op.FMA, (*pair, item))))
    total: Expr = sums[0]
    for item in sums[1:]:
        total = Apply(Op.ADD, (total, item))
    kept = Var("sums", Scalar.F32, _VECTOR)
    lanes = [Lane(kept, lane) for lane in range(_VECTOR)]
    result = apply(Op.ADD, apply(Op.ADD, lanes[0], lanes[1]), apply(Op.ADD, lanes[2], lanes[3]))
    return (
        *(Local(item.name, Scalar.F32, Splat(const(0, Scalar.F32), _VECTOR), lanes=_VECTOR) for item in sums),
        Loop("k", Const(size // step), tuple(terms), step=step),
        Local(kept.name, Scalar.F32, total, lanes=_VECTOR),
        Local("total", Scalar.F32, apply(Op.ADD, start, result)),
    )


class Walk:
    """The walking kernel while it is written: its operands and the positions in the working tensor."""

    def __init__(self, layer: Layer, name: str, projected: str, initial: Sequence[int]) -> None:
        self.layer = layer
        context = layer.context
        self.kernel = Direct(context, name)
        self.projected = self.kernel.read(projected)
        self.recurrence = self.kernel.input(2)
        self.weight: Element = self.recurrence.load
        work = context.state.tensor(_working(layer, initial))
        self.work = self.kernel.write(work)
        self.kernel.read(work.name)
        self.name = work.name

    def column(self, block: int, index: Expr) -> list[Expr]:
        """Indices of an element of one block of `hidden` columns: the states first, then the gates."""
        return [_D, _B, add(mul(build.dim(self.layer.hidden), block), index)]

    def state(self, position: int, index: Expr) -> Expr:
        return self.work.load(self.column(position, index))

    def gate(self, position: int, index: Expr) -> Expr:
        return self.work.load(self.column(self.layer.states + position, index))

    def set_state(self, position: int, index: Expr, value: Expr) -> Stmt:
        return self.work.store(self.column(position, index), value)

    def set_gate(self, position: int, index: Expr, value: Expr) -> Stmt:
        return self.work.store(self.column(self.layer.states + position, index), value)

    def input(self, column: Expr) -> Expr:
        """What this time step's input gives to a column of the gates."""
        return self.projected.load([_D, Var("time"), _B, column])

    def recurrent(self, column: Expr, start: Expr, factor: Callable[[Expr], Expr]) -> tuple[Stmt, ...]:
        """start + sum over k of factor(k) R[column, k], left in `total`."""
        k, hidden = Var("k"), self.layer.hidden
        weight = as_type(self.layer.scalar, self.weight([_D, column, k]))
        total = Var("total", self.layer.scalar)
        stored = self.layer.context.dtype(2) is DType.FLOAT32
        if stored and isinstance(hidden, int) and hidden % _VECTOR == 0:
            factors, weights = _vector(factor(k)), _vector(weight)
            if factors is not None and weights is not None:
                return _sum_of_vectors(hidden, start, factors, weights)
        return (
            Local("total", total.type, start),
            loop("k", self.layer.hidden, Assign("total", apply(Op.FMA, factor(k), weight, total))),
        )

    def run(self, *step: Stmt) -> None:
        """The kernel that does `step` for every time, and the outputs read from its states."""
        layer, context = self.layer, self.layer.context
        steps = build.dim(layer.steps)
        length, time, place = self.length(), self.time(), Var("step")
        write: tuple[Stmt, ...] = ()
        silence: tuple[Stmt, ...] = ()
        if context.wants(0):
            y = self.kernel.output(0)
            write = (loop("j", layer.hidden, self.y(y, Var("time"), self.state(0, _J)), independent=True),)
            if context.has(4):
                zeros = loop("j", layer.hidden, self.y(y, place, const(0, layer.scalar)), independent=True)
                silence = (loop("step", sub(steps, Var("length")), zeros, start=Var("length")),)
        body = (
            Local("length", Scalar.I32, length),
            loop("step", Var("length"), Local("time", Scalar.I32, time), *step, *write),
            *silence,
        )
        self.kernel.run(*nest(("d", "b"), (len(layer.backwards), layer.batch), *body, parallel=True))
        self.finish()

    def length(self) -> Expr:
        """How many steps the sequence of a batch entry has."""
        steps = build.dim(self.layer.steps)
        if not self.layer.context.has(4):
            return steps
        return clamp(as_type(Scalar.I32, self.kernel.input(4).load([_B])), 0, steps)

    def time(self) -> Expr:
        """The position in the sequence, of `length`, that a step is about."""
        backwards, place = self.layer.backwards, Var("step")
        reverse = sub(sub(Var("length"), 1), place)
        if backwards == (True,):
            return reverse
        return build.select(_FIRST, place, reverse) if len(backwards) == 2 else place

    def finish(self) -> None:
        """The last states as outputs, once the kernel ran."""
        for position in range(self.layer.states):
            self.layer.context.emit(lambda i, position=position: self._final(i, position), output=1 + position)  # type: ignore[misc]  # a default binds the loop's value

    def y(self, y: Operand, time: Expr, value: Expr) -> Stmt:
        """Give an element of the first output."""
        at = [_B, time, _D, _J] if self.layer.batch_first else [time, _D, _B, _J]
        return y.store(at, value)

    def _final(self, i: Indices, position: int) -> Expr:
        d, b, j = (i[1], i[0], i[2]) if self.layer.batch_first else i
        return self.layer.context.read(self.name, [d, b, add(mul(build.dim(self.layer.hidden), position), j)])


@lowering("RNN")
def _rnn(context: NodeContext) -> None:
    layer = layer_of(context, 1, 1, ("Tanh",))
    walk = Walk(layer, "rnn", projected_input(layer, lambda _: None), (5,))
    total = Var("total", layer.scalar)
    walk.run(
        loop(
            "j",
            layer.hidden,
            *walk.recurrent(_J, walk.input(_J), lambda k: walk.state(0, k)),
            walk.set_gate(0, _J, layer.activate(0, total)),
            independent=True,
        ),
        loop("j", layer.hidden, walk.set_state(0, _J, walk.gate(0, _J)), independent=True),
    )


@lowering("GRU")
def _gru(context: NodeContext) -> None:
    layer = layer_of(context, 3, 1, ("Sigmoid", "Tanh"))
    hidden, total = build.dim(layer.hidden), Var("total", layer.scalar)
    linear = bool(context.attribute("linear_before_reset", 0))
    candidate = mul(hidden, 2)
    projected = projected_input(layer, lambda g: apply(Op.LT, g, candidate) if linear else None)
    walk = Walk(layer, "gru", projected, (5,))
    column = add(candidate, _J)
    if linear:
        bias: Expr = const(0, layer.scalar)
        if context.has(3):
            bias = as_type(layer.scalar, walk.kernel.input(3).load([_D, add(mul(hidden, 5), _J)]))
        reset = walk.recurrent(column, bias, lambda k: walk.state(0, k))
        inner = plus(walk.input(column), times(walk.gate(1, _J), total))
    else:
        reset = walk.recurrent(column, walk.input(column), lambda k: times(walk.gate(1, k), walk.state(0, k)))
        inner = total
    update, old = walk.gate(0, _J), walk.state(0, _J)
    walk.run(
        loop(
            "j",
            layer.hidden * 2,
            *walk.recurrent(_J, walk.input(_J), lambda k: walk.state(0, k)),
            walk.set_gate(0, _J, layer.activate(0, total)),
            independent=True,
        ),
        loop("j", layer.hidden, *reset, walk.set_gate(2, _J, layer.activate(1, inner)), independent=True),
        loop(
            "j",
            layer.hidden,
            walk.set_state(0, _J, plus(times(minus(1, update), walk.gate(2, _J)), times(update, old))),
            independent=True,
        ),
    )


@lowering("LSTM")
def _lstm(context: NodeContext) -> None:
    layer = layer_of(context, 4, 2, ("Sigmoid", "Tanh", "Tanh"))
    walk = Walk(layer, "lstm", projected_input(layer, lambda _: None), (5, 6))
    walk.run(*lstm_step(layer, walk, lambda k: walk.state(0, k)))


def lstm_step(layer: Layer, walk: Walk, previous: Callable[[Expr], Expr]) -> tuple[Stmt, ...]:
    """One step of an LSTM for one direction and batch entry. previous: what R sees of the hidden state."""
    context, hidden = layer.context, build.dim(layer.hidden)
    peepholes = walk.kernel.input(7) if context.has(7) else None
    cell = Var("cell", layer.scalar)

    def peeped(gate: int, position: int, state: Expr) -> Expr:
        """The input of a gate: of i, o, f with what the peephole shows of the cell."""
        x = walk.gate(gate, _J)
        if peepholes is None:
            return x
        weight = as_type(layer.scalar, peepholes.load([_D, add(mul(hidden, position), _J)]))
        return plus(x, times(weight, state))

    old = walk.state(1, _J)
    entry = Var("entry", layer.scalar)
    forget = minus(1, entry) if context.attribute("input_forget", 0) else layer.activate(0, peeped(2, 2, old))
    return (
        loop(
            "j",
            layer.hidden * 4,
            *walk.recurrent(_J, walk.input(_J), previous),
            walk.set_gate(0, _J, Var("total", layer.scalar)),
            independent=True,
        ),
        loop(
            "j",
            layer.hidden,
            Local("entry", layer.scalar, layer.activate(0, peeped(0, 0, old))),
            Local("cell", layer.scalar, plus(times(forget, old), times(entry, layer.activate(1, walk.gate(3, _J))))),
            walk.set_state(1, _J, cell),
            walk.set_state(0, _J, times(layer.activate(0, peeped(1, 1, cell)), layer.activate(2, cell))),
            independent=True,
        ),
    )
