"""Stages with hand-written kernels compute what the generic schedule computes, in the interpreter and in wasm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.backends.scheduled import GENERIC, Array, model, normal
from webdnn_backends.te.compile import CompiledProgram, compile_program
from webdnn_backends.te.run import run_compiled
from webdnn_backends.te.tensors import Call
from webdnn_backends.wasm.dialect import is_parallel
from webdnn_backends.wasm.target import TARGET, parallel_extent
from webdnn_onnx.convert import prepare
from webdnn_onnx.symbolic import evaluate

Run = Callable[..., None]


def execute(run: Run, program: CompiledProgram, inputs: Mapping[str, Array], relaxed: bool) -> Array:
    """Every kernel call in wasm, on arrays; returns the only output."""
    sizes = {
        str(size): actual
        for name in program.inputs
        for size, actual in zip(program.tensors[name].shape, inputs[name].shape, strict=True)
    }
    memory = {name: np.ascontiguousarray(array).reshape(-1) for name, array in inputs.items()}
    memory |= {name: np.ascontiguousarray(array).reshape(-1) for name, array in program.constants.items()}
    for item in program.items:
        assert isinstance(item, Call), "no control flow in these models"
        names = [program.aliases.get(name, name) for name in item.arguments]
        for name in names:
            if name not in memory:
                count = evaluate(program.tensors[name].elements, sizes)
                memory[name] = np.full(count, np.nan, program.tensors[name].dtype.numpy)
        parameters = [evaluate(dim, sizes) for dim in item.parameters]
        kernel = item.kernel if relaxed or item.kernel.plain is None else item.kernel.plain
        bound = dict(zip(kernel.parameters, parameters, strict=True))
        total = evaluate(parallel_extent(kernel), bound) if is_parallel(kernel) else None
        assert total is None or total == evaluate(parallel_extent(item.kernel), bound)
        ranges = [] if total is None else [(total // 2, total), (0, total // 2)]
        buffers = {buffer.name: memory[name] for buffer, name in zip(kernel.buffers, names, strict=True)}
        run(kernel, buffers, parameters, relaxed=relaxed, ranges=ranges)
    output = program.tensors[program.outputs[0]]
    return memory[program.aliases.get(output.name, output.name)].reshape([evaluate(s, sizes) for s in output.shape])


def agree(run: Run, data: bytes, inputs: Mapping[str, Array], *, fast: bool = True) -> CompiledProgram:
    """The model's output is the same by the generic schedule, by the interpreter and in both wasm variants."""
    _, program = prepare(data)
    expected = run_compiled(compile_program(program, GENERIC), inputs)[0]
    compiled = compile_program(program, TARGET)
    assert any(call.kernel.plain is not None for call in compiled.items if isinstance(call, Call)) == fast
    np.testing.assert_allclose(run_compiled(compiled, inputs)[0], expected, rtol=1e-4, atol=1e-4)
    for relaxed in (False, True):
        np.testing.assert_allclose(execute(run, compiled, inputs, relaxed), expected, rtol=1e-4, atol=1e-4)
    return compiled


CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, int, int, int], tuple[int, int, int, int]]] = [
    ({}, (1, 3, 9, 8), (10, 3, 3, 3)),
    ({"pads": [1, 1, 1, 1]}, (2, 5, 7, 7), (9, 5, 3, 3)),
    ({"pads": [0, 1, 2, 0], "strides": [2, 1]}, (1, 4, 8, 9), (16, 4, 3, 2)),
    ({}, (2, 6, 4, 5), (8, 6, 1, 1)),
    ({"strides": [2, 2]}, (1, 6, 5, 5), (8, 6, 1, 1)),
    ({"group": 2, "pads": [1, 1, 1, 1]}, (1, 8, 6, 6), (12, 4, 3, 3)),
    ({"group": 6, "pads": [1, 1, 1, 1]}, (2, 6, 7, 6), (6, 1, 3, 3)),
    ({"group": 4, "pads": [1, 1, 1, 1], "strides": [2, 2]}, (1, 4, 7, 6), (8, 1, 3, 3)),
    ({"dilations": [2, 2], "auto_pad": "SAME_UPPER"}, (1, 3, 9, 9), (8, 3, 3, 3)),
]


@pytest.mark.parametrize(("attributes", "x", "w"), CONVOLUTIONS, ids=str)
def test_convolutions(run: Run, attributes: dict[str, Any], x: tuple[int, ...], w: tuple[int, ...]) -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    data = model([node], {"x": x}, ["n", "c", "h", "v"], w=normal(*w), b=normal(w[0]))
    agree(run, data, {"x": normal(*x)})


def test_convolutions_in_a_row_keep_channels_last_with_residual_and_activation(run: Run) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1", "c1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["e"]),
        helper.make_node("Mul", ["d", "e"], ["f"]),
        helper.make_node("MaxPool", ["f"], ["g"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["g", "w2"], ["y"]),
    ]
    weights = {"w0": normal(8, 3, 3, 3), "w1": normal(8, 8, 3, 3), "c1": normal(8), "w2": normal(5, 8, 1, 1)}
    compiled = agree(
        run, model(nodes, {"x": (2, 3, 10, 9)}, ["n", "c", "h", "v"], **weights), {"x": normal(2, 3, 10, 9)}
    )
    assert not any("conv" in reason for reason in compiled.declined.values())


PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((7, 20), (20, 12)),
    ((1, 30), (30, 9)),
    ((2, 5, 16), (16, 8)),
    ((2, 3, 14, 6), (6, 10)),
    ((5, 600), (600, 3)),
    ((4, 9), (9, 1)),
]


@pytest.mark.parametrize("activation", [None, "Relu", "Tanh"])
@pytest.mark.parametrize(("a", "b"), PRODUCTS, ids=str)
def test_products_with_weights(run: Run, a: tuple[int, ...], b: tuple[int, ...], activation: str | None) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["q"])]
    nodes.append(helper.make_node(activation or "Identity", ["q"], ["y"]))
    shape = (*a[:-1], b[-1])
    agree(run, model(nodes, {"x": a}, shape, w=normal(*b), b=normal(b[-1])), {"x": normal(*a)})


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3, 7, 5), (2, 3, 5, 11)), ((3, 6, 4), (3, 4, 16)), ((4, 6), (3, 6, 8)), ((2, 1, 5, 6), (3, 6, 9))]
)
def test_products_of_two_inputs(run: Run, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    shape = (np.zeros(a) @ np.zeros(b)).shape
    agree(
        run,
        model([helper.make_node("MatMul", ["x", "z"], ["y"])], {"x": a, "z": b}, shape),
        {"x": normal(*a), "z": normal(*b)},
    )


def test_attention_scores_read_keys_transposed(run: Run) -> None:
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["y"]),
    ]
    data = model(nodes, {"q": (2, 9, 8), "k": (2, 10, 8)}, (2, 9, 10), scale=np.float32(0.125).reshape(()))
    agree(run, data, {"q": normal(2, 9, 8), "k": normal(2, 10, 8)})


@pytest.mark.parametrize(("queries", "width"), [(1, 16), (1, 35), (2, 64), (3, 5)])
def test_few_rows_against_keys_of_run_time_pack_nothing(run: Run, queries: int, width: int) -> None:
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    data = model(nodes, {"q": (2, queries, width), "k": (2, 10, width)}, (2, queries, 10))
    compiled = agree(run, data, {"q": normal(2, queries, width), "k": normal(2, 10, width)}, fast=False)
    assert not compiled.declined
    assert sum(isinstance(item, Call) for item in compiled.items) == 1


def test_a_product_with_gathered_rows_is_left_to_the_generic_schedule(run: Run) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["p"]),
        helper.make_node("Add", ["p", "rows"], ["y"]),
    ]
    data = model(nodes, {"x": (9,)}, (9, 8), table=normal(5, 8), w=normal(8, 8))
    _, program = prepare(data)
    x = np.arange(9, dtype=np.float32) % 5
    expected = run_compiled(compile_program(program, GENERIC), {"x": x})[0]
    got = execute(run, compile_program(program, TARGET), {"x": x}, relaxed=True)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(run: Run, transposed: int) -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed, alpha=0.5, beta=2.0)
    w = normal(10, 7) if transposed else normal(7, 10)
    agree(run, model([node], {"x": (9, 7)}, (9, 10), w=w, b=normal(10)), {"x": normal(9, 7)})


def test_a_convolution_of_float16_is_computed_in_float32(run: Run) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["h", "w"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    data = model(nodes, {"x": (1, 3, 6, 5)}, ["n", "c", "h", "v"], w=normal(4, 3, 3, 3).astype(np.float16))
    agree(run, data, {"x": normal(1, 3, 6, 5)})


def test_a_single_pixel_without_its_axes(run: Run) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"]),
        helper.make_node("Conv", ["g", "w", "b"], ["c"]),
        helper.make_node("Squeeze", ["c", "axes"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    data = model(nodes, {"x": (2, 8, 4, 4)}, (2, 6), w=normal(6, 8, 1, 1), b=normal(6), axes=np.array([2, 3]))
    agree(run, data, {"x": normal(2, 8, 4, 4)})


def test_symbolic_batch_and_sequence(run: Run) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Transpose", ["p"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["p", "t"], ["y"]),
    ]
    data = model(nodes, {"x": ("batch", "length", 6)}, ("batch", "length", "length"), w=normal(6, 8))
    for batch, length in ((1, 5), (3, 13), (2, 1)):
        agree(run, data, {"x": normal(batch, length, 6)})


def test_symbolic_image(run: Run) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"], pads=[1, 1, 1, 1]),
    ]
    data = model(nodes, {"x": ("n", 3, "h", "v")}, ("n", 4, "oh", "ov"), w0=normal(8, 3, 3, 3), w1=normal(4, 8, 3, 3))
    for size in ((1, 3, 8, 7), (2, 3, 5, 12)):
        agree(run, data, {"x": normal(*size)})


def test_kernels_of_both_variants_have_equal_signatures() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    _, program = prepare(model([node], {"x": (1, 3, 9, 8)}, ["n", "c", "h", "v"], w=normal(10, 3, 3, 3)))
    calls = [item for item in compile_program(program, TARGET).items if isinstance(item, Call)]
    for call in calls:
        plain = call.kernel.plain
        if plain is not None:
            same = replace(call.kernel, plain=None, body=())
            assert replace(plain, body=()) == same


@pytest.mark.parametrize("attributes", [{"strides": [2, 2], "pads": [1] * 4}, {"pads": [1] * 4}, {"strides": [2, 2]}])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling(run: Run, op: str, attributes: dict[str, Any]) -> None:
    x = normal(1, 3, 15, 22)
    if op == "MaxPool":
        x[0, 1, 7, 9] = np.nan
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[3, 3], **attributes)
    agree(run, model([node], {"x": x.shape}, ["a", "b", "c", "d"]), {"x": x}, fast=False)
