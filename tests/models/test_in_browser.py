"""Real models, converted once and run in Chromium on every backend, against the float64 reference.

A model agrees where the largest difference is at most 1e-4 of the largest magnitude, plus 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from webdnn_onnx.convert import convert
from webdnn_onnx.engines.chromium import ChromiumEngine
from webdnn_onnx.load import load
from webdnn_onnx.specialize import specialize
from webdnn_onnx.symbolic import free_symbols
from webdnn_reference import Interpreter

pytestmark = pytest.mark.browser

BACKENDS = ("webgpu", "wasm", "js")
LIGHT_FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
SHARED = {
    "face-rfb-320/version-RFB-320.onnx": {},
    "fastestdet/FastestDet.onnx": {},
    "exported/keras2h5_mobilenet025_op18.onnx": {},
    "exported/hf_vit_op20.onnx": {},
    "super-resolution-10/model.onnx": {},
}


@dataclass
class Bench:
    """One browser, and the bundles converted for it so far, with inputs and expected outputs."""

    engine: ChromiumEngine
    folder: Path
    ready: dict[str, tuple[Path, dict[str, Any], dict[str, Any]]] = field(default_factory=dict)

    def prepare(
        self, model: Path, feeds: Mapping[str, Any] | None = None
    ) -> tuple[Path, dict[str, Any], dict[str, Any]]:
        key = str(model)
        if key not in self.ready:
            bundle = self.folder / f"{len(self.ready)}"
            convert(model, bundle, backends=BACKENDS)
            inputs = dict(feeds) if feeds is not None else seeded(model)
            self.ready[key] = bundle, inputs, dict(Interpreter(model, float64=True).run(inputs))
        return self.ready[key]

    def check(self, model: Path, backend: str, feeds: Mapping[str, Any] | None = None) -> dict[str, npt.NDArray[Any]]:
        bundle, inputs, expected = self.prepare(model, feeds)
        outputs = self.engine.run(bundle, backend, inputs, timeout=300).outputs
        for name, want in expected.items():
            agree(np.asarray(outputs[name]), np.asarray(want), f"{model.name} on {backend}, output {name}")
        return {name: np.asarray(value) for name, value in outputs.items()}


def agree(got: npt.NDArray[Any], want: npt.NDArray[Any], where: str, relative: float = 1e-4) -> None:
    assert got.shape == want.shape, f"{where}: expected shape {want.shape}, got {got.shape}"
    error = float(np.max(np.abs(got.astype(np.float64) - want)))
    limit = relative * float(np.max(np.abs(want))) + 1e-6
    assert error <= limit, f"{where}: expected a difference of at most {limit:.3e}, got {error:.3e}"


def seeded(model: Path) -> dict[str, npt.NDArray[Any]]:
    """Numbers around zero for every input, symbolic dimensions 1."""
    graph = load(model)
    names = {name for value in graph.inputs for size in value.shape for name in free_symbols(size)}
    random = np.random.default_rng(0)
    return {
        value.name: random.standard_normal([int(str(size)) for size in value.shape]).astype(value.dtype.numpy)
        for value in specialize(graph, dims=dict.fromkeys(names, 1)).inputs
    }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with ChromiumEngine() as engine:
        yield Bench(engine, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LIGHT)
def test_light_models(bench: Bench, name: str, backend: str) -> None:
    bench.check(LIGHT_FOLDER / f"light_{name}.onnx", backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SHARED)
def test_shared_models(bench: Bench, shared: Path, name: str, backend: str) -> None:
    bench.check(shared / "models" / name, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name", [f"mnist-8/test_data_set_{k}" for k in range(3)] + ["super-resolution-10/test_data_set_0"]
)
def test_given_data_sets(bench: Bench, shared: Path, name: str, backend: str) -> None:
    data = shared / "models" / name
    model = data.parent / "model.onnx"
    (value,) = load(model).inputs
    given = tensor(data / "input_0.pb")
    bundle = bench.prepare(model)[0]
    (got,) = bench.engine.run(bundle, backend, {value.name: given}, timeout=300).outputs.values()
    agree(np.asarray(got), tensor(data / "output_0.pb"), f"{name} on {backend}")


def tensor(path: Path) -> npt.NDArray[Any]:
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("picture", "classes"), [("kitten_224.png", range(281, 286)), ("fish.png", (0,))])
def test_squeezenet_sees_what_is_there(
    bench: Bench, shared: Path, picture: str, classes: tuple[int, ...], backend: str
) -> None:
    """ImageNet classes 281 to 285 are cats, 0 is the tench. The model takes BGR from 0 to 255."""
    folder = shared / "models" / "squeezenet-fp16"
    pixels = np.asarray(Image.open(folder / picture).convert("RGB").resize((224, 224)), np.float32)
    (value,) = load(folder / "SqueezeNet_fp16.onnx").inputs
    image = pixels[..., ::-1].transpose(2, 0, 1)[None].astype(value.dtype.numpy)
    bundle = bench.prepare(folder / "SqueezeNet_fp16.onnx", {value.name: image})[0]
    (got,) = bench.engine.run(bundle, backend, {value.name: image}, timeout=300).outputs.values()
    assert int(np.argmax(np.asarray(got))) in classes
