"""Operators that move, cut, pad and reshape against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, array, filled, shapes
from webdnn_onnx.dtypes import DType

ANY = [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_, np.float16]
FAR = st.sampled_from([-(2**31), -100, 100, 2**31 - 1])


def kind(x: np.ndarray[Any, Any]) -> int:
    return DType.from_numpy(x.dtype).onnx


def int64(values: list[int] | tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


@pytest.mark.parametrize("opset", [10, 11, 13])
@BOUNDED
@given(data=st.data())
def test_slice(opset: int, data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64], shapes(1, 4)))
    chosen = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))
    bound = st.integers(-6, 6) | FAR
    starts, ends = [[data.draw(bound) for _ in chosen] for _ in range(2)]
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2, 100, -100])) for _ in chosen]
    # onnxruntime takes a start before the front of a backward slice for the front of a dimension of size zero.
    assume(all(x.shape[axis] for axis in chosen))
    # It also takes INT_MAX as the end of a backward slice for "to the front"; the specification says INT_MIN.
    assume(all(step > 0 or end < 2**31 - 1 for step, end in zip(steps, ends, strict=True)))
    axes = [axis - x.ndim if opset > 10 and data.draw(st.booleans()) else axis for axis in chosen]
    agree("Slice", [x, int64(starts), int64(ends), int64(axes), int64(steps)], opset=opset, outputs=[kind(x)])


@BOUNDED
@given(data=st.data())
def test_slice_1(data: st.DataObject) -> None:
    x = data.draw(array([np.float32], shapes(1, 3)))
    bound = st.integers(-6, 6) | FAR
    starts, ends = [[data.draw(bound) for _ in x.shape] for _ in range(2)]
    agree("Slice", [x], {"starts": starts, "ends": ends}, opset=9)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@BOUNDED
@given(data=st.data())
def test_pad(mode: str, data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64, np.float64], shapes(1, 4, empty=mode == "constant")))
    least = -1 if mode == "constant" else 0
    pads = [data.draw(st.integers(least, 3)) for _ in range(2 * x.ndim)]
    if mode in ("reflect", "wrap"):
        # onnxruntime repeats a reflection or a turn at most once.
        most = [size - 1 if mode == "reflect" else size for size in x.shape]
        pads = [min(pad, most[index % x.ndim]) for index, pad in enumerate(pads)]
    left = [size + min(0, pads[axis]) + min(0, pads[axis + x.ndim]) for axis, size in enumerate(x.shape)]
    assume(all(size >= 0 for size in left))
    value = filled((), x.dtype, 1) if mode == "constant" and data.draw(st.booleans()) else None
    agree("Pad", [x, int64(pads), value], {"mode": mode}, opset=19, outputs=[kind(x)])


def test_pad_of_chosen_axes() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    agree("Pad", [x, int64([1, 0, 0, 2]), np.float32(7), int64([-1, 0])], opset=18)
    agree("Pad", [x], {"pads": [0, 1, 0, 0, 0, 2], "value": 2.5}, opset=10)


@BOUNDED
@given(data=st.data())
def test_transpose(data: st.DataObject) -> None:
    x = data.draw(array(ANY, shapes(0, 5)))
    agree("Transpose", [x], opset=13, outputs=[kind(x)])
    if x.ndim:
        perm = data.draw(st.permutations(range(x.ndim)))
        agree("Transpose", [x], {"perm": perm}, opset=13, outputs=[kind(x)])


@BOUNDED
@given(data=st.data())
def test_concat(data: st.DataObject) -> None:
    shape = data.draw(shapes(1, 4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for index in range(data.draw(st.integers(1, 3))):
        own = list(shape)
        own[axis] = data.draw(st.integers(0, 3))
        parts.append(filled(own, np.float32, index))
    agree("Concat", parts, {"axis": axis}, opset=13)


@pytest.mark.parametrize("opset", [11, 13, 18])
@BOUNDED
@given(data=st.data())
def test_split(opset: int, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    x = filled((2, sum(sizes), 3), np.float32, 0)
    outputs = [TensorProto.FLOAT] * len(sizes)
    axis = data.draw(st.sampled_from([1, -2]))
    if opset == 11:
        agree("Split", [x], {"axis": axis, "split": sizes}, opset=opset, outputs=outputs)
    else:
        agree("Split", [x, int64(sizes)], {"axis": axis}, opset=opset, outputs=outputs)


def test_split_into_equal_parts() -> None:
    x = filled((6, 2), np.float32, 0)
    for opset in (2, 11, 13):
        agree("Split", [x], {"axis": 0}, opset=max(opset, 7), outputs=[TensorProto.FLOAT] * 3)
    for size, count in [(6, 3), (7, 3), (7, 2), (1, 1)]:
        x = filled((size, 2), np.float32, 0)
        agree("Split", [x], {"num_outputs": count}, opset=18, outputs=[TensorProto.FLOAT] * count)


@BOUNDED
@given(data=st.data())
def test_reshape(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64], shapes(0, 4)))
    shape = list(data.draw(st.permutations(x.shape)))
    inferred = data.draw(st.booleans())
    if inferred and x.size and shape:
        shape[data.draw(st.integers(0, len(shape) - 1))] = -1
    agree("Reshape", [x, int64(shape)], {"allowzero": int(0 in shape)}, opset=14, outputs=[kind(x)])


@BOUNDED
@given(data=st.data())
def test_shape_flatten_squeeze_unsqueeze(data: st.DataObject) -> None:
    x = data.draw(array([np.float32], shapes(0, 4, side=2)))
    bound = st.integers(-6, 6)
    agree("Shape", [x], {"start": data.draw(bound), "end": data.draw(bound)}, opset=15, outputs=[TensorProto.INT64])
    agree("Size", [x], opset=13, outputs=[TensorProto.INT64])
    agree("Flatten", [x], {"axis": data.draw(st.integers(-x.ndim, x.ndim))}, opset=13)
    agree("Squeeze", [x], opset=13)
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    agree("Squeeze", [x, int64(ones)], opset=13)
    new = data.draw(st.lists(st.integers(0, x.ndim + 1), unique=True, min_size=2, max_size=2))
    agree("Unsqueeze", [x, int64(new)], opset=13)
    agree("Unsqueeze", [x], {"axes": new}, opset=11)


@BOUNDED
@given(data=st.data())
def test_expand_and_tile(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64, np.bool_], shapes(1, 3)))
    full = [data.draw(st.integers(1, 3)), *(data.draw(st.sampled_from([1, size])) for size in x.shape)]
    agree("Expand", [x, int64(full)], opset=13, outputs=[kind(x)])
    repeats = [data.draw(st.integers(0, 3)) for _ in x.shape]
    agree("Tile", [x, int64(repeats)], opset=13, outputs=[kind(x)])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_and_back(mode: str) -> None:
    x = filled((2, 18, 2, 3), np.float32, 0)
    agree("DepthToSpace", [x], {"blocksize": 3, "mode": mode}, opset=13)
    agree("SpaceToDepth", [filled((2, 3, 4, 6), np.float32, 0)], {"blocksize": 2}, opset=13)


@BOUNDED
@given(data=st.data())
def test_trilu(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64, np.bool_], shapes(2, 4, empty=False)))
    k = np.array(data.draw(st.integers(-6, 6)), np.int64)
    agree("Trilu", [x, k], {"upper": data.draw(st.integers(0, 1))}, opset=14, outputs=[kind(x)])


@BOUNDED
@given(data=st.data())
def test_reverse_sequence(data: st.DataObject) -> None:
    x = data.draw(array([np.float32, np.int64], shapes(2, 4, empty=False)))
    batch_axis = data.draw(st.integers(0, 1))
    # onnxruntime wants at least one step of every element.
    lengths = [data.draw(st.integers(1, x.shape[1 - batch_axis])) for _ in range(x.shape[batch_axis])]
    attributes = {"batch_axis": batch_axis, "time_axis": 1 - batch_axis}
    agree("ReverseSequence", [x, int64(lengths)], attributes, opset=10, outputs=[kind(x)])


@BOUNDED
@given(data=st.data())
def test_center_crop_pad(data: st.DataObject) -> None:
    x = data.draw(array([np.float32], shapes(2, 3, side=5, empty=False)))
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))
    sizes = [data.draw(st.integers(1, 7)) for _ in axes]
    agree("CenterCropPad", [x, int64(sizes)], {"axes": axes}, opset=18)


@BOUNDED
@given(data=st.data())
def test_col2im(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 2))
    image = [data.draw(st.integers(4, 7)) for _ in range(rank)]
    block = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    # onnxruntime reads a dilated image of rank 1 beyond its columns.
    dilations = [data.draw(st.integers(1, rank)) for _ in range(rank)]
    pads = [data.draw(st.integers(0, 1)) for _ in range(2 * rank)]
    counts = [
        (image[axis] + pads[axis] + pads[axis + rank] - dilations[axis] * (block[axis] - 1) - 1) // strides[axis] + 1
        for axis in range(rank)
    ]
    assume(all(count > 0 for count in counts))
    x = filled((2, 3 * int(np.prod(block)), int(np.prod(counts))), np.float32, 0)
    attributes = {"strides": strides, "dilations": dilations, "pads": pads}
    agree("Col2Im", [x, int64(image), int64(block)], attributes, opset=18)


@BOUNDED
@given(data=st.data())
def test_range(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    number = st.integers(-9, 9)
    start, limit, delta = (np.array(data.draw(number), dtype) for _ in range(3))
    assume(delta != 0)
    agree("Range", [start, limit, delta], opset=11, outputs=[kind(start)])


@BOUNDED
@given(data=st.data())
def test_eye_like(data: st.DataObject) -> None:
    x = filled((data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))), np.float32, 0)
    agree("EyeLike", [x], {"k": data.draw(st.integers(-4, 4))}, opset=9)
    agree("EyeLike", [x], {"dtype": int(TensorProto.INT64)}, opset=9, outputs=[TensorProto.INT64])


@BOUNDED
@given(shape=shapes(0, 4), value=st.none() | array([np.float32, np.int8, np.bool_, np.int64], st.just((1,))))
def test_constant_of_shape(shape: tuple[int, ...], value: np.ndarray | None) -> None:
    attributes = {} if value is None else {"value": numpy_helper.from_array(value)}
    element = TensorProto.FLOAT if value is None else kind(value)
    agree("ConstantOfShape", [int64(shape)], attributes, opset=9, outputs=[element])


@pytest.mark.parametrize("opset", [7, 10, 12, 13])
@BOUNDED
@given(x=array([np.float32, np.float64]))
def test_identity_and_dropout(opset: int, x: np.ndarray) -> None:
    agree("Identity", [x], opset=opset, outputs=[kind(x)])
    # The mask of version 10, which its text leaves open, is True here and False in onnxruntime.
    agree("Dropout", [x], opset=opset, outputs=[kind(x)] + ([TensorProto.BOOL] if opset > 10 else []))


@BOUNDED
@given(data=st.data(), source=st.sampled_from([np.float32, np.int32, np.uint32]))
def test_bit_cast(data: st.DataObject, source: type) -> None:
    x = data.draw(array([source]))
    target = data.draw(st.sampled_from([TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32]))
    agree("BitCast", [x], {"to": target}, opset=26, outputs=[target])
