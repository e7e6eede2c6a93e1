"""Elementwise functions, casts, activations, and the normalisations that keep their input's shape."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError
from webdnn_onnx.graph import Shape, Type
from webdnn_onnx.infer.call import Call
from webdnn_onnx.infer.registry import rule, shape_rule
from webdnn_onnx.infer.shapes import broadcast

__all__ = ["cast_type"]

_BROADCAST_SINCE = 7
_VARIADIC_BROADCAST_SINCE = 8


@shape_rule(
    (
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor"),
        *("Log", "Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh", "BitwiseNot", "Not"),
        *("Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Hardmax", "LeakyRelu", "LogSoftmax", "Mish"),
        *("Relu", "Selu", "Shrink", "Sigmoid", "Softmax", "Softplus", "Softsign", "Swish", "ThresholdedRelu"),
        *("Affine", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"),
    )
)
def elementwise(call: Call) -> list[Shape]:
    """The input's shape and element type."""
    return [call.shape(0)]


@shape_rule(("IsInf", "IsNaN"), dtype=DType.BOOL)
def predicate(call: Call) -> list[Shape]:
    """The input's shape, as booleans."""
    return [call.shape(0)]


@shape_rule(("PRelu", "SwiGLU"))
def second_follows_first(call: Call) -> list[Shape]:
    """The first input's shape, to which the second one is broadcast."""
    return [call.shape(0)]


@shape_rule(("Add", "Sub", "Mul", "Div"), same=(0, 1))
def arithmetic_1(call: Call) -> list[Shape]:
    """Before opset 7 the second input is broadcast to the first."""
    return [call.shape(0)]


@shape_rule("Pow")
def power_1(call: Call) -> list[Shape]:
    """Before opset 7 the second input is broadcast to the first."""
    return [call.shape(0)]


@shape_rule(("And", "Or", "Xor", "Equal", "Greater", "Less"), dtype=DType.BOOL, same=(0, 1))
def comparison_1(call: Call) -> list[Shape]:
    """Before opset 7 the second input is broadcast to the first."""
    return [call.shape(0)]


@shape_rule(("Add", "Sub", "Mul", "Div"), since=_BROADCAST_SINCE, same=(0, 1))
@shape_rule(("Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"), same=(0, 1))
@shape_rule("Pow", since=_BROADCAST_SINCE)
@shape_rule(("And", "Or", "Xor", "Equal", "Greater", "Less"), since=_BROADCAST_SINCE, dtype=DType.BOOL, same=(0, 1))
@shape_rule(("GreaterOrEqual", "LessOrEqual"), dtype=DType.BOOL, same=(0, 1))
@shape_rule("StringConcat", same=(0, 1))
def binary(call: Call) -> list[Shape]:
    """The broadcast of both inputs."""
    return [broadcast(call, (call.shape(0), call.shape(1)))]


@shape_rule(("Max", "Min", "Sum", "Mean"), same="all")
def variadic_1(call: Call) -> list[Shape]:
    """Before opset 8 all inputs have one shape."""
    return [call.shape(0)]


@shape_rule(("Max", "Min", "Sum", "Mean"), since=_VARIADIC_BROADCAST_SINCE, same="all")
def variadic(call: Call) -> list[Shape]:
    """The broadcast of all inputs."""
    return [broadcast(call, [call.shape(index) for index in range(call.count)])]


@shape_rule("Where", dtype=1, same=(1, 2))
def where(call: Call) -> list[Shape]:
    """The broadcast of condition, X and Y."""
    return [broadcast(call, (call.shape(0), call.shape(1), call.shape(2)))]


@rule("Identity")
def identity(call: Call) -> Sequence[Type | None]:
    """The input's type, whatever kind of value it is."""
    return [call.type(0)]


def cast_type(call: Call) -> DType:
    """The element type that attribute `to` names (a number; at opset 1 the name itself)."""
    value = call.attribute("to")
    if isinstance(value, int):
        try:
            return DType.from_onnx(value)
        except DTypeError as error:
            raise call.dtype_error("attribute 'to'", "an element type", str(value)) from error
    names = {"FLOAT": DType.FLOAT32, "DOUBLE": DType.FLOAT64}
    name = str(value).upper()
    if name in names:
        return names[name]
    try:
        return DType(name.lower())
    except ValueError:
        raise call.dtype_error("attribute 'to'", "an element type", repr(value)) from None


@shape_rule(("Cast", "BitCast"), dtype=cast_type)
def cast(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call.shape(0)]


@shape_rule("CastLike", dtype=1)
def cast_like(call: Call) -> list[Shape]:
    """The first input's shape, the second one's element type."""
    return [call.shape(0)]


@shape_rule("Dropout")
def dropout_1(call: Call) -> list[Shape]:
    """Before opset 10 the mask has the input's element type."""
    return [call.shape(0)] * 2


@shape_rule("Dropout", since=10, dtype=(0, DType.BOOL))
def dropout(call: Call) -> list[Shape]:
    """The input's shape, twice."""
    return [call.shape(0)] * 2


@shape_rule("QuickGelu", domain="com.microsoft")
@shape_rule(("Gelu", "FastGelu", "BiasGelu", "Inverse"), domain="com.microsoft")
def contrib_elementwise(call: Call) -> list[Shape]:
    """The first input's shape."""
    return [call.shape(0)]


@shape_rule(("LRN", "LpNormalization", "MeanVarianceNormalization", "GroupNormalization"))
@shape_rule("InstanceNormalization")
@shape_rule("RMSNormalization", dtype=1)
def normalization(call: Call) -> list[Shape]:
    """The input's shape; its element type, or that of the scale."""
    return [call.shape(0)]


@shape_rule(("CumSum", "CumProd", "Trilu", "ReverseSequence", "TensorScatter"))
def along_axis(call: Call) -> list[Shape]:
    """The first input's shape and element type."""
    return [call.shape(0)]


@shape_rule("Bernoulli", dtype=lambda call: _declared_dtype(call))
@shape_rule(("RandomNormalLike", "RandomUniformLike"), dtype=lambda call: _declared_dtype(call))
def random_like(call: Call) -> list[Shape]:
    """The input's shape, in the element type of attribute `dtype` or else the input's."""
    return [call.shape(0)]


@shape_rule(("RandomNormal", "RandomUniform"), dtype=lambda call: _declared_dtype(call))
def random(call: Call) -> list[Shape]:
    """What attribute `shape` says."""
    shape = call.numbers("shape")
    if shape is None:
        raise call.shape_error("attribute 'shape'", "a list of sizes", "none")
    return [shape]


@shape_rule("Multinomial", dtype=lambda call: _declared_dtype(call))
def multinomial(call: Call) -> list[Shape]:
    """[batch, sample_size]."""
    return [(call.ranked(0, 2)[0], call.number("sample_size", 1))]


def _declared_dtype(call: Call) -> DType:
    value = call.attribute("dtype")
    if isinstance(value, int):
        return DType.from_onnx(value)
    if call.node.op in ("RandomNormal", "RandomUniform"):
        return DType.FLOAT32
    return DType.INT32 if call.node.op == "Multinomial" else call.dtype(0)


@shape_rule("BatchNormalization")
def batch_normalization(call: Call) -> list[Shape]:
    """The input's shape, then that of scale for each running or saved statistic."""
    if call.opset < 9 and not call.number("spatial", 1):
        return [call.shape(0), *[call.shape(1)] * 4]
    shape, scale = call.at_least(0, 1), call.ranked(1, 1)
    channels = shape[1] if len(shape) > 1 else 1
    call.expect_equal("scale", channels, scale[0])
    return [shape, *[scale] * 4]


@shape_rule("BatchNormalization", since=14, dtype=(0, 3))
def batch_normalization_14(call: Call) -> Sequence[Shape | None]:
    """The input's shape; the running statistics keep the element type of their inputs."""
    return batch_normalization(call)


@shape_rule("LayerNormalization", dtype=(0, lambda call: _stash_type(call)))
def layer_normalization(call: Call) -> list[Shape]:
    """The input's shape; mean and inverse deviation have 1 in every axis from `axis` on."""
    shape = call.shape(0)
    axis = call.axis(call.number("axis", -1), len(shape))
    statistics = (*shape[:axis], *(1 for _ in shape[axis:]))
    return [shape, statistics, statistics]


@shape_rule("SimplifiedLayerNormalization", dtype=(0, lambda call: _stash_type(call)))
def simplified_layer_normalization(call: Call) -> Sequence[Shape | None]:
    """As LayerNormalization, without a mean."""
    return layer_normalization(call)[:2]


@shape_rule(
    ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
    domain="com.microsoft",
    dtype=(0, DType.FLOAT32, DType.FLOAT32, 0),
)
def skip_layer_normalization(call: Call) -> list[Shape]:
    """The input's shape, twice the statistics, and the sum that was normalised."""
    shape = call.at_least(0, 2)
    statistics = (*shape[:-1], 1)
    return [shape, statistics, statistics, shape]


def _stash_type(call: Call) -> DType:
    return DType.from_onnx(call.number("stash_type", 1))
