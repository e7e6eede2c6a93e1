"""A node of a model file against the operator's schema: counts of inputs and outputs, names and types of attributes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import onnx
from onnx import AttributeProto, NodeProto, checker

from webdnn_onnx.errors import InvalidModelError

__all__ = ["NodeChecker"]


_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


class NodeChecker:
    """Asks onnx.checker about each node whose operator onnx knows; other operators and control flow pass."""

    def __init__(self, ir_version: int, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self._context = checker.C.CheckerContext()
        self._context.ir_version = ir_version
        self._context.opset_imports = dict(opsets)

    def check(self, node: NodeProto, domain: str, where: str) -> None:
        """Raises InvalidModelError for a node that its schema does not allow."""
        if any(attribute.type in _GRAPHS for attribute in node.attribute):
            return
        if not _has_schema(node.op_type, self._opsets[domain], domain):
            return
        if node.domain != domain:  # the checker knows the domain "" by that name only
            renamed = NodeProto()
            renamed.CopyFrom(node)
            renamed.domain = domain
            node = renamed
        try:
            checker.check_node(node, self._context)
        except checker.ValidationError as error:
            reason = str(error).split("\n", 1)[0]
            raise InvalidModelError(f"{where}: expected a node that the schema allows, got: {reason}") from None


@cache
def _has_schema(op: str, opset: int, domain: str) -> bool:
    if not onnx.defs.has(op, opset, domain):
        return False
    return not onnx.defs.get_schema(op, opset, domain).deprecated
