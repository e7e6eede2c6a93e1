"""If, Loop, Scan and SequenceMap."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference import Interpreter


def run(body: str, feeds: dict[str, Any], opset: int = 18) -> dict[str, Any]:
    return Interpreter(parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{body}')).run(feeds)


SUMS = """
    g ({inputs}) => (float total, float[k] steps) {{
      total, steps = Loop({limit}, {condition}, x) <body = b (int64 i, bool c_in, float v_in)
        => (bool c_out, float v_out, float v_step) {{
          ten = Constant<value_float = 10.0>()  one = Constant<value_float = 1.0>()
          v_out = Add(v_in, one)  c_out = Less(v_out, ten)  v_step = Identity(v_in)
        }}>
    }}"""


@pytest.mark.parametrize(
    ("limit", "condition", "steps"),
    [("n", "c", 3), ("n", "", 3), ("", "c", 6), ("", "", 6)],
)
@pytest.mark.parametrize("opset", [11, 13, 16, 21])
def test_loop_stops_at_its_limit_or_its_condition(limit: str, condition: str, steps: int, opset: int) -> None:
    declared = {"n": "int64 n", "c": "bool c", "": ""}
    inputs = ", ".join(part for part in (declared[limit], declared[condition], "float x") if part)
    if opset == 11:
        # Before opset 12 a Constant holds a tensor only.
        text = SUMS.replace("value_float = 10.0", "value = float {{10}}")
        text = text.replace("value_float = 1.0", "value = float {{1}}")
    else:
        text = SUMS
    body = text.format(inputs=inputs, limit=limit or '""', condition=condition or '""')
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{body}')
    feeds = {"x": np.array(4, np.float32)}
    if limit:
        feeds["n"] = np.array(3)
    if condition:
        feeds["c"] = np.array(True)
    got = Interpreter(model).run(feeds)
    assert got["total"] == 4 + steps
    np.testing.assert_array_equal(got["steps"], np.arange(4, 4 + steps))


def test_loop_that_never_runs_gives_its_start_and_empty_stacks() -> None:
    body = SUMS.format(inputs="int64 n, bool c, float x", limit="n", condition="c")
    for n, c in [(0, True), (3, False), (-1, True)]:
        got = run(body, {"n": np.array(n), "c": np.array(c), "x": np.array(4, np.float32)})
        assert got["total"] == 4
        assert got["steps"].shape == (0,)
        assert got["steps"].dtype == np.float32


def test_loop_whose_body_declares_a_vector_counter_gets_one() -> None:
    body = """
        g (int64 n, int64[1] x) => (int64[1] total) {
          total = Loop(n, "", x) <body = b (int64[1] i, bool c_in, int64[1] v_in) => (bool c_in, int64[1] v_out) {
            v_out = Add(v_in, i) }>
        }"""
    got = run(body, {"n": np.array(4), "x": np.array([10])})["total"]
    np.testing.assert_array_equal(got, [16])


def test_loop_inside_a_loop_sees_both_scopes() -> None:
    body = """
        g (int64 n, float x, float w) => (float total) {
          total = Loop(n, "", x) <body = outer (int64 i, bool c, float a) => (bool c, float a_out) {
            twice = Add(a, a)
            a_out = Loop(n, "", twice) <body = inner (int64 j, bool d, float b) => (bool d, float b_out) {
              wa = Mul(w, twice)  b_out = Add(b, wa) }>
          }>
        }"""
    x, w, n = 1.0, 0.5, 2
    expected = x
    for _ in range(n):
        expected = 2 * expected + n * w * 2 * expected
    got = run(body, {"n": np.array(n), "x": np.array(x, np.float32), "w": np.array(w, np.float32)})["total"]
    assert got == expected


SCAN = """
    g (float[2] s, float[{shape}] x) => (float[2] last, float[k, m] all) {{
      last, all = Scan <num_scan_inputs = 1{extra},
        body = b (float[2] s_in, float[2] e) => (float[2] s_out, float[2] o) {{
          s_out = Add(s_in, e)  o = Identity(s_out) }}> (s, x)
    }}"""


@pytest.mark.parametrize("opset", [9, 11, 16, 25])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backward", [0, 1])
@pytest.mark.parametrize("out_axis", [0, 1])
@pytest.mark.parametrize("out_backward", [0, 1])
def test_scan_is_a_cumulative_sum(opset: int, axis: int, backward: int, out_axis: int, out_backward: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    extra = (
        f", scan_input_axes = [{axis}], scan_input_directions = [{backward}]"
        f", scan_output_axes = [{out_axis}], scan_output_directions = [{out_backward}]"
    )
    fed = np.moveaxis(x, 0, axis)
    body = SCAN.format(shape=", ".join(map(str, fed.shape)), extra=extra)
    got = run(body, {"s": np.array([10, 20], np.float32), "x": fed}, opset)
    steps = np.array([10, 20], np.float32) + np.cumsum(x[::-1] if backward else x, axis=0)
    np.testing.assert_array_equal(got["last"], steps[-1])
    np.testing.assert_array_equal(got["all"], np.moveaxis(steps[::-1] if out_backward else steps, 0, out_axis))


def test_scan_8_runs_every_element_of_a_batch_for_its_own_length() -> None:
    body = """
        g (int64[2] lens, float[2, 1] s, float[2, 3, 1] x) => (float[2, 1] last, float[2, 3, 1] all) {
          last, all = Scan <num_scan_inputs = 1, directions = [1],
            body = b (float[1] s_in, float[1] e) => (float[1] s_out, float[1] o) {
              s_out = Add(s_in, e)  o = Identity(s_out) }> (lens, s, x)
        }"""
    x = np.array([[1, 2, 3], [10, 20, 30]], np.float32)[:, :, None]
    feeds = {"lens": np.array([2, 3]), "s": np.array([[0], [100]], np.float32), "x": x}
    got = run(body, feeds, opset=8)
    np.testing.assert_array_equal(got["last"], [[3], [160]])
    np.testing.assert_array_equal(got["all"][..., 0], [[2, 3, 0], [130, 150, 160]])


def test_scan_of_no_steps_gives_empty_stacks() -> None:
    body = SCAN.format(shape="0, 2", extra="")
    got = run(body, {"s": np.ones(2, np.float32), "x": np.zeros((0, 2), np.float32)})
    np.testing.assert_array_equal(got["last"], [1, 1])
    assert got["all"].shape == (0, 2)


def test_scan_inputs_of_different_lengths_are_refused() -> None:
    body = """
        g (float[3] x, float[2] y) => (float[k] z) {
          z = Scan <num_scan_inputs = 2, body = b (float e, float f) => (float o) { o = Add(e, f) }> (x, y)
        }"""
    with pytest.raises(ShapeError, match=r"\[2, 3\]"):
        run(body, {"x": np.zeros(3, np.float32), "y": np.zeros(2, np.float32)})


@pytest.mark.parametrize("values", [[True, False], []])
def test_if_wants_one_condition(values: list[bool]) -> None:
    body = """
        g (bool[n] c, float x) => (float y) {
          y = If(c) <then_branch = t () => (float a) { a = Neg(x) }, else_branch = e () => (float b) { b = Abs(x) }>
        }"""
    feeds = {"x": np.array(3, np.float32)}
    assert run(body, {"c": np.array([True]), **feeds})["y"] == -3
    with pytest.raises(ShapeError, match="cond"):
        run(body, {"c": np.array(values, bool), **feeds})


def test_sequence_map_takes_sequences_apart_and_tensors_whole() -> None:
    body = """
        g (seq(float[k]) xs, seq(float[1]) ys, float[1] w) => (seq(float[k]) zs) {
          zs = SequenceMap (xs, ys, w) <body = b (float[k] x, float[1] y, float[1] v) => (float[k] z) {
            xy = Mul(x, y)  z = Add(xy, v) }>
        }"""
    xs = [np.ones(size, np.float32) for size in (1, 2)]
    ys = [np.array([factor], np.float32) for factor in (3, 4)]
    got = run(body, {"xs": xs, "ys": ys, "w": np.array([10], np.float32)})["zs"]
    assert [item.tolist() for item in got] == [[13], [14, 14]]
    with pytest.raises(ShapeError, match="expected 2 elements"):
        run(body, {"xs": xs, "ys": ys[:1], "w": np.array([10], np.float32)})


def test_loop_whose_body_does_not_fit_is_refused() -> None:
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18]>
        g (int64 n, float x, float w) => (float total) {
          total = Loop(n, "", x, w) <body = b (int64 i, bool c, float a) => (bool c, float a) { u = Identity(a) }>
        }""")
    assert isinstance(model, onnx.ModelProto)
    with pytest.raises(InvalidModelError, match=r"Loop.*body: expected 4 inputs"):
        Interpreter(model).run({"n": np.array(1), "x": np.array(1, np.float32), "w": np.array(1, np.float32)})


@pytest.mark.parametrize("opset", [11, 16, 25])
def test_loop_that_carries_nothing_and_has_no_condition(opset: int) -> None:
    text = """
    g (int64 n, float[2] x) => (int64[k] squares, float[k, 2] xs) {
      squares, xs = Loop(n, "") <body = b (int64 i, bool c_in) => (bool c_out, int64 square, float[2] y) {
          c_out = Identity(c_in)  square = Mul(i, i)  y = Identity(x)
        }>
    }"""
    got = run(text, {"n": np.array(3), "x": np.array([1, 2], np.float32)}, opset)
    np.testing.assert_array_equal(got["squares"], [0, 1, 4])
    np.testing.assert_array_equal(got["xs"], [[1, 2]] * 3)
