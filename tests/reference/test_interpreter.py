"""The interpreter itself: what it takes, gives, frees, refuses, and says when it refuses."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from webdnn_onnx.errors import (
    DTypeError,
    InvalidModelError,
    LimitError,
    ShapeError,
    UnsupportedOpError,
    WebDNNError,
)
from webdnn_onnx.graph import Graph, Node
from webdnn_reference import Interpreter, evaluate_node
from webdnn_reference.registry import OPERATORS


def parse(body: str, opset: int = 18, ir: int = 9) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}]>\n{body}')


def node(op: str, opset: int = 18, name: str = "n", domain: str = "", **attributes: Any) -> Node:
    return Node(op, ("a",), ("b",), attributes, domain=domain, opset=opset, name=name)


CHAIN = parse("g (float[2] x) => (float[2] z) { y = Add(x, x)  u = Neg(y)  z = Mul(y, u) }")


def test_model_may_be_a_proto_bytes_a_path_or_a_graph(tmp_path: Any) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(CHAIN, path)
    graph = Interpreter(CHAIN).graph
    assert isinstance(graph, Graph)
    for model in (CHAIN, CHAIN.SerializeToString(), path, str(path), graph):
        got = Interpreter(model).run({"x": np.array([1, 2], np.float32)})
        assert list(got) == ["z"]
        np.testing.assert_array_equal(got["z"], np.array([-4, -16], np.float32))


def test_python_numbers_and_lists_are_no_dtype_by_accident() -> None:
    with pytest.raises(DTypeError, match="float32"):
        Interpreter(CHAIN).run({"x": np.array([1.0, 2.0])})


def test_outputs_may_name_any_value_and_the_rest_is_not_computed() -> None:
    seen: list[str] = []
    got = Interpreter(CHAIN).run(
        {"x": np.ones(2, np.float32)}, outputs=["y"], observe=lambda name, _: seen.append(name)
    )
    assert list(got) == ["y"]
    assert seen == ["y"]


def test_output_that_is_no_value_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="'nothing'"):
        Interpreter(CHAIN).run({"x": np.ones(2, np.float32)}, outputs=["nothing"])


def test_observe_sees_every_node_output_in_order() -> None:
    seen: dict[str, Any] = {}
    Interpreter(CHAIN).run({"x": np.ones(2, np.float32)}, observe=seen.__setitem__)
    assert list(seen) == ["y", "u", "z"]
    np.testing.assert_array_equal(seen["u"], [-2, -2])


def test_observe_names_the_run_of_a_body() -> None:
    model = parse("""
        g (int64 n, float x) => (float last) {
          c = Constant<value = bool {1}>()
          last = Loop(n, c, x) <body = b (int64 i, bool c_in, float v_in) => (bool c_out, float v_out) {
            c_out = Identity(c_in)  v_out = Add(v_in, v_in) }>
        }""")
    seen: dict[str, Any] = {}
    Interpreter(model).run({"n": np.array(2), "x": np.array(3, np.float32)}, observe=seen.__setitem__)
    assert [name for name in seen if name.endswith("v_out")] == ["last[0]/v_out", "last[1]/v_out"]
    assert seen["last[1]/v_out"] == 12


def test_values_are_freed_after_their_last_use() -> None:
    model = parse("g (float[2] x) => (float[2] z) { y = Neg(x)  u = Exp(y)  w = Exp(u)  z = Exp(w) }")
    alive: list[int] = []
    held: list[weakref.ref[Any]] = []

    def observe(_: str, value: Any) -> None:
        gc.collect()
        alive.append(sum(reference() is not None for reference in held))
        held.append(weakref.ref(value))

    Interpreter(model).run({"x": np.ones(2, np.float32)}, observe=observe)
    assert max(alive) <= 1


def test_initializer_may_be_overridden_by_its_name() -> None:
    model = parse("g (float[2] x) => (float[2] z) <float[2] w = {1, 2}> { z = Add(x, w) }")
    x = np.zeros(2, np.float32)
    np.testing.assert_array_equal(Interpreter(model).run({"x": x})["z"], [1, 2])
    np.testing.assert_array_equal(Interpreter(model).run({"x": x, "w": np.array([5, 6], np.float32)})["z"], [5, 6])


@pytest.mark.parametrize(
    ("feeds", "kind", "text"),
    [
        ({}, InvalidModelError, "'x'"),
        ({"x": np.zeros(2, np.float32), "q": np.zeros(2, np.float32)}, InvalidModelError, "'q'"),
        ({"x": np.zeros(3, np.float32)}, ShapeError, r"float32\[2\].*\[3\]"),
        ({"x": np.zeros((1, 2), np.float32)}, ShapeError, r"\[1, 2\]"),
        ({"x": np.zeros(2, np.int32)}, DTypeError, "int32"),
        ({"x": [np.zeros(2, np.float32)]}, DTypeError, "list"),
    ],
)
def test_wrong_inputs_are_refused(feeds: dict[str, Any], kind: type[WebDNNError], text: str) -> None:
    with pytest.raises(kind, match=text):
        Interpreter(CHAIN).run(feeds)


def test_one_symbol_stands_for_one_size() -> None:
    model = parse("g (float[n] x, float[n] y) => (float[k] z) { z = Add(x, y) }")
    with pytest.raises(ShapeError, match="'y'"):
        Interpreter(model).run({"x": np.zeros(3, np.float32), "y": np.zeros(1, np.float32)})


def test_oracle_holds_every_float_as_float64() -> None:
    model = parse("""
        g (float16[1] x, int64[1] n) => (float16[1] y, int64[1] m) <float[1] w = {0.1}> {
          cast = Cast<to = 10>(w)  y = Add(x, cast)  m = Neg(n)
        }""")
    feeds = {"x": np.array([0.1], np.float16), "n": np.array([3])}
    kinds: set[Any] = set()
    got = Interpreter(model, float64=True).run(feeds, observe=lambda _, value: kinds.add(value.dtype))
    assert kinds == {np.dtype(np.float64), np.dtype(np.int64)}
    assert got["m"] == -3
    assert got["y"] == np.float64(np.float16(0.1)) + np.float64(np.float32(0.1))
    assert Interpreter(model).run(feeds)["y"].dtype == np.float16


def test_results_of_rank_0_are_arrays() -> None:
    model = parse("g (float x) => (float y) { y = Neg(x) }")
    got = Interpreter(model).run({"x": np.float32(2)})["y"]
    assert isinstance(got, np.ndarray)
    assert got.shape == ()


@pytest.mark.parametrize("given", [np.array(["é", "b"]), np.array(["é".encode(), b"b"], object)])
def test_strings_may_be_given_as_any_text_array(given: Any) -> None:
    model = parse("g (string[2] x) => (string[2] y) { y = StringConcat(x, x) }", opset=20)
    assert Interpreter(model).run({"x": given})["y"].tolist() == ["éé", "bb"]


def test_model_function_is_called_with_its_attributes() -> None:
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18, "local" : 1]>
        g (float[3] x) => (float[3] y) { y = local.scaled <factor = 3.0> (x) }
        <domain: "local", opset_import: ["" : 18]>
        scaled <factor> (a) => (b) { f = Constant<value_float: float = @factor>()  b = Mul(a, f) }
        """)
    got = Interpreter(model).run({"x": np.array([1, 2, 3], np.float32)})["y"]
    np.testing.assert_array_equal(got, [3, 6, 9])


def test_domain_may_be_written_out() -> None:
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["ai.onnx" : 18]>
        g (float[1] x) => (float[1] y) { y = Neg(x) }""")
    assert Interpreter(model).run({"x": np.ones(1, np.float32)})["y"] == -1


def test_nodes_may_come_in_any_order() -> None:
    nodes = [helper.make_node("Neg", ["y"], ["z"]), helper.make_node("Exp", ["x"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "z")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))
    assert Interpreter(model).run({"x": np.zeros(1, np.float32)})["z"] == -1


def test_branch_sees_the_values_around_it() -> None:
    model = parse("""
        g (bool c, float[1] x) => (float[1] y) {
          twice = Add(x, x)
          y = If(c) <then_branch = t () => (float[1] a) { a = Neg(twice) },
                     else_branch = e () => (float[1] b) { b = Identity(x) }>
        }""")
    x = np.array([3], np.float32)
    assert Interpreter(model).run({"c": np.array(True), "x": x})["y"] == -6
    assert Interpreter(model).run({"c": np.array(False), "x": x})["y"] == 3


def test_absent_output_is_none() -> None:
    x = np.array([3, 1, 3], np.float32)
    values, indices = evaluate_node(Node("TopK", ("x", "k"), ("v", "i"), opset=18), [x, np.array([1])])
    assert (values.tolist(), indices.tolist()) == ([3], [0])
    absent, indices = evaluate_node(Node("TopK", ("x", "k"), ("", "i"), opset=18), [x, np.array([1])])
    assert absent is None
    assert indices.tolist() == [0]
    thirds = evaluate_node(Node("Split", ("x",), ("a", "b", ""), opset=11), [x])
    assert [None if third is None else third.tolist() for third in thirds] == [[3], [1], None]


def test_attributes_are_those_of_the_version() -> None:
    matrix = np.zeros((1, 4, 1), np.float32)
    lstm = Node("LSTM", ("x", "w", "r"), ("y",), {"hidden_size": 1, "layout": 1}, opset=7)
    with pytest.raises(InvalidModelError, match=r"attributes: expected some of: activation_alpha.*; got 'layout'"):
        evaluate_node(lstm, [np.zeros((1, 1, 1), np.float32), matrix, matrix])


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attributes"),
    [
        ("EyeLike", 9, [np.zeros((2, 2), np.float32)], {"dtype": TensorProto.BFLOAT16}),
        ("QuantizeLinear", 21, [np.zeros(2, np.float32), np.float32(1)], {"output_dtype": TensorProto.FLOAT}),
        ("DequantizeLinear", 23, [np.zeros(2, np.int8), np.float32(1)], {"output_dtype": TensorProto.DOUBLE}),
        ("RandomNormal", 1, [], {"dtype": TensorProto.INT32, "shape": (2,)}),
    ],
)
def test_attributes_name_only_types_of_the_version(
    op: str, opset: int, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    names = tuple(f"x{index}" for index in range(len(inputs)))
    wrong = Node(op, names, ("y",), attributes, opset=opset, name="n")
    with pytest.raises(DTypeError, match=rf"{op} 'n' \(opset {opset}\): .*expected .*, got "):
        evaluate_node(wrong, [np.asarray(value) for value in inputs])


def test_unknown_operator_is_named_with_its_node_and_opset() -> None:
    with pytest.raises(UnsupportedOpError, match=r"acme\.Frob 'n' \(opset 3\)"):
        evaluate_node(node("Frob", 3, domain="acme"), [np.zeros(1)])


def test_operator_newer_than_the_opset_is_refused_with_the_versions_there_are() -> None:
    with pytest.raises(UnsupportedOpError, match=r"Gelu 'n' \(opset 19\).*versions 20"):
        evaluate_node(node("Gelu", 19), [np.zeros(1, np.float32)])


def test_attribute_defaults_are_those_of_the_version() -> None:
    x = np.log(np.arange(1, 9, dtype=np.float32)).reshape(2, 2, 2)
    by_rows = evaluate_node(node("Softmax", 11), [x])[0]
    by_last = evaluate_node(node("Softmax", 13), [x])[0]
    np.testing.assert_allclose(by_rows.sum(axis=(1, 2)), [1, 1], rtol=1e-6)
    np.testing.assert_allclose(by_last.sum(axis=-1), np.ones((2, 2)), rtol=1e-6)


def test_unknown_attribute_is_refused() -> None:
    with pytest.raises(InvalidModelError, match=r"Neg 'n' \(opset 18\): attributes: expected.*'alpha'"):
        evaluate_node(node("Neg", alpha=1.0), [np.zeros(1, np.float32)])


def test_hint_of_early_versions_is_ignored() -> None:
    assert evaluate_node(node("Neg", 5, consumed_inputs=(0,)), [np.ones(1, np.float32)])[0] == -1


def test_missing_attribute_is_refused() -> None:
    with pytest.raises(InvalidModelError, match=r"Concat 'n' \(opset 18\): attribute 'axis'"):
        evaluate_node(node("Concat"), [np.zeros(1, np.float32)])


def test_type_outside_the_schema_is_refused() -> None:
    with pytest.raises(DTypeError, match=r"Exp 'n' \(opset 18\): input 'input': expected.*got tensor\(int32\)"):
        evaluate_node(node("Exp"), [np.zeros(1, np.int32)])


def test_types_are_those_of_the_version() -> None:
    x = np.ones(1, ml_dtypes.bfloat16)
    assert evaluate_node(node("Exp", 13), [x])[0].dtype == ml_dtypes.bfloat16
    with pytest.raises(DTypeError, match="bfloat16"):
        evaluate_node(node("Exp", 11), [x])


def test_inputs_of_one_type_variable_must_agree() -> None:
    with pytest.raises(DTypeError, match=r"input 'B': expected tensor\(float\).*got tensor\(double\)"):
        evaluate_node(node("Add"), [np.zeros(1, np.float32), np.zeros(1)])


def test_surplus_and_missing_inputs_are_refused() -> None:
    x = np.zeros(1, np.float32)
    with pytest.raises(InvalidModelError, match="at most 1, got 2"):
        evaluate_node(node("Neg"), [x, x])
    with pytest.raises(InvalidModelError, match="at least 2, got 1"):
        evaluate_node(node("Add"), [x])
    with pytest.raises(InvalidModelError, match="input 'A': expected a value, got none"):
        evaluate_node(node("Add"), [None, x])


def test_shapes_that_do_not_fit_are_named_with_the_node() -> None:
    with pytest.raises(ShapeError, match=r"^Add 'n' \(opset 18\): inputs: expected shapes that broadcast"):
        evaluate_node(node("Add"), [np.zeros(2, np.float32), np.zeros(3, np.float32)])


def test_error_in_a_body_names_the_inner_node_once() -> None:
    model = parse("""
        g (bool c, float[2] x, float[3] w) => (float[2] y) {
          y = If(c) <then_branch = t () => (float[2] a) { a = Add(x, w) },
                     else_branch = e () => (float[2] b) { b = Identity(x) }>
        }""")
    with pytest.raises(ShapeError, match=r"^Add.*\(opset 18\): inputs") as raised:
        Interpreter(model).run({"c": np.array(True), "x": np.zeros(2, np.float32), "w": np.zeros(3, np.float32)})
    assert "If" not in str(raised.value)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Reshape", [np.zeros(6, np.float32), np.array([4, -1])], {}),
        ("Transpose", [np.zeros((2, 3), np.float32)], {"perm": (0, 0)}),
        ("Gather", [np.zeros(3, np.float32), np.array([3])], {}),
        ("Squeeze", [np.zeros((2, 3), np.float32), np.array([0])], {}),
        ("Concat", [np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)], {"axis": 0}),
        ("TopK", [np.zeros(3, np.float32), np.array([4])], {}),
        ("Slice", [np.zeros(3, np.float32), np.array([0]), np.array([1]), np.array([0]), np.array([0])], {}),
        ("MatMul", [np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)], {}),
        ("ScatterND", [np.zeros(3, np.float32), np.array([[3]]), np.zeros(1, np.float32)], {}),
        ("OneHot", [np.zeros(3, np.int64), np.array([2, 3]), np.zeros(2, np.float32)], {}),
    ],
)
def test_wrong_shapes_and_indices_raise_shape_errors(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match=rf"^{op} 'n' \(opset 18\): .*expected.*got"):
        evaluate_node(node(op, **attributes), inputs)


def test_messages_are_one_line() -> None:
    with pytest.raises(WebDNNError) as raised:
        evaluate_node(node("Conv"), [np.zeros((1, 3, 4, 4), np.float32), np.zeros((2, 4, 3, 3), np.float32)])
    assert "\n" not in str(raised.value)


def test_one_interpreter_runs_many_times_with_other_shapes() -> None:
    interpreter = Interpreter(parse("g (float[n] x) => (float[n] y) { y = Neg(x) }"))
    for size in (1, 5, 0):
        assert interpreter.run({"x": np.ones(size, np.float32)})["y"].shape == (size,)


def test_outputs_are_the_callers_own() -> None:
    model = parse("""
        g (float[2] x) => (float[2] same, float[1, 2] shaped, float[2] w, float[2, 2] wide) <float[2] w = {1, 2}> {
          same = Identity(x)  axes = Constant<value_ints = [0]>()  shaped = Unsqueeze(w, axes)
          shape = Constant<value_ints = [2, 2]>()  wide = Expand(x, shape)
        }""")
    interpreter = Interpreter(model)
    x = np.array([3, 4], np.float32)
    for _ in range(2):
        got = interpreter.run({"x": x})
        assert {name: value.tolist() for name, value in got.items()} == {
            "same": [3, 4],
            "shaped": [[1, 2]],
            "w": [1, 2],
            "wide": [[3, 4], [3, 4]],
        }
        for value in got.values():
            value[...] = 0


def test_inputs_are_never_written_to() -> None:
    x = np.arange(4, dtype=np.float32)
    x.setflags(write=False)
    model = parse("""
        g (float[4] x) => (float[4] y) <int64[1,1] i = {2}, float[1] u = {9}> { y = ScatterND(x, i, u) }""")
    np.testing.assert_array_equal(Interpreter(model).run({"x": x})["y"], [0, 1, 9, 3])


def test_every_version_of_every_operator_is_there() -> None:
    missing = [
        f"{schema.domain or 'ai.onnx'} {schema.name} {schema.since_version}"
        for schema in onnx.defs.get_all_schemas_with_history()
        if not schema.deprecated and schema.since_version not in OPERATORS.versions(schema.name, schema.domain)
    ]
    # Gradient differentiates the graph around it; it has no value of its own.
    assert missing == ["ai.onnx.preview.training Gradient 1"]


@pytest.mark.parametrize("sizes", [[1 << 44], [1 << 40, 1 << 40]])
def test_an_output_that_does_not_fit_into_memory_is_a_limit(sizes: list[int]) -> None:
    model = parse("g (int64[r] s) => (float[] y) { y = ConstantOfShape(s) }")
    with pytest.raises(LimitError, match=r"expected (a value that fits|results that fit) into memory"):
        Interpreter(model).run({"s": np.array(sizes)})


def test_views_are_handed_out_as_arrays_of_their_own() -> None:
    model = parse("g (int64[r] s) => (float[] y) { y = ConstantOfShape(s) }")
    y = Interpreter(model).run({"s": np.array([2, 3])})["y"]
    assert y.flags.writeable
    assert y.strides == (12, 4)


def test_errors_of_several_threads_name_their_node_once() -> None:
    model = parse(
        "g (bool c, float[n] x) => (float[m] z) "
        "{ z = If <then_branch = t () => (float[m] y) { y = Reshape(x, s) }, "
        "else_branch = e () => (float[m] w) { w = Identity(x) }> (c) }"
    )
    model.graph.node[0].attribute[0].g.initializer.append(helper.make_tensor("s", TensorProto.INT64, [1], [5]))
    interpreter = Interpreter(model)

    def message(size: int) -> str:
        with pytest.raises(ShapeError) as caught:
            interpreter.run({"c": np.array(True), "x": np.zeros(size, np.float32)})
        return str(caught.value)

    with ThreadPoolExecutor(4) as pool:
        messages = list(pool.map(message, [size % 4 + 1 for size in range(400)]))
    assert {text.count("Reshape") for text in messages} == {1}
