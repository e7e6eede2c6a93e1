"""A transformer decoder made here: batch, sequence and past are symbolic, and one conversion serves them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from webdnn_onnx.cli.compare import compare_outputs, relative_tolerance
from webdnn_onnx.convert import convert
from webdnn_onnx.engines.chromium import ChromiumEngine
from webdnn_reference import Interpreter

pytestmark = pytest.mark.browser

BACKENDS = ("webgpu", "wasm", "js")
HEADS, SIZE, WIDTH, TOKENS, LAYERS = 2, 12, 24, 31, 2
SIZES = [(1, 1, 0), (2, 5, 0), (3, 7, 4), (1, 13, 9)]
"""(batch, sequence, past)"""

Array = npt.NDArray[Any]


class Decoder:
    """Collects nodes and weights; each method adds a part and returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.random = np.random.default_rng(5)

    def node(self, op: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> str:
        made = [name or f"{op}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, **attributes))
        return made[0]

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.standard_normal(shape) / np.sqrt(shape[0]), np.float32)

    def size_of(self, value: str, axis: int) -> str:
        return self.node("Shape", value, start=axis, end=axis + 1)

    def normalised(self, x: str) -> str:
        """LayerNormalization as exporters of older opsets write it."""
        axes = self.constant([-1])
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes))
        squares = self.node("ReduceMean", self.node("Mul", centred, centred), axes)
        deviation = self.node("Sqrt", self.node("Add", squares, self.constant(1e-5, np.float32)))
        scaled = self.node("Mul", self.node("Div", centred, deviation), self.weight(WIDTH))
        return self.node("Add", scaled, self.weight(WIDTH))

    def dense(self, x: str, columns: int, rows: int = WIDTH) -> str:
        return self.node("Add", self.node("MatMul", x, self.weight(rows, columns)), self.weight(columns))

    def heads(self, x: str, ids: str) -> str:
        """[batch, sequence, WIDTH] -> [batch, HEADS, sequence, SIZE]"""
        sizes = (self.size_of(ids, 0), self.size_of(ids, 1), self.constant([HEADS]), self.constant([SIZE]))
        split = self.node("Reshape", x, self.node("Concat", *sizes, axis=0))
        return self.node("Transpose", split, perm=[0, 2, 1, 3])

    def attention(self, x: str, ids: str, positions: str, layer: int) -> str:
        query, key, value = (self.heads(self.dense(x, WIDTH), ids) for _ in range(3))
        key = self.node("Concat", f"past_key_{layer}", key, axis=2, name=f"key_{layer}")
        value = self.node("Concat", f"past_value_{layer}", value, axis=2, name=f"value_{layer}")
        scores = self.node("MatMul", query, self.node("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.node("Mul", scores, self.constant(SIZE**-0.5, np.float32))
        every = self.node("Range", self.constant(0), self.scalar(self.size_of(key, 2)), self.constant(1))
        hidden = self.node("Greater", every, self.node("Unsqueeze", positions, self.constant([1])))
        scores = self.node("Where", hidden, self.constant(-1e9, np.float32), scores)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        together = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.dense(self.node("Reshape", together, self.constant([0, 0, WIDTH])), WIDTH)

    def scalar(self, x: str) -> str:
        return self.node("Squeeze", x, self.constant([0]))

    def model(self) -> bytes:
        past = self.scalar(self.size_of("past_key_0", 2))
        end = self.node("Add", past, self.scalar(self.size_of("ids", 1)))
        positions = self.node("Range", past, end, self.constant(1))
        x = self.node("Gather", self.weight(TOKENS, WIDTH), "ids")
        x = self.node("Add", x, self.node("Gather", self.weight(64, WIDTH), positions))
        for layer in range(LAYERS):
            x = self.node("Add", x, self.attention(self.normalised(x), "ids", positions, layer))
            wide = self.node("Gelu", self.dense(self.normalised(x), 4 * WIDTH), approximate="tanh")
            x = self.node("Add", x, self.dense(wide, WIDTH, 4 * WIDTH))
        self.node("MatMul", self.normalised(x), self.weight(WIDTH, TOKENS), name="logits")
        kept = [f"{kind}_{layer}" for layer in range(LAYERS) for kind in ("key", "value")]
        float_ = TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])]
        inputs += [
            helper.make_tensor_value_info(f"past_{name}", float_, ["batch", HEADS, "past", SIZE]) for name in kept
        ]
        outputs = [helper.make_tensor_value_info("logits", float_, ["batch", "sequence", TOKENS])]
        outputs += [
            helper.make_tensor_value_info(name, float_, ["batch", HEADS, "past + sequence", SIZE]) for name in kept
        ]
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        content: bytes = model.SerializeToString()
        return content


def feeds(batch: int, sequence: int, past: int) -> dict[str, Array]:
    random = np.random.default_rng([batch, sequence, past])
    given: dict[str, Array] = {"ids": random.integers(0, TOKENS, (batch, sequence))}
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            values = random.standard_normal((batch, HEADS, past, SIZE))
            given[f"past_{kind}_{layer}"] = values.astype(np.float32)
    return given


@pytest.fixture(scope="module")
def engine() -> Iterator[ChromiumEngine]:
    with ChromiumEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder") / "bundle"
    report = convert(Decoder().model(), folder, backends=BACKENDS, strict=True)
    assert report.inputs[0] == "ids: int64[batch, sequence]"
    return folder


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_conversion_serves_every_size(engine: ChromiumEngine, bundle: Path, backend: str) -> None:
    reference = Interpreter(Decoder().model(), float64=True)
    for sizes in (*SIZES, SIZES[0]):
        inputs = feeds(*sizes)
        outputs = engine.run(bundle, backend, inputs).outputs
        compared = compare_outputs(outputs, reference.run(inputs), relative_tolerance(frozenset()))
        failed = [f"{one.name}: {one.reason}" for one in compared if not one.passed]
        assert not failed, f"{backend}, (batch, sequence, past) = {sizes}: {failed}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sequence_in_one_piece_and_token_by_token_agree(engine: ChromiumEngine, bundle: Path, backend: str) -> None:
    """What comes out is fed back as the past, as a page that generates text does."""
    whole = feeds(2, 4, 0)
    expected = engine.run(bundle, backend, whole).outputs["logits"]
    state, pieces = {name: value for name, value in whole.items() if name != "ids"}, []
    for at in range(4):
        outputs = engine.run(bundle, backend, {"ids": whole["ids"][:, at : at + 1], **state}).outputs
        state = {f"past_{name}": np.asarray(value) for name, value in outputs.items() if name != "logits"}
        pieces.append(np.asarray(outputs["logits"]))
    (compared,) = compare_outputs({"logits": np.concatenate(pieces, 1)}, {"logits": expected}, 1e-4)
    assert compared.passed, f"{backend}: {compared.reason}"
