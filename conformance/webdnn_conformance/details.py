"""Records of cases for the report: tensors, expectations and emitted kernels, in a spool file per worker."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from webdnn_conformance.bundle import Bundle
from webdnn_conformance.case import Case
from webdnn_conformance.compare import tolerance_of
from webdnn_conformance.judge import Reference
from webdnn_conformance.result import Outcome
from webdnn_onnx.dtypes import DType
from webdnn_onnx.engines.tensors import encode

__all__ = ["DetailWriter", "describe", "read_detail", "read_rerun"]

_SHOWN = 256
_TEXT_LIMIT = 400_000
_RERUN_LIMIT = 4 << 20


class DetailWriter:
    """Appends records to `details-N` and what reruns need to `rerun-N`."""

    def __init__(self, folder: Path, number: int) -> None:
        self._number = number
        self._details = (folder / f"details-{number}").open("ab")
        self._rerun = (folder / f"rerun-{number}").open("ab")

    def write(
        self,
        case: Case,
        outcomes: Sequence[Outcome],
        bundle: Bundle,
        reference: Reference,
        outputs: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> str:
        """Write the record of one case; returns the name by which it is read."""
        kernels = {name: text[:_TEXT_LIMIT] for name, text in bundle.kernels().items()}
        sets = []
        for number, data in enumerate(case.sets):
            sets.append(
                {
                    "inputs": {name: describe(value) for name, value in data.inputs.items()},
                    "reference": [describe(value) for value in reference.sets[number]] if reference.sets else None,
                    "suite": None if data.expected is None else [describe(value) for value in data.expected],
                    "outputs": {
                        name: {output: describe(value) for output, value in made[number].items()}
                        for name, made in outputs.items()
                    },
                }
            )
        record = {
            "id": case.id,
            "names": list(reference.names),
            "referenceError": reference.error,
            "sets": sets,
            "kernels": kernels,
            "steps": {one: bundle.manifest["programs"][one]["steps"] for one in bundle.backends},
            "graph": graph_text(case.model),
        }
        detail = self._append(self._details, json.dumps(record, separators=(",", ":")).encode())
        rerun = self._append(self._rerun, self._rerun_record(case, outcomes, bundle, reference))
        return f"{self._number}:{detail}:{rerun}"

    def _rerun_record(self, case: Case, outcomes: Sequence[Outcome], bundle: Bundle, reference: Reference) -> bytes:
        """Everything that a page needs to run the case again and to judge it; empty if it cannot or is too large."""
        able = [one.backend for one in outcomes if one.status in ("pass", "fail", "placed", "xfail", "xpass")]
        if not able or not bundle.files or not reference.sets:
            return b""
        values: dict[str, Any] = {
            f"file/{name}": np.frombuffer(content, np.uint8) for name, content in bundle.files.items()
        }
        for number, data in enumerate(case.sets):
            values |= {f"{number}/in/{name}": value for name, value in data.inputs.items()}
            values |= {f"{number}/want/{i}": value for i, value in enumerate(reference.sets[number])}
        allowed = {dtype: tolerance_of(case.facts, dtype) for dtype in DType if dtype.is_float}
        header = {
            "id": case.id,
            "backends": able,
            "drawn": case.facts.drawn,
            "sets": len(case.sets),
            "tolerances": {dtype.value: [one.ulp, one.scale] for dtype, one in allowed.items()},
        }
        message = encode(header, values)
        return message if len(message) <= _RERUN_LIMIT else b""

    def _append(self, stream: Any, data: bytes) -> str:
        if not data:
            return ""
        packed = zlib.compress(data, 6)
        place = f"{stream.tell()}+{len(packed)}"
        stream.write(packed)
        return place

    def close(self) -> None:
        self._details.close()
        self._rerun.close()


def read_detail(folder: Path, name: str) -> bytes:
    """The JSON of a record by the name that `write` returned."""
    return _read(folder, "details", name, 1)


def read_rerun(folder: Path, name: str) -> bytes:
    """The message that reruns a case; empty if there is none."""
    return _read(folder, "rerun", name, 2)


def _read(folder: Path, kind: str, name: str, part: int) -> bytes:
    pieces = name.split(":")
    if not pieces[part]:
        return b""
    offset, size = map(int, pieces[part].split("+"))
    with (folder / f"{kind}-{pieces[0]}").open("rb") as stream:
        stream.seek(offset)
        return zlib.decompress(stream.read(size))


def describe(value: Any) -> Any:
    """A value for people: type, shape, and its first elements as text."""
    if value is None:
        return {"type": "nothing"}
    if isinstance(value, (list, tuple)):
        return {"type": f"sequence of {len(value)}", "items": [describe(item) for item in value[:16]]}
    if isinstance(value, dict):
        return {"type": f"map of {len(value)}", "values": [f"{key}: {item}" for key, item in list(value.items())[:64]]}
    array = np.asarray(value)
    dtype = DType.from_numpy(array.dtype)
    flat = array.reshape(-1)[:_SHOWN]
    return {
        "type": dtype.value,
        "shape": list(array.shape),
        "values": [_text(item, dtype) for item in flat],
        "of": int(array.size),
    }


def _text(item: Any, dtype: DType) -> str:
    if dtype is DType.STRING:
        return repr(item)
    if dtype.is_float:
        return f"{float(item):.9g}" if dtype is not DType.FLOAT64 else f"{float(item):.17g}"
    return str(item.item() if hasattr(item, "item") and dtype is DType.BOOL else item)


def graph_text(model: bytes) -> str:
    """The graph as ONNX's own text form, shortened."""
    import onnx
    import onnx.shape_inference
    from onnx import printer

    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.ByteSize() > 4096:
            for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(name)
            tensor.raw_data = b""
    try:
        return str(printer.to_text(proto))[:20_000]
    except onnx.shape_inference.InferenceError:  # the printer checks the sizes of the weights that were taken out
        return str(proto.graph.node)[:20_000]
