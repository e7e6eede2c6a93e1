"""Arithmetic rules that all operator families share.

Narrow floats: an operator on float16, bfloat16, float8*, float6* or float4 computes in float32 and rounds once, at its
end, unless the specification's function body says otherwise: `narrow(f(widen(x)), x)`. float32 and float64 compute in
themselves. Integers are explicit too: `saturate` or `wrap`, never whatever a NumPy cast does on this platform.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeAlias

import numpy as np
import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import ShapeError

__all__ = [
    "NARROW_FLOATS",
    "ORACLE_FLOATS",
    "Array",
    "average",
    "axes_of",
    "axis_of",
    "broadcast",
    "broadcast_shape",
    "broadcastable",
    "by_parts",
    "in_parts",
    "int_list",
    "is_float",
    "is_integer",
    "limits",
    "narrow",
    "saturate",
    "scalar",
    "scalar_int",
    "select",
    "single",
    "unidirectional",
    "widen",
    "widen_integer",
    "wrap",
]

Array: TypeAlias = npt.NDArray[Any]
P = ParamSpec("P")

NARROW_FLOATS: frozenset[np.dtype[Any]] = frozenset(
    dtype.numpy for dtype in DType if dtype.is_float and dtype not in (DType.FLOAT32, DType.FLOAT64)
)
ORACLE_FLOATS: frozenset[np.dtype[Any]] = frozenset(
    dtype.numpy for dtype in DType if dtype.is_float and dtype.bits >= 16
)
"""Held as float64 by the oracle. Rounding to the narrower ones is what a model means by them, not drift."""
_FLOATS: frozenset[np.dtype[Any]] = frozenset(dtype.numpy for dtype in DType if dtype.is_float)
_INTEGERS: frozenset[np.dtype[Any]] = frozenset(dtype.numpy for dtype in DType if dtype.is_integer)
_FLOAT32 = np.dtype(np.float32)
_PART = 1 << 15
_SMALL = 1 << 11
_WORDS = {2: np.int16, 4: np.int32, 8: np.int64}


def is_float(x: Array | npt.DTypeLike) -> bool:
    """Whether an array or dtype is floating-point, the narrow types included (NumPy's own test misses those)."""
    return _dtype(x) in _FLOATS


def is_integer(x: Array | npt.DTypeLike) -> bool:
    """Whether an array or dtype is an integer type, int4, int2 and their unsigned forms included; bool is none."""
    return _dtype(x) in _INTEGERS


def widen(x: Array) -> Array:
    """The array in the type its operator computes in: float32 for narrow floats, else itself."""
    return x.astype(_FLOAT32) if x.dtype in NARROW_FLOATS else x


def narrow(y: Array, like: Array | npt.DTypeLike) -> Array:
    """Round a result once to the dtype of `like` (an array or a dtype); itself if it has that dtype already."""
    return np.asarray(y).astype(_dtype(like), copy=False)


def widen_integer(x: Array) -> Array:
    """Sub-byte integers as int8 or uint8, which NumPy computes with; other arrays as they are."""
    if x.dtype in _INTEGERS and x.dtype.kind not in "iu":
        return x.astype(np.int8 if limits(x.dtype)[0] < 0 else np.uint8)
    return x


def limits(dtype: npt.DTypeLike) -> tuple[int, int]:
    """The least and greatest value of an integer type, int4 and int2 included."""
    kind = DType.from_numpy(dtype)
    if kind.is_signed_integer:
        return -(1 << (kind.bits - 1)), (1 << (kind.bits - 1)) - 1
    return 0, (1 << kind.bits) - 1


def saturate(x: Array, dtype: npt.DTypeLike) -> Array:
    """Convert to an integer type; what lies outside its range becomes the nearest limit.

    x: an integer array, or floats that hold whole numbers or infinities (round first). NaN becomes 0.
    """
    least, greatest = limits(dtype)
    x = widen_integer(np.asarray(x))
    if not is_float(x):
        own_least, own_greatest = limits(x.dtype) if x.dtype.kind in "iu" else (0, 1)
        return np.clip(x, max(least, own_least), min(greatest, own_greatest)).astype(dtype)
    x = widen(x)
    with np.errstate(invalid="ignore"):
        inside = np.where((x > least) & (x < greatest), x, 0).astype(np.dtype(dtype))
    result = np.where(x >= greatest, np.array(greatest, _holder(dtype)), np.array(least, _holder(dtype)))
    return np.where((x > least) & (x < greatest) | np.isnan(x), inside.astype(_holder(dtype)), result).astype(dtype)


def wrap(x: Array, dtype: npt.DTypeLike) -> Array:
    """Convert an integer (or bool) array to an integer type modulo two to the power of its width."""
    resolved = np.dtype(dtype)
    x = widen_integer(np.asarray(x))
    if resolved.kind in "iu":
        return x.astype(resolved)
    least, greatest = limits(resolved)
    bits = (greatest - least + 1).bit_length() - 1
    mask = np.array((1 << bits) - 1, np.int8)
    low = x.astype(np.int8) & mask
    return np.where(low > greatest, low - (1 << bits), low).astype(np.int8).astype(resolved)


def average(x: Array, axis: int | Sequence[int], keepdims: bool = False) -> Array:
    """The mean of floats along axes; NaN over no elements, of which NumPy's own would warn."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    count = math.prod(x.shape[each] for each in axes)
    return np.asarray(np.sum(x, axis=axes, keepdims=keepdims) / x.dtype.type(count))


def in_parts(function: Callable[[Array], Array], x: Array) -> Array:
    """`function(x)` of a function of each element by itself, computed in parts whose temporaries stay in cache."""
    if x.size <= 2 * _PART:
        return function(x)
    flat = x.reshape(-1)
    first = function(flat[:_PART])
    result = np.empty(x.shape, first.dtype)
    parts = result.reshape(-1)
    parts[:_PART] = first
    for start in range(_PART, x.size, _PART):
        parts[start : start + _PART] = function(flat[start : start + _PART])
    return result


def by_parts(function: Callable[Concatenate[Array, P], Array]) -> Callable[Concatenate[Array, P], Array]:
    """Have a function that maps each element of its first argument by itself compute `in_parts`."""

    @functools.wraps(function)
    def parted(x: Array, /, *args: P.args, **kwargs: P.kwargs) -> Array:
        return in_parts(lambda part: function(part, *args, **kwargs), x)

    return parted


def select(condition: Array, x: Array, y: Array) -> Array:
    """x where the condition holds, else y, both of the condition's shape and one dtype.

    NumPy's own takes a branch for each element, most of which are mispredicted where the condition has no pattern.
    """
    if condition.size < _SMALL or x.dtype != y.dtype or x.dtype.itemsize not in _WORDS:
        return np.where(condition, x, y)
    word = _WORDS[x.dtype.itemsize]
    mask = condition.astype(word)
    np.negative(mask, out=mask)
    chosen = np.bitwise_xor(x.view(word), y.view(word))
    chosen &= mask
    chosen ^= y.view(word)
    return np.asarray(chosen.view(x.dtype))


def axis_of(axis: int, rank: int, what: str = "axis") -> int:
    """The axis counted from the front. Raises ShapeError if it is outside [-rank, rank-1]."""
    if not -rank <= axis < rank:
        raise ShapeError(f"{what}: expected one in [{-rank}, {rank - 1}], got {axis}")
    return int(axis) + rank if axis < 0 else int(axis)


def axes_of(axes: Iterable[int], rank: int, what: str = "axes") -> tuple[int, ...]:
    """The axes counted from the front, in the given order. Raises ShapeError if one is outside or comes twice."""
    found = tuple(axis_of(int(axis), rank, what) for axis in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"{what}: expected each axis once, got {list(found)} at rank {rank}")
    return found


def broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The multidirectional broadcast of shapes. Raises ShapeError if they do not broadcast.

    Spec: https://github.com/onnx/onnx/blob/main/docs/Broadcasting.md
    """
    try:
        return np.broadcast_shapes(*(tuple(shape) for shape in shapes))
    except (ValueError, RuntimeError):  # the latter beyond NumPy's limit of dimensions
        text = " and ".join(str(list(shape)) for shape in shapes)
        raise ShapeError(f"inputs: expected shapes that broadcast, got {text}") from None


def broadcast(*arrays: Array) -> tuple[Array, ...]:
    """Views of one common shape, not to be written to. Raises ShapeError if they do not broadcast."""
    if len({array.shape for array in arrays}) == 1:
        return arrays
    shape = broadcast_shape(*(array.shape for array in arrays))
    return tuple(np.broadcast_to(array, shape) for array in arrays)


def broadcastable(*arrays: Array) -> tuple[Array, ...]:
    """The arrays as they are, for NumPy functions that broadcast. Raises ShapeError if they do not broadcast.

    A ufunc on views of one shape takes longer to set up than most operators in a loop body take to compute.
    """
    try:
        np.broadcast(*arrays)
    except (ValueError, RuntimeError):
        broadcast_shape(*(array.shape for array in arrays))
    return arrays


def unidirectional(x: Array, shape: Sequence[int], what: str = "input") -> Array:
    """A read-only view of `x` broadcast to exactly `shape`. Raises ShapeError if it does not broadcast that way."""
    try:
        return np.broadcast_to(x, tuple(shape))
    except ValueError:
        raise ShapeError(f"{what}: expected a shape that broadcasts to {list(shape)}, got {list(x.shape)}") from None


def int_list(x: Array, what: str) -> list[int]:
    """The values of a vector of whole numbers (a scalar counts as one). Raises ShapeError for a higher rank."""
    if x.ndim > 1:
        raise ShapeError(f"{what}: expected rank 1, got shape {list(x.shape)}")
    return [_whole(value, what) for value in x.reshape(-1).tolist()]


def scalar_int(x: Array, what: str) -> int:
    """The value of a tensor that holds one integer (rank 0, or rank 1 of size 1). Raises ShapeError otherwise."""
    if x.size != 1:
        raise ShapeError(f"{what}: expected one element, got shape {list(x.shape)}")
    return _whole(x.reshape(()).item(), what)


def scalar(x: Array, what: str) -> Array:
    """A tensor of one element as one of rank 0. Raises ShapeError if it has more, or none."""
    if x.size != 1:
        raise ShapeError(f"{what}: expected one element, got shape {list(x.shape)}")
    return x.reshape(())


def single(value: float) -> float:
    """A real number as an attribute holds it, rounded to float32: the default values of ONNX attributes."""
    return float(np.float32(value))


def _whole(value: Any, what: str) -> int:
    number = float(value) if not isinstance(value, int) else value
    if not abs(number) < 1 << 64:  # NaN, too
        raise ShapeError(f"{what}: expected whole numbers of 64 bits, got {number}")
    return int(number)


def _dtype(x: Array | npt.DTypeLike) -> np.dtype[Any]:
    return x.dtype if isinstance(x, (np.ndarray, np.generic)) else np.dtype(x)


def _holder(dtype: npt.DTypeLike) -> np.dtype[Any]:
    resolved = np.dtype(dtype)
    if resolved.kind in "iu":
        return resolved
    return np.dtype(np.int8 if limits(resolved)[0] < 0 else np.uint8)
