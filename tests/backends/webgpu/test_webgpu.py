"""Kernels printed as WGSL, run by Dawn, against the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir import probes
from webdnn_backends.ir.build import add, apply, const, f32, mul, sub
from webdnn_backends.ir.loops import (
    Access,
    Barrier,
    BufferParameter,
    Cast,
    Const,
    Expr,
    Kernel,
    Load,
    Local,
    Loop,
    LoopKind,
    Space,
    Store,
    Var,
)
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.webgpu import DEFAULT, WgslKernel, emit, emit_program, objection
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, LimitError
from webdnn_onnx.symbolic import ceil_div, minimum, symbol


class RunProbes(Protocol):
    def __call__(
        self, cases: Iterable[Probe], shaders: Mapping[str, WgslKernel] | None = None
    ) -> dict[str, dict[str, npt.NDArray[np.generic]]]: ...


GROUPS = {
    "operators": lambda: probes.operator_probes(denormals=False),
    "vector_operators": lambda: probes.operator_probes(denormals=False, lanes=4),
    "storage": probes.storage_probes,
    "casts": lambda: probes.cast_probes(denormals=False),
    "bitcasts": probes.bitcast_probes,
    "statements": probes.statement_probes,
}


@pytest.mark.parametrize("group", GROUPS)
def test_probes_give_what_the_interpreter_gives(group: str, run_probes: RunProbes) -> None:
    cases = [case for case in GROUPS[group]() if objection(case.kernel) is None]
    results = run_probes(cases)
    wrong = [text for case in cases if (text := case.difference(results[case.id], flush=True)) is not None]
    assert not wrong, "\n".join(wrong)


X = BufferParameter("x", DType.FLOAT32, Access.READ)
Y = BufferParameter("y", DType.FLOAT32, Access.READ_WRITE)
AT, G, N = Var("i"), Var("g"), Var("n")


def nested(kernel: Kernel, size: int, **parameters: int) -> Probe:
    rng = np.random.default_rng(1)
    buffers = {
        buffer.name: rng.integers(0, 100, size).astype(buffer.dtype.numpy)
        if buffer.access is Access.READ
        else np.zeros(size, buffer.dtype.numpy)
        for buffer in kernel.buffers
    }
    return Probe(f"mapping/{kernel.name}", kernel, buffers, parameters)


def reversal(groups: Expr) -> Kernel:
    """Each workgroup of eight reverses its part through workgroup memory."""
    at = add(mul(G, 8), AT)
    tile = Local("tile", Scalar.F32, size=8, space=Space.WORKGROUP)
    put = Store("y", at, Load("tile", add(mul(AT, -1), 7), Scalar.F32))
    inner = Loop("i", Const(8), (Store("tile", AT, Load("x", at, Scalar.F32)), Barrier(), put), LoopKind.INVOCATION_X)
    return Kernel("reversal", (X, Y), ("n",), (Loop("g", groups, (tile, inner), LoopKind.WORKGROUP_X),))


def increment(extent: Expr, dtype: DType = DType.FLOAT32) -> Kernel:
    one = const(1, compute_type(dtype))
    body = Store("y", AT, apply(Op.ADD, Load("x", AT, compute_type(dtype)), one))
    buffers = (BufferParameter("x", dtype, Access.READ), BufferParameter("y", dtype, Access.WRITE))
    return Kernel(f"increment_{dtype.value}", buffers, ("n",), (Loop("i", extent, (body,), LoopKind.PARALLEL),))


def test_workgroups_share_memory(run_probes: RunProbes) -> None:
    probe = nested(reversal(N), 80, n=10)
    assert probe.difference(run_probes([probe])[probe.id]) is None
    assert emit(probe.kernel).workgroup == (8, 1, 1)


def test_grid_continues_in_its_second_dimension(run_probes: RunProbes) -> None:
    shader = emit(increment(N, DType.INT8))
    groups = ceil_div(ceil_div(symbol("n"), 4), 64)
    assert shader.grid == (minimum(groups, 65535), ceil_div(groups, 65535), 1)
    narrow = replace(DEFAULT, max_compute_workgroups_per_dimension=3)
    cases = [
        nested(increment(N), 1000, n=1000),
        nested(increment(Const(1000), DType.INT8), 1000, n=0),
        nested(reversal(N), 80, n=10),
    ]
    results = run_probes(cases, {probe.id: emit(probe.kernel, narrow) for probe in cases})
    for probe in cases:
        assert probe.difference(results[probe.id]) is None


def test_few_iterations_get_a_small_workgroup() -> None:
    assert emit(increment(Const(5))).workgroup == (8, 1, 1)
    assert emit(increment(Const(1))).workgroup == (1, 1, 1)
    assert emit(increment(Const(6400))).grid == (100, 1, 1)


def test_narrow_elements_in_order_are_written_in_whole_words() -> None:
    assert "atomic" not in emit(increment(N, DType.INT8)).text
    backwards = Store("y", sub(sub(N, 1), AT), Load("x", AT, Scalar.I32))
    buffers = increment(N, DType.INT8).buffers
    scattered = Kernel("backwards", buffers, ("n",), (Loop("i", N, (backwards,), LoopKind.PARALLEL),))
    assert "array<atomic<u32>>" in emit(scattered).text


def test_aligned_vectors_are_bound_as_vectors() -> None:
    four = mul(AT, 4)
    put = Store("y", four, Load("x", four, Scalar.F32, 4))
    text = emit(Kernel("copy", (X, Y), ("n",), (Loop("i", N, (put,), LoopKind.PARALLEL),))).text
    assert "y[i] = x[i];" in text
    assert "array<vec4<f32>>" in text


def test_limits_are_checked_when_a_kernel_is_compiled() -> None:
    many = tuple(BufferParameter(f"x{k}", DType.FLOAT32, Access.READ) for k in range(8))
    body = increment(N).body
    with pytest.raises(LimitError, match=r"storage buffers: expected at most 8 \(device profile 'default'\), got 10"):
        emit(Kernel("many", (*many, *increment(N).buffers), ("n",), body))
    tile = Local("tile", Scalar.F32, size=5000, space=Space.WORKGROUP)
    inner = Loop("i", Const(8), (Store("tile", AT, f32(0)),), LoopKind.INVOCATION_X)
    with pytest.raises(LimitError, match="bytes of workgroup memory: expected at most 16384"):
        emit(Kernel("large", (Y,), ("n",), (Loop("g", N, (tile, inner), LoopKind.WORKGROUP_X),)))
    wide = Loop("i", Const(512), (Store("y", AT, f32(0)),), LoopKind.INVOCATION_X)
    with pytest.raises(LimitError, match="workgroup size in x: expected at most 256"):
        emit(Kernel("wide", (Y,), ("n",), (Loop("g", N, (wide,), LoopKind.WORKGROUP_X),)))
    assert objection(Kernel("many", (*many, *increment(N).buffers), ("n",), body)) == (
        "binds 10 storage buffers, where 8 are certain"
    )
    with pytest.raises(LimitError, match="bytes of a storage buffer"):
        DEFAULT.check_buffer("buffer w", 1 << 28)


def test_what_wgsl_cannot_express_has_a_reason() -> None:
    double = increment(N, DType.FLOAT64)
    assert objection(double) == "buffer 'x' holds float64, which WGSL has not"
    with pytest.raises(DTypeError, match="increment_float64"):
        emit(double)
    read = Load("x", Const(0), Scalar.F32)
    unknown = Loop("i", Cast(DType.INT32, read), (Store("y", AT, f32(0)),), LoopKind.PARALLEL)
    reason = objection(Kernel("unknown", (X, Y), (), (unknown,)))
    assert reason == "the extent of parallel loop 'i' is no expression of the kernel's parameters"


def test_emitted_text_is_the_same_every_time() -> None:
    kernels = [probe.kernel for probe in probes.statement_probes()]
    emitted = emit_program(kernels)
    assert emitted == emit_program(kernels)
    assert emitted.files["kernels.wgsl"].count(b"//# kernel ") == len(kernels)


GOLDEN = ("operator/max/f32", "operator/exp/f32x4", "storage/int4/odd", "storage/float16/reverse", "cast/i64/float32")
GOLDEN_STATEMENTS = ("statement/triangle", "statement/vectors", "statement/guarded_load", "statement/nested_parallel")


def test_golden_files(golden: Callable[[str, str], None]) -> None:
    operators = [*probes.operator_probes(), *probes.operator_probes(lanes=4)]
    every = [*operators, *probes.storage_probes(), *probes.cast_probes(), *probes.statement_probes()]
    chosen = {probe.id: probe.kernel for probe in every}
    for name in (*GOLDEN, *GOLDEN_STATEMENTS):
        golden(f"wgsl/{name.replace('/', '_')}.wgsl", emit(chosen[name]).text)
    golden("wgsl/mapping_reversal.wgsl", emit(reversal(N)).text)
    golden("wgsl/mapping_increment_int8.wgsl", emit(increment(N, DType.INT8)).text)
