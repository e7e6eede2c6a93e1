"""What goes wrong in a page, in a real browser: damaged files, no GPU, a GPU that goes away, too little memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from webdnn_onnx.convert import convert
from webdnn_onnx.engines.browser import Browser, Tab
from webdnn_onnx.engines.server import Server

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"
BACKENDS = ("webgpu", "wasm", "js")
PAGE = """<!doctype html><title>faults</title><script type="module">
globalThis.open = async (folder, options) => (await import(`/${folder}/index.js`)).load(options);
globalThis.attempt = async (work) => {
  try { return await work(); } catch (error) { return `${error.name}: ${error.message}`; }
};
</script>"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digit classifier, whole and damaged, and a model whose output is as large as one likes."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    convert(DIGITS, folder / "whole")
    for name in ("flipped", "short", "gone"):
        shutil.copytree(folder / "whole", folder / name)
    for shard in (folder / "flipped").glob("weights-*.bin"):
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    for shard in (folder / "short").glob("weights-*.bin"):
        shard.write_bytes(shard.read_bytes()[:-7])
    for shard in (folder / "gone").glob("weights-*.bin"):
        shard.unlink()
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y",)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"])
    times = helper.make_tensor("times", TensorProto.INT64, [2], [65536, 1])
    graph = helper.make_graph([helper.make_node("Tile", ["x", "times"], ["y"])], "tile", [x], value, [times])
    convert(helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), folder / "tile")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(gpu="software") as started:
        yield started


@pytest.fixture(scope="module")
def tab(site: Path, browser: Browser) -> Iterator[Tab]:
    with Server({"/": site}) as server:
        opened = browser.tab(f"{server.url}/")
        opened.wait_for("typeof attempt === 'function'")
        yield opened
        opened.close()


@pytest.fixture
def ask(tab: Tab) -> Callable[[str], object]:
    """The value of the body of an async function, or the name and the message of what it throws."""
    return lambda body: tab.evaluate(f"attempt(async () => {{ {body} }})", 60)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("flipped", "IntegrityError: weights-0"),
        ("short", "IntegrityError: weights-0"),
        ("gone", "ModelError: weights-0"),
    ],
)
def test_damaged_weights_are_never_run(ask: Callable[[str], str], backend: str, folder: str, said: str) -> None:
    answer = ask(f"await open('{folder}', {{ backend: '{backend}', cache: false }}); return 'loaded';")
    assert answer.startswith(said)
    assert "\n" not in answer


def test_without_a_gpu_the_next_backend_takes_over_or_the_reason_is_said(ask: Callable[[str], object]) -> None:
    none = "gpu: { requestAdapter: async () => null }"
    assert "BackendError: webgpu: no adapter" in str(ask(f"await open('whole', {{ backend: 'webgpu', {none} }});"))
    answer = ask(f"const m = await open('whole', {{ {none} }}); return [m.backend, m.fallbacks[0].backend];")
    assert answer == ["wasm", "webgpu"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_much_memory_is_an_error_and_the_model_goes_on(ask: Callable[[str], object], backend: str) -> None:
    run = "(n) => model.run({ x: { data: new Float32Array(n).fill(2), dims: [1, n] } })"
    body = f"""
      const model = await open('tile', {{ backend: '{backend}' }}), run = {run};
      const first = await attempt(() => run(32768));
      const {{ y }} = await run(3);
      await model.dispose();
      return [String(first), y.dims, y.data.every((value) => value === 2)];"""
    answer = ask(body)
    assert isinstance(answer, list), answer
    assert answer[0].startswith("OutOfMemoryError: ")
    assert answer[1:] == [[65536, 3], True]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("undefined", "InputError: input 'image' is missing"),
        ("{ picture: new Float32Array(64) }", "InputError: model 'digits' has no input 'picture'"),
        ("{ image: new Float64Array(64) }", "InputError: input 'image': expected float32 as Float32Array"),
        ("{ image: new Float32Array(63) }", "InputError: input 'image': expected 64 elements"),
        ("{ image: { data: new Float32Array(64), dims: [1, 1, 64, 1] } }", "ShapeError: input 'image': axis 2"),
    ],
)
def test_wrong_inputs_are_named(ask: Callable[[str], str], backend: str, inputs: str, said: str) -> None:
    answer = ask(f"const m = await open('whole', {{ backend: '{backend}' }}); await m.run({inputs}); return 'ran';")
    assert answer.startswith(said)


def test_a_gpu_process_that_dies_is_replaced_and_the_run_repeated(
    ask: Callable[[str], object], tab: Tab, browser: Browser
) -> None:
    run = "(await model.run({ image: new Float32Array(64) })).probabilities.data[0]"
    before = ask(f"globalThis.model = await open('whole', {{ backend: 'webgpu' }}); return {run};")
    assert isinstance(before, float)
    device = "(await (await navigator.gpu.requestAdapter()).requestDevice())"
    ask(f"{device}.lost.then(() => (self.lost = true));")
    browser.devtools.call("Browser.crashGpuProcess")
    tab.wait_for("self.lost === true")
    assert ask(f"return {run};") == before
