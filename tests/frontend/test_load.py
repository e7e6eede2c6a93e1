from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.frontend.build import model, node
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.load import load
from webdnn_reference import Interpreter


def relu() -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"], name="act")], {"x": [2]}, ["y"])


def test_bytes_path_and_proto_give_the_same_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(relu().SerializeToString())
    graphs = [load(relu()), load(path), load(str(path)), load(path.read_bytes())]
    assert all(graph.nodes == graphs[0].nodes for graph in graphs)
    assert graphs[0].nodes[0].source == ("act",)


def test_unnamed_node_is_called_by_its_output() -> None:
    assert load(model([node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])).nodes[0].source == ("Relu:y",)


@pytest.mark.parametrize(
    "data", [b"", b"hello, world, this is no model", b"\x89PNG\r\n\x1a\n", relu().SerializeToString()[:-7]]
)
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidModelError) as error:
        load(data)
    assert "\n" not in str(error.value)


def test_missing_file_is_named() -> None:
    with pytest.raises(InvalidModelError, match=r"nowhere\.onnx.*no such file"):
        load("nowhere.onnx")


def external(tmp_path: Path, stored: int) -> Path:
    weights = np.arange(8, dtype=np.float32)
    proto = model([node("Add", ["x", "w"], ["y"])], {"x": [8]}, ["y"], {"w": weights})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "4"), ("length", "32")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes((b"\0" * 4 + weights.tobytes())[:stored])
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_is_read_at_its_offset(tmp_path: Path) -> None:
    array = load(external(tmp_path, 36)).constants["w"]
    np.testing.assert_array_equal(array, np.arange(8, dtype=np.float32))
    assert not array.flags.writeable


def test_short_external_data_names_tensor_file_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"'w'.*'w\.bin'.*expected 32 bytes at offset 4, got 16"):
        load(external(tmp_path, 20))


def test_missing_external_data_names_the_file(tmp_path: Path) -> None:
    path = external(tmp_path, 36)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InvalidModelError, match=r"'w'.*w\.bin.*no such file"):
        load(path)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path, 36)
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../w.bin"
    with pytest.raises(InvalidModelError, match="inside the model's folder"):
        load(proto, folder=tmp_path)


def test_nodes_are_sorted() -> None:
    nodes = [node("Relu", ["b"], ["c"]), node("Relu", ["a"], ["b"]), node("Relu", ["x"], ["a"])]
    assert [each.output(0) for each in load(model(nodes, {"x": [1]}, ["c"])).nodes] == ["a", "b", "c"]


def test_cycle_is_refused() -> None:
    nodes = [node("Add", ["x", "b"], ["a"], name="loop"), node("Relu", ["a"], ["b"])]
    with pytest.raises(InvalidModelError, match="cycle"):
        load(model(nodes, {"x": [1]}, ["b"]))


def test_undefined_value_is_named() -> None:
    with pytest.raises(InvalidModelError, match=r"Relu 'act'.*value 'ghost'"):
        load(model([node("Relu", ["ghost"], ["y"], name="act")], {"x": [1]}, ["y"]))


def test_value_defined_twice_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="value 'y': expected one definition"):
        load(model([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])], {"x": [1]}, ["y"]))


def test_domain_may_be_written_by_name() -> None:
    proto = relu()
    proto.opset_import[0].domain = "ai.onnx"
    proto.graph.node[0].domain = "ai.onnx"
    assert (load(proto).nodes[0].domain, load(proto).nodes[0].opset) == ("", 17)


def test_domain_that_is_not_imported_is_refused() -> None:
    with pytest.raises(InvalidModelError, match=r"opset_import.*'com\.example'"):
        load(model([node("Odd", ["x"], ["y"], domain="com.example")], {"x": [1]}, ["y"]))


def test_unknown_operator_loads() -> None:
    imports = [helper.make_opsetid("com.example", 3)]
    graph = load(model([node("Odd", ["x"], ["y"], domain="com.example")], {"x": [1]}, ["y"], imports=imports))
    assert graph.nodes[0].opset == 3


def test_attribute_that_the_schema_has_not_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="Relu 'act'"):
        load(model([node("Relu", ["x"], ["y"], name="act", alphabet=3)], {"x": [1]}, ["y"]))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("value_float", 1.5, np.float32(1.5)),
        ("value_floats", [1.5, 2.0], np.array([1.5, 2], np.float32)),
        ("value_int", 3, np.int64(3)),
        ("value_ints", [3, 4], np.array([3, 4])),
        ("value_string", "a", np.array("a", object)),
        ("value_strings", ["a", "b"], np.array(["a", "b"], object)),
        ("value", numpy_helper.from_array(np.array([[1, 2]], np.int8)), np.array([[1, 2]], np.int8)),
    ],
)
def test_constant_node_becomes_a_constant(name: str, value: object, expected: np.ndarray) -> None:
    array = load(model([node("Constant", [], ["y"], **{name: value})], {}, ["y"])).constants["y"]
    np.testing.assert_array_equal(array, expected)
    assert array.shape == np.shape(expected)


def test_sparse_constant_is_densified() -> None:
    values = numpy_helper.from_array(np.array([5, 6], np.float32), "v")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([[0, 1], [1, 0]])), [2, 2])
    graph = load(model([node("Constant", [], ["y"], sparse_value=sparse)], {}, ["y"]))
    np.testing.assert_array_equal(graph.constants["y"], [[0, 5], [6, 0]])


def test_initializer_that_is_an_input_is_a_constant_unless_asked() -> None:
    proto = model([node("Add", ["x", "w"], ["y"])], {"x": [1], "w": [1]}, ["y"], {"w": np.ones(1, np.float32)})
    assert [value.name for value in load(proto).inputs] == ["x"]
    assert [value.name for value in load(proto, keep_defaults=True).inputs] == ["x", "w"]
    proto.ir_version = 3
    assert [value.name for value in load(proto, keep_defaults=True).inputs] == ["x"]


def test_functions_are_inlined_with_their_attributes() -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    leaky = node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT))
    inner = helper.make_function("local", "Leaky", ["a"], ["b"], [leaky], imports, ["slope"])
    call = node("Leaky", ["t"], ["u"], domain="local", name="inside")
    call.attribute.append(AttributeProto(name="slope", ref_attr_name="slope", type=AttributeProto.FLOAT))
    outer = helper.make_function(
        "local",
        "Twice",
        ["t"],
        ["w"],
        [call, node("Add", ["u", "u"], ["w"])],
        imports,
        [],
        [helper.make_attribute("slope", 0.5)],
    )
    nodes = [
        node("Twice", ["x"], ["p"], domain="local", name="first"),
        node("Twice", ["p"], ["q"], domain="local", name="second", slope=0.25),
    ]
    graph = load(model(nodes, {"x": [2]}, ["q"], imports=imports[1:], functions=[inner, outer]))
    assert [each.op for each in graph.nodes] == ["LeakyRelu", "Add"] * 2
    assert graph.nodes[0].source == ("first/inside/LeakyRelu:b",)
    result = Interpreter(graph).run({"x": np.array([-4, 4], np.float32)})["q"]
    np.testing.assert_allclose(result, [-2, 16])


def test_recursive_function_is_refused() -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "F", ["a"], ["b"], [node("F", ["a"], ["b"], domain="local")], imports)
    proto = model(
        [node("F", ["x"], ["y"], domain="local")], {"x": [1]}, ["y"], imports=imports[1:], functions=[function]
    )
    with pytest.raises(InvalidModelError, match="recursive"):
        load(proto)


def test_names_of_nested_graphs_become_unique() -> None:
    branch = helper.make_graph([node("Relu", ["x"], ["t"])], "then", [], [helper.make_empty_tensor_value_info("t")])
    other = helper.make_graph([node("Neg", ["x"], ["t"])], "else", [], [helper.make_empty_tensor_value_info("t")])
    nodes = [node("Abs", ["x"], ["t"]), node("If", ["c"], ["y"], then_branch=branch, else_branch=other)]
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = load(model(nodes, {"x": [2], "c": condition}, ["t", "y"]))
    assert [nested.nodes[0].output(0) for nested in graph.nodes[1].subgraphs] == ["t_1", "t_2"]


def test_anonymous_dimensions_are_symbols_of_their_own() -> None:
    graph = load(model([node("Relu", ["x"], ["y"])], {"x": [None, "?", "n", 3]}, ["y"]))
    assert str(graph.inputs[0].type) == "float32[x.dim0, x.dim1, n, 3]"


@pytest.mark.parametrize("model", [123, None, onnx.GraphProto()])
def test_what_is_no_model_is_named_by_its_type(model: Any) -> None:
    with pytest.raises(InvalidModelError, match=f"expected a path, bytes or a ModelProto, got {type(model).__name__}"):
        load(model)


@pytest.mark.parametrize(
    ("ir_version", "domain", "version", "said"),
    [
        (99, "", 18, "ir_version: expected at most .* got 99; upgrade onnx"),
        (9, "", 99, "opset_import of 'ai.onnx': expected at most .* got 99; upgrade onnx"),
        (9, "ai.onnx", 99, "opset_import of 'ai.onnx': expected at most .* got 99; upgrade onnx"),
        (9, "ai.onnx.ml", 9, "opset_import of 'ai.onnx.ml': expected at most 5, .* got 9; upgrade onnx"),
    ],
)
def test_versions_that_nobody_knows_yet_are_refused(ir_version: int, domain: str, version: int, said: str) -> None:
    opsets = [onnx.helper.make_opsetid(domain, version), onnx.helper.make_opsetid("com.example", 1000)]
    graph = onnx.helper.make_graph([], "g", [], [])
    with pytest.raises(InvalidModelError, match=said):
        load(onnx.helper.make_model(graph, ir_version=ir_version, opset_imports=opsets))
