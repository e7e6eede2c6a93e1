"""Stages with tiled kernels compute what the generic schedule computes, in the interpreter and in Node."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

sys.path.insert(0, str(Path(__file__).parent))
from test_js import needs_node, run

from tests.backends.scheduled import GENERIC, Array, model, normal
from webdnn_backends.ir.build import f32
from webdnn_backends.ir.interpret import interpret
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    BufferParameter,
    Const,
    Kernel,
    Load,
    Local,
    Loop,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.probes import Probe
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.statements import walk
from webdnn_backends.js.dialect import emit
from webdnn_backends.js.innermost import tightened
from webdnn_backends.js.sums import with_double_sums
from webdnn_backends.js.target import TARGET
from webdnn_backends.te.compile import CompiledProgram, compile_program
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.wasm.target import TARGET as WASM
from webdnn_onnx.convert import prepare
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import evaluate


def probes(program: CompiledProgram, inputs: Mapping[str, Array]) -> list[Probe]:
    """Every kernel call on the buffers that it meets."""
    sizes = {
        str(size): actual
        for name in program.inputs
        for size, actual in zip(program.tensors[name].shape, inputs[name].shape, strict=True)
    }
    memory = {name: np.ascontiguousarray(array).reshape(-1) for name, array in inputs.items()}
    memory |= {name: np.ascontiguousarray(array).reshape(-1) for name, array in program.constants.items()}
    found: list[Probe] = []
    for number, item in enumerate(program.items):
        assert isinstance(item, Call), "no control flow in these models"
        names = [program.aliases.get(name, name) for name in item.arguments]
        for name in names:
            tensor = program.tensors[name]
            memory.setdefault(name, np.zeros(evaluate(tensor.elements, sizes), tensor.dtype.numpy))
        parameters = dict(zip(item.kernel.parameters, (evaluate(dim, sizes) for dim in item.parameters), strict=True))
        buffers = {buffer.name: memory[name] for buffer, name in zip(item.kernel.buffers, names, strict=True)}
        before = {name: array.copy() for name, array in buffers.items()}
        found.append(Probe(str(number), item.kernel, before, parameters, absolute=1e-5))
        interpret(item.kernel, buffers, parameters)
    return found


def agree(data: bytes, inputs: Mapping[str, Array], folder: Path) -> CompiledProgram:
    """The model's output is the same by the generic schedule and the tiled kernels; Node gives the same."""
    _, program = prepare(data)
    expected = run_compiled(compile_program(program, GENERIC), inputs)[0]
    compiled = compile_program(program, TARGET)
    np.testing.assert_allclose(run_compiled(compiled, inputs)[0], expected, rtol=1e-4, atol=1e-4)
    cases = probes(compiled, inputs)
    results = run(cases, folder)
    wrong = [text for case in cases if (text := case.difference(results[case.id])) is not None]
    assert not wrong, "\n".join(wrong)
    return compiled


CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, int, int, int], tuple[int, int, int, int]]] = [
    ({}, (1, 3, 9, 8), (10, 3, 3, 3)),
    ({"pads": [0, 1, 2, 0], "strides": [2, 1]}, (1, 4, 8, 9), (16, 4, 3, 2)),
    ({}, (2, 6, 4, 5), (8, 6, 1, 1)),
    ({"group": 2, "pads": [1, 1, 1, 1]}, (1, 8, 6, 6), (12, 4, 3, 3)),
    ({"group": 6, "pads": [1, 1, 1, 1]}, (2, 6, 7, 6), (6, 1, 3, 3)),
    ({"dilations": [2, 2], "auto_pad": "SAME_UPPER"}, (1, 3, 9, 9), (8, 3, 3, 3)),
    ({}, (1, 700, 3, 3), (5, 700, 1, 1)),
]


@needs_node
@pytest.mark.parametrize(("attributes", "x", "w"), CONVOLUTIONS, ids=str)
def test_convolutions(tmp_path: Path, attributes: dict[str, Any], x: tuple[int, ...], w: tuple[int, ...]) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], **attributes), helper.make_node("Relu", ["c"], ["y"])]
    data = model(nodes, {"x": x}, ["n", "c", "h", "v"], w=normal(*w) / 4, b=normal(w[0], seed=1))
    compiled = agree(data, {"x": normal(*x, seed=2)}, tmp_path)
    assert not compiled.declined


@needs_node
@pytest.mark.parametrize(("a", "b"), [((7, 20), (20, 12)), ((1, 30), (30, 9)), ((2, 3, 14, 6), (6, 10))], ids=str)
def test_products_with_weights(tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    data = model(nodes, {"x": a}, (*a[:-1], b[-1]), w=normal(*b), b=normal(b[-1]))
    assert not agree(data, {"x": normal(*a, seed=1)}, tmp_path).declined


@needs_node
@pytest.mark.parametrize("length", [1, 5, 13])
def test_symbolic_products_of_two_inputs(tmp_path: Path, length: int) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    data = model(nodes, {"x": ("batch", "length", 6)}, ("batch", "length", "length"))
    agree(data, {"x": normal(2, length, 6)}, tmp_path)


@needs_node
def test_reductions_of_the_generic_schedule_are_summed_in_float64(tmp_path: Path) -> None:
    data = model([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {"x": (2, 3, 5, 4)}, (2, 3, 1, 1))
    compiled = agree(data, {"x": normal(2, 3, 5, 4)}, tmp_path)
    calls = [item for item in compiled.items if isinstance(item, Call)]
    sums = [part for call in calls for part in walk(call.kernel.body) if isinstance(part, Local)]
    assert any(part.type is Scalar.F64 for part in sums)


def test_packed_weights_are_those_of_wasm() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    _, program = prepare(model(nodes, {"x": (1, 3, 6, 6)}, ["n", "c", "h", "v"], w=normal(10, 3, 3, 3)))
    ours, theirs = (compile_program(program, target).constants for target in (TARGET, WASM))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


X, Y = BufferParameter("x", DType.FLOAT32, Access.READ), BufferParameter("y", DType.FLOAT32, Access.WRITE)
TOTAL, ROW, COLUMN = Var("total", Scalar.F32), Var("i"), Var("j")


def summed(*extra: Stmt) -> Kernel:
    """y[0] = the sum of x[3 i + j] * x[3 i + j] over i and j, with more statements behind the loops."""
    element = Load("x", Apply(Op.ADD, (Apply(Op.MUL, (ROW, Const(3))), COLUMN)), Scalar.F32)
    step = Assign("total", Apply(Op.ADD, (TOTAL, Apply(Op.MUL, (element, element)))))
    loops = Loop("i", Const(2), (Loop("j", Const(3), (step, step)),))
    return Kernel(
        "summed", (X, Y), (), (Local("total", Scalar.F32, f32(0)), loops, *extra, Store("y", Const(0), TOTAL))
    )


def test_a_sum_is_rounded_where_it_is_read() -> None:
    text = emit(with_double_sums(summed())).text
    assert "y[0] = fround(total);" in text
    assert text.count("fround") == 1


def test_a_register_with_another_assignment_stays_float32() -> None:
    kernel = summed(Assign("total", Apply(Op.SQRT, (TOTAL,))))
    assert with_double_sums(kernel) == kernel


def test_an_element_is_loaded_once_and_its_row_is_found_in_front_of_the_loop() -> None:
    text = emit(tightened(summed())).text
    assert text.count("x[") == 1
    assert "= Math.imul(i, 3);" in text
    buffers = {"x": normal(6), "y": np.zeros(1, np.float32)}
    for kernel in (summed(), tightened(summed())):
        interpret(kernel, buffers, {})
        np.testing.assert_allclose(buffers["y"][0], 2 * np.sum(buffers["x"] ** 2), rtol=1e-6)
