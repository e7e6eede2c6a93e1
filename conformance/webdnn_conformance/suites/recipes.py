"""How com.microsoft calls are written down, and the numbers in them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

__all__ = ["FLOAT", "FLOAT16", "INT8", "INT32", "INT64", "MS", "STRING", "UINT8", "UINT32", "Array", "Draw", "Recipe"]

MS = "com.microsoft"
FLOAT, FLOAT16, STRING, UINT8, UINT32, INT8, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.STRING,
    TensorProto.UINT8,
    TensorProto.UINT32,
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.INT64,
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """A call; `outputs` are element types, 0 where an output is not named. constant: inputs that are part of the model.

    judged: onnxruntime runs the call on the CPU and says what every element is; tests compare the reference with it.
    """

    name: str
    op: str
    inputs: list[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (FLOAT,)
    domain: str = MS
    tolerance: float = 1e-4
    constant: tuple[int, ...] = ()
    judged: bool = True


class Draw:
    """Seeded numbers of the kinds that recipes need."""

    def __init__(self, name: str) -> None:
        self.random = np.random.default_rng(zlib.crc32(name.encode()))

    def f32(self, *shape: int, scale: float = 1.0) -> Array:
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def positive(self, *shape: int) -> Array:
        return np.asarray(np.abs(self.f32(*shape, scale=0.02)) + np.float32(0.001))

    def u8(self, *shape: int) -> Array:
        return self.random.integers(0, 256, shape).astype(np.uint8)

    def i8(self, *shape: int) -> Array:
        return self.random.integers(-128, 128, shape).astype(np.int8)

    def integers(self, low: int, high: int, shape: int | tuple[int, ...]) -> Array:
        return self.random.integers(low, high, shape)

    def unit(self, shape: tuple[int, ...]) -> Array:
        return self.random.random(shape)

    @staticmethod
    def scalar(value: float, dtype: Any = np.float32) -> Array:
        return np.array(value, dtype)
