"""Names for kernels that say what they compute: `conv2d_add_relu_f32_1x64x56x56`."""

from __future__ import annotations

import re

from webdnn_backends.ir.loops import Apply, Reduce, Select, subexpressions
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.te.implementation import ScheduleContext
from webdnn_backends.te.tensors import ConvHint, MatMulHint, PoolHint, ReshapeHint, Stage
from webdnn_onnx.dtypes import DType

__all__ = ["shape_name", "short_dtype", "stage_name"]

_SHORT = {DType.FLOAT32: "f32", DType.FLOAT64: "f64", DType.FLOAT16: "f16", DType.INT32: "i32", DType.INT64: "i64"}


def short_dtype(dtype: DType) -> str:
    """f32 for float32, otherwise the type's own name."""
    return _SHORT.get(dtype, dtype.value)


def shape_name(shape: tuple[object, ...]) -> str:
    """1x64x56x56; symbolic sizes by their name, a scalar as "scalar"."""
    return "x".join(re.sub(r"\W+", "_", str(size)) if len(str(size)) <= 12 else "n" for size in shape) or "scalar"


def stage_name(stage: Stage, context: ScheduleContext) -> str:
    """The kernel name of a stage, from its hint, its operators and its output."""
    output = context.tensors[stage.output]
    return f"{_what(stage)}_{short_dtype(output.dtype)}_{shape_name(output.shape)}"


def _what(stage: Stage) -> str:
    words: list[str] = []
    match stage.hint:
        case ConvHint(kernel=kernel):
            words.append(f"conv{len(kernel)}d")
        case MatMulHint():
            words.append("matmul")
        case PoolHint(kind=kind):
            words.append(f"{kind}_pool")
        case ReshapeHint():
            words.append("reshape")
        case None:
            words.extend(f"reduce_{part.op.value}" for part in subexpressions(stage.body) if isinstance(part, Reduce))
    for part in subexpressions(stage.body):
        if isinstance(part, Apply) and not _is_index(part):
            words.append(part.op.value)
        elif isinstance(part, Select):
            words.append("select")
    unique = list(dict.fromkeys(words))
    return "_".join(unique[:5]) or "copy"


def _is_index(part: Apply) -> bool:
    return part.args[0].type in (Scalar.I32, Scalar.U32) or part.op is Op.AND
