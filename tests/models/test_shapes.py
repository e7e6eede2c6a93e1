"""Models with symbolic sizes, converted once and run at several sizes in Chromium on every backend.

The recipes of `webdnn conformance --suite models` feed them; the float64 reference judges, as `webdnn check` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from webdnn_conformance.case import Case
from webdnn_conformance.suites.models import cases
from webdnn_onnx.cli.compare import compare_outputs, relative_tolerance
from webdnn_onnx.convert import convert
from webdnn_onnx.engines.chromium import ChromiumEngine
from webdnn_onnx.load import load
from webdnn_reference import Interpreter

pytestmark = pytest.mark.browser

BACKENDS = ("webgpu", "wasm", "js")
MODELS = (
    "attention-u8s8/attention_past_state.u8s8.onnx",
    "byte-bidi-lstm/model.onnx",
    "exported/hf_bert_op20.onnx",
    "exported/hf_gpt2_op20.onnx",
    "exported/hf_llama_op20.onnx",
    "exported/hf_llama_op23.onnx",
    "exported/hf_vit_op20.onnx",
    "exported/hf_whisper_dec_op20.onnx",
    "exported/hf_whisper_enc_op20.onnx",
    "exported/keras3_rnn_lstm_loop_op18.onnx",
    "exported/skl_rf.onnx",
    "exported/tflite_int8_qdq_tiny_op18.onnx",
    "exported/torch_fcn_dynhw_op20.onnx",
    "exported/xgb.onnx",
    "silero-vad/silero_vad.onnx",
    "tiny-gpt2/GPT2Model.onnx",
)


@dataclass(frozen=True)
class Ready:
    """A converted model, what is fed to it, what has to come out, and how far off that may be."""

    bundle: Path
    case: Case
    expected: list[dict[str, Any]]
    relative: float


@dataclass
class Bench:
    """One browser, and the models converted so far."""

    engine: ChromiumEngine
    folder: Path
    ready: dict[str, Ready] = field(default_factory=dict)

    def prepare(self, models: Path, name: str) -> Ready:
        if name not in self.ready:
            (case,) = cases(models, name)
            graph = load(case.model)
            reference = Interpreter(graph, float64=True)
            with np.errstate(all="ignore"):
                expected = [dict(reference.run(data.inputs)) for data in case.sets]
            bundle = self.folder / str(len(self.ready))
            convert(graph, bundle, backends=BACKENDS)
            dtypes = frozenset(graph.value(constant).dtype.value for constant in graph.constants)
            self.ready[name] = Ready(bundle, case, expected, relative_tolerance(dtypes))
        return self.ready[name]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with ChromiumEngine() as engine:
        yield Bench(engine, tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_one_conversion_serves_every_size(bench: Bench, shared: Path, name: str, backend: str) -> None:
    ready = bench.prepare(shared / "models", name)
    sizes = [[np.asarray(value).shape for value in data.inputs.values()] for data in ready.case.sets]
    assert len({tuple(each) for each in sizes}) >= 2, f"{name}: expected inputs of two sizes at least, got {sizes}"
    for data, expected, size in zip(ready.case.sets, ready.expected, sizes, strict=True):
        outputs = bench.engine.run(ready.bundle, backend, data.inputs, timeout=120).outputs
        compared = compare_outputs(outputs, expected, ready.relative)
        failed = [f"{one.name}: {one.reason}" for one in compared if not one.passed]
        assert not failed, f"{name} on {backend}, {size}: {failed}"
