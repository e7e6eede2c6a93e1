"""Small models, written in one line each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["model", "node"]

node = helper.make_node


def model(
    nodes: list[NodeProto],
    inputs: dict[str, Any],
    outputs: list[str],
    constants: dict[str, npt.NDArray[Any]] | None = None,
    opset: int = 17,
    **fields: Any,
) -> ModelProto:
    """A model of float32 inputs (name -> shape, or a ValueInfoProto) and outputs of undeclared type."""
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) if isinstance(shape, list) else shape
        for name, shape in inputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        infos,
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *fields.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=fields.pop("ir_version", 8), **fields)
