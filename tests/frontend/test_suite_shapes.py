"""Every case of the ONNX suite: inferred types are those of the expected outputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from onnx.backend.test.loader import load_model_tests

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import TensorType
from webdnn_onnx.infer import infer
from webdnn_onnx.load import load
from webdnn_onnx.symbolic import evaluate, free_symbols


@pytest.mark.slow
def test_inferred_outputs_are_those_that_the_suite_expects() -> None:
    compared = 0
    for case in load_model_tests(kind="node"):
        graph = infer(load(case.model))
        assert infer(graph).values == graph.values, case.name
        for inputs, outputs in case.data_sets:
            given = dict(zip([value.name for value in graph.inputs], inputs, strict=False))
            elements = {
                symbol: int(np.asarray(given[binding.value]).reshape(-1)[binding.index])
                for symbol, binding in graph.bindings.items()
                if binding.value in given and binding.index >= 0
            }
            for value, output in zip(graph.outputs, outputs, strict=False):
                kind = value.type
                if not isinstance(kind, TensorType) or kind.shape is None or isinstance(output, TensorProto | list):
                    continue
                array = np.asarray(output)
                assert (case.name, kind.dtype) == (case.name, DType.from_numpy(array.dtype))
                assert (case.name, len(kind.shape)) == (case.name, array.ndim)
                for dim, size in zip(kind.shape, array.shape, strict=True):
                    if free_symbols(dim) <= elements.keys():
                        assert (case.name, evaluate(dim, elements)) == (case.name, size)
                compared += 1
    assert compared > 1700
