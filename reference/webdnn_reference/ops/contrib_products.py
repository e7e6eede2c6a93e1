"""Matrix products and convolutions of com.microsoft that are fused with something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from webdnn_onnx.errors import ShapeError
from webdnn_reference.numeric import Array, narrow, unidirectional, widen
from webdnn_reference.ops.contrib_activations import MS, fused_activation
from webdnn_reference.ops.convolution import conv
from webdnn_reference.ops.linear_algebra import gemm_11, matrix_product
from webdnn_reference.registry import op

__all__ = ["fused_conv", "fused_gemm", "fused_matmul", "nhwc_fused_conv", "transpose_matmul"]


@op("FusedMatMul", 1, domain=MS)
def fused_matmul(
    A: Array,
    B: Array,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Array:
    """alpha op(A) op(B), as numpy.matmul. A, B: float -> dtype of A.

    transBatch moves the first axis behind the other batch axes; trans then swaps the last two.
    Raises ShapeError.
    """
    a, b = _arranged(widen(A), transA, transBatchA), _arranged(widen(B), transB, transBatchB)
    product = matrix_product(a, b)
    return narrow(product if alpha == 1 else product.dtype.type(alpha) * product, A)


@op("TransposeMatMul", 1, domain=MS)
def transpose_matmul(A: Array, B: Array, *, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> Array:
    """alpha op(A) op(B), as numpy.matmul: the older name of FusedMatMul."""
    return fused_matmul(A, B, alpha=alpha, transA=transA, transB=transB)


def _arranged(x: Array, transpose: int, batch: int) -> Array:
    if batch and x.ndim > 2:
        x = np.moveaxis(x, 0, -2)
    return np.swapaxes(x, -1, -2) if transpose and x.ndim > 1 else x


@op("FusedGemm", 1, domain=MS)
def fused_gemm(
    A: Array,
    B: Array,
    C: Array | None = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,  # noqa: ARG001 - no activation takes it
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """Gemm, then an activation. Shapes as Gemm-11. Raises ShapeError, InvalidModelError."""
    product = gemm_11(widen(A), widen(B), C, alpha=alpha, beta=beta, transA=transA, transB=transB)
    given = [value for value in (activation_alpha, activation_beta) if value is not None]
    return narrow(fused_activation(product, activation, given), A)


@op("FusedConv", 1, domain=MS)
def fused_conv(
    X: Array,
    W: Array,
    B: Array | None = None,
    Z: Array | None = None,
    *,
    activation: str | None = None,
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Conv, plus Z, then an activation. Shapes as Conv; Z: as the output. Raises ShapeError, InvalidModelError."""
    y = conv(
        widen(X),
        widen(W),
        B,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    if Z is not None:
        y = y + widen(unidirectional(Z, y.shape, "Z"))
    return narrow(fused_activation(y, activation, activation_params), X)


@op("NhwcFusedConv", 1, domain=MS)
def nhwc_fused_conv(
    X: Array,
    W: Array,
    B: Array | None = None,
    Z: Array | None = None,
    *,
    activation: str | None = None,
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """FusedConv of channels-last data. X: float[N, D1..Dr, C], W: [M, C / group, k1..kr], Z: as the output."""
    if X.ndim < 3 or (Z is not None and Z.ndim != X.ndim):
        got = f"{list(X.shape)}{'' if Z is None else f' and {list(Z.shape)}'}"
        raise ShapeError(f"X, Z: expected [N, D1..Dr, C], got {got}")
    y = fused_conv(
        np.moveaxis(X, -1, 1),
        W,
        B,
        None if Z is None else np.moveaxis(Z, -1, 1),
        activation=activation,
        activation_params=activation_params,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return np.moveaxis(y, 1, -1)
