"""Small models compiled and run in the loop IR's interpreter, for tests of what happens before a dialect."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from webdnn_backends.lower import lower_graph
from webdnn_backends.te.compile import CompiledProgram, Target, compile_program
from webdnn_backends.te.generic import GenericOptions
from webdnn_backends.te.run import run_compiled
from webdnn_onnx.infer import analyse
from webdnn_onnx.load import load

TARGETS = {
    "scalar": Target("js", options=GenericOptions(lanes=1, parallel=False)),
    "vector": Target("wasm", options=GenericOptions(lanes=4, parallel=False), channels_last=True),
    "parallel": Target("webgpu", options=GenericOptions(lanes=1, parallel=True), channels_last=True),
}


def model(
    nodes: list[Any],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    constants: dict[str, npt.NDArray[Any]] | None = None,
    opset: int = 20,
) -> bytes:
    """The bytes of a float32 model."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return bytes(proto.SerializeToString())


def compiled(content: bytes, target: str = "scalar") -> CompiledProgram:
    """The program of a model, without the graph passes."""
    inference = analyse(load(content))
    return compile_program(lower_graph(inference.graph, inference.elements), TARGETS[target])


def run(content: bytes, feeds: dict[str, npt.NDArray[Any]], target: str = "scalar") -> list[npt.NDArray[Any]]:
    """The outputs of a model, by the interpreter."""
    return run_compiled(compiled(content, target), feeds)


def random(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Numbers around zero."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
