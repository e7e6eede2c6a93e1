from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.frontend.build import model, node
from webdnn_onnx.errors import DTypeError, ShapeError
from webdnn_onnx.graph import Graph
from webdnn_onnx.infer import infer, known_elements
from webdnn_onnx.load import load
from webdnn_onnx.specialize import specialize
from webdnn_onnx.symbolic import evaluate


def inferred(nodes: list[NodeProto], inputs: dict[str, object], opset: int = 17, **constants: object) -> Graph:
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    return infer(load(model(nodes, inputs, [nodes[-1].output[0]], arrays, opset)))


def shape(nodes: list[NodeProto], inputs: dict[str, object], opset: int = 17, **constants: object) -> str:
    return str(inferred(nodes, inputs, opset, **constants).outputs[0].type)


def integers(name: str, *dims: int | str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(dims))


def test_convolution_of_symbolic_size() -> None:
    conv = node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    w = np.zeros((8, 3, 3, 3), np.float32)
    assert shape([conv], {"x": ["n", 3, "h", 224]}, w=w) == "float32[n, 8, floordiv(h - 1, 2) + 1, 112]"


def test_convolution_with_wrong_channels_names_the_node() -> None:
    conv = node("Conv", ["x", "w"], ["y"], name="stem")
    with pytest.raises(ShapeError, match=r"Conv 'stem' \(opset 17\): W channels"):
        shape([conv], {"x": [1, 4, 9, 9]}, w=np.zeros((8, 3, 3, 3), np.float32))


def test_pooling_that_rounds_up_starts_no_window_in_the_padding() -> None:
    pool = node("MaxPool", ["x"], ["y"], kernel_shape=[1], strides=[2], ceil_mode=1)
    assert shape([pool], {"x": [1, 1, 4]}) == "float32[1, 1, 2]"


def test_broadcast_takes_the_known_size() -> None:
    add = node("Add", ["x", "z"], ["y"])
    assert shape([add], {"x": ["n", 1], "z": ["n", 5]}) == "float32[n, 5]"
    assert shape([add], {"x": ["n", 4], "z": [4]}) == "float32[n, 4]"


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ShapeError, match="broadcast"):
        shape([node("Add", ["x", "z"], ["y"])], {"x": [3], "z": [4]})


def test_element_types_that_differ_are_refused() -> None:
    with pytest.raises(DTypeError, match="expected float32, got int64"):
        shape([node("Add", ["x", "z"], ["y"])], {"x": [3], "z": integers("z", 3)})


def test_exported_shape_arithmetic_becomes_expressions() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["batch"]),
        node("Gather", ["s", "one"], ["length"]),
        node("Mul", ["length", "four"], ["area"]),
        node("Unsqueeze", ["batch", "axis"], ["b"]),
        node("Unsqueeze", ["area", "axis"], ["a"]),
        node("Concat", ["b", "a", "rest"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["y"]),
    ]
    numbers = {"zero": 0, "one": 1, "four": 4, "axis": [0], "rest": [-1]}
    graph = inferred(nodes, {"x": ["n", "t", 64]}, **{name: np.array(value) for name, value in numbers.items()})
    assert str(graph.outputs[0].type) == "float32[n, 4*t, 16]"
    assert [str(element) for element in known_elements(graph)["wanted"]] == ["n", "4*t", "-1"]


def test_reshape_by_a_run_time_tensor_is_bound_to_its_elements() -> None:
    graph = inferred([node("Reshape", ["x", "s"], ["y"])], {"x": [2, 3, 4], "s": integers("s", 2)})
    assert {name: (binding.value, binding.index) for name, binding in graph.bindings.items()} == {
        "s[0]": ("s", 0),
        "s[1]": ("s", 1),
    }
    for given, expected in (((6, 4), (6, 4)), ((-1, 12), (2, 12)), ((0, -1), (2, 12)), ((24, 1), (24, 1))):
        values = {f"s[{index}]": size for index, size in enumerate(given)}
        assert tuple(evaluate(dim, values) for dim in graph.outputs[0].shape) == expected


@pytest.mark.parametrize("start", [-9, -2, 0, 1, 5, 9])
@pytest.mark.parametrize("end", [-9, -2, 0, 3, 2**63 - 1])
@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_slice_has_the_length_numpy_gives(start: int, end: int, step: int) -> None:
    last = end if step > 0 or end >= 0 or end >= -5 else -(2**63)
    cut = node("Slice", ["x", "a", "b", "c", "d"], ["y"])
    graph = inferred([cut], {"x": ["n"]}, a=[start], b=[last], c=[0], d=[step])
    stop = None if last < -5 and step < 0 else last
    assert evaluate(graph.outputs[0].shape[0], {"n": 5}) == len(np.arange(5)[start:stop:step])


@pytest.mark.parametrize("axes", [(0,), (-1,), (0, 2), (1, -3)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_run_time_axes_of_a_reduction(axes: tuple[int, ...], keepdims: int) -> None:
    total = node("ReduceSum", ["x", "axes"], ["y"], keepdims=keepdims)
    graph = inferred([total], {"x": [2, 3, 4], "axes": integers("axes", len(axes))})
    values = {f"axes[{index}]": axis for index, axis in enumerate(axes)}
    expected = np.zeros((2, 3, 4)).sum(axis=axes, keepdims=bool(keepdims)).shape
    assert tuple(evaluate(dim, values) for dim in graph.outputs[0].shape) == expected


def test_data_dependent_size_is_a_symbol_of_its_value() -> None:
    graph = inferred([node("NonZero", ["x"], ["y"])], {"x": [3, 4]})
    assert str(graph.outputs[0].type) == "int64[2, y.dim1]"
    assert (graph.bindings["y.dim1"].value, graph.bindings["y.dim1"].index) == ("y", -2)


def test_loop_that_grows_a_value_has_a_size_of_its_own() -> None:
    body = helper.make_graph(
        [node("Concat", ["v", "one"], ["w"], axis=0), node("Identity", ["go"], ["on"]), node("Abs", ["one"], ["z"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_empty_tensor_value_info("v"),
        ],
        [helper.make_empty_tensor_value_info(name) for name in ("on", "w", "z")],
    )
    loop = node("Loop", ["m", "", "one"], ["y", "all"], body=body)
    graph = inferred([loop], {"m": integers("m")}, one=np.ones(1, np.float32))
    assert str(graph.value("y").type) == "float32[y.dim0]"
    graph = inferred([loop], {"x": [1]}, one=np.ones(1, np.float32), m=np.array(7))
    assert str(graph.value("all").type) == "float32[7, 1]"


def test_if_takes_what_both_branches_agree_on() -> None:
    y = helper.make_empty_tensor_value_info("t")
    branches = {
        "then_branch": helper.make_graph([node("Relu", ["x"], ["t"])], "a", [], [y]),
        "else_branch": helper.make_graph([node("Concat", ["x", "x"], ["t"], axis=0)], "b", [], [y]),
    }
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    assert shape([node("If", ["c"], ["y"], **branches)], {"c": condition, "x": [2, 3]}) == "float32[y.dim0, 3]"
    assert shape([node("If", ["c"], ["y"], **branches)], {"x": [2, 3]}, c=np.array(False)) == "float32[4, 3]"


def test_unknown_operator_keeps_the_declared_type() -> None:
    proto = model(
        [node("Odd", ["x"], ["t"], domain="com.example"), node("Relu", ["t"], ["y"])],
        {"x": [2]},
        ["y"],
        imports=[helper.make_opsetid("com.example", 1)],
    )
    assert infer(load(proto)).outputs[0].type is None
    proto.graph.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 5]))
    assert str(infer(load(proto)).outputs[0].type) == "float32[2, 5]"


def test_inference_is_idempotent() -> None:
    graph = inferred([node("Reshape", ["x", "s"], ["y"])], {"x": [2, 3], "s": integers("s", 2)})
    assert infer(graph).values == graph.values


def graph_with_symbols() -> Graph:
    return load(model([node("Concat", ["x", "p"], ["y"], axis=1)], {"x": ["n", "t"], "p": ["n", "past + t"]}, ["y"]))


def test_specialize_by_dimension_and_by_shape() -> None:
    fixed = specialize(graph_with_symbols(), dims={"n": 2})
    assert str(fixed.outputs[0].type) == "float32[2, past + 2*t]"
    fixed = specialize(graph_with_symbols(), shapes={"x": (2, 3), "p": (2, 10)})
    assert str(fixed.outputs[0].type) == "float32[2, 13]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": {"batch": 1}}, "expected one of n, past, t"),
        ({"shapes": {"z": (1,)}}, "expected one of x, p"),
        ({"shapes": {"x": (1,)}}, "expected 2 sizes"),
        ({"shapes": {"x": (1, 2), "p": (3, 4)}}, "expected n = 1, got 3"),
        ({"dims": {"n": -1}}, "0 or more"),
        ({"dims": {"n": 2}, "shapes": {"x": (3, 3)}}, "got 3"),
    ],
)
def test_specialize_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        specialize(graph_with_symbols(), **arguments)  # type: ignore[arg-type]  # keyword arguments of two types
