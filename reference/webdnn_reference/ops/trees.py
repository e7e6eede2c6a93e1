"""Tree ensembles of ai.onnx.ml, evaluated for all rows and all trees at once, one level of depth at a time.

Leaf weights are added in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, narrow
from webdnn_reference.ops.ml_common import (
    DOMAIN,
    POST_TRANSFORMS,
    as_float_output,
    class_labels,
    features,
    post_transformed,
    with_second_class,
)
from webdnn_reference.registry import Context, op

__all__ = ["tree_ensemble", "tree_ensemble_classifier", "tree_ensemble_regressor"]

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER", "LEAF")
_MEMBER, _LEAF = _MODES.index("BRANCH_MEMBER"), _MODES.index("LEAF")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_CELLS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class _Trees:
    """Nodes of all trees in one array each; leaves are nodes whose mode is LEAF.

    votes_start, votes_count: by node, where its votes lie in vote_target and vote_weight. members: by node, the set
    of a BRANCH_MEMBER node.
    """

    roots: Array
    mode: Array
    feature: Array
    split: Array
    true_node: Array
    false_node: Array
    missing_is_true: Array
    votes_start: Array
    votes_count: Array
    vote_target: Array
    vote_weight: Array
    members: dict[int, Array]

    def leaves(self, rows: Array) -> Array:
        """The leaf that each row reaches in each tree, [N, trees]. rows: [N, features]."""
        node = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        row, tree = np.nonzero(self.mode[node] != _LEAF)
        while len(row):
            at = node[row, tree]
            at = np.where(self._decide(at, rows[row, self.feature[at]]), self.true_node[at], self.false_node[at])
            node[row, tree] = at
            going = self.mode[at] != _LEAF
            row, tree = row[going], tree[going]
        return node

    def _decide(self, at: Array, value: Array) -> Array:
        split, mode = self.split[at], self.mode[at]
        comparisons = [value <= split, value < split, value >= split, value > split, value == split, value != split]
        taken = np.choose(np.minimum(mode, len(comparisons) - 1), comparisons)
        for node in np.unique(at[mode == _MEMBER]):
            here = at == node
            taken[here] = np.isin(value[here], self.members[int(node)])
        return np.where(np.isnan(value), self.missing_is_true[at], taken)

    def scores(self, rows: Array, targets: int, aggregate: str) -> tuple[Array, Array]:
        """Aggregated leaf weights [N, targets] in float64, and which of them any leaf voted for."""
        read = self.feature[self.mode != _LEAF]
        if read.size and not 0 <= read.min() <= read.max() < rows.shape[1]:
            raise ShapeError(f"X: expected features up to number {read.max()}, got shape {list(rows.shape)}")
        if self.vote_target.size and not 0 <= self.vote_target.min() <= self.vote_target.max() < targets:
            raise InvalidModelError(f"leaf targets: expected 0..{targets - 1}, got others")
        scores = np.zeros((len(rows), targets))
        voted = np.zeros((len(rows), targets), np.bool_)
        for part in _parts(len(rows), len(self.roots)):
            row, vote = self._votes(self.leaves(rows[part]))
            cell = row * targets + self.vote_target[vote]
            weight = self.vote_weight[vote].astype(np.float64)
            size = (part.stop - part.start) * targets
            voted[part] = (np.bincount(cell, minlength=size) > 0).reshape(-1, targets)
            if aggregate in ("SUM", "AVERAGE"):
                scores[part] = np.bincount(cell, weights=weight, minlength=size).reshape(-1, targets)
            else:
                extreme = np.full(size, np.inf if aggregate == "MIN" else -np.inf)
                (np.minimum if aggregate == "MIN" else np.maximum).at(extreme, cell, weight)
                scores[part] = np.where(voted[part], extreme.reshape(-1, targets), 0)
        return scores / len(self.roots) if aggregate == "AVERAGE" else scores, voted

    def _votes(self, leaves: Array) -> tuple[Array, Array]:
        """For every vote of every leaf reached: its row and its index."""
        flat = leaves.reshape(-1)
        counts = self.votes_count[flat]
        row = np.repeat(np.arange(len(leaves)).repeat(leaves.shape[1]), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return row, np.repeat(self.votes_start[flat], counts) + np.arange(len(before)) - before


def _parts(rows: int, trees: int) -> Iterator[slice]:
    step = max(_CELLS_AT_ONCE // max(trees, 1), 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _numbers(floats: Sequence[float] | None, tensor: Array | None) -> Array:
    """An attribute that may be given as floats or, in double precision, as a tensor."""
    if tensor is not None:
        return tensor.reshape(-1)
    return np.array(floats if floats is not None else (), np.float32)


def _expect_lengths(count: int, attributes: Mapping[str, Sequence[Any] | Array]) -> None:
    for name, values in attributes.items():
        if len(values) != count:
            raise InvalidModelError(f"{name}: expected {count} values as the attributes beside it, got {len(values)}")


def _build(nodes: dict[str, Any], votes: tuple[Sequence[int], Sequence[int], Sequence[int], Array]) -> _Trees:
    """Trees from the attributes nodes_* (without the prefix) and votes (treeids, nodeids, ids, weights)."""
    optional = "missing_value_tracks_true"
    _expect_lengths(
        len(nodes["nodeids"]),
        {f"nodes_{name}": values for name, values in nodes.items() if name != optional or len(values)},
    )
    _expect_lengths(len(votes[2]), dict(zip(("treeids", "nodeids", "ids", "weights"), votes, strict=True)))
    tree_ids, node_ids = np.array(nodes["treeids"], np.int64), np.array(nodes["nodeids"], np.int64)
    count = len(node_ids)
    span = int(max(node_ids.max(initial=0), *nodes["truenodeids"], *nodes["falsenodeids"], 0)) + 1
    keys = tree_ids * span + node_ids
    order = np.argsort(keys, kind="stable")

    def find(trees: Array, ids: Array) -> Array:
        wanted = trees * span + ids
        place = np.minimum(np.searchsorted(keys, wanted, sorter=order), max(count - 1, 0))
        return np.where(keys[order[place]] == wanted, order[place], -1)

    try:
        mode = np.array([_MODES.index(name) for name in nodes["modes"]], np.int64)
    except ValueError:
        raise InvalidModelError(f"nodes_modes: expected some of {_MODES}, got {set(nodes['modes'])}") from None
    children = [find(tree_ids, np.array(nodes[key], np.int64)) for key in ("truenodeids", "falsenodeids")]
    if any((child[mode != _LEAF] < 0).any() for child in children):
        raise InvalidModelError("nodes: expected children that exist, got others")
    missing = nodes["missing_value_tracks_true"]
    _, roots = np.unique(tree_ids, return_index=True)
    vote_trees, vote_nodes, targets, weights = votes
    leaf = find(np.array(vote_trees, np.int64), np.array(vote_nodes, np.int64))
    by_leaf = np.argsort(leaf, kind="stable")
    sorted_leaf = leaf[by_leaf]
    everything = np.arange(count)
    start = np.searchsorted(sorted_leaf, everything)
    return _Trees(
        roots=np.sort(roots),
        mode=mode,
        feature=np.array(nodes["featureids"], np.int64),
        split=nodes["values"],
        true_node=children[0],
        false_node=children[1],
        missing_is_true=np.array(missing, np.bool_) if missing else np.zeros(count, np.bool_),
        votes_start=start,
        votes_count=np.searchsorted(sorted_leaf, everything, side="right") - start,
        vote_target=np.array(targets, np.int64)[by_leaf],
        vote_weight=weights[by_leaf],
        members={},
    )


@op("TreeEnsembleRegressor", (1, 3, 5), domain=DOMAIN)
def tree_ensemble_regressor(
    X: Array,
    *,
    aggregate_function: str = "SUM",
    base_values: Sequence[float] | None = None,
    base_values_as_tensor: Array | None = None,
    n_targets: int = 1,
    nodes_falsenodeids: Sequence[int] = (),
    nodes_featureids: Sequence[int] = (),
    nodes_hitrates: Sequence[float] = (),  # noqa: ARG001 - a hint
    nodes_hitrates_as_tensor: Array | None = None,  # noqa: ARG001 - a hint
    nodes_missing_value_tracks_true: Sequence[int] = (),
    nodes_modes: Sequence[str] = (),
    nodes_nodeids: Sequence[int] = (),
    nodes_treeids: Sequence[int] = (),
    nodes_truenodeids: Sequence[int] = (),
    nodes_values: Sequence[float] | None = None,
    nodes_values_as_tensor: Array | None = None,
    post_transform: str = "NONE",
    target_ids: Sequence[int] = (),
    target_nodeids: Sequence[int] = (),
    target_treeids: Sequence[int] = (),
    target_weights: Sequence[float] | None = None,
    target_weights_as_tensor: Array | None = None,
    context: Context,
) -> Array:
    """Values aggregated over the leaves that each row reaches. X: numbers[N, F] -> float32[N, n_targets].

    A missing (NaN) feature goes where nodes_missing_value_tracks_true says, by default to the false branch.
    Raises InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html#treeensembleregressor-3
    """
    trees = _build(
        {
            "treeids": nodes_treeids,
            "nodeids": nodes_nodeids,
            "featureids": nodes_featureids,
            "modes": nodes_modes,
            "values": _numbers(nodes_values, nodes_values_as_tensor),
            "truenodeids": nodes_truenodeids,
            "falsenodeids": nodes_falsenodeids,
            "missing_value_tracks_true": nodes_missing_value_tracks_true,
        },
        (target_treeids, target_nodeids, target_ids, _numbers(target_weights, target_weights_as_tensor)),
    )
    if aggregate_function not in _AGGREGATES:
        raise InvalidModelError(f"aggregate_function: expected one of {_AGGREGATES}, got {aggregate_function!r}")
    scores, _ = trees.scores(features(X), n_targets, aggregate_function)
    base = _numbers(base_values, base_values_as_tensor)
    if base.size == n_targets:
        scores = scores + base
    return as_float_output(_finished(scores, post_transform), context)


def _finished(scores: Array, post_transform: str) -> Array:
    """Post-transformed scores; of the transforms only PROBIT applies to a single column."""
    if scores.shape[1] == 1 and post_transform != "PROBIT":
        return scores
    return post_transformed(scores, post_transform)


@op("TreeEnsembleClassifier", (1, 3, 5), domain=DOMAIN)
def tree_ensemble_classifier(
    X: Array,
    *,
    base_values: Sequence[float] | None = None,
    base_values_as_tensor: Array | None = None,
    class_ids: Sequence[int] = (),
    class_nodeids: Sequence[int] = (),
    class_treeids: Sequence[int] = (),
    class_weights: Sequence[float] | None = None,
    class_weights_as_tensor: Array | None = None,
    classlabels_int64s: Sequence[int] = (),
    classlabels_strings: Sequence[str] = (),
    nodes_falsenodeids: Sequence[int] = (),
    nodes_featureids: Sequence[int] = (),
    nodes_hitrates: Sequence[float] = (),  # noqa: ARG001 - a hint
    nodes_hitrates_as_tensor: Array | None = None,  # noqa: ARG001 - a hint
    nodes_missing_value_tracks_true: Sequence[int] = (),
    nodes_modes: Sequence[str] = (),
    nodes_nodeids: Sequence[int] = (),
    nodes_treeids: Sequence[int] = (),
    nodes_truenodeids: Sequence[int] = (),
    nodes_values: Sequence[float] | None = None,
    nodes_values_as_tensor: Array | None = None,
    post_transform: str = "NONE",
    context: Context,
) -> tuple[Array, Array]:
    """The class with the greatest sum of votes, and the sums.

    X: numbers[N, F] -> Y: int64 or string[N], Z: float32[N, classes]. Two classes of which only one has votes: see
    `_one_voter`. Raises InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html#treeensembleclassifier-3
    """
    labels = class_labels(classlabels_int64s, classlabels_strings)
    trees = _build(
        {
            "treeids": nodes_treeids,
            "nodeids": nodes_nodeids,
            "featureids": nodes_featureids,
            "modes": nodes_modes,
            "values": _numbers(nodes_values, nodes_values_as_tensor),
            "truenodeids": nodes_truenodeids,
            "falsenodeids": nodes_falsenodeids,
            "missing_value_tracks_true": nodes_missing_value_tracks_true,
        },
        (class_treeids, class_nodeids, class_ids, _numbers(class_weights, class_weights_as_tensor)),
    )
    base = _numbers(base_values, base_values_as_tensor)
    scores, voted = trees.scores(features(X), len(labels), "SUM")
    voters = np.unique(trees.vote_target)
    if len(labels) == 2 and len(voters) == 1 and base.size < 2:
        chosen, z = _one_voter(scores, int(voters[0]), base, trees.vote_weight, post_transform)
        return labels[chosen], as_float_output(z, context)
    if base.size:
        scores[:, : base.size] += base
        voted[:, : base.size] = True
    chosen = np.where(voted, scores, -np.inf).argmax(axis=1)
    z = post_transformed(scores, post_transform)
    return labels[chosen], as_float_output(z, context)


def _one_voter(scores: Array, voter: int, base: Array, weights: Array, post_transform: str) -> tuple[Array, Array]:
    """The choice between two classes of which only one has votes, and the scores of both.

    The votes speak for the second class. Where no weight is negative they are taken for a probability: the second
    class wins above one half, and a lone first class shows the complement. Else it wins above zero, and a lone first
    class shows the negated score. Votes for the second class alone leave the first at zero.
    """
    score = scores[:, voter] + (base[0] if base.size else 0)
    probability = bool((weights >= 0).all())
    chosen = (score > (0.5 if probability else 0)).astype(np.int64)
    if voter == 1:
        pair = np.stack([np.zeros_like(score), score], axis=1)
        return chosen, post_transformed(pair, post_transform)
    return chosen, with_second_class(score[:, None], post_transform, symmetric=not probability)


@op("TreeEnsemble", 5, domain=DOMAIN)
def tree_ensemble(
    X: Array,
    *,
    aggregate_function: int = 1,
    leaf_targetids: Sequence[int],
    leaf_weights: Array,
    membership_values: Array | None = None,
    n_targets: int = 1,
    nodes_falseleafs: Sequence[int],
    nodes_falsenodeids: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_hitrates: Array | None = None,  # noqa: ARG001 - a hint
    nodes_missing_value_tracks_true: Sequence[int] = (),
    nodes_modes: Array,
    nodes_splits: Array,
    nodes_trueleafs: Sequence[int],
    nodes_truenodeids: Sequence[int],
    post_transform: int = 0,
    tree_roots: Sequence[int],
) -> Array:
    """Values aggregated over the leaves that each row reaches. X: float[N, F] -> same dtype [N, n_targets].

    A BRANCH_MEMBER node asks whether the feature is in its set of membership_values; sets end with NaN.
    Raises InvalidModelError.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html#treeensemble-5
    """
    if not 0 <= aggregate_function < len(_AGGREGATES) or not 0 <= post_transform < len(POST_TRANSFORMS):
        raise InvalidModelError(
            f"aggregate_function, post_transform: expected 0..3 and 0..4, got {aggregate_function}, {post_transform}"
        )
    interior, leaves = len(nodes_featureids), len(leaf_targetids)
    modes = nodes_modes.reshape(-1).astype(np.int64)
    _expect_lengths(
        interior,
        {
            "nodes_falseleafs": nodes_falseleafs,
            "nodes_falsenodeids": nodes_falsenodeids,
            "nodes_modes": modes,
            "nodes_splits": nodes_splits.reshape(-1),
            "nodes_trueleafs": nodes_trueleafs,
            "nodes_truenodeids": nodes_truenodeids,
        },
    )
    if nodes_missing_value_tracks_true:
        _expect_lengths(interior, {"nodes_missing_value_tracks_true": nodes_missing_value_tracks_true})
    _expect_lengths(leaves, {"leaf_weights": leaf_weights.reshape(-1)})

    def child(ids: Sequence[int], is_leaf: Sequence[int]) -> Array:
        return np.asarray(np.array(ids, np.int64) + interior * (np.array(is_leaf, np.int64) != 0))

    def extended(values: Array, fill: Any) -> Array:
        return np.concatenate([values, np.full(leaves, fill, values.dtype)])

    missing = np.zeros(interior, np.bool_)
    if nodes_missing_value_tracks_true:
        missing = np.array(nodes_missing_value_tracks_true, np.bool_)
    for name, values, limit in (
        ("nodes_modes", modes, _LEAF),
        ("nodes_truenodeids", child(nodes_truenodeids, nodes_trueleafs), interior + leaves),
        ("nodes_falsenodeids", child(nodes_falsenodeids, nodes_falseleafs), interior + leaves),
        ("tree_roots", np.array(tree_roots, np.int64), interior + leaves),
    ):
        if values.size and not 0 <= values.min() <= values.max() < limit:
            raise InvalidModelError(f"{name}: expected 0..{limit - 1}, got {values.min()} to {values.max()}")
    trees = _Trees(
        roots=np.array(tree_roots, np.int64),
        mode=extended(modes, _LEAF),
        feature=extended(np.array(nodes_featureids, np.int64), 0),
        split=extended(nodes_splits.reshape(-1), 0),
        true_node=extended(child(nodes_truenodeids, nodes_trueleafs), 0),
        false_node=extended(child(nodes_falsenodeids, nodes_falseleafs), 0),
        missing_is_true=extended(missing, False),
        votes_start=np.concatenate([np.zeros(interior, np.int64), np.arange(leaves)]),
        votes_count=np.concatenate([np.zeros(interior, np.int64), np.ones(leaves, np.int64)]),
        vote_target=np.array(leaf_targetids, np.int64),
        vote_weight=leaf_weights.reshape(-1),
        members=_member_sets(modes, membership_values),
    )
    scores, _ = trees.scores(features(X), n_targets, _AGGREGATES[aggregate_function])
    return narrow(_finished(scores, POST_TRANSFORMS[post_transform]), X)


def _member_sets(modes: Array, membership_values: Array | None) -> dict[int, Array]:
    """The set of each BRANCH_MEMBER node: runs of values that NaNs end, in the order of the nodes."""
    (nodes,) = np.nonzero(modes == _MEMBER)
    if not len(nodes):
        return {}
    values = np.zeros(0, np.float32) if membership_values is None else membership_values.reshape(-1)
    runs = np.split(values, np.nonzero(np.isnan(values))[0] + 1)
    sets: list[Array] = [part[~np.isnan(part)] for part in runs]
    if len(sets) < len(nodes):
        raise InvalidModelError(f"membership_values: expected {len(nodes)} sets, got {len(sets)}")
    return {int(node): members for node, members in zip(nodes, sets, strict=False)}
