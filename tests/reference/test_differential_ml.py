"""Encoders, scalers, linear models and support vector machines of ai.onnx.ml against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from tests.reference.judge import agree, agree_on_graph
from tests.reference.strategies import BOUNDED, filled

ML = "ai.onnx.ml"
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
SEEDS = st.integers(0, 999)
TRANSFORMS = st.sampled_from(["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])


def check(op: str, inputs: list[Any], attributes: dict[str, Any], outputs: tuple[int, ...], opset: int = 1) -> None:
    agree(op, inputs, attributes, opset=opset, outputs=outputs, domain=ML, rtol=1e-3, atol=1e-4)


@BOUNDED
@given(rows=st.integers(1, 4), width=st.integers(1, 5), shared=st.booleans(), seed=SEEDS)
def test_scaler(rows: int, width: int, shared: bool, seed: int) -> None:
    x = filled((rows, width), np.float32, seed)
    count = 1 if shared else width
    attributes = {name: filled((count,), np.float32, seed + 1).tolist() for name in ("offset", "scale")}
    check("Scaler", [x], attributes, (FLOAT,))


@BOUNDED
@given(rows=st.integers(1, 4), width=st.integers(1, 5), norm=st.sampled_from(["L1", "L2"]), seed=SEEDS)
def test_normalizer(rows: int, width: int, norm: str, seed: int) -> None:
    x = np.abs(filled((rows, width), np.float32, seed)) + np.float32(0.1)
    check("Normalizer", [x], {"norm": norm}, (FLOAT,))


@BOUNDED
@given(threshold=st.floats(-2, 2, width=32), seed=SEEDS)
def test_binarizer(threshold: float, seed: int) -> None:
    check("Binarizer", [filled((3, 4), np.float32, seed)], {"threshold": threshold}, (FLOAT,))


@BOUNDED
@given(width=st.integers(1, 4), shared=st.booleans(), missing=st.sampled_from([0.0, float("nan")]), seed=SEEDS)
def test_imputer(width: int, shared: bool, missing: float, seed: int) -> None:
    x = np.round(filled((3, width), np.float32, seed, 1.0))
    x.reshape(-1)[::2] = missing
    values = filled((1 if shared else width,), np.float32, seed + 1).tolist()
    check("Imputer", [x], {"imputed_value_floats": values, "replaced_value_float": missing}, (FLOAT,))


@BOUNDED
@given(zeros=st.booleans(), textual=st.booleans(), seed=SEEDS)
def test_one_hot_encoder(zeros: bool, textual: bool, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 4 if zeros else 3, (2, 3))
    if textual:
        x, categories = numbers.astype(str).astype(object), {"cats_strings": ["2", "0", "1"]}
        check("OneHotEncoder", [x], {**categories, "zeros": int(zeros)}, (FLOAT,))
    else:
        check("OneHotEncoder", [numbers], {"cats_int64s": [2, 0, 1], "zeros": int(zeros)}, (FLOAT,))


@BOUNDED
@given(direction=st.integers(0, 3), seed=SEEDS)
def test_label_encoder(direction: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 5, (2, 3))
    texts = np.array([f"t{value}" for value in numbers.reshape(-1)], object).reshape(2, 3)
    names = [f"t{value}" for value in range(4)]
    match direction:
        case 0:
            attributes = {"keys_int64s": [0, 1, 2, 3], "values_strings": names, "default_string": "none"}
            check("LabelEncoder", [numbers], attributes, (STRING,), 2)
        case 1:
            attributes = {"keys_strings": names, "values_int64s": [3, 2, 1, 0], "default_int64": -7}
            check("LabelEncoder", [texts], attributes, (INT64,), 2)
        case 2:
            attributes = {"keys_strings": names, "values_floats": [0.5, 1.5, 2.5, 3.5], "default_float": -1.5}
            check("LabelEncoder", [texts], attributes, (FLOAT,), 2)
        case _:
            attributes = {"keys_floats": [0.0, 1.0, 2.0], "values_floats": [0.5, 1.5, 2.5], "default_float": 9.0}
            check("LabelEncoder", [numbers.astype(np.float32)], attributes, (FLOAT,), 2)


@BOUNDED
@given(rank=st.integers(1, 3), seed=SEEDS)
def test_array_feature_extractor(rank: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = filled((2, 3, 5)[3 - rank :], np.float32, seed)
    check("ArrayFeatureExtractor", [x, random.integers(0, 5, int(random.integers(1, 4)))], {}, (FLOAT,))


@BOUNDED
@given(widths=st.lists(st.integers(1, 3), min_size=1, max_size=3), seed=SEEDS)
def test_feature_vectorizer(widths: list[int], seed: int) -> None:
    inputs = [filled((2, width), np.float32, seed + width) for width in widths]
    check("FeatureVectorizer", inputs, {"inputdimensions": widths}, (FLOAT,))


@BOUNDED
@given(targets=st.integers(1, 3), transform=TRANSFORMS, biased=st.booleans(), seed=SEEDS)
def test_linear_regressor(targets: int, transform: str, biased: bool, seed: int) -> None:
    attributes: dict[str, Any] = {
        "coefficients": filled((targets * 4,), np.float32, seed, 1.0).tolist(),
        "targets": targets,
        "post_transform": transform if targets > 1 else "NONE",
    }
    if biased:
        attributes["intercepts"] = filled((targets,), np.float32, seed + 1).tolist()
    check("LinearRegressor", [filled((3, 4), np.float32, seed + 2, 1.0)], attributes, (FLOAT,))


@BOUNDED
@given(classes=st.integers(3, 4), transform=TRANSFORMS, textual=st.booleans(), seed=SEEDS)
def test_linear_classifier(classes: int, transform: str, textual: bool, seed: int) -> None:
    labels = list(range(10, 10 + classes))
    attributes: dict[str, Any] = {
        "coefficients": filled((classes * 4,), np.float32, seed, 1.0).tolist(),
        "intercepts": filled((classes,), np.float32, seed + 1).tolist(),
        "post_transform": transform,
        "multi_class": 1,
    }
    attributes |= {"classlabels_strings": [str(label) for label in labels]} if textual else {"classlabels_ints": labels}
    x = filled((3, 4), np.float32, seed + 2, 1.0)
    check("LinearClassifier", [x], attributes, (STRING if textual else INT64, FLOAT))


@BOUNDED
@given(kernel=st.sampled_from(["LINEAR", "POLY", "RBF", "SIGMOID"]), one_class=st.booleans(), seed=SEEDS)
def test_svm_regressor(kernel: str, one_class: bool, seed: int) -> None:
    supports = 5
    attributes = {
        "kernel_type": kernel,
        "kernel_params": [0.3, 0.1, 2.0],
        "support_vectors": filled((supports * 4,), np.float32, seed, 1.0).tolist(),
        "coefficients": filled((supports,), np.float32, seed + 1, 1.0).tolist(),
        "n_supports": supports,
        "rho": [0.25],
        "one_class": int(one_class),
    }
    check("SVMRegressor", [filled((3, 4), np.float32, seed + 2, 1.0)], attributes, (FLOAT,))


@BOUNDED
@given(
    kernel=st.sampled_from(["LINEAR", "POLY", "RBF", "SIGMOID"]),
    classes=st.integers(2, 4),
    probabilities=st.booleans(),
    seed=SEEDS,
)
def test_svm_classifier(kernel: str, classes: int, probabilities: bool, seed: int) -> None:
    counts = [1 + (seed + index) % 3 for index in range(classes)]
    pairs = classes * (classes - 1) // 2
    attributes: dict[str, Any] = {
        "kernel_type": kernel,
        "kernel_params": [0.3, 0.1, 2.0],
        "support_vectors": filled((sum(counts) * 4,), np.float32, seed, 1.0).tolist(),
        "coefficients": filled(((classes - 1) * sum(counts),), np.float32, seed + 1, 1.0).tolist(),
        "vectors_per_class": counts,
        "rho": filled((pairs,), np.float32, seed + 2, 1.0).tolist(),
        "classlabels_ints": list(range(classes)),
    }
    if probabilities:
        attributes["prob_a"] = (-np.abs(filled((pairs,), np.float32, seed + 3, 1.0))).tolist()
        attributes["prob_b"] = filled((pairs,), np.float32, seed + 4, 0.5).tolist()
    check("SVMClassifier", [filled((3, 4), np.float32, seed + 5, 1.0)], attributes, (INT64, FLOAT))


def maps_agree(graph: str, feeds: dict[str, Any]) -> None:
    agree_on_graph(graph, feeds, opset=15, domain=ML)


@BOUNDED
@given(
    entries=st.dictionaries(st.integers(0, 6), st.integers(-3, 3), min_size=1),
    form=st.sampled_from(["DENSE", "SPARSE"]),
    kind=st.sampled_from(["TO_FLOAT", "TO_INT64"]),
)
def test_cast_map(entries: dict[int, int], form: str, kind: str) -> None:
    # Without TO_STRING: onnxruntime prints as many decimals as there are, not six.
    element = {"TO_FLOAT": "float", "TO_INT64": "int64"}[kind]
    graph = f"""
        g (map(int64, float) x) => ({element}[1, n] y) {{
          y = ai.onnx.ml.CastMap<cast_to = "{kind}", map_form = "{form}", max_map = 8>(x) }}"""
    maps_agree(graph, {"x": {key: float(value) for key, value in sorted(entries.items())}})


@BOUNDED
@given(entries=st.dictionaries(st.sampled_from("abcde"), st.integers(-3, 3), min_size=1))
def test_dict_vectorizer(entries: dict[str, int]) -> None:
    graph = """
        g (map(string, float) x) => (float[1, 5] y) {
          y = ai.onnx.ml.DictVectorizer<string_vocabulary = ["a", "b", "c", "d", "e"]>(x) }"""
    maps_agree(graph, {"x": {key: float(value) for key, value in entries.items()}})


@BOUNDED
@given(rows=st.integers(1, 3), textual=st.booleans(), seed=SEEDS)
def test_zip_map(rows: int, textual: bool, seed: int) -> None:
    labels, key = (
        ('classlabels_strings = ["a", "b"]', "string") if textual else ("classlabels_int64s = [5, 7]", "int64")
    )
    graph = f"""
        g (float[{rows}, 2] x) => (seq(map({key}, float)) y) {{ y = ai.onnx.ml.ZipMap<{labels}>(x) }}"""
    maps_agree(graph, {"x": filled((rows, 2), np.float32, seed)})


@BOUNDED
@given(modes=st.lists(st.integers(0, 5), min_size=3, max_size=3), how=st.integers(0, 3), seed=SEEDS)
def test_tree_ensemble(modes: list[int], how: int, seed: int) -> None:
    x = np.round(filled((5, 2), np.float32, seed, 1.0))
    splits, weights = np.round(filled((3,), np.float32, seed + 1, 1.0)), filled((4,), np.float32, seed + 2)
    attributes = {
        "n_targets": 2,
        "aggregate_function": how,
        "tree_roots": [0],
        "nodes_modes": numpy_helper.from_array(np.array(modes, np.uint8)),
        "nodes_featureids": [0, 1, 1],
        "nodes_splits": numpy_helper.from_array(splits),
        "nodes_truenodeids": [1, 0, 2],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [2, 1, 3],
        "nodes_falseleafs": [0, 1, 1],
        "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": numpy_helper.from_array(weights),
    }
    check("TreeEnsemble", [x], attributes, (FLOAT,), opset=5)
