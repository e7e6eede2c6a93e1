"""What the outputs of a run are compared with, and how close they have to be.

There are two judges. The reference computes what the operator means; a backend has to be within the tolerance that
tolerances.toml gives to operator and element type. The suite's own expectation is compared as its harness does.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from webdnn_conformance.case import COMPOSITE, SHORT_DTYPES, Facts
from webdnn_onnx.dtypes import DType
from webdnn_onnx.engines import RunValue

__all__ = ["Finding", "Tolerance", "against_reference", "against_suite", "tolerance_of", "ulp_distance"]

Array = npt.NDArray[Any]

_SMALL = 2.0**-8


@dataclass(frozen=True)
class Tolerance:
    """ulp: units in the last place. scale: share of the largest finite magnitude. klass, reason: where it is from."""

    ulp: float
    scale: float
    klass: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """How far outputs are off. ulp, error: of the worst element. message: why that is too far, empty if it is not."""

    ulp: float = 0.0
    error: float = 0.0
    message: str = ""

    def worse(self, other: Finding) -> Finding:
        """Both as one: the larger errors, the first message."""
        ulp, error = max(self.ulp, other.ulp), max(self.error, other.error)
        return Finding(ulp, error, self.message or other.message)


def tolerance_of(facts: Facts, dtype: DType) -> Tolerance:
    """What a float output of a case may be off by."""
    classes, by_op = _classes()
    name = COMPOSITE if facts.op == COMPOSITE or not facts.single else by_op.get(facts.op, "default")
    entry = classes[name]
    short = (
        SHORT_DTYPES[dtype].removeprefix("c")
        if not dtype.is_complex
        else {"c64": "f32", "c128": "f64"}[SHORT_DTYPES[dtype]]
    )
    found: Mapping[str, float] = entry.get(short) or entry.get("narrow") or {"ulp": 1}
    return Tolerance(found.get("ulp", 0), found.get("scale", 0.0), name, entry["reason"])


@functools.cache
def _classes() -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    listed = tomllib.loads(Path(__file__).with_name("tolerances.toml").read_text())["class"]
    by_op: dict[str, str] = {}
    for entry in listed:
        for op in entry.get("ops", "").split():
            if op in by_op:
                raise ValueError(f"tolerances.toml: {op}: expected in one class, got {by_op[op]} and {entry['name']}")
            by_op[op] = entry["name"]
    return {entry["name"]: entry for entry in listed}, by_op


def against_reference(facts: Facts, names: Sequence[str], got: Sequence[RunValue], want: Sequence[Any]) -> Finding:
    """Outputs against the reference's. A drawn case's values are not compared, only their types."""
    if len(got) != len(want):
        return Finding(message=f"expected {len(want)} outputs, got {len(got)}")
    finding = Finding()
    for name, value, wanted in zip(names, got, want, strict=True):
        finding = finding.worse(_value(facts, f"output '{name}'", value, wanted))
    return finding


def _value(facts: Facts, where: str, got: Any, want: Any) -> Finding:
    if isinstance(want, (list, tuple)):
        if not isinstance(got, list) or len(got) != len(want):
            count = f"a sequence of {len(got)}" if isinstance(got, list) else _kind(got)
            return Finding(message=f"{where}: expected a sequence of {len(want)}, got {count}")
        finding = Finding()
        for index, (value, wanted) in enumerate(zip(got, want, strict=True)):
            finding = finding.worse(_value(facts, f"{where}[{index}]", value, wanted))
        return finding
    if isinstance(want, dict):
        if not isinstance(got, dict) or list(got) != list(want):
            return Finding(message=f"{where}: expected a map with keys {list(want)[:5]}, got {_kind(got)}")
        finding = Finding()
        for key, wanted in want.items():
            finding = finding.worse(_value(facts, f"{where}[{key!r}]", np.asarray(got[key]), np.asarray(wanted)))
        return finding
    if want is None or got is None or isinstance(got, (list, dict)):
        return Finding(
            message="" if want is None and got is None else f"{where}: expected {_kind(want)}, got {_kind(got)}"
        )
    return _array(facts, where, np.asarray(got), np.asarray(want))


def _kind(value: Any) -> str:
    match value:
        case None:
            return "no value"
        case list():
            return f"a sequence of {len(value)}"
        case dict():
            return f"a map with {len(value)} keys"
        case _:
            return f"{DType.from_numpy(value.dtype).value}{list(value.shape)}"


def _array(facts: Facts, where: str, got: Array, want: Array) -> Finding:
    dtype = DType.from_numpy(want.dtype)
    if DType.from_numpy(got.dtype) is not dtype or got.shape != want.shape:
        return Finding(message=f"{where}: expected {_kind(want)}, got {_kind(got)}")
    if facts.drawn or got.size == 0:
        return Finding()
    if not (dtype.is_float or dtype.is_complex):
        return _exact(where, got, want)
    if dtype.is_complex:
        parts = [(np.real(got), np.real(want)), (np.imag(got), np.imag(want))]
    else:
        parts = [(got, want)]
    finding = Finding()
    for one, other in parts:
        finding = finding.worse(_floats(where, one, other, tolerance_of(facts, dtype)))
    return finding


def _exact(where: str, got: Array, want: Array) -> Finding:
    wrong = got != want
    count = int(np.count_nonzero(wrong))
    if not count:
        return Finding()
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    error = 0.0
    if want.dtype != object and want.dtype != bool:
        error = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64))))
    values = f"expected {want[place]!s}, got {got[place]!s}"
    return Finding(float("inf"), error, f"{where} at {list(place)}: {values} ({count} of {got.size} elements differ)")


def _floats(where: str, got: Array, want: Array, tolerance: Tolerance) -> Finding:
    a, b = np.atleast_1d(got.astype(np.float64)), np.atleast_1d(want.astype(np.float64))
    finite = np.isfinite(a) & np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.where(finite, np.abs(a - b), np.inf))
    ulps = np.where(same, 0.0, np.where(finite, ulp_distance(np.atleast_1d(got), np.atleast_1d(want)), np.inf))
    largest = float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0))
    allowed = (ulps <= tolerance.ulp) | (difference <= tolerance.scale * largest)
    worst_ulp, worst = float(ulps.max()), float(difference.max())
    if bool(allowed.all()):
        # Cancellation leaves few correct digits of a small value: where a share of the largest is allowed, units count
        # for values that are not small beside it.
        significant = np.abs(b) >= (largest * _SMALL if tolerance.scale else 0.0)
        return Finding(float(np.max(ulps[significant], initial=0.0)), worst)
    place = np.unravel_index(int(np.argmax(np.where(allowed, -1.0, difference))), a.shape)
    index = [int(axis) for axis in place][: want.ndim]
    count = int(np.count_nonzero(~allowed))
    limit = f"allowed {tolerance.ulp:g}" + (f" or {tolerance.scale:g} of {largest:.3g}" if tolerance.scale else "")
    text = (
        f"{where} at {index}: expected {b[place]:.9g}, got {a[place]:.9g} "
        f"({ulps[place]:.3g} ULP, {limit}; {count} of {a.size} elements)"
    )
    return Finding(worst_ulp, worst, text)


_CODES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def ulp_distance(got: Array, want: Array) -> Array:
    """How many steps from value to value of the type lie between each pair; both of one float type, without NaN."""
    if want.dtype == ml_dtypes.float8_e8m0fnu:
        return np.abs(got.view(np.uint8).astype(np.float64) - want.view(np.uint8).astype(np.float64))
    (negative, a), (positive, b) = _sign_magnitude(got), _sign_magnitude(want)
    apart = a.astype(np.float64) + b.astype(np.float64)
    return np.where(negative == positive, np.abs(a - b).astype(np.float64), apart)


def _sign_magnitude(values: Array) -> tuple[Array, Array]:
    """Sign and magnitude of the bits of floats; the magnitudes count the values from zero on."""
    bits = np.ascontiguousarray(values).view(_CODES[values.dtype.itemsize]).astype(np.uint64)
    width = 4 if values.dtype == ml_dtypes.float4_e2m1fn else 8 * values.dtype.itemsize
    sign = np.uint64(1 << (width - 1))
    return (bits & sign) != 0, (bits & (sign - np.uint64(1))).astype(np.int64)


def against_suite(facts: Facts, got: Sequence[RunValue], want: Sequence[Any]) -> str:
    """Why outputs are not what the suite expects, by its own harness; empty if they are."""
    from onnx.backend.test.runner import Runner

    if len(got) != len(want):
        return f"expected {len(want)} outputs, got {len(got)}"
    for index, (value, wanted) in enumerate(zip(got, want, strict=True)):
        if isinstance(wanted, list) and isinstance(value, list):
            reason = against_suite(facts, value, wanted)
        elif isinstance(value, np.ndarray) and isinstance(wanted, np.ndarray):
            if facts.drawn:
                value, wanted = np.zeros_like(value), np.zeros_like(wanted)
            try:
                Runner.assert_similar_outputs([wanted], [value], rtol=facts.rtol, atol=facts.atol)
            except AssertionError as error:
                reason = " ".join(str(error).split())[:300] or "values differ"
            else:
                reason = ""
        else:
            reason = "" if wanted is None and value is None else f"expected {_kind(wanted)}, got {_kind(value)}"
        if reason:
            return f"output {index}: {reason}"
    return ""
