"""ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import MapType, SequenceType, Shape, TensorType, Type
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import rule, shape_rule
from webdnn_onnx.symbolic import product

__all__: list[str] = []

_ML = "ai.onnx.ml"


def _rows(call: Call) -> Shape:
    shape = call.shape(0)
    return shape[:1] if len(shape) > 1 else (1,)


def _length(call: Call, *names: str) -> int | None:
    for name in names:
        value = call.attribute(name)
        if isinstance(value, tuple | np.ndarray) and len(value):
            return len(value)
    return None


def _label_type(call: Call, *names: str) -> DType:
    return DType.STRING if _length(call, *names) else DType.INT64


@shape_rule("ArrayFeatureExtractor", domain=_ML)
def array_feature_extractor(call: Call) -> list[Shape]:
    """The last axis at the given positions, however they are arranged."""
    shape = call.at_least(0, 1)
    return [(*(shape[:-1] or (1,)), product(call.shape(1)))]


@shape_rule("Binarizer", domain=_ML)
def binarizer(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule(("Imputer", "Normalizer", "Scaler"), domain=_ML, dtype=lambda call: _feature_type(call))
def scaled(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


def _feature_type(call: Call) -> DType:
    return call.dtype(0) if call.node.op == "Imputer" else DType.FLOAT32


@shape_rule("LabelEncoder", domain=_ML, dtype=lambda call: _encoded_type(call))
@shape_rule("CategoryMapper", domain=_ML, dtype=lambda call: _mapped_type(call))
def label_encoder(call: Call) -> list[Shape]:
    """The input's shape in the element type of the values."""
    return [call.shape(0)]


def _mapped_type(call: Call) -> DType:
    return DType.INT64 if call.dtype(0) is DType.STRING else DType.STRING


def _encoded_type(call: Call) -> DType:
    if call.attribute("classes_strings") is not None:
        return _mapped_type(call)
    value = call.attribute("values_tensor")
    if isinstance(value, np.ndarray):
        return DType.from_numpy(value.dtype)
    if call.attribute("values_strings") is not None:
        return DType.STRING
    return DType.FLOAT32 if call.attribute("values_floats") is not None else DType.INT64


@shape_rule("OneHotEncoder", domain=_ML, dtype=DType.FLOAT32)
def one_hot_encoder(call: Call) -> list[Shape]:
    """The input's shape with one entry for each category behind it."""
    return [(*call.shape(0), _length(call, "cats_int64s", "cats_strings") or 0)]


@shape_rule("FeatureVectorizer", domain=_ML, dtype=DType.FLOAT32)
def feature_vectorizer(call: Call) -> list[Shape]:
    """[rows, sum of inputdimensions]."""
    return [(*_rows(call), sum(call.numbers("inputdimensions") or ()))]


@shape_rule("LinearRegressor", domain=_ML, dtype=DType.FLOAT32)
def linear_regressor(call: Call) -> list[Shape]:
    """[rows, targets]."""
    return [(*_rows(call), call.number("targets", 1))]


@shape_rule("SVMRegressor", domain=_ML, dtype=DType.FLOAT32)
def svm_regressor(call: Call) -> list[Shape]:
    """[rows, 1]."""
    return [(*_rows(call), 1)]


@shape_rule("TreeEnsembleRegressor", domain=_ML, dtype=DType.FLOAT32)
def tree_ensemble_regressor(call: Call) -> list[Shape]:
    """[rows, n_targets]."""
    return [(*_rows(call), call.number("n_targets", 1))]


@shape_rule("TreeEnsemble", domain=_ML)
def tree_ensemble(call: Call) -> list[Shape]:
    """[rows, n_targets]."""
    return [(*_rows(call), call.number("n_targets", 1))]


_CLASS_LABELS = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")


@shape_rule(
    ("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"),
    domain=_ML,
    dtype=(lambda call: _label_type(call, "classlabels_strings"), DType.FLOAT32),
)
def classifier(call: Call) -> list[Shape]:
    """[rows] labels, [rows, classes] scores."""
    rows = _rows(call)
    count = _length(call, *_CLASS_LABELS)
    return [rows, (*rows, call.fresh(1, 1) if count is None else count)]


@shape_rule("DictVectorizer", domain=_ML, dtype=lambda call: _map_value_type(call))
def dict_vectorizer(call: Call) -> list[Shape]:
    """[1, size of the vocabulary]."""
    return [(1, _length(call, "string_vocabulary", "int64_vocabulary") or 0)]


def _map_value_type(call: Call) -> DType | None:
    kind = call.type(0)
    value = kind.value if isinstance(kind, MapType) else None
    return value.dtype if isinstance(value, TensorType) else None


@shape_rule("CastMap", domain=_ML, dtype=lambda call: _cast_map_type(call))
def cast_map(call: Call) -> list[Shape]:
    """[1, entries]; `max_map` of them where the map is sparse."""
    sparse = call.text("map_form", "DENSE") == "SPARSE"
    return [(1, call.number("max_map", 1) if sparse else call.fresh(1))]


def _cast_map_type(call: Call) -> DType:
    names = {"TO_FLOAT": DType.FLOAT32, "TO_STRING": DType.STRING, "TO_INT64": DType.INT64}
    return names[call.text("cast_to", "TO_FLOAT")]


@rule("ZipMap", domain=_ML)
def zip_map(call: Call) -> Sequence[Type | None]:
    """A sequence of maps from label to score."""
    key = _label_type(call, "classlabels_strings")
    return [SequenceType(MapType(key, TensorType(DType.FLOAT32, ())))]
