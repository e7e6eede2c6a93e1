"""Types and symbolic shapes of every value of a graph.

Each family of operators is one module that registers its rules; importing this package imports them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from webdnn_onnx.graph import Graph
from webdnn_onnx.infer.engine import Inference, analyse
from webdnn_onnx.infer.ranks import analyse_ranks
from webdnn_onnx.infer.registry import element_rule, rule, shape_rule
from webdnn_onnx.symbolic import Dim

__all__ = ["Inference", "analyse", "analyse_ranks", "element_rule", "infer", "known_elements", "rule", "shape_rule"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def infer(graph: Graph) -> Graph:
    """The graph with the type of every value that can be known, in `values`, `outputs` and nested graphs.

    Dimensions are expressions over the symbols of the inputs. A dimension that depends on the elements of a run-time
    tensor is an expression over signed symbols `<value>[<index>]`; one that only running the graph tells (NonZero,
    Unique, ...) is a symbol `<value>.dim<axis>`. `bindings` says where both get their values. An operator without a
    rule keeps the types that the file declares for its outputs; elsewhere a declared shape that differs from the
    inferred one is out of date and ignored.

    Raises ShapeError or DTypeError where a node contradicts its inputs, DTypeError where a declared element type
    differs from the inferred one.
    """
    return analyse(graph).graph


def known_elements(graph: Graph) -> Mapping[str, tuple[Dim, ...]]:
    """The elements, in row-major order, of the small integer tensors whose elements are dimensions or numbers."""
    return analyse(graph).elements
