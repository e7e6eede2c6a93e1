"""Movement, indexing and filling: what onnxruntime cannot judge, with expectations worked out by hand."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from webdnn_onnx.errors import DTypeError, InvalidModelError, LimitError, ShapeError
from webdnn_onnx.graph import Node
from webdnn_reference import evaluate_node


def call(op: str, *inputs: Any, opset: int = 18, outputs: int = 1, float64: bool = False, **attributes: Any) -> Any:
    names = tuple("" if value is None else f"x{index}" for index, value in enumerate(inputs))
    node = Node(op, names, tuple(f"y{index}" for index in range(outputs)), attributes, opset=opset)
    got = evaluate_node(node, inputs, float64=float64)
    return got[0] if outputs == 1 else got


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_reshape_1_takes_its_shape_as_an_attribute() -> None:
    assert call("Reshape", X, shape=(0, -1, 1), opset=1).shape == (2, 3, 1)


def test_reshape_zero_copies_or_is_zero() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert call("Reshape", empty, np.array([0, 3]), opset=13).shape == (0, 3)
    assert call("Reshape", empty, np.array([3, 0]), allowzero=1).shape == (3, 0)
    with pytest.raises(ShapeError):
        call("Reshape", empty, np.array([3, 0]), opset=13)
    with pytest.raises(ShapeError):
        call("Reshape", empty, np.array([0, -1]), allowzero=1)


def test_concat_1_joins_along_axis_1() -> None:
    assert call("Concat", X, X, opset=1).shape == (2, 6)


def test_split_1_prefers_its_input() -> None:
    left, right = call("Split", X, np.array([1, 2], np.float32), axis=1, split=(2, 1), opset=1, outputs=2)
    assert (left.shape, right.shape) == ((2, 1), (2, 2))


def test_split_18_makes_the_last_part_smaller() -> None:
    parts = call("Split", np.arange(5, dtype=np.float32), num_outputs=3, outputs=3)
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    with pytest.raises(InvalidModelError, match="exactly one"):
        call("Split", X, outputs=2)


def test_tile_1_repeats_one_axis() -> None:
    tiles, axis = np.array(2, np.float32), np.array(1, np.float32)
    np.testing.assert_array_equal(call("Tile", X, tiles, axis, opset=1), np.concatenate([X, X], axis=1))


def test_pad_1_and_2_take_attributes() -> None:
    expected = [[7, 0, 1, 2], [7, 3, 4, 5]]
    assert call("Pad", X, paddings=(0, 1, 0, 0), value=7.0, opset=1).tolist() == expected
    assert call("Pad", X, pads=(0, 1, 0, 0), value=7.0, opset=2).tolist() == expected


def test_pad_removes_before_it_repeats() -> None:
    x = np.arange(5, dtype=np.float32)
    assert call("Pad", x, np.array([-1, 2]), mode="reflect").tolist() == [1, 2, 3, 4, 3, 2]
    assert call("Pad", x, np.array([2, -2]), mode="edge").tolist() == [0, 0, 0, 1, 2]


def test_pad_repeats_as_often_as_needed() -> None:
    x = np.arange(3, dtype=np.float32)
    assert call("Pad", x, np.array([5, 5]), mode="reflect").tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert call("Pad", x, np.array([4, 4]), mode="wrap", opset=19).tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert call("Pad", np.zeros(1, np.float32), np.array([2, 1]), mode="reflect").tolist() == [0] * 4


def test_pad_of_strings_and_narrow_types() -> None:
    assert call("Pad", np.array(["a"], object), np.array([1, 1]), opset=21).tolist() == ["", "a", ""]
    x = np.ones(1, ml_dtypes.bfloat16)
    assert call("Pad", x, np.array([0, 1])).dtype == x.dtype


def test_slice_clamps_and_goes_backward() -> None:
    x = np.arange(5, dtype=np.float32)

    def cut(start: int, end: int, step: int) -> list[float]:
        limits = [np.array([value]) for value in (start, end, 0, step)]
        got: list[float] = call("Slice", x, *limits).tolist()
        return got

    assert cut(-(2**63), 2**63 - 1, 2) == [0, 2, 4]
    assert cut(2**63 - 1, -(2**63), -1) == [4, 3, 2, 1, 0]
    assert cut(3, -6, -2) == [3, 1]
    assert cut(-1, 0, -1) == [4, 3, 2, 1]
    assert cut(0, 2**63 - 1, -1) == []
    assert cut(4, 1, 1) == []


def test_space_to_depth_orders_of_opset_28() -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    depth_last = call("SpaceToDepth", x, blocksize=2, opset=28)
    depth_first = call("SpaceToDepth", x, blocksize=2, mode="CRD", opset=28)
    assert depth_last.reshape(-1).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert depth_first.reshape(-1).tolist() == list(range(8))
    for mode, y in [("DCR", depth_last), ("CRD", depth_first)]:
        np.testing.assert_array_equal(call("DepthToSpace", y, blocksize=2, mode=mode, opset=28), x)


def test_col2im_1d_with_gaps() -> None:
    # Blocks of two elements that lie two apart start at 0 and 1: they hold elements 0, 2 and 1, 3.
    columns = np.array([[[1, 2], [10, 20]]], np.float32)
    got = call("Col2Im", columns, np.array([4]), np.array([2]), dilations=(2,))
    assert got.tolist() == [[[1, 2, 10, 20]]]


def test_reverse_sequence_of_no_steps_changes_nothing() -> None:
    assert call("ReverseSequence", X, np.array([0, 1, 2])).tolist() == [[0, 1, 5], [3, 4, 2]]


def test_compress_stops_where_the_condition_stops() -> None:
    assert call("Compress", X, np.array([False, True]), axis=1).tolist() == [[1], [4]]
    assert call("Compress", X, np.array([True, False, False, False, True])).tolist() == [0, 4]


def test_non_zero_of_a_scalar_has_no_rows() -> None:
    assert call("NonZero", np.array(3.0)).shape == (0, 1)
    assert call("NonZero", np.array(0.0)).shape == (0, 0)


def test_unique_groups_slices_of_any_type() -> None:
    x = np.array([["b", "a"], ["a", "b"], ["b", "a"]], object)
    y, first, inverse, counts = call("Unique", x, axis=0, outputs=4)
    assert y.tolist() == [["a", "b"], ["b", "a"]]
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([1, 0], [1, 0, 1], [1, 2])
    y, first, _, _ = call("Unique", x, axis=0, sorted=0, outputs=4)
    assert first.tolist() == [0, 1]


def test_top_k_puts_the_lower_index_of_equals_first() -> None:
    x = np.array([2, 3, 3, 1, 3, 1], np.float32)
    values, indices = call("TopK", x, k=4, opset=1, outputs=2)
    assert (values.tolist(), indices.tolist()) == ([3, 3, 3, 2], [1, 2, 4, 0])
    values, indices = call("TopK", x, np.array([3]), largest=0, outputs=2)
    assert (values.tolist(), indices.tolist()) == ([1, 1, 2], [3, 5, 0])


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_of_few_among_many_orders_equals_and_nan_too(largest: int) -> None:
    x = np.random.default_rng(5).integers(-9, 9, (3, 600)).astype(np.float32)
    x[1, [7, 300, 301]] = np.nan
    x[2, 3:] = np.nan
    values, indices = call("TopK", x, np.array([50]), largest=largest, outputs=2)
    for row, at in zip(x, indices, strict=True):
        keys = [(np.inf if np.isnan(value) else value) * (-1 if largest else 1) for value in row.tolist()]
        assert at.tolist() == sorted(range(600), key=lambda index: (keys[index], index))[:50]
    np.testing.assert_array_equal(values, np.take_along_axis(x, indices, 1))


def test_top_k_of_unsigned_integers_does_not_wrap() -> None:
    x = np.array([0, 2**64 - 1, 5], np.uint64)
    assert call("TopK", x, np.array([3]), outputs=2)[1].tolist() == [1, 2, 0]


def test_scatter_with_duplicates_reduces_all_of_them() -> None:
    x = np.array([1, 2, 3], np.float16)
    at, updates = np.array([0, 0, 2]), np.array([10, 20, -1], np.float16)
    for reduction, expected in [("add", [31, 2, 2]), ("mul", [200, 2, -3]), ("max", [20, 2, 3]), ("min", [1, 2, -1])]:
        assert call("ScatterElements", x, at, updates, reduction=reduction).tolist() == expected
        assert call("ScatterND", x, at[:, None], updates, reduction=reduction).tolist() == expected


def test_scatter_rounds_once() -> None:
    # In float16, 2048 + 1 is 2048; the two ones together are not lost.
    got = call(
        "ScatterElements", np.array([2048], np.float16), np.zeros(2, int), np.ones(2, np.float16), reduction="add"
    )
    assert got.tolist() == [2050]


def test_scatter_reductions_are_those_of_the_version() -> None:
    with pytest.raises(InvalidModelError, match="none, add, mul"):
        call("ScatterElements", X, np.zeros((1, 3), int), X[:1], reduction="max", opset=16)


def test_scatter_nd_of_empty_tuples_writes_the_whole_tensor() -> None:
    assert call("ScatterND", X, np.zeros((1, 0), int), X[None] + 1).tolist() == (X + 1).tolist()


def test_gather_nd_of_empty_tuples_takes_the_whole_tensor() -> None:
    assert call("GatherND", X, np.zeros((4, 0), int)).shape == (4, 2, 3)


@pytest.mark.parametrize(("mode", "start"), [("linear", 1), ("circular", 3)])
def test_tensor_scatter_writes_from_each_index_on(mode: str, start: int) -> None:
    cache = np.zeros((2, 4, 1), np.float32)
    update = np.array([[[1], [2]], [[3], [4]]], np.float32)
    got = call("TensorScatter", cache, update, np.array([0, start]), mode=mode, opset=24)[..., 0].tolist()
    assert got == [[1, 2, 0, 0], [0, 3, 4, 0] if mode == "linear" else [4, 0, 0, 3]]


def test_tensor_scatter_that_does_not_fit_is_refused() -> None:
    cache, update = np.zeros((1, 4, 1), np.float32), np.zeros((1, 2, 1), np.float32)
    with pytest.raises(ShapeError, match="write_indices"):
        call("TensorScatter", cache, update, np.array([3]), opset=24)


@pytest.mark.parametrize(
    ("attributes", "dtype", "value"),
    [
        ({"value_int": 3}, np.int64, 3),
        ({"value_ints": (3, 4)}, np.int64, [3, 4]),
        ({"value_float": 0.5}, np.float32, 0.5),
        ({"value_floats": (0.5,)}, np.float32, [0.5]),
        ({"value_string": "é"}, object, "é"),
        ({"value_strings": ("a", "b")}, object, ["a", "b"]),
        ({"value": np.ones(2, np.uint8)}, np.uint8, [1, 1]),
        ({"value_ints": ()}, np.int64, []),
    ],
)
def test_constant(attributes: dict[str, Any], dtype: Any, value: Any) -> None:
    got = call("Constant", **attributes)
    assert got.dtype == dtype
    assert got.tolist() == value


def test_constant_holds_exactly_one_value() -> None:
    with pytest.raises(InvalidModelError, match="got 0"):
        call("Constant")
    with pytest.raises(InvalidModelError, match="got 2"):
        call("Constant", value_int=1, value_float=1.0)


def test_constant_of_shape() -> None:
    assert call("ConstantOfShape", np.array([2, 0])).dtype == np.float32
    assert call("ConstantOfShape", np.array([2]), value=np.array([5], np.int8)).tolist() == [5, 5]
    assert call("ConstantOfShape", np.zeros(0, int), value=np.array([5])).shape == ()


def test_range_of_floats_counts_as_the_specification_does() -> None:
    def count(start: float, limit: float, delta: float, **options: Any) -> int:
        got = call("Range", *(np.array(value, np.float32) for value in (start, limit, delta)), **options)
        return int(got.size)

    assert count(0, 1, 0.1) == 10
    assert count(0, 0.3, 0.1) == 3
    assert count(0, 0.3, 0.1, float64=True) == 3
    assert count(5, 0, 1) == 0
    assert count(5, 0, -2) == 3


def test_range_27_keeps_narrow_types_exact() -> None:
    start, limit, delta = (np.array(value, np.float16) for value in (2040, 2060, 1))
    exact = call("Range", start, limit, delta, opset=27)
    assert exact.dtype == np.float16
    # Above 2048 float16 holds even numbers only; ties go to the even significand.
    assert exact[-4:].tolist() == [2056, 2056, 2058, 2060]
    with pytest.raises(ShapeError, match="delta"):
        call("Range", start, limit, np.array(0, np.float16), opset=27)


def test_one_hot_before_opset_11_has_no_negative_indices() -> None:
    indices, depth, values = np.array([-1, 1, 3]), np.array(3), np.array([0, 1], np.float32)
    assert call("OneHot", indices, depth, values, opset=9).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert call("OneHot", indices, depth, values, opset=11).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_one_hot_takes_a_depth_of_rank_1() -> None:
    got = call("OneHot", np.array([1]), np.array([2]), np.array([0, 1], np.float32))
    assert got.tolist() == [[0, 1]]


def test_expand_is_a_broadcast_both_ways() -> None:
    assert call("Expand", np.zeros((3, 1), np.float32), np.array([2, 1, 4])).shape == (2, 3, 4)
    assert call("Expand", np.zeros((3, 4), np.float32), np.array([1])).shape == (3, 4)
    with pytest.raises(ShapeError, match="broadcast"):
        call("Expand", np.zeros((3,), np.float32), np.array([2]))


def test_pad_constant_may_remove_more_than_there_is_and_refill() -> None:
    # onnxruntime: what is left of [2] after its removal, and the one element of padding.
    assert call("Pad", np.array([7], np.float32), np.array([-2, 2]), np.float32(5), opset=13).tolist() == [5]
    with pytest.raises(ShapeError, match="expected to leave at least 0 of axis 0's 1, got -1"):
        call("Pad", np.array([7], np.float32), np.array([-2, 0]), opset=13)
    assert call("Pad", np.zeros((0, 1)), np.array([0, 2, 0, -1]), mode="edge", opset=13).shape == (0, 2)


@pytest.mark.parametrize("opset", [2, 11, 13, 18])
def test_pad_wraps_from_opset_19_on(opset: int) -> None:
    pads: Any = {"pads": (1, 0)} if opset == 2 else {}
    inputs = [np.array([1, 0])] if opset > 2 else []
    with pytest.raises(InvalidModelError, match="mode: expected one of constant, reflect, edge, got 'wrap'"):
        call("Pad", np.zeros(2, np.float32), *inputs, mode="wrap", opset=opset, **pads)


@pytest.mark.parametrize("opset", [1, 9])
def test_flatten_counts_from_the_back_from_opset_11_on(opset: int) -> None:
    assert call("Flatten", X, axis=-1, opset=11).shape == (2, 3)
    with pytest.raises(ShapeError, match=r"axis: expected one in \[0, 2\] before opset 11, got -1"):
        call("Flatten", X, axis=-1, opset=opset)


def test_transpose_takes_no_negative_axes() -> None:
    with pytest.raises(ShapeError, match=r"perm: expected the axes 0 to 1 in some order, got \[-1, 0\]"):
        call("Transpose", X, perm=(-1, 0), opset=25)


def test_split_gives_one_output_for_each_piece() -> None:
    with pytest.raises(InvalidModelError, match="outputs: expected 3, one for each piece, got 2"):
        call("Split", X, axis=1, num_outputs=3, outputs=2, opset=18)
    with pytest.raises(InvalidModelError, match="outputs: expected 3, one for each piece, got 2"):
        call("Split", X, np.array([1, 1, 1]), axis=1, outputs=2, opset=18)
    with pytest.raises(InvalidModelError, match="outputs: expected 2, one for each piece, got 3"):
        call("Split", X, axis=1, split=(1, 2), outputs=3, opset=11)


def test_split_counts_outputs_that_nothing_uses() -> None:
    node = Node("Split", ("x",), ("a", ""), opset=13)
    assert evaluate_node(node, [np.arange(4)])[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Compress", [np.float32(1), np.array([True])]),
        ("GatherND", [np.float32(1), np.zeros((1, 0), np.int64)]),
        ("ScatterND", [np.float32(1), np.zeros((1, 0), np.int64), np.zeros(1, np.float32)]),
    ],
)
def test_scalars_have_nothing_to_index(op: str, inputs: list[Any]) -> None:
    with pytest.raises(ShapeError, match="expected rank 1 or more, got a scalar"):
        call(op, *(np.asarray(value) for value in inputs), opset=13)


@pytest.mark.parametrize("reduction", ["mul", "max", "min"])
def test_scatter_adds_strings_but_has_no_other_reduction_of_them(reduction: str) -> None:
    data, at, updates = np.array(["a", "b"], object), np.array([0, 0]), np.array(["c", "d"], object)
    assert call("ScatterElements", data, at, updates, reduction="add").tolist() == ["acd", "b"]
    with pytest.raises(DTypeError, match=f"reduction: expected none or add for strings, got '{reduction}'"):
        call("ScatterElements", data, at, updates, reduction=reduction)
    with pytest.raises(DTypeError, match=f"reduction: expected none or add for strings, got '{reduction}'"):
        call("ScatterND", data, at[:, None], updates, reduction=reduction)


def test_tensor_scatter_linear_starts_at_or_after_0() -> None:
    cache, update, at = np.zeros((1, 3, 1), np.float32), np.ones((1, 1, 1), np.float32), np.array([-1])
    assert call("TensorScatter", cache, update, at, mode="circular", opset=24).ravel().tolist() == [0, 0, 1]
    with pytest.raises(ShapeError, match=r"write_indices: expected none below 0 in mode linear, got \[-1\]"):
        call("TensorScatter", cache, update, at, opset=24)


@pytest.mark.parametrize("op", ["Expand", "Tile"])
def test_what_cannot_fit_into_memory_is_refused(op: str) -> None:
    with pytest.raises(LimitError, match=r"expected results that fit into memory, got .*\[9223372036854775807\]"):
        call(op, np.zeros(1, np.float32), np.array([2**63 - 1]), opset=13)
