"""Encoders, maps and simple transforms of ai.onnx.ml."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import apply, cast, const, floor_div, floor_mod, select
from webdnn_backends.ir.loops import Const, Expr, ReduceOp
from webdnn_backends.ir.scalars import Op, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.elementwise import like
from webdnn_backends.lower.ml_scores import DOMAIN, wide_type
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []


@lowering("ArrayFeatureExtractor", domain=DOMAIN)
def _array_feature_extractor(context: NodeContext) -> None:
    rank, sizes = context.rank(0), context.shape(1)

    def body(i: Indices) -> Expr:
        place: list[Expr] = []
        rest = i[-1]
        for size in reversed(sizes[1:]):
            place.append(floor_mod(rest, build.dim(size)))
            rest = floor_div(rest, build.dim(size))
        at = cast(DType.INT32, context.element(1, [rest, *reversed(place)] if sizes else []))
        return context.element(0, [*(i[:-1] if rank > 1 else ()), at])

    context.emit(body)


@lowering("Binarizer", domain=DOMAIN)
def _binarizer(context: NodeContext) -> None:
    threshold = context.attribute("threshold", 0.0)

    def body(i: Indices) -> Expr:
        x = context.element(0, i)
        compared = x if x.type.is_float else cast(DType.FLOAT64, x)
        above = apply(Op.GT, compared, like(compared, float(np.float32(threshold))))
        return select(above, const(1, x.type), const(0, x.type))

    context.emit(body)


@lowering("Scaler", domain=DOMAIN)
def _scaler(context: NodeContext) -> None:
    wide = wide_type(context)
    tables = []
    for name in ("offset", "scale"):
        values: tuple[float, ...] = context.attribute(name, ())
        tables.append((context.table(np.array(values, np.float32).astype(wide.numpy)), len(values)) if values else None)

    def body(i: Indices) -> Expr:
        y = cast(wide, context.element(0, i))
        for table, op in zip(tables, (Op.SUB, Op.MUL), strict=True):
            if table is not None:
                y = apply(op, y, context.read(table[0], (i[-1] if table[1] > 1 else Const(0),)))
        return cast(DType.FLOAT32, y)

    context.emit(body)


@lowering("Imputer", domain=DOMAIN)
def _imputer(context: NodeContext) -> None:
    dtype = context.dtype(0)
    kind = "float" if dtype.is_float else "int64"
    given: tuple[float, ...] = context.attribute(f"imputed_value_{kind}s", ())
    replaced: float = context.attribute(f"replaced_value_{kind}", 0)
    if not given:
        raise InvalidModelError(f"{context.where}: expected imputed values for {dtype.value} input, got none")
    table = context.table(
        np.array(given, np.float32).astype(dtype.numpy) if dtype.is_float else np.array(given, dtype.numpy)
    )

    def body(i: Indices) -> Expr:
        x = context.element(0, i)
        is_nan = isinstance(replaced, float) and math.isnan(replaced)
        hit = apply(Op.IS_NAN, x) if is_nan else apply(Op.EQ, x, const(replaced, x.type))
        return select(hit, context.read(table, (i[-1] if len(given) > 1 else Const(0),)), x)

    context.emit(body)


@lowering("Normalizer", domain=DOMAIN)
def _normalizer(context: NodeContext) -> None:
    shape, wide = context.shape(0), wide_type(context)
    norm = context.attribute("norm", "MAX")
    if norm not in ("MAX", "L1", "L2"):
        raise InvalidModelError(f"{context.where}: norm: expected MAX, L1 or L2, got '{norm}'")
    op = ReduceOp.MAX if norm == "MAX" else ReduceOp.SUM

    def divisor(i: Indices) -> Expr:
        def term(k: Indices) -> Expr:
            x = cast(wide, context.element(0, [*i[:-1], k[0]]))
            return x if norm == "MAX" else apply(Op.ABS, x) if norm == "L1" else apply(Op.MUL, x, x)

        total = context.reduce(op, [shape[-1]], term)
        return apply(Op.SQRT, total) if norm == "L2" else total

    total = context.temporary(wide, (*shape[:-1], 1), divisor)

    def body(i: Indices) -> Expr:
        by = context.read(total, [*i[:-1], Const(0)])
        by = select(apply(Op.EQ, by, like(by, 0)), like(by, 1), by)
        return cast(DType.FLOAT32, apply(Op.DIV, cast(wide, context.element(0, i)), by))

    context.emit(body)


@lowering("FeatureVectorizer", domain=DOMAIN)
def _feature_vectorizer(context: NodeContext) -> None:
    count = len(context.node.inputs)
    given: tuple[int, ...] = context.attribute("inputdimensions", ())
    widths: list[Dim] = []
    for index in range(count):
        shape = context.shape(index)
        inner: Dim = 1
        for size in shape[1:] if len(shape) > 1 else shape:
            inner = inner * size
        widths.append(given[index] if index < len(given) else inner)
    context.define({1: sum(widths, start=0)})

    def part(index: int, row: Expr, column: Expr) -> Expr:
        shape = context.shape(index)
        if len(shape) > 2:
            raise context.unsupported(f"an input of rank {len(shape)}")
        last = shape[-1] if shape else 1
        at = apply(Op.MIN, column, build.sub(build.dim(last), 1)) if widths[index] != last else column
        x = cast(DType.FLOAT32, context.element(index, [row, at][2 - len(shape) :] if shape else []))
        return x if widths[index] == last else select(apply(Op.LT, column, build.dim(last)), x, like(x, 0))

    def body(i: Indices) -> Expr:
        starts: list[Dim] = [0]
        for width in widths:
            starts.append(starts[-1] + width)
        result = part(count - 1, i[0], build.sub(i[1], build.dim(starts[count - 1])))
        for index in range(count - 2, -1, -1):
            own = part(index, i[0], build.sub(i[1], build.dim(starts[index])))
            result = select(apply(Op.LT, i[1], build.dim(starts[index + 1])), own, result)
        return result

    context.emit(body)


@lowering("OneHotEncoder", domain=DOMAIN)
def _one_hot_encoder(context: NodeContext) -> None:
    zeros = context.attribute("zeros", 1)
    strings: tuple[str, ...] = context.attribute("cats_strings", ())
    integers: tuple[int, ...] = context.attribute("cats_int64s", ())
    if strings or not zeros:
        context.host("one_hot_encoder", {"categories": list(strings or integers), "zeros": zeros})
        return
    table = context.table(np.array(integers, np.int64))

    def body(i: Indices) -> Expr:
        x = context.element(0, i[:-1])
        hit = apply(Op.EQ, cast(DType.INT64, x), context.read(table, (i[-1],)))
        return select(hit, build.f32(1.0), build.f32(0.0))

    context.emit(body)


@lowering("CategoryMapper", domain=DOMAIN)
def _category_mapper(context: NodeContext) -> None:
    integers: list[int] = list(context.attribute("cats_int64s", ()))
    strings: list[str] = list(context.attribute("cats_strings", ()))
    if context.dtype(0) is DType.STRING:
        _look_up(context, strings, integers, context.attribute("default_int64", -1))
    else:
        _look_up(context, integers, strings, context.attribute("default_string", "_Unused"))


@lowering("LabelEncoder", domain=DOMAIN)
def _label_encoder_1(context: NodeContext) -> None:
    labels: list[str] = list(context.attribute("classes_strings", ()))
    if context.dtype(0) is DType.STRING:
        _look_up(context, labels, list(range(len(labels))), context.attribute("default_int64", -1))
    else:
        _look_up(context, list(range(len(labels))), labels, context.attribute("default_string", "_Unused"))


@lowering("LabelEncoder", since=2, domain=DOMAIN)
def _label_encoder(context: NodeContext) -> None:
    keys, values = _listed(context, "keys"), _listed(context, "values")
    if len(keys) != len(values):
        raise InvalidModelError(f"{context.where}: expected as many keys as values, got {len(keys)} and {len(values)}")
    target = context.state.tensor(context.node.outputs[0]).dtype
    default: Any = context.attribute("default_tensor", None)
    if default is not None:
        default = np.asarray(default).reshape(-1)[0]
    elif target is DType.STRING:
        default = context.attribute("default_string", "_Unused")
    elif context.attribute("values_tensor", None) is not None:
        default = -0.0 if target.is_float else -1
    else:
        default = context.attribute(
            "default_float" if target.is_float else "default_int64", -0.0 if target.is_float else -1
        )
    _look_up(context, keys, values, default)


def _listed(context: NodeContext, side: str) -> list[Any]:
    tensor = context.attribute(f"{side}_tensor", None)
    if tensor is not None:
        return list(np.asarray(tensor).reshape(-1).tolist())
    for kind in ("strings", "floats", "int64s"):
        given: tuple[Any, ...] = context.attribute(f"{side}_{kind}", ())
        if given:
            return [float(np.float32(item)) for item in given] if kind == "floats" else list(given)
    return []


def _look_up(context: NodeContext, keys: Sequence[Any], values: Sequence[Any], default: Any) -> None:
    """The value of each element as a key, the last of equal ones, or the default."""
    source, target = context.dtype(0), context.state.tensor(context.node.outputs[0]).dtype
    if DType.STRING in (source, target):
        options = {
            "keys": _as_json(keys),
            "values": _as_json(values),
            "fallback": _as_json([default])[0],
            "dtype": target.value,
        }
        context.host("look_up", options)
        return
    key_table = context.table(np.array(keys, source.numpy))
    value_table = context.table(np.array(values, target.numpy))
    scalar = compute_type(target)

    def body(i: Indices) -> Expr:
        def hit(k: Indices) -> Expr:
            x, key = context.element(0, i), context.read(key_table, k)
            same = apply(Op.EQ, x, key)
            if x.type.is_float:
                same = apply(Op.OR, same, apply(Op.AND, apply(Op.IS_NAN, x), apply(Op.IS_NAN, key)))
            return select(same, k[0], Const(-1))

        place = context.reduce(ReduceOp.MAX, [len(keys)], hit)
        found = context.read(value_table, (apply(Op.MAX, place, Const(0)),))
        return select(apply(Op.GE, place, Const(0)), found, const(default, scalar))

    context.emit(body)


def _as_json(values: Sequence[Any]) -> list[Any]:
    """Values as JSON holds them: floats that are no numbers by their names in JavaScript."""
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    result: list[Any] = []
    for value in values:
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, float) and not math.isfinite(plain):
            plain = names.get(plain, "NaN")
        result.append(plain)
    return result


@lowering("ZipMap", domain=DOMAIN)
def _zip_map(context: NodeContext) -> None:
    labels: tuple[Any, ...] = context.attribute("classlabels_strings", ()) or context.attribute(
        "classlabels_int64s", ()
    )
    context.host("zip_map", {"labels": list(labels)})


@lowering("CastMap", domain=DOMAIN)
def _cast_map(context: NodeContext) -> None:
    target = {"TO_FLOAT": "float32", "TO_INT64": "int64", "TO_STRING": "string"}
    size = context.attribute("max_map", 1) if context.attribute("map_form", "DENSE") == "SPARSE" else 0
    context.host("cast_map", {"dtype": target[context.attribute("cast_to", "TO_FLOAT")], "size": size})


@lowering("DictVectorizer", domain=DOMAIN)
def _dict_vectorizer(context: NodeContext) -> None:
    words: tuple[Any, ...] = context.attribute("string_vocabulary", ()) or context.attribute("int64_vocabulary", ())
    dtype = context.state.tensor(context.node.outputs[0]).dtype
    context.host("dict_vectorizer", {"vocabulary": list(words), "dtype": dtype.value})
