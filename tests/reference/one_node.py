"""A call of one operator in tests, as short as a function call."""

from __future__ import annotations

from typing import Any

from webdnn_onnx.graph import Node
from webdnn_reference import evaluate_node

__all__ = ["run", "run_all"]


def run_all(
    op: str, *inputs: Any, opset: int, outputs: int = 1, domain: str = "", float64: bool = False, **attributes: Any
) -> tuple[Any, ...]:
    """The outputs of one node, of which it names `outputs`."""
    names = tuple(f"y{index}" for index in range(outputs))
    node = Node(op, tuple("x" for _ in inputs), names, attributes, domain, opset)
    return evaluate_node(node, inputs, float64=float64, seed=0)


def run(op: str, *inputs: Any, opset: int, domain: str = "", float64: bool = False, **attributes: Any) -> Any:
    """The first output of one node."""
    return run_all(op, *inputs, opset=opset, domain=domain, float64=float64, **attributes)[0]
