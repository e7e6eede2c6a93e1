"""Linear models and support vector machines of ai.onnx.ml."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, const, select
from webdnn_backends.ir.loops import Access, Assign, Const, Expr, If, Local, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, Operand, loop
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.ml_scores import (
    DOMAIN,
    arg_max,
    emit_labels,
    emit_transformed,
    features,
    labels_of,
    second_class,
    wide_type,
)
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


def _floats(context: NodeContext, name: str) -> tuple[float, ...]:
    return context.attribute(name, ())


def _table(context: NodeContext, values: tuple[float, ...], *shape: int) -> str:
    """Attributes are float32 whatever the features are."""
    return context.table(np.array(values, np.float32).reshape(shape).astype(wide_type(context).numpy))


def _affine(context: NodeContext) -> tuple[str, Dim, int]:
    """Linear scores [N, E] by coefficients [E, F] and intercepts; the number of rows and of scores."""
    rows, columns, element = features(context)
    coefficients, intercepts = _floats(context, "coefficients"), _floats(context, "intercepts")
    if not isinstance(columns, int):
        raise context.unsupported("a number of features known only at run time")
    if not columns or len(coefficients) % columns:
        raise ShapeError(f"{context.where}: coefficients: expected a multiple of {columns}, got {len(coefficients)}")
    count = len(coefficients) // columns
    weights = _table(context, coefficients, count, columns)
    offsets = _table(context, intercepts, len(intercepts)) if intercepts else ""

    def body(i: Indices) -> Expr:
        total = context.sum(
            [columns], lambda k: apply(Op.MUL, element(i[0], k[0]), context.read(weights, (i[1], k[0])))
        )
        if not offsets:
            return total
        return apply(Op.ADD, total, context.read(offsets, (i[1] if len(intercepts) > 1 else Const(0),)))

    return context.temporary(wide_type(context), (rows, count), body), rows, count


@lowering("LinearRegressor", domain=DOMAIN)
def _linear_regressor(context: NodeContext) -> None:
    scores, rows, count = _affine(context)
    transform = context.attribute("post_transform", "NONE")
    applies = count > 1 or transform == "PROBIT"
    emit_transformed(context, scores, (rows, count), transform if applies else "NONE", 0)


def _positive(context: NodeContext, scores: str, rows: Dim) -> str:
    """1 where the one score of a row is positive, else 0."""

    def body(i: Indices) -> Expr:
        score = context.read(scores, (i[0], Const(0)))
        return cast(DType.INT32, apply(Op.GT, score, like(score, 0)))

    return context.temporary(DType.INT32, (rows,), body)


@lowering("LinearClassifier", domain=DOMAIN)
def _linear_classifier(context: NodeContext) -> None:
    labels = labels_of(context)
    scores, rows, count = _affine(context)
    transform = context.attribute("post_transform", "NONE")
    if count > 1:
        emit_labels(context, arg_max(context, scores, rows, count), labels)
        emit_transformed(context, scores, (rows, count), transform, 1)
        return
    chosen = _positive(context, scores, rows)
    if len(labels) == 2:
        emit_labels(context, chosen, labels)
        second_class(context, scores, rows, transform, symmetric=False)
        return
    emit_labels(context, chosen, np.array([0, 1], np.int64) if isinstance(labels, np.ndarray) else ("0", "1"))
    emit_transformed(context, scores, (rows, 1), "PROBIT" if transform == "PROBIT" else "NONE", 1)


def _kernel(context: NodeContext, count: int) -> tuple[str, Dim]:
    """The kernel of every row with each of `count` support vectors: [N, count]; the number of rows."""
    rows, columns, element = features(context)
    vectors = _table(context, _floats(context, "support_vectors"), count, -1)
    width = context.state.tensors[vectors].shape[1]
    scalar = compute_type(wide_type(context))
    given = (*_floats(context, "kernel_params"), 0.0, 0.0, 0.0)[:3]
    gamma, offset, degree = (const(value, scalar) for value in given)
    kind = context.attribute("kernel_type", "LINEAR")
    del columns

    def total(i: Indices, term: Callable[[Expr, Expr], Expr]) -> Expr:
        return context.sum([width], lambda k: term(element(i[0], k[0]), context.read(vectors, (i[1], k[0]))))

    def squared(a: Expr, b: Expr) -> Expr:
        difference = apply(Op.SUB, a, b)
        return apply(Op.MUL, difference, difference)

    def body(i: Indices) -> Expr:
        if kind == "RBF":
            return apply(Op.EXP, apply(Op.NEG, apply(Op.MUL, gamma, total(i, squared))))
        product = total(i, lambda a, b: apply(Op.MUL, a, b))
        if kind == "LINEAR":
            return product
        moved = apply(Op.ADD, apply(Op.MUL, gamma, product), offset)
        if kind == "SIGMOID":
            return apply(Op.TANH, moved)
        if kind == "POLY":
            return apply(Op.POW, moved, degree)
        raise InvalidModelError(f"{context.where}: kernel_type: expected LINEAR, POLY, RBF or SIGMOID, got '{kind}'")

    return context.temporary(wide_type(context), (rows, count), body), rows


@lowering("SVMRegressor", domain=DOMAIN)
def _svm_regressor(context: NodeContext) -> None:
    supports = context.attribute("n_supports", 0)
    coefficients, rho = _floats(context, "coefficients"), (*_floats(context, "rho"), 0.0)
    rows, _, element = features(context)
    kernels = _kernel(context, supports)[0] if supports else ""
    weights = _table(context, coefficients, len(coefficients))

    def score(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            x = context.read(kernels, (i[0], k[0])) if kernels else element(i[0], k[0])
            return apply(Op.MUL, x, context.read(weights, k))

        total = context.sum([len(coefficients)], term)
        total = apply(Op.ADD, total, like(total, rho[0]))
        if context.attribute("one_class", 0):
            return select(apply(Op.GT, total, like(total, 0)), like(total, 1), like(total, -1))
        return total

    scores = context.temporary(wide_type(context), (rows, 1), score)
    transform = context.attribute("post_transform", "NONE")
    emit_transformed(context, scores, (rows, 1), "PROBIT" if transform == "PROBIT" else "NONE", 0)


@lowering("SVMClassifier", domain=DOMAIN)
def _svm_classifier(context: NodeContext) -> None:
    labels = labels_of(context)
    per_class: tuple[int, ...] = context.attribute("vectors_per_class", ())
    if sum(per_class):
        _support_vectors(context, labels, per_class)
    else:
        _linear_svm(context, labels)


def _linear_svm(
    context: NodeContext, labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | tuple[str, ...]
) -> None:
    rows, columns, element = features(context)
    classes, wide = len(labels), wide_type(context)
    coefficients, rho = _floats(context, "coefficients"), (*_floats(context, "rho"), 0.0)
    weights = _table(context, coefficients, classes, -1)

    def score(i: Indices) -> Expr:
        total = context.sum(
            [columns], lambda k: apply(Op.MUL, element(i[0], k[0]), context.read(weights, (i[1], k[0])))
        )
        return apply(Op.ADD, total, like(total, rho[0]))

    scores = context.temporary(wide, (rows, classes), score)
    chosen = arg_max(context, scores, rows, classes)
    if classes == 2 and not _floats(context, "prob_a"):
        half = all(weight >= 0 for weight in coefficients)

        def second(i: Indices) -> Expr:
            one, two = (context.read(scores, (i[0], Const(k))) for k in (0, 1))
            greatest = apply(Op.MAX, one, two)
            limit = like(greatest, 0.5 if half else 0)
            wins = apply(Op.GE if half else Op.GT, greatest, limit)
            return select(wins, Const(1), context.read(chosen, i))

        emit_labels(context, context.temporary(DType.INT32, (rows,), second), labels)
    else:
        emit_labels(context, chosen, labels)
    emit_transformed(context, scores, (rows, classes), context.attribute("post_transform", "NONE"), 1)


def _support_vectors(
    context: NodeContext,
    labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | tuple[str, ...],
    per_class: tuple[int, ...],
) -> None:
    classes, vectors, wide = len(labels), sum(per_class), wide_type(context)
    kernels, rows = _kernel(context, vectors)
    couples = list(itertools.combinations(range(classes), 2))
    given = np.array(_floats(context, "coefficients"), np.float32).reshape(-1, vectors)
    ends = np.cumsum(per_class)
    parts = [slice(int(end - count), int(end)) for end, count in zip(ends, per_class, strict=True)]
    dense = np.zeros((len(couples), vectors), wide.numpy)
    for index, (i, j) in enumerate(couples):
        dense[index, parts[i]] = given[j - 1, parts[i]]
        dense[index, parts[j]] = given[i, parts[j]]
    weights = context.table(dense)
    offsets = _table(context, _floats(context, "rho"), -1)

    def pairwise(i: Indices) -> Expr:
        total = context.sum(
            [vectors], lambda k: apply(Op.MUL, context.read(kernels, (i[0], k[0])), context.read(weights, (i[1], k[0])))
        )
        return apply(Op.ADD, total, context.read(offsets, (i[1],)))

    scores = context.temporary(wide, (rows, len(couples)), pairwise)
    sides = context.table(np.array(couples, np.int32))

    def wins(i: Indices) -> Expr:
        def vote(k: Indices) -> Expr:
            score = context.read(scores, (i[0], k[0]))
            one, other = (context.read(sides, (k[0], Const(side))) for side in (0, 1))
            winner = select(apply(Op.GT, score, like(score, 0)), one, other)
            return cast(DType.INT32, apply(Op.EQ, winner, i[1]))

        return context.sum([len(couples)], vote)

    votes = context.temporary(DType.INT32, (rows, classes), wins)
    emit_labels(context, arg_max(context, votes, rows, classes), labels)
    transform = context.attribute("post_transform", "NONE")
    if _floats(context, "prob_a"):
        coupled = _coupled(context, scores, rows, classes)
        emit_transformed(context, coupled, (rows, classes), transform, 1)
    elif classes == 2:
        second_class(context, scores, rows, transform, symmetric=transform == "NONE")
    else:
        emit_transformed(context, scores, (rows, len(couples)), transform, 1)


_MOST_STEPS = 100


def _coupled(context: NodeContext, scores: str, rows: Dim, classes: int) -> str:
    """Class probabilities from those of each pair's first class: the second method of Wu, Lin and Weng (2004), with the
    iteration and stopping rule of libsvm."""
    wide = wide_type(context)
    scalar = compute_type(wide)
    couples = list(itertools.combinations(range(classes), 2))
    a, b = (_table(context, _floats(context, name), -1) for name in ("prob_a", "prob_b"))
    place = np.zeros((classes, classes), np.int32)
    for index, (i, j) in enumerate(couples):
        place[i, j] = place[j, i] = index
    places = context.table(place)

    def probability(i: Indices) -> Expr:
        """Of class i[1] against class i[2]."""
        pair = context.read(places, (i[1], i[2]))
        x = context.read(scores, (i[0], pair))
        moved = apply(Op.ADD, apply(Op.MUL, x, context.read(a, (pair,))), context.read(b, (pair,)))
        one = like(moved, 1)
        raw = apply(Op.DIV, one, apply(Op.ADD, one, apply(Op.EXP, moved)))
        bounded = apply(Op.MIN, apply(Op.MAX, raw, like(raw, 1e-7)), like(raw, 1 - 1e-7))
        sided = select(apply(Op.LT, i[1], i[2]), bounded, apply(Op.SUB, one, bounded))
        return select(apply(Op.EQ, i[1], i[2]), like(sided, 0), sided)

    r = context.temporary(wide, (rows, classes, classes), probability)

    def matrix(i: Indices) -> Expr:
        off = apply(Op.NEG, apply(Op.MUL, context.read(r, (i[0], i[2], i[1])), context.read(r, i)))

        def square(k: Indices) -> Expr:
            x = context.read(r, (i[0], k[0], i[1]))
            return apply(Op.MUL, x, x)

        return select(apply(Op.EQ, i[1], i[2]), context.sum([classes], square), off)

    q = context.temporary(wide, (rows, classes, classes), matrix)
    result, products = context.scratch(wide, (rows, classes)), context.scratch(wide, (rows, classes))
    kernel = Direct(context, "pairwise_coupling")
    matrix_in = kernel.read(q)
    p = kernel.write(result, access=Access.READ_WRITE)
    qp = kernel.write(products, access=Access.READ_WRITE)
    _coupling_loops(kernel, matrix_in, p, qp, rows, classes, scalar)
    return result.name


def _coupling_loops(
    kernel: Direct, q: Operand, p: Operand, qp: Operand, rows: Dim, classes: int, scalar: Scalar
) -> None:
    row, i, j = Var("row"), Var("i"), Var("j")
    value, error, step, scale = (Var(name, scalar) for name in ("value", "error", "step", "scale"))
    going = Var("going", Scalar.BOOL)
    zero, one = const(0, scalar), const(1, scalar)
    own = p.load([row, i])
    sum_ = Var("sum", scalar)
    multiply = loop(
        "i",
        classes,
        Local("sum", scalar, zero),
        loop("j", classes, Assign("sum", apply(Op.ADD, sum_, apply(Op.MUL, q.load([row, i, j]), p.load([row, j]))))),
        qp.store([row, i], sum_),
        Assign("value", apply(Op.ADD, value, apply(Op.MUL, own, sum_))),
    )
    far = apply(Op.ABS, apply(Op.SUB, qp.load([row, i]), value))
    measure = loop("i", classes, Assign("error", apply(Op.MAX, error, far)))
    pivot = q.load([row, i, i])
    twice = apply(Op.MUL, const(2, scalar), qp.load([row, i]))
    grown = apply(Op.ADD, value, apply(Op.MUL, step, apply(Op.ADD, apply(Op.MUL, step, pivot), twice)))
    moved = apply(Op.ADD, qp.load([row, j]), apply(Op.MUL, step, q.load([row, i, j])))
    update = loop(
        "i",
        classes,
        Local("step", scalar, apply(Op.DIV, apply(Op.SUB, value, qp.load([row, i])), pivot)),
        Local("scale", scalar, apply(Op.ADD, one, step)),
        Assign("value", apply(Op.DIV, grown, apply(Op.MUL, scale, scale))),
        p.store([row, i], apply(Op.ADD, own, step)),
        loop(
            "j",
            classes,
            qp.store([row, j], apply(Op.DIV, moved, scale)),
            p.store([row, j], apply(Op.DIV, p.load([row, j]), scale)),
        ),
    )
    stop = If(apply(Op.LT, error, const(0.005 / classes, scalar)), (Assign("going", build.FALSE),))
    start = (Local("value", scalar, zero), Local("error", scalar, zero), multiply, measure, stop)
    kernel.run(
        loop(
            "row",
            rows,
            loop("i", classes, p.store([row, i], const(1 / classes, scalar))),
            Local("going", Scalar.BOOL, build.TRUE),
            loop("round", _MOST_STEPS, If(going, (*start, If(going, (update,))))),
            parallel=True,
        )
    )
