"""The order of the passes."""

from __future__ import annotations

from collections.abc import Callable

from webdnn_onnx.graph import Graph
from webdnn_onnx.infer import infer
from webdnn_onnx.passes.cleanup import inline_branches, merge_equal_nodes, remove_no_ops, remove_unused
from webdnn_onnx.passes.compositions import recognise_compositions
from webdnn_onnx.passes.folding import fold_constants, fold_shapes
from webdnn_onnx.passes.fusion import fuse_affine
from webdnn_onnx.passes.log import Log
from webdnn_onnx.passes.padding import fuse_pads
from webdnn_onnx.passes.transposing import merge_transposes, push_transposes

__all__ = ["PIPELINE", "optimize"]

PIPELINE: tuple[Callable[[Graph, Log], Graph], ...] = (
    fold_shapes,
    fold_constants,
    inline_branches,
    remove_no_ops,
    merge_equal_nodes,
    push_transposes,
    merge_transposes,
    recognise_compositions,
    fuse_affine,
    fuse_pads,
    remove_unused,
)

_ROUNDS = 6


def optimize(graph: Graph, explain: Log | None = None) -> Graph:
    """The graph after all passes, repeated until none fires, with types inferred.

    The names and order of inputs and outputs stay. `explain` receives what fired and why the rest did not.
    """
    log = Log() if explain is None else explain
    for _ in range(_ROUNDS):
        before = log.count()
        graph = infer(graph)
        for apply in PIPELINE:
            graph = apply(graph, log)
        if log.count() == before:
            return infer(graph)
    return infer(graph)
