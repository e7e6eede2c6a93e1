"""The limited broadcasting that binary operators had before opset 7: attributes `broadcast` and `axis`."""

from __future__ import annotations

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, axis_of, unidirectional

__all__ = ["legacy_operand"]


def legacy_operand(A: Array, B: Array, broadcast: int, axis: int | None) -> Array:
    """B, viewed so that NumPy combines it with A as operators before opset 7 say.

    Without `broadcast` the shapes are equal. With it B is one element, or its shape is a contiguous part of A's
    shape, which starts at `axis` (by default it is the suffix).   Raises ShapeError otherwise.
    Spec: https://onnx.ai/onnx/operators/onnx__Add.html#add-6
    """
    if not broadcast:
        if A.shape != B.shape:
            raise ShapeError(
                f"B: expected the shape of A, {list(A.shape)}, got {list(B.shape)}; only broadcast=1 allows another"
            )
        return B
    if B.size == 1:
        return B.reshape(())
    start = A.ndim - B.ndim if axis is None else axis_of(axis, A.ndim)
    end = start + B.ndim
    if start < 0 or end > A.ndim:
        raise ShapeError(f"B: expected at most the dimensions of A from axis {axis}, got {list(B.shape)}")
    return unidirectional(B.reshape(*B.shape, *[1] * (A.ndim - end)), A.shape, "B")
