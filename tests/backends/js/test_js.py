"""Kernels printed as JavaScript, run by Node, against the interpreter."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir import probes
from webdnn_backends.ir.build import const, f32
from webdnn_backends.ir.loops import Access, Barrier, BufferParameter, Const, Kernel, Loop, LoopKind, Store, Var
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.js.conversions import TYPED_ARRAYS
from webdnn_backends.js.dialect import emit, emit_module, emit_program
from webdnn_backends.js.operators import OPERATORS
from webdnn_onnx.dtypes import DType

Array = npt.NDArray[Any]

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH")


def packed(array: Array, dtype: DType) -> bytes:
    """The elements as a bundle stores them: sub-byte types low bits first."""
    if dtype.bits >= 8:
        return array.tobytes()
    codes = array.view(np.uint8) & ((1 << dtype.bits) - 1)
    per_byte = 8 // dtype.bits
    codes = np.append(codes, np.zeros(-len(codes) % per_byte, np.uint8)).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * dtype.bits
    return np.bitwise_or.reduce(codes << shifts, axis=1).astype(np.uint8).tobytes()


def unpacked(data: bytes, dtype: DType, count: int) -> Array:
    if dtype.bits >= 8:
        return np.frombuffer(data, dtype.numpy, count)
    bytes_ = np.frombuffer(data, np.uint8)
    shifts = np.arange(8 // dtype.bits, dtype=np.uint8) * dtype.bits
    codes = ((bytes_[:, None] >> shifts) & ((1 << dtype.bits) - 1)).ravel()[:count]
    if dtype.is_integer:
        signed = codes.astype(np.int16)
        if dtype.is_signed_integer:
            signed = np.where(signed >= 1 << (dtype.bits - 1), signed - (1 << dtype.bits), signed)
        return signed.astype(dtype.numpy)
    return codes.view(dtype.numpy)


def run(cases: Iterable[Probe], folder: Path) -> dict[str, dict[str, Array]]:
    """The buffers after each probe's kernel ran in Node."""
    cases = list(cases)
    kernels = {case.kernel.name: case.kernel for case in cases}
    (folder / "kernels.mjs").write_text(emit_module(list(kernels.values())))
    data = bytearray()
    runs, places = [], []
    for case in cases:
        arrays, place = [], {}
        for buffer in case.kernel.buffers:
            content = packed(case.buffers[buffer.name], buffer.dtype)
            data += bytes(-len(data) % 8)
            type = TYPED_ARRAYS[buffer.dtype]
            length = len(content) // max(1, buffer.dtype.bits // 8)
            arrays.append({"type": type, "offset": len(data), "length": length})
            place[buffer.name] = (len(data), len(content), buffer.dtype)
            data += content
        parameters = [case.parameters[name] for name in case.kernel.parameters]
        runs.append({"export": emit(case.kernel).name, "arrays": arrays, "parameters": parameters})
        places.append(place)
    job = {
        "module": str(folder / "kernels.mjs"),
        "data": str(folder / "data"),
        "output": str(folder / "out"),
        "runs": runs,
    }
    (folder / "data").write_bytes(data)
    (folder / "job.json").write_text(json.dumps(job))
    driver = Path(__file__).with_name("driver.mjs")
    done = subprocess.run(
        ["node", driver, folder / "job.json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    output = (folder / "out").read_bytes()
    return {
        case.id: {
            name: unpacked(output[start : start + size], dtype, len(case.buffers[name]))
            for name, (start, size, dtype) in place.items()
        }
        for case, place in zip(cases, places, strict=True)
    }


GROUPS = {
    "operators": lambda: probes.operator_probes(),
    "vector_operators": lambda: probes.operator_probes(lanes=4),
    "storage": probes.storage_probes,
    "casts": lambda: probes.cast_probes(),
    "bitcasts": probes.bitcast_probes,
    "statements": probes.statement_probes,
}


@needs_node
@pytest.mark.parametrize("group", GROUPS)
def test_probes_give_what_the_interpreter_gives(group: str, tmp_path: Path) -> None:
    cases = list(GROUPS[group]())
    results = run(cases, tmp_path)
    wrong = [text for case in cases if (text := case.difference(results[case.id])) is not None]
    assert not wrong, "\n".join(wrong)


def test_every_operator_has_a_row() -> None:
    for probe in probes.operator_probes():
        _, op, type = probe.id.split("/")
        assert Op(op) in OPERATORS[Scalar(type)]


def test_gpu_mapping_is_refused() -> None:
    inner = Loop("i", Const(4), (Store("y", Var("i"), f32(0)), Barrier()), LoopKind.INVOCATION_X)
    body = (Loop("g", Const(1), (inner,), LoopKind.WORKGROUP_X),)
    with pytest.raises(ValueError, match="expected serial and parallel loops, got a mapping to workgroups"):
        emit(Kernel("mapped", (BufferParameter("y", DType.FLOAT32, Access.WRITE),), (), body))


def test_names_that_mean_something_in_javascript_are_changed() -> None:
    body = (Loop("var", Var("fround"), (Store("delete", Var("var"), f32(math.inf)),)),)
    kernel = Kernel("conv/3x3", (BufferParameter("delete", DType.FLOAT32, Access.WRITE),), ("fround",), body)
    function = emit(kernel)
    assert function.name == "conv_3x3"
    assert "delete_[var_] = Infinity;" in function.text


def test_emitted_text_is_the_same_every_time() -> None:
    kernels = [probe.kernel for probe in probes.statement_probes()]
    assert emit_module(kernels) == emit_module(kernels)
    emitted = emit_program(kernels)
    assert emitted.files["kernels.js"].decode() == emit_module(kernels)
    assert [record["name"] for record in emitted.records] == [kernel.name for kernel in kernels]


def test_literals_are_exact() -> None:
    body = tuple(
        Store("y", Const(at), const(value, Scalar.F32))
        for at, value in enumerate((0.1, -0.0, math.nan, -math.inf, 1e30))
    )
    text = emit(Kernel("literals", (BufferParameter("y", DType.FLOAT32, Access.WRITE),), (), body)).text
    for value in ("0.10000000149011612", "-0", "NaN", "-Infinity", "1.0000000150474662e30"):
        assert f"= {value};" in text


GOLDEN = ("operator/max/f32", "operator/erf/f32", "store/float16", "storage/int4/odd", "cast/f32/int8")
GOLDEN_STATEMENTS = ("statement/triangle", "statement/vectors", "statement/index_division", "statement/private_array")


def test_golden_files(golden: Callable[[str, str], None]) -> None:
    every = [*probes.operator_probes(), *probes.storage_probes(), *probes.cast_probes(), *probes.statement_probes()]
    chosen = {probe.id: probe.kernel for probe in every}
    for name in (*GOLDEN, *GOLDEN_STATEMENTS):
        golden(f"js/{name.replace('/', '_')}.js", emit_module([chosen[name]]))
