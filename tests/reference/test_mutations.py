"""Calls that are right but for one or two things: the operator answers, or refuses with an error of ours."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx.backend.test.loader import load_model_tests

from tests.reference.test_refusals import NUMPY
from webdnn_conformance.suites import contrib
from webdnn_conformance.suites.values import plain
from webdnn_onnx.errors import WebDNNError
from webdnn_onnx.graph import Graph, Node
from webdnn_onnx.load import load
from webdnn_reference import evaluate_node

Call = tuple[Node, list[Any]]

DRAWS = 8
DTYPES = [np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_]


@functools.cache
def calls() -> Mapping[str, list[Call]]:
    """The calls of the node suite and those written down for com.microsoft, by operator."""
    found: dict[str, list[Call]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = load_model_tests(kind="node")
    for case in suite:
        if "_expanded" in case.name or case.model is None or not case.data_sets:
            continue
        graph = load(case.model)
        if len(graph.nodes) == 1:
            feeds = dict(zip([value.name for value in graph.inputs], case.data_sets[0][0], strict=False))
            (node,) = graph.nodes
            inputs = [feeds.get(name, graph.constants.get(name)) for name in node.inputs]
            found.setdefault(node.op, []).append((node, [plain(value) for value in inputs]))
    for recipe in contrib.recipes():
        names = tuple("" if value is None else f"x{index}" for index, value in enumerate(recipe.inputs))
        outputs = tuple(f"y{index}" if kind else "" for index, kind in enumerate(recipe.outputs))
        node = Node(recipe.op, names, outputs, recipe.attributes, recipe.domain, 1)
        found.setdefault(f"{recipe.domain}.{recipe.op}", []).append((node, recipe.inputs))
    return found


def changed_input(value: Any, draw: random.Random) -> Any:
    """The value with another rank, size, type, or with other numbers in it."""
    if not isinstance(value, np.ndarray):
        return draw.choice([value, None, [], np.zeros(2, np.float32)])
    axis = draw.randrange(value.ndim) if value.ndim else None
    match draw.randrange(9), axis:
        case 0, _:
            return value[None]
        case 1, _:
            return value.reshape(-1)
        case 2, int():
            return value[:0]
        case 3, int(axis):
            return np.concatenate([value, value], axis=axis)
        case 4, int() if len(value):
            return np.asarray(value[0], value.dtype)
        case 5, int(axis):
            return np.take(value, range(value.shape[axis] - 1), axis=axis) if value.shape[axis] else value
        case 6, int():
            return np.moveaxis(value, 0, -1)
        case 7, _ if value.dtype != object:
            with np.errstate(all="ignore"):
                return value.astype(draw.choice(DTYPES))
        case 8, _ if value.dtype.kind in "iu":
            return (value.astype(np.int64) * draw.choice([-1, 0, 1, 2]) + draw.choice([-1, 0, 1])).astype(value.dtype)
        case 8, _ if value.dtype.kind == "f":
            special = np.array(value)
            special.reshape(-1)[:1] = draw.choice([np.nan, np.inf, -np.inf, 0])
            return special
    return value


def changed_attribute(value: Any, draw: random.Random) -> Any:
    """Another value of the same kind."""
    match value:
        case int():
            return draw.choice([value + 1, value - 1, -value, 0, -1, -7, 100])
        case float():
            return draw.choice([0.0, -1.0, float("nan"), float("inf"), value * 2])
        case str():
            return draw.choice(["", "bogus", "linear", value.upper(), value + "x"])
        case np.ndarray():
            return changed_input(value, draw)
        case Graph() if value.nodes:
            return _changed_graph(value, draw)
        case tuple() if value and isinstance(value[0], (int, float, str)):
            at = draw.randrange(len(value))
            one = (*value[:at], changed_attribute(value[at], draw), *value[at + 1 :])
            return draw.choice([(*value, value[0]), value[:-1], (), one, one])
    return value


def _changed_graph(graph: Graph, draw: random.Random) -> Graph:
    at = draw.randrange(len(graph.nodes))
    node = graph.nodes[at]
    if draw.random() < 0.3:
        return replace(graph, outputs=graph.outputs[:-1])
    if node.inputs and draw.random() < 0.5:
        node = replace(node, inputs=(*node.inputs[:-1], draw.choice(["", graph.nodes[0].inputs[0]])))
    elif node.attributes:
        name = draw.choice(sorted(node.attributes))
        node = replace(node, attributes={**node.attributes, name: changed_attribute(node.attributes[name], draw)})
    return replace(graph, nodes=(*graph.nodes[:at], node, *graph.nodes[at + 1 :]))


def changed_call(node: Node, inputs: list[Any], draw: random.Random) -> Call:
    """The call with one or two things changed."""
    inputs = list(inputs)
    for _ in range(draw.choice([1, 1, 2])):
        if inputs and (not node.attributes or draw.random() < 0.6):
            at = draw.randrange(len(inputs))
            inputs[at] = changed_input(inputs[at], draw)
        elif node.attributes:
            name = draw.choice(sorted(node.attributes))
            rest = {key: value for key, value in node.attributes.items() if key != name}
            if draw.random() < 0.9:
                rest[name] = changed_attribute(node.attributes[name], draw)
            node = replace(node, attributes=rest)
    return node, inputs


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", calls())
def test_a_changed_call_answers_or_refuses(name: str) -> None:
    draw = random.Random(name)
    for node, inputs in calls()[name]:
        for _ in range(DRAWS):
            changed, values = changed_call(node, inputs, draw)
            refusal = ""
            try:
                evaluate_node(changed, values, seed=0)
            except WebDNNError as error:
                refusal = str(error)
            assert "\n" not in refusal
            assert NUMPY not in refusal, refusal
