"""MatMul, Gemm, Einsum and Det.

Narrow floats are multiplied and summed in float32 and rounded once; integers wrap in their own type.
"""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, is_float, narrow, saturate, unidirectional, widen
from webdnn_reference.registry import op

__all__ = ["det", "einsum", "gemm_1", "gemm_7", "gemm_11", "matmul", "matrix_product"]


_BLOCK_ELEMENTS = 1 << 19


def matrix_product(a: Array, b: Array) -> Array:
    """numpy.matmul, with our error. Raises ShapeError for scalars and for inner or batch sizes that differ.

    A large matrix `b` that is a broadcast view, which BLAS cannot read, is spread out some columns at a time.
    """
    try:
        if b.ndim == 2 and 0 in b.strides and b.size > _BLOCK_ELEMENTS:
            step = max(1, _BLOCK_ELEMENTS // b.shape[0])
            blocks = (np.ascontiguousarray(b[:, start : start + step]) for start in range(0, b.shape[1], step))
            return np.concatenate([np.asarray(np.matmul(a, block)) for block in blocks], axis=-1)
        return np.asarray(np.matmul(a, b))
    except ValueError:
        raise ShapeError(
            f"A, B: expected shapes [..., M, K] and [..., K, N] that broadcast, got {list(a.shape)} and {list(b.shape)}"
        ) from None


@op("MatMul", since=(1, 9, 13))
def matmul(A: Array, B: Array) -> Array:
    """The matrix product, with numpy.matmul's treatment of rank 1 and of batch axes.

    A: float or integer [..., M, K]; B: [..., K, N], same dtype -> [..., M, N], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__MatMul.html#matmul-13
    """
    return narrow(matrix_product(widen(A), widen(B)), A)


def _gemm(A: Array, B: Array, C: Array | None, alpha: float, beta: float, transA: int, transB: int) -> Array:
    if A.ndim != 2 or B.ndim != 2:
        raise ShapeError(f"A, B: expected rank 2, got shapes {list(A.shape)} and {list(B.shape)}")
    a, b = widen(A.T if transA else A), widen(B.T if transB else B)
    if a.shape[1] != b.shape[0]:
        raise ShapeError(f"A, B: expected one inner size, got {a.shape[1]} and {b.shape[0]}")
    exact = is_float(A) or (alpha == 1 and beta == 1)
    product = matrix_product(a, b)
    result = product if alpha == 1 else alpha * product
    if C is not None:
        c = unidirectional(widen(C), product.shape, "C")
        result = result + (c if beta == 1 else beta * c)
    return narrow(result, A) if exact else saturate(np.trunc(result), A.dtype)


@op("Gemm", since=(1, 6))
def gemm_1(
    A: Array,
    B: Array,
    C: Array,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """alpha * A @ B + beta * C; only with broadcast=1 may C be smaller than the result.

    A: float [M, K] or its transpose; B: [K, N] or its transpose; C -> [M, N], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Gemm.html#gemm-6
    """
    shape = (A.shape[1 if transA else 0], B.shape[0 if transB else 1]) if A.ndim == B.ndim == 2 else None
    if not broadcast and shape is not None and C.shape != shape:
        raise ShapeError(f"C: expected shape {list(shape)}, got {list(C.shape)}; only broadcast=1 allows another")
    return _gemm(A, B, C, alpha, beta, transA, transB)


@op("Gemm", since=(7, 9))
def gemm_7(
    A: Array, B: Array, C: Array, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Array:
    """alpha * A @ B + beta * C.

    A: number [M, K] or its transpose; B: [K, N] or its transpose; C: broadcastable to [M, N] -> [M, N], same dtype.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__Gemm.html#gemm-9
    """
    return _gemm(A, B, C, alpha, beta, transA, transB)


@op("Gemm", since=(11, 13))
def gemm_11(
    A: Array,
    B: Array,
    C: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """alpha * A @ B + beta * C, where C may be absent.

    A: number [M, K] or its transpose; B: [K, N] or its transpose; C: broadcastable to [M, N] -> [M, N], same dtype.
    Raises ShapeError.   Spec: https://onnx.ai/onnx/operators/onnx__Gemm.html#gemm-13
    """
    return _gemm(A, B, C, alpha, beta, transA, transB)


@op("Einsum", since=(12, 28))
def einsum(*Inputs: Array, equation: str) -> Array:
    """The sum of products that an equation in Einstein's convention names.

    Inputs: any number, of one dtype -> that dtype.   Raises ShapeError, InvalidModelError for a bad equation.
    Spec: https://onnx.ai/onnx/operators/onnx__Einsum.html#einsum-28
    """
    terms = equation.replace(" ", "")
    if terms.partition("->")[0].count(",") + 1 != len(Inputs):
        raise InvalidModelError(f"equation: expected {len(Inputs)} terms, one per input, got {equation!r}")
    operands = [widen(x) for x in Inputs]
    try:
        return narrow(np.einsum(terms, *operands, optimize="greedy" if len(operands) > 1 else False), Inputs[0])
    except ValueError as error:
        shapes = " and ".join(str(list(x.shape)) for x in Inputs)
        raise ShapeError(f"equation {equation!r}: expected inputs that fit it, got {shapes} ({error})") from None


@op("Det", since=(11, 22))
def det(X: Array) -> Array:
    """The determinant of each matrix.

    X: float [..., M, M] -> [...], same dtype.   Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__Det.html#det-22
    """
    if X.ndim < 2 or X.shape[-1] != X.shape[-2]:
        raise ShapeError(f"X: expected square matrices [..., M, M], got shape {list(X.shape)}")
    return narrow(np.linalg.det(widen(X)), X)
