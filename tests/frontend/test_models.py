"""Real models: everything loads, every value has a type, and the passes keep what is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Graph, TensorType
from webdnn_onnx.infer import analyse, infer
from webdnn_onnx.load import load
from webdnn_onnx.passes import optimize
from webdnn_onnx.specialize import specialize
from webdnn_onnx.symbolic import evaluate, free_symbols
from webdnn_reference import Interpreter

MODELS = (
    "attention-u8s8/attention_past_state.u8s8.onnx",
    "byte-bidi-lstm/model.onnx",
    "exported/chainer_small_op11.onnx",
    "exported/hf_bert_op20.onnx",
    "exported/hf_gpt2_op20.onnx",
    "exported/hf_llama_op20.onnx",
    "exported/hf_llama_op23.onnx",
    "exported/hf_vit_op20.onnx",
    "exported/hf_whisper_dec_op20.onnx",
    "exported/hf_whisper_enc_op20.onnx",
    "exported/keras2h5_mobilenet025_op18.onnx",
    "exported/keras3_rnn_lstm_loop_op18.onnx",
    "exported/tflite_int8_qdq_tiny_op18.onnx",
    "exported/torch_convmha_op23_attention.onnx",
    "exported/torch_fcn_dynhw_op20.onnx",
    "face-rfb-320/version-RFB-320.onnx",
    "fastestdet/FastestDet.onnx",
    "mnist-8/model.onnx",
    "silero-vad/silero_vad.onnx",
    "squeezenet-fp16/SqueezeNet_fp16.onnx",
    "super-resolution-10/model.onnx",
    "tiny-gpt2/GPT2Model.onnx",
)

# Past and present lengths add up in the language models: s27 new tokens after s15 (keys) and s89 (values) old ones.
SIZES = {"past_sequence_length": 2, "length": 5, "s16": 4, "s27": 3, "s15": 2, "s89": 2, "s5": 5}
SILERO = {"input": (1, 576), "state": (2, 1, 128)}


def inputs_of(graph: Graph, sizes: dict[str, int]) -> dict[str, Any]:
    """Seeded inputs: small integers, and numbers within (-1, 1)."""
    random = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for value in graph.inputs:
        shape = [evaluate(dim, sizes) for dim in value.shape]
        if value.dtype is DType.BOOL:
            feeds[value.name] = np.ones(shape, np.bool_)
        elif value.dtype.is_integer:
            feeds[value.name] = random.integers(0, 2, shape).astype(value.dtype.numpy)
        else:
            feeds[value.name] = random.uniform(-1, 1, shape).astype(value.dtype.numpy)
    return feeds


def symbols_of(graph: Graph) -> dict[str, int]:
    names = sorted({name for value in graph.inputs for dim in value.shape for name in free_symbols(dim)})
    return {name: SIZES.get(name, 2) for name in names}


def feeds_of(graph: Graph, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Inputs that the model accepts, and the sizes of its symbolic dimensions."""
    if "silero" in name:
        feeds = {key: np.full(shape, 0.1, np.float32) for key, shape in SILERO.items()} | {"sr": np.array(16000)}
        return feeds, {"input.dim0": 1, "input.dim1": 576, "state.dim1": 1}
    sizes = symbols_of(graph)
    if "fcn" in name:
        sizes = dict.fromkeys(sizes, 16)
    return inputs_of(graph, sizes), sizes


def untyped(graph: Graph) -> list[str]:
    """Names of tensors without a rank, in nested graphs too."""
    found = [
        name
        for node in graph.nodes
        for name in node.outputs
        if name and (graph.value(name).type is None or getattr(graph.value(name).type, "shape", ()) is None)
    ]
    return found + [name for node in graph.nodes for nested in node.subgraphs for name in untyped(nested)]


@pytest.mark.parametrize("name", MODELS)
def test_every_value_has_a_type(shared: Path, name: str) -> None:
    graph = load(shared / "models" / name)
    if "silero" in name:
        pytest.skip("its ranks depend on its sizes, see test_branches_decided_by_sizes_are_typed")
    assert untyped(infer(graph)) == []


def test_branches_decided_by_sizes_are_typed(shared: Path) -> None:
    """One branch of the model is for another sampling rate, and impossible with these sizes."""
    graph = optimize(specialize(load(shared / "models/silero-vad/silero_vad.onnx"), shapes=SILERO))
    (branch,) = (node for node in graph.nodes if node.op == "If")
    assert min(len(untyped(nested)) for nested in branch.subgraphs) == 0
    assert [str(value.type) for value in graph.outputs] == ["float32[1, 1]", "float32[2, 1, 128]"]


@pytest.mark.parametrize("name", MODELS)
def test_optimized_graph_computes_the_same(shared: Path, name: str) -> None:
    graph = infer(load(shared / "models" / name))
    feeds, sizes = feeds_of(graph, name)
    optimized = optimize(graph)
    expected = Interpreter(graph).run(feeds)
    got = Interpreter(optimized).run(feeds)
    assert list(got) == [value.name for value in graph.outputs]
    for value in infer(optimized).outputs:
        array, wanted = np.asarray(got[value.name]), np.asarray(expected[value.name])
        assert array.dtype == wanted.dtype
        assert array.shape == wanted.shape
        tolerance = 2e-2 if wanted.dtype == np.float16 else 1e-4
        scale = np.abs(wanted.astype(np.float64)).max(initial=0.0)
        np.testing.assert_allclose(array.astype(np.float64), wanted.astype(np.float64), atol=tolerance * scale + 1e-6)
        assert isinstance(value.type, TensorType)
        for dim, size in zip(value.shape, array.shape, strict=True):
            if free_symbols(dim) <= sizes.keys():
                assert evaluate(dim, sizes) == size


def test_specialized_model_has_fixed_shapes(shared: Path) -> None:
    graph = infer(load(shared / "models/exported/hf_bert_op20.onnx"))
    names = sorted({name for value in graph.inputs for dim in value.shape for name in free_symbols(dim)})
    fixed = specialize(graph, dims=dict.fromkeys(names, 4))
    assert all(isinstance(dim, int) for value in fixed.outputs for dim in value.shape)


@pytest.mark.parametrize("name", MODELS)
def test_inferred_shapes_and_elements_are_those_that_run(shared: Path, name: str) -> None:
    analysed = analyse(load(shared / "models" / name))
    graph = analysed.graph
    feeds, sizes = feeds_of(graph, name)
    values = dict(feeds)
    Interpreter(graph).run(feeds, observe=values.__setitem__)
    for symbol, binding in graph.bindings.items():
        if binding.value in values:
            array = np.asarray(values[binding.value])
            at = binding.index
            sizes[symbol] = int(array.reshape(-1)[at]) if at >= 0 else array.shape[-1 - at]
    for value in graph.values.values():
        if value.name not in values or not isinstance(value.type, TensorType):
            continue
        array = np.asarray(values[value.name])
        assert (value.name, array.dtype) == (value.name, value.dtype.numpy)
        assert (value.name, array.shape) == (value.name, tuple(evaluate(dim, sizes) for dim in value.shape))
        if value.name in analysed.elements:
            elements = [evaluate(dim, sizes) for dim in analysed.elements[value.name]]
            assert (value.name, elements) == (value.name, array.reshape(-1).tolist())
