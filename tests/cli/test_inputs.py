"""Inputs from files, and seeded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from webdnn_onnx.cli.bundle import Port
from webdnn_onnx.cli.inputs import chosen_dims, evaluate_dim, given_inputs, made_up, seeded_inputs
from webdnn_onnx.cli.limits import index_limits
from webdnn_onnx.cli.outputs import save_outputs, summaries
from webdnn_onnx.cli.ports import ports_of
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError, InvalidModelError, ShapeError
from webdnn_onnx.load import load

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def port(name: str, dtype: str, *shape: Any) -> Port:
    return Port(name, {"dtype": dtype, "shape": list(shape)})


def test_an_npz_is_read_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=X, b=X + 1)
    found = given_inputs([str(tmp_path / "x.npz")], ["a", "b"])
    assert list(found) == ["a", "b"]
    assert np.array_equal(found["b"], X + 1)


def test_an_npy_is_the_single_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    assert np.array_equal(given_inputs([str(tmp_path / "x.npy")], ["image"])["image"], X)
    with pytest.raises(InvalidModelError, match="NAME=FILE"):
        given_inputs([str(tmp_path / "x.npy")], ["a", "b"])


def test_a_tensor_proto_is_given_a_name(tmp_path: Path) -> None:
    path = tmp_path / "input_0.pb"
    path.write_bytes(onnx.numpy_helper.from_array(X).SerializeToString())
    assert np.array_equal(given_inputs([f"b={path}"], ["a", "b"])["b"], X)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.npz", b"broken", "cannot be read"),
        ("x.png", b"", r"\.npz, \.npy or \.pb"),
        ("gone.npy", None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidModelError, match=f"{name}.*{said}|{said}"):
        given_inputs([str(tmp_path / name)], ["x"])


def test_pickled_objects_are_refused_with_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array(["a"], object))
    with pytest.raises(InvalidModelError, match="save text as an array of dtype str"):
        given_inputs([str(tmp_path / "x.npz")], ["x"])


def test_the_elements_of_a_sequence_are_arrays_with_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{"x/1": X, "x/0": X[0]})
    found = given_inputs([str(tmp_path / "x.npz")], ["x"])
    assert [item.shape for item in found["x"]] == [(3,), (2, 3)]
    sequence = Port("x", {"sequence": {"dtype": "float32"}})
    assert seeded_inputs([sequence], found)["x"] == found["x"]
    with pytest.raises(DTypeError, match=r"expected a sequence as x/0, x/1, \.\.\., got one array"):
        seeded_inputs([sequence], {"x": X})
    with pytest.raises(DTypeError, match=r"expected --input with x/0, x/1, \.\.\., got none"):
        seeded_inputs([sequence], {})
    np.savez(tmp_path / "x.npz", **{"x/1": X})
    with pytest.raises(InvalidModelError, match="expected x/0 to x/0, got x/1"):
        given_inputs([str(tmp_path / "x.npz")], ["x"])


@pytest.mark.parametrize("dtype", [DType.BFLOAT16, DType.FLOAT8E5M2, DType.INT4, DType.STRING], ids=lambda d: d.value)
def test_every_type_comes_back_from_the_file_it_was_saved_to(tmp_path: Path, dtype: DType) -> None:
    value = np.array(["a", "\u00e9\u00e9"], object) if dtype is DType.STRING else np.ones(2, dtype.numpy)
    save_outputs(tmp_path / "x.npz", {"x": value})
    found = given_inputs([str(tmp_path / "x.npz")], ["x"])
    back = seeded_inputs([port("x", dtype.value, "n")], found)["x"]
    assert DType.from_numpy(back.dtype) is dtype
    assert back.tolist() == value.tolist()


def test_items_of_sequences_and_maps_are_saved_by_their_place(tmp_path: Path) -> None:
    save_outputs(tmp_path / "x.npz", {"y": [{"a": np.float32(1), "b": np.float32(2)}, {7: X}], "none": None})
    with np.load(tmp_path / "x.npz") as archive:
        assert sorted(archive) == ["y/0/a", "y/0/b", "y/1/7"]
        np.testing.assert_array_equal(archive["y/1/7"], X)
    assert summaries({"y": [{"a": np.float32(1)}]}) == {"y": [{"a": 1.0}]}


def test_an_input_without_a_declared_rank_takes_any() -> None:
    untyped = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
    ports = ports_of(load(onnx.helper.make_model(onnx.helper.make_graph([], "g", [untyped], [untyped]))))
    assert seeded_inputs(ports, {"x": X})["x"].shape == (2, 3)


def test_a_size_that_another_input_fixed_is_named() -> None:
    ports = [port("x", "float32", "n", 3), port("y", "float32", "n")]
    with pytest.raises(ShapeError, match=r"input 'y': expected shape \[n\] with n = 2, got \[3\]"):
        seeded_inputs(ports, {"x": X, "y": X[0]})


def test_a_name_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", wrong=X)
    with pytest.raises(InvalidModelError, match="expected names among x, got 'wrong'"):
        given_inputs([str(tmp_path / "x.npz")], ["x"])


def test_seeded_values_depend_on_the_seed_only() -> None:
    ports = [port("x", "float32", 2, 3), port("y", "float16", 4)]
    first, again, other = (seeded_inputs(ports, {}, seed) for seed in (0, 0, 1))
    assert np.array_equal(first["x"], again["x"])
    assert not np.array_equal(first["x"], other["x"])
    assert first["y"].dtype == np.float16


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64", "float64", "string", "complex64"])
def test_every_element_type_can_be_drawn(dtype: str) -> None:
    array = seeded_inputs([port("x", dtype, 2, 5)], {})["x"]
    assert array.shape == (2, 5)


def test_integers_stay_below_what_they_index() -> None:
    array = seeded_inputs([port("ids", "int64", 1000)], {}, limits={"ids": 7})["ids"]
    assert array.min() == 0
    assert array.max() == 6


def test_given_arrays_decide_symbolic_dimensions() -> None:
    ports = [port("x", "float32", "rows", 3), port("mask", "float32", ["+", "rows", 1])]
    assert seeded_inputs(ports, {"x": X})["mask"].shape == (3,)


def test_a_batch_is_one_and_other_symbols_are_four() -> None:
    array = seeded_inputs([port("x", "float32", "batch_size", "length")], {})["x"]
    assert array.shape == (1, 4)


def test_sizes_are_chosen_by_the_names_that_inputs_have() -> None:
    ports = [port("x", "float32", "batch", ["*", "frames", 2])]
    assert chosen_dims(["frames=8"], ports) == {"frames": 8}
    assert seeded_inputs(ports, {}, 0, {"frames": 8})["x"].shape == (1, 16)
    with pytest.raises(ShapeError, match="expected a dimension among batch, frames, got 'length'"):
        chosen_dims(["length=8"], ports)


def test_an_error_says_which_inputs_were_made_up() -> None:
    said = r"too short \(made up for this run: x \[2, 3\]; other sizes with --dim"
    with pytest.raises(ShapeError, match=said), made_up({"x": X, "given": X}, {"given": X}):
        raise ShapeError("too short")
    with pytest.raises(ShapeError, match=r"^too short$"), made_up({"given": X}, {"given": X}):
        raise ShapeError("too short")


@pytest.mark.parametrize(
    ("dim", "size"),
    [(5, 5), (["*", "n_", 3], 12), (["floordiv", 7, 2], 3), (["mod", 7, 0], 0), (["max", 2, 9], 9), (["eq", 1, 2], 0)],
)
def test_dimensions_are_evaluated_as_the_format_says(dim: Any, size: int) -> None:
    assert evaluate_dim(dim, {}) == size


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (X.astype(np.float64), DTypeError, "expected float32, got float64"),
        (X[0], ShapeError, r"got \[3\]"),
        (np.zeros((2, 4), np.float32), ShapeError, r"got \[2, 4\]"),
    ],
)
def test_a_given_array_that_does_not_fit_is_refused(given: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        seeded_inputs([port("x", "float32", "rows", 3)], {"x": given})


def test_the_size_of_an_embedding_table_is_found() -> None:
    table = onnx.numpy_helper.from_array(np.zeros((11, 4), np.float32), "table")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Cast", ["ids"], ["wide"], to=onnx.TensorProto.INT64),
            onnx.helper.make_node("Gather", ["table", "wide"], ["y"]),
        ],
        "embedding",
        [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT32, [3])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3, 4])],
        [table],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    assert index_limits(load(model)) == {"ids": 11}
