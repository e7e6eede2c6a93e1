"""Small models scheduled for WebGPU, beside what the generic schedule makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from webdnn_backends.ir.loops import Access, LoopKind
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.statements import walk
from webdnn_backends.te.compile import CompiledProgram, Target, compile_program
from webdnn_backends.te.fuse import Policy
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.webgpu.target import TARGET
from webdnn_onnx.convert import prepare
from webdnn_onnx.symbolic import evaluate

Array = npt.NDArray[Any]
RunProbes = Callable[..., dict[str, dict[str, Array]]]
GENERIC = Target("generic", Policy(tensors=16))
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def model(
    nodes: Sequence[Any], inputs: Mapping[str, Sequence[int | str]], output: Sequence[int | str], **weights: Array
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(proto.SerializeToString())


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
