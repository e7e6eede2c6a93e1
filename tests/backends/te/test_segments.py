"""Axes cut where comparisons along them are decided: windows over padding, and what else is chosen by position."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.backends.te.compiled import compiled, model, random, run
from webdnn_backends.ir.build import TRUE
from webdnn_backends.ir.loops import Apply, Axis, Const, Load, Select, Var
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.show import show
from webdnn_backends.te.segments import segments
from webdnn_backends.te.tensors import Call
from webdnn_onnx.symbolic import symbol

X, NOTHING = Load("in0", Var("i"), Scalar.F32), Const(0.0, Scalar.F32)


def parts(condition: Apply, extent: int = 10) -> list[tuple[int, int]]:
    axis = Axis("i", extent)
    return [(first, end) for first, end, _ in segments(Select(condition, X, NOTHING), axis, [axis])]


def test_cuts_are_where_comparisons_turn() -> None:
    i = Var("i")
    three = Apply(Op.MUL, (i, Const(3)))
    assert parts(Apply(Op.LT, (i, Const(4)))) == [(0, 4), (4, 10)]
    assert parts(Apply(Op.GE, (three, Const(10)))) == [(0, 4), (4, 10)]
    assert parts(Apply(Op.LE, (three, Const(9)))) == [(0, 4), (4, 10)]
    assert parts(Apply(Op.GT, (Const(7), i))) == [(0, 7), (7, 10)]
    assert parts(Apply(Op.LT, (i, Const(10)))) == []
    assert parts(Apply(Op.LT, (i, Var("n")))) == []


def test_each_part_has_its_comparisons_decided() -> None:
    axis = Axis("i", 10)
    found = segments(Select(Apply(Op.LT, (Var("i"), Const(4))), X, NOTHING), axis, [axis])
    assert [body for _, _, body in found] == [X, NOTHING]
    assert segments(Select(TRUE, X, NOTHING), axis, [axis]) == []
    size = symbol("n")
    assert segments(Select(Apply(Op.LT, (Var("i"), Const(4))), X, NOTHING), Axis("i", size), [Axis("i", size)]) == []


def windows(x: np.ndarray, kernel: int, stride: int, pad: int, dilation: int) -> np.ndarray:
    wide = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=np.float32(-np.inf))
    reach = (kernel - 1) * dilation + 1
    seen = np.lib.stride_tricks.sliding_window_view(wide, (reach, reach), axis=(2, 3))
    highest: np.ndarray = seen[:, :, ::stride, ::stride, ::dilation, ::dilation].max((-1, -2))
    return highest


@pytest.mark.parametrize("size", [7, 9, 16, 23])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation"),
    [(3, 2, 1, 1), (2, 2, 0, 1), (3, 1, 1, 1), (5, 1, 2, 1), (3, 3, 1, 1), (3, 2, 1, 2)],
)
@pytest.mark.parametrize("target", ["scalar", "vector"])
def test_max_pool(target: str, kernel: int, stride: int, pad: int, dilation: int, size: int) -> None:
    x = random(1, 2, size, size)
    x[0, 1, size // 2, size - 2] = np.nan
    node = helper.make_node(
        "MaxPool",
        ["x"],
        ["y"],
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[pad] * 4,
        dilations=[dilation] * 2,
    )
    content = model([node], {"x": [1, 2, size, size]}, ["y"])
    np.testing.assert_array_equal(run(content, {"x": x}, target)[0], windows(x, kernel, stride, pad, dilation))


@pytest.mark.parametrize("pads", [[1, 2, 2, 1], [0, 5, 0, 6], [0, -2, 0, 3]])
@pytest.mark.parametrize("size", [4, 9, 16])
def test_pad(size: int, pads: list[int]) -> None:
    x = random(3, size)
    content = model([helper.make_node("Pad", ["x", "p"], ["y"])], {"x": [3, size]}, ["y"], {"p": np.array(pads)})
    kept = x[:, max(-pads[1], 0) :]
    expected = np.pad(kept, ((pads[0], pads[2]), (max(pads[1], 0), pads[3])))
    np.testing.assert_array_equal(run(content, {"x": x}, "vector")[0], expected)


def test_the_inner_part_of_a_pooling_compares_no_columns() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    content = model([node], {"x": [1, 4, 32, 32]}, ["y"])
    (call,) = (item for item in compiled(content, "vector").items if isinstance(item, Call))
    inner = show(call.kernel).split("step 4\n")[1]
    assert "..4]" in inner
    assert inner.count("< 32:u32") == 1
