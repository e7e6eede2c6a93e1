"""The optimizer steps of ai.onnx.preview.training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast
from webdnn_backends.ir.loops import Const, Expr
from webdnn_backends.ir.scalars import Op
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.formulas import as_type, minus, over, plus, times
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError

__all__: list[str] = []

_PREVIEW = "ai.onnx.preview.training"

Step = Callable[[Sequence[Expr], Expr], tuple[Expr, ...]]
"""New values from a tensor's element, its gradient's and its states', and the learning rate."""


def _optimize(context: NodeContext, size: int, step: Step) -> None:
    """One step for each of the tensors; the inputs list all tensors, then all gradients, then the states."""
    given = len(context.node.inputs) - 2
    if given < size or given % size:
        raise InvalidModelError(f"{context.where}: inputs: expected a positive multiple of {size}, got {given}")
    tensors = given // size
    for tensor in range(tensors):
        places = [2 + tensor + kind * tensors for kind in range(size)]
        for kind in range(size - 1):

            def body(i: tuple[Expr, ...], places: list[int] = places, kind: int = kind) -> Expr:
                values = [context.element(place, i) for place in places]
                rate = as_type(values[0].type, context.element(0, [0] * context.rank(0)))
                return step(values, rate)[kind]

            context.emit(body, output=tensor + kind * tensors)


def _count(context: NodeContext) -> Expr:
    """The number of updates done so far, as I32."""
    return cast(DType.INT32, context.element(1, [0] * context.rank(1)))


@lowering("Adagrad", domain=_PREVIEW)
def _adagrad(context: NodeContext) -> None:
    decay, epsilon = context.attribute("decay_factor", 0.0), context.attribute("epsilon", 1e-6)
    norm = context.attribute("norm_coefficient", 0.0)

    def step(values: Sequence[Expr], rate: Expr) -> tuple[Expr, ...]:
        x, gradient, squares = values
        slowed = over(rate, plus(times(as_type(rate.type, _count(context)), decay), 1))
        regularized = plus(times(x, norm), gradient)
        total = plus(squares, times(regularized, regularized))
        return minus(x, over(times(slowed, regularized), plus(apply(Op.SQRT, total), epsilon))), total

    _optimize(context, 3, step)


@lowering("Adam", domain=_PREVIEW)
def _adam(context: NodeContext) -> None:
    alpha, beta = context.attribute("alpha", 0.9), context.attribute("beta", 0.999)
    epsilon, norm = context.attribute("epsilon", 1e-6), context.attribute("norm_coefficient", 0.0)
    post = context.attribute("norm_coefficient_post", 0.0)

    def corrected(rate: Expr) -> Expr:
        """The rate with the bias of the first steps taken out."""
        number = as_type(rate.type, _count(context))

        def remainder(base: float) -> Expr:
            return minus(1, apply(Op.POW, build.const(base, rate.type), number))

        factor = over(apply(Op.SQRT, remainder(beta)), remainder(alpha))
        return build.select(apply(Op.GT, _count(context), Const(0)), times(rate, factor), rate)

    def step(values: Sequence[Expr], rate: Expr) -> tuple[Expr, ...]:
        x, gradient, averaged, squares = values
        regularized = plus(times(x, norm), gradient)
        mean = plus(times(averaged, alpha), times(regularized, 1 - alpha))
        power = plus(times(squares, beta), times(times(regularized, regularized), 1 - beta))
        new = minus(x, over(times(corrected(rate), mean), plus(apply(Op.SQRT, power), epsilon)))
        return (new if not post else times(new, 1 - post)), mean, power

    _optimize(context, 4, step)


@lowering("Momentum", domain=_PREVIEW)
def _momentum(context: NodeContext) -> None:
    alpha, beta = context.attribute("alpha", 0.0), context.attribute("beta", 0.0)
    norm, mode = context.attribute("norm_coefficient", 0.0), context.attribute("mode", "standard")
    if mode not in ("standard", "nesterov"):
        raise InvalidModelError(f"{context.where}: mode: expected standard or nesterov, got {mode!r}")

    def step(values: Sequence[Expr], rate: Expr) -> tuple[Expr, ...]:
        x, gradient, velocity = values
        regularized = plus(times(x, norm), gradient)
        started = apply(Op.GT, _count(context), Const(0))
        factor = build.select(started, build.const(beta, x.type), build.const(1, x.type))
        new = plus(times(velocity, alpha), times(factor, regularized))
        direction = plus(regularized, times(new, alpha)) if mode == "nesterov" else new
        return minus(x, times(rate, direction)), new

    _optimize(context, 3, step)
