"""Tree ensembles of ai.onnx.ml: a kernel that walks every tree for a row, over tables of nodes and votes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, cast, const, select
from webdnn_backends.ir.loops import Access, Assign, Const, Expr, If, Local, Stmt, Var
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, loop
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
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

Array = npt.NDArray[Any]

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER", "LEAF")
_MEMBER, _LEAF = 6, 7
_EQUAL = 4
_COMPARISONS = (Op.LE, Op.LT, Op.GE, Op.GT, Op.EQ, Op.NE)
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_COLUMNS = _MODE, _FEATURE, _TRUE, _FALSE, _MISSING, _START, _END = range(7)


@dataclass
class Forest:
    """nodes: one row of `_COLUMNS` per node. splits: by node. targets, weights: of votes, which nodes list by range."""

    roots: list[int]
    nodes: list[list[int]]
    splits: list[float]
    targets: Array
    weights: Array

    def depth(self) -> int:
        """The most steps from a root to a leaf. Raises InvalidModelError where nodes form a cycle."""
        level, steps = set(self.roots), 0
        while level := {
            node[side] for at in level for node in [self.nodes[at]] if node[_MODE] != _LEAF for side in (_TRUE, _FALSE)
        }:
            steps += 1
            if steps > len(self.nodes):
                raise InvalidModelError("nodes: expected trees, got a cycle")
        return steps


def _forest_by_names(context: NodeContext, votes: str) -> Forest:
    """The trees of TreeEnsembleClassifier and TreeEnsembleRegressor; votes: the prefix of the leaves' attributes."""

    def integers(name: str) -> tuple[int, ...]:
        return context.attribute(name, ())

    trees, ids = integers("nodes_treeids"), integers("nodes_nodeids")
    place = {key: index for index, key in enumerate(zip(trees, ids, strict=True))}
    missing = integers("nodes_missing_value_tracks_true") or (0,) * len(trees)
    modes: tuple[str, ...] = context.attribute("nodes_modes", ())
    by_node: dict[int, list[int]] = {}
    for vote, key in enumerate(zip(integers(f"{votes}_treeids"), integers(f"{votes}_nodeids"), strict=True)):
        by_node.setdefault(place[key], []).append(vote)
    order: list[int] = []
    nodes: list[list[int]] = []
    try:
        for index, tree in enumerate(trees):
            mode = _MODES.index(modes[index])
            children = [0, 0]
            if mode != _LEAF:
                sides = (integers("nodes_truenodeids")[index], integers("nodes_falsenodeids")[index])
                children = [place[tree, side] for side in sides]
            start = len(order)
            order += by_node.get(index, [])
            feature = integers("nodes_featureids")[index]
            nodes.append([mode, feature, *children, missing[index], start, len(order)])
    except (KeyError, ValueError) as error:
        raise InvalidModelError(f"{context.where}: nodes: expected known modes and children, got {error}") from None
    splits = _numbers(context, "nodes_values")
    targets = np.array(integers(f"{votes}_ids"), np.int32)[order]
    roots = sorted({tree: index for index, tree in reversed(list(enumerate(trees)))}.values())
    return Forest(roots, nodes, [float(x) for x in splits], targets, _numbers(context, f"{votes}_weights")[order])


def _numbers(context: NodeContext, name: str) -> Array:
    """Numbers given as floats or, in double precision, as a tensor."""
    tensor: Array | None = context.attribute(f"{name}_as_tensor", None)
    return tensor.reshape(-1) if tensor is not None else np.array(context.attribute(name, ()), np.float32)


def _forest_by_position(context: NodeContext) -> Forest:
    """The trees of TreeEnsemble; a set of members becomes a chain of comparisons."""
    attributes: Mapping[str, Any] = context.node.attributes
    inner = len(attributes["nodes_featureids"])
    missing = attributes.get("nodes_missing_value_tracks_true") or (0,) * inner
    nodes: list[list[int]] = []
    splits = [float(x) for x in attributes["nodes_splits"].reshape(-1)]
    members = _member_sets(attributes.get("membership_values"))
    modes = [int(mode) for mode in attributes["nodes_modes"].reshape(-1)]

    def child(side: str, index: int) -> int:
        target = int(attributes[f"nodes_{side}nodeids"][index])
        return target + inner if attributes[f"nodes_{side}leafs"][index] else target

    for index in range(inner):
        sides = [child("true", index), child("false", index)]
        nodes.append([modes[index], int(attributes["nodes_featureids"][index]), *sides, int(missing[index]), 0, 0])
    count = len(attributes["leaf_targetids"])
    nodes += [[_LEAF, 0, 0, 0, 0, leaf, leaf + 1] for leaf in range(count)]
    splits += [0.0] * count
    for index in range(inner):
        if modes[index] != _MEMBER:
            continue
        values = next(members)
        miss = nodes[index][_FALSE]
        nodes[index][_MODE] = _EQUAL
        splits[index] = values[0] if values else float("nan")
        at = index
        for value in values[1:]:
            nodes[at][_FALSE] = len(nodes)
            at = len(nodes)
            nodes.append([_EQUAL, *nodes[index][1:3], miss, *nodes[index][4:]])
            splits.append(value)
        nodes[at][_FALSE] = miss
    targets = np.array(attributes["leaf_targetids"], np.int32)
    return Forest(list(attributes["tree_roots"]), nodes, splits, targets, attributes["leaf_weights"].reshape(-1))


def _member_sets(values: Array | None) -> Iterator[list[float]]:
    found: list[float] = []
    for value in values.reshape(-1).tolist() if values is not None else ():
        if np.isnan(value):
            yield found
            found = []
        else:
            found.append(value)


def _scores(context: NodeContext, forest: Forest, count: int, aggregate: str, base: Array) -> tuple[str, str, Dim]:
    """Aggregated votes [N, count] with base values added, and how many votes each of them got; the number of rows."""
    rows, _, _ = features(context)
    wide = wide_type(context)
    scalar = compute_type(wide)
    kernel = Direct(context, "trees")
    x = kernel.input(0)
    table = kernel.read(context.table(np.array(forest.nodes, np.int32)))
    splits = kernel.read(context.table(np.array(forest.splits, wide.numpy)))
    roots = kernel.read(context.table(np.array(forest.roots, np.int32)))
    targets = kernel.read(context.table(forest.targets.astype(np.int32)))
    weights = kernel.read(context.table(forest.weights.astype(wide.numpy)))
    scores, votes = context.scratch(wide, (rows, count)), context.scratch(DType.INT32, (rows, count))
    score, vote = kernel.write(scores, access=Access.READ_WRITE), kernel.write(votes, access=Access.READ_WRITE)
    row, node, value, split, mode = Var("row"), Var("node"), Var("value", scalar), Var("split", scalar), Var("mode")
    target, weight = Var("target"), Var("weight", scalar)
    feature = table.load([node, _FEATURE])
    given = x.load([feature] if len(context.shape(0)) == 1 else [row, feature])
    taken: Expr = apply(_COMPARISONS[-1], value, split)
    for index in range(len(_COMPARISONS) - 2, -1, -1):
        taken = select(apply(Op.EQ, mode, Const(index)), apply(_COMPARISONS[index], value, split), taken)
    missing = apply(Op.NE, table.load([node, _MISSING]), Const(0))
    taken = select(apply(Op.IS_NAN, value), missing, taken)
    walk: tuple[Stmt, ...] = (
        Local("mode", Scalar.I32, table.load([node, _MODE])),
        If(
            apply(Op.NE, mode, Const(_LEAF)),
            (
                Local("value", scalar, cast(wide, given)),
                Local("split", scalar, splits.load([node])),
                Assign("node", select(taken, table.load([node, _TRUE]), table.load([node, _FALSE]))),
            ),
        ),
    )
    here = score.load([row, target])
    first = apply(Op.EQ, vote.load([row, target]), Const(0))
    combined = {
        "MIN": select(first, weight, apply(Op.MIN, here, weight)),
        "MAX": select(first, weight, apply(Op.MAX, here, weight)),
    }.get(aggregate, apply(Op.ADD, here, weight))
    count_vote = vote.store([row, target], add(vote.load([row, target]), 1))
    at = Var("at")
    start, end = table.load([node, _START]), table.load([node, _END])
    kernel.run(
        loop(
            "row",
            rows,
            loop(
                "target",
                count,
                score.store([row, target], const(0, scalar)),
                vote.store([row, target], Const(0)),
            ),
            loop(
                "tree",
                len(forest.roots),
                Local("node", Scalar.I32, roots.load([Var("tree")])),
                loop("step", forest.depth(), *walk),
                loop(
                    "at",
                    build.sub(end, start),
                    Local("target", Scalar.I32, targets.load([at])),
                    Local("weight", scalar, weights.load([at])),
                    score.store([row, target], combined),
                    count_vote,
                    start=start,
                ),
            ),
            parallel=True,
        )
    )
    offsets = context.table(base.astype(wide.numpy)) if base.size else ""
    divisor = len(forest.roots) if aggregate == "AVERAGE" else 1

    def body(i: Indices) -> Expr:
        total = context.read(scores.name, i)
        total = apply(Op.DIV, total, const(divisor, scalar)) if divisor > 1 else total
        return apply(Op.ADD, total, context.read(offsets, (i[1],))) if offsets else total

    finished = context.temporary(wide, (rows, count), body) if offsets or divisor > 1 else scores.name
    return finished, votes.name, rows


@lowering("TreeEnsembleRegressor", domain=DOMAIN)
def _regressor(context: NodeContext) -> None:
    count = context.attribute("n_targets", 1)
    base = _numbers(context, "base_values")
    aggregate = context.attribute("aggregate_function", "SUM")
    forest = _forest_by_names(context, "target")
    base = base if base.size == count else base[:0]
    scores, _, rows = _scores(context, forest, count, aggregate, base)
    _emit_regression(context, scores, (rows, count), context.attribute("post_transform", "NONE"))


@lowering("TreeEnsemble", since=5, domain=DOMAIN)
def _ensemble(context: NodeContext) -> None:
    count = context.attribute("n_targets", 1)
    aggregate = _AGGREGATES[context.attribute("aggregate_function", 1)]
    scores, _, rows = _scores(context, _forest_by_position(context), count, aggregate, np.zeros(0, np.float32))
    _emit_regression(context, scores, (rows, count), _TRANSFORMS[context.attribute("post_transform", 0)])


def _emit_regression(context: NodeContext, scores: str, shape: tuple[Dim, int], transform: str) -> None:
    """Of the transforms only PROBIT applies to a single column."""
    applies = shape[1] > 1 or transform == "PROBIT"
    emit_transformed(context, scores, shape, transform if applies else "NONE", 0)


@lowering("TreeEnsembleClassifier", domain=DOMAIN)
def _classifier(context: NodeContext) -> None:
    labels = labels_of(context)
    count = len(labels)
    transform = context.attribute("post_transform", "NONE")
    base = _numbers(context, "base_values")
    forest = _forest_by_names(context, "class")
    voters = np.unique(forest.targets)
    if count == 2 and len(voters) == 1 and base.size < 2:
        _one_voter(context, forest, int(voters[0]), base, transform)
        return
    padded = np.concatenate([base, np.zeros(count - base.size, base.dtype)]) if base.size else base
    scores, votes, rows = _scores(context, forest, count, "SUM", padded)
    scalar = compute_type(wide_type(context))

    def eligible(i: Indices) -> Expr:
        """A class without votes and without a base value is not chosen."""
        voted = apply(Op.GT, context.read(votes, i), Const(0))
        if base.size:
            voted = apply(Op.OR, voted, apply(Op.LT, i[1], Const(int(base.size))))
        return select(voted, context.read(scores, i), const(float("-inf"), scalar))

    chosen = arg_max(context, context.temporary(wide_type(context), (rows, count), eligible), rows, count)
    emit_labels(context, chosen, labels)
    emit_transformed(context, scores, (rows, count), transform, 1)


def _one_voter(context: NodeContext, forest: Forest, voter: int, base: Array, transform: str) -> None:
    """Two classes of which only one has votes: they speak for the second class.

    Where no weight is negative they are taken for a probability: the second class wins above one half, and a lone
    first class shows the complement. Else it wins above zero, and a lone first class shows the negated score. Votes for
    the second class alone leave the first at zero.
    """
    forest.targets = np.zeros_like(forest.targets)
    scores, _, rows = _scores(context, forest, 1, "SUM", base[:1])
    probability = bool((forest.weights >= 0).all())
    scalar = compute_type(wide_type(context))

    def wins(i: Indices) -> Expr:
        score = context.read(scores, (i[0], Const(0)))
        return cast(DType.INT32, apply(Op.GT, score, const(0.5 if probability else 0, scalar)))

    chosen = context.temporary(DType.INT32, (rows,), wins)
    emit_labels(context, chosen, labels_of(context))
    if voter == 0:
        second_class(context, scores, rows, transform, symmetric=not probability)
        return

    def pair(i: Indices) -> Expr:
        score = context.read(scores, (i[0], Const(0)))
        return select(apply(Op.EQ, i[1], Const(0)), const(0, scalar), score)

    both = context.temporary(wide_type(context), (rows, 2), pair)
    emit_transformed(context, both, (rows, 2), transform, 1)
