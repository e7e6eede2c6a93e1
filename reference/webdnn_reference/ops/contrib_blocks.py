"""Operators of com.microsoft on weights quantized in blocks: MatMulNBits, MatMulBnb4 and GatherBlockQuantized."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, axis_of, is_float, narrow, widen, widen_integer
from webdnn_reference.ops.contrib_activations import MS
from webdnn_reference.registry import op

__all__ = ["dequantized_blocks", "gather_block_quantized", "matmul_bnb4", "matmul_nbits", "unpacked"]


def unpacked(packed: Array, bits: int) -> Array:
    """Unsigned integers of `bits` bits from the bytes along the last axis, low-order bits first."""
    if not 1 <= bits <= 8:
        raise InvalidModelError(f"bits: expected 1 to 8, got {bits}")
    if bits == 8:
        return packed
    if 8 % bits == 0:
        pieces = np.empty((*packed.shape, 8 // bits), np.uint8)
        for place in range(8 // bits):
            np.right_shift(packed, np.uint8(place * bits), out=pieces[..., place])
        pieces &= np.uint8((1 << bits) - 1)
        return pieces.reshape(*packed.shape[:-1], packed.shape[-1] * (8 // bits))
    stream = np.unpackbits(packed, axis=-1, bitorder="little")
    count = stream.shape[-1] // bits
    groups = stream[..., : count * bits].reshape(*packed.shape[:-1], count, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return np.asarray((groups * weights).sum(axis=-1, dtype=np.uint8))


def dequantized_blocks(
    packed: Array, scales: Array, zero_points: Array | None, bits: int, block_size: int, length: int
) -> Array:
    """Rows of numbers [..., length] from packed integers whose blocks along a row have a scale and zero point each.

    packed: uint8[..., bytes]; scales: [..., blocks] in the type to compute in; zero_points: [..., blocks] as numbers,
    or packed like the rows; absent, the middle of the range.
    """
    values = unpacked(packed, bits).astype(scales.dtype)
    blocks = scales.shape[-1]
    whole = values[..., : blocks * block_size]
    if whole.shape[-1] < length:
        raise ShapeError(f"quantized weights: expected rows of {length} values, got {whole.shape[-1]}")
    zero: Array
    if zero_points is None:
        zero = np.array(1 << (bits - 1), scales.dtype)
    elif zero_points.dtype == np.uint8:
        zero = unpacked(zero_points, bits)[..., :blocks].astype(scales.dtype)
    else:
        zero = widen(zero_points).astype(scales.dtype)
    if whole.shape == (*scales.shape[:-1], blocks * block_size):
        grid = whole.reshape(*scales.shape, block_size)
        grid -= zero if zero.ndim == 0 else zero[..., None]
        grid *= scales[..., None]
        return grid.reshape(whole.shape)[..., :length]
    index = np.arange(whole.shape[-1]) // block_size
    offset = zero if zero.ndim == 0 else zero[..., index]
    return ((whole - offset) * scales[..., index])[..., :length]


@op("MatMulNBits", 1, domain=MS)
def matmul_nbits(
    A: Array,
    B: Array,
    scales: Array,
    zero_points: Array | None = None,
    g_idx: Array | None = None,
    bias: Array | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,  # noqa: ARG001 - a least accuracy, which this exceeds
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> Array:
    """A times the transpose of a matrix quantized in blocks along K, plus bias.

    A: float[..., K]; B: uint8[N, blocks, block_size * bits / 8]; scales: [N, blocks]; zero_points: uint8, packed as
    B along the blocks, or float[N, blocks]; g_idx: int32[K], the block of each column; bias: [N] -> dtype of A,
    [..., N]. An empty B gives zeros (plus bias). Raises ShapeError, InvalidModelError.
    """
    if weight_prepacked:
        raise InvalidModelError(f"weight_prepacked: expected 0, the portable layout, got {weight_prepacked}")
    if A.shape[-1] != K:
        raise ShapeError(f"A: expected a last dimension of {K}, got shape {list(A.shape)}")
    if block_size < 1 or not 1 <= bits <= 8:
        raise InvalidModelError(f"block_size, bits: expected a positive size and 1 to 8 bits, got {block_size}, {bits}")
    a = widen(A)
    if B.size == 0:
        product = np.zeros((*A.shape[:-1], N), a.dtype)
    else:
        blocks = -(-K // block_size)
        if B.size != N * blocks * (block_size * bits // 8) or scales.size != N * blocks:
            expected = f"{[N, blocks, block_size * bits // 8]} and {[N, blocks]}"
            raise ShapeError(f"B, scales: expected shapes {expected}, got {list(B.shape)} and {list(scales.shape)}")
        if zero_points is not None:
            width = -(-blocks * bits // 8) if zero_points.dtype == np.uint8 else blocks
            if zero_points.size != N * width:
                raise ShapeError(f"zero_points: expected shape [{N}, {width}], got {list(zero_points.shape)}")
        if g_idx is not None and (len(g_idx) != K or not 0 <= g_idx.min() <= g_idx.max() < blocks):
            raise ShapeError(f"g_idx: expected {K} blocks of 0..{blocks - 1}, got shape {list(g_idx.shape)}")
        factors = widen(scales).astype(a.dtype).reshape(N, blocks)
        zero = None if zero_points is None else zero_points.reshape(N, -1)
        packed = B.reshape(N, -1)
        if g_idx is None:
            weights = dequantized_blocks(packed, factors, zero, bits, block_size, K)
        else:
            weights = _by_group(packed, factors, zero, bits, g_idx)
        product = a @ weights.T
    return narrow(product if bias is None else product + widen(bias), A)


def _by_group(packed: Array, scales: Array, zero_points: Array | None, bits: int, g_idx: Array) -> Array:
    """As dequantized_blocks, with the block of each column given."""
    values = unpacked(packed, bits)[:, : len(g_idx)].astype(scales.dtype)
    zero: Array = np.full(scales.shape, 1 << (bits - 1), scales.dtype)
    if zero_points is not None:
        numbers = unpacked(zero_points, bits)[:, : scales.shape[1]] if zero_points.dtype == np.uint8 else zero_points
        zero = widen(numbers).astype(scales.dtype)
    return np.asarray((values - zero[:, g_idx]) * scales[:, g_idx])


_PART = 1 << 14
_FP4 = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], np.float32)
_NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)
"""Quantiles of the normal distribution, from QLoRA (https://arxiv.org/abs/2305.14314), appendix E."""


@op("MatMulBnb4", 1, domain=MS)
def matmul_bnb4(
    A: Array,
    B: Array,
    absmax: Array,
    *,
    K: int,
    N: int,
    block_size: int,
    quant_type: int,
    training_mode: int = 0,  # noqa: ARG001 - says nothing about values
    transB: int = 1,
) -> Array:
    """A times the transpose of a matrix [N, K] of 4-bit floats, scaled by blocks of its elements in row-major order.

    A: float[..., K] (N if not transB); B: uint8[(N K + 1) / 2], the first of two values in the high bits; absmax:
    float, the scale of each block; quant_type: 0 for FP4, 1 for NF4 -> dtype of A, [..., N] (K if not transB).
    Raises ShapeError, InvalidModelError.
    """
    if quant_type not in (0, 1):
        raise InvalidModelError(f"quant_type: expected 0 or 1, got {quant_type}")
    if A.shape[-1] != (K if transB else N):
        raise ShapeError(f"A: expected a last dimension of {K if transB else N}, got {list(A.shape)}")
    if min(block_size, N, K) < 1 or 2 * B.size < N * K or absmax.size * block_size < N * K:
        got = f"{list(B.shape)} and {list(absmax.shape)} for blocks of {block_size}"
        raise ShapeError(f"B, absmax: expected {N * K} values and their blocks, got {got}")
    packed, a = B.reshape(-1), widen(A)
    table = (_NF4 if quant_type else np.concatenate([_FP4, -_FP4])).astype(a.dtype)
    factors = widen(absmax).astype(a.dtype).reshape(-1)
    weights = np.empty(N * K, a.dtype)
    block_size = min(block_size, max(1, N * K))
    step = 2 * block_size * max(1, _PART // block_size)
    for start in range(0, N * K, step):
        stop = min(start + step, N * K)
        part = packed[start // 2 : (stop + 1) // 2]
        codes = np.stack([part >> 4, part & 15], axis=1).reshape(-1)[: stop - start]
        scales = np.repeat(factors[start // block_size : -(-stop // block_size)], block_size)
        np.multiply(table[codes], scales[: stop - start], out=weights[start:stop])
    matrix = weights.reshape(N, K)
    return narrow(a @ (matrix.T if transB else matrix), A)


@op("GatherBlockQuantized", 1, domain=MS)
def gather_block_quantized(
    data: Array,
    indices: Array,
    scales: Array,
    zero_points: Array | None = None,
    *,
    bits: int = 4,
    block_size: int = 128,
    gather_axis: int = 0,
    quantize_axis: int = 1,
) -> Array:
    """Gather from a table quantized in blocks along one axis, dequantized.

    data: int4, uint4, float8, float4, or uint8 that packs `bits` bits along the last axis; indices: integers;
    scales: float, one for each block -> dtype of scales. An index out of range gives zeros. An absent zero point is 0,
    for uint8 the middle of the range. Raises ShapeError.
    """
    rank = data.ndim
    if scales.ndim != rank or (zero_points is not None and zero_points.ndim != rank) or not 0 < block_size < 1 << 31:
        got = f"{list(data.shape)}, {list(scales.shape)}, blocks of {block_size}"
        raise ShapeError(f"data, scales, zero_points, block_size: expected one rank and positive blocks, got {got}")
    gathered, quantized = axis_of(gather_axis, rank), axis_of(quantize_axis, rank)
    packed = data.dtype == np.uint8
    for axis in set(range(rank)) - {quantized}:
        # Along the last axis the table is packed, the scales are not.
        own = data.shape[axis] * (8 // bits if packed and axis == rank - 1 and bits in (1, 2, 4, 8) else 1)
        if scales.shape[axis] not in (1, own):
            raise ShapeError(f"scales: expected {own} or 1 along axis {axis}, got shape {list(scales.shape)}")
    if zero_points is not None:
        last = -(-scales.shape[-1] * bits // 8) if packed else scales.shape[-1]
        if zero_points.shape != (*scales.shape[:-1], last):
            expected = [*scales.shape[:-1], last]
            raise ShapeError(f"zero_points: expected shape {expected}, got {list(zero_points.shape)}")
    size = data.shape[gathered]
    chosen = np.where(indices < 0, indices + size, indices)
    known = (chosen >= 0) & (chosen < size)
    if gathered != quantized and size:
        rows = np.where(known, chosen, 0).reshape(-1)
        data = np.take(data, rows, axis=gathered)
        scales = np.take(scales, rows, axis=gathered) if scales.shape[gathered] == size else scales
        if zero_points is not None:
            zero_points = (
                np.take(zero_points, rows, axis=gathered) if zero_points.shape[gathered] == size else zero_points
            )
        table = _table(data, scales, zero_points, bits, block_size, quantized, packed)
    else:
        table = _table(data, scales, zero_points, bits, block_size, quantized, packed)
        table = np.take(table, np.where(known, chosen, 0).reshape(-1), axis=gathered)
    table = table.reshape(*table.shape[:gathered], *indices.shape, *table.shape[gathered + 1 :])
    mask = known.reshape(*[1] * gathered, *indices.shape, *[1] * (rank - gathered - 1))
    return narrow(np.where(mask, table, 0), scales)


def _table(
    data: Array, scales: Array, zero_points: Array | None, bits: int, block_size: int, axis: int, packed: bool
) -> Array:
    """The numbers that quantized data stands for."""
    factors = widen(scales)
    values = unpacked(data, bits) if packed else data
    numbers = widen(values) if is_float(values) else widen_integer(values).astype(np.int32)
    length = numbers.shape[axis]
    index = np.arange(length) // (block_size or max(length, 1))
    if index.size and index[-1] >= factors.shape[axis]:
        raise ShapeError(f"scales: expected {index[-1] + 1} blocks along axis {axis}, got {list(scales.shape)}")
    if zero_points is not None:
        zero = unpacked(zero_points, bits) if packed else widen_integer(zero_points)
        zero = zero[tuple(slice(0, count) for count in factors.shape)].astype(np.int32)
        numbers = numbers - np.take(zero, index, axis=axis)
    elif packed:
        numbers = numbers - (1 << (bits - 1))
    return np.asarray(numbers.astype(factors.dtype) * np.take(factors, index, axis=axis))
