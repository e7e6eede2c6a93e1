"""The ai.onnx.ml operators: the definitions written out, and onnxruntime as judge."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from tests.reference.judge import agree
from tests.reference.one_node import run, run_all
from tests.reference.strategies import BOUNDED, filled
from webdnn_onnx.errors import InvalidModelError, ShapeError

ML = "ai.onnx.ml"
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
X = filled((4, 3), np.float32, 0, 1.0)
WORDS = np.array([["a", "b"], ["zz", "a"]], object)
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]
"""Without PROBIT, which onnxruntime approximates to three digits."""


def ml(op: str, *inputs: Any, opset: int = 3, **attributes: Any) -> Any:
    return run(op, *inputs, opset=opset, domain=ML, **attributes)


def judged(
    op: str, inputs: Sequence[Any], attributes: dict[str, Any], outputs: Sequence[int] = (FLOAT,), opset: int = 3
) -> None:
    agree(op, inputs, attributes, opset=opset, outputs=outputs, domain=ML, rtol=1e-3, atol=1e-4)


def numbers(count: int, seed: int) -> list[float]:
    return [float(value) for value in filled((count,), np.float32, seed, 1.0)]


def test_array_feature_extractor_takes_elements_of_the_last_axis() -> None:
    np.testing.assert_array_equal(ml("ArrayFeatureExtractor", X, np.array([2, 0])), X[:, [2, 0]])
    assert ml("ArrayFeatureExtractor", X[0], np.array([[1]])).shape == (1, 1)
    with pytest.raises(ShapeError, match="indices"):
        ml("ArrayFeatureExtractor", X, np.array([3]))


def test_binarizer_is_strictly_greater() -> None:
    got = ml("Binarizer", np.array([0, 1, 2], np.int64), threshold=1.0)
    np.testing.assert_array_equal(got, np.array([0, 0, 1], np.int64))


def test_cast_map_orders_by_key() -> None:
    np.testing.assert_array_equal(ml("CastMap", {5: 1.5, 2: -1.0}), np.array([[-1, 1.5]], np.float32))
    sparse = ml("CastMap", {1: "3.5", 3: "2"}, map_form="SPARSE", max_map=4)
    np.testing.assert_array_equal(sparse, np.array([[0, 3.5, 0, 2]], np.float32))
    assert ml("CastMap", {0: "x"}, cast_to="TO_STRING").tolist() == [["x"]]
    assert ml("CastMap", {0: 2.75}, cast_to="TO_INT64").dtype == np.int64
    with pytest.raises(InvalidModelError, match="keys"):
        ml("CastMap", {9: 1.0}, map_form="SPARSE", max_map=4)


@pytest.mark.parametrize("x", [WORDS, np.array([[3, 4], [9, 3]])], ids=["strings", "integers"])
def test_category_mapper_agrees(x: np.ndarray) -> None:
    kind = INT64 if x.dtype == object else STRING
    judged("CategoryMapper", [x], {"cats_int64s": [3, 4], "cats_strings": ["a", "b"]}, [kind])


def test_dict_vectorizer_orders_by_vocabulary() -> None:
    got = ml("DictVectorizer", {"a": np.float32(4), "c": np.float32(8)}, string_vocabulary=("a", "c", "b", "z"))
    np.testing.assert_array_equal(got, np.array([[4, 8, 0, 0]], np.float32))
    assert ml("DictVectorizer", {3: "x"}, int64_vocabulary=(1, 3)).tolist() == [["", "x"]]
    with pytest.raises(InvalidModelError, match="vocabulary"):
        ml("DictVectorizer", {"q": 1.0}, string_vocabulary=("a",))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_feature_vectorizer_agrees(dtype: type) -> None:
    x = (X * 3).astype(dtype)
    judged("FeatureVectorizer", [x, x[:, :2]], {"inputdimensions": [2, 4]})


@pytest.mark.parametrize("replaced", [1.0, float("nan")])
def test_imputer_replaces_one_value(replaced: float) -> None:
    x = np.where(X > 0, replaced, X).astype(np.float32)
    judged("Imputer", [x], {"imputed_value_floats": [5.0, 6.0, 7.0], "replaced_value_float": replaced})


def test_imputer_of_integers() -> None:
    got = ml("Imputer", np.array([[0, 2], [3, 0]]), imputed_value_int64s=(7,), replaced_value_int64=0)
    np.testing.assert_array_equal(got, [[7, 2], [3, 7]])


def test_label_encoder_of_version_1_counts_its_labels() -> None:
    np.testing.assert_array_equal(ml("LabelEncoder", WORDS, opset=1, classes_strings=("a", "b")), [[0, 1], [-1, 0]])
    got = ml("LabelEncoder", np.array([1, 5, -1]), opset=1, classes_strings=("a", "b"))
    assert got.tolist() == ["b", "_Unused", "_Unused"]


@pytest.mark.parametrize("opset", [2, 4])
@pytest.mark.parametrize("kind", ["strings", "int64s", "floats"])
@pytest.mark.parametrize("value_kind", ["strings", "int64s", "floats"])
def test_label_encoder_agrees(opset: int, kind: str, value_kind: str) -> None:
    inputs = {"strings": WORDS, "int64s": np.array([1, 2, 3]), "floats": np.array([1.5, -0.5, 7], np.float32)}
    keys = {"strings": ["a", "b"], "int64s": [1, 2], "floats": [1.5, -0.5]}
    values = {"strings": ["p", "q"], "int64s": [7, 8], "floats": [0.25, 0.5]}
    output = {"strings": STRING, "int64s": INT64, "floats": FLOAT}[value_kind]
    attributes = {f"keys_{kind}": keys[kind], f"values_{value_kind}": values[value_kind]}
    judged("LabelEncoder", [inputs[kind]], attributes, [output], opset)


def test_label_encoder_of_tensors() -> None:
    keys, values = np.array([3, 1], np.int16), np.array([0.5, 2.5])
    got = ml("LabelEncoder", np.array([1, 2], np.int16), opset=4, keys_tensor=keys, values_tensor=values)
    np.testing.assert_array_equal(got, np.array([2.5, -0.0]))
    assert got.dtype == np.float64


def test_nan_is_a_key_and_the_last_of_equal_keys_counts() -> None:
    keys = (float("nan"), 1.0, 1.0)
    got = ml("LabelEncoder", np.array([1, np.nan, 2], np.float32), opset=4, keys_floats=keys, values_int64s=(5, 6, 7))
    np.testing.assert_array_equal(got, [7, 5, -1])


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_linear_classifier_agrees(transform: str, classes: int) -> None:
    attributes = {
        "coefficients": numbers(classes * 3, 1),
        "intercepts": numbers(classes, 2),
        "post_transform": transform,
    }
    labels = ["p", "q", "r"][: max(classes, 2)]
    judged("LinearClassifier", [X], attributes | {"classlabels_strings": labels}, [STRING, FLOAT])
    judged("LinearClassifier", [X], attributes | {"classlabels_ints": [4, 5, 6][: len(labels)]}, [INT64, FLOAT])


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regressor_agrees(transform: str, targets: int) -> None:
    attributes = {"coefficients": numbers(targets * 3, 1), "intercepts": numbers(targets, 2), "targets": targets}
    judged("LinearRegressor", [X], attributes | {"post_transform": transform})


def test_probit_is_the_quantile_of_the_normal_distribution() -> None:
    p = np.array([[1e-6, 0.02, 0.3, 0.5, 0.975, 1 - 1e-6]])
    got = ml("LinearRegressor", p.T, coefficients=(1.0,), post_transform="PROBIT", float64=True)
    expected = [statistics.NormalDist().inv_cdf(float(value)) for value in p[0]]
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-9, atol=1e-12)
    limits = ml("LinearRegressor", np.array([[0.0], [1.0], [2.0]]), coefficients=(1.0,), post_transform="PROBIT")
    np.testing.assert_array_equal(limits[:, 0], [-np.inf, np.inf, np.nan])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("x", [X, X[0], np.zeros((2, 3), np.float32), -np.abs(X)], ids=["rows", "one", "zero", "below"])
def test_normalizer_agrees(norm: str, x: np.ndarray) -> None:
    judged("Normalizer", [x], {"norm": norm})


def test_one_hot_encoder() -> None:
    judged("OneHotEncoder", [WORDS], {"cats_strings": ["a", "b", "c"]})
    judged("OneHotEncoder", [X * 3], {"cats_int64s": [0, 1, -1]})
    with pytest.raises(InvalidModelError, match="unknown"):
        ml("OneHotEncoder", WORDS, cats_strings=("a",), zeros=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("count", [1, 3])
def test_scaler_agrees(dtype: type, count: int) -> None:
    judged("Scaler", [(X * 3).astype(dtype)], {"offset": numbers(count, 1), "scale": numbers(count, 2)})


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("probabilities", [False, True])
def test_svm_classifier_agrees(transform: str, kernel: str, classes: int, probabilities: bool) -> None:
    pairs, counts = classes * (classes - 1) // 2, [2, 1, 3, 2][:classes]
    attributes: dict[str, Any] = {
        "classlabels_ints": list(range(7, 7 + classes)),
        "coefficients": numbers((classes - 1) * sum(counts), 1),
        "kernel_params": [0.3, 0.5, 2.0],
        "kernel_type": kernel,
        "post_transform": transform,
        "rho": numbers(pairs, 2),
        "support_vectors": numbers(sum(counts) * 3, 3),
        "vectors_per_class": counts,
    }
    if probabilities:
        attributes |= {"prob_a": numbers(pairs, 4), "prob_b": numbers(pairs, 5)}
    judged("SVMClassifier", [X], attributes, [INT64, FLOAT])


def test_linear_svm_classifier_has_a_score_for_each_class() -> None:
    coefficients = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    labels, scores = run_all(
        "SVMClassifier", X, opset=1, domain=ML, outputs=2, classlabels_ints=(5, 6, 7),
        coefficients=tuple(coefficients.ravel()), rho=(0.5,),
    )  # fmt: skip
    np.testing.assert_allclose(scores, X + 0.5, rtol=1e-6)
    np.testing.assert_array_equal(labels, 5 + X.argmax(axis=1))


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor_agrees(kernel: str, one_class: int) -> None:
    attributes = {
        "coefficients": numbers(5, 1),
        "kernel_params": [0.3, 0.5, 2.0],
        "kernel_type": kernel,
        "n_supports": 5,
        "one_class": one_class,
        "rho": numbers(1, 2),
        "support_vectors": numbers(15, 3),
    }
    judged("SVMRegressor", [X], attributes)


def forest(seed: int, trees: int, features: int, depth: int = 3) -> tuple[dict[str, list[Any]], list[tuple[int, int]]]:
    """The nodes_* attributes of complete trees, and their leaves as (tree, node)."""
    random = np.random.default_rng(seed)
    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    keys = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    nodes: dict[str, list[Any]] = {key: [] for key in (*keys, "missing_value_tracks_true")}
    leaves = []
    for tree in range(trees):
        for node in range(2 ** (depth + 1) - 1):
            leaf = node >= 2**depth - 1
            if leaf:
                leaves.append((tree, node))
            row = (
                tree,
                node,
                int(random.integers(features)),
                "LEAF" if leaf else modes[int(random.integers(4))],
                float(np.float32(random.standard_normal())),
                0 if leaf else 2 * node + 1,
                0 if leaf else 2 * node + 2,
                int(random.integers(2)),
            )
            for key, value in zip(nodes, row, strict=True):
                nodes[key].append(value)
    return {f"nodes_{key}": values for key, values in nodes.items()}, leaves


@BOUNDED
@given(
    seed=st.integers(0, 999),
    targets=st.integers(1, 3),
    aggregate=st.sampled_from(["SUM", "AVERAGE", "MIN", "MAX"]),
    transform=st.sampled_from(TRANSFORMS),
    base=st.booleans(),
    missing=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_tree_regressor_agrees(
    seed: int, targets: int, aggregate: str, transform: str, base: bool, missing: bool, dtype: type
) -> None:
    nodes, leaves = forest(seed, 4, 3)
    votes = [(tree, node, target) for tree, node in leaves for target in range(targets)]
    attributes: dict[str, Any] = nodes | {
        "aggregate_function": aggregate,
        "n_targets": targets,
        "post_transform": transform,
        "target_treeids": [vote[0] for vote in votes],
        "target_nodeids": [vote[1] for vote in votes],
        "target_ids": [vote[2] for vote in votes],
        "target_weights": numbers(len(votes), seed),
    }
    if base:
        attributes["base_values"] = numbers(targets, seed + 1)
    x = filled((6, 3), dtype, seed, 1.0)
    if missing:
        x[::2, 1] = np.nan
    judged("TreeEnsembleRegressor", [x], attributes)


@BOUNDED
@given(seed=st.integers(0, 999), classes=st.integers(3, 4), transform=st.sampled_from(TRANSFORMS), base=st.booleans())
def test_tree_classifier_agrees(seed: int, classes: int, transform: str, base: bool) -> None:
    nodes, leaves = forest(seed, 3, 3)
    votes = [(tree, node, label) for tree, node in leaves for label in range(classes)]
    attributes: dict[str, Any] = nodes | {
        "post_transform": transform,
        "class_treeids": [vote[0] for vote in votes],
        "class_nodeids": [vote[1] for vote in votes],
        "class_ids": [vote[2] for vote in votes],
        "class_weights": numbers(len(votes), seed),
        "classlabels_strings": ["p", "q", "r", "s"][:classes],
    }
    if base:
        attributes["base_values"] = numbers(classes, seed + 1)
    x = filled((6, 3), np.float32, seed, 1.0)
    judged("TreeEnsembleClassifier", [x], attributes, [STRING, FLOAT])


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("voter", [0, 1])
@pytest.mark.parametrize("weights", [[0.3, 0.7], [-0.3, 0.7]])
def test_two_classes_of_which_one_has_votes(transform: str, voter: int, weights: list[float]) -> None:
    attributes = stump(0) | {
        "class_treeids": [0, 0],
        "class_nodeids": [1, 2],
        "class_ids": [voter, voter],
        "class_weights": weights,
        "classlabels_int64s": [10, 11],
        "post_transform": transform,
    }
    judged("TreeEnsembleClassifier", [np.array([[-1.0], [1.0]], np.float32)], attributes, [INT64, FLOAT])


def test_two_classes_that_both_have_votes_are_compared() -> None:
    votes = {"class_treeids": (0,) * 4, "class_nodeids": (1, 1, 2, 2), "class_ids": (0, 1, 0, 1)}
    x = np.array([[-1.0], [1.0]], np.float32)
    labels, scores = run_all(
        "TreeEnsembleClassifier", x, opset=3, domain=ML, outputs=2, **stump(0), **votes,
        class_weights=(0.8, 0.2, 0.4, 0.6), classlabels_int64s=(10, 11),
    )  # fmt: skip
    np.testing.assert_array_equal(labels, [10, 11])
    np.testing.assert_allclose(scores, [[0.8, 0.2], [0.4, 0.6]], rtol=1e-6)


def stump(missing: int) -> dict[str, list[Any]]:
    """One node that asks whether the feature is at most 0, and two leaves."""
    return {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "nodes_missing_value_tracks_true": [missing, 0, 0],
    }


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_feature_goes_where_the_node_says(missing: int) -> None:
    targets = {"target_treeids": (0, 0), "target_nodeids": (1, 2), "target_ids": (0, 0), "target_weights": (5.0, 6.0)}
    got = ml("TreeEnsembleRegressor", np.array([[np.nan]], np.float32), **stump(missing), **targets)
    assert got.item() == (5 if missing else 6)


def test_a_target_without_votes_is_its_base_value() -> None:
    targets = {"target_treeids": (0, 0), "target_nodeids": (1, 2), "target_ids": (0, 1), "target_weights": (5.0, 6.0)}
    x = np.array([[-1.0], [1.0]], np.float32)
    got = ml("TreeEnsembleRegressor", x, **stump(0), **targets, n_targets=2, base_values=(0.5, 0.25))
    np.testing.assert_array_equal(got, [[5.5, 0.25], [0.5, 6.25]])


def test_no_rows_give_no_predictions() -> None:
    targets = {"target_treeids": (0, 0), "target_nodeids": (1, 2), "target_ids": (0, 0), "target_weights": (5.0, 6.0)}
    assert ml("TreeEnsembleRegressor", np.zeros((0, 1), np.float32), **stump(0), **targets).shape == (0, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_tree_ensemble_with_sets(dtype: type) -> None:
    got = ml(
        "TreeEnsemble",
        np.array([[1.0, 0], [3.0, 0], [2.0, -1], [2.0, 1]], dtype),
        opset=5,
        tree_roots=(0,),
        nodes_modes=np.array([6, 0], np.uint8),
        nodes_featureids=(0, 1),
        nodes_splits=np.array([0, 0], dtype),
        membership_values=np.array([1, 3, np.nan], dtype),
        nodes_trueleafs=(1, 1),
        nodes_truenodeids=(0, 1),
        nodes_falseleafs=(0, 1),
        nodes_falsenodeids=(1, 2),
        leaf_targetids=(0, 1, 0),
        leaf_weights=np.array([10, 20, 30], dtype),
        n_targets=2,
    )
    np.testing.assert_array_equal(got, np.array([[10, 0], [10, 0], [0, 20], [30, 0]], dtype))
    assert got.dtype == dtype


def test_zip_map_gives_a_map_for_each_row() -> None:
    assert ml("ZipMap", X[:1], classlabels_strings=("p", "q", "r")) == [dict(zip("pqr", X[0], strict=True))]
    assert [set(row) for row in ml("ZipMap", X, classlabels_int64s=(5, 6, 7))] == [{5, 6, 7}] * 4
    with pytest.raises(ShapeError, match="columns"):
        ml("ZipMap", X, classlabels_int64s=(5, 6))


def test_outputs_of_declared_type_float_are_float32_for_double_input() -> None:
    x = X.astype(np.float64)
    assert ml("Scaler", x, offset=(1.0,), scale=(2.0,)).dtype == np.float32
    assert ml("Scaler", x, offset=(1.0,), scale=(2.0,), float64=True).dtype == np.float64
