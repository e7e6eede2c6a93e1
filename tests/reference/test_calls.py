"""How an interpreter is called: what it takes, what it hands out, what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, TypeProto, helper, parser

from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_reference import Interpreter

X = np.ones((2, 3), np.float32)
PAIR = "g (float[n, 3] x, float[n] s) => (float[n, 3] y) { t = Relu(x)  y = Identity(t) }"
LOOP = """
g (float[2] x, int64 count) => (float[2] y) {
  y = Loop(count, "", x) <body = b (int64 i, bool going, float[2] a) => (bool still, float[2] c) {
    still = Identity(going)  c = Add(a, a)
  }>
}"""


def model(text: str) -> ModelProto:
    parsed: ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    return parsed


@pytest.mark.parametrize(
    ("inputs", "kind", "said"),
    [
        ([X, X[:, 0]], InvalidModelError, "inputs: expected values by name, got list"),
        (
            {"x": X, "s": X[:1, 0]},
            ShapeError,
            r"input 's': expected float32\[n\] with n = 2 as before, got float32\[1\]",
        ),
        (
            {"x": X.astype("datetime64[s]"), "s": X[:, 0]},
            DTypeError,
            r"input 'x': expected float32\[n, 3\], got datetime64",
        ),
    ],
)
def test_wrong_inputs_are_named(inputs: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        Interpreter(model(PAIR)).run(inputs)


def test_a_byte_order_that_is_not_the_machines_is_turned() -> None:
    got = Interpreter(model(PAIR)).run({"x": X.astype(X.dtype.newbyteorder()), "s": X[:, 0]})
    assert got["y"].dtype == np.float32
    np.testing.assert_array_equal(got["y"], X)


def test_the_name_of_one_output_may_stand_alone() -> None:
    got = Interpreter(model(LOOP.replace(" y", " last"))).run({"x": X[0, :2], "count": np.array(1)}, "last")
    assert list(got) == ["last"]


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, KeyError, ShapeError])
def test_what_an_observer_raises_comes_out_as_it_is(kind: type[Exception]) -> None:
    raised = kind("mine")

    def refuse(_name: str, _value: object) -> None:
        raise raised

    with pytest.raises(kind) as caught:
        Interpreter(model(LOOP)).run({"x": X[0, :2], "count": np.array(2)}, observe=refuse)
    assert caught.value is raised


def test_outputs_share_no_memory_with_one_another() -> None:
    text = """
    g (float[2] x) => (float[2] a, float[2] b, float[1, 2] c, seq(float[2]) d) {
      a = Neg(x)  b = Identity(a)  zero = Constant<value_ints = [0]>()  c = Unsqueeze(a, zero)
      d = SequenceConstruct(a, a)
    }"""
    got = Interpreter(model(text)).run({"x": X[0, :2]})
    arrays = [got["a"], got["b"], got["c"], *got["d"]]
    for index, array in enumerate(arrays):
        array[...] = index
    assert [float(array.max()) for array in arrays] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("float64", [False, True])
def test_writing_to_an_output_changes_no_constant_of_a_body(float64: bool) -> None:
    text = """
    g (bool c) => (float[2] y) {
      y = If (c) <
        then_branch = first () => (float[2] a) { a = Constant<value_floats = [1.0, 2.0]>() },
        else_branch = second () => (float[2] b) { b = Constant<value_floats = [3.0, 4.0]>() }
      >
    }"""
    interpreter = Interpreter(model(text), float64=float64)
    interpreter.run({"c": np.array(True)})["y"][...] = 9
    np.testing.assert_array_equal(interpreter.run({"c": np.array(True)})["y"], [1, 2])


def test_the_items_of_a_sequence_that_passes_through_are_copies() -> None:
    interpreter = Interpreter(model("g (seq(float[n]) x) => (seq(float[n]) y) { y = Identity(x) }"))
    got = interpreter.run({"x": [X[0], X[1]]})["y"]
    assert not any(np.shares_memory(item, X) for item in got)
    one = np.ones(2, np.float32)
    assert not np.shares_memory(interpreter.run({"x": [one]})["y"][0], one)


def dictionary_model(key: int, value: int, **vocabulary: Any) -> ModelProto:
    kind = TypeProto()
    kind.map_type.key_type = key
    kind.map_type.value_type.tensor_type.elem_type = value
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", **vocabulary)
    output = helper.make_tensor_value_info("y", value, None)
    graph = helper.make_graph([node], "g", [helper.make_value_info("x", kind)], [output])
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)])
    return made


def test_the_numbers_of_a_map_take_the_declared_type() -> None:
    interpreter = Interpreter(dictionary_model(TensorProto.STRING, TensorProto.DOUBLE, string_vocabulary=["a", "b"]))
    got = interpreter.run({"x": {"b": 0.1}})["y"]
    assert got.dtype == np.float64
    assert got.tolist() == [[0, 0.1]]
    interpreter = Interpreter(dictionary_model(TensorProto.INT64, TensorProto.FLOAT, int64_vocabulary=[5, 6]))
    assert interpreter.run({"x": {5: 2}})["y"].dtype == np.float32


@pytest.mark.parametrize("given", [{"a": 1.0}, {5: "x"}, {5: None}, {5: np.ones(3)}, {5.5: 1.0}])
def test_a_map_of_other_types_is_refused(given: Any) -> None:
    interpreter = Interpreter(dictionary_model(TensorProto.INT64, TensorProto.FLOAT, int64_vocabulary=[5, 6]))
    with pytest.raises(DTypeError, match=r"input 'x': expected map\(int64, float32.*got the"):
        interpreter.run({"x": given})
