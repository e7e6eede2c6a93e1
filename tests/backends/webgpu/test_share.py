"""Recurrent kernels: the hidden units of a step are shared among the invocations of a workgroup."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from webdnn_backends.ir.build import f32
from webdnn_backends.ir.loops import Access, Barrier, BufferParameter, Const, Kernel, Loop, LoopKind, Stmt, Store, Var
from webdnn_backends.ir.statements import walk
from webdnn_backends.ir.verify import verify
from webdnn_backends.te.compile import compile_program
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.webgpu.share import shared
from webdnn_backends.webgpu.target import TARGET
from webdnn_onnx.convert import prepare
from webdnn_onnx.dtypes import DType
from webdnn_reference import Interpreter

sys.path.insert(0, str(Path(__file__).parent))
from stages import RunProbes, on_device

from tests.backends.scheduled import model, normal

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _recurrent(op: str, hidden: int, batch: int | str, direction: str) -> bytes:
    directions = 2 if direction == "bidirectional" else 1
    weights = {
        "w": normal(directions, GATES[op] * hidden, 3),
        "r": normal(directions, GATES[op] * hidden, hidden) / 4,
        "b": normal(directions, 2 * GATES[op] * hidden),
    }
    node = helper.make_node(op, ["x", "w", "r", "b"], ["y"], hidden_size=hidden, direction=direction)
    return model([node], {"x": (5, batch, 3)}, (5, directions, batch, hidden), **weights)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize(("hidden", "batch", "direction"), [(7, 2, "bidirectional"), (70, "n", "reverse")])
def test_a_step_is_shared_by_a_workgroup(
    op: str, hidden: int, batch: int | str, direction: str, run_probes: RunProbes
) -> None:
    data = _recurrent(op, hidden, batch, direction)
    inputs = {"x": normal(5, 2, 3)}
    compiled = compile_program(prepare(data)[1], TARGET)
    (walking,) = (item.kernel for item in compiled.items if isinstance(item, Call) and op.lower() in item.kernel.name)
    assert any(isinstance(item, Barrier) for item in walk(walking.body))
    expected = Interpreter(data).run(inputs)["y"]
    np.testing.assert_allclose(run_compiled(compiled, inputs)[0], expected, rtol=1e-4, atol=1e-5)
    on_device(compiled, inputs, run_probes)


def test_sequences_of_lengths_of_their_own_are_walked_by_one_invocation_each() -> None:
    weights = {"w": normal(1, 16, 3), "r": normal(1, 16, 4), "b": normal(1, 32)}
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r", "b", "lengths"], ["y"], hidden_size=4)],
        "lengths",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, (5, 2, 3)),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, (2,)),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (5, 1, 2, 4))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    compiled = compile_program(prepare(bytes(proto.SerializeToString()))[1], TARGET)
    kernels = [item.kernel for item in compiled.items if isinstance(item, Call)]
    assert not any(
        isinstance(item, Barrier) for kernel in kernels if "lstm" in kernel.name for item in walk(kernel.body)
    )


def _kernel(rows: int, *body: Stmt) -> Kernel:
    buffers = (BufferParameter("y", DType.FLOAT32, Access.WRITE),)
    return verify(Kernel("rows", buffers, (), (Loop("i", Const(rows), body, LoopKind.PARALLEL),)))


_STORE = Store("y", Var("j"), f32(1.0))


def test_kernels_without_independent_loops_stay_as_they_are() -> None:
    kernel = _kernel(2, Loop("j", Const(64), (_STORE,)))
    assert shared(kernel) is kernel


def test_many_parallel_iterations_stay_as_they_are() -> None:
    loop = Loop("j", Const(64), (_STORE,), LoopKind.INDEPENDENT)
    assert shared(_kernel(4096, loop)).body[0].kind is LoopKind.PARALLEL  # type: ignore[union-attr]  # a loop
    changed = verify(shared(_kernel(4095, loop)))
    assert changed.body[0].kind is LoopKind.WORKGROUP_X  # type: ignore[union-attr]  # a loop


def test_a_store_outside_of_the_independent_loops_keeps_them_together() -> None:
    loop = Loop("j", Const(64), (_STORE,), LoopKind.INDEPENDENT)
    kernel = _kernel(2, loop, Store("y", Var("i"), f32(0.0)))
    assert shared(kernel) is kernel
