"""Small models scheduled for WebGPU, beside what the generic schedule makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tests.backends.scheduled import GENERIC, Array
from webdnn_backends.ir.loops import Access, LoopKind
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.statements import walk
from webdnn_backends.te.compile import CompiledProgram, compile_program
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.webgpu.target import TARGET
from webdnn_onnx.convert import prepare
from webdnn_onnx.symbolic import evaluate

RunProbes = Callable[..., dict[str, dict[str, Array]]]


def scheduled(call: Call, compiled: CompiledProgram) -> bool:
    """Whether a kernel is none of the generic schedule's: it maps workgroups, or reads packed weights."""
    packed = [name for name in call.arguments if name in compiled.constants and "#" in name]
    return bool(packed) or any(getattr(item, "kind", None) is LoopKind.WORKGROUP_X for item in walk(call.kernel.body))


def agree(data: bytes, inputs: Mapping[str, Array], fast: int = 1) -> CompiledProgram:
    """The model's output by the generic schedule and by the target's; `fast` kernels are not generic."""
    _, program = prepare(data)
    expected = run_compiled(compile_program(program, GENERIC), inputs)[0]
    compiled = compile_program(program, TARGET)
    assert sum(scheduled(call, compiled) for call in compiled.items if isinstance(call, Call)) == fast, (
        compiled.declined
    )
    np.testing.assert_allclose(run_compiled(compiled, inputs)[0], expected, rtol=1e-4, atol=1e-4)
    return compiled


def probes_of(compiled: CompiledProgram, inputs: Mapping[str, Array]) -> list[Probe]:
    """Every kernel call with the arguments that it has in a run."""
    found: list[Probe] = []
    sizes = {
        str(size): actual
        for name in compiled.inputs
        for size, actual in zip(compiled.tensors[name].shape, inputs[name].shape, strict=True)
    }

    def observe(call: Call, memory: Mapping[str, Array]) -> None:
        parameters = [evaluate(dim, sizes) for dim in call.parameters]
        buffers = {}
        for buffer, argument in zip(call.kernel.buffers, call.arguments, strict=True):
            root = compiled.aliases.get(argument, argument)
            array = memory[root] if root in memory else compiled.constants[root].reshape(-1)
            buffers[buffer.name] = np.zeros_like(array) if buffer.access is not Access.READ else array.copy()
        named = dict(zip(call.kernel.parameters, parameters, strict=True))
        found.append(Probe(f"{len(found)}/{call.kernel.name}", call.kernel, buffers, named, absolute=1e-4))

    run_compiled(compiled, inputs, observe)
    return found


def on_device(compiled: CompiledProgram, inputs: Mapping[str, Array], run_probes: RunProbes) -> None:
    """Every kernel leaves on the device what it leaves in the interpreter."""
    cases = probes_of(compiled, inputs)
    results = run_probes(cases)
    assert [case.difference(results[case.id]) for case in cases] == [None] * len(cases)
