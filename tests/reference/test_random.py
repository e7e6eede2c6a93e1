"""Random operators: their distributions, and that a seed fixes them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from tests.reference.judge import model, onnxruntime_outputs, reference_outputs
from webdnn_onnx.graph import Node
from webdnn_reference import evaluate_node

COUNT = 20_000
# Six standard deviations of a mean over COUNT draws, for a distribution with standard deviation one.
FAR = 6 / np.sqrt(COUNT)


def draw(op: str, *inputs: Any, seed: int | None = 0, opset: int = 22, **attributes: Any) -> Any:
    names = tuple(f"x{index}" for index in range(len(inputs)))
    return evaluate_node(Node(op, names, ("y",), attributes, opset=opset), inputs, seed=seed)[0]


@pytest.mark.parametrize("opset", [1, 22])
def test_random_normal(opset: int) -> None:
    y = draw("RandomNormal", shape=(COUNT,), mean=3.0, scale=2.0, opset=opset)
    assert y.dtype == np.float32
    assert abs(y.mean() - 3) < 2 * FAR
    assert abs(y.std() - 2) < 2 * FAR
    assert abs(np.mean(np.abs(y - 3) < 2) - 0.6827) < FAR


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE])
def test_random_uniform_stays_below_its_end(kind: int) -> None:
    y = draw("RandomUniform", shape=(COUNT,), low=-1.0, high=2.0, dtype=kind).astype(np.float64)
    assert y.min() >= -1
    assert y.max() < 2
    assert abs(y.mean() - 0.5) < 2 * FAR
    counts, _ = np.histogram(y, bins=8, range=(-1, 2))
    assert np.all(np.abs(counts / COUNT - 1 / 8) < FAR)


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike"])
def test_like_takes_shape_and_dtype_of_its_input(op: str) -> None:
    x = np.zeros((2, 3), np.float64)
    assert draw(op, x).shape == (2, 3)
    assert draw(op, x).dtype == np.float64
    assert draw(op, x, dtype=int(TensorProto.BFLOAT16)).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("opset", [15, 22])
def test_bernoulli(opset: int) -> None:
    p = np.repeat(np.array([0.0, 0.25, 1.0]), COUNT).reshape(3, COUNT)
    y = draw("Bernoulli", p, opset=opset)
    assert y.dtype == np.float64
    assert set(np.unique(y)) == {0.0, 1.0}
    np.testing.assert_allclose(y.mean(axis=1), [0, 0.25, 1], atol=FAR)
    assert draw("Bernoulli", p, dtype=int(TensorProto.BOOL)).dtype == np.bool_


@pytest.mark.parametrize("opset", [7, 22])
def test_multinomial(opset: int) -> None:
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.0, 0.5]])
    with np.errstate(divide="ignore"):
        y = draw("Multinomial", np.log(p) + 5, sample_size=COUNT, opset=opset)
    assert y.dtype == np.int32
    assert y.shape == (2, COUNT)
    counted = np.stack([np.bincount(row, minlength=3) for row in y]) / COUNT
    np.testing.assert_allclose(counted, p, atol=FAR)
    assert draw("Multinomial", np.log(p + 1), dtype=int(TensorProto.INT64)).dtype == np.int64


def test_seed_of_a_node_fixes_its_numbers() -> None:
    first, second, other = map(_seeded, (1.5, 1.5, 2.5))
    np.testing.assert_array_equal(first, second)
    assert np.all(first != other)


def test_seed_of_the_interpreter_fixes_the_others() -> None:
    np.testing.assert_array_equal(draw("RandomNormal", shape=(9,), seed=7), draw("RandomNormal", shape=(9,), seed=7))
    assert np.all(draw("RandomNormal", shape=(9,), seed=7) != draw("RandomNormal", shape=(9,), seed=8))
    assert np.all(draw("RandomNormal", shape=(9,), seed=None) != draw("RandomNormal", shape=(9,), seed=None))


def _seeded(value: float) -> Any:
    node = Node("RandomNormal", (), ("y",), {"shape": (9,), "seed": value}, opset=22)
    return evaluate_node(node, ())[0]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "element"),
    [
        ("RandomNormal", [], {"shape": [2, 0, 3], "dtype": int(TensorProto.DOUBLE)}, TensorProto.DOUBLE),
        ("RandomUniform", [], {"shape": [4]}, TensorProto.FLOAT),
        ("RandomNormalLike", [np.zeros((2, 3), np.float64)], {}, TensorProto.DOUBLE),
        ("RandomUniformLike", [np.zeros(3, np.int32)], {"dtype": int(TensorProto.FLOAT)}, TensorProto.FLOAT),
        ("Multinomial", [np.zeros((2, 5), np.float32)], {"sample_size": 7}, TensorProto.INT32),
        ("Multinomial", [np.zeros((2, 5), np.float32)], {"dtype": int(TensorProto.INT64)}, TensorProto.INT64),
    ],
)
def test_shapes_and_types_agree(op: str, inputs: list[Any], attributes: dict[str, Any], element: int) -> None:
    data = model(op, inputs, attributes, 15, [element])
    (got,), (expected,) = reference_outputs(data, inputs), onnxruntime_outputs(data, inputs)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
