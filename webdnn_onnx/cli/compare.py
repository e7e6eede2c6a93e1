"""How close an output is to the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_onnx.dtypes import DType
from webdnn_onnx.engines import RunValue

__all__ = ["Comparison", "compare_outputs", "relative_tolerance"]

ABSOLUTE = 1e-6

_RELATIVE: Mapping[str, float] = {
    # Rounding to float32 at every step; the sums of a deep network lose about three of its seven digits.
    "float32": 1e-4,
    "float64": 1e-4,
    # Values between the layers are held in 11 or 8 bits of mantissa, and each layer adds its rounding.
    "float16": 1e-2,
    "bfloat16": 8e-2,
}

_STORED: Mapping[str, float] = {"f32": 0.0, "f16": 1e-2, "int8": 2e-1}
"""What storing the weights in fewer bits may cost."""


def relative_tolerance(dtypes: frozenset[str], weights: str = "f32") -> float:
    """The share of the largest magnitude that an output may be off by, for a model that holds these element types."""
    return max([_RELATIVE[name] for name in dtypes if name in _RELATIVE] + [_RELATIVE["float32"], _STORED[weights]])


@dataclass(frozen=True)
class Comparison:
    """One output against the reference. error: largest difference. limit: what is allowed. reason: why it failed."""

    name: str
    type: str
    error: float
    limit: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        return not self.reason


def compare_outputs(outputs: Mapping[str, RunValue], expected: Mapping[str, Any], relative: float) -> list[Comparison]:
    """Every output against the reference: floats within `relative` of the largest magnitude, the rest exactly."""
    return [found for name in expected for found in _compare(name, outputs.get(name), expected[name], relative)]


def _compare(name: str, got: RunValue, want: Any, relative: float) -> Iterator[Comparison]:
    if isinstance(want, (list, dict)):
        items = _items(got)
        wanted = _items(want) or {}
        if items is None or list(items) != list(wanted):
            count = "no sequence" if items is None else str(len(items))
            yield Comparison(name, "sequence", 0.0, 0.0, f"expected {len(want)} items, got {count}")
            return
        for key, item in wanted.items():
            yield from _compare(f"{name}/{key}", items[key], item, relative)
    elif want is None or got is None:
        reason = "" if got is None and want is None else f"expected {_word(want)}, got {_word(got)}"
        yield Comparison(name, "optional", 0.0, 0.0, reason)
    else:
        yield _compare_arrays(name, np.asarray(got), np.asarray(want), relative)


def _compare_arrays(name: str, got: npt.NDArray[Any], want: npt.NDArray[Any], relative: float) -> Comparison:
    dtype = DType.from_numpy(got.dtype)
    label = f"{dtype.value}{list(got.shape)}"
    if got.shape != want.shape:
        return Comparison(name, label, 0.0, 0.0, f"expected shape {list(want.shape)}, got {list(got.shape)}")
    if not (dtype.is_float or dtype.is_complex):
        wrong = int(np.count_nonzero(got != want))
        reason = f"{wrong} of {got.size} elements differ" if wrong else ""
        return Comparison(name, label, float(wrong), 0.0, reason)
    wide = np.complex128 if dtype.is_complex else np.float64
    a, b = got.astype(wide).reshape(-1), want.astype(wide).reshape(-1)
    if dtype.is_float and dtype.bits < 64:
        # What the oracle holds in double precision may be too large for the type that the model declares.
        with np.errstate(over="ignore"):
            b = b.astype(dtype.numpy).astype(wide)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        wrong = int(np.count_nonzero(np.isnan(a) != np.isnan(b)))
        return Comparison(name, label, float("nan"), 0.0, f"NaN at {wrong} places where the reference has none, or not")
    infinite = np.isinf(a) | np.isinf(b)
    if not np.array_equal(a[infinite], b[infinite]):
        return Comparison(name, label, float("inf"), 0.0, "infinite where the reference is not, or not where it is")
    finite = np.isfinite(a) & np.isfinite(b)
    error = float(np.max(np.abs(a[finite] - b[finite]), initial=0.0))
    limit = relative * float(np.max(np.abs(b[finite]), initial=0.0)) + ABSOLUTE
    if error <= limit:
        return Comparison(name, label, error, limit)
    worst = int(np.argmax(np.where(finite, np.abs(a - b), 0.0)))
    place = [int(index) for index in np.unravel_index(worst, got.shape)]
    return Comparison(name, label, error, limit, f"at {place}: expected {b[worst]:.7g}, got {a[worst]:.7g}")


def _items(value: Any) -> dict[Any, Any] | None:
    """The items of a sequence by position, those of a map by key; None for anything else."""
    if isinstance(value, list):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else None


def _word(value: Any) -> str:
    return "no value" if value is None else "a value"
