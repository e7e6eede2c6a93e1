"""Real models on the reference, against the outputs given with them or onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from webdnn_reference import Interpreter

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """How to feed a model that comes without inputs.

    shapes: of inputs with free dimensions. highest: values of integer inputs lie below it, 64 by default. ones: inputs
    that are masks. tolerance: of the outputs, relative to their own size and to the largest.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    highest: Mapping[str, int] = field(default_factory=dict)
    ones: tuple[str, ...] = ()
    fixed: Mapping[str, Array] = field(default_factory=dict)
    tolerance: float = 1e-4


PAST, NEW = 4, 3
_TEXT = {"input_ids": (1, NEW), "attention_mask": (1, PAST + NEW), "position_ids": (1, NEW)}


def _cached(heads: int) -> dict[str, tuple[int, ...]]:
    return {f"past.{layer}.{role}": (1, heads, PAST, 16) for layer in range(2) for role in ("key", "value")}


_POSITIONS = {"position_ids": np.arange(PAST, PAST + NEW)[None]}

RECIPES: dict[str, Recipe] = {
    "attention-u8s8/attention_past_state.u8s8.onnx": Recipe(
        shapes={"input": (2, 5, 768), "past": (2, 2, 12, 3, 64)},
        highest={"input": 256, "weight": 127, "input_zero_point": 256, "weight_zero_point": 1},
        fixed={"input_scale": np.array([0.01], np.float32), "weight_scale": np.array([0.01], np.float32)},
    ),
    "byte-bidi-lstm/model.onnx": Recipe(shapes={"input": (2, 40)}, highest={"input": 256}),
    "exported/chainer_small_op11.onnx": Recipe(),
    "exported/hf_bert_op20.onnx": Recipe(
        shapes={"input_ids": (2, 7), "attention_mask": (2, 7), "token_type_ids": (2, 7)},
        highest={"token_type_ids": 2},
        ones=("attention_mask",),
    ),
    "exported/hf_gpt2_op20.onnx": Recipe({**_TEXT, **_cached(4)}, ones=("attention_mask",), fixed=_POSITIONS),
    "exported/hf_llama_op20.onnx": Recipe({**_TEXT, **_cached(2)}, ones=("attention_mask",), fixed=_POSITIONS),
    "exported/hf_llama_op23.onnx": Recipe({**_TEXT, **_cached(2)}, ones=("attention_mask",), fixed=_POSITIONS),
    "exported/hf_vit_op20.onnx": Recipe({"pixel_values": (2, 3, 64, 64)}),
    "exported/hf_whisper_dec_op20.onnx": Recipe(
        {**_TEXT, **_cached(4), "encoder_hidden_states": (1, 100, 64)}, fixed=_POSITIONS
    ),
    "exported/hf_whisper_enc_op20.onnx": Recipe({"input_features": (1, 80, 200)}),
    "exported/keras2h5_mobilenet025_op18.onnx": Recipe({"input_2": (2, 128, 128, 3)}),
    "exported/keras3_rnn_lstm_loop_op18.onnx": Recipe({"keras_tensor": (2, 20)}),
    "exported/skl_rf.onnx": Recipe({"X": (5, 10)}),
    "exported/tflite_int8_qdq_tiny_op18.onnx": Recipe(
        {"serving_default_keras_tensor:0": (2, 64, 64, 3)}, tolerance=0.02
    ),
    "exported/torch_convmha_op23_attention.onnx": Recipe(),
    "exported/torch_fcn_dynhw_op20.onnx": Recipe({"input": (2, 3, 37, 50)}),
    "exported/xgb.onnx": Recipe({"x": (5, 10)}),
    "face-rfb-320/version-RFB-320.onnx": Recipe(),
    "fastestdet/FastestDet.onnx": Recipe(),
    "silero-vad/silero_vad.onnx": Recipe(
        {"input": (1, 576), "state": (2, 1, 128)}, fixed={"sr": np.array(16000, np.int64)}
    ),
    "squeezenet-fp16/SqueezeNet_fp16.onnx": Recipe(tolerance=5e-3),
}

GIVEN = ("mnist-8/model.onnx", "super-resolution-10/model.onnx", "tiny-gpt2/GPT2Model.onnx")


def feeds_for(model: onnx.ModelProto, recipe: Recipe) -> dict[str, Array]:
    """Seeded values for every input of a model."""
    random = np.random.default_rng(0)
    initialized = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        name, tensor = value.name, value.type.tensor_type
        if name in initialized:
            continue
        shape = recipe.shapes.get(name, tuple(dim.dim_value for dim in tensor.shape.dim))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if name in recipe.fixed:
            feeds[name] = recipe.fixed[name]
        elif name in recipe.ones:
            feeds[name] = np.ones(shape, dtype)
        elif dtype.kind == "f":
            feeds[name] = random.standard_normal(shape).astype(dtype)
        else:
            feeds[name] = random.integers(0, recipe.highest.get(name, 64), shape).astype(dtype)
    return feeds


@pytest.mark.parametrize("path", RECIPES)
def test_model_agrees_with_onnxruntime(path: str, shared: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = onnx.load(shared / "models" / path)
    recipe = RECIPES[path]
    feeds = feeds_for(model, recipe)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    expected = onnxruntime.InferenceSession(shared / "models" / path, options).run(None, feeds)
    got = Interpreter(shared / "models" / path).run(feeds)
    for (name, value), wanted in zip(got.items(), expected, strict=True):
        _assert_close(name, value, wanted, recipe.tolerance)


@pytest.mark.parametrize("path", GIVEN)
def test_model_gives_the_outputs_that_come_with_it(path: str, shared: Path) -> None:
    file = shared / "models" / path
    model = onnx.load(file)
    initialized = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in initialized]
    interpreter = Interpreter(file)
    sets = sorted(file.parent.glob("test_data_set_*"))
    assert sets
    for folder in sets:
        feeds = {name: _tensor(folder / f"input_{index}.pb") for index, name in enumerate(names)}
        for index, (name, value) in enumerate(interpreter.run(feeds).items()):
            stored = folder / f"output_{index}.pb"
            if stored.exists():
                _assert_close(name, value, _tensor(stored), 1e-3)


@pytest.mark.parametrize("path", ["mnist-8/model.onnx", "super-resolution-10/model.onnx"])
def test_oracle_stays_near_the_declared_precision(path: str, shared: Path) -> None:
    file = shared / "models" / path
    model = onnx.load(file)
    feeds = feeds_for(model, Recipe({"input": (1, 1, 224, 224)}))
    oracle = Interpreter(file, float64=True).run(feeds)
    for name, value in Interpreter(file).run(feeds).items():
        assert oracle[name].dtype == np.float64
        np.testing.assert_allclose(value, oracle[name], rtol=1e-3, atol=1e-3)


def _tensor(path: Path) -> Array:
    return numpy_helper.to_array(onnx.load_tensor(path))


def _assert_close(name: str, got: Any, expected: Any, tolerance: float) -> None:
    if isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            if isinstance(other, Mapping):
                assert list(one) == list(other)
                one, other = np.array(list(one.values())), np.array(list(other.values()))
            _assert_close(name, one, other, tolerance)
        return
    assert got.dtype == expected.dtype, name
    assert got.shape == expected.shape, name
    if expected.dtype == object:
        assert got.tolist() == expected.tolist(), name
    else:
        wide = expected.astype(np.float64)
        np.testing.assert_allclose(
            got.astype(np.float64),
            wide,
            rtol=tolerance,
            atol=tolerance * max(1.0, np.abs(wide).max(initial=0)),
            err_msg=name,
        )
