"""Small models for tests of schedules, and the generic schedule that they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from webdnn_backends.te.compile import Target
from webdnn_backends.te.fuse import Policy

__all__ = ["GENERIC", "Array", "model", "normal"]

Array = npt.NDArray[Any]
GENERIC = Target("generic", Policy(tensors=16))
_RNG = np.random.default_rng(0)


def normal(*shape: int, seed: int | None = None) -> Array:
    """Normally distributed numbers: the next ones, or those of a seed."""
    random = _RNG if seed is None else np.random.default_rng(seed)
    return random.normal(size=shape).astype(np.float32)


def model(
    nodes: Sequence[Any], inputs: Mapping[str, Sequence[int | str]], output: Sequence[int | str], **weights: Array
) -> bytes:
    """The bytes of a float32 model with the output `y`."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(proto.SerializeToString())
