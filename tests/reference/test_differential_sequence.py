"""Sequences, optionals and control flow against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.judge import agree_on_graph
from tests.reference.strategies import BOUNDED, filled, shapes

SEEDS = st.integers(0, 999)


def parts(count: int, seed: int, rank: int = 2) -> list[np.ndarray[Any, Any]]:
    return [filled((2,) * (rank - 1) + (1 + index % 3,), np.float32, seed + index) for index in range(count)]


def scalar(value: int) -> np.ndarray[Any, Any]:
    return np.array(value, np.int64)


@BOUNDED
@given(count=st.integers(1, 4), data=st.data(), seed=SEEDS)
def test_at_insert_erase_length(count: int, data: st.DataObject, seed: int) -> None:
    graph = """
        g (seq(float[]) s, float[2, k] x, int64 i, int64 j, int64 d)
          => (float[] at, seq(float[]) longer, seq(float[]) appended, seq(float[]) shorter, seq(float[]) cut, int64 n) {
          at = SequenceAt(s, i)  longer = SequenceInsert(s, x, j)  appended = SequenceInsert(s, x)
          shorter = SequenceErase(longer, d)  cut = SequenceErase(s)  n = SequenceLength(longer)
        }"""
    feeds = {
        "s": parts(count, seed),
        "x": filled((2, 5), np.float32, seed + 9),
        "i": scalar(data.draw(st.integers(-count, count - 1))),
        "j": scalar(data.draw(st.integers(-count, count))),
        "d": scalar(data.draw(st.integers(-count - 1, count))),
    }
    agree_on_graph(graph, feeds, opset=17)


@BOUNDED
@given(axis=st.integers(-2, 1), stacked=st.booleans(), seed=SEEDS)
def test_construct_and_concatenate(axis: int, stacked: bool, seed: int) -> None:
    graph = f"""
        g (float[2, 3] a, float[2, 3] b) => (float[] joined, int64 n, int64 none) {{
          s = SequenceConstruct(a, b)  joined = ConcatFromSequence<axis = {axis}, new_axis = {int(stacked)}>(s)
          n = SequenceLength(s)  e = SequenceEmpty<dtype = 7>()  none = SequenceLength(e)
        }}"""
    agree_on_graph(graph, {name: filled((2, 3), np.float32, seed + i) for i, name in enumerate("ab")}, opset=17)


@BOUNDED
@given(data=st.data(), axis=st.integers(-2, 1), keepdims=st.integers(0, 1), seed=SEEDS)
def test_split_to_sequence(data: st.DataObject, axis: int, keepdims: int, seed: int) -> None:
    x = filled((4, 6), np.float32, seed)
    length = x.shape[axis]
    kind = data.draw(st.sampled_from(["none", "scalar", "sizes"]))
    split = {"none": "", "scalar": ", int64 k", "sizes": ", int64[n] k"}[kind]
    graph = f"""
        g (float[4, 6] x{split}) => (seq(float[]) s) {{
          s = SplitToSequence<axis = {axis}, keepdims = {keepdims}>(x{", k" if split else ""}) }}"""
    feeds: dict[str, Any] = {"x": x}
    if kind == "scalar":
        feeds["k"] = scalar(data.draw(st.integers(1, length)))
    elif kind == "sizes":
        first = data.draw(st.integers(0, length))
        feeds["k"] = np.array([first, length - first])
    agree_on_graph(graph, feeds, opset=17)


@pytest.mark.parametrize("opset", [15, 18])
def test_optional(opset: int) -> None:
    graph = """
        g (float[2] x) => (bool there, float[] inside) {
          o = Optional(x)  there = OptionalHasElement(o)  inside = OptionalGetElement(o) }"""
    agree_on_graph(graph, {"x": filled((2,), np.float32, 1)}, opset=opset)


@pytest.mark.parametrize("opset", [11, 16, 21])
@BOUNDED
@given(choice=st.booleans(), shape=shapes(0, 3), seed=SEEDS)
def test_if(opset: int, choice: bool, shape: tuple[int, ...], seed: int) -> None:
    graph = """
        g (bool c, float[] x) => (float[] y) {
          y = If(c) <then_branch = t () => (float[] a) { a = Neg(x) }, else_branch = e () => (float[] b) { b = Abs(x) }>
        }"""
    ranked = graph.replace("float[] x", f"float[{', '.join(map(str, shape))}] x" if shape else "float x")
    agree_on_graph(ranked, {"c": np.array(choice), "x": filled(shape, np.float32, seed)}, opset=opset)


@pytest.mark.parametrize("opset", [11, 16, 21])
@BOUNDED
@given(limit=st.none() | st.integers(0, 5), going=st.none() | st.booleans(), bound=st.floats(0, 6, width=32))
def test_loop(opset: int, limit: int | None, going: bool | None, bound: float) -> None:
    graph = f"""
        g (int64 n, bool c, float bound, float one, float[3] x) => (float[3] total, float[k, 3] all, int64[k] counts) {{
          total, all, counts = Loop({"n" if limit is not None else ""}, {"c" if going is not None else ""}, x) <
            body = b (int64 i, bool before, float[3] v) => (bool again, float[3] w, float[3] copy, int64 count) {{
              w = Add(v, one)  copy = Mul(v, w)  count = Identity(i)
              most = ReduceMax<keepdims = 0>(w)  again = Less(most, bound) }}>
        }}"""
    feeds = {
        "n": scalar(limit or 0),
        "c": np.array(bool(going)),
        "bound": np.array(bound, np.float32),
        "one": np.array(1, np.float32),
        "x": np.array([-1, 0, 0.5], np.float32),
    }
    agree_on_graph(graph, feeds, opset=opset)


@pytest.mark.parametrize("opset", [9, 11, 16, 21])
@BOUNDED
@given(data=st.data(), steps=st.integers(1, 4), seed=SEEDS)
def test_scan(opset: int, data: st.DataObject, steps: int, seed: int) -> None:
    axes = [data.draw(st.integers(0 if opset < 11 else -2, 1)) for _ in range(3)]
    ways = [data.draw(st.integers(0, 1)) for _ in range(3)]
    a, b = (np.moveaxis(filled((steps, 2), np.float32, seed + i), 0, axes[i]) for i in range(2))
    graph = f"""
        g (float[2] s, float[{a.shape[0]}, {a.shape[1]}] a, float[{b.shape[0]}, {b.shape[1]}] b)
          => (float[2] last, float[p, q] all) {{
          last, all = Scan<num_scan_inputs = 2,
              scan_input_axes = [{axes[0]}, {axes[1]}], scan_output_axes = [{axes[2]}],
              scan_input_directions = [{ways[0]}, {ways[1]}], scan_output_directions = [{ways[2]}],
              body = body (float[2] v, float[2] l, float[2] r) => (float[2] w, float[2] o) {{
                m = Mul(l, r)  w = Add(v, m)  o = Sub(w, l) }}>(s, a, b)
        }}"""
    agree_on_graph(graph, {"s": filled((2,), np.float32, seed + 5), "a": a, "b": b}, opset=opset)


@BOUNDED
@given(data=st.data(), seed=SEEDS)
def test_scan_8(data: st.DataObject, seed: int) -> None:
    lengths = np.array([data.draw(st.integers(1, 3)) for _ in range(2)])
    way = data.draw(st.integers(0, 1))
    graph = f"""
        g (int64[2] lens, float[2, 1] s, float[2, 3, 1] x) => (float[2, 1] last, float[2, 3, 1] all) {{
          last, all = Scan<num_scan_inputs = 1, directions = [{way}],
            body = b (float[1] v, float[1] e) => (float[1] w, float[1] o) {{ w = Add(v, e)  o = Neg(w) }}>(lens, s, x)
        }}"""
    feeds = {"lens": lengths, "s": filled((2, 1), np.float32, seed), "x": filled((2, 3, 1), np.float32, seed + 1)}
    agree_on_graph(graph, feeds, opset=8)
