"""Sequence and optional operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_onnx.graph import Node, TensorType
from webdnn_reference import evaluate_node

A, B, C = (np.full((2, size), size, np.float32) for size in (1, 2, 3))


def call(op: str, *inputs: Any, opset: int = 18, **attributes: Any) -> Any:
    names = tuple(f"x{index}" for index in range(len(inputs)))
    return evaluate_node(Node(op, names, ("y",), attributes, opset=opset), inputs)[0]


def sizes(sequence: list[Any]) -> list[int]:
    return [item.shape[-1] for item in sequence]


@pytest.mark.parametrize(
    ("position", "expected"), [(None, [1, 2, 3]), (0, [3, 1, 2]), (1, [1, 3, 2]), (2, [1, 2, 3]), (-1, [1, 3, 2])]
)
def test_insert(position: int | None, expected: list[int]) -> None:
    given = [A, B]
    assert sizes(call("SequenceInsert", given, C, *([] if position is None else [np.array(position)]))) == expected
    assert sizes(given) == [1, 2]


@pytest.mark.parametrize(("position", "expected"), [(None, [1, 2]), (0, [2, 3]), (1, [1, 3]), (-3, [2, 3])])
def test_erase(position: int | None, expected: list[int]) -> None:
    assert sizes(call("SequenceErase", [A, B, C], *([] if position is None else [np.array(position)]))) == expected


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("SequenceAt", ([A], np.array(1))),
        ("SequenceAt", ([A], np.array(-2))),
        ("SequenceAt", ([], np.array(0))),
        ("SequenceErase", ([], None)),
        ("SequenceInsert", ([A], B, np.array(2))),
        ("SequenceInsert", ([A], B, np.array(-2))),
    ],
)
def test_positions_outside_are_refused(op: str, inputs: tuple[Any, ...]) -> None:
    with pytest.raises(ShapeError, match=f"^{op}.*position: expected one in"):
        call(op, *inputs)


def test_length_of_a_constructed_and_of_an_empty_sequence() -> None:
    assert call("SequenceLength", call("SequenceConstruct", A, B)) == 2
    empty = call("SequenceLength", call("SequenceEmpty", dtype=7))
    assert empty == 0
    assert empty.dtype == np.int64
    assert empty.shape == ()


def test_concat_from_sequence() -> None:
    assert call("ConcatFromSequence", [A, B], axis=-1).shape == (2, 3)
    assert call("ConcatFromSequence", [A, A, A], axis=1, new_axis=1).shape == (2, 3, 1)
    assert call("ConcatFromSequence", [A, A, A], axis=-1, new_axis=1).shape == (2, 1, 3)
    with pytest.raises(ShapeError, match="one shape"):
        call("ConcatFromSequence", [A, B], axis=0, new_axis=1)
    with pytest.raises(ShapeError, match="at least one"):
        call("ConcatFromSequence", [], axis=0)


@pytest.mark.parametrize("opset", [11, 24])
@pytest.mark.parametrize(
    ("split", "shapes"),
    [
        (None, [(2,)] * 5),
        (np.array(2), [(2, 2), (2, 2), (2, 1)]),
        (np.array(9), [(2, 5)]),
        (np.array([1, 4]), [(2, 1), (2, 4)]),
    ],
)
def test_split_to_sequence(opset: int, split: Any, shapes: list[tuple[int, ...]]) -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    got = call("SplitToSequence", x, *([] if split is None else [split]), axis=1, keepdims=0, opset=opset)
    assert [item.shape for item in got] == shapes
    np.testing.assert_array_equal(np.concatenate([item.reshape(2, -1) for item in got], axis=1), x)


def test_split_to_sequence_keeps_the_axis_by_default() -> None:
    assert [item.shape for item in call("SplitToSequence", np.zeros((2, 3), np.float32))] == [(1, 3)] * 2


@pytest.mark.parametrize("split", [np.array(0), np.array([1, 1])])
def test_split_to_sequence_refuses_sizes_that_do_not_fit(split: Any) -> None:
    with pytest.raises(ShapeError, match="split"):
        call("SplitToSequence", np.zeros((3, 2), np.float32), split)


@pytest.mark.parametrize("opset", [15, 18, 28])
@pytest.mark.parametrize("value", [A, [A, B]])
def test_optional_holds_tensors_and_sequences(opset: int, value: Any) -> None:
    held = call("Optional", value, opset=opset)
    assert call("OptionalHasElement", held, opset=opset) == np.True_
    got = call("OptionalGetElement", held, opset=opset)
    assert got is value or sizes(got) == sizes(value)


@pytest.mark.parametrize("opset", [15, 18])
def test_empty_optional_holds_nothing(opset: int) -> None:
    empty = call("Optional", opset=opset, type=TensorType(DType.FLOAT32, None))
    assert empty is None
    assert call("OptionalHasElement", None, opset=opset) == np.False_
    with pytest.raises(InvalidModelError, match="empty"):
        call("OptionalGetElement", None, opset=opset)


def test_optional_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="input, type"):
        call("Optional")
