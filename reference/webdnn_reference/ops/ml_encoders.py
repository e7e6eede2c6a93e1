"""Encoders, maps and simple transforms of ai.onnx.ml."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, is_float, scalar
from webdnn_reference.ops.ml_common import DOMAIN, as_float_output, features
from webdnn_reference.registry import Context, op

__all__ = [
    "array_feature_extractor",
    "binarizer",
    "cast_map",
    "category_mapper",
    "dict_vectorizer",
    "feature_vectorizer",
    "imputer",
    "label_encoder_1",
    "label_encoder_2",
    "normalizer",
    "one_hot_encoder",
    "scaler",
    "zip_map",
]


@op("ArrayFeatureExtractor", 1, domain=DOMAIN)
def array_feature_extractor(X: Array, Y: Array) -> Array:
    """Elements along the last axis. X: any[..., F], Y: int64 -> [..., size of Y], [1, size of Y] from a vector.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_ArrayFeatureExtractor.html#arrayfeatureextractor-1
    """
    indices = Y.reshape(-1)
    if X.ndim == 0 or (indices < 0).any() or (indices >= X.shape[-1]).any():
        raise ShapeError(f"Y: expected indices into the last axis of {list(X.shape)}")
    selected = X[..., indices]
    return selected.reshape(1, -1) if X.ndim == 1 else selected


@op("Binarizer", 1, domain=DOMAIN)
def binarizer(X: Array, *, threshold: float = 0.0) -> Array:
    """1 where the input is greater than the threshold, else 0, in the input's type.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_Binarizer.html#binarizer-1
    """
    return (np.float32(threshold) < X).astype(X.dtype)


@op("CastMap", 1, domain=DOMAIN)
def cast_map(
    X: Mapping[int, Any],
    *,
    cast_to: str = "TO_FLOAT",
    map_form: str = "DENSE",
    max_map: int = 1,
    context: Context,
) -> Array:
    """The values of a map from integers as a row, by ascending key.

    DENSE: [1, size of the map]; SPARSE: [1, max_map], each value at the place its key says.
    Raises InvalidModelError for keys beyond max_map.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_CastMap.html#castmap-1
    """
    dtypes: dict[str, Any] = {"TO_FLOAT": np.float32, "TO_INT64": np.int64, "TO_STRING": np.object_}
    if cast_to not in dtypes or map_form not in ("DENSE", "SPARSE"):
        raise InvalidModelError(f"cast_to, map_form: expected known ones, got {cast_to!r}, {map_form!r}")
    keys = sorted(X)
    values = [_cast_value(X[key], cast_to) for key in keys]
    if map_form == "DENSE":
        row = np.empty((1, len(keys)), dtypes[cast_to])
        row[0, :] = values
    else:
        if keys and not 0 <= keys[0] <= keys[-1] < max_map:
            raise InvalidModelError(f"keys: expected 0..{max_map - 1}, got {keys[0]}..{keys[-1]}")
        row = np.full((1, max_map), "" if cast_to == "TO_STRING" else 0, dtypes[cast_to])
        row[0, keys] = values
    return as_float_output(row, context) if cast_to == "TO_FLOAT" else row


def _cast_value(value: Any, cast_to: str) -> Any:
    if cast_to == "TO_STRING":
        return value if isinstance(value, str) else f"{float(value):f}"
    return float(value) if cast_to == "TO_FLOAT" else int(float(value))


@op("CategoryMapper", 1, domain=DOMAIN)
def category_mapper(
    X: Array,
    *,
    cats_int64s: Sequence[int] = (),
    cats_strings: Sequence[str] = (),
    default_int64: int = -1,
    default_string: str = "_Unused",
) -> Array:
    """Strings to the integers that stand for them, or integers to strings; a default for what is in no category.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_CategoryMapper.html#categorymapper-1
    """
    if len(cats_int64s) != len(cats_strings):
        raise InvalidModelError(f"expected as many integers as strings, got {len(cats_int64s)} and {len(cats_strings)}")
    strings, integers = np.array(list(cats_strings), np.object_), np.array(cats_int64s, np.int64)
    if X.dtype == np.object_:
        return _looked_up(X, strings, integers, np.int64(default_int64))
    return _looked_up(X, integers, strings, default_string)


@op("DictVectorizer", 1, domain=DOMAIN)
def dict_vectorizer(
    X: Mapping[Any, Any], *, int64_vocabulary: Sequence[int] = (), string_vocabulary: Sequence[str] = ()
) -> Array:
    """The values of a map as a row ordered by a vocabulary; zero (or the empty string) for absent keys.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_DictVectorizer.html#dictvectorizer-1
    """
    vocabulary = list(int64_vocabulary or string_vocabulary)
    unknown = set(X) - set(vocabulary)
    if unknown:
        raise InvalidModelError(f"keys: expected ones of the vocabulary, got {sorted(unknown)[:3]}")
    values = list(X.values())
    if values and isinstance(values[0], str):
        row = np.full((1, len(vocabulary)), "", np.object_)
    else:
        exact = [np.asarray(value).dtype for value in values if isinstance(value, np.generic)]
        fallback = np.int64 if values and isinstance(values[0], int) else np.float32
        row = np.zeros((1, len(vocabulary)), exact[0] if exact else fallback)
    places = {key: place for place, key in enumerate(vocabulary)}
    for key, value in X.items():
        row[0, places[key]] = value
    return row


@op("FeatureVectorizer", 1, domain=DOMAIN)
def feature_vectorizer(*X: Array, inputdimensions: Sequence[int] = (), context: Context) -> Array:
    """Inputs as columns side by side, in float32. X: numbers[N, Ci] or [Ci], each padded or cut to inputdimensions.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_FeatureVectorizer.html#featurevectorizer-1
    """
    columns: list[Array] = []
    for index, x in enumerate(X):
        rows = x.reshape(1, -1) if x.ndim <= 1 else x.reshape(x.shape[0], math.prod(x.shape[1:]))
        width = inputdimensions[index] if index < len(inputdimensions) else rows.shape[1]
        missing = max(width - rows.shape[1], 0)
        if len(rows) != (len(columns[0]) if columns else len(rows)):
            raise ShapeError(f"input {index}: expected {len(columns[0])} rows as the first has, got {len(rows)}")
        if width < 0:
            raise InvalidModelError(f"inputdimensions: expected none below 0, got {list(inputdimensions)}")
        kept = rows[:, :width] if is_float(rows) else rows[:, :width].astype(np.float64)
        columns.append(np.pad(kept, ((0, 0), (0, missing))) if missing else kept)
    return as_float_output(np.concatenate(columns, axis=1), context)


@op("Imputer", 1, domain=DOMAIN)
def imputer(
    X: Array,
    *,
    imputed_value_floats: Sequence[float] = (),
    imputed_value_int64s: Sequence[int] = (),
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Array:
    """The input with one value replaced by another, which may depend on the feature. X: numbers[..., F] -> same.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_Imputer.html#imputer-1
    """
    floats = is_float(X)
    given: Sequence[float] = imputed_value_floats if floats else imputed_value_int64s
    if not given:
        raise InvalidModelError(f"expected imputed values for {X.dtype} input, got none")
    values = np.array(given, np.float32).astype(X.dtype) if floats else np.array(given, X.dtype)
    width = X.shape[-1] if X.ndim else 1
    if values.size not in (1, width):
        raise ShapeError(f"imputed values: expected 1 or {width}, got {values.size}")
    if not floats:
        return np.where(replaced_value_int64 == X, values, X)
    replaced = np.isnan(X) if np.isnan(replaced_value_float) else np.float32(replaced_value_float) == X
    return np.where(replaced, values, X)


@op("LabelEncoder", 1, domain=DOMAIN)
def label_encoder_1(
    X: Array, *, classes_strings: Sequence[str] = (), default_int64: int = -1, default_string: str = "_Unused"
) -> Array:
    """Strings to their index in a list of labels, or indices to labels.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html#labelencoder-1
    """
    labels = np.array(list(classes_strings), np.object_)
    indices = np.arange(len(labels), dtype=np.int64)
    if X.dtype == np.object_:
        return _looked_up(X, labels, indices, np.int64(default_int64))
    return _looked_up(X, indices, labels, default_string)


@op("LabelEncoder", (2, 4), domain=DOMAIN)
def label_encoder_2(
    X: Array,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: Array | None = None,
    keys_floats: Sequence[float] = (),
    keys_int64s: Sequence[int] = (),
    keys_strings: Sequence[str] = (),
    keys_tensor: Array | None = None,
    values_floats: Sequence[float] = (),
    values_int64s: Sequence[int] = (),
    values_strings: Sequence[str] = (),
    values_tensor: Array | None = None,
    context: Context,
) -> Array:
    """Each element replaced by the value that belongs to it as a key, or by a default. NaN is a key like any other.

    X: string, integer or float -> the type of the values, same shape. Of a repeated key the last counts.
    Raises InvalidModelError unless there are as many keys as values.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html#labelencoder-4
    """
    keys = _one_of(keys_floats, keys_int64s, keys_strings, keys_tensor)
    values = _one_of(values_floats, values_int64s, values_strings, values_tensor)
    if len(keys) != len(values):
        raise InvalidModelError(f"expected as many keys as values, got {len(keys)} and {len(values)}")
    default: Any
    if default_tensor is not None:
        default = scalar(default_tensor, "default_tensor")[()]
    elif values.dtype == np.object_:
        default = default_string
    elif values_tensor is not None:
        default = -0.0 if is_float(values) else -1
    else:
        default = default_float if is_float(values) else default_int64
    if context.float64 and is_float(values):
        values = values.astype(np.float64)
    return _looked_up(X, keys, values, default)


def _one_of(floats: Sequence[float], integers: Sequence[int], strings: Sequence[str], tensor: Array | None) -> Array:
    if tensor is not None:
        return tensor.reshape(-1)
    if strings:
        return np.array(list(strings), np.object_)
    return np.array(floats, np.float32) if floats else np.array(integers, np.int64)


def _looked_up(X: Array, keys: Array, values: Array, default: Any) -> Array:
    """values[i] where X equals keys[i], the last such i; the default where no key matches."""
    if (X.dtype == np.object_) != (keys.dtype == np.object_) and len(keys):
        raise DTypeError(f"keys: expected {'strings' if X.dtype == np.object_ else 'numbers'} as X has, got others")
    y = np.full(X.shape, default, values.dtype)
    if not len(keys) or not X.size:
        return y
    if X.dtype == np.object_:
        place = {key: index for index, key in enumerate(keys)}
        found = np.array([place.get(item, -1) for item in X.reshape(-1)], np.int64).reshape(X.shape)
    else:
        latest, first = np.unique(keys[::-1], return_index=True, equal_nan=True)
        position = np.minimum(np.searchsorted(latest, X), len(latest) - 1)
        hit = latest[position] == X
        if is_float(X):
            hit |= np.isnan(X) & np.isnan(latest[position])
        found = np.where(hit, len(keys) - 1 - first[position], -1)
    return np.where(found >= 0, values[found], y).astype(values.dtype)


@op("Normalizer", 1, domain=DOMAIN)
def normalizer(X: Array, *, norm: str = "MAX", context: Context) -> Array:
    """Rows divided by their greatest element, the sum of absolute values, or the Euclidean length.

    X: numbers[N, C] or [C] -> float32, same shape. A row whose divisor is zero is left alone.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html#normalizer-1
    """
    rows = features(X)
    match norm:
        case "MAX":
            divisor = rows.max(axis=1, keepdims=True, initial=-np.inf)
        case "L1":
            divisor = np.abs(rows).sum(axis=1, keepdims=True)
        case "L2":
            divisor = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
        case other:
            raise InvalidModelError(f"norm: expected MAX, L1 or L2, got {other!r}")
    return as_float_output((rows / np.where(divisor == 0, 1, divisor)).reshape(X.shape), context)


@op("OneHotEncoder", 1, domain=DOMAIN)
def one_hot_encoder(
    X: Array,
    *,
    cats_int64s: Sequence[int] = (),
    cats_strings: Sequence[str] = (),
    zeros: int = 1,
    context: Context,
) -> Array:
    """A row of zeros with a one at the place of each element's category. X: any[...] -> float32[..., categories].

    Floats are cut off to integers. Raises InvalidModelError for an unknown category where zeros is 0.
    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_OneHotEncoder.html#onehotencoder-1
    """
    if X.dtype == np.object_:
        number = {text: index for index, text in enumerate(dict.fromkeys(cats_strings))}
        places = np.array([number.get(text, -1) for text in cats_strings], np.int64)
        hits = (
            np.array([number.get(text, -2) for text in X.reshape(-1)], np.int64).reshape(X.shape)[..., None] == places
        )
    else:
        categories = np.array(cats_int64s, np.int64)
        hits = X.astype(np.int64)[..., None] == categories
    if not zeros and not hits.any(axis=-1).all():
        raise InvalidModelError("X: expected known categories (zeros is 0), got an unknown one")
    return as_float_output(np.asarray(hits), context)


@op("Scaler", 1, domain=DOMAIN)
def scaler(X: Array, *, offset: Sequence[float] = (), scale: Sequence[float] = (), context: Context) -> Array:
    """(X - offset) * scale along the last axis. X: numbers[..., F] -> float32, same shape.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html#scaler-1
    """
    wide = X if is_float(X) else X.astype(np.float64)
    offsets, scales = (np.array(values, np.float32).astype(wide.dtype) for values in (offset, scale))
    allowed = (0, 1, X.shape[-1] if X.ndim else 1)
    if offsets.size not in allowed or scales.size not in allowed:
        raise ShapeError(f"offset, scale: expected 1 or {allowed[2]} values, got {offsets.size}, {scales.size}")
    y = wide - offsets if offsets.size else wide
    return as_float_output(y * scales if scales.size else y, context)


@op("ZipMap", 1, domain=DOMAIN)
def zip_map(
    X: Array, *, classlabels_int64s: Sequence[int] = (), classlabels_strings: Sequence[str] = ()
) -> list[dict[Any, Any]]:
    """Rows as maps from class labels to values. X: float32[N, C] or [C] -> a list of maps.

    Spec: https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html#zipmap-1
    """
    labels: list[Any] = list(classlabels_strings or classlabels_int64s)
    rows = X.reshape(1, -1) if X.ndim == 1 else X
    if rows.ndim != 2 or rows.shape[1] != len(labels):
        raise ShapeError(f"X: expected {len(labels)} columns, one for each label, got shape {list(X.shape)}")
    return [dict(zip(labels, row, strict=True)) for row in rows]
