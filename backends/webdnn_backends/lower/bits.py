"""BitCast: the same bytes under another type."""

from __future__ import annotations

from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.registry import lowering
from webdnn_backends.te.tensors import Copy
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError

__all__: list[str] = []


@lowering("BitCast", since=26)
def _bit_cast(context: NodeContext) -> None:
    source, target = context.dtype(0), context.output().dtype
    if DType.STRING in (source, target) or source.bits != target.bits:
        raise DTypeError(
            f"{context.where}: to: expected a type of {source.bits} bits as {source.value} has, got {target.value}"
        )
    context.state.items.append(Copy(context.name(0), context.output().name))
