"""One node on the reference and on onnxruntime, for differential tests.

onnxruntime is a judge, not the truth: where the two differ, the specification decides, and docs/semantics.md records
the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, parser

from webdnn_onnx.dtypes import DType
from webdnn_reference import Interpreter

__all__ = ["agree", "agree_on_graph", "close", "model", "onnxruntime_outputs", "reference_outputs"]

_IR_VERSION = 10
_ROUNDING = {np.dtype(np.float16): 2e-3, np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-10}


def model(
    op: str, inputs: Sequence[Any], attributes: Mapping[str, Any], opset: int, outputs: Sequence[int], domain: str = ""
) -> bytes:
    """A model of one node. inputs: arrays, None where absent. outputs: element types, 0 where absent."""
    names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
    results = [f"y{index}" if kind else "" for index, kind in enumerate(outputs)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(name, DType.from_numpy(value.dtype).onnx, value.shape)
            for name, value in zip(names, inputs, strict=True)
            if name
        ],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, outputs, strict=True) if name],
    )
    imports = [helper.make_opsetid(domain, opset)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
    return bytes(proto.SerializeToString())


def reference_outputs(data: bytes, inputs: Sequence[Any], *, float64: bool = False) -> list[Any]:
    """The outputs of such a model on the reference."""
    feeds = {f"x{index}": value for index, value in enumerate(inputs) if value is not None}
    return list(Interpreter(data, float64=float64, seed=0).run(feeds).values())


def onnxruntime_outputs(data: bytes, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of such a model on onnxruntime's CPU provider, one thread, nothing optimized."""
    feeds = {f"x{index}": np.asarray(value) for index, value in enumerate(inputs) if value is not None}
    return list(_session(data).run(None, feeds))


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def close(got: Any, expected: Any, call: str, *, rtol: float | None = None, atol: float | None = None) -> None:
    """Compare dtype, shape, values; by default within a few roundings of the dtype. Raises AssertionError."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype, f"{call}: expected {expected.dtype}, got {got.dtype}"
    assert got.shape == expected.shape, f"{call}: expected shape {expected.shape}, got {got.shape}"
    if expected.dtype in _ROUNDING:
        tolerance = _ROUNDING[expected.dtype]
        np.testing.assert_allclose(
            got,
            expected,
            rtol=tolerance if rtol is None else rtol,
            atol=tolerance if atol is None else atol,
            err_msg=call,
        )
    else:
        np.testing.assert_array_equal(got, expected, err_msg=call)


def agree_on_graph(graph: str, feeds: Mapping[str, Any], *, opset: int, domain: str = "") -> None:
    """Check that the reference gives what onnxruntime gives for a graph in ONNX's text form. Raises AssertionError."""
    imports = f'"{domain}" : 1, ' if domain else ""
    proto = parser.parse_model(f'<ir_version: {_IR_VERSION}, opset_import: [{imports}"" : {opset}]>\n{graph}')
    data = bytes(proto.SerializeToString())
    expected = _session(data).run(None, {name: _given(value) for name, value in feeds.items()})
    got = Interpreter(data, seed=0).run(feeds)
    for (name, ours), theirs in zip(got.items(), expected, strict=True):
        _close_values(ours, theirs, f"{graph}: {name}")


def _given(value: Any) -> Any:
    if isinstance(value, list):
        return [_given(item) for item in value]
    return value if isinstance(value, dict) else np.asarray(value)


def _close_values(got: Any, expected: Any, call: str) -> None:
    if isinstance(expected, list):
        assert isinstance(got, list), f"{call}: expected a sequence, got {type(got).__name__}"
        assert len(got) == len(expected), f"{call}: expected {len(expected)} elements, got {len(got)}"
        for ours, theirs in zip(got, expected, strict=True):
            _close_values(ours, theirs, call)
    elif isinstance(expected, dict):
        assert got == expected, f"{call}: expected {expected}, got {got}"
    else:
        close(got, expected, call)


def agree(
    op: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int,
    outputs: Sequence[int] = (TensorProto.FLOAT,),
    domain: str = "",
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Check that the reference gives what onnxruntime gives. Raises AssertionError."""
    data = model(op, inputs, attributes or {}, opset, outputs, domain)
    expected = onnxruntime_outputs(data, inputs)
    got = reference_outputs(data, inputs)
    shapes = ", ".join("-" if value is None else f"{value.dtype}{list(value.shape)}" for value in inputs)
    call = f"{op}-{opset}({shapes}, {dict(attributes or {})})"
    assert len(got) == len(expected), f"{call}: expected {len(expected)} outputs, got {len(got)}"
    for ours, theirs in zip(got, expected, strict=True):
        close(ours, theirs, call, rtol=rtol, atol=atol)
